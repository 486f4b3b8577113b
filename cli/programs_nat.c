/* programs_nat.c: the programs of non-autoregressive models.
 *
 * Objectives are normalised within a batch. What a program gives as the loss is that number times
 * the batch's tokens (or sentences, as the normalisation is), by which training and reports divide:
 * over several batches it is the mean weighted by these. */
#include "cli/programs_internal.h"
#include "models/recipe_nat.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/reduce.h"

#include <stdlib.h>

static const wr_term LOSS_PER_TOKEN = {"loss", WR_PER_TOKEN, false};
static const wr_term LOSS_PER_SENTENCE = {"loss", WR_PER_SENTENCE, false};
static const wr_term NLL = {"nll", WR_PER_TOKEN, false};
static const wr_term LENGTH = {"length", WR_PER_SENTENCE, false};
static const wr_term GIVEN = {"given", WR_PER_SENTENCE, false};
static const wr_term INFEASIBLE = {"infeasible", WR_PER_NOTHING, false};

typedef struct builder {
    const wr_recipe *recipe;
    wr_nat model;
    wr_programs *p;
} builder;

/* The terms of the loss of a graph; `term` gets their names. Returns how many there are. */
static int add_terms(const builder *b, wr_graph *g, bool reveal, wr *terms, wr_term *term) {
    wr_nat_pairs in = wr_nat_inputs(&b->model, g);
    wr_nat_losses l = wr_nat_losses_of(&b->model, &b->p->nat->training, &in, reveal);
    wr_dim sentences = wr_dim_of(in.src, 0);
    wr tokens = wr_sum_all(wr_cast(in.tgt_len, b->model.dtype));
    bool by_token = b->p->weight == WR_PER_TOKEN;
    int n = 0;
    term[n] = by_token ? LOSS_PER_TOKEN : LOSS_PER_SENTENCE;
    wr loss = by_token ? wr_mul(l.total, tokens) : wr_scale_by_dim(l.total, sentences, 1);
    terms[n++] = wr_named(loss, "loss");
    term[n] = NLL;
    terms[n++] = wr_named(wr_mul(l.nll, tokens), "nll");
    if (!wr_is_poison(l.length)) {
        term[n] = LENGTH;
        terms[n++] = wr_named(wr_scale_by_dim(l.length, sentences, 1), "length");
    }
    term[n] = INFEASIBLE;
    terms[n++] = wr_named(l.infeasible, "infeasible");
    if (!wr_is_poison(l.given)) {
        term[n] = GIVEN;
        terms[n++] = wr_named(wr_scale_by_dim(l.given, sentences, 1), "given");
    }
    return n;
}

static wr_status compile(builder *b, wr_optimizer_part part, wr_program **out, wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", sizeof(wr_node));
    wr terms[WR_TERMS];
    wr_stage *stage = &b->p->stage[0];
    stage->terms = add_terms(b, g, true, terms, b->p->nat->term);
    stage->term = b->p->nat->term;
    wr_status status = wr__compile_training(b->recipe, g, stage, terms, part, out, err);
    wr_graph_free(g);
    return status;
}

/* The first terms of training, which are those of a model that is given nothing; their names go to
 * `term`. */
static wr_status compile_valid(const builder *b, wr_term *term, int *n, wr_program **out,
                               wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", sizeof(wr_node));
    wr terms[WR_TERMS];
    *n = add_terms(b, g, false, terms, term);
    wr_status status = wr_program_new(g, *n, terms, wr_standard_passes(), out, err);
    wr_graph_free(g);
    return status;
}

static wr_status begin(const wr_recipe *r, int src_vocab, int tgt_vocab, bool training, builder *b,
                       wr_error *err) {
    wr_programs *p = b->p;
    p->nat = calloc(1, sizeof *p->nat);
    if (p->nat == NULL) return wr_fail_memory(err, "an objective", sizeof *p->nat);
    wr_status status = wr_recipe_nat_model(r, src_vocab, tgt_vocab, training, &b->model, err);
    if (status == WR_OK) status = wr_recipe_nat_training(r, &p->nat->training, err);
    if (status != WR_OK) return status;
    wr_norm norm = p->nat->training.objective.config.norm;
    p->weight = norm == WR_NORM_TOKEN || norm == WR_NORM_FRAMES ? WR_PER_TOKEN : WR_PER_SENTENCE;
    p->feeding.framing = b->model.framing;
    p->stages = 1;
    return WR_OK;
}

wr_status wr__nat_programs(const wr_recipe *r, int src_vocab, int tgt_vocab, wr_programs *p,
                           wr_error *err) {
    builder b = {.recipe = r, .p = p};
    wr_term ignored[WR_TERMS];
    int n;
    wr_status status = begin(r, src_vocab, tgt_vocab, true, &b, err);
    if (status == WR_OK) status = compile(&b, WR_OPTIMIZER_UPDATE, &p->stage[0].update, err);
    if (status == WR_OK && r->train.accumulate > 1)
        status = compile(&b, WR_OPTIMIZER_ACCUMULATE, &p->stage[0].accumulate, err);
    b.model.training = false;
    return status == WR_OK ? compile_valid(&b, ignored, &n, &p->valid, err) : status;
}

wr_status wr__nat_valid_program(const wr_recipe *r, int src_vocab, int tgt_vocab, wr_programs *p,
                                wr_error *err) {
    builder b = {.recipe = r, .p = p};
    wr_status status = begin(r, src_vocab, tgt_vocab, false, &b, err);
    if (status != WR_OK) return status;
    p->stage[0].term = p->nat->term;
    return compile_valid(&b, p->nat->term, &p->stage[0].terms, &p->valid, err);
}
