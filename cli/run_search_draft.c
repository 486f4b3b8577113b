/* run_search_draft.c: greedy search with drafts of another run; see run_search.h. */
#include "cli/run_search.h"

#include <stdlib.h>

static wr_status check_verifier(const wr_run_search *s, const wr_run_searcher *x, wr_error *err) {
    if (x->run->decoder == NULL)
        return wr_fail(err, WR_ERR_USAGE,
                       "--draft is for the greedy search of a Transformer, but the run is %s; name "
                       "the Transformer first and the run that drafts behind --draft",
                       wr_run_kind(x->run));
    if (x->beam.beam != 1)
        return wr_fail(err, WR_ERR_USAGE,
                       "--draft %s is for greedy search, but %d hypotheses are kept; add --decode "
                       "greedy",
                       s->draft, x->beam.beam);
    return WR_OK;
}

static wr_status check_drafter(const wr_run_search *s, const wr_run_searcher *x, wr_error *err) {
    const wr_run *run = &x->drafter->run;
    if (run->decoder != NULL)
        return wr_fail(err, WR_ERR_INPUT,
                       "--draft %s is a Transformer, which is as slow as what it would draft for; "
                       "allowed are a non-autoregressive model or a FlowSeq",
                       s->draft);
    if (wr__same_pieces(x->run, run)) return WR_OK;
    return wr_fail(err, WR_ERR_INPUT,
                   "--draft %s has another vocabulary: its subword models differ; train both on "
                   "the same dataset directory",
                   s->draft);
}

wr_status wr__drafter_open(const wr_run_options *o, const wr_run_search *s, wr_run_searcher *x,
                           wr_error *err) {
    wr_status status = check_verifier(s, x, err);
    if (status != WR_OK) return status;
    x->drafter = calloc(1, sizeof *x->drafter);
    if (x->drafter == NULL) return wr_fail_memory(err, "drafts", sizeof *x->drafter);
    wr_run_options other = {
        .dir = s->draft, .checkpoint = "best", .device = o->device, .threads = o->threads};
    wr_run_search usual = {.seed = s->seed, .max_sentences = s->max_sentences};
    status = wr_run_open(&other, &x->drafter->run, err);
    if (status == WR_OK) status = check_drafter(s, x, err);
    if (status != WR_OK) return status;
    return wr_run_searcher_open(&x->drafter->run, &other, &usual, &x->drafter->searcher, err);
}

void wr__drafter_close(wr_run_searcher *x) {
    if (x->drafter == NULL) return;
    wr_run_searcher_close(&x->drafter->searcher);
    wr_run_close(&x->drafter->run);
    free(x->drafter);
    x->drafter = NULL;
}

wr_status wr__drafter_translate(wr_run_searcher *x, const wr_sentence *src, size_t n,
                                wr_translations *out, wr_error *err) {
    wr_run_drafter *r = x->drafter;
    wr_translations drafts = {0};
    double began = wr_now();
    wr_status status = wr_run_translate(&r->searcher, src, n, NULL, NULL, &drafts, err);
    if (status != WR_OK) return status;
    r->seconds = wr_now() - began;
    wr_sentence *draft = calloc(n + 1, sizeof *draft);
    if (draft == NULL) status = wr_fail_memory(err, "drafts", n * sizeof *draft);
    for (size_t i = 0; status == WR_OK && i < n; i++) {
        const wr_hypothesis *h = &drafts.hyp[i * drafts.nbest];
        draft[i] = (wr_sentence){.id = h->id, .n = drafts.count[i] > 0 ? h->n : 0};
    }
    if (status == WR_OK)
        status = wr_draft_search(x->run->decoder, src, draft, n, &x->beam, &r->stats, out, err);
    free(draft);
    wr_translations_free(&drafts);
    return status;
}
