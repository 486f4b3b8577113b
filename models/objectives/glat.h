/* glat.h: glancing: which target words the second pass of training is given (Qian et al. 2021).
 * Pure functions over one sentence; randomness comes in as numbers. */
#ifndef WEIR_MODELS_OBJECTIVES_GLAT_H
#define WEIR_MODELS_OBJECTIVES_GLAT_H

#include "graph/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Positions at which a and b [n] differ. */
int wr_hamming_distance(const int32_t *a, const int32_t *b, int n);

/* The least number of words inserted, removed or replaced that makes a [n] into b [m]. `row` is
 * workspace of m + 1. */
int wr_levenshtein_distance(const int32_t *a, int n, const int32_t *b, int m, int32_t *row);

/* The share of wrong words that is revealed, which moves linearly from `first` to `last` over
 * `updates` updates and then stays. */
double wr_glance_ratio(double first, double last, double updates, double update);

/* floor(ratio distance): how many words to reveal. */
int wr_glance_count(double ratio, int distance);

typedef enum wr_glance_by {
    WR_GLANCE_UNIFORM,   /* each position alike */
    WR_GLANCE_P_REF,     /* in proportion to the probability p of the target word */
    WR_GLANCE_NOT_P_REF, /* in proportion to 1 - p */
} wr_glance_by;

/* The unnormalised logarithm of a position's weight in the draw. `lp` is log p of its target word.
 */
double wr_glance_log_weight(wr_glance_by by, double lp);

/* Draw `count` of n positions without replacement, in proportion to their weights: those with the
 * largest log weight - log(-log u), u uniform in (0, 1) (Gumbel top-k; Kool et al. 2019); of equal
 * ones the lowest. lp [n] (NULL for uniform), u [n]; chosen [n] becomes 1 or 0. `key` is workspace
 * of n. */
void wr_glance_choose(wr_glance_by by, int n, int count, const double *lp, const double *u,
                      double *key, uint8_t *chosen);

#ifdef __cplusplus
}
#endif
#endif
