/* dataset_dir.h: the file names of a dataset directory, and replacing such a directory as a whole.
 * Internal to data/. */
#ifndef WEIR_DATA_DATASET_DIR_H
#define WEIR_DATA_DATASET_DIR_H

#include "graph/base.h"
#include "data/dataset.h"

#define WR__DATASET_FORMAT "weir dataset"
#define WR__DATASET_JSON   "dataset.json"
#define WR__JOINT_MODEL    "joint.model"
#define WR__SRC_MODEL      "source.model"
#define WR__TGT_MODEL      "target.model"

/* "train.pairs" and so on. */
const char *wr__split_file(wr_split split);

/* A directory being written: files go to `partial`, which commit puts in the place of `dir`. */
typedef struct wr__dir_swap {
    char *dir, *partial;
} wr__dir_swap;

/* Check that `dir` may be replaced (see wr_dataset_may_write()) and make an empty `partial` beside
 * it; what a killed run left there is removed. */
wr_status wr__dir_swap_begin(wr__dir_swap *swap, const char *dir, wr_error *err);

/* Put `partial` in the place of `dir` in one step and remove the old one. */
wr_status wr__dir_swap_commit(wr__dir_swap *swap, wr_error *err);

/* Remove `partial`. */
void wr__dir_swap_abandon(wr__dir_swap *swap);

#endif
