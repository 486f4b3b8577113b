/* trainer_save.c: the run directory and its checkpoints; see trainer.h. */
#include "cli/trainer.h"

#include <stdlib.h>
#include <string.h>

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

/* The recipe and the subword models: with them a run directory stands alone. */
static wr_status write_run(const wr_trainer *t, wr_error *err) {
    wr_str path = {0};
    const wr_subword *src = wr_dataset_src_model(t->data), *tgt = wr_dataset_tgt_model(t->data);
    wr_status status = wr_make_dirs(t->o->out, err);
    wr_str_add(&path, "%s/recipe.yaml", t->o->out);
    if (status == WR_OK) status = wr_recipe_save(&t->recipe, wr_str_text(&path), err);
    wr_str_free(&path);
    if (status == WR_OK && wr_dataset_info_of(t->data)->joint)
        return copy_model(t->o->out, "joint.model", src, err);
    if (status == WR_OK) status = copy_model(t->o->out, "source.model", src, err);
    return status == WR_OK ? copy_model(t->o->out, "target.model", tgt, err) : status;
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
    if (status != WR_OK) return status;
    t->resuming = wr_checkpoint_exists(wr_str_text(&t->folder));
    if (t->resuming && !t->o->resume)
        return wr_fail(
            err, WR_ERR_INPUT,
            "%s: holds a training run; go on with it by --resume, or choose another --out",
            t->o->out);
    return t->resuming ? WR_OK : write_run(t, err);
}

wr_status wr_trainer_restore(wr_trainer *t, wr_error *err) {
    wr_program *programs[WR_STAGES];
    for (int i = 0; i < t->programs.stages; i++)
        programs[i] = t->programs.stage[i].update;
    if (!t->resuming) return WR_OK;
    int keep = t->at->keep;
    wr_status status = wr_checkpoint_resume(wr_str_text(&t->folder), t->session, t->programs.stages,
                                            programs, t->at, err);
    if (status != WR_OK) return status;
    if (t->at->seed != (uint64_t)t->recipe.train.seed)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s was begun with seed %llu, not %lld; resume with the "
                       "same seed",
                       t->o->out, (unsigned long long)t->at->seed, (long long)t->recipe.train.seed);
    t->at->keep = keep;
    t->before = t->at->seconds;
    wr_batch_place place = {(uint32_t)t->at->epoch, (uint64_t)t->at->batch};
    return wr_batches_seek(t->batches, place, err);
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
