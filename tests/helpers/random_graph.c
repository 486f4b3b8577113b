/* random_graph.c: see random_graph.h. Values stay small: rows that grow work on squashed operands.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "helpers/random_graph.h"

#include "autodiff/grad.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/slice.h"
#include "ops/softmax.h"
#include "ops/sort.h"

#include <string.h>

static int64_t draw(random_graph *r, int64_t low, int64_t high) {
    return wr_sample_int(&r->t.sample, low, high);
}

static void add(random_graph *r, wr x) {
    if (!wr_is_poison(x) && r->n < RANDOM_POOL) r->pool[r->n++] = x;
}

/* Any node; recent ones more often, so that graphs get deep. */
static wr any(random_graph *r) {
    int64_t from = draw(r, 0, 2) == 0 ? 0 : r->n * 2 / 3;
    return r->pool[draw(r, from, r->n - 1)];
}

static bool is_suffix(wr longer, wr shorter) {
    wr_type a = wr_type_of(longer), b = wr_type_of(shorter);
    for (int i = 1; i <= b.rank; i++)
        if (i > a.rank || !wr_dim_same(a.dim[a.rank - i], b.dim[b.rank - i])) return false;
    return true;
}

/* A node that is a suffix of x; x itself when none is met. */
static wr suffix_of(random_graph *r, wr x) {
    for (int tries = 0; tries < 12; tries++) {
        wr y = any(r);
        if (is_suffix(x, y)) return y;
    }
    return x;
}

static wr same_size(random_graph *r, wr x) {
    for (int tries = 0; tries < 12; tries++) {
        wr y = any(r);
        if (wr_rank(y) == wr_rank(x) && is_suffix(x, y)) return y;
    }
    return wr_scale(x, 0.5);
}

/* ---- steps ---- */

static void add_unary(random_graph *r) {
    wr x = any(r);
    switch (draw(r, 0, r->o.smooth ? 11 : 13)) {
    case 0:
        add(r, wr_tanh(x));
        break;
    case 1:
        add(r, wr_sigmoid(x));
        break;
    case 2:
        add(r, wr_softplus(x));
        break;
    case 3:
        add(r, wr_gelu(x));
        break;
    case 4:
        add(r, wr_neg(x));
        break;
    case 5:
        add(r, wr_scale(x, (double)draw(r, -3, 3) / 2));
        break;
    case 6:
        add(r, wr_shift(x, (double)draw(r, -2, 2)));
        break;
    case 7:
        add(r, wr_square(wr_tanh(x)));
        break;
    case 8:
        add(r, wr_exp(wr_tanh(x)));
        break;
    case 9:
        add(r, wr_log(wr_shift(wr_square(x), 1.0)));
        break;
    case 10:
        add(r, wr_erf(x));
        break;
    case 11:
        add(r, wr_rsqrt(wr_shift(wr_square(x), 1.0)));
        break;
    case 12:
        add(r, wr_relu(x));
        break;
    default:
        add(r, wr_abs(x));
        break;
    }
}

static void add_binary(random_graph *r) {
    wr x = any(r), y = suffix_of(r, x);
    bool swap = draw(r, 0, 1) == 0;
    wr a = swap ? y : x, b = swap ? x : y;
    switch (draw(r, 0, r->o.smooth ? 5 : 7)) {
    case 0:
    case 1:
        add(r, wr_add(a, b));
        break;
    case 2:
        add(r, wr_sub(a, b));
        break;
    case 3:
        add(r, wr_mul(wr_tanh(a), b));
        break;
    case 4:
        add(r, wr_div(a, wr_shift(wr_square(b), 1.0)));
        break;
    case 5:
        add(r, wr_add(a, wr_neg(b)));
        break;
    case 6:
        add(r, wr_maximum(a, b));
        break;
    default:
        add(r, wr_select(wr_less(a, b), a, b));
        break;
    }
}

/* Constants that simplification looks for. */
static void add_constant(random_graph *r) {
    wr x = any(r), k = wr_scalar(r->t.sample.g, r->o.dtype, (double)draw(r, 0, 2));
    if (wr_rank(x) == 0) return;
    switch (draw(r, 0, 3)) {
    case 0:
        add(r, wr_mul(k, x));
        break;
    case 1:
        add(r, wr_add(x, k));
        break;
    case 2:
        add(r, wr_scale(wr_scale(x, 0.5), (double)draw(r, 1, 2)));
        break;
    default:
        add(r, wr_neg(wr_neg(x)));
        break;
    }
}

static void add_reduction(random_graph *r) {
    wr x = any(r);
    if (wr_rank(x) == 0) return;
    int axis = (int)draw(r, 0, wr_rank(x) - 1);
    wr kept = wr_mean(x, axis);
    if (!r->o.smooth && draw(r, 0, 3) == 0) kept = wr_max(x, axis);
    add(r, kept);
    wr_type t = wr_type_of(x), one = t; /* and repeated back, as in a normalisation */
    one.dim[axis] = wr_n(1);
    if (draw(r, 0, 1) == 0)
        add(r, wr_sub(x, wr_broadcast(wr_reshape(kept, one.rank, one.dim), t.rank, t.dim)));
}

static void add_layout(random_graph *r) {
    wr x = any(r);
    wr_type t = wr_type_of(x);
    if (t.rank < 2) return;
    switch (draw(r, 0, 3)) {
    case 0:
        add(r, wr_transpose(x, 0, (int)draw(r, 1, t.rank - 1)));
        break;
    case 1: { /* to one axis and back */
        wr_dim all = wr_n(1);
        for (int i = 0; i < t.rank; i++)
            all = wr_dim_mul(r->t.sample.g, all, t.dim[i]);
        if (all.id != 0) add(r, wr_reshape(wr_tanh(wr_reshape(x, 1, &all)), t.rank, t.dim));
        break;
    }
    case 2:
        add(r, wr_concat(-1, x, same_size(r, x)));
        break;
    default:
        if (wr_dim_is_literal(t.dim[t.rank - 1]) && wr_dim_literal(t.dim[t.rank - 1]) > 1)
            add(r, wr_slice(x, -1, 1, 0));
        break;
    }
}

/* Products as layers use them: with a bias and an activation, or added to something. */
static void add_product(random_graph *r) {
    wr x = any(r), w = any(r);
    for (int tries = 0; tries < 20; tries++) {
        if (wr_rank(x) >= 2 && wr_rank(w) == 2 && wr_dim_same(wr_dim_of(x, -1), wr_dim_of(w, 0)))
            break;
        x = any(r);
        w = any(r);
    }
    if (wr_rank(x) < 2) return;
    bool fits = wr_rank(w) == 2 && wr_dim_same(wr_dim_of(x, -1), wr_dim_of(w, 0));
    wr y = fits ? wr_matmul(x, wr_tanh(w)) : wr_matmul_nt(wr_tanh(x), same_size(r, x));
    y = draw(r, 0, 1) == 0 ? wr_scale(y, 0.5) : y;
    add(r, y);
    switch (draw(r, 0, 4)) {
    case 0:
        add(r, wr_add(y, suffix_of(r, y)));
        break;
    case 1:
        add(r, wr_gelu(wr_add(y, suffix_of(r, y))));
        break;
    case 2:
        add(r, wr_add(wr_tanh(same_size(r, y)), y));
        break;
    default:
        break;
    }
}

static void add_softmax(random_graph *r) {
    wr x = any(r);
    if (wr_rank(x) == 0) return;
    switch (draw(r, 0, 3)) {
    case 0:
        add(r, wr_softmax(x));
        break;
    case 1:
        add(r, wr_log_softmax(x));
        break;
    case 2:
        add(r, wr_logsumexp(x));
        break;
    default:
        add(r, wr_cumsum(wr_softmax(x), -1));
        break;
    }
}

static void add_step(random_graph *r) {
    int64_t kind = draw(r, 0, 19);
    if (kind < 6)
        add_unary(r);
    else if (kind < 12)
        add_binary(r);
    else if (kind < 13)
        add_constant(r);
    else if (kind < 15)
        add_reduction(r);
    else if (kind < 16)
        add_layout(r);
    else if (kind < 18)
        add_product(r);
    else if (kind < 19)
        add_softmax(r);
    else
        add(r, wr_stop_gradient(any(r)));
}

/* ---- the whole ---- */

static void add_input(random_graph *r, int rank, const int *axes) {
    wr_dim declared[WR_MAX_RANK];
    int64_t dims[WR_MAX_RANK];
    for (int i = 0; i < rank; i++) {
        declared[i] = axes[i] < 0 ? wr_n(1) : r->dim[axes[i]];
        dims[i] = axes[i] < 0 ? 1 : r->size[axes[i]];
    }
    add(r, test_case_input_as(&r->t, WR_FILL_REAL, 0, rank, declared, dims));
}

static void add_sources(random_graph *r) {
    wr_graph *g = r->t.sample.g;
    add_input(r, 3, (int[]){0, 1, 2});
    add_input(r, 2, (int[]){1, 2});
    add_input(r, 2, (int[]){0, 2});
    add_input(r, 1, (int[]){2});
    add(r, wr_param(g, "square", r->o.dtype, WR_DIMS(r->dim[2], r->dim[2]),
                    (wr_init){WR_INIT_NORMAL, 0, 0.5}));
    add(r, wr_param(g, "bias", r->o.dtype, WR_DIMS(r->dim[2]), (wr_init){WR_INIT_UNIFORM, -1, 1}));
    add(r, wr_reshape(r->pool[0], WR_DIMS(wr_dim_mul(g, r->dim[0], r->dim[1]), r->dim[2])));
    int behind[3] = {0, 1, -1};
    add_input(r, 3, behind);
    wr column = r->pool[r->n - 1];
    add(r, wr_mul(r->pool[0], wr_broadcast_like(column, r->pool[0])));
}

/* The loss reads some nodes, and the first input so that every symbol gets a value; the gradients
 * are by all inputs and parameters. */
static void add_outputs(random_graph *r) {
    wr wrt[RANDOM_OUTPUTS], loss = wr_mean_all(wr_tanh(r->pool[0]));
    int n_wrt = 0;
    for (int i = 0; i < 4; i++) {
        wr x = r->pool[i < 2 ? r->n - 1 - i : draw(r, 0, r->n - 1)];
        wr term = wr_mean_all(wr_square(wr_tanh(x)));
        loss = wr_add(loss, term);
        r->output[1 + i] = x;
    }
    r->output[0] = loss;
    r->n_values = r->n_outputs = 5;
    for (int i = 0; i < r->t.n_inputs; i++)
        wrt[n_wrt++] = r->t.input[i].node;
    wrt[n_wrt++] = r->pool[4];
    wrt[n_wrt++] = r->pool[5];
    if (!wr_grad(loss, n_wrt, wrt, r->output + r->n_outputs)) {
        wr_str s = {0};
        wr_graph_report(r->t.sample.g, &s);
        fail_msg("random graph %llu: %s", (unsigned long long)r->o.seed, wr_str_text(&s));
    }
    r->n_outputs += n_wrt;
}

void random_graph_begin(random_graph *r, const random_options *o) {
    memset(r, 0, sizeof *r);
    r->o = *o;
    test_case_begin(&r->t, o->dtype, o->seed, 0);
    r->size[0] = draw(r, 1, 4);
    r->size[1] = draw(r, 1, 6);
    r->size[2] = draw(r, 2, 7);
    if (o->b > 0) r->size[0] = o->b;
    if (o->t > 0) r->size[1] = o->t;
    for (int i = 0; i < 3; i++)
        r->dim[i] = wr_n(r->size[i]);
    if (o->symbolic) {
        r->dim[0] = wr_sym(r->t.sample.g, "B", 1, 64, 1);
        r->dim[1] = wr_sym(r->t.sample.g, "T", 1, 64, 1);
    }
    add_sources(r);
    for (int i = 0; i < o->steps; i++) {
        wr_scope_push(r->t.sample.g, "part%d", i / 5);
        if (o->recompute && i / 5 % 2 == 1) wr_scope_recompute(r->t.sample.g);
        add_step(r);
        wr_scope_pop(r->t.sample.g);
    }
    add_outputs(r);
}

void random_graph_end(random_graph *r) { test_case_end(&r->t); }
