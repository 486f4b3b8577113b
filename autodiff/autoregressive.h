/* autoregressive.h: flow layers whose position t is transformed given the positions before it.
 *
 *   y[t] = g(x[t]; h(x[0], .. x[t - 1]))
 *
 * h, the conditioner, is declared once, over whole sequences of the shifted input, by ordinary
 * builders (causal attention, lstm, linear, ..), and so is g, the transform, which works position
 * by position. From x to y all positions are computed at once. The inverse is derived: a scan which
 * makes x[t] from y[t] and the positions before it (Kingma et al. 2016; Papamakarios et al. 2017).
 * Rows of the conditioner whose step form is known are evaluated at one position per step
 * (attention keeps keys and values, recurrence its state); with other rows each step evaluates the
 * conditioner on all positions. log |det| is the sum over positions of log |d y[t] / d x[t]|. */
#ifndef WEIR_AUTOREGRESSIVE_H
#define WEIR_AUTOREGRESSIVE_H

#include "graph/op.h"

extern const wr_op wr_op_autoregressive;

enum { WR_AUTOREGRESSIVE_MOST = 8 };

typedef struct wr_autoregressive_layer {
    wr x;         /* [B, T, ..] float */
    wr lengths;   /* [B] i32; left out: all positions are data. Padding is 0 in y and in the inverse
                   */
    int n_params; /* 1 to WR_AUTOREGRESSIVE_MOST; 0: 2, for the affine transform */
    /* before: x shifted by one position, zeros in front, padding 0: [B, T, ..]. Fill params, each
     * [B, T, ..]; params at t may depend on `before` up to t only. False: a mistake was found. */
    bool (*conditioner)(void *context, wr before, wr *params);
    /* y from x: a bijection that the deriver of inverses can solve, which at position t reads x and
     * params at t only. NULL: x exp(params[0]) + params[1]. */
    wr (*transform)(void *context, wr x, const wr *params);
    void *context;
    bool whole; /* the inverse evaluates the conditioner on all positions in each step, always */
} wr_autoregressive_layer;

/* y, of x's type. A conditioner that reads position t or later ones is a mistake, named with the
 * row that does it, as far as rows are known; wr_check_bijection finds the rest. */
wr wr_autoregressive_at(wr_loc loc, const wr_autoregressive_layer *o);
/* wr_autoregressive(.x = x, .lengths = lengths, .conditioner = f, .context = &weights) */
#define wr_autoregressive(...)                                                                     \
    wr_autoregressive_at(WR_HERE, &(wr_autoregressive_layer){__VA_ARGS__})

#endif
