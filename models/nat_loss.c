/* nat_loss.c: see nat_loss.h.
 *
 * Glancing (Qian et al. 2021) says the target twice. The first pass sees no word of it and has no
 * gradient; the second is given some of the words that the first erred at, and is compared with the
 * rest. Both drop the same elements. */
#include "models/nat_loss.h"

#include "graph/op.h"
#include "graph/streams.h"
#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/reduce.h"
#include "ops/slice.h"
#include "ops/sort.h"

wr_nat_pairs wr_nat_inputs(const wr_nat *n, wr_graph *g) {
    wr_dim B = wr_sym(g, "B", 1, 1 << 20, 1);
    wr_dim S = wr_sym(g, "S", 1, n->max_source, 1), T = wr_sym(g, "T", 1, n->max_target, 1);
    return (wr_nat_pairs){.src = wr_input(g, "src", WR_I32, WR_DIMS(B, S)),
                          .src_len = wr_input(g, "src_len", WR_I32, WR_DIMS(B)),
                          .tgt = wr_input(g, "tgt", WR_I32, WR_DIMS(B, T)),
                          .tgt_len = wr_input(g, "tgt_len", WR_I32, WR_DIMS(B))};
}

/* One batch on its way. */
typedef struct batch {
    const wr_nat *n;
    const wr_nat_training *t;
    const wr_nat_pairs *in;
    wr_nat_encoding e;
    wr len; /* [B] positions */
    wr_dim T;
    wr update;
    int64_t replay; /* where the first pass's random streams begin; < 0: there is none */
} batch;

static bool glances(const wr_nat_training *t) {
    return t->revealing.glancing != WR_RECIPE_GLANCE_NONE;
}

static bool masks(const wr_nat_training *t) {
    return t->objective.config.row == &wr_objective_cmlm;
}

static batch begin(const wr_nat *n, const wr_nat_training *t, const wr_nat_pairs *in, bool reveal) {
    wr_graph *g = in->src.g;
    batch x = {
        .n = n, .t = t, .in = in, .len = in->tgt_len, .T = wr_dim_of(in->tgt, 1), .replay = -1};
    x.e = wr_nat_encode(n, in->src, in->src_len);
    if (n->frames > 0) {
        x.len = wr_nat_frame_lengths(n, in->src_len);
        x.T = wr_nat_frame_dim(n, g, wr_dim_of(in->src, 1));
    }
    bool needs = wr_objective_needs_update(&t->objective.config) || (reveal && glances(t));
    x.update = needs ? wr_input(g, WR_NAT_UPDATE, WR_I32, 0, NULL) : (wr){g, 0};
    return x;
}

static wr logits_of(const batch *x, wr tokens) {
    return wr_nat_logits(x->n, wr_nat_decode(x->n, &x->e, tokens, x->len));
}

/* ---- what the decoder is given ---- */

/* log p of each position's own target word [B, T]. */
static wr own_words(const batch *x, wr logits) {
    wr_dim b = wr_dim_of(x->in->tgt, 0);
    wr ids = wr_reshape(x->in->tgt, WR_DIMS(b, x->T, wr_n(1)));
    return wr_reshape(wr_gather_log_softmax(logits, ids).lp, WR_DIMS(b, x->T));
}

/* log p at each frame of all target words and the blank: [B, T, N + 1]. */
static wr all_words(const batch *x, wr logits) {
    wr_graph *g = logits.g;
    wr_dim b = wr_dim_of(x->in->tgt, 0), one = wr_n(1);
    int32_t blank = wr_nat_blank(x->n);
    wr last = wr_broadcast(wr_const(g, WR_I32, 1, (int64_t[]){1}, &blank), WR_DIMS(b, one));
    wr ids = wr_concat(1, x->in->tgt, last);
    wr_dim c = wr_dim_of(ids, 1);
    wr each = wr_broadcast(wr_reshape(ids, WR_DIMS(b, one, c)), WR_DIMS(b, x->T, c));
    return wr_gather_log_softmax(logits, each).lp;
}

/* The first pass, and what the second is given after it. */
static wr_nat_given glance(batch *x) {
    wr_graph *g = x->in->src.g;
    const wr_nat_revealing *o = &x->t->revealing;
    x->replay = wr_streams_now(g);
    wr logits = wr_stop_gradient(logits_of(x, wr_nat_canvas(x->n, x->len, x->T)));
    wr_nat_first_pass first = {.said = wr_argmax(logits), .lp = {g, 0}, .update = x->update};
    if (x->n->frames > 0) {
        first.lp = all_words(x, logits);
        return wr_nat_glance_frames(x->n, o, &first, x->in->tgt, x->in->tgt_len, x->len);
    }
    if (wr_nat_glance_needs_lp(o)) first.lp = own_words(x, logits);
    return wr_nat_glance(x->n, o, &first, x->in->tgt, x->len);
}

/* The pass that is compared with the target, with the dropout of the first pass if there was one.
 */
static wr second_pass(const batch *x, const wr_nat_given *given) {
    wr_graph *g = x->in->src.g;
    int64_t behind = wr_streams_now(g);
    if (x->replay >= 0) wr_streams_replay(g, x->replay);
    wr logits = logits_of(x, given->tokens);
    if (x->replay >= 0) wr_streams_replay(g, behind);
    return logits;
}

/* ---- the whole ---- */

static wr_objective_losses compare(const batch *x, wr logits, const wr_nat_given *given) {
    wr_graph *g = logits.g;
    bool weighs = given != NULL && x->t->objective.config.row->masked;
    wr_objective_inputs in = {.logits = logits,
                              .ids = x->in->tgt,
                              .position_len = x->len,
                              .target_len = x->in->tgt_len,
                              .weight = weighs ? given->weight : (wr){g, 0},
                              .update = x->update,
                              .blank = wr_nat_blank(x->n)};
    return wr_objective_losses_of(&x->t->objective, &in);
}

/* sum / count, 0 for no count. */
static wr ratio(wr sum, wr count) {
    wr one = wr_scalar(sum.g, wr_dtype_of(sum), 1.0);
    return wr_div(sum, wr_select(count, count, one));
}

wr_nat_losses wr_nat_losses_of(const wr_nat *n, const wr_nat_training *t, const wr_nat_pairs *in,
                               bool reveal) {
    wr_graph *g = in->src.g;
    batch x = begin(n, t, in, reveal);
    wr_nat_losses l = {.length = {g, 0}, .length_of = {g, 0}, .given = {g, 0}};
    wr_nat_given given = {.tokens = {g, 0}};
    bool gives = reveal && (glances(t) || masks(t));
    if (gives) {
        given = glances(t) ? glance(&x) : wr_nat_mask_words(n, &t->revealing, in->tgt, x.len);
        wr positions = wr_sum_all(wr_cast(x.len, n->dtype));
        l.given = ratio(wr_sum_all(given.count), positions);
    }
    if (!gives) given.tokens = wr_nat_canvas(n, x.len, x.T);
    l.logits = second_pass(&x, &given);
    l.objective = compare(&x, l.logits, gives ? &given : NULL);
    l.total = l.objective.total;
    l.nll = ratio(l.objective.nll, l.objective.tokens);
    l.infeasible = l.objective.infeasible;
    if (n->frames > 0) return l;
    l.length_of = wr_nat_length_nll(n, &x.e, x.len);
    l.length = wr_mean_all(l.length_of);
    wr share = wr_scale(l.length, t->length_weight);
    /* as large beside the words that are compared as it would be beside all */
    if (gives && glances(t)) share = wr_mul(share, wr_stop_gradient(wr_shift(wr_neg(l.given), 1)));
    l.total = wr_add(l.total, share);
    return l;
}
