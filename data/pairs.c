/* pairs.c: growing sentence pairs; see pairs.h for the contracts. */
#include "data/pairs.h"

#include <stdlib.h>
#include <string.h>

size_t wr_side_longest(const wr_side *side, size_t n) {
    size_t most = 0;
    for (size_t i = 0; side->id_at != NULL && i < n; i++) {
        size_t count = wr_side_count(side, i);
        if (count > most) most = count;
    }
    return most;
}

/* Make room for sentence number n (from 0), so that side_add() cannot fail. */
static bool side_reserve(wr_corpus_side *side, size_t n, wr_sentence s) {
    size_t text_need = side->text.len + s.text_n + 2;
    return wr_grow(&side->ids.id, &side->ids.cap, side->ids.n + s.n, sizeof *side->ids.id) &&
           wr_grow(&side->text.text, &side->text.cap, text_need, 1) &&
           wr_grow(&side->id_at, &side->id_at_cap, n + 2, sizeof *side->id_at) &&
           wr_grow(&side->text_at, &side->text_at_cap, n + 2, sizeof *side->text_at);
}

static void side_add(wr_corpus_side *side, size_t n, wr_sentence s) {
    if (s.n > 0) memcpy(side->ids.id + side->ids.n, s.id, s.n * sizeof *s.id);
    side->ids.n += s.n;
    wr_str_bytes(&side->text, s.text, s.text_n);
    wr_str_bytes(&side->text, "", 1);
    side->id_at[0] = side->text_at[0] = 0;
    side->id_at[n + 1] = side->ids.n;
    side->text_at[n + 1] = side->text.len;
}

wr_status wr_corpus_add(wr_corpus *corpus, wr_sentence src, wr_sentence tgt, wr_error *err) {
    if (!side_reserve(&corpus->src, corpus->n, src) || !side_reserve(&corpus->tgt, corpus->n, tgt))
        return wr_fail_memory(err, "sentence pairs",
                              (src.n + tgt.n) * sizeof *src.id + src.text_n + tgt.text_n);
    side_add(&corpus->src, corpus->n, src);
    side_add(&corpus->tgt, corpus->n, tgt);
    corpus->n++;
    return WR_OK;
}

static wr_side side_view(const wr_corpus_side *side, size_t n) {
    static const uint64_t none[1] = {0};
    if (n == 0) return (wr_side){.id_at = none, .text_at = none, .text = ""};
    return (wr_side){side->id_at, side->ids.id, side->text_at, side->text.text};
}

wr_pairs wr_corpus_view(const wr_corpus *corpus) {
    return (wr_pairs){corpus->n, side_view(&corpus->src, corpus->n),
                      side_view(&corpus->tgt, corpus->n)};
}

static void side_free(wr_corpus_side *side) {
    wr_ids_free(&side->ids);
    wr_str_free(&side->text);
    free(side->id_at);
    free(side->text_at);
}

void wr_corpus_free(wr_corpus *corpus) {
    side_free(&corpus->src);
    side_free(&corpus->tgt);
    *corpus = (wr_corpus){0};
}
