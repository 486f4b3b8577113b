/* scan.h: a loop over time with carried state, as one row.
 *
 *   for t = 0, 1, .. steps - 1 (or from the end):
 *       (carry, out[t], term) = body(carry, step[t]);   sum += term
 *
 * The body is a C function from handles to handles. It is called once, while the graph is built, on
 * handles that stand for one step's values; its mistakes are diagnostics with the user's lines as
 * everywhere. What it reads from outside (parameters, masks, any handle it knows) is constant over
 * the loop; what does not depend on the step is computed once, before the loop.
 *
 * The number of steps may be symbolic. The gradient is a scan in the other direction which computes
 * the steps again from the carried states, so it has a gradient in turn. Random rows in a body are
 * a mistake: draw the numbers of all steps outside and hand them in as a sequence. So are rows that
 * write states. */
#ifndef WEIR_OPS_SCAN_H
#define WEIR_OPS_SCAN_H

#include "graph/op.h"

extern const wr_op wr_op_scan, wr_op_loop_value;

enum { WR_SCAN_MOST = 160 }; /* carried states, sequences, outputs, sums: at most so many of each */

/* One step, as the body sees it. */
typedef struct wr_scan_step {
    wr_graph *g;
    const wr *carry; /* the carried states before the step */
    const wr *step;  /* position t of each sequence, without the axis */
    wr *next;        /* to fill: the carried states behind the step, of the same types */
    wr *out;         /* to fill: what is stacked over the steps */
    wr *sum;         /* to fill: what is added up over the steps (float) */
    void *context;
} wr_scan_step;

typedef struct wr_scan_spec {
    /* Fill next, out and sum. False: a mistake was found (it is a diagnostic already). */
    bool (*body)(wr_scan_step *s);
    void *context;
    int n_carry;
    const wr *carry; /* first states */
    int n_step;
    const wr *step;       /* sequences */
    const int *step_axis; /* the axis of each that is time; NULL: `axis` for all */
    int n_out;
    const int *out_axis; /* the axis of each stacked output that becomes time; NULL: `axis` */
    int n_sum;
    int axis;
    wr_dim steps; /* their number; needed only when there is no sequence */
    bool reverse; /* from the last position to the first; outputs stay at their positions */
} wr_scan_spec;

/* last (n_carry): the states behind the last step; out (n_out): [.., steps, ..]; sum (n_sum). Any
 * of them may be NULL. False: poison, after a diagnostic. With no steps the last
 * states are the first ones and sums are zero. */
bool wr_scan_at(wr_loc loc, const wr_scan_spec *s, wr *last, wr *out, wr *sum);
#define wr_scan(spec, last, out, sum) wr_scan_at(WR_HERE, spec, last, out, sum)

#endif
