/* options.c: argv against a table of options; see cli.h for the contract. */
#include "cli/cli.h"
#include "models/recipe_nearest.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A command line while it is read. */
typedef struct parser {
    const wr_cli *cli;
    int argc, next;
    char **argv;
    bool only_positional; /* "--" was seen */
    size_t positional;    /* row of the positional argument that is next */
    bool *seen;           /* [opt_n] */
    wr_error *err;
} parser;

void wr_list_free(wr_list *list) {
    free(list->items);
    *list = (wr_list){0};
}

static wr_status list_add(wr_list *list, const char *item, wr_error *err) {
    if (!wr_grow(&list->items, &list->cap, list->n + 1, sizeof *list->items))
        return wr_fail_memory(err, "a list of option values", (list->n + 1) * sizeof *list->items);
    list->items[list->n++] = item;
    return WR_OK;
}

static bool is_option(const wr_opt *opt) { return strncmp(opt->name, "--", 2) == 0; }

/* Every message names the command and ends with how to learn more. */
static wr_status WR_PRINTF(2, 3) usage_fail(parser *p, const char *fmt, ...) {
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    return wr_fail(p->err, WR_ERR_USAGE, "%s: %s (see `weir %s --help`)", p->cli->command, what,
                   p->cli->command);
}

/* `shown` is the value as text. */
static wr_status check_limits(parser *p, const wr_opt *opt, double value, const char *shown) {
    if (opt->min == 0 && opt->max == 0) return WR_OK;
    if (opt->max < opt->min) {
        if (value >= opt->min) return WR_OK;
        return usage_fail(p, "%s must be at least %.15g, but is %s", opt->name, opt->min, shown);
    }
    if (value >= opt->min && value <= opt->max) return WR_OK;
    return usage_fail(p, "%s must be from %.15g to %.15g, but is %s", opt->name, opt->min, opt->max,
                      shown);
}

static wr_status read_int(parser *p, const wr_opt *opt, const char *text) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno == ERANGE)
        return usage_fail(p, "%s needs a whole number, but got '%s'", opt->name, text);
    *(int64_t *)opt->to = value;
    return check_limits(p, opt, (double)value, text);
}

static wr_status read_real(parser *p, const wr_opt *opt, const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value))
        return usage_fail(p, "%s needs a number, but got '%s'", opt->name, text);
    *(double *)opt->to = value;
    return check_limits(p, opt, value, text);
}

/* Whether `text` is one of the words of `choices` ("a|b|c"). */
static bool is_choice(const char *choices, const char *text) {
    size_t n = strlen(text);
    for (const char *word = choices;; word++) {
        size_t length = strcspn(word, "|");
        if (length == n && memcmp(word, text, n) == 0) return true;
        word += length;
        if (*word == '\0') return false;
    }
}

static wr_status read_value(parser *p, const wr_opt *opt, const char *text) {
    if (opt->choices != NULL && !is_choice(opt->choices, text))
        return usage_fail(p, "%s must be one of %s, but is '%s'", opt->name, opt->choices, text);
    switch (opt->kind) {
    case WR_OPT_FLAG:
        *(bool *)opt->to = true;
        return WR_OK;
    case WR_OPT_INT:
        return read_int(p, opt, text);
    case WR_OPT_REAL:
        return read_real(p, opt, text);
    case WR_OPT_STRING:
        *(const char **)opt->to = text;
        return WR_OK;
    case WR_OPT_LIST:
    case WR_OPT_MANY:
        return list_add(opt->to, text, p->err);
    }
    return WR_OK;
}

static void mark(parser *p, size_t row) {
    p->seen[row] = true;
    if (p->cli->opts[row].given != NULL) *p->cli->opts[row].given = true;
}

/* The row of `name` (length n); opt_n when there is none. */
static size_t find_row(const wr_cli *cli, const char *name, size_t n) {
    for (size_t i = 0; i < cli->opt_n; i++) {
        const char *known = cli->opts[i].name;
        if (strlen(known) == n && strncmp(known, name, n) == 0) return i;
    }
    return cli->opt_n;
}

static wr_status unknown_option(parser *p, const char *name, size_t n) {
    char word[64];
    snprintf(word, sizeof word, "%.*s", (int)(n < 63 ? n : 63), name);
    wr_nearest nearest = {.word = word};
    for (size_t i = 0; i < p->cli->opt_n; i++)
        if (is_option(&p->cli->opts[i])) wr_nearest_try(&nearest, p->cli->opts[i].name);
    if (nearest.best == NULL) return usage_fail(p, "unknown option '%s'", word);
    return usage_fail(p, "unknown option '%s'; did you mean %s?", word, nearest.best);
}

/* An argument that cannot be a value: an option, or "--". "-" is a value; so is "-1". */
static bool ends_values(const char *arg) { return arg[0] == '-' && arg[1] == '-'; }

static wr_status parse_values(parser *p, size_t row) {
    const wr_opt *opt = &p->cli->opts[row];
    if (p->next >= p->argc || ends_values(p->argv[p->next]))
        return usage_fail(p, "%s needs a value", opt->name);
    do {
        wr_status status = read_value(p, opt, p->argv[p->next++]);
        if (status != WR_OK) return status;
    } while (opt->kind == WR_OPT_MANY && p->next < p->argc && !ends_values(p->argv[p->next]));
    return WR_OK;
}

static wr_status parse_option(parser *p, const char *arg) {
    const wr_cli *cli = p->cli;
    size_t n = strcspn(arg, "=");
    const char *value = arg[n] == '=' ? arg + n + 1 : NULL;
    size_t row = find_row(cli, arg, n);
    if (row == cli->opt_n) return unknown_option(p, arg, n);
    const wr_opt *opt = &cli->opts[row];
    bool repeats = opt->kind == WR_OPT_LIST || opt->kind == WR_OPT_MANY;
    if (p->seen[row] && !repeats && opt->kind != WR_OPT_FLAG)
        return usage_fail(p, "%s is given twice", opt->name);
    mark(p, row);
    if (opt->kind == WR_OPT_FLAG) {
        if (value != NULL) return usage_fail(p, "%s takes no value", opt->name);
        return read_value(p, opt, "");
    }
    return value != NULL ? read_value(p, opt, value) : parse_values(p, row);
}

static wr_status parse_positional(parser *p, const char *arg) {
    const wr_cli *cli = p->cli;
    while (p->positional < cli->opt_n && is_option(&cli->opts[p->positional]))
        p->positional++;
    if (p->positional == cli->opt_n) return usage_fail(p, "unexpected argument '%s'", arg);
    const wr_opt *opt = &cli->opts[p->positional];
    mark(p, p->positional);
    if (opt->kind != WR_OPT_MANY) p->positional++;
    return read_value(p, opt, arg);
}

static wr_status fill_fallbacks(parser *p) {
    for (size_t i = 0; i < p->cli->opt_n; i++) {
        const wr_opt *opt = &p->cli->opts[i];
        if (p->seen[i]) continue;
        if (opt->required && is_option(opt)) return usage_fail(p, "%s is missing", opt->name);
        if (opt->required) return usage_fail(p, "%s is missing: %s", opt->name, opt->help);
        if (opt->fallback == NULL) continue;
        wr_status status = read_value(p, opt, opt->fallback);
        if (status != WR_OK) return status;
    }
    return WR_OK;
}

static bool asks_help(int argc, char **argv) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
    return false;
}

static wr_status parse_all(parser *p) {
    while (p->next < p->argc) {
        const char *arg = p->argv[p->next++];
        wr_status status;
        if (p->only_positional || arg[0] != '-' || arg[1] == '\0')
            status = parse_positional(p, arg);
        else if (strcmp(arg, "--") == 0) {
            p->only_positional = true;
            continue;
        } else
            status = parse_option(p, arg);
        if (status != WR_OK) return status;
    }
    return fill_fallbacks(p);
}

wr_status wr_cli_parse(const wr_cli *cli, int argc, char **argv, bool *help, wr_error *err) {
    *help = asks_help(argc, argv);
    if (*help) return WR_OK;
    for (size_t i = 0; i < cli->opt_n; i++)
        if (cli->opts[i].given != NULL) *cli->opts[i].given = false;
    bool *seen = calloc(cli->opt_n + 1, sizeof *seen);
    if (seen == NULL) return wr_fail_memory(err, "the options", cli->opt_n + 1);
    parser p = {.cli = cli, .argc = argc, .next = 1, .argv = argv, .seen = seen, .err = err};
    wr_status status = parse_all(&p);
    free(seen);
    return status;
}
