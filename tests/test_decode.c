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

#include "helpers/alloc.h"
#include "helpers/decoding.h"
#include "ops/cache.h"

enum { VOCAB = 6, WORDS = 3, LIMIT = 4, SEQUENCES = 1 + 3 + 9 + 27 };

/* The words that may be generated besides the end: unknown and two real ones. */
static const int32_t WORD[WORDS] = {WR_UNK_ID, 4, 5};

/* ---- a tiny random model ---- */

static wr_transformer tiny(wr_dtype dtype, wr_recipe_norm norm) {
    return test_transformer(dtype, norm, 2, VOCAB);
}

/* Sources of 0 to 9 words. */
enum { SOURCES = 12 };
static const wr_sentence *sources(void) {
    static test_sentences s;
    return test_sentences_by_rule(
        &s, (test_rule){.n = SOURCES, .step = 7, .lengths = 10, .turn = 5, .words = 7});
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

/* ---- cached steps against the whole decoder ---- */

/* logits [B, T, V] of the whole decoder, and of the steps. */
typedef struct two_ways {
    test_rig r;
    wr_graph *whole, *begin, *step;
    wr_program *run_whole, *run_begin, *run_step;
} two_ways;

static two_ways open_two_ways(wr_transformer t, int rows) {
    two_ways w = {.r = test_rig_open(t, 3, 1),
                  .whole = wr_graph_new(),
                  .begin = wr_graph_new(),
                  .step = wr_graph_new()};
    const wr_transformer *m = &w.r.t;
    wr_transformer_batch b = wr_transformer_inputs(w.whole, TEST_MAX_LEN);
    wr memory = wr_transformer_encode(m, b.src, b.src_len);
    wr h = wr_transformer_decode(m, memory, b.src_len, b.tgt_in, b.tgt_len);
    w.run_whole = test_build(w.whole, 1, (wr[]){wr_transformer_logits(m, h)});
    wr_transformer_cache c = {rows, 12, 10};
    w.run_begin = test_build(w.begin, 1, (wr[]){wr_transformer_begin(m, &c, w.begin)});
    w.run_step = test_build(w.step, 1, (wr[]){wr_transformer_step(m, &c, w.step)});
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
    test_rig_close(&w->r);
}

static wr_feed feed_1(const char *name, const int32_t *data, int64_t n) {
    return (wr_feed){.name = name, .data = data, .rank = 1, .dim = {n}};
}

static wr_feed feed_2(const char *name, const int32_t *data, int64_t n, int64_t m) {
    return (wr_feed){.name = name, .data = data, .rank = 2, .dim = {n, m}};
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
    test_run(w->r.session, w->run_whole, 4, feeds);
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
    test_run(w.r.session, w.run_begin, 3, begin);
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
        test_run(w.r.session, w.run_step, 6, step);
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

static void all_sequences(const test_rig *r, wr_sentence src, sequence *all) {
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

static void compare_exhaustive(const test_rig *r, wr_sentence src, wr_recipe_normalisation kind,
                               double alpha, double tolerance) {
    sequence all[SEQUENCES];
    all_sequences(r, src, all);
    for (size_t i = 0; i < SEQUENCES; i++)
        all[i].score = normalised(kind, alpha, all[i].logp, (double)all[i].n + 1);
    qsort(all, SEQUENCES, sizeof *all, best_first);
    wr_search_options o = options_of(VOCAB * VOCAB * VOCAB, kind);
    o.nbest = SEQUENCES;
    o.alpha = alpha;
    wr_translations out = test_rig_search(r, &src, 1, &o);
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
        test_rig r = test_rig_open(tiny(WR_F64, WR_RECIPE_NORM_PRE), seed, 1);
        wr_sentence src = sources()[seed];
        compare_exhaustive(&r, src, WR_RECIPE_BY_NOTHING, 1, 1e-10);
        compare_exhaustive(&r, src, WR_RECIPE_BY_PENALTY, 0.6, 1e-10);
        compare_exhaustive(&r, src, WR_RECIPE_BY_PENALTY, 3, 1e-10);
        compare_exhaustive(&r, src, WR_RECIPE_BY_LENGTH, 1, 1e-10);
        test_rig_close(&r);
    }
    test_rig r = test_rig_open(tiny(WR_F32, WR_RECIPE_NORM_POST), 9, 1);
    compare_exhaustive(&r, sources()[3], WR_RECIPE_BY_PENALTY, 0.6, 1e-4);
    test_rig_close(&r);
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
    test_rig r = test_rig_open(tiny(WR_F64, WR_RECIPE_NORM_PRE), 3, 1);
    size_t ended_early = 0;
    for (int k = 0; k < 3; k++) {
        wr_search_options o = options_of(1, kinds[k]);
        o.max_len_extra = LONG;
        wr_translations out = test_rig_search(&r, sources(), SOURCES, &o);
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
    test_rig_close(&r);
    close_two_ways(&w);
}

/* ---- batches ---- */

/* Sentences together, one by one, and with little memory; they finish at different times. */
static void test_batches_change_nothing(void **state) {
    (void)state;
    const int beams[] = {1, 2, 5};
    for (int k = 0; k < 3; k++) {
        test_rig r = test_rig_open(tiny(WR_F64, WR_RECIPE_NORM_PRE), 5, 1);
        wr_search_options o = options_of(beams[k], WR_RECIPE_BY_PENALTY);
        o.nbest = beams[k];
        o.max_len_factor = 1.5;
        o.max_len_extra = 2;
        wr_translations together = test_rig_search(&r, sources(), SOURCES, &o);
        o.max_sentences = 5;
        wr_translations some = test_rig_search(&r, sources(), SOURCES, &o);
        o.cache_bytes = 1;
        wr_translations single = test_rig_search(&r, sources(), SOURCES, &o);
        test_assert_same_translations(&together, &single, (test_tolerance){.absolute = 1e-11});
        test_assert_same_translations(&together, &some, (test_tolerance){.absolute = 1e-11});
        for (size_t i = 0; i < SOURCES; i++) {
            wr_translations one = test_rig_search(&r, sources() + i, 1, &o);
            assert_int_equal(one.hyp[0].n, together.hyp[i * together.nbest].n);
            assert_true(fabs(one.hyp[0].score - together.hyp[i * together.nbest].score) < 1e-11);
            wr_translations_free(&one);
        }
        wr_translations_free(&together);
        wr_translations_free(&some);
        wr_translations_free(&single);
        test_rig_close(&r);
    }
}

static void test_threads_change_nothing(void **state) {
    (void)state;
    wr_search_options o = options_of(4, WR_RECIPE_BY_PENALTY);
    test_rig a = test_rig_open(tiny(WR_F32, WR_RECIPE_NORM_PRE), 5, 1);
    test_rig b = test_rig_open(tiny(WR_F32, WR_RECIPE_NORM_PRE), 5, 3);
    wr_translations x = test_rig_search(&a, sources(), SOURCES, &o),
                    y = test_rig_search(&b, sources(), SOURCES, &o);
    test_assert_same_translations(&x, &y, (test_tolerance){0});
    wr_translations_free(&x);
    wr_translations_free(&y);
    test_rig_close(&a);
    test_rig_close(&b);
}

/* Stopping when nothing better can come gives what going on to the end gives. */
static void test_stopping_loses_nothing(void **state) {
    (void)state;
    wr_recipe_normalisation kinds[] = {WR_RECIPE_BY_PENALTY, WR_RECIPE_BY_LENGTH,
                                       WR_RECIPE_BY_NOTHING};
    for (uint64_t seed = 1; seed <= 4; seed++) {
        test_rig r = test_rig_open(tiny(WR_F64, WR_RECIPE_NORM_PRE), seed, 1);
        for (int k = 0; k < 9; k++) {
            wr_search_options o = options_of(6, kinds[k / 3]);
            o.nbest = 1 + k % 3;
            o.max_len_extra = 12;
            o.alpha = 0.5 * (double)seed;
            wr_translations early = test_rig_search(&r, sources(), SOURCES, &o);
            o.exhaust = true;
            wr_translations late = test_rig_search(&r, sources(), SOURCES, &o);
            test_assert_same_translations(&early, &late, (test_tolerance){0});
            wr_translations_free(&early);
            wr_translations_free(&late);
        }
        test_rig_close(&r);
    }
}

/* ---- results ---- */

static void test_scores_are_those_of_the_model(void **state) {
    (void)state;
    test_rig r = test_rig_open(tiny(WR_F64, WR_RECIPE_NORM_POST), 2, 2);
    wr_search_options o = options_of(3, WR_RECIPE_BY_LENGTH);
    o.nbest = 3;
    o.max_len_extra = 7;
    wr_translations out = test_rig_search(&r, sources(), SOURCES, &o);
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
    test_rig_close(&r);
}

static void test_odd_sources(void **state) {
    (void)state;
    test_rig r = test_rig_open(tiny(WR_F32, WR_RECIPE_NORM_PRE), 4, 1);
    int32_t many[100];
    for (int i = 0; i < 100; i++)
        many[i] = 4 + i % 6;
    wr_sentence src[] = {{.id = many, .n = 0}, {.id = many, .n = 100}, {.id = many, .n = 23}};
    test_progress s = {0};
    wr_search_options o = options_of(2, WR_RECIPE_BY_PENALTY);
    o.max_len_factor = 2;
    o.max_sentences = 2;
    o.progress = test_note_progress;
    o.context = &s;
    wr_translations out = test_rig_search(&r, src, 3, &o);
    assert_int_equal(out.truncated, 1);
    assert_int_equal(out.hyp[1].n, out.hyp[2].n); /* the cut one equals the longest allowed one */
    assert_true(out.hyp[1].score == out.hyp[2].score);
    assert_true(out.hyp[0].n <= LIMIT - 1);
    for (int i = 1; i < 3; i++)
        assert_true(out.hyp[i].n < TEST_MAX_LEN);
    test_assert_progress(&s, 2, 3);
    wr_translations_free(&out);
    out = test_rig_search(&r, src, 0, &o);
    wr_translations_free(&out);
    test_rig_close(&r);
}

/* ---- mistakes ---- */

static void expect_error(const test_rig *r, wr_sentence src, wr_search_options o,
                         const char *part) {
    wr_error err = {0};
    wr_translations out;
    wr_status status = wr_search(r->d, &src, 1, &o, &out, &err);
    test_assert_refused(status, &err, &out, part);
}

static void test_mistakes_are_named(void **state) {
    (void)state;
    test_rig r = test_rig_open(tiny(WR_F32, WR_RECIPE_NORM_PRE), 4, 1);
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
    int32_t many[TEST_MAX_LEN] = {4};
    double nll;
    wr_error err = {0};
    wr_sentence too_long = {.id = many, .n = TEST_MAX_LEN};
    assert_int_equal(
        wr_decoder_score(r.d, &src, &too_long, 1, &(wr_decoder_scoring){0}, &nll, &err),
        WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "sentence 1: 7 source and 24 target tokens"));
    wr_translations out =
        test_rig_search(&r, &src, 1, &good); /* mistakes leave the decoder usable */
    wr_translations_free(&out);
    test_rig_poison(&r);
    expect_error(&r, src, good, "not finite");
    test_rig_close(&r);
}

static void test_cache_rows_are_checked(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr_dim B = wr_sym(g, "B", 1, 100, 1);
    wr cache = wr_state(g, "cache", WR_F32, WR_DIMS(wr_n(3), wr_n(5), wr_n(2)),
                        ((wr_init){WR_INIT_ZERO, 0, 0}));
    wr rows = wr_input(g, "rows", WR_I32, WR_DIMS(B));
    wr_program *p = test_build(g, 1, (wr[]){wr_cache_select(cache, rows)});
    test_rig r = test_rig_open(tiny(WR_F32, WR_RECIPE_NORM_PRE), 1, 1);
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
    test_rig_close(&r);
}

/* Every allocation of a search fails once; the decoder stays usable. `fresh`: the decoder is a new
 * one each time, so that compiling and planning fail, too: then a graph may call it a mistake, or
 * do without what only serves messages. */
static void fail_allocations(bool fresh) {
    wr_transformer t = tiny(WR_F32, WR_RECIPE_NORM_PRE);
    t.m.encoder_layers = t.m.decoder_layers = 1;
    test_rig r = test_rig_open(t, 6, 1);
    wr_search_options o = options_of(2, WR_RECIPE_BY_PENALTY);
    o.max_len_extra = 3;
    wr_translations first = test_rig_search(&r, sources() + 1, 2, &o);
    for (long n = 1;; n++) {
        wr_error err = {0};
        wr_translations out = {0};
        if (fresh) wr_decoder_free(r.d);
        wr_test_fail_allocation(n);
        wr_status status = fresh ? wr_decoder_new(&t, r.session, &r.d, &err) : WR_OK;
        if (status == WR_OK) status = wr_search(r.d, sources() + 1, 2, &o, &out, &err);
        if (!test_assert_survived(n, fresh, status, &err, &first, &out, (test_tolerance){0})) break;
    }
    wr_translations_free(&first);
    test_rig_close(&r);
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
