/* stream.c: looking at a region and making its steps; see stream.h. The rows are in stream_rows.c.
 */
#include "autodiff/stream.h"

#include "ops/layout.h"

#include <stdlib.h>
#include <string.h>

enum { BLIND = -1 }; /* as the axis of a node: nothing is known of it */

static bool is_output(const wr__stream *s, uint32_t id) {
    return wr_node_at(s->g, id)->op == &wr_op_output;
}

static uint32_t input_of(const wr__stream *s, uint32_t id, int k) {
    return wr_node_inputs(s->g, id)[k];
}

static bool inside(const wr__stream *s, uint32_t id) {
    return id < s->region.n && s->region.varies[id];
}

/* ---- helpers of the rows ---- */

wr__reach wr__stream_because(wr__stream *s, wr__reach reach, const char *why) {
    s->why = why;
    return reach;
}

bool wr__stream_varies(const wr__stream *s, uint32_t id, int k) {
    return inside(s, input_of(s, id, k));
}

bool wr__stream_along(wr__stream *s, uint32_t id, int k, int axis) {
    wr x = {s->g, input_of(s, id, k)};
    if (axis < 0 || axis >= wr_rank(x) || !wr_dim_eq(s->g, wr_dim_of(x, axis), s->steps))
        return false;
    s->role[wr_node_at(s->g, id)->in + (uint32_t)k] = (int8_t)(axis + 1);
    for (int i = 0; i < s->n_step; i++)
        if (s->step[i].node == x.id && s->step[i].axis == axis) return true;
    if (s->n_step == WR__STREAM_MOST) return false;
    s->step[s->n_step++] = (wr__stream_step){x.id, axis};
    return true;
}

wr__stream_state *wr__stream_remember(wr__stream *s, uint32_t id) {
    static wr__stream_state none; /* never read: the reach is then not known */
    if (s->n_state == WR__STREAM_MOST) {
        s->reach = WR__NOT_KNOWN;
        return &none;
    }
    s->seen[id].remembers = true;
    s->state[s->n_state] = (wr__stream_state){.owner = id};
    return &s->state[s->n_state++];
}

wr__stream_state *wr__stream_state_of(wr__stream *s, uint32_t id, int number) {
    for (int i = 0; i < s->n_state; i++)
        if (s->state[i].owner == id && number-- == 0) return &s->state[i];
    return NULL;
}

wr wr__stream_given(const wr__stream *s, uint32_t node) {
    for (int i = 0; s->given != NULL && i < s->region.n_border; i++)
        if (s->region.border[i] == node) return s->given[i];
    return (wr){s->g, node};
}

/* x with an axis of size 1 put in. */
static wr with_axis(wr x, int axis) {
    wr_type t = wr_type_of(x);
    wr_dim dims[WR_MAX_RANK + 1];
    for (int d = 0; d <= t.rank; d++)
        dims[d] = d < axis ? t.dim[d] : d == axis ? wr_n(1) : t.dim[d - 1];
    return wr_reshape(x, t.rank + 1, dims);
}

wr wr__stream_operand(const wr__stream *s, uint32_t id, int k) {
    uint32_t in = input_of(s, id, k);
    if (inside(s, in)) return s->value[in];
    int axis = s->role[wr_node_at(s->g, id)->in + (uint32_t)k] - 1;
    for (int i = 0; axis >= 0 && i < s->n_step; i++)
        if (s->step[i].node == in && s->step[i].axis == axis) return s->stepped[i];
    return wr__stream_given(s, in);
}

wr wr__stream_again(wr__stream *s, uint32_t id) {
    const wr_node *x = wr_node_at(s->g, id);
    const wr_op *op = x->op;
    int n_in = x->n_in, n_attr = wr_op_attr_count(op);
    wr_loc loc = *wr_loc_at(s->g, x->loc);
    wr_attr attr[WR_MAX_ATTRS];
    if (n_attr > 0) memcpy(attr, wr_node_attrs(s->g, id), sizeof *attr * (size_t)n_attr);
    if (op == &wr_op_reshape || op == &wr_op_broadcast)
        attr[1 + s->seen[id].axis].d = wr_n(1); /* sizes stand in attributes 1, 2, .. */
    wr *in = malloc(sizeof *in * (size_t)(n_in + 1));
    if (in == NULL) return wr_no_memory(s->g);
    for (int k = 0; k < n_in; k++)
        in[k] = wr__stream_operand(s, id, k);
    wr y = wr_emit_in(s->g, loc, op, n_in, in, attr, false);
    free(in);
    return y;
}

/* ---- looking ---- */

static void look_at(wr__stream *s, uint32_t id) {
    const wr_node *x = wr_node_at(s->g, id);
    wr__seen *seen = &s->seen[id];
    wr__reach reach;
    s->why = "it has no step form";
    if (is_output(s, id)) {
        uint32_t first = input_of(s, id, 0);
        reach =
            wr__stream_output(s, first, (int)wr_node_attrs(s->g, id)[0].i, s->seen[first], seen);
        if (reach != WR__STEPS) s->why = "it comes after all positions";
    } else {
        const wr__stream_row *row = wr__stream_row_of(x->op);
        reach = row == NULL ? WR__NOT_KNOWN : row->look(s, id, seen);
    }
    if (reach == WR__STEPS) return;
    s->reach = reach;
    s->culprit = id;
    s->reason = s->why;
    seen->axis = BLIND;
}

static bool reads_blind(const wr__stream *s, uint32_t id) {
    for (int k = 0; k < wr_node_at(s->g, id)->n_in; k++) {
        uint32_t in = input_of(s, id, k);
        if (s->region.varies[in] && s->seen[in].axis == BLIND) return true;
    }
    return false;
}

/* Behind a row of which nothing is known others may still be found to read later positions. */
static void look_at_all(wr__stream *s) {
    for (uint32_t id = 1; id < s->region.n && s->reach != WR__LATER; id++) {
        if (!s->region.live[id] || !s->region.varies[id]) continue;
        if (reads_blind(s, id))
            s->seen[id].axis = BLIND;
        else
            look_at(s, id);
    }
}

static bool allocate(wr__stream *s) {
    size_t n = s->region.n, edges = 1;
    for (uint32_t id = 1; id < n; id++) {
        const wr_node *x = wr_node_at(s->g, id);
        if (x->in + x->n_in + 1u > edges) edges = x->in + x->n_in + 1u;
    }
    s->seen = calloc(n, sizeof *s->seen);
    s->role = calloc(edges, sizeof *s->role);
    s->value = calloc(n, sizeof *s->value);
    s->stepped = calloc(WR__STREAM_MOST, sizeof *s->stepped);
    return s->seen != NULL && s->role != NULL && s->value != NULL && s->stepped != NULL;
}

bool wr__stream_look(wr__stream *s, wr_loc loc, wr_graph *g, int n_from, const wr *from, int n_to,
                     const wr *to, int32_t lag, const wr *given) {
    *s = (wr__stream){.g = g, .loc = loc, .given = given, .making = given != NULL};
    s->steps = wr_dim_of(from[0], WR__STREAM_AXIS);
    if (!wr_region_find(g, n_from, from, n_to, to, &s->region)) return false;
    if (!allocate(s)) {
        wr_no_memory(g);
        return false;
    }
    for (int i = 0; i < n_from; i++)
        s->seen[from[i].id] = (wr__seen){.axis = WR__STREAM_AXIS, .lag = i == 0 ? 0 : lag};
    look_at_all(s);
    return wr_graph_ok(g);
}

void wr__stream_free(wr__stream *s) {
    wr_region_free(&s->region);
    free(s->seen);
    free(s->role);
    free(s->value);
    free(s->stepped);
    s->seen = NULL; /* it may be freed again, when looking again fails */
    s->role = NULL;
    s->value = s->stepped = NULL;
}

/* ---- making ---- */

wr wr__stream_sequence(const wr__stream *s, int k, int *axis) {
    *axis = s->step[k].axis;
    return wr__stream_given(s, s->step[k].node);
}

void wr__stream_begin(wr__stream *s, const wr *steps, const wr *states, wr here, wr behind) {
    s->here = here;
    s->behind = behind;
    memset(s->value, 0, sizeof *s->value * s->region.n);
    for (int k = 0; k < s->n_step; k++)
        s->stepped[k] = with_axis(steps[k], s->step[k].axis);
    for (int k = 0; k < s->n_state; k++)
        s->state[k].now = states[k];
}

static bool make(wr__stream *s, uint32_t id) {
    if (!wr_is_poison(s->value[id])) return true; /* its maker made it */
    if (is_output(s, id)) {
        wr first = s->value[input_of(s, id, 0)];
        s->value[id] = wr_output(first, (int)wr_node_attrs(s->g, id)[0].i);
    } else {
        const wr__stream_row *row = wr__stream_row_of(wr_node_at(s->g, id)->op);
        s->value[id] = row->make != NULL ? row->make(s, id) : wr__stream_again(s, id);
    }
    return !wr_is_poison(s->value[id]);
}

bool wr__stream_make(wr__stream *s, bool earlier) {
    bool ok = true;
    for (uint32_t id = 1; ok && id < s->region.n; id++)
        if (s->region.live[id] && s->region.varies[id] && (s->seen[id].lag >= 1) == earlier)
            ok = make(s, id);
    return ok;
}

bool wr__stream_finish(wr__stream *s, wr *next) {
    for (int k = 0; k < s->n_state; k++) {
        uint32_t id = s->state[k].owner;
        const wr__stream_row *row = wr__stream_row_of(wr_node_at(s->g, id)->op);
        bool first = k == 0 || s->state[k - 1].owner != id;
        if (first && row->finish != NULL && !row->finish(s, id)) return false;
    }
    for (int k = 0; k < s->n_state; k++)
        next[k] = s->state[k].next;
    return true;
}
