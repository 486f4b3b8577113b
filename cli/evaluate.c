/* evaluate.c: `weir evaluate`: loss terms of a trained model on data, as TSV. */
#include "cli/cli.h"
#include "cli/run_dir.h"
#include "data/dataset.h"
#include "data/filter.h"
#include "data/score.h"
#include "data/text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SRC, TGT, SIDES };
/* Seconds between lines of progress where there is no terminal. */
enum { PLAIN_SECONDS = 30 };

typedef struct options {
    wr_run_options run;
    wr_run_search search;
    const char *data, *split, *ids[SIDES];
    int64_t max_tokens;
    bool per_sentence;
    wr_list set;
} options;

/* The pairs come from a dataset, or from files of ids. */
typedef struct job {
    const options *o;
    wr_run run;
    wr_dataset *data;
    const wr_pairs *pairs;        /* NULL with files of ids */
    wr_text text[SIDES];          /* the files */
    wr_ids pool[SIDES];           /* their ids */
    size_t *from[SIDES];          /* [n] where a line's ids begin in the pool */
    wr_sentence *sentence[SIDES]; /* [n] */
    size_t n;
    double *nll; /* [n] */
    wr_search_options search;
    wr_translations out;
    double bleu, chrf;
    wr_bar bar;
} job;

/* ---- ids from files ---- */

static wr_status bad_id(const job *j, int side, size_t line, const char *at, int vocab,
                        wr_error *err) {
    return wr_fail(err, WR_ERR_INPUT,
                   "%s:%zu: '%.20s' is no token id; a line holds ids from 0 to %d with spaces "
                   "between them",
                   j->text[side].path, line + 1, at, vocab - 1);
}

/* The model's own end of sentence is added by scoring; one that the line has is that one. */
static wr_status read_line(job *j, int side, size_t line, int vocab, wr_error *err) {
    wr_ids *pool = &j->pool[side];
    const char *at = j->text[side].line[line];
    j->from[side][line] = pool->n;
    for (at += strspn(at, " \t"); *at != '\0'; at += strspn(at, " \t")) {
        char *end;
        errno = 0;
        long id = strtol(at, &end, 10);
        bool legal = end != at && (*end == '\0' || strchr(" \t", *end) != NULL) && errno == 0 &&
                     id >= 0 && id < vocab;
        if (!legal) return bad_id(j, side, line, at, vocab, err);
        if (!wr_grow(&pool->id, &pool->cap, pool->n + 1, sizeof *pool->id))
            return wr_fail_memory(err, "token ids", pool->n * sizeof *pool->id);
        pool->id[pool->n++] = (int32_t)id;
        at = end;
    }
    if (pool->n > j->from[side][line] && pool->id[pool->n - 1] == WR_EOS_ID) pool->n--;
    return WR_OK;
}

static wr_status read_side(job *j, int side, wr_error *err) {
    int vocab = wr_subword_vocab(side == SRC ? j->run.src : j->run.tgt);
    for (size_t i = 0; i < j->n; i++) {
        wr_status status = read_line(j, side, i, vocab, err);
        if (status != WR_OK) return status;
    }
    for (size_t i = 0; i < j->n; i++) {
        size_t end = i + 1 < j->n ? j->from[side][i + 1] : j->pool[side].n;
        j->sentence[side][i] =
            (wr_sentence){.id = j->pool[side].id + j->from[side][i], .n = end - j->from[side][i]};
    }
    return WR_OK;
}

static wr_status reserve(job *j, size_t n, wr_error *err) {
    j->n = n;
    j->nll = malloc(sizeof *j->nll * (n + 1));
    bool ok = j->nll != NULL;
    for (int side = 0; side < SIDES; side++) {
        j->from[side] = malloc(sizeof *j->from[side] * (n + 1));
        j->sentence[side] = malloc(sizeof *j->sentence[side] * (n + 1));
        ok = ok && j->from[side] != NULL && j->sentence[side] != NULL;
    }
    return ok ? WR_OK : wr_fail_memory(err, "sentences", n * sizeof **j->sentence);
}

static wr_status read_ids(job *j, wr_error *err) {
    wr_status status = WR_OK;
    for (int side = 0; status == WR_OK && side < SIDES; side++)
        status = wr_text_read(j->o->ids[side], 0, &j->text[side], err);
    if (status == WR_OK) status = wr_filter_same_lines(&j->text[SRC], &j->text[TGT], err);
    if (status == WR_OK) status = reserve(j, j->text[SRC].n, err);
    for (int side = 0; status == WR_OK && side < SIDES; side++)
        status = read_side(j, side, err);
    return status;
}

/* ---- pairs of a dataset ---- */

/* Ids mean something only to the subword models that made them. */
static wr_status same_model(const job *j, const wr_subword *a, const wr_subword *b, wr_error *err) {
    size_t n, m;
    const void *x = wr_subword_bytes(a, &n), *y = wr_subword_bytes(b, &m);
    if (n == m && memcmp(x, y, n) == 0) return WR_OK;
    return wr_fail(
        err, WR_ERR_INPUT,
        "%s and %s have different subword models; evaluate on the dataset directory that "
        "the run was trained on, or prepare the text with its models",
        j->o->data, j->o->run.dir);
}

static wr_split split_of(const char *name) {
    wr_split split = WR_TRAIN;
    while (split < WR_TEST && strcmp(wr_split_name(split), name) != 0)
        split++;
    return split;
}

static wr_status read_dataset(job *j, wr_error *err) {
    wr_status status = wr_dataset_open(j->o->data, &j->data, err);
    if (status == WR_OK) status = same_model(j, wr_dataset_src_model(j->data), j->run.src, err);
    if (status == WR_OK) status = same_model(j, wr_dataset_tgt_model(j->data), j->run.tgt, err);
    if (status != WR_OK) return status;
    j->pairs = wr_dataset_pairs(j->data, split_of(j->o->split));
    if (j->pairs == NULL)
        return wr_fail(err, WR_ERR_INPUT, "%s has no %s split", j->o->data, j->o->split);
    status = reserve(j, j->pairs->n, err);
    for (size_t i = 0; status == WR_OK && i < j->n; i++) {
        wr_sentence *x = &j->sentence[SRC][i], *y = &j->sentence[TGT][i];
        *x = *y = (wr_sentence){0};
        x->id = wr_side_ids(&j->pairs->src, i, &x->n);
        y->id = wr_side_ids(&j->pairs->tgt, i, &y->n);
    }
    return status;
}

/* ---- BLEU and chrF ---- */

/* Translations as C strings one after the other; `hyp` [n] points at them. */
static wr_status spell(const job *j, wr_str *text, const char **hyp, wr_error *err) {
    size_t *at = malloc(sizeof *at * (j->n + 1));
    wr_status status = at == NULL ? wr_fail_memory(err, "translations", sizeof *at * j->n) : WR_OK;
    for (size_t i = 0; status == WR_OK && i < j->n; i++) {
        at[i] = text->len;
        status = wr_run_text(&j->run, &j->out.hyp[i * j->out.nbest], text, err);
        wr_str_bytes(text, "", 1);
    }
    if (status == WR_OK && text->oom) status = wr_fail_memory(err, "translations", text->len);
    for (size_t i = 0; status == WR_OK && i < j->n; i++)
        hyp[i] = text->text + at[i];
    free(at);
    return status;
}

static wr_status compare(job *j, const char **hyp, const char **ref, wr_error *err) {
    wr_score_options o = {.lowercase = wr_dataset_info_of(j->data)->lowercase};
    wr_bleu_result bleu = {0};
    wr_chrf_result chrf = {0};
    for (size_t i = 0; i < j->n; i++)
        ref[i] = wr_side_text(&j->pairs->tgt, i);
    const char *const *const refs[] = {ref};
    wr_status status = wr_bleu_strings(hyp, refs, 1, j->n, &o, &bleu, err);
    if (status == WR_OK) status = wr_chrf_strings(hyp, refs, 1, j->n, &o, &chrf, err);
    j->bleu = bleu.score;
    j->chrf = chrf.score;
    return status;
}

static void show_progress(void *context, size_t done, size_t total) {
    job *j = context;
    bool short_work = wr_now() - j->bar.began < PLAIN_SECONDS;
    if (!j->bar.terminal && short_work) return;
    wr_bar_show(&j->bar, (double)done / (double)total, "%zu of %zu sentences", done, total);
}

static wr_status translate(job *j, wr_error *err) {
    j->search.progress = show_progress;
    j->search.context = j;
    wr_status status = wr_search(j->run.decoder, j->sentence[SRC], j->n, &j->search, &j->out, err);
    if (status != WR_OK) return status;
    wr_str text = {0};
    const char **hyp = malloc(sizeof *hyp * (j->n + 1)), **ref = malloc(sizeof *ref * (j->n + 1));
    status = hyp == NULL || ref == NULL ? wr_fail_memory(err, "translations", j->n * sizeof *hyp)
                                        : spell(j, &text, hyp, err);
    if (status == WR_OK) status = compare(j, hyp, ref, err);
    wr_str_free(&text);
    free(hyp);
    free(ref);
    return status;
}

/* ---- output ---- */

static void print_sentences(const job *j) {
    printf("sentence\tnll\ttokens\n");
    for (size_t i = 0; i < j->n; i++)
        printf("%zu\t%.9g\t%zu\n", i + 1, j->nll[i], j->sentence[TGT][i].n + 1);
}

static void print_totals(const job *j) {
    double nll = 0;
    size_t tokens = 0;
    for (size_t i = 0; i < j->n; i++) {
        nll += j->nll[i];
        tokens += j->sentence[TGT][i].n + 1;
    }
    bool scored = j->o->search.method != NULL;
    printf("sentences\ttokens\tnll\tppl%s\n", scored ? "\tbleu\tchrf" : "");
    printf("%zu\t%zu\t%.9g\t%.6g", j->n, tokens, nll, exp(nll / (double)tokens));
    if (scored) printf("\t%.4f\t%.4f", j->bleu, j->chrf);
    printf("\n");
}

/* ---- the command ---- */

static wr_status check_options(const options *o, wr_error *err) {
    bool from_ids = o->ids[SRC] != NULL || o->ids[TGT] != NULL;
    if ((o->data != NULL) == from_ids || (o->ids[SRC] != NULL) != (o->ids[TGT] != NULL))
        return wr_fail(
            err, WR_ERR_USAGE,
            "evaluate needs either --data DIR or both --src-ids FILE and --tgt-ids FILE");
    if (from_ids && strcmp(o->ids[SRC], "-") == 0 && strcmp(o->ids[TGT], "-") == 0)
        return wr_fail(err, WR_ERR_USAGE,
                       "'-' stands for standard input, which only one of --src-ids and --tgt-ids "
                       "can read");
    if (o->search.method != NULL && (from_ids || o->per_sentence))
        return wr_fail(err, WR_ERR_USAGE,
                       "--decode gives BLEU and chrF of a whole split: use it with --data and "
                       "without --per-sentence");
    return WR_OK;
}

static wr_status measure(job *j, wr_error *err) {
    const options *o = j->o;
    wr_status status = o->data != NULL ? read_dataset(j, err) : read_ids(j, err);
    if (status != WR_OK) return status;
    wr_bar_begin(&j->bar, PLAIN_SECONDS);
    wr_decoder_scoring scoring = {
        .max_tokens = (size_t)o->max_tokens, .progress = show_progress, .context = j};
    status = wr_decoder_score(j->run.decoder, j->sentence[SRC], j->sentence[TGT], j->n, &scoring,
                              j->nll, err);
    if (status == WR_OK && o->search.method != NULL) status = translate(j, err);
    wr_bar_end(&j->bar);
    if (status != WR_OK) return status;
    if (o->per_sentence)
        print_sentences(j);
    else
        print_totals(j);
    return WR_OK;
}

static wr_status evaluate(options *o, wr_error *err) {
    job j = {.o = o};
    wr_status status = check_options(o, err);
    if (status != WR_OK) return status;
    o->run.set = &o->set;
    status = wr_run_open(&o->run, &j.run, err);
    if (status == WR_OK) status = wr_run_search_options(&j.run, &o->search, &j.search, err);
    if (status == WR_OK) status = measure(&j, err);
    wr_translations_free(&j.out);
    for (int side = 0; side < SIDES; side++) {
        wr_text_free(&j.text[side]);
        wr_ids_free(&j.pool[side]);
        free(j.from[side]);
        free(j.sentence[side]);
    }
    free(j.nll);
    wr_dataset_free(j.data);
    wr_run_close(&j.run);
    return status;
}

int wr_cmd_evaluate(int argc, char **argv) {
    options o = {0};
    wr_run_search *s = &o.search;
    const wr_opt table[] = {
        {"RUN", WR_OPT_STRING, &o.run.dir, .required = true,
         .help = "the run directory that `weir train` wrote"},
        {"--data", WR_OPT_STRING, &o.data, .value = "DIR",
         .help = "the dataset directory of the run"},
        {"--split", WR_OPT_STRING, &o.split, .fallback = "valid", .choices = "train|valid|test",
         .help = "which of its splits"},
        {"--src-ids", WR_OPT_STRING, &o.ids[SRC], .value = "FILE",
         .help = "instead of --data: a line of source token ids for each sentence"},
        {"--tgt-ids", WR_OPT_STRING, &o.ids[TGT], .value = "FILE",
         .help = "the same for the target"},
        {"--per-sentence", WR_OPT_FLAG, &o.per_sentence,
         .help = "a line for each sentence instead of the totals"},
        {"--decode", WR_OPT_STRING, &s->method, .choices = "greedy|beam",
         .help = "translate the split, too, and give BLEU and chrF"},
        {"--beam", WR_OPT_INT, &s->beam, .value = "K", .min = 1, .max = 1000,
         .given = &s->beam_given, .help = "hypotheses kept; without it as the recipe says"},
        {"--alpha", WR_OPT_REAL, &s->alpha, .min = 0, .max = 10, .given = &s->alpha_given,
         .help = "exponent of the length normalisation; without it as the recipe says"},
        {"--max-sentences", WR_OPT_INT, &s->max_sentences, .value = "B", .min = 1, .max = 100000,
         .help = "sentences translated together; without it as the recipe says"},
        {"--max-tokens", WR_OPT_INT, &o.max_tokens, .fallback = "2048", .min = 1, .max = 1e9,
         .help = "tokens scored together, padding included"},
        {"--checkpoint", WR_OPT_STRING, &o.run.checkpoint, .value = "NAME", .fallback = "best",
         .help = "best, last, average or a number of updates"},
        {"--threads", WR_OPT_INT, &o.run.threads, .fallback = "0", .min = 0, .max = 4096,
         .help = "processors used, 0 for all"},
        {"--device", WR_OPT_STRING, &o.run.device, .fallback = "auto", .choices = "auto|cpu|cuda",
         .help = "where to compute"},
        {"--set", WR_OPT_LIST, &o.set, .value = "KEY=VALUE",
         .help = "change a key of the recipe, such as decode.max_len_extra=50"},
    };
    const wr_cli cli = {
        .command = "evaluate",
        .summary = "loss terms of a trained model on data, as TSV",
        .opts = table,
        .opt_n = WR_COUNT(table),
        .notes = "nll is -log p(target | source) in nats, tokens counts the end of sentence.\n"
                 "A line of ids holds no begin of sentence; its end (id 3) may be left out.\n"
                 "Example: weir evaluate RUN --data DIR --split test --decode beam"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    code = wr_cli_end(evaluate(&o, &err), &err);
    wr_list_free(&o.set);
    return code;
}
