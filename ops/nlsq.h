/* nlsq.h: the non-linear squared transform of Ziegler and Rush (2019), a bijection of one number
 * with five parameters, and its inverse.
 *
 *   f(y) = b y + a + c / (1 + u^2),   u = d y + g,
 *   b = e^(0.4 log_b),  d = e^(0.4 log_d),  c = k b / d,  k = (8 sqrt(3) / 9 - 0.05) tanh(0.3 c'),
 *   f'(y) = b (1 - 2 k u / (1 + u^2)^2) >= 0.032 b
 *
 * so that f always increases, with a bump of height c at y = -g / d. The inverse is the one real
 * root of a cubic, found in f64 for both dtypes. */
#ifndef WEIR_OPS_NLSQ_H
#define WEIR_OPS_NLSQ_H

#include "graph/op.h"

extern const wr_op wr_op_nlsq, wr_op_nlsq_inverse;

/* All of one type and sizes. */
typedef struct wr_nlsq_parameters {
    wr a, log_b, c, log_d, g;
} wr_nlsq_parameters;

/* f(y), element by element. */
wr wr_nlsq_at(wr_loc loc, wr y, const wr_nlsq_parameters *p);
#define wr_nlsq(y, p) wr_nlsq_at(WR_HERE, y, p)

/* The y with f(y) = v. Its gradient is by the implicit function theorem, at the root. */
wr wr_nlsq_inverse_at(wr_loc loc, wr v, const wr_nlsq_parameters *p);
#define wr_nlsq_inverse(v, p) wr_nlsq_inverse_at(WR_HERE, v, p)

/* log f'(y). */
wr wr_nlsq_log_slope(wr y, const wr_nlsq_parameters *p);

#endif
