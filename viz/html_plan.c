/* html_plan.c: the steps and buffers of a plan as columns of numbers; see html_internal.h. */
#include "viz/html_internal.h"
#include "viz/look.h"

/* The node that a value belongs to: the op whose further output it is. */
static uint32_t maker(const wr_graph *g, uint32_t id) {
    return wr_node_at(g, id)->op == &wr_op_output ? wr_node_inputs(g, id)[0] : id;
}

static bool is_buffer(const wr_plan *p, uint32_t id) {
    const wr_value *v = &p->value[id];
    return v->place == WR_PLACE_ARENA && v->root == id && v->bytes > 0 && v->first >= 0;
}

/* What the backward part makes. */
static bool is_backward(const wr_node *x) {
    return x->role == WR_GRADIENT || x->role == WR_RECOMPUTED;
}

/* Label, scope and line of a node, and whether the backward part makes it. */
static void add_node(wr__html *h, const wr_graph *g, uint32_t id) {
    const wr_node *x = wr_node_at(g, maker(g, id));
    wr_str_add(h->out, "%u,%u,%u,%d", (unsigned)wr__html_label(h, g, id),
               (unsigned)wr__html_scope(h, g, x->scope),
               (unsigned)wr__html_line(h, g, maker(g, id)), is_backward(x) ? 1 : 0);
}

/* Eight numbers a step: the node's four, its kind, operations, bytes moved, bytes of workspace. */
static void add_steps(wr__html *h, const wr_plan *p) {
    wr_str_add(h->out, "\"steps\":[");
    for (int i = 0; i < p->n_steps; i++) {
        const wr_step *s = &p->step[i];
        wr_str_add(h->out, "%s", i > 0 ? "," : "");
        add_node(h, p->g, s->node);
        wr_str_add(h->out, ",%d,%.5g,%.5g,%zu", (int)wr__kind_of(wr_node_at(p->g, s->node)->op),
                   s->flops, s->bytes, s->workspace_bytes);
    }
    wr_str_add(h->out, "],");
}

/* Eight numbers a buffer: the node's four, its type, bytes, first and last step. */
static void add_buffers(wr__html *h, const wr_plan *p) {
    bool first = true;
    wr_str_add(h->out, "\"buffers\":[");
    for (uint32_t id = 1; id < wr_node_count(p->g); id++) {
        if (!is_buffer(p, id)) continue;
        const wr_value *v = &p->value[id];
        wr_str_add(h->out, "%s", first ? "" : ",");
        add_node(h, p->g, id);
        wr_str_add(h->out, ",%u,%zu,%d,%d", (unsigned)wr__html_type(h, p->g, id), v->bytes,
                   v->first, v->last);
        first = false;
    }
    wr_str_add(h->out, "],");
}

/* Bytes that live outside of the arena: parameters, states, constants, inputs. */
static void add_others(wr__html *h, const wr_plan *p) {
    double bytes[4] = {0};
    for (uint32_t id = 1; id < wr_node_count(p->g); id++) {
        const wr_value *v = &p->value[id];
        const wr_op *op = wr_node_at(p->g, id)->op;
        if (v->place == WR_PLACE_NONE || v->root != id) continue;
        if (op == &wr_op_param) bytes[0] += (double)v->bytes;
        if (op == &wr_op_state) bytes[1] += (double)v->bytes;
        if (op == &wr_op_const) bytes[2] += (double)v->bytes;
        if (op == &wr_op_input) bytes[3] += (double)v->bytes;
    }
    wr_str_add(h->out, "\"others\":[%.0f,%.0f,%.0f,%.0f],", bytes[0], bytes[1], bytes[2], bytes[3]);
}

wr_status wr__html_plan(wr__html *h, const wr_plan *p, wr_error *err) {
    wr_str_add(h->out, "{");
    add_steps(h, p);
    add_buffers(h, p);
    add_others(h, p);
    wr_str_add(h->out,
               "\"arena\":%zu,\"peak\":%zu,\"peakStep\":%d,\"flops\":%.6g,\"inplace\":%d,"
               "\"views\":%d}",
               p->arena_bytes, p->live_peak, p->peak_step, p->flops, p->n_inplace, p->n_views);
    return h->out->oom || h->oom ? wr_fail_memory(err, "a page", h->out->len) : WR_OK;
}
