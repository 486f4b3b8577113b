/* main.c: the program `weir`: finds the subcommand and hands the arguments to it.
 *
 * A subcommand is offered when its source cli/NAME.c exists: CMakeLists.txt then defines
 * WEIR_HAVE_NAME, so that no row can point at nothing. */
#define _GNU_SOURCE
#include "cli/cli.h"
#include "graph/crash.h"
#include "models/recipe_nearest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct command {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
} command;

static const command COMMANDS[] = {
#ifdef WEIR_HAVE_SYNTH
    {"synth", "make a corpus: number names, damaged text, several translations", wr_cmd_synth},
#endif
#ifdef WEIR_HAVE_PREPARE
    {"prepare", "train subword models and encode a parallel corpus", wr_cmd_prepare},
#endif
#ifdef WEIR_HAVE_TRAIN
    {"train", "train the model of a recipe", wr_cmd_train},
#endif
#ifdef WEIR_HAVE_TRANSLATE
    {"translate", "translate text with a trained model", wr_cmd_translate},
#endif
#ifdef WEIR_HAVE_DISTILL
    {"distill", "make a dataset of a teacher's translations", wr_cmd_distill},
#endif
#ifdef WEIR_HAVE_SCORE
    {"score", "BLEU and chrF of a translation", wr_cmd_score},
#endif
#ifdef WEIR_HAVE_DIVERSITY
    {"diversity", "how much candidate translations differ", wr_cmd_diversity},
#endif
#ifdef WEIR_HAVE_LOSS
    {"loss", "an objective of one sentence, its alignment and gradient", wr_cmd_loss},
#endif
#ifdef WEIR_HAVE_MPLE
    {"mple", "what objectives pay for their targets and inputs, beside BLEU", wr_cmd_mple},
#endif
#ifdef WEIR_HAVE_EVALUATE
    {"evaluate", "loss terms of a trained model on data", wr_cmd_evaluate},
#endif
#ifdef WEIR_HAVE_BENCH
    {"bench", "time training steps or decoding", wr_cmd_bench},
#endif
#ifdef WEIR_HAVE_DRAW
    {"draw", "draw the graph of a model", wr_cmd_draw},
#endif
#ifdef WEIR_HAVE_PLOT
    {"plot", "the curves of training runs as a picture", wr_cmd_plot},
#endif
#ifdef WEIR_HAVE_REPORT
    {"report", "a training run as a page: curves, samples, configuration", wr_cmd_report},
#endif
#ifdef WEIR_HAVE_IMPORT
    {"import", "a model that another program trained, as a run directory", wr_cmd_import},
#endif
#ifdef WEIR_HAVE_INFO
    {"info", "parameters, configuration and scores of a model", wr_cmd_info},
#endif
#ifdef WEIR_HAVE_DOCTOR
    {"doctor", "what this machine offers and what is missing", wr_cmd_doctor},
#endif
};

static void print_usage(void) {
    printf("usage: weir COMMAND [arguments]\n"
           "Flow-based and other non-autoregressive sequence models: training and decoding.\n\n");
    for (size_t i = 0; i < WR_COUNT(COMMANDS); i++)
        printf("  %-10s %s\n", COMMANDS[i].name, COMMANDS[i].summary);
    printf("\n`weir COMMAND --help` tells the arguments of a command, `weir --version` the "
           "version.\n");
}

static wr_status unknown_command(const char *name, wr_error *err) {
    wr_nearest nearest = {.word = name};
    for (size_t i = 0; i < WR_COUNT(COMMANDS); i++)
        wr_nearest_try(&nearest, COMMANDS[i].name);
    if (nearest.best == NULL)
        return wr_fail(err, WR_ERR_USAGE, "unknown command '%s' (see `weir --help`)", name);
    return wr_fail(err, WR_ERR_USAGE, "unknown command '%s'; did you mean %s? (see `weir --help`)",
                   name, nearest.best);
}

/* Threads that wait for each other should spin for microseconds only: with its default of
 * milliseconds, libgomp makes a step several times slower as soon as another program wants a
 * processor. It reads the setting when it is loaded, so the program starts itself once more. */
static void spin_briefly(char **argv) {
    if (getenv("GOMP_SPINCOUNT") != NULL || getenv("OMP_WAIT_POLICY") != NULL) return;
    if (setenv("GOMP_SPINCOUNT", "1000", 1) == 0) execv("/proc/self/exe", argv);
    /* where that cannot be, the default serves */
}

int main(int argc, char **argv) {
    wr_error err = {0};
    spin_briefly(argv);
    if (wr_crash_handler(&err) != WR_OK) err = (wr_error){0}; /* crashes then tell nothing */
    if (argc < 2)
        return wr_cli_end(wr_fail(&err, WR_ERR_USAGE, "no command given (see `weir --help`)"),
                          &err);
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_usage();
        return wr_cli_end(WR_OK, NULL);
    }
    if (strcmp(name, "--version") == 0) {
        printf("weir %s\n", WEIR_VERSION);
        return wr_cli_end(WR_OK, NULL);
    }
    for (size_t i = 0; i < WR_COUNT(COMMANDS); i++)
        if (strcmp(name, COMMANDS[i].name) == 0) return COMMANDS[i].run(argc - 1, argv + 1);
    return wr_cli_end(unknown_command(name, &err), &err);
}
