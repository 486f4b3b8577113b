/* sort.cu: argmax, the first k in order, running sums.
 *
 * Both kinds of search compare (value, index) pairs in a strict order, so that what they find does
 * not depend on the order of threads. */
#include "ops/cuda/cuda.h"

#include <cmath>

namespace {

enum { THREADS = 256, WARPS = THREADS / 32, SHORT = 512, FEW = 32 };
enum { NOBODY = INT32_MAX };

/* ---- argmax ---- */

template <class T> struct found {
    T value;
    int32_t at;
};

/* The larger of two; of equal ones the first. Not-a-number is never found. */
template <class T> __device__ inline void take_larger(found<T> *best, T value, int32_t at) {
    if (value > best->value || (value == best->value && at < best->at)) {
        best->value = value;
        best->at = at;
    }
}

template <class T> __device__ inline void join_warp(found<T> *best) {
    for (int apart = 16; apart > 0; apart /= 2) {
        const T value = __shfl_xor_sync(0xffffffffu, best->value, apart);
        const int32_t at = __shfl_xor_sync(0xffffffffu, best->at, apart);
        take_larger(best, value, at);
    }
}

/* Elements lane, lane + step, .. of a row, four at once where `wide`. */
template <class T>
__device__ inline found<T> search(const T *x, int64_t n, int lane, int step, bool wide) {
    found<T> best = {T(-INFINITY), NOBODY};
    int64_t i = lane;
    if (wide) {
        for (; i < n / 4; i += step) {
            const wr_cuda_four<T> q = reinterpret_cast<const wr_cuda_four<T> *>(x)[i];
#pragma unroll
            for (int j = 0; j < 4; j++)
                take_larger(&best, q.v[j], static_cast<int32_t>(4 * i + j));
        }
        return best;
    }
    for (; i < n; i += step)
        take_larger(&best, x[i], static_cast<int32_t>(i));
    return best;
}

/* A warp for each row. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    argmax_short(const T *x, int32_t *out, int64_t rows, int64_t n, bool wide) {
    const int64_t row = wr_cuda_thread() / 32;
    const int lane = threadIdx.x % 32;
    found<T> best = {T(-INFINITY), NOBODY};
    if (row < rows) best = search(x + row * n, n, lane, 32, wide);
    join_warp(&best);
    if (row < rows && lane == 0) out[row] = best.at == NOBODY ? 0 : best.at;
}

/* A block for each row. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    argmax_long(const T *x, int32_t *out, int64_t n, bool wide) {
    __shared__ T value[32];
    __shared__ int32_t at[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    found<T> best = search(x + blockIdx.x * n, n, threadIdx.x, THREADS, wide);
    join_warp(&best);
    if (lane == 0) {
        value[warp] = best.value;
        at[warp] = best.at;
    }
    __syncthreads();
    best = found<T>{T(-INFINITY), NOBODY};
    if (lane < WARPS) best = found<T>{value[lane], at[lane]};
    join_warp(&best);
    if (threadIdx.x == 0) out[blockIdx.x] = best.at == NOBODY ? 0 : best.at;
}

template <class T> wr_status launch_argmax(const wr_call *c) {
    const wr_tensor *x = &c->in[0];
    const int64_t n = x->dim[x->rank - 1], rows = c->out[0].n;
    const T *from = wr_cuda_data<T>(*x);
    int32_t *out = wr_cuda_data<int32_t>(c->out[0]);
    if (rows == 0) return WR_OK;
    if (n == 0)
        return wr_cuda(c)->services->fail(c->env->err, WR_ERR_INPUT,
                                          "argmax: the last axis is empty");
    const bool wide = n % 4 == 0 && wr_cuda_aligned(from, 16);
    if (n <= SHORT)
        return WR_CUDA_LAUNCH(c, argmax_short<T>, wr_cuda_blocks(rows, WARPS), THREADS, 0, from,
                              out, rows, n, wide);
    return WR_CUDA_LAUNCH(c, argmax_long<T>, static_cast<unsigned>(rows), THREADS, 0, from, out, n,
                          wide);
}

wr_status argmax_row(const wr_call *c) { return WR_CUDA_FLOAT(c->in[0].dtype, launch_argmax, c); }

/* ---- the first k ---- */

/* Does element a stand before element b? Not-a-number stands last, nobody behind it; `sign` -1:
 * ascending. Indices differ. */
template <class T> __device__ inline bool before(found<T> a, found<T> b, T sign) {
    if (a.at == NOBODY || b.at == NOBODY) return b.at == NOBODY && a.at != NOBODY;
    const T p = sign * a.value, q = sign * b.value;
    if (p > q) return true;
    if (q > p) return false;
    const bool lost = p != p, other = q != q;
    return lost == other ? a.at < b.at : other;
}

template <class T> __device__ inline found<T> first_of_warp(found<T> best, T sign) {
    for (int apart = 16; apart > 0; apart /= 2) {
        const found<T> other = {__shfl_xor_sync(0xffffffffu, best.value, apart),
                                __shfl_xor_sync(0xffffffffu, best.at, apart)};
        if (before(other, best, sign)) best = other;
    }
    return best;
}

/* The first of a warp's share of the row that stands behind `last`. A share is every WARPS-th run
 * of 32 elements. */
template <class T>
__device__ inline found<T> next_of_share(const T *x, int64_t n, found<T> last, T sign) {
    found<T> best = {T(0), NOBODY};
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < n; i += THREADS) {
        const found<T> now = {x[i], static_cast<int32_t>(i)};
        if ((last.at == NOBODY || before(last, now, sign)) && before(now, best, sign)) best = now;
    }
    return first_of_warp(best, sign);
}

/* k rounds, a block for each row: each warp keeps the first of its share that is not taken yet;
 * only the warp whose element is taken looks for its next. */
template <class T>
__global__ void __launch_bounds__(THREADS, 4)
    top_few(const T *x, int64_t n, int k, T sign, T *values, int32_t *indices) {
    __shared__ T value[32];
    __shared__ int32_t at[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const T *row = x + blockIdx.x * n;
    const int64_t to = static_cast<int64_t>(blockIdx.x) * k;
    found<T> mine = next_of_share(row, n, found<T>{T(0), NOBODY}, sign);
    for (int i = 0; i < k; i++) {
        if (lane == 0) {
            value[warp] = mine.value;
            at[warp] = mine.at;
        }
        __syncthreads();
        found<T> best = {T(0), NOBODY};
        if (lane < WARPS) best = found<T>{value[lane], at[lane]};
        best = first_of_warp(best, sign);
        if (threadIdx.x == 0 && values != NULL) values[to + i] = best.value;
        if (threadIdx.x == 0 && indices != NULL) indices[to + i] = best.at;
        __syncthreads();
        if (best.at == mine.at) mine = next_of_share(row, n, best, sign);
    }
}

/* The place of each element is the number of those before it, which its thread counts: for sorting
 * and for many of a row. Grid: blocks of elements, rows. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    top_many(const T *x, int64_t n, int64_t k, int64_t first_row, T sign, T *values,
             int32_t *indices) {
    __shared__ T part[THREADS];
    const int64_t row = first_row + blockIdx.y, i = wr_cuda_thread();
    x += row * n;
    const found<T> mine = {i < n ? x[i] : T(0), static_cast<int32_t>(i)};
    int64_t place = 0;
    for (int64_t from = 0; from < n; from += THREADS) {
        const int64_t count = n - from < THREADS ? n - from : THREADS;
        __syncthreads();
        if (threadIdx.x < count) part[threadIdx.x] = x[from + threadIdx.x];
        __syncthreads();
        for (int64_t j = 0; j < count; j++)
            place += before(found<T>{part[j], static_cast<int32_t>(from + j)}, mine, sign);
    }
    if (i >= n || place >= k) return;
    if (values != NULL) values[row * k + place] = mine.value;
    if (indices != NULL) indices[row * k + place] = mine.at;
}

template <class T> wr_status launch_top_k(const wr_call *c) {
    constexpr int64_t MOST = 65535; /* of a grid's second axis */
    const wr_tensor *x = &c->in[0];
    const int64_t n = x->dim[x->rank - 1], k = c->attr[0].i;
    const int64_t rows = wr_extent(x, 0, x->rank - 1);
    const T *from = wr_cuda_data<T>(*x), sign = c->attr[1].i != 0 ? T(1) : T(-1);
    T *values = wr_cuda_data<T>(c->out[0]);
    int32_t *indices = wr_cuda_data<int32_t>(c->out[1]);
    if (k < 1 || k > n)
        return wr_cuda(c)->services->fail(c->env->err, WR_ERR_INPUT,
                                          "top_k: k is %lld of %lld elements; 1 <= k <= V",
                                          static_cast<long long>(k), static_cast<long long>(n));
    if (rows == 0) return WR_OK;
    if (k <= FEW)
        return WR_CUDA_LAUNCH(c, top_few<T>, static_cast<unsigned>(rows), THREADS, 0, from, n,
                              static_cast<int>(k), sign, values, indices);
    wr_status status = WR_OK;
    for (int64_t r = 0; r < rows && status == WR_OK; r += MOST) {
        const unsigned now = static_cast<unsigned>(rows - r < MOST ? rows - r : MOST);
        status = WR_CUDA_LAUNCH(c, top_many<T>, dim3(wr_cuda_blocks(n, THREADS), now), THREADS, 0,
                                from, n, k, r, sign, values, indices);
    }
    return status;
}

wr_status top_k_row(const wr_call *c) { return WR_CUDA_FLOAT(c->in[0].dtype, launch_top_k, c); }

/* ---- running sums, kept in double ---- */

/* x [outer, n, inner] with inner > 1: a thread for each column. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    sum_columns(const T *x, T *y, int64_t outer, int64_t n, int64_t inner, bool reverse,
                bool exclusive) {
    const int64_t column = wr_cuda_thread();
    if (column >= outer * inner) return;
    const int64_t first = column / inner * n * inner + column % inner;
    double sum = 0;
#pragma unroll 4
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = first + (reverse ? n - 1 - i : i) * inner;
        const double before = sum;
        sum += static_cast<double>(x[at]);
        y[at] = static_cast<T>(exclusive ? before : sum);
    }
}

/* x [rows, n]: a warp for each row, 32 elements at a time. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    sum_rows(const T *x, T *y, int64_t rows, int64_t n, bool reverse, bool exclusive) {
    const int64_t row = wr_cuda_thread() / 32;
    const int lane = threadIdx.x % 32;
    double sum = 0;
    for (int64_t from = 0; from < n; from += 32) {
        const int64_t i = from + lane, at = row * n + (reverse ? n - 1 - i : i);
        const bool there = row < rows && i < n;
        const double own = there ? static_cast<double>(x[at]) : 0;
        double upto = own;
        for (int apart = 1; apart < 32; apart *= 2) {
            const double other = __shfl_up_sync(0xffffffffu, upto, apart);
            if (lane >= apart) upto += other;
        }
        double before = __shfl_up_sync(0xffffffffu, upto, 1);
        if (lane == 0) before = 0;
        if (there) y[at] = static_cast<T>(sum + (exclusive ? before : upto));
        sum += __shfl_sync(0xffffffffu, upto, 31);
    }
}

template <class T> wr_status launch_cumsum(const wr_call *c) {
    const wr_tensor *x = &c->in[0];
    const int axis = static_cast<int>(c->attr[0].i);
    const int64_t outer = wr_extent(x, 0, axis), n = x->dim[axis];
    const int64_t inner = wr_extent(x, axis + 1, x->rank);
    const bool reverse = c->attr[1].i != 0, exclusive = c->attr[2].i != 0;
    const T *from = wr_cuda_data<T>(*x);
    T *to = wr_cuda_data<T>(c->out[0]);
    if (x->n == 0) return WR_OK;
    if (inner == 1)
        return WR_CUDA_LAUNCH(c, sum_rows<T>, wr_cuda_blocks(outer, WARPS), THREADS, 0, from, to,
                              outer, n, reverse, exclusive);
    return WR_CUDA_LAUNCH(c, sum_columns<T>, wr_cuda_blocks(outer * inner, THREADS), THREADS, 0,
                          from, to, outer, n, inner, reverse, exclusive);
}

wr_status cumsum_row(const wr_call *c) { return WR_CUDA_FLOAT(c->out[0].dtype, launch_cumsum, c); }

} // namespace

const wr_cuda_row wr_cuda_rows_sort[] = {{"argmax", argmax_row, NULL, NULL},
                                         {"top_k", top_k_row, NULL, NULL},
                                         {"cumsum", cumsum_row, NULL, NULL},
                                         WR_CUDA_ROWS_END};
