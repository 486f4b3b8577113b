/* translate.c: `weir translate`: plain text in, plain text out. */
#include "cli/cli.h"
#include "cli/run_search.h"
#include "data/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Seconds between lines of progress where there is no terminal. */
enum { PLAIN_SECONDS = 30 };

typedef struct options {
    wr_run_options run;
    wr_run_search search;
    const char *input, *output;
    bool scores;
    wr_list set;
} options;

/* The input's sentences: those with words are translated, `line` says where they come from. */
typedef struct job {
    const options *o;
    wr_run run;
    wr_run_searcher searcher;
    wr_text text;
    wr_ids ids;
    size_t *from, *count; /* [lines] in ids */
    wr_sentence *src;     /* [sentences] */
    size_t *line;         /* [sentences] */
    size_t n;
    wr_translations out;
    wr_bar bar;
} job;

/* ---- input ---- */

static void warn_if_cut(const job *j, size_t line, size_t tokens) {
    int max_len = wr_run_max_len(&j->run);
    if (tokens < (size_t)max_len) return;
    fprintf(stderr,
            "weir: %s:%zu: warning: %zu tokens are more than the %d that the model takes "
            "(model.max_len = %d with the end); translated without the rest\n",
            j->text.path, line + 1, tokens, max_len - 1, max_len);
}

static wr_status encode_line(job *j, size_t i, wr_error *err) {
    j->from[i] = j->ids.n;
    wr_status status = wr_subword_encode(j->run.src, j->text.line[i], j->text.len[i], &j->ids, err);
    j->count[i] = j->ids.n - j->from[i];
    warn_if_cut(j, i, j->count[i]);
    return status;
}

static wr_status encode_all(job *j, wr_error *err) {
    size_t lines = j->text.n;
    j->from = malloc(sizeof *j->from * (lines + 1));
    j->count = malloc(sizeof *j->count * (lines + 1));
    j->src = malloc(sizeof *j->src * (lines + 1));
    j->line = malloc(sizeof *j->line * (lines + 1));
    if (j->from == NULL || j->count == NULL || j->src == NULL || j->line == NULL)
        return wr_fail_memory(err, "sentences", sizeof *j->src * lines);
    for (size_t i = 0; i < lines; i++) {
        wr_status status = encode_line(j, i, err);
        if (status != WR_OK) return status;
    }
    for (size_t i = 0; i < lines; i++) {
        if (j->count[i] == 0) continue;
        j->src[j->n] = (wr_sentence){.id = j->ids.id + j->from[i], .n = j->count[i]};
        j->line[j->n++] = i;
    }
    return WR_OK;
}

/* ---- output ---- */

/* [sentence TAB] [score TAB log p TAB] text */
static wr_status add_line(const job *j, size_t line, const wr_hypothesis *h, wr_str *out,
                          wr_error *err) {
    if (j->searcher.nbest > 1) wr_str_add(out, "%zu\t", line + 1);
    if (j->o->scores) wr_str_add(out, "%.6f\t%.6f\t", h->score, h->logp);
    wr_status status = h->n == 0 ? WR_OK : wr_run_text(&j->run, h, out, err);
    wr_str_add(out, "\n");
    return status;
}

static wr_status format_all(const job *j, wr_str *out, wr_error *err) {
    const wr_hypothesis nothing = {0};
    wr_status status = WR_OK;
    size_t at = 0;
    for (size_t line = 0; status == WR_OK && line < j->text.n; line++) {
        if (at == j->n || j->line[at] != line) {
            status = add_line(j, line, &nothing, out, err);
            continue;
        }
        for (size_t k = 0; status == WR_OK && k < j->out.count[at]; k++)
            status = add_line(j, line, &j->out.hyp[at * j->out.nbest + k], out, err);
        at++;
    }
    if (status == WR_OK && out->oom) status = wr_fail_memory(err, "the output", out->len);
    return status;
}

static wr_status write_all(const job *j, wr_error *err) {
    wr_str out = {0};
    wr_status status = format_all(j, &out, err);
    if (status == WR_OK && strcmp(j->o->output, "-") != 0)
        status = wr_file_replace(j->o->output, wr_str_text(&out), out.len, err);
    else if (status == WR_OK)
        fwrite(wr_str_text(&out), 1, out.len, stdout);
    wr_str_free(&out);
    return status;
}

/* ---- the command ---- */

static void show_progress(void *context, size_t done, size_t total) {
    job *j = context;
    bool short_work = wr_now() - j->bar.began < PLAIN_SECONDS;
    if (!j->bar.terminal && short_work) return;
    wr_bar_show(&j->bar, (double)done / (double)total, "%zu of %zu sentences", done, total);
}

static void tell_drafts(const wr_run_drafter *x, double seconds) {
    const wr_draft_stats *s = &x->stats;
    if (s->sentences == 0) return;
    double n = (double)s->sentences;
    fprintf(stderr,
            "weir: drafts: %.2f passes for the %.2f tokens of a sentence; %.1f %% of the drafted "
            "words accepted; %.2f s to draft, %.2f s to verify",
            (double)s->passes / n, (double)s->tokens / n,
            s->drafted == 0 ? 0 : 100 * (double)s->accepted / (double)s->drafted, x->seconds,
            seconds - x->seconds);
    if (s->redone > 0)
        fprintf(stderr, "; %zu of %zu sentences without drafts because of near ties", s->redone,
                s->sentences);
    fputc('\n', stderr);
}

static wr_status translate_text(job *j, wr_error *err) {
    wr_status status = wr_text_read(j->o->input, WR_TEXT_MAY_BE_EMPTY, &j->text, err);
    if (status == WR_OK) status = encode_all(j, err);
    if (status != WR_OK) return status;
    wr_bar_begin(&j->bar, PLAIN_SECONDS);
    double began = wr_now();
    status = wr_run_translate(&j->searcher, j->src, j->n, show_progress, j, &j->out, err);
    wr_bar_end(&j->bar);
    if (status == WR_OK && j->searcher.drafter != NULL)
        tell_drafts(j->searcher.drafter, wr_now() - began);
    return status == WR_OK ? write_all(j, err) : status;
}

static wr_status translate(options *o, wr_error *err) {
    job j = {.o = o};
    o->run.set = &o->set;
    wr_status status = wr_run_open(&o->run, &j.run, err);
    if (status == WR_OK) status = wr_run_needs_text(&j.run, o->run.dir, err);
    if (status == WR_OK)
        status = wr_run_searcher_open(&j.run, &o->run, &o->search, &j.searcher, err);
    if (status == WR_OK) status = translate_text(&j, err);
    wr_translations_free(&j.out);
    wr_text_free(&j.text);
    wr_ids_free(&j.ids);
    free(j.from);
    free(j.count);
    free(j.src);
    free(j.line);
    wr_run_searcher_close(&j.searcher);
    wr_run_close(&j.run);
    return status;
}

int wr_cmd_translate(int argc, char **argv) {
    options o = {0};
    wr_run_search *s = &o.search;
    const wr_opt table[] = {
        {"RUN", WR_OPT_STRING, &o.run.dir, .required = true,
         .help = "the run directory that `weir train` wrote"},
        {"--input", WR_OPT_STRING, &o.input, .value = "FILE", .fallback = "-",
         .help = "text, a sentence a line; .gz and .xz too, - for standard input"},
        {"--output", WR_OPT_STRING, &o.output, .value = "FILE", .fallback = "-",
         .help = "where the translations go, - for standard output"},
        {"--decode", WR_OPT_STRING, &s->method, .choices = WR_RUN_SEARCH_METHODS,
         .help = "how to search; without it as the recipe says"},
        WR_RUN_SEARCH_OPTS(s),
        {"--draft", WR_OPT_STRING, &s->draft, .value = "RUN",
         .help = "greedy: a non-autoregressive model or FlowSeq that drafts: faster, same output"},
        {"--nbest", WR_OPT_INT, &s->nbest, .value = "N", .fallback = "1", .min = 1, .max = 1000,
         .help =
             "translations for each line; above 1 each begins with the line's number and a tab"},
        {"--scores", WR_OPT_FLAG, &o.scores,
         .help = "put score and log-probability in front, with tabs"},
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
    const wr_cli cli = {.command = "translate",
                        .summary = "translate text with a trained model",
                        .opts = table,
                        .opt_n = WR_COUNT(table),
                        .notes = "An empty line gives an empty line.\n"
                                 "greedy and beam are for a Transformer; argmax, npd and iwd for a "
                                 "FlowSeq;\n"
                                 "argmax and mask-predict for a non-autoregressive model, ctc and "
                                 "ctc-beam for\n"
                                 "one that was trained with ctc.\n"
                                 "Example: weir translate RUN --input test.de --beam 4 > test.en\n"
                                 "         weir translate RUN --decode npd --lengths 3 --samples "
                                 "10 --rescorer RUN2\n"
                                 "         weir translate RUN --decode ctc-beam --lm FILE.arpa "
                                 "--length-bonus 0.9\n"
                                 "         weir translate RUN --decode greedy --draft RUN2"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    code = wr_cli_end(translate(&o, &err), &err);
    wr_list_free(&o.set);
    return code;
}
