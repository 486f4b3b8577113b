/* flowseq_batch.h: sentences as FlowSeq reads them.
 *
 * A source is its tokens and the end of sentence. A target is its tokens, then ends of sentence
 * until the length is a multiple of the unit U: none when it is one already. Those ends are tokens
 * like any other. What fills the batch behind a sentence is WR_PAD_ID.
 *
 * Letters: B sentences, S source length, T target length. */
#ifndef WEIR_FLOWSEQ_BATCH_H
#define WEIR_FLOWSEQ_BATCH_H

#include "data/batches.h"
#include "graph/session.h"

/* How to pack. */
typedef struct wr_flowseq_packing {
    int unit;     /* U >= 1 */
    int multiple; /* S and T are rounded up to multiples of it (0: 1), T to one of U, too; not
                   * beyond max_len */
    int max_len;  /* most positions of a source and of a target, the ends included; a target's
                   * limit is max_len / U * U */
    int32_t eos;  /* id of the end of sentence */
    bool exact;   /* sentences are as the model sees them: no end is added to a source, a target's
                   * length is a multiple of U */
} wr_flowseq_packing;

/* One batch. Row b of a [B, S] array starts at b * S. Zero-initialise; wr_flowseq_batch_free(). */
typedef struct wr_flowseq_batch {
    int32_t B, S, T;                /* T = 0: no targets */
    const int32_t *src, *src_len;   /* [B, S], [B] 1..S */
    const int32_t *tgt, *tgt_len;   /* [B, T], [B] multiples of U, U..T */
    int64_t src_tokens, tgt_tokens; /* sums of src_len and tgt_len */
    int32_t *storage;               /* what the arrays point into */
    size_t storage_cap;
} wr_flowseq_batch;

/* Positions of a target of n tokens: n rounded up to a multiple of U, at least U. */
static inline size_t wr_flowseq_target_len(size_t n, int unit) {
    size_t u = (size_t)unit;
    return n == 0 ? u : (n + u - 1) / u * u;
}

/* Pack sentences (ids without begin and end, unless o->exact) in the order given. `tgt` may be
 * NULL (T = 0). The memory of an earlier batch is used again. Errors: WR_ERR_INPUT for a sentence
 * (named by its number from 1) beyond max_len, and with `exact` for an empty one, one that contains
 * WR_PAD_ID, or a target whose length is no multiple of U; WR_ERR_MEMORY. */
wr_status wr_flowseq_batch_make(const wr_sentence *src, const wr_sentence *tgt, size_t count,
                                const wr_flowseq_packing *o, wr_flowseq_batch *out, wr_error *err);

/* The checks alone. */
wr_status wr_flowseq_batch_check(const wr_sentence *src, const wr_sentence *tgt, size_t count,
                                 const wr_flowseq_packing *o, wr_error *err);

/* The same from a batch of the data pipeline, whose `src` ends in an end of sentence and whose
 * `tgt_out` does, too (`exact` is not for it). */
wr_status wr_flowseq_batch_of(const wr_batch *b, const wr_flowseq_packing *o, wr_flowseq_batch *out,
                              wr_error *err);
void wr_flowseq_batch_free(wr_flowseq_batch *batch);

/* Feeds `src`, `src_len`, and with targets `tgt`, `tgt_len`, pointing into the batch; returns how
 * many. */
enum { WR_FLOWSEQ_FEEDS = 4 };
int wr_flowseq_feeds(const wr_flowseq_batch *b, wr_feed feeds[WR_FLOWSEQ_FEEDS]);

#endif
