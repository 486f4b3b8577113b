/* synth.c: `weir synth KIND`: parallel corpora made here, without a download. A kind is a row of
 * KINDS and a function that parses its own options. */
#define _GNU_SOURCE /* strndup */
#include "cli/cli.h"
#include "data/numbers.h"

#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* This file in a directory tells that the corpus there was made by this command. */
static const char STAMP[] = "synth.json";

/* ---- numbers ---- */

typedef struct numbers_options {
    const char *langs, *out;
    int64_t count, valid, test, max, seed;
    bool valid_given, test_given;
    wr_number_lang lang[2];
} numbers_options;

/* "en-de" into two languages. */
static wr_status parse_langs(numbers_options *o, wr_error *err) {
    const char *dash = strchr(o->langs, '-');
    wr_status status = WR_OK;
    if (dash == NULL || dash == o->langs || strchr(dash + 1, '-') != NULL || dash[1] == '\0')
        return wr_fail(err, WR_ERR_USAGE,
                       "--langs %s: give two languages as SOURCE-TARGET, such as en-de", o->langs);
    char *source = strndup(o->langs, (size_t)(dash - o->langs));
    if (source == NULL) return wr_fail_memory(err, "a language", strlen(o->langs));
    status = wr_number_lang_find(source, &o->lang[0], err);
    if (status == WR_OK) status = wr_number_lang_find(dash + 1, &o->lang[1], err);
    free(source);
    if (status == WR_OK && o->lang[0] == o->lang[1])
        status = wr_fail(err, WR_ERR_USAGE, "--langs %s: the two languages must differ", o->langs);
    return status;
}

/* A twentieth of the corpus, from 1 to 1000. */
static int64_t held_out_default(int64_t count) {
    int64_t n = count / 20;
    return n < 1 ? 1 : n > 1000 ? 1000 : n;
}

/* DIR/SPLIT.LANG or DIR/NAME in `path`; false when memory is out. */
static bool set_path(wr_str *path, const char *dir, const char *name, const char *lang) {
    wr_str_clear(path);
    wr_str_add(path, "%s/%s%s%s", dir, name, lang == NULL ? "" : ".", lang == NULL ? "" : lang);
    return !path->oom;
}

/* Write the names of `n` numbers as one file. */
static wr_status write_names(const char *path, wr_number_lang lang, const uint32_t *value, size_t n,
                             wr_error *err) {
    wr_str text = {0};
    for (size_t i = 0; i < n; i++) {
        wr_number_name(lang, value[i], &text);
        wr_str_add(&text, "\n");
    }
    wr_status status = text.oom ? wr_fail_memory(err, path, text.len)
                                : wr_file_replace(path, wr_str_text(&text), text.len, err);
    wr_str_free(&text);
    return status;
}

static const char *const SPLITS[] = {"train", "valid", "test"};

/* The files of a run before may be replaced, those of anybody else not. */
static wr_status check_output(const numbers_options *o, wr_error *err) {
    wr_str path = {0};
    wr_status status = WR_OK;
    bool ours = set_path(&path, o->out, STAMP, NULL) && access(path.text, F_OK) == 0;
    for (int i = 0; i < 6 && status == WR_OK && !ours; i++) {
        if (!set_path(&path, o->out, SPLITS[i / 2], wr_number_lang_code(o->lang[i % 2])))
            status = wr_fail_memory(err, o->out, strlen(o->out));
        else if (access(path.text, F_OK) == 0)
            status = wr_fail(err, WR_ERR_INPUT,
                             "%s: exists and was not made by `weir synth` (no %s beside it); name "
                             "another directory with --out",
                             path.text, STAMP);
    }
    wr_str_free(&path);
    return status;
}

static wr_status write_stamp(const numbers_options *o, const wr_numbers *n, wr_error *err) {
    cJSON *json = cJSON_CreateObject();
    bool done = json != NULL && cJSON_AddStringToObject(json, "kind", "numbers") != NULL &&
                cJSON_AddStringToObject(json, "langs", o->langs) != NULL &&
                cJSON_AddNumberToObject(json, "train", (double)n->train) != NULL &&
                cJSON_AddNumberToObject(json, "valid", (double)n->valid) != NULL &&
                cJSON_AddNumberToObject(json, "test", (double)n->test) != NULL &&
                cJSON_AddNumberToObject(json, "max", (double)o->max) != NULL &&
                cJSON_AddNumberToObject(json, "seed", (double)o->seed) != NULL;
    char *text = done ? cJSON_Print(json) : NULL;
    wr_str path = {0};
    wr_status status = text == NULL || !set_path(&path, o->out, STAMP, NULL)
                           ? wr_fail_memory(err, STAMP, 256)
                           : wr_file_replace(path.text, text, strlen(text), err);
    wr_str_free(&path);
    cJSON_free(text);
    cJSON_Delete(json);
    return status;
}

static wr_status write_numbers(const numbers_options *o, const wr_numbers *n, wr_error *err) {
    const size_t count[] = {n->train, n->valid, n->test};
    const uint32_t *value = n->value;
    wr_str path = {0};
    wr_status status = wr_make_dirs(o->out, err);
    if (status == WR_OK) status = write_stamp(o, n, err);
    for (int split = 0; split < 3; split++) {
        for (int side = 0; side < 2 && status == WR_OK; side++) {
            if (!set_path(&path, o->out, SPLITS[split], wr_number_lang_code(o->lang[side])))
                status = wr_fail_memory(err, o->out, strlen(o->out));
            else
                status = write_names(path.text, o->lang[side], value, count[split], err);
            if (status == WR_OK) printf("%s: %zu lines\n", path.text, count[split]);
        }
        value += count[split];
    }
    wr_str_free(&path);
    return status;
}

static wr_status synth_numbers(numbers_options *o, wr_error *err) {
    wr_status status = parse_langs(o, err);
    if (!o->valid_given) o->valid = held_out_default(o->count);
    if (!o->test_given) o->test = held_out_default(o->count);
    if (status == WR_OK) status = check_output(o, err);
    if (status != WR_OK) return status;
    const wr_number_split split = {.train = (size_t)o->count,
                                   .valid = (size_t)o->valid,
                                   .test = (size_t)o->test,
                                   .max = (uint32_t)o->max,
                                   .seed = (uint64_t)o->seed};
    wr_numbers drawn;
    status = wr_numbers_draw(&split, &drawn, err);
    if (status != WR_OK) return status;
    status = write_numbers(o, &drawn, err);
    free(drawn.value);
    return status;
}

static int run_numbers(int argc, char **argv) {
    numbers_options o = {0};
    const wr_opt table[] = {
        {"--langs", WR_OPT_STRING, &o.langs, .value = "S-T", .fallback = "en-de",
         .help = "source and target language, of en, de, fr"},
        {"--count", WR_OPT_INT, &o.count, .value = "N", .min = 1, .max = 5000000, .required = true,
         .help = "lines of train"},
        {"--valid", WR_OPT_INT, &o.valid, .value = "N", .min = 1, .max = 1000000,
         .given = &o.valid_given, .help = "lines of valid (default: count/20, from 1 to 1000)"},
        {"--test", WR_OPT_INT, &o.test, .value = "N", .min = 1, .max = 1000000,
         .given = &o.test_given, .help = "lines of test (default: count/20, from 1 to 1000)"},
        {"--max", WR_OPT_INT, &o.max, .value = "N", .fallback = "999999", .min = 100,
         .max = WR_NUMBER_MAX, .help = "the largest number"},
        {"--seed", WR_OPT_INT, &o.seed, .value = "N", .fallback = "1", .min = 0,
         .max = 9007199254740991.0, .help = "which numbers are drawn"},
        {"--out", WR_OPT_STRING, &o.out, .value = "DIR", .required = true,
         .help = "where train.*, valid.* and test.* go"},
    };
    const wr_cli cli = {
        .command = "synth numbers",
        .summary = "Writes the names of distinct numbers in two languages, line by line.",
        .opts = table,
        .opt_n = WR_COUNT(table),
        .notes = "No number of valid or test is in train, and they are from 100 on.\n"
                 "Example: weir synth numbers --langs en-de --count 20000 --seed 1 --out numbers"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    return wr_cli_end(synth_numbers(&o, &err), &err);
}

/* ---- kinds ---- */

typedef struct kind {
    const char *name;
    int (*run)(int argc, char **argv);
} kind;

static const kind KINDS[] = {{"numbers", run_numbers}};

int wr_cmd_synth(int argc, char **argv) {
    for (size_t i = 0; i < WR_COUNT(KINDS) && argc > 1; i++)
        if (strcmp(argv[1], KINDS[i].name) == 0) return KINDS[i].run(argc - 1, argv + 1);
    const char *name = NULL;
    const wr_opt table[] = {{"KIND", WR_OPT_STRING, &name, .choices = "numbers", .required = true,
                             .help = "what corpus; its options: weir synth KIND --help"}};
    const wr_cli cli = {.command = "synth",
                        .summary = "Writes a parallel corpus that is made, not downloaded.",
                        .opts = table,
                        .opt_n = WR_COUNT(table),
                        .notes = "  numbers   names of numbers in English, German, French"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    return wr_cli_end(wr_fail(&err, WR_ERR_USAGE,
                              "synth: the kind of corpus comes first: `weir synth %s ...`", name),
                      &err);
}
