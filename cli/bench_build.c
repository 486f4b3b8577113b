/* bench_build.c: `weir bench --what build`: the time of building a graph, and what recording the
 * callers of each node costs. */
#include "cli/bench.h"

#include "cli/model_graph.h"
#include "graph/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Times of one kind of graph, in milliseconds, one per repetition. */
typedef struct times {
    double *loss, *gradient, *all, *cpu;
} times;

/* What the last graph was like. */
typedef struct shape {
    uint32_t nodes;
    wr_trace_counts traces;
} shape;

static double cpu_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static wr_status build(wr_model_sizes *m, bool traced, times *t, int64_t at, shape *s,
                       wr_error *err) {
    double loss = 0, gradient = 0, start = cpu_ms();
    wr_model_graph_options o = {.training = true,
                                .gradient = true,
                                .untraced = !traced,
                                .loss_seconds = &loss,
                                .gradient_seconds = &gradient};
    wr_graph *g = NULL;
    bool *live = NULL;
    wr_status status = wr_model_graph_new(m, &o, &g, &live, err);
    if (status != WR_OK) return status;
    status = wr_graph_status(g, err);
    t->cpu[at] = cpu_ms() - start;
    t->loss[at] = loss * 1e3;
    t->gradient[at] = gradient * 1e3;
    t->all[at] = t->loss[at] + t->gradient[at];
    *s = (shape){.nodes = wr_node_count(g) - 1, .traces = wr_trace_count(g)};
    wr_graph_free(g);
    free(live);
    return status;
}

static bool reserve(times *t, int64_t n) {
    size_t bytes = sizeof(double) * (size_t)n;
    t->loss = malloc(bytes);
    t->gradient = malloc(bytes);
    t->all = malloc(bytes);
    t->cpu = malloc(bytes);
    return t->loss != NULL && t->gradient != NULL && t->all != NULL && t->cpu != NULL;
}

static void release(times *t) {
    free(t->loss);
    free(t->gradient);
    free(t->all);
    free(t->cpu);
}

static void print_result(times *with, times *without, int64_t n, const shape *s) {
    double on = wr_bench_median(with->all, n), off = wr_bench_median(without->all, n);
    double on_cpu = wr_bench_median(with->cpu, n), off_cpu = wr_bench_median(without->cpu, n);
    double loss = wr_bench_median(with->loss, n), loss_off = wr_bench_median(without->loss, n);
    printf("{\"build_ms\": %.3f, \"build_ms_min\": %.3f, \"build_ms_max\": %.3f, "
           "\"loss_ms\": %.3f, \"gradient_ms\": %.3f, \"build_ms_untraced\": %.3f, "
           "\"trace_ratio\": %.4f, \"trace_ratio_cpu\": %.4f, \"trace_ratio_loss\": %.4f, "
           "\"nodes\": %u, \"traced\": %llu, \"walked\": %llu, \"stacks\": %zu, "
           "\"trace_bytes\": %zu}\n",
           on, with->all[0], with->all[n - 1], loss, wr_bench_median(with->gradient, n), off,
           on / off, on_cpu / off_cpu, loss / loss_off, s->nodes,
           (unsigned long long)s->traces.asked, (unsigned long long)s->traces.walked,
           s->traces.stacks, s->traces.frames * sizeof(uintptr_t));
}

/* Graphs with and without traces take turns, so that whatever else the machine does meets both. */
wr_status wr_bench_building(wr_bench *b, wr_error *err) {
    int64_t n = b->o->repeat;
    wr_model_sizes m = {.recipe = b->recipe, .src_vocab = b->src_vocab, .tgt_vocab = b->tgt_vocab};
    times with = {0}, without = {0};
    shape s = {0}, ignored;
    bool memory = reserve(&with, n) && reserve(&without, n);
    wr_status status = memory ? WR_OK : wr_fail_memory(err, "times", sizeof(double) * (size_t)n);
    if (status == WR_OK) status = build(&m, true, &with, 0, &s, err); /* warms up */
    for (int64_t i = 0; status == WR_OK && i < n; i++) {
        bool first = i % 2 == 0;
        status = build(&m, first, first ? &with : &without, i, first ? &s : &ignored, err);
        if (status == WR_OK)
            status = build(&m, !first, first ? &without : &with, i, first ? &ignored : &s, err);
    }
    if (status == WR_OK) print_result(&with, &without, n, &s);
    release(&with);
    release(&without);
    return status;
}
