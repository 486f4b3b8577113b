/* test_decode.c: cached steps compute what the whole decoder computes, and searching finds what an
 * exhaustive search finds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/random.h"
#include "helpers/alloc.h"
#include "models/search.h"
#include "ops/cache.h"
#include "ops/fuse.h"

enum { VOCAB = 6, DIM = 8, MAX_LEN = 24, WORDS = 3, LIMIT = 4, SEQUENCES = 1 + 3 + 9 + 27 };

/* The words that may be generated besides the end: unknown and two real ones. */
static const int32_t WORD[WORDS] = {WR_UNK_ID, 4, 5};

/* ---- a tiny random model ---- */

typedef struct rig {
    wr_transformer t;
    wr_session *session;
    wr_decoder *d;
} rig;

static wr_transformer tiny(wr_dtype dtype, wr_recipe_norm norm) {
    return (wr_transformer){.m = {.dim = DIM,
                                  .ffn = 16,
                                  .heads = 2,
                                  .encoder_layers = 2,
                                  .decoder_layers = 2,
                                  .norm = norm,
                                  .dropout = 0.3,
                                  .embeddings = WR_RECIPE_EMBED_SEPARATE,
                                  .max_len = MAX_LEN},
                            .src_vocab = 11,
                            .tgt_vocab = VOCAB,
                            .dtype = dtype,
                            .training = true};
}

static rig open_rig(wr_transformer t, uint64_t seed, int threads) {
    rig r = {.t = t};
    wr_error err = {0};
    wr_session_options o = {.threads = threads, .seed = seed};
    if (wr_session_new(&o, &r.session, &err) != WR_OK) fail_msg("%s", err.text);
    if (wr_decoder_new(&t, r.session, &r.d, &err) != WR_OK) fail_msg("%s", err.text);
    r.t.training = false;
    return r;
}

static void close_rig(rig *r) {
    wr_decoder_free(r->d);
    wr_session_free(r->session);
}

/* Sources of 0 to 9 words, alive until the next call. */
enum { SOURCES = 12 };
static const wr_sentence *sources(void) {
    static int32_t id[SOURCES][16];
    static wr_sentence s[SOURCES];
    for (size_t i = 0; i < SOURCES; i++) {
        s[i] = (wr_sentence){.id = id[i], .n = i * 7 % 10};
        for (size_t k = 0; k < s[i].n; k++)
            id[i][k] = (int32_t)(4 + (i * 5 + k * k + k) % 7);
    }
    return s;
}

static wr_search_options options_of(int beam, wr_recipe_normalisation normalisation) {
    return (wr_search_options){.beam = beam,
                               .nbest = 1,
                               .normalisation = normalisation,
                               .alpha = 0.8,
                               .max_len_extra = LIMIT,
                               .max_sentences = SOURCES,
                               .cache_bytes = 1 << 24};
}

static wr_translations search(const rig *r, const wr_sentence *src, size_t n,
                              const wr_search_options *o) {
    wr_error err = {0};
    wr_translations out;
    if (wr_search(r->d, src, n, o, &out, &err) != WR_OK) fail_msg("%s", err.text);
    assert_int_equal(out.n, n);
    return out;
}

static void assert_same(const wr_translations *a, const wr_translations *b, double tolerance) {
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        assert_int_equal(a->count[i], b->count[i]);
        for (size_t k = 0; k < a->count[i]; k++) {
            const wr_hypothesis *x = &a->hyp[i * a->nbest + k], *y = &b->hyp[i * b->nbest + k];
            assert_int_equal(x->n, y->n);
            if (x->n > 0) assert_memory_equal(x->id, y->id, x->n * sizeof *x->id);
            assert_true(fabs(x->score - y->score) <= tolerance);
            assert_true(fabs(x->logp - y->logp) <= tolerance);
        }
    }
}

/* ---- cached steps against the whole decoder ---- */

/* logits [B, T, V] of the whole decoder, and of the steps. */
typedef struct two_ways {
    rig r;
    wr_graph *whole, *begin, *step;
    wr_program *run_whole, *run_begin, *run_step;
} two_ways;

static wr_program *compile(wr_graph *g, wr output) {
    wr_error err = {0};
    wr_program *p;
    if (wr_program_new(g, 1, &output, wr_standard_passes(), &p, &err) != WR_OK)
        fail_msg("%s", err.text);
    return p;
}

static two_ways open_two_ways(wr_transformer t, int rows) {
    two_ways w = {.r = open_rig(t, 3, 1),
                  .whole = wr_graph_new(),
                  .begin = wr_graph_new(),
                  .step = wr_graph_new()};
    const wr_transformer *m = &w.r.t;
    wr_transformer_batch b = wr_transformer_inputs(w.whole, MAX_LEN);
    wr memory = wr_transformer_encode(m, b.src, b.src_len);
    wr h = wr_transformer_decode(m, memory, b.src_len, b.tgt_in, b.tgt_len);
    w.run_whole = compile(w.whole, wr_transformer_logits(m, h));
    wr_transformer_cache c = {rows, 12, 10};
    w.run_begin = compile(w.begin, wr_transformer_begin(m, &c, w.begin));
    w.run_step = compile(w.step, wr_transformer_step(m, &c, w.step));
    return w;
}

static void close_two_ways(two_ways *w) {
    wr_session_forget(w->r.session, w->run_whole);
    wr_session_forget(w->r.session, w->run_begin);
    wr_session_forget(w->r.session, w->run_step);
    wr_program_free(w->run_whole);
    wr_program_free(w->run_begin);
    wr_program_free(w->run_step);
    wr_graph_free(w->whole);
    wr_graph_free(w->begin);
    wr_graph_free(w->step);
    close_rig(&w->r);
}

static wr_feed feed_1(const char *name, const int32_t *data, int64_t n) {
    return (wr_feed){.name = name, .data = data, .rank = 1, .dim = {n}};
}

static wr_feed feed_2(const char *name, const int32_t *data, int64_t n, int64_t m) {
    return (wr_feed){.name = name, .data = data, .rank = 2, .dim = {n, m}};
}

static void run(wr_session *s, wr_program *p, int n, const wr_feed *feeds) {
    wr_error err = {0};
    if (wr_session_run(s, p, n, feeds, &err) != WR_OK) fail_msg("%s", err.text);
}

/* Logits of the last of T positions of n prefixes, by the whole decoder. */
static void whole_logits(two_ways *w, const int32_t *src, const int32_t *src_len, int64_t n,
                         int64_t S, const int32_t *prefix, int64_t stride, int64_t T, double *out) {
    int32_t tgt[64], len[8];
    for (int64_t b = 0; b < n; b++) {
        len[b] = (int32_t)T;
        memcpy(tgt + b * T, prefix + b * stride, sizeof *tgt * (size_t)T);
    }
    wr_feed feeds[] = {feed_2("src", src, n, S), feed_1("src_len", src_len, n),
                       feed_2("tgt_in", tgt, n, T), feed_1("tgt_len", len, n)};
    run(w->r.session, w->run_whole, 4, feeds);
    const wr_tensor *x = wr_session_output(w->r.session, 0);
    for (int64_t b = 0; b < n; b++)
        for (int64_t v = 0; v < VOCAB; v++)
            out[b * VOCAB + v] = wr_real_value(x, (b * T + T - 1) * VOCAB + v);
}

/* Hypotheses move between rows, are dropped and doubled; every step's logits are compared. */
static void compare_steps(wr_dtype dtype, wr_recipe_norm norm, double tolerance) {
    enum { S = 6, STEPS = 7, ROWS = 4 };
    /* which row of the step before each row continues; its length is the number of rows */
    static const int32_t FROM[STEPS][ROWS] = {{0, 1, 2, -1},  {0, 1, 2, 0},  {3, 1, 1, 2},
                                              {0, 1, 2, 3},   {2, 3, 0, -1}, {1, 0, -1, -1},
                                              {1, -1, -1, -1}};
    static const int32_t SRC[3 * S] = {4, 5, 6, 7, 8, 3, 9, 10, 3, 0, 0, 0, 6, 3, 0, 0, 0, 0};
    static const int32_t SRC_LEN[3] = {6, 3, 2};
    two_ways w = open_two_ways(tiny(dtype, norm), ROWS);
    int32_t number[ROWS] = {0, 1, 2, 3}, owner[ROWS] = {0, 1, 2}, prefix[ROWS * 8] = {0};
    wr_feed begin[] = {feed_2("src", SRC, 3, S), feed_1("src_len", SRC_LEN, 3),
                       feed_1("rows", number, 3)};
    run(w.r.session, w.run_begin, 3, begin);
    for (int32_t t = 0; t < STEPS; t++) {
        int32_t before[ROWS * 8], owned[ROWS], token[ROWS], len[ROWS], self_len[ROWS], n = 0;
        int32_t src[ROWS * S];
        memcpy(before, prefix, sizeof before);
        memcpy(owned, owner, sizeof owned);
        for (; n < ROWS && FROM[t][n] >= 0; n++) {
            int32_t from = FROM[t][n];
            memcpy(prefix + n * 8, before + from * 8, sizeof *prefix * 8);
            owner[n] = owned[from];
            token[n] = prefix[n * 8 + t] = t == 0 ? WR_BOS_ID : WORD[(t * t + n) % WORDS];
            len[n] = SRC_LEN[owner[n]];
            self_len[n] = t + 1;
            memcpy(src + n * S, SRC + owner[n] * S, sizeof *src * S);
        }
        double expected[ROWS * VOCAB];
        whole_logits(&w, src, len, n, S, prefix, 8, t + 1, expected);
        wr_feed step[] = {feed_2("token", token, n, 1), feed_1("position", &t, 1),
                          feed_1("rows", FROM[t], n),   feed_1("src_rows", FROM[t], n),
                          feed_1("src_len", len, n),    feed_1("self_len", self_len, n)};
        run(w.r.session, w.run_step, 6, step);
        const wr_tensor *x = wr_session_output(w.r.session, 0);
        assert_int_equal(x->n, n * VOCAB);
        for (int64_t i = 0; i < x->n; i++)
            if (!(fabs(wr_real_value(x, i) - expected[i]) <= tolerance * (1 + fabs(expected[i]))))
                fail_msg("step %d, logit %d: %g, not %g", t, (int)i, wr_real_value(x, i),
                         expected[i]);
    }
    close_two_ways(&w);
}

static void test_steps_equal_the_whole_decoder(void **state) {
    (void)state;
    compare_steps(WR_F64, WR_RECIPE_NORM_PRE, 1e-12);
    compare_steps(WR_F64, WR_RECIPE_NORM_POST, 1e-12);
    compare_steps(WR_F32, WR_RECIPE_NORM_PRE, 1e-5);
    compare_steps(WR_F32, WR_RECIPE_NORM_POST, 1e-5);
}

/* ---- brute force ---- */

/* All sequences of at most LIMIT - 1 words, with log p from forced scoring. */
typedef struct sequence {
    int32_t id[LIMIT];
    size_t n;
    double logp, score;
} sequence;

static void all_sequences(const rig *r, wr_sentence src, sequence *all) {
    size_t n = 0;
    all[n++] = (sequence){.n = 0};
    for (size_t i = 0; n < SEQUENCES; i++)
        for (int k = 0; k < WORDS; k++) {
            all[n] = all[i];
            all[n].id[all[n].n++] = WORD[k];
            n++;
        }
    wr_sentence x[SEQUENCES], y[SEQUENCES];
    double nll[SEQUENCES];
    for (size_t i = 0; i < SEQUENCES; i++) {
        x[i] = src;
        y[i] = (wr_sentence){.id = all[i].id, .n = all[i].n};
    }
    wr_error err = {0};
    wr_decoder_scoring o = {.max_tokens = 50};
    if (wr_decoder_score(r->d, x, y, SEQUENCES, &o, nll, &err) != WR_OK) fail_msg("%s", err.text);
    for (size_t i = 0; i < SEQUENCES; i++)
        all[i].logp = -nll[i];
}

static int best_first(const void *a, const void *b) {
    const sequence *x = a, *y = b;
    return x->score > y->score ? -1 : x->score < y->score;
}

/* Written anew from the definition. */
static double normalised(wr_recipe_normalisation kind, double alpha, double logp, double length) {
    if (kind == WR_RECIPE_BY_NOTHING) return logp;
    return logp / pow(kind == WR_RECIPE_BY_LENGTH ? length : (5 + length) / 6, alpha);
}

static void compare_exhaustive(const rig *r, wr_sentence src, wr_recipe_normalisation kind,
                               double alpha, double tolerance) {
    sequence all[SEQUENCES];
    all_sequences(r, src, all);
    for (size_t i = 0; i < SEQUENCES; i++)
        all[i].score = normalised(kind, alpha, all[i].logp, (double)all[i].n + 1);
    qsort(all, SEQUENCES, sizeof *all, best_first);
    wr_search_options o = options_of(VOCAB * VOCAB * VOCAB, kind);
    o.nbest = SEQUENCES;
    o.alpha = alpha;
    wr_translations out = search(r, &src, 1, &o);
    assert_int_equal(out.count[0], SEQUENCES);
    for (size_t i = 0; i < SEQUENCES; i++) {
        const wr_hypothesis *h = &out.hyp[i];
        assert_true(fabs(h->score - all[i].score) <= tolerance);
        if (tolerance > 1e-9) continue; /* near ties may change places in single precision */
        assert_true(fabs(h->logp - all[i].logp) <= tolerance);
        assert_int_equal(h->n, all[i].n);
        if (h->n > 0) assert_memory_equal(h->id, all[i].id, h->n * sizeof *h->id);
    }
    wr_translations_free(&out);
}

static void test_wide_beam_is_exhaustive(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        rig r = open_rig(tiny(WR_F64, WR_RECIPE_NORM_PRE), seed, 1);
        wr_sentence src = sources()[seed];
        compare_exhaustive(&r, src, WR_RECIPE_BY_NOTHING, 1, 1e-10);
        compare_exhaustive(&r, src, WR_RECIPE_BY_PENALTY, 0.6, 1e-10);
        compare_exhaustive(&r, src, WR_RECIPE_BY_PENALTY, 3, 1e-10);
        compare_exhaustive(&r, src, WR_RECIPE_BY_LENGTH, 1, 1e-10);
        close_rig(&r);
    }
    rig r = open_rig(tiny(WR_F32, WR_RECIPE_NORM_POST), 9, 1);
    compare_exhaustive(&r, sources()[3], WR_RECIPE_BY_PENALTY, 0.6, 1e-4);
    close_rig(&r);
}

/* ---- greedy ---- */

/* The best allowed word after each prefix, by the whole decoder. */
static size_t greedy(two_ways *w, wr_sentence src, int limit, int32_t *out) {
    int32_t x[32], prefix[32] = {WR_BOS_ID}, S = (int32_t)src.n + 1;
    memcpy(x, src.id, src.n * sizeof *x);
    x[src.n] = WR_EOS_ID;
    for (int32_t t = 0; t + 1 < limit; t++) {
        double logit[VOCAB];
        whole_logits(w, x, &S, 1, S, prefix, 32, t + 1, logit);
        int32_t best = WR_UNK_ID;
        for (int32_t v = WR_UNK_ID; v < VOCAB; v++)
            if (v != WR_BOS_ID && logit[v] > logit[best]) best = v;
        if (best == WR_EOS_ID) return (size_t)t;
        out[t] = prefix[t + 1] = best;
    }
    return (size_t)limit - 1;
}

static void test_beam_of_one_is_greedy(void **state) {
    (void)state;
    enum { LONG = 9 };
    two_ways w = open_two_ways(tiny(WR_F64, WR_RECIPE_NORM_PRE), 4);
    wr_recipe_normalisation kinds[] = {WR_RECIPE_BY_PENALTY, WR_RECIPE_BY_LENGTH,
                                       WR_RECIPE_BY_NOTHING};
    rig r = open_rig(tiny(WR_F64, WR_RECIPE_NORM_PRE), 3, 1);
    size_t ended_early = 0;
    for (int k = 0; k < 3; k++) {
        wr_search_options o = options_of(1, kinds[k]);
        o.max_len_extra = LONG;
        wr_translations out = search(&r, sources(), SOURCES, &o);
        for (size_t i = 0; i < SOURCES; i++) {
            int32_t expected[LONG];
            size_t n = greedy(&w, sources()[i], LONG, expected);
            assert_int_equal(out.hyp[i].n, n);
            if (n > 0) assert_memory_equal(out.hyp[i].id, expected, n * sizeof *expected);
            ended_early += n < LONG - 1;
        }
        wr_translations_free(&out);
    }
    assert_true(ended_early > 0); /* else the test would not have seen an end */
    close_rig(&r);
    close_two_ways(&w);
}

/* ---- batches ---- */

/* Sentences together, one by one, and with little memory; they finish at different times. */
static void test_batches_change_nothing(void **state) {
    (void)state;
    const int beams[] = {1, 2, 5};
    for (int k = 0; k < 3; k++) {
        rig r = open_rig(tiny(WR_F64, WR_RECIPE_NORM_PRE), 5, 1);
        wr_search_options o = options_of(beams[k], WR_RECIPE_BY_PENALTY);
        o.nbest = beams[k];
        o.max_len_factor = 1.5;
        o.max_len_extra = 2;
        wr_translations together = search(&r, sources(), SOURCES, &o);
        o.max_sentences = 5;
        wr_translations some = search(&r, sources(), SOURCES, &o);
        o.cache_bytes = 1;
        wr_translations single = search(&r, sources(), SOURCES, &o);
        assert_same(&together, &single, 1e-11);
        assert_same(&together, &some, 1e-11);
        for (size_t i = 0; i < SOURCES; i++) {
            wr_translations one = search(&r, sources() + i, 1, &o);
            assert_int_equal(one.hyp[0].n, together.hyp[i * together.nbest].n);
            assert_true(fabs(one.hyp[0].score - together.hyp[i * together.nbest].score) < 1e-11);
            wr_translations_free(&one);
        }
        wr_translations_free(&together);
        wr_translations_free(&some);
        wr_translations_free(&single);
        close_rig(&r);
    }
}

static void test_threads_change_nothing(void **state) {
    (void)state;
    wr_search_options o = options_of(4, WR_RECIPE_BY_PENALTY);
    rig a = open_rig(tiny(WR_F32, WR_RECIPE_NORM_PRE), 5, 1);
    rig b = open_rig(tiny(WR_F32, WR_RECIPE_NORM_PRE), 5, 3);
    wr_translations x = search(&a, sources(), SOURCES, &o), y = search(&b, sources(), SOURCES, &o);
    assert_same(&x, &y, 0);
    wr_translations_free(&x);
    wr_translations_free(&y);
    close_rig(&a);
    close_rig(&b);
}

/* Stopping when nothing better can come gives what going on to the end gives. */
static void test_stopping_loses_nothing(void **state) {
    (void)state;
    wr_recipe_normalisation kinds[] = {WR_RECIPE_BY_PENALTY, WR_RECIPE_BY_LENGTH,
                                       WR_RECIPE_BY_NOTHING};
    for (uint64_t seed = 1; seed <= 4; seed++) {
        rig r = open_rig(tiny(WR_F64, WR_RECIPE_NORM_PRE), seed, 1);
        for (int k = 0; k < 9; k++) {
            wr_search_options o = options_of(6, kinds[k / 3]);
            o.nbest = 1 + k % 3;
            o.max_len_extra = 12;
            o.alpha = 0.5 * (double)seed;
            wr_translations early = search(&r, sources(), SOURCES, &o);
            o.exhaust = true;
            wr_translations late = search(&r, sources(), SOURCES, &o);
            assert_same(&early, &late, 0);
            wr_translations_free(&early);
            wr_translations_free(&late);
        }
        close_rig(&r);
    }
}

/* ---- results ---- */

static void test_scores_are_those_of_the_model(void **state) {
    (void)state;
    rig r = open_rig(tiny(WR_F64, WR_RECIPE_NORM_POST), 2, 2);
    wr_search_options o = options_of(3, WR_RECIPE_BY_LENGTH);
    o.nbest = 3;
    o.max_len_extra = 7;
    wr_translations out = search(&r, sources(), SOURCES, &o);
    wr_sentence x[SOURCES * 3], y[SOURCES * 3];
    double nll[SOURCES * 3], logp[SOURCES * 3];
    size_t n = 0;
    for (size_t i = 0; i < SOURCES; i++) {
        assert_true(out.count[i] >= 1);
        for (size_t k = 0; k < out.count[i]; k++, n++) {
            const wr_hypothesis *h = &out.hyp[i * 3 + k];
            x[n] = sources()[i];
            y[n] = (wr_sentence){.id = h->id, .n = h->n};
            logp[n] = h->logp;
            assert_true(h->n <= 6);
            assert_true(k == 0 || h->score <= h[-1].score);
            assert_true(h->score ==
                        normalised(WR_RECIPE_BY_LENGTH, 0.8, h->logp, (double)h->n + 1));
            for (size_t j = 0; j < h->n; j++)
                assert_true(h->id[j] == WR_UNK_ID || h->id[j] >= WR_SPECIAL_IDS);
        }
    }
    wr_error err = {0};
    assert_int_equal(wr_decoder_score(r.d, x, y, n, &(wr_decoder_scoring){0}, nll, &err), WR_OK);
    for (size_t i = 0; i < n; i++)
        assert_true(fabs(nll[i] + logp[i]) < 1e-11);
    wr_translations_free(&out);
    close_rig(&r);
}

typedef struct seen {
    size_t calls, done, total;
} seen;

static void note_progress(void *context, size_t done, size_t total) {
    seen *s = context;
    assert_true(done > s->done);
    *s = (seen){s->calls + 1, done, total};
}

static void test_odd_sources(void **state) {
    (void)state;
    rig r = open_rig(tiny(WR_F32, WR_RECIPE_NORM_PRE), 4, 1);
    int32_t many[100];
    for (int i = 0; i < 100; i++)
        many[i] = 4 + i % 6;
    wr_sentence src[] = {{.id = many, .n = 0}, {.id = many, .n = 100}, {.id = many, .n = 23}};
    seen s = {0};
    wr_search_options o = options_of(2, WR_RECIPE_BY_PENALTY);
    o.max_len_factor = 2;
    o.max_sentences = 2;
    o.progress = note_progress;
    o.context = &s;
    wr_translations out = search(&r, src, 3, &o);
    assert_int_equal(out.truncated, 1);
    assert_int_equal(out.hyp[1].n, out.hyp[2].n); /* the cut one equals the longest allowed one */
    assert_true(out.hyp[1].score == out.hyp[2].score);
    assert_true(out.hyp[0].n <= LIMIT - 1);
    for (int i = 1; i < 3; i++)
        assert_true(out.hyp[i].n < MAX_LEN);
    assert_int_equal(s.calls, 2);
    assert_int_equal(s.done, 3);
    assert_int_equal(s.total, 3);
    wr_translations_free(&out);
    out = search(&r, src, 0, &o);
    wr_translations_free(&out);
    close_rig(&r);
}

/* ---- mistakes ---- */

static void expect_error(const rig *r, wr_sentence src, wr_search_options o, const char *part) {
    wr_error err = {0};
    wr_translations out;
    assert_int_equal(wr_search(r->d, &src, 1, &o, &out, &err), WR_ERR_INPUT);
    if (strstr(err.text, part) == NULL) fail_msg("'%s' does not say '%s'", err.text, part);
    assert_null(out.hyp);
}

static void poison_parameter(rig *r) {
    wr_error err = {0};
    int at = wr_session_find(r->session, "decoder.norm.gain");
    assert_true(at >= 0);
    float bad[DIM];
    for (int i = 0; i < DIM; i++)
        bad[i] = NAN;
    assert_int_equal(wr_session_write(r->session, at, bad, &err), WR_OK);
}

static void test_mistakes_are_named(void **state) {
    (void)state;
    rig r = open_rig(tiny(WR_F32, WR_RECIPE_NORM_PRE), 4, 1);
    wr_sentence src = sources()[1];
    wr_search_options good = options_of(2, WR_RECIPE_BY_PENALTY), bad = good;
    bad.nbest = 3;
    expect_error(&r, src, bad, "3 translations of a beam of 2");
    bad = good;
    bad.beam = 0;
    expect_error(&r, src, bad, "beam");
    bad = good;
    bad.alpha = NAN;
    expect_error(&r, src, bad, "alpha");
    bad = good;
    bad.max_sentences = 0;
    expect_error(&r, src, bad, "max_sentences");
    bad = good;
    bad.max_len_factor = -1;
    expect_error(&r, src, bad, "longest output");
    int32_t foreign[] = {4, 11};
    expect_error(&r, (wr_sentence){.id = foreign, .n = 2}, good, "11");
    int32_t many[MAX_LEN] = {4};
    double nll;
    wr_error err = {0};
    wr_sentence too_long = {.id = many, .n = MAX_LEN};
    assert_int_equal(
        wr_decoder_score(r.d, &src, &too_long, 1, &(wr_decoder_scoring){0}, &nll, &err),
        WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "sentence 1: 7 source and 24 target tokens"));
    wr_translations out = search(&r, &src, 1, &good); /* mistakes leave the decoder usable */
    wr_translations_free(&out);
    poison_parameter(&r);
    expect_error(&r, src, good, "not finite");
    close_rig(&r);
}

static void test_cache_rows_are_checked(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr_dim B = wr_sym(g, "B", 1, 100, 1);
    wr cache = wr_state(g, "cache", WR_F32, WR_DIMS(wr_n(3), wr_n(5), wr_n(2)),
                        ((wr_init){WR_INIT_ZERO, 0, 0}));
    wr rows = wr_input(g, "rows", WR_I32, WR_DIMS(B));
    wr_program *p = compile(g, wr_cache_select(cache, rows));
    rig r = open_rig(tiny(WR_F32, WR_RECIPE_NORM_PRE), 1, 1);
    const int32_t wrong[][4] = {{0, 3, 0, 0}, {-1, 0, 0, 0}, {0, 1, 2, 0}};
    const int64_t n[] = {2, 1, 4};
    const char *says[] = {"row 3", "row -1", "4 hypotheses"};
    for (int i = 0; i < 3; i++) {
        wr_error err = {0};
        wr_feed feed = feed_1("rows", wrong[i], n[i]);
        assert_int_equal(wr_session_run(r.session, p, 1, &feed, &err), WR_ERR_INPUT);
        if (strstr(err.text, says[i]) == NULL) fail_msg("'%s'", err.text);
    }
    wr_session_forget(r.session, p);
    wr_program_free(p);
    wr_graph_free(g);
    close_rig(&r);
}

/* Every allocation of a search fails once; the decoder stays usable. `fresh`: the decoder is a new
 * one each time, so that compiling and planning fail, too: then a graph may call it a mistake, or
 * do without what only serves messages. */
static void fail_allocations(bool fresh) {
    wr_transformer t = tiny(WR_F32, WR_RECIPE_NORM_PRE);
    t.m.encoder_layers = t.m.decoder_layers = 1;
    rig r = open_rig(t, 6, 1);
    wr_search_options o = options_of(2, WR_RECIPE_BY_PENALTY);
    o.max_len_extra = 3;
    wr_translations first = search(&r, sources() + 1, 2, &o);
    for (long n = 1;; n++) {
        wr_error err = {0};
        wr_translations out = {0};
        if (fresh) wr_decoder_free(r.d);
        wr_test_fail_allocation(n);
        wr_status status = fresh ? wr_decoder_new(&t, r.session, &r.d, &err) : WR_OK;
        if (status == WR_OK) status = wr_search(r.d, sources() + 1, 2, &o, &out, &err);
        bool hit = wr_test_allocation_failed();
        bool legal = hit && !fresh ? status == WR_ERR_MEMORY : hit || status == WR_OK;
        if (!legal) fail_msg("allocation %ld: status %d, %s", n, status, err.text);
        if (status == WR_OK) assert_same(&first, &out, 0);
        if (status != WR_OK) assert_null(out.hyp);
        wr_translations_free(&out);
        if (!hit) break;
    }
    wr_translations_free(&first);
    close_rig(&r);
}

static void test_no_memory(void **state) {
    (void)state;
    fail_allocations(false);
    fail_allocations(true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_equal_the_whole_decoder),
        cmocka_unit_test(test_wide_beam_is_exhaustive),
        cmocka_unit_test(test_beam_of_one_is_greedy),
        cmocka_unit_test(test_batches_change_nothing),
        cmocka_unit_test(test_threads_change_nothing),
        cmocka_unit_test(test_stopping_loses_nothing),
        cmocka_unit_test(test_scores_are_those_of_the_model),
        cmocka_unit_test(test_odd_sources),
        cmocka_unit_test(test_mistakes_are_named),
        cmocka_unit_test(test_cache_rows_are_checked),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
