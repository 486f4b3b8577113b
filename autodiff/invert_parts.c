/* invert_parts.c: nodes that become known part by part: slices, splits, every second channel. */
#include "autodiff/invert_internal.h"

#include "ops/elementwise.h"
#include "ops/slice.h"

#include <stdlib.h>

typedef struct wr__inverter inverter;

enum { PARTS_OF_A_NODE = 256 };

/* The parts of one node, in the order in which they are joined. */
typedef struct tiling {
    const wr__part *part[PARTS_OF_A_NODE];
    int n;
    wr_dim size;
} tiling;

static void collect(const inverter *v, uint32_t node, tiling *t) {
    t->n = 0;
    for (size_t i = 0; i < v->n_parts && t->n < PARTS_OF_A_NODE; i++)
        if (v->part[i].node == node) t->part[t->n++] = &v->part[i];
    t->size = wr_dim_of((wr){v->g, node}, t->part[0]->axis);
}

static void swap(tiling *t, int a, int b) {
    const wr__part *p = t->part[a];
    t->part[a] = t->part[b];
    t->part[b] = p;
}

/* One after the other from 0 to the end of the axis? Sorts the parts so. */
static bool is_chain(const inverter *v, tiling *t) {
    wr_dim at = wr_n(0);
    for (int i = 0; i < t->n; i++) {
        int next = i;
        while (next < t->n &&
               !(t->part[next]->step == 1 && wr_dim_eq(v->g, t->part[next]->start, at)))
            next++;
        if (next == t->n) return false;
        swap(t, i, next);
        at = wr_dim_add(v->g, at, t->part[i]->count);
    }
    return wr_dim_eq(v->g, at, t->size);
}

/* Positions k, n + k, 2 n + k, .. for k = 0 .. n - 1? Sorts the parts so. */
static bool is_interleaved(const inverter *v, tiling *t) {
    wr_dim count = wr_dim_div(v->g, t->size, wr_n(t->n));
    for (int i = 0; i < t->n; i++) {
        int next = i;
        while (next < t->n && !wr_dim_same(t->part[next]->start, wr_n(i)))
            next++;
        if (next == t->n || count.id == 0) return false;
        swap(t, i, next);
        if (t->part[i]->step != t->n || !wr_dim_eq(v->g, t->part[i]->count, count)) return false;
    }
    return true;
}

static bool is_literal(const wr__part *p) {
    return wr_dim_is_literal(p->start) && wr_dim_is_literal(p->count);
}

/* How many positions of a literal axis the parts hold; -1 when one is held twice. */
static int64_t count_positions(const tiling *t, int64_t size) {
    bool *seen = calloc((size_t)size + 1, sizeof *seen);
    int64_t n = 0;
    for (int i = 0; seen != NULL && i < t->n && n >= 0; i++) {
        int64_t at = wr_dim_literal(t->part[i]->start), left = wr_dim_literal(t->part[i]->count);
        for (; left > 0 && n >= 0; left--, at += t->part[i]->step) {
            n = at < size && !seen[at] ? n + 1 : -1;
            if (at < size) seen[at] = true;
        }
    }
    free(seen);
    return n;
}

static int64_t literal_positions(const tiling *t) {
    bool literal = wr_dim_is_literal(t->size);
    for (int i = 0; i < t->n; i++)
        literal = literal && is_literal(t->part[i]);
    return literal ? count_positions(t, wr_dim_literal(t->size)) : 0;
}

static wr join(inverter *v, const tiling *t, bool chain, bool interleaved) {
    wr value[PARTS_OF_A_NODE], sum = {v->g, 0};
    int axis = t->part[0]->axis;
    for (int i = 0; i < t->n; i++)
        value[i] = (wr){v->g, t->part[i]->value};
    if (chain) return wr_concat_n(axis, t->n, value);
    if (interleaved) return wr_interleave_n(axis, t->n, value);
    for (int i = 0; i < t->n; i++) {
        wr placed = wr_place(value[i], axis, t->size, t->part[i]->start, t->part[i]->step);
        sum = i == 0 ? placed : wr_add(sum, placed);
    }
    return sum;
}

static bool overlap(inverter *v, uint32_t node) {
    wr_str s = {0};
    wr_node_describe(v->g, node, &s);
    wr_mistake(v->g, v->loc,
               "not a bijection: elements are determined twice, by overlapping slices of\n  %s",
               wr_str_text(&s));
    wr_str_free(&s);
    return v->ok = false;
}

bool wr__parts_add(inverter *v, const wr__part *p) {
    if (v->how[p->node] != WR__UNKNOWN) {
        wr none = {v->g, p->value};
        return wr__inverse_learn(v, p->node, none, WR__SOLVED); /* tells that it is known twice */
    }
    if (!wr_grow(&v->part, &v->cap_parts, v->n_parts + 1, sizeof *v->part)) {
        wr_no_memory(v->g);
        return v->ok = false;
    }
    v->part[v->n_parts++] = *p;
    tiling t = {.part = {p}};
    collect(v, p->node, &t);
    for (int i = 1; i < t.n; i++)
        if (t.part[i]->axis != t.part[0]->axis) return true; /* told at the end: not determined */
    int64_t literal = literal_positions(&t);
    if (literal < 0) return overlap(v, p->node);
    bool chain = is_chain(v, &t), interleaved = !chain && is_interleaved(v, &t);
    bool whole = wr_dim_is_literal(t.size) && literal == wr_dim_literal(t.size);
    if (chain || interleaved || whole)
        return wr__inverse_learn(v, p->node, join(v, &t, chain, interleaved), WR__JOINED);
    wr__inverse_forward_users(v, p->node);
    return v->ok;
}

wr wr__parts_slice(inverter *v, uint32_t slice) {
    const wr_attr *attr = wr_node_attrs(v->g, slice);
    uint32_t node = wr_node_inputs(v->g, slice)[0];
    int axis = (int)attr[0].i;
    wr_dim start = attr[1].d, count = attr[2].d;
    for (size_t i = 0; attr[3].i == 1 && i < v->n_parts; i++) {
        const wr__part *p = &v->part[i];
        if (p->node != node || p->axis != axis || p->step != 1 || !is_literal(p)) continue;
        if (!wr_dim_is_literal(start) || !wr_dim_is_literal(count)) continue;
        int64_t from = wr_dim_literal(start) - wr_dim_literal(p->start), n = wr_dim_literal(count);
        if (from < 0 || from + n > wr_dim_literal(p->count)) continue;
        if (v->in_place) return (wr){v->g, slice};
        wr whole = {v->g, p->value};
        return wr_slice_dims(whole, axis, wr_n(from), wr_n(n), 1);
    }
    return (wr){v->g, 0};
}
