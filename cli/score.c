/* score.c: `weir score`: BLEU and chrF of a translation as JSON lines. */
#include "cli/cli.h"
#include "data/score.h"

#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    const char *hyp, *metric, *tokenize, *smooth;
    wr_list refs;
    bool lowercase, sentence;
    bool bleu, chrf; /* the metrics asked for */
    wr_score_options score;
} options;

/* Read "bleu,chrf", each name once or more, in any order. */
static wr_status parse_metrics(options *o, wr_error *err) {
    const char *at = o->metric;
    for (;;) {
        size_t n = strcspn(at, ",");
        bool bleu = n == 4 && strncmp(at, "bleu", n) == 0;
        bool chrf = n == 4 && strncmp(at, "chrf", n) == 0;
        if (!bleu && !chrf)
            return wr_fail(err, WR_ERR_USAGE,
                           "--metric: '%.*s' is no metric; allowed are bleu, chrf and bleu,chrf",
                           (int)n, at);
        o->bleu |= bleu;
        o->chrf |= chrf;
        if (at[n] == '\0') return WR_OK;
        at += n + 1;
    }
}

static wr_status check_options(options *o, wr_error *err) {
    size_t from_stdin = strcmp(o->hyp, "-") == 0;
    for (size_t i = 0; i < o->refs.n; i++)
        from_stdin += strcmp(o->refs.items[i], "-") == 0;
    if (from_stdin > 1)
        return wr_fail(err, WR_ERR_USAGE,
                       "'-' stands for standard input, which only one of --hyp and --ref can read");
    o->score.lowercase = o->lowercase;
    o->score.effective_order = o->sentence;
    if (!wr_tok_parse(o->tokenize, &o->score.tok) || !wr_smooth_parse(o->smooth, &o->score.smooth))
        return wr_fail(err, WR_ERR_LIBRARY, "--tokenize %s or --smooth %s has no meaning",
                       o->tokenize, o->smooth);
    return parse_metrics(o, err);
}

/* ---- output ---- */

static bool add_integers(cJSON *to, const char *name, const uint64_t *values, int n) {
    cJSON *array = cJSON_AddArrayToObject(to, name);
    bool ok = array != NULL;
    for (int i = 0; i < n && ok; i++)
        ok = cJSON_AddItemToArray(array, cJSON_CreateNumber((double)values[i]));
    return ok;
}

static bool add_bleu_details(cJSON *to, const wr_bleu_result *r) {
    cJSON *precisions = cJSON_CreateDoubleArray(r->precisions, WR_BLEU_ORDER);
    return cJSON_AddItemToObject(to, "precisions", precisions) &&
           cJSON_AddNumberToObject(to, "bp", r->bp) != NULL &&
           cJSON_AddNumberToObject(to, "hyp_len", (double)r->stats.hyp_len) != NULL &&
           cJSON_AddNumberToObject(to, "ref_len", (double)r->stats.ref_len) != NULL &&
           add_integers(to, "counts", r->stats.correct, WR_BLEU_ORDER) &&
           add_integers(to, "totals", r->stats.total, WR_BLEU_ORDER);
}

/* Print one JSON line and free `line`; `complete` is false when building it ran out of memory. */
static wr_status print_line(cJSON *line, bool complete, wr_error *err) {
    char *text = complete ? cJSON_PrintUnformatted(line) : NULL;
    cJSON_Delete(line);
    if (text == NULL) return wr_fail_memory(err, "the scores as JSON", 1024);
    puts(text);
    free(text);
    return WR_OK;
}

/* ---- corpus ---- */

static bool add_signatures(cJSON *to, const options *o) {
    wr_str text = {0};
    bool ok = true;
    if (o->bleu) {
        wr_bleu_signature(&o->score, o->refs.n, &text);
        ok = !text.oom && cJSON_AddStringToObject(to, "signature", wr_str_text(&text)) != NULL;
    }
    wr_str_clear(&text);
    if (o->chrf && ok) {
        const char *name = o->bleu ? "chrf_signature" : "signature";
        wr_chrf_signature(&o->score, o->refs.n, &text);
        ok = !text.oom && cJSON_AddStringToObject(to, name, wr_str_text(&text)) != NULL;
    }
    wr_str_free(&text);
    return ok;
}

static wr_status score_corpus(const options *o, const wr_text *hyp, const wr_text *refs,
                              wr_error *err) {
    wr_bleu_result bleu = {0};
    wr_chrf_result chrf = {0};
    wr_status status = WR_OK;
    if (o->bleu) status = wr_bleu(hyp, refs, o->refs.n, &o->score, &bleu, err);
    if (o->chrf && status == WR_OK) status = wr_chrf(hyp, refs, o->refs.n, &o->score, &chrf, err);
    if (status != WR_OK) return status;
    cJSON *line = cJSON_CreateObject();
    bool ok = line != NULL;
    if (o->bleu) ok = ok && cJSON_AddNumberToObject(line, "bleu", bleu.score) != NULL;
    if (o->chrf) ok = ok && cJSON_AddNumberToObject(line, "chrf", chrf.score) != NULL;
    ok = ok && add_signatures(line, o);
    if (o->bleu) ok = ok && add_bleu_details(line, &bleu);
    ok = ok && cJSON_AddNumberToObject(line, "sentences", (double)hyp->n) != NULL;
    return print_line(line, ok, err);
}

/* ---- sentences ---- */

static wr_status score_sentence(const options *o, wr_scorer *scorer, wr_segment hyp,
                                const wr_segment *refs, size_t number, wr_error *err) {
    wr_bleu_stats bleu = {0};
    wr_chrf_stats chrf = {0};
    wr_status status = WR_OK;
    if (o->bleu) status = wr_scorer_add_bleu(scorer, hyp, refs, o->refs.n, &bleu, err);
    if (o->chrf && status == WR_OK)
        status = wr_scorer_add_chrf(scorer, hyp, refs, o->refs.n, &chrf, err);
    if (status != WR_OK) return status;
    cJSON *line = cJSON_CreateObject();
    bool ok = cJSON_AddNumberToObject(line, "sentence", (double)number) != NULL;
    if (o->bleu) {
        double score = wr_bleu_from_stats(&bleu, &o->score).score;
        ok = ok && cJSON_AddNumberToObject(line, "bleu", score) != NULL;
    }
    if (o->chrf) {
        double score = wr_chrf_from_stats(&chrf).score;
        ok = ok && cJSON_AddNumberToObject(line, "chrf", score) != NULL;
    }
    return print_line(line, ok, err);
}

static wr_status score_sentences(const options *o, const wr_text *hyp, const wr_text *refs,
                                 wr_error *err) {
    wr_scorer *scorer = NULL;
    wr_segment *segments = malloc(o->refs.n * sizeof *segments);
    if (segments == NULL) return wr_fail_memory(err, "references", o->refs.n * sizeof *segments);
    wr_status status = wr_scorer_new(&o->score, &scorer, err);
    for (size_t i = 0; i < hyp->n && status == WR_OK; i++) {
        for (size_t r = 0; r < o->refs.n; r++)
            segments[r] = (wr_segment){refs[r].line[i], refs[r].len[i]};
        wr_segment h = {hyp->line[i], hyp->len[i]};
        status = score_sentence(o, scorer, h, segments, i + 1, err);
    }
    wr_scorer_free(scorer);
    free(segments);
    return status;
}

/* ---- the command ---- */

static wr_status score_files(const options *o, wr_text *hyp, wr_text *refs, wr_error *err) {
    wr_status status = wr_text_read(o->hyp, 0, hyp, err);
    for (size_t i = 0; i < o->refs.n && status == WR_OK; i++)
        status = wr_text_read(o->refs.items[i], 0, &refs[i], err);
    if (status == WR_OK) status = wr_score_check(hyp, refs, o->refs.n, err);
    if (status != WR_OK) return status;
    return o->sentence ? score_sentences(o, hyp, refs, err) : score_corpus(o, hyp, refs, err);
}

static wr_status score(options *o, wr_error *err) {
    wr_status status = check_options(o, err);
    if (status != WR_OK) return status;
    wr_text hyp = {0}, *refs = calloc(o->refs.n, sizeof *refs);
    if (refs == NULL) return wr_fail_memory(err, "references", o->refs.n * sizeof *refs);
    status = score_files(o, &hyp, refs, err);
    for (size_t i = 0; i < o->refs.n; i++)
        wr_text_free(&refs[i]);
    free(refs);
    wr_text_free(&hyp);
    return status;
}

int wr_cmd_score(int argc, char **argv) {
    options o = {0};
    const wr_opt table[] = {
        {"--hyp", WR_OPT_STRING, &o.hyp, .value = "FILE", .required = true,
         .help = "the translation, a sentence a line; .gz and .xz too, - for standard input"},
        {"--ref", WR_OPT_MANY, &o.refs, .value = "FILE", .required = true,
         .help = "one or more references with the same number of lines"},
        {"--metric", WR_OPT_STRING, &o.metric, .value = "NAMES", .fallback = "bleu,chrf",
         .help = "bleu, chrf or both with a comma"},
        {"--tokenize", WR_OPT_STRING, &o.tokenize, .fallback = "13a",
         .choices = "13a|none|intl|spaces", .help = "how BLEU finds words"},
        {"--lowercase", WR_OPT_FLAG, &o.lowercase, .help = "ignore case"},
        {"--smooth", WR_OPT_STRING, &o.smooth, .fallback = "exp", .choices = "exp|none|floor|add-k",
         .help = "what a BLEU precision without a match counts"},
        {"--sentence", WR_OPT_FLAG, &o.sentence,
         .help = "a line for each sentence (BLEU with effective order) instead of the corpus"},
    };
    const wr_cli cli = {.command = "score",
                        .summary = "BLEU and chrF of a translation, as JSON lines",
                        .opts = table,
                        .opt_n = WR_COUNT(table),
                        .notes = "Scores equal sacreBLEU's for the same signature.\n"
                                 "Example: weir score --hyp out.en --ref test.en"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    wr_status status = score(&o, &err);
    wr_list_free(&o.refs);
    return wr_cli_end(status, &err);
}
