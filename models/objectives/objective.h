/* objective.h: training objectives of non-autoregressive models by name: what each position is to
 * say, and how much that counts.
 *
 * Letters: B sentences, T positions (frames), N target words, C columns.
 *
 * Nearly all of them have one form: loss = sum over t, v of -w[t, v] log p[t, v], with weights w >=
 * 0 that are constants of the gradient: one-hot targets (ce, cmlm, glat), a best alignment (axe,
 * oaxe), or exact posteriors (ctc, whose loss is another number, but whose gradient is this one).
 * An objective is therefore a function from gathered log-probabilities [T, C] to weights [T, C]:
 * column n is target word n, the last column (C = N + 1) the blank or skip word for those that have
 * one. The vocabulary's size V never enters; only T C numbers travel.
 *
 * objective_graph.h puts an objective into a graph: it gathers the log-probabilities, calls
 * wr_objective_run() as a host function and gives back its losses, whose gradient is -w. Label
 * smoothing is no business of the alignment: wr_objective_smoothing() tells how to mix w's loss
 * with the mean over the vocabulary.
 *
 * A new objective is one file with one wr_objective; wr_objective_init() takes it by address, and a
 * line in objective.c gives it a name (docs/objectives.md). */
#ifndef WEIR_MODELS_OBJECTIVES_OBJECTIVE_H
#define WEIR_MODELS_OBJECTIVES_OBJECTIVE_H

#include "models/objectives/alignments.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How sentences' sums become the number that is minimised. Infeasible sentences count nowhere. */
typedef enum wr_norm {
    WR_NORM_TOKEN,      /* sum over the batch / loss tokens of the batch */
    WR_NORM_SENT_TOKEN, /* each sentence's sum / its loss tokens, then the mean over sentences */
    WR_NORM_SENT,       /* mean over sentences of their sums */
    WR_NORM_FRAMES      /* sum over the batch / positions of the batch */
} wr_norm;

typedef enum wr_objective_kind {
    WR_OBJECTIVE_REAL,
    WR_OBJECTIVE_SWITCH, /* 0 or 1; written false or true */
    WR_OBJECTIVE_CHOICE  /* position in `choices` */
} wr_objective_kind;

/* One option; `min` and `max` limit numbers, included (max may be INFINITY). */
typedef struct wr_objective_option {
    const char *name; /* as in recipes: "skip_penalty" */
    wr_objective_kind kind;
    double fallback, min, max;
    const char *choices; /* "original|mple" */
    const char *help;    /* one sentence without a full stop */
} wr_objective_option;

enum { WR_OBJECTIVE_OPTIONS = 6 };

typedef struct wr_objective wr_objective;

/* An objective with its options' values, in the order of the row's table. */
typedef struct wr_objective_config {
    const wr_objective *row;
    double value[WR_OBJECTIVE_OPTIONS];
    wr_norm norm;
    double label_smoothing; /* 0 <= eps < 1 */
    bool smooth_others;     /* eps is spread over the V - 1 other words instead of all V */
} wr_objective_config;

/* What an objective sees of a sentence, and what it fills. */
typedef struct wr_objective_sentence {
    wr_gathered costs;
    const int32_t *ids;   /* [N] target words, then the blank if the row has one */
    const double *weight; /* [T] of masked objectives: 0 for positions that are given; else NULL */
    double update;        /* how many updates were made: for annealing */
    double *w;            /* [T, stride], zeros */
    int32_t *said; /* [T]: the target word (from 0) each position is to say, -1: none; NULL */
    double tokens; /* the loss tokens, by which NORM_TOKEN divides */
    void *workspace;
} wr_objective_sentence;

struct wr_objective {
    const char *name, *doc; /* doc: one line without a full stop */
    bool extra;             /* needs the column of a blank or skip word, which no target is */
    bool aligned;           /* T = N is required: position t belongs to target t */
    bool masked;            /* takes weights of positions */
    bool marginal;          /* the loss is not sum -w lp: a sum over alignments */
    wr_norm norm;           /* the usual one */
    wr_objective_option options[WR_OBJECTIVE_OPTIONS + 1];
    /* The sentence's loss; INFINITY when infeasible (w is then ignored). T and N are at least 1. */
    double (*weigh)(const wr_objective_config *c, wr_objective_sentence *s);
    /* Bytes of workspace for a sentence; NULL: none. */
    size_t (*workspace)(int positions, int targets);
    /* The least number of positions for a target; NULL: 1. */
    int (*least_positions)(const int32_t *ids, int targets);
    /* Whether the loss depends on the update, with these options; NULL: it does not. */
    bool (*needs_update)(const wr_objective_config *c);
    /* Options that do not go together; NULL: all do. */
    wr_status (*check)(const wr_objective_config *c, wr_error *err);
};

extern const wr_objective wr_objective_ce, wr_objective_axe, wr_objective_oaxe, wr_objective_ctc,
    wr_objective_cmlm, wr_objective_glat;

/* ---- by name ---- */

/* The objectives that have a name: row k from 0, NULL behind the last. */
const wr_objective *wr_objective_at(size_t k);
/* The objective of a name. WR_ERR_INPUT lists those there are. */
wr_status wr_objective_find(const char *name, const wr_objective **row, wr_error *err);

/* Option k from 0 of those that all have, NULL behind the last: norm (its default is the row's),
 * label_smoothing, smooth_over. */
const wr_objective_option *wr_objective_common(size_t k);

/* Defaults of a row. */
wr_objective_config wr_objective_init(const wr_objective *row);
/* Set an option of the row, or one that all have. WR_ERR_INPUT: an unknown name, with the nearest
 * one; a value that is no number, none of the choices or out of its limits. */
wr_status wr_objective_set(wr_objective_config *c, const char *name, const char *value,
                           wr_error *err);
/* Whether the options go together; after the last wr_objective_set(). */
wr_status wr_objective_check(const wr_objective_config *c, wr_error *err);
/* "axe" or "axe skip_penalty=5 form=mple": a name and its options, spaces or commas between; found,
 * set and checked. An option given twice is an error, too. */
wr_status wr_objective_parse(const char *text, wr_objective_config *c, wr_error *err);
/* Whether the loss depends on how many updates were made (annealing). */
bool wr_objective_needs_update(const wr_objective_config *c);
/* The value of an option of the row by name. Asking for one that it has not is a bug. */
double wr_objective_value(const wr_objective_config *c, const char *name);

/* ---- batches ---- */

typedef enum wr_objective_real { WR_OBJECTIVE_F32, WR_OBJECTIVE_F64 } wr_objective_real;

/* A padded batch; C = N, or N + 1 for rows with `extra`, whose blank is the last column. Reals are
 * float or double as `real` says. Log-probabilities of padding are not read, its weights are 0. */
typedef struct wr_objective_batch {
    wr_objective_real real;
    int sentences, positions, targets;        /* B, T, N: sizes of the padded batch */
    const void *lp;                           /* [B, T, C] */
    const int32_t *ids;                       /* [B, C] */
    const int32_t *position_len, *target_len; /* [B] */
    const void *weight;                       /* [B, T] for masked rows; NULL: 1 everywhere */
    double update;
    /* filled: */
    void *w;           /* [B, T, C]; may be NULL */
    void *loss;        /* [B] the sum over the sentence; 0 when infeasible */
    void *tokens;      /* [B] loss tokens; 0 when infeasible */
    int32_t *feasible; /* [B] 1 or 0 */
    int32_t *said;     /* [B, T] as in wr_objective_sentence, -1 in padding; may be NULL */
} wr_objective_batch;

/* Weigh a batch on `threads` threads; each sentence is computed by one thread, so that results do
 * not depend on their number. A sentence without positions or target words, or without an alignment
 * of finite loss, is infeasible: loss, weights and tokens are 0. NaN (or +INFINITY) among a
 * sentence's log-probabilities makes its loss and all its weights NaN, for --trap-nan to find.
 * Errors: WR_ERR_INPUT, naming the sentence (from 1), for lengths outside [0, T] and [0, N], T != N
 * for aligned rows, a blank among the target words, weights for a row that is not masked;
 * WR_ERR_MEMORY. */
wr_status wr_objective_run(const wr_objective_config *c, const wr_objective_batch *b, int threads,
                           wr_error *err);

/* How many sentences are infeasible; of the first one with the reason a sentence is appended to
 * `text` (may be NULL). */
int wr_objective_infeasible(const wr_objective_config *c, const wr_objective_batch *b,
                            wr_str *text);

/* The factor of each sentence's loss (and gradient) in the number that is minimised: scale [B],
 * float or double as the batch is. All 0 when every sentence is infeasible. */
void wr_objective_scale(const wr_objective_config *c, const wr_objective_batch *b, void *scale);

/* Label smoothing: the loss is  *own (sum -w lp) + *mean (sum over t of weight[t] (-mean over v of
 * lp[t, v])). All words: own = 1 - eps, mean = eps (Szegedy et al. 2016); the other words only:
 * with e = eps / (V - 1), own = 1 - eps - e and mean = e V. */
void wr_objective_smoothing(const wr_objective_config *c, int64_t words, double *own, double *mean);

/* ---- one sentence from its logits, for teaching and checking ---- */

typedef struct wr_objective_dense {
    int positions, words, targets; /* T, V, N */
    const double *logits;          /* [T, V] */
    const int32_t *target;         /* [N] in [0, V) */
    int32_t blank;                 /* in [0, V); not used by rows without `extra` */
    const double *weight;          /* [T] for masked rows, or NULL */
    double update;
    /* filled: */
    double loss, tokens;
    double scale; /* by wr_objective_scale(), were it the only sentence of a batch */
    bool feasible;
    double *gradient; /* [T, V] of the loss with respect to the logits */
    double *w;        /* [T, V] the weights before smoothing; may be NULL */
    double *log_p;    /* [T, V] log softmax(logits); may be NULL */
    int32_t *said;    /* [T]; may be NULL */
} wr_objective_dense;

/* Loss (the sum over the sentence, smoothing included) and gradient in float64. Errors as
 * wr_objective_run(), and WR_ERR_INPUT for a word outside the vocabulary and for NaN or infinite
 * logits. */
wr_status wr_objective_dense_run(const wr_objective_config *c, wr_objective_dense *d,
                                 wr_error *err);

#ifdef __cplusplus
}
#endif
#endif
