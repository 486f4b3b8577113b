/* distill_dynamic.h: several candidate targets for each source, and the choice among them (dynamic
 * distillation, Huang et al. 2022). Letters: n sources, C candidates. */
#ifndef WEIR_CLI_DISTILL_DYNAMIC_H
#define WEIR_CLI_DISTILL_DYNAMIC_H

#include "cli/run_dir.h"
#include "data/dataset.h"
#include "data/text.h"

/* What the command line says. */
typedef struct wr_dynamic_options {
    wr_list candidates; /* files of translations, a candidate each */
    const char *gamma;  /* "0.7,0.6,1.3"; NULL: 1 for each */
    const char *gamma_scale, *nll, *student, *student_checkpoint, *table;
    double beta;
} wr_dynamic_options;

/* The most candidates of a source. */
enum { WR_CANDIDATES_MOST = 32 };

/* Candidate k of source i, or none. Zero-initialise; wr__candidates_free() afterwards. */
typedef struct wr_candidates {
    size_t n;
    int count;         /* C */
    const char **name; /* [C] where they come from; not owned */
    wr_str *text;      /* [C] lines, each ends in NUL */
    size_t *at;        /* [C, n] 1 + where a line begins; 0: none */
} wr_candidates;

wr_status wr__candidates_begin(wr_candidates *c, size_t n, int count, wr_error *err);
wr_status wr__candidates_set(wr_candidates *c, int k, size_t i, const char *text, size_t len,
                             wr_error *err);
/* NULL when there is none; valid until the next wr__candidates_set(). */
const char *wr__candidates_get(const wr_candidates *c, int k, size_t i);
void wr__candidates_free(wr_candidates *c);

/* The weights of C candidates as the command line gives them; WR_ERR_USAGE for another count, or
 * for what is no list of numbers of 0 or more. */
wr_status wr__dynamic_gamma(const char *text, int count, double *gamma, wr_error *err);

/* Choose for each source: chosen [n] < C. The last candidate is there for every source. `run` says
 * how to open the student. Prints how often each was chosen; writes the table if one is asked for.
 * Errors: those of the options, of the student, of writing; memory. */
wr_status wr__dynamic_choose_all(const wr_dynamic_options *o, const wr_run_options *run,
                                 const wr_candidates *c, const wr_text *source,
                                 const wr_dataset *data, int *chosen, wr_error *err);

#endif
