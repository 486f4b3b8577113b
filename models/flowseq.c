/* flowseq.c: encoder, posterior, prior and decoder; see flowseq.h. */
#include "models/flowseq.h"

#include "graph/op.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/mask.h"
#include "ops/matmul.h"
#include "ops/random_ops.h"
#include "ops/reduce.h"
#include "ops/slice.h"
#include "ops/sort.h"

#include <math.h>

static const double LN_2_PI = 1.8378770664093454836;
static const double HEAD_DEVIATION = 0.05; /* of means and log-variances after a start from data */
static const wr_init EMBEDDING = {WR_INIT_UNIFORM, -0.1, 0.1};

static double rate(const wr_flowseq *f, double p) { return f->training ? p : 0; }

static wr_block block_of(const wr_flowseq *f) {
    return (wr_block){.heads = f->heads, .hidden = f->hidden, .dropout = rate(f, f->dropout)};
}

wr_flowseq_pairs wr_flowseq_inputs(const wr_flowseq *f, wr_graph *g) {
    int unit = f->length_unit;
    wr_dim B = wr_sym(g, "B", 1, 1 << 20, 1), S = wr_sym(g, "S", 1, f->max_positions, 1);
    wr_dim T = wr_sym(g, "T", unit, f->max_positions / unit * unit, unit);
    return (wr_flowseq_pairs){.src = wr_input(g, "src", WR_I32, WR_DIMS(B, S)),
                              .src_len = wr_input(g, "src_len", WR_I32, WR_DIMS(B)),
                              .tgt = wr_input(g, "tgt", WR_I32, WR_DIMS(B, T)),
                              .tgt_len = wr_input(g, "tgt_len", WR_I32, WR_DIMS(B))};
}

/* ---- embeddings ---- */

static wr matrix(const wr_flowseq *f, wr_graph *g, const char *name, int vocab) {
    return wr_param(g, f->shared_embeddings ? "embedding" : name, f->dtype,
                    WR_DIMS(wr_n(vocab), wr_n(f->dim)), EMBEDDING);
}

static wr source_matrix(const wr_flowseq *f, wr_graph *g) {
    return matrix(f, g, "encoder.embedding", f->src_vocab);
}

static wr target_matrix(const wr_flowseq *f, wr_graph *g) {
    return matrix(f, g, "posterior.embedding", f->tgt_vocab);
}

static wr readout_matrix(const wr_flowseq *f, wr_graph *g) {
    return matrix(f, g, "decoder.readout", f->tgt_vocab);
}

/* x [N, T, D] with whole positions dropped. */
static wr drop_positions(wr x, double p) {
    if (p == 0 || wr_is_poison(x)) return x;
    wr_dim n = wr_dim_of(x, 0), t = wr_dim_of(x, 1);
    wr one = wr_broadcast(wr_scalar(x.g, wr_dtype_of(x), 1.0), WR_DIMS(n, t, wr_n(1)));
    return wr_mul(x, wr_broadcast_like(wr_dropout(one, p), x));
}

static wr add_positions(const wr_flowseq *f, wr x) {
    wr table = wr_positions_of(x.g, f->dtype, f->max_positions, f->dim);
    return wr_add(x, wr_positions_rows(table, wr_dim_of(x, 1)));
}

/* ---- encoder ---- */

/* x at the last valid position: [B, S, D] -> [B, D]. */
static wr last_valid(wr x, wr len) { return wr_index(wr_reverse_prefix(x, len), 1, 0); }

/* The largest value of each feature over the valid positions. */
static wr largest_valid(wr x, wr mask) {
    wr_dim n = wr_dim_of(x, 0), t = wr_dim_of(x, 1);
    wr valid = wr_broadcast_like(wr_reshape(mask, WR_DIMS(n, t, wr_n(1))), x);
    wr least = wr_broadcast_like(wr_scalar(x.g, wr_dtype_of(x), -1e30), x);
    return wr_max(wr_select(valid, x, least), 1);
}

static wr transformer_encoder(const wr_flowseq *f, wr x, wr len) {
    wr_block block = block_of(f);
    x = add_positions(f, wr_scale(x, sqrt(f->dim)));
    x = wr_dropout(x, rate(f, f->embedding_dropout));
    for (int i = 0; i < f->encoder_layers; i++)
        WR_SCOPE (x.g, "layer%d", i) {
            x = wr_block_encoder_layer(x, len, &block);
        }
    return x;
}

static wr lstm_encoder(const wr_flowseq *f, wr x, wr len) {
    x = wr_dropout(x, rate(f, f->embedding_dropout));
    x = wr_block_bilstm(x, len, f->hidden, f->encoder_layers);
    return wr_block_elu(wr_block_linear(x, "out", f->dim, true));
}

wr_flowseq_encoding wr_flowseq_encode(const wr_flowseq *f, wr src, wr src_len) {
    wr x = wr_embedding(source_matrix(f, src.g), src);
    wr mask = wr_sequence_mask(src_len, wr_dim_of(src, 1), f->dtype);
    WR_SCOPE (src.g, "encoder") {
        x = f->encoder == WR_RECIPE_ENCODER_LSTM ? lstm_encoder(f, x, src_len)
                                                 : transformer_encoder(f, x, src_len);
        x = wr_mask_apply(x, mask);
    }
    return (wr_flowseq_encoding){.source = {.x = x, .len = src_len},
                                 .state = f->pooled_lengths ? largest_valid(x, mask)
                                                            : last_valid(x, src_len)};
}

/* ---- posterior ---- */

static wr transformer_posterior(const wr_flowseq *f, const wr_source *source, wr x, wr len) {
    wr_block block = block_of(f);
    x = drop_positions(wr_scale(x, sqrt(f->dim)), rate(f, f->token_dropout));
    x = wr_dropout(add_positions(f, x), rate(f, f->embedding_dropout));
    for (int i = 0; i < f->posterior_layers; i++)
        WR_SCOPE (x.g, "layer%d", i) {
            x = wr_block_decoder_layer(x, len, source, &block);
        }
    return x;
}

static wr lstm_posterior(const wr_flowseq *f, const wr_source *source, wr x, wr len) {
    bool shift = f->posterior == WR_RECIPE_POSTERIOR_SHIFT_LSTM;
    x = drop_positions(x, rate(f, f->token_dropout));
    wr h = shift ? wr_block_shifted_bilstm(x, len, f->hidden)
                 : wr_block_bilstm(x, len, f->hidden, f->posterior_layers);
    wr seen = h;
    WR_SCOPE (x.g, "source") {
        seen = wr_block_global_attention(h, source, f->hidden, f->hidden, rate(f, f->dropout));
    }
    h = wr_block_linear(wr_concat(-1, h, seen), "merge", f->hidden, true);
    return wr_dropout(wr_block_elu(h), rate(f, f->dropout));
}

static wr head(const wr_flowseq *f, const char *name, wr x, wr mask, wr_start *start) {
    wr_weight_normed o = {
        .mask = mask, .scale = HEAD_DEVIATION, .zero = f->zero_heads, .start = start};
    wr y = x;
    WR_SCOPE (x.g, "%s", name) {
        y = wr_mask_apply(wr_block_weight_normed(x, f->dim, &o), mask);
    }
    return y;
}

wr_flowseq_gaussian wr_flowseq_posterior(const wr_flowseq *f, const wr_source *source, wr tgt,
                                         wr tgt_len, const wr_flowseq_starts *starts) {
    static const wr_flowseq_starts none = {0};
    const wr_flowseq_starts *s = starts == NULL ? &none : starts;
    wr x = wr_embedding(target_matrix(f, tgt.g), tgt);
    wr mask = wr_sequence_mask(tgt_len, wr_dim_of(tgt, 1), f->dtype);
    wr_flowseq_gaussian q = {x, x};
    WR_SCOPE (tgt.g, "posterior") {
        x = f->posterior == WR_RECIPE_POSTERIOR_TRANSFORMER
                ? transformer_posterior(f, source, x, tgt_len)
                : lstm_posterior(f, source, x, tgt_len);
        q.mean = head(f, "mean", x, mask, s->mean);
        q.log_variance = head(f, "log_variance", x, mask, s->log_variance);
    }
    return q;
}

wr wr_flowseq_noise(const wr_flowseq *f, wr_graph *g, wr_dim n, wr_dim t) {
    return wr_normal(g, f->dtype, WR_DIMS(n, t, wr_n(f->dim)));
}

wr wr_flowseq_draw(const wr_flowseq_gaussian *q, wr noise, wr mask) {
    wr z = noise;
    WR_SCOPE (noise.g, "posterior") {
        wr deviation = wr_exp(wr_scale(q->log_variance, 0.5));
        z = wr_mask_apply(wr_add(q->mean, wr_mul(deviation, noise)), mask);
    }
    return z;
}

/* Sum over the valid positions of -(x + ln 2 pi) / 2 over features: x, mask -> [N]. */
static wr gaussian_log(wr squares, wr mask) {
    wr sum = wr_sum_axes(wr_mask_apply(squares, mask), 1, 3);
    wr constant = wr_scale_by_dim(wr_sum(mask, 1), wr_dim_of(squares, 2), 1);
    return wr_scale(wr_add(sum, wr_scale(constant, LN_2_PI)), -0.5);
}

wr wr_flowseq_log_q(const wr_flowseq_gaussian *q, wr noise, wr mask) {
    wr log_q = noise;
    WR_SCOPE (noise.g, "posterior") {
        log_q = gaussian_log(wr_add(q->log_variance, wr_square(noise)), mask);
    }
    return log_q;
}

/* ---- prior ---- */

static wr_flow_context prior_context(const wr_flowseq *f, const wr_source *source, wr z, wr len,
                                     wr_start *start) {
    return (wr_flow_context){
        .source = *source,
        .steps = {.len = len, .mask = wr_sequence_mask(len, wr_dim_of(z, 1), f->dtype)},
        .heads = f->prior_heads,
        .hidden = f->prior_hidden,
        .max_len = f->max_positions,
        .dropout = rate(f, f->prior_dropout),
        .rebuild = f->prior_rebuild && f->training,
        .start = start};
}

wr_flowseq_density wr_flowseq_density_of(const wr_flowseq *f, const wr_source *source, wr z, wr len,
                                         wr_start *start) {
    wr_flow_context c = prior_context(f, source, z, len, start);
    wr_flow_result r = {.eps = {z.g, 0}, .log_det = {z.g, 0}};
    if (wr_is_poison(z) || !wr_flow_density(&f->prior, z, &c, &r))
        return (wr_flowseq_density){{z.g, 0}, {z.g, 0}, {z.g, 0}};
    wr_flowseq_density d = {.eps = r.eps, .log_det = r.log_det};
    WR_SCOPE (z.g, "prior") {
        d.log_prior = wr_add(gaussian_log(wr_square(r.eps), c.steps.mask), r.log_det);
    }
    return d;
}

wr wr_flowseq_generate(const wr_flowseq *f, const wr_source *source, wr eps, wr len, wr *log_det) {
    wr_flow_context c = prior_context(f, source, eps, len, NULL);
    return wr_flow_sample(&f->prior, eps, &c, log_det);
}

/* ---- decoder ---- */

/* Positions attend to z, so z enters through the attention's values alone. */
static wr transformer_decoder(const wr_flowseq *f, const wr_source *source, wr z, wr len, wr mask) {
    wr_block block = block_of(f);
    wr_source latent = {.x = z, .len = len};
    wr table = wr_positions_of(z.g, f->dtype, f->max_positions, f->dim);
    wr x = wr_positions_masked(table, mask);
    WR_SCOPE (z.g, "input") {
        x = wr_block_cross_attention(x, &latent, f->heads, block.dropout);
    }
    for (int i = 0; i < f->decoder_layers; i++)
        WR_SCOPE (z.g, "layer%d", i) {
            x = wr_block_decoder_layer(x, len, source, &block);
        }
    return x;
}

static wr plain_decoder(const wr_flowseq *f, const wr_source *source, wr z, wr len) {
    wr h = z, seen = z;
    if (f->decoder == WR_RECIPE_DECODER_LSTM)
        h = wr_block_bilstm(z, len, f->hidden, f->decoder_layers);
    WR_SCOPE (z.g, "source") {
        seen = wr_block_global_attention(h, source, f->hidden, f->dim, rate(f, f->dropout));
    }
    h = wr_block_linear(wr_concat(-1, seen, h), "merge", f->dim, true);
    return wr_dropout(wr_block_elu(h), rate(f, f->dropout));
}

wr wr_flowseq_decode(const wr_flowseq *f, const wr_source *source, wr z, wr len) {
    wr mask = wr_sequence_mask(len, wr_dim_of(z, 1), f->dtype);
    wr x = drop_positions(z, rate(f, f->decoder_token_dropout));
    WR_SCOPE (z.g, "decoder") {
        x = f->decoder == WR_RECIPE_DECODER_TRANSFORMER
                ? transformer_decoder(f, source, x, len, mask)
                : plain_decoder(f, source, x, len);
    }
    return x;
}

static wr readout_bias(const wr_flowseq *f, wr_graph *g) {
    return wr_param(g, "decoder.bias", f->dtype, WR_DIMS(wr_n(f->tgt_vocab)),
                    ((wr_init){WR_INIT_ZERO, 0, 0}));
}

wr wr_flowseq_logits(const wr_flowseq *f, wr features) {
    wr scores = wr_matmul_nt(features, readout_matrix(f, features.g));
    return wr_add(scores, readout_bias(f, features.g));
}

wr wr_flowseq_words(const wr_flowseq *f, wr features, int n, const int *banned) {
    wr_graph *g = features.g;
    wr bias = readout_bias(f, g), low = wr_reshape(wr_scalar(g, f->dtype, -1e30), WR_DIMS(wr_n(1)));
    for (int i = 0; i < n; i++)
        bias = wr_add(bias, wr_place(low, 0, wr_n(f->tgt_vocab), wr_n(banned[i]), 1));
    return wr_argmax(wr_add(wr_matmul_nt(features, readout_matrix(f, g)), bias));
}

/* ---- first values ---- */

/* The embedding of padding becomes 0. */
static void clear_padding(wr_start *s, wr table) {
    wr words = wr_slice(table, 0, WR_FLOWSEQ_PAD + 1, 0);
    wr_start_note(s, table, wr_pad(words, 0, WR_FLOWSEQ_PAD + 1, 0));
}

/* The notes as writes. */
static wr written(wr_graph *g, wr_start *s) {
    wr last = s->n > 0 ? wr_start_write(s)
                       : wr_mistake(g, WR_HERE, "nothing of this model starts like that");
    wr_start_free(s);
    return last;
}

wr wr_flowseq_start_params(const wr_flowseq *f, wr_graph *g) {
    wr_flowseq still = *f;
    still.training = false;
    wr_start start = {.mode = WR_START_PARAMS};
    wr_flowseq_starts starts = {&start, &start, &start};
    wr_flowseq_pairs in = wr_flowseq_inputs(&still, g);
    wr_flowseq_encoding e = wr_flowseq_encode(&still, in.src, in.src_len);
    wr_flowseq_gaussian q = wr_flowseq_posterior(&still, &e.source, in.tgt, in.tgt_len, &starts);
    wr_flowseq_density_of(&still, &e.source, q.mean, in.tgt_len, &start);
    clear_padding(&start, source_matrix(f, g));
    if (!f->shared_embeddings) clear_padding(&start, target_matrix(f, g));
    return written(g, &start);
}

wr wr_flowseq_start_data(const wr_flowseq *f, const wr_flowseq_pairs *in, wr noise, int parts) {
    wr_flowseq still = *f;
    still.training = false;
    wr_start start = {.mode = WR_START_DATA};
    wr_flowseq_starts starts = {.mean = parts & WR_FLOWSEQ_START_MEAN ? &start : NULL,
                                .log_variance =
                                    parts & WR_FLOWSEQ_START_LOG_VARIANCE ? &start : NULL};
    wr_graph *g = in->src.g;
    wr_flowseq_encoding e = wr_flowseq_encode(&still, in->src, in->src_len);
    wr_flowseq_gaussian q = wr_flowseq_posterior(&still, &e.source, in->tgt, in->tgt_len, &starts);
    if (parts & WR_FLOWSEQ_START_PRIOR) {
        wr_dim n = wr_dim_of(in->tgt, 0), t = wr_dim_of(in->tgt, 1);
        wr mask = wr_sequence_mask(in->tgt_len, t, f->dtype);
        if (wr_is_poison(noise)) noise = wr_flowseq_noise(&still, g, n, t);
        wr z = wr_flowseq_draw(&q, noise, mask);
        wr_flowseq_density_of(&still, &e.source, z, in->tgt_len, &start);
    }
    return written(g, &start);
}
