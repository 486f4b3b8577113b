/* step.cu: positions of an axis by a number that only the device knows. */
#include "ops/cuda/copy.cuh"

namespace {

enum { THREADS = 256 };

/* The position, 0 where it is none. */
__device__ inline int64_t position_of(const int32_t *position, int64_t size, wr_cuda_site site) {
    const int64_t at = *position;
    if (at >= 0 && at < size) return at;
    wr_cuda_tell(site, WR_CUDA_FAULT_POSITION, at, size);
    return 0;
}

/* x is [outer, size, inner]; one position of it to, or from, small [outer, inner]. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    take(int64_t n, int64_t size, int64_t inner, const T *x, const int32_t *position, T *out,
         wr_cuda_site site) {
    const int64_t i = wr_cuda_thread();
    if (i >= n) return;
    out[i] = x[(i / inner * size + position_of(position, size, site)) * inner + i % inner];
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    put(int64_t n, int64_t size, int64_t inner, const T *fresh, const int32_t *position, T *out,
        wr_cuda_site site) {
    const int64_t i = wr_cuda_thread();
    if (i >= n) return;
    out[(i / inner * size + position_of(position, size, site)) * inner + i % inner] = fresh[i];
}

template <class T> wr_status launch_take(const wr_call *c) {
    const wr_tensor *x = &c->in[0];
    const int axis = static_cast<int>(c->attr[0].i);
    const int64_t n = c->out[0].n;
    if (n == 0) return WR_OK;
    return WR_CUDA_LAUNCH(c, take<T>, wr_cuda_blocks(n, THREADS), THREADS, 0, n, x->dim[axis],
                          wr_extent(x, axis + 1, x->rank), wr_cuda_data<T>(*x),
                          wr_cuda_data<int32_t>(c->in[1]), wr_cuda_data<T>(c->out[0]),
                          wr_cuda_place(c));
}

wr_status copy_whole(const wr_call *c, void *to, const wr_tensor *from) {
    const int64_t bytes = from->n * (from->dtype == WR_F64 ? 8 : 4);
    if (to == from->data || bytes == 0) return WR_OK;
    const wr_cuda_runs whole = {from->data, to, 1, 1, bytes, bytes, bytes, bytes, bytes};
    return wr_cuda_copy(c, &whole);
}

template <class T> wr_status launch_put(const wr_call *c) {
    const wr_tensor *x = &c->in[0];
    const int axis = static_cast<int>(c->attr[0].i);
    const int64_t n = c->in[1].n;
    wr_status status = copy_whole(c, c->out[0].data, x);
    if (status != WR_OK || n == 0) return status;
    return WR_CUDA_LAUNCH(c, put<T>, wr_cuda_blocks(n, THREADS), THREADS, 0, n, x->dim[axis],
                          wr_extent(x, axis + 1, x->rank), wr_cuda_data<T>(c->in[1]),
                          wr_cuda_data<int32_t>(c->in[2]), wr_cuda_data<T>(c->out[0]),
                          wr_cuda_place(c));
}

/* Whole numbers move as the four bytes they are. */
wr_status take_row(const wr_call *c) {
    return c->out[0].dtype == WR_F64 ? launch_take<double>(c) : launch_take<float>(c);
}
wr_status put_row(const wr_call *c) {
    return c->out[0].dtype == WR_F64 ? launch_put<double>(c) : launch_put<float>(c);
}

__global__ void __launch_bounds__(THREADS)
    clip_lengths(int64_t n, const int32_t *length, const int32_t *from, const int32_t *to,
                 int32_t *out) {
    const int64_t i = wr_cuda_thread();
    if (i >= n) return;
    const int32_t end = length[i] < *to ? length[i] : *to;
    out[i] = end > *from ? end - *from : 0;
}

wr_status clip_row(const wr_call *c) {
    const int64_t n = c->out[0].n;
    if (n == 0) return WR_OK;
    return WR_CUDA_LAUNCH(c, clip_lengths, wr_cuda_blocks(n, THREADS), THREADS, 0, n,
                          wr_cuda_data<int32_t>(c->in[0]), wr_cuda_data<int32_t>(c->in[1]),
                          wr_cuda_data<int32_t>(c->in[2]), wr_cuda_data<int32_t>(c->out[0]));
}

} // namespace

const wr_cuda_row wr_cuda_rows_step[] = {{"take", take_row, NULL, NULL},
                                         {"put", put_row, NULL, NULL},
                                         {"clip_lengths", clip_row, NULL, NULL},
                                         WR_CUDA_ROWS_END};
