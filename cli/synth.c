/* synth.c: `weir synth KIND`: parallel corpora made here, without a download. A kind is a row of
 * KINDS and a file that parses its own options; see synth.h for what they share. */
#include "cli/synth.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- what the kinds share ---- */

/* This file in a directory tells that the corpus there was made by this command. */
static const char STAMP[] = "synth.json";
static const char *const SPLITS[] = {"train", "valid", "test"};

int64_t wr_synth_held_out(int64_t count) {
    int64_t n = count / 20;
    return n < 1 ? 1 : n > 1000 ? 1000 : n;
}

/* DIR/NAME or DIR/SPLIT.LANG in `path`; false when memory is out. */
static bool set_path(wr_str *path, const char *dir, const char *name, const char *lang) {
    wr_str_clear(path);
    wr_str_add(path, "%s/%s%s%s", dir, name, lang == NULL ? "" : ".", lang == NULL ? "" : lang);
    return !path->oom;
}

wr_status wr_synth_check_out(const wr_synth_out *out, wr_error *err) {
    wr_str path = {0};
    wr_status status = WR_OK;
    bool ours = set_path(&path, out->dir, STAMP, NULL) && access(path.text, F_OK) == 0;
    for (int i = 0; i < 2 * WR_SYNTH_SPLITS && status == WR_OK && !ours; i++) {
        if (!set_path(&path, out->dir, SPLITS[i / 2], out->lang[i % 2]))
            status = wr_fail_memory(err, out->dir, strlen(out->dir));
        else if (access(path.text, F_OK) == 0)
            status = wr_fail(err, WR_ERR_INPUT,
                             "%s: exists and was not made by `weir synth` (no %s beside it); name "
                             "another directory with --out",
                             path.text, STAMP);
    }
    wr_str_free(&path);
    return status;
}

wr_status wr_synth_begin(const wr_synth_out *out, cJSON *stamp, wr_error *err) {
    char *text = stamp == NULL ? NULL : cJSON_Print(stamp);
    wr_str path = {0};
    wr_status status = wr_make_dirs(out->dir, err);
    if (status == WR_OK)
        status = text == NULL || !set_path(&path, out->dir, STAMP, NULL)
                     ? wr_fail_memory(err, STAMP, 256)
                     : wr_file_replace(path.text, text, strlen(text), err);
    wr_str_free(&path);
    cJSON_free(text);
    cJSON_Delete(stamp);
    return status;
}

wr_status wr_synth_write_as(const wr_synth_out *out, int split, const char *name,
                            const wr_str *text, size_t lines, wr_error *err) {
    wr_str path = {0};
    wr_status status = WR_OK;
    if (text->oom || !set_path(&path, out->dir, SPLITS[split], name))
        status = wr_fail_memory(err, out->dir, text->len);
    else
        status = wr_file_replace(path.text, wr_str_text(text), text->len, err);
    if (status == WR_OK) printf("%s: %zu lines\n", path.text, lines);
    wr_str_free(&path);
    return status;
}

wr_status wr_synth_write(const wr_synth_out *out, int split, int side, const wr_str *text,
                         size_t lines, wr_error *err) {
    return wr_synth_write_as(out, split, out->lang[side], text, lines, err);
}

/* ---- kinds ---- */

typedef struct kind {
    const char *name;
    int (*run)(int argc, char **argv);
} kind;

static const kind KINDS[] = {{"numbers", wr_synth_numbers},
                             {"corrupt", wr_synth_corrupt},
                             {"multimodal", wr_synth_multimodal}};

int wr_cmd_synth(int argc, char **argv) {
    for (size_t i = 0; i < WR_COUNT(KINDS) && argc > 1; i++)
        if (strcmp(argv[1], KINDS[i].name) == 0) return KINDS[i].run(argc - 1, argv + 1);
    const char *name = NULL;
    const wr_opt table[] = {{"KIND", WR_OPT_STRING, &name, .choices = "numbers|corrupt|multimodal",
                             .required = true,
                             .help = "what corpus; its options: weir synth KIND --help"}};
    const wr_cli cli = {.command = "synth",
                        .summary = "Writes a parallel corpus that is made, not downloaded.",
                        .opts = table,
                        .opt_n = WR_COUNT(table),
                        .notes = "  numbers     names of numbers in English, German, French\n"
                                 "  corrupt     a text and damaged copies of it\n"
                                 "  multimodal  a language with several translations per sentence, "
                                 "whose\n              conditional total correlation is known"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    return wr_cli_end(wr_fail(&err, WR_ERR_USAGE,
                              "synth: the kind of corpus comes first: `weir synth %s ...`", name),
                      &err);
}
