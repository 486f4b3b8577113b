/* crash.h: what a crash tells: the signal, the node being executed, the stack.
 *
 * For programs that use the library: call wr_crash_handler() once, first of all in main(). */
#ifndef WEIR_CRASH_H
#define WEIR_CRASH_H

#include "graph/plan.h"

/* From now on SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT print a report on stderr: the signal, the
 * node that was being executed (row, name, sizes, scope, source line, chain of callers) and the
 * stack with functions and lines. Then the signal goes on to whoever handled it before, by default
 * to the end of the process, so that its exit status is the signal's. The report runs on a stack of
 * its own, so that an overflow of the calling thread's stack can be told too. Once is enough;
 * further calls change nothing. Errors: WR_ERR_IO when the system refuses. */
wr_status wr_crash_handler(wr_error *err);

/* ---- for the executor ---- */

/* A plan being run: a local variable of the function that runs its steps. */
typedef struct wr__running {
    const wr_plan *plan;
    volatile int step;         /* stored before each kernel, read by the handler */
    struct wr__running *outer; /* the run around this one: a loop's body runs inside its row */
    long thread;
    int slot;
} wr__running;

/* Between these two, `r` is what the calling thread runs. */
void wr__running_begin(wr__running *r, const wr_plan *p);
void wr__running_end(wr__running *r);

#endif
