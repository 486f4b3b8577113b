/* Recipes: values, limits, golden error messages, `--set`, saving, the files in recipes/. */
#include "helpers/alloc.h"
#include "models/recipe.h"
#include "models/recipe_nat.h"
#include "models/recipe_nearest.h"
#include "models/recipe_table.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static wr_status parse(const char *text, const char *set, wr_recipe *r, wr_error *err) {
    return wr_recipe_parse(text, strlen(text), "r.yaml", &set, set == NULL ? 0 : 1, r, err);
}

typedef struct mistake {
    const char *text, *set, *message;
} mistake;

#define MODEL_KEYS                                                                                 \
    "type, dim, ffn, heads, encoder_layers, decoder_layers, norm, activation, dropout, "           \
    "attention_dropout, activation_dropout, embeddings, positions, max_len"
#define FLOW     "model: {type: flowseq}\n"
#define NAT      "model: {type: nat}\n"
#define SECTIONS "model, flowseq, prior, nat, objective, data, train, optim, decode"

static const mistake MISTAKES[] = {
    /* unknown keys */
    {"model:\n  dim: 64\n  heds: 2\n", NULL,
     "r.yaml:3: unknown key 'model.heds'; did you mean 'model.heads'? allowed there: " MODEL_KEYS},
    {"model:\n  lr: 2\n", NULL,
     "r.yaml:2: unknown key 'model.lr'; did you mean 'optim.lr'? allowed there: " MODEL_KEYS},
    {"model:\n  zzzzzzzzzzzzzzzz: 2\n", NULL,
     "r.yaml:2: unknown key 'model.zzzzzzzzzzzzzzzz'; allowed there: " MODEL_KEYS},
    {"\n\nmodle:\n  dim: 64\n", NULL,
     "r.yaml:3: unknown key 'modle'; did you mean 'model'? allowed at the top: " SECTIONS},
    {"dim: 64\n", NULL,
     "r.yaml:1: unknown key 'dim'; did you mean 'model.dim'? allowed at the top: " SECTIONS},
    {"qwertyuiop: 64\n", NULL, "r.yaml:1: unknown key 'qwertyuiop'; allowed at the top: " SECTIONS},
    /* wrong types */
    {"model:\n  dim: big\n", NULL,
     "r.yaml:2: model.dim must be a whole number from 2 to 65536, but is 'big'"},
    {"model:\n  dim: 64.5\n", NULL,
     "r.yaml:2: model.dim must be a whole number from 2 to 65536, but is '64.5'"},
    {"model:\n  dim: \"64\"\n", NULL,
     "r.yaml:2: model.dim must be a whole number from 2 to 65536, but is the text '64'"},
    {"model:\n  dim:\n", NULL,
     "r.yaml:2: model.dim must be a whole number from 2 to 65536, but is empty"},
    {"model:\n  dim: [64]\n", NULL,
     "r.yaml:2: model.dim must be a whole number from 2 to 65536, but is a list"},
    {"model:\n  dim: {a: 1}\n", NULL,
     "r.yaml:2: model.dim must be a whole number from 2 to 65536, but is a mapping"},
    {"optim:\n  amsgrad: yes\n", NULL,
     "r.yaml:2: optim.amsgrad must be true or false, but is 'yes'"},
    {"model:\n  norm: middle\n", NULL,
     "r.yaml:2: model.norm must be one of pre, post, but is 'middle'"},
    {"model:\n  type: rnn\n", NULL,
     "r.yaml:2: model.type must be one of transformer, flowseq, nat, but is 'rnn'"},
    {"optim:\n  lr: nan\n", NULL,
     "r.yaml:2: optim.lr must be a number above 0 and at most 100, but is 'nan'"},
    {"optim:\n  lr: 0x1p-3\n", NULL,
     "r.yaml:2: optim.lr must be a number above 0 and at most 100, but is '0x1p-3'"},
    {"optim:\n  lr: 1e999\n", NULL,
     "r.yaml:2: optim.lr must be a number above 0 and at most 100, but is '1e999'"},
    {"model: 3\n", NULL, "r.yaml:1: model must be a section with keys below it, but is a value"},
    {"- a\n", NULL, "r.yaml:1: a recipe is a mapping of sections, but this is a list"},
    {"[a, b]: 1\n", NULL, "r.yaml:1: a key must be a word, but is a list"},
    /* impossible values */
    {"model:\n  dropout: 1\n", NULL,
     "r.yaml:2: model.dropout must be a number at least 0 and below 1, but is '1'"},
    {"model:\n  dropout: -0.1\n", NULL,
     "r.yaml:2: model.dropout must be a number at least 0 and below 1, but is '-0.1'"},
    {"train:\n  max_updates: -5\n", NULL,
     "r.yaml:2: train.max_updates must be a whole number from 1 to 1000000000, but is '-5'"},
    {"train:\n  seed: 99999999999999999999\n", NULL,
     "r.yaml:2: train.seed must be a whole number from 0 to 9007199254740991, but is "
     "'99999999999999999999'"},
    {"optim:\n  lr: 0\n", NULL,
     "r.yaml:2: optim.lr must be a number above 0 and at most 100, but is '0'"},
    /* conflicts */
    {"model:\n  dim: 100\n  heads: 3\n", NULL,
     "r.yaml:3: model.heads = 3 does not divide model.dim = 100; allowed: 1, 2, 4, 5, 10, 20, 25, "
     "50"},
    {"model:\n  heads: 4\n  dim: 66\n", NULL,
     "r.yaml:3: model.heads = 4 does not divide model.dim = 66; allowed: 1, 2, 3, 6, 11, 22, 33"},
    {"model:\n  heads: 3\n  dim: 33\n", NULL,
     "r.yaml:3: model.dim = 33 must be even for sinusoidal positions"},
    {"data:\n  max_tokens: 100\n", NULL,
     "r.yaml:2: data.max_tokens = 100 must be at least model.max_len = 256, or the longest "
     "sentence fits into no batch"},
    {"train:\n  keep_best: 2\n", NULL,
     "r.yaml:2: train.average_best = 5 must be at most train.keep_best = 2"},
    {"train:\n  valid_decode: none\n", NULL,
     "r.yaml:2: train.best_by = bleu needs translations of the validation data, but "
     "train.valid_decode = none; allowed: best_by nll, or valid_decode greedy or beam"},
    {"optim:\n  weight_decay: 0.01\n", NULL,
     "r.yaml:2: optim.weight_decay = 0.01 needs optim.type = adamw; adam allows only 0"},
    {"optim:\n  lr_start: 0.5\n", NULL,
     "r.yaml:2: optim.lr_start = 0.5 must be at most optim.lr = 0.001"},
    {"optim:\n  lr_end: 0.5\n", NULL,
     "r.yaml:2: optim.lr_end = 0.5 must be at most optim.lr = 0.001"},
    {"optim:\n  schedule: cosine\ntrain:\n  max_updates: 100\n", NULL,
     "r.yaml:4: optim.warmup = 4000 must be below train.max_updates = 100, where the schedule "
     "ends"},
    {"optim:\n  schedule: linear\n  horizon: 10\n", NULL,
     "r.yaml:3: optim.warmup = 4000 must be below optim.horizon = 10, where the schedule ends"},
    {"data:\n  src_vocab: 9\nmodel:\n  embeddings: joint\n", NULL,
     "r.yaml:2: data.src_vocab = 9 and data.tgt_vocab = 0 must be equal, as model.embeddings = "
     "joint"},
    /* keys and choices of the other type */
    {"flowseq:\n  literal: true\n", NULL,
     "r.yaml:2: flowseq.literal is a key of model.type = flowseq, but model.type = transformer, "
     "where it would do nothing; leave it out"},
    {"model:\n  type: flowseq\n  norm: pre\n", NULL,
     "r.yaml:3: model.norm is a key of model.type = transformer, but model.type = flowseq, where "
     "it would do nothing; leave it out"},
    {"", "prior.unit=[actnorm]",
     "--set prior.unit=[actnorm]: prior.unit is a key of model.type = flowseq, but model.type = "
     "transformer, where it would do nothing; leave it out"},
    {"model: {type: flowseq}\ndecode:\n  method: beam\n", NULL,
     "r.yaml:3: decode.method = beam does not go with model.type = flowseq; allowed: argmax, npd, "
     "iwd"},
    {"decode:\n  method: iwd\n", NULL,
     "r.yaml:2: decode.method = iwd does not go with model.type = transformer; allowed: greedy, "
     "beam"},
    {"model:\n  embeddings: target\n  type: flowseq\n", NULL,
     "r.yaml:3: model.embeddings = target does not go with model.type = flowseq; allowed: joint, "
     "separate"},
    {"train: {valid_decode: beam}\n", "model.type=flowseq",
     "--set model.type=flowseq: train.valid_decode = beam does not go with model.type = flowseq; "
     "allowed: none, argmax"},
    {FLOW "train:\n  valid_decode: none\n", NULL,
     "r.yaml:3: train.best_by = bleu needs translations of the validation data, but "
     "train.valid_decode = none; allowed: best_by nll, or valid_decode argmax"},
    /* non-autoregressive models */
    {NAT "nat:\n  inptus: mask\n", NULL,
     "r.yaml:3: unknown key 'nat.inptus'; did you mean 'nat.inputs'? allowed there: inputs, "
     "input_temperature, place_every_layer, framing, length, length_offset, length_classes, "
     "length_weight, upsample, upsampling"},
    {NAT "objective:\n  name: cct\n", NULL,
     "r.yaml:3: objective.name must be one of ce, axe, oaxe, ctc, cmlm, glat, but is 'cct'"},
    {NAT "objective:\n  skip_penalty: -1\n", NULL,
     "r.yaml:3: objective.skip_penalty must be a number from 0 to 1000000, but is '-1'"},
    {"objective:\n  name: ctc\n", NULL,
     "r.yaml:2: objective.name is a key of model.type = nat, but model.type = transformer, where "
     "it would do nothing; leave it out"},
    {NAT "nat: {length: none}\n", "objective.name=glat",
     "--set objective.name=glat: objective.name = glat compares position t with target word t, but "
     "nat.length = none gives 2 positions a source word (nat.upsample); allowed: nat.length "
     "pooled, token or difference, or objective.name axe or ctc"},
    {NAT "nat:\n  length: token\nobjective:\n  name: ctc\n", NULL,
     "r.yaml:5: objective.name = ctc needs more positions than target words, but nat.length "
     "predicts their number; allowed: nat.length none or auto"},
    {NAT "objective:\n  name: ctc\n  skip_penalty: 2\n", NULL,
     "r.yaml:4: objective.skip_penalty has an effect with objective.name axe only, but "
     "objective.name = ctc, where it would do nothing; leave it out"},
    {NAT "nat:\n  upsample: 3\n  length: pooled\n", NULL,
     "r.yaml:4: nat.upsample has an effect with nat.length none only, but nat.length = pooled, "
     "where it would do nothing; leave it out"},
    {NAT "nat: {input_temperature: 1}\n", NULL,
     "r.yaml:2: nat.input_temperature has an effect with nat.inputs soft or interp only, but "
     "nat.inputs = mask, where it would do nothing; leave it out"},
    {NAT "objective:\n  glance_from: 1\n", NULL,
     "r.yaml:3: objective.glance_from has an effect with objective.glancing hamming, levenshtein, "
     "p_ref, one_minus_p_ref or fixed only, but objective.glancing = auto (here none), where it "
     "would do nothing; leave it out"},
    {NAT "objective:\n  name: axe\n  glancing: p_ref\n", NULL,
     "r.yaml:4: objective.glancing gives words that belong to positions, which objective.name = "
     "axe does not tell; allowed: objective.name ce, glat or ctc, or objective.glancing none"},
    {NAT "objective:\n  name: glat\n  glancing: none\n", NULL,
     "r.yaml:4: objective.name = glat without glancing is ce; allowed: objective.name ce, or "
     "objective.glancing auto, hamming, levenshtein, p_ref, one_minus_p_ref or fixed"},
    {NAT "objective:\n  name: ctc\n  glancing: p_ref\n", NULL,
     "r.yaml:4: objective.name = ctc gives each position its word with one probability; allowed: "
     "objective.glancing none, hamming or fixed"},
    {NAT "objective: {name: oaxe, mix: 0.5, anneal: 100}\n", NULL,
     "r.yaml: oaxe: mix fixes the share of cross-entropy, anneal lets it fall; leave one out"},
    {NAT "decode:\n  method: beam\n", NULL,
     "r.yaml:3: decode.method = beam does not go with model.type = nat; allowed: argmax, "
     "mask-predict, ctc, ctc-beam, auto"},
    /* how they are decoded */
    {FLOW "decode: {method: auto}\n", NULL,
     "r.yaml:2: decode.method = auto does not go with model.type = flowseq; allowed: argmax, npd, "
     "iwd"},
    {"decode:\n  iterations: 4\n", NULL,
     "r.yaml:2: decode.iterations is a key of model.type = nat, but model.type = transformer, "
     "where it would do nothing; leave it out"},
    {"decode:\n  lengths: 4\n", NULL,
     "r.yaml:2: decode.lengths is a key of model.type = flowseq, but model.type = transformer, "
     "where it would do nothing; leave it out"},
    {FLOW "decode: {dedup: true}\n", NULL,
     "r.yaml:2: decode.dedup is a key of model.type = nat, but model.type = flowseq, where it "
     "would do nothing; leave it out"},
    {NAT "decode: {samples: 2}\n", NULL,
     "r.yaml:2: decode.samples is a key of model.type = flowseq, but model.type = nat, where it "
     "would do nothing; leave it out"},
    {NAT "decode:\n  iterations: 0\n", NULL,
     "r.yaml:3: decode.iterations must be a whole number from 1 to 1000, but is '0'"},
    {NAT "decode:\n  length_factor: 0\n", NULL,
     "r.yaml:3: decode.length_factor must be a number above 0 and at most 100, but is '0'"},
    {NAT "decode:\n  iteration: 4\n", NULL,
     "r.yaml:3: unknown key 'decode.iteration'; did you mean 'decode.iterations'? allowed there: "
     "method, beam, normalisation, alpha, max_len_factor, max_len_extra, lengths, samples, "
     "temperature, iwd_samples, iterations, adaptive, length_factor, length_window, dedup, "
     "symbols, length_bonus, max_sentences"},
    {NAT "decode:\n  iterations: 4\n", NULL,
     "r.yaml:3: decode.iterations has an effect with decode.method mask-predict only, but "
     "decode.method = auto (here argmax), where it would do nothing; leave it out"},
    {NAT "objective: {name: cmlm}\ndecode:\n  adaptive: true\n  method: argmax\n", NULL,
     "r.yaml:5: decode.adaptive has an effect with decode.method mask-predict only, but "
     "decode.method = argmax, where it would do nothing; leave it out"},
    {NAT "objective: {name: ctc}\ndecode:\n  beam: 8\n", NULL,
     "r.yaml:4: decode.beam has an effect with decode.method ctc-beam only, but decode.method = "
     "auto (here ctc), where it would do nothing; leave it out"},
    {NAT "decode:\n  symbols: 8\n", NULL,
     "r.yaml:3: decode.symbols has an effect with decode.method ctc-beam only, but decode.method = "
     "auto (here argmax), where it would do nothing; leave it out"},
    {NAT "objective: {name: ctc}\n", "decode.length_bonus=1",
     "--set decode.length_bonus=1: decode.length_bonus has an effect with decode.method ctc-beam "
     "only, but decode.method = auto (here ctc), where it would do nothing; leave it out"},
    {NAT "objective: {name: ctc}\ndecode: {lengths: 3}\n", NULL,
     "r.yaml:3: decode.lengths has an effect with nat.length pooled, token or difference only, but "
     "nat.length = auto (here none), where it would do nothing; leave it out"},
    {NAT "decode: {length_factor: 1.1}\nobjective: {name: axe}\n", "nat.length=none",
     "--set nat.length=none: decode.length_factor has an effect with nat.length pooled, token or "
     "difference only, but nat.length = none, where it would do nothing; leave it out"},
    {NAT "decode: {length_window: true}\n", NULL,
     "r.yaml:2: decode.length_window has an effect with decode.lengths at least 2 only, but "
     "decode.lengths = 1, where it would do nothing; leave it out"},
    {NAT "decode:\n  method: ctc\n", NULL,
     "r.yaml:3: decode.method = ctc merges frames, which objective.name = ce does not train; "
     "allowed: decode.method auto, argmax or mask-predict, or objective.name ctc"},
    {NAT "nat: {length: none}\nobjective: {name: axe}\ndecode: {method: ctc-beam}\n", NULL,
     "r.yaml:4: decode.method = ctc-beam merges frames, which objective.name = axe does not train; "
     "allowed: decode.method auto or argmax, or objective.name ctc"},
    {NAT "decode: {method: argmax}\n", "objective.name=ctc",
     "--set objective.name=ctc: decode.method = argmax says a word in each position, but "
     "objective.name = ctc trains frames that are merged; allowed: decode.method auto, ctc or "
     "ctc-beam"},
    {NAT "nat: {length: none}\nobjective: {name: axe}\ndecode: {method: mask-predict}\n", NULL,
     "r.yaml:4: decode.method = mask-predict says words again in their places, which the frames of "
     "nat.length = none do not have; allowed: decode.method auto or argmax, or nat.length pooled, "
     "token or difference"},
    {NAT "nat:\n  length_classes: 8\ndecode:\n  lengths: 9\n", NULL,
     "r.yaml:5: decode.lengths = 9, but there are 8 classes of lengths (nat.length_classes); "
     "allowed: at most as many"},
    {NAT "decode:\n  lengths: 102\nnat:\n  length: difference\n", NULL,
     "r.yaml:5: decode.lengths = 102, but there are 101 classes of lengths (nat.length = "
     "difference); allowed: at most as many"},
    {NAT "train:\n  valid_decode: none\n", NULL,
     "r.yaml:3: train.best_by = bleu needs translations of the validation data, but "
     "train.valid_decode = none; allowed: best_by nll, or valid_decode argmax or method"},
    {FLOW "train: {valid_decode: method}\n", NULL,
     "r.yaml:2: train.valid_decode = method does not go with model.type = flowseq; allowed: none, "
     "argmax"},
    {FLOW "optim:\n  pretrain_lr_start: 0.5\n", NULL,
     "r.yaml:3: optim.pretrain_lr_start = 0.5 must be at most optim.lr = 0.001"},
    {FLOW "train: {max_updates: 5300}\noptim:\n  schedule: linear\n  warmup: 300\n", NULL,
     "r.yaml:5: optim.warmup = 300 must be below train.max_updates - train.pretrain_updates = "
     "300, where the schedule ends"},
    /* lists */
    {FLOW "prior:\n  unit:\n    - actnorm\n    - lineer heads\n", NULL,
     "r.yaml:5: prior.unit: 'lineer' is no layer; did you mean 'linear'? allowed: actnorm, linear, "
     "coupling, factor_out, squeeze, and the blocks position, step, unit, last_step, last_unit"},
    {FLOW "prior: {unit: [layers]}\n", NULL,
     "r.yaml:2: prior.unit: 'layers' is no layer; allowed: actnorm, linear, coupling, factor_out, "
     "squeeze, and the blocks position, step, unit, last_step, last_unit"},
    {FLOW "prior:\n  unit:\n    - actnorm\n    - a: b\n", NULL,
     "r.yaml:5: prior.unit must be a list of layers and blocks, but is a list with a mapping in "
     "it"},
    {FLOW "prior:\n  unit: {a: b}\n", NULL,
     "r.yaml:3: prior.unit must be a list of layers and blocks, but is a mapping"},
    {FLOW "prior:\n  unit:\n", NULL,
     "r.yaml:3: prior.unit must be a list of layers and blocks, but is empty"},
    {FLOW "prior:\n  unit: [2x]\n", NULL, "r.yaml:3: prior.unit: '2x' must begin with a letter"},
    {FLOW "prior:\n  unit: [\"a, b\"]\n", NULL,
     "r.yaml:3: prior.unit: 'a, b' may hold letters, digits, blanks and _ = . + - only"},
    {FLOW, "prior.step=[unit,,unit]",
     "--set prior.step=[unit,,unit]: prior.step: an item is empty"},
    {FLOW, "prior.step=[unit, unti]",
     "--set prior.step=[unit, unti]: prior.step: 'unti' is no layer; did you mean 'unit'? allowed: "
     "actnorm, linear, coupling, factor_out, squeeze, and the blocks position, step, unit, "
     "last_step, last_unit"},
    /* a prior that cannot be */
    {FLOW "prior: {unit: [coupling halves]}\n", NULL,
     "r.yaml: recipe key prior.unit, item 1 'coupling halves': a word is missing; allowed is: "
     "coupling halves|alternate|time up|down [add|attend] [net=attention|lstm|conv] "
     "[transform=affine|additive|nlsq]"},
    {FLOW "prior: {heads: 3}\n", NULL,
     "r.yaml: recipe key prior.position, item 2 'coupling halves up attend net=attention "
     "transform=affine': its network "
     "reads 128 channels, which 3 heads do not divide; change prior.heads or model.dim"},
    /* the file as such */
    {"model:\n  dim: 64\n  dim: 32\n", NULL,
     "r.yaml:3: model.dim stands here again; it was set in line 2"},
    {"model:\n  dim: 64\n ffn: 3\n", NULL,
     "r.yaml:3: this is not YAML: did not find expected key while parsing a block mapping"},
    {"model: {dim: 64}\n---\nmodel: {dim: 32}\n", NULL,
     "r.yaml:3: a second document begins here; a recipe is one"},
    /* --set */
    {"", "train.sede=3",
     "--set train.sede=3: unknown key 'train.sede'; did you mean 'train.seed'? allowed there: "
     "max_updates, max_minutes, accumulate, pretrain_updates, kl_warmup, init_batch, weighting, "
     "label_smoothing, clip_norm, seed, report_every, "
     "checkpoint_every, valid_every, valid_decode, valid_beam, valid_sentences, best_by, "
     "keep_best, average_best, patience"},
    {"", "train.seed", "--set train.seed: a setting is key.path=value, e.g. train.seed=7"},
    {"", "train=3", "--set train=3: train is a section; name one of its keys, e.g. train.seed=7"},
    {"", "model.dim= 64",
     "--set model.dim= 64: model.dim must be a whole number from 2 to 65536, but is ' 64'"},
    {"", "model.dim=",
     "--set model.dim=: model.dim must be a whole number from 2 to 65536, but is empty"},
    {"model:\n  dim: 96\n", "model.heads=5",
     "--set model.heads=5: model.heads = 5 does not divide model.dim = 96; allowed: 1, 2, 3, 4, "
     "6, 8, 12, 16, 24, 32, 48"},
};

/* A list of 1023 bytes fits, one of 1024 does not. */
static void test_long_lists(void **state) {
    (void)state;
    static const char WHAT[] = "r.yaml:2: prior.unit: the list is longer than 1023 bytes; give a "
                               "part of it a name, such as prior.step, or repeat an item with xN";
    for (int extra = 0; extra < 2; extra++) {
        wr_str text = {0};
        wr_str_add(&text, FLOW "prior: {unit: [");
        for (int i = 0; i < 23; i++)
            wr_str_add(&text, "coupling alternate down transform=additive, ");
        wr_str_add(&text, "coupling halves up transform=nlsq%s]}\n", extra == 0 ? "" : "x");
        wr_error err = {0};
        wr_recipe r;
        wr_status status = parse(wr_str_text(&text), NULL, &r, &err);
        assert_int_equal(status, extra == 0 ? WR_OK : WR_ERR_INPUT);
        if (extra == 0) assert_int_equal(strlen(r.prior.unit.text), 1023);
        if (extra == 1) assert_string_equal(err.text, WHAT);
        wr_str_free(&text);
    }
}

static void test_golden_messages(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof MISTAKES / sizeof MISTAKES[0]; i++) {
        const mistake *m = &MISTAKES[i];
        wr_error err = {0};
        wr_recipe r;
        assert_int_equal(parse(m->text, m->set, &r, &err), WR_ERR_INPUT);
        assert_string_equal(err.text, m->message);
    }
}

static void test_values(void **state) {
    (void)state;
    wr_error err = {0};
    wr_recipe r;
    const char *text = "# a comment\nmodel: {dim: 64, heads: 2, norm: post, activation: gelu}\n"
                       "optim:\n  lr: 2.5e-4\n  type: 'adamw'\n  amsgrad: true\n"
                       "train:\n  seed: 9007199254740991\n  label_smoothing: .2\n"
                       "decode: {normalisation: none}\n";
    assert_int_equal(parse(text, "model.ffn=96", &r, &err), WR_OK);
    assert_int_equal(r.model.type, WR_RECIPE_TRANSFORMER);
    assert_int_equal(r.model.dim, 64);
    assert_int_equal(r.model.heads, 2);
    assert_int_equal(r.model.ffn, 96);
    assert_int_equal(r.model.encoder_layers, 3);
    assert_int_equal(r.model.norm, WR_RECIPE_NORM_POST);
    assert_int_equal(r.model.activation, WR_RECIPE_GELU);
    assert_true(r.optim.lr == 2.5e-4);
    assert_int_equal(r.optim.type, WR_RECIPE_ADAMW);
    assert_true(r.optim.amsgrad);
    assert_true(r.train.seed == 9007199254740991);
    assert_true(r.train.label_smoothing == 0.2);
    assert_int_equal(r.decode.normalisation, WR_RECIPE_BY_NOTHING);
    assert_true(r.optim.beta2 == 0.98);
}

static void test_lists(void **state) {
    (void)state;
    wr_error err = {0};
    wr_recipe r;
    const char *text = FLOW "prior:\n  unit:\n    - actnorm\n    - 'coupling  halves \tup'\n"
                            "  last_unit: actnorm x2 , actnorm\n  layers: []\n";
    assert_int_equal(parse(text, "prior.step=[unit x3]", &r, &err), WR_OK);
    assert_string_equal(r.prior.unit.text, "actnorm\ncoupling halves up\n");
    assert_string_equal(r.prior.last_unit.text, "actnorm x2\nactnorm\n");
    assert_string_equal(r.prior.layers.text, "");
    assert_string_equal(r.prior.step.text, "unit x3\n");
    assert_string_equal(r.prior.position.text,
                        "actnorm\ncoupling halves up attend\ncoupling halves down add\n");
    const char *at = r.prior.unit.text;
    size_t n;
    assert_ptr_equal(wr_recipe_list_next(&at, &n), r.prior.unit.text);
    assert_int_equal(n, 7);
    assert_ptr_equal(wr_recipe_list_next(&at, &n), r.prior.unit.text + 8);
    assert_int_equal(n, 18);
    assert_null(wr_recipe_list_next(&at, &n));
    wr_str saved = {0};
    wr_recipe_text(&r, &saved);
    assert_non_null(strstr(wr_str_text(&saved), "\n  unit: [actnorm, coupling halves up]\n"));
    assert_non_null(strstr(wr_str_text(&saved), "\n  layers: []\n"));
    wr_str_free(&saved);
}

/* The type decides some defaults, and what is said goes before them. */
static void test_defaults_of_a_type(void **state) {
    (void)state;
    wr_error err = {0};
    wr_recipe r;
    assert_int_equal(parse("", "model.type=flowseq", &r, &err), WR_OK);
    assert_int_equal(r.model.embeddings, WR_RECIPE_EMBED_JOINT);
    assert_int_equal(r.train.valid_decode, WR_RECIPE_VALID_ARGMAX);
    assert_int_equal(r.decode.method, WR_RECIPE_ARGMAX);
    assert_int_equal(r.decode.normalisation, WR_RECIPE_BY_LENGTH);
    assert_true(r.decode.alpha == 1);
    assert_int_equal(parse(FLOW "decode: {alpha: 0.6}\n", "decode.method=iwd", &r, &err), WR_OK);
    assert_int_equal(r.decode.method, WR_RECIPE_IWD);
    assert_true(r.decode.alpha == 0.6);
    wr_str saved = {0};
    wr_recipe_text(&r, &saved);
    assert_null(strstr(wr_str_text(&saved), "\n  norm:"));
    assert_non_null(strstr(wr_str_text(&saved), "\nprior:\n"));
    wr_str_clear(&saved);
    assert_int_equal(parse(NAT, "objective.name=ctc", &r, &err), WR_OK);
    assert_int_equal(r.model.embeddings, WR_RECIPE_EMBED_JOINT);
    assert_int_equal(r.train.valid_decode, WR_RECIPE_VALID_ARGMAX);
    assert_int_equal(r.nat.length, WR_RECIPE_LENGTH_AUTO);
    assert_int_equal(r.decode.method, WR_RECIPE_METHOD_AUTO);
    assert_int_equal(r.decode.beam, 20);
    assert_int_equal(r.decode.lengths, 1);
    wr_recipe_text(&r, &saved);
    assert_non_null(strstr(wr_str_text(&saved), "\n  method: auto\n  beam: 20\n"));
    wr_str_clear(&saved);
    assert_int_equal(parse("", NULL, &r, &err), WR_OK);
    wr_recipe_text(&r, &saved);
    assert_non_null(strstr(wr_str_text(&saved), "\n  norm:"));
    assert_null(strstr(wr_str_text(&saved), "prior:"));
    assert_null(strstr(wr_str_text(&saved), "flowseq:"));
    wr_str_free(&saved);
}

/* What section `decode` of a non-autoregressive model comes to. */
static wr_nat_search_options search_of(const char *text, const char *set) {
    wr_error err = {0};
    wr_recipe r;
    if (parse(text, set, &r, &err) != WR_OK) fail_msg("%s", err.text);
    return wr_recipe_nat_search(&r);
}

static void test_search_of_a_recipe(void **state) {
    (void)state;
    static const struct {
        const char *set;
        bool merges, iterates;
    } USUAL[] = {{"objective.name=ce", false, false},   {"objective.name=axe", false, false},
                 {"objective.name=oaxe", false, false}, {"objective.name=glat", false, false},
                 {"objective.name=ctc", true, false},   {"objective.name=cmlm", false, true}};
    for (size_t i = 0; i < sizeof USUAL / sizeof USUAL[0]; i++) {
        wr_nat_search_options got = search_of(NAT, USUAL[i].set);
        wr_nat_search_options usual = wr_nat_search_defaults(USUAL[i].merges, USUAL[i].iterates);
        assert_int_equal(got.method, usual.method);
        assert_int_equal(got.lengths, usual.lengths);
        assert_int_equal(got.window, usual.window);
        assert_true(got.length_factor == usual.length_factor);
        assert_int_equal(got.passes, usual.passes);
        assert_int_equal(got.adaptive, usual.adaptive);
        assert_int_equal(got.dedup, usual.dedup);
        assert_int_equal(got.beam, usual.beam);
        assert_int_equal(got.symbols, usual.symbols);
        assert_true(got.length_bonus == usual.length_bonus);
        assert_int_equal(got.nbest, usual.nbest);
        assert_int_equal(got.max_tokens, usual.max_tokens);
        assert_int_equal(got.max_sentences, usual.max_sentences);
    }
    wr_nat_search_options o =
        search_of(NAT "decode: {method: mask-predict, iterations: 4, adaptive: true, lengths: 5, "
                      "length_factor: 1.25, length_window: true, dedup: true, max_sentences: 7}\n",
                  "objective.name=glat");
    assert_int_equal(o.method, WR_NAT_MASK_PREDICT);
    assert_int_equal(o.passes, 4);
    assert_true(o.adaptive && o.window && o.dedup);
    assert_int_equal(o.lengths, 5);
    assert_true(o.length_factor == 1.25);
    assert_int_equal(o.max_sentences, 7);
    o = search_of(NAT "decode: {method: ctc-beam, beam: 6, symbols: 0, length_bonus: -0.5}\n",
                  "objective.name=ctc");
    assert_int_equal(o.method, WR_NAT_CTC_BEAM);
    assert_int_equal(o.beam, 6);
    assert_int_equal(o.symbols, 0);
    assert_true(o.length_bonus == -0.5);
    assert_int_equal(search_of(NAT "decode: {method: argmax}", "objective.name=cmlm").method,
                     WR_NAT_ARGMAX);
}

/* The default recipe is what an empty file gives, and a later --set wins over an earlier one. */
static void test_order_of_settings(void **state) {
    (void)state;
    wr_error err = {0};
    wr_recipe r;
    assert_int_equal(parse("", NULL, &r, &err), WR_OK);
    assert_int_equal(r.model.dim, 256);
    const char *sets[] = {"model.dim=128", "model.dim=192"};
    const char *text = "model: {dim: 64}";
    assert_int_equal(wr_recipe_parse(text, strlen(text), "r", sets, 2, &r, &err), WR_OK);
    assert_int_equal(r.model.dim, 192);
}

/* Recipes in which each key alone can take the value of other_value(): the first one whose keys
 * begin so. */
#define ROOMY_REST                                                                                 \
    "train: {keep_best: 9, best_by: nll}\n"                                                        \
    "optim: {type: adamw}\n"
#define ROOMY_NAT "model: {type: nat, embeddings: separate}\n" ROOMY_REST
static const struct {
    const char *begin, *text;
} ROOMY[] = {
    {"nat.input_temperature", ROOMY_NAT "nat: {inputs: soft}\n"},
    {"nat.upsampl", ROOMY_NAT "nat: {length: none}\nobjective: {name: ctc}\n"},
    {"nat.", ROOMY_NAT},
    {"objective.skip_penalty", ROOMY_NAT "objective: {name: axe}\n"},
    {"objective.form", ROOMY_NAT "objective: {name: axe}\n"},
    {"objective.trunc_log2", ROOMY_NAT "objective: {name: oaxe, trunc_prob: 0.1}\n"},
    {"objective.trunc_prob", ROOMY_NAT "objective: {name: oaxe}\n"},
    {"objective.mix", ROOMY_NAT "objective: {name: oaxe}\n"},
    {"objective.anneal", ROOMY_NAT "objective: {name: oaxe}\n"},
    {"objective.pretrain", ROOMY_NAT "objective: {name: oaxe}\n"},
    {"objective.masking", ROOMY_NAT "objective: {name: cmlm}\n"},
    {"objective.visible", ROOMY_NAT "objective: {name: cmlm, masking: fixed}\n"},
    {"objective.glance_", ROOMY_NAT "objective: {name: glat}\n"},
    {"objective.", ROOMY_NAT},
    {"decode.iterations", ROOMY_NAT "objective: {name: cmlm}\n"},
    {"decode.adaptive", ROOMY_NAT "objective: {name: cmlm}\n"},
    {"decode.length_window", ROOMY_NAT "decode: {lengths: 2}\n"},
    {"decode.length_factor", ROOMY_NAT},
    {"decode.dedup", ROOMY_NAT},
    {"decode.symbols", ROOMY_NAT "objective: {name: ctc}\ndecode: {method: ctc-beam}\n"},
    {"decode.length_bonus", ROOMY_NAT "objective: {name: ctc}\ndecode: {method: ctc-beam}\n"},
    {"", "model: {dim: 240, heads: 4, embeddings: separate}\n" ROOMY_REST},
    {"", "model: {type: flowseq, dim: 240, heads: 4, embeddings: separate}\n"
         "prior: {position: [actnorm]}\n" ROOMY_REST},
};

static const char *roomy_for(const wr__key *key) {
    size_t i = 0;
    while (strncmp(ROOMY[i].begin, key->path, strlen(ROOMY[i].begin)) != 0 ||
           (ROOMY[i].begin[0] == '\0' && i + 1 < sizeof ROOMY / sizeof ROOMY[0] &&
            !wr__key_used(key, WR_RECIPE_TRANSFORMER)))
        i++;
    return ROOMY[i].text;
}

/* Append the first word of `choices` that differs from `now`; the only word when there is one. */
static void other_choice(const char *choices, const char *now, wr_str *value) {
    size_t n = strcspn(choices, "|");
    bool first_is_now = strlen(now) == n && strncmp(choices, now, n) == 0;
    const char *word = first_is_now && choices[n + 1] != '\0' ? choices + n + 1 : choices;
    wr_str_add(value, "%.*s", (int)strcspn(word, "|"), word);
}

/* Append a legal value of the key that differs from `now` (where the key allows two). */
static void other_value(const wr__key *key, const char *now, wr_str *value) {
    switch (key->kind) {
    case WR__KEY_INT:
    case WR__KEY_WIDE:
        wr_str_add(value, "%ld", atol(now) + 4);
        return;
    case WR__KEY_REAL:
        wr_str_add(value, "0.00012345678901234567");
        return;
    case WR__KEY_BOOL:
        wr_str_add(value, strcmp(now, "true") == 0 ? "false" : "true");
        return;
    case WR__KEY_CHOICE:
        other_choice(key->choices, now, value);
        return;
    case WR__KEY_LAYERS:
        wr_str_add(value, "[actnorm x2, coupling time down net=lstm]");
        return;
    }
}

static void check_set(const wr__key *key) {
    wr_error err = {0};
    wr_recipe before, after;
    wr_str set = {0}, now = {0}, value = {0}, got = {0};
    assert_int_equal(parse(roomy_for(key), NULL, &before, &err), WR_OK);
    wr__key_write(key, &before, &now);
    other_value(key, wr_str_text(&now), &value);
    wr_str_add(&set, "%s=%s", key->path, wr_str_text(&value));
    if (parse(roomy_for(key), wr_str_text(&set), &after, &err) != WR_OK) fail_msg("%s", err.text);
    wr__key_write(key, &after, &got);
    if (key->kind == WR__KEY_REAL)
        assert_true(strtod(wr_str_text(&got), NULL) == strtod(wr_str_text(&value), NULL));
    else
        assert_string_equal(wr_str_text(&got), wr_str_text(&value));
    if (strcmp(key->path, "model.type") == 0) assert_int_equal(after.model.type, WR_RECIPE_FLOWSEQ);
    bool one_word = key->choices != NULL && strchr(key->choices, '|')[1] == '\0';
    if (!one_word) assert_string_not_equal(wr_str_text(&got), wr_str_text(&now));
    wr_str_free(&set);
    wr_str_free(&now);
    wr_str_free(&value);
    wr_str_free(&got);
}

static void test_set_reaches_every_key(void **state) {
    (void)state;
    for (size_t i = 0; i < wr__key_n; i++)
        check_set(&wr__keys[i]);
}

static void check_text(const char *text) {
    wr_error err = {0};
    wr_recipe first, second;
    if (parse(text, NULL, &first, &err) != WR_OK) fail_msg("%s", err.text);
    wr_str saved = {0};
    wr_recipe_text(&first, &saved);
    if (parse(wr_str_text(&saved), NULL, &second, &err) != WR_OK) fail_msg("%s", err.text);
    assert_memory_equal(&first, &second, sizeof first);
    wr_str again = {0};
    wr_recipe_text(&second, &again);
    assert_string_equal(wr_str_text(&saved), wr_str_text(&again));
    wr_str_free(&saved);
    wr_str_free(&again);
}

static void test_text_reads_back_exactly(void **state) {
    (void)state;
    check_text("optim: {lr: 0.1234567890123456789, beta2: 0.99999999999999989, eps: 1e-300,"
               " schedule: exponential, decay: 0.999995}\n"
               "train: {max_minutes: 0.3333333333333333, seed: 9007199254740990}\n"
               "model: {norm: post, dropout: 0.30000000000000004}\n");
    check_text(FLOW "flowseq: {posterior: shift_lstm, length_dropout: 0.30000000000000004}\n"
                    "prior: {unit: [], step: [unit x2, actnorm], transform: nlsq}\n"
                    "decode: {temperature: 0.1, method: npd}\n");
    check_text(NAT "nat: {inputs: interp, input_temperature: 0.123456789012345678}\n"
                   "objective: {name: oaxe, trunc_prob: 0.15, anneal: 150000}\n");
    check_text(NAT "objective: {name: ctc, glancing: fixed, norm: frames}\n"
                   "decode: {method: ctc-beam, beam: 3, symbols: 0, length_bonus: 0.1}\n");
    check_text(NAT "decode: {lengths: 3, length_window: true, length_factor: 1.01, dedup: true}\n"
                   "train: {valid_decode: method}\n");
}

static void test_save_and_load(void **state) {
    (void)state;
    char path[] = "/tmp/weir_recipe_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    wr_error err = {0};
    wr_recipe first, second;
    assert_int_equal(parse("model: {dim: 64}", NULL, &first, &err), WR_OK);
    assert_int_equal(wr_recipe_save(&first, path, &err), WR_OK);
    assert_int_equal(wr_recipe_load(path, NULL, 0, &second, &err), WR_OK);
    assert_memory_equal(&first, &second, sizeof first);
    unlink(path);
    assert_int_equal(wr_recipe_load(path, NULL, 0, &second, &err), WR_ERR_IO);
    assert_non_null(strstr(err.text, path));
}

static wr_recipe load_saved(const char *text, const char *path, const char *set) {
    wr_error err = {0};
    wr_recipe r;
    assert_int_equal(wr_file_replace(path, text, strlen(text), &err), WR_OK);
    if (wr_recipe_load_saved(path, &set, set == NULL ? 0 : 1, &r, &err) != WR_OK)
        fail_msg("%s", err.text);
    return r;
}

/* The keys of decoding that stood in recipes of non-autoregressive models before they did anything.
 */
#define WITHOUT_DECODING                                                                           \
    "decode:\n  method: argmax\n  normalisation: penalty\n  alpha: 0.6\n  max_sentences: 64\n"

static void test_saved_recipes(void **state) {
    (void)state;
    char path[] = "/tmp/weir_recipe_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    wr_recipe r =
        load_saved("model:\n  type: nat\nobjective:\n  name: ctc\n" WITHOUT_DECODING, path, NULL);
    assert_int_equal(wr_recipe_method_of(&r), WR_RECIPE_CTC);
    assert_int_equal(r.decode.normalisation, WR_RECIPE_BY_LENGTH);
    assert_true(r.decode.alpha == 1);
    static const char CMLM[] = "model:\n  type: nat\nobjective:\n  name: cmlm\n" WITHOUT_DECODING;
    r = load_saved(CMLM, path, NULL);
    assert_int_equal(wr_recipe_method_of(&r), WR_RECIPE_MASK_PREDICT);
    r = load_saved(CMLM, path, "decode.method=argmax");
    assert_int_equal(wr_recipe_method_of(&r), WR_RECIPE_ARGMAX);
    /* what this version saves stays as it is, and so do the other models */
    wr_error err = {0};
    wr_recipe now;
    assert_int_equal(parse(CMLM, NULL, &now, &err), WR_OK);
    wr_str saved = {0};
    wr_recipe_text(&now, &saved);
    r = load_saved(wr_str_text(&saved), path, NULL);
    assert_memory_equal(&now, &r, sizeof r);
    wr_str_free(&saved);
    r = load_saved("model:\n  type: flowseq\ndecode:\n  alpha: 0.5\n", path, NULL);
    assert_int_equal(r.decode.method, WR_RECIPE_ARGMAX);
    assert_true(r.decode.alpha == 0.5);
    unlink(path);
    assert_int_equal(wr_recipe_load_saved(path, NULL, 0, &r, &err), WR_ERR_IO);
}

static void test_shipped_recipes(void **state) {
    (void)state;
    DIR *dir = opendir(WEIR_SOURCE_DIR "/recipes");
    assert_non_null(dir);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        size_t length = strlen(entry->d_name);
        if (length < 5 || strcmp(entry->d_name + length - 5, ".yaml") != 0) continue;
        char path[1024];
        snprintf(path, sizeof path, "%s/recipes/%s", WEIR_SOURCE_DIR, entry->d_name);
        wr_error err = {0};
        wr_recipe r;
        if (wr_recipe_load(path, NULL, 0, &r, &err) != WR_OK) fail_msg("%s", err.text);
        n++;
    }
    closedir(dir);
    assert_true(n >= 6);
}

/* The sizes of spec/transformer.md: D, FFN, layers, heads. */
static void test_sizes(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int dim, ffn, layers, heads;
    } SIZES[] = {{"tiny", 128, 512, 3, 4},
                 {"small", 256, 1024, 3, 4},
                 {"base", 512, 2048, 6, 8},
                 {"big", 1024, 4096, 6, 16}};
    for (size_t i = 0; i < 4; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/recipes/transformer-%s.yaml", WEIR_SOURCE_DIR,
                 SIZES[i].name);
        wr_error err = {0};
        wr_recipe r;
        assert_int_equal(wr_recipe_load(path, NULL, 0, &r, &err), WR_OK);
        assert_int_equal(r.model.dim, SIZES[i].dim);
        assert_int_equal(r.model.ffn, SIZES[i].ffn);
        assert_int_equal(r.model.encoder_layers, SIZES[i].layers);
        assert_int_equal(r.model.decoder_layers, SIZES[i].layers);
        assert_int_equal(r.model.heads, SIZES[i].heads);
    }
}

static void test_documentation_is_complete(void **state) {
    (void)state;
    wr_error err = {0};
    char *docs;
    size_t n;
    assert_int_equal(wr_file_read(WEIR_SOURCE_DIR "/docs/recipes.md", &docs, &n, &err), WR_OK);
    wr_str reference = {0};
    wr_recipe_reference(&reference);
    if (strstr(docs, wr_str_text(&reference)) == NULL)
        fail_msg("docs/recipes.md must contain exactly:\n%s", wr_str_text(&reference));
    wr_str_free(&reference);
    free(docs);
}

/* Any bytes give an answer, and wrong ones a message of one line. */
static void test_broken_bytes(void **state) {
    (void)state;
    const char *good = "model: {dim: 64, heads: 2}\noptim:\n  lr: 1e-3\ntrain: {seed: 3}\n";
    size_t n = strlen(good);
    uint32_t random = 1;
    for (int round = 0; round < 20000; round++) {
        char text[128];
        memcpy(text, good, n + 1);
        for (int change = 0; change < 3; change++) {
            random = random * 1664525u + 1013904223u;
            text[(random >> 8) % n] = (char)(random >> 24);
        }
        wr_error err = {0};
        wr_recipe r;
        wr_status status = wr_recipe_parse(text, n, "r.yaml", NULL, 0, &r, &err);
        if (status == WR_OK) continue;
        assert_int_equal(status, WR_ERR_INPUT);
        assert_int_equal(strncmp(err.text, "r.yaml", 6), 0);
    }
}

/* Load, set, save, and a message: each allocation in turn fails. */
static wr_status all_work(const char *path, wr_error *err) {
    wr_recipe r;
    const char *set = "model.dim=128";
    wr_status status = wr_recipe_save(&(wr_recipe){.model.heads = 1}, path, err);
    if (status != WR_OK) return status;
    status = wr_recipe_parse("model: {dim: 64}", 16, "r.yaml", &set, 1, &r, err);
    if (status != WR_OK) return status;
    status = wr_recipe_save(&r, path, err);
    if (status != WR_OK) return status;
    status = wr_recipe_load_saved(path, &set, 1, &r, err);
    if (status != WR_OK) return status;
    static const char *const WRONG[] = {"model: {heds: 64}", FLOW "prior: {unit: [unti]}",
                                        FLOW "prior: {unit: [2]}", FLOW "decode: {method: beam}",
                                        NAT "decode: {iterations: 4}"};
    for (size_t i = 0; i < sizeof WRONG / sizeof WRONG[0]; i++) {
        wr_error message = {0};
        status = parse(WRONG[i], NULL, &r, &message);
        if (status != WR_ERR_MEMORY && status != WR_ERR_INPUT) return status;
        if (status == WR_ERR_MEMORY) return wr_fail(err, status, "%s", message.text);
    }
    return WR_OK;
}

static void test_failed_allocations(void **state) {
    (void)state;
    char path[] = "/tmp/weir_recipe_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    for (long n = 1;; n++) {
        wr_error err = {0};
        wr_test_fail_allocation(n);
        wr_status status = all_work(path, &err);
        bool failed = wr_test_allocation_failed();
        assert_int_equal(status, failed ? WR_ERR_MEMORY : WR_OK);
        if (failed) continue;
        assert_true(n > 5);
        break;
    }
    unlink(path);
}

static void test_nearest(void **state) {
    (void)state;
    assert_int_equal(wr_word_distance("", ""), 0);
    assert_int_equal(wr_word_distance("abc", ""), 3);
    assert_int_equal(wr_word_distance("", "abc"), 3);
    assert_int_equal(wr_word_distance("kitten", "sitting"), 3);
    assert_int_equal(wr_word_distance("scroe", "score"), 1);
    assert_int_equal(wr_word_distance("SCORE", "score"), 0);
    assert_int_equal(wr_word_distance("ca", "abc"), 3);
    static const char *const WORDS[] = {"train", "translate", "score"};
    static const struct {
        const char *typed, *meant;
    } CASES[] = {{"trian", "train"}, {"trans", "translate"}, {"scor", "score"}, {"x", NULL},
                 {"", NULL},         {"evaluate", NULL}};
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        wr_nearest nearest = {.word = CASES[i].typed};
        for (size_t j = 0; j < 3; j++)
            wr_nearest_try(&nearest, WORDS[j]);
        if (CASES[i].meant == NULL)
            assert_null(nearest.best);
        else
            assert_string_equal(nearest.best, CASES[i].meant);
    }
}

/* As its head says: nat-small is trained once for each objective. */
static void test_objectives_of_nat_small(void **state) {
    (void)state;
    const char *const sets[] = {"objective.name=ce",  "objective.name=axe",  "objective.name=oaxe",
                                "objective.name=ctc", "objective.name=cmlm", "objective.name=glat"};
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        wr_error err = {0};
        wr_recipe r;
        if (wr_recipe_load(WEIR_SOURCE_DIR "/recipes/nat-small.yaml", &sets[i], 1, &r, &err) !=
            WR_OK)
            fail_msg("%s", err.text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_messages),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_long_lists),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_defaults_of_a_type),
        cmocka_unit_test(test_search_of_a_recipe),
        cmocka_unit_test(test_order_of_settings),
        cmocka_unit_test(test_set_reaches_every_key),
        cmocka_unit_test(test_text_reads_back_exactly),
        cmocka_unit_test(test_save_and_load),
        cmocka_unit_test(test_saved_recipes),
        cmocka_unit_test(test_shipped_recipes),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_documentation_is_complete),
        cmocka_unit_test(test_broken_bytes),
        cmocka_unit_test(test_failed_allocations),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_objectives_of_nat_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
