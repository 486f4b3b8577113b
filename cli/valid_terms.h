/* valid_terms.h: the terms of a loss over a split, as a validation has them. */
#ifndef WEIR_CLI_VALID_TERMS_H
#define WEIR_CLI_VALID_TERMS_H

#include "cli/programs.h"
#include "data/pairs.h"

/* How to go through the pairs. */
typedef struct wr_validating {
    const wr_recipe *recipe;
    wr_session *session;                                        /* that has the parameters */
    size_t max_tokens;                                          /* of a batch; 0: data.max_tokens */
    void (*progress)(void *context, size_t done, size_t total); /* sentences; may be NULL */
    void *context;
} wr_validating;

/* Run `program` on each batch of `pairs` that is not longer than `feeding` says, longest first, and
 * `take` its outputs. Batches and random numbers are the same each time, and no step of training
 * has these numbers: so scores of different updates compare. An objective that is annealed is what
 * it becomes. `*left_out` is the number of sentences that are too long. */
typedef void (*wr_valid_take)(void *context, const wr_batch *b, const wr_fed *fed, wr_session *s);
wr_status wr_valid_run(const wr_validating *v, const wr_feeding *feeding, wr_program *program,
                       const wr_pairs *pairs, wr_valid_take take, void *context, int64_t *left_out,
                       wr_error *err);

/* Sums over all sentences that are not too long; wr_term_value() makes them values. */
typedef struct wr_valid_sums {
    double term[WR_TERMS], sentences, tokens;
    int64_t left_out;
    int terms;
} wr_valid_sums;
wr_status wr_valid_sum(const wr_validating *v, const wr_programs *p, const wr_pairs *pairs,
                       wr_valid_sums *x, wr_error *err);

#endif
