/* nat.c: the non-autoregressive model; see nat.h. Decoder inputs are in nat_inputs.c, lengths in
 * nat_length.c. */
#include "models/nat_internal.h"

#include "graph/op.h"
#include "data/subword.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/mask.h"
#include "ops/random_ops.h"
#include "ops/reduce.h"
#include "ops/slice.h"

#include <stdlib.h>

/* The Transformer whose layers and embeddings these are. Joint tables have the extra rows, too. */
wr_transformer wr__nat_layers(const wr_nat *n) {
    bool joint = n->m.embeddings == WR_RECIPE_EMBED_JOINT;
    return (wr_transformer){.m = n->m,
                            .src_vocab = joint ? n->tgt_vocab + WR_NAT_EXTRA : n->src_vocab,
                            .tgt_vocab = n->tgt_vocab + WR_NAT_EXTRA,
                            .dtype = n->dtype,
                            .training = n->training};
}

static double dropout_of(const wr_nat *n) { return n->training ? n->m.dropout : 0; }

/* One table of sinusoids for source and target. */
wr wr__nat_positions(const wr_nat *n, wr_graph *g) {
    int most = n->max_source > n->max_positions ? n->max_source : n->max_positions;
    return wr_sinusoids(g, n->dtype, most, n->m.dim);
}

static wr with_positions(const wr_nat *n, wr x) {
    return wr_dropout(wr_add_positions(x, wr__nat_positions(n, x.g)), dropout_of(n));
}

/* ---- whole numbers by table ---- */

wr wr__nat_lookup(wr index, int count, int scale, int shift) {
    int32_t *value = malloc(sizeof *value * (size_t)count);
    if (value == NULL) return wr_no_memory(index.g);
    for (int i = 0; i < count; i++)
        value[i] = scale * i + shift;
    wr table = wr_const(index.g, WR_I32, 1, &(int64_t){count}, value);
    free(value);
    return wr_gather(table, index);
}

wr wr_nat_frame_lengths(const wr_nat *n, wr src_len) {
    return wr__nat_lookup(src_len, n->max_source + 1, n->frames, 0);
}

wr_dim wr_nat_frame_dim(const wr_nat *n, wr_graph *g, wr_dim s) {
    return wr_dim_mul(g, s, wr_n(n->frames));
}

/* ---- encoder ---- */

/* The mean over the valid positions: x [B, S, D] -> [B, D]. */
static wr mean_of_valid(wr x, wr len) {
    wr_dtype t = wr_dtype_of(x);
    wr_dim b = wr_dim_of(x, 0), d = wr_dim_of(x, 2);
    wr mask = wr_sequence_mask(len, wr_dim_of(x, 1), t);
    wr sum = wr_sum(wr_mask_apply(x, mask), 1);
    wr count = wr_reshape(wr_cast(len, t), WR_DIMS(b, wr_n(1)));
    return wr_div(sum, wr_broadcast(count, WR_DIMS(b, d)));
}

/* The encoder with one more position in front, whose output tells the length. */
static wr_nat_encoding encode_with_token(const wr_nat *n, const wr_transformer *t, wr x, wr len) {
    wr_dim b = wr_dim_of(x, 0), d = wr_dim_of(x, 2);
    wr token = wr_slice(wr__nat_length_table(n, x.g), 0, 0, 1);
    wr first =
        wr_broadcast(wr_reshape(token, WR_DIMS(wr_n(1), wr_n(1), d)), WR_DIMS(b, wr_n(1), d));
    wr longer = wr__nat_lookup(len, n->max_source + 1, 1, 1);
    wr y = wr_transformer_encoder_layers(t, wr_concat(1, first, x), longer);
    return (wr_nat_encoding){.memory = wr_slice(y, 1, 1, 0), .state = wr_index(y, 1, 0)};
}

wr_nat_encoding wr_nat_encode(const wr_nat *n, wr src, wr src_len) {
    wr_transformer t = wr__nat_layers(n);
    wr words = wr_transformer_embed(&t, src, false);
    wr x = with_positions(n, words);
    wr_nat_encoding e = {.state = {src.g, 0}};
    if (n->length == WR_RECIPE_LENGTH_TOKEN) {
        e = encode_with_token(n, &t, x, src_len);
    } else {
        e.memory = wr_transformer_encoder_layers(&t, x, src_len);
        if (n->length != WR_RECIPE_LENGTH_NONE) e.state = mean_of_valid(e.memory, src_len);
    }
    e.words = words;
    e.len = src_len;
    return e;
}

static wr spread(wr x, wr rows) { return wr_is_poison(x) ? x : wr_gather(x, rows); }

wr_nat_encoding wr_nat_spread(const wr_nat_encoding *e, wr rows) {
    return (wr_nat_encoding){.memory = spread(e->memory, rows),
                             .len = spread(e->len, rows),
                             .words = spread(e->words, rows),
                             .state = spread(e->state, rows)};
}

/* ---- decoder ---- */

/* 1 where the token is the mask: [N, T] -> [N, T, D]. */
static wr is_masked(const wr_nat *n, wr tokens) {
    wr_dim b = wr_dim_of(tokens, 0), t = wr_dim_of(tokens, 1);
    wr mask = wr_scalar(tokens.g, n->dtype, wr_nat_mask(n));
    wr flag = wr_reshape(wr_equal(wr_cast(tokens, n->dtype), mask), WR_DIMS(b, t, wr_n(1)));
    return wr_broadcast(flag, WR_DIMS(b, t, wr_n(n->m.dim)));
}

wr wr_nat_decode(const wr_nat *n, const wr_nat_encoding *e, wr tokens, wr len) {
    wr_transformer t = wr__nat_layers(n);
    wr x = wr_transformer_embed(&t, tokens, true);
    wr copy = wr__nat_copy(n, e, len, wr_dim_of(tokens, 1));
    if (!wr_is_poison(copy)) x = wr_select(is_masked(n, tokens), copy, x);
    wr again = n->place_every_layer ? wr__nat_positions(n, x.g) : (wr){x.g, 0};
    return wr_transformer_decoder_layers(&t, with_positions(n, x), len, e->memory, e->len, false,
                                         again);
}

wr wr_nat_logits(const wr_nat *n, wr features) {
    wr_transformer t = wr__nat_layers(n);
    return wr_transformer_logits(&t, features);
}

int wr_nat_banned(const wr_nat *n, bool blank, int ids[WR_NAT_BANNED]) {
    int count = 0;
    ids[count++] = WR_PAD_ID;
    if (n->framing != WR_RECIPE_FRAME_BOS_EOS) ids[count++] = WR_BOS_ID;
    ids[count++] = wr_nat_mask(n);
    if (!blank) ids[count++] = wr_nat_blank(n);
    return count;
}

wr wr_nat_logits_without(const wr_nat *n, wr features, int count, const int *banned) {
    wr_dim words = wr_n(n->tgt_vocab + WR_NAT_EXTRA);
    wr low = wr_reshape(wr_scalar(features.g, n->dtype, -1e30), WR_DIMS(wr_n(1)));
    wr logits = wr_nat_logits(n, features);
    for (int i = 0; i < count; i++)
        logits = wr_add(logits, wr_place(low, 0, words, wr_n(banned[i]), 1));
    return logits;
}

/* ---- framing ---- */

int wr_nat_frame_tokens(const wr_nat *n) {
    if (n->framing == WR_RECIPE_FRAME_PLAIN) return 0;
    return n->framing == WR_RECIPE_FRAME_BOS_EOS ? 2 : 1;
}

int wr_nat_first_word(const wr_nat *n) { return n->framing == WR_RECIPE_FRAME_BOS_EOS ? 1 : 0; }
