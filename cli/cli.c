/* cli.c: usage text, exit status and progress of the commands; see cli.h for the contracts. */
#define _GNU_SOURCE
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { HELP_COLUMN = 26, HELP_WIDTH = 100, BAR_WIDTH = 20 };

static bool is_option(const wr_opt *opt) { return strncmp(opt->name, "--", 2) == 0; }

static const char *value_word(const wr_opt *opt) {
    if (opt->value != NULL) return opt->value;
    if (opt->choices != NULL) return opt->choices;
    switch (opt->kind) {
    case WR_OPT_FLAG:
        return "";
    case WR_OPT_INT:
        return "N";
    case WR_OPT_REAL:
        return "X";
    case WR_OPT_STRING:
    case WR_OPT_LIST:
    case WR_OPT_MANY:
        break;
    }
    return "TEXT";
}

/* "--ref FILE...", "RUN". */
static void add_synopsis(wr_str *text, const wr_opt *opt) {
    const char *dots = opt->kind == WR_OPT_MANY ? "..." : "";
    if (!is_option(opt)) {
        wr_str_add(text, "%s%s", opt->name, dots);
        return;
    }
    const char *word = value_word(opt);
    wr_str_add(text, "%s%s%s%s", opt->name, *word != '\0' ? " " : "", word, dots);
}

static void add_usage_line(wr_str *text, const wr_cli *cli) {
    wr_str_add(text, "usage: weir %s", cli->command);
    bool optional = false;
    for (size_t i = 0; i < cli->opt_n; i++) {
        const wr_opt *opt = &cli->opts[i];
        if (is_option(opt) && !opt->required) optional = true;
        if (is_option(opt) && !opt->required) continue;
        wr_str_add(text, opt->required ? " " : " [");
        add_synopsis(text, opt);
        if (!opt->required) wr_str_add(text, "]");
    }
    wr_str_add(text, optional ? " [options]\n" : "\n");
}

/* Append `words`, wrapped at HELP_WIDTH with HELP_COLUMN spaces before each further line. */
static void add_wrapped(wr_str *text, const char *words, size_t column) {
    while (*words != '\0') {
        size_t n = strcspn(words, " ");
        if (column + n + 1 > HELP_WIDTH) {
            wr_str_add(text, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else if (column > HELP_COLUMN) {
            wr_str_add(text, " ");
            column++;
        }
        wr_str_bytes(text, words, n);
        column += n;
        words += n;
        while (*words == ' ')
            words++;
    }
    wr_str_add(text, "\n");
}

static void add_row(wr_str *text, const wr_opt *opt) {
    wr_str left = {0}, right = {0};
    add_synopsis(&left, opt);
    wr_str_add(&right, "%s", opt->help != NULL ? opt->help : "");
    if (opt->choices != NULL && opt->value != NULL) wr_str_add(&right, " (%s)", opt->choices);
    if (opt->fallback != NULL) wr_str_add(&right, " (default %s)", opt->fallback);
    if (opt->kind == WR_OPT_LIST) wr_str_add(&right, " (may be given several times)");
    wr_str_add(text, "  %-*s", HELP_COLUMN - 2, wr_str_text(&left));
    if (left.len + 4 > HELP_COLUMN) wr_str_add(text, "\n%*s", HELP_COLUMN, "");
    add_wrapped(text, wr_str_text(&right), HELP_COLUMN);
    text->oom = text->oom || left.oom || right.oom;
    wr_str_free(&left);
    wr_str_free(&right);
}

void wr_cli_usage(const wr_cli *cli, wr_str *text) {
    add_usage_line(text, cli);
    wr_str_add(text, "%s\n\n", cli->summary);
    for (int options = 0; options < 2; options++)
        for (size_t i = 0; i < cli->opt_n; i++)
            if (is_option(&cli->opts[i]) == (options == 1)) add_row(text, &cli->opts[i]);
    const wr_opt help = {"--help", WR_OPT_FLAG, NULL, .help = "print this"};
    add_row(text, &help);
    if (cli->notes != NULL) wr_str_add(text, "\n%s\n", cli->notes);
}

int wr_cli_begin(const wr_cli *cli, int argc, char **argv) {
    wr_error err = {0};
    bool help;
    wr_status status = wr_cli_parse(cli, argc, argv, &help, &err);
    if (status == WR_OK && !help) return -1;
    for (size_t i = 0; i < cli->opt_n; i++)
        if (cli->opts[i].kind == WR_OPT_LIST || cli->opts[i].kind == WR_OPT_MANY)
            wr_list_free(cli->opts[i].to);
    if (status != WR_OK) return wr_cli_end(status, &err);
    wr_str text = {0};
    wr_cli_usage(cli, &text);
    if (text.oom)
        status = wr_fail_memory(&err, "the help text", text.cap);
    else
        fputs(wr_str_text(&text), stdout);
    wr_str_free(&text);
    return wr_cli_end(status, &err);
}

int wr_cli_end(wr_status status, const wr_error *err) {
    bool unwritten = fflush(stdout) != 0 || ferror(stdout) != 0;
    if (status != WR_OK) {
        fprintf(stderr, "weir: %s\n", err != NULL && err->text[0] != '\0' ? err->text : "failed");
        return status == WR_ERR_USAGE ? 2 : 1;
    }
    if (!unwritten) return 0;
    fprintf(stderr, "weir: cannot write to the standard output: %s\n", strerror(errno));
    return 1;
}

void wr_bar_begin(wr_bar *p, double plain_gap) {
    *p = (wr_bar){.terminal = isatty(STDERR_FILENO) == 1, .plain_gap = plain_gap};
    p->began = wr_now();
    p->last = p->began - plain_gap;
}

void wr_bar_resume(wr_bar *p, double fraction) {
    p->began = wr_now();
    p->before = fraction;
}

static size_t terminal_width(void) {
    struct winsize size;
    bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20;
    return known ? size.ws_col : 80;
}

static void add_time(wr_str *line, double seconds) {
    long left = (long)(seconds + 0.5);
    if (left >= 3600)
        wr_str_add(line, "  %ld:%02ld:%02ld left", left / 3600, left / 60 % 60, left % 60);
    else
        wr_str_add(line, "  %ld:%02ld left", left / 60, left % 60);
}

static void add_bar(wr_str *line, double fraction) {
    char bar[BAR_WIDTH + 1];
    int full = (int)(fraction * BAR_WIDTH + 0.5);
    for (int i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < full ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    wr_str_add(line, "[%s] %3.0f%%  ", bar, 100 * fraction);
}

void wr_bar_show(wr_bar *p, double fraction, const char *fmt, ...) {
    double now = wr_now();
    if (now - p->last < (p->terminal ? 0.1 : p->plain_gap) && fraction < 1) return;
    p->last = now;
    if (fraction > 1) fraction = 1;
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    wr_str line = {0};
    if (p->terminal && fraction >= 0) add_bar(&line, fraction);
    wr_str_add(&line, "%s", what);
    if (fraction > p->before && fraction < 1)
        add_time(&line, (now - p->began) * (1 - fraction) / (fraction - p->before));
    if (p->terminal)
        fprintf(stderr, "\r\033[K%.*s", (int)terminal_width() - 1, wr_str_text(&line));
    else
        fprintf(stderr, "%s\n", wr_str_text(&line));
    fflush(stderr);
    p->drawn = p->terminal;
    wr_str_free(&line);
}

void wr_bar_line(wr_bar *p, const char *fmt, ...) {
    wr_bar_end(p);
    va_list args;
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
}

void wr_bar_end(wr_bar *p) {
    if (p->drawn) fputs("\r\033[K", stderr);
    p->drawn = false;
}
