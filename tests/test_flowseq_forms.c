/* test_flowseq_forms.c: FlowSeq in all its forms: parameter counts of the published models,
 * lengths, positions, padding, gradients, dropout, mistakes, and memory that runs out. Values of
 * the authors' program are in test_flowseq.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "graph/op.h"
#include "graph/session.h"
#include "helpers/alloc.h"
#include "helpers/decoding.h"
#include "models/flowseq.h"
#include "ops/assign.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/reduce.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static wr_flow_stack stack_of(const char *layers, wr_flow_net net) {
    wr_flow_stack stack;
    wr_error err = {0};
    wr_flow_recipe recipe = {.text = {layers}, .net = net};
    if (wr_flow_parse(&recipe, &stack, &err) != WR_OK) fail_msg("%s", err.text);
    return stack;
}

/* ---- parameter counts ---- */

static int64_t count_parameters(const wr_graph *g) {
    int64_t count = 0;
    for (uint32_t id = 1; id < wr_node_count(g); id++) {
        const wr_node *x = wr_node_at(g, id);
        int64_t n = x->op == &wr_op_param;
        for (int i = 0; i < x->rank && n > 0; i++)
            n *= wr_dim_literal(x->dim[i]);
        count += n;
    }
    return count;
}

static void check_count(const wr_flowseq *f, int64_t expected) {
    wr_graph *g = wr_graph_new();
    wr_error err = {0};
    wr_flowseq_pairs in = wr_flowseq_inputs(f, g);
    wr_flowseq_losses_of(f, &in, &(wr_flowseq_options){0});
    if (wr_graph_status(g, &err) != WR_OK) fail_msg("%s", err.text);
    assert_int_equal(count_parameters(g), expected);
    wr_graph_free(g);
}

static wr_flowseq published(int vocab, int dim, int layers[3]) {
    return (wr_flowseq){.src_vocab = vocab,
                        .tgt_vocab = vocab,
                        .dim = dim,
                        .hidden = 1024,
                        .heads = 8,
                        .encoder_layers = layers[0],
                        .posterior_layers = layers[1],
                        .decoder_layers = layers[2],
                        .shared_embeddings = true,
                        .length_unit = 4,
                        .length_range = 20,
                        .max_positions = 248,
                        .prior = stack_of(NULL, 0),
                        .prior_heads = 8,
                        .prior_hidden = 2 * dim,
                        .dtype = WR_F32};
}

static void test_counts_of_transformers(void **state) {
    (void)state;
    wr_flowseq f = published(37000, 256, (int[]){6, 4, 4});
    check_count(&f, 73410097);
    f = published(31500, 256, (int[]){6, 4, 4});
    check_count(&f, 71996597);
    f = published(37000, 512, (int[]){6, 4, 4});
    check_count(&f, 258847665);
    f = published(31500, 512, (int[]){6, 4, 4});
    check_count(&f, 256026165);
    f = published(22825, 256, (int[]){5, 3, 3});
    f.src_vocab = 32012;
    f.shared_embeddings = false;
    f.length_range = 16;
    check_count(&f, 81235658);
}

static wr_flowseq published_lstm(int vocab, int hidden, int layers[3], const char *prior) {
    wr_flowseq f = published(vocab, 256, layers);
    f.encoder = WR_RECIPE_ENCODER_LSTM;
    f.posterior = WR_RECIPE_POSTERIOR_LSTM;
    f.decoder = WR_RECIPE_DECODER_LSTM;
    f.hidden = f.prior_hidden = hidden;
    f.prior = stack_of(prior, WR_FLOW_NET_LSTM);
    return f;
}

static void test_counts_of_lstms(void **state) {
    (void)state;
    static const char *const wmt = "step x4\ncoupling halves up\nfactor_out halves\nsqueeze\n"
                                   "step x4\ncoupling halves up\nfactor_out halves\nsqueeze\n"
                                   "last_step x2\n";
    static const char *const iwslt = "step x4\ncoupling halves up\nfactor_out halves\nsqueeze\n"
                                     "step x2\ncoupling halves up\nfactor_out halves\nsqueeze\n"
                                     "last_step x2\n";
    wr_flowseq f = published_lstm(37000, 512, (int[]){3, 2, 2}, wmt);
    check_count(&f, 236215985);
    f = published_lstm(31500, 512, (int[]){3, 2, 2}, wmt);
    check_count(&f, 234802485);
    f = published_lstm(22825, 256, (int[]){2, 1, 1}, iwslt);
    f.src_vocab = 32012;
    f.shared_embeddings = false;
    f.length_range = 16;
    check_count(&f, 86097226);
}

/* ---- lengths and positions ---- */

static void test_length_classes(void **state) {
    (void)state;
    static const int example[][3] = {{5, 4, 4},    {5, 40, 12}, {20, 4, 12},
                                     {20, 32, 28}, {3, 4, 4},   {30, 12, 24}};
    wr_flowseq f = {.length_unit = 4, .length_range = 8};
    for (size_t i = 0; i < sizeof example / sizeof *example; i++) {
        int class = wr_flowseq_length_class(&f, example[i][0], example[i][1]);
        assert_int_equal(wr_flowseq_class_length(&f, example[i][0], class), example[i][2]);
    }
    for (int s = 1; s < 60; s++)
        for (int t = 4; t < 80; t += 4) {
            int class = wr_flowseq_length_class(&f, s, t);
            assert_in_range(class, 0, 16);
            assert_int_equal(wr_flowseq_class_length(&f, s, class) % 4, 0);
            if (abs(t - s) <= 8) assert_int_equal(wr_flowseq_class_length(&f, s, class), t);
        }
    f.pooled_lengths = true; /* every length has a class of its own */
    assert_int_equal(wr_flowseq_length_class(&f, 20, 13), 1);
    assert_int_equal(wr_flowseq_length_class(&f, 20, 2), 0);
    assert_int_equal(wr_flowseq_length_class(&f, 20, 90), 16);
}

static void test_best_lengths(void **state) {
    (void)state;
    wr_flowseq f = {.length_unit = 1, .length_range = 2};
    const double scores[5] = {-3, -1, -INFINITY, -1, -2};
    int length[5];
    double best[5];
    assert_int_equal(wr_flowseq_best_lengths(&f, 10, scores, 5, length, best), 4);
    static const int expected[] = {9, 11, 12, 8};
    for (int i = 0; i < 4; i++)
        assert_int_equal(length[i], expected[i]);
    assert_true(best[0] == -1 && best[1] == -1 && best[2] == -2 && best[3] == -3);
    assert_int_equal(wr_flowseq_best_lengths(&f, 10, scores, 2, length, NULL), 2);
}

/* Scores 1, 2 and 0.5 of the allowed lengths, whatever the other classes have; label smoothing is
 * over the allowed ones only: 0.9 (lse - 1) + 0.1 (lse - 3.5 / 3), lse = log(e + e^2 + e^0.5). */
static void test_length_smoothing(void **state) {
    (void)state;
    wr_flowseq f = {
        .dim = 2, .length_unit = 2, .length_range = 3, .max_positions = 20, .dtype = WR_F64};
    static const double scores[7] = {9, 1, 9, 2, 9, 0.5, 9}; /* of the lengths 1 .. 7 */
    static const int32_t src_len = 4, tgt_len = 2;
    double zero[2] = {0, 0};
    wr_graph *g = wr_graph_new();
    wr len = wr_input(g, "len", WR_I32, WR_DIMS(wr_n(1)));
    wr target = wr_input(g, "target", WR_I32, WR_DIMS(wr_n(1)));
    wr_flowseq_encoding e = {.source = {.len = len},
                             .state = wr_input(g, "state", WR_F64, WR_DIMS(wr_n(1), wr_n(2)))};
    wr_flowseq_length_loss l = wr_flowseq_length_loss_of(&f, &e, target, 0.1);
    wr_error err = {0};
    wr_program *p = NULL;
    wr_session *session = NULL;
    wr_session_options o = {.threads = 1};
    wr_status status = wr_program_new(g, 2, (wr[]){l.loss, l.nll}, NULL, &p, &err);
    if (status == WR_OK) status = wr_session_new(&o, &session, &err);
    if (status == WR_OK)
        status = wr_session_define(session, "length.out.b", true, WR_F64, 1, (int64_t[]){7}, scores,
                                   &err);
    wr_feed feeds[] = {
        {"len", &src_len, 1, {1}}, {"target", &tgt_len, 1, {1}}, {"state", zero, 2, {1, 2}}};
    if (status == WR_OK) status = wr_session_run(session, p, 3, feeds, &err);
    if (status != WR_OK) fail_msg("%s", err.text);
    double lse = log(exp(1) + exp(2) + exp(0.5));
    double loss = *(const double *)wr_session_output(session, 0)->data;
    double nll = *(const double *)wr_session_output(session, 1)->data;
    assert_true(fabs(loss - 1.4477) < 5e-5 && fabs(nll - 1.4644) < 5e-5);
    assert_true(fabs(loss - (0.9 * (lse - 1) + 0.1 * (lse - 3.5 / 3))) < 1e-12);
    assert_true(fabs(nll - (lse - 1)) < 1e-12);
    wr_session_free(session);
    wr_program_free(p);
    wr_graph_free(g);
}

static void test_positions(void **state) {
    (void)state;
    static const double row[3][7] = {{0},
                                     {0.84147, 0.0099998, 0.0001, 0.54030, 0.99995, 1.0},
                                     {0.90930, 0.019999, 0.0002, -0.41615, 0.99980, 1.0}};
    for (int dim = 1; dim < 8; dim++) { /* an odd width has a column of zeros at its end */
        wr_graph *g = wr_graph_new();
        wr table = wr_positions_of(g, WR_F64, 2, dim);
        const wr_attr *a = wr_node_attrs(g, table.id);
        size_t bytes;
        const double *v = wr_blob_at(g, a[WR_CONST_BLOB].blob, &bytes);
        assert_int_equal(bytes, 3 * (size_t)dim * sizeof *v);
        for (int i = 0; i < 3 * dim; i++) {
            assert_true(isfinite(v[i]));
            if (dim == 6 || dim == 7) assert_true(fabs(v[i] - row[i / dim][i % dim]) < 1e-5);
            if (dim % 2 == 1 && i % dim == dim - 1) assert_true(v[i] == 0);
        }
        wr_graph_free(g);
    }
}

/* ---- forms of the model ---- */

enum { V = 11, D = 16, SENTENCES = 3, S_MOST = 9, T_MOST = 16, SAMPLES = 2 };
static const int32_t SRC_LEN[SENTENCES] = {6, 3, 5}, TGT_LEN[SENTENCES] = {8, 4, 12};
static const char *const PRIOR = "actnorm\nlinear heads\ncoupling halves up\ncoupling time down\n"
                                 "factor_out halves\nsqueeze\nposition\n";

typedef enum form { ALL_TRANSFORMER, ALL_LSTM, SHIFTED, PAPER, FORMS } form;

static wr_flowseq make(form form) {
    wr_flowseq f = {.src_vocab = V,
                    .tgt_vocab = V,
                    .dim = D,
                    .hidden = 12,
                    .heads = 2,
                    .encoder_layers = 1,
                    .posterior_layers = 1,
                    .decoder_layers = 1,
                    .shared_embeddings = true,
                    .length_unit = 4,
                    .length_range = 8,
                    .max_positions = 24,
                    .prior = stack_of(PRIOR, 0),
                    .prior_heads = 2,
                    .prior_hidden = 10,
                    .dtype = WR_F64};
    if (form == ALL_LSTM) {
        f.encoder = WR_RECIPE_ENCODER_LSTM;
        f.posterior = WR_RECIPE_POSTERIOR_LSTM;
        f.decoder = WR_RECIPE_DECODER_LSTM;
        f.encoder_layers = 2;
    }
    if (form == SHIFTED) {
        f.posterior = WR_RECIPE_POSTERIOR_SHIFT_LSTM;
        f.decoder = WR_RECIPE_DECODER_SIMPLE;
        f.prior = stack_of("coupling halves up\ncoupling time down\n", WR_FLOW_NET_LSTM);
    }
    if (form == PAPER) {
        f.shared_embeddings = false;
        f.src_vocab = V + 2;
        f.pooled_lengths = true;
        f.zero_heads = true;
    }
    return f;
}

typedef struct subject {
    wr_flowseq f;
    wr_session *session;
    int64_t b, s, t;
    int32_t src[SENTENCES * S_MOST], src_len[SENTENCES];
    int32_t tgt[SENTENCES * T_MOST], tgt_len[SENTENCES];
    double noise[SENTENCES * SAMPLES * T_MOST * D];
} subject;

/* Numbers in about [-1, 1] that follow no pattern. */
static double draw(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 40) / (double)(1u << 23) - 1.0;
}

static int32_t word(uint64_t *state) { return (int32_t)(1 + (draw(state) + 1) / 2 * (V - 1.001)); }

/* Feed these sentences, padded to s and t with words and noise that should not matter. */
static void feed(subject *x, int n, const int *sentence, int s, int t, uint64_t garbage) {
    x->b = n;
    x->s = s;
    x->t = t;
    for (int i = 0; i < n; i++) {
        uint64_t own = 1000 + (uint64_t)sentence[i];
        x->src_len[i] = SRC_LEN[sentence[i]];
        x->tgt_len[i] = TGT_LEN[sentence[i]];
        for (int k = 0; k < s; k++)
            x->src[i * s + k] = word(k < x->src_len[i] ? &own : &garbage);
        for (int k = 0; k < t; k++)
            x->tgt[i * t + k] = word(k < x->tgt_len[i] ? &own : &garbage);
        for (int k = 0; k < SAMPLES; k++)
            for (int p = 0; p < t * D; p++)
                x->noise[(i * SAMPLES + k) * t * D + p] =
                    draw(p < x->tgt_len[i] * D ? &own : &garbage);
    }
}

static void open_subject(subject *x, form form) {
    wr_error err = {0};
    wr_session_options o = {.threads = 2, .seed = 3};
    *x = (subject){.f = make(form)};
    feed(x, SENTENCES, (int[]){0, 1, 2}, 6, 12, 5);
    if (wr_session_new(&o, &x->session, &err) != WR_OK) fail_msg("%s", err.text);
}

static void run(subject *x, wr_program *p) {
    wr_feed all[] = {{"src", x->src, 2, {x->b, x->s}},
                     {"src_len", x->src_len, 1, {x->b}},
                     {"tgt", x->tgt, 2, {x->b, x->t}},
                     {"tgt_len", x->tgt_len, 1, {x->b}},
                     {"noise", x->noise, 3, {x->b * SAMPLES, x->t, D}}};
    test_run(x->session, p, 5, all);
}

static double value(const subject *x, int output, int64_t i) {
    return ((const double *)wr_session_output(x->session, output)->data)[i];
}

static wr_flowseq_losses losses(const wr_flowseq *f, wr_graph *g, wr_flowseq_pairs *in) {
    *in = wr_flowseq_inputs(f, g);
    wr_dim n = wr_dim_mul(g, wr_dim_of(in->tgt, 0), wr_n(SAMPLES));
    wr_flowseq_options o = {.samples = SAMPLES, .label_smoothing = 0.1, .length_smoothing = 0.2};
    o.noise = wr_input(g, "noise", f->dtype, WR_DIMS(n, wr_dim_of(in->tgt, 1), wr_n(f->dim)));
    return wr_flowseq_losses_of(f, in, &o);
}

/* ---- padding ---- */

enum { PER_SENTENCE = 7, CLASSES = 17, OUTPUTS = PER_SENTENCE + 2 };

/* What one sentence gives: losses, scores of lengths, what its first noise generates. */
typedef struct seen {
    double value[PER_SENTENCE + CLASSES + T_MOST * D];
    int n;
} seen;

static wr_program *everything(const wr_flowseq *f) {
    wr_graph *g = wr_graph_new();
    wr_flowseq_pairs in;
    wr_flowseq_losses l = losses(f, g, &in);
    wr_flowseq_encoding e = wr_flowseq_encode(f, in.src, in.src_len);
    wr z = wr_flowseq_generate(f, &e.source, l.q.mean, in.tgt_len, NULL);
    wr out[OUTPUTS] = {l.reconstruction,
                       l.nll,
                       l.kl,
                       l.log_det,
                       l.length,
                       l.log_q,
                       l.tokens,
                       wr_flowseq_length_scores(f, &e),
                       z};
    wr_program *p = test_build(g, OUTPUTS, out);
    wr_graph_free(g);
    return p;
}

static seen see(const subject *x, int i) {
    seen s = {.n = 0};
    for (int k = 0; k < PER_SENTENCE; k++)
        s.value[s.n++] = value(x, k, i);
    for (int k = 0; k < CLASSES; k++)
        s.value[s.n++] = value(x, PER_SENTENCE, i * CLASSES + k);
    for (int k = 0; k < x->tgt_len[i] * D; k++)
        s.value[s.n++] = value(x, PER_SENTENCE + 1, i * x->t * D + k);
    return s;
}

static void same(const seen *a, const seen *b) {
    assert_int_equal(a->n, b->n);
    for (int i = 0; i < a->n; i++) {
        bool equal = a->value[i] == b->value[i] ||
                     fabs(a->value[i] - b->value[i]) <= 1e-11 * (1 + fabs(a->value[i]));
        if (!equal) fail_msg("number %d: %.17g and %.17g", i, a->value[i], b->value[i]);
    }
}

/* Sentences alone without padding, and together in two orders with much of it. */
static void test_padding(void **state) {
    (void)state;
    for (form form = 0; form < FORMS; form++) {
        subject x;
        open_subject(&x, form);
        wr_program *p = everything(&x.f);
        run(&x, p);
        test_move(x.session, 0.06, 42);
        seen alone[SENTENCES];
        for (int i = 0; i < SENTENCES; i++) {
            feed(&x, 1, &i, SRC_LEN[i], TGT_LEN[i], 1);
            run(&x, p);
            alone[i] = see(&x, 0);
        }
        for (int turn = 0; turn < 2; turn++) {
            const int order[2][SENTENCES] = {{0, 1, 2}, {2, 0, 1}};
            feed(&x, SENTENCES, order[turn], turn == 0 ? 6 : S_MOST, turn == 0 ? 12 : T_MOST, 77);
            run(&x, p);
            for (int i = 0; i < SENTENCES; i++) {
                seen together = see(&x, i);
                same(&alone[order[turn][i]], &together);
            }
        }
        wr_session_free(x.session);
        wr_program_free(p);
    }
}

/* ---- gradients ---- */

static void run_again(void *x, wr_program *p) { run(x, p); }

/* Each parameter's gradient is there, and their product with a direction is the difference quotient
 * of the loss along it. */
static void test_gradients(void **state) {
    (void)state;
    static const char *const NAME[FORMS] = {"transformers", "LSTMs", "shifted", "the paper's"};
    for (form form = 0; form < FORMS; form++) {
        subject x;
        open_subject(&x, form);
        wr_graph *g = wr_graph_new();
        wr_flowseq_pairs in;
        wr_flowseq_losses l = losses(&x.f, g, &in);
        wr total = wr_flowseq_total(&l, wr_scalar(g, WR_F64, 0.7));
        test_gradients_of(x.session, total, run_again, &x, NAME[form]);
        wr_session_free(x.session);
        wr_graph_free(g);
    }
}

/* Pre-training leaves the prior out: none of its parameters is in the graph. */
static void test_pretraining(void **state) {
    (void)state;
    wr_flowseq f = make(ALL_TRANSFORMER);
    wr_graph *g = wr_graph_new();
    wr_flowseq_pairs in = wr_flowseq_inputs(&f, g);
    wr_flowseq_losses l = wr_flowseq_losses_of(&f, &in, &(wr_flowseq_options){.pretraining = true});
    wr total = wr_flowseq_total(&l, (wr){g, 0});
    assert_true(wr_graph_ok(g) && !wr_is_poison(total));
    assert_true(wr_is_poison(l.kl) && wr_is_poison(l.weights));
    for (uint32_t id = 1; id < wr_node_count(g); id++)
        if (wr_node_at(g, id)->op == &wr_op_param)
            assert_true(strncmp(wr_source_name(g, id), "prior.", 6) != 0);
    wr_graph_free(g);
}

/* ---- dropout ---- */

/* Each rate alone makes the loss depend on the session's step, and on nothing else. */
static void test_dropout(void **state) {
    (void)state;
    enum { RATES = 6 };
    for (int rate = 0; rate <= RATES; rate++) {
        subject x;
        open_subject(&x, ALL_TRANSFORMER);
        double *p_of[RATES] = {&x.f.dropout,        &x.f.embedding_dropout,
                               &x.f.token_dropout,  &x.f.decoder_token_dropout,
                               &x.f.length_dropout, &x.f.prior_dropout};
        if (rate < RATES) *p_of[rate] = 0.5;
        x.f.training = true;
        wr_graph *g = wr_graph_new();
        wr_flowseq_pairs in;
        wr_flowseq_losses l = losses(&x.f, g, &in);
        wr out = wr_flowseq_total(&l, wr_scalar(g, WR_F64, 1));
        wr_program *p = test_build(g, 1, &out);
        run(&x, p);
        test_move(x.session, 0.06, 42);
        double loss[3];
        for (int i = 0; i < 3; i++) {
            wr_session_set_step(x.session, i == 1 ? 8 : 7);
            run(&x, p);
            loss[i] = value(&x, 0, 0);
            assert_true(isfinite(loss[i]));
        }
        assert_true(loss[0] == loss[2]);
        assert_true((loss[0] != loss[1]) == (rate < RATES));
        wr_session_free(x.session);
        wr_program_free(p);
        wr_graph_free(g);
    }
}

/* ---- mistakes ---- */

static void expect_mistake(wr_graph *g, const char *text) {
    wr_str report = {0};
    wr_graph_report(g, &report);
    if (strstr(wr_str_text(&report), text) == NULL)
        fail_msg("'%s' is not in: %s", text, wr_str_text(&report));
    wr_str_free(&report);
    wr_graph_free(g);
}

static void test_mistakes(void **state) {
    (void)state;
    wr_init zero = {WR_INIT_ZERO, 0, 0};
    wr_graph *g = wr_graph_new();
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(3)));
    wr_assign(x, x);
    expect_mistake(g, "neither a parameter nor a state");

    g = wr_graph_new();
    wr p = wr_param(g, "p", WR_F32, WR_DIMS(wr_n(4)), zero);
    wr_assign(p, wr_input(g, "x", WR_F32, WR_DIMS(wr_n(3))));
    expect_mistake(g, "has not the type of operand a");

    g = wr_graph_new();
    wr_flowseq f = make(ALL_TRANSFORMER);
    wr_flowseq_pairs in = wr_flowseq_inputs(&f, g);
    wr_flowseq_start_data(&f, &in, (wr){g, 0}, 0);
    expect_mistake(g, "nothing of this model starts like that");
}

/* ---- memory ---- */

/* The model, its start from data, and the program. */
static wr_status build(const wr_flowseq *f, wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", 1);
    wr_flowseq_pairs in;
    wr_flowseq_losses l = losses(f, g, &in);
    wr out[2] = {wr_flowseq_total(&l, wr_scalar(g, f->dtype, 1))};
    out[1] = wr_flowseq_start_data(f, &in, (wr){g, 0}, WR_FLOWSEQ_START_MEAN);
    wr_program *p = NULL;
    wr_status status = wr_program_new(g, 2, out, NULL, &p, err);
    wr_program_free(p);
    wr_graph_free(g);
    return status;
}

static void test_memory(void **state) {
    (void)state;
    wr_flowseq f = make(ALL_TRANSFORMER);
    f.prior = stack_of("actnorm\ncoupling halves up\n", 0);
    for (long n = 1;; n++) {
        wr_error err = {0};
        wr_test_watch_allocations();
        wr_test_fail_allocation(n);
        wr_status status = build(&f, &err);
        bool failed = wr_test_allocation_failed();
        long left = wr_test_unfreed_allocations();
        if (left > 0) fail_msg("%ld blocks are left after allocation %ld failed", left, n);
        if (!failed) {
            if (status != WR_OK) fail_msg("%s", err.text);
            break;
        }
        if (status != WR_ERR_MEMORY)
            fail_msg("allocation %ld: status %d: %s", n, (int)status, err.text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_counts_of_transformers),
                                       cmocka_unit_test(test_counts_of_lstms),
                                       cmocka_unit_test(test_length_classes),
                                       cmocka_unit_test(test_best_lengths),
                                       cmocka_unit_test(test_length_smoothing),
                                       cmocka_unit_test(test_positions),
                                       cmocka_unit_test(test_padding),
                                       cmocka_unit_test(test_gradients),
                                       cmocka_unit_test(test_pretraining),
                                       cmocka_unit_test(test_dropout),
                                       cmocka_unit_test(test_mistakes),
                                       cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
