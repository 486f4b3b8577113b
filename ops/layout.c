/* layout.c: reshape, broadcast, permutation of axes, and the views that mark gradients' ends. */
#include "ops/layout.h"

#include "ops/elementwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"

#include <string.h>

/* ---- views ---- */

static wr_dim product(wr_graph *g, int rank, const wr_dim *dims) {
    wr_dim n = wr_n(1);
    for (int i = 0; i < rank; i++)
        n = wr_dim_mul(g, n, dims[i]);
    return n;
}

/* Sizes travel as attributes; the rank in front. */
#define DIM_ATTRS                                                                                  \
    .attrs = {{"rank", WR_ATTR_INT}, {"d0", WR_ATTR_DIM}, {"d1", WR_ATTR_DIM},                     \
              {"d2", WR_ATTR_DIM},   {"d3", WR_ATTR_DIM}, {"d4", WR_ATTR_DIM}}

static wr emit_with_dims(wr_loc loc, const wr_op *op, wr x, int rank, const wr_dim *dims) {
    wr_attr attr[1 + WR_MAX_RANK];
    memset(attr, 0, sizeof attr);
    attr[0].i = rank;
    for (int i = 0; i < WR_MAX_RANK; i++)
        attr[1 + i].d = i < rank ? dims[i] : wr_n(1);
    if (rank > WR_MAX_RANK && !wr_is_poison(x))
        return wr_mistake(x.g, loc, "%s: %d axes; a tensor has at most %d", op->name, rank,
                          WR_MAX_RANK);
    return wr_emit(loc, op, 1, &x, attr);
}

static void type_from_attrs(wr_shape_ctx *c) {
    c->out[0] = wr_type_of(c->in[0]);
    c->out[0].rank = (int)c->attr[0].i;
    for (int i = 0; i < c->out[0].rank; i++)
        c->out[0].dim[i] = c->attr[1 + i].d;
}

wr wr_reshape_at(wr_loc loc, wr x, int rank, const wr_dim *dims) {
    wr_type t = wr_type_of(x);
    if (!wr_is_poison(x) && t.rank == rank && memcmp(t.dim, dims, sizeof *dims * (size_t)rank) == 0)
        return x;
    return emit_with_dims(loc, &wr_op_reshape, x, rank, dims);
}

static bool reshape_shape(wr_shape_ctx *c) {
    wr_type t = wr_type_of(c->in[0]);
    type_from_attrs(c);
    wr_dim before = product(c->g, t.rank, t.dim);
    wr_dim after = product(c->g, c->out[0].rank, c->out[0].dim);
    if (before.id != 0 && wr_dim_eq(c->g, before, after)) return true;
    wr_str s = {0};
    wr_type_print(c->g, &t, &s);
    wr_str_add(&s, " has ");
    wr_dims_print(wr_graph_dims(c->g), before, &s);
    wr_str_add(&s, " elements, ");
    wr_type_print(c->g, &c->out[0], &s);
    wr_str_add(&s, " has ");
    wr_dims_print(wr_graph_dims(c->g), after, &s);
    wr_shape_fail(c, "the product of the sizes stays the same", NULL, "%s", wr_str_text(&s));
    wr_str_free(&s);
    return false;
}

static bool reshape_grad(wr_grad_ctx *c) {
    wr_type t = wr_type_of(c->in[0]);
    return wr_contribute(c, 0, wr_reshape(c->cot[0], t.rank, t.dim));
}

static wr reshape_sample(wr_sample *s) {
    if (s->variant > 0) return (wr){s->g, 0};
    int64_t dims[3] = {2, wr_sample_int(s, 1, 3), 4};
    return wr_reshape(s->input(s, WR_FILL_REAL, 0, 3, dims),
                      WR_DIMS(wr_n(2 * dims[1]), wr_n(2), wr_n(2)));
}

static bool reshape_inverse(wr_inverse_ctx *c) {
    wr_type t = wr_type_of(c->in[0]);
    return wr_inverse_solve(c, 0, wr_reshape(c->y[0], t.rank, t.dim)).id != 0;
}

const wr_op wr_op_reshape = {.name = "reshape",
                             .doc = "the same elements under other sizes",
                             .traits = WR_VIEW | WR_MIXED,
                             .n_in = 1,
                             DIM_ATTRS,
                             .shape = reshape_shape,
                             .grad = reshape_grad,
                             .sample = reshape_sample,
                             .inverse = reshape_inverse};

wr wr_leaf(wr x) {
    if (wr_is_poison(x)) return x;
    return wr_emit_in(x.g, WR_HERE, &wr_op_leaf, 1, &x, NULL, true);
}

static bool pass_grad(wr_grad_ctx *c) { return wr_contribute(c, 0, c->cot[0]); }
static bool pass_inverse(wr_inverse_ctx *c) { return wr_inverse_solve(c, 0, c->y[0]).id != 0; }
const wr_op wr_op_leaf = {.name = "leaf",
                          .doc = "x as a node of its own",
                          .traits = WR_VIEW,
                          .n_in = 1,
                          .shape = wr_shape_same,
                          .grad = pass_grad,
                          .no_sample = "made by differentiation only",
                          .inverse = pass_inverse};

wr wr_stop_gradient_at(wr_loc loc, wr x) { return wr_emit(loc, &wr_op_stop_gradient, 1, &x, NULL); }

static bool stop_grad(wr_grad_ctx *c) {
    (void)c;
    return true; /* no contribution: that is what the row is for */
}
static wr stop_gradient_sample(wr_sample *s) {
    int64_t dims[1] = {3};
    if (s->variant > 0) return (wr){s->g, 0};
    return wr_stop_gradient(s->input(s, WR_FILL_REAL, 0, 1, dims));
}
static bool stop_gradient_inverse(wr_inverse_ctx *c) { /* stops it in this direction, too */
    return wr_inverse_solve(c, 0, wr_stop_gradient(c->y[0])).id != 0;
}
const wr_op wr_op_stop_gradient = {.name = "stop_gradient",
                                   .doc = "x, without a gradient",
                                   .traits = WR_VIEW,
                                   .n_in = 1,
                                   .shape = wr_shape_same,
                                   .grad = stop_grad,
                                   .sample = stop_gradient_sample,
                                   .inverse = stop_gradient_inverse};

/* ---- broadcast ---- */

wr wr_broadcast_at(wr_loc loc, wr x, int rank, const wr_dim *dims) {
    wr_type t = wr_type_of(x);
    if (!wr_is_poison(x) && t.rank == rank && memcmp(t.dim, dims, sizeof *dims * (size_t)rank) == 0)
        return x;
    return emit_with_dims(loc, &wr_op_broadcast, x, rank, dims);
}

wr wr_broadcast_like_at(wr_loc loc, wr x, wr like) {
    if (wr_is_poison(like)) return like;
    wr_type t = wr_type_of(like);
    return wr_broadcast_at(loc, x, t.rank, t.dim);
}

static bool repeats(const wr_graph *g, const wr_type *x, const wr_type *out, int axis) {
    int at = axis - (out->rank - x->rank);
    return at < 0 || !wr_dim_eq(g, x->dim[at], out->dim[axis]);
}

static bool broadcast_shape(wr_shape_ctx *c) {
    wr_type t = wr_type_of(c->in[0]);
    type_from_attrs(c);
    bool ok = t.rank <= c->out[0].rank;
    for (int i = 0; ok && i < t.rank; i++) {
        bool one = wr_dim_same(t.dim[i], wr_n(1));
        ok = one || wr_dim_eq(c->g, t.dim[i], c->out[0].dim[c->out[0].rank - t.rank + i]);
    }
    if (ok) return true;
    wr_str s = {0};
    wr_type_print(c->g, &c->out[0], &s);
    wr_shape_fail(c, "from the right, each size is equal or 1", NULL, "cannot repeat to %s",
                  wr_str_text(&s));
    wr_str_free(&s);
    return false;
}

static void copy_f32(int64_t n, const void *const *in, void *out, const wr_attr *attr) {
    (void)attr;
    memcpy(out, in[0], (size_t)n * 4);
}
static void copy_f64(int64_t n, const void *const *in, void *out, const wr_attr *attr) {
    (void)attr;
    memcpy(out, in[0], (size_t)n * 8);
}

static wr_status broadcast_cpu(const wr_call *c) {
    static const wr_tile tile = {copy_f32, copy_f64};
    static const wr_op copy = {.name = "copy", .extra = &tile};
    wr_chain_code code = {.op = &copy, .n_in = 1};
    wr_tensor in = c->in[0], out = c->out[0];
    if (out.dtype == WR_I32) in.dtype = out.dtype = WR_F32; /* four bytes are four bytes */
    wr_chain_run(c->env, 1, &in, 1, &code, &out);
    return WR_OK;
}

/* Sum runs of repeated axes, the last first, then restore the axes of size 1. */
static bool broadcast_grad(wr_grad_ctx *c) {
    wr_type t = wr_type_of(c->in[0]), out = wr_type_of(c->out[0]);
    wr x = c->cot[0];
    for (int to = out.rank; to > 0;) {
        if (!repeats(c->g, &t, &out, to - 1)) {
            to--;
            continue;
        }
        int from = to - 1;
        while (from > 0 && repeats(c->g, &t, &out, from - 1))
            from--;
        x = wr_sum_axes(x, from, to);
        to = from;
    }
    return wr_contribute(c, 0, wr_reshape(x, t.rank, t.dim));
}

static wr broadcast_sample(wr_sample *s) {
    if (s->variant > 3) return (wr){s->g, 0};
    int64_t d[3] = {wr_sample_int(s, 2, 3), wr_sample_int(s, 2, 4), wr_sample_int(s, 2, 5)};
    int64_t part[4][3] = {{d[0], d[1], 1}, {1, d[1], 1}, {d[0], 1, d[2]}, {d[1], d[2], 0}};
    int rank = s->variant == 3 ? 2 : 3;
    return wr_broadcast(s->input(s, WR_FILL_REAL, 0, rank, part[s->variant]),
                        WR_DIMS(wr_n(d[0]), wr_n(d[1]), wr_n(d[2])));
}

const wr_op wr_op_broadcast = {.name = "broadcast",
                               .doc = "repeat along axes",
                               .traits = WR_MIXED,
                               .n_in = 1,
                               DIM_ATTRS,
                               .shape = broadcast_shape,
                               .cpu = broadcast_cpu,
                               .grad = broadcast_grad,
                               .sample = broadcast_sample,
                               .no_inverse = "the copies would determine the operand many times"};

wr wr_zeros_like(wr x) {
    if (wr_is_poison(x)) return x;
    return wr_broadcast_like(wr_scalar(x.g, wr_dtype_of(x), 0.0), x);
}

/* ---- permutation of axes ---- */

wr wr_permute_at(wr_loc loc, wr x, const int *perm) {
    wr_attr attr[WR_MAX_RANK];
    bool same = true;
    for (int i = 0; i < WR_MAX_RANK; i++) {
        attr[i].i = i < wr_rank(x) ? perm[i] : i;
        same = same && attr[i].i == i;
    }
    return same ? x : wr_emit(loc, &wr_op_transpose, 1, &x, attr);
}

wr wr_transpose_at(wr_loc loc, wr x, int a, int b) {
    int rank = wr_rank(x), perm[WR_MAX_RANK] = {0, 1, 2, 3, 4};
    if (wr_is_poison(x)) return x;
    int i = a < 0 ? a + rank : a, j = b < 0 ? b + rank : b;
    if (i < 0 || j < 0 || i >= rank || j >= rank) {
        wr_str s = {0};
        wr_node_describe(x.g, x.id, &s);
        wr_mistake(x.g, loc,
                   "transpose: axes %d and %d of a tensor with %d axes\n  a %s\n"
                   "  rule: each axis is from -rank to rank - 1",
                   a, b, rank, wr_str_text(&s));
        wr_str_free(&s);
        return (wr){x.g, 0};
    }
    perm[i] = j;
    perm[j] = i;
    return wr_permute_at(loc, x, perm);
}

static bool transpose_shape(wr_shape_ctx *c) {
    wr_type t = wr_type_of(c->in[0]);
    unsigned seen = 0;
    c->out[0] = t;
    for (int i = 0; i < t.rank; i++) {
        int64_t p = c->attr[i].i;
        if (p < 0 || p >= t.rank || (seen >> p & 1u))
            return wr_shape_fail(c, "each axis 0 .. rank - 1 once", NULL,
                                 "not a permutation of %d axes", t.rank);
        seen |= 1u << p;
        c->out[0].dim[i] = t.dim[p];
    }
    return true;
}

/* Copy `n` elements that lie `stride` apart. */
static void copy_strided(char *to, const char *from, int64_t n, int64_t stride, size_t e) {
    if (stride == 1) {
        memcpy(to, from, (size_t)n * e);
    } else if (e == 4) {
        const float *x = (const float *)(const void *)from;
        float *y = (float *)(void *)to;
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i * stride];
    } else {
        const double *x = (const double *)(const void *)from;
        double *y = (double *)(void *)to;
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i * stride];
    }
}

/* Row by row of the output; threads take rows. */
static wr_status transpose_cpu(const wr_call *c) {
    const wr_tensor *x = &c->in[0], *y = &c->out[0];
    size_t e = wr_dtype_bytes(y->dtype);
    int rank = y->rank;
    int64_t stride[WR_MAX_RANK], in_stride[WR_MAX_RANK];
    int64_t step = 1;
    WR_ASSERT(rank >= 0 && rank <= WR_MAX_RANK);
    for (int i = rank - 1; i >= 0; i--) {
        in_stride[i] = step;
        step *= x->dim[i];
    }
    for (int i = 0; i < rank; i++)
        stride[i] = in_stride[c->attr[i].i];
    int64_t row = rank == 0 ? 1 : y->dim[rank - 1], rows = row == 0 ? 0 : y->n / row;
    bool parallel = y->n >= 32768 && c->env->threads > 1;
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t r = 0; r < rows; r++) {
        int64_t rest = r, at = 0;
        for (int i = rank - 2; i >= 0; i--) {
            at += rest % y->dim[i] * stride[i];
            rest /= y->dim[i];
        }
        copy_strided((char *)y->data + (size_t)(r * row) * e,
                     (const char *)x->data + (size_t)at * e, row, rank == 0 ? 1 : stride[rank - 1],
                     e);
    }
    return WR_OK;
}

static bool transpose_grad(wr_grad_ctx *c) {
    int back[WR_MAX_RANK] = {0, 1, 2, 3, 4};
    for (int i = 0; i < wr_rank(c->in[0]); i++)
        back[c->attr[i].i] = i;
    return wr_contribute(c, 0, wr_permute_at(WR_HERE, c->cot[0], back));
}

static wr transpose_sample(wr_sample *s) {
    static const int perms[][3] = {{0, 2, 1}, {2, 0, 1}, {1, 0, 2}};
    if (s->variant > 2) return (wr){s->g, 0};
    int64_t dims[3] = {wr_sample_int(s, 1, 4), wr_sample_int(s, 1, 5), wr_sample_int(s, 1, 6)};
    return wr_permute_at(WR_HERE, s->input(s, WR_FILL_REAL, 0, 3, dims), perms[s->variant]);
}

static bool transpose_inverse(wr_inverse_ctx *c) {
    int back[WR_MAX_RANK] = {0};
    for (int i = 0; i < wr_rank(c->in[0]); i++)
        back[c->attr[i].i] = i;
    return wr_inverse_solve(c, 0, wr_permute_at(WR_HERE, c->y[0], back)).id != 0;
}

const wr_op wr_op_transpose = {.name = "transpose",
                               .doc = "axes in another order",
                               .traits = WR_MIXED,
                               .n_in = 1,
                               .attrs = {{"p0", WR_ATTR_INT},
                                         {"p1", WR_ATTR_INT},
                                         {"p2", WR_ATTR_INT},
                                         {"p3", WR_ATTR_INT},
                                         {"p4", WR_ATTR_INT}},
                               .shape = transpose_shape,
                               .cpu = transpose_cpu,
                               .grad = transpose_grad,
                               .sample = transpose_sample,
                               .inverse = transpose_inverse};
