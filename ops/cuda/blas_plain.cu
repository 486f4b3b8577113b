/* blas_plain.cu: the interface of blas.h for the emulated device.
 *
 * A thread makes 64 neighbours of a row of C by loops that the processor's compiler makes vectors
 * of: it stands for a library, so that sanitizers, which would forbid that, leave it alone. */
#include "ops/cuda/blas.h"

#include <new>

namespace {

enum { STRIP = 64, LANES = 16, THREADS = 32 };
#define AS_A_LIBRARY __attribute__((no_sanitize("undefined", "address", "thread")))

/* sum[j] = sum over k of x[k step] y[k width + j] */
template <class T>
AS_A_LIBRARY void add_rows(int64_t k, const T *x, int64_t step, const T *y, int64_t width, int n,
                           T *sum) {
    for (int64_t i = 0; i < k; i++) {
        const T factor = x[i * step];
        for (int j = 0; j < n; j++)
            sum[j] += factor * y[i * width + j];
    }
}

/* The sum over k of x[k step] y[k]. */
template <class T> AS_A_LIBRARY T dot(int64_t k, const T *x, int64_t step, const T *y) {
    T lane[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; step == 1 && i + LANES <= k; i += LANES)
        for (int l = 0; l < LANES; l++)
            lane[l] += x[i + l] * y[i + l];
    for (; i < k; i++)
        sum += x[i * step] * y[i];
    for (int l = 0; l < LANES; l++)
        sum += lane[l];
    return sum;
}

template <class T>
__global__ AS_A_LIBRARY void gemm_strips(wr_cuda_gemm_spec p, int64_t strips, const T *a,
                                         const T *b, const T *s, T *c, const T *bias) {
    const int64_t i = wr_cuda_thread();
    if (i >= p.batch * p.m * strips) return;
    const int64_t batch = i / (p.m * strips), row = i / strips % p.m, first = i % strips * STRIP;
    const int n = static_cast<int>(p.n - first < STRIP ? p.n - first : STRIP);
    const T *x = a + batch * p.stride_a + row * (p.trans_a ? 1 : p.k);
    const T *y = b + batch * p.stride_b;
    const int64_t step = p.trans_a ? p.m : 1, at = batch * p.stride_c + row * p.n + first;
    T sum[STRIP] = {0};
    if (!p.trans_b) add_rows(p.k, x, step, y + first, p.n, n, sum);
    for (int j = 0; p.trans_b && j < n; j++)
        sum[j] = dot(p.k, x, step, y + (first + j) * p.k);
    for (int j = 0; j < n; j++) {
        if (p.accumulate) sum[j] += s[at + j];
        if (p.bias) sum[j] += bias[first + j];
        c[at + j] = p.relu && !(sum[j] > T(0)) && sum[j] == sum[j] ? T(0) : sum[j];
    }
}

template <class T>
cudaError_t launch(const wr_cuda_gemm_spec &p, cudaStream_t stream, const void *a, const void *b,
                   const void *s, void *c, const void *bias) {
    const int64_t strips = (p.n + STRIP - 1) / STRIP;
    if (p.batch * p.m * p.n == 0) return cudaSuccess;
    WR_LAUNCH(gemm_strips<T>, wr_cuda_blocks(p.batch * p.m * strips, THREADS), THREADS, 0, stream,
              p, strips, static_cast<const T *>(a), static_cast<const T *>(b),
              static_cast<const T *>(s), static_cast<T *>(c), static_cast<const T *>(bias));
    return cudaGetLastError();
}

} // namespace

struct wr_cuda_blas {
    const wr_device_services *services;
};
struct wr_cuda_gemm {
    const wr_device_services *services;
    wr_cuda_gemm_spec spec;
};

wr_status wr_cuda_blas_open(const wr_device_services *services, wr_cuda_blas **blas,
                            wr_error *err) {
    *blas = new (std::nothrow) wr_cuda_blas{services};
    return *blas != NULL ? WR_OK : services->fail(err, WR_ERR_MEMORY, "out of memory: a device");
}

void wr_cuda_blas_close(wr_cuda_blas *blas) { delete blas; }
const char *wr_cuda_blas_name(const wr_cuda_blas *) { return "plain products"; }

wr_status wr_cuda_gemm_new(wr_cuda_blas *blas, const wr_cuda_gemm_spec *spec, wr_cuda_gemm **gemm,
                           wr_error *err) {
    *gemm = new (std::nothrow) wr_cuda_gemm{blas->services, *spec};
    return *gemm != NULL ? WR_OK
                         : blas->services->fail(err, WR_ERR_MEMORY, "out of memory: a product");
}

void wr_cuda_gemm_free(wr_cuda_gemm *gemm) { delete gemm; }
size_t wr_cuda_gemm_workspace(const wr_cuda_gemm *) { return 0; }

wr_status wr_cuda_gemm_run(const wr_cuda_gemm *gemm, cudaStream_t stream, const void *a,
                           const void *b, const void *s, void *c, const void *bias, void *,
                           wr_error *err) {
    const wr_cuda_gemm_spec &p = gemm->spec;
    cudaError_t error = p.dtype == WR_F32 ? launch<float>(p, stream, a, b, s, c, bias)
                                          : launch<double>(p, stream, a, b, s, c, bias);
    if (error == cudaSuccess) return WR_OK;
    return gemm->services->fail(err, WR_ERR_LIBRARY, "matrix product: %s",
                                cudaGetErrorString(error));
}
