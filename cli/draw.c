/* draw.c: `weir draw`: a picture of a model's graph. */
#include "cli/cli.h"
#include "cli/draw_html.h"
#include "cli/model_plan.h"
#include "viz/draw.h"
#include "viz/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    const char *what_to_draw, *what, *format, *scope, *out, *vocab;
    int64_t depth, batch, src_len, tgt_len;
    const char *ancestors, *descendants, *only;
    const char *about; /* what it is, for the title */
    bool all, dropout, every_layer, views, arrows;
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

/* The page has every tab; --what says which opens first. */
static wr_status draw_page(const options *o, wr_model_sizes *m, wr_error *err) {
    wr_draw_html_options page = {.path = o->what_to_draw,
                                 .what = o->what,
                                 .dropout = o->dropout,
                                 .batch = o->batch > 0 ? o->batch : 32,
                                 .src_len = o->src_len,
                                 .tgt_len = o->tgt_len};
    return wr_draw_html(m, &page, o->out, err);
}

static void print_title(const options *o, const wr_model_sizes *m, wr_str *title) {
    const char *slash = strrchr(o->what_to_draw, '/');
    bool named = slash != NULL && slash[1] != '\0';
    wr_str_add(title, "%s: %s", named ? slash + 1 : o->what_to_draw, o->about);
    if (m->src_vocab == m->tgt_vocab)
        wr_str_add(title, ", vocabulary %d", m->src_vocab);
    else
        wr_str_add(title, ", vocabularies %d and %d", m->src_vocab, m->tgt_vocab);
    if (o->batch > 0)
        wr_str_add(title, ", B = %lld, S = %lld, T = %lld", (long long)o->batch,
                   (long long)o->src_len, (long long)o->tgt_len);
}

static wr_status draw_graph(const options *o, const wr_model_sizes *m, const wr_graph *g,
                            const bool *live, wr_error *err) {
    wr_str title = {0};
    print_title(o, m, &title);
    wr_batch_sizes sizes = {o->batch, o->src_len, o->tgt_len};
    wr_binding binding = wr_model_binding(g, &sizes);
    wr_draw_options d = {.depth = o->all ? -1 : (int)o->depth,
                         .scope = o->scope,
                         .live = live,
                         .every_repeat = o->every_layer,
                         .every_view = o->views || o->all,
                         .every_arrow = o->arrows,
                         .ancestors = o->ancestors,
                         .descendants = o->descendants,
                         .only_parameters = o->only != NULL,
                         .title = wr_str_text(&title),
                         .binding = o->batch > 0 ? &binding : NULL};
    wr_status status = wr_draw_file(g, &d, o->format, o->out, err);
    wr_str_free(&title);
    return status;
}

static wr_status draw_model(options *o, wr_model_sizes *m, wr_error *err) {
    bool gradient = strcmp(o->what, "gradient") == 0;
    wr_model_graph_options what = {.training = o->dropout, .gradient = gradient};
    wr_graph *g = NULL;
    bool *live = NULL;
    wr_status status;
    if (strcmp(o->what, "inverse") == 0) {
        o->about = "the inverse of the prior, from noise to z";
        status = wr_model_inverse_new(m, &g, &live, err);
    } else {
        o->about = gradient ? "the loss and its gradient" : "the loss";
        status = wr_model_graph_new(m, &what, &g, &live, err);
    }
    if (o->only != NULL) o->about = "parameters";
    if (status == WR_OK) status = draw_graph(o, m, g, live, err);
    free(live);
    wr_graph_free(g);
    return status;
}

/* The picture goes into the file, the table to the terminal. */
static wr_status draw_plan(options *o, const wr_model_sizes *m, wr_error *err) {
    if (strcmp(o->format, "svg") != 0)
        return wr_fail(err, WR_ERR_USAGE,
                       "draw: a plan is drawn as svg only, and is a tab of the page (html); "
                       "rsvg-convert or a browser make png of svg");
    enum { USUAL = 32, TOP = 10 };
    if (o->batch == 0) o->batch = USUAL;
    o->about = "memory of a training step";
    wr_batch_sizes sizes = {o->batch, o->src_len, o->tgt_len};
    wr_model_plan plan;
    wr_str title = {0}, table = {0}, svg = {0};
    print_title(o, m, &title);
    wr_memory_options memory = {
        .depth = o->all ? 1000 : (int)o->depth, .top = TOP, .title = wr_str_text(&title)};
    wr_status status = wr_model_plan_new(m, &sizes, &plan, err);
    if (status == WR_OK) status = wr_memory_svg(plan.plan, &memory, &svg, err);
    if (status == WR_OK) status = wr_memory_table(plan.plan, &memory, &table, err);
    if (status == WR_OK) status = wr_file_replace(o->out, wr_str_text(&svg), svg.len, err);
    if (status == WR_OK) printf("%s\n%s", wr_str_text(&title), wr_str_text(&table));
    wr_model_plan_free(&plan);
    wr_str_free(&title);
    wr_str_free(&table);
    wr_str_free(&svg);
    return status;
}

static wr_status draw(options *o, wr_error *err) {
    wr_model_sizes m;
    wr_status status = choose_format(o, err);
    if (status == WR_OK) status = wr_model_sizes_read(o->what_to_draw, o->vocab, &m, err);
    if (status == WR_OK) status = wr_model_round_length(&m, &o->tgt_len, err);
    if (status != WR_OK) return status;
    if (strcmp(o->format, "html") == 0) return draw_page(o, &m, err);
    return strcmp(o->what, "plan") == 0 ? draw_plan(o, &m, err) : draw_model(o, &m, err);
}

int wr_cmd_draw(int argc, char **argv) {
    options o = {0};
    const wr_opt table[] = {
        {"RECIPE", WR_OPT_STRING, &o.what_to_draw, .required = true,
         .help = "a recipe file, or a run directory"},
        {"--what", WR_OPT_STRING, &o.what, .fallback = "forward",
         .choices = "forward|gradient|inverse|plan",
         .help = "the loss; the loss with its gradient; the inverse of a FlowSeq's prior; or who "
                 "holds memory during a training step, with a table on the terminal"},
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
        {"--ancestors", WR_OPT_STRING, &o.ancestors, .value = "NODE",
         .help = "only this node (its name or number) and what it is made from"},
        {"--descendants", WR_OPT_STRING, &o.descendants, .value = "NODE",
         .help = "only this node and what is made from it"},
        {"--only", WR_OPT_STRING, &o.only, .choices = "parameters",
         .help = "only parameters, in their scopes"},
        {"--views", WR_OPT_FLAG, &o.views, .help = "draw what only renames bytes too (reshape)"},
        {"--all-arrows", WR_OPT_FLAG, &o.arrows,
         .help = "arrows also from what five or more boxes read, instead of a sign"},
        {"--dropout", WR_OPT_FLAG, &o.dropout, .help = "draw dropout too"},
        {"--vocab", WR_OPT_STRING, &o.vocab, .value = "N", .help = WR_VOCAB_HELP},
        {"--batch", WR_OPT_INT, &o.batch, .value = "B", .min = 1, .max = 1 << 20,
         .help = "tell operations and bytes for so many sentence pairs; of a plan: 32"},
        {"--src-len", WR_OPT_INT, &o.src_len, .value = "S", .fallback = "24", .min = 1,
         .max = 1 << 20, .help = "source tokens of each pair"},
        {"--tgt-len", WR_OPT_INT, &o.tgt_len, .value = "T", .fallback = "24", .min = 1,
         .max = 1 << 20,
         .help = "target tokens of each pair, rounded up to what a flow can divide"},
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
