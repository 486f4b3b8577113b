/* ranking.h: from candidates of sentences to translations: judged by another model if there is one,
 * best first, each text once. For decoders that make whole sentences; internal to models/. */
#ifndef WEIR_RANKING_H
#define WEIR_RANKING_H

#include "models/results.h"

typedef struct wr__ranked {
    size_t sentence;   /* its number among the sources */
    const int32_t *id; /* its words, without an end */
    size_t n;
    double score, logp;
    size_t number; /* who comes first wins a tie */
} wr__ranked;

/* Tell the best of n candidates, at most results' nbest of each sentence; those of a sentence stand
 * together. With a judge (NULL: none) score and logp are its, and a text is judged once. `c` is
 * reordered. Errors: the judge's, WR_ERR_MEMORY. */
wr_status wr__ranking_tell(wr__results *r, wr__ranked *c, size_t n, const wr_rescorer *judge,
                           wr_error *err);

#endif
