/* feeds.c: see feeds.h. */
#include "cli/feeds.h"

static wr_feed matrix(const char *name, const int32_t *data, int64_t rows, int64_t columns) {
    return (wr_feed){.name = name, .data = data, .rank = 2, .dim = {rows, columns}};
}

static wr_feed vector(const char *name, const int32_t *data, int64_t n) {
    return (wr_feed){.name = name, .data = data, .rank = 1, .dim = {n}};
}

static void transformer_feeds(const wr_batch *b, wr_fed *fed) {
    fed->feed[0] = matrix("src", b->src, b->B, b->S);
    fed->feed[1] = vector("src_len", b->src_len, b->B);
    fed->feed[2] = matrix("tgt_in", b->tgt_in, b->B, b->T);
    fed->feed[3] = matrix("tgt_out", b->tgt_out, b->B, b->T);
    fed->feed[4] = vector("tgt_len", b->tgt_len, b->B);
    fed->n = 5;
}

static wr_status flowseq_feeds(const wr_feeding *f, const wr_batch *b, wr_fed *fed, wr_error *err) {
    wr_flowseq_packing o = {
        .unit = f->unit, .multiple = f->multiple, .max_len = f->max_len, .eos = WR_EOS_ID};
    wr_status status = wr_flowseq_batch_of(b, &o, &fed->packed, err);
    if (status == WR_OK) fed->n = wr_flowseq_feeds(&fed->packed, fed->feed);
    return status;
}

static wr_status nat_feeds(const wr_feeding *f, const wr_batch *b, wr_fed *fed, wr_error *err) {
    wr_status status = wr_nat_batch_of(b, f->framing, f->multiple, &fed->framed, err);
    if (status == WR_OK) fed->n = wr_nat_feeds(&fed->framed, fed->feed);
    return status;
}

static size_t target_len(const wr_feeding *f, int32_t len) {
    if (f->type == WR_RECIPE_FLOWSEQ) return wr_flowseq_target_len((size_t)len - 1, f->unit);
    if (f->type == WR_RECIPE_NAT) return (size_t)wr_nat_framed_len(f->framing, len - 1);
    return (size_t)len;
}

void wr_fed_count(const wr_feeding *f, const wr_batch *b, double *sentences, double *tokens) {
    *sentences = (double)b->B;
    *tokens = 0;
    for (int32_t i = 0; i < b->B; i++)
        *tokens += (double)target_len(f, b->tgt_len[i]);
}

wr_status wr_fed_fill(const wr_feeding *f, const wr_batch *b, wr_fed *fed, wr_error *err) {
    wr_fed_count(f, b, &fed->sentences, &fed->tokens);
    if (f->type == WR_RECIPE_FLOWSEQ) return flowseq_feeds(f, b, fed, err);
    if (f->type == WR_RECIPE_NAT) return nat_feeds(f, b, fed, err);
    transformer_feeds(b, fed);
    return WR_OK;
}

void wr_fed_free(wr_fed *fed) {
    wr_flowseq_batch_free(&fed->packed);
    wr_nat_batch_free(&fed->framed);
    *fed = (wr_fed){0};
}
