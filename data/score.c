/* score.c: BLEU and chrF; see score.h for the contracts. */
#include "data/score.h"

#include "data/score_grams.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

struct wr_scorer {
    wr_score_options options;
    wr_tokenizer *tokenizer;
    wr__names names;
    wr__grams grams;
    uint32_t *symbols; /* a sentence as numbers: words (BLEU) or characters (chrF) */
    size_t cap_symbols;
};

static const char *const smooth_names[] = {[WR_SMOOTH_EXP] = "exp",
                                           [WR_SMOOTH_NONE] = "none",
                                           [WR_SMOOTH_FLOOR] = "floor",
                                           [WR_SMOOTH_ADD_K] = "add-k"};

const char *wr_smooth_name(wr_smooth smooth) { return smooth_names[smooth]; }

bool wr_smooth_parse(const char *name, wr_smooth *smooth) {
    for (size_t i = 0; i < sizeof smooth_names / sizeof smooth_names[0]; i++) {
        if (strcmp(name, smooth_names[i]) != 0) continue;
        *smooth = (wr_smooth)i;
        return true;
    }
    return false;
}

/* ---- BLEU: the formula ---- */

static double smooth_value(const wr_score_options *options) {
    if (options->smooth_value > 0) return options->smooth_value;
    return options->smooth == WR_SMOOTH_FLOOR ? 0.1 : 1.0;
}

static double brevity_penalty(const wr_bleu_stats *s) {
    if (s->hyp_len >= s->ref_len) return 1.0;
    return s->hyp_len == 0 ? 0.0 : exp(1.0 - (double)s->ref_len / (double)s->hyp_len);
}

/* Fill in the precisions; returns how many orders the hypotheses reach. */
static int precisions(const wr_bleu_stats *s, const wr_score_options *options, double *out) {
    double value = smooth_value(options), missed = 1.0;
    int n = 0;
    for (; n < WR_BLEU_ORDER; n++) {
        double add = options->smooth == WR_SMOOTH_ADD_K && n > 0 ? value : 0.0;
        double correct = (double)s->correct[n] + add, total = (double)s->total[n] + add;
        if (total == 0.0) break;
        if (correct > 0.0) {
            out[n] = 100.0 * correct / total;
        } else if (options->smooth == WR_SMOOTH_EXP) {
            missed *= 2.0;
            out[n] = 100.0 / (missed * total);
        } else if (options->smooth == WR_SMOOTH_FLOOR) {
            out[n] = 100.0 * value / total;
        }
    }
    return n;
}

wr_bleu_result wr_bleu_from_stats(const wr_bleu_stats *stats, const wr_score_options *options) {
    wr_bleu_result r = {.stats = *stats, .bp = brevity_penalty(stats)};
    uint64_t any = 0;
    for (int n = 0; n < WR_BLEU_ORDER; n++)
        any += stats->correct[n];
    if (any == 0) return r;
    int reached = precisions(stats, options, r.precisions);
    int order = options->effective_order ? reached : WR_BLEU_ORDER;
    double sum = 0.0;
    for (int n = 0; n < order; n++) {
        if (r.precisions[n] == 0.0) return r; /* a factor of the geometric mean is 0 */
        sum += log(r.precisions[n]);
    }
    r.score = r.bp * exp(sum / order);
    return r;
}

/* ---- chrF: the formula ---- */

static double ratio(uint64_t part, uint64_t whole) {
    return whole > 0 ? (double)part / (double)whole : 0.0;
}

static double chrf_score(const wr_chrf_stats *s) {
    double precision = 0.0, recall = 0.0, factor = WR_CHRF_BETA * WR_CHRF_BETA;
    int orders = 0;
    for (int n = 0; n < WR_CHRF_ORDER; n++) {
        if (s->hyp[n] == 0 || s->ref[n] == 0) continue;
        precision += ratio(s->matches[n], s->hyp[n]);
        recall += ratio(s->matches[n], s->ref[n]);
        orders++;
    }
    if (orders == 0 || precision + recall == 0.0) return 0.0;
    precision /= orders;
    recall /= orders;
    return 100.0 * ((1.0 + factor) * precision * recall / (factor * precision + recall));
}

wr_chrf_result wr_chrf_from_stats(const wr_chrf_stats *stats) {
    return (wr_chrf_result){.score = chrf_score(stats), .stats = *stats};
}

/* ---- sentences ---- */

wr_status wr_scorer_new(const wr_score_options *options, wr_scorer **out, wr_error *err) {
    *out = NULL;
    wr_scorer *s = calloc(1, sizeof *s);
    if (s == NULL) return wr_fail_memory(err, "a scorer", sizeof *s);
    s->options = *options;
    wr_status status = wr_tokenizer_new(options->tok, options->lowercase, &s->tokenizer, err);
    if (status != WR_OK) {
        wr_scorer_free(s);
        return status;
    }
    *out = s;
    return WR_OK;
}

void wr_scorer_free(wr_scorer *s) {
    if (s == NULL) return;
    wr_tokenizer_free(s->tokenizer);
    wr__names_free(&s->names);
    wr__grams_free(&s->grams);
    free(s->symbols);
    free(s);
}

static wr_status need_references(size_t n_refs, wr_error *err) {
    if (n_refs > 0) return WR_OK;
    return wr_fail(err, WR_ERR_INPUT, "no reference to score against; give at least one");
}

static wr_status room_for_symbols(wr_scorer *s, size_t n, wr_error *err) {
    if (wr_grow(&s->symbols, &s->cap_symbols, n, sizeof *s->symbols)) return WR_OK;
    return wr_fail_memory(err, "a sentence to score", n * sizeof *s->symbols);
}

/* The sentence as word numbers in s->symbols[0..*n). */
static wr_status to_words(wr_scorer *s, wr_segment text, size_t *n, wr_error *err) {
    const wr_token *tokens;
    wr_status status = wr_tokenizer_run(s->tokenizer, text.text, text.len, &tokens, n, err);
    if (status == WR_OK) status = room_for_symbols(s, *n, err);
    for (size_t i = 0; i < *n && status == WR_OK; i++)
        status = wr__names_get(&s->names, tokens[i].at, tokens[i].len, &s->symbols[i], err);
    return status;
}

/* The sentence as code points without white space in s->symbols[0..*n). */
static wr_status to_characters(wr_scorer *s, wr_segment text, size_t *n, wr_error *err) {
    const char *at;
    size_t len;
    *n = 0;
    wr_status status = wr_tokenizer_fold(s->tokenizer, text.text, text.len, &at, &len, err);
    if (status == WR_OK) status = room_for_symbols(s, len, err);
    if (status != WR_OK) return status;
    for (const char *end = at + len; at < end;) {
        size_t space = wr_utf8_space(at, (size_t)(end - at));
        if (space > 0) {
            at += space;
            continue;
        }
        utf8proc_int32_t cp;
        at += utf8proc_iterate((const utf8proc_uint8_t *)at, end - at, &cp);
        s->symbols[(*n)++] = (uint32_t)cp;
    }
    return WR_OK;
}

/* Of two reference lengths the one closer to the hypothesis, the shorter when they tie. */
static size_t closer_length(size_t hyp, size_t a, size_t b) {
    size_t da = a > hyp ? a - hyp : hyp - a, db = b > hyp ? b - hyp : hyp - b;
    if (da != db) return da < db ? a : b;
    return a < b ? a : b;
}

/* How many n-grams a sequence of `len` symbols has. */
static uint64_t count_grams(size_t len, size_t order) { return len < order ? 0 : len - order + 1; }

/* Store the references' n-grams; their lengths go behind each other into `lengths`. */
static wr_status store_references(wr_scorer *s, const wr_segment *refs, size_t n_refs,
                                  size_t *lengths, wr_error *err) {
    for (size_t r = 0; r < n_refs; r++) {
        wr_status status = to_words(s, refs[r], &lengths[r], err);
        if (status == WR_OK)
            status = wr__grams_store(&s->grams, s->symbols, lengths[r], WR_BLEU_ORDER, err);
        if (status != WR_OK) return status;
    }
    return WR_OK;
}

static wr_status bleu_counts(wr_scorer *s, wr_segment hyp, const wr_segment *refs, size_t n_refs,
                             size_t *lengths, wr_bleu_stats *sum, wr_error *err) {
    size_t n;
    wr_status status = wr__names_clear(&s->names, err);
    if (status == WR_OK) status = wr__grams_clear(&s->grams, err);
    if (status == WR_OK) status = store_references(s, refs, n_refs, lengths, err);
    if (status == WR_OK) status = to_words(s, hyp, &n, err);
    if (status != WR_OK) return status;
    wr__grams_common(&s->grams, s->symbols, n, WR_BLEU_ORDER, sum->correct);
    size_t closest = lengths[0];
    for (size_t r = 1; r < n_refs; r++)
        closest = closer_length(n, closest, lengths[r]);
    sum->hyp_len += n;
    sum->ref_len += closest;
    for (size_t k = 0; k < WR_BLEU_ORDER; k++)
        sum->total[k] += count_grams(n, k + 1);
    return WR_OK;
}

wr_status wr_scorer_add_bleu(wr_scorer *s, wr_segment hyp, const wr_segment *refs, size_t n_refs,
                             wr_bleu_stats *sum, wr_error *err) {
    wr_status status = need_references(n_refs, err);
    if (status != WR_OK) return status;
    size_t few[8], *lengths = few;
    if (n_refs > sizeof few / sizeof few[0]) lengths = malloc(n_refs * sizeof *lengths);
    if (lengths == NULL) return wr_fail_memory(err, "reference lengths", n_refs * sizeof *lengths);
    status = bleu_counts(s, hyp, refs, n_refs, lengths, sum, err);
    if (lengths != few) free(lengths);
    return status;
}

/* Counts of one reference against the stored hypothesis of `n_hyp` characters. */
static wr_status chrf_counts(wr_scorer *s, size_t n_hyp, wr_segment ref, wr_chrf_stats *out,
                             wr_error *err) {
    size_t n;
    *out = (wr_chrf_stats){0};
    wr_status status = to_characters(s, ref, &n, err);
    if (status != WR_OK) return status;
    wr__grams_common(&s->grams, s->symbols, n, WR_CHRF_ORDER, out->matches);
    for (size_t k = 0; k < WR_CHRF_ORDER; k++) {
        out->ref[k] = count_grams(n, k + 1);
        out->hyp[k] = out->ref[k] > 0 ? count_grams(n_hyp, k + 1) : 0;
    }
    return WR_OK;
}

wr_status wr_scorer_add_chrf(wr_scorer *s, wr_segment hyp, const wr_segment *refs, size_t n_refs,
                             wr_chrf_stats *sum, wr_error *err) {
    size_t n;
    wr_status status = need_references(n_refs, err);
    if (status == WR_OK) status = wr__grams_clear(&s->grams, err);
    if (status == WR_OK) status = to_characters(s, hyp, &n, err);
    if (status == WR_OK) status = wr__grams_store(&s->grams, s->symbols, n, WR_CHRF_ORDER, err);
    wr_chrf_stats best = {0};
    double best_score = -1.0;
    for (size_t r = 0; r < n_refs && status == WR_OK; r++) {
        wr_chrf_stats one;
        status = chrf_counts(s, n, refs[r], &one, err);
        if (status != WR_OK) return status;
        double score = chrf_score(&one);
        if (score <= best_score) continue; /* the first of equals */
        best_score = score;
        best = one;
    }
    if (status != WR_OK) return status;
    for (size_t k = 0; k < WR_CHRF_ORDER; k++) {
        sum->hyp[k] += best.hyp[k];
        sum->ref[k] += best.ref[k];
        sum->matches[k] += best.matches[k];
    }
    return WR_OK;
}

/* ---- signatures ---- */

static const char *yes_no(bool yes) { return yes ? "yes" : "no"; }
static const char *letter_case(const wr_score_options *o) { return o->lowercase ? "lc" : "mixed"; }

void wr_bleu_signature(const wr_score_options *options, size_t n_refs, wr_str *out) {
    wr_str_add(out, "nrefs:%zu|case:%s|eff:%s|tok:%s|smooth:%s", n_refs, letter_case(options),
               yes_no(options->effective_order), wr_tok_name(options->tok),
               wr_smooth_name(options->smooth));
    if (options->smooth == WR_SMOOTH_FLOOR || options->smooth == WR_SMOOTH_ADD_K)
        wr_str_add(out, "[%.2f]", smooth_value(options));
    wr_str_add(out, "|version:%s", WR_SCORE_VERSION);
}

void wr_chrf_signature(const wr_score_options *options, size_t n_refs, wr_str *out) {
    wr_str_add(out, "nrefs:%zu|case:%s|eff:yes|nc:%d|nw:0|space:no|version:%s", n_refs,
               letter_case(options), WR_CHRF_ORDER, WR_SCORE_VERSION);
}
