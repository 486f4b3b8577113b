/* html.h: a model or a run as one HTML page that needs nothing else: no network, no other file.
 *
 * The page holds its data as JSON and a script of our own (viz/page/) that lays out what is opened.
 * Names are data only: they become text by the script, never markup. */
#ifndef WEIR_HTML_H
#define WEIR_HTML_H

#include "graph/plan.h"

/* A graph, or a line that says why there is none. */
typedef struct wr_html_graph {
    const wr_graph *g;         /* NULL: none */
    const bool *live;          /* per node: is it shown? NULL: all */
    const wr_binding *binding; /* sizes, operations and bytes of one run; NULL: symbols only */
    const char *absent;
} wr_html_graph;

typedef struct wr_html_model {
    const char *title;     /* the recipe's or run's name */
    const char *about;     /* a line below it, may be NULL */
    const char *tab;       /* the one that opens first: forward (also NULL), gradient, .. */
    wr_html_graph loss;    /* with its gradient: the tabs forward and gradient */
    wr_html_graph inverse; /* the tab inverse */
    const wr_plan *plan;   /* the tab plan; NULL: `no_plan` says why there is none */
    const char *no_plan;   /* may be NULL with a plan */
} wr_html_model;

/* Append a page to walk through a model: scopes that open and close, search, details of every node,
 * memory over the plan's schedule. A graph with mistakes is shown as far as it was built, with the
 * messages. The text is the same for the same model. Errors: WR_ERR_MEMORY. */
wr_status wr_html_model_page(const wr_html_model *m, wr_str *out, wr_error *err);

/* The pages that viz/page/ has scripts for. */
typedef enum wr_html_kind { WR_HTML_MODEL, WR_HTML_REPORT } wr_html_kind;

/* Append a page with this data, a JSON text whose strings wr_html_string() wrote. */
wr_status wr_html_page(wr_html_kind kind, const char *title, const char *json, wr_str *out,
                       wr_error *err);

/* Append text as a JSON string that may stand in HTML. Broken UTF-8 becomes U+FFFD. NULL is null.
 */
void wr_html_string(wr_str *out, const char *text);

/* Append a number; null when it is not finite. */
void wr_html_number(wr_str *out, double value);

#endif
