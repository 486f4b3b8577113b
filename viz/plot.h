/* plot.h: curves as a picture: panels with round ticks and legends, as one self-contained SVG.
 *
 * Curves differ by colour, marker and dashes, so that they can be told apart in grey, too. No text
 * lies on another: legends stand above their panel, in as many lines as they need, and the widths
 * are estimated from above. */
#ifndef WEIR_PLOT_H
#define WEIR_PLOT_H

#include "graph/base.h"

/* One curve: n points, x ascending. A y that is not finite, or beyond 1e100, is a gap. Curves of a
 * panel with the same label share one entry of its legend. */
typedef struct wr_curve {
    const char *label;
    const double *x, *y;
    size_t n;
    int colour, dash; /* from 0; the colour has a marker of its own */
} wr_curve;

/* Axes that the curves share. The y axis is logarithmic when all values are positive and a curve
 * spans more than 2.5 decades. There is no legend when the one label is the title
 * (in upper or lower case). */
typedef struct wr_panel {
    const char *title;
    const wr_curve *curve;
    size_t n;
} wr_panel;

/* A picture: panels, two in a row, all with the same x axis. `key`: what the colours mean in all
 * panels; legends then show dashes alone. key_n = 0: each curve's colour is explained by its
 * legend. */
typedef struct wr_plot {
    const char *title, *x_label;
    const wr_panel *panel;
    size_t n;
    const char *const *key;
    size_t key_n;
} wr_plot;

/* Append an <svg> element (a whole file, or a part of an HTML page). The same plot gives the same
 * text. Errors: WR_ERR_INPUT when no panel has a point; WR_ERR_MEMORY. */
wr_status wr_plot_svg(const wr_plot *plot, wr_str *out, wr_error *err);

/* The width that a text takes at most, in units of the font size. */
double wr_plot_text_width(const char *text);

#endif
