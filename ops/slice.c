/* slice.c: rows that copy parts of an axis. x is seen as [outer, size, inner] around that axis. */
#include "ops/slice.h"

#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/shape.h"

#include <stdlib.h>
#include <string.h>

/* ---- builders ---- */

static int from_front(wr x, int axis) { return axis < 0 ? axis + wr_rank(x) : axis; }

/* A position as a dim; a negative one counts from the end of the axis. */
static wr_dim position(wr x, int axis, int64_t i) {
    return i < 0 ? wr_dim_sub(x.g, wr_dim_of(x, axis), wr_n(-i)) : wr_n(i);
}

wr wr_slice_dims_at(wr_loc loc, wr x, int axis, wr_dim start, wr_dim count, int64_t step) {
    if (wr_is_poison(x)) return x;
    wr_attr attr[4];
    memset(attr, 0, sizeof attr);
    attr[0].i = from_front(x, axis);
    attr[1].d = start;
    attr[2].d = count;
    attr[3].i = step;
    bool all = wr_dim_same(start, wr_n(0)) && step == 1 && count.id != 0 &&
               wr_dim_same(count, wr_dim_of(x, axis));
    return all ? x : wr_emit(loc, &wr_op_slice, 1, &x, attr);
}

wr wr_slice_at(wr_loc loc, wr x, int axis, int64_t from, int64_t to) {
    if (wr_is_poison(x)) return x;
    wr_dim start = position(x, axis, from);
    wr_dim stop = to == 0 ? wr_dim_of(x, axis) : position(x, axis, to);
    return wr_slice_dims_at(loc, x, axis, start, wr_dim_sub(x.g, stop, start), 1);
}

wr wr_every_at(wr_loc loc, wr x, int axis, int64_t first, int64_t step) {
    if (wr_is_poison(x)) return x;
    wr_dim size = wr_dim_of(x, axis), count = {0};
    bool fits = step >= 1 && first >= 0 && first < step;
    for (int64_t rest = 0; fits && rest < step && count.id == 0; rest++) {
        wr_dim whole = wr_dim_div(x.g, wr_dim_sub(x.g, size, wr_n(rest)), wr_n(step));
        count = wr_dim_add(x.g, whole, wr_n(first < rest ? 1 : 0)); /* size = whole step + rest */
    }
    if (!fits)
        return wr_mistake(x.g, loc, "slice: every %lld-th position from %lld on; 0 <= first < step",
                          (long long)step, (long long)first);
    return wr_slice_dims_at(loc, x, axis, wr_n(first), count, step);
}

wr wr_index_at(wr_loc loc, wr x, int axis, int64_t i) {
    if (wr_is_poison(x)) return x;
    wr one = wr_slice_dims_at(loc, x, axis, position(x, axis, i), wr_n(1), 1);
    wr_dim rest[WR_MAX_RANK];
    int rank = 0;
    for (int d = 0; d < wr_rank(one); d++)
        if (d != from_front(x, axis)) rest[rank++] = wr_dim_of(one, d);
    return wr_reshape_at(loc, one, rank, rest);
}

wr wr_place_at(wr_loc loc, wr x, int axis, wr_dim size, wr_dim start, int64_t step) {
    if (wr_is_poison(x)) return x;
    wr_attr attr[4];
    memset(attr, 0, sizeof attr);
    attr[0].i = from_front(x, axis);
    attr[1].d = start;
    attr[2].d = size;
    attr[3].i = step;
    return wr_emit(loc, &wr_op_place, 1, &x, attr);
}

wr wr_pad_at(wr_loc loc, wr x, int axis, int64_t before, int64_t after) {
    if (wr_is_poison(x) || (before == 0 && after == 0)) return x;
    if (before < 0 || after < 0)
        return wr_mistake(x.g, loc, "pad: %lld zeros before and %lld after; both are >= 0",
                          (long long)before, (long long)after);
    wr_dim size = wr_dim_add(x.g, wr_dim_of(x, axis), wr_n(before + after));
    return wr_place_at(loc, x, axis, size, wr_n(before), 1);
}

wr wr_concat_at(wr_loc loc, int axis, int n, const wr *parts) {
    if (n == 1) return parts[0];
    return n < 1 ? (wr){0}
                 : wr_emit(loc, &wr_op_concat, n, parts,
                           (wr_attr[]){{.i = from_front(parts[0], axis)}});
}

static bool split_parts(wr_loc loc, wr x, int axis, int n, wr_dim count, wr *parts) {
    static const wr_op *const rows[] = {&wr_op_split_2, &wr_op_split_3, &wr_op_split_4};
    bool ok = true;
    wr all = {x.g, 0};
    if (n >= 2 && n <= 4)
        all = wr_emit(loc, rows[n - 2], 1, &x, (wr_attr[]){{.i = from_front(x, axis)}});
    for (int k = 0; k < n; k++) {
        parts[k] = n >= 2 && n <= 4
                       ? wr_output(all, k)
                       : wr_slice_dims_at(loc, x, axis, wr_dim_mul(x.g, count, wr_n(k)), count, 1);
        ok = ok && !wr_is_poison(parts[k]);
    }
    return ok;
}

bool wr_split_at(wr_loc loc, wr x, int axis, int n, wr *parts) {
    for (int k = 0; k < n; k++)
        parts[k] = (wr){x.g, 0};
    if (wr_is_poison(x) || n < 1) return false;
    wr_dim count = wr_dim_div(x.g, wr_dim_of(x, axis), wr_n(n));
    if (count.id != 0) return split_parts(loc, x, axis, n, count, parts);
    wr_str s = {0};
    wr_node_describe(x.g, x.id, &s);
    wr_mistake(x.g, loc,
               "split: axis %d does not divide into %d equal parts\n  a %s\n"
               "  rule: the size is a multiple of the number of parts\n"
               "  hint: declare its symbol with multiple_of",
               axis, n, wr_str_text(&s));
    wr_str_free(&s);
    return false;
}

/* x under the sizes of `t` with one more in front of axis `axis`. */
static wr with_axis_of(wr_loc loc, wr x, wr_type t, int axis, wr_dim size) {
    wr_dim dims[WR_MAX_RANK + 1];
    for (int d = 0; d <= t.rank; d++)
        dims[d] = d < axis ? t.dim[d] : d == axis ? size : t.dim[d - 1];
    return wr_reshape_at(loc, x, t.rank + 1, dims);
}

wr wr_stack_at(wr_loc loc, int axis, int n, const wr *parts) {
    wr bad = {n > 0 ? parts[0].g : NULL, 0};
    for (int k = 0; k < n; k++)
        if (wr_is_poison(parts[k])) return bad;
    int at = n > 0 && axis < 0 ? axis + wr_rank(parts[0]) + 1 : axis;
    if (n > 0 && (at < 0 || at > wr_rank(parts[0])))
        return wr_mistake(bad.g, loc, "stack: new axis %d of tensors with %d axes", axis,
                          wr_rank(parts[0]));
    wr *wide = malloc(sizeof *wide * (size_t)(n + 1));
    if (wide == NULL) return n > 0 ? wr_no_memory(bad.g) : bad;
    for (int k = 0; k < n; k++)
        wide[k] = with_axis_of(loc, parts[k], wr_type_of(parts[k]), at, wr_n(1));
    wr out = wr_concat_at(loc, at, n, wide);
    free(wide);
    return out;
}

wr wr_interleave_at(wr_loc loc, int axis, int n, const wr *parts) {
    if (n < 1 || wr_is_poison(parts[0])) return (wr){n < 1 ? NULL : parts[0].g, 0};
    wr_type t = wr_type_of(parts[0]);
    int at = from_front(parts[0], axis);
    if (at < 0 || at >= t.rank)
        return wr_mistake(parts[0].g, loc, "interleave: axis %d of tensors with %d axes", axis,
                          t.rank);
    wr_dim size = wr_dim_mul(parts[0].g, t.dim[at], wr_n(n));
    if (t.rank < WR_MAX_RANK) {
        t.dim[at] = size;
        wr stacked = wr_stack_at(loc, at + 1, n, parts);
        return wr_is_poison(stacked) ? stacked : wr_reshape_at(loc, stacked, t.rank, t.dim);
    }
    wr sum = wr_place_at(loc, parts[0], at, size, wr_n(0), n);
    for (int k = 1; k < n; k++)
        sum = wr_add(sum, wr_place_at(loc, parts[k], at, size, wr_n(k), n));
    return sum;
}

bool wr_deinterleave_at(wr_loc loc, wr x, int axis, int n, wr *parts) {
    wr_type t = wr_type_of(x);
    int at = from_front(x, axis);
    bool ok = !wr_is_poison(x) && n >= 1;
    wr_dim count = ok ? wr_dim_div(x.g, wr_dim_of(x, axis), wr_n(n)) : (wr_dim){0};
    if (ok && count.id != 0 && t.rank < WR_MAX_RANK) {
        t.dim[at] = wr_n(n);
        wr dealt = with_axis_of(loc, x, t, at, count);
        ok = wr_split_at(loc, dealt, at + 1, n, parts);
        t.dim[at] = count;
        for (int k = 0; ok && k < n; k++)
            parts[k] = wr_reshape_at(loc, parts[k], t.rank, t.dim);
        return ok;
    }
    for (int k = 0; k < n; k++) {
        parts[k] = wr_is_poison(x) ? x : wr_every_at(loc, x, axis, k, n);
        ok = ok && !wr_is_poison(parts[k]);
    }
    return ok;
}

/* ---- shapes ---- */

/* Can (count - 1) step + start < size be proved false? */
static bool surely_outside(wr_graph *g, wr_dim size, wr_dim start, wr_dim count, int64_t step) {
    wr_dim need = wr_dim_add(g, start, wr_dim_mul(g, count, wr_n(step)));
    wr_dim have = wr_dim_add(g, size, wr_n(step - 1));
    if (need.id == 0 || have.id == 0) return false;
    wr_dim room = wr_dim_sub(g, have, need), lack = wr_dim_sub(g, need, have);
    int64_t min, max;
    if (room.id == 0) return wr_dim_is_literal(lack) && wr_dim_literal(lack) > 0;
    wr_dims_range(wr_graph_dims(g), room, &min, &max);
    return max < 0;
}

static bool part_fits(wr_shape_ctx *c, wr_dim size, wr_dim start, wr_dim count, int64_t step) {
    const char *rule = "0 <= start, start + (count - 1) step < size, step >= 1";
    if (step < 1 || step > INT32_MAX)
        return wr_shape_fail(c, rule, NULL, "step %lld", (long long)step);
    if (start.id == 0 || count.id == 0 || size.id == 0)
        return wr_shape_fail(c, rule, "check the bounds, and multiple_of in wr_sym",
                             "a bound is negative, or no whole number of its symbols");
    if (!surely_outside(c->g, size, start, count, step)) return true;
    wr_str s = {0};
    wr_dims_print(wr_graph_dims(c->g), count, &s);
    wr_str_add(&s, " positions from ");
    wr_dims_print(wr_graph_dims(c->g), start, &s);
    wr_str_add(&s, " by %lld do not fit in an axis of size ", (long long)step);
    wr_dims_print(wr_graph_dims(c->g), size, &s);
    wr_shape_fail(c, rule, NULL, "%s", wr_str_text(&s));
    wr_str_free(&s);
    return false;
}

static bool slice_shape(wr_shape_ctx *c) {
    wr_type t = wr_type_of(c->in[0]);
    int axis = wr_shape_axis(c, c->attr[0].i, t.rank);
    if (axis < 0 || !part_fits(c, t.dim[axis], c->attr[1].d, c->attr[2].d, c->attr[3].i))
        return false;
    c->out[0] = t;
    c->out[0].dim[axis] = c->attr[2].d;
    return true;
}

static bool place_shape(wr_shape_ctx *c) {
    wr_type t = wr_type_of(c->in[0]);
    int axis = wr_shape_axis(c, c->attr[0].i, t.rank);
    if (axis < 0 || !part_fits(c, c->attr[2].d, c->attr[1].d, t.dim[axis], c->attr[3].i))
        return false;
    c->out[0] = t;
    c->out[0].dim[axis] = c->attr[2].d;
    return true;
}

static bool split_shape(wr_shape_ctx *c) {
    wr_type t = wr_type_of(c->in[0]);
    int axis = wr_shape_axis(c, c->attr[0].i, t.rank);
    if (axis < 0) return false;
    t.dim[axis] = wr_dim_div(c->g, t.dim[axis], wr_n(c->op->n_out));
    for (int k = 0; k < c->op->n_out; k++)
        c->out[k] = t;
    return true;
}

static bool concat_shape(wr_shape_ctx *c) {
    const char *rule = "sizes are equal but for the joined axis: [.., N1, ..], [.., N2, ..]";
    wr_type t = wr_type_of(c->in[0]);
    int axis = wr_shape_axis(c, c->attr[0].i, t.rank);
    if (axis < 0) return false;
    for (int k = 1; k < c->n_in; k++) {
        wr_type p = wr_type_of(c->in[k]);
        if (p.rank != t.rank)
            return wr_shape_fail(c, rule, NULL, "operands have %d and %d axes", t.rank, p.rank);
        for (int d = 0; d < t.rank; d++)
            if (d != axis && !wr_dim_eq(c->g, t.dim[d], p.dim[d]))
                return wr_shape_fail(c, rule, NULL, "axis %d of operand %d differs", d, k);
        t.dim[axis] = wr_dim_add(c->g, t.dim[axis], p.dim[axis]);
    }
    c->out[0] = t;
    return true;
}

/* ---- kernels ---- */

enum {
    CHUNK = 1 << 16, /* bytes one thread copies at a time */
    PARALLEL_BYTES =
        600000 /* some 20 us of work; below, a second thread costs more than it brings */
};

/* Copy `rows` blocks of `bytes`, whose beginnings lie so far apart. */
typedef struct block_copy {
    char *to;
    const char *from; /* NULL: zeros */
    int64_t rows, bytes, to_step, from_step;
    size_t e; /* bytes of an element */
} block_copy;

/* to[i to_step] = from[i from_step] for single elements. */
static void copy_elements(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n,
                          size_t e) {
    if (e == 4) {
        const uint32_t *x = (const uint32_t *)(const void *)from;
        uint32_t *y = (uint32_t *)(void *)to;
        for (int64_t i = 0; i < n; i++)
            y[i * to_step] = x[i * from_step];
    } else {
        const uint64_t *x = (const uint64_t *)(const void *)from;
        uint64_t *y = (uint64_t *)(void *)to;
        for (int64_t i = 0; i < n; i++)
            y[i * to_step] = x[i * from_step];
    }
}

/* Blocks of one element. */
static void copy_single(const wr_run_env *env, block_copy b) {
    enum { ROWS = 8192 };
    bool parallel = b.rows * b.bytes >= PARALLEL_BYTES && env->threads > 1;
#pragma omp parallel for num_threads(env->threads) schedule(static) if (parallel)
    for (int64_t i = 0; i < b.rows; i += ROWS)
        copy_elements(b.to + i * b.to_step, b.to_step / b.bytes, b.from + i * b.from_step,
                      b.from_step / b.bytes, b.rows - i < ROWS ? b.rows - i : ROWS,
                      (size_t)b.bytes);
}

static void copy_blocks(const wr_run_env *env, block_copy b) {
    if (b.from != NULL && b.bytes == (int64_t)b.e) {
        copy_single(env, b);
        return;
    }
    int64_t parts = b.rows >= 8 || b.bytes <= CHUNK ? 1 : (b.bytes + CHUNK - 1) / CHUNK;
    int64_t part = parts == 1 ? b.bytes : CHUNK;
    bool parallel = b.rows * b.bytes >= PARALLEL_BYTES && env->threads > 1;
#pragma omp parallel for num_threads(env->threads) schedule(static) if (parallel)
    for (int64_t i = 0; i < b.rows * parts; i++) {
        int64_t row = i / parts, at = i % parts * part;
        int64_t n = b.bytes - at < part ? b.bytes - at : part;
        if (n <= 0) continue;
        if (b.from == NULL)
            memset(b.to + row * b.to_step + at, 0, (size_t)n);
        else
            memcpy(b.to + row * b.to_step + at, b.from + row * b.from_step + at, (size_t)n);
    }
}

/* The axis of the row, and the positions that it cuts from, or puts into, the larger tensor. */
typedef struct part {
    int64_t outer, size, count, inner, start, step;
    size_t e;
} part;

static part part_of(const wr_call *c, const wr_tensor *large, const wr_tensor *small) {
    int axis = (int)c->attr[0].i;
    return (part){.outer = wr_extent(large, 0, axis),
                  .size = large->dim[axis],
                  .count = small->dim[axis],
                  .inner = wr_extent(large, axis + 1, large->rank),
                  .start = c->attr[1].i,
                  .step = c->attr[3].i,
                  .e = wr_dtype_bytes(large->dtype)};
}

static wr_status check_part(const wr_call *c, const part *p, const char *name) {
    int64_t last = p->start + (p->count - 1) * p->step;
    if (p->start >= 0 && (p->count == 0 || last < p->size)) return WR_OK;
    return wr_fail(c->env->err, WR_ERR_INPUT,
                   "%s: positions %lld to %lld of an axis with %lld positions", name,
                   (long long)p->start, (long long)last, (long long)p->size);
}

static wr_status slice_cpu(const wr_call *c) {
    part p = part_of(c, &c->in[0], &c->out[0]);
    wr_status status = check_part(c, &p, "slice");
    if (status != WR_OK || c->out[0].n == 0) return status;
    int64_t line = p.inner * (int64_t)p.e;
    const char *from = (const char *)c->in[0].data + p.start * line;
    char *to = c->out[0].data;
    if (p.step == 1) {
        copy_blocks(c->env, (block_copy){to, from, p.outer, p.count * line, p.count * line,
                                         p.size * line, p.e});
        return WR_OK;
    }
    bool parallel = c->out[0].n * (int64_t)p.e >= PARALLEL_BYTES && c->env->threads > 1;
    if (p.inner == 1) {
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
        for (int64_t o = 0; o < p.outer; o++)
            copy_elements(to + o * p.count * line, 1, from + o * p.size * line, p.step, p.count,
                          p.e);
        return WR_OK;
    }
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t i = 0; i < p.outer * p.count; i++)
        memcpy(to + i * line, from + (i / p.count * p.size + i % p.count * p.step) * line,
               (size_t)line);
    return WR_OK;
}

/* Zeros before, x, zeros behind; for step > 1 all is cleared first. */
static wr_status place_cpu(const wr_call *c) {
    part p = part_of(c, &c->out[0], &c->in[0]);
    wr_status status = check_part(c, &p, "place");
    if (status != WR_OK || c->out[0].n == 0) return status;
    int64_t line = p.inner * (int64_t)p.e, whole = p.size * line, filled = p.count * line;
    const char *from = c->in[0].data;
    char *to = (char *)c->out[0].data + p.start * line;
    if (p.step == 1) {
        copy_blocks(c->env,
                    (block_copy){c->out[0].data, NULL, p.outer, p.start * line, whole, 0, p.e});
        copy_blocks(c->env, (block_copy){to, from, p.outer, filled, whole, filled, p.e});
        copy_blocks(c->env, (block_copy){to + filled, NULL, p.outer,
                                         whole - filled - p.start * line, whole, 0, p.e});
        return WR_OK;
    }
    bool parallel = c->out[0].n * (int64_t)p.e >= PARALLEL_BYTES && c->env->threads > 1;
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t o = 0; o < p.outer; o++) {
        memset((char *)c->out[0].data + o * whole, 0, (size_t)whole);
        if (p.inner == 1) copy_elements(to + o * whole, p.step, from + o * filled, 1, p.count, p.e);
        for (int64_t i = 0; p.inner > 1 && i < p.count; i++)
            memcpy(to + o * whole + i * p.step * line, from + o * filled + i * line, (size_t)line);
    }
    return WR_OK;
}

/* Neighbouring parts of the same rows: blocks that lie side by side in `whole` bytes of each row of
 * the larger tensor, and one after the other in tensors of their own. */
typedef struct side_by_side {
    char *joined;
    char *const *part; /* NULL: nobody reads it */
    const int64_t *bytes;
    int n;
    int64_t rows, whole;
    bool join; /* from the parts to the larger tensor, or back */
} side_by_side;

static void copy_row(const side_by_side *s, int64_t row) {
    char *at = s->joined + row * s->whole;
    for (int k = 0; k < s->n; at += s->bytes[k++]) {
        char *part = s->part[k] == NULL ? NULL : s->part[k] + row * s->bytes[k];
        if (part != NULL) memcpy(s->join ? at : part, s->join ? part : at, (size_t)s->bytes[k]);
    }
}

/* Many rows with a handful of parts: the threads meet once, not once a part. */
static void copy_rows(const wr_run_env *env, const side_by_side *s) {
    bool parallel = s->rows * s->whole >= PARALLEL_BYTES && env->threads > 1;
#pragma omp parallel for num_threads(env->threads) schedule(static) if (parallel)
    for (int64_t row = 0; row < s->rows; row++)
        copy_row(s, row);
}

enum { FEW_PARTS = 8, MANY_ROWS = 16 };

/* Do rows of several elements make the parts? */
static bool goes_by_rows(const side_by_side *s, int64_t e) {
    bool wide = s->n <= FEW_PARTS && s->rows >= MANY_ROWS;
    for (int k = 0; k < s->n && wide; k++)
        wide = s->bytes[k] > e;
    return wide;
}

static wr_status concat_cpu(const wr_call *c) {
    const wr_tensor *out = &c->out[0];
    int axis = (int)c->attr[0].i;
    int64_t outer = wr_extent(out, 0, axis);
    int64_t e = (int64_t)wr_dtype_bytes(out->dtype);
    int64_t whole = wr_extent(out, axis, out->rank) * e, bytes[FEW_PARTS];
    char *part[FEW_PARTS], *to = out->data;
    side_by_side s = {to, part, bytes, c->n_in, outer, whole, true};
    for (int k = 0; k < c->n_in && k < FEW_PARTS; k++) {
        part[k] = c->in[k].data;
        bytes[k] = wr_extent(&c->in[k], axis, out->rank) * e;
    }
    if (goes_by_rows(&s, e)) {
        copy_rows(c->env, &s);
        return WR_OK;
    }
    for (int k = 0; k < c->n_in; k++) {
        int64_t n = wr_extent(&c->in[k], axis, out->rank) * e;
        copy_blocks(c->env, (block_copy){to, c->in[k].data, outer, n, whole, n, (size_t)e});
        to += n;
    }
    return WR_OK;
}

static wr_status split_cpu(const wr_call *c) {
    const wr_tensor *x = &c->in[0];
    int axis = (int)c->attr[0].i;
    int64_t outer = wr_extent(x, 0, axis), e = (int64_t)wr_dtype_bytes(x->dtype);
    int64_t whole = wr_extent(x, axis, x->rank) * e, n = whole / c->n_out, bytes[FEW_PARTS];
    char *part[FEW_PARTS];
    side_by_side s = {x->data, part, bytes, c->n_out, outer, whole, false};
    for (int k = 0; k < c->n_out; k++) {
        part[k] = c->out[k].data;
        bytes[k] = n;
    }
    if (goes_by_rows(&s, e)) {
        copy_rows(c->env, &s);
        return WR_OK;
    }
    for (int k = 0; k < c->n_out; k++)
        if (part[k] != NULL)
            copy_blocks(c->env,
                        (block_copy){part[k], s.joined + k * n, outer, n, n, whole, (size_t)e});
    return WR_OK;
}

/* ---- costs, gradients ---- */

/* Only the smaller tensor's elements are read. */
static wr_cost slice_cost(const wr_call *c) {
    return (wr_cost){.bytes = 2.0 * (double)c->out[0].n * (double)wr_dtype_bytes(c->out[0].dtype)};
}
static wr_cost copy_cost(const wr_call *c) { return (wr_cost){.bytes = wr_bytes_moved(c)}; }

static bool slice_grad(wr_grad_ctx *c) {
    int axis = (int)c->attr[0].i;
    return wr_contribute(
        c, 0, wr_place(c->cot[0], axis, wr_dim_of(c->in[0], axis), c->attr[1].d, c->attr[3].i));
}

static bool place_grad(wr_grad_ctx *c) {
    int axis = (int)c->attr[0].i;
    return wr_contribute(
        c, 0,
        wr_slice_dims(c->cot[0], axis, c->attr[1].d, wr_dim_of(c->in[0], axis), c->attr[3].i));
}

static bool concat_grad(wr_grad_ctx *c) {
    int axis = (int)c->attr[0].i;
    wr_dim start = wr_n(0);
    bool ok = true;
    for (int k = 0; ok && k < c->n_in; k++) {
        wr_dim count = wr_dim_of(c->in[k], axis);
        if (c->needed[k]) ok = wr_contribute(c, k, wr_slice_dims(c->cot[0], axis, start, count, 1));
        start = wr_dim_add(c->g, start, count);
    }
    return ok;
}

/* Zeros stand for outputs without a cotangent; one cotangent alone is placed. */
static bool split_grad(wr_grad_ctx *c) {
    wr part[WR_MAX_OUTPUTS];
    int axis = (int)c->attr[0].i, given = 0, last = 0;
    wr_dim size = wr_dim_of(c->in[0], axis), count = wr_dim_of(c->out[0], axis);
    for (int k = 0; k < c->n_out; k++) {
        bool has = !wr_is_poison(c->cot[k]);
        part[k] = has ? c->cot[k] : wr_zeros_like(c->out[k]);
        given += has;
        if (has) last = k;
    }
    if (given > 1) return wr_contribute(c, 0, wr_concat_n(axis, c->n_out, part));
    wr_dim start = wr_dim_mul(c->g, count, wr_n(last));
    return wr_contribute(c, 0, wr_place(c->cot[last], axis, size, start, 1));
}

/* ---- samples, rows ---- */

/* Sizes around an axis, start, count and step of the variants; the last two are large. */
typedef struct part_case {
    int64_t dims[3];
    int axis;
    int64_t start, count, step;
} part_case;

static const part_case CASES[] = {
    {{4, 3, 5}, 0, 1, 2, 1}, {{3, 5, 2}, 1, 0, 3, 2},      {{3, 2, 7}, 2, 1, 3, 2},
    {{2, 3, 6}, 2, 2, 4, 1}, {{1, 6, 1}, 1, 0, 2, 3},      {{5, 2, 3}, 0, 4, 1, 1},
    {{3, 5, 1}, 1, 1, 2, 1}, {{3, 130, 97}, 1, 7, 120, 1}, {{40, 9, 200}, 2, 1, 100, 2}};

static wr slice_sample(wr_sample *s) {
    if (s->variant >= (int)(sizeof CASES / sizeof *CASES)) return (wr){s->g, 0};
    const part_case *p = &CASES[s->variant];
    return wr_slice_dims(s->input(s, WR_FILL_REAL, 0, 3, p->dims), p->axis, wr_n(p->start),
                         wr_n(p->count), p->step);
}

static wr place_sample(wr_sample *s) {
    if (s->variant >= (int)(sizeof CASES / sizeof *CASES)) return (wr){s->g, 0};
    const part_case *p = &CASES[s->variant];
    int64_t dims[3] = {p->dims[0], p->dims[1], p->dims[2]};
    dims[p->axis] = p->count;
    return wr_place(s->input(s, WR_FILL_REAL, 0, 3, dims), p->axis, wr_n(p->dims[p->axis]),
                    wr_n(p->start), p->step);
}

static wr concat_sample(wr_sample *s) {
    if (s->variant > 3) return (wr){s->g, 0};
    int axis = s->variant % 3;
    int64_t dims[3] = {wr_sample_int(s, 1, 3), wr_sample_int(s, 1, 4), wr_sample_int(s, 1, 5)};
    if (s->variant == 3) dims[1] = 350, dims[2] = 111;
    wr part[3];
    for (int k = 0; k < 3; k++) {
        dims[axis] = wr_sample_int(s, 1, 4);
        part[k] = s->input(s, WR_FILL_REAL, 0, 3, dims);
    }
    return wr_concat(axis, part[0], part[1], part[2]);
}

/* ---- inverse rules: parts and wholes ---- */

static bool slice_inverse(wr_inverse_ctx *c) {
    return wr_inverse_solve_part(c, 0, (int)c->attr[0].i, c->attr[1].d, c->attr[3].i, c->y[0]);
}

static bool concat_inverse(wr_inverse_ctx *c) {
    int axis = (int)c->attr[0].i;
    for (int k = 0; k < c->n_in; k++) {
        if (c->x[k].id != 0)
            return wr_inverse_wait(c, "a part of what it joins is known already: over-determined");
        for (int i = 0; i < k; i++)
            if (c->in[i].id == c->in[k].id)
                return wr_inverse_wait(c, "it joins a node with itself: over-determined");
    }
    wr_dim start = wr_n(0);
    bool ok = true;
    for (int k = 0; ok && k < c->n_in; k++) {
        wr_dim count = wr_dim_of(c->in[k], axis);
        ok = wr_inverse_solve(c, k, wr_slice_dims(c->y[0], axis, start, count, 1)).id != 0;
        start = wr_dim_add(c->g, start, count);
    }
    return ok;
}

static bool split_inverse(wr_inverse_ctx *c) {
    int axis = (int)c->attr[0].i;
    wr part = c->y[c->output];
    wr_dim start = wr_dim_mul(c->g, wr_dim_of(part, axis), wr_n(c->output));
    return wr_inverse_solve_part(c, 0, axis, start, 1, part);
}

const wr_op wr_op_slice = {
    .name = "slice",
    .doc = "positions start, start + step, .. of an axis",
    .n_in = 1,
    .attrs = {{"axis", WR_ATTR_INT},
              {"start", WR_ATTR_DIM},
              {"count", WR_ATTR_DIM},
              {"step", WR_ATTR_INT}},
    .shape = slice_shape,
    .cost = slice_cost,
    .cpu = slice_cpu,
    .grad = slice_grad,
    .inverse = slice_inverse,
    .sample = slice_sample,
};

const wr_op wr_op_place = {
    .name = "place",
    .doc = "zeros with x at positions start, start + step, .. of an axis",
    .n_in = 1,
    .attrs = {{"axis", WR_ATTR_INT},
              {"start", WR_ATTR_DIM},
              {"size", WR_ATTR_DIM},
              {"step", WR_ATTR_INT}},
    .shape = place_shape,
    .cost = copy_cost,
    .cpu = place_cpu,
    .grad = place_grad,
    .no_inverse = "its values are a part of the space",
    .sample = place_sample,
};

const wr_op wr_op_concat = {
    .name = "concat",
    .doc = "operands one after the other along an axis",
    .n_in = 1,
    .n_in_max = WR_ANY_INPUTS,
    .attrs = {{"axis", WR_ATTR_INT}},
    .shape = concat_shape,
    .cost = copy_cost,
    .cpu = concat_cpu,
    .grad = concat_grad,
    .inverse = concat_inverse,
    .sample = concat_sample,
};

static wr split_sample(wr_sample *s, int n) {
    wr part[4];
    if (s->variant > 3) return (wr){s->g, 0};
    int axis = s->variant % 3;
    int64_t dims[3] = {wr_sample_int(s, 1, 3), wr_sample_int(s, 1, 4), wr_sample_int(s, 1, 5)};
    if (s->variant == 3) dims[1] = 350, dims[2] = 111;
    dims[axis] = n * wr_sample_int(s, 1, 3);
    wr_split(s->input(s, WR_FILL_REAL, 0, 3, dims), axis, n, part);
    return part[0];
}

#define SPLIT(n)                                                                                   \
    static wr split_##n##_sample(wr_sample *s) { return split_sample(s, n); }                      \
    const wr_op wr_op_split_##n = {                                                                \
        .name = "split_" #n,                                                                       \
        .doc = #n " equal parts of an axis, one after the other",                                  \
        .n_in = 1,                                                                                 \
        .n_out = n,                                                                                \
        .attrs = {{"axis", WR_ATTR_INT}},                                                          \
        .shape = split_shape,                                                                      \
        .cost = copy_cost,                                                                         \
        .cpu = split_cpu,                                                                          \
        .grad = split_grad,                                                                        \
        .inverse = split_inverse,                                                                  \
        .sample = split_##n##_sample,                                                              \
    };
SPLIT(2)
SPLIT(3)
SPLIT(4)
