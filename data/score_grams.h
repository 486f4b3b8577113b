/* score_grams.h: counting common n-grams of symbol sequences; internal to the scores. */
#ifndef WEIR_DATA_SCORE_GRAMS_H
#define WEIR_DATA_SCORE_GRAMS_H

#include "graph/base.h"

enum { WR__MAX_ORDER = 6 };

/* An n-gram is a path in a trie whose edges are symbols, so that two n-grams are the same exactly
 * when they are the same node: no hash value is ever taken for the n-gram itself. The children sit
 * in one open-addressing table keyed by (parent node, symbol); emptying it is one increment. */
typedef struct wr__grams {
    struct wr__gram_slot *slots;
    size_t n_slots; /* a power of two */
    struct wr__gram_node *nodes;
    size_t n_nodes, cap_nodes;
    uint32_t epoch;    /* slots with another epoch are empty */
    uint32_t sequence; /* number of the sequence being counted */
} wr__grams;

void wr__grams_free(wr__grams *g);

/* Forget all n-grams. */
wr_status wr__grams_clear(wr__grams *g, wr_error *err);

/* Store the n-grams up to `order` of the sequence x[0..n): for each n-gram the table keeps the
 * largest count it has in one stored sequence. */
wr_status wr__grams_store(wr__grams *g, const uint32_t *x, size_t n, int order, wr_error *err);

/* For each length m <= order add to common[m - 1] how many m-grams of x[0..n) are stored, each
 * counted at most as often as it is stored ("clipped"). Changes nothing that is stored. */
void wr__grams_common(wr__grams *g, const uint32_t *x, size_t n, int order, uint64_t *common);

/* Numbers for strings: equal strings get equal numbers until the next clear. */
typedef struct wr__names {
    struct wr__name_slot *slots;
    size_t n_slots;
    wr_str bytes;
    uint32_t n, epoch;
} wr__names;

void wr__names_free(wr__names *names);
wr_status wr__names_clear(wr__names *names, wr_error *err);
wr_status wr__names_get(wr__names *names, const char *at, size_t len, uint32_t *id, wr_error *err);

#endif
