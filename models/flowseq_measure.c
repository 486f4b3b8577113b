/* flowseq_measure.c: losses, reconstructions and lengths of sentence pairs; see flowseq_decoder.h.
 */
#include "models/flowseq_decoder_internal.h"
#include "models/sentence_order.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- going through sentences in batches ---- */

typedef struct pass pass;

/* What is done with a batch that is encoded; sentence i of it is number order[first + i]. */
typedef wr_status (*pass_fn)(pass *p, wr_error *err);

struct pass {
    wr_flowseq_decoder *d;
    wr_flowseq_measuring o;
    const wr_sentence *src, *tgt; /* tgt may be NULL */
    size_t n;
    size_t *order, first;
    wr_sentence *pick; /* [2, n] */
    wr_flowseq_batch batch;
    int32_t *number; /* [n] 0, 1, 2, .. */
    pass_fn fn;
    /* of the functions */
    wr_flowseq_terms *terms;
    wr__results results;
    int k;
    int32_t *length;
    double *logp;
};

static wr__flowseq_rows rows_of(const pass *p) {
    return (wr__flowseq_rows){
        .n = p->batch.B, .T = p->batch.T, .sentence = p->number, .len = p->batch.tgt_len};
}

/* How many sentences from `first` on make a batch, about the budget of positions. */
static size_t batch_size(const pass *p) {
    size_t count = 0, longest = 1;
    while (p->first + count < p->n) {
        size_t i = p->order[p->first + count];
        size_t a = p->src[i].n + 1, b = p->tgt == NULL ? 0 : p->tgt[i].n + 1;
        size_t now = a > b ? a : b;
        if (now < longest) now = longest;
        if (count > 0 && now * (count + 1) > p->o.max_tokens) break;
        longest = now;
        count++;
    }
    return count;
}

static wr_status run_batch(pass *p, size_t count, wr_error *err) {
    wr_sentence *src = p->pick, *tgt = p->tgt == NULL ? NULL : p->pick + count;
    for (size_t i = 0; i < count; i++) {
        src[i] = p->src[p->order[p->first + i]];
        if (tgt != NULL) tgt[i] = p->tgt[p->order[p->first + i]];
    }
    wr_flowseq_packing packing = wr__flowseq_packing(p->d, p->o.exact);
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): go_through() frees what `p` has */
    wr_status status = wr_flowseq_batch_make(src, tgt, count, &packing, &p->batch, err);
    if (status == WR_OK) status = wr__flowseq_begin(p->d, &p->batch, err);
    return status == WR_OK ? p->fn(p, err) : status;
}

static wr_status run_all(pass *p, wr_error *err) {
    wr_status status = WR_OK;
    for (size_t count; status == WR_OK && p->first < p->n; p->first += count) {
        count = batch_size(p);
        status = run_batch(p, count, err);
        if (status == WR_OK && p->o.progress != NULL)
            p->o.progress(p->o.context, p->first + count, p->n);
    }
    return status;
}

static wr_status go_through(pass *p, wr_error *err) {
    wr_flowseq_packing packing = wr__flowseq_packing(p->d, p->o.exact);
    wr_status status = wr_flowseq_batch_check(p->src, p->tgt, p->n, &packing, err);
    if (status != WR_OK) return status;
    if (p->o.max_tokens == 0) p->o.max_tokens = WR__FLOWSEQ_TOKENS;
    p->order = wr__order_by_length(p->src, p->tgt, p->n);
    p->pick = malloc(sizeof *p->pick * (2 * p->n + 1));
    p->number = malloc(sizeof *p->number * (p->n + 1));
    if (p->order == NULL || p->pick == NULL || p->number == NULL)
        status = wr_fail_memory(err, "sentences", sizeof *p->pick * p->n);
    for (size_t i = 0; status == WR_OK && i < p->n; i++)
        p->number[i] = (int32_t)i;
    if (status == WR_OK) status = run_all(p, err);
    wr_flowseq_batch_free(&p->batch);
    free(p->order);
    free(p->pick);
    free(p->number);
    return status;
}

static pass begin(wr_flowseq_decoder *d, const wr_sentence *src, const wr_sentence *tgt, size_t n,
                  const wr_flowseq_measuring *o, pass_fn fn) {
    return (pass){.d = d, .o = *o, .src = src, .tgt = tgt, .n = n, .fn = fn};
}

/* ---- losses ---- */

static wr_status draw_noise(const pass *p, void *noise, int draws) {
    if (noise == NULL) return WR_ERR_MEMORY;
    for (int32_t i = 0; i < p->batch.B; i++)
        for (int k = 0; k < p->o.samples; k++) {
            wr__flowseq_key key = {.seed = p->o.seed,
                                   .sentence = p->order[p->first + (size_t)i],
                                   .draw = 1 + (uint32_t)k};
            wr__flowseq_draw(p->d, noise, (size_t)i * (size_t)draws + (size_t)k, p->batch.T,
                             p->batch.tgt_len[i], 1, &key);
        }
    return WR_OK;
}

static double mean_of(const wr_tensor *x, int32_t sentence, int draws) {
    double sum = 0;
    for (int64_t i = (int64_t)sentence * draws; i < (int64_t)(sentence + 1) * draws; i++)
        sum += wr_real_value(x, i);
    return sum / draws;
}

static wr_status measure_batch(pass *p, wr_error *err) {
    const wr_flowseq_batch *b = &p->batch;
    int draws = p->o.samples > 0 ? p->o.samples : 1;
    size_t rows = (size_t)b->B * (size_t)draws;
    void *noise = wr__flowseq_zeros(p->d, rows, b->T);
    if (draw_noise(p, noise, draws) != WR_OK)
        return wr_fail_memory(err, "noise", rows * (size_t)b->T);
    wr__flowseq_rows r = rows_of(p);
    wr__flowseq_sums sums;
    wr_status status = wr__flowseq_score(p->d, &r, b->tgt, draws, noise, &sums, err);
    for (int32_t i = 0; status == WR_OK && i < b->B; i++) {
        size_t at = p->order[p->first + (size_t)i];
        wr_flowseq_terms t = {.recon = mean_of(sums.recon, i, draws),
                              .log_q = mean_of(sums.log_q, i, draws),
                              .log_prior = mean_of(sums.log_prior, i, draws),
                              .logdet = mean_of(sums.logdet, i, draws),
                              .length_nll = -wr__flowseq_class_logp(p->d, i, b->tgt_len[i]),
                              .tokens = b->tgt_len[i]};
        p->terms[at] = t;
        if (!isfinite(t.recon + t.log_q + t.log_prior + t.length_nll))
            return wr_fail(err, WR_ERR_INPUT,
                           "sentence %zu: the model's loss is not finite; its parameters hold "
                           "infinite or undefined numbers",
                           at + 1);
    }
    return status;
}

wr_status wr_flowseq_measure(wr_flowseq_decoder *d, const wr_sentence *src, const wr_sentence *tgt,
                             size_t n, const wr_flowseq_measuring *o, wr_flowseq_terms *terms,
                             wr_error *err) {
    pass p = begin(d, src, tgt, n, o, measure_batch);
    p.terms = terms;
    return go_through(&p, err);
}

/* ---- words ---- */

static wr_status tell_words(pass *p, const int32_t *words, wr_error *err) {
    const wr_flowseq_batch *b = &p->batch;
    wr_status status = WR_OK;
    for (int32_t i = 0; status == WR_OK && i < b->B; i++) {
        const int32_t *id = words + (size_t)i * (size_t)b->T;
        size_t n = (size_t)b->tgt_len[i];
        if (!p->o.exact) n = wr__text_length(id, n);
        status = wr__results_add(&p->results, p->order[p->first + (size_t)i], id, n, 0, 0, err);
    }
    return status;
}

static wr_status reconstruct_batch(pass *p, wr_error *err) {
    wr__flowseq_rows r = rows_of(p);
    const int32_t *words = NULL;
    wr_status status = wr__flowseq_again(p->d, &r, p->batch.tgt, p->o.exact, &words, err);
    return status == WR_OK ? tell_words(p, words, err) : status;
}

static wr_status decode_batch(pass *p, wr_error *err) {
    wr__flowseq_rows r = rows_of(p);
    const int32_t *words = NULL;
    const void *noise = wr__flowseq_zeros(p->d, (size_t)r.n, r.T);
    if (noise == NULL) return wr_fail_memory(err, "noise", (size_t)r.n * (size_t)r.T);
    wr_status status = wr__flowseq_words(p->d, &r, noise, p->o.exact, &words, err);
    return status == WR_OK ? tell_words(p, words, err) : status;
}

static wr_status tell_all(pass *p, wr_translations *out, wr_error *err) {
    wr_status status = wr__results_begin(&p->results, p->n, 1, out, err);
    return status == WR_OK ? wr__results_end(&p->results, go_through(p, err)) : status;
}

wr_status wr_flowseq_reconstruct(wr_flowseq_decoder *d, const wr_sentence *src,
                                 const wr_sentence *tgt, size_t n, const wr_flowseq_measuring *o,
                                 wr_translations *out, wr_error *err) {
    pass p = begin(d, src, tgt, n, o, reconstruct_batch);
    return tell_all(&p, out, err);
}

wr_status wr_flowseq_decode_at(wr_flowseq_decoder *d, const wr_sentence *src,
                               const wr_sentence *tgt, size_t n, const wr_flowseq_measuring *o,
                               wr_translations *out, wr_error *err) {
    pass p = begin(d, src, tgt, n, o, decode_batch);
    return tell_all(&p, out, err);
}

/* ---- lengths ---- */

static wr_status lengths_batch(pass *p, wr_error *err) {
    (void)err;
    size_t k = (size_t)p->k;
    for (int32_t i = 0; i < p->batch.B; i++) {
        size_t at = p->order[p->first + (size_t)i] * k;
        int n = wr__flowseq_best_lengths(p->d, i, p->k, p->length + at, p->logp + at);
        for (size_t j = (size_t)n; j < k; j++) {
            p->length[at + j] = 0;
            p->logp[at + j] = -INFINITY;
        }
    }
    return WR_OK;
}

wr_status wr_flowseq_lengths(wr_flowseq_decoder *d, const wr_sentence *src, size_t n, int k,
                             const wr_flowseq_measuring *o, int32_t *length, double *logp,
                             wr_error *err) {
    if (k < 1 || k > wr_flowseq_decoder_lengths(d))
        return wr_fail(err, WR_ERR_INPUT, "%d lengths are asked for; allowed are 1 to %d", k,
                       wr_flowseq_decoder_lengths(d));
    pass p = begin(d, src, NULL, n, o, lengths_batch);
    p.k = k;
    p.length = length;
    p.logp = logp;
    return go_through(&p, err);
}

wr_status wr_flowseq_length_error(wr_flowseq_decoder *d, const wr_sentence *src,
                                  const wr_sentence *tgt, size_t n, const wr_flowseq_measuring *o,
                                  double *error, wr_error *err) {
    int32_t *length = malloc(sizeof *length * (n + 1));
    double *logp = malloc(sizeof *logp * (n + 1));
    wr_status status = length == NULL || logp == NULL
                           ? wr_fail_memory(err, "lengths", n * sizeof *logp)
                           : wr_flowseq_lengths(d, src, n, 1, o, length, logp, err);
    double sum = 0;
    for (size_t i = 0; status == WR_OK && i < n; i++) {
        size_t t = o->exact
                       ? tgt[i].n
                       : wr_flowseq_target_len(tgt[i].n, wr_flowseq_decoder_model(d)->length_unit);
        sum += fabs((double)length[i] - (double)t);
    }
    *error = n == 0 ? 0 : sum / (double)n;
    free(length);
    free(logp);
    return status;
}
