/* gemm_pack.h: packing of the operands of the own matrix product, a template like gemm_tile.h,
 * which it follows.
 *
 * A panel of width W holds step p at dst + p * W. Panels of A are as wide as their rows; panels of
 * B are one or two vectors wide, filled up with zeros. */

/* One stage of a perfect shuffle: a0 b0 a1 b1 ... in two vectors. log2(LANES) stages on pairs of
 * vectors half the block apart transpose a block of LANES x LANES. */
#if LANES == 16
#define ZIP_LOW(a, b)                                                                              \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define ZIP_HIGH(a, b)                                                                             \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#elif LANES == 8
#define ZIP_LOW(a, b)  __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#elif LANES == 4
#define ZIP_LOW(a, b)  __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#else
#define ZIP_LOW(a, b)  __builtin_shufflevector(a, b, 0, 2)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 1, 3)
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

/* dst[p * wide + j] = src[p * ld + j] for j < width, 0 for width <= j < wide. */
static void pack_copy(REAL *dst, int wide, const REAL *src, int64_t ld, int width, int64_t k) {
    if (width == TILE_COLS && wide == TILE_COLS) {
        for (int64_t p = 0; p < k; p++) {
            vec_store(dst + p * TILE_COLS, vec_load(src + p * ld));
            vec_store(dst + p * TILE_COLS + LANES, vec_load(src + p * ld + LANES));
        }
        return;
    }
    for (int64_t p = 0; p < k; p++) {
        for (int j = 0; j < width; j++)
            dst[p * wide + j] = src[p * ld + j];
        for (int j = width; j < wide; j++)
            dst[p * wide + j] = 0;
    }
}

/* Transpose `width` <= LANES rows of LANES elements to dst rows `wide` apart. `exact`: write only
 * the width; otherwise whole vectors, which the following row overwrites or which fill up a row. */
static inline void pack_block(REAL *dst, int wide, const REAL *src, int64_t ld, int width,
                              bool exact) {
    vec r[LANES];
    if (width == LANES) {
        UNROLL for (int j = 0; j < LANES; j++) r[j] = vec_load(src + j * ld);
    } else {
        UNROLL for (int j = 0; j < LANES; j++) r[j] = j < width ? vec_load(src + j * ld) : (vec){0};
    }
    transpose_block(r);
    if (!exact) {
        UNROLL for (int j = 0; j < LANES; j++) vec_store(dst + j * wide, r[j]);
        return;
    }
    REAL flat[LANES * LANES];
    UNROLL for (int j = 0; j < LANES; j++) vec_store(flat + j * LANES, r[j]);
    for (int j = 0; j < LANES; j++)
        memcpy(dst + j * wide, flat + j * LANES, (size_t)width * sizeof(REAL));
}

/* dst[p * wide + j] = src[j * ld + p] for j < width, 0 for width <= j < wide. */
static void pack_transpose(REAL *dst, int wide, const REAL *src, int64_t ld, int width, int64_t k) {
    int64_t p = 0;
    for (; p + LANES <= k; p += LANES)
        for (int j = 0; j < width; j += LANES) {
            int some = width - j < LANES ? width - j : LANES;
            /* A block narrower than a vector may spill over its rows when it is the only one of a
             * row and a following row, written later, repairs that. */
            bool exact = j + LANES > wide && (j > 0 || p + LANES == k);
            pack_block(dst + p * wide + j, wide, src + j * ld + p, ld, some, exact);
        }
    for (; p < k; p++)
        for (int j = 0; j < wide; j++)
            dst[p * wide + j] = j < width ? src[j * ld + p] : 0;
}
