/* test_plan.c: packing and whole plans against brute force; buckets of sizes; the plan cache. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "helpers/random_graph.h"
#include "ops/elementwise.h"
#include "ops/fuse.h"
#include "ops/matmul.h"
#include "ops/reduce.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- packing ---- */

enum { SETS = 4000, MOST = 120 };

typedef struct intervals {
    size_t n, bytes[MOST], offset[MOST];
    int first[MOST], last[MOST];
} intervals;

static void draw_intervals(intervals *x, wr_sample *rng, int style) {
    x->n = (size_t)wr_sample_int(rng, 0, MOST);
    int steps = (int)wr_sample_int(rng, 1, 60);
    for (size_t i = 0; i < x->n; i++) {
        x->first[i] = (int)wr_sample_int(rng, 0, steps);
        int length = (int)wr_sample_int(rng, 0, style % 2 == 0 ? 4 : steps);
        x->last[i] = x->first[i] + length;
        int64_t units = style / 2 % 2 == 0 ? wr_sample_int(rng, 1, 40)
                                           : (int64_t)1 << wr_sample_int(rng, 0, 10);
        x->bytes[i] = 256 * (size_t)units;
    }
    for (size_t i = 1; i < x->n; i++) /* the contract: sorted by first */
        for (size_t j = i; j > 0 && x->first[j - 1] > x->first[j]; j--) {
            int f = x->first[j], l = x->last[j];
            size_t b = x->bytes[j];
            x->first[j] = x->first[j - 1];
            x->last[j] = x->last[j - 1];
            x->bytes[j] = x->bytes[j - 1];
            x->first[j - 1] = f;
            x->last[j - 1] = l;
            x->bytes[j - 1] = b;
        }
}

static bool overlap(size_t a, size_t a_bytes, size_t b, size_t b_bytes) {
    return a < b + b_bytes && b < a + a_bytes;
}

static size_t live_peak(const intervals *x) {
    size_t peak = 0;
    for (size_t i = 0; i < x->n; i++) { /* the most is met where an interval begins */
        size_t now = 0;
        for (size_t j = 0; j < x->n; j++)
            if (x->first[j] <= x->first[i] && x->last[j] >= x->first[i]) now += x->bytes[j];
        if (now > peak) peak = now;
    }
    return peak;
}

static void test_pack(void **state) {
    wr_sample rng = {.rng = 7};
    intervals *x = malloc(sizeof *x);
    int tenths[12] = {0}; /* arena over peak: 1.0, 1.1, .. */
    double worst = 0;
    (void)state;
    assert_non_null(x);
    for (int s = 0; s < SETS; s++) {
        draw_intervals(x, &rng, s);
        size_t arena = wr_pack_intervals(x->n, x->bytes, x->first, x->last, x->offset);
        size_t peak = live_peak(x);
        for (size_t i = 0; i < x->n; i++) {
            assert_true(x->offset[i] % 256 == 0);
            assert_true(x->offset[i] + x->bytes[i] <= arena);
            for (size_t j = 0; j < i; j++)
                if (x->first[i] <= x->last[j] && x->first[j] <= x->last[i] &&
                    overlap(x->offset[i], x->bytes[i], x->offset[j], x->bytes[j]))
                    fail_msg("set %d: intervals %zu and %zu share bytes", s, j, i);
        }
        assert_true(arena >= peak);
        if (peak == 0) continue;
        double ratio = (double)arena / (double)peak;
        if (ratio > worst) worst = ratio;
        tenths[ratio < 2 ? (int)((ratio - 1) * 10 + 1e-9) : 11]++;
    }
    print_message("arena over live peak of %d sets, in tenths from 1.0:", SETS);
    for (int i = 0; i < 12; i++)
        print_message(" %d", tenths[i]);
    print_message("; worst %.2f\n", worst);
    assert_true(worst < 1.75);
    int loose = 0;
    for (int i = 5; i < 12; i++)
        loose += tenths[i];
    assert_true(loose * 50 < SETS);
    free(x);
}

/* ---- whole plans ---- */

/* When a buffer holds what somebody will still read: from the step that writes it to its last. */
typedef struct life {
    uint32_t id;
    int first, last;
    size_t at, bytes;
} life;

static bool is_view(const wr_node *x) { return (x->op->traits & WR_VIEW) != 0; }

/* The first node whose bytes a view shows. */
static uint32_t behind_views(const wr_graph *g, uint32_t id) {
    while (is_view(wr_node_at(g, id)))
        id = wr_node_inputs(g, id)[0];
    return id;
}

/* Lifetimes by the steps alone, without what the planner noted of them. */
static size_t collect_lives(const wr_plan *p, const wr_program *program, life *out) {
    const wr_graph *g = p->g;
    int *of = calloc(wr_node_count(g), sizeof *of);
    size_t n = 0;
    assert_non_null(of);
    for (int i = 0; i < p->n_steps; i++) {
        uint32_t id = p->step[i].node;
        const wr_node *x = wr_node_at(g, id);
        for (int k = 0; k < x->n_in; k++) {
            uint32_t from = behind_views(g, wr_node_inputs(g, id)[k]);
            if (of[from] > 0) out[of[from] - 1].last = i;
        }
        for (uint32_t k = 0; k < x->n_out; k++) {
            const wr_value *v = &p->value[id + k];
            if (v->place != WR_PLACE_ARENA) continue;
            out[n] = (life){id + k, i, i, v->offset, v->bytes};
            of[id + k] = (int)++n;
        }
        if (p->step[i].workspace_bytes > 0)
            out[n++] = (life){0, i, i, p->step[i].workspace_offset, p->step[i].workspace_bytes};
    }
    for (int k = 0; k < wr_program_outputs(program); k++) {
        uint32_t id = behind_views(g, wr_program_root(program, k));
        if (of[id] > 0) out[of[id] - 1].last = p->n_steps;
    }
    free(of);
    return n;
}

/* `b` may begin in `a`'s buffer when it is made in place: in the very step that reads `a` last. */
static bool taken_over(const wr_plan *p, const life *a, const life *b) {
    if (a->id == 0 || b->id == 0 || a->last != b->first || a->at != b->at) return false;
    const wr_node *x = wr_node_at(p->g, b->id);
    return x->op->inplace > 0 && x->op->inplace <= x->n_in &&
           behind_views(p->g, wr_node_inputs(p->g, b->id)[x->op->inplace - 1]) == a->id;
}

static void check_plan(const wr_plan *p, const wr_program *program, const char *what) {
    size_t most = (size_t)p->n_steps * 5 + 1;
    life *lives = malloc(sizeof *lives * most);
    assert_non_null(lives);
    size_t n = collect_lives(p, program, lives);
    for (size_t i = 0; i < n; i++) {
        assert_true(lives[i].at % 256 == 0);
        assert_true(lives[i].at + lives[i].bytes <= p->arena_bytes);
        for (size_t j = 0; j < n; j++) {
            const life *a = &lives[j], *b = &lives[i];
            if (i == j || a->first > b->first || b->first > a->last || taken_over(p, a, b) ||
                taken_over(p, b, a) || !overlap(a->at, a->bytes, b->at, b->bytes))
                continue;
            fail_msg("%s: node %u (steps %d to %d) and node %u (steps %d to %d) share bytes", what,
                     a->id, a->first, a->last, b->id, b->first, b->last);
        }
    }
    free(lives);
}

static void test_plans(void **state) {
    int in_place = 0, views = 0;
    (void)state;
    for (int i = 0; i < 300; i++) {
        random_graph r;
        test_program p;
        random_options o = {.dtype = WR_F32,
                            .seed = 5000 + (uint64_t)i,
                            .steps = 5 + i % 60,
                            .symbolic = i % 2 == 0,
                            .recompute = i % 3 == 0};
        char what[40];
        snprintf(what, sizeof what, "random plan %d", i);
        random_graph_begin(&r, &o);
        test_program_open(&p, &r.t, r.n_outputs, r.output, i % 2 ? wr_standard_passes() : NULL, 2);
        test_program_run(&p, &r.t);
        const wr_plan *plan = wr_session_plan(p.session);
        check_plan(plan, p.program, what);
        assert_true(plan->arena_bytes >= plan->live_peak);
        assert_true((double)plan->arena_bytes < 1.5 * (double)plan->live_peak + 4096);
        in_place += plan->n_inplace;
        for (uint32_t id = 1; id < wr_node_count(plan->g); id++)
            views += is_view(wr_node_at(plan->g, id));
        test_program_close(&p);
        random_graph_end(&r);
    }
    print_message("300 plans: %d buffers taken in place, %d views\n", in_place, views);
    assert_true(in_place > 100 && views > 100);
}

/* A row that may work in its operand's buffer does not when another operand lives there, too. */
static void test_operand_twice(void **state) {
    test_case t;
    test_program p;
    (void)state;
    test_case_begin(&t, WR_F64, 8, 0);
    wr x = wr_tanh(test_case_input(&t, WR_FILL_REAL, 0, 2, (int64_t[]){5, 5}));
    wr W = test_case_input(&t, WR_FILL_REAL, 0, 2, (int64_t[]){5, 5});
    wr fused = wr_matmul_add_at(WR_HERE, x, W, x, false, false);
    wr apart = wr_sum_all(wr_add(x, wr_matmul(x, W)));
    test_program_open(&p, &t, 1, &fused, NULL, 1);
    test_program_run(&p, &t);
    assert_int_equal(wr_session_plan(p.session)->n_inplace, 0);
    double sum = 0;
    for (int64_t i = 0; i < 25; i++)
        sum += test_value(test_program_output(&p, 0), i);
    test_program_close(&p);
    test_program_open(&p, &t, 1, &apart, NULL, 1);
    test_program_run(&p, &t);
    double expected = test_value(test_program_output(&p, 0), 0);
    assert_true(sum - expected < 1e-12 && expected - sum < 1e-12);
    test_program_close(&p);
    test_case_end(&t);
}

/* ---- buckets and the cache ---- */

/* One program and session serve every size of the symbols, with the bits that a session of its own
 * would give. */
static void test_buckets(void **state) {
    static const int64_t sizes[][2] = {{1, 1}, {3, 5}, {4, 2}, {3, 5}, {17, 9}, {1, 1}};
    random_options o = {.dtype = WR_F64, .seed = 77, .steps = 30, .symbolic = true};
    test_program p = {NULL, NULL};
    (void)state;
    for (int i = 0; i < 6; i++) {
        random_graph r;
        test_program alone;
        o.b = sizes[i][0];
        o.t = sizes[i][1];
        random_graph_begin(&r, &o);
        if (p.program == NULL) test_program_open(&p, &r.t, r.n_outputs, r.output, NULL, 1);
        test_program_run(&p, &r.t);
        test_program_open(&alone, &r.t, r.n_outputs, r.output, NULL, 1);
        test_program_run(&alone, &r.t);
        for (int k = 0; k < r.n_outputs; k++)
            assert_true(test_same_bits(test_program_output(&p, k), test_program_output(&alone, k)));
        assert_int_equal(test_program_output(&p, r.n_values)->dim[0], sizes[i][0]);
        assert_int_equal(test_program_output(&p, r.n_values)->dim[1], sizes[i][1]);
        test_program_close(&alone);
        random_graph_end(&r);
    }
    wr_session_counters c = wr_session_count(p.session);
    assert_int_equal(c.runs, 6);
    assert_int_equal(c.plan_misses, 4);
    assert_int_equal(c.plan_hits, 2);
    assert_int_equal(c.plan_evictions, 0);
    test_program_close(&p);
}

static wr_program *sum_program(void) {
    wr_graph *g = wr_graph_new();
    wr_error err = {0};
    wr_program *p;
    wr_dim N = wr_sym(g, "N", 1, 1000, 1);
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(N));
    wr y = wr_sum_all(wr_square(wr_tanh(x)));
    assert_int_equal(wr_program_new(g, 1, &y, NULL, &p, &err), WR_OK);
    wr_graph_free(g);
    return p;
}

static void run_at(wr_session *s, wr_program *p, int64_t n) {
    static const float x[1000] = {0.5f};
    wr_feed feed = {.name = "x", .data = x, .rank = 1, .dim = {n}};
    wr_error err = {0};
    if (wr_session_run(s, p, 1, &feed, &err) != WR_OK) fail_msg("%s", err.text);
}

/* The cache keeps the plans used last, over all programs of the session. */
static void test_plan_cap(void **state) {
    wr_session_options o = {.threads = 1, .plan_cap = 3};
    wr_session *s;
    wr_error err = {0};
    wr_program *p = sum_program(), *q = sum_program();
    (void)state;
    assert_int_equal(wr_session_new(&o, &s, &err), WR_OK);
    run_at(s, p, 1);
    run_at(s, p, 2);
    run_at(s, q, 1);
    assert_int_equal(wr_session_count(s).plan_evictions, 0);
    run_at(s, p, 1);
    run_at(s, p, 4); /* puts out (p, 2), the one unused for longest */
    assert_int_equal(wr_session_count(s).plan_evictions, 1);
    assert_int_equal(wr_session_count(s).plan_misses, 4);
    run_at(s, p, 1);
    run_at(s, q, 1);
    assert_int_equal(wr_session_count(s).plan_misses, 4);
    run_at(s, p, 2);
    assert_int_equal(wr_session_count(s).plan_misses, 5);
    assert_int_equal(wr_session_count(s).plan_evictions, 2);
    wr_session_forget(s, q);
    wr_program_free(q);
    for (int64_t n = 1; n <= 200; n++)
        run_at(s, p, n);
    wr_session_counters c = wr_session_count(s);
    assert_int_equal(c.plan_misses - c.plan_evictions, 3 + 1); /* three kept, one forgotten */
    assert_true(c.plan_seconds > 0);
    wr_session_free(s);
    wr_program_free(p);
}

/* The arena grows to the largest plan and stays. */
static void test_arena(void **state) {
    wr_session_options o = {.threads = 1};
    wr_session *s;
    wr_error err = {0};
    wr_program *p = sum_program();
    (void)state;
    assert_int_equal(wr_session_new(&o, &s, &err), WR_OK);
    run_at(s, p, 900);
    size_t large = wr_session_count(s).arena_bytes;
    run_at(s, p, 3);
    assert_int_equal(wr_session_count(s).arena_bytes, large);
    assert_int_equal(wr_session_plan(s)->binding.value[0], 3);
    assert_true(large >= 900 * sizeof(float) && large < 4 * 900 * sizeof(float));
    wr_session_free(s);
    wr_program_free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pack),          cmocka_unit_test(test_plans),
        cmocka_unit_test(test_operand_twice), cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_plan_cap),      cmocka_unit_test(test_arena),
    };
    return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
