#define _GNU_SOURCE /* strtok_r */
/* test_synth_corrupt.c: damaged copies of a text: what is read, rates, pools, splits, refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/synth_corrupt.h"
#include "helpers/alloc.h"

static void near(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.12g is not %.12g", got, want);
}

/* A text of `n` lines; the caller frees line and len. */
static wr_text text_of(const char *const *line, size_t n) {
    static char name[] = "the text";
    wr_text t = {.line = malloc((n + 1) * sizeof *t.line),
                 .len = malloc((n + 1) * sizeof *t.len),
                 .n = n,
                 .path = name};
    assert_non_null(t.line);
    assert_non_null(t.len);
    for (size_t i = 0; i < n; i++) {
        t.line[i] = line[i];
        t.len[i] = strlen(line[i]);
    }
    return t;
}

static void forget(wr_text *t) {
    free(t->line);
    free(t->len);
}

static void what_is_read(void **state) {
    (void)state;
    static const char *const line[] = {"a b  a", "", "c\302\240d\t", " \t", "a b  a", "a b a", "c"};
    wr_text t[2] = {text_of(line, 4), text_of(line + 4, 3)};
    wr_corrupt_text c;
    assert_int_equal(wr_corrupt_read(t, 2, &c, NULL), WR_OK);
    assert_int_equal(c.n, 4); /* "a b  a", "c d", "a b a", "c" */
    assert_int_equal(c.empty, 2);
    assert_int_equal(c.repeated, 1);
    assert_int_equal(c.tokens, 9);
    assert_int_equal(c.words, 4);
    assert_string_equal(c.line[2], "a b a");
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(c.word[i].len, 1);
        assert_int_equal(*c.word[i].at, "abcd"[i]);
    }
    wr_str s = {0};
    const wr_corrupt nothing = {.seed = 1};
    wr_corrupt_line(&c, &nothing, 1, &s); /* no damage: the words, one space apart */
    assert_string_equal(wr_str_text(&s), "c d");
    wr_str_free(&s);
    wr_corrupt_text_free(&c);
    forget(&t[0]);
    forget(&t[1]);
}

/* A text whose line i is "word word ..." of its own words, so that damage shows. */
enum { LINES = 2000, WORDS = 10 };
static char lines_of[LINES][WORDS * 8];

static wr_text numbered_text(void) {
    static const char *line[LINES];
    for (int i = 0; i < LINES; i++) {
        line[i] = lines_of[i];
        int at = 0;
        for (int k = 0; k < WORDS; k++)
            at += snprintf(lines_of[i] + at, sizeof lines_of[i] - (size_t)at, "%sw%d",
                           k == 0 ? "" : " ", (i * WORDS + k) % 4999);
    }
    return text_of(line, LINES);
}

typedef struct damage {
    double kept, replaced, dropped, tokens;
} damage;

/* Words of a line are in order and occur once, so that a kept one is found behind those before. */
static damage compare(const char *whole, const char *rest) {
    damage d = {0};
    char copy[WORDS * 8], *save = NULL;
    snprintf(copy, sizeof copy, "%s", rest);
    double left = 0;
    for (char *w = strtok_r(copy, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
        char padded[20], line[WORDS * 8 + 3];
        snprintf(padded, sizeof padded, " %s ", w);
        snprintf(line, sizeof line, " %s ", whole);
        left++;
        d.kept += strstr(line, padded) != NULL;
    }
    d.replaced = left - d.kept;
    d.dropped = WORDS - left;
    return d;
}

static damage damage_all(const wr_corrupt_text *c, const wr_corrupt *o) {
    damage all = {0};
    wr_str s = {0};
    for (size_t i = 0; i < c->n; i++) {
        wr_str_clear(&s);
        wr_corrupt_line(c, o, i, &s);
        damage d = compare(c->line[i], wr_str_text(&s));
        all.kept += d.kept;
        all.replaced += d.replaced;
        all.dropped += d.dropped;
        all.tokens += WORDS;
    }
    wr_str_free(&s);
    return all;
}

static void rates(void **state) {
    (void)state;
    wr_text t = numbered_text();
    wr_corrupt_text c;
    assert_int_equal(wr_corrupt_read(&t, 1, &c, NULL), WR_OK);
    static const double rate[][2] = {{.5, 0}, {.5, .1}, {0, .3}, {1, 0}, {.2, .6}};
    for (size_t i = 0; i < sizeof rate / sizeof rate[0]; i++) {
        const wr_corrupt o = {.replace = rate[i][0], .drop = rate[i][1], .seed = i};
        damage d = damage_all(&c, &o);
        double n = d.tokens, drop = rate[i][1];
        /* a line cannot lose all its words, and a random word can be the old one: both rare */
        drop -= pow(drop, WORDS) / WORDS;
        double replaced = (1 - drop) * rate[i][0] * (1 - WORDS / (double)c.words);
        near(d.dropped / n, drop, 4.5 * sqrt(drop * (1 - drop) / n) + 1e-12);
        near(d.replaced / n, replaced, 4.5 * sqrt(replaced * (1 - replaced) / n) + 1e-12);
    }
    wr_corrupt_text_free(&c);
    forget(&t);
}

/* All words of a line dropped: the last one stays. The pool of running words has frequent words
 * more often than the pool of distinct ones. */
static void edges_and_pools(void **state) {
    (void)state;
    static const char *const line[] = {"the the the the the cat", "the the dog"};
    wr_text t = text_of(line, 2);
    wr_corrupt_text c;
    wr_str s = {0};
    assert_int_equal(wr_corrupt_read(&t, 1, &c, NULL), WR_OK);
    const wr_corrupt all = {.drop = 1, .seed = 4};
    wr_corrupt_line(&c, &all, 0, &s);
    assert_string_equal(wr_str_text(&s), "cat");
    double the[2] = {0};
    for (int pool = 0; pool < 2; pool++)
        for (uint64_t seed = 0; seed < 1000; seed++) {
            const wr_corrupt o = {.replace = 1, .pool = (wr_corrupt_pool)pool, .seed = seed};
            wr_str_clear(&s);
            wr_corrupt_line(&c, &o, 1, &s);
            for (const char *at = wr_str_text(&s); (at = strstr(at, "the")) != NULL; at += 3)
                the[pool]++;
        }
    near(the[0] / 3000, 1.0 / 3, 4.5 * sqrt(2.0 / 9 / 3000));
    near(the[1] / 3000, 7.0 / 9, 4.5 * sqrt(14.0 / 81 / 3000));
    wr_str_free(&s);
    wr_corrupt_text_free(&c);
    forget(&t);
}

/* Set B leaves out of set A's line: with one seed, its words are a part of A's. */
static void same_seed_same_bits(void **state) {
    (void)state;
    wr_text t = numbered_text();
    wr_corrupt_text c;
    wr_str a = {0}, again = {0}, b = {0}, other = {0};
    assert_int_equal(wr_corrupt_read(&t, 1, &c, NULL), WR_OK);
    const wr_corrupt set_a = {.replace = .5, .seed = 6},
                     set_b = {.replace = .5, .drop = .1, .seed = 6};
    const wr_corrupt seed7 = {.replace = .5, .seed = 7};
    for (size_t i = 0; i < 50; i++) {
        wr_str_clear(&b);
        wr_str_clear(&again);
        wr_corrupt_line(&c, &set_b, i, &b);
        wr_corrupt_line(&c, &set_a, i, &again);
        damage d = compare(wr_str_text(&again), wr_str_text(&b));
        near(d.replaced, 0, 0);
        wr_corrupt_line(&c, &set_a, i, &a);
        wr_corrupt_line(&c, &seed7, i, &other);
    }
    wr_str_clear(&again);
    for (size_t i = 0; i < 50; i++)
        wr_corrupt_line(&c, &set_a, i, &again);
    assert_string_equal(wr_str_text(&a), wr_str_text(&again));
    assert_string_not_equal(wr_str_text(&a), wr_str_text(&other));
    wr_str_free(&a);
    wr_str_free(&again);
    wr_str_free(&b);
    wr_str_free(&other);
    wr_corrupt_text_free(&c);
    forget(&t);
}

static void splits(void **state) {
    (void)state;
    wr_text t = numbered_text();
    wr_corrupt_text c;
    uint32_t *order, *again;
    static uint8_t there[LINES];
    assert_int_equal(wr_corrupt_read(&t, 1, &c, NULL), WR_OK);
    assert_int_equal(wr_corrupt_split(&c, 100, 50, 3, &order, NULL), WR_OK);
    assert_int_equal(wr_corrupt_split(&c, 100, 50, 3, &again, NULL), WR_OK);
    assert_memory_equal(order, again, LINES * sizeof *order);
    for (size_t i = 0; i < LINES; i++) {
        assert_int_equal(there[order[i]]++, 0);
        if (i > 150) assert_true(order[i] > order[i - 1]);
    }
    wr_error err = {0};
    free(order);
    free(again);
    assert_int_equal(wr_corrupt_split(&c, LINES - 50, 50, 3, &order, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "2000 distinct lines with a word, too few for 1950 valid"));
    assert_null(order);
    wr_corrupt_text_free(&c);
    forget(&t);
}

static void refused(void **state) {
    (void)state;
    static const char *const blank[] = {"", " "};
    wr_text t = text_of(blank, 2);
    wr_corrupt_text c;
    wr_error err = {0};
    assert_int_equal(wr_corrupt_read(&t, 1, &c, &err), WR_ERR_INPUT);
    assert_string_equal(err.text, "the text: 2 lines, none of them with a word");
    wr_corrupt_text_free(&c);
    forget(&t);
}

static void without_memory(void **state) {
    (void)state;
    static const char *const line[] = {"a b c", "d e f", "g"};
    wr_text t = text_of(line, 3);
    for (long n = 1;; n++) {
        wr_corrupt_text c;
        uint32_t *order = NULL;
        wr_test_watch_allocations();
        wr_test_fail_allocation(n);
        wr_status status = wr_corrupt_read(&t, 1, &c, NULL);
        if (status == WR_OK) status = wr_corrupt_split(&c, 1, 1, 1, &order, NULL);
        bool failed = wr_test_allocation_failed();
        free(order);
        wr_corrupt_text_free(&c);
        assert_int_equal(wr_test_unfreed_allocations(), 0);
        assert_int_equal(status, failed ? WR_ERR_MEMORY : WR_OK);
        if (!failed) break;
    }
    forget(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read),    cmocka_unit_test(rates),
        cmocka_unit_test(edges_and_pools), cmocka_unit_test(same_seed_same_bits),
        cmocka_unit_test(splits),          cmocka_unit_test(refused),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
