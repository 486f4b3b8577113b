/* fold.c: finds scopes that are built alike, so that one is drawn for all of them. */
#include "viz/picture.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ---- comparing ---- */

/* The part of a source's full name behind the path of the group's scope. */
static const char *name_in(const wr__picture *p, const wr__group *group, const char *name) {
    size_t skip = 0;
    for (uint32_t s = group->scope; s != 0; s = wr_scope_parent(p->g, s))
        skip += strlen(wr_scope_name(p->g, s)) + 1;
    return strlen(name) > skip ? name + skip : name;
}

/* Attribute `i` of two nodes of one op. A random stream is another one in each scope. */
static bool attrs_alike(const wr__picture *p, const wr__group *a, const wr__group *b, uint32_t x,
                        uint32_t y, int i) {
    const wr_op *op = wr_node_at(p->g, x)->op;
    const wr_attr_field *field = &op->attrs[i];
    wr_attr left = wr_node_attrs(p->g, x)[i], right = wr_node_attrs(p->g, y)[i];
    switch (field->kind) {
    case WR_ATTR_INT:
    case WR_ATTR_BOOL:
        return left.i == right.i || strcmp(field->name, "stream") == 0;
    case WR_ATTR_REAL:
        return left.r == right.r;
    case WR_ATTR_DIM:
        return wr_dim_same(left.d, right.d);
    case WR_ATTR_BLOB:
        return left.blob == right.blob;
    case WR_ATTR_TEXT:
        return left.text == right.text || strcmp(name_in(p, a, wr_text_at(p->g, left.text)),
                                                 name_in(p, b, wr_text_at(p->g, right.text))) == 0;
    }
    return false;
}

static bool types_alike(const wr_node *x, const wr_node *y) {
    return x->dtype == y->dtype && x->rank == y->rank &&
           memcmp(x->dim, y->dim, x->rank * sizeof x->dim[0]) == 0;
}

/* Operands inside the groups have the same place there; those outside have the same type. */
static bool operands_alike(const wr__picture *p, const wr__group *a, const wr__group *b, uint32_t x,
                           uint32_t y) {
    uint32_t n = wr_node_at(p->g, x)->n_in;
    for (uint32_t k = 0; k < n; k++) {
        uint32_t u = wr_node_inputs(p->g, x)[k], v = wr_node_inputs(p->g, y)[k];
        uint32_t at = p->pos[u] - a->first, bt = p->pos[v] - b->first;
        bool in_a = p->drawn[u] && at < a->n, in_b = p->drawn[v] && bt < b->n;
        if (in_a != in_b || (in_a && at != bt)) return false;
        if (!types_alike(wr_node_at(p->g, u), wr_node_at(p->g, v))) return false;
    }
    return true;
}

/* Do the nodes' groups have the same path inside a and b? */
static bool places_alike(const wr__picture *p, uint32_t a, uint32_t b, uint32_t x, uint32_t y) {
    uint32_t u = p->group_of[x], v = p->group_of[y];
    while (u != a && v != b) {
        const wr__group *left = &p->group[u], *right = &p->group[v];
        if (strcmp(wr_scope_name(p->g, left->scope), wr_scope_name(p->g, right->scope)) != 0)
            return false;
        u = left->parent;
        v = right->parent;
    }
    return u == a && v == b;
}

static bool nodes_alike(const wr__picture *p, uint32_t a, uint32_t b, uint32_t i) {
    const wr__group *left = &p->group[a], *right = &p->group[b];
    uint32_t x = p->order[left->first + i], y = p->order[right->first + i];
    const wr_node *n = wr_node_at(p->g, x), *m = wr_node_at(p->g, y);
    if (n->op != m->op || n->n_in != m->n_in || n->role != m->role || !types_alike(n, m))
        return false;
    for (int k = 0; n->op->attrs[k].name != NULL; k++)
        if (!attrs_alike(p, left, right, x, y, k)) return false;
    return places_alike(p, a, b, x, y) && operands_alike(p, left, right, x, y);
}

static bool groups_alike(const wr__picture *p, uint32_t a, uint32_t b) {
    if (p->group[a].n != p->group[b].n) return false;
    for (uint32_t i = 0; i < p->group[a].n; i++)
        if (!nodes_alike(p, a, b, i)) return false;
    return true;
}

/* ---- runs of numbered names ---- */

/* "layer12": the length of "layer", and 12. False when there is no number of at most 9 digits. */
static bool split_name(const char *name, size_t *stem, long *number) {
    size_t n = strlen(name), at = n;
    while (at > 0 && isdigit((unsigned char)name[at - 1]))
        at--;
    if (at == n || n - at > 9) return false;
    *stem = at;
    *number = strtol(name + at, NULL, 10);
    return true;
}

/* The next sibling of `end` when it has rep's stem and that number and is alike. Only neighbours
 * are drawn as one: what stands between two others would have arrows into their box and out of it.
 */
static uint32_t find_member(const wr__picture *p, uint32_t rep, uint32_t end, size_t stem,
                            long number) {
    const char *name = wr_scope_name(p->g, p->group[rep].scope);
    uint32_t c = p->group[end].sibling;
    if (c == WR__NONE || p->group[c].derived != p->group[rep].derived) return WR__NONE;
    const char *other = wr_scope_name(p->g, p->group[c].scope);
    size_t other_stem;
    long other_number;
    if (!split_name(other, &other_stem, &other_number)) return WR__NONE;
    if (other_number != number || other_stem != stem || memcmp(name, other, stem) != 0)
        return WR__NONE;
    return groups_alike(p, rep, c) ? c : WR__NONE;
}

static void fold_into(wr__picture *p, uint32_t rep, uint32_t member) {
    const wr__group *r = &p->group[rep], *m = &p->group[member];
    for (uint32_t i = 0; i < m->n; i++)
        p->same[p->order[m->first + i]] = p->order[r->first + i];
    p->group[member].alike = rep;
    p->group[rep].repeats++;
}

/* Fold what follows `rep` in its numbering: up, or down, as gradients come in falling order. */
static void fold_run(wr__picture *p, uint32_t rep) {
    size_t stem;
    long number;
    if (!split_name(wr_scope_name(p->g, p->group[rep].scope), &stem, &number)) return;
    for (long step = 1; step >= -1 && p->group[rep].repeats == 1; step -= 2) {
        uint32_t end = rep, member;
        for (long k = number + step; k >= 0; k += step) {
            member = find_member(p, rep, end, stem, k);
            if (member == WR__NONE) break;
            fold_into(p, rep, member);
            end = member;
        }
        *(step > 0 ? &p->group[rep].high : &p->group[rep].low) = end;
    }
}

/* Go through the children of a group that is drawn, then through theirs. */
static void fold_children(wr__picture *p, uint32_t parent) {
    for (uint32_t c = p->group[parent].child; c != WR__NONE; c = p->group[c].sibling) {
        if (p->group[c].alike != c) continue;
        fold_run(p, c);
        fold_children(p, c);
    }
}

void wr__picture_fold(wr__picture *p) {
    if (!p->o->every_repeat && p->focus != WR__NONE) fold_children(p, p->focus);
    if (!p->o->every_repeat && p->derived_focus != WR__NONE) fold_children(p, p->derived_focus);
    for (uint32_t i = 0; i < p->n_order; i++) {
        uint32_t x = p->order[i];
        while (p->same[x] != x)
            x = p->same[x];
        p->same[p->order[i]] = x;
    }
}
