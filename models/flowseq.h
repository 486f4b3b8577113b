/* flowseq.h: FlowSeq (Ma et al. 2019), a model of translation whose latent variables have a flow as
 * prior: p(y, z | x) = p(y | z, x) p(z | x), words independent of each other given z.
 *
 * Where the authors' paper and program differ, this is the program (docs/flowseq.md).
 *
 * Letters: B sentences, N candidates (N = B in training), K samples of the posterior, S source
 * length, T target length (a multiple of the unit U), D model width (also of embeddings and of z),
 * V vocabulary, R range of length differences. Token inputs and lengths are i32. Padding is told by
 * lengths, never by token values. */
#ifndef WEIR_FLOWSEQ_H
#define WEIR_FLOWSEQ_H

#include "graph/graph.h"
#include "models/blocks.h"
#include "models/flow.h"
#include "models/recipe.h"
#include "models/start.h"

enum { WR_FLOWSEQ_PAD = 0 }; /* its row of the embedding begins as 0 */

/* A plain value. Rates are probabilities and count only with `training`. */
typedef struct wr_flowseq {
    int src_vocab, tgt_vocab;
    int dim, hidden, heads; /* hidden: of feed-forward blocks, and both directions of LSTMs */
    wr_recipe_encoder encoder;
    wr_recipe_posterior posterior;
    wr_recipe_decoder decoder;
    int encoder_layers, posterior_layers, decoder_layers;
    bool shared_embeddings; /* one matrix for source, target and readout (src_vocab = tgt_vocab) */
    double dropout;
    double embedding_dropout;                    /* behind embedded tokens */
    double token_dropout, decoder_token_dropout; /* whole embeddings; whole positions of z */
    int length_unit;                             /* U */
    int length_range;                            /* R */
    double length_dropout;
    bool pooled_lengths; /* lengths from the maximum over positions by one linear layer, as the
                          * paper says; classes that are no multiples of U are left out in
                          * prediction only */
    bool zero_heads;     /* mean and log-variance begin as 0, as the paper says */
    int max_positions;   /* of S and T */
    wr_flow_stack prior;
    int prior_heads, prior_hidden;
    double prior_dropout;
    bool prior_rebuild; /* in training: wr_flow_context.rebuild */
    wr_dtype dtype;
    bool training; /* dropout on */
} wr_flowseq;

/* ---- parts ---- */

typedef struct wr_flowseq_pairs {
    wr src, src_len; /* [B, S], [B] */
    wr tgt, tgt_len; /* [B, T], [B] multiples of U */
} wr_flowseq_pairs;

/* Declare the inputs `src`, `src_len`, `tgt`, `tgt_len` with symbols B, S, T. */
wr_flowseq_pairs wr_flowseq_inputs(const wr_flowseq *f, wr_graph *g);

/* The source as the other parts see it. `source.rows` is poison: set it to the sentences of the
 * candidates where there are several ones of a sentence. */
typedef struct wr_flowseq_encoding {
    wr_source source; /* x [B, S, D] is 0 behind the sentence */
    wr state;         /* [B, D] of the whole sentence */
} wr_flowseq_encoding;
wr_flowseq_encoding wr_flowseq_encode(const wr_flowseq *f, wr src, wr src_len);

/* Which parameters start from what; NULL members do not. */
typedef struct wr_flowseq_starts {
    wr_start *mean, *log_variance, *prior;
} wr_flowseq_starts;

/* q(z | x, y): mean and log-variance [N, T, D], 0 behind the sentence. `starts` may be NULL. */
typedef struct wr_flowseq_gaussian {
    wr mean, log_variance;
} wr_flowseq_gaussian;
wr_flowseq_gaussian wr_flowseq_posterior(const wr_flowseq *f, const wr_source *source, wr tgt,
                                         wr tgt_len, const wr_flowseq_starts *starts);

/* Standard normal noise [N, T, D], drawn anew at every step of the session. */
wr wr_flowseq_noise(const wr_flowseq *f, wr_graph *g, wr_dim n, wr_dim t);

/* z = mean + e^(log_variance / 2) noise [N, T, D], 0 where the mask [N, T] is 0. */
wr wr_flowseq_draw(const wr_flowseq_gaussian *q, wr noise, wr mask);
/* log q(z | x, y) [N] of what the noise gave. */
wr wr_flowseq_log_q(const wr_flowseq_gaussian *q, wr noise, wr mask);

/* log p(z | x) [N] through the prior z -> eps. */
typedef struct wr_flowseq_density {
    wr eps;     /* [N, T, D] */
    wr log_det; /* [N]: log |d eps / d z| */
    wr log_prior;
} wr_flowseq_density;
wr_flowseq_density wr_flowseq_density_of(const wr_flowseq *f, const wr_source *source, wr z, wr len,
                                         wr_start *start);

/* eps [N, T, D] -> z, the other direction; log_det [N] of d z / d eps may be NULL. */
wr wr_flowseq_generate(const wr_flowseq *f, const wr_source *source, wr eps, wr len, wr *log_det);

/* p(y | z, x): z [N, T, D] -> features [N, T, D], -> scores of words [N, T, V]. */
wr wr_flowseq_decode(const wr_flowseq *f, const wr_source *source, wr z, wr len);
wr wr_flowseq_logits(const wr_flowseq *f, wr features);
/* The most probable word of each position but the `n` banned ones: -> [N, T] i32. What stands
 * behind a sentence means nothing. */
wr wr_flowseq_words(const wr_flowseq *f, wr features, int n, const int *banned);

/* ---- lengths ---- */

/* Class j of 2R + 1 stands for the length j + S - R. */
int wr_flowseq_class_length(const wr_flowseq *f, int src_len, int index);
/* The class that training aims at: the length rounded and clamped into the range. */
int wr_flowseq_length_class(const wr_flowseq *f, int src_len, int tgt_len);

typedef struct wr_flowseq_length_loss {
    wr loss; /* [B] with label smoothing over the allowed classes */
    wr nll;  /* [B] without */
} wr_flowseq_length_loss;
wr_flowseq_length_loss wr_flowseq_length_loss_of(const wr_flowseq *f, const wr_flowseq_encoding *e,
                                                 wr tgt_len, double smoothing);

/* log p(T | x) of each class [B, 2R + 1]; -infinity for lengths below 1 and for no multiples of U.
 */
wr wr_flowseq_length_scores(const wr_flowseq *f, const wr_flowseq_encoding *e);

/* On the host: of one sentence's 2R + 1 scores, the k best lengths, best first (the shorter one at
 * ties), and their scores (may be NULL). Returns how many there are, at most k. */
int wr_flowseq_best_lengths(const wr_flowseq *f, int src_len, const double *scores, int k,
                            int *lengths, double *best);

/* ---- losses ---- */

typedef struct wr_flowseq_losses {
    wr reconstruction; /* -log p(y | z, x) with label smoothing */
    wr nll;            /* the same without */
    wr kl;             /* log q - log p(z | x); may be negative for one sentence */
    wr log_q, log_prior;
    wr log_det;            /* of the prior, z -> eps */
    wr length, length_nll; /* -log p(T | x) with smoothing and without */
    wr tokens;             /* valid positions of the target */
    wr weights;            /* [B, K]: log p(y, z | x) - log q(z | x, y) */
    wr z;                  /* [B K, T, D] */
    wr eps;                /* the same through the prior */
    wr_flowseq_gaussian q; /* [B, T, D] */
} wr_flowseq_losses;

typedef struct wr_flowseq_options {
    int samples;      /* K; 0: one */
    bool pretraining; /* z is the mean and the prior is left out: its members are poison */
    wr noise;         /* [B K, T, D] to take instead of drawing it; or poison */
    double label_smoothing, length_smoothing;
    const wr_flowseq_starts *starts; /* NULL: none */
} wr_flowseq_options;

/* Losses per sentence, all [B] but those said; means over the samples. Sums over tokens and
 * features are sums. */
wr_flowseq_losses wr_flowseq_losses_of(const wr_flowseq *f, const wr_flowseq_pairs *in,
                                       const wr_flowseq_options *o);

/* The scalar sum over sentences of reconstruction + kl_weight kl + length (+ length weight 1);
 * kl_weight is a scalar, unused in pre-training (poison will do). */
wr wr_flowseq_total(const wr_flowseq_losses *l, wr kl_weight);

/* ---- first values (models/start.h) ---- */

/* Declare in an empty graph what gives first values that follow from other parameters: lengths of
 * weight-normalised matrices, the embedding of padding. Nothing is fed. Returns the program's
 * output. */
wr wr_flowseq_start_params(const wr_flowseq *f, wr_graph *g);

enum {
    WR_FLOWSEQ_START_MEAN = 1,
    WR_FLOWSEQ_START_LOG_VARIANCE = 2,
    WR_FLOWSEQ_START_PRIOR = 4 /* on a sample of the posterior as the others leave it */
};
/* Declare in an empty graph, with the inputs of wr_flowseq_inputs, what starts these parts (a sum
 * of the above) from the batch that is fed: heads of the posterior get deviation 0.05, the prior is
 * passed layer by layer. Dropout is off. `noise` [B, T, D] as in wr_flowseq_options; poison: drawn.
 * With the mean before pre-training, then the log-variance and the prior before the main phase; or
 * all at once. Returns the program's output. */
wr wr_flowseq_start_data(const wr_flowseq *f, const wr_flowseq_pairs *in, wr noise, int parts);

#endif
