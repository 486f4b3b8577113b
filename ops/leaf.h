/* leaf.h: how element i of an output finds its element of an operand that is repeated to the
 * output's shape. One plan for the kernels of the CPU and of CUDA. */
#ifndef WEIR_OPS_LEAF_H
#define WEIR_OPS_LEAF_H

#include "ops/shape.h"

typedef enum wr_leaf_mode {
    WR_LEAF_FULL,   /* i */
    WR_LEAF_SCALAR, /* 0 */
    WR_LEAF_SUFFIX, /* i % period: [B, T, D] with [D] */
    WR_LEAF_PREFIX, /* i / inner: [B, T, D] with [B, T, 1] */
    WR_LEAF_GENERAL /* by strides */
} wr_leaf_mode;

typedef struct wr_leaf {
    wr_leaf_mode mode;
    int64_t period, inner;
    int64_t stride[WR_MAX_RANK]; /* for each axis of the output, 0 where the operand is repeated */
} wr_leaf;

/* The operand's axes are the output's last ones, each as long or 1. */
static inline wr_leaf wr_leaf_plan(const wr_tensor *x, const wr_tensor *out) {
    wr_leaf w = {WR_LEAF_GENERAL, 0, 0, {0}};
    if (x->n == out->n || x->n == 1) {
        w.mode = x->n == 1 && out->n != 1 ? WR_LEAF_SCALAR : WR_LEAF_FULL;
        return w;
    }
    int skip = out->rank - x->rank, first = 0, last = x->rank;
    while (first < last && x->dim[first] == 1 && out->dim[skip + first] != 1)
        first++; /* repeated in front */
    while (last > first && x->dim[last - 1] == 1 && out->dim[skip + last - 1] != 1)
        last--; /* repeated behind */
    bool whole = true;
    for (int i = first; i < last; i++)
        whole = whole && x->dim[i] == out->dim[skip + i];
    w.period = x->n;
    w.inner = wr_extent(out, skip + last, out->rank);
    if (whole && w.inner == 1) w.mode = WR_LEAF_SUFFIX;
    if (whole && w.inner > 1 && w.period * w.inner == out->n) w.mode = WR_LEAF_PREFIX;
    int64_t stride = 1;
    for (int i = x->rank - 1; i >= 0; i--) {
        w.stride[skip + i] = x->dim[i] == 1 ? 0 : stride;
        stride *= x->dim[i];
    }
    return w;
}

#endif
