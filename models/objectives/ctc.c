/* ctc.c: connectionist temporal classification (Graves et al. 2006): all alignments together. The
 * extra column is the blank. Usually normalised by the target words of each sentence, then
 * averaged. */
#include "models/objectives/objective.h"

static double weigh(const wr_objective_config *c, wr_objective_sentence *s) {
    (void)c;
    s->tokens = s->costs.targets;
    if (s->said != NULL) wr_ctc_best(&s->costs, s->ids, s->said, s->workspace);
    return wr_ctc(&s->costs, s->ids, s->w, s->workspace);
}

const wr_objective wr_objective_ctc = {
    .name = "ctc",
    .doc = "all alignments that collapse to the target, blanks between",
    .extra = true,
    .marginal = true,
    .norm = WR_NORM_SENT_TOKEN,
    .weigh = weigh,
    .workspace = wr_ctc_workspace,
    .least_positions = wr_ctc_least_positions,
};
