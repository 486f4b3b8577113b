/* svg.c: see svg.h. */
#include "viz/svg.h"
#include "viz/picture.h"
#include "viz/plot.h"

#include <string.h>

static double character_width(unsigned char c) {
    if (c >= 0x80) return 1;
    if (strchr("iljtfrI.,:;|'!()[]- ", c) != NULL) return 0.42;
    if (strchr("mwMW@%", c) != NULL) return 1;
    return c >= 'A' && c <= 'Z' ? 0.78 : 0.65;
}

double wr_plot_text_width(const char *text) {
    double width = 0;
    for (; *text != '\0'; text++)
        if (((unsigned char)*text & 0xC0) != 0x80) width += character_width((unsigned char)*text);
    return width;
}

/* Append the text, cut in the middle when it would be wider than `most` font sizes. */
static void add_fitted(wr_str *out, const char *text, double most) {
    if (wr_plot_text_width(text) <= most) {
        wr__escape_html(out, text);
        return;
    }
    size_t head = 0, n = strlen(text), tail = n;
    double half = (most - 1) / 2, width = 0;
    for (; head < n && width + character_width((unsigned char)text[head]) <= half; head++)
        width += character_width((unsigned char)text[head]);
    while (head > 0 && ((unsigned char)text[head] & 0xC0) == 0x80)
        head--;
    for (width = 0; tail > head && width + character_width((unsigned char)text[tail - 1]) <= half;)
        width += character_width((unsigned char)text[--tail]);
    while (tail < n && ((unsigned char)text[tail] & 0xC0) == 0x80)
        tail++;
    wr_str part = {0};
    wr_str_bytes(&part, text, head);
    wr_str_add(&part, "\xE2\x80\xA6%s", text + tail);
    wr__escape_html(out, wr_str_text(&part));
    out->oom = out->oom || part.oom;
    wr_str_free(&part);
}

void wr__svg_text(wr_str *out, double x, double y, int size, const char *anchor, const char *text,
                  double most) {
    wr_str_add(out, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%d\" text-anchor=\"%s\"%s>", x, y,
               size, anchor, size > WR__SVG_TEXT ? " font-weight=\"bold\"" : "");
    add_fitted(out, text, most / size);
    wr_str_add(out, "</text>\n");
}

void wr__svg_begin(wr_str *out, double width, double height) {
    wr_str_add(out,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
               "viewBox=\"0 0 %.0f %.0f\" font-family=\"DejaVu Sans, Arial, Helvetica, "
               "sans-serif\" fill=\"#222222\">\n"
               "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
               width, height, width, height);
}

void wr__svg_rect(wr_str *out, double x, double y, double width, double height, const char *fill) {
    wr_str_add(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>", x,
               y, width, height, fill);
}

const char *wr__svg_colour(size_t i) {
    static const char *const COLOURS[] = {"#0b3c8c", "#e8710a", "#7a1f7a", "#2ca25f",
                                          "#111111", "#c9a100", "#b3123c", "#1aa3c8"};
    return COLOURS[i % (sizeof COLOURS / sizeof COLOURS[0])];
}

const char *wr__svg_fill(size_t i) {
    static const char *const FILLS[WR__SVG_FILLS] = {"#4e79a7", "#f28e2b", "#76b7b2", "#e15759",
                                                     "#59a14f", "#edc948", "#b07aa1", "#9c755f",
                                                     "#a0cbe8", "#ffbe7d", "#8cd17d", "#d4a6c8"};
    return FILLS[i % WR__SVG_FILLS];
}
