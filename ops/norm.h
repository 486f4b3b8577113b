/* norm.h: layer normalisation (Ba, Kiros and Hinton 2016). */
#ifndef WEIR_OPS_NORM_H
#define WEIR_OPS_NORM_H

#include "graph/op.h"

extern const wr_op wr_op_layer_norm, wr_op_layer_norm_grad;

/* x [.., D], gamma [D], beta [D] -> y [.., D] = gamma (x - mean) rstd + beta, where mean and rstd =
 * 1 / sqrt(variance + eps) are those of the row (variance divided by D). wr_output(y, 1) is the
 * mean
 * [..], wr_output(y, 2) the rstd [..]; the gradient reads them. */
wr wr_layer_norm_at(wr_loc loc, wr x, wr gamma, wr beta, double eps);
#define wr_layer_norm(x, gamma, beta, eps) wr_layer_norm_at(WR_HERE, x, gamma, beta, eps)

#endif
