/* transformer.h: the autoregressive Transformer (Vaswani et al. 2017): training and decoding
 * graphs.
 *
 * Letters: B batch, S source length, T target length, D model width, H heads, V vocabulary. All
 * token inputs are i32; padding is told by lengths, never by token values. */
#ifndef WEIR_TRANSFORMER_H
#define WEIR_TRANSFORMER_H

#include "graph/graph.h"
#include "models/recipe.h"

/* The model's sizes: the recipe's section with the vocabularies. */
typedef struct wr_transformer {
    wr_recipe_model m;
    int src_vocab, tgt_vocab;
    wr_dtype dtype;
    bool training; /* dropout on */
} wr_transformer;

/* Inputs of the training and scoring graphs. */
typedef struct wr_transformer_batch {
    wr src, src_len;             /* [B, S], [B] */
    wr tgt_in, tgt_out, tgt_len; /* [B, T], [B, T], [B] */
} wr_transformer_batch;

/* Declare the inputs `src`, `src_len`, `tgt_in`, `tgt_out`, `tgt_len` with symbols B, S, T. */
wr_transformer_batch wr_transformer_inputs(wr_graph *g, int max_len);

/* Encoder: [B, S] ids -> [B, S, D]. */
wr wr_transformer_encode(const wr_transformer *t, wr src, wr src_len);
/* Decoder over all positions at once: -> [B, T, D]. */
wr wr_transformer_decode(const wr_transformer *t, wr memory, wr src_len, wr tgt_in, wr tgt_len);
/* Embedded words of the source or the target, times sqrt(D), without positions: [..] -> [.., D]. */
wr wr_transformer_embed(const wr_transformer *t, wr ids, bool target);
/* The layers alone: embedded positions [B, S, D], of which row b has len[b], and the same for the
 * decoder's [B, T, D]. `places` [.., D] of positions are added before each decoder layer but the
 * first; poison: none. */
wr wr_transformer_encoder_layers(const wr_transformer *t, wr x, wr len);
wr wr_transformer_decoder_layers(const wr_transformer *t, wr x, wr len, wr memory, wr memory_len,
                                 bool causal, wr places);
/* Readout: [.., D] -> [.., V]. */
wr wr_transformer_logits(const wr_transformer *t, wr h);

/* The loss of a batch. */
typedef struct wr_transformer_loss {
    wr loss;      /* scalar: sum over target tokens of the label-smoothed cross-entropy */
    wr nll;       /* scalar: the same without smoothing */
    wr tokens;    /* scalar: number of target tokens, ends included */
    wr token_nll; /* [B, T], 0 behind the sentence */
} wr_transformer_loss;
wr_transformer_loss wr_transformer_loss_of(const wr_transformer *t, const wr_transformer_batch *b,
                                           double label_smoothing);

/* Decoding with cached keys and values. `rows` and `max_len` bound B and T of the caches. */
typedef struct wr_transformer_cache {
    int rows, src_len, tgt_len;
} wr_transformer_cache;

/* Encode src [B, S] and fill the caches of the decoder's source attention; the result (the
 * encoder's output) is only there to be run. */
wr wr_transformer_begin(const wr_transformer *t, const wr_transformer_cache *c, wr_graph *g);

/* One step: inputs `token` [B, 1], `position` [1], `rows` [B] (the cache rows that the hypotheses
 * continue), `src_rows` [B] (the same for the source), `src_len` [B] -> logits [B, V]. */
wr wr_transformer_step(const wr_transformer *t, const wr_transformer_cache *c, wr_graph *g);

/* Several positions of each hypothesis in one pass, M in all, on the caches of the steps. Inputs:
 * `token` [M] and `position` [M]; `past` [B], positions of each hypothesis that are cached;
 * `self_len` [B], those and its new ones; where position p < T of hypothesis b is: `cached` [B, T]
 * (in the cache's rows one behind the other, before the pass), `fresh` [B, T] (among the M;
 * anything where it is not new), and the way back, `place` [M] (in [B, T], one row behind the
 * other); `rows` [B]: 0, 1, ..; `src_rows` [B] and `src_len` [B] as in a step -> logits [M, V]. */
wr wr_transformer_verify(const wr_transformer *t, const wr_transformer_cache *c, wr_graph *g);

/* Given targets of G sources, B in all, in one pass. Positions with the same source and the same
 * words before them are one of M nodes, whatever targets they belong to. Inputs: `src` [G, S],
 * `src_len` [G]; `source` [B], the targets' sources; `len` [B], words and the end; of the nodes,
 * `token` [M] (the word before), `position` [M] and `place` [M] (one of the places in [B, T], one
 * row behind the other); `fresh` [B, T], the nodes of all places; `said` [B, T], node times V plus
 * the word that is said there -> -log p of these words, [B, T]; behind `len` it is anything. */
wr wr_transformer_judge(const wr_transformer *t, wr_graph *g);

#endif
