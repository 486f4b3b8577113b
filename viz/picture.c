/* picture.c: groups, cells and edges of a picture. See picture.h. */
#include "viz/picture.h"

#include <stdlib.h>
#include <string.h>

bool wr__node_is_derived(const wr_node *x) { return x->role != WR_FORWARD && x->role != WR_FUSED; }

/* Inverses and their log-determinants stand in the scope that they are derived from. */
static bool is_apart(const wr_node *x) {
    return x->role == WR_GRADIENT || x->role == WR_RECOMPUTED;
}

/* ---- groups ---- */

static uint32_t add_group(wr__picture *p, uint32_t parent, uint32_t scope, bool derived) {
    if (!wr_grow(&p->group, &p->cap_groups, p->n_groups + 1, sizeof *p->group)) return WR__NONE;
    uint32_t id = (uint32_t)p->n_groups++;
    wr__group *x = &p->group[id];
    *x = (wr__group){.scope = scope,
                     .parent = parent,
                     .child = WR__NONE,
                     .last_child = WR__NONE,
                     .sibling = WR__NONE,
                     .derived = derived,
                     .alike = id,
                     .repeats = 1,
                     .low = id,
                     .high = id,
                     .closed = WR__NONE,
                     .cell = WR__NONE,
                     .first_cell = WR__NONE,
                     .last_cell = WR__NONE};
    if (parent == WR__NONE) return id;
    wr__group *up = &p->group[parent];
    x->depth = scope == 0 ? 0 : up->depth + 1;
    if (up->child == WR__NONE)
        up->child = id;
    else
        p->group[up->last_child].sibling = id;
    up->last_child = id;
    return id;
}

/* Groups by scope, for each of the two trees; WR__NONE: not made yet. */
typedef struct scope_map {
    uint32_t *group[2];
    uint32_t n;
} scope_map;

static bool begin_scopes(const wr__picture *p, scope_map *m) {
    for (uint32_t id = 1; id < p->n_nodes; id++)
        for (uint32_t s = wr_node_at(p->g, id)->scope; s >= m->n; s = wr_scope_parent(p->g, s))
            m->n = s + 1;
    for (int k = 0; k < 2; k++) {
        m->group[k] = malloc(((size_t)m->n + 1) * sizeof *m->group[k]);
        for (uint32_t s = 0; m->group[k] != NULL && s <= m->n; s++)
            m->group[k][s] = WR__NONE;
    }
    return m->group[0] != NULL && m->group[1] != NULL;
}

/* The group of a scope, made with its parents. */
static uint32_t group_for(wr__picture *p, scope_map *m, uint32_t scope, bool derived) {
    uint32_t *group = &m->group[derived][scope];
    if (*group != WR__NONE) return *group;
    uint32_t parent = 0;
    if (scope != 0) parent = group_for(p, m, wr_scope_parent(p->g, scope), derived);
    if (parent == WR__NONE) return WR__NONE;
    *group = add_group(p, parent, scope, derived);
    return *group;
}

static void number_groups(wr__picture *p, uint32_t id, uint32_t *next) {
    p->group[id].preorder = (*next)++;
    for (uint32_t c = p->group[id].child; c != WR__NONE; c = p->group[c].sibling)
        number_groups(p, c, next);
}

/* Count nodes per preorder number, then place them: a counting sort. */
static bool order_nodes(wr__picture *p) {
    uint32_t *at = calloc(p->n_groups + 1, sizeof *at);
    if (at == NULL) return false;
    for (uint32_t id = 1; id < p->n_nodes; id++)
        if (p->drawn[id]) at[p->group[p->group_of[id]].preorder + 1]++;
    for (size_t i = 0; i < p->n_groups; i++)
        at[i + 1] += at[i];
    for (size_t i = 0; i < p->n_groups; i++)
        p->group[i].first = at[p->group[i].preorder];
    for (uint32_t id = 1; id < p->n_nodes; id++) {
        if (!p->drawn[id]) continue;
        p->pos[id] = at[p->group[p->group_of[id]].preorder]++;
        p->order[p->pos[id]] = id;
        p->n_order++;
    }
    free(at);
    return true;
}

/* What the groups hold, parents with their children. Parents come before their children. */
static void sum_groups(wr__picture *p) {
    for (uint32_t i = 0; i < p->n_order; i++) {
        uint32_t id = p->order[i];
        const wr_node *x = wr_node_at(p->g, id);
        wr__group *group = &p->group[p->group_of[id]];
        group->n++;
        bool is_op = !(x->op->traits & WR_SOURCE) && x->op != &wr_op_output;
        group->ops += is_op;
        group->derived_ops += is_op && wr__node_is_derived(x);
        group->flops += p->flops[id];
        group->bytes += p->bytes[id];
        double elements = x->op == &wr_op_param ? 1 : 0;
        for (int k = 0; k < x->rank; k++)
            elements *= (double)wr_dim_literal(x->dim[k]);
        group->parameters += elements;
    }
    for (size_t i = p->n_groups; i-- > 1;) {
        const wr__group *from = &p->group[i];
        wr__group *to = &p->group[from->parent];
        to->n += from->n;
        to->ops += from->ops;
        to->derived_ops += from->derived_ops;
        to->flops += from->flops;
        to->bytes += from->bytes;
        to->parameters += from->parameters;
    }
}

static bool make_groups(wr__picture *p, scope_map *m) {
    if (add_group(p, WR__NONE, 0, false) == WR__NONE || !begin_scopes(p, m)) return false;
    m->group[0][0] = 0;
    for (uint32_t id = 1; id < p->n_nodes; id++) {
        const wr_node *x = wr_node_at(p->g, id);
        if (!p->drawn[id]) continue;
        p->group_of[id] = group_for(p, m, x->scope, is_apart(x));
        if (p->group_of[id] == WR__NONE) return false;
    }
    uint32_t next = 0;
    number_groups(p, 0, &next);
    if (!order_nodes(p)) return false;
    sum_groups(p);
    return true;
}

/* ---- the scope asked for ---- */

bool wr__group_within(const wr__picture *p, uint32_t g, uint32_t outer) {
    while (g != WR__NONE && g != outer)
        g = p->group[g].parent;
    return g == outer;
}

bool wr__group_in_focus(const wr__picture *p, uint32_t g) {
    return (p->focus != WR__NONE && wr__group_within(p, g, p->focus)) ||
           (p->derived_focus != WR__NONE && wr__group_within(p, g, p->derived_focus));
}

static wr_status refuse_scope(const wr__picture *p, wr_error *err) {
    wr_str names = {0};
    int n = 0;
    for (size_t i = 1; i < p->n_groups; i++) {
        const wr__group *group = &p->group[i];
        if (group->derived || group->scope == 0) continue;
        if (n++ < 40) {
            wr_str_add(&names, "%s", n > 1 ? ", " : "");
            wr_scope_path(p->g, group->scope, &names);
        }
    }
    if (n > 40) wr_str_add(&names, " and %d more", n - 40);
    wr_status status =
        names.oom ? wr_fail_memory(err, "the names of scopes", names.len)
                  : wr_fail(err, WR_ERR_INPUT, "no scope '%s' in the picture; there %s %s",
                            p->o->scope, n == 0 ? "is" : "are", n == 0 ? "none" : names.text);
    wr_str_free(&names);
    return status;
}

static wr_status find_focus(wr__picture *p, wr_error *err) {
    p->focus = p->derived_focus = WR__NONE;
    if (p->o->scope == NULL || p->o->scope[0] == '\0') {
        p->focus = 0;
        return WR_OK;
    }
    wr_str path = {0};
    for (uint32_t i = 1; i < p->n_groups && !path.oom; i++) {
        wr_str_clear(&path);
        wr_scope_path(p->g, p->group[i].scope, &path);
        if (strcmp(wr_str_text(&path), p->o->scope) != 0) continue;
        *(p->group[i].derived ? &p->derived_focus : &p->focus) = i;
    }
    bool oom = path.oom;
    wr_str_free(&path);
    if (oom) return wr_fail_memory(err, "the path of a scope", 64);
    if (p->focus == WR__NONE && p->derived_focus == WR__NONE) return refuse_scope(p, err);
    return WR_OK;
}

/* A group is open when it is shallow enough, counted from the scope asked for, or around that. */
static bool is_open(const wr__picture *p, uint32_t id) {
    const wr__group *group = &p->group[id];
    uint32_t focus = group->derived && p->derived_focus != WR__NONE ? p->derived_focus : p->focus;
    if (group->scope == 0) return true;
    if (focus != WR__NONE && wr__group_within(p, focus, id)) return true;
    if (!wr__group_in_focus(p, id)) return false;
    int base = focus == WR__NONE ? 0 : p->group[focus].depth;
    return p->o->depth < 0 || group->depth - base <= p->o->depth;
}

static void open_groups(wr__picture *p) {
    for (uint32_t i = 0; i < p->n_groups; i++) {
        wr__group *group = &p->group[i];
        group->open = is_open(p, i);
        uint32_t above = group->parent == WR__NONE ? WR__NONE : p->group[group->parent].closed;
        group->closed = above != WR__NONE ? above : group->open ? WR__NONE : i;
    }
}

/* ---- cells ---- */

static uint32_t add_cell(wr__picture *p, bool is_group, uint32_t index, uint32_t parent) {
    if (!wr_grow(&p->cell, &p->cap_cells, p->n_cells + 1, sizeof *p->cell)) return WR__NONE;
    uint32_t id = (uint32_t)p->n_cells++;
    bool inside = wr__group_in_focus(p, is_group ? index : parent);
    p->cell[id] = (wr__cell){.is_group = is_group,
                             .index = index,
                             .next = WR__NONE,
                             .inside = inside,
                             .drawn = inside,
                             .is_result = true};
    wr__group *group = &p->group[parent];
    if (group->first_cell == WR__NONE)
        group->first_cell = id;
    else
        p->cell[group->last_cell].next = id;
    group->last_cell = id;
    return id;
}

bool wr__view_is_passed(const wr__picture *p, uint32_t id) {
    const wr_node *x = wr_node_at(p->g, id);
    bool renames = (x->op->traits & WR_VIEW) && !(x->op->traits & WR_STATEFUL);
    return renames && !p->o->every_view && x->name == 0 && p->drawn[wr_node_inputs(p->g, id)[0]];
}

/* The cell of a node that is drawn itself (not through an alike one). Makes it when new. */
static uint32_t cell_for(wr__picture *p, uint32_t id) {
    const wr_node *x = wr_node_at(p->g, id);
    wr__group *group = &p->group[p->group_of[id]];
    if (group->closed != WR__NONE) {
        wr__group *closed = &p->group[group->closed];
        if (closed->cell == WR__NONE)
            closed->cell = add_cell(p, true, group->closed, closed->parent);
        return closed->cell;
    }
    if (x->op == &wr_op_output || wr__view_is_passed(p, id))
        return p->cell_of[p->same[wr_node_inputs(p->g, id)[0]]];
    return add_cell(p, false, id, p->group_of[id]);
}

static bool make_cells(wr__picture *p) {
    for (uint32_t id = 1; id < p->n_nodes; id++) {
        if (!p->drawn[id] || p->same[id] != id) continue;
        p->cell_of[id] = cell_for(p, id);
        if (p->cell_of[id] == WR__NONE) return false;
    }
    for (uint32_t id = 1; id < p->n_nodes; id++)
        if (p->drawn[id]) p->cell_of[id] = p->cell_of[p->same[id]];
    return true;
}

/* ---- edges ---- */

/* The ancestor of `g` (or itself) right below `outer`; WR__NONE when it is `outer` itself. */
static uint32_t child_towards(const wr__picture *p, uint32_t outer, uint32_t g) {
    uint32_t below = WR__NONE;
    for (; g != outer; g = p->group[g].parent)
        below = g;
    return below;
}

/* The innermost group that holds both. */
static uint32_t common_group(const wr__picture *p, uint32_t a, uint32_t b) {
    while (!wr__group_within(p, b, a))
        a = p->group[a].parent;
    return a;
}

/* Is another group drawn in its place, or in the place of one around it? */
static bool is_folded(const wr__picture *p, uint32_t g) {
    while (g != WR__NONE && p->group[g].alike == g)
        g = p->group[g].parent;
    return g != WR__NONE;
}

/* Are the nodes' groups in two different children of `common` that are drawn as one? */
static bool crosses_repeat(const wr__picture *p, uint32_t common, uint32_t a, uint32_t b) {
    uint32_t x = child_towards(p, common, a), y = child_towards(p, common, b);
    return x != WR__NONE && y != WR__NONE && x != y && p->group[x].alike == p->group[y].alike;
}

static bool add_edge(wr__picture *p, uint32_t tensor, uint32_t reader) {
    uint32_t from = p->cell_of[tensor], to = p->cell_of[reader];
    uint32_t a = p->group_of[tensor], b = p->group_of[reader], common = common_group(p, a, b);
    if (is_folded(p, common)) return true; /* the alike group has this edge too */
    bool next = crosses_repeat(p, common, a, b);
    if (from == to && (!next || p->cell[from].is_group)) return true;
    if (!p->cell[from].inside && !p->cell[to].inside) return true;
    if (!wr_grow(&p->edge, &p->cap_edges, p->n_edges + 1, sizeof *p->edge)) return false;
    p->edge[p->n_edges++] =
        (wr__edge){.from = from, .to = to, .next = next, .tensor = p->same[tensor]};
    p->cell[from].drawn = p->cell[to].drawn = true;
    return true;
}

static int by_cells(const void *left, const void *right) {
    const wr__edge *a = left, *b = right;
    if (a->from != b->from) return a->from < b->from ? -1 : 1;
    if (a->to != b->to) return a->to < b->to ? -1 : 1;
    if (a->next != b->next) return a->next ? 1 : -1;
    if (a->told != b->told) return a->told ? 1 : -1;
    return a->tensor < b->tensor ? -1 : a->tensor > b->tensor;
}

static bool make_edges(wr__picture *p) {
    for (uint32_t id = 1; id < p->n_nodes; id++) {
        const wr_node *x = wr_node_at(p->g, id);
        if (!p->drawn[id] || x->op == &wr_op_output) continue;
        for (int k = 0; k < x->n_in; k++) {
            uint32_t tensor = wr_node_inputs(p->g, id)[k];
            if (tensor == 0 || !p->drawn[tensor]) continue;
            if (p->cell_of[tensor] != p->cell_of[id]) p->cell[p->cell_of[tensor]].is_result = false;
            if (!add_edge(p, tensor, id)) return false;
        }
    }
    return true;
}

/* ---- the picture ---- */

static bool allocate(wr__picture *p) {
    size_t n = p->n_nodes;
    p->drawn = calloc(n, sizeof *p->drawn);
    p->group_of = calloc(n, sizeof *p->group_of);
    p->pos = calloc(n, sizeof *p->pos);
    p->same = calloc(n, sizeof *p->same);
    p->cell_of = calloc(n, sizeof *p->cell_of);
    p->order = calloc(n, sizeof *p->order);
    p->flops = calloc(n, sizeof *p->flops);
    p->bytes = calloc(n, sizeof *p->bytes);
    return p->drawn && p->group_of && p->pos && p->same && p->cell_of && p->order && p->flops &&
           p->bytes;
}

wr_status wr__picture_begin(wr__picture *p, const wr_graph *g, const wr_draw_options *o,
                            wr_error *err) {
    *p = (wr__picture){.g = g, .o = o, .n_nodes = wr_node_count(g)};
    scope_map scopes = {.n = 1};
    if (!allocate(p)) return wr_fail_memory(err, "a picture", p->n_nodes * sizeof(wr__cell));
    wr_status status = wr__picture_select(p, err);
    if (status != WR_OK) return status;
    bool ok = make_groups(p, &scopes);
    free(scopes.group[0]);
    free(scopes.group[1]);
    if (!ok) return wr_fail_memory(err, "a picture", p->n_nodes * sizeof(wr__cell));
    status = find_focus(p, err);
    if (status != WR_OK) return status;
    wr__picture_fold(p);
    open_groups(p);
    if (!make_cells(p) || !make_edges(p) || !wr__picture_sign(p))
        return wr_fail_memory(err, "a picture", p->n_nodes * sizeof(wr__cell));
    if (p->n_edges > 0) qsort(p->edge, p->n_edges, sizeof *p->edge, by_cells);
    return WR_OK;
}

void wr__picture_end(wr__picture *p) {
    free(p->drawn);
    free(p->group_of);
    free(p->pos);
    free(p->same);
    free(p->cell_of);
    free(p->order);
    free(p->flops);
    free(p->bytes);
    free(p->group);
    free(p->cell);
    free(p->edge);
    free(p->sign);
    free(p->gives);
    free(p->reads);
    *p = (wr__picture){0};
}
