/* flowseq_batch.c: see flowseq_batch.h. */
#include "models/flowseq_batch.h"

#include <stdlib.h>
#include <string.h>

/* Where a side's sentences come from: an array of sentences, or the rows of a batch. */
typedef struct side {
    const wr_sentence *sentence; /* NULL: rows */
    const int32_t *rows, *row_len;
    int32_t width;
} side;

/* The tokens of sentence i without what packing adds. */
static wr_sentence tokens_of(const side *s, size_t i) {
    if (s->sentence != NULL) return s->sentence[i];
    WR_ASSERT(s->row_len != NULL);
    return (wr_sentence){.id = s->rows + i * (size_t)s->width, .n = (size_t)s->row_len[i] - 1};
}

typedef struct packing {
    const wr_flowseq_packing *o;
    side src, tgt;
    bool targets;
    size_t count;
} packing;

static size_t source_len(const packing *p, size_t i) {
    return tokens_of(&p->src, i).n + (p->o->exact ? 0 : 1);
}

static size_t target_len(const packing *p, size_t i) {
    size_t n = tokens_of(&p->tgt, i).n;
    return p->o->exact ? n : wr_flowseq_target_len(n, p->o->unit);
}

/* ---- checks ---- */

static wr_status check_exact(const wr_sentence *s, size_t number, const char *which, int unit,
                             wr_error *err) {
    if (s->n == 0 || s->n % (size_t)unit != 0)
        return wr_fail(err, WR_ERR_INPUT,
                       "sentence %zu: the %s has %zu tokens; allowed is a multiple of %d, at least "
                       "%d: pad it with ends of sentence",
                       number, which, s->n, unit, unit);
    for (size_t i = 0; i < s->n; i++)
        if (s->id[i] == WR_PAD_ID)
            return wr_fail(err, WR_ERR_INPUT,
                           "sentence %zu: token %zu of the %s is %d, which is padding and not "
                           "allowed inside a sentence",
                           number, i + 1, which, WR_PAD_ID);
    return WR_OK;
}

static wr_status check_length(size_t n, size_t most, size_t number, const char *which,
                              wr_error *err) {
    if (n <= most) return WR_OK;
    return wr_fail(err, WR_ERR_INPUT,
                   "sentence %zu: %zu positions of the %s are more than the %zu that the model "
                   "takes",
                   number, n, which, most);
}

static wr_status check(const packing *p, size_t i, wr_error *err) {
    int max_len = p->o->max_len, unit = p->o->unit, most = max_len / unit * unit;
    wr_sentence x = tokens_of(&p->src, i);
    wr_status status = WR_OK;
    if (p->o->exact) status = check_exact(&x, i + 1, "source", 1, err);
    if (status == WR_OK)
        status = check_length(source_len(p, i), (size_t)max_len, i + 1, "source", err);
    if (status != WR_OK || !p->targets) return status;
    wr_sentence y = tokens_of(&p->tgt, i);
    if (p->o->exact) status = check_exact(&y, i + 1, "target", unit, err);
    if (status == WR_OK)
        status = check_length(target_len(p, i), (size_t)most, i + 1, "target", err);
    return status;
}

/* ---- packing ---- */

static int common_multiple(int a, int b) {
    int x = a, y = b;
    while (y != 0) {
        int rest = x % y;
        x = y;
        y = rest;
    }
    return a / x * b;
}

/* n rounded up, but not beyond `most`, of which n itself is at most. */
static int32_t rounded(size_t n, int multiple, int most) {
    size_t m = (size_t)multiple, up = (n + m - 1) / m * m;
    return (int32_t)(up <= (size_t)most ? up : (size_t)most);
}

static void set_sizes(const packing *p, wr_flowseq_batch *b) {
    int multiple = p->o->multiple > 0 ? p->o->multiple : 1, unit = p->o->unit;
    size_t s = 0, t = 0;
    b->B = (int32_t)p->count;
    b->src_tokens = b->tgt_tokens = 0;
    for (size_t i = 0; i < p->count; i++) {
        size_t x = source_len(p, i), y = p->targets ? target_len(p, i) : 0;
        b->src_tokens += (int64_t)x;
        b->tgt_tokens += (int64_t)y;
        if (x > s) s = x;
        if (y > t) t = y;
    }
    b->S = rounded(s, multiple, p->o->max_len);
    b->T = rounded(t, common_multiple(multiple, unit), p->o->max_len / unit * unit);
}

/* Tokens, then `ends` ends, then padding. */
static void fill_row(int32_t *row, int32_t width, const wr_sentence *x, size_t length,
                     int32_t eos) {
    size_t n = 0;
    for (; n < x->n; n++)
        row[n] = x->id[n];
    for (; n < length; n++)
        row[n] = eos;
    for (; n < (size_t)width; n++)
        row[n] = WR_PAD_ID;
}

static wr_status check_all(const packing *p, wr_error *err) {
    wr_status status = WR_OK;
    for (size_t i = 0; status == WR_OK && i < p->count; i++)
        status = check(p, i, err);
    return status;
}

static wr_status pack(const packing *p, wr_flowseq_batch *b, wr_error *err) {
    wr_status status = check_all(p, err);
    if (status != WR_OK) return status;
    set_sizes(p, b);
    size_t n = p->count, s = (size_t)b->S, t = (size_t)b->T;
    size_t cells = n * (s + t + 2);
    if (!wr_grow(&b->storage, &b->storage_cap, cells + 1, sizeof *b->storage))
        return wr_fail_memory(err, "a batch", cells * sizeof *b->storage);
    int32_t *src = b->storage, *tgt = src + n * s, *src_len = tgt + n * t, *tgt_len = src_len + n;
    for (size_t i = 0; i < n; i++) {
        wr_sentence x = tokens_of(&p->src, i);
        src_len[i] = (int32_t)source_len(p, i);
        fill_row(src + i * s, b->S, &x, (size_t)src_len[i], p->o->eos);
        tgt_len[i] = 0;
        if (!p->targets) continue;
        wr_sentence y = tokens_of(&p->tgt, i);
        tgt_len[i] = (int32_t)target_len(p, i);
        fill_row(tgt + i * t, b->T, &y, (size_t)tgt_len[i], p->o->eos);
    }
    b->src = src;
    b->tgt = tgt;
    b->src_len = src_len;
    b->tgt_len = tgt_len;
    return WR_OK;
}

static packing of_sentences(const wr_sentence *src, const wr_sentence *tgt, size_t count,
                            const wr_flowseq_packing *o) {
    return (packing){.o = o,
                     .src = {.sentence = src},
                     .tgt = {.sentence = tgt},
                     .targets = tgt != NULL,
                     .count = count};
}

wr_status wr_flowseq_batch_check(const wr_sentence *src, const wr_sentence *tgt, size_t count,
                                 const wr_flowseq_packing *o, wr_error *err) {
    packing p = of_sentences(src, tgt, count, o);
    return check_all(&p, err);
}

wr_status wr_flowseq_batch_make(const wr_sentence *src, const wr_sentence *tgt, size_t count,
                                const wr_flowseq_packing *o, wr_flowseq_batch *out, wr_error *err) {
    packing p = of_sentences(src, tgt, count, o);
    return pack(&p, out, err);
}

wr_status wr_flowseq_batch_of(const wr_batch *b, const wr_flowseq_packing *o, wr_flowseq_batch *out,
                              wr_error *err) {
    wr_flowseq_packing plain = *o;
    plain.exact = false;
    packing p = {.o = &plain,
                 .src = {.rows = b->src, .row_len = b->src_len, .width = b->S},
                 .tgt = {.rows = b->tgt_out, .row_len = b->tgt_len, .width = b->T},
                 .targets = b->T > 0,
                 .count = (size_t)b->B};
    return pack(&p, out, err);
}

void wr_flowseq_batch_free(wr_flowseq_batch *b) {
    free(b->storage);
    *b = (wr_flowseq_batch){0};
}

int wr_flowseq_feeds(const wr_flowseq_batch *b, wr_feed feeds[WR_FLOWSEQ_FEEDS]) {
    feeds[0] = (wr_feed){.name = "src", .data = b->src, .rank = 2, .dim = {b->B, b->S}};
    feeds[1] = (wr_feed){.name = "src_len", .data = b->src_len, .rank = 1, .dim = {b->B}};
    feeds[2] = (wr_feed){.name = "tgt", .data = b->tgt, .rank = 2, .dim = {b->B, b->T}};
    feeds[3] = (wr_feed){.name = "tgt_len", .data = b->tgt_len, .rank = 1, .dim = {b->B}};
    return b->T > 0 ? 4 : 2;
}
