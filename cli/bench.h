/* bench.h: what the parts of `weir bench` share. */
#ifndef WEIR_CLI_BENCH_H
#define WEIR_CLI_BENCH_H

#include "cli/cli.h"
#include "cli/programs.h"

typedef struct wr_bench_options {
    const char *recipe, *what, *decode, *device, *precision, *vocab, *objective;
    int64_t batch, src_len, tgt_len, threads, repeat, beam, iterations, shapes;
    int64_t profile_depth;
    const char *profile_svg;
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
    double *ms;              /* of each repetition, sorted when printed */
    wr_step_numbers numbers; /* what a step is fed with */
} wr_bench;

/* Each prints one JSON line. */
wr_status wr_bench_training(wr_bench *b, wr_error *err);
wr_status wr_bench_shapes(wr_bench *b, wr_error *err);
wr_status wr_bench_decoding(wr_bench *b, wr_error *err);
wr_status wr_bench_building(wr_bench *b, wr_error *err);
wr_status wr_bench_overhead(wr_bench *b, wr_error *err);

/* A batch of random words, one size for all sentences. */
wr_status wr_bench_batch(wr_bench *b, wr_error *err);
wr_batch wr_bench_batch_of(const wr_bench *b);
/* One training step of the last stage; what it is fed with stays until the next. */
wr_status wr_bench_step(wr_bench *b, wr_batch batch, uint64_t step, wr_error *err);
/* The best rate of large products of matrices measured now on the bench's device, in GFLOP/s. Makes
 * tensors in the session. */
wr_status wr_bench_peak_gflops(wr_bench *b, double *peak, wr_error *err);
/* Of the training step that ran last. */
typedef struct wr_bench_device {
    int launches;     /* pieces of work given to the device */
    double kernel_ms; /* its kernels one behind the other, without gaps; 0 on the CPU */
} wr_bench_device;
wr_status wr_bench_kernels(wr_bench *b, wr_bench_device *d, wr_error *err);
/* Median of `n` values, which are sorted. */
double wr_bench_median(double *x, int64_t n);
/* The operating system's figures for this process, in bytes: "VmHWM:" (the most memory it ever had)
 * or "VmRSS:" (now); 0: not known. */
double wr_bench_os_bytes(const char *field);
/* Of the session's profiled plan on stderr: time by row and by scope, with `memory` what holds the
 * arena; --profile-svg is written. */
wr_status wr_bench_profile(const wr_bench *b, int64_t runs, bool memory, wr_error *err);

#endif
