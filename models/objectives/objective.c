/* objective.c: objectives by name, their options, normalisation and smoothing; see objective.h. */
#include "models/objectives/objective.h"
#include "models/recipe_nearest.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

static const wr_objective *const ROWS[] = {
    &wr_objective_ce,  &wr_objective_axe,  &wr_objective_oaxe,
    &wr_objective_ctc, &wr_objective_cmlm, &wr_objective_glat,
};
enum { ROW_COUNT = sizeof ROWS / sizeof ROWS[0] };

const wr_objective *wr_objective_at(size_t k) { return k < ROW_COUNT ? ROWS[k] : NULL; }

static wr_status unknown(const char *name, wr_error *err) {
    wr_str known = {0};
    wr_nearest nearest = {.word = name};
    for (size_t k = 0; k < ROW_COUNT; k++) {
        wr_str_add(&known, "%s%s", k > 0 ? ", " : "", ROWS[k]->name);
        wr_nearest_try(&nearest, ROWS[k]->name);
    }
    bool hint = nearest.best != NULL;
    wr_status status =
        wr_fail(err, WR_ERR_INPUT, "'%s' is no objective%s%s; there are %s", name,
                hint ? "; did you mean " : "", hint ? nearest.best : "", wr_str_text(&known));
    wr_str_free(&known);
    return status;
}

wr_status wr_objective_find(const char *name, const wr_objective **row, wr_error *err) {
    for (size_t k = 0; k < ROW_COUNT; k++) {
        if (strcmp(ROWS[k]->name, name) != 0) continue;
        *row = ROWS[k];
        return WR_OK;
    }
    return unknown(name, err);
}

/* ---- options ---- */

/* Those that all objectives have. */
enum { NORM, SMOOTHING, SMOOTH_OVER, COMMON };
static const wr_objective_option COMMON_OPTIONS[] = {
    [NORM] = {"norm", WR_OBJECTIVE_CHOICE, 0, 0, 0, "token|sent_token|sent|frames",
              "how sentences' sums become one number"},
    [SMOOTHING] = {"label_smoothing", WR_OBJECTIVE_REAL, 0, 0, 0.999, NULL,
                   "the share of the target distribution that is spread over the vocabulary"},
    [SMOOTH_OVER] = {"smooth_over", WR_OBJECTIVE_CHOICE, 0, 0, 0, "all|others",
                     "all words, or all but the right one"},
};

wr_objective_config wr_objective_init(const wr_objective *row) {
    wr_objective_config c = {.row = row, .norm = row->norm};
    for (int k = 0; row->options[k].name != NULL; k++)
        c.value[k] = row->options[k].fallback;
    return c;
}

static int find_option(const wr_objective_option *options, int n, const char *name) {
    for (int k = 0; k < n && options[k].name != NULL; k++)
        if (strcmp(options[k].name, name) == 0) return k;
    return -1;
}

double wr_objective_value(const wr_objective_config *c, const char *name) {
    int k = find_option(c->row->options, WR_OBJECTIVE_OPTIONS, name);
    WR_ASSERT(k >= 0);
    return c->value[k];
}

static wr_status unknown_option(const wr_objective *row, const char *name, wr_error *err) {
    wr_str known = {0};
    wr_nearest nearest = {.word = name};
    for (int k = 0; row->options[k].name != NULL; k++) {
        wr_str_add(&known, "%s, ", row->options[k].name);
        wr_nearest_try(&nearest, row->options[k].name);
    }
    for (int k = 0; k < COMMON; k++) {
        wr_str_add(&known, "%s%s", k > 0 ? ", " : "", COMMON_OPTIONS[k].name);
        wr_nearest_try(&nearest, COMMON_OPTIONS[k].name);
    }
    bool hint = nearest.best != NULL;
    wr_status status =
        wr_fail(err, WR_ERR_INPUT, "%s has no option '%s'%s%s; there are %s", row->name, name,
                hint ? "; did you mean " : "", hint ? nearest.best : "", wr_str_text(&known));
    wr_str_free(&known);
    return status;
}

/* The position of `word` among "a|b|c", -1: not there. */
static int choice_of(const char *choices, const char *word) {
    size_t n = strlen(word);
    for (int k = 0;; k++) {
        size_t length = strcspn(choices, "|");
        if (length == n && strncmp(choices, word, n) == 0) return k;
        if (choices[length] == '\0') return -1;
        choices += length + 1;
    }
}

static wr_status read_real(const wr_objective_option *o, const char *text, double *value,
                           wr_error *err) {
    char *end;
    double x = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(x))
        return wr_fail(err, WR_ERR_INPUT, "%s needs a number, but is '%s'", o->name, text);
    if (x < o->min || x > o->max)
        return wr_fail(err, WR_ERR_INPUT, "%s must be from %.15g to %.15g, but is %s", o->name,
                       o->min, o->max, text);
    *value = x;
    return WR_OK;
}

static wr_status read_value(const wr_objective_option *o, const char *text, double *value,
                            wr_error *err) {
    if (o->kind == WR_OBJECTIVE_REAL) return read_real(o, text, value, err);
    const char *choices = o->kind == WR_OBJECTIVE_SWITCH ? "false|true" : o->choices;
    int k = choice_of(choices, text);
    if (k < 0)
        return wr_fail(err, WR_ERR_INPUT, "%s must be one of %s, but is '%s'", o->name, choices,
                       text);
    *value = k;
    return WR_OK;
}

static void set_common(wr_objective_config *c, int k, double value) {
    if (k == NORM) c->norm = (wr_norm)value;
    if (k == SMOOTHING) c->label_smoothing = value;
    if (k == SMOOTH_OVER) c->smooth_others = value == 1;
}

wr_status wr_objective_set(wr_objective_config *c, const char *name, const char *value,
                           wr_error *err) {
    double x = 0;
    int k = find_option(c->row->options, WR_OBJECTIVE_OPTIONS, name);
    if (k >= 0) return read_value(&c->row->options[k], value, &c->value[k], err);
    k = find_option(COMMON_OPTIONS, COMMON, name);
    if (k < 0) return unknown_option(c->row, name, err);
    wr_status status = read_value(&COMMON_OPTIONS[k], value, &x, err);
    if (status == WR_OK) set_common(c, k, x);
    return status;
}

wr_status wr_objective_check(const wr_objective_config *c, wr_error *err) {
    return c->row->check == NULL ? WR_OK : c->row->check(c, err);
}

bool wr_objective_needs_update(const wr_objective_config *c) {
    return c->row->needs_update != NULL && c->row->needs_update(c);
}

const wr_objective_option *wr_objective_common(size_t k) {
    return k < COMMON ? &COMMON_OPTIONS[k] : NULL;
}

/* ---- an objective with its options as text ---- */

static const char *const SEPARATORS = " ,\t";

/* The next word of `*at` as a copy in `word`; false at the end. */
static bool next_word(const char **at, wr_str *word) {
    *at += strspn(*at, SEPARATORS);
    size_t n = strcspn(*at, SEPARATORS);
    wr_str_clear(word);
    wr_str_bytes(word, *at, n);
    *at += n;
    return n > 0;
}

/* Whether an option of this name stood between `from` and `to`. */
static bool stood(const char *from, const char *to, const char *name) {
    size_t n = strlen(name);
    while (from < to) {
        from += strspn(from, SEPARATORS);
        if (from < to && strncmp(from, name, n) == 0 && from[n] == '=') return true;
        from += strcspn(from, SEPARATORS);
    }
    return false;
}

static wr_status set_from_word(wr_objective_config *c, wr_str *word, const char *from,
                               const char *to, wr_error *err) {
    char *equals = strchr(word->text, '=');
    if (equals == NULL)
        return wr_fail(err, WR_ERR_INPUT, "%s: '%s' is not of the form name=value", c->row->name,
                       word->text);
    *equals = '\0';
    if (stood(from, to, word->text))
        return wr_fail(err, WR_ERR_INPUT, "%s: %s is given twice", c->row->name, word->text);
    return wr_objective_set(c, word->text, equals + 1, err);
}

/* The first word of a text, an objective's name. */
static wr_status parse_name(const char **at, wr_str *word, wr_objective_config *c, wr_error *err) {
    const wr_objective *row;
    next_word(at, word);
    if (word->oom) return wr_fail_memory(err, "an objective's name", strlen(*at));
    wr_status status = wr_objective_find(wr_str_text(word), &row, err);
    if (status == WR_OK) *c = wr_objective_init(row);
    return status;
}

wr_status wr_objective_parse(const char *text, wr_objective_config *c, wr_error *err) {
    const char *at = text;
    wr_str word = {0};
    wr_status status = parse_name(&at, &word, c, err);
    const char *options = at;
    while (status == WR_OK) {
        const char *before = at;
        if (!next_word(&at, &word)) break;
        status = word.oom ? wr_fail_memory(err, "an objective's options", strlen(text))
                          : set_from_word(c, &word, options, before, err);
    }
    wr_str_free(&word);
    return status == WR_OK ? wr_objective_check(c, err) : status;
}

/* ---- smoothing ---- */

void wr_objective_smoothing(const wr_objective_config *c, int64_t words, double *own,
                            double *mean) {
    double eps = c->label_smoothing;
    *own = 1 - eps;
    *mean = eps;
    if (!c->smooth_others || words < 2) return;
    double each = eps / (double)(words - 1);
    *own = 1 - eps - each;
    *mean = each * (double)words;
}
