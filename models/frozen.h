/* frozen.h: programs for inference, in which what depends on parameters alone is computed once.
 *
 * Weights under weight normalisation, inverses of matrices, exponentials of scales: a decoder that
 * computed them in every run would read and write all of them again for each sentence. */
#ifndef WEIR_FROZEN_H
#define WEIR_FROZEN_H

#include "graph/session.h"

/* Two programs of one session. `once` writes the states that `each` reads: to be run before the
 * first run of `each` and whenever parameters have changed; NULL when there are none. It has no
 * inputs, and its only output is there to be run. */
typedef struct wr_frozen {
    wr_program *once, *each;
} wr_frozen;

/* Compile `g` for the outputs as wr_program_new() with the standard passes does. A state is called
 * "SCOPE.frozen_HASH" by what it computes, so that programs of one session share it. */
wr_status wr_frozen_new(const wr_graph *g, int n_outputs, const wr *outputs, wr_frozen *out,
                        wr_error *err);

/* Free the programs and what `session` keeps for them. */
void wr_frozen_free(wr_frozen *f, wr_session *session);

#endif
