/* run_dir.h: a run directory opened for translating and scoring: recipe, subword models,
 * parameters.
 */
#ifndef WEIR_CLI_RUN_DIR_H
#define WEIR_CLI_RUN_DIR_H

#include "cli/cli.h"
#include "data/subword.h"
#include "models/search.h"

/* How to open a run, from the command line. */
typedef struct wr_run_options {
    const char *dir, *checkpoint, *device; /* checkpoint: best, last, average or a number */
    int64_t threads;                       /* 0: all processors */
    const wr_list *set;                    /* "key=value", may be NULL */
} wr_run_options;

/* An open run. Zero-initialise; wr_run_close() afterwards, also when opening failed. */
typedef struct wr_run {
    wr_recipe recipe;
    wr_subword *src, *tgt; /* the same one twice when joint */
    wr_session *session;
    wr_decoder *decoder;
} wr_run;

/* Errors: WR_ERR_IO for missing files; WR_ERR_INPUT for damaged ones, a recipe that does not fit
 * the parameters, an unknown device. */
wr_status wr_run_open(const wr_run_options *o, wr_run *run, wr_error *err);
void wr_run_close(wr_run *run);

/* What the command line says about searching; 0 and NULL: as the recipe says. */
typedef struct wr_run_search {
    const char *method; /* greedy or beam */
    int64_t beam, nbest, max_sentences;
    double alpha;
    bool beam_given, alpha_given;
} wr_run_search;

/* The recipe's options with those of the command line. Errors: WR_ERR_USAGE for ones that exclude
 * each other. */
wr_status wr_run_search_options(const wr_run *run, const wr_run_search *s, wr_search_options *o,
                                wr_error *err);

/* Append the text of a translation as one line without its end: line breaks and NULs that byte
 * pieces can spell become spaces. */
wr_status wr_run_text(const wr_run *run, const wr_hypothesis *h, wr_str *out, wr_error *err);

#endif
