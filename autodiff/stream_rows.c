/* stream_rows.c: which rows have a step form, and how it is made; see stream.h. */
#include "autodiff/stream.h"

#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/lstm.h"
#include "ops/mask.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/random_ops.h"
#include "ops/reduce.h"
#include "ops/scan_internal.h"
#include "ops/slice.h"
#include "ops/softmax.h"
#include "ops/sort.h"
#include "ops/step.h"

#include <stdlib.h>
#include <string.h>

enum { LONGEST_SHIFT = 16 };

static wr in_of(const wr__stream *s, uint32_t id, int k) {
    return (wr){s->g, wr_node_inputs(s->g, id)[k]};
}
static int operands(const wr__stream *s, uint32_t id) { return wr_node_at(s->g, id)->n_in; }
static int64_t attr_of(const wr__stream *s, uint32_t id, int k) {
    return wr_node_attrs(s->g, id)[k].i;
}
static wr__seen seen_in(const wr__stream *s, uint32_t id, int k) {
    return s->seen[in_of(s, id, k).id];
}
static bool varies(const wr__stream *s, uint32_t id, int k) { return wr__stream_varies(s, id, k); }
static wr__reach unknown(wr__stream *s) {
    return wr__stream_because(s, WR__NOT_KNOWN, "it has no step form for these operands");
}
static wr__reach later(wr__stream *s, const char *why) {
    return wr__stream_because(s, WR__LATER, why);
}

/* What all operands that vary have in common; `right`: is time at the same axis from the right?
 * (else from the left). The longest rank goes to *rank. */
static bool merge(const wr__stream *s, uint32_t id, bool right, wr__seen *out) {
    bool first = true;
    int rank = wr_rank((wr){s->g, id});
    for (int k = 0; k < operands(s, id); k++) {
        if (!varies(s, id, k)) continue;
        wr__seen x = seen_in(s, id, k);
        if (right) x.axis = (int16_t)(x.axis + rank - wr_rank(in_of(s, id, k)));
        if (first) {
            *out = (wr__seen){.axis = x.axis, .head = x.head, .lag = x.lag};
        } else {
            if (x.axis != out->axis || x.head != out->head) return false;
            out->lag = x.lag < out->lag ? x.lag : out->lag;
        }
        first = false;
    }
    return !first;
}

/* Operands from outside that reach the axis of time are stepped along it. */
static bool step_others(wr__stream *s, uint32_t id, bool right, wr__seen out) {
    int rank = wr_rank((wr){s->g, id});
    for (int k = 0; k < operands(s, id); k++) {
        if (varies(s, id, k)) continue;
        int axis = right ? out.axis - (rank - wr_rank(in_of(s, id, k))) : out.axis;
        if (axis < 0 || axis >= wr_rank(in_of(s, id, k))) continue;
        if (out.head != 0 || !wr__stream_along(s, id, k, axis)) return false;
    }
    return true;
}

/* ---- position by position ---- */

static wr__reach look_elementwise(wr__stream *s, uint32_t id, wr__seen *out) {
    bool ok = merge(s, id, true, out) && step_others(s, id, true, *out);
    return ok ? WR__STEPS : unknown(s);
}

static wr__reach look_mask(wr__stream *s, uint32_t id, wr__seen *out) {
    bool ok = !varies(s, id, 1) && merge(s, id, false, out) && step_others(s, id, false, *out);
    return ok ? WR__STEPS : unknown(s);
}

/* Unary rows that keep the sizes. */
static wr__reach look_same(wr__stream *s, uint32_t id, wr__seen *out) {
    *out = seen_in(s, id, 0);
    out->remembers = false;
    return WR__STEPS;
}

/* Rows over the last axis whose further operands are small and the same at all positions. */
static wr__reach look_last_axis(wr__stream *s, uint32_t id, wr__seen *out) {
    bool alone = varies(s, id, 0);
    for (int k = 1; k < operands(s, id); k++)
        alone = alone && !varies(s, id, k) && wr_rank(in_of(s, id, k)) <= 1;
    if (!alone) return unknown(s);
    look_same(s, id, out);
    if (out->axis == wr_rank(in_of(s, id, 0)) - 1) return later(s, "it joins all positions");
    return WR__STEPS;
}

static wr__reach look_product(wr__stream *s, uint32_t id, wr__seen *out) {
    wr a = in_of(s, id, 0), b = in_of(s, id, 1);
    bool fits = varies(s, id, 0) && attr_of(s, id, 0) == 0;
    for (int k = 1; k < operands(s, id); k++)
        fits = fits && !varies(s, id, k);
    if (!fits || operands(s, id) > 3) return unknown(s);
    look_same(s, id, out);
    int rank = wr_rank(a);
    if (out->axis == rank - 1) return later(s, "it sums over positions");
    if (wr_rank(b) > 2 && out->axis < rank - 2 && !wr__stream_along(s, id, 1, out->axis))
        return unknown(s);
    if (operands(s, id) == 3 && wr_rank(in_of(s, id, 2)) != 1) return unknown(s);
    return WR__STEPS;
}

static wr__reach look_reduce(wr__stream *s, uint32_t id, wr__seen *out) {
    int64_t from = attr_of(s, id, 0), to = attr_of(s, id, 1);
    look_same(s, id, out);
    if (out->axis >= from && out->axis < to) return later(s, "it reduces over positions");
    if (out->axis >= to) out->axis = (int16_t)(out->axis - (to - from));
    return WR__STEPS;
}

static bool same_dims(wr a, int from_a, wr b, int from_b, int n) {
    for (int i = 0; i < n; i++)
        if (!wr_dim_eq(a.g, wr_dim_of(a, from_a + i), wr_dim_of(b, from_b + i))) return false;
    return true;
}

/* The axes up to time, or those from time on, stay. */
static wr__reach look_reshape(wr__stream *s, uint32_t id, wr__seen *out) {
    wr x = in_of(s, id, 0), y = {s->g, id};
    look_same(s, id, out);
    int axis = out->axis, behind = wr_rank(x) - axis;
    if (axis < wr_rank(y) && same_dims(x, 0, y, 0, axis + 1)) return WR__STEPS;
    if (behind > wr_rank(y) || !same_dims(x, axis, y, wr_rank(y) - behind, behind))
        return wr__stream_because(s, WR__NOT_KNOWN, "it merges the axis of time with others");
    out->axis = (int16_t)(wr_rank(y) - behind);
    return WR__STEPS;
}

static wr__reach look_broadcast(wr__stream *s, uint32_t id, wr__seen *out) {
    look_same(s, id, out);
    out->axis = (int16_t)(out->axis + wr_rank((wr){s->g, id}) - wr_rank(in_of(s, id, 0)));
    return WR__STEPS;
}

static wr__reach look_transpose(wr__stream *s, uint32_t id, wr__seen *out) {
    look_same(s, id, out);
    int axis = out->axis;
    for (int i = 0; i < wr_rank((wr){s->g, id}); i++)
        if (attr_of(s, id, i) == axis) out->axis = (int16_t)i;
    return WR__STEPS;
}

static wr__reach look_split(wr__stream *s, uint32_t id, wr__seen *out) {
    look_same(s, id, out);
    return attr_of(s, id, 0) == out->axis ? unknown(s) : WR__STEPS;
}

/* ---- shifts: the first T - k positions, then k others in front ---- */

/* The literal k with whole - part = k, -1: none. */
static int difference(wr__stream *s, wr_dim whole, wr_dim part) {
    wr_dim d = wr_dim_sub(s->g, whole, part);
    if (d.id == 0 || !wr_dim_is_literal(d) || wr_dim_literal(d) > LONGEST_SHIFT) return -1;
    return (int)wr_dim_literal(d);
}

static wr__reach look_slice(wr__stream *s, uint32_t id, wr__seen *out) {
    const wr_attr *attr = wr_node_attrs(s->g, id);
    wr_dim start = attr[1].d, count = attr[2].d;
    int64_t axis = attr[0].i, step = attr[3].i;
    look_same(s, id, out);
    if (axis != out->axis) return WR__STEPS;
    if (step != 1 || out->head != 0) return unknown(s);
    if (!wr_dim_same(start, wr_n(0))) return later(s, "it leaves out first positions");
    int head = difference(s, s->steps, count);
    if (head < 1) return unknown(s);
    out->head = (int16_t)head;
    return WR__STEPS;
}

/* The first T - head positions, seen one by one, are the positions. */
static wr make_slice(wr__stream *s, uint32_t id) {
    bool along = s->seen[id].axis == attr_of(s, id, 0);
    return along ? wr__stream_operand(s, id, 0) : wr__stream_again(s, id);
}

/* A shift by what is missing in operand k. */
static wr__reach shift(wr__stream *s, uint32_t id, int k, wr__seen *out) {
    *out = seen_in(s, id, k);
    int by = out->head, axis = out->axis;
    out->head = 0;
    out->lag += by;
    for (int i = 0; i < by; i++) {
        wr__stream_state *state = wr__stream_remember(s, id);
        if (!s->making) continue;
        wr_type t = wr_type_of(in_of(s, id, k));
        t.dim[axis] = wr_n(1);
        bool zeros = wr_node_at(s->g, id)->op == &wr_op_place;
        state->first = zeros ? wr_broadcast(wr_scalar(s->g, t.dtype, 0.0), t.rank, t.dim)
                             : wr_slice(wr__stream_given(s, in_of(s, id, 0).id), axis, i, i + 1);
    }
    out->remembers = true;
    return WR__STEPS;
}

static wr__reach look_place(wr__stream *s, uint32_t id, wr__seen *out) {
    const wr_attr *attr = wr_node_attrs(s->g, id);
    wr__seen x = seen_in(s, id, 0);
    if (attr[0].i != x.axis) return look_same(s, id, out);
    bool fits = x.head > 0 && wr_dim_same(attr[1].d, wr_n(x.head)) && attr[3].i == 1 &&
                wr_dim_eq(s->g, attr[2].d, s->steps);
    return fits ? shift(s, id, 0, out) : unknown(s);
}

static wr__reach look_concat(wr__stream *s, uint32_t id, wr__seen *out) {
    int64_t axis = attr_of(s, id, 0);
    if (operands(s, id) == 2 && !varies(s, id, 0) && seen_in(s, id, 1).axis == axis) {
        int head = seen_in(s, id, 1).head;
        bool fits = head > 0 && wr_dim_same(wr_dim_of(in_of(s, id, 0), (int)axis), wr_n(head));
        return fits ? shift(s, id, 1, out) : unknown(s);
    }
    bool ok = merge(s, id, false, out) && out->axis != axis && step_others(s, id, false, *out);
    return ok ? WR__STEPS : unknown(s);
}

static bool is_shift(wr__stream *s, uint32_t id) { return wr__stream_state_of(s, id, 0) != NULL; }

static wr make_shift(wr__stream *s, uint32_t id) {
    return is_shift(s, id) ? wr__stream_state_of(s, id, 0)->now : wr__stream_again(s, id);
}

/* The oldest leaves, the present value comes in. */
static bool finish_shift(wr__stream *s, uint32_t id) {
    int n = 0;
    wr__stream_state *state;
    while ((state = wr__stream_state_of(s, id, n)) != NULL) {
        wr__stream_state *newer = wr__stream_state_of(s, id, ++n);
        state->next = newer != NULL ? newer->now : wr__stream_operand(s, id, operands(s, id) - 1);
    }
    return true;
}

/* ---- running sums ---- */

static wr__reach look_cumsum(wr__stream *s, uint32_t id, wr__seen *out) {
    look_same(s, id, out);
    if (attr_of(s, id, 0) != out->axis) return WR__STEPS;
    if (attr_of(s, id, 1) != 0) return later(s, "it sums from the end");
    if (out->head != 0) return unknown(s);
    out->lag += attr_of(s, id, 2) != 0;
    wr__stream_state *sum = wr__stream_remember(s, id);
    out->remembers = true;
    if (!s->making) return WR__STEPS;
    wr_type t = wr_type_of(in_of(s, id, 0));
    t.dim[out->axis] = wr_n(1);
    sum->first = wr_broadcast(wr_scalar(s->g, t.dtype, 0.0), t.rank, t.dim);
    return WR__STEPS;
}

static wr make_cumsum(wr__stream *s, uint32_t id) {
    wr__stream_state *sum = wr__stream_state_of(s, id, 0);
    if (sum == NULL) return wr__stream_again(s, id);
    bool exclusive = attr_of(s, id, 2) != 0;
    return exclusive ? sum->now : wr_add(sum->now, wr__stream_operand(s, id, 0));
}

static bool finish_cumsum(wr__stream *s, uint32_t id) {
    wr__stream_state *sum = wr__stream_state_of(s, id, 0);
    if (sum != NULL) sum->next = wr_add(sum->now, wr__stream_operand(s, id, 0));
    return true;
}

/* ---- attention: keys and values of earlier positions are kept ---- */

enum { HEADS, CAUSAL, ATTENTION_ATTRS = 5 };

static wr__reach look_attention(wr__stream *s, uint32_t id, wr__seen *out) {
    bool lengths = operands(s, id) == 4;
    if (!merge(s, id, false, out) || out->axis != 1 || out->head != 0) return unknown(s);
    if (lengths && varies(s, id, 3)) return unknown(s);
    bool self = varies(s, id, 1) || varies(s, id, 2);
    if (!self && attr_of(s, id, CAUSAL) == 0) return WR__STEPS; /* over something else */
    if (attr_of(s, id, CAUSAL) == 0)
        return later(s,
                     "it attends to all positions\n  hint: causal attention reads up to its own");
    for (int k = 0; k < 3; k++)
        if (!varies(s, id, k) && !wr__stream_along(s, id, k, 1)) return unknown(s);
    for (int k = 1; k < 3; k++) {
        wr__stream_state *cache = wr__stream_remember(s, id);
        if (!s->making) continue;
        wr_type t = wr_type_of(in_of(s, id, k));
        cache->first = wr_broadcast(wr_scalar(s->g, t.dtype, 0.0), t.rank, t.dim);
    }
    out->remembers = true;
    return WR__STEPS;
}

static wr make_attention(wr__stream *s, uint32_t id) {
    wr_attr attr[ATTENTION_ATTRS];
    wr in[4];
    int n_in = operands(s, id);
    if (wr__stream_state_of(s, id, 0) == NULL) return wr__stream_again(s, id);
    memcpy(attr, wr_node_attrs(s->g, id), sizeof attr);
    attr[CAUSAL].i = 0;
    in[0] = wr__stream_operand(s, id, 0);
    for (int k = 1; k < 3; k++) {
        wr__stream_state *cache = wr__stream_state_of(s, id, k - 1);
        in[k] = cache->next = wr_put(cache->now, wr__stream_operand(s, id, k), s->here, 1);
    }
    wr none = wr_scalar(s->g, WR_I32, 0.0);
    in[3] = n_in == 4 ? wr_clip_lengths(wr__stream_operand(s, id, 3), none, s->behind)
                      : wr_broadcast(s->behind, WR_DIMS(wr_dim_of(in[0], 0)));
    wr_loc loc = *wr_loc_at(s->g, wr_node_at(s->g, id)->loc);
    return wr_emit_in(s->g, loc, &wr_op_attention, 4, in, attr, false);
}

/* ---- recurrence ---- */

enum { LSTM_Z, LSTM_H, LSTM_C, LSTM_W, LSTM_LENGTHS };

static wr__reach look_lstm(wr__stream *s, uint32_t id, wr__seen *out) {
    for (int k = LSTM_H; k <= LSTM_LENGTHS; k++)
        if (varies(s, id, k)) return unknown(s);
    look_same(s, id, out);
    if (attr_of(s, id, 0) != 0) return later(s, "it runs from the end");
    if (out->axis != 1 || out->head != 0) return unknown(s);
    for (int k = LSTM_H; k <= LSTM_C; k++) {
        wr__stream_state *state = wr__stream_remember(s, id);
        if (s->making) state->first = wr__stream_given(s, in_of(s, id, k).id);
    }
    out->remembers = true;
    return WR__STEPS;
}

static wr make_lstm(wr__stream *s, uint32_t id) {
    wr__stream_state *h = wr__stream_state_of(s, id, 0), *c = wr__stream_state_of(s, id, 1);
    wr lengths = wr_clip_lengths(wr__stream_operand(s, id, LSTM_LENGTHS), s->here, s->behind);
    wr in[5] = {wr__stream_operand(s, id, LSTM_Z), h->now, c->now,
                wr__stream_operand(s, id, LSTM_W), lengths};
    wr_loc loc = *wr_loc_at(s->g, wr_node_at(s->g, id)->loc);
    wr y = wr_emit_in(s->g, loc, &wr_op_lstm, 5, in, (wr_attr[]){{.i = 0}}, false);
    h->next = wr_output(y, 1);
    c->next = wr_output(y, 2);
    return y;
}

/* ---- loops over the same axis ---- */

static const wr__scan_body *body_of(const wr__stream *s, uint32_t id) {
    return wr_graph_kept(s->g, attr_of(s, id, WR__SCAN_BODY));
}

static wr__reach look_scan(wr__stream *s, uint32_t id, wr__seen *out) {
    const wr__scan_body *b = body_of(s, id);
    wr_dim steps = wr_node_attrs(s->g, id)[WR__SCAN_STEPS].d;
    if (attr_of(s, id, WR__SCAN_REVERSE) != 0) return later(s, "it runs from the end");
    if (b->n_out == 0) return later(s, "its results come after all positions");
    if (!wr_dim_eq(s->g, steps, s->steps)) return unknown(s);
    *out = (wr__seen){.axis = (int16_t)b->out_axis[0], .lag = INT32_MAX};
    for (int k = 0; k < operands(s, id); k++) {
        int step = k - b->n_carry;
        bool stepped = step >= 0 && step < b->n_step;
        wr__seen x = seen_in(s, id, k);
        if (!varies(s, id, k)) {
            if (stepped && !wr__stream_along(s, id, k, b->step_axis[step])) return unknown(s);
            continue;
        }
        if (!stepped || x.axis != b->step_axis[step] || x.head != 0) return unknown(s);
        out->lag = x.lag < out->lag ? x.lag : out->lag;
    }
    for (int k = 0; k < b->n_carry; k++) {
        wr__stream_state *state = wr__stream_remember(s, id);
        if (s->making) state->first = wr__stream_given(s, in_of(s, id, k).id);
    }
    out->remembers = true;
    return WR__STEPS;
}

/* x without its axis of size 1, or with one. */
static wr drop_axis(wr x, int axis) {
    wr_dim dims[WR_MAX_RANK];
    int n = 0;
    for (int d = 0; d < wr_rank(x); d++)
        if (d != axis) dims[n++] = wr_dim_of(x, d);
    return wr_reshape(x, n, dims);
}
static wr add_axis(wr x, int axis) {
    wr_dim dims[WR_MAX_RANK + 1];
    for (int d = 0; d <= wr_rank(x); d++)
        dims[d] = d < axis ? wr_dim_of(x, d) : d == axis ? wr_n(1) : wr_dim_of(x, d - 1);
    return wr_reshape(x, wr_rank(x) + 1, dims);
}

/* The step's outputs go to the nodes of the row's outputs directly. */
static wr make_scan(wr__stream *s, uint32_t id) {
    const wr__scan_body *b = body_of(s, id);
    int n = wr__scan_operands(b);
    wr *in = calloc((size_t)(n + wr__scan_roots(b)) + 1, sizeof *in), *roots = in + n;
    if (in == NULL) return wr_no_memory(s->g);
    for (int k = 0; k < n; k++) {
        int step = k - b->n_carry;
        if (step < 0)
            in[k] = wr__stream_state_of(s, id, k)->now;
        else if (step < b->n_step)
            in[k] = drop_axis(wr__stream_operand(s, id, k), b->step_axis[step]);
        else
            in[k] = wr__stream_operand(s, id, k);
    }
    bool ok = wr_body_paste(s->g, b->g, n, b->input, in, wr__scan_roots(b), b->root, roots);
    for (int k = 0; ok && k < b->n_carry; k++)
        wr__stream_state_of(s, id, k)->next = roots[b->n_out + k];
    for (int k = 0; ok && k < b->n_out; k++)
        s->value[id + (uint32_t)k] = add_axis(roots[k], b->out_axis[k]);
    free(in);
    return ok ? s->value[id] : (wr){s->g, 0};
}

/* ---- rows that surely join positions ---- */

static wr__reach look_reverse(wr__stream *s, uint32_t id, wr__seen *out) {
    (void)id;
    *out = (wr__seen){0};
    return later(s, "it reads positions from the end");
}

static const wr__stream_row ROWS[] = {
    {&wr_op_mask_apply, look_mask, NULL, NULL},
    {&wr_op_matmul, look_product, NULL, NULL},
    {&wr_op_linear, look_product, NULL, NULL},
    {&wr_op_layer_norm, look_last_axis, NULL, NULL},
    {&wr_op_softmax, look_last_axis, NULL, NULL},
    {&wr_op_log_softmax, look_last_axis, NULL, NULL},
    {&wr_op_logsumexp, look_last_axis, NULL, NULL},
    {&wr_op_sum, look_reduce, NULL, NULL},
    {&wr_op_max, look_reduce, NULL, NULL},
    {&wr_op_scale_by_dim, look_same, NULL, NULL},
    {&wr_op_reshape, look_reshape, NULL, NULL},
    {&wr_op_broadcast, look_broadcast, NULL, NULL},
    {&wr_op_transpose, look_transpose, NULL, NULL},
    {&wr_op_leaf, look_same, NULL, NULL},
    {&wr_op_stop_gradient, look_same, NULL, NULL},
    {&wr_op_cast, look_same, NULL, NULL},
    {&wr_op_dropout, look_same, NULL, NULL},
    {&wr_op_split_2, look_split, NULL, NULL},
    {&wr_op_split_3, look_split, NULL, NULL},
    {&wr_op_split_4, look_split, NULL, NULL},
    {&wr_op_slice, look_slice, make_slice, NULL},
    {&wr_op_place, look_place, make_shift, finish_shift},
    {&wr_op_concat, look_concat, make_shift, finish_shift},
    {&wr_op_cumsum, look_cumsum, make_cumsum, finish_cumsum},
    {&wr_op_attention, look_attention, make_attention, NULL},
    {&wr_op_lstm, look_lstm, make_lstm, NULL},
    {&wr_op_scan, look_scan, make_scan, NULL},
    {&wr_op_reverse_prefix, look_reverse, NULL, NULL},
};

const wr__stream_row *wr__stream_row_of(const wr_op *op) {
    static const wr__stream_row elementwise = {NULL, look_elementwise, NULL, NULL};
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++)
        if (ROWS[i].op == op) return &ROWS[i];
    bool plain = (op->traits & WR_ELEMENTWISE) != 0 && op != &wr_op_chain;
    return plain ? &elementwise : NULL;
}

wr__reach wr__stream_output(const wr__stream *s, uint32_t id, int k, wr__seen first,
                            wr__seen *out) {
    const wr_op *op = wr_node_at(s->g, id)->op;
    *out = first;
    out->remembers = false;
    if (op == &wr_op_attention) out->axis = 2; /* [B, H, T] */
    if (op == &wr_op_lstm && (k == 1 || k == 2)) return WR__LATER;
    if (op != &wr_op_scan) return WR__STEPS;
    const wr__scan_body *b = body_of(s, id);
    if (k >= b->n_out) return WR__LATER;
    out->axis = (int16_t)b->out_axis[k];
    return WR__STEPS;
}
