/* invert_begin.c: arguments of an inversion, and what lies between inputs and outputs. */
#include "autodiff/invert_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct wr__inverter inverter;

/* ---- arguments ---- */

static bool same_type(const wr_graph *g, wr a, wr b) {
    wr_type s = wr_type_of(a), t = wr_type_of(b);
    bool same = s.dtype == t.dtype && s.rank == t.rank;
    for (int i = 0; same && i < s.rank; i++)
        same = wr_dim_eq(g, s.dim[i], t.dim[i]);
    return same;
}

/* A handle of this graph that is no poison; poison has had its message. */
static bool is_usable(inverter *v, wr x, const char *what) {
    if (wr_is_poison(x)) return v->ok = false;
    if (x.g == v->g) return true;
    wr_mistake(v->g, v->loc, "%s of a bijection belongs to another graph", what);
    return v->ok = false;
}

static bool check_input(inverter *v, int i) {
    const wr *ins = v->f->ins;
    if (!is_usable(v, ins[i], "an input")) return false;
    if (wr_dtype_of(ins[i]) == WR_I32 || wr_rank(ins[i]) == 0)
        return wr__inverse_mistake(v, ins[i].id,
                                   "an input is a float tensor whose axis 0 is the batch",
                                   "whole numbers and scalars have no density per sentence");
    if (!wr_dim_eq(v->g, wr_dim_of(ins[i], 0), wr_dim_of(ins[0], 0)))
        return wr__inverse_mistake(v, ins[i].id, "axis 0 of the inputs differs: it is the batch",
                                   NULL);
    for (int k = 0; k < i; k++)
        if (ins[k].id == ins[i].id)
            return wr__inverse_mistake(v, ins[i].id, "this stands twice in the inputs", NULL);
    return true;
}

static bool check_output(inverter *v, int i, wr y) {
    const wr *outs = v->f->outs;
    if (!is_usable(v, outs[i], "an output") || !is_usable(v, y, "a value to invert")) return false;
    if (!same_type(v->g, outs[i], y))
        return wr__inverse_mistake(v, y.id, "a value to invert has not the sizes of its output",
                                   "ys has the types of outs");
    for (int k = 0; k < i; k++)
        if (outs[k].id == outs[i].id)
            return wr__inverse_mistake(v, outs[i].id, "this stands twice in the outputs", NULL);
    return true;
}

static bool check_arguments(inverter *v, const wr *ys) {
    const wr_bijection *f = v->f;
    if (v->g == NULL) return v->ok = false;
    if (f->n_out < 1) {
        wr_mistake(v->g, v->loc, "a bijection has at least one output");
        return v->ok = false;
    }
    for (int i = 0; i < f->n_in; i++)
        if (!check_input(v, i)) return false;
    for (int k = 0; k < f->n_out; k++)
        if (!check_output(v, k, ys[k])) return false;
    return true;
}

static bool first_dims_match(const inverter *v, wr mask, wr x) {
    bool match = wr_rank(mask) > 0 && wr_rank(mask) <= wr_rank(x);
    for (int i = 0; match && i < wr_rank(mask); i++)
        match = wr_dim_eq(v->g, wr_dim_of(mask, i), wr_dim_of(x, i));
    return match && wr_dtype_of(mask) == wr_dtype_of(x);
}

/* The masks are the same whatever the inputs are. */
static bool check_masks(inverter *v) {
    const wr_bijection *f = v->f;
    for (int i = 0; f->masks != NULL && i < f->n_in; i++) {
        wr mask = f->masks[i];
        if (wr_is_poison(mask)) continue;
        if (!is_usable(v, mask, "a mask")) return false;
        if (!first_dims_match(v, mask, f->ins[i]))
            return wr__inverse_mistake(v, mask.id,
                                       "a mask has not the first sizes, or the type, of its input",
                                       "x [B, T, ..] has a mask [B, T] of the same float type");
        if (v->depends[mask.id])
            return wr__inverse_mistake(v, mask.id, "a mask depends on the inputs", NULL);
    }
    return true;
}

/* ---- memory ---- */

static bool allocate(inverter *v) {
    size_t n = v->n;
    v->value = calloc(n, sizeof *v->value);
    v->how = calloc(n, sizeof *v->how);
    v->depends = calloc(n, sizeof *v->depends);
    v->inside = calloc(n, sizeof *v->inside);
    v->is_in = calloc(n, sizeof *v->is_in);
    v->used = calloc(n, sizeof *v->used);
    v->wait = calloc(n, sizeof *v->wait);
    v->user_at = calloc(n + 1, sizeof *v->user_at);
    v->through = calloc(n, sizeof *v->through);
    v->queue = calloc(n, sizeof *v->queue);
    v->parts_of = calloc(n, sizeof *v->parts_of);
    v->held = calloc(n, sizeof *v->held);
    return v->value != NULL && v->how != NULL && v->depends != NULL && v->inside != NULL &&
           v->is_in != NULL && v->used != NULL && v->wait != NULL && v->user_at != NULL &&
           v->through != NULL && v->queue != NULL && v->parts_of != NULL && v->held != NULL;
}

void wr__inverse_release(inverter *v) {
    free(v->value);
    free(v->how);
    free(v->depends);
    free(v->inside);
    free(v->is_in);
    free(v->used);
    free(v->wait);
    free(v->user_at);
    free(v->user);
    free(v->through);
    free(v->queue);
    free(v->parts_of);
    free(v->held);
    free(v->part);
    free(v->term);
    struct wr__inverter left = {.g = v->g,
                                .loc = v->loc,
                                .f = v->f,
                                .in_place = v->in_place,
                                .terms = v->terms,
                                .n = v->n,
                                .limited = v->limited,
                                .data = v->data,
                                .ok = v->ok};
    *v = left;
}

/* ---- what lies between inputs and outputs ---- */

static void mark_dependent(inverter *v) {
    for (int i = 0; i < v->f->n_in; i++)
        v->is_in[v->f->ins[i].id] = v->depends[v->f->ins[i].id] = true;
    for (uint32_t id = 1; id < v->n; id++)
        for (int k = 0; !v->depends[id] && k < wr_node_at(v->g, id)->n_in; k++)
            v->depends[id] = v->depends[wr_node_inputs(v->g, id)[k]];
}

static void mark_inside(inverter *v) {
    bool *reaches = v->inside;
    for (int k = 0; k < v->f->n_out; k++)
        reaches[v->f->outs[k].id] = true;
    for (uint32_t id = v->n - 1; id > 0; id--) {
        if (!reaches[id] || v->is_in[id]) continue;
        for (int k = 0; k < wr_node_at(v->g, id)->n_in; k++)
            reaches[wr_node_inputs(v->g, id)[k]] = true;
    }
    for (uint32_t id = 1; id < v->n; id++) {
        v->inside[id] = v->depends[id] && reaches[id];
        if (v->inside[id]) continue;
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

/* Count the users of each node (`user` is NULL), or list them. */
static uint32_t each_user(inverter *v, uint32_t *user) {
    uint32_t total = 0;
    for (uint32_t id = 1; id < v->n; id++) {
        const wr_node *x = wr_node_at(v->g, id);
        const uint32_t *in = wr_node_inputs(v->g, id);
        if (!v->inside[id] || x->op == &wr_op_output) continue;
        for (int k = 0; k < x->n_in; k++) {
            if (!v->inside[in[k]] || reads_before(in, k)) continue;
            uint32_t at = v->user_at[in[k]]++;
            if (user != NULL) user[at] = id;
            total++;
        }
    }
    return total;
}

static bool list_users(inverter *v) {
    uint32_t total = each_user(v, NULL);
    v->user = malloc(sizeof *v->user * ((size_t)total + 1));
    if (v->user == NULL) return false;
    for (uint32_t id = 0, sum = 0; id <= v->n; id++) {
        uint32_t count = v->user_at[id];
        v->user_at[id] = sum;
        sum += count;
    }
    each_user(v, v->user);
    for (uint32_t id = v->n; id > 0; id--) /* listing moved each beginning to its end */
        v->user_at[id] = v->user_at[id - 1];
    v->user_at[0] = 0;
    return true;
}

/* A node that writes would write again where the inverse computes it again. */
static bool check_nodes(inverter *v) {
    for (uint32_t id = 1; id < v->n; id++)
        if (v->inside[id] && !v->is_in[id] && (wr_node_at(v->g, id)->op->traits & WR_STATEFUL))
            return wr__inverse_mistake(v, id, "this writes a state with what depends on the inputs",
                                       "assign outside of the bijection");
    return true;
}

static bool check_reached(inverter *v) {
    for (int i = 0; i < v->f->n_in; i++)
        if (!v->inside[v->f->ins[i].id])
            return wr__inverse_mistake(v, v->f->ins[i].id, "no output depends on the input", NULL);
    return true;
}

static bool learn_outputs(inverter *v, const wr *ys) {
    for (int k = 0; v->ok && k < v->f->n_out; k++) {
        uint32_t id = v->f->outs[k].id;
        if (v->how[id] == WR__GIVEN)
            return wr__inverse_mistake(v, id, "an output does not depend on the inputs",
                                       "leave it out of the outputs");
        wr__inverse_learn(v, id, ys[k], WR__OUTPUT);
    }
    return v->ok;
}

bool wr__inverse_begin(inverter *v, const wr *ys) {
    if (!check_arguments(v, ys)) return false;
    if (v->n == 0) v->n = wr_node_count(v->g);
    bool memory = allocate(v);
    if (memory) {
        mark_dependent(v);
        mark_inside(v);
        memory = list_users(v);
    }
    if (!memory) {
        wr_no_memory(v->g);
        return v->ok = false;
    }
    return check_masks(v) && check_nodes(v) && check_reached(v) && learn_outputs(v, ys);
}
