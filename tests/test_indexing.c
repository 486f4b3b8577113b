/* test_indexing.c: slices, gathers, sorts and masks by hand-worked cases, symbolic sizes, and the
 * messages of mistakes. (tests/test_ops.c checks the rows' gradients.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "helpers/sample.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/reduce.h"
#include "ops/slice.h"
#include "ops/sort.h"

#include <math.h>
#include <string.h>

/* ---- helpers ---- */

typedef struct ground {
    test_case c;
    wr_graph *g;
} ground;

static void begin(ground *b) {
    test_case_begin(&b->c, WR_F32, 1, 0);
    b->g = b->c.sample.g;
}
static void end(ground *b) { test_case_end(&b->c); }

/* A constant of up to three axes. */
static wr floats(ground *b, int rank, const int64_t *dims, const float *values) {
    return wr_const(b->g, WR_F32, rank, dims, values);
}
static wr whole(ground *b, int rank, const int64_t *dims, const int32_t *values) {
    return wr_const(b->g, WR_I32, rank, dims, values);
}
#define DIMS(...)                                                                                  \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (const int64_t[]) { __VA_ARGS__ }
#define F(...)                                                                                     \
    (const float[]) { __VA_ARGS__ }
#define I(...)                                                                                     \
    (const int32_t[]) { __VA_ARGS__ }
#define D(...)                                                                                     \
    (int64_t)(sizeof((double[]){__VA_ARGS__}) / 8), (const double[]) { __VA_ARGS__ }

/* 0, 1, 2, .. of the sizes. */
static wr count_up(ground *b, int rank, const int64_t *dims) {
    float v[256];
    for (int i = 0; i < 256; i++)
        v[i] = (float)i;
    return floats(b, rank, dims, v);
}

static void expect(ground *b, wr x, int64_t n, const double *values) {
    test_program p;
    if (wr_is_poison(x)) {
        wr_str s = {0};
        wr_graph_report(b->g, &s);
        fail_msg("%s", wr_str_text(&s));
    }
    test_program_open(&p, &b->c, 1, &x, NULL, 2);
    test_program_run(&p, &b->c);
    const wr_tensor *out = test_program_output(&p, 0);
    assert_int_equal(out->n, n);
    for (int64_t i = 0; i < n; i++) {
        double got = test_value(out, i);
        if (got != values[i] && !(isnan(got) && isnan(values[i])))
            fail_msg("element %d is %g, not %g", (int)i, got, values[i]);
    }
    test_program_close(&p);
}

static void expect_same(ground *b, wr x, wr y) {
    test_program p;
    assert_false(wr_is_poison(x) || wr_is_poison(y));
    test_program_open(&p, &b->c, 2, (wr[]){x, y}, NULL, 2);
    test_program_run(&p, &b->c);
    assert_true(test_same_bits(test_program_output(&p, 0), test_program_output(&p, 1)));
    test_program_close(&p);
}

/* The node was refused with a message that has these words. */
static void expect_mistake(ground *b, wr x, const char *words) {
    wr_str s = {0};
    assert_true(wr_is_poison(x));
    wr_graph_report(b->g, &s);
    if (strstr(wr_str_text(&s), words) == NULL)
        fail_msg("no \"%s\" in: %s", words, wr_str_text(&s));
    wr_str_free(&s);
}

/* Running fails with a message that has these words. */
static void expect_run_error(ground *b, wr x, const char *words) {
    wr_program *program = NULL;
    wr_session *session = NULL;
    wr_error err = {0};
    wr_session_options o = {.threads = 2};
    wr_feed feeds[4];
    assert_int_equal(wr_program_new(b->g, 1, &x, NULL, &program, &err), WR_OK);
    assert_int_equal(wr_session_new(&o, &session, &err), WR_OK);
    for (int i = 0; i < b->c.n_inputs; i++) {
        const test_input *in = &b->c.input[i];
        feeds[i] = (wr_feed){.name = in->name, .data = in->data, .rank = in->rank};
        memcpy(feeds[i].dim, in->dim, sizeof in->dim);
    }
    wr_status status = wr_session_run(session, program, b->c.n_inputs, feeds, &err);
    assert_int_equal(status, WR_ERR_INPUT);
    if (strstr(err.text, words) == NULL) fail_msg("no \"%s\" in: %s", words, err.text);
    wr_session_free(session);
    wr_program_free(program);
}

/* ---- slices ---- */

static void test_slices(void **state) {
    ground b;
    (void)state;
    begin(&b);
    wr x = count_up(&b, DIMS(2, 5));
    expect(&b, wr_slice(x, 1, 1, 3), D(1, 2, 6, 7));
    expect(&b, wr_slice(x, -1, -2, 0), D(3, 4, 8, 9));
    expect(&b, wr_slice(x, 1, 0, -4), D(0, 5));
    expect(&b, wr_slice(x, 0, 1, 2), D(5, 6, 7, 8, 9));
    assert_int_equal(wr_slice(x, 1, 0, 0).id, x.id);
    expect(&b, wr_every(x, 1, 0, 2), D(0, 2, 4, 5, 7, 9));
    expect(&b, wr_every(x, 1, 1, 2), D(1, 3, 6, 8));
    expect(&b, wr_every(x, 1, 2, 3), D(2, 7));
    expect(&b, wr_index(x, 1, -1), D(4, 9));
    assert_int_equal(wr_rank(wr_index(x, 0, 1)), 1);
    expect(&b, wr_pad(wr_slice(x, 1, 0, 2), 1, 1, 2), D(0, 0, 1, 0, 0, 0, 5, 6, 0, 0));
    expect(&b, wr_place(wr_index(x, 0, 0), 0, wr_n(11), wr_n(1), 2),
           D(0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0));
    expect(&b, wr_slice(whole(&b, DIMS(4), I(7, 8, 9, 10)), 0, 1, 3), D(8, 9));
    end(&b);
}

static void test_joins(void **state) {
    ground b;
    wr part[3];
    (void)state;
    begin(&b);
    wr x = count_up(&b, DIMS(2, 3)), y = wr_scale(wr_slice(x, 1, 0, 2), -1.0);
    expect(&b, wr_concat(1, x, y), D(0, 1, 2, 0, -1, 3, 4, 5, -3, -4));
    expect(&b, wr_concat(0, wr_index(x, 0, 0), wr_index(x, 0, 1), wr_index(x, 1, 0)),
           D(0, 1, 2, 3, 4, 5, 0, 3));
    assert_int_equal(wr_concat(0, x).id, x.id);
    assert_true(wr_split(x, 1, 3, part));
    expect(&b, part[1], D(1, 4));
    expect(&b, wr_concat_n(1, 3, part), D(0, 1, 2, 3, 4, 5));
    expect(&b, wr_stack(0, part[0], part[2]), D(0, 3, 2, 5));
    expect(&b, wr_stack(-1, wr_index(x, 1, 0), wr_index(x, 1, 2)), D(0, 2, 3, 5));
    expect(&b, wr_interleave_n(1, 3, part), D(0, 1, 2, 3, 4, 5));
    wr big = count_up(&b, DIMS(1, 2, 6, 2, 1));
    wr half[2] = {wr_every(big, 2, 0, 2), wr_every(big, 2, 1, 2)};
    expect_same(&b, wr_interleave(2, half[0], half[1]), big); /* five axes: no room for one more */
    wr same[5];
    assert_true(wr_deinterleave(big, 2, 2, same));
    expect_same(&b, same[1], half[1]);
    assert_true(wr_split(count_up(&b, DIMS(2, 5)), 1, 5, same)); /* more parts than a row has */
    expect(&b, same[4], D(4, 9));
    end(&b);
}

/* What is not used of a split counts as zero in its gradient. */
static void test_split_gradients(void **state) {
    ground b;
    wr part[3], grad;
    (void)state;
    begin(&b);
    wr x = count_up(&b, DIMS(2, 3));
    assert_true(wr_split(x, 1, 3, part));
    wr loss = wr_sum_all(wr_square(part[2]));
    assert_true(wr_grad(loss, 1, &x, &grad));
    expect(&b, grad, D(0, 0, 4, 0, 0, 10));
    loss = wr_add(loss, wr_sum_all(part[0]));
    assert_true(wr_grad(loss, 1, &x, &grad));
    expect(&b, grad, D(1, 0, 4, 1, 0, 10));
    end(&b);
}

/* Symbols: halves, every second, all but the first; checked for two lengths. */
static void test_symbolic_slices(void **state) {
    (void)state;
    for (int64_t n = 6; n <= 8; n += 2) {
        ground b;
        wr half[2];
        begin(&b);
        wr_dim t = wr_sym(b.g, "T", 2, 100, 2);
        int64_t dims[2] = {3, n};
        wr x = test_case_input_as(&b.c, WR_FILL_REAL, 0, 2, (wr_dim[]){wr_n(3), t}, dims);
        assert_true(wr_split(x, 1, 2, half));
        expect_same(&b, wr_concat(1, half[0], half[1]), x);
        wr turn[2] = {wr_every(x, 1, 0, 2), wr_every(x, 1, 1, 2)};
        assert_true(wr_dim_same(wr_dim_of(turn[1], 1), wr_dim_div(b.g, t, wr_n(2))));
        expect_same(&b, wr_interleave(1, turn[0], turn[1]), x);
        assert_true(wr_deinterleave(x, 1, 2, half));
        expect_same(&b, half[0], turn[0]);
        expect_same(&b, half[1], turn[1]);
        wr longer = wr_pad(x, 1, 1, 0);
        expect_same(&b, wr_slice(longer, 1, 1, 0), x);
        assert_true(wr_dim_same(wr_dim_of(wr_every(longer, 1, 0, 2), 1),
                                wr_dim_add(b.g, wr_dim_div(b.g, t, wr_n(2)), wr_n(1))));
        expect_same(&b, wr_every(longer, 1, 1, 2), turn[0]);
        end(&b);
    }
}

static void test_slice_mistakes(void **state) {
    ground b;
    wr part[2];
    (void)state;
    begin(&b);
    wr_dim t = wr_sym(b.g, "T", 3, 9, 1);
    wr x = wr_input(b.g, "x", WR_F32, WR_DIMS(wr_n(4), t));
    expect_mistake(&b, wr_slice(x, 2, 0, 1), "axis 2 of a tensor with 2 axes");
    expect_mistake(&b, wr_slice(x, 0, 2, 5), "3 positions from 2 by 1 do not fit");
    expect_mistake(&b, wr_slice(x, 0, 3, 1), "a bound is negative");
    expect_mistake(&b, wr_slice(x, 1, 5, 10), "5 positions from 5 by 1 do not fit");
    expect_mistake(&b, wr_slice_dims(x, 1, wr_n(1), t, 1), "T positions from 1");
    expect_mistake(&b, wr_slice_dims(x, 1, wr_n(0), wr_n(1), 0), "step 0");
    expect_mistake(&b, wr_every(x, 1, 2, 2), "0 <= first < step");
    expect_mistake(&b, wr_every(x, 1, 0, 2), "multiple_of");
    expect_mistake(&b, wr_place(x, 0, wr_n(7), wr_n(1), 2), "4 positions from 1 by 2");
    expect_mistake(&b, wr_pad(x, 0, -1, 0), "both are >= 0");
    assert_false(wr_split(x, 1, 2, part));
    assert_false(wr_split(x, 2, 2, part));
    assert_false(wr_deinterleave(x, 1, 2, part));
    expect_mistake(&b, part[1], "does not divide into 2 equal parts");
    expect_mistake(&b, wr_concat(0, x, wr_index(x, 0, 0)), "2 and 1 axes");
    expect_mistake(&b, wr_concat(1, x, wr_slice(x, 0, 0, 2)), "axis 0 of operand 1 differs");
    end(&b);
}

/* What cannot be proved wrong is checked when it runs. */
static void test_slice_run_errors(void **state) {
    ground b;
    int64_t dims[1] = {4};
    (void)state;
    begin(&b);
    wr_dim t = wr_sym(b.g, "T", 2, 100, 1);
    wr x = test_case_input_as(&b.c, WR_FILL_REAL, 0, 1, &t, dims);
    expect_run_error(&b, wr_slice(x, 0, 2, 6), "positions 2 to 5 of an axis with 4");
    expect_run_error(&b, wr_place(x, 0, wr_n(9), wr_n(3), 2), "positions 3 to 9 of an axis with 9");
    end(&b);
}

/* ---- indices ---- */

static void test_gathers(void **state) {
    ground b;
    (void)state;
    begin(&b);
    wr x = count_up(&b, DIMS(2, 3, 2));
    wr at = whole(&b, DIMS(2, 2), I(2, 0, 1, 1));
    expect(&b, wr_gather(x, at), D(4, 5, 0, 1, 8, 9, 8, 9));
    wr table = count_up(&b, DIMS(4, 2)), ids = whole(&b, DIMS(1, 3), I(3, 0, 3));
    expect(&b, wr_embedding(table, ids), D(6, 7, 0, 1, 6, 7));
    assert_int_equal(wr_rank(wr_embedding(table, ids)), 3);
    expect(&b, wr_pick(count_up(&b, DIMS(2, 3)), whole(&b, DIMS(2), I(2, 1))), D(2, 4));
    expect(&b, wr_gather(whole(&b, DIMS(3), I(9, 8, 7)), whole(&b, DIMS(2), I(2, 1))), D(7, 8));
    expect(&b, wr_scatter_add(count_up(&b, DIMS(3, 2)), whole(&b, DIMS(3), I(3, 1, 3)), wr_n(4)),
           D(0, 0, 2, 3, 0, 0, 4, 6));
    wr grad, loss = wr_sum_all(wr_square(wr_embedding(table, ids)));
    assert_true(wr_grad(loss, 1, &table, &grad));
    expect(&b, grad, D(0, 2, 0, 0, 0, 0, 24, 28));
    end(&b);
}

static void test_masks(void **state) {
    ground b;
    (void)state;
    begin(&b);
    wr lengths = whole(&b, DIMS(3), I(2, 0, 3));
    expect(&b, wr_sequence_mask(lengths, wr_n(3), WR_F32), D(1, 1, 0, 0, 0, 0, 1, 1, 1));
    expect(&b, wr_one_hot(lengths, wr_n(4), WR_F64), D(0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1));
    wr x = count_up(&b, DIMS(3, 3)), back = wr_reverse_prefix(x, lengths);
    expect(&b, back, D(1, 0, 2, 3, 4, 5, 8, 7, 6));
    expect_same(&b, wr_reverse_prefix(back, lengths), x);
    expect(&b, wr_cast(lengths, WR_F32), D(2, 0, 3));
    expect(&b, wr_cast(wr_scalar(b.g, WR_F64, 0.1), WR_F32), D((double)0.1f));
    assert_int_equal(wr_cast(x, WR_F32).id, x.id);
    expect(&b, wr_iota(b.g, wr_n(4), WR_I32), D(0, 1, 2, 3));
    wr grad, loss = wr_sum_all(wr_square(wr_cast(x, WR_F64)));
    assert_true(wr_grad(loss, 1, &x, &grad));
    assert_int_equal(wr_dtype_of(grad), WR_F32);
    expect(&b, grad, D(0, 2, 4, 6, 8, 10, 12, 14, 16));
    end(&b);
}

static void test_index_mistakes(void **state) {
    ground b;
    (void)state;
    begin(&b);
    wr x = count_up(&b, DIMS(2, 3)), ids = whole(&b, DIMS(2), I(0, 1));
    expect_mistake(&b, wr_gather(x, x), "indices and lengths are i32");
    expect_mistake(&b, wr_gather(x, whole(&b, DIMS(3, 1), I(0, 0, 0))), "axis 0 of x and of the");
    expect_mistake(&b, wr_gather(x, wr_scalar(b.g, WR_I32, 0)), "the index has 0 axes, x has 2");
    expect_mistake(&b, wr_scatter_add(x, whole(&b, DIMS(3), I(0, 1, 1)), wr_n(5)), "axis 0");
    expect_mistake(&b, wr_scatter_add(ids, ids, wr_n(5)), "not f32 or f64");
    expect_mistake(&b, wr_embedding(ids, ids), "table [V, D]");
    expect_mistake(&b, wr_pick(ids, ids), "x [.., V], index [..]");
    expect_mistake(&b, wr_one_hot(x, wr_n(3), WR_F32), "not i32");
    expect_mistake(&b, wr_sequence_mask(ids, wr_n(3), WR_I32), "the result is f32 or f64");
    expect_mistake(&b, wr_cast(x, WR_I32), "the result is f32 or f64");
    expect_mistake(&b, wr_reverse_prefix(x, whole(&b, DIMS(3), I(0, 1, 1))), "do not fit");
    end(&b);
}

static void test_index_run_errors(void **state) {
    ground b;
    (void)state;
    begin(&b);
    wr x = count_up(&b, DIMS(3, 2)), ids = whole(&b, DIMS(4), I(0, 2, 3, -1));
    expect_run_error(&b, wr_embedding(x, ids), "index 3 at element 2 of operand b");
    expect_run_error(&b, wr_gather(x, ids), "allowed are 0 to 2 (2 values of 4 are wrong)");
    expect_run_error(&b, wr_scatter_add(count_up(&b, DIMS(4, 2)), ids, wr_n(3)), "index 3");
    expect_run_error(&b, wr_one_hot(ids, wr_n(4), WR_F32), "id -1 at element 3");
    expect_run_error(&b, wr_sequence_mask(ids, wr_n(2), WR_F32), "length 3 at element 2");
    expect_run_error(&b, wr_reverse_prefix(count_up(&b, DIMS(4, 3)), ids), "length -1");
    end(&b);
}

/* ---- order ---- */

static void test_order(void **state) {
    ground b;
    wr at;
    (void)state;
    begin(&b);
    wr x = floats(&b, DIMS(2, 5), F(1, 7, NAN, 7, -INFINITY, 3, 2, 3, 0, 5));
    expect(&b, wr_argmax(x), D(1, 4));
    expect(&b, wr_argmax(floats(&b, DIMS(2, 2), F(NAN, NAN, -INFINITY, -INFINITY))), D(0, 0));
    expect(&b, wr_top_k(x, wr_n(3), &at), D(7, 7, 1, 5, 3, 3));
    expect(&b, at, D(1, 3, 0, 4, 0, 2));
    expect(&b, wr_bottom_k(x, wr_n(2), &at), D(-INFINITY, 1, 0, 2));
    expect(&b, at, D(4, 0, 3, 1));
    expect(&b, wr_sort(x, &at), D(-INFINITY, 1, 7, 7, NAN, 0, 2, 3, 3, 5));
    expect(&b, at, D(4, 0, 1, 3, 2, 3, 1, 0, 2, 4));
    wr grad, loss = wr_sum_all(wr_square(wr_top_k(wr_slice(x, 0, 1, 2), wr_n(2), NULL)));
    assert_true(wr_grad(loss, 1, &x, &grad));
    expect(&b, grad, D(0, 0, 0, 0, 0, 6, 0, 0, 0, 10));
    end(&b);
}

static void test_cumsum(void **state) {
    ground b;
    (void)state;
    begin(&b);
    wr x = floats(&b, DIMS(2, 3), F(1, 2, 3, 10, 20, 30));
    expect(&b, wr_cumsum(x, -1), D(1, 3, 6, 10, 30, 60));
    expect(&b, wr_cumsum(x, 0), D(1, 2, 3, 11, 22, 33));
    expect(&b, wr_cumsum_with(x, 1, true, false), D(6, 5, 3, 60, 50, 30));
    expect(&b, wr_cumsum_with(x, 1, false, true), D(0, 1, 3, 0, 10, 30));
    expect(&b, wr_cumsum_with(x, 1, true, true), D(5, 3, 0, 50, 30, 0));
    end(&b);
}

static void test_order_mistakes(void **state) {
    ground b;
    int64_t dims[1] = {4};
    (void)state;
    begin(&b);
    wr x = count_up(&b, DIMS(2, 3));
    expect_mistake(&b, wr_top_k(x, wr_n(4), NULL), "k is 4");
    expect_mistake(&b, wr_top_k(x, wr_n(0), NULL), "1 <= k <= V");
    expect_mistake(&b, wr_argmax(wr_scalar(b.g, WR_F32, 1)), "a scalar has none");
    expect_mistake(&b, wr_sort(whole(&b, DIMS(2), I(1, 2)), NULL), "not f32 or f64");
    expect_mistake(&b, wr_cumsum(x, 2), "axis 2 of a tensor with 2 axes");
    end(&b);
    begin(&b);
    wr_dim t = wr_sym(b.g, "T", 2, 100, 1);
    wr y = test_case_input_as(&b.c, WR_FILL_REAL, 0, 1, &t, dims);
    expect_run_error(&b, wr_top_k(y, wr_n(5), NULL), "k is 5 of 4 elements");
    end(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slices),          cmocka_unit_test(test_joins),
        cmocka_unit_test(test_symbolic_slices), cmocka_unit_test(test_split_gradients),
        cmocka_unit_test(test_slice_mistakes),  cmocka_unit_test(test_slice_run_errors),
        cmocka_unit_test(test_gathers),         cmocka_unit_test(test_masks),
        cmocka_unit_test(test_index_mistakes),  cmocka_unit_test(test_index_run_errors),
        cmocka_unit_test(test_order),           cmocka_unit_test(test_cumsum),
        cmocka_unit_test(test_order_mistakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
