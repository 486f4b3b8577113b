/* ctc_beam.h: translations from the frames of a CTC model (Graves et al. 2006): the likeliest path,
 * and prefix beam search with an n-gram language model (Hannun et al. 2014).
 *
 * A path says one word or blank in each frame; its text is what is left when runs of equal words
 * are merged and blanks dropped. The probability of a text is the sum over its paths.
 *
 * Letters: T frames, K beam, k words of a frame. */
#ifndef WEIR_CTC_BEAM_H
#define WEIR_CTC_BEAM_H

#include "data/arpa.h"

/* Merge runs of equal ids, then drop blanks, in place; returns how many ids are left. */
size_t wr_ctc_collapse(int32_t *id, size_t frames, int32_t blank);

/* Log-probabilities of one sentence's frames, finite or -INFINITY. Words of a frame that are not
 * told have probability 0: with the k best of each frame the search is that much cheaper. */
typedef struct wr_ctc_frames {
    int frames, words;        /* T, k */
    const double *logp;       /* [T, k] */
    const int32_t *id;        /* [T, k] different ones in a frame; a blank among them is skipped */
    const double *blank_logp; /* [T] */
    int32_t blank;
    int32_t end; /* the word that ends a sentence, where the frames say it; -1: they do not */
} wr_ctc_frames;

/* A language model over the vocabulary: word[id] is the model's word for each id, -1: unknown. */
typedef struct wr_ctc_lm {
    const wr_arpa *arpa;
    const int32_t *word;
} wr_ctc_lm;

/* What a text y is judged by: log p(y | frames) + lm_weight log p_LM(y) + length_bonus |y|. Where
 * the language model tells ends of sentences, p_LM counts the end, once: when the frames say it, or
 * when all are done. Behind an end that the frames say nothing goes on; it is not in y. */
typedef struct wr_ctc_beam_options {
    int beam;            /* K >= 1: prefixes kept after each frame */
    int nbest;           /* 1..K */
    const wr_ctc_lm *lm; /* NULL: none */
    double lm_weight;    /* >= 0 */
    double length_bonus;
} wr_ctc_beam_options;

typedef struct wr_ctc_found {
    const int32_t *id;
    size_t n;
    double score, logp; /* logp: the frames' alone */
} wr_ctc_found;

/* Room for searching; free with wr_ctc_beam_free(). One search at a time. */
typedef struct wr_ctc_beam wr_ctc_beam;
wr_ctc_beam *wr_ctc_beam_new(void);
void wr_ctc_beam_free(wr_ctc_beam *b);

/* The best texts, best first, in found [nbest] (with and without an end said: two texts, of equal
 * words); ties go to the prefix that was better before, then
 * to the smaller id. A prefix carries the log-probabilities of its paths that end in blank and in
 * its last word; after each frame the K best by the judgement above stay. Exact when K is at least
 * the number of prefixes that there are. `found` points into `b`, until its next search. Time is
 * T K k steps of the language model at most: those of a prefix that cannot come among the K best
 * are left out. Errors: WR_ERR_INPUT for impossible options, an empty set of texts (all of
 * probability 0) or frames that are not numbers; WR_ERR_MEMORY. */
wr_status wr_ctc_beam_search(wr_ctc_beam *b, const wr_ctc_frames *frames,
                             const wr_ctc_beam_options *o, wr_ctc_found *found, size_t *n,
                             wr_error *err);

#endif
