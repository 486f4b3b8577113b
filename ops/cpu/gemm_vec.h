/* gemm_vec.h: vectors of REAL as wide as the processor's registers, for the own matrix products; a
 * template: define REAL (float or double) and REAL_BYTES first. */
#if !defined(REAL) || !defined(REAL_BYTES)
#error "define REAL and REAL_BYTES before including gemm_vec.h"
#endif

#include "graph/base.h"

#if defined(__AVX512F__)
#define VEC_BYTES 64
#elif defined(__AVX__)
#define VEC_BYTES 32
#else
#define VEC_BYTES 16
#endif
#define LANES (VEC_BYTES / REAL_BYTES)

typedef REAL vec __attribute__((vector_size(VEC_BYTES)));
typedef REAL vec_mem __attribute__((vector_size(VEC_BYTES), aligned(sizeof(REAL)), may_alias));

static inline vec vec_load(const REAL *p) { return *(const vec_mem *)p; }
static inline void vec_store(REAL *p, vec v) { *(vec_mem *)p = v; }

/* 0 where v < 0, else v: bits are cleared by the comparison's mask. */
static inline vec vec_relu(vec v) {
    __typeof__(v < v) negative = v < (vec){0};
    return (vec)((__typeof__(negative))v & ~negative);
}

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

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
