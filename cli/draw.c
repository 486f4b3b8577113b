/* draw.c: `weir draw`: a picture of a model's graph. */
#include "cli/cli.h"
#include "cli/draw_html.h"
#include "cli/model_graph.h"
#include "viz/draw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    const char *what_to_draw, *what, *format, *scope, *out, *vocab;
    int64_t depth, batch, src_len, tgt_len;
    bool all, dropout, every_layer, batch_given;
} options;

/* --format, or the end of the file's name. */
static wr_status choose_format(options *o, wr_error *err) {
    static const char *const FORMATS[] = {"dot", "svg", "png", "pdf", "html"};
    const char *dot = strrchr(o->out, '.');
    for (size_t i = 0; i < WR_COUNT(FORMATS) && o->format == NULL && dot != NULL; i++)
        if (strcmp(dot + 1, FORMATS[i]) == 0) o->format = FORMATS[i];
    if (o->format != NULL) return WR_OK;
    return wr_fail(err, WR_ERR_USAGE,
                   "draw: --out %s does not end in .dot, .svg, .png, .pdf or .html; give --format",
                   o->out);
}

/* The page has every tab, whatever --what says. */
static wr_status draw_page(const options *o, const wr_model_sizes *m, wr_error *err) {
    wr_draw_html_options page = {.path = o->what_to_draw,
                                 .dropout = o->dropout,
                                 .batch = o->batch_given ? o->batch : 32,
                                 .src_len = o->src_len,
                                 .tgt_len = o->tgt_len};
    return wr_draw_html(m, &page, o->out, err);
}

/* The sizes of one batch. */
static wr_binding bind(const wr_graph *g, const options *o) {
    wr_binding b = {0};
    const wr_dims *dims = wr_graph_dims(g);
    for (int i = 0; i < wr_dims_symbol_count(dims); i++) {
        const char *name = wr_dims_symbol_at(dims, i)->name;
        if (strcmp(name, "B") == 0) b.value[i] = o->batch;
        if (strcmp(name, "S") == 0) b.value[i] = o->src_len;
        if (strcmp(name, "T") == 0) b.value[i] = o->tgt_len;
    }
    return b;
}

static void print_title(const options *o, const wr_model_sizes *m, wr_str *title) {
    const char *slash = strrchr(o->what_to_draw, '/');
    bool named = slash != NULL && slash[1] != '\0';
    wr_str_add(title, "%s: %s", named ? slash + 1 : o->what_to_draw,
               strcmp(o->what, "forward") == 0 ? "the loss" : "the loss and its gradient");
    if (m->src_vocab == m->tgt_vocab)
        wr_str_add(title, ", vocabulary %d", m->src_vocab);
    else
        wr_str_add(title, ", vocabularies %d and %d", m->src_vocab, m->tgt_vocab);
    if (o->batch_given)
        wr_str_add(title, ", B = %lld, S = %lld, T = %lld", (long long)o->batch,
                   (long long)o->src_len, (long long)o->tgt_len);
}

static wr_status draw_graph(const options *o, const wr_model_sizes *m, const wr_graph *g,
                            const bool *live, wr_error *err) {
    wr_str title = {0};
    print_title(o, m, &title);
    wr_binding binding = bind(g, o);
    wr_draw_options d = {.depth = o->all ? -1 : (int)o->depth,
                         .scope = o->scope,
                         .live = live,
                         .every_repeat = o->every_layer,
                         .title = wr_str_text(&title),
                         .binding = o->batch_given ? &binding : NULL};
    wr_status status = wr_draw_file(g, &d, o->format, o->out, err);
    wr_str_free(&title);
    return status;
}

static wr_status draw(options *o, wr_error *err) {
    wr_model_sizes m;
    wr_status status = choose_format(o, err);
    if (status == WR_OK) status = wr_model_sizes_read(o->what_to_draw, o->vocab, &m, err);
    if (status != WR_OK) return status;
    if (strcmp(o->format, "html") == 0) return draw_page(o, &m, err);
    bool gradient = strcmp(o->what, "gradient") == 0;
    wr_model_graph_options what = {.training = o->dropout, .gradient = gradient};
    wr_graph *g = NULL;
    bool *live = NULL;
    status = wr_model_graph_new(&m, &what, &g, &live, err);
    if (status != WR_OK) return status;
    status = draw_graph(o, &m, g, live, err);
    free(live);
    wr_graph_free(g);
    return status;
}

int wr_cmd_draw(int argc, char **argv) {
    options o = {0};
    const wr_opt table[] = {
        {"RECIPE", WR_OPT_STRING, &o.what_to_draw, .required = true,
         .help = "a recipe file, or a run directory"},
        {"--what", WR_OPT_STRING, &o.what, .fallback = "forward", .choices = "forward|gradient",
         .help = "the loss, or the loss with its gradient"},
        {"--out", WR_OPT_STRING, &o.out, .value = "F", .required = true,
         .help = "the file to write"},
        {"--format", WR_OPT_STRING, &o.format, .choices = "dot|svg|png|pdf|html",
         .help = "what to write; otherwise the end of the file's name tells"},
        {"--depth", WR_OPT_INT, &o.depth, .value = "N", .fallback = "1", .min = 0, .max = 1000,
         .help = "levels of scopes that are opened"},
        {"--all", WR_OPT_FLAG, &o.all, .help = "open all scopes"},
        {"--scope", WR_OPT_STRING, &o.scope, .value = "S",
         .help = "only the inside of this scope, e.g. encoder.layer0; --depth counts from there"},
        {"--every-layer", WR_OPT_FLAG, &o.every_layer,
         .help = "draw each of the layers that are alike, instead of one with their number"},
        {"--dropout", WR_OPT_FLAG, &o.dropout, .help = "draw dropout too"},
        {"--vocab", WR_OPT_STRING, &o.vocab, .value = "N", .help = WR_VOCAB_HELP},
        {"--batch", WR_OPT_INT, &o.batch, .value = "B", .min = 1, .max = 1 << 20,
         .given = &o.batch_given, .help = "tell operations and bytes for so many sentence pairs"},
        {"--src-len", WR_OPT_INT, &o.src_len, .value = "S", .fallback = "25", .min = 1,
         .max = 1 << 20, .help = "source tokens of each pair, with --batch"},
        {"--tgt-len", WR_OPT_INT, &o.tgt_len, .value = "T", .fallback = "25", .min = 1,
         .max = 1 << 20, .help = "target tokens of each pair, with --batch"},
    };
    const wr_cli cli = {.command = "draw",
                        .summary = "Draws the graph of a model",
                        .opts = table,
                        .opt_n = WR_COUNT(table),
                        .notes = "html is a page of all tabs, where scopes open by a click.\n"
                                 "svg has tooltips: source line, attributes and costs of each op.\n"
                                 "Example: weir draw recipes/transformer-tiny.yaml --depth 2 --out "
                                 "tiny.svg"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    return wr_cli_end(draw(&o, &err), &err);
}
