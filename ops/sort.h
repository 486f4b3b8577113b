/* sort.h: largest elements, order, running sums. All but cumsum work along the last axis.
 *
 * Order: larger values first (or smaller ones), equal values by ascending index, not-a-number last.
 * It is total, so the results are the same everywhere. */
#ifndef WEIR_OPS_SORT_H
#define WEIR_OPS_SORT_H

#include "graph/op.h"

extern const wr_op wr_op_argmax, wr_op_top_k, wr_op_cumsum;

/* Index of the largest element, the lowest index at ties: x [.., V] float -> [..] i32; V >= 1. */
wr wr_argmax_at(wr_loc loc, wr x);
#define wr_argmax(x) wr_argmax_at(WR_HERE, x)

/* The first k elements in order: x [.., V] float -> values [.., k], and indices [.., k] i32 by
 * pointer (may be NULL); 1 <= k <= V. `largest` false: the smallest, ascending. The gradient goes
 * to the chosen elements. */
wr wr_top_k_at(wr_loc loc, wr x, wr_dim k, bool largest, wr *indices);
#define wr_top_k(x, k, indices)    wr_top_k_at(WR_HERE, x, k, true, indices)
#define wr_bottom_k(x, k, indices) wr_top_k_at(WR_HERE, x, k, false, indices)
/* All elements, ascending: x [.., V] -> [.., V]; `indices` as above (argsort). */
wr wr_sort_at(wr_loc loc, wr x, wr *indices);
#define wr_sort(x, indices) wr_sort_at(WR_HERE, x, indices)

/* Running sums along an axis: y[i] = x[0] + .. + x[i]. Reverse: from the end,
 * y[i] = x[i] + .. + x[n-1]. Exclusive: without x[i] itself. x [.., N, ..] float -> the same. */
wr wr_cumsum_at(wr_loc loc, wr x, int axis, bool reverse, bool exclusive);
#define wr_cumsum(x, axis) wr_cumsum_at(WR_HERE, x, axis, false, false)
#define wr_cumsum_with(x, axis, reverse, exclusive)                                                \
    wr_cumsum_at(WR_HERE, x, axis, reverse, exclusive)

#endif
