/* bars.h: a list of named amounts as bars, as one self-contained SVG. */
#ifndef WEIR_BARS_H
#define WEIR_BARS_H

#include "graph/base.h"

typedef struct wr_bar_row {
    const char *name;
    double value;     /* finite, at least 0 */
    const char *note; /* behind the bar; may be NULL */
} wr_bar_row;

typedef struct wr_bars {
    const char *title, *about; /* may be NULL */
    const char *unit;          /* of the values */
    const wr_bar_row *row;     /* drawn in this order */
    size_t n;
} wr_bars;

/* Append an SVG element. The same rows give the same text. Errors: WR_ERR_INPUT without rows,
 * WR_ERR_MEMORY. */
wr_status wr_bars_svg(const wr_bars *b, wr_str *out, wr_error *err);

#endif
