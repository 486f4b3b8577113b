/* progress.h: how far a training run is: everything outside of tensors that resuming needs. */
#ifndef WEIR_OPTIM_PROGRESS_H
#define WEIR_OPTIM_PROGRESS_H

#include "graph/base.h"

enum { WR_BEST_MOST = 1000 };

/* A checkpoint with the score of its validation. */
typedef struct wr_best {
    int64_t update;
    double score;
} wr_best;

/* A plain value: copy it, nothing to free. Whole numbers stay within 2^53; `seed` and `step` use
 * all 64 bits. */
typedef struct wr_progress {
    int64_t update;       /* updates made (skipped ones are counted in `skipped` only) */
    int64_t skipped;      /* updates whose gradient was not finite */
    int64_t epoch, batch; /* where the next batch is: its epoch, its number in the epoch */
    uint64_t seed;        /* of the run */
    uint64_t step;        /* of the session's random numbers (wr_session_set_step) */
    double seconds;       /* of training so far, over all starts */
    int64_t since_best;   /* validations since the best one */
    bool lower;           /* a lower score is better */
    int keep;             /* best checkpoints kept, 1 to WR_BEST_MOST */
    int n_best;
    wr_best best[WR_BEST_MOST]; /* best first; of equal scores the earlier one */
} wr_progress;

/* Note the score of the parameters after `update` updates; a score noted before for the same update
 * is replaced. Returns true when it is the best one so far. A score that is not finite is never
 * kept. */
bool wr_progress_note(wr_progress *p, double score);

/* As one line of JSON; reading it gives the same value, bit for bit. */
void wr_progress_text(const wr_progress *p, wr_str *text);

/* `name` stands for the file in messages. Errors: WR_ERR_INPUT: not JSON, a missing member, a value
 * out of its range. */
wr_status wr_progress_parse(const char *text, const char *name, wr_progress *p, wr_error *err);

#endif
