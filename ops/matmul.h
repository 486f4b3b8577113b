/* matmul.h: matrix products, alone or with what follows them. */
#ifndef WEIR_OPS_MATMUL_H
#define WEIR_OPS_MATMUL_H

#include "graph/op.h"

extern const wr_op wr_op_matmul, wr_op_linear, wr_op_matmul_add;

/* op(a) op(b), op = transpose of the last two axes where the flag says so.
 * a [.., M, K] x b [K, N]: one matrix for all; a [.., M, K] x b [.., K, N]: one each. */
wr wr_matmul_at(wr_loc loc, wr a, wr b, bool trans_a, bool trans_b);
#define wr_matmul(a, b)    wr_matmul_at(WR_HERE, a, b, false, false)
#define wr_matmul_nt(a, b) wr_matmul_at(WR_HERE, a, b, false, true) /* a b^T */
#define wr_matmul_tn(a, b) wr_matmul_at(WR_HERE, a, b, true, false) /* a^T b */

typedef enum wr_act { WR_ACT_NONE, WR_ACT_RELU, WR_ACT_GELU } wr_act;

/* act(x W + bias): x [.., K], W [K, N] (or [N, K] with trans_w), bias [N]. Made by fusion. */
wr wr_linear_at(wr_loc loc, wr x, wr w, wr bias, bool trans_w, wr_act act);
/* c + op(a) op(b), in c's buffer when it can. Made by fusion. */
wr wr_matmul_add_at(wr_loc loc, wr a, wr b, wr c, bool trans_a, bool trans_b);

#endif
