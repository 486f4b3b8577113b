/* mple.h: the numbers of the maximum proxy-likelihood view of non-autoregressive training (Huang et
 * al. 2022, "On the learning of non-autoregressive Transformers"), over arrays.
 *
 * A factorised model loses at least the conditional total correlation
 *
 *     C = sum_i H(y_i|X) - H(Y|X)
 *
 * and every objective that works trains on a proxy: other targets T (distillation, AXE, OaXE) or
 * other decoder inputs Z (CMLM, GLAT). What it then pays is
 *
 *     L = L_NAT + L_target + L_input
 *     L_NAT    = -log P(T | Z, X)                    a token
 *     L_target = -beta mean over references of BLEU(reference, T)
 *     L_input  = -log P(Z | X) + log Q(Z | X)        a token
 *
 * Natural logarithms here; the report tells bits. */
#ifndef WEIR_MODELS_MPLE_H
#define WEIR_MODELS_MPLE_H

#include "graph/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- total correlation of a table ---- */

/* Entropies in nats of m variables y_1 .. y_m with a joint distribution. */
typedef struct wr_entropies {
    double joint;       /* H(y_1, .., y_m) */
    double marginals;   /* sum_i H(y_i) */
    double correlation; /* marginals - joint, at least 0 */
} wr_entropies;

/* Exact, by enumeration: outcome r of `n` has the values value [r, m] and the weight weight [r] >=
 * 0; weights are divided by their sum, equal outcomes are merged. Errors: WR_ERR_INPUT for a
 * negative weight or weights that sum to 0; WR_ERR_MEMORY. */
wr_status wr_total_correlation(const int32_t *value, const double *weight, size_t n, size_t m,
                               wr_entropies *out, wr_error *err);

/* ---- sentence BLEU of ids ---- */

/* BLEU in per cent of one hypothesis: clipped precisions of n-grams of length 1 to 4 with one more
 * match and one more n-gram for lengths above 1 (Lin and Och 2004), geometric mean, brevity penalty
 * exp(1 - ref_n / hyp_n) for hyp_n <= ref_n. 0 without a common word. Takes time hyp_n (hyp_n +
 * ref_n), no memory. */
double wr_sentence_bleu(const int32_t *ref, size_t ref_n, const int32_t *hyp, size_t hyp_n);

/* L_target: -beta times the mean BLEU of n references; 0 when n is 0. */
double wr_mple_target(const double *bleu, size_t n, double beta);

/* ---- correlation ---- */

/* Pearson's r of n pairs; NAN for n < 2 or when one side does not vary. */
double wr_pearson(const double *x, const double *y, size_t n);

/* ---- which positions are shown: log Q(Z | X) ---- */

/* log of the number of ways to choose k of n. */
double wr_log_choose(size_t n, size_t k);

/* Drawing k of n positions one by one without putting back, each with probability proportional to
 * its weight among those left (Plackett and Luce). The log-probability of drawing `order` [k] in
 * this order; -INFINITY when it has a position of weight 0. */
double wr_plackett_luce_order(const double *log_weight, size_t n, const int32_t *order, size_t k);

/* The log-probability that the drawing gives the set of positions with chosen [n] != 0, in any
 * order: exact up to rounding, by the integral over t > 0 of exp(-t) prod over chosen i of (1 -
 * exp(-a_i t)), a_i the weight of i over that of all that are not chosen (Kool et al. 2020). */
double wr_plackett_luce_set(const double *log_weight, const uint8_t *chosen, size_t n);

/* ---- input: -log P(Z | X) ---- */

/* -log P(Z | X) of a sentence: position i is masked with probability sigmoid(mask_logit[i]); where
 * visible[i] != 0 it is not, and shows a token with log-probability token_lp[i] (not read
 * elsewhere). */
double wr_mple_input(const double *mask_logit, const double *token_lp, const uint8_t *visible,
                     size_t n);

/* ---- estimate of C ---- */

/* Bits a token from the nats a token of two models trained by maximum likelihood on the same data,
 * one factorised, one autoregressive: (nat - at) / log 2. */
double wr_mple_correlation_bits(double nat_nll, double at_nll);

/* ---- dynamic distillation ---- */

/* How one of C candidate targets is chosen for a sentence: T* = argmin of nll(T) + cost(T), with
 * cost(T_j) = -beta sum_i gamma[i] BLEU(reference T_i, hypothesis T_j). */
typedef struct wr_dynamic {
    int candidates;      /* C */
    const double *gamma; /* [C] */
    double beta;
    bool normalise_gamma; /* gamma / sum gamma; the paper does not say; its formula reads raw */
    bool mean_nll;        /* nll a token instead of the sentence's sum, which the formula reads */
} wr_dynamic;

/* cost [C] from bleu [C, C], row: reference, column: hypothesis, per cent; the diagonal counts. */
void wr_dynamic_cost(const wr_dynamic *d, const double *bleu, double *cost);

/* The candidate (from 0; the first of equals) with the least total [C] (may be NULL). nll [C]:
 * -log P(T | X) of the student, whole sentences; NULL: no student yet, the cost alone decides.
 * tokens [C] is read for mean_nll. A candidate whose nll is not finite is passed over, unless all
 * are. */
int wr_dynamic_choose(const wr_dynamic *d, const double *cost, const double *nll,
                      const double *tokens, double *total);

#ifdef __cplusplus
}
#endif
#endif
