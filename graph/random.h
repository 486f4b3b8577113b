/* random.h: counter-based random numbers (Philox 4x32-10 of Random123; Salmon et al. 2011).
 *
 * Key: seed and step; counter: stream and element. The same numbers on every device and for every
 * number of threads. */
#ifndef WEIR_RANDOM_H
#define WEIR_RANDOM_H

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include <Random123/philox.h>
#pragma GCC diagnostic pop

#include <math.h>
#include <stdint.h>

typedef struct wr_random {
    philox4x32_key_t key;
    uint32_t stream_low, stream_high;
} wr_random;

static inline wr_random wr_random_stream(uint64_t seed, uint64_t step, uint64_t stream) {
    wr_random r;
    uint64_t mixed = seed ^ (step * 0x9e3779b97f4a7c15u);
    r.key.v[0] = (uint32_t)mixed;
    r.key.v[1] = (uint32_t)(mixed >> 32) ^ (uint32_t)(step >> 32);
    r.stream_low = (uint32_t)stream;
    r.stream_high = (uint32_t)(stream >> 32);
    return r;
}

/* Four numbers of 32 random bits for block `i` (elements 4i .. 4i + 3). */
static inline void wr_random_bits(const wr_random *r, uint64_t i, uint32_t out[4]) {
    philox4x32_ctr_t c;
    c.v[0] = (uint32_t)i;
    c.v[1] = (uint32_t)(i >> 32);
    c.v[2] = r->stream_low;
    c.v[3] = r->stream_high;
    c = philox4x32(c, r->key);
    for (int k = 0; k < 4; k++)
        out[k] = c.v[k];
}

/* In [0, 1), 24 bits. */
static inline float wr_random_unit(uint32_t bits) { return (float)(bits >> 8) * 0x1p-24f; }

/* Two standard normal numbers (Box and Muller 1958) from two words of bits. */
static inline void wr_random_normal(uint32_t a, uint32_t b, float *x, float *y) {
    float radius = sqrtf(-2.0f * logf(((float)(a >> 8) + 0.5f) * 0x1p-24f));
    float angle = 6.283185307179586f * wr_random_unit(b);
    *x = radius * cosf(angle);
    *y = radius * sinf(angle);
}

#endif
