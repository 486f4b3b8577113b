/* mple_run.c: the numbers of one run of `weir mple`. */
#include "cli/mple.h"
#include "data/score.h"
#include "models/mple.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { POOL_MOST = 200000 }; /* positions that the mask head is fitted on at most */
static const double RIDGE = 1e-5;

/* A run being measured. */
typedef struct work {
    wr_mple_data *d;
    wr_mple_row *row;
    const char *dir;
    wr_run run;
    wr_measurer *m;
    const wr_mple_side *target; /* what is said */
    wr_measured *measured;      /* [n] */
    double *head, *token_lp;    /* NULL: none */
    wr_ids proxies;
} work;

static void show(void *context, size_t done, size_t total) {
    work *w = context;
    if (!w->d->bar.terminal) return;
    wr_bar_show(&w->d->bar, (double)done / (double)total, "%s", w->dir);
}

/* ---- the input predictor ---- */

/* Pairs of the train split, spread over it. */
static wr_status pick_pairs(const wr_mple_data *d, wr_mple_side *src, wr_mple_side *tgt, size_t *n,
                            wr_error *err) {
    const wr_pairs *all = wr_dataset_pairs(d->set, WR_TRAIN);
    size_t want = (size_t)d->o->fit_sentences;
    *n = want < all->n ? want : all->n;
    src->words = calloc(*n + 1, sizeof *src->words);
    tgt->words = calloc(*n + 1, sizeof *tgt->words);
    if (src->words == NULL || tgt->words == NULL)
        return wr_fail_memory(err, "sentences", *n * sizeof *src->words);
    for (size_t i = 0; i < *n; i++) {
        size_t k = i * all->n / *n;
        src->words[i].id = wr_side_ids(&all->src, k, &src->words[i].n);
        tgt->words[i].id = wr_side_ids(&all->tgt, k, &tgt->words[i].n);
    }
    return WR_OK;
}

static wr_status gather_states(work *w, wr_mask_pool *pool, wr_error *err) {
    wr_mple_side src = {0}, tgt = {0};
    size_t n = 0;
    wr_status status = pick_pairs(w->d, &src, &tgt, &n, err);
    wr_measured *ignored = malloc((n + 1) * sizeof *ignored);
    const wr_measuring o = {.pool = pool, .progress = show, .context = w};
    if (status == WR_OK && ignored == NULL)
        status = wr_fail_memory(err, "sentences", n * sizeof *ignored);
    if (status == WR_OK) status = wr_measurer_run(w->m, src.words, tgt.words, n, &o, ignored, err);
    free(ignored);
    free(src.words);
    free(tgt.words);
    return status;
}

static wr_status fit_head(work *w, wr_error *err) {
    size_t width = wr_measurer_width(w->m);
    wr_mask_pool pool = {.most = POOL_MOST};
    w->head = malloc((width + 1) * sizeof *w->head);
    wr_status status = w->head == NULL ? wr_fail_memory(err, "the mask head", width * 8)
                                       : gather_states(w, &pool, err);
    const wr_mask_data data = {pool.h, pool.masked, pool.n, width};
    if (status == WR_OK) status = wr_mask_fit(&data, RIDGE, w->head, &w->row->mask_loss, err);
    if (status == WR_OK) w->row->mask_loss /= log(2);
    wr_mask_pool_free(&pool);
    return status;
}

/* log P_tok of the targets by the model of --predictor. */
static wr_status ask_predictor(work *w, wr_error *err) {
    wr_mple_data *d = w->d;
    size_t positions = 0;
    for (size_t i = 0; i < d->n; i++) {
        int here = wr_measurer_positions(w->m, w->target->words[i].n);
        if (here != wr_measurer_positions(d->tokens, w->target->words[i].n))
            return wr_fail(err, WR_ERR_INPUT,
                           "%s and the predictor %s frame targets differently (nat.framing)",
                           w->dir, d->o->predictor);
        positions += (size_t)here;
    }
    w->token_lp = calloc(positions + 1, sizeof *w->token_lp);
    if (w->token_lp == NULL) return wr_fail_memory(err, "costs", positions * 8);
    const wr_measuring o = {.own_lp = w->token_lp, .progress = show, .context = w};
    return wr_measurer_run(d->tokens, d->src.words, w->target->words, d->n, &o, w->measured, err);
}

/* ---- the terms ---- */

/* Means over positions in bits, and the standard error of L_NAT (of a ratio of sums). */
static void add_up(work *w) {
    const wr_mple_data *d = w->d;
    wr_mple_row *r = w->row;
    double nat = 0, input = 0, sure = 0, spread = 0, bit = log(2);
    for (size_t i = 0; i < d->n; i++) {
        const wr_measured *x = &w->measured[i];
        r->left_out += !x->feasible;
        r->tokens += x->positions;
        r->words += x->feasible ? (double)w->target->words[i].n : 0;
        r->own_nats += x->own;
        nat += x->nat;
        input += x->input;
        sure += x->sure;
    }
    double tokens = r->tokens > 0 ? r->tokens : NAN, mean = nat / tokens;
    for (size_t i = 0; i < d->n; i++) {
        double off = w->measured[i].nat - mean * w->measured[i].positions;
        spread += off * off;
    }
    r->l_nat = mean / bit;
    r->l_nat_error = sqrt(spread) / tokens / bit;
    r->l_input = input / tokens / bit;
    r->sure = sure / tokens / bit;
}

/* The mean over sentences of -beta BLEU of T against the references. */
static wr_status compare_targets(work *w, wr_error *err) {
    const wr_mple_data *d = w->d;
    size_t refs = d->refs > 0 ? d->refs : 1, n = 0;
    double *bleu = malloc(refs * sizeof *bleu), sum = 0;
    if (bleu == NULL) return wr_fail_memory(err, "references", refs * sizeof *bleu);
    for (size_t i = 0; i < d->n; i++) {
        const wr_measured *x = &w->measured[i];
        if (!x->feasible) continue;
        for (size_t k = 0; k < refs; k++) {
            const wr_mple_side *side =
                d->refs > 0 && d->ref[k].words != NULL ? &d->ref[k] : &d->own;
            bleu[k] = wr_sentence_bleu(side->words[i].id, side->words[i].n,
                                       w->proxies.id + x->proxy, x->words);
        }
        sum += wr_mple_target(bleu, refs, d->o->beta);
        n++;
    }
    w->row->l_target = n > 0 ? sum / (double)n : NAN;
    free(bleu);
    return WR_OK;
}

static wr_status measure_terms(work *w, wr_error *err) {
    wr_mple_data *d = w->d;
    wr_status status = WR_OK;
    w->measured = malloc((d->n + 1) * sizeof *w->measured);
    if (w->measured == NULL) return wr_fail_memory(err, "sentences", d->n * sizeof *w->measured);
    if (wr_measurer_shows(w->m)) {
        status = fit_head(w, err);
        if (status == WR_OK && d->tokens != NULL) status = ask_predictor(w, err);
    }
    const wr_measuring o = {.head = w->head,
                            .token_lp = w->token_lp,
                            .proxies = &w->proxies,
                            .progress = show,
                            .context = w};
    if (status == WR_OK)
        status = wr_measurer_run(w->m, d->src.words, w->target->words, d->n, &o, w->measured, err);
    if (status != WR_OK) return status;
    add_up(w);
    status = compare_targets(w, err);
    w->row->sum = w->row->l_nat + w->row->l_target + w->row->l_input;
    return status;
}

/* ---- translations ---- */

/* BLEU of translations against the dataset's own targets. */
static wr_status score(const work *w, const wr_hypothesis *hyp, size_t stride, double *bleu,
                       wr_error *err) {
    const wr_mple_data *d = w->d;
    const wr_score_options o = {.lowercase = wr_dataset_info_of(d->set)->lowercase};
    const char **line = malloc(2 * (d->n + 1) * sizeof *line), **ref = line + d->n;
    size_t *at = malloc((d->n + 1) * sizeof *at);
    wr_str text = {0};
    wr_bleu_result result = {0};
    wr_status status =
        line == NULL || at == NULL ? wr_fail_memory(err, "translations", d->n * 8) : WR_OK;
    for (size_t i = 0; i < d->n && status == WR_OK; i++) {
        at[i] = text.len;
        status = wr_run_text(&w->run, &hyp[i * stride], &text, err);
        wr_str_bytes(&text, "", 1);
        ref[i] = wr_side_text(&d->pairs->tgt, i);
    }
    if (status == WR_OK && text.oom) status = wr_fail_memory(err, "translations", text.len);
    for (size_t i = 0; i < d->n && status == WR_OK; i++)
        line[i] = text.text + at[i];
    if (status == WR_OK) {
        const char *const *const refs[] = {ref};
        status = wr_bleu_strings(line, refs, 1, d->n, &o, &result, err);
    }
    *bleu = result.score;
    wr_str_free(&text);
    free(line);
    free(at);
    return status;
}

static wr_status translate(work *w, wr_error *err) {
    const wr_mple_options *o = w->d->o;
    const wr_run_options how = {
        .dir = w->dir, .checkpoint = o->checkpoint, .device = o->device, .threads = o->threads};
    const wr_run_search usual = {0};
    wr_run_searcher searcher = {0};
    wr_translations out = {0};
    wr_status status = wr_run_searcher_open(&w->run, &how, &usual, &searcher, err);
    if (status == WR_OK)
        status = wr_run_translate(&searcher, w->d->src.words, w->d->n, show, w, &out, err);
    if (status == WR_OK) status = score(w, out.hyp, out.nbest, &w->row->bleu, err);
    wr_translations_free(&out);
    wr_run_searcher_close(&searcher);
    return status;
}

/* With inputs sampled by the mask head. */
static wr_status translate_sampled(work *w, wr_error *err) {
    wr_mple_data *d = w->d;
    wr_ids ids = {0};
    size_t *at = malloc((d->n + 1) * sizeof *at);
    double *sure = malloc((d->n + 1) * sizeof *sure), sum = 0;
    wr_hypothesis *hyp = calloc(d->n + 1, sizeof *hyp);
    wr_status status = at == NULL || sure == NULL || hyp == NULL
                           ? wr_fail_memory(err, "translations", d->n * sizeof *hyp)
                           : wr_measurer_sample(w->m, d->tokens, w->head, d->src.words, d->n,
                                                (uint64_t)d->o->seed, &ids, at, sure, err);
    for (size_t i = 0; i < d->n && status == WR_OK; i++) {
        hyp[i] = (wr_hypothesis){.id = ids.id + at[i], .n = at[i + 1] - at[i]};
        sum += sure[i];
    }
    if (status == WR_OK) status = score(w, hyp, 1, &w->row->bleu_sampled, err);
    w->row->sure_sampled = sum / (double)d->n / log(2);
    wr_ids_free(&ids);
    free(at);
    free(sure);
    free(hyp);
    return status;
}

/* ---- one run ---- */

static void describe(work *w) {
    const wr_recipe *recipe = &w->run.recipe;
    wr_mple_row *r = w->row;
    r->objective = wr_objective_at((size_t)recipe->objective.name)->name;
    r->approximate = wr_measurer_sums(w->m);
    r->vanilla = recipe->objective.name == WR_RECIPE_OBJECTIVE_CE && !wr_measurer_shows(w->m);
}

static wr_status measure(work *w, wr_error *err) {
    const wr_mple_options *o = w->d->o;
    const wr_run_options how = {
        .dir = w->dir, .checkpoint = o->checkpoint, .device = o->device, .threads = o->threads};
    wr_status status = wr_run_open(&how, &w->run, err);
    if (status == WR_OK) status = wr__mple_measurer(&w->run, w->dir, &w->m, err);
    if (status == WR_OK) status = wr__mple_same_models(w->d, &w->run, w->dir, err);
    if (status != WR_OK) return status;
    describe(w);
    status = measure_terms(w, err);
    if (status != WR_OK || o->no_translate) return status;
    status = translate(w, err);
    return status == WR_OK && w->head != NULL ? translate_sampled(w, err) : status;
}

wr_status wr__mple_measure(wr_mple_data *d, size_t number, wr_mple_row *row, wr_error *err) {
    work w = {.d = d, .row = row, .dir = d->o->runs.items[number], .target = &d->own};
    const wr_mple_side *given = d->targets == 0   ? NULL
                                : d->targets == 1 ? &d->target[0]
                                                  : &d->target[number];
    if (given != NULL && given->words != NULL) w.target = given;
    *row = (wr_mple_row){.run = w.dir,
                         .own_targets = w.target == &d->own,
                         .bleu = NAN,
                         .bleu_sampled = NAN,
                         .sure_sampled = NAN,
                         .mask_loss = NAN};
    wr_status status = measure(&w, err);
    wr_bar_end(&d->bar);
    wr_measurer_free(w.m);
    wr_run_close(&w.run);
    wr_ids_free(&w.proxies);
    free(w.measured);
    free(w.token_lp);
    free(w.head);
    return status;
}
