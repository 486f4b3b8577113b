/* gemm_tile.h: register tiles and packing of the own matrix product, a template over the element
 * type. Include it after defining REAL (float or double) and REAL_BYTES; it defines static
 * functions only.
 *
 * The tile is TILE_ROWS x (2 * LANES) elements of C held in registers over a whole block of k: per
 * step two vectors of B are loaded and each of up to TILE_ROWS elements of A is broadcast. Each
 * element of C is a chain of fused multiply-adds in ascending k from its start value, whatever
 * tile it falls into, so results do not depend on how C is cut into tiles and shared by threads. */
#include "ops/cpu/gemm_vec.h"

#if defined(__AVX512F__) || defined(__aarch64__)
#define TILE_ROWS 12 /* of 32 vector registers, 24 hold C */
#else
#define TILE_ROWS 6
#endif
#define TILE_COLS (2 * LANES)

/* One tile of one block of k. Element (i, p) of A is a[i * a_row + p * a_step]; row p of B starts
 * at b + p * b_step. The tile starts from C (load_c) or zero, plus the bias row if there is one. */
typedef struct tile_args {
    int64_t k;
    const REAL *a;
    int64_t a_row, a_step;
    const REAL *b;
    int64_t b_step;
    REAL *c;
    int64_t ldc;
    const REAL *bias;
    bool load_c, relu; /* relu: of the result; not-a-number stays */
} tile_args;

typedef void tile_fn(const tile_args *t);

static inline __attribute__((always_inline)) void tile_start(int rows, int vecs, const tile_args *t,
                                                             vec acc[TILE_ROWS][2]) {
    vec bias[2] = {{0}, {0}};
    if (t->bias != NULL) {
        UNROLL for (int j = 0; j < vecs; j++) bias[j] = vec_load(t->bias + j * LANES);
    }
    if (t->load_c) {
        UNROLL for (int i = 0; i < rows; i++) {
            UNROLL for (int j = 0; j < vecs; j++) acc[i][j] =
                vec_load(t->c + i * t->ldc + j * LANES) + bias[j];
        }
    } else {
        UNROLL for (int i = 0; i < rows; i++) {
            UNROLL for (int j = 0; j < vecs; j++) acc[i][j] = bias[j];
        }
    }
}

static inline __attribute__((always_inline)) void tile_end(int rows, int vecs, const tile_args *t,
                                                           vec acc[TILE_ROWS][2]) {
    if (t->relu) {
        UNROLL for (int i = 0; i < rows; i++) {
            UNROLL for (int j = 0; j < vecs; j++) acc[i][j] = vec_relu(acc[i][j]);
        }
    }
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int j = 0; j < vecs; j++) vec_store(t->c + i * t->ldc + j * LANES, acc[i][j]);
    }
}

/* A packed, or stored [k, m]: the rows of a step are neighbours (a_row is 1). */
static inline __attribute__((always_inline)) void tile_steps(int rows, int vecs,
                                                             const tile_args *t) {
    vec acc[TILE_ROWS][2];
    tile_start(rows, vecs, t, acc);
    const REAL *a = t->a, *b = t->b;
    const int64_t a_step = t->a_step, b_step = t->b_step;
    for (int64_t p = t->k; p > 0; p--, a += a_step, b += b_step) {
        vec b0 = vec_load(b), b1 = vecs > 1 ? vec_load(b + LANES) : b0;
        UNROLL for (int i = 0; i < rows; i++) {
            acc[i][0] += b0 * a[i];
            if (vecs > 1) acc[i][1] += b1 * a[i];
        }
    }
    tile_end(rows, vecs, t, acc);
}

/* A stored [m, k] (a_step is 1). Rows are reached from every third one: a base register and the
 * row length scaled by the addressing mode, so that 12 rows need 5 registers. */
static inline __attribute__((always_inline)) void tile_rows(int rows, int vecs,
                                                            const tile_args *t) {
    vec acc[TILE_ROWS][2];
    tile_start(rows, vecs, t, acc);
    const REAL *a[4], *b = t->b;
    const int64_t a_row = t->a_row, b_step = t->b_step;
    UNROLL for (int g = 0; g < (rows + 2) / 3; g++) a[g] = t->a + g * 3 * a_row;
    for (int64_t p = t->k; p > 0; p--, b += b_step) {
        /* what the next tile reads of this row: no hardware prefetcher follows so long a stride */
        __builtin_prefetch(b + 2 * LANES, 0, 2);
        __builtin_prefetch(b + 3 * LANES, 0, 2);
        vec b0 = vec_load(b), b1 = vecs > 1 ? vec_load(b + LANES) : b0;
        UNROLL for (int i = 0; i < rows; i++) {
            REAL x = a[i / 3][i % 3 * a_row];
            acc[i][0] += b0 * x;
            if (vecs > 1) acc[i][1] += b1 * x;
        }
        UNROLL for (int g = 0; g < (rows + 2) / 3; g++) a[g]++;
    }
    tile_end(rows, vecs, t, acc);
}

#define TILE(rows)                                                                                 \
    static void tile_steps_##rows##x1(const tile_args *t) { tile_steps(rows, 1, t); }              \
    static void tile_steps_##rows##x2(const tile_args *t) { tile_steps(rows, 2, t); }              \
    static void tile_rows_##rows##x1(const tile_args *t) { tile_rows(rows, 1, t); }                \
    static void tile_rows_##rows##x2(const tile_args *t) { tile_rows(rows, 2, t); }
#define TILE_NAMES(rows)                                                                           \
    {                                                                                              \
        {tile_steps_##rows##x1, tile_steps_##rows##x2}, {                                          \
            tile_rows_##rows##x1, tile_rows_##rows##x2                                             \
        }                                                                                          \
    }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
#if TILE_ROWS == 12
TILE(7)
TILE(8)
TILE(9)
TILE(10)
TILE(11)
TILE(12)
#endif

/* By rows - 1, by the layout of A (steps or rows), by vectors - 1. */
static tile_fn *const tiles[TILE_ROWS][2][2] = {
    TILE_NAMES(1), TILE_NAMES(2), TILE_NAMES(3), TILE_NAMES(4),  TILE_NAMES(5),  TILE_NAMES(6),
#if TILE_ROWS == 12
    TILE_NAMES(7), TILE_NAMES(8), TILE_NAMES(9), TILE_NAMES(10), TILE_NAMES(11), TILE_NAMES(12),
#endif
};
#undef TILE
#undef TILE_NAMES
