/* step.h: one position at a time: reading and replacing a position whose number is known only when
 * the graph runs, and lengths as one step of a loop sees them. */
#ifndef WEIR_OPS_STEP_H
#define WEIR_OPS_STEP_H

#include "graph/op.h"

extern const wr_op wr_op_put, wr_op_take, wr_op_clip_lengths;

/* x with one position of an axis replaced: x [.., N, ..], fresh [.., 1, ..], position [] i32 in
 * [0, N) -> [.., N, ..]. In x's buffer where it can be: a cache in a loop costs one position. */
wr wr_put_at(wr_loc loc, wr x, wr fresh, wr position, int axis);
#define wr_put(x, fresh, position, axis) wr_put_at(WR_HERE, x, fresh, position, axis)

/* That position: x [.., N, ..] -> [.., 1, ..]. */
wr wr_take_at(wr_loc loc, wr x, wr position, int axis);
#define wr_take(x, position, axis) wr_take_at(WR_HERE, x, position, axis)

/* How many of the first `lengths` positions lie in [from, to): lengths [B] i32, from and to [] i32,
 * 0 <= from <= to -> [B] i32 in [0, to - from]. */
wr wr_clip_lengths_at(wr_loc loc, wr lengths, wr from, wr to);
#define wr_clip_lengths(lengths, from, to) wr_clip_lengths_at(WR_HERE, lengths, from, to)

#endif
