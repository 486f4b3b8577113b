#include "kernels.cuh"
#include <cuda_bf16.h>
#include <math_constants.h>

namespace {

constexpr unsigned whole_warp = 0xffffffffu;

__device__ float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678f)); }

__global__ void __launch_bounds__(128)
    gelu_kernel(const float *__restrict__ x, float *__restrict__ y, int n) {
    const int at = 4 * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (at + 3 < n) {
        float4 v = __ldg(reinterpret_cast<const float4 *>(x + at));
        v = make_float4(gelu(v.x), gelu(v.y), gelu(v.z), gelu(v.w));
        *reinterpret_cast<float4 *>(y + at) = v;
        return;
    }
    for (int i = at; i < n; i++)
        y[i] = gelu(x[i]);
}

template <class T> __device__ T warp_sum(T value) {
    for (int step = 16; step > 0; step /= 2)
        value += __shfl_down_sync(whole_warp, value, static_cast<unsigned>(step));
    return value;
}

/* The block's sum, in thread 0. All threads call it; the next call may follow at once. */
__device__ float block_sum(float value) {
    __shared__ float of_warp[32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    value = warp_sum(value);
    if (lane == 0) of_warp[warp] = value;
    __syncthreads();
    float sum = lane < blockDim.x / 32 ? of_warp[lane] : 0.0f;
    if (warp == 0) sum = warp_sum(sum);
    __syncthreads();
    return sum;
}

__global__ void row_sum_kernel(const float *x, float *sums, int n) {
    const float *row = x + static_cast<size_t>(blockIdx.x) * static_cast<size_t>(n);
    float sum = 0.0f;
    for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x))
        sum += row[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void transpose_kernel(const float *x, float *y, int rows, int columns) {
    __shared__ float tile[32][33];
    const int column = static_cast<int>(32 * blockIdx.x + threadIdx.x);
    const int top = static_cast<int>(32 * blockIdx.y);
    for (int i = static_cast<int>(threadIdx.y); i < 32; i += 8)
        if (column < columns && top + i < rows)
            tile[i][threadIdx.x] = x[(top + i) * columns + column];
    __syncthreads();
    const int row = top + static_cast<int>(threadIdx.x);
    const int left = static_cast<int>(32 * blockIdx.x);
    for (int i = static_cast<int>(threadIdx.y); i < 32; i += 8)
        if (row < rows && left + i < columns) y[(left + i) * rows + row] = tile[threadIdx.x][i];
}

/* The block's largest value, in all threads; `of_warp` has 32 places. */
__device__ float block_max(float value, float *of_warp) {
    for (int step = 16; step > 0; step /= 2)
        value = fmaxf(value, __shfl_xor_sync(whole_warp, value, step));
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    value = threadIdx.x % 32 < blockDim.x / 32 ? of_warp[threadIdx.x % 32] : -CUDART_INF_F;
    for (int step = 16; step > 0; step /= 2)
        value = fmaxf(value, __shfl_xor_sync(whole_warp, value, step));
    return value;
}

__global__ void softmax_kernel(const float *x, float *y, int n) {
    WR_DYNAMIC_SHARED(float, row);
    __shared__ float of_warp[32], all;
    const size_t first = static_cast<size_t>(blockIdx.x) * static_cast<size_t>(n);
    const int self = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x);
    float most = -CUDART_INF_F;
    for (int i = self; i < n; i += step) {
        row[i] = x[first + static_cast<size_t>(i)];
        most = fmaxf(most, row[i]);
    }
    most = block_max(most, of_warp);
    float sum = 0.0f;
    for (int i = self; i < n; i += step) {
        row[i] = expf(row[i] - most);
        sum += row[i];
    }
    sum = block_sum(sum);
    if (self == 0) all = sum;
    __syncthreads();
    for (int i = self; i < n; i += step)
        y[first + static_cast<size_t>(i)] = row[i] / all;
}

__global__ void partial_sum_kernel(const float *x, float *partial, int n) {
    const int step = static_cast<int>(gridDim.x * blockDim.x);
    float sum = 0.0f;
    for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < n; i += step)
        sum += x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void histogram_kernel(const int *x, unsigned *counts, int n) {
    __shared__ unsigned mine[32];
    if (threadIdx.x < 32) mine[threadIdx.x] = 0;
    __syncthreads();
    const int step = static_cast<int>(gridDim.x * blockDim.x);
    for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < n; i += step)
        atomicAdd(&mine[x[i]], 1u);
    __syncthreads();
    if (threadIdx.x < 32) atomicAdd(&counts[threadIdx.x], mine[threadIdx.x]);
}

__global__ void axpy_bf16_kernel(float a, const __nv_bfloat16 *x, __nv_bfloat16 *y, int n) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) y[i] = __float2bfloat16(fmaf(a, __bfloat162float(x[i]), __bfloat162float(y[i])));
}

__global__ void warp_operations_kernel(const int *x, int *out) {
    const int lane = static_cast<int>(threadIdx.x), value = x[lane];
    const unsigned half = lane < 16 ? 0x0000ffffu : 0xffff0000u;
    int k = 0;
    out[32 * k++ + lane] = __shfl_sync(whole_warp, value, lane + 1);
    out[32 * k++ + lane] = __shfl_sync(whole_warp, value, 2, 8);
    out[32 * k++ + lane] = __shfl_up_sync(whole_warp, value, 3);
    out[32 * k++ + lane] = __shfl_down_sync(whole_warp, value, 5, 16);
    out[32 * k++ + lane] = __shfl_xor_sync(half, value, 9);
    out[32 * k++ + lane] = static_cast<int>(__ballot_sync(whole_warp, value > 0));
    out[32 * k++ + lane] = __any_sync(half, value > 90);
    out[32 * k++ + lane] = __all_sync(whole_warp, value > -1000);
    out[32 * k++ + lane] = static_cast<int>(__match_any_sync(whole_warp, value % 3));
    out[32 * k++ + lane] = __reduce_add_sync(whole_warp, value);
    out[32 * k++ + lane] = __reduce_min_sync(half, value);
    out[32 * k++ + lane] = static_cast<int>(__reduce_max_sync(half, static_cast<unsigned>(value)));
}

int blocks_for(int n, int per_block) { return (n + per_block - 1) / per_block; }

} // namespace

void launch_gelu(const float *x, float *y, int n, cudaStream_t stream) {
    WR_LAUNCH(gelu_kernel, blocks_for(n, 4 * 128), 128, 0, stream, x, y, n);
}

void launch_row_sum(const float *x, float *sums, int rows, int n, int threads,
                    cudaStream_t stream) {
    WR_LAUNCH(row_sum_kernel, rows, threads, 0, stream, x, sums, n);
}

void launch_transpose(const float *x, float *y, int rows, int columns, cudaStream_t stream) {
    const dim3 grid(static_cast<unsigned>(blocks_for(columns, 32)),
                    static_cast<unsigned>(blocks_for(rows, 32)));
    WR_LAUNCH(transpose_kernel, grid, dim3(32, 8), 0, stream, x, y, rows, columns);
}

cudaError_t launch_softmax(const float *x, float *y, int rows, int n, cudaStream_t stream) {
    const size_t bytes = static_cast<size_t>(n) * sizeof(float);
    if (bytes > 48 * 1024) {
        const cudaError_t error = cudaFuncSetAttribute(
            softmax_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
        if (error) return error;
    }
    WR_LAUNCH(softmax_kernel, rows, 128, bytes, stream, x, y, n);
    return cudaGetLastError();
}

void launch_two_pass_sum(const float *x, float *partial, float *sum, int n, int blocks,
                         cudaStream_t stream) {
    WR_LAUNCH(partial_sum_kernel, blocks, 64, 0, stream, x, partial, n);
    WR_LAUNCH(partial_sum_kernel, 1, 64, 0, stream, partial, sum, blocks);
}

void launch_histogram(const int *x, unsigned *counts, int n, cudaStream_t stream) {
    WR_LAUNCH(histogram_kernel, 5, 96, 0, stream, x, counts, n);
}

void launch_axpy_bf16(float a, const void *x, void *y, int n, cudaStream_t stream) {
    WR_LAUNCH(axpy_bf16_kernel, blocks_for(n, 256), 256, 0, stream, a,
              static_cast<const __nv_bfloat16 *>(x), static_cast<__nv_bfloat16 *>(y), n);
}

void launch_warp_operations(const int *x, int *out, cudaStream_t stream) {
    WR_LAUNCH(warp_operations_kernel, 1, 32, 0, stream, x, out);
}
