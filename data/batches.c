/* batches.c: batches from a plan, built ahead by a thread; see batches.h for the contracts. */
#define _GNU_SOURCE /* pthread_sigmask */
#include "data/batches.h"
#include "data/batch_plan.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* ---- one batch ---- */

/* Where the rows of a batch come from: sentences `pick` of `pairs`, or given sentences. */
typedef struct rows {
    const wr_pairs *pairs;
    const uint32_t *pick;
    const wr_sentence *src, *tgt;
    size_t count;
    bool targets;
} rows;

static const int32_t *row(const rows *r, bool target, size_t b, size_t *n) {
    if (r->pairs != NULL)
        return wr_side_ids(target ? &r->pairs->tgt : &r->pairs->src, r->pick[b], n);
    const wr_sentence *s = target ? &r->tgt[b] : &r->src[b];
    *n = s->n;
    return s->id;
}

static size_t padded_length(const rows *r, bool target, size_t multiple) {
    size_t most = 0, n;
    for (size_t b = 0; b < r->count; b++) {
        row(r, target, b, &n);
        if (n + 1 > most) most = n + 1;
    }
    return (most + multiple - 1) / multiple * multiple;
}

/* Write `n` ids into a row of `width`, with `first` before or `last` behind (negative: none). */
static void fill_row(int32_t *to, size_t width, const int32_t *id, size_t n, int32_t first,
                     int32_t last) {
    size_t at = 0;
    if (first >= 0) to[at++] = first;
    if (n > 0) memcpy(to + at, id, n * sizeof *id);
    at += n;
    if (last >= 0) to[at++] = last;
    for (; at < width; at++)
        to[at] = WR_PAD_ID;
}

static void fill_sources(const rows *r, wr_batch *out, int32_t *src, int32_t *src_len) {
    const size_t S = (size_t)out->S;
    out->src_tokens = 0;
    for (size_t b = 0; b < r->count; b++) {
        size_t n;
        const int32_t *id = row(r, false, b, &n);
        fill_row(src + b * S, S, id, n, -1, WR_EOS_ID);
        src_len[b] = (int32_t)n + 1;
        out->src_tokens += src_len[b];
    }
    out->src = src;
    out->src_len = src_len;
}

static void fill_targets(const rows *r, wr_batch *out, int32_t *in, int32_t *tgt,
                         int32_t *tgt_len) {
    const size_t T = (size_t)out->T;
    out->tgt_tokens = 0;
    for (size_t b = 0; b < r->count; b++) {
        size_t n;
        const int32_t *id = row(r, true, b, &n);
        fill_row(in + b * T, T, id, n, WR_BOS_ID, -1);
        fill_row(tgt + b * T, T, id, n, -1, WR_EOS_ID);
        tgt_len[b] = (int32_t)n + 1;
        out->tgt_tokens += tgt_len[b];
    }
    out->tgt_in = in;
    out->tgt_out = tgt;
    out->tgt_len = tgt_len;
}

/* Make the batch; S, T are its padded lengths. */
static wr_status fill(const rows *r, size_t S, size_t T, wr_batch *out, wr_error *err) {
    const size_t B = r->count, need = B * (S + 2 * T + 3);
    if (!wr_grow(&out->storage, &out->storage_cap, need, sizeof *out->storage))
        return wr_fail_memory(err, "a batch", need * sizeof *out->storage);
    int32_t *src = out->storage, *src_len = src + B * S, *id = src_len + B, *tgt_len = id + B;
    int32_t *in = tgt_len + B, *tgt = in + B * T;
    out->B = (int32_t)B;
    out->S = (int32_t)S;
    out->T = (int32_t)T;
    out->tgt_in = out->tgt_out = out->tgt_len = NULL;
    out->tgt_tokens = 0;
    fill_sources(r, out, src, src_len);
    if (r->targets) fill_targets(r, out, in, tgt, tgt_len);
    for (size_t b = 0; b < B; b++)
        id[b] = r->pick != NULL ? (int32_t)r->pick[b] : (int32_t)b;
    out->id = id;
    return WR_OK;
}

wr_status wr_batch_make(const wr_sentence *src, const wr_sentence *tgt, size_t count,
                        size_t multiple, wr_batch *out, wr_error *err) {
    rows r = {.src = src, .tgt = tgt, .count = count, .targets = tgt != NULL};
    WR_ASSERT(multiple >= 1);
    size_t S = padded_length(&r, false, multiple);
    size_t T = r.targets ? padded_length(&r, true, multiple) : 0;
    if (count == 0) return wr_fail(err, WR_ERR_INPUT, "a batch needs at least one sentence");
    if (S > WR__LONGEST_SENTENCE || T > WR__LONGEST_SENTENCE || count > INT32_MAX / (S + T))
        return wr_fail(err, WR_ERR_INPUT,
                       "a batch of %zu sentences of %zu source and %zu target tokens is larger "
                       "than any machine's; cut the text into shorter lines",
                       count, S, T);
    out->place = (wr_batch_place){0};
    out->batches = 1;
    return fill(&r, S, T, out, err);
}

void wr_batch_free(wr_batch *batch) {
    free(batch->storage);
    *batch = (wr_batch){0};
}

/* ---- the stream of batches ---- */

struct wr_batches {
    const wr_pairs *pairs;
    wr_batches_options options;
    bool targets;
    wr_batch_place place; /* of the batch that the reader gets next */

    /* The maker's: touched by the thread alone while it runs. */
    wr__plan plan;
    wr_batch_place next; /* of the batch that is made next */

    /* The ring: batch number k (from 0 since the last seek) is in slot[k % slots]. `made` and
     * `released` say which slots are full; the reader still uses the last one it took. */
    wr_batch *slot;
    size_t slots;
    uint64_t made, taken, released;
    bool ended;     /* the maker has no more */
    wr_error error; /* the maker failed; it has ended then */
    bool stop;      /* the reader asks the maker to end */
    bool running;
    pthread_t thread;
    pthread_mutex_t lock; /* guards the ring while the thread runs */
    pthread_cond_t changed;
};

wr_batches_options wr_batches_defaults(void) {
    return (wr_batches_options){.max_tokens = 4096,
                                .multiple = 8,
                                .chunk = 32768,
                                .prefetch = 2,
                                .seed = 1,
                                .targets = true};
}

static wr_batch_place place_after(const wr_batch *batch) {
    wr_batch_place p = batch->place;
    if (++p.batch < batch->batches) return p;
    return (wr_batch_place){.epoch = p.epoch + 1};
}

/* Make batch `next` into a slot; `*ended` when there is none. */
static wr_status make_next(wr_batches *b, wr_batch *slot, bool *ended, wr_error *err) {
    wr_status status = WR_OK;
    *ended = b->options.in_order && b->next.epoch > 0;
    if (*ended) return WR_OK;
    if (!b->plan.ready || b->next.epoch != b->plan.epoch)
        status = wr__plan_make(&b->plan, b->pairs, &b->options, b->next.epoch, err);
    if (status != WR_OK) return status;
    rows r = {.pairs = b->pairs, .targets = b->targets};
    r.pick = wr__plan_batch(&b->plan, (size_t)b->next.batch, &r.count);
    size_t S = padded_length(&r, false, b->options.multiple);
    size_t T = b->targets ? padded_length(&r, true, b->options.multiple) : 0;
    slot->place = b->next;
    slot->batches = b->plan.batches;
    status = fill(&r, S, T, slot, err);
    if (status == WR_OK) b->next = place_after(slot);
    return status;
}

/* ---- the thread ---- */

/* Wait for a free slot; false when asked to stop. */
static bool wait_for_slot(wr_batches *b) {
    while (!b->stop && b->made - b->released >= b->slots)
        pthread_cond_wait(&b->changed, &b->lock);
    return !b->stop;
}

static void *make_ahead(void *context) {
    wr_batches *b = context;
    pthread_mutex_lock(&b->lock);
    while (!b->ended && wait_for_slot(b)) {
        wr_batch *slot = &b->slot[b->made % b->slots];
        wr_error error = {0};
        bool ended = false;
        pthread_mutex_unlock(&b->lock);
        wr_status status = make_next(b, slot, &ended, &error);
        pthread_mutex_lock(&b->lock);
        if (status != WR_OK) b->error = error;
        b->ended = ended || status != WR_OK;
        if (!b->ended) b->made++;
        pthread_cond_broadcast(&b->changed);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

/* Signals are for the threads of the program, not for this one. */
static wr_status start_thread(wr_batches *b, wr_error *err) {
    sigset_t all, before;
    sigfillset(&all);
    b->stop = false;
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&b->thread, NULL, make_ahead, b);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    b->running = rc == 0;
    if (rc == 0) return WR_OK;
    return wr_fail(err, WR_ERR_LIBRARY, "cannot start a thread for reading ahead: %s",
                   strerror(rc));
}

static void stop_thread(wr_batches *b) {
    if (!b->running) return;
    pthread_mutex_lock(&b->lock);
    b->stop = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    pthread_join(b->thread, NULL);
    b->running = false;
}

/* ---- opening and reading ---- */

static wr_status check_options(const wr_pairs *pairs, const wr_batches_options *o, wr_error *err) {
    if (pairs->n == 0 || pairs->n > INT32_MAX)
        return wr_fail(err, WR_ERR_INPUT, "%zu sentence pairs: batches need 1 to %d", pairs->n,
                       INT32_MAX);
    if (o->max_tokens == 0 || o->max_tokens > INT32_MAX || o->multiple == 0 ||
        o->multiple > 65536 || o->prefetch > 1024)
        return wr_fail(err, WR_ERR_INPUT,
                       "batches of at most %zu tokens, lengths in multiples of %zu, %zu ahead: "
                       "allowed are 1 to %d, 1 to 65536 and 0 to 1024",
                       o->max_tokens, o->multiple, o->prefetch, INT32_MAX);
    return WR_OK;
}

static wr_status check_lengths(const wr_pairs *pairs, const wr_batches_options *o, wr_error *err) {
    for (size_t i = 0; i < pairs->n; i++) {
        wr__shape s = wr__plan_shape(pairs, o, i);
        size_t n = s.S > s.T ? s.S : s.T;
        if (n > WR__LONGEST_SENTENCE)
            return wr_fail(err, WR_ERR_INPUT, "sentence %zu has %zu tokens, more than %d", i + 1, n,
                           WR__LONGEST_SENTENCE);
        if (n > o->max_tokens && !o->oversize)
            return wr_fail(err, WR_ERR_INPUT,
                           "sentence pair %zu takes %zu source and %zu target tokens (its end and "
                           "rounding up to a multiple of %zu included), a batch at most %zu: raise "
                           "the token budget, or prepare the data with a smaller --max-len",
                           i + 1, s.S, s.T, o->multiple, o->max_tokens);
    }
    return WR_OK;
}

static wr_status open_ring(wr_batches *b, wr_error *err) {
    size_t slots = b->options.prefetch + 1;
    b->slot = calloc(slots, sizeof *b->slot);
    if (b->slot == NULL) return wr_fail_memory(err, "batches", slots * sizeof *b->slot);
    b->slots = slots;
    return wr__plan_make(&b->plan, b->pairs, &b->options, 0, err);
}

wr_status wr_batches_open(const wr_pairs *pairs, const wr_batches_options *options,
                          wr_batches **out, wr_error *err) {
    *out = NULL;
    wr_status status = check_options(pairs, options, err);
    if (status == WR_OK) status = check_lengths(pairs, options, err);
    if (status != WR_OK) return status;
    wr_batches *b = calloc(1, sizeof *b);
    if (b == NULL) return wr_fail_memory(err, "batches", sizeof *b);
    b->pairs = pairs;
    b->options = *options;
    b->targets = options->targets && pairs->tgt.id_at != NULL;
    pthread_mutex_init(&b->lock, NULL); /* neither can fail with default attributes on Linux */
    pthread_cond_init(&b->changed, NULL);
    status = open_ring(b, err);
    if (status == WR_OK) {
        *out = b;
    } else {
        wr_batches_close(b);
    }
    return status;
}

void wr_batches_close(wr_batches *b) {
    if (b == NULL) return;
    stop_thread(b);
    for (size_t i = 0; i < b->slots; i++)
        wr_batch_free(&b->slot[i]);
    free(b->slot);
    wr__plan_free(&b->plan);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

/* Without a thread: make the batch now. */
static void make_now(wr_batches *b) {
    bool ended = false;
    if (b->ended) return;
    wr_status status = make_next(b, &b->slot[0], &ended, &b->error);
    b->ended = ended || status != WR_OK;
    if (!b->ended) b->made++;
}

/* With the thread: hand back the last batch and wait for the next. */
static void wait_for_batch(wr_batches *b) {
    pthread_mutex_lock(&b->lock);
    b->released = b->taken;
    pthread_cond_broadcast(&b->changed);
    while (b->made == b->taken && !b->ended)
        pthread_cond_wait(&b->changed, &b->lock);
    pthread_mutex_unlock(&b->lock);
}

wr_status wr_batches_next(wr_batches *b, const wr_batch **out, wr_error *err) {
    *out = NULL;
    if (b->options.prefetch == 0) {
        make_now(b);
    } else {
        wr_status status = b->running ? WR_OK : start_thread(b, err);
        if (status != WR_OK) return status;
        wait_for_batch(b);
    }
    pthread_mutex_lock(&b->lock);
    bool ready = b->made > b->taken;
    pthread_mutex_unlock(&b->lock);
    if (!ready && b->error.status != WR_OK)
        return wr_fail(err, b->error.status, "%s", b->error.text);
    if (!ready) return WR_OK;
    *out = &b->slot[b->taken++ % b->slots];
    b->place = place_after(*out);
    return WR_OK;
}

wr_batch_place wr_batches_position(const wr_batches *b) { return b->place; }

wr_status wr_batches_seek(wr_batches *b, wr_batch_place place, wr_error *err) {
    stop_thread(b);
    wr_status status = WR_OK;
    uint32_t epoch = b->options.in_order ? 0 : place.epoch; /* in_order: epoch 1 is the end */
    if (!b->plan.ready || b->plan.epoch != epoch)
        status = wr__plan_make(&b->plan, b->pairs, &b->options, epoch, err);
    if (status == WR_OK && place.batch > b->plan.batches)
        status =
            wr_fail(err, WR_ERR_INPUT,
                    "cannot go on at batch %llu of epoch %u: it has %zu; the data or the batch "
                    "options are not those of the run that was stopped",
                    (unsigned long long)place.batch, place.epoch, b->plan.batches);
    if (status != WR_OK) return status;
    if (place.batch == b->plan.batches) place = (wr_batch_place){.epoch = place.epoch + 1};
    b->place = b->next = place;
    b->made = b->taken = b->released = 0;
    b->ended = false;
    b->error = (wr_error){0};
    return WR_OK;
}

/* ---- summary ---- */

typedef struct full_shape {
    uint64_t B, S, T;
} full_shape;

static int by_shape(const void *a, const void *b) { return memcmp(a, b, sizeof(full_shape)); }

static uint64_t count_distinct(full_shape *shape, size_t n) {
    uint64_t distinct = 0;
    qsort(shape, n, sizeof *shape, by_shape);
    for (size_t i = 0; i < n; i++)
        distinct += i == 0 || by_shape(&shape[i - 1], &shape[i]) != 0;
    return distinct;
}

static full_shape add_to_summary(const wr_batches *b, const wr__plan *plan, size_t i,
                                 wr_batches_summary *out) {
    rows r = {.pairs = b->pairs};
    r.pick = wr__plan_batch(plan, i, &r.count);
    full_shape s = {.B = r.count, .S = padded_length(&r, false, b->options.multiple)};
    if (b->targets) s.T = padded_length(&r, true, b->options.multiple);
    for (size_t k = 0; k < r.count; k++) {
        out->src_tokens += wr_side_count(&b->pairs->src, r.pick[k]) + 1;
        if (b->targets) out->tgt_tokens += wr_side_count(&b->pairs->tgt, r.pick[k]) + 1;
    }
    out->sentences += s.B;
    out->src_cells += s.B * s.S;
    out->tgt_cells += s.B * s.T;
    return s;
}

wr_status wr_batches_summarise(const wr_batches *b, uint32_t epoch, wr_batches_summary *out,
                               wr_error *err) {
    wr__plan plan = {0};
    *out = (wr_batches_summary){0};
    wr_status status = wr__plan_make(&plan, b->pairs, &b->options, epoch, err);
    full_shape *shape = status == WR_OK ? malloc(plan.batches * sizeof *shape) : NULL;
    if (status == WR_OK && shape == NULL)
        status = wr_fail_memory(err, "a summary of batches", plan.batches * sizeof *shape);
    for (size_t i = 0; i < plan.batches && status == WR_OK; i++)
        shape[i] = add_to_summary(b, &plan, i, out);
    if (status == WR_OK) {
        out->batches = plan.batches;
        out->shapes = count_distinct(shape, plan.batches);
    }
    free(shape);
    wr__plan_free(&plan);
    return status;
}
