/* test_score.c: tokenisers, BLEU and chrF. Numbers marked "sacreBLEU" were computed with
 * sacreBLEU 2.6.0; the others are worked out by hand beside the case. The published values of
 * shared/data/bleu_known are checked where that folder stands beside the source tree. */
#include "data/score.h"

#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define KNOWN_DIR    WEIR_SOURCE_DIR "/../shared/data/bleu_known"

static void check_near(double got, double want, double tolerance, const char *what) {
    if (!(fabs(got - want) <= tolerance))
        fail_msg("%s: got %.12f, want %.12f within %g", what, got, want, tolerance);
}

/* ---- tokenisers ---- */

typedef struct token_case {
    wr_tok tok;
    bool lowercase;
    const char *line, *want; /* tokens joined by | */
} token_case;

static void check_tokens(const token_case *c) {
    wr_tokenizer *t;
    wr_error err = {0};
    const wr_token *tokens;
    size_t n;
    wr_str got = {0};
    assert_int_equal(wr_tokenizer_new(c->tok, c->lowercase, &t, &err), WR_OK);
    assert_int_equal(wr_tokenizer_run(t, c->line, strlen(c->line), &tokens, &n, &err), WR_OK);
    for (size_t i = 0; i < n; i++) {
        if (i > 0) wr_str_bytes(&got, "|", 1);
        wr_str_bytes(&got, tokens[i].at, tokens[i].len);
    }
    assert_string_equal(wr_str_text(&got), c->want);
    wr_str_free(&got);
    wr_tokenizer_free(t);
}

static void check_all_tokens(const token_case *cases, size_t n) {
    for (size_t i = 0; i < n; i++)
        check_tokens(&cases[i]);
}

static void test_13a(void **state) {
    (void)state;
    static const token_case cases[] = {
        {WR_TOK_13A, false, "", ""},
        {WR_TOK_13A, false, " \t", ""},
        {WR_TOK_13A, false, "Hello, world.", "Hello|,|world|."},
        {WR_TOK_13A, false, "10,000.5 and 3.", "10,000.5|and|3|."},
        {WR_TOK_13A, false, "a.b 1.b a.1 1.2", "a|.|b|1|.|b|a|.|1|1.2"},
        {WR_TOK_13A, false, "wait...", "wait|.|.|."},
        {WR_TOK_13A, false, "don't", "don't"},
        {WR_TOK_13A, false, "well-known 3-4 x-", "well-known|3|-|4|x-"},
        {WR_TOK_13A, false, "&quot;A&quot; &lt;b&gt; &amp; c", "\"|A|\"|<|b|>|&|c"},
        {WR_TOK_13A, false, "&amp;lt; &amp;quot;", "<|&|quot|;"}, /* one pass each, in order */
        {WR_TOK_13A, false, "a<skipped>b", "ab"},
        {WR_TOK_13A, false, "hy-\nphen\nline-", "hyphen|line-"},
        {WR_TOK_13A, false, "(50%)/$5@x", "(|50|%|)|/|$|5|@|x"},
        {WR_TOK_13A, false,
         "a\xc2\xa0"
         "b\xe2\x80\x83"
         "c\xe3\x80\x80"
         "d",
         "a|b|c|d"},
        {WR_TOK_13A, false,
         "a\xe2\x80\x8b"
         "b\xc2\xad",
         "a\xe2\x80\x8b"
         "b\xc2\xad"},
        {WR_TOK_13A, false, "\xe2\x80\x9cja\xe2\x80\x9d.", "\xe2\x80\x9cja\xe2\x80\x9d|."},
    };
    check_all_tokens(cases, COUNT(cases));
}

static void test_intl(void **state) {
    (void)state;
    static const token_case cases[] = {
        {WR_TOK_INTL, false, "", ""},
        {WR_TOK_INTL, false, "Hello, world.", "Hello|,|world|."},
        {WR_TOK_INTL, false, "10,000.5 in 1999.", "10,000.5|in|1999."}, /* as mteval-v14 does */
        {WR_TOK_INTL, false, "\xe2\x80\x9cja\xe2\x80\x9d", "\xe2\x80\x9c|ja|\xe2\x80\x9d"},
        {WR_TOK_INTL, false, "5\xe2\x82\xac+x", "5|\xe2\x82\xac|+|x"},
        {WR_TOK_INTL, false, "&amp;", "&|amp|;"}, /* entities are not undone */
        {WR_TOK_INTL, false, "\xe4\xbd\xa0\xe5\xa5\xbd\xe3\x80\x82",
         "\xe4\xbd\xa0\xe5\xa5\xbd|\xe3\x80\x82"},
    };
    check_all_tokens(cases, COUNT(cases));
}

static void test_none_and_spaces(void **state) {
    (void)state;
    static const token_case cases[] = {
        {WR_TOK_NONE, false, "", ""},
        {WR_TOK_NONE, false,
         "  a,  b\xc2\xa0"
         "c ",
         "a,|b|c"},
        {WR_TOK_SPACES, false, "a  b", "a||b"},
        {WR_TOK_SPACES, false,
         " a\tb\xc2\xa0"
         "c \t",
         "a\tb\xc2\xa0"
         "c"},
    };
    check_all_tokens(cases, COUNT(cases));
}

static void test_spaces_on_an_empty_line(void **state) {
    (void)state;
    wr_tokenizer *t;
    const wr_token *tokens;
    size_t n;
    assert_int_equal(wr_tokenizer_new(WR_TOK_SPACES, false, &t, NULL), WR_OK);
    assert_int_equal(wr_tokenizer_run(t, "", 0, &tokens, &n, NULL), WR_OK);
    assert_int_equal(n, 1);
    assert_int_equal(tokens[0].len, 0);
    wr_tokenizer_free(t);
}

static void test_lower_case(void **state) {
    (void)state;
    static const token_case cases[] = {
        {WR_TOK_NONE, true, "ABC xyz", "abc|xyz"},
        {WR_TOK_NONE, true, "\xc3\x84\xc3\x9f\xe1\xba\x9e", "\xc3\xa4\xc3\x9f\xc3\x9f"},
        {WR_TOK_NONE, true, "\xc4\xb0I", "i\xcc\x87i"}, /* I with a dot: two characters */
        /* Final sigma: at the end of a word, also before an apostrophe; not alone, not inside. */
        {WR_TOK_NONE, true, "\xce\x91\xce\xa3", "\xce\xb1\xcf\x82"},
        {WR_TOK_NONE, true, "\xce\x91\xce\xa3'", "\xce\xb1\xcf\x82'"},
        {WR_TOK_NONE, true, "\xce\xa3", "\xcf\x83"},
        {WR_TOK_NONE, true, "\xce\x91\xce\xa3\xce\x91", "\xce\xb1\xcf\x83\xce\xb1"},
        {WR_TOK_NONE, true, "\xce\x91'\xce\xa3'\xce\x91", "\xce\xb1'\xcf\x83'\xce\xb1"},
        {WR_TOK_13A, true, "&QUOT;A&QUOT;", "\"|a|\""}, /* lower case comes first */
    };
    check_all_tokens(cases, COUNT(cases));
}

static void test_tokenizer_reports_bad_utf8(void **state) {
    (void)state;
    for (int tok = WR_TOK_13A; tok <= WR_TOK_SPACES; tok++) {
        wr_tokenizer *t;
        wr_error err = {0};
        const wr_token *tokens;
        size_t n;
        assert_int_equal(wr_tokenizer_new((wr_tok)tok, true, &t, &err), WR_OK);
        assert_int_equal(wr_tokenizer_run(t, "ab\xff", 3, &tokens, &n, &err), WR_ERR_INPUT);
        assert_non_null(strstr(err.text, "byte 3 (0xff)"));
        assert_int_equal(n, 0);
        wr_tokenizer_free(t);
    }
}

static void test_names(void **state) {
    (void)state;
    wr_tok tok;
    wr_smooth smooth;
    for (int i = WR_TOK_13A; i <= WR_TOK_SPACES; i++) {
        assert_true(wr_tok_parse(wr_tok_name((wr_tok)i), &tok));
        assert_int_equal(tok, i);
        assert_non_null(strstr(WR_TOK_NAMES, wr_tok_name((wr_tok)i)));
    }
    for (int i = WR_SMOOTH_EXP; i <= WR_SMOOTH_ADD_K; i++) {
        assert_true(wr_smooth_parse(wr_smooth_name((wr_smooth)i), &smooth));
        assert_int_equal(smooth, i);
    }
    assert_false(wr_tok_parse("14a", &tok));
    assert_false(wr_smooth_parse("", &smooth));
}

/* ---- BLEU by hand ---- */

static wr_bleu_result bleu_of(const char *hyp, const char *const *refs, size_t n_refs,
                              wr_score_options options) {
    const char *const *columns[4];
    wr_bleu_result r;
    wr_error err = {0};
    for (size_t i = 0; i < n_refs; i++)
        columns[i] = &refs[i];
    wr_status status = wr_bleu_strings(&hyp, columns, n_refs, 1, &options, &r, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(status, WR_OK);
    return r;
}

static void test_clipping(void **state) {
    (void)state;
    /* Papineni et al. 2002, example 2: "the" counts twice of seven, and no bigram matches. */
    const char *refs[] = {"the cat is on the mat", "there is a cat on the mat"};
    wr_bleu_result r = bleu_of("the the the the the the the", refs, 2, (wr_score_options){0});
    const uint64_t correct[] = {2, 0, 0, 0}, total[] = {7, 6, 5, 4};
    for (int n = 0; n < 4; n++) {
        assert_int_equal(r.stats.correct[n], correct[n]);
        assert_int_equal(r.stats.total[n], total[n]);
    }
    assert_int_equal(r.stats.hyp_len, 7);
    assert_int_equal(r.stats.ref_len, 7);
    /* Exponential smoothing: 2/7, 1/(2*6), 1/(4*5), 1/(8*4). */
    const double want[] = {200.0 / 7, 100.0 / 12, 100.0 / 20, 100.0 / 32};
    double product = 1;
    for (int n = 0; n < 4; n++) {
        check_near(r.precisions[n], want[n], 1e-12, "precision");
        product *= want[n];
    }
    check_near(r.bp, 1, 0, "brevity penalty");
    check_near(r.score, pow(product, 0.25), 1e-12, "score");
}

static void test_largest_count_over_references(void **state) {
    (void)state;
    /* "a" is worth two (first reference), "b" three (second); never their sums. */
    const char *refs[] = {"a a b x", "a b b b"};
    wr_bleu_result r = bleu_of("a a a b b b b", refs, 2, (wr_score_options){0});
    assert_int_equal(r.stats.correct[0], 5);
    assert_int_equal(r.stats.correct[1], 4); /* "a a", "a b", and "b b" twice of three times */
}

static void test_closest_reference(void **state) {
    (void)state;
    const char *refs[] = {"a b c d e f g", "a b c", "a b c d e f g h i"};
    wr_bleu_result r = bleu_of("a b c d e", refs, 3, (wr_score_options){0});
    assert_int_equal(r.stats.ref_len, 3); /* 7 and 3 are as close as each other */
    r = bleu_of("a b c d e f", refs, 3, (wr_score_options){0});
    assert_int_equal(r.stats.ref_len, 7);
    check_near(r.bp, exp(1 - 7.0 / 6), 1e-15, "brevity penalty");
    check_near(r.score, 100 * exp(1 - 7.0 / 6), 1e-12, "score");
}

static void test_short_and_empty(void **state) {
    (void)state;
    const char *same[] = {"a b c"}, *empty[] = {""};
    wr_score_options eff = {.effective_order = true};
    check_near(bleu_of("a b c", same, 1, (wr_score_options){0}).score, 0, 0, "no 4-gram at all");
    check_near(bleu_of("a b c", same, 1, eff).score, 100, 1e-12, "effective order");
    check_near(bleu_of("", same, 1, eff).score, 0, 0, "empty hypothesis");
    check_near(bleu_of("", same, 1, eff).bp, 0, 0, "penalty of nothing");
    check_near(bleu_of("a b c", empty, 1, eff).score, 0, 0, "empty reference");
    check_near(bleu_of("", empty, 1, eff).score, 0, 0, "both empty");
    check_near(bleu_of("", empty, 1, eff).bp, 1, 0, "penalty of nothing against nothing");
    wr_score_options spaces = {.tok = WR_TOK_SPACES, .effective_order = true};
    check_near(bleu_of("", empty, 1, spaces).score, 100, 1e-12, "one empty token each");
}

static void test_smoothing(void **state) {
    (void)state;
    const char *refs[] = {"a b c d e"}; /* "a b c x y": 3/5, 2/4, 1/3, 0/2 */
    static const struct {
        wr_smooth smooth;
        double value, product;
    } cases[] = {{WR_SMOOTH_EXP, 0, 0.6 * 0.5 / 3 * 0.25},
                 {WR_SMOOTH_NONE, 0, 0},
                 {WR_SMOOTH_FLOOR, 0, 0.6 * 0.5 / 3 * 0.05},
                 {WR_SMOOTH_FLOOR, 0.01, 0.6 * 0.5 / 3 * 0.005},
                 {WR_SMOOTH_ADD_K, 0, 0.6 * (3.0 / 5) * (2.0 / 4) * (1.0 / 3)},
                 {WR_SMOOTH_ADD_K, 2, 0.6 * (4.0 / 6) * (3.0 / 5) * (2.0 / 4)}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        wr_score_options o = {.smooth = cases[i].smooth, .smooth_value = cases[i].value};
        check_near(bleu_of("a b c x y", refs, 1, o).score, 100 * pow(cases[i].product, 0.25), 1e-12,
                   wr_smooth_name(cases[i].smooth));
    }
}

/* ---- chrF by hand ---- */

static double chrf_of(const char *hyp, const char *const *refs, size_t n_refs) {
    wr_chrf_result r;
    wr_error err = {0};
    wr_score_options options = {0};
    assert_int_equal(wr_chrf_sentence(hyp, refs, n_refs, &options, &r, &err), WR_OK);
    return r.score;
}

static double f2(double p, double r) { return 100 * 5 * p * r / (4 * p + r); }

static void test_chrf(void **state) {
    (void)state;
    const char *abc[] = {"a b\xc2\xa0"
                         "c"},
               *empty[] = {""}, *umlaut[] = {"\xc3\xa4\xc3\xa4x"};
    check_near(chrf_of("abc", abc, 1), 100, 1e-12, "white space does not count");
    check_near(chrf_of("", abc, 1), 0, 0, "empty hypothesis");
    check_near(chrf_of("abc", empty, 1), 0, 0, "empty reference");
    check_near(chrf_of("", empty, 1), 0, 0, "both empty");
    check_near(chrf_of("xyz", abc, 1), 0, 0, "nothing in common");
    /* Orders 1 and 2 exist on both sides: precision (2/2 + 1/1)/2, recall (2/3 + 1/2)/2. */
    check_near(chrf_of("ab", abc, 1), f2(1, (2.0 / 3 + 0.5) / 2), 1e-12, "shorter");
    /* Characters, not bytes; clipped: 1 of 3 and 0 of 2 and 0 of 1, against 1 of 3, 0, 0. */
    check_near(chrf_of("\xc3\xa4yz", umlaut, 1), f2(1.0 / 9, 1.0 / 9), 1e-12, "characters");
    const char *two[] = {"xyz", "abd"};
    const char *one[] = {"abd"};
    check_near(chrf_of("abc", two, 2), chrf_of("abc", one, 1), 0, "the better reference");
}

/* ---- corpora, against sacreBLEU ---- */

static const char *const HYP[] = {"THE cat sat on the Mat.",
                                  "",
                                  "It costs 1,234.56 dollars - no more.",
                                  "Hi",
                                  "He said &quot;no&quot; \xe2\x80\x93 twice\xc2\xa0today.",
                                  "\xc2\xab Stra\xc3\x9f"
                                  "e \xc2\xbb, 3\xe2\x80\x93"
                                  "4 km; "
                                  "na\xc3\xafve caf\xc3\xa9!",
                                  "the the the the the the the"};
static const char *const REF1[] = {"The cat is sitting on the mat.",
                                   "Nothing was said.",
                                   "It costs 1,234.56 dollars, no more!",
                                   "",
                                   "He said \"no\" \xe2\x80\x93 two times today.",
                                   "\xc2\xab Stra\xc3\x9f"
                                   "e \xc2\xbb: 3\xe2\x80\x93"
                                   "4 km, "
                                   "naive caf\xc3\xa9!",
                                   "the cat is on the mat"};
static const char *const REF2[] = {"There is a cat on the mat.",
                                   "",
                                   "That is 1,234.56 dollars - at most.",
                                   "Hi",
                                   "He refused twice today.",
                                   "Street, 3-4 kilometres; a na\xc3\xafve caf\xc3\xa9.",
                                   "there is a cat on the mat"};
static const char *const *const REFS[] = {REF1, REF2};

static void test_corpus_bleu(void **state) {
    (void)state;
    static const struct {
        size_t n_refs;
        bool lowercase;
        wr_tok tok;
        double score, bp; /* sacreBLEU */
        uint64_t hyp_len, ref_len, correct[4], total[4];
    } cases[] = {
        {1,
         0,
         WR_TOK_13A,
         28.495005357478,
         0.909156442877,
         42,
         46,
         {28, 15, 7, 4},
         {42, 36, 31, 26}},
        {1, 0, WR_TOK_INTL, 14.516771517895, 1, 46, 46, {26, 11, 3, 1}, {46, 40, 35, 30}},
        {1,
         0,
         WR_TOK_NONE,
         9.608181003234,
         0.942873143855,
         34,
         36,
         {17, 5, 1, 0},
         {34, 28, 23, 18}},
        {1,
         1,
         WR_TOK_13A,
         34.163981728644,
         0.909156442877,
         42,
         46,
         {30, 18, 9, 5},
         {42, 36, 31, 26}},
        {1, 1, WR_TOK_INTL, 21.223633441554, 1, 46, 46, {28, 14, 5, 2}, {46, 40, 35, 30}},
        {2,
         0,
         WR_TOK_13A,
         34.963192623480,
         0.953496954833,
         42,
         44,
         {34, 18, 9, 4},
         {42, 36, 31, 26}},
        {2, 0, WR_TOK_INTL, 18.452712871106, 1, 46, 44, {32, 14, 5, 1}, {46, 40, 35, 30}},
        {2,
         0,
         WR_TOK_NONE,
         13.706359239215,
         0.942873143855,
         34,
         36,
         {22, 8, 2, 0},
         {34, 28, 23, 18}},
        {2,
         1,
         WR_TOK_13A,
         40.979695155002,
         0.953496954833,
         42,
         44,
         {36, 21, 11, 5},
         {42, 36, 31, 26}},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        wr_score_options o = {.tok = cases[i].tok, .lowercase = cases[i].lowercase};
        wr_bleu_result r;
        wr_error err = {0};
        assert_int_equal(wr_bleu_strings(HYP, REFS, cases[i].n_refs, COUNT(HYP), &o, &r, &err),
                         WR_OK);
        check_near(r.score, cases[i].score, 1e-9, "corpus BLEU");
        check_near(r.bp, cases[i].bp, 1e-9, "brevity penalty");
        assert_int_equal(r.stats.hyp_len, cases[i].hyp_len);
        assert_int_equal(r.stats.ref_len, cases[i].ref_len);
        for (int n = 0; n < 4; n++) {
            assert_int_equal(r.stats.correct[n], cases[i].correct[n]);
            assert_int_equal(r.stats.total[n], cases[i].total[n]);
        }
    }
}

static void test_corpus_chrf(void **state) {
    (void)state;
    static const double want[2][2] = {{43.220917643610, 47.789170614429}, /* sacreBLEU */
                                      {48.029000150373, 51.502288229059}};
    for (size_t n_refs = 1; n_refs <= 2; n_refs++) {
        for (int lc = 0; lc < 2; lc++) {
            wr_score_options o = {.lowercase = lc == 1};
            wr_chrf_result r;
            assert_int_equal(wr_chrf_strings(HYP, REFS, n_refs, COUNT(HYP), &o, &r, NULL), WR_OK);
            check_near(r.score, want[n_refs - 1][lc], 1e-9, "corpus chrF");
        }
    }
}

static void test_sentences(void **state) {
    (void)state;
    static const double want[COUNT(HYP)][4] = {
        /* sacreBLEU: BLEU and chrF with one reference, then with two */
        {13.540372457316, 22.927589111755, 13.540372457316, 36.999101673687},
        {0, 0, 0, 0},
        {41.113361690052, 83.184558310995, 51.697315395717, 83.184558310995},
        {0, 0, 100, 100},
        {59.116026033142, 37.400371332294, 66.904844089360, 46.800910066292},
        {23.736810439042, 56.827467218772, 26.538560855362, 56.827467218772},
        {7.809849842301, 14.232426848160, 7.809849842301, 14.232426848160}};
    wr_score_options o = {0};
    for (size_t i = 0; i < COUNT(HYP); i++) {
        const char *refs[] = {REF1[i], REF2[i]};
        for (size_t n = 1; n <= 2; n++) {
            wr_bleu_result b;
            wr_chrf_result c;
            assert_int_equal(wr_bleu_sentence(HYP[i], refs, n, &o, &b, NULL), WR_OK);
            assert_int_equal(wr_chrf_sentence(HYP[i], refs, n, &o, &c, NULL), WR_OK);
            check_near(b.score, want[i][2 * n - 2], 1e-9, HYP[i]);
            check_near(c.score, want[i][2 * n - 1], 1e-9, HYP[i]);
        }
    }
}

/* Enough different n-grams that every table has to grow, then a small sentence in the same
 * tables: nothing of the first may be left over. */
static void test_long_sentence_then_short(void **state) {
    (void)state;
    wr_str text = {0};
    for (int i = 0; i < 5000; i++)
        wr_str_add(&text, "w%d ", i);
    wr_scorer *s;
    wr_score_options o = {0};
    wr_segment hyp = {text.text, text.len}, small = {"w1 w2 w3 w5", 11}, ref = {"w9 w1 w2 w3", 11};
    wr_bleu_stats b = {0};
    wr_chrf_stats c = {0};
    assert_int_equal(wr_scorer_new(&o, &s, NULL), WR_OK);
    assert_int_equal(wr_scorer_add_bleu(s, hyp, &hyp, 1, &b, NULL), WR_OK);
    assert_int_equal(wr_scorer_add_chrf(s, hyp, &hyp, 1, &c, NULL), WR_OK);
    assert_int_equal(b.correct[3], 4997);
    check_near(wr_chrf_from_stats(&c).score, 100, 1e-12, "long chrF");
    b = (wr_bleu_stats){0};
    assert_int_equal(wr_scorer_add_bleu(s, small, &ref, 1, &b, NULL), WR_OK);
    const uint64_t correct[] = {3, 2, 1, 0};
    for (int n = 0; n < 4; n++)
        assert_int_equal(b.correct[n], correct[n]);
    wr_scorer_free(s);
    wr_str_free(&text);
}

static void test_corpus_errors(void **state) {
    (void)state;
    wr_score_options o = {0};
    wr_bleu_result r;
    wr_error none = {0}, bad = {0}, zero = {0};
    assert_int_equal(wr_bleu_strings(HYP, REFS, 0, COUNT(HYP), &o, &r, &none), WR_ERR_INPUT);
    assert_non_null(strstr(none.text, "reference"));
    assert_int_equal(wr_bleu_strings(HYP, REFS, 1, 0, &o, &r, &zero), WR_ERR_INPUT);
    const char *hyp[] = {"fine", "\xff"}, *ref[] = {"fine", "fine"};
    const char *const *refs[] = {ref};
    assert_int_equal(wr_bleu_strings(hyp, refs, 1, 2, &o, &r, &bad), WR_ERR_INPUT);
    assert_non_null(strstr(bad.text, "sentence 2 of 2"));
}

static void test_different_lengths(void **state) {
    (void)state;
    const char *lines[] = {"a", "b", "c"};
    size_t len[] = {1, 1, 1};
    char hyp_path[] = "hyp.txt", ref_path[] = "ref.txt";
    wr_text hyp = {.line = lines, .len = len, .n = 3, .path = hyp_path};
    wr_text ref = {.line = lines, .len = len, .n = 2, .path = ref_path};
    wr_score_options o = {0};
    wr_bleu_result b;
    wr_chrf_result c;
    wr_error err = {0}, again = {0};
    assert_int_equal(wr_bleu(&hyp, &ref, 1, &o, &b, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "hyp.txt has 3 lines and ref.txt has 2"));
    assert_int_equal(wr_chrf(&hyp, &ref, 1, &o, &c, &again), WR_ERR_INPUT);
    assert_string_equal(err.text, again.text);
}

static void test_signatures(void **state) {
    (void)state;
    wr_str s = {0};
    wr_score_options o = {0};
    wr_bleu_signature(&o, 1, &s);
    assert_string_equal(s.text,
                        "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" WR_SCORE_VERSION);
    wr_str_clear(&s);
    o = (wr_score_options){WR_TOK_INTL, true, WR_SMOOTH_FLOOR, 0, true};
    wr_bleu_signature(&o, 3, &s);
    assert_string_equal(
        s.text, "nrefs:3|case:lc|eff:yes|tok:intl|smooth:floor[0.10]|version:" WR_SCORE_VERSION);
    wr_str_clear(&s);
    wr_chrf_signature(&o, 2, &s);
    assert_string_equal(s.text,
                        "nrefs:2|case:lc|eff:yes|nc:6|nw:0|space:no|version:" WR_SCORE_VERSION);
    wr_str_free(&s);
}

/* ---- published values ---- */

enum { NAME, METRIC, HYP_FILE, REF_FILES, TOKENIZE, LOWERCASE, PUBLISHED, SNAPSHOT, COLUMNS };

/* Cut `line` at its tabs. */
static void split_row(char *line, char **cells) {
    for (int i = 0; i < COLUMNS; i++) {
        cells[i] = line;
        line = strchr(line, '\t');
        assert_non_null(line);
        *line++ = '\0';
    }
}

/* The file may lie there as it is or compressed. */
static wr_text read_known(const char *name) {
    char path[512];
    wr_text text;
    wr_error err = {0};
    snprintf(path, sizeof path, "%s/%s", KNOWN_DIR, name);
    if (access(path, R_OK) != 0) snprintf(path, sizeof path, "%s/%s.xz", KNOWN_DIR, name);
    wr_text_read(path, 0, &text, &err);
    assert_string_equal(err.text, "");
    return text;
}

static double known_score(char **cells, const wr_text *hyp, const wr_text *refs, size_t n_refs,
                          wr_tok tok) {
    wr_score_options o = {.tok = tok, .lowercase = strcmp(cells[LOWERCASE], "1") == 0};
    wr_error err = {0};
    if (strcmp(cells[METRIC], "CHRF") == 0) {
        wr_chrf_result r;
        assert_int_equal(wr_chrf(hyp, refs, n_refs, &o, &r, &err), WR_OK);
        return r.score;
    }
    wr_bleu_result r;
    assert_string_equal(cells[METRIC], "BLEU");
    assert_int_equal(wr_bleu(hyp, refs, n_refs, &o, &r, &err), WR_OK);
    return r.score;
}

static void check_known(char **cells) {
    wr_text hyp = read_known(cells[HYP_FILE]), refs[4];
    size_t n_refs = 0;
    wr_tok tok = WR_TOK_13A;
    for (char *at = strtok(cells[REF_FILES], " "); at != NULL; at = strtok(NULL, " ")) {
        assert_true(n_refs < COUNT(refs));
        refs[n_refs++] = read_known(at);
    }
    if (strcmp(cells[TOKENIZE], "-") != 0) assert_true(wr_tok_parse(cells[TOKENIZE], &tok));
    double score = known_score(cells, &hyp, refs, n_refs, tok);
    check_near(score, strtod(cells[SNAPSHOT], NULL), 1e-4, cells[NAME]);
    /* tensorflow/nmt splits at single spaces; sacreBLEU's `none` gives the snapshot's value. */
    if (strncmp(cells[HYP_FILE], "tf_nmt/", 7) == 0)
        score = known_score(cells, &hyp, refs, n_refs, WR_TOK_SPACES);
    if (cells[PUBLISHED][0] != '\0')
        check_near(score, strtod(cells[PUBLISHED], NULL), 0.01, cells[NAME]);
    wr_text_free(&hyp);
    for (size_t r = 0; r < n_refs; r++)
        wr_text_free(&refs[r]);
}

static void test_known_values(void **state) {
    (void)state;
    if (access(KNOWN_DIR "/EXPECTED.tsv", R_OK) != 0) {
        print_message("%s is not there: published values are not checked\n", KNOWN_DIR);
        skip();
    }
    wr_text table = read_known("EXPECTED.tsv");
    size_t rows = 0;
    for (size_t i = 1; i < table.n; i++) {
        char *cells[COLUMNS], *row = strdup(table.line[i]);
        assert_non_null(row);
        split_row(row, cells);
        check_known(cells);
        free(row);
        rows++;
    }
    assert_int_equal(rows, 69);
    wr_text_free(&table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_13a),
        cmocka_unit_test(test_intl),
        cmocka_unit_test(test_none_and_spaces),
        cmocka_unit_test(test_spaces_on_an_empty_line),
        cmocka_unit_test(test_lower_case),
        cmocka_unit_test(test_tokenizer_reports_bad_utf8),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_clipping),
        cmocka_unit_test(test_largest_count_over_references),
        cmocka_unit_test(test_closest_reference),
        cmocka_unit_test(test_short_and_empty),
        cmocka_unit_test(test_smoothing),
        cmocka_unit_test(test_chrf),
        cmocka_unit_test(test_corpus_bleu),
        cmocka_unit_test(test_corpus_chrf),
        cmocka_unit_test(test_sentences),
        cmocka_unit_test(test_long_sentence_then_short),
        cmocka_unit_test(test_corpus_errors),
        cmocka_unit_test(test_different_lengths),
        cmocka_unit_test(test_signatures),
        cmocka_unit_test(test_known_values),
    };
    return cmocka_run_group_tests_name("score", tests, NULL, NULL);
}
