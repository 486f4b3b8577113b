/* rows.cuh: kernels that work row by row on x [rows, n]: a warp for a short row, a block for a long
 * one. */
#ifndef WEIR_CUDA_ROWS_H
#define WEIR_CUDA_ROWS_H

#include "ops/cuda/cuda.h"

enum { WR_CUDA_ROW_THREADS = 256, WR_CUDA_ROW_SHORT = 1024 };

/* TEAM threads (32, or the whole block of 256) share a row. All threads of the block call the
 * functions; `row()` may be behind the last row when TEAM is 32. */
template <int TEAM> struct wr_cuda_team {
    static __device__ int64_t row() {
        return static_cast<int64_t>(blockIdx.x) * (WR_CUDA_ROW_THREADS / TEAM) + threadIdx.x / TEAM;
    }
    static __device__ int lane() { return threadIdx.x % TEAM; }
    template <class T> static __device__ T sum(T x, T *scratch) {
        return TEAM == 32 ? wr_cuda_warp_sum(x) : wr_cuda_block_sum(x, scratch);
    }
    template <class T> static __device__ T max(T x, T *scratch) {
        return TEAM == 32 ? wr_cuda_warp_max(x) : wr_cuda_block_max(x, scratch);
    }
    /* What the team wrote before is seen by it behind this. */
    static __device__ void wait() {
        if (TEAM == 32)
            __syncwarp();
        else
            __syncthreads();
    }
};

/* return WR_CUDA_ROWS(c, kernel, T, rows, n, arguments...): kernel<T, TEAM>(arguments...) with a
 * team for each of `rows` rows of n elements. */
#define WR_CUDA_ROWS(c, kernel, T, rows, n, ...)                                                   \
    ((n) <= WR_CUDA_ROW_SHORT                                                                      \
         ? WR_CUDA_LAUNCH(c, (kernel<T, 32>), wr_cuda_blocks(rows, WR_CUDA_ROW_THREADS / 32),      \
                          WR_CUDA_ROW_THREADS, 0, __VA_ARGS__)                                     \
         : WR_CUDA_LAUNCH(c, (kernel<T, WR_CUDA_ROW_THREADS>), static_cast<unsigned>(rows),        \
                          WR_CUDA_ROW_THREADS, 0, __VA_ARGS__))

static __device__ inline float wr_cuda_exp(float x) { return expf(x); }
static __device__ inline double wr_cuda_exp(double x) { return exp(x); }
static __device__ inline float wr_cuda_log(float x) { return logf(x); }
static __device__ inline double wr_cuda_log(double x) { return log(x); }
static __device__ inline float wr_cuda_sqrt(float x) { return sqrtf(x); }
static __device__ inline double wr_cuda_sqrt(double x) { return sqrt(x); }

/* The sum of e^x in one pass: s e^m so far (Milakov and Gimelshein 2018). */
template <class T> struct wr_cuda_sum_exp {
    T m, s;
    __device__ void add(T x) {
        if (x > m) {
            s = s * wr_cuda_exp(m - x) + T(1);
            m = x;
        } else if (!(x == T(-INFINITY))) {
            s += wr_cuda_exp(x - m);
        }
    }
};

/* log sum e^x over what the lanes of a team have; -inf for nothing. */
template <class T, int TEAM>
static __device__ inline T wr_cuda_join_sum_exp(wr_cuda_sum_exp<T> own, T *scratch) {
    const T m = wr_cuda_team<TEAM>::max(own.m, scratch);
    const T s = wr_cuda_team<TEAM>::sum(
        own.m == T(-INFINITY) ? own.s : own.s * wr_cuda_exp(own.m - m), scratch);
    return s == T(0) ? T(-INFINITY) : m + wr_cuda_log(s);
}

#endif
