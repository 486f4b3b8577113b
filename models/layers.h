/* layers.h: the layers that sequence models share. A layer is a function from handles to handles;
 * its parameters are created by name in the current scope.
 *
 * Letters: B batch, S source length, T target length, D model width, F inner width, H heads, V
 * vocabulary. */
#ifndef WEIR_LAYERS_H
#define WEIR_LAYERS_H

#include "graph/graph.h"
#include "ops/matmul.h"

/* x W + b: x [.., K] -> [.., n]. Glorot uniform weight, zero bias. */
wr wr_layer_linear(wr x, const char *name, int n);

/* Layer norm over the last axis with gain and bias (Ba et al. 2016), epsilon 1e-5. */
wr wr_layer_norm_params(wr x, const char *name);

/* The sinusoid table of Vaswani et al. (2017), section 3.5: [max_len, D]. */
wr wr_sinusoids(wr_graph *g, wr_dtype t, int max_len, int dim);

/* The first T rows of the table, added to x [B, T, D]. */
wr wr_add_positions(wr x, wr table);

/* Embedding matrix [V, D], normal with deviation D^-1/2. */
wr wr_embedding_param(wr_graph *g, const char *name, wr_dtype t, int vocab, int dim);

/* Multi-head attention (Vaswani et al. 2017, section 3.2). */
typedef struct wr_mha {
    int heads;
    double dropout; /* of the weights; 0 at inference */
    bool causal;
} wr_mha;

/* Queries from x [B, T, D], keys and values from memory [B, S, D] of which row b has key_len[b]
 * valid positions; projections and output projection -> [B, T, D]. */
wr wr_layer_attention(wr x, wr memory, wr key_len, const wr_mha *o);

/* act(x W1 + b1) W2 + b2 with dropout between; x [.., D] -> [.., D]. */
wr wr_layer_ffn(wr x, int inner, wr_act act, double dropout);

#endif
