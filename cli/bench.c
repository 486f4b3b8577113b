/* bench.c: `weir bench`: the time of training steps and of decoding, against the machine's best. */
#include "cli/cli.h"
#include "cli/feeds.h"
#include "cli/programs.h"
#include "ops/cpu/gemm.h"
#include "optim/optimizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    const char *recipe, *what, *device;
    int64_t batch, src_len, tgt_len, vocab, threads, repeat;
    bool profile;
    wr_list set;
} options;

typedef struct bench {
    const options *o;
    wr_recipe recipe;
    wr_programs programs;
    wr_session *session;
    int32_t *src, *src_len, *tgt, *tgt_len;
    double *ms; /* of each repetition */
} bench;

/* ---- a random batch ---- */

static int32_t *random_ids(uint64_t seed, int64_t n, int64_t vocab) {
    int32_t *x = malloc(sizeof *x * (size_t)n);
    for (int64_t i = 0; x != NULL && i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        x[i] = (int32_t)(4 + (seed >> 33) % (uint64_t)(vocab - 4));
    }
    return x;
}

static int32_t *constant_ids(int64_t n, int64_t value) {
    int32_t *x = malloc(sizeof *x * (size_t)n);
    for (int64_t i = 0; x != NULL && i < n; i++)
        x[i] = (int32_t)value;
    return x;
}

static wr_status make_batch(bench *b, wr_error *err) {
    const options *o = b->o;
    b->src = random_ids(1, o->batch * o->src_len, o->vocab);
    b->tgt = random_ids(2, o->batch * o->tgt_len, o->vocab);
    b->src_len = constant_ids(o->batch, o->src_len);
    b->tgt_len = constant_ids(o->batch, o->tgt_len);
    b->ms = malloc(sizeof *b->ms * (size_t)o->repeat);
    bool ok = b->src != NULL && b->tgt != NULL && b->src_len != NULL && b->tgt_len != NULL &&
              b->ms != NULL;
    return ok ? WR_OK : wr_fail_memory(err, "a batch", sizeof(int32_t) * (size_t)o->batch);
}

static wr_batch batch_of(const bench *b) {
    return (wr_batch){.B = (int32_t)b->o->batch,
                      .S = (int32_t)b->o->src_len,
                      .T = (int32_t)b->o->tgt_len,
                      .src = b->src,
                      .src_len = b->src_len,
                      .tgt_in = b->tgt,
                      .tgt_out = b->tgt,
                      .tgt_len = b->tgt_len};
}

/* ---- timing ---- */

static wr_status run_step(bench *b, uint64_t step, wr_error *err) {
    wr_batch batch = batch_of(b);
    double lr = 1e-4, scale = 1.0 / (double)(batch.B * batch.T);
    wr_feed feeds[WR_BATCH_FEEDS + 2];
    wr_batch_feeds(&batch, feeds);
    feeds[WR_BATCH_FEEDS] = (wr_feed){.name = WR_OPTIM_LR, .data = &lr};
    feeds[WR_BATCH_FEEDS + 1] = (wr_feed){.name = WR_OPTIM_SCALE, .data = &scale};
    wr_session_set_step(b->session, step);
    return wr_session_run(b->session, b->programs.update, WR_BATCH_FEEDS + 2, feeds, err);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The kernel's own figure for the most memory this process ever had, in bytes; 0: not known. */
static double os_peak_bytes(void) {
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    double kib = 0;
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "VmHWM:", 6) == 0) kib = strtod(line + 6, NULL);
    if (f != NULL) fclose(f);
    return kib * 1024;
}

static void print_profile(const wr_plan *plan, int64_t runs) {
    typedef struct row {
        const char *name;
        double seconds, flops, bytes;
        int n;
    } row;
    row rows[128];
    int n = 0;
    for (int i = 0; i < plan->n_steps; i++) {
        const wr_step *s = &plan->step[i];
        const char *name = wr_node_at(plan->g, s->node)->op->name;
        int at = 0;
        while (at < n && strcmp(rows[at].name, name) != 0)
            at++;
        if (at == n && n < 128) rows[n++] = (row){.name = name};
        if (at == 128) continue;
        rows[at].seconds += s->seconds / (double)runs;
        rows[at].flops += s->flops;
        rows[at].bytes += s->bytes;
        rows[at].n++;
    }
    double total = 0;
    for (int i = 0; i < n; i++)
        total += rows[i].seconds;
    fprintf(stderr, "%-20s %6s %9s %6s %9s %8s\n", "row", "steps", "ms", "share", "GFLOP/s",
            "GB/s");
    while (n > 0) {
        int top = 0;
        for (int i = 1; i < n; i++)
            if (rows[i].seconds > rows[top].seconds) top = i;
        row r = rows[top];
        fprintf(stderr, "%-20s %6d %9.2f %5.1f%% %9.1f %8.1f\n", r.name, r.n, r.seconds * 1e3,
                100 * r.seconds / total, r.flops / r.seconds / 1e9, r.bytes / r.seconds / 1e9);
        rows[top] = rows[--n];
    }
}

static void print_result(bench *b, double peak) {
    const options *o = b->o;
    const wr_plan *plan = wr_session_plan(b->session);
    wr_session_counters c = wr_session_count(b->session);
    qsort(b->ms, (size_t)o->repeat, sizeof *b->ms, by_value);
    double ms = b->ms[o->repeat / 2], gflop = plan->flops / 1e9, rate = gflop / ms * 1e3;
    printf("{\"step_ms\": %.3f, \"step_ms_min\": %.3f, \"step_ms_max\": %.3f, \"tokens_per_s\": "
           "%.1f, \"gflop\": %.3f, \"gflops\": %.2f, \"gemm_peak_gflops\": %.2f, \"utilisation\": "
           "%.4f, \"peak_bytes\": %zu, \"os_peak_bytes\": %.0f, \"kernels\": %d, \"plan_ms\": "
           "%.3f, \"threads\": %d}\n",
           ms, b->ms[0], b->ms[o->repeat - 1],
           (double)(o->batch * (o->src_len + o->tgt_len)) / ms * 1e3, gflop, rate, peak,
           rate / peak, c.persistent_bytes + c.arena_bytes, os_peak_bytes(), plan->n_steps,
           plan->seconds * 1e3, wr_session_threads(b->session));
}

static wr_status bench_training(bench *b, wr_error *err) {
    const options *o = b->o;
    wr_status status = make_batch(b, err);
    if (status == WR_OK)
        status = wr_programs_new(&b->recipe, (int)o->vocab, (int)o->vocab, &b->programs, err);
    for (int64_t i = -2; status == WR_OK && i < o->repeat; i++) {
        double start = wr_now();
        status = run_step(b, (uint64_t)(i + 2), err);
        if (i >= 0) b->ms[i] = (wr_now() - start) * 1e3;
    }
    if (status != WR_OK) return status;
    double peak = wr_gemm_peak_gflops(wr_session_threads(b->session));
    print_result(b, peak);
    if (o->profile) print_profile(wr_session_plan(b->session), o->repeat + 2);
    return WR_OK;
}

static wr_status run(const options *o, wr_error *err) {
    bench b = {.o = o};
    wr_status status = wr_recipe_load(o->recipe, o->set.items, o->set.n, &b.recipe, err);
    int longest = (int)(o->src_len > o->tgt_len ? o->src_len : o->tgt_len);
    if (b.recipe.model.max_len < longest) b.recipe.model.max_len = longest;
    wr_session_options so = {
        .device = o->device, .threads = (int)o->threads, .seed = 1, .profile = o->profile};
    if (status == WR_OK) status = wr_session_new(&so, &b.session, err);
    if (status == WR_OK) status = bench_training(&b, err);
    wr_session_free(b.session);
    wr_programs_free(&b.programs);
    free(b.src);
    free(b.tgt);
    free(b.src_len);
    free(b.tgt_len);
    free(b.ms);
    return status;
}

int wr_cmd_bench(int argc, char **argv) {
    options o = {0};
    const wr_opt table[] = {
        {"RECIPE", WR_OPT_STRING, &o.recipe, .help = "the recipe to time", .required = true},
        {"--what", WR_OPT_STRING, &o.what, .fallback = "train", .choices = "train",
         .help = "what to time"},
        {"--batch", WR_OPT_INT, &o.batch, .value = "B", .fallback = "32", .min = 1, .max = 65536,
         .help = "sentences in a batch"},
        {"--src-len", WR_OPT_INT, &o.src_len, .value = "S", .fallback = "24", .min = 1, .max = 4096,
         .help = "source length in tokens"},
        {"--tgt-len", WR_OPT_INT, &o.tgt_len, .value = "T", .fallback = "24", .min = 1, .max = 4096,
         .help = "target length in tokens"},
        {"--vocab", WR_OPT_INT, &o.vocab, .value = "V", .fallback = "10000", .min = 8,
         .max = 1000000, .help = "vocabulary of both sides"},
        {"--device", WR_OPT_STRING, &o.device, .fallback = "cpu", .help = "where to run"},
        {"--threads", WR_OPT_INT, &o.threads, .fallback = "0", .min = 0, .max = 1024,
         .help = "processor threads; 0: all"},
        {"--repeat", WR_OPT_INT, &o.repeat, .value = "N", .fallback = "10", .min = 1, .max = 10000,
         .help = "counted steps; the median is printed"},
        {"--profile", WR_OPT_FLAG, &o.profile, .help = "also print the time of each row on stderr"},
        {"--set", WR_OPT_LIST, &o.set, .value = "KEY=VALUE", .help = "change a key of the recipe"},
    };
    const wr_cli cli = {.command = "bench",
                        .summary = "time training steps or decoding",
                        .opts = table,
                        .opt_n = WR_COUNT(table),
                        .notes = "example: weir bench recipes/transformer-base.yaml --vocab 32000 "
                                 "--profile"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    code = wr_cli_end(run(&o, &err), &err);
    wr_list_free(&o.set);
    return code;
}
