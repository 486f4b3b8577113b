/* invert.c: the inverse by a ledger; see invert.h.
 *
 * Nodes become known from the outputs backwards (inverse rules) and from solved operands forwards.
 * What came from the outputs is a system of coordinates: each firing of a rule exchanges one output
 * of a node for as many unknown elements of its operands, by a map whose determinant the rule adds
 * to the ledger. The other operands that the map depends on are no descendants of the node, so the
 * exchange is triangular, and the terms add up to log |det|. At the end the coordinates must be the
 * inputs: every input solved, every output used up once, and as many elements as in the outputs. */
#include "autodiff/invert_internal.h"

#include "graph/program.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/mask.h"
#include "ops/slice.h"

#include <stdlib.h>
#include <string.h>

typedef struct wr__inverter inverter;

/* ---- messages ---- */

void wr__inverse_describe(const inverter *v, uint32_t id, wr_str *out) {
    wr_str_add(out, "\n  ");
    wr_node_describe(v->g, id, out);
}

bool wr__inverse_mistake(inverter *v, uint32_t id, const char *what, const char *hint) {
    wr_str s = {0};
    wr__inverse_describe(v, id, &s);
    if (hint != NULL) wr_str_add(&s, "\n  hint: %s", hint);
    wr_mistake(v->g, v->loc, "not a bijection: %s%s", what, wr_str_text(&s));
    wr_str_free(&s);
    return v->ok = false;
}

/* ---- becoming known ---- */

static bool is_output_node(const inverter *v, uint32_t id) {
    return wr_node_at(v->g, id)->op == &wr_op_output;
}

uint32_t wr__inverse_maker(const inverter *v, uint32_t id) {
    return is_output_node(v, id) ? wr_node_inputs(v->g, id)[0] : id;
}

bool wr__inverse_learn(inverter *v, uint32_t id, wr value, wr__how how) {
    if (wr_is_poison(value)) return v->ok = false;
    if (v->how[id] != WR__UNKNOWN)
        return wr__inverse_mistake(
            v, id, "this is determined twice, by different ways from the outputs",
            "what reaches the outputs by two ways is fixed twice; leave one of them out");
    v->how[id] = (uint8_t)how;
    v->value[id] = v->in_place ? id : value.id;
    v->queue[v->tail++] = id;
    return true;
}

wr wr__inverse_known(const inverter *v, uint32_t id) {
    return (wr){v->g, v->how[id] == WR__UNKNOWN ? 0 : v->value[id]};
}

/* ---- what rules call ---- */

wr wr_inverse_value(const wr_inverse_ctx *c, wr declared) {
    wr none = {c->g, 0};
    return declared.id < c->inverter->n ? wr__inverse_known(c->inverter, declared.id) : none;
}

wr wr_inverse_padded(wr_inverse_ctx *c, wr value, double inside) {
    inverter *v = c->inverter;
    uint32_t y = v->capture != NULL ? v->capture->choice : c->out[c->output].id;
    wr mask = {v->g, v->data != NULL ? v->data[y].mask : 0};
    v->limited = true;
    if (wr_is_poison(value) || wr_is_poison(mask) || wr_rank(value) < wr_rank(c->out[0]))
        return value;
    wr_type t = wr_type_of(value);
    wr one = wr_broadcast(wr_scalar(v->g, wr_dtype_of(mask), 1.0), t.rank, t.dim);
    return wr_select(wr_mask_apply(one, mask), value, wr_scalar(v->g, t.dtype, inside));
}

bool wr_inverse_given(const wr_inverse_ctx *c, int k) {
    return c->inverter->how[c->in[k].id] == WR__GIVEN;
}

bool wr_inverse_wait(wr_inverse_ctx *c, const char *reason) {
    inverter *v = c->inverter;
    if (v->capture != NULL)
        v->capture->why = reason;
    else
        v->wait[c->id + (uint32_t)c->output] = reason;
    return false;
}

wr wr_inverse_solve(wr_inverse_ctx *c, int k, wr value) {
    inverter *v = c->inverter;
    uint32_t id = c->in[k].id;
    if (v->capture != NULL) return v->capture->solved = v->in_place ? c->in[k] : value;
    if (!wr__inverse_learn(v, id, value, WR__SOLVED)) return (wr){v->g, 0};
    return (wr){v->g, v->value[id]};
}

bool wr_inverse_solve_part(wr_inverse_ctx *c, int k, int axis, wr_dim start, int64_t step,
                           wr value) {
    if (c->inverter->capture != NULL) return wr_inverse_wait(c, "takes a part only");
    if (wr_is_poison(value)) return c->inverter->ok = false;
    wr__part p = {.node = c->in[k].id,
                  .value = value.id,
                  .axis = axis,
                  .start = start,
                  .count = wr_dim_of(value, axis),
                  .step = step};
    return wr__parts_add(c->inverter, &p);
}

static bool enter(wr_inverse_ctx *c, int k, wr term, int axes) {
    inverter *v = c->inverter;
    if (wr_is_poison(term)) return v->ok = false;
    if (!wr_grow(&v->term, &v->cap_terms, v->n_terms + 1, sizeof *v->term)) {
        wr_no_memory(v->g);
        return v->ok = false;
    }
    v->term[v->n_terms++] =
        (wr__term){.rule = c->id, .operand = c->in[k].id, .value = term.id, .axes = axes};
    return true;
}

bool wr_inverse_term(wr_inverse_ctx *c, int k, wr term) {
    wr__capture *capture = c->inverter->capture;
    if (capture == NULL) return enter(c, k, term, WR__PER_ELEMENT);
    capture->term = wr_is_poison(capture->term) ? term : wr_add(capture->term, term);
    return !wr_is_poison(capture->term);
}

bool wr_inverse_term_leading(wr_inverse_ctx *c, int k, wr term, int axes) {
    if (c->inverter->capture != NULL) return wr_inverse_wait(c, "mixes the elements");
    return enter(c, k, term, wr_rank(term) > 0 ? wr_rank(term) : axes);
}

/* ---- one node ---- */

bool wr__view_begin(inverter *v, uint32_t id, wr__view *w) {
    const wr_node *x = wr_node_at(v->g, id);
    *w = (wr__view){.op = x->op, .n_in = x->n_in, .n_out = x->n_out};
    w->in = calloc(2 * (size_t)(w->n_in + w->n_out) + 1, sizeof *w->in);
    if (w->in == NULL) {
        wr_no_memory(v->g);
        return v->ok = false;
    }
    w->x = w->in + w->n_in;
    w->out = w->x + w->n_in;
    w->y = w->out + w->n_out;
    int n_attr = wr_op_attr_count(x->op);
    if (n_attr > 0) memcpy(w->attr, wr_node_attrs(v->g, id), sizeof(wr_attr) * (size_t)n_attr);
    for (int k = 0; k < w->n_in; k++) {
        w->in[k] = (wr){v->g, wr_node_inputs(v->g, id)[k]};
        w->x[k] = wr__inverse_known(v, w->in[k].id);
    }
    for (int k = 0; k < w->n_out; k++) {
        w->out[k] = (wr){v->g, id + (uint32_t)k};
        w->y[k] = wr__inverse_known(v, w->out[k].id);
    }
    return true;
}

void wr__view_end(wr__view *w) { free(w->in); }

wr_inverse_ctx wr__view_context(inverter *v, uint32_t id, const wr__view *w, int k) {
    return (wr_inverse_ctx){.g = v->g,
                            .n_in = w->n_in,
                            .n_out = w->n_out,
                            .output = k,
                            .y = w->y,
                            .x = w->x,
                            .in = w->in,
                            .out = w->out,
                            .attr = w->attr,
                            .inverter = v,
                            .id = id};
}

/* ---- forward: all operands are known ---- */

bool wr__inverse_operands_known(const inverter *v, uint32_t id) {
    for (int k = 0; k < wr_node_at(v->g, id)->n_in; k++)
        if (v->how[wr_node_inputs(v->g, id)[k]] == WR__UNKNOWN) return false;
    return true;
}

static wr copy_node(inverter *v, uint32_t id) {
    wr__view w;
    if (v->in_place) return (wr){v->g, id};
    if (!wr__view_begin(v, id, &w)) return (wr){v->g, 0};
    wr y = wr_emit_in(v->g, v->loc, w.op, w.n_in, w.x, w.attr, false);
    wr__view_end(&w);
    v->ok = v->ok && !wr_is_poison(y);
    return y;
}

/* Is there an output to be computed? Unknown outputs that nobody reads are not `inside`. */
static bool wants_forward(const inverter *v, uint32_t id) {
    bool wanted = false;
    for (uint32_t k = 0; k < wr_node_at(v->g, id)->n_out; k++)
        wanted = wanted || (v->how[id + k] == WR__UNKNOWN && !v->is_in[id + k]);
    return wanted;
}

static void forward(inverter *v, uint32_t id) {
    if (is_output_node(v, id) || !wants_forward(v, id)) return;
    const wr_op *op = wr_node_at(v->g, id)->op;
    wr_derivation before = wr_derive_begin(v->g, id, WR_INVERSE);
    wr y = {v->g, 0};
    if (wr__inverse_operands_known(v, id))
        y = copy_node(v, id);
    else if (op == &wr_op_slice)
        y = wr__parts_slice(v, id);
    int n_out = wr_node_at(v->g, id)->n_out;
    for (int k = 0; !wr_is_poison(y) && k < n_out && v->ok; k++)
        if (v->how[id + (uint32_t)k] == WR__UNKNOWN && !v->is_in[id + (uint32_t)k])
            wr__inverse_learn(v, id + (uint32_t)k, wr_output(y, k), WR__FORWARD);
    wr_derive_end(v->g, before);
}

void wr__inverse_forward_users(inverter *v, uint32_t id) {
    for (uint32_t i = v->user_at[id]; v->ok && i < v->user_at[id + 1]; i++)
        forward(v, v->user[i]);
}

/* ---- backward: an output is known ---- */

static void backward(inverter *v, uint32_t id) {
    if (!wr__came_from_outputs(v, id) || v->used[id] || v->is_in[id]) return;
    uint32_t m = wr__inverse_maker(v, id);
    const wr_op *op = wr_node_at(v->g, m)->op;
    if (wr__inverse_operands_known(v, m)) return; /* over-determined: told at the end */
    if (op->inverse == NULL) {
        v->wait[id] = op->no_inverse;
        return;
    }
    wr__view w;
    if (!wr__view_begin(v, m, &w)) return;
    wr_inverse_ctx c = wr__view_context(v, m, &w, (int)(id - m));
    wr_derivation before = wr_derive_begin(v->g, m, WR_INVERSE);
    if (op->inverse(&c)) v->used[id] = true;
    wr_derive_end(v->g, before);
    wr__view_end(&w);
}

static void backward_all(inverter *v, uint32_t m) {
    for (uint32_t k = 0; v->ok && k < wr_node_at(v->g, m)->n_out; k++)
        backward(v, m + k);
}

static void run_queue(inverter *v) {
    while (v->ok && v->head < v->tail) {
        uint32_t id = v->queue[v->head++];
        for (uint32_t i = v->user_at[id]; v->ok && i < v->user_at[id + 1]; i++) {
            forward(v, v->user[i]);
            backward_all(v, v->user[i]);
        }
        if (v->ok) backward(v, id);
    }
}

/* ---- the whole ---- */

static bool solve_once(inverter *v, const wr *ys) {
    if (wr__inverse_begin(v, ys)) {
        run_queue(v);
        v->ok = v->ok && wr__inverse_check(v);
    }
    return v->ok;
}

/* Where padding is becomes known with the way of the data through the graph. If a rule asked for
 * it, all is done once more. */
static bool solve(inverter *v, const wr *ys, wr *log_det) {
    if (solve_once(v, ys)) {
        v->data = wr__data_spread(v);
        v->ok = v->data != NULL;
    }
    if (v->ok && v->limited && wr__data_has_masks(v)) {
        wr__inverse_release(v);
        solve_once(v, ys);
    }
    if (v->ok && v->terms && log_det != NULL) {
        *log_det = wr__ledger_sum(v);
        v->ok = v->ok && !wr_is_poison(*log_det);
    }
    return v->ok;
}

bool wr_invert_at(wr_loc loc, const wr_bijection *f, const wr *ys, wr *xs, wr *log_det) {
    wr_graph *g = f->n_in > 0 ? f->ins[0].g : NULL;
    inverter v = {.g = g, .loc = loc, .f = f, .terms = log_det != NULL, .ok = true};
    wr sum = {g, 0};
    bool ok = solve(&v, ys, &sum);
    for (int i = 0; i < f->n_in; i++)
        xs[i] = (wr){g, ok ? v.value[f->ins[i].id] : 0};
    if (log_det != NULL) *log_det = ok ? wr_neg(sum) : (wr){g, 0};
    wr__inverse_release(&v);
    free(v.data);
    return ok;
}

wr wr_log_det_at(wr_loc loc, const wr_bijection *f) {
    wr_graph *g = f->n_in > 0 ? f->ins[0].g : NULL;
    inverter v = {.g = g, .loc = loc, .f = f, .in_place = true, .terms = true, .ok = true};
    wr sum = {g, 0};
    bool ok = solve(&v, f->outs, &sum);
    wr__inverse_release(&v);
    free(v.data);
    return ok ? sum : (wr){g, 0};
}

wr_status wr__bijection_masks(const wr_bijection *f, wr *in_mask, wr *out_mask, wr_error *err) {
    wr_graph *g = f->ins[0].g;
    inverter v = {.g = g, .loc = WR_HERE, .f = f, .in_place = true, .ok = true};
    const wr__place_of_data *at = solve(&v, f->outs, NULL) ? v.data : NULL;
    for (int i = 0; at != NULL && i < f->n_in; i++)
        in_mask[i] = (wr){g, at[f->ins[i].id].mask};
    for (int k = 0; at != NULL && k < f->n_out; k++) {
        out_mask[k] = (wr){g, at[f->outs[k].id].mask};
        if (at[f->outs[k].id].lost != NULL)
            wr__inverse_mistake(&v, f->outs[k].id, at[f->outs[k].id].lost,
                                "wr_mask_apply tells which positions are data");
    }
    wr__inverse_release(&v);
    free(v.data);
    return wr_graph_status(g, err);
}

bool wr_rebuild_at(wr_loc loc, const wr_bijection *f, const wr *ys, wr *xs) {
    wr_graph *g = f->n_in > 0 ? f->ins[0].g : NULL;
    inverter v = {.g = g, .loc = loc, .f = f, .ok = true};
    bool ok = solve(&v, ys, NULL);
    for (int i = 0; i < f->n_in; i++)
        xs[i] = (wr){g, ok ? v.value[f->ins[i].id] : 0};
    for (uint32_t id = 1; ok && id < v.n; id++)
        if (v.inside[id] && v.how[id] != WR__UNKNOWN) ok = wr_node_rebuild(g, id, v.value[id]);
    wr__inverse_release(&v);
    free(v.data);
    return ok;
}
