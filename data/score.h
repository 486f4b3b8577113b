/* score.h: BLEU and chrF of translations, equal to sacreBLEU 2.x.
 *
 * BLEU is Papineni et al. (2002) with the tokenisation, the smoothing and the brevity penalty of
 * sacreBLEU (Post 2018); chrF is Popovic (2015) with character 1- to 6-grams, beta 2, white space
 * left out. Both sum counts over sentences; a corpus score is one formula on the sums, so counts
 * may be gathered in any order and in parts. Scores are on the scale 0..100. */
#ifndef WEIR_DATA_SCORE_H
#define WEIR_DATA_SCORE_H

#include "data/text.h"
#include "data/tokenize.h"
#include "graph/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Stands in signatures; changes with any release that could change a score. */
#define WR_SCORE_VERSION "weir-0.1.0"

enum { WR_BLEU_ORDER = 4, WR_CHRF_ORDER = 6, WR_CHRF_BETA = 2 };

/* What a precision without a match counts (Chen and Cherry 2014). */
typedef enum wr_smooth {
    WR_SMOOTH_EXP,   /* 1/2, 1/4, ... of a match for the first, second, ... such order */
    WR_SMOOTH_NONE,  /* nothing: the score is 0 */
    WR_SMOOTH_FLOOR, /* smooth_value matches (0.1 when smooth_value is 0) */
    WR_SMOOTH_ADD_K  /* smooth_value (1 when 0) more matches and n-grams in orders above 1 */
} wr_smooth;

/* "exp", "none", "floor" or "add-k". */
const char *wr_smooth_name(wr_smooth smooth);
bool wr_smooth_parse(const char *name, wr_smooth *smooth);

/* All zero is sacreBLEU's default: 13a, case kept, exponential smoothing. */
typedef struct wr_score_options {
    wr_tok tok;           /* BLEU only */
    bool lowercase;       /* BLEU and chrF */
    wr_smooth smooth;     /* BLEU only */
    double smooth_value;  /* FLOOR and ADD_K; 0: their default */
    bool effective_order; /* BLEU: leave out orders longer than every hypothesis; the sentence
                           * functions always do */
} wr_score_options;

/* ---- BLEU ---- */

/* Sums over sentences. Zero-initialise; add the sums of parts field by field. */
typedef struct wr_bleu_stats {
    uint64_t hyp_len; /* tokens of the hypotheses */
    uint64_t ref_len; /* tokens of the references closest in length, the shorter of two */
    uint64_t correct[WR_BLEU_ORDER]; /* n-grams found in a reference, clipped */
    uint64_t total[WR_BLEU_ORDER];   /* n-grams of the hypotheses */
} wr_bleu_stats;

typedef struct wr_bleu_result {
    double score;                     /* 0..100 */
    double precisions[WR_BLEU_ORDER]; /* per cent, smoothed; all 0 when nothing matches */
    double bp;                        /* brevity penalty, 0..1 */
    wr_bleu_stats stats;
} wr_bleu_result;

/* The score of gathered counts. */
wr_bleu_result wr_bleu_from_stats(const wr_bleu_stats *stats, const wr_score_options *options);

/* ---- chrF ---- */

/* Sums over sentences, as above; the reference of a sentence is the one with the best chrF. */
typedef struct wr_chrf_stats {
    uint64_t hyp[WR_CHRF_ORDER];     /* n-grams of hypotheses whose reference has any */
    uint64_t ref[WR_CHRF_ORDER];     /* n-grams of the references */
    uint64_t matches[WR_CHRF_ORDER]; /* common n-grams, clipped */
} wr_chrf_stats;

typedef struct wr_chrf_result {
    double score; /* 0..100: F of the mean precision and the mean recall */
    wr_chrf_stats stats;
} wr_chrf_result;

wr_chrf_result wr_chrf_from_stats(const wr_chrf_stats *stats);

/* ---- sentence by sentence ---- */

/* Tables and a tokeniser for any number of sentences; one thread uses it at a time. */
typedef struct wr_scorer wr_scorer;
wr_status wr_scorer_new(const wr_score_options *options, wr_scorer **out, wr_error *err);
void wr_scorer_free(wr_scorer *s);

/* A piece of text: valid UTF-8, `len` bytes, not necessarily NUL-terminated. */
typedef struct wr_segment {
    const char *text;
    size_t len;
} wr_segment;

/* Add the counts of one sentence with its n_refs >= 1 references. Errors: text that is not UTF-8,
 * no reference (WR_ERR_INPUT), memory; the sums are then unchanged. */
wr_status wr_scorer_add_bleu(wr_scorer *s, wr_segment hyp, const wr_segment *refs, size_t n_refs,
                             wr_bleu_stats *sum, wr_error *err);
wr_status wr_scorer_add_chrf(wr_scorer *s, wr_segment hyp, const wr_segment *refs, size_t n_refs,
                             wr_chrf_stats *sum, wr_error *err);

/* ---- whole corpora ---- */

/* Whether files can be scored: n_refs >= 1 references with as many lines as `hyp`, and at least one
 * line. Errors: WR_ERR_INPUT naming the files and both counts. */
wr_status wr_score_check(const wr_text *hyp, const wr_text *refs, size_t n_refs, wr_error *err);

/* BLEU or chrF of a corpus: hypothesis i is compared with line i of each of the n_refs >= 1
 * references. Errors: files of different length (names both counts), no lines, memory. */
wr_status wr_bleu(const wr_text *hyp, const wr_text *refs, size_t n_refs,
                  const wr_score_options *options, wr_bleu_result *result, wr_error *err);
wr_status wr_chrf(const wr_text *hyp, const wr_text *refs, size_t n_refs,
                  const wr_score_options *options, wr_chrf_result *result, wr_error *err);

/* The same for n C strings each: hyp[i] with refs[r][i], r < n_refs. Errors: n or n_refs is 0,
 * a string that is not UTF-8 (names it by its number from 1), memory. */
wr_status wr_bleu_strings(const char *const *hyp, const char *const *const *refs, size_t n_refs,
                          size_t n, const wr_score_options *options, wr_bleu_result *result,
                          wr_error *err);
wr_status wr_chrf_strings(const char *const *hyp, const char *const *const *refs, size_t n_refs,
                          size_t n, const wr_score_options *options, wr_chrf_result *result,
                          wr_error *err);

/* One sentence as a corpus of its own; BLEU with effective order. refs[r], r < n_refs. */
wr_status wr_bleu_sentence(const char *hyp, const char *const *refs, size_t n_refs,
                           const wr_score_options *options, wr_bleu_result *result, wr_error *err);
wr_status wr_chrf_sentence(const char *hyp, const char *const *refs, size_t n_refs,
                           const wr_score_options *options, wr_chrf_result *result, wr_error *err);

/* ---- signatures ---- */

/* Append what makes a score comparable, in sacreBLEU's form:
 * "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:weir-0.1.0" and
 * "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:weir-0.1.0". */
void wr_bleu_signature(const wr_score_options *options, size_t n_refs, wr_str *out);
void wr_chrf_signature(const wr_score_options *options, size_t n_refs, wr_str *out);

#ifdef __cplusplus
}
#endif
#endif
