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
    const char *recipe, *data, *out, *device;
    const char *const *set;
    size_t set_n;
    int64_t threads;
    bool resume;
} wr_train_options;

/* Sums since the last report. */
typedef struct wr_train_sums {
    double loss, nll, tokens, norm, began;
    int64_t updates, skipped;
} wr_train_sums;

typedef struct wr_trainer {
    const wr_train_options *o;
    wr_recipe recipe;
    wr_dataset *data;
    wr_programs programs;
    wr_session *session;
    wr_batches *batches;
    wr_train_log log;
    wr_progress progress;
    wr_checkpoints checkpoints;
    wr_train_sums sums;
    int64_t update;      /* made so far */
    int64_t skipped;     /* of these, updates whose gradient was not finite */
    int64_t stale;       /* validations since the best one */
    double seconds;      /* of training before this process */
    double began;        /* when this process began to train */
    double last_bleu;    /* of the last validation; -1: none */
} wr_trainer;

/* Train to the recipe's limits. */
wr_status wr_train(const wr_train_options *o, wr_error *err);

/* ---- parts, in files of their own ---- */

/* trainer_valid.c: NLL per token of the valid split, and BLEU of its translations. */
typedef struct wr_validation {
    double nll, bleu; /* bleu < 0: not asked for */
    char sample[512]; /* "source | translation | reference" of one sentence */
} wr_validation;
wr_status wr_trainer_validate(wr_trainer *t, wr_validation *v, wr_error *err);

#endif
