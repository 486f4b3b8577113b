/* plot.c: `weir plot`: the curves of training runs as a picture. */
#include "cli/cli.h"
#include "cli/curves.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    wr_list runs;
    const char *out, *what, *title;
} options;

static wr_status check_out(const char *out, wr_error *err) {
    size_t n = strlen(out);
    if (strcmp(out, "-") == 0 || (n > 4 && strcmp(out + n - 4, ".svg") == 0)) return WR_OK;
    return wr_fail(err, WR_ERR_USAGE, "--out %s does not end in .svg; pictures are SVG only", out);
}

static void print_notes(const wr_str *notes) {
    const char *at = wr_str_text(notes);
    while (*at != '\0') {
        size_t n = strcspn(at, "\n");
        fprintf(stderr, "weir: warning: %.*s\n", (int)n, at);
        at += n + (at[n] == '\n');
    }
}

static wr_status write_out(const char *out, const wr_str *svg, wr_error *err) {
    if (strcmp(out, "-") != 0) return wr_file_replace(out, wr_str_text(svg), svg->len, err);
    fwrite(wr_str_text(svg), 1, svg->len, stdout);
    return WR_OK;
}

static wr_status plot(const options *o, wr_error *err) {
    wr_curves *curves = NULL;
    wr_str notes = {0}, svg = {0};
    wr_status status = check_out(o->out, err);
    if (status != WR_OK) return status;
    status = wr_curves_read(o->runs.items, o->runs.n, &curves, &notes, err);
    print_notes(&notes);
    if (status == WR_OK) status = wr_curves_choose(curves, o->what, o->title, err);
    if (status == WR_OK) status = wr_plot_svg(wr_curves_plot(curves), &svg, err);
    if (status == WR_OK) status = write_out(o->out, &svg, err);
    wr_str_free(&svg);
    wr_str_free(&notes);
    wr_curves_free(curves);
    return status;
}

int wr_cmd_plot(int argc, char **argv) {
    options o = {0};
    const wr_opt table[] = {
        {"RUN", WR_OPT_MANY, &o.runs, .required = true,
         .help = "run directories or their log.jsonl; several are drawn into one picture"},
        {"--out", WR_OPT_STRING, &o.out, .value = "FILE", .required = true,
         .help = "the picture, FILE.svg, or - for standard output"},
        {"--what", WR_OPT_STRING, &o.what, .value = "WORDS",
         .help = "with commas: loss, bleu, lr, norm, speed, or names of fields of the log, each a "
                 "panel (default: loss,bleu,lr,norm as far as there are any)"},
        {"--title", WR_OPT_STRING, &o.title, .value = "TEXT",
         .help = "above the picture (default: the run's name when there is one run)"},
    };
    const wr_cli cli = {.command = "plot",
                        .summary = "the curves of training runs as a picture",
                        .opts = table,
                        .opt_n = WR_COUNT(table),
                        .notes = "Example: weir plot RUN1 RUN2 --what nll,bleu --out curves.svg"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    code = wr_cli_end(plot(&o, &err), &err);
    wr_list_free(&o.runs);
    return code;
}
