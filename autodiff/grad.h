/* grad.h: reverse mode as a function from graph to graph.
 *
 * The gradient is made of ordinary nodes, so it can be differentiated again, fused, planned and
 * drawn. Contributions are summed in a fixed order. */
#ifndef WEIR_GRAD_H
#define WEIR_GRAD_H

#include "graph/op.h"

/* Gradients of the scalar `loss` (rank 0) with respect to any nodes: grads[i] has the type of
 * wrt[i]; it is zero where the loss does not depend on it. A node whose op is not differentiable,
 * on a path that matters, is a diagnostic (all of them at once) and the gradients are poison. */
bool wr_grad_at(wr_loc loc, wr loss, int n, const wr *wrt, wr *grads);
#define wr_grad(loss, n, wrt, grads) wr_grad_at(WR_HERE, loss, n, wrt, grads)

/* Vector-Jacobian product: grads[i] = sum over k of cots[k] . d outs[k] / d wrt[i]. */
bool wr_vjp_at(wr_loc loc, int n_out, const wr *outs, const wr *cots, int n, const wr *wrt,
               wr *grads);
#define wr_vjp(n_out, outs, cots, n, wrt, grads)                                                   \
    wr_vjp_at(WR_HERE, n_out, outs, cots, n, wrt, grads)

/* The node's function in simpler rows (its row's `expand`), for tests and for devices that lack a
 * kernel: outs[k] for each output. False when the row has no expansion. */
bool wr_expand_node(wr x, wr *outs);

#endif
