/* evaluate.c: `weir evaluate`: loss terms of a trained model on data, as TSV. */
#include "cli/evaluate_internal.h"
#include "data/filter.h"
#include "data/score.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SRC = WR_EVALUATE_SRC, TGT = WR_EVALUATE_TGT, SIDES = WR_EVALUATE_SIDES };
/* Seconds between lines of progress where there is no terminal. */
enum { PLAIN_SECONDS = 30 };

typedef wr_evaluate_options options;
typedef wr_evaluation job;

/* ---- ids from files ---- */

static wr_status bad_id(const job *j, int side, size_t line, const char *at, int vocab,
                        wr_error *err) {
    return wr_fail(err, WR_ERR_INPUT,
                   "%s:%zu: '%.20s' is no token id; a line holds ids from 0 to %d with spaces "
                   "between them",
                   j->text[side].path, line + 1, at, vocab - 1);
}

/* The end of sentence is added by scoring; one that the line has is that one. A FlowSeq reads ids
 * as they are. */
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
    if (j->run.flowseq != NULL) return wr__evaluate_check_line(j, side, line, err);
    if (pool->n > j->from[side][line] && pool->id[pool->n - 1] == WR_EOS_ID) pool->n--;
    return WR_OK;
}

static wr_status read_side(job *j, int side, wr_error *err) {
    int vocab = side == SRC ? j->run.src_vocab : j->run.tgt_vocab;
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
    bool ok = true;
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
    wr_status status = wr_run_needs_text(&j->run, j->o->run.dir, err);
    if (status == WR_OK) status = wr_dataset_open(j->o->data, &j->data, err);
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

/* The best translations as C strings one after the other; `hyp` [n] points at them. */
static wr_status spell(const job *j, const wr_translations *out, wr_str *text, const char **hyp,
                       wr_error *err) {
    size_t *at = malloc(sizeof *at * (j->n + 1));
    wr_status status = at == NULL ? wr_fail_memory(err, "translations", sizeof *at * j->n) : WR_OK;
    for (size_t i = 0; status == WR_OK && i < j->n; i++) {
        at[i] = text->len;
        status = wr_run_text(&j->run, &out->hyp[i * out->nbest], text, err);
        wr_str_bytes(text, "", 1);
    }
    if (status == WR_OK && text->oom) status = wr_fail_memory(err, "translations", text->len);
    for (size_t i = 0; status == WR_OK && i < j->n; i++)
        hyp[i] = text->text + at[i];
    free(at);
    return status;
}

static wr_status compare(const job *j, const char **hyp, const char **ref,
                         wr_evaluate_scores *scores, wr_error *err) {
    wr_score_options o = {.lowercase = wr_dataset_info_of(j->data)->lowercase};
    wr_bleu_result bleu = {0};
    wr_chrf_result chrf = {0};
    for (size_t i = 0; i < j->n; i++)
        ref[i] = wr_side_text(&j->pairs->tgt, i);
    const char *const *const refs[] = {ref};
    wr_status status = wr_bleu_strings(hyp, refs, 1, j->n, &o, &bleu, err);
    if (status == WR_OK) status = wr_chrf_strings(hyp, refs, 1, j->n, &o, &chrf, err);
    *scores = (wr_evaluate_scores){bleu.score, chrf.score};
    return status;
}

wr_status wr__evaluate_compare(const wr_evaluation *j, const wr_translations *out,
                               wr_evaluate_scores *scores, wr_error *err) {
    wr_str text = {0};
    const char **hyp = malloc(sizeof *hyp * (j->n + 1)), **ref = malloc(sizeof *ref * (j->n + 1));
    wr_status status = hyp == NULL || ref == NULL
                           ? wr_fail_memory(err, "translations", j->n * sizeof *hyp)
                           : spell(j, out, &text, hyp, err);
    if (status == WR_OK) status = compare(j, hyp, ref, scores, err);
    wr_str_free(&text);
    free(hyp);
    free(ref);
    return status;
}

void wr__evaluate_progress(void *context, size_t done, size_t total) {
    job *j = context;
    bool short_work = wr_now() - j->bar.began < PLAIN_SECONDS;
    if (!j->bar.terminal && short_work) return;
    wr_bar_show(&j->bar, (double)done / (double)total, "%zu of %zu sentences", done, total);
}

wr_status wr__evaluate_translate(wr_evaluation *j, wr_evaluate_scores *scores, wr_error *err) {
    wr_status status = wr_run_translate(&j->searcher, j->sentence[SRC], j->n, wr__evaluate_progress,
                                        j, &j->out, err);
    return status == WR_OK ? wr__evaluate_compare(j, &j->out, scores, err) : status;
}

/* ---- a Transformer ---- */

static void print_sentences(const job *j, const double *nll) {
    printf("sentence\tnll\ttokens\n");
    for (size_t i = 0; i < j->n; i++)
        printf("%zu\t%.9g\t%zu\n", i + 1, nll[i], j->sentence[TGT][i].n + 1);
}

static void print_totals(const job *j, const double *each, const wr_evaluate_scores *scores) {
    double nll = 0;
    size_t tokens = 0;
    for (size_t i = 0; i < j->n; i++) {
        nll += each[i];
        tokens += j->sentence[TGT][i].n + 1;
    }
    bool scored = j->o->search.method != NULL;
    printf("sentences\ttokens\tnll\tppl%s\n", scored ? "\tbleu\tchrf" : "");
    printf("%zu\t%zu\t%.9g\t%.6g", j->n, tokens, nll, exp(nll / (double)tokens));
    if (scored) printf("\t%.4f\t%.4f", scores->bleu, scores->chrf);
    printf("\n");
}

static wr_status measure_transformer(job *j, wr_error *err) {
    const options *o = j->o;
    wr_evaluate_scores scores = {0};
    double *nll = malloc(sizeof *nll * (j->n + 1));
    wr_decoder_scoring scoring = {
        .max_tokens = (size_t)o->max_tokens, .progress = wr__evaluate_progress, .context = j};
    wr_status status = nll == NULL ? wr_fail_memory(err, "losses", sizeof *nll * j->n)
                                   : wr_decoder_score(j->run.decoder, j->sentence[SRC],
                                                      j->sentence[TGT], j->n, &scoring, nll, err);
    if (status == WR_OK && o->search.method != NULL)
        status = wr__evaluate_translate(j, &scores, err);
    wr_bar_end(&j->bar);
    if (status == WR_OK && o->per_sentence) print_sentences(j, nll);
    if (status == WR_OK && !o->per_sentence) print_totals(j, nll, &scores);
    free(nll);
    return status;
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
    if (j->run.flowseq == NULL && o->posterior != NULL)
        return wr_fail(err, WR_ERR_USAGE, "--posterior is for a FlowSeq, but the run is %s",
                       wr_run_kind(&j->run));
    wr_status status = o->data != NULL ? read_dataset(j, err) : read_ids(j, err);
    if (status != WR_OK) return status;
    wr_bar_begin(&j->bar, PLAIN_SECONDS);
    status = j->run.flowseq != NULL ? wr__evaluate_flowseq(j, err)
             : j->run.nat != NULL   ? wr__evaluate_nat(j, err)
                                    : measure_transformer(j, err);
    wr_bar_end(&j->bar);
    return status;
}

static wr_status evaluate(options *o, wr_error *err) {
    job j = {.o = o};
    wr_status status = check_options(o, err);
    if (status != WR_OK) return status;
    o->run.set = &o->set;
    status = wr_run_open(&o->run, &j.run, err);
    if (status == WR_OK)
        status = wr_run_searcher_open(&j.run, &o->run, &o->search, &j.searcher, err);
    if (status == WR_OK) status = measure(&j, err);
    wr_translations_free(&j.out);
    for (int side = 0; side < SIDES; side++) {
        wr_text_free(&j.text[side]);
        wr_ids_free(&j.pool[side]);
        free(j.from[side]);
        free(j.sentence[side]);
    }
    wr_dataset_free(j.data);
    wr_run_searcher_close(&j.searcher);
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
        {"--posterior", WR_OPT_STRING, &o.posterior, .choices = "mean|sample",
         .help =
             "a FlowSeq's latent variables: the mean, which it is without the option, or drawn"},
        {"--posterior-samples", WR_OPT_INT, &o.posterior_samples, .value = "K", .fallback = "3",
         .min = 1, .max = 10000, .help = "of a sentence with --posterior sample"},
        {"--decode", WR_OPT_STRING, &s->method, .choices = WR_RUN_SEARCH_METHODS,
         .help = "translate the split, too, and give BLEU and chrF; a non-autoregressive model "
                 "does without it, as the recipe says"},
        WR_RUN_SEARCH_OPTS(s),
        {"--max-tokens", WR_OPT_INT, &o.max_tokens, .fallback = "2048", .min = 1, .max = 1e9,
         .given = &o.max_tokens_given,
         .help = "tokens scored together, padding included; of a non-autoregressive model without "
                 "it as in training"},
        {"--checkpoint", WR_OPT_STRING, &o.run.checkpoint, .value = "NAME", .fallback = "best",
         .help = "best, last, average or a number of updates"},
        {"--threads", WR_OPT_INT, &o.run.threads, .fallback = "0", .min = 0, .max = 4096,
         .help = "processors used, 0 for all"},
        {"--trap-nan", WR_OPT_FLAG, &o.run.trap_nan, .help = WR_TRAP_HELP},
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
        .notes =
            "nll is -log p(target | source) in nats, tokens counts the end of sentence.\n"
            "A line of ids holds no begin of sentence; its end (id 3) may be left out.\n"
            "A FlowSeq reads ids as they are: a source with its end, a target filled with\n"
            "ends up to a multiple of the model's unit.\n"
            "A non-autoregressive model has the terms of its validation: loss, nll and length\n"
            "per token or sentence.\n"
            "Example: weir evaluate RUN --data DIR --split test --decode beam"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    code = wr_cli_end(evaluate(&o, &err), &err);
    wr_list_free(&o.set);
    return code;
}
