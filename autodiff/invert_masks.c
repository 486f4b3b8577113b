/* invert_masks.c: which positions are data, and the ledger of log-determinant terms.
 *
 * A mask goes with the elements: rows that move elements move their mask, elementwise rows keep it,
 * wr_mask_apply states it. It covers the first axes of its node: [B, T] of [B, T, C]. */
#include "autodiff/invert_internal.h"

#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/mask.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/slice.h"

#include <string.h>

typedef struct wr__inverter inverter;

/* ---- masks along the graph ---- */

static wr handle(const inverter *v, uint32_t id) { return (wr){v->g, id}; }

/* The mask over all axes of x. */
static wr spread_over(wr mask, wr x) {
    wr_type t = wr_type_of(x);
    wr ones = wr_broadcast(wr_scalar(x.g, t.dtype, 1.0), t.rank, t.dim);
    return wr_mask_apply(ones, mask);
}

/* The mask over at most the first `axes` axes; a position is valid if any of its elements is. */
static wr narrow_to(wr mask, int axes) {
    return wr_rank(mask) > axes ? wr_max_axes(mask, axes, wr_rank(mask)) : mask;
}

static bool same_first_dims(const inverter *v, wr mask, wr x) {
    if (wr_rank(mask) > wr_rank(x)) return false;
    for (int i = 0; i < wr_rank(mask); i++)
        if (!wr_dim_eq(v->g, wr_dim_of(mask, i), wr_dim_of(x, i))) return false;
    return true;
}

/* The row of node `id` applied to the masks of its operands instead of the operands. */
static wr moved(const inverter *v, uint32_t id, const wr *masks) {
    const wr_node *n = wr_node_at(v->g, id);
    wr_attr attr[WR_MAX_ATTRS];
    int n_attr = wr_op_attr_count(n->op);
    if (n_attr > 0) memcpy(attr, wr_node_attrs(v->g, id), sizeof(wr_attr) * (size_t)n_attr);
    return wr_emit_in(v->g, v->loc, n->op, n->n_in, masks, attr, false);
}

enum { JOINED_MOST = 64 };

/* Rows with an axis in attribute 0: slice, concat, split, ... `mask` is operand 0's. */
static wr moved_along_axis(const inverter *v, uint32_t id, wr mask) {
    int axis = (int)wr_node_attrs(v->g, id)[0].i, n_in = wr_node_at(v->g, id)->n_in;
    if (axis >= wr_rank(mask) || n_in > JOINED_MOST) return mask;
    wr masks[JOINED_MOST];
    int rank = wr_rank(mask);
    for (int k = 0; k < n_in; k++) {
        uint32_t in = wr_node_inputs(v->g, id)[k];
        wr own = handle(v, v->mask[in]);
        if (wr_is_poison(own))
            own = spread_over(wr_scalar(v->g, wr_dtype_of(mask), 1.0), handle(v, in));
        masks[k] = own;
        rank = wr_rank(own) > rank ? wr_rank(own) : rank;
    }
    for (int k = 0; k < n_in; k++)
        if (wr_rank(masks[k]) != rank)
            masks[k] = spread_over(masks[k], handle(v, wr_node_inputs(v->g, id)[k]));
    return moved(v, id, masks);
}

/* A reshape or a permutation that keeps the axes of the mask keeps the mask. */
static wr moved_as_whole(const inverter *v, uint32_t id, wr mask) {
    wr x = handle(v, wr_node_inputs(v->g, id)[0]), y = handle(v, id);
    const wr_attr *attr = wr_node_attrs(v->g, id);
    bool keeps = same_first_dims(v, mask, y);
    if (wr_node_at(v->g, id)->op == &wr_op_transpose)
        for (int i = 0; i < wr_rank(mask); i++)
            keeps = keeps && attr[i].i == i;
    if (keeps) return mask;
    wr full = spread_over(mask, x);
    return moved(v, id, &full);
}

static wr moved_by_index(const inverter *v, uint32_t id, wr mask) {
    wr index = handle(v, wr_node_inputs(v->g, id)[1]);
    bool along = wr_node_at(v->g, id)->op == &wr_op_gather && wr_rank(index) <= wr_rank(mask);
    return along && !v->inside[index.id] ? moved(v, id, (wr[]){mask, index}) : mask;
}

static bool has_axis(const wr_op *op) {
    return op == &wr_op_slice || op == &wr_op_concat || op == &wr_op_split_2 ||
           op == &wr_op_split_3 || op == &wr_op_split_4;
}

/* The mask of node `id`, given that of the first operand that has one. */
static wr mask_behind(const inverter *v, uint32_t id, wr mask) {
    const wr_op *op = wr_node_at(v->g, id)->op;
    if (op == &wr_op_mask_apply) {
        uint32_t told = wr_node_inputs(v->g, id)[1];
        if (!v->inside[told]) return handle(v, told);
    }
    if (wr_is_poison(mask)) return mask;
    if (has_axis(op)) return moved_along_axis(v, id, mask);
    if (op == &wr_op_reshape || op == &wr_op_transpose) return moved_as_whole(v, id, mask);
    if (op == &wr_op_gather) return moved_by_index(v, id, mask);
    wr y = handle(v, id);
    if (!(op->traits & WR_ELEMENTWISE) && wr_rank(mask) == wr_rank(y) && wr_rank(y) > 1)
        mask = narrow_to(mask, wr_rank(y) - 1); /* rows over the last axis: a matrix product */
    return same_first_dims(v, mask, y) ? mask : handle(v, 0);
}

/* Is axis 0 of the output still the batch, if it is for the operands? */
static bool keeps_batch(const inverter *v, uint32_t id) {
    const wr_node *n = wr_node_at(v->g, id);
    const wr_attr *attr = wr_node_attrs(v->g, id);
    if (has_axis(n->op) && attr[0].i == 0) return false;
    if (n->op == &wr_op_transpose && attr[0].i != 0) return false;
    if (n->op == &wr_op_gather && wr_rank(handle(v, wr_node_inputs(v->g, id)[1])) < 2) return false;
    if (n->op == &wr_op_matmul && attr[0].i != 0 && n->rank == 2) return false;
    return n->rank > 0 && wr_dim_eq(v->g, n->dim[0], wr_dim_of(v->f->ins[0], 0));
}

static void spread_to(inverter *v, uint32_t id) {
    wr mask = {v->g, 0};
    bool batch = keeps_batch(v, id);
    for (int k = 0; k < wr_node_at(v->g, id)->n_in; k++) {
        uint32_t in = wr_node_inputs(v->g, id)[k];
        if (!v->inside[in]) continue;
        batch = batch && v->batch[in];
        if (wr_is_poison(mask)) mask = handle(v, v->mask[in]);
    }
    v->batch[id] = batch;
    if (wr_node_at(v->g, id)->op != &wr_op_output) {
        v->mask[id] = mask_behind(v, id, mask).id;
        return;
    }
    v->mask[id] = v->mask[wr_node_inputs(v->g, id)[0]]; /* parts of equal size are cut alike */
}

void wr__masks_spread(inverter *v) {
    for (int i = 0; i < v->f->n_in; i++) {
        uint32_t id = v->f->ins[i].id;
        v->batch[id] = true;
        if (v->f->masks != NULL) v->mask[id] = v->f->masks[i].id;
        wr mask = handle(v, v->mask[id]);
        if (!wr_is_poison(mask) && !same_first_dims(v, mask, v->f->ins[i])) {
            wr_mistake(v->g, v->loc, "the mask of input %d has not the first sizes of the input",
                       i);
            v->ok = false;
        }
    }
    for (uint32_t id = 1; id < v->n && v->ok; id++)
        if (v->inside[id] && !v->is_in[id]) spread_to(v, id);
}

/* ---- the ledger ---- */

static bool enter(inverter *v, wr term) {
    if (wr_is_poison(term)) return v->ok = false;
    v->log_det = wr_is_poison(v->log_det) ? term : wr_add(v->log_det, term);
    return v->ok = v->ok && !wr_is_poison(v->log_det);
}

static bool batch_is_first(const wr_inverse_ctx *c, int k) {
    inverter *v = c->inverter;
    if (v->batch[c->in[k].id]) return true;
    wr_str s = {0};
    wr_node_describe(v->g, c->id, &s);
    wr_mistake(v->g, v->loc,
               "no log-determinant per sentence: axis 0 is no longer the batch at\n  %s\n  hint: "
               "keep the batch as axis 0",
               wr_str_text(&s));
    wr_str_free(&s);
    return v->ok = false;
}

/* Sum over everything but the batch, of valid positions only; the mask has the first sizes of the
 * term, or the other way round. */
static wr sum_valid(wr term, wr mask) {
    if (wr_is_poison(mask)) return wr_sum_axes(term, 1, wr_rank(term));
    mask = narrow_to(mask, wr_rank(term));
    term = wr_sum_axes(term, wr_rank(mask), wr_rank(term));
    return wr_sum_axes(wr_mask_apply(term, mask), 1, wr_rank(mask));
}

/* A number for each valid position of the first `axes` axes of x -> [B]. */
static wr times_positions(wr number, wr x, int axes, wr mask) {
    int counted = 1;
    wr per_sentence;
    if (wr_is_poison(mask)) {
        per_sentence = wr_broadcast(number, WR_DIMS(wr_dim_of(x, 0)));
    } else {
        mask = narrow_to(mask, axes);
        counted = wr_rank(mask);
        per_sentence = wr_mul(wr_sum_axes(mask, 1, counted), number);
    }
    for (int i = counted; i < axes; i++)
        per_sentence = wr_scale_by_dim(per_sentence, wr_dim_of(x, i), 1.0);
    return per_sentence;
}

bool wr_inverse_term(wr_inverse_ctx *c, int k, wr term) {
    inverter *v = c->inverter;
    wr x = c->in[k], mask = handle(v, v->mask[x.id]);
    if (wr_is_poison(term) || !batch_is_first(c, k)) return v->ok = false;
    int repeated = wr_rank(x) - wr_rank(term);
    if (repeated == 0) return enter(v, sum_valid(term, mask));
    if (!wr_is_poison(mask) && wr_rank(mask) > repeated)
        return enter(v, sum_valid(wr_broadcast_like(term, x), mask));
    return enter(v, times_positions(wr_sum_all(term), x, repeated, mask));
}

bool wr_inverse_term_leading(wr_inverse_ctx *c, int k, wr term, int axes) {
    inverter *v = c->inverter;
    wr x = c->in[k], mask = handle(v, v->mask[x.id]);
    if (wr_is_poison(term) || !batch_is_first(c, k)) return v->ok = false;
    if (wr_rank(term) > 0) return enter(v, sum_valid(term, mask));
    return enter(v, times_positions(term, x, axes, mask));
}
