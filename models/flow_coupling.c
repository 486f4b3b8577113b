/* flow_coupling.c: coupling layers and their networks; see flow.h. */
#include "models/flow.h"

#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/mask.h"
#include "ops/matmul.h"
#include "ops/nlsq.h"
#include "ops/slice.h"

#include <math.h>

/* What a network reads. */
typedef struct reading {
    wr x; /* [N, T', d] */
    const wr_flow_steps *steps;
    wr_flow_context *c;
    wr_flow_mode mode;
} reading;

static wr_dim width_of(wr x) { return wr_dim_of(x, -1); }

/* ---- positions ---- */

static wr positions_of(wr_flow_context *c, wr x) {
    int width = (int)wr_dim_literal(width_of(x));
    for (int i = 0; i < c->n_tables; i++)
        if (c->table[i].width == width && c->table[i].table.g == x.g) return c->table[i].table;
    wr table = wr_positions_of(x.g, wr_dtype_of(x), c->max_len, width);
    if (c->n_tables < WR_FLOW_TABLES) c->table[c->n_tables++] = (wr_flow_table){width, table};
    return table;
}

/* The part with its positions. Padding gets some, too, where they are added: nobody reads it. */
static wr with_positions(const reading *r) {
    wr x = r->x, table = positions_of(r->c, x);
    if (r->mode != WR_FLOW_ATTEND) return wr_add(x, wr_positions_rows(table, wr_dim_of(x, 1)));
    WR_SCOPE (x.g, "position") {
        wr_source part = {.x = x, .len = r->steps->len};
        wr query = wr_positions_masked(table, r->steps->mask);
        x = wr_block_cross_attention(query, &part, r->c->heads, r->c->dropout);
    }
    return x;
}

/* ---- networks: what the output layer reads ---- */

/* The source in d features. Every coupling has a projection of its own, so that training computes
 * it again instead of keeping it. */
static wr project(wr x, wr_dim d) {
    wr y = x;
    WR_SCOPE (x.g, "project") {
        wr_scope_recompute_all(x.g);
        double k = 1 / sqrt((double)wr_dim_literal(width_of(x)));
        wr w = wr_param(x.g, "W", wr_dtype_of(x), WR_DIMS(width_of(x), d),
                        ((wr_init){WR_INIT_UNIFORM, -k, k}));
        y = wr_matmul(x, w);
    }
    return y;
}

static wr attention_net(const reading *r) {
    wr_flow_context *c = r->c;
    wr_source source = c->source;
    wr_block block = {.heads = c->heads, .hidden = c->hidden, .dropout = c->dropout};
    if (!wr_dim_same(width_of(r->x), width_of(source.x)))
        source.x = project(source.x, width_of(r->x));
    return wr_block_decoder_layer(with_positions(r), r->steps->len, &source, &block);
}

/* h [N, T', hidden] of the part itself -> the part beside what h finds in the source. */
static wr beside_source(const reading *r, wr h) {
    const wr_flow_context *c = r->c;
    WR_SCOPE (h.g, "source") {
        h = wr_block_global_attention(h, &c->source, c->hidden, c->hidden, c->dropout);
    }
    return wr_concat(-1, r->x, h);
}

static wr lstm_net(const reading *r) {
    wr h = r->x;
    WR_SCOPE (h.g, "lstm") {
        h = wr_block_bilstm(h, r->steps->len, r->c->hidden, 1);
    }
    return beside_source(r, h);
}

/* A convolution of three steps: the neighbours side by side, then a product. What is behind a
 * sentence's end counts as zero, as what is before its beginning. */
static wr convolution(const reading *r, wr x, const char *name) {
    x = wr_mask_apply(x, r->steps->mask);
    wr before = wr_slice(wr_pad(x, 1, 1, 0), 1, 0, -1);
    wr behind = wr_slice(wr_pad(x, 1, 0, 1), 1, 1, 0);
    wr_weight_normed o = {.mask = {x.g, 0}, .scale = 1, .start = r->c->start};
    WR_SCOPE (x.g, "%s", name) {
        x = wr_block_elu(
            wr_block_weight_normed(wr_concat(-1, before, x, behind), r->c->hidden, &o));
    }
    return x;
}

static wr conv_net(const reading *r) {
    wr h = convolution(r, convolution(r, r->x, "conv0"), "conv1");
    return beside_source(r, h);
}

static wr network(const reading *r, wr_flow_net net) {
    switch (net) {
    case WR_FLOW_NET_LSTM:
        return lstm_net(r);
    case WR_FLOW_NET_CONV:
        return conv_net(r);
    default:
        return attention_net(r);
    }
}

/* ---- transforms ---- */

enum { PARAMETERS_MOST = 5 };

static int parameters_of(wr_flow_transform transform) {
    return transform == WR_FLOW_NLSQ ? 5 : transform == WR_FLOW_ADDITIVE ? 1 : 2;
}

static wr transformed(wr y, const wr *p, wr_flow_transform transform) {
    if (transform == WR_FLOW_ADDITIVE) return wr_add(y, p[0]);
    if (transform == WR_FLOW_NLSQ) {
        wr_nlsq_parameters nlsq = {p[0], p[1], p[2], p[3], p[4]};
        return wr_nlsq(y, &nlsq);
    }
    return wr_add(wr_mul(y, wr_sigmoid(wr_shift(p[1], 2.0))), p[0]);
}

/* The transformed part, y, given the network's reading. */
static wr transform_part(const reading *r, wr y, const wr_flow_item *o) {
    wr_graph *g = y.g;
    wr h = network(r, o->net), p[PARAMETERS_MOST] = {y, y, y, y, y};
    int n = parameters_of(o->transform);
    bool data = wr_starts_from_data(r->c->start);
    wr_weight_normed out = {.mask = r->steps->mask, .zero = !data, .start = r->c->start};
    if (wr_is_poison(h)) return h;
    WR_SCOPE (g, "out") {
        h = wr_block_weight_normed(h, n * (int)wr_dim_literal(width_of(y)), &out);
    }
    if (n == 1)
        p[0] = h;
    else if (!wr_split(h, -1, n, p))
        return (wr){g, 0};
    return wr_mask_apply(transformed(y, p, o->transform), r->steps->mask);
}

/* ---- the layer ---- */

static bool take_apart(wr x, wr_flow_split split, wr part[2]) {
    if (split == WR_FLOW_HALVES) return wr_split(x, -1, 2, part);
    return wr_deinterleave(x, split == WR_FLOW_TIME ? 1 : -1, 2, part);
}

static wr put_together(const wr part[2], wr_flow_split split) {
    if (split == WR_FLOW_HALVES) return wr_concat(-1, part[0], part[1]);
    return wr_interleave(split == WR_FLOW_TIME ? 1 : -1, part[0], part[1]);
}

wr wr_flow_coupling(wr x, const wr_flow_item *o, wr_flow_context *c) {
    wr part[2] = {x, x};
    wr_flow_steps halved, *steps = &c->steps;
    if (!take_apart(x, o->split, part)) return (wr){x.g, 0};
    if (o->split == WR_FLOW_TIME) {
        halved = wr_flow_halve(&c->steps, c->max_len);
        steps = &halved;
    }
    int from = o->order == WR_FLOW_UP ? 0 : 1;
    reading r = {.x = part[from], .steps = steps, .c = c, .mode = o->mode};
    part[1 - from] = transform_part(&r, part[1 - from], o);
    return put_together(part, o->split);
}
