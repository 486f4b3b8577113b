/* weight_norm.c: see weight_norm.h. */
#include "ops/weight_norm.h"

#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/reduce.h"

static const double FLOOR = 1e-24; /* of a squared norm: far below any that has a direction */

static int axis_of(wr_loc loc, wr v, int axis) {
    int rank = wr_rank(v), at = axis < 0 ? axis + rank : axis;
    if (at >= 0 && at < rank) return at;
    wr_mistake(v.g, loc, "weight_norm: axis %d of a tensor with %d axes", axis, rank);
    return -1;
}

/* sum v^2 + FLOOR over all axes but one. */
static wr squared_norms(wr v, int at) {
    wr sum = wr_square(v);
    if (at + 1 < wr_rank(v)) sum = wr_sum_axes(sum, at + 1, wr_rank(v));
    if (at > 0) sum = wr_sum_axes(sum, 0, at);
    return wr_shift(sum, FLOOR);
}

wr wr_norms_at(wr_loc loc, wr v, int axis) {
    if (wr_is_poison(v)) return v;
    int at = axis_of(loc, v, axis);
    return at < 0 ? (wr){v.g, 0} : wr_sqrt(squared_norms(v, at));
}

wr wr_weight_norm_at(wr_loc loc, wr v, wr g, int axis) {
    if (wr_is_poison(v) || wr_is_poison(g)) return (wr){v.g, 0};
    int at = axis_of(loc, v, axis), rank = wr_rank(v);
    if (at < 0) return (wr){v.g, 0};
    if (wr_rank(g) != 1 || !wr_dim_eq(v.g, wr_dim_of(g, 0), wr_dim_of(v, at)))
        return wr_mistake(v.g, loc,
                          "weight_norm: the lengths g are not [N], N the size of axis %d "
                          "of v",
                          at);
    wr scale = wr_binary_at(loc, &wr_op_mul, g, wr_rsqrt(squared_norms(v, at)));
    wr_dim ones[WR_MAX_RANK];
    for (int i = 0; i < rank; i++)
        ones[i] = i == at ? wr_dim_of(v, at) : wr_n(1);
    if (at < rank - 1) scale = wr_broadcast_like(wr_reshape(scale, rank, ones), v);
    return wr_binary_at(loc, &wr_op_mul, v, scale);
}
