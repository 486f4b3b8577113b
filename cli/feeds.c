/* feeds.c: see feeds.h. */
#include "cli/feeds.h"

static wr_feed matrix(const char *name, const int32_t *data, int64_t rows, int64_t columns) {
    return (wr_feed){.name = name, .data = data, .rank = 2, .dim = {rows, columns}};
}

static wr_feed vector(const char *name, const int32_t *data, int64_t n) {
    return (wr_feed){.name = name, .data = data, .rank = 1, .dim = {n}};
}

void wr_batch_feeds(const wr_batch *b, wr_feed feeds[WR_BATCH_FEEDS]) {
    feeds[0] = matrix("src", b->src, b->B, b->S);
    feeds[1] = vector("src_len", b->src_len, b->B);
    feeds[2] = matrix("tgt_in", b->tgt_in, b->B, b->T);
    feeds[3] = matrix("tgt_out", b->tgt_out, b->B, b->T);
    feeds[4] = vector("tgt_len", b->tgt_len, b->B);
}

wr_feed wr_scalar_feed(const char *name, const float *value) {
    return (wr_feed){.name = name, .data = value, .rank = 0};
}
