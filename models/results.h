/* results.h: translations being collected, for decoders that make whole sentences. Internal to
 * models/. */
#ifndef WEIR_RESULTS_H
#define WEIR_RESULTS_H

#include "models/search.h"

/* Hypotheses point at their words only when all are there. */
typedef struct wr__results {
    wr_translations *out;
    size_t *first; /* [n * nbest] where a hypothesis' words begin */
} wr__results;
wr_status wr__results_begin(wr__results *r, size_t n, size_t nbest, wr_translations *out,
                            wr_error *err);
/* Append a hypothesis of sentence i. */
wr_status wr__results_add(wr__results *r, size_t i, const int32_t *id, size_t n, double score,
                          double logp, wr_error *err);
/* Point the hypotheses at their words, or with a failure free everything. Returns `status`. */
wr_status wr__results_end(wr__results *r, wr_status status);

/* Words before the first end of sentence. */
size_t wr__text_length(const int32_t *id, size_t n);

#endif
