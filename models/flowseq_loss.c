/* flowseq_loss.c: the losses of a batch; see flowseq.h. */
#include "graph/op.h"
#include "models/flowseq.h"
#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/reduce.h"

/* K times each sentence: x [B, ..] -> [B K, ..]. */
static wr repeat(wr x, int k) {
    if (k == 1 || wr_is_poison(x)) return x;
    wr_type t = wr_type_of(x);
    wr_dim single[WR_MAX_RANK], many[WR_MAX_RANK], flat[WR_MAX_RANK];
    single[0] = many[0] = t.dim[0];
    single[1] = wr_n(1);
    many[1] = wr_n(k);
    flat[0] = wr_dim_mul(x.g, t.dim[0], wr_n(k));
    for (int i = 1; i < t.rank; i++)
        single[i + 1] = many[i + 1] = flat[i] = t.dim[i];
    wr repeated = wr_broadcast(wr_reshape(x, t.rank + 1, single), t.rank + 1, many);
    return wr_reshape(repeated, t.rank, flat);
}

/* Of each sentence's samples: x [B K] -> [B, K]. */
static wr by_sentence(wr x, wr_dim b, int k) { return wr_reshape(x, WR_DIMS(b, wr_n(k))); }

static wr mean_of(wr x, wr_dim b, int k) { return k == 1 ? x : wr_mean(by_sentence(x, b, k), 1); }

/* The model with K samples of each sentence. */
typedef struct drawn {
    int k;
    wr_source source;  /* rows: sentence of each sample */
    wr tgt, len, mask; /* [B K, T], [B K], [B K, T] */
    wr z;
    wr log_q; /* poison in pre-training */
} drawn;

static drawn draw(const wr_flowseq *f, const wr_flowseq_pairs *in, const wr_flowseq_encoding *e,
                  const wr_flowseq_gaussian *q, const wr_flowseq_options *o) {
    wr_graph *g = in->tgt.g;
    int k = o->samples > 1 && !o->pretraining ? o->samples : 1;
    wr_dim b = wr_dim_of(in->tgt, 0), t = wr_dim_of(in->tgt, 1);
    drawn d = {.k = k, .source = e->source, .z = q->mean, .log_q = {g, 0}};
    d.tgt = repeat(in->tgt, k);
    d.len = repeat(in->tgt_len, k);
    d.mask = wr_sequence_mask(d.len, t, f->dtype);
    if (k > 1) d.source.rows = repeat(wr_iota(g, b, WR_I32), k);
    if (o->pretraining) return d;
    wr_flowseq_gaussian each = {repeat(q->mean, k), repeat(q->log_variance, k)};
    wr noise = o->noise;
    if (wr_is_poison(noise)) noise = wr_flowseq_noise(f, g, wr_dim_mul(g, b, wr_n(k)), t);
    d.z = wr_flowseq_draw(&each, noise, d.mask);
    d.log_q = wr_flowseq_log_q(&each, noise, d.mask);
    return d;
}

/* -log p(y | z, x) of each sample [B K], smoothed and not. */
static void reconstruct(const wr_flowseq *f, const drawn *d, double smoothing, wr *loss, wr *nll) {
    wr_graph *g = d->z.g;
    wr features = wr_flowseq_decode(f, &d->source, d->z, d->len);
    wr_dim n = wr_dim_of(d->tgt, 0), t = wr_dim_of(d->tgt, 1), all = wr_dim_mul(g, n, t);
    wr logits = wr_flowseq_logits(f, wr_reshape(features, WR_DIMS(all, wr_n(f->dim))));
    *loss = *nll = logits;
    WR_SCOPE (g, "loss") {
        wr_cross_entropy_out ce = wr_cross_entropy(logits, wr_reshape(d->tgt, WR_DIMS(all)),
                                                   wr_reshape(d->mask, WR_DIMS(all)), smoothing);
        *loss = wr_sum(wr_reshape(ce.loss, WR_DIMS(n, t)), 1);
        *nll = wr_sum(wr_reshape(ce.nll, WR_DIMS(n, t)), 1);
    }
}

/* What needs the prior. `nll` is that of each sample. */
static void add_prior(const wr_flowseq *f, const drawn *d, const wr_flowseq_options *o, wr nll,
                      wr_dim b, wr_flowseq_losses *l) {
    wr_flowseq_density p = wr_flowseq_density_of(f, &d->source, d->z, d->len,
                                                 o->starts == NULL ? NULL : o->starts->prior);
    l->eps = p.eps;
    WR_SCOPE (d->z.g, "loss") {
        l->log_q = mean_of(d->log_q, b, d->k);
        l->log_prior = mean_of(p.log_prior, b, d->k);
        l->log_det = mean_of(p.log_det, b, d->k);
        l->kl = wr_sub(l->log_q, l->log_prior);
        wr joint = wr_sub(p.log_prior, nll);
        l->weights = by_sentence(wr_sub(joint, d->log_q), b, d->k);
    }
}

wr_flowseq_losses wr_flowseq_losses_of(const wr_flowseq *f, const wr_flowseq_pairs *in,
                                       const wr_flowseq_options *o) {
    wr_flowseq_losses l = {0};
    wr_dim b = wr_dim_of(in->tgt, 0), t = wr_dim_of(in->tgt, 1);
    wr_flowseq_encoding e = wr_flowseq_encode(f, in->src, in->src_len);
    l.q = wr_flowseq_posterior(f, &e.source, in->tgt, in->tgt_len, o->starts);
    drawn d = draw(f, in, &e, &l.q, o);
    wr loss, nll;
    reconstruct(f, &d, o->label_smoothing, &loss, &nll);
    l.z = d.z;
    l.reconstruction = mean_of(loss, b, d.k);
    l.nll = mean_of(nll, b, d.k);
    wr_flowseq_length_loss length =
        wr_flowseq_length_loss_of(f, &e, in->tgt_len, o->length_smoothing);
    l.length = length.loss;
    l.length_nll = length.nll;
    l.tokens = wr_sum(wr_sequence_mask(in->tgt_len, t, f->dtype), 1);
    if (!o->pretraining) add_prior(f, &d, o, nll, b, &l);
    return l;
}

wr wr_flowseq_total(const wr_flowseq_losses *l, wr kl_weight) {
    wr sum = l->reconstruction;
    WR_SCOPE (sum.g, "loss") {
        sum = wr_add(sum, l->length);
        if (!wr_is_poison(l->kl)) sum = wr_add(sum, wr_mul(l->kl, kl_weight));
        sum = wr_sum_all(sum);
    }
    return sum;
}
