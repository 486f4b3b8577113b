/* transformer_decoder.h: a trained Transformer ready to decode step by step with cached keys and
 * values, and to score given translations.
 *
 * Letters: B sentences or hypotheses, S source length, T target length, V vocabulary, k candidates.
 * Lengths include the end of sentence. */
#ifndef WEIR_TRANSFORMER_DECODER_H
#define WEIR_TRANSFORMER_DECODER_H

#include "data/batches.h"
#include "graph/session.h"
#include "models/transformer.h"

typedef struct wr_decoder wr_decoder;

/* A decoder for the model `t` (used without dropout) whose parameters live in `session`; those the
 * session does not have yet begin by their initialiser. Nothing is compiled before it is needed.
 * The caches are states of the session ("decoder.layer0.self.cache.k", ...), which outlive the
 * decoder: a session has one decoder at a time. Free the decoder before the session. */
wr_status wr_decoder_new(const wr_transformer *t, wr_session *session, wr_decoder **out,
                         wr_error *err);
void wr_decoder_free(wr_decoder *d);
const wr_transformer *wr_decoder_model(const wr_decoder *d);
wr_session *wr_decoder_session(const wr_decoder *d);

/* A program that reads every parameter of the model, for loading a checkpoint. It belongs to the
 * decoder and is compiled by the first call. */
wr_status wr_decoder_program(wr_decoder *d, wr_program **program, wr_error *err);

/* Bytes of cached keys and values for one position of one hypothesis. */
size_t wr_decoder_position_bytes(const wr_decoder *d);

/* What a decoding needs. */
typedef struct wr_decoder_size {
    int rows;             /* the most hypotheses at once, over all sentences */
    int src_len, tgt_len; /* the longest */
    int best;             /* k, candidates told for each hypothesis, 1..V */
} wr_decoder_size;

/* Encode a batch of sources (b->src [B, S], b->src_len [B]); sentence i then has source row i.
 * Caches are kept from call to call; they and the programs are made again when they are too small.
 * Errors: WR_ERR_INPUT for ids outside the vocabulary, lengths above the model's max_len. */
wr_status wr_decoder_begin(wr_decoder *d, const wr_decoder_size *need, const wr_batch *b,
                           wr_error *err);

/* Feed one token to each of n hypotheses. Hypothesis b continues row `row[b]` of the step before
 * and reads the source of row `src_row[b]` of the step before (of the batch, in the first step). */
typedef struct wr_decoder_feed {
    int n, position;                        /* position of the tokens, from 0 */
    const int32_t *token;                   /* [n] the begin of sentence at position 0 */
    const int32_t *row, *src_row, *src_len; /* [n] */
} wr_decoder_feed;

/* Logits of the next token: the k largest with their ids, the logarithm of the sum of the
 * exponentials of all, and the logit of the end; valid until the session's next run. */
typedef struct wr_decoder_next {
    const wr_tensor *value; /* [n, k] */
    const wr_tensor *id;    /* [n, k] i32 */
    const wr_tensor *total; /* [n] */
    const wr_tensor *end;   /* [n, 1] */
} wr_decoder_next;
wr_status wr_decoder_step(wr_decoder *d, const wr_decoder_feed *feed, wr_decoder_next *next,
                          wr_error *err);

/* Feed several tokens to each of n hypotheses in one pass. Hypothesis b continues row `row[b]` of
 * the pass (or step) before, of which the first past[b] positions are kept, however many there are;
 * its count[b] >= 1 tokens for the positions from past[b] on stand in `token` behind those of the
 * hypotheses before it. Source rows are as in a step. */
typedef struct wr_decoder_tokens {
    int n;
    const int32_t *token;                   /* [sum of count] */
    const int32_t *past, *count;            /* [n] */
    const int32_t *row, *src_row, *src_len; /* [n] */
} wr_decoder_tokens;

/* `next` is as of a step, but has a row for each token: what follows it. Both ways to feed may take
 * turns; decoding is begun by wr_decoder_begin(). Errors: WR_ERR_LIBRARY for more than was
 * begun; WR_ERR_MEMORY. */
wr_status wr_decoder_verify(wr_decoder *d, const wr_decoder_tokens *f, wr_decoder_next *next,
                            wr_error *err);

/* Forced scoring: nll[i] = -log p(tgt[i], end | src[i]) for n pairs, in nats, computed in batches
 * of about max_tokens (0: 2048) padded tokens. Ids are without begin and end. `progress` may be
 * NULL. Errors: WR_ERR_INPUT for a sentence longer than max_len - 1 (names it by its number from 1)
 * or an id outside the vocabulary; WR_ERR_MEMORY. */
typedef struct wr_decoder_scoring {
    size_t max_tokens;
    void (*progress)(void *context, size_t done, size_t total);
    void *context;
} wr_decoder_scoring;
wr_status wr_decoder_score(wr_decoder *d, const wr_sentence *src, const wr_sentence *tgt, size_t n,
                           const wr_decoder_scoring *o, double *nll, wr_error *err);

/* Element i of a float tensor on the host. */
static inline double wr_real_value(const wr_tensor *x, int64_t i) {
    return x->dtype == WR_F64 ? ((const double *)x->data)[i] : (double)((const float *)x->data)[i];
}

#endif
