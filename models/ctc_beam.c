/* ctc_beam.c: see ctc_beam.h. */
#include "models/ctc_beam.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROOT = 0, NOWHERE = -1, TABLE_LEAST = 256 };

size_t wr_ctc_collapse(int32_t *id, size_t frames, int32_t blank) {
    size_t n = 0;
    int32_t before = blank;
    for (size_t t = 0; t < frames; t++) {
        int32_t now = id[t];
        if (now != before && now != blank) id[n++] = now;
        before = now;
    }
    return n;
}

/* A prefix that has been in the beam once: the tree keeps them all, so that a prefix that comes
 * back meets those that go on from it. */
typedef struct prefix {
    uint32_t before;
    int32_t last;
    int32_t slot;              /* in the beam, NOWHERE when not */
    uint32_t length, children; /* words without the end */
    wr_arpa_state state;
    double lm; /* log p_LM of what was said */
} prefix;

/* A prefix of the beam. */
typedef struct live {
    uint32_t node;
    double blank, word; /* log-probability of its paths that end in a blank, in a word */
    double next_blank, next_word;
} live;

/* What may be in the next beam: prefix `from` of this one as it is (word = NOWHERE), or with one
 * more word. */
typedef struct candidate {
    double score, blank, word_logp, lm;
    int32_t from, word;
    wr_arpa_state state;
} candidate;

struct wr_ctc_beam {
    const wr_ctc_frames *f;
    const wr_ctc_beam_options *o;
    prefix *node;
    size_t n_node, cap_node;
    uint32_t *table; /* prefixes by what is before and the last word; 0: free */
    size_t table_n;  /* a power of two */
    live *live, *fresh;
    candidate *best; /* a heap, the worst first */
    size_t n_live, n_best, cap_live, cap_fresh, cap_best;
    int32_t *words; /* of the texts found */
    size_t n_words, cap_words;
};

wr_ctc_beam *wr_ctc_beam_new(void) { return calloc(1, sizeof(wr_ctc_beam)); }

void wr_ctc_beam_free(wr_ctc_beam *b) {
    if (b == NULL) return;
    free(b->node);
    free(b->table);
    free(b->live);
    free(b->fresh);
    free(b->best);
    free(b->words);
    free(b);
}

static double log_add(double a, double b) {
    double most = a > b ? a : b, least = a > b ? b : a;
    return least == -INFINITY ? most : most + log1p(exp(least - most));
}

/* ---- the tree ---- */

static size_t place_of(const wr_ctc_beam *b, uint32_t before, int32_t last) {
    uint64_t x = ((uint64_t)before << 32 | (uint32_t)last) * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(x >> 32) & (b->table_n - 1);
}

/* Where the prefix is in the table, or would be. */
static size_t find_place(const wr_ctc_beam *b, uint32_t before, int32_t last) {
    size_t i = place_of(b, before, last);
    for (; b->table[i] != 0; i = (i + 1) & (b->table_n - 1)) {
        const prefix *p = &b->node[b->table[i]];
        if (p->before == before && p->last == last) break;
    }
    return i;
}

static bool grow_table(wr_ctc_beam *b) {
    if (b->table_n > 2 * (b->n_node + 1)) return true;
    size_t n = b->table_n == 0 ? TABLE_LEAST : 2 * b->table_n;
    uint32_t *table = calloc(n, sizeof *table);
    if (table == NULL) return false;
    free(b->table);
    b->table = table;
    b->table_n = n;
    for (size_t i = ROOT + 1; i < b->n_node; i++)
        b->table[find_place(b, b->node[i].before, b->node[i].last)] = (uint32_t)i;
    return true;
}

/* The node of a candidate, made if it is new. ROOT is no candidate's, so it tells "out of memory".
 */
static uint32_t node_of(wr_ctc_beam *b, const candidate *c) {
    uint32_t before = b->live[c->from].node;
    if (c->word == NOWHERE) return before;
    if (!grow_table(b) || !wr_grow(&b->node, &b->cap_node, b->n_node + 1, sizeof *b->node))
        return ROOT;
    size_t i = find_place(b, before, c->word);
    if (b->table[i] != 0) return b->table[i];
    b->node[b->n_node] = (prefix){.before = before,
                                  .last = c->word,
                                  .slot = NOWHERE,
                                  .length = b->node[before].length + (c->word != b->f->end),
                                  .state = c->state,
                                  .lm = c->lm};
    b->node[before].children++;
    b->table[i] = (uint32_t)b->n_node;
    return (uint32_t)b->n_node++;
}

/* The prefix with one more word when it is in the beam, too. */
static live *longer(const wr_ctc_beam *b, const live *from, int32_t word) {
    if (b->node[from->node].children == 0) return NULL;
    uint32_t node = b->table[find_place(b, from->node, word)];
    return node == 0 || b->node[node].slot == NOWHERE ? NULL : &b->live[b->node[node].slot];
}

/* ---- the best ---- */

/* Prefixes as they are come before longer ones. */
static bool better(const candidate *a, const candidate *b) {
    if (a->score != b->score) return a->score > b->score;
    bool a_stays = a->word == NOWHERE, b_stays = b->word == NOWHERE;
    if (a_stays != b_stays) return a_stays;
    return a->from != b->from ? a->from < b->from : a->word < b->word;
}

static void swap(candidate *a, candidate *b) {
    candidate c = *a;
    *a = *b;
    *b = c;
}

static void sink(wr_ctc_beam *b, size_t i) {
    for (size_t child; (child = 2 * i + 1) < b->n_best; i = child) {
        if (child + 1 < b->n_best && better(&b->best[child], &b->best[child + 1])) child++;
        if (better(&b->best[child], &b->best[i])) return;
        swap(&b->best[child], &b->best[i]);
    }
}

static void keep(wr_ctc_beam *b, const candidate *c) {
    if (b->n_best == (size_t)b->o->beam) {
        if (!better(c, &b->best[0])) return;
        b->best[0] = *c;
        sink(b, 0);
        return;
    }
    size_t i = b->n_best++;
    b->best[i] = *c;
    for (; i > 0 && better(&b->best[(i - 1) / 2], &b->best[i]); i = (i - 1) / 2)
        swap(&b->best[(i - 1) / 2], &b->best[i]);
}

/* Whether nothing of at most this score can come among the best. */
static bool is_hopeless(const wr_ctc_beam *b, double score) {
    return score == -INFINITY || (b->n_best == (size_t)b->o->beam && score < b->best[0].score);
}

static int by_score(const void *a, const void *b) { return better(a, b) ? -1 : better(b, a); }

/* ---- a frame ---- */

static double score_of(const wr_ctc_beam *b, double logp, double lm, uint32_t length) {
    double by_lm = b->o->lm == NULL ? 0 : b->o->lm_weight * lm;
    return logp + by_lm + b->o->length_bonus * (double)length;
}

static bool has_ended(const wr_ctc_beam *b, uint32_t node) {
    return node != ROOT && b->node[node].last == b->f->end;
}

static void extend(wr_ctc_beam *b, int32_t slot, int32_t word, double logp) {
    const live *from = &b->live[slot];
    const prefix *p = &b->node[from->node];
    bool end = word == b->f->end;
    uint32_t length = p->length + !end;
    candidate c = {.blank = -INFINITY, .word_logp = logp, .lm = p->lm, .from = slot, .word = word};
    if (is_hopeless(b, score_of(b, logp, p->lm, length))) return;
    const wr_ctc_lm *lm = b->o->lm;
    if (lm != NULL)
        c.lm += end ? wr_arpa_end(lm->arpa, p->state)
                    : wr_arpa_step(lm->arpa, p->state, lm->word[word], &c.state);
    c.score = score_of(b, logp, c.lm, length);
    keep(b, &c);
}

/* The prefix in `slot` under word i of frame t. A repeated word needs a blank between. */
static void hear(wr_ctc_beam *b, int32_t slot, size_t t, size_t i) {
    live *from = &b->live[slot];
    size_t at = t * (size_t)b->f->words + i;
    int32_t word = b->f->id[at];
    double logp = b->f->logp[at];
    if (word == b->f->blank) return;
    bool again = from->node != ROOT && b->node[from->node].last == word;
    if (again) from->next_word = log_add(from->next_word, from->word + logp);
    if (has_ended(b, from->node)) return;
    double longer_logp = logp + (again ? from->blank : log_add(from->blank, from->word));
    live *to = longer(b, from, word);
    if (to != NULL)
        to->next_word = log_add(to->next_word, longer_logp);
    else
        extend(b, slot, word, longer_logp);
}

static void stay(wr_ctc_beam *b, int32_t slot) {
    const live *x = &b->live[slot];
    const prefix *p = &b->node[x->node];
    candidate c = {.blank = x->next_blank,
                   .word_logp = x->next_word,
                   .lm = p->lm,
                   .from = slot,
                   .word = NOWHERE};
    c.score = score_of(b, log_add(x->next_blank, x->next_word), p->lm, p->length);
    if (c.score > -INFINITY) keep(b, &c);
}

static wr_status next_beam(wr_ctc_beam *b, wr_error *err) {
    qsort(b->best, b->n_best, sizeof *b->best, by_score);
    for (size_t i = 0; i < b->n_best; i++) {
        const candidate *c = &b->best[i];
        uint32_t node = node_of(b, c);
        if (node == ROOT && c->word != NOWHERE)
            return wr_fail_memory(err, "prefixes", b->n_node * sizeof *b->node);
        b->fresh[i] = (live){.node = node, .blank = c->blank, .word = c->word_logp};
    }
    for (size_t i = 0; i < b->n_live; i++)
        b->node[b->live[i].node].slot = NOWHERE;
    live *old = b->live;
    b->live = b->fresh;
    b->fresh = old;
    size_t cap = b->cap_live;
    b->cap_live = b->cap_fresh;
    b->cap_fresh = cap;
    b->n_live = b->n_best;
    for (size_t i = 0; i < b->n_live; i++)
        b->node[b->live[i].node].slot = (int32_t)i;
    return WR_OK;
}

static wr_status check_frame(const wr_ctc_beam *b, size_t t, wr_error *err) {
    size_t words = (size_t)b->f->words;
    bool fine = b->f->blank_logp[t] < INFINITY; /* also for NaN */
    for (size_t i = t * words; i < (t + 1) * words; i++)
        fine = fine && b->f->logp[i] < INFINITY;
    return fine ? WR_OK
                : wr_fail(err, WR_ERR_INPUT,
                          "the model's output is not finite; its parameters hold infinite or "
                          "undefined numbers (--trap-nan names the row)");
}

static wr_status advance(wr_ctc_beam *b, size_t t, wr_error *err) {
    wr_status status = check_frame(b, t, err);
    if (status != WR_OK) return status;
    b->n_best = 0;
    for (size_t i = 0; i < b->n_live; i++) {
        live *x = &b->live[i];
        x->next_blank = log_add(x->blank, x->word) + b->f->blank_logp[t];
        x->next_word = -INFINITY;
    }
    for (size_t i = 0; i < b->n_live; i++)
        for (size_t k = 0; k < (size_t)b->f->words; k++)
            hear(b, (int32_t)i, t, k);
    for (size_t i = 0; i < b->n_live; i++)
        stay(b, (int32_t)i);
    if (b->n_best == 0)
        return wr_fail(err, WR_ERR_INPUT, "frame %zu: every text has probability 0", t + 1);
    return next_beam(b, err);
}

/* ---- the whole ---- */

static wr_status check_options(const wr_ctc_frames *f, const wr_ctc_beam_options *o,
                               wr_error *err) {
    if (o->beam < 1 || o->nbest < 1 || o->nbest > o->beam)
        return wr_fail(err, WR_ERR_INPUT,
                       "%d texts of a beam of %d are asked for; allowed are a beam of at least 1 "
                       "and 1 to as many texts as the beam",
                       o->nbest, o->beam);
    if (!(o->lm_weight >= 0) || !isfinite(o->lm_weight) || !isfinite(o->length_bonus))
        return wr_fail(err, WR_ERR_INPUT,
                       "the language model's weight is %g and the bonus for a word %g; allowed are "
                       "a weight of at least 0 and finite numbers",
                       o->lm_weight, o->length_bonus);
    if (f->frames < 0 || f->words < 0)
        return wr_fail(err, WR_ERR_LIBRARY, "%d frames of %d words", f->frames, f->words);
    return WR_OK;
}

static wr_status begin(wr_ctc_beam *b, const wr_ctc_frames *f, const wr_ctc_beam_options *o,
                       wr_error *err) {
    size_t beam = (size_t)o->beam;
    b->f = f;
    b->o = o;
    b->n_node = 0;
    if (!wr_grow(&b->node, &b->cap_node, 1, sizeof *b->node) || !grow_table(b) ||
        !wr_grow(&b->live, &b->cap_live, beam, sizeof *b->live) ||
        !wr_grow(&b->fresh, &b->cap_fresh, beam, sizeof *b->fresh) ||
        !wr_grow(&b->best, &b->cap_best, beam, sizeof *b->best))
        return wr_fail_memory(err, "a beam", beam * sizeof *b->best);
    memset(b->table, 0, b->table_n * sizeof *b->table);
    wr_arpa_state state = o->lm == NULL ? 0 : wr_arpa_begin(o->lm->arpa);
    b->node[b->n_node++] = (prefix){.last = NOWHERE, .slot = 0, .state = state};
    b->live[0] = (live){.node = ROOT, .blank = 0, .word = -INFINITY};
    b->n_live = 1;
    b->n_words = 0;
    return WR_OK;
}

/* The beam with the language model's ends, best first, as candidates that stay. */
static void judge_ends(wr_ctc_beam *b) {
    for (size_t i = 0; i < b->n_live; i++) {
        const live *x = &b->live[i];
        const prefix *p = &b->node[x->node];
        double lm = p->lm, logp = log_add(x->blank, x->word);
        if (b->o->lm != NULL && !has_ended(b, x->node)) lm += wr_arpa_end(b->o->lm->arpa, p->state);
        b->best[i] = (candidate){.score = score_of(b, logp, lm, p->length),
                                 .word_logp = logp,
                                 .from = (int32_t)i,
                                 .word = NOWHERE};
    }
    qsort(b->best, b->n_live, sizeof *b->best, by_score);
}

static wr_status tell(wr_ctc_beam *b, wr_ctc_found *found, size_t n, wr_error *err) {
    size_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += b->node[b->live[b->best[i].from].node].length;
    if (!wr_grow(&b->words, &b->cap_words, total + 1, sizeof *b->words))
        return wr_fail_memory(err, "texts", total * sizeof *b->words);
    for (size_t i = 0; i < n; i++) {
        const candidate *c = &b->best[i];
        uint32_t node = b->live[c->from].node;
        int32_t *to = b->words + b->n_words;
        found[i] = (wr_ctc_found){
            .id = to, .n = b->node[node].length, .score = c->score, .logp = c->word_logp};
        b->n_words += found[i].n;
        if (has_ended(b, node)) node = b->node[node].before;
        for (size_t k = found[i].n; k > 0; k--, node = b->node[node].before)
            to[k - 1] = b->node[node].last;
    }
    return WR_OK;
}

wr_status wr_ctc_beam_search(wr_ctc_beam *b, const wr_ctc_frames *f, const wr_ctc_beam_options *o,
                             wr_ctc_found *found, size_t *n, wr_error *err) {
    *n = 0;
    wr_status status = check_options(f, o, err);
    if (status == WR_OK) status = begin(b, f, o, err);
    for (size_t t = 0; status == WR_OK && t < (size_t)f->frames; t++)
        status = advance(b, t, err);
    if (status != WR_OK) return status;
    judge_ends(b);
    size_t told = b->n_live < (size_t)o->nbest ? b->n_live : (size_t)o->nbest;
    status = tell(b, found, told, err);
    if (status == WR_OK) *n = told;
    return status;
}
