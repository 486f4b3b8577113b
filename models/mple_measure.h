/* mple_measure.h: what a trained non-autoregressive model makes of sentence pairs, in the terms of
 * mple.h, and decoding with sampled inputs.
 *
 * Letters: T positions of a sentence (framing included), D width. All costs in nats. */
#ifndef WEIR_MODELS_MPLE_MEASURE_H
#define WEIR_MODELS_MPLE_MEASURE_H

#include "data/pairs.h"
#include "data/subword.h"
#include "graph/session.h"
#include "models/mple_head.h"
#include "models/nat_loss.h"

/* A model whose parameters live in `session`, used without dropout. Free it before the session. */
typedef struct wr_measurer wr_measurer;

/* What training annealed (pre-training, a mixture with cross-entropy, truncation) is left out:
 * targets are those of the pure objective. `update`: how many updates were made, for the share of
 * words that glancing gives. Nothing is compiled before it is needed. Errors: WR_ERR_INPUT unless
 * the model is of WR_F32; WR_ERR_MEMORY. */
wr_status wr_measurer_new(const wr_nat *model, const wr_nat_training *training, int update,
                          wr_session *session, wr_measurer **out, wr_error *err);
void wr_measurer_free(wr_measurer *m);

/* Does training give the decoder words of the target (CMLM, glancing without frames)? Then there
 * is an L_input, for which a mask head is needed. */
bool wr_measurer_shows(const wr_measurer *m);
/* Is L_NAT a sum over alignments, for which the decomposition holds only approximately (CTC)? */
bool wr_measurer_sums(const wr_measurer *m);
/* The width of the decoder's states. */
size_t wr_measurer_width(const wr_measurer *m);

/* One pair. */
typedef struct wr_measured {
    bool feasible;       /* false: too long for the model, or without an alignment; the rest is 0 */
    int positions;       /* T, what L_NAT and L_input are divided by */
    double own;          /* -log P(target | X), nothing given, each word at its own position; for
                          * ctc of all its alignments */
    double nat;          /* L_NAT: -log P(T | Z, X); words that are given cost nothing */
    double input;        /* L_input: -log P(Z | X) + log Q(Z | X); 0 for an input that X decides */
    double sure;         /* sum over positions of the log-probability of the likeliest word */
    size_t proxy, words; /* T as ids without framing: `words` of them from `proxy` on */
} wr_measured;

/* Decoder states of positions and whether they were masked, for wr_mask_fit(). Zero-initialise. */
typedef struct wr_mask_pool {
    float *h;
    uint8_t *masked;
    size_t n, most; /* positions; no more than `most` are taken */
    size_t h_cap, masked_cap;
} wr_mask_pool;
void wr_mask_pool_free(wr_mask_pool *pool);

typedef struct wr_measuring {
    const double *head;     /* [D + 1] the mask head; NULL: `input` is 0 */
    const double *token_lp; /* of another model: log P_tok of the targets' words, [sum of T], see
                             * own_lp; NULL: those of this model when it is given nothing */
    double *own_lp;         /* filled when not NULL: log p of each position's own word, sentence by
                             * sentence in the order given, T = wr_measurer_positions() each */
    wr_mask_pool *pool;     /* filled when not NULL */
    wr_ids *proxies;        /* T of all sentences are appended when not NULL */
    size_t max_tokens;      /* positions computed together, padding included; 0: 2048 */
    void (*progress)(void *context, size_t done, size_t total); /* may be NULL */
    void *context;
} wr_measuring;

/* Positions of a target of so many words; 0 with frames. */
int wr_measurer_positions(const wr_measurer *m, size_t words);

/* Measure n pairs (ids without begin and end): out [n]. What is random (which words are given)
 * depends on the pairs and on how they are batched alone. Errors: those of a run; WR_ERR_INPUT for
 * output that is not finite; WR_ERR_MEMORY. */
wr_status wr_measurer_run(wr_measurer *m, const wr_sentence *src, const wr_sentence *tgt, size_t n,
                          const wr_measuring *o, wr_measured *out, wr_error *err);

/* Translate with sampled inputs: the likeliest length; each position is masked with the head's
 * probability (head [D + 1], on this model's states when nothing is given); the others are given
 * the word that `tokens` (NULL: this model) finds likeliest there; then one pass says the rest.
 * ids of sentence i: out->id[at[i]] .. at[i + 1] - 1, at [n + 1]. sure [n] (may be NULL): the mean
 * over positions of the log-probability of what was chosen, masks and given words included. Errors
 * as above, WR_ERR_INPUT for a model with frames. */
wr_status wr_measurer_sample(wr_measurer *m, wr_measurer *tokens, const double *head,
                             const wr_sentence *src, size_t n, uint64_t seed, wr_ids *out,
                             size_t *at, double *sure, wr_error *err);

#endif
