/* slice.h: parts of tensors: slices, every n-th position, joining, padding, splitting.
 *
 * An axis is counted from 0, or from the end if negative. The other axes keep their sizes. Any
 * dtype; gradients for floats. Slices whose bounds can be proved wrong are diagnosed when the graph
 * is built; bounds that depend on symbols are checked again in every run. */
#ifndef WEIR_OPS_SLICE_H
#define WEIR_OPS_SLICE_H

#include "graph/op.h"

extern const wr_op wr_op_slice, wr_op_place, wr_op_concat, wr_op_split_2, wr_op_split_3,
    wr_op_split_4;

/* Positions from, from + 1, .. to - 1 of an axis. A negative `from`, and a `to` that is zero or
 * negative, count from the end: (1, 0) leaves out the first, (0, -1) the last.
 * x [.., N, ..] -> [.., to - from, ..] */
wr wr_slice_at(wr_loc loc, wr x, int axis, int64_t from, int64_t to);
#define wr_slice(x, axis, from, to) wr_slice_at(WR_HERE, x, axis, from, to)

/* `count` positions start, start + step, ..; step >= 1. x [.., N, ..] -> [.., count, ..] */
wr wr_slice_dims_at(wr_loc loc, wr x, int axis, wr_dim start, wr_dim count, int64_t step);
#define wr_slice_dims(x, axis, start, count, step)                                                 \
    wr_slice_dims_at(WR_HERE, x, axis, start, count, step)

/* All positions first, first + step, first + 2 step, ..: even and odd channels, time steps.
 * x [.., N, ..] -> [.., ceil((N - first) / step), ..]; a symbolic N has N mod step known from its
 * declaration (multiple_of). */
wr wr_every_at(wr_loc loc, wr x, int axis, int64_t first, int64_t step);
#define wr_every(x, axis, first, step) wr_every_at(WR_HERE, x, axis, first, step)

/* Position i of an axis, which disappears; negative i from the end. x [.., N, ..] -> [.., ..] */
wr wr_index_at(wr_loc loc, wr x, int axis, int64_t i);
#define wr_index(x, axis, i) wr_index_at(WR_HERE, x, axis, i)

/* The opposite of a slice: an axis of `size` zeros with position i of x at start + i step.
 * x [.., N, ..] -> [.., size, ..] */
wr wr_place_at(wr_loc loc, wr x, int axis, wr_dim size, wr_dim start, int64_t step);
#define wr_place(x, axis, size, start, step) wr_place_at(WR_HERE, x, axis, size, start, step)

/* Zeros before and behind. x [.., N, ..] -> [.., before + N + after, ..] */
wr wr_pad_at(wr_loc loc, wr x, int axis, int64_t before, int64_t after);
#define wr_pad(x, axis, before, after) wr_pad_at(WR_HERE, x, axis, before, after)

/* Several tensors in the argument list of a builder: their number and an array of them. */
#define WR__PARTS(...)                                                                             \
    (int)(sizeof((wr[]){__VA_ARGS__}) / sizeof(wr)), (const wr[]) { __VA_ARGS__ }

/* One after the other along an axis: [.., N1, ..], [.., N2, ..], .. -> [.., N1 + N2 + .., ..].
 * wr_concat(-1, a, b, c), or wr_concat_n(-1, 3, parts) */
wr wr_concat_at(wr_loc loc, int axis, int n, const wr *parts);
#define wr_concat(axis, ...)   wr_concat_at(WR_HERE, axis, WR__PARTS(__VA_ARGS__))
#define wr_concat_n(axis, ...) wr_concat_at(WR_HERE, axis, __VA_ARGS__)

/* n equal parts, one after the other: x [.., N, ..] -> n times [.., N / n, ..]. False: poison.
 * Up to four parts are one row with n outputs, whose gradient is one concat. */
bool wr_split_at(wr_loc loc, wr x, int axis, int n, wr *parts);
#define wr_split(x, axis, n, parts) wr_split_at(WR_HERE, x, axis, n, parts)

/* n tensors of equal sizes along a new axis: n times [.., ..] -> [.., n, ..]; the new axis is
 * number `axis` of the result. */
wr wr_stack_at(wr_loc loc, int axis, int n, const wr *parts);
#define wr_stack(axis, ...)   wr_stack_at(WR_HERE, axis, WR__PARTS(__VA_ARGS__))
#define wr_stack_n(axis, ...) wr_stack_at(WR_HERE, axis, __VA_ARGS__)

/* The parts in turn: position i of part k goes to i n + k. n times [.., N, ..] -> [.., n N, ..] */
wr wr_interleave_at(wr_loc loc, int axis, int n, const wr *parts);
#define wr_interleave(axis, ...)   wr_interleave_at(WR_HERE, axis, WR__PARTS(__VA_ARGS__))
#define wr_interleave_n(axis, ...) wr_interleave_at(WR_HERE, axis, __VA_ARGS__)

/* The opposite: part k has positions k, n + k, 2 n + k, ..; what wr_every(x, axis, k, n) gives,
 * with one gradient for all parts. x [.., N, ..] -> n times [.., N / n, ..]. False: poison. */
bool wr_deinterleave_at(wr_loc loc, wr x, int axis, int n, wr *parts);
#define wr_deinterleave(x, axis, n, parts) wr_deinterleave_at(WR_HERE, x, axis, n, parts)

#endif
