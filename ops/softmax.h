/* softmax.h: softmax, its logarithm and log-sum-exp over the last axis, with optional masks.
 *
 * A mask holds 0 (out) and anything else (in) in the dtype of x; its sizes are matched with x's
 * from the right, each equal or 1, leading axes may be missing: scores [B, H, T, S] take masks [B,
 * 1, 1, S], [T, S] or [S]. A masked position has probability 0; its log-probability is 0 by
 * definition, and so is its gradient. A row with every position masked is 0 everywhere, forward and
 * backward (its log-sum-exp is 0, too). The mask has no gradient. */
#ifndef WEIR_OPS_SOFTMAX_H
#define WEIR_OPS_SOFTMAX_H

#include "graph/op.h"

extern const wr_op wr_op_softmax, wr_op_softmax_grad, wr_op_log_softmax, wr_op_log_softmax_grad,
    wr_op_logsumexp;

/* x [.., K] -> [.., K] (logsumexp: [..]); `mask` may be NULL. */
wr wr_softmax_at(wr_loc loc, const wr_op *op, wr x, const wr *mask);
#define wr_softmax(x)                  wr_softmax_at(WR_HERE, &wr_op_softmax, x, NULL)
#define wr_log_softmax(x)              wr_softmax_at(WR_HERE, &wr_op_log_softmax, x, NULL)
#define wr_logsumexp(x)                wr_softmax_at(WR_HERE, &wr_op_logsumexp, x, NULL)
#define wr_softmax_masked(x, mask)     wr_softmax_at(WR_HERE, &wr_op_softmax, x, (wr[]){mask})
#define wr_log_softmax_masked(x, mask) wr_softmax_at(WR_HERE, &wr_op_log_softmax, x, (wr[]){mask})
#define wr_logsumexp_masked(x, mask)   wr_softmax_at(WR_HERE, &wr_op_logsumexp, x, (wr[]){mask})

/* row [..] repeated along a last axis, to the sizes of like [.., K]. */
wr wr__repeat_last(wr row, wr like);

#endif
