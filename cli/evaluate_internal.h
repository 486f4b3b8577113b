/* evaluate_internal.h: what the parts of `weir evaluate` share. */
#ifndef WEIR_CLI_EVALUATE_INTERNAL_H
#define WEIR_CLI_EVALUATE_INTERNAL_H

#include "cli/run_search.h"
#include "data/dataset.h"
#include "data/text.h"

enum { WR_EVALUATE_SRC, WR_EVALUATE_TGT, WR_EVALUATE_SIDES };

typedef struct wr_evaluate_options {
    wr_run_options run;
    wr_run_search search;
    const char *data, *split, *posterior, *ids[WR_EVALUATE_SIDES];
    int64_t max_tokens, posterior_samples;
    bool per_sentence, max_tokens_given;
    wr_list set;
} wr_evaluate_options;

/* The pairs come from a dataset, or from files of ids. */
typedef struct wr_evaluation {
    const wr_evaluate_options *o;
    wr_run run;
    wr_run_searcher searcher;
    wr_dataset *data;
    const wr_pairs *pairs;                    /* NULL with files of ids */
    wr_text text[WR_EVALUATE_SIDES];          /* the files */
    wr_ids pool[WR_EVALUATE_SIDES];           /* their ids */
    size_t *from[WR_EVALUATE_SIDES];          /* [n] where a line's ids begin in the pool */
    wr_sentence *sentence[WR_EVALUATE_SIDES]; /* [n] */
    size_t n;
    wr_translations out;
    wr_bar bar;
} wr_evaluation;

/* BLEU and chrF of one translation for each pair of the dataset. */
typedef struct wr_evaluate_scores {
    double bleu, chrf;
} wr_evaluate_scores;
wr_status wr__evaluate_compare(const wr_evaluation *j, const wr_translations *out,
                               wr_evaluate_scores *scores, wr_error *err);

/* Translate all sources as the command line says, and compare. */
wr_status wr__evaluate_translate(wr_evaluation *j, wr_evaluate_scores *scores, wr_error *err);

/* For the progress of long work; `context` is the evaluation. */
void wr__evaluate_progress(void *context, size_t done, size_t total);

/* Measure and print what a FlowSeq has; evaluate_flowseq.c. */
wr_status wr__evaluate_flowseq(wr_evaluation *e, wr_error *err);

/* The same for a non-autoregressive model; evaluate_nat.c. */
wr_status wr__evaluate_nat(wr_evaluation *e, wr_error *err);

/* A line of ids as a FlowSeq reads it: FILE:LINE says what is wrong with it. */
wr_status wr__evaluate_check_line(const wr_evaluation *e, int side, size_t line, wr_error *err);

#endif
