/* mple.c: the numbers behind `weir mple`; see mple.h for the contracts. */
#include "models/mple.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- total correlation ---- */

/* One outcome, or one value of a variable, with its weight. */
typedef struct mass {
    const int32_t *value;
    size_t m;
    double weight;
} mass;

static int by_value(const void *a, const void *b) {
    const mass *x = a, *y = b;
    for (size_t i = 0; i < x->m; i++)
        if (x->value[i] != y->value[i]) return x->value[i] < y->value[i] ? -1 : 1;
    /* equal ones in a fixed order, so that their sum does not depend on the sorting */
    return (x->value > y->value) - (x->value < y->value);
}

static bool same_value(const mass *x, const mass *y) {
    return memcmp(x->value, y->value, x->m * sizeof *x->value) == 0;
}

/* Entropy of columns from .. from + m - 1; `total` is the sum of the weights. */
static double entropy(const int32_t *value, const double *weight, size_t n, size_t stride, size_t m,
                      double total, mass *work) {
    double h = 0, sum = 0;
    for (size_t r = 0; r < n; r++)
        work[r] = (mass){value + r * stride, m, weight[r]};
    qsort(work, n, sizeof *work, by_value);
    for (size_t r = 0; r < n; r++) {
        sum += work[r].weight;
        if (r + 1 < n && same_value(&work[r], &work[r + 1])) continue;
        if (sum > 0) h -= sum / total * log(sum / total);
        sum = 0;
    }
    return h;
}

wr_status wr_total_correlation(const int32_t *value, const double *weight, size_t n, size_t m,
                               wr_entropies *out, wr_error *err) {
    double total = 0;
    *out = (wr_entropies){0};
    for (size_t r = 0; r < n; r++) {
        if (!(weight[r] >= 0))
            return wr_fail(
                err, WR_ERR_INPUT,
                "total correlation: outcome %zu has the weight %g; weights are 0 or more", r + 1,
                weight[r]);
        total += weight[r];
    }
    if (!(total > 0))
        return wr_fail(err, WR_ERR_INPUT, "total correlation: the weights of %zu outcomes sum to 0",
                       n);
    mass *work = malloc((n + 1) * sizeof *work);
    if (work == NULL) return wr_fail_memory(err, "outcomes", n * sizeof *work);
    out->joint = entropy(value, weight, n, m, m, total, work);
    for (size_t i = 0; i < m; i++)
        out->marginals += entropy(value + i, weight, n, m, 1, total, work);
    double c = out->marginals - out->joint;
    out->correlation = c > 0 ? c : 0; /* below 0 by rounding alone */
    free(work);
    return WR_OK;
}

/* ---- sentence BLEU ---- */

enum { BLEU_ORDER = 4 };

static size_t occurrences(const int32_t *x, size_t n, const int32_t *gram, size_t order) {
    size_t count = 0;
    for (size_t i = 0; i + order <= n; i++)
        count += x[i] == gram[0] && memcmp(x + i, gram, order * sizeof *x) == 0;
    return count;
}

/* How many n-grams of the hypothesis are in the reference, each at most as often as there. */
static size_t clipped(const int32_t *ref, size_t ref_n, const int32_t *hyp, size_t hyp_n,
                      size_t order) {
    size_t count = 0;
    for (size_t i = 0; i + order <= hyp_n; i++) {
        size_t have = occurrences(ref, ref_n, hyp + i, order);
        /* those before it have taken some of them */
        count += have > 0 && occurrences(hyp, i + order - 1, hyp + i, order) < have;
    }
    return count;
}

double wr_sentence_bleu(const int32_t *ref, size_t ref_n, const int32_t *hyp, size_t hyp_n) {
    double sum = 0;
    for (size_t order = 1; order <= BLEU_ORDER; order++) {
        double more = order > 1 ? 1 : 0;
        double total = hyp_n >= order ? (double)(hyp_n - order + 1) : 0;
        double match = (double)clipped(ref, ref_n, hyp, hyp_n, order);
        if (match + more == 0) return 0;
        sum += log((match + more) / (total + more));
    }
    double penalty = hyp_n <= ref_n ? 1 - (double)ref_n / (double)hyp_n : 0;
    return 100 * exp(sum / BLEU_ORDER + penalty);
}

double wr_mple_target(const double *bleu, size_t n, double beta) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += bleu[i];
    return n == 0 ? 0 : -beta * sum / (double)n;
}

/* ---- correlation ---- */

double wr_pearson(const double *x, const double *y, size_t n) {
    double mean_x = 0, mean_y = 0, xx = 0, yy = 0, xy = 0;
    if (n < 2) return NAN;
    for (size_t i = 0; i < n; i++) {
        mean_x += x[i] / (double)n;
        mean_y += y[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        double dx = x[i] - mean_x, dy = y[i] - mean_y;
        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : NAN;
}

/* ---- which positions are shown ---- */

double wr_log_choose(size_t n, size_t k) {
    return lgamma((double)n + 1) - lgamma((double)k + 1) - lgamma((double)(n - k) + 1);
}

static double log_sum(const double *x, const uint8_t *skip, size_t n) {
    double top = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        if (skip[i] == 0 && x[i] > top) top = x[i];
    if (top == -INFINITY) return top;
    for (size_t i = 0; i < n; i++)
        if (skip[i] == 0) sum += exp(x[i] - top);
    return top + log(sum);
}

/* log of the summed weights of the positions that are not among the first `drawn` of the order;
 * summed anew each time, which cancels nothing. */
static double log_left(const double *log_weight, size_t n, const int32_t *order, size_t drawn) {
    double top = -INFINITY, sum = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < n; i++) {
            bool gone = false;
            for (size_t j = 0; j < drawn; j++)
                gone = gone || (size_t)order[j] == i;
            if (gone) continue;
            if (pass == 0 && log_weight[i] > top) top = log_weight[i];
            if (pass == 1 && top > -INFINITY) sum += exp(log_weight[i] - top);
        }
    return top == -INFINITY ? top : top + log(sum);
}

double wr_plackett_luce_order(const double *log_weight, size_t n, const int32_t *order, size_t k) {
    double sum = 0;
    for (size_t j = 0; j < k; j++) {
        double left = log_left(log_weight, n, order, j);
        if (log_weight[order[j]] == -INFINITY) return -INFINITY;
        sum += log_weight[order[j]] - left;
    }
    return sum;
}

/* The integral of the set's probability after t = exp(s): between both tails, which fall at least
 * as exp(s) and as exp(-exp(s)), the trapezoidal rule is exact to rounding at this step. */
enum { STEPS_PER_UNIT = 16 };

static double log_integrand(const double *log_weight, const uint8_t *chosen, size_t n, double rest,
                            double s) {
    double sum = s - exp(s);
    for (size_t i = 0; i < n; i++)
        if (chosen[i] != 0) sum += log(-expm1(-exp(log_weight[i] - rest + s)));
    return sum;
}

double wr_plackett_luce_set(const double *log_weight, const uint8_t *chosen, size_t n) {
    double rest = log_sum(log_weight, chosen, n), top = -INFINITY, sum = 0, at = 0;
    for (size_t i = 0; i < n; i++)
        if (chosen[i] != 0 && log_weight[i] == -INFINITY) return -INFINITY;
    if (rest == -INFINITY) return 0; /* nothing else can be drawn */
    const double step = 1.0 / STEPS_PER_UNIT;
    /* The integrand is log-concave in s: climb to its top, then sum on both sides. */
    double here = log_integrand(log_weight, chosen, n, rest, at), next, move = 1;
    for (int k = 1; k <= STEPS_PER_UNIT; k *= 2, move /= 2)
        for (int side = -1; side <= 1; side += 2)
            while ((next = log_integrand(log_weight, chosen, n, rest, at + side * move)) > here) {
                at += side * move;
                here = next;
            }
    top = here;
    for (int side = -1; side <= 1; side += 2)
        for (double s = at + (side < 0 ? -step : 0);; s += side * step) {
            double value = exp(log_integrand(log_weight, chosen, n, rest, s) - top);
            sum += value;
            if (value < 1e-18) break;
        }
    return top + log(sum * step);
}

/* ---- input ---- */

/* log(1 + exp(x)) */
static double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }

double wr_mple_input(const double *mask_logit, const double *token_lp, const uint8_t *visible,
                     size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += visible[i] != 0 ? softplus(mask_logit[i]) - token_lp[i] : softplus(-mask_logit[i]);
    return sum;
}

double wr_mple_correlation_bits(double nat_nll, double at_nll) {
    return (nat_nll - at_nll) / log(2);
}

/* ---- dynamic distillation ---- */

void wr_dynamic_cost(const wr_dynamic *d, const double *bleu, double *cost) {
    int n = d->candidates;
    double total = 0;
    for (int i = 0; i < n; i++)
        total += d->gamma[i];
    double factor = -d->beta / (d->normalise_gamma ? total : 1);
    for (int j = 0; j < n; j++) {
        double sum = 0;
        for (int i = 0; i < n; i++)
            sum += d->gamma[i] * bleu[i * n + j];
        cost[j] = factor * sum;
    }
}

int wr_dynamic_choose(const wr_dynamic *d, const double *cost, const double *nll,
                      const double *tokens, double *total) {
    int best = 0;
    double least = INFINITY;
    for (int j = 0; j < d->candidates; j++) {
        double value = cost[j];
        if (nll != NULL) value += d->mean_nll ? nll[j] / tokens[j] : nll[j];
        if (total != NULL) total[j] = value;
        if (value < least) {
            least = value;
            best = j;
        }
    }
    return best;
}
