/* mple_head.h: the mask head of MPLE's input predictor: the probability that a position is masked,
 * as a logistic regression on the decoder's states.
 *
 * The states come from a model that stays as it is, so that the loss of the head alone is convex:
 * it is fitted to its minimum (Newton's method, each step solved by conjugate gradients), without a
 * learning rate, a number of updates or random numbers. */
#ifndef WEIR_MODELS_MPLE_HEAD_H
#define WEIR_MODELS_MPLE_HEAD_H

#include "graph/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* n states h [n, D] with labels masked [n] (0 or 1). */
typedef struct wr_mask_data {
    const float *h;
    const uint8_t *masked;
    size_t n, width;
} wr_mask_data;

/* P(masked) = sigmoid(w . h + w[D]); w [D + 1]. */
double wr_mask_logit(const double *w, const float *h, size_t width);

/* Minimise the mean binary cross-entropy plus ridge / 2 |w without its last|^2. ridge > 0. `loss`
 * (may be NULL) receives the mean cross-entropy, nats. Errors: WR_ERR_INPUT when n is 0 or a state
 * is not finite; WR_ERR_MEMORY. */
wr_status wr_mask_fit(const wr_mask_data *data, double ridge, double *w, double *loss,
                      wr_error *err);

#ifdef __cplusplus
}
#endif
#endif
