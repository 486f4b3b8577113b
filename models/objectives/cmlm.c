/* cmlm.c: the conditional masked language model (Ghazvininejad et al. 2019): cross-entropy over the
 * masked positions (weight 1); the words of the others are inputs (weight 0). Normalised by the
 * masked tokens of the batch. */
#include "models/objectives/ce.h"

const wr_objective wr_objective_cmlm = {
    .name = "cmlm",
    .doc = "cross-entropy over the positions that are masked in the input",
    .aligned = true,
    .masked = true,
    .norm = WR_NORM_TOKEN,
    .weigh = wr__ce_weigh,
};
