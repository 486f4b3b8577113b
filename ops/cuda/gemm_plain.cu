/* gemm_plain.cu: see blas.h. */
#include "ops/cuda/blas.h"

namespace {

enum { THREADS = 256 };

template <class T>
__global__ void __launch_bounds__(THREADS)
    gemm_plain(wr_cuda_gemm_spec p, const T *a, const T *b, const T *s, T *c, const T *bias) {
    const int64_t i = wr_cuda_thread();
    if (i >= p.batch * p.m * p.n) return;
    const int64_t batch = i / (p.m * p.n), row = i / p.n % p.m, column = i % p.n;
    const int64_t step_a = p.trans_a ? p.m : 1, step_b = p.trans_b ? 1 : p.n;
    const T *x = a + batch * p.stride_a + row * (p.trans_a ? 1 : p.k);
    const T *y = b + batch * p.stride_b + column * (p.trans_b ? p.k : 1);
    T sum = 0;
    for (int64_t j = 0; j < p.k; j++)
        sum += x[j * step_a] * y[j * step_b];
    const int64_t at = batch * p.stride_c + row * p.n + column;
    if (p.accumulate) sum += s[at];
    if (p.bias) sum += bias[column];
    c[at] = p.relu && !(sum > T(0)) && sum == sum ? T(0) : sum;
}

template <class T>
cudaError_t launch(const wr_cuda_gemm_spec &p, cudaStream_t stream, const void *a, const void *b,
                   const void *s, void *c, const void *bias) {
    WR_LAUNCH(gemm_plain<T>, wr_cuda_blocks(p.batch * p.m * p.n, THREADS), THREADS, 0, stream, p,
              static_cast<const T *>(a), static_cast<const T *>(b), static_cast<const T *>(s),
              static_cast<T *>(c), static_cast<const T *>(bias));
    return cudaGetLastError();
}

} // namespace

cudaError_t wr_cuda_gemm_plain(const wr_cuda_gemm_spec *p, cudaStream_t stream, const void *a,
                               const void *b, const void *s, void *c, const void *bias) {
    if (p->batch * p->m * p->n == 0) return cudaSuccess;
    return p->dtype == WR_F32 ? launch<float>(*p, stream, a, b, s, c, bias)
                              : launch<double>(*p, stream, a, b, s, c, bias);
}
