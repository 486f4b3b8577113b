/* flowseq_decoder.h: a trained FlowSeq ready to translate, to reconstruct and to tell its losses.
 *
 * A candidate translation of a source x is a length T among the most probable ones and a noise eps
 * [T, D]: z is what the prior makes of eps, and each position's word is the most probable one given
 * z and x. Padding and begin of sentence are never chosen. The text ends at the first end of
 * sentence.
 *
 *     argmax   the most probable length, eps = 0
 *     npd      `samples` noises for each of `lengths` lengths, times `temperature`; the candidate
 *              that a rescorer likes best (noisy parallel decoding, Gu et al. 2018)
 *     iwd      the same, the first noise of a length being 0; the candidate y with the largest
 *              ( log (1/K sum_k w_k) + log p(T | x) ) / T, w_k = p(z_k | x) p(y | z_k, x) /
 *              q(z_k | x, y) for K samples z_k of the posterior (importance weighted decoding, Ma
 *              et al. 2019)
 *
 * Noise is drawn for (seed, number of the sentence, length, number of the sample): results depend
 * neither on how sentences are batched nor on the number of threads. docs/decoding.md tells more.
 *
 * Letters: B sentences, N candidates, S source length, T target length, D width, U unit of lengths.
 */
#ifndef WEIR_FLOWSEQ_DECODER_H
#define WEIR_FLOWSEQ_DECODER_H

#include "models/flowseq.h"
#include "models/flowseq_batch.h"
#include "models/search.h"

typedef struct wr_flowseq_decoder wr_flowseq_decoder;

/* A decoder for `model` (used without dropout) whose parameters live in `session`; those that the
 * session does not have yet begin by their initialiser. Nothing is compiled before it is needed.
 * What depends on parameters alone is computed once and kept as states of the session
 * (models/frozen.h), which outlive the decoder. Free the decoder before the session. Errors:
 * WR_ERR_INPUT for a length range of less than U - 1, for which some sources would have no length;
 * WR_ERR_MEMORY. */
wr_status wr_flowseq_decoder_new(const wr_flowseq *model, wr_session *session,
                                 wr_flowseq_decoder **out, wr_error *err);
void wr_flowseq_decoder_free(wr_flowseq_decoder *d);
const wr_flowseq *wr_flowseq_decoder_model(const wr_flowseq_decoder *d);
wr_session *wr_flowseq_decoder_session(const wr_flowseq_decoder *d);

/* A program that reads every parameter of the model, for loading a checkpoint. It belongs to the
 * decoder and is compiled by the first call. */
wr_status wr_flowseq_decoder_program(wr_flowseq_decoder *d, wr_program **program, wr_error *err);

/* To be told after parameters have changed. (Before the first use it need not be.) */
void wr_flowseq_decoder_changed(wr_flowseq_decoder *d);

/* The most length candidates that any sentence can have: ceil((2R + 1) / U). */
int wr_flowseq_decoder_lengths(const wr_flowseq_decoder *d);

/* ---- translating ---- */

/* How to search. Start from wr_flowseq_search_defaults(). */
typedef struct wr_flowseq_search_options {
    wr_recipe_decode_method method; /* WR_RECIPE_ARGMAX, WR_RECIPE_NPD or WR_RECIPE_IWD */
    int lengths, samples;           /* candidates of a sentence; argmax has one */
    double temperature;             /* >= 0 */
    int iwd_samples;                /* K */
    int nbest;                      /* translations told, 1 .. lengths * samples */
    uint64_t seed;
    /* npd: NULL leaves the candidates in their order, the most probable length first. */
    const wr_rescorer *rescorer;
    size_t max_tokens; /* about the most positions of candidates computed together */
    int max_sentences; /* encoded together */
    void (*progress)(void *context, size_t done, size_t total); /* sentences; may be NULL */
    void *context;
} wr_flowseq_search_options;

/* The recipe's `decode` section (argmax where its method is an autoregressive one), one translation
 * told, 4096 tokens. */
wr_flowseq_search_options wr_flowseq_search_defaults(const wr_recipe_decode *decode);

/* Translate n sources (ids without end, which is added). A source with more than max_len - 1 tokens
 * is cut to that. Candidates with the same words count once; a sentence with fewer valid lengths
 * than asked for gets those it has. `out` is sorted, best first:
 *
 *     argmax, npd alone   score = logp = log p(T | x)
 *     npd rescored        as the rescorer says
 *     iwd                 logp = log (1/K sum_k w_k) + log p(T | x), score = logp / T
 *
 * Errors: WR_ERR_INPUT for impossible options (also more lengths than any sentence can have), an id
 * outside the vocabulary, or a model whose output is not finite; WR_ERR_MEMORY. `*out` is then
 * empty. */
wr_status wr_flowseq_search(wr_flowseq_decoder *d, const wr_sentence *src, size_t n,
                            const wr_flowseq_search_options *o, wr_translations *out,
                            wr_error *err);

/* ---- losses and reconstruction ---- */

/* How to go through pairs. Zero-initialised: the posterior's mean, sentences without their ends. */
typedef struct wr_flowseq_measuring {
    int samples;       /* of the posterior, whose mean of terms is told; 0: one z, its mean */
    uint64_t seed;     /* of the samples */
    bool exact;        /* sentences are as the model sees them (wr_flowseq_packing) */
    size_t max_tokens; /* about the most positions computed together; 0: 4096 */
    void (*progress)(void *context, size_t done, size_t total); /* sentences; may be NULL */
    void *context;
} wr_flowseq_measuring;

/* The terms of a pair, in nats, without label smoothing; KL = log_q - log_prior. */
typedef struct wr_flowseq_terms {
    double recon;      /* -log p(y | z, x) */
    double log_q;      /* log q(z | x, y) */
    double log_prior;  /* log p(z | x) */
    double logdet;     /* log |d eps / d z| */
    double length_nll; /* -log p(T | x); of the nearest length that the model can tell */
    int32_t tokens;    /* T */
} wr_flowseq_terms;

/* Errors of these: WR_ERR_INPUT as wr_flowseq_batch_make() has them, for an id outside the
 * vocabulary or an output that is not finite; WR_ERR_MEMORY. */
wr_status wr_flowseq_measure(wr_flowseq_decoder *d, const wr_sentence *src, const wr_sentence *tgt,
                             size_t n, const wr_flowseq_measuring *o, wr_flowseq_terms *terms,
                             wr_error *err);

/* The words that the model makes of the posterior's mean given the target: one "translation" each,
 * cut at the first end of sentence, or with `exact` whole, T words. logp and score are 0. */
wr_status wr_flowseq_reconstruct(wr_flowseq_decoder *d, const wr_sentence *src,
                                 const wr_sentence *tgt, size_t n, const wr_flowseq_measuring *o,
                                 wr_translations *out, wr_error *err);

/* The words for eps = 0 at the length of the target, told in the same way. */
wr_status wr_flowseq_decode_at(wr_flowseq_decoder *d, const wr_sentence *src,
                               const wr_sentence *tgt, size_t n, const wr_flowseq_measuring *o,
                               wr_translations *out, wr_error *err);

/* The k most probable lengths of each source, best first, and log p(T | x): length [n, k], logp [n,
 * k]; 0 and -infinity behind the valid ones. 1 <= k <= wr_flowseq_decoder_lengths(). */
wr_status wr_flowseq_lengths(wr_flowseq_decoder *d, const wr_sentence *src, size_t n, int k,
                             const wr_flowseq_measuring *o, int32_t *length, double *logp,
                             wr_error *err);

/* Mean of |most probable length - length of the target, its ends included|. */
wr_status wr_flowseq_length_error(wr_flowseq_decoder *d, const wr_sentence *src,
                                  const wr_sentence *tgt, size_t n, const wr_flowseq_measuring *o,
                                  double *error, wr_error *err);

#endif
