/* random_ops.h: random numbers and dropout.
 *
 * Numbers come from Philox (graph/random.h) with the session's seed and step and the node's own
 * stream: a run is repeated exactly by repeating seed and step, for any number of threads, and two
 * nodes never share numbers. A node that is computed again (gradients, recomputed scopes) keeps its
 * stream and gets the same numbers. f64 tensors hold the numbers of f32 ones, computed in double.
 */
#ifndef WEIR_OPS_RANDOM_OPS_H
#define WEIR_OPS_RANDOM_OPS_H

#include "graph/op.h"

extern const wr_op wr_op_uniform, wr_op_normal, wr_op_gumbel, wr_op_dropout;

/* Uniform in [low, high), 2^24 steps: -> dims of the float type `t`. */
wr wr_uniform_at(wr_loc loc, wr_graph *g, double low, double high, wr_dtype t, int rank,
                 const wr_dim *dims);
/* wr_uniform(g, -1.0, 1.0, WR_F32, WR_DIMS(B, T)) */
#define wr_uniform(g, low, high, ...) wr_uniform_at(WR_HERE, g, low, high, __VA_ARGS__)

/* Standard normal (Box and Muller 1958); no number is beyond 5.9. */
wr wr_normal_at(wr_loc loc, wr_graph *g, wr_dtype t, int rank, const wr_dim *dims);
#define wr_normal(g, ...) wr_normal_at(WR_HERE, g, __VA_ARGS__)

/* Standard Gumbel: -log(-log u). wr_argmax(wr_add(logits, gumbel)) is a sample of softmax(logits)
 * (Gumbel 1954; Maddison et al. 2014). */
wr wr_gumbel_at(wr_loc loc, wr_graph *g, wr_dtype t, int rank, const wr_dim *dims);
#define wr_gumbel(g, ...) wr_gumbel_at(WR_HERE, g, __VA_ARGS__)

/* Each element is 0 with probability p, else x / (1 - p) (Srivastava et al. 2014). p in [0, 1) is
 * rounded to a multiple of 1/65536, and the factor is that of the rounded p, so the expectation is
 * x. p = 0 gives x itself. No mask is kept: the gradient draws it again. x [..] float -> [..] */
wr wr_dropout_at(wr_loc loc, wr x, double p);
#define wr_dropout(x, p) wr_dropout_at(WR_HERE, x, p)

#endif
