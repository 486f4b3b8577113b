/* objective_dense.c: loss and gradient of one sentence from its logits; see objective.h. */
#include "models/objectives/objective.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What the sentence takes in memory: one block. */
typedef struct tables {
    double *log_p;   /* [T, V] */
    double *lp, *w;  /* [T, C] */
    double *weights; /* [T, V] */
    int32_t *ids;    /* [C] */
    size_t columns;  /* C */
} tables;

static wr_status check_dense(const wr_objective_config *c, const wr_objective_dense *d,
                             wr_error *err) {
    if (c->row->extra && (d->blank < 0 || d->blank >= d->words))
        return wr_fail(err, WR_ERR_INPUT, "the blank is %d, but there are words 0 to %d",
                       (int)d->blank, d->words - 1);
    for (int n = 0; n < d->targets; n++)
        if (d->target[n] < 0 || d->target[n] >= d->words)
            return wr_fail(err, WR_ERR_INPUT,
                           "word %d of the target is %d, but there are words 0 to %d", n + 1,
                           (int)d->target[n], d->words - 1);
    for (int t = 0; t < d->positions; t++)
        for (int v = 0; v < d->words; v++) {
            double z = d->logits[(size_t)t * (size_t)d->words + (size_t)v];
            if (!isfinite(z))
                return wr_fail(err, WR_ERR_INPUT,
                               "the logit of position %d, word %d is %g; logits are finite", t + 1,
                               v, z);
        }
    return WR_OK;
}

static void log_softmax(const double *z, double *lp, int words) {
    double m = z[0], sum = 0;
    for (int v = 1; v < words; v++)
        m = fmax(m, z[v]);
    for (int v = 0; v < words; v++)
        sum += exp(z[v] - m);
    for (int v = 0; v < words; v++)
        lp[v] = z[v] - m - log(sum);
}

static void gather(const wr_objective_dense *d, bool extra, const tables *k) {
    for (int n = 0; n < d->targets; n++)
        k->ids[n] = d->target[n];
    if (extra) k->ids[d->targets] = d->blank;
    for (int t = 0; t < d->positions; t++) {
        size_t row = (size_t)t * (size_t)d->words;
        log_softmax(d->logits + row, k->log_p + row, d->words);
        for (size_t c = 0; c < k->columns; c++)
            k->lp[(size_t)t * k->columns + c] = k->log_p[row + (size_t)k->ids[c]];
    }
}

static wr_status weigh(const wr_objective_config *c, wr_objective_dense *d, const tables *k,
                       wr_error *err) {
    int32_t feasible = 0, positions = d->positions, targets = d->targets;
    wr_objective_batch b = {.real = WR_OBJECTIVE_F64,
                            .sentences = 1,
                            .positions = d->positions,
                            .targets = d->targets,
                            .lp = k->lp,
                            .ids = k->ids,
                            .position_len = &positions,
                            .target_len = &targets,
                            .weight = d->weight,
                            .update = d->update,
                            .w = k->w,
                            .loss = &d->loss,
                            .tokens = &d->tokens,
                            .feasible = &feasible,
                            .said = d->said};
    wr_status status = wr_objective_run(c, &b, 1, err);
    d->feasible = feasible != 0;
    if (status == WR_OK) wr_objective_scale(c, &b, &d->scale);
    return status;
}

/* Weights of words from those of columns; equal words add up. */
static void scatter(const wr_objective_dense *d, const tables *k) {
    for (int t = 0; t < d->positions; t++)
        for (size_t c = 0; c < k->columns; c++)
            k->weights[(size_t)t * (size_t)d->words + (size_t)k->ids[c]] +=
                k->w[(size_t)t * k->columns + c];
}

/* Position t's part of the gradient; returns that of the smoothed loss. `own` and `mean` are the
 * factors of wr_objective_smoothing(). */
static double position_gradient(const wr_objective_dense *d, const tables *k, int t, double own,
                                double mean) {
    size_t row = (size_t)t * (size_t)d->words;
    double total = 0, sum = 0, share = mean / d->words;
    for (int v = 0; v < d->words; v++) {
        total += k->weights[row + (size_t)v];
        sum -= k->log_p[row + (size_t)v];
    }
    for (int v = 0; v < d->words; v++)
        d->gradient[row + (size_t)v] = (own * total + mean) * exp(k->log_p[row + (size_t)v]) -
                                       own * k->weights[row + (size_t)v] - share;
    return share * sum;
}

static void differentiate(const wr_objective_config *c, wr_objective_dense *d, const tables *k) {
    double own, mean;
    wr_objective_smoothing(c, d->words, &own, &mean);
    d->loss *= own;
    for (int t = 0; t < d->positions; t++)
        d->loss += position_gradient(d, k, t, own, mean * (d->weight == NULL ? 1 : d->weight[t]));
}

static bool make_tables(const wr_objective_config *c, const wr_objective_dense *d, tables *k) {
    size_t cells = (size_t)d->positions * (size_t)d->words;
    k->columns = (size_t)d->targets + c->row->extra;
    size_t gathered = (size_t)d->positions * k->columns;
    k->log_p = calloc(2 * cells + 2 * gathered + k->columns / 2 + 1, sizeof(double));
    if (k->log_p == NULL) return false;
    k->weights = k->log_p + cells;
    k->lp = k->weights + cells;
    k->w = k->lp + gathered;
    k->ids = (int32_t *)(k->w + gathered);
    return true;
}

wr_status wr_objective_dense_run(const wr_objective_config *c, wr_objective_dense *d,
                                 wr_error *err) {
    size_t cells = (size_t)d->positions * (size_t)d->words;
    tables k = {0};
    wr_status status = check_dense(c, d, err);
    if (status != WR_OK) return status;
    if (!make_tables(c, d, &k)) return wr_fail_memory(err, "a sentence's tables", cells * 16);
    gather(d, c->row->extra, &k);
    status = weigh(c, d, &k, err);
    if (status == WR_OK) {
        memset(d->gradient, 0, cells * sizeof(double));
        scatter(d, &k);
        if (d->feasible) differentiate(c, d, &k);
        if (d->log_p != NULL) memcpy(d->log_p, k.log_p, cells * sizeof(double));
        if (d->w != NULL) memcpy(d->w, k.weights, cells * sizeof(double));
    }
    free(k.log_p);
    return status;
}
