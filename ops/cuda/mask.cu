/* mask.cu: x [outer, inner] where mask [outer] is not 0, else 0. */
#include "ops/cuda/cuda.h"

namespace {

enum { THREADS = 256 };

/* I: a type that holds the number of elements, since short divisions are much faster. Masked
 * elements are not read. */
template <class T, class I>
__global__ void __launch_bounds__(THREADS)
    mask_fours(I n, I inner, const T *x, const T *mask, T *y) {
    const I i = static_cast<I>(wr_cuda_thread());
    if (i >= n) return;
    wr_cuda_four<T> q = {};
    if (mask[i / inner] != T(0)) q = reinterpret_cast<const wr_cuda_four<T> *>(x)[i];
    reinterpret_cast<wr_cuda_four<T> *>(y)[i] = q;
}

template <class T, class I>
__global__ void __launch_bounds__(THREADS)
    mask_ones(I n, I inner, const T *x, const T *mask, T *y) {
    const I i = static_cast<I>(wr_cuda_thread());
    if (i < n) y[i] = mask[i / inner] != T(0) ? x[i] : T(0);
}

template <class T, class I> wr_status launch_as(const wr_call *c) {
    const T *x = wr_cuda_data<T>(c->in[0]), *mask = wr_cuda_data<T>(c->in[1]);
    T *y = wr_cuda_data<T>(c->out[0]);
    const int64_t n = c->in[0].n, inner = n / c->in[1].n;
    if (inner % 4 == 0 && wr_cuda_aligned(x, 16) && wr_cuda_aligned(y, 16))
        return WR_CUDA_LAUNCH(c, (mask_fours<T, I>), wr_cuda_blocks(n / 4, THREADS), THREADS, 0,
                              static_cast<I>(n / 4), static_cast<I>(inner / 4), x, mask, y);
    return WR_CUDA_LAUNCH(c, (mask_ones<T, I>), wr_cuda_blocks(n, THREADS), THREADS, 0,
                          static_cast<I>(n), static_cast<I>(inner), x, mask, y);
}

template <class T> wr_status launch(const wr_call *c) {
    if (c->in[0].n == 0) return WR_OK;
    return c->in[0].n < INT32_MAX ? launch_as<T, uint32_t>(c) : launch_as<T, uint64_t>(c);
}

wr_status mask_row(const wr_call *c) { return WR_CUDA_FLOAT(c->out[0].dtype, launch, c); }

} // namespace

const wr_cuda_row wr_cuda_rows_mask[] = {{"mask_apply", mask_row, NULL, NULL}, WR_CUDA_ROWS_END};
