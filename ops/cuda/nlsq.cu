/* nlsq.cu: the non-linear squared transform and its inverse, an element a thread; see ops/nlsq.c.
 *
 * The inverse is found in f64 for f32 operands, too, as on the CPU: where the slope is small, f32
 * would lose digits in the cubic. */
#include "ops/cuda/cuda.h"

#include <cmath>

namespace {

enum { THREADS = 256, POLISH_MOST = 80 };

constexpr double LOG_SCALE = 0.4, BEND_SCALE = 0.3;
constexpr double BEND_MOST = 1.4896007178390018; /* 8 sqrt(3) / 9 - 0.05 */

/* y (or v), a, log_b, c, log_d, g */
template <class T> struct operands { const T *of[6]; };

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }
__device__ inline float hyperbolic(float x) { return tanhf(x); }
__device__ inline double hyperbolic(double x) { return tanh(x); }

template <class T> struct forward {
    static __device__ T at(T y, T a, T log_b, T c, T log_d, T g) {
        const T b = exponential(T(LOG_SCALE) * log_b), d = exponential(T(LOG_SCALE) * log_d);
        const T k = T(BEND_MOST) * hyperbolic(T(BEND_SCALE) * c), u = d * y + g;
        return b * y + a + k * b / (d * (T(1) + u * u));
    }
};

/* The real root of u^3 - p u^2 + u + k - p = 0 by Cardano's formula; a few digits may be wrong. */
__device__ inline double cardano(double p, double k) {
    const double third = p / 3.0, linear = 1.0 - p * third;
    const double constant = third * (1.0 - 2.0 * third * third) + k - p;
    const double square = constant * constant / 4.0 + linear * linear * linear / 27.0;
    const double root = sqrt(square > 0.0 ? square : 0.0);
    const double larger = cbrt(constant > 0.0 ? -constant / 2.0 - root : -constant / 2.0 + root);
    return third + larger - (larger != 0.0 ? linear / (3.0 * larger) : 0.0);
}

/* The root of u + k / (1 + u^2) = p by Newton's method from there, kept in [p - |k|, p + |k|]. */
__device__ inline double root_of(double p, double k) {
    double low = p - fabs(k), high = p + fabs(k), u = cardano(p, k);
    for (int i = 0; i < POLISH_MOST; i++) {
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

template <class T> struct inverse {
    static __device__ T at(T v, T a, T log_b, T c, T log_d, T g) {
        const double b = exp(LOG_SCALE * static_cast<double>(log_b));
        const double d = exp(LOG_SCALE * static_cast<double>(log_d));
        const double p = (static_cast<double>(v) - static_cast<double>(a)) * d / b + g;
        const double k = BEND_MOST * tanh(BEND_SCALE * static_cast<double>(c));
        return static_cast<T>((root_of(p, k) - g) / d);
    }
};

/* Operand 0 may be the output. */
template <class T, class F>
__global__ void __launch_bounds__(THREADS) each(int64_t n, operands<T> in, T *out) {
    const int64_t i = wr_cuda_thread();
    if (i >= n) return;
    out[i] = F::at(in.of[0][i], in.of[1][i], in.of[2][i], in.of[3][i], in.of[4][i], in.of[5][i]);
}

template <class T, class F> wr_status launch(const wr_call *c) {
    const int64_t n = c->out[0].n;
    operands<T> in;
    for (int k = 0; k < 6; k++)
        in.of[k] = wr_cuda_data<T>(c->in[k]);
    if (n == 0) return WR_OK;
    return WR_CUDA_LAUNCH(c, (each<T, F>), wr_cuda_blocks(n, THREADS), THREADS, 0, n, in,
                          wr_cuda_data<T>(c->out[0]));
}

template <class T> wr_status launch_forward(const wr_call *c) { return launch<T, forward<T>>(c); }
template <class T> wr_status launch_inverse(const wr_call *c) { return launch<T, inverse<T>>(c); }

wr_status nlsq_row(const wr_call *c) { return WR_CUDA_FLOAT(c->out[0].dtype, launch_forward, c); }
wr_status nlsq_inverse_row(const wr_call *c) {
    return WR_CUDA_FLOAT(c->out[0].dtype, launch_inverse, c);
}

} // namespace

const wr_cuda_row wr_cuda_rows_nlsq[] = {{"nlsq", nlsq_row, NULL, NULL},
                                         {"nlsq_inverse", nlsq_inverse_row, NULL, NULL},
                                         WR_CUDA_ROWS_END};
