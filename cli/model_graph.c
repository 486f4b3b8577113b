/* model_graph.c: see model_graph.h. */
#include "cli/model_graph.h"

#include "autodiff/grad.h"
#include "data/subword.h"
#include "graph/plan.h"
#include "graph/trace.h"
#include "models/recipe_flowseq.h"
#include "models/recipe_nat.h"
#include "models/transformer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *wr_model_name(wr_recipe_model_type type) {
    static const char *const NAMES[] = {[WR_RECIPE_TRANSFORMER] = "Transformer",
                                        [WR_RECIPE_FLOWSEQ] = "FlowSeq",
                                        [WR_RECIPE_NAT] = "NAT"};
    return NAMES[type];
}

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

/* A run without subword models (`weir import`) has the sizes in its recipe. */
static wr_status read_run_vocabs(wr_str *path, const char *dir, wr_model_sizes *m, wr_error *err) {
    const wr_recipe_data *d = &m->recipe.data;
    wr_error why = {0};
    wr_status status = read_vocabs(path, dir, m, &why);
    if (status == WR_ERR_IO && d->src_vocab > 0 && d->tgt_vocab > 0) {
        m->src_vocab = d->src_vocab;
        m->tgt_vocab = d->tgt_vocab;
        return WR_OK;
    }
    return status == WR_OK ? WR_OK : wr_fail(err, status, "%s", why.text);
}

/* "N" or "N,M" */
static bool parse_vocab(const char *text, wr_model_sizes *m) {
    enum { LEAST = 4, MOST = 100000000 };
    long size[2];
    char *end;
    size[0] = size[1] = strtol(text, &end, 10);
    if (*end == ',' && end != text) {
        text = end + 1;
        size[1] = strtol(text, &end, 10);
    }
    for (int k = 0; k < 2; k++)
        if (size[k] < LEAST || size[k] > MOST) return false;
    m->src_vocab = (int)size[0];
    m->tgt_vocab = (int)size[1];
    return end != text && *end == '\0';
}

wr_status wr_model_sizes_vocab(const char *vocab, wr_model_sizes *m, wr_error *err) {
    enum { USUAL = 10000 };
    const wr_recipe_data *d = &m->recipe.data;
    m->src_vocab = d->src_vocab > 0 ? d->src_vocab : USUAL;
    m->tgt_vocab = d->tgt_vocab > 0 ? d->tgt_vocab : USUAL;
    if (vocab != NULL && !parse_vocab(vocab, m))
        return wr_fail(
            err, WR_ERR_USAGE,
            "--vocab '%.100s': must be a whole number from 4 to 100000000, or two, as in "
            "32012,22825",
            vocab);
    if (m->recipe.model.embeddings == WR_RECIPE_EMBED_JOINT && m->src_vocab != m->tgt_vocab)
        return wr_fail(
            err, WR_ERR_USAGE,
            "--vocab %.100s: model.embeddings is joint, so there is one vocabulary; give "
            "one size",
            vocab);
    return WR_OK;
}

wr_status wr_model_sizes_read(const char *path, const char *vocab, wr_model_sizes *m,
                              wr_error *err) {
    *m = (wr_model_sizes){.from_run = wr_is_directory(path)};
    wr_str text = {0};
    wr_status status = WR_OK;
    if (m->from_run) status = join(&text, path, "recipe.yaml", err);
    if (status == WR_OK && m->from_run)
        status = wr_recipe_load_saved(wr_str_text(&text), NULL, 0, &m->recipe, err);
    else if (status == WR_OK)
        status = wr_recipe_load(path, NULL, 0, &m->recipe, err);
    if (status == WR_OK && m->from_run)
        status = read_run_vocabs(&text, path, m, err);
    else if (status == WR_OK)
        status = wr_model_sizes_vocab(vocab, m, err);
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

static wr transformer_loss(const wr_model_sizes *m, bool training, wr_graph *g) {
    wr_transformer t = {.m = m->recipe.model,
                        .src_vocab = m->src_vocab,
                        .tgt_vocab = m->tgt_vocab,
                        .dtype = WR_F32,
                        .training = training};
    wr_transformer_batch b = wr_transformer_inputs(g, m->recipe.model.max_len);
    return wr_transformer_loss_of(&t, &b, m->recipe.train.label_smoothing).loss;
}

/* The loss of the main phase. */
static wr_status flowseq_loss(const wr_model_sizes *m, bool training, wr_graph *g, wr *loss,
                              wr_error *err) {
    const wr_recipe *r = &m->recipe;
    wr_flowseq *f = malloc(sizeof *f);
    if (f == NULL) return wr_fail_memory(err, "a model", sizeof *f);
    wr_status status = wr_recipe_flowseq_model(r, m->src_vocab, m->tgt_vocab, training, f, err);
    if (status == WR_OK) {
        wr_flowseq_pairs in = wr_flowseq_inputs(f, g);
        wr_flowseq_options o = {.noise = {g, 0},
                                .label_smoothing = r->train.label_smoothing,
                                .length_smoothing = r->flowseq.length_smoothing};
        wr_flowseq_losses l = wr_flowseq_losses_of(f, &in, &o);
        *loss = wr_flowseq_total(&l, wr_input(g, "kl_weight", WR_F32, 0, NULL));
    }
    free(f);
    return status;
}

static wr_status nat_loss(wr_model_sizes *m, bool training, wr_graph *g, wr *loss, wr_error *err) {
    wr_nat n;
    wr_status status =
        wr_recipe_nat_model(&m->recipe, m->src_vocab, m->tgt_vocab, training, &n, err);
    if (status == WR_OK) status = wr_recipe_nat_training(&m->recipe, &m->nat, err);
    if (status != WR_OK) return status;
    wr_nat_pairs in = wr_nat_inputs(&n, g);
    *loss = wr_nat_losses_of(&n, &m->nat, &in, true).total;
    return WR_OK;
}

static wr_status add_loss(wr_model_sizes *m, bool training, wr_graph *g, wr *loss, wr_error *err) {
    if (m->recipe.model.type == WR_RECIPE_FLOWSEQ) return flowseq_loss(m, training, g, loss, err);
    if (m->recipe.model.type == WR_RECIPE_NAT) return nat_loss(m, training, g, loss, err);
    *loss = transformer_loss(m, training, g);
    return WR_OK;
}

wr_status wr_model_graph_new(wr_model_sizes *m, const wr_model_graph_options *o, wr_graph **graph,
                             bool **live, wr_error *err) {
    *live = NULL;
    *graph = wr_graph_new();
    if (*graph == NULL) return wr_fail_memory(err, "a graph", 0);
    wr loss = {*graph, 0};
    wr_graph_record_traces(*graph, !o->untraced);
    double start = wr_now();
    wr_status status = add_loss(m, o->training, *graph, &loss, err);
    if (o->loss_seconds != NULL) *o->loss_seconds = wr_now() - start;
    start = wr_now();
    uint32_t n = o->gradient && loss.id != 0 ? count_parameters(*graph) : 0;
    wr *handle = status == WR_OK ? calloc(2 * (size_t)n + 1, sizeof *handle) : NULL;
    if (handle != NULL && n > 0) add_gradients(*graph, loss, n, handle);
    if (o->gradient_seconds != NULL) *o->gradient_seconds = wr_now() - start;
    if (handle != NULL) *live = find_live(*graph, loss, n, handle + n);
    free(handle);
    if (*live != NULL) return WR_OK;
    wr_graph_free(*graph);
    *graph = NULL;
    return status != WR_OK ? status : wr_fail_memory(err, "a graph", 0);
}
