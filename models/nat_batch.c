/* nat_batch.c: see nat_batch.h. */
#include "models/nat_batch.h"

#include "data/subword.h"

#include <stdlib.h>
#include <string.h>

int wr_nat_framed_len(wr_recipe_framing framing, int words) {
    return framing == WR_RECIPE_FRAME_BOS_EOS ? words + 2
           : framing == WR_RECIPE_FRAME_EOS   ? words + 1
                                              : words;
}

/* Words and end at `from`, `len` in all, framed at `to` [T]. */
static void frame(const int32_t *from, int32_t len, wr_recipe_framing framing, int32_t T,
                  int32_t *to) {
    int32_t first = framing == WR_RECIPE_FRAME_BOS_EOS ? 1 : 0;
    int32_t kept = framing == WR_RECIPE_FRAME_PLAIN ? len - 1 : len;
    if (first > 0) to[0] = WR_BOS_ID;
    memcpy(to + first, from, sizeof *to * (size_t)kept);
    for (int32_t t = first + kept; t < T; t++)
        to[t] = WR_PAD_ID;
}

static wr_status frame_all(const wr_batch *b, wr_recipe_framing framing, int multiple,
                           wr_nat_batch *out, wr_error *err) {
    int32_t longest = 1;
    for (int32_t i = 0; i < b->B; i++) {
        int32_t n = wr_nat_framed_len(framing, b->tgt_len[i] - 1);
        if (n > longest) longest = n;
    }
    out->T = (longest + multiple - 1) / multiple * multiple;
    size_t cells = (size_t)b->B * ((size_t)out->T + 1);
    if (!wr_grow(&out->storage, &out->storage_cap, cells, sizeof *out->storage))
        return wr_fail_memory(err, "a batch", cells * sizeof *out->storage);
    int32_t *len = out->storage, *tgt = out->storage + b->B;
    for (int32_t i = 0; i < b->B; i++) {
        len[i] = wr_nat_framed_len(framing, b->tgt_len[i] - 1);
        frame(b->tgt_out + (size_t)i * (size_t)b->T, b->tgt_len[i], framing, out->T,
              tgt + (size_t)i * (size_t)out->T);
    }
    out->tgt = tgt;
    out->tgt_len = len;
    return WR_OK;
}

wr_status wr_nat_batch_of(const wr_batch *b, wr_recipe_framing framing, int multiple,
                          wr_nat_batch *out, wr_error *err) {
    out->B = b->B;
    out->S = b->S;
    out->src = b->src;
    out->src_len = b->src_len;
    wr_status status = WR_OK;
    if (framing == WR_RECIPE_FRAME_EOS) {
        out->T = b->T;
        out->tgt = b->tgt_out;
        out->tgt_len = b->tgt_len;
    } else {
        status = frame_all(b, framing, multiple, out, err);
    }
    out->tgt_tokens = 0;
    for (int32_t i = 0; status == WR_OK && i < b->B; i++)
        out->tgt_tokens += out->tgt_len[i];
    return status;
}

void wr_nat_batch_free(wr_nat_batch *batch) {
    free(batch->storage);
    *batch = (wr_nat_batch){0};
}

int wr_nat_feeds(const wr_nat_batch *b, wr_feed feeds[WR_NAT_FEEDS]) {
    feeds[0] = (wr_feed){.name = "src", .data = b->src, .rank = 2, .dim = {b->B, b->S}};
    feeds[1] = (wr_feed){.name = "src_len", .data = b->src_len, .rank = 1, .dim = {b->B}};
    feeds[2] = (wr_feed){.name = "tgt", .data = b->tgt, .rank = 2, .dim = {b->B, b->T}};
    feeds[3] = (wr_feed){.name = "tgt_len", .data = b->tgt_len, .rank = 1, .dim = {b->B}};
    return WR_NAT_FEEDS;
}
