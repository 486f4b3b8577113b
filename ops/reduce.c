/* reduce.c: rows that reduce contiguous axes. x seen as [outer, middle, inner] gives [outer,
 * inner].
 *
 * The middle axis is cut into parts whose number depends on the sizes alone; parts are summed one
 * after the other, so that the result is the same for any number of threads. */
#include "ops/reduce.h"

#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/shape.h"

#include <math.h>

wr wr_reduce_at(wr_loc loc, const wr_op *op, wr x, int from, int to) {
    int rank = wr_rank(x);
    if (to <= 0 && from < 0) to += rank;
    if (from < 0) from += rank;
    if (!wr_is_poison(x) && from == to && op == &wr_op_sum) return x;
    return wr_emit(loc, op, 1, &x, (wr_attr[]){{.i = from}, {.i = to}});
}

wr wr_reduce_axis_at(wr_loc loc, const wr_op *op, wr x, int axis) {
    int at = axis < 0 ? axis + wr_rank(x) : axis;
    return wr_reduce_at(loc, op, x, at, at + 1);
}

wr wr_mean_at(wr_loc loc, wr x, int axis) {
    return wr_scale_by_dim_at(loc, wr_reduce_axis_at(loc, &wr_op_sum, x, axis), wr_dim_of(x, axis),
                              -1.0);
}

wr wr_mean_all_at(wr_loc loc, wr x) {
    wr sum = wr_reduce_at(loc, &wr_op_sum, x, 0, wr_rank(x));
    for (int i = 0; i < wr_rank(x); i++)
        sum = wr_scale_by_dim_at(loc, sum, wr_dim_of(x, i), -1.0);
    return sum;
}

wr wr_reduce_to_suffix(wr x, wr_type t) {
    if (wr_is_poison(x) || wr_rank(x) <= t.rank) return x;
    return wr_sum_axes(x, 0, wr_rank(x) - t.rank);
}

static bool reduce_shape(wr_shape_ctx *c) {
    wr_type t = wr_type_of(c->in[0]);
    int64_t from = c->attr[0].i, to = c->attr[1].i;
    if (from < 0 || to > t.rank || from >= to)
        return wr_shape_fail(c, "0 <= from < to <= rank", NULL,
                             "axes %lld to %lld of a tensor with %d axes", (long long)from,
                             (long long)to, t.rank);
    if (!wr_shape_needs_float(c, 0)) return false;
    c->out[0] = (wr_type){.dtype = t.dtype};
    for (int i = 0; i < t.rank; i++)
        if (i < from || i >= to) c->out[0].dim[c->out[0].rank++] = t.dim[i];
    return true;
}

/* ---- kernels ---- */

typedef struct view3 {
    int64_t outer, middle, inner, parts, part;
} view3;

enum { PART_ELEMENTS = 8192, PARTS_MAX = 64, PARALLEL_ELEMENTS = 80000 };

static view3 view_of(const wr_call *c) {
    const wr_tensor *x = &c->in[0];
    int from = (int)c->attr[0].i, to = (int)c->attr[1].i;
    view3 v = {wr_extent(x, 0, from), wr_extent(x, from, to), wr_extent(x, to, x->rank), 1, 0};
    int64_t work = v.middle * v.inner;
    v.parts = work / PART_ELEMENTS;
    if (v.parts > PARTS_MAX) v.parts = PARTS_MAX;
    if (v.parts > v.middle) v.parts = v.middle;
    if (v.parts < 1 || v.outer >= 16) v.parts = 1;
    v.part = v.middle == 0 ? 0 : (v.middle + v.parts - 1) / v.parts;
    return v;
}

/* The sum and maximum of [middle, inner] rows into out[inner], for both float types. */
#define REDUCERS(type, suffix, lowest)                                                             \
    static void sum_##suffix(const void *from, int64_t rows, int64_t inner, void *to) {            \
        const type *x = from;                                                                      \
        type *o = to;                                                                              \
        if (inner == 1) {                                                                          \
            double lane[16] = {0}, sum = 0;                                                        \
            int64_t i = 0;                                                                         \
            for (; i + 16 <= rows; i += 16)                                                        \
                for (int l = 0; l < 16; l++)                                                       \
                    lane[l] += (double)x[i + l];                                                   \
            for (; i < rows; i++)                                                                  \
                sum += (double)x[i];                                                               \
            for (int l = 0; l < 16; l++)                                                           \
                sum += lane[l];                                                                    \
            o[0] = (type)sum;                                                                      \
            return;                                                                                \
        }                                                                                          \
        for (int64_t i = 0; i < inner; i++)                                                        \
            o[i] = 0;                                                                              \
        for (int64_t r = 0; r < rows; r++) {                                                       \
            _Pragma("omp simd") for (int64_t i = 0; i < inner; i++) o[i] += x[r * inner + i];      \
        }                                                                                          \
    }                                                                                              \
    static void max_##suffix(const void *from, int64_t rows, int64_t inner, void *to) {            \
        const type *x = from;                                                                      \
        type *o = to;                                                                              \
        for (int64_t i = 0; i < inner; i++)                                                        \
            o[i] = lowest;                                                                         \
        for (int64_t r = 0; r < rows; r++) {                                                       \
            _Pragma("omp simd") for (int64_t i = 0; i < inner; i++) {                              \
                type v = x[r * inner + i];                                                         \
                o[i] = v > o[i] || v != v ? v : o[i];                                              \
            }                                                                                      \
        }                                                                                          \
    }
REDUCERS(float, f32, -INFINITY)
REDUCERS(double, f64, -INFINITY)

typedef void (*reducer)(const void *x, int64_t rows, int64_t inner, void *out);

static wr_status reduce(const wr_call *c, reducer f) {
    view3 v = view_of(c);
    size_t e = wr_dtype_bytes(c->out[0].dtype);
    const char *x = c->in[0].data;
    char *out = c->out[0].data, *partial = v.parts > 1 ? c->workspace : out;
    bool parallel = c->in[0].n >= PARALLEL_ELEMENTS && c->env->threads > 1;
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t i = 0; i < v.outer * v.parts; i++) {
        int64_t o = i / v.parts, first = i % v.parts * v.part;
        int64_t rows = v.middle - first < v.part ? v.middle - first : v.part;
        f(x + (size_t)((o * v.middle + first) * v.inner) * e, rows < 0 ? 0 : rows, v.inner,
          partial + (size_t)(i * v.inner) * e);
    }
    for (int64_t o = 0; v.parts > 1 && o < v.outer; o++)
        f(partial + (size_t)(o * v.parts * v.inner) * e, v.parts, v.inner,
          out + (size_t)(o * v.inner) * e);
    return WR_OK;
}

static wr_status sum_cpu(const wr_call *c) {
    return reduce(c, c->out[0].dtype == WR_F32 ? sum_f32 : sum_f64);
}
static wr_status max_cpu(const wr_call *c) {
    return reduce(c, c->out[0].dtype == WR_F32 ? max_f32 : max_f64);
}

static wr_cost reduce_cost(const wr_call *c) {
    view3 v = view_of(c);
    size_t partials = v.parts > 1 ? (size_t)(v.outer * v.parts * v.inner) : 0;
    return (wr_cost){.flops = (double)c->in[0].n,
                     .bytes = wr_bytes_moved(c),
                     .workspace = partials * wr_dtype_bytes(c->out[0].dtype)};
}

/* ---- rows ---- */

/* A tensor of the reduced type repeated along the axes that were reduced. */
static wr repeat_back(wr_grad_ctx *c, wr reduced) {
    wr_type t = wr_type_of(c->in[0]), ones = t;
    for (int64_t i = c->attr[0].i; i < c->attr[1].i; i++)
        ones.dim[i] = wr_n(1);
    return wr_broadcast(wr_reshape(reduced, ones.rank, ones.dim), t.rank, t.dim);
}

static wr sample_reduce(wr_sample *s, const wr_op *op, wr_fill fill) {
    static const int axes[][2] = {{0, 3}, {0, 1}, {1, 2}, {2, 3}, {0, 2}, {1, 3}};
    if (s->variant > 6) return (wr){s->g, 0};
    int64_t dims[3] = {wr_sample_int(s, 1, 4), wr_sample_int(s, 1, 5), wr_sample_int(s, 1, 6)};
    if (s->variant == 6) { /* long enough for several parts */
        dims[0] = 1;
        dims[1] = fill == WR_FILL_REAL ? 1350 : 40;
        dims[2] = fill == WR_FILL_REAL ? 61 : 3;
    }
    const int *a = axes[s->variant % 6 == 0 && s->variant > 0 ? 4 : s->variant % 6];
    return wr_reduce_at(WR_HERE, op, s->input(s, fill, 0, 3, dims), a[0], a[1]);
}

#define AXES .attrs = {{"from", WR_ATTR_INT}, {"to", WR_ATTR_INT}}

static wr sum_sample(wr_sample *s) { return sample_reduce(s, &wr_op_sum, WR_FILL_REAL); }
static bool sum_grad(wr_grad_ctx *c) { return wr_contribute(c, 0, repeat_back(c, c->cot[0])); }
const wr_op wr_op_sum = {.name = "sum",
                         .doc = "sum over axes [from, to)",
                         .traits = WR_REDUCE,
                         .n_in = 1,
                         AXES,
                         .shape = reduce_shape,
                         .cost = reduce_cost,
                         .cpu = sum_cpu,
                         .grad = sum_grad,
                         .sample = sum_sample,
                         .no_inverse = "many operands have one sum"};

/* The cotangent goes to every element that equals the maximum; there is one unless values tie. */
static wr max_sample(wr_sample *s) { return sample_reduce(s, &wr_op_max, WR_FILL_APART); }
static bool max_grad(wr_grad_ctx *c) {
    wr chosen = wr_equal(c->in[0], repeat_back(c, c->out[0]));
    wr zero = wr_scalar(c->g, wr_dtype_of(c->cot[0]), 0.0);
    return wr_contribute(c, 0, wr_select(chosen, repeat_back(c, c->cot[0]), zero));
}
const wr_op wr_op_max = {.name = "max",
                         .doc = "largest over axes [from, to)",
                         .traits = WR_REDUCE,
                         .n_in = 1,
                         AXES,
                         .shape = reduce_shape,
                         .cost = reduce_cost,
                         .cpu = max_cpu,
                         .grad = max_grad,
                         .sample = max_sample,
                         .no_inverse = "many operands have one maximum"};

/* ---- x times a size ---- */

wr wr_scale_by_dim_at(wr_loc loc, wr x, wr_dim size, double power) {
    if (wr_dim_is_literal(size) && !wr_is_poison(x))
        return wr_real_at(loc, &wr_op_scale, x, pow((double)wr_dim_literal(size), power));
    return wr_emit(loc, &wr_op_scale_by_dim, 1, &x, (wr_attr[]){{.d = size}, {.r = power}});
}

static wr_status scale_by_dim_cpu(const wr_call *c) {
    wr_chain_code code = {.op = &wr_op_scale, .n_in = 1};
    code.attr[0].r = pow((double)c->attr[0].i, c->attr[1].r);
    wr_chain_run(c->env, 1, c->in, 1, &code, &c->out[0]);
    return WR_OK;
}

static bool scale_by_dim_shape(wr_shape_ctx *c) {
    return wr_shape_needs_float(c, 0) && wr_shape_same(c);
}

static bool scale_by_dim_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, wr_scale_by_dim(c->cot[0], c->attr[0].d, c->attr[1].r));
}

static wr scale_by_dim_sample(wr_sample *s) {
    if (s->variant > 0) return (wr){s->g, 0};
    int64_t dims[2] = {3, 4};
    wr x = s->input(s, WR_FILL_REAL, 0, 2, dims);
    return wr_emit(WR_HERE, &wr_op_scale_by_dim, 1, &x, (wr_attr[]){{.d = wr_n(7)}, {.r = -0.5}});
}

static bool scale_by_dim_inverse(wr_inverse_ctx *c) {
    wr one = wr_scalar(c->g, wr_dtype_of(c->y[0]), 1.0);
    wr factor = wr_scale_by_dim(one, c->attr[0].d, c->attr[1].r);
    return wr_inverse_term(c, 0, wr_log(factor)) &&
           wr_inverse_solve(c, 0, wr_scale_by_dim(c->y[0], c->attr[0].d, -c->attr[1].r)).id != 0;
}

const wr_op wr_op_scale_by_dim = {.name = "scale_by_dim",
                                  .doc = "x size^power",
                                  .n_in = 1,
                                  .attrs = {{"size", WR_ATTR_DIM}, {"power", WR_ATTR_REAL}},
                                  .shape = scale_by_dim_shape,
                                  .cpu = scale_by_dim_cpu,
                                  .grad = scale_by_dim_grad,
                                  .sample = scale_by_dim_sample,
                                  .inplace = 1,
                                  .inverse = scale_by_dim_inverse};
