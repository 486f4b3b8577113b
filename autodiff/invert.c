/* invert.c: the inverse by a ledger; see invert.h.
 *
 * Nodes become known from the outputs backwards (inverse rules) and from solved operands forwards.
 * Each output of a node is used up by one firing of its rule, so each term enters the ledger once.
 * At the end every input must be known, nothing may be determined twice, and there must be as many
 * output elements as input elements. */
#include "autodiff/invert_internal.h"

#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/slice.h"

#include <stdlib.h>
#include <string.h>

typedef struct wr__inverter inverter;

static bool is_output_node(const inverter *v, uint32_t id) {
    return wr_node_at(v->g, id)->op == &wr_op_output;
}

/* The node whose op makes `id`. */
static uint32_t maker(const inverter *v, uint32_t id) {
    return is_output_node(v, id) ? wr_node_inputs(v->g, id)[0] : id;
}

static void add_description(const inverter *v, uint32_t id, wr_str *out) {
    wr_str_add(out, "\n  ");
    wr_node_describe(v->g, id, out);
}

static bool mistake(inverter *v, uint32_t id, const char *what, const char *hint) {
    wr_str s = {0};
    add_description(v, id, &s);
    wr_mistake(v->g, v->loc, "not a bijection: %s%s\n  hint: %s", what, wr_str_text(&s), hint);
    wr_str_free(&s);
    return v->ok = false;
}

/* ---- becoming known ---- */

bool wr__inverse_learn(inverter *v, uint32_t id, wr value, wr__how how) {
    if (wr_is_poison(value)) return v->ok = false;
    if (v->how[id] != WR__UNKNOWN)
        return mistake(v, id, "this is determined twice, by different ways from the outputs",
                       "an operand that reaches the outputs by two ways over-determines it");
    v->how[id] = (uint8_t)how;
    v->value[id] = v->in_place ? id : value.id;
    v->queue[v->tail++] = id;
    return true;
}

wr wr_inverse_value(const wr_inverse_ctx *c, wr declared) {
    const inverter *v = c->inverter;
    bool known = declared.id < v->n && v->how[declared.id] != WR__UNKNOWN;
    return (wr){v->g, known ? v->value[declared.id] : 0};
}

bool wr_inverse_wait(wr_inverse_ctx *c, const char *reason) {
    c->inverter->wait[c->id + (uint32_t)c->output] = reason;
    return false;
}

wr wr_inverse_solve(wr_inverse_ctx *c, int k, wr value) {
    inverter *v = c->inverter;
    uint32_t id = c->in[k].id;
    if (!wr__inverse_learn(v, id, value, WR__SOLVED)) return (wr){v->g, 0};
    return (wr){v->g, v->value[id]};
}

bool wr_inverse_solve_part(wr_inverse_ctx *c, int k, int axis, wr_dim start, int64_t step,
                           wr value) {
    if (wr_is_poison(value)) return c->inverter->ok = false;
    wr__part p = {.node = c->in[k].id,
                  .value = value.id,
                  .axis = axis,
                  .start = start,
                  .count = wr_dim_of(value, axis),
                  .step = step};
    return wr__parts_add(c->inverter, &p);
}

/* ---- forward: all operands are known ---- */

/* Operands and attributes of one node, copied out of the growing graph. */
typedef struct view {
    const wr_op *op;
    int n_in, n_out;
    wr_attr attr[WR_MAX_ATTRS];
    wr *in, *x;
    wr y[WR_MAX_OUTPUTS], out[WR_MAX_OUTPUTS];
} view;

static wr value_of(const inverter *v, uint32_t id) {
    return (wr){v->g, v->how[id] == WR__UNKNOWN ? 0 : v->value[id]};
}

static bool view_node(inverter *v, uint32_t id, view *w) {
    const wr_node *x = wr_node_at(v->g, id);
    *w = (view){.op = x->op, .n_in = x->n_in, .n_out = x->n_out};
    w->in = calloc(2 * (size_t)w->n_in + 1, sizeof *w->in);
    w->x = w->in + w->n_in;
    if (w->in == NULL) {
        wr_no_memory(v->g);
        return v->ok = false;
    }
    int n_attr = wr_op_attr_count(x->op);
    if (n_attr > 0) memcpy(w->attr, wr_node_attrs(v->g, id), sizeof(wr_attr) * (size_t)n_attr);
    for (int k = 0; k < w->n_in; k++) {
        w->in[k] = (wr){v->g, wr_node_inputs(v->g, id)[k]};
        w->x[k] = value_of(v, w->in[k].id);
    }
    for (int k = 0; k < w->n_out; k++) {
        w->out[k] = (wr){v->g, id + (uint32_t)k};
        w->y[k] = value_of(v, w->out[k].id);
    }
    return true;
}

static bool operands_known(const inverter *v, uint32_t id) {
    for (int k = 0; k < wr_node_at(v->g, id)->n_in; k++)
        if (v->how[wr_node_inputs(v->g, id)[k]] == WR__UNKNOWN) return false;
    return true;
}

static wr copy_node(inverter *v, uint32_t id) {
    if (v->in_place) return (wr){v->g, id};
    view w;
    if (!view_node(v, id, &w)) return (wr){v->g, 0};
    wr y = wr_emit_in(v->g, v->loc, w.op, w.n_in, w.x, w.attr, false);
    free(w.in);
    return y;
}

static void forward(inverter *v, uint32_t id) {
    if (is_output_node(v, id) || v->is_in[id] || v->how[id] != WR__UNKNOWN) return;
    const wr_op *op = wr_node_at(v->g, id)->op;
    wr_derivation before = wr_derive_begin(v->g, id, WR_INVERSE);
    wr y = {v->g, 0};
    if (operands_known(v, id)) {
        y = copy_node(v, id);
        v->ok = v->ok && !wr_is_poison(y);
    } else if (op == &wr_op_slice) {
        y = wr__parts_slice(v, id);
    }
    for (int k = 0; !wr_is_poison(y) && k < wr_op_outputs(op) && v->ok; k++)
        wr__inverse_learn(v, id + (uint32_t)k, wr_output(y, k), WR__FORWARD);
    wr_derive_end(v->g, before);
}

void wr__inverse_forward_users(inverter *v, uint32_t id) {
    for (uint32_t i = v->user_at[id]; v->ok && i < v->user_at[id + 1]; i++)
        forward(v, v->user[i]);
}

/* ---- backward: an output is known ---- */

static bool came_from_outputs(const inverter *v, uint32_t id) {
    return v->how[id] == WR__OUTPUT || v->how[id] == WR__SOLVED || v->how[id] == WR__JOINED;
}

static void backward(inverter *v, uint32_t id) {
    if (!came_from_outputs(v, id) || v->used[id] || v->is_in[id]) return;
    uint32_t m = maker(v, id);
    const wr_op *op = wr_node_at(v->g, m)->op;
    if (operands_known(v, m)) return; /* over-determined, unless it is used up already */
    if (op->inverse == NULL) {
        v->wait[id] = op->no_inverse;
        return;
    }
    view w;
    if (!view_node(v, m, &w)) return;
    wr_inverse_ctx c = {.g = v->g,
                        .n_in = w.n_in,
                        .n_out = w.n_out,
                        .output = (int)(id - m),
                        .y = w.y,
                        .x = w.x,
                        .in = w.in,
                        .out = w.out,
                        .attr = w.attr,
                        .inverter = v,
                        .id = m};
    wr_derivation before = wr_derive_begin(v->g, m, WR_INVERSE);
    if (op->inverse(&c)) v->used[id] = true;
    wr_derive_end(v->g, before);
    free(w.in);
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

/* ---- what lies between inputs and outputs ---- */

static void mark_inside(inverter *v) {
    for (int i = 0; i < v->f->n_in; i++)
        v->is_in[v->f->ins[i].id] = v->inside[v->f->ins[i].id] = true;
    for (uint32_t id = 1; id < v->n; id++)
        for (int k = 0; k < wr_node_at(v->g, id)->n_in; k++)
            if (v->inside[wr_node_inputs(v->g, id)[k]]) v->inside[id] = true;
    bool *reaches = v->used; /* all false until the rules fire */
    for (int k = 0; k < v->f->n_out; k++)
        reaches[v->f->outs[k].id] = true;
    for (uint32_t id = v->n - 1; id > 0; id--) {
        if (!reaches[id] || v->is_in[id]) continue;
        for (int k = 0; k < wr_node_at(v->g, id)->n_in; k++)
            reaches[wr_node_inputs(v->g, id)[k]] = true;
    }
    for (uint32_t id = 1; id < v->n; id++)
        v->inside[id] = v->inside[id] && reaches[id];
    memset(v->used, 0, v->n * sizeof *v->used);
    for (uint32_t id = 1; id < v->n; id++)
        if (!v->inside[id]) {
            v->how[id] = WR__GIVEN;
            v->value[id] = id;
        }
}

/* The operand appears once per node that reads it. */
static bool reads_before(const uint32_t *in, int k) {
    for (int i = 0; i < k; i++)
        if (in[i] == in[k]) return true;
    return false;
}

static bool list_users(inverter *v) {
    uint32_t total = 0;
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) {
            v->user = malloc(sizeof *v->user * ((size_t)total + 1));
            if (v->user == NULL) return false;
            for (uint32_t id = 0, sum = 0; id <= v->n; id++) {
                uint32_t count = v->user_at[id];
                v->user_at[id] = sum;
                sum += count;
            }
        }
        for (uint32_t id = 1; id < v->n; id++) {
            if (!v->inside[id] || is_output_node(v, id)) continue;
            const uint32_t *in = wr_node_inputs(v->g, id);
            for (int k = 0; k < wr_node_at(v->g, id)->n_in; k++) {
                if (!v->inside[in[k]] || reads_before(in, k)) continue;
                if (pass == 0) {
                    v->user_at[in[k]]++;
                    total++;
                } else {
                    v->user[v->user_at[in[k]]++] = id;
                }
            }
        }
    }
    for (uint32_t id = v->n; id > 0; id--) /* filling moved each beginning to its end */
        v->user_at[id] = v->user_at[id - 1];
    v->user_at[0] = 0;
    return true;
}

/* ---- what came out ---- */

static void add_frontier(const inverter *v, wr_str *out) {
    for (uint32_t id = 1; id < v->n; id++) {
        if (!v->inside[id] || v->is_in[id] || v->used[id] || !came_from_outputs(v, id)) continue;
        add_description(v, id, out);
        wr_str_add(out, ": %s",
                   v->wait[id] != NULL ? v->wait[id] : "known, but its operands are not");
    }
    for (size_t i = 0; i < v->n_parts; i++) {
        const wr__part *p = &v->part[i];
        bool first = true;
        for (size_t j = 0; j < i; j++)
            first = first && v->part[j].node != p->node;
        if (!first || v->how[p->node] != WR__UNKNOWN) continue;
        add_description(v, p->node, out);
        wr_str_add(out, ": only a part of it is determined, or its parts overlap");
    }
}

static bool check_inputs(inverter *v) {
    wr_str s = {0};
    for (int i = 0; i < v->f->n_in; i++)
        if (v->how[v->f->ins[i].id] == WR__UNKNOWN) add_description(v, v->f->ins[i].id, &s);
    bool all = s.len == 0;
    if (!all) {
        wr_str_add(&s, "\n  where solving stopped:");
        size_t before = s.len;
        add_frontier(v, &s);
        if (s.len == before) wr_str_add(&s, "\n  the outputs do not depend on it");
        wr_mistake(v->g, v->loc, "not a bijection: the outputs do not determine the input%s",
                   wr_str_text(&s));
    }
    wr_str_free(&s);
    return v->ok = v->ok && all;
}

/* What arrived from the outputs must have solved something. */
static bool check_used(inverter *v) {
    for (uint32_t id = 1; id < v->n; id++) {
        if (!v->inside[id] || v->is_in[id] || v->used[id] || !came_from_outputs(v, id)) continue;
        if (operands_known(v, maker(v, id)))
            return mistake(v, id,
                           "this is fixed by the outputs and by its operands: over-determined",
                           "leave out the output that repeats another one");
        return mistake(v, id, v->wait[id] != NULL ? v->wait[id] : "its operands are not determined",
                       "an operand of it is neither known nor solved for");
    }
    return true;
}

static wr_dim elements(const inverter *v, int n, const wr *x) {
    wr_dim sum = wr_n(0);
    for (int i = 0; i < n; i++) {
        wr_dim product = wr_n(1);
        for (int d = 0; d < wr_rank(x[i]); d++)
            product = wr_dim_mul(v->g, product, wr_dim_of(x[i], d));
        sum = wr_dim_add(v->g, sum, product);
    }
    return sum;
}

static bool check_count(inverter *v) {
    wr_dim in = elements(v, v->f->n_in, v->f->ins), out = elements(v, v->f->n_out, v->f->outs);
    if (in.id != 0 && out.id != 0 && wr_dim_eq(v->g, in, out)) return true;
    return mistake(v, v->f->outs[0].id, "the outputs have not as many elements as the inputs",
                   "every element of the inputs must leave by one output");
}

/* ---- the whole ---- */

static bool allocate(inverter *v) {
    size_t n = v->n;
    v->value = calloc(n, sizeof *v->value);
    v->how = calloc(n, sizeof *v->how);
    v->inside = calloc(n, sizeof *v->inside);
    v->is_in = calloc(n, sizeof *v->is_in);
    v->used = calloc(n, sizeof *v->used);
    v->wait = calloc(n, sizeof *v->wait);
    v->user_at = calloc(n + 1, sizeof *v->user_at);
    v->queue = calloc(n, sizeof *v->queue);
    v->mask = calloc(n, sizeof *v->mask);
    v->batch = calloc(n, sizeof *v->batch);
    return v->value != NULL && v->how != NULL && v->inside != NULL && v->is_in != NULL &&
           v->used != NULL && v->wait != NULL && v->user_at != NULL && v->queue != NULL &&
           v->mask != NULL && v->batch != NULL;
}

static void release(inverter *v) {
    free(v->value);
    free(v->how);
    free(v->inside);
    free(v->is_in);
    free(v->used);
    free(v->wait);
    free(v->user_at);
    free(v->user);
    free(v->queue);
    free(v->mask);
    free(v->batch);
    free(v->part);
}

static bool same_type(const wr_graph *g, wr a, wr b) {
    wr_type s = wr_type_of(a), t = wr_type_of(b);
    bool same = s.dtype == t.dtype && s.rank == t.rank;
    for (int i = 0; same && i < s.rank; i++)
        same = wr_dim_eq(g, s.dim[i], t.dim[i]);
    return same;
}

static bool check_arguments(inverter *v, const wr *ys) {
    const wr_bijection *f = v->f;
    for (int i = 0; i < f->n_in; i++) {
        if (wr_is_poison(f->ins[i])) return v->ok = false;
        if (wr_dtype_of(f->ins[i]) == WR_I32 || wr_rank(f->ins[i]) == 0)
            return mistake(v, f->ins[i].id, "an input is a float tensor whose axis 0 is the batch",
                           "whole numbers and scalars have no density");
    }
    for (int k = 0; k < f->n_out; k++) {
        if (wr_is_poison(f->outs[k]) || wr_is_poison(ys[k])) return v->ok = false;
        if (!same_type(v->g, f->outs[k], ys[k]))
            return mistake(v, ys[k].id, "a value to invert has not the sizes of its output",
                           "ys has the types of outs");
    }
    return true;
}

static bool begin(inverter *v, const wr *ys) {
    if (!check_arguments(v, ys)) return false;
    v->n = wr_node_count(v->g);
    if (!allocate(v)) {
        wr_no_memory(v->g);
        return v->ok = false;
    }
    mark_inside(v);
    if (!list_users(v)) {
        wr_no_memory(v->g);
        return v->ok = false;
    }
    wr__masks_spread(v);
    for (int k = 0; v->ok && k < v->f->n_out; k++) {
        uint32_t id = v->f->outs[k].id;
        if (v->how[id] == WR__GIVEN)
            return mistake(v, id, "an output does not depend on the inputs",
                           "leave it out of the outputs");
        wr__inverse_learn(v, id, ys[k], WR__OUTPUT);
    }
    return v->ok;
}

static wr zero_log_det(const inverter *v) {
    wr zero = wr_scalar(v->g, wr_dtype_of(v->f->ins[0]), 0.0);
    return wr_broadcast(zero, WR_DIMS(wr_dim_of(v->f->ins[0], 0)));
}

static bool solve(inverter *v, const wr *ys) {
    if (begin(v, ys)) {
        run_queue(v);
        if (v->ok && wr_graph_ok(v->g)) {
            bool fine = check_inputs(v) && check_used(v) && check_count(v);
            v->ok = v->ok && fine;
        }
        if (v->ok && wr_is_poison(v->log_det)) v->log_det = zero_log_det(v);
    }
    return v->ok;
}

bool wr_invert_at(wr_loc loc, const wr_bijection *f, const wr *ys, wr *xs, wr *log_det) {
    wr_graph *g = f->n_in > 0 ? f->ins[0].g : NULL;
    inverter v = {.g = g, .loc = loc, .f = f, .ok = f->n_in > 0 && f->n_out > 0, .log_det = {g, 0}};
    bool ok = v.ok && solve(&v, ys);
    for (int i = 0; i < f->n_in; i++)
        xs[i] = (wr){g, ok ? v.value[f->ins[i].id] : 0};
    if (log_det != NULL) *log_det = ok ? wr_neg(v.log_det) : (wr){g, 0};
    release(&v);
    return ok;
}

wr wr_log_det_at(wr_loc loc, const wr_bijection *f) {
    wr_graph *g = f->n_in > 0 ? f->ins[0].g : NULL;
    inverter v = {.g = g,
                  .loc = loc,
                  .f = f,
                  .ok = f->n_in > 0 && f->n_out > 0,
                  .in_place = true,
                  .log_det = {g, 0}};
    bool ok = v.ok && solve(&v, f->outs);
    release(&v);
    return ok ? v.log_det : (wr){g, 0};
}
