/* glat.c: glancing (Qian et al. 2021): cross-entropy over the positions whose words the second pass
 * was not given (weight 1; revealed ones 0), and the choice of those it is given; see glat.h.
 * Normalised by the tokens of the batch that are not revealed. */
#include "models/objectives/glat.h"
#include "models/objectives/ce.h"

#include <math.h>

const wr_objective wr_objective_glat = {
    .name = "glat",
    .doc = "cross-entropy over the positions that glancing did not reveal",
    .aligned = true,
    .masked = true,
    .norm = WR_NORM_TOKEN,
    .weigh = wr__ce_weigh,
};

int wr_hamming_distance(const int32_t *a, const int32_t *b, int n) {
    int distance = 0;
    for (int i = 0; i < n; i++)
        distance += a[i] != b[i];
    return distance;
}

static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

int wr_levenshtein_distance(const int32_t *a, int n, const int32_t *b, int m, int32_t *row) {
    for (int j = 0; j <= m; j++)
        row[j] = j;
    for (int i = 1; i <= n; i++) {
        int32_t diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int32_t replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = least(replaced, least(row[j], row[j - 1]) + 1);
        }
    }
    return row[m];
}

double wr_glance_ratio(double first, double last, double updates, double update) {
    double done = updates > 0 ? fmin(1, fmax(0, update / updates)) : 1;
    return first + (last - first) * done;
}

int wr_glance_count(double ratio, int distance) { return (int)floor(ratio * distance); }

double wr_glance_log_weight(wr_glance_by by, double lp) {
    if (by == WR_GLANCE_UNIFORM) return 0;
    return by == WR_GLANCE_P_REF ? lp : log1p(-exp(fmin(lp, 0)));
}

void wr_glance_choose(wr_glance_by by, int n, int count, const double *lp, const double *u,
                      double *key, uint8_t *chosen) {
    for (int i = 0; i < n; i++) {
        key[i] = wr_glance_log_weight(by, lp == NULL ? 0 : lp[i]) - log(-log(u[i]));
        chosen[i] = 0;
    }
    for (int k = 0; k < count && k < n; k++) {
        int best = -1;
        for (int i = 0; i < n; i++)
            if (!chosen[i] && (best < 0 || key[i] > key[best])) best = i;
        chosen[best] = 1;
    }
}
