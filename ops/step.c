/* step.c: see step.h. x is seen as [outer, N, inner] around the axis. */
#include "ops/step.h"

#include "ops/layout.h"
#include "ops/shape.h"

#include <string.h>

wr wr_put_at(wr_loc loc, wr x, wr fresh, wr position, int axis) {
    int at = axis < 0 ? axis + wr_rank(x) : axis;
    return wr_emit(loc, &wr_op_put, 3, (wr[]){x, fresh, position}, (wr_attr[]){{.i = at}});
}

wr wr_take_at(wr_loc loc, wr x, wr position, int axis) {
    int at = axis < 0 ? axis + wr_rank(x) : axis;
    return wr_emit(loc, &wr_op_take, 2, (wr[]){x, position}, (wr_attr[]){{.i = at}});
}

wr wr_clip_lengths_at(wr_loc loc, wr lengths, wr from, wr to) {
    return wr_emit(loc, &wr_op_clip_lengths, 3, (wr[]){lengths, from, to}, NULL);
}

static bool is_number(wr_shape_ctx *c, int k) {
    if (!wr_shape_needs_i32(c, k)) return false;
    if (wr_rank(c->in[k]) == 0) return true;
    return wr_shape_fail(c, c->op->doc, NULL, "operand %c is no single number", 'a' + k);
}

static bool take_shape(wr_shape_ctx *c) {
    wr_type t = wr_type_of(c->in[0]);
    int axis = wr_shape_axis(c, c->attr[0].i, t.rank);
    if (axis < 0 || !is_number(c, c->n_in - 1)) return false;
    t.dim[axis] = wr_n(1);
    c->out[0] = t;
    return true;
}

static bool put_shape(wr_shape_ctx *c) {
    if (!take_shape(c)) return false;
    wr_type fresh = wr_type_of(c->in[1]);
    if (!wr_shape_equal(c->g, &fresh, &c->out[0]))
        return wr_shape_fail(c, "x [.., N, ..], fresh [.., 1, ..], position []", NULL,
                             "what is put does not fit");
    return wr_shape_same(c);
}

/* The place of the position: `outer` blocks of `block` bytes, `stride` apart from offset `at`. */
typedef struct place {
    int64_t outer;
    size_t at, block, stride;
} place;

static wr_status find_place(const wr_call *c, place *p) {
    const wr_tensor *x = &c->in[0];
    int axis = (int)c->attr[0].i;
    int32_t position = *(const int32_t *)c->in[c->n_in - 1].data;
    if (position < 0 || position >= x->dim[axis])
        return wr_fail(c->env->err, WR_ERR_INPUT, "position %d of an axis of size %lld", position,
                       (long long)x->dim[axis]);
    p->outer = wr_extent(x, 0, axis);
    p->block = (size_t)wr_extent(x, axis + 1, x->rank) * wr_dtype_bytes(x->dtype);
    p->stride = p->block * (size_t)x->dim[axis];
    p->at = p->block * (size_t)position;
    return WR_OK;
}

static wr_status take_cpu(const wr_call *c) {
    place p;
    wr_status status = find_place(c, &p);
    if (status != WR_OK) return status;
    char *to = c->out[0].data;
    const char *from = c->in[0].data;
    for (int64_t i = 0; i < p.outer; i++)
        memcpy(to + (size_t)i * p.block, from + (size_t)i * p.stride + p.at, p.block);
    return WR_OK;
}

static wr_status put_cpu(const wr_call *c) {
    place p;
    wr_status status = find_place(c, &p);
    if (status != WR_OK) return status;
    char *to = c->out[0].data;
    const char *fresh = c->in[1].data;
    if (to != c->in[0].data) memcpy(to, c->in[0].data, p.stride * (size_t)p.outer);
    for (int64_t i = 0; i < p.outer; i++)
        memcpy(to + (size_t)i * p.stride + p.at, fresh + (size_t)i * p.block, p.block);
    return WR_OK;
}

static wr_status clip_lengths_cpu(const wr_call *c) {
    const int32_t *length = c->in[0].data;
    int32_t from = *(const int32_t *)c->in[1].data, to = *(const int32_t *)c->in[2].data;
    int32_t *out = c->out[0].data;
    for (int64_t b = 0; b < c->out[0].n; b++) {
        int32_t end = length[b] < to ? length[b] : to;
        out[b] = end > from ? end - from : 0;
    }
    return WR_OK;
}

static bool clip_lengths_shape(wr_shape_ctx *c) {
    return wr_shape_needs_i32(c, 0) && is_number(c, 1) && is_number(c, 2) && wr_shape_same(c);
}

static bool take_grad(wr_grad_ctx *c) {
    wr zeros = wr_zeros_like(c->in[0]);
    return wr_contribute(c, 0, wr_put(zeros, c->cot[0], c->in[1], (int)c->attr[0].i));
}

static bool put_grad(wr_grad_ctx *c) {
    int axis = (int)c->attr[0].i;
    bool ok = true;
    if (c->needed[0])
        ok = wr_contribute(c, 0, wr_put(c->cot[0], wr_zeros_like(c->in[1]), c->in[2], axis));
    if (ok && c->needed[1]) ok = wr_contribute(c, 1, wr_take(c->cot[0], c->in[2], axis));
    return ok;
}

static wr take_sample(wr_sample *s) {
    if (s->variant > 2) return (wr){s->g, 0};
    int64_t dims[3] = {wr_sample_int(s, 1, 3), wr_sample_int(s, 1, 5), wr_sample_int(s, 1, 4)};
    wr x = s->input(s, WR_FILL_REAL, 0, 3, dims);
    wr position = s->input(s, WR_FILL_INDEX, dims[s->variant], 0, NULL);
    return wr_take(x, position, s->variant);
}

static wr put_sample(wr_sample *s) {
    if (s->variant > 2) return (wr){s->g, 0};
    int64_t dims[3] = {wr_sample_int(s, 1, 3), wr_sample_int(s, 1, 5), wr_sample_int(s, 1, 4)};
    wr x = s->input(s, WR_FILL_REAL, 0, 3, dims);
    wr position = s->input(s, WR_FILL_INDEX, dims[s->variant], 0, NULL);
    dims[s->variant] = 1;
    return wr_put(x, s->input(s, WR_FILL_REAL, 0, 3, dims), position, s->variant);
}

static wr clip_lengths_sample(wr_sample *s) {
    if (s->variant > 0) return (wr){s->g, 0};
    int64_t dims[1] = {7};
    wr from = s->input(s, WR_FILL_INDEX, 3, 0, NULL), to = wr_scalar(s->g, WR_I32, 6);
    return wr_clip_lengths(s->input(s, WR_FILL_LENGTH, 9, 1, dims), from, to);
}

const wr_op wr_op_take = {.name = "take",
                          .doc = "one position of an axis, by number",
                          .traits = WR_MIXED,
                          .n_in = 2,
                          .attrs = {{"axis", WR_ATTR_INT}},
                          .shape = take_shape,
                          .cpu = take_cpu,
                          .grad = take_grad,
                          .no_inverse = "the other positions are lost",
                          .sample = take_sample};
const wr_op wr_op_put = {.name = "put",
                         .doc = "x with one position of an axis replaced, by number",
                         .traits = WR_MIXED,
                         .n_in = 3,
                         .attrs = {{"axis", WR_ATTR_INT}},
                         .shape = put_shape,
                         .cpu = put_cpu,
                         .grad = put_grad,
                         .no_inverse = "what was replaced is lost",
                         .inplace = 1,
                         .sample = put_sample};
const wr_op wr_op_clip_lengths = {.name = "clip_lengths",
                                  .doc = "how many of the first positions lie in a range",
                                  .n_in = 3,
                                  .shape = clip_lengths_shape,
                                  .cpu = clip_lengths_cpu,
                                  .no_grad = "whole numbers",
                                  .no_inverse = "whole numbers have no density",
                                  .sample = clip_lengths_sample};
