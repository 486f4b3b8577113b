/* layout.h: the same numbers in other shapes. */
#ifndef WEIR_OPS_LAYOUT_H
#define WEIR_OPS_LAYOUT_H

#include "graph/op.h"

extern const wr_op wr_op_reshape, wr_op_leaf, wr_op_stop_gradient, wr_op_broadcast, wr_op_transpose;

/* The same elements in order under other sizes; the product must be provably the same. A view. */
wr wr_reshape_at(wr_loc loc, wr x, int rank, const wr_dim *dims);
#define wr_reshape(x, ...) wr_reshape_at(WR_HERE, x, __VA_ARGS__)

/* Repeat: sizes are matched from the right; x may have 1 where dims has more, and fewer axes. */
wr wr_broadcast_at(wr_loc loc, wr x, int rank, const wr_dim *dims);
#define wr_broadcast(x, ...) wr_broadcast_at(WR_HERE, x, __VA_ARGS__)
/* To the sizes of `like`. */
wr wr_broadcast_like_at(wr_loc loc, wr x, wr like);
#define wr_broadcast_like(x, like) wr_broadcast_like_at(WR_HERE, x, like)

/* Axis order: out axis i is x's axis perm[i]; a permutation of 0 .. rank - 1. */
wr wr_permute_at(wr_loc loc, wr x, const int *perm);
#define wr_permute(x, ...) wr_permute_at(WR_HERE, x, (const int[]){__VA_ARGS__})
/* Exchange two axes. */
wr wr_transpose_at(wr_loc loc, wr x, int a, int b);
#define wr_transpose(x, a, b) wr_transpose_at(WR_HERE, x, a, b)

/* x, and no gradient flows back. */
wr wr_stop_gradient_at(wr_loc loc, wr x);
#define wr_stop_gradient(x) wr_stop_gradient_at(WR_HERE, x)

/* A node of its own that equals x: differentiating with respect to it leaves x out. */
wr wr_leaf(wr x);

wr wr_zeros_like(wr x);

#endif
