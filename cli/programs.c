/* programs.c: see programs.h. */
#include "cli/programs.h"

#include "cli/programs_internal.h"
#include "optim/optimizer.h"

#include <math.h>
#include <stdlib.h>

static const wr_term TRANSFORMER_TERMS[] = {{"loss", WR_PER_TOKEN, false},
                                            {"nll", WR_PER_TOKEN, false}};

wr_transformer wr_transformer_of(const wr_recipe *r, int src_vocab, int tgt_vocab, bool training) {
    return (wr_transformer){.m = r->model,
                            .src_vocab = src_vocab,
                            .tgt_vocab = tgt_vocab,
                            .dtype = WR_F32,
                            .training = training};
}

int wr_padded_max_len(const wr_recipe *r) {
    int multiple = r->data.length_multiple;
    return (r->model.max_len + multiple - 1) / multiple * multiple;
}

wr_status wr__compile_training(const wr_recipe *r, wr_graph *g, const wr_stage *stage,
                               const wr *terms, wr_optimizer_part part, wr_program **p,
                               wr_error *err) {
    wr_optimizer_options o = wr_optimizer_options_of(r);
    o.part = part;
    o.accumulate = r->train.accumulate > 1;
    wr_optimizer opt = {0};
    wr_status status = wr_optimizer_build(terms[0], &o, &opt, err);
    wr outputs[WR_TERMS + 2];
    int n = 0;
    for (; n < stage->terms; n++)
        outputs[n] = terms[n];
    outputs[n++] = opt.norm;
    if (part == WR_OPTIMIZER_UPDATE) outputs[n++] = opt.applied;
    if (status == WR_OK) status = wr_program_new(g, n, outputs, wr_standard_passes(), p, err);
    return status;
}

/* ---- the Transformer ---- */

static void transformer_terms(const wr_recipe *r, const wr_transformer *t, wr_graph *g, wr *terms) {
    wr_transformer_batch in = wr_transformer_inputs(g, t->m.max_len);
    wr_transformer_loss loss = wr_transformer_loss_of(t, &in, r->train.label_smoothing);
    terms[0] = loss.loss;
    terms[1] = loss.nll;
}

static wr_status compile_transformer(const wr_recipe *r, const wr_transformer *t,
                                     wr_optimizer_part part, wr_programs *p, wr_program **out,
                                     wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", sizeof(wr_node));
    wr terms[2];
    transformer_terms(r, t, g, terms);
    wr_status status = wr__compile_training(r, g, &p->stage[0], terms, part, out, err);
    wr_graph_free(g);
    return status;
}

static wr_status compile_transformer_valid(const wr_recipe *r, const wr_transformer *t,
                                           wr_program **p, wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", sizeof(wr_node));
    wr terms[2];
    transformer_terms(r, t, g, terms);
    wr_status status = wr_program_new(g, 2, terms, wr_standard_passes(), p, err);
    wr_graph_free(g);
    return status;
}

static wr_status transformer_programs(const wr_recipe *r, int src_vocab, int tgt_vocab,
                                      wr_programs *p, wr_error *err) {
    wr_transformer t = wr_transformer_of(r, src_vocab, tgt_vocab, true);
    t.m.max_len = wr_padded_max_len(r); /* positions for padding too */
    p->weight = WR_PER_TOKEN;
    p->stages = 1;
    wr_stage *stage = &p->stage[0];
    *stage = (wr_stage){.term = TRANSFORMER_TERMS, .terms = 2};
    wr_status status = compile_transformer(r, &t, WR_OPTIMIZER_UPDATE, p, &stage->update, err);
    if (status == WR_OK && r->train.accumulate > 1)
        status = compile_transformer(r, &t, WR_OPTIMIZER_ACCUMULATE, p, &stage->accumulate, err);
    t.training = false;
    return status == WR_OK ? compile_transformer_valid(r, &t, &p->valid, err) : status;
}

/* ---- all families ---- */

static wr_programs without_programs(const wr_recipe *r) {
    return (wr_programs){.feeding = {.type = r->model.type,
                                     .unit = 1,
                                     .multiple = r->data.length_multiple,
                                     .max_len = wr_padded_max_len(r)}};
}

wr_status wr_programs_new(const wr_recipe *r, int src_vocab, int tgt_vocab, wr_programs *p,
                          wr_error *err) {
    *p = without_programs(r);
    static wr_status (*const MAKE[])(const wr_recipe *, int, int, wr_programs *,
                                     wr_error *) = {[WR_RECIPE_TRANSFORMER] = transformer_programs,
                                                    [WR_RECIPE_FLOWSEQ] = wr__flowseq_programs,
                                                    [WR_RECIPE_NAT] = wr__nat_programs};
    wr_status status = MAKE[r->model.type](r, src_vocab, tgt_vocab, p, err);
    if (status != WR_OK) wr_programs_free(p);
    return status;
}

wr_status wr_programs_new_nat_valid(const wr_recipe *r, int src_vocab, int tgt_vocab,
                                    wr_programs *p, wr_error *err) {
    *p = without_programs(r);
    wr_status status = wr__nat_valid_program(r, src_vocab, tgt_vocab, p, err);
    if (status != WR_OK) wr_programs_free(p);
    return status;
}

void wr_programs_free(wr_programs *p) {
    for (int i = 0; i < p->stages; i++) {
        wr_program_free(p->stage[i].params);
        wr_program_free(p->stage[i].start);
        wr_program_free(p->stage[i].update);
        wr_program_free(p->stage[i].accumulate);
    }
    wr_program_free(p->valid);
    free(p->nat);
    *p = (wr_programs){0};
}

const wr_stage *wr_programs_stage(const wr_programs *p, int64_t update) {
    int i = p->stages - 1;
    while (i > 0 && update < p->stage[i].first)
        i--;
    return &p->stage[i];
}

int wr_programs_valid_terms(const wr_programs *p) { return wr_program_outputs(p->valid); }

double wr_term_value(const wr_programs *p, const wr_term *term, double sum, double sentences,
                     double tokens) {
    if (term->per == WR_PER_NOTHING) return sum;
    double by = term->per == WR_PER_SENTENCE ? sentences
                : term->per == WR_PER_TOKEN  ? tokens
                                             : tokens * p->features;
    return term->root ? sqrt(sum / by) : sum / by;
}

int wr_programs_feed(const wr_program *p, const wr_step_numbers *x, wr_feed *feed, int n) {
    const wr_feed all[] = {{.name = WR_OPTIM_LR, .data = &x->lr},
                           {.name = WR_OPTIM_SCALE, .data = &x->scale},
                           {.name = WR_KL_WEIGHT, .data = &x->kl},
                           {.name = WR_NAT_UPDATE, .data = &x->update}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (wr_program_find_input(p, all[i].name) >= 0) feed[n++] = all[i];
    return n;
}

double wr_output_number(wr_session *s, int k) {
    const wr_tensor *t = wr_session_output(s, k);
    if (t->dtype == WR_F32) return (double)*(const float *)t->data;
    if (t->dtype == WR_F64) return *(const double *)t->data;
    return (double)*(const int32_t *)t->data;
}
