/* info.c: `weir info`: what a run, a recipe or a file of parameters holds. */
#include "cli/cli.h"
#include "cli/model_graph.h"
#include "cli/parameter_tree.h"
#include "optim/checkpoint.h"
#include "optim/safetensors.h"

#include <cJSON.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct options {
    const char *path, *checkpoint, *vocab;
    int64_t depth;
    bool all;
} options;

static int shown_depth(const options *o) { return o->all ? -1 : (int)o->depth; }

/* "DIR/NAME" in `path`. */
static wr_status join(wr_str *path, const char *dir, const char *name, wr_error *err) {
    wr_str_clear(path);
    wr_str_add(path, "%s/%s", dir, name);
    return path->oom ? wr_fail_memory(err, name, path->len) : WR_OK;
}

static wr_status print_tree(const options *o, const wr_parameter_tree *tree, const char *heading,
                            bool complete, wr_error *err) {
    wr_str text = {0};
    wr_parameter_tree_print(tree, shown_depth(o), &text);
    wr_status status = WR_OK;
    if (!complete || text.oom)
        status = wr_fail_memory(err, "the list of parameters", text.len);
    else
        printf("%s\n%s", heading, wr_str_text(&text));
    wr_str_free(&text);
    return status;
}

/* ---- a safetensors file ---- */

static wr_status print_tensors(const options *o, const wr_safetensors *file, wr_error *err) {
    wr_parameter_tree tree = {0};
    bool ok = true;
    for (int i = 0; i < file->n && ok; i++) {
        const wr_safetensor *t = &file->tensor[i];
        ok = wr_parameter_tree_add(&tree, t->name, t->dtype, t->rank, t->dim);
    }
    wr_status status = print_tree(o, &tree, "parameters", ok, err);
    wr_parameter_tree_free(&tree);
    return status;
}

static wr_status info_file(const options *o, const char *path, wr_error *err) {
    wr_safetensors file;
    wr_status status = wr_safetensors_open(path, &file, err);
    if (status != WR_OK) return status;
    printf("file %s\n", path);
    for (int i = 0; i < file.n_meta; i++)
        printf("  %s: %.200s%s\n", file.meta[i].key, file.meta[i].value,
               strlen(file.meta[i].value) > 200 ? "..." : "");
    status = print_tensors(o, &file, err);
    wr_safetensors_close(&file);
    return status;
}

/* ---- a recipe ---- */

static wr_status print_configuration(const wr_recipe *recipe, wr_error *err) {
    wr_str text = {0};
    wr_recipe_text(recipe, &text);
    if (text.oom) return wr_fail_memory(err, "the recipe", text.len);
    puts("configuration");
    for (const char *at = wr_str_text(&text); *at != '\0';) {
        int n = (int)strcspn(at, "\n");
        printf("  %.*s\n", n, at);
        at += n + (at[n] == '\n');
    }
    wr_str_free(&text);
    return WR_OK;
}

/* A graph with mistakes has no parameters to list; its messages say why. */
static wr_status check_graph(const wr_graph *g, wr_error *err) {
    if (wr_graph_ok(g)) return WR_OK;
    wr_str text = {0};
    wr_graph_report(g, &text);
    wr_fail(err, WR_ERR_INPUT, "%s", wr_str_text(&text));
    wr_str_free(&text);
    return WR_ERR_INPUT;
}

static wr_status info_recipe(const options *o, wr_error *err) {
    wr_model_sizes m;
    wr_status status = wr_model_sizes_read(o->path, o->vocab, &m, err);
    if (status != WR_OK) return status;
    wr_graph *g = NULL;
    bool *live = NULL;
    status = wr_model_graph_new(&m, &(wr_model_graph_options){0}, &g, &live, err);
    if (status != WR_OK) return status;
    wr_parameter_tree tree = {0};
    char heading[96];
    if (m.src_vocab == m.tgt_vocab)
        snprintf(heading, sizeof heading, "parameters, with vocabularies of %d pieces",
                 m.src_vocab);
    else
        snprintf(heading, sizeof heading, "parameters, with vocabularies of %d and %d pieces",
                 m.src_vocab, m.tgt_vocab);
    status = check_graph(g, err);
    if (status == WR_OK)
        status = print_tree(o, &tree, heading, wr_parameter_tree_add_graph(&tree, g, live), err);
    if (status == WR_OK) status = print_configuration(&m.recipe, err);
    wr_parameter_tree_free(&tree);
    free(live);
    wr_graph_free(g);
    return status;
}

/* ---- the log of a run ---- */

/* What is kept of log.jsonl. */
typedef struct log_summary {
    cJSON *train, *valid, *best; /* last report, last and best validation */
    long unreadable;             /* lines that are no JSON objects */
} log_summary;

static void free_log(log_summary *log) {
    cJSON_Delete(log->train);
    if (log->best != log->valid) cJSON_Delete(log->best);
    cJSON_Delete(log->valid);
}

/* Is line `a` a better validation than `b`? By the recipe's measure. */
static bool is_better(const cJSON *a, const cJSON *b, bool by_bleu) {
    const char *name = by_bleu ? "bleu" : "nll";
    const cJSON *x = cJSON_GetObjectItemCaseSensitive(a, name);
    const cJSON *y = cJSON_GetObjectItemCaseSensitive(b, name);
    if (!cJSON_IsNumber(x)) return b == NULL;
    if (!cJSON_IsNumber(y)) return true;
    return by_bleu ? x->valuedouble > y->valuedouble : x->valuedouble < y->valuedouble;
}

/* Takes `line`. */
static void take_line(log_summary *log, cJSON *line, bool by_bleu) {
    const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, "kind"));
    if (kind != NULL && strcmp(kind, "train") == 0) {
        cJSON_Delete(log->train);
        log->train = line;
    } else if (kind != NULL && strcmp(kind, "valid") == 0) {
        if (log->valid != log->best) cJSON_Delete(log->valid);
        log->valid = line;
        if (!is_better(line, log->best, by_bleu)) return;
        if (log->best != line) cJSON_Delete(log->best);
        log->best = line;
    } else {
        if (!cJSON_IsObject(line)) log->unreadable++;
        cJSON_Delete(line);
    }
}

static wr_status read_log(const char *path, bool by_bleu, log_summary *log, wr_error *err) {
    char *text = NULL;
    size_t n = 0;
    if (access(path, F_OK) != 0) return WR_OK;
    wr_status status = wr_file_read(path, &text, &n, err);
    if (status != WR_OK) return status;
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t length = end == NULL ? n - at : (size_t)(end - (text + at));
        if (length > 0) take_line(log, cJSON_ParseWithLength(text + at, length), by_bleu);
        at += length + 1;
    }
    free(text);
    return WR_OK;
}

static void print_line(const char *heading, const cJSON *line) {
    if (line == NULL) return;
    printf("  %-18s", heading);
    const cJSON *field = NULL;
    cJSON_ArrayForEach(field, line) {
        if (strcmp(field->string, "kind") == 0 || strcmp(field->string, "sample") == 0) continue;
        if (cJSON_IsNumber(field)) printf("%s %.6g  ", field->string, field->valuedouble);
        if (cJSON_IsString(field)) printf("%s %s  ", field->string, field->valuestring);
    }
    printf("\n");
}

static wr_status print_log(const char *dir, const wr_recipe *recipe, wr_error *err) {
    wr_str path = {0};
    log_summary log = {0};
    wr_status status = join(&path, dir, "log.jsonl", err);
    if (status == WR_OK)
        status =
            read_log(wr_str_text(&path), recipe->train.best_by == WR_RECIPE_BEST_BLEU, &log, err);
    if (status == WR_OK) {
        puts("scores");
        if (log.train == NULL && log.valid == NULL) puts("  no report yet");
        print_line("last report", log.train);
        print_line("last validation", log.valid);
        print_line("best validation", log.best);
        if (log.unreadable > 0) printf("  unreadable lines of log.jsonl: %ld\n", log.unreadable);
    }
    free_log(&log);
    wr_str_free(&path);
    return status;
}

/* ---- checkpoints ---- */

/* The file's name when there is such a checkpoint. */
static const char *locate(const char *folder, const char *which, wr_str *path) {
    wr_error ignored = {0};
    wr_str_clear(path);
    if (wr_checkpoint_locate(folder, which, path, &ignored) != WR_OK) return NULL;
    const char *slash = strrchr(wr_str_text(path), '/');
    return slash == NULL ? wr_str_text(path) : slash + 1;
}

static wr_status print_checkpoints(const options *o, const char *folder, wr_error *err) {
    static const char *const WHICH[] = {"last", "best", "average"};
    wr_str path = {0};
    puts("checkpoints");
    int found = 0;
    for (size_t i = 0; i < WR_COUNT(WHICH); i++) {
        const char *name = locate(folder, WHICH[i], &path);
        if (name != NULL) printf("  %-18s%s\n", WHICH[i], name);
        found += name != NULL;
    }
    wr_status status = WR_OK;
    if (found == 0) puts("  none yet");
    wr_str_clear(&path);
    if (found > 0) status = wr_checkpoint_locate(folder, o->checkpoint, &path, err);
    if (found > 0 && status == WR_OK) status = info_file(o, wr_str_text(&path), err);
    wr_str_free(&path);
    return status;
}

/* ---- a run ---- */

static wr_status info_run(const options *o, wr_error *err) {
    wr_model_sizes m;
    wr_status status = wr_model_sizes_read(o->path, o->vocab, &m, err);
    if (status != WR_OK) return status;
    printf("run %s\n  vocabularies      source %d, target %d pieces\n", o->path, m.src_vocab,
           m.tgt_vocab);
    status = print_log(o->path, &m.recipe, err);
    wr_str folder = {0};
    if (status == WR_OK) status = join(&folder, o->path, "checkpoints", err);
    if (status == WR_OK) status = print_checkpoints(o, wr_str_text(&folder), err);
    if (status == WR_OK) status = print_configuration(&m.recipe, err);
    wr_str_free(&folder);
    return status;
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static wr_status info(const options *o, wr_error *err) {
    if (wr_is_directory(o->path)) return info_run(o, err);
    if (ends_with(o->path, ".yaml") || ends_with(o->path, ".yml")) return info_recipe(o, err);
    return info_file(o, o->path, err);
}

int wr_cmd_info(int argc, char **argv) {
    options o = {0};
    const wr_opt table[] = {
        {"WHAT", WR_OPT_STRING, &o.path, .required = true,
         .help = "a run directory, a recipe (.yaml), or a file of parameters (.safetensors)"},
        {"--depth", WR_OPT_INT, &o.depth, .value = "N", .fallback = "1", .min = 0, .max = 1000,
         .help = "levels of scopes that are opened"},
        {"--all", WR_OPT_FLAG, &o.all, .help = "list every parameter"},
        {"--checkpoint", WR_OPT_STRING, &o.checkpoint, .value = "C", .fallback = "last",
         .help = "of a run: last, best, average or step-N"},
        {"--vocab", WR_OPT_STRING, &o.vocab, .value = "N", .help = WR_VOCAB_HELP},
    };
    const wr_cli cli = {.command = "info",
                        .summary = "Parameters by scope, configuration, step and scores",
                        .opts = table,
                        .opt_n = WR_COUNT(table),
                        .notes = "Example: weir info run --checkpoint best --all"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    return wr_cli_end(info(&o, &err), &err);
}
