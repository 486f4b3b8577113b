/* test_draft.c: whatever is drafted, greedy search's tokens come out; good drafts save passes. */
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
#include "models/draft.h"

enum { VOCAB = 9, SOURCES = 12, EXTRA = 5 };

/* ---- a tiny random model ---- */

static wr_transformer tiny(wr_dtype dtype, wr_recipe_norm norm, int layers) {
    return test_transformer(dtype, norm, layers, VOCAB);
}

/* Sources of 0 to 9 words. */
static const wr_sentence *sources(void) {
    static test_sentences s;
    return test_sentences_by_rule(
        &s, (test_rule){.n = SOURCES, .step = 7, .lengths = 10, .turn = 5, .words = 7});
}

static wr_search_options options_of(int max_sentences) {
    return (wr_search_options){.beam = 1,
                               .nbest = 1,
                               .normalisation = WR_RECIPE_BY_PENALTY,
                               .alpha = 0.8,
                               .max_len_factor = 1.5,
                               .max_len_extra = EXTRA,
                               .max_sentences = max_sentences,
                               .cache_bytes = 1 << 24};
}

/* ---- the accepted prefix ---- */

static void test_accepted_prefix(void **state) {
    (void)state;
    static const int32_t proposal[] = {7, 3, 9, 2}, verified[] = {7, 3, 4, 2};
    assert_int_equal(wr_accepted_prefix(proposal, verified, 4), 2); /* E18 of the vectors */
    assert_int_equal(verified[2], 4);                               /* where decoding goes on */
    assert_int_equal(wr_accepted_prefix(proposal, verified, 2), 2);
    assert_int_equal(wr_accepted_prefix(proposal, verified, 0), 0);
    assert_int_equal(wr_accepted_prefix(proposal, proposal, 4), 4);
    assert_int_equal(wr_accepted_prefix(proposal + 2, verified + 2, 2), 0);
}

/* ---- a pass against steps ---- */

enum { ROWS = 3, LENGTH = 9, TOLD = 4 };

/* What follows each position of each hypothesis. */
typedef struct told {
    double value[ROWS][LENGTH][TOLD], total[ROWS][LENGTH], end[ROWS][LENGTH];
    int32_t id[ROWS][LENGTH][TOLD];
} told;

static void tell(told *t, int b, int p, const wr_decoder_next *next, int64_t row) {
    for (int64_t k = 0; k < TOLD; k++) {
        t->value[b][p][k] = wr_real_value(next->value, row * TOLD + k);
        t->id[b][p][k] = ((const int32_t *)next->id->data)[row * TOLD + k];
    }
    t->total[b][p] = wr_real_value(next->total, row);
    t->end[b][p] = wr_real_value(next->end, row);
}

static void assert_told(const told *a, const told *b, int h, int from, int to, double tolerance) {
    for (int p = from; p < to; p++) {
        assert_true(fabs(a->total[h][p] - b->total[h][p]) <= tolerance);
        assert_true(fabs(a->end[h][p] - b->end[h][p]) <= tolerance);
        for (int k = 0; k < TOLD; k++) {
            assert_true(fabs(a->value[h][p][k] - b->value[h][p][k]) <= tolerance);
            assert_int_equal(a->id[h][p][k], b->id[h][p][k]);
        }
    }
}

static void begin(const test_rig *r, int32_t src_len[ROWS]) {
    wr_error err = {0};
    wr_sentence src[ROWS] = {sources()[1], sources()[2], sources()[4]};
    wr_batch batch = {0};
    if (wr_batch_make(src, NULL, ROWS, 8, &batch, &err) != WR_OK) fail_msg("%s", err.text);
    wr_decoder_size need = {.rows = ROWS, .src_len = batch.S, .tgt_len = LENGTH, .best = TOLD};
    if (wr_decoder_begin(r->d, &need, &batch, &err) != WR_OK) fail_msg("%s", err.text);
    memcpy(src_len, batch.src_len, sizeof *src_len * ROWS);
    wr_batch_free(&batch);
}

static const int32_t NUMBER[ROWS] = {0, 1, 2};

static void by_steps(const test_rig *r, int32_t word[ROWS][LENGTH], told *t) {
    int32_t src_len[ROWS], token[ROWS];
    begin(r, src_len);
    for (int p = 0; p < LENGTH; p++) {
        wr_error err = {0};
        wr_decoder_next next;
        for (int b = 0; b < ROWS; b++)
            token[b] = word[b][p];
        wr_decoder_feed feed = {ROWS, p, token, NUMBER, NUMBER, src_len};
        if (wr_decoder_step(r->d, &feed, &next, &err) != WR_OK) fail_msg("%s", err.text);
        for (int b = 0; b < ROWS; b++)
            tell(t, b, p, &next, b);
    }
}

/* A pass over positions past[k] .. past[k] + count[k] - 1 of hypotheses who[k]. */
typedef struct window {
    int n;
    int32_t who[ROWS], past[ROWS], count[ROWS], row[ROWS];
} window;

static void run_window(const test_rig *r, const window *w, int32_t word[ROWS][LENGTH],
                       const int32_t *src_len, told *t) {
    int32_t token[ROWS * LENGTH], len[ROWS], m = 0;
    for (int i = 0; i < w->n; i++) {
        len[i] = src_len[w->who[i]];
        memcpy(token + m, &word[w->who[i]][w->past[i]], sizeof *token * (size_t)w->count[i]);
        m += w->count[i];
    }
    wr_decoder_tokens feed = {w->n, token, w->past, w->count, w->row, w->row, len};
    wr_decoder_next next;
    wr_error err = {0};
    if (wr_decoder_verify(r->d, &feed, &next, &err) != WR_OK) fail_msg("%s", err.text);
    int64_t row = 0;
    for (int i = 0; i < w->n; i++)
        for (int p = w->past[i]; p < w->past[i] + w->count[i]; p++)
            tell(t, w->who[i], p, &next, row++);
}

/* Hypotheses at different positions, some of which go back, change rows or leave. */
static void compare_windows(wr_dtype dtype, wr_recipe_norm norm, double tolerance) {
    static const window WINDOWS[] = {
        {3, {0, 1, 2}, {0, 0, 0}, {4, 1, 6}, {0, 1, 2}},
        {3, {0, 1, 2}, {2, 1, 3}, {5, 2, 1}, {0, 1, 2}}, /* 0 and 2 go back */
        {2, {2, 0}, {4, 5}, {5, 1}, {2, 0}},             /* 1 leaves, rows change */
        {1, {0}, {6}, {3}, {1}},
    };
    test_rig r = test_rig_open(tiny(dtype, norm, 2), 3, 1);
    int32_t word[ROWS][LENGTH], wrong[ROWS][LENGTH], src_len[ROWS];
    for (int b = 0; b < ROWS; b++)
        for (int p = 0; p < LENGTH; p++) {
            word[b][p] = p == 0 ? WR_BOS_ID : 4 + (b * 3 + p * p) % 5;
            wrong[b][p] = 4 + (b + p) % 5;
        }
    told steps, windows;
    by_steps(&r, word, &steps);
    begin(&r, src_len);
    /* What is not kept of a pass does not matter. */
    window first = WINDOWS[0];
    first.count[1] = LENGTH;
    run_window(&r, &first, wrong, src_len, &windows);
    for (size_t i = 0; i < sizeof WINDOWS / sizeof *WINDOWS; i++) {
        const window *w = &WINDOWS[i];
        run_window(&r, w, word, src_len, &windows);
        for (int k = 0; k < w->n; k++)
            assert_told(&steps, &windows, w->who[k], w->past[k], w->past[k] + w->count[k],
                        tolerance);
    }
    test_rig_close(&r);
}

static void test_a_pass_is_many_steps(void **state) {
    (void)state;
    compare_windows(WR_F64, WR_RECIPE_NORM_PRE, 1e-12);
    compare_windows(WR_F64, WR_RECIPE_NORM_POST, 1e-12);
    compare_windows(WR_F32, WR_RECIPE_NORM_PRE, 1e-5);
}

/* ---- drafts ---- */

enum { MANY = 40 };

/* Drafts of n sentences. */
typedef struct drafts {
    size_t n;
    int32_t (*id)[MANY];
    wr_sentence *sentence;
} drafts;

static drafts new_drafts(size_t n) {
    drafts d = {n, calloc(n, sizeof *d.id), calloc(n, sizeof *d.sentence)};
    assert_true(d.id != NULL && d.sentence != NULL);
    return d;
}

static void free_drafts(drafts *d) {
    free(d->id);
    free(d->sentence);
}

typedef enum kind { RIGHT, EMPTY, RANDOM, REPLACED, INSERTED, LEFT_OUT, LONG, ENDED, KINDS } kind;

/* A draft of a kind for the translation h; `at` chooses the place of the mistake. */
static size_t write_draft(kind k, const wr_hypothesis *h, uint64_t at, int32_t *id) {
    size_t n = h->n, where = n == 0 ? 0 : (size_t)(at % n);
    if (k == EMPTY) return 0;
    if (k == RANDOM) {
        for (size_t i = 0; i < MANY; i++)
            id[i] = (int32_t)((at + i * i * 3 + i) % VOCAB); /* padding and begin, too */
        return (size_t)(at % MANY);
    }
    if (n > 0) memcpy(id, h->id, n * sizeof *id);
    if (k == REPLACED && n > 0) id[where] = id[where] == 4 ? 5 : 4;
    if (k == INSERTED) {
        memmove(id + where + 1, id + where, (n - where) * sizeof *id);
        id[where] = 6;
        n++;
    }
    if (k == LEFT_OUT && n > 0) memmove(id + where, id + where + 1, (--n - where) * sizeof *id);
    if (k == ENDED && n > 0) id[where] = WR_EOS_ID;
    for (; k == LONG && n < MANY; n++)
        id[n] = 4 + (int32_t)(n % 5);
    return n;
}

static drafts make_drafts(kind k, const wr_translations *right) {
    drafts d = new_drafts(right->n);
    for (size_t i = 0; i < d.n; i++)
        d.sentence[i] =
            (wr_sentence){.id = d.id[i], .n = write_draft(k, &right->hyp[i], i * 7 + 3, d.id[i])};
    return d;
}

static wr_draft_stats compare(const test_rig *r, const wr_sentence *src, const drafts *d,
                              const wr_search_options *o, const wr_translations *right,
                              double tolerance) {
    wr_error err = {0};
    wr_draft_stats stats;
    wr_translations out;
    if (wr_draft_search(r->d, src, d->sentence, d->n, o, &stats, &out, &err) != WR_OK)
        fail_msg("%s", err.text);
    test_assert_same_translations(right, &out, (test_tolerance){.absolute = tolerance});
    size_t tokens = 0;
    for (size_t i = 0; i < right->n; i++) {
        assert_int_equal(out.count[i], 1);
        tokens += right->hyp[i].n + 1;
    }
    assert_int_equal(stats.sentences, right->n);
    assert_int_equal(stats.tokens, tokens);
    assert_true(stats.accepted <= stats.drafted);
    if (stats.redone == 0) assert_true(stats.passes >= d->n && stats.passes <= tokens);
    wr_translations_free(&out);
    return stats;
}

/* Passes for right drafts: the first looks at 7 words and tells one more, the second at 16. */
static size_t fewest_passes(const wr_translations *right) {
    size_t n = right->n;
    for (size_t i = 0; i < right->n; i++)
        n += right->hyp[i].n > 7;
    return n;
}

/* What the statistics of a kind of draft must say. */
static void assert_stats(kind k, const wr_translations *right, const wr_draft_stats *s) {
    if (s->redone > 0 || s->tokens == s->sentences) return; /* every output is empty */
    if (k == RIGHT || k == LONG) assert_int_equal(s->passes, fewest_passes(right));
    if (k == RIGHT) assert_int_equal(s->accepted, s->drafted);
    if (k == RIGHT) assert_int_equal(s->drafted, s->tokens - s->sentences);
    if (k == EMPTY) assert_int_equal(s->passes, s->tokens);
    if (k == EMPTY) assert_int_equal(s->drafted, 0);
    if (k == REPLACED) assert_true(s->passes <= 4 * s->sentences && s->accepted < s->drafted);
    if (k == ENDED) assert_true(s->passes > s->sentences);
}

static void compare_kinds(wr_transformer t, uint64_t seed, int threads, double tolerance) {
    test_rig r = test_rig_open(t, seed, threads);
    const int together[] = {1, 5, SOURCES};
    for (int b = 0; b < 3; b++) {
        wr_search_options o = options_of(together[b]);
        wr_translations right = test_rig_search(&r, sources(), SOURCES, &o);
        for (kind k = 0; k < KINDS; k++) {
            drafts d = make_drafts(k, &right);
            wr_draft_stats s = compare(&r, sources(), &d, &o, &right, tolerance);
            if (t.dtype == WR_F64) assert_int_equal(s.redone, 0);
            assert_stats(k, &right, &s);
            free_drafts(&d);
        }
        wr_translations_free(&right);
    }
    test_rig_close(&r);
}

static void test_drafts_change_nothing(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        compare_kinds(tiny(WR_F64, WR_RECIPE_NORM_PRE, 2), seed, 1, 1e-11);
        compare_kinds(tiny(WR_F64, WR_RECIPE_NORM_POST, 1), seed, 2, 1e-11);
        compare_kinds(tiny(WR_F32, WR_RECIPE_NORM_PRE, 1), seed, 1, 1e-4);
    }
}

/* Outputs end by themselves in some models and by force in others: the tests above see both. */
static void test_both_ways_to_end_are_seen(void **state) {
    (void)state;
    size_t forced = 0, own = 0;
    wr_search_options o = options_of(SOURCES);
    for (uint64_t seed = 1; seed <= 5; seed++) {
        test_rig r = test_rig_open(tiny(WR_F64, WR_RECIPE_NORM_PRE, 2), seed, 1);
        wr_translations right = test_rig_search(&r, sources(), SOURCES, &o);
        for (size_t i = 0; i < SOURCES; i++) {
            size_t limit = (size_t)(1.5 * (double)sources()[i].n) + EXTRA;
            if (right.hyp[i].n + 1 == limit)
                forced++;
            else
                own++;
        }
        wr_translations_free(&right);
        test_rig_close(&r);
    }
    assert_true(forced > 0 && own > 0);
}

/* More sentences than a pass has room for long drafts; and outputs of one token, the end. */
static void test_extreme_sizes(void **state) {
    (void)state;
    enum { N = 720 };
    test_rig r = test_rig_open(tiny(WR_F64, WR_RECIPE_NORM_PRE, 1), 2, 1);
    wr_sentence src[N];
    for (size_t i = 0; i < N; i++)
        src[i] = sources()[i % SOURCES];
    wr_search_options o = options_of(N);
    wr_translations right = test_rig_search(&r, src, N, &o);
    drafts d = make_drafts(RIGHT, &right);
    wr_draft_stats s = compare(&r, src, &d, &o, &right, 1e-11);
    assert_true(s.passes > N && s.passes < s.tokens); /* a word each and the next one */
    assert_int_equal(s.redone, 0);
    free_drafts(&d);
    wr_translations_free(&right);
    o.max_len_factor = 0;
    o.max_len_extra = 1;
    right = test_rig_search(&r, sources(), SOURCES, &o);
    d = make_drafts(RANDOM, &right);
    s = compare(&r, sources(), &d, &o, &right, 1e-11);
    assert_int_equal(s.tokens, SOURCES);
    assert_int_equal(s.passes, SOURCES);
    free_drafts(&d);
    wr_translations_free(&right);
    test_rig_close(&r);
}

/* ---- doubt ---- */

/* Each real word has a twin with the same readout. */
static void make_twins(const test_rig *r) {
    wr_error err = {0};
    int at = wr_session_find(r->session, "readout");
    double readout[VOCAB][TEST_DIM];
    assert_true(at >= 0);
    assert_int_equal(wr_session_read(r->session, at, readout, &err), WR_OK);
    memcpy(readout[5], readout[4], sizeof *readout);
    memcpy(readout[7], readout[6], sizeof *readout);
    memcpy(readout[8], readout[WR_EOS_ID], sizeof *readout);
    assert_int_equal(wr_session_write(r->session, at, readout, &err), WR_OK);
}

static void test_ties_are_left_to_greedy(void **state) {
    (void)state;
    size_t redone = 0;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        test_rig r = test_rig_open(tiny(WR_F64, WR_RECIPE_NORM_PRE, 1), seed, 1);
        wr_search_options o = options_of(4);
        wr_translations out = test_rig_search(&r, sources(), 1, &o);
        wr_translations_free(&out);
        make_twins(&r);
        wr_translations right = test_rig_search(&r, sources(), SOURCES, &o);
        for (kind k = 0; k < KINDS; k++) {
            drafts d = make_drafts(k, &right);
            for (size_t i = 0; i < d.n; i++) /* of twins, the one that greedy never takes */
                for (size_t j = 0; j < d.sentence[i].n; j++)
                    if (d.id[i][j] == 4 || d.id[i][j] == 6) d.id[i][j]++;
            redone += compare(&r, sources(), &d, &o, &right, 1e-11).redone;
            free_drafts(&d);
        }
        wr_translations_free(&right);
        test_rig_close(&r);
    }
    assert_true(redone > 0);
}

/* ---- mistakes ---- */

static void test_progress_and_long_sources(void **state) {
    (void)state;
    test_rig r = test_rig_open(tiny(WR_F64, WR_RECIPE_NORM_PRE, 1), 4, 1);
    int32_t many[100];
    for (int i = 0; i < 100; i++)
        many[i] = 4 + i % 6;
    wr_sentence src[] = {{.id = many, .n = 0}, {.id = many, .n = 100}, {.id = many, .n = 23}};
    wr_search_options o = options_of(2);
    wr_translations right = test_rig_search(&r, src, 3, &o);
    assert_int_equal(right.truncated, 1);
    test_progress s = {0};
    o.progress = test_note_progress;
    o.context = &s;
    drafts d = make_drafts(REPLACED, &right);
    compare(&r, src, &d, &o, &right, 1e-11);
    test_assert_progress(&s, 2, 3);
    free_drafts(&d);
    wr_error err = {0};
    wr_translations out;
    assert_int_equal(wr_draft_search(r.d, src, NULL, 0, &o, NULL, &out, &err), WR_OK);
    wr_translations_free(&out);
    wr_translations_free(&right);
    test_rig_close(&r);
}

static void expect_error(const test_rig *r, wr_sentence draft, wr_search_options o,
                         const char *part) {
    wr_error err = {0};
    wr_translations out;
    wr_sentence src = sources()[1];
    wr_status status = wr_draft_search(r->d, &src, &draft, 1, &o, NULL, &out, &err);
    test_assert_refused(status, &err, &out, part);
}

static void test_mistakes_are_named(void **state) {
    (void)state;
    test_rig r = test_rig_open(tiny(WR_F64, WR_RECIPE_NORM_PRE, 1), 4, 1);
    static const int32_t id[] = {4, VOCAB, 4, -1};
    wr_search_options good = options_of(2), bad = good;
    bad.beam = 2;
    expect_error(&r, (wr_sentence){.id = id, .n = 1}, bad, "the beam is 2");
    bad = good;
    bad.max_sentences = 0;
    expect_error(&r, (wr_sentence){.id = id, .n = 1}, bad, "max_sentences");
    expect_error(&r, (wr_sentence){.id = id, .n = 2}, good, "draft 1: token 9 is outside");
    expect_error(&r, (wr_sentence){.id = id + 2, .n = 2}, good, "draft 1: token -1 is outside");
    wr_error err = {0};
    wr_decoder_next next;
    const int32_t zero = 0, long_one = TEST_MAX_LEN + 1;
    wr_decoder_tokens feed = {1, id, &zero, &long_one, &zero, &zero, &long_one};
    assert_int_equal(wr_decoder_verify(r.d, &feed, &next, &err), WR_ERR_LIBRARY);
    wr_translations right = test_rig_search(&r, sources() + 1, 1, &good);
    drafts d = make_drafts(REPLACED, &right); /* mistakes leave the decoder usable */
    compare(&r, sources() + 1, &d, &good, &right, 1e-11);
    free_drafts(&d);
    wr_translations_free(&right);
    double nan[TEST_DIM];
    for (int i = 0; i < TEST_DIM; i++)
        nan[i] = NAN;
    int at = wr_session_find(r.session, "decoder.norm.gain");
    assert_int_equal(wr_session_write(r.session, at, nan, &err), WR_OK);
    expect_error(&r, (wr_sentence){.id = id, .n = 1}, good,
                 "sentence 1: the model's output is not finite");
    test_rig_close(&r);
}

/* Every allocation fails once; `fresh`: compiling and planning, too, see test_decode.c. */
static void fail_allocations(bool fresh, kind k) {
    wr_transformer t = tiny(WR_F64, WR_RECIPE_NORM_PRE, 1);
    test_rig r = test_rig_open(t, 6, 1);
    wr_search_options o = options_of(2);
    wr_translations right = test_rig_search(&r, sources() + 1, 2, &o);
    drafts d = make_drafts(k, &right);
    compare(&r, sources() + 1, &d, &o, &right, 1e-11);
    for (long n = 1;; n++) {
        wr_error err = {0};
        wr_translations out = {0};
        if (fresh) wr_decoder_free(r.d);
        wr_test_fail_allocation(n);
        wr_status status = fresh ? wr_decoder_new(&t, r.session, &r.d, &err) : WR_OK;
        if (status == WR_OK)
            status = wr_draft_search(r.d, sources() + 1, d.sentence, 2, &o, NULL, &out, &err);
        if (!test_assert_survived(n, fresh, status, &err, &right, &out,
                                  (test_tolerance){.absolute = 1e-11}))
            break;
    }
    free_drafts(&d);
    wr_translations_free(&right);
    test_rig_close(&r);
}

static void test_no_memory(void **state) {
    (void)state;
    fail_allocations(false, REPLACED);
    fail_allocations(true, RIGHT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted_prefix),
        cmocka_unit_test(test_a_pass_is_many_steps),
        cmocka_unit_test(test_drafts_change_nothing),
        cmocka_unit_test(test_both_ways_to_end_are_seen),
        cmocka_unit_test(test_extreme_sizes),
        cmocka_unit_test(test_ties_are_left_to_greedy),
        cmocka_unit_test(test_progress_and_long_sources),
        cmocka_unit_test(test_mistakes_are_named),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
