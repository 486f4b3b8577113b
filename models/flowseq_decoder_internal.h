/* flowseq_decoder_internal.h: single runs of a FlowSeq decoder, for the sources that search and
 * measure with it. */
#ifndef WEIR_FLOWSEQ_DECODER_INTERNAL_H
#define WEIR_FLOWSEQ_DECODER_INTERNAL_H

#include "models/flowseq_decoder.h"
#include "models/results.h"

enum { WR__FLOWSEQ_TOKENS = 4096 }; /* positions computed together where nothing is said */

/* Sentences as the decoder's model takes them. */
wr_flowseq_packing wr__flowseq_packing(const wr_flowseq_decoder *d, bool exact);

/* Encode a batch of sources. The encoder's output and the length logits are kept until the next
 * call. */
wr_status wr__flowseq_begin(wr_flowseq_decoder *d, const wr_flowseq_batch *b, wr_error *err);

/* log p(T | x) of sentence b of the batch, T being what training takes for a target of that length.
 */
double wr__flowseq_class_logp(const wr_flowseq_decoder *d, int32_t b, int32_t length);
/* The k most probable lengths of sentence b, best first; returns how many there are. */
int wr__flowseq_best_lengths(const wr_flowseq_decoder *d, int32_t b, int k, int32_t *length,
                             double *logp);

/* Candidates of sentences of the batch. */
typedef struct wr__flowseq_rows {
    int32_t n, T;
    const int32_t *sentence; /* [n] of the batch, ascending */
    const int32_t *len;      /* [n] multiples of U, at most T */
} wr__flowseq_rows;

/* A buffer of zeros [rows, T, D] for noise, valid until the next call; NULL when memory is out. */
void *wr__flowseq_zeros(wr_flowseq_decoder *d, size_t rows, int32_t T);

/* Standard normal noise times `scale` in row `at`, at positions [0, len) of [T, D]; the same for
 * the same key wherever it goes. */
typedef struct wr__flowseq_key {
    uint64_t seed, sentence;
    uint32_t length, sample; /* of the candidate */
    uint32_t draw;           /* 0: the candidate's own; k: its k-th posterior sample */
} wr__flowseq_key;
void wr__flowseq_draw(const wr_flowseq_decoder *d, void *noise, size_t at, int32_t T, int32_t len,
                      double scale, const wr__flowseq_key *key);

/* Words [n, T] of candidates with that noise; valid until the session's next run. With `exact` only
 * padding is forbidden, and there is one candidate of each sentence. */
wr_status wr__flowseq_words(wr_flowseq_decoder *d, const wr__flowseq_rows *rows, const void *noise,
                            bool exact, const int32_t **words, wr_error *err);

/* Words [n, T] given the posterior's mean of targets tgt [n, T], one of each sentence. */
wr_status wr__flowseq_again(wr_flowseq_decoder *d, const wr__flowseq_rows *rows, const int32_t *tgt,
                            bool exact, const int32_t **words, wr_error *err);

/* Terms [n * draws] of targets tgt [n, T] with `draws` noises each, [n * draws, T, D]; valid until
 * the session's next run. */
typedef struct wr__flowseq_sums {
    const wr_tensor *recon, *log_q, *log_prior, *logdet;
} wr__flowseq_sums;
wr_status wr__flowseq_score(wr_flowseq_decoder *d, const wr__flowseq_rows *rows, const int32_t *tgt,
                            int32_t draws, const void *noise, wr__flowseq_sums *sums,
                            wr_error *err);

#endif
