/* test_nat.c: the non-autoregressive model: what positions are told, framing, lengths, padding,
 * gradients of the whole loss of every objective, and the dropout that two passes share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "data/subword.h"
#include "graph/session.h"
#include "helpers/alloc.h"
#include "helpers/decoding.h"
#include "helpers/sample.h"
#include "models/nat_batch.h"
#include "models/nat_internal.h"
#include "models/nat_loss.h"
#include "ops/fuse.h"
#include "ops/reduce.h"
#include "ops/sort.h"

#include <math.h>
#include <string.h>

/* ---- a tiny model ---- */

enum { B = 3, S = 5, T = 6, V = 11, D = 8 };
static const int32_t SRC[B * S] = {4, 7, 5, 9, 3, 6, 8, 3, 0, 0, 10, 4, 6, 3, 0};
static const int32_t SRC_LEN[B] = {5, 3, 4};
static const int32_t TGT[B * T] = {5, 8, 8, 4, 9, 3, 10, 6, 3, 0, 0, 0, 7, 5, 4, 6, 3, 0};
static const int32_t TGT_LEN[B] = {6, 3, 5};

static wr_nat tiny(wr_dtype t) {
    return (wr_nat){.m = {.type = WR_RECIPE_NAT,
                          .dim = D,
                          .ffn = 12,
                          .heads = 2,
                          .encoder_layers = 1,
                          .decoder_layers = 2,
                          .norm = WR_RECIPE_NORM_PRE,
                          .activation = WR_RECIPE_GELU,
                          .embeddings = WR_RECIPE_EMBED_JOINT,
                          .max_len = 16},
                    .src_vocab = V,
                    .tgt_vocab = V,
                    .input_temperature = 0.3,
                    .framing = WR_RECIPE_FRAME_EOS,
                    .length = WR_RECIPE_LENGTH_POOLED,
                    .length_offset = true,
                    .length_classes = 16,
                    .max_source = 16,
                    .max_target = 16,
                    .max_positions = 16,
                    .dtype = t};
}

static wr_nat with_frames(wr_nat n, int frames, wr_recipe_upsampling upsampling) {
    n.length = WR_RECIPE_LENGTH_NONE;
    n.frames = frames;
    n.upsampling = upsampling;
    n.max_positions = frames * n.max_source;
    return n;
}

/* A batch, and a session that programs run in. */
typedef struct subject {
    wr_session *session;
    int64_t b, s, t;
    int32_t src[64], src_len[8], tgt[64], tgt_len[8], update;
} subject;

static subject open_subject(int threads, uint64_t seed) {
    wr_error err = {0};
    subject x = {.b = B, .s = S, .t = T, .update = 3};
    if (wr_session_new(&(wr_session_options){.threads = threads, .seed = seed}, &x.session, &err) !=
        WR_OK)
        fail_msg("%s", err.text);
    memcpy(x.src, SRC, sizeof SRC);
    memcpy(x.src_len, SRC_LEN, sizeof SRC_LEN);
    memcpy(x.tgt, TGT, sizeof TGT);
    memcpy(x.tgt_len, TGT_LEN, sizeof TGT_LEN);
    return x;
}

static void run(subject *x, wr_program *p) {
    wr_feed all[] = {{"src", x->src, 2, {x->b, x->s}},
                     {"src_len", x->src_len, 1, {x->b}},
                     {"tgt", x->tgt, 2, {x->b, x->t}},
                     {"tgt_len", x->tgt_len, 1, {x->b}},
                     {WR_NAT_UPDATE, &x->update, 0, {0}}};
    test_run(x->session, p, 5, all);
}

static double value(const subject *x, int k, int64_t i) {
    return test_value(wr_session_output(x->session, k), i);
}

/* Compile, run and forget; results stay until the next run. */
static void run_once(subject *x, wr_graph *g, int n, const wr *outputs) {
    wr_program *p = test_build(g, n, outputs);
    run(x, p);
    wr_session_forget(x->session, p);
    wr_program_free(p);
}

/* ---- what positions are told ---- */

static void test_uniform_source(void **state) {
    (void)state;
    static const struct {
        int s, t, at[8];
    } MAPS[] = {{3, 5, {0, 0, 1, 2, 2}}, {5, 3, {0, 2, 4}},    {4, 7, {0, 0, 1, 2, 2, 2, 3}},
                {6, 4, {0, 2, 3, 5}},    {2, 4, {0, 0, 1, 1}}, {3, 1, {0}},
                {1, 3, {0, 0, 0}}};
    for (size_t m = 0; m < sizeof MAPS / sizeof MAPS[0]; m++)
        for (int t = 0; t < MAPS[m].t; t++)
            assert_int_equal(wr_nat_uniform_source(MAPS[m].s, MAPS[m].t, t), MAPS[m].at[t]);
}

/* With unit vectors as words, what a position is told are the weights. */
static void told(wr_recipe_input inputs, double temperature, int positions, double *weight) {
    enum { WORDS = 3 };
    static const double UNIT[WORDS * WORDS] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    wr_nat n = tiny(WR_F64);
    n.m.dim = WORDS;
    n.inputs = inputs;
    n.input_temperature = temperature;
    subject x = open_subject(1, 1);
    wr_graph *g = wr_graph_new();
    int32_t s = WORDS, t = positions;
    wr words = wr_const(g, WR_F64, 3, (int64_t[]){1, WORDS, WORDS}, UNIT);
    wr_nat_encoding e = {
        .memory = words, .words = words, .len = wr_const(g, WR_I32, 1, (int64_t[]){1}, &s)};
    wr copy = wr__nat_copy(&n, &e, wr_const(g, WR_I32, 1, (int64_t[]){1}, &t), wr_n(positions));
    run_once(&x, g, 1, &copy);
    for (int i = 0; i < positions * WORDS; i++)
        weight[i] = value(&x, 0, i);
    wr_graph_free(g);
    wr_session_free(x.session);
}

static void expect_row(const double *row, double a, double b, double c) {
    assert_true(fabs(row[0] - a) < 1e-6 && fabs(row[1] - b) < 1e-6 && fabs(row[2] - c) < 1e-6);
}

static void test_mixtures(void **state) {
    (void)state;
    double w[12];
    told(WR_RECIPE_INPUT_SOFT, 0.3, 4, w);
    expect_row(w + 6, .001227, .034403, .964370);
    told(WR_RECIPE_INPUT_SOFT, 1, 4, w);
    expect_row(w + 9, .090031, .244728, .665241);
    told(WR_RECIPE_INPUT_INTERP, 0.3, 4, w);
    expect_row(w + 6, .000636, .499682, .499682);
    told(WR_RECIPE_INPUT_UNIFORM, 1, 4, w);
    expect_row(w, 1, 0, 0);
    expect_row(w + 3, 0, 1, 0); /* 2/3 */
    expect_row(w + 6, 0, 1, 0); /* 4/3 */
    expect_row(w + 9, 0, 0, 1);
}

/* ---- framing ---- */

static void test_canvas(void **state) {
    (void)state;
    wr_nat n = tiny(WR_F64);
    n.framing = WR_RECIPE_FRAME_BOS_EOS;
    int32_t row[T], m = wr_nat_mask(&n);
    static const int32_t LEN[B] = {6, 1, 0};
    const int32_t want[B][T] = {
        {WR_BOS_ID, m, m, m, m, WR_EOS_ID}, {WR_BOS_ID, m, m, m, m, m}, {m, m, m, m, m, m}};
    subject x = open_subject(1, 1);
    wr_graph *g = wr_graph_new();
    wr canvas = wr_nat_canvas(&n, wr_const(g, WR_I32, 1, (int64_t[]){B}, LEN), wr_n(T));
    run_once(&x, g, 1, &canvas);
    for (int b = 0; b < B; b++) {
        wr_nat_canvas_fill(&n, LEN[b], T, row);
        assert_memory_equal(row, want[b], sizeof row);
        for (int t = 0; t < T; t++)
            assert_int_equal((int)value(&x, 0, b * T + t), want[b][t]);
    }
    wr_graph_free(g);
    wr_session_free(x.session);
    assert_int_equal(m, V);
    assert_int_equal(wr_nat_blank(&n), V + 1);
    assert_int_equal(wr_nat_frame_tokens(&n), 2);
    assert_int_equal(wr_nat_first_word(&n), 1);
    int banned[WR_NAT_BANNED];
    assert_int_equal(wr_nat_banned(&n, false, banned), 3);
    n.framing = WR_RECIPE_FRAME_PLAIN;
    assert_int_equal(wr_nat_frame_tokens(&n), 0);
    assert_int_equal(wr_nat_banned(&n, true, banned), 3);
    assert_int_equal(wr_nat_banned(&n, false, banned), 4);
}

static void test_batches(void **state) {
    (void)state;
    static const int32_t SRC_OUT[] = {7, 3, 8, 3}, OUT[] = {5, 6, 3, 0, 3, 0, 0, 0};
    static const int32_t LENGTHS[] = {3, 1}, SRC_LENGTHS[] = {2, 2};
    const wr_batch b = {.B = 2,
                        .S = 2,
                        .T = 4,
                        .src = SRC_OUT,
                        .src_len = SRC_LENGTHS,
                        .tgt_out = OUT,
                        .tgt_in = OUT,
                        .tgt_len = LENGTHS};
    static const struct {
        wr_recipe_framing framing;
        int32_t T, len[2], tgt[8];
    } WANT[] = {{WR_RECIPE_FRAME_EOS, 4, {3, 1}, {5, 6, 3, 0, 3, 0, 0, 0}},
                {WR_RECIPE_FRAME_BOS_EOS, 4, {4, 2}, {2, 5, 6, 3, 2, 3, 0, 0}},
                {WR_RECIPE_FRAME_PLAIN, 2, {2, 0}, {5, 6, 0, 0}}};
    wr_nat_batch packed = {0};
    wr_error err = {0};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(wr_nat_batch_of(&b, WANT[i].framing, 2, &packed, &err), WR_OK);
        assert_int_equal(packed.T, WANT[i].T);
        assert_int_equal(packed.tgt_tokens, WANT[i].len[0] + WANT[i].len[1]);
        assert_memory_equal(packed.tgt_len, WANT[i].len, sizeof WANT[i].len);
        assert_memory_equal(packed.tgt, WANT[i].tgt, sizeof(int32_t) * 2 * (size_t)packed.T);
    }
    wr_nat_batch_free(&packed);
}

/* ---- lengths ---- */

static void test_length_classes(void **state) {
    (void)state;
    wr_nat n = tiny(WR_F64);
    assert_int_equal(wr_nat_length_class(&n, 5, 7), 10);
    assert_int_equal(wr_nat_class_length(&n, 5, 10), 7);
    assert_int_equal(wr_nat_length_class(&n, 1, 16), 15);
    assert_int_equal(wr_nat_length_class(&n, 16, 1), 0);
    n.length_offset = false;
    assert_int_equal(wr_nat_length_class(&n, 5, 7), 7);
    assert_int_equal(wr_nat_length_class(&n, 5, 99), 15);
    n.length = WR_RECIPE_LENGTH_DIFFERENCE;
    assert_int_equal(wr_nat_length_classes(&n), 101);
    assert_int_equal(wr_nat_length_class(&n, 5, 7), 52);
    assert_int_equal(wr_nat_class_length(&n, 5, 0), -45);
    double scores[101];
    for (int i = 0; i < 101; i++)
        scores[i] = -INFINITY;
    scores[50] = scores[52] = -1;
    scores[51] = -2;
    int lengths[4];
    double best[4];
    assert_int_equal(wr_nat_best_lengths(&n, 5, scores, 4, lengths, best), 3);
    assert_int_equal(lengths[0], 5);
    assert_int_equal(lengths[1], 7);
    assert_int_equal(lengths[2], 6);
    assert_true(best[0] == -1 && best[2] == -2);
}

/* Each head's probabilities sum to 1 over the lengths there are. */
static void test_length_scores(void **state) {
    (void)state;
    static const wr_recipe_length HEADS[] = {WR_RECIPE_LENGTH_POOLED, WR_RECIPE_LENGTH_TOKEN,
                                             WR_RECIPE_LENGTH_DIFFERENCE};
    for (int h = 0; h < 6; h++) {
        wr_nat n = tiny(WR_F64);
        n.length = HEADS[h % 3];
        n.length_offset = h < 3;
        n.max_positions = 200;
        subject x = open_subject(1, 5);
        wr_graph *g = wr_graph_new();
        wr_nat_pairs in = wr_nat_inputs(&n, g);
        wr_nat_encoding e = wr_nat_encode(&n, in.src, in.src_len);
        wr outputs[2] = {wr_nat_length_scores(&n, &e), wr_nat_length_nll(&n, &e, in.tgt_len)};
        run_once(&x, g, 2, outputs);
        int classes = wr_nat_length_classes(&n);
        for (int b = 0; b < B; b++) {
            double sum = 0;
            for (int c = 0; c < classes; c++) {
                double lp = value(&x, 0, b * classes + c);
                bool legal = wr_nat_class_length(&n, SRC_LEN[b], c) >= 1;
                assert_true(legal ? lp > -INFINITY : lp == -INFINITY);
                sum += exp(lp);
            }
            assert_true(fabs(sum - 1) < 1e-9);
            int right = wr_nat_length_class(&n, SRC_LEN[b], TGT_LEN[b]);
            assert_true(fabs(value(&x, 0, b * classes + right) + value(&x, 1, b)) < 1e-12);
        }
        wr_graph_free(g);
        wr_session_free(x.session);
    }
}

/* The length `difference` learns its classes, and leaves the encoder alone. */
static void test_difference_is_detached(void **state) {
    (void)state;
    for (int h = 0; h < 2; h++) {
        wr_nat n = tiny(WR_F64);
        n.length = h == 0 ? WR_RECIPE_LENGTH_DIFFERENCE : WR_RECIPE_LENGTH_POOLED;
        subject x = open_subject(1, 5);
        wr_graph *g = wr_graph_new();
        wr_nat_pairs in = wr_nat_inputs(&n, g);
        wr_nat_encoding e = wr_nat_encode(&n, in.src, in.src_len);
        wr nll = wr_sum_all(wr_nat_length_nll(&n, &e, in.tgt_len)), slope[2];
        wr at[2] = {wr__nat_length_table(&n, g),
                    wr_param(g, "embedding", WR_F64, WR_DIMS(wr_n(V + WR_NAT_EXTRA), wr_n(D)),
                             ((wr_init){WR_INIT_NORMAL, 0, 1 / sqrt(D)}))};
        assert_true(wr_grad(nll, 2, at, slope));
        run_once(&x, g, 2, slope);
        double sum[2] = {0, 0};
        for (int k = 0; k < 2; k++)
            for (int64_t i = 0; i < wr_session_output(x.session, k)->n; i++)
                sum[k] += fabs(value(&x, k, i));
        assert_true(sum[0] > 0 && (h == 0 ? sum[1] == 0 : sum[1] > 0));
        wr_graph_free(g);
        wr_session_free(x.session);
    }
}

/* ---- losses ---- */

/* What is trained, and how. */
typedef struct form {
    const char *objective;
    wr_recipe_input inputs;
    wr_recipe_framing framing;
    wr_recipe_length length;
    wr_recipe_glancing glancing;
    int frames;
    wr_recipe_upsampling upsampling;
} form;

#define ON(...) .inputs = WR_RECIPE_INPUT_##__VA_ARGS__
static const form FORMS[] = {
    {"ce label_smoothing=0.1", ON(MASK), .framing = WR_RECIPE_FRAME_EOS,
     .length = WR_RECIPE_LENGTH_POOLED, .glancing = WR_RECIPE_GLANCE_NONE},
    {"ce", ON(UNIFORM), .framing = WR_RECIPE_FRAME_BOS_EOS, .length = WR_RECIPE_LENGTH_TOKEN,
     .glancing = WR_RECIPE_GLANCE_NONE},
    {"axe skip_penalty=2", ON(SOFT), .framing = WR_RECIPE_FRAME_EOS,
     .length = WR_RECIPE_LENGTH_POOLED, .glancing = WR_RECIPE_GLANCE_NONE},
    {"oaxe anneal=10", ON(INTERP), .framing = WR_RECIPE_FRAME_PLAIN,
     .length = WR_RECIPE_LENGTH_POOLED, .glancing = WR_RECIPE_GLANCE_NONE},
    {"cmlm", ON(MASK), .framing = WR_RECIPE_FRAME_EOS, .length = WR_RECIPE_LENGTH_POOLED,
     .glancing = WR_RECIPE_GLANCE_NONE},
    {"glat label_smoothing=0.1", ON(ATTN), .framing = WR_RECIPE_FRAME_BOS_EOS,
     .length = WR_RECIPE_LENGTH_POOLED, .glancing = WR_RECIPE_GLANCE_HAMMING},
    {"glat", ON(MASK), .framing = WR_RECIPE_FRAME_EOS, .length = WR_RECIPE_LENGTH_TOKEN,
     .glancing = WR_RECIPE_GLANCE_P_REF},
    {"ctc", ON(MASK), .framing = WR_RECIPE_FRAME_EOS, .glancing = WR_RECIPE_GLANCE_NONE,
     .frames = 2, .upsampling = WR_RECIPE_UPSAMPLE_REPEAT},
    {"ctc label_smoothing=0.1 norm=frames", ON(MASK), .framing = WR_RECIPE_FRAME_PLAIN,
     .glancing = WR_RECIPE_GLANCE_HAMMING, .frames = 3, .upsampling = WR_RECIPE_UPSAMPLE_SPLIT},
    {"axe form=mple", ON(MASK), .framing = WR_RECIPE_FRAME_EOS, .glancing = WR_RECIPE_GLANCE_NONE,
     .frames = 2, .upsampling = WR_RECIPE_UPSAMPLE_MASK},
};
enum { FORM_COUNT = sizeof FORMS / sizeof FORMS[0] };

static wr_nat model_of(const form *f) {
    wr_nat n = tiny(WR_F64);
    n.inputs = f->inputs;
    n.framing = f->framing;
    n.length = f->length;
    return f->frames > 0 ? with_frames(n, f->frames, f->upsampling) : n;
}

static void training_of(const form *f, wr_nat_training *t) {
    wr_error err = {0};
    wr_objective_config c;
    if (wr_objective_parse(f->objective, &c, &err) != WR_OK) fail_msg("%s", err.text);
    *t = (wr_nat_training){.revealing = {.masking = WR_RECIPE_MASKING_UNIFORM,
                                         .glancing = f->glancing,
                                         .glance_from = 0.7,
                                         .glance_to = 0.7,
                                         .glance_updates = 10},
                           .length_weight = 0.5};
    wr_objective_host_init(&t->objective, &c);
}

/* Places told before every layer are what the first layer is told anyway: they change models of
 * more than one layer only. */
static void test_places_of_every_layer(void **state) {
    (void)state;
    for (int layers = 1; layers <= 2; layers++) {
        double nll[2];
        for (int every = 0; every < 2; every++) {
            wr_nat n = model_of(&FORMS[0]);
            wr_nat_training t;
            n.m.decoder_layers = layers;
            n.place_every_layer = every;
            training_of(&FORMS[0], &t);
            wr_graph *g = wr_graph_new();
            wr_nat_pairs in = wr_nat_inputs(&n, g);
            wr_nat_losses l = wr_nat_losses_of(&n, &t, &in, false);
            subject x = open_subject(1, 7);
            run_once(&x, g, 1, &l.nll);
            nll[every] = value(&x, 0, 0);
            wr_session_free(x.session);
            wr_graph_free(g);
        }
        assert_true(layers == 1 ? nll[0] == nll[1] : fabs(nll[0] - nll[1]) > 1e-3);
    }
}

/* Padding, and other sentences beside it, change nothing about a sentence. */
static void test_padding(void **state) {
    (void)state;
    for (int k = 0; k < FORM_COUNT; k++) {
        wr_nat n = model_of(&FORMS[k]);
        wr_nat_training t;
        training_of(&FORMS[k], &t);
        wr_graph *g = wr_graph_new();
        wr_nat_pairs in = wr_nat_inputs(&n, g);
        wr_nat_losses l = wr_nat_losses_of(&n, &t, &in, false);
        wr outputs[2] = {l.objective.each, l.objective.feasible};
        if (!wr_is_poison(l.length)) {
            wr_nat_encoding e = wr_nat_encode(&n, in.src, in.src_len);
            outputs[1] = wr_nat_length_nll(&n, &e, in.tgt_len);
        }
        wr_program *p = test_build(g, 2, outputs);
        subject x = open_subject(1, 7);
        run(&x, p);
        double want[B][2];
        for (int b = 0; b < B; b++)
            for (int o = 0; o < 2; o++)
                want[b][o] = value(&x, o, b);
        for (int b = 0; b < B; b++) {
            subject y = open_subject(1, 7);
            y.b = 1, y.s = 9, y.t = 11;
            for (int i = 0; i < 9; i++)
                y.src[i] = i < SRC_LEN[b] ? SRC[b * S + i] : 5;
            for (int i = 0; i < 11; i++)
                y.tgt[i] = i < TGT_LEN[b] ? TGT[b * T + i] : 6;
            y.src_len[0] = SRC_LEN[b];
            y.tgt_len[0] = TGT_LEN[b];
            run(&y, p);
            for (int o = 0; o < 2; o++)
                if (!(fabs(value(&y, o, 0) - want[b][o]) < 1e-11 * (1 + fabs(want[b][o]))))
                    fail_msg("form %d, sentence %d, output %d: %.15g alone, %.15g in a batch", k, b,
                             o, value(&y, o, 0), want[b][o]);
            wr_session_free(y.session);
        }
        assert_true(want[0][0] > 0 && want[0][0] < 100);
        wr_session_free(x.session);
        wr_program_free(p);
        wr_graph_free(g);
    }
}

/* A target without words, or with more than frames can say, counts nowhere and moves nothing. */
static void test_infeasible(void **state) {
    (void)state;
    for (int k = 0; k < FORM_COUNT; k++) {
        wr_nat n = model_of(&FORMS[k]);
        wr_nat_training t;
        training_of(&FORMS[k], &t);
        wr_graph *g = wr_graph_new();
        wr_nat_pairs in = wr_nat_inputs(&n, g);
        wr_nat_losses l = wr_nat_losses_of(&n, &t, &in, true);
        wr table = wr_param(g, "embedding", WR_F64, WR_DIMS(wr_n(V + WR_NAT_EXTRA), wr_n(D)),
                            ((wr_init){WR_INIT_NORMAL, 0, 1 / sqrt(D)}));
        wr outputs[4] = {l.total, l.infeasible, l.objective.total};
        assert_true(wr_grad(l.total, 1, &table, &outputs[3]));
        subject x = open_subject(1, 7);
        x.tgt_len[1] = 0;
        run_once(&x, g, 4, outputs);
        assert_true(isfinite(value(&x, 0, 0)) && value(&x, 2, 0) > 0);
        assert_true(value(&x, 1, 0) == 1);
        for (int i = 0; i < (V + WR_NAT_EXTRA) * D; i++)
            assert_true(isfinite(value(&x, 3, i)));
        x.tgt_len[0] = x.tgt_len[2] = 0; /* nothing at all is left */
        run_once(&x, g, 4, outputs);
        assert_true(value(&x, 2, 0) == 0 && value(&x, 1, 0) == B);
        for (int i = 0; i < (V + WR_NAT_EXTRA) * D; i++)
            assert_true(isfinite(value(&x, 3, i)));
        wr_graph_free(g);
        wr_session_free(x.session);
    }
}

/* ---- gradients ---- */

static void run_again(void *x, wr_program *p) { run(x, p); }

/* Every parameter gets a gradient, and along a direction it is the difference quotient of the whole
 * loss: objective, smoothing, length, with words that are given. */
static void test_gradients(void **state) {
    (void)state;
    for (int k = 0; k < FORM_COUNT; k++) {
        wr_nat n = model_of(&FORMS[k]);
        wr_nat_training t;
        training_of(&FORMS[k], &t);
        wr_graph *g = wr_graph_new();
        wr_nat_pairs in = wr_nat_inputs(&n, g);
        subject x = open_subject(1, 13);
        wr_nat_losses l = wr_nat_losses_of(&n, &t, &in, true);
        test_gradients_of(x.session, l.total, run_again, &x, FORMS[k].objective);
        wr_session_free(x.session);
        wr_graph_free(g);
    }
}

/* ---- two passes, one dropout ---- */

/* Losses with dropout, and how many words are given, at a share of the errors. */
static wr_nat_losses dropped(const form *f, double share, wr_nat_training *t, wr_graph *g) {
    wr_nat n = model_of(f);
    n.training = true;
    n.m.dropout = 0.4;
    n.m.attention_dropout = 0.2;
    training_of(f, t);
    t->revealing.glance_from = t->revealing.glance_to = share;
    wr_nat_pairs in = wr_nat_inputs(&n, g);
    return wr_nat_losses_of(&n, t, &in, true);
}

/* The second pass drops what a model without glancing drops, and so does the first: what it errs at
 * is what that model errs at. */
static void test_dropout_is_replayed(void **state) {
    (void)state;
    form glat = {"glat", ON(MASK), .framing = WR_RECIPE_FRAME_EOS,
                 .length = WR_RECIPE_LENGTH_POOLED, .glancing = WR_RECIPE_GLANCE_HAMMING};
    form plain = glat;
    plain.objective = "ce";
    plain.glancing = WR_RECIPE_GLANCE_NONE;
    for (uint64_t step = 0; step < 20; step++) {
        wr_nat_training t[3];
        wr_graph *g[3];
        wr_nat_losses l[3];
        double loss[3], given[3];
        int errors = 0, positions = 0;
        subject x = open_subject(1 + (int)step % 2, 17);
        for (int i = 0; i < 3; i++) {
            g[i] = wr_graph_new();
            l[i] = dropped(i == 0 ? &plain : &glat, i == 1 ? 0 : 1, &t[i], g[i]);
            wr said = i == 0 ? wr_argmax(l[i].logits) : l[i].given;
            wr_session_set_step(x.session, step);
            run_once(&x, g[i], 2, (wr[]){l[i].total, said});
            loss[i] = value(&x, 0, 0);
            given[i] = i == 0 ? 0 : value(&x, 1, 0);
            for (int b = 0; i == 0 && b < B; b++)
                for (int k = 0; k < TGT_LEN[b]; k++, positions++)
                    errors += (int)value(&x, 1, b * T + k) != TGT[b * T + k];
            wr_graph_free(g[i]);
        }
        assert_true(fabs(loss[1] - loss[0]) < 1e-12); /* nothing given: the same loss */
        assert_true(given[1] == 0);
        assert_true(fabs(given[2] * positions - errors) < 1e-9);
        wr_session_free(x.session);
    }
}

/* The same seed and step give the same loss on any number of threads; another step another one. */
static void test_choice_is_repeated(void **state) {
    (void)state;
    static const int FORM[] = {4, 5, 6, 8};
    for (int k = 0; k < 4; k++) {
        double loss[4];
        for (int i = 0; i < 4; i++) {
            wr_nat_training t;
            wr_graph *g = wr_graph_new();
            wr total = dropped(&FORMS[FORM[k]], 0.5, &t, g).total;
            subject x = open_subject(i == 1 ? 2 : 1, 23);
            wr_session_set_step(x.session, i == 2 ? 5 : 4);
            run_once(&x, g, 1, &total);
            loss[i] = value(&x, 0, 0);
            wr_graph_free(g);
            wr_session_free(x.session);
        }
        assert_true(loss[0] == loss[1] && loss[0] == loss[3] && loss[0] != loss[2]);
    }
}

/* ---- memory ---- */

/* Build, compile and run the losses of a form. */
static wr_status work(const form *f, const wr_nat_training *t, wr_error *err) {
    wr_nat n = model_of(f);
    wr_session *session = NULL;
    wr_program *p = NULL;
    wr_status status = wr_session_new(&(wr_session_options){.threads = 1}, &session, err);
    wr_graph *g = wr_graph_new();
    if (g == NULL && status == WR_OK) status = WR_ERR_MEMORY;
    if (status == WR_OK) {
        wr_nat_pairs in = wr_nat_inputs(&n, g);
        wr total = wr_nat_losses_of(&n, t, &in, true).total;
        status = wr_program_new(g, 1, &total, wr_standard_passes(), &p, err);
    }
    const int32_t update = 1;
    const wr_feed feed[] = {{"src", SRC, 2, {B, S}},
                            {"src_len", SRC_LEN, 1, {B}},
                            {"tgt", TGT, 2, {B, T}},
                            {"tgt_len", TGT_LEN, 1, {B}},
                            {WR_NAT_UPDATE, &update, 0, {0}}};
    if (status == WR_OK) status = wr_session_run(session, p, 5, feed, err);
    wr_graph_free(g);
    wr_session_free(session);
    wr_program_free(p);
    return status;
}

/* Allocations fail one at a time, first each one and then ever fewer of them. */
static void test_failed_allocations(void **state) {
    (void)state;
    static const int FORM[] = {5, 8};
    for (int k = 0; k < 2; k++) {
        bool failed = true;
        wr_nat_training t;
        training_of(&FORMS[FORM[k]], &t);
        for (long n = 1; failed; n += 1 + n / 4) {
            wr_error err = {0};
            wr_test_watch_allocations();
            wr_test_fail_allocation(n);
            wr_status status = work(&FORMS[FORM[k]], &t, &err);
            failed = wr_test_allocation_failed();
            assert_int_equal(wr_test_unfreed_allocations(), 0);
            if (status != (failed ? WR_ERR_MEMORY : WR_OK))
                fail_msg("allocation %ld: status %d, %s", n, (int)status, err.text);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uniform_source),
        cmocka_unit_test(test_mixtures),
        cmocka_unit_test(test_canvas),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_length_classes),
        cmocka_unit_test(test_length_scores),
        cmocka_unit_test(test_difference_is_detached),
        cmocka_unit_test(test_places_of_every_layer),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_infeasible),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_dropout_is_replayed),
        cmocka_unit_test(test_choice_is_repeated),
        cmocka_unit_test(test_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
