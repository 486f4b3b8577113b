/* scan_internal.h: what a scan row's attribute refers to; for scan*.c. */
#ifndef WEIR_OPS_SCAN_INTERNAL_H
#define WEIR_OPS_SCAN_INTERNAL_H

#include "graph/program.h"
#include "graph/region.h"
#include "ops/scan.h"

enum { WR__SCAN_BODY, WR__SCAN_STEPS, WR__SCAN_REVERSE, WR__SCAN_ATTRS }; /* attributes */

/* A body, never changed once it is made. Operands of the row: carried states, sequences, constants.
 * Outputs of the row, and roots of the program but for the last kind: stacked outputs, carried
 * states, sums, states before each step. */
typedef struct wr__scan_body {
    wr_graph *g;         /* as declared, for gradients and expansion */
    wr_program *program; /* what runs in each step */
    int n_carry, n_step, n_const, n_out, n_sum;
    wr_dim steps;
    int step_axis[WR_SCAN_MOST], out_axis[WR_SCAN_MOST];
    wr_type out_type[WR_SCAN_MOST], sum_type[WR_SCAN_MOST]; /* of one step */
    uint32_t *input;                                        /* per operand: its input node in g */
    int *feed;      /* per operand: its input number in the program, -1: not read */
    uint32_t *root; /* n_out + n_carry + n_sum nodes of g */
} wr__scan_body;

static inline int wr__scan_operands(const wr__scan_body *b) {
    return b->n_carry + b->n_step + b->n_const;
}
static inline int wr__scan_roots(const wr__scan_body *b) {
    return b->n_out + b->n_carry + b->n_sum;
}

/* scan_body.c: build the body and keep it with the graph; its number, -1 after a diagnostic. The
 * constants that it reads are listed in `constants` (malloc, the caller's to free). */
int wr__scan_body_new(wr_loc loc, const wr_scan_spec *s, wr **constants, int *n_constants);

/* scan_body.c: a node that stands for one step's value; named what0, what1, .. */
wr wr__loop_value(wr_graph *g, wr_loc loc, wr_type t, const char *what, int k);

/* scan_kernel.c */
wr_status wr__scan_cpu(const wr_call *c);
wr_cost wr__scan_cost(const wr_call *c);
extern const wr_prepare wr__scan_prepare;

/* scan_grad.c */
bool wr__scan_grad(wr_grad_ctx *c);
bool wr__scan_expand(wr_expand_ctx *c);

#endif
