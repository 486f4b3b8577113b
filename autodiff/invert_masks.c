/* invert_masks.c: which positions are data, and which axis is the batch, at every node that came
 * from the outputs.
 *
 * A mask goes with the elements: rows that move elements move their mask, elementwise rows keep it,
 * wr_mask_apply states it. It covers the first axes of its node: [B, T] of [B, T, C]. Where a row
 * mixes padding with data, or nothing is known, the mask is lost, which is a mistake as soon as a
 * log-determinant is taken there. */
#include "autodiff/invert_internal.h"

#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/linalg.h"
#include "ops/mask.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/slice.h"
#include "ops/sort.h"

#include <stdlib.h>
#include <string.h>

typedef struct wr__inverter inverter;
typedef struct wr__place_of_data place;

static wr handle(const inverter *v, uint32_t id) { return (wr){v->g, id}; }
static int64_t attribute(const inverter *v, uint32_t id, int k) {
    return wr_node_attrs(v->g, id)[k].i;
}
static uint32_t operand(const inverter *v, uint32_t id, int k) {
    return wr_node_inputs(v->g, id)[k];
}

/* ---- masks ---- */

/* The mask over all axes of x. */
static wr spread_over(wr mask, wr x) {
    wr_type t = wr_type_of(x);
    wr ones = wr_broadcast(wr_scalar(x.g, wr_dtype_of(mask), 1.0), t.rank, t.dim);
    return wr_mask_apply(ones, mask);
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

/* The masks of all operands, of one rank: ones for those without. */
static void own_masks(const inverter *v, const place *at, uint32_t id, wr_dtype t, wr *masks) {
    int n_in = wr_node_at(v->g, id)->n_in, rank = 0;
    for (int k = 0; k < n_in; k++) {
        wr x = handle(v, operand(v, id, k)), mask = handle(v, at[x.id].mask);
        masks[k] = wr_is_poison(mask) ? spread_over(wr_scalar(v->g, t, 1.0), x) : mask;
        rank = wr_rank(masks[k]) > rank ? wr_rank(masks[k]) : rank;
    }
    for (int k = 0; k < n_in; k++)
        if (wr_rank(masks[k]) != rank)
            masks[k] = spread_over(masks[k], handle(v, operand(v, id, k)));
}

/* Rows with an axis in attribute 0: slice, concat, split. `mask` is of any operand. */
static wr moved_along_axis(const inverter *v, const place *at, uint32_t id, wr mask) {
    int n_in = wr_node_at(v->g, id)->n_in;
    if (attribute(v, id, 0) >= wr_rank(mask)) return mask;
    wr *masks = malloc(sizeof *masks * (size_t)n_in);
    if (masks == NULL) return wr_no_memory(v->g);
    own_masks(v, at, id, wr_dtype_of(mask), masks);
    wr all = moved(v, id, masks);
    free(masks);
    return all;
}

/* A reshape or a permutation that keeps the axes of the mask keeps the mask. */
static wr moved_as_whole(const inverter *v, uint32_t id, wr mask) {
    bool keeps = same_first_dims(v, mask, handle(v, id));
    if (wr_node_at(v->g, id)->op == &wr_op_transpose)
        for (int i = 0; i < wr_rank(mask); i++)
            keeps = keeps && attribute(v, id, i) == i;
    if (keeps) return mask;
    wr full = spread_over(mask, handle(v, operand(v, id, 0)));
    return moved(v, id, &full);
}

/* Rows with an index in operand 1 that moves positions along its last axis. */
static wr moved_by_index(const inverter *v, uint32_t id, wr mask, const char **lost) {
    wr index = handle(v, operand(v, id, 1));
    if (wr_rank(index) > wr_rank(mask)) return mask;
    if (!v->inside[index.id]) return moved(v, id, (wr[]){mask, index});
    *lost = "its index, which depends on the inputs, moves padding";
    return mask;
}

/* Reversing the prefixes that a mask of the same lengths marks keeps the mask. */
static wr reversed(const inverter *v, uint32_t id, wr mask) {
    uint32_t lengths = operand(v, id, 1);
    bool prefix = wr_node_at(v->g, mask.id)->op == &wr_op_sequence_mask &&
                  wr_node_inputs(v->g, mask.id)[0] == lengths;
    if (prefix || wr_rank(mask) < 2) return mask;
    return moved(v, id, (wr[]){mask, handle(v, lengths)});
}

/* x [.., n, m] -> [.., m]: is any of the column valid? */
static wr columns_of(wr mask) { return wr_max_axes(mask, wr_rank(mask) - 2, wr_rank(mask) - 1); }

/* [.., m] -> [.., n, m] of the sizes of y. */
static wr over_columns(wr mask, wr y) {
    wr_type t = wr_type_of(y), one = t;
    one.dim[t.rank - 2] = wr_n(1);
    return wr_broadcast(wr_reshape(mask, one.rank, one.dim), t.rank, t.dim);
}

/* Products mix the elements along one axis of what was solved, operand k: the last but one, or for
 * x w the last. What has any valid element there is data; padding and data must not be mixed. */
static wr through_product(const inverter *v, uint32_t id, int k, wr mask, const char **lost) {
    wr x = handle(v, operand(v, id, k)), y = handle(v, id);
    int rank = wr_rank(x), over = wr_rank(mask);
    bool product = wr_node_at(v->g, id)->op == &wr_op_matmul;
    bool flipped = product && attribute(v, id, k) != 0;
    bool last = product && (k == 0) != flipped; /* is the last axis mixed? */
    if (over <= rank - 2) return mask;
    if (last && over == rank) mask = wr_max_axes(mask, rank - 1, rank);
    if (last) return flipped ? over_columns(mask, y) : mask;
    if (over == rank - 1) {
        *lost = "it mixes positions that the mask tells apart";
        return mask;
    }
    mask = columns_of(mask);
    return flipped ? mask : over_columns(mask, y);
}

/* Terms on the way to here would count what is padding from here on. */
static wr stated(const inverter *v, uint32_t id, wr mask, const char **lost) {
    uint32_t x = operand(v, id, 0), told = operand(v, id, 1);
    bool from_nowhere = wr_is_poison(mask) && *lost == NULL && !v->is_in[x];
    *lost = from_nowhere ? "it sets padding to 0, but what it reads has no mask" : NULL;
    return handle(v, told);
}

static bool has_axis(const wr_op *op) {
    return op == &wr_op_slice || op == &wr_op_concat || op == &wr_op_split_2 ||
           op == &wr_op_split_3 || op == &wr_op_split_4;
}

static bool is_product(const wr_op *op) {
    return op == &wr_op_matmul || op == &wr_op_triangular_solve || op == &wr_op_lu_solve;
}

/* The mask of node `id`, given that of operand k, which came from the outputs. */
static wr mask_behind(const inverter *v, const place *at, uint32_t id, int k, wr mask,
                      const char **lost) {
    const wr_op *op = wr_node_at(v->g, id)->op;
    if (op == &wr_op_mask_apply) return stated(v, id, mask, lost);
    if (wr_is_poison(mask) || *lost != NULL) return mask;
    if (has_axis(op)) return moved_along_axis(v, at, id, mask);
    if (op == &wr_op_reshape || op == &wr_op_transpose) return moved_as_whole(v, id, mask);
    if (op == &wr_op_gather || op == &wr_op_scatter_add) return moved_by_index(v, id, mask, lost);
    if (op == &wr_op_reverse_prefix) return reversed(v, id, mask);
    if (op == &wr_op_cast) return wr_cast(mask, wr_dtype_of(handle(v, id)));
    if (is_product(op)) return through_product(v, id, k, mask, lost);
    if (op == &wr_op_cumsum && attribute(v, id, 0) < wr_rank(mask) && attribute(v, id, 1) != 0)
        *lost = "sums from the end would begin with padding";
    else if (!same_first_dims(v, mask, handle(v, id)))
        *lost = "it is not known what this does to padding";
    return mask;
}

/* ---- the axis of the batch ---- */

static int axis_of(const inverter *v, uint32_t id) {
    const wr_op *op = wr_node_at(v->g, id)->op;
    if (has_axis(op) || op == &wr_op_cumsum) return (int)attribute(v, id, 0);
    if (op == &wr_op_gather || op == &wr_op_scatter_add)
        return wr_rank(handle(v, operand(v, id, 1))) - 1;
    return op == &wr_op_reverse_prefix ? 1 : -1;
}

static void through_reshape(const inverter *v, uint32_t id, place *p) {
    wr x = handle(v, operand(v, id, 0)), y = handle(v, id);
    wr_dim size = wr_dim_of(v->f->ins[0], 0);
    bool keeps = !p->merged && wr_rank(y) > p->batch;
    for (int i = 0; keeps && i <= p->batch; i++)
        keeps = wr_dim_eq(v->g, wr_dim_of(x, i), wr_dim_of(y, i));
    if (keeps) return;
    bool first = p->batch == 0 && wr_rank(y) > 0;
    p->merged = first && !wr_dim_eq(v->g, wr_dim_of(y, 0), size);
    if (!first || wr_dim_div(v->g, wr_dim_of(y, 0), size).id == 0) p->batch = -1;
}

static void through_transpose(const inverter *v, uint32_t id, place *p) {
    int from = p->batch;
    for (int i = 0; i < wr_rank(handle(v, id)); i++)
        if (attribute(v, id, i) == from) p->batch = (int16_t)i;
}

/* Does a product sum over this axis of operand k? */
static bool is_summed(const inverter *v, uint32_t id, int k, int axis) {
    int rank = wr_rank(handle(v, operand(v, id, k)));
    if (wr_node_at(v->g, id)->op != &wr_op_matmul) return axis == rank - 2;
    bool transposed = attribute(v, id, k) != 0;
    return axis == (transposed == (k == 0) ? rank - 2 : rank - 1);
}

static void batch_behind(const inverter *v, uint32_t id, int k, place *p) {
    const wr_op *op = wr_node_at(v->g, id)->op;
    if (p->batch < 0) return;
    if (op == &wr_op_reshape) {
        through_reshape(v, id, p);
    } else if (op == &wr_op_transpose) {
        through_transpose(v, id, p);
    } else if (is_product(op)) {
        int rank = wr_rank(handle(v, id));
        bool swaps = op == &wr_op_matmul && attribute(v, id, k) != 0 && p->batch >= rank - 2;
        if (is_summed(v, id, k, p->batch))
            p->batch = -1;
        else if (swaps) /* the last two axes change places */
            p->batch = (int16_t)(2 * rank - 3 - p->batch);
    } else if (axis_of(v, id) == p->batch ||
               wr_rank(handle(v, id)) != wr_rank(handle(v, operand(v, id, k)))) {
        p->batch = -1;
    }
}

/* ---- along the graph ---- */

/* The operand that carries the data: the first that came from the outputs; -1: none. */
static int carrier(const inverter *v, uint32_t id) {
    for (int k = 0; k < wr_node_at(v->g, id)->n_in; k++) {
        uint32_t in = operand(v, id, k);
        if (v->inside[in] && wr__came_from_outputs(v, in)) return k;
    }
    return -1;
}

/* Of several operands with masks (concat), the first that has one; where one is lost, all are. */
static place from_operands(const inverter *v, const place *at, uint32_t id, int first) {
    place p = at[operand(v, id, first)];
    for (int k = first + 1; k < wr_node_at(v->g, id)->n_in; k++) {
        uint32_t in = operand(v, id, k);
        if (!v->inside[in] || !wr__came_from_outputs(v, in)) continue;
        if (p.mask == 0) p.mask = at[in].mask;
        if (p.lost == NULL) p.lost = at[in].lost;
        if (at[in].batch != p.batch || at[in].merged != p.merged) p.batch = -1;
    }
    return p;
}

/* An output of a row with several: what its maker's mask became, cut the same way. */
static place of_output(const inverter *v, const place *at, uint32_t id) {
    uint32_t m = operand(v, id, 0);
    place p = at[m];
    bool cut = p.mask != 0 && wr_node_at(v->g, p.mask)->n_out > 1 &&
               wr_node_at(v->g, p.mask)->op == wr_node_at(v->g, m)->op;
    if (cut) p.mask = wr_output(handle(v, p.mask), (int)attribute(v, id, 0)).id;
    return p;
}

static void spread_to(const inverter *v, place *at, uint32_t id) {
    if (wr_node_at(v->g, id)->op == &wr_op_output) {
        at[id] = of_output(v, at, id);
        return;
    }
    int k = carrier(v, id);
    if (v->through[id] != 0) at[id] = at[v->through[id]];
    if (k < 0 || v->through[id] != 0) return;
    place p = from_operands(v, at, id, k);
    batch_behind(v, id, k, &p);
    p.mask = mask_behind(v, at, id, k, handle(v, p.mask), &p.lost).id;
    at[id] = p;
}

/* Is it on the way of the data? Of a row with several outputs, the first stands for all. */
static bool carries(const inverter *v, uint32_t id) {
    bool any = false;
    for (uint32_t k = 0; k < wr_node_at(v->g, id)->n_out; k++)
        any = any || (v->inside[id + k] && wr__came_from_outputs(v, id + k));
    return any && !v->is_in[id];
}

bool wr__data_has_masks(const inverter *v) {
    bool any = false;
    for (uint32_t id = 1; id < v->n; id++)
        any = any || v->data[id].mask != 0;
    return any;
}

wr__place_of_data *wr__data_spread(inverter *v) {
    place *at = calloc(v->n, sizeof *at);
    if (at == NULL) {
        wr_no_memory(v->g);
        return NULL;
    }
    for (int i = 0; i < v->f->n_in; i++)
        if (v->f->masks != NULL) at[v->f->ins[i].id].mask = v->f->masks[i].id;
    for (uint32_t id = 1; id < v->n && v->ok; id++) {
        if (!carries(v, id)) continue;
        spread_to(v, at, id);
        if (wr_node_at(v->g, id)->op == &wr_op_mask_apply && at[id].lost != NULL)
            wr__inverse_mistake(v, id, at[id].lost, "tell the bijection the masks of its inputs");
    }
    if (v->ok && wr_graph_ok(v->g)) return at;
    free(at);
    return NULL;
}
