/* flowseq_search.c: translating with FlowSeq; see flowseq_decoder.h, and docs/decoding.md. */
#include "models/flowseq_decoder_internal.h"
#include "models/ranking.h"
#include "models/sentence_order.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- options ---- */

wr_flowseq_search_options wr_flowseq_search_defaults(const wr_recipe_decode *decode) {
    bool sampled = decode->method == WR_RECIPE_NPD || decode->method == WR_RECIPE_IWD;
    return (wr_flowseq_search_options){.method = sampled ? decode->method : WR_RECIPE_ARGMAX,
                                       .lengths = decode->lengths,
                                       .samples = decode->samples,
                                       .temperature = decode->temperature,
                                       .iwd_samples = decode->iwd_samples,
                                       .nbest = 1,
                                       .seed = 1,
                                       .max_tokens = WR__FLOWSEQ_TOKENS,
                                       .max_sentences = decode->max_sentences};
}

static wr_status check_counts(const wr_flowseq_search_options *o, wr_error *err) {
    if (o->lengths < 1 || o->samples < 1 || o->iwd_samples < 1)
        return wr_fail(err, WR_ERR_INPUT,
                       "%d lengths, %d samples of each and %d posterior samples of a candidate are "
                       "asked for; allowed is at least one of each",
                       o->lengths, o->samples, o->iwd_samples);
    if (o->nbest < 1 || (int64_t)o->nbest > (int64_t)o->lengths * o->samples)
        return wr_fail(err, WR_ERR_INPUT,
                       "%d translations of %d x %d candidates are asked for; allowed are 1 to as "
                       "many as there are candidates",
                       o->nbest, o->lengths, o->samples);
    if (o->max_sentences < 1)
        return wr_fail(err, WR_ERR_INPUT, "max_sentences is %d; allowed is at least 1",
                       o->max_sentences);
    return WR_OK;
}

static wr_status check_options(const wr_flowseq_decoder *d, const wr_flowseq_search_options *o,
                               wr_error *err) {
    if (o->method != WR_RECIPE_ARGMAX && o->method != WR_RECIPE_NPD && o->method != WR_RECIPE_IWD)
        return wr_fail(err, WR_ERR_INPUT, "a FlowSeq is decoded by argmax, npd or iwd");
    wr_status status = check_counts(o, err);
    if (status != WR_OK) return status;
    int most = wr_flowseq_decoder_lengths(d);
    if (o->lengths > most)
        return wr_fail(err, WR_ERR_INPUT,
                       "%d length candidates are asked for, but a sentence has at most %d: the "
                       "multiples of %d within %d tokens of its source's length",
                       o->lengths, most, wr_flowseq_decoder_model(d)->length_unit,
                       wr_flowseq_decoder_model(d)->length_range);
    if (!(o->temperature >= 0) || !isfinite(o->temperature))
        return wr_fail(err, WR_ERR_INPUT,
                       "the temperature must be a finite number of at least 0, but is %g",
                       o->temperature);
    return WR_OK;
}

/* ---- state ---- */

typedef struct candidate {
    int32_t sentence, length; /* of the batch; T */
    uint32_t sample;
    size_t at, n; /* its words in the pool, T of them; before the first end */
    double length_logp, score, logp;
    size_t number; /* its place among all candidates: who comes first wins a tie */
} candidate;

typedef struct search {
    wr_flowseq_decoder *d;
    wr_flowseq_search_options o;
    const wr_sentence *src;
    const size_t *order;
    size_t n;
    wr__results results;
    /* of the batch */
    wr_flowseq_batch batch;
    wr_sentence *pick;   /* [max_sentences] */
    size_t first, count; /* its sentences are order[first] .. */
    candidate *cand;     /* sentence-major, then by length, then by sample */
    size_t n_cand, cap_cand;
    int32_t *pool; /* words */
    size_t n_pool, cap_pool;
    /* of a run */
    int32_t *row; /* sentences, then lengths, then targets */
    size_t cap_row;
    wr__ranked *ranked; /* the candidates when they are scored */
    size_t cap_ranked;
} search;

/* ---- candidates ---- */

static size_t src_tokens(const search *s, size_t sentence) {
    size_t most = (size_t)wr__flowseq_packing(s->d, false).max_len - 1;
    return s->src[sentence].n < most ? s->src[sentence].n : most;
}

/* How many sentences from `at` on make a batch: about those whose candidates fit one run. */
static size_t batch_size(const search *s, size_t at) {
    size_t positions = src_tokens(s, s->order[at]) + 1;
    size_t candidates = (size_t)s->o.lengths * (size_t)s->o.samples;
    size_t count = s->o.max_tokens / positions / candidates;
    if (count < 1) count = 1;
    if (count > (size_t)s->o.max_sentences) count = (size_t)s->o.max_sentences;
    return count < s->n - at ? count : s->n - at;
}

static wr_status encode(search *s, wr_error *err) {
    for (size_t i = 0; i < s->count; i++) {
        size_t sentence = s->order[s->first + i], n = src_tokens(s, sentence);
        s->pick[i] = s->src[sentence];
        s->pick[i].n = n;
        if (n < s->src[sentence].n) s->results.out->truncated++;
    }
    wr_flowseq_packing packing = wr__flowseq_packing(s->d, false);
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): release() frees what `s` has */
    wr_status status = wr_flowseq_batch_make(s->pick, NULL, s->count, &packing, &s->batch, err);
    return status == WR_OK ? wr__flowseq_begin(s->d, &s->batch, err) : status;
}

static wr_status add_candidates(search *s, int32_t sentence, int32_t length, double logp,
                                wr_error *err) {
    int samples = s->o.temperature > 0 ? s->o.samples : 1; /* the others would be the same */
    size_t need = s->n_cand + (size_t)samples, words = (size_t)length * (size_t)samples;
    if (!wr_grow(&s->cand, &s->cap_cand, need, sizeof *s->cand) ||
        !wr_grow(&s->pool, &s->cap_pool, s->n_pool + words, sizeof *s->pool))
        return wr_fail_memory(err, "candidates", need * sizeof *s->cand);
    for (int k = 0; k < samples; k++) {
        s->cand[s->n_cand] = (candidate){.sentence = sentence,
                                         .length = length,
                                         .sample = (uint32_t)k,
                                         .at = s->n_pool,
                                         .length_logp = logp,
                                         .score = logp,
                                         .logp = logp,
                                         .number = s->n_cand};
        s->n_cand++;
        s->n_pool += (size_t)length;
    }
    return WR_OK;
}

static wr_status list_candidates(search *s, int32_t *length, double *logp, wr_error *err) {
    wr_status status = WR_OK;
    s->n_cand = s->n_pool = 0;
    for (int32_t b = 0; status == WR_OK && b < s->batch.B; b++) {
        int n = wr__flowseq_best_lengths(s->d, b, s->o.lengths, length, logp);
        if (n == 0)
            status = wr_fail(err, WR_ERR_INPUT,
                             "sentence %zu: no length has a probability above 0; the model's "
                             "parameters are damaged",
                             s->order[s->first + (size_t)b] + 1);
        for (int k = 0; status == WR_OK && k < n; k++)
            status = add_candidates(s, b, length[k], logp[k], err);
    }
    return status;
}

/* Candidates from `at` on that one run takes. */
static size_t run_size(const search *s, size_t at, int32_t *longest) {
    size_t n = 0;
    *longest = 0;
    for (; at + n < s->n_cand; n++) {
        int32_t length = s->cand[at + n].length;
        size_t t = (size_t)(length > *longest ? length : *longest);
        if (n > 0 && (n + 1) * t > s->o.max_tokens) break;
        *longest = (int32_t)t;
    }
    return n;
}

/* What the run is told of candidates from `at` on; `targets` makes room for words, too. */
static wr_status fill_rows(search *s, size_t at, size_t n, int32_t T, bool targets,
                           wr__flowseq_rows *rows, wr_error *err) {
    size_t need = n * (2 + (targets ? (size_t)T : 0));
    if (!wr_grow(&s->row, &s->cap_row, need, sizeof *s->row))
        return wr_fail_memory(err, "candidates", need * sizeof *s->row);
    for (size_t i = 0; i < n; i++) {
        const candidate *c = &s->cand[at + i];
        s->row[i] = c->sentence;
        s->row[n + i] = c->length;
        int32_t *to = s->row + 2 * n + i * (size_t)T;
        for (int32_t t = 0; targets && t < T; t++)
            to[t] = t < c->length ? s->pool[c->at + (size_t)t] : WR_PAD_ID;
    }
    *rows = (wr__flowseq_rows){.n = (int32_t)n, .T = T, .sentence = s->row, .len = s->row + n};
    return WR_OK;
}

static wr__flowseq_key key_of(const search *s, const candidate *c, uint32_t draw) {
    return (wr__flowseq_key){.seed = s->o.seed,
                             .sentence = s->order[s->first + (size_t)c->sentence],
                             .length = (uint32_t)c->length,
                             .sample = c->sample,
                             .draw = draw};
}

static bool is_noisy(const search *s, const candidate *c) {
    return s->o.method != WR_RECIPE_ARGMAX && s->o.temperature > 0 &&
           !(s->o.method == WR_RECIPE_IWD && c->sample == 0);
}

static wr_status decode_run(search *s, size_t at, size_t n, int32_t T, wr_error *err) {
    wr__flowseq_rows rows;
    wr_status status = fill_rows(s, at, n, T, false, &rows, err);
    void *noise = status == WR_OK ? wr__flowseq_zeros(s->d, n, T) : NULL;
    if (status == WR_OK && noise == NULL) status = wr_fail_memory(err, "noise", n * (size_t)T);
    for (size_t i = 0; status == WR_OK && i < n; i++) {
        const candidate *c = &s->cand[at + i];
        wr__flowseq_key key = key_of(s, c, 0);
        if (is_noisy(s, c)) wr__flowseq_draw(s->d, noise, i, T, c->length, s->o.temperature, &key);
    }
    const int32_t *words = NULL;
    if (status == WR_OK) status = wr__flowseq_words(s->d, &rows, noise, false, &words, err);
    for (size_t i = 0; status == WR_OK && i < n; i++) {
        candidate *c = &s->cand[at + i];
        memcpy(s->pool + c->at, words + i * (size_t)T, sizeof *words * (size_t)c->length);
        c->n = wr__text_length(s->pool + c->at, (size_t)c->length);
    }
    return status;
}

static wr_status decode_all(search *s, wr_error *err) {
    wr_status status = WR_OK;
    int32_t longest;
    for (size_t at = 0, n; status == WR_OK && at < s->n_cand; at += n) {
        n = run_size(s, at, &longest);
        status = decode_run(s, at, n, longest, err);
    }
    return status;
}

/* ---- doubles ---- */

/* The weights of iwd look at a candidate's whole length. */
static bool same_candidate(const search *s, const candidate *a, const candidate *b) {
    return a->length == b->length &&
           memcmp(s->pool + a->at, s->pool + b->at, sizeof *s->pool * (size_t)a->length) == 0;
}

/* Those that iwd would weigh twice. */
static void drop_doubles(search *s) {
    size_t kept = 0, from = 0; /* those of the sentence begin at `from` */
    for (size_t i = 0; i < s->n_cand; i++) {
        const candidate *c = &s->cand[i];
        if (kept > 0 && s->cand[kept - 1].sentence != c->sentence) from = kept;
        bool known = false;
        for (size_t k = from; k < kept && !known; k++)
            known = same_candidate(s, &s->cand[k], c);
        if (!known) s->cand[kept++] = *c;
    }
    s->n_cand = kept;
}

/* ---- scores ---- */

/* log (1/K sum_k w_k) of K weights that end at sums [at, at + K). */
static double mean_weight(const wr__flowseq_sums *sums, int64_t at, int draws) {
    double most = -INFINITY, total = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = at; i < at + draws; i++) {
            double w = wr_real_value(sums->log_prior, i) - wr_real_value(sums->recon, i) -
                       wr_real_value(sums->log_q, i);
            if (pass == 0 && !(w <= most)) most = w; /* also for a NaN */
            if (pass == 1) total += exp(w - most);
        }
    return most + log(total) - log(draws);
}

static wr_status weigh_run(search *s, size_t at, size_t n, int32_t T, wr_error *err) {
    int draws = s->o.iwd_samples;
    wr__flowseq_rows rows;
    wr_status status = fill_rows(s, at, n, T, true, &rows, err);
    void *noise = status == WR_OK ? wr__flowseq_zeros(s->d, n * (size_t)draws, T) : NULL;
    if (status == WR_OK && noise == NULL)
        status = wr_fail_memory(err, "noise", n * (size_t)draws * (size_t)T);
    if (status != WR_OK) return status;
    for (size_t i = 0; i < n * (size_t)draws; i++) {
        const candidate *c = &s->cand[at + i / (size_t)draws];
        wr__flowseq_key key = key_of(s, c, 1 + (uint32_t)(i % (size_t)draws));
        wr__flowseq_draw(s->d, noise, i, T, c->length, 1, &key);
    }
    wr__flowseq_sums sums;
    status = wr__flowseq_score(s->d, &rows, s->row + 2 * n, draws, noise, &sums, err);
    for (size_t i = 0; status == WR_OK && i < n; i++) {
        candidate *c = &s->cand[at + i];
        c->logp = mean_weight(&sums, (int64_t)i * draws, draws) + c->length_logp;
        c->score = c->logp / c->length;
        if (!isfinite(c->score))
            status =
                wr_fail(err, WR_ERR_INPUT, "sentence %zu: the weight of a candidate is not finite",
                        s->order[s->first + (size_t)c->sentence] + 1);
    }
    return status;
}

static int by_length(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->length != y->length) return x->length > y->length ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

static int by_number(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

/* Candidates of one length together: sums over positions are then the same in the last bit,
 * whatever else is in the batch. */
static wr_status weigh_all(search *s, wr_error *err) {
    wr_status status = WR_OK;
    qsort(s->cand, s->n_cand, sizeof *s->cand, by_length);
    for (size_t at = 0, n; status == WR_OK && at < s->n_cand; at += n) {
        int32_t length = s->cand[at].length;
        size_t most = s->o.max_tokens / (size_t)length / (size_t)s->o.iwd_samples;
        for (n = 1; n < most && at + n < s->n_cand && s->cand[at + n].length == length;)
            n++;
        status = weigh_run(s, at, n, length, err);
    }
    qsort(s->cand, s->n_cand, sizeof *s->cand, by_number);
    return status;
}

/* ---- results ---- */

static wr_status tell_all(search *s, wr_error *err) {
    if (!wr_grow(&s->ranked, &s->cap_ranked, s->n_cand, sizeof *s->ranked))
        return wr_fail_memory(err, "candidates", s->n_cand * sizeof *s->ranked);
    for (size_t i = 0; i < s->n_cand; i++) {
        const candidate *c = &s->cand[i];
        s->ranked[i] = (wr__ranked){.sentence = s->order[s->first + (size_t)c->sentence],
                                    .id = s->pool + c->at,
                                    .n = c->n,
                                    .score = c->score,
                                    .logp = c->logp,
                                    .number = c->number};
    }
    const wr_rescorer *judge = s->o.method == WR_RECIPE_NPD ? s->o.rescorer : NULL;
    return wr__ranking_tell(&s->results, s->ranked, s->n_cand, judge, err);
}

/* ---- the whole ---- */

static wr_status search_batch(search *s, int32_t *length, double *logp, wr_error *err) {
    wr_status status = encode(s, err);
    if (status == WR_OK) status = list_candidates(s, length, logp, err);
    if (status == WR_OK) status = decode_all(s, err);
    if (status == WR_OK && s->o.method == WR_RECIPE_IWD) {
        drop_doubles(s);
        status = weigh_all(s, err);
    }
    return status == WR_OK ? tell_all(s, err) : status;
}

static wr_status search_all(search *s, wr_error *err) {
    size_t most = s->n < (size_t)s->o.max_sentences ? s->n : (size_t)s->o.max_sentences;
    s->pick = malloc(sizeof *s->pick * (most + 1));
    int32_t *length = malloc(sizeof *length * (size_t)s->o.lengths);
    double *logp = malloc(sizeof *logp * (size_t)s->o.lengths);
    wr_status status = s->pick != NULL && length != NULL && logp != NULL
                           ? WR_OK
                           : wr_fail_memory(err, "search", sizeof *s->pick * most);
    for (s->first = 0; status == WR_OK && s->first < s->n; s->first += s->count) {
        s->count = batch_size(s, s->first);
        status = search_batch(s, length, logp, err);
        if (status == WR_OK && s->o.progress != NULL)
            s->o.progress(s->o.context, s->first + s->count, s->n);
    }
    free(length);
    free(logp);
    return status;
}

static void release(search *s) {
    wr_flowseq_batch_free(&s->batch);
    free(s->pick);
    free(s->cand);
    free(s->pool);
    free(s->row);
    free(s->ranked);
}

wr_status wr_flowseq_search(wr_flowseq_decoder *d, const wr_sentence *src, size_t n,
                            const wr_flowseq_search_options *o, wr_translations *out,
                            wr_error *err) {
    *out = (wr_translations){0};
    search s = {.d = d, .o = *o, .src = src, .n = n};
    if (s.o.max_tokens == 0) s.o.max_tokens = WR__FLOWSEQ_TOKENS;
    if (s.o.method == WR_RECIPE_ARGMAX) s.o.lengths = s.o.samples = 1;
    wr_status status = check_options(d, &s.o, err);
    if (status != WR_OK) return status;
    size_t *order = wr__order_by_length(src, NULL, n);
    s.order = order;
    status = order == NULL ? wr_fail_memory(err, "sentences", n * sizeof *order) : WR_OK;
    if (status == WR_OK) status = wr__results_begin(&s.results, n, (size_t)s.o.nbest, out, err);
    if (status == WR_OK) status = wr__results_end(&s.results, search_all(&s, err));
    release(&s);
    free(order);
    return status;
}
