/* test_mple_measure.c: what a model makes of sentence pairs in the terms of MPLE: probabilities of
 * shown words sum to 1, proxies are what the objective says, batches change nothing, and sampled
 * inputs meet their two ends. */
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
#include "models/mple_measure_internal.h"
#include "models/nat_batch.h"
#include "models/nat_decoder.h"

enum { VOCAB = 12, MAX_LEN = 12, PAIRS = 9, WIDTH = 8 };

static void near(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.12g is not %.12g", got, want);
}

static void must(wr_status status, const wr_error *err) {
    if (status != WR_OK) fail_msg("%s", err->text);
}

/* ---- a small model ---- */

static wr_nat toy(wr_recipe_framing framing) {
    return (wr_nat){.m = {.type = WR_RECIPE_NAT,
                          .dim = WIDTH,
                          .ffn = 16,
                          .heads = 2,
                          .encoder_layers = 1,
                          .decoder_layers = 1,
                          .norm = WR_RECIPE_NORM_PRE,
                          .activation = WR_RECIPE_RELU,
                          .embeddings = WR_RECIPE_EMBED_TARGET,
                          .max_len = MAX_LEN},
                    .src_vocab = 9,
                    .tgt_vocab = VOCAB,
                    .inputs = WR_RECIPE_INPUT_UNIFORM,
                    .input_temperature = 0.3,
                    .framing = framing,
                    .length = WR_RECIPE_LENGTH_POOLED,
                    .length_offset = true,
                    .length_classes = 9,
                    .max_source = MAX_LEN,
                    .max_target = MAX_LEN,
                    .max_positions = MAX_LEN,
                    .dtype = WR_F32};
}

static wr_nat_training training_of(const char *objective, wr_recipe_glancing glancing) {
    wr_nat_training t = {.revealing = {.masking = WR_RECIPE_MASKING_UNIFORM,
                                       .visible = 0.4,
                                       .glancing = glancing,
                                       .glance_from = 0.7,
                                       .glance_to = 0.7,
                                       .glance_updates = 1}};
    wr_objective_config c;
    wr_error err = {0};
    must(wr_objective_parse(objective, &c, &err), &err);
    wr_objective_host_init(&t.objective, &c);
    return t;
}

typedef struct rig {
    wr_nat n;
    wr_nat_training t;
    wr_session *session;
    wr_measurer *m;
} rig;

static rig open_rig(wr_nat n, wr_nat_training t) {
    rig r = {.n = n, .t = t};
    wr_error err = {0};
    const wr_session_options o = {.threads = 1, .seed = 3};
    must(wr_session_new(&o, &r.session, &err), &err);
    must(wr_measurer_new(&n, &t, 1, r.session, &r.m, &err), &err);
    return r;
}

static void close_rig(rig *r) {
    wr_measurer_free(r->m);
    wr_session_free(r->session);
}

/* Pairs of different lengths. */
typedef struct pairs {
    int32_t word[2][PAIRS][8];
    wr_sentence src[PAIRS], tgt[PAIRS];
} pairs;

static void make_pairs(pairs *p) {
    wr_random r = wr_random_stream(1, 2, 3);
    for (size_t i = 0; i < PAIRS; i++)
        for (int side = 0; side < 2; side++) {
            wr_sentence *s = side == 0 ? &p->src[i] : &p->tgt[i];
            *s = (wr_sentence){.id = p->word[side][i], .n = 1 + (i * (size_t)(side + 2)) % 8};
            for (size_t k = 0; k < s->n; k++) {
                uint32_t bits[4];
                wr_random_bits(&r, (i * 2 + (size_t)side) * 8 + k, bits);
                p->word[side][i][k] = WR_SPECIAL_IDS + (int32_t)(bits[0] % (side == 0 ? 5u : 8u));
            }
        }
}

static void measure(rig *r, const pairs *p, size_t from, size_t n, wr_measuring o,
                    wr_measured *out) {
    wr_error err = {0};
    must(wr_measurer_run(r->m, p->src + from, p->tgt + from, n, &o, out, &err), &err);
}

/* ---- which words are shown ---- */

static double sum_over_sets(const wr_measurer *m, int len, int given, const double *lp) {
    int first, words = wr__measure_inner(&m->n, len, &first);
    double sum = 0;
    for (unsigned set = 0; set < 1u << words; set++) {
        uint8_t visible[16] = {0};
        int shown = 0;
        for (int t = 0; t < words; t++) {
            visible[first + t] = set >> t & 1;
            shown += visible[first + t];
        }
        if (first > 0) visible[0] = visible[len - 1] = 1;
        bool masks = m->t.revealing.glancing == WR_RECIPE_GLANCE_NONE;
        if (masks && (shown == words)) continue; /* at least one word is masked */
        if (masks && m->t.revealing.masking == WR_RECIPE_MASKING_MASK_PREDICT && shown == 0)
            continue;
        if (masks && m->t.revealing.masking == WR_RECIPE_MASKING_FIXED &&
            shown != (int)(m->t.revealing.visible * words))
            continue;
        if (!masks && (shown > given || shown < given - (len - words))) continue;
        double work[32];
        sum += exp(wr__measure_log_q(m, len, given, visible, lp, work));
    }
    return sum;
}

/* Over all sets of words that can be shown, Q(Z | X) is a distribution. */
static void shown_words_are_a_distribution(void **state) {
    (void)state;
    const double lp[] = {-0.3, -1.2, -4.0, -0.01, -2.5, -0.9, -7, -1.7};
    static const wr_recipe_framing framing[] = {WR_RECIPE_FRAME_BOS_EOS, WR_RECIPE_FRAME_EOS,
                                                WR_RECIPE_FRAME_PLAIN};
    static const wr_recipe_masking masking[] = {
        WR_RECIPE_MASKING_UNIFORM, WR_RECIPE_MASKING_MASK_PREDICT, WR_RECIPE_MASKING_FAIRSEQ,
        WR_RECIPE_MASKING_MPLE, WR_RECIPE_MASKING_FIXED};
    static const wr_recipe_glancing glancing[] = {
        WR_RECIPE_GLANCE_HAMMING, WR_RECIPE_GLANCE_LEVENSHTEIN, WR_RECIPE_GLANCE_P_REF,
        WR_RECIPE_GLANCE_NOT_P_REF, WR_RECIPE_GLANCE_FIXED};
    for (int f = 0; f < 3; f++)
        for (int k = 0; k < 5; k++) {
            wr_measurer m = {.n = toy(framing[f]), .t = training_of("cmlm", WR_RECIPE_GLANCE_NONE)};
            m.t.revealing.masking = masking[k];
            near(sum_over_sets(&m, 8, 0, lp), 1, 1e-10);
            near(sum_over_sets(&m, 7, 0, lp), 1, 1e-10);
            m.t = training_of("glat", glancing[k]);
            for (int given = 0; given <= 6; given++)
                near(sum_over_sets(&m, 7, given, lp), 1, 1e-9);
        }
}

/* ---- terms ---- */

/* Cross-entropy: what is measured is -log P of the targets, and T is the target. */
static void cross_entropy(void **state) {
    (void)state;
    static const wr_recipe_framing framing[] = {WR_RECIPE_FRAME_BOS_EOS, WR_RECIPE_FRAME_EOS,
                                                WR_RECIPE_FRAME_PLAIN};
    pairs p;
    make_pairs(&p);
    for (int f = 0; f < 3; f++) {
        rig r = open_rig(toy(framing[f]), training_of("ce", WR_RECIPE_GLANCE_NONE));
        wr_measured all[PAIRS], one;
        wr_ids said = {0};
        double lp[PAIRS * MAX_LEN] = {0}, sum = 0;
        measure(&r, &p, 0, PAIRS, (wr_measuring){.proxies = &said, .own_lp = lp}, all);
        assert_false(wr_measurer_shows(r.m));
        for (size_t i = 0, at = 0; i < PAIRS; i++) {
            assert_true(all[i].feasible);
            assert_int_equal(all[i].positions, wr_nat_framed_len(framing[f], (int)p.tgt[i].n));
            near(all[i].nat, all[i].own, 1e-9);
            near(all[i].input, 0, 0);
            assert_true(all[i].sure <= 0 && -all[i].sure <= all[i].own + 1e-6);
            assert_int_equal(all[i].words, p.tgt[i].n);
            assert_memory_equal(said.id + all[i].proxy, p.tgt[i].id, p.tgt[i].n * sizeof(int32_t));
            sum = 0;
            for (int t = 0; t < all[i].positions; t++)
                sum -= lp[at++];
            near(all[i].own, sum, 1e-9);
            measure(&r, &p, i, 1, (wr_measuring){.max_tokens = 1}, &one);
            near(one.nat, all[i].nat, 1e-4);
        }
        wr_ids_free(&said);
        close_rig(&r);
    }
}

static int by_id(const void *a, const void *b) { return *(const int32_t *)a - *(const int32_t *)b; }

/* OaXE says a permutation of the target that costs no more; AXE's first choices are in order. */
static void alignments(void **state) {
    (void)state;
    pairs p;
    make_pairs(&p);
    for (int axe = 0; axe < 2; axe++) {
        rig r =
            open_rig(toy(WR_RECIPE_FRAME_PLAIN),
                     training_of(axe ? "axe skip_penalty=1" : "oaxe pretrain=100 trunc_prob=0.5",
                                 WR_RECIPE_GLANCE_NONE));
        wr_measured all[PAIRS];
        wr_ids said = {0};
        measure(&r, &p, 0, PAIRS, (wr_measuring){.proxies = &said}, all);
        bool other = false;
        for (size_t i = 0; i < PAIRS; i++) {
            int32_t a[8], b[8];
            size_t n = p.tgt[i].n, next = 0;
            assert_true(all[i].feasible);
            other = other || all[i].nat < all[i].own - 1e-6;
            if (axe) {
                assert_true(all[i].words <= n);
                for (size_t k = 0; k < n && next < all[i].words; k++)
                    next += said.id[all[i].proxy + next] == p.tgt[i].id[k];
                assert_int_equal(next, all[i].words);
                continue;
            }
            assert_true(all[i].nat <= all[i].own + 1e-5);
            assert_int_equal(all[i].words, n);
            memcpy(a, said.id + all[i].proxy, n * sizeof *a);
            memcpy(b, p.tgt[i].id, n * sizeof *b);
            qsort(a, n, sizeof *a, by_id);
            qsort(b, n, sizeof *b, by_id);
            assert_memory_equal(a, b, n * sizeof *a);
        }
        assert_true(other);
        wr_ids_free(&said);
        close_rig(&r);
    }
}

/* With ctc, L_NAT is a sum over alignments; a target that does not fit is left out. */
static void sums(void **state) {
    (void)state;
    pairs p;
    make_pairs(&p);
    wr_nat n = toy(WR_RECIPE_FRAME_PLAIN);
    n.length = WR_RECIPE_LENGTH_NONE;
    n.frames = 2;
    n.upsampling = WR_RECIPE_UPSAMPLE_REPEAT;
    n.max_positions = 2 * n.max_source;
    rig r = open_rig(n, training_of("ctc", WR_RECIPE_GLANCE_NONE));
    wr_measured all[PAIRS];
    int left_out = 0;
    measure(&r, &p, 0, PAIRS, (wr_measuring){0}, all);
    assert_true(wr_measurer_sums(r.m));
    for (size_t i = 0; i < PAIRS; i++) {
        size_t repeats = 0;
        for (size_t k = 1; k < p.tgt[i].n; k++)
            repeats += p.tgt[i].id[k] == p.tgt[i].id[k - 1];
        assert_int_equal(all[i].feasible, p.tgt[i].n + repeats <= 2 * (p.src[i].n + 1));
        left_out += !all[i].feasible;
        if (!all[i].feasible) continue;
        assert_int_equal(all[i].positions, (int)p.tgt[i].n);
        near(all[i].nat, all[i].own, 0);
        assert_true(all[i].nat > 0);
    }
    assert_true(left_out > 0 && left_out < PAIRS);
    close_rig(&r);
}

/* CMLM and glancing: the states of all words are offered to the mask head; the tokens of another
 * model are read where words are shown. */
static void shown_words(void **state) {
    (void)state;
    pairs p;
    make_pairs(&p);
    for (int glat = 0; glat < 2; glat++) {
        rig r = open_rig(toy(WR_RECIPE_FRAME_BOS_EOS),
                         glat ? training_of("glat", WR_RECIPE_GLANCE_HAMMING)
                              : training_of("cmlm", WR_RECIPE_GLANCE_NONE));
        wr_measured all[PAIRS], again[PAIRS], other[PAIRS];
        wr_mask_pool pool = {.most = 1000}, few = {.most = 7};
        double lp[PAIRS * MAX_LEN], head[WIDTH + 1] = {0};
        assert_true(wr_measurer_shows(r.m));
        measure(&r, &p, 0, PAIRS, (wr_measuring){.head = head, .pool = &pool, .own_lp = lp}, all);
        size_t words = 0, masked = 0, hidden = 0;
        for (size_t i = 0; i < PAIRS; i++)
            words += p.tgt[i].n;
        assert_int_equal(pool.n, words);
        for (size_t k = 0; k < pool.n; k++)
            masked += pool.masked[k];
        assert_true(masked > 0 && masked < words);
        measure(&r, &p, 0, PAIRS, (wr_measuring){.head = head, .token_lp = lp}, again);
        for (size_t k = 0; k < PAIRS * MAX_LEN; k++)
            lp[k] -= 1; /* another predictor that finds every word e times less likely */
        measure(&r, &p, 0, PAIRS, (wr_measuring){.head = head, .token_lp = lp}, other);
        for (size_t i = 0; i < PAIRS; i++) {
            near(again[i].input, all[i].input, 1e-9);
            near(again[i].nat, all[i].nat, 0);
            double shown = other[i].input - all[i].input;
            near(shown, round(shown), 1e-9);
            hidden += p.tgt[i].n - (size_t)(shown + 0.5);
            assert_true(all[i].nat >= 0);
        }
        assert_int_equal(hidden, masked);
        measure(&r, &p, 0, PAIRS, (wr_measuring){.pool = &few}, again);
        assert_int_equal(few.n, 7);
        wr_mask_pool_free(&pool);
        wr_mask_pool_free(&few);
        close_rig(&r);
    }
}

/* ---- sampled inputs ---- */

/* All masked: one pass that is given nothing, which is what the decoder does; all shown: the words
 * of the predictor, here the same. In between: random, the same for the same seed. */
static void sampled_inputs(void **state) {
    (void)state;
    pairs p;
    make_pairs(&p);
    rig r = open_rig(toy(WR_RECIPE_FRAME_PLAIN), training_of("cmlm", WR_RECIPE_GLANCE_NONE));
    wr_nat_decoder *d;
    wr_translations usual = {0};
    wr_nat_search_options o = wr_nat_search_defaults(false, false);
    wr_error err = {0};
    o.max_sentences = PAIRS;
    must(wr_nat_decoder_new(&r.n, false, r.session, &d, &err), &err);
    must(wr_nat_search(d, p.src, PAIRS, &o, &usual, &err), &err);
    static const double bias[] = {60, -60, 0, 0};
    wr_ids out[4] = {{0}};
    size_t at[4][PAIRS + 1];
    double sure[4][PAIRS];
    for (int k = 0; k < 4; k++) {
        double head[WIDTH + 1] = {0};
        head[WIDTH] = bias[k];
        must(wr_measurer_sample(r.m, NULL, head, p.src, PAIRS, 5, &out[k], at[k], sure[k], &err),
             &err);
    }
    for (size_t i = 0; i < PAIRS; i++) {
        for (int k = 0; k < 2; k++) {
            assert_int_equal(at[k][i + 1] - at[k][i], usual.hyp[i].n);
            assert_memory_equal(out[k].id + at[k][i], usual.hyp[i].id,
                                usual.hyp[i].n * sizeof(int32_t));
            near(sure[k][i] * (double)usual.hyp[i].n, usual.hyp[i].logp, 1e-4);
        }
        assert_true(sure[2][i] < sure[0][i]); /* the masks cost log 2 each */
    }
    assert_int_equal(out[2].n, out[3].n);
    assert_memory_equal(out[2].id, out[3].id, out[2].n * sizeof(int32_t));
    assert_memory_equal(sure[2], sure[3], sizeof sure[2]);
    for (int k = 0; k < 4; k++)
        wr_ids_free(&out[k]);
    wr_translations_free(&usual);
    wr_nat_decoder_free(d);
    close_rig(&r);
}

/* Each allocation of a measurement and of a sampled translation fails once. */
static void without_memory(void **state) {
    (void)state;
    pairs p;
    make_pairs(&p);
    rig r = open_rig(toy(WR_RECIPE_FRAME_EOS), training_of("glat", WR_RECIPE_GLANCE_P_REF));
    double head[WIDTH + 1] = {0}, sure[PAIRS];
    for (long n = 0;; n++) { /* the first time compiles */
        wr_mask_pool pool = {.most = 100};
        wr_ids said = {0}, out = {0};
        size_t at[PAIRS + 1];
        wr_measured all[PAIRS];
        const wr_measuring o = {.head = head, .pool = &pool, .proxies = &said};
        wr_test_fail_allocation(n);
        wr_status status = wr_measurer_run(r.m, p.src, p.tgt, PAIRS, &o, all, NULL);
        if (status == WR_OK)
            status = wr_measurer_sample(r.m, NULL, head, p.src, PAIRS, 1, &out, at, sure, NULL);
        bool failed = n > 0 && wr_test_allocation_failed();
        wr_mask_pool_free(&pool);
        wr_ids_free(&said);
        wr_ids_free(&out);
        assert_int_equal(status, failed ? WR_ERR_MEMORY : WR_OK);
        if (n > 0 && !failed) break;
    }
    close_rig(&r);
}

static void refused(void **state) {
    (void)state;
    wr_nat n = toy(WR_RECIPE_FRAME_EOS);
    wr_nat_training t = training_of("ce", WR_RECIPE_GLANCE_NONE);
    wr_measurer *m;
    wr_error err = {0};
    n.dtype = WR_F64;
    assert_int_equal(wr_measurer_new(&n, &t, 1, NULL, &m, &err), WR_ERR_INPUT);
    assert_null(m);
    n = toy(WR_RECIPE_FRAME_PLAIN);
    n.length = WR_RECIPE_LENGTH_NONE;
    n.frames = 2;
    n.max_positions = 2 * n.max_source;
    rig r = open_rig(n, training_of("ctc", WR_RECIPE_GLANCE_NONE));
    wr_ids out = {0};
    size_t at[1];
    err = (wr_error){0};
    assert_int_equal(wr_measurer_sample(r.m, NULL, NULL, NULL, 0, 1, &out, at, NULL, &err),
                     WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "2 positions for each source token"));
    close_rig(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shown_words_are_a_distribution),
        cmocka_unit_test(cross_entropy),
        cmocka_unit_test(alignments),
        cmocka_unit_test(sums),
        cmocka_unit_test(shown_words),
        cmocka_unit_test(sampled_inputs),
        cmocka_unit_test(without_memory),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
