/* oaxe.c: order-agnostic cross-entropy (Du et al. 2021): the cheapest one-to-one assignment of
 * target words to positions. Usually normalised by the tokens of the batch.
 *
 * Two ways keep a model from degenerate orders: cross-entropy for the first `pretrain` updates, and
 * a share of cross-entropy in the loss, tau XE + (1 - tau) OaXE, which falls from 1 to 0 over
 * `anneal` updates after that, or stays at `mix`. Truncation drops positions whose assigned word is
 * less probable than `trunc_prob` from the OaXE part; the authors' program compares the natural
 * logarithm with one of base 2, which `trunc_log2` reproduces. */
#include "models/objectives/objective.h"

#include <math.h>
#include <string.h>

enum { TRUNC_PROB, TRUNC_LOG2, MIX, ANNEAL, PRETRAIN };

/* The share of cross-entropy at an update. */
static double share_of_ce(const wr_objective_config *c, double update) {
    double since = update - c->value[PRETRAIN];
    if (since < 0) return 1;
    if (c->value[ANNEAL] > 0) return fmax(0, 1 - since / c->value[ANNEAL]);
    return c->value[MIX];
}

/* The largest negative log-probability that is kept. */
static double margin(const wr_objective_config *c) {
    double p = c->value[TRUNC_PROB];
    if (p <= 0) return INFINITY;
    return c->value[TRUNC_LOG2] != 0 ? -log2(p) : -log(p);
}

/* The parts of the workspace. */
typedef struct assignment {
    double *cost, *row_price, *column_price; /* [N, N], [N], [N] */
    int32_t *column;                         /* [N] */
    void *rest;
} assignment;

static size_t workspace(int positions, int targets) {
    (void)targets;
    size_t n = (size_t)positions;
    return (n * n + 2 * n) * sizeof(double) + (n + 1) / 2 * 2 * sizeof(int32_t) +
           wr_assign_workspace(positions);
}

static assignment parts_of(void *workspace, size_t n) {
    assignment a = {.cost = workspace};
    a.row_price = a.cost + n * n;
    a.column_price = a.row_price + n;
    a.column = (int32_t *)(a.column_price + n);
    a.rest = a.column + (n + 1) / 2 * 2;
    return a;
}

static double assign(const wr_gathered *s, const assignment *a) {
    size_t n = (size_t)s->targets;
    for (size_t t = 0; t < n; t++)
        for (size_t k = 0; k < n; k++)
            a->cost[t * n + k] = -s->lp[t * s->stride + k];
    return wr_assign((int)n, a->cost, n, a->column, a->row_price, a->column_price, a->rest);
}

/* Add `share` of saying target `k` at position t; returns its part of the loss. */
static double add(const wr_objective_sentence *s, int t, int k, double share) {
    size_t at = (size_t)t * s->costs.stride + (size_t)k;
    if (share == 0) return 0;
    s->w[at] += share;
    return -share * s->costs.lp[at];
}

static double weigh(const wr_objective_config *c, wr_objective_sentence *s) {
    int n = s->costs.positions;
    double ce = share_of_ce(c, s->update), most = margin(c), loss = 0;
    assignment a = parts_of(s->workspace, (size_t)n);
    s->tokens = n;
    if (assign(&s->costs, &a) == INFINITY) return INFINITY;
    for (int t = 0; t < n; t++) {
        int k = a.column[t];
        bool kept = -s->costs.lp[(size_t)t * s->costs.stride + (size_t)k] <= most;
        loss += add(s, t, t, ce) + add(s, t, k, kept ? 1 - ce : 0);
        if (s->said != NULL) s->said[t] = kept || ce > 0 ? k : -1;
    }
    return loss;
}

static bool needs_update(const wr_objective_config *c) {
    return c->value[ANNEAL] > 0 || c->value[PRETRAIN] > 0;
}

static wr_status check(const wr_objective_config *c, wr_error *err) {
    if (c->value[MIX] > 0 && c->value[ANNEAL] > 0)
        return wr_fail(err, WR_ERR_INPUT,
                       "oaxe: mix fixes the share of cross-entropy, anneal lets it fall; leave one "
                       "out");
    if (c->value[TRUNC_LOG2] != 0 && c->value[TRUNC_PROB] == 0)
        return wr_fail(err, WR_ERR_INPUT, "oaxe: trunc_log2 needs trunc_prob");
    return WR_OK;
}

const wr_objective wr_objective_oaxe = {
    .name = "oaxe",
    .doc = "order-agnostic cross-entropy: the cheapest assignment",
    .aligned = true,
    .norm = WR_NORM_TOKEN,
    .options =
        {
            [TRUNC_PROB] = {"trunc_prob", WR_OBJECTIVE_REAL, 0, 0, 1, NULL,
                            "drop positions whose word is less probable than this"},
            [TRUNC_LOG2] = {"trunc_log2", WR_OBJECTIVE_SWITCH, 0, 0, 1, NULL,
                            "compare with the logarithm of base 2, as the authors' program does"},
            [MIX] = {"mix", WR_OBJECTIVE_REAL, 0, 0, 1, NULL,
                     "the share of cross-entropy in the loss"},
            [ANNEAL] = {"anneal", WR_OBJECTIVE_REAL, 0, 0, 1e12, NULL,
                        "updates over which the share of cross-entropy falls from 1 to 0"},
            [PRETRAIN] = {"pretrain", WR_OBJECTIVE_REAL, 0, 0, 1e12, NULL,
                          "updates of cross-entropy alone before that"},
        },
    .weigh = weigh,
    .workspace = workspace,
    .needs_update = needs_update,
    .check = check,
};
