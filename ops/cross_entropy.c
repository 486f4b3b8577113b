/* cross_entropy.c: softmax cross-entropies and their common gradient; see cross_entropy.h.
 *
 * Forward reads the logits once: blocks that fit the first cache are visited for their maximum and
 * then for their sum of exponentials, rescaled when the maximum rises (Milakov and Gimelshein
 * 2018). Backward reads and writes them once. */
#include "ops/cross_entropy.h"

#include "ops/cpu/rows.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "ops/softmax.h"

enum { PARALLEL_ELEMENTS = 8192, BLOCK = 2048 };

wr_cross_entropy_out wr_cross_entropy_at(wr_loc loc, wr logits, wr ids, wr weight, double eps) {
    wr x =
        wr_emit(loc, &wr_op_cross_entropy, 3, (wr[]){logits, ids, weight}, (wr_attr[]){{.r = eps}});
    return (wr_cross_entropy_out){x, wr_output(x, 1), wr_output(x, 2)};
}

wr wr_pwce_at(wr_loc loc, wr logits, wr ids, wr w) {
    return wr_emit(loc, &wr_op_pwce, 3, (wr[]){logits, ids, w}, NULL);
}

wr_log_softmax_at_ids wr_gather_log_softmax_at(wr_loc loc, wr logits, wr ids) {
    wr x = wr_emit(loc, &wr_op_gather_log_softmax, 2, (wr[]){logits, ids}, NULL);
    return (wr_log_softmax_at_ids){x, wr_output(x, 1), wr_output(x, 2)};
}

wr wr_pwce_dense_at(wr_loc loc, wr logits, wr w) {
    wr lp = wr_softmax_at(loc, &wr_op_log_softmax, logits, NULL);
    wr product = wr_binary_at(loc, &wr_op_mul, w, lp);
    return wr_neg(wr_reduce_axis_at(loc, &wr_op_sum, product, -1));
}

/* ---- shapes ---- */

/* Operand k has type t, apart from the dtype if it is i32. */
static bool has_type(const wr_shape_ctx *c, int k, wr_type t, bool whole) {
    wr_type x = wr_type_of(c->in[k]);
    if (whole) t.dtype = WR_I32;
    return wr_shape_equal(c->g, &x, &t);
}

static bool cross_entropy_shape(wr_shape_ctx *c) {
    wr_type row = wr_type_of(c->in[0]);
    if (!wr_shape_needs_float(c, 0) || !wr_shape_needs_i32(c, 1)) return false;
    row.rank--;
    if (row.rank < 0 || !has_type(c, 1, row, true) || !has_type(c, 2, row, false))
        return wr_shape_fail(c, "logits [.., V], ids [..] i32, weight [..]",
                             "wr_reshape the ids and weights to the logits' leading axes",
                             "sizes or types do not fit");
    if (!(c->attr[0].r >= 0 && c->attr[0].r < 1))
        return wr_shape_fail(c, "0 <= eps < 1", NULL, "label smoothing %g", c->attr[0].r);
    c->out[0] = c->out[1] = c->out[2] = row;
    return true;
}

/* logits [.., V] and ids [.., K], w [.., K] at operands `ids`, `ids` + 1. */
static bool sparse_fits(wr_shape_ctx *c, int ids) {
    wr_type t = wr_type_of(c->in[0]), w = wr_type_of(c->in[ids + 1]);
    if (!wr_shape_needs_float(c, 0) || !wr_shape_needs_i32(c, ids)) return false;
    bool ok = t.rank > 0 && w.rank == t.rank && w.dtype == t.dtype && has_type(c, ids, w, true);
    for (int i = 0; ok && i + 1 < t.rank; i++)
        ok = wr_dim_eq(c->g, t.dim[i], w.dim[i]);
    return ok || wr_shape_fail(c, "logits [.., V], ids [.., K] i32, w [.., K]", NULL,
                               "sizes or types do not fit");
}

static bool pwce_shape(wr_shape_ctx *c) {
    if (!sparse_fits(c, 1)) return false;
    c->out[0] = wr_type_of(c->in[0]);
    c->out[0].rank--;
    c->out[1] = c->out[0];
    return true;
}

static bool gather_shape(wr_shape_ctx *c) {
    wr_type t = wr_type_of(c->in[0]), few = wr_type_of(c->in[1]);
    if (!wr_shape_needs_float(c, 0) || !wr_shape_needs_i32(c, 1)) return false;
    bool ok = t.rank > 0 && few.rank == t.rank;
    for (int i = 0; ok && i + 1 < t.rank; i++)
        ok = wr_dim_eq(c->g, t.dim[i], few.dim[i]);
    if (!ok) return wr_shape_fail(c, "logits [.., V], ids [.., K] i32", NULL, "sizes do not fit");
    few.dtype = t.dtype;
    c->out[0] = few;
    t.rank--;
    c->out[1] = c->out[2] = t;
    return true;
}

static bool grad_shape(wr_shape_ctx *c) {
    wr_type t = wr_type_of(c->in[0]), row = t;
    if (!sparse_fits(c, 4)) return false;
    row.rank--;
    for (int k = 1; k < 4; k++)
        if (!has_type(c, k, row, false))
            return wr_shape_fail(c, c->op->doc, NULL, "operand %c is not [..]", 'a' + k);
    c->out[0] = t;
    return true;
}

static wr_cost cost(const wr_call *c) {
    return (wr_cost){.flops = 6.0 * (double)c->in[0].n, .bytes = wr_bytes_moved(c)};
}

/* ---- kernels ---- */

static wr_status check_ids(const wr_call *c, int operand, const char *row) {
    const wr_tensor *t = &c->in[operand];
    const int32_t *id = t->data;
    int64_t v = c->in[0].dim[c->in[0].rank - 1];
    for (int64_t i = 0; i < t->n; i++)
        if (id[i] < 0 || id[i] >= v)
            return wr_fail(c->env->err, WR_ERR_INPUT,
                           "%s: id %d at element %lld is outside [0, %lld), the number of words",
                           row, (int)id[i], (long long)i, (long long)v);
    return WR_OK;
}

/* Operands of a row of logits. */
typedef struct entropy_rows {
    const void *logits, *weight; /* [.., V], [..] or [.., K] */
    const int32_t *ids;
    int64_t v, k;
    double eps;
    void *loss, *nll, *lse;               /* [..], may be NULL */
    void *lp, *mean;                      /* [.., K], [..], may be NULL */
    const void *lse_in, *total, *uniform; /* backward, [..] */
    void *dlogits;
} entropy_rows;
typedef void (*row_fn)(const entropy_rows *a, int64_t row);

#define KERNELS(REAL, S)                                                                           \
    /* The log-sum-exp of z and, when asked for, its sum. */                                       \
    static double lse_##S(int64_t n, const REAL *z, double *z_sum) {                               \
        REAL high = (REAL)-INFINITY;                                                               \
        double sum = 0;                                                                            \
        for (int64_t i = 0; i < n; i += BLOCK) {                                                   \
            int64_t now = n - i < BLOCK ? n - i : BLOCK;                                           \
            REAL here = wr__row_max_##S(now, z + i);                                               \
            if (z_sum != NULL) *z_sum += (double)wr__row_sum_##S(now, z + i);                      \
            if (here > high) {                                                                     \
                sum *= exp((double)high - (double)here);                                           \
                high = here;                                                                       \
            }                                                                                      \
            if (high > (REAL)-INFINITY) sum += (double)wr__row_exp_sum_##S(now, z + i, high);      \
        }                                                                                          \
        return (double)high + log(sum);                                                            \
    }                                                                                              \
    static void cross_entropy_##S(const entropy_rows *a, int64_t row) {                            \
        const REAL *z = (const REAL *)a->logits + row * a->v;                                      \
        double w = (double)((const REAL *)a->weight)[row], z_sum = 0;                              \
        double lse = lse_##S(a->v, z, a->eps > 0 && a->loss != NULL ? &z_sum : NULL);              \
        double nll = lse - (double)z[a->ids[row]], loss = nll;                                     \
        if (a->eps > 0) loss = (1 - a->eps) * nll + a->eps * (lse - z_sum / (double)a->v);         \
        if (a->loss != NULL) ((REAL *)a->loss)[row] = (REAL)(w != 0 ? w * loss : 0);               \
        if (a->nll != NULL) ((REAL *)a->nll)[row] = (REAL)(w != 0 ? w * nll : 0);                  \
        if (a->lse != NULL) ((REAL *)a->lse)[row] = (REAL)lse;                                     \
    }                                                                                              \
    static void pwce_##S(const entropy_rows *a, int64_t row) {                                     \
        const REAL *z = (const REAL *)a->logits + row * a->v;                                      \
        const REAL *w = (const REAL *)a->weight + row * a->k;                                      \
        double lse = lse_##S(a->v, z, NULL), loss = 0;                                             \
        for (int64_t k = 0; k < a->k; k++)                                                         \
            if (w[k] != 0) loss += (double)w[k] * (lse - (double)z[a->ids[row * a->k + k]]);       \
        if (a->loss != NULL) ((REAL *)a->loss)[row] = (REAL)loss;                                  \
        if (a->lse != NULL) ((REAL *)a->lse)[row] = (REAL)lse;                                     \
    }                                                                                              \
    static void gather_##S(const entropy_rows *a, int64_t row) {                                   \
        const REAL *z = (const REAL *)a->logits + row * a->v;                                      \
        double z_sum = 0, lse = lse_##S(a->v, z, a->mean != NULL ? &z_sum : NULL);                 \
        for (int64_t k = 0; k < a->k && a->lp != NULL; k++)                                        \
            ((REAL *)a->lp)[row * a->k + k] = (REAL)((double)z[a->ids[row * a->k + k]] - lse);     \
        if (a->lse != NULL) ((REAL *)a->lse)[row] = (REAL)lse;                                     \
        if (a->mean != NULL) ((REAL *)a->mean)[row] = (REAL)(z_sum / (double)a->v - lse);          \
    }                                                                                              \
    static void gradient_##S(const entropy_rows *a, int64_t row) {                                 \
        const REAL *z = (const REAL *)a->logits + row * a->v;                                      \
        const REAL *w = (const REAL *)a->weight + row * a->k;                                      \
        REAL *dz = (REAL *)a->dlogits + row * a->v;                                                \
        const REAL lse = ((const REAL *)a->lse_in)[row], total = ((const REAL *)a->total)[row];    \
        const REAL uniform = ((const REAL *)a->uniform)[row];                                      \
        if (total == 0) {                                                                          \
            wr__row_fill_##S(a->v, 0 - uniform, dz);                                               \
        } else {                                                                                   \
            _Pragma("omp simd") for (int64_t i = 0; i < a->v; i++) dz[i] =                         \
                total * wr__exp_row_##S(z[i] - lse) - uniform;                                     \
        }                                                                                          \
        for (int64_t k = 0; k < a->k; k++)                                                         \
            dz[a->ids[row * a->k + k]] -= w[k];                                                    \
    }
KERNELS(float, f32)
KERNELS(double, f64)
#undef KERNELS

static wr_status each_row(const wr_call *c, const entropy_rows *a, row_fn f) {
    int64_t rows = wr_extent(&c->in[0], 0, c->in[0].rank - 1);
    bool parallel = c->in[0].n >= PARALLEL_ELEMENTS && c->env->threads > 1;
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t r = 0; r < rows; r++)
        f(a, r);
    return WR_OK;
}

static wr_status cross_entropy_cpu(const wr_call *c) {
    entropy_rows a = {.logits = c->in[0].data,
                      .ids = c->in[1].data,
                      .weight = c->in[2].data,
                      .v = c->in[0].dim[c->in[0].rank - 1],
                      .k = 1,
                      .eps = c->attr[0].r,
                      .loss = c->out[0].data,
                      .nll = c->out[1].data,
                      .lse = c->out[2].data};
    wr_status status = check_ids(c, 1, "cross_entropy");
    if (status != WR_OK) return status;
    return each_row(c, &a, c->in[0].dtype == WR_F32 ? cross_entropy_f32 : cross_entropy_f64);
}

static wr_status pwce_cpu(const wr_call *c) {
    entropy_rows a = {.logits = c->in[0].data,
                      .ids = c->in[1].data,
                      .weight = c->in[2].data,
                      .v = c->in[0].dim[c->in[0].rank - 1],
                      .k = c->in[1].dim[c->in[1].rank - 1],
                      .loss = c->out[0].data,
                      .lse = c->out[1].data};
    wr_status status = check_ids(c, 1, "pwce");
    if (status != WR_OK) return status;
    return each_row(c, &a, c->in[0].dtype == WR_F32 ? pwce_f32 : pwce_f64);
}

static wr_status gather_cpu(const wr_call *c) {
    entropy_rows a = {.logits = c->in[0].data,
                      .ids = c->in[1].data,
                      .v = c->in[0].dim[c->in[0].rank - 1],
                      .k = c->in[1].dim[c->in[1].rank - 1],
                      .lp = c->out[0].data,
                      .lse = c->out[1].data,
                      .mean = c->out[2].data};
    wr_status status = check_ids(c, 1, "gather_log_softmax");
    if (status != WR_OK) return status;
    return each_row(c, &a, c->in[0].dtype == WR_F32 ? gather_f32 : gather_f64);
}

static wr_status gradient_cpu(const wr_call *c) {
    entropy_rows a = {.logits = c->in[0].data,
                      .lse_in = c->in[1].data,
                      .total = c->in[2].data,
                      .uniform = c->in[3].data,
                      .ids = c->in[4].data,
                      .weight = c->in[5].data,
                      .v = c->in[0].dim[c->in[0].rank - 1],
                      .k = c->in[4].dim[c->in[4].rank - 1],
                      .dlogits = c->out[0].data};
    wr_status status = check_ids(c, 4, "cross_entropy_grad");
    if (status != WR_OK) return status;
    return each_row(c, &a, c->in[0].dtype == WR_F32 ? gradient_f32 : gradient_f64);
}

/* ---- expansions ---- */

static bool cross_entropy_expand(wr_expand_ctx *c) {
    wr z = c->in[0], w = c->in[2];
    double eps = c->attr[0].r;
    wr lse = wr_logsumexp(z), nll = wr_sub(lse, wr_pick(z, c->in[1]));
    wr spread = wr_sub(lse, wr_mean(z, -1)); /* the mean of -lp */
    c->out[0] = wr_mul(w, wr_add(wr_scale(nll, 1 - eps), wr_scale(spread, eps)));
    c->out[1] = wr_mul(w, nll);
    c->out[2] = lse;
    return !wr_is_poison(c->out[0]);
}

static bool pwce_expand(wr_expand_ctx *c) {
    wr z = c->in[0], w = c->in[2], lse = wr_logsumexp(z);
    wr nll = wr_sub(wr__repeat_last(lse, w), wr_gather(z, c->in[1]));
    c->out[0] = wr_sum(wr_mul(w, nll), -1);
    c->out[1] = lse;
    return !wr_is_poison(c->out[0]);
}

static bool gather_expand(wr_expand_ctx *c) {
    wr z = c->in[0], lse = wr_logsumexp(z), at_ids = wr_gather(z, c->in[1]);
    c->out[0] = wr_sub(at_ids, wr__repeat_last(lse, at_ids));
    c->out[1] = lse;
    c->out[2] = wr_sub(wr_mean(z, -1), lse);
    return !wr_is_poison(c->out[0]);
}

static bool gradient_expand(wr_expand_ctx *c) {
    wr z = c->in[0], p = wr_exp(wr_sub(z, wr__repeat_last(c->in[1], z)));
    wr smooth = wr_sub(wr_mul(wr__repeat_last(c->in[2], z), p), wr__repeat_last(c->in[3], z));
    c->out[0] = wr_sub(smooth, wr_scatter_add(c->in[5], c->in[4], wr_dim_of(z, -1)));
    return !wr_is_poison(c->out[0]);
}

/* ---- gradients ---- */

static wr or_zero(wr cot, wr like) { return wr_is_poison(cot) ? wr_zeros_like(like) : cot; }

static wr emit_gradient(wr z, wr lse, wr total, wr uniform, wr ids, wr w) {
    wr in[6] = {z, lse, total, uniform, ids, w};
    return wr_emit(WR_HERE, &wr_op_cross_entropy_grad, 6, in, NULL);
}

/* [..] as [.., 1] */
static wr as_column(wr x) {
    wr_type t = wr_type_of(x);
    t.dim[t.rank] = wr_n(1);
    return wr_reshape(x, t.rank + 1, t.dim);
}

/* d/d weight: the losses of weight 1 */
static bool weight_grad(wr_grad_ctx *c) {
    wr one = wr_broadcast_like(wr_scalar(c->g, wr_dtype_of(c->in[2]), 1.0), c->in[2]);
    wr_cross_entropy_out x = wr_cross_entropy(c->in[0], c->in[1], one, c->attr[0].r);
    return (wr_is_poison(c->cot[0]) || wr_contribute(c, 2, wr_mul(c->cot[0], x.loss))) &&
           (wr_is_poison(c->cot[1]) || wr_contribute(c, 2, wr_mul(c->cot[1], x.nll)));
}

/* With the loss' cotangent l and the nll's n, each times the weight:
 * total = l + n + the lse's, uniform = eps l / V, w = (1 - eps) l + n. */
static bool cross_entropy_grad_rule(wr_grad_ctx *c) {
    wr z = c->in[0], weight = c->in[2];
    double eps = c->attr[0].r;
    wr l = wr_mul(weight, or_zero(c->cot[0], c->out[0]));
    wr total = l, w = wr_scale(l, 1 - eps);
    if (!wr_is_poison(c->cot[1])) {
        wr n = wr_mul(weight, c->cot[1]);
        total = wr_add(total, n);
        w = wr_add(w, n);
    }
    if (!wr_is_poison(c->cot[2])) total = wr_add(total, c->cot[2]);
    wr uniform = wr_scale_by_dim(wr_scale(l, eps), wr_dim_of(z, -1), -1.0);
    wr dz = emit_gradient(z, c->out[2], total, uniform, as_column(c->in[1]), as_column(w));
    return wr_contribute(c, 0, dz) && (!c->needed[2] || weight_grad(c));
}

static bool pwce_grad_rule(wr_grad_ctx *c) {
    wr z = c->in[0], ids = c->in[1], w = c->in[2], lse = c->out[1];
    wr cot = or_zero(c->cot[0], c->out[0]), by_w = wr_mul(w, wr__repeat_last(cot, w));
    wr total = wr_sum(by_w, -1);
    if (!wr_is_poison(c->cot[1])) total = wr_add(total, c->cot[1]);
    wr dz = emit_gradient(z, lse, total, wr_zeros_like(total), ids, by_w);
    if (!wr_contribute(c, 0, dz)) return false;
    if (!c->needed[2]) return true;
    wr nll = wr_sub(wr__repeat_last(lse, w), wr_gather(z, ids));
    return wr_contribute(c, 2, wr_mul(wr__repeat_last(cot, w), nll));
}

/* With cotangents l of lp, s of lse and m of the mean: total = s - sum of l - m, uniform = -m / V,
 * w = -l. */
static bool gather_grad_rule(wr_grad_ctx *c) {
    wr z = c->in[0], w = wr_neg(or_zero(c->cot[0], c->out[0]));
    wr total = wr_sum(w, -1), uniform = wr_zeros_like(total);
    if (!wr_is_poison(c->cot[1])) total = wr_add(total, c->cot[1]);
    if (!wr_is_poison(c->cot[2])) {
        total = wr_sub(total, c->cot[2]);
        uniform = wr_scale_by_dim(wr_neg(c->cot[2]), wr_dim_of(z, -1), -1.0);
    }
    return wr_contribute(c, 0, emit_gradient(z, c->out[1], total, uniform, c->in[1], w));
}

/* ---- samples: with and without smoothing; one word; longer than a block; many rows ---- */

static wr cross_entropy_sample(wr_sample *s) {
    static const int64_t sizes[][3] = {{2, 3, 5}, {1, 4, 1}, {1, 3, 2100}, {13, 9, 101}};
    if (s->variant >= 5) return (wr){s->g, 0};
    const int64_t *d = sizes[s->variant % 4];
    wr z = s->input(s, WR_FILL_REAL, 0, 3, d), ids = s->input(s, WR_FILL_INDEX, d[2], 2, d);
    wr w = s->input(s, WR_FILL_POSITIVE, 0, 2, d);
    return wr_cross_entropy(z, ids, w, s->variant == 4 ? 0.0 : 0.1).loss;
}

static const int64_t SPARSE[][4] = {{2, 3, 5, 2}, {1, 3, 2100, 1}, {13, 9, 101, 7}};
enum { SPARSE_SAMPLES = 3 };

static wr pwce_sample(wr_sample *s) {
    if (s->variant >= SPARSE_SAMPLES) return (wr){s->g, 0};
    const int64_t *d = SPARSE[s->variant], few[3] = {d[0], d[1], d[3]};
    wr z = s->input(s, WR_FILL_REAL, 0, 3, d), ids = s->input(s, WR_FILL_INDEX, d[2], 3, few);
    return wr_pwce(z, ids, s->input(s, WR_FILL_POSITIVE, 0, 3, few));
}

static wr gather_sample(wr_sample *s) {
    if (s->variant >= SPARSE_SAMPLES) return (wr){s->g, 0};
    const int64_t *d = SPARSE[s->variant], few[3] = {d[0], d[1], d[3]};
    wr z = s->input(s, WR_FILL_REAL, 0, 3, d), ids = s->input(s, WR_FILL_INDEX, d[2], 3, few);
    return wr_gather_log_softmax(z, ids).lp;
}

static wr gradient_sample(wr_sample *s) {
    if (s->variant >= SPARSE_SAMPLES) return (wr){s->g, 0};
    const int64_t *d = SPARSE[s->variant], few[3] = {d[0], d[1], d[3]};
    wr z = s->input(s, WR_FILL_REAL, 0, 3, d), lse = s->input(s, WR_FILL_POSITIVE, 0, 2, d);
    wr total = s->input(s, WR_FILL_REAL, 0, 2, d), even = s->input(s, WR_FILL_REAL, 0, 2, d);
    wr ids = s->input(s, WR_FILL_INDEX, d[2], 3, few), w = s->input(s, WR_FILL_REAL, 0, 3, few);
    return emit_gradient(z, lse, total, even, ids, w);
}

const wr_op wr_op_cross_entropy = {
    .name = "cross_entropy",
    .doc = "logits [.., V], ids [..], weight [..] -> loss, nll, lse [..]",
    .traits = WR_MIXED,
    .n_in = 3,
    .n_out = 3,
    .attrs = {{"eps", WR_ATTR_REAL}},
    .shape = cross_entropy_shape,
    .cost = cost,
    .cpu = cross_entropy_cpu,
    .grad = cross_entropy_grad_rule,
    .expand = cross_entropy_expand,
    .sample = cross_entropy_sample,
    .no_inverse = "many logits have one loss"};

const wr_op wr_op_pwce = {.name = "pwce",
                          .doc = "logits [.., V], ids [.., K], w [.., K] -> loss, lse [..]",
                          .traits = WR_MIXED,
                          .n_in = 3,
                          .n_out = 2,
                          .shape = pwce_shape,
                          .cost = cost,
                          .cpu = pwce_cpu,
                          .grad = pwce_grad_rule,
                          .expand = pwce_expand,
                          .sample = pwce_sample,
                          .no_inverse = "many logits have one loss"};

const wr_op wr_op_gather_log_softmax = {
    .name = "gather_log_softmax",
    .doc = "logits [.., V], ids [.., K] -> log-probabilities [.., K], lse, their mean over V [..]",
    .traits = WR_MIXED,
    .n_in = 2,
    .n_out = 3,
    .shape = gather_shape,
    .cost = cost,
    .cpu = gather_cpu,
    .grad = gather_grad_rule,
    .expand = gather_expand,
    .sample = gather_sample,
    .no_inverse = "logits that differ by a constant have one softmax"};

const wr_op wr_op_cross_entropy_grad = {
    .name = "cross_entropy_grad",
    .doc = "z [.., V]; lse, a, b [..]; ids, w [.., K] -> a e^(z - lse) - b - w at the ids",
    .traits = WR_MIXED,
    .n_in = 6,
    .shape = grad_shape,
    .cost = cost,
    .cpu = gradient_cpu,
    .expand = gradient_expand,
    .sample = gradient_sample,
    .inplace = 1,
    .no_inverse = "exponentials and weights mix in it"};
