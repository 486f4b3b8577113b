/* html_internal.h: what the writers of a model's page share. Internal to viz/. */
#ifndef WEIR_VIZ_HTML_INTERNAL_H
#define WEIR_VIZ_HTML_INTERNAL_H

#include "graph/intern.h"
#include "viz/html.h"

/* A page's data while it is written. Equal strings are written once and named by their number. */
typedef struct wr__html {
    wr_str *out;
    wr_str text; /* of the string that is being made */
    wr__bytes strings;
    bool oom;
} wr__html;

/* The number of the string gathered in `text`, which is emptied. 0 is "". */
uint32_t wr__html_take(wr__html *h);
uint32_t wr__html_intern(wr__html *h, const char *text);

/* What a node is called on its box, on one line. */
uint32_t wr__html_label(wr__html *h, const wr_graph *g, uint32_t id);
/* "f32 [B, T, 512]", "i32 scalar". */
uint32_t wr__html_type(wr__html *h, const wr_graph *g, uint32_t id);
/* "models/x.c:12 in build()". */
uint32_t wr__html_line(wr__html *h, const wr_graph *g, uint32_t id);
/* "encoder.layer0". */
uint32_t wr__html_scope(wr__html *h, const wr_graph *g, uint32_t scope);

/* Write an object with the nodes and scopes of a graph. */
wr_status wr__html_graph(wr__html *h, const wr_html_graph *x, wr_error *err);
/* Write an object with the steps and buffers of a plan. */
wr_status wr__html_plan(wr__html *h, const wr_plan *plan, wr_error *err);

/* A file of viz/page/, embedded by cmake/WeirPage.cmake. */
typedef struct wr__page_file {
    const char *name;
    const unsigned char *bytes;
    size_t n;
} wr__page_file;
extern const wr__page_file wr__page_files[];
extern const size_t wr__page_file_count;

#endif
