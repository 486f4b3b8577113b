/* synth_corrupt.h: sources made by damaging a text: tokens replaced by random ones and left out.
 *
 * The target is the text itself, so that a source leaves open exactly what was damaged: the
 * synthetic sets of Huang et al. (2022, MPLE), whose conditional total correlation lies between
 * that of copying and that of translation. Set A replaces half of the tokens; set B leaves out a
 * tenth as well. Tokens are what white space separates. */
#ifndef WEIR_DATA_SYNTH_CORRUPT_H
#define WEIR_DATA_SYNTH_CORRUPT_H

#include "data/text.h"
#include "graph/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* From where a replacement is drawn. */
typedef enum wr_corrupt_pool {
    WR_CORRUPT_VOCABULARY, /* each distinct token of the text is as likely */
    WR_CORRUPT_TEXT        /* each token of the text is as likely: frequent ones are so here, too */
} wr_corrupt_pool;

typedef struct wr_corrupt {
    double replace, drop; /* the probability of each token, 0..1 */
    wr_corrupt_pool pool;
    uint64_t seed;
} wr_corrupt;

/* One token: bytes of a text that somebody else owns. */
typedef struct wr_token {
    const char *at;
    size_t len;
} wr_token;

/* Lines to corrupt and the pool of their tokens. Zero-initialise; wr_corrupt_text_free()
 * afterwards, also after an error. */
typedef struct wr_corrupt_text {
    const char **line; /* [n] distinct lines that have a token, in the order of the text; they point
                        * into the texts read */
    size_t *len;       /* [n] */
    size_t n;
    wr_token *token; /* [tokens] every running token */
    size_t tokens;
    wr_token *word; /* [words] every distinct token, by its first occurrence */
    size_t words;
    size_t empty, repeated; /* lines left out: without a token, equal to an earlier one */
} wr_corrupt_text;

/* Take the distinct lines of `n` texts, which must outlive `out`. Errors: WR_ERR_INPUT without any
 * line that has a token; WR_ERR_MEMORY. */
wr_status wr_corrupt_read(const wr_text *text, size_t n, wr_corrupt_text *out, wr_error *err);
void wr_corrupt_text_free(wr_corrupt_text *text);

/* Append a damaged copy of line i, tokens separated by one space. For each token, in this order: it
 * is left out with probability `drop`; otherwise with probability `replace` a random one of the
 * pool stands in its place (which may be the same). A line that would lose all tokens keeps its
 * last one. The result depends on (seed, i) and the text alone. */
void wr_corrupt_line(const wr_corrupt_text *text, const wr_corrupt *o, size_t i, wr_str *out);

/* Which lines go where, drawn at random: order[0 .. valid-1] valid, then `test`, and the rest, in
 * the order of the text, is train. Errors: WR_ERR_INPUT when fewer than valid + test + 1 lines are
 * there; WR_ERR_MEMORY. free() `*order`. */
wr_status wr_corrupt_split(const wr_corrupt_text *text, size_t valid, size_t test, uint64_t seed,
                           uint32_t **order, wr_error *err);

#ifdef __cplusplus
}
#endif
#endif
