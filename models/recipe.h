/* recipe.h: a recipe, the YAML file that says which model to train and how.
 *
 * A recipe has the sections `model`, `flowseq`, `prior`, `nat`, `objective`, `data`, `train`,
 * `optim` and `decode`; docs/recipes.md lists every key. All keys, their types, limits and defaults
 * stand in one table (recipe_table.c), from which come the checks, `--set key.path=value`, saving,
 * and the documentation. The table also tells which families of models use a key: setting a key
 * that `model.type` has no use for is an error, and saving leaves such keys out. */
#ifndef WEIR_RECIPE_H
#define WEIR_RECIPE_H

#include "graph/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The words of each choice, once: the enums below and the texts in the table come from here. */
#define WR_RECIPE_MODELS(X)                                                                        \
    X(WR_RECIPE_TRANSFORMER, "transformer")                                                        \
    X(WR_RECIPE_FLOWSEQ, "flowseq")                                                                \
    X(WR_RECIPE_NAT, "nat")
#define WR_RECIPE_NORMS(X)                                                                         \
    X(WR_RECIPE_NORM_PRE, "pre")                                                                   \
    X(WR_RECIPE_NORM_POST, "post")
#define WR_RECIPE_ACTIVATIONS(X)                                                                   \
    X(WR_RECIPE_RELU, "relu")                                                                      \
    X(WR_RECIPE_GELU, "gelu")
#define WR_RECIPE_EMBEDDINGS(X)                                                                    \
    X(WR_RECIPE_EMBED_TARGET, "target")                                                            \
    X(WR_RECIPE_EMBED_JOINT, "joint")                                                              \
    X(WR_RECIPE_EMBED_SEPARATE, "separate")
#define WR_RECIPE_POSITIONS(X) X(WR_RECIPE_SINUSOIDAL, "sinusoidal")
#define WR_RECIPE_ENCODERS(X)                                                                      \
    X(WR_RECIPE_ENCODER_TRANSFORMER, "transformer")                                                \
    X(WR_RECIPE_ENCODER_LSTM, "lstm")
#define WR_RECIPE_POSTERIORS(X)                                                                    \
    X(WR_RECIPE_POSTERIOR_TRANSFORMER, "transformer")                                              \
    X(WR_RECIPE_POSTERIOR_LSTM, "lstm")                                                            \
    X(WR_RECIPE_POSTERIOR_SHIFT_LSTM, "shift_lstm")
#define WR_RECIPE_DECODERS(X)                                                                      \
    X(WR_RECIPE_DECODER_TRANSFORMER, "transformer")                                                \
    X(WR_RECIPE_DECODER_LSTM, "lstm")                                                              \
    X(WR_RECIPE_DECODER_SIMPLE, "simple")
#define WR_RECIPE_NETS(X)                                                                          \
    X(WR_RECIPE_NET_ATTENTION, "attention")                                                        \
    X(WR_RECIPE_NET_LSTM, "lstm")                                                                  \
    X(WR_RECIPE_NET_CONV, "conv")
#define WR_RECIPE_TRANSFORMS(X)                                                                    \
    X(WR_RECIPE_AFFINE, "affine")                                                                  \
    X(WR_RECIPE_ADDITIVE, "additive")                                                              \
    X(WR_RECIPE_NLSQ, "nlsq")
#define WR_RECIPE_INPUTS(X)                                                                        \
    X(WR_RECIPE_INPUT_MASK, "mask")                                                                \
    X(WR_RECIPE_INPUT_UNIFORM, "uniform")                                                          \
    X(WR_RECIPE_INPUT_SOFT, "soft")                                                                \
    X(WR_RECIPE_INPUT_INTERP, "interp")                                                            \
    X(WR_RECIPE_INPUT_ATTN, "attn")
#define WR_RECIPE_FRAMINGS(X)                                                                      \
    X(WR_RECIPE_FRAME_BOS_EOS, "bos_eos")                                                          \
    X(WR_RECIPE_FRAME_EOS, "eos")                                                                  \
    X(WR_RECIPE_FRAME_PLAIN, "plain")
#define WR_RECIPE_LENGTHS(X)                                                                       \
    X(WR_RECIPE_LENGTH_AUTO, "auto")                                                               \
    X(WR_RECIPE_LENGTH_POOLED, "pooled")                                                           \
    X(WR_RECIPE_LENGTH_TOKEN, "token")                                                             \
    X(WR_RECIPE_LENGTH_DIFFERENCE, "difference")                                                   \
    X(WR_RECIPE_LENGTH_NONE, "none")
#define WR_RECIPE_UPSAMPLINGS(X)                                                                   \
    X(WR_RECIPE_UPSAMPLE_REPEAT, "repeat")                                                         \
    X(WR_RECIPE_UPSAMPLE_MASK, "mask")                                                             \
    X(WR_RECIPE_UPSAMPLE_SPLIT, "split")
/* Objectives in the order of wr_objective_at(). */
#define WR_RECIPE_OBJECTIVES(X)                                                                    \
    X(WR_RECIPE_OBJECTIVE_CE, "ce")                                                                \
    X(WR_RECIPE_OBJECTIVE_AXE, "axe")                                                              \
    X(WR_RECIPE_OBJECTIVE_OAXE, "oaxe")                                                            \
    X(WR_RECIPE_OBJECTIVE_CTC, "ctc")                                                              \
    X(WR_RECIPE_OBJECTIVE_CMLM, "cmlm")                                                            \
    X(WR_RECIPE_OBJECTIVE_GLAT, "glat")
#define WR_RECIPE_AXE_FORMS(X)                                                                     \
    X(WR_RECIPE_AXE_ORIGINAL, "original")                                                          \
    X(WR_RECIPE_AXE_MPLE, "mple")
#define WR_RECIPE_NORMS_OF_LOSS(X)                                                                 \
    X(WR_RECIPE_LOSS_BY_AUTO, "auto")                                                              \
    X(WR_RECIPE_LOSS_BY_TOKEN, "token")                                                            \
    X(WR_RECIPE_LOSS_BY_SENT_TOKEN, "sent_token")                                                  \
    X(WR_RECIPE_LOSS_BY_SENT, "sent")                                                              \
    X(WR_RECIPE_LOSS_BY_FRAMES, "frames")
#define WR_RECIPE_SMOOTHINGS(X)                                                                    \
    X(WR_RECIPE_SMOOTH_ALL, "all")                                                                 \
    X(WR_RECIPE_SMOOTH_OTHERS, "others")
#define WR_RECIPE_MASKINGS(X)                                                                      \
    X(WR_RECIPE_MASKING_UNIFORM, "uniform")                                                        \
    X(WR_RECIPE_MASKING_MASK_PREDICT, "mask_predict")                                              \
    X(WR_RECIPE_MASKING_FAIRSEQ, "fairseq")                                                        \
    X(WR_RECIPE_MASKING_MPLE, "mple")                                                              \
    X(WR_RECIPE_MASKING_FIXED, "fixed")
#define WR_RECIPE_GLANCINGS(X)                                                                     \
    X(WR_RECIPE_GLANCE_AUTO, "auto")                                                               \
    X(WR_RECIPE_GLANCE_NONE, "none")                                                               \
    X(WR_RECIPE_GLANCE_HAMMING, "hamming")                                                         \
    X(WR_RECIPE_GLANCE_LEVENSHTEIN, "levenshtein")                                                 \
    X(WR_RECIPE_GLANCE_P_REF, "p_ref")                                                             \
    X(WR_RECIPE_GLANCE_NOT_P_REF, "one_minus_p_ref")                                               \
    X(WR_RECIPE_GLANCE_FIXED, "fixed")
#define WR_RECIPE_WEIGHTINGS(X)                                                                    \
    X(WR_RECIPE_PER_SENTENCE, "sentence")                                                          \
    X(WR_RECIPE_PER_TOKEN, "token")
#define WR_RECIPE_VALID_DECODES(X)                                                                 \
    X(WR_RECIPE_VALID_NONE, "none")                                                                \
    X(WR_RECIPE_VALID_GREEDY, "greedy")                                                            \
    X(WR_RECIPE_VALID_BEAM, "beam")                                                                \
    X(WR_RECIPE_VALID_ARGMAX, "argmax")                                                            \
    X(WR_RECIPE_VALID_METHOD, "method")
#define WR_RECIPE_BEST_BY(X)                                                                       \
    X(WR_RECIPE_BEST_NLL, "nll")                                                                   \
    X(WR_RECIPE_BEST_BLEU, "bleu")
#define WR_RECIPE_OPTIMIZERS(X)                                                                    \
    X(WR_RECIPE_ADAM, "adam")                                                                      \
    X(WR_RECIPE_ADAMW, "adamw")
#define WR_RECIPE_SCHEDULES(X)                                                                     \
    X(WR_RECIPE_INVERSE_SQRT, "inverse_sqrt")                                                      \
    X(WR_RECIPE_LINEAR, "linear")                                                                  \
    X(WR_RECIPE_CONSTANT, "constant")                                                              \
    X(WR_RECIPE_COSINE, "cosine")                                                                  \
    X(WR_RECIPE_EXPONENTIAL, "exponential")
#define WR_RECIPE_DECODES(X)                                                                       \
    X(WR_RECIPE_GREEDY, "greedy")                                                                  \
    X(WR_RECIPE_BEAM, "beam")                                                                      \
    X(WR_RECIPE_ARGMAX, "argmax")                                                                  \
    X(WR_RECIPE_NPD, "npd")                                                                        \
    X(WR_RECIPE_IWD, "iwd")                                                                        \
    X(WR_RECIPE_MASK_PREDICT, "mask-predict")                                                      \
    X(WR_RECIPE_CTC, "ctc")                                                                        \
    X(WR_RECIPE_CTC_BEAM, "ctc-beam")                                                              \
    X(WR_RECIPE_METHOD_AUTO, "auto")
#define WR_RECIPE_NORMALISATIONS(X)                                                                \
    X(WR_RECIPE_BY_PENALTY, "penalty")                                                             \
    X(WR_RECIPE_BY_LENGTH, "length")                                                               \
    X(WR_RECIPE_BY_NOTHING, "none")

#define WR__CHOICE_NAME(name, text) name,
typedef enum wr_recipe_model_type { WR_RECIPE_MODELS(WR__CHOICE_NAME) } wr_recipe_model_type;
typedef enum wr_recipe_norm { WR_RECIPE_NORMS(WR__CHOICE_NAME) } wr_recipe_norm;
typedef enum wr_recipe_activation { WR_RECIPE_ACTIVATIONS(WR__CHOICE_NAME) } wr_recipe_activation;
typedef enum wr_recipe_embedding { WR_RECIPE_EMBEDDINGS(WR__CHOICE_NAME) } wr_recipe_embedding;
typedef enum wr_recipe_position { WR_RECIPE_POSITIONS(WR__CHOICE_NAME) } wr_recipe_position;
typedef enum wr_recipe_encoder { WR_RECIPE_ENCODERS(WR__CHOICE_NAME) } wr_recipe_encoder;
typedef enum wr_recipe_posterior { WR_RECIPE_POSTERIORS(WR__CHOICE_NAME) } wr_recipe_posterior;
typedef enum wr_recipe_decoder { WR_RECIPE_DECODERS(WR__CHOICE_NAME) } wr_recipe_decoder;
typedef enum wr_recipe_net { WR_RECIPE_NETS(WR__CHOICE_NAME) } wr_recipe_net;
typedef enum wr_recipe_transform { WR_RECIPE_TRANSFORMS(WR__CHOICE_NAME) } wr_recipe_transform;
typedef enum wr_recipe_input { WR_RECIPE_INPUTS(WR__CHOICE_NAME) } wr_recipe_input;
typedef enum wr_recipe_framing { WR_RECIPE_FRAMINGS(WR__CHOICE_NAME) } wr_recipe_framing;
typedef enum wr_recipe_length { WR_RECIPE_LENGTHS(WR__CHOICE_NAME) } wr_recipe_length;
typedef enum wr_recipe_upsampling { WR_RECIPE_UPSAMPLINGS(WR__CHOICE_NAME) } wr_recipe_upsampling;
typedef enum wr_recipe_objective_name {
    WR_RECIPE_OBJECTIVES(WR__CHOICE_NAME)
} wr_recipe_objective_name;
typedef enum wr_recipe_axe_form { WR_RECIPE_AXE_FORMS(WR__CHOICE_NAME) } wr_recipe_axe_form;
typedef enum wr_recipe_loss_norm { WR_RECIPE_NORMS_OF_LOSS(WR__CHOICE_NAME) } wr_recipe_loss_norm;
typedef enum wr_recipe_smoothing { WR_RECIPE_SMOOTHINGS(WR__CHOICE_NAME) } wr_recipe_smoothing;
typedef enum wr_recipe_masking { WR_RECIPE_MASKINGS(WR__CHOICE_NAME) } wr_recipe_masking;
typedef enum wr_recipe_glancing { WR_RECIPE_GLANCINGS(WR__CHOICE_NAME) } wr_recipe_glancing;
typedef enum wr_recipe_weighting { WR_RECIPE_WEIGHTINGS(WR__CHOICE_NAME) } wr_recipe_weighting;
typedef enum wr_recipe_valid_decode {
    WR_RECIPE_VALID_DECODES(WR__CHOICE_NAME)
} wr_recipe_valid_decode;
typedef enum wr_recipe_best_by { WR_RECIPE_BEST_BY(WR__CHOICE_NAME) } wr_recipe_best_by;
typedef enum wr_recipe_optimizer { WR_RECIPE_OPTIMIZERS(WR__CHOICE_NAME) } wr_recipe_optimizer;
typedef enum wr_recipe_schedule { WR_RECIPE_SCHEDULES(WR__CHOICE_NAME) } wr_recipe_schedule;
typedef enum wr_recipe_decode_method { WR_RECIPE_DECODES(WR__CHOICE_NAME) } wr_recipe_decode_method;
typedef enum wr_recipe_normalisation {
    WR_RECIPE_NORMALISATIONS(WR__CHOICE_NAME)
} wr_recipe_normalisation;
#undef WR__CHOICE_NAME

/* Sizes are in features (dim, ffn), tokens (lengths) and counts; rates are probabilities. */
typedef struct wr_recipe_model {
    wr_recipe_model_type type;
    int dim, ffn, heads;
    int encoder_layers, decoder_layers;
    wr_recipe_norm norm;
    wr_recipe_activation activation;
    double dropout, attention_dropout, activation_dropout;
    wr_recipe_embedding embeddings;
    wr_recipe_position positions;
    int max_len;
} wr_recipe_model;

/* The parts of FlowSeq (Ma et al. 2019) besides the prior. */
typedef struct wr_recipe_flowseq {
    wr_recipe_encoder encoder;
    wr_recipe_posterior posterior;
    wr_recipe_decoder decoder;
    int posterior_layers;
    double embedding_dropout; /* features of embedded tokens */
    double token_dropout, decoder_token_dropout;
    int length_range; /* R: target length - source length is predicted within [-R, R] */
    double length_dropout, length_smoothing;
    bool literal; /* as the paper says where the authors' program does something else */
} wr_recipe_flowseq;

/* Items, each followed by a line break, e.g. "actnorm\nunit x2\n"; the bytes behind the final NUL
 * are zero. An item is words with one blank between them: `NAME [xN] [option ...]`. */
enum { WR_RECIPE_LIST_BYTES = 1024 };
typedef struct wr_recipe_list {
    char text[WR_RECIPE_LIST_BYTES];
} wr_recipe_list;

/* Append an item of `n` bytes, its runs of blanks as one. False, with `list` unchanged and the
 * reason appended to `why`, when it is empty or too long or does not begin with a letter or has
 * other bytes than letters, digits, blanks and `_ = . + -`. */
bool wr_recipe_list_add(wr_recipe_list *list, const char *item, size_t n, wr_str *why);

/* The item at `*at` (`list->text` at first): `*n` bytes at the returned place; `*at` moves behind
 * it. NULL at the end. */
const char *wr_recipe_list_next(const char **at, size_t *n);

/* The prior: a list of layers and the blocks that the list and the blocks may name. */
typedef struct wr_recipe_prior {
    int heads, hidden; /* of the networks in couplings */
    double dropout;
    bool rebuild; /* the backward part makes the layers' values again by the inverse */
    wr_recipe_net net;
    wr_recipe_transform transform;
    wr_recipe_list layers;
    wr_recipe_list position, step, unit, last_step, last_unit;
} wr_recipe_prior;

/* The parts of non-autoregressive models (models/nat.h). */
typedef struct wr_recipe_nat {
    wr_recipe_input inputs; /* what a position without a word is told */
    double input_temperature;
    bool place_every_layer;
    wr_recipe_framing framing;
    wr_recipe_length length;
    bool length_offset;
    int length_classes;
    double length_weight;
    int upsample; /* positions of a source word where the length is not predicted */
    wr_recipe_upsampling upsampling;
} wr_recipe_nat;

/* What non-autoregressive models are trained by (models/objectives/objective.h). */
typedef struct wr_recipe_objective {
    wr_recipe_objective_name name;
    wr_recipe_loss_norm norm;
    wr_recipe_smoothing smooth_over;
    double skip_penalty; /* axe */
    wr_recipe_axe_form form;
    double trunc_prob; /* oaxe, also the next four */
    bool trunc_log2;
    double mix;
    int anneal, pretrain;      /* updates */
    wr_recipe_masking masking; /* cmlm, also the next */
    double visible;
    wr_recipe_glancing glancing;
    double glance_from, glance_to; /* shares */
    int glance_updates;
} wr_recipe_objective;

typedef struct wr_recipe_data {
    int max_tokens, max_sentences, length_multiple;
    int src_vocab, tgt_vocab; /* 0: not said; a dataset's and a run's own go before them */
} wr_recipe_data;

typedef struct wr_recipe_train {
    int max_updates;    /* FlowSeq: those of pre-training included */
    double max_minutes; /* 0: no limit */
    int accumulate;
    int pretrain_updates; /* FlowSeq: updates without the prior before the main phase */
    int kl_warmup;        /* FlowSeq: updates of the main phase until the KL term counts whole */
    int init_batch;       /* FlowSeq: sentences of the batches that initialisation looks at */
    wr_recipe_weighting weighting;
    double label_smoothing;
    double clip_norm; /* 0: no clipping */
    int64_t seed;
    int report_every, checkpoint_every, valid_every; /* updates */
    wr_recipe_valid_decode valid_decode;
    int valid_beam, valid_sentences; /* valid_sentences 0: all */
    wr_recipe_best_by best_by;
    int keep_best, average_best;
    int patience; /* 0: never stop early */
} wr_recipe_train;

typedef struct wr_recipe_optim {
    wr_recipe_optimizer type;
    double lr, beta1, beta2, eps, weight_decay;
    bool amsgrad;
    bool raw_eps;
    wr_recipe_schedule schedule;
    int warmup;          /* updates */
    double lr_start;     /* at the first update of the warm-up */
    double lr_end;       /* linear and cosine: at the horizon; the others: never below */
    int horizon;         /* updates; 0: train.max_updates */
    double decay;        /* exponential: factor an update */
    int pretrain_warmup; /* the same two for the pre-training of FlowSeq */
    double pretrain_lr_start;
} wr_recipe_optim;

typedef struct wr_recipe_decode {
    wr_recipe_decode_method method;
    int beam;
    wr_recipe_normalisation normalisation;
    double alpha;
    double max_len_factor; /* longest output: max_len_factor * source length + max_len_extra */
    int max_len_extra;
    int lengths, samples; /* npd, iwd: candidates of a sentence: samples for each length */
    double temperature;   /* npd, iwd: factor of the prior's noise */
    int iwd_samples;      /* iwd: posterior samples of a candidate */
    /* non-autoregressive models: wr_nat_search_options (models/nat_decoder.h) */
    int iterations; /* mask-predict, also the next */
    bool adaptive;
    double length_factor; /* argmax, mask-predict, also the next */
    bool length_window;
    bool dedup;
    int symbols; /* ctc-beam, also the next */
    double length_bonus;
    int max_sentences;
} wr_recipe_decode;

/* A plain value: copy it, nothing to free. */
typedef struct wr_recipe {
    wr_recipe_model model;
    wr_recipe_flowseq flowseq;
    wr_recipe_prior prior;
    wr_recipe_nat nat;
    wr_recipe_objective objective;
    wr_recipe_data data;
    wr_recipe_train train;
    wr_recipe_optim optim;
    wr_recipe_decode decode;
} wr_recipe;

/* Read a recipe: defaults of the model's type, then the file, then the `set_n` settings
 * "key.path=value" of `--set` in their order, then the checks that look at several keys. A list is
 * a YAML list, or text as in `--set "prior.unit=[coupling halves up, actnorm]"`. `set` may be NULL
 * when `set_n` is 0. Errors: WR_ERR_INPUT with one message that names file and line (or the --set),
 * key, and what is allowed: broken YAML, unknown or doubled key, wrong type, value out of its
 * limits or in conflict with another one; WR_ERR_IO, WR_ERR_MEMORY. `*recipe` is then undefined. */
wr_status wr_recipe_load(const char *path, const char *const *set, size_t set_n, wr_recipe *recipe,
                         wr_error *err);

/* The same of a file that wr_recipe_save() wrote, such as a run's recipe.yaml: one of an earlier
 * version is read as that version meant it. */
wr_status wr_recipe_load_saved(const char *path, const char *const *set, size_t set_n,
                               wr_recipe *recipe, wr_error *err);

/* The same as wr_recipe_load() from `n` bytes of text; `name` stands for the file in messages. */
wr_status wr_recipe_parse(const char *text, size_t n, const char *name, const char *const *set,
                          size_t set_n, wr_recipe *recipe, wr_error *err);

/* Append the recipe as YAML with every key that its model's type uses; parsing it gives the same
 * recipe, bit for bit. */
void wr_recipe_text(const wr_recipe *recipe, wr_str *text);

/* Write wr_recipe_text() to a file, whole or not at all (wr_file_replace). */
wr_status wr_recipe_save(const wr_recipe *recipe, const char *path, wr_error *err);

/* Append the Markdown tables of all keys, one per section: key, what is allowed, default, meaning.
 * docs/recipes.md holds exactly this text, which a test checks. */
void wr_recipe_reference(wr_str *text);

#ifdef __cplusplus
}
#endif
#endif
