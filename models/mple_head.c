/* mple_head.c: logistic regression by Newton's method; see mple_head.h for the contracts. */
#include "models/mple_head.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NEWTON_MOST = 50, SOLVE_MOST = 200, HALVE_MOST = 30 };

/* Vectors have m = D + 1 elements; the last one is the bias, whose feature is 1. */
typedef struct fit {
    const wr_mask_data *data;
    double ridge;
    size_t m;
    double *gradient, *step, *residual, *direction, *product, *trial; /* [m] */
    double *curvature;                                                /* [n] p (1 - p) */
} fit;

double wr_mask_logit(const double *w, const float *h, size_t width) {
    double sum = w[width];
    for (size_t i = 0; i < width; i++)
        sum += w[i] * (double)h[i];
    return sum;
}

static double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }

static double dot(const double *x, const double *y, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

/* sum += factor (h, 1) */
static void add_state(double *sum, double factor, const float *h, size_t width) {
    for (size_t i = 0; i < width; i++)
        sum[i] += factor * (double)h[i];
    sum[width] += factor;
}

static double cross_entropy(const wr_mask_data *d, const double *w) {
    double sum = 0;
    for (size_t k = 0; k < d->n; k++) {
        double z = wr_mask_logit(w, d->h + k * d->width, d->width);
        sum += softplus(d->masked[k] != 0 ? -z : z);
    }
    return sum / (double)d->n;
}

static double objective(const fit *f, const double *w) {
    return cross_entropy(f->data, w) + f->ridge / 2 * dot(w, w, f->m - 1);
}

static void derive(fit *f, const double *w) {
    const wr_mask_data *d = f->data;
    memset(f->gradient, 0, f->m * sizeof *f->gradient);
    for (size_t k = 0; k < d->n; k++) {
        const float *h = d->h + k * d->width;
        double p = 1 / (1 + exp(-wr_mask_logit(w, h, d->width)));
        f->curvature[k] = p * (1 - p) / (double)d->n;
        add_state(f->gradient, (p - (d->masked[k] != 0)) / (double)d->n, h, d->width);
    }
    for (size_t i = 0; i + 1 < f->m; i++)
        f->gradient[i] += f->ridge * w[i];
}

/* product = (Hessian + a little) direction; the little keeps it positive where all are sure. */
static void multiply(fit *f) {
    const wr_mask_data *d = f->data;
    for (size_t i = 0; i < f->m; i++)
        f->product[i] = (i + 1 < f->m ? f->ridge : 1e-12) * f->direction[i];
    for (size_t k = 0; k < d->n; k++) {
        const float *h = d->h + k * d->width;
        double along = wr_mask_logit(f->direction, h, d->width);
        add_state(f->product, f->curvature[k] * along, h, d->width);
    }
}

/* step = -Hessian^-1 gradient, by conjugate gradients. */
static void solve(fit *f) {
    size_t m = f->m;
    for (size_t i = 0; i < m; i++) {
        f->step[i] = 0;
        f->residual[i] = f->direction[i] = -f->gradient[i];
    }
    double before = dot(f->residual, f->residual, m), enough = before * 1e-12;
    for (int k = 0; k < SOLVE_MOST && before > enough; k++) {
        multiply(f);
        double far = before / dot(f->direction, f->product, m);
        for (size_t i = 0; i < m; i++) {
            f->step[i] += far * f->direction[i];
            f->residual[i] -= far * f->product[i];
        }
        double now = dot(f->residual, f->residual, m);
        for (size_t i = 0; i < m; i++)
            f->direction[i] = f->residual[i] + now / before * f->direction[i];
        before = now;
    }
}

/* Go along the step as far as the loss falls; false when it does not. */
static bool advance(fit *f, double *w, double *value) {
    double far = 1, slope = dot(f->gradient, f->step, f->m);
    for (int k = 0; k < HALVE_MOST; k++, far /= 2) {
        for (size_t i = 0; i < f->m; i++)
            f->trial[i] = w[i] + far * f->step[i];
        double now = objective(f, f->trial);
        if (now < *value + 1e-4 * far * slope) {
            memcpy(w, f->trial, f->m * sizeof *w);
            *value = now;
            return true;
        }
    }
    return false;
}

static wr_status check(const wr_mask_data *d, wr_error *err) {
    if (d->n == 0) return wr_fail(err, WR_ERR_INPUT, "the mask head: no positions to learn from");
    for (size_t i = 0; i < d->n * d->width; i++)
        if (!isfinite(d->h[i]))
            return wr_fail(err, WR_ERR_INPUT,
                           "the mask head: the decoder's state of position %zu is not finite; the "
                           "model is damaged",
                           i / d->width + 1);
    return WR_OK;
}

wr_status wr_mask_fit(const wr_mask_data *data, double ridge, double *w, double *loss,
                      wr_error *err) {
    size_t m = data->width + 1;
    wr_status status = check(data, err);
    if (status != WR_OK) return status;
    double *memory = calloc(6 * m + data->n, sizeof *memory);
    if (memory == NULL) return wr_fail_memory(err, "the mask head", (6 * m + data->n) * 8);
    fit f = {.data = data,
             .ridge = ridge,
             .m = m,
             .gradient = memory,
             .step = memory + m,
             .residual = memory + 2 * m,
             .direction = memory + 3 * m,
             .product = memory + 4 * m,
             .trial = memory + 5 * m,
             .curvature = memory + 6 * m};
    memset(w, 0, m * sizeof *w);
    double value = objective(&f, w);
    for (int k = 0; k < NEWTON_MOST; k++) {
        derive(&f, w);
        if (dot(f.gradient, f.gradient, m) < 1e-20) break;
        solve(&f);
        if (!advance(&f, w, &value)) break;
    }
    if (loss != NULL) *loss = cross_entropy(data, w);
    free(memory);
    return WR_OK;
}
