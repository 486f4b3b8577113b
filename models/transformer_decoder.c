/* transformer_decoder.c: programs, caches and feeds of decoding; see transformer_decoder.h. */
#include "models/transformer_decoder.h"

#include "models/sentence_order.h"
#include "ops/fuse.h"
#include "ops/slice.h"
#include "ops/softmax.h"
#include "ops/sort.h"

#include <stdlib.h>
#include <string.h>

/* Lengths of caches are rounded up to a multiple, and so are those of batches to be scored: few
 * distinct sizes mean few programs and plans. */
enum { CACHE_MULTIPLE = 16, SCORE_MULTIPLE = 8, SCORE_TOKENS = 2048 };
/* Tokens of a pass over several positions: up to so many are not padded; then to a multiple of a
 * few, and many to a multiple of more. */
enum { TOKENS_EXACT = 8, TOKENS_FEW = 64, FEW_MULTIPLE = 4, MANY_MULTIPLE = 16 };

struct wr_decoder {
    wr_transformer t;
    wr_session *session;
    wr_decoder_size size;                      /* of the programs */
    wr_program *begin, *step, *verify, *score; /* verify: NULL until it is needed */
    int32_t *number;                           /* [size.rows] 0, 1, 2, .. */
    int32_t *length;                           /* [size.rows] positions in the cache */
    int32_t *index;                            /* what verifying feeds */
    size_t index_cap;
};

wr_status wr_decoder_new(const wr_transformer *t, wr_session *session, wr_decoder **out,
                         wr_error *err) {
    *out = NULL;
    wr_decoder *d = calloc(1, sizeof *d);
    if (d == NULL) return wr_fail_memory(err, "a decoder", sizeof *d);
    d->t = *t;
    d->t.training = false;
    d->session = session;
    *out = d;
    return WR_OK;
}

static void drop_program(wr_decoder *d, wr_program **p) {
    if (*p == NULL) return;
    wr_session_forget(d->session, *p);
    wr_program_free(*p);
    *p = NULL;
}

static void drop_steps(wr_decoder *d) {
    drop_program(d, &d->begin);
    drop_program(d, &d->step);
    drop_program(d, &d->verify);
    free(d->number);
    free(d->length);
    d->number = d->length = NULL;
    d->size = (wr_decoder_size){0};
}

void wr_decoder_free(wr_decoder *d) {
    if (d == NULL) return;
    drop_steps(d);
    drop_program(d, &d->score);
    free(d->index);
    free(d);
}

const wr_transformer *wr_decoder_model(const wr_decoder *d) { return &d->t; }
wr_session *wr_decoder_session(const wr_decoder *d) { return d->session; }

size_t wr_decoder_position_bytes(const wr_decoder *d) {
    return 2 * (size_t)d->t.m.decoder_layers * (size_t)d->t.m.dim * wr_dtype_bytes(d->t.dtype);
}

/* ---- programs ---- */

static wr_transformer_cache cache_of(const wr_decoder_size *size) {
    return (wr_transformer_cache){size->rows, size->src_len, size->tgt_len};
}

static wr_status compile_begin(wr_decoder *d, const wr_decoder_size *size, wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", 0);
    wr_transformer_cache c = cache_of(size);
    wr memory = wr_transformer_begin(&d->t, &c, g);
    wr_status status = wr_program_new(g, 1, &memory, wr_standard_passes(), &d->begin, err);
    wr_graph_free(g);
    return status;
}

/* What wr_decoder_next tells of logits [.., V]. */
static wr_status compile_next(wr logits, int best, wr_program **program, wr_error *err) {
    wr id, value = wr_top_k(logits, wr_n(best), &id);
    wr out[] = {value, id, wr_logsumexp(logits), wr_slice(logits, 1, WR_EOS_ID, WR_EOS_ID + 1)};
    return wr_program_new(logits.g, 4, out, wr_standard_passes(), program, err);
}

static wr_status compile_step(wr_decoder *d, const wr_decoder_size *size, wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", 0);
    wr_transformer_cache c = cache_of(size);
    wr_status status = compile_next(wr_transformer_step(&d->t, &c, g), size->best, &d->step, err);
    wr_graph_free(g);
    return status;
}

static wr_status compile_verify(wr_decoder *d, wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", 0);
    wr_transformer_cache c = cache_of(&d->size);
    wr_status status =
        compile_next(wr_transformer_verify(&d->t, &c, g), d->size.best, &d->verify, err);
    wr_graph_free(g);
    return status;
}

static wr_status compile_score(wr_decoder *d, wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", 0);
    wr_transformer_batch b = wr_transformer_inputs(g, d->t.m.max_len);
    wr nll = wr_transformer_loss_of(&d->t, &b, 0).token_nll;
    wr_status status = wr_program_new(g, 1, &nll, wr_standard_passes(), &d->score, err);
    wr_graph_free(g);
    return status;
}

wr_status wr_decoder_program(wr_decoder *d, wr_program **program, wr_error *err) {
    wr_status status = d->score == NULL ? compile_score(d, err) : WR_OK;
    *program = d->score;
    return status;
}

/* ---- capacity ---- */

/* 1, 2, 3, 4, 6, 8, 12, 16, ..: few sizes, none more than half too large. */
static int round_rows(int n) {
    int size = 1;
    while (size < n)
        size = (size & (size - 1)) == 0 && size > 1 ? size / 2 * 3 : size == 1 ? 2 : size / 3 * 4;
    return size;
}

static int round_length(int n, int max_len) {
    int size = (n + CACHE_MULTIPLE - 1) / CACHE_MULTIPLE * CACHE_MULTIPLE;
    return size < max_len ? size : max_len;
}

static wr_decoder_size round_size(const wr_decoder *d, const wr_decoder_size *need) {
    return (wr_decoder_size){.rows = round_rows(need->rows),
                             .src_len = round_length(need->src_len, d->t.m.max_len),
                             .tgt_len = round_length(need->tgt_len, d->t.m.max_len),
                             .best = need->best};
}

static int larger(int a, int b) { return a > b ? a : b; }
static double cells(const wr_decoder_size *s) {
    return (double)s->rows * ((double)s->src_len + (double)s->tgt_len);
}

/* What was needed before counts too, unless the caches would be more than twice what they must. */
static wr_decoder_size grown_size(const wr_decoder *d, const wr_decoder_size *need) {
    wr_decoder_size now = round_size(d, need);
    wr_decoder_size both = {.rows = larger(now.rows, d->size.rows),
                            .src_len = larger(now.src_len, d->size.src_len),
                            .tgt_len = larger(now.tgt_len, d->size.tgt_len),
                            .best = now.best};
    return cells(&both) <= 2 * cells(&now) ? both : now;
}

static wr_status check_size(const wr_decoder *d, const wr_decoder_size *need, wr_error *err) {
    int max_len = d->t.m.max_len;
    if (need->src_len > max_len || need->tgt_len > max_len)
        return wr_fail(err, WR_ERR_INPUT,
                       "a source of %d and an output of %d tokens are asked for, but model.max_len "
                       "is %d",
                       need->src_len, need->tgt_len, max_len);
    if (need->rows < 1 || need->src_len < 1 || need->tgt_len < 1 || need->best < 1 ||
        need->best > d->t.tgt_vocab)
        return wr_fail(err, WR_ERR_INPUT,
                       "decoding needs at least one row and one position, and 1 to %d candidates, "
                       "but got %d candidates",
                       d->t.tgt_vocab, need->best);
    return WR_OK;
}

static bool fits(const wr_decoder *d, const wr_decoder_size *need) {
    return d->step != NULL && need->rows <= d->size.rows && need->src_len <= d->size.src_len &&
           need->tgt_len <= d->size.tgt_len && need->best == d->size.best;
}

static wr_status reserve(wr_decoder *d, const wr_decoder_size *need, wr_error *err) {
    wr_status status = check_size(d, need, err);
    if (status != WR_OK || fits(d, need)) return status;
    wr_decoder_size size = grown_size(d, need);
    drop_steps(d);
    size_t rows = (size_t)size.rows;
    d->number = malloc(sizeof *d->number * rows);
    d->length = malloc(sizeof *d->length * rows);
    if (d->number == NULL || d->length == NULL)
        status = wr_fail_memory(err, "decoding", sizeof *d->number * rows);
    for (size_t i = 0; status == WR_OK && i < rows; i++)
        d->number[i] = (int32_t)i;
    if (status == WR_OK) status = compile_begin(d, &size, err);
    if (status == WR_OK) status = compile_step(d, &size, err);
    if (status == WR_OK)
        d->size = size;
    else
        drop_steps(d);
    return status;
}

/* ---- running ---- */

static wr_feed feed_rows(const char *name, const int32_t *data, int64_t n) {
    return (wr_feed){.name = name, .data = data, .rank = 1, .dim = {n}};
}

static wr_feed feed_matrix(const char *name, const int32_t *data, int64_t n, int64_t m) {
    return (wr_feed){.name = name, .data = data, .rank = 2, .dim = {n, m}};
}

wr_status wr_decoder_begin(wr_decoder *d, const wr_decoder_size *need, const wr_batch *b,
                           wr_error *err) {
    wr_decoder_size all = *need;
    all.rows = larger(all.rows, b->B);
    all.src_len = larger(all.src_len, b->S);
    wr_status status = reserve(d, &all, err);
    if (status != WR_OK) return status;
    wr_feed feeds[] = {feed_matrix("src", b->src, b->B, b->S),
                       feed_rows("src_len", b->src_len, b->B), feed_rows("rows", d->number, b->B)};
    return wr_session_run(d->session, d->begin, 3, feeds, err);
}

static void read_next(const wr_decoder *d, wr_decoder_next *next) {
    *next = (wr_decoder_next){.value = wr_session_output(d->session, 0),
                              .id = wr_session_output(d->session, 1),
                              .total = wr_session_output(d->session, 2),
                              .end = wr_session_output(d->session, 3)};
}

wr_status wr_decoder_step(wr_decoder *d, const wr_decoder_feed *f, wr_decoder_next *next,
                          wr_error *err) {
    if (d->step == NULL || f->n > d->size.rows || f->position >= d->size.tgt_len)
        return wr_fail(err, WR_ERR_LIBRARY,
                       "a step with %d hypotheses at position %d, but decoding was begun for %d "
                       "hypotheses and %d positions",
                       f->n, f->position, d->size.rows, d->size.tgt_len);
    int32_t position = f->position;
    for (int i = 0; i < f->n; i++)
        d->length[i] = position + 1;
    wr_feed feeds[] = {
        feed_matrix("token", f->token, f->n, 1), feed_rows("position", &position, 1),
        feed_rows("rows", f->row, f->n),         feed_rows("src_rows", f->src_row, f->n),
        feed_rows("src_len", f->src_len, f->n),  feed_rows("self_len", d->length, f->n)};
    wr_status status = wr_session_run(d->session, d->step, 6, feeds, err);
    if (status == WR_OK) read_next(d, next);
    return status;
}

/* ---- several positions at once ---- */

/* Sizes of a pass, and what it feeds besides what the caller gives. */
typedef struct verifying {
    int32_t T, tokens, M;              /* M: tokens, padded */
    int32_t *cached, *fresh;           /* [n, T] */
    int32_t *place, *position, *token; /* [M] */
} verifying;

static wr_status check_tokens(const wr_decoder *d, const wr_decoder_tokens *f, verifying *v,
                              wr_error *err) {
    bool fits = d->step != NULL && f->n >= 1 && f->n <= d->size.rows;
    for (int i = 0; fits && i < f->n; i++) {
        fits = f->past[i] >= 0 && f->count[i] >= 1 && f->row[i] >= 0 && f->row[i] < d->size.rows &&
               f->past[i] + f->count[i] <= d->size.tgt_len;
        v->T = larger(v->T, f->past[i] + f->count[i]);
        v->tokens += f->count[i];
    }
    if (fits) return WR_OK;
    return wr_fail(err, WR_ERR_LIBRARY,
                   "a pass of %d hypotheses with up to %d positions, but decoding was begun for %d "
                   "hypotheses and %d positions",
                   f->n, v->T, d->size.rows, d->size.tgt_len);
}

/* Few sizes: plans are kept by size. Padding repeats the first token. */
static void round_pass(const wr_decoder *d, verifying *v) {
    int32_t multiple = v->tokens <= TOKENS_EXACT ? 1
                       : v->tokens <= TOKENS_FEW ? FEW_MULTIPLE
                                                 : MANY_MULTIPLE;
    v->M = (v->tokens + multiple - 1) / multiple * multiple;
    int32_t T = (v->T + SCORE_MULTIPLE - 1) / SCORE_MULTIPLE * SCORE_MULTIPLE;
    v->T = T < d->size.tgt_len ? T : d->size.tgt_len;
}

static wr_status reserve_pass(wr_decoder *d, const wr_decoder_tokens *f, verifying *v,
                              wr_error *err) {
    size_t cells = (size_t)f->n * (size_t)v->T, all = 2 * cells + 3 * (size_t)v->M;
    if (!wr_grow(&d->index, &d->index_cap, all, sizeof *d->index))
        return wr_fail_memory(err, "verifying", all * sizeof *d->index);
    memset(d->index, 0, all * sizeof *d->index);
    v->cached = d->index;
    v->fresh = v->cached + cells;
    v->place = v->fresh + cells;
    v->position = v->place + v->M;
    v->token = v->position + v->M;
    return d->verify == NULL ? compile_verify(d, err) : WR_OK;
}

static void fill_pass(wr_decoder *d, const wr_decoder_tokens *f, verifying *v) {
    int32_t m = 0;
    for (int32_t i = 0; i < f->n; i++) {
        d->length[i] = f->past[i] + f->count[i];
        for (int32_t p = 0; p < f->past[i]; p++)
            v->cached[i * v->T + p] = f->row[i] * d->size.tgt_len + p;
        for (int32_t p = f->past[i]; p < d->length[i]; p++, m++) {
            v->fresh[i * v->T + p] = m;
            v->place[m] = i * v->T + p;
            v->position[m] = p;
            v->token[m] = f->token[m];
        }
    }
    for (; m < v->M; m++) {
        v->place[m] = v->place[0];
        v->position[m] = v->position[0];
        v->token[m] = v->token[0];
    }
}

wr_status wr_decoder_verify(wr_decoder *d, const wr_decoder_tokens *f, wr_decoder_next *next,
                            wr_error *err) {
    verifying v = {0};
    wr_status status = check_tokens(d, f, &v, err);
    if (status != WR_OK) return status;
    round_pass(d, &v);
    status = reserve_pass(d, f, &v, err);
    if (status != WR_OK) return status;
    fill_pass(d, f, &v);
    int64_t n = f->n;
    wr_feed feeds[] = {
        feed_rows("token", v.token, v.M),      feed_rows("position", v.position, v.M),
        feed_rows("place", v.place, v.M),      feed_matrix("cached", v.cached, n, v.T),
        feed_matrix("fresh", v.fresh, n, v.T), feed_rows("past", f->past, n),
        feed_rows("self_len", d->length, n),   feed_rows("rows", d->number, n),
        feed_rows("src_rows", f->src_row, n),  feed_rows("src_len", f->src_len, n)};
    status = wr_session_run(d->session, d->verify, 10, feeds, err);
    if (status == WR_OK) read_next(d, next);
    return status;
}

/* ---- forced scoring ---- */

typedef struct scoring {
    wr_decoder *d;
    const wr_sentence *src, *tgt;
    const size_t *order;
    wr_sentence *pick; /* [2, n] the sentences of a batch: sources, then targets */
    wr_batch batch;
    double *nll;
} scoring;

static wr_status check_lengths(const wr_decoder *d, const wr_sentence *src, const wr_sentence *tgt,
                               size_t n, wr_error *err) {
    size_t most = (size_t)d->t.m.max_len - 1;
    for (size_t i = 0; i < n; i++) {
        size_t longest = src[i].n > tgt[i].n ? src[i].n : tgt[i].n;
        if (longest > most)
            return wr_fail(err, WR_ERR_INPUT,
                           "sentence %zu: %zu source and %zu target tokens, but model.max_len = %d "
                           "leaves room for %zu and the end",
                           i + 1, src[i].n, tgt[i].n, d->t.m.max_len, most);
    }
    return WR_OK;
}

static size_t padded_length(const wr_decoder *d, size_t n) {
    size_t padded = (n + SCORE_MULTIPLE) / SCORE_MULTIPLE * SCORE_MULTIPLE; /* with the end */
    return padded < (size_t)d->t.m.max_len ? padded : (size_t)d->t.m.max_len;
}

/* How many sentences from `at` on make the next batch. */
static size_t batch_size(const scoring *s, size_t at, size_t n, size_t max_tokens) {
    size_t longest = 0, count = 0;
    while (at + count < n) {
        size_t i = s->order[at + count];
        size_t a = padded_length(s->d, s->src[i].n), b = padded_length(s->d, s->tgt[i].n);
        size_t now = a > b ? a : b;
        if (now < longest) now = longest;
        if (count > 0 && now * (count + 1) > max_tokens) break;
        longest = now;
        count++;
    }
    return count;
}

/* Lengths are multiples, but never above the model's largest. */
static size_t multiple_of(const scoring *s, size_t count) {
    for (size_t i = 0; i < 2 * count; i++) {
        size_t padded = (s->pick[i].n + SCORE_MULTIPLE) / SCORE_MULTIPLE * SCORE_MULTIPLE;
        if (padded > (size_t)s->d->t.m.max_len) return 1;
    }
    return SCORE_MULTIPLE;
}

static wr_status score_batch(scoring *s, size_t at, size_t count, wr_error *err) {
    for (size_t i = 0; i < count; i++) {
        s->pick[i] = s->src[s->order[at + i]];
        s->pick[count + i] = s->tgt[s->order[at + i]];
    }
    wr_batch *b = &s->batch;
    wr_status status =
        wr_batch_make(s->pick, s->pick + count, count, multiple_of(s, count), b, err);
    if (status != WR_OK) return status;
    wr_feed feeds[] = {
        feed_matrix("src", b->src, b->B, b->S), feed_rows("src_len", b->src_len, b->B),
        feed_matrix("tgt_in", b->tgt_in, b->B, b->T),
        feed_matrix("tgt_out", b->tgt_out, b->B, b->T), feed_rows("tgt_len", b->tgt_len, b->B)};
    status = wr_session_run(s->d->session, s->d->score, 5, feeds, err);
    if (status != WR_OK) return status;
    const wr_tensor *token_nll = wr_session_output(s->d->session, 0);
    for (int32_t i = 0; i < b->B; i++) {
        double sum = 0;
        for (int32_t t = 0; t < b->tgt_len[i]; t++)
            sum += wr_real_value(token_nll, (int64_t)i * b->T + t);
        s->nll[s->order[at + (size_t)i]] = sum;
    }
    return WR_OK;
}

static wr_status score_all(scoring *s, size_t n, const wr_decoder_scoring *o, wr_error *err) {
    size_t max_tokens = o->max_tokens > 0 ? o->max_tokens : SCORE_TOKENS;
    wr_status status = WR_OK;
    for (size_t at = 0; status == WR_OK && at < n;) {
        size_t count = batch_size(s, at, n, max_tokens);
        status = score_batch(s, at, count, err);
        at += count;
        if (status == WR_OK && o->progress != NULL) o->progress(o->context, at, n);
    }
    return status;
}

wr_status wr_decoder_score(wr_decoder *d, const wr_sentence *src, const wr_sentence *tgt, size_t n,
                           const wr_decoder_scoring *o, double *nll, wr_error *err) {
    wr_status status = check_lengths(d, src, tgt, n, err);
    wr_program *program;
    if (status == WR_OK) status = wr_decoder_program(d, &program, err);
    if (status != WR_OK) return status;
    size_t *order = wr__order_by_length(src, tgt, n);
    wr_sentence *pick = malloc(sizeof *pick * (2 * n + 1));
    scoring s = {.d = d, .src = src, .tgt = tgt, .order = order, .pick = pick, .nll = nll};
    status = order == NULL || pick == NULL ? wr_fail_memory(err, "scoring", sizeof *pick * n)
                                           : score_all(&s, n, o, err);
    wr_batch_free(&s.batch);
    free(pick);
    free(order);
    return status;
}
