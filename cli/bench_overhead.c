/* bench_overhead.c: `weir bench --what overhead`: what the executor adds to the kernels that it
 * calls: the loop that can trap, profile and tell a crash where it was, against the kernels alone.
 */
#include "cli/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* One way to run the steps of a plan: wall and processor time of each repetition, in ms. */
typedef struct way {
    double *wall, *cpu;
} way;

static double cpu_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static wr_status kernels_alone(wr_plan *p, wr_run_env *env) {
    for (int i = 0; i < p->n_steps; i++) {
        p->step[i].call.env = env;
        wr_status status = p->step[i].kernel(&p->step[i].call);
        if (status != WR_OK) return status;
    }
    return WR_OK;
}

static wr_status time_one(wr_status (*run)(wr_plan *, wr_run_env *), wr_plan *p, wr_run_env *env,
                          way *w, int64_t at) {
    double wall = wr_now(), cpu = cpu_ms();
    wr_status status = run(p, env);
    w->cpu[at] = cpu_ms() - cpu;
    w->wall[at] = (wr_now() - wall) * 1e3;
    return status;
}

static wr_status time_all(wr_plan *p, wr_run_env *env, int64_t n, way *alone, way *executor) {
    wr_status status = WR_OK;
    for (int64_t i = 0; status == WR_OK && i < n; i++) {
        bool first = i % 2 == 0; /* in turns, and taking turns in being first */
        status = first ? time_one(kernels_alone, p, env, alone, i)
                       : time_one(wr_plan_run_steps, p, env, executor, i);
        if (status == WR_OK)
            status = first ? time_one(wr_plan_run_steps, p, env, executor, i)
                           : time_one(kernels_alone, p, env, alone, i);
    }
    return status;
}

static void print_result(const wr_plan *p, int64_t n, way *alone, way *executor) {
    double a = wr_bench_median(alone->wall, n), e = wr_bench_median(executor->wall, n);
    double a_cpu = wr_bench_median(alone->cpu, n), e_cpu = wr_bench_median(executor->cpu, n);
    printf("{\"kernels_ms\": %.3f, \"executor_ms\": %.3f, \"ratio\": %.4f, \"ratio_cpu\": %.4f, "
           "\"ratio_min\": %.4f, \"kernels\": %d, \"trapping\": %s}\n",
           a, e, e / a, e_cpu / a_cpu, executor->wall[0] / alone->wall[0], p->n_steps,
           p->trap != NULL ? "true" : "false");
}

wr_status wr_bench_overhead(wr_bench *b, wr_error *err) {
    size_t bytes = sizeof(double) * (size_t)b->o->repeat;
    way alone = {malloc(bytes), malloc(bytes)}, executor = {malloc(bytes), malloc(bytes)};
    bool ok =
        alone.wall != NULL && alone.cpu != NULL && executor.wall != NULL && executor.cpu != NULL;
    wr_status status = ok ? wr_bench_batch(b, err) : wr_fail_memory(err, "times", bytes);
    if (status == WR_OK)
        status = wr_programs_new(&b->recipe, b->src_vocab, b->tgt_vocab, &b->programs, err);
    for (uint64_t i = 0; status == WR_OK && i < 2; i++) /* warms up, and resolves the buffers */
        status = wr_bench_step(b, wr_bench_batch_of(b), i, err);
    if (status == WR_OK) {
        wr_plan *p = (wr_plan *)(uintptr_t)wr_session_plan(b->session);
        wr_run_env env = {
            .threads = wr_session_threads(b->session), .seed = 1, .step = 2, .err = err};
        status = time_all(p, &env, b->o->repeat, &alone, &executor);
        if (status == WR_OK) print_result(p, b->o->repeat, &alone, &executor);
    }
    free(alone.wall);
    free(alone.cpu);
    free(executor.wall);
    free(executor.cpu);
    return status;
}
