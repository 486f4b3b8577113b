/* trainer_start.c: the beginning of a stage of training; see trainer.h. */
#include "cli/trainer.h"
#include "optim/optimizer.h"

#include <stdlib.h>

/* The first batch of an order of its own: train.init_batch sentences of all lengths. */
static wr_status open_first_batch(const wr_trainer *t, const wr_stage *stage, wr_batches **batches,
                                  const wr_batch **b, wr_error *err) {
    wr_batches_options o = wr_batches_defaults();
    o.max_sentences = (size_t)t->recipe.train.init_batch;
    o.max_tokens = o.max_sentences * (size_t)wr_padded_max_len(&t->recipe);
    o.chunk = o.max_sentences;
    o.multiple = (size_t)t->recipe.data.length_multiple;
    o.seed = (uint64_t)t->recipe.train.seed + 1 + (uint64_t)(stage - t->programs.stage);
    o.prefetch = 0;
    wr_status status = wr_batches_open(wr_dataset_pairs(t->data, WR_TRAIN), &o, batches, err);
    return status == WR_OK ? wr_batches_next(*batches, b, err) : status;
}

/* Every parameter of the run is there from the beginning, so that checkpoints are whole. */
static wr_status prepare_all(wr_trainer *t, wr_error *err) {
    wr_status status = WR_OK;
    for (int i = 0; status == WR_OK && i < t->programs.stages; i++)
        status = wr_session_prepare(t->session, t->programs.stage[i].update, err);
    return status;
}

static wr_status start_from_data(wr_trainer *t, const wr_stage *stage, wr_error *err) {
    wr_batches *batches = NULL;
    const wr_batch *b = NULL;
    wr_status status = open_first_batch(t, stage, &batches, &b, err);
    if (status == WR_OK) status = wr_fed_fill(&t->programs.feeding, b, &t->fed, err);
    if (status == WR_OK)
        status = wr_session_run(t->session, stage->start, t->fed.n, t->fed.feed, err);
    wr_batches_close(batches);
    bool fewer = t->fed.sentences < t->recipe.train.init_batch;
    if (status == WR_OK)
        wr_bar_line(&t->bar, "stage %s begins: first values from %.0f sentences%s", stage->name,
                    t->fed.sentences, fewer ? ", all there are (train.init_batch is more)" : "");
    return status;
}

wr_status wr_trainer_begin_stage(wr_trainer *t, const wr_stage *stage, wr_error *err) {
    wr_status status = stage->first == 0 ? prepare_all(t, err) : WR_OK;
    if (status == WR_OK && stage->first > 0) status = wr_optimizer_reset(t->session, err);
    /* a step of the random numbers that no update has */
    wr_session_set_step(t->session, UINT64_MAX - (uint64_t)(stage - t->programs.stage));
    if (status == WR_OK && stage->params != NULL)
        status = wr_session_run(t->session, stage->params, 0, NULL, err);
    return status == WR_OK && stage->start != NULL ? start_from_data(t, stage, err) : status;
}
