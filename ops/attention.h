/* attention.h: fused multi-head scaled dot-product attention (Vaswani et al. 2017).
 *
 * B sequences, T queries, S keys, H heads of width dh = D / H; head h is columns h dh .. (h + 1) dh
 * of q, k and v. Probabilities and dropout masks are not stored: the gradient computes them again
 * (Rabe and Staats 2021; Dao et al. 2022). */
#ifndef WEIR_OPS_ATTENTION_H
#define WEIR_OPS_ATTENTION_H

#include "graph/op.h"

extern const wr_op wr_op_attention, wr_op_attention_grad;

/* What fusion makes of attention over parts of one product: qkv [B, T, 3 D], or q [B, T, D] and kv
 * [B, S, 2 D]. The attributes are those of attention, and the number of parts side by side (3 or
 * 2); the gradient's outputs are side by side, too. */
extern const wr_op wr_op_attention_joined, wr_op_attention_joined_grad;

/* q [B, T, D], k and v [B, S, D], key lengths [B] i32 in [0, S] -> [B, T, D]: per head,
 * dropout(softmax(scale q k^T)) v over the first lengths[b] keys, and with `causal` (T = S) over
 * keys up to the query's own position. Queries of a sequence of length 0 get 0, and no gradient
 * flows. Query positions are never masked: what stands behind a sequence's end is the caller's to
 * ignore.
 *
 * `lengths` may be NULL: all S keys. 0 <= dropout < 1, rounded to 1/65536: attention weights are
 * dropped as wr_dropout does on [B, H, T, S]. wr_output(y, 1) is the log-sum-exp of the scaled
 * scores, [B, H, T] (0 where no key is seen); the gradient reads it. */
typedef struct wr_attention_options {
    int heads;
    bool causal;
    double scale; /* 0: 1 / sqrt(dh) */
    double dropout;
} wr_attention_options;
wr wr_attention_with_at(wr_loc loc, wr q, wr k, wr v, const wr *lengths,
                        const wr_attention_options *o);
#define wr_attention_with(q, k, v, lengths, o) wr_attention_with_at(WR_HERE, q, k, v, lengths, o)
#define wr_attention(q, k, v, lengths, n_heads, is_causal, p)                                      \
    wr_attention_with_at(                                                                          \
        WR_HERE, q, k, v, (wr[]){lengths},                                                         \
        &(wr_attention_options){.heads = (n_heads), .causal = (is_causal), .dropout = (p)})

#endif
