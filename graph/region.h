/* region.h: pieces of a graph: what lies between some nodes and others, copied with new values, or
 * made a graph of its own (the body of a loop). */
#ifndef WEIR_REGION_H
#define WEIR_REGION_H

#include "graph/graph.h"

/* The part of `g` between `from` and `to`: nodes that depend on a node of `from` and that a node of
 * `to` depends on. */
typedef struct wr_region {
    const wr_graph *g;
    int n_from, n_to;
    const wr *from, *to;
    uint32_t n;       /* nodes of g when the region was found */
    bool *varies;     /* per node: depends on `from` (which themselves do) */
    bool *live;       /* per node: `to` depends on it through nodes that vary */
    uint32_t *border; /* live nodes that do not vary, ascending: what the region reads besides */
    int n_border;
} wr_region;

/* False when memory is out (the graph is told). Both arrays of handles must outlive the region. */
bool wr_region_find(wr_graph *g, int n_from, const wr *from, int n_to, const wr *to, wr_region *r);
void wr_region_free(wr_region *r);

/* outs[k] = r->to[k] with from[i] replaced by values[i], and border[i] by border_values[i] (NULL:
 * as they are), of the same types, in the same graph. */
bool wr_region_paste(const wr_region *r, const wr *values, const wr *border_values, wr *outs);

/* A graph of its own that keeps no reference to `g`: inputs "0", "1", .. for `from`, then for the
 * border; constants are copied and are no input. `inputs` (n_from + n_border) gets their ids, 0 for
 * a copied constant; `outs` (n_to) gets the ids of what `to` became. NULL when memory is out. */
wr_graph *wr_region_extract(const wr_region *r, uint32_t *inputs, uint32_t *outs);

/* The opposite: `outs` are nodes `ids` of `body` made again in `g`, where input inputs[i] of the
 * body is values[i] (of the same type). */
bool wr_body_paste(wr_graph *g, const wr_graph *body, int n_in, const uint32_t *inputs,
                   const wr *values, int n_out, const uint32_t *ids, wr *outs);

/* Keep an object as long as any graph of this family lives; its number, -1 when memory is out (it
 * is then released). `references`: how many graphs of the family the object holds; so that they do
 * not keep the family, they count no longer. */
int wr_graph_keep(wr_graph *g, void *object, void (*release)(void *object), int references);
void *wr_graph_kept(const wr_graph *g, int64_t number);

#endif
