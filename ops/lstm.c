/* lstm.c: see lstm.h. Both kernels walk over time with all sentences at once, so that each step is
 * one product [B, H] x [H, 4H]; what is done to single elements stands in cpu/lstm_template.h. */
#include "ops/lstm.h"

#include "ops/cpu/gemm.h"
#include "ops/cpu/vmath.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "ops/slice.h"

#include <stdlib.h>
#include <string.h>

enum { REVERSE = 0, GIVEN = 1 };                     /* attributes */
enum { Z = 0, KEPT = 0, H0, C0, WH, LENGTHS, COTS }; /* operands */
enum { Y = 0, LAST_H, LAST_C, OUT_KEPT, OUTPUTS };   /* outputs of the forward row */
enum { PARALLEL_UNITS = 1024, MAX_UNROLLED = 512 };

wr_lstm_result wr_lstm_at(wr_loc loc, const wr_lstm_operands *o) {
    wr h0 = o->h0, c0 = o->c0;
    if (!wr_is_poison(o->x) && !wr_is_poison(o->wh) && (h0.g == NULL || c0.g == NULL)) {
        wr zero = wr_scalar(o->x.g, wr_dtype_of(o->x), 0.0);
        zero = wr_broadcast(zero, WR_DIMS(wr_dim_of(o->x, 0), wr_dim_of(o->wh, 0)));
        h0 = h0.g == NULL ? zero : h0;
        c0 = c0.g == NULL ? zero : c0;
    }
    wr z = wr_binary_at(loc, &wr_op_add, wr_matmul_at(loc, o->x, o->wx, false, false), o->bias);
    wr y = wr_emit(loc, &wr_op_lstm, 5, (wr[]){z, h0, c0, o->wh, o->lengths},
                   (wr_attr[]){{.i = o->reverse}});
    return (wr_lstm_result){y, wr_output(y, LAST_H), wr_output(y, LAST_C)};
}

/* ---- shapes ---- */

/* Sizes that the rows agree on: the width of z is 4H, of kept 5H. */
static bool state_fits(wr_shape_ctx *c, int k, wr_dim b, wr_dim h) {
    wr_type t = wr_type_of(c->in[k]);
    return t.rank == 2 && wr_dim_eq(c->g, t.dim[0], b) && wr_dim_eq(c->g, t.dim[1], h);
}

static bool operands_fit(wr_shape_ctx *c, const char *rule, int width) {
    wr_type z = wr_type_of(c->in[0]), w = wr_type_of(c->in[WH]), len = wr_type_of(c->in[LENGTHS]);
    for (int k = 1; k < c->n_in; k++)
        if (k != LENGTHS && wr_dtype_of(c->in[k]) != z.dtype)
            return wr_shape_fail(c, rule, "convert one with wr_cast", "operand types differ");
    if (!wr_shape_needs_float(c, 0) || !wr_shape_needs_i32(c, LENGTHS)) return false;
    if (z.rank != 3 || w.rank != 2)
        return wr_shape_fail(c, rule, NULL, "operands with %d and %d axes", z.rank, w.rank);
    wr_dim h = w.dim[0];
    if (!wr_dim_eq(c->g, w.dim[1], wr_dim_mul(c->g, wr_n(4), h)))
        return wr_shape_fail(c, rule, "four gates: the width is four times the height",
                             "the recurrent matrix is not [H, 4H]");
    if (!wr_dim_eq(c->g, z.dim[2], wr_dim_mul(c->g, wr_n(width), h)))
        return wr_shape_fail(c, rule, NULL, "the first operand's width does not fit to H");
    if (!state_fits(c, H0, z.dim[0], h) || !state_fits(c, C0, z.dim[0], h))
        return wr_shape_fail(c, rule, NULL, "the first state is not [B, H]");
    if (len.rank != 1 || !wr_dim_eq(c->g, len.dim[0], z.dim[0]))
        return wr_shape_fail(c, rule, NULL, "lengths are not [B]");
    return true;
}

/* Types of y, h, c and kept. */
static void forward_types(wr_graph *g, wr_type first, wr_dim h, wr_type *out) {
    for (int k = 0; k < OUTPUTS; k++)
        out[k] = first;
    out[Y].dim[2] = h;
    out[LAST_H].rank = 2;
    out[LAST_H].dim[1] = h;
    out[LAST_C] = out[LAST_H];
    out[OUT_KEPT].dim[2] = wr_dim_mul(g, wr_n(5), h);
}

static bool lstm_shape(wr_shape_ctx *c) {
    if (!operands_fit(c, "z [B, T, 4H], h0 [B, H], c0 [B, H], W_h [H, 4H], lengths [B]", 4))
        return false;
    forward_types(c->g, wr_type_of(c->in[Z]), wr_dim_of(c->in[WH], 0), c->out);
    return true;
}

static bool lstm_grad_shape(wr_shape_ctx *c) {
    static const char rule[] = "kept [B, T, 5H], h0 [B, H], c0 [B, H], W_h [H, 4H], lengths [B], "
                               "the cotangents of y [B, T, H], h, c [B, H] and kept as given";
    if (!operands_fit(c, rule, 5)) return false;
    wr_type forward[OUTPUTS], kept = wr_type_of(c->in[KEPT]);
    forward_types(c->g, kept, wr_dim_of(c->in[WH], 0), forward);
    int at = COTS;
    for (int k = 0; k < OUTPUTS; k++) {
        if (!(c->attr[GIVEN].i >> k & 1)) continue;
        wr_type t = at < c->n_in ? wr_type_of(c->in[at]) : (wr_type){.dtype = WR_I32};
        if (!wr_shape_equal(c->g, &t, &forward[k]))
            return wr_shape_fail(c, rule, NULL, "cotangent %d does not fit", k);
        at++;
    }
    if (at != c->n_in) return wr_shape_fail(c, rule, NULL, "more cotangents than `given` says");
    c->out[0] = kept;
    c->out[0].dim[2] = wr_dim_of(c->in[WH], 1);
    c->out[1] = c->out[2] = wr_type_of(c->in[H0]);
    c->out[3] = wr_type_of(c->in[WH]);
    return true;
}

/* ---- kernels ---- */

#define REAL       float
#define CELL(name) name##_f32
#define SIGMOID(x) wr_sigmoid_f32(x)
#define TANH(x)    wr_tanh_f32(x)
#include "ops/cpu/lstm_template.h"
#undef REAL
#undef CELL
#undef SIGMOID
#undef TANH
#define REAL       double
#define CELL(name) name##_f64
#define SIGMOID(x) wr_sigmoid_f64(x)
#define TANH(x)    tanh(x)
#include "ops/cpu/lstm_template.h"
#undef REAL
#undef CELL
#undef SIGMOID
#undef TANH

/* One call's sizes, in elements but `e`, and its walk: `longest` positions have work. */
typedef struct walk {
    const wr_call *c;
    int64_t b, t, h, longest;
    size_t e; /* bytes of an element */
    const int32_t *length;
    bool f32, reverse, parallel;
    char *state_h, *state_c, *more; /* workspace: [B, H], [B, H], and the kernel's own */
} walk;

static walk walk_of(const wr_call *c) {
    const wr_tensor *z = &c->in[0];
    walk w = {.c = c,
              .b = z->dim[0],
              .t = z->dim[1],
              .h = c->in[WH].dim[0],
              .e = wr_dtype_bytes(z->dtype),
              .f32 = z->dtype == WR_F32,
              .reverse = c->attr[REVERSE].i,
              .length = c->in[LENGTHS].data};
    w.parallel = w.b * w.h >= PARALLEL_UNITS && c->env->threads > 1;
    w.state_h = c->workspace;
    w.state_c = w.state_h + (size_t)(w.b * w.h) * w.e;
    w.more = w.state_c + (size_t)(w.b * w.h) * w.e;
    return w;
}

static size_t round_up(size_t n) { return (n + 255) / 256 * 256; }
static size_t elements(const walk *w, int64_t n) { return (size_t)n * w->e; }
/* Row [width] of position t of sentence b of data [B, T, width]. */
static char *row_at(const walk *w, const void *data, int64_t b, int64_t t, int64_t width) {
    return (char *)(uintptr_t)data + elements(w, (b * w->t + t) * width);
}

static wr_status check_lengths(walk *w, const char *row) {
    for (int64_t b = 0; b < w->b; b++) {
        if (w->length[b] < 0 || w->length[b] > w->t)
            return wr_fail(w->c->env->err, WR_ERR_INPUT,
                           "%s: length %d of sentence %lld is not in [0, %lld]", row, w->length[b],
                           (long long)b, (long long)w->t);
        if (w->length[b] > w->longest) w->longest = w->length[b];
    }
    return WR_OK;
}

/* Fill the padding of an output [B, T, width] with zeros. */
static void clear_padding(const walk *w, const wr_tensor *x, int64_t width) {
    for (int64_t b = 0; b < w->b && x->data != NULL; b++)
        memset(row_at(w, x->data, b, w->length[b], width), 0,
               elements(w, (w->t - w->length[b]) * width));
}

static void forward_position(const walk *w, int64_t b, int64_t t, char *gates) {
    const wr_tensor *out = w->c->out;
    char *gate = gates + elements(w, b * 4 * w->h), *c = w->state_c + elements(w, b * w->h);
    char *h = w->state_h + elements(w, b * w->h);
    const char *z = row_at(w, w->c->in[Z].data, b, t, 4 * w->h);
    (w->f32 ? forward_f32 : forward_f64)(w->h, z, gate, c, h);
    if (out[Y].data != NULL) memcpy(row_at(w, out[Y].data, b, t, w->h), h, elements(w, w->h));
    if (out[OUT_KEPT].data == NULL) return;
    char *kept = row_at(w, out[OUT_KEPT].data, b, t, 5 * w->h);
    memcpy(kept, gate, elements(w, 4 * w->h));
    memcpy(kept + elements(w, 4 * w->h), c, elements(w, w->h));
}

static wr_status lstm_cpu(const wr_call *call) {
    walk w = walk_of(call);
    wr_status status = check_lengths(&w, "lstm");
    if (status != WR_OK) return status;
    size_t state = elements(&w, w.b * w.h);
    char *gates = w.more, *scratch = (char *)call->workspace + round_up(6 * state);
    memcpy(w.state_h, call->in[H0].data, state);
    memcpy(w.state_c, call->in[C0].data, state);
    for (int64_t s = 0; s < w.longest; s++) {
        int64_t t = w.reverse ? w.longest - 1 - s : s;
        wr_gemm_run(call->prepared, w.state_h, call->in[WH].data, gates, NULL, scratch);
#pragma omp parallel for num_threads(call->env->threads) schedule(static) if (w.parallel)
        for (int64_t b = 0; b < w.b; b++)
            if (t < w.length[b]) forward_position(&w, b, t, gates);
    }
    clear_padding(&w, &call->out[Y], w.h);
    clear_padding(&w, &call->out[OUT_KEPT], 5 * w.h);
    if (call->out[LAST_H].data != NULL) memcpy(call->out[LAST_H].data, w.state_h, state);
    if (call->out[LAST_C].data != NULL) memcpy(call->out[LAST_C].data, w.state_c, state);
    return WR_OK;
}

/* The cotangents of y, h, c and kept; NULL where there is none. */
typedef struct cotangents {
    const void *of[OUTPUTS];
} cotangents;

static cotangents cotangents_of(const wr_call *c) {
    cotangents cot = {{NULL}};
    int at = COTS;
    for (int k = 0; k < OUTPUTS; k++)
        if (c->attr[GIVEN].i >> k & 1) cot.of[k] = c->in[at++].data;
    return cot;
}

/* Where the backward walk writes: rows [B, T, 4H] and [B, T, H] (the state before the position). */
typedef struct backward {
    cotangents cot;
    char *dz, *before;
    const char *zeros; /* [5H] */
} backward;

static void backward_position(const walk *w, const backward *p, int64_t b, int64_t t) {
    int64_t n = w->h, previous = w->reverse ? t + 1 : t - 1;
    bool first = previous < 0 || previous >= w->length[b];
    size_t state = elements(w, b * n);
    char *before = row_at(w, p->before, b, t, n);
    const char *kept = row_at(w, w->c->in[KEPT].data, b, t, 5 * n);
    const char *c_before = (const char *)w->c->in[C0].data + state;
    if (first) {
        memcpy(before, (const char *)w->c->in[H0].data + state, elements(w, n));
    } else {
        const char *row = row_at(w, w->c->in[KEPT].data, b, previous, 5 * n);
        c_before = row + elements(w, 4 * n);
        (w->f32 ? output_f32 : output_f64)(n, row, before);
    }
    const void *dy = p->cot.of[Y] == NULL ? p->zeros : row_at(w, p->cot.of[Y], b, t, n);
    const void *dkept =
        p->cot.of[OUT_KEPT] == NULL ? p->zeros : row_at(w, p->cot.of[OUT_KEPT], b, t, 5 * n);
    (w->f32 ? backward_f32 : backward_f64)(n, kept, c_before, dy, dkept, w->state_h + state,
                                           w->state_c + state, row_at(w, p->dz, b, t, 4 * n));
}

typedef struct grad_plans {
    wr_gemm_plan *state, *weight; /* dh += dz W_h^T; dW_h = before^T dz */
} grad_plans;

static void begin_state(void *to, const void *cot, size_t bytes) {
    if (cot != NULL)
        memcpy(to, cot, bytes);
    else
        memset(to, 0, bytes);
}

static void walk_back(const walk *w, const backward *p, void *scratch) {
    const wr_call *call = w->c;
    const grad_plans *plans = call->prepared;
    for (int64_t s = w->longest - 1; s >= 0; s--) {
        int64_t t = w->reverse ? w->longest - 1 - s : s;
#pragma omp parallel for num_threads(call->env->threads) schedule(static) if (w->parallel)
        for (int64_t b = 0; b < w->b; b++)
            if (t < w->length[b]) backward_position(w, p, b, t);
        wr_gemm_run(plans->state, row_at(w, p->dz, 0, t, 4 * w->h), call->in[WH].data, w->state_h,
                    NULL, scratch);
    }
}

static wr_status lstm_grad_cpu(const wr_call *call) {
    walk w = walk_of(call);
    wr_status status = check_lengths(&w, "lstm_grad");
    if (status != WR_OK) return status;
    size_t state = elements(&w, w.b * w.h), zeros = elements(&w, 5 * w.h);
    size_t own = round_up(2 * state + zeros + state * (size_t)w.t);
    void *scratch = (char *)call->workspace + own, *unread = NULL;
    backward p = {.cot = cotangents_of(call),
                  .zeros = w.more,
                  .before = w.more + zeros,
                  .dz = call->out[0].data};
    if (p.dz == NULL) { /* nobody reads it, but the other outputs are made of it */
        p.dz = unread = malloc(4 * state * (size_t)w.t + 1);
        if (unread == NULL)
            return wr_fail_memory(call->env->err, "lstm_grad", 4 * state * (size_t)w.t);
    }
    memset(w.more, 0, zeros);
    begin_state(w.state_h, p.cot.of[LAST_H], state);
    begin_state(w.state_c, p.cot.of[LAST_C], state);
    wr_tensor dz = {.data = p.dz}, before = {.data = p.before};
    clear_padding(&w, &dz, 4 * w.h);
    clear_padding(&w, &before, w.h);
    walk_back(&w, &p, scratch);
    if (call->out[1].data != NULL) memcpy(call->out[1].data, w.state_h, state);
    if (call->out[2].data != NULL) memcpy(call->out[2].data, w.state_c, state);
    if (call->out[3].data != NULL)
        wr_gemm_run(((const grad_plans *)call->prepared)->weight, p.before, p.dz, call->out[3].data,
                    NULL, scratch);
    free(unread);
    return WR_OK;
}

/* ---- plans and costs ---- */

static wr_gemm_spec spec_of(const wr_call *c, int64_t m, int64_t n, int64_t k) {
    return (wr_gemm_spec){.dtype = c->in[0].dtype == WR_F32 ? WR_GEMM_F32 : WR_GEMM_F64,
                          .m = m,
                          .n = n,
                          .k = k,
                          .batch = 1,
                          .threads = c->env->threads};
}

static wr_status lstm_make(const wr_call *c, void **prepared) {
    int64_t h = c->in[WH].dim[0];
    wr_gemm_spec s = spec_of(c, c->in[Z].dim[0], 4 * h, h);
    *prepared = wr_gemm_plan_new(&s, c->env->err);
    return *prepared == NULL ? WR_ERR_MEMORY : WR_OK;
}

static void lstm_release(void *prepared) { wr_gemm_plan_free(prepared); }
static size_t lstm_workspace(const wr_call *c, const void *prepared) {
    (void)c;
    return wr_gemm_workspace(prepared);
}
static const wr_prepare lstm_prepare = {lstm_make, lstm_release, lstm_workspace};

static void lstm_grad_release(void *prepared) {
    grad_plans *p = prepared;
    if (p == NULL) return;
    wr_gemm_plan_free(p->state);
    wr_gemm_plan_free(p->weight);
    free(p);
}

static wr_status lstm_grad_make(const wr_call *c, void **prepared) {
    int64_t b = c->in[KEPT].dim[0], t = c->in[KEPT].dim[1], h = c->in[WH].dim[0];
    grad_plans *p = calloc(1, sizeof *p);
    if (p == NULL) return wr_fail_memory(c->env->err, "lstm_grad", sizeof *p);
    wr_gemm_spec state = spec_of(c, b, h, 4 * h), weight = spec_of(c, h, 4 * h, b * t);
    state.trans_b = state.accumulate = true;
    state.lda = t > 0 ? t * 4 * h : 0;
    weight.trans_a = true;
    p->state = wr_gemm_plan_new(&state, c->env->err);
    p->weight = wr_gemm_plan_new(&weight, c->env->err);
    if (p->state == NULL || p->weight == NULL) {
        lstm_grad_release(p);
        return WR_ERR_MEMORY;
    }
    *prepared = p;
    return WR_OK;
}

static size_t lstm_grad_workspace(const wr_call *c, const void *prepared) {
    const grad_plans *p = prepared;
    (void)c;
    size_t a = wr_gemm_workspace(p->state), b = wr_gemm_workspace(p->weight);
    return a > b ? a : b;
}
static const wr_prepare lstm_grad_prepare = {lstm_grad_make, lstm_grad_release,
                                             lstm_grad_workspace};

static wr_cost cost_of(const wr_call *c, double products, size_t own_units) {
    const wr_tensor *z = &c->in[0], *w = &c->in[WH];
    double positions = (double)z->dim[0] * (double)z->dim[1];
    return (wr_cost){.flops =
                         positions * (2.0 * products * (double)w->n + 40.0 * (double)w->dim[0]),
                     .bytes = wr_bytes_moved(c),
                     .workspace = round_up(own_units * wr_dtype_bytes(z->dtype))};
}

static wr_cost lstm_cost(const wr_call *c) {
    return cost_of(c, 1, 6 * (size_t)(c->in[Z].dim[0] * c->in[WH].dim[0]));
}

static wr_cost lstm_grad_cost(const wr_call *c) {
    size_t h = (size_t)c->in[WH].dim[0], b = (size_t)c->in[0].dim[0], t = (size_t)c->in[0].dim[1];
    return cost_of(c, 2, (2 + t) * b * h + 5 * h);
}

/* ---- unrolled over time ---- */

typedef struct unrolled {
    wr_graph *g;
    int64_t steps;
    wr_dim b, h;
    wr mask; /* [B, T] */
} unrolled;

static bool unroll(wr_expand_ctx *c, unrolled *u) {
    wr_dim t = wr_dim_of(c->in[0], 1);
    *u = (unrolled){.g = c->g, .b = wr_dim_of(c->in[H0], 0), .h = wr_dim_of(c->in[H0], 1)};
    if (!wr_dim_is_literal(t) || wr_dim_literal(t) > MAX_UNROLLED || wr_dim_literal(t) < 1) {
        wr_mistake(c->g, WR_HERE,
                   "lstm: second derivatives unroll over time; the number of positions must be a "
                   "literal from 1 to %d",
                   MAX_UNROLLED);
        return false;
    }
    u->steps = wr_dim_literal(t);
    u->mask = wr_sequence_mask(c->in[LENGTHS], t, wr_dtype_of(c->in[0]));
    return true;
}

/* The mask of a position, repeated to [B, H]. */
static wr mask_at(const unrolled *u, int64_t t) {
    wr column = wr_reshape(wr_index(u->mask, 1, t), WR_DIMS(u->b, wr_n(1)));
    return wr_broadcast(column, WR_DIMS(u->b, u->h));
}

static bool lstm_expand(wr_expand_ctx *c) {
    unrolled u;
    wr y[MAX_UNROLLED], kept[MAX_UNROLLED], h = c->in[H0], cell = c->in[C0];
    if (!unroll(c, &u)) return false;
    wr zero = wr_zeros_like(h);
    for (int64_t s = 0; s < u.steps; s++) {
        int64_t t = c->attr[REVERSE].i ? u.steps - 1 - s : s;
        wr a = wr_add(wr_index(c->in[Z], 1, t), wr_matmul(h, c->in[WH])), part[5];
        wr mask = mask_at(&u, t);
        if (!wr_split(a, 1, 4, part)) return false;
        for (int k = 0; k < 4; k++)
            part[k] = k == 2 ? wr_tanh(part[k]) : wr_sigmoid(part[k]);
        part[4] = wr_add(wr_mul(part[1], cell), wr_mul(part[0], part[2]));
        wr next = wr_mul(part[3], wr_tanh(part[4]));
        y[t] = wr_select(mask, next, zero);
        h = wr_select(mask, next, h);
        cell = wr_select(mask, part[4], cell);
        for (int k = 0; k < 5; k++)
            part[k] = wr_select(mask, part[k], zero);
        kept[t] = wr_concat_at(WR_HERE, 1, 5, part);
    }
    c->out[Y] = wr_stack_at(WR_HERE, 1, (int)u.steps, y);
    c->out[LAST_H] = h;
    c->out[LAST_C] = cell;
    c->out[OUT_KEPT] = wr_stack_at(WR_HERE, 1, (int)u.steps, kept);
    return c->out[OUT_KEPT].id != 0;
}

/* Cotangents as nodes, zeros where none is given. */
static void cotangent_nodes(const wr_expand_ctx *c, const unrolled *u, wr *cot) {
    int at = COTS;
    wr_dim t = wr_n(u->steps);
    wr zero = wr_scalar(c->g, wr_dtype_of(c->in[0]), 0.0);
    cot[LAST_H] = cot[LAST_C] = wr_zeros_like(c->in[H0]);
    cot[Y] = wr_broadcast(zero, WR_DIMS(u->b, t, u->h));
    cot[OUT_KEPT] = wr_zeros_like(c->in[KEPT]);
    for (int k = 0; k < OUTPUTS; k++)
        if (c->attr[GIVEN].i >> k & 1) cot[k] = c->in[at++];
}

/* The state before position t: h to before[0], c to before[1]. */
static bool state_before(const wr_expand_ctx *c, const unrolled *u, int64_t t, wr *before) {
    bool reverse = c->attr[REVERSE].i;
    int64_t previous = reverse ? t + 1 : t - 1;
    before[0] = c->in[H0];
    before[1] = c->in[C0];
    if (previous < 0 || previous >= u->steps) return true;
    wr part[5];
    if (!wr_split(wr_index(c->in[KEPT], 1, previous), 1, 5, part)) return false;
    wr h = wr_mul(part[3], wr_tanh(part[4])), inside = mask_at(u, previous);
    before[0] = wr_select(inside, h, before[0]);
    before[1] = wr_select(inside, part[4], before[1]);
    return true;
}

/* x (1 - x) y and (1 - x^2) y: what sigmoid and tanh do to a cotangent. */
static wr through_sigmoid(wr x, wr y) { return wr_mul(y, wr_sub(x, wr_square(x))); }
static wr through_tanh(wr x, wr y) { return wr_sub(y, wr_mul(y, wr_square(x))); }

/* One step back: dh and dc of the state behind position t become those before it; returns dz. */
static wr step_back(const wr_expand_ctx *c, const unrolled *u, int64_t t, const wr *cot,
                    wr c_before, wr *dh, wr *dc) {
    wr part[5], more[5], dz[4], mask = mask_at(u, t), zero = wr_zeros_like(*dh);
    if (!wr_split(wr_index(c->in[KEPT], 1, t), 1, 5, part) ||
        !wr_split(wr_index(cot[OUT_KEPT], 1, t), 1, 5, more))
        return (wr){c->g, 0};
    wr y = wr_add(*dh, wr_index(cot[Y], 1, t)), squashed = wr_tanh(part[4]);
    wr cell = wr_add(wr_add(*dc, through_tanh(squashed, wr_mul(y, part[3]))), more[4]);
    dz[0] = through_sigmoid(part[0], wr_add(wr_mul(cell, part[2]), more[0]));
    dz[1] = through_sigmoid(part[1], wr_add(wr_mul(cell, c_before), more[1]));
    dz[2] = through_tanh(part[2], wr_add(wr_mul(cell, part[0]), more[2]));
    dz[3] = through_sigmoid(part[3], wr_add(wr_mul(y, squashed), more[3]));
    for (int k = 0; k < 4; k++)
        dz[k] = wr_select(mask, dz[k], zero);
    wr all = wr_concat_at(WR_HERE, 1, 4, dz);
    *dc = wr_select(mask, wr_mul(cell, part[1]), *dc);
    *dh = wr_add(wr_select(mask, zero, *dh), wr_matmul_nt(all, c->in[WH]));
    return all;
}

static bool lstm_grad_expand(wr_expand_ctx *c) {
    unrolled u;
    wr cot[OUTPUTS], dz[MAX_UNROLLED], dw = {c->g, 0};
    if (!unroll(c, &u)) return false;
    cotangent_nodes(c, &u, cot);
    wr dh = cot[LAST_H], dc = cot[LAST_C];
    for (int64_t s = u.steps - 1; s >= 0; s--) {
        int64_t t = c->attr[REVERSE].i ? u.steps - 1 - s : s;
        wr before[2];
        if (!state_before(c, &u, t, before)) return false;
        dz[t] = step_back(c, &u, t, cot, before[1], &dh, &dc);
        wr term = wr_matmul_tn(before[0], dz[t]);
        dw = wr_is_poison(dw) ? term : wr_add(dw, term);
    }
    c->out[0] = wr_stack_at(WR_HERE, 1, (int)u.steps, dz);
    c->out[1] = dh;
    c->out[2] = dc;
    c->out[3] = dw;
    return c->out[0].id != 0 && dw.id != 0;
}

static bool lstm_grad(wr_grad_ctx *c) {
    wr in[COTS + OUTPUTS] = {c->out[OUT_KEPT], c->in[H0], c->in[C0], c->in[WH], c->in[LENGTHS]};
    int64_t given = 0;
    int n = COTS;
    for (int k = 0; k < c->n_out; k++) {
        if (c->cot[k].id == 0) continue;
        given |= (int64_t)1 << k;
        in[n++] = c->cot[k];
    }
    wr d = wr_emit(WR_HERE, &wr_op_lstm_grad, n, in, (wr_attr[]){c->attr[REVERSE], {.i = given}});
    if (d.id == 0) return false;
    return wr_contribute(c, Z, d) && wr_contribute(c, H0, wr_output(d, 1)) &&
           wr_contribute(c, C0, wr_output(d, 2)) && wr_contribute(c, WH, wr_output(d, 3));
}

/* ---- samples ---- */

typedef struct sizes {
    int64_t b, t, h;
} sizes;

/* Both directions, small and large enough for threads; no two sizes are equal, so that the tests
 * tell the axes apart. */
static sizes sample_sizes(wr_sample *s) {
    int v = s->variant % 6;
    if (v >= 4) return (sizes){18, 3, 60};
    return (sizes){v < 2 ? 3 : 2, v < 2 ? 5 : 7, v < 2 ? 4 : 1};
}

static wr lstm_sample(wr_sample *s) {
    if (s->variant > 5) return (wr){s->g, 0};
    sizes n = sample_sizes(s);
    int64_t z[3] = {n.b, n.t, 4 * n.h}, state[2] = {n.b, n.h}, w[2] = {n.h, 4 * n.h};
    wr in[5] = {s->input(s, WR_FILL_REAL, 0, 3, z), s->input(s, WR_FILL_REAL, 0, 2, state),
                s->input(s, WR_FILL_REAL, 0, 2, state),
                wr_scale(s->input(s, WR_FILL_REAL, 0, 2, w), n.h > 8 ? 0.1 : 0.7),
                s->input(s, WR_FILL_LENGTH, n.t, 1, &n.b)};
    return wr_emit(WR_HERE, &wr_op_lstm, 5, in, (wr_attr[]){{.i = s->variant & 1}});
}

/* Variants: as above with the cotangents of everything, then with those of y, of h, of c alone. */
static wr lstm_grad_sample(wr_sample *s) {
    if (s->variant > 8) return (wr){s->g, 0};
    sizes n = s->variant > 5 ? (sizes){3, 5, 4} : sample_sizes(s);
    int64_t kept[3] = {n.b, n.t, 5 * n.h}, y[3] = {n.b, n.t, n.h}, w[2] = {n.h, 4 * n.h};
    int64_t state[2] = {n.b, n.h}, given = s->variant > 5 ? 1 << (s->variant - 6) : 15;
    wr in[COTS + OUTPUTS] = {s->input(s, WR_FILL_REAL, 0, 3, kept),
                             s->input(s, WR_FILL_REAL, 0, 2, state),
                             s->input(s, WR_FILL_REAL, 0, 2, state),
                             wr_scale(s->input(s, WR_FILL_REAL, 0, 2, w), n.h > 8 ? 0.03 : 0.5),
                             s->input(s, WR_FILL_LENGTH, n.t, 1, &n.b)};
    int at = COTS;
    if (given & 1) in[at++] = s->input(s, WR_FILL_REAL, 0, 3, y);
    if (given & 2) in[at++] = s->input(s, WR_FILL_REAL, 0, 2, state);
    if (given & 4) in[at++] = s->input(s, WR_FILL_REAL, 0, 2, state);
    if (given & 8) in[at++] = s->input(s, WR_FILL_REAL, 0, 3, kept);
    return wr_emit(WR_HERE, &wr_op_lstm_grad, at, in,
                   (wr_attr[]){{.i = s->variant & 1}, {.i = given}});
}

#define NOT_A_BIJECTION .no_inverse = "gates lose what they close"

const wr_op wr_op_lstm = {.name = "lstm",
                          .doc = "LSTM over time; expands over a literal number of positions only",
                          .traits = WR_MIXED,
                          .n_in = 5,
                          .n_out = 4,
                          .attrs = {{"reverse", WR_ATTR_BOOL}},
                          .shape = lstm_shape,
                          .cost = lstm_cost,
                          .cpu = lstm_cpu,
                          .prepare = &lstm_prepare,
                          .grad = lstm_grad,
                          .expand = lstm_expand,
                          .sample = lstm_sample,
                          NOT_A_BIJECTION};
const wr_op wr_op_lstm_grad = {
    .name = "lstm_grad",
    .doc = "gradient of lstm; `given` has a bit per cotangent of y, h, c, kept",
    .traits = WR_MIXED,
    .n_in = COTS + 1,
    .n_in_max = COTS + OUTPUTS,
    .n_out = 4,
    .attrs = {{"reverse", WR_ATTR_BOOL}, {"given", WR_ATTR_INT}},
    .shape = lstm_grad_shape,
    .cost = lstm_grad_cost,
    .cpu = lstm_grad_cpu,
    .prepare = &lstm_grad_prepare,
    .expand = lstm_grad_expand,
    .sample = lstm_grad_sample,
    NOT_A_BIJECTION};
