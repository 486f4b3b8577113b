/* objective_graph.h: an objective inside a graph: from logits and target words to a loss.
 *
 * Letters: B sentences, T positions, N target words, V words, C = N or N + 1 columns.
 *
 * The logits are read once forward (one pass gives the log-probabilities of the C words of each
 * sentence, and the log-sum-exp that the gradient needs) and once backward, in their own buffer, as
 * for cross-entropy; all else is [B, T, C] or smaller. A host function (ops/host.h) aligns the
 * sentences on all threads of the run and answers with their losses, whose gradient is given by the
 * weights that it found; nothing is differentiated through an alignment. */
#ifndef WEIR_MODELS_OBJECTIVES_OBJECTIVE_GRAPH_H
#define WEIR_MODELS_OBJECTIVES_OBJECTIVE_GRAPH_H

#include "models/objectives/objective.h"
#include "ops/host.h"

/* An objective as a function that graphs name. It stays where it is, unchanged, as long as a graph
 * or a program names it (e.g. beside the programs in a struct on the heap); several graphs, also in
 * several sessions, may share it. Nothing is to be freed. */
typedef struct wr_objective_host {
    wr_objective_config config;
    wr_host_fn fn;
} wr_objective_host;

/* `config` is copied; set its options before. */
void wr_objective_host_init(wr_objective_host *h, const wr_objective_config *config);

/* What a batch consists of. Poison ((wr){0}) leaves out what is optional. */
typedef struct wr_objective_inputs {
    wr logits;       /* [B, T, V] float; V is a literal size */
    wr ids;          /* [B, N] i32: target words, padded with any word of the vocabulary */
    wr position_len; /* [B] i32 <= T; the lengths of the targets for rows with `aligned` */
    wr target_len;   /* [B] i32 <= N */
    wr weight;       /* optional: [B, T] float of rows with `masked` (0 for words that the model
                      * was given); else 1 everywhere. Not read in padding. No gradient */
    wr update;       /* a number (rank 0; float or i32), how many updates were made; optional unless
                      * wr_objective_needs_update() */
    int32_t blank;   /* the blank or skip word of rows with `extra`, in [0, V) */
} wr_objective_inputs;

/* Losses of a batch. Per sentence [B]; 0 for sentences that are infeasible: without positions,
 * words or an alignment. Sums are scalars. All have the dtype of the logits.
 *
 *     each  = own loss + mean smooth                      (wr_objective_smoothing)
 *     sum   = sum over b of share each                    share: 1 / tokens for NORM_SENT_TOKEN,
 *     count = tokens, feasible sentences or positions              else 1
 *     total = sum / count                                 (0 when count is 0)
 *
 * Gradients are taken of total, sum or each, with respect to the logits and what is before them.
 * Over several batches (accumulated gradients, validation) sums and counts add up: the sum of sums
 * over the sum of counts is the loss of all batches as one. lp is differentiable, too; the
 * other values below are constants. NaN among the logits makes the sentence's loss, and its
 * gradient, NaN. */
typedef struct wr_objective_losses {
    wr total; /* what is minimised: smoothed and normalised as the config says */
    wr sum, count;
    wr nll;        /* the sum of `loss`: the objective without smoothing, not normalised */
    wr tokens;     /* loss tokens: target words, or the weights of masked rows */
    wr infeasible; /* how many sentences have no alignment: report it */
    wr each;       /* [B] smoothed */
    wr loss;       /* [B] not smoothed: the row's own number (for ctc -log p of all alignments) */
    wr tokens_of;  /* [B] */
    wr feasible;   /* [B] 1 or 0 */
    wr said;       /* [B, T] i32: the target word (from 0) that each position is to say in the
                    * (best) alignment, -1: none */
    wr lp;         /* [B, T, C] log-probabilities of the target words, then the blank's */
    wr w;          /* [B, T, C] their weights, zeros in padding: the alignment, or posteriors */
} wr_objective_losses;

/* Declare the losses. What no program reads is not computed (`said` of ctc is a second recursion).
 * Mistakes (poison, with a diagnostic): sizes or types that do not fit, a weight for a row that is
 * not masked, no `update` where one is needed, a blank outside the vocabulary. Errors in a run,
 * naming the objective and the sentence: those of wr_objective_run(). */
wr_objective_losses wr_objective_losses_of(const wr_objective_host *h,
                                           const wr_objective_inputs *in);

#endif
