/* evaluate_flowseq.c: `weir evaluate` of a FlowSeq; see evaluate_internal.h and docs/decoding.md.
 */
#include "cli/evaluate_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SRC = WR_EVALUATE_SRC, TGT = WR_EVALUATE_TGT, SIDES = WR_EVALUATE_SIDES };
enum { LENGTHS = 2 }; /* told for each sentence */

wr_status wr__evaluate_check_line(const wr_evaluation *e, int side, size_t line, wr_error *err) {
    const char *path = e->text[side].path;
    size_t from = e->from[side][line], n = e->pool[side].n - from;
    size_t unit = side == SRC ? 1 : (size_t)wr_flowseq_decoder_model(e->run.flowseq)->length_unit;
    if (n == 0)
        return wr_fail(err, WR_ERR_INPUT, "%s:%zu: an empty line; a sentence has at least its end",
                       path, line + 1);
    if (n % unit != 0)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s:%zu: %zu ids, but the model's targets come in multiples of %zu: fill "
                       "the line with ends of sentence",
                       path, line + 1, n, unit);
    for (size_t i = 0; i < n; i++)
        if (e->pool[side].id[from + i] == WR_PAD_ID)
            return wr_fail(err, WR_ERR_INPUT,
                           "%s:%zu: id %zu is %d, which is padding and not allowed inside a "
                           "sentence",
                           path, line + 1, i + 1, WR_PAD_ID);
    return WR_OK;
}

/* ---- sentences as the model sees them ---- */

typedef struct whole {
    const wr_sentence *sentence[SIDES]; /* `own`, or those of the evaluation */
    wr_sentence *own[SIDES];
    int32_t *id[SIDES];
} whole;

static size_t whole_length(const wr_evaluation *e, int side, size_t i) {
    size_t n = e->sentence[side][i].n;
    if (side == SRC) return n + 1;
    return wr_flowseq_target_len(n, wr_flowseq_decoder_model(e->run.flowseq)->length_unit);
}

static wr_status add_ends(const wr_evaluation *e, int side, whole *w, wr_error *err) {
    size_t total = 0, at = 0;
    for (size_t i = 0; i < e->n; i++)
        total += whole_length(e, side, i);
    w->own[side] = malloc(sizeof *w->own[side] * (e->n + 1));
    w->id[side] = malloc(sizeof *w->id[side] * (total + 1));
    if (w->own[side] == NULL || w->id[side] == NULL)
        return wr_fail_memory(err, "sentences", total * sizeof *w->id[side]);
    for (size_t i = 0; i < e->n; i++) {
        const wr_sentence *x = &e->sentence[side][i];
        size_t n = whole_length(e, side, i);
        w->own[side][i] = (wr_sentence){.id = w->id[side] + at, .n = n};
        for (size_t k = 0; k < n; k++)
            w->id[side][at++] = k < x->n ? x->id[k] : WR_EOS_ID;
    }
    w->sentence[side] = w->own[side];
    return WR_OK;
}

static wr_status whole_new(const wr_evaluation *e, whole *w, wr_error *err) {
    *w = (whole){.sentence = {e->sentence[SRC], e->sentence[TGT]}};
    wr_status status = WR_OK;
    for (int side = 0; status == WR_OK && side < SIDES && e->pairs != NULL; side++)
        status = add_ends(e, side, w, err);
    return status;
}

static void whole_free(whole *w) {
    for (int side = 0; side < SIDES; side++) {
        free(w->own[side]);
        free(w->id[side]);
    }
}

/* ---- what is measured ---- */

typedef struct measured {
    wr_flowseq_terms *terms;       /* [n] */
    int32_t *length;               /* [n, LENGTHS] */
    double *length_logp;           /* [n, LENGTHS] */
    wr_translations again, argmax; /* whole: reconstruction, and eps = 0 at the target's length */
    double length_error;
    wr_evaluate_scores reconstruction, translation;
} measured;

static wr_flowseq_measuring measuring_of(wr_evaluation *e) {
    const wr_evaluate_options *o = e->o;
    bool sample = o->posterior != NULL && o->posterior[0] == 's';
    return (wr_flowseq_measuring){.samples = sample ? (int)o->posterior_samples : 0,
                                  .seed = (uint64_t)o->search.seed,
                                  .exact = true,
                                  .max_tokens = (size_t)o->max_tokens,
                                  .progress = wr__evaluate_progress,
                                  .context = e};
}

/* The likeliest lengths, as many as there can be. */
static wr_status measure_lengths(wr_evaluation *e, const whole *w, measured *m, wr_error *err) {
    wr_flowseq_measuring o = measuring_of(e);
    int most = wr_flowseq_decoder_lengths(e->run.flowseq), k = most < LENGTHS ? most : LENGTHS;
    m->length = calloc(e->n * LENGTHS + 1, sizeof *m->length);
    m->length_logp = malloc((e->n * LENGTHS + 1) * sizeof *m->length_logp);
    if (m->length == NULL || m->length_logp == NULL)
        return wr_fail_memory(err, "lengths", e->n * LENGTHS * sizeof *m->length_logp);
    wr_status status = wr_flowseq_lengths(e->run.flowseq, w->sentence[SRC], e->n, k, &o, m->length,
                                          m->length_logp, err);
    for (size_t i = e->n; status == WR_OK && k < LENGTHS && i-- > 0;) {
        m->length[i * LENGTHS] = m->length[i]; /* k is 1 */
        m->length_logp[i * LENGTHS] = m->length_logp[i];
        m->length[i * LENGTHS + 1] = 0;
        m->length_logp[i * LENGTHS + 1] = -INFINITY;
    }
    double sum = 0;
    for (size_t i = 0; status == WR_OK && i < e->n; i++)
        sum += fabs((double)m->length[i * LENGTHS] - (double)w->sentence[TGT][i].n);
    m->length_error = e->n == 0 ? 0 : sum / (double)e->n;
    return status;
}

static wr_status measure_losses(wr_evaluation *e, const whole *w, measured *m, wr_error *err) {
    wr_flowseq_measuring o = measuring_of(e);
    m->terms = malloc(sizeof *m->terms * (e->n + 1));
    if (m->terms == NULL) return wr_fail_memory(err, "losses", e->n * sizeof *m->terms);
    return wr_flowseq_measure(e->run.flowseq, w->sentence[SRC], w->sentence[TGT], e->n, &o,
                              m->terms, err);
}

static wr_status measure_words(wr_evaluation *e, const whole *w, measured *m, wr_error *err) {
    wr_flowseq_decoder *d = e->run.flowseq;
    wr_flowseq_measuring o = measuring_of(e);
    wr_status status =
        wr_flowseq_reconstruct(d, w->sentence[SRC], w->sentence[TGT], e->n, &o, &m->again, err);
    if (status != WR_OK) return status;
    return wr_flowseq_decode_at(d, w->sentence[SRC], w->sentence[TGT], e->n, &o, &m->argmax, err);
}

/* BLEU of the reconstruction, and of translations. */
static wr_status measure_text(wr_evaluation *e, measured *m, wr_error *err) {
    wr_flowseq_measuring o = measuring_of(e);
    o.exact = false;
    wr_status status = wr_flowseq_reconstruct(e->run.flowseq, e->sentence[SRC], e->sentence[TGT],
                                              e->n, &o, &m->again, err);
    if (status == WR_OK) status = wr__evaluate_compare(e, &m->again, &m->reconstruction, err);
    if (status == WR_OK && e->o->search.method != NULL)
        status = wr__evaluate_translate(e, &m->translation, err);
    return status;
}

static void measured_free(measured *m) {
    free(m->terms);
    free(m->length);
    free(m->length_logp);
    wr_translations_free(&m->again);
    wr_translations_free(&m->argmax);
}

/* ---- output ---- */

static void print_words(const wr_hypothesis *h) {
    for (size_t i = 0; i < h->n; i++)
        printf("%s%d", i == 0 ? "\t" : " ", h->id[i]);
}

static void print_sentences(const wr_evaluation *e, const measured *m) {
    printf("sentence\trecon\tlog_q\tlog_prior\tkl\tlogdet\tlength_nll\tlength1\tlength1_logp\t"
           "length2\tlength2_logp\treconstruction\tdecode_eps0\n");
    WR_ASSERT(m->again.hyp != NULL && m->argmax.hyp != NULL);
    for (size_t i = 0; i < e->n; i++) {
        const wr_flowseq_terms *t = &m->terms[i];
        printf("%zu\t%.6f\t%.6f\t%.6f\t%.6f\t%.6f\t%.6f", i, t->recon, t->log_q, t->log_prior,
               t->log_q - t->log_prior, t->logdet, t->length_nll);
        for (size_t k = i * LENGTHS; k < (i + 1) * LENGTHS; k++)
            printf("\t%d\t%.6f", m->length[k], m->length_logp[k]);
        print_words(&m->again.hyp[i]);
        print_words(&m->argmax.hyp[i]);
        printf("\n");
    }
}

static void print_totals(const wr_evaluation *e, const measured *m) {
    double recon = 0, kl = 0, length = 0, tokens = 0, n = e->n > 0 ? (double)e->n : 1;
    for (size_t i = 0; i < e->n; i++) {
        const wr_flowseq_terms *t = &m->terms[i];
        recon += t->recon;
        kl += t->log_q - t->log_prior;
        length += t->length_nll;
        tokens += t->tokens;
    }
    bool text = e->pairs != NULL, scored = e->o->search.method != NULL;
    printf("sentences\ttokens\trecon\tkl\tlength_nll\tppl\tlength_error%s%s\n",
           text ? "\treconstruction_bleu" : "", scored ? "\tbleu\tchrf" : "");
    printf("%zu\t%.0f\t%.6f\t%.6f\t%.6f\t%.6g\t%.4f", e->n, tokens, recon / n, kl / n, length / n,
           exp((recon + kl) / tokens), m->length_error);
    if (text) printf("\t%.4f", m->reconstruction.bleu);
    if (scored) printf("\t%.4f\t%.4f", m->translation.bleu, m->translation.chrf);
    printf("\n");
}

wr_status wr__evaluate_flowseq(wr_evaluation *e, wr_error *err) {
    whole w;
    measured m = {0};
    wr_status status = whole_new(e, &w, err);
    if (status == WR_OK) status = measure_losses(e, &w, &m, err);
    if (status == WR_OK) status = measure_lengths(e, &w, &m, err);
    if (status == WR_OK && e->o->per_sentence) status = measure_words(e, &w, &m, err);
    if (status == WR_OK && !e->o->per_sentence && e->pairs != NULL)
        status = measure_text(e, &m, err);
    wr_bar_end(&e->bar);
    if (status == WR_OK && e->o->per_sentence) print_sentences(e, &m);
    if (status == WR_OK && !e->o->per_sentence) print_totals(e, &m);
    measured_free(&m);
    whole_free(&w);
    return status;
}
