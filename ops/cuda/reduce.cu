/* reduce.cu: sums and maxima over axes [from, to): x as [outer, middle, inner] to [outer, inner].
 *
 * Long sums are made in parts, whose results are summed by the same kernels: the sizes alone set
 * the order, so that a run repeats bit for bit. */
#include "ops/cuda/cuda.h"

#include <cmath>

namespace {

enum { COLUMNS = 32, LANES = 8, THREADS = 256, SHORT = 512, PARTS_MOST = 64, PART_LEAST = 128 };
enum { FILLS = 512 }; /* blocks that fill a device */

template <class T> struct sum_of {
    static __device__ T none() { return T(0); }
    static __device__ T join(T a, T b) { return a + b; }
    static __device__ T warp(T x) { return wr_cuda_warp_sum(x); }
    static __device__ T block(T x, T *scratch) { return wr_cuda_block_sum(x, scratch); }
};
template <class T> struct max_of {
    static __device__ T none() { return T(-INFINITY); }
    static __device__ T join(T a, T b) { return wr_cuda_larger(a, b); }
    static __device__ T warp(T x) { return wr_cuda_warp_max(x); }
    static __device__ T block(T x, T *scratch) { return wr_cuda_block_max(x, scratch); }
};

/* Rows of `length`, a warp for each: out[row]. Rows of one tensor lie one after the other. */
template <class T, class R>
__global__ void __launch_bounds__(THREADS)
    reduce_short(const T *x, T *out, int64_t rows, int64_t length) {
    const int64_t row = wr_cuda_thread() / 32;
    const int lane = threadIdx.x % 32;
    T r = R::none();
    for (int64_t i = lane; row < rows && i < length; i += 32)
        r = R::join(r, x[row * length + i]);
    r = R::warp(r);
    if (row < rows && lane == 0) out[row] = r;
}

/* Part blockIdx.x (of `part` elements) of row blockIdx.y: out[row, part number]. */
template <class T, class R>
__global__ void __launch_bounds__(THREADS)
    reduce_long(const T *x, T *out, int64_t length, int64_t part) {
    __shared__ T scratch[32];
    const int64_t first = blockIdx.x * part;
    const int64_t end = first + part < length ? first + part : length;
    const T *from = x + blockIdx.y * length;
    T r = R::none();
    for (int64_t i = first + threadIdx.x; i < end; i += blockDim.x)
        r = R::join(r, from[i]);
    r = R::block(r, scratch);
    if (threadIdx.x == 0) out[static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x] = r;
}

/* 32 columns of part blockIdx.y of matrix blockIdx.z [middle, inner]: out[matrix, part, column]. */
template <class T, class R>
__global__ void __launch_bounds__(COLUMNS *LANES)
    reduce_columns(const T *x, T *out, int64_t middle, int64_t inner, int64_t part) {
    __shared__ T scratch[LANES][COLUMNS + 1];
    const int column = threadIdx.x % COLUMNS, lane = threadIdx.x / COLUMNS;
    const int64_t at = static_cast<int64_t>(blockIdx.x) * COLUMNS + column;
    const int64_t first = blockIdx.y * part;
    const int64_t end = first + part < middle ? first + part : middle;
    const T *from = x + blockIdx.z * middle * inner;
    T r = R::none();
    for (int64_t i = first + lane; at < inner && i < end; i += LANES)
        r = R::join(r, from[i * inner + at]);
    scratch[lane][column] = r;
    __syncthreads();
    if (lane != 0 || at >= inner) return;
    for (int l = 1; l < LANES; l++)
        r = R::join(r, scratch[l][column]);
    out[(static_cast<int64_t>(blockIdx.z) * gridDim.y + blockIdx.y) * inner + at] = r;
}

struct view3 {
    int64_t outer, middle, inner, parts, part;
};

view3 view_of(const wr_call *c) {
    const wr_tensor *x = &c->in[0];
    const int from = static_cast<int>(c->attr[0].i), to = static_cast<int>(c->attr[1].i);
    view3 v = {wr_extent(x, 0, from), wr_extent(x, from, to), wr_extent(x, to, x->rank), 1, 0};
    const int64_t blocks = v.outer * (v.inner == 1 ? 1 : (v.inner + COLUMNS - 1) / COLUMNS);
    const int64_t least = v.inner == 1 ? 4 * THREADS : PART_LEAST;
    if (blocks > 0 && blocks < FILLS) {
        v.parts = FILLS / blocks;
        if (v.parts > v.middle / least) v.parts = v.middle / least;
        if (v.parts > PARTS_MOST) v.parts = PARTS_MOST;
        if (v.parts < 1) v.parts = 1;
    }
    v.part = (v.middle + v.parts - 1) / v.parts;
    return v;
}

size_t workspace(const wr_call *c) {
    const view3 v = view_of(c);
    const size_t each = c->out[0].dtype == WR_F64 ? sizeof(double) : sizeof(float);
    return v.parts > 1 ? static_cast<size_t>(v.outer * v.parts * v.inner) * each : 0;
}

/* [outer, middle, inner] to [outer, parts, inner]; grids have at most 65535 in y and z. */
template <class T, class R>
wr_status pass(const wr_call *c, const T *x, T *out, int64_t outer, int64_t middle, int64_t inner,
               int64_t parts, int64_t part) {
    constexpr int64_t MOST = 65535;
    if (inner == 1 && parts == 1 && (middle <= SHORT || outer > MOST))
        return WR_CUDA_LAUNCH(c, (reduce_short<T, R>), wr_cuda_blocks(outer * 32, THREADS), THREADS,
                              0, x, out, outer, middle);
    for (int64_t o = 0; o < outer; o += MOST) {
        const unsigned n = static_cast<unsigned>(outer - o < MOST ? outer - o : MOST);
        const unsigned p = static_cast<unsigned>(parts);
        const T *from = x + o * middle * inner;
        T *to = out + o * parts * inner;
        wr_status status = inner == 1
                               ? WR_CUDA_LAUNCH(c, (reduce_long<T, R>), dim3(p, n), THREADS, 0,
                                                from, to, middle, part)
                               : WR_CUDA_LAUNCH(c, (reduce_columns<T, R>),
                                                dim3(wr_cuda_blocks(inner, COLUMNS), p, n),
                                                COLUMNS * LANES, 0, from, to, middle, inner, part);
        if (status != WR_OK) return status;
    }
    return WR_OK;
}

template <class T, class R> wr_status reduce(const wr_call *c) {
    const view3 v = view_of(c);
    const T *x = wr_cuda_data<T>(c->in[0]);
    T *out = wr_cuda_data<T>(c->out[0]);
    if (c->out[0].n == 0) return WR_OK;
    if (v.parts == 1) return pass<T, R>(c, x, out, v.outer, v.middle, v.inner, 1, v.part);
    T *partial = static_cast<T *>(c->workspace);
    wr_status status = pass<T, R>(c, x, partial, v.outer, v.middle, v.inner, v.parts, v.part);
    if (status != WR_OK) return status;
    return pass<T, R>(c, partial, out, v.outer, v.parts, v.inner, 1, v.parts);
}

wr_status sum_row(const wr_call *c) {
    return c->out[0].dtype == WR_F32 ? reduce<float, sum_of<float>>(c)
                                     : reduce<double, sum_of<double>>(c);
}
wr_status max_row(const wr_call *c) {
    return c->out[0].dtype == WR_F32 ? reduce<float, max_of<float>>(c)
                                     : reduce<double, max_of<double>>(c);
}

} // namespace

const wr_cuda_row wr_cuda_rows_reduce[] = {
    {"sum", sum_row, NULL, workspace}, {"max", max_row, NULL, workspace}, WR_CUDA_ROWS_END};
