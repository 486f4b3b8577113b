/* attention.h: scaled dot-product attention of one head on the CPU.
 *
 * Scores are kept key-major, [S, T]: a query is a lane of a vector, so that maxima and sums over
 * keys need no reduction across lanes, and keys behind a sequence's end cost nothing. Queries are
 * taken in blocks of WR__ATTENTION_BLOCK; a head's operands are read where they lie, `width`
 * elements (q and its gradient: q_ld, dq_ld; keys, values and theirs: k_ld, dk_ld) from one
 * position to the next. B sequences, T queries, S keys, H heads, dh = width / H.
 */
#ifndef WEIR_OPS_CPU_ATTENTION_H
#define WEIR_OPS_CPU_ATTENTION_H

#include "graph/op.h"
#include "graph/random.h"

enum { WR__ATTENTION_BLOCK = 64 };

typedef struct wr__attention {
    int64_t b, t, s, heads, dh, width;
    int64_t q_ld, k_ld, dq_ld, dk_ld;
    double scale, dropout;
    bool causal;
    wr_random random;
    const int32_t *lengths;             /* [B] or NULL: all S keys */
    const void *q, *k, *v;              /* [B, T, width], [B, S, width] twice */
    void *out, *lse;                    /* forward: [B, T, width], [B, H, T]; may be NULL */
    const void *lse_in, *cot, *cot_lse; /* backward: [B, H, T], [B, T, width], [B, H, T] or NULL */
    void *dq, *dk, *dv;                 /* backward; may be NULL */
} wr__attention;

/* Bytes of scratch memory for one head at a time. */
size_t wr__attention_scratch_f32(const wr__attention *a);
size_t wr__attention_scratch_f64(const wr__attention *a);

/* Head h of sequence b. `scratch` is 64-byte aligned. */
void wr__attention_forward_f32(const wr__attention *a, int64_t b, int64_t h, void *scratch);
void wr__attention_forward_f64(const wr__attention *a, int64_t b, int64_t h, void *scratch);
void wr__attention_backward_f32(const wr__attention *a, int64_t b, int64_t h, void *scratch);
void wr__attention_backward_f64(const wr__attention *a, int64_t b, int64_t h, void *scratch);

#endif
