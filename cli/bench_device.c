/* bench_device.c: what `weir bench` tells of the device itself: its rate of matrix products, and
 * how much of a step its kernels take. */
#include "cli/bench.h"

#include "ops/cpu/gemm.h"
#include "ops/fuse.h"
#include "ops/matmul.h"
#include "ops/reduce.h"

#include <math.h>
#include <string.h>

static bool is_host(const wr_bench *b) { return strcmp(wr_session_device(b->session), "cpu") == 0; }

/* The best rate of so many square products one behind the other, in GFLOP/s; 0: it failed. */
static double chain_rate(wr_bench *b, int64_t side, int products, int runs) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return 0;
    wr_program *program = NULL;
    wr_error err = {0};
    wr_init small = {WR_INIT_NORMAL, 0, 1.0 / sqrt((double)side)}; /* products are as large */
    wr_str name = {0};
    wr_str_add(&name, "bench.peak%lld", (long long)side);
    wr x = wr_param(g, wr_str_text(&name), WR_F32, WR_DIMS(wr_n(side), wr_n(side)), small), y = x;
    for (int i = 0; i < products; i++)
        y = wr_matmul(y, x);
    wr_str_free(&name);
    wr out = wr_sum_all(y);
    double best = 0;
    if (wr_program_new(g, 1, &out, wr_standard_passes(), &program, &err) == WR_OK)
        for (int i = 0; i < runs; i++) {
            double start = wr_now();
            if (wr_session_run(b->session, program, 0, NULL, &err) != WR_OK) break;
            double rate = 2.0 * (double)(side * side * side) * products / (wr_now() - start) / 1e9;
            if (i > 1 && rate > best) best = rate; /* the first two plan and capture */
        }
    if (program != NULL) wr_session_forget(b->session, program);
    wr_program_free(program);
    wr_graph_free(g);
    return best;
}

double wr_bench_peak_gflops(wr_bench *b) {
    enum { FIRST = 512, LAST = 8192, PRODUCTS = 8, RUNS = 5 };
    if (is_host(b)) return wr_gemm_peak_gflops(wr_session_threads(b->session));
    double best = 0, seconds = 0;
    /* larger ones until they take long enough for what a run costs besides not to count */
    for (int64_t side = FIRST; side <= LAST && seconds < 0.02; side *= 2) {
        double rate = chain_rate(b, side, PRODUCTS, RUNS);
        if (rate <= 0) break;
        seconds = 2.0 * (double)(side * side * side) * PRODUCTS / (rate * 1e9);
        if (rate > best) best = rate;
    }
    return best;
}

wr_status wr_bench_kernels(wr_bench *b, wr_bench_device *d, wr_error *err) {
    enum { RUNS = 3 };
    *d = (wr_bench_device){.launches = wr_session_launches(b->session)};
    if (is_host(b)) return WR_OK;
    wr_status status = WR_OK;
    const wr_plan *plan = wr_session_plan(b->session);
    wr_session_profile(b->session, true);
    for (uint64_t i = 0; status == WR_OK && i < RUNS; i++)
        status = wr_bench_step(b, wr_bench_batch_of(b), i, err);
    for (int i = 0; i < plan->n_steps; i++)
        d->kernel_ms += plan->step[i].seconds * 1e3 / RUNS;
    wr_session_profile(b->session, false);
    return status;
}
