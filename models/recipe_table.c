/* recipe_table.c: every recipe key with type, limits, default and meaning, in one table. */
#include "models/recipe_table.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHOICE_TEXT(name, text) text "|"

/* The member path equals the key path, so a row cannot point at another key's value. */
#define ROW(kind_, member, ...)                                                                    \
    { .path = #member, .kind = kind_, .offset = offsetof(wr_recipe, member), __VA_ARGS__ }
/* The last arguments: the meaning, and what else the row sets. */
#define INT(member, default_, min_, max_, ...)                                                     \
    ROW(WR__KEY_INT, member, .fallback = default_, .min = min_, .max = max_, .help = __VA_ARGS__)
#define WIDE(member, default_, min_, max_, ...)                                                    \
    ROW(WR__KEY_WIDE, member, .fallback = default_, .min = min_, .max = max_, .help = __VA_ARGS__)
#define REAL(member, default_, min_, max_, ...)                                                    \
    ROW(WR__KEY_REAL, member, .fallback = default_, .min = min_, .max = max_, .help = __VA_ARGS__)
#define RATE(member, default_, ...) /* [0, 1) */                                                   \
    ROW(WR__KEY_REAL, member, .fallback = default_, .max = 1, .below = true, .help = __VA_ARGS__)
#define BOOL(member, default_, ...)                                                                \
    ROW(WR__KEY_BOOL, member, .fallback = default_, .help = __VA_ARGS__)
#define CHOICE(member, list, default_, ...)                                                        \
    ROW(WR__KEY_CHOICE, member, .fallback = default_, .choices = list(CHOICE_TEXT),                \
        .help = __VA_ARGS__)
#define LAYERS(member, default_, ...)                                                              \
    ROW(WR__KEY_LAYERS, member, .fallback = default_, .help = __VA_ARGS__)
/* For one family of models only. */
#define TRANSFORMER .types = 1u << WR_RECIPE_TRANSFORMER
#define FLOWSEQ     .types = 1u << WR_RECIPE_FLOWSEQ
#define NAT         .types = 1u << WR_RECIPE_NAT
/* For two: those with the layers of the Transformer, those that predict lengths. */
#define LAYERED  .types = 1u << WR_RECIPE_TRANSFORMER | 1u << WR_RECIPE_NAT
#define PREDICTS .types = 1u << WR_RECIPE_FLOWSEQ | 1u << WR_RECIPE_NAT

/* clang-format off */
const wr__key wr__keys[] = {
    CHOICE(model.type, WR_RECIPE_MODELS, "transformer",
           "the family of the model"),
    INT(model.dim, "256", 2, 65536,
        "features of embeddings and layers (D); even, and a multiple of `model.heads`"),
    INT(model.ffn, "1024", 1, 1048576,
        "inner features of the feed-forward layers; features of the states of `lstm` layers"),
    INT(model.heads, "4", 1, 1024,
        "attention heads; must divide `model.dim`; `lstm` layers have none"),
    INT(model.encoder_layers, "3", 1, 1000,
        "layers of the encoder"),
    INT(model.decoder_layers, "3", 1, 1000,
        "layers of the decoder"),
    CHOICE(model.norm, WR_RECIPE_NORMS, "pre",
           "layer norm before each block (`pre`, trains without a long warm-up) or after it "
           "(`post`, the paper of 2017)", LAYERED),
    CHOICE(model.activation, WR_RECIPE_ACTIVATIONS, "relu",
           "non-linearity of the feed-forward layers", LAYERED),
    RATE(model.dropout, "0.1",
         "dropout of each block's output, and in `transformer` and `nat` of embeddings"),
    RATE(model.attention_dropout, "0",
         "dropout of attention weights", LAYERED),
    RATE(model.activation_dropout, "0",
         "dropout behind the non-linearity of the feed-forward layers", LAYERED),
    CHOICE(model.embeddings, WR_RECIPE_EMBEDDINGS, "target",
           "which tables are one: target embedding and readout (`target`), these and the source "
           "embedding (`joint`, needs a joint vocabulary), or none (`separate`); `flowseq` knows "
           "`joint` and `separate`", .flowseq = "joint", .nat = "joint"),
    CHOICE(model.positions, WR_RECIPE_POSITIONS, "sinusoidal",
           "how positions are told to the model", LAYERED),
    INT(model.max_len, "256", 2, 65536,
        "longest sentence in tokens, its end included"),

    CHOICE(flowseq.encoder, WR_RECIPE_ENCODERS, "transformer",
           "layers of the encoder: `model.encoder_layers` of this kind", FLOWSEQ),
    CHOICE(flowseq.posterior, WR_RECIPE_POSTERIORS, "transformer",
           "layers of the posterior q(z\\|x,y); `shift_lstm`: one layer in which no position reads "
           "its own token", FLOWSEQ),
    CHOICE(flowseq.decoder, WR_RECIPE_DECODERS, "transformer",
           "layers of the decoder p(y\\|z,x): `model.decoder_layers` of this kind; `simple`: none, "
           "only attention to the source", FLOWSEQ),
    INT(flowseq.posterior_layers, "3", 1, 1000,
        "layers of the posterior", FLOWSEQ),
    RATE(flowseq.embedding_dropout, "0.2",
         "dropout of the embedded tokens of encoder and posterior", FLOWSEQ),
    RATE(flowseq.token_dropout, "0.2",
         "probability that the posterior sees a position without its token", FLOWSEQ),
    RATE(flowseq.decoder_token_dropout, "0",
         "probability that the decoder sees a position without its latent vector", FLOWSEQ),
    INT(flowseq.length_range, "20", 1, 65536,
        "lengths are predicted from (source length - this) to (source length + this)", FLOWSEQ),
    RATE(flowseq.length_dropout, "0.33",
         "dropout in the length predictor", FLOWSEQ),
    RATE(flowseq.length_smoothing, "0.1",
         "probability spread evenly over the possible lengths in the training loss", FLOWSEQ),
    BOOL(flowseq.literal, "false",
         "as the paper says where the authors' program does something else: lengths from the "
         "maximum over positions by one linear layer, the posterior's last layers begin as 0, "
         "every second channel is factored out instead of the second half",
         FLOWSEQ),

    INT(prior.heads, "4", 1, 1024,
        "attention heads of the networks in couplings; must divide the features they read", FLOWSEQ),
    INT(prior.hidden, "512", 1, 1048576,
        "inner features of these networks", FLOWSEQ),
    RATE(prior.dropout, "0",
         "dropout of these networks", FLOWSEQ),
    BOOL(prior.rebuild, "false",
         "training makes the values inside the prior again from its result, by the inverse, instead "
         "of keeping them: memory does not grow with the layers, an update takes about a third "
         "longer", FLOWSEQ),
    CHOICE(prior.net, WR_RECIPE_NETS, "attention",
           "these networks, where an item does not say `net=...`", FLOWSEQ),
    CHOICE(prior.transform, WR_RECIPE_TRANSFORMS, "affine",
           "what couplings do, where an item does not say `transform=...`", FLOWSEQ),
    LAYERS(prior.layers,
           "[position, step x4, coupling halves up, factor_out halves, squeeze, "
           "position, step x4, coupling halves up, factor_out halves, squeeze, "
           "position, last_step x2]",
           "the prior in the direction from latent vectors to noise", FLOWSEQ),
    LAYERS(prior.position, "[actnorm, coupling halves up attend, coupling halves down add]",
           "the block `position`", FLOWSEQ),
    LAYERS(prior.step, "[actnorm, linear heads, unit, actnorm, linear interleaved, unit]",
           "the block `step`", FLOWSEQ),
    LAYERS(prior.unit,
           "[coupling halves up, coupling halves down, actnorm, "
           "coupling alternate up, coupling alternate down, actnorm, "
           "coupling time up, coupling time down]",
           "the block `unit`", FLOWSEQ),
    LAYERS(prior.last_step,
           "[actnorm, linear heads, last_unit, actnorm, linear interleaved, last_unit]",
           "the block `last_step`", FLOWSEQ),
    LAYERS(prior.last_unit,
           "[coupling halves up, coupling halves down, actnorm, "
           "coupling alternate up, coupling alternate down]",
           "the block `last_unit`", FLOWSEQ),

    CHOICE(nat.inputs, WR_RECIPE_INPUTS, "mask",
           "what a position is told besides its place: nothing (`mask`), the source word at the "
           "same share of the sentence (`uniform`), a mixture of source words near the same number "
           "(`soft`) or share (`interp`), or one that is learned (`attn`)", NAT),
    ROW(WR__KEY_REAL, nat.input_temperature, .fallback = "0.3", .max = 1000, .above = true,
        .help = "of the mixtures `soft` and `interp`: small: few words", NAT),
    BOOL(nat.place_every_layer, "false",
         "positions are told their place before every decoder layer, not before the first only", NAT),
    CHOICE(nat.framing, WR_RECIPE_FRAMINGS, "eos",
           "what the decoder's positions hold besides words: begin and end of sentence, both "
           "given (`bos_eos`), the end, which is said like a word (`eos`), or nothing (`plain`)",
           NAT),
    CHOICE(nat.length, WR_RECIPE_LENGTHS, "auto",
           "how many positions: predicted from the encoder's mean (`pooled`), from a position of "
           "its own in front of the source (`token`), from the mean without gradient as a "
           "difference of at most 50 to the source (`difference`), or `nat.upsample` for each "
           "source word (`none`); `auto`: `none` with `objective.name` ctc, else `pooled`", NAT),
    BOOL(nat.length_offset, "true",
         "classes of lengths are differences to the source's length", NAT),
    INT(nat.length_classes, "256", 2, 100000,
        "classes of lengths of `pooled` and `token`; what lies beyond is in the last", NAT),
    REAL(nat.length_weight, "0.1", 0, 1000,
         "weight of the length's loss, a mean over sentences", NAT),
    INT(nat.upsample, "2", 1, 16,
        "positions of a source word with `nat.length` none", NAT),
    CHOICE(nat.upsampling, WR_RECIPE_UPSAMPLINGS, "repeat",
           "what these are told: the source word (`repeat`), nothing (`mask`), or a part each of a "
           "linear layer of the encoder's output (`split`)", NAT),

    CHOICE(objective.name, WR_RECIPE_OBJECTIVES, "ce",
           "what the words of a target are compared with: each position with its own word (`ce`; "
           "`cmlm`: with some given; `glat`: with those given that the model errs at), the "
           "cheapest monotone alignment (`axe`), the cheapest assignment (`oaxe`), or all "
           "alignments with blanks (`ctc`)", NAT),
    CHOICE(objective.norm, WR_RECIPE_NORMS_OF_LOSS, "auto",
           "sentences' sums become one number: divided by the batch's loss tokens (`token`), each "
           "by its own and averaged (`sent_token`), averaged (`sent`), or divided by the batch's "
           "positions (`frames`); `auto`: `sent_token` for axe and ctc, else `token`", NAT),
    CHOICE(objective.smooth_over, WR_RECIPE_SMOOTHINGS, "all",
           "`train.label_smoothing` is spread over all words, or all but the right one (`others`)",
           NAT),
    REAL(objective.skip_penalty, "1", 0, 1e6,
         "`axe`: what skipping a target word costs, as a multiple of saying it", NAT),
    CHOICE(objective.form, WR_RECIPE_AXE_FORMS, "original",
           "`axe`: the recurrence of the original paper, or of the MPLE paper", NAT),
    REAL(objective.trunc_prob, "0", 0, 1,
         "`oaxe`: positions whose word is less probable than this are left out", NAT),
    BOOL(objective.trunc_log2, "false",
         "`oaxe`: compare with the logarithm of base 2, as the authors' program does", NAT),
    REAL(objective.mix, "0", 0, 1,
         "`oaxe`: the share of cross-entropy in the loss", NAT),
    INT(objective.anneal, "0", 0, 1000000000,
        "`oaxe`: updates over which the share of cross-entropy falls from 1 to 0", NAT),
    INT(objective.pretrain, "0", 0, 1000000000,
        "`oaxe`: updates of cross-entropy alone before that", NAT),
    CHOICE(objective.masking, WR_RECIPE_MASKINGS, "uniform",
           "`cmlm`: of N words, how many are masked: 1 to N alike (`uniform`; `fairseq`: without "
           "begin and end), 1 to N - 1 (`mask_predict`), N less a random share (`mple`), N less "
           "`objective.visible` (`fixed`)", NAT),
    REAL(objective.visible, "0.2", 0, 1,
         "`cmlm` with masking `fixed`: the share of words that is given", NAT),
    CHOICE(objective.glancing, WR_RECIPE_GLANCINGS, "auto",
           "`ce`, `glat` and `ctc`: which words a second pass is given: as many as a share of the "
           "first pass's errors by this distance, all alike (`hamming`, `levenshtein`) or rather "
           "probable ones (`p_ref`) or improbable ones (`one_minus_p_ref`), or a share of all "
           "(`fixed`); `auto`: `hamming` for glat, else `none`", NAT),
    REAL(objective.glance_from, "0.5", 0, 1,
         "the share that glancing gives at the first update", NAT),
    REAL(objective.glance_to, "0.3", 0, 1,
         "the share after `objective.glance_updates`", NAT),
    INT(objective.glance_updates, "0", 0, 1000000000,
        "updates over which the share moves, in a straight line; 0: `train.max_updates`", NAT),

    INT(data.max_tokens, "4096", 1, 100000000,
        "tokens of a batch with padding, counted on the longer side; at least `model.max_len`"),
    INT(data.max_sentences, "0", 0, 100000000,
        "sentence pairs of a batch at most; 0: no limit"),
    INT(data.length_multiple, "8", 1, 1024,
        "lengths of a batch are rounded up to a multiple of this, so that plans are reused"),
    INT(data.src_vocab, "0", 0, 100000000,
        "pieces of the source vocabulary where neither a dataset nor a subword model tells them: "
        "in `weir info`, `draw` and `bench`, and in runs without subword models; 0: not said"),
    INT(data.tgt_vocab, "0", 0, 100000000,
        "the same of the target vocabulary; equal to `data.src_vocab` with joint embeddings"),

    INT(train.max_updates, "100000", 1, 1000000000,
        "stop after this many updates, those of pre-training included"),
    REAL(train.max_minutes, "0", 0, 1000000,
         "stop after this many minutes; 0: no limit"),
    INT(train.accumulate, "1", 1, 100000,
        "batches whose gradients are summed for one update"),
    INT(train.pretrain_updates, "5000", 0, 1000000000,
        "updates at the beginning that train the model without its prior, with the mean of the "
        "posterior; the main phase begins with a fresh optimizer", FLOWSEQ),
    INT(train.kl_warmup, "10000", 1, 1000000000,
        "updates of the main phase in which the weight of the KL term rises to 1", FLOWSEQ),
    INT(train.init_batch, "512", 2, 1000000,
        "sentences that the initialisation from data looks at", FLOWSEQ),
    CHOICE(train.weighting, WR_RECIPE_WEIGHTINGS, "sentence",
           "the loss of a batch is divided by its sentences or its target tokens", FLOWSEQ),
    RATE(train.label_smoothing, "0.1",
         "probability spread evenly over the vocabulary in the training loss"),
    REAL(train.clip_norm, "1", 0, 1e9,
         "largest norm of the whole gradient; 0: no clipping"),
    WIDE(train.seed, "1", 0, 9007199254740991.0,
         "seed of initial values, dropout and the order of the data"),
    INT(train.report_every, "100", 1, 1000000000,
        "updates between lines of log.jsonl"),
    INT(train.checkpoint_every, "1000", 1, 1000000000,
        "updates between checkpoints"),
    INT(train.valid_every, "1000", 1, 1000000000,
        "updates between validations"),
    CHOICE(train.valid_decode, WR_RECIPE_VALID_DECODES, "greedy",
           "how a validation translates for BLEU (`transformer`: greedy or beam; `flowseq`: argmax; "
           "`nat`: `argmax`, in one pass, or `method`, as section `decode` says); `none`: it "
           "computes the loss only", .flowseq = "argmax", .nat = "argmax"),
    INT(train.valid_beam, "4", 1, 1000,
        "beam of the validation when `train.valid_decode` is `beam`", TRANSFORMER),
    INT(train.valid_sentences, "0", 0, 1000000000,
        "sentences a validation translates, from the beginning of the split; 0: all"),
    CHOICE(train.best_by, WR_RECIPE_BEST_BY, "bleu",
           "what makes a checkpoint better: lower loss on the validation data (`nll`) or higher "
           "BLEU"),
    INT(train.keep_best, "5", 1, 1000,
        "best checkpoints kept"),
    INT(train.average_best, "5", 0, 1000,
        "best checkpoints averaged into `average` at the end; 0: none; at most "
        "`train.keep_best`"),
    INT(train.patience, "0", 0, 1000000,
        "stop after this many validations without a better one; 0: never"),

    CHOICE(optim.type, WR_RECIPE_OPTIMIZERS, "adam",
           "`adamw` has decoupled weight decay"),
    ROW(WR__KEY_REAL, optim.lr, .fallback = "0.001", .max = 100, .above = true,
        .help = "learning rate at its peak"),
    RATE(optim.beta1, "0.9",
         "decay of the mean of gradients"),
    RATE(optim.beta2, "0.98",
         "decay of the mean of squared gradients"),
    ROW(WR__KEY_REAL, optim.eps, .fallback = "1e-9", .max = 1, .above = true,
        .help = "added to the root of the mean of squares"),
    REAL(optim.weight_decay, "0", 0, 100,
         "decay of the weights; above 0 only with `adamw`"),
    BOOL(optim.amsgrad, "false",
         "divide by the largest mean of squares seen so far"),
    BOOL(optim.raw_eps, "false",
         "add `optim.eps` before the bias correction of the root, as FlowSeq's program does"),
    CHOICE(optim.schedule, WR_RECIPE_SCHEDULES, "inverse_sqrt",
           "the learning rate after the warm-up"),
    INT(optim.warmup, "4000", 0, 1000000000,
        "updates in which the learning rate rises to its peak in a straight line"),
    REAL(optim.lr_start, "0", 0, 100,
         "learning rate where the warm-up begins; at most `optim.lr`"),
    REAL(optim.lr_end, "0", 0, 100,
         "learning rate where `linear` and `cosine` end, and below which no schedule falls; at "
         "most `optim.lr`"),
    INT(optim.horizon, "0", 0, 1000000000,
        "update at which `linear` and `cosine` end, after the warm-up; 0: the last one; in `flowseq` "
        "the updates of a schedule are counted from the end of the pre-training"),
    ROW(WR__KEY_REAL, optim.decay, .fallback = "0.999995", .max = 1, .above = true,
        .help = "factor of the learning rate an update in schedule `exponential`"),
    INT(optim.pretrain_warmup, "4000", 0, 1000000000,
        "`optim.warmup` of the pre-training; cut to its updates", FLOWSEQ),
    REAL(optim.pretrain_lr_start, "1e-7", 0, 100,
         "`optim.lr_start` of the pre-training; at most `optim.lr`", FLOWSEQ),

    CHOICE(decode.method, WR_RECIPE_DECODES, "beam",
           "how `weir translate` searches (`transformer`: greedy or beam; `flowseq`: `argmax`, one "
           "candidate; `npd`, candidates rescored by a Transformer; `iwd`, candidates rescored by "
           "the model itself; `nat`: `argmax`, one pass; `mask-predict`, several; `ctc` and "
           "`ctc-beam`, of models with `objective.name` ctc; `auto`: `mask-predict` with "
           "`objective.name` cmlm, `ctc` with ctc, else `argmax`)", .flowseq = "argmax",
           .nat = "auto"),
    INT(decode.beam, "5", 1, 1000,
        "hypotheses kept by `beam`; prefixes kept by `ctc-beam`", LAYERED, .nat = "20"),
    CHOICE(decode.normalisation, WR_RECIPE_NORMALISATIONS, "penalty",
           "the score of a hypothesis is its log-probability divided by ((5 + length) / 6)^alpha "
           "(`penalty`), by length^alpha (`length`), or by nothing (`none`); in `npd` the "
           "log-probability is that of the rescoring Transformer, and so in `nat` with one",
           .flowseq = "length", .nat = "length"),
    REAL(decode.alpha, "0.6", 0, 10,
         "exponent of the normalisation; larger prefers longer translations", .flowseq = "1",
         .nat = "1"),
    REAL(decode.max_len_factor, "1.5", 0, 100,
         "an output has at most max_len_factor * (source tokens) + max_len_extra tokens, and at "
         "most `model.max_len`", TRANSFORMER),
    INT(decode.max_len_extra, "20", 1, 65536,
        "see `decode.max_len_factor`", TRANSFORMER),
    INT(decode.lengths, "3", 1, 1000,
        "likeliest lengths that `npd` and `iwd` try, and `argmax` and `mask-predict` of `nat`",
        PREDICTS, .nat = "1"),
    INT(decode.samples, "5", 1, 1000,
        "candidates of `npd` and `iwd` for each length", FLOWSEQ),
    REAL(decode.temperature, "0.3", 0, 10,
         "factor of the prior's noise in candidates; small: likely ones, large: different ones",
         FLOWSEQ),
    INT(decode.iwd_samples, "4", 1, 10000,
        "posterior samples by which `iwd` scores a candidate", FLOWSEQ),
    INT(decode.iterations, "10", 1, 1000,
        "passes of `mask-predict`", NAT),
    BOOL(decode.adaptive, "false",
         "`mask-predict` is done with a candidate when a pass changes no word", NAT),
    ROW(WR__KEY_REAL, decode.length_factor, .fallback = "1", .max = 100, .above = true,
        .help = "`argmax` and `mask-predict`: predicted lengths are multiplied by it", NAT),
    BOOL(decode.length_window, "false",
         "`decode.lengths` are those around the likeliest one, not the likeliest ones", NAT),
    BOOL(decode.dedup, "false",
         "words equal to the word before are left out of translations", NAT),
    INT(decode.symbols, "40", 0, 1000000000,
        "`ctc-beam` looks at the likeliest pieces of a frame, so many (2 at least); 0: at all", NAT),
    REAL(decode.length_bonus, "0", -1000, 1000,
         "`ctc-beam` adds it to the score for each piece", NAT),
    INT(decode.max_sentences, "64", 1, 100000,
        "sentences translated together"),
};
/* clang-format on */
const size_t wr__key_n = sizeof wr__keys / sizeof wr__keys[0];

_Static_assert(sizeof(wr_recipe_norm) == sizeof(int), "choices are stored as int");

bool wr__key_used(const wr__key *key, wr_recipe_model_type type) {
    return key->types == 0 || (key->types >> type & 1) != 0;
}

const wr__key *wr__key_find(const char *path) {
    for (size_t i = 0; i < wr__key_n; i++)
        if (strcmp(wr__keys[i].path, path) == 0) return &wr__keys[i];
    return NULL;
}

const char *wr__key_default(const wr__key *key, wr_recipe_model_type type) {
    const char *own = type == WR_RECIPE_FLOWSEQ ? key->flowseq
                      : type == WR_RECIPE_NAT   ? key->nat
                                                : NULL;
    return own != NULL ? own : key->fallback;
}

const char *wr__key_word(const wr__key *key, int value, size_t *n) {
    const char *word = key->choices;
    while (value-- > 0)
        word += strcspn(word, "|") + 1;
    *n = strcspn(word, "|");
    return word;
}

/* ", " between the words of "pre|post|". */
static void add_choices(const char *choices, wr_str *text) {
    for (const char *word = choices; *word != '\0';) {
        size_t n = strcspn(word, "|");
        wr_str_add(text, "%s%.*s", word == choices ? "" : ", ", (int)n, word);
        word += n + 1;
    }
}

/* 1e+09 stays short, 65536 whole. */
static void add_number(double value, wr_str *text) { wr_str_add(text, "%.16g", value); }

static void add_limits(const wr__key *key, const char *what, wr_str *text) {
    wr_str_add(text, "%s ", what);
    if (!key->above && !key->below) {
        wr_str_add(text, "from ");
        add_number(key->min, text);
        wr_str_add(text, " to ");
        add_number(key->max, text);
        return;
    }
    wr_str_add(text, key->above ? "above " : "at least ");
    add_number(key->min, text);
    wr_str_add(text, key->below ? " and below " : " and at most ");
    add_number(key->max, text);
}

void wr__key_allowed(const wr__key *key, wr_str *text) {
    switch (key->kind) {
    case WR__KEY_INT:
    case WR__KEY_WIDE:
        add_limits(key, "a whole number", text);
        return;
    case WR__KEY_REAL:
        add_limits(key, "a number", text);
        return;
    case WR__KEY_BOOL:
        wr_str_add(text, "true or false");
        return;
    case WR__KEY_LAYERS:
        wr_str_add(text, "a list of layers and blocks");
        return;
    case WR__KEY_CHOICE:
        break;
    }
    bool only_one = strchr(key->choices, '|')[1] == '\0';
    wr_str_add(text, only_one ? "only " : "one of ");
    add_choices(key->choices, text);
}

static bool within(const wr__key *key, double value) {
    if (key->above ? value <= key->min : value < key->min) return false;
    return key->below ? value < key->max : value <= key->max;
}

static bool read_whole(const wr__key *key, const char *text, int64_t *value) {
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    return end != text && *end == '\0' && errno == 0 && within(key, (double)*value);
}

/* A decimal number; strtod() alone would also take "nan", "inf" and hexadecimal. */
static bool read_real(const wr__key *key, const char *text, double *value) {
    if (text[strspn(text, "0123456789+-.eE")] != '\0') return false;
    char *end;
    *value = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*value) && within(key, *value);
}

static bool read_choice(const wr__key *key, const char *text, int *value) {
    size_t n = strlen(text);
    *value = 0;
    for (const char *word = key->choices; *word != '\0'; ++*value) {
        size_t length = strcspn(word, "|");
        if (length == n && memcmp(word, text, n) == 0) return true;
        word += length + 1;
    }
    return false;
}

/* Whether `text` begins with a blank, which strtoll() and strtod() would skip. */
static bool blank_first(const char *text) { return strchr(" \t\n\v\f\r", text[0]) != NULL; }

bool wr__key_read(const wr__key *key, const char *text, bool quoted, wr_recipe *recipe) {
    void *to = (char *)recipe + key->offset;
    if (blank_first(text) || (quoted && key->kind != WR__KEY_CHOICE)) return false;
    int64_t wide = 0;
    switch (key->kind) {
    case WR__KEY_INT:
        if (!read_whole(key, text, &wide)) return false;
        *(int *)to = (int)wide;
        return true;
    case WR__KEY_WIDE:
        return read_whole(key, text, to);
    case WR__KEY_REAL:
        return read_real(key, text, to);
    case WR__KEY_BOOL:
        *(bool *)to = strcmp(text, "true") == 0;
        return *(bool *)to || strcmp(text, "false") == 0;
    case WR__KEY_CHOICE:
        return read_choice(key, text, to);
    case WR__KEY_LAYERS:
        break;
    }
    return false;
}

/* The fewest digits that read back as the same double. */
static void write_real(double value, wr_str *text) {
    char digits[40];
    for (int n = 15; n <= 17; n++) {
        snprintf(digits, sizeof digits, "%.*g", n, value);
        if (strtod(digits, NULL) == value) break;
    }
    wr_str_add(text, "%s", digits);
}

/* "[actnorm, unit x2]" */
static void write_list(const wr_recipe_list *list, wr_str *text) {
    const char *at = list->text, *item;
    const char *before = "[";
    for (size_t n; (item = wr_recipe_list_next(&at, &n)) != NULL; before = ", ")
        wr_str_add(text, "%s%.*s", before, (int)n, item);
    wr_str_add(text, "%s", before[0] == '[' ? "[]" : "]");
}

void wr__key_write(const wr__key *key, const wr_recipe *recipe, wr_str *text) {
    const void *from = (const char *)recipe + key->offset;
    const char *word;
    size_t n;
    switch (key->kind) {
    case WR__KEY_INT:
        wr_str_add(text, "%d", *(const int *)from);
        return;
    case WR__KEY_WIDE:
        wr_str_add(text, "%lld", (long long)*(const int64_t *)from);
        return;
    case WR__KEY_REAL:
        write_real(*(const double *)from, text);
        return;
    case WR__KEY_BOOL:
        wr_str_add(text, *(const bool *)from ? "true" : "false");
        return;
    case WR__KEY_CHOICE:
        word = wr__key_word(key, *(const int *)from, &n);
        wr_str_add(text, "%.*s", (int)n, word);
        return;
    case WR__KEY_LAYERS:
        write_list(from, text);
        return;
    }
}
