/* flowseq_map.c: names and shapes of the authors' program for each parameter of FlowSeq; see
 * flowseq_import.h. */
#include "models/flowseq_import.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 256 };

/* A place in both hierarchies, as prefixes that end with a dot or are empty. */
typedef struct place {
    char ours[NAME_BYTES], theirs[NAME_BYTES];
} place;

typedef struct build {
    const wr_flowseq *f;
    wr_flowseq_map *map;
    bool oom;
} build;

/* Names of the model are far shorter than NAME_BYTES. */
static void WR_PRINTF(3, 4) extend(char *to, const char *prefix, const char *fmt, ...) {
    size_t n = strlen(prefix);
    memmove(to, prefix, n + 1);
    va_list args;
    va_start(args, fmt);
    vsnprintf(to + n, NAME_BYTES - n, fmt, args);
    va_end(args);
}

/* Below `p`: "OURS." and "THEIRS.". */
static place below(const place *p, const char *ours, const char *theirs) {
    place q;
    extend(q.ours, p->ours, "%s.", ours);
    extend(q.theirs, p->theirs, "%s.", theirs);
    return q;
}

/* The same with the numbers behind both names. */
static place numbered(const place *p, const char *ours, int i, const char *theirs, int j) {
    char a[NAME_BYTES], b[NAME_BYTES];
    snprintf(a, sizeof a, "%s%d", ours, i);
    snprintf(b, sizeof b, "%s%d", theirs, j);
    return below(p, a, b);
}

/* ---- rows ---- */

static void add(build *b, const place *p, const char *ours, const char *theirs,
                wr_flowseq_row row) {
    wr_flowseq_map *map = b->map;
    char name[2][NAME_BYTES];
    extend(name[0], p->ours, "%s", ours);
    extend(name[1], p->theirs, "%s", theirs);
    row.ours = wr_strdup(name[0]);
    row.theirs = wr_strdup(name[1]);
    if (row.of_rows == 0) row.of_rows = row.transposed ? row.dim[1] : row.dim[0];
    bool ok = row.ours != NULL && row.theirs != NULL &&
              wr_grow(&map->row, &map->cap, map->n + 1, sizeof *map->row);
    if (ok) {
        map->row[map->n++] = row;
        return;
    }
    free(row.ours);
    free(row.theirs);
    b->oom = true;
}

static void add_vector(build *b, const place *p, const char *ours, const char *theirs, int64_t n) {
    add(b, p, ours, theirs, (wr_flowseq_row){.rank = 1, .dim = {n}});
}

/* Of the same orientation here and there. */
static void add_table(build *b, const place *p, const char *ours, const char *theirs, int64_t rows,
                      int64_t columns) {
    add(b, p, ours, theirs, (wr_flowseq_row){.rank = 2, .dim = {rows, columns}});
}

static void add_matrix(build *b, const place *p, const char *ours, const char *theirs, int64_t in,
                       int64_t out) {
    add(b, p, ours, theirs, (wr_flowseq_row){.rank = 2, .dim = {in, out}, .transposed = true});
}

/* Columns [from, from + out) of the projection to queries, keys and values. */
static void add_projection(build *b, const place *p, const char *ours, int d, int from, int out) {
    place q;
    extend(q.ours, p->ours, "%s.", ours);
    extend(q.theirs, p->theirs, "in_proj_");
    add(b, &q, "W", "weight",
        (wr_flowseq_row){.rank = 2,
                         .dim = {d, out},
                         .transposed = true,
                         .from = from,
                         .of_rows = 3 * (int64_t)d});
    add(b, &q, "b", "bias",
        (wr_flowseq_row){.rank = 1, .dim = {out}, .from = from, .of_rows = 3 * (int64_t)d});
}

/* ---- blocks ---- */

static void add_norm(build *b, const place *p, int d) {
    place q = below(p, "norm", "layer_norm");
    add_vector(b, &q, "gain", "weight", d);
    add_vector(b, &q, "bias", "bias", d);
}

static void add_self_attention(build *b, place p, int d) {
    add_projection(b, &p, "qkv", d, 0, 3 * d);
    add_norm(b, &p, d);
}

static void add_cross_attention(build *b, place p, int d) {
    add_projection(b, &p, "q", d, 0, d);
    add_projection(b, &p, "kv", d, d, 2 * d);
    add_norm(b, &p, d);
}

static void add_linear(build *b, place p, int in, int out) {
    add_matrix(b, &p, "W", "weight", in, out);
    add_vector(b, &p, "b", "bias", out);
}

static void add_ffn(build *b, place p, int d, int hidden) {
    add_linear(b, below(&p, "inner", "linear1"), d, hidden);
    add_linear(b, below(&p, "outer", "linear2"), hidden, d);
    add_norm(b, &p, d);
}

static void add_weight_normed(build *b, place p, int in, int out) {
    add_matrix(b, &p, "v", "weight_v", in, out);
    add(b, &p, "g", "weight_g", (wr_flowseq_row){.rank = 1, .dim = {out}, .column = true});
    add_vector(b, &p, "b", "bias", out);
}

static void add_layer(build *b, const place *p, int d, int hidden, bool source) {
    add_self_attention(b, below(p, "self", "slf_attn"), d);
    if (source) add_cross_attention(b, below(p, "source", "enc_attn"), d);
    add_ffn(b, below(p, "ffn", "pos_ffn"), d, hidden);
}

static void add_layers(build *b, const place *p, int n, bool source) {
    for (int i = 0; i < n; i++) {
        place layer = numbered(p, "layer", i, "layers.", i);
        add_layer(b, &layer, b->f->dim, b->f->hidden, source);
    }
}

/* ---- all but the prior ---- */

static const place TOP = {"", ""};

static void add_encoder(build *b) {
    const wr_flowseq *f = b->f;
    const char *table = f->shared_embeddings ? "embedding" : "encoder.embedding";
    add_table(b, &TOP, table, "encoder.embed.weight", f->src_vocab, f->dim);
    place core = below(&TOP, "encoder", "encoder.core");
    add_layers(b, &core, f->encoder_layers, false);
}

static void add_posterior(build *b) {
    const wr_flowseq *f = b->f;
    if (!f->shared_embeddings)
        add_table(b, &TOP, "posterior.embedding", "posterior.tgt_embed.weight", f->tgt_vocab,
                  f->dim);
    place core = below(&TOP, "posterior", "posterior.core");
    add_layers(b, &core, f->posterior_layers, true);
    add_weight_normed(b, below(&core, "mean", "mu.linear"), f->dim, f->dim);
    add_weight_normed(b, below(&core, "log_variance", "logvar.linear"), f->dim, f->dim);
}

static void add_decoder(build *b) {
    const wr_flowseq *f = b->f;
    place p = below(&TOP, "decoder", "decoder");
    add_cross_attention(b, below(&p, "input", "pos_attn"), f->dim);
    add_layers(b, &p, f->decoder_layers, true);
    if (!f->shared_embeddings)
        add_table(b, &TOP, "decoder.readout", "decoder.readout.weight", f->tgt_vocab, f->dim);
    add_vector(b, &TOP, "decoder.bias", "decoder.readout.bias", f->tgt_vocab);
}

static void add_lengths(build *b) {
    const wr_flowseq *f = b->f;
    place p = below(&TOP, "length", "prior._length_predictor");
    add_linear(b, below(&p, "hidden1", "ctx_proj.0"), f->dim, f->dim);
    add_linear(b, below(&p, "hidden2", "ctx_proj.2"), f->dim, f->dim);
    add_linear(b, below(&p, "out", "diff"), f->dim, 2 * f->length_range + 1);
}

/* ---- the prior ---- */

/* Parameters of a transform for each feature. */
static int parameters_of(wr_flow_transform t) {
    return t == WR_FLOW_ADDITIVE ? 1 : t == WR_FLOW_NLSQ ? 5 : 2;
}

static void add_coupling(build *b, place p, const wr_flow_item *o) {
    const wr_flowseq *f = b->f;
    bool time = o->split == WR_FLOW_TIME;
    int d = time ? f->dim : f->dim / 2;
    place net = p;
    extend(net.theirs, p.theirs, "net.");
    if (!time) add_matrix(b, &net, "project.W", "src_proj.weight", f->dim, d);
    if (o->mode == WR_FLOW_ATTEND) add_cross_attention(b, below(&net, "position", "pos_attn"), d);
    place layer = net;
    extend(layer.theirs, net.theirs, "transformer.");
    add_layer(b, &layer, d, f->prior_hidden, true);
    add_weight_normed(b, below(&net, "out", "linear.linear"), d, d * parameters_of(o->transform));
}

static void add_actnorm(build *b, place p) {
    add_vector(b, &p, "log_scale", "log_scale", b->f->dim);
    add_vector(b, &p, "bias", "bias", b->f->dim);
}

static void add_invertible(build *b, place p) {
    int d = b->f->dim, u = d % 32 == 0 ? 32 : d % 16 == 0 ? 16 : 8;
    add_table(b, &p, "W", "weight", u, u);
}

/* The couplings of a unit: pairs, up and down. Those of a position unit have no number. */
static place coupling_place(const place *p, const wr_flow_item *o, int i, bool position) {
    char ours[NAME_BYTES], theirs[NAME_BYTES];
    const char *order = o->order == WR_FLOW_UP ? "up" : "down";
    snprintf(ours, sizeof ours, "coupling%d", i);
    if (position)
        snprintf(theirs, sizeof theirs, "coupling_%s", order);
    else
        snprintf(theirs, sizeof theirs, "coupling%d_%s", i / 2 + 1, order);
    return below(p, ours, theirs);
}

/* The list of a block; their numbers begin with 1. */
static void add_block(build *b, const place *p, wr_flow_name name) {
    const wr_flow_list *list = &b->f->prior.list[name];
    bool position = name == WR_FLOW_POSITION;
    int actnorms = 0, linears = 0, couplings = 0, blocks = 0;
    for (int i = 0; i < list->n; i++) {
        const wr_flow_item *o = &list->item[i];
        place q;
        switch (o->kind) {
        case WR_FLOW_ACTNORM:
            q = position ? below(p, "actnorm0", "actnorm")
                         : numbered(p, "actnorm", actnorms, "actnorm", actnorms + 1);
            actnorms++;
            add_actnorm(b, q);
            break;
        case WR_FLOW_LINEAR:
            add_invertible(b, numbered(p, "linear", linears, "linear", linears + 1));
            linears++;
            break;
        case WR_FLOW_COUPLING:
            add_coupling(b, coupling_place(p, o, couplings++, position), o);
            break;
        default:
            q = numbered(p, wr_flow_item_name(o), blocks, "unit", blocks + 1);
            blocks++;
            add_block(b, &q, o->block);
            break;
        }
    }
}

/* The layers, scale by scale; the order of items was checked. */
static void add_prior(build *b) {
    const wr_flow_list *list = &b->f->prior.list[WR_FLOW_LAYERS];
    int number[WR_FLOW_LISTS] = {0}, couplings = 0, scale = 0, steps = 0;
    place prior = below(&TOP, "prior", "prior.flow");
    for (int i = 0; i < list->n; i++) {
        const wr_flow_item *o = &list->item[i];
        place blocks = prior, q;
        extend(blocks.theirs, prior.theirs, "blocks.%d.", scale);
        if (o->kind == WR_FLOW_COUPLING) {
            q = numbered(&blocks, "coupling", couplings++, "prior", 0);
            extend(q.theirs, blocks.theirs, "prior.");
            add_coupling(b, q, o);
        } else if (o->kind == WR_FLOW_SQUEEZE) {
            scale++;
            steps = 0;
        }
        for (int t = 0; o->kind == WR_FLOW_BLOCK && t < o->times; t++) {
            q = numbered(&blocks, wr_flow_item_name(o), number[o->block]++, "steps.", steps);
            if (o->block == WR_FLOW_POSITION)
                extend(q.theirs, blocks.theirs, "pos_attn.");
            else
                steps++;
            add_block(b, &q, o->block);
        }
    }
}

/* ---- is it theirs? ---- */

static wr_status not_theirs(wr_flow_name list, const char *what, wr_error *err) {
    static const char *const KEYS[WR_FLOW_LISTS] = {"layers", "position",  "step",
                                                    "unit",   "last_step", "last_unit"};
    return wr_fail(err, WR_ERR_INPUT,
                   "recipe key prior.%s: the authors' program has no prior like this: %s",
                   KEYS[list], what);
}

static bool same_item(const wr_flow_item *a, const wr_flow_item *b) {
    return a->kind == b->kind && a->block == b->block && a->times == b->times &&
           a->form == b->form && a->split == b->split && a->order == b->order && a->mode == b->mode;
}

/* Is a block the same list as theirs? A model without the block has no say in it. */
static wr_status check_block(const wr_flow_stack *stack, const wr_flow_stack *theirs,
                             wr_flow_name name, wr_error *err) {
    const wr_flow_list *a = &stack->list[name], *b = &theirs->list[name];
    bool same = a->n == b->n;
    for (int i = 0; same && i < a->n; i++) {
        same = same_item(&a->item[i], &b->item[i]);
        if (a->item[i].kind == WR_FLOW_COUPLING && a->item[i].net != WR_FLOW_NET_ATTENTION)
            return not_theirs(name, "only net=attention can be imported", err);
        wr_flow_name inner = a->item[i].block;
        if (!same || a->item[i].kind != WR_FLOW_BLOCK) continue;
        wr_status status = check_block(stack, theirs, inner, err);
        if (status != WR_OK) return status;
    }
    return same ? WR_OK : not_theirs(name, "leave the key out to import", err);
}

/* What may stand at this place of a scale: 0 position, 1 steps, 2 coupling, 3 factor_out, 4
 * squeeze; -1: nothing here knows the item. */
static int stage_of(const wr_flow_item *o) {
    bool once = o->times == 1;
    if (o->kind == WR_FLOW_BLOCK && o->block == WR_FLOW_POSITION) return once ? 0 : -1;
    if (o->kind == WR_FLOW_BLOCK)
        return o->block == WR_FLOW_STEP || o->block == WR_FLOW_LAST_STEP ? 1 : -1;
    bool halves = o->split == WR_FLOW_HALVES && once;
    if (o->kind == WR_FLOW_COUPLING)
        return halves && o->order == WR_FLOW_UP && o->mode == WR_FLOW_ADD ? 2 : -1;
    if (o->kind == WR_FLOW_FACTOR_OUT) return halves ? 3 : -1;
    return o->kind == WR_FLOW_SQUEEZE && once ? 4 : -1;
}

/* Scales of position, steps, coupling, factor_out, squeeze; the last one ends behind the steps. */
static wr_status check_layers(const wr_flow_stack *stack, wr_error *err) {
    static const char RULE[] = "each scale is [position, step xN, coupling halves up, factor_out "
                               "halves, squeeze], and the last one [position, last_step xN]";
    const wr_flow_list *list = &stack->list[WR_FLOW_LAYERS];
    int stage = -1;
    for (int i = 0; i < list->n; i++) {
        int now = stage_of(&list->item[i]);
        bool more_steps = now == 1 && stage == 1;
        bool next = now == stage + 1 || (now == 0 && stage == 4);
        if (now < 0 || !(next || more_steps)) return not_theirs(WR_FLOW_LAYERS, RULE, err);
        stage = now;
    }
    return stage == 1 ? WR_OK : not_theirs(WR_FLOW_LAYERS, RULE, err);
}

static wr_status check_prior(const wr_flow_stack *stack, wr_error *err) {
    wr_flow_stack *theirs = malloc(sizeof *theirs);
    if (theirs == NULL) return wr_fail_memory(err, "a prior", sizeof *theirs);
    wr_status status = wr_flow_parse(&(wr_flow_recipe){0}, theirs, err);
    if (status == WR_OK) status = check_layers(stack, err);
    const wr_flow_list *list = &stack->list[WR_FLOW_LAYERS];
    for (int i = 0; i < list->n && status == WR_OK; i++) {
        const wr_flow_item *o = &list->item[i];
        if (o->kind == WR_FLOW_BLOCK) status = check_block(stack, theirs, o->block, err);
        if (o->kind == WR_FLOW_COUPLING && o->net != WR_FLOW_NET_ATTENTION)
            status = not_theirs(WR_FLOW_LAYERS, "only net=attention can be imported", err);
    }
    free(theirs);
    return status;
}

static wr_status check_model(const wr_flowseq *f, wr_error *err) {
    if (f->encoder != WR_RECIPE_ENCODER_TRANSFORMER ||
        f->posterior != WR_RECIPE_POSTERIOR_TRANSFORMER ||
        f->decoder != WR_RECIPE_DECODER_TRANSFORMER)
        return wr_fail(err, WR_ERR_INPUT,
                       "only models whose flowseq.encoder, flowseq.posterior and flowseq.decoder "
                       "are transformer can be imported");
    if (f->pooled_lengths)
        return wr_fail(err, WR_ERR_INPUT,
                       "flowseq.literal: the authors' program has other length predictors than "
                       "their paper; import with flowseq.literal=false");
    return check_prior(&f->prior, err);
}

/* ---- the whole ---- */

wr_status wr_flowseq_map_new(const wr_flowseq *f, wr_flowseq_map *map, wr_error *err) {
    *map = (wr_flowseq_map){0};
    wr_status status = check_model(f, err);
    if (status != WR_OK) return status;
    build b = {.f = f, .map = map};
    add_encoder(&b);
    add_posterior(&b);
    add_decoder(&b);
    add_lengths(&b);
    add_prior(&b);
    return b.oom ? wr_fail_memory(err, "the names of parameters", map->n * sizeof *map->row)
                 : WR_OK;
}
