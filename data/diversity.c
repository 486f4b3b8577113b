/* diversity.c: see diversity.h. */
#include "data/diversity.h"

#include <stdlib.h>
#include <string.h>

/* ---- groups ---- */

void wr_groups_free(wr_groups *groups) {
    free(groups->at);
    free(groups->candidate);
    *groups = (wr_groups){0};
}

static wr_status reserve(wr_groups *g, size_t lines, wr_error *err) {
    *g = (wr_groups){0};
    g->at = calloc(lines + 1, sizeof *g->at);
    g->candidate = malloc(sizeof *g->candidate * (lines + 1));
    if (g->at != NULL && g->candidate != NULL) return WR_OK;
    return wr_fail_memory(err, "candidates", sizeof *g->candidate * (lines + 1));
}

/* All candidates are there and at[0..n-1] is set. */
static void finish(wr_groups *g, size_t lines) {
    g->at[g->n] = lines;
    for (size_t s = 0; s < g->n; s++)
        if (g->at[s + 1] - g->at[s] > g->widest) g->widest = g->at[s + 1] - g->at[s];
}

wr_status wr_groups_consecutive(const wr_text *text, size_t each, wr_groups *out, wr_error *err) {
    if (each == 0 || text->n % each != 0)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s has %zu lines, which are not groups of %zu; every sentence needs the "
                       "same number of candidates, one after the other",
                       text->path, text->n, each);
    wr_status status = reserve(out, text->n, err);
    if (status != WR_OK) {
        wr_groups_free(out);
        return status;
    }
    for (size_t i = 0; i < text->n; i++) {
        if (i % each == 0) out->at[out->n++] = i;
        out->candidate[i] = (wr_segment){text->line[i], text->len[i]};
    }
    finish(out, text->n);
    return WR_OK;
}

/* The number at the start of the line, 0 when there is none; `*at` becomes what is behind its tab.
 */
static size_t read_number(const char **at) {
    size_t digits = strspn(*at, "0123456789");
    if (digits == 0 || digits > 15 || (*at)[digits] != '\t') return 0;
    size_t number = (size_t)strtoull(*at, NULL, 10);
    *at += digits + 1;
    return number;
}

/* Skip two numbers, each with its tab. */
static bool skip_scores(const char **at) {
    for (int i = 0; i < 2; i++) {
        char *end;
        strtod(*at, &end);
        if (end == *at || *end != '\t') return false;
        *at = end + 1;
    }
    return true;
}

static wr_status read_numbered(const wr_text *text, size_t i, bool scores, wr_groups *out,
                               wr_error *err) {
    const char *at = text->line[i];
    size_t number = read_number(&at);
    if (number == 0)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s:%zu: does not begin with the number of a sentence and a tab, as `weir "
                       "translate --nbest` writes; with plain lines use --group N",
                       text->path, i + 1);
    if (scores && !skip_scores(&at))
        return wr_fail(err, WR_ERR_INPUT,
                       "%s:%zu: has no two scores behind the sentence's number; leave out --scores "
                       "unless `weir translate` had it too",
                       text->path, i + 1);
    if (number != out->n && number != out->n + 1)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s:%zu: sentence %zu comes after sentence %zu; sentences must be in order "
                       "and none may be missing",
                       text->path, i + 1, number, out->n);
    if (number == out->n + 1) out->at[out->n++] = i;
    out->candidate[i] = (wr_segment){at, text->len[i] - (size_t)(at - text->line[i])};
    return WR_OK;
}

wr_status wr_groups_numbered(const wr_text *text, bool scores, wr_groups *out, wr_error *err) {
    wr_status status = reserve(out, text->n, err);
    for (size_t i = 0; status == WR_OK && i < text->n; i++)
        status = read_numbered(text, i, scores, out, err);
    if (status == WR_OK)
        finish(out, text->n);
    else
        wr_groups_free(out);
    return status;
}

/* ---- measuring ---- */

/* Counts of corpora; K is the widest group. */
typedef struct sums {
    const wr_groups *g;
    const wr_text *refs;
    size_t n_refs;
    const wr_score_options *options;
    wr_scorer *scorer;
    wr_bleu_stats *pair;    /* [K,K] y_i with reference y_j */
    wr_bleu_stats *rest;    /* [K] y_i with all others */
    wr_bleu_stats *against; /* [K] y_i with the references */
    wr_bleu_stats oracle;
    wr_segment *others; /* [K + n_refs] */
    size_t distinct;
} sums;

static void add_stats(wr_bleu_stats *to, const wr_bleu_stats *x) {
    to->hyp_len += x->hyp_len;
    to->ref_len += x->ref_len;
    for (int m = 0; m < WR_BLEU_ORDER; m++) {
        to->correct[m] += x->correct[m];
        to->total[m] += x->total[m];
    }
}

static bool same_segment(wr_segment a, wr_segment b) {
    return a.len == b.len && memcmp(a.text, b.text, a.len) == 0;
}

static size_t count_distinct(const wr_segment *y, size_t k) {
    size_t distinct = 0;
    for (size_t i = 0; i < k; i++) {
        size_t j = 0;
        while (j < i && !same_segment(y[i], y[j]))
            j++;
        distinct += j == i;
    }
    return distinct;
}

/* Candidate i with every other one alone, and with all of them. */
static wr_status add_candidate(sums *s, const wr_segment *y, size_t k, size_t i, wr_error *err) {
    size_t n = 0;
    wr_status status = WR_OK;
    for (size_t j = 0; status == WR_OK && j < k; j++) {
        if (j == i) continue;
        wr_bleu_stats *to = &s->pair[i * s->g->widest + j];
        status = wr_scorer_add_bleu(s->scorer, y[i], &y[j], 1, to, err);
        s->others[n++] = y[j];
    }
    if (status != WR_OK || n == 0) return status;
    return wr_scorer_add_bleu(s->scorer, y[i], s->others, n, &s->rest[i], err);
}

/* The candidates of sentence `at` with its references. */
static wr_status add_references(sums *s, const wr_segment *y, size_t k, size_t at, wr_error *err) {
    wr_score_options sentence = *s->options;
    sentence.effective_order = true;
    wr_bleu_stats best = {0};
    double best_score = -1;
    for (size_t r = 0; r < s->n_refs; r++)
        s->others[r] = (wr_segment){s->refs[r].line[at], s->refs[r].len[at]};
    for (size_t i = 0; i < k; i++) {
        wr_bleu_stats x = {0};
        wr_status status = wr_scorer_add_bleu(s->scorer, y[i], s->others, s->n_refs, &x, err);
        if (status != WR_OK) return status;
        double score = wr_bleu_from_stats(&x, &sentence).score;
        add_stats(&s->against[i], &x);
        if (score <= best_score) continue;
        best_score = score;
        best = x;
    }
    add_stats(&s->oracle, &best);
    return WR_OK;
}

static wr_status add_sentence(sums *s, size_t at, wr_error *err) {
    const wr_segment *y = s->g->candidate + s->g->at[at];
    size_t k = s->g->at[at + 1] - s->g->at[at];
    wr_status status = WR_OK;
    s->distinct += count_distinct(y, k);
    for (size_t i = 0; status == WR_OK && i < k; i++)
        status = add_candidate(s, y, k, i, err);
    if (status == WR_OK && s->n_refs > 0) status = add_references(s, y, k, at, err);
    return status;
}

/* ---- results ---- */

/* Accumulates the mean of the corpora that hold anything. */
typedef struct mean {
    double sum;
    size_t n;
} mean;

static void add_score(mean *m, const sums *s, const wr_bleu_stats *x, bool there) {
    if (!there) return;
    m->sum += wr_bleu_from_stats(x, s->options).score;
    m->n++;
}

static double mean_of(mean m) { return m.n == 0 ? 0 : m.sum / (double)m.n; }

/* All i, j below `widest` are there: the widest sentence has them. */
static void summarise(const sums *s, wr_diversity *out) {
    size_t K = s->g->widest;
    wr_bleu_stats pooled = {0};
    mean pairwise = {0}, rest = {0}, average = {0};
    for (size_t i = 0; i < K; i++) {
        for (size_t j = 0; j < K; j++) {
            add_score(&pairwise, s, &s->pair[i * K + j], i != j);
            add_stats(&pooled, &s->pair[i * K + j]);
        }
        add_score(&rest, s, &s->rest[i], true);
        add_score(&average, s, &s->against[i], s->n_refs > 0);
    }
    *out = (wr_diversity){.sentences = s->g->n,
                          .candidates = s->g->at[s->g->n],
                          .pairwise = mean_of(pairwise),
                          .pairwise_pooled = wr_bleu_from_stats(&pooled, s->options).score,
                          .leave_one_out = mean_of(rest),
                          .average = mean_of(average)};
    out->distinct = (double)s->distinct / (double)out->candidates;
    if (s->n_refs == 0) return;
    out->first = wr_bleu_from_stats(&s->against[0], s->options).score;
    out->oracle = wr_bleu_from_stats(&s->oracle, s->options).score;
}

static wr_status check(const wr_groups *g, const wr_text *refs, size_t n_refs, wr_error *err) {
    if (g->widest < 2)
        return wr_fail(err, WR_ERR_INPUT,
                       "no sentence has two candidates, so that there is nothing to compare");
    for (size_t r = 0; r < n_refs; r++)
        if (refs[r].n != g->n)
            return wr_fail(err, WR_ERR_INPUT,
                           "%s has %zu lines, but there are candidates for %zu sentences",
                           refs[r].path, refs[r].n, g->n);
    return WR_OK;
}

static wr_status begin(sums *s, wr_error *err) {
    size_t K = s->g->widest;
    s->pair = calloc(K * K, sizeof *s->pair);
    s->rest = calloc(K, sizeof *s->rest);
    s->against = calloc(K, sizeof *s->against);
    s->others = malloc(sizeof *s->others * (K + s->n_refs));
    if (s->pair == NULL || s->rest == NULL || s->against == NULL || s->others == NULL)
        return wr_fail_memory(err, "counts", K * K * sizeof *s->pair);
    return wr_scorer_new(s->options, &s->scorer, err);
}

wr_status wr_diversity_measure(const wr_groups *groups, const wr_text *refs, size_t n_refs,
                               const wr_score_options *options, wr_diversity_progress *progress,
                               void *context, wr_diversity *out, wr_error *err) {
    *out = (wr_diversity){0};
    wr_status status = check(groups, refs, n_refs, err);
    if (status != WR_OK) return status;
    sums s = {.g = groups, .refs = refs, .n_refs = n_refs, .options = options};
    status = begin(&s, err);
    for (size_t i = 0; status == WR_OK && i < groups->n; i++) {
        status = add_sentence(&s, i, err);
        if (progress != NULL && i % 64 == 0) progress(context, (double)i / (double)groups->n);
    }
    if (status == WR_OK) summarise(&s, out);
    wr_scorer_free(s.scorer);
    free(s.pair);
    free(s.rest);
    free(s.against);
    free(s.others);
    return status;
}
