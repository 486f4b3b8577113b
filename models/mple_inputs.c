/* mple_inputs.c: the probability with which training shows the decoder just these words. */
#include "models/mple.h"
#include "models/mple_measure_internal.h"
#include "models/objectives/glat.h"

#include <math.h>

/* CMLM: how many is drawn first, then which. */
static double log_q_masks(const wr_measurer *m, int len, const uint8_t *visible) {
    int first, words = wr__measure_inner(&m->n, len, &first), shown = 0;
    double counts = words;
    for (int t = first; t < first + words; t++)
        shown += visible[t] != 0;
    if (m->t.revealing.masking == WR_RECIPE_MASKING_MASK_PREDICT) counts = words - 1;
    if (m->t.revealing.masking == WR_RECIPE_MASKING_FIXED) counts = 1;
    if (words < 1) return 0;
    return -log(counts < 1 ? 1 : counts) - wr_log_choose((size_t)words, (size_t)shown);
}

static wr_glance_by drawn_by(wr_recipe_glancing glancing) {
    if (glancing == WR_RECIPE_GLANCE_P_REF) return WR_GLANCE_P_REF;
    return glancing == WR_RECIPE_GLANCE_NOT_P_REF ? WR_GLANCE_NOT_P_REF : WR_GLANCE_UNIFORM;
}

/* Glancing draws among all positions; begin and end are shown in any case, so that which of them
 * were drawn is not seen: their cases are summed. */
static double log_q_glance(const wr_measurer *m, int len, int given, const uint8_t *visible,
                           const double *lp, double *weight) {
    int first, words = wr__measure_inner(&m->n, len, &first), ends = len - words, shown = 0;
    wr_glance_by by = drawn_by(m->t.revealing.glancing);
    size_t n = (size_t)len;
    double sum = 0;
    uint8_t *chosen = (uint8_t *)(weight + n);
    for (int t = 0; t < len; t++) {
        bool inner = t >= first && t < first + words;
        weight[t] = wr_glance_log_weight(by, lp[t]);
        if (weight[t] < -700) weight[t] = -700; /* a sum of them stays a number */
        chosen[t] = inner && visible[t] != 0;
        shown += chosen[t];
    }
    for (int set = 0; set < 1 << ends; set++) {
        int count = (set & 1) + (set >> 1);
        if (count != given - shown) continue;
        if (ends > 0) chosen[0] = set & 1;
        if (ends > 0) chosen[len - 1] = (uint8_t)(set >> 1);
        sum += exp(by == WR_GLANCE_UNIFORM ? -wr_log_choose(n, (size_t)given)
                                           : wr_plackett_luce_set(weight, chosen, n));
    }
    return log(sum);
}

double wr__measure_log_q(const wr_measurer *m, int len, int given, const uint8_t *visible,
                         const double *lp, double *work) {
    if (m->t.revealing.glancing == WR_RECIPE_GLANCE_NONE) return log_q_masks(m, len, visible);
    return log_q_glance(m, len, given, visible, lp, work);
}
