/* attention_tile.h: small matrix products and transposition for attention; a template: define REAL
 * and REAL_BYTES first. C [m, n] = A [m, k] B [k, n] with C and B in rows of whole vectors and A at
 * any two strides. The tile is up to 6 x TILE_VECS vectors of C, held in registers over all of k;
 * vectors of 32 bytes waste less of short sequences than 64 and reach the same rate. */
#include "graph/base.h"

#include <string.h>

#if defined(__AVX__)
#define VEC_BYTES 32
#else
#define VEC_BYTES 16
#endif
#if defined(__AVX512VL__) || defined(__aarch64__)
#define TILE_VECS 4
#else
#define TILE_VECS 2
#endif
#define LANES     (VEC_BYTES / REAL_BYTES)
#define TILE_ROWS 6

typedef REAL vec __attribute__((vector_size(VEC_BYTES)));
typedef REAL vec_mem __attribute__((vector_size(VEC_BYTES), aligned(sizeof(REAL)), may_alias));
static inline vec load(const REAL *p) { return *(const vec_mem *)p; }
static inline void store(REAL *p, vec v) { *(vec_mem *)p = v; }
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

static inline int64_t whole_vectors(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

typedef struct product {
    int64_t m, n, k; /* n: a multiple of LANES */
    const REAL *a;
    int64_t a_row, a_step; /* element (i, p) of A is a[i * a_row + p * a_step] */
    const REAL *b;
    int64_t ldb;
    REAL *c;
    int64_t ldc;
    bool add; /* to what C holds */
} product;

static inline __attribute__((always_inline)) void tile(int rows, int vecs, const product *p,
                                                       int64_t i0, int64_t j0) {
    vec acc[TILE_ROWS][TILE_VECS];
    const int64_t a_row = p->a_row, a_step = p->a_step, ldb = p->ldb;
    const REAL *a[2] = {p->a + i0 * a_row, rows > 3 ? p->a + (i0 + 3) * a_row : NULL};
    const REAL *b = p->b + j0;
    REAL *c = p->c + i0 * p->ldc + j0;
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int j = 0; j < vecs; j++) acc[i][j] = (vec){0};
    }
    for (int64_t k = p->k; k > 0; k--) {
        vec bv[TILE_VECS];
        UNROLL for (int j = 0; j < vecs; j++) bv[j] = load(b + j * LANES);
        UNROLL for (int i = 0; i < rows; i++) {
            REAL x = a[i / 3][i % 3 * a_row];
            UNROLL for (int j = 0; j < vecs; j++) acc[i][j] += bv[j] * x;
        }
        a[0] += a_step;
        if (rows > 3) a[1] += a_step;
        b += ldb;
    }
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int j = 0; j < vecs; j++) {
            REAL *to = c + i * p->ldc + j * LANES;
            store(to, p->add ? load(to) + acc[i][j] : acc[i][j]);
        }
    }
}

typedef void tile_fn(const product *p, int64_t i0, int64_t j0);
#define TILE(r, v)                                                                                 \
    static void tile_##r##x##v(const product *p, int64_t i0, int64_t j0) { tile(r, v, p, i0, j0); }
#define TILES(v) TILE(1, v) TILE(2, v) TILE(3, v) TILE(4, v) TILE(5, v) TILE(6, v)
#define NAMES(v)                                                                                   \
    { tile_1x##v, tile_2x##v, tile_3x##v, tile_4x##v, tile_5x##v, tile_6x##v }
TILES(1)
TILES(2)
#if TILE_VECS == 4
TILES(3)
TILES(4)
static tile_fn *const tiles[TILE_VECS][TILE_ROWS] = {NAMES(1), NAMES(2), NAMES(3), NAMES(4)};
#else
static tile_fn *const tiles[TILE_VECS][TILE_ROWS] = {NAMES(1), NAMES(2)};
#endif

/* The size of the next of the parts, nearly equal and at most `most`, that `left` is cut into. */
static inline int64_t next_part(int64_t left, int64_t most) {
    int64_t parts = (left + most - 1) / most;
    return (left + parts - 1) / parts;
}

static void multiply(const product *p) {
    int64_t vecs, rows;
    for (int64_t j = 0; j < p->n; j += vecs * LANES) {
        vecs = next_part((p->n - j) / LANES, TILE_VECS);
        for (int64_t i = 0; i < p->m; i += rows) {
            rows = next_part(p->m - i, TILE_ROWS);
            tiles[vecs - 1][rows - 1](p, i, j);
        }
    }
}

/* One stage of a perfect shuffle; log2(LANES) of them transpose a block of LANES x LANES. */
#if VEC_BYTES / REAL_BYTES == 8
#define ZIP_LOW(x, y)  __builtin_shufflevector(x, y, 0, 8, 1, 9, 2, 10, 3, 11)
#define ZIP_HIGH(x, y) __builtin_shufflevector(x, y, 4, 12, 5, 13, 6, 14, 7, 15)
#elif VEC_BYTES / REAL_BYTES == 4
#define ZIP_LOW(x, y)  __builtin_shufflevector(x, y, 0, 4, 1, 5)
#define ZIP_HIGH(x, y) __builtin_shufflevector(x, y, 2, 6, 3, 7)
#else
#define ZIP_LOW(x, y)  __builtin_shufflevector(x, y, 0, 2)
#define ZIP_HIGH(x, y) __builtin_shufflevector(x, y, 1, 3)
#endif

static inline __attribute__((always_inline)) void transpose_block(vec r[LANES]) {
    UNROLL for (int stage = 1; stage < LANES; stage *= 2) {
        vec t[LANES];
        UNROLL for (int i = 0; i < LANES / 2; i++) {
            t[2 * i] = ZIP_LOW(r[i], r[i + LANES / 2]);
            t[2 * i + 1] = ZIP_HIGH(r[i], r[i + LANES / 2]);
        }
        UNROLL for (int i = 0; i < LANES; i++) r[i] = t[i];
    }
}

/* to [cols, whole_vectors(rows)] = k from^T, from [rows, cols] with `ld` between rows; lanes behind
 * the last row are 0. */
static void pack_transposed(int64_t rows, int64_t cols, const REAL *from, int64_t ld, REAL k,
                            REAL *to) {
    int64_t ldt = whole_vectors(rows), whole = cols - cols % LANES;
    for (int64_t i = 0; i < rows; i += LANES) {
        int64_t now = rows - i < LANES ? rows - i : LANES;
        for (int64_t j = 0; j < whole; j += LANES) {
            vec r[LANES];
            UNROLL for (int l = 0; l < LANES; l++) r[l] =
                l < now ? load(from + (i + l) * ld + j) * k : (vec){0};
            transpose_block(r);
            UNROLL for (int l = 0; l < LANES; l++) store(to + (j + l) * ldt + i, r[l]);
        }
        for (int64_t j = whole; j < cols; j++)
            for (int64_t l = 0; l < LANES; l++)
                to[j * ldt + i + l] = l < now ? from[(i + l) * ld + j] * k : 0;
    }
}

/* to [rows, whole_vectors(cols)] = k from, padded with 0. */
static void pack_rows(int64_t rows, int64_t cols, const REAL *from, int64_t ld, REAL k, REAL *to) {
    int64_t ldt = whole_vectors(cols), whole = cols - cols % LANES;
    for (int64_t i = 0; i < rows; i++, from += ld, to += ldt) {
        for (int64_t j = 0; j < whole; j += LANES)
            store(to + j, load(from + j) * k);
        for (int64_t j = whole; j < ldt; j++)
            to[j] = j < cols ? from[j] * k : 0;
    }
}

/* The opposite: the first `cols` of rows of `from`, row i times k[i * k_step], to rows `ld` apart.
 */
static void unpack_rows(int64_t rows, int64_t cols, const REAL *from, const REAL *k, int64_t k_step,
                        REAL *to, int64_t ld) {
    int64_t ldf = whole_vectors(cols), whole = cols - cols % LANES;
    for (int64_t i = 0; i < rows; i++, from += ldf, to += ld) {
        REAL factor = k[i * k_step];
        for (int64_t j = 0; j < whole; j += LANES)
            store(to + j, load(from + j) * factor);
        for (int64_t j = whole; j < cols; j++)
            to[j] = from[j] * factor;
    }
}
