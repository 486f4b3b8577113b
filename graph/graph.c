/* graph.c: the append-only, hash-consed node array; scopes; reading. See graph.h. */
#include "graph/graph_internal.h"
#include "graph/streams.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
} DTYPES[WR_DTYPE_COUNT] = {[WR_F32] = {"f32", 4}, [WR_F64] = {"f64", 8}, [WR_I32] = {"i32", 4}};

size_t wr_dtype_bytes(wr_dtype t) { return DTYPES[t].bytes; }
const char *wr_dtype_name(wr_dtype t) { return DTYPES[t].name; }

int wr_op_outputs(const wr_op *op) { return op->n_out > 0 ? op->n_out : 1; }

int wr_op_attr_count(const wr_op *op) {
    int n = 0;
    while (op->attrs[n].name != NULL)
        n++;
    return n;
}

/* ---- life ---- */

static wr_graph *graph_over(wr__shared *shared) {
    wr_graph *g = calloc(1, sizeof *g);
    if (g == NULL || !wr_grow(&g->node, &g->cap, 64, sizeof *g->node) ||
        !wr_grow(&g->hash, &g->cap_hash, 64, sizeof *g->hash)) {
        if (g != NULL) free(g->node);
        free(g);
        return NULL;
    }
    g->node[0] = (wr_node){0};
    g->n = 1;
    g->shared = shared;
    return g;
}

wr_graph *wr_graph_new(void) {
    wr__shared *shared = wr__shared_new();
    wr_graph *g = shared == NULL ? NULL : graph_over(shared);
    if (g == NULL) wr__shared_release(shared);
    if (g != NULL && (g->tracer = wr__tracer_new()) == NULL) {
        wr_graph_free(g);
        g = NULL;
    }
    return g;
}

wr_graph *wr_graph_like(const wr_graph *g) {
    wr_graph *copy = graph_over(g->shared);
    if (copy != NULL) g->shared->refs++;
    return copy;
}

void wr_graph_free(wr_graph *g) {
    if (g == NULL) return;
    wr__shared_release(g->shared);
    for (size_t i = 0; i < g->n_diag; i++)
        free(g->diag[i]);
    free(g->diag);
    free(g->node);
    free(g->edge);
    free(g->attr);
    free(g->slot);
    free(g->hash);
    free(g->rebuilt);
    wr__tracer_free(g->tracer);
    free(g);
}

/* ---- adding nodes ---- */

static uint64_t node_hash(const wr__made *m, int n_attr) {
    struct {
        const wr_op *op;
        wr_type type;
        uint32_t role_apart;
    } key;
    memset(&key, 0, sizeof key);
    key.op = m->op;
    key.role_apart = m->role == WR_RECOMPUTED; /* or it would be merged with what it spares */
    key.type.dtype = m->type[0].dtype;
    key.type.rank = m->type[0].rank;
    for (int i = 0; i < m->type[0].rank; i++)
        key.type.dim[i] = m->type[0].dim[i];
    uint64_t h = wr__hash(&key, sizeof key, 0);
    h = wr__hash(m->in, sizeof *m->in * (size_t)m->n_in, h);
    return wr__hash(m->attr, sizeof *m->attr * (size_t)n_attr, h);
}

static bool node_equal(const wr_graph *g, uint32_t id, const wr__made *m, int n_attr) {
    const wr_node *x = &g->node[id];
    const wr_type *t = &m->type[0];
    bool apart = (x->role == WR_RECOMPUTED) != (m->role == WR_RECOMPUTED);
    return !apart && x->op == m->op && x->n_in == m->n_in && x->dtype == t->dtype &&
           x->rank == t->rank && memcmp(x->dim, t->dim, sizeof(wr_dim) * (size_t)t->rank) == 0 &&
           (m->n_in == 0 || m->in == NULL ||
            memcmp(&g->edge[x->in], m->in, sizeof *m->in * (size_t)m->n_in) == 0) &&
           (n_attr == 0 || m->attr == NULL ||
            memcmp(&g->attr[x->attr], m->attr, sizeof *m->attr * (size_t)n_attr) == 0);
}

static bool grow_node_slots(wr_graph *g) {
    size_t slots = g->slots == 0 ? 256 : g->slots * 2;
    uint32_t *slot = calloc(slots, sizeof *slot);
    if (slot == NULL) return false;
    for (size_t i = 0; i < g->slots; i++) {
        if (g->slot[i] == 0) continue;
        size_t at = g->hash[g->slot[i]] & (slots - 1);
        while (slot[at] != 0)
            at = (at + 1) & (slots - 1);
        slot[at] = g->slot[i];
    }
    free(g->slot);
    g->slot = slot;
    g->slots = slots;
    return true;
}

static uint32_t loc_id(wr_graph *g, wr_loc loc) {
    wr__place clean;
    memset(&clean, 0, sizeof clean); /* the padding is part of the interned bytes */
    clean.loc.file = loc.file;
    clean.loc.line = loc.line;
    clean.loc.func = loc.func;
    clean.trace = wr__trace_record(g, &loc);
    return wr__intern(&g->shared->bytes, &clean, sizeof clean);
}

static bool reserve(wr_graph *g, const wr__made *m, int n_attr, int n_out) {
    size_t n = g->n + (size_t)n_out;
    return wr_grow(&g->node, &g->cap, n, sizeof *g->node) &&
           wr_grow(&g->hash, &g->cap_hash, n, sizeof *g->hash) &&
           wr_grow(&g->edge, &g->cap_edges, g->n_edges + (size_t)m->n_in + (size_t)n_out,
                   sizeof *g->edge) &&
           wr_grow(&g->attr, &g->cap_attrs, g->n_attrs + (size_t)n_attr + (size_t)n_out,
                   sizeof *g->attr);
}

static void fill_type(wr_node *x, const wr_type *t) {
    x->dtype = (uint8_t)t->dtype;
    x->rank = (uint8_t)t->rank;
    memcpy(x->dim, t->dim, sizeof(wr_dim) * (size_t)t->rank);
}

/* The output nodes 1.. of a node with several outputs. */
static void append_outputs(wr_graph *g, uint32_t first, const wr__made *m, int n_out) {
    for (int k = 1; k < n_out; k++) {
        wr_node x = g->node[first];
        x.op = &wr_op_output;
        x.in = (uint32_t)g->n_edges;
        x.n_in = 1;
        x.n_out = 1;
        x.attr = (uint32_t)g->n_attrs;
        x.name = 0;
        fill_type(&x, &m->type[k]);
        g->edge[g->n_edges++] = first;
        g->attr[g->n_attrs++] = (wr_attr){.i = k};
        g->hash[g->n] = 0;
        g->node[g->n++] = x;
    }
}

static uint32_t append(wr_graph *g, const wr__made *m, int n_attr, uint64_t hash) {
    int n_out = m->n_out != 0 ? m->n_out : wr_op_outputs(m->op);
    uint32_t loc = m->loc_id != 0 ? m->loc_id : loc_id(g, m->loc);
    if (loc == 0 || !reserve(g, m, n_attr, n_out)) return 0;
    WR_ASSERT(n_attr == 0 || (g->attr != NULL && m->attr != NULL));
    uint32_t id = (uint32_t)g->n;
    wr_node x = {.op = m->op,
                 .in = (uint32_t)g->n_edges,
                 .attr = (uint32_t)g->n_attrs,
                 .name = m->name,
                 .scope = m->scope,
                 .loc = loc,
                 .origin = m->origin,
                 .n_in = (uint16_t)m->n_in,
                 .n_out = (uint8_t)n_out,
                 .role = (uint8_t)m->role};
    fill_type(&x, &m->type[0]);
    for (int i = 0; i < m->n_in; i++)
        g->edge[g->n_edges++] = m->in[i];
    for (int i = 0; i < n_attr; i++)
        g->attr[g->n_attrs++] = m->attr[i];
    g->hash[id] = hash;
    g->node[g->n++] = x;
    append_outputs(g, id, m, n_out);
    return id;
}

uint32_t wr__node_add(wr_graph *g, const wr__made *m) {
    int n_attr = wr_op_attr_count(m->op);
    uint64_t hash = node_hash(m, n_attr);
    if (m->unique) return append(g, m, n_attr, hash);
    if (g->n * 2 >= g->slots && !grow_node_slots(g)) return 0;
    size_t at = hash & (g->slots - 1);
    for (; g->slot[at] != 0; at = (at + 1) & (g->slots - 1))
        if (g->hash[g->slot[at]] == hash && node_equal(g, g->slot[at], m, n_attr))
            return g->slot[at];
    uint32_t id = append(g, m, n_attr, hash);
    if (id != 0) g->slot[at] = id;
    return id;
}

uint32_t wr__node_copy(wr_graph *g, const wr_graph *from, uint32_t id, const uint32_t *in,
                       bool unique) {
    const wr_node *x = &from->node[id];
    wr_type type[WR_MAX_OUTPUTS];
    wr_attr attr[WR_MAX_ATTRS]; /* apart: `g` may be `from`, whose arrays then grow */
    int n_attr = wr_op_attr_count(x->op);
    WR_ASSERT(x->n_out >= 1);
    if (n_attr > 0) memcpy(attr, &from->attr[x->attr], sizeof *attr * (size_t)n_attr);
    for (int k = 0; k < x->n_out; k++)
        type[k] = wr_type_of((wr){(wr_graph *)(uintptr_t)from, id + (uint32_t)k});
    wr__made m = {.op = x->op,
                  .name = x->name,
                  .scope = x->scope,
                  .loc_id = x->loc,
                  .origin = x->origin,
                  .role = (wr_role)x->role,
                  .n_in = x->n_in,
                  .in = in,
                  .attr = attr,
                  .type = type,
                  .n_out = x->n_out,
                  .unique = unique || (x->op->traits & WR_STATEFUL)};
    return wr__node_add(g, &m);
}

/* ---- reading ---- */

wr_type wr_type_of(wr x) {
    wr_type t = {0};
    if (x.id == 0 || x.g == NULL) return t;
    const wr_node *n = &x.g->node[x.id];
    t.dtype = (wr_dtype)n->dtype;
    t.rank = n->rank;
    memcpy(t.dim, n->dim, sizeof(wr_dim) * n->rank);
    return t;
}

int wr_rank(wr x) { return x.id == 0 ? 0 : x.g->node[x.id].rank; }
wr_dtype wr_dtype_of(wr x) { return x.id == 0 ? WR_F32 : (wr_dtype)x.g->node[x.id].dtype; }

wr_dim wr_dim_of(wr x, int axis) {
    if (x.id == 0) return (wr_dim){0};
    const wr_node *n = &x.g->node[x.id];
    if (axis < 0) axis += n->rank;
    return axis < 0 || axis >= n->rank ? (wr_dim){0} : n->dim[axis];
}

uint32_t wr_node_count(const wr_graph *g) { return (uint32_t)g->n; }
const wr_node *wr_node_at(const wr_graph *g, uint32_t id) { return &g->node[id]; }
const uint32_t *wr_node_inputs(const wr_graph *g, uint32_t id) { return &g->edge[g->node[id].in]; }
const wr_attr *wr_node_attrs(const wr_graph *g, uint32_t id) { return &g->attr[g->node[id].attr]; }
wr_dims *wr_graph_dims(const wr_graph *g) { return g->shared->dims; }

const char *wr_text_at(const wr_graph *g, uint32_t text) {
    const char *bytes = g->shared->bytes.item[text].bytes;
    return bytes == NULL ? "" : bytes;
}

const void *wr_blob_at(const wr_graph *g, uint32_t blob, size_t *bytes) {
    if (bytes != NULL) *bytes = g->shared->bytes.item[blob].n;
    return g->shared->bytes.item[blob].bytes;
}

const wr__place *wr__place_at(const wr_graph *g, uint32_t loc) {
    return loc == 0 ? NULL : (const wr__place *)(const void *)g->shared->bytes.item[loc].bytes;
}

const wr_loc *wr_loc_at(const wr_graph *g, uint32_t loc) {
    static const wr_loc nowhere = {"?", 0, "?"};
    const wr__place *place = wr__place_at(g, loc);
    return place == NULL ? &nowhere : &place->loc;
}

uint32_t wr_text_intern(wr_graph *g, const char *text) {
    return wr_blob_intern(g, text, strlen(text));
}

uint32_t wr_blob_intern(wr_graph *g, const void *data, size_t bytes) {
    uint32_t id = wr__intern(&g->shared->bytes, data, bytes);
    if (id == 0 && bytes > 0) wr__out_of_memory(g);
    return id;
}

int64_t wr_next_stream(wr_graph *g) { return ++g->shared->next_stream; }

int64_t wr_streams_now(const wr_graph *g) { return g->shared->next_stream; }

void wr_streams_replay(wr_graph *g, int64_t from) { g->shared->next_stream = from; }

/* ---- dims ---- */

wr_dim wr_dim_add(wr_graph *g, wr_dim a, wr_dim b) { return wr_dims_add(g->shared->dims, a, b); }
wr_dim wr_dim_sub(wr_graph *g, wr_dim a, wr_dim b) { return wr_dims_sub(g->shared->dims, a, b); }
wr_dim wr_dim_mul(wr_graph *g, wr_dim a, wr_dim b) { return wr_dims_mul(g->shared->dims, a, b); }
wr_dim wr_dim_div(wr_graph *g, wr_dim a, wr_dim b) { return wr_dims_div(g->shared->dims, a, b); }

bool wr_dim_eq(const wr_graph *g, wr_dim a, wr_dim b) {
    if (wr_dim_same(a, b)) return true;
    int64_t amin, amax, bmin, bmax;
    wr_dims_range(g->shared->dims, a, &amin, &amax);
    wr_dims_range(g->shared->dims, b, &bmin, &bmax);
    return amin == amax && bmin == bmax && amin == bmin;
}

/* ---- names, scopes, derivations ---- */

wr wr_named(wr x, const char *fmt, ...) {
    if (x.id == 0 || x.g->node[x.id].name != 0) return x;
    char text[128];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    x.g->node[x.id].name = wr_text_intern(x.g, text);
    return x;
}

static void scope_enter(wr_graph *g, const char *fmt, va_list args) {
    char text[128];
    vsnprintf(text, sizeof text, fmt, args);
    uint32_t child = wr__scope_child(g->shared, g->scope, text);
    if (child == UINT32_MAX)
        wr__out_of_memory(g); /* stays in the parent; the pop then leaves one level too many */
    else
        g->scope = child;
}

void wr_scope_push(wr_graph *g, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    scope_enter(g, fmt, args);
    va_end(args);
}

void wr_scope_pop(wr_graph *g) { g->scope = g->shared->scope[g->scope].parent; }

wr__scope_guard wr__scope_enter(wr_graph *g, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    scope_enter(g, fmt, args);
    va_end(args);
    return (wr__scope_guard){.g = g};
}

void wr__scope_leave(wr__scope_guard *guard) { wr_scope_pop(guard->g); }

void wr_scope_recompute(wr_graph *g) { g->shared->scope[g->scope].recompute = true; }

void wr_scope_recompute_all(wr_graph *g) {
    wr_scope_recompute(g);
    g->shared->scope[g->scope].results_too = true;
}

uint32_t wr_scope_parent(const wr_graph *g, uint32_t scope) {
    return g->shared->scope[scope].parent;
}

const char *wr_scope_name(const wr_graph *g, uint32_t scope) {
    return wr_text_at(g, g->shared->scope[scope].name);
}

bool wr_scope_results_recomputed(const wr_graph *g, uint32_t scope) {
    return g->shared->scope[scope].results_too;
}

bool wr_scope_is_recomputed(const wr_graph *g, uint32_t scope) {
    for (; scope != 0; scope = g->shared->scope[scope].parent)
        if (g->shared->scope[scope].recompute) return true;
    return false;
}

void wr_scope_path(const wr_graph *g, uint32_t scope, wr_str *out) {
    if (scope == 0) return;
    uint32_t parent = g->shared->scope[scope].parent;
    wr_scope_path(g, parent, out);
    wr_str_add(out, "%s%s", parent == 0 ? "" : ".", wr_scope_name(g, scope));
}

wr_derivation wr_derive_begin(wr_graph *g, uint32_t origin, wr_role role) {
    wr_derivation before = g->derivation;
    g->derivation = (wr_derivation){.origin = origin, .role = role};
    return before;
}

void wr_derive_end(wr_graph *g, wr_derivation before) { g->derivation = before; }
