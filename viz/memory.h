/* memory.h: who holds the arena of a plan: over its schedule, at its peak, and the top buffers.
 *
 * A buffer belongs to the scope that made it. Layers that differ in a number count as one
 * ("decoder.layer*"); what the backward part makes is told apart from what it reads, and gradients
 * of parameters from the rest of it. */
#ifndef WEIR_MEMORY_H
#define WEIR_MEMORY_H

#include "graph/plan.h"

typedef struct wr_memory_options {
    int depth;         /* parts of scopes that are told apart */
    int top;           /* buffers listed */
    const char *title; /* NULL: none */
} wr_memory_options;

/* Append a table for terminals: what holds how much at the peak, and the largest buffers with their
 * types, sizes, lifetimes and source lines. Errors: WR_ERR_MEMORY. */
wr_status wr_memory_table(const wr_plan *p, const wr_memory_options *o, wr_str *out, wr_error *err);

/* Append an SVG element: bytes in use over the steps, stacked by scope, with the peak; where in the
 * arena the buffers lie; the same tables. Errors: WR_ERR_MEMORY. The text is the same for the same
 * plan. */
wr_status wr_memory_svg(const wr_plan *p, const wr_memory_options *o, wr_str *out, wr_error *err);

#endif
