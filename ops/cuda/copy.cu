/* copy.cu: see copy.cuh. */
#include "ops/cuda/copy.cuh"

namespace {

enum { THREADS = 256 };

/* Runs in units of U; thread by thread along a run, then run by run. */
template <class U>
__global__ void __launch_bounds__(THREADS) copy_runs(wr_cuda_runs r, int64_t inner) {
    const int64_t i = wr_cuda_thread();
    if (i >= r.outer * r.count * inner) return;
    const int64_t run = i / inner, o = run / r.count, k = run % r.count;
    const char *from = static_cast<const char *>(r.from) + o * r.from_outer + k * r.from_count;
    char *to = static_cast<char *>(r.to) + o * r.to_outer + k * r.to_count;
    reinterpret_cast<U *>(to)[i % inner] = reinterpret_cast<const U *>(from)[i % inner];
}

template <class T> __global__ void __launch_bounds__(THREADS) add_to(int64_t n, T *to, const T *x) {
    const int64_t i = wr_cuda_thread();
    if (i < n) to[i] += x[i];
}

bool fits(const wr_cuda_runs &r, int64_t unit) {
    const int64_t all = r.inner | (r.outer > 1 ? r.from_outer | r.to_outer : 0) |
                        (r.count > 1 ? r.from_count | r.to_count : 0);
    const size_t u = static_cast<size_t>(unit);
    return all % unit == 0 && wr_cuda_aligned(r.from, u) && wr_cuda_aligned(r.to, u);
}

template <class U> cudaError_t launch(cudaStream_t stream, const wr_cuda_runs &r) {
    const int64_t inner = r.inner / static_cast<int64_t>(sizeof(U));
    WR_LAUNCH(copy_runs<U>, wr_cuda_blocks(r.outer * r.count * inner, THREADS), THREADS, 0, stream,
              r, inner);
    return cudaGetLastError();
}

} // namespace

cudaError_t wr_cuda_copy_runs(cudaStream_t stream, const wr_cuda_runs *given) {
    wr_cuda_runs r = *given;
    if (r.outer * r.count * r.inner == 0) return cudaSuccess;
    if (r.from_count == r.inner && r.to_count == r.inner) { /* they touch: one run */
        r.inner *= r.count;
        r.count = 1;
    }
    if (r.outer == 1 && r.count == 1)
        return cudaMemcpyAsync(r.to, r.from, static_cast<size_t>(r.inner), cudaMemcpyDeviceToDevice,
                               stream);
    if (fits(r, 16)) return launch<float4>(stream, r);
    if (fits(r, 4)) return launch<float>(stream, r);
    return launch<unsigned char>(stream, r);
}

cudaError_t wr_cuda_add_to(cudaStream_t stream, wr_dtype t, int64_t n, void *to, const void *x) {
    if (n == 0) return cudaSuccess;
    const unsigned blocks = wr_cuda_blocks(n, THREADS);
    if (t == WR_F32)
        WR_LAUNCH(add_to<float>, blocks, THREADS, 0, stream, n, static_cast<float *>(to),
                  static_cast<const float *>(x));
    else
        WR_LAUNCH(add_to<double>, blocks, THREADS, 0, stream, n, static_cast<double *>(to),
                  static_cast<const double *>(x));
    return cudaGetLastError();
}
