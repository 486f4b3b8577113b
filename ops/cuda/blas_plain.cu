/* blas_plain.cu: the interface of blas.h by the plain kernel, for the emulated device. */
#include "ops/cuda/blas.h"

#include <new>

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
    cudaError_t error = wr_cuda_gemm_plain(&gemm->spec, stream, a, b, s, c, bias);
    if (error == cudaSuccess) return WR_OK;
    return gemm->services->fail(err, WR_ERR_LIBRARY, "matrix product: %s",
                                cudaGetErrorString(error));
}
