/* synth_corrupt.c: `weir synth corrupt`: a text as target, damaged copies of its lines as source.
 */
#include "cli/synth.h"
#include "data/synth_corrupt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct corrupt_options {
    wr_list input;
    const char *set, *pool, *out;
    double replace, drop;
    bool replace_given, drop_given, valid_given, test_given;
    int64_t valid, test, seed;
} corrupt_options;

/* A text and what becomes of it. */
typedef struct corrupt_job {
    const corrupt_options *o;
    wr_text *text; /* [texts] */
    size_t texts;
    wr_corrupt_text lines;
    wr_corrupt how;
    uint32_t *order; /* [lines.n] */
    size_t count[WR_SYNTH_SPLITS];
} corrupt_job;

static wr_status read_input(corrupt_job *j, wr_error *err) {
    const wr_list *input = &j->o->input;
    wr_status status = WR_OK;
    j->text = calloc(input->n, sizeof *j->text);
    if (j->text == NULL) return wr_fail_memory(err, "texts", input->n * sizeof *j->text);
    for (size_t i = 0; i < input->n && status == WR_OK; i++, j->texts++)
        status = wr_text_read(input->items[i], 0, &j->text[i], err);
    return status == WR_OK ? wr_corrupt_read(j->text, j->texts, &j->lines, err) : status;
}

/* Which lines go where: the order has valid, test, train. */
static wr_status split_lines(corrupt_job *j, wr_error *err) {
    const corrupt_options *o = j->o;
    int64_t n = (int64_t)j->lines.n;
    size_t valid = (size_t)(o->valid_given ? o->valid : wr_synth_held_out(n));
    size_t test = (size_t)(o->test_given ? o->test : wr_synth_held_out(n));
    wr_status status = wr_corrupt_split(&j->lines, valid, test, (uint64_t)o->seed, &j->order, err);
    if (status != WR_OK) return status;
    j->count[0] = j->lines.n - valid - test;
    j->count[1] = valid;
    j->count[2] = test;
    return WR_OK;
}

static cJSON *stamp(const corrupt_job *j) {
    cJSON *json = cJSON_CreateObject();
    bool done = json != NULL && cJSON_AddStringToObject(json, "kind", "corrupt") != NULL &&
                cJSON_AddNumberToObject(json, "replace", j->how.replace) != NULL &&
                cJSON_AddNumberToObject(json, "drop", j->how.drop) != NULL &&
                cJSON_AddStringToObject(json, "pool", j->o->pool) != NULL &&
                cJSON_AddNumberToObject(json, "tokens", (double)j->lines.tokens) != NULL &&
                cJSON_AddNumberToObject(json, "words", (double)j->lines.words) != NULL &&
                cJSON_AddNumberToObject(json, "train", (double)j->count[0]) != NULL &&
                cJSON_AddNumberToObject(json, "valid", (double)j->count[1]) != NULL &&
                cJSON_AddNumberToObject(json, "test", (double)j->count[2]) != NULL &&
                cJSON_AddNumberToObject(json, "seed", (double)j->o->seed) != NULL;
    if (done) return json;
    cJSON_Delete(json);
    return NULL;
}

static void add_lines(const corrupt_job *j, const uint32_t *order, size_t n, int side,
                      wr_str *text) {
    for (size_t k = 0; k < n; k++) {
        size_t i = order[k];
        if (side == 0)
            wr_corrupt_line(&j->lines, &j->how, i, text);
        else
            wr_str_bytes(text, j->lines.line[i], j->lines.len[i]);
        wr_str_bytes(text, "\n", 1);
    }
}

static wr_status write_corpus(const corrupt_job *j, const wr_synth_out *out, wr_error *err) {
    const uint32_t *order[] = {j->order + j->count[1] + j->count[2], j->order,
                               j->order + j->count[1]};
    wr_str text = {0};
    wr_status status = wr_synth_begin(out, stamp(j), err);
    for (int i = 0; i < 2 * WR_SYNTH_SPLITS && status == WR_OK; i++) {
        wr_str_clear(&text);
        add_lines(j, order[i / 2], j->count[i / 2], i % 2, &text);
        status = wr_synth_write(out, i / 2, i % 2, &text, j->count[i / 2], err);
    }
    wr_str_free(&text);
    if (status == WR_OK)
        printf("%zu tokens, %zu distinct; left out: %zu lines without a word, %zu that repeat an "
               "earlier one\n",
               j->lines.tokens, j->lines.words, j->lines.empty, j->lines.repeated);
    return status;
}

static wr_status synth_corrupt(const corrupt_options *o, wr_error *err) {
    const wr_synth_out out = {o->out, {"src", "tgt"}};
    corrupt_job j = {
        .o = o,
        .how = {.replace = o->replace_given ? o->replace : 0.5,
                .drop = o->drop_given              ? o->drop
                        : strcmp(o->set, "B") == 0 ? 0.1
                                                   : 0.0,
                .pool = strcmp(o->pool, "text") == 0 ? WR_CORRUPT_TEXT : WR_CORRUPT_VOCABULARY,
                .seed = (uint64_t)o->seed}};
    wr_status status = wr_synth_check_out(&out, err);
    if (status == WR_OK) status = read_input(&j, err);
    if (status == WR_OK) status = split_lines(&j, err);
    if (status == WR_OK) status = write_corpus(&j, &out, err);
    free(j.order);
    wr_corrupt_text_free(&j.lines);
    for (size_t i = 0; i < j.texts; i++)
        wr_text_free(&j.text[i]);
    free(j.text);
    return status;
}

int wr_synth_corrupt(int argc, char **argv) {
    corrupt_options o = {0};
    const wr_opt table[] = {
        {"--input", WR_OPT_MANY, &o.input, .value = "FILE", .required = true,
         .help = "text, a sentence a line; .gz and .xz too, - for standard input"},
        {"--set", WR_OPT_STRING, &o.set, .fallback = "A", .choices = "A|B",
         .help = "A replaces half of the tokens, B leaves out a tenth as well"},
        {"--replace", WR_OPT_REAL, &o.replace, .value = "P", .min = 0, .max = 1,
         .given = &o.replace_given, .help = "replace each token with this probability instead"},
        {"--drop", WR_OPT_REAL, &o.drop, .value = "P", .min = 0, .max = 1, .given = &o.drop_given,
         .help = "leave out each token with this probability instead"},
        {"--pool", WR_OPT_STRING, &o.pool, .fallback = "vocabulary", .choices = "vocabulary|text",
         .help = "a replacement is any distinct token of the text, or any running one"},
        {"--valid", WR_OPT_INT, &o.valid, .value = "N", .min = 1, .max = 1000000,
         .given = &o.valid_given, .help = "lines of valid (default: a twentieth, from 1 to 1000)"},
        {"--test", WR_OPT_INT, &o.test, .value = "N", .min = 1, .max = 1000000,
         .given = &o.test_given, .help = "lines of test (default: a twentieth, from 1 to 1000)"},
        {"--seed", WR_OPT_INT, &o.seed, .value = "N", .fallback = "1", .min = 0,
         .max = 9007199254740991.0, .help = "which tokens are damaged, which lines held out"},
        {"--out", WR_OPT_STRING, &o.out, .value = "DIR", .required = true,
         .help = "where train.*, valid.* and test.* go, .src damaged and .tgt as it was"},
    };
    const wr_cli cli = {
        .command = "synth corrupt",
        .summary = "Makes a parallel corpus of a text and damaged copies of its lines.",
        .opts = table,
        .opt_n = WR_COUNT(table),
        .notes = "Lines that repeat an earlier one are left out, so that no line of valid or test "
                 "is in train.\nExample: weir synth corrupt --input text.en --set B --out set-b"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    code = wr_cli_end(synth_corrupt(&o, &err), &err);
    wr_list_free(&o.input);
    return code;
}
