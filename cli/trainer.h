/* trainer.h: a training run: a recipe, a dataset directory, a run directory. */
#ifndef WEIR_CLI_TRAINER_H
#define WEIR_CLI_TRAINER_H

#include "cli/cli.h"
#include "cli/programs.h"
#include "cli/train_log.h"
#include "data/batches.h"
#include "data/dataset.h"
#include "optim/checkpoint.h"

typedef struct wr_train_options {
    const char *recipe, *data, *out, *device, *precision;
    const char *start_from; /* a run whose parameters a new run begins with, or NULL */
    const char *const *set;
    size_t set_n;
    int64_t threads;
    bool resume, trap_nan;
} wr_train_options;

/* Sums since the last report, in the order of the stage's terms. */
typedef struct wr_train_sums {
    double term[WR_TERMS], sentences, tokens, norm, began;
    int64_t updates;
} wr_train_sums;

/* A run given to the device whose numbers have not been looked at. */
typedef struct wr_train_run {
    bool given, updates; /* updates: it ends an update, whose number is `update` */
    int slot, terms;     /* of wr_session_keep() */
    int64_t update;
} wr_train_run;

typedef struct wr_trainer {
    const wr_train_options *o;
    wr_recipe recipe;
    wr_dataset *data;
    wr_programs programs;
    wr_session *session;
    wr_batches *batches;
    wr_fed fed;
    wr_train_log log;
    wr_bar bar;
    wr_str folder;   /* RUN/checkpoints */
    wr_progress *at; /* updates made, place in the data, best scores (large: on the heap) */
    bool resuming;
    bool overlapping; /* the device runs on while the host makes the next batch */
    int lock;         /* of the run directory; < 0: none */
    wr_train_sums sums;
    wr_train_run
        run; /* the last one: read when the next is given, so that the device never waits */
    bool told_infeasible;
    int streak;    /* updates in a row that were skipped */
    double began;  /* when this process began to train */
    double before; /* seconds of training before this process */
} wr_trainer;

/* Train to the recipe's limits. */
wr_status wr_train(const wr_train_options *o, wr_error *err);

/* ---- parts, in files of their own ---- */

/* trainer_valid.c: terms of the loss on the valid split, and BLEU of its translations. */
typedef struct wr_validation {
    double term[WR_TERMS]; /* of the last stage, as reports show them */
    double nll;            /* per token: of the Transformer, or reconstruction + KL */
    double bleu;           /* < 0: not asked for */
    double reconstruction_bleu, length_error; /* FlowSeq; < 0: not asked for */
    char sample[512]; /* "source | translation | reference" of one sentence */
} wr_validation;
wr_status wr_trainer_validate(wr_trainer *t, wr_validation *v, wr_error *err);

/* trainer_start.c: what comes before the first update of a stage: values that depend on data, a
 * fresh optimizer. */
wr_status wr_trainer_begin_stage(wr_trainer *t, const wr_stage *stage, wr_error *err);

/* trainer_save.c: what a run directory keeps. Open: a directory that holds a run is refused unless
 * it is to be resumed; one that does not gets the recipe and the subword models. Restore:
 * parameters, optimizer, place in the data. Start from: another run's parameters, if asked for.
 * Save: a checkpoint of now. Finish: the average of the best. */
wr_status wr_trainer_open_checkpoints(wr_trainer *t, wr_error *err);
wr_status wr_trainer_restore(wr_trainer *t, wr_error *err);
wr_status wr_trainer_start_from(wr_trainer *t, wr_error *err);
wr_status wr_trainer_save(wr_trainer *t, wr_error *err);
wr_status wr_trainer_finish(wr_trainer *t, wr_error *err);

#endif
