/* trap.h: stops a run at the first node that made a NaN, or an infinity that did not stay inside.
 *
 * Switched on by `trap_nan` of the session's options; a plan that traps is run by another loop, so
 * that one that does not pays nothing. Every value is looked at after the step that made it.
 *
 * The rules:
 *  - NaN is an error where it first appears: in what a node made, in what was fed, in a parameter.
 *  - An infinity is legal on its way: masks hold -inf, and a select may drop the log of 0. It is an
 *    error when it reaches a number (rank 0) that the program gives out (a loss, a norm) or a
 *    parameter; then the node is named that made it of finite operands. One that ends in a NaN
 *    (inf - inf, 0 * inf) is named together with that NaN. */
#ifndef WEIR_TRAP_H
#define WEIR_TRAP_H

#include "graph/crash.h"

typedef struct wr__trap wr__trap;

/* Make the plan one that traps; false when memory is out. Again is fine. */
bool wr__trap_plan(wr_plan *p);
void wr__trap_free(wr__trap *t);

/* Run the steps of a plan that traps. Fails with WR_ERR_INPUT and the report. */
wr_status wr__trap_run(wr_plan *p, wr_run_env *env, wr__running *r);

/* After a run: is output k, which node `root` made, finite, if it is a number (rank 0)? */
wr_status wr__trap_output(const wr_plan *p, int k, const wr_tensor *output, uint32_t root,
                          wr_error *err);

#endif
