/* trainer_valid.c: validation during training; see trainer.h. */
#include "cli/feeds.h"
#include "cli/trainer.h"
#include "data/score.h"
#include "models/search.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sum of the NLL over the valid split, and its tokens. */
static wr_status sum_nll(wr_trainer *t, const wr_pairs *pairs, double *nll, double *tokens,
                         wr_error *err) {
    wr_batches_options o = wr_batches_defaults();
    o.max_tokens = (size_t)t->recipe.data.max_tokens;
    o.multiple = (size_t)t->recipe.data.length_multiple;
    o.in_order = o.oversize = true;
    o.prefetch = 0;
    wr_batches *batches = NULL;
    wr_status status = wr_batches_open(pairs, &o, &batches, err);
    const wr_batch *b = NULL;
    int longest = wr_padded_max_len(&t->recipe);
    int64_t left_out = 0;
    while (status == WR_OK && (status = wr_batches_next(batches, &b, err)) == WR_OK && b != NULL) {
        wr_feed feeds[WR_BATCH_FEEDS];
        if (b->S > longest || b->T > longest) {
            left_out += b->B;
            continue;
        }
        wr_batch_feeds(b, feeds);
        status = wr_session_run(t->session, t->programs.valid, WR_BATCH_FEEDS, feeds, err);
        if (status != WR_OK) break;
        *nll += wr_output_number(t->session, WR_SUM_NLL);
        *tokens += wr_output_number(t->session, WR_SUM_TOKENS);
    }
    wr_batches_close(batches);
    if (status == WR_OK && left_out > 0)
        wr_bar_line(&t->bar,
                    "validation: %lld sentences longer than model.max_len are left out of nll",
                    (long long)left_out);
    return status;
}

/* Texts of the first n translations and of their references. */
typedef struct texts {
    wr_str text; /* all translations, NUL-terminated one after the other */
    const char **hyp, **ref;
} texts;

static void texts_free(texts *x) {
    wr_str_free(&x->text);
    free(x->hyp);
    free(x->ref);
}

static wr_status decode_texts(const wr_trainer *t, const wr_pairs *pairs,
                              const wr_translations *out, texts *x, wr_error *err) {
    size_t *at = malloc(sizeof *at * (out->n + 1));
    x->hyp = malloc(sizeof *x->hyp * (out->n + 1));
    x->ref = malloc(sizeof *x->ref * (out->n + 1));
    wr_status status = at != NULL && x->hyp != NULL && x->ref != NULL
                           ? WR_OK
                           : wr_fail_memory(err, "translations", out->n * sizeof *at);
    for (size_t i = 0; status == WR_OK && i < out->n; i++) {
        const wr_hypothesis *h = &out->hyp[i * out->nbest];
        at[i] = x->text.len;
        x->ref[i] = wr_side_text(&pairs->tgt, i);
        status = wr_subword_decode(wr_dataset_tgt_model(t->data), h->id, h->n, &x->text, err);
        wr_str_bytes(&x->text, "", 1);
    }
    if (status == WR_OK && x->text.oom) status = wr_fail_memory(err, "translations", x->text.len);
    for (size_t i = 0; status == WR_OK && i < out->n; i++)
        x->hyp[i] = x->text.text + at[i];
    free(at);
    return status;
}

static wr_status search(wr_trainer *t, const wr_pairs *pairs, size_t n, wr_translations *out,
                        wr_error *err) {
    wr_transformer model = wr_transformer_of(&t->recipe, wr_dataset_info_of(t->data)->src_vocab,
                                             wr_dataset_info_of(t->data)->tgt_vocab, false);
    wr_search_options o = wr_search_defaults(&t->recipe.decode);
    o.cache_bytes = (size_t)128 << 20; /* the caches stay in the training session */
    o.beam = t->recipe.train.valid_decode == WR_RECIPE_VALID_BEAM ? t->recipe.train.valid_beam : 1;
    wr_sentence *src = malloc(sizeof *src * (n + 1));
    if (src == NULL) return wr_fail_memory(err, "sentences", n * sizeof *src);
    for (size_t i = 0; i < n; i++)
        src[i].id = wr_side_ids(&pairs->src, i, &src[i].n);
    wr_decoder *decoder = NULL;
    wr_status status = wr_decoder_new(&model, t->session, &decoder, err);
    if (status == WR_OK) status = wr_search(decoder, src, n, &o, out, err);
    wr_decoder_free(decoder);
    free(src);
    return status;
}

static wr_status score(wr_trainer *t, const wr_pairs *pairs, wr_validation *v, wr_error *err) {
    size_t n = pairs->n, limit = (size_t)t->recipe.train.valid_sentences;
    if (limit > 0 && limit < n) n = limit;
    wr_translations out = {0};
    texts x = {0};
    wr_status status = search(t, pairs, n, &out, err);
    if (status == WR_OK) status = decode_texts(t, pairs, &out, &x, err);
    if (status == WR_OK) {
        wr_score_options o = {.lowercase = wr_dataset_info_of(t->data)->lowercase};
        wr_bleu_result bleu = {0};
        status = wr_bleu_strings(x.hyp, (const char *const *const[]){x.ref}, 1, n, &o, &bleu, err);
        v->bleu = bleu.score;
        size_t which = (size_t)t->at->update % n;
        snprintf(v->sample, sizeof v->sample, "%.160s | %.160s | %.160s",
                 wr_side_text(&pairs->src, which), x.hyp[which], x.ref[which]);
    }
    texts_free(&x);
    wr_translations_free(&out);
    return status;
}

wr_status wr_trainer_validate(wr_trainer *t, wr_validation *v, wr_error *err) {
    const wr_pairs *pairs = wr_dataset_pairs(t->data, WR_VALID);
    double nll = 0, tokens = 0;
    *v = (wr_validation){.bleu = -1};
    wr_status status = sum_nll(t, pairs, &nll, &tokens, err);
    v->nll = tokens > 0 ? nll / tokens : 0;
    if (status == WR_OK && t->recipe.train.valid_decode != WR_RECIPE_VALID_NONE)
        status = score(t, pairs, v, err);
    return status;
}
