/* test_diversity.c: the measures of diversity against corpora put together one by one. */
#include "data/diversity.h"
#include "helpers/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 6, SENTENCES = 9, LINE = 120 };

/* ---- texts ---- */

static wr_text text_of(const char *const *lines, size_t n) {
    wr_text t = {.line = malloc(n * sizeof *t.line + 1),
                 .len = malloc(n * sizeof *t.len + 1),
                 .n = n,
                 .path = strdup("lines")};
    assert_true(t.line != NULL && t.len != NULL && t.path != NULL);
    for (size_t i = 0; i < n; i++) {
        t.line[i] = lines[i];
        t.len[i] = strlen(lines[i]);
    }
    return t;
}

/* Sentences with 1..MOST candidates of words drawn from few, and two references. */
typedef struct sample {
    size_t k[SENTENCES], n;
    char y[SENTENCES][MOST][LINE], ref[2][SENTENCES][LINE];
    const char *numbered[SENTENCES * MOST], *ref_lines[2][SENTENCES];
    char lines[SENTENCES * MOST][LINE + 20];
} sample;

static uint64_t draw(uint64_t *state, uint64_t n) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (*state >> 33) % n;
}

static void draw_line(uint64_t *state, char *line) {
    static const char *const words[] = {"a", "cat", "sat", "on", "the", "mat"};
    size_t n = draw(state, 9), at = 0;
    line[0] = '\0';
    for (size_t i = 0; i < n; i++)
        at +=
            (size_t)snprintf(line + at, LINE - at, "%s%s", i > 0 ? " " : "", words[draw(state, 6)]);
}

static void draw_sample(sample *s, uint64_t seed, size_t fixed) {
    uint64_t state = seed;
    *s = (sample){0};
    for (size_t i = 0; i < SENTENCES; i++) {
        s->k[i] = fixed > 0 ? fixed : 1 + draw(&state, MOST);
        for (size_t c = 0; c < s->k[i]; c++, s->n++) {
            draw_line(&state, s->y[i][c]);
            if (c > 0 && draw(&state, 4) == 0) memcpy(s->y[i][c], s->y[i][c - 1], LINE);
            snprintf(s->lines[s->n], sizeof s->lines[0], "%zu\t%s", i + 1, s->y[i][c]);
            s->numbered[s->n] = s->lines[s->n];
        }
        for (int r = 0; r < 2; r++) {
            draw_line(&state, s->ref[r][i]);
            s->ref_lines[r][i] = s->ref[r][i];
        }
    }
}

/* ---- the same by brute force ---- */

/* A corpus that is put together: hypotheses, each with its references. */
typedef struct corpus {
    const char *hyp[SENTENCES * MOST * MOST], *ref[MOST][SENTENCES * MOST * MOST];
    size_t n;
} corpus;

static double bleu_of(const corpus *c, size_t n_refs, const wr_score_options *o) {
    const char *const *refs[MOST];
    for (size_t r = 0; r < n_refs; r++)
        refs[r] = c->ref[r];
    wr_bleu_result result;
    wr_error err = {0};
    assert_int_equal(wr_bleu_strings(c->hyp, refs, n_refs, c->n, o, &result, &err), WR_OK);
    return result.score;
}

static bool pair_corpus(const sample *s, size_t i, size_t j, corpus *c) {
    for (size_t at = 0; at < SENTENCES; at++) {
        if (i >= s->k[at] || j >= s->k[at]) continue;
        c->hyp[c->n] = s->y[at][i];
        c->ref[0][c->n++] = s->y[at][j];
    }
    return c->n > 0;
}

static void brute_pairwise(const sample *s, const wr_score_options *o, double *mean,
                           double *pooled) {
    corpus all = {0};
    double sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < MOST; i++)
        for (size_t j = 0; j < MOST; j++) {
            corpus c = {0};
            if (i == j || !pair_corpus(s, i, j, &c)) continue;
            pair_corpus(s, i, j, &all);
            sum += bleu_of(&c, 1, o);
            n++;
        }
    *mean = sum / (double)n;
    *pooled = bleu_of(&all, 1, o);
}

/* With groups of one size only: all have as many references. */
static double brute_leave_one_out(const sample *s, const wr_score_options *o) {
    size_t k = s->k[0];
    double sum = 0;
    for (size_t i = 0; i < k; i++) {
        corpus c = {.n = SENTENCES};
        for (size_t at = 0; at < SENTENCES; at++) {
            c.hyp[at] = s->y[at][i];
            for (size_t j = 0, r = 0; j < k; j++)
                if (j != i) c.ref[r++][at] = s->y[at][j];
        }
        sum += bleu_of(&c, k - 1, o);
    }
    return sum / (double)k;
}

static void brute_references(const sample *s, const wr_score_options *o, double *average,
                             double *first, double *oracle) {
    size_t k = s->k[0];
    corpus best = {.n = SENTENCES};
    *average = 0;
    for (size_t i = 0; i < k; i++) {
        corpus c = {.n = SENTENCES};
        for (size_t at = 0; at < SENTENCES; at++) {
            c.hyp[at] = s->y[at][i];
            c.ref[0][at] = s->ref[0][at];
            c.ref[1][at] = s->ref[1][at];
        }
        double score = bleu_of(&c, 2, o);
        *average += score / (double)k;
        if (i == 0) *first = score;
    }
    for (size_t at = 0; at < SENTENCES; at++) {
        const char *refs[] = {s->ref[0][at], s->ref[1][at]};
        double most = -1;
        for (size_t i = 0; i < k; i++) {
            wr_bleu_result r;
            wr_error err = {0};
            assert_int_equal(wr_bleu_sentence(s->y[at][i], refs, 2, o, &r, &err), WR_OK);
            if (r.score <= most) continue;
            most = r.score;
            best.hyp[at] = s->y[at][i];
        }
        best.ref[0][at] = refs[0];
        best.ref[1][at] = refs[1];
    }
    *oracle = bleu_of(&best, 2, o);
}

static double brute_distinct(const sample *s) {
    size_t repeats = 0;
    for (size_t at = 0; at < SENTENCES; at++)
        for (size_t i = 1; i < s->k[at]; i++) {
            bool repeat = false;
            for (size_t j = 0; j < i; j++)
                repeat = repeat || strcmp(s->y[at][i], s->y[at][j]) == 0;
            repeats += repeat;
        }
    return 1 - (double)repeats / (double)s->n;
}

/* ---- tests ---- */

static wr_diversity measure(const sample *s, const wr_score_options *o, size_t n_refs) {
    wr_text text = text_of(s->numbered, s->n);
    wr_text refs[] = {text_of(s->ref_lines[0], SENTENCES), text_of(s->ref_lines[1], SENTENCES)};
    wr_groups g = {0};
    wr_diversity d;
    wr_error err = {0};
    assert_int_equal(wr_groups_numbered(&text, false, &g, &err), WR_OK);
    assert_int_equal(g.n, SENTENCES);
    wr_status status = wr_diversity_measure(&g, refs, n_refs, o, NULL, NULL, &d, &err);
    if (status != WR_OK) fail_msg("%s", err.text);
    wr_groups_free(&g);
    wr_text_free(&text);
    wr_text_free(&refs[0]);
    wr_text_free(&refs[1]);
    return d;
}

static void near(double a, double b) {
    if (!(a - b < 1e-9 && b - a < 1e-9)) fail_msg("%.12g is not %.12g", a, b);
}

static const wr_score_options OPTIONS[] = {
    {0}, {.smooth = WR_SMOOTH_NONE}, {.tok = WR_TOK_NONE, .smooth = WR_SMOOTH_FLOOR}};

static void test_like_brute_force(void **state) {
    (void)state;
    static sample s;
    for (uint64_t seed = 0; seed < 60; seed++) {
        const wr_score_options *o = &OPTIONS[seed % 3];
        draw_sample(&s, seed, 2 + seed % (MOST - 1));
        wr_diversity d = measure(&s, o, 2);
        double pairwise, pooled, average, first = 0, oracle;
        brute_pairwise(&s, o, &pairwise, &pooled);
        brute_references(&s, o, &average, &first, &oracle);
        assert_int_equal(d.sentences, SENTENCES);
        assert_int_equal(d.candidates, s.n);
        near(d.pairwise, pairwise);
        near(d.pairwise_pooled, pooled);
        near(d.leave_one_out, brute_leave_one_out(&s, o));
        near(d.distinct, brute_distinct(&s));
        near(d.average, average);
        near(d.first, first);
        near(d.oracle, oracle);
        assert_true(measure(&s, o, 0).pairwise == d.pairwise);
    }
}

static void test_different_sizes(void **state) {
    (void)state;
    static sample s;
    for (uint64_t seed = 0; seed < 30; seed++) {
        const wr_score_options *o = &OPTIONS[seed % 3];
        draw_sample(&s, seed, 0);
        wr_diversity d = measure(&s, o, 0);
        double pairwise, pooled;
        brute_pairwise(&s, o, &pairwise, &pooled);
        near(d.pairwise, pairwise);
        near(d.pairwise_pooled, pooled);
        near(d.distinct, brute_distinct(&s));
    }
}

static wr_diversity measure_lines(const char *const *lines, size_t n, size_t each) {
    wr_text text = text_of(lines, n);
    wr_groups g = {0};
    wr_diversity d;
    wr_error err = {0};
    const wr_score_options o = {.smooth = WR_SMOOTH_NONE};
    assert_int_equal(wr_groups_consecutive(&text, each, &g, &err), WR_OK);
    assert_int_equal(wr_diversity_measure(&g, NULL, 0, &o, NULL, NULL, &d, &err), WR_OK);
    wr_groups_free(&g);
    wr_text_free(&text);
    return d;
}

static void test_extremes(void **state) {
    (void)state;
    const char *const same[] = {"one two three four five", "one two three four five",
                                "the cat sat on the mat", "the cat sat on the mat"};
    const char *const apart[] = {"one two three four", "five six seven eight",
                                 "nine ten eleven twelve"};
    wr_diversity d = measure_lines(same, 4, 2);
    near(d.pairwise, 100);
    near(d.leave_one_out, 100);
    near(d.distinct, 0.5);
    d = measure_lines(apart, 3, 3);
    near(d.pairwise, 0);
    near(d.leave_one_out, 0);
    near(d.distinct, 1);
}

/* Two of three candidates are equal: each of them is found whole among the others, and the third is
 * not: (100 + 100 + 0) / 3; of six ordered pairs two match. */
static void test_by_hand(void **state) {
    (void)state;
    const char *const lines[] = {"one two three four", "five six seven eight",
                                 "one two three four"};
    wr_diversity d = measure_lines(lines, 3, 3);
    near(d.pairwise, 100.0 / 3);
    near(d.leave_one_out, 200.0 / 3);
    near(d.distinct, 2.0 / 3);
}

static void refuse_numbered(const char *const *lines, size_t n, bool scores, const char *said) {
    wr_text text = text_of(lines, n);
    wr_groups g = {0};
    wr_error err = {0};
    assert_int_equal(wr_groups_numbered(&text, scores, &g, &err), WR_ERR_INPUT);
    if (strstr(err.text, said) == NULL) fail_msg("'%s' is not in '%s'", said, err.text);
    assert_null(g.candidate);
    wr_text_free(&text);
}

static void test_numbered(void **state) {
    (void)state;
    refuse_numbered((const char *const[]){"1\ta", "two\tb"}, 2, false, "lines:2: does not begin");
    refuse_numbered((const char *const[]){"1 a"}, 1, false, "lines:1: does not begin");
    refuse_numbered((const char *const[]){"0\ta"}, 1, false, "lines:1: does not begin");
    refuse_numbered((const char *const[]){"1\ta", "3\tb"}, 2, false, "sentence 3 comes after");
    refuse_numbered((const char *const[]){"1\ta", "2\tb", "1\tc"}, 3, false,
                    "lines:3: sentence 1 comes after sentence 2");
    refuse_numbered((const char *const[]){"2\ta"}, 1, false, "sentence 2 comes after sentence 0");
    refuse_numbered((const char *const[]){"1\t-0.5\ta"}, 1, true, "no two scores");
    wr_text text =
        text_of((const char *const[]){"1\t-0.5\t-1e-2\ta\tb", "1\t-3\t-inf\t", "2\t0\t0\tc"}, 3);
    wr_groups g = {0};
    wr_error err = {0};
    assert_int_equal(wr_groups_numbered(&text, true, &g, &err), WR_OK);
    assert_int_equal(g.n, 2);
    assert_int_equal(g.widest, 2);
    assert_string_equal(g.candidate[0].text, "a\tb");
    assert_int_equal(g.candidate[0].len, 3);
    assert_int_equal(g.candidate[1].len, 0);
    assert_int_equal(g.at[1], 2);
    wr_groups_free(&g);
    wr_text_free(&text);
}

static void test_refused(void **state) {
    (void)state;
    const char *const lines[] = {"a", "b", "c"};
    wr_text text = text_of(lines, 3);
    wr_groups g = {0};
    wr_diversity d;
    wr_error err = {0};
    assert_int_equal(wr_groups_consecutive(&text, 2, &g, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "has 3 lines, which are not groups of 2"));
    assert_int_equal(wr_groups_consecutive(&text, 0, &g, NULL), WR_ERR_INPUT);
    assert_int_equal(wr_groups_consecutive(&text, 1, &g, NULL), WR_OK);
    err = (wr_error){0};
    assert_int_equal(wr_diversity_measure(&g, NULL, 0, &OPTIONS[0], NULL, NULL, &d, &err),
                     WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "no sentence has two candidates"));
    wr_groups_free(&g);
    err = (wr_error){0};
    assert_int_equal(wr_groups_consecutive(&text, 3, &g, NULL), WR_OK);
    assert_int_equal(wr_diversity_measure(&g, &text, 1, &OPTIONS[0], NULL, NULL, &d, &err),
                     WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "lines has 3 lines, but there are candidates for 1"));
    wr_groups_free(&g);
    wr_text_free(&text);
}

static wr_status work(const wr_text *text, const wr_text *ref, wr_error *err) {
    wr_groups g = {0};
    wr_diversity d;
    wr_status status = wr_groups_consecutive(text, 2, &g, err);
    if (status == WR_OK)
        status = wr_diversity_measure(&g, ref, 1, &OPTIONS[0], NULL, NULL, &d, err);
    wr_groups_free(&g);
    return status;
}

static void test_memory(void **state) {
    (void)state;
    const char *const lines[] = {"a b c d", "b c d e", "x y", "x z"};
    wr_text text = text_of(lines, 4), ref = text_of(lines, 2);
    for (long n = 1;; n++) {
        wr_error err = {0};
        wr_test_watch_allocations();
        wr_test_fail_allocation(n);
        wr_status status = work(&text, &ref, &err);
        bool failed = wr_test_allocation_failed();
        assert_int_equal(wr_test_unfreed_allocations(), 0);
        assert_int_equal(status, failed ? WR_ERR_MEMORY : WR_OK);
        if (!failed) break;
        assert_true(n < 1000);
    }
    wr_text_free(&text);
    wr_text_free(&ref);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_brute_force), cmocka_unit_test(test_different_sizes),
        cmocka_unit_test(test_extremes),         cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_numbered),         cmocka_unit_test(test_refused),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
