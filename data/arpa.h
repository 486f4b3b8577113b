/* arpa.h: n-gram language models with back-off, read from files in the ARPA format.
 *
 *     \data\
 *     ngram 1=4
 *     ngram 2=2
 *
 *     \1-grams:
 *     -0.7 the -0.3
 *     ..
 *     \2-grams:
 *     -0.2 the cat
 *     ..
 *     \end\
 *
 * log10 p, the words, and below the highest order perhaps log10 of a back-off weight (0 without
 * one). Of any order. With h the words before w, h' those without the first,
 *
 *     log p(w | h) = its entry, if there is one for h w
 *                    backoff(h) + log p(w | h') otherwise; backoff of an h without an entry is 0
 *
 * (Katz 1987; tools of any smoothing write this form.) Words are strings without blanks, here the
 * pieces of a subword model; `<s>` begins a sentence, `</s>` ends it, `<unk>` or `<UNK>` stands for
 * all words that the model does not know. A model is immutable: any number of threads may use it.
 */
#ifndef WEIR_DATA_ARPA_H
#define WEIR_DATA_ARPA_H

#include "graph/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct wr_arpa wr_arpa;

/* Read a file, plain or compressed ("-": standard input). N-grams may be in any order. Errors, each
 * with file and line: WR_ERR_INPUT for a line that is none of the format, a probability above 1, a
 * number of n-grams other than the header's, an n-gram that is there twice, that has a word which
 * is not among the 1-grams or a context (all words but the last) that is not among the n-grams, and
 * a file that stops early; those of wr_text_read(); WR_ERR_MEMORY. `*out` is then NULL. */
wr_status wr_arpa_read(const char *path, wr_arpa **out, wr_error *err);
void wr_arpa_free(wr_arpa *m);

int wr_arpa_order(const wr_arpa *m);
/* How many n-grams of n words there are, 1 <= n <= order. */
size_t wr_arpa_count(const wr_arpa *m, int n);
/* Bytes of memory that the model takes: about 20 for an n-gram. */
size_t wr_arpa_bytes(const wr_arpa *m);

/* The number of a word (from 0, in the order of their bytes); -1 when the model does not know it.
 * `<s>` and `</s>` are words, too. */
int32_t wr_arpa_word(const wr_arpa *m, const char *word);
/* The word `<unk>`; -1 when there is none. */
int32_t wr_arpa_unknown(const wr_arpa *m);
/* Whether the model tells where a sentence ends. */
bool wr_arpa_has_end(const wr_arpa *m);

/* A state stands for as many of the words before as matter; equal states, equal futures. */
typedef uint32_t wr_arpa_state;

/* The beginning of a sentence: behind `<s>`, where the model has it. */
wr_arpa_state wr_arpa_begin(const wr_arpa *m);

/* Natural log p(word | state), at most 0; `*next` (may be NULL) is the state behind it. Words that
 * the model does not know (-1) count as `<unk>`, or where there is none as 10^-99, the format's way
 * to write 0. */
double wr_arpa_step(const wr_arpa *m, wr_arpa_state state, int32_t word, wr_arpa_state *next);

/* Natural log p(the sentence ends here | state); 0 where the model does not tell. */
double wr_arpa_end(const wr_arpa *m, wr_arpa_state state);

#ifdef __cplusplus
}
#endif
#endif
