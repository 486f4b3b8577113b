/* scan_body.c: from the user's function to a body; see scan_internal.h.
 *
 * The function builds its nodes in the user's graph, over loop values that stand for one step. What
 * depends on them is taken out as a graph of its own; what does not is a constant of the loop. */
#include "ops/fuse.h"
#include "ops/scan_internal.h"
#include "ops/shape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- loop values ---- */

enum { DTYPE, RANK, DIMS };

static bool loop_value_shape(wr_shape_ctx *c) {
    c->out[0] = (wr_type){.dtype = (wr_dtype)c->attr[DTYPE].i, .rank = (int)c->attr[RANK].i};
    for (int i = 0; i < c->out[0].rank; i++)
        c->out[0].dim[i] = c->attr[DIMS + i].d;
    return true;
}

static wr_status loop_value_cpu(const wr_call *c) {
    return wr_fail(
        c->env->err, WR_ERR_INPUT,
        "a value of a scan's body is read outside of it; what leaves a step is next, out "
        "or sum");
}

const wr_op wr_op_loop_value = {.name = "loop_value",
                                .doc = "stands for one step's value while a scan's body is built",
                                .n_in = 0,
                                .attrs = {{"dtype", WR_ATTR_INT},
                                          {"rank", WR_ATTR_INT},
                                          {"d0", WR_ATTR_DIM},
                                          {"d1", WR_ATTR_DIM},
                                          {"d2", WR_ATTR_DIM},
                                          {"d3", WR_ATTR_DIM},
                                          {"d4", WR_ATTR_DIM}},
                                .shape = loop_value_shape,
                                .cpu = loop_value_cpu,
                                .no_grad = "has no operand",
                                .no_inverse = "has no operand",
                                .no_sample = "stands in bodies only"};

wr wr__loop_value(wr_graph *g, wr_loc loc, wr_type t, const char *what, int k) {
    wr_attr attr[DIMS + WR_MAX_RANK];
    memset(attr, 0, sizeof attr);
    attr[DTYPE].i = t.dtype;
    attr[RANK].i = t.rank;
    for (int i = 0; i < WR_MAX_RANK; i++)
        attr[DIMS + i].d = i < t.rank ? t.dim[i] : wr_n(1);
    return wr_named(wr_emit_in(g, loc, &wr_op_loop_value, 0, NULL, attr, true), "%s%d", what, k);
}

/* ---- building ---- */

typedef struct builder {
    wr_graph *g;
    wr_loc loc;
    const wr_scan_spec *s;
    wr_dim steps;
    uint32_t first; /* the first node of the body */
    wr inside[2 * WR_SCAN_MOST];
    wr result[3 * WR_SCAN_MOST]; /* outputs, carried states, sums */
    wr__scan_body *b;
    wr_region region;
} builder;

static void body_release(void *object) {
    wr__scan_body *b = object;
    if (b == NULL) return;
    wr_program_free(b->program);
    wr_graph_free(b->g);
    free(b->input);
    free(b->feed);
    free(b->root);
    free(b);
}

static bool counts_fit(const builder *w) {
    const wr_scan_spec *s = w->s;
    bool fit = s->n_carry >= 0 && s->n_step >= 0 && s->n_out >= 0 && s->n_sum >= 0 &&
               s->n_carry <= WR_SCAN_MOST && s->n_step <= WR_SCAN_MOST &&
               s->n_out <= WR_SCAN_MOST && s->n_sum <= WR_SCAN_MOST;
    int outputs = s->n_out + 2 * s->n_carry + s->n_sum;
    if (fit && outputs > 0 && outputs <= WR_MAX_OUTPUTS && s->n_carry + s->n_step > 0) return true;
    wr_mistake(w->g, w->loc,
               "scan: %d carried states, %d sequences, %d outputs, %d sums; at most %d of each, at "
               "least one result and one state or sequence",
               s->n_carry, s->n_step, s->n_out, s->n_sum, WR_SCAN_MOST);
    return false;
}

/* The type of one step of a sequence. */
static bool step_type(builder *w, int k, wr_type *t) {
    const wr_scan_spec *s = w->s;
    int axis = s->step_axis == NULL ? s->axis : s->step_axis[k];
    *t = wr_type_of(s->step[k]);
    if (axis < 0) axis += t->rank;
    bool inside = axis >= 0 && axis < t->rank;
    if (w->steps.id == 0 && inside) w->steps = t->dim[axis];
    w->b->step_axis[k] = axis;
    if (inside && wr_dim_eq(w->g, t->dim[axis], w->steps)) {
        memmove(&t->dim[axis], &t->dim[axis + 1], sizeof(wr_dim) * (size_t)(t->rank - axis - 1));
        t->rank--;
        return true;
    }
    wr_str d = {0};
    wr_node_describe(w->g, s->step[k].id, &d);
    wr_str_add(&d, "\n  rule: axis %d of each sequence has the size of the loop, ", axis);
    if (w->steps.id != 0) wr_dims_print(wr_graph_dims(w->g), w->steps, &d);
    wr_mistake(w->g, w->loc, "scan: sequence %d does not fit\n  %s", k, wr_str_text(&d));
    wr_str_free(&d);
    return false;
}

static bool make_loop_values(builder *w) {
    const wr_scan_spec *s = w->s;
    wr_type t;
    for (int k = 0; k < s->n_carry; k++)
        w->inside[k] = wr__loop_value(w->g, w->loc, wr_type_of(s->carry[k]), "carry", k);
    for (int k = 0; k < s->n_step; k++) {
        if (!step_type(w, k, &t)) return false;
        w->inside[s->n_carry + k] = wr__loop_value(w->g, w->loc, t, "step", k);
    }
    for (int k = 0; k < s->n_carry + s->n_step; k++)
        if (wr_is_poison(w->inside[k])) return false;
    return true;
}

static bool call_body(builder *w) {
    const wr_scan_spec *s = w->s;
    size_t before = wr_graph_diagnostics(w->g);
    wr_scan_step step = {.g = w->g,
                         .carry = w->inside,
                         .step = w->inside + s->n_carry,
                         .out = w->result,
                         .next = w->result + s->n_out,
                         .sum = w->result + s->n_out + s->n_carry,
                         .context = s->context};
    bool ok = s->body(&step);
    for (int k = 0; ok && k < s->n_out + s->n_carry + s->n_sum; k++)
        ok = w->result[k].g == w->g && w->result[k].id != 0;
    if (!ok && wr_graph_diagnostics(w->g) == before && wr_graph_ok(w->g))
        wr_mistake(w->g, w->loc, "scan: the body left a result unset, or refused without a word");
    return ok;
}

static bool states_fit(const builder *w) {
    for (int k = 0; k < w->s->n_carry; k++) {
        wr next = w->result[w->s->n_out + k];
        wr_type a = wr_type_of(w->s->carry[k]), b = wr_type_of(next);
        if (wr_shape_equal(w->g, &a, &b)) continue;
        wr_str s = {0};
        wr_node_describe(w->g, w->s->carry[k].id, &s);
        wr_str_add(&s, "\n  ");
        wr_node_describe(w->g, next.id, &s);
        wr_mistake(w->g, w->loc,
                   "scan: carried state %d begins and goes on as\n  %s\n  rule: a carried state "
                   "keeps its type",
                   k, wr_str_text(&s));
        wr_str_free(&s);
        return false;
    }
    return true;
}

static bool has_stream(const wr_graph *g, uint32_t id) {
    const wr_op *op = wr_node_at(g, id)->op;
    for (int i = 0; op->attrs[i].name != NULL; i++)
        if (strcmp(op->attrs[i].name, "stream") == 0) return wr_node_attrs(g, id)[i].i != 0;
    return (op->traits & WR_RANDOM) != 0;
}

static bool refuse_row(const builder *w, uint32_t id, const char *why) {
    wr_str s = {0};
    wr_node_describe(w->g, id, &s);
    wr_mistake(w->g, w->loc, "scan: its body has a row that %s\n  %s", why, wr_str_text(&s));
    wr_str_free(&s);
    return false;
}

/* Random numbers and states: every node of the body that a result depends on. */
static bool rows_allowed(const builder *w) {
    uint32_t n = wr_node_count(w->g), roots[3 * WR_SCAN_MOST];
    int n_roots = w->s->n_out + w->s->n_carry + w->s->n_sum;
    for (int k = 0; k < n_roots; k++)
        roots[k] = w->result[k].id;
    bool *live = wr_live_nodes(w->g, n_roots, roots), ok = live != NULL;
    if (!ok) wr_no_memory(w->g);
    for (uint32_t id = w->first; ok && id < n; id++) {
        if (wr_node_at(w->g, id)->op->traits & WR_STATEFUL)
            ok = refuse_row(w, id, "writes a state: carry it through the loop instead");
        else if (live[id] && has_stream(w->g, id))
            ok = refuse_row(w, id,
                            "draws random numbers, the same ones in each step: draw those of all "
                            "steps outside and hand them in as a sequence");
    }
    free(live);
    return ok;
}

/* ---- taking it out of the graph ---- */

static bool take_out(builder *w) {
    wr__scan_body *b = w->b;
    int n_inside = b->n_carry + b->n_step;
    if (!wr_region_find(w->g, n_inside, w->inside, wr__scan_roots(b), w->result, &w->region))
        return false;
    size_t operands = (size_t)n_inside + (size_t)w->region.n_border;
    b->input = calloc(operands + 1, sizeof *b->input);
    b->feed = calloc(operands + 1, sizeof *b->feed);
    b->root = calloc((size_t)wr__scan_roots(b) + 1, sizeof *b->root);
    if (b->input == NULL || b->feed == NULL || b->root == NULL) return false;
    b->g = wr_region_extract(&w->region, b->input, b->root);
    return b->g != NULL;
}

/* Constants that are copied into the body are no operands. */
static bool list_constants(builder *w, wr **constants) {
    wr__scan_body *b = w->b;
    int n_inside = b->n_carry + b->n_step;
    *constants = malloc(sizeof **constants * ((size_t)w->region.n_border + 1));
    if (*constants == NULL) return false;
    for (int i = 0; i < w->region.n_border; i++) {
        if (b->input[n_inside + i] == 0) continue;
        (*constants)[b->n_const] = (wr){w->g, w->region.border[i]};
        b->input[n_inside + b->n_const++] = b->input[n_inside + i];
    }
    return true;
}

static bool compile(wr__scan_body *b) {
    wr outs[3 * WR_SCAN_MOST];
    wr_error err = {0};
    for (int k = 0; k < wr__scan_roots(b); k++)
        outs[k] = (wr){b->g, b->root[k]};
    if (wr_program_new(b->g, wr__scan_roots(b), outs, wr_standard_passes(), &b->program, &err) !=
        WR_OK)
        return false;
    for (int k = 0; k < wr__scan_operands(b); k++)
        b->feed[k] = wr_program_find_input(b->program, wr_source_name(b->g, b->input[k]));
    return true;
}

static void note_types(builder *w) {
    const wr_scan_spec *s = w->s;
    for (int k = 0; k < s->n_out; k++) {
        w->b->out_type[k] = wr_type_of(w->result[k]);
        int axis = s->out_axis == NULL ? s->axis : s->out_axis[k];
        w->b->out_axis[k] = axis < 0 ? axis + w->b->out_type[k].rank + 1 : axis;
    }
    for (int k = 0; k < s->n_sum; k++)
        w->b->sum_type[k] = wr_type_of(w->result[s->n_out + s->n_carry + k]);
}

static bool declare(builder *w) {
    w->first = wr_node_count(w->g);
    return counts_fit(w) && make_loop_values(w) && call_body(w) && states_fit(w) && rows_allowed(w);
}

int wr__scan_body_new(wr_loc loc, const wr_scan_spec *s, wr **constants, int *n_constants) {
    wr_graph *g = s->n_carry > 0 ? s->carry[0].g : s->step[0].g;
    builder w = {.g = g, .loc = loc, .s = s, .steps = s->steps, .b = calloc(1, sizeof *w.b)};
    *constants = NULL;
    if (w.b == NULL) {
        wr_no_memory(g);
        return -1;
    }
    *w.b = (wr__scan_body){
        .n_carry = s->n_carry, .n_step = s->n_step, .n_out = s->n_out, .n_sum = s->n_sum};
    int number = -1;
    bool declared = declare(&w);
    bool ok = declared && take_out(&w) && list_constants(&w, constants) && compile(w.b);
    if (ok) {
        note_types(&w);
        *n_constants = w.b->n_const;
        w.b->steps = w.steps;
        /* its own graph, and its program's before and after the passes */
        number = wr_graph_keep(g, w.b, body_release, 3);
    } else {
        body_release(w.b);
        if (declared) wr_no_memory(g);
    }
    wr_region_free(&w.region);
    return number;
}
