/* parameter_tree.h: tensors listed by the scopes in their names, with sums. */
#ifndef WEIR_CLI_PARAMETER_TREE_H
#define WEIR_CLI_PARAMETER_TREE_H

#include "graph/graph.h"

#define WR_TREE_NONE UINT32_MAX

/* A scope, or a tensor. */
typedef struct wr_tree_entry {
    const char *name; /* its part of the full name, `length` bytes; points into the caller's text */
    size_t length;
    uint32_t child, last_child, sibling; /* WR_TREE_NONE: none */
    bool is_tensor;
    wr_dtype dtype;
    int rank;
    int64_t dim[WR_MAX_RANK];
    double elements; /* of all tensors inside */
    uint32_t tensors;
} wr_tree_entry;

/* Zero-initialise; entry 0 is the whole. */
typedef struct wr_parameter_tree {
    wr_tree_entry *entry;
    size_t n, cap;
} wr_parameter_tree;

/* Add the tensor "a.b.W" under the scopes a and b. The name must outlive the tree. False when
 * memory is out. */
bool wr_parameter_tree_add(wr_parameter_tree *t, const char *name, wr_dtype dtype, int rank,
                           const int64_t *dim);
/* Add all parameters of a graph that are needed: `live` by node, as wr_model_graph_new gives it.
 * The graph must outlive the tree. False when memory is out. */
bool wr_parameter_tree_add_graph(wr_parameter_tree *t, const wr_graph *g, const bool *live);
void wr_parameter_tree_free(wr_parameter_tree *t);

/* Append a table: a line for each scope with the number of its elements, where `depth` levels of
 * scopes are opened (negative: all), and for each tensor in an open scope with its shape. */
void wr_parameter_tree_print(const wr_parameter_tree *t, int depth, wr_str *out);

#endif
