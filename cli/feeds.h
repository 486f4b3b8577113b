/* feeds.h: a batch of sentence pairs as the inputs of a model's graphs. */
#ifndef WEIR_CLI_FEEDS_H
#define WEIR_CLI_FEEDS_H

#include "data/batches.h"
#include "graph/session.h"

enum { WR_BATCH_FEEDS = 5 };

/* `src` [B, S], `src_len` [B], `tgt_in` [B, T], `tgt_out` [B, T], `tgt_len` [B]. The feeds point
 * into the batch. */
void wr_batch_feeds(const wr_batch *b, wr_feed feeds[WR_BATCH_FEEDS]);

/* One number for a scalar input. */
wr_feed wr_scalar_feed(const char *name, const float *value);

#endif
