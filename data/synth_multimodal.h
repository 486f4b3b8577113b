/* synth_multimodal.h: a small parallel language in which a sentence has several translations, and
 * whose conditional total correlation is known exactly.
 *
 * Letters: W source words, n words of a phrase, J phrases of a sentence, K modes.
 *
 * A source is J phrases of n different words each. A phrase is translated in one of K modes,
 * independently of the others, mode k with probability q[k] (proportional to skew^k); the mode says
 * in which order its words come (a rotation by k words), from which of K vocabularies they are, or
 * both. One word gives one word, so that the target's length is the source's.
 *
 * Entropies given the source X, in nats, with H = -sum_k q[k] log q[k]:
 *
 *     H(Y|X)          = J H         the modes say everything, and Y tells the modes
 *     sum_i H(y_i|X)  = J n H       at each place every mode has another word
 *     C               = J (n - 1) H their difference: the conditional total correlation
 *
 * The second line holds because the n words of a phrase differ (rotations by k = 0 .. K-1 < n put K
 * different words at each place) and because no two vocabularies have a word in common. */
#ifndef WEIR_DATA_SYNTH_MULTIMODAL_H
#define WEIR_DATA_SYNTH_MULTIMODAL_H

#include "graph/base.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { WR_MULTIMODAL_WORDS_MOST = 6400, WR_MULTIMODAL_MODES_MOST = 64 };

/* What the mode of a phrase decides. */
typedef enum wr_multimodal_kind {
    WR_MULTIMODAL_ORDER,
    WR_MULTIMODAL_WORDS,
    WR_MULTIMODAL_BOTH
} wr_multimodal_kind;

typedef struct wr_multimodal {
    wr_multimodal_kind kind;
    int modes;                    /* K, from 1 */
    int phrase;                   /* n, from 1; at least K where the order varies */
    int min_phrases, max_phrases; /* J is uniform between them */
    int words;                    /* W, at least n */
    double skew;                  /* above 0, up to 1: q[k] is proportional to skew^k */
} wr_multimodal;

/* WR_ERR_INPUT names the size that is impossible. The other functions take sizes that pass. */
wr_status wr_multimodal_check(const wr_multimodal *m, wr_error *err);

/* q[k]. */
double wr_multimodal_probability(const wr_multimodal *m, int k);

/* Distinct words that targets are made of: W, or W K. */
int wr_multimodal_target_words(const wr_multimodal *m);

/* The translation of src [phrases n] in the modes mode [phrases]: tgt [phrases n], numbers of
 * target words. */
void wr_multimodal_translate(const wr_multimodal *m, const int32_t *src, int phrases,
                             const int32_t *mode, int32_t *tgt);

/* Append the spelling of a source or a target word: two syllables of consonant and vowel, or of
 * vowel and consonant. Different words are spelt differently, on both sides together. */
void wr_multimodal_source_word(int32_t word, wr_str *out);
void wr_multimodal_target_word(int32_t word, wr_str *out);

/* Entropies of a sentence given its source, in nats. */
typedef struct wr_multimodal_entropy {
    double joint;       /* H(Y|X) */
    double marginals;   /* sum_i H(y_i|X): the floor of what a factorised model's tokens cost */
    double correlation; /* C = marginals - joint */
} wr_multimodal_entropy;
wr_multimodal_entropy wr_multimodal_exact(const wr_multimodal *m, int phrases);

/* How many sentences of each split; no source is in two of them. */
typedef struct wr_multimodal_split {
    size_t train, valid, test;
    size_t translations; /* of each train source, drawn one by one, each with a line of its own */
    uint64_t seed;
} wr_multimodal_split;

/* The corpus drawn: train first (the lines of a source one after the other), then valid, then
 * test. */
typedef struct wr_multimodal_corpus {
    size_t train, valid, test; /* lines */
    size_t *at;                /* [train + valid + test + 1] where a line's words begin */
    int32_t *src, *tgt;        /* [at[last]] numbers of words */
} wr_multimodal_corpus;

/* Draw a corpus; the same arguments give the same one everywhere. Errors: WR_ERR_INPUT when the
 * language has less than twice as many sources as asked for; WR_ERR_MEMORY. On error `*out` is
 * empty. */
wr_status wr_multimodal_draw(const wr_multimodal *m, const wr_multimodal_split *split,
                             wr_multimodal_corpus *out, wr_error *err);

/* Translate the lines from .. from + n - 1 once more: tgt [at[from + n] - at[from]], in modes drawn
 * anew; `again` counts from 1, and each gives other modes. */
void wr_multimodal_again(const wr_multimodal *m, const wr_multimodal_corpus *c, size_t from,
                         size_t n, uint64_t seed, uint32_t again, int32_t *tgt);
void wr_multimodal_corpus_free(wr_multimodal_corpus *corpus);

#ifdef __cplusplus
}
#endif
#endif
