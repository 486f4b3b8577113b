/* model_plan.h: what else there is of a recipe's model without running it: the inverse of its flow,
 * and the plan of a training step. */
#ifndef WEIR_CLI_MODEL_PLAN_H
#define WEIR_CLI_MODEL_PLAN_H

#include "cli/model_graph.h"
#include "cli/programs.h"
#include "graph/plan.h"

/* A batch: sentence pairs, source and target tokens of each, padding included. */
typedef struct wr_batch_sizes {
    int64_t batch, src_len, tgt_len;
} wr_batch_sizes;

/* Values for the symbols B, S and T of a graph. */
wr_binding wr_model_binding(const wr_graph *g, const wr_batch_sizes *sizes);

/* Is there a flow to invert? */
bool wr_model_has_flow(const wr_model_sizes *m);

/* Round a target length up to what the flow can divide; other models take any. Errors: those of
 * wr_recipe_prior_stack. */
wr_status wr_model_round_length(const wr_model_sizes *m, int64_t *tgt_len, wr_error *err);

/* Build z and its log-determinant from noise, by the inverse of the prior's declared density:
 * what decoding does. Results and errors as those of wr_model_graph_new; WR_ERR_INPUT also for a
 * model without a flow. */
wr_status wr_model_inverse_new(const wr_model_sizes *m, wr_graph **graph, bool **live,
                               wr_error *err);

/* A training step of the last stage, planned. */
typedef struct wr_model_plan {
    wr_programs programs; /* what the plan is of */
    wr_plan *plan;
} wr_model_plan;

/* Plan it for a batch on the processor. Call wr_model_plan_free() after a failure, too. Errors:
 * those of the graph, sizes out of the symbols' ranges. */
wr_status wr_model_plan_new(const wr_model_sizes *m, const wr_batch_sizes *sizes,
                            wr_model_plan *plan, wr_error *err);
void wr_model_plan_free(wr_model_plan *plan);

#endif
