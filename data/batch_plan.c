/* batch_plan.c: the order of an epoch and its cut into batches; see batch_plan.h. */
#include "data/batch_plan.h"
#include "data/draw.h"

#include <stdlib.h>

static size_t round_up(size_t n, size_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

wr__shape wr__plan_shape(const wr_pairs *pairs, const wr_batches_options *options, size_t i) {
    wr__shape s = {.S = round_up(wr_side_count(&pairs->src, i) + 1, options->multiple)};
    if (options->targets && pairs->tgt.id_at != NULL)
        s.T = round_up(wr_side_count(&pairs->tgt, i) + 1, options->multiple);
    return s;
}

/* ---- order ---- */

static int by_key(const void *a, const void *b) {
    const wr__plan_item *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return (x->position > y->position) - (x->position < y->position);
}

/* Random order, or longest first by an inverted key. */
static void order_sentences(wr__plan *plan, const wr_pairs *pairs,
                            const wr_batches_options *options) {
    for (size_t i = 0; i < plan->n; i++)
        plan->pick[i] = (uint32_t)i;
    if (!options->in_order) {
        wr__draw d = wr__draw_begin(options->seed, WR__DRAW_SENTENCES, plan->epoch);
        wr__draw_shuffle(&d, plan->pick, plan->n);
    }
    for (size_t i = 0; i < plan->n; i++) {
        wr__shape s = wr__plan_shape(pairs, options, plan->pick[i]);
        uint64_t key = (uint64_t)larger(s.S, s.T) << 42 | (uint64_t)s.T << 21 | s.S;
        plan->item[i] = (wr__plan_item){options->in_order ? ~key : key, (uint32_t)i, plan->pick[i]};
    }
}

/* ---- batches ---- */

static bool fits(const wr_batches_options *o, size_t count, wr__shape s) {
    return count == 1 || (count * larger(s.S, s.T) <= o->max_tokens &&
                          (o->max_sentences == 0 || count <= o->max_sentences));
}

static wr_status add_batch(wr__plan *plan, size_t start, wr_error *err) {
    size_t need = plan->batches + 2;
    if (!wr_grow(&plan->start, &plan->start_cap, need, sizeof *plan->start) ||
        !wr_grow(&plan->turn, &plan->turn_cap, need, sizeof *plan->turn))
        return wr_fail_memory(err, "the plan of an epoch", need * sizeof *plan->start);
    plan->turn[plan->batches] = (uint32_t)plan->batches;
    plan->start[plan->batches++] = start;
    return WR_OK;
}

/* Sort sentences begin..end-1 of the order by length and cut them greedily. */
static wr_status cut_chunk(wr__plan *plan, const wr_pairs *pairs, const wr_batches_options *options,
                           size_t begin, size_t end, wr_error *err) {
    wr__shape shape = {0};
    size_t count = 0;
    wr_status status = WR_OK;
    qsort(plan->item + begin, end - begin, sizeof *plan->item, by_key);
    for (size_t i = begin; i < end && status == WR_OK; i++) {
        plan->pick[i] = plan->item[i].id;
        wr__shape one = wr__plan_shape(pairs, options, plan->pick[i]);
        wr__shape with = {larger(shape.S, one.S), larger(shape.T, one.T)};
        if (count > 0 && fits(options, count + 1, with)) {
            shape = with;
            count++;
        } else {
            shape = one;
            count = 1;
            status = add_batch(plan, i, err);
        }
    }
    return status;
}

static wr_status reserve(wr__plan *plan, size_t n, wr_error *err) {
    if (plan->pick != NULL) return WR_OK;
    plan->n = n;
    plan->pick = malloc(n * sizeof *plan->pick);
    plan->item = malloc(n * sizeof *plan->item);
    if (plan->pick != NULL && plan->item != NULL) return WR_OK;
    wr__plan_free(plan);
    return wr_fail_memory(err, "the order of an epoch",
                          n * (sizeof *plan->pick + sizeof *plan->item));
}

wr_status wr__plan_make(wr__plan *plan, const wr_pairs *pairs, const wr_batches_options *options,
                        uint32_t epoch, wr_error *err) {
    wr_status status = reserve(plan, pairs->n, err);
    if (status != WR_OK) return status;
    size_t n = pairs->n;
    size_t chunk = options->in_order || options->chunk == 0 ? n : options->chunk;
    plan->ready = false;
    plan->epoch = epoch;
    plan->batches = 0;
    order_sentences(plan, pairs, options);
    for (size_t begin = 0; begin < n && status == WR_OK; begin += chunk)
        status = cut_chunk(plan, pairs, options, begin, n - begin < chunk ? n : begin + chunk, err);
    if (status != WR_OK) return status;
    plan->start[plan->batches] = n;
    if (!options->in_order) {
        wr__draw d = wr__draw_begin(options->seed, WR__DRAW_BATCHES, epoch);
        wr__draw_shuffle(&d, plan->turn, plan->batches);
    }
    plan->ready = true;
    return WR_OK;
}

void wr__plan_free(wr__plan *plan) {
    free(plan->pick);
    free(plan->item);
    free(plan->start);
    free(plan->turn);
    *plan = (wr__plan){0};
}

const uint32_t *wr__plan_batch(const wr__plan *plan, size_t i, size_t *count) {
    uint32_t b = plan->turn[i];
    *count = (size_t)(plan->start[b + 1] - plan->start[b]);
    return plan->pick + plan->start[b];
}
