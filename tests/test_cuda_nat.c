/* test_cuda_nat.c: whole training steps of non-autoregressive models, of every objective, on the
 * CUDA device, and all their decoders, against the CPU: the same words given at random, losses,
 * updated parameters and translations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "helpers/two_devices.h"
#include "models/nat_decoder.h"
#include "models/nat_loss.h"

enum { VOCAB = 13, DIM = 16, SENTENCES = 3, S = 6, T = 6, MAX_LEN = 16 };

static const int32_t SRC[SENTENCES * S] = {5, 9, 4, 7, 12, 3, 6, 6, 3, 0, 0, 0, 8, 10, 11, 4, 3, 0};
static const int32_t SRC_LEN[SENTENCES] = {6, 3, 5};
static const int32_t TGT[SENTENCES * T] = {5, 8, 8, 4, 9, 3, 10, 6, 3, 0, 0, 0, 7, 5, 4, 6, 3, 0};
static const int32_t TGT_LEN[SENTENCES] = {6, 3, 5};

static test_cuda DEVICE;
static bool FOUND;

/* What is trained, and how. */
typedef struct form {
    const char *objective;
    wr_recipe_input inputs;
    wr_recipe_glancing glancing;
    int frames; /* of a source word; 0: the length is predicted */
} form;

static wr_nat model_of(const form *f, wr_dtype dtype) {
    wr_nat n = {.m = {.type = WR_RECIPE_NAT,
                      .dim = DIM,
                      .ffn = 24,
                      .heads = 2,
                      .encoder_layers = 2,
                      .decoder_layers = 2,
                      .norm = WR_RECIPE_NORM_PRE,
                      .activation = WR_RECIPE_GELU,
                      .dropout = 0.2,
                      .embeddings = WR_RECIPE_EMBED_JOINT,
                      .max_len = MAX_LEN},
                .src_vocab = VOCAB,
                .tgt_vocab = VOCAB,
                .inputs = f->inputs,
                .input_temperature = 0.3,
                .framing = WR_RECIPE_FRAME_EOS,
                .length = WR_RECIPE_LENGTH_POOLED,
                .length_offset = true,
                .length_classes = MAX_LEN,
                .max_source = MAX_LEN,
                .max_target = MAX_LEN,
                .max_positions = MAX_LEN,
                .dtype = dtype,
                .training = true};
    if (f->frames == 0) return n;
    n.length = WR_RECIPE_LENGTH_NONE;
    n.frames = f->frames;
    n.upsampling = WR_RECIPE_UPSAMPLE_REPEAT;
    n.max_positions = f->frames * MAX_LEN;
    return n;
}

static void training_of(const form *f, wr_nat_training *t) {
    wr_error err = {0};
    wr_objective_config c;
    test_must(wr_objective_parse(f->objective, &c, &err), &err);
    *t = (wr_nat_training){.revealing = {.masking = WR_RECIPE_MASKING_UNIFORM,
                                         .glancing = f->glancing,
                                         .glance_from = 0.7,
                                         .glance_to = 0.7,
                                         .glance_updates = 10},
                           .length_weight = 0.5};
    wr_objective_host_init(&t->objective, &c);
}

static void train_form(const form *f, wr_dtype dtype, double most) {
    static const int32_t update = 3;
    test_pair p = test_pair_open(&DEVICE);
    wr_nat n = model_of(f, dtype);
    wr_nat_training t;
    training_of(f, &t);
    wr_graph *g = wr_graph_new();
    wr_nat_pairs in = wr_nat_inputs(&n, g);
    wr_nat_losses l = wr_nat_losses_of(&n, &t, &in, true);
    wr outputs[4] = {l.nll, l.infeasible, l.logits, l.given};
    test_compiled c =
        test_compile_training(g, l.total, wr_is_poison(l.given) ? 3 : 4, outputs, false);
    wr_feed feeds[8] = {{.name = "src", .data = SRC, .rank = 2, .dim = {SENTENCES, S}},
                        {.name = "src_len", .data = SRC_LEN, .rank = 1, .dim = {SENTENCES}},
                        {.name = "tgt", .data = TGT, .rank = 2, .dim = {SENTENCES, T}},
                        {.name = "tgt_len", .data = TGT_LEN, .rank = 1, .dim = {SENTENCES}}};
    int fed = 4;
    if (wr_program_find_input(c.program, WR_NAT_UPDATE) >= 0)
        feeds[fed++] = (wr_feed){.name = WR_NAT_UPDATE, .data = &update};
    test_pair_prepare(&p, c.program);
    test_pair_disturb(&p);
    test_pair_train(&p, &c, fed, feeds, most);
    test_compiled_free(&p, &c);
    test_pair_close(&p);
}

static void test_training(void **state) {
    (void)state;
    if (!FOUND) skip();
    static const form FORMS[] = {
        {"ce label_smoothing=0.1", WR_RECIPE_INPUT_MASK, WR_RECIPE_GLANCE_NONE, 0},
        {"axe skip_penalty=2", WR_RECIPE_INPUT_SOFT, WR_RECIPE_GLANCE_NONE, 0},
        {"oaxe anneal=10", WR_RECIPE_INPUT_INTERP, WR_RECIPE_GLANCE_NONE, 0},
        {"cmlm", WR_RECIPE_INPUT_UNIFORM, WR_RECIPE_GLANCE_NONE, 0},
        {"glat label_smoothing=0.1", WR_RECIPE_INPUT_ATTN, WR_RECIPE_GLANCE_HAMMING, 0},
        {"glat", WR_RECIPE_INPUT_MASK, WR_RECIPE_GLANCE_P_REF, 0},
        {"ctc", WR_RECIPE_INPUT_MASK, WR_RECIPE_GLANCE_NONE, 2},
        {"ctc norm=frames", WR_RECIPE_INPUT_MASK, WR_RECIPE_GLANCE_HAMMING, 3}};
    for (size_t i = 0; i < sizeof FORMS / sizeof *FORMS; i++) {
        train_form(&FORMS[i], WR_F64, 1e-9);
        train_form(&FORMS[i], WR_F32, 1e-5);
    }
}

/* ---- decoders ---- */

static void decode(const form *f, bool silent, const wr_nat_search_options *options, size_t n) {
    test_pair p = test_pair_open(&DEVICE);
    wr_nat model = model_of(f, WR_F32);
    wr_nat_decoder *d[TEST_DEVICES];
    wr_error err = {0};
    for (int i = 0; i < TEST_DEVICES; i++) {
        wr_program *program;
        test_must(wr_nat_decoder_new(&model, silent, p.on[i], &d[i], &err), &err);
        test_must(wr_nat_decoder_program(d[i], &program, &err), &err);
        test_must(wr_session_prepare(p.on[i], program, &err), &err);
    }
    test_pair_disturb(&p);
    for (size_t k = 0; k < n; k++) {
        wr_translations out[TEST_DEVICES];
        for (int i = 0; i < TEST_DEVICES; i++)
            test_must(wr_nat_search(d[i], test_sources(), TEST_SOURCES, &options[k], &out[i], &err),
                      &err);
        test_assert_same_words(out);
    }
    for (int i = 0; i < TEST_DEVICES; i++)
        wr_nat_decoder_free(d[i]);
    test_pair_close(&p);
}

static void test_lengths(void **state) {
    (void)state;
    if (!FOUND) skip();
    static const form FORM = {"cmlm", WR_RECIPE_INPUT_UNIFORM, WR_RECIPE_GLANCE_NONE, 0};
    wr_nat_search_options o[4];
    for (int k = 0; k < 4; k++)
        o[k] = wr_nat_search_defaults(false, k >= 2);
    o[1].lengths = o[2].lengths = o[3].lengths = 3;
    o[1].nbest = 2;
    o[2].passes = 4;
    o[3].adaptive = true;
    decode(&FORM, false, o, 4);
    decode(&FORM, true, o, 2);
}

static void test_frames(void **state) {
    (void)state;
    if (!FOUND) skip();
    static const form FORM = {"ctc", WR_RECIPE_INPUT_MASK, WR_RECIPE_GLANCE_NONE, 2};
    wr_nat_search_options o[2];
    for (int k = 0; k < 2; k++)
        o[k] = wr_nat_search_defaults(true, false);
    o[1].method = WR_NAT_CTC_BEAM;
    o[1].beam = 5;
    o[1].symbols = 6;
    o[1].nbest = 3;
    decode(&FORM, true, o, 2);
}

int main(void) {
    FOUND = test_cuda_open(&DEVICE);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_training),
                                       cmocka_unit_test(test_lengths),
                                       cmocka_unit_test(test_frames)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
