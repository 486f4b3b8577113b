/* run_search.h: translating with a run of any kind, as the command line says. */
#ifndef WEIR_CLI_RUN_SEARCH_H
#define WEIR_CLI_RUN_SEARCH_H

#include "cli/run_dir.h"
#include "models/draft.h"
#include "models/judge.h"

/* The rows of an option table that fill a wr_run_search; first those of non-autoregressive models.
 */
#define WR_RUN_SEARCH_NAT_OPTS(s)                                                                  \
    {"--iterations",                                                                               \
     WR_OPT_INT,                                                                                   \
     &(s)->iterations,                                                                             \
     .value = "I",                                                                                 \
     .min = 1,                                                                                     \
     .max = 1000,                                                                                  \
     .given = &(s)->iterations_given,                                                              \
     .help = "mask-predict: passes; without it as the recipe says"},                               \
        {"--adaptive", WR_OPT_FLAG, &(s)->adaptive,                                                \
         .help = "mask-predict: stop where a pass changes no word"},                               \
        {"--length-factor",                                                                        \
         WR_OPT_REAL,                                                                              \
         &(s)->length_factor,                                                                      \
         .value = "X",                                                                             \
         .min = 0.01,                                                                              \
         .max = 100,                                                                               \
         .given = &(s)->length_factor_given,                                                       \
         .help = "argmax, mask-predict: lengths are multiplied by it; without it as the recipe "   \
                 "says"},                                                                          \
        {"--length-window", WR_OPT_FLAG, &(s)->length_window,                                      \
         .help = "--lengths are those around the likeliest one"},                                  \
        {"--dedup", WR_OPT_FLAG, &(s)->dedup,                                                      \
         .help = "leave out words equal to the word before (non-autoregressive models)"},          \
        {"--lm", WR_OPT_STRING, &(s)->lm, .value = "FILE",                                         \
         .help = "ctc-beam: an n-gram model in the ARPA format over target pieces"},               \
        {"--lm-weight",                                                                            \
         WR_OPT_REAL,                                                                              \
         &(s)->lm_weight,                                                                          \
         .value = "X",                                                                             \
         .fallback = "0.3",                                                                        \
         .min = 0,                                                                                 \
         .max = 1000,                                                                              \
         .given = &(s)->lm_weight_given,                                                           \
         .help = "ctc-beam: weight of the n-gram model"},                                          \
        {"--length-bonus",                                                                         \
         WR_OPT_REAL,                                                                              \
         &(s)->length_bonus,                                                                       \
         .value = "X",                                                                             \
         .min = -1000,                                                                             \
         .max = 1000,                                                                              \
         .given = &(s)->length_bonus_given,                                                        \
         .help = "ctc-beam: added for each piece; without it as the recipe says"},                 \
    {                                                                                              \
        "--symbols", WR_OPT_INT, &(s)->symbols,                                                    \
            .value = "N", .min = 0, .max = 1e9, .given = &(s)->symbols_given,                      \
            .help =                                                                                \
                "ctc-beam: likeliest pieces of a frame, 0 for all; without it as the recipe says"  \
    }

#define WR_RUN_SEARCH_METHODS "greedy|beam|argmax|npd|iwd|mask-predict|ctc|ctc-beam"
#define WR_RUN_SEARCH_OPTS(s)                                                                      \
    {"--beam",                                                                                     \
     WR_OPT_INT,                                                                                   \
     &(s)->beam,                                                                                   \
     .value = "K",                                                                                 \
     .min = 1,                                                                                     \
     .max = 1000,                                                                                  \
     .given = &(s)->beam_given,                                                                    \
     .help = "beam: hypotheses kept; ctc-beam: prefixes kept; without it as the recipe says"},     \
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
         .help = "likeliest lengths tried; without it as the recipe says"},                        \
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
         .help = "a Transformer that chooses among the candidates"},                               \
        {"--seed",                                                                                 \
         WR_OPT_INT,                                                                               \
         &(s)->seed,                                                                               \
         .value = "N",                                                                             \
         .fallback = "1",                                                                          \
         .min = 0,                                                                                 \
         .max = 9007199254740992.0,                                                                \
         .help = "of the noise"},                                                                  \
        WR_RUN_SEARCH_NAT_OPTS(s), {                                                               \
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
    wr_nat_search_options nat;      /* of a non-autoregressive model, with what stands behind it: */
    wr_arpa *arpa;
    int32_t *word; /* of the n-gram model, for each target piece and the model's own two */
    wr_ctc_lm lm;
    wr_run rescorer;
    wr_judge *judge; /* by it */
    wr_rescorer rescoring;
    const wr_sentence *src;         /* of the call */
    struct wr_run_drafter *drafter; /* of a Transformer; NULL: none */
} wr_run_searcher;

/* Another model that drafts translations for the Transformer's greedy search. */
typedef struct wr_run_drafter {
    wr_run run;
    wr_run_searcher searcher;
    double seconds; /* of drafting */
    wr_draft_stats stats;
} wr_run_drafter;

/* `o` says how the run was opened; a rescorer is opened likewise, with its best parameters. Errors:
 * WR_ERR_USAGE for options that exclude each other or that the kind of run has no use for,
 * WR_ERR_INPUT for a rescorer that does not fit, and those of opening one. */
wr_status wr_run_searcher_open(wr_run *run, const wr_run_options *o, const wr_run_search *s,
                               wr_run_searcher *x, wr_error *err);
void wr_run_searcher_close(wr_run_searcher *x);

/* run_search_draft.c: a drafter that fits the searcher's run; the options `o` and `s` are those of
 * wr_run_searcher_open(). Greedy search with its drafts. */
wr_status wr__drafter_open(const wr_run_options *o, const wr_run_search *s, wr_run_searcher *x,
                           wr_error *err);
void wr__drafter_close(wr_run_searcher *x);
wr_status wr__drafter_translate(wr_run_searcher *x, const wr_sentence *src, size_t n,
                                wr_translations *out, wr_error *err);

/* Whether two runs have the same subword models. */
bool wr__same_pieces(const wr_run *a, const wr_run *b);

/* run_search_nat.c: the options of a non-autoregressive model, and its n-gram model. */
wr_status wr__nat_searcher_open(const wr_run_search *s, wr_run_searcher *x, wr_error *err);

/* Whether positions of a recipe's non-autoregressive model may say nothing. */
bool wr_run_nat_silent(const wr_recipe *recipe);

/* Translate: wr_search(), wr_flowseq_search() or wr_nat_search(). `progress` may be NULL. */
wr_status wr_run_translate(wr_run_searcher *x, const wr_sentence *src, size_t n,
                           void (*progress)(void *context, size_t done, size_t total),
                           void *context, wr_translations *out, wr_error *err);

#endif
