/* run_dir.h: a run directory opened for translating and scoring: recipe, subword models,
 * parameters.
 */
#ifndef WEIR_CLI_RUN_DIR_H
#define WEIR_CLI_RUN_DIR_H

#include "cli/cli.h"
#include "data/subword.h"
#include "models/flowseq_decoder.h"
#include "models/nat_decoder.h"
#include "models/search.h"

/* How to open a run, from the command line. */
typedef struct wr_run_options {
    const char *dir, *checkpoint, *device; /* checkpoint: best, last, average or a number */
    int64_t threads;                       /* 0: all processors */
    const wr_list *set;                    /* "key=value", may be NULL */
    bool trap_nan;                         /* stop at the first node that makes a NaN */
} wr_run_options;

/* What --trap-nan says in every command. */
#define WR_TRAP_HELP                                                                               \
    "stop at the first row that makes a NaN, or an infinity that reaches a result; names it with " \
    "line, scope and operands (slower)"

/* An open run, of a model of one kind. Zero-initialise; wr_run_close() afterwards, also
 * when opening failed. */
typedef struct wr_run {
    wr_recipe recipe;
    int src_vocab, tgt_vocab;
    wr_subword *src, *tgt; /* the same one twice when joint; NULL in an imported run without them */
    wr_session *session;
    wr_decoder *decoder; /* of a Transformer; two of the three are NULL */
    wr_flowseq_decoder *flowseq;
    wr_nat_decoder *nat;
} wr_run;

/* Errors: WR_ERR_IO for missing files; WR_ERR_INPUT for damaged ones, a recipe that does not fit
 * the parameters, an unknown device. */
wr_status wr_run_open(const wr_run_options *o, wr_run *run, wr_error *err);
void wr_run_close(wr_run *run);

/* WR_ERR_INPUT for a run without subword models; `dir` is for the message. */
wr_status wr_run_needs_text(const wr_run *run, const char *dir, wr_error *err);

/* "a Transformer" and so on. */
const char *wr_run_kind(const wr_run *run);

/* The most tokens of a source that the model takes, its end included. */
int wr_run_max_len(const wr_run *run);

/* What the command line says about searching; 0 and NULL: as the recipe says. */
typedef struct wr_run_search {
    const char *method; /* greedy or beam; argmax, npd or iwd; or of wr_nat_method_name() */
    int64_t beam, nbest, max_sentences, lengths, samples, seed, iterations, symbols;
    double alpha, temperature, length_factor, lm_weight, length_bonus;
    bool beam_given, alpha_given, lengths_given, samples_given, temperature_given;
    bool iterations_given, symbols_given, length_factor_given, lm_weight_given, length_bonus_given;
    bool length_window, dedup, adaptive;
    const char *rescorer; /* a run's directory */
    const char *lm;       /* an n-gram model's file */
    const char *draft;    /* a run's directory */
} wr_run_search;

/* The first option given that only non-autoregressive models have; NULL: none. */
const char *wr_run_search_nat_option(const wr_run_search *s);

/* The recipe's options with those of the command line, for a Transformer. Errors: WR_ERR_USAGE for
 * ones that exclude each other or are not for a Transformer; WR_ERR_INPUT for another model. */
wr_status wr_run_search_options(const wr_run *run, const wr_run_search *s, wr_search_options *o,
                                wr_error *err);

/* Append the text of a translation as one line without its end: line breaks and NULs that byte
 * pieces can spell become spaces. */
wr_status wr_run_text(const wr_run *run, const wr_hypothesis *h, wr_str *out, wr_error *err);

#endif
