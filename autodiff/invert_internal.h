/* invert_internal.h: the state of one inversion, for the sources of autodiff/ only. */
#ifndef WEIR_INVERT_INTERNAL_H
#define WEIR_INVERT_INTERNAL_H

#include "autodiff/invert.h"

/* How a declared node came to be known. */
typedef enum wr__how {
    WR__UNKNOWN,
    WR__GIVEN,   /* does not depend on the inputs */
    WR__OUTPUT,  /* what is inverted */
    WR__FORWARD, /* computed from operands that are known */
    WR__SOLVED,  /* by the inverse rule of a node that reads it */
    WR__JOINED   /* its parts are known and tile it */
} wr__how;

/* Positions start, start + step, .. of an axis of a node. */
typedef struct wr__part {
    uint32_t node, value;
    int axis;
    wr_dim start, count;
    int64_t step;
} wr__part;

struct wr__inverter {
    wr_graph *g;
    wr_loc loc;
    const wr_bijection *f;
    bool in_place; /* only the log-determinant is wanted: every node's value is the node itself */
    uint32_t n;    /* nodes when the inversion began */

    /* per declared node */
    uint32_t *value; /* its node in the inverse */
    uint8_t *how;
    bool *inside;      /* depends on the inputs, and the outputs depend on it */
    bool *is_in;       /* one of the inputs */
    bool *used;        /* an inverse rule used this output up */
    const char **wait; /* why its rule has not fired */
    uint32_t *user_at, *user;

    uint32_t *queue, head, tail;
    wr__part *part;
    size_t n_parts, cap_parts;

    /* per declared node: the mask of its valid positions (0: all are), and whether axis 0 is still
     * the batch */
    uint32_t *mask;
    bool *batch;

    wr log_det; /* [B], of the forward direction; poison: no term yet */
    bool ok;
};

/* invert.c: node `id` is known now. */
bool wr__inverse_learn(struct wr__inverter *v, uint32_t id, wr value, wr__how how);

/* invert.c: compute what reads `id`, where that is possible now. */
void wr__inverse_forward_users(struct wr__inverter *v, uint32_t id);

/* invert_parts.c */
bool wr__parts_add(struct wr__inverter *v, const wr__part *p);
/* A slice of a node that is known in parts, from a part that holds it; poison: not yet. */
wr wr__parts_slice(struct wr__inverter *v, uint32_t slice);

/* invert_masks.c: fill `mask` and `batch`. */
void wr__masks_spread(struct wr__inverter *v);

#endif
