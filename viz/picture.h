/* picture.h: what is in a picture, before it becomes text. Internal to viz/.
 *
 * Nodes belong to groups, the scopes as a tree; derived nodes have a tree of their own beside it. A
 * cell is one box: a node of an open group, or a closed group. */
#ifndef WEIR_VIZ_PICTURE_H
#define WEIR_VIZ_PICTURE_H

#include "graph/op.h"
#include "viz/draw.h"

#define WR__NONE UINT32_MAX

/* A scope in the picture. Group 0 is the whole. */
typedef struct wr__group {
    uint32_t scope;
    uint32_t parent, child, last_child,
        sibling; /* WR__NONE: none; children in order of appearance */
    uint32_t preorder;
    uint32_t first, n; /* its nodes, with those of groups inside, in wr__picture.order */
    int depth;         /* the two trees' roots: 0 */
    bool derived, open;
    uint32_t alike;     /* the group that is drawn in its place; itself when it is drawn */
    uint32_t repeats;   /* so many groups alike are drawn as this one, itself included */
    uint32_t low, high; /* the run's groups with the smallest and largest number in their name */
    uint32_t closed;    /* the outermost closed group around it or itself; WR__NONE: none */
    uint32_t ops, derived_ops;
    double parameters, flops, bytes;      /* numbers of elements, operations, bytes */
    uint32_t cell, first_cell, last_cell; /* its own when closed; those in it when open */
} wr__group;

typedef struct wr__cell {
    bool is_group;
    uint32_t index; /* of the node or the group */
    uint32_t next;  /* in the same group */
    bool inside;    /* of the scope asked for */
    bool drawn;     /* inside, or touching what is inside */
    bool is_result; /* nobody reads it */
    uint32_t kept;  /* of the gradient: values of the forward part that it reads, without arrows */
} wr__cell;

/* A cell reads what has this sign (from 1). */
typedef struct wr__reading {
    uint32_t cell, sign;
} wr__reading;

typedef struct wr__edge {
    uint32_t from, to; /* cells */
    bool next;         /* from one of several scopes drawn as one to the next of them */
    bool told;         /* without an arrow: by a sign, or as one of those kept for the gradient */
    uint32_t tensor;   /* the node whose value goes along */
} wr__edge;

typedef struct wr__picture {
    const wr_graph *g;
    const wr_draw_options *o;
    uint32_t n_nodes; /* of the graph, node 0 included; the arrays per node have this length */
    bool *drawn;      /* per node */
    uint32_t *group_of, *pos, *same, *cell_of; /* per node; `same`: the node drawn in its place */
    double *flops, *bytes;                     /* per node; 0 without a binding */
    uint32_t *order;                           /* drawn nodes, sorted by group (preorder) and id */
    uint32_t n_order;
    wr__group *group;
    size_t n_groups, cap_groups;
    uint32_t focus, derived_focus; /* groups of the scope asked for; WR__NONE: none */
    wr__cell *cell;
    size_t n_cells, cap_cells;
    wr__edge *edge; /* sorted by cells, those with an arrow first, then by tensors */
    size_t n_edges, cap_edges;
    uint32_t *sign; /* per node: its sign, from 1; 0: none */
    uint32_t n_signs;
    wr__reading *gives, *reads; /* sorted by cell, then sign; no two are the same */
    size_t n_gives, n_reads;
} wr__picture;

/* Derived from another part of the graph: gradients, inverses, values made again. */
bool wr__node_is_derived(const wr_node *x);
/* A row that only renames bytes and has no box: arrows go on from what it reads. */
bool wr__view_is_passed(const wr__picture *p, uint32_t id);

/* Choose the nodes that are drawn, as the options say. */
wr_status wr__picture_select(wr__picture *p, wr_error *err);

/* Choose the edges that have no arrow: those from the forward part to its gradient, which are
 * counted, and those from what many cells read, which get signs. False when memory is out. */
bool wr__picture_sign(wr__picture *p);
/* Is the cell in the tree of the gradient? */
bool wr__cell_is_apart(const wr__picture *p, uint32_t cell);

/* Make the picture's groups, cells and edges. Call wr__picture_end() after a failure too. */
wr_status wr__picture_begin(wr__picture *p, const wr_graph *g, const wr_draw_options *o,
                            wr_error *err);
void wr__picture_end(wr__picture *p);

/* Is group `g` the group `outer` or inside it? */
bool wr__group_within(const wr__picture *p, uint32_t g, uint32_t outer);
/* Is the group inside the scope asked for? */
bool wr__group_in_focus(const wr__picture *p, uint32_t g);

/* Find the groups that are alike and set `alike`, `repeats`, `low`, `high`, and `same` of nodes. */
void wr__picture_fold(wr__picture *p);

/* What the node costs under a binding; false when a symbol has no value in it. */
bool wr__node_cost(const wr_graph *g, uint32_t id, const wr_binding *b, double *flops,
                   double *bytes, bool *out_of_memory);

/* ---- writing ---- */

/* Append text so that Graphviz shows it as it is, in a quoted string. Broken UTF-8 becomes U+FFFD,
 * control characters a space; "\n" is a line end that aligns as `line_end` says ('n', 'l'). */
void wr__escape(wr_str *out, const char *text, char line_end);
/* The same within the HTML of a label. */
void wr__escape_html(wr_str *out, const char *text);
/* "9999", "16.5k", "3.2M", "1.2G". */
void wr__print_count(wr_str *out, double n);

#endif
