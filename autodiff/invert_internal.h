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
    uint32_t next; /* 1 + the part of the same node before this one, 0: none */
    int axis;
    wr_dim start, count;
    int64_t step;
} wr__part;

/* log |d y / d x| of what a rule solved, to be summed at the end. */
typedef struct wr__term {
    uint32_t rule, operand, value; /* the node whose rule it was, what it solved, the term */
    int axes;                      /* a number per position of that many first axes; or ELEMENT */
} wr__term;
enum { WR__PER_ELEMENT = -1 };

/* A rule that is asked what it would do: see invert_select.c. */
typedef struct wr__capture {
    uint32_t choice; /* the node on whose behalf */
    wr solved, term;
    const char *why;
} wr__capture;

struct wr__inverter {
    wr_graph *g;
    wr_loc loc;
    const wr_bijection *f;
    bool in_place; /* only the log-determinant is wanted: every node's value is the node itself */
    bool terms;    /* the log-determinant is wanted */
    uint32_t n;    /* nodes when the inversion began */

    /* per declared node */
    uint32_t *value; /* its node in the inverse */
    uint8_t *how;
    bool *depends;     /* on the inputs */
    bool *inside;      /* and the outputs depend on it */
    bool *is_in;       /* one of the inputs */
    bool *used;        /* an inverse rule used this output up */
    const char **wait; /* why its rule has not fired */
    uint32_t *user_at, *user;
    uint32_t *through; /* of a choice: the node that was solved through it, 0: none */

    uint32_t *queue, head, tail;

    wr__part *part;
    size_t n_parts, cap_parts;
    uint32_t *parts_of; /* per node: 1 + its newest part */
    wr_dim *held;       /* per node: how many positions its parts hold together */

    wr__term *term;
    size_t n_terms, cap_terms;
    wr__capture *capture; /* NULL: rules do what they say */

    bool limited;                   /* a rule asked for padding inside its range */
    struct wr__place_of_data *data; /* where padding is; NULL before it is known */

    bool ok;
};

/* What the message of an inversion begins with, a node with its line, and a hint (may be NULL).
 * Returns false; the inversion has failed. */
bool wr__inverse_mistake(struct wr__inverter *v, uint32_t id, const char *what, const char *hint);
/* Append "\n  " and the description of a node. */
void wr__inverse_describe(const struct wr__inverter *v, uint32_t id, wr_str *out);

/* invert.c: node `id` is known now. */
bool wr__inverse_learn(struct wr__inverter *v, uint32_t id, wr value, wr__how how);
/* invert.c: compute what reads `id`, where that is possible now. */
void wr__inverse_forward_users(struct wr__inverter *v, uint32_t id);
/* Its value in the inverse, poison while unknown. */
wr wr__inverse_known(const struct wr__inverter *v, uint32_t id);
/* Known by coming from the outputs: it is one of the coordinates that the inverse passes through.
 */
static inline bool wr__came_from_outputs(const struct wr__inverter *v, uint32_t id) {
    return v->how[id] == WR__OUTPUT || v->how[id] == WR__SOLVED || v->how[id] == WR__JOINED;
}
/* The node whose op makes `id`. */
uint32_t wr__inverse_maker(const struct wr__inverter *v, uint32_t id);
/* Are all operands of `id` known? */
bool wr__inverse_operands_known(const struct wr__inverter *v, uint32_t id);

/* Operands, outputs and attributes of one node, copied out of the growing graph. */
typedef struct wr__view {
    const wr_op *op;
    int n_in, n_out;
    wr_attr attr[WR_MAX_ATTRS];
    wr *in, *x, *out, *y; /* x, y: values */
} wr__view;
bool wr__view_begin(struct wr__inverter *v, uint32_t id, wr__view *w); /* false: no memory */
void wr__view_end(wr__view *w);
/* What its inverse rule is given, about output k. */
wr_inverse_ctx wr__view_context(struct wr__inverter *v, uint32_t id, const wr__view *w, int k);

/* invert_begin.c: arguments, memory, what lies between inputs and outputs. */
bool wr__inverse_begin(struct wr__inverter *v, const wr *ys);
void wr__inverse_release(struct wr__inverter *v);
/* invert_end.c: is the whole map inverted, each output used up once? */
bool wr__inverse_check(struct wr__inverter *v);

/* invert_parts.c */
bool wr__parts_add(struct wr__inverter *v, const wr__part *p);
/* A slice of a node that is known in parts, from a part that holds it; poison: not yet. */
wr wr__parts_slice(struct wr__inverter *v, uint32_t slice);

/* invert_masks.c: which positions of the nodes that terms speak of are data. */
typedef struct wr__place_of_data {
    uint32_t mask;    /* of its valid positions, over its first axes; 0: all are */
    const char *lost; /* why the mask is not known */
    int16_t batch;    /* the axis of the batch, -1: mixed with others */
    bool merged;      /* that axis is the batch times something inside it */
} wr__place_of_data;
/* Is there padding anywhere? */
bool wr__data_has_masks(const struct wr__inverter *v);
/* One per declared node, for those that came from the outputs. NULL: no memory, or a mistake. */
wr__place_of_data *wr__data_spread(struct wr__inverter *v);

/* invert.c: the masks of inputs and outputs, poison where all positions are valid. */
wr_status wr__bijection_masks(const wr_bijection *f, wr *in_mask, wr *out_mask, wr_error *err);

/* invert_ledger.c: the sum of all terms, [B]; poison after a mistake. */
wr wr__ledger_sum(struct wr__inverter *v);

#endif
