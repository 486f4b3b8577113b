/* test_ctc_beam.c: decoding of CTC frames against the numbers of the specification (key E6 of
 * nar_vectors.json) and against the sum over all paths. */
#include "helpers/alloc.h"
#include "models/ctc_beam.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { BLANK = 0, FRAMES_MOST = 6, WORDS_MOST = 6, TEXTS_MOST = 1024, BEAM_MOST = TEXTS_MOST };

static void near(double got, double wanted) {
    if (!(fabs(got - wanted) <= 1e-6)) fail_msg("%.9f instead of %.9f", got, wanted);
}

/* ---- frames ---- */

/* Frames over V words, 0 the blank, all of them told. */
typedef struct rows {
    int T, V;
    double logp[FRAMES_MOST * WORDS_MOST], blank[FRAMES_MOST];
    int32_t id[FRAMES_MOST * WORDS_MOST];
} rows;

static rows rows_of(const double *logits, int T, int V) {
    rows r = {.T = T, .V = V};
    for (int t = 0; t < T; t++) {
        double sum = 0;
        for (int v = 0; v < V; v++)
            sum += exp(logits[t * V + v]);
        for (int v = 0; v < V; v++) {
            r.logp[t * V + v] = logits[t * V + v] - log(sum);
            r.id[t * V + v] = v;
        }
        r.blank[t] = r.logp[t * V + BLANK];
    }
    return r;
}

static wr_ctc_frames frames_of(const rows *r) {
    return (wr_ctc_frames){.frames = r->T,
                           .words = r->V,
                           .logp = r->logp,
                           .id = r->id,
                           .blank_logp = r->blank,
                           .blank = BLANK,
                           .end = -1};
}

static const double F1[] = {0.2, 1.5,  0.3, -0.4, 0.1, 0.0,  0.4, 0.2, 1.2, -0.3,
                            0.5, -0.2, 1.1, 0.6,  0.0, -0.1, 0.3, 0.0, 0.2, 0.9};

/* ---- language models ---- */

/* Log-probabilities of words 1..4 behind <s>, 1, 2, 3, 4. */
static const double BIGRAM[5][4] = {{-1.104485, -1.404485, -1.604485, -1.504485},
                                    {-2.431552, -0.931552, -1.131552, -1.631552},
                                    {-1.614371, -2.414371, -0.814371, -1.314371},
                                    {-1.318828, -0.718828, -2.718828, -1.718828},
                                    {-1.106833, -1.206833, -1.306833, -2.306833}};
/* Natural log of the probability that a sentence ends behind each, where there is an end. */
static const double END[5] = {-3.0, -0.2, -1.5, -0.7, -2.2};

static wr_arpa *bigram_model(bool end) {
    static const char *const NAME[] = {"<s>", "1", "2", "3", "4", "</s>"};
    static const char *const PATH = "test_ctc_beam.tmp";
    const double log10_e = 0.4342944819032518;
    FILE *f = fopen(PATH, "w");
    assert_non_null(f);
    fprintf(f, "\\data\\\nngram 1=%d\nngram 2=%d\n\\1-grams:\n", end ? 6 : 5, end ? 25 : 20);
    for (int i = 0; i < (end ? 6 : 5); i++)
        fprintf(f, "-1\t%s\n", NAME[i]);
    fprintf(f, "\\2-grams:\n");
    for (int i = 0; i < 5; i++) {
        for (int k = 0; k < 4; k++)
            fprintf(f, "%.17g\t%s %s\n", BIGRAM[i][k] * log10_e, NAME[i], NAME[k + 1]);
        if (end) fprintf(f, "%.17g\t%s </s>\n", END[i] * log10_e, NAME[i]);
    }
    fprintf(f, "\\end\\\n");
    assert_int_equal(fclose(f), 0);
    wr_error err = {0};
    wr_arpa *m = NULL;
    if (wr_arpa_read(PATH, &m, &err) != WR_OK) fail_msg("%s", err.text);
    unlink(PATH);
    return m;
}

typedef struct lm {
    wr_arpa *arpa;
    int32_t word[WORDS_MOST];
    wr_ctc_lm lm;
} lm;

static void lm_open(lm *x, bool end) {
    x->arpa = bigram_model(end);
    x->word[0] = -1;
    for (int i = 1; i < WORDS_MOST; i++)
        x->word[i] = wr_arpa_word(x->arpa, (char[]){(char)('0' + i), '\0'});
    x->lm = (wr_ctc_lm){.arpa = x->arpa, .word = x->word};
}

/* ---- enumeration ---- */

typedef struct text {
    int32_t id[FRAMES_MOST];
    size_t n;
    double p, score;
} text;

typedef struct texts {
    text t[TEXTS_MOST];
    int n;
} texts;

static text *text_of(texts *x, const int32_t *id, size_t n) {
    for (int i = 0; i < x->n; i++)
        if (x->t[i].n == n && memcmp(x->t[i].id, id, n * sizeof *id) == 0) return &x->t[i];
    assert_true(x->n < TEXTS_MOST);
    text *t = &x->t[x->n++];
    *t = (text){.n = n};
    memcpy(t->id, id, n * sizeof *id);
    return t;
}

static int by_score(const void *a, const void *b) {
    const text *x = a, *y = b;
    return x->score > y->score ? -1 : x->score < y->score;
}

static double judged(const text *t, const wr_ctc_beam_options *o, bool end) {
    double lm = 0;
    int before = 0;
    for (size_t i = 0; i < t->n; i++) {
        lm += BIGRAM[before][t->id[i] - 1];
        before = t->id[i];
    }
    if (end) lm += END[before];
    return log(t->p) + (o->lm == NULL ? 0 : o->lm_weight * lm) + o->length_bonus * (double)t->n;
}

/* All texts by the sum over all paths, best first. */
static void enumerate(texts *x, const rows *r, const wr_ctc_beam_options *o, bool end) {
    int paths = 1;
    for (int t = 0; t < r->T; t++)
        paths *= r->V;
    x->n = 0;
    for (int path = 0; path < paths; path++) {
        int32_t id[FRAMES_MOST] = {0};
        double logp = 0;
        for (int t = 0, rest = path; t < r->T; t++, rest /= r->V) {
            id[t] = rest % r->V;
            logp += r->logp[t * r->V + id[t]];
        }
        size_t n = wr_ctc_collapse(id, (size_t)r->T, BLANK);
        text_of(x, id, n)->p += exp(logp);
    }
    for (int i = 0; i < x->n; i++)
        x->t[i].score = judged(&x->t[i], o, end);
    qsort(x->t, (size_t)x->n, sizeof *x->t, by_score);
}

/* ---- the specification's values ---- */

static void assert_text(const wr_ctc_found *f, const char *wanted) {
    char got[64] = "";
    for (size_t i = 0; i < f->n; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%d", (int)f->id[i]);
    if (strcmp(got, wanted) != 0) fail_msg("%s instead of %s", got, wanted);
}

static void test_collapse(void **state) {
    (void)state;
    int32_t a[] = {1, 1, 0, 1, 2, 2, 0, 0, 3}, b[] = {0, 0, 0}, c[] = {2, 2, 2, 0, 2};
    assert_int_equal(wr_ctc_collapse(a, 9, BLANK), 4);
    assert_memory_equal(a, ((int32_t[]){1, 1, 2, 3}), 4 * sizeof *a);
    assert_int_equal(wr_ctc_collapse(b, 3, BLANK), 0);
    assert_int_equal(wr_ctc_collapse(c, 5, BLANK), 2);
    assert_memory_equal(c, ((int32_t[]){2, 2}), 2 * sizeof *c);
    int32_t last[] = {4, 4, 7}; /* the last frame may be a blank, too */
    assert_int_equal(wr_ctc_collapse(last, 3, 7), 1);
    assert_int_equal(wr_ctc_collapse(last, 0, 7), 0);
}

static void test_best_texts(void **state) {
    (void)state;
    static const char *const WANTED[] = {"134", "124", "13", "132", "12"};
    static const double P[] = {0.059601, 0.044844, 0.042061, 0.040644, 0.036273};
    rows r = rows_of(F1, 4, 5);
    wr_ctc_frames f = frames_of(&r);
    wr_ctc_beam_options o = {.beam = 1000, .nbest = 5};
    wr_ctc_beam *b = wr_ctc_beam_new();
    wr_ctc_found found[5];
    wr_error err = {0};
    size_t n;
    assert_non_null(b);
    assert_int_equal(wr_ctc_beam_search(b, &f, &o, found, &n, &err), WR_OK);
    assert_int_equal(n, 5);
    for (int i = 0; i < 5; i++) {
        assert_text(&found[i], WANTED[i]);
        near(exp(found[i].logp), P[i]);
        near(found[i].score, found[i].logp);
    }
    o = (wr_ctc_beam_options){.beam = 50, .nbest = 1};
    assert_int_equal(wr_ctc_beam_search(b, &f, &o, found, &n, &err), WR_OK);
    assert_text(&found[0], "134");
    near(found[0].score, -2.820087);
    wr_ctc_beam_free(b);
}

static void test_language_model(void **state) {
    (void)state;
    static const struct {
        int beam;
        const char *text;
        double score;
    } WANTED[] = {{1, "1324", -2.142509},
                  {2, "132", -1.996734},
                  {4, "132", -1.975826},
                  {5, "132", -1.975826},
                  {50, "132", -1.975826}};
    rows r = rows_of(F1, 4, 5);
    wr_ctc_frames f = frames_of(&r);
    lm x;
    lm_open(&x, false);
    wr_ctc_beam *b = wr_ctc_beam_new();
    wr_ctc_found found[3];
    wr_error err = {0};
    size_t n;
    assert_non_null(b);
    for (size_t i = 0; i < sizeof WANTED / sizeof *WANTED; i++) {
        wr_ctc_beam_options o = {
            .beam = WANTED[i].beam, .nbest = 1, .lm = &x.lm, .lm_weight = 0.6, .length_bonus = 1};
        assert_int_equal(wr_ctc_beam_search(b, &f, &o, found, &n, &err), WR_OK);
        assert_text(&found[0], WANTED[i].text);
        near(found[0].score, WANTED[i].score);
    }
    wr_ctc_beam_options o = {
        .beam = 200, .nbest = 3, .lm = &x.lm, .lm_weight = 0.6, .length_bonus = 1};
    assert_int_equal(wr_ctc_beam_search(b, &f, &o, found, &n, &err), WR_OK);
    assert_text(&found[1], "124");
    near(found[1].score, -2.114816);
    assert_text(&found[2], "1324");
    near(found[2].score, -2.142509);
    wr_ctc_beam_free(b);
    wr_arpa_free(x.arpa);
}

/* ---- all paths ---- */

static double random_real(uint32_t *x) {
    *x = *x * 1664525U + 1013904223U;
    return (double)(*x >> 8) / (1 << 24);
}

static rows random_rows(uint32_t *seed) {
    double logits[FRAMES_MOST * WORDS_MOST];
    int T = 1 + (int)(random_real(seed) * 5), V = 2 + (int)(random_real(seed) * 3);
    if (V == 4 && T > 4) T = 4;
    for (int i = 0; i < T * V; i++)
        logits[i] = 4 * random_real(seed) - 2;
    return rows_of(logits, T, V);
}

/* With room for all prefixes the order of all texts and their scores are exact, whatever counts. */
static void test_all_paths(void **state) {
    (void)state;
    uint32_t seed = 3;
    texts *all = malloc(sizeof *all);
    wr_ctc_found *found = malloc(sizeof *found * BEAM_MOST);
    wr_ctc_beam *b = wr_ctc_beam_new();
    lm x[2];
    lm_open(&x[0], false);
    lm_open(&x[1], true);
    assert_true(all != NULL && found != NULL && b != NULL);
    for (int round = 0; round < 2000; round++) {
        rows r = random_rows(&seed);
        wr_ctc_frames f = frames_of(&r);
        int kind = round % 3; /* no model, one without an end, one with it */
        wr_ctc_beam_options o = {.beam = BEAM_MOST,
                                 .nbest = BEAM_MOST,
                                 .lm = kind == 0 ? NULL : &x[kind - 1].lm,
                                 .lm_weight = 2 * random_real(&seed),
                                 .length_bonus = 4 * random_real(&seed) - 2};
        wr_error err = {0};
        size_t n;
        enumerate(all, &r, &o, kind == 2);
        if (wr_ctc_beam_search(b, &f, &o, found, &n, &err) != WR_OK) fail_msg("%s", err.text);
        assert_int_equal(n, all->n);
        for (size_t i = 0; i < n; i++) {
            if (!(fabs(found[i].score - all->t[i].score) <= 2e-6))
                fail_msg("round %d, place %zu: %.9f instead of %.9f", round, i, found[i].score,
                         all->t[i].score);
            const text *t = text_of(all, found[i].id, found[i].n);
            if (!(fabs(found[i].logp - log(t->p)) <= 1e-9)) fail_msg("round %d: a text", round);
        }
    }
    wr_ctc_beam_free(b);
    for (int i = 0; i < 2; i++)
        wr_arpa_free(x[i].arpa);
    free(found);
    free(all);
}

/* A narrow beam never tells more than a text's probability, and words that are not told have none:
 * the same as rows in which they are impossible. */
static void test_few_words(void **state) {
    (void)state;
    uint32_t seed = 11;
    wr_ctc_beam *b = wr_ctc_beam_new();
    texts *all = malloc(sizeof *all);
    assert_true(b != NULL && all != NULL);
    for (int round = 0; round < 500; round++) {
        rows r = random_rows(&seed), few = r, full = r;
        for (int t = 0; t < r.T; t++) { /* word 1 in even frames, word V - 1 in odd ones */
            int kept = t % 2 == 0 ? 1 : r.V - 1;
            few.id[t] = kept;
            few.logp[t] = r.logp[t * r.V + kept];
            for (int v = 1; v < r.V; v++)
                if (v != kept) full.logp[t * r.V + v] = -INFINITY;
        }
        few.V = 1;
        wr_ctc_frames some = frames_of(&few);
        wr_ctc_beam_options o = {.beam = 1 + round % 4, .nbest = 1};
        wr_ctc_beam_options wide = {.beam = BEAM_MOST, .nbest = 1};
        wr_ctc_found found;
        wr_error err = {0};
        size_t n;
        assert_int_equal(wr_ctc_beam_search(b, &some, &wide, &found, &n, &err), WR_OK);
        enumerate(all, &full, &wide, false);
        near(found.score, all->t[0].score);
        assert_int_equal(wr_ctc_beam_search(b, &some, &o, &found, &n, &err), WR_OK);
        assert_true(found.logp <= log(text_of(all, found.id, found.n)->p) + 1e-9);
    }
    wr_ctc_beam_free(b);
    free(all);
}

/* ---- narrow beams ---- */

enum { REFERENCE_MOST = 256 };

/* The recursion with a list of prefixes, looked through for each. */
typedef struct reference {
    text t[REFERENCE_MOST]; /* p: of paths that end in a blank */
    double word[REFERENCE_MOST];
    int n;
} reference;

static int find_prefix(reference *x, const int32_t *id, size_t n) {
    for (int i = 0; i < x->n; i++)
        if (x->t[i].n == n && (n == 0 || memcmp(x->t[i].id, id, n * sizeof *id) == 0)) return i;
    assert_true(x->n < REFERENCE_MOST);
    x->t[x->n] = (text){.n = n};
    if (n > 0) memcpy(x->t[x->n].id, id, n * sizeof *id);
    x->word[x->n] = 0;
    return x->n++;
}

static void hear_frame(const reference *from, const double *p, int V, reference *to) {
    to->n = 0;
    for (int i = 0; i < from->n; i++) {
        const text *t = &from->t[i];
        double total = t->p + from->word[i];
        int32_t id[FRAMES_MOST + 1], last = t->n > 0 ? t->id[t->n - 1] : -1;
        memcpy(id, t->id, t->n * sizeof *id);
        int same = find_prefix(to, id, t->n);
        to->t[same].p += total * p[BLANK];
        if (last >= 0) to->word[same] += from->word[i] * p[last];
        for (int32_t v = 1; v < V; v++) {
            id[t->n] = v;
            int longer = find_prefix(to, id, t->n + 1);
            to->word[longer] += (v == last ? t->p : total) * p[v];
        }
    }
}

static void keep_best(reference *x, const wr_ctc_beam_options *o) {
    for (int i = 0; i < x->n; i++) {
        text whole = x->t[i];
        whole.p += x->word[i];
        x->t[i].score = judged(&whole, o, false);
    }
    for (int i = 0; i < x->n && i < o->beam; i++) /* the best to the front */
        for (int k = i + 1; k < x->n; k++)
            if (x->t[k].score > x->t[i].score) {
                text t = x->t[i];
                double word = x->word[i];
                x->t[i] = x->t[k];
                x->word[i] = x->word[k];
                x->t[k] = t;
                x->word[k] = word;
            }
    if (x->n > o->beam) x->n = o->beam;
}

/* Prefixes that leave a narrow beam and come back meet those that go on from them. */
static void test_narrow_beams(void **state) {
    (void)state;
    uint32_t seed = 13;
    reference *now = malloc(sizeof *now), *next = malloc(sizeof *next);
    wr_ctc_beam *b = wr_ctc_beam_new();
    lm x;
    lm_open(&x, false);
    assert_true(now != NULL && next != NULL && b != NULL);
    for (int round = 0; round < 5000; round++) {
        double logits[FRAMES_MOST * WORDS_MOST];
        int T = 3 + round % 4, V = 2 + round % 3;
        for (int i = 0; i < T * V; i++)
            logits[i] = 3 * random_real(&seed) - 1.5;
        rows r = rows_of(logits, T, V);
        wr_ctc_frames f = frames_of(&r);
        wr_ctc_beam_options o = {.beam = 1 + round % 7,
                                 .nbest = 1,
                                 .lm = round % 2 == 0 ? NULL : &x.lm,
                                 .lm_weight = random_real(&seed),
                                 .length_bonus = 2 * random_real(&seed) - 1};
        now->n = 0;
        now->t[find_prefix(now, NULL, 0)].p = 1;
        for (int t = 0; t < T; t++) {
            double p[WORDS_MOST];
            for (int v = 0; v < V; v++)
                p[v] = exp(r.logp[t * V + v]);
            hear_frame(now, p, V, next);
            keep_best(next, &o);
            reference *swap = now;
            now = next;
            next = swap;
        }
        wr_ctc_found found;
        wr_error err = {0};
        size_t n;
        if (wr_ctc_beam_search(b, &f, &o, &found, &n, &err) != WR_OK) fail_msg("%s", err.text);
        if (fabs(found.score - now->t[0].score) > 2e-6)
            fail_msg("round %d: %.9f instead of %.9f", round, found.score, now->t[0].score);
    }
    wr_ctc_beam_free(b);
    wr_arpa_free(x.arpa);
    free(now);
    free(next);
}

/* ---- the end ---- */

/* Frames that say the end, word V - 1 here: texts are those of the paths on which nothing but ends
 * and blanks follow an end; the end counts in the language model and not as a word. */
static void test_end(void **state) {
    (void)state;
    uint32_t seed = 5;
    texts *all = malloc(sizeof *all);
    wr_ctc_found *found = malloc(sizeof *found * BEAM_MOST);
    wr_ctc_beam *b = wr_ctc_beam_new();
    lm x;
    lm_open(&x, true);
    assert_true(all != NULL && found != NULL && b != NULL);
    for (int round = 0; round < 300; round++) {
        rows r = random_rows(&seed);
        int32_t end = r.V - 1;
        wr_ctc_frames f = frames_of(&r);
        f.end = end;
        wr_ctc_beam_options o = {.beam = BEAM_MOST,
                                 .nbest = BEAM_MOST,
                                 .lm = &x.lm,
                                 .lm_weight = 0.5,
                                 .length_bonus = 0.25};
        wr_error err = {0};
        size_t n, kept = 0;
        enumerate(all, &r, &o, true); /* the end as a word: only the probabilities are right */
        for (int i = 0; i < all->n; i++) {
            text t = all->t[i];
            const int32_t *first = t.id;
            while (first < t.id + t.n && *first != end)
                first++;
            size_t before = (size_t)(first - t.id);
            if (before + 1 < t.n) continue; /* something follows */
            t.n = before;
            t.score = judged(&t, &o, true);
            all->t[kept++] = t;
        }
        qsort(all->t, kept, sizeof *all->t, by_score);
        if (wr_ctc_beam_search(b, &f, &o, found, &n, &err) != WR_OK) fail_msg("%s", err.text);
        assert_int_equal(n, kept);
        for (size_t i = 0; i < n; i++) {
            near(found[i].score, all->t[i].score);
            assert_int_equal(found[i].n, all->t[i].n);
        }
    }
    wr_ctc_beam_free(b);
    wr_arpa_free(x.arpa);
    free(found);
    free(all);
}

/* ---- mistakes ---- */

static void test_refusals(void **state) {
    (void)state;
    rows r = rows_of(F1, 4, 5);
    wr_ctc_frames f = frames_of(&r);
    wr_ctc_beam *b = wr_ctc_beam_new();
    wr_ctc_found found[4];
    size_t n;
    assert_non_null(b);
    const struct {
        wr_ctc_beam_options o;
        const char *text;
    } wrong[] = {{{.beam = 0, .nbest = 1}, "a beam of 0"},
                 {{.beam = 3, .nbest = 4}, "4 texts of a beam of 3"},
                 {{.beam = 3, .nbest = 1, .lm_weight = -1}, "weight is -1"},
                 {{.beam = 3, .nbest = 1, .length_bonus = NAN}, "bonus"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        wr_error err = {0};
        assert_int_equal(wr_ctc_beam_search(b, &f, &wrong[i].o, found, &n, &err), WR_ERR_INPUT);
        if (strstr(err.text, wrong[i].text) == NULL) fail_msg("%s", err.text);
    }
    wr_ctc_beam_options o = {.beam = 3, .nbest = 1};
    wr_error err = {0};
    r.logp[7] = NAN;
    assert_int_equal(wr_ctc_beam_search(b, &f, &o, found, &n, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "not finite"));
    err = (wr_error){0};
    for (int i = 0; i < 5; i++)
        r.logp[5 + i] = -INFINITY;
    r.blank[1] = -INFINITY;
    assert_int_equal(wr_ctc_beam_search(b, &f, &o, found, &n, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "frame 2: every text has probability 0"));
    f.frames = 0; /* nothing was said */
    err = (wr_error){0};
    assert_int_equal(wr_ctc_beam_search(b, &f, &o, found, &n, &err), WR_OK);
    assert_int_equal(n, 1);
    assert_int_equal(found[0].n, 0);
    wr_ctc_beam_free(b);
}

static void test_memory(void **state) {
    (void)state;
    rows r = rows_of(F1, 4, 5);
    wr_ctc_frames f = frames_of(&r);
    wr_ctc_beam_options o = {.beam = 200, .nbest = 2};
    long n = 1;
    for (;; n++) {
        wr_ctc_found found[2];
        wr_error err = {0};
        size_t told;
        wr_test_watch_allocations();
        wr_test_fail_allocation(n);
        wr_ctc_beam *b = wr_ctc_beam_new();
        wr_status status =
            b == NULL ? WR_ERR_MEMORY : wr_ctc_beam_search(b, &f, &o, found, &told, &err);
        bool failed = wr_test_allocation_failed();
        wr_ctc_beam_free(b);
        assert_int_equal(wr_test_unfreed_allocations(), 0);
        if (!failed) {
            assert_int_equal(status, WR_OK);
            break;
        }
        assert_int_equal(status, WR_ERR_MEMORY);
    }
    wr_test_fail_allocation(0);
    assert_true(n > 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_collapse),
                                       cmocka_unit_test(test_best_texts),
                                       cmocka_unit_test(test_language_model),
                                       cmocka_unit_test(test_all_paths),
                                       cmocka_unit_test(test_few_words),
                                       cmocka_unit_test(test_narrow_beams),
                                       cmocka_unit_test(test_end),
                                       cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
