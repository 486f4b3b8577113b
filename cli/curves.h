/* curves.h: the numbers of RUN/log.jsonl as curves, and which of them share a panel. */
#ifndef WEIR_CLI_CURVES_H
#define WEIR_CLI_CURVES_H

#include "viz/plot.h"

typedef struct wr_curves wr_curves;

/* Read the logs of n >= 1 runs: each path is a run directory or a log itself. Of lines with the
 * same kind and update the last one counts, and a line takes back those of later updates before it
 * (a run that was killed and resumed). Lines that are no JSON or lack kind and update are skipped
 * (a torn line, a kill while writing); so is a run without any number. What was skipped is appended
 * to `notes`, a line each. Errors: WR_ERR_IO for a missing log; WR_ERR_INPUT when no run has a
 * number; WR_ERR_MEMORY. */
wr_status wr_curves_read(const char *const *paths, size_t n, wr_curves **out, wr_str *notes,
                         wr_error *err);
void wr_curves_free(wr_curves *c);

/* Choose panels. `what`: words with commas between them, in order: loss (all loss terms; those
 * whose sizes differ by more than 20 times apart), bleu (scores), lr, norm (of the gradient),
 * speed, or the name of a field; NULL: loss, bleu, lr and norm, as far as there are any. Errors:
 * WR_ERR_INPUT for a word that no run has, naming those there are; WR_ERR_MEMORY. `title` may be
 * NULL: the name of a single run. */
wr_status wr_curves_choose(wr_curves *c, const char *what, const char *title, wr_error *err);

/* What was chosen; alive as long as the curves. */
const wr_plot *wr_curves_plot(const wr_curves *c);

#endif
