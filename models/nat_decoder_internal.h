/* nat_decoder_internal.h: single runs of a non-autoregressive decoder and the steps between them,
 * for the search. */
#ifndef WEIR_NAT_DECODER_INTERNAL_H
#define WEIR_NAT_DECODER_INTERNAL_H

#include "models/nat_decoder.h"

/* ---- runs ---- */

/* Encode a batch of sources. The encoder's output and the scores of lengths are kept until the next
 * call. */
wr_status wr__nat_begin(wr_nat_decoder *d, const wr_batch *b, wr_error *err);

/* Lengths of sentence b of the batch, framing included: the k likeliest, best first, or with
 * `window` those around the likeliest one, the nearest first (the shorter at ties); each times
 * `factor`, within what the model can do, none twice. Returns how many there are, at most k; of a
 * model with frames one, theirs. `length` has room for 2 k. */
typedef struct wr__nat_length_choice {
    int k;
    bool window;
    double factor;
} wr__nat_length_choice;
int wr__nat_lengths(const wr_nat_decoder *d, int32_t b, const wr__nat_length_choice *c,
                    int *length);

/* Positions that a run of candidates of at most that length has, padding included. */
int32_t wr__nat_padded(const wr_nat_decoder *d, int length);

/* Candidates of sentences of the batch. T is wr__nat_padded() of the longest. */
typedef struct wr__nat_rows {
    int32_t n, T;
    const int32_t *sentence; /* [n] of the batch, ascending */
    const int32_t *len;      /* [n] */
    const int32_t *tokens;   /* [n, T] */
} wr__nat_rows;

/* The `k` likeliest words of each position and what log-probabilities need: log p = value - total
 * (-infinity where the word is banned). Valid until the session's next run. With k = 1 `blank` is
 * NULL. 1 <= k <= words of the model. */
typedef struct wr__nat_words {
    int k;
    const wr_tensor *value; /* [n, T, k] */
    const wr_tensor *id;    /* [n, T, k] i32 */
    const wr_tensor *total; /* [n, T] */
    const wr_tensor *blank; /* [n, T, 1] */
} wr__nat_words;
wr_status wr__nat_say(wr_nat_decoder *d, const wr__nat_rows *r, int k, wr__nat_words *w,
                      wr_error *err);

/* log p of word j at position `at` (of n T), and of the blank. */
double wr__nat_logp(const wr__nat_words *w, int64_t at, int j);
double wr__nat_blank_logp(const wr__nat_words *w, int64_t at);

/* Whether positions may say nothing. */
bool wr__nat_silent(const wr_nat_decoder *d);

/* The positions that are said, of `len` in all: the first, and how many. */
int wr__nat_said(const wr_nat *n, int len, int *first);

/* ---- steps ---- */

/* Leave out ids equal to their left neighbour; returns how many are left. */
size_t wr__nat_dedup(int32_t *id, size_t n);

/* round(factor length), half up, within [least, most]. */
int wr__nat_scale(int length, double factor, int least, int most);

/* How many of n positions pass t = 1 .. passes-1 says again: floor(n (1 - t / passes)); with `some`
 * at least one. */
int wr__nat_again(int n, int t, int passes, bool some);

/* Mark the `count` positions of the smallest log-probability, the lowest first at ties. */
void wr__nat_least(const double *logp, size_t n, size_t count, bool *marked);

#endif
