/* test_lstm.c: the LSTM layer against the textbook recurrence written with plain loops, in both
 * directions and with lengths; its first state, its messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "helpers/sample.h"
#include "ops/elementwise.h"
#include "ops/lstm.h"
#include "ops/reduce.h"

#include <math.h>
#include <string.h>

enum { B = 4, T = 6, D = 3, H = 5 };
enum { X, H0, C0, WX, WH, BIAS, LENGTHS };
static const int32_t LENGTH[B] = {6, 0, 1, 4};

/* A graph with a layer over declared sizes b and t. */
static wr_lstm_result layer(test_case *t, bool reverse, bool with_state, wr_dim b, wr_dim steps) {
    static const int64_t x[] = {B, T, D}, state[] = {B, H}, wx[] = {D, 4 * H}, wh[] = {H, 4 * H};
    static const int64_t bias[] = {4 * H}, lengths[] = {B};
    wr_lstm_operands o = {.reverse = reverse};
    o.x = test_case_input_as(t, WR_FILL_REAL, 0, 3, (wr_dim[]){b, steps, wr_n(D)}, x);
    wr h0 = test_case_input_as(t, WR_FILL_REAL, 0, 2, (wr_dim[]){b, wr_n(H)}, state);
    wr c0 = test_case_input_as(t, WR_FILL_REAL, 0, 2, (wr_dim[]){b, wr_n(H)}, state);
    if (with_state) {
        o.h0 = h0;
        o.c0 = c0;
    }
    o.wx = test_case_input(t, WR_FILL_REAL, 0, 2, wx);
    o.wh = test_case_input(t, WR_FILL_REAL, 0, 2, wh);
    o.bias = test_case_input(t, WR_FILL_REAL, 0, 1, bias);
    o.lengths = test_case_input_as(t, WR_FILL_LENGTH, T, 1, &b, lengths);
    for (int i = 0; i < B; i++)
        t->input[LENGTHS].value[i] = LENGTH[i];
    test_input_sync(&t->input[LENGTHS]);
    return wr_lstm_at(WR_HERE, &o);
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* One position: the state h, c [H] goes on. */
static void step(const test_case *t, const double *x, double *h, double *c) {
    const double *wx = t->input[WX].value, *wh = t->input[WH].value, *bias = t->input[BIAS].value;
    double a[4 * H];
    for (int k = 0; k < 4 * H; k++) {
        a[k] = bias[k];
        for (int d = 0; d < D; d++)
            a[k] += x[d] * wx[d * 4 * H + k];
        for (int j = 0; j < H; j++)
            a[k] += h[j] * wh[j * 4 * H + k];
    }
    for (int j = 0; j < H; j++) {
        c[j] = sigmoid(a[H + j]) * c[j] + sigmoid(a[j]) * tanh(a[2 * H + j]);
        h[j] = sigmoid(a[3 * H + j]) * tanh(c[j]);
    }
}

static void near(const wr_tensor *x, int64_t i, double expected) {
    if (fabs(test_value(x, i) - expected) > 1e-13)
        fail_msg("element %d is %.17g, not %.17g", (int)i, test_value(x, i), expected);
}

static void check_sentence(const test_case *t, const test_program *p, int b, bool reverse,
                           bool with_state) {
    double h[H] = {0}, c[H] = {0};
    const wr_tensor *y = test_program_output(p, 0);
    for (int j = 0; j < H && with_state; j++) {
        h[j] = t->input[H0].value[b * H + j];
        c[j] = t->input[C0].value[b * H + j];
    }
    for (int s = 0; s < LENGTH[b]; s++) {
        int at = b * T + (reverse ? LENGTH[b] - 1 - s : s);
        step(t, t->input[X].value + at * D, h, c);
        for (int j = 0; j < H; j++)
            near(y, at * H + j, h[j]);
    }
    for (int i = (b * T + LENGTH[b]) * H; i < (b + 1) * T * H; i++)
        assert_true(test_value(y, i) == 0.0);
    for (int j = 0; j < H; j++) {
        near(test_program_output(p, 1), b * H + j, h[j]);
        near(test_program_output(p, 2), b * H + j, c[j]);
    }
}

static void test_recurrence(void **state) {
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        bool reverse = variant & 1, with_state = variant & 2;
        test_case t;
        test_program p;
        test_case_begin(&t, WR_F64, 7, 0);
        wr_graph *g = t.sample.g;
        wr_lstm_result r =
            layer(&t, reverse, with_state, wr_sym(g, "B", 1, 100, 1), wr_sym(g, "T", 1, 100, 1));
        test_program_open(&p, &t, 3, (wr[]){r.y, r.h, r.c}, NULL, 2);
        test_program_run(&p, &t);
        for (int b = 0; b < B; b++)
            check_sentence(&t, &p, b, reverse, with_state);
        test_program_close(&p);
        test_case_end(&t);
    }
}

/* The gradient by each operand of the layer against a difference along all its elements. */
static void test_gradient_of_layer(void **state) {
    (void)state;
    test_case t;
    test_program p;
    test_case_begin(&t, WR_F64, 8, 0);
    wr_lstm_result r = layer(&t, true, true, wr_n(B), wr_n(T));
    wr loss = wr_add(wr_sum_all(wr_square(r.y)), wr_sum_all(r.c)), out[LENGTHS + 1] = {loss};
    wr at[LENGTHS];
    for (int k = 0; k < LENGTHS; k++)
        at[k] = t.input[k].node;
    assert_true(wr_grad(loss, LENGTHS, at, out + 1));
    test_program_open(&p, &t, LENGTHS + 1, out, NULL, 2);
    for (int k = 0; k < LENGTHS; k++) {
        double slope = 0, value[2];
        test_program_run(&p, &t);
        const wr_tensor *grad = test_program_output(&p, 1 + k);
        for (int64_t i = 0; i < grad->n; i++)
            slope += test_value(grad, i);
        for (int side = 0; side < 2; side++) {
            for (int64_t i = 0; i < t.input[k].n; i++)
                t.input[k].value[i] += side == 0 ? 1e-5 : -2e-5;
            test_input_sync(&t.input[k]);
            test_program_run(&p, &t);
            value[side] = test_value(test_program_output(&p, 0), 0);
        }
        for (int64_t i = 0; i < t.input[k].n; i++)
            t.input[k].value[i] += 1e-5;
        test_input_sync(&t.input[k]);
        double numeric = (value[0] - value[1]) / 2e-5;
        if (fabs(numeric - slope) > 1e-7 * (1 + fabs(slope)))
            fail_msg("operand %d: %.12g, by differences %.12g", k, slope, numeric);
    }
    test_program_close(&p);
    test_case_end(&t);
}

static void test_wrong_length(void **state) {
    (void)state;
    test_case t;
    test_program p;
    wr_feed feeds[TEST_INPUTS];
    wr_error err = {0};
    test_case_begin(&t, WR_F32, 9, 0);
    wr_lstm_result r = layer(&t, false, true, wr_n(B), wr_n(T));
    ((int32_t *)t.input[LENGTHS].data)[2] = T + 1;
    test_program_open(&p, &t, 1, &r.y, NULL, 2);
    for (int i = 0; i < t.n_inputs; i++) {
        feeds[i] =
            (wr_feed){.name = t.input[i].name, .data = t.input[i].data, .rank = t.input[i].rank};
        memcpy(feeds[i].dim, t.input[i].dim, sizeof feeds[i].dim);
    }
    assert_int_equal(wr_session_run(p.session, p.program, t.n_inputs, feeds, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "lstm: length 7 of sentence 2 is not in [0, 6]"));
    test_program_close(&p);
    test_case_end(&t);
}

/* First derivatives exist for any T, second ones say what they need. */
static void test_symbolic_time(void **state) {
    (void)state;
    test_case t;
    test_case_begin(&t, WR_F64, 10, 0);
    wr_graph *g = t.sample.g;
    wr x, grad, second;
    wr_lstm_result r = layer(&t, false, false, wr_n(B), wr_sym(g, "T", 1, 100, 1));
    x = t.input[X].node;
    assert_true(wr_grad(wr_sum_all(r.y), 1, &x, &grad));
    assert_true(wr_graph_ok(g));
    assert_false(wr_grad(wr_sum_all(wr_square(grad)), 1, &x, &second));
    test_assert_report(g, "second derivatives unroll over time");
    test_case_end(&t);
}

static void test_wrong_shapes(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    assert_non_null(g);
    wr z = wr_input(g, "z", WR_F32, WR_DIMS(wr_n(2), wr_n(3), wr_n(8)));
    wr s = wr_input(g, "s", WR_F32, WR_DIMS(wr_n(2), wr_n(2)));
    wr w = wr_input(g, "w", WR_F32, WR_DIMS(wr_n(2), wr_n(6)));
    wr u = wr_input(g, "u", WR_F32, WR_DIMS(wr_n(2), wr_n(8)));
    wr n = wr_input(g, "n", WR_I32, WR_DIMS(wr_n(3)));
    wr_attr forward = {.i = 0};
    assert_true(wr_is_poison(wr_emit(WR_HERE, &wr_op_lstm, 5, (wr[]){z, s, s, w, n}, &forward)));
    test_assert_report(g, "the recurrent matrix is not [H, 4H]");
    assert_true(wr_is_poison(wr_emit(WR_HERE, &wr_op_lstm, 5, (wr[]){z, s, s, u, n}, &forward)));
    test_assert_report(g, "lengths are not [B]");
    assert_true(wr_is_poison(wr_emit(WR_HERE, &wr_op_lstm, 5, (wr[]){z, s, u, u, n}, &forward)));
    test_assert_report(g, "the first state is not [B, H]");
    wr_graph_free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recurrence),   cmocka_unit_test(test_gradient_of_layer),
        cmocka_unit_test(test_wrong_length), cmocka_unit_test(test_symbolic_time),
        cmocka_unit_test(test_wrong_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
