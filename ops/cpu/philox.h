/* philox.h: Philox 4x32-10 (Salmon et al. 2011) for sixteen blocks at a time.
 *
 * Written so that the compiler keeps one block per vector lane; the numbers are those of Random123
 * bit for bit (tests/test_random_ops.c). */
#ifndef WEIR_OPS_CPU_PHILOX_H
#define WEIR_OPS_CPU_PHILOX_H

#include "graph/random.h"

enum { WR_PHILOX_LANES = 16 };

/* word[w][l] = what wr_random_bits() gives as number w of block first + l. */
static inline void wr_philox_tile(const wr_random *r, uint64_t first,
                                  uint32_t word[4][WR_PHILOX_LANES]) {
    const uint32_t key0 = r->key.v[0], key1 = r->key.v[1];
    const uint32_t low = r->stream_low, high = r->stream_high;
#pragma omp simd
    for (int l = 0; l < WR_PHILOX_LANES; l++) {
        uint64_t block = first + (uint64_t)l;
        uint32_t a = (uint32_t)block, b = (uint32_t)(block >> 32), c = low, d = high;
        uint32_t k0 = key0, k1 = key1;
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
            uint64_t p = (uint64_t)a * 0xd2511f53u, q = (uint64_t)c * 0xcd9e8d57u;
            a = (uint32_t)(q >> 32) ^ b ^ k0;
            c = (uint32_t)(p >> 32) ^ d ^ k1;
            b = (uint32_t)q;
            d = (uint32_t)p;
            k0 += 0x9e3779b9u; /* the golden ratio */
            k1 += 0xbb67ae85u; /* sqrt(3) - 1 */
        }
        word[0][l] = a;
        word[1][l] = b;
        word[2][l] = c;
        word[3][l] = d;
    }
}

#endif
