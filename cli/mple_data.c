/* mple_data.c: what `weir mple` measures runs on: sources, targets, references, the predictor. */
#include "cli/mple.h"
#include "data/filter.h"
#include "models/recipe_nat.h"

#include <stdlib.h>
#include <string.h>

/* ---- sides ---- */

static void free_side(wr_mple_side *s) {
    wr_ids_free(&s->pool);
    free(s->at);
    free(s->words);
}

static wr_status make_room(wr_mple_side *s, size_t n, wr_error *err) {
    s->at = malloc((n + 1) * sizeof *s->at);
    s->words = malloc((n + 1) * sizeof *s->words);
    if (s->at == NULL || s->words == NULL)
        return wr_fail_memory(err, "sentences", n * sizeof *s->words);
    return WR_OK;
}

static wr_status take_side(const wr_side *from, size_t n, wr_mple_side *s, wr_error *err) {
    wr_status status = make_room(s, n, err);
    for (size_t i = 0; i < n && status == WR_OK; i++) {
        s->words[i] = (wr_sentence){0};
        s->words[i].id = wr_side_ids(from, i, &s->words[i].n);
    }
    return status;
}

/* The first n lines of a file in pieces of the model; the file has as many lines as the split. */
static wr_status read_side(const char *path, const wr_mple_data *d, const wr_subword *model,
                           wr_mple_side *s, wr_error *err) {
    wr_text text = {0};
    wr_status status = wr_text_read(path, 0, &text, err);
    if (status == WR_OK && text.n != d->pairs->n)
        status =
            wr_fail(err, WR_ERR_INPUT, "%s has %zu lines, but the %s split of %s has %zu sentences",
                    path, text.n, d->o->split, d->o->data, d->pairs->n);
    if (status == WR_OK) status = make_room(s, d->n, err);
    for (size_t i = 0; i < d->n && status == WR_OK; i++) {
        s->at[i] = s->pool.n;
        status = wr_subword_encode(model, text.line[i], text.len[i], &s->pool, err);
    }
    for (size_t i = 0; i < d->n && status == WR_OK; i++) {
        size_t end = i + 1 < d->n ? s->at[i + 1] : s->pool.n;
        s->words[i] = (wr_sentence){.id = s->pool.id + s->at[i], .n = end - s->at[i]};
    }
    wr_text_free(&text);
    return status;
}

static wr_status read_sides(const wr_list *paths, const wr_mple_data *d, wr_mple_side **sides,
                            size_t *count, wr_error *err) {
    wr_status status = WR_OK;
    *sides = calloc(paths->n + 1, sizeof **sides);
    if (*sides == NULL) return wr_fail_memory(err, "sentences", paths->n * sizeof **sides);
    for (size_t i = 0; i < paths->n && status == WR_OK; i++) {
        *count = i + 1;
        if (strcmp(paths->items[i], "own") == 0) continue;
        status = read_side(paths->items[i], d, wr_dataset_tgt_model(d->set), &(*sides)[i], err);
    }
    return status;
}

/* ---- runs ---- */

static bool same_model(const wr_subword *a, const wr_subword *b) {
    size_t n, m;
    const void *x = wr_subword_bytes(a, &n), *y = wr_subword_bytes(b, &m);
    return n == m && memcmp(x, y, n) == 0;
}

wr_status wr__mple_same_models(const wr_mple_data *d, const wr_run *run, const char *dir,
                               wr_error *err) {
    wr_status status = wr_run_needs_text(run, dir, err);
    if (status != WR_OK) return status;
    if (same_model(run->src, wr_dataset_src_model(d->set)) &&
        same_model(run->tgt, wr_dataset_tgt_model(d->set)))
        return WR_OK;
    return wr_fail(err, WR_ERR_INPUT,
                   "%s and %s have different subword models: costs a token cannot be compared; "
                   "train the runs on datasets of the same models",
                   dir, d->o->data);
}

wr_status wr__mple_measurer(const wr_run *run, const char *dir, wr_measurer **m, wr_error *err) {
    if (run->nat == NULL)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s is %s; the terms of MPLE are those of non-autoregressive models "
                       "(model.type: nat)",
                       dir, wr_run_kind(run));
    wr_nat_training training;
    wr_status status = wr_recipe_nat_training(&run->recipe, &training, err);
    if (status != WR_OK) return status;
    return wr_measurer_new(wr_nat_decoder_model(run->nat), &training, run->recipe.train.max_updates,
                           run->session, m, err);
}

static wr_status open_predictor(wr_mple_data *d, wr_error *err) {
    const wr_mple_options *o = d->o;
    const wr_run_options how = {.dir = o->predictor,
                                .checkpoint = o->checkpoint,
                                .device = o->device,
                                .threads = o->threads};
    wr_status status = wr_run_open(&how, &d->predictor, err);
    if (status == WR_OK) status = wr__mple_same_models(d, &d->predictor, o->predictor, err);
    if (status == WR_OK) status = wr__mple_measurer(&d->predictor, o->predictor, &d->tokens, err);
    if (status == WR_OK && wr_measurer_positions(d->tokens, 1) == 0)
        status = wr_fail(err, WR_ERR_INPUT,
                         "%s has positions for source tokens, not for target words; --predictor "
                         "takes a model trained with objective.name = ce",
                         o->predictor);
    return status;
}

/* ---- all of it ---- */

static wr_status open_split(wr_mple_data *d, wr_error *err) {
    const wr_mple_options *o = d->o;
    wr_split split = strcmp(o->split, "test") == 0 ? WR_TEST : WR_VALID;
    wr_status status = wr_dataset_open(o->data, &d->set, err);
    if (status != WR_OK) return status;
    d->pairs = wr_dataset_pairs(d->set, split);
    if (d->pairs == NULL || d->pairs->n == 0)
        return wr_fail(err, WR_ERR_INPUT, "%s has no %s split", o->data, o->split);
    size_t most = (size_t)o->sentences;
    d->n = most > 0 && most < d->pairs->n ? most : d->pairs->n;
    status = take_side(&d->pairs->src, d->n, &d->src, err);
    return status == WR_OK ? take_side(&d->pairs->tgt, d->n, &d->own, err) : status;
}

wr_status wr__mple_open_data(const wr_mple_options *o, wr_mple_data *d, wr_error *err) {
    *d = (wr_mple_data){.o = o};
    wr_status status = open_split(d, err);
    if (status == WR_OK) status = read_sides(&o->refs, d, &d->ref, &d->refs, err);
    if (status == WR_OK) status = read_sides(&o->targets, d, &d->target, &d->targets, err);
    if (status == WR_OK && o->predictor != NULL) status = open_predictor(d, err);
    return status;
}

void wr__mple_close_data(wr_mple_data *d) {
    free_side(&d->src);
    free_side(&d->own);
    for (size_t i = 0; i < d->refs; i++)
        free_side(&d->ref[i]);
    for (size_t i = 0; i < d->targets; i++)
        free_side(&d->target[i]);
    free(d->ref);
    free(d->target);
    wr_measurer_free(d->tokens);
    wr_run_close(&d->predictor);
    wr_dataset_free(d->set);
}
