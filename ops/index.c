/* index.c: gather and scatter, masks of lengths, casts. Scattered sums are added in the order of
 * the indices: threads share columns or batch elements, never the terms of one sum. */
#include "ops/index.h"

#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/reduce.h"
#include "ops/shape.h"

#include <string.h>

enum {
    PARALLEL_BYTES = 1 << 17, /* below this a second thread costs more than it brings */
    STRIP = 128               /* columns of a scatter that one thread takes at a time */
};

static bool go_parallel(const wr_call *c) {
    return c->out[0].n * (int64_t)wr_dtype_bytes(c->out[0].dtype) >= PARALLEL_BYTES &&
           c->env->threads > 1;
}

/* ---- run-time checks ---- */

/* All values in [0, limit)? The scan vectorises; the message is made only when needed. */
static wr_status check_values(const wr_call *c, int k, int64_t limit, const char *what) {
    const int32_t *v = c->in[k].data;
    int64_t n = c->in[k].n, bad = 0;
#pragma omp simd reduction(+ : bad)
    for (int64_t i = 0; i < n; i++)
        bad += v[i] < 0 || v[i] >= limit;
    if (bad == 0) return WR_OK;
    int64_t at = 0;
    while (v[at] >= 0 && v[at] < limit)
        at++;
    return wr_fail(c->env->err, WR_ERR_INPUT,
                   "%s %d at element %lld of operand %c is out of range; allowed are 0 to %lld "
                   "(%lld values of %lld are wrong)",
                   what, v[at], (long long)at, 'a' + k, (long long)(limit - 1), (long long)bad,
                   (long long)n);
}

/* ---- gather ---- */

wr wr_gather_at(wr_loc loc, wr x, wr index) {
    return wr_emit(loc, &wr_op_gather, 2, (wr[]){x, index}, NULL);
}

static wr_attr dim_attr(wr_dim d) {
    wr_attr a;
    memset(&a, 0, sizeof a);
    a.d = d;
    return a;
}

wr wr_scatter_add_at(wr_loc loc, wr x, wr index, wr_dim size) {
    return wr_emit(loc, &wr_op_scatter_add, 2, (wr[]){x, index}, (wr_attr[]){dim_attr(size)});
}

/* The axis that index [B.., K] chooses from or adds to in x [B.., N, R..]; -1: they do not fit. */
static int index_axis(wr_shape_ctx *c, const char *rule) {
    wr_type x = wr_type_of(c->in[0]), index = wr_type_of(c->in[1]);
    if (!wr_shape_needs_i32(c, 1)) return -1;
    if (index.rank < 1 || index.rank > x.rank) {
        wr_shape_fail(c, rule, NULL, "the index has %d axes, x has %d", index.rank, x.rank);
        return -1;
    }
    for (int d = 0; d < index.rank - 1; d++)
        if (!wr_dim_eq(c->g, x.dim[d], index.dim[d])) {
            wr_shape_fail(c, rule, NULL, "axis %d of x and of the index differ", d);
            return -1;
        }
    return index.rank - 1;
}

static bool gather_shape(wr_shape_ctx *c) {
    int axis = index_axis(c, "x [B.., T, R..], index [B.., K] -> [B.., K, R..]");
    if (axis < 0) return false;
    c->out[0] = wr_type_of(c->in[0]);
    c->out[0].dim[axis] = wr_dim_of(c->in[1], -1);
    return true;
}

static bool scatter_add_shape(wr_shape_ctx *c) {
    const char *rule = "x [B.., K, R..], index [B.., K] -> [B.., size, R..]";
    int axis = index_axis(c, rule);
    if (axis < 0 || !wr_shape_needs_float(c, 0)) return false;
    c->out[0] = wr_type_of(c->in[0]);
    if (!wr_dim_eq(c->g, c->out[0].dim[axis], wr_dim_of(c->in[1], -1)))
        return wr_shape_fail(c, rule, NULL, "axis %d of x and of the index differ", axis);
    c->out[0].dim[axis] = c->attr[0].d;
    return true;
}

/* large [batch, size, inner], small [batch, count, inner], index [batch, count] */
typedef struct picked {
    int64_t batch, size, count, inner;
} picked;

static picked picked_of(const wr_call *c, const wr_tensor *large) {
    int axis = c->in[1].rank - 1;
    return (picked){wr_extent(large, 0, axis), large->dim[axis], c->in[1].dim[axis],
                    wr_extent(large, axis + 1, large->rank)};
}

static void gather_elements(const wr_call *c, picked p) {
    const int32_t *index = c->in[1].data;
    bool wide = wr_dtype_bytes(c->out[0].dtype) == 8, parallel = go_parallel(c);
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t b = 0; b < p.batch; b++) {
        const int32_t *at = index + b * p.count;
        if (wide) {
            const double *x = (const double *)c->in[0].data + b * p.size;
            double *y = (double *)c->out[0].data + b * p.count;
            for (int64_t k = 0; k < p.count; k++)
                y[k] = x[at[k]];
        } else {
            const uint32_t *x = (const uint32_t *)c->in[0].data + b * p.size;
            uint32_t *y = (uint32_t *)c->out[0].data + b * p.count;
            for (int64_t k = 0; k < p.count; k++)
                y[k] = x[at[k]];
        }
    }
}

static wr_status gather_cpu(const wr_call *c) {
    picked p = picked_of(c, &c->in[0]);
    const int32_t *index = c->in[1].data;
    wr_status status = check_values(c, 1, p.size, "index");
    if (status != WR_OK || c->out[0].n == 0) return status;
    if (p.inner == 1) {
        gather_elements(c, p);
        return WR_OK;
    }
    size_t line = (size_t)p.inner * wr_dtype_bytes(c->out[0].dtype);
    bool parallel = go_parallel(c);
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t i = 0; i < p.batch * p.count; i++)
        memcpy((char *)c->out[0].data + (size_t)i * line,
               (const char *)c->in[0].data + (size_t)(i / p.count * p.size + index[i]) * line,
               line);
    return WR_OK;
}

static wr_cost gather_cost(const wr_call *c) {
    return (wr_cost){.bytes = 2.0 * (double)c->out[0].n * (double)wr_dtype_bytes(c->out[0].dtype) +
                              4.0 * (double)c->in[1].n};
}

static bool gather_grad(wr_grad_ctx *c) {
    wr_dim size = wr_dim_of(c->in[0], wr_rank(c->in[1]) - 1);
    return wr_contribute(c, 0, wr_scatter_add(c->cot[0], c->in[1], size));
}

/* ---- scatter ---- */

static void clear(const wr_call *c) {
    enum { CHUNK = 1 << 18 };
    char *to = c->out[0].data;
    int64_t bytes = c->out[0].n * (int64_t)wr_dtype_bytes(c->out[0].dtype);
    int64_t chunks = (bytes + CHUNK - 1) / CHUNK;
    bool parallel = go_parallel(c);
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t i = 0; i < chunks; i++)
        memset(to + i * CHUNK, 0, (size_t)(bytes - i * CHUNK < CHUNK ? bytes - i * CHUNK : CHUNK));
}

/* Add columns [first, first + n) of one batch element. */
#define ADD_STRIP(type, suffix)                                                                    \
    static void add_strip_##suffix(picked p, const void *from, const int32_t *at, void *to,        \
                                   int64_t first, int64_t n) {                                     \
        for (int64_t k = 0; k < p.count; k++) {                                                    \
            const type *x = (const type *)from + k * p.inner + first;                              \
            type *y = (type *)to + at[k] * p.inner + first;                                        \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] += x[i];                      \
        }                                                                                          \
    }
ADD_STRIP(float, f32)
ADD_STRIP(double, f64)

static wr_status scatter_add_cpu(const wr_call *c) {
    picked p = picked_of(c, &c->out[0]);
    wr_status status = check_values(c, 1, p.size, "index");
    if (status != WR_OK) return status;
    clear(c);
    size_t e = wr_dtype_bytes(c->out[0].dtype);
    int64_t strips = (p.inner + STRIP - 1) / STRIP;
    bool parallel = c->in[0].n * (int64_t)e >= PARALLEL_BYTES && c->env->threads > 1;
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t i = 0; i < p.batch * strips; i++) {
        int64_t b = i / strips, first = i % strips * STRIP;
        int64_t n = p.inner - first < STRIP ? p.inner - first : STRIP;
        const char *from = (const char *)c->in[0].data + (size_t)(b * p.count * p.inner) * e;
        char *to = (char *)c->out[0].data + (size_t)(b * p.size * p.inner) * e;
        const int32_t *at = (const int32_t *)c->in[1].data + b * p.count;
        if (e == 4)
            add_strip_f32(p, from, at, to, first, n);
        else
            add_strip_f64(p, from, at, to, first, n);
    }
    return WR_OK;
}

static wr_cost scatter_add_cost(const wr_call *c) {
    return (wr_cost){.flops = (double)c->in[0].n, .bytes = wr_bytes_moved(c)};
}

static bool scatter_add_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, wr_gather(c->cot[0], c->in[1]));
}

/* ---- permutations ---- */

wr wr_invert_permutation_at(wr_loc loc, wr index) {
    return wr_emit(loc, &wr_op_invert_permutation, 1, &index, NULL);
}

static bool invert_permutation_shape(wr_shape_ctx *c) {
    if (!wr_shape_needs_i32(c, 0)) return false;
    if (wr_rank(c->in[0]) == 0)
        return wr_shape_fail(c, "index [.., T]", NULL, "a single number is no permutation");
    return wr_shape_same(c);
}

/* -1 is "not seen"; the operand is not overwritten. */
static wr_status invert_row(const wr_call *c, int64_t row, int64_t n) {
    const int32_t *index = (const int32_t *)c->in[0].data + row * n;
    int32_t *at = (int32_t *)c->out[0].data + row * n;
    for (int64_t k = 0; k < n; k++)
        at[k] = -1;
    for (int64_t k = 0; k < n; k++) {
        if (at[index[k]] >= 0)
            return wr_fail(
                c->env->err, WR_ERR_INPUT,
                "index %d stands at elements %d and %lld of row %lld: no permutation, so "
                "what is chosen by it has no inverse",
                index[k], at[index[k]], (long long)k, (long long)row);
        at[index[k]] = (int32_t)k;
    }
    return WR_OK;
}

static wr_status invert_permutation_cpu(const wr_call *c) {
    int rank = c->in[0].rank;
    int64_t n = c->in[0].dim[rank - 1];
    wr_status status = check_values(c, 0, n, "index");
    for (int64_t i = 0; status == WR_OK && i < wr_extent(&c->in[0], 0, rank - 1); i++)
        status = invert_row(c, i, n);
    return status;
}

static wr invert_permutation_sample(wr_sample *s) {
    static const int32_t rows[2][3][4] = {{{2, 0, 3, 1}, {0, 1, 2, 3}, {3, 2, 1, 0}},
                                          {{1, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}}};
    if (s->variant > 1) return (wr){s->g, 0};
    int64_t dims[2] = {3, 4}, two[1] = {2};
    return wr_invert_permutation(wr_const(s->g, WR_I32, s->variant == 0 ? 2 : 1,
                                          s->variant == 0 ? dims : two, rows[s->variant]));
}

const wr_op wr_op_invert_permutation = {
    .name = "invert_permutation",
    .doc = "where each number stands in its row",
    .traits = WR_MIXED,
    .n_in = 1,
    .shape = invert_permutation_shape,
    .cpu = invert_permutation_cpu,
    .no_grad = "whole numbers are not differentiable",
    .no_inverse = "whole numbers have no density",
    .sample = invert_permutation_sample,
};

/* A rule for rows that only move elements, if the index is a permutation: the inverse reads it
 * through wr_invert_permutation, whose kernel stops the run where it is none. The zero that the
 * log-determinant gets makes sure of that when the inverse itself is not computed. */
static bool moves_all(wr_inverse_ctx *c, wr_dim size) {
    if (wr_is_poison(c->x[1])) return wr_inverse_wait(c, "its index depends on what is solved for");
    if (!wr_dim_eq(c->g, size, wr_dim_of(c->in[1], -1)))
        return wr_inverse_wait(c, "does not take each position once: there are more or fewer "
                                  "indices than positions");
    return true;
}

static bool checked_term(wr_inverse_ctx *c, wr back) {
    wr zero = wr_scale(wr_sum_all(wr_cast(back, wr_dtype_of(c->in[0]))), 0.0);
    return wr_inverse_term_leading(c, 0, zero, wr_rank(c->in[0]));
}

static bool gather_inverse(wr_inverse_ctx *c) {
    int axis = wr_rank(c->in[1]) - 1;
    if (!moves_all(c, wr_dim_of(c->in[0], axis))) return false;
    wr back = wr_invert_permutation(c->x[1]);
    return checked_term(c, back) && wr_inverse_solve(c, 0, wr_gather(c->y[0], back)).id != 0;
}

static bool scatter_add_inverse(wr_inverse_ctx *c) {
    if (!moves_all(c, c->attr[0].d)) return false;
    return checked_term(c, wr_invert_permutation(c->x[1])) &&
           wr_inverse_solve(c, 0, wr_gather(c->y[0], c->x[1])).id != 0;
}

/* ---- samples of both ---- */

/* Axes of x in front of the chosen one, its size, the number of indices, sizes behind. */
typedef struct pick_case {
    int batch_axes, rest_axes;
    int64_t batch[2], size, count, rest[2];
} pick_case;

static const pick_case PICKS[] = {{0, 1, {0}, 5, 7, {3}},    {1, 1, {3}, 4, 2, {5}},
                                  {1, 0, {3}, 6, 1, {0}},    {2, 0, {2, 3}, 5, 4, {0}},
                                  {0, 2, {0}, 3, 4, {2, 3}}, {0, 1, {0}, 150, 130, {257}},
                                  {1, 1, {70}, 9, 8, {65}},  {1, 0, {300}, 120, 110, {0}}};
enum { N_PICKS = sizeof PICKS / sizeof *PICKS };

/* x with `n` positions on the chosen axis, and the index. */
static void pick_inputs(wr_sample *s, const pick_case *p, int64_t n, wr *x, wr *index) {
    int64_t dims[WR_MAX_RANK];
    int axis = p->batch_axes;
    for (int d = 0; d < axis; d++)
        dims[d] = p->batch[d];
    dims[axis] = n;
    for (int d = 0; d < p->rest_axes; d++)
        dims[axis + 1 + d] = p->rest[d];
    *x = s->input(s, WR_FILL_REAL, 0, axis + 1 + p->rest_axes, dims);
    dims[axis] = p->count;
    *index = s->input(s, WR_FILL_INDEX, p->size, axis + 1, dims);
}

static wr gather_sample(wr_sample *s) {
    wr x, index;
    if (s->variant >= N_PICKS) return (wr){s->g, 0};
    pick_inputs(s, &PICKS[s->variant], PICKS[s->variant].size, &x, &index);
    return wr_gather(x, index);
}

static wr scatter_add_sample(wr_sample *s) {
    wr x, index;
    if (s->variant >= N_PICKS) return (wr){s->g, 0};
    pick_inputs(s, &PICKS[s->variant], PICKS[s->variant].count, &x, &index);
    return wr_scatter_add(x, index, wr_n(PICKS[s->variant].size));
}

const wr_op wr_op_gather = {
    .name = "gather",
    .doc = "positions of an axis by index, per batch element",
    .traits = WR_MIXED,
    .n_in = 2,
    .shape = gather_shape,
    .cost = gather_cost,
    .cpu = gather_cpu,
    .grad = gather_grad,
    .inverse = gather_inverse,
    .sample = gather_sample,
};

const wr_op wr_op_scatter_add = {
    .name = "scatter_add",
    .doc = "sums at the positions of an axis that the index names",
    .traits = WR_MIXED,
    .n_in = 2,
    .attrs = {{"size", WR_ATTR_DIM}},
    .shape = scatter_add_shape,
    .cost = scatter_add_cost,
    .cpu = scatter_add_cpu,
    .grad = scatter_add_grad,
    .inverse = scatter_add_inverse,
    .sample = scatter_add_sample,
};

/* ---- compositions ---- */

wr wr_embedding_at(wr_loc loc, wr table, wr ids) {
    if (wr_is_poison(table) || wr_is_poison(ids)) return (wr){table.g, 0};
    if (wr_rank(table) != 2 || wr_rank(ids) >= WR_MAX_RANK)
        return wr_mistake(table.g, loc,
                          "embedding: the table has %d axes and the ids %d; table "
                          "[V, D], ids [..] -> [.., D] of at most %d axes",
                          wr_rank(table), wr_rank(ids), WR_MAX_RANK);
    wr_type t = wr_type_of(ids);
    wr_dim n = wr_n(1);
    for (int d = 0; d < t.rank; d++)
        n = wr_dim_mul(ids.g, n, t.dim[d]);
    wr rows = wr_gather_at(loc, table, wr_reshape_at(loc, ids, 1, &n));
    t.dim[t.rank] = wr_dim_of(table, 1);
    return wr_is_poison(rows) ? rows : wr_reshape_at(loc, rows, t.rank + 1, t.dim);
}

wr wr_pick_at(wr_loc loc, wr x, wr index) {
    if (wr_is_poison(x) || wr_is_poison(index)) return (wr){x.g, 0};
    wr_type t = wr_type_of(index);
    if (wr_rank(x) != t.rank + 1)
        return wr_mistake(x.g, loc,
                          "pick: x has %d axes and the index %d; x [.., V], index [..] "
                          "-> [..]",
                          wr_rank(x), t.rank);
    t.dim[t.rank] = wr_n(1);
    wr one = wr_gather_at(loc, x, wr_reshape_at(loc, index, t.rank + 1, t.dim));
    return wr_is_poison(one) ? one : wr_reshape_at(loc, one, t.rank, t.dim);
}

/* ---- floats from whole numbers ---- */

static bool float_type(wr_shape_ctx *c, int64_t t) {
    if (t == WR_F32 || t == WR_F64) return true;
    return wr_shape_fail(c, "the result is f32 or f64", NULL, "asks for another type");
}

/* operand [..] i32 -> [.., attr 0] of type attr 1 */
static bool widened_shape(wr_shape_ctx *c) {
    wr_type t = wr_type_of(c->in[0]);
    if (!wr_shape_needs_i32(c, 0) || !float_type(c, c->attr[1].i)) return false;
    if (t.rank == WR_MAX_RANK)
        return wr_shape_fail(c, "[..] -> [.., N]", NULL, "the operand has %d axes already", t.rank);
    t.dtype = (wr_dtype)c->attr[1].i;
    t.dim[t.rank++] = c->attr[0].d;
    c->out[0] = t;
    return true;
}

static wr widened(wr_loc loc, const wr_op *op, wr x, wr_dim size, wr_dtype t) {
    return wr_emit(loc, op, 1, &x, (wr_attr[]){dim_attr(size), {.i = t}});
}

wr wr_one_hot_at(wr_loc loc, wr ids, wr_dim v, wr_dtype t) {
    return widened(loc, &wr_op_one_hot, ids, v, t);
}

wr wr_sequence_mask_at(wr_loc loc, wr lengths, wr_dim t, wr_dtype type) {
    return widened(loc, &wr_op_sequence_mask, lengths, t, type);
}

static wr_status one_hot_cpu(const wr_call *c) {
    const int32_t *id = c->in[0].data;
    int64_t size = c->attr[0].i;
    wr_status status = check_values(c, 0, size, "id");
    if (status != WR_OK) return status;
    clear(c);
    for (int64_t i = 0; i < c->in[0].n; i++) {
        if (c->out[0].dtype == WR_F32)
            ((float *)c->out[0].data)[i * size + id[i]] = 1.0f;
        else
            ((double *)c->out[0].data)[i * size + id[i]] = 1.0;
    }
    return WR_OK;
}

static wr_status sequence_mask_cpu(const wr_call *c) {
    const int32_t *length = c->in[0].data;
    int64_t size = c->attr[0].i;
    wr_status status = check_values(c, 0, size + 1, "length");
    bool parallel = go_parallel(c);
    if (status != WR_OK) return status;
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t b = 0; b < c->in[0].n; b++) {
        float *f = (float *)c->out[0].data + b * size;
        double *d = (double *)c->out[0].data + b * size;
        for (int64_t t = 0; c->out[0].dtype == WR_F32 && t < size; t++)
            f[t] = t < length[b] ? 1.0f : 0.0f;
        for (int64_t t = 0; c->out[0].dtype == WR_F64 && t < size; t++)
            d[t] = t < length[b] ? 1.0 : 0.0;
    }
    return WR_OK;
}

static wr sample_widened(wr_sample *s, const wr_op *op, wr_fill fill) {
    if (s->variant > 2) return (wr){s->g, 0};
    int64_t dims[2] = {wr_sample_int(s, 1, 5), wr_sample_int(s, 1, 4)}, size = 6;
    if (s->variant == 2) dims[0] = 90, dims[1] = 3, size = 131;
    wr x = s->input(s, fill, size, s->variant == 0 ? 1 : 2, dims);
    return widened(WR_HERE, op, x, wr_n(size), s->dtype);
}
static wr one_hot_sample(wr_sample *s) { return sample_widened(s, &wr_op_one_hot, WR_FILL_INDEX); }
static wr sequence_mask_sample(wr_sample *s) {
    return sample_widened(s, &wr_op_sequence_mask, WR_FILL_LENGTH);
}

#define WIDENED                                                                                    \
    .traits = WR_MIXED, .n_in = 1, .attrs = {{"size", WR_ATTR_DIM}, {"dtype", WR_ATTR_INT}},       \
    .shape = widened_shape, .no_grad = "whole numbers are not differentiable",                     \
    .no_inverse = "its values are a part of the space"
const wr_op wr_op_one_hot = {.name = "one_hot",
                             .doc = "1 at the id, else 0",
                             WIDENED,
                             .cpu = one_hot_cpu,
                             .sample = one_hot_sample};
const wr_op wr_op_sequence_mask = {.name = "sequence_mask",
                                   .doc = "1 before the length, else 0",
                                   WIDENED,
                                   .cpu = sequence_mask_cpu,
                                   .sample = sequence_mask_sample};

/* ---- cast ---- */

wr wr_cast_at(wr_loc loc, wr x, wr_dtype t) {
    if (!wr_is_poison(x) && wr_dtype_of(x) == t) return x;
    return wr_emit(loc, &wr_op_cast, 1, &x, (wr_attr[]){{.i = t}});
}

static bool cast_shape(wr_shape_ctx *c) {
    c->out[0] = wr_type_of(c->in[0]);
    c->out[0].dtype = (wr_dtype)c->attr[0].i;
    return float_type(c, c->attr[0].i);
}

#define CAST(name, source, target)                                                                 \
    static void name(const void *from, void *to, int64_t first, int64_t end) {                     \
        const source *x = from;                                                                    \
        target *y = to;                                                                            \
        for (int64_t i = first; i < end; i++)                                                      \
            y[i] = (target)x[i];                                                                   \
    }
CAST(f32_of_i32, int32_t, float)
CAST(f64_of_i32, int32_t, double)
CAST(f64_of_f32, float, double)
CAST(f32_of_f64, double, float)

static wr_status cast_cpu(const wr_call *c) {
    enum { CHUNK = 4096 };
    bool whole = c->in[0].dtype == WR_I32, wide = c->out[0].dtype == WR_F64;
    bool parallel = go_parallel(c);
    int64_t n = c->out[0].n;
    void (*cast)(const void *, void *, int64_t, int64_t) =
        whole ? (wide ? f64_of_i32 : f32_of_i32) : (wide ? f64_of_f32 : f32_of_f64);
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t first = 0; first < n; first += CHUNK)
        cast(c->in[0].data, c->out[0].data, first, n - first < CHUNK ? n : first + CHUNK);
    return WR_OK;
}

static bool cast_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, wr_cast(c->cot[0], wr_dtype_of(c->in[0])));
}

static wr cast_sample(wr_sample *s) {
    if (s->variant > 1) return (wr){s->g, 0};
    int64_t dims[2] = {wr_sample_int(s, 1, 5), s->variant == 0 ? wr_sample_int(s, 1, 4) : 40003};
    return wr_cast(s->input(s, WR_FILL_INDEX, 1000, 2, dims), s->dtype);
}

/* Between f32 and f64: a number is itself, up to rounding. */
static bool cast_inverse(wr_inverse_ctx *c) {
    if (wr_dtype_of(c->in[0]) == WR_I32) return wr_inverse_wait(c, "its operand is a whole number");
    return wr_inverse_solve(c, 0, wr_cast(c->y[0], wr_dtype_of(c->in[0]))).id != 0;
}

const wr_op wr_op_cast = {.name = "cast",
                          .doc = "the same numbers in another float type",
                          .traits = WR_MIXED,
                          .n_in = 1,
                          .attrs = {{"dtype", WR_ATTR_INT}},
                          .shape = cast_shape,
                          .cpu = cast_cpu,
                          .grad = cast_grad,
                          .inverse = cast_inverse,
                          .sample = cast_sample};

/* ---- reversal, positions ---- */

wr wr_reverse_prefix_at(wr_loc loc, wr x, wr lengths) {
    return wr_emit(loc, &wr_op_reverse_prefix, 2, (wr[]){x, lengths}, NULL);
}

static bool reverse_prefix_shape(wr_shape_ctx *c) {
    wr_type x = wr_type_of(c->in[0]), lengths = wr_type_of(c->in[1]);
    if (!wr_shape_needs_i32(c, 1)) return false;
    if (x.rank < 2 || lengths.rank != 1 || !wr_dim_eq(c->g, x.dim[0], lengths.dim[0]))
        return wr_shape_fail(c, "x [B, T, ..], lengths [B]", NULL, "x and the lengths do not fit");
    return wr_shape_same(c);
}

static wr_status reverse_prefix_cpu(const wr_call *c) {
    const wr_tensor *x = &c->in[0];
    const int32_t *length = c->in[1].data;
    int64_t size = x->dim[1];
    size_t line = (size_t)wr_extent(x, 2, x->rank) * wr_dtype_bytes(x->dtype);
    wr_status status = check_values(c, 1, size + 1, "length");
    bool parallel = go_parallel(c);
    if (status != WR_OK || line == 0) return status;
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t i = 0; i < x->dim[0] * size; i++) {
        int64_t b = i / size, t = i % size;
        int64_t from = t < length[b] ? length[b] - 1 - t : t;
        memcpy((char *)c->out[0].data + (size_t)i * line,
               (const char *)x->data + (size_t)(b * size + from) * line, line);
    }
    return WR_OK;
}

static bool reverse_prefix_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, wr_reverse_prefix(c->cot[0], c->in[1]));
}

static wr reverse_prefix_sample(wr_sample *s) {
    if (s->variant > 2) return (wr){s->g, 0};
    int64_t dims[3] = {wr_sample_int(s, 2, 4), wr_sample_int(s, 1, 6), wr_sample_int(s, 1, 3)};
    if (s->variant == 2) dims[1] = 100, dims[2] = 211;
    wr x = s->input(s, WR_FILL_REAL, 0, s->variant == 1 ? 2 : 3, dims);
    return wr_reverse_prefix(x, s->input(s, WR_FILL_LENGTH, dims[1], 1, dims));
}

static bool reverse_prefix_inverse(wr_inverse_ctx *c) {
    if (wr_is_poison(c->x[1]))
        return wr_inverse_wait(c, "its lengths depend on what is solved for");
    return wr_inverse_solve(c, 0, wr_reverse_prefix(c->y[0], c->x[1])).id != 0;
}

const wr_op wr_op_reverse_prefix = {
    .name = "reverse_prefix",
    .doc = "each row's valid positions in the opposite order",
    .traits = WR_MIXED,
    .n_in = 2,
    .shape = reverse_prefix_shape,
    .cpu = reverse_prefix_cpu,
    .grad = reverse_prefix_grad,
    .inverse = reverse_prefix_inverse,
    .sample = reverse_prefix_sample,
};

wr wr_iota_at(wr_loc loc, wr_graph *g, wr_dim size, wr_dtype t) {
    return wr_emit_in(g, loc, &wr_op_iota, 0, NULL, (wr_attr[]){dim_attr(size), {.i = t}}, false);
}

static bool iota_shape(wr_shape_ctx *c) {
    c->out[0] = (wr_type){.dtype = (wr_dtype)c->attr[1].i, .rank = 1, .dim = {c->attr[0].d}};
    return true;
}

static wr_status iota_cpu(const wr_call *c) {
    for (int64_t i = 0; i < c->out[0].n; i++) {
        if (c->out[0].dtype == WR_F32)
            ((float *)c->out[0].data)[i] = (float)i;
        else if (c->out[0].dtype == WR_F64)
            ((double *)c->out[0].data)[i] = (double)i;
        else
            ((int32_t *)c->out[0].data)[i] = (int32_t)i;
    }
    return WR_OK;
}

static wr iota_sample(wr_sample *s) {
    return s->variant > 0 ? (wr){s->g, 0} : wr_iota(s->g, wr_n(wr_sample_int(s, 1, 9)), s->dtype);
}

const wr_op wr_op_iota = {.name = "iota",
                          .doc = "0, 1, 2, ..",
                          .attrs = {{"size", WR_ATTR_DIM}, {"dtype", WR_ATTR_INT}},
                          .shape = iota_shape,
                          .cpu = iota_cpu,
                          .no_grad = "has no operand",
                          .no_inverse = "has no operand",
                          .sample = iota_sample};
