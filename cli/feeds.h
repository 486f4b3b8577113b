/* feeds.h: a batch of sentence pairs as the inputs of a model's graphs. */
#ifndef WEIR_CLI_FEEDS_H
#define WEIR_CLI_FEEDS_H

#include "data/batches.h"
#include "graph/session.h"
#include "models/flowseq_batch.h"
#include "models/nat_batch.h"
#include "models/recipe.h"

enum { WR_FEEDS_MOST = 12 };

/* How a family of models reads sentences. */
typedef struct wr_feeding {
    wr_recipe_model_type type;
    int unit;                  /* FlowSeq: target lengths are multiples of it */
    wr_recipe_framing framing; /* of non-autoregressive models */
    int multiple;
    int max_len;
} wr_feeding;

/* A batch as feeds; they point into the batch and into this. Zero-initialise, free at the end;
 * filling it again uses its memory again. */
typedef struct wr_fed {
    wr_feed feed[WR_FEEDS_MOST];
    int n;
    double sentences, tokens; /* tokens of the targets, as the model counts them */
    wr_flowseq_batch packed;
    wr_nat_batch framed;
} wr_fed;

wr_status wr_fed_fill(const wr_feeding *f, const wr_batch *b, wr_fed *fed, wr_error *err);
void wr_fed_free(wr_fed *fed);

/* Sentences and target tokens of a batch, without filling anything. */
void wr_fed_count(const wr_feeding *f, const wr_batch *b, double *sentences, double *tokens);

#endif
