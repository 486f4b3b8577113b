/* flowseq_recipe.h: the FlowSeq that a recipe describes. */
#ifndef WEIR_FLOWSEQ_RECIPE_H
#define WEIR_FLOWSEQ_RECIPE_H

#include "models/flowseq.h"
#include "models/recipe.h"

/* The model of `model.type: flowseq`, in f32, for sentences of up to model.max_len tokens rounded
 * up to data.length_multiple. The length unit is that of the prior's layers. With
 * `flowseq.literal`, channels are factored out alternately where an item says `halves`. Errors:
 * WR_ERR_INPUT, naming key and item, for a prior that does not parse or does not fit model.dim. */
wr_status wr_flowseq_of(const wr_recipe *r, int src_vocab, int tgt_vocab, bool training,
                        wr_flowseq *f, wr_error *err);

#endif
