/* host.h: a user's C function inside a graph, e.g. an alignment objective by dynamic programming.
 *
 * A wr_host_fn stays alive and unchanged as long as a graph or program that names it: nodes hold
 * its address, nothing is copied. Its function gets tensors in host memory when a run reaches the
 * node.
 *
 * It must be a function in the sense of mathematics: the same operands give the same results, for
 * otherwise runs are not repeatable. Equal nodes are one node, a node that nobody reads is dropped,
 * and one may be computed twice (recomputed scopes), so a call count means nothing. A session makes
 * one call at a time, from the thread that runs it, or on CUDA from one of the driver's, where it
 * may not use CUDA; when several sessions share it, they may call it at once, so what `context`
 * points to is then read only or guarded. It keeps no pointer to a tensor beyond the call. */
#ifndef WEIR_OPS_HOST_H
#define WEIR_OPS_HOST_H

#include "graph/op.h"

enum { WR_HOST_OUTPUTS = 4 };

extern const wr_op wr_op_host, wr_op_host2, wr_op_host3, wr_op_host4;

typedef struct wr_host_fn {
    const char *name; /* for messages and pictures */
    int n_out;        /* 1 to WR_HOST_OUTPUTS */
    void *context;    /* handed to the functions below */
    /* The types of the outputs, given those of the operands, while the graph is built. False with
     * `why` set to a text when they do not fit. Sizes are made with wr_n, wr_dim_of and wr_dim_mul.
     */
    bool (*shape)(void *context, wr_graph *g, int n_in, const wr_type *in, wr_type *out,
                  const char **why);
    /* Fill out[k].data; it is NULL where nobody reads that output. `threads` may be used inside; a
     * failure is told through wr_fail(err, ..) and stops the run. */
    wr_status (*run)(void *context, int n_in, const wr_tensor *in, int n_out, const wr_tensor *out,
                     int threads, wr_error *err);
    /* The gradient as graph nodes, through wr_contribute(c, k, x); often another host function over
     * c->in and c->cot (poison where an output has no cotangent). NULL: see `stops`. */
    bool (*grad)(void *context, wr_grad_ctx *c);
    /* Without `grad`: true says that no gradient flows back, false that asking is a mistake. */
    bool stops;
} wr_host_fn;

/* Output 0 (wr_output gives the others). At least one operand. */
wr wr_host_at(wr_loc loc, const wr_host_fn *fn, int n_in, const wr *in);
#define wr_host(fn, n_in, in) wr_host_at(WR_HERE, fn, n_in, in)

#endif
