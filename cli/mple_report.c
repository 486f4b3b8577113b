/* mple_report.c: the report of `weir mple` as table, JSON and picture. */
#include "cli/mple.h"
#include "viz/plot.h"

#include <cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ---- */

/* A number in a column of that width; nothing measured is a dash. */
static void cell(int width, int digits, double x) {
    if (isnan(x))
        printf("  %*s", width, "-");
    else
        printf("  %*.*f", width, digits, x);
}

static void print_table(const wr_mple_row *row, size_t n) {
    int name = 3, objective = 9;
    for (size_t i = 0; i < n; i++) {
        int a = (int)strlen(row[i].run);
        name = a > name ? a : name;
    }
    printf("%-*s  %-*s  %8s  %7s  %8s  %8s  %8s  %7s  %7s  %8s  %8s\n", name, "run", objective,
           "objective", "L_NAT", "+-", "L_target", "L_input", "sum", "BLEU", "sampled", "log2 p",
           "sampled");
    for (size_t i = 0; i < n; i++) {
        const wr_mple_row *r = &row[i];
        printf("%-*s  %-*s", name, r->run, objective, r->objective);
        cell(8, 4, r->l_nat);
        cell(7, 4, r->l_nat_error);
        cell(8, 4, r->l_target);
        cell(8, 4, r->l_input);
        cell(8, 4, r->sum);
        cell(7, 2, r->bleu);
        cell(7, 2, r->bleu_sampled);
        cell(8, 4, r->sure);
        cell(8, 4, r->sure_sampled);
        printf("\n");
    }
}

static void print_notes(const wr_mple_row *row, size_t n, const wr_mple_summary *s) {
    for (size_t i = 0; i < n; i++) {
        if (row[i].approximate)
            printf("%s: L_NAT is -log2 of a sum over alignments, a target token; the terms hold "
                   "approximately\n",
                   row[i].run);
        if (row[i].left_out > 0)
            printf("%s: %zu sentences left out, too long for the model or without an alignment\n",
                   row[i].run, row[i].left_out);
    }
    if (!isnan(s->estimate))
        printf("conditional total correlation, estimated by %s and %s: %.4f bits a token\n",
               s->estimate_nat, s->estimate_at, s->estimate);
    if (!isnan(s->known))
        printf("conditional total correlation, exact: C = %.4f bits a token; sum of H(y_i|X): "
               "%.4f\n",
               s->known, s->floor);
    if (!isnan(s->r)) printf("Pearson's r of sum and BLEU: %.4f\n", s->r);
    if (!isnan(s->r_sampled))
        printf("Pearson's r of sum and BLEU with sampled inputs: %.4f\n", s->r_sampled);
}

/* ---- JSON ---- */

static bool add_number(cJSON *to, const char *name, double x) {
    return (isfinite(x) ? cJSON_AddNumberToObject(to, name, x) : cJSON_AddNullToObject(to, name)) !=
           NULL;
}

static bool add_run(cJSON *runs, const wr_mple_row *r) {
    cJSON *json = cJSON_CreateObject();
    if (json == NULL || !cJSON_AddItemToArray(runs, json)) {
        cJSON_Delete(json);
        return false;
    }
    return cJSON_AddStringToObject(json, "run", r->run) != NULL &&
           cJSON_AddStringToObject(json, "objective", r->objective) != NULL &&
           add_number(json, "L_NAT", r->l_nat) && add_number(json, "L_NAT_error", r->l_nat_error) &&
           add_number(json, "L_target", r->l_target) && add_number(json, "L_input", r->l_input) &&
           add_number(json, "sum", r->sum) && add_number(json, "bleu", r->bleu) &&
           add_number(json, "bleu_sampled", r->bleu_sampled) &&
           add_number(json, "log2_p", r->sure) &&
           add_number(json, "log2_p_sampled", r->sure_sampled) &&
           add_number(json, "mask_head_bits", r->mask_loss) &&
           add_number(json, "nats_own_targets", r->own_nats) &&
           add_number(json, "tokens", r->tokens) &&
           add_number(json, "left_out", (double)r->left_out) &&
           cJSON_AddBoolToObject(json, "own_targets", r->own_targets) != NULL &&
           cJSON_AddBoolToObject(json, "approximate", r->approximate) != NULL;
}

static bool add_report(cJSON *json, const wr_mple_options *o, const wr_mple_row *row, size_t n,
                       const wr_mple_summary *s) {
    cJSON *runs = NULL, *c = NULL;
    bool done = cJSON_AddStringToObject(json, "data", o->data) != NULL &&
                cJSON_AddStringToObject(json, "split", o->split) != NULL &&
                add_number(json, "beta", o->beta) &&
                (runs = cJSON_AddArrayToObject(json, "runs")) != NULL;
    for (size_t i = 0; i < n && done; i++)
        done = add_run(runs, &row[i]);
    return done && (c = cJSON_AddObjectToObject(json, "conditional_total_correlation")) != NULL &&
           add_number(c, "estimate", s->estimate) && add_number(c, "exact", s->known) &&
           add_number(c, "exact_marginals", s->floor) && add_number(json, "pearson", s->r) &&
           add_number(json, "pearson_sampled", s->r_sampled);
}

static wr_status write_json(const wr_mple_options *o, const wr_mple_row *row, size_t n,
                            const wr_mple_summary *s, wr_error *err) {
    cJSON *json = cJSON_CreateObject();
    bool done = json != NULL && add_report(json, o, row, n, s);
    char *text = done ? cJSON_Print(json) : NULL;
    wr_status status = text == NULL ? wr_fail_memory(err, "the report", 4096)
                                    : wr_file_replace(o->json, text, strlen(text), err);
    cJSON_free(text);
    cJSON_Delete(json);
    return status;
}

/* ---- the picture ---- */

/* Each run is a curve of one point, or two where inputs were sampled, too. */
typedef struct picture {
    wr_curve *curve; /* [2, 2 n + 2] */
    double *number;
    wr_str *label;
    size_t n, used, labels;
} picture;

static const char *label_of(picture *p, const char *run, const char *more) {
    wr_str *s = &p->label[p->labels++];
    wr_str_add(s, "%s%s", run, more);
    return wr_str_text(s);
}

static void add_point(picture *p, wr_panel *panel, const char *label, int colour, double x,
                      double y) {
    double *at = p->number + 4 * p->used;
    if (isnan(x) || isnan(y)) return;
    at[0] = at[1] = x;
    at[2] = at[3] = y;
    p->curve[p->used++] =
        (wr_curve){.label = label, .x = at, .y = at + 2, .n = 1, .colour = colour};
    panel->n++;
}

enum { BLACK = 4 }; /* of the colours in viz/ */

/* A vertical line at x over all values of BLEU. */
static void add_floor(picture *p, wr_panel *panel, const char *label, int dash, double x,
                      const double span[2]) {
    double *at = p->number + 4 * p->used;
    if (isnan(x)) return;
    at[0] = at[1] = x;
    at[2] = span[0];
    at[3] = span[1];
    p->curve[p->used++] =
        (wr_curve){.label = label, .x = at, .y = at + 2, .n = 2, .colour = BLACK, .dash = dash};
    panel->n++;
}

static void add_panel(picture *p, const wr_mple_row *row, bool sum, wr_panel *panel) {
    panel->curve = p->curve + p->used;
    for (size_t i = 0; i < p->n; i++) {
        double x = sum ? row[i].sum : row[i].l_nat;
        add_point(p, panel, label_of(p, row[i].run, ""), (int)i, x, row[i].bleu);
        add_point(p, panel, label_of(p, row[i].run, ", inputs sampled"), (int)(p->n + i), x,
                  row[i].bleu_sampled);
    }
}

static void find_span(const wr_mple_row *row, size_t n, double span[2]) {
    span[0] = INFINITY;
    span[1] = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        const double bleu[] = {row[i].bleu, row[i].bleu_sampled};
        for (int k = 0; k < 2; k++) {
            if (bleu[k] < span[0]) span[0] = bleu[k];
            if (bleu[k] > span[1]) span[1] = bleu[k];
        }
    }
    if (span[1] - span[0] < 1) span[1] = span[0] + 1;
}

static wr_status draw_panel(const wr_panel *panel, const char *title, wr_str *svg, wr_error *err) {
    const wr_plot plot = {.title = title, .x_label = "bits a token", .panel = panel, .n = 1};
    return wr_plot_svg(&plot, svg, err);
}

/* "width" or "height" of an SVG element. */
static double size_of(const wr_str *svg, const char *name) {
    const char *at = strstr(wr_str_text(svg), name);
    return at == NULL ? 0 : strtod(at + strlen(name) + 2, NULL);
}

/* Two pictures, whose axes differ, one below the other. */
static void stack(const wr_str *upper, const wr_str *lower, wr_str *out) {
    double wide = size_of(upper, "width"), high = size_of(upper, "height");
    double all = high + size_of(lower, "height");
    wr_str_add(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
        "viewBox=\"0 0 %.0f %.0f\">\n%s<g transform=\"translate(0 %.0f)\">\n%s</g>\n</svg>\n",
        wide, all, wide, all, wr_str_text(upper), high, wr_str_text(lower));
}

static wr_status draw(picture *p, const wr_mple_row *row, const wr_mple_summary *s, wr_str *svg,
                      wr_error *err) {
    double span[2];
    wr_panel panel[] = {{.title = "BLEU over L_NAT + L_target + L_input"},
                        {.title = "BLEU over L_NAT"}};
    wr_str upper = {0}, lower = {0};
    find_span(row, p->n, span);
    add_panel(p, row, true, &panel[0]);
    add_panel(p, row, false, &panel[1]);
    add_floor(p, &panel[1], "C, exact", 1, s->known, span);
    add_floor(p, &panel[1], "sum of H(y|X), exact", 2, s->floor, span);
    for (size_t i = 0; i < p->labels; i++)
        if (p->label[i].oom) return wr_fail_memory(err, "the picture", 4096);
    wr_status status = draw_panel(&panel[0], "Proxy likelihood and quality", &upper, err);
    if (status == WR_OK) status = draw_panel(&panel[1], NULL, &lower, err);
    if (status == WR_OK) stack(&upper, &lower, svg);
    wr_str_free(&upper);
    wr_str_free(&lower);
    return status == WR_OK && svg->oom ? wr_fail_memory(err, "the picture", 4096) : status;
}

static wr_status write_plot(const wr_mple_options *o, const wr_mple_row *row, size_t n,
                            const wr_mple_summary *s, wr_error *err) {
    size_t most = 4 * n + 2;
    picture p = {.curve = calloc(most, sizeof *p.curve),
                 .number = calloc(4 * most, sizeof *p.number),
                 .label = calloc(most, sizeof *p.label),
                 .n = n};
    wr_str svg = {0};
    wr_status status = WR_OK;
    if (p.curve == NULL || p.number == NULL || p.label == NULL)
        status = wr_fail_memory(err, "the picture", most * sizeof *p.curve);
    if (status == WR_OK) status = draw(&p, row, s, &svg, err);
    if (status == WR_OK) status = wr_file_replace(o->plot, wr_str_text(&svg), svg.len, err);
    for (size_t i = 0; i < p.labels; i++)
        wr_str_free(&p.label[i]);
    wr_str_free(&svg);
    free(p.curve);
    free(p.number);
    free(p.label);
    return status;
}

wr_status wr__mple_report(const wr_mple_options *o, const wr_mple_row *row, size_t n,
                          const wr_mple_summary *s, wr_error *err) {
    print_table(row, n);
    print_notes(row, n, s);
    wr_status status = o->json == NULL ? WR_OK : write_json(o, row, n, s, err);
    return status == WR_OK && o->plot != NULL ? write_plot(o, row, n, s, err) : status;
}
