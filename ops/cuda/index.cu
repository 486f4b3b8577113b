/* index.cu: the rows of ops/index.c. Sums of scatter_add are made in the order of the index,
 * without atomics: a run repeats bit for bit. */
#include "ops/cuda/cuda.h"

namespace {

enum { THREADS = 256 };

/* large [batch, size, inner], small [batch, count, inner], index [batch, count] */
struct picked {
    int64_t batch, size, count, inner;
};

picked picked_of(const wr_call *c, const wr_tensor *large) {
    const int axis = c->in[1].rank - 1;
    return picked{wr_extent(large, 0, axis), large->dim[axis], c->in[1].dim[axis],
                  wr_extent(large, axis + 1, large->rank)};
}

/* A number in [0, limit); others are told and 0. */
__device__ inline int64_t checked(const int32_t *index, int64_t i, int64_t limit,
                                  wr_cuda_site site) {
    const int64_t at = index[i];
    if (at >= 0 && at < limit) return at;
    wr_cuda_tell(site, WR_CUDA_FAULT_INDEX, at, limit);
    return 0;
}

/* ---- gather ---- */

/* In units of U, `inner` of them in a line. */
template <class U>
__global__ void __launch_bounds__(THREADS)
    gather(picked p, int64_t inner, const U *x, const int32_t *index, U *out, wr_cuda_site site) {
    const int64_t i = wr_cuda_thread();
    if (i >= p.batch * p.count * inner || p.size == 0) return;
    const int64_t line = i / inner;
    const int64_t at = line / p.count * p.size + checked(index, line, p.size, site);
    out[i] = x[at * inner + i % inner];
}

template <class U> wr_status launch_gather(const wr_call *c, const picked &p, int64_t inner) {
    return WR_CUDA_LAUNCH(c, gather<U>, wr_cuda_blocks(p.batch * p.count * inner, THREADS), THREADS,
                          0, p, inner, wr_cuda_data<U>(c->in[0]), wr_cuda_data<int32_t>(c->in[1]),
                          wr_cuda_data<U>(c->out[0]), wr_cuda_place(c));
}

wr_status gather_row(const wr_call *c) {
    const picked p = picked_of(c, &c->in[0]);
    const bool wide = c->out[0].dtype == WR_F64;
    const int64_t line = p.inner * (wide ? 8 : 4);
    if (c->out[0].n == 0) return WR_OK;
    if (line % 16 == 0 && wr_cuda_aligned(c->in[0].data, 16) && wr_cuda_aligned(c->out[0].data, 16))
        return launch_gather<float4>(c, p, line / 16);
    return wide ? launch_gather<double>(c, p, p.inner) : launch_gather<float>(c, p, p.inner);
}

/* ---- scatter_add ---- */

enum { FEW = 64, STRIP = 128, BAND = 64 };

/* Few indices: each element of the result looks at all of its batch element. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    scatter_few(picked p, const T *x, const int32_t *index, T *out, wr_cuda_site site) {
    const int64_t i = wr_cuda_thread();
    if (i >= p.batch * p.size * p.inner) return;
    const int64_t b = i / (p.size * p.inner), v = i / p.inner % p.size, column = i % p.inner;
    T sum = 0;
    for (int64_t k = 0; k < p.count; k++)
        if (checked(index, b * p.count + k, p.size, site) == v)
            sum += x[(b * p.count + k) * p.inner + column];
    out[i] = sum;
}

/* Many: a block has a band of 64 lines of the result and 128 columns of them. It reads the index in
 * pieces, lists which lines of x belong to its band, in order, and adds them. */
template <class T>
__global__ void __launch_bounds__(STRIP)
    scatter_band(picked p, const T *x, const int32_t *index, T *out, wr_cuda_site site) {
    __shared__ int line[STRIP], to[STRIP], in_warp[STRIP / 32];
    const int64_t b = blockIdx.z, first = static_cast<int64_t>(blockIdx.x) * BAND;
    const int64_t column = static_cast<int64_t>(blockIdx.y) * STRIP + threadIdx.x;
    const int64_t last = first + BAND < p.size ? first + BAND : p.size;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    out += b * p.size * p.inner + column;
    x += b * p.count * p.inner + column;
    for (int64_t v = first; column < p.inner && v < last; v++)
        out[v * p.inner] = T(0);
    for (int64_t k = 0; k < p.count; k += STRIP) {
        const int64_t own = k + threadIdx.x;
        const int64_t at = own < p.count ? checked(index, b * p.count + own, p.size, site) : -1;
        const bool mine = at >= first && at < last;
        const unsigned votes = __ballot_sync(0xffffffffu, mine);
        if (lane == 0) in_warp[warp] = __popc(votes);
        __syncthreads();
        int place = __popc(votes & ((1u << lane) - 1)), n = 0;
        for (int w = 0; w < STRIP / 32; w++) {
            if (w < warp) place += in_warp[w];
            n += in_warp[w];
        }
        if (mine) {
            line[place] = static_cast<int>(threadIdx.x);
            to[place] = static_cast<int>(at - first);
        }
        __syncthreads();
        for (int i = 0; column < p.inner && i < n; i++)
            out[(first + to[i]) * p.inner] += x[(k + line[i]) * p.inner];
        __syncthreads();
    }
}

template <class T> wr_status launch_scatter(const wr_call *c) {
    constexpr int64_t MOST = 65535;
    const picked p = picked_of(c, &c->out[0]);
    const T *x = wr_cuda_data<T>(c->in[0]);
    const int32_t *index = wr_cuda_data<int32_t>(c->in[1]);
    T *out = wr_cuda_data<T>(c->out[0]);
    if (c->out[0].n == 0) return WR_OK;
    if (p.count <= FEW || p.batch > MOST || p.inner > MOST * STRIP)
        return WR_CUDA_LAUNCH(c, scatter_few<T>, wr_cuda_blocks(c->out[0].n, THREADS), THREADS, 0,
                              p, x, index, out, wr_cuda_place(c));
    const dim3 grid(wr_cuda_blocks(p.size, BAND), wr_cuda_blocks(p.inner, STRIP),
                    static_cast<unsigned>(p.batch));
    return WR_CUDA_LAUNCH(c, scatter_band<T>, grid, STRIP, 0, p, x, index, out, wr_cuda_place(c));
}

wr_status scatter_row(const wr_call *c) {
    return WR_CUDA_FLOAT(c->out[0].dtype, launch_scatter, c);
}

/* ---- permutations ---- */

/* `at` holds -1 everywhere. */
__global__ void __launch_bounds__(THREADS)
    invert(int64_t all, int64_t n, const int32_t *index, int32_t *at, wr_cuda_site site) {
    const int64_t i = wr_cuda_thread();
    if (i >= all) return;
    const int64_t to = i / n * n + checked(index, i, n, site);
    if (atomicCAS(&at[to], -1, static_cast<int32_t>(i % n)) != -1)
        wr_cuda_tell(site, WR_CUDA_FAULT_ORDER, index[i], n);
}

wr_status invert_row(const wr_call *c) {
    const wr_tensor *x = &c->in[0];
    const int64_t n = x->dim[x->rank - 1];
    if (x->n == 0) return WR_OK;
    cudaMemsetAsync(c->out[0].data, 0xff, static_cast<size_t>(x->n) * 4, wr_cuda(c)->stream);
    return WR_CUDA_LAUNCH(c, invert, wr_cuda_blocks(x->n, THREADS), THREADS, 0, x->n, n,
                          wr_cuda_data<int32_t>(*x), wr_cuda_data<int32_t>(c->out[0]),
                          wr_cuda_place(c));
}

/* ---- floats from whole numbers ---- */

template <class T>
__global__ void __launch_bounds__(THREADS)
    one_hot(int64_t n, int64_t size, const int32_t *id, T *out, wr_cuda_site site) {
    const int64_t i = wr_cuda_thread();
    if (i < n) out[i] = checked(id, i / size, size, site) == i % size ? T(1) : T(0);
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    sequence_mask(int64_t n, int64_t size, const int32_t *length, T *out, wr_cuda_site site) {
    const int64_t i = wr_cuda_thread();
    if (i < n) out[i] = i % size < checked(length, i / size, size + 1, site) ? T(1) : T(0);
}

template <class T> wr_status launch_one_hot(const wr_call *c) {
    const int64_t n = c->out[0].n;
    if (n == 0) return WR_OK;
    return WR_CUDA_LAUNCH(c, one_hot<T>, wr_cuda_blocks(n, THREADS), THREADS, 0, n, c->attr[0].i,
                          wr_cuda_data<int32_t>(c->in[0]), wr_cuda_data<T>(c->out[0]),
                          wr_cuda_place(c));
}

template <class T> wr_status launch_mask(const wr_call *c) {
    const int64_t n = c->out[0].n;
    if (n == 0) return WR_OK;
    return WR_CUDA_LAUNCH(c, sequence_mask<T>, wr_cuda_blocks(n, THREADS), THREADS, 0, n,
                          c->attr[0].i, wr_cuda_data<int32_t>(c->in[0]), wr_cuda_data<T>(c->out[0]),
                          wr_cuda_place(c));
}

wr_status one_hot_row(const wr_call *c) {
    return WR_CUDA_FLOAT(c->out[0].dtype, launch_one_hot, c);
}
wr_status mask_row(const wr_call *c) { return WR_CUDA_FLOAT(c->out[0].dtype, launch_mask, c); }

template <class S, class T>
__global__ void __launch_bounds__(THREADS) cast(int64_t n, const S *x, T *y) {
    const int64_t i = wr_cuda_thread();
    if (i < n) y[i] = static_cast<T>(x[i]);
}

template <class S, class T> wr_status launch_cast(const wr_call *c) {
    const int64_t n = c->out[0].n;
    if (n == 0) return WR_OK;
    return WR_CUDA_LAUNCH(c, (cast<S, T>), wr_cuda_blocks(n, THREADS), THREADS, 0, n,
                          wr_cuda_data<S>(c->in[0]), wr_cuda_data<T>(c->out[0]));
}

wr_status cast_row(const wr_call *c) {
    const bool wide = c->out[0].dtype == WR_F64;
    switch (c->in[0].dtype) {
    case WR_F32:
        return launch_cast<float, double>(c);
    case WR_F64:
        return launch_cast<double, float>(c);
    default:
        return wide ? launch_cast<int32_t, double>(c) : launch_cast<int32_t, float>(c);
    }
}

/* ---- reversal, positions ---- */

template <class U>
__global__ void __launch_bounds__(THREADS)
    reverse(int64_t n, int64_t size, int64_t inner, const U *x, const int32_t *length, U *out,
            wr_cuda_site site) {
    const int64_t i = wr_cuda_thread();
    if (i >= n) return;
    const int64_t line = i / inner, b = line / size, t = line % size;
    const int64_t end = checked(length, b, size + 1, site);
    const int64_t from = t < end ? end - 1 - t : t;
    out[i] = x[(b * size + from) * inner + i % inner];
}

template <class U> wr_status launch_reverse(const wr_call *c) {
    const wr_tensor *x = &c->in[0];
    if (x->n == 0) return WR_OK;
    return WR_CUDA_LAUNCH(c, reverse<U>, wr_cuda_blocks(x->n, THREADS), THREADS, 0, x->n, x->dim[1],
                          wr_extent(x, 2, x->rank), wr_cuda_data<U>(*x),
                          wr_cuda_data<int32_t>(c->in[1]), wr_cuda_data<U>(c->out[0]),
                          wr_cuda_place(c));
}

wr_status reverse_row(const wr_call *c) {
    return c->out[0].dtype == WR_F64 ? launch_reverse<double>(c) : launch_reverse<float>(c);
}

template <class T> __global__ void __launch_bounds__(THREADS) iota(int64_t n, T *out) {
    const int64_t i = wr_cuda_thread();
    if (i < n) out[i] = static_cast<T>(i);
}

template <class T> wr_status launch_iota(const wr_call *c) {
    const int64_t n = c->out[0].n;
    if (n == 0) return WR_OK;
    return WR_CUDA_LAUNCH(c, iota<T>, wr_cuda_blocks(n, THREADS), THREADS, 0, n,
                          wr_cuda_data<T>(c->out[0]));
}

wr_status iota_row(const wr_call *c) {
    if (c->out[0].dtype == WR_I32) return launch_iota<int32_t>(c);
    return WR_CUDA_FLOAT(c->out[0].dtype, launch_iota, c);
}

} // namespace

const wr_cuda_row wr_cuda_rows_index[] = {{"gather", gather_row, NULL, NULL},
                                          {"scatter_add", scatter_row, NULL, NULL},
                                          {"invert_permutation", invert_row, NULL, NULL},
                                          {"one_hot", one_hot_row, NULL, NULL},
                                          {"sequence_mask", mask_row, NULL, NULL},
                                          {"cast", cast_row, NULL, NULL},
                                          {"reverse_prefix", reverse_row, NULL, NULL},
                                          {"iota", iota_row, NULL, NULL},
                                          WR_CUDA_ROWS_END};
