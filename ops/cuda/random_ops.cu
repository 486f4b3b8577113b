/* random_ops.cu: random numbers and dropout, with the numbers of ops/random_ops.c.
 *
 * A thread makes what one block of Philox gives: four numbers, or dropout's bits for eight elements
 * that lie 16 apart. f32 numbers are the CPU's bit for bit: the same polynomials, by operations
 * that are rounded one by one (nvcc would join products and sums else). f64 ones go through the
 * mathematical library of the device, which is within two units in the last place of the CPU's. */
#include "ops/cuda/cuda.h"

#include <cmath>

namespace {

enum { THREADS = 256 };
enum { ATTR_STREAM = 2 + WR_MAX_RANK }; /* behind rank, sizes and dtype */

/* ---- arithmetic without contraction ---- */

__device__ inline float times(float a, float b) { return __fmul_rn(a, b); }
__device__ inline float plus(float a, float b) { return __fadd_rn(a, b); }
__device__ inline float times_plus(float a, float b, float c) { return plus(times(a, b), c); }

/* log(x) for ordinary positive numbers: wr_log_f32 of ops/cpu/vmath.h. */
__device__ inline float log_exact(float x) {
    const int32_t half_root = 0x3f3504f3; /* sqrt(1/2) */
    const uint32_t bits = __float_as_uint(x);
    const int32_t n = static_cast<int32_t>(bits - static_cast<uint32_t>(half_root)) >> 23;
    const float f = plus(__uint_as_float(bits - (static_cast<uint32_t>(n) << 23)), -1.0f);
    const float e = static_cast<float>(n);
    float p = 0x1.14579ep-4f;
    p = times_plus(p, f, -0x1.de3bb8p-4f);
    p = times_plus(p, f, 0x1.e6f050p-4f);
    p = times_plus(p, f, -0x1.fc2238p-4f);
    p = times_plus(p, f, 0x1.233770p-3f);
    p = times_plus(p, f, -0x1.555c4ap-3f);
    p = times_plus(p, f, 0x1.99a4b4p-3f);
    p = times_plus(p, f, -0x1.000006p-2f);
    p = times_plus(p, f, 0x1.555548p-2f);
    const float low = plus(times(e, 0x1.7f7d1cp-20f), 0.0f);
    const float tail = plus(times(times(f, f), times_plus(p, f, -0.5f)), low);
    return plus(times(e, 0x1.62e4p-1f), plus(f, tail));
}

/* sin and cos of 2 pi u: turn() of ops/random_ops.c. */
__device__ inline void turn(float u, float *sine, float *cosine) {
    const float quarter = static_cast<float>(static_cast<int32_t>(times_plus(4.0f, u, 0.5f)));
    const float x = times(plus(u, -times(0.25f, quarter)), 6.283185307179586f), z = times(x, x);
    float s = times_plus(z, 2.7557319e-6f, -1.9841270e-4f);
    s = times_plus(z, s, 8.3333333e-3f);
    s = times_plus(z, s, -1.6666667e-1f);
    s = plus(x, times(times(x, z), s));
    float c = times_plus(z, 2.4801587e-5f, -1.3888889e-3f);
    c = times_plus(z, c, 4.1666667e-2f);
    c = times_plus(z, c, -0.5f);
    c = times_plus(z, c, 1.0f);
    const int32_t q = static_cast<int32_t>(quarter) & 3;
    const float first = (q & 1) != 0 ? c : s, second = (q & 1) != 0 ? s : c;
    *sine = (q & 2) != 0 ? -first : first;
    *cosine = q == 1 || q == 2 ? -second : second;
}

__device__ inline float radius_unit(uint32_t bits) {
    return times(plus(static_cast<float>(bits >> 8), 0.5f), 0x1p-24f);
}
__device__ inline float open_unit(uint32_t bits) {
    return times(plus(static_cast<float>(bits >> 9), 0.5f), 0x1p-23f);
}

/* ---- distributions: four numbers of four words ---- */

struct uniform_numbers {
    template <class T> static __device__ void make(const uint32_t (&word)[4], T (&y)[4]) {
#pragma unroll
        for (int w = 0; w < 4; w++)
            y[w] = static_cast<T>(word[w] >> 8) * static_cast<T>(0x1p-24);
    }
};

struct normal_numbers {
    static __device__ void make(const uint32_t (&word)[4], float (&y)[4]) {
#pragma unroll
        for (int w = 0; w < 4; w += 2) {
            const float radius = __fsqrt_rn(times(-2.0f, log_exact(radius_unit(word[w]))));
            float sine, cosine;
            turn(static_cast<float>(word[w + 1] >> 8) * 0x1p-24f, &sine, &cosine);
            y[w] = times(radius, cosine);
            y[w + 1] = times(radius, sine);
        }
    }
    static __device__ void make(const uint32_t (&word)[4], double (&y)[4]) {
        for (int w = 0; w < 4; w += 2) {
            const double radius = sqrt(-2.0 * log(static_cast<double>(radius_unit(word[w]))));
            const double angle =
                6.283185307179586 * 0x1p-24 * static_cast<double>(word[w + 1] >> 8);
            y[w] = radius * cos(angle);
            y[w + 1] = radius * sin(angle);
        }
    }
};

struct gumbel_numbers {
    static __device__ void make(const uint32_t (&word)[4], float (&y)[4]) {
#pragma unroll
        for (int w = 0; w < 4; w++)
            y[w] = -log_exact(-log_exact(open_unit(word[w])));
    }
    static __device__ void make(const uint32_t (&word)[4], double (&y)[4]) {
        for (int w = 0; w < 4; w++)
            y[w] = -log(-log(static_cast<double>(open_unit(word[w]))));
    }
};

template <class T, class D>
__global__ void __launch_bounds__(THREADS)
    draw(const wr_cuda_key *key, uint64_t stream, int64_t n, T *y, bool wide) {
    const int64_t i = wr_cuda_thread();
    if (4 * i >= n) return;
    uint32_t word[4];
    wr_cuda_four<T> x;
    wr_cuda_random_bits(key, stream, static_cast<uint64_t>(i), word);
    D::make(word, x.v);
    if (wide && 4 * i + 4 <= n) {
        reinterpret_cast<wr_cuda_four<T> *>(y)[i] = x;
        return;
    }
#pragma unroll
    for (int j = 0; j < 4; j++)
        if (4 * i + j < n) y[4 * i + j] = x.v[j];
}

template <class T, class D> wr_status launch_draw(const wr_call *c) {
    T *y = wr_cuda_data<T>(c->out[0]);
    const int64_t n = c->out[0].n;
    if (n == 0) return WR_OK;
    return WR_CUDA_LAUNCH(c, (draw<T, D>), wr_cuda_blocks((n + 3) / 4, THREADS), THREADS, 0,
                          wr_cuda(c)->key, static_cast<uint64_t>(c->attr[ATTR_STREAM].i), n, y,
                          wr_cuda_aligned(y, 16));
}

template <class D> wr_status draw_row(const wr_call *c) {
    return c->out[0].dtype == WR_F32 ? launch_draw<float, D>(c) : launch_draw<double, D>(c);
}

/* ---- dropout ---- */

enum { RUN = 128, LANES = 16 };

/* Thread i has block i of Philox: element 32 w + 16 h + l of run i / 16, with l = i % 16, gets half
 * h of word w. Sixteen threads read 16 elements in a row. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    drop(const wr_cuda_key *key, uint64_t stream, uint32_t threshold, T factor, int64_t n,
         const T *x, T *y) {
    const int64_t i = wr_cuda_thread(), first = i / LANES * RUN + i % LANES;
    if (first >= n) return;
    T in[8];
#pragma unroll
    for (int k = 0; k < 8; k++)
        in[k] = first + LANES * k < n ? x[first + LANES * k] : T(0);
    uint32_t word[4];
    wr_cuda_random_bits(key, stream, static_cast<uint64_t>(i), word);
#pragma unroll
    for (int k = 0; k < 8; k++) {
        const uint32_t bits = k % 2 == 0 ? word[k / 2] & 0xffffu : word[k / 2] >> 16;
        if (first + LANES * k < n) y[first + LANES * k] = bits >= threshold ? in[k] * factor : T(0);
    }
}

template <class T> wr_status launch_drop(const wr_call *c) {
    const int64_t n = c->out[0].n, threads = (n + RUN - 1) / RUN * LANES;
    const uint32_t threshold = static_cast<uint32_t>(c->attr[0].r * 65536.0 + 0.5);
    const T factor = static_cast<T>(65536.0 / (65536.0 - static_cast<double>(threshold)));
    if (n == 0) return WR_OK;
    return WR_CUDA_LAUNCH(c, drop<T>, wr_cuda_blocks(threads, THREADS), THREADS, 0, wr_cuda(c)->key,
                          static_cast<uint64_t>(c->attr[1].i), threshold, factor, n,
                          wr_cuda_data<T>(c->in[0]), wr_cuda_data<T>(c->out[0]));
}

wr_status dropout_row(const wr_call *c) { return WR_CUDA_FLOAT(c->out[0].dtype, launch_drop, c); }

} // namespace

const wr_cuda_row wr_cuda_rows_random_ops[] = {{"uniform", draw_row<uniform_numbers>, NULL, NULL},
                                               {"normal", draw_row<normal_numbers>, NULL, NULL},
                                               {"gumbel", draw_row<gumbel_numbers>, NULL, NULL},
                                               {"dropout", dropout_row, NULL, NULL},
                                               WR_CUDA_ROWS_END};
