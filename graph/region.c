/* region.c: see region.h. */
#include "graph/region.h"
#include "graph/graph_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_output(const wr_graph *g, uint32_t id) { return g->node[id].op == &wr_op_output; }

/* ---- finding ---- */

static void mark_varying(wr_region *r) {
    for (int i = 0; i < r->n_from; i++)
        r->varies[r->from[i].id] = true;
    for (uint32_t id = 1; id < r->n; id++) {
        const uint32_t *in = wr_node_inputs(r->g, id);
        for (int k = 0; k < r->g->node[id].n_in; k++)
            if (r->varies[in[k]]) r->varies[id] = true;
    }
}

/* Ends at `from` and at what does not vary. */
static void mark_live(wr_region *r) {
    for (int k = 0; k < r->n_to; k++)
        r->live[r->to[k].id] = true;
    for (int i = 0; i < r->n_from; i++)
        r->live[r->from[i].id] = false;
    for (uint32_t id = r->n - 1; id > 0; id--) {
        if (!r->live[id] || !r->varies[id]) continue;
        const uint32_t *in = wr_node_inputs(r->g, id);
        for (int k = 0; k < r->g->node[id].n_in; k++)
            r->live[in[k]] = true;
        for (int i = 0; i < r->n_from; i++)
            r->live[r->from[i].id] = false;
    }
}

bool wr_region_find(wr_graph *g, int n_from, const wr *from, int n_to, const wr *to, wr_region *r) {
    *r = (wr_region){
        .g = g, .n_from = n_from, .from = from, .n_to = n_to, .to = to, .n = wr_node_count(g)};
    r->varies = calloc(r->n, sizeof *r->varies);
    r->live = calloc(r->n, sizeof *r->live);
    bool ok = r->varies != NULL && r->live != NULL;
    if (ok) {
        mark_varying(r);
        mark_live(r);
        for (uint32_t id = 1; id < r->n; id++)
            r->n_border += r->live[id] && !r->varies[id];
        r->border = malloc(sizeof *r->border * ((size_t)r->n_border + 1));
        ok = r->border != NULL;
    }
    if (!ok) {
        wr__out_of_memory(g);
        wr_region_free(r);
        return false;
    }
    int n = 0;
    for (uint32_t id = 1; id < r->n; id++)
        if (r->live[id] && !r->varies[id]) r->border[n++] = id;
    return true;
}

void wr_region_free(wr_region *r) {
    free(r->varies);
    free(r->live);
    free(r->border);
    *r = (wr_region){0};
}

/* ---- copying ---- */

typedef struct copier {
    const wr_graph *from;
    wr_graph *to;
    uint32_t *map; /* per node of `from`: what it became, 0: nothing yet */
    bool derived;  /* copies stand for the present derivation */
} copier;

static bool copy_node(copier *c, uint32_t id) {
    const wr_node *x = &c->from->node[id];
    if (is_output(c->from, id)) {
        uint32_t first = c->map[wr_node_inputs(c->from, id)[0]];
        c->map[id] = first == 0 ? 0 : first + (uint32_t)wr_node_attrs(c->from, id)[0].i;
        return first != 0;
    }
    uint32_t *in = malloc(sizeof *in * ((size_t)x->n_in + 1));
    if (in == NULL) return false;
    for (int k = 0; k < x->n_in; k++)
        in[k] = c->map[wr_node_inputs(c->from, id)[k]];
    uint32_t before = wr_node_count(c->to);
    uint32_t made = wr__node_copy(c->to, c->from, id, in, false);
    free(in);
    c->map[id] = made;
    if (made >= before) { /* new: its origin in the other graph means nothing here */
        c->to->node[made].origin = c->derived ? c->to->derivation.origin : 0;
        c->to->node[made].role = c->derived ? (uint8_t)c->to->derivation.role : WR_FORWARD;
    }
    return made != 0;
}

bool wr_region_paste(const wr_region *r, const wr *values, const wr *border_values, wr *outs) {
    wr_graph *g = (wr_graph *)(uintptr_t)r->g;
    copier c = {.from = g, .to = g, .derived = true, .map = calloc(r->n, sizeof *c.map)};
    bool ok = c.map != NULL;
    for (int i = 0; ok && i < r->n_from; i++) {
        c.map[r->from[i].id] = values[i].id;
        ok = values[i].id != 0;
    }
    bool memory = ok || c.map != NULL;
    for (int i = 0; ok && i < r->n_border; i++) {
        uint32_t id = r->border[i];
        c.map[id] = border_values == NULL ? id : border_values[i].id;
        ok = c.map[id] != 0;
    }
    for (uint32_t id = 1; ok && id < r->n; id++)
        if (r->live[id] && r->varies[id]) ok = memory = copy_node(&c, id);
    for (int k = 0; k < r->n_to; k++) {
        uint32_t id = r->to[k].id;
        uint32_t made = ok ? c.map[id] : 0;
        outs[k] = (wr){g, made};
    }
    if (!memory) wr__out_of_memory(g);
    free(c.map);
    return ok;
}

static uint32_t body_input(wr_graph *g, wr x, int number) {
    char name[16];
    wr_type t = wr_type_of(x);
    snprintf(name, sizeof name, "%d", number);
    return wr_input_at(WR_HERE, g, name, t.dtype, t.rank, t.dim).id;
}

static bool is_constant(const wr_region *r, uint32_t id) {
    return r->g->node[id].op == &wr_op_const;
}

static bool make_inputs(const wr_region *r, copier *c, uint32_t *inputs) {
    for (int i = 0; i < r->n_from + r->n_border; i++) {
        uint32_t id = i < r->n_from ? r->from[i].id : r->border[i - r->n_from];
        wr x = {(wr_graph *)(uintptr_t)r->g, id};
        inputs[i] = 0;
        if (i >= r->n_from && is_constant(r, id)) {
            if (!copy_node(c, id)) return false;
        } else {
            inputs[i] = c->map[id] = body_input(c->to, x, i);
            if (inputs[i] == 0) return false;
        }
    }
    return true;
}

wr_graph *wr_region_extract(const wr_region *r, uint32_t *inputs, uint32_t *outs) {
    copier c = {.from = r->g, .to = wr_graph_like(r->g), .map = calloc(r->n, sizeof *c.map)};
    bool ok = c.to != NULL && c.map != NULL && make_inputs(r, &c, inputs);
    for (uint32_t id = 1; ok && id < r->n; id++)
        if (r->live[id] && r->varies[id]) ok = copy_node(&c, id);
    for (int k = 0; ok && k < r->n_to; k++)
        outs[k] = c.map[r->to[k].id];
    free(c.map);
    if (ok && wr_graph_ok(c.to)) return c.to;
    wr_graph_free(c.to);
    return NULL;
}

bool wr_body_paste(wr_graph *g, const wr_graph *body, int n_in, const uint32_t *inputs,
                   const wr *values, int n_out, const uint32_t *ids, wr *outs) {
    uint32_t n = wr_node_count(body);
    copier c = {.from = body, .to = g, .derived = true, .map = calloc(n, sizeof *c.map)};
    bool ok = c.map != NULL, poison = false;
    for (int i = 0; ok && i < n_in; i++) {
        poison = poison || values[i].id == 0;
        if (inputs[i] != 0) c.map[inputs[i]] = values[i].id;
    }
    for (uint32_t id = 1; ok && !poison && id < n; id++)
        if (c.map[id] == 0) ok = copy_node(&c, id);
    for (int k = 0; k < n_out; k++)
        outs[k] = (wr){g, ok && !poison ? c.map[ids[k]] : 0};
    if (!ok) wr__out_of_memory(g);
    free(c.map);
    return ok && !poison;
}

/* ---- objects of the family ---- */

int wr_graph_keep(wr_graph *g, void *object, void (*release)(void *object), int references) {
    wr__shared *s = g->shared;
    if (!wr_grow(&s->kept, &s->cap_kept, s->n_kept + 1, sizeof *s->kept)) {
        wr__out_of_memory(g);
        release(object);
        return -1;
    }
    s->kept[s->n_kept] = (wr__kept){object, release};
    s->refs -= references;
    return (int)s->n_kept++;
}

void *wr_graph_kept(const wr_graph *g, int64_t number) { return g->shared->kept[number].object; }
