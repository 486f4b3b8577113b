/* attention_fuse.c: see attention_fuse.h. */
#include "ops/attention_fuse.h"

#include "ops/attention.h"
#include "ops/slice.h"

#include <stdlib.h>
#include <string.h>

enum { LAST_AXIS = 2, MOST_IN = 7, MOST_ATTRS = 6 };

enum { SEVERAL = UINT32_MAX };

typedef struct readers {
    uint32_t *only; /* per node: the only place that reads it, 0: none, SEVERAL */
    bool *joined;   /* gradients that became rows of joined operands */
} readers;

static const wr_node *node(const wr_rewrite *r, uint32_t id) { return wr_node_at(r->old, id); }
static uint32_t input(const wr_rewrite *r, uint32_t id, int k) {
    return wr_node_inputs(r->old, id)[k];
}

static void readers_end(void *pass) {
    readers *x = pass;
    free(x->only);
    free(x->joined);
    free(x);
}

static void note_readers(const wr_rewrite *r, uint32_t *only, uint32_t *reads, uint32_t id) {
    bool is_output = node(r, id)->op == &wr_op_output;
    for (int k = 0; r->live[id] && k < node(r, id)->n_in; k++) {
        uint32_t x = input(r, id, k);
        reads[x]++;
        if (!is_output) only[x] = only[x] == 0 ? id : SEVERAL;
    }
}

static void *readers_begin(const wr_rewrite *r, bool *failed) {
    uint32_t n = wr_node_count(r->old), *reads = calloc(n, sizeof *reads);
    readers *x = calloc(1, sizeof *x);
    if (x != NULL) x->only = calloc(n, sizeof *x->only);
    if (x != NULL) x->joined = calloc(n, sizeof *x->joined);
    *failed = x == NULL || x->only == NULL || x->joined == NULL || reads == NULL;
    for (uint32_t id = 1; !*failed && id < n; id++)
        note_readers(r, x->only, reads, id);
    for (uint32_t id = 1; !*failed && id < n; id++)
        if (r->users[id] != reads[id]) x->only[id] = SEVERAL; /* fetched, too */
    free(reads);
    return x;
}

/* Are operands first .. first + n - 1 of node `id` the n parts of one tensor's last axis? */
static bool are_parts(const wr_rewrite *r, uint32_t id, int first, int n) {
    uint32_t split = input(r, id, first);
    const wr_op *op = n == 3 ? &wr_op_split_3 : &wr_op_split_2;
    if (node(r, split)->op != op || wr_node_attrs(r->old, split)[0].i != LAST_AXIS) return false;
    for (int k = 1; k < n; k++)
        if (input(r, id, first + k) != split + (uint32_t)k) return false;
    return true;
}

/* 3: q, k and v lie side by side; 2: k and v; 0: neither. */
static int joined_parts(const wr_rewrite *r, uint32_t id) {
    return are_parts(r, id, 0, 3) ? 3 : are_parts(r, id, 1, 2) ? 2 : 0;
}

static wr emit_joined(const wr_rewrite *r, uint32_t id, const wr_op *op, int parts) {
    const wr_node *x = node(r, id);
    wr in[MOST_IN];
    wr_attr attr[MOST_ATTRS];
    int n = 0;
    if (parts == 2) in[n++] = wr_rewrite_map(r, input(r, id, 0));
    in[n++] = wr_rewrite_map(r, input(r, input(r, id, 3 - parts), 0));
    for (int k = 3; k < x->n_in; k++)
        in[n++] = wr_rewrite_map(r, input(r, id, k));
    memcpy(attr, wr_node_attrs(r->old, id), sizeof *attr * (MOST_ATTRS - 1));
    attr[MOST_ATTRS - 1].i = parts;
    return wr_emit(*wr_loc_at(r->old, x->loc), op, n, in, attr);
}

static wr join_attention(const wr_rewrite *r, uint32_t id) {
    int parts = node(r, id)->op == &wr_op_attention ? joined_parts(r, id) : 0;
    return parts == 0 ? (wr){r->now, 0} : emit_joined(r, id, &wr_op_attention_joined, parts);
}

/* The node that joins the gradients of the parts, and does nothing else, 0: there is none. The
 * gradient's outputs are nodes one after the other. */
static uint32_t joining(const wr_rewrite *r, uint32_t grad, int parts) {
    uint32_t first = grad + 3 - (uint32_t)parts;
    const readers *x = r->pass;
    uint32_t concat = x->only[first];
    if (concat == 0 || concat == SEVERAL || node(r, concat)->op != &wr_op_concat ||
        node(r, concat)->n_in != parts || wr_node_attrs(r->old, concat)[0].i != LAST_AXIS)
        return 0;
    for (int k = 0; k < parts; k++)
        if (input(r, concat, k) != first + (uint32_t)k || x->only[first + (uint32_t)k] != concat)
            return 0;
    return concat;
}

static wr join_gradient(const wr_rewrite *r, uint32_t id) {
    const readers *x = r->pass;
    int parts = node(r, id)->op == &wr_op_attention_grad ? joined_parts(r, id) : 0;
    if (parts == 0 || joining(r, id, parts) == 0) return (wr){r->now, 0};
    x->joined[id] = true;
    return emit_joined(r, id, &wr_op_attention_joined_grad, parts);
}

/* What joined the parts of the gradient is an output of the new row. */
static wr drop_joining(const wr_rewrite *r, uint32_t id) {
    const readers *x = r->pass;
    wr none = {r->now, 0};
    if (node(r, id)->op != &wr_op_concat) return none;
    uint32_t part = input(r, id, 0), grad = part;
    if (node(r, part)->op == &wr_op_output) grad = input(r, part, 0);
    if (!x->joined[grad] || joining(r, grad, node(r, id)->n_in) != id) return none;
    return wr_output(wr_rewrite_map(r, grad), node(r, id)->n_in == 3 ? 0 : 1);
}

static const wr_rule RULES[] = {join_attention, join_gradient, drop_joining, NULL};
const wr_pass wr_pass_attention = {
    .name = "attention", .joins = true, .begin = readers_begin, .end = readers_end, .rules = RULES};
