/* nat_loss.h: the training loss of a non-autoregressive model: an objective (models/objectives/)
 * over what the decoder says, and the loss of the length.
 *
 * Letters as in nat.h; N target words, framed as the model says. */
#ifndef WEIR_NAT_LOSS_H
#define WEIR_NAT_LOSS_H

#include "models/nat.h"
#include "models/nat_reveal.h"
#include "models/objectives/objective_graph.h"

/* What a model is trained by. It stays where it is, unchanged, as long as a graph or a program that
 * was made with it; several may share it. */
typedef struct wr_nat_training {
    wr_objective_host objective;
    wr_nat_revealing revealing;
    double length_weight;
} wr_nat_training;

typedef struct wr_nat_pairs {
    wr src, src_len; /* [B, S], [B] */
    wr tgt, tgt_len; /* [B, N], [B] framed */
} wr_nat_pairs;

/* Declare the inputs `src`, `src_len`, `tgt`, `tgt_len` with symbols B, S, T (for N). */
wr_nat_pairs wr_nat_inputs(const wr_nat *n, wr_graph *g);

/* The name of a fed i32 scalar: updates made before this one. Declared where the loss needs it. */
#define WR_NAT_UPDATE "update"

/* Scalars. */
typedef struct wr_nat_losses {
    wr total; /* what is minimised: the objective's loss, normalised, + length_weight mean length */
    wr nll;   /* the objective without smoothing, a mean over its loss tokens */
    wr length;     /* -log p of the right length, a mean over sentences; poison with frames */
    wr length_of;  /* [B] the same of each sentence */
    wr infeasible; /* sentences without an alignment, which count nowhere */
    wr given;      /* share of the target's positions (or frames) that the decoder was given as
                    * input; poison when the objective gives none */
    wr_objective_losses objective;
    wr logits; /* [B, T, V + 2] */
} wr_nat_losses;

/* The losses of a batch. `reveal` false: the decoder is given nothing of the target, as in
 * translation (for validation). */
wr_nat_losses wr_nat_losses_of(const wr_nat *n, const wr_nat_training *t, const wr_nat_pairs *in,
                               bool reveal);

#endif
