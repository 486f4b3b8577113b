/* flowseq_decoder.c: programs and single runs of decoding with FlowSeq; see flowseq_decoder.h. */
#include "graph/random.h"
#include "models/flowseq_decoder_internal.h"
#include "models/frozen.h"
#include "ops/cross_entropy.h"
#include "ops/fuse.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/reduce.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Lengths of sources are rounded up to a multiple: few distinct sizes mean few plans. */
enum { SRC_MULTIPLE = 4, ROWS_MOST = 1 << 20 };

/* The programs. The exact ones choose among all ids but padding, the others not begins either;
 * all but WORDS and SCORE have one candidate of each sentence. */
typedef enum part {
    BEGIN,
    WORDS,
    WORDS_SINGLE,
    WORDS_EXACT,
    AGAIN,
    AGAIN_EXACT,
    SCORE,
    PARTS
} part;

struct wr_flowseq_decoder {
    wr_flowseq f;
    wr_session *session;
    wr_program *all; /* reads every parameter */
    wr_frozen program[PARTS];
    bool fresh[PARTS]; /* its states are those of the present parameters */
    /* of the batch */
    int32_t B, S;
    int32_t *src_len; /* [B] */
    char *memory;     /* [B, S, D] */
    double *scores;   /* [B, 2R + 1] log p(T | x) */
    size_t cap_src_len, cap_memory, cap_scores;
    /* of a run */
    char *noise;
    int32_t *rows; /* of candidates and samples */
    size_t cap_noise, cap_rows;
};

static int classes(const wr_flowseq_decoder *d) { return 2 * d->f.length_range + 1; }

wr_status wr_flowseq_decoder_new(const wr_flowseq *model, wr_session *session,
                                 wr_flowseq_decoder **out, wr_error *err) {
    *out = NULL;
    if (model->length_range < model->length_unit - 1)
        return wr_fail(err, WR_ERR_INPUT,
                       "flowseq.length_range is %d, but lengths come in multiples of %d: below %d "
                       "some sources have no length at all",
                       model->length_range, model->length_unit, model->length_unit - 1);
    wr_flowseq_decoder *d = calloc(1, sizeof *d);
    if (d == NULL) return wr_fail_memory(err, "a decoder", sizeof *d);
    d->f = *model;
    d->f.training = false;
    d->session = session;
    *out = d;
    return WR_OK;
}

void wr_flowseq_decoder_free(wr_flowseq_decoder *d) {
    if (d == NULL) return;
    for (int i = 0; i < PARTS; i++)
        wr_frozen_free(&d->program[i], d->session);
    if (d->all != NULL) wr_session_forget(d->session, d->all);
    wr_program_free(d->all);
    free(d->src_len);
    free(d->memory);
    free(d->scores);
    free(d->noise);
    free(d->rows);
    free(d);
}

const wr_flowseq *wr_flowseq_decoder_model(const wr_flowseq_decoder *d) { return &d->f; }
wr_session *wr_flowseq_decoder_session(const wr_flowseq_decoder *d) { return d->session; }

void wr_flowseq_decoder_changed(wr_flowseq_decoder *d) { memset(d->fresh, 0, sizeof d->fresh); }

int wr_flowseq_decoder_lengths(const wr_flowseq_decoder *d) {
    return (classes(d) + d->f.length_unit - 1) / d->f.length_unit;
}

wr_flowseq_packing wr__flowseq_packing(const wr_flowseq_decoder *d, bool exact) {
    return (wr_flowseq_packing){.unit = d->f.length_unit,
                                .multiple = SRC_MULTIPLE,
                                .max_len = d->f.max_positions,
                                .eos = WR_EOS_ID,
                                .exact = exact};
}

/* ---- programs ---- */

/* Candidates in a graph: what is fed, and the source as they see it. */
typedef struct fed {
    wr_dim n, t;
    wr len; /* [N] */
    wr_source source;
} fed;

static fed feed_in(const wr_flowseq *f, wr_graph *g, bool single) {
    int unit = f->length_unit, positions = f->max_positions;
    wr_dim b = wr_sym(g, "B", 1, ROWS_MOST, 1), s = wr_sym(g, "S", 1, positions, 1);
    fed in = {.n = single ? b : wr_sym(g, "N", 1, ROWS_MOST, 1),
              .t = wr_sym(g, "T", unit, positions / unit * unit, unit)};
    in.len = wr_input(g, "len", WR_I32, WR_DIMS(in.n));
    in.source = (wr_source){.x = wr_input(g, "memory", f->dtype, WR_DIMS(b, s, wr_n(f->dim))),
                            .len = wr_input(g, "src_len", WR_I32, WR_DIMS(b)),
                            .rows = {g, 0}};
    if (!single) in.source.rows = wr_input(g, "rows", WR_I32, WR_DIMS(in.n));
    return in;
}

static wr best_words(const wr_flowseq *f, const fed *in, wr z, bool exact) {
    static const int banned[] = {WR_PAD_ID, WR_BOS_ID};
    return wr_flowseq_words(f, wr_flowseq_decode(f, &in->source, z, in->len), exact ? 1 : 2,
                            banned);
}

static int build_begin(const wr_flowseq *f, wr_graph *g, wr *out) {
    wr_dim b = wr_sym(g, "B", 1, ROWS_MOST, 1), s = wr_sym(g, "S", 1, f->max_positions, 1);
    wr_flowseq_encoding e = wr_flowseq_encode(f, wr_input(g, "src", WR_I32, WR_DIMS(b, s)),
                                              wr_input(g, "src_len", WR_I32, WR_DIMS(b)));
    out[0] = e.source.x;
    out[1] = wr_flowseq_length_scores(f, &e);
    return 2;
}

static int build_words(const wr_flowseq *f, wr_graph *g, part which, wr *out) {
    fed in = feed_in(f, g, which != WORDS);
    wr eps = wr_input(g, "eps", f->dtype, WR_DIMS(in.n, in.t, wr_n(f->dim)));
    wr z = wr_flowseq_generate(f, &in.source, eps, in.len, NULL);
    out[0] = best_words(f, &in, z, which == WORDS_EXACT);
    return 1;
}

static int build_again(const wr_flowseq *f, wr_graph *g, bool exact, wr *out) {
    fed in = feed_in(f, g, true);
    wr tgt = wr_input(g, "tgt", WR_I32, WR_DIMS(in.n, in.t));
    wr z = wr_flowseq_posterior(f, &in.source, tgt, in.len, NULL).mean;
    out[0] = best_words(f, &in, z, exact);
    return 1;
}

/* -log p(y | z, x) [M]. */
static wr reconstruction(const wr_flowseq *f, const fed *in, wr z, wr tgt, wr mask) {
    wr_dim all = wr_dim_mul(z.g, in->n, in->t);
    wr features = wr_flowseq_decode(f, &in->source, z, in->len);
    wr logits = wr_flowseq_logits(f, wr_reshape(features, WR_DIMS(all, wr_n(f->dim))));
    wr nll =
        wr_cross_entropy(logits, wr_reshape(tgt, WR_DIMS(all)), wr_reshape(mask, WR_DIMS(all)), 0)
            .nll;
    return wr_sum(wr_reshape(nll, WR_DIMS(in->n, in->t)), 1);
}

/* The posterior is computed for N targets, the rest for M samples of them. */
static int build_score(const wr_flowseq *f, wr_graph *g, wr *out) {
    fed in = feed_in(f, g, false), each = in;
    each.n = wr_sym(g, "M", 1, ROWS_MOST, 1);
    wr tgt = wr_input(g, "tgt", WR_I32, WR_DIMS(in.n, in.t));
    wr of = wr_input(g, "samples", WR_I32, WR_DIMS(each.n)); /* in [0, N) */
    wr eps = wr_input(g, "eps", f->dtype, WR_DIMS(each.n, in.t, wr_n(f->dim)));
    wr_flowseq_gaussian q = wr_flowseq_posterior(f, &in.source, tgt, in.len, NULL);
    q.mean = wr_gather(q.mean, of);
    q.log_variance = wr_gather(q.log_variance, of);
    each.len = wr_gather(in.len, of);
    each.source.rows = wr_gather(in.source.rows, of);
    wr mask = wr_sequence_mask(each.len, in.t, f->dtype);
    wr z = wr_flowseq_draw(&q, eps, mask);
    wr_flowseq_density p = wr_flowseq_density_of(f, &each.source, z, each.len, NULL);
    out[0] = reconstruction(f, &each, z, wr_gather(tgt, of), mask);
    out[1] = wr_flowseq_log_q(&q, eps, mask);
    out[2] = p.log_prior;
    out[3] = p.log_det;
    return 4;
}

static int build(const wr_flowseq *f, part which, wr_graph *g, wr *out) {
    switch (which) {
    case BEGIN:
        return build_begin(f, g, out);
    case WORDS:
    case WORDS_SINGLE:
    case WORDS_EXACT:
        return build_words(f, g, which, out);
    case AGAIN:
    case AGAIN_EXACT:
        return build_again(f, g, which == AGAIN_EXACT, out);
    case SCORE:
    case PARTS:
        break;
    }
    return build_score(f, g, out);
}

static wr_status compile(wr_flowseq_decoder *d, part which, wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", 0);
    wr out[4];
    int n = build(&d->f, which, g, out);
    wr_status status = wr_frozen_new(g, n, out, &d->program[which], err);
    wr_graph_free(g);
    return status;
}

wr_status wr_flowseq_decoder_program(wr_flowseq_decoder *d, wr_program **program, wr_error *err) {
    *program = d->all;
    if (d->all != NULL) return WR_OK;
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", 0);
    wr_flowseq_pairs in = wr_flowseq_inputs(&d->f, g);
    wr_flowseq_options o = {.noise = {g, 0}};
    wr_flowseq_losses l = wr_flowseq_losses_of(&d->f, &in, &o);
    wr out[] = {l.nll, l.kl, l.length_nll};
    wr_status status = wr_program_new(g, 3, out, wr_standard_passes(), &d->all, err);
    wr_graph_free(g);
    *program = d->all;
    return status;
}

/* A program with its states up to date. */
static wr_status ready(wr_flowseq_decoder *d, part which, wr_error *err) {
    wr_frozen *p = &d->program[which];
    wr_status status = p->each == NULL ? compile(d, which, err) : WR_OK;
    if (status == WR_OK && !d->fresh[which] && p->once != NULL)
        status = wr_session_run(d->session, p->once, 0, NULL, err);
    if (status == WR_OK) d->fresh[which] = true;
    return status;
}

/* ---- the source ---- */

/* Lengths beyond what the model takes are impossible, too. */
static wr_status keep_scores(wr_flowseq_decoder *d, const wr_tensor *p, wr_error *err) {
    int longest = d->f.max_positions / d->f.length_unit * d->f.length_unit, n = classes(d);
    for (int64_t i = 0; i < p->n; i++) {
        int length = wr_flowseq_class_length(&d->f, d->src_len[i / n], (int)(i % n));
        d->scores[i] = length > longest ? -INFINITY : wr_real_value(p, i);
        if (isnan(d->scores[i]))
            return wr_fail(err, WR_ERR_INPUT,
                           "the model's output is not finite; its parameters hold infinite or "
                           "undefined numbers (--trap-nan names the row)");
    }
    return WR_OK;
}

static wr_status keep_encoding(wr_flowseq_decoder *d, const wr_flowseq_batch *b, wr_error *err) {
    const wr_tensor *x = wr_session_output(d->session, 0), *p = wr_session_output(d->session, 1);
    size_t bytes = (size_t)x->n * wr_dtype_bytes(x->dtype), n = (size_t)p->n, rows = (size_t)b->B;
    if (!wr_grow(&d->memory, &d->cap_memory, bytes + 1, 1) ||
        !wr_grow(&d->scores, &d->cap_scores, n + 1, sizeof *d->scores) ||
        !wr_grow(&d->src_len, &d->cap_src_len, rows + 1, sizeof *d->src_len))
        return wr_fail_memory(err, "sentences", bytes);
    memcpy(d->memory, x->data, bytes);
    memcpy(d->src_len, b->src_len, rows * sizeof *d->src_len);
    d->B = b->B;
    d->S = b->S;
    return keep_scores(d, p, err);
}

wr_status wr__flowseq_begin(wr_flowseq_decoder *d, const wr_flowseq_batch *b, wr_error *err) {
    wr_status status = ready(d, BEGIN, err);
    wr_feed feeds[WR_FLOWSEQ_FEEDS];
    wr_flowseq_feeds(b, feeds);
    if (status == WR_OK) status = wr_session_run(d->session, d->program[BEGIN].each, 2, feeds, err);
    return status == WR_OK ? keep_encoding(d, b, err) : status;
}

/* ---- lengths ---- */

double wr__flowseq_class_logp(const wr_flowseq_decoder *d, int32_t b, int32_t length) {
    int class = wr_flowseq_length_class(&d->f, d->src_len[b], length);
    return d->scores[(size_t)b * (size_t)classes(d) + (size_t) class];
}

int wr__flowseq_best_lengths(const wr_flowseq_decoder *d, int32_t b, int k, int32_t *length,
                             double *logp) {
    return wr_flowseq_best_lengths(&d->f, d->src_len[b], d->scores + (size_t)b * (size_t)classes(d),
                                   k, length, logp);
}

/* ---- noise ---- */

void *wr__flowseq_zeros(wr_flowseq_decoder *d, size_t rows, int32_t T) {
    size_t bytes = rows * (size_t)T * (size_t)d->f.dim * wr_dtype_bytes(d->f.dtype);
    if (!wr_grow(&d->noise, &d->cap_noise, bytes + 1, 1)) return NULL;
    memset(d->noise, 0, bytes);
    return d->noise;
}

/* Four standard normal numbers. */
static void four(const wr_random *r, uint64_t i, float x[4]) {
    uint32_t bits[4];
    wr_random_bits(r, i, bits);
    wr_random_normal(bits[0], bits[1], &x[0], &x[1]);
    wr_random_normal(bits[2], bits[3], &x[2], &x[3]);
}

void wr__flowseq_draw(const wr_flowseq_decoder *d, void *noise, size_t at, int32_t T, int32_t len,
                      double scale, const wr__flowseq_key *key) {
    size_t dim = (size_t)d->f.dim, from = at * (size_t)T * dim, n = (size_t)len * dim;
    uint64_t stream = (uint64_t)key->length << 32 | key->sample;
    wr_random r = wr_random_stream(key->seed + ((uint64_t)key->draw << 40), key->sentence, stream);
    for (size_t i = 0; i < n; i += 4) {
        float x[4];
        four(&r, i / 4, x);
        for (size_t k = 0; k < 4 && i + k < n; k++) {
            if (d->f.dtype == WR_F64)
                ((double *)noise)[from + i + k] = scale * (double)x[k];
            else
                ((float *)noise)[from + i + k] = (float)(scale * (double)x[k]);
        }
    }
}

/* ---- candidates ---- */

enum { ROWS_FEEDS = 8 };

/* The sentences that the candidates are of, and what is fed of them. */
typedef struct feeding {
    int32_t first, sentences;
    bool single; /* candidate i is of sentence i */
    wr_feed feed[ROWS_FEEDS];
    int n;
} feeding;

static wr_feed feed_vector(const char *name, const int32_t *data, int64_t n) {
    return (wr_feed){.name = name, .data = data, .rank = 1, .dim = {n}};
}

static void add_feed(feeding *x, wr_feed feed) { x->feed[x->n++] = feed; }

/* Noise of `rows` candidates or samples. */
static wr_feed feed_noise(const wr_flowseq_decoder *d, int64_t rows, int32_t T, const void *noise) {
    return (wr_feed){.name = "eps", .data = noise, .rank = 3, .dim = {rows, T, d->f.dim}};
}

/* `samples`: numbers to make room for behind the rows. */
static wr_status begin_rows(wr_flowseq_decoder *d, const wr__flowseq_rows *r, size_t samples,
                            feeding *x, wr_error *err) {
    size_t need = (size_t)r->n + samples;
    if (!wr_grow(&d->rows, &d->cap_rows, need + 1, sizeof *d->rows))
        return wr_fail_memory(err, "candidates", need * sizeof *d->rows);
    *x = (feeding){.first = r->sentence[0]};
    x->sentences = r->sentence[r->n - 1] - x->first + 1;
    x->single = x->sentences == r->n;
    for (int32_t i = 0; i < r->n; i++) {
        d->rows[i] = r->sentence[i] - x->first;
        x->single = x->single && d->rows[i] == i;
    }
    size_t bytes = (size_t)d->S * (size_t)d->f.dim * wr_dtype_bytes(d->f.dtype);
    add_feed(x, (wr_feed){.name = "memory",
                          .data = d->memory + (size_t)x->first * bytes,
                          .rank = 3,
                          .dim = {x->sentences, d->S, d->f.dim}});
    add_feed(x, feed_vector("src_len", d->src_len + x->first, x->sentences));
    add_feed(x, feed_vector("len", r->len, r->n));
    return WR_OK;
}

static wr_status run(wr_flowseq_decoder *d, part which, const feeding *x, wr_error *err) {
    wr_status status = ready(d, which, err);
    if (status != WR_OK) return status;
    return wr_session_run(d->session, d->program[which].each, x->n, x->feed, err);
}

/* Padding cannot be chosen unless all words are undefined. */
static wr_status words_of(wr_flowseq_decoder *d, const wr__flowseq_rows *r, const int32_t **words,
                          wr_error *err) {
    const int32_t *id = wr_session_output(d->session, 0)->data;
    for (int32_t i = 0; i < r->n; i++)
        for (int32_t t = 0; t < r->len[i]; t++)
            if (id[(size_t)i * (size_t)r->T + (size_t)t] == WR_PAD_ID)
                return wr_fail(
                    err, WR_ERR_INPUT,
                    "the model's output is not finite; its parameters hold infinite or "
                    "undefined numbers, or its prior cannot be inverted (--trap-nan names "
                    "the row)");
    *words = id;
    return WR_OK;
}

wr_status wr__flowseq_words(wr_flowseq_decoder *d, const wr__flowseq_rows *r, const void *noise,
                            bool exact, const int32_t **words, wr_error *err) {
    feeding x;
    wr_status status = begin_rows(d, r, 0, &x, err);
    if (status != WR_OK) return status;
    bool single = x.single || exact;
    if (!single) add_feed(&x, feed_vector("rows", d->rows, r->n));
    add_feed(&x, feed_noise(d, r->n, r->T, noise));
    status = run(d, exact ? WORDS_EXACT : single ? WORDS_SINGLE : WORDS, &x, err);
    return status == WR_OK ? words_of(d, r, words, err) : status;
}

static wr_feed feed_targets(const wr__flowseq_rows *r, const int32_t *tgt) {
    return (wr_feed){.name = "tgt", .data = tgt, .rank = 2, .dim = {r->n, r->T}};
}

wr_status wr__flowseq_again(wr_flowseq_decoder *d, const wr__flowseq_rows *r, const int32_t *tgt,
                            bool exact, const int32_t **words, wr_error *err) {
    feeding x;
    wr_status status = begin_rows(d, r, 0, &x, err);
    if (status != WR_OK) return status;
    add_feed(&x, feed_targets(r, tgt));
    status = run(d, exact ? AGAIN_EXACT : AGAIN, &x, err);
    return status == WR_OK ? words_of(d, r, words, err) : status;
}

wr_status wr__flowseq_score(wr_flowseq_decoder *d, const wr__flowseq_rows *r, const int32_t *tgt,
                            int32_t draws, const void *noise, wr__flowseq_sums *sums,
                            wr_error *err) {
    feeding x;
    int64_t samples = (int64_t)r->n * draws;
    wr_status status = begin_rows(d, r, (size_t)samples, &x, err);
    if (status != WR_OK) return status;
    int32_t *of = d->rows + r->n;
    for (int64_t i = 0; i < samples; i++)
        of[i] = (int32_t)(i / draws);
    add_feed(&x, feed_vector("rows", d->rows, r->n));
    add_feed(&x, feed_targets(r, tgt));
    add_feed(&x, feed_vector("samples", of, samples));
    add_feed(&x, feed_noise(d, samples, r->T, noise));
    status = run(d, SCORE, &x, err);
    if (status != WR_OK) return status;
    *sums = (wr__flowseq_sums){.recon = wr_session_output(d->session, 0),
                               .log_q = wr_session_output(d->session, 1),
                               .log_prior = wr_session_output(d->session, 2),
                               .logdet = wr_session_output(d->session, 3)};
    return WR_OK;
}
