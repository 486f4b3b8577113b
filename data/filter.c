/* filter.c: lines into sentence pairs; see filter.h for the contracts. */
#define _GNU_SOURCE /* qsort_r */
#include "data/filter.h"

#include <stdlib.h>
#include <string.h>

static void describe_count(wr_str *out, size_t n, const char *reason, const char **before) {
    if (n == 0) return;
    wr_str_add(out, "%s%zu %s", *before, n, reason);
    *before = ", ";
}

void wr_filter_describe(const wr_filter *filter, const wr_filter_report *report, wr_str *out) {
    wr_str reason = {0};
    const char *before = "; dropped: ";
    wr_str_add(out, "%zu pairs, %zu kept", report->lines, report->kept);
    describe_count(out, report->duplicate, "duplicate", &before);
    describe_count(out, report->empty, "with an empty side", &before);
    wr_str_add(&reason, "longer than %zu tokens", filter->max_len);
    describe_count(out, report->too_long, wr_str_text(&reason), &before);
    wr_str_clear(&reason);
    wr_str_add(&reason, "with a length ratio above %g", filter->max_ratio);
    describe_count(out, report->ratio, wr_str_text(&reason), &before);
    wr_str_free(&reason);
}

wr_status wr_filter_same_lines(const wr_text *src, const wr_text *tgt, wr_error *err) {
    if (src->n == tgt->n) return WR_OK;
    return wr_fail(err, WR_ERR_INPUT,
                   "%s has %zu lines but %s has %zu: line i of one must be the translation of line "
                   "i of the other; check that both come from the same corpus and neither was cut",
                   src->path, src->n, tgt->path, tgt->n);
}

/* ---- duplicates ---- */

typedef struct both_texts {
    const wr_text *src, *tgt;
} both_texts;

static int compare_texts(const both_texts *t, size_t a, size_t b) {
    int order = strcmp(t->src->line[a], t->src->line[b]);
    return order != 0 ? order : strcmp(t->tgt->line[a], t->tgt->line[b]);
}

static int by_text_then_line(const void *a, const void *b, void *context) {
    size_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    int order = compare_texts(context, x, y);
    return order != 0 ? order : (x > y) - (x < y);
}

/* seen[i] becomes true when lines i repeat an earlier pair. */
static wr_status find_duplicates(both_texts texts, bool *seen, wr_error *err) {
    size_t n = texts.src->n;
    size_t *order = malloc(n * sizeof *order);
    if (order == NULL) return wr_fail_memory(err, "the search for duplicates", n * sizeof *order);
    for (size_t i = 0; i < n; i++)
        order[i] = i;
    qsort_r(order, n, sizeof *order, by_text_then_line, &texts);
    for (size_t i = 1; i < n; i++)
        seen[order[i]] = compare_texts(&texts, order[i - 1], order[i]) == 0;
    free(order);
    return WR_OK;
}

/* ---- encoding ---- */

/* True when the pair passes; else the reason is counted. */
static bool passes(const wr_filter *f, size_t src_n, size_t tgt_n, wr_filter_report *r) {
    size_t longer = src_n > tgt_n ? src_n : tgt_n, shorter = src_n > tgt_n ? tgt_n : src_n;
    if (f->empty && shorter == 0) {
        r->empty++;
    } else if (f->max_len > 0 && longer > f->max_len) {
        r->too_long++;
    } else if (f->max_ratio > 0 && (double)longer > f->max_ratio * (double)shorter) {
        r->ratio++;
    } else {
        r->kept++;
        return true;
    }
    return false;
}

/* The parts of an encoding run, and ids used again for each line. */
typedef struct encoder {
    both_texts texts;
    const wr_subword *src_model, *tgt_model;
    const wr_filter *filter;
    wr_filter_report *report;
    wr_ids src, tgt;
} encoder;

static wr_status encode_line(encoder *e, size_t i, wr_corpus *out, wr_error *err) {
    const wr_text *src = e->texts.src, *tgt = e->texts.tgt;
    e->src.n = e->tgt.n = 0;
    wr_status status = wr_subword_encode(e->src_model, src->line[i], src->len[i], &e->src, err);
    if (status == WR_OK)
        status = wr_subword_encode(e->tgt_model, tgt->line[i], tgt->len[i], &e->tgt, err);
    if (status != WR_OK || !passes(e->filter, e->src.n, e->tgt.n, e->report)) return status;
    return wr_corpus_add(out, (wr_sentence){e->src.id, e->src.n, src->line[i], src->len[i]},
                         (wr_sentence){e->tgt.id, e->tgt.n, tgt->line[i], tgt->len[i]}, err);
}

wr_status wr_filter_encode(const wr_text *src, const wr_text *tgt, const wr_subword *src_model,
                           const wr_subword *tgt_model, const wr_filter *filter,
                           wr_filter_progress *progress, void *context, wr_corpus *out,
                           wr_filter_report *report, wr_error *err) {
    encoder e = {.texts = {src, tgt},
                 .src_model = src_model,
                 .tgt_model = tgt_model,
                 .filter = filter,
                 .report = report};
    *report = (wr_filter_report){.lines = src->n};
    wr_status status = wr_filter_same_lines(src, tgt, err);
    if (status != WR_OK) return status;
    bool *seen = calloc(src->n + 1, sizeof *seen);
    if (seen == NULL) return wr_fail_memory(err, "the search for duplicates", src->n + 1);
    if (filter->duplicates && src->n > 0) status = find_duplicates(e.texts, seen, err);
    for (size_t i = 0; i < src->n && status == WR_OK; i++) {
        if (seen[i]) {
            report->duplicate++;
            continue;
        }
        status = encode_line(&e, i, out, err);
        if (progress != NULL && i % 1024 == 0) progress(context, (double)i / (double)src->n);
    }
    free(seen);
    wr_ids_free(&e.src);
    wr_ids_free(&e.tgt);
    return status;
}
