/* valid_terms.c: see valid_terms.h. */
#include "cli/valid_terms.h"

static uint64_t step_of(const wr_batch *b) { return UINT64_MAX - WR_STAGES - b->place.batch; }

static wr_status run_batch(const wr_validating *v, const wr_feeding *feeding, wr_program *program,
                           const wr_batch *b, wr_fed *fed, wr_error *err) {
    wr_session_set_step(v->session, step_of(b));
    wr_status status = wr_fed_fill(feeding, b, fed, err);
    if (status != WR_OK) return status;
    const wr_step_numbers numbers = {.update = v->recipe->train.max_updates};
    int n = wr_programs_feed(program, &numbers, fed->feed, fed->n);
    return wr_session_run(v->session, program, n, fed->feed, err);
}

static wr_batches_options options_of(const wr_validating *v) {
    wr_batches_options o = wr_batches_defaults();
    o.max_tokens = v->max_tokens > 0 ? v->max_tokens : (size_t)v->recipe->data.max_tokens;
    o.max_sentences = (size_t)v->recipe->data.max_sentences;
    o.multiple = (size_t)v->recipe->data.length_multiple;
    o.in_order = o.oversize = true;
    o.prefetch = 0;
    return o;
}

wr_status wr_valid_run(const wr_validating *v, const wr_feeding *feeding, wr_program *program,
                       const wr_pairs *pairs, wr_valid_take take, void *context, int64_t *left_out,
                       wr_error *err) {
    wr_batches_options o = options_of(v);
    wr_batches *batches = NULL;
    wr_fed fed = {0};
    wr_status status = wr_batches_open(pairs, &o, &batches, err);
    const wr_batch *b = NULL;
    size_t done = 0;
    *left_out = 0;
    while (status == WR_OK && (status = wr_batches_next(batches, &b, err)) == WR_OK && b != NULL) {
        bool fits = b->S <= feeding->max_len && b->T <= feeding->max_len;
        if (!fits) *left_out += b->B;
        if (fits) status = run_batch(v, feeding, program, b, &fed, err);
        if (fits && status == WR_OK) take(context, b, &fed, v->session);
        done += (size_t)b->B;
        if (v->progress != NULL) v->progress(v->context, done, pairs->n);
    }
    wr_batches_close(batches);
    wr_fed_free(&fed);
    return status;
}

static void add_batch(void *context, const wr_batch *b, const wr_fed *fed, wr_session *s) {
    wr_valid_sums *x = context;
    (void)b;
    for (int k = 0; k < x->terms; k++)
        x->term[k] += wr_output_number(s, k);
    x->sentences += fed->sentences;
    x->tokens += fed->tokens;
}

wr_status wr_valid_sum(const wr_validating *v, const wr_programs *p, const wr_pairs *pairs,
                       wr_valid_sums *x, wr_error *err) {
    *x = (wr_valid_sums){.terms = wr_programs_valid_terms(p)};
    return wr_valid_run(v, &p->feeding, p->valid, pairs, add_batch, x, &x->left_out, err);
}
