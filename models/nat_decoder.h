/* nat_decoder.h: a trained non-autoregressive model ready to translate.
 *
 *     argmax        for each length T tried, one pass: each position's likeliest word
 *     mask-predict  the same, then passes 1 .. I-1 in which the least certain words are said again
 *                   (Ghazvininejad et al. 2019)
 *     ctc           a number of frames given by the source; likeliest path, merged
 *     ctc-beam      the same frames, prefix beam search, with an n-gram model if there is one
 *                   (ctc_beam.h)
 *
 * A candidate's log-probability is the sum over the positions that were said, its score the mean:
 * of several lengths (length-parallel decoding) the one with the best score wins, unless a rescorer
 * chooses. docs/decoding.md tells more.
 *
 * Letters: B sentences, N candidates, S source length, T positions, D width, I passes. */
#ifndef WEIR_NAT_DECODER_H
#define WEIR_NAT_DECODER_H

#include "models/ctc_beam.h"
#include "models/nat.h"
#include "models/search.h"

typedef struct wr_nat_decoder wr_nat_decoder;

/* A decoder for `model` (used without dropout) whose parameters live in `session`; those that the
 * session does not have yet begin by their initialiser. `silent`: positions may say nothing (models
 * trained by ctc or axe); otherwise the blank is never chosen. Nothing is compiled before it is
 * needed, nothing is kept that depends on parameters. Free the decoder before the session. Errors:
 * WR_ERR_MEMORY. */
wr_status wr_nat_decoder_new(const wr_nat *model, bool silent, wr_session *session,
                             wr_nat_decoder **out, wr_error *err);
void wr_nat_decoder_free(wr_nat_decoder *d);
const wr_nat *wr_nat_decoder_model(const wr_nat_decoder *d);
wr_session *wr_nat_decoder_session(const wr_nat_decoder *d);

/* A program that reads every parameter of the model, for loading a checkpoint. It belongs to the
 * decoder and is compiled by the first call. */
wr_status wr_nat_decoder_program(wr_nat_decoder *d, wr_program **program, wr_error *err);

/* The most length candidates that a sentence can have; 0 where the source gives the number of
 * frames. */
int wr_nat_decoder_lengths(const wr_nat_decoder *d);
/* The most tokens of a source, its end included. */
int wr_nat_decoder_max_len(const wr_nat_decoder *d);

/* ---- translating ---- */

#define WR_NAT_METHODS(X)                                                                          \
    X(WR_NAT_ARGMAX, "argmax")                                                                     \
    X(WR_NAT_MASK_PREDICT, "mask-predict")                                                         \
    X(WR_NAT_CTC, "ctc")                                                                           \
    X(WR_NAT_CTC_BEAM, "ctc-beam")
#define WR__NAT_METHOD(name, text) name,
typedef enum wr_nat_method { WR_NAT_METHODS(WR__NAT_METHOD) WR_NAT_METHOD_COUNT } wr_nat_method;
#undef WR__NAT_METHOD

/* "mask-predict" and so on. */
const char *wr_nat_method_name(wr_nat_method method);

/* How to search. Start from wr_nat_search_defaults(). */
typedef struct wr_nat_search_options {
    wr_nat_method method;
    /* argmax, mask-predict */
    int lengths;          /* candidates of a sentence */
    bool window;          /* lengths around the likeliest one, not the likeliest ones */
    double length_factor; /* > 0: each length is multiplied by it and rounded, half up */
    int positions;        /* for measurements: so many of every sentence; 0: as predicted */
    int passes;           /* mask-predict: I >= 1 */
    bool adaptive;        /* mask-predict: a candidate is done when a pass changes no word */
    bool dedup;           /* a word equal to its left neighbour is left out of the text */
    /* ctc-beam */
    int beam;    /* K >= 1 */
    int symbols; /* words of a frame that are looked at, the likeliest, 2 at least; 0: all */
    const wr_ctc_lm *lm;         /* NULL: none */
    double lm_weight;            /* >= 0 */
    double length_bonus;         /* for each word */
    int nbest;                   /* translations told */
    const wr_rescorer *rescorer; /* chooses among the candidates; NULL: their scores do */
    size_t max_tokens;           /* about the most positions computed together; 0: 4096 */
    int max_sentences;           /* encoded together */
    void (*progress)(void *context, size_t done, size_t total); /* sentences; may be NULL */
    void *context;
} wr_nat_search_options;

/* ctc for a model with frames that may say nothing and merges (`merges`: trained by ctc),
 * mask-predict where words can be given again (`iterates`: trained by cmlm), else argmax; 1 length,
 * factor 1, 10 passes, beam 20 over 40 words a frame, one translation told. */
wr_nat_search_options wr_nat_search_defaults(bool merges, bool iterates);

/* Translate n sources (ids without end, which is added). A source that is too long is cut. `out` is
 * sorted, best first; the same text is told once. logp is the candidate's log-probability, the
 * rescorer's, or for ctc-beam that of all paths of the text; score is what candidates are sorted
 * by: logp / positions said, the rescorer's score, or ctc-beam's judgement. Results do not depend
 * on how sentences are batched, up to rounding, nor on the number of threads. Errors: WR_ERR_INPUT
 * for impossible options (also more lengths than any sentence can have, or a method that does not
 * fit the model), an id outside the vocabulary, or a model whose output is not finite;
 * WR_ERR_MEMORY. `*out` is then empty. */
wr_status wr_nat_search(wr_nat_decoder *d, const wr_sentence *src, size_t n,
                        const wr_nat_search_options *o, wr_translations *out, wr_error *err);

#endif
