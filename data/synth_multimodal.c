/* synth_multimodal.c: a language with several translations per sentence; see synth_multimodal.h
 * for the contracts. */
#include "data/synth_multimodal.h"
#include "data/draw.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the language ---- */

enum { PHRASES_MOST = 1000, PHRASE_MOST = 1000, LINES_MOST = 5000000 };

static bool orders(const wr_multimodal *m) { return m->kind != WR_MULTIMODAL_WORDS; }

static int vocabularies(const wr_multimodal *m) {
    return m->kind == WR_MULTIMODAL_ORDER ? 1 : m->modes;
}

wr_status wr_multimodal_check(const wr_multimodal *m, wr_error *err) {
    if (m->modes < 1 || m->modes > WR_MULTIMODAL_MODES_MOST)
        return wr_fail(err, WR_ERR_INPUT, "%d modes: allowed are 1 to %d", m->modes,
                       WR_MULTIMODAL_MODES_MOST);
    if (m->phrase < 1 || m->phrase > PHRASE_MOST)
        return wr_fail(err, WR_ERR_INPUT, "phrases of %d words: allowed are 1 to %d", m->phrase,
                       PHRASE_MOST);
    if (orders(m) && m->modes > m->phrase)
        return wr_fail(err, WR_ERR_INPUT,
                       "%d modes of order but phrases of %d words, which have %d rotations: take "
                       "fewer modes or longer phrases",
                       m->modes, m->phrase, m->phrase);
    if (m->min_phrases < 1 || m->max_phrases < m->min_phrases || m->max_phrases > PHRASES_MOST)
        return wr_fail(err, WR_ERR_INPUT,
                       "%d to %d phrases a sentence: allowed are 1 to %d, the smaller number first",
                       m->min_phrases, m->max_phrases, PHRASES_MOST);
    if (m->words < m->phrase)
        return wr_fail(err, WR_ERR_INPUT,
                       "%d words but phrases of %d different ones: take more words or shorter "
                       "phrases",
                       m->words, m->phrase);
    if (m->words > WR_MULTIMODAL_WORDS_MOST / vocabularies(m))
        return wr_fail(err, WR_ERR_INPUT,
                       "%d words in %d vocabularies: at most %d target words can be spelt",
                       m->words, vocabularies(m), WR_MULTIMODAL_WORDS_MOST);
    if (!(m->skew > 0 && m->skew <= 1))
        return wr_fail(err, WR_ERR_INPUT, "skew %g: allowed is above 0 and up to 1", m->skew);
    return WR_OK;
}

double wr_multimodal_probability(const wr_multimodal *m, int k) {
    double sum = 0, power = 1, own = 0;
    for (int i = 0; i < m->modes; i++, power *= m->skew) {
        sum += power;
        if (i == k) own = power;
    }
    return own / sum;
}

int wr_multimodal_target_words(const wr_multimodal *m) { return m->words * vocabularies(m); }

void wr_multimodal_translate(const wr_multimodal *m, const int32_t *src, int phrases,
                             const int32_t *mode, int32_t *tgt) {
    int n = m->phrase, many = vocabularies(m);
    for (int j = 0; j < phrases; j++, src += n, tgt += n)
        for (int i = 0; i < n; i++) {
            int32_t word = src[orders(m) ? (i + mode[j]) % n : i];
            tgt[i] = word * many + (many > 1 ? mode[j] : 0);
        }
}

/* 2467 has no divisor in common with 6400: neighbours are spelt differently, and no two alike. */
static void syllables(int32_t word, int *first, int *second) {
    int number = (int)((int64_t)word * 2467 % WR_MULTIMODAL_WORDS_MOST);
    *first = number / 80;
    *second = number % 80;
}

static const char CONSONANTS[] = "bdfghjklmnprstvz", VOWELS[] = "aeiou";

void wr_multimodal_source_word(int32_t word, wr_str *out) {
    int a, b;
    syllables(word, &a, &b);
    const char text[] = {CONSONANTS[a / 5], VOWELS[a % 5], CONSONANTS[b / 5], VOWELS[b % 5]};
    wr_str_bytes(out, text, sizeof text);
}

void wr_multimodal_target_word(int32_t word, wr_str *out) {
    int a, b;
    syllables(word, &a, &b);
    const char text[] = {VOWELS[a % 5], CONSONANTS[a / 5], VOWELS[b % 5], CONSONANTS[b / 5]};
    wr_str_bytes(out, text, sizeof text);
}

wr_multimodal_entropy wr_multimodal_exact(const wr_multimodal *m, int phrases) {
    double h = 0;
    for (int k = 0; k < m->modes; k++) {
        double q = wr_multimodal_probability(m, k);
        if (q > 0) h -= q * log(q);
    }
    return (wr_multimodal_entropy){.joint = phrases * h,
                                   .marginals = phrases * h * m->phrase,
                                   .correlation = phrases * h * (m->phrase - 1)};
}

/* ---- drawing ---- */

/* Sources that are drawn already: open addressing; a slot holds a source's number + 1. */
typedef struct seen {
    uint32_t *slot;
    size_t slots; /* a power of two */
} seen;

typedef struct draw {
    const wr_multimodal *m;
    wr__draw sources;
    int32_t *source; /* the distinct sources' words */
    size_t *at;      /* [sources + 1] */
    size_t cap;      /* of `source` */
    seen seen;
} draw;

static uint64_t hash(const int32_t *word, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ (uint32_t)word[i]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return h;
}

/* Remember source i, whose words are the last ones; false when an earlier one has the same. */
static bool remember(draw *d, size_t i) {
    size_t n = d->at[i + 1] - d->at[i], mask = d->seen.slots - 1;
    const int32_t *word = d->source + d->at[i];
    for (size_t s = (size_t)hash(word, n) & mask;; s = (s + 1) & mask) {
        if (d->seen.slot[s] == 0) {
            d->seen.slot[s] = (uint32_t)i + 1;
            return true;
        }
        size_t other = d->seen.slot[s] - 1;
        if (d->at[other + 1] - d->at[other] == n &&
            memcmp(d->source + d->at[other], word, n * sizeof *word) == 0)
            return false;
    }
}

/* A phrase of different words. Phrases are short, so that trying again is cheap: at worst (all W
 * words) the last one takes W tries on average. */
static void draw_phrase(draw *d, int32_t *word) {
    for (int i = 0; i < d->m->phrase;) {
        word[i] = (int32_t)wr__draw_below(&d->sources, (uint64_t)d->m->words);
        bool again = false;
        for (int k = 0; k < i; k++)
            again = again || word[k] == word[i];
        i += !again;
    }
}

static wr_status draw_source(draw *d, size_t i, wr_error *err) {
    const wr_multimodal *m = d->m;
    do {
        size_t phrases =
            (size_t)m->min_phrases +
            wr__draw_below(&d->sources, (uint64_t)(m->max_phrases - m->min_phrases) + 1);
        size_t n = phrases * (size_t)m->phrase;
        if (!wr_grow(&d->source, &d->cap, d->at[i] + n, sizeof *d->source))
            return wr_fail_memory(err, "sources", (d->at[i] + n) * sizeof *d->source);
        for (size_t j = 0; j < phrases; j++)
            draw_phrase(d, d->source + d->at[i] + j * (size_t)m->phrase);
        d->at[i + 1] = d->at[i] + n;
    } while (!remember(d, i));
    return WR_OK;
}

static wr_status draw_sources(draw *d, size_t n, wr_error *err) {
    wr_status status = WR_OK;
    d->seen.slots = 16;
    while (d->seen.slots < 2 * n)
        d->seen.slots *= 2;
    d->seen.slot = calloc(d->seen.slots, sizeof *d->seen.slot);
    d->at = calloc(n + 1, sizeof *d->at);
    if (d->seen.slot == NULL || d->at == NULL)
        return wr_fail_memory(err, "sources", d->seen.slots * 4 + (n + 1) * sizeof *d->at);
    for (size_t i = 0; i < n && status == WR_OK; i++)
        status = draw_source(d, i, err);
    return status;
}

/* Modes, one after the other. */
typedef struct modes {
    wr__draw draw;
    int n;
    double q[WR_MULTIMODAL_MODES_MOST];
} modes;

static modes modes_begin(const wr_multimodal *m, uint64_t seed, uint32_t again) {
    modes x = {.draw = wr__draw_begin(seed, WR__DRAW_MODES, again), .n = m->modes};
    for (int k = 0; k < m->modes; k++)
        x.q[k] = wr_multimodal_probability(m, k);
    return x;
}

static int32_t next_mode(modes *x) {
    double u = wr__draw_real(&x->draw), sum = 0;
    for (int k = 0; k < x->n - 1; k++) {
        sum += x->q[k];
        if (u < sum) return k;
    }
    return x->n - 1;
}

static void translate(const wr_multimodal *m, modes *x, const int32_t *src, size_t n,
                      int32_t *tgt) {
    for (size_t j = 0; j < n; j += (size_t)m->phrase) {
        int32_t mode = next_mode(x);
        wr_multimodal_translate(m, src + j, 1, &mode, tgt + j);
    }
}

/* Line `line` is a translation of source i. */
static void draw_line(const draw *d, modes *x, size_t i, size_t line, wr_multimodal_corpus *out) {
    size_t from = out->at[line], n = d->at[i + 1] - d->at[i];
    memcpy(out->src + from, d->source + d->at[i], n * sizeof *out->src);
    translate(d->m, x, out->src + from, n, out->tgt + from);
    out->at[line + 1] = from + n;
}

void wr_multimodal_again(const wr_multimodal *m, const wr_multimodal_corpus *c, size_t from,
                         size_t n, uint64_t seed, uint32_t again, int32_t *tgt) {
    modes x = modes_begin(m, seed, again);
    translate(m, &x, c->src + c->at[from], c->at[from + n] - c->at[from], tgt);
}

static wr_status draw_lines(const draw *d, const wr_multimodal_split *split,
                            wr_multimodal_corpus *out, wr_error *err) {
    size_t many = split->translations, sources = split->train + split->valid + split->test;
    size_t lines = split->train * many + split->valid + split->test;
    size_t words = d->at[sources] + d->at[split->train] * (many - 1);
    out->at = malloc((lines + 1) * sizeof *out->at);
    out->src = malloc((words + 1) * sizeof *out->src);
    out->tgt = malloc((words + 1) * sizeof *out->tgt);
    if (out->at == NULL || out->src == NULL || out->tgt == NULL)
        return wr_fail_memory(err, "the corpus", 2 * words * sizeof *out->src);
    modes x = modes_begin(d->m, split->seed, 0);
    out->at[0] = 0;
    for (size_t i = 0, line = 0; i < sources; i++)
        for (size_t k = 0; k < (i < split->train ? many : 1); k++)
            draw_line(d, &x, i, line++, out);
    out->train = split->train * many;
    out->valid = split->valid;
    out->test = split->test;
    return WR_OK;
}

/* The number of sources, as far as a double goes. */
static double count_sources(const wr_multimodal *m) {
    double phrases = 1, all = 0;
    for (int i = 0; i < m->phrase; i++)
        phrases *= m->words - i;
    for (int j = m->min_phrases; j <= m->max_phrases; j++)
        all += pow(phrases, j);
    return all;
}

static wr_status check_split(const wr_multimodal *m, const wr_multimodal_split *s, wr_error *err) {
    wr_status status = wr_multimodal_check(m, err);
    if (status != WR_OK) return status;
    if (s->train == 0 || s->translations == 0 || s->train > LINES_MOST || s->valid > LINES_MOST ||
        s->test > LINES_MOST || s->translations > LINES_MOST / s->train)
        return wr_fail(err, WR_ERR_INPUT,
                       "%zu sources with %zu translations, %zu valid and %zu test: at least 1 "
                       "source and 1 translation, and at most %d lines of each are allowed",
                       s->train, s->translations, s->valid, s->test, LINES_MOST);
    double have = count_sources(m), want = (double)(s->train + s->valid + s->test);
    if (have < 2 * want)
        return wr_fail(err, WR_ERR_INPUT,
                       "the language has %.0f sources, less than twice the %.0f that train, valid "
                       "and test take; take more words, longer phrases or more of them, or fewer "
                       "lines",
                       have, want);
    return WR_OK;
}

wr_status wr_multimodal_draw(const wr_multimodal *m, const wr_multimodal_split *split,
                             wr_multimodal_corpus *out, wr_error *err) {
    *out = (wr_multimodal_corpus){0};
    wr_status status = check_split(m, split, err);
    if (status != WR_OK) return status;
    draw d = {.m = m, .sources = wr__draw_begin(split->seed, WR__DRAW_SOURCES, 0)};
    status = draw_sources(&d, split->train + split->valid + split->test, err);
    if (status == WR_OK) status = draw_lines(&d, split, out, err);
    if (status != WR_OK) wr_multimodal_corpus_free(out);
    free(d.seen.slot);
    free(d.source);
    free(d.at);
    return status;
}

void wr_multimodal_corpus_free(wr_multimodal_corpus *corpus) {
    free(corpus->at);
    free(corpus->src);
    free(corpus->tgt);
    *corpus = (wr_multimodal_corpus){0};
}
