/* sort.c: argmax, the first k in order by a heap, running sums; see sort.h. */
#include "ops/sort.h"

#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/shape.h"
#include "ops/slice.h"

#include <math.h>
#include <string.h>

enum { PARALLEL_FROM = 16384 }; /* elements; below this a second thread costs more than it brings */

static bool go_parallel(const wr_call *c) {
    return c->in[0].n >= PARALLEL_FROM && c->env->threads > 1;
}

static bool needs_last_axis(wr_shape_ctx *c) {
    if (!wr_shape_needs_float(c, 0)) return false;
    if (wr_rank(c->in[0]) > 0) return true;
    return wr_shape_fail(c, "x [.., V]", NULL, "works along the last axis; a scalar has none");
}

/* ---- argmax ---- */

wr wr_argmax_at(wr_loc loc, wr x) { return wr_emit(loc, &wr_op_argmax, 1, &x, NULL); }

static bool argmax_shape(wr_shape_ctx *c) {
    if (!needs_last_axis(c)) return false;
    c->out[0] = wr_type_of(c->in[0]);
    c->out[0].dtype = WR_I32;
    c->out[0].dim[--c->out[0].rank] = (wr_dim){0};
    return true;
}

/* The maximum vectorises; then the first element that equals it is looked for. A row without any
 * ordinary number gives 0. */
#define ARGMAX(type, suffix)                                                                       \
    static int32_t argmax_##suffix(const void *from, int64_t n) {                                  \
        const type *x = from;                                                                      \
        type m = -INFINITY;                                                                        \
        _Pragma("omp simd reduction(max : m)") for (int64_t i = 0; i < n; i++) m =                 \
            x[i] > m ? x[i] : m;                                                                   \
        for (int64_t i = 0; i < n; i++)                                                            \
            if (x[i] == m) return (int32_t)i;                                                      \
        return 0;                                                                                  \
    }
ARGMAX(float, f32)
ARGMAX(double, f64)

static wr_status argmax_cpu(const wr_call *c) {
    const wr_tensor *x = &c->in[0];
    int64_t n = x->dim[x->rank - 1], rows = c->out[0].n;
    int32_t *out = c->out[0].data;
    bool parallel = go_parallel(c);
    if (n == 0 && rows > 0)
        return wr_fail(c->env->err, WR_ERR_INPUT, "argmax: the last axis is empty");
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t r = 0; r < rows; r++)
        out[r] = x->dtype == WR_F32 ? argmax_f32((const float *)x->data + r * n, n)
                                    : argmax_f64((const double *)x->data + r * n, n);
    return WR_OK;
}

static wr_cost input_cost(const wr_call *c) {
    return (wr_cost){.flops = (double)c->in[0].n, .bytes = wr_bytes_moved(c)};
}

static wr argmax_sample(wr_sample *s) {
    static const int64_t dims[4][3] = {{3, 7, 0}, {2, 3, 33}, {11, 0, 0}, {9, 21, 131}};
    static const int rank[4] = {2, 3, 1, 3};
    if (s->variant > 3) return (wr){s->g, 0};
    return wr_argmax(s->input(s, WR_FILL_APART, 0, rank[s->variant], dims[s->variant]));
}

const wr_op wr_op_argmax = {.name = "argmax",
                            .doc = "index of the largest of the last axis",
                            .traits = WR_MIXED,
                            .n_in = 1,
                            .shape = argmax_shape,
                            .cost = input_cost,
                            .cpu = argmax_cpu,
                            .no_grad = "indices are not differentiable",
                            .no_inverse = "keeps an index only",
                            .sample = argmax_sample};

/* ---- the first k ---- */

wr wr_top_k_at(wr_loc loc, wr x, wr_dim k, bool largest, wr *indices) {
    wr_attr attr[2];
    memset(attr, 0, sizeof attr);
    attr[0].d = k;
    attr[1].i = largest;
    wr values = wr_emit(loc, &wr_op_top_k, 1, &x, attr);
    if (indices != NULL) *indices = wr_output(values, 1);
    return values;
}

wr wr_sort_at(wr_loc loc, wr x, wr *indices) {
    return wr_top_k_at(loc, x, wr_dim_of(x, -1), false, indices);
}

static bool top_k_shape(wr_shape_ctx *c) {
    if (!needs_last_axis(c)) return false;
    wr_type t = wr_type_of(c->in[0]);
    wr_dim k = c->attr[0].d, v = t.dim[t.rank - 1];
    bool literal = wr_dim_is_literal(k) && wr_dim_is_literal(v);
    if (wr_dim_same(k, wr_n(0)) || (literal && wr_dim_literal(k) > wr_dim_literal(v)))
        return wr_shape_fail(c, "1 <= k <= V of x [.., V]", NULL, "k is %lld",
                             (long long)wr_dim_literal(k));
    t.dim[t.rank - 1] = k;
    c->out[0] = c->out[1] = t;
    c->out[1].dtype = WR_I32;
    return true;
}

/* Does element a stand before element b? Not-a-number stands last. `sign` -1: ascending. */
#define HEAP(type, suffix)                                                                         \
    static bool before_##suffix(const type *x, int32_t a, int32_t b, type sign) {                  \
        type p = sign * x[a], q = sign * x[b];                                                     \
        if (p > q) return true;                                                                    \
        if (q > p) return false;                                                                   \
        bool lost = p != p, other = q != q;                                                        \
        return lost == other ? a < b : other;                                                      \
    }                                                                                              \
    /* Restore the heap whose top is the last in order, after `at` was replaced. */                \
    static void sink_##suffix(const type *x, int32_t *heap, int64_t n, int64_t at, type sign) {    \
        int32_t moved = heap[at];                                                                  \
        for (;;) {                                                                                 \
            int64_t child = 2 * at + 1;                                                            \
            if (child >= n) break;                                                                 \
            if (child + 1 < n && before_##suffix(x, heap[child], heap[child + 1], sign)) child++;  \
            if (!before_##suffix(x, moved, heap[child], sign)) break;                              \
            heap[at] = heap[child];                                                                \
            at = child;                                                                            \
        }                                                                                          \
        heap[at] = moved;                                                                          \
    }                                                                                              \
    /* The first k of n elements into heap[k], in order. */                                        \
    static void first_k_##suffix(const type *x, int64_t n, int64_t k, type sign, int32_t *heap) {  \
        for (int64_t i = 0; i < k; i++)                                                            \
            heap[i] = (int32_t)i;                                                                  \
        for (int64_t i = k / 2; i-- > 0;)                                                          \
            sink_##suffix(x, heap, k, i, sign);                                                    \
        for (int64_t i = k; i < n; i++) {                                                          \
            if (!before_##suffix(x, (int32_t)i, heap[0], sign)) continue;                          \
            heap[0] = (int32_t)i;                                                                  \
            sink_##suffix(x, heap, k, 0, sign);                                                    \
        }                                                                                          \
        for (int64_t i = k - 1; i > 0; i--) {                                                      \
            int32_t last = heap[0];                                                                \
            heap[0] = heap[i];                                                                     \
            heap[i] = last;                                                                        \
            sink_##suffix(x, heap, i, 0, sign);                                                    \
        }                                                                                          \
    }                                                                                              \
    static void top_k_row_##suffix(const wr_call *c, int64_t row, int32_t *heap) {                 \
        int64_t n = c->in[0].dim[c->in[0].rank - 1], k = c->attr[0].i;                             \
        const type *x = (const type *)c->in[0].data + row * n;                                     \
        type *values = c->out[0].data;                                                             \
        first_k_##suffix(x, n, k, c->attr[1].i != 0 ? (type)1 : (type)-1, heap);                   \
        for (int64_t i = 0; values != NULL && i < k; i++)                                          \
            values[row * k + i] = x[heap[i]];                                                      \
    }
HEAP(float, f32)
HEAP(double, f64)

static int64_t row_count(const wr_tensor *x) { return wr_extent(x, 0, x->rank - 1); }

static wr_status top_k_cpu(const wr_call *c) {
    const wr_tensor *x = &c->in[0];
    int64_t n = x->dim[x->rank - 1], k = c->attr[0].i, rows = row_count(x);
    if (k < 1 || k > n)
        return wr_fail(c->env->err, WR_ERR_INPUT, "top_k: k is %lld of %lld elements; 1 <= k <= V",
                       (long long)k, (long long)n);
    int32_t *indices = c->out[1].data != NULL ? c->out[1].data : c->workspace;
    bool parallel = go_parallel(c);
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t r = 0; r < rows; r++) {
        if (x->dtype == WR_F32)
            top_k_row_f32(c, r, indices + r * k);
        else
            top_k_row_f64(c, r, indices + r * k);
    }
    return WR_OK;
}

static wr_cost top_k_cost(const wr_call *c) {
    wr_cost cost = input_cost(c);
    cost.workspace = (size_t)(row_count(&c->in[0]) * c->attr[0].i) * sizeof(int32_t);
    return cost;
}

static bool top_k_grad(wr_grad_ctx *c) {
    if (wr_is_poison(c->cot[0])) return true;
    return wr_contribute(c, 0, wr_scatter_add(c->cot[0], c->out[1], wr_dim_of(c->in[0], -1)));
}

static wr top_k_sample(wr_sample *s) {
    static const int64_t dims[5][3] = {{3, 7, 0}, {2, 3, 9}, {11, 0, 0}, {6, 0, 0}, {200, 101, 0}};
    static const int rank[5] = {2, 3, 1, 1, 2};
    static const int64_t k[5] = {3, 1, 11, 4, 5};
    if (s->variant > 4) return (wr){s->g, 0};
    wr x = s->input(s, WR_FILL_APART, 0, rank[s->variant], dims[s->variant]);
    return wr_top_k_at(WR_HERE, x, wr_n(k[s->variant]), s->variant % 2 == 0, NULL);
}

const wr_op wr_op_top_k = {
    .name = "top_k",
    .doc = "the first k of the last axis in order, and their indices",
    .traits = WR_MIXED,
    .n_in = 1,
    .n_out = 2,
    .attrs = {{"k", WR_ATTR_DIM}, {"largest", WR_ATTR_BOOL}},
    .shape = top_k_shape,
    .cost = top_k_cost,
    .cpu = top_k_cpu,
    .grad = top_k_grad,
    .no_inverse = "loses the other elements",
    .sample = top_k_sample,
};

/* ---- running sums ---- */

enum { STRIP = 64 }; /* columns summed side by side */

wr wr_cumsum_at(wr_loc loc, wr x, int axis, bool reverse, bool exclusive) {
    return wr_emit(
        loc, &wr_op_cumsum, 1, &x,
        (wr_attr[]){{.i = axis < 0 ? axis + wr_rank(x) : axis}, {.i = reverse}, {.i = exclusive}});
}

static bool cumsum_shape(wr_shape_ctx *c) {
    return wr_shape_needs_float(c, 0) && wr_shape_axis(c, c->attr[0].i, wr_rank(c->in[0])) >= 0 &&
           wr_shape_same(c);
}

/* `width` columns of [n, inner]; sums are kept in double. */
#define CUMSUM(type, suffix)                                                                       \
    static void cumsum_##suffix(const void *from, void *to, int64_t n, int64_t inner,              \
                                int64_t width, bool reverse, bool exclusive) {                     \
        double sum[STRIP] = {0};                                                                   \
        for (int64_t i = 0; i < n; i++) {                                                          \
            int64_t at = (reverse ? n - 1 - i : i) * inner;                                        \
            const type *x = (const type *)from + at;                                               \
            type *y = (type *)to + at;                                                             \
            _Pragma("omp simd") for (int64_t k = 0; k < width; k++) {                              \
                double before = sum[k];                                                            \
                sum[k] += (double)x[k];                                                            \
                y[k] = (type)(exclusive ? before : sum[k]);                                        \
            }                                                                                      \
        }                                                                                          \
    }
CUMSUM(float, f32)
CUMSUM(double, f64)

static wr_status cumsum_cpu(const wr_call *c) {
    const wr_tensor *x = &c->in[0];
    int axis = (int)c->attr[0].i;
    int64_t outer = wr_extent(x, 0, axis), n = x->dim[axis];
    int64_t inner = wr_extent(x, axis + 1, x->rank), strips = (inner + STRIP - 1) / STRIP;
    bool parallel = go_parallel(c), reverse = c->attr[1].i != 0, exclusive = c->attr[2].i != 0;
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t i = 0; i < outer * strips; i++) {
        int64_t first = i % strips * STRIP, at = i / strips * n * inner + first;
        int64_t width = inner - first < STRIP ? inner - first : STRIP;
        if (x->dtype == WR_F32)
            cumsum_f32((const float *)x->data + at, (float *)c->out[0].data + at, n, inner, width,
                       reverse, exclusive);
        else
            cumsum_f64((const double *)x->data + at, (double *)c->out[0].data + at, n, inner, width,
                       reverse, exclusive);
    }
    return WR_OK;
}

static bool cumsum_grad(wr_grad_ctx *c) {
    return wr_contribute(
        c, 0, wr_cumsum_with(c->cot[0], (int)c->attr[0].i, c->attr[1].i == 0, c->attr[2].i != 0));
}

static wr cumsum_sample(wr_sample *s) {
    if (s->variant > 6) return (wr){s->g, 0};
    int64_t dims[3] = {wr_sample_int(s, 1, 4), wr_sample_int(s, 1, 5), wr_sample_int(s, 1, 6)};
    if (s->variant == 6) dims[1] = 65, dims[2] = 333;
    return wr_cumsum_with(s->input(s, WR_FILL_REAL, 0, 3, dims),
                          s->variant == 6 ? 1 : s->variant % 3, s->variant % 2 == 1,
                          s->variant >= 3);
}

/* Each sum less the one before it (behind it, for reverse sums). */
static bool cumsum_inverse(wr_inverse_ctx *c) {
    int axis = (int)c->attr[0].i;
    if (c->attr[2].i != 0) return wr_inverse_wait(c, "exclusive sums leave out the last element");
    wr y = c->y[0];
    wr neighbour = c->attr[1].i != 0 ? wr_pad(wr_slice(y, axis, 1, 0), axis, 0, 1)
                                     : wr_pad(wr_slice(y, axis, 0, -1), axis, 1, 0);
    return wr_inverse_solve(c, 0, wr_sub(y, neighbour)).id != 0;
}

const wr_op wr_op_cumsum = {
    .name = "cumsum",
    .doc = "running sums along an axis",
    .n_in = 1,
    .attrs = {{"axis", WR_ATTR_INT}, {"reverse", WR_ATTR_BOOL}, {"exclusive", WR_ATTR_BOOL}},
    .shape = cumsum_shape,
    .cpu = cumsum_cpu,
    .grad = cumsum_grad,
    .inplace = 1,
    .inverse = cumsum_inverse,
    .sample = cumsum_sample,
};
