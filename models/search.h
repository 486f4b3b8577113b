/* search.h: greedy and beam search with an autoregressive decoder.
 *
 * A hypothesis of a source sentence x is y = y_1 .. y_n followed by the end of sentence. Its length
 * is n + 1: the end counts. Its score is
 *
 *     penalty   log p(y | x) / ((5 + length) / 6)^alpha      (Wu et al. 2016, equation 14)
 *     length    log p(y | x) / length^alpha
 *     none      log p(y | x)
 *
 * with natural logarithms. docs/decoding.md gives the algorithm and the exact rule for stopping. */
#ifndef WEIR_SEARCH_H
#define WEIR_SEARCH_H

#include "data/pairs.h"
#include "models/transformer_decoder.h"

/* How to search. Start from wr_search_defaults(). */
typedef struct wr_search_options {
    int beam;  /* hypotheses kept for a sentence, K >= 1; 1 is greedy search */
    int nbest; /* hypotheses returned for a sentence, 1 <= nbest <= beam */
    wr_recipe_normalisation normalisation;
    double alpha; /* >= 0 */
    /* An output has at most max_len_factor * (source tokens without end) + max_len_extra tokens,
     * its end included, and at most the model's max_len; there it is ended by force. */
    double max_len_factor;
    int max_len_extra;
    int max_sentences;  /* decoded together */
    size_t cache_bytes; /* about the most memory for cached keys and values, as long as one sentence
                         * fits; fewer sentences are decoded together to keep it */
    bool exhaust;       /* go on until nothing is left to be searched, even when the best hypotheses
                         * cannot be beaten any more: same result, slower; for tests */
    void (*progress)(void *context, size_t done, size_t total); /* sentences; may be NULL */
    void *context;
} wr_search_options;

/* The recipe's `decode` section, one hypothesis returned, 512 MiB of caches. */
wr_search_options wr_search_defaults(const wr_recipe_decode *decode);

/* One translation; `id` is without begin and end. */
typedef struct wr_hypothesis {
    const int32_t *id;
    size_t n;
    double logp;  /* log p(y, end | x) */
    double score; /* logp, normalised */
} wr_hypothesis;

/* The translations of n sentences in their order. Zero-initialise; wr_translations_free(). */
typedef struct wr_translations {
    size_t n, nbest;
    size_t *count;      /* [n] hypotheses of each sentence, 1..nbest */
    wr_hypothesis *hyp; /* [n, nbest], best first: that of sentence i is hyp[i * nbest] */
    size_t truncated;   /* sources that were longer than the model takes and were cut */
    wr_ids ids;         /* the storage behind `id` */
} wr_translations;
void wr_translations_free(wr_translations *t);

/* A judge of candidates that another model made: score[i] (higher is better) and logp[i] of the
 * candidate tgt[i] (ids without end) of the source number sentence[i]. */
typedef struct wr_rescorer {
    wr_status (*score)(void *context, size_t n, const size_t *sentence, const wr_sentence *tgt,
                       double *score, double *logp, wr_error *err);
    void *context;
} wr_rescorer;

/* Translate n sources (ids without end, which is added). A source with more than max_len - 1 tokens
 * is cut to that. Results do not depend on how sentences are batched, up to rounding, nor on the
 * number of threads. Errors: WR_ERR_INPUT for impossible options, an id outside the vocabulary, or
 * a model whose output is not finite; WR_ERR_MEMORY. `*out` is then empty. */
wr_status wr_search(wr_decoder *d, const wr_sentence *src, size_t n, const wr_search_options *o,
                    wr_translations *out, wr_error *err);

/* The score of a log-probability at a length that counts the end. */
double wr_search_score(const wr_search_options *o, double logp, int length);

#endif
