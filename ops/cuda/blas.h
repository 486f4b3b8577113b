/* blas.h: matrix products on the device behind one small interface: cuBLASLt on a GPU (blas_lt.cu),
 * a plain kernel where the device is emulated (blas_plain.cu).
 *
 *     C[b] = act( (accumulate ? S[b] : 0) + op(A[b]) op(B[b]) + bias ),   b = 0 .. batch-1
 *
 * op(A) is [m, k], op(B) is [k, n], C and S are [m, n], all row-major and contiguous; bias is [n].
 */
#ifndef WEIR_CUDA_BLAS_H
#define WEIR_CUDA_BLAS_H

#include "ops/cuda/cuda.h"

struct wr_cuda_gemm_spec {
    wr_dtype dtype; /* f32 or f64 */
    wr_precision precision;
    bool trans_a, trans_b, accumulate, bias, relu;
    int64_t batch, m, n, k;
    int64_t stride_a, stride_b, stride_c; /* elements between matrices; 0: shared (a and b) */
};

/* The library's handle; one per device, NULL `err` text on success. */
wr_status wr_cuda_blas_open(const wr_device_services *services, wr_cuda_blas **blas, wr_error *err);
void wr_cuda_blas_close(wr_cuda_blas *blas);
/* "cuBLASLt 13.1" */
const char *wr_cuda_blas_name(const wr_cuda_blas *blas);

struct wr_cuda_gemm;
/* Choose how a product is computed; made once per plan. */
wr_status wr_cuda_gemm_new(wr_cuda_blas *blas, const wr_cuda_gemm_spec *spec, wr_cuda_gemm **gemm,
                           wr_error *err);
void wr_cuda_gemm_free(wr_cuda_gemm *gemm);
size_t wr_cuda_gemm_workspace(const wr_cuda_gemm *gemm);

/* Give the product to the stream. `s` is read when the spec accumulates (it may be `c`), `bias`
 * when it has one. */
wr_status wr_cuda_gemm_run(const wr_cuda_gemm *gemm, cudaStream_t stream, const void *a,
                           const void *b, const void *s, void *c, const void *bias, void *workspace,
                           wr_error *err);

/* The plain kernel: an element of C a thread, sums in f32 (f64). For what the library refuses. */
cudaError_t wr_cuda_gemm_plain(const wr_cuda_gemm_spec *spec, cudaStream_t stream, const void *a,
                               const void *b, const void *s, void *c, const void *bias);

#endif
