/* index.h: rows chosen by whole numbers, and whole numbers turned into floats.
 *
 * Indices, lengths and ids are i32. A value out of its range stops the run with a message that
 * names it; nothing is read or written out of bounds. */
#ifndef WEIR_OPS_INDEX_H
#define WEIR_OPS_INDEX_H

#include "graph/op.h"

extern const wr_op wr_op_gather, wr_op_scatter_add, wr_op_one_hot, wr_op_cast, wr_op_sequence_mask,
    wr_op_reverse_prefix, wr_op_iota, wr_op_invert_permutation;

/* Positions of an axis by index, per batch element: y[b, k, ..] = x[b, index[b, k], ..].
 * x [B.., T, R..], index [B.., K] i32, values in [0, T) -> [B.., K, R..]; B.. and R.. are any
 * number of axes, also none: the last axis of `index` says which axis of x is chosen from. x has
 * any dtype; the gradient, for floats, is wr_scatter_add. */
wr wr_gather_at(wr_loc loc, wr x, wr index);
#define wr_gather(x, index) wr_gather_at(WR_HERE, x, index)

/* The opposite: y[b, index[b, k], ..] is the sum over k of x[b, k, ..], in the order of k for any
 * number of threads. x [B.., K, R..] float, index [B.., K] i32, values in [0, size)
 * -> [B.., size, R..] */
wr wr_scatter_add_at(wr_loc loc, wr x, wr index, wr_dim size);
#define wr_scatter_add(x, index, size) wr_scatter_add_at(WR_HERE, x, index, size)

/* Where each number stands: y[.., x[.., k]] = k, so that a gather by y takes a gather by x back.
 * index [.., T] i32, each row the numbers 0 .. T - 1 once; a run stops where it is not. */
wr wr_invert_permutation_at(wr_loc loc, wr index);
#define wr_invert_permutation(index) wr_invert_permutation_at(WR_HERE, index)

/* Rows of a table: table [V, D], ids [..] i32 in [0, V) -> [.., D]. */
wr wr_embedding_at(wr_loc loc, wr table, wr ids);
#define wr_embedding(table, ids) wr_embedding_at(WR_HERE, table, ids)

/* One element of the last axis: x [.., V], index [..] i32 in [0, V) -> [..]. */
wr wr_pick_at(wr_loc loc, wr x, wr index);
#define wr_pick(x, index) wr_pick_at(WR_HERE, x, index)

/* 1 at the id, else 0: ids [..] i32 in [0, V) -> [.., V] of the float type `t`. */
wr wr_one_hot_at(wr_loc loc, wr ids, wr_dim v, wr_dtype t);
#define wr_one_hot(ids, v, t) wr_one_hot_at(WR_HERE, ids, v, t)

/* The same numbers as f32 or f64 (from i32, f32, f64). The gradient is cast back; none for i32. */
wr wr_cast_at(wr_loc loc, wr x, wr_dtype t);
#define wr_cast(x, t) wr_cast_at(WR_HERE, x, t)

/* 1 for positions before the length, 0 from there on: lengths [..] i32 in [0, T] -> [.., T]. */
wr wr_sequence_mask_at(wr_loc loc, wr lengths, wr_dim t, wr_dtype type);
#define wr_sequence_mask(lengths, t, type) wr_sequence_mask_at(WR_HERE, lengths, t, type)

/* Each row's valid positions in the opposite order, its padding where it is:
 * y[b, t] = x[b, lengths[b] - 1 - t] for t < lengths[b], else x[b, t]. Its own inverse.
 * x [B, T, ..], lengths [B] i32 in [0, T] -> [B, T, ..] */
wr wr_reverse_prefix_at(wr_loc loc, wr x, wr lengths);
#define wr_reverse_prefix(x, lengths) wr_reverse_prefix_at(WR_HERE, x, lengths)

/* 0, 1, 2, .. size - 1, of any dtype -> [size]. */
wr wr_iota_at(wr_loc loc, wr_graph *g, wr_dim size, wr_dtype t);
#define wr_iota(g, size, t) wr_iota_at(WR_HERE, g, size, t)

#endif
