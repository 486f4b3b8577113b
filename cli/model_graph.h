/* model_graph.h: the graph of a recipe's model, for commands that look at it without running it. */
#ifndef WEIR_CLI_MODEL_GRAPH_H
#define WEIR_CLI_MODEL_GRAPH_H

#include "graph/graph.h"
#include "models/nat_loss.h"
#include "models/recipe.h"

/* A recipe with the sizes of its vocabularies. */
typedef struct wr_model_sizes {
    wr_recipe recipe;
    int src_vocab, tgt_vocab;
    bool from_run;       /* the vocabularies are those of a run directory */
    wr_nat_training nat; /* what graphs of a non-autoregressive model name: keep it beside them */
} wr_model_sizes;

/* "Transformer", as reports say it. */
const char *wr_model_name(wr_recipe_model_type type);

/* Is it a directory? */
bool wr_is_directory(const char *path);

/* What the option --vocab of commands for recipes says. */
#define WR_VOCAB_HELP                                                                              \
    "of a recipe: size of the vocabularies, or of source and target as N,M; without it as the "    \
    "recipe says, else 10000"

/* Read a recipe file or a run directory. The vocabularies of a run are those of its subword models,
 * or what its recipe says (data.src_vocab, data.tgt_vocab) when there are none; those of a recipe
 * are as `vocab` says ("N" or "N,M", may be NULL), else as the recipe does, else of 10000 pieces.
 * Errors: WR_ERR_USAGE for a wrong `vocab`, those of wr_recipe_load and wr_subword_load. */
wr_status wr_model_sizes_read(const char *path, const char *vocab, wr_model_sizes *m,
                              wr_error *err);

/* The vocabularies of the recipe m->recipe as said above. */
wr_status wr_model_sizes_vocab(const char *vocab, wr_model_sizes *m, wr_error *err);

/* What to build of it. */
typedef struct wr_model_graph_options {
    bool training; /* with dropout */
    bool gradient; /* with the gradient of all parameters */
    bool untraced; /* without the callers of nodes */
    /* when not NULL: the seconds that the loss and its gradient took */
    double *loss_seconds, *gradient_seconds;
} wr_model_graph_options;

/* Build the loss. `*live` tells the nodes that belong to it (free() it). `*graph` holds mistakes if
 * there are any, which is not an error here. Errors: WR_ERR_MEMORY; WR_ERR_INPUT for lists of
 * layers `prior.*` that make no prior. `m` must outlive the graph. */
wr_status wr_model_graph_new(wr_model_sizes *m, const wr_model_graph_options *o, wr_graph **graph,
                             bool **live, wr_error *err);

#endif
