/* search_internal.h: what greedy search, beam search and greedy search by drafts share, so that
 * they decide alike: batches, longest outputs, and the order of words that could come next. */
#ifndef WEIR_SEARCH_INTERNAL_H
#define WEIR_SEARCH_INTERNAL_H

#include "models/search.h"

/* WR_ERR_INPUT for impossible options. */
wr_status wr__search_check(const wr_search_options *o, wr_error *err);

/* Tokens of a source that are read, without the end. */
size_t wr__search_src_tokens(const wr_decoder *d, const wr_sentence *src);
/* The most tokens of the output, the end included, of a source of so many tokens. */
int wr__search_limit(const wr_decoder *d, const wr_search_options *o, size_t src_tokens);
/* How many of the `left` sentences are searched together; the first is the longest. */
size_t wr__search_batch(const wr_decoder *d, const wr_search_options *o, const wr_sentence *first,
                        size_t left);
/* The batch of `n` sources, the longest first, cut to what the model takes: `pick` [n] becomes what
 * is read of them. */
wr_status wr__search_sources(const wr_decoder *d, wr_sentence *pick, size_t n, wr_batch *b,
                             wr_error *err);

/* A word that could follow hypothesis `from`; log p is that of the whole hypothesis with it. */
typedef struct wr__candidate {
    double logp;
    int32_t from, token;
} wr__candidate;

/* Candidates that a hypothesis must tell so that the `width` best words other than the end, pad and
 * begin are among them. */
int wr__search_best(const wr_decoder *d, int width);
/* The end and the best words after the hypothesis of `row`, unsorted: at most 1 + the number of
 * candidates told. Returns how many. */
int wr__search_candidates(const wr_decoder_next *next, int64_t row, double logp, int32_t from,
                          wr__candidate *out);
/* For qsort: the likeliest first, ties by the better hypothesis, then by the smaller token. */
int wr__candidate_order(const void *a, const void *b);

/* WR_ERR_INPUT, naming the sentence by its number from 0, unless the row's numbers are finite. */
wr_status wr__search_finite(const wr_decoder_next *next, int64_t row, size_t sentence,
                            wr_error *err);

#endif
