/* test_synth_multimodal.c: the language with several translations: its entropies against
 * enumeration of all translations, the frequencies of what is drawn, splits, refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/synth_multimodal.h"
#include "helpers/alloc.h"
#include "models/mple.h"

static void near(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.12g is not %.12g", got, want);
}

/* ---- entropies ---- */

/* All K^J translations of a source with their probabilities, and what they give. */
static wr_entropies enumerate(const wr_multimodal *m, const int32_t *src, int phrases) {
    size_t words = (size_t)phrases * (size_t)m->phrase, all = 1;
    for (int j = 0; j < phrases; j++)
        all *= (size_t)m->modes;
    int32_t *value = malloc(all * words * sizeof *value);
    double *weight = malloc(all * sizeof *weight);
    assert_non_null(value);
    assert_non_null(weight);
    for (size_t r = 0; r < all; r++) {
        int32_t mode[8];
        weight[r] = 1;
        for (size_t j = 0, rest = r; j < (size_t)phrases; j++, rest /= (size_t)m->modes) {
            mode[j] = (int32_t)(rest % (size_t)m->modes);
            weight[r] *= wr_multimodal_probability(m, mode[j]);
        }
        wr_multimodal_translate(m, src, phrases, mode, value + r * words);
    }
    wr_entropies e;
    assert_int_equal(wr_total_correlation(value, weight, all, words, &e, NULL), WR_OK);
    free(value);
    free(weight);
    return e;
}

static void closed_form_is_enumeration(void **state) {
    (void)state;
    static const wr_multimodal language[] = {
        {WR_MULTIMODAL_ORDER, 3, 3, 1, 4, 12, 1},   {WR_MULTIMODAL_ORDER, 2, 5, 1, 3, 9, .5},
        {WR_MULTIMODAL_ORDER, 4, 4, 2, 4, 4, .9},   {WR_MULTIMODAL_WORDS, 5, 2, 1, 4, 7, .7},
        {WR_MULTIMODAL_WORDS, 3, 1, 1, 5, 20, 1},   {WR_MULTIMODAL_BOTH, 3, 4, 1, 3, 10, .8},
        {WR_MULTIMODAL_BOTH, 1, 3, 2, 3, 10, .5},   {WR_MULTIMODAL_ORDER, 1, 2, 1, 2, 8, 1},
        {WR_MULTIMODAL_WORDS, 6, 3, 1, 2, 30, 1e-3}};
    for (size_t l = 0; l < sizeof language / sizeof language[0]; l++) {
        const wr_multimodal *m = &language[l];
        wr_multimodal_corpus c;
        const wr_multimodal_split split = {3, 1, 1, 1, l};
        assert_int_equal(wr_multimodal_draw(m, &split, &c, NULL), WR_OK);
        for (size_t i = 0; i < 5; i++) {
            int phrases = (int)(c.at[i + 1] - c.at[i]) / m->phrase;
            wr_entropies got = enumerate(m, c.src + c.at[i], phrases);
            wr_multimodal_entropy want = wr_multimodal_exact(m, phrases);
            near(got.joint, want.joint, 1e-12);
            near(got.marginals, want.marginals, 1e-12);
            near(got.correlation, want.correlation, 1e-12);
            near(want.marginals - want.joint, want.correlation, 1e-12);
        }
        wr_multimodal_corpus_free(&c);
    }
}

/* Three even modes of a phrase of three words: H = log 3, and two words of three are given. */
static void known_entropies(void **state) {
    (void)state;
    const wr_multimodal m = {WR_MULTIMODAL_ORDER, 3, 3, 1, 4, 100, 1};
    wr_multimodal_entropy e = wr_multimodal_exact(&m, 4);
    near(e.joint, 4 * log(3), 1e-12);
    near(e.marginals, 12 * log(3), 1e-12);
    near(e.correlation, 8 * log(3), 1e-12);
    const wr_multimodal skewed = {WR_MULTIMODAL_WORDS, 2, 3, 1, 4, 100, 1.0 / 3};
    near(wr_multimodal_probability(&skewed, 0), .75, 1e-15);
    near(wr_multimodal_exact(&skewed, 1).correlation, 2 * (.75 * log(4.0 / 3) + .25 * log(4)),
         1e-12);
}

/* ---- what is drawn ---- */

/* The mode of a phrase, found by trying all. */
static int mode_of(const wr_multimodal *m, const int32_t *src, const int32_t *tgt) {
    int found = -1;
    for (int32_t k = 0; k < m->modes; k++) {
        int32_t out[8];
        wr_multimodal_translate(m, src, 1, &k, out);
        if (memcmp(out, tgt, (size_t)m->phrase * sizeof *out) == 0) {
            assert_int_equal(found, -1); /* the modes give different phrases */
            found = k;
        }
    }
    assert_true(found >= 0);
    return found;
}

enum { MODES = 3 };

/* How often each mode, and each pair of modes of neighbours, comes. */
static void count_modes(const wr_multimodal *m, const wr_multimodal_corpus *c, double single[MODES],
                        double pair[MODES][MODES]) {
    size_t n = (size_t)m->phrase, lines = c->train + c->valid + c->test;
    for (size_t i = 0; i < lines; i++) {
        int before = -1;
        for (size_t at = c->at[i]; at < c->at[i + 1]; at += n) {
            int k = mode_of(m, c->src + at, c->tgt + at);
            single[k]++;
            if (before >= 0) pair[before][k]++;
            before = k;
        }
    }
}

static void frequencies(void **state) {
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        const wr_multimodal m = {(wr_multimodal_kind)kind, MODES, 3, 1, 4, 50, .6};
        const wr_multimodal_split split = {4000, 100, 100, 2, 5};
        double single[MODES] = {0}, pair[MODES][MODES] = {{0}}, n = 0, pairs = 0;
        wr_multimodal_corpus c;
        assert_int_equal(wr_multimodal_draw(&m, &split, &c, NULL), WR_OK);
        count_modes(&m, &c, single, pair);
        for (int k = 0; k < MODES; k++) {
            n += single[k];
            for (int l = 0; l < MODES; l++)
                pairs += pair[k][l];
        }
        assert_int_equal((int)n, (int)c.at[8200] / 3);
        for (int k = 0; k < MODES; k++) {
            double q = wr_multimodal_probability(&m, k);
            near(single[k] / n, q, 4.5 * sqrt(q * (1 - q) / n));
            for (int l = 0; l < MODES; l++) { /* neighbours do not depend on each other */
                double both = q * wr_multimodal_probability(&m, l);
                near(pair[k][l] / pairs, both, 4.5 * sqrt(both * (1 - both) / pairs));
            }
        }
        wr_multimodal_corpus_free(&c);
    }
}

/* Translations made once more are of the same sources, in other modes each time. */
static void again(void **state) {
    (void)state;
    const wr_multimodal m = {WR_MULTIMODAL_ORDER, MODES, 3, 1, 3, 30, 1};
    const wr_multimodal_split split = {50, 400, 10, 1, 5};
    wr_multimodal_corpus c;
    assert_int_equal(wr_multimodal_draw(&m, &split, &c, NULL), WR_OK);
    size_t first = c.at[50], words = c.at[450] - first;
    int32_t *tgt = malloc(3 * words * sizeof *tgt);
    assert_non_null(tgt);
    for (uint32_t k = 0; k < 3; k++)
        wr_multimodal_again(&m, &c, 50, 400, 5, 1 + k % 2, tgt + k * words);
    assert_memory_equal(tgt, tgt + 2 * words, words * sizeof *tgt);
    double same[2] = {0}, n = (double)words / 3;
    for (size_t i = 0; i < words; i += 3) {
        int a = mode_of(&m, c.src + first + i, c.tgt + first + i);
        int b = mode_of(&m, c.src + first + i, tgt + i);
        same[0] += a == b;
        same[1] += b == mode_of(&m, c.src + first + i, tgt + words + i);
    }
    for (int k = 0; k < 2; k++) /* as often as chance has it */
        near(same[k] / n, 1.0 / 3, 4.5 * sqrt(2.0 / 9 / n));
    free(tgt);
    wr_multimodal_corpus_free(&c);
}

/* The number of phrases is uniform, and so is each word. */
static void sentences(void **state) {
    (void)state;
    const wr_multimodal m = {WR_MULTIMODAL_ORDER, 2, 3, 2, 5, 40, 1};
    const wr_multimodal_split split = {8000, 100, 100, 1, 9};
    double phrases[6] = {0}, word[40] = {0};
    wr_multimodal_corpus c;
    assert_int_equal(wr_multimodal_draw(&m, &split, &c, NULL), WR_OK);
    for (size_t i = 0; i < 8200; i++)
        phrases[(c.at[i + 1] - c.at[i]) / 3]++;
    for (size_t i = 0; i < c.at[8200]; i++) {
        assert_in_range(c.src[i], 0, 39);
        word[c.src[i]]++;
        if (i % 3 == 2) { /* different words in a phrase */
            assert_true(c.src[i] != c.src[i - 1] && c.src[i] != c.src[i - 2]);
            assert_true(c.src[i - 1] != c.src[i - 2]);
        }
    }
    for (int j = 2; j <= 5; j++)
        near(phrases[j] / 8200, .25, 4.5 * sqrt(.25 * .75 / 8200));
    double n = (double)c.at[8200];
    for (int i = 0; i < 40; i++)
        near(word[i] / n, 1.0 / 40, 4.5 * sqrt(1.0 / 40 / n));
    wr_multimodal_corpus_free(&c);
}

static bool same_source(const wr_multimodal_corpus *c, size_t a, size_t b) {
    size_t n = c->at[a + 1] - c->at[a];
    return n == c->at[b + 1] - c->at[b] &&
           memcmp(c->src + c->at[a], c->src + c->at[b], n * sizeof *c->src) == 0;
}

/* Of a language of 24 + 576 sources, 300 are drawn: each is there once. */
static void splits_are_apart(void **state) {
    (void)state;
    const wr_multimodal m = {WR_MULTIMODAL_WORDS, 3, 3, 1, 2, 4, 1};
    const wr_multimodal_split split = {200, 60, 40, 3, 2};
    wr_multimodal_corpus c;
    assert_int_equal(wr_multimodal_draw(&m, &split, &c, NULL), WR_OK);
    assert_int_equal(c.train, 600);
    assert_int_equal(c.valid, 60);
    assert_int_equal(c.test, 40);
    for (size_t i = 0; i < 700; i++)
        for (size_t k = 0; k < i; k++)
            assert_int_equal(same_source(&c, i, k), i < 600 && i / 3 == k / 3);
    wr_multimodal_corpus_free(&c);
}

static void same_seed_same_bits(void **state) {
    (void)state;
    const wr_multimodal m = {WR_MULTIMODAL_BOTH, 3, 3, 1, 4, 60, .9};
    wr_multimodal_split split = {100, 10, 10, 2, 77};
    wr_multimodal_corpus a, b, other;
    assert_int_equal(wr_multimodal_draw(&m, &split, &a, NULL), WR_OK);
    assert_int_equal(wr_multimodal_draw(&m, &split, &b, NULL), WR_OK);
    split.seed = 78;
    assert_int_equal(wr_multimodal_draw(&m, &split, &other, NULL), WR_OK);
    size_t words = a.at[220];
    assert_memory_equal(a.at, b.at, 221 * sizeof *a.at);
    assert_memory_equal(a.src, b.src, words * sizeof *a.src);
    assert_memory_equal(a.tgt, b.tgt, words * sizeof *a.tgt);
    assert_true(other.at[220] != words || memcmp(other.src, a.src, words * sizeof *a.src) != 0);
    wr_multimodal_corpus_free(&a);
    wr_multimodal_corpus_free(&b);
    wr_multimodal_corpus_free(&other);
}

/* ---- spelling ---- */

static int by_text(const void *a, const void *b) { return memcmp(a, b, 4); }

static void spelling(void **state) {
    (void)state;
    enum { ALL = 2 * WR_MULTIMODAL_WORDS_MOST };
    wr_str s = {0};
    for (int32_t i = 0; i < ALL / 2; i++) {
        wr_multimodal_source_word(i, &s);
        wr_multimodal_target_word(i, &s);
    }
    assert_int_equal(s.len, 4 * ALL);
    qsort(s.text, ALL, 4, by_text);
    for (size_t i = 4; i < s.len; i += 4)
        assert_true(memcmp(s.text + i, s.text + i - 4, 4) != 0);
    wr_str_free(&s);
}

/* ---- refusals ---- */

static void refused(void **state) {
    (void)state;
    static const struct {
        wr_multimodal m;
        wr_multimodal_split split;
        const char *text;
    } bad[] = {
        {{WR_MULTIMODAL_ORDER, 0, 3, 1, 4, 50, 1}, {9, 1, 1, 1, 0}, "0 modes"},
        {{WR_MULTIMODAL_WORDS, 65, 3, 1, 4, 50, 1}, {9, 1, 1, 1, 0}, "65 modes"},
        {{WR_MULTIMODAL_ORDER, 4, 3, 1, 4, 50, 1}, {9, 1, 1, 1, 0}, "have 3 rotations"},
        {{WR_MULTIMODAL_ORDER, 1, 0, 1, 4, 50, 1}, {9, 1, 1, 1, 0}, "phrases of 0 words"},
        {{WR_MULTIMODAL_ORDER, 3, 3, 5, 4, 50, 1}, {9, 1, 1, 1, 0}, "5 to 4 phrases"},
        {{WR_MULTIMODAL_ORDER, 3, 3, 0, 4, 50, 1}, {9, 1, 1, 1, 0}, "0 to 4 phrases"},
        {{WR_MULTIMODAL_ORDER, 3, 3, 1, 4, 2, 1}, {9, 1, 1, 1, 0}, "2 words but phrases of 3"},
        {{WR_MULTIMODAL_WORDS, 4, 3, 1, 4, 1601, 1}, {9, 1, 1, 1, 0}, "6400 target words"},
        {{WR_MULTIMODAL_ORDER, 3, 3, 1, 4, 50, 0}, {9, 1, 1, 1, 0}, "skew 0"},
        {{WR_MULTIMODAL_ORDER, 3, 3, 1, 4, 50, NAN}, {9, 1, 1, 1, 0}, "skew nan"},
        {{WR_MULTIMODAL_ORDER, 3, 3, 1, 1, 4, 1}, {9, 2, 2, 1, 0}, "has 24 sources"},
        {{WR_MULTIMODAL_ORDER, 3, 3, 1, 4, 50, 1}, {0, 1, 1, 1, 0}, "0 sources"},
        {{WR_MULTIMODAL_ORDER, 3, 3, 1, 4, 50, 1}, {9, 1, 1, 0, 0}, "with 0 translations"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        wr_error err = {0};
        wr_multimodal_corpus c;
        assert_int_equal(wr_multimodal_draw(&bad[i].m, &bad[i].split, &c, &err), WR_ERR_INPUT);
        if (strstr(err.text, bad[i].text) == NULL) fail_msg("%s: %s", bad[i].text, err.text);
        assert_null(c.src);
    }
}

static void without_memory(void **state) {
    (void)state;
    const wr_multimodal m = {WR_MULTIMODAL_BOTH, 3, 3, 1, 4, 60, .9};
    const wr_multimodal_split split = {100, 10, 10, 2, 77};
    for (long n = 1;; n++) {
        wr_multimodal_corpus c;
        wr_test_watch_allocations();
        wr_test_fail_allocation(n);
        wr_status status = wr_multimodal_draw(&m, &split, &c, NULL);
        bool failed = wr_test_allocation_failed();
        wr_multimodal_corpus_free(&c);
        assert_int_equal(wr_test_unfreed_allocations(), 0);
        assert_int_equal(status, failed ? WR_ERR_MEMORY : WR_OK);
        if (!failed) break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_form_is_enumeration),
        cmocka_unit_test(known_entropies),
        cmocka_unit_test(frequencies),
        cmocka_unit_test(again),
        cmocka_unit_test(sentences),
        cmocka_unit_test(splits_are_apart),
        cmocka_unit_test(same_seed_same_bits),
        cmocka_unit_test(spelling),
        cmocka_unit_test(refused),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
