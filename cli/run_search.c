/* run_search.c: see run_search.h. */
#include "cli/run_search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- options of a FlowSeq ---- */

static bool is(const char *method, const char *name) {
    return method != NULL && strcmp(method, name) == 0;
}

static wr_status check_method(const wr_run_search *s, wr_error *err) {
    bool transformer = is(s->method, "greedy") || is(s->method, "beam");
    bool flow = s->method == NULL || is(s->method, "argmax") || is(s->method, "npd") ||
                is(s->method, "iwd");
    if (!flow)
        return wr_fail(err, WR_ERR_USAGE,
                       "--decode %s is for a %s, but the run is a FlowSeq; use --decode argmax, "
                       "npd or iwd",
                       s->method, transformer ? "Transformer" : "non-autoregressive model");
    const char *other = wr_run_search_nat_option(s);
    if (other != NULL)
        return wr_fail(err, WR_ERR_USAGE,
                       "%s is for a non-autoregressive model, but the run is a FlowSeq", other);
    if (s->beam_given)
        return wr_fail(err, WR_ERR_USAGE,
                       "--beam is for a Transformer, but the run is a FlowSeq; use --lengths and "
                       "--samples with --decode npd or iwd");
    return WR_OK;
}

static wr_status check_flow(const wr_run_search *s, const wr_flowseq_search_options *o,
                            const wr_recipe *recipe, wr_error *err) {
    const char *more = s->lengths_given       ? "--lengths"
                       : s->samples_given     ? "--samples"
                       : s->temperature_given ? "--temperature"
                                              : NULL;
    if (o->method == WR_RECIPE_ARGMAX && more != NULL)
        return wr_fail(err, WR_ERR_USAGE,
                       "%s has no use in argmax, which has one candidate; add --decode npd or "
                       "--decode iwd",
                       more);
    if (o->method != WR_RECIPE_NPD && s->rescorer != NULL)
        return wr_fail(err, WR_ERR_USAGE, "--rescorer needs --decode npd");
    if (o->method == WR_RECIPE_IWD && recipe->prior.layers.text[0] == '\0')
        return wr_fail(err, WR_ERR_INPUT,
                       "--decode iwd weighs candidates by the prior, but this model has none "
                       "(prior.layers is empty); use --decode argmax or npd");
    if (s->nbest > (int64_t)o->lengths * o->samples)
        return wr_fail(err, WR_ERR_USAGE,
                       "--nbest %lld needs at least as many candidates, but there are %d lengths "
                       "with %d samples each",
                       (long long)s->nbest, o->lengths, o->samples);
    return WR_OK;
}

static wr_status flow_options(const wr_run *run, const wr_run_search *s,
                              wr_flowseq_search_options *o, wr_error *err) {
    wr_status status = check_method(s, err);
    if (status != WR_OK) return status;
    *o = wr_flowseq_search_defaults(&run->recipe.decode);
    if (s->method != NULL)
        o->method = is(s->method, "npd")   ? WR_RECIPE_NPD
                    : is(s->method, "iwd") ? WR_RECIPE_IWD
                                           : WR_RECIPE_ARGMAX;
    if (s->lengths_given) o->lengths = (int)s->lengths;
    if (s->samples_given) o->samples = (int)s->samples;
    if (s->temperature_given) o->temperature = s->temperature;
    if (s->max_sentences > 0) o->max_sentences = (int)s->max_sentences;
    if (o->method == WR_RECIPE_ARGMAX) o->lengths = o->samples = 1;
    o->seed = (uint64_t)s->seed;
    status = check_flow(s, o, &run->recipe, err);
    if (s->nbest > 0) o->nbest = (int)s->nbest;
    return status;
}

/* ---- the rescorer ---- */

static bool same_pieces(const wr_subword *a, const wr_subword *b) {
    if (a == NULL || b == NULL) return false;
    size_t n, m;
    const void *x = wr_subword_bytes(a, &n), *y = wr_subword_bytes(b, &m);
    return n == m && memcmp(x, y, n) == 0;
}

bool wr__same_pieces(const wr_run *a, const wr_run *b) {
    return same_pieces(a->src, b->src) && same_pieces(a->tgt, b->tgt);
}

static wr_status check_rescorer(const wr_run *run, const wr_run *rescorer, const char *dir,
                                wr_error *err) {
    if (rescorer->decoder == NULL)
        return wr_fail(err, WR_ERR_INPUT, "--rescorer %s is no Transformer", dir);
    if (wr__same_pieces(run, rescorer)) return WR_OK;
    return wr_fail(err, WR_ERR_INPUT,
                   "--rescorer %s has another vocabulary: its subword models differ; train both on "
                   "the same dataset directory",
                   dir);
}

/* A candidate that the rescorer cannot read loses: its log-probability is minus infinity. */
static wr_status rescore(void *context, size_t n, const size_t *sentence, const wr_sentence *tgt,
                         double *score, double *logp, wr_error *err) {
    wr_run_searcher *x = context;
    wr_status status = wr_judge_score(x->judge, x->src, sentence, tgt, n, logp, err);
    for (size_t i = 0; status == WR_OK && i < n; i++) {
        logp[i] = -logp[i];
        score[i] = wr_search_score(&x->beam, logp[i], (int)tgt[i].n + 1);
    }
    return status;
}

static wr_status open_rescorer(const wr_run_options *o, const wr_run_search *s, wr_run_searcher *x,
                               wr_error *err) {
    wr_run_options other = {
        .dir = s->rescorer, .checkpoint = "best", .device = o->device, .threads = o->threads};
    wr_status status = wr_run_open(&other, &x->rescorer, err);
    if (status == WR_OK) status = check_rescorer(x->run, &x->rescorer, s->rescorer, err);
    const wr_decoder *d = x->rescorer.decoder;
    if (status == WR_OK)
        status = wr_judge_new(wr_decoder_model(d), wr_decoder_session(d), &x->judge, err);
    if (status != WR_OK) return status;
    wr_recipe_decode decode = x->run->recipe.decode;
    if (s->alpha_given) decode.alpha = s->alpha;
    x->beam = wr_search_defaults(&decode);
    x->rescoring = (wr_rescorer){rescore, x};
    x->flow.rescorer = x->nat.rescorer = &x->rescoring;
    return WR_OK;
}

/* ---- the whole ---- */

static wr_status open_options(wr_run *run, const wr_run_search *s, wr_run_searcher *x,
                              wr_error *err) {
    wr_status status = run->flowseq != NULL ? flow_options(run, s, &x->flow, err)
                       : run->nat != NULL   ? wr__nat_searcher_open(s, x, err)
                                            : wr_run_search_options(run, s, &x->beam, err);
    x->nbest = run->flowseq != NULL ? x->flow.nbest
               : run->nat != NULL   ? x->nat.nbest
                                    : x->beam.nbest;
    return status;
}

wr_status wr_run_searcher_open(wr_run *run, const wr_run_options *o, const wr_run_search *s,
                               wr_run_searcher *x, wr_error *err) {
    x->run = run;
    wr_status status = open_options(run, s, x, err);
    if (status != WR_OK) return status;
    if (s->draft != NULL) return wr__drafter_open(o, s, x, err);
    if (run->decoder == NULL && s->alpha_given && s->rescorer == NULL)
        return wr_fail(err, WR_ERR_USAGE, "--alpha normalises the scores of a --rescorer RUN");
    return s->rescorer != NULL ? open_rescorer(o, s, x, err) : WR_OK;
}

void wr_run_searcher_close(wr_run_searcher *x) {
    wr__drafter_close(x);
    wr_judge_free(x->judge);
    wr_run_close(&x->rescorer);
    wr_arpa_free(x->arpa);
    free(x->word);
}

wr_status wr_run_translate(wr_run_searcher *x, const wr_sentence *src, size_t n,
                           void (*progress)(void *context, size_t done, size_t total),
                           void *context, wr_translations *out, wr_error *err) {
    x->src = src;
    x->beam.progress = x->flow.progress = x->nat.progress = progress;
    x->beam.context = x->flow.context = x->nat.context = context;
    if (x->run->flowseq != NULL)
        return wr_flowseq_search(x->run->flowseq, src, n, &x->flow, out, err);
    if (x->run->nat != NULL) return wr_nat_search(x->run->nat, src, n, &x->nat, out, err);
    if (x->drafter != NULL) return wr__drafter_translate(x, src, n, out, err);
    return wr_search(x->run->decoder, src, n, &x->beam, out, err);
}
