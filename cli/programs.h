/* programs.h: a recipe's model compiled for training and validation.
 *
 * Training goes through one or more stages; each has programs of its own, all in one session. What
 * a program sums over a batch are its terms: its first outputs. */
#ifndef WEIR_CLI_PROGRAMS_H
#define WEIR_CLI_PROGRAMS_H

#include "cli/feeds.h"
#include "graph/session.h"
#include "models/nat_loss.h"
#include "models/recipe.h"
#include "models/transformer.h"

enum { WR_STAGES = 2, WR_TERMS = 10 };
/* A fed scalar of FlowSeq's main stage, f32. */
#define WR_KL_WEIGHT "kl_weight"

/* What a sum is divided by in reports. */
typedef enum wr_per {
    WR_PER_SENTENCE,
    WR_PER_TOKEN,
    WR_PER_FEATURE,
    WR_PER_NOTHING /* a count: shown where it is not 0 */
} wr_per;

typedef struct wr_term {
    const char *name;
    wr_per per;
    bool root; /* a sum of squares: its mean's root is told */
} wr_term;

typedef struct wr_stage {
    const char *name; /* NULL: the only one */
    const wr_term *term;
    int terms;
    int64_t first;          /* update at which it begins, from 0 */
    wr_program *params;     /* run once before its first update, nothing fed; NULL: none */
    wr_program *start;      /* run once behind that, on a batch; NULL: none */
    wr_program *update;     /* forward, backward, clipping, Adam; outputs: terms, norm, applied */
    wr_program *accumulate; /* the same without the update, outputs: terms, norm; NULL unless
                             * train.accumulate > 1 */
} wr_stage;

/* What the programs of a non-autoregressive model name. */
typedef struct wr_nat_programs {
    wr_nat_training training;
    wr_term term[WR_TERMS];
} wr_nat_programs;

typedef struct wr_programs {
    wr_stage stage[WR_STAGES];
    int stages;
    wr_program *valid; /* the terms of the last stage without dropout; if fewer, the first ones */
    wr_per weight;     /* what the loss of a batch is divided by */
    int features;      /* of a token, for WR_PER_FEATURE */
    wr_feeding feeding;
    wr_nat_programs *nat; /* of a non-autoregressive model, else NULL */
} wr_programs;

/* The Transformer of a recipe; `training` turns dropout on. */
wr_transformer wr_transformer_of(const wr_recipe *r, int src_vocab, int tgt_vocab, bool training);

/* model.max_len rounded up to data.length_multiple: the longest padded sentence. */
int wr_padded_max_len(const wr_recipe *r);

/* Compile what training needs. Errors: those of the graph. */
wr_status wr_programs_new(const wr_recipe *r, int src_vocab, int tgt_vocab, wr_programs *p,
                          wr_error *err);
void wr_programs_free(wr_programs *p);

/* The same for validating alone, of a non-autoregressive model: `valid`, and stage[0] with its
 * terms and no programs. */
wr_status wr_programs_new_nat_valid(const wr_recipe *r, int src_vocab, int tgt_vocab,
                                    wr_programs *p, wr_error *err);

/* The stage of the update that follows `update` others. */
const wr_stage *wr_programs_stage(const wr_programs *p, int64_t update);

/* How many terms `valid` gives. */
int wr_programs_valid_terms(const wr_programs *p);

/* `sum` as a report shows it, for a number of sentences and tokens. */
double wr_term_value(const wr_programs *p, const wr_term *term, double sum, double sentences,
                     double tokens);

/* What a step is fed with besides the batch: numbers that are to stay until it has run. */
typedef struct wr_step_numbers {
    double lr, scale; /* of the update */
    float kl;
    int32_t update; /* made before this one */
} wr_step_numbers;

/* Append those that `p` reads to n feeds; returns how many there are then. */
int wr_programs_feed(const wr_program *p, const wr_step_numbers *x, wr_feed *feed, int n);

/* A scalar output of the session's last run as a double. */
double wr_output_number(wr_session *s, int k);

#endif
