/* check_bijection.h: is a declared layer a bijection with the log-determinant that was derived?
 *
 * For whoever writes a flow layer: three lines after its declaration, in f64, on small sizes:
 *
 *     wr x = wr_input(g, "x", WR_F64, WR_DIMS(B, T, wr_n(6))), y = my_layer(x);
 *     wr_bijection f = {.n_in = 1, .ins = &x, .n_out = 1, .outs = &y};
 *     wr_check_bijection(&f, NULL, &report, &err);      then wr_check_print(&report, stdout)
 */
#ifndef WEIR_CHECK_BIJECTION_H
#define WEIR_CHECK_BIJECTION_H

#include "autodiff/invert.h"
#include "graph/session.h"

#include <stdio.h>

/* The value of a symbol. */
typedef struct wr_check_size {
    const char *name;
    int64_t value;
} wr_check_size;

/* Zeros, and NULL for the whole, are good answers. */
typedef struct wr_check_options {
    /* Symbols without a value get a small one: 3 for the batch, else the first legal one from 4. */
    int n_sizes;
    const wr_check_size *sizes;
    /* Values of inputs by name, f64 or i32; sizes of symbols follow from them. Other inputs are
     * normal numbers; masks begin with ones, lengths count down from the longest, indices are
     * permutations where they can be. The numbers at a position do not depend on the sizes. */
    int n_values;
    const wr_feed *values;
    /* With low < high: what is inverted is uniform in [low, high), e.g. positive. */
    double low, high;
    /* Deviation of what is added to all parameters, so that layers that begin as the identity are
     * not checked there; 0: 0.1, negative: nothing is added. */
    double noise;
    uint64_t seed;
    double bound; /* of errors, relative to 1 + the size of what is compared; 0: 1e-8 */
} wr_check_options;

typedef enum wr_check {
    WR_CHECK_THERE_AND_BACK, /* x -> y -> x */
    WR_CHECK_BACK_AND_THERE, /* y -> x -> y, at another point */
    WR_CHECK_LOG_DETS,       /* the forward and the inverse log-determinant cancel */
    WR_CHECK_JACOBIAN,       /* against log |det| of 4-point differences, sentence by sentence */
    WR_CHECK_SENTENCES,      /* no sentence reads another one */
    WR_CHECK_PADDING,        /* what stands in padding changes nothing, in either direction */
    WR_CHECK_LONGER,         /* nor does more padding */
    WR_CHECK_GRADIENT,       /* gradients of both directions are finite */
    WR_CHECKS
} wr_check;

typedef struct wr_check_result {
    bool done, passed; /* not done: nothing to check, see the note */
    double error;      /* the largest */
    char note[120];    /* where it is; or why it was not done */
} wr_check_result;

typedef struct wr_check_report {
    bool passed; /* all that were done */
    wr_check_result result[WR_CHECKS];
    double bound;
    int64_t sentences, elements, valid; /* elements of the inputs, and those that are no padding */
} wr_check_report;

/* Derive, run, compare. The inputs of f are inputs of the graph (wr_input), f64, batch first; its
 * outputs have the batch first, too. Adds nodes to the graph. A check that fails is no error: see
 * report->passed. Errors: what f is made of is not f64 or no bijection can be derived (the graph's
 * report), an i32 input whose values cannot be guessed, a run that fails, memory. */
wr_status wr_check_bijection(const wr_bijection *f, const wr_check_options *o,
                             wr_check_report *report, wr_error *err);

/* What was checked, the largest errors, the verdict. */
void wr_check_print(const wr_check_report *report, FILE *out);

#endif
