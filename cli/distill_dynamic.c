/* distill_dynamic.c: the choice of dynamic distillation; see distill_dynamic.h. */
#include "cli/distill_dynamic.h"
#include "cli/mple.h"
#include "models/mple.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- candidates ---- */

wr_status wr__candidates_begin(wr_candidates *c, size_t n, int count, wr_error *err) {
    size_t many = (size_t)count;
    *c = (wr_candidates){.n = n, .count = count};
    c->name = calloc(many, sizeof *c->name);
    c->text = calloc(many, sizeof *c->text);
    c->at = calloc(many * n + 1, sizeof *c->at);
    if (c->name == NULL || c->text == NULL || c->at == NULL)
        return wr_fail_memory(err, "candidates", many * n * sizeof *c->at);
    return WR_OK;
}

wr_status wr__candidates_set(wr_candidates *c, int k, size_t i, const char *text, size_t len,
                             wr_error *err) {
    wr_str *all = &c->text[k];
    c->at[(size_t)k * c->n + i] = all->len + 1;
    wr_str_bytes(all, text, len);
    wr_str_bytes(all, "", 1);
    return all->oom ? wr_fail_memory(err, "candidates", all->len + len) : WR_OK;
}

const char *wr__candidates_get(const wr_candidates *c, int k, size_t i) {
    size_t at = c->at[(size_t)k * c->n + i];
    return at == 0 ? NULL : c->text[k].text + at - 1;
}

void wr__candidates_free(wr_candidates *c) {
    for (int k = 0; k < c->count && c->text != NULL; k++)
        wr_str_free(&c->text[k]);
    free(c->text);
    free(c->name);
    free(c->at);
    *c = (wr_candidates){0};
}

wr_status wr__dynamic_gamma(const char *text, int count, double *gamma, wr_error *err) {
    double sum = 0;
    const char *at = text;
    for (int k = 0; k < count; k++, at++) {
        char *end = NULL;
        gamma[k] = text == NULL ? 1 : strtod(at, &end);
        if (text == NULL) continue;
        if (end == at || !(gamma[k] >= 0) || !isfinite(gamma[k]) ||
            *end != (k + 1 < count ? ',' : '\0'))
            return wr_fail(err, WR_ERR_USAGE,
                           "--gamma %s: give %d numbers of 0 or more with commas between, one for "
                           "each candidate, the targets of the dataset last",
                           text, count);
        sum += gamma[k];
        at = end;
    }
    if (text != NULL && sum == 0)
        return wr_fail(err, WR_ERR_USAGE, "--gamma %s: at least one must be above 0", text);
    return WR_OK;
}

/* ---- encoding ---- */

/* n lines as ids: line i is id[at[i]] .. id[at[i + 1] - 1]. */
typedef struct encoded {
    wr_ids ids;
    size_t *at; /* [n + 1] */
} encoded;

static void encoded_free(encoded *e) {
    wr_ids_free(&e->ids);
    free(e->at);
}

/* Candidate k, or the sources for k < 0; a line that is not there is empty. */
static wr_status encode(const wr_candidates *c, int k, const wr_text *source,
                        const wr_subword *model, encoded *e, wr_error *err) {
    wr_status status = WR_OK;
    e->at = malloc((c->n + 1) * sizeof *e->at);
    if (e->at == NULL) return wr_fail_memory(err, "sentences", c->n * sizeof *e->at);
    for (size_t i = 0; i < c->n && status == WR_OK; i++) {
        const char *line = k < 0 ? source->line[i] : wr__candidates_get(c, k, i);
        e->at[i] = e->ids.n;
        if (line != NULL)
            status =
                wr_subword_encode(model, line, k < 0 ? source->len[i] : strlen(line), &e->ids, err);
    }
    e->at[c->n] = e->ids.n;
    return status;
}

/* ---- the student ---- */

typedef struct choice {
    const wr_dynamic_options *o;
    const wr_candidates *c;
    double *gamma;  /* [C] */
    encoded *tgt;   /* [C] as the dataset spells them */
    double *nll;    /* [C, n] of the student; NULL: there is none */
    double *tokens; /* [C, n] as the student counts them */
} choice;

/* Pairs that the student can score, with their places. */
typedef struct scored {
    wr_sentence *src, *tgt;
    size_t *line;
    double *nll;
    size_t n;
} scored;

/* A non-autoregressive student is given nothing of the target (Z* of the paper). */
static wr_status score_by_nat(wr_run *run, const char *dir, const scored *s, wr_error *err) {
    wr_measurer *m = NULL;
    const wr_measuring o = {0};
    wr_measured *each = malloc((s->n + 1) * sizeof *each);
    wr_status status = each == NULL ? wr_fail_memory(err, "costs", s->n * sizeof *each)
                                    : wr__mple_measurer(run, dir, &m, err);
    if (status == WR_OK) status = wr_measurer_run(m, s->src, s->tgt, s->n, &o, each, err);
    for (size_t i = 0; i < s->n && status == WR_OK; i++)
        s->nll[i] = each[i].feasible ? each[i].own : INFINITY;
    wr_measurer_free(m);
    free(each);
    return status;
}

static wr_status score_pairs(wr_run *run, const char *dir, const scored *s, wr_error *err) {
    const wr_decoder_scoring o = {0};
    if (run->nat != NULL) return score_by_nat(run, dir, s, err);
    return wr_decoder_score(run->decoder, s->src, s->tgt, s->n, &o, s->nll, err);
}

/* The student's cost of candidate k for every source; INFINITY where it cannot tell. */
static wr_status score_candidate(choice *h, wr_run *run, const encoded *src, const encoded *tgt,
                                 int k, wr_error *err) {
    size_t n = h->c->n, most = (size_t)run->recipe.model.max_len - 1;
    double *nll = h->nll + (size_t)k * n, *tokens = h->tokens + (size_t)k * n;
    scored s = {.src = calloc(n + 1, sizeof *s.src),
                .tgt = calloc(n + 1, sizeof *s.tgt),
                .line = calloc(n + 1, sizeof *s.line),
                .nll = calloc(n + 1, sizeof *s.nll)};
    wr_status status = WR_OK;
    if (s.src == NULL || s.tgt == NULL || s.line == NULL || s.nll == NULL)
        status = wr_fail_memory(err, "sentences", n * sizeof *s.src);
    for (size_t i = 0; i < n && status == WR_OK; i++) {
        size_t from = src->at[i + 1] - src->at[i], to = tgt->at[i + 1] - tgt->at[i];
        nll[i] = INFINITY;
        tokens[i] = (double)to + 1;
        if (from == 0 || to == 0 || from > most || to > most) continue;
        s.src[s.n] = (wr_sentence){.id = src->ids.id + src->at[i], .n = from};
        s.tgt[s.n] = (wr_sentence){.id = tgt->ids.id + tgt->at[i], .n = to};
        s.line[s.n++] = i;
    }
    if (status == WR_OK && s.n > 0) status = score_pairs(run, h->o->student, &s, err);
    for (size_t k2 = 0; k2 < s.n && status == WR_OK; k2++)
        nll[s.line[k2]] = s.nll[k2];
    free(s.src);
    free(s.tgt);
    free(s.line);
    free(s.nll);
    return status;
}

static wr_status score_all(choice *h, wr_run *run, const wr_text *source, wr_error *err) {
    const wr_candidates *c = h->c;
    encoded src = {0};
    wr_status status = encode(c, -1, source, run->src, &src, err);
    for (int k = 0; k < c->count && status == WR_OK; k++) {
        encoded tgt = {0};
        status = encode(c, k, source, run->tgt, &tgt, err);
        if (status == WR_OK) status = score_candidate(h, run, &src, &tgt, k, err);
        encoded_free(&tgt);
    }
    encoded_free(&src);
    return status;
}

static wr_status ask_student(choice *h, const wr_run_options *like, const wr_text *source,
                             wr_error *err) {
    size_t all = (size_t)h->c->count * h->c->n;
    wr_run_options o = {.dir = h->o->student,
                        .checkpoint = h->o->student_checkpoint,
                        .device = like->device,
                        .threads = like->threads};
    wr_run run = {0};
    wr_status status = wr_run_open(&o, &run, err);
    h->nll = malloc((all + 1) * sizeof *h->nll);
    h->tokens = malloc((all + 1) * sizeof *h->tokens);
    if (status == WR_OK && (h->nll == NULL || h->tokens == NULL))
        status = wr_fail_memory(err, "costs", 2 * all * sizeof *h->nll);
    if (status == WR_OK) status = wr_run_needs_text(&run, o.dir, err);
    if (status == WR_OK && run.flowseq != NULL)
        status = wr_fail(err, WR_ERR_INPUT,
                         "%s is %s, which gives no probability of a given translation; --student "
                         "takes a Transformer or a non-autoregressive model of words",
                         o.dir, wr_run_kind(&run));
    if (status == WR_OK) status = score_all(h, &run, source, err);
    wr_run_close(&run);
    return status;
}

/* ---- choosing ---- */

/* The candidates that a source has, and the table of their BLEU. */
typedef struct table {
    int n, which[WR_CANDIDATES_MOST];
    double gamma[WR_CANDIDATES_MOST], bleu[WR_CANDIDATES_MOST * WR_CANDIDATES_MOST];
    double cost[WR_CANDIDATES_MOST], nll[WR_CANDIDATES_MOST], tokens[WR_CANDIDATES_MOST];
    double total[WR_CANDIDATES_MOST];
    bool student; /* at least one nll is finite */
} table;

static void fill_table(const choice *h, size_t i, table *t) {
    const wr_candidates *c = h->c;
    t->n = 0;
    t->student = false;
    for (int k = 0; k < c->count; k++) {
        size_t at = (size_t)k * c->n + i;
        if (c->at[at] == 0) continue;
        t->which[t->n] = k;
        t->gamma[t->n] = h->gamma[k];
        t->nll[t->n] = h->nll == NULL ? 0 : h->nll[at];
        t->tokens[t->n] = h->nll == NULL ? 1 : h->tokens[at];
        t->student = t->student || (h->nll != NULL && isfinite(t->nll[t->n]));
        t->n++;
    }
    for (int a = 0; a < t->n; a++)
        for (int b = 0; b < t->n; b++) {
            const encoded *ref = &h->tgt[t->which[a]], *hyp = &h->tgt[t->which[b]];
            t->bleu[a * t->n + b] =
                wr_sentence_bleu(ref->ids.id + ref->at[i], ref->at[i + 1] - ref->at[i],
                                 hyp->ids.id + hyp->at[i], hyp->at[i + 1] - hyp->at[i]);
        }
}

static int choose(const choice *h, size_t i, table *t) {
    const wr_dynamic d = {.candidates = (fill_table(h, i, t), t->n),
                          .gamma = t->gamma,
                          .beta = h->o->beta,
                          .normalise_gamma = strcmp(h->o->gamma_scale, "normalised") == 0,
                          .mean_nll = strcmp(h->o->nll, "mean") == 0};
    wr_dynamic_cost(&d, t->bleu, t->cost);
    return t
        ->which[wr_dynamic_choose(&d, t->cost, t->student ? t->nll : NULL, t->tokens, t->total)];
}

static void add_row(size_t i, int chosen, const table *t, bool student, wr_str *out) {
    for (int k = 0; k < t->n; k++) {
        wr_str_add(out, "%zu\t%d\t%d\t%.6f", i + 1, t->which[k] + 1, t->which[k] == chosen,
                   t->cost[k]);
        if (student) wr_str_add(out, "\t%.6f", t->nll[k]);
        wr_str_add(out, "\t%.6f\n", t->total[k]);
    }
}

static wr_status choose_each(choice *h, int *chosen, wr_error *err) {
    const wr_candidates *c = h->c;
    size_t often[WR_CANDIDATES_MOST] = {0};
    bool student = h->nll != NULL;
    wr_str out = {0};
    if (h->o->table != NULL)
        wr_str_add(&out, "line\tcandidate\tchosen\tcost%s\ttotal\n", student ? "\tnll" : "");
    for (size_t i = 0; i < c->n; i++) {
        table t;
        chosen[i] = choose(h, i, &t);
        often[chosen[i]]++;
        if (h->o->table != NULL) add_row(i, chosen[i], &t, student, &out);
    }
    wr_status status = out.oom ? wr_fail_memory(err, "the table", out.len) : WR_OK;
    if (status == WR_OK && h->o->table != NULL)
        status = wr_file_replace(h->o->table, wr_str_text(&out), out.len, err);
    for (int k = 0; k < c->count && status == WR_OK; k++)
        printf("%s: chosen for %zu of %zu sources\n", c->name[k], often[k], c->n);
    wr_str_free(&out);
    return status;
}

wr_status wr__dynamic_choose_all(const wr_dynamic_options *o, const wr_run_options *run,
                                 const wr_candidates *c, const wr_text *source,
                                 const wr_dataset *data, int *chosen, wr_error *err) {
    double gamma[WR_CANDIDATES_MOST];
    choice h = {.o = o, .c = c, .gamma = gamma};
    wr_status status = wr__dynamic_gamma(o->gamma, c->count, gamma, err);
    h.tgt = calloc((size_t)c->count, sizeof *h.tgt);
    if (status == WR_OK && h.tgt == NULL)
        status = wr_fail_memory(err, "candidates", (size_t)c->count * sizeof *h.tgt);
    for (int k = 0; k < c->count && status == WR_OK; k++)
        status = encode(c, k, source, wr_dataset_tgt_model(data), &h.tgt[k], err);
    if (status == WR_OK && o->student != NULL) status = ask_student(&h, run, source, err);
    if (status == WR_OK) status = choose_each(&h, chosen, err);
    for (int k = 0; k < c->count && h.tgt != NULL; k++)
        encoded_free(&h.tgt[k]);
    free(h.tgt);
    free(h.nll);
    free(h.tokens);
    return status;
}
