/* gemv.c: the own float32 product for few rows of A (m <= 8, decoding), which is limited by the
 * memory that B comes from: B is read once, in long runs, and never packed.
 *
 * B [k, n]: a strip of C stays in the first-level cache while eight rows of B at a time pass by.
 * B [n, k]: dot products of four rows of B with all rows of A; the lanes of sixteen of them are
 * summed together by a transposition.
 * Threads take parts of the columns. The order of every sum depends on the sizes alone. */
#define REAL       float
#define REAL_BYTES 4
#include "ops/cpu/gemm_impl.h"
#include "ops/cpu/gemm_vec.h"

#include <omp.h>
#include <string.h>

enum {
    MAX_ROWS = WR__GEMM_ROWS,
    STEPS = 8,       /* rows of B [k, n] in flight */
    STRIP = 4096,    /* elements of C in the first-level cache */
    DOTS = 4,        /* most rows of B [n, k] in flight */
    AHEAD = 4096,    /* elements of B [n, k] fetched in advance */
    UNIT = 2 * LANES /* columns are given out in multiples of this */
};

/* One matrix of the batch; A is [m, lda] with neighbouring steps. */
typedef struct matrix {
    const wr_gemm_spec *s;
    const float *a, *b, *bias;
    int64_t lda;
    float *c;
} matrix;

/* C += A[:, p .. p + steps) B[p .. p + steps, :) in columns [from, to). */
static inline __attribute__((always_inline)) void stream(const matrix *x, int rows, int steps,
                                                         int64_t p, int64_t from, int64_t to) {
    const int64_t ldb = x->s->ldb, ldc = x->s->ldc;
    const float *b = x->b + p * ldb;
    float a[STEPS][MAX_ROWS];
    for (int q = 0; q < steps; q++)
        for (int i = 0; i < rows; i++)
            a[q][i] = x->a[i * x->lda + p + q];
    int64_t j = from;
    for (; j + 2 * LANES <= to; j += 2 * LANES) {
        vec c[MAX_ROWS][2];
        UNROLL for (int i = 0; i < rows; i++) {
            c[i][0] = vec_load(x->c + i * ldc + j);
            c[i][1] = vec_load(x->c + i * ldc + j + LANES);
        }
        const float *row = b + j;
        for (int q = 0; q < steps; q++, row += ldb) {
            vec b0 = vec_load(row), b1 = vec_load(row + LANES);
            UNROLL for (int i = 0; i < rows; i++) {
                c[i][0] += b0 * a[q][i];
                c[i][1] += b1 * a[q][i];
            }
        }
        UNROLL for (int i = 0; i < rows; i++) {
            vec_store(x->c + i * ldc + j, c[i][0]);
            vec_store(x->c + i * ldc + j + LANES, c[i][1]);
        }
    }
    for (; j < to; j++)
        for (int i = 0; i < rows; i++)
            for (int q = 0; q < steps; q++)
                x->c[i * ldc + j] += b[q * ldb + j] * a[q][i];
}

/* The first n < LANES elements, the others 0. */
static vec load_some(const float *x, int64_t n) {
    float full[LANES] = {0};
    for (int64_t i = 0; i < n; i++)
        full[i] = x[i];
    return vec_load(full);
}

/* Dot products of row j of B, and the three after it when `dots` is 4, with all rows of A, lane by
 * lane: sums[i][r + q] belongs to rows i of A and j + q of B. */
static inline __attribute__((always_inline)) void dot(const matrix *x, int rows, int dots,
                                                      int64_t j, vec sums[MAX_ROWS][LANES], int r) {
    const int64_t k = x->s->k, lda = x->lda, ldb = x->s->ldb;
    const float *a = x->a, *b = x->b + j * ldb;
    vec sum[MAX_ROWS][DOTS];
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int q = 0; q < dots; q++) sum[i][q] = (vec){0};
    }
    int64_t p = 0;
    for (; p + LANES <= k; p += LANES) {
        vec bs[DOTS];
        UNROLL for (int q = 0; q < dots; q++) bs[q] = vec_load(b + q * ldb + p);
        UNROLL for (int q = 0; q < dots; q++) __builtin_prefetch(b + dots * p + q * LANES + AHEAD);
        UNROLL for (int i = 0; i < rows; i++) {
            vec row = vec_load(a + i * lda + p);
            UNROLL for (int q = 0; q < dots; q++) sum[i][q] += row * bs[q];
        }
    }
    if (p < k) {
        vec bs[DOTS];
        UNROLL for (int q = 0; q < dots; q++) bs[q] = load_some(b + q * ldb + p, k - p);
        UNROLL for (int i = 0; i < rows; i++) {
            vec row = load_some(a + i * lda + p, k - p);
            UNROLL for (int q = 0; q < dots; q++) sum[i][q] += row * bs[q];
        }
    }
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int q = 0; q < dots; q++) sums[i][r + q] = sum[i][q];
    }
}

/* Rows of B at a time, so that the sums stay in registers. */
#define DOTS_FOR(rows) ((rows) > 4 ? 2 : DOTS)

typedef struct row_kernels {
    void (*stream)(const matrix *x, int steps, int64_t p, int64_t from, int64_t to);
    void (*dot_block)(const matrix *x, int64_t j, vec sums[MAX_ROWS][LANES], int r);
    void (*dot_one)(const matrix *x, int64_t j, vec sums[MAX_ROWS][LANES], int r);
} row_kernels;

#define KERNELS(rows)                                                                              \
    static void stream_##rows(const matrix *x, int steps, int64_t p, int64_t from, int64_t to) {   \
        stream(x, rows, steps, p, from, to);                                                       \
    }                                                                                              \
    static void dot_block_##rows(const matrix *x, int64_t j, vec sums[MAX_ROWS][LANES], int r) {   \
        dot(x, rows, DOTS_FOR(rows), j, sums, r);                                                  \
    }                                                                                              \
    static void dot_one_##rows(const matrix *x, int64_t j, vec sums[MAX_ROWS][LANES], int r) {     \
        dot(x, rows, 1, j, sums, r);                                                               \
    }
#define NAMES(rows)                                                                                \
    { stream_##rows, dot_block_##rows, dot_one_##rows }

// clang-format off
KERNELS(1) KERNELS(2) KERNELS(3) KERNELS(4) KERNELS(5) KERNELS(6) KERNELS(7) KERNELS(8)
static const row_kernels kernels[MAX_ROWS] = {NAMES(1), NAMES(2), NAMES(3), NAMES(4),
                                              NAMES(5), NAMES(6), NAMES(7), NAMES(8)};
// clang-format on
#undef KERNELS
#undef NAMES

/* What C starts from in columns [from, to). */
static void start_columns(const matrix *x, int64_t from, int64_t to) {
    size_t bytes = (size_t)(to - from) * sizeof(float);
    for (int64_t i = 0; i < x->s->m; i++) {
        float *c = x->c + i * x->s->ldc + from;
        if (!x->s->accumulate) memset(c, 0, bytes);
        for (int64_t j = 0; x->bias != NULL && j < to - from; j++)
            c[j] += x->bias[from + j];
    }
}

static void run_stream(const matrix *x, int64_t from, int64_t to) {
    const row_kernels *f = &kernels[x->s->m - 1];
    int64_t strip = STRIP / x->s->m / UNIT * UNIT, k = x->s->k;
    for (int64_t j = from; j < to; j += strip) {
        int64_t end = j + strip < to ? j + strip : to;
        start_columns(x, j, end);
        for (int64_t p = 0; p < k; p += STEPS)
            f->stream(x, k - p < STEPS ? (int)(k - p) : STEPS, p, j, end);
    }
}

/* Add up each vector's lanes: element r of the result is the sum over sums[r]. */
static vec add_lanes(vec sums[LANES]) {
    transpose_block(sums);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            sums[i] += sums[i + width];
    return sums[0];
}

static void run_dots(const matrix *x, int64_t from, int64_t to) {
    const row_kernels *f = &kernels[x->s->m - 1];
    vec sums[MAX_ROWS][LANES];
    memset(sums, 0, sizeof sums);
    for (int64_t j = from; j < to; j += LANES) {
        int count = to - j < LANES ? (int)(to - j) : LANES, r = 0;
        int dots = DOTS_FOR(x->s->m);
        for (; r + dots <= count; r += dots)
            f->dot_block(x, j + r, sums, r);
        for (; r < count; r++)
            f->dot_one(x, j + r, sums, r);
        for (int64_t i = 0; i < x->s->m; i++) {
            float row[LANES], *c = x->c + i * x->s->ldc + j;
            vec_store(row, add_lanes(sums[i]));
            for (r = 0; r < count; r++)
                c[r] = row[r] + (x->s->accumulate ? c[r] : 0.0f) +
                       (x->bias != NULL ? x->bias[j + r] : 0.0f);
        }
    }
}

/* Columns [from, to) of one matrix, with the activation. */
static void run_columns(const matrix *x, int64_t from, int64_t to) {
    if (x->s->trans_b)
        run_dots(x, from, to);
    else
        run_stream(x, from, to);
    if (x->s->act != WR_GEMM_LINEAR)
        wr__gemm_epilogue_f32(x->c + from, x->s->ldc, x->s->m, to - from, NULL, x->s->act);
}

size_t wr__gemm_rows_workspace(const wr_gemm_spec *s) {
    return s->trans_a ? (size_t)(s->batch * s->m * s->k) * sizeof(float) : 0;
}

/* Matrix `i` of the batch; a transposed A is taken from its copy in the workspace. */
static matrix pick(const wr_gemm_spec *s, int64_t i, const float *a, const float *b, float *c,
                   const float *bias, const float *copy) {
    matrix x = {.s = s, .b = b + i * s->stride_b, .c = c + i * s->stride_c, .bias = bias};
    x.a = s->trans_a ? copy + i * s->m * s->k : a + i * s->stride_a;
    x.lda = s->trans_a ? s->k : s->lda;
    return x;
}

static void copy_transposed(const wr_gemm_spec *s, const float *a, float *copy) {
    for (int64_t b = 0; b < s->batch; b++)
        for (int64_t p = 0; p < s->k; p++)
            for (int64_t i = 0; i < s->m; i++)
                copy[(b * s->m + i) * s->k + p] = a[b * s->stride_a + p * s->lda + i];
}

void wr__gemm_rows(const wr_gemm_spec *s, const float *a, const float *b, float *c,
                   const float *bias, void *workspace) {
    float *copy = workspace;
    if (s->trans_a) copy_transposed(s, a, copy);
    int64_t units = (s->n + UNIT - 1) / UNIT;
    int64_t parts = s->batch >= s->threads ? 1 : s->threads < units ? s->threads : units;
#pragma omp parallel for num_threads(s->threads) schedule(static) if (s->threads > 1)
    for (int64_t task = 0; task < s->batch * parts; task++) {
        matrix x = pick(s, task / parts, a, b, c, bias, copy);
        int64_t part = task % parts, to = units * (part + 1) / parts * UNIT;
        run_columns(&x, units * part / parts * UNIT, to < s->n ? to : s->n);
    }
}
