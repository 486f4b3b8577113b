/* mple.h: what the parts of `weir mple` share: the options, the numbers of a run, the report. */
#ifndef WEIR_CLI_MPLE_H
#define WEIR_CLI_MPLE_H

#include "cli/run_search.h"
#include "data/dataset.h"
#include "data/text.h"
#include "models/mple_measure.h"

typedef struct wr_mple_options {
    wr_list runs, targets, refs;
    const char *data, *split, *predictor, *autoregressive, *known, *json, *plot;
    const char *checkpoint, *device;
    double beta;
    int64_t threads, seed, sentences, fit_sentences;
    bool no_translate;
} wr_mple_options;

/* Sentences of one side: ids in `pool`. */
typedef struct wr_mple_side {
    wr_ids pool;
    size_t *at;         /* [n + 1] where they begin */
    wr_sentence *words; /* [n] */
} wr_mple_side;

/* What all runs are measured on. */
typedef struct wr_mple_data {
    const wr_mple_options *o;
    wr_dataset *set;
    const wr_pairs *pairs; /* of the split */
    size_t n;              /* sentences measured */
    wr_mple_side src, own; /* the dataset's */
    wr_mple_side *ref;     /* [refs] */
    size_t refs;
    wr_mple_side *target; /* [targets] of --targets */
    size_t targets;
    /* the run of --predictor: log P_tok of the own targets' words; NULL: none */
    wr_run predictor;
    wr_measurer *tokens;
    wr_bar bar;
} wr_mple_data;

/* One run. Costs in bits a token; NAN: not measured. */
typedef struct wr_mple_row {
    const char *run;       /* as given */
    const char *objective; /* its name */
    bool approximate;      /* L_NAT is a sum over alignments */
    bool vanilla;          /* cross-entropy, nothing shown: what the estimate of C needs */
    bool own_targets;      /* measured on the dataset's own */
    double l_nat, l_nat_error, l_target, l_input, sum;
    double bleu, bleu_sampled, sure, sure_sampled, mask_loss;
    double own_nats; /* -log P(target | X) of all sentences */
    double tokens;   /* positions of all */
    double words;    /* pieces of all targets */
    size_t left_out; /* sentences that are infeasible */
} wr_mple_row;

/* mple_run.c: open the run, measure it, translate with it. */
wr_status wr__mple_measure(wr_mple_data *d, size_t number, wr_mple_row *row, wr_error *err);

/* mple_data.c */
wr_status wr__mple_open_data(const wr_mple_options *o, wr_mple_data *d, wr_error *err);
void wr__mple_close_data(wr_mple_data *d);
/* WR_ERR_INPUT unless the run has the dataset's subword models. */
wr_status wr__mple_same_models(const wr_mple_data *d, const wr_run *run, const char *dir,
                               wr_error *err);
/* The model of an open run as something to measure. */
wr_status wr__mple_measurer(const wr_run *run, const char *dir, wr_measurer **m, wr_error *err);

/* What the report tells besides the rows; NAN: not known. Bits a token. */
typedef struct wr_mple_summary {
    const char *estimate_nat, *estimate_at; /* runs */
    double estimate;                        /* of C */
    double known, floor;                    /* C and the sum of H(y_i|X), exact */
    double r, r_sampled;                    /* Pearson's, of the sum with BLEU */
} wr_mple_summary;

/* mple_report.c: a table on stdout, and the files that are asked for. */
wr_status wr__mple_report(const wr_mple_options *o, const wr_mple_row *row, size_t n,
                          const wr_mple_summary *s, wr_error *err);

#endif
