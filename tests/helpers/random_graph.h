/* random_graph.h: random legal graphs over many rows, with shared subexpressions and gradients. */
#ifndef WEIR_TEST_RANDOM_GRAPH_H
#define WEIR_TEST_RANDOM_GRAPH_H

#include "helpers/sample.h"

enum { RANDOM_POOL = 400, RANDOM_OUTPUTS = 64 };

typedef struct random_options {
    wr_dtype dtype;
    uint64_t seed;
    int steps;      /* nodes drawn, about */
    bool smooth;    /* no rows with kinks, which rounding could push to their other side */
    bool symbolic;  /* two axes are symbols B and T */
    bool recompute; /* some scopes are recomputed */
    int64_t b, t;   /* sizes of the symbolic axes in this run; 0: drawn */
} random_options;

typedef struct random_graph {
    test_case t;
    random_options o;
    int64_t size[3]; /* B, T, D */
    wr_dim dim[3];
    wr pool[RANDOM_POOL];
    int n;
    wr output[RANDOM_OUTPUTS]; /* the loss, some nodes, the gradients */
    int n_outputs, n_values;   /* n_values: loss and nodes, before the gradients */
} random_graph;

/* Build a graph without mistakes; the test fails otherwise. */
void random_graph_begin(random_graph *r, const random_options *o);
void random_graph_end(random_graph *r);

#endif
