/* run_search.h: translating with a run of either kind, as the command line says. */
#ifndef WEIR_CLI_RUN_SEARCH_H
#define WEIR_CLI_RUN_SEARCH_H

#include "cli/run_dir.h"

/* The rows of an option table that fill a wr_run_search. */
#define WR_RUN_SEARCH_METHODS "greedy|beam|argmax|npd|iwd"
#define WR_RUN_SEARCH_OPTS(s)                                                                      \
    {"--beam",                                                                                     \
     WR_OPT_INT,                                                                                   \
     &(s)->beam,                                                                                   \
     .value = "K",                                                                                 \
     .min = 1,                                                                                     \
     .max = 1000,                                                                                  \
     .given = &(s)->beam_given,                                                                    \
     .help = "hypotheses kept; without it as the recipe says"},                                    \
        {"--alpha",                                                                                \
         WR_OPT_REAL,                                                                              \
         &(s)->alpha,                                                                              \
         .min = 0,                                                                                 \
         .max = 10,                                                                                \
         .given = &(s)->alpha_given,                                                               \
         .help = "exponent of the length normalisation; without it as the recipe says"},           \
        {"--lengths",                                                                              \
         WR_OPT_INT,                                                                               \
         &(s)->lengths,                                                                            \
         .value = "L",                                                                             \
         .min = 1,                                                                                 \
         .max = 100000,                                                                            \
         .given = &(s)->lengths_given,                                                             \
         .help = "npd, iwd: likeliest lengths tried; without it as the recipe says"},              \
        {"--samples",                                                                              \
         WR_OPT_INT,                                                                               \
         &(s)->samples,                                                                            \
         .value = "R",                                                                             \
         .min = 1,                                                                                 \
         .max = 100000,                                                                            \
         .given = &(s)->samples_given,                                                             \
         .help = "npd, iwd: candidates of each length; without it as the recipe says"},            \
        {"--temperature",                                                                          \
         WR_OPT_REAL,                                                                              \
         &(s)->temperature,                                                                        \
         .value = "X",                                                                             \
         .min = 0,                                                                                 \
         .max = 1000,                                                                              \
         .given = &(s)->temperature_given,                                                         \
         .help = "npd, iwd: factor of the prior's noise; without it as the recipe says"},          \
        {"--rescorer", WR_OPT_STRING, &(s)->rescorer, .value = "RUN",                              \
         .help = "npd: a Transformer that chooses among the candidates"},                          \
        {"--seed",                                                                                 \
         WR_OPT_INT,                                                                               \
         &(s)->seed,                                                                               \
         .value = "N",                                                                             \
         .fallback = "1",                                                                          \
         .min = 0,                                                                                 \
         .max = 9007199254740992.0,                                                                \
         .help = "of the noise"},                                                                  \
    {                                                                                              \
        "--max-sentences", WR_OPT_INT, &(s)->max_sentences,                                        \
            .value = "B", .min = 1, .max = 100000,                                                 \
            .help = "sentences translated together; without it as the recipe says"                 \
    }

/* How to translate with a run. Zero-initialise; wr_run_searcher_close() afterwards, also when
 * opening failed. */
typedef struct wr_run_searcher {
    wr_run *run;
    int nbest;
    wr_search_options beam;         /* of a Transformer; the normalisation of the rescorer */
    wr_flowseq_search_options flow; /* of a FlowSeq */
    wr_run rescorer;
    wr_rescorer judge;
    const wr_sentence *src; /* of the call */
} wr_run_searcher;

/* `o` says how the run was opened; a rescorer is opened likewise, with its best parameters. Errors:
 * WR_ERR_USAGE for options that exclude each other or that the kind of run has no use for,
 * WR_ERR_INPUT for a rescorer that does not fit, and those of opening one. */
wr_status wr_run_searcher_open(wr_run *run, const wr_run_options *o, const wr_run_search *s,
                               wr_run_searcher *x, wr_error *err);
void wr_run_searcher_close(wr_run_searcher *x);

/* Translate: wr_search() or wr_flowseq_search(). `progress` may be NULL. */
wr_status wr_run_translate(wr_run_searcher *x, const wr_sentence *src, size_t n,
                           void (*progress)(void *context, size_t done, size_t total),
                           void *context, wr_translations *out, wr_error *err);

#endif
