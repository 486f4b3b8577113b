/* objective_batch.c: a padded batch of sentences on several threads; see objective.h. */
#include "models/objectives/objective.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* A batch with what every sentence of it needs. */
typedef struct batch_job {
    const wr_objective_config *c;
    const wr_objective_batch *b;
    size_t columns; /* C */
    size_t floats;  /* doubles of a thread: lp [T, C], w [T, C], weight [T] */
    size_t bytes;   /* of a thread's memory, with the row's workspace */
} batch_job;

/* ---- checks ---- */

static wr_status check_lengths(const batch_job *j, int i, wr_error *err) {
    const wr_objective_batch *b = j->b;
    const wr_objective *row = j->c->row;
    int t = b->position_len[i], n = b->target_len[i];
    if (t < 0 || t > b->positions || n < 0 || n > b->targets)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s: sentence %d has %d positions and %d target words; the batch has room "
                       "for %d and %d",
                       row->name, i + 1, t, n, b->positions, b->targets);
    if (row->aligned && t != n)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s: sentence %d has %d positions for %d target words; this objective needs "
                       "as many",
                       row->name, i + 1, t, n);
    return WR_OK;
}

static wr_status check_blank(const batch_job *j, int i, wr_error *err) {
    const int32_t *ids = j->b->ids + (size_t)i * j->columns;
    if (!j->c->row->extra) return WR_OK;
    for (int n = 0; n < j->b->target_len[i]; n++)
        if (ids[n] == ids[j->columns - 1])
            return wr_fail(err, WR_ERR_INPUT,
                           "%s: word %d of the target of sentence %d is %d, which is the blank",
                           j->c->row->name, n + 1, i + 1, (int)ids[n]);
    return WR_OK;
}

static wr_status check_batch(const batch_job *j, wr_error *err) {
    if (j->b->weight != NULL && !j->c->row->masked)
        return wr_fail(err, WR_ERR_INPUT, "%s takes no weights of positions", j->c->row->name);
    wr_status status = WR_OK;
    for (int i = 0; i < j->b->sentences && status == WR_OK; i++) {
        status = check_lengths(j, i, err);
        if (status == WR_OK) status = check_blank(j, i, err);
    }
    return status;
}

/* ---- reals of two kinds ---- */

static double get(wr_objective_real real, const void *from, size_t i) {
    return real == WR_OBJECTIVE_F32 ? (double)((const float *)from)[i] : ((const double *)from)[i];
}

static void put(wr_objective_real real, void *to, size_t i, double x) {
    if (real == WR_OBJECTIVE_F32)
        ((float *)to)[i] = (float)x;
    else
        ((double *)to)[i] = x;
}

/* ---- one sentence ---- */

/* Of sentence i, columns in use: the first N and the blank's. */
static bool in_use(const batch_job *j, int i, size_t column) {
    return column < (size_t)j->b->target_len[i] || (j->c->row->extra && column == j->columns - 1);
}

/* Copy the sentence's log-probabilities; false when one is NaN or +INFINITY. */
static bool load(const batch_job *j, int i, double *lp) {
    const wr_objective_batch *b = j->b;
    size_t begin = (size_t)i * (size_t)b->positions * j->columns;
    bool fine = true;
    for (size_t t = 0; t < (size_t)b->position_len[i]; t++)
        for (size_t c = 0; c < j->columns; c++) {
            if (!in_use(j, i, c)) continue;
            double x = get(b->real, b->lp, begin + t * j->columns + c);
            fine = fine && x < INFINITY;
            lp[t * j->columns + c] = x;
        }
    return fine;
}

/* Write weights `w` [T_i, C] (NULL: `fill` everywhere that counts) and zeros in the padding. */
static void store(const batch_job *j, int i, const double *w, double fill) {
    const wr_objective_batch *b = j->b;
    size_t begin = (size_t)i * (size_t)b->positions * j->columns;
    for (size_t t = 0; t < (size_t)b->positions && b->w != NULL; t++)
        for (size_t c = 0; c < j->columns; c++) {
            bool counts = t < (size_t)b->position_len[i] && in_use(j, i, c);
            double x = !counts ? 0 : w == NULL ? fill : w[t * j->columns + c];
            put(b->real, b->w, begin + t * j->columns + c, x);
        }
}

static void finish(const batch_job *j, int i, double loss, double tokens, bool feasible) {
    put(j->b->real, j->b->loss, (size_t)i, loss);
    put(j->b->real, j->b->tokens, (size_t)i, tokens);
    j->b->feasible[i] = feasible;
}

static void forget_said(const wr_objective_batch *b, int i) {
    if (b->said == NULL) return;
    for (int t = 0; t < b->positions; t++)
        b->said[(size_t)i * (size_t)b->positions + (size_t)t] = -1;
}

static wr_objective_sentence sentence_of(const batch_job *j, int i, double *memory) {
    const wr_objective_batch *b = j->b;
    size_t cells = (size_t)b->positions * j->columns;
    wr_objective_sentence s = {.ids = b->ids + (size_t)i * j->columns, .update = b->update};
    s.costs = (wr_gathered){.positions = b->position_len[i],
                            .targets = b->target_len[i],
                            .lp = memory,
                            .stride = j->columns,
                            .extra = (int)j->columns - 1};
    s.w = memory + cells;
    s.workspace = memory + j->floats;
    if (b->said != NULL) s.said = b->said + (size_t)i * (size_t)b->positions;
    if (b->weight == NULL) return s;
    double *weight = s.w + cells;
    for (int t = 0; t < s.costs.positions; t++)
        weight[t] = get(b->real, b->weight, (size_t)i * (size_t)b->positions + (size_t)t);
    s.weight = weight;
    return s;
}

static void run_sentence(const batch_job *j, int i, double *memory) {
    wr_objective_sentence s = sentence_of(j, i, memory);
    size_t cells = (size_t)s.costs.positions * j->columns;
    double loss = INFINITY;
    forget_said(j->b, i);
    if (!load(j, i, memory)) {
        store(j, i, NULL, NAN);
        finish(j, i, NAN, s.costs.targets, true);
        return;
    }
    memset(s.w, 0, cells * sizeof *s.w);
    if (s.costs.positions > 0 && s.costs.targets > 0) loss = j->c->row->weigh(j->c, &s);
    bool feasible = isfinite(loss);
    store(j, i, feasible ? s.w : NULL, 0);
    if (!feasible) forget_said(j->b, i);
    finish(j, i, feasible ? loss : 0, feasible ? s.tokens : 0, feasible);
}

/* ---- the batch ---- */

wr_status wr_objective_run(const wr_objective_config *c, const wr_objective_batch *b, int threads,
                           wr_error *err) {
    batch_job j = {.c = c, .b = b, .columns = (size_t)b->targets + c->row->extra};
    wr_status status = check_batch(&j, err);
    if (status != WR_OK || b->sentences == 0) return status;
    if (threads > b->sentences) threads = b->sentences;
    if (threads < 1) threads = 1;
    j.floats = (size_t)b->positions * (2 * j.columns + 1);
    j.bytes = j.floats * sizeof(double);
    if (c->row->workspace != NULL) j.bytes += c->row->workspace(b->positions, b->targets);
    size_t each = j.bytes / sizeof(double) + 9; /* threads' memory in lines of their own */
    double *memory = malloc((size_t)threads * each * sizeof *memory);
    if (memory == NULL)
        return wr_fail_memory(err, "an objective's tables",
                              (size_t)threads * each * sizeof *memory);
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
    for (int i = 0; i < b->sentences; i++)
        run_sentence(&j, i, memory + (size_t)omp_get_thread_num() * each);
    free(memory);
    return WR_OK;
}

/* ---- what was found ---- */

int wr_objective_infeasible(const wr_objective_config *c, const wr_objective_batch *b,
                            wr_str *text) {
    int count = 0, first = -1;
    for (int i = 0; i < b->sentences; i++) {
        if (b->feasible[i]) continue;
        if (count++ == 0) first = i;
    }
    if (count == 0 || text == NULL) return count;
    size_t columns = (size_t)b->targets + c->row->extra;
    int t = b->position_len[first], n = b->target_len[first], least = 1;
    if (c->row->least_positions != NULL)
        least = c->row->least_positions(b->ids + (size_t)first * columns, n);
    wr_str_add(text,
               "%d of %d sentences have no alignment for %s; the first is sentence %d: ", count,
               b->sentences, c->row->name, first + 1);
    if (n == 0)
        wr_str_add(text, "its target has no words");
    else if (t < least)
        wr_str_add(text, "%d positions, but its %d target words need %d", t, n, least);
    else
        wr_str_add(text, "all alignments have probability 0");
    return count;
}

void wr_objective_scale(const wr_objective_config *c, const wr_objective_batch *b, void *scale) {
    double sentences = 0, tokens = 0, frames = 0;
    for (int i = 0; i < b->sentences; i++) {
        if (!b->feasible[i]) continue;
        sentences += 1;
        tokens += get(b->real, b->tokens, (size_t)i);
        frames += b->position_len[i];
    }
    for (int i = 0; i < b->sentences; i++) {
        double of = c->norm == WR_NORM_TOKEN ? tokens : sentences;
        if (c->norm == WR_NORM_FRAMES) of = frames;
        if (c->norm == WR_NORM_SENT_TOKEN) of *= get(b->real, b->tokens, (size_t)i);
        put(b->real, scale, (size_t)i, b->feasible[i] && of > 0 ? 1 / of : 0);
    }
}
