/* batch_plan.h: which sentences form which batch of an epoch. Internal to data/. */
#ifndef WEIR_DATA_BATCH_PLAN_H
#define WEIR_DATA_BATCH_PLAN_H

#include "graph/base.h"
#include "data/batches.h"

/* Lengths are packed into the sorting key in 21 bits each. */
enum { WR__LONGEST_SENTENCE = (1 << 21) - 1 };

/* A sentence and where it stands in the sorted order. */
typedef struct wr__plan_item {
    uint64_t key;          /* rounded lengths: the larger, target, source */
    uint32_t position, id; /* position: before sorting */
} wr__plan_item;

/* Batch number i of the epoch is pick[start[turn[i]]] .. pick[start[turn[i]+1] - 1]. */
typedef struct wr__plan {
    bool ready; /* false until made, and after a failure */
    uint32_t epoch;
    size_t n, batches;
    uint32_t *pick;      /* [n] */
    wr__plan_item *item; /* [n] scratch */
    uint64_t *start;     /* [batches+1] */
    uint32_t *turn;      /* [batches] */
    size_t start_cap, turn_cap;
} wr__plan;

/* The padded lengths of one sentence or of a batch. */
typedef struct wr__shape {
    size_t S, T;
} wr__shape;

/* The padded lengths of sentence i alone; T = 0 without targets. */
wr__shape wr__plan_shape(const wr_pairs *pairs, const wr_batches_options *options, size_t i);

/* (Re)make the plan for an epoch; `plan` is zero-initialised or an earlier plan of the same pairs.
 */
wr_status wr__plan_make(wr__plan *plan, const wr_pairs *pairs, const wr_batches_options *options,
                        uint32_t epoch, wr_error *err);
void wr__plan_free(wr__plan *plan);

/* The sentences of batch i; `*count` of them. */
const uint32_t *wr__plan_batch(const wr__plan *plan, size_t i, size_t *count);

#endif
