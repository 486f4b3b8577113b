/* nat_reveal.c: see nat_reveal.h.
 *
 * Host functions get all they depend on as operands: options as constants, random numbers of the
 * session. A sentence takes one number for how many and one per position for which. */
#include "models/nat_reveal.h"

#include "graph/op.h"
#include "data/subword.h"
#include "models/objectives/alignments.h"
#include "models/objectives/glat.h"
#include "ops/host.h"
#include "ops/layout.h"
#include "ops/random_ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- one sentence ---- */

static int limited(int n, int least, int most) { return n < least ? least : n > most ? most : n; }

int wr_nat_masked_count(const wr_nat_revealing *o, int len, int specials, double u) {
    int words = len - specials;
    if (words < 1) return 0;
    switch (o->masking) {
    case WR_RECIPE_MASKING_UNIFORM:
    case WR_RECIPE_MASKING_FAIRSEQ: /* the same, as begins and ends are not counted */
        return limited(1 + (int)(u * words), 1, words);
    case WR_RECIPE_MASKING_MASK_PREDICT:
        return words == 1 ? 1 : limited(1 + (int)(u * (words - 1)), 1, words - 1);
    case WR_RECIPE_MASKING_MPLE:
        return limited(words - (int)(u * words), 1, words);
    case WR_RECIPE_MASKING_FIXED:
        break;
    }
    return limited(words - (int)(o->visible * words), 1, words);
}

int wr_nat_glanced_count(const wr_nat_revealing *o, const int32_t *said, const int32_t *tgt,
                         int len, double update, int32_t *row) {
    double ratio = wr_glance_ratio(o->glance_from, o->glance_to, o->glance_updates, update);
    if (o->glancing == WR_RECIPE_GLANCE_FIXED) return wr_glance_count(ratio, len);
    if (o->glancing == WR_RECIPE_GLANCE_LEVENSHTEIN)
        return wr_glance_count(ratio, wr_levenshtein_distance(said, len, tgt, len, row));
    return wr_glance_count(ratio, wr_hamming_distance(said, tgt, len));
}

static wr_glance_by draw_by(wr_recipe_glancing glancing) {
    if (glancing == WR_RECIPE_GLANCE_P_REF) return WR_GLANCE_P_REF;
    return glancing == WR_RECIPE_GLANCE_NOT_P_REF ? WR_GLANCE_NOT_P_REF : WR_GLANCE_UNIFORM;
}

bool wr_nat_glance_needs_lp(const wr_nat_revealing *o) {
    return draw_by(o->glancing) != WR_GLANCE_UNIFORM;
}

/* ---- operands ---- */

/* Options as one constant operand. */
enum { MASK, FRAMED, MASKING, VISIBLE, GLANCING, FROM, TO, UPDATES, OPTIONS };

static wr options_of(const wr_nat *n, const wr_nat_revealing *o, wr_graph *g) {
    double x[OPTIONS] = {[MASK] = wr_nat_mask(n),  [FRAMED] = n->framing == WR_RECIPE_FRAME_BOS_EOS,
                         [MASKING] = o->masking,   [VISIBLE] = o->visible,
                         [GLANCING] = o->glancing, [FROM] = o->glance_from,
                         [TO] = o->glance_to,      [UPDATES] = o->glance_updates};
    return wr_const(g, WR_F64, 1, &(int64_t){OPTIONS}, x);
}

static wr_nat_revealing options_from(const wr_tensor *t) {
    const double *x = t->data;
    return (wr_nat_revealing){.masking = (wr_recipe_masking)x[MASKING],
                              .visible = x[VISIBLE],
                              .glancing = (wr_recipe_glancing)x[GLANCING],
                              .glance_from = x[FROM],
                              .glance_to = x[TO],
                              .glance_updates = (int)x[UPDATES]};
}

static double get(const wr_tensor *t, int64_t i) {
    if (t->dtype == WR_F32) return (double)((const float *)t->data)[i];
    return t->dtype == WR_F64 ? ((const double *)t->data)[i] : ((const int32_t *)t->data)[i];
}

static void put(const wr_tensor *t, int64_t i, double x) {
    if (t->dtype == WR_F32) ((float *)t->data)[i] = (float)x;
    if (t->dtype == WR_F64) ((double *)t->data)[i] = x;
    if (t->dtype == WR_I32) ((int32_t *)t->data)[i] = (int32_t)x;
}

/* What all host functions have in common: operands PLACES (whose sizes are [B, T]) and OPTIONS_IN,
 * random numbers [B, T] and [B]; outputs tokens [B, T], weight [B, T], count [B]. */
enum { NUMBERS, FIRST_NUMBER, OPTIONS_IN, LEN, TGT, TGT_LEN, SAID, LP, UPDATE, OPERANDS };
enum { TOKENS, WEIGHT, COUNT, OUTPUTS };

static bool shape(void *context, wr_graph *g, int n_in, const wr_type *in, wr_type *out,
                  const char **why) {
    (void)context;
    (void)g;
    (void)n_in;
    (void)why;
    out[WEIGHT] = in[NUMBERS];
    out[TOKENS] = in[NUMBERS];
    out[TOKENS].dtype = WR_I32;
    out[COUNT] = in[FIRST_NUMBER];
    return true;
}

/* Numbers of random rows are for [B, T] of the weights' dtype. */
static wr_nat_given call(const wr_nat *n, const wr_host_fn *fn, wr_dim b, wr_dim t, wr operand[],
                         int count) {
    wr_graph *g = operand[LEN].g;
    operand[NUMBERS] = wr_uniform(g, 0.0, 1.0, n->dtype, WR_DIMS(b, t));
    operand[FIRST_NUMBER] = wr_uniform(g, 0.0, 1.0, n->dtype, WR_DIMS(b));
    if (count > LP && wr_is_poison(operand[LP])) operand[LP] = operand[NUMBERS]; /* not read */
    wr given = wr_host(fn, count, operand);
    return (wr_nat_given){
        .tokens = given, .weight = wr_output(given, WEIGHT), .count = wr_output(given, COUNT)};
}

/* Memory for one sentence of so many positions. */
typedef struct desk {
    double *u, *lp, *key;
    uint8_t *chosen;
    int32_t *row, *path;
    void *workspace;
    void *memory;
} desk;

static wr_status desk_open(desk *d, int64_t positions, size_t workspace, wr_error *err) {
    size_t n = (size_t)positions + 1;
    size_t bytes = n * (3 * sizeof(double) + 2 * sizeof(int32_t) * 2 + 8) + workspace;
    d->memory = malloc(bytes);
    if (d->memory == NULL) return wr_fail_memory(err, "words that are given", bytes);
    d->u = d->memory;
    d->lp = d->u + n;
    d->key = d->lp + n;
    d->row = (int32_t *)(d->key + n);
    d->path = d->row + n;
    d->workspace = d->path + 3 * n; /* row, path and two more: a multiple of eight bytes each */
    d->chosen = (uint8_t *)d->workspace + workspace;
    return WR_OK;
}

/* Sentence b of the batch is given `chosen`; what is in front of and behind words in framing
 * bos_eos is given where `ends`. */
typedef struct sentence {
    const wr_tensor *out;
    int64_t b, T;
    int len;
    int32_t mask;
} sentence;

static void give(const sentence *s, int t, int32_t word, bool given) {
    int64_t at = s->b * s->T + t;
    ((int32_t *)s->out[TOKENS].data)[at] = given ? word : s->mask;
    if (s->out[WEIGHT].data != NULL) put(&s->out[WEIGHT], at, given ? 0 : 1);
}

static sentence begin_sentence(const wr_tensor *in, const wr_tensor *out, int64_t b) {
    sentence s = {.out = out,
                  .b = b,
                  .T = in[NUMBERS].dim[1],
                  .len = ((const int32_t *)in[LEN].data)[b],
                  .mask = (int32_t)((const double *)in[OPTIONS_IN].data)[MASK]};
    if (s.len > s.T) s.len = (int)s.T;
    for (int64_t t = 0; t < s.T; t++) {
        ((int32_t *)out[TOKENS].data)[b * s.T + t] = s.mask;
        if (out[WEIGHT].data != NULL) put(&out[WEIGHT], b * s.T + t, t < s.len ? 1 : 0);
    }
    if (out[COUNT].data != NULL) put(&out[COUNT], b, 0);
    return s;
}

/* The ends of framing bos_eos are always inputs. */
static void show_ends(const wr_tensor *in, const sentence *s) {
    int32_t *tokens = (int32_t *)s->out[TOKENS].data + s->b * s->T;
    if (((const double *)in[OPTIONS_IN].data)[FRAMED] == 0 || s->len < 1) return;
    tokens[s->len - 1] = WR_EOS_ID;
    tokens[0] = WR_BOS_ID;
}

static void read_numbers(const wr_tensor *in, const sentence *s, double *u) {
    for (int t = 0; t < s->len; t++)
        u[t] = get(&in[NUMBERS], s->b * s->T + t);
}

typedef void (*sentence_fn)(const wr_tensor *in, const sentence *s, desk *d);

static wr_status each_sentence(const wr_tensor *in, const wr_tensor *out, sentence_fn give_words,
                               size_t workspace, wr_error *err) {
    desk d = {0};
    wr_status status = desk_open(&d, in[NUMBERS].dim[1], workspace, err);
    if (status != WR_OK) return status;
    for (int64_t b = 0; b < in[NUMBERS].dim[0]; b++) {
        sentence s = begin_sentence(in, out, b);
        give_words(in, &s, &d);
    }
    free(d.memory);
    return WR_OK;
}

/* ---- CMLM ---- */

static void mask_sentence(const wr_tensor *in, const sentence *s, desk *d) {
    const wr_nat_revealing o = options_from(&in[OPTIONS_IN]);
    const int32_t *tgt = (const int32_t *)in[TGT].data + s->b * s->T;
    int ends = ((const double *)in[OPTIONS_IN].data)[FRAMED] != 0 ? 1 : 0;
    int words = s->len - 2 * ends;
    int masked = wr_nat_masked_count(&o, s->len, 2 * ends, get(&in[FIRST_NUMBER], s->b));
    if (words < 1) return;
    read_numbers(in, s, d->u);
    wr_glance_choose(WR_GLANCE_UNIFORM, words, masked, NULL, d->u + ends, d->key, d->chosen);
    for (int t = 0; t < s->len; t++) {
        bool word = t >= ends && t < ends + words;
        give(s, t, tgt[t], !word || !d->chosen[t - ends]);
    }
    if (s->out[COUNT].data != NULL) put(&s->out[COUNT], s->b, s->len - masked);
}

static wr_status run_mask(void *context, int n_in, const wr_tensor *in, int n_out,
                          const wr_tensor *out, int threads, wr_error *err) {
    (void)context;
    (void)n_in;
    (void)n_out;
    (void)threads;
    return each_sentence(in, out, mask_sentence, 0, err);
}

static const wr_host_fn MASK_WORDS = {
    .name = "mask_words", .n_out = OUTPUTS, .shape = shape, .run = run_mask, .stops = true};

wr_nat_given wr_nat_mask_words(const wr_nat *n, const wr_nat_revealing *o, wr tgt, wr len) {
    wr operand[OPERANDS] = {[OPTIONS_IN] = options_of(n, o, tgt.g), [LEN] = len, [TGT] = tgt};
    return call(n, &MASK_WORDS, wr_dim_of(tgt, 0), wr_dim_of(tgt, 1), operand, TGT + 1);
}

/* ---- glancing ---- */

static void glance_sentence(const wr_tensor *in, const sentence *s, desk *d) {
    const wr_nat_revealing o = options_from(&in[OPTIONS_IN]);
    const int32_t *tgt = (const int32_t *)in[TGT].data + s->b * s->T;
    const int32_t *said = (const int32_t *)in[SAID].data + s->b * s->T;
    int count = wr_nat_glanced_count(&o, said, tgt, s->len, get(&in[UPDATE], 0), d->row);
    read_numbers(in, s, d->u);
    for (int t = 0; t < s->len; t++)
        d->lp[t] = get(&in[LP], s->b * s->T + t); /* random numbers for the uniform draw */
    wr_glance_choose(draw_by(o.glancing), s->len, count, d->lp, d->u, d->key, d->chosen);
    for (int t = 0; t < s->len; t++)
        give(s, t, tgt[t], d->chosen[t]);
    show_ends(in, s);
    if (s->out[COUNT].data != NULL) put(&s->out[COUNT], s->b, count < s->len ? count : s->len);
}

static wr_status run_glance(void *context, int n_in, const wr_tensor *in, int n_out,
                            const wr_tensor *out, int threads, wr_error *err) {
    (void)context;
    (void)n_in;
    (void)n_out;
    (void)threads;
    return each_sentence(in, out, glance_sentence, 0, err);
}

static const wr_host_fn GLANCE = {
    .name = "glance", .n_out = OUTPUTS, .shape = shape, .run = run_glance, .stops = true};

wr_nat_given wr_nat_glance(const wr_nat *n, const wr_nat_revealing *o,
                           const wr_nat_first_pass *first, wr tgt, wr len) {
    wr operand[OPERANDS] = {[OPTIONS_IN] = options_of(n, o, tgt.g),
                            [LEN] = len,
                            [TGT] = tgt,
                            [TGT_LEN] = len,
                            [SAID] = first->said,
                            [LP] = first->lp,
                            [UPDATE] = first->update};
    return call(n, &GLANCE, wr_dim_of(tgt, 0), wr_dim_of(tgt, 1), operand, OPERANDS);
}

/* ---- glancing at frames ---- */

/* The target word of each frame in turn: where the path says nothing, the next one. Returns at how
 * many frames the first pass said what the path does. */
static int words_of_frames(const int32_t *path, const int32_t *said, const int32_t *tgt, int words,
                           int frames, int32_t blank, int32_t *word) {
    int right = 0, next = 0;
    for (int t = 0; t < frames; t++) {
        right += said[t] == (path[t] < 0 ? blank : tgt[path[t]]);
        if (path[t] >= 0) next = path[t] + 1;
        int of = path[t] >= 0 ? path[t] : next;
        word[t] = tgt[of < words ? of : words - 1];
    }
    return right;
}

static void glance_frames_sentence(const wr_tensor *in, const sentence *s, desk *d) {
    const wr_nat_revealing o = options_from(&in[OPTIONS_IN]);
    int64_t N = in[TGT].dim[1], C = in[LP].dim[2];
    const int32_t *tgt = (const int32_t *)in[TGT].data + s->b * N;
    int words = ((const int32_t *)in[TGT_LEN].data)[s->b], given = 0;
    show_ends(in, s); /* also of a sentence that is given nothing */
    if (words < 1 || s->len < wr_ctc_least_positions(tgt, words)) return;
    double *lp = (double *)d->workspace;
    for (int t = 0; t < s->len; t++)
        for (int64_t c = 0; c < C; c++)
            lp[t * C + c] = get(&in[LP], (s->b * s->T + t) * C + c);
    wr_gathered costs = {.positions = s->len,
                         .targets = words,
                         .lp = lp,
                         .stride = (size_t)C,
                         .extra = (int)(C - 1)};
    if (!(wr_ctc_best(&costs, tgt, d->path, lp + s->T * C) < INFINITY)) return;
    int right = words_of_frames(d->path, (const int32_t *)in[SAID].data + s->b * s->T, tgt, words,
                                s->len, s->mask + 1, d->row);
    double share =
        wr_glance_ratio(o.glance_from, o.glance_to, o.glance_updates, get(&in[UPDATE], 0));
    if (o.glancing != WR_RECIPE_GLANCE_FIXED) share *= (double)(s->len - right) / s->len;
    read_numbers(in, s, d->u);
    for (int t = 0; t < s->len; t++) {
        give(s, t, d->row[t], d->u[t] < share);
        given += d->u[t] < share;
    }
    show_ends(in, s);
    if (s->out[COUNT].data != NULL) put(&s->out[COUNT], s->b, given);
}

static wr_status run_glance_frames(void *context, int n_in, const wr_tensor *in, int n_out,
                                   const wr_tensor *out, int threads, wr_error *err) {
    (void)context;
    (void)n_in;
    (void)n_out;
    (void)threads;
    int64_t T = in[NUMBERS].dim[1], C = in[LP].dim[2];
    size_t lp = (size_t)(T * C) * sizeof(double);
    size_t workspace = lp + wr_ctc_workspace((int)T, (int)in[TGT].dim[1]);
    return each_sentence(in, out, glance_frames_sentence, workspace, err);
}

static const wr_host_fn GLANCE_FRAMES = {.name = "glance_frames",
                                         .n_out = OUTPUTS,
                                         .shape = shape,
                                         .run = run_glance_frames,
                                         .stops = true};

wr_nat_given wr_nat_glance_frames(const wr_nat *n, const wr_nat_revealing *o,
                                  const wr_nat_first_pass *first, wr tgt, wr tgt_len, wr frames) {
    wr operand[OPERANDS] = {[OPTIONS_IN] = options_of(n, o, tgt.g),
                            [LEN] = frames,
                            [TGT] = tgt,
                            [TGT_LEN] = tgt_len,
                            [SAID] = first->said,
                            [LP] = first->lp,
                            [UPDATE] = first->update};
    return call(n, &GLANCE_FRAMES, wr_dim_of(first->said, 0), wr_dim_of(first->said, 1), operand,
                OPERANDS);
}
