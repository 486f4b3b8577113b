/* programs.c: see programs.h. */
#include "cli/programs.h"

#include "ops/fuse.h"
#include "optim/optimizer.h"

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

typedef struct job {
    const wr_recipe *recipe;
    wr_transformer t;
} job;

static wr_status compile(wr_graph *g, int n, const wr *outputs, wr_program **p, wr_error *err) {
    return wr_program_new(g, n, outputs, wr_standard_passes(), p, err);
}

/* The training graph up to the given part of the optimizer. */
static wr_status compile_training(const job *j, wr_optimizer_part part, wr_program **p,
                                  wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", sizeof(wr_node));
    wr_transformer_batch in = wr_transformer_inputs(g, j->t.m.max_len);
    wr_transformer_loss loss = wr_transformer_loss_of(&j->t, &in, j->recipe->train.label_smoothing);
    wr_optimizer_options o = wr_optimizer_options_of(j->recipe);
    o.part = part;
    o.accumulate = j->recipe->train.accumulate > 1;
    wr_optimizer opt = {0};
    wr_status status = wr_optimizer_build(loss.loss, &o, &opt, err);
    wr outputs[5] = {loss.loss, loss.nll, loss.tokens, opt.norm, opt.applied};
    if (status == WR_OK) status = compile(g, part == WR_OPTIMIZER_UPDATE ? 5 : 4, outputs, p, err);
    wr_graph_free(g);
    return status;
}

static wr_status compile_validation(const job *j, wr_program **p, wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", sizeof(wr_node));
    wr_transformer_batch in = wr_transformer_inputs(g, j->t.m.max_len);
    wr_transformer_loss loss = wr_transformer_loss_of(&j->t, &in, j->recipe->train.label_smoothing);
    wr_status status = compile(g, 3, (wr[]){loss.loss, loss.nll, loss.tokens}, p, err);
    wr_graph_free(g);
    return status;
}

wr_status wr_programs_new(const wr_recipe *r, int src_vocab, int tgt_vocab, wr_programs *p,
                          wr_error *err) {
    *p = (wr_programs){0};
    job j = {r, wr_transformer_of(r, src_vocab, tgt_vocab, true)};
    j.t.m.max_len = wr_padded_max_len(r); /* positions for padding too */
    wr_status status = compile_training(&j, WR_OPTIMIZER_UPDATE, &p->update, err);
    if (status == WR_OK && r->train.accumulate > 1)
        status = compile_training(&j, WR_OPTIMIZER_ACCUMULATE, &p->accumulate, err);
    j.t.training = false;
    if (status == WR_OK) status = compile_validation(&j, &p->valid, err);
    if (status != WR_OK) wr_programs_free(p);
    return status;
}

void wr_programs_free(wr_programs *p) {
    wr_program_free(p->update);
    wr_program_free(p->accumulate);
    wr_program_free(p->valid);
    *p = (wr_programs){0};
}

double wr_output_number(wr_session *s, int k) {
    const wr_tensor *t = wr_session_output(s, k);
    if (t->dtype == WR_F32) return (double)*(const float *)t->data;
    if (t->dtype == WR_F64) return *(const double *)t->data;
    return (double)*(const int32_t *)t->data;
}
