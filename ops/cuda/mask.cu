/* mask.cu: x [.., R..] where mask [..] is not 0, else 0. */
#include "ops/cuda/cuda.h"

namespace {

enum { THREADS = 256 };

template <class T>
__global__ void __launch_bounds__(THREADS)
    mask_apply(int64_t n, int64_t inner, const T *x, const T *mask, T *out) {
    const int64_t i = wr_cuda_thread();
    if (i < n) out[i] = mask[i / inner] != T(0) ? x[i] : T(0);
}

template <class T> wr_status launch(const wr_call *c) {
    const int64_t n = c->out[0].n;
    if (n == 0) return WR_OK;
    return WR_CUDA_LAUNCH(c, mask_apply<T>, wr_cuda_blocks(n, THREADS), THREADS, 0, n,
                          n / c->in[1].n, wr_cuda_data<T>(c->in[0]), wr_cuda_data<T>(c->in[1]),
                          wr_cuda_data<T>(c->out[0]));
}

wr_status mask_row(const wr_call *c) { return WR_CUDA_FLOAT(c->out[0].dtype, launch, c); }

} // namespace

const wr_cuda_row wr_cuda_rows_mask[] = {{"mask_apply", mask_row, NULL, NULL}, WR_CUDA_ROWS_END};
