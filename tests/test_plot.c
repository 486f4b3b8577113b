/* test_plot.c: ticks, pictures of curves, and the reading of logs. */
#include "cli/curves.h"
#include "helpers/alloc.h"
#include "viz/plot.h"
#include "viz/plot_axis.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- ticks ---- */

static double draw(uint64_t *state) { /* 0..1 */
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) / 9007199254740992.0;
}

/* What a label says. */
static double read_label(const char *label) {
    char *end;
    double v = strtod(label, &end);
    assert_true(end != label);
    if (*end == 'k') return v * 1e3;
    if (*end == 'M') return v * 1e6;
    assert_int_equal(*end, '\0');
    return v;
}

static void check_labels(const wr__axis *a) {
    for (size_t i = 0; i < a->n; i++) {
        assert_true(fabs(read_label(a->label[i]) - a->tick[i]) <= 1e-5 * fabs(a->tick[i]));
        assert_true(a->tick[i] >= a->lo - 1e-9 * fabs(a->lo));
        assert_true(wr_plot_text_width(a->label[i]) < 8);
        if (i == 0) continue;
        assert_true(a->tick[i] > a->tick[i - 1]);
        assert_string_not_equal(a->label[i], a->label[i - 1]);
    }
}

static void test_linear_axis(void **unused) {
    (void)unused;
    uint64_t state = 1;
    for (int turn = 0; turn < 20000; turn++) {
        double size = pow(10, 24 * draw(&state) - 12), middle = size * (draw(&state) - 0.5);
        double half = size * pow(10, -4 * draw(&state)) * draw(&state);
        int ticks = 2 + (int)(8 * draw(&state));
        wr__axis a;
        wr__axis_fit(&a, middle - half, middle + half, false, ticks);
        assert_true(a.lo <= middle - half + 1e-5 * size && a.hi >= middle + half - 1e-5 * size);
        assert_in_range(a.n, 2, ticks + 3);
        double step = a.tick[1] - a.tick[0], power = pow(10, floor(log10(step) + 1e-6));
        double factor = step / power;
        assert_true(fabs(factor - 1) < 1e-3 || fabs(factor - 2) < 1e-3 || fabs(factor - 5) < 1e-3);
        assert_true(fabs(wr__axis_place(&a, a.tick[0])) < 1e-9);
        assert_true(fabs(wr__axis_place(&a, a.tick[a.n - 1]) - 1) < 1e-9);
        check_labels(&a);
    }
}

static void test_constant_axis(void **unused) {
    (void)unused;
    const double values[] = {0, 1, -3.5, 1e-9, 1e9, 41.25};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        wr__axis a;
        wr__axis_fit(&a, values[i], values[i], false, 5);
        double at = wr__axis_place(&a, values[i]);
        assert_true(at >= 0 && at <= 1 && a.n >= 2);
        check_labels(&a);
    }
}

static void test_log_axis(void **unused) {
    (void)unused;
    uint64_t state = 2;
    for (int turn = 0; turn < 5000; turn++) {
        double low = pow(10, 20 * draw(&state) - 10), high = low * pow(10, 2.5 + 9 * draw(&state));
        wr__axis a;
        wr__axis_fit(&a, low, high, true, 5);
        assert_true(a.lo <= low && a.hi >= high);
        assert_in_range(a.n, 2, 7);
        for (size_t i = 0; i < a.n; i++)
            assert_true(fabs(log10(a.tick[i]) - round(log10(a.tick[i]))) < 1e-9);
        assert_true(fabs(wr__axis_place(&a, sqrt(a.lo * a.hi)) - 0.5) < 1e-9);
        check_labels(&a);
    }
    wr__axis a;
    wr__axis_fit(&a, 1e-7, 1e-3, true, 5);
    assert_string_equal(a.label[0], "1e-7");
    assert_string_equal(a.label[4], "0.001");
}

/* ---- looking at pictures ---- */

/* Every tag is closed in order, and no bare & or < is left. */
static void check_xml(const char *svg) {
    char open[64][16];
    size_t depth = 0;
    for (const char *at = svg; *at != '\0'; at++) {
        if (*at == '&') {
            size_t n = strcspn(at, "; <");
            if (at[n] != ';') fail_msg("bare &: %.30s", at);
        }
        if (*at != '<') continue;
        const char *end = strchr(at, '>');
        assert_non_null(end);
        size_t n = strcspn(at + 1, " />\n");
        if (at[1] == '/') {
            size_t m = strcspn(at + 2, ">");
            assert_true(depth > 0 && m < 16);
            depth--;
            if (strlen(open[depth]) != m || strncmp(open[depth], at + 2, m) != 0)
                fail_msg("%s is closed by %.20s", open[depth], at);
        } else if (end[-1] != '/') {
            assert_true(depth < 64 && n < 16);
            snprintf(open[depth++], 16, "%.*s", (int)n, at + 1);
        }
        at = end;
    }
    assert_int_equal(depth, 0);
}

typedef struct box {
    double left, right, top, bottom;
    char text[200];
} box;

/* "&amp;" is one character. */
static void unescape(char *text) {
    char *to = text;
    for (const char *at = text; *at != '\0'; at++) {
        *to++ = *at;
        if (*at == '&') at += strcspn(at, ";");
    }
    *to = '\0';
}

static size_t read_boxes(const char *svg, box *boxes, size_t most) {
    size_t n = 0;
    for (const char *at = svg; (at = strstr(at, "<text ")) != NULL; at++, n++) {
        double x, y;
        int size;
        char anchor[16];
        assert_true(n < most);
        assert_int_equal(sscanf(at,
                                "<text x=\"%lf\" y=\"%lf\" font-size=\"%d\" text-anchor=\"%15[^\"]",
                                &x, &y, &size, anchor),
                         4);
        const char *from = strchr(at, '>') + 1;
        box *b = &boxes[n];
        snprintf(b->text, sizeof b->text, "%.*s", (int)strcspn(from, "<"), from);
        unescape(b->text);
        double width = wr_plot_text_width(b->text) * size;
        double share = strcmp(anchor, "start") == 0 ? 0 : strcmp(anchor, "end") == 0 ? 1 : 0.5;
        b->left = x - share * width;
        b->right = b->left + width;
        b->top = y - 0.75 * size;
        b->bottom = y + 0.2 * size;
    }
    return n;
}

/* No text lies on another or outside of the picture. */
static void check_texts(const char *svg) {
    static box boxes[500];
    double width, height;
    size_t n = read_boxes(svg, boxes, 500);
    const char *view = strstr(svg, "viewBox=\"0 0 ");
    assert_non_null(view);
    assert_int_equal(sscanf(view, "viewBox=\"0 0 %lf %lf", &width, &height), 2);
    for (size_t i = 0; i < n; i++) {
        const box *a = &boxes[i];
        if (a->left < 0 || a->right > width || a->top < 0 || a->bottom > height)
            fail_msg("'%s' is outside", a->text);
        for (size_t k = 0; k < i; k++) {
            const box *b = &boxes[k];
            if (a->left < b->right && b->left < a->right && a->top < b->bottom &&
                b->top < a->bottom)
                fail_msg("'%s' lies on '%s'", a->text, b->text);
        }
    }
    assert_true(n > 4);
}

static size_t count(const char *text, const char *what) {
    size_t n = 0;
    for (; (text = strstr(text, what)) != NULL; text++)
        n++;
    return n;
}

static void plot_text(const wr_plot *plot, wr_str *out) {
    wr_error err = {0};
    if (wr_plot_svg(plot, out, &err) != WR_OK) fail_msg("%s", err.text);
    check_xml(wr_str_text(out));
    check_texts(wr_str_text(out));
}

/* One curve in one panel. */
static void plot_one(const double *x, const double *y, size_t n, wr_str *out) {
    const wr_curve curve = {.label = "nll", .x = x, .y = y, .n = n};
    const wr_panel panel = {.title = "nll", .curve = &curve, .n = 1};
    plot_text(&(wr_plot){.x_label = "updates", .panel = &panel, .n = 1}, out);
}

/* ---- pictures ---- */

static void test_scales(void **unused) {
    (void)unused;
    const double x[] = {100, 200, 300, 400};
    const struct {
        double y[4];
        bool log;
    } cases[] = {{{1, 10, 100, 1000}, true},      {{1, 10, 100, 300}, false},
                 {{0, 10, 100, 1000}, false},     {{-1, 10, 100, 1000}, false},
                 {{1e-7, 1e-3, NAN, 5e-4}, true}, {{5, 5, 5, 5}, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        wr_str out = {0};
        plot_one(x, cases[i].y, 4, &out);
        /* only a logarithmic axis has the faint lines of minor ticks */
        if ((strstr(wr_str_text(&out), "#f2f2f2") != NULL) != cases[i].log)
            fail_msg("case %zu: %s", i, wr_str_text(&out));
        wr_str_free(&out);
    }
}

/* The points of the curve's path. */
static const char *path_of(const char *svg) {
    const char *path = strstr(svg, "stroke-linejoin=\"round\" d=\"");
    assert_non_null(path);
    return path + strlen("stroke-linejoin=\"round\" d=\"");
}

static void test_gaps(void **unused) {
    (void)unused;
    const double x[] = {1, 2, 3, 4, 5, 6, 7}, y[] = {1, 2, NAN, 3, INFINITY, 1e200, 4};
    wr_str out = {0};
    plot_one(x, y, 7, &out);
    const char *path = path_of(wr_str_text(&out));
    size_t starts = 0, lines = 0;
    for (; *path != '"'; path++) {
        starts += *path == 'M';
        lines += *path == 'L';
    }
    assert_int_equal(starts, 3);
    assert_int_equal(lines, 1);
    assert_int_equal(count(wr_str_text(&out), "<circle"), 4);
    wr_str_free(&out);
}

/* Long curves are thinned, but their peaks stay. */
static void test_long(void **unused) {
    (void)unused;
    enum { N = 200000 };
    double *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    assert_true(x != NULL && y != NULL);
    for (int i = 0; i < N; i++) {
        x[i] = i + 1;
        y[i] = 2 + sin(i * 0.37);
    }
    y[123457] = 10;
    wr_str out = {0};
    plot_one(x, y, N, &out);
    assert_true(out.len < 60000);
    /* the peak is the highest value, the top of the axis (10) the top of the panel */
    double top = 1e9, tick = 0;
    for (const char *at = path_of(wr_str_text(&out)); *at != '"';
         at += strcspn(at + 1, "ML\"") + 1) {
        double px, py;
        assert_int_equal(sscanf(at + 1, "%lf %lf", &px, &py), 2);
        if (py < top) top = py;
    }
    const char *label = strstr(wr_str_text(&out), ">10</text>");
    assert_non_null(label);
    while (*label != 'y')
        label--;
    while (strncmp(label, "y=\"", 3) != 0)
        label--;
    tick = strtod(label + 3, NULL) - 4;
    assert_true(fabs(top - tick) < 0.2);
    wr_str_free(&out);
    free(x);
    free(y);
}

/* Many runs and terms with long and odd names. */
static void test_crowded(void **unused) {
    (void)unused;
    enum { RUNS = 11, TERMS = 9, POINTS = 50, PANELS = 5 };
    static double x[POINTS], y[RUNS * TERMS][POINTS];
    static wr_curve curves[PANELS][RUNS * TERMS];
    static char names[RUNS][300], terms[TERMS][120];
    const char *key[RUNS];
    wr_panel panels[PANELS];
    uint64_t state = 3;
    for (int i = 0; i < POINTS; i++)
        x[i] = 1000.0 * (i + 1);
    for (size_t r = 0; r < RUNS; r++) {
        memset(names[r], "aWm<&\"'z.-_"[r], r * r * 2 + 1);
        if (r == 3)
            snprintf(names[r], sizeof names[0], "%s",
                     "größe \xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E run");
        key[r] = names[r];
    }
    for (int t = 0; t < TERMS; t++)
        snprintf(
            terms[t], sizeof terms[0], "%.*s term %d", t * 12,
            "reconstruction of a quite long name that goes on and on, and even further than that "
            "until it ends",
            t);
    for (int p = 0; p < PANELS; p++) {
        for (int i = 0; i < RUNS * TERMS; i++) {
            for (int k = 0; k < POINTS; k++)
                y[i][k] = pow(10, p) * draw(&state);
            curves[p][i] = (wr_curve){terms[i % TERMS], x, y[i], POINTS, i / TERMS, i % TERMS};
        }
        panels[p] = (wr_panel){terms[p], curves[p], RUNS * TERMS};
    }
    for (size_t n = 1; n <= PANELS; n++)
        for (int keyed = 0; keyed < 2; keyed++) {
            wr_str out = {0}, again = {0};
            wr_plot plot = {.title = names[10],
                            .x_label = "updates",
                            .panel = panels,
                            .n = n,
                            .key = key,
                            .key_n = keyed ? RUNS : 0};
            plot_text(&plot, &out);
            plot_text(&plot, &again);
            assert_string_equal(wr_str_text(&out), wr_str_text(&again));
            wr_str_free(&out);
            wr_str_free(&again);
        }
}

static void test_no_point(void **unused) {
    (void)unused;
    const double x[] = {1, 2}, y[] = {NAN, INFINITY};
    const wr_curve curve = {.label = "nll", .x = x, .y = y, .n = 2};
    const wr_panel panel = {.title = "nll", .curve = &curve, .n = 1};
    wr_str out = {0};
    wr_error err = {0};
    assert_int_equal(wr_plot_svg(&(wr_plot){.panel = &panel, .n = 1}, &out, &err), WR_ERR_INPUT);
    assert_int_equal(wr_plot_svg(&(wr_plot){.panel = NULL, .n = 0}, &out, NULL), WR_ERR_INPUT);
    assert_int_equal(out.len, 0);
    wr_str_free(&out);
}

/* ---- logs ---- */

static char folder[64];

/* A log in a run directory of its own, removed by clean(). */
static const char *write_log(int number, const char *text) {
    static char path[4][128];
    char file[160];
    wr_error err = {0};
    snprintf(path[number], sizeof path[0], "%s/run%d", folder, number);
    assert_int_equal(wr_make_dirs(path[number], &err), WR_OK);
    snprintf(file, sizeof file, "%s/log.jsonl", path[number]);
    assert_int_equal(wr_file_replace(file, text, strlen(text), &err), WR_OK);
    return path[number];
}

static int make_folder(void **unused) {
    (void)unused;
    snprintf(folder, sizeof folder, "%s", "/tmp/weir_test_plot_XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **unused) {
    (void)unused;
    for (int i = 0; i < 4; i++) {
        char path[160];
        snprintf(path, sizeof path, "%s/run%d/log.jsonl", folder, i);
        unlink(path);
        snprintf(path, sizeof path, "%s/run%d", folder, i);
        rmdir(path);
    }
    return rmdir(folder);
}

static wr_curves *read_logs(const char *const *paths, size_t n, wr_str *notes) {
    wr_curves *c = NULL;
    wr_error err = {0};
    if (wr_curves_read(paths, n, &c, notes, &err) != WR_OK) fail_msg("%s", err.text);
    return c;
}

static const wr_plot *choose(wr_curves *c, const char *what) {
    wr_error err = {0};
    if (wr_curves_choose(c, what, NULL, &err) != WR_OK) fail_msg("%s", err.text);
    return wr_curves_plot(c);
}

static void check_curve(const wr_curve *c, size_t n, const double *x, const double *y) {
    assert_int_equal(c->n, n);
    for (size_t i = 0; i < n; i++) {
        assert_true(c->x[i] == x[i]);
        assert_true(c->y[i] == y[i] || (isnan(c->y[i]) && isnan(y[i])));
    }
}

static void test_log(void **unused) {
    (void)unused;
    const char *path = write_log(
        0,
        "{\"kind\": \"train\", \"update\": 10, \"epoch\": 0, \"nll\": 5, \"lr\": 0.1, "
        "\"tokens_per_s\": 7, \"skipped\": 0, \"seconds\": 1}\n"
        "{\"kind\": \"train\", \"update\": 20, \"nll\": 4, \"lr\": 0.2}\n"
        "{\"kind\": \"valid\", \"update\": 20, \"nll\": 4.5, \"bleu\": 1.25, \"sample\": \"a\"}\n"
        "{\"kind\": \"train\", \"update\": 30, \"nll\": 3, \"lr\": 0.3}\n"
        "\n"
        "this is no line of a log\n"
        "{\"kind\": \"train\", \"update\": 20, \"nll\": 3.5, \"gradient_norm\": 2}\n"
        "{\"kind\": \"valid\", \"update\": 20, \"nll\": 4.25, \"bleu\": 2.5, \"sample\": \"b\"}\n"
        "{\"kind\": \"train\", \"update\": 30, \"nll\": \"-nan\", \"lr\": 0.4}\n"
        "{\"kind\": \"train\", \"update\": 40, \"nl");
    wr_str notes = {0};
    wr_curves *c = read_logs(&path, 1, &notes);
    assert_non_null(strstr(wr_str_text(&notes), "log.jsonl:6: 1 lines are skipped"));
    const wr_plot *p = choose(c, NULL);
    assert_int_equal(p->n, 4);
    assert_string_equal(p->title, "run0");
    assert_int_equal(p->key_n, 0);
    assert_string_equal(p->panel[0].title, "loss terms");
    assert_int_equal(p->panel[0].n, 2);
    check_curve(&p->panel[0].curve[0], 3, (double[]){10, 20, 30}, (double[]){5, 3.5, NAN});
    assert_string_equal(p->panel[0].curve[0].label, "nll");
    check_curve(&p->panel[0].curve[1], 1, (double[]){20}, (double[]){4.25});
    assert_string_equal(p->panel[0].curve[1].label, "valid nll: last 4.25");
    assert_string_equal(p->panel[1].title, "BLEU");
    assert_string_equal(p->panel[1].curve[0].label, "bleu: best 2.50 at 20");
    assert_string_equal(p->panel[2].title, "learning rate");
    check_curve(&p->panel[2].curve[0], 2, (double[]){10, 30}, (double[]){0.1, 0.4});
    assert_string_equal(p->panel[3].title, "gradient norm");
    p = choose(c, "speed,nll,seconds");
    assert_int_equal(p->n, 3);
    assert_string_equal(p->panel[0].title, "tokens per s");
    assert_int_equal(p->panel[1].n, 2);
    assert_string_equal(p->panel[2].title, "seconds");
    wr_error err = {0};
    assert_int_equal(wr_curves_choose(c, "loss,blue", NULL, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "'blue'; did you mean bleu?; there are epoch, nll, lr, "));
    assert_int_equal(wr_curves_choose(c, "loss,,bleu", NULL, NULL), WR_ERR_INPUT);
    wr_curves_free(c);
    wr_str_free(&notes);
}

/* Terms of very different sizes have panels of their own; several runs share curves' labels. */
static void test_panels(void **unused) {
    (void)unused;
    const char *paths[] = {
        write_log(0,
                  "{\"kind\":\"train\",\"update\":1,\"loss\":90,\"recon\":80,\"kl\":9,\"length\":"
                  "2,\"zero\":0,\"kl_weight\":1}\n"
                  "{\"kind\":\"valid\",\"update\":1,\"bleu\":3,\"reconstruction_bleu\":60,"
                  "\"chrf\":20}\n"),
        write_log(1, "{\"kind\":\"train\",\"update\":1,\"loss\":91,\"kl\":9}\n"
                     "{\"kind\":\"train\",\"update\":2,\"loss\":81,\"kl\":8}\n")};
    wr_str notes = {0};
    wr_curves *c = read_logs(paths, 2, &notes);
    assert_int_equal(notes.len, 0);
    const wr_plot *p = choose(c, NULL);
    assert_int_equal(p->n, 3);
    assert_int_equal(p->key_n, 2);
    assert_string_equal(p->key[0], "run0");
    assert_string_equal(p->key[1], "run1");
    assert_string_equal(p->title, "");
    assert_string_equal(p->panel[0].title, "loss terms: loss, recon, kl");
    assert_int_equal(p->panel[0].n, 5);
    assert_string_equal(p->panel[1].title, "loss terms: length, zero");
    assert_int_equal(p->panel[1].n, 2);
    assert_string_equal(p->panel[2].title, "scores");
    assert_int_equal(p->panel[2].n, 3);
    assert_string_equal(p->panel[0].curve[0].label, "loss");
    assert_string_equal(p->panel[0].curve[1].label, "loss");
    assert_int_equal(p->panel[0].curve[1].colour, 1);
    assert_int_equal(p->panel[0].curve[1].dash, 0);
    assert_int_equal(p->panel[0].curve[4].dash, 2);
    wr_str svg = {0};
    plot_text(p, &svg);
    assert_int_equal(count(wr_str_text(&svg), ">loss</text>"), 1);
    wr_str_free(&svg);
    wr_curves_free(c);
    wr_str_free(&notes);
}

static void test_empty_logs(void **unused) {
    (void)unused;
    const char *paths[] = {write_log(2, ""), write_log(3, "{\"kind\": \"train\", \"upd"),
                           write_log(0, "{\"kind\":\"train\",\"update\":1,\"loss\":90}\n")};
    wr_str notes = {0};
    wr_curves *c = NULL;
    wr_error err = {0};
    assert_int_equal(wr_curves_read(paths, 2, &c, &notes, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "nothing to plot"));
    assert_int_equal(count(wr_str_text(&notes), "there is no report yet"), 2);
    wr_str_clear(&notes);
    c = read_logs(paths, 3, &notes);
    assert_int_equal(count(wr_str_text(&notes), "there is no report yet"), 2);
    assert_string_equal(choose(c, NULL)->title, "run0");
    wr_curves_free(c);
    const char *missing = "/tmp/weir_test_plot_nowhere";
    assert_int_equal(wr_curves_read(&missing, 1, &c, &notes, NULL), WR_ERR_IO);
    wr_str_free(&notes);
}

static wr_status work(const char *path, wr_error *err) {
    wr_str notes = {0}, svg = {0};
    wr_curves *c = NULL;
    wr_status status = wr_curves_read(&path, 1, &c, &notes, err);
    if (status == WR_OK) status = wr_curves_choose(c, "loss,bleu,kl", NULL, err);
    if (status == WR_OK) status = wr_plot_svg(wr_curves_plot(c), &svg, err);
    wr_str_free(&svg);
    wr_str_free(&notes);
    wr_curves_free(c);
    return status;
}

static void test_memory(void **unused) {
    (void)unused;
    const char *path =
        write_log(0, "{\"kind\":\"train\",\"update\":1,\"loss\":90,\"kl\":0.5}\n"
                     "{\"kind\":\"valid\",\"update\":1,\"bleu\":3,\"reconstruction_bleu\":60}\n");
    for (long n = 1;; n++) {
        wr_error err = {0};
        wr_test_watch_allocations();
        wr_test_fail_allocation(n);
        wr_status status = work(path, &err);
        bool failed = wr_test_allocation_failed();
        assert_int_equal(wr_test_unfreed_allocations(), 0);
        assert_int_equal(status, failed ? WR_ERR_MEMORY : WR_OK);
        if (!failed) break;
        assert_true(n < 2000);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_axis), cmocka_unit_test(test_constant_axis),
        cmocka_unit_test(test_log_axis),    cmocka_unit_test(test_scales),
        cmocka_unit_test(test_gaps),        cmocka_unit_test(test_long),
        cmocka_unit_test(test_crowded),     cmocka_unit_test(test_no_point),
        cmocka_unit_test(test_log),         cmocka_unit_test(test_panels),
        cmocka_unit_test(test_empty_logs),  cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
