/* draw_html.h: a model's page: its loss, gradient, inverse and plan; for `weir draw`. */
#ifndef WEIR_CLI_DRAW_HTML_H
#define WEIR_CLI_DRAW_HTML_H

#include "cli/model_graph.h"

typedef struct wr_draw_html_options {
    const char *path;                /* of the recipe or run; its last part is the title */
    const char *what;                /* the tab that opens first */
    bool dropout;                    /* show dropout in the graph; the plan always has it */
    int64_t batch, src_len, tgt_len; /* sizes of the plan, and of what costs are told for */
} wr_draw_html_options;

/* Write the page to `out`, whole or not at all. A model with mistakes gets a page that tells them.
 * Errors: those of wr_model_graph_new, of planning, and of writing. */
wr_status wr_draw_html(wr_model_sizes *m, const wr_draw_html_options *o, const char *out,
                       wr_error *err);

#endif
