/* batches.h: padded batches of sentence pairs under a token budget, bucketed by length.
 *
 * Letters: B sentences, S source length, T target length; both lengths include the end of sentence
 * and are rounded up to a multiple, so that few distinct shapes occur. Real lengths are in src_len
 * and tgt_len.
 *
 * An epoch's order is a function of (seed, epoch) alone: sentences are shuffled, sorted by length
 * within chunks, cut into batches by the budget, and the batches are shuffled. So a position
 * (epoch, batch) is all that a checkpoint needs, and whether a thread builds ahead changes nothing.
 */
#ifndef WEIR_DATA_BATCHES_H
#define WEIR_DATA_BATCHES_H

#include "graph/base.h"
#include "data/pairs.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where in the data: the number of the epoch (from 0) and of the batch within (from 0). */
typedef struct wr_batch_place {
    uint32_t epoch;
    uint64_t batch;
} wr_batch_place;

/* One batch. Padding is WR_PAD_ID. Row b of a [B,S] array starts at b*S. */
typedef struct wr_batch {
    int32_t B, S, T;        /* T = 0: no targets */
    const int32_t *src;     /* [B,S] x then end of sentence */
    const int32_t *src_len; /* [B] 1..S */
    const int32_t *tgt_in;  /* [B,T] begin of sentence then y */
    const int32_t *tgt_out; /* [B,T] y then end of sentence */
    const int32_t *tgt_len; /* [B] 1..T */
    const int32_t *id;      /* [B] the sentence's number in the split */
    int64_t src_tokens;     /* sum of src_len */
    int64_t tgt_tokens;     /* sum of tgt_len */
    wr_batch_place place;
    uint64_t batches; /* in this epoch */
    int32_t *storage; /* what the arrays point into */
    size_t storage_cap;
} wr_batch;

/* How batches are made. Start from wr_batches_defaults(). */
typedef struct wr_batches_options {
    size_t max_tokens;    /* B * max(S,T) <= max_tokens */
    size_t max_sentences; /* B <= max_sentences; 0: no limit */
    size_t multiple;      /* S and T are multiples of it, >= 1 */
    size_t chunk;         /* sentences sorted by length together; 0: the whole epoch */
    size_t prefetch;      /* batches built ahead by a thread of their own; 0: none */
    uint64_t seed;
    bool in_order; /* for evaluation: one pass, longest first, nothing random; `id` leads back to
                    * the order of the split */
    bool oversize; /* a sentence beyond max_tokens makes a batch of its own, not an error */
    bool targets;  /* false: leave them out (T = 0) although there are some */
} wr_batches_options;

/* 4096 tokens, lengths in eights, chunks of 32768, two batches ahead, seed 1, with targets. */
wr_batches_options wr_batches_defaults(void);

typedef struct wr_batches wr_batches;

/* Start at epoch 0, batch 0. `pairs` (of n < 2^31, not empty) is kept and must outlive the result;
 * an absent target side gives T = 0. Errors: WR_ERR_INPUT for impossible options and, unless
 * `oversize`, for a sentence that no batch can hold; WR_ERR_MEMORY; WR_ERR_LIBRARY when no thread
 * can be started. */
wr_status wr_batches_open(const wr_pairs *pairs, const wr_batches_options *options,
                          wr_batches **out, wr_error *err);
void wr_batches_close(wr_batches *batches);

/* The next batch, valid until the next call of any of these functions. Epochs follow each other
 * without end; `in_order` gives NULL after its one pass. */
wr_status wr_batches_next(wr_batches *batches, const wr_batch **out, wr_error *err);

/* The place of the batch that wr_batches_next() gives next, for a checkpoint. */
wr_batch_place wr_batches_position(const wr_batches *batches);

/* Go on at a place, as if all before had been read. Errors: WR_ERR_INPUT when the epoch has no such
 * batch (batch == number of batches is the start of the next epoch). */
wr_status wr_batches_seek(wr_batches *batches, wr_batch_place place, wr_error *err);

/* What an epoch consists of: padding and distinct shapes decide how fast training is. */
typedef struct wr_batches_summary {
    uint64_t batches, sentences;
    uint64_t src_tokens, tgt_tokens; /* real ones, ends included */
    uint64_t src_cells, tgt_cells;   /* sums of B*S and of B*T */
    uint64_t shapes;                 /* distinct (B,S,T) */
} wr_batches_summary;
wr_status wr_batches_summarise(const wr_batches *batches, uint32_t epoch, wr_batches_summary *out,
                               wr_error *err);

/* Make one batch of given sentences (ids without begin and end; their texts are not looked at), in
 * the order given. `tgt` may be NULL (T = 0). `out` is zero-initialised or an earlier batch, whose
 * memory is used again; wr_batch_free() at the end. `id` is 0..count-1. */
wr_status wr_batch_make(const wr_sentence *src, const wr_sentence *tgt, size_t count,
                        size_t multiple, wr_batch *out, wr_error *err);
void wr_batch_free(wr_batch *batch);

#ifdef __cplusplus
}
#endif
#endif
