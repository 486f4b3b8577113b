/* test_nat_reveal.c: which words the decoder is given in training: how many, which, how often. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/subword.h"
#include "graph/session.h"
#include "models/nat_reveal.h"
#include "ops/fuse.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { V = 5 };

static wr_nat model(wr_recipe_framing framing) {
    return (wr_nat){.tgt_vocab = V, .framing = framing, .dtype = WR_F64};
}

/* log p of the worked example, rows t of words 0 .. 4; 0 is the blank. */
static const double LP[4][V] = {{-1.977979, -0.677979, -1.877979, -2.577979, -2.077979},
                                {-2.050806, -1.650806, -1.850806, -0.850806, -2.350806},
                                {-1.615501, -2.315501, -1.015501, -1.515501, -2.115501},
                                {-2.036682, -1.636682, -1.936682, -1.736682, -1.036682}};
static const int32_t SAID[4] = {1, 3, 2, 4}, Y4[4] = {1, 2, 3, 4};

/* ---- how many ---- */

static void test_masked_counts(void **state) {
    (void)state;
    static const struct {
        wr_recipe_masking masking;
        int len, specials, count;
        double u;
    } WANT[] = {
        {WR_RECIPE_MASKING_UNIFORM, 4, 0, 1, 0},
        {WR_RECIPE_MASKING_UNIFORM, 4, 0, 3, 0.5},
        {WR_RECIPE_MASKING_UNIFORM, 4, 0, 4, 0.999999},
        {WR_RECIPE_MASKING_FAIRSEQ, 6, 2, 3, 0.74},
        {WR_RECIPE_MASKING_FAIRSEQ, 6, 2, 4, 0.76},
        {WR_RECIPE_MASKING_MASK_PREDICT, 4, 0, 1, 0},
        {WR_RECIPE_MASKING_MASK_PREDICT, 4, 0, 3, 0.99},
        {WR_RECIPE_MASKING_MASK_PREDICT, 1, 0, 1, 0.9},
        {WR_RECIPE_MASKING_MPLE, 10, 0, 8, 0.29},
        {WR_RECIPE_MASKING_MPLE, 10, 0, 10, 0},
        {WR_RECIPE_MASKING_FIXED, 10, 0, 8, 0.99},
        {WR_RECIPE_MASKING_FIXED, 4, 0, 4, 0.5},
        {WR_RECIPE_MASKING_UNIFORM, 2, 2, 0, 0.5},
    };
    for (size_t i = 0; i < sizeof WANT / sizeof WANT[0]; i++) {
        wr_nat_revealing o = {.masking = WANT[i].masking, .visible = 0.2};
        int n = wr_nat_masked_count(&o, WANT[i].len, WANT[i].specials, WANT[i].u);
        if (n != WANT[i].count) fail_msg("row %zu: %d, not %d", i, n, WANT[i].count);
    }
}

static int glanced(wr_recipe_glancing by, double share, const int32_t *said, const int32_t *tgt) {
    int32_t row[8];
    wr_nat_revealing o = {.glancing = by, .glance_from = share, .glance_to = share};
    return wr_nat_glanced_count(&o, said, tgt, 4, 0, row);
}

static void test_glanced_counts(void **state) {
    (void)state;
    static const int32_t SHIFTED[4] = {2, 3, 4, 4};
    assert_int_equal(glanced(WR_RECIPE_GLANCE_HAMMING, 0.5, SAID, Y4), 1);
    assert_int_equal(glanced(WR_RECIPE_GLANCE_HAMMING, 1, SAID, Y4), 2);
    assert_int_equal(glanced(WR_RECIPE_GLANCE_LEVENSHTEIN, 1, SAID, Y4), 2);
    assert_int_equal(glanced(WR_RECIPE_GLANCE_HAMMING, 1, SHIFTED, Y4), 3);
    assert_int_equal(glanced(WR_RECIPE_GLANCE_LEVENSHTEIN, 1, SHIFTED, Y4), 2);
    assert_int_equal(glanced(WR_RECIPE_GLANCE_P_REF, 1, SHIFTED, Y4), 3);
    assert_int_equal(glanced(WR_RECIPE_GLANCE_FIXED, 0.5, Y4, Y4), 2);
    int32_t row[8];
    wr_nat_revealing o = {.glancing = WR_RECIPE_GLANCE_FIXED,
                          .glance_from = 0.5,
                          .glance_to = 0.3,
                          .glance_updates = 300000};
    static const int32_t LONG[100] = {0};
    static const int WANT[][2] = {{0, 50}, {75000, 45}, {150000, 40}, {300000, 30}, {600000, 30}};
    for (int i = 0; i < 5; i++) {
        int n = wr_nat_glanced_count(&o, LONG, LONG, 100, WANT[i][0] + 1e-6, row);
        assert_in_range(n, WANT[i][1] - 1, WANT[i][1]);
    }
}

/* ---- which ---- */

/* Many copies of one sentence. */
enum { COPIES = 6000, T = 6 };
typedef struct result {
    int32_t *tokens;
    double *weight, *count;
} result;

static result run(wr_graph *g, const wr_nat_given *given, int positions, uint64_t step) {
    wr_error err = {0};
    wr_session *s;
    wr_program *p;
    wr_session_options o = {.threads = 1, .seed = 3};
    wr outputs[3] = {given->tokens, given->weight, given->count};
    assert_int_equal(wr_session_new(&o, &s, &err), WR_OK);
    if (wr_program_new(g, 3, outputs, wr_standard_passes(), &p, &err) != WR_OK)
        fail_msg("%s", err.text);
    wr_session_set_step(s, step);
    int32_t update = 0;
    wr_feed feed = {.name = "update", .data = &update};
    int feeds = wr_program_find_input(p, "update") >= 0 ? 1 : 0;
    if (wr_session_run(s, p, feeds, &feed, &err) != WR_OK) fail_msg("%s", err.text);
    size_t n = (size_t)positions * COPIES;
    result r = {malloc(n * sizeof *r.tokens), malloc(n * sizeof *r.weight),
                malloc(COPIES * sizeof *r.count)};
    assert_true(r.tokens != NULL && r.weight != NULL && r.count != NULL);
    memcpy(r.tokens, wr_session_output(s, 0)->data, n * sizeof *r.tokens);
    memcpy(r.weight, wr_session_output(s, 1)->data, n * sizeof *r.weight);
    memcpy(r.count, wr_session_output(s, 2)->data, COPIES * sizeof *r.count);
    wr_session_free(s);
    wr_program_free(p);
    wr_graph_free(g);
    return r;
}

static void release(result *r) {
    free(r->tokens);
    free(r->weight);
    free(r->count);
}

/* A constant [COPIES, n] or [COPIES] of whole numbers. */
static wr copies(wr_graph *g, const int32_t *row, int n, bool matrix) {
    int32_t *all = malloc(sizeof *all * (size_t)n * COPIES);
    assert_non_null(all);
    for (int i = 0; i < n * COPIES; i++)
        all[i] = row[i % n];
    wr x = wr_const(g, WR_I32, matrix ? 2 : 1, (int64_t[]){COPIES, n}, all);
    free(all);
    return x;
}

static wr copies_of_reals(wr_graph *g, const double *row, int rank, int n, int m) {
    size_t size = (size_t)n * (size_t)m;
    double *all = malloc(sizeof *all * size * COPIES);
    assert_non_null(all);
    for (size_t i = 0; i < size * COPIES; i++)
        all[i] = row[i % size];
    wr x = wr_const(g, WR_F64, rank, (int64_t[]){COPIES, n, m}, all);
    free(all);
    return x;
}

/* Masked positions hold the mask and count, the others hold their words; each number of masked
 * words and each position is as frequent as the next. */
static void test_masks(void **state) {
    (void)state;
    static const int32_t TGT[T] = {2, 7, 8, 9, 3, 0}, LEN = 5;
    for (int framed = 0; framed < 2; framed++) {
        wr_nat n = model(framed ? WR_RECIPE_FRAME_BOS_EOS : WR_RECIPE_FRAME_EOS);
        wr_graph *g = wr_graph_new();
        wr_nat_revealing o = {.masking = WR_RECIPE_MASKING_UNIFORM};
        wr_nat_given given =
            wr_nat_mask_words(&n, &o, copies(g, TGT, T, true), copies(g, &LEN, 1, false));
        result r = run(g, &given, T, 1);
        int words = framed ? 3 : 5, first = framed ? 1 : 0, size[T] = {0}, at[T] = {0};
        for (int b = 0; b < COPIES; b++) {
            int masked = 0;
            for (int t = 0; t < T; t++) {
                bool said = r.tokens[b * T + t] == wr_nat_mask(&n);
                masked += said && t < LEN;
                at[t] += said;
                assert_true(r.weight[b * T + t] == (said && t < LEN));
                assert_true(said || r.tokens[b * T + t] == TGT[t]);
                if (t == LEN) assert_true(said);
                if (t < LEN && (t < first || t >= first + words)) assert_false(said);
            }
            assert_in_range(masked, 1, words);
            size[masked]++;
            assert_true(r.count[b] == LEN - masked);
        }
        for (int k = 1; k <= words; k++)
            assert_true(fabs(size[k] / (double)COPIES - 1.0 / words) < 0.03);
        for (int t = first; t < first + words; t++)
            assert_true(fabs(at[t] / (double)COPIES - (words + 1.0) / (2 * words)) < 0.03);
        release(&r);
    }
}

static wr_nat_given glance(const wr_nat *n, wr_graph *g, const wr_nat_revealing *o) {
    double own[4];
    int32_t four = 4;
    for (int t = 0; t < 4; t++)
        own[t] = LP[t][Y4[t]];
    wr_nat_first_pass first = {.said = copies(g, SAID, 4, true),
                               .lp = copies_of_reals(g, own, 2, 4, 1),
                               .update = wr_input(g, "update", WR_I32, 0, NULL)};
    if (!wr_nat_glance_needs_lp(o)) first.lp = (wr){g, 0};
    return wr_nat_glance(n, o, &first, copies(g, Y4, 4, true), copies(g, &four, 1, false));
}

/* One word of four is given: as often as its weight says. */
static void test_glances(void **state) {
    (void)state;
    static const struct {
        wr_recipe_glancing by;
        double share[4];
    } WANT[] = {{WR_RECIPE_GLANCE_HAMMING, {.25, .25, .25, .25}},
                {WR_RECIPE_GLANCE_LEVENSHTEIN, {.25, .25, .25, .25}},
                {WR_RECIPE_GLANCE_P_REF, {.409693, .126796, .177307, .286204}},
                {WR_RECIPE_GLANCE_NOT_P_REF, {.178331, .305293, .282624, .233752}}};
    for (int k = 0; k < 4; k++) {
        wr_nat n = model(WR_RECIPE_FRAME_PLAIN);
        wr_graph *g = wr_graph_new();
        wr_nat_revealing o = {.glancing = WANT[k].by, .glance_from = 0.5, .glance_to = 0.5};
        wr_nat_given given = glance(&n, g, &o);
        result r = run(g, &given, 4, 2);
        int at[4] = {0};
        for (int b = 0; b < COPIES; b++) {
            assert_true(r.count[b] == 1);
            for (int t = 0; t < 4; t++) {
                bool shown = r.tokens[b * 4 + t] != wr_nat_mask(&n);
                assert_true(!shown || r.tokens[b * 4 + t] == Y4[t]);
                assert_true(r.weight[b * 4 + t] == !shown);
                at[t] += shown;
            }
        }
        for (int t = 0; t < 4; t++)
            if (!(fabs(at[t] / (double)COPIES - WANT[k].share[t]) < 0.03))
                fail_msg("variant %d, position %d: %g", k, t, at[t] / (double)COPIES);
        release(&r);
    }
}

/* Both ends of framing bos_eos are inputs, but are said, too, unless they were drawn. */
static void test_ends_are_shown(void **state) {
    (void)state;
    wr_nat n = model(WR_RECIPE_FRAME_BOS_EOS);
    wr_graph *g = wr_graph_new();
    wr_nat_revealing o = {.glancing = WR_RECIPE_GLANCE_HAMMING, .glance_from = 0, .glance_to = 0};
    wr_nat_given given = glance(&n, g, &o);
    result r = run(g, &given, 4, 2);
    const int32_t want[4] = {WR_BOS_ID, wr_nat_mask(&n), wr_nat_mask(&n), WR_EOS_ID};
    assert_memory_equal(r.tokens, want, sizeof want);
    for (int t = 0; t < 4; t++)
        assert_true(r.weight[t] == 1);
    release(&r);
}

/* The likeliest path of [1, 3] over the worked example is 1 3 3 3; the first pass said 1 3 2 4,
 * half of it. With nothing in between, a frame is given the next word. */
static void test_glances_at_frames(void **state) {
    (void)state;
    static const int32_t Y2[2] = {1, 3};
    double lp[4][3];
    for (int t = 0; t < 4; t++) {
        lp[t][0] = LP[t][1];
        lp[t][1] = LP[t][3];
        lp[t][2] = LP[t][0];
    }
    for (int blank = 0; blank < 2; blank++) {
        wr_nat n = model(WR_RECIPE_FRAME_PLAIN);
        wr_graph *g = wr_graph_new();
        wr_nat_revealing o = {
            .glancing = WR_RECIPE_GLANCE_HAMMING, .glance_from = 0.8, .glance_to = 0.8};
        if (blank) lp[1][2] = 0; /* now 1 blank 3 3 */
        int32_t four = 4, two = 2;
        wr_nat_first_pass first = {.said = copies(g, SAID, 4, true),
                                   .lp = copies_of_reals(g, &lp[0][0], 3, 4, 3),
                                   .update = wr_input(g, "update", WR_I32, 0, NULL)};
        wr_nat_given given =
            wr_nat_glance_frames(&n, &o, &first, copies(g, Y2, 2, true), copies(g, &two, 1, false),
                                 copies(g, &four, 1, false));
        result r = run(g, &given, 4, 2);
        const int32_t word[4] = {1, 3, 3, 3};
        double share = 0.8 * (blank ? 0.75 : 0.5); /* of frames that err */
        int shown = 0;
        for (int i = 0; i < 4 * COPIES; i++) {
            if (r.tokens[i] == wr_nat_mask(&n)) continue;
            assert_int_equal(r.tokens[i], word[i % 4]);
            shown++;
        }
        assert_true(fabs(shown / (4.0 * COPIES) - share) < 0.02);
        release(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masked_counts),  cmocka_unit_test(test_glanced_counts),
        cmocka_unit_test(test_masks),          cmocka_unit_test(test_glances),
        cmocka_unit_test(test_ends_are_shown), cmocka_unit_test(test_glances_at_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
