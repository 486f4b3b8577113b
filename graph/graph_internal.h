/* graph_internal.h: the graph's fields, for the sources of graph/ only. */
#ifndef WEIR_GRAPH_INTERNAL_H
#define WEIR_GRAPH_INTERNAL_H

#include "graph/intern.h"
#include "graph/op.h"

struct wr_graph {
    wr__shared *shared;
    wr_node *node; /* node[0] is poison */
    size_t n, cap;
    uint32_t *edge;
    size_t n_edges, cap_edges;
    wr_attr *attr;
    size_t n_attrs, cap_attrs;
    uint32_t *slot; /* hash-cons table, open addressing, 0 is empty */
    uint64_t *hash; /* per node */
    size_t slots, cap_hash;
    char **diag;
    size_t n_diag, cap_diag;
    bool out_of_memory;
    uint32_t scope; /* where new nodes go */
    wr_derivation derivation;
    struct wr__tracer *tracer; /* NULL: no traces are recorded */
    uint32_t *rebuilt;         /* per node: what the backward part reads instead, 0: nothing else */
    size_t n_rebuilt;
};

/* What a node is made of; inputs and attributes are copied. */
typedef struct wr__made {
    const wr_op *op;
    wr_loc loc;
    uint32_t name, scope, loc_id; /* loc_id != 0 wins over loc */
    uint32_t origin;
    wr_role role;
    int n_in;
    const uint32_t *in;
    const wr_attr *attr;
    const wr_type *type; /* one per output */
    int n_out;           /* 0: as the row says */
    bool unique;         /* never the same as another */
} wr__made;

/* Append the node with its output nodes, or find the equal one. 0 when memory is out. */
uint32_t wr__node_add(wr_graph *g, const wr__made *m);
/* Copy node `id` of `from` with inputs already mapped. `unique` keeps it apart from equal nodes. */
uint32_t wr__node_copy(wr_graph *g, const wr_graph *from, uint32_t id, const uint32_t *in,
                       bool unique);
/* recompute.c: is there anything that the backward part makes again? */
bool wr__is_any_recomputed(const wr_graph *g);
/* The lines of a mistake's operands: `  a "dec.h" f32 [B, T]  from models/x.c:12 tanh`. */
void wr__operands_print(const wr_graph *g, int n, const uint32_t *ids, wr_str *out);
/* Record a diagnostic (copied). */
void wr__diagnose(wr_graph *g, const wr_str *text);
void wr__out_of_memory(wr_graph *g);

/* ---- traces (trace.c, trace_print.c) ---- */

/* What a node's `loc` refers to, interned: the source line, and the stack of its callers as
 * interned program counters (0: not recorded). Copies and derived nodes keep it by keeping `loc`.
 */
typedef struct wr__place {
    wr_loc loc;
    uint32_t trace;
} wr__place;
const wr__place *wr__place_at(const wr_graph *g, uint32_t loc); /* NULL: none */

typedef struct wr__tracer wr__tracer;
typedef struct wr__symbols wr__symbols;
wr__tracer *wr__tracer_new(void);
void wr__tracer_free(wr__tracer *t);
void wr__symbols_free(wr__symbols *s);
/* The present stack, interned; 0: traces are off, or memory is out. */
uint32_t wr__trace_record(wr_graph *g, const wr_loc *loc);
/* Append "  called from f file:line <- ..." for the present call stack, from the caller of the
 * user's function `loc` on, where a tracer is built in. */
void wr__trace_append(wr_graph *g, wr_loc loc, wr_str *out);

#endif
