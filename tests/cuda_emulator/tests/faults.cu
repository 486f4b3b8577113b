#include "faults.cuh"

namespace {

constexpr unsigned whole_warp = 0xffffffffu;

__global__ void divergent_shuffle_kernel(float *x) {
    const unsigned i = threadIdx.x;
    if (i % 32 >= 16) return;
    x[i] = __shfl_xor_sync(whole_warp, 1.0f, 1);
}

__global__ void two_operations_kernel(int *x) {
    const unsigned i = threadIdx.x;
    if (i % 2)
        x[i] = __any_sync(whole_warp, 1);
    else
        x[i] = __all_sync(whole_warp, 1);
}

__global__ void foreign_mask_kernel(float *x) {
    x[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, 1.0f, 1);
}

__global__ void foreign_lane_kernel(float *x) {
    const unsigned i = threadIdx.x;
    if (i % 32 < 16) x[i] = __shfl_down_sync(0x0000ffffu, 1.0f, 16);
}

__global__ void short_warp_kernel(float *x) {
    x[threadIdx.x] = __shfl_xor_sync(whole_warp, 1.0f, 1);
}

__global__ void early_return_kernel(float *x, int n) {
    const int i = static_cast<int>(threadIdx.x);
    if (i >= n) return;
    __syncthreads();
    x[i] = 1.0f;
}

__global__ void two_barriers_kernel(float *x) {
    if (threadIdx.x % 2)
        __syncthreads();
    else
        __syncthreads();
    x[threadIdx.x] = 1.0f;
}

__global__ void barrier_and_warp_kernel(float *x) {
    if (threadIdx.x == 3)
        __syncwarp();
    else
        __syncthreads();
    x[threadIdx.x] = 1.0f;
}

__global__ void trap_kernel(float *x) {
    x[threadIdx.x] = 1.0f;
    if (threadIdx.x == 5) __trap();
}

__global__ void off_by_one_kernel(float *x, int n) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i <= n) x[i] = 1.0f;
}

__global__ void read_off_by_one_kernel(const float *x, float *sum, int n) {
    if (threadIdx.x != 0) return;
    float total = 0.0f;
    for (int i = 0; i <= n; i++)
        total += x[i];
    *sum = total;
}

__global__ void far_write_kernel(float *x) {
    if (threadIdx.x == 7) x[7 << 20] = 1.0f;
}

__device__ int recurse(volatile int *x, int depth) {
    const int here = *x;
    return *x == -1 ? here : recurse(x, depth + 1) + here;
}

__global__ void endless_recursion_kernel(int *x) { *x = recurse(x, 0); }

__global__ void misaligned_load_kernel(const float *x, float *y) {
    const float4 v = *reinterpret_cast<const float4 *>(x + 1);
    y[threadIdx.x] = v.x + v.w;
}

__global__ void misaligned_store_kernel(float *x) {
    *reinterpret_cast<float4 *>(x + 1) = make_float4(1.0f, 2.0f, 3.0f, 4.0f);
}

template <class T, int n> struct WR_VECTOR(pack, n * sizeof(T) < 16 ? n * sizeof(T) : 16) {
    T v[n];
};
struct WR_VECTOR(pair, 8) {
    pack<float, 2> both;
};
static_assert(sizeof(pair) == 8 && sizeof(pack<float, 4>) == 16 && sizeof(float4) == 16);

__global__ void misaligned_pair_kernel(const float *x, float *y) {
    const pair p = *reinterpret_cast<const pair *>(x + 1);
    y[threadIdx.x] = p.both.v[1];
}

__global__ void outside_array_kernel(float *x) {
    __shared__ float values[64];
    const int i = static_cast<int>(threadIdx.x);
    values[i + 1] = 1.0f;
    __syncthreads();
    x[i] = values[i];
}

__global__ void overflow_kernel(int *x, int n) { x[threadIdx.x] = n * n; }

__global__ void unwritten_shared_kernel(float *x) {
    __shared__ float values[32];
    WR_DYNAMIC_SHARED(float, more);
    if (threadIdx.x == 0) {
        x[2 * blockIdx.x] = values[5];
        x[2 * blockIdx.x + 1] = more[0];
        values[5] = more[0] = 1.0f;
    }
}

__global__ void missing_barrier_kernel(const float *x, float *y) {
    __shared__ float values[64];
    const unsigned i = threadIdx.x;
    values[i] = x[i];
    y[i] = values[63 - i];
}

__device__ float sum_of_block(float value, float *of_warp) {
    for (int step = 16; step > 0; step /= 2)
        value += __shfl_xor_sync(whole_warp, value, step);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    return of_warp[0] + of_warp[1];
}

__global__ void missing_second_barrier_kernel(const float *x, float *sums) {
    __shared__ float of_warp[2];
    const float value = x[threadIdx.x];
    const float first = sum_of_block(value, of_warp);
    const float second = sum_of_block(value + value, of_warp);
    if (threadIdx.x == 0) {
        sums[0] = first;
        sums[1] = second;
    }
}

__global__ void missing_syncwarp_kernel(const float *x, float *y) {
    __shared__ float values[64];
    const unsigned i = threadIdx.x;
    values[i] = x[i];
    __any_sync(whole_warp, 1); /* brings the lanes together, but does not order memory */
    y[i] = values[i ^ 1];
}

__global__ void race_of_blocks_kernel(float *sum) {
    if (threadIdx.x == 0) *sum += 1.0f;
}

} // namespace

void launch_divergent_shuffle(float *x, cudaStream_t stream) {
    WR_LAUNCH(divergent_shuffle_kernel, 1, 64, 0, stream, x);
}
void launch_two_operations(int *x, cudaStream_t stream) {
    WR_LAUNCH(two_operations_kernel, 1, 64, 0, stream, x);
}
void launch_foreign_mask(float *x, cudaStream_t stream) {
    WR_LAUNCH(foreign_mask_kernel, 1, 64, 0, stream, x);
}
void launch_foreign_lane(float *x, cudaStream_t stream) {
    WR_LAUNCH(foreign_lane_kernel, 1, 64, 0, stream, x);
}
void launch_short_warp(float *x, cudaStream_t stream) {
    WR_LAUNCH(short_warp_kernel, 1, 40, 0, stream, x);
}
void launch_early_return(float *x, int n, cudaStream_t stream) {
    WR_LAUNCH(early_return_kernel, 1, 64, 0, stream, x, n);
}
void launch_two_barriers(float *x, cudaStream_t stream) {
    WR_LAUNCH(two_barriers_kernel, 1, 64, 0, stream, x);
}
void launch_barrier_and_warp(float *x, cudaStream_t stream) {
    WR_LAUNCH(barrier_and_warp_kernel, 1, 64, 0, stream, x);
}
void launch_trap(float *x, cudaStream_t stream) { WR_LAUNCH(trap_kernel, 1, 64, 0, stream, x); }
void launch_off_by_one(float *x, int n, cudaStream_t stream) {
    WR_LAUNCH(off_by_one_kernel, n / 64 + 1, 64, 0, stream, x, n);
}
void launch_read_off_by_one(const float *x, float *sum, int n, cudaStream_t stream) {
    WR_LAUNCH(read_off_by_one_kernel, 1, 64, 0, stream, x, sum, n);
}
void launch_far_write(float *x, cudaStream_t stream) {
    WR_LAUNCH(far_write_kernel, 1, 64, 0, stream, x);
}
void launch_endless_recursion(int *x, cudaStream_t stream) {
    WR_LAUNCH(endless_recursion_kernel, 1, 1, 0, stream, x);
}
void launch_misaligned_load(const float *x, float *y, cudaStream_t stream) {
    WR_LAUNCH(misaligned_load_kernel, 1, 64, 0, stream, x, y);
}
void launch_misaligned_store(float *x, cudaStream_t stream) {
    WR_LAUNCH(misaligned_store_kernel, 1, 64, 0, stream, x);
}
void launch_misaligned_pair(const float *x, float *y, cudaStream_t stream) {
    WR_LAUNCH(misaligned_pair_kernel, 1, 64, 0, stream, x, y);
}
void launch_outside_array(float *x, cudaStream_t stream) {
    WR_LAUNCH(outside_array_kernel, 1, 64, 0, stream, x);
}
void launch_overflow(int *x, int n, cudaStream_t stream) {
    WR_LAUNCH(overflow_kernel, 1, 64, 0, stream, x, n);
}
void launch_unwritten_shared(float *x, cudaStream_t stream) {
    WR_LAUNCH(unwritten_shared_kernel, 3, 64, 16, stream, x);
}
void launch_missing_barrier(const float *x, float *y, cudaStream_t stream) {
    WR_LAUNCH(missing_barrier_kernel, 1, 64, 0, stream, x, y);
}
void launch_missing_second_barrier(const float *x, float *sums, cudaStream_t stream) {
    WR_LAUNCH(missing_second_barrier_kernel, 1, 64, 0, stream, x, sums);
}
void launch_missing_syncwarp(const float *x, float *y, cudaStream_t stream) {
    WR_LAUNCH(missing_syncwarp_kernel, 1, 64, 0, stream, x, y);
}
void launch_race_of_blocks(float *sum, cudaStream_t stream) {
    WR_LAUNCH(race_of_blocks_kernel, 4, 64, 0, stream, sum);
}
