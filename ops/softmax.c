/* softmax.c: softmax(x)_i = e^(x_i - m) / sum_j e^(x_j - m), m = max x; see softmax.h for masks.
 *
 * Gradients: softmax y, cotangent c: y (c - sum y c). Log-softmax: c - e^y sum c over the positions
 * that are in. Each is one fused row whose expansion is that formula in ordinary rows, so gradients
 * of any order exist. */
#include "ops/softmax.h"

#include "ops/cpu/rows.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/reduce.h"
#include "ops/shape.h"

enum { PARALLEL_ELEMENTS = 8192 };
static const double LOWEST = -1e30; /* stands for minus infinity where 0 times it must be 0 */

wr wr_softmax_at(wr_loc loc, const wr_op *op, wr x, const wr *mask) {
    return wr_emit(loc, op, mask == NULL ? 1 : 2, (wr[]){x, mask == NULL ? x : *mask}, NULL);
}

/* ---- shapes ---- */

/* Operand `k` is a mask for t. */
static bool mask_fits(wr_shape_ctx *c, const wr_type *t, int k) {
    wr_type m = wr_type_of(c->in[k]);
    bool ok = m.rank <= t->rank;
    for (int i = 1; ok && i <= m.rank; i++)
        ok = wr_dim_same(m.dim[m.rank - i], wr_n(1)) ||
             wr_dim_eq(c->g, m.dim[m.rank - i], t->dim[t->rank - i]);
    return ok ||
           wr_shape_fail(c, "mask: from the right, each size is equal or 1",
                         "scores [B, H, T, S] take a mask [B, 1, 1, S]", "the mask does not fit");
}

static bool softmax_shape(wr_shape_ctx *c) {
    wr_type t = wr_type_of(c->in[0]);
    if (!wr_shape_needs_float(c, 0)) return false;
    if (t.rank == 0)
        return wr_shape_fail(c, "x [.., K]", NULL, "a scalar has no axis to normalise over");
    if (c->n_in == 2 && !mask_fits(c, &t, 1)) return false;
    c->out[0] = t;
    return true;
}

static bool logsumexp_shape(wr_shape_ctx *c) {
    if (!softmax_shape(c)) return false;
    c->out[0].rank--;
    return true;
}

/* y and cot [.., K]; operand 2 is the mask. */
static bool grad_shape(wr_shape_ctx *c) {
    wr_type t = wr_type_of(c->in[0]), cot = wr_type_of(c->in[1]);
    if (!wr_shape_needs_float(c, 0)) return false;
    if (t.rank == 0 || !wr_shape_equal(c->g, &t, &cot))
        return wr_shape_fail(c, "y [.., K], cotangent [.., K]", NULL, "sizes differ");
    if (c->n_in == 3 && !mask_fits(c, &t, 2)) return false;
    c->out[0] = t;
    return true;
}

static wr_cost softmax_cost(const wr_call *c) {
    return (wr_cost){.flops = 8.0 * (double)c->in[0].n, .bytes = wr_bytes_moved(c)};
}

/* ---- kernels ---- */

/* Where the mask's row for row r of x begins. */
typedef struct mask_rows {
    const wr_tensor *x;
    const char *data; /* NULL: no mask */
    size_t e;
    int64_t stride[WR_MAX_RANK], step; /* elements per axis of x; along the row */
} mask_rows;

static mask_rows mask_of(const wr_call *c, int k) {
    mask_rows m = {.x = &c->in[0], .e = wr_dtype_bytes(c->in[0].dtype)};
    if (k >= c->n_in) return m;
    const wr_tensor *t = &c->in[k];
    m.data = t->data;
    int64_t size = 1;
    for (int i = 1; i <= t->rank; i++) {
        int64_t d = t->dim[t->rank - i];
        m.stride[m.x->rank - i] = d == 1 ? 0 : size;
        size *= d;
    }
    m.step = m.stride[m.x->rank - 1];
    return m;
}

static const void *mask_row(const mask_rows *m, int64_t row) {
    int64_t at = 0;
    if (m->data == NULL) return NULL;
    for (int i = m->x->rank - 2; i >= 0; i--) {
        at += row % m->x->dim[i] * m->stride[i];
        row /= m->x->dim[i];
    }
    return m->data + (size_t)at * m->e;
}

/* One row: x, or y and the cotangent, and the mask, to out. */
typedef void (*row_fn)(int64_t n, const void *const *in, const void *mask, int64_t step, void *out);

/* All rows of x [.., K]; the output has K or, of lower rank, 1 element per row. */
static wr_status each_row(const wr_call *c, int mask_operand, row_fn f) {
    const wr_tensor *x = &c->in[0];
    int64_t n = x->dim[x->rank - 1], rows = wr_extent(x, 0, x->rank - 1);
    int64_t width = c->out[0].rank == x->rank ? n : 1;
    size_t e = wr_dtype_bytes(x->dtype);
    mask_rows mask = mask_of(c, mask_operand);
    bool parallel = x->n >= PARALLEL_ELEMENTS && c->env->threads > 1;
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t r = 0; r < rows; r++) {
        size_t at = (size_t)(r * n) * e;
        const void *in[2] = {(const char *)x->data + at, NULL};
        if (mask_operand == 2) in[1] = (const char *)c->in[1].data + at;
        f(n, in, mask_row(&mask, r), mask.step, (char *)c->out[0].data + (size_t)(r * width) * e);
    }
    return WR_OK;
}

#define ROWS(REAL, S, LOG)                                                                         \
    static void softmax_##S(int64_t n, const void *const *in, const void *mask, int64_t step,      \
                            void *to) {                                                            \
        const REAL *x = in[0];                                                                     \
        REAL *out = to;                                                                            \
        if (mask != NULL) {                                                                        \
            wr__row_choose_##S(n, mask, step, x, (REAL)-INFINITY, out);                            \
            x = out;                                                                               \
        }                                                                                          \
        REAL m = wr__row_max_##S(n, x);                                                            \
        if (mask != NULL && m == (REAL)-INFINITY) {                                                \
            wr__row_fill_##S(n, 0, out);                                                           \
            return;                                                                                \
        }                                                                                          \
        REAL sum = wr__row_exp_##S(n, x, m, out);                                                  \
        wr__row_scale_##S(n, out, 1 / sum, out);                                                   \
    }                                                                                              \
    static void softmax_grad_##S(int64_t n, const void *const *in, const void *mask, int64_t step, \
                                 void *to) {                                                       \
        (void)mask;                                                                                \
        (void)step;                                                                                \
        const REAL *y = in[0], *cot = in[1];                                                       \
        REAL *out = to, mean = wr__row_dot_##S(n, y, cot);                                         \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) out[i] = y[i] * (cot[i] - mean);       \
    }                                                                                              \
    /* The log-sum-exp of the positions that are in; minus infinity when there are none. */        \
    static REAL lse_##S(int64_t n, const REAL *x, const REAL *mask, int64_t step) {                \
        REAL m = (REAL)-INFINITY, sum = 0;                                                         \
        if (mask == NULL) {                                                                        \
            m = wr__row_max_##S(n, x);                                                             \
            return m == (REAL)-INFINITY ? m : m + LOG(wr__row_exp_sum_##S(n, x, m));               \
        }                                                                                          \
        REAL part[256];                                                                            \
        for (int64_t i = 0; i < n; i += 256) {                                                     \
            int64_t now = n - i < 256 ? n - i : 256;                                               \
            wr__row_choose_##S(now, mask + i * step, step, x + i, (REAL)-INFINITY, part);          \
            REAL high = wr__row_max_##S(now, part);                                                \
            m = high > m ? high : m;                                                               \
        }                                                                                          \
        for (int64_t i = 0; i < n && m > (REAL)-INFINITY; i += 256) {                              \
            int64_t now = n - i < 256 ? n - i : 256;                                               \
            wr__row_choose_##S(now, mask + i * step, step, x + i, (REAL)-INFINITY, part);          \
            sum += wr__row_exp_sum_##S(now, part, m);                                              \
        }                                                                                          \
        return m == (REAL)-INFINITY ? m : m + LOG(sum);                                            \
    }                                                                                              \
    static void log_softmax_##S(int64_t n, const void *const *in, const void *mask, int64_t step,  \
                                void *to) {                                                        \
        const REAL *x = in[0];                                                                     \
        REAL *out = to, lse = lse_##S(n, x, mask, step);                                           \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) out[i] = x[i] - lse;                   \
        if (mask != NULL) wr__row_choose_##S(n, mask, step, out, 0, out);                          \
    }                                                                                              \
    static void log_softmax_grad_##S(int64_t n, const void *const *in, const void *mask,           \
                                     int64_t step, void *to) {                                     \
        const REAL *y = in[0], *cot = in[1];                                                       \
        REAL *out = to;                                                                            \
        if (mask != NULL) {                                                                        \
            wr__row_choose_##S(n, mask, step, cot, 0, out);                                        \
            cot = out;                                                                             \
        }                                                                                          \
        REAL sum = wr__row_sum_##S(n, cot);                                                        \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) out[i] =                               \
            cot[i] - sum * wr__exp_row_##S(y[i]);                                                  \
        if (mask != NULL) wr__row_choose_##S(n, mask, step, out, 0, out);                          \
    }                                                                                              \
    static void logsumexp_##S(int64_t n, const void *const *in, const void *mask, int64_t step,    \
                              void *to) {                                                          \
        REAL *out = to, lse = lse_##S(n, in[0], mask, step);                                       \
        out[0] = mask != NULL && lse == (REAL)-INFINITY ? 0 : lse;                                 \
    }
ROWS(float, f32, logf)
ROWS(double, f64, log)
#undef ROWS

#define KERNEL(name, mask_operand)                                                                 \
    static wr_status name##_cpu(const wr_call *c) {                                                \
        return each_row(c, mask_operand, c->in[0].dtype == WR_F32 ? name##_f32 : name##_f64);      \
    }
KERNEL(softmax, 1)
KERNEL(softmax_grad, 2)
KERNEL(log_softmax, 1)
KERNEL(log_softmax_grad, 2)
KERNEL(logsumexp, 1)
#undef KERNEL

/* ---- expansions ---- */

wr wr__repeat_last(wr row, wr like) {
    if (wr_is_poison(row) || wr_is_poison(like)) return wr_is_poison(row) ? row : like;
    wr_type t = wr_type_of(like), one = t;
    one.dim[t.rank - 1] = wr_n(1);
    return wr_broadcast(wr_reshape(row, one.rank, one.dim), t.rank, t.dim);
}

static wr number(wr like, double value) { return wr_scalar(like.g, wr_dtype_of(like), value); }

/* What the three forward rows are made of. */
typedef struct parts {
    wr keep;    /* the mask in x's sizes, when there is one */
    wr max;     /* [..], a constant of the differentiation: it cancels */
    wr exp;     /* e^(x - max), 0 where masked */
    wr sum;     /* [..], 1 where every position is masked */
    wr nothing; /* [..], 1 where every position is masked */
} parts;

static parts take_apart(const wr_expand_ctx *c) {
    wr x = c->in[0];
    bool masked = c->n_in == 2;
    parts p = {.keep = masked ? wr_broadcast_like(c->in[1], x) : x};
    wr seen = masked ? wr_select(p.keep, x, number(x, LOWEST)) : x;
    p.max = wr_stop_gradient(wr_max(seen, -1));
    wr z = wr_sub(x, wr__repeat_last(p.max, x));
    p.exp = wr_exp(masked ? wr_select(p.keep, z, number(x, LOWEST)) : z);
    p.sum = wr_sum(p.exp, -1);
    if (!masked) return p;
    p.nothing = wr_stop_gradient(wr_equal(p.sum, number(x, 0.0)));
    p.sum = wr_add(p.sum, p.nothing);
    return p;
}

static bool softmax_expand(wr_expand_ctx *c) {
    parts p = take_apart(c);
    c->out[0] = wr_div(p.exp, wr__repeat_last(p.sum, c->in[0]));
    return !wr_is_poison(c->out[0]);
}

static bool log_softmax_expand(wr_expand_ctx *c) {
    parts p = take_apart(c);
    wr y = wr_sub(c->in[0], wr__repeat_last(wr_add(wr_log(p.sum), p.max), c->in[0]));
    c->out[0] = c->n_in == 2 ? wr_select(p.keep, y, number(y, 0.0)) : y;
    return !wr_is_poison(c->out[0]);
}

static bool logsumexp_expand(wr_expand_ctx *c) {
    parts p = take_apart(c);
    wr y = wr_add(wr_log(p.sum), p.max);
    c->out[0] = c->n_in == 2 ? wr_select(p.nothing, number(y, 0.0), y) : y;
    return !wr_is_poison(c->out[0]);
}

static bool softmax_grad_expand(wr_expand_ctx *c) {
    wr y = c->in[0], cot = c->in[1];
    wr mean = wr_sum(wr_mul(y, cot), -1);
    c->out[0] = wr_mul(y, wr_sub(cot, wr__repeat_last(mean, cot)));
    return !wr_is_poison(c->out[0]);
}

static bool log_softmax_grad_expand(wr_expand_ctx *c) {
    wr y = c->in[0], cot = c->in[1];
    wr keep = c->n_in == 3 ? wr_broadcast_like(c->in[2], y) : y;
    if (c->n_in == 3) cot = wr_select(keep, cot, number(cot, 0.0));
    wr dx = wr_sub(cot, wr_mul(wr_exp(y), wr__repeat_last(wr_sum(cot, -1), y)));
    c->out[0] = c->n_in == 3 ? wr_select(keep, dx, number(dx, 0.0)) : dx;
    return !wr_is_poison(c->out[0]);
}

/* ---- gradients ---- */

static bool softmax_grad_rule(wr_grad_ctx *c) {
    wr in[2] = {c->out[0], c->cot[0]};
    return wr_contribute(c, 0, wr_emit(WR_HERE, &wr_op_softmax_grad, 2, in, NULL));
}

static bool log_softmax_grad_rule(wr_grad_ctx *c) {
    wr in[3] = {c->out[0], c->cot[0], c->in[c->n_in - 1]};
    return wr_contribute(c, 0, wr_emit(WR_HERE, &wr_op_log_softmax_grad, c->n_in + 1, in, NULL));
}

static bool logsumexp_grad_rule(wr_grad_ctx *c) {
    wr y = wr_softmax_at(WR_HERE, &wr_op_softmax, c->in[0], c->n_in == 2 ? &c->in[1] : NULL);
    return wr_contribute(c, 0, wr_mul(y, wr__repeat_last(c->cot[0], y)));
}

/* ---- samples: no mask, full, [K], [B, 1, K], narrow rows often all masked, [B, T, 1], many ----
 */

typedef struct sample_sizes {
    int64_t x[3], mask[3];
    int mask_rank; /* 0: none */
} sample_sizes;

enum { SAMPLES = 7 };
static const sample_sizes SIZES[SAMPLES] = {
    {{3, 5, 7}, {0}, 0},           {{2, 5, 19}, {2, 5, 19}, 3}, {{4, 1, 18}, {18}, 1},
    {{3, 4, 9}, {3, 1, 9}, 3},     {{4, 5, 2}, {4, 5, 2}, 3},   {{2, 3, 5}, {2, 3, 1}, 3},
    {{3, 7, 401}, {3, 1, 401}, 3},
};

static wr sample_forward(wr_sample *s, const wr_op *op) {
    if (s->variant >= SAMPLES) return (wr){s->g, 0};
    const sample_sizes *z = &SIZES[s->variant];
    wr x = s->input(s, WR_FILL_REAL, 0, 3, z->x);
    if (z->mask_rank == 0) return wr_softmax_at(WR_HERE, op, x, NULL);
    wr mask = s->input(s, WR_FILL_MASK, 0, z->mask_rank, z->mask);
    return wr_softmax_at(WR_HERE, op, x, &mask);
}

static wr softmax_sample(wr_sample *s) { return sample_forward(s, &wr_op_softmax); }
static wr log_softmax_sample(wr_sample *s) { return sample_forward(s, &wr_op_log_softmax); }
static wr logsumexp_sample(wr_sample *s) { return sample_forward(s, &wr_op_logsumexp); }

static wr softmax_grad_sample(wr_sample *s) {
    if (s->variant > 1) return (wr){s->g, 0};
    const int64_t *dims = SIZES[s->variant * (SAMPLES - 1)].x;
    wr in[2] = {s->input(s, WR_FILL_REAL, 0, 3, dims), s->input(s, WR_FILL_REAL, 0, 3, dims)};
    return wr_emit(WR_HERE, &wr_op_softmax_grad, 2, in, NULL);
}

static wr log_softmax_grad_sample(wr_sample *s) {
    if (s->variant >= SAMPLES) return (wr){s->g, 0};
    const sample_sizes *z = &SIZES[s->variant];
    wr in[3] = {s->input(s, WR_FILL_REAL, 0, 3, z->x), s->input(s, WR_FILL_REAL, 0, 3, z->x)};
    if (z->mask_rank > 0) in[2] = s->input(s, WR_FILL_MASK, 0, z->mask_rank, z->mask);
    return wr_emit(WR_HERE, &wr_op_log_softmax_grad, z->mask_rank > 0 ? 3 : 2, in, NULL);
}

/* ---- rows ---- */

const wr_op wr_op_softmax = {.name = "softmax",
                             .doc = "x [.., K] (mask) -> e^x / sum e^x over the last axis",
                             .n_in = 1,
                             .n_in_max = 2,
                             .shape = softmax_shape,
                             .cost = softmax_cost,
                             .cpu = softmax_cpu,
                             .grad = softmax_grad_rule,
                             .expand = softmax_expand,
                             .sample = softmax_sample,
                             .inplace = 1,
                             .no_inverse = "shifting all operands changes nothing"};

const wr_op wr_op_softmax_grad = {.name = "softmax_grad",
                                  .doc = "y, c [.., K] -> y (c - sum y c)",
                                  .n_in = 2,
                                  .shape = grad_shape,
                                  .cost = softmax_cost,
                                  .cpu = softmax_grad_cpu,
                                  .expand = softmax_grad_expand,
                                  .sample = softmax_grad_sample,
                                  .inplace = 2,
                                  .no_inverse = "constant cotangents give zero"};

const wr_op wr_op_log_softmax = {.name = "log_softmax",
                                 .doc = "x [.., K] (mask) -> x - log sum e^x over the last axis",
                                 .n_in = 1,
                                 .n_in_max = 2,
                                 .shape = softmax_shape,
                                 .cost = softmax_cost,
                                 .cpu = log_softmax_cpu,
                                 .grad = log_softmax_grad_rule,
                                 .expand = log_softmax_expand,
                                 .sample = log_softmax_sample,
                                 .inplace = 1,
                                 .no_inverse = "shifting all operands changes nothing"};

const wr_op wr_op_log_softmax_grad = {.name = "log_softmax_grad",
                                      .doc = "y, c [.., K] (mask) -> c - e^y sum c",
                                      .n_in = 2,
                                      .n_in_max = 3,
                                      .shape = grad_shape,
                                      .cost = softmax_cost,
                                      .cpu = log_softmax_grad_cpu,
                                      .expand = log_softmax_grad_expand,
                                      .sample = log_softmax_grad_sample,
                                      .inplace = 2,
                                      .no_inverse = "multiples of e^y give zero"};

const wr_op wr_op_logsumexp = {.name = "logsumexp",
                               .doc = "x [.., K] (mask) -> [..] log sum e^x over the last axis",
                               .n_in = 1,
                               .n_in_max = 2,
                               .shape = logsumexp_shape,
                               .cost = softmax_cost,
                               .cpu = logsumexp_cpu,
                               .grad = logsumexp_grad_rule,
                               .expand = logsumexp_expand,
                               .sample = logsumexp_sample,
                               .no_inverse = "many operands have one sum"};
