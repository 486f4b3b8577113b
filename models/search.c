/* search.c: greedy and beam search; see search.h, and docs/decoding.md for the algorithm. */
#include "models/search.h"

#include "models/search_internal.h"
#include "models/sentence_order.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SRC_MULTIPLE = 8, NO_NODE = 0 };

/* ---- options and results ---- */

wr_search_options wr_search_defaults(const wr_recipe_decode *decode) {
    return (wr_search_options){.beam = decode->method == WR_RECIPE_BEAM ? decode->beam : 1,
                               .nbest = 1,
                               .normalisation = decode->normalisation,
                               .alpha = decode->alpha,
                               .max_len_factor = decode->max_len_factor,
                               .max_len_extra = decode->max_len_extra,
                               .max_sentences = decode->max_sentences,
                               .cache_bytes = (size_t)512 << 20};
}

void wr_translations_free(wr_translations *t) {
    free(t->count);
    free(t->hyp);
    wr_ids_free(&t->ids);
    *t = (wr_translations){0};
}

double wr_search_score(const wr_search_options *o, double logp, int length) {
    switch (o->normalisation) {
    case WR_RECIPE_BY_PENALTY:
        return logp / pow((5.0 + length) / 6.0, o->alpha);
    case WR_RECIPE_BY_LENGTH:
        return logp / pow(length, o->alpha);
    case WR_RECIPE_BY_NOTHING:
        break;
    }
    return logp;
}

wr_status wr__search_check(const wr_search_options *o, wr_error *err) {
    if (o->beam < 1 || o->nbest < 1 || o->nbest > o->beam)
        return wr_fail(err, WR_ERR_INPUT,
                       "%d translations of a beam of %d are asked for; allowed are a beam of at "
                       "least 1 and 1 to as many translations as the beam",
                       o->nbest, o->beam);
    if (!(o->alpha >= 0) || !isfinite(o->alpha))
        return wr_fail(err, WR_ERR_INPUT, "alpha must be a finite number of at least 0, but is %g",
                       o->alpha);
    if (!(o->max_len_factor >= 0) || !isfinite(o->max_len_factor) || o->max_len_extra < 0)
        return wr_fail(err, WR_ERR_INPUT,
                       "the longest output, %g x source + %d, must not be negative",
                       o->max_len_factor, o->max_len_extra);
    if (o->max_sentences < 1 || o->max_sentences > INT32_MAX / o->beam)
        return wr_fail(err, WR_ERR_INPUT,
                       "max_sentences is %d; allowed are 1 to %d for a beam of %d",
                       o->max_sentences, INT32_MAX / o->beam, o->beam);
    return WR_OK;
}

/* ---- state ---- */

/* A word of some hypothesis and what stands before it; node NO_NODE is the beginning. */
typedef struct word {
    uint32_t before;
    int32_t token;
} word;

/* A hypothesis that goes on: its last word, and the cache row that it continues. */
typedef struct live {
    double logp;
    uint32_t node;
    int32_t row, token;
} live;

/* An ended hypothesis; `node` is its last word before the end. */
typedef struct ended {
    double logp, score;
    uint32_t node;
    int length; /* with the end */
} ended;

/* One sentence of the batch. */
typedef struct beam {
    size_t sentence;
    int32_t src_len;
    int limit;    /* most tokens of the output, the end included */
    int finished; /* hypotheses that have ended, those that were no good included */
    int n_live, n_done;
    live *live;  /* [beam] best first */
    ended *done; /* [beam] best first */
} beam;

typedef struct search {
    wr_decoder *d;
    const wr_search_options *o;
    const wr_sentence *src;
    const size_t *order;
    size_t n;
    int best; /* candidates of a hypothesis that the decoder tells */
    wr_translations *out;
    /* of the batch */
    wr_batch batch;
    wr_sentence *pick; /* [max_sentences] */
    beam *beam;        /* [max_sentences] those not finished, in order */
    int n_beams;
    live *live_pool;
    ended *done_pool;
    wr__candidate *cand; /* [beam * (best + 1)] */
    word *words;
    size_t n_words, cap_words;
    /* per row */
    int32_t *token, *row, *src_row, *src_len; /* fed */
    int32_t *owner, *next_owner; /* sentence of the batch that had the row in the step before */
    int n_rows;                  /* rows of the step before */
} search;

/* ---- the candidates of a sentence ---- */

int wr__candidate_order(const void *a, const void *b) {
    const wr__candidate *x = a, *y = b;
    if (x->logp != y->logp) return x->logp > y->logp ? -1 : 1;
    if (x->from != y->from) return x->from < y->from ? -1 : 1;
    return x->token < y->token ? -1 : x->token > y->token;
}

/* log p of one more word; rounding must not make it grow. */
static double extend(double logp, double logit, double total) {
    double step = logit - total;
    return logp + (step < 0 ? step : 0);
}

int wr__search_candidates(const wr_decoder_next *next, int64_t row, double logp, int32_t from,
                          wr__candidate *out) {
    int64_t best = next->id->dim[1];
    double total = wr_real_value(next->total, row);
    int n = 0;
    out[n++] = (wr__candidate){extend(logp, wr_real_value(next->end, row), total), from, WR_EOS_ID};
    for (int64_t k = row * best; k < (row + 1) * best; k++) {
        int32_t token = ((const int32_t *)next->id->data)[k];
        if (token == WR_PAD_ID || token == WR_BOS_ID || token == WR_EOS_ID) continue;
        out[n++] = (wr__candidate){extend(logp, wr_real_value(next->value, k), total), from, token};
    }
    return n;
}

static int gather(search *s, const beam *b, int first_row, const wr_decoder_next *next) {
    int n = 0;
    for (int i = 0; i < b->n_live; i++)
        n += wr__search_candidates(next, first_row + i, b->live[i].logp, i, s->cand + n);
    qsort(s->cand, (size_t)n, sizeof *s->cand, wr__candidate_order);
    return n;
}

/* Put an ended hypothesis among the best; of equal ones the earlier stays in front. */
static void finish(const search *s, beam *b, const live *h, double logp, int length) {
    ended e = {logp, wr_search_score(s->o, logp, length), h->node, length};
    b->finished++;
    int at = b->n_done;
    while (at > 0 && b->done[at - 1].score < e.score)
        at--;
    if (at == s->o->beam) return;
    if (b->n_done < s->o->beam) b->n_done++;
    memmove(&b->done[at + 1], &b->done[at], sizeof e * (size_t)(b->n_done - 1 - at));
    b->done[at] = e;
}

/* A hypothesis with one more word. */
static wr_status go_on(search *s, const wr__candidate *c, const live *from, int first_row, live *to,
                       wr_error *err) {
    if (s->n_words == UINT32_MAX ||
        !wr_grow(&s->words, &s->cap_words, s->n_words + 1, sizeof *s->words))
        return wr_fail_memory(err, "hypotheses", s->n_words * sizeof *s->words);
    s->words[s->n_words] = (word){from->node, c->token};
    *to = (live){c->logp, (uint32_t)s->n_words++, first_row + c->from, c->token};
    return WR_OK;
}

/* The best candidates: ends among the first `beam` end their hypothesis, the first `beam` others go
 * on. `fresh` [beam] becomes the new list. */
static wr_status choose(search *s, beam *b, int first_row, int n, int length, live *fresh,
                        wr_error *err) {
    int width = s->o->beam, n_fresh = 0;
    wr_status status = WR_OK;
    for (int i = 0; i < n && n_fresh < width && status == WR_OK; i++) {
        const wr__candidate *c = &s->cand[i];
        const live *from = &b->live[c->from];
        if (c->token == WR_EOS_ID) {
            if (i < width) finish(s, b, from, c->logp, length);
        } else {
            status = go_on(s, c, from, first_row, &fresh[n_fresh++], err);
        }
    }
    memcpy(b->live, fresh, sizeof *fresh * (size_t)n_fresh);
    b->n_live = n_fresh;
    return status;
}

/* Each hypothesis ends here by force. */
static void end_all(search *s, beam *b, int n, int length) {
    for (int i = 0; i < n; i++)
        if (s->cand[i].token == WR_EOS_ID)
            finish(s, b, &b->live[s->cand[i].from], s->cand[i].logp, length);
    b->n_live = 0;
}

/* A log-probability only falls, and no normalisation is milder than that of the longest output: no
 * hypothesis that goes on can exceed this. */
static double bound(const search *s, const beam *b) {
    return wr_search_score(s->o, b->live[0].logp, b->limit);
}

static bool is_over(const search *s, const beam *b) {
    if (b->n_live == 0) return true;
    if (b->finished >= s->o->beam) return true;
    if (s->o->exhaust || b->n_done < s->o->nbest) return false;
    return b->done[s->o->nbest - 1].score >= bound(s, b);
}

wr_status wr__search_finite(const wr_decoder_next *next, int64_t row, size_t sentence,
                            wr_error *err) {
    if (isfinite(wr_real_value(next->total, row))) return WR_OK;
    return wr_fail(err, WR_ERR_INPUT,
                   "sentence %zu: the model's output is not finite; its parameters hold infinite "
                   "or undefined numbers (--trap-nan names the row)",
                   sentence + 1);
}

static wr_status check_finite(const beam *b, int first_row, const wr_decoder_next *next,
                              wr_error *err) {
    wr_status status = WR_OK;
    for (int64_t row = first_row; status == WR_OK && row < first_row + b->n_live; row++)
        status = wr__search_finite(next, row, b->sentence, err);
    return status;
}

/* ---- results ---- */

static wr_status append_ids(search *s, const ended *e, wr_hypothesis *h, wr_error *err) {
    wr_ids *ids = &s->out->ids;
    size_t n = (size_t)e->length - 1;
    if (!wr_grow(&ids->id, &ids->cap, ids->n + n + 1, sizeof *ids->id))
        return wr_fail_memory(err, "translations", (ids->n + n) * sizeof *ids->id);
    uint32_t node = e->node;
    for (size_t i = n; i > 0; i--) {
        ids->id[ids->n + i - 1] = s->words[node].token;
        node = s->words[node].before;
    }
    ids->n += n;
    *h = (wr_hypothesis){.n = n, .logp = e->logp, .score = e->score};
    return WR_OK;
}

/* `id` is set at the end, when the storage does not move any more; `first` is kept meanwhile. */
static wr_status note_result(search *s, const beam *b, size_t *first, wr_error *err) {
    wr_translations *out = s->out;
    size_t i = b->sentence;
    first[i] = out->ids.n;
    out->count[i] = (size_t)(b->n_done < s->o->nbest ? b->n_done : s->o->nbest);
    wr_status status = WR_OK;
    for (size_t k = 0; status == WR_OK && k < out->count[i]; k++)
        status = append_ids(s, &b->done[k], &out->hyp[i * out->nbest + k], err);
    return status;
}

static void point_at_ids(wr_translations *out, const size_t *first) {
    for (size_t i = 0; i < out->n; i++) {
        size_t at = first[i];
        for (size_t k = 0; k < out->count[i]; k++) {
            wr_hypothesis *h = &out->hyp[i * out->nbest + k];
            h->id = out->ids.id + at;
            at += h->n;
        }
    }
}

/* ---- one batch ---- */

int wr__search_limit(const wr_decoder *d, const wr_search_options *o, size_t src_tokens) {
    int max_len = wr_decoder_model(d)->m.max_len;
    double limit = floor(o->max_len_factor * (double)src_tokens) + o->max_len_extra;
    if (limit > max_len) return max_len;
    return limit < 1 ? 1 : (int)limit;
}

size_t wr__search_src_tokens(const wr_decoder *d, const wr_sentence *src) {
    size_t most = (size_t)wr_decoder_model(d)->m.max_len - 1;
    return src->n < most ? src->n : most;
}

size_t wr__search_batch(const wr_decoder *d, const wr_search_options *o, const wr_sentence *first,
                        size_t left) {
    size_t longest = wr__search_src_tokens(d, first);
    size_t positions = longest + 1 + (size_t)wr__search_limit(d, o, longest);
    size_t sentence_bytes = positions * (size_t)o->beam * wr_decoder_position_bytes(d);
    size_t count = o->cache_bytes / sentence_bytes;
    if (count < 1) count = 1;
    if (count > (size_t)o->max_sentences) count = (size_t)o->max_sentences;
    return count < left ? count : left;
}

wr_status wr__search_sources(const wr_decoder *d, wr_sentence *pick, size_t n, wr_batch *b,
                             wr_error *err) {
    for (size_t i = 0; i < n; i++)
        pick[i].n = wr__search_src_tokens(d, &pick[i]);
    size_t padded = (pick[0].n + SRC_MULTIPLE) / SRC_MULTIPLE * SRC_MULTIPLE;
    bool fits = padded <= (size_t)wr_decoder_model(d)->m.max_len;
    return wr_batch_make(pick, NULL, n, fits ? SRC_MULTIPLE : 1, b, err);
}

static wr_status make_batch(search *s, size_t at, size_t count, wr_error *err) {
    for (size_t i = 0; i < count; i++) {
        size_t sentence = s->order[at + i], n = wr__search_src_tokens(s->d, &s->src[sentence]);
        s->pick[i] = s->src[sentence];
        if (n < s->src[sentence].n) s->out->truncated++;
        s->beam[i] = (beam){.sentence = sentence,
                            .src_len = (int32_t)n + 1,
                            .limit = wr__search_limit(s->d, s->o, n),
                            .n_live = 1,
                            .live = s->live_pool + i * (size_t)s->o->beam,
                            .done = s->done_pool + i * (size_t)s->o->beam};
        s->beam[i].live[0] = (live){0, NO_NODE, (int32_t)i, WR_BOS_ID};
        s->owner[i] = (int32_t)i;
    }
    s->n_beams = (int)count;
    s->n_rows = (int)count;
    s->n_words = NO_NODE + 1;
    return wr__search_sources(s->d, s->pick, count, &s->batch, err);
}

/* A source row that has the sentence already stays where it is, so that nothing is copied. */
static int feed_rows(search *s) {
    int n = 0;
    for (int i = 0; i < s->n_beams; i++) {
        const beam *b = &s->beam[i];
        int32_t owner = s->owner[b->live[0].row];
        for (int k = 0; k < b->n_live; k++, n++) {
            s->token[n] = b->live[k].token;
            s->row[n] = b->live[k].row;
            s->src_row[n] = n < s->n_rows && s->owner[n] == owner ? n : b->live[k].row;
            s->src_len[n] = b->src_len;
            s->next_owner[n] = owner;
        }
    }
    int32_t *swap = s->owner;
    s->owner = s->next_owner;
    s->next_owner = swap;
    s->n_rows = n;
    return n;
}

static wr_status advance(search *s, int position, size_t *first, live *fresh, wr_error *err) {
    wr_decoder_feed feed = {.n = feed_rows(s),
                            .position = position,
                            .token = s->token,
                            .row = s->row,
                            .src_row = s->src_row,
                            .src_len = s->src_len};
    wr_decoder_next next;
    wr_status status = wr_decoder_step(s->d, &feed, &next, err);
    int row = 0, kept = 0;
    for (int i = 0; status == WR_OK && i < s->n_beams; i++) {
        beam *b = &s->beam[i];
        int rows = b->n_live, length = position + 1;
        status = check_finite(b, row, &next, err);
        if (status != WR_OK) break;
        int n = gather(s, b, row, &next);
        if (length == b->limit)
            end_all(s, b, n, length);
        else
            status = choose(s, b, row, n, length, fresh, err);
        row += rows;
        if (status != WR_OK) break;
        if (is_over(s, b))
            status = note_result(s, b, first, err);
        else
            s->beam[kept++] = *b;
    }
    s->n_beams = kept;
    return status;
}

static wr_status search_batch(search *s, size_t at, size_t count, size_t *first, live *fresh,
                              wr_error *err) {
    wr_status status = make_batch(s, at, count, err);
    if (status != WR_OK) return status;
    wr_decoder_size need = {.rows = (int)count * s->o->beam,
                            .src_len = s->batch.S,
                            .tgt_len = s->beam[0].limit,
                            .best = s->best};
    status = wr_decoder_begin(s->d, &need, &s->batch, err);
    for (int t = 0; status == WR_OK && s->n_beams > 0; t++)
        status = advance(s, t, first, fresh, err);
    return status;
}

/* ---- the whole ---- */

static bool allocate(search *s, size_t sentences) {
    size_t width = (size_t)s->o->beam, rows = sentences * width;
    s->pick = malloc(sizeof *s->pick * sentences);
    s->beam = malloc(sizeof *s->beam * sentences);
    s->live_pool = malloc(sizeof *s->live_pool * rows);
    s->done_pool = malloc(sizeof *s->done_pool * rows);
    s->cand = malloc(sizeof *s->cand * width * ((size_t)s->best + 1));
    s->token = malloc(sizeof(int32_t) * rows * 6);
    if (s->token != NULL) {
        s->row = s->token + rows;
        s->src_row = s->token + 2 * rows;
        s->src_len = s->token + 3 * rows;
        s->owner = s->token + 4 * rows;
        s->next_owner = s->token + 5 * rows;
    }
    return s->pick != NULL && s->beam != NULL && s->live_pool != NULL && s->done_pool != NULL &&
           s->cand != NULL && s->token != NULL &&
           wr_grow(&s->words, &s->cap_words, 1024, sizeof *s->words);
}

static void release(search *s) {
    wr_batch_free(&s->batch);
    free(s->pick);
    free(s->beam);
    free(s->live_pool);
    free(s->done_pool);
    free(s->cand);
    free(s->token);
    free(s->words);
}

static wr_status search_all(search *s, size_t *first, wr_error *err) {
    size_t most = s->n < (size_t)s->o->max_sentences ? s->n : (size_t)s->o->max_sentences;
    live *fresh = malloc(sizeof *fresh * (size_t)s->o->beam);
    wr_status status = fresh == NULL || !allocate(s, most)
                           ? wr_fail_memory(err, "search", sizeof *fresh * (size_t)s->o->beam)
                           : WR_OK;
    for (size_t at = 0; status == WR_OK && at < s->n;) {
        size_t count = wr__search_batch(s->d, s->o, &s->src[s->order[at]], s->n - at);
        status = search_batch(s, at, count, first, fresh, err);
        at += count;
        if (status == WR_OK && s->o->progress != NULL) s->o->progress(s->o->context, at, s->n);
    }
    if (status == WR_OK) point_at_ids(s->out, first);
    release(s);
    free(fresh);
    return status;
}

int wr__search_best(const wr_decoder *d, int width) {
    int vocab = wr_decoder_model(d)->tgt_vocab;
    return width + 3 < vocab ? width + 3 : vocab;
}

wr_status wr_search(wr_decoder *d, const wr_sentence *src, size_t n, const wr_search_options *o,
                    wr_translations *out, wr_error *err) {
    *out = (wr_translations){0};
    wr_status status = wr__search_check(o, err);
    if (status != WR_OK) return status;
    size_t nbest = (size_t)o->nbest;
    *out = (wr_translations){.n = n, .nbest = nbest};
    out->count = calloc(n + 1, sizeof *out->count);
    out->hyp = calloc(n * nbest + 1, sizeof *out->hyp);
    size_t *first = calloc(n + 1, sizeof *first), *order = wr__order_by_length(src, NULL, n);
    search s = {.d = d,
                .o = o,
                .src = src,
                .order = order,
                .n = n,
                .out = out,
                .best = wr__search_best(d, o->beam)};
    bool ok = out->count != NULL && out->hyp != NULL && first != NULL && order != NULL;
    status = !ok      ? wr_fail_memory(err, "translations", n * nbest * sizeof *out->hyp)
             : n == 0 ? WR_OK
                      : search_all(&s, first, err);
    free(first);
    free(order);
    if (status != WR_OK) wr_translations_free(out);
    return status;
}
