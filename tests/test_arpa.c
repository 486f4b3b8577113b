/* test_arpa.c: n-gram models against back-off by hand and against the definition, on a model drawn
 * at random; files with a mistake are refused with its line. */
#include "data/arpa.h"
#include "helpers/alloc.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define LN_10 2.302585092994045684

static const char *const FILE_NAME = "test_arpa.tmp";

static void write_file(const char *text) {
    FILE *f = fopen(FILE_NAME, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

static wr_arpa *read_text(const char *text) {
    wr_error err = {0};
    wr_arpa *m = NULL;
    write_file(text);
    if (wr_arpa_read(FILE_NAME, &m, &err) != WR_OK) fail_msg("%s", err.text);
    unlink(FILE_NAME);
    return m;
}

/* log10 p of the last of some words behind the others, "<s>" first for the beginning. */
static double log10_of(const wr_arpa *m, const char *words) {
    char text[200];
    snprintf(text, sizeof text, "%s", words);
    double p = 0;
    wr_arpa_state state = wr_arpa_begin(m);
    char *rest = NULL;
    for (char *w = strtok_r(text, " ", &rest); w != NULL; w = strtok_r(NULL, " ", &rest)) {
        if (strcmp(w, "<s>") == 0) continue;
        p = strcmp(w, "</s>") == 0 ? wr_arpa_end(m, state)
                                   : wr_arpa_step(m, state, wr_arpa_word(m, w), &state);
    }
    return p / LN_10;
}

static void near(double got, double wanted) {
    if (!(fabs(got - wanted) <= 1e-6)) fail_msg("%.9f instead of %.9f", got, wanted);
}

/* ---- by hand ---- */

static const char *const SMALL = "made by hand\n"
                                 "\n"
                                 "\\data\\\n"
                                 "ngram 1=6\n"
                                 "ngram  2 = 5\n"
                                 "ngram 3=2\n"
                                 "\n"
                                 "\\1-grams:\n"
                                 "-99 <s> -0.5\n"
                                 "-1.0\t</s>\n"
                                 "-2.5\t<unk>\t-0.125\n"
                                 "-0.5\tthe\t-0.25\n"
                                 "-0.75\tcat\t-0.375\n"
                                 "-0.875\tk\xc3\xa4se\t0.0625\n"
                                 "\n"
                                 "\\2-grams:\n"
                                 "-0.25\tthe cat\t-0.0625\n"
                                 "-0.125\t<s> the\t-0.75\n"
                                 "-0.5\tcat </s>\n"
                                 "-0.0625\tk\xc3\xa4se the\r\n"
                                 "-1.5\tcat the\t-0.03125\n"
                                 "\n"
                                 "\\3-grams:\n"
                                 "-0.03125\t<s> the cat\n"
                                 "-0.015625 the cat the\n"
                                 "\n"
                                 "\\end\\\n"
                                 "anything\n";

static void test_back_off(void **state) {
    (void)state;
    wr_arpa *m = read_text(SMALL);
    assert_int_equal(wr_arpa_order(m), 3);
    assert_int_equal(wr_arpa_count(m, 1), 6);
    assert_int_equal(wr_arpa_count(m, 2), 5);
    assert_int_equal(wr_arpa_count(m, 3), 2);
    assert_true(wr_arpa_has_end(m));
    assert_int_equal(wr_arpa_word(m, "dog"), -1);
    assert_int_equal(wr_arpa_word(m, "th"), -1);
    assert_int_equal(wr_arpa_word(m, "thee"), -1);
    assert_true(wr_arpa_word(m, "<unk>") == wr_arpa_unknown(m));
    near(log10_of(m, "<s> the"), -0.125);
    near(log10_of(m, "<s> the cat"), -0.03125);
    near(log10_of(m, "<s> the cat the"), -0.015625);           /* the first word is too far */
    near(log10_of(m, "<s> the cat the cat"), -0.03125 - 0.25); /* (cat the) then (the cat) */
    near(log10_of(m, "<s> the cat </s>"), -0.0625 - 0.5);
    near(log10_of(m, "<s> the the"), -0.75 - 0.25 - 0.5);
    near(log10_of(m, "<s> cat"), -0.5 - 0.75);
    near(log10_of(m, "<s> cat </s>"), -0.5); /* <s> cat is no bigram: no weight of its own */
    near(log10_of(m, "<s> cat k\xc3\xa4se"), -0.375 - 0.875);
    near(log10_of(m, "<s> cat k\xc3\xa4se cat"), 0.0625 - 0.75); /* a weight above 1 */
    near(log10_of(m, "<s> the dog"), -0.75 - 0.25 - 2.5);
    near(log10_of(m, "<s> the dog the"), -0.125 - 0.5); /* unknown is a word like others */
    wr_arpa_free(m);
}

/* Without <s>, </s> and <unk>. */
static void test_few_words(void **state) {
    (void)state;
    wr_arpa *m = read_text("\\data\\\nngram 1=2\n\\1-grams:\n-0.25 a\n-0.375 b\n\\end\\\n");
    assert_int_equal(wr_arpa_order(m), 1);
    assert_false(wr_arpa_has_end(m));
    assert_int_equal(wr_arpa_unknown(m), -1);
    near(log10_of(m, "a"), -0.25);
    near(log10_of(m, "a b"), -0.375);
    near(log10_of(m, "a c"), -99);
    near(log10_of(m, "a c b"), -0.375);
    near(log10_of(m, "a </s>"), 0);
    wr_arpa_free(m);
}

/* ---- against the definition ---- */

enum { WORDS = 5, ORDER = 4, GRAMS = 400 };

/* Entries by their words, written as digits. */
typedef struct entry {
    char key[ORDER + 1];
    double logp, backoff;
} entry;

typedef struct table {
    entry e[GRAMS];
    int n, count[ORDER + 1];
} table;

static const entry *look_up(const table *t, const char *key, size_t n) {
    for (int i = 0; i < t->n; i++)
        if (strlen(t->e[i].key) == n && strncmp(t->e[i].key, key, n) == 0) return &t->e[i];
    return NULL;
}

static uint32_t next_random(uint32_t *x) {
    *x = *x * 1664525U + 1013904223U;
    return *x >> 8;
}

/* All 1-grams, and each longer one whose context is there with a chance of one in three. */
static void draw_table(table *t, uint32_t *seed) {
    *t = (table){0};
    size_t from = 0, to = 1; /* contexts; the empty one is not kept */
    for (size_t n = 1; n <= ORDER; n++) {
        size_t at = (size_t)t->n;
        for (size_t c = from; c < to; c++)
            for (int w = 0; w < WORDS && t->n < GRAMS; w++) {
                if (n > 1 && next_random(seed) % 3 != 0) continue;
                entry *e = &t->e[t->n++];
                if (n > 1) memcpy(e->key, t->e[c].key, n - 1);
                e->key[n - 1] = (char)('0' + w);
                e->logp = -(double)(next_random(seed) % 64) / 16;
                e->backoff = n == ORDER ? 0 : ((double)(next_random(seed) % 64) - 48) / 16;
                t->count[n]++;
            }
        from = at;
        to = (size_t)t->n;
    }
}

/* In the order of their making, or each section backwards. */
static wr_arpa *table_model(const table *t, bool backwards) {
    wr_str s = {0};
    wr_str_add(&s, "\\data\\\n");
    for (int n = 1; n <= ORDER; n++)
        wr_str_add(&s, "ngram %d=%d\n", n, t->count[n]);
    for (size_t n = 1; n <= ORDER; n++) {
        wr_str_add(&s, "\n\\%zu-grams:\n", n);
        for (int i = 0; i < t->n; i++) {
            const entry *e = &t->e[backwards ? t->n - 1 - i : i];
            if (strlen(e->key) != n) continue;
            wr_str_add(&s, "%g", e->logp);
            for (size_t k = 0; k < n; k++)
                wr_str_add(&s, "%cw%c", k == 0 ? '\t' : ' ', e->key[k]);
            wr_str_add(&s, n < ORDER ? "\t%g\n" : "\n", e->backoff);
        }
    }
    wr_str_add(&s, "\n\\end\\\n");
    wr_arpa *m = read_text(wr_str_text(&s));
    wr_str_free(&s);
    return m;
}

/* log10 p of the last of n words, by the definition. */
static double defined(const table *t, const char *words, size_t n) {
    const entry *whole = look_up(t, words, n);
    if (whole != NULL) return whole->logp;
    const entry *context = look_up(t, words, n - 1);
    return (context == NULL ? 0 : context->backoff) + defined(t, words + 1, n - 1);
}

static void test_definition(void **state) {
    (void)state;
    uint32_t seed = 7;
    table *t = malloc(sizeof *t);
    assert_non_null(t);
    for (int round = 0; round < 20; round++) {
        draw_table(t, &seed);
        wr_arpa *m = table_model(t, round % 2 == 1);
        for (int walk = 0; walk < 20; walk++) {
            char words[41] = {0};
            wr_arpa_state at = wr_arpa_begin(m);
            for (size_t i = 0; i < sizeof words - 1; i++) {
                words[i] = (char)('0' + next_random(&seed) % WORDS);
                char name[] = {'w', words[i], '\0'};
                size_t seen = i + 1 < ORDER ? i + 1 : ORDER;
                double wanted = defined(t, words + i + 1 - seen, seen);
                near(wr_arpa_step(m, at, wr_arpa_word(m, name), &at) / LN_10,
                     wanted < 0 ? wanted : 0);
            }
        }
        wr_arpa_free(m);
    }
    free(t);
}

/* ---- mistakes ---- */

/* SMALL with its line `line` replaced (NULL: and all behind it left out). */
static void refuse(int line, const char *by, const char *wanted) {
    wr_str s = {0};
    const char *p = SMALL;
    for (int i = 1; *p != '\0'; i++) {
        size_t n = (size_t)(strchr(p, '\n') - p) + 1;
        if (i == line && by == NULL) break;
        if (i == line)
            wr_str_add(&s, "%s", by);
        else
            wr_str_bytes(&s, p, n);
        p += n;
    }
    write_file(wr_str_text(&s));
    wr_str_free(&s);
    wr_error err = {0};
    wr_arpa *m = NULL;
    assert_int_equal(wr_arpa_read(FILE_NAME, &m, &err), WR_ERR_INPUT);
    assert_null(m);
    if (strstr(err.text, wanted) == NULL) fail_msg("line %d: %s", line, err.text);
    unlink(FILE_NAME);
}

static void test_mistakes(void **state) {
    (void)state;
    refuse(3, "", "a line \\data\\");
    refuse(4, "ngram one=6\n", ":4: 'ngram one=6' is no line of the header");
    refuse(4, "ngrams\n", ":4: 'ngrams'");
    refuse(4, "", ":4: \"ngram 2=\" is here, but 1 is next");
    refuse(5, "ngram 3=5\n", ":5: \"ngram 3=\" is here, but 2 is next");
    refuse(6, "ngram 3=9999999\n", ":6: 9999999 n-grams of 3 words are announced");
    refuse(6, "ngram 3=99999999999999999999999\n", ":6: 'ngram 3=99999999999999999999999'");
    refuse(4, "ngram 1=7\n",
           ":16: the 1-grams end here; there are 6 of them, but line 4 announces");
    refuse(4, "ngram 1=5\n", ":14: more 1-grams than the 5 that line 4 announces");
    refuse(4, "ngram 1=0\n", "no 1-grams");
    refuse(8, "\\2-grams:\n", ":8: '\\2-grams:' is here, but \\1-grams: is next");
    refuse(10, "-1.0\n", ":10: 1 fields; a 1-gram is log10 p, 1 word and perhaps a back-off");
    refuse(12, "-0.5 the cat -1\n", ":12: 4 fields");
    refuse(12, "0.5\tthe\n", ":12: '0.5' is no logarithm of a probability");
    refuse(12, "nan\tthe\n", ":12: 'nan' is no logarithm");
    refuse(12, "-0x1\tthe\n", ":12: '-0x1' is no logarithm");
    refuse(12, "-1e999\tthe\n", ":12: '-1e999' is no logarithm");
    refuse(12, "-1\tthe\tinf\n", ":12: 'inf' is no back-off weight");
    refuse(12, "-1\tcat\n", ":13: this n-gram is in line 12 already");
    refuse(17, "-0.25\tthe dog\n", ":17: the word 'dog' is not among the 1-grams");
    refuse(18, "-0.25\tthe cat\n", ":18: this n-gram is in line 17 already");
    refuse(17, "-0.25\tthe\n", ":17: 2 fields; a 2-gram is");
    refuse(24, "-0.1\tthe cat k\xc3\xa4se -0.5\n", ":24: a back-off weight, but n-grams of the h");
    refuse(24, "-0.1\tthe the cat\n", ":24: the first 2 words are not among the 2-grams");
    refuse(22, "\\4-grams:\n", ":22: '\\4-grams:' is here, but \\3-grams: is next");
    refuse(26, "\\4-grams:\n", ":26: '\\4-grams:' is here, but \\end\\ is next");
    refuse(26, NULL, "ends without \\end\\");
    refuse(23, NULL, "ends without \\3-grams:");
    refuse(21, NULL, "ends without \\end\\");
    refuse(7, NULL, "ends without a line \\1-grams:");
    wr_error err = {0};
    wr_arpa *m = NULL;
    assert_int_equal(wr_arpa_read("nowhere.arpa", &m, &err), WR_ERR_IO);
}

static void test_memory(void **state) {
    (void)state;
    write_file(SMALL);
    long n = 1;
    for (;; n++) {
        wr_error err = {0};
        wr_arpa *m = NULL;
        wr_test_watch_allocations();
        wr_test_fail_allocation(n);
        wr_status status = wr_arpa_read(FILE_NAME, &m, &err);
        bool failed = wr_test_allocation_failed();
        wr_arpa_free(m);
        assert_int_equal(wr_test_unfreed_allocations(), 0);
        if (!failed) {
            assert_int_equal(status, WR_OK);
            break;
        }
        assert_int_equal(status, WR_ERR_MEMORY);
    }
    wr_test_fail_allocation(0);
    assert_true(n > 10);
    unlink(FILE_NAME);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_back_off), cmocka_unit_test(test_few_words),
        cmocka_unit_test(test_definition), cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
