/* recipe.h: a recipe, the YAML file that says which model to train and how.
 *
 * A recipe has the sections `model`, `data`, `train`, `optim` and `decode`; docs/recipes.md lists
 * every key. All keys, their types, limits and defaults stand in one table (recipe_table.c), from
 * which come the checks, `--set key.path=value`, saving, and the documentation. */
#ifndef WEIR_RECIPE_H
#define WEIR_RECIPE_H

#include "graph/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The words of each choice, once: the enums below and the texts in the table come from here. */
#define WR_RECIPE_MODELS(X) X(WR_RECIPE_TRANSFORMER, "transformer")
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
#define WR_RECIPE_VALID_DECODES(X)                                                                 \
    X(WR_RECIPE_VALID_NONE, "none")                                                                \
    X(WR_RECIPE_VALID_GREEDY, "greedy")                                                            \
    X(WR_RECIPE_VALID_BEAM, "beam")
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
    X(WR_RECIPE_BEAM, "beam")
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

typedef struct wr_recipe_data {
    int max_tokens, max_sentences, length_multiple;
} wr_recipe_data;

typedef struct wr_recipe_train {
    int max_updates;
    double max_minutes; /* 0: no limit */
    int accumulate;
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
    wr_recipe_schedule schedule;
    int warmup;      /* updates */
    double lr_start; /* at the first update of the warm-up */
    double lr_end;   /* linear and cosine: at the horizon; the others: never below */
    int horizon;     /* updates; 0: train.max_updates */
    double decay;    /* exponential: factor an update */
} wr_recipe_optim;

typedef struct wr_recipe_decode {
    wr_recipe_decode_method method;
    int beam;
    wr_recipe_normalisation normalisation;
    double alpha;
    double max_len_factor; /* longest output: max_len_factor * source length + max_len_extra */
    int max_len_extra;
    int max_sentences;
} wr_recipe_decode;

/* A plain value: copy it, nothing to free. */
typedef struct wr_recipe {
    wr_recipe_model model;
    wr_recipe_data data;
    wr_recipe_train train;
    wr_recipe_optim optim;
    wr_recipe_decode decode;
} wr_recipe;

/* Read a recipe: defaults, then the file, then the `set_n` settings "key.path=value" of `--set` in
 * their order, then the checks that look at several keys. `set` may be NULL when `set_n` is 0.
 * Errors: WR_ERR_INPUT with one message that names file and line (or the --set), key, and what is
 * allowed: broken YAML, unknown or doubled key, wrong type, value out of its limits or in conflict
 * with another one; WR_ERR_IO, WR_ERR_MEMORY. `*recipe` is then undefined. */
wr_status wr_recipe_load(const char *path, const char *const *set, size_t set_n, wr_recipe *recipe,
                         wr_error *err);

/* The same from `n` bytes of text; `name` stands for the file in messages. */
wr_status wr_recipe_parse(const char *text, size_t n, const char *name, const char *const *set,
                          size_t set_n, wr_recipe *recipe, wr_error *err);

/* Append the recipe as YAML with every key; parsing it gives the same recipe, bit for bit. */
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
