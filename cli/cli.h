/* cli.h: what every subcommand of `weir` shares: the option table, usage text, errors, progress.
 *
 * A command declares its options once, as a table whose rows point at variables; from that table
 * come the parsing, the checks, the defaults and `--help`:
 *
 *     typedef struct options { const char *run; int64_t beam; double alpha; bool scores; } options;
 *
 *     int wr_cmd_translate(int argc, char **argv) {
 *         options o = {0};
 *         const wr_opt table[] = {
 *             {"RUN", WR_OPT_STRING, &o.run, .help = "the run directory", .required = true},
 *             {"--beam", WR_OPT_INT, &o.beam, .value = "K", .fallback = "5", .min = 1, .max = 100,
 *              .help = "hypotheses kept"},
 *             {"--scores", WR_OPT_FLAG, &o.scores, .help = "print the scores too"},
 *         };
 *         const wr_cli cli = {.command = "translate", .summary = "translate text",
 *                             .opts = table, .opt_n = WR_COUNT(table)};
 *         int code = wr_cli_begin(&cli, argc, argv);
 *         if (code >= 0) return code;
 *         wr_error err = {0};
 *         return wr_cli_end(translate(&o, &err), &err);
 *     }
 */
#ifndef WEIR_CLI_H
#define WEIR_CLI_H

#include "graph/base.h"

#define WR_COUNT(array) (sizeof(array) / sizeof((array)[0]))

typedef enum wr_opt_kind {
    WR_OPT_FLAG,   /* bool *: no value; true when given */
    WR_OPT_INT,    /* int64_t *: decimal */
    WR_OPT_REAL,   /* double *: finite */
    WR_OPT_STRING, /* const char **: points into argv or at the fallback */
    WR_OPT_LIST,   /* wr_list *: one value each time the option is given */
    WR_OPT_MANY    /* wr_list *: all values up to the next option (`--ref A B C`); may repeat */
} wr_opt_kind;

/* Values of WR_OPT_LIST and WR_OPT_MANY in the order given; `items` point into argv.
 * Zero-initialise before parsing, wr_list_free() afterwards (also when parsing failed). */
typedef struct wr_list {
    const char **items;
    size_t n, cap;
} wr_list;
void wr_list_free(wr_list *list);

/* One row. A name that begins with "--" is an option; any other name is a positional argument,
 * filled in the order of the table (a positional WR_OPT_MANY takes all that are left). */
typedef struct wr_opt {
    const char *name;     /* "--beam", or "RUN" for a positional argument */
    wr_opt_kind kind;     /* decides the type of `to` */
    void *to;             /* where the value goes */
    const char *value;    /* the value's word in --help ("N"); NULL: chosen by kind */
    const char *fallback; /* default as text, shown in --help; NULL: `to` keeps what it holds */
    const char *choices;  /* "bpe|unigram": the strings allowed; NULL: any */
    double min, max;      /* limits of numbers, included; max < min: only min; both 0: none */
    bool required;        /* wrong usage when missing */
    bool *given;          /* may be NULL; true when the command line has it */
    const char *help;     /* one sentence without a full stop */
} wr_opt;

/* A command: its name as typed, what it does in one line, its table, and optional text that
 * --help prints at the end (examples). */
typedef struct wr_cli {
    const char *command;
    const char *summary;
    const wr_opt *opts;
    size_t opt_n;
    const char *notes;
} wr_cli;

/* Fill the table's targets from argv (argv[0] is the command's name). `--opt value`, `--opt=value`;
 * "--" ends the options; "-" alone is a value. `*help` tells that --help or -h was given; nothing
 * else is checked then. Errors: WR_ERR_USAGE with the option, what is wrong with it, what is
 * allowed, and the nearest name for an unknown one; WR_ERR_MEMORY. */
wr_status wr_cli_parse(const wr_cli *cli, int argc, char **argv, bool *help, wr_error *err);

/* Append the text of --help. */
void wr_cli_usage(const wr_cli *cli, wr_str *text);

/* wr_cli_parse() plus its output: -1 to go on; otherwise the exit status to return (0 after --help,
 * which goes to stdout; 2 after wrong usage, 1 after other failures, said on stderr; the table's
 * lists are then freed). */
int wr_cli_begin(const wr_cli *cli, int argc, char **argv);

/* The exit status for `status`: 0, 2 for WR_ERR_USAGE, 1 for the rest. A failure is printed on
 * stderr as `weir: TEXT`. Flushes stdout first; a failed flush (full disk, closed pipe) is a
 * failure too. */
int wr_cli_end(wr_status status, const wr_error *err);

/* Progress of long work on stderr: one line redrawn on a terminal (at most ten times a second),
 * otherwise a plain line now and then. */
typedef struct wr_bar {
    bool terminal;
    bool drawn;       /* a line stands on the terminal and must be cleared */
    double began;     /* wr_now() at the beginning */
    double before;    /* fraction that was done then */
    double last;      /* when the last line was written */
    double plain_gap; /* seconds between plain lines */
} wr_bar;

/* `plain_gap`: seconds between lines when stderr is no terminal; 0 for every call a line. */
void wr_bar_begin(wr_bar *p, double plain_gap);

/* `fraction` was done before: the time left follows from what is done from now on. */
void wr_bar_resume(wr_bar *p, double fraction);

/* Show `fraction` (0..1; negative when unknown) of the work done and a text; adds a bar on a
 * terminal and the time left where the fraction is known. */
void wr_bar_show(wr_bar *p, double fraction, const char *fmt, ...) WR_PRINTF(3, 4);

/* Write a line that stays (a report, a validation score) on stderr, in both cases. */
void wr_bar_line(wr_bar *p, const char *fmt, ...) WR_PRINTF(2, 3);

/* Clear the redrawn line. */
void wr_bar_end(wr_bar *p);

/* The subcommands: argv[0] is the command's name; they return the exit status. Each lives in
 * cli/NAME.c, and `weir` offers exactly those whose file exists (CMakeLists.txt). */
int wr_cmd_prepare(int argc, char **argv);
int wr_cmd_synth(int argc, char **argv);
int wr_cmd_train(int argc, char **argv);
int wr_cmd_translate(int argc, char **argv);
int wr_cmd_score(int argc, char **argv);
int wr_cmd_evaluate(int argc, char **argv);
int wr_cmd_bench(int argc, char **argv);
int wr_cmd_import(int argc, char **argv);
int wr_cmd_info(int argc, char **argv);
int wr_cmd_doctor(int argc, char **argv);
int wr_cmd_draw(int argc, char **argv);
int wr_cmd_distill(int argc, char **argv);
int wr_cmd_plot(int argc, char **argv);
int wr_cmd_report(int argc, char **argv);
int wr_cmd_diversity(int argc, char **argv);
int wr_cmd_loss(int argc, char **argv);
int wr_cmd_mple(int argc, char **argv);

#endif
