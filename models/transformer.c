/* transformer.c: the Transformer of Vaswani et al. (2017), as published (post-norm) or with the
 * norm in front of each block (Xiong et al. 2020). See transformer.h for the letters. */
#include "models/transformer.h"

#include "models/layers.h"
#include "ops/attention.h"
#include "ops/cache.h"
#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/mask.h"
#include "ops/random_ops.h"
#include "ops/reduce.h"
#include "ops/softmax.h"

#include <math.h>

static double rate(const wr_transformer *t, double p) { return t->training ? p : 0; }

/* ---- blocks ---- */

/* norm, block, dropout and residual in the recipe's order. */
typedef wr (*block_fn)(const wr_transformer *t, wr x, const void *context);

static wr residual(const wr_transformer *t, const char *name, wr x, block_fn block,
                   const void *context) {
    wr y = x;
    WR_SCOPE (x.g, "%s", name) {
        bool pre = t->m.norm == WR_RECIPE_NORM_PRE;
        wr h = block(t, pre ? wr_layer_norm_params(x, "norm") : x, context);
        y = wr_add(x, wr_dropout(h, rate(t, t->m.dropout)));
        if (!pre) y = wr_layer_norm_params(y, "norm");
    }
    return y;
}

typedef struct attend {
    wr memory, key_len; /* memory poison: attend to x itself */
    bool causal;
} attend;

static wr attention_block(const wr_transformer *t, wr x, const void *context) {
    const attend *a = context;
    wr_mha o = {
        .heads = t->m.heads, .dropout = rate(t, t->m.attention_dropout), .causal = a->causal};
    return wr_layer_attention(x, a->memory.id == 0 ? x : a->memory, a->key_len, &o);
}

static wr ffn_block(const wr_transformer *t, wr x, const void *context) {
    (void)context;
    wr_act act = t->m.activation == WR_RECIPE_GELU ? WR_ACT_GELU : WR_ACT_RELU;
    return wr_layer_ffn(x, t->m.ffn, act, rate(t, t->m.activation_dropout));
}

/* ---- embeddings ---- */

static wr table_of(const wr_transformer *t, wr_graph *g, bool target) {
    bool joint = t->m.embeddings == WR_RECIPE_EMBED_JOINT;
    const char *name = joint ? "embedding" : target ? "decoder.embedding" : "encoder.embedding";
    return wr_embedding_param(g, name, t->dtype, target ? t->tgt_vocab : t->src_vocab, t->m.dim);
}

wr wr_transformer_embed(const wr_transformer *t, wr ids, bool target) {
    return wr_scale(wr_embedding(table_of(t, ids.g, target), ids), sqrt((double)t->m.dim));
}

/* Embedding times sqrt(D), plus positions, with dropout (section 3.4 of the paper). */
static wr embed_sequence(const wr_transformer *t, wr ids, bool target) {
    wr table = wr_sinusoids(ids.g, t->dtype, t->m.max_len, t->m.dim);
    return wr_dropout(wr_add_positions(wr_transformer_embed(t, ids, target), table),
                      rate(t, t->m.dropout));
}

wr wr_transformer_logits(const wr_transformer *t, wr h) {
    wr w = t->m.embeddings == WR_RECIPE_EMBED_SEPARATE
               ? wr_embedding_param(h.g, "readout", t->dtype, t->tgt_vocab, t->m.dim)
               : table_of(t, h.g, true);
    return wr_matmul_nt(h, w);
}

/* ---- encoder and decoder ---- */

wr_transformer_batch wr_transformer_inputs(wr_graph *g, int max_len) {
    wr_dim B = wr_sym(g, "B", 1, 1 << 20, 1);
    wr_dim S = wr_sym(g, "S", 1, max_len, 1), T = wr_sym(g, "T", 1, max_len, 1);
    return (wr_transformer_batch){.src = wr_input(g, "src", WR_I32, WR_DIMS(B, S)),
                                  .src_len = wr_input(g, "src_len", WR_I32, WR_DIMS(B)),
                                  .tgt_in = wr_input(g, "tgt_in", WR_I32, WR_DIMS(B, T)),
                                  .tgt_out = wr_input(g, "tgt_out", WR_I32, WR_DIMS(B, T)),
                                  .tgt_len = wr_input(g, "tgt_len", WR_I32, WR_DIMS(B))};
}

static wr final_norm(const wr_transformer *t, wr x) {
    return t->m.norm == WR_RECIPE_NORM_PRE ? wr_layer_norm_params(x, "norm") : x;
}

wr wr_transformer_encoder_layers(const wr_transformer *t, wr x, wr len) {
    attend self = {.key_len = len};
    WR_SCOPE (x.g, "encoder") {
        for (int i = 0; i < t->m.encoder_layers; i++)
            WR_SCOPE (x.g, "layer%d", i) {
                x = residual(t, "self", x, attention_block, &self);
                x = residual(t, "ffn", x, ffn_block, NULL);
            }
        x = final_norm(t, x);
    }
    return x;
}

wr wr_transformer_encode(const wr_transformer *t, wr src, wr src_len) {
    return wr_transformer_encoder_layers(t, embed_sequence(t, src, false), src_len);
}

wr wr_transformer_decoder_layers(const wr_transformer *t, wr x, wr len, wr memory, wr memory_len,
                                 bool causal, wr places) {
    attend self = {.key_len = len, .causal = causal};
    attend source = {.memory = memory, .key_len = memory_len};
    WR_SCOPE (x.g, "decoder") {
        for (int i = 0; i < t->m.decoder_layers; i++)
            WR_SCOPE (x.g, "layer%d", i) {
                if (i > 0 && !wr_is_poison(places)) x = wr_add_positions(x, places);
                x = residual(t, "self", x, attention_block, &self);
                x = residual(t, "source", x, attention_block, &source);
                x = residual(t, "ffn", x, ffn_block, NULL);
            }
        x = final_norm(t, x);
    }
    return x;
}

wr wr_transformer_decode(const wr_transformer *t, wr memory, wr src_len, wr tgt_in, wr tgt_len) {
    wr x = embed_sequence(t, tgt_in, true);
    return wr_transformer_decoder_layers(t, x, tgt_len, memory, src_len, true, (wr){x.g, 0});
}

wr_transformer_loss wr_transformer_loss_of(const wr_transformer *t, const wr_transformer_batch *b,
                                           double label_smoothing) {
    wr_graph *g = b->src.g;
    wr memory = wr_transformer_encode(t, b->src, b->src_len);
    wr h = wr_transformer_decode(t, memory, b->src_len, b->tgt_in, b->tgt_len);
    wr_dim B = wr_dim_of(b->tgt_out, 0), T = wr_dim_of(b->tgt_out, 1);
    wr_dim n = wr_dim_mul(g, B, T);
    wr valid = wr_sequence_mask(b->tgt_len, T, t->dtype); /* [B, T] */
    wr logits = wr_transformer_logits(t, wr_reshape(h, WR_DIMS(n, wr_n(t->m.dim))));
    wr_cross_entropy_out ce = wr_cross_entropy(logits, wr_reshape(b->tgt_out, WR_DIMS(n)),
                                               wr_reshape(valid, WR_DIMS(n)), label_smoothing);
    return (wr_transformer_loss){.loss = wr_named(wr_sum_all(ce.loss), "loss"),
                                 .nll = wr_named(wr_sum_all(ce.nll), "nll"),
                                 .tokens = wr_named(wr_sum_all(valid), "tokens"),
                                 .token_nll = wr_reshape(ce.nll, WR_DIMS(B, T))};
}

/* ---- decoding with caches ---- */

static wr cache(const wr_transformer *t, wr_graph *g, const char *name, int rows, int length) {
    return wr_state(g, name, t->dtype, WR_DIMS(wr_n(rows), wr_n(length), wr_n(t->m.dim)),
                    ((wr_init){WR_INIT_ZERO, 0, 0}));
}

/* Keys and values of the source for one layer, written once. */
static wr fill_source_cache(const wr_transformer *t, const wr_transformer_cache *c, wr memory,
                            wr start, wr rows) {
    wr_graph *g = memory.g;
    wr k = wr_layer_linear(memory, "k", t->m.dim), v = wr_layer_linear(memory, "v", t->m.dim);
    wr_cache_write(cache(t, g, "cache.k", c->rows, c->src_len), k, start, rows);
    return wr_cache_write(cache(t, g, "cache.v", c->rows, c->src_len), v, start, rows);
}

wr wr_transformer_begin(const wr_transformer *t, const wr_transformer_cache *c, wr_graph *g) {
    wr_dim B = wr_sym(g, "B", 1, 1 << 20, 1), S = wr_sym(g, "S", 1, t->m.max_len, 1);
    wr src = wr_input(g, "src", WR_I32, WR_DIMS(B, S));
    wr src_len = wr_input(g, "src_len", WR_I32, WR_DIMS(B));
    wr rows = wr_input(g, "rows", WR_I32, WR_DIMS(B));
    int32_t zero = 0;
    int64_t one = 1;
    wr start = wr_const(g, WR_I32, 1, &one, &zero);
    wr memory = wr_transformer_encode(t, src, src_len);
    WR_SCOPE (g, "decoder") {
        for (int i = 0; i < t->m.decoder_layers; i++)
            WR_SCOPE (g, "layer%d", i) {
                WR_SCOPE (g, "source") {
                    fill_source_cache(t, c, memory, start, rows);
                }
            }
    }
    return memory;
}

/* The decoder's layers with blocks that know from `context` where their keys and values are. */
static wr layers_with(const wr_transformer *t, wr x, block_fn self, block_fn source,
                      const void *context) {
    WR_SCOPE (x.g, "decoder") {
        for (int i = 0; i < t->m.decoder_layers; i++)
            WR_SCOPE (x.g, "layer%d", i) {
                x = residual(t, "self", x, self, context);
                x = residual(t, "source", x, source, context);
                x = residual(t, "ffn", x, ffn_block, NULL);
            }
        x = final_norm(t, x);
    }
    return x;
}

typedef struct step_inputs {
    wr position, rows, src_rows, src_len, self_len;
    const wr_transformer_cache *cache;
} step_inputs;

static wr cached_self_block(const wr_transformer *t, wr x, const void *context) {
    const step_inputs *s = context;
    wr q = wr_layer_linear(x, "q", t->m.dim), k = wr_layer_linear(x, "k", t->m.dim);
    wr v = wr_layer_linear(x, "v", t->m.dim);
    wr keys = cache(t, x.g, "cache.k", s->cache->rows, s->cache->tgt_len);
    wr values = cache(t, x.g, "cache.v", s->cache->rows, s->cache->tgt_len);
    wr all_k = wr_cache_write(keys, k, s->position, s->rows);
    wr all_v = wr_cache_write(values, v, s->position, s->rows);
    return wr_layer_linear(wr_attention(q, all_k, all_v, s->self_len, t->m.heads, false, 0), "out",
                           t->m.dim);
}

static wr cached_source_block(const wr_transformer *t, wr x, const void *context) {
    const step_inputs *s = context;
    wr q = wr_layer_linear(x, "q", t->m.dim);
    wr keys = cache(t, x.g, "cache.k", s->cache->rows, s->cache->src_len);
    wr values = cache(t, x.g, "cache.v", s->cache->rows, s->cache->src_len);
    wr all_k = wr_cache_select(keys, s->src_rows), all_v = wr_cache_select(values, s->src_rows);
    return wr_layer_linear(wr_attention(q, all_k, all_v, s->src_len, t->m.heads, false, 0), "out",
                           t->m.dim);
}

wr wr_transformer_step(const wr_transformer *t, const wr_transformer_cache *c, wr_graph *g) {
    wr_dim B = wr_sym(g, "B", 1, 1 << 20, 1);
    wr token = wr_input(g, "token", WR_I32, WR_DIMS(B, wr_n(1)));
    step_inputs s = {.position = wr_input(g, "position", WR_I32, WR_DIMS(wr_n(1))),
                     .rows = wr_input(g, "rows", WR_I32, WR_DIMS(B)),
                     .src_rows = wr_input(g, "src_rows", WR_I32, WR_DIMS(B)),
                     .src_len = wr_input(g, "src_len", WR_I32, WR_DIMS(B)),
                     .self_len = wr_input(g, "self_len", WR_I32, WR_DIMS(B)),
                     .cache = c};
    wr table = wr_sinusoids(g, t->dtype, t->m.max_len, t->m.dim);
    wr x = wr_add(wr_transformer_embed(t, token, true), wr_embedding(table, s.position));
    x = layers_with(t, x, cached_self_block, cached_source_block, &s);
    return wr_transformer_logits(t, wr_reshape(x, WR_DIMS(B, wr_n(t->m.dim))));
}

/* ---- several positions at once ----
 *
 * The positions of all hypotheses stand one behind the other, [M, D], so that nothing is computed
 * for padding. Attention alone needs them by hypothesis, [B, T, D]. */

typedef struct flat_rows {
    wr fresh; /* [B T] among the M */
    wr place; /* [M] in [B T] */
    wr_dim B, T;
} flat_rows;

/* [M, D] -> [B, T, D]: queries that are not asked for hold anything. */
static wr by_hypothesis(const flat_rows *f, wr x) {
    return wr_reshape(wr_gather(x, f->fresh), WR_DIMS(f->B, f->T, wr_dim_of(x, -1)));
}

/* [B, T, D] -> [M, D] */
static wr one_behind_the_other(const flat_rows *f, wr x) {
    wr_dim n = wr_dim_of(f->fresh, 0);
    return wr_gather(wr_reshape(x, WR_DIMS(n, wr_dim_of(x, -1))), f->place);
}

typedef struct verify_inputs {
    flat_rows at;
    wr cached;    /* [B T] */
    wr past, all; /* [B, T] masks: cached positions, those and the new ones */
    wr start, rows, src_rows, src_len, self_len;
    const wr_transformer_cache *cache;
} verify_inputs;

/* Cached rows with the new ones behind, 0 from there on: [B, T, D]; they are cached, too. */
static wr with_cached(const verify_inputs *v, wr cache, wr x) {
    wr_dim width = wr_dim_of(x, -1);
    wr_dim positions = wr_n(v->cache->rows * v->cache->tgt_len);
    wr old = wr_gather(wr_reshape(cache, WR_DIMS(positions, width)), v->cached);
    wr before = wr_mask_apply(wr_reshape(old, WR_DIMS(v->at.B, v->at.T, width)), v->past);
    wr both = wr_add(before, wr_mask_apply(by_hypothesis(&v->at, x), wr_sub(v->all, v->past)));
    wr_cache_write(cache, both, v->start, v->rows);
    return both;
}

static wr verify_self_block(const wr_transformer *t, wr x, const void *context) {
    const verify_inputs *v = context;
    wr q = wr_layer_linear(x, "q", t->m.dim), k = wr_layer_linear(x, "k", t->m.dim);
    wr value = wr_layer_linear(x, "v", t->m.dim);
    wr all_k = with_cached(v, cache(t, x.g, "cache.k", v->cache->rows, v->cache->tgt_len), k);
    wr all_v = with_cached(v, cache(t, x.g, "cache.v", v->cache->rows, v->cache->tgt_len), value);
    wr y = wr_attention(by_hypothesis(&v->at, q), all_k, all_v, v->self_len, t->m.heads, true, 0);
    return wr_layer_linear(one_behind_the_other(&v->at, y), "out", t->m.dim);
}

static wr verify_source_block(const wr_transformer *t, wr x, const void *context) {
    const verify_inputs *v = context;
    wr q = wr_layer_linear(x, "q", t->m.dim);
    wr keys = cache(t, x.g, "cache.k", v->cache->rows, v->cache->src_len);
    wr values = cache(t, x.g, "cache.v", v->cache->rows, v->cache->src_len);
    wr all_k = wr_cache_select(keys, v->src_rows), all_v = wr_cache_select(values, v->src_rows);
    wr y = wr_attention(by_hypothesis(&v->at, q), all_k, all_v, v->src_len, t->m.heads, false, 0);
    return wr_layer_linear(one_behind_the_other(&v->at, y), "out", t->m.dim);
}

static wr flat_input(wr_graph *g, const char *name, wr_dim B, wr_dim T) {
    return wr_reshape(wr_input(g, name, WR_I32, WR_DIMS(B, T)), WR_DIMS(wr_dim_mul(g, B, T)));
}

static verify_inputs declare_verify(const wr_transformer *t, const wr_transformer_cache *c,
                                    wr_graph *g, wr_dim M) {
    wr_dim B = wr_sym(g, "B", 1, c->rows, 1), T = wr_sym(g, "T", 1, c->tgt_len, 1);
    int32_t zero = 0;
    int64_t one = 1;
    flat_rows at = {.fresh = flat_input(g, "fresh", B, T),
                    .place = wr_input(g, "place", WR_I32, WR_DIMS(M)),
                    .B = B,
                    .T = T};
    verify_inputs v = {.at = at,
                       .cached = flat_input(g, "cached", B, T),
                       .start = wr_const(g, WR_I32, 1, &one, &zero),
                       .rows = wr_input(g, "rows", WR_I32, WR_DIMS(B)),
                       .src_rows = wr_input(g, "src_rows", WR_I32, WR_DIMS(B)),
                       .src_len = wr_input(g, "src_len", WR_I32, WR_DIMS(B)),
                       .self_len = wr_input(g, "self_len", WR_I32, WR_DIMS(B)),
                       .cache = c};
    v.past = wr_sequence_mask(wr_input(g, "past", WR_I32, WR_DIMS(B)), T, t->dtype);
    v.all = wr_sequence_mask(v.self_len, T, t->dtype);
    return v;
}

wr wr_transformer_verify(const wr_transformer *t, const wr_transformer_cache *c, wr_graph *g) {
    wr_dim M = wr_sym(g, "M", 1, 1 << 20, 1);
    wr token = wr_input(g, "token", WR_I32, WR_DIMS(M));
    wr position = wr_input(g, "position", WR_I32, WR_DIMS(M));
    verify_inputs v = declare_verify(t, c, g, M);
    wr table = wr_sinusoids(g, t->dtype, t->m.max_len, t->m.dim);
    wr x = wr_add(wr_transformer_embed(t, token, true), wr_embedding(table, position));
    x = layers_with(t, x, verify_self_block, verify_source_block, &v);
    return wr_transformer_logits(t, x);
}

/* ---- candidates with common beginnings ---- */

typedef struct tree_inputs {
    flat_rows at;
    wr memory, source, src_len, len; /* [G, S, D]; of the rows: [B], [B], [B] */
} tree_inputs;

static wr tree_self_block(const wr_transformer *t, wr x, const void *context) {
    const tree_inputs *c = context;
    wr q = by_hypothesis(&c->at, wr_layer_linear(x, "q", t->m.dim));
    wr k = by_hypothesis(&c->at, wr_layer_linear(x, "k", t->m.dim));
    wr v = by_hypothesis(&c->at, wr_layer_linear(x, "v", t->m.dim));
    wr y = wr_attention(q, k, v, c->len, t->m.heads, true, 0);
    return wr_layer_linear(one_behind_the_other(&c->at, y), "out", t->m.dim);
}

/* Keys and values [G, S, D] of the rows' sources: [B, S, D]. */
static wr of_rows(const tree_inputs *c, wr x) {
    wr_dim G = wr_dim_of(x, 0), S = wr_dim_of(x, 1), D = wr_dim_of(x, 2);
    wr flat = wr_gather(wr_reshape(x, WR_DIMS(G, wr_dim_mul(x.g, S, D))), c->source);
    return wr_reshape(flat, WR_DIMS(c->at.B, S, D));
}

static wr tree_source_block(const wr_transformer *t, wr x, const void *context) {
    const tree_inputs *c = context;
    wr q = by_hypothesis(&c->at, wr_layer_linear(x, "q", t->m.dim));
    wr k = of_rows(c, wr_layer_linear(c->memory, "k", t->m.dim));
    wr v = of_rows(c, wr_layer_linear(c->memory, "v", t->m.dim));
    wr y = wr_attention(q, k, v, c->src_len, t->m.heads, false, 0);
    return wr_layer_linear(one_behind_the_other(&c->at, y), "out", t->m.dim);
}

wr wr_transformer_judge(const wr_transformer *t, wr_graph *g) {
    wr_dim G = wr_sym(g, "G", 1, 1 << 20, 1), S = wr_sym(g, "S", 1, t->m.max_len, 1);
    wr_dim B = wr_sym(g, "B", 1, 1 << 20, 1), T = wr_sym(g, "T", 1, t->m.max_len, 1);
    wr_dim M = wr_sym(g, "M", 1, 1 << 20, 1);
    wr src_len = wr_input(g, "src_len", WR_I32, WR_DIMS(G));
    tree_inputs c = {
        .at = {.fresh = flat_input(g, "fresh", B, T),
               .place = wr_input(g, "place", WR_I32, WR_DIMS(M)),
               .B = B,
               .T = T},
        .memory = wr_transformer_encode(t, wr_input(g, "src", WR_I32, WR_DIMS(G, S)), src_len),
        .source = wr_input(g, "source", WR_I32, WR_DIMS(B)),
        .len = wr_input(g, "len", WR_I32, WR_DIMS(B))};
    c.src_len = wr_gather(src_len, c.source);
    wr token = wr_input(g, "token", WR_I32, WR_DIMS(M));
    wr position = wr_input(g, "position", WR_I32, WR_DIMS(M));
    wr table = wr_sinusoids(g, t->dtype, t->m.max_len, t->m.dim);
    wr x = wr_add(wr_transformer_embed(t, token, true), wr_embedding(table, position));
    x = layers_with(t, x, tree_self_block, tree_source_block, &c);
    wr logits = wr_transformer_logits(t, x), total = wr_logsumexp(logits);
    wr all = wr_reshape(logits, WR_DIMS(wr_dim_mul(g, M, wr_n(t->tgt_vocab))));
    wr said = wr_gather(all, flat_input(g, "said", B, T));
    return wr_reshape(wr_sub(wr_gather(total, c.at.fresh), said), WR_DIMS(B, T));
}
