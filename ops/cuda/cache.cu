/* cache.cu: decoding caches [R, C, D], whose rows are reordered in place.
 *
 * Two launches: rows that move are set aside in the workspace, then put to their places together
 * with the new positions. Rows that stay (all of them in greedy decoding) are not touched. How many
 * positions are in use is known on the device alone: the grid is one for the whole length, and what
 * lies behind the used part is skipped. */
#include "ops/cuda/cuda.h"

#include <algorithm>

namespace {

enum { THREADS = 256, MOST_Y = 65535 };

/* Sizes in units of what is copied at once. */
struct move {
    const int32_t *rows, *position; /* position NULL: all of the length is in use */
    int64_t count, limit;           /* rows written, rows there are */
    int64_t length, fresh, width;   /* positions of a row, new ones, units of a position */
    wr_cuda_site site;
};

/* Positions in use before the new ones; -1 where the new ones have no room. */
__device__ inline int64_t used_of(const move &m, bool tells) {
    if (m.position == NULL) return m.length;
    const int64_t at = *m.position;
    if (at >= 0 && at + m.fresh <= m.length) return at;
    if (tells) wr_cuda_tell(m.site, WR_CUDA_FAULT_POSITION, at, m.length);
    return -1;
}

/* Where row b comes from; b itself where that is no row. */
__device__ inline int64_t source_of(const move &m, int64_t b, bool tells) {
    const int64_t from = m.rows[b];
    if (from >= 0 && from < m.limit) return from;
    if (tells) wr_cuda_tell(m.site, WR_CUDA_FAULT_INDEX, from, m.limit);
    return b;
}

template <class V>
__global__ void __launch_bounds__(THREADS) set_aside(move m, const V *cache, V *aside) {
    const bool tells = blockIdx.x == 0 && threadIdx.x == 0;
    const int64_t row = m.length * m.width, end = used_of(m, tells) * m.width;
    const int64_t step = static_cast<int64_t>(gridDim.x) * THREADS;
    for (int64_t b = blockIdx.y; b < m.count; b += gridDim.y) {
        const int64_t from = source_of(m, b, tells);
        if (from == b) continue;
        for (int64_t i = wr_cuda_thread(); i < end; i += step)
            aside[b * row + i] = cache[from * row + i];
    }
}

template <class V>
__global__ void __launch_bounds__(THREADS)
    put_back(move m, V *cache, const V *aside, const V *fresh) {
    const int64_t row = m.length * m.width, used = used_of(m, false) * m.width;
    const int64_t more = m.fresh * m.width, end = used + more;
    const int64_t step = static_cast<int64_t>(gridDim.x) * THREADS;
    if (used < 0) return;
    for (int64_t b = blockIdx.y; b < m.count; b += gridDim.y) {
        const bool moves = source_of(m, b, false) != b;
        for (int64_t i = (moves ? 0 : used) + wr_cuda_thread(); i < end; i += step)
            cache[b * row + i] = i < used ? aside[b * row + i] : fresh[b * more + i - used];
    }
}

template <class V> wr_status run(const wr_call *c, move m, int64_t bytes_of_position) {
    V *cache = wr_cuda_data<V>(c->in[0]), *aside = static_cast<V *>(c->workspace);
    const V *fresh = m.fresh == 0 ? NULL : wr_cuda_data<V>(c->in[1]);
    m.width = bytes_of_position / static_cast<int64_t>(sizeof(V));
    const int64_t enough = (8 * static_cast<int64_t>(wr_cuda(c)->processors) - 1) / m.count + 1;
    const unsigned across =
        std::min(wr_cuda_blocks(m.length * m.width, THREADS), static_cast<unsigned>(enough));
    const dim3 grid(across, static_cast<unsigned>(std::min<int64_t>(m.count, MOST_Y)));
    wr_status status = WR_CUDA_LAUNCH(c, set_aside<V>, grid, THREADS, 0, m, cache, aside);
    if (status != WR_OK) return status;
    return WR_CUDA_LAUNCH(c, put_back<V>, grid, THREADS, 0, m, cache, aside, fresh);
}

wr_status cache_row(const wr_call *c) {
    const wr_tensor *cache = &c->in[0], *rows = &c->in[c->n_in - 1];
    const bool writes = c->n_in == 4;
    const int64_t bytes = cache->dim[2] * (cache->dtype == WR_F64 ? 8 : 4);
    move m = {};
    m.rows = wr_cuda_data<int32_t>(*rows);
    m.position = writes ? wr_cuda_data<int32_t>(c->in[2]) : NULL;
    m.count = rows->n;
    m.limit = cache->dim[0];
    m.length = cache->dim[1];
    m.fresh = writes ? c->in[1].dim[1] : 0;
    m.site = wr_cuda_place(c);
    if (m.count > m.limit)
        return wr_cuda(c)->services->fail(
            c->env->err, WR_ERR_INPUT, "%lld hypotheses for a cache of %lld rows",
            static_cast<long long>(m.count), static_cast<long long>(m.limit));
    if (m.count == 0 || m.length * bytes == 0) return WR_OK;
    const bool wide = bytes % 16 == 0 && wr_cuda_aligned(cache->data, 16) &&
                      (!writes || wr_cuda_aligned(c->in[1].data, 16));
    return wide ? run<float4>(c, m, bytes) : run<float>(c, m, bytes);
}

size_t workspace(const wr_call *c) {
    const wr_tensor *cache = &c->in[0];
    return static_cast<size_t>(c->in[c->n_in - 1].n * cache->dim[1] * cache->dim[2]) *
           (cache->dtype == WR_F64 ? 8 : 4);
}

} // namespace

const wr_cuda_row wr_cuda_rows_cache[] = {{"cache_write", cache_row, NULL, workspace},
                                          {"cache_select", cache_row, NULL, workspace},
                                          WR_CUDA_ROWS_END};
