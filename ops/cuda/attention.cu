/* attention.cu: attention by tiles of queries and keys in shared memory (Rabe and Staats 2021; Dao
 * et al. 2022). Nothing of size T x S is kept.
 *
 * A block has 4 N threads for N queries and N keys of one head. Thread (ty, tx) of N / 4 x 16 holds
 * rows 4 ty .. 4 ty + 3 of each product: columns tx, tx + 16, .. of the scores, packs of columns of
 * what has the width of a head. A row's scores lie in half a warp, which makes maxima and sums of
 * rows by shuffles. Heads wider than DH come in chunks: scores are summed over all chunks, and a
 * block computes one chunk of its results.
 *
 * The gradient has no atomics: one kernel per block of keys sums over queries (dK, dV). When all
 * keys fit one tile, the same kernel has whole rows of scores and gives dQ, too; else another one
 * goes first, which finds delta [T] = sum over s of P dP and dQ. */
#include "ops/cuda/attention_tile.cuh"

#include <cmath>

namespace {

enum { HEADS, CAUSAL, SCALE, DROPOUT, STREAM, JOINED };

/* ---- forward ---- */

/* The scores of a tile to weights, with the sums so far (o, high, sum) brought to the new maximum.
 */
template <class T, int N, int DH>
__device__ inline void soften(const problem<T> &a, const place &at, int64_t t0, int64_t s0,
                              T (&s)[4][N / 16], T (&o)[4][DH / 16], T (&high)[4], T (&sum)[4]) {
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int64_t t = t0 + 4 * ty + i;
        T m = high[i], r = 0;
#pragma unroll
        for (int j = 0; j < N / 16; j++)
            if (sees(a, at, t, s0 + tx + 16 * j)) m = wr_cuda_larger(m, s[i][j]);
        m = half_warp_max(m);
#pragma unroll
        for (int j = 0; j < N / 16; j++) {
            s[i][j] = sees(a, at, t, s0 + tx + 16 * j) ? do_exp(s[i][j] - m) : T(0);
            r += s[i][j];
        }
        const T old = m == high[i] ? T(1) : do_exp(high[i] - m);
        high[i] = m;
        sum[i] = sum[i] * old + half_warp_sum(r);
#pragma unroll
        for (int d = 0; d < DH / 16; d++)
            o[i][d] *= old;
    }
}

template <class T, int N, int DH>
__global__ void __launch_bounds__(4 * N) attend(const __grid_constant__ problem<T> a) {
    using tiles = tile<T, N, DH>;
    WR_DYNAMIC_SHARED(T, q);
    T *const k = q + tiles::SIZE, *const v = k + tiles::SIZE, *const p = v + tiles::SIZE;
    const place at = place_of(a, a.q_tiles);
    const int64_t t0 = static_cast<int64_t>(at.tile) * N;
    const int64_t n = a.causal && at.keys > t0 + N ? t0 + N : at.keys;
    T o[4][DH / 16] = {}, high[4], sum[4] = {};
    for (int i = 0; i < 4; i++)
        high[i] = T(-INFINITY);
    for (int64_t s0 = 0; s0 < n; s0 += N) {
        T s[4][N / 16] = {};
        for (int i = 0; i < a.chunks; i++) {
            const int c = (at.chunk + 1 + i) % a.chunks;
            __syncthreads(); /* everybody is done with the tiles */
            if (a.chunks > 1 || s0 == 0)
                tiles::load(a, q, queries_at(a, at, a.q, a.q_ld, t0), a.q_ld, a.t - t0, c,
                            static_cast<T>(a.scale));
            tiles::load(a, k, keys_at(a, at, a.k, a.k_ld, s0), a.k_ld, n - s0, c, T(1));
            if (c == at.chunk)
                tiles::load(a, v, keys_at(a, at, a.v, a.k_ld, s0), a.k_ld, n - s0, c, T(1));
            __syncthreads();
            tiles::rows_by_rows(s, q, k);
        }
        soften<T, N, DH>(a, at, t0, s0, s, o, high, sum);
        if (a.threshold > 0) tiles::drop(a, s, kept_of<T, N>(a, at, t0, s0));
        tiles::put(p, s);
        __syncwarp(); /* half a warp reads what it wrote */
        tiles::rows_by_columns(o, p, v);
    }
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    T factor[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int64_t t = t0 + 4 * ty + i;
        factor[i] = n > 0 ? T(1) / sum[i] : T(0);
        if (a.lse != NULL && t < a.t && tx == 0 && at.chunk == 0)
            a.lse[row_at(a, at, t)] = n > 0 ? high[i] + do_log(sum[i]) : T(0);
    }
    if (a.out != NULL)
        tiles::store(a, queries_at(a, at, a.out, a.width, t0), a.width, a.t - t0, at.chunk, o,
                     factor);
}

/* ---- few queries: decoding ---- */

enum { ONE_THREADS = 128, ONE_KEYS_BYTES = 32 * 1024, ONE_WIDEST = 512, LANES = 8 };

/* Columns d .. d + 3 of a row of a head. */
template <class T>
__device__ inline wr_cuda_four<T> four_of(const problem<T> &a, const T *x, int d) {
    if (a.wide) return *reinterpret_cast<const wr_cuda_four<T> *>(x + d);
    wr_cuda_four<T> y;
    for (int j = 0; j < 4; j++)
        y.v[j] = d + j < a.dh ? x[d + j] : T(0);
    return y;
}

/* scores[s] of one query, eight lanes for each key; the largest, in every thread. */
template <class T>
__device__ inline T score_one(const problem<T> &a, const place &at, int64_t n, const T *q,
                              T *scores, T *scratch) {
    const int lane = threadIdx.x % LANES;
    const int64_t whole = (n + ONE_THREADS / LANES - 1) / (ONE_THREADS / LANES) *
                          (ONE_THREADS / LANES); /* all lanes take part in shuffles */
    T high = T(-INFINITY);
    for (int64_t s = threadIdx.x / LANES; s < whole; s += ONE_THREADS / LANES) {
        T r = 0;
        if (s < n) {
            const T *row = keys_at(a, at, a.k, a.k_ld, s);
            for (int d = 4 * lane; d < a.dh; d += 4 * LANES) {
                const wr_cuda_four<T> x = four_of(a, row, d);
#pragma unroll
                for (int j = 0; j < 4; j++)
                    r += q[d + j] * x.v[j];
            }
        }
        for (int apart = LANES / 2; apart > 0; apart /= 2)
            r += __shfl_xor_sync(0xffffffffu, r, apart);
        if (s >= n) continue;
        if (lane == 0) scores[s] = r;
        high = wr_cuda_larger(high, r);
    }
    return wr_cuda_block_max(high, scratch);
}

/* A block for each query; the scores of all its keys in shared memory. */
template <class T>
__global__ void __launch_bounds__(ONE_THREADS) attend_one(const __grid_constant__ problem<T> a) {
    WR_DYNAMIC_SHARED(T, q); /* [dh, rounded up to 4] */
    __shared__ T scratch[32];
    const int fours = (a.dh + 3) / 4, groups = ONE_THREADS / fours;
    T *const part = q + 4 * fours, *const scores = part + 4 * ONE_THREADS;
    const place at = place_of(a, a.q_tiles);
    const int64_t t = at.tile, n = a.causal && at.keys > t + 1 ? t + 1 : at.keys;
    const T *from = queries_at(a, at, a.q, a.q_ld, t);
    for (int d = threadIdx.x; d < 4 * fours; d += ONE_THREADS)
        q[d] = d < a.dh ? from[d] * static_cast<T>(a.scale) : T(0);
    __syncthreads();
    const T high = score_one(a, at, n, q, scores, scratch);
    T sum = 0;
    for (int64_t s = threadIdx.x; s < n; s += ONE_THREADS) {
        scores[s] = do_exp(scores[s] - high);
        sum += scores[s];
    }
    sum = wr_cuda_block_sum(sum, scratch);
    const int d = static_cast<int>(threadIdx.x) % fours * 4;
    const int group = static_cast<int>(threadIdx.x) / fours;
    wr_cuda_four<T> r = {};
    for (int64_t s = group; group < groups && s < n; s += groups) {
        const wr_cuda_four<T> x = four_of(a, keys_at(a, at, a.v, a.k_ld, s), d);
#pragma unroll
        for (int j = 0; j < 4; j++)
            r.v[j] += scores[s] * x.v[j];
    }
#pragma unroll
    for (int j = 0; j < 4; j++)
        part[4 * threadIdx.x + j] = r.v[j];
    __syncthreads();
    if (a.lse != NULL && threadIdx.x == 0)
        a.lse[row_at(a, at, t)] = n > 0 ? high + do_log(sum) : T(0);
    for (int i = threadIdx.x; a.out != NULL && i < a.dh; i += ONE_THREADS) {
        T y = 0;
        for (int g = 0; g < groups; g++)
            y += part[4 * fours * g + i];
        queries_at(a, at, a.out, a.width, t)[i] = n > 0 ? y / sum : T(0);
    }
}

/* ---- backward ---- */

/* p: probabilities, grad: their cotangents behind dropout, both 0 where nothing is seen. Takes the
 * scores and the products of the cotangents with the values. */
template <class T, int N>
__device__ inline void probabilities(const problem<T> &a, const place &at, int64_t t0, int64_t s0,
                                     uint32_t kept, T (&p)[4][N / 16], T (&grad)[4][N / 16]) {
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int64_t t = t0 + 4 * ty + i;
        const T lse = t < a.t ? a.lse_in[row_at(a, at, t)] : T(0);
#pragma unroll
        for (int j = 0; j < N / 16; j++) {
            const bool seen = sees(a, at, t, s0 + tx + 16 * j);
            p[i][j] = seen ? do_exp(p[i][j] - lse) : T(0);
            if (!seen) grad[i][j] = 0;
            if (a.threshold > 0)
                grad[i][j] *= kept >> (i * (N / 16) + j) & 1 ? static_cast<T>(a.factor) : T(0);
        }
    }
}

template <class T, int N>
__device__ inline void add_deltas(const T (&p)[4][N / 16], const T (&grad)[4][N / 16],
                                  T (&delta)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < N / 16; j++)
            delta[i] += p[i][j] * grad[i][j];
}

/* The sums of the half-warps, less the cotangents of the log-sum-exp. */
template <class T>
__device__ inline void finish_deltas(const problem<T> &a, const place &at, int64_t t0,
                                     T (&delta)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int64_t t = t0 + 4 * (threadIdx.x / 16) + i;
        delta[i] = half_warp_sum(delta[i]);
        if (a.cot_lse != NULL && t < a.t) delta[i] -= a.cot_lse[row_at(a, at, t)];
    }
}

/* p (grad - delta), in grad: the scores' cotangents. */
template <class T, int N>
__device__ inline void score_cotangents(const T (&p)[4][N / 16], const T (&delta)[4],
                                        T (&grad)[4][N / 16]) {
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < N / 16; j++)
            grad[i][j] = p[i][j] == T(0) ? T(0) : p[i][j] * (grad[i][j] - delta[i]);
}

/* Four tiles and one of scores. */
template <class T, int N, int DH> struct shared_of {
    T *q, *cot, *k, *v, *p;
    __device__ explicit shared_of(T *memory)
        : q(memory), cot(q + tile<T, N, DH>::SIZE), k(cot + tile<T, N, DH>::SIZE),
          v(k + tile<T, N, DH>::SIZE), p(v + tile<T, N, DH>::SIZE) {}
};

/* Scores and products of cotangents with values, over all chunks; the tiles then hold the block's
 * own chunk. `queries`, `keys`: that side has changed since the last call. */
template <class T, int N, int DH>
__device__ inline void
both_products(const problem<T> &a, const place &at, const shared_of<T, N, DH> &m, int64_t t0,
              int64_t s0, bool queries, bool keys, T (&s)[4][N / 16], T (&grad)[4][N / 16]) {
    using tiles = tile<T, N, DH>;
    for (int i = 0; i < a.chunks; i++) {
        const int c = (at.chunk + 1 + i) % a.chunks;
        __syncthreads(); /* everybody is done with the tiles */
        if (queries || a.chunks > 1) {
            tiles::load(a, m.q, queries_at(a, at, a.q, a.q_ld, t0), a.q_ld, a.t - t0, c,
                        static_cast<T>(a.scale));
            tiles::load(a, m.cot, queries_at(a, at, a.cot, a.width, t0), a.width, a.t - t0, c,
                        T(1));
        }
        if (keys || a.chunks > 1) {
            tiles::load(a, m.k, keys_at(a, at, a.k, a.k_ld, s0), a.k_ld, at.keys - s0, c, T(1));
            tiles::load(a, m.v, keys_at(a, at, a.v, a.k_ld, s0), a.k_ld, at.keys - s0, c, T(1));
        }
        __syncthreads();
        tiles::rows_by_rows(s, m.q, m.k);
        tiles::rows_by_rows(grad, m.cot, m.v);
    }
}

/* delta and dQ of a tile of queries: all keys twice. */
template <class T, int N, int DH>
__global__ void __launch_bounds__(4 * N, 1) query_gradients(const __grid_constant__ problem<T> a) {
    using tiles = tile<T, N, DH>;
    WR_DYNAMIC_SHARED(T, memory);
    const shared_of<T, N, DH> m(memory);
    const place at = place_of(a, a.q_tiles);
    const int64_t t0 = static_cast<int64_t>(at.tile) * N;
    const int64_t n = a.causal && at.keys > t0 + N ? t0 + N : at.keys;
    T o[4][DH / 16] = {}, delta[4] = {};
    for (int pass = 0; pass < (a.dq != NULL ? 2 : 1); pass++) {
        for (int64_t s0 = 0; s0 < n; s0 += N) {
            T p[4][N / 16] = {}, grad[4][N / 16] = {};
            both_products(a, at, m, t0, s0, pass == 0 && s0 == 0, true, p, grad);
            const uint32_t kept = a.threshold > 0 ? kept_of<T, N>(a, at, t0, s0) : 0;
            probabilities<T, N>(a, at, t0, s0, kept, p, grad);
            if (pass == 0) {
                add_deltas<T, N>(p, grad, delta);
                continue;
            }
            score_cotangents<T, N>(p, delta, grad);
            tiles::put(m.p, grad);
            __syncwarp(); /* half a warp reads what it wrote */
            tiles::rows_by_columns(o, m.p, m.k);
        }
        if (pass == 0) finish_deltas(a, at, t0, delta);
    }
    const T scale = static_cast<T>(a.scale), factor[4] = {scale, scale, scale, scale};
    if (at.chunk == 0 && threadIdx.x % 16 == 0)
        for (int i = 0; i < 4; i++) {
            const int64_t t = t0 + 4 * (threadIdx.x / 16) + i;
            if (t < a.t) a.delta[row_at(a, at, t)] = delta[i];
        }
    if (a.dq != NULL)
        tiles::store(a, queries_at(a, at, a.dq, a.dq_ld, t0), a.dq_ld, a.t - t0, at.chunk, o,
                     factor);
}

/* dK and dV of a tile of keys. WHOLE: all keys are in it, and dQ comes from here as well. */
template <class T, int N, int DH, bool WHOLE>
__global__ void __launch_bounds__(4 * N, 1) key_gradients(const __grid_constant__ problem<T> a) {
    using tiles = tile<T, N, DH>;
    WR_DYNAMIC_SHARED(T, memory);
    const shared_of<T, N, DH> m(memory);
    const place at = place_of(a, a.k_tiles);
    const int64_t s0 = static_cast<int64_t>(at.tile) * N;
    const int64_t first = a.causal ? s0 : 0; /* queries before it see none of the keys */
    const T scale = static_cast<T>(a.scale), one[4] = {1, 1, 1, 1};
    T dk[4][DH / 16] = {}, dv[4][DH / 16] = {};
    for (int64_t t0 = first; t0 < a.t && (WHOLE || s0 < at.keys); t0 += N) {
        T p[4][N / 16] = {}, grad[4][N / 16] = {}, delta[4] = {};
        both_products(a, at, m, t0, s0, true, t0 == first, p, grad);
        const uint32_t kept = a.threshold > 0 ? kept_of<T, N>(a, at, t0, s0) : 0;
        probabilities<T, N>(a, at, t0, s0, kept, p, grad);
        if (WHOLE) {
            add_deltas<T, N>(p, grad, delta);
            finish_deltas(a, at, t0, delta);
        } else {
            for (int i = 0; i < 4; i++) {
                const int64_t t = t0 + 4 * (threadIdx.x / 16) + i;
                delta[i] = t < a.t ? a.delta[row_at(a, at, t)] : T(0);
            }
        }
        score_cotangents<T, N>(p, delta, grad);
        if (a.threshold > 0) tiles::drop(a, p, kept);
        tiles::put(m.p, p);
        __syncthreads();
        tiles::columns_by_columns(dv, m.p, m.cot);
        __syncthreads();
        tiles::put(m.p, grad);
        __syncthreads();
        tiles::columns_by_columns(dk, m.p, m.q);
        if (WHOLE && a.dq != NULL) {
            const T factor[4] = {scale, scale, scale, scale};
            T o[4][DH / 16] = {};
            tiles::rows_by_columns(o, m.p, m.k);
            tiles::store(a, queries_at(a, at, a.dq, a.dq_ld, t0), a.dq_ld, a.t - t0, at.chunk, o,
                         factor);
        }
    }
    if (a.dk != NULL)
        tiles::store(a, keys_at(a, at, a.dk, a.dk_ld, s0), a.dk_ld, a.s - s0, at.chunk, dk, one);
    if (a.dv != NULL)
        tiles::store(a, keys_at(a, at, a.dv, a.dk_ld, s0), a.dk_ld, a.s - s0, at.chunk, dv, one);
}

/* ---- launching ---- */

template <class T, class K>
wr_status start(const wr_call *c, K kernel, const char *name, int64_t blocks, int threads,
                size_t shared, const problem<T> &a) {
    if (shared > 48 * 1024) {
        cudaError_t error = cudaFuncSetAttribute(
            kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
        if (error != cudaSuccess)
            return wr_cuda(c)->services->fail(c->env->err, WR_ERR_LIBRARY,
                                              "CUDA kernel %s: %zu bytes of shared memory: %s",
                                              name, shared, cudaGetErrorString(error));
    }
    WR_LAUNCH(kernel, static_cast<unsigned>(blocks), static_cast<unsigned>(threads), shared,
              wr_cuda(c)->stream, a);
    return wr_cuda_launched(c, name);
}

int tiles_of(int64_t n, int each) { return static_cast<int>((n + each - 1) / each); }

template <class T, int N, int DH> struct sized {
    static wr_status forward(const wr_call *c, problem<T> *a) {
        a->q_tiles = tiles_of(a->t, N);
        a->chunks = tiles_of(a->dh, DH);
        return start(c, attend<T, N, DH>, "attend", a->b * a->heads * a->chunks * a->q_tiles, 4 * N,
                     sizeof(T) * (3 * tile<T, N, DH>::SIZE + tile<T, N, DH>::SCORES), *a);
    }
    static wr_status backward(const wr_call *c, problem<T> *a) {
        const size_t shared = sizeof(T) * (4 * tile<T, N, DH>::SIZE + tile<T, N, DH>::SCORES);
        a->q_tiles = tiles_of(a->t, N);
        a->k_tiles = a->s == 0 ? 1 : tiles_of(a->s, N);
        a->chunks = tiles_of(a->dh, DH);
        const int64_t heads = a->b * a->heads * a->chunks;
        if (a->k_tiles == 1)
            return start(c, key_gradients<T, N, DH, true>, "key_gradients", heads, 4 * N, shared,
                         *a);
        a->delta = static_cast<T *>(c->workspace);
        wr_status status = a->q_tiles == 0 ? WR_OK
                                           : start(c, query_gradients<T, N, DH>, "query_gradients",
                                                   heads * a->q_tiles, 4 * N, shared, *a);
        if (status != WR_OK || (a->dk == NULL && a->dv == NULL)) return status;
        return start(c, key_gradients<T, N, DH, false>, "key_gradients", heads * a->k_tiles, 4 * N,
                     shared, *a);
    }
};

/* The same for every size of T, S and dh of a type, so that f64 takes one tile. */
template <class T, class F> wr_status by_size(const problem<T> &, bool, F f) {
    return f(sized<T, 32, 32>{});
}
template <class F> wr_status by_size(const problem<float> &a, bool large, F f) {
    if (a.dh > 64) return f(sized<float, 32, 128>{});
    if (a.dh > 32) return large ? f(sized<float, 64, 64>{}) : f(sized<float, 32, 64>{});
    return large ? f(sized<float, 64, 32>{}) : f(sized<float, 32, 32>{});
}

template <class T> bool takes_one(const problem<T> &a) {
    return a.t <= 4 && a.threshold == 0 && a.dh <= ONE_WIDEST &&
           static_cast<size_t>(a.s) * sizeof(T) <= ONE_KEYS_BYTES / (sizeof(T) / 4);
}

template <class T> wr_status forward(const wr_call *c, problem<T> *a) {
    if (a->b * a->t * a->dh == 0 || (a->out == NULL && a->lse == NULL)) return WR_OK;
    if (takes_one(*a)) {
        a->q_tiles = static_cast<int>(a->t);
        a->chunks = 1;
        const size_t shared =
            sizeof(T) * static_cast<size_t>((a->dh + 3) / 4 * 4 + 4 * ONE_THREADS + a->s);
        return start(c, attend_one<T>, "attend_one", a->b * a->heads * a->q_tiles, ONE_THREADS,
                     shared, *a);
    }
    const bool fills = a->b * a->heads * tiles_of(a->t, 64) >= wr_cuda(c)->processors;
    return by_size(*a, a->t > 32 && fills, [&](auto size) { return size.forward(c, a); });
}

template <class T> wr_status backward(const wr_call *c, problem<T> *a) {
    if (a->dq == NULL && a->dk == NULL && a->dv == NULL) return WR_OK;
    if (a->b * a->dh == 0 || a->t + a->s == 0) return WR_OK;
    const bool large = a->s > 32 && (a->t > 32 || a->s <= 64);
    return by_size(*a, large, [&](auto size) { return size.backward(c, a); });
}

/* ---- rows ---- */

template <class T> void set_dropout(const wr_call *c, problem<T> *a) {
    const double p = c->attr[DROPOUT].r;
    a->threshold = p > 0 ? static_cast<uint32_t>(p * 65536.0 + 0.5) : 0;
    a->factor = 65536.0 / (65536.0 - static_cast<double>(a->threshold));
    a->stream = static_cast<uint64_t>(c->attr[STREAM].i);
    a->key = wr_cuda(c)->key;
}

/* Operands apart, or side by side in qkv [B, T, 3 D], or q [B, T, D] and kv [B, S, 2 D]. */
template <class T> problem<T> common(const wr_call *c, int parts) {
    const wr_tensor *q = &c->in[0], *k = &c->in[parts == 3 ? 0 : 1];
    problem<T> a = {};
    a.heads = static_cast<int>(c->attr[HEADS].i);
    a.b = q->dim[0];
    a.t = q->dim[1];
    a.s = k->dim[1];
    a.q_ld = a.dq_ld = q->dim[2];
    a.k_ld = a.dk_ld = k->dim[2];
    a.width = k->dim[2] / (parts == 0 ? 1 : parts);
    a.dh = static_cast<int>(a.width / a.heads);
    a.causal = c->attr[CAUSAL].i != 0;
    a.scale = c->attr[SCALE].r;
    a.q = static_cast<const T *>(q->data);
    a.k = static_cast<const T *>(k->data) + (parts == 3 ? a.width : 0);
    a.v = parts == 0 ? static_cast<const T *>(c->in[2].data) : a.k + a.width;
    a.site = wr_cuda_place(c);
    set_dropout(c, &a);
    return a;
}

/* Everything that is read and written in fours lies at multiples of 16 bytes. */
template <class T> void set_wide(problem<T> *a) {
    const void *const all[] = {a->q, a->k, a->v, a->out, a->cot, a->dq, a->dk, a->dv};
    a->wide = a->dh % 4 == 0 && a->q_ld % 4 == 0 && a->k_ld % 4 == 0;
    for (const void *p : all)
        a->wide = a->wide && wr_cuda_aligned(p, 16);
}

template <class T> wr_status forward_row(const wr_call *c, int parts) {
    problem<T> a = common<T>(c, parts);
    const int n = parts == 0 ? 3 : parts == 3 ? 1 : 2;
    a.lengths = c->n_in > n ? static_cast<const int32_t *>(c->in[n].data) : NULL;
    a.out = wr_cuda_data<T>(c->out[0]);
    a.lse = wr_cuda_data<T>(c->out[1]);
    set_wide(&a);
    return forward(c, &a);
}

template <class T> wr_status backward_row(const wr_call *c, int parts) {
    problem<T> a = common<T>(c, parts);
    const int n = parts == 0 ? 3 : parts == 3 ? 1 : 2;
    a.lse_in = wr_cuda_data<T>(c->in[n]);
    a.cot = wr_cuda_data<T>(c->in[n + 1]);
    for (int k = n + 2; k < c->n_in; k++) {
        if (c->in[k].dtype == WR_I32)
            a.lengths = static_cast<const int32_t *>(c->in[k].data);
        else
            a.cot_lse = wr_cuda_data<T>(c->in[k]);
    }
    a.dq = wr_cuda_data<T>(c->out[0]);
    if (parts == 0) {
        a.dk = wr_cuda_data<T>(c->out[1]);
        a.dv = wr_cuda_data<T>(c->out[2]);
    } else if (c->out[n - 1].data != NULL) {
        a.dk = wr_cuda_data<T>(c->out[n - 1]) + (parts == 3 ? a.width : 0);
        a.dv = a.dk + a.width;
    }
    set_wide(&a);
    return backward(c, &a);
}

int joined_parts(const wr_call *c) { return static_cast<int>(c->attr[JOINED].i); }

wr_status attention_row(const wr_call *c) {
    return WR_CUDA_FLOAT(c->in[0].dtype, forward_row, c, 0);
}
wr_status grad_row(const wr_call *c) { return WR_CUDA_FLOAT(c->in[0].dtype, backward_row, c, 0); }
wr_status joined_row(const wr_call *c) {
    return WR_CUDA_FLOAT(c->in[0].dtype, forward_row, c, joined_parts(c));
}
wr_status joined_grad_row(const wr_call *c) {
    return WR_CUDA_FLOAT(c->in[0].dtype, backward_row, c, joined_parts(c));
}

/* delta [B, H, T] */
size_t workspace(const wr_call *c) {
    const wr_tensor *q = &c->in[0];
    const size_t each = q->dtype == WR_F64 ? sizeof(double) : sizeof(float);
    return static_cast<size_t>(q->dim[0] * q->dim[1] * c->attr[HEADS].i) * each;
}

} // namespace

const wr_cuda_row wr_cuda_rows_attention[] = {
    {"attention", attention_row, NULL, NULL},
    {"attention_grad", grad_row, NULL, workspace},
    {"attention_joined", joined_row, NULL, NULL},
    {"attention_joined_grad", joined_grad_row, NULL, workspace},
    WR_CUDA_ROWS_END};
