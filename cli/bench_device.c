/* bench_device.c: what `weir bench` tells of the device itself: its rate of matrix products, and
 * how much of a step its kernels take. */
#include "cli/bench.h"

#include "ops/cpu/gemm.h"
#include "ops/fuse.h"
#include "ops/matmul.h"
#include "ops/reduce.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static bool is_host(const wr_bench *b) { return strcmp(wr_session_device(b->session), "cpu") == 0; }

/* So many square products one behind the other, whose sum is the output. */
static wr_status compile_chain(int64_t side, int products, wr_program **program, wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", sizeof(wr_node));
    wr_init small = {WR_INIT_NORMAL, 0, 1.0 / sqrt((double)side)}; /* products are as large */
    char name[32];
    snprintf(name, sizeof name, "bench.peak%lld", (long long)side);
    wr x = wr_param(g, name, WR_F32, WR_DIMS(wr_n(side), wr_n(side)), small), y = x;
    for (int i = 0; i < products; i++)
        y = wr_matmul(y, x);
    wr out = wr_sum_all(y);
    wr_status status = wr_program_new(g, 1, &out, wr_standard_passes(), program, err);
    wr_graph_free(g);
    return status;
}

/* The least seconds of the chain. */
static wr_status time_chain(wr_bench *b, int64_t side, int products, double *best, wr_error *err) {
    enum { RUNS = 5, FIRST_COUNTED = 2 }; /* the first ones plan and capture */
    wr_program *program = NULL;
    wr_status status = compile_chain(side, products, &program, err);
    if (status != WR_OK) return status;
    *best = INFINITY;
    for (int i = 0; status == WR_OK && i < RUNS; i++) {
        double start = wr_now();
        status = wr_session_run(b->session, program, 0, NULL, err);
        if (i >= FIRST_COUNTED) *best = fmin(*best, wr_now() - start);
    }
    wr_session_forget(b->session, program);
    wr_program_free(program);
    return status;
}

wr_status wr_bench_peak_gflops(wr_bench *b, double *peak, wr_error *err) {
    enum { FIRST = 512, LAST = 8192, PRODUCTS = 8 };
    *peak = 0;
    if (is_host(b)) *peak = wr_gemm_peak_gflops(wr_session_threads(b->session));
    double seconds = is_host(b) ? INFINITY : 0;
    /* larger ones until they take long enough for what a run costs besides not to count */
    for (int64_t side = FIRST; side <= LAST && seconds < 0.02; side *= 2) {
        wr_error why = {0};
        wr_status status = time_chain(b, side, PRODUCTS, &seconds, &why);
        if (status == WR_ERR_MEMORY && *peak > 0) break; /* the largest that fits */
        if (status != WR_OK) return wr_fail(err, status, "%s", why.text);
        *peak = fmax(*peak, 2.0 * (double)(side * side * side) * PRODUCTS / seconds / 1e9);
    }
    return WR_OK;
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
