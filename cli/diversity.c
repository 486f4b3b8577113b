/* diversity.c: `weir diversity`: how much candidate translations differ, as a JSON line. */
#include "data/diversity.h"
#include "cli/cli.h"

#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    const char *hyp, *tokenize, *smooth;
    wr_list refs;
    int64_t group;
    bool grouped, scores, lowercase;
    wr_score_options score;
} options;

typedef struct job {
    options *o;
    wr_text hyp, *refs;
    wr_groups groups;
    wr_bar bar;
} job;

static wr_status check_options(options *o, wr_error *err) {
    size_t from_stdin = strcmp(o->hyp, "-") == 0;
    for (size_t i = 0; i < o->refs.n; i++)
        from_stdin += strcmp(o->refs.items[i], "-") == 0;
    if (from_stdin > 1)
        return wr_fail(err, WR_ERR_USAGE,
                       "'-' stands for standard input, which only one of --hyp and --ref can read");
    if (o->grouped && o->scores)
        return wr_fail(err, WR_ERR_USAGE,
                       "--group is for plain lines, --scores for lines that begin with the "
                       "sentence's number and two scores; leave one out");
    o->score.lowercase = o->lowercase;
    if (!wr_tok_parse(o->tokenize, &o->score.tok) || !wr_smooth_parse(o->smooth, &o->score.smooth))
        return wr_fail(err, WR_ERR_LIBRARY, "--tokenize %s or --smooth %s has no meaning",
                       o->tokenize, o->smooth);
    return WR_OK;
}

static bool fill_line(cJSON *line, const options *o, const wr_diversity *d) {
    bool ok = cJSON_AddNumberToObject(line, "pairwise_bleu", d->pairwise) != NULL &&
              cJSON_AddNumberToObject(line, "pairwise_bleu_pooled", d->pairwise_pooled) != NULL &&
              cJSON_AddNumberToObject(line, "leave_one_out_bleu", d->leave_one_out) != NULL &&
              cJSON_AddNumberToObject(line, "distinct", d->distinct) != NULL;
    if (o->refs.n > 0)
        ok = ok && cJSON_AddNumberToObject(line, "average_bleu", d->average) != NULL &&
             cJSON_AddNumberToObject(line, "first_bleu", d->first) != NULL &&
             cJSON_AddNumberToObject(line, "oracle_bleu", d->oracle) != NULL;
    wr_str signature = {0};
    wr_bleu_signature(&o->score, o->refs.n > 0 ? o->refs.n : 1, &signature);
    ok = ok && cJSON_AddNumberToObject(line, "sentences", (double)d->sentences) != NULL &&
         cJSON_AddNumberToObject(line, "candidates", (double)d->candidates) != NULL &&
         !signature.oom &&
         cJSON_AddStringToObject(line, "signature", wr_str_text(&signature)) != NULL;
    wr_str_free(&signature);
    return ok;
}

static wr_status print_line(const options *o, const wr_diversity *d, wr_error *err) {
    cJSON *line = cJSON_CreateObject();
    char *text = line != NULL && fill_line(line, o, d) ? cJSON_PrintUnformatted(line) : NULL;
    cJSON_Delete(line);
    if (text == NULL) return wr_fail_memory(err, "the result as JSON", 1024);
    puts(text);
    cJSON_free(text);
    return WR_OK;
}

static void show_progress(void *context, double fraction) {
    job *j = context;
    if (j->bar.terminal) wr_bar_show(&j->bar, fraction, "comparing");
}

static wr_status measure(job *j, wr_error *err) {
    options *o = j->o;
    wr_diversity d;
    wr_status status = wr_text_read(o->hyp, 0, &j->hyp, err);
    for (size_t i = 0; i < o->refs.n && status == WR_OK; i++)
        status = wr_text_read(o->refs.items[i], 0, &j->refs[i], err);
    if (status == WR_OK)
        status = o->grouped ? wr_groups_consecutive(&j->hyp, (size_t)o->group, &j->groups, err)
                            : wr_groups_numbered(&j->hyp, o->scores, &j->groups, err);
    if (status != WR_OK) return status;
    wr_bar_begin(&j->bar, 30);
    status =
        wr_diversity_measure(&j->groups, j->refs, o->refs.n, &o->score, show_progress, j, &d, err);
    wr_bar_end(&j->bar);
    return status == WR_OK ? print_line(o, &d, err) : status;
}

static wr_status diversity(options *o, wr_error *err) {
    job j = {.o = o};
    wr_status status = check_options(o, err);
    if (status != WR_OK) return status;
    j.refs = calloc(o->refs.n + 1, sizeof *j.refs);
    if (j.refs == NULL) return wr_fail_memory(err, "references", o->refs.n * sizeof *j.refs);
    status = measure(&j, err);
    for (size_t i = 0; i < o->refs.n; i++)
        wr_text_free(&j.refs[i]);
    free(j.refs);
    wr_text_free(&j.hyp);
    wr_groups_free(&j.groups);
    return status;
}

int wr_cmd_diversity(int argc, char **argv) {
    options o = {0};
    const wr_opt table[] = {
        {"--hyp", WR_OPT_STRING, &o.hyp, .value = "FILE", .required = true,
         .help = "the candidates, one a line, those of a sentence together; .gz and .xz too, - for "
                 "standard input"},
        {"--group", WR_OPT_INT, &o.group, .value = "N", .min = 2, .max = 1e6, .given = &o.grouped,
         .help = "N lines for each sentence; without it lines begin with the sentence's number and "
                 "a tab, as `weir translate --nbest` writes them"},
        {"--scores", WR_OPT_FLAG, &o.scores,
         .help = "two scores follow the number, as `weir translate --scores` writes them"},
        {"--ref", WR_OPT_MANY, &o.refs, .value = "FILE",
         .help = "one or more references, a line for each sentence"},
        {"--tokenize", WR_OPT_STRING, &o.tokenize, .fallback = "13a",
         .choices = "13a|none|intl|spaces", .help = "how BLEU finds words"},
        {"--lowercase", WR_OPT_FLAG, &o.lowercase, .help = "ignore case"},
        {"--smooth", WR_OPT_STRING, &o.smooth, .fallback = "exp", .choices = "exp|none|floor|add-k",
         .help = "what a BLEU precision without a match counts"},
    };
    const wr_cli cli = {
        .command = "diversity",
        .summary = "how much candidate translations differ, as a JSON line",
        .opts = table,
        .opt_n = WR_COUNT(table),
        .notes = "Example: weir translate RUN --input test.de --beam 10 --nbest 10 > nbest\n"
                 "         weir diversity --hyp nbest --ref test.en"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    wr_status status = diversity(&o, &err);
    wr_list_free(&o.refs);
    return wr_cli_end(status, &err);
}
