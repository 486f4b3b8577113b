/* memory_internal.h: holders and buffers of a plan. Internal to viz/. */
#ifndef WEIR_VIZ_MEMORY_INTERNAL_H
#define WEIR_VIZ_MEMORY_INTERNAL_H

#include "viz/memory.h"
#include "viz/scope_groups.h"

/* What holds memory: values or gradients of a group of scopes, all gradients of parameters, or
 * workspaces of kernels. */
typedef struct wr__holder {
    char *name;
    double peak;     /* bytes at the peak */
    double most;     /* bytes at its own peak */
    uint32_t n_peak; /* buffers at the peak */
    uint32_t n;      /* buffers */
    double *at;      /* bytes at each step; NULL for those without a buffer */
} wr__holder;

typedef struct wr__buffer {
    uint32_t node;   /* the node that made it; of a workspace the step's */
    uint32_t holder; /* index in wr__memory.holder */
    size_t offset, bytes;
    int first, last;
    bool workspace;
} wr__buffer;

typedef struct wr__memory {
    const wr_plan *p;
    wr_scope_groups groups;
    wr__holder *holder; /* see wr__memory_begin */
    size_t n_holders;
    wr__buffer *buffer; /* largest first */
    size_t n_buffers;
    int steps, peak_step;                         /* steps >= 1 */
    double peak;                                  /* bytes in use there */
    double parameters, states, constants, inputs; /* bytes outside of the arena */
} wr__memory;

/* Gather; call wr__memory_end() after a failure, too. The first `shown` holders are those that hold
 * most at some step, though it be not the peak. */
wr_status wr__memory_begin(wr__memory *m, const wr_plan *p, int depth, size_t shown, wr_error *err);
void wr__memory_end(wr__memory *m);

/* The node to name for a node's value: the op whose further output it is. */
uint32_t wr__memory_maker(const wr_graph *g, uint32_t id);
/* "decoder.layer0.ffn.matmul", of a workspace "workspace of ..". */
void wr__memory_print_name(const wr_plan *p, const wr__buffer *b, wr_str *out);
/* "f32 [B, T, 512] = 32 x 25 x 512". */
void wr__memory_print_type(const wr_plan *p, const wr__buffer *b, wr_str *out);
/* "models/x.c:12". */
void wr__memory_print_line(const wr_plan *p, const wr__buffer *b, wr_str *out);
/* One line about the whole. */
void wr__memory_print_sum(const wr__memory *m, wr_str *out);
/* "12.3 MB" */
void wr__memory_print_bytes(wr_str *out, double bytes);

#endif
