/* nat_reveal.h: which words of the target the decoder is given in training: some at random (CMLM),
 * or some that a first pass erred at (glancing). The choice is made on the host, by random numbers
 * that are operands: it depends on seed, step, sentence and position alone.
 *
 * Letters: B sentences, T positions, N target words. */
#ifndef WEIR_NAT_REVEAL_H
#define WEIR_NAT_REVEAL_H

#include "models/nat.h"

/* How many words are masked or given. */
typedef struct wr_nat_revealing {
    wr_recipe_masking masking; /* CMLM */
    double visible;            /* masking fixed */
    wr_recipe_glancing glancing;
    double glance_from, glance_to;
    int glance_updates;
} wr_nat_revealing;

/* Does the choice look at the probabilities of the target words? */
bool wr_nat_glance_needs_lp(const wr_nat_revealing *o);

/* Inputs of the decoder. */
typedef struct wr_nat_given {
    wr tokens; /* [B, T] i32: the mask where a word is to be said */
    wr weight; /* [B, T]: 1 there, 0 for words that are given and padding */
    wr count;  /* [B] how many words are given */
} wr_nat_given;

/* CMLM (Ghazvininejad et al. 2019): tgt [B, T], len [B]. Begin and end of framing bos_eos are
 * given, too. */
wr_nat_given wr_nat_mask_words(const wr_nat *n, const wr_nat_revealing *o, wr tgt, wr len);

/* What the first pass said. */
typedef struct wr_nat_first_pass {
    wr said;   /* [B, T] i32: its words */
    wr lp;     /* [B, T] log p of the target words, read by p_ref and one_minus_p_ref alone, else
                * poison; with frames [B, T, N + 1], the blank last */
    wr update; /* number of updates made: a scalar, i32 */
} wr_nat_first_pass;

/* Glancing (Qian et al. 2021): tgt [B, T], len [B]; the first pass's words in place of those that
 * are to be said remain masked. */
wr_nat_given wr_nat_glance(const wr_nat *n, const wr_nat_revealing *o,
                           const wr_nat_first_pass *first, wr tgt, wr len);

/* The same for CTC: frames are aligned with the target by the likeliest path, and each one is given
 * its word (or the next one, where the path says nothing) with one probability, the share times
 * the share of frames that err. tgt [B, N], tgt_len [B], frames [B]. */
wr_nat_given wr_nat_glance_frames(const wr_nat *n, const wr_nat_revealing *o,
                                  const wr_nat_first_pass *first, wr tgt, wr tgt_len, wr frames);

/* ---- on the host, over one sentence ---- */

/* How many of `len` words are masked, u in [0, 1); `specials` of them are no words. */
int wr_nat_masked_count(const wr_nat_revealing *o, int len, int specials, double u);

/* How many of `len` words glancing gives, at an update, when the first pass said `said` [len].
 * `row` is workspace of len + 1. */
int wr_nat_glanced_count(const wr_nat_revealing *o, const int32_t *said, const int32_t *tgt,
                         int len, double update, int32_t *row);

#endif
