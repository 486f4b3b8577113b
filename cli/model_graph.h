/* model_graph.h: the graph of a recipe's model, for commands that look at it without running it. */
#ifndef WEIR_CLI_MODEL_GRAPH_H
#define WEIR_CLI_MODEL_GRAPH_H

#include "graph/graph.h"
#include "models/recipe.h"

/* A recipe with the sizes of its vocabularies. */
typedef struct wr_model_sizes {
    wr_recipe recipe;
    int src_vocab, tgt_vocab;
    bool from_run; /* the vocabularies are those of a run directory */
} wr_model_sizes;

/* Is it a directory? */
bool wr_is_directory(const char *path);

/* Read a recipe file, whose vocabularies get `vocab` pieces, or a run directory with its recipe and
 * subword models. Errors: those of wr_recipe_load and wr_subword_load. */
wr_status wr_model_sizes_read(const char *path, int64_t vocab, wr_model_sizes *m, wr_error *err);

/* What to build of it. */
typedef struct wr_model_graph_options {
    bool training; /* with dropout */
    bool gradient; /* with the gradient of all parameters */
} wr_model_graph_options;

/* Build the loss. `*live` tells the nodes that belong to it (free() it). `*graph` holds mistakes if
 * there are any, which is not an error here. Errors: WR_ERR_MEMORY. */
wr_status wr_model_graph_new(const wr_model_sizes *m, const wr_model_graph_options *o,
                             wr_graph **graph, bool **live, wr_error *err);

#endif
