/* test_scan.c: loops, and the autoregressive layer whose inverse runs as one.
 *
 * The generated tests of test_ops.c check the rows; here: symbolic and zero steps, loops in loops,
 * messages, memory; and for the layer: there and back by steps and by whole evaluation, in f32 and
 * f64, with lengths, log-determinants against a numeric Jacobian, gradients through both directions
 * against differences, one position's work per step, and conditioners that are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/autoregressive.h"
#include "autodiff/check_bijection.h"
#include "autodiff/grad.h"
#include "autodiff/invert.h"
#include "helpers/alloc.h"
#include "helpers/sample.h"
#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/fuse.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/lstm.h"
#include "ops/mask.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/random_ops.h"
#include "ops/reduce.h"
#include "ops/scan.h"
#include "ops/slice.h"
#include "ops/softmax.h"
#include "ops/sort.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- loops ---- */

/* Sums so far, and the number of the step as a whole number. */
static bool running_sum(wr_scan_step *s) {
    s->next[0] = wr_add(s->carry[0], s->step[0]);
    s->out[0] = s->next[0];
    s->sum[0] = wr_square(s->step[0]);
    return true;
}

static void check_sums(int64_t steps) {
    test_case t;
    test_program p;
    test_case_begin(&t, WR_F64, 3, 0);
    wr_graph *g = t.sample.g;
    wr_dim n = wr_sym(g, "T", 0, 9, 1);
    wr x =
        test_case_input_as(&t, WR_FILL_REAL, 0, 2, (wr_dim[]){wr_n(2), n}, (int64_t[]){2, steps});
    wr first = test_case_input(&t, WR_FILL_REAL, 0, 1, (int64_t[]){2}), last, out, sum;
    wr_scan_spec spec = {.body = running_sum,
                         .n_carry = 1,
                         .carry = &first,
                         .n_step = 1,
                         .step = &x,
                         .n_out = 1,
                         .n_sum = 1,
                         .axis = 1};
    assert_true(wr_scan(&spec, &last, &out, &sum));
    test_program_open(&p, &t, 3, (wr[]){last, out, sum}, wr_standard_passes(), 2);
    test_program_run(&p, &t);
    for (int64_t b = 0; b < 2; b++) {
        double total = t.input[1].value[b], squares = 0;
        for (int64_t i = 0; i < steps; i++) {
            double v = t.input[0].value[b * steps + i];
            total += v;
            squares += v * v;
            assert_true(test_value(test_program_output(&p, 1), b * steps + i) == total);
        }
        assert_true(test_value(test_program_output(&p, 0), b) == total);
        assert_true(fabs(test_value(test_program_output(&p, 2), b) - squares) < 1e-12);
    }
    test_program_close(&p);
    test_case_end(&t);
}

static void test_symbolic_steps(void **state) {
    (void)state;
    for (int64_t steps = 1; steps < 8; steps += 2)
        check_sums(steps);
}

/* A loop over rows in a loop over columns: y = sum over i of tanh(sum so far + x[i, j]). */
static bool inner(wr_scan_step *s) {
    wr scale = *(wr *)s->context;
    s->next[0] = wr_tanh(wr_add(s->carry[0], wr_mul(s->step[0], scale)));
    return true;
}
static bool outer(wr_scan_step *s) {
    wr_scan_spec spec = {.body = inner,
                         .context = s->context,
                         .n_carry = 1,
                         .carry = s->carry,
                         .n_step = 1,
                         .step = s->step};
    bool ok = wr_scan(&spec, s->next, NULL, NULL);
    s->out[0] = s->next[0];
    return ok;
}

/* loss and its gradients by x and the scale, by a loop in a loop and by ordinary nodes. */
static void test_nested(void **state) {
    (void)state;
    test_case t;
    test_program p;
    test_case_begin(&t, WR_F64, 4, 0);
    wr x = test_case_input(&t, WR_FILL_REAL, 0, 2, (int64_t[]){3, 4});
    wr scale = test_case_input(&t, WR_FILL_REAL, 0, 0, NULL);
    wr first = wr_scalar(t.sample.g, WR_F64, 0.1), out, h = first, wrt[2] = {x, scale};
    wr_scan_spec spec = {.body = outer,
                         .context = &scale,
                         .n_carry = 1,
                         .carry = &first,
                         .n_step = 1,
                         .step = &x,
                         .n_out = 1,
                         .reverse = true};
    assert_true(wr_scan(&spec, NULL, &out, NULL));
    wr loss = wr_sum_all(wr_square(out)), plain = {t.sample.g, 0}, outputs[6];
    for (int i = 2; i >= 0; i--) {
        for (int j = 0; j < 4; j++)
            h = wr_tanh(wr_add(h, wr_mul(wr_index(wr_index(x, 0, i), 0, j), scale)));
        plain = plain.id == 0 ? wr_square(h) : wr_add(plain, wr_square(h));
    }
    outputs[0] = loss;
    outputs[3] = plain;
    assert_true(wr_grad(loss, 2, wrt, outputs + 1));
    assert_true(wr_grad(plain, 2, wrt, outputs + 4));
    test_program_open(&p, &t, 6, outputs, wr_standard_passes(), 2);
    test_program_run(&p, &t);
    for (int k = 0; k < 3; k++)
        assert_true(test_difference(test_program_output(&p, k), test_program_output(&p, 3 + k)) <
                    1e-13);
    test_program_close(&p);
    test_case_end(&t);
}

/* ---- messages ---- */

static bool bad_product(wr_scan_step *s) {
    s->next[0] = wr_matmul(s->carry[0], s->step[0]);
    return true;
}
static bool grows(wr_scan_step *s) {
    s->next[0] = wr_concat(1, s->carry[0], s->carry[0]);
    return true;
}
static bool draws(wr_scan_step *s) {
    s->next[0] = wr_dropout(s->carry[0], 0.5);
    return true;
}
static bool forgets(wr_scan_step *s) {
    (void)s;
    return true;
}

static void refused_scan(bool (*body)(wr_scan_step *s), const char *expected) {
    wr_graph *g = wr_graph_new();
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(5), wr_n(2), wr_n(7)));
    wr h = wr_input(g, "h", WR_F32, WR_DIMS(wr_n(2), wr_n(3))), last;
    wr_scan_spec spec = {
        .body = body, .n_carry = 1, .carry = &h, .n_step = 1, .step = &x, .axis = 0};
    assert_false(wr_scan(&spec, &last, NULL, NULL));
    wr_str s = {0};
    wr_graph_report(g, &s);
    if (strstr(wr_str_text(&s), expected) == NULL) fail_msg("%s", wr_str_text(&s));
    assert_int_equal(wr_graph_diagnostics(g), 1);
    wr_str_free(&s);
    wr_graph_free(g);
}

static void test_messages(void **state) {
    (void)state;
    refused_scan(bad_product, "in bad_product(): matmul: inner dimensions differ");
    refused_scan(grows, "a carried state keeps its type");
    refused_scan(draws, "draws random numbers");
    refused_scan(forgets, "left a result unset");
}

/* ---- layers ---- */

enum { MAX_WEIGHTS = 24 };

/* What a conditioner is made of: weights are inputs of the case, drawn once. */
typedef struct net {
    test_case *t;
    wr weight[MAX_WEIGHTS];
    int n, used;
    wr lengths, context; /* poison: none */
    int64_t c, d;
} net;

static wr next_weight(net *n, int rank, int64_t a, int64_t b) {
    if (n->used == n->n) {
        assert_true(n->n < MAX_WEIGHTS);
        wr w = test_case_input(n->t, WR_FILL_REAL, 0, rank, (int64_t[]){a, b});
        n->weight[n->n++] = wr_scale(w, 0.4);
    }
    return n->weight[n->used++];
}

static wr linear(net *n, wr x, int64_t from, int64_t to) {
    wr w = next_weight(n, 2, from, to), b = next_weight(n, 1, to, 1);
    return wr_add(wr_matmul(x, w), b);
}

static void two_params(net *n, wr h, wr *params) {
    wr all = linear(n, h, n->d, 2 * n->c), part[2];
    wr_split(all, 2, 2, part);
    params[0] = wr_scale(wr_tanh(part[0]), 0.7);
    params[1] = part[1];
}

/* A block of a Transformer: causal attention over h, attention to the context, a product. */
static bool with_attention(void *context, wr before, wr *params) {
    net *n = context;
    n->used = 0;
    wr h = linear(n, before, n->c, n->d), lengths = n->lengths;
    wr q = linear(n, h, n->d, n->d), k = linear(n, h, n->d, n->d), v = linear(n, h, n->d, n->d);
    wr_attention_options o = {.heads = 2, .causal = true}, cross = {.heads = 1};
    h = wr_add(h, wr_attention_with(q, k, v, lengths.g == NULL ? NULL : &lengths, &o));
    if (n->context.g != NULL)
        h = wr_add(h, wr_attention_with(h, n->context, n->context, NULL, &cross));
    h = wr_layer_norm(h, next_weight(n, 1, n->d, 1), next_weight(n, 1, n->d, 1), 1e-5);
    h = wr_add(h, wr_gelu(linear(n, h, n->d, n->d)));
    two_params(n, h, params);
    return true;
}

static wr all_positions(wr x) { /* [B] i32: T */
    wr one = wr_scalar(x.g, WR_I32, (double)wr_dim_literal(wr_dim_of(x, 1)));
    return wr_broadcast(one, WR_DIMS(wr_dim_of(x, 0)));
}

static bool with_lstm(void *context, wr before, wr *params) {
    net *n = context;
    n->used = 0;
    wr lengths = n->lengths.g != NULL ? n->lengths : all_positions(before);
    wr_lstm_result r = wr_lstm(.x = before, .wx = next_weight(n, 2, n->c, 4 * n->d),
                               .wh = next_weight(n, 2, n->d, 4 * n->d),
                               .bias = next_weight(n, 1, 4 * n->d, 1), .lengths = lengths);
    two_params(n, r.y, params);
    return true;
}

static bool cell(wr_scan_step *s) {
    wr *w = s->context;
    s->next[0] = wr_tanh(wr_add(wr_matmul(s->carry[0], w[0]), s->step[0]));
    s->out[0] = s->next[0];
    return true;
}

/* Other rows: two shifts, a convolution by a longer one, running sums, a loop, heads as an axis,
 * a table of positions, a first vector of its own, rows on both sides of a shift. */
static bool with_other_rows(void *context, wr before, wr *params) {
    net *n = context;
    n->used = 0;
    wr_graph *g = before.g;
    wr_dim b = wr_dim_of(before, 0), t = wr_dim_of(before, 1), d = wr_n(n->d);
    wr h = wr_tanh(linear(n, before, n->c, n->d));
    wr start = wr_broadcast(next_weight(n, 1, n->d, 1), WR_DIMS(b, wr_n(1), d));
    wr shifted = wr_concat(1, start, wr_slice(h, 1, 0, -1));
    wr two = wr_pad(wr_slice(h, 1, 0, -2), 1, 2, 0);
    wr table = wr_reshape(wr_iota(g, t, wr_dtype_of(before)), WR_DIMS(t, wr_n(1)));
    h = wr_add(wr_add(h, wr_mul(two, next_weight(n, 1, n->d, 1))), wr_scale(shifted, 0.5));
    h = wr_add(h, wr_broadcast(wr_scale(table, 0.1), WR_DIMS(t, d)));
    wr sums = wr_add(wr_cumsum(h, 1), wr_cumsum_with(h, 1, false, true));
    wr u = next_weight(n, 2, n->d, n->d), zero = wr_scalar(g, wr_dtype_of(before), 0.0), out;
    wr first = wr_broadcast(zero, WR_DIMS(b, d));
    wr_scan_spec spec = {.body = cell,
                         .context = &u,
                         .n_carry = 1,
                         .carry = &first,
                         .n_step = 1,
                         .step = &h,
                         .n_out = 1,
                         .axis = 1};
    if (!wr_scan(&spec, NULL, &out, NULL)) return false;
    wr heads = wr_reshape(wr_add(out, wr_tanh(wr_scale(sums, 0.2))),
                          WR_DIMS(b, t, wr_n(2), wr_n(n->d / 2)));
    heads = wr_softmax(wr_permute(heads, 0, 2, 1, 3));
    h = wr_reshape(wr_permute(heads, 0, 2, 1, 3), WR_DIMS(b, t, d));
    two_params(n,
               wr_sub(h, wr_broadcast(wr_reshape(wr_mean(h, 2), WR_DIMS(b, t, wr_n(1))),
                                      WR_DIMS(b, t, d))),
               params);
    return true;
}

/* Attention by hand, for which no step form is known. */
static bool by_hand(void *context, wr before, wr *params) {
    net *n = context;
    n->used = 0;
    wr h = linear(n, before, n->c, n->d), t = wr_iota(before.g, wr_dim_of(before, 1), WR_F64);
    wr_dim size = wr_dim_of(before, 1);
    wr q = wr_broadcast(wr_reshape(wr_shift(t, 0.5), WR_DIMS(size, wr_n(1))), WR_DIMS(size, size));
    wr p = wr_softmax_masked(wr_matmul_nt(h, h), wr_cast(wr_less(t, q), wr_dtype_of(h)));
    two_params(n, wr_matmul(p, h), params);
    return true;
}

/* y = softplus-like in x, with a scale: a transform that is not affine. */
static wr curved(void *context, wr x, const wr *params) {
    (void)context;
    wr y = wr_add(wr_mul(x, wr_exp(params[0])), params[1]);
    return wr_add(wr_scale(wr_atanh(wr_scale(wr_tanh(wr_scale(y, 0.4)), 0.9)), 2.5),
                  wr_scale(params[1], 0.3));
}

typedef struct shape {
    int64_t b, t, c;
    int64_t length[4]; /* all 0: no lengths */
    int64_t d;         /* width inside; 0: 4 */
} shape;

/* One layer, its inverse and its log-determinants. */
typedef struct subject {
    test_case t;
    net n;
    shape s;
    wr x, y, back, log_det, log_det_back;
} subject;

typedef bool (*conditioner)(void *context, wr before, wr *params);

static void set_lengths(subject *u) {
    test_input *x = &u->t.input[u->t.n_inputs - 1];
    for (int64_t b = 0; b < u->s.b; b++)
        x->value[b] = (double)u->s.length[b];
    test_input_sync(x);
}

static void fail_with_report(const subject *u) {
    wr_str s = {0};
    wr_graph_report(u->t.sample.g, &s);
    fail_msg("%s", wr_str_text(&s));
}

static wr declare(subject *u, conditioner f, bool bent, bool whole) {
    u->n.used = 0;
    return wr_autoregressive(.x = u->x, .lengths = u->n.lengths, .conditioner = f,
                             .transform = bent ? curved : NULL, .n_params = 2, .context = &u->n,
                             .whole = whole);
}

static void begin(subject *u, wr_dtype dtype, shape s, conditioner f, bool bent, bool whole) {
    memset(u, 0, sizeof *u);
    u->s = s;
    test_case_begin(&u->t, dtype, 11, 0);
    u->n = (net){.t = &u->t, .c = s.c, .d = s.d > 0 ? s.d : 4};
    u->x = test_case_input(&u->t, WR_FILL_REAL, 0, 3, (int64_t[]){s.b, s.t, s.c});
    if (s.length[0] > 0) {
        u->n.lengths = test_case_input(&u->t, WR_FILL_LENGTH, s.t, 1, (int64_t[]){s.b});
        set_lengths(u);
        u->n.context = test_case_input(&u->t, WR_FILL_REAL, 0, 3, (int64_t[]){s.b, 3, 4});
    }
    u->y = declare(u, f, bent, whole);
    wr_bijection b = {.n_in = 1, .ins = &u->x, .n_out = 1, .outs = &u->y};
    u->log_det = wr_log_det(&b);
    wr value = wr_leaf(u->y);
    if (!wr_invert(&b, &value, &u->back, &u->log_det_back)) fail_with_report(u);
}

static bool is_data(const subject *u, int64_t b, int64_t t) {
    return u->s.length[0] == 0 || t < u->s.length[b];
}

/* x at data positions, 0 at padding. */
static double expected_back(const subject *u, int64_t i) {
    int64_t t = i / u->s.c % u->s.t, b = i / (u->s.c * u->s.t);
    return is_data(u, b, t) ? u->t.input[0].value[i] : 0;
}

static void check_there_and_back(wr_dtype dtype, shape s, conditioner f, bool bent, bool whole,
                                 double bound, double *worst) {
    subject u;
    test_program p;
    begin(&u, dtype, s, f, bent, whole);
    wr outputs[4] = {u.y, u.back, u.log_det, u.log_det_back};
    test_program_open(&p, &u.t, 4, outputs, wr_standard_passes(), 2);
    test_program_run(&p, &u.t);
    const wr_tensor *y = test_program_output(&p, 0), *back = test_program_output(&p, 1);
    for (int64_t i = 0; i < back->n; i++) {
        double x = expected_back(&u, i), error = fabs(test_value(back, i) - x) / (1 + fabs(x));
        *worst = fmax(*worst, error);
        if (!(error < bound)) fail_msg("element %lld is %g off", (long long)i, error);
        if (!is_data(&u, i / (s.c * s.t), i / s.c % s.t)) assert_true(test_value(y, i) == 0.0);
    }
    for (int64_t b = 0; b < s.b; b++) {
        double sum =
            test_value(test_program_output(&p, 2), b) + test_value(test_program_output(&p, 3), b);
        assert_true(fabs(sum) < bound * 10 * (double)(s.t * s.c));
    }
    test_program_close(&p);
    test_case_end(&u.t);
}

static const shape SHAPES[] = {{1, 1, 2, {0}, 0},
                               {3, 5, 2, {0}, 0},
                               {2, 4, 3, {0}, 0},
                               {4, 7, 2, {7, 1, 4, 6}, 0},
                               {2, 3, 1, {2, 3}, 0}};

static void there_and_back(conditioner f, bool whole, const char *name) {
    double f32 = 0, f64 = 0;
    for (size_t i = f == with_other_rows; i < sizeof SHAPES / sizeof *SHAPES; i++) {
        check_there_and_back(WR_F32, SHAPES[i], f, i % 2 == 1, whole, 1e-5, &f32);
        check_there_and_back(WR_F64, SHAPES[i], f, i % 2 == 1, whole, 1e-10, &f64);
    }
    print_message("%-22s %s  f32 %.1e  f64 %.1e\n", name, whole ? "whole" : "steps", f32, f64);
}

static void test_there_and_back(void **state) {
    (void)state;
    for (int whole = 0; whole < 2; whole++) {
        there_and_back(with_attention, whole, "attention");
        there_and_back(with_lstm, whole, "lstm");
        there_and_back(with_other_rows, whole, "other rows");
    }
    there_and_back(by_hand, true, "attention by hand");
}

/* ---- log-determinants ---- */

/* log |det| of a square matrix by elimination with pivots. */
static double log_abs_det(int64_t n, double *a) {
    double sum = 0;
    for (int64_t k = 0; k < n; k++) {
        int64_t best = k;
        for (int64_t i = k + 1; i < n; i++)
            if (fabs(a[i * n + k]) > fabs(a[best * n + k])) best = i;
        for (int64_t j = 0; j < n; j++) {
            double swap = a[k * n + j];
            a[k * n + j] = a[best * n + j];
            a[best * n + j] = swap;
        }
        sum += log(fabs(a[k * n + k]));
        for (int64_t i = k + 1; i < n; i++) {
            double factor = a[i * n + k] / a[k * n + k];
            for (int64_t j = k; j < n; j++)
                a[i * n + j] -= factor * a[k * n + j];
        }
    }
    return sum;
}

/* The Jacobian of sentence b, data positions only, by 4-point differences. */
static double numeric_log_det(subject *u, test_program *p, int64_t b) {
    static const double at[4] = {-2, -1, 1, 2}, weight[4] = {1, -8, 8, -1}, step = 1e-3;
    int64_t length = u->s.length[0] > 0 ? u->s.length[b] : u->s.t, n = length * u->s.c;
    double *jacobian = calloc((size_t)(n * n) + 1, sizeof *jacobian);
    int64_t base = b * u->s.t * u->s.c;
    assert_non_null(jacobian);
    for (int64_t j = 0; j < n; j++) {
        double *x = &u->t.input[0].value[base + j], kept = *x;
        for (int k = 0; k < 4; k++) {
            *x = kept + at[k] * step;
            test_input_sync(&u->t.input[0]);
            test_program_run(p, &u->t);
            for (int64_t i = 0; i < n; i++)
                jacobian[i * n + j] +=
                    weight[k] * test_value(test_program_output(p, 0), base + i) / (12 * step);
        }
        *x = kept;
    }
    test_input_sync(&u->t.input[0]);
    double value = log_abs_det(n, jacobian);
    free(jacobian);
    return value;
}

static double check_log_det(shape s, conditioner f, bool bent) {
    subject u;
    test_program p, forward;
    double worst = 0;
    begin(&u, WR_F64, s, f, bent, false);
    test_program_open(&p, &u.t, 2, (wr[]){u.log_det, u.log_det_back}, NULL, 1);
    test_program_open(&forward, &u.t, 1, &u.y, NULL, 1);
    test_program_run(&p, &u.t);
    for (int64_t b = 0; b < s.b; b++) {
        double numeric = numeric_log_det(&u, &forward, b);
        double there = test_value(test_program_output(&p, 0), b);
        double back = test_value(test_program_output(&p, 1), b);
        double error = fmax(fabs(there - numeric), fabs(back + numeric)) / (1 + fabs(numeric));
        worst = fmax(worst, error);
        if (!(error < 1e-8))
            fail_msg("sentence %lld: %.12g and %.12g, numeric %.12g", (long long)b, there, back,
                     numeric);
    }
    test_program_close(&p);
    test_program_close(&forward);
    test_case_end(&u.t);
    return worst;
}

static void test_log_dets(void **state) {
    (void)state;
    conditioner const all[] = {with_attention, with_lstm, with_other_rows};
    for (int f = 0; f < 3; f++) {
        double worst = 0;
        for (size_t i = f == 2; i < sizeof SHAPES / sizeof *SHAPES; i++) /* two shifts: T > 1 */
            worst = fmax(worst, check_log_det(SHAPES[i], all[f], i % 2 == 0));
        print_message("log-determinants, conditioner %d: %.1e of the numeric ones\n", f, worst);
    }
}

/* ---- gradients ---- */

/* loss = sum(back c1) + sum(log dets c2); its gradient by every real input, along one direction. */
static void check_gradients(conditioner f, shape s, bool whole, bool inverse) {
    subject u;
    test_program p;
    wr wrt[TEST_INPUTS], grads[TEST_INPUTS + 1];
    int which[TEST_INPUTS], n = 0;
    begin(&u, WR_F64, s, f, !inverse, whole); /* the bent one has not all reals as its values */
    wr y = test_case_input(&u.t, WR_FILL_REAL, 0, 3, (int64_t[]){s.b, s.t, s.c});
    wr_bijection b = {.n_in = 1, .ins = &u.x, .n_out = 1, .outs = &u.y};
    wr value = u.y, log_det = u.log_det;
    if (inverse && !wr_invert(&b, &y, &value, &log_det)) fail_with_report(&u);
    wr loss = wr_add(wr_sum_all(wr_square(value)), wr_sum_all(log_det));
    for (int i = 0; i < u.t.n_inputs; i++)
        if (test_input_is_smooth(&u.t.input[i])) {
            wrt[n] = u.t.input[i].node;
            which[n++] = i;
        }
    if (!wr_grad(loss, n, wrt, grads + 1)) fail_with_report(&u);
    grads[0] = loss;
    test_program_open(&p, &u.t, n + 1, grads, wr_standard_passes(), 2);
    for (int i = 0; i < n; i++) {
        test_input *x = &u.t.input[which[i]];
        double numeric = 0, along = 0;
        static const double at[4] = {-2, -1, 1, 2}, weight[4] = {1, -8, 8, -1};
        test_program_run(&p, &u.t);
        for (int64_t e = 0; e < x->n; e++)
            along += test_value(test_program_output(&p, 1 + i), e) * ((double)(e % 3) - 0.6);
        for (int k = 0; k < 4; k++) {
            for (int pass = 0; pass < 2; pass++) {
                double sign = pass == 0 ? at[k] : -at[k];
                for (int64_t e = 0; e < x->n; e++)
                    x->value[e] += sign * 1e-4 * ((double)(e % 3) - 0.6);
                test_input_sync(x);
                if (pass == 0) test_program_run(&p, &u.t);
                if (pass == 0) numeric += weight[k] * test_value(test_program_output(&p, 0), 0);
            }
        }
        numeric /= 12e-4;
        if (!(fabs(numeric - along) < 1e-6 * (1 + fabs(numeric))))
            fail_msg("input %d: %.10g, by differences %.10g", which[i], along, numeric);
    }
    test_program_close(&p);
    test_case_end(&u.t);
}

static void test_gradients(void **state) {
    (void)state;
    conditioner const all[] = {with_attention, with_lstm, with_other_rows};
    for (int f = 0; f < 3; f++)
        for (int whole = 0; whole < 2; whole++)
            for (int inverse = 0; inverse < 2; inverse++)
                check_gradients(all[f], SHAPES[3], whole, inverse);
}

/* ---- one position's work per step ---- */

static double flops_of_inverse(int64_t t, conditioner f, bool whole) {
    subject u;
    test_program p;
    begin(&u, WR_F32, (shape){.b = 2, .t = t, .c = 2, .d = 64}, f, false, whole);
    wr y = test_case_input(&u.t, WR_FILL_REAL, 0, 3, (int64_t[]){2, t, 2}), back;
    wr_bijection b = {.n_in = 1, .ins = &u.x, .n_out = 1, .outs = &u.y};
    assert_true(wr_invert(&b, &y, &back, NULL));
    test_program_open(&p, &u.t, 1, &back, wr_standard_passes(), 1);
    test_program_run(&p, &u.t);
    double flops = wr_session_plan(p.session)->flops;
    test_program_close(&p);
    test_case_end(&u.t);
    return flops;
}

/* The cost of attention itself grows with the number of positions, hence the factors. */
static void test_cost(void **state) {
    (void)state;
    double lstm[2], attention[2], whole[2];
    for (int i = 0; i < 2; i++) {
        int64_t t = 16 << i;
        lstm[i] = flops_of_inverse(t, with_lstm, false);
        attention[i] = flops_of_inverse(t, with_attention, false);
        whole[i] = flops_of_inverse(t, with_lstm, true);
    }
    print_message("twice as many positions: lstm %.2f, attention %.2f, whole evaluation %.2f times "
                  "the work\n",
                  lstm[1] / lstm[0], attention[1] / attention[0], whole[1] / whole[0]);
    assert_true(lstm[1] < 2.05 * lstm[0]);
    assert_true(attention[1] < 3 * attention[0]);
    assert_true(whole[1] > 3.5 * whole[0]);
    assert_true(whole[1] > 10 * lstm[1]);
}

/* Symbolic sizes, several of them through one program; threads give the same bits. */
static void test_symbolic_layer(void **state) {
    (void)state;
    test_kept kept[3][2];
    for (int threads = 1; threads <= 7; threads += 3)
        for (int64_t k = 0; k < 2; k++) {
            int64_t b = 2 + k, t = 5 + 2 * k;
            test_case c;
            test_program p;
            test_case_begin(&c, WR_F32, 21, 0);
            wr_graph *g = c.sample.g;
            wr_dim dims[3] = {wr_sym(g, "B", 1, 9, 1), wr_sym(g, "T", 1, 50, 1), wr_n(2)};
            wr x = test_case_input_as(&c, WR_FILL_REAL, 0, 3, dims, (int64_t[]){b, t, 2});
            wr lengths = test_case_input_as(&c, WR_FILL_LENGTH, t, 1, dims, (int64_t[]){b});
            net n = {.t = &c, .c = 2, .d = 4, .lengths = lengths};
            wr y = wr_autoregressive(.x = x, .lengths = lengths, .conditioner = with_attention,
                                     .context = &n);
            y = wr_autoregressive(.x = y, .lengths = lengths, .conditioner = with_lstm,
                                  .context = &(net){.t = &c, .c = 2, .d = 4, .lengths = lengths});
            wr value = wr_leaf(y), back, log_det;
            wr_bijection f = {.n_in = 1, .ins = &x, .n_out = 1, .outs = &y};
            wr mask = wr_sequence_mask(lengths, dims[1], WR_F32);
            f.masks = &mask;
            assert_true(wr_invert(&f, &value, &back, &log_det));
            wr off = wr_sub(back, wr_mask_apply(x, mask));
            test_program_open(&p, &c, 2, (wr[]){off, log_det}, wr_standard_passes(), threads);
            test_program_run(&p, &c);
            for (int64_t i = 0; i < test_program_output(&p, 0)->n; i++)
                assert_true(fabs(test_value(test_program_output(&p, 0), i)) < 2e-5);
            if (threads == 1) kept[0][k] = test_keep(test_program_output(&p, 1));
            assert_true(test_same_bits(&kept[0][k].tensor, test_program_output(&p, 1)));
            if (threads == 7) test_forget(&kept[0][k]);
            test_program_close(&p);
            test_case_end(&c);
        }
}

/* ---- conditioners that are refused ---- */

static wr outside; /* what a careless conditioner reads: set by the test that uses it */

static bool reads_x(void *context, wr before, wr *params) {
    (void)context;
    params[0] = wr_tanh(before);
    params[1] = wr_scale(outside, 0.5);
    return true;
}
static bool looks_ahead(void *context, wr before, wr *params) {
    (void)context;
    params[0] =
        wr_attention_with(before, before, before, NULL, &(wr_attention_options){.heads = 1});
    params[1] = before;
    return true;
}
static bool averages(void *context, wr before, wr *params) {
    (void)context;
    params[0] = before;
    params[1] = wr_broadcast(
        wr_reshape(wr_mean(before, 1), WR_DIMS(wr_dim_of(before, 0), wr_n(1), wr_n(2))),
        WR_DIMS(wr_dim_of(before, 0), wr_dim_of(before, 1), wr_n(2)));
    return true;
}
static bool backwards(void *context, wr before, wr *params) {
    (void)context;
    params[0] = before;
    params[1] = wr_cumsum_with(before, 1, true, false);
    return true;
}
static bool harmless(void *context, wr before, wr *params) {
    (void)context;
    params[0] = params[1] = before;
    return true;
}
static bool drops(void *context, wr before, wr *params) {
    (void)context;
    params[0] = params[1] = wr_dropout(before, 0.5);
    return true;
}
static wr sums_positions(void *context, wr x, const wr *params) {
    (void)context;
    return wr_add(wr_cumsum(x, 1), params[1]);
}

static void refused(conditioner f, wr (*transform)(void *, wr, const wr *), const char *expected) {
    wr_graph *g = wr_graph_new();
    wr x = outside = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(2), wr_n(5), wr_n(2)));
    wr y = wr_autoregressive(.x = x, .conditioner = f, .transform = transform, .n_params = 2);
    assert_true(wr_is_poison(y));
    wr_str s = {0};
    wr_graph_report(g, &s);
    if (strstr(wr_str_text(&s), expected) == NULL) fail_msg("%s", wr_str_text(&s));
    assert_int_equal(wr_graph_diagnostics(g), 1);
    wr_str_free(&s);
    wr_graph_free(g);
}

static void test_refusals(void **state) {
    (void)state;
    refused(reads_x, NULL, "a parameter at position t depends on x at t");
    refused(looks_ahead, NULL, "it attends to all positions");
    refused(averages, NULL, "it reduces over positions");
    refused(backwards, NULL, "it sums from the end");
    refused(harmless, sums_positions, "the transform reads other positions");
}

/* Dropout is for training: there is a log-determinant, but no inverse. */
static void test_dropout(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(2), wr_n(5), wr_n(2))), back;
    wr y = wr_autoregressive(.x = x, .conditioner = drops);
    wr_bijection f = {.n_in = 1, .ins = &x, .n_out = 1, .outs = &y};
    assert_false(wr_is_poison(wr_log_det(&f)));
    assert_true(wr_graph_ok(g));
    wr value = wr_leaf(y);
    assert_false(wr_invert(&f, &value, &back, NULL));
    wr_str s = {0};
    wr_graph_report(g, &s);
    if (strstr(wr_str_text(&s), "draws random numbers") == NULL) fail_msg("%s", wr_str_text(&s));
    assert_int_equal(wr_graph_diagnostics(g), 1);
    wr_str_free(&s);
    wr_graph_free(g);
}

/* All that is checked of bijections, among it that padding has no influence. */
static void test_checker(void **state) {
    (void)state;
    conditioner const all[] = {with_attention, with_lstm, with_other_rows};
    for (int k = 0; k < 3; k++) {
        test_case t;
        test_case_begin(&t, WR_F64, 5, 0);
        wr_graph *g = t.sample.g;
        wr_dim dims[3] = {wr_sym(g, "B", 1, 9, 1), wr_sym(g, "T", 3, 20, 1), wr_n(2)};
        wr x = wr_input(g, "x", WR_F64, 3, dims), lengths = wr_input(g, "lengths", WR_I32, 1, dims);
        net n = {.t = &t, .c = 2, .d = 4, .lengths = lengths};
        wr y = wr_autoregressive(.x = x, .lengths = lengths, .conditioner = all[k], .context = &n);
        wr mask = wr_sequence_mask(lengths, dims[1], WR_F64);
        wr_bijection f = {.n_in = 1, .ins = &x, .masks = &mask, .n_out = 1, .outs = &y};
        wr_check_report report;
        wr_error err = {0};
        if (wr_check_bijection(&f, NULL, &report, &err) != WR_OK) fail_msg("%s", err.text);
        if (!report.passed) wr_check_print(&report, stdout);
        assert_true(report.passed);
        for (int i = 0; i < WR_CHECKS; i++)
            assert_true(report.result[i].done);
        test_case_end(&t);
    }
}

/* ---- memory ---- */

static wr_status build_and_run(wr_error *err) {
    static const float data[2 * 4 * 2] = {1, 2, 3};
    wr_graph *g = wr_graph_new();
    wr_program *p = NULL;
    wr_session *s = NULL;
    if (g == NULL) return wr_fail_memory(err, "a graph", 0);
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(2), wr_n(4), wr_n(2))), value, back, grad = {g, 0};
    wr y = wr_autoregressive(.x = x, .conditioner = harmless, .n_params = 2);
    wr_bijection f = {.n_in = 1, .ins = &x, .n_out = 1, .outs = &y};
    value = wr_leaf(y);
    if (wr_invert(&f, &value, &back, NULL)) wr_grad(wr_sum_all(back), 1, &x, &grad);
    wr_status status = wr_graph_status(g, err);
    if (status == WR_OK) status = wr_program_new(g, 1, &grad, wr_standard_passes(), &p, err);
    if (status == WR_OK) status = wr_session_new(&(wr_session_options){.threads = 1}, &s, err);
    wr_feed feed = {.name = "x", .data = data, .rank = 3, .dim = {2, 4, 2}};
    if (status == WR_OK) status = wr_session_run(s, p, 1, &feed, err);
    wr_session_free(s);
    wr_program_free(p);
    wr_graph_free(g);
    return status;
}

static void test_memory(void **state) {
    (void)state;
    wr_error plain = {0};
    wr_test_watch_allocations();
    if (build_and_run(&plain) != WR_OK) fail_msg("%s", plain.text);
    assert_int_equal(wr_test_unfreed_allocations(), 0);
    for (long n = 1;; n += 1 + n / 40) {
        wr_error err = {0};
        wr_test_watch_allocations();
        wr_test_fail_allocation(n);
        wr_status status = build_and_run(&err);
        bool failed = wr_test_allocation_failed();
        assert_int_equal(wr_test_unfreed_allocations(), 0);
        if (!failed) break;
        if (status != WR_ERR_MEMORY && status != WR_OK)
            fail_msg("allocation %ld: status %d, %s", n, (int)status, err.text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_symbolic_steps), cmocka_unit_test(test_nested),
        cmocka_unit_test(test_messages),       cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_log_dets),       cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_cost),           cmocka_unit_test(test_symbolic_layer),
        cmocka_unit_test(test_refusals),       cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_checker),        cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
