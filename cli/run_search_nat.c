/* run_search_nat.c: how to translate with a non-autoregressive model; see run_search.h. */
#include "cli/run_search.h"
#include "models/recipe_nat.h"

#include <stdlib.h>
#include <string.h>

bool wr_run_nat_silent(const wr_recipe *recipe) {
    return wr_objective_at((size_t)recipe->objective.name)->extra;
}

/* ---- options ---- */

/* Methods as a set. */
enum { ARGMAX = 1, MASK_PREDICT = 2, CTC = 4, CTC_BEAM = 8 };

static int bit_of(wr_nat_method method) { return 1 << method; }

static bool uses_ctc(const wr_run *run) {
    return run->recipe.objective.name == WR_RECIPE_OBJECTIVE_CTC;
}

static bool predicts_length(const wr_run *run) { return wr_nat_decoder_lengths(run->nat) > 0; }

/* The methods that the run's model can be decoded by, as words. */
static const char *methods_of(const wr_run *run) {
    if (uses_ctc(run)) return "ctc or ctc-beam";
    return predicts_length(run) ? "argmax or mask-predict" : "argmax";
}

static wr_status choose_method(const wr_run *run, const wr_run_search *s, wr_nat_method *method,
                               wr_error *err) {
    if (s->method == NULL) return WR_OK;
    int found = WR_NAT_METHOD_COUNT;
    for (int i = 0; i < WR_NAT_METHOD_COUNT; i++)
        if (strcmp(s->method, wr_nat_method_name((wr_nat_method)i)) == 0) found = i;
    bool ctc = found == WR_NAT_CTC || found == WR_NAT_CTC_BEAM;
    if (found == WR_NAT_METHOD_COUNT)
        return wr_fail(err, WR_ERR_USAGE,
                       "--decode %s is for another kind of model, but the run is a "
                       "non-autoregressive one; use --decode %s",
                       s->method, methods_of(run));
    if (ctc != uses_ctc(run) || (found == WR_NAT_MASK_PREDICT && !predicts_length(run)))
        return wr_fail(err, WR_ERR_USAGE,
                       "--decode %s does not fit the run's model, which was trained with "
                       "objective.name = %s; use --decode %s",
                       s->method, wr_objective_at((size_t)run->recipe.objective.name)->name,
                       methods_of(run));
    *method = (wr_nat_method)found;
    return WR_OK;
}

/* An option that the method has no use for. */
static wr_status check_uses(const wr_run_search *s, wr_nat_method method, wr_error *err) {
    const struct {
        const char *name;
        bool given;
        int methods;
        const char *instead;
    } options[] = {
        {"--beam", s->beam_given, CTC_BEAM, "--decode ctc-beam"},
        {"--lengths", s->lengths_given, ARGMAX | MASK_PREDICT, "a model that predicts lengths"},
        {"--length-factor", s->length_factor_given, ARGMAX | MASK_PREDICT,
         "a model that predicts lengths"},
        {"--length-window", s->length_window, ARGMAX | MASK_PREDICT,
         "a model that predicts lengths"},
        {"--iterations", s->iterations_given, MASK_PREDICT, "--decode mask-predict"},
        {"--adaptive", s->adaptive, MASK_PREDICT, "--decode mask-predict"},
        {"--lm", s->lm != NULL, CTC_BEAM, "--decode ctc-beam"},
        {"--lm-weight", s->lm_weight_given, CTC_BEAM, "--decode ctc-beam"},
        {"--length-bonus", s->length_bonus_given, CTC_BEAM, "--decode ctc-beam"},
        {"--symbols", s->symbols_given, CTC_BEAM, "--decode ctc-beam"},
        {"--samples", s->samples_given, 0, "a FlowSeq"},
        {"--temperature", s->temperature_given, 0, "a FlowSeq"}};
    for (size_t i = 0; i < WR_COUNT(options); i++)
        if (options[i].given && (options[i].methods & bit_of(method)) == 0)
            return wr_fail(err, WR_ERR_USAGE, "%s has no use in %s; it needs %s", options[i].name,
                           wr_nat_method_name(method), options[i].instead);
    return WR_OK;
}

/* `o`: what the recipe and the command line say together. */
static wr_status check_lengths(const wr_run *run, const wr_run_search *s,
                               const wr_nat_search_options *o, wr_error *err) {
    const char *given = s->lengths_given         ? "--lengths"
                        : s->length_factor_given ? "--length-factor"
                        : s->length_window       ? "--length-window"
                                                 : NULL;
    if (!predicts_length(run) && given != NULL)
        return wr_fail(err, WR_ERR_USAGE,
                       "%s needs a model that predicts lengths, but this one has "
                       "nat.upsample = %d positions for each source word",
                       given, run->recipe.nat.upsample);
    if (s->length_window && o->lengths < 2)
        return wr_fail(err, WR_ERR_USAGE,
                       "--length-window tells which of several lengths are tried; add --lengths L");
    int most = wr_nat_decoder_lengths(run->nat);
    if (predicts_length(run) && s->lengths > most)
        return wr_fail(err, WR_ERR_USAGE,
                       "--lengths %lld, but a sentence has at most %d lengths: the model's "
                       "classes",
                       (long long)s->lengths, most);
    return WR_OK;
}

static wr_status check_candidates(const wr_run_search *s, const wr_nat_search_options *o,
                                  wr_error *err) {
    bool beam = o->method == WR_NAT_CTC_BEAM;
    int candidates = beam ? o->beam : o->lengths;
    const char *more = beam                      ? "--beam"
                       : o->method == WR_NAT_CTC ? "--decode ctc-beam"
                                                 : "--lengths";
    if (s->rescorer != NULL && candidates < 2)
        return wr_fail(err, WR_ERR_USAGE,
                       "--rescorer chooses among candidates, but there is one only; add %s", more);
    if (s->nbest > candidates)
        return wr_fail(err, WR_ERR_USAGE,
                       "--nbest %lld needs at least as many candidates, but there %s %d; add %s",
                       (long long)s->nbest, candidates == 1 ? "is" : "are", candidates, more);
    if (s->lm_weight_given && s->lm == NULL)
        return wr_fail(err, WR_ERR_USAGE, "--lm-weight weighs an n-gram model; add --lm FILE");
    return WR_OK;
}

static wr_status read_options(const wr_run *run, const wr_run_search *s, wr_nat_search_options *o,
                              wr_error *err) {
    *o = wr_recipe_nat_search(&run->recipe);
    wr_status status = choose_method(run, s, &o->method, err);
    if (status == WR_OK) status = check_uses(s, o->method, err);
    if (status != WR_OK) return status;
    if (s->beam_given) o->beam = (int)s->beam;
    if (s->lengths_given) o->lengths = (int)s->lengths;
    if (s->iterations_given) o->passes = (int)s->iterations;
    if (s->length_factor_given) o->length_factor = s->length_factor;
    if (s->length_bonus_given) o->length_bonus = s->length_bonus;
    if (s->symbols_given) o->symbols = (int)s->symbols;
    if (s->max_sentences > 0) o->max_sentences = (int)s->max_sentences;
    o->window = o->window || s->length_window;
    o->adaptive = o->adaptive || s->adaptive;
    o->dedup = o->dedup || s->dedup;
    status = check_lengths(run, s, o, err);
    if (status == WR_OK) status = check_candidates(s, o, err);
    if (s->nbest > 0) o->nbest = (int)s->nbest;
    return status;
}

/* ---- the n-gram model ---- */

/* The model's words for the pieces. The end of sentence, which frames may say, is the model's, not
 * a word; the mask and the blank are never asked for. */
static size_t find_words(const wr_run *run, const wr_arpa *arpa, int32_t *word) {
    size_t known = 0;
    for (int i = 0; i < run->tgt_vocab + WR_NAT_EXTRA; i++)
        word[i] = -1;
    for (int32_t i = WR_SPECIAL_IDS; i < run->tgt_vocab; i++) {
        const char *piece = wr_subword_piece(run->tgt, i);
        word[i] = piece == NULL ? -1 : wr_arpa_word(arpa, piece);
        if (word[i] >= 0) known++;
    }
    return known;
}

static wr_status open_lm(const wr_run_search *s, wr_run_searcher *x, wr_error *err) {
    const wr_run *run = x->run;
    size_t words = (size_t)run->tgt_vocab + WR_NAT_EXTRA;
    wr_status status = wr_arpa_read(s->lm, &x->arpa, err);
    if (status != WR_OK) return status;
    x->word = malloc(sizeof *x->word * words);
    if (x->word == NULL) return wr_fail_memory(err, "words", sizeof *x->word * words);
    if (find_words(run, x->arpa, x->word) == 0)
        return wr_fail(
            err, WR_ERR_INPUT,
            "%s: none of its words is a piece of the run's target vocabulary; make it of "
            "text in pieces, as the run's subword model (target.model or joint.model) "
            "encodes it",
            s->lm);
    x->lm = (wr_ctc_lm){.arpa = x->arpa, .word = x->word};
    x->nat.lm = &x->lm;
    x->nat.lm_weight = s->lm_weight;
    return WR_OK;
}

wr_status wr__nat_searcher_open(const wr_run_search *s, wr_run_searcher *x, wr_error *err) {
    wr_status status = read_options(x->run, s, &x->nat, err);
    return status == WR_OK && s->lm != NULL ? open_lm(s, x, err) : status;
}
