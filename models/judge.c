/* judge.c: see judge.h. */
#include "models/judge.h"

#include "data/subword.h"
#include "models/transformer_decoder.h"
#include "ops/fuse.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Lengths and nodes of a batch are rounded up: few distinct sizes mean few plans. A batch has about
 * so many nodes, and so many places where attention looks at them. */
enum { LENGTH_MULTIPLE = 8, NODE_MULTIPLE = 16, NODES_MOST = 1024, PLACES_MOST = 8192 };

struct wr_judge {
    wr_transformer t;
    wr_session *session;
    wr_program *program;
};

static wr_status compile(wr_judge *j, wr_error *err) {
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", 0);
    wr nll = wr_transformer_judge(&j->t, g);
    wr_status status = wr_program_new(g, 1, &nll, wr_standard_passes(), &j->program, err);
    wr_graph_free(g);
    return status;
}

wr_status wr_judge_new(const wr_transformer *t, wr_session *session, wr_judge **out,
                       wr_error *err) {
    *out = NULL;
    if ((int64_t)t->tgt_vocab * (t->m.max_len + NODE_MULTIPLE) > INT32_MAX)
        return wr_fail(err, WR_ERR_INPUT,
                       "%d words and model.max_len = %d are too many to judge candidates: their "
                       "product must be below 2^31",
                       t->tgt_vocab, t->m.max_len);
    wr_judge *j = calloc(1, sizeof *j);
    if (j == NULL) return wr_fail_memory(err, "a judge", sizeof *j);
    j->t = *t;
    j->t.training = false;
    j->session = session;
    wr_status status = compile(j, err);
    if (status == WR_OK)
        *out = j;
    else
        wr_judge_free(j);
    return status;
}

void wr_judge_free(wr_judge *j) {
    if (j == NULL) return;
    if (j->program != NULL) {
        wr_session_forget(j->session, j->program);
        wr_program_free(j->program);
    }
    free(j);
}

/* ---- candidates in the order of the tree ---- */

typedef struct candidate {
    wr_sentence src; /* cut */
    const int32_t *id;
    size_t n, sentence, number;
} candidate;

typedef struct judging {
    wr_judge *j;
    candidate *cand;
    size_t n;
    double *nll;
    int32_t *pool; /* what a batch feeds */
    size_t cap;
} judging;

/* How many words both begin with. */
static size_t common_words(const candidate *a, const candidate *b) {
    size_t most = a->n < b->n ? a->n : b->n, n = 0;
    while (n < most && a->id[n] == b->id[n])
        n++;
    return n;
}

/* Long sources first, so that those of a batch are alike; candidates of a sentence by their words,
 * so that each has most in common with the one before. */
static int by_beginning(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->src.n != y->src.n) return x->src.n > y->src.n ? -1 : 1;
    if (x->sentence != y->sentence) return x->sentence < y->sentence ? -1 : 1;
    size_t n = common_words(x, y);
    if (n < x->n && n < y->n) return x->id[n] < y->id[n] ? -1 : 1;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

static wr_status check_ids(const wr_sentence *s, int vocab, const char *what, size_t number,
                           wr_error *err) {
    for (size_t k = 0; k < s->n; k++)
        if (s->id[k] < 0 || s->id[k] >= vocab)
            return wr_fail(err, WR_ERR_INPUT,
                           "%s %zu: token %zu is %d, but ids of the vocabulary are 0 to %d", what,
                           number + 1, k + 1, s->id[k], vocab - 1);
    return WR_OK;
}

static wr_status list_candidates(judging *s, const wr_sentence *src, const size_t *sentence,
                                 const wr_sentence *tgt, size_t n, wr_error *err) {
    const wr_transformer *t = &s->j->t;
    size_t most = (size_t)t->m.max_len - 1;
    wr_status status = WR_OK;
    for (size_t i = 0; status == WR_OK && i < n; i++) {
        s->nll[i] = INFINITY;
        candidate c = {.src = src[sentence[i]],
                       .id = tgt[i].id,
                       .n = tgt[i].n,
                       .sentence = sentence[i],
                       .number = i};
        if (c.n > most) continue;
        if (c.src.n > most) c.src.n = most;
        status = check_ids(&c.src, t->src_vocab, "source", sentence[i], err);
        if (status == WR_OK) status = check_ids(&tgt[i], t->tgt_vocab, "candidate", i, err);
        s->cand[s->n++] = c;
    }
    qsort(s->cand, s->n, sizeof *s->cand, by_beginning);
    return status;
}

/* ---- a batch ---- */

/* Its sizes and feeds; the letters are those of wr_transformer_judge(). */
typedef struct tree {
    size_t G, S, B, T, M;
    int32_t *src, *src_len, *source, *len, *token, *position, *place, *fresh, *said;
} tree;

static size_t round_up(size_t n, size_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

static size_t round_length(const judging *s, size_t n) {
    size_t most = (size_t)s->j->t.m.max_len, length = round_up(n, LENGTH_MULTIPLE);
    return length < most ? length : most;
}

/* The tree with one candidate more, which stands at c. */
static tree with_one(const judging *s, tree t, const candidate *c) {
    bool root = t.B == 0 || c->sentence != c[-1].sentence;
    size_t T = round_length(s, c->n + 1), S = round_length(s, c->src.n + 1);
    t.B++;
    t.G += root;
    t.M += root ? c->n + 1 : c->n - common_words(c - 1, c);
    if (T > t.T) t.T = T;
    if (S > t.S) t.S = S;
    return t;
}

/* As many candidates as make a batch. */
static tree next_tree(const judging *s, size_t at) {
    size_t vocab = (size_t)s->j->t.tgt_vocab, most = INT32_MAX / vocab - NODE_MULTIPLE;
    if (most > NODES_MOST) most = NODES_MOST;
    tree t = with_one(s, (tree){0}, &s->cand[at]);
    while (at + t.B < s->n) {
        tree more = with_one(s, t, &s->cand[at + t.B]);
        if (more.M > most || more.B * more.T > PLACES_MOST) break;
        t = more;
    }
    t.M = round_up(t.M, NODE_MULTIPLE);
    return t;
}

static int32_t *take(int32_t **pool, size_t n) {
    int32_t *at = *pool;
    *pool += n;
    return at;
}

static wr_status reserve(judging *s, tree *t, wr_error *err) {
    size_t all = t->G * (t->S + 1) + 2 * t->B + 3 * t->M + 2 * t->B * t->T;
    if (!wr_grow(&s->pool, &s->cap, all, sizeof *s->pool))
        return wr_fail_memory(err, "candidates", all * sizeof *s->pool);
    memset(s->pool, 0, all * sizeof *s->pool);
    int32_t *pool = s->pool;
    t->src = take(&pool, t->G * t->S);
    t->src_len = take(&pool, t->G);
    t->source = take(&pool, t->B);
    t->len = take(&pool, t->B);
    t->token = take(&pool, t->M);
    t->position = take(&pool, t->M);
    t->place = take(&pool, t->M);
    t->fresh = take(&pool, t->B * t->T);
    t->said = take(&pool, t->B * t->T);
    return WR_OK;
}

static void fill_source(const tree *t, size_t g, const wr_sentence *src) {
    if (src->n > 0) memcpy(t->src + g * t->S, src->id, src->n * sizeof *src->id);
    t->src[g * t->S + src->n] = WR_EOS_ID;
    t->src_len[g] = (int32_t)src->n + 1;
}

/* Row b is candidate c, whose first `known` places are those of the row before. */
static size_t fill_row(const judging *s, const tree *t, size_t b, const candidate *c, size_t known,
                       size_t nodes) {
    size_t row = b * t->T;
    for (size_t p = 0; p <= c->n; p++) {
        if (p < known) {
            t->fresh[row + p] = t->fresh[row - t->T + p];
        } else {
            t->token[nodes] = p == 0 ? WR_BOS_ID : c->id[p - 1];
            t->position[nodes] = (int32_t)p;
            t->place[nodes] = (int32_t)(row + p);
            t->fresh[row + p] = (int32_t)nodes++;
        }
        t->said[row + p] =
            t->fresh[row + p] * s->j->t.tgt_vocab + (p < c->n ? c->id[p] : WR_EOS_ID);
    }
    t->len[b] = (int32_t)c->n + 1;
    return nodes;
}

static void fill_tree(const judging *s, const tree *t, const candidate *c) {
    size_t sources = 0, nodes = 0;
    for (size_t b = 0; b < t->B; b++) {
        bool root = b == 0 || c[b].sentence != c[b - 1].sentence;
        if (root) fill_source(t, sources++, &c[b].src);
        t->source[b] = (int32_t)sources - 1;
        nodes = fill_row(s, t, b, &c[b], root ? 0 : common_words(&c[b - 1], &c[b]) + 1, nodes);
    }
    for (; nodes < t->M; nodes++)
        t->token[nodes] = t->token[0]; /* position and place are 0, too: the first node again */
}

static wr_feed row(const char *name, const int32_t *data, size_t n) {
    return (wr_feed){.name = name, .data = data, .rank = 1, .dim = {(int64_t)n}};
}

static wr_feed matrix(const char *name, const int32_t *data, size_t n, size_t m) {
    return (wr_feed){.name = name, .data = data, .rank = 2, .dim = {(int64_t)n, (int64_t)m}};
}

static wr_status run_tree(const judging *s, const tree *t, wr_error *err) {
    const wr_feed feeds[] = {
        matrix("src", t->src, t->G, t->S),  row("src_len", t->src_len, t->G),
        row("source", t->source, t->B),     row("len", t->len, t->B),
        row("token", t->token, t->M),       row("position", t->position, t->M),
        row("place", t->place, t->M),       matrix("fresh", t->fresh, t->B, t->T),
        matrix("said", t->said, t->B, t->T)};
    return wr_session_run(s->j->session, s->j->program, 9, feeds, err);
}

static wr_status read_tree(const judging *s, const tree *t, const candidate *c, wr_error *err) {
    const wr_tensor *nll = wr_session_output(s->j->session, 0);
    for (size_t b = 0; b < t->B; b++) {
        double sum = 0;
        for (int32_t p = 0; p < t->len[b]; p++)
            sum += wr_real_value(nll, (int64_t)(b * t->T) + p);
        if (!isfinite(sum))
            return wr_fail(err, WR_ERR_INPUT,
                           "sentence %zu: the rescorer's output is not finite; its parameters hold "
                           "infinite or undefined numbers",
                           c[b].sentence + 1);
        s->nll[c[b].number] = sum;
    }
    return WR_OK;
}

static wr_status judge_all(judging *s, wr_error *err) {
    wr_status status = WR_OK;
    for (size_t at = 0; status == WR_OK && at < s->n;) {
        tree t = next_tree(s, at);
        status = reserve(s, &t, err);
        if (status != WR_OK) break;
        fill_tree(s, &t, &s->cand[at]);
        status = run_tree(s, &t, err);
        if (status == WR_OK) status = read_tree(s, &t, &s->cand[at], err);
        at += t.B;
    }
    return status;
}

wr_status wr_judge_score(wr_judge *j, const wr_sentence *src, const size_t *sentence,
                         const wr_sentence *tgt, size_t n, double *nll, wr_error *err) {
    judging s = {.j = j, .nll = nll, .cand = malloc(sizeof *s.cand * (n + 1))};
    wr_status status = s.cand == NULL ? wr_fail_memory(err, "candidates", sizeof *s.cand * n)
                                      : list_candidates(&s, src, sentence, tgt, n, err);
    if (status == WR_OK) status = judge_all(&s, err);
    free(s.cand);
    free(s.pool);
    return status;
}
