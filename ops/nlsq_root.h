/* nlsq_root.h: what the non-linear squared transform and its inverse compute with, for the kernels
 * of the CPU and of CUDA; nlsq.h states the transform. */
#ifndef WEIR_OPS_NLSQ_ROOT_H
#define WEIR_OPS_NLSQ_ROOT_H

#include <math.h>

#ifdef __cplusplus
#define WR_NLSQ_FN static __device__ inline
#else
#define WR_NLSQ_FN static inline
#endif

#define WR_NLSQ_LOG_SCALE   0.4
#define WR_NLSQ_BEND_SCALE  0.3
#define WR_NLSQ_BEND_MOST   1.4896007178390018 /* 8 sqrt(3) / 9 - 0.05: keeps f' above 0 */
#define WR_NLSQ_POLISH_MOST 80

/* The real root of u^3 - p u^2 + u + k - p = 0 by Cardano's formula. The cubic has one, for
 * u + k / (1 + u^2) increases; rounding may leave a few digits fewer than all. */
WR_NLSQ_FN double wr_nlsq_cardano(double p, double k) {
    const double third = p / 3.0, linear = 1.0 - p * third; /* u = t + p/3: t^3 + linear t + .. */
    const double constant = third * (1.0 - 2.0 * third * third) + k - p;
    const double square = constant * constant / 4.0 + linear * linear * linear / 27.0;
    const double root = sqrt(square > 0.0 ? square : 0.0);
    const double larger = cbrt(constant > 0.0 ? -constant / 2.0 - root : -constant / 2.0 + root);
    return third + larger - (larger != 0.0 ? linear / (3.0 * larger) : 0.0);
}

/* The root of u + k / (1 + u^2) = p: Newton's method from there, kept in [p - |k|, p + |k|] and
 * replaced by halving where a step leaves what is left of it. */
WR_NLSQ_FN double wr_nlsq_root(double p, double k) {
    double low = p - fabs(k), high = p + fabs(k), u = wr_nlsq_cardano(p, k);
    for (int i = 0; i < WR_NLSQ_POLISH_MOST; i++) {
        if (!(u >= low && u <= high)) u = low + (high - low) / 2.0;
        const double q = 1.0 / (1.0 + u * u), error = u + k * q - p;
        if (error > 0.0)
            high = u;
        else
            low = u;
        if (!(fabs(error) > 4e-16 * (fabs(u) + fabs(p)))) break;
        u -= error / (1.0 - 2.0 * k * u * q * q);
    }
    return u;
}

#endif
