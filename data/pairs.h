/* pairs.h: sentence pairs as token ids with their text, read-only (wr_pairs) and growing
 * (wr_corpus). */
#ifndef WEIR_DATA_PAIRS_H
#define WEIR_DATA_PAIRS_H

#include "graph/base.h"
#include "data/subword.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One side of n sentences. Sentence i has the ids id[id_at[i]] .. id[id_at[i+1]-1], without begin
 * and end, and the NUL-terminated text text + text_at[i]. */
typedef struct wr_side {
    const uint64_t *id_at; /* [n+1]; NULL: this side is absent */
    const int32_t *id;
    const uint64_t *text_at; /* [n+1]; NULL: no text is kept */
    const char *text;
} wr_side;

/* A view of sentence pairs that somebody else owns. */
typedef struct wr_pairs {
    size_t n;
    wr_side src, tgt;
} wr_pairs;

/* The ids of sentence i (0 <= i < n) and, in `*count`, how many there are. */
static inline const int32_t *wr_side_ids(const wr_side *side, size_t i, size_t *count) {
    *count = (size_t)(side->id_at[i + 1] - side->id_at[i]);
    return side->id + side->id_at[i];
}

/* The number of ids of sentence i. */
static inline size_t wr_side_count(const wr_side *side, size_t i) {
    return (size_t)(side->id_at[i + 1] - side->id_at[i]);
}

/* The text of sentence i, NUL-terminated; "" when no text is kept. */
static inline const char *wr_side_text(const wr_side *side, size_t i) {
    return side->text_at == NULL ? "" : side->text + side->text_at[i];
}

/* The most ids of a sentence of the side; 0 when the side is absent or empty. */
size_t wr_side_longest(const wr_side *side, size_t n);

/* One side of a wr_corpus; fields as in wr_side. */
typedef struct wr_corpus_side {
    wr_ids ids;
    wr_str text;
    uint64_t *id_at, *text_at;
    size_t id_at_cap, text_at_cap;
} wr_corpus_side;

/* Growing sentence pairs. Zero-initialise; wr_corpus_free() afterwards. */
typedef struct wr_corpus {
    size_t n;
    wr_corpus_side src, tgt;
} wr_corpus;

/* A sentence to add: ids without begin and end, text of text_n bytes without NUL. */
typedef struct wr_sentence {
    const int32_t *id;
    size_t n;
    const char *text;
    size_t text_n;
} wr_sentence;

/* Append a pair. On WR_ERR_MEMORY the corpus keeps the pairs it had. */
wr_status wr_corpus_add(wr_corpus *corpus, wr_sentence src, wr_sentence tgt, wr_error *err);

/* The pairs so far; valid until the next addition. */
wr_pairs wr_corpus_view(const wr_corpus *corpus);
void wr_corpus_free(wr_corpus *corpus);

#ifdef __cplusplus
}
#endif
#endif
