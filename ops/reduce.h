/* reduce.h: sums, means and maxima over axes. Sums have a fixed order for any number of threads. */
#ifndef WEIR_OPS_REDUCE_H
#define WEIR_OPS_REDUCE_H

#include "graph/op.h"

extern const wr_op wr_op_sum, wr_op_max, wr_op_scale_by_dim;

/* Over axes from, from + 1, .. to - 1, which disappear. Negative: from the end; to = 0 with a
 * negative `from` means up to the last. */
wr wr_reduce_at(wr_loc loc, const wr_op *op, wr x, int from, int to);
#define wr_sum_axes(x, from, to) wr_reduce_at(WR_HERE, &wr_op_sum, x, from, to)
#define wr_max_axes(x, from, to) wr_reduce_at(WR_HERE, &wr_op_max, x, from, to)
/* One axis. */
#define wr_sum(x, axis)  wr_reduce_axis_at(WR_HERE, &wr_op_sum, x, axis)
#define wr_max(x, axis)  wr_reduce_axis_at(WR_HERE, &wr_op_max, x, axis)
#define wr_mean(x, axis) wr_mean_at(WR_HERE, x, axis)
wr wr_reduce_axis_at(wr_loc loc, const wr_op *op, wr x, int axis);
wr wr_mean_at(wr_loc loc, wr x, int axis);
/* All axes, to a scalar. */
#define wr_sum_all(x)  wr_reduce_at(WR_HERE, &wr_op_sum, x, 0, wr_rank(x))
#define wr_mean_all(x) wr_mean_all_at(WR_HERE, x)
wr wr_mean_all_at(wr_loc loc, wr x);

/* x times size^power, the size being known when a plan is made. */
wr wr_scale_by_dim_at(wr_loc loc, wr x, wr_dim size, double power);
#define wr_scale_by_dim(x, size, power) wr_scale_by_dim_at(WR_HERE, x, size, power)

/* Sum leading axes away until x has the rank of `t` (undoes the repetition of a suffix operand). */
wr wr_reduce_to_suffix(wr x, wr_type t);

#endif
