/* flow_layers.c: the layers of a flow without a network; see flow.h. */
#include "models/flow.h"

#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/linalg.h"
#include "ops/mask.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/slice.h"

#include <stdlib.h>

/* ---- steps ---- */

/* ceil(len / 2) for each length up to max_len, as a table: there is no arithmetic of whole numbers
 * in graphs. */
static wr half_lengths(wr_graph *g, int max_len) {
    size_t n = (size_t)max_len + 1;
    int32_t *half = malloc(sizeof *half * n);
    if (half == NULL) return wr_no_memory(g);
    for (size_t i = 0; i < n; i++)
        half[i] = (int32_t)((i + 1) / 2);
    wr table = wr_const(g, WR_I32, 1, ((int64_t[]){(int64_t)n}), half);
    free(half);
    return table;
}

wr_flow_steps wr_flow_halve(const wr_flow_steps *s, int max_len) {
    wr_graph *g = s->len.g;
    wr len = wr_gather(half_lengths(g, max_len), s->len);
    wr_dim t = wr_dim_div(g, wr_dim_of(s->mask, 1), wr_n(2));
    return (wr_flow_steps){len, wr_sequence_mask(len, t, wr_dtype_of(s->mask))};
}

/* ---- actnorm ---- */

typedef struct affine {
    wr log_scale, bias;
} affine;

static wr actnorm(wr x, const affine *a, wr mask) {
    return wr_mask_apply(wr_add(wr_mul(x, wr_exp(a->log_scale)), a->bias), mask);
}

/* Parameters that give the output mean 0 and deviation 1 per channel. */
static affine start_actnorm(wr x, const affine *a, const wr_flow_context *c) {
    wr_graph *g = x.g;
    wr_dim rows = wr_dim_mul(g, wr_dim_of(x, 0), wr_dim_of(x, 1));
    wr y = wr_reshape(actnorm(x, a, c->steps.mask), WR_DIMS(rows, wr_dim_of(x, 2)));
    wr mean = wr_mean(y, 0);
    wr squares = wr_sum(wr_square(wr_sub(y, mean)), 0);
    wr deviation = wr_sqrt(wr_scale_by_dim(squares, wr_dim_sub(g, rows, wr_n(1)), -1));
    wr factor = wr_reciprocal(wr_shift(deviation, 1e-6));
    affine now = {wr_add(a->log_scale, wr_log(factor)), wr_mul(wr_sub(a->bias, mean), factor)};
    wr_start_note(c->start, a->log_scale, now.log_scale);
    wr_start_note(c->start, a->bias, now.bias);
    return now;
}

wr wr_flow_actnorm(wr x, const wr_flow_context *c) {
    wr_dtype t = wr_dtype_of(x);
    wr_dim channels = wr_dim_of(x, -1);
    affine a = {
        wr_param(x.g, "log_scale", t, WR_DIMS(channels), ((wr_init){WR_INIT_NORMAL, 0, 0.05})),
        wr_param(x.g, "bias", t, WR_DIMS(channels), ((wr_init){WR_INIT_ZERO, 0, 0}))};
    if (wr_starts_from_data(c->start)) a = start_actnorm(x, &a, c);
    return actnorm(x, &a, c->steps.mask);
}

/* ---- invertible multi-head linear ---- */

wr wr_flow_linear(wr x, wr_flow_form form) {
    wr_graph *g = x.g;
    if (wr_is_poison(x)) return x;
    int channels = (int)wr_dim_literal(wr_dim_of(x, -1));
    int u = channels % 32 == 0 ? 32 : channels % 16 == 0 ? 16 : 8;
    if (channels % u != 0)
        return wr_mistake(g, WR_HERE, "linear: %d channels are no multiple of 8", channels);
    wr_dim n = wr_dim_of(x, 0), t = wr_dim_of(x, 1), width = wr_n(u), groups = wr_n(channels / u);
    wr w = wr_param(g, "W", wr_dtype_of(x), WR_DIMS(width, width),
                    ((wr_init){WR_INIT_ORTHOGONAL, 1, 0}));
    if (form == WR_FLOW_HEADS) {
        wr y = wr_matmul_nt(wr_reshape(x, WR_DIMS(n, t, groups, width)), w);
        return wr_reshape(y, WR_DIMS(n, t, wr_n(channels)));
    }
    wr dealt = wr_transpose(wr_reshape(x, WR_DIMS(n, t, width, groups)), 2, 3);
    wr y = wr_transpose(wr_matmul_nt(dealt, w), 2, 3);
    return wr_reshape(y, WR_DIMS(n, t, wr_n(channels)));
}

/* ---- scales ---- */

wr wr_flow_squeeze(wr x) {
    wr_dim t = wr_dim_div(x.g, wr_dim_of(x, 1), wr_n(2));
    wr_dim channels = wr_dim_mul(x.g, wr_dim_of(x, 2), wr_n(2));
    return wr_reshape(x, WR_DIMS(wr_dim_of(x, 0), t, channels));
}

wr wr_flow_unsqueeze(wr x) {
    wr_dim t = wr_dim_mul(x.g, wr_dim_of(x, 1), wr_n(2));
    wr_dim channels = wr_dim_div(x.g, wr_dim_of(x, 2), wr_n(2));
    return wr_reshape(x, WR_DIMS(wr_dim_of(x, 0), t, channels));
}

bool wr_flow_factor_out(wr x, wr_flow_split split, wr *kept, wr *aside) {
    wr part[2] = {x, x};
    bool ok =
        split == WR_FLOW_ALTERNATE ? wr_deinterleave(x, -1, 2, part) : wr_split(x, -1, 2, part);
    *kept = part[0];
    *aside = part[1];
    return ok;
}

wr wr_flow_factor_in(wr kept, wr aside, wr_flow_split split) {
    return split == WR_FLOW_ALTERNATE ? wr_interleave(-1, kept, aside) : wr_concat(-1, kept, aside);
}
