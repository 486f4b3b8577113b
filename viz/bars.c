/* bars.c: see bars.h. */
#include "viz/bars.h"
#include "viz/picture.h"
#include "viz/plot.h"
#include "viz/plot_axis.h"
#include "viz/svg.h"

enum {
    MARGIN = 16,
    WIDTH = 860,
    TITLE = 16,
    LINE = 20,
    BAR = 13,
    LONGEST_NAME = 280,
    NOTE_ROOM = 150, /* behind the longest bar */
    TICK_ROOM = 36
};

static double name_room(const wr_bars *b) {
    double most = 0;
    for (size_t i = 0; i < b->n; i++) {
        double width = wr_plot_text_width(b->row[i].name) * WR__SVG_TEXT;
        if (width > most) most = width;
    }
    return (most < LONGEST_NAME ? most : LONGEST_NAME) + 8;
}

static double most_of(const wr_bars *b) {
    double most = 0;
    for (size_t i = 0; i < b->n; i++)
        if (b->row[i].value > most) most = b->row[i].value;
    return most > 0 ? most : 1;
}

static void add_axis(const wr_bars *b, const wr__axis *axis, double x, double width, double top,
                     double bottom, wr_str *out) {
    for (size_t i = 0; i < axis->n; i++) {
        double at = x + width * wr__axis_place(axis, axis->tick[i]);
        wr_str_add(out, "<path d=\"M%.1f %.1fV%.1f\" stroke=\"#e4e4e4\"/>", at, top, bottom);
        wr__svg_text(out, at, bottom + 14, WR__SVG_TEXT, "middle", axis->label[i], 80);
    }
    wr__svg_text(out, x + width / 2, bottom + 30, WR__SVG_TEXT, "middle", b->unit, width);
}

static void add_row(const wr_bars *b, const wr__axis *axis, size_t i, double x, double width,
                    double y, wr_str *out) {
    const wr_bar_row *row = &b->row[i];
    double length = width * wr__axis_place(axis, row->value);
    wr__svg_text(out, x - 8, y + 11, WR__SVG_TEXT, "end", row->name, LONGEST_NAME);
    wr__svg_rect(out, x, y, length > 0.5 ? length : 0.5, BAR, wr__svg_fill(0));
    if (row->note != NULL)
        wr__svg_text(out, x + length + 6, y + 11, WR__SVG_TEXT, "start", row->note, NOTE_ROOM);
}

wr_status wr_bars_svg(const wr_bars *b, wr_str *out, wr_error *err) {
    if (b->n == 0) return wr_fail(err, WR_ERR_INPUT, "there is no bar to draw");
    double head = MARGIN + (b->title != NULL ? TITLE + 8 : 0) + (b->about != NULL ? 20 : 0);
    double bottom = head + LINE * (double)b->n + 4, y = MARGIN;
    double x = MARGIN + name_room(b), width = WIDTH - MARGIN - NOTE_ROOM - x;
    wr__axis axis;
    wr__axis_fit(&axis, 0, most_of(b), false, (int)(width / 70));
    axis.hi = most_of(b);
    while (axis.n > 0 && axis.tick[axis.n - 1] > axis.hi)
        axis.n--;
    wr__svg_begin(out, WIDTH, bottom + TICK_ROOM + MARGIN / 2.0);
    if (b->title != NULL) {
        wr__svg_text(out, MARGIN, y + TITLE, TITLE, "start", b->title, WIDTH - 2 * MARGIN);
        y += TITLE + 8;
    }
    if (b->about != NULL)
        wr__svg_text(out, MARGIN, y + 12, WR__SVG_TEXT, "start", b->about, WIDTH - 2 * MARGIN);
    add_axis(b, &axis, x, width, head, bottom, out);
    for (size_t i = 0; i < b->n; i++)
        add_row(b, &axis, i, x, width, head + LINE * (double)i + 3, out);
    wr_str_add(out, "</svg>\n");
    return out->oom ? wr_fail_memory(err, "a picture", out->len) : WR_OK;
}
