/* draft.h: greedy search of a Transformer, sped up by drafts of another model.
 *
 * Blockwise parallel decoding (Stern et al. 2018) with the proposals of a non-autoregressive model:
 * one pass of the Transformer over a whole draft tells its own choice at every position. The
 * longest prefix on which both agree is what greedy search would have found, and so is the
 * Transformer's own token behind it, whatever the draft says; then another pass follows. The
 * drafts decide how many passes there are, never what comes out. */
#ifndef WEIR_DRAFT_H
#define WEIR_DRAFT_H

#include "models/search.h"

/* How many of the first n tokens proposed equal the verifier's. */
size_t wr_accepted_prefix(const int32_t *proposal, const int32_t *verified, size_t n);

/* What drafting was good for, summed over sentences. */
typedef struct wr_draft_stats {
    size_t sentences;
    size_t tokens;   /* of the translations, their ends included: the steps of greedy search */
    size_t passes;   /* in which a sentence took part, steps of `redone` sentences included */
    size_t drafted;  /* words of the drafts */
    size_t accepted; /* of those: words that became the translation's in their place */
    size_t redone;   /* sentences decoded by greedy search after all, see wr_draft_search() */
} wr_draft_stats;

/* Translate n sources as wr_search() does with beam 1: the same tokens, log p and score up to
 * rounding. draft[i] is a proposal for src[i], without begin and end (an end of sentence in it ends
 * it; it may be empty, or longer than the output may be).
 *
 * A pass adds up in another order than a step does, so that the two may choose differently between
 * words that are equally likely but for rounding. Where the best two are as near as that, the batch
 * is decoded by wr_search() instead; thus the tokens are its own.
 *
 * The first pass looks at 7 words of each draft, each later one at twice as many if all were right,
 * else at 3 more than were; all sentences together have about 1000 at most. Errors: those of
 * wr_search(); WR_ERR_INPUT for a beam above 1 or a draft with ids outside the vocabulary. `stats`
 * may be NULL. */
wr_status wr_draft_search(wr_decoder *d, const wr_sentence *src, const wr_sentence *draft, size_t n,
                          const wr_search_options *o, wr_draft_stats *stats, wr_translations *out,
                          wr_error *err);

#endif
