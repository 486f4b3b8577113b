/* trainer.c: the training loop; see trainer.h. */
#include "cli/trainer.h"

#include "optim/optimizer.h"
#include "optim/schedule.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SKIPPED_AT_MOST = 100 }; /* updates in a row that were not applied */

/* ---- setting up ---- */

/* A model that is never whole is never validated, and its prior stays as it began. */
static wr_status check_stages(const wr_trainer *t, wr_error *err) {
    int64_t before = wr_schedule_pretraining(&t->recipe);
    if (before < t->recipe.train.max_updates) return WR_OK;
    return wr_fail(err, WR_ERR_INPUT,
                   "%s: train.pretrain_updates = %lld leaves none of train.max_updates = %d for "
                   "the main phase, which trains the prior; allowed: train.pretrain_updates below "
                   "train.max_updates",
                   t->o->recipe, (long long)before, t->recipe.train.max_updates);
}

static wr_status check_fit(const wr_trainer *t, wr_error *err) {
    const wr_dataset_info *d = wr_dataset_info_of(t->data);
    if (t->recipe.model.embeddings == WR_RECIPE_EMBED_JOINT && !d->joint)
        return wr_fail(
            err, WR_ERR_INPUT,
            "%s: model.embeddings is joint, but %s has two vocabularies; prepare it with "
            "--joint, or set model.embeddings=target",
            t->o->recipe, t->o->data);
    const wr_pairs *train = wr_dataset_pairs(t->data, WR_TRAIN);
    size_t src = wr_side_longest(&train->src, train->n),
           tgt = wr_side_longest(&train->tgt, train->n);
    size_t need = (src > tgt ? src : tgt) + 1;
    if ((size_t)t->recipe.model.max_len < need)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s: model.max_len is %d, but %s has training sentences of up to %zu tokens "
                       "with their end; set model.max_len=%zu, or prepare with --max-len %d",
                       t->o->recipe, t->recipe.model.max_len, t->o->data, need, need,
                       t->recipe.model.max_len - 1);
    return WR_OK;
}

static wr_status open_batches(wr_trainer *t, wr_error *err) {
    wr_batches_options o = wr_batches_defaults();
    o.max_tokens = (size_t)t->recipe.data.max_tokens;
    o.max_sentences = (size_t)t->recipe.data.max_sentences;
    o.multiple = (size_t)t->recipe.data.length_multiple;
    o.seed = (uint64_t)t->recipe.train.seed;
    return wr_batches_open(wr_dataset_pairs(t->data, WR_TRAIN), &o, &t->batches, err);
}

static wr_status open_session(wr_trainer *t, wr_error *err) {
    wr_session_options o = {.device = t->o->device,
                            .threads = (int)t->o->threads,
                            .seed = (uint64_t)t->recipe.train.seed,
                            .trap_nan = t->o->trap_nan,
                            .deferred = true};
    wr_precision_find(t->o->precision, &o.precision);
    wr_status status = wr_session_new(&o, &t->session, err);
    if (status == WR_OK) t->overlapping = strcmp(wr_session_device(t->session), "cpu") != 0;
    if (status == WR_OK && *wr_session_note(t->session) != '\0')
        fprintf(stderr, "weir: train: %s\n", wr_session_note(t->session));
    const wr_dataset_info *d = wr_dataset_info_of(t->data);
    if (status == WR_OK)
        status = wr_programs_new(&t->recipe, d->src_vocab, d->tgt_vocab, &t->programs, err);
    return status;
}

static wr_status open_all(wr_trainer *t, wr_error *err) {
    wr_status status = wr_recipe_load(t->o->recipe, t->o->set, t->o->set_n, &t->recipe, err);
    if (status == WR_OK) status = check_stages(t, err);
    if (status == WR_OK) status = wr_dataset_open(t->o->data, &t->data, err);
    if (status == WR_OK) status = check_fit(t, err);
    if (status == WR_OK) status = wr_trainer_open_checkpoints(t, err);
    if (status == WR_OK) status = open_session(t, err);
    if (status == WR_OK) status = open_batches(t, err);
    if (status == WR_OK) status = wr_trainer_restore(t, err);
    if (status == WR_OK) status = wr_trainer_start_from(t, err);
    wr_str path = {0};
    wr_str_add(&path, "%s/log.jsonl", t->o->out);
    if (status == WR_OK)
        status = wr_train_log_open(&t->log, wr_str_text(&path),
                                   t->at->update > 0 ? t->at->update : -1, err);
    wr_str_free(&path);
    return status;
}

static void close_all(wr_trainer *t) {
    wr_batches_close(t->batches);
    wr_session_free(t->session);
    wr_programs_free(&t->programs);
    wr_str_free(&t->folder);
    wr_fed_free(&t->fed);
    free(t->at);
    wr_dataset_free(t->data);
    if (t->log.path != NULL) wr_train_log_close(&t->log);
    if (t->lock >= 0) close(t->lock);
}

/* ---- one update ---- */

static double elapsed(const wr_trainer *t) { return t->before + wr_now() - t->began; }

/* A skipped update is counted and told; many in a row end the run. */
static wr_status note_applied(wr_trainer *t, bool applied, int64_t update, wr_error *err) {
    t->streak = applied ? 0 : t->streak + 1;
    if (applied) return WR_OK;
    t->at->skipped++;
    wr_bar_line(&t->bar,
                "update %lld: the gradient's norm is %g; the update is skipped (%lld so far)%s",
                (long long)update, t->sums.norm, (long long)t->at->skipped,
                t->streak == 1 ? "; --trap-nan names the row that made it" : "");
    if (t->streak < SKIPPED_AT_MOST) return WR_OK;
    return wr_fail(
        err, WR_ERR_INPUT,
        "update %lld: the gradient has not been finite for %d updates in a row; the last "
        "checkpoint is kept. Run with --trap-nan to see which row makes the first NaN; lower "
        "optim.lr, or lengthen optim.warmup",
        (long long)update, SKIPPED_AT_MOST);
}

/* Looks at the numbers of a run: terms, and of an update the gradient's norm and whether it was
 * applied. */
static wr_status look_at(wr_trainer *t, const wr_train_run *r, wr_error *err) {
    double value[WR_KEPT_NUMBERS] = {0};
    if (!r->given) return WR_OK;
    wr_status status = wr_session_kept(t->session, r->slot, value, err);
    if (status != WR_OK) return status;
    for (int k = 0; k < r->terms; k++)
        t->sums.term[k] += value[k];
    if (!r->updates) return WR_OK;
    t->sums.norm = value[r->terms];
    return note_applied(t, value[r->terms + 1] != 0, r->update, err);
}

/* Looks at what has been given to the device and not been looked at, and waits for its end. */
static wr_status catch_up(wr_trainer *t, wr_error *err) {
    wr_status status = look_at(t, &t->run, err);
    t->run.given = false;
    return status == WR_OK ? wr_session_wait(t->session, err) : status;
}

/* Keeps the numbers of the run just given and looks at those of the run before. */
static wr_status note_run(wr_trainer *t, const wr_stage *stage, bool updates, wr_error *err) {
    _Static_assert(WR_TERMS + 2 <= WR_KEPT_NUMBERS, "a stage's numbers fit into a slot");
    const wr_train_run before = t->run;
    t->run = (wr_train_run){.given = true,
                            .updates = updates,
                            .slot = 1 - before.slot,
                            .terms = stage->terms,
                            .update = t->at->update + 1};
    wr_status status =
        wr_session_keep(t->session, t->run.slot, stage->terms + (updates ? 2 : 0), err);
    return status == WR_OK ? look_at(t, &before, err) : status;
}

static wr_status run_batch(wr_trainer *t, const wr_batch *b, bool first, bool last, double scale,
                           int number, wr_error *err) {
    const wr_stage *stage = wr_programs_stage(&t->programs, t->at->update);
    double keep = first ? 0 : 1;
    const wr_step_numbers numbers = {.lr = wr_schedule_at(&t->recipe, t->at->update),
                                     .scale = scale,
                                     .kl = (float)wr_schedule_kl(&t->recipe, t->at->update),
                                     .update = (int32_t)t->at->update};
    wr_status status = wr_fed_fill(&t->programs.feeding, b, &t->fed, err);
    if (status != WR_OK) return status;
    wr_feed *feed = t->fed.feed;
    int n = t->fed.n;
    wr_program *p = last ? stage->update : stage->accumulate;
    if (t->recipe.train.accumulate > 1) feed[n++] = (wr_feed){.name = WR_OPTIM_KEEP, .data = &keep};
    n = wr_programs_feed(p, &numbers, feed, n);
    wr_session_set_step(t->session,
                        (uint64_t)(t->at->update * t->recipe.train.accumulate + number));
    status = wr_session_run(t->session, p, n, feed, err);
    t->sums.sentences += t->fed.sentences;
    t->sums.tokens += t->fed.tokens;
    return status == WR_OK ? note_run(t, stage, last, err) : status;
}

/* What the loss of a batch is divided by. */
static double weight_of(const wr_trainer *t, const wr_batch *b) {
    double sentences, tokens;
    wr_fed_count(&t->programs.feeding, b, &sentences, &tokens);
    return t->programs.weight == WR_PER_SENTENCE ? sentences : tokens;
}

static wr_status next_batches(wr_trainer *t, double *weight, wr_batch_place *start, wr_error *err) {
    *start = wr_batches_position(t->batches);
    *weight = 0;
    for (int i = 0; i < t->recipe.train.accumulate; i++) {
        const wr_batch *b = NULL;
        wr_status status = wr_batches_next(t->batches, &b, err);
        if (status != WR_OK) return status;
        *weight += weight_of(t, b);
    }
    return wr_batches_seek(t->batches, *start, err);
}

static wr_status run_update(wr_trainer *t, wr_error *err) {
    int k = t->recipe.train.accumulate;
    double weight = 0;
    wr_batch_place start;
    const wr_stage *stage = wr_programs_stage(&t->programs, t->at->update);
    wr_status status =
        t->at->update == stage->first ? wr_trainer_begin_stage(t, stage, err) : WR_OK;
    if (status == WR_OK && k > 1) status = next_batches(t, &weight, &start, err);
    for (int i = 0; status == WR_OK && i < k; i++) {
        const wr_batch *b = NULL;
        status = wr_batches_next(t->batches, &b, err);
        if (status != WR_OK) return status;
        if (k == 1) weight = weight_of(t, b);
        status = run_batch(t, b, i == 0, i == k - 1, 1.0 / weight, i, err);
    }
    if (status != WR_OK) return status;
    t->at->update++;
    t->sums.updates++;
    return t->overlapping ? WR_OK : catch_up(t, err);
}

/* ---- reports ---- */

static void begin_sums(wr_trainer *t) { t->sums = (wr_train_sums){.began = wr_now()}; }

/* The first terms, and counts of what should not be. */
static void add_term(const wr_term *term, int k, double value, wr_str *line) {
    if (term->per == WR_PER_NOTHING && value > 0) wr_str_add(line, "  %s %.0f", term->name, value);
    if (term->per != WR_PER_NOTHING && k < 4) wr_str_add(line, "  %s %.4f", term->name, value);
}

/* Sentences whose target has no alignment with the model's positions: say once why that is. */
static void tell_infeasible(wr_trainer *t, double count) {
    if (count == 0 || t->told_infeasible) return;
    t->told_infeasible = true;
    wr_bar_line(&t->bar,
                "%.0f sentences have no alignment: they have no target words, or more of them than "
                "positions%s; they count nowhere",
                count,
                t->recipe.objective.name == WR_RECIPE_OBJECTIVE_CTC
                    ? " (ctc needs one for each word and one between equal neighbours; raise "
                      "nat.upsample)"
                    : "");
}

static wr_status report(wr_trainer *t, wr_error *err) {
    const wr_train_sums *s = &t->sums;
    const wr_stage *stage = wr_programs_stage(&t->programs, t->at->update - 1);
    double seconds = wr_now() - s->began, lr = wr_schedule_at(&t->recipe, t->at->update - 1);
    wr_str line = {0};
    wr_log_begin(&t->log, "train", t->at->update);
    if (stage->name != NULL) wr_log_text(&t->log, "stage", stage->name);
    wr_log_number(&t->log, "epoch", (double)wr_batches_position(t->batches).epoch);
    for (int k = 0; k < stage->terms; k++) {
        const wr_term *term = &stage->term[k];
        double value = wr_term_value(&t->programs, term, s->term[k], s->sentences, s->tokens);
        wr_log_number(&t->log, term->name, value);
        add_term(term, k, value, &line);
        if (term->per == WR_PER_NOTHING) tell_infeasible(t, value);
    }
    wr_log_number(&t->log, "gradient_norm", s->norm);
    wr_log_number(&t->log, "lr", lr);
    if (wr_program_find_input(stage->update, WR_KL_WEIGHT) >= 0)
        wr_log_number(&t->log, "kl_weight", wr_schedule_kl(&t->recipe, t->at->update - 1));
    wr_log_number(&t->log, "tokens_per_s", s->tokens / seconds);
    wr_log_number(&t->log, "skipped", (double)t->at->skipped);
    wr_log_number(&t->log, "seconds", elapsed(t));
    wr_bar_line(&t->bar, "update %6lld%s  norm %.3f  lr %.2e  %.0f tokens/s  %.1f min",
                (long long)t->at->update, wr_str_text(&line), s->norm, lr, s->tokens / seconds,
                elapsed(t) / 60);
    wr_str_free(&line);
    begin_sums(t);
    return wr_log_end(&t->log, err);
}

static wr_status validate(wr_trainer *t, wr_error *err) {
    wr_validation v;
    double start = wr_now();
    wr_status status = wr_trainer_validate(t, &v, err);
    if (status != WR_OK) return status;
    bool by_bleu = t->recipe.train.best_by == WR_RECIPE_BEST_BLEU && v.bleu >= 0;
    bool better = wr_progress_note(t->at, by_bleu ? v.bleu : v.nll);
    const wr_stage *last = &t->programs.stage[t->programs.stages - 1];
    wr_bar_line(&t->bar, "update %6lld  valid nll %.4f  perplexity %.4g%s",
                (long long)t->at->update, v.nll, exp(v.nll), better ? "  best" : "");
    if (!isfinite(v.nll))
        wr_bar_line(&t->bar, "  that is no number; --trap-nan names the row that made it");
    if (v.reconstruction_bleu >= 0)
        wr_bar_line(&t->bar, "  reconstruction BLEU %.2f  length error %.2f", v.reconstruction_bleu,
                    v.length_error);
    if (v.bleu >= 0) wr_bar_line(&t->bar, "  BLEU %.2f  %s", v.bleu, v.sample);
    wr_log_begin(&t->log, "valid", t->at->update);
    wr_log_number(&t->log, "nll", v.nll);
    for (int k = 0; k < wr_programs_valid_terms(&t->programs); k++)
        if (strcmp(last->term[k].name, "nll") != 0)
            wr_log_number(&t->log, last->term[k].name, v.term[k]);
    if (v.bleu >= 0) wr_log_number(&t->log, "bleu", v.bleu);
    if (v.reconstruction_bleu >= 0) {
        wr_log_number(&t->log, "reconstruction_bleu", v.reconstruction_bleu);
        wr_log_number(&t->log, "length_error", v.length_error);
    }
    if (v.bleu >= 0) wr_log_text(&t->log, "sample", v.sample);
    wr_log_number(&t->log, "seconds", elapsed(t));
    t->sums.began += wr_now() - start; /* validation is no part of the training rate */
    return wr_log_end(&t->log, err);
}

/* ---- the loop ---- */

static bool is_due(int64_t update, int every) { return every > 0 && update % every == 0; }

static bool out_of_time(const wr_trainer *t) {
    return t->recipe.train.max_minutes > 0 && elapsed(t) >= 60 * t->recipe.train.max_minutes;
}

static bool out_of_patience(const wr_trainer *t) {
    return t->recipe.train.patience > 0 && t->at->since_best >= t->recipe.train.patience;
}

static wr_status after_update(wr_trainer *t, bool last, wr_error *err) {
    const wr_recipe_train *r = &t->recipe.train;
    wr_status status = WR_OK;
    const wr_stage *stage = wr_programs_stage(&t->programs, t->at->update - 1);
    bool ends = wr_programs_stage(&t->programs, t->at->update) != stage;
    /* before the last stage the model is not whole: there is nothing to validate */
    bool whole = stage == &t->programs.stage[t->programs.stages - 1];
    bool validated = whole && (is_due(t->at->update, r->valid_every) || last);
    bool saved = is_due(t->at->update, r->checkpoint_every) || validated || last;
    /* sums are not saved: with a report at each checkpoint, a resumed run logs what an
     * uninterrupted one does */
    bool reported = is_due(t->at->update, r->report_every) || saved || ends;
    if (reported) status = catch_up(t, err);
    if (status == WR_OK && reported) status = report(t, err);
    if (status == WR_OK && validated) status = validate(t, err);
    return status == WR_OK && saved ? wr_trainer_save(t, err) : status;
}

static double fraction_done(const wr_trainer *t) {
    const wr_recipe_train *r = &t->recipe.train;
    double by_updates = (double)t->at->update / r->max_updates;
    double by_time = r->max_minutes > 0 ? elapsed(t) / (60 * r->max_minutes) : 0;
    return by_updates > by_time ? by_updates : by_time;
}

static wr_status loop(wr_trainer *t, wr_error *err) {
    wr_status status = WR_OK;
    t->began = wr_now();
    begin_sums(t);
    wr_bar_resume(&t->bar, fraction_done(t));
    bool last =
        t->at->update >= t->recipe.train.max_updates || out_of_time(t) || out_of_patience(t);
    while (status == WR_OK && !last) {
        status = run_update(t, err);
        if (status != WR_OK) break;
        last = t->at->update >= t->recipe.train.max_updates || out_of_time(t);
        status = after_update(t, last, err);
        last = last || out_of_patience(t);
        wr_bar_show(&t->bar, fraction_done(t), "update %lld", (long long)t->at->update);
    }
    return status;
}

wr_status wr_train(const wr_train_options *o, wr_error *err) {
    wr_trainer t = {.o = o, .lock = -1};
    wr_bar_begin(&t.bar, 60);
    wr_status status = open_all(&t, err);
    if (status == WR_OK) status = loop(&t, err);
    if (status == WR_OK) status = wr_trainer_finish(&t, err);
    wr_bar_end(&t.bar);
    close_all(&t);
    return status;
}
