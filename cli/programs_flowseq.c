/* programs_flowseq.c: the programs of FlowSeq: pre-training without the prior, then all of it
 * (Ma et al. 2019, and their program; docs/flowseq.md). */
#include "cli/programs_internal.h"
#include "models/recipe_flowseq.h"
#include "ops/elementwise.h"
#include "ops/mask.h"
#include "ops/index.h"
#include "ops/reduce.h"
#include "optim/schedule.h"

/* The first terms of both stages; pre-training has no more. */
static const wr_term TERMS[] = {
    {"loss", WR_PER_SENTENCE, false},
    {"recon", WR_PER_SENTENCE, false},
    {"length", WR_PER_SENTENCE, false},
    {"kl", WR_PER_SENTENCE, false},
    {"kl_per_dimension", WR_PER_FEATURE, false},
    {"log_det_per_dimension", WR_PER_FEATURE, false},
    {"posterior_mean", WR_PER_FEATURE, true},      /* root mean square */
    {"posterior_deviation", WR_PER_FEATURE, true}, /* the same of e^(log-variance / 2) */
    {"prior_noise", WR_PER_FEATURE, true},         /* of eps: 1 where the prior fits */
};
enum { PRETRAINING_TERMS = 3, ALL_TERMS = sizeof TERMS / sizeof TERMS[0] };
_Static_assert((int)ALL_TERMS <= (int)WR_TERMS, "terms fit a report");

typedef struct builder {
    const wr_recipe *recipe;
    wr_flowseq model;
    wr_programs *p;
} builder;

static wr sum_of_squares(wr x) { return wr_sum_all(wr_square(x)); }

/* Sum of variances over valid positions. */
static wr sum_of_variances(wr log_variance, wr len) {
    wr mask = wr_sequence_mask(len, wr_dim_of(log_variance, 1), wr_dtype_of(log_variance));
    return wr_sum_all(wr_mask_apply(wr_exp(log_variance), mask));
}

/* The loss and what is reported with it, from a graph of its own. `smoothed`: the loss that is
 * trained, else plain likelihoods. Returns how many terms there are. */
static int add_terms(const builder *b, wr_graph *g, bool pretraining, bool smoothed, wr *terms) {
    const wr_recipe *r = b->recipe;
    wr_flowseq_pairs in = wr_flowseq_inputs(&b->model, g);
    wr_flowseq_options o = {.pretraining = pretraining,
                            .noise = {g, 0},
                            .label_smoothing = r->train.label_smoothing,
                            .length_smoothing = r->flowseq.length_smoothing};
    wr_flowseq_losses l = wr_flowseq_losses_of(&b->model, &in, &o);
    if (!smoothed) {
        l.reconstruction = l.nll;
        l.length = l.length_nll;
    }
    wr weight = {g, 0};
    if (!pretraining && smoothed) weight = wr_input(g, WR_KL_WEIGHT, b->model.dtype, 0, NULL);
    if (!pretraining && !smoothed) weight = wr_scalar(g, b->model.dtype, 1.0);
    terms[0] = wr_named(wr_flowseq_total(&l, weight), "loss");
    terms[1] = wr_named(wr_sum_all(l.nll), "recon");
    terms[2] = wr_named(wr_sum_all(l.length_nll), "length");
    if (pretraining) return PRETRAINING_TERMS;
    terms[3] = wr_named(wr_sum_all(l.kl), "kl");
    terms[4] = terms[3];
    terms[5] = wr_sum_all(l.log_det);
    terms[6] = sum_of_squares(l.q.mean);
    terms[7] = sum_of_variances(l.q.log_variance, in.tgt_len);
    terms[8] = sum_of_squares(l.eps);
    return ALL_TERMS;
}

static wr_status compile_stage(const builder *b, const wr_stage *stage, wr_optimizer_part part,
                               wr_program **out, wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", sizeof(wr_node));
    wr terms[WR_TERMS];
    add_terms(b, g, stage->terms == PRETRAINING_TERMS, true, terms);
    wr_status status = wr__compile_training(b->recipe, g, stage, terms, part, out, err);
    wr_graph_free(g);
    return status;
}

static wr_status compile_valid(const builder *b, wr_program **out, wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", sizeof(wr_node));
    wr terms[WR_TERMS];
    int n = add_terms(b, g, false, false, terms);
    wr_status status = wr_program_new(g, n, terms, wr_standard_passes(), out, err);
    wr_graph_free(g);
    return status;
}

/* What gives first values: from parameters alone (parts = 0), or from a batch. */
static wr_status compile_start(const builder *b, int parts, wr_program **out, wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", sizeof(wr_node));
    wr x;
    if (parts == 0) {
        x = wr_flowseq_start_params(&b->model, g);
    } else {
        wr_flowseq_pairs in = wr_flowseq_inputs(&b->model, g);
        x = wr_flowseq_start_data(&b->model, &in, (wr){g, 0}, parts);
    }
    wr_status status = wr_program_new(g, 1, &x, wr_standard_passes(), out, err);
    wr_graph_free(g);
    return status;
}

static wr_status add_stage(builder *b, wr_stage stage, int starts, wr_error *err) {
    wr_stage *s = &b->p->stage[b->p->stages++];
    *s = stage;
    b->model.training = true;
    wr_status status = compile_stage(b, s, WR_OPTIMIZER_UPDATE, &s->update, err);
    if (status == WR_OK && b->recipe->train.accumulate > 1)
        status = compile_stage(b, s, WR_OPTIMIZER_ACCUMULATE, &s->accumulate, err);
    b->model.training = false;
    if (status == WR_OK && s->first == 0) status = compile_start(b, 0, &s->params, err);
    if (status == WR_OK && starts != 0) status = compile_start(b, starts, &s->start, err);
    return status;
}

/* What no decoder could translate is not trained. */
static wr_status check_lengths(const wr_recipe *r, const wr_flowseq *f, wr_error *err) {
    if (f->length_range >= f->length_unit - 1) return WR_OK;
    return wr_fail(err, WR_ERR_INPUT,
                   "flowseq.length_range = %d, but the prior joins positions (squeeze, time), so "
                   "that lengths are multiples of %d; allowed: flowseq.length_range of at least %d",
                   r->flowseq.length_range, f->length_unit, f->length_unit - 1);
}

wr_status wr__flowseq_programs(const wr_recipe *r, int src_vocab, int tgt_vocab, wr_programs *p,
                               wr_error *err) {
    builder b = {.recipe = r, .p = p};
    wr_status status = wr_recipe_flowseq_model(r, src_vocab, tgt_vocab, true, &b.model, err);
    if (status == WR_OK) status = check_lengths(r, &b.model, err);
    if (status != WR_OK) return status;
    p->weight = r->train.weighting == WR_RECIPE_PER_SENTENCE ? WR_PER_SENTENCE : WR_PER_TOKEN;
    p->features = b.model.dim;
    p->feeding.unit = b.model.length_unit;
    p->feeding.multiple = wr_recipe_length_multiple(r, b.model.length_unit);
    p->feeding.max_len = b.model.max_positions;
    int64_t pretraining = wr_schedule_pretraining(r);
    int mean = b.model.zero_heads ? 0 : WR_FLOWSEQ_START_MEAN;
    int rest = (b.model.zero_heads ? 0 : WR_FLOWSEQ_START_LOG_VARIANCE) | WR_FLOWSEQ_START_PRIOR;
    if (pretraining > 0) {
        wr_stage first = {.name = "pretraining", .term = TERMS, .terms = PRETRAINING_TERMS};
        status = add_stage(&b, first, mean, err);
    }
    wr_stage main = {.name = "main", .term = TERMS, .terms = ALL_TERMS, .first = pretraining};
    if (status == WR_OK) status = add_stage(&b, main, pretraining > 0 ? rest : mean | rest, err);
    return status == WR_OK ? compile_valid(&b, &p->valid, err) : status;
}
