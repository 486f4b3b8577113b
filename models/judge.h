/* judge.h: log-probabilities that a Transformer gives to many candidates of each sentence, for
 * rescoring (noisy parallel decoding: Gu et al. 2018).
 *
 * Candidates of one sentence resemble each other: its source is encoded once, and what some of them
 * begin with in common goes through the decoder once. wr_decoder_score() is for pairs that share
 * nothing. */
#ifndef WEIR_JUDGE_H
#define WEIR_JUDGE_H

#include "data/pairs.h"
#include "graph/session.h"
#include "models/transformer.h"

typedef struct wr_judge wr_judge;

/* A judge by the model `t` (used without dropout) whose parameters live in `session`, which must
 * outlive it. Errors: WR_ERR_INPUT for a vocabulary and max_len whose product is not below 2^31;
 * WR_ERR_MEMORY. */
wr_status wr_judge_new(const wr_transformer *t, wr_session *session, wr_judge **out, wr_error *err);
void wr_judge_free(wr_judge *j);

/* nll[i] = -log p(tgt[i], end | src[sentence[i]]) of n candidates, in nats; ids are without begin
 * and end. A source of more than max_len - 1 words is cut to that; a candidate of more has an nll
 * of infinity. In which order candidates come is of no importance. Errors: WR_ERR_INPUT for an id
 * outside the vocabulary or a model whose output is not finite; WR_ERR_MEMORY. */
wr_status wr_judge_score(wr_judge *j, const wr_sentence *src, const size_t *sentence,
                         const wr_sentence *tgt, size_t n, double *nll, wr_error *err);

#endif
