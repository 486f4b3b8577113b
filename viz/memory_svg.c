/* memory_svg.c: memory over the schedule of a plan, as SVG; see memory.h. */
#include "viz/memory_internal.h"
#include "viz/picture.h"
#include "viz/plot.h"
#include "viz/plot_axis.h"
#include "viz/svg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MARGIN = 16,
    WIDTH = 960,
    LEFT = 64,  /* of a panel: room for ticks */
    RIGHT = 16, /* and behind it */
    HEIGHT = 260,
    MAP_HEIGHT = 200,
    LINE = 17,
    TITLE = 16,
    HEAD = 13,
    LEGEND_COLUMNS = 2,
    SERIES = WR__SVG_FILLS,
    RECTANGLES = 6000 /* in the map: the largest buffers */
};
#define REST "#bdbdbd"

typedef struct page {
    const wr__memory *m;
    wr_str *out;
    size_t series; /* holders with a colour of their own; the others are the rest */
    double unit;   /* bytes of one unit of the axes */
    const char *unit_word;
    double x, width; /* of the panels */
} page;

static const char *fill_of(const page *p, size_t holder) {
    return holder < p->series ? wr__svg_fill(holder) : REST;
}

static double place(const page *p, double step) { return p->x + p->width * step / p->m->steps; }

static void choose_unit(page *p) {
    static const char *const WORDS[] = {"bytes", "kB", "MB", "GB", "TB"};
    double most = (double)p->m->p->arena_bytes;
    int unit = 0;
    p->unit = 1;
    for (; most / p->unit >= 2000 && unit < 4; unit++)
        p->unit *= 1000;
    p->unit_word = WORDS[unit];
}

/* ---- the legend: who holds what at the peak ---- */

static double peak_of_rest(const page *p) {
    double sum = 0;
    for (size_t i = p->series; i < p->m->n_holders; i++)
        sum += p->m->holder[i].peak;
    return sum;
}

static bool has_rest(const page *p) {
    for (size_t i = p->series; i < p->m->n_holders; i++)
        if (p->m->holder[i].most > 0) return true;
    return false;
}

/* Write what was gathered, and empty it. */
static void add_cell(const page *p, double x, double y, const char *anchor, wr_str *text,
                     double most) {
    wr__svg_text(p->out, x, y, WR__SVG_TEXT, anchor, wr_str_text(text), most);
    p->out->oom = p->out->oom || text->oom;
    wr_str_clear(text);
}

static void add_legend_entry(const page *p, size_t at, double top, const char *name,
                             const char *fill, double peak) {
    double column = (WIDTH - 2.0 * MARGIN) / LEGEND_COLUMNS;
    double x = MARGIN + column * (double)(at % LEGEND_COLUMNS);
    size_t line = at / LEGEND_COLUMNS;
    double y = top + LINE * (double)line + 11;
    wr_str text = {0};
    wr__svg_rect(p->out, x, y - 9, 12, 11, fill);
    wr__memory_print_bytes(&text, peak);
    add_cell(p, x + 80, y, "end", &text, 64);
    wr_str_add(&text, "%.1f%%", p->m->peak > 0 ? 100 * peak / p->m->peak : 0);
    add_cell(p, x + 124, y, "end", &text, 44);
    wr__svg_text(p->out, x + 132, y, WR__SVG_TEXT, "start", name, column - 140);
    wr_str_free(&text);
}

static size_t legend_entries(const page *p) { return p->series + has_rest(p); }

static double legend_height(const page *p) {
    size_t lines = (legend_entries(p) + LEGEND_COLUMNS - 1) / LEGEND_COLUMNS;
    return HEAD + 8 + LINE * (double)lines + 10;
}

static void add_legend(const page *p, double top) {
    wr__svg_text(p->out, MARGIN, top + HEAD, HEAD, "start", "Who holds what at the peak", WIDTH);
    top += HEAD + 8;
    for (size_t i = 0; i < p->series; i++)
        add_legend_entry(p, i, top, p->m->holder[i].name, fill_of(p, i), p->m->holder[i].peak);
    if (has_rest(p)) add_legend_entry(p, p->series, top, "the rest", REST, peak_of_rest(p));
}

/* ---- axes ---- */

static void add_line(wr_str *out, double x1, double y1, double x2, double y2, const char *colour) {
    wr_str_add(out, "<path d=\"M%.1f %.1fL%.1f %.1f\" stroke=\"%s\" fill=\"none\"/>", x1, y1, x2,
               y2, colour);
}

static void add_up_axis(const page *p, const wr__axis *up, double top, double height) {
    for (size_t i = 0; i < up->n; i++) {
        double y = top + height * (1 - wr__axis_place(up, up->tick[i]));
        add_line(p->out, p->x, y, p->x + p->width, y, "#e4e4e4");
        wr__svg_text(p->out, p->x - 6, y + 4, WR__SVG_TEXT, "end", up->label[i], LEFT);
    }
}

static void add_step_axis(const page *p, double bottom) {
    wr__axis across;
    wr__axis_fit(&across, 0, p->m->steps, false, 10);
    for (size_t i = 0; i < across.n; i++) {
        if (across.tick[i] > p->m->steps) continue;
        double x = place(p, across.tick[i]);
        add_line(p->out, x, bottom, x, bottom + 4, "#555555");
        wr__svg_text(p->out, x, bottom + 16, WR__SVG_TEXT, "middle", across.label[i], 80);
    }
    add_line(p->out, p->x, bottom, p->x + p->width, bottom, "#555555");
}

/* ---- parts of the step ---- */

typedef enum part { FORWARD, BACKWARD, UPDATE } part;

static part part_of(const wr_plan *p, int step) {
    const wr_node *x = wr_node_at(p->g, p->step[step].node);
    if (x->op->traits & WR_STATEFUL) return UPDATE;
    return x->role == WR_GRADIENT || x->role == WR_RECOMPUTED ? BACKWARD : FORWARD;
}

/* Where the backward part and the updates begin; the number of steps when there is none. */
static void find_parts(const wr_plan *p, int *backward, int *update) {
    *backward = *update = p->n_steps;
    for (int i = p->n_steps - 1; i >= 0; i--)
        if (part_of(p, i) == BACKWARD) *backward = i;
    for (int i = p->n_steps - 1; i >= 0 && part_of(p, i) != BACKWARD; i--)
        if (part_of(p, i) == UPDATE) *update = i;
}

static void add_part(const page *p, const char *word, const char *fill, int from, int to,
                     double top) {
    double x = place(p, from), width = place(p, to) - x;
    if (to <= from) return;
    wr__svg_rect(p->out, x, top, width > 1 ? width : 1, 16, fill);
    bool fits = wr_plot_text_width(word) * WR__SVG_TEXT < width;
    if (fits) wr__svg_text(p->out, x + width / 2, top + 12, WR__SVG_TEXT, "middle", word, width);
}

static void add_parts(const page *p, double top) {
    int backward, update, steps = p->m->p->n_steps;
    find_parts(p->m->p, &backward, &update);
    add_part(p, "forward", "#e3ecf5", 0, backward < update ? backward : update, top);
    add_part(p, "backward", "#f8dfe8", backward, update, top);
    add_part(p, "update", "#e6efd8", update, steps, top);
}

/* ---- stacked areas ---- */

enum { COLUMNS = 440 };

/* Steps in columns; each shows the step of it that uses most. */
static void choose_columns(const wr__memory *m, int *step, int *columns) {
    *columns = m->steps < COLUMNS ? m->steps : COLUMNS;
    for (int c = 0; c < *columns; c++) {
        int from = (int)((int64_t)c * m->steps / *columns);
        int to = (int)((int64_t)(c + 1) * m->steps / *columns);
        double most = -1;
        for (int i = from; i < to; i++) {
            double now = 0;
            for (size_t k = 0; k < m->n_holders; k++)
                now += m->holder[k].at != NULL ? m->holder[k].at[i] : 0;
            if (now > most) step[c] = i;
            if (now > most) most = now;
        }
    }
}

/* Bytes of a series at a step; the last series is the rest. */
static double series_at(const page *p, size_t series, int step) {
    double sum = 0;
    size_t to = series < p->series ? series + 1 : p->m->n_holders;
    for (size_t k = series; k < to; k++)
        sum += p->m->holder[k].at != NULL ? p->m->holder[k].at[step] : 0;
    return sum;
}

typedef struct area {
    const wr__axis *up;
    double top, height;
    const int *step;
    int columns;
} area;

static double height_at(const page *p, const area *a, double bytes) {
    return a->top + a->height * (1 - wr__axis_place(a->up, bytes / p->unit));
}

/* One series as stairs on `base`, which grows by it. */
static void add_area(const page *p, const area *a, size_t series, double *base) {
    wr_str_add(p->out, "<g><title>");
    wr__escape_html(p->out, series < p->series ? p->m->holder[series].name : "the rest");
    wr_str_add(p->out, "</title><path fill=\"%s\" d=\"", fill_of(p, series));
    for (int c = 0; c < a->columns; c++) {
        double y = height_at(p, a, base[c] + series_at(p, series, a->step[c]));
        wr_str_add(p->out, "%c%.1f %.1fH%.1f", c == 0 ? 'M' : 'L', p->x + p->width * c / a->columns,
                   y, p->x + p->width * (c + 1) / a->columns);
    }
    for (int c = a->columns - 1; c >= 0; c--) {
        wr_str_add(p->out, "V%.1fH%.1f", height_at(p, a, base[c]),
                   p->x + p->width * c / a->columns);
        base[c] += series_at(p, series, a->step[c]);
    }
    wr_str_add(p->out, "z\"/></g>\n");
}

/* A line at the peak with what it is, left of it where that is on the right side. */
static void add_peak(const page *p, double top, double bottom) {
    double x = place(p, p->m->peak_step + 0.5);
    wr_str text = {0};
    wr_str_add(&text, "peak ");
    wr__memory_print_bytes(&text, p->m->peak);
    wr_str_add(&text, ", step %d", p->m->peak_step + 1);
    wr_str_add(p->out,
               "<path d=\"M%.1f %.1fV%.1f\" stroke=\"#b71c1c\" stroke-width=\"1.5\" "
               "stroke-dasharray=\"4 3\"/>",
               x, top, bottom);
    bool left = x > p->x + p->width / 2;
    wr__svg_text(p->out, left ? x - 6 : x + 6, top + 10, WR__SVG_TEXT, left ? "end" : "start",
                 wr_str_text(&text), p->width / 2);
    p->out->oom = p->out->oom || text.oom;
    wr_str_free(&text);
}

static void add_areas(const page *p, double top) {
    int step[COLUMNS] = {0}, columns = 0;
    double base[COLUMNS] = {0};
    wr__axis up;
    choose_columns(p->m, step, &columns);
    wr__axis_fit(&up, 0, p->m->peak > 0 ? 1.08 * p->m->peak / p->unit : 1, false, 5);
    area a = {.up = &up, .top = top, .height = HEIGHT, .step = step, .columns = columns};
    add_up_axis(p, &up, top, HEIGHT);
    for (size_t i = 0; i < legend_entries(p); i++)
        add_area(p, &a, i, base);
    add_peak(p, top, top + HEIGHT);
    add_step_axis(p, top + HEIGHT);
}

/* ---- the map of the arena ---- */

static void add_tooltip(const page *p, const wr__buffer *b) {
    wr_str text = {0};
    wr__memory_print_name(p->m->p, b, &text);
    wr_str_add(&text, "\n");
    wr__memory_print_bytes(&text, (double)b->bytes);
    wr_str_add(&text, ", steps %d to %d\n", b->first + 1, b->last + 1);
    wr__memory_print_line(p->m->p, b, &text);
    wr__escape_html(p->out, wr_str_text(&text));
    p->out->oom = p->out->oom || text.oom;
    wr_str_free(&text);
}

static void add_map(const page *p, double top) {
    wr__axis up;
    double arena = (double)p->m->p->arena_bytes;
    wr__axis_fit(&up, 0, arena > 0 ? arena / p->unit : 1, false, 4);
    add_up_axis(p, &up, top, MAP_HEIGHT);
    double scale = MAP_HEIGHT / (up.hi - up.lo) / p->unit;
    for (size_t i = 0; i < p->m->n_buffers && i < RECTANGLES; i++) {
        const wr__buffer *b = &p->m->buffer[i];
        double height = (double)b->bytes * scale,
               width = place(p, b->last + 1) - place(p, b->first);
        if (height < 0.05 || width < 0.05) continue;
        wr_str_add(p->out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.2f\" height=\"%.2f\" fill=\"%s\"",
                   place(p, b->first), top + MAP_HEIGHT - (double)b->offset * scale - height, width,
                   height, fill_of(p, b->holder));
        if (height > 3 && width > 3) wr_str_add(p->out, " stroke=\"#fff\" stroke-width=\"0.4\"");
        if (height < 0.5) {
            wr_str_add(p->out, "/>\n");
            continue;
        }
        wr_str_add(p->out, "><title>");
        add_tooltip(p, b);
        wr_str_add(p->out, "</title></rect>\n");
    }
    add_step_axis(p, top + MAP_HEIGHT);
}

/* ---- the largest buffers ---- */

static void add_buffers(const page *p, int top_n, double top) {
    wr_str text = {0};
    wr__svg_text(p->out, MARGIN, top + HEAD, HEAD, "start", "The largest buffers", WIDTH);
    for (size_t i = 0; i < p->m->n_buffers && (int)i < top_n; i++) {
        const wr__buffer *b = &p->m->buffer[i];
        double y = top + HEAD + 8 + LINE * (double)i + 11;
        wr__svg_rect(p->out, MARGIN, y - 9, 12, 11, fill_of(p, b->holder));
        wr__memory_print_bytes(&text, (double)b->bytes);
        add_cell(p, MARGIN + 80, y, "end", &text, 64);
        wr_str_add(&text, "steps %d\xE2\x80\x93%d", b->first + 1, b->last + 1);
        add_cell(p, MARGIN + 214, y, "end", &text, 134);
        wr__memory_print_name(p->m->p, b, &text);
        add_cell(p, MARGIN + 226, y, "start", &text, 330);
        wr__memory_print_type(p->m->p, b, &text);
        add_cell(p, MARGIN + 560, y, "start", &text, 170);
        wr__memory_print_line(p->m->p, b, &text);
        add_cell(p, WIDTH - MARGIN, y, "end", &text, 190);
    }
    wr_str_free(&text);
}

/* ---- the page ---- */

static void add_head(const page *p, const char *title, double *y) {
    wr_str text = {0};
    if (title != NULL) {
        wr__svg_text(p->out, MARGIN, *y + TITLE, TITLE, "start", title, WIDTH - 2 * MARGIN);
        *y += TITLE + 8;
    }
    wr__memory_print_sum(p->m, &text);
    wr__svg_text(p->out, MARGIN, *y + WR__SVG_TEXT, WR__SVG_TEXT, "start", wr_str_text(&text),
                 WIDTH - 2 * MARGIN);
    *y += LINE + 6;
    p->out->oom = p->out->oom || text.oom;
    wr_str_free(&text);
}

static void add_panel_title(const page *p, const char *text, double y) {
    wr_str title = {0};
    wr_str_add(&title, "%s (%s)", text, p->unit_word);
    wr__svg_text(p->out, MARGIN, y + HEAD, HEAD, "start", wr_str_text(&title), WIDTH);
    p->out->oom = p->out->oom || title.oom;
    wr_str_free(&title);
}

enum { PANEL_HEAD = HEAD + 10, TICK_ROOM = 24, PARTS = 24 };

static void add_page(page *p, const wr_memory_options *o) {
    size_t listed = p->m->n_buffers < (size_t)o->top ? p->m->n_buffers : (size_t)o->top;
    double head = MARGIN + (o->title != NULL ? TITLE + 8 : 0) + LINE + 6;
    double height = head + legend_height(p) + 2 * (PANEL_HEAD + TICK_ROOM) + HEIGHT + PARTS +
                    MAP_HEIGHT + 12 + HEAD + 8 + LINE * (double)listed + 2 * MARGIN;
    double y = MARGIN;
    wr__svg_begin(p->out, WIDTH, height);
    add_head(p, o->title, &y);
    add_legend(p, y);
    y += legend_height(p);
    add_panel_title(p, "In use over the steps of the schedule", y);
    y += PANEL_HEAD;
    add_areas(p, y);
    y += HEIGHT + TICK_ROOM;
    add_parts(p, y);
    y += PARTS;
    add_panel_title(p, "Where the buffers lie in the arena", y);
    y += PANEL_HEAD;
    add_map(p, y);
    y += MAP_HEIGHT + TICK_ROOM + 12;
    add_buffers(p, o->top, y);
    wr_str_add(p->out, "</svg>\n");
}

wr_status wr_memory_svg(const wr_plan *plan, const wr_memory_options *o, wr_str *out,
                        wr_error *err) {
    wr__memory m;
    wr_status status = wr__memory_begin(&m, plan, o->depth, SERIES - 1, err);
    if (status == WR_OK) {
        page p = {
            .m = &m, .out = out, .x = MARGIN + LEFT, .width = WIDTH - 2.0 * MARGIN - LEFT - RIGHT};
        for (size_t i = 0; i < m.n_holders && i < SERIES - 1 && m.holder[i].most > 0; i++)
            p.series++;
        choose_unit(&p);
        add_page(&p, o);
        if (out->oom) status = wr_fail_memory(err, "a picture", out->len);
    }
    wr__memory_end(&m);
    return status;
}
