/* lstm.h: a layer of long short-term memory over time (Hochreiter and Schmidhuber 1997), fused.
 *
 *   i, f, g, o = the four parts of x_t W_x + h W_h + bias, through sigmoid, sigmoid, tanh, sigmoid
 *   c' = f c + i g,   h' = o tanh(c')                         (gate order of PyTorch)
 *
 * Positions from the length on are skipped: y is 0 there and the state is carried over, so the last
 * state is the one of the last valid position. */
#ifndef WEIR_OPS_LSTM_H
#define WEIR_OPS_LSTM_H

#include "graph/op.h"

/* The recurrent part, z = x W_x + bias [B, T, 4H] given:
 * (z, h0, c0, W_h, lengths) -> y, h, c, kept [B, T, 5H] (the gates after their functions, and c').
 * lstm_grad: (kept, h0, c0, W_h, lengths, cotangents) -> those of z, h0, c0, W_h. */
extern const wr_op wr_op_lstm, wr_op_lstm_grad;

typedef struct wr_lstm_result {
    wr y;    /* [B, T, H] */
    wr h, c; /* the state behind the last valid position, [B, H] */
} wr_lstm_result;

typedef struct wr_lstm_operands {
    wr x;         /* [B, T, D] */
    wr h0, c0;    /* the state before the first position, [B, H]; left out ({0}): zeros */
    wr wx, wh;    /* [D, 4H], [H, 4H] */
    wr bias;      /* [4H] */
    wr lengths;   /* [B] i32 in [0, T] */
    bool reverse; /* from the last valid position to the first */
} wr_lstm_operands;

/* The input product of all positions is one matrix product. Gradients are fused; second derivatives
 * unroll over time, so they exist where T is a literal. */
wr_lstm_result wr_lstm_at(wr_loc loc, const wr_lstm_operands *o);
/* wr_lstm(.x = x, .wx = wx, .wh = wh, .bias = b, .lengths = lengths) */
#define wr_lstm(...) wr_lstm_at(WR_HERE, &(wr_lstm_operands){__VA_ARGS__})

#endif
