/* trainer_save.c: the run directory and its checkpoints; see trainer.h. */
#define _GNU_SOURCE
#include "cli/trainer.h"

#include "optim/schedule.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static wr_status copy_model(const char *dir, const char *name, const wr_subword *model,
                            wr_error *err) {
    wr_str path = {0};
    size_t n;
    const void *bytes = wr_subword_bytes(model, &n);
    wr_str_add(&path, "%s/%s", dir, name);
    wr_status status = path.oom ? wr_fail_memory(err, name, strlen(dir))
                                : wr_file_replace(wr_str_text(&path), bytes, n, err);
    wr_str_free(&path);
    return status;
}

static wr_status write_recipe(const wr_trainer *t, wr_error *err) {
    wr_str path = {0};
    wr_str_add(&path, "%s/recipe.yaml", t->o->out);
    wr_status status = path.oom ? wr_fail_memory(err, t->o->out, strlen(t->o->out))
                                : wr_recipe_save(&t->recipe, wr_str_text(&path), err);
    wr_str_free(&path);
    return status;
}

/* One process writes a run. The lock ends with the process, however that ends; a file system that
 * has no locks goes without. */
static wr_status lock_run(wr_trainer *t, wr_error *err) {
    wr_status status = wr_make_dirs(t->o->out, err);
    if (status != WR_OK) return status;
    t->lock = open(t->o->out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (t->lock < 0)
        return wr_fail(err, WR_ERR_IO, "%s: cannot open: %s", t->o->out, strerror(errno));
    if (flock(t->lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return WR_OK;
    return wr_fail(err, WR_ERR_INPUT,
                   "%s: another weir train is writing this run; wait for its end, stop it, or "
                   "choose another --out",
                   t->o->out);
}

/* The recipe and the subword models: with them a run directory stands alone. */
static wr_status write_run(const wr_trainer *t, wr_error *err) {
    const wr_subword *src = wr_dataset_src_model(t->data), *tgt = wr_dataset_tgt_model(t->data);
    wr_status status = write_recipe(t, err);
    if (status == WR_OK && wr_dataset_info_of(t->data)->joint)
        return copy_model(t->o->out, "joint.model", src, err);
    if (status == WR_OK) status = copy_model(t->o->out, "source.model", src, err);
    return status == WR_OK ? copy_model(t->o->out, "target.model", tgt, err) : status;
}

/* ---- resuming ---- */

/* `now`, but with what decides which model the parameters are of as in `then`. */
static wr_recipe same_model(const wr_recipe *then, const wr_recipe *now) {
    wr_recipe r = *now;
    r.model = then->model;
    r.flowseq = then->flowseq;
    r.prior = then->prior;
    r.nat = then->nat;
    r.nat.length_weight = now->nat.length_weight;
    r.model.dropout = now->model.dropout;
    r.model.attention_dropout = now->model.attention_dropout;
    r.model.activation_dropout = now->model.activation_dropout;
    r.model.max_len = now->model.max_len;
    r.flowseq.embedding_dropout = now->flowseq.embedding_dropout;
    r.flowseq.token_dropout = now->flowseq.token_dropout;
    r.flowseq.decoder_token_dropout = now->flowseq.decoder_token_dropout;
    r.flowseq.length_dropout = now->flowseq.length_dropout;
    r.flowseq.length_smoothing = now->flowseq.length_smoothing;
    r.prior.dropout = now->prior.dropout;
    r.prior.rebuild = now->prior.rebuild;
    return r;
}

/* The first lines in which the texts of two recipes differ, as "key: value". */
static bool first_difference(const char *a, const char *b, wr_str *section, wr_str *line_a,
                             wr_str *line_b) {
    while (*a != '\0' && *b != '\0') {
        size_t n = strcspn(a, "\n"), m = strcspn(b, "\n");
        if (n != m || memcmp(a, b, n) != 0) {
            wr_str_bytes(line_a, a + strspn(a, " "), n - strspn(a, " "));
            wr_str_bytes(line_b, b + strspn(b, " "), m - strspn(b, " "));
            return true;
        }
        if (a[0] != ' ') {
            wr_str_clear(section);
            wr_str_bytes(section, a, n > 0 ? n - 1 : 0); /* without its colon */
        }
        a += n + (a[n] == '\n');
        b += m + (b[m] == '\n');
    }
    return false;
}

static wr_status check_same_model(const wr_trainer *t, const wr_recipe *then, wr_error *err) {
    wr_str old = {0}, now = {0}, section = {0}, was = {0}, is = {0};
    wr_recipe kept = same_model(then, &t->recipe);
    wr_recipe_text(&kept, &old);
    wr_recipe_text(&t->recipe, &now);
    wr_status status = WR_OK;
    if (old.oom || now.oom)
        status = wr_fail_memory(err, "recipes", old.len);
    else if (first_difference(wr_str_text(&old), wr_str_text(&now), &section, &was, &is))
        status = wr_fail(err, WR_ERR_INPUT,
                         "%s: the run was begun with %s.%s, and not with %s; resume it with the "
                         "same model, or choose another --out",
                         t->o->out, wr_str_text(&section), wr_str_text(&was), wr_str_text(&is));
    wr_str_free(&old);
    wr_str_free(&now);
    wr_str_free(&section);
    wr_str_free(&was);
    wr_str_free(&is);
    return status;
}

/* The beginning of the main phase stays where it is, or lies ahead. */
static wr_status check_same_stages(const wr_trainer *t, const wr_recipe *then, wr_error *err) {
    int64_t was = wr_schedule_pretraining(then), is = wr_schedule_pretraining(&t->recipe);
    if (was == is || (t->at->update <= was && t->at->update <= is)) return WR_OK;
    return wr_fail(err, WR_ERR_INPUT,
                   "%s: the run was begun with train.pretrain_updates = %lld and is at update "
                   "%lld; that can be changed, to %lld or more, only before the main phase begins",
                   t->o->out, (long long)was, (long long)t->at->update, (long long)t->at->update);
}

/* `dir` is this run, or the one to start from. */
static wr_status check_subword(const wr_trainer *t, const char *dir, const char *name,
                               const wr_subword *model, wr_error *err) {
    char *bytes = NULL;
    size_t n, m;
    const void *ours = wr_subword_bytes(model, &m);
    wr_str path = {0};
    wr_str_add(&path, "%s/%s", dir, name);
    wr_status status = path.oom ? wr_fail_memory(err, name, strlen(dir))
                                : wr_file_read(wr_str_text(&path), &bytes, &n, err);
    if (status == WR_OK && (n != m || memcmp(bytes, ours, n) != 0))
        status = wr_fail(err, WR_ERR_INPUT, "%s is not the subword model of %s; %s",
                         wr_str_text(&path), t->o->data,
                         dir == t->o->out ? "resume the run with a dataset of the same vocabulary, "
                                            "or choose another --out"
                                          : "start from a run with the same vocabulary");
    free(bytes);
    wr_str_free(&path);
    return status;
}

static wr_status check_subwords(const wr_trainer *t, const char *dir, wr_error *err) {
    const wr_subword *src = wr_dataset_src_model(t->data), *tgt = wr_dataset_tgt_model(t->data);
    if (wr_dataset_info_of(t->data)->joint) return check_subword(t, dir, "joint.model", src, err);
    wr_status status = check_subword(t, dir, "source.model", src, err);
    return status == WR_OK ? check_subword(t, dir, "target.model", tgt, err) : status;
}

/* Parameters can only be gone on with as what they were. The other keys may change. */
static wr_status check_resumed(const wr_trainer *t, wr_recipe *then, wr_error *err) {
    wr_str path = {0};
    wr_str_add(&path, "%s/recipe.yaml", t->o->out);
    wr_status status = path.oom ? wr_fail_memory(err, t->o->out, strlen(t->o->out))
                                : wr_recipe_load_saved(wr_str_text(&path), NULL, 0, then, err);
    wr_str_free(&path);
    if (status == WR_OK) status = check_same_model(t, then, err);
    return status == WR_OK ? check_subwords(t, t->o->out, err) : status;
}

static wr_status new_progress(wr_trainer *t, wr_error *err) {
    t->at = calloc(1, sizeof *t->at);
    if (t->at == NULL) return wr_fail_memory(err, "progress", sizeof *t->at);
    t->at->seed = (uint64_t)t->recipe.train.seed;
    t->at->lower = t->recipe.train.best_by == WR_RECIPE_BEST_NLL ||
                   t->recipe.train.valid_decode == WR_RECIPE_VALID_NONE;
    t->at->keep = t->recipe.train.keep_best > t->recipe.train.average_best
                      ? t->recipe.train.keep_best
                      : t->recipe.train.average_best;
    if (t->at->keep < 1) t->at->keep = 1;
    return WR_OK;
}

wr_status wr_trainer_open_checkpoints(wr_trainer *t, wr_error *err) {
    wr_str_add(&t->folder, "%s/checkpoints", t->o->out);
    if (t->folder.oom) return wr_fail_memory(err, t->o->out, strlen(t->o->out));
    wr_status status = new_progress(t, err);
    if (status == WR_OK) status = lock_run(t, err);
    if (status != WR_OK) return status;
    t->resuming = wr_checkpoint_exists(wr_str_text(&t->folder));
    if (t->resuming && !t->o->resume)
        return wr_fail(
            err, WR_ERR_INPUT,
            "%s: holds a training run; go on with it by --resume, or choose another --out",
            t->o->out);
    return t->resuming ? WR_OK : write_run(t, err);
}

/* The best parameters of a run, or the last where none was validated. */
static wr_status locate_start(const char *dir, wr_str *file, wr_error *err) {
    wr_str folder = {0}, best = {0};
    wr_str_add(&folder, "%s/checkpoints", dir);
    wr_str_add(&best, "%s/checkpoints/best", dir);
    wr_status status = folder.oom || best.oom ? wr_fail_memory(err, dir, strlen(dir)) : WR_OK;
    bool validated = status == WR_OK && access(wr_str_text(&best), F_OK) == 0;
    if (status == WR_OK)
        status = wr_checkpoint_locate(wr_str_text(&folder), validated ? "best" : "last", file, err);
    wr_str_free(&folder);
    wr_str_free(&best);
    return status;
}

wr_status wr_trainer_start_from(wr_trainer *t, wr_error *err) {
    const char *dir = t->o->start_from;
    if (dir == NULL || t->resuming) return WR_OK;
    if (t->programs.stages > 1)
        return wr_fail(err, WR_ERR_USAGE,
                       "--start-from is for models that train in one stage; this one gets first "
                       "values from data in two");
    wr_str file = {0};
    wr_status status = check_subwords(t, dir, err);
    if (status == WR_OK) status = locate_start(dir, &file, err);
    if (status == WR_OK)
        status = wr_checkpoint_load(wr_str_text(&file), t->session, 1, &t->programs.stage[0].update,
                                    false, err);
    if (status == WR_OK) wr_bar_line(&t->bar, "parameters of %s", wr_str_text(&file));
    wr_str_free(&file);
    return status;
}

wr_status wr_trainer_restore(wr_trainer *t, wr_error *err) {
    wr_program *programs[WR_STAGES];
    for (int i = 0; i < t->programs.stages; i++)
        programs[i] = t->programs.stage[i].update;
    if (!t->resuming) return WR_OK;
    int keep = t->at->keep;
    bool lower = t->at->lower;
    wr_recipe then;
    wr_status status = check_resumed(t, &then, err);
    if (status == WR_OK)
        status = wr_checkpoint_resume(wr_str_text(&t->folder), t->session, t->programs.stages,
                                      programs, t->at, err);
    if (status == WR_OK) status = check_same_stages(t, &then, err);
    if (status != WR_OK) return status;
    if (t->at->seed != (uint64_t)t->recipe.train.seed)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s was begun with seed %llu, not %lld; resume with the "
                       "same seed",
                       t->o->out, (unsigned long long)t->at->seed, (long long)t->recipe.train.seed);
    if (t->at->lower != lower) t->at->n_best = 0; /* scores of another kind */
    t->at->lower = lower;
    t->at->keep = keep;
    if (t->at->n_best > keep) t->at->n_best = keep;
    t->before = t->at->seconds;
    wr_batch_place place = {(uint32_t)t->at->epoch, (uint64_t)t->at->batch};
    status = wr_batches_seek(t->batches, place, err);
    return status == WR_OK ? write_recipe(t, err) : status; /* as it goes on */
}

wr_status wr_trainer_save(wr_trainer *t, wr_error *err) {
    wr_batch_place place = wr_batches_position(t->batches);
    t->at->epoch = place.epoch;
    t->at->batch = (int64_t)place.batch;
    t->at->seconds = t->before + wr_now() - t->began;
    return wr_checkpoint_save(wr_str_text(&t->folder), t->session, t->at, err);
}

wr_status wr_trainer_finish(wr_trainer *t, wr_error *err) {
    int n =
        t->at->n_best < t->recipe.train.average_best ? t->at->n_best : t->recipe.train.average_best;
    int64_t updates[WR_BEST_MOST];
    for (int i = 0; i < n; i++)
        updates[i] = t->at->best[i].update;
    if (n == 0) return WR_OK;
    wr_bar_line(&t->bar, "average of the %d best checkpoints: %s/average", n,
                wr_str_text(&t->folder));
    return wr_checkpoint_average(wr_str_text(&t->folder), n, updates, err);
}
