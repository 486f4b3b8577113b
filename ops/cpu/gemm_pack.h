/* gemm_pack.h: packing of the operands of the own matrix product, a template like gemm_tile.h,
 * which it follows.
 *
 * A panel of width W holds step p at dst + p * W. Panels of A are as wide as their rows; panels of
 * B are one or two vectors wide, filled up with zeros. */
#include <string.h>

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
