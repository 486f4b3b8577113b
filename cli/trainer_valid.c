/* trainer_valid.c: validation during training; see trainer.h. */
#include "cli/run_search.h"
#include "cli/trainer.h"
#include "cli/valid_terms.h"
#include "data/score.h"
#include "models/flowseq_decoder.h"
#include "models/nat_decoder.h"
#include "models/recipe_flowseq.h"
#include "models/recipe_nat.h"
#include "models/search.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static wr_status sum_terms(wr_trainer *t, const wr_pairs *pairs, wr_valid_sums *x, wr_error *err) {
    wr_validating v = {.recipe = &t->recipe, .session = t->session};
    wr_status status = wr_valid_sum(&v, &t->programs, pairs, x, err);
    if (status == WR_OK && x->left_out > 0)
        wr_bar_line(&t->bar,
                    "validation: %lld sentences longer than model.max_len are left out of nll",
                    (long long)x->left_out);
    return status;
}

/* Texts of the first n translations and of their references. */
typedef struct texts {
    wr_str text; /* all translations, NUL-terminated one after the other */
    const char **hyp, **ref;
} texts;

static void texts_free(texts *x) {
    wr_str_free(&x->text);
    free(x->hyp);
    free(x->ref);
}

static wr_status bleu_of(const wr_trainer *t, const texts *x, size_t n, double *score,
                         wr_error *err) {
    wr_score_options o = {.lowercase = wr_dataset_info_of(t->data)->lowercase};
    wr_bleu_result bleu = {0};
    wr_status status =
        wr_bleu_strings(x->hyp, (const char *const *const[]){x->ref}, 1, n, &o, &bleu, err);
    *score = bleu.score;
    return status;
}

static wr_status decode_texts(const wr_trainer *t, const wr_pairs *pairs,
                              const wr_translations *out, texts *x, wr_error *err) {
    size_t *at = malloc(sizeof *at * (out->n + 1));
    x->hyp = malloc(sizeof *x->hyp * (out->n + 1));
    x->ref = malloc(sizeof *x->ref * (out->n + 1));
    wr_status status = at != NULL && x->hyp != NULL && x->ref != NULL
                           ? WR_OK
                           : wr_fail_memory(err, "translations", out->n * sizeof *at);
    for (size_t i = 0; status == WR_OK && i < out->n; i++) {
        const wr_hypothesis *h = &out->hyp[i * out->nbest];
        at[i] = x->text.len;
        x->ref[i] = wr_side_text(&pairs->tgt, i);
        status = wr_subword_decode(wr_dataset_tgt_model(t->data), h->id, h->n, &x->text, err);
        wr_str_bytes(&x->text, "", 1);
    }
    if (status == WR_OK && x->text.oom) status = wr_fail_memory(err, "translations", x->text.len);
    for (size_t i = 0; status == WR_OK && i < out->n; i++)
        x->hyp[i] = x->text.text + at[i];
    free(at);
    return status;
}

/* The first n pairs as sentences. */
static wr_sentence *sentences_of(const wr_side *side, size_t n) {
    wr_sentence *x = malloc(sizeof *x * (n + 1));
    for (size_t i = 0; x != NULL && i < n; i++) {
        x[i] = (wr_sentence){0};
        x[i].id = wr_side_ids(side, i, &x[i].n);
    }
    return x;
}

static wr_status search_transformer(wr_trainer *t, const wr_sentence *src, size_t n,
                                    wr_translations *out, wr_error *err) {
    wr_transformer model = wr_transformer_of(&t->recipe, wr_dataset_info_of(t->data)->src_vocab,
                                             wr_dataset_info_of(t->data)->tgt_vocab, false);
    wr_search_options o = wr_search_defaults(&t->recipe.decode);
    o.cache_bytes = (size_t)128 << 20; /* the caches stay in the training session */
    o.beam = t->recipe.train.valid_decode == WR_RECIPE_VALID_BEAM ? t->recipe.train.valid_beam : 1;
    wr_decoder *decoder = NULL;
    wr_status status = wr_decoder_new(&model, t->session, &decoder, err);
    if (status == WR_OK) status = wr_search(decoder, src, n, &o, out, err);
    wr_decoder_free(decoder);
    return status;
}

/* BLEU of what the model makes of the posterior's mean, and how well it guesses lengths. */
static wr_status reconstruct(wr_trainer *t, wr_flowseq_decoder *d, const wr_pairs *pairs,
                             const wr_sentence *src, const wr_sentence *tgt, size_t n,
                             wr_validation *v, wr_error *err) {
    wr_flowseq_measuring o = {.max_tokens = (size_t)t->recipe.data.max_tokens};
    wr_translations out = {0};
    texts x = {0};
    wr_status status = wr_flowseq_reconstruct(d, src, tgt, n, &o, &out, err);
    if (status == WR_OK) status = decode_texts(t, pairs, &out, &x, err);
    if (status == WR_OK) status = bleu_of(t, &x, n, &v->reconstruction_bleu, err);
    if (status == WR_OK)
        status = wr_flowseq_length_error(d, src, tgt, n, &o, &v->length_error, err);
    texts_free(&x);
    wr_translations_free(&out);
    return status;
}

static wr_status search_flowseq(wr_trainer *t, const wr_pairs *pairs, const wr_sentence *src,
                                size_t n, wr_translations *out, wr_validation *v, wr_error *err) {
    wr_flowseq model;
    wr_flowseq_search_options o = wr_flowseq_search_defaults(&t->recipe.decode);
    o.method = WR_RECIPE_ARGMAX;
    o.max_tokens = (size_t)t->recipe.data.max_tokens;
    wr_flowseq_decoder *decoder = NULL;
    wr_sentence *tgt = sentences_of(&pairs->tgt, n);
    wr_status status = tgt == NULL ? wr_fail_memory(err, "sentences", n * sizeof *tgt) : WR_OK;
    if (status == WR_OK)
        status =
            wr_recipe_flowseq_model(&t->recipe, wr_dataset_info_of(t->data)->src_vocab,
                                    wr_dataset_info_of(t->data)->tgt_vocab, false, &model, err);
    if (status == WR_OK) status = wr_flowseq_decoder_new(&model, t->session, &decoder, err);
    if (status == WR_OK) wr_flowseq_decoder_changed(decoder);
    if (status == WR_OK) status = wr_flowseq_search(decoder, src, n, &o, out, err);
    if (status == WR_OK) status = reconstruct(t, decoder, pairs, src, tgt, n, v, err);
    wr_flowseq_decoder_free(decoder);
    free(tgt);
    return status;
}

/* One pass, or as section `decode` says. */
static wr_status search_nat(wr_trainer *t, const wr_sentence *src, size_t n, wr_translations *out,
                            wr_error *err) {
    bool ctc = t->recipe.objective.name == WR_RECIPE_OBJECTIVE_CTC;
    wr_nat_search_options o = wr_recipe_nat_search(&t->recipe);
    wr_nat model;
    wr_nat_decoder *decoder = NULL;
    wr_status status =
        wr_recipe_nat_model(&t->recipe, wr_dataset_info_of(t->data)->src_vocab,
                            wr_dataset_info_of(t->data)->tgt_vocab, false, &model, err);
    if (t->recipe.train.valid_decode == WR_RECIPE_VALID_ARGMAX)
        o.method = ctc ? WR_NAT_CTC : WR_NAT_ARGMAX;
    o.max_tokens = (size_t)t->recipe.data.max_tokens;
    if (status == WR_OK)
        status =
            wr_nat_decoder_new(&model, wr_run_nat_silent(&t->recipe), t->session, &decoder, err);
    if (status == WR_OK) status = wr_nat_search(decoder, src, n, &o, out, err);
    wr_nat_decoder_free(decoder);
    return status;
}

static wr_status search(wr_trainer *t, const wr_pairs *pairs, size_t n, wr_translations *out,
                        wr_validation *v, wr_error *err) {
    wr_sentence *src = sentences_of(&pairs->src, n);
    if (src == NULL) return wr_fail_memory(err, "sentences", n * sizeof *src);
    wr_recipe_model_type type = t->recipe.model.type;
    wr_status status = type == WR_RECIPE_FLOWSEQ ? search_flowseq(t, pairs, src, n, out, v, err)
                       : type == WR_RECIPE_NAT   ? search_nat(t, src, n, out, err)
                                                 : search_transformer(t, src, n, out, err);
    free(src);
    return status;
}

static wr_status score(wr_trainer *t, const wr_pairs *pairs, wr_validation *v, wr_error *err) {
    size_t n = pairs->n, limit = (size_t)t->recipe.train.valid_sentences;
    if (limit > 0 && limit < n) n = limit;
    wr_translations out = {0};
    texts x = {0};
    wr_status status = search(t, pairs, n, &out, v, err);
    if (status == WR_OK) status = decode_texts(t, pairs, &out, &x, err);
    if (status == WR_OK) {
        status = bleu_of(t, &x, n, &v->bleu, err);
        size_t which = (size_t)t->at->update % n;
        snprintf(v->sample, sizeof v->sample, "%.160s | %.160s | %.160s",
                 wr_side_text(&pairs->src, which), x.hyp[which], x.ref[which]);
    }
    texts_free(&x);
    wr_translations_free(&out);
    return status;
}

/* The negative log-likelihood per token, or what bounds it: reconstruction + KL. */
static double nll_per_token(const wr_stage *last, const wr_valid_sums *x) {
    double nll = 0;
    for (int k = 0; k < last->terms; k++) {
        const char *name = last->term[k].name;
        if (strcmp(name, "nll") == 0 || strcmp(name, "recon") == 0 || strcmp(name, "kl") == 0)
            nll += x->term[k];
    }
    return x->tokens > 0 ? nll / x->tokens : 0;
}

wr_status wr_trainer_validate(wr_trainer *t, wr_validation *v, wr_error *err) {
    const wr_pairs *pairs = wr_dataset_pairs(t->data, WR_VALID);
    const wr_stage *last = &t->programs.stage[t->programs.stages - 1];
    wr_valid_sums x = {0};
    *v = (wr_validation){.bleu = -1, .reconstruction_bleu = -1};
    wr_status status = sum_terms(t, pairs, &x, err);
    v->nll = nll_per_token(last, &x);
    for (int k = 0; k < wr_programs_valid_terms(&t->programs); k++)
        v->term[k] = wr_term_value(&t->programs, &last->term[k], x.term[k], x.sentences, x.tokens);
    if (status == WR_OK && t->recipe.train.valid_decode != WR_RECIPE_VALID_NONE)
        status = score(t, pairs, v, err);
    return status;
}
