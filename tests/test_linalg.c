/* test_linalg.c: what the generated tests of the rows in linalg, weight_norm and host do not see:
 * values known by hand, sizes across the panels of the factorisation, singular matrices, messages.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "helpers/sample.h"
#include "ops/elementwise.h"
#include "ops/host.h"
#include "ops/linalg.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/weight_norm.h"

#include <math.h>
#include <string.h>

static void near(double value, double expected, double error) {
    if (!(fabs(value - expected) <= error)) fail_msg("%.17g is not %.17g", value, expected);
}

static wr matrices(test_case *t, int rank, const int64_t *dims, const double *values) {
    wr x = test_case_input(t, WR_FILL_REAL, 0, rank, dims);
    test_input *in = &t->input[t->n_inputs - 1];
    for (int64_t i = 0; values != NULL && i < in->n; i++)
        in->value[i] = values[i];
    test_input_sync(in);
    return x;
}

static double value_of(test_case *t, wr x, int64_t i) {
    test_program p;
    test_program_open(&p, t, 1, &x, NULL, 2);
    test_program_run(&p, t);
    double value = test_value(test_program_output(&p, 0), i);
    test_program_close(&p);
    return value;
}

/* The message of a run that must fail. */
static void expect_failure(test_case *t, wr x, const char *part) {
    test_program p;
    wr_feed feeds[TEST_INPUTS];
    wr_error err = {0};
    test_program_open(&p, t, 1, &x, NULL, 2);
    for (int i = 0; i < t->n_inputs; i++) {
        feeds[i] =
            (wr_feed){.name = t->input[i].name, .data = t->input[i].data, .rank = t->input[i].rank};
        memcpy(feeds[i].dim, t->input[i].dim, sizeof feeds[i].dim);
    }
    assert_int_equal(wr_session_run(p.session, p.program, t->n_inputs, feeds, &err), WR_ERR_INPUT);
    if (strstr(err.text, part) == NULL) fail_msg("\"%s\" is not in: %s", part, err.text);
    test_program_close(&p);
}

static void test_known_values(void **state) {
    (void)state;
    static const double a[] = {0, 2, 0, 1, 0, 0, 0, 0, -3}; /* needs row exchanges */
    static const int64_t dims[2] = {3, 3};
    test_case t;
    test_case_begin(&t, WR_F64, 1, 0);
    wr x = matrices(&t, 2, dims, a);
    near(value_of(&t, wr_log_abs_det(x), 0), log(6.0), 1e-15);
    static const double inverse[] = {0, 1, 0, 0.5, 0, 0, 0, 0, -1.0 / 3.0};
    for (int i = 0; i < 9; i++)
        near(value_of(&t, wr_matrix_inverse(x), i), inverse[i], 1e-15);
    test_case_end(&t);
}

/* A A^-1 = I, and log |det A| + log |det A^-1| = 0, for sizes around the panel of 32. */
static void test_sizes_across_panels(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, 2, 31, 32, 33, 63, 64, 65, 130};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        int64_t dims[3] = {2, sizes[k], sizes[k]};
        test_case t;
        test_program p;
        test_case_begin(&t, WR_F64, 3, 0);
        wr a = matrices(&t, 3, dims, NULL), inverse = wr_matrix_inverse(a);
        wr out[2] = {wr_matmul(a, inverse), wr_add(wr_log_abs_det(a), wr_log_abs_det(inverse))};
        test_program_open(&p, &t, 2, out, NULL, 2);
        test_program_run(&p, &t);
        const wr_tensor *product = test_program_output(&p, 0);
        for (int64_t i = 0; i < product->n; i++) {
            int64_t at = i % (sizes[k] * sizes[k]);
            near(test_value(product, i), at / sizes[k] == at % sizes[k], 1e-9);
        }
        for (int i = 0; i < 2; i++)
            near(test_value(test_program_output(&p, 1), i), 0.0, 1e-9);
        test_program_close(&p);
        test_case_end(&t);
    }
}

/* One large matrix uses the threads inside the factorisation: the same bits for 1, 2 and 7. */
static void test_threads_inside(void **state) {
    (void)state;
    int64_t dims[2] = {150, 150};
    test_case t;
    test_kept first = {0};
    test_case_begin(&t, WR_F64, 4, 0);
    wr inverse = wr_matrix_inverse(matrices(&t, 2, dims, NULL));
    static const int threads[] = {1, 2, 7};
    for (int i = 0; i < 3; i++) {
        test_program p;
        test_program_open(&p, &t, 1, &inverse, NULL, threads[i]);
        test_program_run(&p, &t);
        if (i == 0) first = test_keep(test_program_output(&p, 0));
        assert_true(test_same_bits(test_program_output(&p, 0), &first.tensor));
        test_program_close(&p);
    }
    test_forget(&first);
    test_case_end(&t);
}

static void test_singular(void **state) {
    (void)state;
    /* the second matrix has rank 1, but its pivot is not exactly 0 in f64 */
    static const double a[] = {2, 1, 1, 2, 0.1, 0.3, 0.7 * 0.1, 0.7 * 0.3};
    static const int64_t dims[3] = {2, 2, 2};
    static const double nan_inside[] = {1, 0, NAN, 1, 1, 0, 0, 1};
    test_case t;
    test_case_begin(&t, WR_F64, 1, 0);
    wr x = matrices(&t, 3, dims, a);
    expect_failure(&t, wr_log_abs_det(x), "log_abs_det: matrix 1 of 2 is singular");
    expect_failure(&t, wr_matrix_inverse(x), "matrix_inverse: matrix 1 of 2");
    expect_failure(&t, wr_lu_solve(x, x, false), "no pivot in column 1 of 2");
    test_case_end(&t);
    test_case_begin(&t, WR_F32, 1, 0);
    x = matrices(&t, 3, dims, nan_inside);
    expect_failure(&t, wr_log_abs_det(x), "matrix 0 of 2");
    test_case_end(&t);
    static const double triangle[] = {1, 0, 5, 1, 1, 0, 3, 0};
    test_case_begin(&t, WR_F32, 1, 0);
    x = matrices(&t, 3, dims, triangle);
    expect_failure(&t, wr_triangular_solve(x, x, WR_LOWER, false, false),
                   "triangular_solve: matrix 1 of 2");
    near(value_of(&t, wr_triangular_solve(x, x, WR_LOWER, false, true), 6), 0.0, 0);
    test_case_end(&t);
}

static void test_wrong_shapes(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    assert_non_null(g);
    wr a = wr_input(g, "a", WR_F32, WR_DIMS(wr_n(3), wr_n(4)));
    wr b = wr_input(g, "b", WR_F32, WR_DIMS(wr_n(4), wr_n(4)));
    assert_true(wr_is_poison(wr_log_abs_det(a)));
    test_assert_report(g, "the matrix is not square");
    assert_true(wr_is_poison(wr_lu_solve(b, a, false)));
    test_assert_report(g, "another size");
    assert_true(wr_is_poison(wr_weight_norm(a, a, 1)));
    test_assert_report(g, "weight_norm: the lengths");
    assert_true(wr_is_poison(wr_norms(a, 2)));
    test_assert_report(g, "weight_norm: axis 2 of a tensor with 2 axes");
    wr_graph_free(g);
}

/* ---- weight norm ---- */

static void test_weight_norm(void **state) {
    (void)state;
    static const double v[] = {3, 0, 0, 4, 0, 0}, g[] = {10, 7, 2};
    static const double by_column[] = {6, 0, 0, 8, 0, 0}, by_row[] = {10, 0, 0, 7, 0, 0};
    static const int64_t dims[2] = {2, 3}, three = 3, two = 2;
    test_case t;
    test_case_begin(&t, WR_F64, 1, 0);
    wr x = matrices(&t, 2, dims, v);
    wr columns = wr_weight_norm(x, matrices(&t, 1, &three, g), -1);
    wr rows = wr_weight_norm(x, matrices(&t, 1, &two, g), 0);
    for (int i = 0; i < 6; i++) {
        near(value_of(&t, columns, i), by_column[i], 1e-14);
        near(value_of(&t, rows, i), by_row[i], 1e-14);
    }
    near(value_of(&t, wr_norms(x, 1), 0), 5.0, 1e-14);
    wr grad; /* turning nothing: the gradient of sum w v / |v| is orthogonal to v */
    wr_grad(wr_sum_all(wr_mul(columns, columns)), 1, &x, &grad);
    for (int i = 0; i < 6; i++)
        near(value_of(&t, grad, i), 0.0, 1e-12);
    test_case_end(&t);
}

/* ---- host functions ---- */

static bool count_shape(void *context, wr_graph *g, int n_in, const wr_type *in, wr_type *out,
                        const char **why) {
    (void)context;
    (void)g;
    *why = "a list of whole numbers is expected";
    if (n_in != 1 || in[0].rank != 1 || in[0].dtype != WR_I32) return false;
    out[0] = (wr_type){.dtype = WR_F64};
    return true;
}

/* The sum; fails on negative numbers. */
static wr_status count_run(void *context, int n_in, const wr_tensor *in, int n_out,
                           const wr_tensor *out, int threads, wr_error *err) {
    double sum = 0;
    (void)n_in;
    (void)n_out;
    (void)threads;
    for (int64_t i = 0; i < in[0].n; i++) {
        int32_t x = ((const int32_t *)in[0].data)[i];
        if (x > *(const int32_t *)context)
            return wr_fail(err, WR_ERR_INPUT, "%d is more than %d", x, *(const int32_t *)context);
        sum += x;
    }
    *(double *)out[0].data = sum;
    return WR_OK;
}

static void test_host(void **state) {
    (void)state;
    static int32_t most = 9;
    static const wr_host_fn count = {
        .name = "count", .n_out = 1, .context = &most, .shape = count_shape, .run = count_run};
    static const int64_t n = 4;
    test_case t;
    test_case_begin(&t, WR_F64, 1, 0);
    wr x = test_case_input(&t, WR_FILL_INDEX, 9, 1, &n), y = wr_host(&count, 1, &x);
    double sum = 0;
    for (int i = 0; i < 4; i++)
        sum += t.input[0].value[i];
    near(value_of(&t, y, 0), sum, 0);
    t.input[0].value[2] = 10;
    test_input_sync(&t.input[0]);
    expect_failure(&t, y, "10 is more than 9");
    assert_true(wr_is_poison(wr_host(&count, 1, &y)));
    test_assert_report(t.sample.g, "host function \"count\": a list of whole numbers is expected");
    test_case_end(&t);
}

static bool same_shape(void *context, wr_graph *g, int n_in, const wr_type *in, wr_type *out,
                       const char **why) {
    (void)context;
    (void)g;
    (void)n_in;
    (void)why;
    out[0] = in[0];
    return true;
}

static void test_host_gradient(void **state) {
    (void)state;
    static const wr_host_fn opaque = {
        .name = "opaque", .n_out = 1, .shape = same_shape, .run = count_run};
    static const wr_host_fn stopping = {
        .name = "stopping", .n_out = 1, .shape = same_shape, .run = count_run, .stops = true};
    wr_graph *g = wr_graph_new();
    assert_non_null(g);
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(2))), grad;
    assert_true(wr_grad(wr_sum_all(wr_add(x, wr_host(&stopping, 1, &x))), 1, &x, &grad));
    assert_false(wr_grad(wr_sum_all(wr_host(&opaque, 1, &x)), 1, &x, &grad));
    test_assert_report(g, "host function \"opaque\" has no gradient");
    wr_graph_free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_values),   cmocka_unit_test(test_sizes_across_panels),
        cmocka_unit_test(test_threads_inside), cmocka_unit_test(test_singular),
        cmocka_unit_test(test_wrong_shapes),   cmocka_unit_test(test_weight_norm),
        cmocka_unit_test(test_host),           cmocka_unit_test(test_host_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
