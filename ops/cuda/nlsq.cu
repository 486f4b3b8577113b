/* nlsq.cu: the non-linear squared transform and its inverse, an element a thread; see ops/nlsq.c.
 *
 * The inverse is found in f64 for f32 operands, too, as on the CPU: where the slope is small, f32
 * would lose digits in the cubic. */
#include "ops/cuda/cuda.h"
#include "ops/nlsq_root.h"

#include <cmath>

namespace {

enum { THREADS = 256 };

/* y (or v), a, log_b, c, log_d, g */
template <class T> struct operands { const T *of[6]; };

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }
__device__ inline float hyperbolic(float x) { return tanhf(x); }
__device__ inline double hyperbolic(double x) { return tanh(x); }

template <class T> struct forward {
    static __device__ T at(T y, T a, T log_b, T c, T log_d, T g) {
        const T b = exponential(T(WR_NLSQ_LOG_SCALE) * log_b);
        const T d = exponential(T(WR_NLSQ_LOG_SCALE) * log_d);
        const T k = T(WR_NLSQ_BEND_MOST) * hyperbolic(T(WR_NLSQ_BEND_SCALE) * c), u = d * y + g;
        return b * y + a + k * b / (d * (T(1) + u * u));
    }
};

template <class T> struct inverse {
    static __device__ T at(T v, T a, T log_b, T c, T log_d, T g) {
        const double b = exp(WR_NLSQ_LOG_SCALE * static_cast<double>(log_b));
        const double d = exp(WR_NLSQ_LOG_SCALE * static_cast<double>(log_d));
        const double p = (static_cast<double>(v) - static_cast<double>(a)) * d / b + g;
        const double k = WR_NLSQ_BEND_MOST * tanh(WR_NLSQ_BEND_SCALE * static_cast<double>(c));
        return static_cast<T>((wr_nlsq_root(p, k) - g) / d);
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
