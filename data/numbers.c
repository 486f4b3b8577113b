/* numbers.c: names of numbers and a draw of distinct ones; see numbers.h for the contracts. */
#include "data/numbers.h"
#include "data/draw.h"

#include <stdlib.h>
#include <string.h>

static const char *const codes[WR_NUMBER_LANGS] = {"en", "de", "fr"};

const char *wr_number_lang_code(wr_number_lang lang) { return codes[lang]; }

wr_status wr_number_lang_find(const char *code, wr_number_lang *lang, wr_error *err) {
    for (int i = 0; i < WR_NUMBER_LANGS; i++)
        if (strcmp(code, codes[i]) == 0) {
            *lang = (wr_number_lang)i;
            return WR_OK;
        }
    return wr_fail(err, WR_ERR_INPUT,
                   "language '%s' has no number names here; there are en, de, fr", code);
}

/* ---- English ---- */

static const char *const en_small[] = {"zero",    "one",     "two",       "three",    "four",
                                       "five",    "six",     "seven",     "eight",    "nine",
                                       "ten",     "eleven",  "twelve",    "thirteen", "fourteen",
                                       "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
static const char *const en_tens[] = {"",      "",      "twenty",  "thirty", "forty",
                                      "fifty", "sixty", "seventy", "eighty", "ninety"};

static void en_below_100(uint32_t n, wr_str *out) {
    if (n < 20) {
        wr_str_add(out, "%s", en_small[n]);
        return;
    }
    wr_str_add(out, "%s", en_tens[n / 10]);
    if (n % 10 != 0) wr_str_add(out, "-%s", en_small[n % 10]);
}

static void en_below_1000(uint32_t n, wr_str *out) {
    if (n >= 100) wr_str_add(out, "%s hundred", en_small[n / 100]);
    if (n >= 100 && n % 100 != 0) wr_str_add(out, " and ");
    if (n < 100 || n % 100 != 0) en_below_100(n % 100, out);
}

static void en_name(uint32_t n, wr_str *out) {
    uint32_t millions = n / 1000000, thousands = n / 1000 % 1000, rest = n % 1000;
    if (millions > 0) {
        en_below_1000(millions, out);
        wr_str_add(out, " million%s", thousands > 0 ? " " : "");
    }
    if (thousands > 0) {
        en_below_1000(thousands, out);
        wr_str_add(out, " thousand");
    }
    if (rest == 0 && n > 0) return;
    if (n >= 1000) wr_str_add(out, rest < 100 ? " and " : " ");
    en_below_1000(rest, out);
}

/* ---- German ---- */

static const char *const de_small[] = {"null",     "eins",     "zwei",     "drei",     "vier",
                                       "fünf",     "sechs",    "sieben",   "acht",     "neun",
                                       "zehn",     "elf",      "zwölf",    "dreizehn", "vierzehn",
                                       "fünfzehn", "sechzehn", "siebzehn", "achtzehn", "neunzehn"};
static const char *const de_tens[] = {"",        "",        "zwanzig", "dreißig", "vierzig",
                                      "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"};

/* `one` is how a final 1 is written: "eins" at the end, "ein" before tausend, "eine" before
 * Million. */
static void de_below_1000(uint32_t n, const char *one, wr_str *out) {
    if (n >= 100) wr_str_add(out, "%shundert", n < 200 ? "ein" : de_small[n / 100]);
    uint32_t rest = n % 100;
    if (rest == 0 && n > 0) return;
    if (rest == 1) {
        wr_str_add(out, "%s", one);
    } else if (rest < 20) {
        wr_str_add(out, "%s", de_small[rest]);
    } else {
        if (rest % 10 != 0) wr_str_add(out, "%sund", rest % 10 == 1 ? "ein" : de_small[rest % 10]);
        wr_str_add(out, "%s", de_tens[rest / 10]);
    }
}

static void de_name(uint32_t n, wr_str *out) {
    uint32_t millions = n / 1000000, thousands = n / 1000 % 1000, rest = n % 1000;
    if (millions > 0) {
        de_below_1000(millions, "eine", out);
        wr_str_add(out, millions == 1 ? " Million" : " Millionen");
        if (n % 1000000 != 0) wr_str_add(out, " ");
    }
    if (thousands > 0) {
        de_below_1000(thousands, "ein", out);
        wr_str_add(out, "tausend");
    }
    if (rest > 0 || n == 0) de_below_1000(rest, "eins", out);
}

/* ---- French ---- */

static const char *const fr_small[] = {"zéro",   "un",    "deux",     "trois",    "quatre",
                                       "cinq",   "six",   "sept",     "huit",     "neuf",
                                       "dix",    "onze",  "douze",    "treize",   "quatorze",
                                       "quinze", "seize", "dix-sept", "dix-huit", "dix-neuf"};
static const char *const fr_tens[] = {"",         "",          "vingt",   "trente",
                                      "quarante", "cinquante", "soixante"};

/* Seventy and ninety count on from sixty and eighty. `plural`: "quatre-vingts" takes its s. */
static void fr_below_100(uint32_t n, bool plural, wr_str *out) {
    if (n < 20) {
        wr_str_add(out, "%s", fr_small[n]);
    } else if (n < 80) {
        uint32_t ten = n < 70 ? n / 10 : 6, rest = n - 10 * ten;
        wr_str_add(out, "%s", fr_tens[ten]);
        if (rest != 0) wr_str_add(out, "%s%s", rest % 10 == 1 ? " et " : "-", fr_small[rest]);
    } else if (n == 80) {
        wr_str_add(out, plural ? "quatre-vingts" : "quatre-vingt");
    } else {
        wr_str_add(out, "quatre-vingt-%s", fr_small[n - 80]);
    }
}

static void fr_below_1000(uint32_t n, bool plural, wr_str *out) {
    uint32_t rest = n % 100;
    if (n >= 200) wr_str_add(out, "%s ", fr_small[n / 100]);
    if (n >= 100) wr_str_add(out, n >= 200 && rest == 0 && plural ? "cents" : "cent");
    if (n >= 100 && rest != 0) wr_str_add(out, " ");
    if (n < 100 || rest != 0) fr_below_100(rest, plural, out);
}

/* Before "mille", an invariable numeral, nothing takes a plural s; before "millions", a noun, it
 * does. */
static void fr_name(uint32_t n, wr_str *out) {
    uint32_t millions = n / 1000000, thousands = n / 1000 % 1000, rest = n % 1000;
    if (millions > 0) {
        fr_below_1000(millions, true, out);
        wr_str_add(out, millions == 1 ? " million" : " millions");
        if (n % 1000000 != 0) wr_str_add(out, " ");
    }
    if (thousands > 1) {
        fr_below_1000(thousands, false, out);
        wr_str_add(out, " ");
    }
    if (thousands > 0) wr_str_add(out, rest > 0 ? "mille " : "mille");
    if (rest > 0 || n == 0) fr_below_1000(rest, true, out);
}

void wr_number_name(wr_number_lang lang, uint32_t n, wr_str *out) {
    static void (*const name[WR_NUMBER_LANGS])(uint32_t, wr_str *) = {en_name, de_name, fr_name};
    WR_ASSERT(n <= WR_NUMBER_MAX);
    name[lang](n, out);
}

/* ---- drawing ---- */

enum { MOST_DIGITS = 9, MOST_NUMBERS = 5000000, HELD_OUT_FROM = 100 };

/* The numbers of one count of digits: first .. first + size - 1, of which `left` are not drawn. */
typedef struct length_class {
    uint32_t first, size, left;
} length_class;

static int make_classes(uint32_t max, length_class *class) {
    int n = 0;
    for (uint32_t first = 0, next = 10; n < MOST_DIGITS && first <= max; first = next, next *= 10) {
        uint32_t last = max < next - 1 ? max : next - 1;
        class[n++] = (length_class){first, last - first + 1, last - first + 1};
    }
    return n;
}

/* Draw `n` distinct numbers into `value`; `taken` is a zeroed bit per number. */
static void draw_distinct(const wr_number_split *split, size_t n, uint32_t *value, uint8_t *taken) {
    wr__draw d = wr__draw_begin(split->seed, WR__DRAW_NUMBERS, 0);
    length_class class[MOST_DIGITS];
    uint64_t classes = (uint64_t)make_classes(split->max, class);
    for (size_t i = 0; i < n;) {
        length_class *c = &class[wr__draw_below(&d, classes)];
        if (c->left == 0) continue;
        uint32_t x;
        do {
            x = c->first + (uint32_t)wr__draw_below(&d, c->size);
        } while ((taken[x / 8] >> x % 8 & 1) != 0);
        taken[x / 8] = (uint8_t)(taken[x / 8] | 1u << x % 8);
        c->left--;
        value[i++] = x;
    }
}

/* Move `held` numbers from HELD_OUT_FROM on to the end of the shuffled list; false when there are
 * not so many. */
static bool hold_out(uint32_t *value, size_t n, size_t held) {
    size_t front = n;
    for (size_t i = n; i-- > 0 && n - front < held;) {
        if (value[i] < HELD_OUT_FROM) continue;
        front--;
        uint32_t kept = value[i];
        value[i] = value[front];
        value[front] = kept;
    }
    return n - front == held;
}

static wr_status check_split(const wr_number_split *s, wr_error *err) {
    if (s->max > WR_NUMBER_MAX)
        return wr_fail(err, WR_ERR_INPUT, "largest number %u: allowed is up to %d", s->max,
                       WR_NUMBER_MAX);
    size_t most = s->max + (size_t)1 < MOST_NUMBERS ? s->max + (size_t)1 : MOST_NUMBERS;
    if (s->train == 0 || s->train > most || s->valid > most || s->test > most ||
        s->train + s->valid + s->test > most)
        return wr_fail(err, WR_ERR_INPUT,
                       "%zu + %zu + %zu distinct numbers for train, valid and test: allowed are at "
                       "least 1 for train and %zu in all between 0 and %u",
                       s->train, s->valid, s->test, most, s->max);
    return WR_OK;
}

wr_status wr_numbers_draw(const wr_number_split *split, wr_numbers *out, wr_error *err) {
    *out = (wr_numbers){0};
    wr_status status = check_split(split, err);
    if (status != WR_OK) return status;
    size_t n = split->train + split->valid + split->test, bytes = split->max / 8 + (size_t)1;
    uint32_t *value = malloc(n * sizeof *value);
    uint8_t *taken = calloc(bytes, 1);
    if (value == NULL || taken == NULL) {
        free(value);
        free(taken);
        return wr_fail_memory(err, "the numbers drawn", n * sizeof *value + bytes);
    }
    draw_distinct(split, n, value, taken);
    free(taken);
    wr__draw d = wr__draw_begin(split->seed, WR__DRAW_NUMBER_SPLIT, 0);
    wr__draw_shuffle(&d, value, n);
    if (!hold_out(value, n, split->valid + split->test)) {
        free(value);
        return wr_fail(err, WR_ERR_INPUT,
                       "not enough numbers from %d on for %zu valid and %zu test: valid and test "
                       "never take smaller ones; raise --count or --max, or lower --valid and "
                       "--test",
                       HELD_OUT_FROM, split->valid, split->test);
    }
    *out = (wr_numbers){value, split->train, split->valid, split->test};
    return WR_OK;
}
