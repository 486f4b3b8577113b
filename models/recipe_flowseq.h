/* recipe_flowseq.h: the FlowSeq model that a recipe describes. */
#ifndef WEIR_RECIPE_FLOWSEQ_H
#define WEIR_RECIPE_FLOWSEQ_H

#include "models/flowseq.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The lists `prior.*` as a stack, checked against the model's width. Errors: WR_ERR_INPUT, naming
 * key and item. */
wr_status wr_recipe_prior_stack(const wr_recipe *r, wr_flow_stack *stack, wr_error *err);

/* The model with vocabularies of these sizes, in f32; `training` turns dropout on. Its positions
 * reach to model.max_len rounded up to wr_recipe_length_multiple(). Errors: WR_ERR_INPUT for a
 * prior that cannot be, for joint embeddings with two sizes, for another model.type. */
wr_status wr_recipe_flowseq_model(const wr_recipe *r, int src_vocab, int tgt_vocab, bool training,
                                  wr_flowseq *f, wr_error *err);

/* What lengths of batches are rounded up to: the least multiple of data.length_multiple that the
 * unit of lengths divides. */
int wr_recipe_length_multiple(const wr_recipe *r, int unit);

#ifdef __cplusplus
}
#endif
#endif
