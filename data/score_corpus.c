/* score_corpus.c: scores of whole corpora and single sentences; see score.h. */
#include "data/score.h"

#include <stdlib.h>
#include <string.h>

/* A corpus seen line by line: either files or arrays of C strings. */
typedef struct corpus {
    const wr_text *hyp_text, *ref_texts;
    const char *const *hyp_strings;
    const char *const *const *ref_strings;
    size_t n, n_refs;
} corpus;

static wr_segment from_string(const char *text) { return (wr_segment){text, strlen(text)}; }

static wr_segment from_text(const wr_text *text, size_t i) {
    return (wr_segment){text->line[i], text->len[i]};
}

static wr_segment get_hyp(const corpus *c, size_t i) {
    return c->hyp_text != NULL ? from_text(c->hyp_text, i) : from_string(c->hyp_strings[i]);
}

static wr_segment get_ref(const corpus *c, size_t r, size_t i) {
    return c->ref_texts != NULL ? from_text(&c->ref_texts[r], i)
                                : from_string(c->ref_strings[r][i]);
}

static wr_status check_corpus(const corpus *c, wr_error *err) {
    if (c->n_refs == 0)
        return wr_fail(err, WR_ERR_INPUT, "no reference to score against; give at least one");
    for (size_t r = 0; c->ref_texts != NULL && r < c->n_refs; r++) {
        const wr_text *ref = &c->ref_texts[r];
        if (ref->n == c->n) continue;
        return wr_fail(
            err, WR_ERR_INPUT,
            "%s has %zu lines and %s has %zu; line i of one must translate line i of the "
            "other, so both need the same number",
            c->hyp_text->path, c->n, ref->path, ref->n);
    }
    if (c->n == 0) return wr_fail(err, WR_ERR_INPUT, "there are no sentences to score");
    return WR_OK;
}

/* Where both metrics' counts go; a NULL one is not counted. */
typedef struct sums {
    wr_bleu_stats *bleu;
    wr_chrf_stats *chrf;
} sums;

static wr_status add_sentences(const corpus *c, wr_scorer *s, wr_segment *refs, sums to,
                               wr_error *err) {
    for (size_t i = 0; i < c->n; i++) {
        wr_error why = {0};
        wr_status status = WR_OK;
        for (size_t r = 0; r < c->n_refs; r++)
            refs[r] = get_ref(c, r, i);
        if (to.bleu != NULL)
            status = wr_scorer_add_bleu(s, get_hyp(c, i), refs, c->n_refs, to.bleu, &why);
        if (to.chrf != NULL && status == WR_OK)
            status = wr_scorer_add_chrf(s, get_hyp(c, i), refs, c->n_refs, to.chrf, &why);
        if (status != WR_OK)
            return wr_fail(err, status, "sentence %zu of %zu: %s", i + 1, c->n, why.text);
    }
    return WR_OK;
}

static wr_status score_corpus(const corpus *c, const wr_score_options *options, sums to,
                              wr_error *err) {
    wr_status status = check_corpus(c, err);
    if (status != WR_OK) return status;
    wr_scorer *s = NULL;
    wr_segment *refs = malloc(c->n_refs * sizeof *refs);
    if (refs == NULL) return wr_fail_memory(err, "references", c->n_refs * sizeof *refs);
    status = wr_scorer_new(options, &s, err);
    if (status == WR_OK) status = add_sentences(c, s, refs, to, err);
    wr_scorer_free(s);
    free(refs);
    return status;
}

static wr_status corpus_bleu(const corpus *c, const wr_score_options *options,
                             wr_bleu_result *result, wr_error *err) {
    wr_bleu_stats stats = {0};
    *result = (wr_bleu_result){0};
    wr_status status = score_corpus(c, options, (sums){.bleu = &stats}, err);
    if (status == WR_OK) *result = wr_bleu_from_stats(&stats, options);
    return status;
}

static wr_status corpus_chrf(const corpus *c, const wr_score_options *options,
                             wr_chrf_result *result, wr_error *err) {
    wr_chrf_stats stats = {0};
    *result = (wr_chrf_result){0};
    wr_status status = score_corpus(c, options, (sums){.chrf = &stats}, err);
    if (status == WR_OK) *result = wr_chrf_from_stats(&stats);
    return status;
}

/* ---- entry points ---- */

wr_status wr_score_check(const wr_text *hyp, const wr_text *refs, size_t n_refs, wr_error *err) {
    corpus c = {.hyp_text = hyp, .ref_texts = refs, .n = hyp->n, .n_refs = n_refs};
    return check_corpus(&c, err);
}

wr_status wr_bleu(const wr_text *hyp, const wr_text *refs, size_t n_refs,
                  const wr_score_options *options, wr_bleu_result *result, wr_error *err) {
    corpus c = {.hyp_text = hyp, .ref_texts = refs, .n = hyp->n, .n_refs = n_refs};
    return corpus_bleu(&c, options, result, err);
}

wr_status wr_chrf(const wr_text *hyp, const wr_text *refs, size_t n_refs,
                  const wr_score_options *options, wr_chrf_result *result, wr_error *err) {
    corpus c = {.hyp_text = hyp, .ref_texts = refs, .n = hyp->n, .n_refs = n_refs};
    return corpus_chrf(&c, options, result, err);
}

wr_status wr_bleu_strings(const char *const *hyp, const char *const *const *refs, size_t n_refs,
                          size_t n, const wr_score_options *options, wr_bleu_result *result,
                          wr_error *err) {
    corpus c = {.hyp_strings = hyp, .ref_strings = refs, .n = n, .n_refs = n_refs};
    return corpus_bleu(&c, options, result, err);
}

wr_status wr_chrf_strings(const char *const *hyp, const char *const *const *refs, size_t n_refs,
                          size_t n, const wr_score_options *options, wr_chrf_result *result,
                          wr_error *err) {
    corpus c = {.hyp_strings = hyp, .ref_strings = refs, .n = n, .n_refs = n_refs};
    return corpus_chrf(&c, options, result, err);
}

/* One sentence's counts with a scorer of its own. */
static wr_status sentence_stats(const char *hyp, const char *const *refs, size_t n_refs,
                                const wr_score_options *options, sums to, wr_error *err) {
    wr_scorer *s = NULL;
    wr_segment *segments = malloc((n_refs + 1) * sizeof *segments);
    if (segments == NULL) return wr_fail_memory(err, "references", n_refs * sizeof *segments);
    for (size_t r = 0; r < n_refs; r++)
        segments[r] = from_string(refs[r]);
    wr_status status = wr_scorer_new(options, &s, err);
    if (status == WR_OK && to.bleu != NULL)
        status = wr_scorer_add_bleu(s, from_string(hyp), segments, n_refs, to.bleu, err);
    if (status == WR_OK && to.chrf != NULL)
        status = wr_scorer_add_chrf(s, from_string(hyp), segments, n_refs, to.chrf, err);
    wr_scorer_free(s);
    free(segments);
    return status;
}

wr_status wr_bleu_sentence(const char *hyp, const char *const *refs, size_t n_refs,
                           const wr_score_options *options, wr_bleu_result *result, wr_error *err) {
    wr_bleu_stats stats = {0};
    wr_score_options effective = *options;
    effective.effective_order = true;
    *result = (wr_bleu_result){0};
    wr_status status = sentence_stats(hyp, refs, n_refs, &effective, (sums){.bleu = &stats}, err);
    if (status == WR_OK) *result = wr_bleu_from_stats(&stats, &effective);
    return status;
}

wr_status wr_chrf_sentence(const char *hyp, const char *const *refs, size_t n_refs,
                           const wr_score_options *options, wr_chrf_result *result, wr_error *err) {
    wr_chrf_stats stats = {0};
    *result = (wr_chrf_result){0};
    wr_status status = sentence_stats(hyp, refs, n_refs, options, (sums){.chrf = &stats}, err);
    if (status == WR_OK) *result = wr_chrf_from_stats(&stats);
    return status;
}
