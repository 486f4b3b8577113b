/* cuda.h: what the sources of a kernel family see; docs/cuda.md shows how to write one.
 *
 * A family is one file ops/cuda/NAME.cu with a table of rows, named in families.def. A row's kernel
 * is a function on the host that gives launches to the stream and returns: it never waits and never
 * reads device memory. The same launches are captured once and replayed, so that whatever changes
 * between runs lies in device memory: operands, and the key of random numbers. */
#ifndef WEIR_CUDA_H
#define WEIR_CUDA_H

#include "ops/cuda/launch.cuh"

extern "C" {
#include "graph/plan.h"
#include "ops/shape.h"
}

/* ---- rows ---- */

/* By the row's name in ops.def; a table ends with {NULL}. */
struct wr_cuda_row {
    const char *name;
    wr_kernel kernel;
    const wr_prepare *prepare;             /* once per plan and step; NULL: nothing to prepare */
    size_t (*workspace)(const wr_call *c); /* scratch bytes by sizes alone; NULL: none */
};
#define WR_CUDA_ROWS_END                                                                           \
    { NULL, NULL, NULL, NULL }

#define FAMILY(name) extern const wr_cuda_row wr_cuda_rows_##name[];
#include "ops/cuda/families.def"
#undef FAMILY

/* ---- the device, as kernels see it ---- */

/* In device memory, written before each run: random numbers are those of
 * wr_random_stream(seed, step, stream) of graph/random.h. */
struct wr_cuda_key {
    uint64_t seed, step;
};

/* What can be wrong with values that only the device sees; the message is a format for the value
 * and its limit. */
#define WR_CUDA_FAULTS(X)                                                                          \
    X(INDEX, "index %lld is not in 0 .. %lld - 1")                                                 \
    X(POSITION, "position %lld of an axis of size %lld")                                           \
    X(ROWS, "%lld rows for a cache of %lld rows")                                                  \
    X(ORDER, "number %lld of %lld comes twice or never: no permutation")                           \
    X(SINGULAR, "matrix %lld of %lld is singular")                                                 \
    X(LENGTH, "attention: key length %lld is outside [0, %lld]")                                   \
    X(KEEP, "accumulate: keep is not a finite number")                                             \
    X(RATE, "adam: the learning rate is not a finite number of at least 0")                        \
    X(SCALE, "adam: the scale of the gradient is not finite (no tokens in the batch?)")
enum wr_cuda_fault_kind {
    WR_CUDA_FAULT_NONE,
#define X(name, text) WR_CUDA_FAULT_##name,
    WR_CUDA_FAULTS(X)
#undef X
};

/* In device memory: the first failure since it was last looked at. */
struct wr_cuda_fault {
    unsigned long long site; /* 0: none; plan and step */
    int kind;
    long long value, limit;
};

/* The first failure of a function on the host since failures were last looked at. Written by a
 * thread of CUDA's in the order of the stream, read when all of the stream's work is done. */
struct wr_cuda_host_failure {
    unsigned long long site; /* 0: none */
    wr_status status;
    wr_error error;
};

struct wr_cuda_blas;

/* The state behind the wr_device. */
struct wr_cuda_state {
    const wr_device_services *services;
    cudaStream_t stream;
    wr_cuda_key *key;
    wr_cuda_fault *fault;
    wr_cuda_host_failure *host_failure;
    wr_cuda_blas *blas;
    unsigned long long site; /* of the step being launched */
    int processors,
        shared_most; /* multiprocessors; dynamic shared bytes that a block may ask for */
    wr_precision precision;
    bool waited; /* a kernel sets it that waits for the device: its plan is not replayed then */
};

static inline wr_cuda_state *wr_cuda(const wr_call *c) {
    return static_cast<wr_cuda_state *>(c->env->device->state);
}

/* What a kernel is given to tell a failure: pass wr_cuda_place(c) by value. */
struct wr_cuda_site {
    wr_cuda_fault *fault;
    unsigned long long site;
};
static inline wr_cuda_site wr_cuda_place(const wr_call *c) {
    return wr_cuda_site{wr_cuda(c)->fault, wr_cuda(c)->site};
}

/* In a kernel: record a failure unless there is one. The kernel goes on with a legal value (index
 * 0, say): nothing outside its tensors may be touched. */
static __device__ inline void wr_cuda_tell(wr_cuda_site s, wr_cuda_fault_kind kind, long long value,
                                           long long limit) {
    if (atomicCAS(&s.fault->site, 0ull, s.site) != 0ull) return;
    s.fault->kind = kind;
    s.fault->value = value;
    s.fault->limit = limit;
}

/* ---- launching ---- */

/* WR_OK, or the failure of the launch just made, with the kernel's name. */
static inline wr_status wr_cuda_launched(const wr_call *c, const char *kernel) {
    cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess) return WR_OK;
    return wr_cuda(c)->services->fail(c->env->err, WR_ERR_LIBRARY, "CUDA kernel %s: %s", kernel,
                                      cudaGetErrorString(error));
}

/* return WR_CUDA_LAUNCH(c, kernel, grid, block, shared_bytes, arguments...); a template with
 * commas stands in parentheses. A grid of 0 blocks is an error of CUDA's: return before it when
 * there is nothing to do. */
#define WR_CUDA_LAUNCH(c, kernel, grid, block, shared_bytes, ...)                                  \
    (WR_LAUNCH(kernel, grid, block, shared_bytes, wr_cuda(c)->stream, __VA_ARGS__),                \
     wr_cuda_launched(c, #kernel))

/* Blocks of `each` for n elements. */
static inline unsigned wr_cuda_blocks(int64_t n, int64_t each) {
    return static_cast<unsigned>((n + each - 1) / each);
}

/* Element number of the calling thread in a grid of one axis. */
static __device__ inline int64_t wr_cuda_thread() {
    return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

template <class T> static inline T *wr_cuda_data(const wr_tensor &x) {
    return static_cast<T *>(x.data);
}

static inline bool wr_cuda_aligned(const void *p, size_t to) {
    return reinterpret_cast<uintptr_t>(p) % to == 0;
}

/* ---- in kernels ---- */

/* Four elements that are read and written at once; 16 bytes aligned. */
template <class T> struct WR_VECTOR(wr_cuda_four, 16) { T v[4]; };

/* The sum (the largest) of `x` over the lanes of a warp, in every lane. All 32 lanes call it. */
template <class T> static __device__ inline T wr_cuda_warp_sum(T x) {
    for (int apart = 16; apart > 0; apart /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, apart);
    return x;
}
template <class T> static __device__ inline T wr_cuda_larger(T a, T b) {
    return b > a || b != b ? b : a; /* NaN stays */
}
template <class T> static __device__ inline T wr_cuda_warp_max(T x) {
    for (int apart = 16; apart > 0; apart /= 2)
        x = wr_cuda_larger(x, __shfl_xor_sync(0xffffffffu, x, apart));
    return x;
}

/* The same over a block of whole warps, in every thread; `scratch` is shared memory for 32 numbers.
 * All threads call it; it may be called again at once. Thread order alone sets the order of sums.
 */
template <class T> static __device__ inline T wr_cuda_block_sum(T x, T *scratch) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = wr_cuda_warp_sum(x);
    if (lane == 0) scratch[warp] = x;
    __syncthreads();
    x = wr_cuda_warp_sum(lane < warps ? scratch[lane] : T(0));
    __syncthreads();
    return x;
}
template <class T> static __device__ inline T wr_cuda_block_max(T x, T *scratch) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = wr_cuda_warp_max(x);
    if (lane == 0) scratch[warp] = x;
    __syncthreads();
    x = wr_cuda_warp_max(lane < warps ? scratch[lane] : scratch[0]);
    __syncthreads();
    return x;
}

/* Philox 4x32-10 (Salmon et al. 2011), bit for bit graph/random.h: four words for block `i`
 * (elements 4 i .. 4 i + 3) of the stream. */
static __device__ inline void wr_cuda_random_bits(const wr_cuda_key *key, uint64_t stream,
                                                  uint64_t i, uint32_t out[4]) {
    const uint64_t mixed = key->seed ^ (key->step * 0x9e3779b97f4a7c15ull);
    uint32_t k0 = static_cast<uint32_t>(mixed);
    uint32_t k1 = static_cast<uint32_t>(mixed >> 32) ^ static_cast<uint32_t>(key->step >> 32);
    uint32_t a = static_cast<uint32_t>(i), b = static_cast<uint32_t>(i >> 32);
    uint32_t c = static_cast<uint32_t>(stream), d = static_cast<uint32_t>(stream >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p = static_cast<uint64_t>(a) * 0xd2511f53u;
        const uint64_t q = static_cast<uint64_t>(c) * 0xcd9e8d57u;
        a = static_cast<uint32_t>(q >> 32) ^ b ^ k0;
        c = static_cast<uint32_t>(p >> 32) ^ d ^ k1;
        b = static_cast<uint32_t>(q);
        d = static_cast<uint32_t>(p);
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    out[0] = a;
    out[1] = b;
    out[2] = c;
    out[3] = d;
}

/* Both float types: WR_CUDA_FLOAT(c->out[0].dtype, f, args) is f<float>(args) or f<double>(args).
 */
#define WR_CUDA_FLOAT(dtype, f, ...)                                                               \
    ((dtype) == WR_F32 ? f<float>(__VA_ARGS__) : f<double>(__VA_ARGS__))

#endif
