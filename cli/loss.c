/* loss.c: `weir loss`: an objective of one sentence from its logits, as a JSON line. */
#include "cli/cli.h"
#include "data/text.h"
#include "models/objectives/objective.h"

#include <cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Options that come from the objectives' tables. */
enum { MOST_OPTIONS = 32, OPTION_NAME = 40 };

typedef struct options {
    const char *objective, *logits, *target, *given;
    int64_t blank;
    double update;
    bool weights;
    size_t extra_n;
    struct extra {
        const wr_objective_option *option;
        char name[OPTION_NAME]; /* "--skip-penalty" */
        const char *value;      /* NULL: not given */
    } extra[MOST_OPTIONS];
} options;

typedef struct job {
    const options *o;
    wr_objective_config config;
    wr_text text;
    int32_t *target; /* [N] */
    double *logits;  /* [T, V], and room for what is computed behind them */
    double *weight;  /* [T] */
    wr_objective_dense d;
    /* of AXE */
    int32_t *position; /* [N] */
    char *operations;  /* [T + N + 1] */
} job;

/* ---- the objective ---- */

/* A message begins with the option's name in recipes, or is about something else. */
static wr_status refuse_value(const struct extra *e, const char *why, wr_error *err) {
    size_t n = strlen(e->option->name);
    bool about = strncmp(why, e->option->name, n) == 0;
    return wr_fail(err, WR_ERR_USAGE, "%s%s%s", e->name, about ? "" : ": ", about ? why + n : why);
}

static wr_status read_objective(job *j, wr_error *err) {
    const wr_objective *row;
    wr_error why = {0};
    wr_status status = wr_objective_find(j->o->objective, &row, &why);
    if (status != WR_OK) return wr_fail(err, WR_ERR_USAGE, "--objective: %s", why.text);
    j->config = wr_objective_init(row);
    for (size_t k = 0; k < j->o->extra_n; k++) {
        const struct extra *e = &j->o->extra[k];
        if (e->value == NULL) continue;
        status = wr_objective_set(&j->config, e->option->name, e->value, &why);
        if (status != WR_OK) return refuse_value(e, why.text, err);
    }
    status = wr_objective_check(&j->config, &why);
    return status == WR_OK ? WR_OK : wr_fail(err, WR_ERR_USAGE, "%s", why.text);
}

/* ---- the logits ---- */

static size_t columns_of(const char *line) {
    size_t n = 1;
    for (; *line != '\0'; line++)
        n += *line == '\t';
    return n;
}

static wr_status read_line(const job *j, size_t i, double *z, wr_error *err) {
    const char *at = j->text.line[i];
    for (int v = 0; v < j->d.words; v++) {
        char *end;
        int n = (int)strcspn(at, "\t");
        z[v] = strtod(at, &end);
        if (n == 0 || end != at + n)
            return wr_fail(err, WR_ERR_INPUT, "%s:%zu: column %d is '%.*s', which is no number",
                           j->text.path, i + 1, v + 1, n, at);
        if (!isfinite(z[v]))
            return wr_fail(err, WR_ERR_INPUT, "%s:%zu: column %d is %.*s; logits are finite",
                           j->text.path, i + 1, v + 1, n, at);
        at += n + 1;
    }
    return WR_OK;
}

static wr_status read_logits(job *j, wr_error *err) {
    wr_status status = wr_text_read(j->o->logits, 0, &j->text, err);
    if (status != WR_OK) return status;
    size_t words = columns_of(j->text.line[0]), rows = j->text.n;
    if (rows > 100000 || words > 10000000 || rows * words > 100000000)
        return wr_fail(err, WR_ERR_INPUT, "%s has %zu x %zu numbers; at most 100000000 are read",
                       j->text.path, rows, words);
    j->d.positions = (int)rows;
    j->d.words = (int)words;
    j->logits = malloc(4 * rows * words * sizeof *j->logits);
    if (j->logits == NULL) return wr_fail_memory(err, "logits", 4 * rows * words * sizeof(double));
    for (size_t i = 0; i < rows && status == WR_OK; i++) {
        size_t n = columns_of(j->text.line[i]);
        if (n != words)
            return wr_fail(err, WR_ERR_INPUT,
                           "%s:%zu: has %zu column%s, but line 1 has %zu; each line has a logit "
                           "for each word, with tabs between",
                           j->text.path, i + 1, n, n == 1 ? "" : "s", words);
        status = read_line(j, i, j->logits + i * words, err);
    }
    return status;
}

/* ---- the target ---- */

/* The next whole number of a list ("1 3 4" or "1,3,4"). `*more` is false at its end. */
static wr_status next_number(const char *option, const char **at, long *value, bool *more,
                             wr_error *err) {
    char *end;
    *at += strspn(*at, " ,\t");
    *more = **at != '\0';
    if (!*more) return WR_OK;
    errno = 0;
    *value = strtol(*at, &end, 10);
    size_t n = strcspn(*at, " ,\t");
    if (end != *at + n || errno != 0)
        return wr_fail(err, WR_ERR_USAGE, "%s: '%.*s' is no whole number", option, (int)n, *at);
    *at = end;
    return WR_OK;
}

static wr_status add_word(job *j, long word, wr_error *err) {
    int n = j->d.targets + 1;
    if (word < 0 || word >= j->d.words)
        return wr_fail(err, WR_ERR_INPUT, "--target: word %d is %ld, but %s has words 0 to %d", n,
                       word, j->text.path, j->d.words - 1);
    if (j->config.row->extra && word == j->o->blank)
        return wr_fail(err, WR_ERR_INPUT,
                       "--blank: %ld is word %d of the target; the blank is a word of its own",
                       word, n);
    j->target[j->d.targets++] = (int32_t)word;
    return WR_OK;
}

static wr_status read_target(job *j, wr_error *err) {
    const char *at = j->o->target;
    size_t most = strlen(at) / 2 + 1;
    bool more = true;
    long word = 0;
    if (j->config.row->extra && (j->o->blank < 0 || j->o->blank >= j->d.words))
        return wr_fail(err, WR_ERR_INPUT, "--blank: %lld, but %s has words 0 to %d",
                       (long long)j->o->blank, j->text.path, j->d.words - 1);
    j->target = malloc(most * sizeof *j->target);
    if (j->target == NULL) return wr_fail_memory(err, "the target", most * sizeof *j->target);
    while (more) {
        wr_status status = next_number("--target", &at, &word, &more, err);
        if (status == WR_OK && more) status = add_word(j, word, err);
        if (status != WR_OK) return status;
    }
    if (j->d.targets == 0)
        return wr_fail(err, WR_ERR_USAGE,
                       "--target has no words; it is a list of ids like \"1 3 4\"");
    return WR_OK;
}

static wr_status check_lengths(const job *j, wr_error *err) {
    const wr_objective *row = j->config.row;
    int t = j->d.positions, n = j->d.targets, least = 1;
    if (row->aligned && t != n)
        return wr_fail(err, WR_ERR_INPUT,
                       "--target has %d words, but %s has %d lines; %s needs a line for each word",
                       n, j->text.path, t, row->name);
    if (row->least_positions != NULL) least = row->least_positions(j->target, n);
    if (t < least)
        return wr_fail(err, WR_ERR_INPUT,
                       "--target needs at least %d positions for %s (%d words, %d of them equal to "
                       "the one before), but %s has %d lines",
                       least, row->name, n, least - n, j->text.path, t);
    return WR_OK;
}

/* --given: weight 0 at those positions. */
static wr_status read_given(job *j, wr_error *err) {
    const char *at = j->o->given;
    bool more = true;
    long position = 0;
    if (at == NULL) return WR_OK;
    if (!j->config.row->masked)
        return wr_fail(err, WR_ERR_USAGE, "--given is for ce, cmlm and glat; %s has all positions",
                       j->config.row->name);
    j->weight = malloc((size_t)j->d.positions * sizeof *j->weight);
    if (j->weight == NULL)
        return wr_fail_memory(err, "weights", (size_t)j->d.positions * sizeof *j->weight);
    for (int t = 0; t < j->d.positions; t++)
        j->weight[t] = 1;
    while (more) {
        wr_status status = next_number("--given", &at, &position, &more, err);
        if (status != WR_OK) return status;
        if (!more) break;
        if (position < 1 || position > j->d.positions)
            return wr_fail(err, WR_ERR_INPUT, "--given: %ld, but %s has positions 1 to %d",
                           position, j->text.path, j->d.positions);
        j->weight[position - 1] = 0;
    }
    return WR_OK;
}

/* ---- computing ---- */

/* The path of AXE again, now with what its row does not tell. */
static wr_status trace_axe(job *j, wr_error *err) {
    int t = j->d.positions, n = j->d.targets;
    size_t columns = (size_t)n + 1, cells = (size_t)t * columns;
    j->position = malloc((size_t)n * sizeof *j->position);
    j->operations = malloc((size_t)t + columns);
    double *tables = calloc(2 * cells * sizeof *tables + wr_axe_workspace(t, n), 1);
    if (j->position == NULL || j->operations == NULL || tables == NULL) {
        free(tables);
        return wr_fail_memory(err, "an alignment", 2 * cells * sizeof *tables);
    }
    for (size_t p = 0; p < (size_t)t; p++)
        for (size_t c = 0; c < columns; c++) {
            int32_t word = c < (size_t)n ? j->target[c] : j->d.blank;
            tables[p * columns + c] = j->d.log_p[p * (size_t)j->d.words + (size_t)word];
        }
    wr_gathered s = {.positions = t, .targets = n, .lp = tables, .stride = columns, .extra = n};
    wr_axe_path path = {.position = j->position, .operations = j->operations};
    wr_axe(&s, wr_objective_value(&j->config, "form") == 0 ? WR_AXE_ORIGINAL : WR_AXE_MPLE,
           wr_objective_value(&j->config, "skip_penalty"), tables + cells, &path,
           tables + 2 * cells);
    free(tables);
    return WR_OK;
}

static wr_status compute(job *j, wr_error *err) {
    size_t cells = (size_t)j->d.positions * (size_t)j->d.words;
    j->d.logits = j->logits;
    j->d.target = j->target;
    j->d.weight = j->weight;
    j->d.blank = (int32_t)j->o->blank;
    j->d.update = j->o->update;
    j->d.gradient = j->logits + cells;
    j->d.w = j->logits + 2 * cells;
    j->d.log_p = j->logits + 3 * cells;
    j->d.said = malloc((size_t)j->d.positions * sizeof *j->d.said);
    if (j->d.said == NULL)
        return wr_fail_memory(err, "an alignment", (size_t)j->d.positions * sizeof *j->d.said);
    wr_status status = wr_objective_dense_run(&j->config, &j->d, err);
    if (status != WR_OK) return status;
    if (!j->d.feasible)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s: every alignment has probability 0 (logits differ "
                       "too much)",
                       j->text.path);
    return j->config.row == &wr_objective_axe ? trace_axe(j, err) : WR_OK;
}

/* ---- output ---- */

static bool add_matrix(cJSON *to, const char *name, const double *x, int rows, int columns) {
    cJSON *all = cJSON_AddArrayToObject(to, name);
    bool ok = all != NULL;
    for (int i = 0; i < rows && ok; i++)
        ok = cJSON_AddItemToArray(
            all, cJSON_CreateDoubleArray(x + (size_t)i * (size_t)columns, columns));
    return ok;
}

/* The word a position is to say; -1: none. */
static int32_t word_of(const job *j, int t) {
    int32_t k = j->d.said[t];
    if (k >= 0) return j->target[k];
    return j->config.row->extra ? j->d.blank : -1;
}

/* Per position: the target word from 1 (0: none), the word itself, and what saying it costs. */
static bool add_positions(cJSON *line, const job *j) {
    cJSON *alignment = cJSON_AddArrayToObject(line, "alignment");
    cJSON *words = cJSON_AddArrayToObject(line, "words");
    cJSON *nll = cJSON_AddArrayToObject(line, "nll");
    bool ok = alignment != NULL && words != NULL && nll != NULL;
    double sum = 0;
    for (int t = 0; t < j->d.positions && ok; t++) {
        int32_t word = word_of(j, t);
        double cost = word < 0 ? 0 : -j->d.log_p[(size_t)t * (size_t)j->d.words + (size_t)word];
        sum += cost;
        ok =
            cJSON_AddItemToArray(alignment, cJSON_CreateNumber(j->d.said[t] + 1)) &&
            cJSON_AddItemToArray(words, word < 0 ? cJSON_CreateNull() : cJSON_CreateNumber(word)) &&
            cJSON_AddItemToArray(nll, cJSON_CreateNumber(cost));
    }
    if (j->config.row->marginal) ok = ok && cJSON_AddNumberToObject(line, "best_path", sum) != NULL;
    return ok;
}

static bool add_axe(cJSON *line, const job *j) {
    if (j->operations == NULL) return true;
    cJSON *positions = cJSON_AddArrayToObject(line, "positions");
    bool ok = positions != NULL;
    for (int n = 0; n < j->d.targets && ok; n++)
        ok = cJSON_AddItemToArray(positions, cJSON_CreateNumber(j->position[n] + 1));
    return ok && cJSON_AddStringToObject(line, "operations", j->operations) != NULL;
}

static wr_status print(const job *j, wr_error *err) {
    const wr_objective_dense *d = &j->d;
    cJSON *line = cJSON_CreateObject();
    bool ok = cJSON_AddStringToObject(line, "objective", j->config.row->name) != NULL &&
              cJSON_AddNumberToObject(line, "loss", d->loss) != NULL &&
              cJSON_AddNumberToObject(line, "tokens", d->tokens) != NULL &&
              cJSON_AddNumberToObject(line, "normalised", d->loss * d->scale) != NULL;
    ok = ok && add_positions(line, j) && add_axe(line, j);
    ok = ok && add_matrix(line, "gradient", d->gradient, d->positions, d->words);
    if (j->o->weights) ok = ok && add_matrix(line, "weights", d->w, d->positions, d->words);
    char *text = ok ? cJSON_PrintUnformatted(line) : NULL;
    cJSON_Delete(line);
    if (text == NULL) return wr_fail_memory(err, "the loss as JSON", 1024);
    puts(text);
    free(text);
    return WR_OK;
}

/* ---- the command ---- */

static wr_status loss(const options *o, wr_error *err) {
    job j = {.o = o};
    wr_status status = read_objective(&j, err);
    if (status == WR_OK) status = read_logits(&j, err);
    if (status == WR_OK) status = read_target(&j, err);
    if (status == WR_OK) status = check_lengths(&j, err);
    if (status == WR_OK) status = read_given(&j, err);
    if (status == WR_OK) status = compute(&j, err);
    if (status == WR_OK) status = print(&j, err);
    free(j.operations);
    free(j.position);
    free(j.d.said);
    free(j.weight);
    free(j.target);
    free(j.logits);
    wr_text_free(&j.text);
    return status;
}

/* Remember an option of an objective under its name on the command line, once. */
static void add_extra(options *o, const wr_objective_option *option) {
    for (size_t k = 0; k < o->extra_n; k++)
        if (strcmp(o->extra[k].option->name, option->name) == 0) return;
    WR_ASSERT(o->extra_n < MOST_OPTIONS);
    struct extra *e = &o->extra[o->extra_n++];
    e->option = option;
    snprintf(e->name, sizeof e->name, "--%s", option->name);
    for (char *c = e->name; *c != '\0'; c++)
        if (*c == '_') *c = '-';
}

static size_t add_objective_options(options *o, wr_opt *table, size_t n) {
    for (size_t r = 0; wr_objective_at(r) != NULL; r++)
        for (int k = 0; wr_objective_at(r)->options[k].name != NULL; k++)
            add_extra(o, &wr_objective_at(r)->options[k]);
    for (size_t k = 0; wr_objective_common(k) != NULL; k++)
        add_extra(o, wr_objective_common(k));
    for (size_t k = 0; k < o->extra_n; k++) {
        struct extra *e = &o->extra[k];
        const wr_objective_option *option = e->option;
        const char *value = option->kind == WR_OBJECTIVE_REAL ? "X" : option->choices;
        if (option->kind == WR_OBJECTIVE_SWITCH) value = "false|true";
        table[n++] = (wr_opt){.name = e->name,
                              .kind = WR_OPT_STRING,
                              .to = &e->value,
                              .value = value,
                              .help = option->help};
    }
    return n;
}

int wr_cmd_loss(int argc, char **argv) {
    options o = {0};
    const wr_opt own[] = {
        {"--objective", WR_OPT_STRING, &o.objective, .value = "NAME", .required = true,
         .help = "ce, axe, oaxe, ctc, cmlm or glat"},
        {"--logits", WR_OPT_STRING, &o.logits, .value = "FILE", .required = true,
         .help = "a line for each position, a column for each word, tabs between; - for standard "
                 "input"},
        {"--target", WR_OPT_STRING, &o.target, .value = "IDS", .required = true,
         .help = "the target words, columns counted from 0"},
        {"--blank", WR_OPT_INT, &o.blank, .value = "ID", .fallback = "0",
         .help = "the word that means nothing (axe, ctc)"},
        {"--given", WR_OPT_STRING, &o.given, .value = "POSITIONS",
         .help = "positions from 1 whose words are inputs and do not count (ce, cmlm, glat)"},
        {"--update", WR_OPT_REAL, &o.update, .value = "N", .fallback = "0",
         .help = "updates made, for anneal and pretrain"},
        {"--weights", WR_OPT_FLAG, &o.weights, .help = "print the weight of each word, too"},
    };
    wr_opt table[WR_COUNT(own) + MOST_OPTIONS];
    memcpy(table, own, sizeof own);
    const wr_cli cli = {.command = "loss",
                        .summary = "an objective of one sentence, its alignment and gradient, as "
                                   "a JSON line",
                        .opts = table,
                        .opt_n = add_objective_options(&o, table, WR_COUNT(own)),
                        .notes = "Example: weir loss --objective axe --skip-penalty 2 --logits "
                                 "z.tsv --target \"1 3 4\""};
    int code = wr_cli_begin(&cli, argc, argv);
    if (code >= 0) return code;
    wr_error err = {0};
    return wr_cli_end(loss(&o, &err), &err);
}
