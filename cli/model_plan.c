/* model_plan.c: see model_plan.h. */
#include "cli/model_plan.h"

#include "models/recipe_flowseq.h"

#include <stdlib.h>
#include <string.h>

wr_binding wr_model_binding(const wr_graph *g, const wr_batch_sizes *sizes) {
    wr_binding b = {0};
    const wr_dims *dims = wr_graph_dims(g);
    for (int i = 0; i < wr_dims_symbol_count(dims); i++) {
        const char *name = wr_dims_symbol_at(dims, i)->name;
        if (strcmp(name, "B") == 0) b.value[i] = sizes->batch;
        if (strcmp(name, "S") == 0) b.value[i] = sizes->src_len;
        if (strcmp(name, "T") == 0) b.value[i] = sizes->tgt_len;
    }
    return b;
}

wr_status wr_model_round_length(const wr_model_sizes *m, int64_t *tgt_len, wr_error *err) {
    if (!wr_model_has_flow(m)) return WR_OK;
    wr_flow_stack *stack = malloc(sizeof *stack);
    if (stack == NULL) return wr_fail_memory(err, "a prior", sizeof *stack);
    wr_status status = wr_recipe_prior_stack(&m->recipe, stack, err);
    if (status == WR_OK) {
        int unit = wr_flow_length_unit(stack);
        *tgt_len = (*tgt_len + unit - 1) / unit * unit;
    }
    free(stack);
    return status;
}

/* ---- the inverse ---- */

bool wr_model_has_flow(const wr_model_sizes *m) {
    return m->recipe.model.type == WR_RECIPE_FLOWSEQ;
}

/* Declare noise, source and lengths, and what the prior makes of them. */
static bool *build_inverse(const wr_flowseq *f, wr_graph *g) {
    wr_flowseq_pairs in = wr_flowseq_inputs(f, g);
    wr_flowseq_encoding e = wr_flowseq_encode(f, in.src, in.src_len);
    wr_dim dims[] = {wr_dim_of(in.tgt, 0), wr_dim_of(in.tgt, 1), wr_n(f->dim)};
    wr eps = wr_input(g, "eps", f->dtype, 3, dims);
    wr log_det, z = wr_flowseq_generate(f, &e.source, eps, in.tgt_len, &log_det);
    uint32_t root[] = {wr_named(z, "z").id, wr_named(log_det, "log_det").id};
    bool whole = root[0] != 0 && root[1] != 0;
    bool *live = whole ? wr_live_nodes(g, 2, root) : calloc(wr_node_count(g), sizeof *live);
    for (uint32_t id = 1; live != NULL && !whole && id < wr_node_count(g); id++)
        live[id] = true; /* a mistake left no result: show what there is */
    return live;
}

wr_status wr_model_inverse_new(const wr_model_sizes *m, wr_graph **graph, bool **live,
                               wr_error *err) {
    *graph = NULL;
    *live = NULL;
    if (!wr_model_has_flow(m))
        return wr_fail(err, WR_ERR_INPUT,
                       "the model has no flow, so that there is no inverse to draw; --what can be "
                       "forward, gradient or plan");
    wr_flowseq *f = malloc(sizeof *f);
    if (f == NULL) return wr_fail_memory(err, "a model", sizeof *f);
    wr_status status =
        wr_recipe_flowseq_model(&m->recipe, m->src_vocab, m->tgt_vocab, false, f, err);
    if (status == WR_OK) *graph = wr_graph_new();
    if (*graph != NULL) *live = build_inverse(f, *graph);
    free(f);
    if (*live != NULL || status != WR_OK) return status;
    wr_graph_free(*graph);
    *graph = NULL;
    return wr_fail_memory(err, "a graph", 0);
}

/* ---- the plan ---- */

/* Nothing runs, so that all slots may be 0. */
static wr_status plan_program(const wr_program *p, const wr_batch_sizes *sizes, wr_plan **plan,
                              wr_error *err) {
    const wr_graph *g = wr_program_graph(p);
    wr_binding b = wr_model_binding(g, sizes);
    int n = wr_program_outputs(p);
    uint32_t *root = malloc(((size_t)n + 1) * sizeof *root);
    uint32_t *slot = calloc(wr_node_count(g), sizeof *slot);
    wr_device *device = wr_device_cpu();
    wr_status status = WR_OK;
    if (root == NULL || slot == NULL || device == NULL)
        status = wr_fail_memory(err, "a plan", wr_node_count(g) * sizeof *slot);
    for (int k = 0; status == WR_OK && k < n; k++)
        root[k] = wr_program_root(p, k);
    if (status == WR_OK)
        status = wr_plan_new(g, wr_program_live(p), n, root, &b, device, &(wr_slots){slot}, 1, plan,
                             err);
    if (device != NULL) device->close(device);
    free(root);
    free(slot);
    return status;
}

wr_status wr_model_plan_new(const wr_model_sizes *m, const wr_batch_sizes *sizes,
                            wr_model_plan *plan, wr_error *err) {
    *plan = (wr_model_plan){0};
    wr_recipe recipe = m->recipe;
    int longest = (int)(sizes->src_len > sizes->tgt_len ? sizes->src_len : sizes->tgt_len);
    recipe.train.accumulate = 1; /* one batch is one step */
    if (recipe.model.max_len < longest) recipe.model.max_len = longest;
    wr_status status = wr_programs_new(&recipe, m->src_vocab, m->tgt_vocab, &plan->programs, err);
    if (status != WR_OK) return status;
    const wr_stage *stage = &plan->programs.stage[plan->programs.stages - 1];
    return plan_program(stage->update, sizes, &plan->plan, err);
}

void wr_model_plan_free(wr_model_plan *plan) {
    wr_plan_free(plan->plan);
    wr_programs_free(&plan->programs);
    *plan = (wr_model_plan){0};
}
