/* test_flowseq_decode.c: decoding with FlowSeq finds what enumeration finds on toys, tells each
 * translation once, and depends neither on batches nor on threads; packing of sentences; programs
 * whose constant part is computed once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"
#include "helpers/alloc.h"
#include "helpers/decoding.h"
#include "models/flowseq_decoder_internal.h"
#include "models/frozen.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/softmax.h"

/* Words that can be told: unknown, the end, and one more; V = 3 of five ids. */
enum { VOCAB = 5, WORDS = 3, UNIT = 2, RANGE = 3, MAX_LEN = 12 };
static const int32_t WORD[WORDS] = {WR_UNK_ID, WR_EOS_ID, 4};

static const char *const FLOW = "actnorm\ncoupling halves up add\nlinear heads\n"
                                "coupling time down add\n";

/* ---- a toy ---- */

typedef struct rig {
    wr_flowseq f;
    wr_session *session;
    wr_flowseq_decoder *d;
} rig;

static wr_flowseq toy(wr_dtype t, int dim, const char *layers) {
    wr_flow_recipe recipe = {.text = {layers}};
    wr_flowseq f = {.src_vocab = 9,
                    .tgt_vocab = VOCAB,
                    .dim = dim,
                    .hidden = 8,
                    .heads = 2,
                    .encoder_layers = 1,
                    .posterior_layers = 1,
                    .decoder_layers = 1,
                    .dropout = 0.5,
                    .length_unit = UNIT,
                    .length_range = RANGE,
                    .max_positions = MAX_LEN,
                    .prior_heads = 2,
                    .prior_hidden = 8,
                    .dtype = t,
                    .training = true};
    wr_error err = {0};
    if (wr_flow_parse(&recipe, &f.prior, &err) != WR_OK) fail_msg("%s", err.text);
    return f;
}

static rig open_rig(wr_flowseq f, uint64_t seed, int threads, double size) {
    rig r = {.f = f};
    wr_error err = {0};
    wr_session_options o = {.threads = threads, .seed = seed};
    wr_program *p;
    test_must(wr_session_new(&o, &r.session, &err), &err);
    test_must(wr_flowseq_decoder_new(&f, r.session, &r.d, &err), &err);
    test_must(wr_flowseq_decoder_program(r.d, &p, &err), &err);
    test_must(wr_session_prepare(r.session, p, &err), &err);
    test_move(r.session, size, 5);
    r.f.training = false;
    return r;
}

static void close_rig(rig *r) {
    wr_flowseq_decoder_free(r->d);
    wr_session_free(r->session);
}

enum { SOURCES = 11 };
static const wr_sentence *sources(void) {
    static test_sentences s;
    return test_sentences_by_rule(
        &s, (test_rule){.n = SOURCES, .step = 5, .lengths = 7, .turn = 3, .words = 5});
}

static wr_flowseq_search_options options_of(wr_recipe_decode_method method) {
    return (wr_flowseq_search_options){.method = method,
                                       .lengths = 2,
                                       .samples = 4,
                                       .temperature = 1.5,
                                       .iwd_samples = 3,
                                       .nbest = 1,
                                       .seed = 7,
                                       .max_sentences = SOURCES};
}

static wr_translations search(const rig *r, const wr_sentence *src, size_t n,
                              const wr_flowseq_search_options *o) {
    wr_error err = {0};
    wr_translations out;
    if (wr_flowseq_search(r->d, src, n, o, &out, &err) != WR_OK) fail_msg("%s", err.text);
    assert_int_equal(out.n, n);
    return out;
}

/* ---- enumeration: graphs of the model, one sentence, one candidate ---- */

typedef struct oracle {
    const rig *r;
    int32_t src[MAX_LEN], S, T;
} oracle;

static oracle oracle_of(const rig *r, const wr_sentence *src, int32_t T) {
    oracle o = {.r = r, .S = (int32_t)src->n + 1, .T = T};
    memcpy(o.src, src->id, src->n * sizeof *src->id);
    o.src[src->n] = WR_EOS_ID;
    return o;
}

static wr fixed_ids(wr_graph *g, const int32_t *id, int64_t rows, int64_t n) {
    return wr_const(g, WR_I32, 2, ((int64_t[]){rows, n}), id);
}

static wr fixed_length(wr_graph *g, int32_t n, int64_t rows) {
    int32_t x[4096];
    assert_true(rows <= 4096);
    for (int64_t i = 0; i < rows; i++)
        x[i] = n;
    return wr_const(g, WR_I32, 1, &rows, x);
}

/* log p(word at t | z of eps, x): [rows, T, VOCAB]; eps [rows, T, dim]. */
static void word_logs(const oracle *o, const double *eps, int64_t rows, double *to) {
    const wr_flowseq *f = &o->r->f;
    wr_graph *g = wr_graph_new();
    assert_non_null(g);
    int64_t dims[3] = {rows, o->T, f->dim};
    wr_flowseq_encoding e =
        wr_flowseq_encode(f, fixed_ids(g, o->src, 1, o->S), fixed_length(g, o->S, 1));
    int32_t zero[4096] = {0};
    e.source.rows = wr_const(g, WR_I32, 1, &rows, zero);
    wr len = fixed_length(g, o->T, rows);
    wr z = wr_flowseq_generate(f, &e.source, wr_const(g, WR_F64, 3, dims, eps), len, NULL);
    wr logits = wr_flowseq_logits(f, wr_flowseq_decode(f, &e.source, z, len));
    test_compute(o->r->session, wr_log_softmax(logits), rows * o->T * VOCAB, to);
}

static double log_of(const double *logs, const int32_t *y, int32_t T) {
    double sum = 0;
    for (int32_t t = 0; t < T; t++)
        sum += logs[t * VOCAB + y[t]];
    return sum;
}

/* Sequence number i of WORDS^T. */
static void spell(int i, int32_t T, int32_t *y) {
    for (int32_t t = 0; t < T; t++, i /= WORDS)
        y[t] = WORD[i % WORDS];
}

static int sequences(int32_t T) {
    int n = 1;
    for (int32_t t = 0; t < T; t++)
        n *= WORDS;
    return n;
}

/* The likeliest of all sequences given the noise. */
static void best_sequence(const oracle *o, const double *eps, int32_t *y) {
    double logs[MAX_LEN * VOCAB], best = -INFINITY;
    word_logs(o, eps, 1, logs);
    for (int i = 0; i < sequences(o->T); i++) {
        int32_t x[MAX_LEN];
        spell(i, o->T, x);
        double p = log_of(logs, x, o->T);
        if (p > best) memcpy(y, x, sizeof *y * (size_t)o->T);
        if (p > best) best = p;
    }
}

/* log (1/K sum of the weights) of y, for the decoder's own samples of the posterior. */
static double log_weight(const oracle *o, const int32_t *y, int K, const double *noise) {
    const wr_flowseq *f = &o->r->f;
    wr_graph *g = wr_graph_new();
    assert_non_null(g);
    int64_t dims[3] = {K, o->T, f->dim};
    wr_flowseq_pairs in = {.src = fixed_ids(g, o->src, 1, o->S),
                           .src_len = fixed_length(g, o->S, 1),
                           .tgt = fixed_ids(g, y, 1, o->T),
                           .tgt_len = fixed_length(g, o->T, 1)};
    wr_flowseq_options w = {.samples = K, .noise = wr_const(g, WR_F64, 3, dims, noise)};
    wr_flowseq_losses l = wr_flowseq_losses_of(f, &in, &w);
    double out;
    test_compute(o->r->session, wr_logsumexp(l.weights), 1, &out);
    return out - log(K);
}

/* ---- candidates by enumeration ---- */

enum { CANDIDATES = 8 };

typedef struct candidate {
    int32_t T, y[MAX_LEN];
    size_t n; /* before the first end */
    double score, logp;
} candidate;

static void noise_of(const rig *r, const wr_flowseq_search_options *o, size_t sentence, int32_t T,
                     uint32_t sample, uint32_t draw, double *to) {
    wr__flowseq_key key = {o->seed, sentence, (uint32_t)T, sample, draw};
    memset(to, 0, sizeof *to * (size_t)T * (size_t)r->f.dim);
    bool zero =
        draw == 0 && (o->method == WR_RECIPE_ARGMAX || (o->method == WR_RECIPE_IWD && sample == 0));
    if (!zero) wr__flowseq_draw(r->d, to, 0, T, T, draw == 0 ? o->temperature : 1, &key);
}

static double iwd_logp(const oracle *o, const wr_flowseq_search_options *options, size_t sentence,
                       const candidate *c, uint32_t sample) {
    size_t each = (size_t)c->T * (size_t)o->r->f.dim;
    double *noise = malloc(sizeof *noise * each * (size_t)options->iwd_samples);
    assert_non_null(noise);
    for (int k = 0; k < options->iwd_samples; k++)
        noise_of(o->r, options, sentence, c->T, sample, 1 + (uint32_t)k, noise + (size_t)k * each);
    double logp = log_weight(o, c->y, options->iwd_samples, noise);
    free(noise);
    return logp;
}

/* The best of all candidates of a sentence, each found and scored by enumeration. */
static candidate best_candidate(const rig *r, const wr_flowseq_search_options *o,
                                const wr_sentence *src, size_t sentence) {
    int32_t length[2];
    double logp[2], eps[MAX_LEN * 16];
    wr_error err = {0};
    wr_flowseq_measuring m = {0};
    candidate best = {.score = -INFINITY}, seen[CANDIDATES];
    int n_seen = 0;
    assert_int_equal(wr_flowseq_lengths(r->d, src, 1, 2, &m, length, logp, &err), WR_OK);
    for (int l = 0; l < o->lengths && length[l] > 0; l++)
        for (uint32_t k = 0; k < (uint32_t)o->samples; k++) {
            oracle oracle = oracle_of(r, src, length[l]);
            candidate c = {.T = length[l], .score = logp[l], .logp = logp[l]};
            noise_of(r, o, sentence, c.T, k, 0, eps);
            best_sequence(&oracle, eps, c.y);
            c.n = wr__text_length(c.y, (size_t)c.T);
            if (o->method == WR_RECIPE_NPD) c.score = c.logp = test_judged(sentence, c.y, c.n);
            if (o->method == WR_RECIPE_IWD) {
                c.logp += iwd_logp(&oracle, o, sentence, &c, k);
                c.score = c.logp / c.T;
                bool known = false; /* the first of equal ones is weighed */
                for (int i = 0; i < n_seen; i++)
                    known = known || (seen[i].T == c.T &&
                                      memcmp(seen[i].y, c.y, sizeof *c.y * (size_t)c.T) == 0);
                seen[n_seen++] = c;
                if (known) continue;
            }
            if (c.score > best.score) best = c;
        }
    return best;
}

static void assert_enumerated(wr_recipe_decode_method method, uint64_t seed) {
    rig r = open_rig(toy(WR_F64, 8, FLOW), seed, 1, 0.3);
    wr_flowseq_search_options o = options_of(method);
    size_t calls = 0;
    wr_rescorer rescorer = {test_judge, &calls};
    if (method == WR_RECIPE_NPD) o.rescorer = &rescorer;
    if (method == WR_RECIPE_ARGMAX) o.lengths = o.samples = 1;
    wr_translations out = search(&r, sources(), SOURCES, &o);
    for (size_t i = 0; i < SOURCES; i++) {
        candidate best = best_candidate(&r, &o, &sources()[i], i);
        const wr_hypothesis *h = &out.hyp[i];
        assert_int_equal(out.count[i], 1);
        if (h->n != best.n || fabs(h->score - best.score) > 1e-9)
            fail_msg("sentence %zu: %zu words with %g, but enumeration has %zu with %g", i, h->n,
                     h->score, best.n, best.score);
        assert_memory_equal(h->id, best.y, sizeof *h->id * h->n);
        assert_true(fabs(h->logp - best.logp) < 1e-9);
    }
    assert_true(method != WR_RECIPE_NPD || calls > 0);
    wr_translations_free(&out);
    close_rig(&r);
}

static void test_argmax_is_the_likeliest(void **state) {
    (void)state;
    assert_enumerated(WR_RECIPE_ARGMAX, 1);
    assert_enumerated(WR_RECIPE_ARGMAX, 2);
}

static void test_npd_finds_the_best_candidate(void **state) {
    (void)state;
    assert_enumerated(WR_RECIPE_NPD, 1);
    assert_enumerated(WR_RECIPE_NPD, 3);
}

static void test_iwd_finds_the_best_candidate(void **state) {
    (void)state;
    assert_enumerated(WR_RECIPE_IWD, 1);
    assert_enumerated(WR_RECIPE_IWD, 4);
}

/* ---- the weights of iwd are the likelihood ---- */

/* Gauss-Hermite quadrature with 7 points for a standard normal variable. */
static const double POINT[7] = {-3.750439717725742, -2.366759410734541, -1.154405394739968, 0,
                                1.154405394739968,  2.366759410734541,  3.750439717725742};
static const double SHARE[7] = {0.000548268855972, 0.030757123967586, 0.240123178605013,
                                0.457142857142857, 0.240123178605013, 0.030757123967586,
                                0.000548268855972};

/* log p(y | T, x) of all 9 sequences of two words, z being four standard normal numbers. */
static void likelihoods(const oracle *o, double *to) {
    enum { ROWS = 7 * 7 * 7 * 7 };
    double *eps = malloc(sizeof *eps * ROWS * 4), *logs = malloc(sizeof *logs * ROWS * 2 * VOCAB);
    assert_non_null(eps);
    assert_non_null(logs);
    for (int i = 0; i < ROWS; i++)
        for (int k = 0, rest = i; k < 4; k++, rest /= 7)
            eps[i * 4 + k] = POINT[rest % 7];
    word_logs(o, eps, ROWS, logs);
    for (int j = 0; j < sequences(2); j++) {
        int32_t y[2];
        spell(j, 2, y);
        to[j] = 0;
        for (int i = 0; i < ROWS; i++) {
            double share = 1;
            for (int k = 0, rest = i; k < 4; k++, rest /= 7)
                share *= SHARE[rest % 7];
            to[j] += share * exp(log_of(logs + (size_t)i * 2 * VOCAB, y, 2));
        }
        to[j] = log(to[j]);
    }
    free(eps);
    free(logs);
}

static void test_weights_are_the_likelihood(void **state) {
    (void)state;
    enum { K = 3000 };
    rig r = open_rig(toy(WR_F64, 2, ""), 5, 1, 0.3);
    const wr_sentence *src = &sources()[1];
    oracle o = oracle_of(&r, src, 2);
    wr_flowseq_search_options options = options_of(WR_RECIPE_IWD);
    options.iwd_samples = K;
    double exact[9], *noise = malloc(sizeof *noise * K * 4);
    assert_non_null(noise);
    likelihoods(&o, exact);
    for (uint32_t k = 0; k < K; k++)
        noise_of(&r, &options, 0, 2, 0, 1 + k, noise + (size_t)k * 4);
    for (int j = 0; j < 9; j++) {
        int32_t y[2];
        spell(j, 2, y);
        double sampled = log_weight(&o, y, K, noise);
        if (fabs(sampled - exact[j]) > 0.1)
            fail_msg("sequence %d: %g by samples, %g by quadrature", j, sampled, exact[j]);
    }
    free(noise);
    close_rig(&r);
}

/* ---- lists ---- */

static void test_lists_tell_each_translation_once(void **state) {
    (void)state;
    static const wr_recipe_decode_method METHOD[] = {WR_RECIPE_NPD, WR_RECIPE_IWD};
    rig r = open_rig(toy(WR_F64, 8, FLOW), 2, 1, 0.3);
    for (int m = 0; m < 2; m++) {
        wr_flowseq_search_options o = options_of(METHOD[m]);
        o.samples = 12;
        o.nbest = 24;
        wr_translations out = search(&r, sources(), SOURCES, &o);
        size_t told = test_assert_lists(&out, 24);
        assert_in_range(told, SOURCES + 1, SOURCES * 24 - 1); /* some differ, some do not */
        o.temperature = 0;                                    /* one candidate for each length */
        wr_translations cold = search(&r, sources(), SOURCES, &o);
        for (size_t i = 0; i < SOURCES; i++)
            assert_in_range(cold.count[i], 1, 2);
        wr_translations_free(&cold);
        wr_translations_free(&out);
    }
    close_rig(&r);
}

static void test_doubles_are_not_judged(void **state) {
    (void)state;
    rig r = open_rig(toy(WR_F32, 8, FLOW), 2, 1, 0.3);
    size_t calls = 0;
    wr_rescorer rescorer = {test_judge, &calls};
    wr_flowseq_search_options o = options_of(WR_RECIPE_NPD);
    o.samples = 12;
    o.rescorer = &rescorer;
    wr_translations out = search(&r, sources(), SOURCES, &o);
    assert_in_range(calls, SOURCES, SOURCES * 24 - 1);
    wr_translations_free(&out);
    close_rig(&r);
}

/* ---- batches and threads ---- */

/* Products of few rows are summed in another order in f32, so that scores may differ by rounding.
 */
static void assert_no_change(wr_dtype t, double tolerance) {
    static const wr_recipe_decode_method METHOD[] = {WR_RECIPE_ARGMAX, WR_RECIPE_NPD,
                                                     WR_RECIPE_IWD};
    for (int m = 0; m < 3; m++) {
        rig r = open_rig(toy(t, 8, FLOW), 6, 1, 0.3), many = open_rig(toy(t, 8, FLOW), 6, 3, 0.3);
        wr_flowseq_search_options o = options_of(METHOD[m]);
        if (m > 0) o.nbest = 3;
        wr_translations out = search(&r, sources(), SOURCES, &o);
        wr_translations threads = search(&many, sources(), SOURCES, &o);
        test_assert_same_translations(&out, &threads, (test_tolerance){0});
        for (size_t tokens = 4; tokens < 400; tokens *= 3) {
            o.max_tokens = tokens;
            o.max_sentences = (int)(tokens / 4);
            wr_translations other = search(&r, sources(), SOURCES, &o);
            test_assert_same_translations(&out, &other, (test_tolerance){.relative = tolerance});
            wr_translations_free(&other);
        }
        wr_translations_free(&threads);
        wr_translations_free(&out);
        close_rig(&many);
        close_rig(&r);
    }
}

static void test_batches_and_threads_change_nothing(void **state) {
    (void)state;
    assert_no_change(WR_F64, 0);
    assert_no_change(WR_F32, 1e-6);
}

/* ---- losses, words and lengths of pairs ---- */

enum { PAIRS = 6 };

static void test_measures(void **state) {
    (void)state;
    static const int32_t y[] = {4, 1, 4, 4, 1, 4, 1};
    rig r = open_rig(toy(WR_F64, 8, FLOW), 8, 1, 0.3);
    wr_sentence tgt[PAIRS];
    for (size_t i = 0; i < PAIRS; i++)
        tgt[i] = (wr_sentence){.id = y, .n = i};
    wr_error err = {0};
    wr_flowseq_measuring all = {0}, few = {.max_tokens = 8};
    wr_flowseq_terms a[PAIRS], b[PAIRS];
    assert_int_equal(wr_flowseq_measure(r.d, sources(), tgt, PAIRS, &all, a, &err), WR_OK);
    assert_int_equal(wr_flowseq_measure(r.d, sources(), tgt, PAIRS, &few, b, &err), WR_OK);
    for (size_t i = 0; i < PAIRS; i++) {
        int32_t full[MAX_LEN], T = (int32_t)wr_flowseq_target_len(i, UNIT);
        double eps[MAX_LEN * 8] = {0};
        for (int32_t t = 0; t < T; t++)
            full[t] = (size_t)t < i ? y[t] : WR_EOS_ID;
        oracle o = oracle_of(&r, &sources()[i], T);
        double weight = log_weight(&o, full, 1, eps);
        assert_true(fabs(a[i].log_prior - a[i].recon - a[i].log_q - weight) < 1e-9);
        assert_int_equal(a[i].tokens, T);
        assert_true(a[i].length_nll > 0 && a[i].recon > 0);
        assert_true(a[i].recon == b[i].recon && a[i].log_prior == b[i].log_prior &&
                    a[i].logdet == b[i].logdet && a[i].length_nll == b[i].length_nll);
    }
    double error = -1, sum = 0;
    int32_t length[PAIRS];
    double logp[PAIRS];
    assert_int_equal(wr_flowseq_length_error(r.d, sources(), tgt, PAIRS, &all, &error, &err),
                     WR_OK);
    assert_int_equal(wr_flowseq_lengths(r.d, sources(), PAIRS, 1, &all, length, logp, &err), WR_OK);
    for (size_t i = 0; i < PAIRS; i++)
        sum += fabs(length[i] - (double)wr_flowseq_target_len(i, UNIT));
    assert_true(fabs(error - sum / PAIRS) < 1e-12);
    close_rig(&r);
}

static void test_reconstruction(void **state) {
    (void)state;
    static const int32_t y[] = {4, 1, 4, WR_EOS_ID};
    rig r = open_rig(toy(WR_F64, 8, FLOW), 8, 1, 0.3);
    wr_sentence tgt[2] = {{.id = y, .n = 3}, {.id = y, .n = 1}};
    wr_sentence whole[2] = {{.id = y, .n = 4}, {.id = y + 2, .n = 2}};
    wr_error err = {0};
    wr_flowseq_measuring plain = {0}, exact = {.exact = true};
    wr_translations cut = {0}, full = {0}, zero = {0};
    const wr_sentence *src = &sources()[1];
    assert_int_equal(wr_flowseq_reconstruct(r.d, src, tgt, 2, &plain, &cut, &err), WR_OK);
    assert_int_equal(wr_flowseq_reconstruct(r.d, src, whole, 2, &exact, &full, &err), WR_OK);
    assert_int_equal(wr_flowseq_decode_at(r.d, src, whole, 2, &exact, &zero, &err), WR_OK);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(full.hyp[i].n, whole[i].n);
        assert_int_equal(zero.hyp[i].n, whole[i].n);
        assert_true(cut.hyp[i].n <= 4);
        for (size_t k = 0; k < cut.hyp[i].n; k++)
            assert_true(cut.hyp[i].id[k] != WR_EOS_ID && cut.hyp[i].id[k] > WR_PAD_ID &&
                        cut.hyp[i].id[k] != WR_BOS_ID);
        for (size_t k = 0; k < full.hyp[i].n; k++)
            assert_in_range(full.hyp[i].id[k], 1, VOCAB - 1);
    }
    wr_translations_free(&cut);
    wr_translations_free(&full);
    wr_translations_free(&zero);
    close_rig(&r);
}

/* What was computed once is computed again when parameters have changed. */
static void test_changed_parameters_count(void **state) {
    (void)state;
    rig r = open_rig(toy(WR_F64, 8, FLOW), 9, 1, 0.3);
    wr_flowseq_measuring o = {0};
    wr_flowseq_terms before, after, again;
    wr_error err = {0};
    static const int32_t y[] = {4, 4};
    wr_sentence tgt = {.id = y, .n = 2};
    assert_int_equal(wr_flowseq_measure(r.d, sources(), &tgt, 1, &o, &before, &err), WR_OK);
    test_move(r.session, 0.1, 5);
    wr_flowseq_decoder_changed(r.d);
    assert_int_equal(wr_flowseq_measure(r.d, sources(), &tgt, 1, &o, &after, &err), WR_OK);
    wr_flowseq_decoder_free(r.d);
    r.d = NULL;
    assert_int_equal(wr_flowseq_decoder_new(&r.f, r.session, &r.d, &err), WR_OK);
    assert_int_equal(wr_flowseq_measure(r.d, sources(), &tgt, 1, &o, &again, &err), WR_OK);
    assert_true(before.logdet != after.logdet && before.log_q != after.log_q);
    assert_true(again.logdet == after.logdet && again.recon == after.recon);
    close_rig(&r);
}

/* ---- packing ---- */

static void test_packing(void **state) {
    (void)state;
    static const int32_t x[] = {5, 6, 7, 8, 9};
    wr_sentence src[2] = {{.id = x, .n = 3}, {.id = x, .n = 0}};
    wr_sentence tgt[2] = {{.id = x, .n = 4}, {.id = x, .n = 1}};
    wr_flowseq_packing o = {.unit = 4, .multiple = 3, .max_len = 12, .eos = 2};
    wr_flowseq_batch b = {0}, same = {0};
    wr_batch plain = {0};
    wr_error err = {0};
    assert_int_equal(wr_flowseq_batch_make(src, tgt, 2, &o, &b, &err), WR_OK);
    assert_int_equal(b.S, 6);
    assert_int_equal(b.T, 12); /* a multiple of 3 and 4 */
    static const int32_t SRC[12] = {5, 6, 7, 2, 0, 0, 2},
                         TGT[24] = {5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 5, 2, 2, 2};
    assert_memory_equal(b.src, SRC, sizeof SRC);
    assert_memory_equal(b.tgt, TGT, sizeof TGT);
    assert_int_equal(b.src_len[0] * 10 + b.src_len[1], 41);
    assert_int_equal(b.tgt_len[0] * 10 + b.tgt_len[1], 44);
    assert_int_equal(b.tgt_tokens, 8);
    wr_feed feed[WR_FLOWSEQ_FEEDS];
    assert_int_equal(wr_flowseq_feeds(&b, feed), 4);
    assert_int_equal(wr_batch_make(src, tgt, 2, 1, &plain, &err), WR_OK);
    assert_int_equal(wr_flowseq_batch_of(&plain, &o, &same, &err), WR_OK);
    assert_memory_equal(same.src, SRC, sizeof SRC);
    assert_memory_equal(same.tgt, TGT, sizeof TGT);
    tgt[1].n = 0; /* ends only */
    o.max_len = 4;
    assert_int_equal(wr_flowseq_batch_make(src, tgt, 2, &o, &b, &err), WR_OK);
    assert_int_equal(b.S * 100 + b.T * 10 + b.tgt_len[1], 444); /* not beyond max_len */
    wr_flowseq_batch_free(&b);
    wr_flowseq_batch_free(&same);
    wr_batch_free(&plain);
}

static void refused(const wr_flowseq_packing *o, size_t s, size_t t, const char *says) {
    static const int32_t x[] = {5, 6, 7, 8, 0, 9, 5, 6, 7, 8, 5, 5, 5, 5, 5, 5};
    wr_sentence src[2] = {{.id = x, .n = 1}, {.id = x, .n = s}};
    wr_sentence tgt[2] = {{.id = x, .n = 4}, {.id = x, .n = t}};
    wr_flowseq_batch b = {0};
    wr_error err = {0};
    assert_int_equal(wr_flowseq_batch_make(src, tgt, 2, o, &b, &err), WR_ERR_INPUT);
    if (strstr(err.text, says) == NULL) fail_msg("'%s' is not in: %s", says, err.text);
    if (strstr(err.text, "sentence 2") == NULL) fail_msg("no number in: %s", err.text);
    wr_flowseq_batch_free(&b);
}

static void test_packing_refuses(void **state) {
    (void)state;
    wr_flowseq_packing o = {.unit = 4, .max_len = 10, .eos = 2};
    refused(&o, 10, 4, "11 positions of the source");
    refused(&o, 3, 9, "12 positions of the target are more than the 8");
    o.exact = true;
    refused(&o, 3, 3, "multiple of 4");
    refused(&o, 0, 4, "source has 0 tokens");
    refused(&o, 6, 4, "token 5 of the source is 0");
    refused(&o, 3, 8, "token 5 of the target is 0");
}

/* ---- mistakes ---- */

static void refused_search(const rig *r, const wr_flowseq_search_options *o, const char *says) {
    wr_error err = {0};
    wr_translations out;
    wr_status status = wr_flowseq_search(r->d, sources(), SOURCES, o, &out, &err);
    test_assert_refused(status, &err, &out, says);
}

static void test_mistakes_are_named(void **state) {
    (void)state;
    rig r = open_rig(toy(WR_F32, 8, FLOW), 1, 1, 0.3);
    wr_flowseq_search_options fine = options_of(WR_RECIPE_NPD), o = fine;
    o.lengths = 5;
    refused_search(&r, &o, "5 length candidates are asked for, but a sentence has at most 4");
    o = fine;
    o.temperature = -0.5;
    refused_search(&r, &o, "temperature");
    o.temperature = NAN;
    refused_search(&r, &o, "temperature");
    o = fine;
    o.nbest = 9;
    refused_search(&r, &o, "9 translations of 2 x 4 candidates");
    o = fine;
    o.samples = 0;
    refused_search(&r, &o, "0 samples");
    o = fine;
    o.method = WR_RECIPE_BEAM;
    refused_search(&r, &o, "argmax, npd or iwd");
    int index = wr_session_find(r.session, "length.out.b");
    float bad[2 * RANGE + 1] = {NAN};
    wr_error err = {0};
    assert_true(index >= 0);
    assert_int_equal(wr_session_write(r.session, index, bad, &err), WR_OK);
    refused_search(&r, &fine, "not finite");
    close_rig(&r);
    wr_flowseq narrow = toy(WR_F32, 8, FLOW);
    wr_flowseq_decoder *d;
    narrow.length_range = UNIT - 2;
    assert_int_equal(wr_flowseq_decoder_new(&narrow, NULL, &d, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "length_range is 0"));
}

/* ---- no memory ---- */

static void test_no_memory(void **state) {
    (void)state;
    rig r = open_rig(toy(WR_F32, 8, "actnorm\ncoupling halves up add\n"), 6, 1, 0.3);
    wr_flowseq_search_options o = options_of(WR_RECIPE_IWD);
    wr_translations first = search(&r, sources(), 2, &o);
    for (long n = 1;; n++) {
        wr_error err = {0};
        wr_translations out = {0};
        wr_test_fail_allocation(n);
        wr_status status = wr_flowseq_search(r.d, sources(), 2, &o, &out, &err);
        if (!test_assert_survived(n, false, status, &err, &first, &out, (test_tolerance){0})) break;
    }
    wr_translations_free(&first);
    close_rig(&r);
}

/* ---- what is computed once ---- */

/* y = x (a b) + log a, the product and the logarithm being fixed. */
static wr fixed_graph(wr_graph *g) {
    wr_dim n = wr_sym(g, "N", 1, 8, 1);
    wr x = wr_input(g, "x", WR_F64, WR_DIMS(n, wr_n(2)));
    wr a = wr_param(g, "a", WR_F64, WR_DIMS(wr_n(2), wr_n(2)), ((wr_init){WR_INIT_CONSTANT, 2, 0}));
    wr b = wr_param(g, "b", WR_F64, WR_DIMS(wr_n(2), wr_n(2)), ((wr_init){WR_INIT_CONSTANT, 3, 0}));
    return wr_add(wr_matmul(x, wr_matmul(a, b)), wr_sum(wr_log(a), 0));
}

static void test_frozen_programs(void **state) {
    (void)state;
    wr_error err = {0};
    wr_session *s;
    wr_session_options so = {.threads = 1, .seed = 1};
    assert_int_equal(wr_session_new(&so, &s, &err), WR_OK);
    wr_graph *g = wr_graph_new();
    wr y = fixed_graph(g);
    wr_frozen f;
    assert_int_equal(wr_frozen_new(g, 1, &y, &f, &err), WR_OK);
    wr_graph_free(g);
    assert_non_null(f.once);
    const double x[2] = {1, 2};
    wr_feed feed = {.name = "x", .data = x, .rank = 2, .dim = {1, 2}};
    assert_int_equal(wr_session_run(s, f.once, 0, NULL, &err), WR_OK);
    assert_int_equal(wr_session_run(s, f.each, 1, &feed, &err), WR_OK);
    const double *out = wr_session_output(s, 0)->data;
    for (int i = 0; i < 2; i++)
        assert_true(fabs(out[i] - (36 + 2 * log(2))) < 1e-12);
    const wr_graph *each = wr_program_graph(f.each); /* neither product nor logarithm is left */
    for (uint32_t id = 1; id < wr_node_count(each); id++) {
        const wr_node *node = wr_node_at(each, id);
        bool live = wr_program_live(f.each)[id];
        assert_false(live && (node->op == &wr_op_param || node->op == &wr_op_log));
    }
    wr_frozen_free(&f, s);
    wr_session_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_argmax_is_the_likeliest),
        cmocka_unit_test(test_npd_finds_the_best_candidate),
        cmocka_unit_test(test_iwd_finds_the_best_candidate),
        cmocka_unit_test(test_weights_are_the_likelihood),
        cmocka_unit_test(test_lists_tell_each_translation_once),
        cmocka_unit_test(test_doubles_are_not_judged),
        cmocka_unit_test(test_batches_and_threads_change_nothing),
        cmocka_unit_test(test_measures),
        cmocka_unit_test(test_reconstruction),
        cmocka_unit_test(test_changed_parameters_count),
        cmocka_unit_test(test_packing),
        cmocka_unit_test(test_packing_refuses),
        cmocka_unit_test(test_mistakes_are_named),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_frozen_programs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
