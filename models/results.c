/* results.c: see results.h. */
#include "models/results.h"

#include <stdlib.h>
#include <string.h>

wr_status wr__results_begin(wr__results *r, size_t n, size_t nbest, wr_translations *out,
                            wr_error *err) {
    *out = (wr_translations){.n = n, .nbest = nbest};
    out->count = calloc(n + 1, sizeof *out->count);
    out->hyp = calloc(n * nbest + 1, sizeof *out->hyp);
    *r = (wr__results){.out = out, .first = calloc(n * nbest + 1, sizeof *r->first)};
    if (out->count != NULL && out->hyp != NULL && r->first != NULL) return WR_OK;
    wr__results_end(r, WR_ERR_MEMORY);
    return wr_fail_memory(err, "translations", n * nbest * sizeof *out->hyp);
}

wr_status wr__results_add(wr__results *r, size_t i, const int32_t *id, size_t n, double score,
                          double logp, wr_error *err) {
    wr_translations *out = r->out;
    wr_ids *ids = &out->ids;
    if (!wr_grow(&ids->id, &ids->cap, ids->n + n + 1, sizeof *ids->id))
        return wr_fail_memory(err, "translations", (ids->n + n) * sizeof *ids->id);
    size_t at = i * out->nbest + out->count[i]++;
    if (n > 0) memcpy(ids->id + ids->n, id, n * sizeof *id);
    r->first[at] = ids->n;
    out->hyp[at] = (wr_hypothesis){.n = n, .score = score, .logp = logp};
    ids->n += n;
    return WR_OK;
}

wr_status wr__results_end(wr__results *r, wr_status status) {
    wr_translations *out = r->out;
    if (status != WR_OK) wr_translations_free(out);
    for (size_t i = 0; status == WR_OK && i < out->n; i++)
        for (size_t k = i * out->nbest; k < i * out->nbest + out->count[i]; k++)
            out->hyp[k].id = out->ids.id + r->first[k];
    free(r->first);
    r->first = NULL;
    return status;
}

size_t wr__text_length(const int32_t *id, size_t n) {
    size_t kept = 0;
    while (kept < n && id[kept] != WR_EOS_ID)
        kept++;
    return kept;
}
