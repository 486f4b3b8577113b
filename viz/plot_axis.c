/* plot_axis.c: see plot_axis.h. */
#include "viz/plot_axis.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- labels ---- */

/* "%g" without the zeros that pad the exponent: 1e-05 becomes 1e-5. */
static void print_short(char *to, double v) {
    snprintf(to, WR__TICK_TEXT, "%.6g", v);
    char *e = strchr(to, 'e');
    if (e == NULL) return;
    char *digit = e[1] == '-' ? e + 2 : e + 1;
    char *from = digit;
    while (*from == '+' || (*from == '0' && from[1] != '\0'))
        from++;
    memmove(digit, from, strlen(from) + 1);
}

/* A multiple of `step` on an axis that reaches to `most`: 12000 as 12k where all labels can be. */
static void print_tick(char *to, double v, double step, double most) {
    int decimals = (int)fmax(0, -floor(log10(step) + 1e-9));
    if (most >= 1e15 || decimals > 6)
        print_short(to, v);
    else if (most >= 1e7 && step >= 1e5)
        snprintf(to, WR__TICK_TEXT, "%.6gM", v / 1e6);
    else if (most >= 1e4 && step >= 100)
        snprintf(to, WR__TICK_TEXT, "%.6gk", v / 1e3);
    else
        snprintf(to, WR__TICK_TEXT, "%.*f", decimals, v);
    if (v == 0) snprintf(to, WR__TICK_TEXT, "0");
}

/* ---- linear ---- */

/* The smallest of 1, 2, 5, 10, 20, ... times a power of ten that is at least x. */
static double round_step(double x) {
    double power = pow(10, floor(log10(x)));
    static const double factor[] = {1, 2, 5, 10};
    for (int i = 0; i < 3; i++)
        if (factor[i] * power >= x * (1 - 1e-9)) return factor[i] * power;
    return factor[3] * power;
}

static void fit_linear(wr__axis *a, double min, double max, int ticks) {
    if (min > 0 && min < 0.5 * max) min = 0;
    if (max < 0 && max > 0.5 * min) max = 0;
    double size = fmax(fabs(min), fabs(max));
    if (max - min <= 1e-4 * size || size == 0) { /* flat: labels of a few digits could not differ */
        double room = size == 0 ? 1 : 0.01 * size;
        min -= room;
        max += room;
    }
    double step = round_step((max - min) / ticks);
    double first = floor(min / step + 1e-6), last = ceil(max / step - 1e-6);
    a->lo = first * step;
    a->hi = last * step;
    for (double i = first; i <= last && a->n < WR__TICKS; i++, a->n++) {
        a->tick[a->n] = i * step;
        print_tick(a->label[a->n], i * step, step, fmax(fabs(a->lo), fabs(a->hi)));
    }
}

/* ---- logarithmic ---- */

static void add_minor(wr__axis *a, double decade) {
    for (int m = 2; m < 10; m++) {
        double v = m * decade;
        if (v >= a->lo && v <= a->hi && a->minor_n < WR__MINOR_TICKS) a->minor[a->minor_n++] = v;
    }
}

static void fit_log(wr__axis *a, double min, double max, int ticks) {
    double room = pow(max / min, 0.03);
    a->lo = min / room;
    a->hi = max * room;
    int first = (int)ceil(log10(a->lo)), last = (int)floor(log10(a->hi));
    int stride = (last - first) / ticks + 1;
    for (int e = first - 1; e <= last; e++) { /* the one below for its minor ticks */
        double v = pow(10, e);
        if (stride == 1) add_minor(a, v);
        if (v < a->lo || v > a->hi || a->n >= WR__TICKS) continue;
        if ((e % stride + stride) % stride != 0) continue;
        a->tick[a->n] = v;
        print_short(a->label[a->n++], v);
    }
}

void wr__axis_fit(wr__axis *a, double min, double max, bool log, int ticks) {
    *a = (wr__axis){.log = log};
    if (ticks < 2) ticks = 2;
    if (ticks > WR__TICKS - 3) ticks = WR__TICKS - 3;
    if (log)
        fit_log(a, min, max, ticks);
    else
        fit_linear(a, min, max, ticks);
}

double wr__axis_place(const wr__axis *a, double value) {
    if (!a->log) return (value - a->lo) / (a->hi - a->lo);
    return log(value / a->lo) / log(a->hi / a->lo);
}
