/* update.h: rows of the training step: norm of the whole gradient, summed gradients, Adam.
 *
 * They take all tensors at once: one parallel pass over the elements of all of them, cut into
 * chunks of equal size whatever the number of threads, so that results do not depend on it. */
#ifndef WEIR_OPS_UPDATE_H
#define WEIR_OPS_UPDATE_H

#include "graph/op.h"

extern const wr_op wr_op_global_norm, wr_op_accumulate, wr_op_adam, wr_op_adam_amsgrad;

/* sqrt(sum over all tensors of the sum of squares), a scalar; summed in double. Inf and NaN in any
 * element make it Inf or NaN. */
wr wr_global_norm_at(wr_loc loc, int n, const wr *x);
#define wr_global_norm(n, x) wr_global_norm_at(WR_HERE, n, x)

/* Operands of wr_accumulate: 1 + 2n of them. */
enum {
    WR_ACCUMULATE_KEEP, /* scalar, f32 or f64 */
    WR_ACCUMULATE_HEAD  /* then n gradients, then n sums (states, written) */
};

/* Each sum becomes keep * sum + gradient; with keep = 0 it becomes the gradient, whatever it held
 * before, also NaN. Returns the norm of all sums as they are afterwards. */
wr wr_accumulate_at(wr_loc loc, int n_in, const wr *in);
#define wr_accumulate(n_in, in) wr_accumulate_at(WR_HERE, n_in, in)

/* Operands of wr_adam: 4 + 4n, with amsgrad 4 + 5n of them. */
enum {
    WR_ADAM_LR,    /* scalar, f32 or f64: the learning rate, finite, at least 0 */
    WR_ADAM_SCALE, /* scalar, f32 or f64: gradients are multiplied by it, e.g. 1 / tokens */
    WR_ADAM_NORM,  /* scalar, f32 or f64: the norm of the n gradients as they are given */
    WR_ADAM_STEP,  /* i32 scalar state, written: updates applied so far */
    WR_ADAM_HEAD   /* then n gradients, n parameters, n means of gradients (m), n means of squares
                    * (v), and with amsgrad n largest means of squares; all but gradients written */
};

typedef struct wr_adam_options {
    double beta1, beta2, eps; /* in [0, 1), [0, 1), above 0 */
    double weight_decay;      /* 0: none */
    double clip_norm;         /* largest norm of the scaled gradient; 0: no clipping */
    bool decoupled;           /* AdamW: weights shrink by lr * weight_decay; else the gradient gets
                               * weight_decay * weight added */
    bool amsgrad;
    bool raw_eps; /* eps is added to the root before its bias correction, as FlowSeq's AdamW does */
} wr_adam_options;

/* Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019), AMSGrad (Reddi et al. 2018).
 *
 * With s = scale * min(1, clip_norm / (scale * norm + 1e-6)), t = step + 1:
 *   g' = s g (+ weight_decay p);  m = beta1 m + (1 - beta1) g';  v = beta2 v + (1 - beta2) g'^2
 *   p = (1 - lr weight_decay) p - lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)
 * Nothing is changed when the scaled norm is not finite, or so large that squares would overflow.
 *
 * Output 0: 1 where the update was applied, else 0, i32. Output 1: the scaled norm before clipping,
 * f64. Run-time errors: a learning rate or a scale that is not finite. */
wr wr_adam_at(wr_loc loc, const wr_adam_options *o, int n_in, const wr *in);
#define wr_adam(o, n_in, in) wr_adam_at(WR_HERE, o, n_in, in)

#endif
