/* test_numbers.c: number names against known ones and against a parser that reads them back, and
 * the draw of distinct numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "data/numbers.h"

static const char *name_of(wr_number_lang lang, uint32_t n, wr_str *s) {
    wr_str_clear(s);
    wr_number_name(lang, n, s);
    return wr_str_text(s);
}

/* ---- known names ---- */

typedef struct known {
    wr_number_lang lang;
    uint32_t n;
    const char *name;
} known;

static const known table[] = {
    {WR_NUMBER_EN, 0, "zero"},
    {WR_NUMBER_EN, 13, "thirteen"},
    {WR_NUMBER_EN, 40, "forty"},
    {WR_NUMBER_EN, 100, "one hundred"},
    {WR_NUMBER_EN, 234, "two hundred and thirty-four"},
    {WR_NUMBER_EN, 1001, "one thousand and one"},
    {WR_NUMBER_EN, 1100, "one thousand one hundred"},
    {WR_NUMBER_EN, 100100, "one hundred thousand one hundred"},
    {WR_NUMBER_EN, 999999, "nine hundred and ninety-nine thousand nine hundred and ninety-nine"},
    {WR_NUMBER_EN, 1000005, "one million and five"},
    {WR_NUMBER_EN, 2001000, "two million one thousand"},
    {WR_NUMBER_DE, 0, "null"},
    {WR_NUMBER_DE, 1, "eins"},
    {WR_NUMBER_DE, 12, "zwölf"},
    {WR_NUMBER_DE, 16, "sechzehn"},
    {WR_NUMBER_DE, 17, "siebzehn"},
    {WR_NUMBER_DE, 21, "einundzwanzig"},
    {WR_NUMBER_DE, 30, "dreißig"},
    {WR_NUMBER_DE, 66, "sechsundsechzig"},
    {WR_NUMBER_DE, 77, "siebenundsiebzig"},
    {WR_NUMBER_DE, 100, "einhundert"},
    {WR_NUMBER_DE, 101, "einhunderteins"},
    {WR_NUMBER_DE, 234, "zweihundertvierunddreißig"},
    {WR_NUMBER_DE, 1000, "eintausend"},
    {WR_NUMBER_DE, 1001, "eintausendeins"},
    {WR_NUMBER_DE, 101000, "einhunderteintausend"},
    {WR_NUMBER_DE, 121221, "einhunderteinundzwanzigtausendzweihunderteinundzwanzig"},
    {WR_NUMBER_DE, 1000000, "eine Million"},
    {WR_NUMBER_DE, 1200000, "eine Million zweihunderttausend"},
    {WR_NUMBER_DE, 2000001, "zwei Millionen eins"},
    {WR_NUMBER_DE, 21000000, "einundzwanzig Millionen"},
    {WR_NUMBER_FR, 0, "zéro"},
    {WR_NUMBER_FR, 17, "dix-sept"},
    {WR_NUMBER_FR, 21, "vingt et un"},
    {WR_NUMBER_FR, 22, "vingt-deux"},
    {WR_NUMBER_FR, 71, "soixante et onze"},
    {WR_NUMBER_FR, 72, "soixante-douze"},
    {WR_NUMBER_FR, 80, "quatre-vingts"},
    {WR_NUMBER_FR, 81, "quatre-vingt-un"},
    {WR_NUMBER_FR, 91, "quatre-vingt-onze"},
    {WR_NUMBER_FR, 200, "deux cents"},
    {WR_NUMBER_FR, 201, "deux cent un"},
    {WR_NUMBER_FR, 1000, "mille"},
    {WR_NUMBER_FR, 1100, "mille cent"},
    {WR_NUMBER_FR, 80000, "quatre-vingt mille"},
    {WR_NUMBER_FR, 200000, "deux cent mille"},
    {WR_NUMBER_FR, 1000000, "un million"},
    {WR_NUMBER_FR, 80000000, "quatre-vingts millions"},
    {WR_NUMBER_FR, 200000000, "deux cents millions"},
};

static void known_names(void **state) {
    (void)state;
    wr_str s = {0};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        assert_string_equal(name_of(table[i].lang, table[i].n, &s), table[i].name);
    wr_str_free(&s);
}

/* ---- reading names back ---- */

/* A word, what it adds to (or multiplies) the number being read, and what it is. */
typedef struct word {
    const char *text;
    uint32_t value;
} word;

/* Longer words first where one begins with another. */
static const word en_words[] = {{"zero", 0},
                                {"fourteen", 14},
                                {"sixteen", 16},
                                {"seventeen", 17},
                                {"eighteen", 18},
                                {"nineteen", 19},
                                {"thirteen", 13},
                                {"fifteen", 15},
                                {"sixty", 60},
                                {"seventy", 70},
                                {"eighty", 80},
                                {"ninety", 90},
                                {"twenty", 20},
                                {"thirty", 30},
                                {"forty", 40},
                                {"fifty", 50},
                                {"eleven", 11},
                                {"twelve", 12},
                                {"ten", 10},
                                {"one", 1},
                                {"two", 2},
                                {"three", 3},
                                {"four", 4},
                                {"five", 5},
                                {"six", 6},
                                {"seven", 7},
                                {"eight", 8},
                                {"nine", 9},
                                {"hundred", 100},
                                {"thousand", 1000},
                                {"million", 1000000},
                                {"and", UINT32_MAX},
                                {"-", UINT32_MAX},
                                {" ", UINT32_MAX},
                                {NULL, 0}};
static const word de_words[] = {{"null", 0},
                                {"dreizehn", 13},
                                {"vierzehn", 14},
                                {"fünfzehn", 15},
                                {"sechzehn", 16},
                                {"siebzehn", 17},
                                {"achtzehn", 18},
                                {"neunzehn", 19},
                                {"zwanzig", 20},
                                {"dreißig", 30},
                                {"vierzig", 40},
                                {"fünfzig", 50},
                                {"sechzig", 60},
                                {"siebzig", 70},
                                {"achtzig", 80},
                                {"neunzig", 90},
                                {"zehn", 10},
                                {"elf", 11},
                                {"zwölf", 12},
                                {"eins", 1},
                                {"eine", 1},
                                {"ein", 1},
                                {"zwei", 2},
                                {"drei", 3},
                                {"vier", 4},
                                {"fünf", 5},
                                {"sechs", 6},
                                {"sieben", 7},
                                {"acht", 8},
                                {"neun", 9},
                                {"hundert", 100},
                                {"tausend", 1000},
                                {"Millionen", 1000000},
                                {"Million", 1000000},
                                {"und", UINT32_MAX},
                                {" ", UINT32_MAX},
                                {NULL, 0}};
static const word fr_words[] = {{"zéro", 0},          {"quatre-vingts", 80}, {"quatre-vingt", 80},
                                {"soixante", 60},     {"cinquante", 50},     {"quarante", 40},
                                {"trente", 30},       {"vingt", 20},         {"seize", 16},
                                {"quinze", 15},       {"quatorze", 14},      {"treize", 13},
                                {"douze", 12},        {"onze", 11},          {"dix", 10},
                                {"neuf", 9},          {"huit", 8},           {"sept", 7},
                                {"six", 6},           {"cinq", 5},           {"quatre", 4},
                                {"trois", 3},         {"deux", 2},           {"un", 1},
                                {"cents", 100},       {"cent", 100},         {"millions", 1000000},
                                {"million", 1000000}, {"mille", 1000},       {"et", UINT32_MAX},
                                {"-", UINT32_MAX},    {" ", UINT32_MAX},     {NULL, 0}};
static const word *const words[WR_NUMBER_LANGS] = {en_words, de_words, fr_words};

/* The number of a name by summing its words; UINT32_MAX for a name it cannot read. */
static uint32_t parse(wr_number_lang lang, const char *at) {
    uint32_t total = 0, group = 0;
    while (*at != '\0') {
        const word *w = words[lang];
        while (w->text != NULL && strncmp(at, w->text, strlen(w->text)) != 0)
            w++;
        if (w->text == NULL) return UINT32_MAX;
        at += strlen(w->text);
        if (w->value == UINT32_MAX) continue;
        if (w->value >= 1000) {
            total += (group == 0 ? 1 : group) * w->value;
            group = 0;
        } else if (w->value == 100) {
            group = (group == 0 ? 1 : group) * 100;
        } else {
            group += w->value;
        }
    }
    return total + group;
}

static void read_back(wr_number_lang lang, uint32_t n, wr_str *s) {
    const char *name = name_of(lang, n, s);
    if (parse(lang, name) != n)
        fail_msg("%s: %u is written \"%s\"", wr_number_lang_code(lang), n, name);
}

/* A name that reads back as its number cannot be the name of two numbers. */
static void names_are_a_bijection(void **state) {
    (void)state;
    wr_str s = {0};
    for (int l = 0; l < WR_NUMBER_LANGS; l++) {
        for (uint32_t n = 0; n <= 120000; n++)
            read_back((wr_number_lang)l, n, &s);
        for (uint32_t n = 120000; n <= WR_NUMBER_MAX; n += 99991)
            read_back((wr_number_lang)l, n, &s);
        read_back((wr_number_lang)l, WR_NUMBER_MAX, &s);
    }
    wr_str_free(&s);
}

/* The sloppy reader above would also take wrong spacing: no double or outer spaces, and one German
 * word below a million. */
static void names_are_tidy(void **state) {
    (void)state;
    wr_str s = {0};
    for (int l = 0; l < WR_NUMBER_LANGS; l++)
        for (uint32_t n = 0; n < 3000000; n += n < 3000 ? 1 : 997) {
            const char *name = name_of((wr_number_lang)l, n, &s);
            assert_null(strstr(name, "  "));
            assert_int_not_equal(name[0], ' ');
            assert_int_not_equal(name[strlen(name) - 1], ' ');
            if (l == WR_NUMBER_DE && n < 1000000) assert_null(strchr(name, ' '));
        }
    wr_str_free(&s);
}

static void languages(void **state) {
    (void)state;
    wr_error err = {0};
    for (int l = 0; l < WR_NUMBER_LANGS; l++) {
        wr_number_lang found;
        assert_int_equal(wr_number_lang_find(wr_number_lang_code((wr_number_lang)l), &found, &err),
                         WR_OK);
        assert_int_equal(found, l);
    }
    wr_number_lang found;
    assert_int_equal(wr_number_lang_find("xx", &found, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "en, de, fr"));
}

/* ---- drawing ---- */

static int by_value(const void *a, const void *b) {
    uint32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static void drawn_numbers_are_distinct(void **state) {
    (void)state;
    wr_error err = {0};
    wr_numbers d;
    wr_number_split split = {.train = 20000, .valid = 500, .test = 700, .max = 999999, .seed = 3};
    assert_int_equal(wr_numbers_draw(&split, &d, &err), WR_OK);
    size_t n = d.train + d.valid + d.test;
    assert_int_equal(n, 21200);
    for (size_t i = d.train; i < n; i++)
        assert_true(d.value[i] >= 100);
    size_t digits[7] = {0};
    for (size_t i = 0; i < n; i++) {
        size_t k = 1;
        for (uint32_t x = d.value[i]; x >= 10; x /= 10)
            k++;
        assert_true(k <= 6);
        digits[k]++;
    }
    assert_int_equal(digits[1], 10); /* few and asked for often: all of them */
    assert_int_equal(digits[2], 90);
    assert_int_equal(digits[3], 900);
    assert_true(digits[5] > 3000 && digits[6] > 3000);
    qsort(d.value, n, sizeof *d.value, by_value);
    for (size_t i = 1; i < n; i++)
        assert_true(d.value[i - 1] < d.value[i]);
    free(d.value);
}

static void a_draw_depends_on_its_seed_alone(void **state) {
    (void)state;
    wr_error err = {0};
    wr_numbers a, b, c;
    wr_number_split split = {.train = 300, .valid = 20, .test = 20, .max = 999999, .seed = 9};
    assert_int_equal(wr_numbers_draw(&split, &a, &err), WR_OK);
    assert_int_equal(wr_numbers_draw(&split, &b, &err), WR_OK);
    split.seed = 10;
    assert_int_equal(wr_numbers_draw(&split, &c, &err), WR_OK);
    assert_memory_equal(a.value, b.value, 340 * sizeof *a.value);
    assert_memory_not_equal(a.value, c.value, 340 * sizeof *a.value);
    free(a.value);
    free(b.value);
    free(c.value);
}

static void every_number_can_be_drawn(void **state) {
    (void)state;
    wr_error err = {0};
    wr_numbers d;
    wr_number_split split = {.train = 1200, .valid = 21, .test = 13, .max = 1233, .seed = 1};
    assert_int_equal(wr_numbers_draw(&split, &d, &err), WR_OK);
    qsort(d.value, 1234, sizeof *d.value, by_value);
    for (uint32_t i = 0; i < 1234; i++)
        assert_int_equal(d.value[i], i);
    free(d.value);
}

static void too_many_numbers_are_refused(void **state) {
    (void)state;
    const wr_number_split bad[] = {
        {.train = 1201, .valid = 20, .test = 14, .max = 1233},
        {.train = 0, .valid = 1, .test = 1, .max = 1233},
        {.train = SIZE_MAX, .valid = 2, .test = 0, .max = 1233},
        {.train = 1, .valid = 0, .test = 0, .max = UINT32_MAX},
        {.train = 50, .valid = 1, .test = 1, .max = 99},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        wr_error err = {0};
        wr_numbers d;
        assert_int_equal(wr_numbers_draw(&bad[i], &d, &err), WR_ERR_INPUT);
        assert_true(err.text[0] != '\0');
        assert_null(d.value);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_names),
        cmocka_unit_test(names_are_a_bijection),
        cmocka_unit_test(names_are_tidy),
        cmocka_unit_test(languages),
        cmocka_unit_test(drawn_numbers_are_distinct),
        cmocka_unit_test(a_draw_depends_on_its_seed_alone),
        cmocka_unit_test(every_number_can_be_drawn),
        cmocka_unit_test(too_many_numbers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
