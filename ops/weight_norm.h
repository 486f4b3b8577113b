/* weight_norm.h: weights as direction and length (Salimans and Kingma 2016). A composition of rows.
 */
#ifndef WEIR_OPS_WEIGHT_NORM_H
#define WEIR_OPS_WEIGHT_NORM_H

#include "graph/op.h"

/* w = g v / |v|, one norm per position of `axis`, taken over all other axes: v [.., N, ..], g [N].
 * A matrix [K, N] of x W has one norm per output with axis 1; negative axes count from the end.
 * |v| is sqrt(sum v^2 + 1e-24), so that v = 0 gives w = 0. */
wr wr_weight_norm_at(wr_loc loc, wr v, wr g, int axis);
#define wr_weight_norm(v, g, axis) wr_weight_norm_at(WR_HERE, v, g, axis)

/* The norms alone: v [.., N, ..] -> [N]. */
wr wr_norms_at(wr_loc loc, wr v, int axis);
#define wr_norms(v, axis) wr_norms_at(WR_HERE, v, axis)

#endif
