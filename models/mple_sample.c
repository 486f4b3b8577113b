/* mple_sample.c: decoding with sampled inputs; see mple_measure.h. */
#include "graph/random.h"
#include "models/mple_measure_internal.h"
#include "models/sentence_order.h"
#include "models/transformer_decoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What WR__SAY gives. */
enum { STATES, WORD, VALUE, TOTAL, SAID_OUTPUTS };

/* A batch of sources with the inputs and outputs of their positions [B, T]. */
typedef struct sampling {
    wr_measurer *m, *tokens;
    const double *head;
    uint64_t seed;
    wr_batch b;
    int32_t T;
    int32_t *len;   /* [B] */
    int32_t *input; /* [B, T] tokens */
    int32_t *word;  /* [B, T] what is said */
    double *logp;   /* [B, T] of it */
    double *sure;   /* [B] sums */
    void *memory;
    size_t cap;
} sampling;

/* ---- lengths ---- */

static wr_status find_lengths(sampling *s, wr_error *err) {
    const wr_nat *n = &s->m->n;
    const wr_feed feeds[] = {{.name = "src", .data = s->b.src, .rank = 2, .dim = {s->b.B, s->b.S}},
                             {.name = "src_len", .data = s->b.src_len, .rank = 1, .dim = {s->b.B}}};
    int classes = wr_nat_length_classes(n), least = wr_nat_frame_tokens(n) + 1, best;
    double *score = malloc((size_t)classes * sizeof *score);
    if (score == NULL) return wr_fail_memory(err, "lengths", (size_t)classes * sizeof *score);
    wr_status status = wr__measure_run(s->m, WR__LENGTHS, 2, feeds, err);
    for (int32_t i = 0; i < s->b.B && status == WR_OK; i++) {
        const wr_tensor *all = wr_session_output(s->m->session, 0);
        for (int k = 0; k < classes; k++)
            score[k] = wr_real_value(all, (int64_t)i * classes + k);
        if (wr_nat_best_lengths(n, s->b.src_len[i], score, 1, &best, NULL) < 1) best = least;
        s->len[i] = best < least ? least : best > n->max_target ? n->max_target : best;
    }
    free(score);
    return status;
}

static wr_status make_room(sampling *s, wr_error *err) {
    int32_t most = 1;
    for (int32_t i = 0; i < s->b.B; i++)
        most = s->len[i] > most ? s->len[i] : most;
    s->T = (most + WR__MEASURE_MULTIPLE - 1) / WR__MEASURE_MULTIPLE * WR__MEASURE_MULTIPLE;
    if (s->T > s->m->n.max_positions) s->T = s->m->n.max_positions;
    size_t cells = (size_t)s->b.B * (size_t)s->T;
    size_t bytes = cells * (sizeof(double) + 2 * sizeof(int32_t)) + (size_t)s->b.B * sizeof(double);
    if (!wr_grow(&s->memory, &s->cap, bytes, 1)) return wr_fail_memory(err, "positions", bytes);
    s->logp = s->memory;
    s->sure = s->logp + cells;
    s->input = (int32_t *)(s->sure + s->b.B);
    s->word = s->input + cells;
    memset(s->sure, 0, (size_t)s->b.B * sizeof *s->sure);
    return WR_OK;
}

/* ---- passes ---- */

static wr_status say(sampling *s, wr_measurer *m, wr_error *err) {
    const wr_feed feeds[] = {{.name = "src", .data = s->b.src, .rank = 2, .dim = {s->b.B, s->b.S}},
                             {.name = "src_len", .data = s->b.src_len, .rank = 1, .dim = {s->b.B}},
                             {.name = "tokens", .data = s->input, .rank = 2, .dim = {s->b.B, s->T}},
                             {.name = "len", .data = s->len, .rank = 1, .dim = {s->b.B}}};
    return wr__measure_run(m, WR__SAY, 4, feeds, err);
}

static void read_words(sampling *s, const wr_measurer *m) {
    const wr_tensor *word = wr_session_output(m->session, WORD);
    const wr_tensor *value = wr_session_output(m->session, VALUE);
    const wr_tensor *total = wr_session_output(m->session, TOTAL);
    for (int64_t i = 0; i < (int64_t)s->b.B * s->T; i++) {
        s->word[i] = ((const int32_t *)word->data)[i];
        s->logp[i] = wr_real_value(value, i) - wr_real_value(total, i);
    }
}

static double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }

/* Mask bits of one sentence: what is not masked is given the word that s->word has there. */
static void sample_sentence(sampling *s, int32_t i, const wr_tensor *states, uint64_t number) {
    const wr_nat *n = &s->m->n;
    int first, words = wr__measure_inner(n, s->len[i], &first);
    int64_t at = (int64_t)i * s->T, d = states->dim[2];
    wr_random r = wr_random_stream(s->seed, number, 0);
    for (int t = first; t < first + words; t++) {
        uint32_t bits[4];
        const float *h = (const float *)states->data + (at + t) * d;
        double logit = wr_mask_logit(s->head, h, (size_t)d);
        wr_random_bits(&r, (uint64_t)t, bits);
        bool masked = (double)wr_random_unit(bits[0]) < 1 / (1 + exp(-logit));
        s->sure[i] -= softplus(masked ? -logit : logit);
        if (masked) continue;
        s->input[at + t] = s->word[at + t];
        s->sure[i] += s->logp[at + t];
    }
}

/* Nothing given, then the sampled words. */
static wr_status sample_batch(sampling *s, const size_t *order, wr_error *err) {
    const wr_nat *n = &s->m->n;
    for (int32_t i = 0; i < s->b.B; i++)
        wr_nat_canvas_fill(n, s->len[i], s->T, s->input + (size_t)i * (size_t)s->T);
    wr_measurer *tokens = s->tokens == NULL ? s->m : s->tokens;
    wr_status status = say(s, tokens, err);
    if (status == WR_OK) read_words(s, tokens);
    if (status == WR_OK && s->tokens != NULL) status = say(s, s->m, err);
    if (status != WR_OK) return status;
    const wr_tensor *states = wr_session_output(s->m->session, STATES);
    for (int32_t i = 0; i < s->b.B; i++)
        sample_sentence(s, i, states, order[i]);
    status = say(s, s->m, err);
    if (status == WR_OK) read_words(s, s->m);
    return status;
}

/* ---- results ---- */

/* The words of sentence i of the batch, given ones as they were given; up to its end. */
static wr_status keep_words(sampling *s, int32_t i, wr_ids *out, double *sure, wr_error *err) {
    const wr_nat *n = &s->m->n;
    int first, words = wr__measure_inner(n, s->len[i], &first);
    int64_t at = (int64_t)i * s->T;
    bool ended = false;
    for (int t = first; t < first + words; t++) {
        bool given = s->input[at + t] != wr_nat_mask(n);
        int32_t id = given ? s->input[at + t] : s->word[at + t];
        if (!given) s->sure[i] += s->logp[at + t];
        ended = ended || id == WR_EOS_ID;
        if (ended || id >= n->tgt_vocab) continue;
        if (!wr_grow(&out->id, &out->cap, out->n + 1, sizeof *out->id))
            return wr_fail_memory(err, "words", out->n * sizeof *out->id);
        out->id[out->n++] = id;
    }
    *sure = s->sure[i] / (words > 0 ? words : 1);
    return WR_OK;
}

/* Translations in the order of the batches; where sentence k begins in the pool is at[k], how many
 * words it has count[k]. */
static wr_status sample_all(sampling *s, const wr_sentence *src, size_t n, const size_t *order,
                            wr_ids *pool, size_t *at, size_t *count, double *sure, wr_error *err) {
    wr_status status = WR_OK;
    int whole = s->m->n.max_source / WR__MEASURE_MULTIPLE * WR__MEASURE_MULTIPLE;
    size_t most = whole > 1 ? (size_t)whole - 1 : 1;
    for (size_t first = 0, many; first < n && status == WR_OK; first += many) {
        many = wr__measure_batch(src, NULL, order, first, n, WR__MEASURE_TOKENS);
        wr_sentence *pick = malloc(many * sizeof *pick);
        int32_t *len = malloc(many * sizeof *len);
        if (pick == NULL || len == NULL)
            status = wr_fail_memory(err, "a batch", many * sizeof *pick);
        for (size_t i = 0; i < many && status == WR_OK; i++) {
            pick[i] = src[order[first + i]];
            if (pick[i].n > most) pick[i].n = most; /* a source that is too long is cut */
        }
        s->len = len;
        if (status == WR_OK)
            status = wr_batch_make(pick, NULL, many, WR__MEASURE_MULTIPLE, &s->b, err);
        if (status == WR_OK) status = find_lengths(s, err);
        if (status == WR_OK) status = make_room(s, err);
        if (status == WR_OK) status = sample_batch(s, order + first, err);
        for (size_t i = 0; i < many && status == WR_OK; i++) {
            size_t k = order[first + i];
            at[k] = pool->n;
            status = keep_words(s, (int32_t)i, pool, &sure[k], err);
            count[k] = pool->n - at[k];
        }
        free(pick);
        free(len);
    }
    return status;
}

/* The pool in the order of the sentences. */
static wr_status put_in_order(const wr_ids *pool, const size_t *from, const size_t *count, size_t n,
                              wr_ids *out, size_t *at, wr_error *err) {
    if (!wr_grow(&out->id, &out->cap, out->n + pool->n + 1, sizeof *out->id))
        return wr_fail_memory(err, "words", pool->n * sizeof *out->id);
    for (size_t i = 0; i < n; i++) {
        at[i] = out->n;
        for (size_t k = 0; pool->id != NULL && k < count[i]; k++)
            out->id[out->n++] = pool->id[from[i] + k];
    }
    at[n] = out->n;
    return WR_OK;
}

wr_status wr_measurer_sample(wr_measurer *m, wr_measurer *tokens, const double *head,
                             const wr_sentence *src, size_t n, uint64_t seed, wr_ids *out,
                             size_t *at, double *sure, wr_error *err) {
    if (m->n.frames > 0)
        return wr_fail(err, WR_ERR_INPUT,
                       "inputs are sampled for models that predict a length; this one has %d "
                       "positions for each source token",
                       m->n.frames);
    sampling s = {.m = m, .tokens = tokens == m ? NULL : tokens, .head = head, .seed = seed};
    wr_ids pool = {0};
    size_t *order = wr__order_by_length(src, NULL, n);
    size_t *from = malloc((2 * n + 1) * sizeof *from);
    double *each = malloc((n + 1) * sizeof *each);
    wr_status status = WR_OK;
    if (order == NULL || from == NULL || each == NULL)
        status = wr_fail_memory(err, "sentences", n * sizeof *from);
    if (status == WR_OK) status = sample_all(&s, src, n, order, &pool, from, from + n, each, err);
    if (status == WR_OK) status = put_in_order(&pool, from, from + n, n, out, at, err);
    for (size_t i = 0; i < n && status == WR_OK && sure != NULL; i++)
        sure[i] = each[i];
    wr_batch_free(&s.b);
    wr_ids_free(&pool);
    free(s.memory);
    free(order);
    free(from);
    free(each);
    return status;
}
