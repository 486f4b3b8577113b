/* test_cuda_models.c: whole training steps (forward, backward, clipping, Adam) of the Transformer
 * and of FlowSeq on the emulated CUDA device, and their decoders, against the CPU: the same numbers
 * at random, losses, updated parameters and words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "graph/random.h"
#include "helpers/cuda.h"
#include "helpers/sample.h"
#include "models/flowseq_decoder.h"
#include "models/search.h"
#include "models/transformer.h"
#include "ops/fuse.h"
#include "optim/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 17, DIM = 16, SENTENCES = 3, S = 6, T = 8, MAX_LEN = 24, STEPS = 3, MOST = 8 };

static const int32_t SRC[SENTENCES * S] = {5, 9, 4, 7, 12, 2, 6, 6, 2, 0, 0, 0, 8, 3, 11, 14, 2, 0};
static const int32_t SRC_LEN[SENTENCES] = {6, 3, 5};
static const int32_t TGT[SENTENCES * T] = {4, 8, 3, 11, 5,  6, 2, 2, 10, 7, 2, 2,
                                           0, 0, 0, 0,  13, 5, 9, 2, 0,  0, 0, 0};
static const int32_t TGT_IN[SENTENCES * T] = {1, 4, 8, 3, 11, 5,  6, 2, 1, 10, 7, 2,
                                              0, 0, 0, 0, 1,  13, 5, 9, 0, 0,  0, 0};
static const int32_t TGT_LEN[SENTENCES] = {8, 4, 4};

static test_cuda EMULATOR;
static bool EMULATED;

static void must(wr_status status, const wr_error *err) {
    if (status != WR_OK) fail_msg("%s", err->text);
}

/* ---- the same on both devices ---- */

enum { CPU, CUDA, DEVICES };
typedef struct pair {
    wr_session *on[DEVICES];
} pair;

static pair open_pair(void) {
    static const char *const NAMES[DEVICES] = {"cpu", "cuda"};
    pair p;
    wr_error err = {0};
    for (int i = 0; i < DEVICES; i++) {
        wr_session_options o = {.device = NAMES[i], .threads = 1, .seed = 21};
        must(wr_session_new(&o, &p.on[i], &err), &err);
        assert_string_equal(wr_session_device(p.on[i]), NAMES[i]);
    }
    return p;
}

static void close_pair(const pair *p) {
    for (int i = 0; i < DEVICES; i++)
        wr_session_free(p->on[i]);
    assert_string_equal(EMULATOR.message(), "");
}

static void prepare(const pair *p, const wr_program *program) {
    wr_error err = {0};
    for (int i = 0; i < DEVICES; i++)
        must(wr_session_prepare(p->on[i], program, &err), &err);
}

static void *read_stored(wr_session *s, int index) {
    wr_error err = {0};
    const wr_tensor *x = &wr_session_stored_at(s, index)->tensor;
    void *bytes = malloc((size_t)x->n * wr_dtype_bytes(x->dtype) + 1);
    assert_non_null(bytes);
    must(wr_session_read(s, index, bytes, &err), &err);
    return bytes;
}

static void move_a_little(const wr_tensor *x, void *data, int index) {
    wr_random r = wr_random_stream(5, 0, (uint64_t)index);
    for (int64_t k = 0; k < x->n; k++) {
        uint32_t bits[4];
        float a, b;
        wr_random_bits(&r, (uint64_t)k, bits);
        wr_random_normal(bits[0], bits[1], &a, &b);
        if (x->dtype == WR_F64) ((double *)data)[k] += 0.05 * (double)a;
        if (x->dtype == WR_F32) ((float *)data)[k] += 0.05F * a;
    }
}

/* All parameters a little off where they begin, so that nothing is zero; the same on both. */
static void disturb(const pair *p) {
    wr_error err = {0};
    wr_session *s = p->on[CPU];
    for (int i = 0; i < wr_session_stored(s); i++) {
        const wr_stored *x = wr_session_stored_at(s, i);
        if (!x->trainable) continue;
        void *data = read_stored(s, i);
        int there = wr_session_find(p->on[CUDA], x->name);
        assert_true(there >= 0);
        move_a_little(&x->tensor, data, i);
        must(wr_session_write(s, i, data, &err), &err);
        must(wr_session_write(p->on[CUDA], there, data, &err), &err);
        free(data);
    }
}

/* |a - b| of a tensor's element, at most, of the largest |b|; what is smaller than 1e-6 is rounding
 * (the gradient of a key's bias, say). */
static double gap(const wr_tensor *a, const wr_tensor *b) {
    double apart = 0, largest = 1e-6;
    for (int64_t i = 0; i < a->n; i++) {
        double x = test_value(a, i), y = test_value(b, i);
        if (!(fabs(x - y) <= apart)) apart = fabs(x - y); /* NaN stays */
        largest = fmax(largest, fabs(y));
    }
    return apart / largest;
}

/* Everything that the sessions keep: parameters, and in f64 the optimizer's states. */
static void compare_stored(const pair *p, double most) {
    wr_session *s = p->on[CPU];
    assert_int_equal(wr_session_stored(s), wr_session_stored(p->on[CUDA]));
    for (int i = 0; i < wr_session_stored(s); i++) {
        const wr_stored *x = wr_session_stored_at(s, i);
        int there = wr_session_find(p->on[CUDA], x->name);
        assert_true(there >= 0);
        if (x->tensor.dtype == WR_F32 && !x->trainable) continue;
        wr_tensor a = x->tensor, b = x->tensor;
        a.data = read_stored(p->on[CUDA], there);
        b.data = read_stored(s, i);
        double error = gap(&a, &b);
        if (!(error < most)) fail_msg("%s is %.3g from the CPU's", x->name, error);
        free(a.data);
        free(b.data);
    }
}

static void run(const pair *p, wr_program *program, int n, const wr_feed *feeds, int n_outputs,
                double most) {
    wr_error err = {0};
    for (int i = 0; i < DEVICES; i++)
        must(wr_session_run(p->on[i], program, n, feeds, &err), &err);
    for (int k = 0; k < n_outputs; k++) {
        double error =
            test_difference(wr_session_output(p->on[CUDA], k), wr_session_output(p->on[CPU], k));
        if (!(error < most)) fail_msg("output %d is %.3g from the CPU's", k, error);
    }
}

/* ---- a program ---- */

typedef struct compiled {
    wr_graph *g;
    wr_program *program;
    int n;
} compiled;

static compiled compile(wr_graph *g, int n, const wr *outputs) {
    compiled c = {.g = g, .n = n};
    wr_error err = {0};
    must(wr_program_new(g, n, outputs, wr_standard_passes(), &c.program, &err), &err);
    return c;
}

/* `outputs` and the update by the gradient of `loss`. eps is large enough that a gradient which is
 * zero but for rounding moves nothing. */
static compiled compile_training(wr_graph *g, wr loss, int n, const wr *outputs, bool amsgrad) {
    wr_error err = {0};
    wr all[MOST];
    wr_optimizer made;
    wr_optimizer_options o = {.adam = {.beta1 = 0.9,
                                       .beta2 = 0.98,
                                       .eps = 1e-3,
                                       .clip_norm = 1,
                                       .weight_decay = 0.01,
                                       .decoupled = true,
                                       .amsgrad = amsgrad}};
    must(wr_optimizer_build(loss, &o, &made, &err), &err);
    memcpy(all, outputs, sizeof *outputs * (size_t)n);
    all[n++] = loss;
    all[n++] = made.norm;
    all[n++] = made.applied;
    return compile(g, n, all);
}

static void free_compiled(const pair *p, compiled *c) {
    for (int i = 0; i < DEVICES; i++)
        wr_session_forget(p->on[i], c->program);
    wr_program_free(c->program);
    wr_graph_free(c->g);
}

static wr_feed rows_of(const char *name, const int32_t *data, int64_t width) {
    return (wr_feed){.name = name, .data = data, .rank = 2, .dim = {SENTENCES, width}};
}
static wr_feed lengths_of(const char *name, const int32_t *data) {
    return (wr_feed){.name = name, .data = data, .rank = 1, .dim = {SENTENCES}};
}

/* Updates on both, the last of them replayed on the device. */
static void train(const pair *p, const compiled *c, int n, wr_feed *feeds, double most) {
    double lr = 0.01, scale = 1.0 / 16;
    uint64_t graphs = EMULATOR.counts().graphs;
    feeds[n++] = (wr_feed){.name = WR_OPTIM_LR, .data = &lr};
    feeds[n++] = (wr_feed){.name = WR_OPTIM_SCALE, .data = &scale};
    for (int step = 0; step < STEPS; step++) {
        run(p, c->program, n, feeds, c->n, most);
        const wr_tensor *applied = wr_session_output(p->on[CUDA], c->n - 1);
        assert_int_equal(((const int32_t *)applied->data)[0], 1);
    }
    assert_true(EMULATOR.counts().graphs > graphs);
    compare_stored(p, most);
}

static void assert_same_words(wr_translations *out) {
    const wr_translations *a = &out[CUDA], *b = &out[CPU];
    size_t words = 0;
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        assert_int_equal(a->count[i], b->count[i]);
        for (size_t k = 0; k < a->count[i]; k++) {
            const wr_hypothesis *x = &a->hyp[i * a->nbest + k], *y = &b->hyp[i * b->nbest + k];
            assert_int_equal(x->n, y->n);
            words += x->n;
            if (x->n > 0) assert_memory_equal(x->id, y->id, x->n * sizeof *x->id);
            if (!(fabs(x->score - y->score) <= 1e-5 * (1 + fabs(y->score))))
                fail_msg("sentence %zu, hypothesis %zu: score %g, by the CPU %g", i, k, x->score,
                         y->score);
        }
    }
    assert_true(words > 0);
    for (int i = 0; i < DEVICES; i++)
        wr_translations_free(&out[i]);
}

enum { SOURCES = 5 };
static const wr_sentence *sources(void) {
    static int32_t id[SOURCES][8];
    static wr_sentence s[SOURCES];
    for (size_t i = 0; i < SOURCES; i++) {
        s[i] = (wr_sentence){.id = id[i], .n = i * 5 % 7};
        for (size_t k = 0; k < s[i].n; k++)
            id[i][k] = (int32_t)(4 + (i * 3 + k * k + k) % 9);
    }
    return s;
}

/* ---- the Transformer ---- */

static wr_transformer transformer(wr_dtype dtype, wr_recipe_norm norm) {
    return (wr_transformer){.m = {.dim = DIM,
                                  .ffn = 24,
                                  .heads = 2,
                                  .encoder_layers = 2,
                                  .decoder_layers = 2,
                                  .norm = norm,
                                  .dropout = 0.2,
                                  .embeddings = WR_RECIPE_EMBED_SEPARATE,
                                  .max_len = MAX_LEN},
                            .src_vocab = VOCAB,
                            .tgt_vocab = VOCAB,
                            .dtype = dtype,
                            .training = true};
}

static void train_transformer(wr_dtype dtype, wr_recipe_norm norm, double most) {
    pair p = open_pair();
    wr_transformer t = transformer(dtype, norm);
    wr_graph *g = wr_graph_new();
    wr_transformer_batch in = wr_transformer_inputs(g, MAX_LEN);
    wr_transformer_loss l = wr_transformer_loss_of(&t, &in, 0.1);
    wr outputs[3] = {l.nll, l.tokens, l.token_nll};
    compiled c = compile_training(g, l.loss, 3, outputs, false);
    wr_feed feeds[8] = {rows_of("src", SRC, S), lengths_of("src_len", SRC_LEN),
                        rows_of("tgt_in", TGT_IN, T), rows_of("tgt_out", TGT, T),
                        lengths_of("tgt_len", TGT_LEN)};
    prepare(&p, c.program);
    disturb(&p);
    train(&p, &c, 5, feeds, most);
    free_compiled(&p, &c);
    close_pair(&p);
}

static void test_transformer_training(void **state) {
    (void)state;
    if (!EMULATED) skip();
    train_transformer(WR_F64, WR_RECIPE_NORM_PRE, 1e-9);
    train_transformer(WR_F32, WR_RECIPE_NORM_PRE, 1e-5);
    train_transformer(WR_F32, WR_RECIPE_NORM_POST, 1e-5);
}

static void test_transformer_decoding(void **state) {
    (void)state;
    if (!EMULATED) skip();
    pair p = open_pair();
    wr_transformer t = transformer(WR_F32, WR_RECIPE_NORM_PRE);
    wr_decoder *d[DEVICES];
    wr_error err = {0};
    for (int i = 0; i < DEVICES; i++)
        must(wr_decoder_new(&t, p.on[i], &d[i], &err), &err);
    disturb(&p);
    for (int beam = 1; beam <= 3; beam++) {
        wr_search_options o = {.beam = beam,
                               .nbest = beam,
                               .normalisation = WR_RECIPE_BY_PENALTY,
                               .alpha = 0.6,
                               .max_len_factor = 1,
                               .max_len_extra = 4,
                               .max_sentences = SOURCES,
                               .cache_bytes = 1 << 24};
        wr_translations out[DEVICES];
        for (int i = 0; i < DEVICES; i++)
            must(wr_search(d[i], sources(), SOURCES, &o, &out[i], &err), &err);
        assert_same_words(out);
    }
    for (int i = 0; i < DEVICES; i++)
        wr_decoder_free(d[i]);
    close_pair(&p);
}

/* ---- FlowSeq ---- */

static const char *const FLOW =
    "actnorm\nlinear heads\ncoupling halves up\ncoupling alternate down add\nfactor_out halves\n"
    "squeeze\nactnorm\nlinear heads\ncoupling time up\n";
static const char *const BENT_FLOW =
    "actnorm\nlinear heads\ncoupling halves up transform=nlsq\ncoupling time down\n";

static wr_flowseq flowseq(wr_dtype dtype, const char *layers, bool lstm) {
    wr_flow_recipe recipe = {.text = {layers}};
    wr_flowseq f = {.src_vocab = VOCAB,
                    .tgt_vocab = VOCAB,
                    .dim = DIM,
                    .hidden = 16,
                    .heads = 2,
                    .encoder_layers = 1,
                    .posterior_layers = 1,
                    .decoder_layers = 1,
                    .shared_embeddings = true,
                    .dropout = 0.1,
                    .embedding_dropout = 0.1,
                    .token_dropout = 0.2,
                    .length_unit = 4,
                    .length_range = 8,
                    .max_positions = MAX_LEN,
                    .prior_heads = 2,
                    .prior_hidden = 16,
                    .dtype = dtype,
                    .training = true};
    wr_error err = {0};
    if (lstm) {
        f.encoder = WR_RECIPE_ENCODER_LSTM;
        f.posterior = WR_RECIPE_POSTERIOR_SHIFT_LSTM;
        f.decoder = WR_RECIPE_DECODER_LSTM;
    }
    must(wr_flow_parse(&recipe, &f.prior, &err), &err);
    return f;
}

static int pair_feeds(wr_feed *feeds) {
    feeds[0] = rows_of("src", SRC, S);
    feeds[1] = lengths_of("src_len", SRC_LEN);
    feeds[2] = rows_of("tgt", TGT, T);
    feeds[3] = lengths_of("tgt_len", TGT_LEN);
    return 4;
}

/* First values from parameters, then from a batch, as a training begins. */
static void start(const pair *p, const wr_flowseq *f, double most) {
    enum { ALL = WR_FLOWSEQ_START_MEAN | WR_FLOWSEQ_START_LOG_VARIANCE | WR_FLOWSEQ_START_PRIOR };
    wr_feed feeds[4];
    wr_graph *first = wr_graph_new(), *second = wr_graph_new();
    wr from_params = wr_flowseq_start_params(f, first);
    compiled c = compile(first, 1, &from_params);
    run(p, c.program, 0, NULL, 1, most);
    free_compiled(p, &c);
    wr_flowseq_pairs in = wr_flowseq_inputs(f, second);
    wr from_data = wr_flowseq_start_data(f, &in, (wr){second, 0}, ALL);
    c = compile(second, 1, &from_data);
    run(p, c.program, pair_feeds(feeds), feeds, 1, most);
    free_compiled(p, &c);
    compare_stored(p, most);
}

static void train_flowseq(const wr_flowseq *f, double most) {
    pair p = open_pair();
    wr_graph *g = wr_graph_new();
    wr_flowseq_pairs in = wr_flowseq_inputs(f, g);
    wr_flowseq_options o = {.label_smoothing = 0.1, .noise = {g, 0}};
    wr_flowseq_losses l = wr_flowseq_losses_of(f, &in, &o);
    wr total = wr_flowseq_total(&l, wr_scalar(g, f->dtype, 0.5));
    wr outputs[4] = {l.reconstruction, l.kl, l.length, l.z};
    compiled c = compile_training(g, total, 4, outputs, true);
    wr_feed feeds[8];
    prepare(&p, c.program);
    disturb(&p);
    start(&p, f, most);
    train(&p, &c, pair_feeds(feeds), feeds, most);
    free_compiled(&p, &c);
    close_pair(&p);
}

static void test_flowseq_training(void **state) {
    (void)state;
    if (!EMULATED) skip();
    wr_flowseq wide = flowseq(WR_F64, FLOW, false), narrow = flowseq(WR_F32, FLOW, false);
    wr_flowseq lstm = flowseq(WR_F64, BENT_FLOW, true);
    train_flowseq(&wide, 1e-9);
    train_flowseq(&narrow, 1e-5);
    train_flowseq(&lstm, 1e-9);
}

static void test_flowseq_decoding(void **state) {
    (void)state;
    if (!EMULATED) skip();
    static const wr_recipe_decode_method METHODS[] = {WR_RECIPE_ARGMAX, WR_RECIPE_NPD,
                                                      WR_RECIPE_IWD};
    pair p = open_pair();
    wr_flowseq f = flowseq(WR_F32, FLOW, false);
    wr_flowseq_decoder *d[DEVICES];
    wr_error err = {0};
    for (int i = 0; i < DEVICES; i++) {
        wr_program *program;
        must(wr_flowseq_decoder_new(&f, p.on[i], &d[i], &err), &err);
        must(wr_flowseq_decoder_program(d[i], &program, &err), &err);
        must(wr_session_prepare(p.on[i], program, &err), &err);
    }
    disturb(&p);
    for (size_t m = 0; m < sizeof METHODS / sizeof *METHODS; m++) {
        wr_flowseq_search_options o = {.method = METHODS[m],
                                       .lengths = m == 0 ? 1 : 2,
                                       .samples = m == 0 ? 1 : 3,
                                       .temperature = 1,
                                       .iwd_samples = 2,
                                       .nbest = 1,
                                       .seed = 7,
                                       .max_sentences = SOURCES};
        wr_translations out[DEVICES];
        for (int i = 0; i < DEVICES; i++)
            must(wr_flowseq_search(d[i], sources(), SOURCES, &o, &out[i], &err), &err);
        assert_same_words(out);
    }
    for (int i = 0; i < DEVICES; i++)
        wr_flowseq_decoder_free(d[i]);
    close_pair(&p);
}

int main(void) {
    EMULATED = test_cuda_open(&EMULATOR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transformer_training), cmocka_unit_test(test_transformer_decoding),
        cmocka_unit_test(test_flowseq_training), cmocka_unit_test(test_flowseq_decoding)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
