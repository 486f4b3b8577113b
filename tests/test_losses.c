/* test_losses.c: cross-entropies against worked values, and what softmax and attention do at their
 * ends: nothing to attend to, ids out of range, probabilities far apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "helpers/sample.h"
#include "ops/attention.h"
#include "ops/cross_entropy.h"
#include "ops/reduce.h"
#include "ops/softmax.h"

#include <math.h>
#include <string.h>

enum { T = 4, V = 5 };
static const double LOGITS[T][V] = {{0.2, 1.5, 0.3, -0.4, 0.1},
                                    {0.0, 0.4, 0.2, 1.2, -0.3},
                                    {0.5, -0.2, 1.1, 0.6, 0.0},
                                    {-0.1, 0.3, 0.0, 0.2, 0.9}};

/* An input with these values. */
static wr given(test_case *t, wr_fill fill, int rank, const int64_t *dims, const double *values) {
    wr x = test_case_input(t, fill, 1, rank, dims);
    test_input *in = &t->input[t->n_inputs - 1];
    memcpy(in->value, values, sizeof *values * (size_t)in->n);
    test_input_sync(in);
    return x;
}

static wr given_logits(test_case *t) {
    return given(t, WR_FILL_REAL, 2, (int64_t[]){T, V}, &LOGITS[0][0]);
}

static void expect(const wr_tensor *x, int n, const double *values, double error) {
    assert_int_equal(x->n, n);
    for (int i = 0; i < n; i++)
        if (!(fabs(test_value(x, i) - values[i]) <= error))
            fail_msg("element %d is %.9g, not %.9g", i, test_value(x, i), values[i]);
}

static void test_cross_entropy(void **state) {
    (void)state;
    static const double nll[T] = {0.677979, 1.850806, 1.515501, 1.036682};
    static const double grad[T * V] = {0.138349, -0.492358, 0.152899,  0.075927,  0.125183,
                                       0.128631, 0.191895,  -0.842889, 0.427071,  0.095292,
                                       0.198791, 0.098717,  0.362221,  -0.780302, 0.120573,
                                       0.130461, 0.194625,  0.144182,  0.176104,  -0.645371};
    for (int single = 0; single < 2; single++) {
        test_case t;
        test_program p;
        wr out[4];
        test_case_begin(&t, single ? WR_F32 : WR_F64, 1, 0);
        wr z = given_logits(&t);
        wr ids = given(&t, WR_FILL_INDEX, 1, (int64_t[]){T}, (double[]){1, 2, 3, 4});
        wr one = given(&t, WR_FILL_REAL, 1, (int64_t[]){T}, (double[]){1, 1, 1, 1});
        wr_cross_entropy_out smooth = wr_cross_entropy(z, ids, one, 0.1);
        wr_cross_entropy_out plain = wr_cross_entropy(z, ids, one, 0.0);
        out[0] = smooth.nll;
        out[1] = wr_mean(smooth.loss, 0);
        out[2] = plain.loss;
        assert_true(wr_grad(wr_sum_all(plain.loss), 1, &z, &out[3]));
        test_program_open(&p, &t, 4, out, NULL, 1);
        test_program_run(&p, &t);
        expect(test_program_output(&p, 0), T, nll, 1e-6);
        expect(test_program_output(&p, 1), 1, (double[]){1.317742}, 1e-6);
        expect(test_program_output(&p, 2), T, nll, 1e-6);
        expect(test_program_output(&p, 3), T * V, grad, 1e-6);
        test_program_close(&p);
        test_case_end(&t);
    }
}

/* Weights w[1,1] = 1; w[2,3] = .7, w[2,2] = .3; w[3,0] = 2; the last position has none. */
static void test_pwce(void **state) {
    (void)state;
    static const double ids[T * 3] = {1, 0, 0, 3, 2, 0, 0, 0, 0, 4, 4, 4};
    static const double weights[T * 3] = {1, 0, 0, 0.7, 0.3, 0, 0.5, 1.5, 0, 0, 0, 0};
    static const double dense[T][V] = {{0, 1}, {0, 0, 0.3, 0.7}, {2}, {0}};
    static const double grad[T * V] = {0.138349,  -0.492358, 0.152899,  0.075927,  0.125183,
                                       0.128631,  0.191895,  -0.142889, -0.272929, 0.095292,
                                       -1.602418, 0.197434,  0.724442,  0.439396,  0.241146,
                                       0,         0,         0,         0,         0};
    test_case t;
    test_program p;
    wr out[4];
    test_case_begin(&t, WR_F64, 1, 0);
    wr z = given_logits(&t);
    wr id = given(&t, WR_FILL_INDEX, 2, (int64_t[]){T, 3}, ids);
    wr w = given(&t, WR_FILL_REAL, 2, (int64_t[]){T, 3}, weights);
    wr all = given(&t, WR_FILL_REAL, 2, (int64_t[]){T, V}, &dense[0][0]);
    out[0] = wr_sum_all(wr_pwce(z, id, w));
    out[1] = wr_sum_all(wr_pwce_dense(z, all));
    assert_true(wr_grad(out[0], 1, &z, &out[2]));
    assert_true(wr_grad(out[1], 1, &z, &out[3]));
    test_program_open(&p, &t, 4, out, NULL, 1);
    test_program_run(&p, &t);
    for (int k = 0; k < 2; k++) {
        expect(test_program_output(&p, k), 1, (double[]){5.059786}, 1e-6);
        expect(test_program_output(&p, 2 + k), T * V, grad, 1e-6);
    }
    test_program_close(&p);
    test_case_end(&t);
}

/* Weight 0: no loss and no gradient, even where the logits are not numbers. */
static void test_padding_is_nothing(void **state) {
    (void)state;
    const double z_values[2][3] = {{NAN, INFINITY, 0}, {1, 2, 3}};
    test_case t;
    test_program p;
    wr out[3];
    test_case_begin(&t, WR_F32, 1, 0);
    wr z = given(&t, WR_FILL_REAL, 2, (int64_t[]){2, 3}, &z_values[0][0]);
    wr ids = given(&t, WR_FILL_INDEX, 1, (int64_t[]){2}, (double[]){1, 2});
    wr w = given(&t, WR_FILL_REAL, 1, (int64_t[]){2}, (double[]){0, 1});
    wr_cross_entropy_out x = wr_cross_entropy(z, ids, w, 0.1);
    out[0] = x.loss;
    out[1] = x.nll;
    assert_true(wr_grad(wr_sum_all(x.loss), 1, &z, &out[2]));
    test_program_open(&p, &t, 3, out, NULL, 1);
    test_program_run(&p, &t);
    for (int k = 0; k < 2; k++)
        assert_true(test_value(test_program_output(&p, k), 0) == 0);
    for (int i = 0; i < 3; i++)
        assert_true(test_value(test_program_output(&p, 2), i) == 0);
    test_program_close(&p);
    test_case_end(&t);
}

/* Run one output and expect a failure that says `words`. */
static void expect_failure(const test_case *t, wr out, const char *words) {
    test_program p;
    wr_feed feeds[TEST_INPUTS];
    wr_error err = {0};
    test_program_open(&p, t, 1, &out, NULL, 1);
    for (int i = 0; i < t->n_inputs; i++) {
        feeds[i] =
            (wr_feed){.name = t->input[i].name, .data = t->input[i].data, .rank = t->input[i].rank};
        memcpy(feeds[i].dim, t->input[i].dim, sizeof feeds[i].dim);
    }
    assert_int_equal(wr_session_run(p.session, p.program, t->n_inputs, feeds, &err), WR_ERR_INPUT);
    if (strstr(err.text, words) == NULL) fail_msg("'%s' says nothing of '%s'", err.text, words);
    test_program_close(&p);
}

static void test_ids_and_lengths_out_of_range(void **state) {
    (void)state;
    static const double bad[] = {-1, 5, 1e9};
    for (int k = 0; k < 3; k++) {
        test_case t;
        test_case_begin(&t, WR_F32, 1, 0);
        wr z = given_logits(&t);
        wr ids = given(&t, WR_FILL_INDEX, 1, (int64_t[]){T}, (double[]){0, 1, bad[k], 2});
        wr w = given(&t, WR_FILL_REAL, 1, (int64_t[]){T}, (double[]){1, 1, 0, 1});
        expect_failure(&t, wr_cross_entropy(z, ids, w, 0.0).loss, "outside [0, 5)");
        test_case_end(&t);
        test_case_begin(&t, WR_F32, 1, 0);
        wr q = test_case_input(&t, WR_FILL_REAL, 0, 3, (int64_t[]){1, 2, 4});
        wr len = given(&t, WR_FILL_LENGTH, 1, (int64_t[]){1}, &bad[k]);
        expect_failure(&t, wr_attention(q, q, q, len, 2, false, 0.0), "outside [0, 2]");
        test_case_end(&t);
    }
}

/* Logits so far apart that exponentials underflow, and minus infinity. */
static void test_softmax_far_apart(void **state) {
    (void)state;
    const double values[6] = {1e30, 0, -1e30, 0, -INFINITY, -200};
    test_case t;
    test_program p;
    test_case_begin(&t, WR_F32, 1, 0);
    wr x = given(&t, WR_FILL_REAL, 2, (int64_t[]){2, 3}, values);
    wr out[2] = {wr_softmax(x), wr_logsumexp(x)};
    test_program_open(&p, &t, 2, out, NULL, 1);
    test_program_run(&p, &t);
    expect(test_program_output(&p, 0), 6, (double[]){1, 0, 0, 1, 0, 0}, 0);
    expect(test_program_output(&p, 1), 2, (double[]){(double)1e30f, 0}, 0);
    test_program_close(&p);
    test_case_end(&t);
}

/* A sequence without keys: zeros, no NaN, in every output and gradient; the other is untouched. */
static void test_attention_to_nothing(void **state) {
    (void)state;
    for (int queries = 1; queries < 4; queries += 2) {
        test_case t;
        test_program p;
        wr out[5];
        test_case_begin(&t, WR_F32, 1, 0);
        wr q = test_case_input(&t, WR_FILL_REAL, 0, 3, (int64_t[]){2, queries, 16});
        wr k = test_case_input(&t, WR_FILL_REAL, 0, 3, (int64_t[]){2, 3, 16});
        wr v = test_case_input(&t, WR_FILL_REAL, 0, 3, (int64_t[]){2, 3, 16});
        wr len = given(&t, WR_FILL_LENGTH, 1, (int64_t[]){2}, (double[]){0, 2});
        out[0] = wr_attention(q, k, v, len, 2, false, 0.0);
        out[1] = wr_output(out[0], 1);
        assert_true(wr_grad(wr_sum_all(out[0]), 3, ((wr[]){q, k, v}), out + 2));
        test_program_open(&p, &t, 5, out, NULL, 1);
        test_program_run(&p, &t);
        for (int o = 0; o < 5; o++) {
            const wr_tensor *x = test_program_output(&p, o);
            for (int64_t i = 0; i < x->n / 2; i++)
                assert_true(test_value(x, i) == 0);
            for (int64_t i = x->n / 2; i < x->n; i++)
                assert_true(isfinite(test_value(x, i)));
        }
        assert_true(test_value(test_program_output(&p, 0), queries * 16) != 0);
        test_program_close(&p);
        test_case_end(&t);
    }
}

/* With values of 1 the output is the sum of the kept weights: its mean is 1, and another step drops
 * others. */
static void test_attention_dropout(void **state) {
    (void)state;
    const int64_t dims[3] = {8, 40, 4};
    double values[8 * 40 * 4], mean[2] = {0};
    test_case t;
    test_program p;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        values[i] = 1;
    test_case_begin(&t, WR_F32, 1, 0);
    wr q = test_case_input(&t, WR_FILL_REAL, 0, 3, dims);
    wr one = given(&t, WR_FILL_REAL, 3, dims, values);
    wr len = given(&t, WR_FILL_LENGTH, 1, dims, (double[]){40, 40, 40, 40, 40, 40, 40, 40});
    wr y = wr_attention(q, q, one, len, 2, false, 0.25);
    test_program_open(&p, &t, 1, &y, NULL, 2);
    for (int step = 0; step < 2; step++) {
        wr_session_set_step(p.session, (uint64_t)step);
        test_program_run(&p, &t);
        const wr_tensor *x = test_program_output(&p, 0);
        for (int64_t i = 0; i < x->n; i++)
            mean[step] += test_value(x, i) / (double)x->n;
        assert_true(fabs(mean[step] - 1) < 0.03);
    }
    assert_true(mean[0] != mean[1]);
    test_program_close(&p);
    test_case_end(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cross_entropy),
        cmocka_unit_test(test_pwce),
        cmocka_unit_test(test_padding_is_nothing),
        cmocka_unit_test(test_ids_and_lengths_out_of_range),
        cmocka_unit_test(test_softmax_far_apart),
        cmocka_unit_test(test_attention_to_nothing),
        cmocka_unit_test(test_attention_dropout),
    };
    return cmocka_run_group_tests_name("losses", tests, NULL, NULL);
}
