/* model_graph.c: see model_graph.h. */
#include "cli/model_graph.h"

#include "autodiff/grad.h"
#include "data/subword.h"
#include "graph/plan.h"
#include "models/transformer.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

bool wr_is_directory(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

/* ---- sizes ---- */

static wr_status read_vocab(const char *path, int *vocab, wr_error *err) {
    wr_subword *model = NULL;
    wr_status status = wr_subword_load(path, &model, err);
    if (status != WR_OK) return status;
    *vocab = wr_subword_vocab(model);
    wr_subword_free(model);
    return WR_OK;
}

/* "DIR/NAME" in `path`. */
static wr_status join(wr_str *path, const char *dir, const char *name, wr_error *err) {
    wr_str_clear(path);
    wr_str_add(path, "%s/%s", dir, name);
    return path->oom ? wr_fail_memory(err, name, path->len) : WR_OK;
}

/* The vocabularies of a run directory: joint.model, or source.model and target.model. */
static wr_status read_vocabs(wr_str *path, const char *dir, wr_model_sizes *m, wr_error *err) {
    wr_status status = join(path, dir, "joint.model", err);
    if (status != WR_OK) return status;
    if (access(wr_str_text(path), F_OK) == 0) {
        status = read_vocab(wr_str_text(path), &m->src_vocab, err);
        m->tgt_vocab = m->src_vocab;
        return status;
    }
    status = join(path, dir, "source.model", err);
    if (status == WR_OK) status = read_vocab(wr_str_text(path), &m->src_vocab, err);
    if (status == WR_OK) status = join(path, dir, "target.model", err);
    if (status == WR_OK) status = read_vocab(wr_str_text(path), &m->tgt_vocab, err);
    return status;
}

wr_status wr_model_sizes_read(const char *path, int64_t vocab, wr_model_sizes *m, wr_error *err) {
    *m = (wr_model_sizes){
        .src_vocab = (int)vocab, .tgt_vocab = (int)vocab, .from_run = wr_is_directory(path)};
    if (!m->from_run) return wr_recipe_load(path, NULL, 0, &m->recipe, err);
    wr_str text = {0};
    wr_status status = join(&text, path, "recipe.yaml", err);
    if (status == WR_OK) status = wr_recipe_load(wr_str_text(&text), NULL, 0, &m->recipe, err);
    if (status == WR_OK) status = read_vocabs(&text, path, m, err);
    wr_str_free(&text);
    return status;
}

/* ---- the graph ---- */

static uint32_t count_parameters(const wr_graph *g) {
    uint32_t n = 0;
    for (uint32_t id = 1; id < wr_node_count(g); id++)
        n += wr_node_at(g, id)->op == &wr_op_param;
    return n;
}

/* Add the gradients behind the loss; `handle` gets the parameters, behind them the gradients. */
static void add_gradients(wr_graph *g, wr loss, uint32_t n, wr *handle) {
    uint32_t at = 0;
    for (uint32_t id = 1; id < wr_node_count(g) && at < n; id++)
        if (wr_node_at(g, id)->op == &wr_op_param) handle[at++] = (wr){g, id};
    wr_grad(loss, (int)n, handle, handle + n);
}

/* Which nodes belong to the loss and the `n` gradients? */
static bool *find_live(const wr_graph *g, wr loss, uint32_t n, const wr *gradient) {
    uint32_t *root = malloc(((size_t)n + 1) * sizeof *root);
    if (root == NULL) return NULL;
    int roots = 0;
    if (loss.id != 0) root[roots++] = loss.id;
    for (uint32_t i = 0; i < n; i++)
        if (gradient[i].id != 0) root[roots++] = gradient[i].id;
    bool *live = wr_live_nodes(g, roots, root);
    for (uint32_t id = 1; live != NULL && roots == 0 && id < wr_node_count(g); id++)
        live[id] = true; /* a mistake left no loss: show what there is */
    free(root);
    return live;
}

wr_status wr_model_graph_new(const wr_model_sizes *m, const wr_model_graph_options *o,
                             wr_graph **graph, bool **live, wr_error *err) {
    *live = NULL;
    *graph = wr_graph_new();
    if (*graph == NULL) return wr_fail_memory(err, "a graph", 0);
    wr_transformer t = {.m = m->recipe.model,
                        .src_vocab = m->src_vocab,
                        .tgt_vocab = m->tgt_vocab,
                        .dtype = WR_F32,
                        .training = o->training};
    wr_transformer_batch b = wr_transformer_inputs(*graph, m->recipe.model.max_len);
    wr loss = wr_transformer_loss_of(&t, &b, m->recipe.train.label_smoothing).loss;
    uint32_t n = o->gradient && loss.id != 0 ? count_parameters(*graph) : 0;
    wr *handle = calloc(2 * (size_t)n + 1, sizeof *handle);
    if (handle != NULL && n > 0) add_gradients(*graph, loss, n, handle);
    if (handle != NULL) *live = find_live(*graph, loss, n, handle + n);
    free(handle);
    if (*live != NULL) return WR_OK;
    wr_graph_free(*graph);
    *graph = NULL;
    return wr_fail_memory(err, "a graph", 0);
}
