/* ce.c: cross-entropy: position t is to say target word t. Usually normalised by the tokens of the
 * batch. cmlm.c and glat.c are the same over the positions that the model was not given. */
#include "models/objectives/ce.h"

double wr__ce_weigh(const wr_objective_config *c, wr_objective_sentence *s) {
    (void)c;
    double loss = 0;
    s->tokens = 0;
    for (int t = 0; t < s->costs.positions; t++) {
        size_t at = (size_t)t * s->costs.stride + (size_t)t;
        double weight = s->weight == NULL ? 1 : s->weight[t];
        if (s->said != NULL) s->said[t] = weight == 0 ? -1 : t;
        if (weight == 0) continue;
        loss -= weight * s->costs.lp[at];
        s->w[at] = weight;
        s->tokens += weight;
    }
    return loss;
}

const wr_objective wr_objective_ce = {
    .name = "ce",
    .doc = "cross-entropy: position t says target word t",
    .aligned = true,
    .masked = true,
    .norm = WR_NORM_TOKEN,
    .weigh = wr__ce_weigh,
};
