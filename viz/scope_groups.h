/* scope_groups.h: nodes by scope to a depth, where layers that differ in a number are one group
 * ("decoder.layer*"). Internal to viz/ and the program. */
#ifndef WEIR_VIZ_SCOPE_GROUPS_H
#define WEIR_VIZ_SCOPE_GROUPS_H

#include "graph/graph.h"

/* Groups are numbered from 0; 0 is the root. */
typedef struct wr_scope_groups {
    const wr_graph *g;
    char **name; /* [n] */
    size_t n, cap;
    uint32_t *of_scope; /* [n_scopes] */
    uint32_t n_scopes;
} wr_scope_groups;

/* Group the scopes of a graph's nodes by their first `depth` parts. False when memory is out; call
 * wr_scope_groups_free() then, too. */
bool wr_scope_groups_new(wr_scope_groups *x, const wr_graph *g, int depth);
void wr_scope_groups_free(wr_scope_groups *x);

#endif
