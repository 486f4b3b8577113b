/* blocks.c: see blocks.h. */
#include "models/blocks.h"

#include "models/layers.h"
#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/lstm.h"
#include "ops/mask.h"
#include "ops/matmul.h"
#include "ops/random_ops.h"
#include "ops/reduce.h"
#include "ops/slice.h"
#include "ops/weight_norm.h"

#include <math.h>
#include <stdlib.h>

static const wr_init ZERO = {WR_INIT_ZERO, 0, 0};
static const double DIRECTION = 0.05; /* deviation of the directions of weight norm */

static wr_init around_zero(double bound) { return (wr_init){WR_INIT_UNIFORM, -bound, bound}; }

/* Size of the last axis, a literal; 1 for poison. */
static int width(wr x) { return wr_is_poison(x) ? 1 : (int)wr_dim_literal(wr_dim_of(x, -1)); }

/* x W + b; no b when `b` is NULL. */
static wr affine_here(wr x, int out, wr_init w, const wr_init *b) {
    wr_dtype t = wr_dtype_of(x);
    wr y = wr_matmul(x, wr_param(x.g, "W", t, WR_DIMS(wr_dim_of(x, -1), wr_n(out)), w));
    return b == NULL ? y : wr_add(y, wr_param(x.g, "b", t, WR_DIMS(wr_n(out)), *b));
}

/* The same in a scope of its own. */
static wr affine(wr x, const char *name, int out, wr_init w, const wr_init *b) {
    wr y = x;
    WR_SCOPE (x.g, "%s", name) {
        y = affine_here(x, out, w, b);
    }
    return y;
}

wr wr_block_linear(wr x, const char *name, int out, bool bias) {
    wr_init init = around_zero(1 / sqrt(width(x)));
    return affine(x, name, out, init, bias ? &init : NULL);
}

/* Parts of width d side by side, each Xavier on its own, as if from d inputs. */
static wr projection(wr x, const char *name, int d, int parts) {
    return affine(x, name, parts * d, around_zero(sqrt(3.0 / d)), &ZERO);
}

wr wr_block_elu(wr x) {
    wr positive = wr_relu(x);
    return wr_add(positive, wr_expm1(wr_sub(x, positive)));
}

wr wr_source_spread(const wr_source *s, wr x) {
    return wr_is_poison(s->rows) ? x : wr_gather(x, s->rows);
}

/* ---- Transformer ---- */

/* What attention and feed-forward blocks end with. */
static wr residual_norm(wr y, wr x, double dropout) {
    return wr_layer_norm_params(wr_add(wr_dropout(y, dropout), x), "norm");
}

wr wr_block_self_attention(wr x, wr len, int heads, double dropout) {
    wr part[3] = {x, x, x};
    wr_split(projection(x, "qkv", width(x), 3), -1, 3, part);
    return residual_norm(wr_attention(part[0], part[1], part[2], len, heads, false, 0), x, dropout);
}

/* Keys and values of the candidates. Training computes them again instead of keeping them: a
 * product costs little, and a flow reads the source in every layer. */
static void keys_and_values(const wr_source *memory, int d, wr part[2]) {
    WR_SCOPE (memory->x.g, "kv") {
        wr_scope_recompute_all(memory->x.g);
        wr kv = affine_here(memory->x, 2 * d, around_zero(sqrt(3.0 / d)), &ZERO);
        wr_split(wr_source_spread(memory, kv), -1, 2, part);
    }
}

wr wr_block_cross_attention(wr q, const wr_source *memory, int heads, double dropout) {
    int d = width(q);
    wr part[2] = {q, q};
    keys_and_values(memory, d, part);
    wr o = wr_attention(projection(q, "q", d, 1), part[0], part[1],
                        wr_source_spread(memory, memory->len), heads, false, 0);
    return residual_norm(o, q, dropout);
}

wr wr_block_ffn(wr x, int hidden, double dropout) {
    wr h = wr_dropout(wr_relu(wr_block_linear(x, "inner", hidden, true)), dropout);
    return residual_norm(wr_block_linear(h, "outer", width(x), true), x, dropout);
}

wr wr_block_encoder_layer(wr x, wr len, const wr_block *o) {
    WR_SCOPE (x.g, "self") {
        x = wr_block_self_attention(x, len, o->heads, o->dropout);
    }
    WR_SCOPE (x.g, "ffn") {
        x = wr_block_ffn(x, o->hidden, o->dropout);
    }
    return x;
}

wr wr_block_decoder_layer(wr x, wr len, const wr_source *source, const wr_block *o) {
    WR_SCOPE (x.g, "self") {
        x = wr_block_self_attention(x, len, o->heads, o->dropout);
    }
    WR_SCOPE (x.g, "source") {
        x = wr_block_cross_attention(x, source, o->heads, o->dropout);
    }
    WR_SCOPE (x.g, "ffn") {
        x = wr_block_ffn(x, o->hidden, o->dropout);
    }
    return x;
}

/* ---- positions ---- */

static double position_value(int position, int column, int dim) {
    int half = dim / 2, i = column < half ? column : column - half;
    if (position == 0 || i >= half) return 0;
    double rate = half > 1 ? exp(-i * log(10000.0) / (half - 1)) : 1;
    return column < half ? sin(position * rate) : cos(position * rate);
}

wr wr_positions_of(wr_graph *g, wr_dtype t, int max_len, int dim) {
    size_t n = ((size_t)max_len + 1) * (size_t)dim;
    int64_t dims[2] = {max_len + 1, dim};
    char *table = malloc(n * wr_dtype_bytes(t) + 1);
    if (table == NULL) return wr_no_memory(g);
    for (size_t i = 0; i < n; i++) {
        double v = position_value((int)(i / (size_t)dim), (int)(i % (size_t)dim), dim);
        if (t == WR_F64)
            ((double *)(void *)table)[i] = v;
        else
            ((float *)(void *)table)[i] = (float)v;
    }
    wr x = wr_const(g, t, 2, dims, table);
    free(table);
    return x;
}

wr wr_positions_rows(wr table, wr_dim t) { return wr_slice_dims(table, 0, wr_n(1), t, 1); }

wr wr_positions_masked(wr table, wr mask) {
    wr_dim n = wr_dim_of(mask, 0), t = wr_dim_of(mask, 1);
    wr rows = wr_positions_rows(table, t);
    return wr_mask_apply(wr_broadcast(rows, WR_DIMS(n, t, wr_dim_of(table, 1))), mask);
}

/* ---- weight normalisation ---- */

/* The weight, as large as v. Training computes it again instead of keeping it: a flow has one in
 * every coupling. */
static wr normed(wr v, wr g) {
    wr w = v;
    WR_SCOPE (v.g, "normed") {
        wr_scope_recompute_all(v.g);
        w = wr_weight_norm(v, g, 1);
    }
    return w;
}

/* Values of g and b that give y [N, T, out] mean 0 and deviation `scale`; *y is made anew. */
static wr start_from_data(wr x, wr v, wr g, wr b, const wr_weight_normed *o) {
    wr_dim rows = wr_dim_mul(x.g, wr_dim_of(x, 0), wr_dim_of(x, 1));
    wr_dim out = wr_dim_of(v, 1);
    if (!wr_is_poison(o->mask)) x = wr_mask_apply(x, o->mask);
    wr y = wr_reshape(wr_add(wr_matmul(x, wr_weight_norm(v, g, 1)), b), WR_DIMS(rows, out));
    wr mean = wr_mean(y, 0);
    wr squares = wr_sum(wr_square(wr_sub(y, mean)), 0);
    wr deviation = wr_sqrt(wr_scale_by_dim(squares, wr_dim_sub(x.g, rows, wr_n(1)), -1));
    wr factor = wr_scale(wr_reciprocal(wr_shift(deviation, 1e-6)), o->scale);
    wr new_g = wr_mul(g, factor), new_b = wr_mul(wr_sub(b, mean), factor);
    wr_start_note(o->start, g, new_g);
    wr_start_note(o->start, b, new_b);
    return wr_add(wr_matmul(x, wr_weight_norm(v, new_g, 1)), new_b);
}

wr wr_block_weight_normed(wr x, int out, const wr_weight_normed *o) {
    wr_dtype t = wr_dtype_of(x);
    wr_init length = {WR_INIT_CONSTANT, o->zero ? 0 : DIRECTION * sqrt(width(x)), 0};
    wr v = wr_param(x.g, "v", t, WR_DIMS(wr_dim_of(x, -1), wr_n(out)),
                    ((wr_init){WR_INIT_NORMAL, 0, DIRECTION}));
    wr g = wr_param(x.g, "g", t, WR_DIMS(wr_n(out)), length);
    wr b = wr_param(x.g, "b", t, WR_DIMS(wr_n(out)), ZERO);
    if (wr_starts_from_data(o->start) && !o->zero) return start_from_data(x, v, g, b, o);
    if (o->start != NULL && !o->zero) wr_start_note(o->start, g, wr_norms(v, 1));
    return wr_add(wr_matmul(x, normed(v, g)), b);
}

/* ---- recurrent variants ---- */

wr wr_block_global_attention(wr q, const wr_source *memory, int h, int out, double dropout) {
    static const wr_init xavier = {WR_INIT_GLOROT_UNIFORM, 1, 0};
    wr part[2] = {q, q};
    wr kv = wr_source_spread(memory, affine(memory->x, "kv", 2 * h, xavier, &ZERO));
    wr_split(kv, -1, 2, part);
    wr query = affine(q, "q", h, xavier, &ZERO), len = wr_source_spread(memory, memory->len);
    wr_attention_options o = {.heads = 1, .scale = 1};
    wr y = wr_attention_with(query, part[0], part[1], &len, &o);
    return wr_dropout(affine(y, "out", out, xavier, &ZERO), dropout);
}

static wr lstm_one_way(wr x, wr len, int h, bool reverse) {
    wr_dtype t = wr_dtype_of(x);
    wr_init init = around_zero(1 / sqrt(h));
    wr_dim in = wr_dim_of(x, -1), gates = wr_n(4 * h);
    wr wx = {x.g, 0}, wh = wx, bx = wx, bh = wx;
    WR_SCOPE (x.g, "input") {
        wx = wr_param(x.g, "W", t, WR_DIMS(in, gates), init);
        bx = wr_param(x.g, "b", t, WR_DIMS(gates), init);
    }
    WR_SCOPE (x.g, "hidden") {
        wh = wr_param(x.g, "W", t, WR_DIMS(wr_n(h), gates), init);
        bh = wr_param(x.g, "b", t, WR_DIMS(gates), init);
    }
    return wr_lstm(.x = x, .wx = wx, .wh = wh, .bias = wr_add(bx, bh), .lengths = len,
                   .reverse = reverse)
        .y;
}

wr_both_ways wr_block_lstm_both_ways(wr x, wr len, int h) {
    wr_both_ways y = {x, x};
    WR_SCOPE (x.g, "forward") {
        y.forward = lstm_one_way(x, len, h, false);
    }
    WR_SCOPE (x.g, "backward") {
        y.backward = lstm_one_way(x, len, h, true);
    }
    return y;
}

wr wr_block_bilstm(wr x, wr len, int hidden, int layers) {
    for (int i = 0; i < layers; i++)
        WR_SCOPE (x.g, "layer%d", i) {
            wr_both_ways y = wr_block_lstm_both_ways(x, len, hidden / 2);
            x = wr_concat(-1, y.forward, y.backward);
        }
    return x;
}

wr wr_block_shifted_bilstm(wr x, wr len, int hidden) {
    WR_SCOPE (x.g, "layer0") {
        wr_both_ways y = wr_block_lstm_both_ways(x, len, hidden / 2);
        wr right = wr_slice(wr_pad(y.forward, 1, 1, 0), 1, 0, -1);
        wr left = wr_slice(wr_pad(y.backward, 1, 0, 1), 1, 1, 0);
        x = wr_concat(-1, right, left);
    }
    return x;
}
