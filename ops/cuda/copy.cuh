/* copy.cuh: moving blocks of memory on the device, which many rows come down to. */
#ifndef WEIR_CUDA_COPY_H
#define WEIR_CUDA_COPY_H

#include "ops/cuda/cuda.h"

/* `outer` times `count` runs of `inner` bytes; strides in bytes. */
struct wr_cuda_runs {
    const void *from;
    void *to;
    int64_t outer, count, inner;
    int64_t from_outer, from_count, to_outer, to_count;
};

/* Copy them in the order of the stream. The ranges do not overlap. */
cudaError_t wr_cuda_copy_runs(cudaStream_t stream, const wr_cuda_runs *r);

/* The same for a kernel of a row. */
static inline wr_status wr_cuda_copy(const wr_call *c, const wr_cuda_runs *r) {
    cudaError_t error = wr_cuda_copy_runs(wr_cuda(c)->stream, r);
    if (error == cudaSuccess) return WR_OK;
    return wr_cuda(c)->services->fail(c->env->err, WR_ERR_LIBRARY, "CUDA copy: %s",
                                      cudaGetErrorString(error));
}

/* x[i] = 0 for a whole tensor. */
static inline wr_status wr_cuda_zero(const wr_call *c, void *to, size_t bytes) {
    cudaError_t error =
        bytes == 0 ? cudaSuccess : cudaMemsetAsync(to, 0, bytes, wr_cuda(c)->stream);
    if (error == cudaSuccess) return WR_OK;
    return wr_cuda(c)->services->fail(c->env->err, WR_ERR_LIBRARY, "CUDA memset: %s",
                                      cudaGetErrorString(error));
}

/* to[i] += x[i] */
cudaError_t wr_cuda_add_to(cudaStream_t stream, wr_dtype t, int64_t n, void *to, const void *x);

#endif
