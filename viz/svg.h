/* svg.h: what our own pictures share: text that fits, colours. Internal to viz/. */
#ifndef WEIR_VIZ_SVG_H
#define WEIR_VIZ_SVG_H

#include "graph/base.h"

enum { WR__SVG_TEXT = 11 }; /* the size of plain text; larger text is bold */

/* The head of an <svg> element of that size, with a white ground. The caller ends it. */
void wr__svg_begin(wr_str *out, double width, double height);

/* Text with its baseline at y, cut in the middle when it would be wider than `most`. `anchor`:
 * start, middle or end. */
void wr__svg_text(wr_str *out, double x, double y, int size, const char *anchor, const char *text,
                  double most);

void wr__svg_rect(wr_str *out, double x, double y, double width, double height, const char *fill);

/* Colours for lines on white: neighbours differ in lightness, and for the colour-blind. */
const char *wr__svg_colour(size_t i);
/* Softer ones, for areas. */
const char *wr__svg_fill(size_t i);
enum { WR__SVG_FILLS = 12 };

#endif
