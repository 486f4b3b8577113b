/* sample.c: random numbers for the sample generators of the op rows. */
#include "graph/op.h"

/* splitmix64 (Steele, Lea, Flood 2014): any seed gives a good sequence. */
int64_t wr_sample_int(wr_sample *s, int64_t low, int64_t high) {
    uint64_t z = (s->rng += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return low + (int64_t)(z % (uint64_t)(high - low + 1));
}
