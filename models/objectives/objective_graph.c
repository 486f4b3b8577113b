/* objective_graph.c: see objective_graph.h. */
#include "models/objectives/objective_graph.h"

#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/mask.h"
#include "ops/reduce.h"
#include "ops/slice.h"
#include "ops/softmax.h"

#include <stdlib.h>

/* Operands and outputs of the host function; `weight` [B, T] and `update` [] stand behind the first
 * four where there are any. `stats` [B, STATS] are what is told of each sentence. */
enum { LP, IDS, POSITION_LEN, TARGET_LEN, OPERANDS = TARGET_LEN + 3 };
enum { WEIGHTS, LOSS, STATS_OF, SAID, OUTPUTS };
enum { TOKENS, SHARE, COUNT, FEASIBLE, STATS };

/* ---- the host function ---- */

static bool is_row(wr_graph *g, wr_type t, wr_dim b) {
    return t.dtype == WR_I32 && t.rank == 1 && wr_dim_eq(g, t.dim[0], b);
}

static bool optional_fit(wr_graph *g, int n_in, const wr_type *in) {
    for (int k = TARGET_LEN + 1; k < n_in; k++) {
        bool weight = in[k].rank == 2 && in[k].dtype == in[LP].dtype &&
                      wr_dim_eq(g, in[k].dim[0], in[LP].dim[0]) &&
                      wr_dim_eq(g, in[k].dim[1], in[LP].dim[1]);
        if (!weight && in[k].rank != 0) return false;
    }
    return true;
}

static bool host_shape(void *context, wr_graph *g, int n_in, const wr_type *in, wr_type *out,
                       const char **why) {
    (void)context;
    wr_dim b = in[LP].dim[0];
    *why = "lengths are [B] i32, as many as there are sentences";
    if (!is_row(g, in[POSITION_LEN], b) || !is_row(g, in[TARGET_LEN], b)) return false;
    *why = "weight is [B, T] of the logits' dtype, update a number";
    if (!optional_fit(g, n_in, in)) return false;
    out[WEIGHTS] = in[LP];
    out[LOSS] = (wr_type){.dtype = in[LP].dtype, .rank = 1, .dim = {b}};
    out[STATS_OF] = (wr_type){.dtype = in[LP].dtype, .rank = 2, .dim = {b, wr_n(STATS)}};
    out[SAID] = (wr_type){.dtype = WR_I32, .rank = 2, .dim = {b, in[LP].dim[1]}};
    return true;
}

static double get(const wr_tensor *t, int64_t i) {
    if (t->dtype == WR_F32) return (double)((const float *)t->data)[i];
    return t->dtype == WR_F64 ? ((const double *)t->data)[i] : ((const int32_t *)t->data)[i];
}

static void put(const wr_tensor *t, int64_t i, double x) {
    if (t->dtype == WR_F32)
        ((float *)t->data)[i] = (float)x;
    else
        ((double *)t->data)[i] = x;
}

/* A batch around the operands; what it fills are parts of `memory`, apart from w and said. */
static wr_objective_batch batch_of(const wr_objective_config *c, int n_in, const wr_tensor *in,
                                   const wr_tensor *out, double *memory) {
    const int64_t *d = in[LP].dim;
    wr_objective_batch b = {
        .real = in[LP].dtype == WR_F32 ? WR_OBJECTIVE_F32 : WR_OBJECTIVE_F64,
        .sentences = (int)d[0],
        .positions = (int)d[1],
        .targets = (int)d[2] - c->row->extra,
        .lp = in[LP].data,
        .ids = in[IDS].data,
        .position_len = in[POSITION_LEN].data,
        .target_len = in[TARGET_LEN].data,
        .w = out[WEIGHTS].data,
        .loss = memory,
        .tokens = memory + d[0],
        .feasible = (int32_t *)(memory + 2 * d[0]),
        .said = out[SAID].data,
    };
    for (int k = TARGET_LEN + 1; k < n_in; k++) {
        if (in[k].rank == 0)
            b.update = get(&in[k], 0);
        else
            b.weight = in[k].data;
    }
    return b;
}

/* Share and count of a feasible sentence; see objective_graph.h. */
static void put_norm(const wr_tensor *stats, int64_t i, wr_norm norm, double tokens, int frames) {
    double share = 1, count = 1;
    if (norm == WR_NORM_SENT_TOKEN) share = tokens > 0 ? 1 / tokens : 0;
    if (norm == WR_NORM_TOKEN) count = tokens;
    if (norm == WR_NORM_FRAMES) count = frames;
    put(stats, i * STATS + SHARE, share);
    put(stats, i * STATS + COUNT, count);
}

static void put_stats(const wr_objective_config *c, const wr_objective_batch *b,
                      const wr_tensor *stats) {
    wr_tensor tokens = {.data = b->tokens, .dtype = stats->dtype};
    if (stats->data == NULL) return;
    for (int i = 0; i < b->sentences; i++) {
        double n = get(&tokens, i);
        for (int k = 0; k < STATS; k++)
            put(stats, (int64_t)i * STATS + k, 0);
        if (!b->feasible[i]) continue;
        put(stats, (int64_t)i * STATS + TOKENS, n);
        put(stats, (int64_t)i * STATS + FEASIBLE, 1);
        put_norm(stats, i, c->norm, n, b->position_len[i]);
    }
}

static wr_status host_run(void *context, int n_in, const wr_tensor *in, int n_out,
                          const wr_tensor *out, int threads, wr_error *err) {
    const wr_objective_config *c = context;
    size_t bytes = (size_t)in[LP].dim[0] * 3 * sizeof(double) + sizeof(double);
    (void)n_out;
    double *memory = malloc(bytes);
    if (memory == NULL) return wr_fail_memory(err, "an objective's losses", bytes);
    wr_objective_batch b = batch_of(c, n_in, in, out, memory);
    wr_status status = wr_objective_run(c, &b, threads, err);
    if (status == WR_OK) {
        wr_tensor loss = {.data = b.loss, .dtype = in[LP].dtype};
        for (int i = 0; i < b.sentences && out[LOSS].data != NULL; i++)
            put(&out[LOSS], i, get(&loss, i));
        put_stats(c, &b, &out[STATS_OF]);
    }
    free(memory);
    return status;
}

/* [B] repeated to the sizes of like [B, T, C]. */
static wr repeat(wr x, wr like) {
    wr_dim one[3] = {wr_dim_of(like, 0), wr_n(1), wr_n(1)};
    return wr_broadcast_like(wr_reshape(x, 3, one), like);
}

static bool host_grad(void *context, wr_grad_ctx *c) {
    (void)context;
    wr w = c->out[WEIGHTS], cot = c->cot[LOSS];
    if (wr_is_poison(cot)) return true;
    return wr_contribute(c, LP, wr_mul(w, repeat(wr_neg(cot), w)));
}

void wr_objective_host_init(wr_objective_host *h, const wr_objective_config *config) {
    h->config = *config;
    h->fn = (wr_host_fn){.name = config->row->name,
                         .n_out = OUTPUTS,
                         .context = &h->config,
                         .shape = host_shape,
                         .run = host_run,
                         .grad = host_grad};
}

/* ---- the graph ---- */

static wr_objective_losses no_losses(wr_graph *g) {
    wr none = {g, 0};
    return (wr_objective_losses){none, none, none, none, none, none, none,
                                 none, none, none, none, none, none};
}

/* Mistakes that no row of the graph finds. */
static bool fits(const wr_objective_config *c, const wr_objective_inputs *in) {
    wr_graph *g = in->logits.g;
    const char *name = c->row->name;
    if (wr_is_poison(in->logits) || wr_is_poison(in->ids)) return false;
    wr_dim v = wr_dim_of(in->logits, -1);
    if (wr_rank(in->logits) != 3 || wr_rank(in->ids) != 2 || !wr_dim_is_literal(v))
        return !wr_is_poison(wr_mistake(
            g, WR_HERE, "%s needs logits [B, T, V] with a literal V, and ids [B, N]", name));
    if (c->row->extra && (in->blank < 0 || in->blank >= wr_dim_literal(v)))
        return !wr_is_poison(wr_mistake(g, WR_HERE, "%s: the blank is %d, but there are %lld words",
                                        name, (int)in->blank, (long long)wr_dim_literal(v)));
    if (!wr_is_poison(in->weight) && !c->row->masked)
        return !wr_is_poison(
            wr_mistake(g, WR_HERE, "%s takes no weights of positions; leave `weight` out", name));
    if (wr_is_poison(in->update) && wr_objective_needs_update(c))
        return !wr_is_poison(wr_mistake(
            g, WR_HERE, "%s is annealed by its options, and needs the number of updates", name));
    return true;
}

/* The words of each sentence's columns [B, C]. */
static wr columns(const wr_objective_config *c, const wr_objective_inputs *in) {
    wr_graph *g = in->ids.g;
    if (!c->row->extra) return in->ids;
    wr blank = wr_const(g, WR_I32, 1, (int64_t[]){1}, &in->blank);
    return wr_concat(1, in->ids, wr_broadcast(blank, WR_DIMS(wr_dim_of(in->ids, 0), wr_n(1))));
}

static wr call_host(const wr_objective_host *h, const wr_objective_inputs *in, wr lp, wr ids) {
    wr operand[OPERANDS] = {lp, ids, in->position_len, in->target_len};
    int n = TARGET_LEN + 1;
    if (!wr_is_poison(in->weight)) operand[n++] = in->weight;
    if (!wr_is_poison(in->update)) operand[n++] = in->update;
    return wr_host(&h->fn, n, operand);
}

/* Of each sentence [B]: the sum over positions of weight (-mean over the words of lp). */
static wr smooth_loss(const wr_objective_inputs *in, wr mean, wr feasible) {
    wr inside = wr_sequence_mask(in->position_len, wr_dim_of(mean, 1), wr_dtype_of(mean));
    inside = wr_mul(inside, wr__repeat_last(feasible, mean));
    wr loss = wr_neg(mean);
    if (!wr_is_poison(in->weight)) loss = wr_mul(wr_mask_apply(in->weight, inside), loss);
    return wr_sum(wr_mask_apply(loss, inside), 1);
}

static wr smoothed(const wr_objective_config *c, const wr_objective_inputs *in, wr loss, wr mean,
                   wr feasible) {
    double own, spread;
    wr_objective_smoothing(c, wr_dim_literal(wr_dim_of(in->logits, -1)), &own, &spread);
    if (spread == 0) return loss;
    return wr_add(wr_scale(loss, own), wr_scale(smooth_loss(in, mean, feasible), spread));
}

static wr divided(wr sum, wr count) {
    wr one = wr_scalar(sum.g, wr_dtype_of(sum), 1.0);
    return wr_div(sum, wr_select(count, count, one));
}

wr_objective_losses wr_objective_losses_of(const wr_objective_host *h,
                                           const wr_objective_inputs *in) {
    wr_graph *g = in->logits.g;
    wr_objective_losses l = no_losses(g);
    if (!fits(&h->config, in)) return l;
    wr ids = columns(&h->config, in), z = in->logits;
    wr_dim b = wr_dim_of(ids, 0), n = wr_dim_of(ids, 1), one = wr_n(1);
    wr repeated = wr_broadcast(wr_reshape(ids, WR_DIMS(b, one, n)), WR_DIMS(b, wr_dim_of(z, 1), n));
    wr_log_softmax_at_ids at = wr_gather_log_softmax(z, repeated);
    l.lp = at.lp;
    l.w = call_host(h, in, at.lp, ids);
    l.loss = wr_output(l.w, LOSS);
    l.said = wr_output(l.w, SAID);
    wr stats = wr_stop_gradient(wr_output(l.w, STATS_OF));
    l.tokens_of = wr_index(stats, 1, TOKENS);
    l.feasible = wr_index(stats, 1, FEASIBLE);
    l.each = smoothed(&h->config, in, l.loss, at.mean, l.feasible);
    l.sum = wr_sum_all(wr_mul(wr_index(stats, 1, SHARE), l.each));
    l.count = wr_sum_all(wr_index(stats, 1, COUNT));
    l.total = divided(l.sum, l.count);
    l.nll = wr_sum_all(l.loss);
    l.tokens = wr_sum_all(l.tokens_of);
    l.infeasible = wr_sum_all(wr_shift(wr_neg(l.feasible), 1.0));
    return l;
}
