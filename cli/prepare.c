/* prepare.c: `weir prepare`: from text files to a dataset directory. */
#define _GNU_SOURCE /* strnlen */
#include "cli/cli.h"
#include "data/dataset.h"
#include "data/filter.h"
#include "data/subword.h"
#include "data/text.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SRC, TGT, SIDES };

typedef struct options {
    const char *file[WR_SPLITS][SIDES];
    const char *lang[SIDES];
    const char *kind, *bytes, *out;
    int64_t vocab, max_len, vocab_lines;
    double max_ratio, coverage;
    bool vocab_given, coverage_given, joint, dedup, lowercase;
} options;

/* All that a run holds. */
typedef struct job {
    const options *o;
    wr_text text[WR_SPLITS][SIDES];
    wr_subword *model[SIDES]; /* the same twice when joint */
    wr_corpus corpus[WR_SPLITS];
    wr_dataset_info info;
    char lang[SIDES][16];
    wr_bar progress;
    wr_split split; /* the one being encoded */
} job;

static bool has_split(const job *j, int split) { return j->o->file[split][SRC] != NULL; }

/* ---- input ---- */

static wr_status read_split(job *j, int split, wr_error *err) {
    wr_status status = WR_OK;
    for (int side = 0; side < SIDES && status == WR_OK; side++)
        status = wr_text_read(j->o->file[split][side], 0, &j->text[split][side], err);
    if (status == WR_OK)
        status = wr_filter_same_lines(&j->text[split][SRC], &j->text[split][TGT], err);
    return status;
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/* The language from a file name such as train.de.xz, "" unless its ending is two small letters. */
static void guess_lang(const char *path, char *lang, size_t room) {
    const char *name = base_name(path);
    size_t n = strlen(name);
    if (n > 3 && (strcmp(name + n - 3, ".gz") == 0 || strcmp(name + n - 3, ".xz") == 0)) n -= 3;
    bool found = n > 3 && name[n - 3] == '.' && islower((unsigned char)name[n - 2]) != 0 &&
                 islower((unsigned char)name[n - 1]) != 0;
    snprintf(lang, room, "%.*s", found ? 2 : 0, name + (n > 2 ? n - 2 : 0));
}

static void fill_info(job *j) {
    const options *o = j->o;
    for (int side = 0; side < SIDES; side++) {
        guess_lang(o->file[WR_TRAIN][side], j->lang[side], sizeof j->lang[side]);
        if (o->lang[side] != NULL)
            snprintf(j->lang[side], sizeof j->lang[side], "%s", o->lang[side]);
    }
    j->info.src_lang = j->lang[SRC];
    j->info.tgt_lang = j->lang[TGT];
    j->info.kind = strcmp(o->kind, "unigram") == 0 ? WR_SUBWORD_UNIGRAM : WR_SUBWORD_BPE;
    j->info.lowercase = o->lowercase;
    j->info.max_len = (size_t)o->max_len;
    for (int i = 0; i < WR_SPLITS; i++)
        if (has_split(j, i)) {
            j->info.split[i].src_file = base_name(o->file[i][SRC]);
            j->info.split[i].tgt_file = base_name(o->file[i][TGT]);
        }
    j->info.split[WR_TRAIN].filter = (wr_filter){.empty = true,
                                                 .max_len = (size_t)o->max_len,
                                                 .max_ratio = o->max_ratio,
                                                 .duplicates = o->dedup};
}

/* ---- subword models ---- */

/* The lines of up to two texts, one text after the other; of a text of more than `most` lines, that
 * many at equal distances. */
typedef struct lines {
    const wr_text *text[SIDES];
    size_t texts, now, at, most;
} lines;

static bool next_line(void *context, const char **line, size_t *n) {
    lines *l = context;
    while (l->now < l->texts) {
        const wr_text *t = l->text[l->now];
        size_t count = t->n < l->most ? t->n : l->most;
        if (l->at < count) {
            size_t i = (size_t)((double)l->at++ * ((double)t->n / (double)count));
            *line = t->line[i];
            *n = t->len[i];
            return true;
        }
        l->now++;
        l->at = 0;
    }
    return false;
}

static wr_subword_options model_options(const job *j) {
    const options *o = j->o;
    wr_subword_options s = wr_subword_defaults((int)o->vocab);
    s.kind = j->info.kind;
    s.lowercase = o->lowercase;
    s.exact = o->vocab_given;
    if (strcmp(o->bytes, "auto") != 0) {
        s.byte_fallback = strcmp(o->bytes, "yes") == 0;
        s.coverage = s.byte_fallback ? 0.9995 : 1.0;
    }
    if (o->coverage_given) s.coverage = o->coverage;
    return s;
}

static wr_status train_model(job *j, int first, int last, wr_error *err) {
    static const char *const what[] = {"source", "target"};
    bool joint = first != last;
    wr_subword_options s = model_options(j);
    lines l = {.most = (size_t)j->o->vocab_lines};
    for (int side = first; side <= last; side++)
        l.text[l.texts++] = &j->text[WR_TRAIN][side];
    wr_bar_show(&j->progress, -1, "training the %s vocabulary", joint ? "joint" : what[first]);
    wr_status status = wr_subword_train(&s, next_line, &l, &j->model[first], err);
    if (status != WR_OK) return status;
    wr_bar_line(&j->progress, "%s vocabulary: %d pieces (%s%s%s)", joint ? "joint" : what[first],
                wr_subword_vocab(j->model[first]), j->o->kind,
                s.byte_fallback ? ", byte fallback" : "", s.lowercase ? ", lowercase" : "");
    return WR_OK;
}

static wr_status train_models(job *j, wr_error *err) {
    if (j->o->joint) {
        wr_status status = train_model(j, SRC, TGT, err);
        j->model[TGT] = j->model[SRC];
        return status;
    }
    wr_status status = train_model(j, SRC, SRC, err);
    return status == WR_OK ? train_model(j, TGT, TGT, err) : status;
}

/* ---- encoding ---- */

static void show_encoding(void *context, double fraction) {
    job *j = context;
    wr_bar_show(&j->progress, fraction, "encoding %s", wr_split_name(j->split));
}

static uint64_t count_unknown(const wr_side *side, size_t n) {
    uint64_t count = 0;
    for (uint64_t i = 0; i < side->id_at[n]; i++)
        count += side->id[i] == WR_UNK_ID;
    return count;
}

/* One line of the report: pairs, why some were dropped, tokens, longest sentences. */
static wr_status report_split(const job *j, wr_split split, wr_error *err) {
    const wr_split_info *info = &j->info.split[split];
    wr_pairs p = wr_corpus_view(&j->corpus[split]);
    uint64_t unknown[] = {count_unknown(&p.src, p.n), count_unknown(&p.tgt, p.n)};
    wr_str text = {0};
    wr_filter_describe(&info->filter, &info->report, &text);
    if (text.oom) {
        wr_str_free(&text);
        return wr_fail_memory(err, "the report", 256);
    }
    printf("%s: %s; tokens %llu -> %llu, longest %zu -> %zu", wr_split_name(split), text.text,
           (unsigned long long)p.src.id_at[p.n], (unsigned long long)p.tgt.id_at[p.n],
           wr_side_longest(&p.src, p.n), wr_side_longest(&p.tgt, p.n));
    if (unknown[SRC] + unknown[TGT] > 0)
        printf(", unknown %llu -> %llu", (unsigned long long)unknown[SRC],
               (unsigned long long)unknown[TGT]);
    printf("\n");
    wr_str_free(&text);
    return WR_OK;
}

static wr_status encode_split(job *j, wr_split split, wr_error *err) {
    wr_split_info *info = &j->info.split[split];
    wr_text *text = j->text[split];
    j->split = split;
    wr_status status =
        wr_filter_encode(&text[SRC], &text[TGT], j->model[SRC], j->model[TGT], &info->filter,
                         show_encoding, j, &j->corpus[split], &info->report, err);
    wr_bar_end(&j->progress);
    wr_text_free(&text[SRC]);
    wr_text_free(&text[TGT]);
    if (status == WR_OK) status = report_split(j, split, err);
    if (status == WR_OK && info->report.kept == 0)
        status = wr_fail(err, WR_ERR_INPUT, "no pair of %s is left; see the reasons above",
                         wr_split_name(split));
    return status;
}

/* ---- the whole ---- */

static wr_status check_options(const options *o, wr_error *err) {
    if ((o->file[WR_TEST][SRC] == NULL) != (o->file[WR_TEST][TGT] == NULL))
        return wr_fail(
            err, WR_ERR_USAGE,
            "prepare: --test-src and --test-tgt go together (see `weir prepare --help`)");
    for (int side = 0; side < SIDES; side++)
        if (o->lang[side] != NULL && strnlen(o->lang[side], 16) == 16)
            return wr_fail(err, WR_ERR_USAGE, "prepare: '%s' is too long for a language code",
                           o->lang[side]);
    return wr_dataset_may_write(o->out, err);
}

static wr_status run(job *j, wr_error *err) {
    wr_status status = check_options(j->o, err);
    for (int i = 0; i < WR_SPLITS && status == WR_OK; i++)
        if (has_split(j, i)) status = read_split(j, i, err);
    if (status != WR_OK) return status;
    fill_info(j);
    status = train_models(j, err);
    const wr_pairs *split[WR_SPLITS] = {NULL};
    wr_pairs pairs[WR_SPLITS];
    for (int i = 0; i < WR_SPLITS && status == WR_OK; i++) {
        if (!has_split(j, i)) continue;
        status = encode_split(j, (wr_split)i, err);
        pairs[i] = wr_corpus_view(&j->corpus[i]);
        split[i] = &pairs[i];
    }
    if (status != WR_OK) return status;
    return wr_dataset_write(j->o->out, &j->info, j->model[SRC], j->model[TGT], split, err);
}

static wr_status prepare(const options *o, wr_error *err) {
    job *j = calloc(1, sizeof *j);
    if (j == NULL) return wr_fail_memory(err, "the preparation", sizeof *j);
    double began = wr_now();
    j->o = o;
    wr_bar_begin(&j->progress, 10);
    wr_status status = run(j, err);
    wr_bar_end(&j->progress);
    if (status == WR_OK) printf("wrote %s in %.1f s\n", o->out, wr_now() - began);
    for (int i = 0; i < WR_SPLITS; i++) {
        wr_text_free(&j->text[i][SRC]);
        wr_text_free(&j->text[i][TGT]);
        wr_corpus_free(&j->corpus[i]);
    }
    if (j->model[TGT] != j->model[SRC]) wr_subword_free(j->model[TGT]);
    wr_subword_free(j->model[SRC]);
    free(j);
    return status;
}

int wr_cmd_prepare(int argc, char **argv) {
    options o = {0};
    const wr_opt table[] = {
        {"--train-src", WR_OPT_STRING, &o.file[WR_TRAIN][SRC], .value = "F", .required = true,
         .help = "source sentences to train on, one a line; UTF-8, plain, .gz or .xz"},
        {"--train-tgt", WR_OPT_STRING, &o.file[WR_TRAIN][TGT], .value = "F", .required = true,
         .help = "their translations, line by line"},
        {"--valid-src", WR_OPT_STRING, &o.file[WR_VALID][SRC], .value = "F", .required = true,
         .help = "source sentences to validate on; every line is kept"},
        {"--valid-tgt", WR_OPT_STRING, &o.file[WR_VALID][TGT], .value = "F", .required = true,
         .help = "their translations"},
        {"--test-src", WR_OPT_STRING, &o.file[WR_TEST][SRC], .value = "F",
         .help = "source sentences to test on; every line is kept"},
        {"--test-tgt", WR_OPT_STRING, &o.file[WR_TEST][TGT], .value = "F",
         .help = "their translations"},
        {"--out", WR_OPT_STRING, &o.out, .value = "DIR", .required = true,
         .help = "the dataset directory; one that is there is replaced"},
        {"--vocab", WR_OPT_INT, &o.vocab, .value = "N", .fallback = "10000", .min = 5,
         .max = 1000000, .given = &o.vocab_given,
         .help = "pieces of each vocabulary; when not given, fewer if the text has not so many"},
        {"--joint", WR_OPT_FLAG, &o.joint, .help = "one vocabulary for both sides"},
        {"--subword", WR_OPT_STRING, &o.kind, .fallback = "bpe", .choices = "bpe|unigram",
         .help = "how the vocabulary is chosen"},
        {"--byte-fallback", WR_OPT_STRING, &o.bytes, .fallback = "auto", .choices = "auto|yes|no",
         .help = "write unseen characters as bytes; auto: from 1024 pieces on"},
        {"--coverage", WR_OPT_REAL, &o.coverage, .value = "X", .min = 0.9, .max = 1,
         .given = &o.coverage_given,
         .help = "share of the characters with a piece of their own (default: 0.9995 with byte "
                 "fallback, else 1)"},
        {"--vocab-lines", WR_OPT_INT, &o.vocab_lines, .value = "N", .fallback = "2000000", .min = 1,
         .max = 1e9, .help = "most lines of a file that the vocabulary is trained on"},
        {"--lowercase", WR_OPT_FLAG, &o.lowercase, .help = "the models fold case"},
        {"--max-len", WR_OPT_INT, &o.max_len, .value = "N", .fallback = "128", .min = 1,
         .max = 100000, .help = "drop training pairs with a side of more tokens"},
        {"--max-ratio", WR_OPT_REAL, &o.max_ratio, .value = "X", .fallback = "9", .min = 0,
         .max = 1e9, .help = "drop training pairs of a larger length ratio; 0: none"},
        {"--dedup", WR_OPT_FLAG, &o.dedup, .help = "drop training pairs that occurred before"},
        {"--src-lang", WR_OPT_STRING, &o.lang[SRC], .value = "L",
         .help = "source language (default: from the file name)"},
        {"--tgt-lang", WR_OPT_STRING, &o.lang[TGT], .value = "L",
         .help = "target language (default: from the file name)"},
    };
    const wr_cli cli = {
        .command = "prepare",
        .summary = "Trains subword models on a parallel corpus and encodes it.",
        .opts = table,
        .opt_n = WR_COUNT(table),
        .notes = "Example: weir prepare --train-src train.de --train-tgt train.en --valid-src "
                 "val.de\n         --valid-tgt val.en --vocab 10000 --joint --out data"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    return wr_cli_end(prepare(&o, &err), &err);
}
