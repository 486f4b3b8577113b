/* gemm_pack.h: packing of the operands of the own matrix product, a template like gemm_tile.h,
 * which it follows.
 *
 * A panel of width W holds step p at dst + p * W. Panels of A are as wide as their rows; panels of
 * B are one or two vectors wide, filled up with zeros. */
#include <string.h>

/* What is fetched in advance: rows that are copied, blocks that are transposed. The hardware does
 * not follow such short runs. */
enum { ROWS_AHEAD = 16, BLOCKS_AHEAD = 4 };

/* One panel of a group that is packed by copying: dst[p * wide + j] = src[p * ld + j] for
 * j < width, 0 for width <= j < wide. */
typedef struct panel_copy {
    REAL *dst;
    const REAL *src;
    int wide, width;
} panel_copy;

static inline void copy_exactly(REAL *dst, const REAL *src, int wide, int width) {
    for (int j = 0; j < width; j++)
        dst[j] = src[j];
    for (int j = width; j < wide; j++)
        dst[j] = 0;
}

/* Neighbouring panels, step by step, so that the rows of the source are read in long runs. Whole
 * vectors are copied where what they take and write too much lies inside the operands and is
 * overwritten by the next step; that needs rows of at least half a vector. */
static void pack_copies(const panel_copy *panels, int count, int64_t ld, int64_t k) {
    bool vectors = true;
    for (int i = 0; i < count; i++)
        vectors = vectors && panels[i].width == panels[i].wide && 2 * panels[i].wide >= LANES;
    for (int64_t p = 0; p < k; p++)
        for (int i = 0; i < count; i++) {
            const panel_copy *x = &panels[i];
            const REAL *src = x->src + p * ld;
            REAL *dst = x->dst + p * x->wide;
            if (!vectors || (p == k - 1 && x->wide % LANES != 0)) {
                copy_exactly(dst, src, x->wide, x->width);
                continue;
            }
            for (int j = 0; j < x->wide; j += LANES) {
                __builtin_prefetch(src + ROWS_AHEAD * ld + j);
                vec_store(dst + j, vec_load(src + j));
            }
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
    for (int j = 0; j < width; j++)
        __builtin_prefetch(src + j * ld + BLOCKS_AHEAD * LANES, 0, 2);
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
