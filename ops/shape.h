/* shape.h: shape rules and costs that many rows share. */
#ifndef WEIR_OPS_SHAPE_H
#define WEIR_OPS_SHAPE_H

#include "graph/op.h"

/* Output 0 has the type of operand 0. */
bool wr_shape_same(wr_shape_ctx *c);
/* Elementwise: the longer operands agree, the others are a suffix of them: [B, T, D] with [D]. */
bool wr_shape_trailing(wr_shape_ctx *c);
/* An axis attribute in [-rank, rank) as an index in [0, rank); -1 and a diagnostic otherwise. */
int wr_shape_axis(wr_shape_ctx *c, int64_t axis, int rank);
/* Is x's type t's, dims proved equal? */
bool wr_shape_equal(const wr_graph *g, const wr_type *a, const wr_type *b);
/* Are the last `n` dims of the types equal? */
bool wr_shape_suffix(const wr_graph *g, const wr_type *longer, const wr_type *shorter);
/* Fails unless the operand has that dtype: indices and lengths are i32, values are float. */
bool wr_shape_needs_i32(wr_shape_ctx *c, int k);
bool wr_shape_needs_float(wr_shape_ctx *c, int k);

/* Append a size for a message: "T/2", and "D/2 = 384" where only one value is possible. */
void wr_shape_explain(const wr_graph *g, wr_dim d, wr_str *out);

/* Product of dims [from, to). */
static inline int64_t wr_extent(const wr_tensor *t, int from, int to) {
    int64_t n = 1;
    for (int i = from; i < to; i++)
        n *= t->dim[i];
    return n;
}

/* Bytes of all operands and outputs, for costs. */
double wr_bytes_moved(const wr_call *c);

#endif
