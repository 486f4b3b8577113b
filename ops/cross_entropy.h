/* cross_entropy.h: losses of logits against words, without storing probabilities.
 *
 * lp = log_softmax(logits) over the V words of the last axis; lse its log-sum-exp. The gradient of
 * all of them has the form  a softmax(z) - b - sum over k of w_k [v = id_k]  and is one row that
 * works in the logits' buffer, so that [.., V] exists once. */
#ifndef WEIR_OPS_CROSS_ENTROPY_H
#define WEIR_OPS_CROSS_ENTROPY_H

#include "graph/op.h"

extern const wr_op wr_op_cross_entropy, wr_op_pwce, wr_op_gather_log_softmax,
    wr_op_cross_entropy_grad;

typedef struct wr_cross_entropy_out {
    wr loss; /* [..] weight ((1 - eps) (-lp[id]) + eps (-mean over v of lp[v])) */
    wr nll;  /* [..] weight (-lp[id]): the loss without smoothing */
    wr lse;  /* [..] log sum e^logits, whatever the weight */
} wr_cross_entropy_out;

/* logits [.., V], ids [..] i32 in [0, V), weight [..] (0 for padding; the id must still be legal)
 * and the label smoothing 0 <= eps < 1: the target distribution is (1 - eps) at the id plus eps / V
 * at every word (Szegedy et al. 2016). Rows of weight 0 give 0, forward and backward. */
wr_cross_entropy_out wr_cross_entropy_at(wr_loc loc, wr logits, wr ids, wr weight, double eps);
#define wr_cross_entropy(logits, ids, weight, eps)                                                 \
    wr_cross_entropy_at(WR_HERE, logits, ids, weight, eps)

/* Posterior-weighted cross-entropy with few words per position: loss [..] = sum over k of
 * -w[.., k] lp[.., ids[.., k]]. logits [.., V], ids [.., K] i32 in [0, V) (repeated ids add up, pad
 * with weight 0), w [.., K] any sign. Alignment losses compute w on the host: one-hot targets, a
 * best alignment, or exact posteriors; as fed inputs the weights are constants of the gradient
 * (sum of w) softmax - w. wr_output(loss, 1) is lse [..]. */
wr wr_pwce_at(wr_loc loc, wr logits, wr ids, wr w);
#define wr_pwce(logits, ids, w) wr_pwce_at(WR_HERE, logits, ids, w)

/* The same with a weight for every word: w [.., V]. */
wr wr_pwce_dense_at(wr_loc loc, wr logits, wr w);
#define wr_pwce_dense(logits, w) wr_pwce_dense_at(WR_HERE, logits, w)

/* Log-probabilities of few words per position, without storing those of the others:
 * lp [.., K] = log_softmax(logits)[.., ids[.., k]]. logits [.., V], ids [.., K] i32 in [0, V). */
typedef struct wr_log_softmax_at_ids {
    wr lp;   /* [.., K] */
    wr lse;  /* [..] log sum e^logits */
    wr mean; /* [..] of lp over all V words; costs a little more where it is read */
} wr_log_softmax_at_ids;
wr_log_softmax_at_ids wr_gather_log_softmax_at(wr_loc loc, wr logits, wr ids);
#define wr_gather_log_softmax(logits, ids) wr_gather_log_softmax_at(WR_HERE, logits, ids)

#endif
