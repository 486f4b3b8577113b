/* start.h: first values of parameters that an initialiser cannot tell, for they depend on other
 * parameters or on data.
 *
 * The model is declared once more, in a graph of its own, with a wr_start: blocks then note which
 * parameter gets which value, and go on with the new values. The caller turns the notes into writes
 * at the end and runs that program once. */
#ifndef WEIR_START_H
#define WEIR_START_H

#include "graph/graph.h"

typedef enum wr_start_mode {
    WR_START_PARAMS, /* lengths of weight-normalised matrices become the norms of their directions;
                      * needs no data: inputs that only the model's values read need no feed */
    WR_START_DATA    /* outputs of layers get a wanted deviation on the batch that is fed */
} wr_start_mode;

typedef struct wr_start {
    wr_start_mode mode;
    int n, capacity;
    wr *param, *value;
} wr_start;

/* Note that `param` gets `value`. False when memory is out (recorded in the graph). */
bool wr_start_note(wr_start *s, wr param, wr value);

/* Make the writes, in the order of the notes, and forget the notes. Nothing else may be added to
 * the graph afterwards. Returns a handle to be an output of the program; poison when there is
 * nothing to write. */
wr wr_start_write(wr_start *s);

/* Forget the notes and give back their memory. */
void wr_start_free(wr_start *s);

static inline bool wr_starts_from_data(const wr_start *s) {
    return s != NULL && s->mode == WR_START_DATA;
}

#endif
