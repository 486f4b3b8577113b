/* test_invert.c: derived inverses: against inverses written by hand, their gradients, what is
 * refused and how, rows that need company, the cost; and that wr_check_bijection sees mistakes.
 * Random compositions are in test_invert_random.c, single rows in test_ops.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/check_bijection.h"
#include "autodiff/grad.h"
#include "helpers/alloc.h"
#include "helpers/sample.h"
#include "ops/assign.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/linalg.h"
#include "ops/mask.h"
#include "ops/matmul.h"
#include "ops/random_ops.h"
#include "ops/reduce.h"
#include "ops/slice.h"
#include "ops/softmax.h"
#include "ops/sort.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- inverses written by hand ---- */

enum { B = 3, T = 4, C = 6 };
static const int64_t X_DIMS[3] = {B, T, C}, LENGTHS[1] = {B};

static wr input(test_case *t, wr_fill fill, int rank, const int64_t *dims) {
    return test_case_input(t, fill, T, rank, dims);
}

static void print_report_and_fail(wr_graph *g, const char *what) {
    wr_str s = {0};
    wr_graph_report(g, &s);
    fail_msg("%s\n%s", what, wr_str_text(&s));
}

/* The derived inverse at y, and both log-determinants, against what was written by hand. */
static void compare_by_hand(test_case *t, wr x, wr out, wr mask, wr y, wr x_hand, wr log_det_hand) {
    wr_bijection f = {.n_in = 1, .ins = &x, .masks = &mask, .n_out = 1, .outs = &out};
    wr derived, inverse_det, forward_det = wr_log_det(&f);
    test_program p;
    if (!wr_invert(&f, &y, &derived, &inverse_det) || wr_is_poison(forward_det))
        print_report_and_fail(t->sample.g, "not inverted");
    wr outs[] = {derived, x_hand, forward_det, inverse_det, log_det_hand};
    test_program_open(&p, t, 5, outs, NULL, 1);
    test_program_run(&p, t);
    assert_true(test_difference(test_program_output(&p, 0), test_program_output(&p, 1)) < 1e-12);
    assert_true(test_difference(test_program_output(&p, 2), test_program_output(&p, 4)) < 1e-12);
    const wr_tensor *back = test_program_output(&p, 3), *hand = test_program_output(&p, 4);
    assert_int_equal(back->n, B);
    for (int64_t i = 0; i < back->n; i++) {
        double want = -test_value(hand, i);
        assert_true(fabs(test_value(back, i) - want) < 1e-12 * (1 + fabs(want)));
    }
    test_program_close(&p);
}

static void test_actnorm_by_hand(void **state) {
    (void)state;
    test_case t;
    int64_t c[1] = {C};
    test_case_begin(&t, WR_F64, 1, 0);
    wr x = input(&t, WR_FILL_REAL, 3, X_DIMS), y = input(&t, WR_FILL_REAL, 3, X_DIMS);
    wr s = input(&t, WR_FILL_REAL, 1, c), b = input(&t, WR_FILL_REAL, 1, c);
    wr len = input(&t, WR_FILL_LENGTH, 1, LENGTHS), mask = wr_sequence_mask(len, wr_n(T), WR_F64);
    wr out = wr_mask_apply(wr_add(wr_mul(x, wr_exp(s)), b), mask);
    wr hand = wr_div(wr_sub(wr_mask_apply(y, mask), b), wr_exp(s));
    wr det = wr_mul(wr_cast(len, WR_F64), wr_sum_all(s));
    compare_by_hand(&t, x, out, mask, y, hand, det);
    test_case_end(&t);
}

static wr log_scale_of(wr part, wr w) { return wr_shift(wr_matmul(part, w), 2.0); }

static void test_coupling_by_hand(void **state) {
    (void)state;
    test_case t;
    int64_t half[2] = {C / 2, C / 2};
    test_case_begin(&t, WR_F64, 2, 0);
    wr_graph *g = t.sample.g;
    wr x = input(&t, WR_FILL_REAL, 3, X_DIMS);
    wr w = input(&t, WR_FILL_REAL, 2, half), v = input(&t, WR_FILL_REAL, 2, half), part[2];
    wr_split(x, -1, 2, part);
    wr s = log_scale_of(part[0], w), shift = wr_matmul(part[0], v);
    wr out = wr_concat(-1, part[0], wr_add(wr_mul(part[1], wr_sigmoid(s)), shift));
    wr at[2]; /* at the image itself, where the determinant is known, too */
    wr_split(out, -1, 2, at);
    wr hand = wr_div(wr_sub(at[1], wr_matmul(at[0], v)), wr_sigmoid(log_scale_of(at[0], w)));
    compare_by_hand(&t, x, out, (wr){g, 0}, out, wr_concat(-1, at[0], hand),
                    wr_sum_axes(wr_log_sigmoid(s), 1, 3));
    test_case_end(&t);
}

static void test_linear_by_hand(void **state) {
    (void)state;
    for (int form = 0; form < 3; form++) {
        test_case t;
        int64_t square[2] = {C, C}, c[1] = {C};
        test_case_begin(&t, WR_F64, 3 + (uint64_t)form, 0);
        wr x = input(&t, WR_FILL_REAL, 3, X_DIMS), y = input(&t, WR_FILL_REAL, 3, X_DIMS);
        wr a = input(&t, WR_FILL_REAL, 2, square), d = input(&t, WR_FILL_POSITIVE, 1, c);
        wr one = wr_broadcast(wr_scalar(t.sample.g, WR_F64, 1.0), WR_DIMS(wr_n(C)));
        wr l = wr_add(wr_tril(wr_scale(a, 0.3), -1), wr_diagonal_matrix(one));
        wr u = wr_add(wr_triu(wr_scale(a, 0.3), 1), wr_diagonal_matrix(d)), w = wr_matmul(l, u);
        wr out = form == 0   ? wr_matmul(wr_matmul(x, l), u)
                 : form == 1 ? wr_matmul(x, w)
                             : wr_matmul_nt(x, wr_transpose(w, 0, 1));
        wr column = wr_transpose(y, 1, 2); /* x w = y: w^T x^T = y^T */
        wr hand = wr_triangular_solve(u, column, WR_UPPER, true, false);
        hand = wr_transpose(wr_triangular_solve(l, hand, WR_LOWER, true, true), 1, 2);
        wr det = wr_scale(wr_sum_all(wr_log(d)), T);
        compare_by_hand(&t, x, out, (wr){t.sample.g, 0}, y, hand,
                        wr_broadcast(det, WR_DIMS(wr_n(B))));
        test_case_end(&t);
    }
}

/* ---- refusals ---- */

typedef struct refusal {
    wr_graph *g;
    wr x, h, len;
    wr in[2], mask[2], out[3];
    int n_in, n_out, line; /* line: of what is to blame */
} refusal;

#define BLAME(expr) (r->line = __LINE__, (expr))

static void one(refusal *r, wr y) {
    r->out[0] = y;
    r->n_out = 1;
}
static wr half(const refusal *r, int k) { return wr_slice(r->x, 2, 2 * k, 2 * k + 2); }

static void same_sum(refusal *r) { one(r, BLAME(wr_add(r->x, r->x))); }
static void same_product(refusal *r) { one(r, wr_shift(BLAME(wr_mul(r->x, r->x)), 1)); }
static void both_signs(refusal *r) {
    r->out[0] = r->x;
    r->out[1] = BLAME(wr_neg(r->x));
    r->n_out = 2;
}
static void narrow_product(refusal *r) {
    wr w =
        wr_param(r->g, "w", WR_F64, WR_DIMS(wr_n(4), wr_n(3)), ((wr_init){WR_INIT_NORMAL, 0, 1}));
    one(r, BLAME(wr_matmul(r->x, w)));
}
static void dropped_slice(refusal *r) {
    wr y = BLAME(wr_exp(r->x));
    one(r, wr_slice(y, 2, 0, 3));
}
static void overlapping_slices(refusal *r) {
    wr y = BLAME(wr_exp(r->x));
    one(r, wr_concat(2, wr_slice(y, 2, 0, 3), wr_slice(y, 2, 1, 4)));
}
static void crossing_slices(refusal *r) {
    wr y = BLAME(wr_exp(r->x));
    r->out[0] = wr_slice(y, 2, 0, 2);
    r->out[1] = wr_slice(y, 1, 0, 2);
    r->n_out = 2;
}
static void foreign_output(refusal *r) {
    one(r, wr_exp(r->x));
    r->out[r->n_out++] = BLAME(wr_tanh(r->h));
}
static void kink(refusal *r) { one(r, BLAME(wr_relu(r->x))); }
static void shares(refusal *r) { one(r, wr_log(BLAME(wr_softmax(r->x)))); }
static void copies(refusal *r) {
    wr wide = wr_reshape(r->x, WR_DIMS(wr_dim_of(r->x, 0), wr_n(4), wr_n(4), wr_n(1)));
    one(r, BLAME(wr_broadcast(wide, WR_DIMS(wr_dim_of(r->x, 0), wr_n(4), wr_n(4), wr_n(2)))));
}
static void total(refusal *r) { one(r, BLAME(wr_sum(r->x, 1))); }
static void joined_with_itself(refusal *r) { one(r, BLAME(wr_concat(2, r->x, r->x))); }
static void joined_with_known(refusal *r) { one(r, BLAME(wr_concat(2, r->x, r->h))); }
static void own_condition(refusal *r) { one(r, BLAME(wr_add(r->x, wr_tanh(r->x)))); }
static void mutual_condition(refusal *r) {
    wr a = BLAME(wr_add(half(r, 0), wr_tanh(half(r, 1)))),
       b = wr_add(half(r, 1), wr_tanh(half(r, 0)));
    one(r, wr_concat(2, a, b));
}
static void sorted(refusal *r) { one(r, BLAME(wr_top_k_at(WR_HERE, r->x, wr_n(4), true, NULL))); }
static void own_mask(refusal *r) {
    wr known = half(r, 0), m = wr_less(known, wr_scalar(r->g, WR_F64, 0.0));
    one(r, wr_concat(2, known, BLAME(wr_mask_apply(half(r, 1), m))));
}
static void mixed_sentences(refusal *r) { one(r, BLAME(wr_exp(wr_cumsum(r->x, 0)))); }
static void own_choice(refusal *r) {
    wr m = wr_less(r->x, wr_scalar(r->g, WR_F64, 0.0));
    one(r, BLAME(wr_select(m, wr_scale(r->x, 0.1), r->x)));
}
static void foreign_choice(refusal *r) { one(r, BLAME(wr_select(r->h, r->x, wr_square(r->h)))); }
static void unrelated_choice(refusal *r) {
    r->in[r->n_in++] = wr_input(r->g, "x2", WR_F64, WR_DIMS(wr_dim_of(r->x, 0), wr_n(4), wr_n(4)));
    one(r, BLAME(wr_select(r->h, r->x, r->in[1])));
    r->out[r->n_out++] = wr_exp(r->in[1]);
}
static void many_indices(refusal *r) {
    wr index = wr_input(r->g, "index", WR_I32, WR_DIMS(wr_dim_of(r->x, 0), wr_n(7)));
    one(r, BLAME(wr_gather(r->x, index)));
}
static void late_sums(refusal *r) { one(r, BLAME(wr_cumsum_with(r->x, 2, false, true))); }
static void no_scale(refusal *r) { one(r, BLAME(wr_scale(r->x, 0))); }
static void unmasked_input(refusal *r) {
    wr m = wr_sequence_mask(r->len, wr_n(4), WR_F64);
    wr y = wr_sigmoid(r->x);
    one(r, BLAME(wr_mask_apply(y, m)));
}
static void mixed_padding(refusal *r) {
    r->mask[0] = wr_sequence_mask(r->len, wr_n(4), WR_F64);
    wr a =
        wr_param(r->g, "a", WR_F64, WR_DIMS(wr_n(4), wr_n(4)), ((wr_init){WR_INIT_NORMAL, 0, 1}));
    wr all = wr_broadcast(a, WR_DIMS(wr_dim_of(r->x, 0), wr_n(4), wr_n(4)));
    one(r, BLAME(wr_matmul(all, r->x)));
}
static void written_state(refusal *r) {
    wr s = wr_state(r->g, "s", WR_F64, WR_DIMS(wr_n(4)), ((wr_init){WR_INIT_ZERO, 0, 0}));
    wr sum = wr_sum_axes(wr_slice(r->x, 2, 0, 1), 0, 2);
    wr written = BLAME(wr_assign(s, wr_broadcast(sum, WR_DIMS(wr_n(4)))));
    one(r, wr_add(r->x, written));
}
static void twice_out(refusal *r) {
    one(r, BLAME(wr_exp(r->x)));
    r->out[r->n_out++] = r->out[0];
}
static void unread_input(refusal *r) {
    r->in[r->n_in++] = BLAME(wr_input(r->g, "x2", WR_F64, WR_DIMS(wr_dim_of(r->x, 0))));
    one(r, wr_exp(r->x));
}
static void whole_input(refusal *r) {
    r->in[r->n_in++] = BLAME(wr_input(r->g, "ids", WR_I32, WR_DIMS(wr_dim_of(r->x, 0))));
    one(r, wr_exp(r->x));
}
static void own_matrix(refusal *r) { one(r, BLAME(wr_matmul(r->x, wr_tanh(r->x)))); }
static void loses_error_function(refusal *r) { one(r, BLAME(wr_erf(r->x))); }

typedef struct refusal_case {
    void (*build)(refusal *r);
    const char *reason;
} refusal_case;

static const refusal_case REFUSALS[] = {
    {same_sum, "both operands are the same node"},
    {same_product, "both operands are the same node"},
    {both_signs, "fixed by the outputs and by its operands: over-determined"},
    {narrow_product, "a product with a matrix that is not square has no inverse"},
    {dropped_slice, "only a part of it is determined"},
    {overlapping_slices, "elements are determined twice, by overlapping slices of"},
    {crossing_slices, "slices along different axes overlap in"},
    {foreign_output, "an output does not depend on the inputs"},
    {kink, "maps all negative numbers to 0"},
    {shares, "shifting all operands changes nothing"},
    {copies, "the copies would determine the operand many times"},
    {total, "many operands have one sum"},
    {joined_with_itself, "it joins a node with itself: over-determined"},
    {joined_with_known, "a part of what it joins is known already: over-determined"},
    {own_condition, "neither of its operands is known: it mixes two unknowns"},
    {mutual_condition, "neither of its operands is known: it mixes two unknowns"},
    {sorted, "loses the other elements"},
    {own_mask, "its mask depends on the inputs"},
    {mixed_sentences, "no log-determinant per sentence: sentences are mixed"},
    {own_choice, "its condition depends on what is solved for"},
    {foreign_choice, "one branch is known, and the other one is seen at its own positions only"},
    {unrelated_choice, "one branch is known, and the other one is seen at its own positions only"},
    {many_indices, "there are more or fewer indices than positions"},
    {late_sums, "exclusive sums leave out the last element"},
    {no_scale, "times 0: all operands have one result"},
    {unmasked_input, "it sets padding to 0, but what it reads has no mask"},
    {mixed_padding, "it mixes positions that the mask tells apart"},
    {written_state, "this writes a state with what depends on the inputs"},
    {twice_out, "this stands twice in the outputs"},
    {unread_input, "no output depends on the input"},
    {whole_input, "an input is a float tensor whose axis 0 is the batch"},
    {own_matrix, "neither of its operands is known: it mixes two unknowns"},
    {loses_error_function, "no row computes the inverse error function"},
};

static void refuse(int i) {
    refusal made = {.g = wr_graph_new(), .n_in = 1}, *r = &made;
    const refusal_case *k = &REFUSALS[i];
    wr_dim b = wr_sym(r->g, "B", 1, 64, 1);
    r->x = r->in[0] = wr_input(r->g, "x", WR_F64, WR_DIMS(b, wr_n(4), wr_n(4)));
    r->h = wr_input(r->g, "h", WR_F64, WR_DIMS(b, wr_n(4), wr_n(4)));
    r->len = wr_input(r->g, "len", WR_I32, WR_DIMS(b));
    r->mask[0] = r->mask[1] = (wr){r->g, 0};
    k->build(r);
    wr_bijection f = {
        .n_in = r->n_in, .ins = r->in, .masks = r->mask, .n_out = r->n_out, .outs = r->out};
    if (!wr_graph_ok(r->g)) print_report_and_fail(r->g, "the refused graph itself is wrong");
    assert_true(wr_is_poison(wr_log_det(&f)));
    char place[64];
    wr_str s = {0};
    wr_graph_report(r->g, &s);
    snprintf(place, sizeof place, "test_invert.c:%d", r->line);
    bool first = strstr(wr_str_text(&s), "not a bijection: ") != NULL;
    if (!first || strstr(wr_str_text(&s), k->reason) == NULL ||
        strstr(wr_str_text(&s), place) == NULL)
        fail_msg("refusal %d should name %s and say \"%s\":\n%s", i, place, k->reason,
                 wr_str_text(&s));
    assert_int_equal(wr_graph_diagnostics(r->g), 1);
    wr_str_free(&s);
    wr_graph_free(r->g);
}

static void test_refusals(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof REFUSALS / sizeof *REFUSALS; i++)
        refuse((int)i);
}

/* One whole message, as a user reads it. */
static void test_message(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_sym(g, "B", 1, 9, 1), wr_n(4)));
    wr h = wr_named(wr_relu(x), "h"), y = wr_tanh(h);
    int line = __LINE__ - 1;
    wr_bijection f = {.n_in = 1, .ins = &x, .n_out = 1, .outs = &y};
    assert_true(wr_is_poison(wr_log_det(&f)));
    char want[600];
    snprintf(
        want, sizeof want,
        "tests/test_invert.c:%d in test_message(): not a bijection: the outputs do not "
        "determine the input\n"
        "  \"x\"  f32 [B, 4]  from tests/test_invert.c:%d input\n"
        "  where solving stopped:\n"
        "  \"h\"  f32 [B, 4]  from tests/test_invert.c:%d relu: maps all negative numbers to 0",
        line + 3, line - 1, line);
    wr_str s = {0};
    wr_graph_report(g, &s);
    if (strncmp(wr_str_text(&s), want, strlen(want)) != 0) fail_msg("%s", wr_str_text(&s));
    wr_str_free(&s);
    wr_graph_free(g);
}

/* An index with repeats is found when the run meets it, also for the log-determinant alone. */
static void test_repeated_index(void **state) {
    (void)state;
    for (int only_det = 0; only_det < 2; only_det++) {
        wr_graph *g = wr_graph_new();
        wr x = wr_input(g, "x", WR_F64, WR_DIMS(wr_n(1), wr_n(3)));
        wr index = wr_input(g, "index", WR_I32, WR_DIMS(wr_n(1), wr_n(3)));
        wr y = wr_gather(x, index), back, det, *out = only_det ? &det : &back;
        wr_bijection f = {.n_in = 1, .ins = &x, .n_out = 1, .outs = &y};
        if (only_det)
            det = wr_log_det(&f);
        else
            assert_true(wr_invert(&f, &y, &back, NULL));
        wr_program *p;
        wr_session *s;
        wr_error err = {0};
        assert_int_equal(wr_program_new(g, 1, out, NULL, &p, &err), WR_OK);
        assert_int_equal(wr_session_new(&(wr_session_options){.threads = 1}, &s, &err), WR_OK);
        double values[3] = {1, 2, 3};
        int32_t good[3] = {2, 0, 1}, bad[3] = {2, 0, 2};
        wr_feed feed[2] = {{"x", values, 2, {1, 3}}, {"index", good, 2, {1, 3}}};
        int n = wr_program_find_input(p, "x") >= 0 ? 0 : 1; /* log |det| does not read x */
        assert_int_equal(wr_session_run(s, p, 2 - n, feed + n, &err), WR_OK);
        feed[1].data = bad;
        assert_int_equal(wr_session_run(s, p, 2 - n, feed + n, &err), WR_ERR_INPUT);
        assert_non_null(strstr(err.text, "index 2 stands at elements 0 and 2 of row 0"));
        wr_session_free(s);
        wr_program_free(p);
        wr_graph_free(g);
    }
}

/* ---- what is accepted ---- */

/* Check outs = f(ins) of symbols B, T; `masked`: by lengths "len". */
static void check_accepted(wr_graph *g, int n_in, const wr *ins, int n_out, const wr *outs,
                           const wr_check_options *o) {
    wr_bijection f = {.n_in = n_in, .ins = ins, .n_out = n_out, .outs = outs};
    wr_check_report r;
    wr_error err = {0};
    if (wr_check_bijection(&f, o, &r, &err) != WR_OK) fail_msg("%s", err.text);
    if (!r.passed) wr_check_print(&r, stdout);
    assert_true(r.passed);
    wr_graph_free(g);
}

static wr some_input(wr_graph *g, const char *name) {
    return wr_input(g, name, WR_F64,
                    WR_DIMS(wr_sym(g, "B", 1, 64, 1), wr_sym(g, "T", 2, 64, 2), wr_n(4)));
}

/* Inputs that are outputs, outputs in another order, a row with an output that nobody reads. */
static void test_forms_of_graphs(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr x = some_input(g, "x"), y = some_input(g, "y"), ins[2] = {x, y};
    wr outs[2] = {y, wr_add(x, wr_tanh(y))};
    check_accepted(g, 2, ins, 2, outs, NULL);

    g = wr_graph_new();
    x = some_input(g, "x");
    check_accepted(g, 1, &x, 1, &x, NULL);

    g = wr_graph_new();
    x = some_input(g, "x");
    wr half[2], quarter[4], part[4];
    wr_split(x, -1, 2, half);
    wr_split(half[0], -1, 2, quarter); /* quarter[1] is read by nobody */
    part[0] = half[0];
    part[1] = wr_mul(half[1], wr_exp(wr_concat(-1, quarter[0], wr_slice(x, 2, 0, 1))));
    wr first[2] = {wr_exp(part[0]), part[1]};
    check_accepted(g, 1, &x, 2, first, NULL);

    g = wr_graph_new(); /* dropout in a network drops the same in both directions */
    x = some_input(g, "x");
    wr_split(x, -1, 2, half);
    y = wr_concat(-1, half[0], wr_mul(half[1], wr_exp(wr_dropout(half[0], 0.5))));
    check_accepted(g, 1, &x, 1, &y, NULL);

    g = wr_graph_new(); /* one number per sentence */
    x = wr_input(g, "x", WR_F64, WR_DIMS(wr_sym(g, "B", 1, 64, 1)));
    y = wr_softplus(x);
    check_accepted(g, 1, &x, 1, &y, NULL);
}

/* Parts of four kinds, rejoined: uneven slices, steps, some of each, one by one. */
static void test_parts(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr x = some_input(g, "x"), y = wr_tanh(x);
    wr outs[4] = {wr_slice(y, 2, 1, 0), wr_exp(wr_slice(y, 2, 0, 1))};
    check_accepted(g, 1, &x, 2, outs, NULL);

    g = wr_graph_new();
    x = some_input(g, "x");
    y = wr_sigmoid(x);
    outs[0] = wr_every(y, 1, 1, 2);
    outs[1] = wr_log(wr_every(y, 1, 0, 2));
    check_accepted(g, 1, &x, 2, outs, NULL);

    g = wr_graph_new();
    x = some_input(g, "x");
    y = wr_sigmoid(x);
    outs[0] = wr_every(y, 2, 1, 2); /* 1, 3 */
    outs[1] = wr_log(wr_slice(y, 2, 2, 3));
    outs[2] = wr_mul(wr_slice(y, 2, 0, 1), wr_exp(wr_slice(outs[0], 2, 1, 2)));
    check_accepted(g, 1, &x, 3, outs, NULL);

    g = wr_graph_new();
    x = some_input(g, "x");
    y = wr_sigmoid(x);
    for (int k = 0; k < 4; k++)
        outs[k] = wr_scale(wr_index(y, 2, k), k + 1.0);
    wr stacked = wr_stack(1, outs[3], outs[0], outs[2], outs[1]);
    check_accepted(g, 1, &x, 1, &stacked, NULL);
}

static void test_gather_and_scatter(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr x = some_input(g, "x");
    wr index = wr_input(g, "index", WR_I32, WR_DIMS(wr_dim_of(x, 0), wr_dim_of(x, 1)));
    wr y = wr_exp(wr_gather(wr_tanh(x), index));
    check_accepted(g, 1, &x, 1, &y, NULL);

    g = wr_graph_new();
    x = some_input(g, "x");
    index = wr_input(g, "index", WR_I32, WR_DIMS(wr_dim_of(x, 0), wr_dim_of(x, 1)));
    y = wr_exp(wr_scatter_add(wr_tanh(x), index, wr_dim_of(x, 1)));
    check_accepted(g, 1, &x, 1, &y, NULL);
}

/* A choice between branches of limited range, at values where the other branch's inverse is not
 * defined: all gradients are finite (wr_check_bijection looks). */
static void test_choices(void **state) {
    (void)state;
    for (int form = 0; form < 4; form++) {
        wr_graph *g = wr_graph_new();
        wr x = some_input(g, "x"), h = some_input(g, "h"), zero = wr_scalar(g, WR_F64, 0.0);
        wr m = wr_less(h, zero), y = x;
        if (form == 0) y = wr_select(m, wr_exp(x), wr_neg(wr_exp(x)));
        if (form == 1) y = wr_select(m, wr_sqrt(wr_softplus(x)), x);
        if (form == 2) y = wr_select(m, wr_add(wr_mul(x, h), h), wr_log(wr_sigmoid(x)));
        if (form == 3)
            y = wr_select(m, wr_tanh(wr_exp(wr_scale(x, 0.3))), wr_tanh(x)); /* tanh twice */
        check_accepted(g, 1, &x, 1, &y, NULL);
    }
}

/* Another float type on the way; f32 rounds, so the bound is f32's. */
static void test_casts(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr x = some_input(g, "x");
    wr m = wr_sequence_mask(wr_input(g, "len", WR_I32, WR_DIMS(wr_dim_of(x, 0))), wr_dim_of(x, 1),
                            WR_F64);
    wr narrow = wr_cast(wr_scale(wr_mask_apply(x, m), 2.0), WR_F32);
    wr y = wr_cast(wr_tanh(wr_scale(narrow, 0.25)), WR_F64), back, det;
    wr_bijection f = {.n_in = 1, .ins = &x, .masks = &m, .n_out = 1, .outs = &y};
    assert_true(wr_invert(&f, &y, &back, &det));
    assert_int_equal(wr_dtype_of(back), WR_F64);
    assert_int_equal(wr_dtype_of(det), WR_F64);
    wr outs[3] = {back, det, wr_log_det(&f)};
    wr_program *p;
    wr_session *s;
    wr_error err = {0};
    assert_int_equal(wr_program_new(g, 3, outs, NULL, &p, &err), WR_OK);
    assert_int_equal(wr_session_new(&(wr_session_options){.threads = 1}, &s, &err), WR_OK);
    double v[16], sum = 0;
    int32_t len[2] = {2, 1};
    for (int i = 0; i < 16; i++) {
        v[i] = 0.3 * i - 2.4;
        if (i < 12) sum += log(0.5) + log(1 - pow(tanh(v[i] / 2), 2));
    }
    wr_feed feed[2] = {{"x", v, 3, {2, 2, 4}}, {"len", len, 1, {2}}};
    if (wr_session_run(s, p, 2, feed, &err) != WR_OK) fail_msg("%s", err.text);
    for (int i = 0; i < 12; i++)
        assert_true(fabs(test_value(wr_session_output(s, 0), i) - v[i]) < 1e-5);
    double both = test_value(wr_session_output(s, 2), 0) + test_value(wr_session_output(s, 2), 1);
    assert_true(fabs(both - sum) < 1e-4);
    wr_session_free(s);
    wr_program_free(p);
    wr_graph_free(g);
}

/* ---- gradients ---- */

/* loss of a test_case by its input `x` moved along a direction, 4-point. */
static double difference(test_program *p, const test_case *t, test_input *x, const double *along) {
    static const double at[4] = {-2, -1, 1, 2}, weight[4] = {1, -8, 8, -1};
    const double h = 5e-4;
    double sum = 0;
    for (int k = 0; k < 4; k++) {
        for (int64_t i = 0; i < x->n; i++)
            x->value[i] += at[k] * h * along[i];
        test_input_sync(x);
        test_program_run(p, t);
        sum += weight[k] * test_value(test_program_output(p, 0), 0);
        for (int64_t i = 0; i < x->n; i++)
            x->value[i] -= at[k] * h * along[i];
    }
    test_input_sync(x);
    return sum / (12 * h);
}

static wr masked_flow(wr x, wr w, wr v, wr mask) {
    for (int i = 0; i < 2; i++) {
        wr part[2];
        wr_deinterleave(x, -1, 2, part);
        wr h = wr_tanh(wr_matmul(part[i], w));
        part[1 - i] = wr_add(wr_mul(part[1 - i], wr_sigmoid(wr_matmul(h, v))), h);
        x = wr_log(wr_expm1(wr_softplus(wr_interleave(-1, part[0], part[1]))));
        x = wr_mask_apply(
            wr_matmul(x, wr_add(wr_triu(wr_concat(0, wr_concat(1, w, v), wr_concat(1, v, w)), 1),
                                wr_diagonal_matrix(wr_exp(wr_index(wr_concat(1, w, v), 0, 0))))),
            mask);
    }
    return x;
}

/* Of the forward direction with its log-determinant, and of the inverse with its own. */
static void test_gradients(void **state) {
    (void)state;
    for (int inverse = 0; inverse < 2; inverse++) {
        test_case t;
        int64_t square[2] = {C / 2, C / 2}, b[1] = {B};
        test_program all, loss_only;
        test_case_begin(&t, WR_F64, 40, 0);
        wr x = input(&t, WR_FILL_REAL, 3, X_DIMS);
        wr w = input(&t, WR_FILL_REAL, 2, square), v = input(&t, WR_FILL_REAL, 2, square);
        wr r = input(&t, WR_FILL_REAL, 3, X_DIMS), q = input(&t, WR_FILL_REAL, 1, b);
        wr mask = wr_sequence_mask(input(&t, WR_FILL_LENGTH, 1, LENGTHS), wr_n(T), WR_F64);
        wr unknown = inverse ? wr_leaf(x) : x, y = masked_flow(unknown, w, v, mask), det, out = y;
        wr_bijection f = {.n_in = 1, .ins = &unknown, .masks = &mask, .n_out = 1, .outs = &y};
        if (!inverse) det = wr_log_det(&f);
        if (inverse) assert_true(wr_invert(&f, &x, &out, &det));
        wr loss =
            wr_add(wr_sum_all(wr_mul(wr_mask_apply(out, mask), r)), wr_sum_all(wr_mul(det, q)));
        wr wrt[3] = {x, w, v}, outs[4] = {loss};
        assert_true(wr_grad(loss, 3, wrt, outs + 1));
        test_program_open(&all, &t, 4, outs, NULL, 1);
        test_program_open(&loss_only, &t, 1, outs, NULL, 1);
        test_program_run(&all, &t);
        for (int k = 0; k < 3; k++) {
            const wr_tensor *grad = test_program_output(&all, 1 + k);
            double along[B * T * C], want = 0, size = 0;
            for (int64_t i = 0; i < grad->n; i++) {
                along[i] = sin(3.0 * (double)i + k);
                want += along[i] * test_value(grad, i);
                size += fabs(along[i] * test_value(grad, i));
            }
            double got = difference(&loss_only, &t, &t.input[k], along);
            if (!(fabs(got - want) < 1e-7 * size))
                fail_msg("%s gradient %d: %.12g, by differences %.12g",
                         inverse ? "inverse" : "forward", k, want, got);
        }
        test_program_close(&all);
        test_program_close(&loss_only);
        test_case_end(&t);
    }
}

/* ---- cost ---- */

static void test_cost(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr x = some_input(g, "x"), y = x, back, det;
    wr m = wr_sequence_mask(wr_input(g, "len", WR_I32, WR_DIMS(wr_dim_of(x, 0))), wr_dim_of(x, 1),
                            WR_F64);
    while (wr_node_count(g) < 20000) {
        wr part[2];
        wr_split(y, -1, 2, part);
        wr s = wr_tanh(wr_scale(part[0], 0.5));
        y = wr_mask_apply(wr_concat(-1, wr_add(wr_mul(part[1], wr_exp(s)), s), part[0]), m);
    }
    wr_bijection f = {.n_in = 1, .ins = &x, .masks = &m, .n_out = 1, .outs = &y};
    double start = wr_now();
    assert_true(wr_invert(&f, &y, &back, &det));
    double chain = wr_now() - start;
    assert_false(wr_is_poison(wr_log_det(&f)));
    wr_graph_free(g);

    enum { SLICES = 3000 };
    static wr part[SLICES];
    g = wr_graph_new();
    x = wr_input(g, "x", WR_F64, WR_DIMS(wr_n(2), wr_n(SLICES)));
    wr bent = wr_tanh(x);
    for (int k = 0; k < SLICES; k++)
        part[k] = wr_exp(wr_slice(bent, 1, SLICES - 1 - k, SLICES - k == SLICES ? 0 : SLICES - k));
    f = (wr_bijection){.n_in = 1, .ins = &x, .n_out = SLICES, .outs = part};
    start = wr_now();
    assert_true(wr_invert(&f, part, &back, &det));
    double parts = wr_now() - start;
    wr_graph_free(g);
    print_message("20000 nodes inverted in %.3f s, %d slices of one node in %.3f s\n", chain,
                  SLICES, parts);
    assert_true(chain < 2 && parts < 2); /* well under a second on a machine at rest */
}

/* ---- memory ---- */

/* A flow with masks, parts, a choice and functions of limited range, checked whole. */
static wr_status check_some_flow(wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", 1);
    wr x = wr_input(g, "x", WR_F64, WR_DIMS(wr_n(2), wr_n(2), wr_n(2))), part[2];
    wr m = wr_sequence_mask(wr_input(g, "len", WR_I32, WR_DIMS(wr_n(2))), wr_n(2), WR_F64);
    wr w = wr_param(g, "w", WR_F64, WR_DIMS(wr_n(2)), ((wr_init){WR_INIT_NORMAL, 0, 1}));
    wr y = wr_mul(wr_mask_apply(wr_sigmoid(x), m), wr_shift(wr_square(w), 0.5));
    wr_split(y, -1, 2, part);
    part[0] =
        wr_select(wr_less(wr_slice(w, 0, 0, 1), wr_slice(w, 0, 1, 2)), wr_exp(part[0]), part[0]);
    y = wr_mask_apply(wr_concat(-1, part[1], part[0]), m);
    wr_bijection f = {.n_in = 1, .ins = &x, .masks = &m, .n_out = 1, .outs = &y};
    wr_check_report r;
    wr_status status = wr_graph_status(g, err);
    if (status == WR_OK) status = wr_check_bijection(&f, NULL, &r, err);
    if (status == WR_OK) assert_true(r.passed);
    wr_graph_free(g);
    return status;
}

static void test_every_allocation(void **state) {
    (void)state;
    bool done = false;
    long n = 0;
    while (!done) {
        wr_error err = {0};
        wr_test_watch_allocations();
        wr_test_fail_allocation(++n);
        wr_status status = check_some_flow(&err);
        done = !wr_test_allocation_failed();
        assert_int_equal(wr_test_unfreed_allocations(), 0);
        /* a plan can do without its statistics: then all went well */
        if (status != WR_OK && (done || status != WR_ERR_MEMORY))
            fail_msg("allocation %ld failed: status %d, \"%s\"", n, (int)status, err.text);
    }
    print_message("%ld allocations, each failed once\n", n - 1);
    assert_true(n > 500);
}

/* ---- does the check see mistakes? ---- */

static bool wrong_value(wr_inverse_ctx *c) {
    wr x = wr_inverse_solve(c, 0, wr_scale(wr_log(c->y[0]), 1.0000001));
    return wr_inverse_term(c, 0, x);
}
static bool wrong_term(wr_inverse_ctx *c) {
    wr x = wr_inverse_solve(c, 0, wr_log(c->y[0]));
    return wr_inverse_term(c, 0, wr_scale(x, 1.0000001));
}

static wr_check_report report_of(wr x, wr mask, wr y) {
    wr_check_report r;
    wr_error err = {0};
    wr_bijection f = {.n_in = 1, .ins = &x, .masks = &mask, .n_out = 1, .outs = &y};
    if (wr_check_bijection(&f, NULL, &r, &err) != WR_OK) fail_msg("%s", err.text);
    wr_graph_free(x.g);
    return r;
}

static void test_check_sees_wrong_rules(void **state) {
    (void)state;
    wr_op value = wr_op_exp, term = wr_op_exp;
    value.inverse = wrong_value;
    term.inverse = wrong_term;
    wr_graph *g = wr_graph_new();
    wr x = some_input(g, "x"), none = {g, 0};
    wr_check_report r = report_of(x, none, wr_unary_at(WR_HERE, &value, x));
    assert_false(r.passed || r.result[WR_CHECK_THERE_AND_BACK].passed ||
                 r.result[WR_CHECK_BACK_AND_THERE].passed);
    assert_true(r.result[WR_CHECK_JACOBIAN].passed);
    g = wr_graph_new();
    x = some_input(g, "x");
    none.g = g;
    r = report_of(x, none, wr_unary_at(WR_HERE, &term, x));
    assert_false(r.passed || r.result[WR_CHECK_JACOBIAN].passed);
    assert_true(r.result[WR_CHECK_THERE_AND_BACK].passed); /* both directions agree on it */
    assert_true(r.result[WR_CHECK_LOG_DETS].passed);
}

/* x2 + (what a reads of x1), masked, if `mask` is one. */
static wr additive(wr x, wr (*a)(wr part), wr mask) {
    wr part[2];
    wr_split(x, -1, 2, part);
    wr y = wr_concat(-1, part[0], wr_add(part[1], a(part[0])));
    return wr_is_poison(mask) ? y : wr_mask_apply(y, mask);
}
static wr from_the_end(wr part) { return wr_cumsum_with(part, 1, true, false); }
static wr mean_of_batch(wr part) { return wr_broadcast_like(wr_mean(part, 0), part); }

static void test_check_sees_leaks(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr x = some_input(g, "x");
    wr m = wr_sequence_mask(wr_input(g, "len", WR_I32, WR_DIMS(wr_dim_of(x, 0))), wr_dim_of(x, 1),
                            WR_F64);
    wr_check_report r = report_of(x, m, additive(x, from_the_end, m));
    assert_true(r.result[WR_CHECK_PADDING].done && r.result[WR_CHECK_LONGER].done);
    assert_false(r.result[WR_CHECK_PADDING].passed || r.result[WR_CHECK_LONGER].passed);
    assert_true(r.valid < r.elements);

    g = wr_graph_new();
    x = some_input(g, "x");
    r = report_of(x, (wr){g, 0}, additive(x, mean_of_batch, (wr){g, 0}));
    assert_true(r.result[WR_CHECK_SENTENCES].done && !r.result[WR_CHECK_SENTENCES].passed);
    assert_false(r.result[WR_CHECK_PADDING].done || r.passed);
}

static void test_check_errors(void **state) {
    (void)state;
    wr_check_report r;
    wr_error err = {0};
    wr_graph *g = wr_graph_new();
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(2), wr_n(3))), y = wr_exp(x);
    wr_bijection f = {.n_in = 1, .ins = &x, .n_out = 1, .outs = &y};
    assert_int_equal(wr_check_bijection(&f, NULL, &r, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "checked in f64"));
    wr z = some_input(g, "z"), bad = wr_relu(z);
    f = (wr_bijection){.n_in = 1, .ins = &z, .n_out = 1, .outs = &bad};
    err = (wr_error){0};
    wr_check_options o = {.n_sizes = 1, .sizes = &(wr_check_size){"T", 3}};
    assert_int_equal(wr_check_bijection(&f, &o, &r, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "size T = 3: legal are multiples of 2 in [2, 64]"));
    err = (wr_error){0};
    assert_int_equal(wr_check_bijection(&f, NULL, &r, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "maps all negative numbers to 0"));
    wr_graph_free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_actnorm_by_hand),
        cmocka_unit_test(test_coupling_by_hand),
        cmocka_unit_test(test_linear_by_hand),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_message),
        cmocka_unit_test(test_repeated_index),
        cmocka_unit_test(test_forms_of_graphs),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_gather_and_scatter),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_casts),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_cost),
        cmocka_unit_test(test_every_allocation),
        cmocka_unit_test(test_check_sees_wrong_rules),
        cmocka_unit_test(test_check_sees_leaks),
        cmocka_unit_test(test_check_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
