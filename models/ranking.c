/* ranking.c: see ranking.h. */
#include "models/ranking.h"

#include <stdlib.h>
#include <string.h>

static bool same_text(const wr__ranked *a, const wr__ranked *b) {
    return a->n == b->n && (a->n == 0 || memcmp(a->id, b->id, sizeof *a->id * a->n) == 0);
}

static bool is_among(const wr__ranked *c, const wr__ranked *some, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (same_text(&some[i], c)) return true;
    return false;
}

/* Candidates from c on that are of its sentence. */
static size_t of_sentence(const wr__ranked *c, size_t n) {
    size_t count = 1;
    while (count < n && c[count].sentence == c->sentence)
        count++;
    return count;
}

/* Keep the first of equal texts; returns how many are kept. */
static size_t drop_doubles(wr__ranked *c, size_t n) {
    size_t kept = 0;
    for (size_t at = 0, count; at < n; at += count) {
        size_t begin = kept;
        count = of_sentence(c + at, n - at);
        for (size_t i = at; i < at + count; i++)
            if (!is_among(&c[i], c + begin, kept - begin)) c[kept++] = c[i];
    }
    return kept;
}

static wr_status judge_all(const wr_rescorer *judge, wr__ranked *c, size_t n, wr_error *err) {
    size_t *sentence = malloc(sizeof *sentence * (n + 1));
    wr_sentence *text = malloc(sizeof *text * (n + 1));
    double *score = malloc(sizeof *score * 2 * (n + 1)), *logp = score + n;
    bool ok = sentence != NULL && text != NULL && score != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        sentence[i] = c[i].sentence;
        text[i] = (wr_sentence){.id = c[i].id, .n = c[i].n};
    }
    wr_status status = ok ? judge->score(judge->context, n, sentence, text, score, logp, err)
                          : wr_fail_memory(err, "candidates", n * sizeof *text);
    for (size_t i = 0; status == WR_OK && i < n; i++) {
        c[i].score = score[i];
        c[i].logp = logp[i];
    }
    free(sentence);
    free(text);
    free(score);
    return status;
}

static int by_score(const void *a, const void *b) {
    const wr__ranked *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

/* Of one sentence. */
static wr_status tell_sentence(wr__results *r, wr__ranked *c, size_t n, wr_error *err) {
    qsort(c, n, sizeof *c, by_score);
    wr_status status = WR_OK;
    size_t told = 0;
    for (size_t i = 0; status == WR_OK && i < n && told < r->out->nbest; i++) {
        if (is_among(&c[i], c, i)) continue;
        status = wr__results_add(r, c[i].sentence, c[i].id, c[i].n, c[i].score, c[i].logp, err);
        told++;
    }
    return status;
}

wr_status wr__ranking_tell(wr__results *r, wr__ranked *c, size_t n, const wr_rescorer *judge,
                           wr_error *err) {
    wr_status status = WR_OK;
    if (judge != NULL) {
        n = drop_doubles(c, n);
        status = judge_all(judge, c, n, err);
    }
    for (size_t at = 0, count; status == WR_OK && at < n; at += count) {
        count = of_sentence(c + at, n - at);
        status = tell_sentence(r, c + at, count, err);
    }
    return status;
}
