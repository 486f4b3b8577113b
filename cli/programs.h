/* programs.h: a recipe's model compiled for training and validation. */
#ifndef WEIR_CLI_PROGRAMS_H
#define WEIR_CLI_PROGRAMS_H

#include "graph/session.h"
#include "models/recipe.h"
#include "models/transformer.h"

/* Outputs of the update program, in order. */
enum { WR_UPDATE_LOSS, WR_UPDATE_NLL, WR_UPDATE_TOKENS, WR_UPDATE_NORM, WR_UPDATE_APPLIED };
/* Outputs of the accumulating and the validation program. */
enum { WR_SUM_LOSS, WR_SUM_NLL, WR_SUM_TOKENS, WR_SUM_NORM };

typedef struct wr_programs {
    wr_program *update;     /* forward, backward, clipping, Adam */
    wr_program *accumulate; /* the same without the update; NULL unless train.accumulate > 1 */
    wr_program *valid;      /* the loss without dropout */
} wr_programs;

/* The Transformer of a recipe; `training` turns dropout on. */
wr_transformer wr_transformer_of(const wr_recipe *r, int src_vocab, int tgt_vocab, bool training);

/* model.max_len rounded up to data.length_multiple: the longest padded sentence. */
int wr_padded_max_len(const wr_recipe *r);

/* Compile what training needs. Errors: those of the graph. */
wr_status wr_programs_new(const wr_recipe *r, int src_vocab, int tgt_vocab, wr_programs *p,
                          wr_error *err);
void wr_programs_free(wr_programs *p);

/* A scalar output of the session's last run as a double. */
double wr_output_number(wr_session *s, int k);

#endif
