/* draw_html.c: see draw_html.h. */
#include "cli/draw_html.h"

#include "cli/model_plan.h"
#include "viz/html.h"

#include <stdlib.h>
#include <string.h>

/* What a page shows, while it is made. */
typedef struct model {
    wr_graph *loss, *inverse;
    bool *loss_live, *inverse_live;
    wr_model_plan plan;
    wr_str no_plan;
    wr_str about;
} model;

static void free_model(model *x) {
    free(x->loss_live);
    free(x->inverse_live);
    wr_graph_free(x->loss);
    wr_graph_free(x->inverse);
    wr_model_plan_free(&x->plan);
    wr_str_free(&x->no_plan);
    wr_str_free(&x->about);
}

/* A model that cannot be compiled or planned has a page all the same. */
static wr_status make_plan(const wr_model_sizes *m, const wr_batch_sizes *sizes, model *x,
                           wr_error *err) {
    wr_error why = {0};
    wr_status status = wr_model_plan_new(m, sizes, &x->plan, &why);
    if (status == WR_ERR_MEMORY) return wr_fail(err, status, "%s", why.text);
    if (status != WR_OK) wr_str_add(&x->no_plan, "There is no plan: %s", why.text);
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

static void describe(const wr_model_sizes *m, const wr_batch_sizes *sizes, wr_str *about) {
    if (m->src_vocab == m->tgt_vocab)
        wr_str_add(about, "vocabulary %d", m->src_vocab);
    else
        wr_str_add(about, "vocabularies %d and %d", m->src_vocab, m->tgt_vocab);
    wr_str_add(about, ", a batch of B = %lld, S = %lld, T = %lld", (long long)sizes->batch,
               (long long)sizes->src_len, (long long)sizes->tgt_len);
}

static wr_status write_page(const model *x, const wr_draw_html_options *o,
                            const wr_batch_sizes *sizes, const char *out, wr_error *err) {
    static const char NO_FLOW[] =
        "This model has no flow, so there is nothing to invert. A FlowSeq has: its prior.";
    wr_str page = {0}, title = {0};
    size_t n;
    const char *name = last_part(o->path, &n);
    wr_str_bytes(&title, name, n);
    wr_binding loss = wr_model_binding(x->loss, sizes), inverse = {0};
    if (x->inverse != NULL) inverse = wr_model_binding(x->inverse, sizes);
    wr_html_model m = {.title = wr_str_text(&title),
                       .about = wr_str_text(&x->about),
                       .tab = o->what,
                       .loss = {.g = x->loss, .live = x->loss_live, .binding = &loss},
                       .inverse = {.g = x->inverse,
                                   .live = x->inverse_live,
                                   .binding = &inverse,
                                   .absent = NO_FLOW},
                       .plan = x->plan.plan,
                       .no_plan = wr_str_text(&x->no_plan)};
    wr_status status = title.oom || x->about.oom || x->no_plan.oom
                           ? wr_fail_memory(err, "a title", n)
                           : wr_html_model_page(&m, &page, err);
    if (status == WR_OK) status = wr_file_replace(out, wr_str_text(&page), page.len, err);
    wr_str_free(&page);
    wr_str_free(&title);
    return status;
}

wr_status wr_draw_html(wr_model_sizes *m, const wr_draw_html_options *o, const char *out,
                       wr_error *err) {
    model x = {0};
    wr_batch_sizes sizes = {o->batch, o->src_len, o->tgt_len};
    wr_model_graph_options what = {.training = o->dropout, .gradient = true};
    wr_status status = wr_model_round_length(m, &sizes.tgt_len, err);
    if (status == WR_OK) status = wr_model_graph_new(m, &what, &x.loss, &x.loss_live, err);
    if (status == WR_OK && wr_model_has_flow(m))
        status = wr_model_inverse_new(m, &x.inverse, &x.inverse_live, err);
    if (status == WR_OK) status = make_plan(m, &sizes, &x, err);
    if (status == WR_OK) {
        describe(m, &sizes, &x.about);
        status = write_page(&x, o, &sizes, out, err);
    }
    free_model(&x);
    return status;
}
