/* random_ops.cu: random numbers and dropout with the CPU's bits (ops/random_ops.c); a thread has
 * one block of Philox: four numbers, or eight elements of dropout. */
#include "ops/cuda/cuda.h"

#include <cmath>

namespace {

enum { THREADS = 256, ATTR_STREAM = 2 + WR_MAX_RANK };

__device__ inline float from_bits(uint32_t bits, float) {
    return static_cast<float>(bits >> 8) * 0x1p-24f;
}
__device__ inline double from_bits(uint32_t bits, double) {
    return static_cast<double>(bits >> 8) * 0x1p-24;
}
/* In (0, 1], as wr_random_normal() has it; in (0, 1) for both logarithms of a Gumbel number. */
__device__ inline float radius_unit(uint32_t bits) {
    return (static_cast<float>(bits >> 8) + 0.5f) * 0x1p-24f;
}
__device__ inline float open_unit(uint32_t bits) {
    return (static_cast<float>(bits >> 9) + 0.5f) * 0x1p-23f;
}

__device__ inline float log_of(float x) { return logf(x); }
__device__ inline double log_of(double x) { return log(x); }
__device__ inline float root_of(float x) { return sqrtf(x); }
__device__ inline double root_of(double x) { return sqrt(x); }

/* sin and cos of 2 pi u, from the nearest quarter turn, so that cos of one is exactly 0. */
template <class T> __device__ void turn(T u, T *sine, T *cosine) {
    const int quarter = static_cast<int>(T(4) * u + T(0.5));
    const T x = (u - T(0.25) * static_cast<T>(quarter)) * T(6.283185307179586);
    const T s = static_cast<T>(sin(x)), c = static_cast<T>(cos(x));
    const T first = quarter & 1 ? c : s, second = quarter & 1 ? s : c;
    *sine = quarter & 2 ? -first : first;
    *cosine = (quarter & 3) == 1 || (quarter & 3) == 2 ? -second : second;
}

template <class T> struct uniform_of {
    static __device__ void draw(const uint32_t word[4], T out[4]) {
        for (int w = 0; w < 4; w++)
            out[w] = from_bits(word[w], T());
    }
};
template <class T> struct normal_of {
    static __device__ void draw(const uint32_t word[4], T out[4]) {
        for (int w = 0; w < 4; w += 2) {
            const T radius = root_of(T(-2) * log_of(static_cast<T>(radius_unit(word[w]))));
            T sine, cosine;
            turn(from_bits(word[w + 1], T()), &sine, &cosine);
            out[w] = radius * cosine;
            out[w + 1] = radius * sine;
        }
    }
};
template <class T> struct gumbel_of {
    static __device__ void draw(const uint32_t word[4], T out[4]) {
        for (int w = 0; w < 4; w++)
            out[w] = -log_of(-log_of(static_cast<T>(open_unit(word[w]))));
    }
};

template <class T, class D>
__global__ void __launch_bounds__(THREADS)
    draw(const wr_cuda_key *key, uint64_t stream, int64_t n, T *out) {
    const int64_t block = wr_cuda_thread(), i = 4 * block;
    if (i >= n) return;
    uint32_t word[4];
    T value[4];
    wr_cuda_random_bits(key, stream, static_cast<uint64_t>(block), word);
    D::draw(word, value);
    for (int w = 0; w < 4 && i + w < n; w++)
        out[i + w] = value[w];
}

template <class T, class D> wr_status launch_draw(const wr_call *c) {
    const int64_t n = c->out[0].n;
    if (n == 0) return WR_OK;
    return WR_CUDA_LAUNCH(c, (draw<T, D>), wr_cuda_blocks(n, 4 * THREADS), THREADS, 0,
                          wr_cuda(c)->key, static_cast<uint64_t>(c->attr[ATTR_STREAM].i), n,
                          wr_cuda_data<T>(c->out[0]));
}

#define DRAW(name)                                                                                 \
    wr_status name##_row(const wr_call *c) {                                                       \
        return c->out[0].dtype == WR_F32 ? launch_draw<float, name##_of<float>>(c)                 \
                                         : launch_draw<double, name##_of<double>>(c);              \
    }
DRAW(uniform)
DRAW(normal)
DRAW(gumbel)

/* ---- dropout: sixteen bits for an element ---- */

enum { LANES = 16, RUN = 8 * LANES };

/* Block l of a run of 128 elements has the elements 32 w + 16 half + l. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    dropout(const wr_cuda_key *key, uint64_t stream, int64_t n, uint32_t threshold, T factor,
            const T *x, T *y) {
    const int64_t block = wr_cuda_thread(), first = block / LANES * RUN + block % LANES;
    if (first >= n) return;
    uint32_t word[4];
    wr_cuda_random_bits(key, stream, static_cast<uint64_t>(block), word);
    for (int h = 0; h < 8; h++) {
        const int64_t i = first + h * LANES;
        const uint32_t bits = h % 2 == 0 ? word[h / 2] & 0xffffu : word[h / 2] >> 16;
        if (i < n) y[i] = bits >= threshold ? x[i] * factor : T(0);
    }
}

template <class T> wr_status launch_dropout(const wr_call *c) {
    const int64_t n = c->out[0].n, blocks = (n + RUN - 1) / RUN * LANES;
    const uint32_t threshold = static_cast<uint32_t>(c->attr[0].r * 65536.0 + 0.5);
    if (n == 0) return WR_OK;
    return WR_CUDA_LAUNCH(c, dropout<T>, wr_cuda_blocks(blocks, THREADS), THREADS, 0,
                          wr_cuda(c)->key, static_cast<uint64_t>(c->attr[1].i), n, threshold,
                          static_cast<T>(65536.0 / (65536.0 - threshold)),
                          wr_cuda_data<T>(c->in[0]), wr_cuda_data<T>(c->out[0]));
}

wr_status dropout_row(const wr_call *c) {
    return WR_CUDA_FLOAT(c->out[0].dtype, launch_dropout, c);
}

} // namespace

const wr_cuda_row wr_cuda_rows_random_ops[] = {{"uniform", uniform_row, NULL, NULL},
                                               {"normal", normal_row, NULL, NULL},
                                               {"gumbel", gumbel_row, NULL, NULL},
                                               {"dropout", dropout_row, NULL, NULL},
                                               WR_CUDA_ROWS_END};
