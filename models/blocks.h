/* blocks.h: the blocks of FlowSeq (Ma et al. 2019) as its code has them, which differs from the
 * paper: attention without output projection, the norm behind each block, positions of sines first
 * and cosines second. A block is a function from handles to handles; its parameters are created by
 * name in the current scope. Weights are [in, out]: y = x W + b.
 *
 * Letters: B sentences, N candidates (N = B in training), S source length, T target length, D
 * model width, d width of a block, H inner width, R2 classes. Lengths are i32. Positions from a
 * length on hold anything; no valid position reads them. */
#ifndef WEIR_BLOCKS_H
#define WEIR_BLOCKS_H

#include "graph/graph.h"
#include "models/start.h"

/* What candidates attend to. Projections of x are computed once a sentence and then repeated for
 * its candidates. */
typedef struct wr_source {
    wr x;    /* [B, S, D] */
    wr len;  /* [B] */
    wr rows; /* [N]: the sentence of each candidate, in [0, B); poison ({0}): candidate i is of
              * sentence i, N = B */
} wr_source;

/* Per candidate: x [B, ..] -> [N, ..], any dtype. */
wr wr_source_spread(const wr_source *s, wr x);

/* ---- Transformer ---- */

/* LayerNorm(dropout(attention(x)) + x), x [N, T, d], of which row n has len[n] valid positions:
 * `qkv.W` [d, 3d] and `qkv.b`, each third Xavier; `norm.gain`, `norm.bias`. `dropout` is 0 at
 * inference. */
wr wr_block_self_attention(wr x, wr len, int heads, double dropout);

/* LayerNorm(dropout(attention(q; memory)) + q): q [N, T, d], the query as it is given is the
 * residual; `q.W` [d, d], `q.b`, `kv.W` [D, 2d], `kv.b`, `norm.gain`, `norm.bias`. */
wr wr_block_cross_attention(wr q, const wr_source *memory, int heads, double dropout);

/* LayerNorm(x + dropout(W2 dropout(relu(W1 x)))): `inner.W` [d, H], `inner.b`, `outer.W` [H, d],
 * `outer.b`, `norm.gain`, `norm.bias`. */
wr wr_block_ffn(wr x, int hidden, double dropout);

typedef struct wr_block {
    int heads, hidden; /* hidden: H of the feed-forward block */
    double dropout;    /* 0 at inference */
} wr_block;

/* Scopes `self`, `ffn`; x [N, T, d]. */
wr wr_block_encoder_layer(wr x, wr len, const wr_block *o);
/* Scopes `self`, `source`, `ffn`. */
wr wr_block_decoder_layer(wr x, wr len, const wr_source *source, const wr_block *o);

/* x W + b, or x W: `name`.W and `name`.b begin uniform in +- 1 / sqrt(in). x [.., in] -> [.., out]
 */
wr wr_block_linear(wr x, const char *name, int out, bool bias);

/* ELU with a = 1: x for x > 0, else e^x - 1 (Clevert et al. 2016). */
wr wr_block_elu(wr x);

/* ---- positions ---- */

/* Rows 0 .. max_len of the table [max_len + 1, dim]: f_i = 10000^(-i / (dim/2 - 1)), sin(p f_i) in
 * the first half, cos(p f_i) in the second, 0 in the last column of an odd width. Row 0 is zero;
 * the first position of a sentence is 1. Make it once for a graph and a width. */
wr wr_positions_of(wr_graph *g, wr_dtype t, int max_len, int dim);
/* Positions 1 .. T: [T, dim]. T above the table's max_len is an error. */
wr wr_positions_rows(wr table, wr_dim t);
/* The same for each sentence, 0 where the mask is 0: mask [N, T] -> [N, T, dim]. */
wr wr_positions_masked(wr table, wr mask);

/* ---- weight normalisation (Salimans and Kingma 2016) ---- */

typedef struct wr_weight_normed {
    wr mask;      /* [N, T]: 0 for padding, which counts as a row of zeros in statistics */
    double scale; /* deviation of the output after a start from data; 0: the output is 0 */
    bool zero;    /* begin with g = 0, b = 0 and stay so: the output is 0 until the first update */
    wr_start *start; /* NULL: just compute */
} wr_weight_normed;

/* x [N, T, in] -> [N, T, out] through `v` [in, out], normal with deviation 0.05, lengths `g` [out]
 * and `b` [out]. In mode WR_START_PARAMS, g becomes the norms of v. In mode WR_START_DATA the
 * output is rescaled and shifted to mean 0 and deviation `scale` per channel, over all N T rows
 * with x set to 0 where the mask is (N T >= 2, deviation over N T - 1, 1e-6 added): g and b get the
 * values that do so, and the result is computed from them. */
wr wr_block_weight_normed(wr x, int out, const wr_weight_normed *o);

/* ---- recurrent variants ---- */

/* One attention head over a source, unscaled: q [N, T, d] -> [N, T, out]. `q.W` [d, h], `q.b`,
 * `kv.W` [D, 2h], `kv.b`, `out.W` [h, out], `out.b`; Xavier, zero biases; dropout at the end. */
wr wr_block_global_attention(wr q, const wr_source *memory, int h, int out, double dropout);

/* The two directions of an LSTM layer over the valid positions; 0 behind them. Scopes `forward` and
 * `backward` with `input.W` [in, 4h], `input.b`, `hidden.W` [h, 4h], `hidden.b`, all uniform in +-
 * 1 / sqrt(h), gates in the order i, f, g, o. */
typedef struct wr_both_ways {
    wr forward, backward; /* [N, T, h] */
} wr_both_ways;
wr_both_ways wr_block_lstm_both_ways(wr x, wr len, int h);

/* Layers `layer0`, `layer1`, .. of it; x [N, T, in] -> [N, T, hidden], hidden / 2 for each
 * direction. */
wr wr_block_bilstm(wr x, wr len, int hidden, int layers);

/* One layer whose output at t has read every position but t: forward states move right, backward
 * states move left; zeros come in. `layer0`; -> [N, T, hidden]. */
wr wr_block_shifted_bilstm(wr x, wr len, int hidden);

#endif
