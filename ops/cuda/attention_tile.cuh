/* attention_tile.cuh: tiles of attention in shared memory and their products; see attention.cu. */
#ifndef WEIR_CUDA_ATTENTION_TILE_H
#define WEIR_CUDA_ATTENTION_TILE_H

#include "ops/cuda/cuda.h"

#include <cmath>

namespace {

/* B sequences of T queries and S keys, heads of width dh; `_ld`: elements between rows. */
template <class T> struct problem {
    const T *q, *k, *v, *lse_in, *cot, *cot_lse;
    T *out, *lse, *dq, *dk, *dv, *delta;
    const int32_t *lengths;
    const wr_cuda_key *key;
    int64_t b, t, s, width, q_ld, k_ld, dq_ld, dk_ld;
    uint64_t stream;
    double scale, factor;
    wr_cuda_site site;
    uint32_t threshold; /* 0: no dropout */
    int heads, dh, chunks, q_tiles, k_tiles, causal;
    int wide; /* four elements in a row may be read and written at once */
};

/* What a block works on. */
struct place {
    int64_t b, keys; /* keys that the sequence has */
    int h, chunk, tile;
};

template <class T> __device__ inline place place_of(const problem<T> &a, int n_tiles) {
    place at;
    int64_t i = blockIdx.x;
    at.tile = static_cast<int>(i % n_tiles);
    i /= n_tiles;
    at.chunk = static_cast<int>(i % a.chunks);
    i /= a.chunks;
    at.h = static_cast<int>(i % a.heads);
    at.b = i / a.heads;
    at.keys = a.lengths == NULL ? a.s : a.lengths[at.b];
    if (at.keys < 0 || at.keys > a.s) {
        if (threadIdx.x == 0) wr_cuda_tell(a.site, WR_CUDA_FAULT_LENGTH, at.keys, a.s);
        at.keys = 0;
    }
    return at;
}

template <class T>
__device__ inline bool sees(const problem<T> &a, const place &at, int64_t t, int64_t s) {
    return t < a.t && s < at.keys && (!a.causal || s <= t);
}

/* Row t (or s) of the head in a tensor [B, T, ..] (or [B, S, ..]). */
template <class T, class P>
__device__ inline P *queries_at(const problem<T> &a, const place &at, P *x, int64_t ld, int64_t t) {
    return x + (at.b * a.t + t) * ld + static_cast<int64_t>(at.h) * a.dh;
}
template <class T, class P>
__device__ inline P *keys_at(const problem<T> &a, const place &at, P *x, int64_t ld, int64_t s) {
    return x + (at.b * a.s + s) * ld + static_cast<int64_t>(at.h) * a.dh;
}
/* Element of a tensor [B, H, T]. */
template <class T>
__device__ inline int64_t row_at(const problem<T> &a, const place &at, int64_t t) {
    return (at.b * a.heads + at.h) * a.t + t;
}

static __device__ inline float do_exp(float x) { return expf(x); }
static __device__ inline double do_exp(double x) { return exp(x); }
static __device__ inline float do_log(float x) { return logf(x); }
static __device__ inline double do_log(double x) { return log(x); }

/* Over the lanes of half a warp, in each of them; all lanes of the warp call it. */
template <class T> __device__ inline T half_warp_sum(T x) {
    for (int apart = 8; apart > 0; apart /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, apart);
    return x;
}
template <class T> __device__ inline T half_warp_max(T x) {
    for (int apart = 8; apart > 0; apart /= 2)
        x = wr_cuda_larger(x, __shfl_xor_sync(0xffffffffu, x, apart));
    return x;
}

/* Which of a thread's weights dropout keeps: bit i (N / 16) + j for row i, column j. The numbers
 * are those of the row `dropout` for a tensor [B, H, T, S] (ops/random_ops.c has their order):
 * elements 16 apart come from one block of Philox, eight to a block. */
template <class T, int N>
__device__ inline uint32_t kept_of(const problem<T> &a, const place &at, int64_t t0, int64_t s0) {
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    uint32_t kept = 0;
    for (int i = 0; i < 4; i++) {
        const int64_t first = row_at(a, at, t0 + 4 * ty + i) * a.s + s0 + tx;
        uint32_t word[4] = {};
        int64_t drawn = -1;
#pragma unroll
        for (int j = 0; j < N / 16; j++) {
            const int64_t e = first + 16 * j, block = e / 128 * 16 + e % 16;
            if (block != drawn)
                wr_cuda_random_bits(a.key, a.stream, static_cast<uint64_t>(block), word);
            drawn = block;
            const int w = static_cast<int>(e % 128) / 32;
            const uint32_t both = w == 0 ? word[0] : w == 1 ? word[1] : w == 2 ? word[2] : word[3];
            const uint32_t bits = e % 32 < 16 ? both & 0xffffu : both >> 16;
            kept |= static_cast<uint32_t>(bits >= a.threshold) << (i * (N / 16) + j);
        }
    }
    return kept;
}

/* W elements that are read and written at once. */
struct WR_VECTOR(two_floats, 8) {
    float v[2];
};
struct WR_VECTOR(four_floats, 16) {
    float v[4];
};
struct WR_VECTOR(two_doubles, 16) {
    double v[2];
};
struct WR_VECTOR(four_doubles, 16) {
    double v[4];
};
template <class T, int W> struct pack_of;
template <> struct pack_of<float, 2> { using type = two_floats; };
template <> struct pack_of<float, 4> { using type = four_floats; };
template <> struct pack_of<double, 2> { using type = two_doubles; };
template <> struct pack_of<double, 4> { using type = four_doubles; };

/* Tiles of N rows of DH columns, and of N x N scores. */
template <class T, int N, int DH> struct tile {
    enum { LD = DH + 4, SIZE = N * LD, LD_SCORES = N + 4, SCORES = N * LD_SCORES };
    enum { SIDE = N / 16, COLUMNS = DH / 16, W = COLUMNS < 4 ? COLUMNS : 4, PACKS = COLUMNS / W };
    using four = typename pack_of<T, 4>::type;
    using some = typename pack_of<T, W>::type;

    static __device__ inline int ty() { return static_cast<int>(threadIdx.x) / 16; }
    static __device__ inline int tx() { return static_cast<int>(threadIdx.x) % 16; }
    static __device__ inline int column(int pack_number) { return W * (tx() + 16 * pack_number); }

    /* k times `rows` rows (more than N: N) of chunk c from global memory; 0 behind them. */
    static __device__ inline void load(const problem<T> &a, T *to, const T *from, int64_t ld,
                                       int64_t rows, int c, T k) {
        const int columns = a.dh - c * DH;
        from += static_cast<int64_t>(c) * DH;
        for (int x = threadIdx.x; x < N * DH / 4; x += 4 * N) {
            const int r = x / (DH / 4), d = x % (DH / 4) * 4;
            four y = {};
            if (r < rows && d < columns) {
                const T *row = from + r * ld + d;
                if (a.wide) {
                    y = *reinterpret_cast<const four *>(row);
                } else {
#pragma unroll
                    for (int j = 0; j < 4; j++)
                        if (d + j < columns) y.v[j] = row[j];
                }
            }
#pragma unroll
            for (int j = 0; j < 4; j++)
                y.v[j] *= k;
            *reinterpret_cast<four *>(to + r * LD + d) = y;
        }
    }

    /* Row i times factor[i] of the first `rows` rows to chunk c in global memory. */
    static __device__ inline void store(const problem<T> &a, T *to, int64_t ld, int64_t rows, int c,
                                        const T (&x)[4][COLUMNS], const T (&factor)[4]) {
        const int columns = a.dh - c * DH;
        to += static_cast<int64_t>(c) * DH;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (4 * ty() + i >= rows) continue;
            T *row = to + (4 * ty() + i) * ld;
#pragma unroll
            for (int g = 0; g < PACKS; g++) {
                const int d = column(g);
                some y;
#pragma unroll
                for (int w = 0; w < W; w++)
                    y.v[w] = x[i][g * W + w] * factor[i];
                if (a.wide && d < columns) {
                    *reinterpret_cast<some *>(row + d) = y;
                } else {
#pragma unroll
                    for (int w = 0; w < W; w++)
                        if (d + w < columns) row[d + w] = y.v[w];
                }
            }
        }
    }

    /* s += x y^T */
    static __device__ inline void rows_by_rows(T (&s)[4][SIDE], const T *x, const T *y) {
#pragma unroll 4
        for (int k = 0; k < DH; k += 4) {
            four p[4], q[SIDE];
#pragma unroll
            for (int i = 0; i < 4; i++)
                p[i] = *reinterpret_cast<const four *>(x + (4 * ty() + i) * LD + k);
#pragma unroll
            for (int j = 0; j < SIDE; j++)
                q[j] = *reinterpret_cast<const four *>(y + (tx() + 16 * j) * LD + k);
#pragma unroll
            for (int c = 0; c < 4; c++)
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int j = 0; j < SIDE; j++)
                        s[i][j] += p[i].v[c] * q[j].v[c];
        }
    }

    static __device__ inline void add_row(T (&o)[4][COLUMNS], const T (&x)[4], const T *row) {
#pragma unroll
        for (int g = 0; g < PACKS; g++) {
            const some y = *reinterpret_cast<const some *>(row + column(g));
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int w = 0; w < W; w++)
                    o[i][g * W + w] += x[i] * y.v[w];
        }
    }

    /* o += p y, p of scores */
    static __device__ inline void rows_by_columns(T (&o)[4][COLUMNS], const T *p, const T *y) {
#pragma unroll 2
        for (int k = 0; k < N; k += 4) {
            four x[4];
#pragma unroll
            for (int i = 0; i < 4; i++)
                x[i] = *reinterpret_cast<const four *>(p + (4 * ty() + i) * LD_SCORES + k);
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const T now[4] = {x[0].v[c], x[1].v[c], x[2].v[c], x[3].v[c]};
                add_row(o, now, y + (k + c) * LD);
            }
        }
    }

    /* o += p^T y */
    static __device__ inline void columns_by_columns(T (&o)[4][COLUMNS], const T *p, const T *y) {
#pragma unroll 2
        for (int k = 0; k < N; k++) {
            const four x = *reinterpret_cast<const four *>(p + k * LD_SCORES + 4 * ty());
            add_row(o, x.v, y + k * LD);
        }
    }

    /* A thread's part of the scores into shared memory. */
    static __device__ inline void put(T *p, const T (&s)[4][SIDE]) {
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < SIDE; j++)
                p[(4 * ty() + i) * LD_SCORES + tx() + 16 * j] = s[i][j];
    }

    static __device__ inline void drop(const problem<T> &a, T (&s)[4][SIDE], uint32_t kept) {
        const T factor = static_cast<T>(a.factor);
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < SIDE; j++)
                s[i][j] *= kept >> (i * SIDE + j) & 1 ? factor : T(0);
    }
};

} // namespace

#endif
