/* run_dir.c: see run_dir.h. */
#include "cli/run_dir.h"

#include "cli/programs.h"
#include "cli/run_search.h"
#include "models/recipe_flowseq.h"
#include "models/recipe_nat.h"
#include "optim/checkpoint.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- files of a run ---- */

/* "DIR/name", to be freed. */
static char *path_in(const char *dir, const char *name, wr_error *err) {
    wr_str s = {0};
    wr_str_add(&s, "%s/%s", dir, name);
    char *path = s.oom ? NULL : wr_strdup(wr_str_text(&s));
    if (path == NULL) wr_fail_memory(err, "a path", strlen(dir) + strlen(name) + 2);
    wr_str_free(&s);
    return path;
}

static wr_status load_recipe(const wr_run_options *o, wr_recipe *recipe, wr_error *err) {
    char *path = path_in(o->dir, "recipe.yaml", err);
    if (path == NULL) return WR_ERR_MEMORY;
    size_t n = o->set == NULL ? 0 : o->set->n;
    wr_status status = wr_recipe_load_saved(path, n == 0 ? NULL : o->set->items, n, recipe, err);
    free(path);
    return status;
}

static wr_status load_subword(const char *dir, const char *name, wr_subword **out, wr_error *err) {
    char *path = path_in(dir, name, err);
    if (path == NULL) return WR_ERR_MEMORY;
    wr_status status = wr_subword_load(path, out, err);
    free(path);
    return status;
}

static bool has_file(const char *dir, const char *name) {
    wr_error ignored = {0};
    char *path = path_in(dir, name, &ignored);
    bool has = path != NULL && access(path, F_OK) == 0;
    free(path);
    return has;
}

/* A run that was imported has no subword models, and its recipe tells the vocabularies. */
static bool has_no_text(const char *dir, const wr_run *run) {
    return run->recipe.data.src_vocab > 0 && run->recipe.data.tgt_vocab > 0 &&
           !has_file(dir, "source.model") && !has_file(dir, "target.model");
}

static wr_status load_subwords(const char *dir, wr_run *run, wr_error *err) {
    wr_status status = WR_OK;
    if (has_file(dir, "joint.model")) {
        status = load_subword(dir, "joint.model", &run->src, err);
        run->tgt = run->src;
    } else if (has_no_text(dir, run)) {
        run->src_vocab = run->recipe.data.src_vocab;
        run->tgt_vocab = run->recipe.data.tgt_vocab;
        return WR_OK;
    } else {
        status = load_subword(dir, "source.model", &run->src, err);
        if (status == WR_OK) status = load_subword(dir, "target.model", &run->tgt, err);
    }
    if (status != WR_OK) return status;
    run->src_vocab = wr_subword_vocab(run->src);
    run->tgt_vocab = wr_subword_vocab(run->tgt);
    return WR_OK;
}

wr_status wr_run_needs_text(const wr_run *run, const char *dir, wr_error *err) {
    if (run->src != NULL && run->tgt != NULL) return WR_OK;
    return wr_fail(
        err, WR_ERR_INPUT,
        "%s has no subword models (joint.model, or source.model and target.model), so it "
        "reads token ids only: weir evaluate --src-ids FILE --tgt-ids FILE",
        dir);
}

/* ---- parameters ---- */

/* A program that reads every parameter. */
static wr_status reading_program(wr_run *run, wr_program **program, wr_error *err) {
    if (run->flowseq != NULL) return wr_flowseq_decoder_program(run->flowseq, program, err);
    if (run->nat != NULL) return wr_nat_decoder_program(run->nat, program, err);
    return wr_decoder_program(run->decoder, program, err);
}

/* A run that was stopped before its first validation has a last checkpoint, but no best one. */
static wr_status check_validated(const wr_run_options *o, const char *folder, wr_error *err) {
    bool missing = strcmp(o->checkpoint, "best") == 0 || strcmp(o->checkpoint, "average") == 0;
    if (!missing || has_file(folder, o->checkpoint) || !wr_checkpoint_exists(folder)) return WR_OK;
    return wr_fail(err, WR_ERR_INPUT,
                   "%s has no checkpoint \"%s\": it was stopped before %s; go on with it by weir "
                   "train --resume, or use --checkpoint last",
                   o->dir, o->checkpoint,
                   o->checkpoint[0] == 'b' ? "its first validation" : "its end, or averages none");
}

static wr_status load_parameters(const wr_run_options *o, wr_run *run, wr_error *err) {
    bool number = strspn(o->checkpoint, "0123456789") == strlen(o->checkpoint);
    wr_str which = {0}, file = {0};
    wr_str_add(&which, "%s%s", number ? "step-" : "", o->checkpoint);
    char *folder = path_in(o->dir, "checkpoints", err);
    wr_program *program = NULL;
    wr_status status =
        folder == NULL || which.oom ? wr_fail_memory(err, "a path", which.len) : WR_OK;
    if (status == WR_OK) status = check_validated(o, folder, err);
    if (status == WR_OK) status = wr_checkpoint_locate(folder, wr_str_text(&which), &file, err);
    if (status == WR_OK) status = reading_program(run, &program, err);
    if (status == WR_OK)
        status = wr_checkpoint_load(wr_str_text(&file), run->session, 1, &program, false, err);
    free(folder);
    wr_str_free(&which);
    wr_str_free(&file);
    return status;
}

/* ---- the whole ---- */

static wr_status open_flowseq(wr_run *run, wr_error *err) {
    wr_flowseq f;
    wr_status status =
        wr_recipe_flowseq_model(&run->recipe, run->src_vocab, run->tgt_vocab, false, &f, err);
    return status == WR_OK ? wr_flowseq_decoder_new(&f, run->session, &run->flowseq, err) : status;
}

static wr_status open_nat(wr_run *run, wr_error *err) {
    wr_nat n;
    wr_status status =
        wr_recipe_nat_model(&run->recipe, run->src_vocab, run->tgt_vocab, false, &n, err);
    if (status != WR_OK) return status;
    return wr_nat_decoder_new(&n, wr_run_nat_silent(&run->recipe), run->session, &run->nat, err);
}

static wr_status open_decoder(wr_run *run, wr_error *err) {
    if (run->recipe.model.type == WR_RECIPE_FLOWSEQ) return open_flowseq(run, err);
    if (run->recipe.model.type == WR_RECIPE_NAT) return open_nat(run, err);
    wr_transformer t = wr_transformer_of(&run->recipe, run->src_vocab, run->tgt_vocab, false);
    return wr_decoder_new(&t, run->session, &run->decoder, err);
}

static wr_status open_model(const wr_run_options *o, wr_run *run, wr_error *err) {
    wr_session_options so = {.device = o->device,
                             .threads = (int)o->threads,
                             .seed = (uint64_t)run->recipe.train.seed,
                             .trap_nan = o->trap_nan};
    wr_status status = wr_session_new(&so, &run->session, err);
    if (status == WR_OK) status = open_decoder(run, err);
    return status == WR_OK ? load_parameters(o, run, err) : status;
}

wr_status wr_run_open(const wr_run_options *o, wr_run *run, wr_error *err) {
    *run = (wr_run){0};
    wr_status status = load_recipe(o, &run->recipe, err);
    if (status == WR_OK) status = load_subwords(o->dir, run, err);
    if (status == WR_OK) status = open_model(o, run, err);
    return status;
}

void wr_run_close(wr_run *run) {
    wr_decoder_free(run->decoder);
    wr_flowseq_decoder_free(run->flowseq);
    wr_nat_decoder_free(run->nat);
    wr_session_free(run->session);
    if (run->tgt != run->src) wr_subword_free(run->tgt);
    wr_subword_free(run->src);
    *run = (wr_run){0};
}

const char *wr_run_kind(const wr_run *run) {
    return run->flowseq != NULL ? "a FlowSeq"
           : run->nat != NULL   ? "a non-autoregressive model"
                                : "a Transformer";
}

int wr_run_max_len(const wr_run *run) {
    if (run->nat != NULL) return wr_nat_decoder_max_len(run->nat);
    return run->flowseq != NULL ? wr_flowseq_decoder_model(run->flowseq)->max_positions
                                : run->recipe.model.max_len;
}

/* ---- searching ---- */

const char *wr_run_search_nat_option(const wr_run_search *s) {
    const struct {
        const char *name;
        bool given;
    } options[] = {{"--iterations", s->iterations_given},
                   {"--adaptive", s->adaptive},
                   {"--length-factor", s->length_factor_given},
                   {"--length-window", s->length_window},
                   {"--dedup", s->dedup},
                   {"--lm", s->lm != NULL},
                   {"--lm-weight", s->lm_weight_given},
                   {"--length-bonus", s->length_bonus_given},
                   {"--symbols", s->symbols_given}};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (options[i].given) return options[i].name;
    return NULL;
}

/* The kinds of models that a method other than greedy and beam is for. */
static const char *kinds_of(const char *method) {
    if (strcmp(method, "argmax") == 0) return "a FlowSeq or a non-autoregressive model";
    bool flow = strcmp(method, "npd") == 0 || strcmp(method, "iwd") == 0;
    return flow ? "a FlowSeq" : "a non-autoregressive model";
}

/* What fits no Transformer. */
static wr_status for_transformer(const wr_run *run, const wr_run_search *s, wr_error *err) {
    if (run->decoder == NULL)
        return wr_fail(err, WR_ERR_INPUT, "the run is %s; what is asked for needs a Transformer",
                       wr_run_kind(run));
    if (s->method != NULL && strcmp(s->method, "greedy") != 0 && strcmp(s->method, "beam") != 0)
        return wr_fail(err, WR_ERR_USAGE,
                       "--decode %s is for %s, but the run is a Transformer; use --decode greedy "
                       "or --decode beam",
                       s->method, kinds_of(s->method));
    const char *sampled = s->samples_given       ? "--samples"
                          : s->temperature_given ? "--temperature"
                                                 : NULL;
    const char *both = s->lengths_given ? "--lengths" : s->rescorer != NULL ? "--rescorer" : NULL;
    const char *nat = wr_run_search_nat_option(s);
    if (sampled == NULL && both == NULL && nat == NULL) return WR_OK;
    return wr_fail(err, WR_ERR_USAGE, "%s is for %s, but the run is a Transformer",
                   sampled != NULL ? sampled
                   : both != NULL  ? both
                                   : nat,
                   sampled != NULL ? "a FlowSeq"
                   : both != NULL  ? "a FlowSeq or a non-autoregressive model"
                                   : "a non-autoregressive model");
}

wr_status wr_run_search_options(const wr_run *run, const wr_run_search *s, wr_search_options *o,
                                wr_error *err) {
    wr_status status = for_transformer(run, s, err);
    if (status != WR_OK) return status;
    wr_recipe_decode decode = run->recipe.decode;
    bool greedy = s->method != NULL && strcmp(s->method, "greedy") == 0;
    if (greedy && s->beam_given && s->beam > 1)
        return wr_fail(err, WR_ERR_USAGE,
                       "--decode greedy keeps one hypothesis; leave out --beam %lld or use "
                       "--decode beam",
                       (long long)s->beam);
    if (s->method != NULL || s->beam_given)
        decode.method = greedy ? WR_RECIPE_GREEDY : WR_RECIPE_BEAM;
    if (s->beam_given) decode.beam = (int)s->beam;
    if (s->alpha_given) decode.alpha = s->alpha;
    if (s->max_sentences > 0) decode.max_sentences = (int)s->max_sentences;
    *o = wr_search_defaults(&decode);
    if (s->nbest > o->beam)
        return wr_fail(err, WR_ERR_USAGE,
                       "--nbest %lld needs a beam of at least as many hypotheses, but it is %d; "
                       "use --beam %lld",
                       (long long)s->nbest, o->beam, (long long)s->nbest);
    if (s->nbest > 0) o->nbest = (int)s->nbest;
    return WR_OK;
}

wr_status wr_run_text(const wr_run *run, const wr_hypothesis *h, wr_str *out, wr_error *err) {
    size_t from = out->len;
    wr_status status = wr_subword_decode(run->tgt, h->id, h->n, out, err);
    if (status == WR_OK && out->oom) status = wr_fail_memory(err, "a translation", out->len);
    for (size_t i = from; status == WR_OK && i < out->len; i++)
        if (out->text[i] == '\n' || out->text[i] == '\r' || out->text[i] == '\0')
            out->text[i] = ' ';
    return status;
}
