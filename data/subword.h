/* subword.h: subword vocabularies by SentencePiece (Kudo and Richardson 2018), as a C interface.
 *
 * A model turns a line of UTF-8 text into int32 ids and back. Ids 0..3 are always pad, unknown,
 * begin and end of sentence; encoding never adds them. The C++ library stays behind
 * subword_shim.cc: no exception crosses this interface. A model is immutable: any number of threads
 * may use it. */
#ifndef WEIR_SUBWORD_H
#define WEIR_SUBWORD_H

#include "graph/base.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { WR_PAD_ID = 0, WR_UNK_ID = 1, WR_BOS_ID = 2, WR_EOS_ID = 3, WR_SPECIAL_IDS = 4 };

typedef enum wr_subword_kind {
    WR_SUBWORD_BPE,    /* byte-pair encoding (Sennrich et al. 2016) */
    WR_SUBWORD_UNIGRAM /* unigram language model (Kudo 2018) */
} wr_subword_kind;

typedef struct wr_subword wr_subword;

/* A growing list of token ids. Zero-initialise; wr_ids_free() afterwards. */
typedef struct wr_ids {
    int32_t *id;
    size_t n, cap;
} wr_ids;
void wr_ids_free(wr_ids *ids);

/* How to train. Start from wr_subword_defaults(). */
typedef struct wr_subword_options {
    wr_subword_kind kind;
    int vocab;          /* pieces in all, special ids, characters and bytes included */
    bool exact;         /* false: a corpus too small for `vocab` gives fewer pieces, not an error */
    double coverage;    /* share of the corpus' characters that get a piece of their own, 0.9..1 */
    bool byte_fallback; /* 256 pieces for single bytes: a character never seen costs its UTF-8
                         * bytes and is not lost */
    bool lowercase;     /* fold case while encoding (the German sharp s becomes ss) */
} wr_subword_options;

/* BPE, exact; byte fallback (with coverage 0.9995) from WR_SUBWORD_BYTES_FROM pieces on; below,
 * where 256 byte pieces would take most of the vocabulary, none and coverage 1. */
enum { WR_SUBWORD_BYTES_FROM = 1024 };
wr_subword_options wr_subword_defaults(int vocab);

/* Gives the next line of the corpus (without the newline; alive until the next call); false at the
 * end. */
typedef bool wr_subword_next(void *context, const char **line, size_t *n);

/* Train a model on the lines that `next` gives. The result depends on lines and options alone, not
 * on the number of processors. Errors: WR_ERR_INPUT when `vocab` is too large or too small for the
 * text (the message has the limit) or there is no text; WR_ERR_MEMORY; WR_ERR_LIBRARY. */
wr_status wr_subword_train(const wr_subword_options *options, wr_subword_next *next, void *context,
                           wr_subword **out, wr_error *err);

/* Load a serialised SentencePiece model. `name` is for messages. Errors: WR_ERR_INPUT when the
 * bytes are no model, or its special ids are not 0..3. */
wr_status wr_subword_load_memory(const void *bytes, size_t n, const char *name, wr_subword **out,
                                 wr_error *err);
wr_status wr_subword_load(const char *path, wr_subword **out, wr_error *err);
void wr_subword_free(wr_subword *model);

/* The serialised model, as SentencePiece's own tools read it; alive as long as the model. */
const void *wr_subword_bytes(const wr_subword *model, size_t *n);

/* Number of ids: 0 .. vocab-1. */
int wr_subword_vocab(const wr_subword *model);

/* The id of a piece such as "▁the"; WR_UNK_ID when there is none. */
int32_t wr_subword_id(const wr_subword *model, const char *piece);

/* The piece of an id, alive as long as the model; NULL outside the vocabulary. */
const char *wr_subword_piece(const wr_subword *model, int32_t id);

/* Append the ids of a line. */
wr_status wr_subword_encode(const wr_subword *model, const char *line, size_t n, wr_ids *out,
                            wr_error *err);

/* Append the text of ids; pad, begin and end are skipped, unknown gives " ⁇ ". Errors:
 * WR_ERR_INPUT for an id outside the vocabulary. */
wr_status wr_subword_decode(const wr_subword *model, const int32_t *ids, size_t n, wr_str *out,
                            wr_error *err);

#ifdef __cplusplus
}
#endif
#endif
