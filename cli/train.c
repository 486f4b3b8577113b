/* train.c: `weir train`. */
#include "cli/run_dir.h"
#include "cli/trainer.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct options {
    wr_train_options train;
    int64_t seed, max_updates;
    double max_minutes;
    bool seed_given, updates_given, minutes_given;
    wr_list set;
} options;

/* Shortcuts are settings like the others, and the last ones to be made. */
static wr_status add_setting(wr_list *set, bool given, char *text) {
    if (!given) return WR_OK;
    if (!wr_grow(&set->items, &set->cap, set->n + 1, sizeof *set->items)) return WR_ERR_MEMORY;
    set->items[set->n++] = text;
    return WR_OK;
}

static wr_status run(options *o, wr_error *err) {
    char seed[64], updates[64], minutes[64];
    snprintf(seed, sizeof seed, "train.seed=%lld", (long long)o->seed);
    snprintf(updates, sizeof updates, "train.max_updates=%lld", (long long)o->max_updates);
    snprintf(minutes, sizeof minutes, "train.max_minutes=%.17g", o->max_minutes);
    if (add_setting(&o->set, o->seed_given, seed) != WR_OK ||
        add_setting(&o->set, o->updates_given, updates) != WR_OK ||
        add_setting(&o->set, o->minutes_given, minutes) != WR_OK)
        return wr_fail_memory(err, "settings", sizeof seed);
    o->train.set = o->set.items;
    o->train.set_n = o->set.n;
    return wr_train(&o->train, err);
}

int wr_cmd_train(int argc, char **argv) {
    options o = {0};
    const wr_opt table[] = {
        {"RECIPE", WR_OPT_STRING, &o.train.recipe, .help = "the recipe to train", .required = true},
        {"--data", WR_OPT_STRING, &o.train.data, .value = "DIR", .required = true,
         .help = "a dataset directory of `weir prepare`"},
        {"--out", WR_OPT_STRING, &o.train.out, .value = "RUN", .required = true,
         .help = "the run directory to write"},
        {"--set", WR_OPT_LIST, &o.set, .value = "KEY=VALUE", .help = "change a key of the recipe"},
        {"--resume", WR_OPT_FLAG, &o.train.resume,
         .help = "go on with the run in RUN, or begin it"},
        {"--start-from", WR_OPT_STRING, &o.train.start_from, .value = "RUN2",
         .help = "begin with the best parameters of another run of the same model, not at random"},
        {"--max-updates", WR_OPT_INT, &o.max_updates, .value = "N", .min = 1, .max = 1e9,
         .given = &o.updates_given, .help = "the same as --set train.max_updates=N"},
        {"--max-minutes", WR_OPT_REAL, &o.max_minutes, .value = "M", .min = 0, .max = 1e9,
         .given = &o.minutes_given, .help = "the same as --set train.max_minutes=M"},
        {"--seed", WR_OPT_INT, &o.seed, .value = "N", .min = 0, .max = 9e15, .given = &o.seed_given,
         .help = "the same as --set train.seed=N"},
        {"--device", WR_OPT_STRING, &o.train.device, .fallback = "cpu", .help = "where to run"},
        {"--precision", WR_OPT_STRING, &o.train.precision, .fallback = "f32",
         .choices = "f32|tf32|bf16", .help = "operands of matrix products on cuda; sums are f32"},
        {"--threads", WR_OPT_INT, &o.train.threads, .fallback = "0", .min = 0, .max = 1024,
         .help = "processor threads; 0: all"},
        {"--trap-nan", WR_OPT_FLAG, &o.train.trap_nan, .help = WR_TRAP_HELP},
    };
    const wr_cli cli = {.command = "train",
                        .summary = "train the model of a recipe",
                        .opts = table,
                        .opt_n = WR_COUNT(table),
                        .notes = "example: weir train recipes/transformer-tiny.yaml --data data "
                                 "--out run"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    code = wr_cli_end(run(&o, &err), &err);
    wr_list_free(&o.set);
    return code;
}
