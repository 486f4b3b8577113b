/* axe.c: aligned cross-entropy (Ghazvininejad et al. 2020) in the original form and in that of the
 * MPLE paper (Huang et al. 2022). The extra column is the word that means "nothing". Usually
 * normalised by the target words of each sentence, then averaged, so that learning rates of
 * cross-entropy fit. */
#include "models/objectives/objective.h"

enum { SKIP_PENALTY, FORM };

static double weigh(const wr_objective_config *c, wr_objective_sentence *s) {
    wr_axe_path path = {.said = s->said};
    wr_axe_form form = c->value[FORM] == 0 ? WR_AXE_ORIGINAL : WR_AXE_MPLE;
    s->tokens = s->costs.targets;
    return wr_axe(&s->costs, form, c->value[SKIP_PENALTY], s->w, &path, s->workspace);
}

const wr_objective wr_objective_axe = {
    .name = "axe",
    .doc = "aligned cross-entropy: the cheapest monotone alignment",
    .extra = true,
    .norm = WR_NORM_SENT_TOKEN,
    .options =
        {
            [SKIP_PENALTY] = {"skip_penalty", WR_OBJECTIVE_REAL, 1, 0, 1e6, NULL,
                              "what skipping a target word costs, as a multiple of saying it"},
            [FORM] = {"form", WR_OBJECTIVE_CHOICE, 0, 0, 0, "original|mple",
                      "the recurrence: the original paper's, or that of the MPLE paper"},
        },
    .weigh = weigh,
    .workspace = wr_axe_workspace,
};
