/* nat_inputs.c: what a position that is to be said is told besides its place: nothing, a word of
 * the source, or a mixture of them; and the tokens that decoding begins with. See nat.h.
 *
 * With S source words and T positions, position t (from 0) is told, before positions are added
 * (x_s: the embedded source word s without its position):
 *
 *     mask     the mask
 *     uniform  x_s, s = round((S - 1) t / (T - 1)), halves to even   (Gu et al. 2018)
 *     soft     sum_s softmax_s(-|t - s| / tau) x_s                    (Wei et al. 2019)
 *     interp   sum_s softmax_s(-(s - t S / T)^2 / tau) x_s            (Bao et al. 2022)
 *     attn     sum_s softmax_s(W pos_t . (x_s + pos_s)) x_s           (Qian et al. 2021)
 *
 * and with k positions for each source word:
 *
 *     repeat   x_(t / k)
 *     mask     the mask
 *     split    part t mod k of a linear layer D -> k D of the encoder's output t / k
 *                                                                     (Libovicky and Helcl 2018) */
#include "data/subword.h"
#include "models/nat_internal.h"
#include "ops/elementwise.h"
#include "ops/host.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/matmul.h"
#include "ops/slice.h"
#include "ops/softmax.h"

#include <stdlib.h>

/* ---- whole numbers, made on the host ---- */

/* Output [B, T] i32 for operand 0 [B] and the last operand [T]. */
static bool by_position(void *context, wr_graph *g, int n_in, const wr_type *in, wr_type *out,
                        const char **why) {
    (void)context;
    (void)g;
    (void)why;
    out[0] = (wr_type){.dtype = WR_I32, .rank = 2, .dim = {in[0].dim[0], in[n_in - 1].dim[0]}};
    return true;
}

int wr_nat_uniform_source(int source, int positions, int t) {
    if (positions < 2 || source < 1) return 0;
    int64_t above = (int64_t)(source - 1) * t, below = positions - 1;
    int64_t s = above / below, rest = 2 * (above % below);
    if (rest > below || (rest == below && s % 2 == 1)) s++;
    return (int)(s < source - 1 ? s : source - 1);
}

static wr_status run_uniform(void *context, int n_in, const wr_tensor *in, int n_out,
                             const wr_tensor *out, int threads, wr_error *err) {
    (void)context;
    (void)n_in;
    (void)n_out;
    (void)threads;
    (void)err;
    const int32_t *source = in[0].data, *len = in[1].data;
    int32_t *to = out[0].data;
    int64_t T = out[0].dim[1];
    for (int64_t b = 0; b < out[0].dim[0]; b++)
        for (int64_t t = 0; t < T; t++)
            to[b * T + t] = t < len[b] ? wr_nat_uniform_source(source[b], len[b], (int)t) : 0;
    return WR_OK;
}

static const wr_host_fn UNIFORM = {
    .name = "uniform_source", .n_out = 1, .shape = by_position, .run = run_uniform, .stops = true};

/* What the fourth operand tells. */
enum { CANVAS_MASK, CANVAS_FRAMED, CANVAS_NUMBERS };

static void fill_canvas(int32_t mask, bool framed, int64_t len, int64_t positions, int32_t *to) {
    for (int64_t t = 0; t < positions; t++)
        to[t] = mask;
    if (!framed || len < 1) return;
    to[len - 1] = WR_EOS_ID;
    to[0] = WR_BOS_ID;
}

static wr_status run_canvas(void *context, int n_in, const wr_tensor *in, int n_out,
                            const wr_tensor *out, int threads, wr_error *err) {
    (void)context;
    (void)n_in;
    (void)n_out;
    (void)threads;
    (void)err;
    const int32_t *len = in[0].data, *number = in[1].data;
    int64_t T = out[0].dim[1];
    for (int64_t b = 0; b < out[0].dim[0]; b++)
        fill_canvas(number[CANVAS_MASK], number[CANVAS_FRAMED] != 0, len[b], T,
                    (int32_t *)out[0].data + b * T);
    return WR_OK;
}

static const wr_host_fn CANVAS = {
    .name = "canvas", .n_out = 1, .shape = by_position, .run = run_canvas, .stops = true};

wr wr_nat_canvas(const wr_nat *n, wr len, wr_dim t) {
    wr_graph *g = len.g;
    int32_t number[CANVAS_NUMBERS] = {
        [CANVAS_MASK] = wr_nat_mask(n), [CANVAS_FRAMED] = n->framing == WR_RECIPE_FRAME_BOS_EOS};
    wr numbers = wr_const(g, WR_I32, 1, &(int64_t){CANVAS_NUMBERS}, number);
    return wr_host(&CANVAS, 3, ((wr[]){len, numbers, wr_iota(g, t, WR_I32)}));
}

void wr_nat_canvas_fill(const wr_nat *n, int len, int t_padded, int32_t *tokens) {
    fill_canvas(wr_nat_mask(n), n->framing == WR_RECIPE_FRAME_BOS_EOS, len, t_padded, tokens);
}

/* ---- mixtures of source words ---- */

/* x [N] as [N, T, S]. */
static wr per_sentence(wr x, int rank, const wr_dim *dims) {
    wr_dim one = wr_n(1);
    return wr_broadcast(wr_reshape(x, WR_DIMS(dims[0], one, one)), rank, dims);
}

/* 0, 1, 2, .. along axis 1 (positions) and 2 (source words) of [N, T, S]. */
static wr along_positions(const wr_nat *n, wr_graph *g, const wr_dim *dims) {
    wr t = wr_reshape(wr_iota(g, dims[1], n->dtype), WR_DIMS(dims[1], wr_n(1)));
    return wr_broadcast(t, 3, dims);
}

static wr along_words(const wr_nat *n, wr_graph *g, const wr_dim *dims) {
    return wr_broadcast(wr_iota(g, dims[2], n->dtype), 3, dims);
}

/* Scores [N, T, S] as weights of the valid words, and their mixture. */
static wr mix(const wr_nat *n, const wr_nat_encoding *e, wr scores) {
    wr_dim b = wr_dim_of(scores, 0), s = wr_dim_of(scores, 2);
    wr valid = wr_reshape(wr_sequence_mask(e->len, s, n->dtype), WR_DIMS(b, wr_n(1), s));
    return wr_matmul(wr_softmax_masked(scores, valid), e->words);
}

static wr soft(const wr_nat *n, const wr_nat_encoding *e, const wr_dim *dims) {
    wr_graph *g = e->words.g;
    wr distance = wr_abs(wr_sub(along_positions(n, g, dims), along_words(n, g, dims)));
    return mix(n, e, wr_scale(distance, -1 / n->input_temperature));
}

static wr interpolated(const wr_nat *n, const wr_nat_encoding *e, wr len, const wr_dim *dims) {
    wr_graph *g = e->words.g;
    wr rate = wr_div(wr_cast(e->len, n->dtype), wr_cast(len, n->dtype));
    wr centre = wr_mul(along_positions(n, g, dims), per_sentence(rate, 3, dims));
    wr distance = wr_square(wr_sub(along_words(n, g, dims), centre));
    return mix(n, e, wr_scale(distance, -1 / n->input_temperature));
}

static wr attended(const wr_nat *n, const wr_nat_encoding *e, const wr_dim *dims) {
    wr_graph *g = e->words.g;
    wr_dim d = wr_n(n->m.dim);
    wr table = wr__nat_positions(n, g);
    wr w = wr_param(g, "decoder.copy.W", n->dtype, WR_DIMS(d, d),
                    ((wr_init){WR_INIT_GLOROT_UNIFORM, 1, 0}));
    wr query = wr_matmul(wr_slice_dims(table, 0, wr_n(0), dims[1], 1), w);
    wr key = wr_add_positions(e->words, table);
    return mix(n, e, wr_matmul_nt(wr_broadcast(query, WR_DIMS(dims[0], dims[1], d)), key));
}

/* ---- positions of source words ---- */

static wr repeated(const wr_nat *n, const wr_nat_encoding *e, wr_dim t) {
    wr x = e->words;
    wr_dim b = wr_dim_of(x, 0), s = wr_dim_of(x, 1), d = wr_n(n->m.dim), k = wr_n(n->frames);
    wr each = wr_reshape(x, WR_DIMS(b, s, wr_n(1), d));
    return wr_reshape(wr_broadcast(each, WR_DIMS(b, s, k, d)), WR_DIMS(b, t, d));
}

static wr split(const wr_nat *n, const wr_nat_encoding *e, wr_dim t) {
    wr y = e->memory;
    WR_SCOPE (y.g, "decoder") {
        y = wr_layer_linear(y, "split", n->frames * n->m.dim);
    }
    return wr_reshape(y, WR_DIMS(wr_dim_of(e->memory, 0), t, wr_n(n->m.dim)));
}

static wr of_frames(const wr_nat *n, const wr_nat_encoding *e, wr_dim t) {
    switch (n->upsampling) {
    case WR_RECIPE_UPSAMPLE_REPEAT:
        return repeated(n, e, t);
    case WR_RECIPE_UPSAMPLE_SPLIT:
        return split(n, e, t);
    case WR_RECIPE_UPSAMPLE_MASK:
        break;
    }
    return (wr){e->memory.g, 0};
}

/* ---- all of them ---- */

bool wr_nat_reads_words(const wr_nat *n) {
    return n->frames > 0 ? n->upsampling == WR_RECIPE_UPSAMPLE_REPEAT
                         : n->inputs != WR_RECIPE_INPUT_MASK;
}

wr wr__nat_copy(const wr_nat *n, const wr_nat_encoding *e, wr len, wr_dim t) {
    wr_graph *g = e->memory.g;
    if (n->frames > 0) return of_frames(n, e, t);
    const wr_dim dims[3] = {wr_dim_of(e->memory, 0), t, wr_dim_of(e->memory, 1)};
    switch (n->inputs) {
    case WR_RECIPE_INPUT_UNIFORM:
        return wr_gather(e->words,
                         wr_host(&UNIFORM, 3, ((wr[]){e->len, len, wr_iota(g, t, WR_I32)})));
    case WR_RECIPE_INPUT_SOFT:
        return soft(n, e, dims);
    case WR_RECIPE_INPUT_INTERP:
        return interpolated(n, e, len, dims);
    case WR_RECIPE_INPUT_ATTN:
        return attended(n, e, dims);
    case WR_RECIPE_INPUT_MASK:
        break;
    }
    return (wr){g, 0};
}
