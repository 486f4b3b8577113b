/* test_random_ops.c: Philox against Random123, the distributions, and dropout's mask. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "helpers/sample.h"
#include "ops/cpu/philox.h"
#include "ops/elementwise.h"
#include "ops/random_ops.h"
#include "ops/reduce.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SEED = 5, MANY = 200000 }; /* the seed of test_program_open */

static void test_philox_is_random123(void **state) {
    static const uint64_t first[] = {0, 5, 0xfffffff8u, 0x123456789abcu, UINT64_MAX - 20};
    (void)state;
    for (uint64_t s = 0; s < 40; s++) {
        wr_random r = wr_random_stream(s * 0x9e3779b97f4a7c15u, s * 77, s << (s % 40));
        uint64_t from = first[s % 5];
        uint32_t word[4][WR_PHILOX_LANES];
        wr_philox_tile(&r, from, word);
        for (uint64_t l = 0; l < WR_PHILOX_LANES; l++) {
            uint32_t expected[4];
            wr_random_bits(&r, from + l, expected);
            for (int w = 0; w < 4; w++)
                assert_int_equal(word[w][l], expected[w]);
        }
    }
}

/* Known answers of Random123 1.14, tests/kat_vectors: philox4x32 10. */
static void test_philox_known_answers(void **state) {
    static const uint32_t zero[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    static const uint32_t ones[4] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    (void)state;
    wr_random r = {.key = {{0, 0}}};
    uint32_t word[4][WR_PHILOX_LANES];
    wr_philox_tile(&r, 0, word);
    for (int w = 0; w < 4; w++)
        assert_int_equal(word[w][0], zero[w]);
    r = (wr_random){{{UINT32_MAX, UINT32_MAX}}, UINT32_MAX, UINT32_MAX};
    wr_philox_tile(&r, UINT64_MAX, word);
    for (int w = 0; w < 4; w++)
        assert_int_equal(word[w][0], ones[w]);
}

/* ---- distributions ---- */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double uniform_cdf(double x) { return (x + 1.0) / 4.0; }
static double normal_cdf(double x) { return 0.5 * erfc(-x / sqrt(2.0)); }
static double gumbel_cdf(double x) { return exp(-exp(-x)); }

/* The largest distance of the empirical distribution from `cdf` (Kolmogorov and Smirnov), times
 * sqrt n; above 1.95 once in a thousand times, for numbers that are right. Sorts the values. */
static double distance(double *x, int64_t n, double (*cdf)(double)) {
    double worst = 0;
    qsort(x, (size_t)n, sizeof *x, ascending);
    for (int64_t i = 0; i < n; i++) {
        double p = cdf(x[i]);
        worst = fmax(worst,
                     fmax(fabs(p - (double)i / (double)n), fabs(p - (double)(i + 1) / (double)n)));
    }
    return worst * sqrt((double)n);
}

/* Neighbours, and elements four apart, are not correlated: |sum| stays below 4.5 deviations. */
static void check_independent(const wr_tensor *y, double mean, double variance) {
    for (int64_t lag = 1; lag <= 8; lag++) {
        double sum = 0;
        for (int64_t i = 0; i + lag < y->n; i++)
            sum += (test_value(y, i) - mean) * (test_value(y, i + lag) - mean);
        assert_true(fabs(sum) / (variance * sqrt((double)y->n)) < 4.5);
    }
}

static void check_distribution(wr_dtype t, int which) {
    static double (*const cdf[])(double) = {uniform_cdf, normal_cdf, gumbel_cdf};
    static const double mean[] = {1.0, 0.0, 0.5772156649}, variance[] = {16.0 / 12, 1.0, 1.644934};
    test_case c;
    test_program p;
    test_case_begin(&c, t, 1, 0);
    wr_graph *g = c.sample.g;
    wr y = which == 0   ? wr_uniform(g, -1.0, 3.0, t, WR_DIMS(wr_n(MANY / 8 + 1), wr_n(8)))
           : which == 1 ? wr_normal(g, t, WR_DIMS(wr_n(MANY / 8 + 1), wr_n(8)))
                        : wr_gumbel(g, t, WR_DIMS(wr_n(MANY / 8 + 1), wr_n(8)));
    test_program_open(&p, &c, 1, &y, NULL, 2);
    test_program_run(&p, &c);
    const wr_tensor *out = test_program_output(&p, 0);
    double *x = malloc(sizeof *x * (size_t)out->n);
    assert_non_null(x);
    for (int64_t i = 0; i < out->n; i++) {
        x[i] = test_value(out, i);
        assert_true(isfinite(x[i]));
    }
    check_independent(out, mean[which], variance[which]);
    assert_true(distance(x, out->n, cdf[which]) < 1.95);
    free(x);
    test_program_close(&p);
    test_case_end(&c);
}

static void test_distributions(void **state) {
    (void)state;
    for (int which = 0; which < 3; which++) {
        check_distribution(WR_F32, which);
        check_distribution(WR_F64, which);
    }
}

/* Elements 4i .. 4i + 3 are those of graph/random.h for block i of the node's stream. */
static void test_counter_is_the_element(void **state) {
    test_case c;
    test_program p;
    (void)state;
    test_case_begin(&c, WR_F32, 1, 0);
    wr y[2] = {wr_uniform(c.sample.g, 0.0, 1.0, WR_F32, WR_DIMS(wr_n(7), wr_n(31))),
               wr_normal(c.sample.g, WR_F32, WR_DIMS(wr_n(7), wr_n(31)))};
    test_program_open(&p, &c, 2, y, NULL, 2);
    wr_session_set_step(p.session, 9);
    test_program_run(&p, &c);
    wr_random first = wr_random_stream(SEED, 9, 1), second = wr_random_stream(SEED, 9, 2);
    for (int64_t i = 0; i < 7 * 31; i++) {
        uint32_t bits[4];
        float pair[4];
        wr_random_bits(&first, (uint64_t)i / 4, bits);
        assert_true(test_value(test_program_output(&p, 0), i) == wr_random_unit(bits[i % 4]));
        wr_random_bits(&second, (uint64_t)i / 4, bits);
        wr_random_normal(bits[0], bits[1], &pair[0], &pair[1]);
        wr_random_normal(bits[2], bits[3], &pair[2], &pair[3]);
        double error = fabs(test_value(test_program_output(&p, 1), i) - (double)pair[i % 4]);
        assert_true(error < 2e-6);
    }
    test_program_close(&p);
    test_case_end(&c);
}

/* Opposite to what the row does: which bits decide about element i? */
static bool is_kept(const wr_random *r, int64_t i, double p) {
    int64_t lane = i % 16, half = i / 16 % 2, word = i % 128 / 32;
    uint32_t bits[4];
    wr_random_bits(r, (uint64_t)(i / 128 * 16 + lane), bits);
    uint32_t sixteen = half == 0 ? bits[word] & 0xffff : bits[word] >> 16;
    return sixteen >= (uint32_t)lround(p * 65536);
}

/* ---- dropout ---- */

static void check_dropout(wr_dtype t, double p, int64_t n) {
    test_case c;
    test_program program;
    test_case_begin(&c, t, 3, 0);
    wr x = test_case_input(&c, WR_FILL_POSITIVE, 0, 1, &n), y = wr_dropout(x, p), grad;
    assert_true(wr_grad(wr_sum_all(y), 1, &x, &grad));
    test_program_open(&program, &c, 2, (wr[]){y, grad}, NULL, 2);
    wr_session_set_step(program.session, 4);
    test_program_run(&program, &c);
    const wr_tensor *out = test_program_output(&program, 0), *d = test_program_output(&program, 1);
    wr_random r = wr_random_stream(SEED, 4, 1);
    double factor = 65536.0 / (65536.0 - (double)lround(p * 65536)), kept = 0;
    for (int64_t i = 0; i < n; i++) {
        bool keep = is_kept(&r, i, p);
        double expected = keep ? c.input[0].value[i] * factor : 0.0;
        assert_true(fabs(test_value(out, i) - expected) <= 2e-7 * fabs(expected));
        assert_true(fabs(test_value(d, i) - (keep ? factor : 0.0)) <= 2e-7 * factor);
        kept += keep;
    }
    assert_true(fabs(kept - (1 - p) * (double)n) <= 4.5 * sqrt((double)n * p * (1 - p)) + 1);
    test_program_close(&program);
    test_case_end(&c);
}

static void test_dropout(void **state) {
    static const double p[] = {0.1, 0.5, 0.3, 0.95, 1.0 / 65536};
    (void)state;
    for (int k = 0; k < 5; k++) {
        check_dropout(WR_F32, p[k], 100003);
        check_dropout(WR_F64, p[k], 33001);
        check_dropout(WR_F32, p[k], 1 + 50 * k);
    }
}

static void test_dropout_in_graphs(void **state) {
    test_case c;
    int64_t n = 500;
    (void)state;
    test_case_begin(&c, WR_F32, 3, 0);
    wr x = test_case_input(&c, WR_FILL_POSITIVE, 0, 1, &n);
    assert_int_equal(wr_dropout(x, 0.0).id, x.id);
    wr y = wr_dropout(x, 0.5), z = wr_dropout(x, 0.5);
    assert_int_not_equal(y.id, z.id); /* each has a mask of its own */
    test_program p;
    wr both = wr_mul(y, z);
    test_program_open(&p, &c, 1, &both, NULL, 1);
    test_program_run(&p, &c);
    int kept = 0;
    for (int64_t i = 0; i < n; i++)
        kept += test_value(test_program_output(&p, 0), i) > 0;
    assert_in_range(kept, 80, 170); /* a quarter of 500, not a half */
    test_program_close(&p);
    test_case_end(&c);
}

static void check_refused(double probability) {
    test_case c;
    int64_t n = 3;
    wr_str text = {0};
    test_case_begin(&c, WR_F32, 3, 0);
    wr x = test_case_input(&c, WR_FILL_POSITIVE, 0, 1, &n);
    assert_true(wr_is_poison(wr_dropout(x, probability)));
    wr_graph_report(c.sample.g, &text);
    assert_non_null(strstr(wr_str_text(&text), "0 <= p < 1"));
    wr_str_free(&text);
    test_case_end(&c);
}

static void test_refusals(void **state) {
    (void)state;
    check_refused(1.0);
    check_refused(-0.1);
    check_refused(0.999999);
    check_refused((double)NAN);
    test_case c;
    test_case_begin(&c, WR_F32, 3, 0);
    assert_true(wr_is_poison(wr_normal(c.sample.g, WR_I32, WR_DIMS(wr_n(3)))));
    assert_int_equal(wr_graph_diagnostics(c.sample.g), 1);
    test_case_end(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_is_random123),
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_distributions),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_counter_is_the_element),
        cmocka_unit_test(test_dropout_in_graphs),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
