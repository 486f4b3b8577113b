/* stream.h: what a computation over whole sequences does at one position.
 *
 * A region of the graph between a tensor [B, T, ..] and others is looked at row by row: at which
 * axis time stands, and how far back a position reads. Rows whose step form is evident (those that
 * work position by position, shifts, causal attention, recurrence) can then be made once per
 * position, over tensors whose axis of time has size 1, with what they must remember as carried
 * states of a loop. For the sources of autodiff/ only. */
#ifndef WEIR_STREAM_H
#define WEIR_STREAM_H

#include "graph/region.h"
#include "ops/scan.h"

enum { WR__STREAM_MOST = 128, WR__STREAM_AXIS = 1 };

typedef enum wr__reach {
    WR__STEPS,     /* position t depends on positions up to t - lag, and has a step form */
    WR__LATER,     /* surely reads later positions */
    WR__NOT_KNOWN, /* no step form is known */
} wr__reach;

/* Of a node that varies. */
typedef struct wr__seen {
    int16_t axis;   /* of time */
    bool remembers; /* its step form carries a state */
    int16_t head;   /* only the first T - head positions are there (in front of a shift) */
    int32_t lag;
} wr__seen;

typedef struct wr__stream_step {
    uint32_t node;
    int axis;
} wr__stream_step;

typedef struct wr__stream_state {
    uint32_t owner;
    wr first, now, next;
} wr__stream_state;

typedef struct wr__stream {
    wr_graph *g;
    wr_loc loc;
    wr_region region;
    wr_dim steps;
    wr__seen *seen;
    int8_t *role; /* per edge: 0 constant, else 1 + the axis along which the operand is stepped */
    wr__reach reach;
    uint32_t culprit;   /* the node for which it is not WR__STEPS */
    const char *why;    /* of the node that is looked at */
    const char *reason; /* of the culprit */

    wr__stream_step step[WR__STREAM_MOST]; /* operands from outside that have an axis of time */
    int n_step;
    wr__stream_state state[WR__STREAM_MOST];
    int n_state;

    /* for making steps */
    const wr *given; /* per border node of the region: its value */
    bool making;
    wr *stepped;     /* per step[]: this position, [.., 1, ..] */
    wr *value;       /* per node of the region: this position's value; poison: not made yet */
    wr here, behind; /* the position's number and the next one, [] i32 */
} wr__stream;

/* Look at the region from `from` to `to`. All of `from` have time at axis 1, the first of them with
 * lag 0, the others `lag`. With `given` (values of the border, in order), first states are made,
 * too. False: no memory or a mistake in the graph; what is found is in reach, culprit and reason.
 */
bool wr__stream_look(wr__stream *s, wr_loc loc, wr_graph *g, int n_from, const wr *from, int n_to,
                     const wr *to, int32_t lag, const wr *given);
void wr__stream_free(wr__stream *s);
/* The operands that are stepped, as sequences of a loop: value and axis of each. */
wr wr__stream_sequence(const wr__stream *s, int k, int *axis);

/* In a loop's body: begin a position. `steps` are this position of the sequences, `states` the
 * carried states. */
void wr__stream_begin(wr__stream *s, const wr *steps, const wr *states, wr here, wr behind);
/* Make what reads only earlier positions (`earlier`) or the rest; values of `from` are set in
 * s->value before. `states`: also note the next states. */
bool wr__stream_make(wr__stream *s, bool earlier);
/* After everything is made: the next states. */
bool wr__stream_finish(wr__stream *s, wr *next);

/* stream_rows.c: the rows. */
typedef struct wr__stream_row {
    const wr_op *op;
    /* Look at the node; fill `out` of its first output. */
    wr__reach (*look)(wr__stream *s, uint32_t id, wr__seen *out);
    wr (*make)(wr__stream *s, uint32_t id);     /* NULL: the row again */
    bool (*finish)(wr__stream *s, uint32_t id); /* NULL: make noted the next states */
} wr__stream_row;
const wr__stream_row *wr__stream_row_of(const wr_op *op);
/* Output k > 0 of the node whose first output is `first`. */
wr__reach wr__stream_output(const wr__stream *s, uint32_t id, int k, wr__seen first, wr__seen *out);

/* Helpers of the rows. */
wr__reach wr__stream_because(wr__stream *s, wr__reach reach, const char *why);
bool wr__stream_varies(const wr__stream *s, uint32_t id, int k);
/* Operand k comes from outside and is stepped along an axis; false: its size is not that of time */
bool wr__stream_along(wr__stream *s, uint32_t id, int k, int axis);
/* A carried state of the node; `first` is asked only when steps are made. Its number. */
wr__stream_state *wr__stream_remember(wr__stream *s, uint32_t id);
wr__stream_state *wr__stream_state_of(wr__stream *s, uint32_t id, int number);
/* The value of an operand from outside, of all positions. */
wr wr__stream_given(const wr__stream *s, uint32_t node);
/* Operand k at this position. */
wr wr__stream_operand(const wr__stream *s, uint32_t id, int k);
/* The row again over operands at this position. */
wr wr__stream_again(wr__stream *s, uint32_t id);

#endif
