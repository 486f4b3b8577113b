/* synth_numbers.c: `weir synth numbers`: names of numbers in two languages. */
#define _GNU_SOURCE /* strndup */
#include "cli/synth.h"
#include "data/numbers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* Append the names of `n` numbers, a line each. */
static void add_names(wr_number_lang lang, const uint32_t *value, size_t n, wr_str *text) {
    for (size_t i = 0; i < n; i++) {
        wr_number_name(lang, value[i], text);
        wr_str_add(text, "\n");
    }
}

static cJSON *stamp(const numbers_options *o, const wr_numbers *n) {
    cJSON *json = cJSON_CreateObject();
    bool done = json != NULL && cJSON_AddStringToObject(json, "kind", "numbers") != NULL &&
                cJSON_AddStringToObject(json, "langs", o->langs) != NULL &&
                cJSON_AddNumberToObject(json, "train", (double)n->train) != NULL &&
                cJSON_AddNumberToObject(json, "valid", (double)n->valid) != NULL &&
                cJSON_AddNumberToObject(json, "test", (double)n->test) != NULL &&
                cJSON_AddNumberToObject(json, "max", (double)o->max) != NULL &&
                cJSON_AddNumberToObject(json, "seed", (double)o->seed) != NULL;
    if (done) return json;
    cJSON_Delete(json);
    return NULL;
}

static wr_status write_numbers(const numbers_options *o, const wr_synth_out *out,
                               const wr_numbers *n, wr_error *err) {
    const size_t count[] = {n->train, n->valid, n->test};
    wr_str text = {0};
    wr_status status = wr_synth_begin(out, stamp(o, n), err);
    const uint32_t *value = n->value;
    for (int split = 0; split < WR_SYNTH_SPLITS; split++) {
        for (int side = 0; side < 2 && status == WR_OK; side++) {
            wr_str_clear(&text);
            add_names(o->lang[side], value, count[split], &text);
            status = wr_synth_write(out, split, side, &text, count[split], err);
        }
        value += count[split];
    }
    wr_str_free(&text);
    return status;
}

static wr_status synth_numbers(numbers_options *o, wr_error *err) {
    wr_status status = parse_langs(o, err);
    if (!o->valid_given) o->valid = wr_synth_held_out(o->count);
    if (!o->test_given) o->test = wr_synth_held_out(o->count);
    if (status != WR_OK) return status;
    const wr_synth_out out = {o->out,
                              {wr_number_lang_code(o->lang[0]), wr_number_lang_code(o->lang[1])}};
    status = wr_synth_check_out(&out, err);
    if (status != WR_OK) return status;
    const wr_number_split split = {.train = (size_t)o->count,
                                   .valid = (size_t)o->valid,
                                   .test = (size_t)o->test,
                                   .max = (uint32_t)o->max,
                                   .seed = (uint64_t)o->seed};
    wr_numbers drawn;
    status = wr_numbers_draw(&split, &drawn, err);
    if (status != WR_OK) return status;
    status = write_numbers(o, &out, &drawn, err);
    free(drawn.value);
    return status;
}

int wr_synth_numbers(int argc, char **argv) {
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
