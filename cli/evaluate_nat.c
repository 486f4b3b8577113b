/* evaluate_nat.c: `weir evaluate` of a non-autoregressive model; see evaluate_internal.h and
 * docs/decoding.md. */
#include "cli/evaluate_internal.h"
#include "cli/valid_terms.h"
#include "models/recipe_nat.h"
#include "ops/fuse.h"

#include <stdio.h>
#include <stdlib.h>

enum { SRC = WR_EVALUATE_SRC, TGT = WR_EVALUATE_TGT, SIDES = WR_EVALUATE_SIDES };

/* ---- the pairs ---- */

/* Cut pairs would have another meaning. */
static wr_status check_lengths(const wr_evaluation *e, wr_error *err) {
    size_t most = (size_t)wr_nat_decoder_max_len(e->run.nat) - 1;
    for (size_t i = 0; i < e->n; i++) {
        size_t src = e->sentence[SRC][i].n, tgt = e->sentence[TGT][i].n;
        if (src > most || tgt > most)
            return wr_fail(err, WR_ERR_INPUT,
                           "pair %zu has %zu and %zu tokens, but the model's longest sentence "
                           "(model.max_len = %d) leaves room for %zu and the end",
                           i + 1, src, tgt, e->run.recipe.model.max_len, most);
    }
    return WR_OK;
}

/* The sentences of the evaluation as pairs; `at` holds what belongs to ids of files. */
static wr_status pairs_of(const wr_evaluation *e, uint64_t *at[SIDES], wr_pairs *pairs,
                          wr_error *err) {
    if (e->pairs != NULL) {
        *pairs = *e->pairs;
        return WR_OK;
    }
    for (int side = 0; side < SIDES; side++) {
        at[side] = malloc(sizeof *at[side] * (e->n + 1));
        if (at[side] == NULL) return wr_fail_memory(err, "sentences", e->n * sizeof *at[side]);
        for (size_t i = 0; i < e->n; i++)
            at[side][i] = e->from[side][i];
        at[side][e->n] = e->pool[side].n;
    }
    *pairs = (wr_pairs){.n = e->n,
                        .src = {.id_at = at[SRC], .id = e->pool[SRC].id},
                        .tgt = {.id_at = at[TGT], .id = e->pool[TGT].id}};
    return WR_OK;
}

static wr_validating validating_of(wr_evaluation *e) {
    return (wr_validating){.recipe = &e->run.recipe,
                           .session = e->run.session,
                           .max_tokens = e->o->max_tokens_given ? (size_t)e->o->max_tokens : 0,
                           .progress = wr__evaluate_progress,
                           .context = e};
}

/* ---- the whole ---- */

static void print_totals(const wr_evaluation *e, const wr_programs *p, const wr_valid_sums *x,
                         const wr_evaluate_scores *scores) {
    const wr_term *term = p->stage[0].term;
    bool translated = e->pairs != NULL;
    printf("sentences\ttokens");
    for (int k = 0; k < x->terms; k++)
        printf("\t%s", term[k].name);
    printf("%s\n%zu\t%.0f", translated ? "\tbleu\tchrf" : "", e->n, x->tokens);
    for (int k = 0; k < x->terms; k++) {
        double value = wr_term_value(p, &term[k], x->term[k], x->sentences, x->tokens);
        printf(term[k].per == WR_PER_NOTHING ? "\t%.0f" : "\t%.6f", value);
    }
    if (translated) printf("\t%.4f\t%.4f", scores->bleu, scores->chrf);
    printf("\n");
}

static wr_status measure_totals(wr_evaluation *e, const wr_pairs *pairs, wr_error *err) {
    wr_validating v = validating_of(e);
    wr_programs p;
    wr_valid_sums x;
    wr_evaluate_scores scores = {0};
    wr_status status =
        wr_programs_new_nat_valid(&e->run.recipe, e->run.src_vocab, e->run.tgt_vocab, &p, err);
    if (status == WR_OK) status = wr_valid_sum(&v, &p, pairs, &x, err);
    if (status == WR_OK && e->pairs != NULL) status = wr__evaluate_translate(e, &scores, err);
    wr_bar_end(&e->bar);
    if (status == WR_OK) print_totals(e, &p, &x, &scores);
    wr_programs_free(&p);
    return status;
}

/* ---- sentence by sentence ---- */

/* Outputs of the program, [B] each. */
enum { NLL, TOKENS, FEASIBLE, LENGTH, OUTPUTS };

typedef struct each {
    wr_nat model;
    wr_nat_training *training; /* stays where it is for the program */
    wr_program *program;
    int outputs;            /* OUTPUTS, or without LENGTH where it is not predicted */
    double *value[OUTPUTS]; /* [n] */
} each;

static wr_status compile(each *x, wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", sizeof(wr_node));
    wr_nat_pairs in = wr_nat_inputs(&x->model, g);
    wr_nat_losses l = wr_nat_losses_of(&x->model, x->training, &in, false);
    const wr outputs[OUTPUTS] = {[NLL] = l.objective.loss,
                                 [TOKENS] = l.objective.tokens_of,
                                 [FEASIBLE] = l.objective.feasible,
                                 [LENGTH] = l.length_of};
    x->outputs = wr_is_poison(l.length_of) ? LENGTH : OUTPUTS;
    wr_status status =
        wr_program_new(g, x->outputs, outputs, wr_standard_passes(), &x->program, err);
    wr_graph_free(g);
    return status;
}

static wr_status each_new(const wr_evaluation *e, each *x, wr_error *err) {
    const wr_recipe *r = &e->run.recipe;
    *x = (each){.training = calloc(1, sizeof *x->training)};
    bool ok = x->training != NULL;
    for (int k = 0; k < OUTPUTS; k++) {
        x->value[k] = malloc(sizeof *x->value[k] * (e->n + 1));
        ok = ok && x->value[k] != NULL;
    }
    if (!ok) return wr_fail_memory(err, "losses", e->n * sizeof **x->value);
    wr_status status =
        wr_recipe_nat_model(r, e->run.src_vocab, e->run.tgt_vocab, false, &x->model, err);
    if (status == WR_OK) status = wr_recipe_nat_training(r, x->training, err);
    return status == WR_OK ? compile(x, err) : status;
}

static void each_free(each *x) {
    wr_program_free(x->program);
    for (int k = 0; k < OUTPUTS; k++)
        free(x->value[k]);
    free(x->training);
}

static void take(void *context, const wr_batch *b, const wr_fed *fed, wr_session *s) {
    each *x = context;
    (void)fed;
    for (int k = 0; k < x->outputs; k++)
        for (int32_t i = 0; i < b->B; i++)
            x->value[k][b->id[i]] = wr_real_value(wr_session_output(s, k), i);
}

static void print_sentences(const wr_evaluation *e, const each *x) {
    bool predicts = x->outputs > LENGTH;
    printf("sentence\tnll\ttokens%s\tinfeasible\n", predicts ? "\tlength" : "");
    for (size_t i = 0; i < e->n; i++) {
        printf("%zu\t%.9g\t%.9g", i + 1, x->value[NLL][i], x->value[TOKENS][i]);
        if (predicts) printf("\t%.9g", x->value[LENGTH][i]);
        printf("\t%d\n", x->value[FEASIBLE][i] > 0 ? 0 : 1);
    }
}

static wr_status measure_sentences(wr_evaluation *e, const wr_pairs *pairs, wr_error *err) {
    wr_validating v = validating_of(e);
    each x;
    int64_t left_out;
    wr_status status = each_new(e, &x, err);
    const wr_feeding feeding = {.type = WR_RECIPE_NAT,
                                .framing = x.model.framing,
                                .multiple = e->run.recipe.data.length_multiple,
                                .max_len = wr_padded_max_len(&e->run.recipe)};
    if (status == WR_OK)
        status = wr_valid_run(&v, &feeding, x.program, pairs, take, &x, &left_out, err);
    wr_bar_end(&e->bar);
    if (status == WR_OK) print_sentences(e, &x);
    each_free(&x);
    return status;
}

wr_status wr__evaluate_nat(wr_evaluation *e, wr_error *err) {
    uint64_t *at[SIDES] = {NULL, NULL};
    wr_pairs pairs;
    wr_status status = check_lengths(e, err);
    if (status == WR_OK) status = pairs_of(e, at, &pairs, err);
    if (status == WR_OK)
        status =
            e->o->per_sentence ? measure_sentences(e, &pairs, err) : measure_totals(e, &pairs, err);
    for (int side = 0; side < SIDES; side++)
        free(at[side]);
    return status;
}
