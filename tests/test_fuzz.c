/* test_fuzz.c: random graphs computed through the passes, by recomputation and with several
 * threads, against the same graphs as they were written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "helpers/random_graph.h"
#include "ops/elementwise.h"
#include "ops/fuse.h"
#include "ops/update.h"

#include <math.h>
#include <stdio.h>

enum { GRAPHS = 1000 };

static const char *place_of(const random_graph *r, int k) {
    return k == 0 ? "the loss" : k < r->n_values ? "a value" : "a gradient";
}

/* The largest difference over all outputs of the graph run through `passes`, from `plain`. */
static double compare(const random_graph *r, const test_program *plain,
                      const wr_pass *const *passes, int threads, bool *same_bits) {
    test_program p;
    double worst = 0;
    test_program_open(&p, &r->t, r->n_outputs, r->output, passes, threads);
    test_program_run(&p, &r->t);
    *same_bits = true;
    for (int k = 0; k < r->n_outputs; k++) {
        const wr_tensor *a = test_program_output(&p, k), *b = test_program_output(plain, k);
        double difference = test_difference(a, b);
        if (difference > worst) worst = difference;
        if (difference > 1e-3)
            print_message("graph %llu: %s (output %d) is %.3g away\n",
                          (unsigned long long)r->o.seed, place_of(r, k), k, difference);
        *same_bits = *same_bits && test_same_bits(a, b);
    }
    test_program_close(&p);
    return worst;
}

static random_options options_of(int i) {
    random_options o = {.dtype = i % 4 == 3 ? WR_F32 : WR_F64, .seed = 1000 + (uint64_t)i};
    o.steps = 4 + i % 37;
    o.smooth = o.dtype == WR_F32;
    o.symbolic = i % 3 == 0;
    return o;
}

/* The worst of one pass list over all graphs, per dtype; f64 first. */
static void check_passes(const char *name, const wr_pass *const *passes, const double *allowed) {
    double worst[2] = {0, 0};
    int same = 0;
    for (int i = 0; i < GRAPHS; i++) {
        random_graph r;
        random_options o = options_of(i);
        test_program plain;
        bool same_bits;
        random_graph_begin(&r, &o);
        test_program_open(&plain, &r.t, r.n_outputs, r.output, NULL, 1);
        test_program_run(&plain, &r.t);
        double difference = compare(&r, &plain, passes, 1, &same_bits);
        int at = o.dtype == WR_F32;
        if (!(difference <= allowed[at]))
            fail_msg("%s changes graph %d (%s) by %.3g", name, i, wr_dtype_name(o.dtype),
                     difference);
        worst[at] = fmax(worst[at], difference);
        same += same_bits;
        test_program_close(&plain);
        random_graph_end(&r);
    }
    print_message("%-20s %d graphs: %d bit-equal, worst f64 %.1e, f32 %.1e\n", name, GRAPHS, same,
                  worst[0], worst[1]);
}

static void test_chains(void **state) {
    static const wr_pass *const passes[] = {&wr_pass_chains, NULL};
    (void)state;
    check_passes("chains", passes, (double[]){0, 0}); /* the same functions of single elements */
}

static void test_simplify(void **state) {
    static const wr_pass *const passes[] = {&wr_pass_simplify, NULL};
    (void)state;
    check_passes("simplify", passes, (double[]){1e-13, 2e-6});
}

static void test_products(void **state) {
    static const wr_pass *const passes[] = {&wr_pass_products, &wr_pass_sums, NULL};
    (void)state;
    check_passes("products and sums", passes, (double[]){1e-13, 2e-6});
}

static void test_standard(void **state) {
    (void)state;
    check_passes("standard passes", wr_standard_passes(), (double[]){1e-13, 2e-6});
}

/* Recomputed scopes and other thread counts change no bit. */
static void test_recompute_and_threads(void **state) {
    (void)state;
    for (int i = 0; i < GRAPHS / 4; i++) {
        random_graph plain_graph, r;
        random_options o = options_of(i);
        test_program plain;
        bool same;
        random_graph_begin(&plain_graph, &o);
        test_program_open(&plain, &plain_graph.t, plain_graph.n_outputs, plain_graph.output, NULL,
                          1);
        test_program_run(&plain, &plain_graph.t);
        compare(&plain_graph, &plain, NULL, 7, &same);
        if (!same) fail_msg("graph %d differs with 7 threads", i);
        o.recompute = true;
        random_graph_begin(&r, &o);
        compare(&r, &plain, NULL, 1, &same);
        if (!same) fail_msg("graph %d differs when scopes are recomputed", i);
        random_graph_end(&r);
        test_program_close(&plain);
        random_graph_end(&plain_graph);
    }
}

/* What was read from a state before it is written stays what it was, though it is used afterwards:
 * no pass moves a reader across a writer. */
static void test_writes_keep_order(void **state) {
    (void)state;
    for (int optimised = 0; optimised < 2; optimised++) {
        test_case t;
        test_program p;
        test_case_begin(&t, WR_F64, 1, 0);
        wr_graph *g = t.sample.g;
        wr fresh = test_case_input(&t, WR_FILL_REAL, 0, 1, (int64_t[]){3});
        wr keep = wr_scalar(g, WR_F64, 1.0);
        wr sums = wr_state(g, "sums", WR_F64, WR_DIMS(wr_n(3)), (wr_init){WR_INIT_CONSTANT, 2, 0});
        wr before = wr_neg(sums), operands[3] = {keep, fresh, sums};
        wr norm = wr_accumulate(3, operands);
        wr outputs[3] = {wr_exp(before), norm, wr_scale(wr_tanh(sums), 3.0)};
        test_program_open(&p, &t, 3, outputs, optimised ? wr_standard_passes() : NULL, 2);
        for (int step = 0; step < 3; step++) {
            test_program_run(&p, &t);
            for (int64_t i = 0; i < 3; i++) {
                double old = 2.0 + step * t.input[0].value[i], now = old + t.input[0].value[i];
                assert_true(fabs(test_value(test_program_output(&p, 0), i) - exp(-old)) < 1e-12);
                assert_true(fabs(test_value(test_program_output(&p, 2), i) - 3 * tanh(now)) <
                            1e-12);
            }
        }
        test_program_close(&p);
        test_case_end(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chains),
        cmocka_unit_test(test_simplify),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_standard),
        cmocka_unit_test(test_recompute_and_threads),
        cmocka_unit_test(test_writes_keep_order),
    };
    return cmocka_run_group_tests_name("fuzz", tests, NULL, NULL);
}
