/* draw_html.c: see draw_html.h. */
#include "cli/draw_html.h"

#include "cli/programs.h"
#include "models/recipe_flowseq.h"
#include "viz/html.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a page shows, while it is made. */
typedef struct model {
    wr_graph *loss, *inverse;
    bool *loss_live, *inverse_live;
    wr_programs programs;
    wr_plan *plan;
    char why_no_inverse[200];
    wr_str why_no_plan;
    wr_str about;
} model;

static void free_model(model *x) {
    free(x->loss_live);
    free(x->inverse_live);
    wr_graph_free(x->loss);
    wr_graph_free(x->inverse);
    wr_plan_free(x->plan);
    wr_programs_free(&x->programs);
    wr_str_free(&x->why_no_plan);
    wr_str_free(&x->about);
}

/* The sizes of one batch in a graph. */
static wr_binding bind(const wr_graph *g, const wr_draw_html_options *o) {
    wr_binding b = {0};
    const wr_dims *dims = wr_graph_dims(g);
    for (int i = 0; i < wr_dims_symbol_count(dims); i++) {
        const char *name = wr_dims_symbol_at(dims, i)->name;
        if (strcmp(name, "B") == 0) b.value[i] = o->batch;
        if (strcmp(name, "S") == 0) b.value[i] = o->src_len;
        if (strcmp(name, "T") == 0) b.value[i] = o->tgt_len;
    }
    return b;
}

/* ---- the inverse ---- */

/* Noise to z through the derived inverse of the prior, as in decoding. */
static wr_status make_inverse(const wr_model_sizes *m, model *x, wr_error *err) {
    if (m->recipe.model.type != WR_RECIPE_FLOWSEQ) {
        snprintf(
            x->why_no_inverse, sizeof x->why_no_inverse,
            "This model has no flow, so there is nothing to invert. A FlowSeq has: its prior.");
        return WR_OK;
    }
    wr_flowseq *f = malloc(sizeof *f);
    if (f == NULL) return wr_fail_memory(err, "a model", sizeof *f);
    wr_status status =
        wr_recipe_flowseq_model(&m->recipe, m->src_vocab, m->tgt_vocab, false, f, err);
    x->inverse = status == WR_OK ? wr_graph_new() : NULL;
    if (status == WR_OK && x->inverse == NULL) status = wr_fail_memory(err, "a graph", 0);
    if (status == WR_OK) {
        wr_flowseq_pairs in = wr_flowseq_inputs(f, x->inverse);
        wr_flowseq_encoding e = wr_flowseq_encode(f, in.src, in.src_len);
        wr eps = wr_flowseq_noise(f, x->inverse, wr_dim_of(in.tgt, 0), wr_dim_of(in.tgt, 1));
        wr log_det, z = wr_flowseq_generate(f, &e.source, eps, in.tgt_len, &log_det);
        uint32_t root[] = {wr_named(z, "z").id, wr_named(log_det, "log_det").id};
        bool whole = root[0] != 0 && root[1] != 0; /* else show what there is, with the mistakes */
        if (whole) x->inverse_live = wr_live_nodes(x->inverse, 2, root);
        if (whole && x->inverse_live == NULL) status = wr_fail_memory(err, "a graph", 0);
    }
    free(f);
    return status;
}

/* ---- the plan ---- */

/* Plan the training step of the last stage. Nothing runs, so slots may be any. */
static wr_status plan_step(const wr_program *p, const wr_draw_html_options *o, wr_plan **plan,
                           wr_error *err) {
    const wr_graph *g = wr_program_graph(p);
    wr_binding b = bind(g, o);
    int n = wr_program_outputs(p);
    uint32_t *root = malloc(((size_t)n + 1) * sizeof *root);
    uint32_t *slot = calloc(wr_node_count(g), sizeof *slot);
    wr_device *device = wr_device_cpu();
    wr_status status = WR_OK;
    if (root == NULL || slot == NULL || device == NULL)
        status = wr_fail_memory(err, "a plan", wr_node_count(g) * sizeof *slot);
    for (int k = 0; root != NULL && k < n; k++)
        root[k] = wr_program_root(p, k);
    if (status == WR_OK)
        status = wr_plan_new(g, wr_program_live(p), n, root, &b, device, &(wr_slots){slot}, 1, plan,
                             err);
    if (device != NULL) device->close(device);
    free(root);
    free(slot);
    return status;
}

/* A model that cannot be compiled or planned has a page all the same. */
static wr_status make_plan(const wr_model_sizes *m, const wr_draw_html_options *o, model *x,
                           wr_error *err) {
    wr_error why = {0};
    wr_recipe recipe = m->recipe;
    recipe.train.accumulate = 1; /* one batch is one step */
    wr_status status = wr_programs_new(&recipe, m->src_vocab, m->tgt_vocab, &x->programs, &why);
    if (status == WR_OK) {
        const wr_stage *stage = &x->programs.stage[x->programs.stages - 1];
        status = plan_step(stage->update, o, &x->plan, &why);
    }
    if (status == WR_ERR_MEMORY) return wr_fail(err, status, "%s", why.text);
    if (status != WR_OK) wr_str_add(&x->why_no_plan, "There is no plan: %s", why.text);
    return WR_OK;
}

/* ---- the page ---- */

static const char *last_part(const char *path, size_t *n) {
    *n = strlen(path);
    while (*n > 1 && path[*n - 1] == '/')
        (*n)--;
    size_t from = *n;
    while (from > 0 && path[from - 1] != '/')
        from--;
    *n -= from;
    return path + from;
}

static void describe(const wr_model_sizes *m, const wr_draw_html_options *o, wr_str *about) {
    if (m->src_vocab == m->tgt_vocab)
        wr_str_add(about, "vocabulary %d", m->src_vocab);
    else
        wr_str_add(about, "vocabularies %d and %d", m->src_vocab, m->tgt_vocab);
    wr_str_add(about, ", a batch of B = %lld, S = %lld, T = %lld", (long long)o->batch,
               (long long)o->src_len, (long long)o->tgt_len);
}

static wr_status write_page(const model *x, const wr_draw_html_options *o, const char *out,
                            wr_error *err) {
    wr_str page = {0}, title = {0};
    size_t n;
    const char *name = last_part(o->path, &n);
    wr_str_bytes(&title, name, n);
    wr_binding loss = bind(x->loss, o), inverse = {0};
    if (x->inverse != NULL) inverse = bind(x->inverse, o);
    wr_html_model page_of = {.title = wr_str_text(&title),
                             .about = wr_str_text(&x->about),
                             .loss = {.g = x->loss, .live = x->loss_live, .binding = &loss},
                             .inverse = {.g = x->inverse,
                                         .live = x->inverse_live,
                                         .binding = &inverse,
                                         .absent = x->why_no_inverse},
                             .plan = x->plan,
                             .no_plan = wr_str_text(&x->why_no_plan)};
    wr_status status = title.oom || x->about.oom || x->why_no_plan.oom
                           ? wr_fail_memory(err, "a title", n)
                           : wr_html_model_page(&page_of, &page, err);
    if (status == WR_OK) status = wr_file_replace(out, wr_str_text(&page), page.len, err);
    wr_str_free(&page);
    wr_str_free(&title);
    return status;
}

wr_status wr_draw_html(const wr_model_sizes *m, const wr_draw_html_options *o, const char *out,
                       wr_error *err) {
    model x = {0};
    wr_model_graph_options what = {.training = o->dropout, .gradient = true};
    wr_status status = wr_model_graph_new(m, &what, &x.loss, &x.loss_live, err);
    if (status == WR_OK) status = make_inverse(m, &x, err);
    if (status == WR_OK) status = make_plan(m, o, &x, err);
    if (status == WR_OK) {
        describe(m, o, &x.about);
        status = write_page(&x, o, out, err);
    }
    free_model(&x);
    return status;
}
