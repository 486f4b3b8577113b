/* draw.h: pictures of graphs: text for Graphviz, and its layout as SVG, PNG or PDF.
 *
 * Scopes are clusters. A scope that is not opened is one box that tells how many ops and parameters
 * it holds. Scopes of one kind that stand side by side and are built alike (layer0, layer1, layer2)
 * are drawn once with "x 3". Gradients have a cluster of their own. What more than four boxes read
 * (a mask, a source sentence) is given a sign instead of arrows: "gives (1)", "reads (1)". */
#ifndef WEIR_DRAW_H
#define WEIR_DRAW_H

#include "graph/graph.h"

typedef struct wr_draw_options {
    int depth;         /* levels of scopes that are opened; 0: none, negative: all */
    const char *scope; /* draw the inside of this scope only, with what it touches; NULL: all */
    const bool *live;  /* per node: is it drawn? NULL: all (wr_program_live, wr_live_nodes) */
    bool forward_only; /* leave out what was derived: gradients, inverses, recomputed nodes */
    bool every_repeat; /* draw each of the scopes that are alike */
    bool every_view;  /* draw rows that only rename bytes, too (a reshape); else arrows pass them */
    bool every_arrow; /* draw all arrows from what many boxes read, instead of a sign */
    /* Only this node and what it is made from, or what is made from it. A node's name as messages
     * have it ("prior.step0.matmul"; several nodes may have it) or its number; NULL: all. With
     * both, what lies between the two. */
    const char *ancestors, *descendants;
    bool only_parameters;      /* only parameters, in their scopes, without arrows */
    const wr_binding *binding; /* adds sizes, flops and bytes of one run; NULL: symbols only */
    const char *title;         /* NULL: none */
} wr_draw_options;

/* Append the picture as text in Graphviz' language. A graph with mistakes is drawn as far as it was
 * built; each mistake is a red box with its message, behind the operands that the message names.
 * Errors: WR_ERR_INPUT (no such scope, no such node; the message lists those there are, or like
 * it), WR_ERR_MEMORY. The text is the same for the same graph. */
wr_status wr_draw_dot(const wr_graph *g, const wr_draw_options *o, wr_str *out, wr_error *err);

/* Lay out text in Graphviz' language and write it to `path`, whole or not at all. `format` is dot
 * (the text as it is, without layout), svg, png or pdf. Errors: WR_ERR_INPUT when the text is
 * broken or the format unknown; WR_ERR_LIBRARY when Weir was built without Graphviz (the message
 * says what to install), or Graphviz cannot write the format, crashes, or finds no layout in 120 s
 * of processor time; WR_ERR_IO, WR_ERR_MEMORY. Works in a child process. */
wr_status wr_draw_write(const char *dot, const char *format, const char *path, wr_error *err);

/* Both: draw a graph into a file. */
wr_status wr_draw_file(const wr_graph *g, const wr_draw_options *o, const char *format,
                       const char *path, wr_error *err);

/* Was Weir built with Graphviz? Without it only the format dot works. */
bool wr_draw_has_layout(void);

#endif
