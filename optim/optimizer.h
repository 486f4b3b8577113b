/* optimizer.h: from a scalar loss to the nodes that update its parameters.
 *
 * The update is part of the graph, so that forward, backward, clipping and update are one plan. Its
 * memory is in states of the session: `optim.step`, and for each parameter P `optim.m.P`,
 * `optim.v.P`, with amsgrad `optim.top.P`, with accumulation `optim.sum.P`.
 *
 * Gradient accumulation over k batches takes two programs, made from two graphs (a program holds
 * every node of its graph that writes): one of part WR_OPTIMIZER_ACCUMULATE, run for the first k -
 * 1 batches, and one of part WR_OPTIMIZER_UPDATE with `accumulate` set, run for the last.
 * `optim.keep` is fed 0 for the first batch of an update and 1 for the others, so that nothing must
 * be cleared, and a checkpoint between updates needs no sums. The loss of every batch is then a sum
 * over tokens, and `optim.scale` is 1 / tokens of all k batches. */
#ifndef WEIR_OPTIM_OPTIMIZER_H
#define WEIR_OPTIM_OPTIMIZER_H

#include "graph/session.h"
#include "models/recipe.h"
#include "ops/update.h"

typedef enum wr_optimizer_part {
    WR_OPTIMIZER_UPDATE,    /* gradients, (their sums,) and the update */
    WR_OPTIMIZER_ACCUMULATE /* gradients are added to the sums; parameters stay */
} wr_optimizer_part;

typedef struct wr_optimizer_options {
    wr_adam_options adam;
    wr_optimizer_part part;
    bool accumulate;  /* WR_OPTIMIZER_UPDATE: the update is by the sums (input optim.keep) */
    int n_params;     /* 0: all that the loss depends on */
    const wr *params; /* else these parameters */
} wr_optimizer_options;

/* What the recipe says, for part WR_OPTIMIZER_UPDATE. */
wr_optimizer_options wr_optimizer_options_of(const wr_recipe *recipe);

/* Names of the fed scalars, all f64. A program has those that are no poison in its wr_optimizer. */
#define WR_OPTIM_LR "optim.lr" /* learning rate */
#define WR_OPTIM_SCALE                                                                             \
    "optim.scale" /* gradients are multiplied by it; 1 for a loss that is a mean */
#define WR_OPTIM_KEEP   "optim.keep" /* 0: the sums begin anew, 1: they go on */
#define WR_OPTIM_STATES "optim."     /* what the names of the optimizer's states begin with */
#define WR_OPTIM_SUMS   "optim.sum." /* and of the sums */

typedef struct wr_optimizer {
    wr lr, scale, keep; /* fed scalars; poison: not in this program */
    wr norm;            /* f64 [] of the scaled gradient before clipping; for
                         * WR_OPTIMIZER_ACCUMULATE of the sums so far, in the loss' dtype */
    wr applied;         /* i32 []: 1, or 0 where the norm was not finite and nothing was changed;
                         * poison for WR_OPTIMIZER_ACCUMULATE */
    int n_params;
} wr_optimizer;

/* The parameters that the gradient of `x` can reach, in their order of creation: not those behind
 * wr_stop_gradient only. `*params` is malloc'ed. Errors: memory. */
wr_status wr_optimizer_params(wr x, wr **params, int *n, wr_error *err);

/* Add gradients and update to the graph of `loss`, a scalar. Call it outside of all scopes. Errors:
 * mistakes of the graph so far or found here (WR_ERR_INPUT, with their report), a loss that depends
 * on no parameter, memory. */
wr_status wr_optimizer_build(wr loss, const wr_optimizer_options *o, wr_optimizer *optimizer,
                             wr_error *err);

/* Make the optimizer new: every state of the session that is named `optim.*` becomes zero, so that
 * the next update is the first one (FlowSeq's main phase begins so). Parameters stay. Errors:
 * memory, and those of the device. */
wr_status wr_optimizer_reset(wr_session *s, wr_error *err);

#endif
