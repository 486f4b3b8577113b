/* plot.c: panels of curves as SVG; see plot.h. */
#include "viz/plot.h"
#include "viz/picture.h"
#include "viz/plot_axis.h"
#include "viz/svg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Lengths in units of the picture (pixels at its natural size). */
enum {
    MARGIN = 12,
    TITLE_SIZE = 16,
    PANEL_TITLE_SIZE = 13,
    TEXT_SIZE = WR__SVG_TEXT,
    LINE = 17,      /* from one line of a legend to the next */
    SAMPLE = 30,    /* the bit of curve before an entry */
    ENTRY_GAP = 14, /* between entries */
    PANEL_WIDTH = 480,
    LONE_WIDTH = 720,
    PLOT_HEIGHT = 220,
    GAP = 16,          /* between panels */
    TICK_ROOM = 46,    /* height of a line of ticks with the axis' label */
    FEW_POINTS = 40,   /* a curve of at most so many has a marker at each */
    SOME_MARKERS = 8,  /* about so many are on longer ones */
    MANY_POINTS = 200, /* more are drawn with a thin line */
    LONGEST_LABEL = 64
};

#define BEYOND 1e100
#define WIDTH  1.6 /* of a line */

static const char *const DASHES[] = {"", "7 4", "2 3", "10 3 2 3", "14 4", "5 2 1 2 1 2"};
enum { N_DASHES = 6, N_MARKERS = 6 };

/* ---- text ---- */

static double text_width(const char *text, int size) {
    double most = LONGEST_LABEL * 0.65 * TEXT_SIZE, width = wr_plot_text_width(text) * size;
    return width < most ? width : most;
}

/* ---- curves ---- */

static bool is_point(double y) { return fabs(y) <= BEYOND; }

/* The marker of a colour around (x, y). */
static void add_marker(wr_str *out, int colour, double x, double y) {
    const double r = 3;
    switch (colour % N_MARKERS) {
    case 0:
        wr_str_add(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"/>", x, y, r);
        break;
    case 1:
        wr_str_add(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", x - r,
                   y - r, 2 * r, 2 * r);
        break;
    case 2:
        wr_str_add(out, "<path d=\"M%.1f %.1fl%.1f %.1fh%.1fz\"/>", x, y - r - 1, r + 1, 2 * r + 1,
                   -2 * r - 2);
        break;
    case 3:
        wr_str_add(out, "<path d=\"M%.1f %.1fl4 4l-4 4l-4 -4z\"/>", x, y - 4);
        break;
    case 4:
        wr_str_add(out, "<path d=\"M%.1f %.1fl%.1f %.1fh%.1fz\"/>", x, y + r + 1, r + 1, -2 * r - 1,
                   -2 * r - 2);
        break;
    default:
        wr_str_add(out, "<path d=\"M%.1f %.1fh3v-3h2v3h3v2h-3v3h-2v-3h-3z\"/>", x - 4, y - 1);
    }
}

static void add_stroke(wr_str *out, const char *colour, int dash, double width) {
    const char *pattern = DASHES[dash % N_DASHES];
    wr_str_add(out, " stroke=\"%s\" stroke-width=\"%.1f\" fill=\"none\"", colour, width);
    if (*pattern != '\0') wr_str_add(out, " stroke-dasharray=\"%s\"", pattern);
}

/* A panel's inside on the page, and its axes. */
typedef struct frame {
    double x, y, width, height;
    wr__axis across, up;
} frame;

static double place_x(const frame *f, double v) {
    return f->x + f->width * wr__axis_place(&f->across, v);
}

static double place_y(const frame *f, double v) {
    return f->y + f->height * (1 - wr__axis_place(&f->up, v));
}

/* The points of one column of pixels while a path is made: the lowest and the highest are kept. */
typedef struct column {
    long at;
    bool any;
    size_t low, high;
} column;

static void flush_column(wr_str *out, const frame *f, const wr_curve *c, column *k, bool *begun) {
    if (!k->any) return;
    size_t first = k->low < k->high ? k->low : k->high, last = k->low + k->high - first;
    for (size_t i = first;; i = last) {
        wr_str_add(out, "%s%.1f %.1f", *begun ? "L" : "M", place_x(f, c->x[i]),
                   place_y(f, c->y[i]));
        *begun = true;
        if (i == last) break;
    }
    k->any = false;
}

static void add_path(wr_str *out, const frame *f, const wr_curve *c) {
    column k = {0};
    bool begun = false;
    for (size_t i = 0; i < c->n; i++) {
        if (!is_point(c->y[i])) {
            flush_column(out, f, c, &k, &begun);
            begun = false;
            continue;
        }
        long at = lround(place_x(f, c->x[i]));
        if (k.any && at != k.at) flush_column(out, f, c, &k, &begun);
        if (!k.any) k = (column){.at = at, .any = true, .low = i, .high = i};
        if (c->y[i] < c->y[k.low]) k.low = i;
        if (c->y[i] > c->y[k.high]) k.high = i;
    }
    flush_column(out, f, c, &k, &begun);
}

static void add_curve(wr_str *out, const frame *f, const wr_curve *c, size_t number) {
    const char *colour = wr__svg_colour((size_t)c->colour);
    wr_str_add(out, "<g><title>");
    wr__escape_html(out, c->label);
    wr_str_add(out, "</title><path");
    add_stroke(out, colour, c->dash, c->n > MANY_POINTS ? 1 : WIDTH);
    wr_str_add(out, " stroke-linejoin=\"round\" d=\"");
    add_path(out, f, c);
    wr_str_add(out, "\"/>\n<g fill=\"%s\">", colour);
    size_t step = c->n <= FEW_POINTS ? 1 : c->n / SOME_MARKERS;
    for (size_t i = step == 1 ? 0 : number * step / 3 % step; i < c->n; i += step)
        if (is_point(c->y[i])) add_marker(out, c->colour, place_x(f, c->x[i]), place_y(f, c->y[i]));
    wr_str_add(out, "</g></g>\n");
}

/* ---- legends ---- */

/* Entries flow from left to right; `line` counts the lines begun. */
typedef struct flow {
    double left, right, top;
    double x;
    int line;
} flow;

static flow flow_begin(double left, double right, double top) {
    return (flow){.left = left, .right = right, .top = top, .x = left};
}

/* Where the next entry of this label goes. */
static void flow_next(flow *w, const char *label, double *x, double *y) {
    double need = SAMPLE + text_width(label, TEXT_SIZE) + ENTRY_GAP;
    if (w->line == 0 || w->x + need > w->right) {
        w->line++;
        w->x = w->left;
    }
    *x = w->x;
    *y = w->top + LINE * w->line - 5;
    w->x += need;
}

static void add_entry(wr_str *out, const flow *w, double x, double y, const char *colour, int dash,
                      int marker, const char *label) {
    wr_str_add(out, "<path");
    add_stroke(out, colour, dash, WIDTH);
    wr_str_add(out, " d=\"M%.1f %.1fh%d\"/>", x, y - 4, SAMPLE - 6);
    if (marker >= 0) {
        wr_str_add(out, "<g fill=\"%s\">", colour);
        add_marker(out, marker, x + (SAMPLE - 6) / 2.0, y - 4);
        wr_str_add(out, "</g>");
    }
    double most = w->right - x - SAMPLE, longest = LONGEST_LABEL * 0.65 * TEXT_SIZE;
    wr__svg_text(out, x + SAMPLE, y, TEXT_SIZE, "start", label, most < longest ? most : longest);
}

/* Did an earlier curve of the panel have the label? */
static bool label_is_known(const wr_panel *p, size_t i) {
    for (size_t k = 0; k < i; k++)
        if (strcmp(p->curve[k].label, p->curve[i].label) == 0) return true;
    return false;
}

static bool has_legend(const wr_panel *p) {
    for (size_t i = 0; i < p->n; i++)
        if (strcasecmp(p->curve[i].label, p->title) != 0) return true;
    return false;
}

/* Lines that the legend takes; written when `out` is not NULL. */
static int panel_legend(wr_str *out, const wr_plot *plot, const wr_panel *p, flow w) {
    for (size_t i = 0; has_legend(p) && i < p->n; i++) {
        const wr_curve *c = &p->curve[i];
        double x, y;
        if (label_is_known(p, i)) continue;
        flow_next(&w, c->label, &x, &y);
        if (out == NULL) continue;
        bool keyed = plot->key_n > 0;
        add_entry(out, &w, x, y, keyed ? "#444444" : wr__svg_colour((size_t)c->colour), c->dash,
                  keyed ? -1 : c->colour, c->label);
    }
    return w.line;
}

static int key_legend(wr_str *out, const wr_plot *plot, flow w) {
    for (size_t i = 0; i < plot->key_n; i++) {
        double x, y;
        flow_next(&w, plot->key[i], &x, &y);
        if (out != NULL) add_entry(out, &w, x, y, wr__svg_colour(i), 0, (int)i, plot->key[i]);
    }
    return w.line;
}

/* ---- axes ---- */

typedef struct range {
    double min, max;
    bool any;
} range;

static void widen(range *r, double v) {
    if (!r->any || v < r->min) r->min = v;
    if (!r->any || v > r->max) r->max = v;
    r->any = true;
}

static range range_of(const wr_curve *c, const double *values) {
    range r = {0};
    for (size_t i = 0; i < c->n; i++)
        if (is_point(c->y[i])) widen(&r, values[i]);
    return r;
}

/* False when the panel has no point. */
static bool fit_up(const wr_panel *p, wr__axis *axis) {
    range all = {0};
    bool wide = false;
    for (size_t i = 0; i < p->n; i++) {
        range r = range_of(&p->curve[i], p->curve[i].y);
        if (!r.any) continue;
        wide = wide || (r.min > 0 && log10(r.max) - log10(r.min) > 2.5);
        widen(&all, r.min);
        widen(&all, r.max);
    }
    if (all.any) wr__axis_fit(axis, all.min, all.max, wide && all.min > 0, 5);
    return all.any;
}

static bool fit_across(const wr_plot *plot, double width, wr__axis *axis) {
    range all = {0};
    for (size_t k = 0; k < plot->n; k++)
        for (size_t i = 0; i < plot->panel[k].n; i++) {
            range r = range_of(&plot->panel[k].curve[i], plot->panel[k].curve[i].x);
            if (!r.any) continue;
            widen(&all, r.min);
            widen(&all, r.max);
        }
    if (!all.any) return false;
    if (all.min > 0) all.min = 0;
    wr__axis_fit(axis, all.min, all.max, false, (int)(width / 75));
    /* no empty part at the right: the axis ends with the data, its ticks where they are */
    double end = all.max + 0.01 * (all.max - all.min);
    if (end < axis->hi && all.max > all.min) axis->hi = end;
    while (axis->n > 0 && axis->tick[axis->n - 1] > axis->hi)
        axis->n--;
    return true;
}

static double label_room(const wr__axis *a) {
    double most = 0;
    for (size_t i = 0; i < a->n; i++) {
        double width = wr_plot_text_width(a->label[i]) * TEXT_SIZE;
        if (width > most) most = width;
    }
    return most + 10;
}

static void add_line(wr_str *out, double x1, double y1, double x2, double y2, const char *colour) {
    wr_str_add(out, "<path d=\"M%.1f %.1fL%.1f %.1f\" stroke=\"%s\" stroke-width=\"1\"/>", x1, y1,
               x2, y2, colour);
}

static void add_axes(wr_str *out, const frame *f, const char *x_label) {
    double bottom = f->y + f->height, right = f->x + f->width;
    for (size_t i = 0; i < f->up.minor_n; i++) {
        double y = place_y(f, f->up.minor[i]);
        add_line(out, f->x, y, right, y, "#f2f2f2");
    }
    for (size_t i = 0; i < f->up.n; i++) {
        double y = place_y(f, f->up.tick[i]);
        add_line(out, f->x, y, right, y, "#dddddd");
        wr__svg_text(out, f->x - 6, y + 4, TEXT_SIZE, "end", f->up.label[i], 1e9);
    }
    for (size_t i = 0; i < f->across.n; i++) {
        double x = place_x(f, f->across.tick[i]);
        add_line(out, x, f->y, x, bottom, "#eeeeee");
        add_line(out, x, bottom, x, bottom + 4, "#555555");
        wr__svg_text(out, x, bottom + 16, TEXT_SIZE, "middle", f->across.label[i], 1e9);
    }
    wr__svg_text(out, (f->x + right) / 2, bottom + 32, TEXT_SIZE, "middle", x_label, f->width);
    wr_str_add(out, "\n<path d=\"M%.1f %.1fV%.1fH%.1f\" stroke=\"#555555\" fill=\"none\"/>\n", f->x,
               f->y, bottom, right);
}

/* ---- the page ---- */

/* Where the panels are: two in a row, or one alone. */
typedef struct page {
    const wr_plot *plot;
    size_t *shown; /* [n] panels that have a point */
    size_t n;
    double panel_width, width, top; /* top: of the first row */
} page;

static double title_room(const wr_plot *plot) {
    return plot->title != NULL && plot->title[0] != '\0' ? TITLE_SIZE + 10 : 0;
}

static wr_status lay_out(const wr_plot *plot, page *p, wr_error *err) {
    *p = (page){.plot = plot, .shown = malloc(sizeof *p->shown * (plot->n + 1))};
    if (p->shown == NULL) return wr_fail_memory(err, "panels", plot->n * sizeof *p->shown);
    for (size_t i = 0; i < plot->n; i++) {
        wr__axis ignored;
        if (fit_up(&plot->panel[i], &ignored)) p->shown[p->n++] = i;
    }
    if (p->n == 0) return wr_fail(err, WR_ERR_INPUT, "there is no point to draw");
    p->panel_width = p->n == 1 ? LONE_WIDTH : PANEL_WIDTH;
    p->width = 2 * MARGIN + p->panel_width + (p->n > 1 ? GAP + p->panel_width : 0);
    int lines = key_legend(NULL, plot, flow_begin(MARGIN, p->width - MARGIN, 0));
    p->top = MARGIN + title_room(plot) + LINE * lines + (lines > 0 ? 8 : 0);
    return WR_OK;
}

static const wr_panel *panel_at(const page *p, size_t i) { return &p->plot->panel[p->shown[i]]; }

/* Lines of legend above the panels of a row. */
static int row_lines(const page *p, size_t first) {
    int most = 0;
    for (size_t i = first; i < first + 2 && i < p->n; i++) {
        int lines = panel_legend(NULL, p->plot, panel_at(p, i), flow_begin(0, p->panel_width, 0));
        if (lines > most) most = lines;
    }
    return most;
}

static double row_height(int lines) {
    return PANEL_TITLE_SIZE + 8 + LINE * lines + 8 + PLOT_HEIGHT + TICK_ROOM;
}

static void add_panel(wr_str *out, const page *p, size_t i, double top, int lines) {
    const wr_panel *panel = panel_at(p, i);
    double left = MARGIN + (double)(i % 2) * (p->panel_width + GAP);
    double head = top + PANEL_TITLE_SIZE + 8;
    frame f = {.y = head + LINE * lines + 8, .height = PLOT_HEIGHT};
    fit_up(panel, &f.up);
    double room = label_room(&f.up);
    f.x = left + room;
    f.width = p->panel_width - room - 18; /* half of a label may stand over at the right */
    fit_across(p->plot, f.width, &f.across);
    wr__svg_text(out, left, top + PANEL_TITLE_SIZE, PANEL_TITLE_SIZE, "start", panel->title,
                 p->panel_width);
    panel_legend(out, p->plot, panel, flow_begin(left, left + p->panel_width, head));
    add_axes(out, &f, p->plot->x_label);
    for (size_t k = 0; k < panel->n; k++)
        add_curve(out, &f, &panel->curve[k], k);
}

static void add_page(wr_str *out, const page *p) {
    double height = p->top;
    for (size_t i = 0; i < p->n; i += 2)
        height += row_height(row_lines(p, i)) + (i > 0 ? GAP : 0);
    wr__svg_begin(out, p->width, height);
    if (title_room(p->plot) > 0)
        wr__svg_text(out, MARGIN, MARGIN + TITLE_SIZE, TITLE_SIZE, "start", p->plot->title,
                     p->width - 2 * MARGIN);
    key_legend(out, p->plot, flow_begin(MARGIN, p->width - MARGIN, MARGIN + title_room(p->plot)));
    double top = p->top;
    for (size_t i = 0; i < p->n; i += 2) {
        int lines = row_lines(p, i);
        for (size_t k = i; k < i + 2 && k < p->n; k++)
            add_panel(out, p, k, top, lines);
        top += row_height(lines) + GAP;
    }
    wr_str_add(out, "</svg>\n");
}

wr_status wr_plot_svg(const wr_plot *plot, wr_str *out, wr_error *err) {
    page p;
    wr_status status = lay_out(plot, &p, err);
    if (status == WR_OK) add_page(out, &p);
    free(p.shown);
    return status == WR_OK && out->oom ? wr_fail_memory(err, "the picture", out->len) : status;
}
