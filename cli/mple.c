/* mple.c: `weir mple`: what trained non-autoregressive models pay for their proxy targets and
 * inputs, beside their BLEU (Huang et al. 2022; models/mple.h has the terms). */
#include "cli/mple.h"
#include "models/mple.h"

#include <cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the conditional total correlation ---- */

/* What a token of the framing costs is known: nothing. So words' costs are spread over tokens. */
static double a_token(double a_word, const wr_mple_row *r) { return a_word * r->words / r->tokens; }

/* The exact values of `weir synth multimodal` for the split. */
static wr_status read_known(const wr_mple_options *o, const wr_mple_row *row, wr_mple_summary *s,
                            wr_error *err) {
    char *text = NULL;
    size_t n;
    wr_status status = wr_file_read(o->known, &text, &n, err);
    if (status != WR_OK) return status;
    cJSON *json = cJSON_Parse(text);
    const cJSON *exact = cJSON_GetObjectItemCaseSensitive(json, "exact");
    const cJSON *split = cJSON_GetObjectItemCaseSensitive(exact, o->split);
    const cJSON *bits = cJSON_GetObjectItemCaseSensitive(split, "bits_per_word");
    const cJSON *c = cJSON_GetObjectItemCaseSensitive(bits, "correlation");
    const cJSON *all = cJSON_GetObjectItemCaseSensitive(bits, "marginals");
    if (cJSON_IsNumber(c) && cJSON_IsNumber(all)) {
        s->known = a_token(c->valuedouble, row);
        s->floor = a_token(all->valuedouble, row);
    } else {
        status = wr_fail(err, WR_ERR_INPUT,
                         "%s: no exact.%s.bits_per_word; --known takes the synth.json that `weir "
                         "synth multimodal` writes",
                         o->known, o->split);
    }
    cJSON_Delete(json);
    free(text);
    return status;
}

static wr_status score_transformer(const wr_mple_data *d, double *nats, wr_error *err) {
    const wr_mple_options *o = d->o;
    const wr_run_options how = {.dir = o->autoregressive,
                                .checkpoint = o->checkpoint,
                                .device = o->device,
                                .threads = o->threads};
    wr_run run = {0};
    double *nll = malloc((d->n + 1) * sizeof *nll);
    wr_status status = nll == NULL ? wr_fail_memory(err, "costs", d->n * sizeof *nll)
                                   : wr_run_open(&how, &run, err);
    if (status == WR_OK && run.decoder == NULL)
        status = wr_fail(err, WR_ERR_INPUT, "%s is %s; --autoregressive takes a Transformer",
                         how.dir, wr_run_kind(&run));
    if (status == WR_OK) status = wr__mple_same_models(d, &run, how.dir, err);
    const wr_decoder_scoring scoring = {0};
    if (status == WR_OK)
        status =
            wr_decoder_score(run.decoder, d->src.words, d->own.words, d->n, &scoring, nll, err);
    *nats = 0;
    for (size_t i = 0; i < d->n && status == WR_OK; i++)
        *nats += nll[i];
    wr_run_close(&run);
    free(nll);
    return status;
}

/* By the first run with plain cross-entropy on the dataset's own targets. */
static wr_status estimate(const wr_mple_data *d, const wr_mple_row *row, size_t n,
                          wr_mple_summary *s, wr_error *err) {
    const wr_mple_row *nat = NULL;
    double at = 0;
    for (size_t i = n; i-- > 0;)
        if (row[i].vanilla && row[i].own_targets) nat = &row[i];
    if (nat == NULL)
        return wr_fail(err, WR_ERR_INPUT,
                       "--autoregressive needs a run with objective.name = ce, measured on the "
                       "dataset's own targets, to compare with");
    if (nat->left_out > 0)
        return wr_fail(err, WR_ERR_INPUT,
                       "--autoregressive: %s cannot read %zu of the sentences; measure on a "
                       "dataset whose sentences fit",
                       nat->run, nat->left_out);
    wr_status status = score_transformer(d, &at, err);
    if (status != WR_OK) return status;
    s->estimate_nat = nat->run;
    s->estimate_at = d->o->autoregressive;
    s->estimate = wr_mple_correlation_bits(nat->own_nats / nat->tokens, at / nat->tokens);
    return WR_OK;
}

/* ---- the command ---- */

/* Over the runs that have both numbers. */
static double correlate(const wr_mple_row *row, size_t n, bool sampled) {
    double *x = malloc((2 * n + 1) * sizeof *x), r = NAN;
    size_t m = 0;
    if (x == NULL) return NAN;
    for (size_t i = 0; i < n; i++) {
        double bleu = sampled ? row[i].bleu_sampled : row[i].bleu;
        if (isnan(bleu) || isnan(row[i].sum)) continue;
        x[m] = row[i].sum;
        x[n + m++] = bleu;
    }
    if (m > 1) r = wr_pearson(x, x + n, m);
    free(x);
    return r;
}

static wr_status measure_all(wr_mple_data *d, wr_mple_row *row, wr_error *err) {
    const wr_mple_options *o = d->o;
    size_t n = o->runs.n;
    wr_mple_summary s = {.estimate = NAN, .known = NAN, .floor = NAN};
    wr_status status = WR_OK;
    wr_bar_begin(&d->bar, 0);
    for (size_t i = 0; i < n && status == WR_OK; i++)
        status = wr__mple_measure(d, i, &row[i], err);
    wr_bar_end(&d->bar);
    if (status == WR_OK && o->autoregressive != NULL) status = estimate(d, row, n, &s, err);
    if (status == WR_OK && o->known != NULL) status = read_known(o, &row[0], &s, err);
    if (status != WR_OK) return status;
    s.r = correlate(row, n, false);
    s.r_sampled = correlate(row, n, true);
    return wr__mple_report(o, row, n, &s, err);
}

static wr_status check_options(const wr_mple_options *o, wr_error *err) {
    size_t files = o->targets.n;
    if (files > 1 && files != o->runs.n)
        return wr_fail(err, WR_ERR_USAGE,
                       "mple: --targets has %zu files for %zu runs; give one for all, or one for "
                       "each (the word own stands for the dataset's targets)",
                       files, o->runs.n);
    if (o->plot != NULL) {
        size_t n = strlen(o->plot);
        if (n < 5 || strcmp(o->plot + n - 4, ".svg") != 0)
            return wr_fail(err, WR_ERR_USAGE,
                           "--plot %s does not end in .svg; pictures are SVG only", o->plot);
    }
    if (o->plot != NULL && o->no_translate)
        return wr_fail(err, WR_ERR_USAGE,
                       "mple: --plot shows BLEU, which --no-translate leaves out");
    return WR_OK;
}

static wr_status mple(const wr_mple_options *o, wr_error *err) {
    wr_mple_data d = {0};
    wr_status status = check_options(o, err);
    if (status != WR_OK) return status;
    wr_mple_row *row = calloc(o->runs.n, sizeof *row);
    status = row == NULL ? wr_fail_memory(err, "runs", o->runs.n * sizeof *row)
                         : wr__mple_open_data(o, &d, err);
    if (status == WR_OK) status = measure_all(&d, row, err);
    wr__mple_close_data(&d);
    free(row);
    return status;
}

int wr_cmd_mple(int argc, char **argv) {
    wr_mple_options o = {0};
    const wr_opt table[] = {
        {"RUN", WR_OPT_MANY, &o.runs, .required = true,
         .help = "runs of non-autoregressive models that are compared"},
        {"--data", WR_OPT_STRING, &o.data, .value = "DIR", .required = true,
         .help = "the dataset; its train split fits mask heads"},
        {"--split", WR_OPT_STRING, &o.split, .fallback = "valid", .choices = "valid|test",
         .help = "what is measured and translated"},
        {"--targets", WR_OPT_MANY, &o.targets, .value = "FILE",
         .help = "text that the runs learnt to say for the split's sources, such as a teacher's "
                 "translations: one file for all runs or one for each; own: the dataset's targets"},
        {"--refs", WR_OPT_MANY, &o.refs, .value = "FILE",
         .help = "references for L_target (default: the dataset's targets; own stands for them)"},
        {"--beta", WR_OPT_REAL, &o.beta, .value = "X", .fallback = "0.2", .min = 0, .max = 1000,
         .help = "weight of BLEU in L_target"},
        {"--predictor", WR_OPT_STRING, &o.predictor, .value = "RUN",
         .help = "the model of the words shown in L_input and sampled inputs, trained by ce "
                 "(default: each run itself)"},
        {"--autoregressive", WR_OPT_STRING, &o.autoregressive, .value = "RUN",
         .help = "a Transformer, with which and the first run of ce the conditional total "
                 "correlation is estimated"},
        {"--known", WR_OPT_STRING, &o.known, .value = "FILE",
         .help = "synth.json of weir synth multimodal: the exact one"},
        {"--json", WR_OPT_STRING, &o.json, .value = "FILE", .help = "write the report as JSON"},
        {"--plot", WR_OPT_STRING, &o.plot, .value = "FILE", .help = "write a picture, FILE.svg"},
        {"--sentences", WR_OPT_INT, &o.sentences, .value = "N", .fallback = "0", .min = 0,
         .max = 1e9, .help = "measure the first N sentences of the split, 0 for all"},
        {"--fit-sentences", WR_OPT_INT, &o.fit_sentences, .value = "N", .fallback = "2000",
         .min = 1, .max = 1e9, .help = "pairs of train that a mask head is fitted on"},
        {"--no-translate", WR_OPT_FLAG, &o.no_translate, .help = "the terms alone, without BLEU"},
        {"--checkpoint", WR_OPT_STRING, &o.checkpoint, .value = "NAME", .fallback = "best",
         .help = "best, last, average or a number of updates"},
        {"--seed", WR_OPT_INT, &o.seed, .value = "N", .fallback = "1", .min = 0, .max = 1e15,
         .help = "of sampled inputs"},
        {"--threads", WR_OPT_INT, &o.threads, .fallback = "0", .min = 0, .max = 4096,
         .help = "processors used, 0 for all"},
        {"--device", WR_OPT_STRING, &o.device, .fallback = "auto", .choices = "auto|cpu|cuda",
         .help = "where to compute"},
    };
    const wr_cli cli = {
        .command = "mple",
        .summary = "what non-autoregressive models pay for their targets and inputs, beside BLEU",
        .opts = table,
        .opt_n = WR_COUNT(table),
        .notes = "Costs are in bits a token. docs/mple.md tells what the terms are.\n"
                 "Example: weir mple RUN1 RUN2 --data data --json report.json --plot report.svg"};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    code = wr_cli_end(mple(&o, &err), &err);
    wr_list_free(&o.runs);
    wr_list_free(&o.targets);
    wr_list_free(&o.refs);
    return code;
}
