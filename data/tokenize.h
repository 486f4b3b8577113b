/* tokenize.h: splitting sentences into words the way published BLEU scores do.
 *
 * These are the tokenisers of scoring, defined by mteval-v13a and mteval-v14 of the WMT campaigns
 * and by sacreBLEU; the subword models a translation system trains on are elsewhere. */
#ifndef WEIR_DATA_TOKENIZE_H
#define WEIR_DATA_TOKENIZE_H

#include "graph/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum wr_tok {
    WR_TOK_13A,   /* mteval-v13a: entities, ASCII punctuation, . and , unless between digits */
    WR_TOK_INTL,  /* mteval-v14 --international-tokenization: Unicode punctuation and symbols */
    WR_TOK_NONE,  /* the line is tokenised already: split at runs of white space */
    WR_TOK_SPACES /* white space at both ends is dropped, then every single U+0020 separates two
                   * tokens: two in a row enclose an empty token, an empty line is one empty token.
                   * The way of tensorflow/nmt and other scripts that split at " ". */
} wr_tok;

/* "13a", "intl", "none" or "spaces". */
const char *wr_tok_name(wr_tok tok);

/* The tokeniser called `name`; false when there is none. */
bool wr_tok_parse(const char *name, wr_tok *tok);

/* The names wr_tok_parse() takes, for messages. */
#define WR_TOK_NAMES "13a, intl, none, spaces"

typedef struct wr_token {
    const char *at; /* not NUL-terminated */
    size_t len;     /* bytes */
} wr_token;

/* A tokeniser with its compiled expressions and buffers; one thread uses it at a time. */
typedef struct wr_tokenizer wr_tokenizer;

/* Make a tokeniser. With `lowercase` every line is lower-cased first: full Unicode mappings
 * (U+0130 gives two characters, a capital sigma at the end of a word the final form), no locale.
 * Errors: memory, PCRE2. Free it with wr_tokenizer_free(). */
wr_status wr_tokenizer_new(wr_tok tok, bool lowercase, wr_tokenizer **out, wr_error *err);
void wr_tokenizer_free(wr_tokenizer *t);

/* Split a line of `len` bytes. White space at its end is dropped first. `(*tokens)[0..*n)` belongs
 * to the tokeniser and lives until its next call. Errors: the line is not UTF-8 (WR_ERR_INPUT),
 * memory. */
wr_status wr_tokenizer_run(wr_tokenizer *t, const char *line, size_t len, const wr_token **tokens,
                           size_t *n, wr_error *err);

/* The line after the lower-casing the tokeniser was asked for, and before anything else: what
 * character metrics look at. Errors and lifetime as above. */
wr_status wr_tokenizer_fold(wr_tokenizer *t, const char *line, size_t len, const char **folded,
                            size_t *n, wr_error *err);

#ifdef __cplusplus
}
#endif
#endif
