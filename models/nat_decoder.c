/* nat_decoder.c: programs and single runs of decoding with a non-autoregressive model; see
 * nat_decoder.h. */
#include "models/nat_decoder_internal.h"
#include "ops/fuse.h"
#include "ops/slice.h"
#include "ops/softmax.h"
#include "ops/sort.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Numbers of positions are rounded up to a multiple: few distinct sizes mean few plans. */
enum { MULTIPLE = 4, ROWS_MOST = 1 << 20, FEEDS = 6 };

/* The programs that are run: the source, and the words of candidates, of which there may be one of
 * each sentence; SYMBOLS has several words of each position. */
typedef enum part { BEGIN, WORDS, WORDS_SINGLE, SYMBOLS, PARTS } part;

struct wr_nat_decoder {
    wr_nat n;
    bool silent;
    wr_session *session;
    wr_program *all; /* reads every parameter */
    wr_program *program[PARTS];
    int symbols; /* of SYMBOLS */
    /* of the batch */
    int32_t B, S;
    int32_t *src_len; /* [B] */
    char *memory;     /* [B, S, D] */
    char *words;      /* [B, S, D] where the decoder reads them */
    double *scores;   /* [B, C] log p(T | x) */
    size_t cap_src_len, cap_memory, cap_words, cap_scores;
    int32_t *rows; /* of a run */
    size_t cap_rows;
};

static bool has_frames(const wr_nat *n) { return n->frames > 0; }

wr_status wr_nat_decoder_new(const wr_nat *model, bool silent, wr_session *session,
                             wr_nat_decoder **out, wr_error *err) {
    *out = NULL;
    wr_nat_decoder *d = calloc(1, sizeof *d);
    if (d == NULL) return wr_fail_memory(err, "a decoder", sizeof *d);
    d->n = *model;
    d->n.training = false;
    d->silent = silent;
    d->session = session;
    *out = d;
    return WR_OK;
}

static void drop(wr_nat_decoder *d, wr_program **p) {
    if (*p != NULL) wr_session_forget(d->session, *p);
    wr_program_free(*p);
    *p = NULL;
}

void wr_nat_decoder_free(wr_nat_decoder *d) {
    if (d == NULL) return;
    for (int i = 0; i < PARTS; i++)
        drop(d, &d->program[i]);
    drop(d, &d->all);
    free(d->src_len);
    free(d->memory);
    free(d->words);
    free(d->scores);
    free(d->rows);
    free(d);
}

const wr_nat *wr_nat_decoder_model(const wr_nat_decoder *d) { return &d->n; }
wr_session *wr_nat_decoder_session(const wr_nat_decoder *d) { return d->session; }
bool wr__nat_silent(const wr_nat_decoder *d) { return d->silent; }

int wr_nat_decoder_lengths(const wr_nat_decoder *d) {
    return has_frames(&d->n) ? 0 : wr_nat_length_classes(&d->n);
}

int wr_nat_decoder_max_len(const wr_nat_decoder *d) {
    return d->n.m.max_len < d->n.max_source ? d->n.m.max_len : d->n.max_source;
}

int wr__nat_said(const wr_nat *n, int len, int *first) {
    bool framed = n->framing == WR_RECIPE_FRAME_BOS_EOS;
    *first = framed ? 1 : 0;
    return framed ? len - 2 : len;
}

/* ---- programs ---- */

/* Ends of sentences are said where the framing has them be said. */
static int banned_words(const wr_nat_decoder *d, int ids[WR_NAT_BANNED + 2]) {
    int n = wr_nat_banned(&d->n, d->silent, ids);
    bool bos = false;
    for (int i = 0; i < n; i++)
        bos = bos || ids[i] == WR_BOS_ID;
    if (!bos) ids[n++] = WR_BOS_ID;
    if (d->n.framing != WR_RECIPE_FRAME_EOS) ids[n++] = WR_EOS_ID;
    return n;
}

static int build_begin(const wr_nat *n, wr_graph *g, wr *out) {
    wr_dim b = wr_sym(g, "B", 1, ROWS_MOST, 1), s = wr_sym(g, "S", 1, n->max_source, 1);
    wr_nat_encoding e = wr_nat_encode(n, wr_input(g, "src", WR_I32, WR_DIMS(b, s)),
                                      wr_input(g, "src_len", WR_I32, WR_DIMS(b)));
    int outputs = 0;
    out[outputs++] = e.memory;
    if (wr_nat_reads_words(n)) out[outputs++] = e.words;
    if (!has_frames(n)) out[outputs++] = wr_nat_length_scores(n, &e);
    return outputs;
}

/* Features of candidates [N, T, D] whose sources are fed. */
static wr build_features(const wr_nat *n, wr_graph *g, bool single) {
    wr_dim b = wr_sym(g, "B", 1, ROWS_MOST, 1), s = wr_sym(g, "S", 1, n->max_source, 1);
    wr_dim rows = single ? b : wr_sym(g, "N", 1, ROWS_MOST, 1);
    wr_dim t = has_frames(n) ? wr_nat_frame_dim(n, g, s) : wr_sym(g, "T", 1, n->max_positions, 1);
    wr_dim memory[] = {b, s, wr_n(n->m.dim)};
    wr_nat_encoding e = {.memory = wr_input(g, "memory", n->dtype, 3, memory),
                         .len = wr_input(g, "src_len", WR_I32, WR_DIMS(b)),
                         .words = {g, 0},
                         .state = {g, 0}};
    if (wr_nat_reads_words(n)) e.words = wr_input(g, "words", n->dtype, 3, memory);
    if (!single) e = wr_nat_spread(&e, wr_input(g, "rows", WR_I32, WR_DIMS(rows)));
    return wr_nat_decode(n, &e, wr_input(g, "tokens", WR_I32, WR_DIMS(rows, t)),
                         wr_input(g, "len", WR_I32, WR_DIMS(rows)));
}

static int build_words(const wr_nat_decoder *d, wr_graph *g, part which, wr *out) {
    int banned[WR_NAT_BANNED + 2], n = banned_words(d, banned);
    int k = which == SYMBOLS ? d->symbols : 1;
    wr features = build_features(&d->n, g, which != WORDS);
    wr logits = wr_nat_logits_without(&d->n, features, n, banned), id;
    out[0] = wr_top_k(logits, wr_n(k), &id);
    out[1] = id;
    out[2] = wr_logsumexp(logits);
    if (which != SYMBOLS) return 3;
    int blank = wr_nat_blank(&d->n);
    out[3] = wr_slice(logits, 2, blank, blank + 1);
    return 4;
}

static wr_status compile(wr_nat_decoder *d, part which, wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", 0);
    wr out[4];
    int n = which == BEGIN ? build_begin(&d->n, g, out) : build_words(d, g, which, out);
    wr_status status = wr_program_new(g, n, out, wr_standard_passes(), &d->program[which], err);
    wr_graph_free(g);
    return status;
}

wr_status wr_nat_decoder_program(wr_nat_decoder *d, wr_program **program, wr_error *err) {
    *program = d->all;
    if (d->all != NULL) return WR_OK;
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", 0);
    const wr_nat *n = &d->n;
    wr_dim b = wr_sym(g, "B", 1, ROWS_MOST, 1), s = wr_sym(g, "S", 1, n->max_source, 1);
    wr_dim t = has_frames(n) ? wr_nat_frame_dim(n, g, s) : wr_sym(g, "T", 1, n->max_positions, 1);
    wr_nat_encoding e = wr_nat_encode(n, wr_input(g, "src", WR_I32, WR_DIMS(b, s)),
                                      wr_input(g, "src_len", WR_I32, WR_DIMS(b)));
    wr features = wr_nat_decode(n, &e, wr_input(g, "tokens", WR_I32, WR_DIMS(b, t)),
                                wr_input(g, "len", WR_I32, WR_DIMS(b)));
    wr out[] = {wr_nat_logits(n, features), {g, 0}};
    if (!has_frames(n)) out[1] = wr_nat_length_scores(n, &e);
    wr_status status =
        wr_program_new(g, has_frames(n) ? 1 : 2, out, wr_standard_passes(), &d->all, err);
    wr_graph_free(g);
    *program = d->all;
    return status;
}

static wr_status run(wr_nat_decoder *d, part which, int n, const wr_feed *feeds, wr_error *err) {
    wr_status status = d->program[which] == NULL ? compile(d, which, err) : WR_OK;
    return status == WR_OK ? wr_session_run(d->session, d->program[which], n, feeds, err) : status;
}

/* ---- the source ---- */

static wr_status not_finite(wr_error *err) {
    return wr_fail(err, WR_ERR_INPUT,
                   "the model's output is not finite; its parameters hold infinite or undefined "
                   "numbers (--trap-nan names the row)");
}

static bool copy_tensor(const wr_tensor *x, char **to, size_t *cap) {
    size_t bytes = (size_t)x->n * wr_dtype_bytes(x->dtype);
    if (!wr_grow(to, cap, bytes + 1, 1)) return false;
    memcpy(*to, x->data, bytes);
    return true;
}

static wr_status keep_scores(wr_nat_decoder *d, const wr_tensor *p, wr_error *err) {
    if (!wr_grow(&d->scores, &d->cap_scores, (size_t)p->n + 1, sizeof *d->scores))
        return wr_fail_memory(err, "lengths", (size_t)p->n * sizeof *d->scores);
    for (int64_t i = 0; i < p->n; i++) {
        d->scores[i] = wr_real_value(p, i);
        if (isnan(d->scores[i])) return not_finite(err);
    }
    return WR_OK;
}

wr_status wr__nat_begin(wr_nat_decoder *d, const wr_batch *b, wr_error *err) {
    wr_feed feeds[] = {{.name = "src", .data = b->src, .rank = 2, .dim = {b->B, b->S}},
                       {.name = "src_len", .data = b->src_len, .rank = 1, .dim = {b->B}}};
    wr_status status = run(d, BEGIN, 2, feeds, err);
    if (status != WR_OK) return status;
    int k = 0;
    bool words = wr_nat_reads_words(&d->n);
    if (!copy_tensor(wr_session_output(d->session, k++), &d->memory, &d->cap_memory) ||
        (words && !copy_tensor(wr_session_output(d->session, k++), &d->words, &d->cap_words)) ||
        !wr_grow(&d->src_len, &d->cap_src_len, (size_t)b->B + 1, sizeof *d->src_len))
        return wr_fail_memory(err, "sentences", d->cap_memory);
    memcpy(d->src_len, b->src_len, (size_t)b->B * sizeof *d->src_len);
    d->B = b->B;
    d->S = b->S;
    return has_frames(&d->n) ? WR_OK : keep_scores(d, wr_session_output(d->session, k), err);
}

/* ---- lengths ---- */

/* At least one position is said. */
static int least_length(const wr_nat *n) { return n->framing == WR_RECIPE_FRAME_BOS_EOS ? 3 : 1; }

/* Append a length that is not there yet. */
static void add_length(const wr_nat *n, int length, int *list, int *count) {
    if (length < least_length(n) || length > n->max_positions) return;
    for (int i = 0; i < *count; i++)
        if (list[i] == length) return;
    list[(*count)++] = length;
}

/* 0, -1, 1, -2, 2, ..: the first k of them are the window of k around the middle. */
static int step_from_middle(int i) { return i % 2 == 1 ? -(i + 1) / 2 : i / 2; }

int wr__nat_lengths(const wr_nat_decoder *d, int32_t b, const wr__nat_length_choice *c,
                    int *length) {
    const wr_nat *n = &d->n;
    if (has_frames(n)) {
        length[0] = n->frames * d->src_len[b];
        return 1;
    }
    int classes = wr_nat_length_classes(n), k = c->window ? 1 : c->k, count = 0;
    int *best = length + c->k;
    int found = wr_nat_best_lengths(n, d->src_len[b], d->scores + (size_t)b * (size_t)classes, k,
                                    best, NULL);
    for (int i = 0; i < found; i++) {
        int scaled = wr__nat_scale(best[i], c->factor, least_length(n), n->max_positions);
        for (int j = 0; j < (c->window ? c->k : 1); j++)
            add_length(n, scaled + step_from_middle(j), length, &count);
    }
    return count;
}

int32_t wr__nat_padded(const wr_nat_decoder *d, int length) {
    if (has_frames(&d->n)) return d->n.frames * d->S;
    int padded = (length + MULTIPLE - 1) / MULTIPLE * MULTIPLE;
    return padded < d->n.max_positions ? padded : d->n.max_positions;
}

/* ---- candidates ---- */

static wr_feed feed_vector(const char *name, const int32_t *data, int64_t n) {
    return (wr_feed){.name = name, .data = data, .rank = 1, .dim = {n}};
}

/* Rows of [B, S, D] from a sentence on. */
static wr_feed feed_states(const wr_nat_decoder *d, const char *name, const char *data,
                           int32_t first, int32_t count) {
    size_t bytes = (size_t)d->S * (size_t)d->n.m.dim * wr_dtype_bytes(d->n.dtype);
    return (wr_feed){.name = name,
                     .data = data + (size_t)first * bytes,
                     .rank = 3,
                     .dim = {count, d->S, d->n.m.dim}};
}

/* Feeds of the candidates' sentences; *single: candidate i is of sentence i. */
static int feed_sources(wr_nat_decoder *d, const wr__nat_rows *r, wr_feed *feed, bool *single) {
    int32_t first = r->sentence[0], count = r->sentence[r->n - 1] - first + 1;
    int n = 0;
    *single = count == r->n;
    for (int32_t i = 0; i < r->n; i++) {
        d->rows[i] = r->sentence[i] - first;
        *single = *single && d->rows[i] == i;
    }
    feed[n++] = feed_states(d, "memory", d->memory, first, count);
    if (wr_nat_reads_words(&d->n)) feed[n++] = feed_states(d, "words", d->words, first, count);
    feed[n++] = feed_vector("src_len", d->src_len + first, count);
    return n;
}

/* The sum of exponentials tells of every word. */
static wr_status check_words(const wr__nat_rows *r, const wr__nat_words *w, wr_error *err) {
    for (int64_t i = 0; i < r->n; i++)
        for (int64_t t = 0; t < r->len[i]; t++)
            if (!isfinite(wr_real_value(w->total, i * r->T + t))) return not_finite(err);
    return WR_OK;
}

wr_status wr__nat_say(wr_nat_decoder *d, const wr__nat_rows *r, int k, wr__nat_words *w,
                      wr_error *err) {
    if (!wr_grow(&d->rows, &d->cap_rows, (size_t)r->n, sizeof *d->rows))
        return wr_fail_memory(err, "candidates", (size_t)r->n * sizeof *d->rows);
    wr_feed feed[FEEDS];
    bool single;
    int n = feed_sources(d, r, feed, &single);
    if (k > 1 && d->symbols != k) {
        drop(d, &d->program[SYMBOLS]);
        d->symbols = k;
    }
    if (k > 1 && !single)
        return wr_fail(err, WR_ERR_LIBRARY, "several words of several candidates of a sentence");
    if (!single) feed[n++] = feed_vector("rows", d->rows, r->n);
    feed[n++] = (wr_feed){.name = "tokens", .data = r->tokens, .rank = 2, .dim = {r->n, r->T}};
    feed[n++] = feed_vector("len", r->len, r->n);
    wr_status status = run(d, k > 1 ? SYMBOLS : single ? WORDS_SINGLE : WORDS, n, feed, err);
    if (status != WR_OK) return status;
    *w = (wr__nat_words){.k = k,
                         .value = wr_session_output(d->session, 0),
                         .id = wr_session_output(d->session, 1),
                         .total = wr_session_output(d->session, 2),
                         .blank = k > 1 ? wr_session_output(d->session, 3) : NULL};
    return check_words(r, w, err);
}

/* Banned words are at -1e30. Rounding must not make a probability exceed 1. */
static double logp_of(double value, double total) {
    double logp = value - total;
    if (value < -1e29) return -INFINITY;
    return logp < 0 ? logp : 0;
}

double wr__nat_logp(const wr__nat_words *w, int64_t at, int j) {
    return logp_of(wr_real_value(w->value, at * w->k + j), wr_real_value(w->total, at));
}

double wr__nat_blank_logp(const wr__nat_words *w, int64_t at) {
    return logp_of(wr_real_value(w->blank, at), wr_real_value(w->total, at));
}
