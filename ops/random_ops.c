/* random_ops.c: rows that draw random numbers, tile by tile; see random_ops.h.
 *
 * Elements 4i .. 4i + 3 of uniform, normal and gumbel come from the four words of Philox block i.
 * Dropout needs 16 bits per element: in each run of 128 elements, element 32 w + 16 h + l has half
 * h (0: low) of word w of block l of the run's sixteen, so that no number moves between lanes. */
/* Products and sums are rounded one by one, so that a processor with instructions for both at once
 * gives the numbers of any other, and of a GPU. */
#if defined(__clang__)
#pragma clang fp contract(off)
#else
#pragma GCC optimize("fp-contract=off")
#endif

#include "ops/random_ops.h"

#include "ops/cpu/philox.h"
#include "ops/cpu/vmath.h"
#include "ops/elementwise.h"
#include "ops/shape.h"

#include <math.h>
#include <string.h>

enum {
    LANES = WR_PHILOX_LANES,
    TILE = 4 * LANES,     /* elements of a tile that takes 32 bits each */
    RUN = 8 * LANES,      /* elements of a tile that takes 16 bits each */
    PARALLEL_FROM = 32768 /* elements; below this a second thread costs more than it brings */
};

/* ---- numbers ---- */

enum { ATTR_RANK = 0, ATTR_DIM = 1, ATTR_DTYPE = 1 + WR_MAX_RANK, ATTR_STREAM, N_ATTRS };

static wr draw(wr_loc loc, wr_graph *g, const wr_op *op, wr_dtype t, int rank, const wr_dim *dims) {
    wr_attr attr[N_ATTRS];
    memset(attr, 0, sizeof attr);
    if (rank > WR_MAX_RANK)
        return wr_mistake(g, loc, "%s: %d axes; a tensor has at most %d", op->name, rank,
                          WR_MAX_RANK);
    attr[ATTR_RANK].i = rank;
    for (int i = 0; i < WR_MAX_RANK; i++)
        attr[ATTR_DIM + i].d = i < rank ? dims[i] : wr_n(1);
    attr[ATTR_DTYPE].i = t;
    attr[ATTR_STREAM].i = wr_next_stream(g);
    return wr_emit_in(g, loc, op, 0, NULL, attr, false);
}

wr wr_uniform_at(wr_loc loc, wr_graph *g, double low, double high, wr_dtype t, int rank,
                 const wr_dim *dims) {
    wr u = draw(loc, g, &wr_op_uniform, t, rank, dims);
    if (low == 0.0 && high == 1.0) return u;
    return wr_real_at(loc, &wr_op_shift, wr_real_at(loc, &wr_op_scale, u, high - low), low);
}

wr wr_normal_at(wr_loc loc, wr_graph *g, wr_dtype t, int rank, const wr_dim *dims) {
    return draw(loc, g, &wr_op_normal, t, rank, dims);
}

wr wr_gumbel_at(wr_loc loc, wr_graph *g, wr_dtype t, int rank, const wr_dim *dims) {
    return draw(loc, g, &wr_op_gumbel, t, rank, dims);
}

static bool draw_shape(wr_shape_ctx *c) {
    int64_t t = c->attr[ATTR_DTYPE].i;
    if (t != WR_F32 && t != WR_F64)
        return wr_shape_fail(c, "f32 or f64", NULL, "random numbers are floats");
    c->out[0] = (wr_type){.dtype = (wr_dtype)t, .rank = (int)c->attr[ATTR_RANK].i};
    for (int i = 0; i < c->out[0].rank; i++)
        c->out[0].dim[i] = c->attr[ATTR_DIM + i].d;
    return true;
}

/* sin and cos of 2 pi u for u in [0, 1): the nearest quarter turn is taken off, which is exact, and
 * the rest, at most an eighth, goes through Taylor polynomials; errors below 2e-7. */
static inline void turn(float u, float *sine, float *cosine) {
    float quarter = (float)(int32_t)(4.0f * u + 0.5f);
    float x = (u - 0.25f * quarter) * 6.283185307179586f, z = x * x;
    float s =
        x +
        x * z * (-1.6666667e-1f + z * (8.3333333e-3f + z * (-1.9841270e-4f + z * 2.7557319e-6f)));
    float c = 1.0f + z * (-0.5f + z * (4.1666667e-2f + z * (-1.3888889e-3f + z * 2.4801587e-5f)));
    int32_t q = (int32_t)quarter & 3;
    float first = (q & 1) != 0 ? c : s, second = (q & 1) != 0 ? s : c;
    *sine = (q & 2) != 0 ? -first : first;
    *cosine = q == 1 || q == 2 ? -second : second;
}

/* As wr_random_normal() does it: in (0, 1]; 1, by rounding, has the radius 0. */
static inline float radius_unit(uint32_t bits) {
    return ((float)(int32_t)(bits >> 8) + 0.5f) * 0x1p-24f;
}

/* One bit less, so that 1/2 is added exactly and both logarithms of a Gumbel number are finite. */
static inline float open_unit(uint32_t bits) {
    return ((float)(int32_t)(bits >> 9) + 0.5f) * 0x1p-23f;
}

typedef uint32_t tile_words[4][LANES];

/* One tile of each distribution: number of word w, lane l goes to out[4 l + w]. */
static void uniform_f32(tile_words word, float *out) {
    for (int l = 0; l < LANES; l++)
        for (int w = 0; w < 4; w++)
            out[4 * l + w] = (float)(int32_t)(word[w][l] >> 8) * 0x1p-24f;
}

static void uniform_f64(tile_words word, double *out) {
    for (int l = 0; l < LANES; l++)
        for (int w = 0; w < 4; w++)
            out[4 * l + w] = (double)(word[w][l] >> 8) * 0x1p-24;
}

static void normal_f32(tile_words word, float *out) {
    float value[4][LANES];
    for (int w = 0; w < 4; w += 2) {
#pragma omp simd
        for (int l = 0; l < LANES; l++) {
            float radius = sqrtf(-2.0f * wr_log_f32(radius_unit(word[w][l])));
            float sine, cosine;
            turn((float)(int32_t)(word[w + 1][l] >> 8) * 0x1p-24f, &sine, &cosine);
            value[w][l] = radius * cosine;
            value[w + 1][l] = radius * sine;
        }
    }
    for (int l = 0; l < LANES; l++)
        for (int w = 0; w < 4; w++)
            out[4 * l + w] = value[w][l];
}

static void normal_f64(tile_words word, double *out) {
    for (int l = 0; l < LANES; l++)
        for (int w = 0; w < 4; w += 2) {
            double radius = sqrt(-2.0 * log((double)radius_unit(word[w][l])));
            double angle = 6.283185307179586 * 0x1p-24 * (double)(word[w + 1][l] >> 8);
            out[4 * l + w] = radius * cos(angle);
            out[4 * l + w + 1] = radius * sin(angle);
        }
}

static void gumbel_f32(tile_words word, float *out) {
    float value[4][LANES];
    for (int w = 0; w < 4; w++) {
#pragma omp simd
        for (int l = 0; l < LANES; l++)
            value[w][l] = -wr_log_f32(-wr_log_f32(open_unit(word[w][l])));
    }
    for (int l = 0; l < LANES; l++)
        for (int w = 0; w < 4; w++)
            out[4 * l + w] = value[w][l];
}

static void gumbel_f64(tile_words word, double *out) {
    for (int l = 0; l < LANES; l++)
        for (int w = 0; w < 4; w++)
            out[4 * l + w] = -log(-log((double)open_unit(word[w][l])));
}

typedef struct distribution {
    void (*f32)(tile_words word, float *out);
    void (*f64)(tile_words word, double *out);
} distribution;

static wr_random stream_of(const wr_call *c, int64_t stream) {
    return wr_random_stream(c->env->seed, c->env->step, (uint64_t)stream);
}

static wr_status draw_cpu(const wr_call *c, const distribution *d) {
    const wr_tensor *y = &c->out[0];
    wr_random r = stream_of(c, c->attr[ATTR_STREAM].i);
    size_t e = wr_dtype_bytes(y->dtype);
    bool parallel = y->n >= PARALLEL_FROM && c->env->threads > 1;
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t first = 0; first < y->n; first += TILE) {
        tile_words word;
        double tile[TILE]; /* of either type */
        wr_philox_tile(&r, (uint64_t)first / 4, word);
        if (y->dtype == WR_F32)
            d->f32(word, (float *)(void *)tile);
        else
            d->f64(word, tile);
        int64_t n = y->n - first < TILE ? y->n - first : TILE;
        memcpy((char *)y->data + (size_t)first * e, tile, (size_t)n * e);
    }
    return WR_OK;
}

static wr draw_sample(wr_sample *s, const wr_op *op) {
    if (s->variant > 2) return (wr){s->g, 0};
    wr_dim dims[3] = {wr_n(wr_sample_int(s, 2, 4)), wr_n(wr_sample_int(s, 3, 9)), wr_n(5)};
    if (s->variant == 2) dims[1] = wr_n(2503);
    return draw(WR_HERE, s->g, op, s->dtype, s->variant == 0 ? 2 : 3, dims);
}

#define DRAW(op_name, op_doc)                                                                      \
    static const distribution op_name##_numbers = {op_name##_f32, op_name##_f64};                  \
    static wr_status op_name##_cpu(const wr_call *c) { return draw_cpu(c, &op_name##_numbers); }   \
    static wr op_name##_sample(wr_sample *s) { return draw_sample(s, &wr_op_##op_name); }          \
    const wr_op wr_op_##op_name = {                                                                \
        .name = #op_name,                                                                          \
        .doc = op_doc,                                                                             \
        .traits = WR_RANDOM,                                                                       \
        .attrs = {{"rank", WR_ATTR_INT},                                                           \
                  {"d0", WR_ATTR_DIM},                                                             \
                  {"d1", WR_ATTR_DIM},                                                             \
                  {"d2", WR_ATTR_DIM},                                                             \
                  {"d3", WR_ATTR_DIM},                                                             \
                  {"d4", WR_ATTR_DIM},                                                             \
                  {"dtype", WR_ATTR_INT},                                                          \
                  {"stream", WR_ATTR_INT}},                                                        \
        .shape = draw_shape,                                                                       \
        .cpu = op_name##_cpu,                                                                      \
        .no_grad = "has no operand",                                                               \
        .no_inverse = "has no operand",                                                            \
        .sample = op_name##_sample,                                                                \
    };
DRAW(uniform, "uniform random numbers in [0, 1)")
DRAW(normal, "standard normal random numbers")
DRAW(gumbel, "standard Gumbel random numbers")

/* ---- dropout ---- */

static wr dropout_with(wr_loc loc, wr x, double p, int64_t stream) {
    return wr_emit(loc, &wr_op_dropout, 1, &x, (wr_attr[]){{.r = p}, {.i = stream}});
}

/* p in units of 1/65536 */
static uint32_t threshold_of(double p) { return (uint32_t)(p * 65536.0 + 0.5); }

wr wr_dropout_at(wr_loc loc, wr x, double p) {
    if (wr_is_poison(x) || p == 0.0) return x;
    return dropout_with(loc, x, p, wr_next_stream(x.g));
}

static bool dropout_shape(wr_shape_ctx *c) {
    double p = c->attr[0].r;
    if (!(p >= 0.0 && p < 1.0) || threshold_of(p) > 65535)
        return wr_shape_fail(c, "0 <= p < 1", NULL, "p is %g", p);
    return wr_shape_needs_float(c, 0) && wr_shape_same(c);
}

#define DROPOUT(type, suffix)                                                                      \
    static void drop_run_##suffix(tile_words word, uint32_t threshold, type factor, const type *x, \
                                  type *y) {                                                       \
        for (int w = 0; w < 4; w++) {                                                              \
            const type *from = x + 2 * LANES * w;                                                  \
            type *to = y + 2 * LANES * w;                                                          \
            _Pragma("omp simd") for (int l = 0; l < LANES; l++) {                                  \
                uint32_t low = word[w][l] & 0xffffu, high = word[w][l] >> 16;                      \
                to[l] = low >= threshold ? from[l] * factor : (type)0;                             \
                to[LANES + l] = high >= threshold ? from[LANES + l] * factor : (type)0;            \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    /* Elements [first, end); `first` is a multiple of RUN. */                                     \
    static void drop_##suffix(const wr_random *r, double p, const void *from, void *to,            \
                              int64_t first, int64_t end) {                                        \
        const uint32_t threshold = threshold_of(p);                                                \
        const type factor = (type)(65536.0 / (65536.0 - (double)threshold));                       \
        const type *x = from;                                                                      \
        type *y = to, rest[RUN] = {0};                                                             \
        for (int64_t i = first; i < end; i += RUN) {                                               \
            tile_words word;                                                                       \
            wr_philox_tile(r, (uint64_t)i / 8, word);                                              \
            if (end - i >= RUN) {                                                                  \
                drop_run_##suffix(word, threshold, factor, x + i, y + i);                          \
            } else {                                                                               \
                memcpy(rest, x + i, (size_t)(end - i) * sizeof *x);                                \
                drop_run_##suffix(word, threshold, factor, rest, rest);                            \
                memcpy(y + i, rest, (size_t)(end - i) * sizeof *x);                                \
            }                                                                                      \
        }                                                                                          \
    }
DROPOUT(float, f32)
DROPOUT(double, f64)

static wr_status dropout_cpu(const wr_call *c) {
    enum { CHUNK = 32 * RUN };
    wr_random r = stream_of(c, c->attr[1].i);
    const void *from = c->in[0].data;
    void *to = c->out[0].data;
    int64_t n = c->out[0].n;
    double p = c->attr[0].r;
    bool parallel = n >= PARALLEL_FROM && c->env->threads > 1;
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t first = 0; first < n; first += CHUNK) {
        int64_t end = n - first < CHUNK ? n : first + CHUNK;
        if (c->out[0].dtype == WR_F32)
            drop_f32(&r, p, from, to, first, end);
        else
            drop_f64(&r, p, from, to, first, end);
    }
    return WR_OK;
}

/* Linear in x: the same mask of the same stream on the cotangent. */
static bool dropout_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, dropout_with(WR_HERE, c->cot[0], c->attr[0].r, c->attr[1].i));
}

static wr dropout_sample(wr_sample *s) {
    static const double p[] = {0.1, 0.5, 0.9, 0.1};
    if (s->variant > 3) return (wr){s->g, 0};
    int64_t dims[3] = {wr_sample_int(s, 2, 3), wr_sample_int(s, 3, 9), wr_sample_int(s, 2, 40)};
    if (s->variant == 3) dims[1] = 303, dims[2] = 101;
    return wr_dropout(s->input(s, WR_FILL_REAL, 0, 3, dims), p[s->variant]);
}

const wr_op wr_op_dropout = {
    .name = "dropout",
    .doc = "0 with probability p, else x / (1 - p)",
    .traits = WR_RANDOM,
    .n_in = 1,
    .attrs = {{"p", WR_ATTR_REAL}, {"stream", WR_ATTR_INT}},
    .shape = dropout_shape,
    .cpu = dropout_cpu,
    .grad = dropout_grad,
    .inplace = 1,
    .no_inverse = "loses the elements that it drops",
    .sample = dropout_sample,
};
