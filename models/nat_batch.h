/* nat_batch.h: sentences as a non-autoregressive model reads them.
 *
 * A source is its words and the end of sentence. A target is framed as the model says: begin, words
 * and end (bos_eos), words and end (eos), or words (plain). What fills the batch behind a sentence
 * is WR_PAD_ID.
 *
 * Letters: B sentences, S source length, T target length. */
#ifndef WEIR_NAT_BATCH_H
#define WEIR_NAT_BATCH_H

#include "data/batches.h"
#include "graph/session.h"
#include "models/recipe.h"

/* One batch. Row b of a [B, T] array starts at b * T. Zero-initialise; wr_nat_batch_free(). */
typedef struct wr_nat_batch {
    int32_t B, S, T;
    const int32_t *src, *src_len; /* [B, S], [B]: those of the batch it was made of */
    const int32_t *tgt, *tgt_len; /* [B, T], [B] 0..T */
    int64_t tgt_tokens;           /* sum of tgt_len */
    int32_t *storage;             /* targets that were framed anew */
    size_t storage_cap;
} wr_nat_batch;

/* Positions of a target of n words. */
int wr_nat_framed_len(wr_recipe_framing framing, int words);

/* A batch of the data pipeline (`tgt_out`: words, then the end), T rounded up to a multiple. `out`
 * points into `b` and uses the memory of an earlier batch again. Errors: WR_ERR_MEMORY. */
wr_status wr_nat_batch_of(const wr_batch *b, wr_recipe_framing framing, int multiple,
                          wr_nat_batch *out, wr_error *err);
void wr_nat_batch_free(wr_nat_batch *batch);

/* Feeds `src`, `src_len`, `tgt`, `tgt_len`, pointing into the batch; returns how many. */
enum { WR_NAT_FEEDS = 4 };
int wr_nat_feeds(const wr_nat_batch *b, wr_feed feeds[WR_NAT_FEEDS]);

#endif
