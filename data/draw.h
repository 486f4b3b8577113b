/* draw.h: random draws for data order, by Philox4x32-10 (Salmon et al. 2011). A draw is a function
 * of (seed, stream, epoch, position) alone, so the order of an epoch can be made again at any time.
 * Internal to data/. */
#ifndef WEIR_DATA_DRAW_H
#define WEIR_DATA_DRAW_H

#include <stdint.h>

#include <Random123/philox.h>

/* Independent sequences of one seed. */
enum {
    WR__DRAW_NUMBERS = 1,
    WR__DRAW_NUMBER_SPLIT,
    WR__DRAW_SENTENCES,
    WR__DRAW_BATCHES,
    WR__DRAW_CORRUPT,
    WR__DRAW_CORRUPT_SPLIT,
    WR__DRAW_SOURCES,
    WR__DRAW_MODES
};

typedef struct wr__draw {
    philox4x32_key_t key;
    philox4x32_ctr_t counter; /* position (64 bits), stream, epoch */
    philox4x32_ctr_t block;   /* the numbers of the current position */
    int used;                 /* 64-bit numbers taken of the block, 0..2 */
} wr__draw;

static inline wr__draw wr__draw_begin(uint64_t seed, uint32_t stream, uint32_t epoch) {
    wr__draw d = {.key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}}, .used = 2};
    d.counter.v[2] = stream;
    d.counter.v[3] = epoch;
    return d;
}

/* The next 64 random bits. */
static inline uint64_t wr__draw_bits(wr__draw *d) {
    if (d->used == 2) {
        d->block = philox4x32(d->counter, d->key);
        if (++d->counter.v[0] == 0) d->counter.v[1]++;
        d->used = 0;
    }
    int i = 2 * d->used++;
    return (uint64_t)d->block.v[i + 1] << 32 | d->block.v[i];
}

/* Uniform in 0..n-1, n > 0; the bias is below n / 2^64. */
static inline uint64_t wr__draw_below(wr__draw *d, uint64_t n) {
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)(((wide)wr__draw_bits(d) * n) >> 64);
}

/* Uniform in [0, 1), a multiple of 2^-53. */
static inline double wr__draw_real(wr__draw *d) {
    return (double)(wr__draw_bits(d) >> 11) * 0x1p-53;
}

/* Put the n values in a random order (Fisher and Yates). */
static inline void wr__draw_shuffle(wr__draw *d, uint32_t *value, uint64_t n) {
    for (uint64_t i = n; i > 1; i--) {
        uint64_t j = wr__draw_below(d, i);
        uint32_t kept = value[i - 1];
        value[i - 1] = value[j];
        value[j] = kept;
    }
}

#endif
