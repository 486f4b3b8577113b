/* test_cuda_models.c: whole training steps (forward, backward, clipping, Adam) of the Transformer
 * and of FlowSeq on the emulated CUDA device, and their decoders, against the CPU: the same
 * numbers at random, losses, updated parameters and words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "helpers/two_devices.h"
#include "models/flowseq_decoder.h"
#include "models/judge.h"
#include "models/transformer.h"
#include "ops/fuse.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 17, DIM = 16, SENTENCES = 3, S = 6, T = 8, MAX_LEN = 24 };

static const int32_t SRC[SENTENCES * S] = {5, 9, 4, 7, 12, 2, 6, 6, 2, 0, 0, 0, 8, 3, 11, 14, 2, 0};
static const int32_t SRC_LEN[SENTENCES] = {6, 3, 5};
static const int32_t TGT[SENTENCES * T] = {4, 8, 3, 11, 5,  6, 2, 2, 10, 7, 2, 2,
                                           0, 0, 0, 0,  13, 5, 9, 2, 0,  0, 0, 0};
static const int32_t TGT_IN[SENTENCES * T] = {1, 4, 8, 3, 11, 5,  6, 2, 1, 10, 7, 2,
                                              0, 0, 0, 0, 1,  13, 5, 9, 0, 0,  0, 0};
static const int32_t TGT_LEN[SENTENCES] = {8, 4, 4};

static test_cuda EMULATOR;
static bool EMULATED;

static wr_feed rows_of(const char *name, const int32_t *data, int64_t width) {
    return (wr_feed){.name = name, .data = data, .rank = 2, .dim = {SENTENCES, width}};
}
static wr_feed lengths_of(const char *name, const int32_t *data) {
    return (wr_feed){.name = name, .data = data, .rank = 1, .dim = {SENTENCES}};
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
    test_pair p = test_pair_open(&EMULATOR);
    wr_transformer t = transformer(dtype, norm);
    wr_graph *g = wr_graph_new();
    wr_transformer_batch in = wr_transformer_inputs(g, MAX_LEN);
    wr_transformer_loss l = wr_transformer_loss_of(&t, &in, 0.1);
    wr outputs[3] = {l.nll, l.tokens, l.token_nll};
    test_compiled c = test_compile_training(g, l.loss, 3, outputs, false);
    wr_feed feeds[8] = {rows_of("src", SRC, S), lengths_of("src_len", SRC_LEN),
                        rows_of("tgt_in", TGT_IN, T), rows_of("tgt_out", TGT, T),
                        lengths_of("tgt_len", TGT_LEN)};
    test_pair_prepare(&p, c.program);
    test_pair_disturb(&p);
    test_pair_train(&p, &c, 5, feeds, most);
    test_compiled_free(&p, &c);
    test_pair_close(&p);
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
    test_pair p = test_pair_open(&EMULATOR);
    wr_transformer t = transformer(WR_F32, WR_RECIPE_NORM_PRE);
    wr_decoder *d[TEST_DEVICES];
    wr_error err = {0};
    for (int i = 0; i < TEST_DEVICES; i++)
        test_must(wr_decoder_new(&t, p.on[i], &d[i], &err), &err);
    test_pair_disturb(&p);
    for (int beam = 1; beam <= 3; beam++) {
        wr_search_options o = {.beam = beam,
                               .nbest = beam,
                               .normalisation = WR_RECIPE_BY_PENALTY,
                               .alpha = 0.6,
                               .max_len_factor = 1,
                               .max_len_extra = 4,
                               .max_sentences = TEST_SOURCES,
                               .cache_bytes = 1 << 24};
        wr_translations out[TEST_DEVICES];
        for (int i = 0; i < TEST_DEVICES; i++)
            test_must(wr_search(d[i], test_sources(), TEST_SOURCES, &o, &out[i], &err), &err);
        test_assert_same_words(out);
    }
    for (int i = 0; i < TEST_DEVICES; i++)
        wr_decoder_free(d[i]);
    test_pair_close(&p);
}

/* Sources are candidates, too, with and without their last word: they begin alike. */
static void test_transformer_judging(void **state) {
    (void)state;
    if (!EMULATED) skip();
    test_pair p = test_pair_open(&EMULATOR);
    wr_transformer t = transformer(WR_F32, WR_RECIPE_NORM_PRE);
    wr_sentence text[2 * TEST_SOURCES];
    size_t sentence[2 * TEST_SOURCES];
    double nll[TEST_DEVICES][2 * TEST_SOURCES];
    for (size_t i = 0; i < 2 * TEST_SOURCES; i++) {
        text[i] = test_sources()[i / 2];
        if (i % 2 == 1 && text[i].n > 0) text[i].n--;
        sentence[i] = i % 3;
    }
    for (int k = 0; k < TEST_DEVICES; k++) {
        wr_error err = {0};
        wr_judge *j;
        test_must(wr_judge_new(&t, p.on[k], &j, &err), &err);
        test_must(wr_judge_score(j, test_sources(), sentence, text, 2 * TEST_SOURCES, nll[k], &err),
                  &err);
        wr_judge_free(j);
    }
    for (size_t i = 0; i < 2 * TEST_SOURCES; i++)
        assert_true(fabs(nll[TEST_CPU][i] - nll[TEST_CUDA][i]) < 1e-5 * nll[TEST_CPU][i]);
    test_pair_close(&p);
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
    test_must(wr_flow_parse(&recipe, &f.prior, &err), &err);
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
static void start(const test_pair *p, const wr_flowseq *f, double most) {
    enum { ALL = WR_FLOWSEQ_START_MEAN | WR_FLOWSEQ_START_LOG_VARIANCE | WR_FLOWSEQ_START_PRIOR };
    wr_feed feeds[4];
    wr_graph *first = wr_graph_new(), *second = wr_graph_new();
    wr from_params = wr_flowseq_start_params(f, first);
    test_compiled c = test_compile(first, 1, &from_params);
    test_pair_run(p, c.program, 0, NULL, 1, most);
    test_compiled_free(p, &c);
    wr_flowseq_pairs in = wr_flowseq_inputs(f, second);
    wr from_data = wr_flowseq_start_data(f, &in, (wr){second, 0}, ALL);
    c = test_compile(second, 1, &from_data);
    test_pair_run(p, c.program, pair_feeds(feeds), feeds, 1, most);
    test_compiled_free(p, &c);
    test_pair_compare_stored(p, most);
}

static void train_flowseq(const wr_flowseq *f, double most) {
    test_pair p = test_pair_open(&EMULATOR);
    wr_graph *g = wr_graph_new();
    wr_flowseq_pairs in = wr_flowseq_inputs(f, g);
    wr_flowseq_options o = {.label_smoothing = 0.1, .noise = {g, 0}};
    wr_flowseq_losses l = wr_flowseq_losses_of(f, &in, &o);
    wr total = wr_flowseq_total(&l, wr_scalar(g, f->dtype, 0.5));
    wr outputs[4] = {l.reconstruction, l.kl, l.length, l.z};
    test_compiled c = test_compile_training(g, total, 4, outputs, true);
    wr_feed feeds[8];
    test_pair_prepare(&p, c.program);
    test_pair_disturb(&p);
    start(&p, f, most);
    test_pair_train(&p, &c, pair_feeds(feeds), feeds, most);
    test_compiled_free(&p, &c);
    test_pair_close(&p);
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
    test_pair p = test_pair_open(&EMULATOR);
    wr_flowseq f = flowseq(WR_F32, FLOW, false);
    wr_flowseq_decoder *d[TEST_DEVICES];
    wr_error err = {0};
    for (int i = 0; i < TEST_DEVICES; i++) {
        wr_program *program;
        test_must(wr_flowseq_decoder_new(&f, p.on[i], &d[i], &err), &err);
        test_must(wr_flowseq_decoder_program(d[i], &program, &err), &err);
        test_must(wr_session_prepare(p.on[i], program, &err), &err);
    }
    test_pair_disturb(&p);
    for (size_t m = 0; m < sizeof METHODS / sizeof *METHODS; m++) {
        wr_flowseq_search_options o = {.method = METHODS[m],
                                       .lengths = m == 0 ? 1 : 2,
                                       .samples = m == 0 ? 1 : 3,
                                       .temperature = 1,
                                       .iwd_samples = 2,
                                       .nbest = 1,
                                       .seed = 7,
                                       .max_sentences = TEST_SOURCES};
        wr_translations out[TEST_DEVICES];
        for (int i = 0; i < TEST_DEVICES; i++)
            test_must(wr_flowseq_search(d[i], test_sources(), TEST_SOURCES, &o, &out[i], &err),
                      &err);
        test_assert_same_words(out);
    }
    for (int i = 0; i < TEST_DEVICES; i++)
        wr_flowseq_decoder_free(d[i]);
    test_pair_close(&p);
}

int main(void) {
    EMULATED = test_cuda_open(&EMULATOR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transformer_training), cmocka_unit_test(test_transformer_decoding),
        cmocka_unit_test(test_transformer_judging), cmocka_unit_test(test_flowseq_training),
        cmocka_unit_test(test_flowseq_decoding)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
