/* mple_measure.c: see mple_measure.h. Sampled inputs are in mple_sample.c. */
#include "models/mple.h"
#include "models/mple_measure_internal.h"
#include "models/nat_batch.h"
#include "models/sentence_order.h"
#include "models/transformer_decoder.h"
#include "ops/cross_entropy.h"
#include "ops/fuse.h"
#include "ops/layout.h"
#include "ops/softmax.h"
#include "ops/sort.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the model ---- */

/* The pure objective: what training anneals towards. */
static wr_status pure(wr_objective_config *c, wr_error *err) {
    static const char *const option[] = {"trunc_prob", "mix", "anneal", "pretrain"};
    wr_status status = WR_OK;
    if (c->row != &wr_objective_oaxe) return WR_OK;
    for (size_t i = 0; i < sizeof option / sizeof option[0] && status == WR_OK; i++)
        status = wr_objective_set(c, option[i], "0", err);
    return status;
}

wr_status wr_measurer_new(const wr_nat *model, const wr_nat_training *training, int update,
                          wr_session *session, wr_measurer **out, wr_error *err) {
    wr_objective_config config = training->objective.config;
    *out = NULL;
    if (model->dtype != WR_F32)
        return wr_fail(err, WR_ERR_INPUT, "models are measured in f32; this one is another type");
    wr_status status = pure(&config, err);
    if (status != WR_OK) return status;
    wr_measurer *m = calloc(1, sizeof *m);
    if (m == NULL) return wr_fail_memory(err, "a model", sizeof *m);
    m->n = *model;
    m->n.training = false;
    m->t = *training;
    wr_objective_host_init(&m->t.objective, &config);
    m->update = update;
    m->session = session;
    *out = m;
    return WR_OK;
}

void wr_measurer_free(wr_measurer *m) {
    if (m == NULL) return;
    for (int i = 0; i < WR__MEASURE_PROGRAMS; i++) {
        if (m->program[i] != NULL) wr_session_forget(m->session, m->program[i]);
        wr_program_free(m->program[i]);
    }
    free(m);
}

static const wr_objective *row_of(const wr_measurer *m) { return m->t.objective.config.row; }

static bool glances(const wr_measurer *m) {
    return m->t.revealing.glancing != WR_RECIPE_GLANCE_NONE;
}

bool wr_measurer_shows(const wr_measurer *m) {
    return m->n.frames == 0 && (glances(m) || row_of(m) == &wr_objective_cmlm);
}

bool wr_measurer_sums(const wr_measurer *m) { return row_of(m)->marginal; }

size_t wr_measurer_width(const wr_measurer *m) { return (size_t)m->n.m.dim; }

int wr_measurer_positions(const wr_measurer *m, size_t words) {
    return m->n.frames > 0 ? 0 : wr_nat_framed_len(m->n.framing, (int)words);
}

void wr_mask_pool_free(wr_mask_pool *pool) {
    free(pool->h);
    free(pool->masked);
    *pool = (wr_mask_pool){0};
}

/* ---- programs ---- */

/* What WR__TERMS gives. The last three only where words are shown. */
enum { LP, STATES, TOP, TOTAL, LOSS, FEASIBLE, SAID, GIVEN, COUNT, SHOWN_LP, OUTPUTS };

/* log p of each position's own word: [B, T, 1]. */
static wr own_words(wr logits, wr tgt) {
    wr_dim dims[] = {wr_dim_of(tgt, 0), wr_dim_of(tgt, 1), wr_n(1)};
    return wr_gather_log_softmax(logits, wr_reshape(tgt, 3, dims)).lp;
}

/* A second pass that is given words as in training. */
static void build_shown(const wr_measurer *m, const wr_nat_pairs *in, const wr_nat_encoding *e,
                        wr logits, wr out[OUTPUTS]) {
    const wr_nat_revealing *o = &m->t.revealing;
    wr_nat_given given;
    if (glances(m)) {
        wr_dim two[] = {wr_dim_of(in->tgt, 0), wr_dim_of(in->tgt, 1)};
        wr_nat_first_pass first = {.said = wr_argmax(logits),
                                   .lp = wr_reshape(own_words(logits, in->tgt), 2, two),
                                   .update = wr_input(in->tgt.g, WR_NAT_UPDATE, WR_I32, 0, NULL)};
        if (!wr_nat_glance_needs_lp(o)) first.lp = (wr){in->tgt.g, 0};
        given = wr_nat_glance(&m->n, o, &first, in->tgt, in->tgt_len);
    } else {
        given = wr_nat_mask_words(&m->n, o, in->tgt, in->tgt_len);
    }
    out[GIVEN] = given.tokens;
    out[COUNT] = given.count;
    wr second = wr_nat_decode(&m->n, e, given.tokens, in->tgt_len);
    out[SHOWN_LP] = own_words(wr_nat_logits(&m->n, second), in->tgt);
}

static int build_terms(const wr_measurer *m, wr_graph *g, wr out[OUTPUTS]) {
    const wr_nat *n = &m->n;
    wr_nat_pairs in = wr_nat_inputs(n, g);
    wr_nat_encoding e = wr_nat_encode(n, in.src, in.src_len);
    bool frames = n->frames > 0;
    wr len = frames ? wr_nat_frame_lengths(n, in.src_len) : in.tgt_len;
    wr_dim t = frames ? wr_nat_frame_dim(n, g, wr_dim_of(in.src, 1)) : wr_dim_of(in.tgt, 1);
    out[STATES] = wr_nat_decode(n, &e, wr_nat_canvas(n, len, t), len);
    wr logits = wr_nat_logits(n, out[STATES]), best;
    wr_objective_inputs compared = {.logits = logits,
                                    .ids = in.tgt,
                                    .position_len = len,
                                    .target_len = in.tgt_len,
                                    .weight = {g, 0},
                                    .update = {g, 0},
                                    .blank = wr_nat_blank(n)};
    wr_objective_losses l = wr_objective_losses_of(&m->t.objective, &compared);
    out[LP] = l.lp;
    out[TOP] = wr_top_k(logits, wr_n(1), &best);
    out[TOTAL] = wr_logsumexp(logits);
    out[LOSS] = l.loss;
    out[FEASIBLE] = l.feasible;
    if (row_of(m)->marginal) return SAID;
    out[SAID] = l.said;
    if (!wr_measurer_shows(m)) return GIVEN;
    build_shown(m, &in, &e, logits, out);
    return OUTPUTS;
}

static int build_lengths(const wr_measurer *m, wr_graph *g, wr *out) {
    const wr_nat *n = &m->n;
    wr_dim b = wr_sym(g, "B", 1, 1 << 20, 1), s = wr_sym(g, "S", 1, n->max_source, 1);
    wr_nat_encoding e = wr_nat_encode(n, wr_input(g, "src", WR_I32, WR_DIMS(b, s)),
                                      wr_input(g, "src_len", WR_I32, WR_DIMS(b)));
    out[0] = wr_nat_length_scores(n, &e);
    return 1;
}

/* What no position between the ends may say. */
static int banned_words(const wr_measurer *m, int ids[WR_NAT_BANNED + 2]) {
    int n = wr_nat_banned(&m->n, row_of(m)->extra, ids);
    if (m->n.framing == WR_RECIPE_FRAME_BOS_EOS) ids[n++] = WR_BOS_ID;
    if (m->n.framing != WR_RECIPE_FRAME_EOS) ids[n++] = WR_EOS_ID;
    return n;
}

/* Tokens that are given, and what the model says: states, the likeliest word of each position among
 * those that it may say, its logit, and the log-sum-exp. */
static int build_say(const wr_measurer *m, wr_graph *g, wr *out) {
    const wr_nat *n = &m->n;
    wr_dim b = wr_sym(g, "B", 1, 1 << 20, 1), s = wr_sym(g, "S", 1, n->max_source, 1);
    wr_dim t = wr_sym(g, "T", 1, n->max_positions, 1);
    int banned[WR_NAT_BANNED + 2], count = banned_words(m, banned);
    wr_nat_encoding e = wr_nat_encode(n, wr_input(g, "src", WR_I32, WR_DIMS(b, s)),
                                      wr_input(g, "src_len", WR_I32, WR_DIMS(b)));
    out[0] = wr_nat_decode(n, &e, wr_input(g, "tokens", WR_I32, WR_DIMS(b, t)),
                           wr_input(g, "len", WR_I32, WR_DIMS(b)));
    wr logits = wr_nat_logits_without(n, out[0], count, banned);
    out[2] = wr_top_k(logits, wr_n(1), &out[1]);
    out[3] = wr_logsumexp(logits);
    return 4;
}

static wr_status compile(wr_measurer *m, int which, wr_error *err) {
    static int (*const build[])(const wr_measurer *, wr_graph *, wr *) = {
        [WR__TERMS] = build_terms, [WR__LENGTHS] = build_lengths, [WR__SAY] = build_say};
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", sizeof(wr_node));
    wr out[OUTPUTS];
    int n = build[which](m, g, out);
    wr_status status = wr_program_new(g, n, out, wr_standard_passes(), &m->program[which], err);
    wr_graph_free(g);
    return status;
}

wr_status wr__measure_run(wr_measurer *m, int which, int n, const wr_feed *feeds, wr_error *err) {
    wr_status status = m->program[which] == NULL ? compile(m, which, err) : WR_OK;
    return status == WR_OK ? wr_session_run(m->session, m->program[which], n, feeds, err) : status;
}

/* ---- one sentence ---- */

/* A batch that was run, and where its numbers go. */
typedef struct pass {
    wr_measurer *m;
    const wr_measuring *o;
    const wr_sentence *tgt;
    const size_t *own_at; /* [n + 1] where own_lp and token_lp of a sentence begin */
    wr_measured *out;
    const wr_tensor *result[OUTPUTS];
    wr_nat_batch batch;
    /* of a sentence */
    double *lp, *logit, *token; /* [T] own words; the mask's logits; P_tok */
    double *work;               /* [2 T] */
    uint8_t *visible;           /* [T] */
    void *desk;
} pass;

static int32_t word_at(const wr_tensor *x, int64_t i) { return ((const int32_t *)x->data)[i]; }

static const float *state_at(const pass *p, int64_t row, int t) {
    int64_t T = p->result[STATES]->dim[1], d = p->result[STATES]->dim[2];
    return (const float *)p->result[STATES]->data + (row * T + t) * d;
}

/* -log P(T | Z, X), Z told nothing: what the alignment has each position say. */
static double aligned_cost(const pass *p, int64_t row, int len) {
    const wr_tensor *lp = p->result[LP], *said = p->result[SAID];
    int64_t T = lp->dim[1], C = lp->dim[2];
    double sum = 0;
    for (int t = 0; t < len; t++) {
        int32_t k = word_at(said, row * T + t);
        sum -= wr_real_value(lp, (row * T + t) * C + (k < 0 ? C - 1 : k));
    }
    return sum;
}

/* Append what the positions are to say, framing and silence left out. */
static wr_status add_proxy(const pass *p, int64_t row, int len, wr_measured *r, wr_error *err) {
    wr_ids *ids = p->o->proxies;
    const int32_t *tgt = p->batch.tgt + row * p->batch.T;
    int64_t T = p->result[LP]->dim[1];
    if (ids == NULL) return WR_OK;
    r->proxy = ids->n;
    int count = wr_measurer_sums(p->m) ? p->batch.tgt_len[row] : len;
    for (int t = 0; t < count; t++) {
        int32_t k = wr_measurer_sums(p->m) ? t : word_at(p->result[SAID], row * T + t);
        if (k < 0 || tgt[k] == WR_BOS_ID || tgt[k] == WR_EOS_ID) continue;
        if (!wr_grow(&ids->id, &ids->cap, ids->n + 1, sizeof *ids->id))
            return wr_fail_memory(err, "targets", ids->n * sizeof *ids->id);
        ids->id[ids->n++] = tgt[k];
    }
    r->words = ids->n - r->proxy;
    return WR_OK;
}

/* Keep the states of the positions that could be masked. */
static wr_status add_states(const pass *p, int64_t row, int first, int words, wr_error *err) {
    wr_mask_pool *pool = p->o->pool;
    size_t d = wr_measurer_width(p->m);
    for (int t = first; pool != NULL && t < first + words && pool->n < pool->most; t++) {
        if (!wr_grow(&pool->h, &pool->h_cap, (pool->n + 1) * d, sizeof *pool->h) ||
            !wr_grow(&pool->masked, &pool->masked_cap, pool->n + 1, 1))
            return wr_fail_memory(err, "decoder states", (pool->n + 1) * d * sizeof *pool->h);
        memcpy(pool->h + pool->n * d, state_at(p, row, t), d * sizeof *pool->h);
        pool->masked[pool->n++] = p->visible[t] == 0;
    }
    return WR_OK;
}

/* L_NAT and L_input where words are shown. */
static wr_status measure_shown(const pass *p, int64_t row, int len, wr_measured *r, wr_error *err) {
    const wr_measurer *m = p->m;
    int64_t at = row * p->batch.T;
    int first, words = wr__measure_inner(&m->n, len, &first);
    r->nat = 0;
    for (int t = 0; t < len; t++) {
        p->visible[t] = word_at(p->result[GIVEN], at + t) != wr_nat_mask(&m->n);
        if (p->visible[t] == 0) r->nat -= wr_real_value(p->result[SHOWN_LP], at + t);
    }
    if (p->o->head != NULL && words > 0) {
        for (int t = first; t < first + words; t++)
            p->logit[t] = wr_mask_logit(p->o->head, state_at(p, row, t), wr_measurer_width(m));
        int given = (int)(wr_real_value(p->result[COUNT], row) + 0.5);
        r->input =
            wr_mple_input(p->logit + first, p->token + first, p->visible + first, (size_t)words) +
            wr__measure_log_q(m, len, given, p->visible, p->lp, p->work);
    }
    return add_states(p, row, first, words, err);
}

static void read_own(const pass *p, int64_t row, int len, size_t sentence, wr_measured *r) {
    const wr_tensor *lp = p->result[LP];
    int64_t T = lp->dim[1], C = lp->dim[2];
    size_t at = p->own_at[sentence];
    r->own = 0;
    for (int t = 0; t < len; t++) {
        p->lp[t] = wr_real_value(lp, (row * T + t) * C + t);
        p->token[t] = p->o->token_lp == NULL ? p->lp[t] : p->o->token_lp[at + (size_t)t];
        if (p->o->own_lp != NULL) p->o->own_lp[at + (size_t)t] = p->lp[t];
        r->own -= p->lp[t];
    }
}

static wr_status measure_sentence(const pass *p, int64_t row, size_t sentence, wr_error *err) {
    const wr_nat *n = &p->m->n;
    int64_t T = p->result[LP]->dim[1];
    wr_measured *r = &p->out[sentence];
    int len = n->frames > 0 ? n->frames * p->batch.src_len[row] : p->batch.tgt_len[row];
    if (wr_real_value(p->result[FEASIBLE], row) == 0) return WR_OK;
    *r = (wr_measured){.feasible = true, .positions = len};
    for (int t = 0; t < len; t++)
        r->sure += wr_real_value(p->result[TOP], row * T + t) -
                   wr_real_value(p->result[TOTAL], row * T + t);
    wr_status status = WR_OK;
    if (wr_measurer_sums(p->m)) {
        r->own = r->nat = wr_real_value(p->result[LOSS], row);
        r->positions = p->batch.tgt_len[row];
        r->sure *= (double)r->positions / len;
    } else {
        read_own(p, row, len, sentence, r);
        r->nat = aligned_cost(p, row, len);
        if (wr_measurer_shows(p->m)) status = measure_shown(p, row, len, r, err);
    }
    if (status == WR_OK && !isfinite(r->nat + r->own + r->input))
        status = wr_fail(err, WR_ERR_INPUT,
                         "sentence %zu: the model's loss is not finite; its parameters hold "
                         "infinite or undefined numbers",
                         sentence + 1);
    return status == WR_OK ? add_proxy(p, row, len, r, err) : status;
}

/* ---- batches ---- */

size_t wr__measure_batch(const wr_sentence *src, const wr_sentence *tgt, const size_t *order,
                         size_t first, size_t n, size_t max_tokens) {
    size_t count = 0, longest = 1;
    while (first + count < n) {
        size_t i = order[first + count];
        size_t a = src[i].n + 1, b = tgt == NULL ? 0 : tgt[i].n + 2, now = a > b ? a : b;
        if (now < longest) now = longest;
        if (count > 0 && now * (count + 1) > max_tokens) break;
        longest = now;
        count++;
    }
    return count;
}

static wr_status run_batch(pass *p, const wr_sentence *src, const size_t *order, size_t count,
                           wr_batch *b, wr_error *err) {
    wr_sentence *pick = malloc(2 * count * sizeof *pick);
    if (pick == NULL) return wr_fail_memory(err, "a batch", 2 * count * sizeof *pick);
    for (size_t i = 0; i < count; i++) {
        pick[i] = src[order[i]];
        pick[count + i] = p->tgt[order[i]];
    }
    wr_feed feeds[WR_NAT_FEEDS + 1];
    wr_status status = wr_batch_make(pick, pick + count, count, WR__MEASURE_MULTIPLE, b, err);
    if (status == WR_OK)
        status = wr_nat_batch_of(b, p->m->n.framing, WR__MEASURE_MULTIPLE, &p->batch, err);
    free(pick);
    if (status != WR_OK) return status;
    int n = wr_nat_feeds(&p->batch, feeds);
    if (wr_measurer_shows(p->m) && glances(p->m))
        feeds[n++] = (wr_feed){.name = WR_NAT_UPDATE, .data = &p->m->update};
    status = wr__measure_run(p->m, WR__TERMS, n, feeds, err);
    int outputs = wr_measurer_sums(p->m) ? SAID : wr_measurer_shows(p->m) ? OUTPUTS : GIVEN;
    for (int k = 0; k < outputs && status == WR_OK; k++)
        p->result[k] = wr_session_output(p->m->session, k);
    for (size_t i = 0; i < count && status == WR_OK; i++)
        status = measure_sentence(p, (int64_t)i, order[i], err);
    return status;
}

static int rounded(int length) {
    return (length + WR__MEASURE_MULTIPLE - 1) / WR__MEASURE_MULTIPLE * WR__MEASURE_MULTIPLE;
}

/* Those that the model can read, padding included, at the front of `order`. */
static size_t readable(const wr_measurer *m, const wr_sentence *src, const wr_sentence *tgt,
                       size_t n, size_t *order) {
    const wr_nat *x = &m->n;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        size_t k = order[i];
        int words = (int)tgt[k].n, from = rounded((int)src[k].n + 1);
        int to = rounded(wr_nat_framed_len(x->framing, words));
        if (words > 0 && from <= x->max_source && to <= x->max_target) order[kept++] = k;
    }
    return kept;
}

static wr_status run_all(pass *p, const wr_sentence *src, size_t *order, size_t n, wr_error *err) {
    size_t budget = p->o->max_tokens == 0 ? WR__MEASURE_TOKENS : p->o->max_tokens;
    wr_batch b = {0};
    wr_status status = WR_OK;
    for (size_t first = 0, count; first < n && status == WR_OK; first += count) {
        count = wr__measure_batch(src, p->tgt, order, first, n, budget);
        wr_session_set_step(p->m->session, first);
        status = run_batch(p, src, order + first, count, &b, err);
        if (status == WR_OK && p->o->progress != NULL)
            p->o->progress(p->o->context, first + count, n);
        if (p->o->pool != NULL && p->o->pool->n >= p->o->pool->most) break;
    }
    wr_batch_free(&b);
    return status;
}

static wr_status open_desk(pass *p, wr_error *err) {
    size_t t = (size_t)p->m->n.max_target + (size_t)p->m->n.max_positions + 1;
    p->desk = malloc(t * (5 * sizeof(double) + 1));
    if (p->desk == NULL) return wr_fail_memory(err, "a sentence", t * 41);
    p->lp = p->desk;
    p->logit = p->lp + t;
    p->token = p->logit + t;
    p->work = p->token + t;
    p->visible = (uint8_t *)(p->work + 2 * t);
    return WR_OK;
}

wr_status wr_measurer_run(wr_measurer *m, const wr_sentence *src, const wr_sentence *tgt, size_t n,
                          const wr_measuring *o, wr_measured *out, wr_error *err) {
    pass p = {.m = m, .o = o, .tgt = tgt, .out = out};
    size_t *own_at = malloc((n + 1) * sizeof *own_at);
    size_t *order = wr__order_by_length(src, tgt, n);
    wr_status status = own_at == NULL || order == NULL ? wr_fail_memory(err, "sentences", n * 16)
                                                       : open_desk(&p, err);
    for (size_t i = 0, at = 0; i <= n && status == WR_OK; i++) {
        own_at[i] = at;
        if (i == n) break;
        at += (size_t)wr_measurer_positions(m, tgt[i].n);
        out[i] = (wr_measured){0};
    }
    p.own_at = own_at;
    if (status == WR_OK) status = run_all(&p, src, order, readable(m, src, tgt, n, order), err);
    wr_nat_batch_free(&p.batch);
    free(p.desk);
    free(order);
    free(own_at);
    return status;
}
