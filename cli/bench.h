/* bench.h: what the parts of `weir bench` share. */
#ifndef WEIR_CLI_BENCH_H
#define WEIR_CLI_BENCH_H

#include "cli/cli.h"
#include "cli/programs.h"

typedef struct wr_bench_options {
    const char *recipe, *what, *decode, *device, *vocab;
    int64_t batch, src_len, tgt_len, threads, repeat, beam, shapes;
    bool profile, trap_nan;
    wr_list set;
} wr_bench_options;

typedef struct wr_bench {
    const wr_bench_options *o;
    wr_recipe recipe;
    int src_vocab, tgt_vocab;
    wr_programs programs;
    wr_session *session;
    wr_fed fed;
    int32_t *src, *src_len, *tgt, *tgt_len;
    double *ms; /* of each repetition, sorted when printed */
} wr_bench;

/* Each prints one JSON line. */
wr_status wr_bench_training(wr_bench *b, wr_error *err);
wr_status wr_bench_shapes(wr_bench *b, wr_error *err);
wr_status wr_bench_decoding(wr_bench *b, wr_error *err);
wr_status wr_bench_building(wr_bench *b, wr_error *err);

/* A batch of random words, one size for all sentences. */
wr_status wr_bench_batch(wr_bench *b, wr_error *err);
/* Median of `n` values, which are sorted. */
double wr_bench_median(double *x, int64_t n);
/* The operating system's figures for this process, in bytes: "VmHWM:" (the most memory it ever had)
 * or "VmRSS:" (now); 0: not known. */
double wr_bench_os_bytes(const char *field);
/* Time of each row of a profiled plan, on stderr. */
void wr_bench_print_profile(const wr_plan *plan, int64_t runs);

#endif
