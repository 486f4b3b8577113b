/* nat.h: non-autoregressive translation (Gu et al. 2018): an encoder, and a decoder that says all
 * words at once, each position seeing every other. The layers are those of the Transformer
 * (transformer.h) without the causal mask.
 *
 * A position's input is a token: a word of the target that is given (glancing, CMLM), a begin or
 * end of sentence, or the mask, wr_nat_mask(). What a masked position is told besides its place is
 * the recipe's `nat.inputs`. How many positions there are is predicted from the source, or, with
 * `frames` > 0, that many for each source word (CTC).
 *
 * The model has two rows of its own behind the V pieces of the target vocabulary: the mask and the
 * blank ("nothing", for CTC and AXE). Neither is a piece: both are banned or removed before text is
 * made.
 *
 * Letters: B sentences, N candidates (N = B in training), S source length, T positions, D model
 * width, V target pieces, C classes of lengths. Tokens and lengths are i32; padding is told by
 * lengths, never by token values. */
#ifndef WEIR_NAT_H
#define WEIR_NAT_H

#include "graph/graph.h"
#include "models/recipe.h"

enum { WR_NAT_EXTRA = 2 }; /* rows behind the vocabulary */

/* A plain value. Rates are probabilities and count only with `training`. */
typedef struct wr_nat {
    wr_recipe_model m;
    int src_vocab, tgt_vocab; /* pieces, without the extra rows */
    wr_recipe_input inputs;
    double input_temperature;
    bool place_every_layer; /* the decoder's places are added before each layer, not the first only
                             */
    wr_recipe_framing framing;
    wr_recipe_length length; /* never auto; none exactly when frames > 0 */
    bool length_offset;
    int length_classes;
    int frames; /* positions of a source word; 0: the length is predicted */
    wr_recipe_upsampling upsampling;
    int max_source, max_target, max_positions; /* of S, of framed targets, and of T, padded */
    wr_dtype dtype;
    bool training; /* dropout on */
} wr_nat;

/* Ids of the extra rows. */
static inline int32_t wr_nat_mask(const wr_nat *n) { return n->tgt_vocab; }
static inline int32_t wr_nat_blank(const wr_nat *n) { return n->tgt_vocab + 1; }

/* ---- encoder ---- */

/* The source as the other parts see it. */
typedef struct wr_nat_encoding {
    wr memory; /* [B, S, D] of the encoder */
    wr len;    /* [B] i32, ends included */
    wr words;  /* [B, S, D] embedded source words without positions; read by some inputs only */
    wr state;  /* [B, D] what the length is read from */
} wr_nat_encoding;
wr_nat_encoding wr_nat_encode(const wr_nat *n, wr src, wr src_len);

/* The encoding of each candidate: rows [N] i32 in [0, B) are their sentences. */
wr_nat_encoding wr_nat_spread(const wr_nat_encoding *e, wr rows);

/* Does decoding read `words` of the encoding? */
bool wr_nat_reads_words(const wr_nat *n);

/* ---- decoder ---- */

/* One pass: tokens [N, T] (mask: to be said; anything else: given), len [N] positions -> features
 * [N, T, D]. With frames, T must be wr_nat_frame_dim() of the source's S, and len
 * wr_nat_frame_lengths(). */
wr wr_nat_decode(const wr_nat *n, const wr_nat_encoding *e, wr tokens, wr len);

/* features [.., D] -> scores of words [.., V + 2]: V pieces, mask, blank. */
wr wr_nat_logits(const wr_nat *n, wr features);

/* What no position may say: pieces for padding and begins, the mask, and unless `blank` the blank.
 * Fills ids and returns how many, at most WR_NAT_BANNED. */
enum { WR_NAT_BANNED = 4 };
int wr_nat_banned(const wr_nat *n, bool blank, int ids[WR_NAT_BANNED]);

/* The same scores with those of banned words at -1e30 (before a softmax, so that probabilities are
 * those of what can be said). */
wr wr_nat_logits_without(const wr_nat *n, wr features, int count, const int *banned);

/* With frames: positions of each sentence, [B] -> [B], and of the padded batch. */
wr wr_nat_frame_lengths(const wr_nat *n, wr src_len);
wr_dim wr_nat_frame_dim(const wr_nat *n, wr_graph *g, wr_dim s);

/* The tokens that decoding begins with: the mask everywhere, but with framing bos_eos the begin and
 * end of sentence at both ends. In a graph: len [N] -> [N, T]; on the host: one sentence, tokens
 * [t_padded]. */
wr wr_nat_canvas(const wr_nat *n, wr len, wr_dim t);
void wr_nat_canvas_fill(const wr_nat *n, int len, int t_padded, int32_t *tokens);

/* Positions that the framing adds to the words of a target: 0, 1 or 2; those in front of them. */
int wr_nat_frame_tokens(const wr_nat *n);
int wr_nat_first_word(const wr_nat *n);

/* Of which source word (from 0) position t of so many is told with inputs `uniform`. */
int wr_nat_uniform_source(int source, int positions, int t);

/* ---- lengths ---- */

/* C. */
int wr_nat_length_classes(const wr_nat *n);

/* Class j of C stands for this number of positions (framing included), below 1: for none. */
int wr_nat_class_length(const wr_nat *n, int src_len, int index);
/* The class that training aims at: the length clamped into the range. */
int wr_nat_length_class(const wr_nat *n, int src_len, int len);

/* log p(T | x) of each class: [B, C]; -infinity for lengths below 1 and beyond max_positions. */
wr wr_nat_length_scores(const wr_nat *n, const wr_nat_encoding *e);

/* -log p of the right class: len [B] -> [B]. */
wr wr_nat_length_nll(const wr_nat *n, const wr_nat_encoding *e, wr len);

/* On the host: of one sentence's C scores, the k best lengths, best first (the shorter one at
 * ties), and their scores (may be NULL). Returns how many there are, at most k. */
int wr_nat_best_lengths(const wr_nat *n, int src_len, const double *scores, int k, int *lengths,
                        double *best);

#endif
