/* invert_ledger.c: the terms of all rules as one log-determinant per sentence. */
#include "autodiff/invert_internal.h"

#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/mask.h"
#include "ops/reduce.h"

#include <stdlib.h>

typedef struct wr__inverter inverter;

/* A term with what is known of its operand. */
typedef struct entry {
    wr x, term, mask; /* mask: poison, where all positions are valid */
    int axes;
    int batch;
    bool merged;
} entry;

/* The mask over at most the first `axes` axes; a position is valid if any of its elements is. */
static wr narrow_to(wr mask, int axes) {
    return wr_rank(mask) > axes ? wr_max_axes(mask, axes, wr_rank(mask)) : mask;
}

/* ---- the usual case: the batch is axis 0 ---- */

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

static wr sum_first(const entry *e) {
    if (e->axes != WR__PER_ELEMENT && wr_rank(e->term) > 0) return sum_valid(e->term, e->mask);
    if (e->axes != WR__PER_ELEMENT) return times_positions(e->term, e->x, e->axes, e->mask);
    int repeated = wr_rank(e->x) - wr_rank(e->term);
    if (repeated == 0) return sum_valid(e->term, e->mask);
    if (!wr_is_poison(e->mask) && wr_rank(e->mask) > repeated)
        return sum_valid(wr_broadcast_like(e->term, e->x), e->mask);
    return times_positions(wr_sum_all(e->term), e->x, repeated, e->mask);
}

/* ---- the batch somewhere else ---- */

/* The term with all the axes that it counts for, 0 at padding. */
static wr expanded(const entry *e) {
    wr_type t = wr_type_of(e->x);
    wr term = e->term;
    if (e->axes == WR__PER_ELEMENT)
        term = wr_broadcast(term, t.rank, t.dim);
    else if (wr_rank(term) == 0)
        term = wr_broadcast(term, e->axes, t.dim);
    return wr_is_poison(e->mask) ? term : wr_mask_apply(term, narrow_to(e->mask, wr_rank(term)));
}

static wr batch_to_front(wr x, int batch) {
    int perm[WR_MAX_RANK] = {batch}, n = 1;
    for (int i = 0; i < wr_rank(x); i++)
        if (i != batch) perm[n++] = i;
    return wr_permute_at(WR_HERE, x, perm);
}

/* All that belongs to a sentence side by side, then summed. */
static wr sum_anywhere(const entry *e, wr_dim sentences) {
    wr term = batch_to_front(expanded(e), e->batch);
    wr_dim n = wr_n(1);
    for (int i = 0; i < wr_rank(term); i++)
        n = wr_dim_mul(term.g, n, wr_dim_of(term, i));
    return wr_sum(wr_reshape(term, WR_DIMS(sentences, wr_dim_div(term.g, n, sentences))), 1);
}

/* ---- all terms ---- */

static bool has_batch(const entry *e) {
    int axes = e->axes == WR__PER_ELEMENT ? wr_rank(e->x) : e->axes;
    return e->batch >= 0 && e->batch < axes;
}

static wr sum_of(inverter *v, const wr__term *t, const wr__place_of_data *at) {
    wr none = {v->g, 0};
    const wr__place_of_data *p = &at[t->operand];
    entry e = {.x = {v->g, t->operand},
               .term = {v->g, t->value},
               .mask = {v->g, p->mask},
               .axes = t->axes,
               .batch = p->batch,
               .merged = p->merged};
    wr_dim sentences = wr_dim_of(v->f->ins[0], 0);
    if (p->lost != NULL || at[t->rule].lost != NULL) {
        bool before = p->lost != NULL;
        wr__inverse_mistake(v, before ? t->operand : t->rule, before ? p->lost : at[t->rule].lost,
                            "wr_mask_apply tells which positions are data");
        return none;
    }
    if (wr_dim_same(sentences, wr_n(1)) && (!has_batch(&e) || e.batch != 0 || e.merged))
        return wr_reshape(wr_sum_all(expanded(&e)), WR_DIMS(wr_n(1)));
    if (!has_batch(&e)) {
        wr__inverse_mistake(v, t->rule,
                            "no log-determinant per sentence: sentences are mixed before or in",
                            "keep the batch an axis of its own");
        return none;
    }
    return e.batch == 0 && !e.merged ? sum_first(&e) : sum_anywhere(&e, sentences);
}

static wr zero_log_det(const inverter *v) {
    wr zero = wr_scalar(v->g, wr_dtype_of(v->f->ins[0]), 0.0);
    return wr_broadcast(zero, WR_DIMS(wr_dim_of(v->f->ins[0], 0)));
}

wr wr__ledger_sum(inverter *v) {
    wr sum = {v->g, 0};
    const wr__place_of_data *at = v->data;
    for (size_t i = 0; v->ok && i < v->n_terms; i++) {
        wr_derivation before = wr_derive_begin(v->g, v->term[i].rule, WR_INVERSE);
        wr one = sum_of(v, &v->term[i], at);
        if (!wr_is_poison(one)) one = wr_cast(one, wr_dtype_of(v->f->ins[0]));
        sum = i == 0 ? one : wr_add(sum, one);
        v->ok = !wr_is_poison(sum);
        wr_derive_end(v->g, before);
    }
    if (!v->ok) return (wr){v->g, 0};
    return v->n_terms == 0 ? zero_log_det(v) : sum;
}
