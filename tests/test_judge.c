/* test_judge.c: candidates that are judged together get what each gets alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "helpers/alloc.h"
#include "helpers/decoding.h"
#include "models/judge.h"

enum { VOCAB = 9, SOURCES = 5, FEW = 60, MANY = 700, WORDS = TEST_MAX_LEN - 1 };

static wr_transformer tiny(wr_dtype dtype, wr_recipe_norm norm) {
    return test_transformer(dtype, norm, 2, VOCAB);
}

/* Sources of 0 to 8 words. */
static const wr_sentence *sources(void) {
    static test_sentences s;
    return test_sentences_by_rule(
        &s, (test_rule){.n = SOURCES, .step = 7, .lengths = 9, .turn = 5, .words = 7});
}

/* Candidates of all sources in turn: of 0 to 12 words, few different ones, so that many begin alike
 * and some are the same. */
typedef struct candidates {
    size_t n, sentence[MANY];
    wr_sentence text[MANY];
    int32_t word[MANY][WORDS];
} candidates;

static uint32_t draw(uint32_t *state, uint32_t below) {
    *state = *state * 1664525U + 1013904223U;
    return (*state >> 16) % below;
}

static candidates *make(size_t n, uint32_t seed) {
    candidates *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->n = n;
    for (size_t i = 0; i < n; i++) {
        c->sentence[i] = draw(&seed, SOURCES);
        c->text[i] = (wr_sentence){.id = c->word[i], .n = draw(&seed, 13)};
        for (size_t k = 0; k < c->text[i].n; k++)
            c->word[i][k] = 4 + (int32_t)draw(&seed, k < 4 ? 2 : 5);
    }
    return c;
}

static wr_judge *judge_of(const test_rig *r) {
    wr_error err = {0};
    wr_judge *j;
    test_must(wr_judge_new(&r->t, r->session, &j, &err), &err);
    return j;
}

static void score(wr_judge *j, const candidates *c, double *nll) {
    wr_error err = {0};
    test_must(wr_judge_score(j, sources(), c->sentence, c->text, c->n, nll, &err), &err);
}

/* What forced scoring of each pair gives. */
static void score_pairs(const test_rig *r, const candidates *c, double *nll) {
    wr_error err = {0};
    wr_sentence *src = malloc(sizeof *src * c->n);
    assert_non_null(src);
    for (size_t i = 0; i < c->n; i++)
        src[i] = sources()[c->sentence[i]];
    wr_decoder_scoring o = {0};
    test_must(wr_decoder_score(r->d, src, c->text, c->n, &o, nll, &err), &err);
    free(src);
}

static void same(const double *a, const double *b, size_t n, double error) {
    for (size_t i = 0; i < n; i++)
        if (!(fabs(a[i] - b[i]) <= error * (1 + fabs(b[i]))))
            fail_msg("candidate %zu: %.17g, but it is %.17g", i, a[i], b[i]);
}

static void compare(wr_dtype dtype, wr_recipe_norm norm, size_t n, double error) {
    test_rig r = test_rig_open(tiny(dtype, norm), 3, 1);
    candidates *c = make(n, (uint32_t)n);
    double judged[MANY], paired[MANY];
    wr_judge *j = judge_of(&r);
    score(j, c, judged);
    score_pairs(&r, c, paired);
    same(judged, paired, n, error);
    wr_judge_free(j);
    free(c);
    test_rig_close(&r);
}

static void test_as_pairs(void **state) {
    (void)state;
    compare(WR_F64, WR_RECIPE_NORM_PRE, FEW, 1e-12);
    compare(WR_F64, WR_RECIPE_NORM_POST, FEW, 1e-12);
    compare(WR_F32, WR_RECIPE_NORM_PRE, FEW, 1e-5);
}

/* More than a batch holds: sentences are cut apart between batches. */
static void test_many(void **state) {
    (void)state;
    compare(WR_F64, WR_RECIPE_NORM_PRE, MANY, 1e-12);
}

static void test_one_by_one(void **state) {
    (void)state;
    test_rig r = test_rig_open(tiny(WR_F64, WR_RECIPE_NORM_PRE), 5, 1);
    candidates *c = make(FEW, 9);
    double together[FEW], alone[FEW];
    wr_judge *j = judge_of(&r);
    wr_error err = {0};
    score(j, c, together);
    for (size_t i = 0; i < FEW; i++)
        test_must(wr_judge_score(j, sources(), &c->sentence[i], &c->text[i], 1, &alone[i], &err),
                  &err);
    same(together, alone, FEW, 1e-12);
    test_must(wr_judge_score(j, sources(), NULL, NULL, 0, NULL, &err), &err);
    wr_judge_free(j);
    free(c);
    test_rig_close(&r);
}

static void test_threads(void **state) {
    (void)state;
    candidates *c = make(MANY, 4);
    double nll[2][MANY];
    for (int k = 0; k < 2; k++) {
        test_rig r = test_rig_open(tiny(WR_F32, WR_RECIPE_NORM_PRE), 8, k == 0 ? 1 : 3);
        wr_judge *j = judge_of(&r);
        score(j, c, nll[k]);
        wr_judge_free(j);
        test_rig_close(&r);
    }
    assert_memory_equal(nll[0], nll[1], sizeof nll[0]);
    free(c);
}

/* Nothing to read and nothing to say: the end alone. */
static void test_empty(void **state) {
    (void)state;
    test_rig r = test_rig_open(tiny(WR_F64, WR_RECIPE_NORM_PRE), 2, 1);
    const wr_sentence none = {.id = NULL, .n = 0};
    double nll, paired;
    wr_error err = {0};
    wr_judge *j = judge_of(&r);
    test_must(wr_judge_score(j, &none, (size_t[]){0}, &none, 1, &nll, &err), &err);
    test_must(wr_decoder_score(r.d, &none, &none, 1, &(wr_decoder_scoring){0}, &paired, &err),
              &err);
    same(&nll, &paired, 1, 1e-12);
    wr_judge_free(j);
    test_rig_close(&r);
}

/* A source that is too long is cut, a candidate that is too long cannot be said. */
static void test_too_long(void **state) {
    (void)state;
    test_rig r = test_rig_open(tiny(WR_F64, WR_RECIPE_NORM_PRE), 2, 1);
    int32_t word[2 * TEST_MAX_LEN];
    for (int i = 0; i < 2 * TEST_MAX_LEN; i++)
        word[i] = 4 + i % 5;
    const wr_sentence src[] = {{.id = word, .n = 2 * TEST_MAX_LEN}, {.id = word, .n = WORDS}};
    const wr_sentence tgt[] = {{.id = word, .n = 3},
                               {.id = word, .n = WORDS},
                               {.id = word, .n = WORDS + 1},
                               {.id = word, .n = 3},
                               {.id = word, .n = WORDS}};
    const size_t sentence[] = {0, 0, 0, 1, 1};
    double nll[5];
    wr_error err = {0};
    wr_judge *j = judge_of(&r);
    test_must(wr_judge_score(j, src, sentence, tgt, 5, nll, &err), &err);
    same(nll, nll + 3, 2, 1e-12);
    assert_true(isinf(nll[2]) && nll[2] > 0);
    wr_judge_free(j);
    test_rig_close(&r);
}

static void refuse(wr_judge *j, const wr_sentence *src, const wr_sentence *tgt, const char *says) {
    wr_error err = {0};
    size_t sentence[] = {0, 1, 1};
    double nll[3];
    assert_int_equal(wr_judge_score(j, src, sentence, tgt, 3, nll, &err), WR_ERR_INPUT);
    if (strstr(err.text, says) == NULL) fail_msg("\"%s\" is not in: %s", says, err.text);
}

static void test_mistakes_are_named(void **state) {
    (void)state;
    test_rig r = test_rig_open(tiny(WR_F32, WR_RECIPE_NORM_PRE), 2, 1);
    int32_t word[] = {4, 5, 6}, foreign[] = {4, VOCAB}, below[] = {4, 5, -1};
    wr_sentence fine = {.id = word, .n = 3};
    wr_sentence src[] = {fine, fine}, tgt[] = {fine, fine, fine};
    double nll[3];
    wr_error err = {0};
    wr_judge *j = judge_of(&r);
    tgt[1] = (wr_sentence){.id = foreign, .n = 2};
    refuse(j, src, tgt, "candidate 2: token 2 is 9, but ids of the vocabulary are 0 to 8");
    tgt[1] = fine;
    src[1] = (wr_sentence){.id = below, .n = 3};
    refuse(j, src, tgt, "source 2: token 3 is -1");
    src[1] = fine;
    test_must(wr_judge_score(j, src, (size_t[]){0, 1, 1}, tgt, 3, nll, &err), &err);
    test_rig_poison(&r);
    refuse(j, src, tgt, "sentence 1: the rescorer's output is not finite");
    wr_judge_free(j);
    wr_transformer huge = r.t;
    huge.tgt_vocab = 1 << 30;
    assert_int_equal(wr_judge_new(&huge, r.session, &j, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "model.max_len = 24 are too many to judge"));
    assert_null(j);
    test_rig_close(&r);
}

/* Every allocation of compiling and judging fails once. */
static void test_memory(void **state) {
    (void)state;
    wr_transformer t = test_transformer(WR_F32, WR_RECIPE_NORM_PRE, 1, VOCAB);
    candidates *c = make(8, 3);
    double right[8], nll[8];
    test_rig r = test_rig_open(t, 6, 1);
    wr_judge *j = judge_of(&r);
    score(j, c, right);
    wr_judge_free(j);
    long n = 1;
    for (;; n++) {
        wr_error err = {0};
        wr_test_fail_allocation(n);
        wr_status status = wr_judge_new(&r.t, r.session, &j, &err);
        if (status == WR_OK)
            status = wr_judge_score(j, sources(), c->sentence, c->text, c->n, nll, &err);
        wr_judge_free(j);
        bool failed = wr_test_allocation_failed();
        if (status == WR_OK) same(nll, right, c->n, 0);
        if (failed) continue;
        assert_int_equal(status, WR_OK);
        break;
    }
    wr_test_fail_allocation(0);
    assert_true(n > 100);
    free(c);
    test_rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_as_pairs),
                                       cmocka_unit_test(test_many),
                                       cmocka_unit_test(test_one_by_one),
                                       cmocka_unit_test(test_threads),
                                       cmocka_unit_test(test_empty),
                                       cmocka_unit_test(test_too_long),
                                       cmocka_unit_test(test_mistakes_are_named),
                                       cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
