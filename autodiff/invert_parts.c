/* invert_parts.c: nodes that become known part by part: slices, splits, every second channel.
 *
 * The parts of a node hang on a list. Only when together they hold as many positions as the axis
 * has (one sum per part) is it looked at how they lie. */
#include "autodiff/invert_internal.h"

#include "ops/elementwise.h"
#include "ops/slice.h"

#include <stdlib.h>

typedef struct wr__inverter inverter;

/* The parts of one node, in the order in which they are joined. */
typedef struct tiling {
    const wr__part **part;
    int n;
    wr_dim size;
} tiling;

static const wr__part *newest(const inverter *v, uint32_t node) {
    return v->parts_of[node] == 0 ? NULL : &v->part[v->parts_of[node] - 1];
}
static const wr__part *before(const inverter *v, const wr__part *p) {
    return p->next == 0 ? NULL : &v->part[p->next - 1];
}

static bool collect(inverter *v, uint32_t node, tiling *t) {
    *t = (tiling){.size = wr_dim_of((wr){v->g, node}, newest(v, node)->axis)};
    for (const wr__part *p = newest(v, node); p != NULL; p = before(v, p))
        t->n++;
    t->part = calloc((size_t)t->n, sizeof(const wr__part *));
    if (t->part == NULL) {
        wr_no_memory(v->g);
        return v->ok = false;
    }
    int i = t->n;
    for (const wr__part *p = newest(v, node); p != NULL; p = before(v, p))
        t->part[--i] = p;
    return true;
}

static void swap(tiling *t, int a, int b) {
    const wr__part *p = t->part[a];
    t->part[a] = t->part[b];
    t->part[b] = p;
}

static bool begins_at(const inverter *v, const wr__part *p, wr_dim at) {
    WR_ASSERT(p != NULL);
    return p->step == 1 && wr_dim_eq(v->g, p->start, at);
}

/* One after the other from 0 to the end of the axis? Sorts the parts so. */
static bool is_chain(const inverter *v, tiling *t) {
    wr_dim at = wr_n(0);
    for (int i = 0; i < t->n; i++) {
        int next = i;
        while (next < t->n && !begins_at(v, t->part[next], at))
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

/* Are all positions of a literal axis held once? */
static bool is_partition(const tiling *t) {
    if (!wr_dim_is_literal(t->size)) return false;
    int64_t size = wr_dim_literal(t->size), n = 0;
    bool *seen = calloc((size_t)size + 1, sizeof *seen), once = seen != NULL;
    for (int i = 0; once && i < t->n; i++) {
        once = is_literal(t->part[i]);
        int64_t at = wr_dim_literal(t->part[i]->start), left = wr_dim_literal(t->part[i]->count);
        for (; once && left > 0; left--, at += t->part[i]->step, n++) {
            once = at < size && !seen[at];
            if (once) seen[at] = true;
        }
    }
    free(seen);
    return once && n == size;
}

static wr join(inverter *v, const tiling *t, bool chain, bool interleaved) {
    wr *value = malloc(sizeof *value * (size_t)t->n), sum = {v->g, 0};
    int axis = t->part[0]->axis;
    if (value == NULL) return wr_no_memory(v->g);
    for (int i = 0; i < t->n; i++)
        value[i] = (wr){v->g, t->part[i]->value};
    if (chain) sum = wr_concat_n(axis, t->n, value);
    if (interleaved) sum = wr_interleave_n(axis, t->n, value);
    for (int i = 0; !chain && !interleaved && i < t->n; i++) {
        wr placed = wr_place(value[i], axis, t->size, t->part[i]->start, t->part[i]->step);
        sum = i == 0 ? placed : wr_add(sum, placed);
    }
    free(value);
    return sum;
}

/* There are as many positions as the axis has: do they tile it? */
static bool try_join(inverter *v, uint32_t node) {
    tiling t;
    if (!collect(v, node, &t)) return false;
    bool chain = is_chain(v, &t), interleaved = !chain && is_interleaved(v, &t);
    wr declared = {v->g, node};
    if (chain || interleaved || is_partition(&t))
        wr__inverse_learn(v, node, v->in_place ? declared : join(v, &t, chain, interleaved),
                          WR__JOINED);
    else
        wr__inverse_mistake(v, node, "elements are determined twice, by overlapping slices of",
                            NULL);
    free(t.part);
    return v->ok;
}

static bool append(inverter *v, const wr__part *p) {
    if (!wr_grow(&v->part, &v->cap_parts, v->n_parts + 1, sizeof *v->part)) {
        wr_no_memory(v->g);
        return v->ok = false;
    }
    wr_dim held = v->parts_of[p->node] == 0 ? wr_n(0) : v->held[p->node];
    v->held[p->node] = wr_dim_add(v->g, held, p->count);
    v->part[v->n_parts] = *p;
    v->part[v->n_parts].next = v->parts_of[p->node];
    v->parts_of[p->node] = (uint32_t)++v->n_parts;
    return true;
}

bool wr__parts_add(inverter *v, const wr__part *p) {
    if (v->how[p->node] != WR__UNKNOWN) {
        wr none = {v->g, p->value};
        return wr__inverse_learn(v, p->node, none, WR__SOLVED); /* tells that it is known twice */
    }
    const wr__part *other = newest(v, p->node);
    if (other != NULL && other->axis != p->axis)
        return wr__inverse_mistake(v, p->node, "slices along different axes overlap in", NULL);
    if (!append(v, p)) return false;
    wr_dim size = wr_dim_of((wr){v->g, p->node}, p->axis), held = v->held[p->node];
    if (wr_dim_eq(v->g, held, size)) return try_join(v, p->node);
    if (wr_dim_is_literal(size) && wr_dim_is_literal(held) &&
        wr_dim_literal(held) > wr_dim_literal(size))
        return wr__inverse_mistake(v, p->node,
                                   "elements are determined twice, by overlapping "
                                   "slices of",
                                   NULL);
    wr__inverse_forward_users(v, p->node);
    return v->ok;
}

/* Where the positions start, start + 1, .. of a slice lie within a part; -1: not in it. */
static int64_t offset_in(const wr__part *p, wr_dim start, wr_dim count) {
    if (p->step != 1 || !is_literal(p)) return -1;
    int64_t from = wr_dim_literal(start) - wr_dim_literal(p->start);
    return from >= 0 && from + wr_dim_literal(count) <= wr_dim_literal(p->count) ? from : -1;
}

wr wr__parts_slice(inverter *v, uint32_t slice) {
    const wr_attr *attr = wr_node_attrs(v->g, slice);
    uint32_t node = wr_node_inputs(v->g, slice)[0];
    int axis = (int)attr[0].i;
    wr_dim start = attr[1].d, count = attr[2].d;
    bool simple = attr[3].i == 1 && wr_dim_is_literal(start) && wr_dim_is_literal(count);
    for (const wr__part *p = newest(v, node); simple && p != NULL; p = before(v, p)) {
        int64_t from = p->axis == axis ? offset_in(p, start, count) : -1;
        if (from < 0) continue;
        if (v->in_place) return (wr){v->g, slice};
        wr whole = {v->g, p->value};
        return wr_slice_dims(whole, axis, wr_n(from), count, 1);
    }
    return (wr){v->g, 0};
}
