/* recompute.c: values that the backward part makes again instead of keeping them.
 *
 * Nodes of a scope marked by wr_scope_recompute are computed a second time from what the scope
 * read. A node with a rebuilt value (wr_node_rebuild) is read there instead: for the layers of a
 * flow that is a part of the inverse, which starts from the layer's output, so that not even their
 * inputs are kept. Both are made right before their first reader. */
#include "graph/graph_internal.h"
#include "graph/program.h"

#include <stdlib.h>

/* ---- rebuilt values ---- */

bool wr_node_rebuild(wr_graph *g, uint32_t id, uint32_t by) {
    if (id >= g->n_rebuilt) {
        size_t n = g->n_rebuilt, need = g->n > id + 1u ? g->n : id + 1u;
        uint32_t *grown = realloc(g->rebuilt, sizeof *grown * need);
        if (grown == NULL) {
            wr__out_of_memory(g);
            return false;
        }
        for (; n < need; n++)
            grown[n] = 0;
        g->rebuilt = grown;
        g->n_rebuilt = need;
    }
    g->rebuilt[id] = by;
    return true;
}

static uint32_t rebuilt(const wr_graph *g, uint32_t id) {
    return id < g->n_rebuilt ? g->rebuilt[id] : 0;
}

/* ---- the pass ---- */

typedef struct recompute {
    const wr_graph *old;
    wr_graph *now;
    const bool *live;
    uint32_t *map, *again; /* the copy for the forward part, and the one made again */
    bool ok;
} recompute;

static bool is_recomputed(const wr_graph *g, uint32_t id) {
    const wr_node *x = wr_node_at(g, id);
    return x->role != WR_GRADIENT && wr_scope_is_recomputed(g, x->scope) &&
           !(x->op->traits & (WR_SOURCE | WR_STATEFUL)) && x->op != &wr_op_output;
}

/* The outermost marked scope that a node stands in, 0: none. */
static uint32_t marked_scope(const wr_graph *g, uint32_t id) {
    uint32_t scope = wr_node_at(g, id)->scope, marked = 0;
    for (; wr_scope_is_recomputed(g, scope); scope = wr_scope_parent(g, scope))
        marked = scope;
    return marked;
}

static uint32_t copy_with(recompute *c, uint32_t id, bool again);

/* Is it made for the backward part alone: the gradient, and what rebuilds values? */
static bool is_backward(const recompute *c, uint32_t id) {
    return wr_node_at(c->old, id)->role == WR_GRADIENT || !c->live[id];
}

/* Old node `id`, made again unless it was before. */
static uint32_t made_again(recompute *c, uint32_t id) {
    if (c->again[id] == 0) c->again[id] = copy_with(c, id, true);
    return c->again[id];
}

/* What backward node `reader` reads in place of old node `id`. What comes from outside its scope is
 * that scope's input and was kept; only what its own scope made is made again. */
static uint32_t backward_operand(recompute *c, uint32_t reader, uint32_t id) {
    const wr_node *x = wr_node_at(c->old, id);
    bool rebuilds = !c->live[reader]; /* it names the rebuilt values that it reads */
    uint32_t by = rebuilt(c->old, id);
    if (by == id) return c->map[id]; /* rebuilding starts from it: it was kept */
    if (by != 0 && !rebuilds) return backward_operand(c, by, by);
    if (x->op == &wr_op_output) {
        uint32_t first = backward_operand(c, reader, wr_node_inputs(c->old, id)[0]);
        return first + (uint32_t)wr_node_attrs(c->old, id)[0].i;
    }
    if (!c->live[id]) return made_again(c, id);
    if (!is_recomputed(c->old, id)) return c->map[id];
    bool kept = marked_scope(c->old, id) != marked_scope(c->old, reader) &&
                !wr_scope_results_recomputed(c->old, x->scope);
    return kept ? c->map[id] : made_again(c, id);
}

static uint32_t copy_with(recompute *c, uint32_t id, bool again) {
    const wr_node *x = wr_node_at(c->old, id);
    bool backward = again || is_backward(c, id);
    uint32_t *in = malloc(sizeof *in * (x->n_in + 1u));
    if (in == NULL) {
        c->ok = false;
        return 0;
    }
    for (int k = 0; k < x->n_in; k++) {
        uint32_t operand = wr_node_inputs(c->old, id)[k];
        in[k] = backward ? backward_operand(c, id, operand) : c->map[operand];
    }
    uint32_t made = wr__node_copy(c->now, c->old, id, in, again);
    if (made == 0) c->ok = false;
    if (made != 0) c->now->node[made].origin = again ? c->map[id] : c->map[x->origin];
    if (made != 0 && again) c->now->node[made].role = WR_RECOMPUTED;
    free(in);
    return made;
}

wr_graph *wr_pass_recompute(const wr_graph *g, int n_roots, uint32_t *roots) {
    uint32_t n = wr_node_count(g);
    bool *live = wr_live_nodes(g, n_roots, roots);
    recompute c = {.old = g,
                   .now = wr_graph_like(g),
                   .live = live,
                   .map = calloc(n, sizeof *c.map),
                   .again = calloc(n, sizeof *c.again),
                   .ok = true};
    c.ok = live != NULL && c.now != NULL && c.map != NULL && c.again != NULL;
    for (uint32_t id = 1; c.ok && id < n; id++) {
        if (!live[id]) continue;
        const wr_node *x = wr_node_at(g, id);
        if (x->op == &wr_op_output)
            c.map[id] = c.map[wr_node_inputs(g, id)[0]] + (uint32_t)wr_node_attrs(g, id)[0].i;
        else
            c.map[id] = copy_with(&c, id, false);
    }
    for (int i = 0; c.ok && i < n_roots; i++)
        roots[i] = c.map[roots[i]];
    free(live);
    free(c.map);
    free(c.again);
    if (c.ok) return c.now;
    wr_graph_free(c.now);
    return NULL;
}

bool wr__is_any_recomputed(const wr_graph *g) {
    for (uint32_t id = 1; id < wr_node_count(g); id++)
        if (is_recomputed(g, id) || rebuilt(g, id) != 0) return true;
    return false;
}
