/* checkpoint.h: the folder RUN/checkpoints.
 *
 *     step-N.safetensors   parameters after N updates
 *     step-N.state         the optimizer's states and the progress (also a safetensors file)
 *     last, best           text: "step-N"
 *     average              parameters: mean of several checkpoints (a safetensors file)
 *
 * A save writes parameters, then states, then `last`, then `best`, each to a temporary name, synced
 * and renamed, and then removes what nothing names any more. So the process may be killed at any
 * moment: `last` names a whole checkpoint. */
#ifndef WEIR_OPTIM_CHECKPOINT_H
#define WEIR_OPTIM_CHECKPOINT_H

#include "graph/session.h"
#include "optim/progress.h"

/* Save all parameters of the session, and its states named `optim.*` but for the sums of gradients
 * (save between updates), as checkpoint `progress->update`. `folder` is made when it is missing.
 * `progress->step` is taken from the session. Of older checkpoints, the best ones of `progress`
 * keep their parameters, the others go. Note a score first (wr_progress_note), then save. Saving an
 * update again replaces it; its tensors must be the same. Errors: WR_ERR_IO, memory. */
wr_status wr_checkpoint_save(const char *folder, wr_session *s, wr_progress *progress,
                             wr_error *err);

/* Is there a checkpoint to resume from? */
bool wr_checkpoint_exists(const char *folder);

/* Append the path of the parameters called `which`: "last", "best", "average" or "step-N". Errors:
 * there is none; a damaged pointer. */
wr_status wr_checkpoint_locate(const char *folder, const char *which, wr_str *path, wr_error *err);

/* Load parameters from a safetensors file into a session, for the programs that will run in it.
 * Names, dtypes and shapes are compared both ways; everything missing, wrong or left over is listed
 * in one message, and nothing is loaded then. With `partial`, tensors that no program asks for are
 * passed over (decoding does not need a posterior). */
wr_status wr_checkpoint_load(const char *path, wr_session *s, int n_programs,
                             wr_program *const *programs, bool partial, wr_error *err);

/* Load `last` whole: parameters, states, the session's step, and the progress. */
wr_status wr_checkpoint_resume(const char *folder, wr_session *s, int n_programs,
                               wr_program *const *programs, wr_progress *progress, wr_error *err);

/* Write `average`: the mean, computed in double, of the parameters after the `n` (at least 1) given
 * updates. Errors: a checkpoint that is missing, or of another model than the others. */
wr_status wr_checkpoint_average(const char *folder, int n, const int64_t *updates, wr_error *err);

#endif
