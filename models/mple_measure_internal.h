/* mple_measure_internal.h: what the parts of mple_measure.h share. */
#ifndef WEIR_MODELS_MPLE_MEASURE_INTERNAL_H
#define WEIR_MODELS_MPLE_MEASURE_INTERNAL_H

#include "models/mple_measure.h"

/* The programs; see mple_measure.c for what they read and give. */
enum { WR__TERMS, WR__LENGTHS, WR__SAY, WR__MEASURE_PROGRAMS };
enum { WR__MEASURE_MULTIPLE = 4, WR__MEASURE_TOKENS = 2048 };

struct wr_measurer {
    wr_nat n;
    wr_nat_training t;
    int32_t update;
    wr_session *session;
    wr_program *program[WR__MEASURE_PROGRAMS];
};

/* Positions of the framing in front of the words, and words and an end that is said among `len`. */
static inline int wr__measure_inner(const wr_nat *n, int len, int *first) {
    *first = wr_nat_first_word(n);
    return n->framing == WR_RECIPE_FRAME_BOS_EOS ? len - 2 : len;
}

/* Compile a program where needed, and run it. */
wr_status wr__measure_run(wr_measurer *m, int which, int n, const wr_feed *feeds, wr_error *err);

/* log Q(Z | X) of one sentence: `visible` [len], of which `given` positions were drawn (those of
 * the framing among them); lp [len] of the target's words; work [2 len]. mple_inputs.c */
double wr__measure_log_q(const wr_measurer *m, int len, int given, const uint8_t *visible,
                         const double *lp, double *work);

/* How many of the sentences order[first ..n) make a batch of about max_tokens positions. */
size_t wr__measure_batch(const wr_sentence *src, const wr_sentence *tgt, const size_t *order,
                         size_t first, size_t n, size_t max_tokens);

#endif
