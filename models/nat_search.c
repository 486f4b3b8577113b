/* nat_search.c: translating with a non-autoregressive model; see nat_decoder.h and
 * docs/decoding.md. */
#include "models/nat_decoder_internal.h"
#include "models/ranking.h"
#include "models/sentence_order.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 4096, SRC_MULTIPLE = 4 };

/* ---- options ---- */

const char *wr_nat_method_name(wr_nat_method method) {
#define NAME(name, text) text,
    static const char *const names[] = {WR_NAT_METHODS(NAME)};
#undef NAME
    return names[method];
}

wr_nat_search_options wr_nat_search_defaults(bool merges, bool iterates) {
    return (wr_nat_search_options){.method = merges     ? WR_NAT_CTC
                                             : iterates ? WR_NAT_MASK_PREDICT
                                                        : WR_NAT_ARGMAX,
                                   .lengths = 1,
                                   .length_factor = 1,
                                   .passes = 10,
                                   .beam = 20,
                                   .symbols = 40,
                                   .nbest = 1,
                                   .max_tokens = TOKENS,
                                   .max_sentences = 64};
}

static bool by_ctc(const wr_nat_search_options *o) {
    return o->method == WR_NAT_CTC || o->method == WR_NAT_CTC_BEAM;
}

/* Candidates of a sentence. */
static int most_candidates(const wr_nat_decoder *d, const wr_nat_search_options *o) {
    if (o->method == WR_NAT_CTC_BEAM) return o->beam;
    return wr_nat_decoder_lengths(d) == 0 ? 1 : o->lengths;
}

static wr_status check_method(const wr_nat_decoder *d, const wr_nat_search_options *o,
                              wr_error *err) {
    bool frames = wr_nat_decoder_lengths(d) == 0;
    if ((int)o->method < 0 || o->method >= WR_NAT_METHOD_COUNT)
        return wr_fail(err, WR_ERR_INPUT, "no such method of decoding");
    if (by_ctc(o) && !(frames && wr__nat_silent(d)))
        return wr_fail(err, WR_ERR_INPUT,
                       "%s merges the frames of a model that may say nothing; this model says a "
                       "word in each position",
                       wr_nat_method_name(o->method));
    if (o->method == WR_NAT_MASK_PREDICT && frames)
        return wr_fail(err, WR_ERR_INPUT,
                       "mask-predict says words again in their places; this model has frames, "
                       "whose words have none");
    int most = wr_nat_decoder_lengths(d), longest = wr_nat_decoder_model(d)->max_positions;
    if (o->positions != 0 && (frames || o->positions < 3 || o->positions > longest))
        return wr_fail(err, WR_ERR_INPUT,
                       "%d positions of each sentence are asked for; allowed are 3 to %d, and none "
                       "where the source alone tells how many there are",
                       o->positions, longest);
    if (frames && o->lengths > 1)
        return wr_fail(err, WR_ERR_INPUT,
                       "%d length candidates are asked for, but the source alone tells how many "
                       "positions this model has",
                       o->lengths);
    if (!frames && o->lengths > most)
        return wr_fail(err, WR_ERR_INPUT,
                       "%d length candidates are asked for, but a sentence has at most %d: the "
                       "model's classes of lengths",
                       o->lengths, most);
    return WR_OK;
}

static wr_status check_options(const wr_nat_decoder *d, const wr_nat_search_options *o,
                               wr_error *err) {
    if (o->lengths < 1 || o->passes < 1 || o->beam < 1 || o->symbols < 0 || o->max_sentences < 1)
        return wr_fail(err, WR_ERR_INPUT,
                       "%d lengths, %d passes, a beam of %d, %d words of a frame and %d sentences "
                       "together are asked for; allowed is at least 1 of each (0 words: all)",
                       o->lengths, o->passes, o->beam, o->symbols, o->max_sentences);
    if (!(o->length_factor > 0) || !isfinite(o->length_factor))
        return wr_fail(err, WR_ERR_INPUT,
                       "the length factor must be a finite number above 0, but is %g",
                       o->length_factor);
    if (!(o->lm_weight >= 0) || !isfinite(o->lm_weight) || !isfinite(o->length_bonus))
        return wr_fail(err, WR_ERR_INPUT,
                       "the language model's weight is %g and the bonus for a word %g; allowed are "
                       "a weight of at least 0 and finite numbers",
                       o->lm_weight, o->length_bonus);
    wr_status status = check_method(d, o, err);
    if (status == WR_OK && (o->nbest < 1 || o->nbest > most_candidates(d, o)))
        return wr_fail(err, WR_ERR_INPUT,
                       "%d translations of %d candidates are asked for; allowed are 1 to as many "
                       "as there are candidates",
                       o->nbest, most_candidates(d, o));
    return status;
}

/* ---- state ---- */

typedef struct candidate {
    int32_t sentence, length; /* of the batch; positions, framing included */
    size_t at;                /* its positions in the pools */
    size_t text, n;           /* its words in the texts' pool */
    double score, logp;
    size_t number; /* its place among all candidates: who comes first wins a tie */
    bool done;
} candidate;

typedef struct search {
    wr_nat_decoder *d;
    const wr_nat *model;
    wr_nat_search_options o;
    const wr_sentence *src;
    const size_t *order;
    size_t n;
    wr__results results;
    /* of the batch */
    wr_batch *batch;
    wr_sentence *pick;   /* [max_sentences] */
    size_t first, count; /* its sentences are order[first] .. */
    int *length;         /* [2 lengths] */
    candidate *cand;     /* sentence-major */
    size_t n_cand, cap_cand;
    int32_t *token; /* of each position of each candidate */
    double *logp;   /* 0 for what is given */
    bool *masked;   /* is being said */
    size_t n_pool, cap_token, cap_logp, cap_masked;
    int32_t *text;
    size_t n_text, cap_text;
    /* of a run */
    size_t *active; /* candidates that are not done */
    size_t n_active, cap_active;
    int32_t *row; /* sentences, then lengths, then tokens */
    size_t cap_row;
    /* of prefix beam search */
    wr_ctc_beam *beam;
    wr_ctc_found *found; /* [beam] */
    double *frame;       /* [T, k], then [T] of the blank */
    size_t cap_frame;
    wr__ranked *ranked; /* the candidates when they are scored */
    size_t cap_ranked;
} search;

/* ---- the batch ---- */

static size_t src_tokens(const search *s, size_t sentence) {
    size_t most = (size_t)wr_nat_decoder_max_len(s->d) - 1;
    return s->src[sentence].n < most ? s->src[sentence].n : most;
}

/* How many sentences from `at` on make a batch: about those whose candidates fit one run. */
static size_t batch_size(const search *s, size_t at) {
    size_t frames = s->model->frames > 0 ? (size_t)s->model->frames : 1;
    size_t positions = (src_tokens(s, s->order[at]) + 1) * frames * (size_t)s->o.lengths;
    size_t count = s->o.max_tokens / positions;
    if (count < 1) count = 1;
    if (count > (size_t)s->o.max_sentences) count = (size_t)s->o.max_sentences;
    return count < s->n - at ? count : s->n - at;
}

static wr_status encode(search *s, wr_error *err) {
    size_t longest = 0, most = (size_t)wr_nat_decoder_max_len(s->d);
    for (size_t i = 0; i < s->count; i++) {
        size_t sentence = s->order[s->first + i], n = src_tokens(s, sentence);
        s->pick[i] = s->src[sentence];
        s->pick[i].n = n;
        if (n < s->src[sentence].n) s->results.out->truncated++;
        if (n > longest) longest = n;
    }
    size_t padded = (longest + SRC_MULTIPLE) / SRC_MULTIPLE * SRC_MULTIPLE; /* with the end */
    size_t multiple = padded <= most ? SRC_MULTIPLE : 1;
    wr_status status = wr_batch_make(s->pick, NULL, s->count, multiple, s->batch, err);
    return status == WR_OK ? wr__nat_begin(s->d, s->batch, err) : status;
}

/* ---- candidates ---- */

static wr_status add_candidate(search *s, int32_t sentence, int length, wr_error *err) {
    size_t need = s->n_cand + 1, positions = s->n_pool + (size_t)length;
    if (!wr_grow(&s->cand, &s->cap_cand, need, sizeof *s->cand) ||
        !wr_grow(&s->token, &s->cap_token, positions, sizeof *s->token) ||
        !wr_grow(&s->logp, &s->cap_logp, positions, sizeof *s->logp) ||
        !wr_grow(&s->masked, &s->cap_masked, positions, sizeof *s->masked))
        return wr_fail_memory(err, "candidates", need * sizeof *s->cand);
    s->cand[s->n_cand] =
        (candidate){.sentence = sentence, .length = length, .at = s->n_pool, .number = s->n_cand};
    wr_nat_canvas_fill(s->model, length, length, s->token + s->n_pool);
    int first, said = wr__nat_said(s->model, length, &first);
    for (int t = 0; t < length; t++) {
        s->logp[s->n_pool + (size_t)t] = 0;
        s->masked[s->n_pool + (size_t)t] = t >= first && t < first + said;
    }
    s->n_cand++;
    s->n_pool = positions;
    return WR_OK;
}

static int choose_lengths(const search *s, int32_t b, const wr__nat_length_choice *choice) {
    if (s->o.positions == 0) return wr__nat_lengths(s->d, b, choice, s->length);
    s->length[0] = s->o.positions;
    return 1;
}

static wr_status list_candidates(search *s, wr_error *err) {
    wr__nat_length_choice choice = {
        .k = s->o.lengths, .window = s->o.window, .factor = s->o.length_factor};
    wr_status status = WR_OK;
    s->n_cand = s->n_pool = s->n_text = 0;
    for (int32_t b = 0; status == WR_OK && b < s->batch->B; b++) {
        int n = choose_lengths(s, b, &choice);
        if (n == 0)
            status = wr_fail(err, WR_ERR_INPUT,
                             "sentence %zu: no length has a probability above 0; the model's "
                             "parameters are damaged",
                             s->order[s->first + (size_t)b] + 1);
        for (int k = 0; status == WR_OK && k < n; k++)
            status = add_candidate(s, b, s->length[k], err);
    }
    return status;
}

/* ---- runs ---- */

static wr_status list_active(search *s, wr_error *err) {
    if (!wr_grow(&s->active, &s->cap_active, s->n_cand, sizeof *s->active))
        return wr_fail_memory(err, "candidates", s->n_cand * sizeof *s->active);
    s->n_active = 0;
    for (size_t i = 0; i < s->n_cand; i++)
        if (!s->cand[i].done) s->active[s->n_active++] = i;
    return WR_OK;
}

/* Active candidates from `at` on that one run takes. */
static size_t run_size(const search *s, size_t at, int32_t *T) {
    size_t n = 0;
    *T = 0;
    for (; at + n < s->n_active; n++) {
        int32_t t = wr__nat_padded(s->d, s->cand[s->active[at + n]].length);
        if (t < *T) t = *T;
        if (n > 0 && (n + 1) * (size_t)t > s->o.max_tokens) break;
        *T = t;
    }
    return n;
}

/* What the run is told: words that stand, and the mask where words are to be said. */
static wr_status fill_rows(search *s, size_t at, size_t n, int32_t T, wr__nat_rows *rows,
                           wr_error *err) {
    size_t need = n * (2 + (size_t)T);
    if (!wr_grow(&s->row, &s->cap_row, need, sizeof *s->row))
        return wr_fail_memory(err, "candidates", need * sizeof *s->row);
    int32_t *tokens = s->row + 2 * n, mask = wr_nat_mask(s->model);
    for (size_t i = 0; i < n; i++) {
        const candidate *c = &s->cand[s->active[at + i]];
        int32_t *to = tokens + i * (size_t)T;
        s->row[i] = c->sentence;
        s->row[n + i] = c->length;
        for (size_t t = 0; t < (size_t)T; t++) {
            bool inside = t < (size_t)c->length;
            to[t] = !inside ? WR_PAD_ID : s->masked[c->at + t] ? mask : s->token[c->at + t];
        }
    }
    *rows = (wr__nat_rows){
        .n = (int32_t)n, .T = T, .sentence = s->row, .len = s->row + n, .tokens = tokens};
    return WR_OK;
}

/* Take the words of row `row` where they were to be said; whether one of them is new. */
static bool take(search *s, const candidate *c, const wr__nat_words *w, int64_t row, int32_t T) {
    const int32_t *id = w->id->data;
    bool changed = false;
    for (int32_t t = 0; t < c->length; t++) {
        size_t at = c->at + (size_t)t;
        int64_t from = row * T + t;
        if (!s->masked[at]) continue;
        changed = changed || s->token[at] != id[from];
        s->token[at] = id[from];
        s->logp[at] = wr__nat_logp(w, from, 0);
    }
    return changed;
}

/* Say what is masked in all active candidates. With adaptive stopping those are done in which
 * nothing new was said. */
static wr_status say(search *s, wr_error *err) {
    wr_status status = WR_OK;
    int32_t T;
    for (size_t at = 0, n; status == WR_OK && at < s->n_active; at += n) {
        wr__nat_rows rows;
        wr__nat_words w;
        n = run_size(s, at, &T);
        status = fill_rows(s, at, n, T, &rows, err);
        if (status == WR_OK) status = wr__nat_say(s->d, &rows, 1, &w, err);
        for (size_t i = 0; status == WR_OK && i < n; i++) {
            candidate *c = &s->cand[s->active[at + i]];
            c->done = !take(s, c, &w, (int64_t)i, T) && s->o.adaptive;
        }
    }
    return status;
}

/* Mask the least certain words before pass t. What is never said again does not change any more. */
static void mask_again(search *s, int t) {
    bool framed = s->model->framing == WR_RECIPE_FRAME_BOS_EOS;
    for (size_t i = 0; i < s->n_cand; i++) {
        candidate *c = &s->cand[i];
        int first, said = wr__nat_said(s->model, c->length, &first);
        int count = wr__nat_again(said, t, s->o.passes, !framed);
        size_t at = c->at + (size_t)first;
        wr__nat_least(s->logp + at, (size_t)said, (size_t)count, s->masked + at);
        if (count == 0) c->done = true;
    }
}

static wr_status decode_all(search *s, wr_error *err) {
    int passes = s->o.method == WR_NAT_MASK_PREDICT ? s->o.passes : 1;
    wr_status status = list_active(s, err);
    if (status == WR_OK) status = say(s, err);
    for (int t = 1; status == WR_OK && t < passes && s->n_active > 0; t++) {
        mask_again(s, t);
        status = list_active(s, err);
        if (status == WR_OK) status = say(s, err);
    }
    return status;
}

/* ---- texts ---- */

/* Leave out what is no word. */
static size_t without(int32_t *id, size_t n, int32_t what) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (id[i] != what) id[kept++] = id[i];
    return kept;
}

static wr_status add_text(search *s, candidate *c, const int32_t *id, size_t n, wr_error *err) {
    if (!wr_grow(&s->text, &s->cap_text, s->n_text + n + 1, sizeof *s->text))
        return wr_fail_memory(err, "texts", (s->n_text + n) * sizeof *s->text);
    int32_t *to = s->text + s->n_text;
    if (n > 0) memcpy(to, id, n * sizeof *id);
    int32_t blank = wr_nat_blank(s->model);
    if (s->o.method == WR_NAT_CTC)
        n = wr_ctc_collapse(to, n, blank);
    else
        n = without(to, n, blank);
    n = wr__text_length(to, n);
    if (s->o.dedup) n = wr__nat_dedup(to, n);
    c->text = s->n_text;
    c->n = n;
    s->n_text += n;
    return WR_OK;
}

/* Words, and the mean log-probability of what was said. */
static wr_status finish_all(search *s, wr_error *err) {
    wr_status status = WR_OK;
    for (size_t i = 0; status == WR_OK && i < s->n_cand; i++) {
        candidate *c = &s->cand[i];
        int first, said = wr__nat_said(s->model, c->length, &first);
        c->logp = 0;
        for (int t = first; t < first + said; t++)
            c->logp += s->logp[c->at + (size_t)t];
        c->score = c->logp / said;
        status = add_text(s, c, s->token + c->at + first, (size_t)said, err);
    }
    return status;
}

/* ---- prefix beam search ---- */

/* At least two: one word of each position is the other methods' program. */
static int symbols_of(const search *s) {
    int words = s->model->tgt_vocab + WR_NAT_EXTRA;
    if (s->o.symbols == 1) return 2;
    return s->o.symbols == 0 || s->o.symbols > words ? words : s->o.symbols;
}

/* The frames of row `row` that are said. */
static wr_status fill_frames(search *s, const candidate *c, const wr__nat_words *w, int64_t row,
                             int32_t T, wr_ctc_frames *f, wr_error *err) {
    int first, said = wr__nat_said(s->model, c->length, &first);
    size_t k = (size_t)w->k, frames = (size_t)said;
    int64_t from = row * T + first;
    if (!wr_grow(&s->frame, &s->cap_frame, frames * (k + 1) + 1, sizeof *s->frame))
        return wr_fail_memory(err, "frames", frames * k * sizeof *s->frame);
    double *blank = s->frame + frames * k;
    for (int64_t t = 0; t < said; t++) {
        for (int j = 0; j < w->k; j++)
            s->frame[(size_t)t * k + (size_t)j] = wr__nat_logp(w, from + t, j);
        blank[t] = wr__nat_blank_logp(w, from + t);
    }
    bool end = s->model->framing == WR_RECIPE_FRAME_EOS;
    *f = (wr_ctc_frames){.frames = said,
                         .words = w->k,
                         .logp = s->frame,
                         .id = (const int32_t *)w->id->data + from * w->k,
                         .blank_logp = blank,
                         .blank = wr_nat_blank(s->model),
                         .end = end ? WR_EOS_ID : -1};
    return WR_OK;
}

/* The texts that the frames of a sentence's only candidate tell become candidates of their own. */
static wr_status search_frames(search *s, size_t i, const wr_ctc_frames *f, wr_error *err) {
    int32_t sentence = s->cand[i].sentence;
    wr_ctc_beam_options o = {.beam = s->o.beam,
                             .nbest = s->o.beam,
                             .lm = s->o.lm,
                             .lm_weight = s->o.lm_weight,
                             .length_bonus = s->o.length_bonus};
    size_t n;
    wr_status status = wr_ctc_beam_search(s->beam, f, &o, s->found, &n, err);
    if (status == WR_OK && !wr_grow(&s->cand, &s->cap_cand, s->n_cand + n, sizeof *s->cand))
        status = wr_fail_memory(err, "candidates", n * sizeof *s->cand);
    for (size_t k = 0; status == WR_OK && k < n; k++) {
        candidate *c = &s->cand[s->n_cand];
        *c = (candidate){.sentence = sentence,
                         .score = s->found[k].score,
                         .logp = s->found[k].logp,
                         .number = s->n_cand};
        s->n_cand++;
        status = add_text(s, c, s->found[k].id, s->found[k].n, err);
    }
    return status;
}

/* Candidates [0, sentences) give way to their texts. */
static wr_status search_all_frames(search *s, wr_error *err) {
    wr_status status = list_active(s, err);
    size_t sentences = s->n_cand;
    int32_t T;
    for (size_t at = 0, n; status == WR_OK && at < sentences; at += n) {
        wr__nat_rows rows;
        wr__nat_words w;
        n = run_size(s, at, &T);
        status = fill_rows(s, at, n, T, &rows, err);
        if (status == WR_OK) status = wr__nat_say(s->d, &rows, symbols_of(s), &w, err);
        for (size_t i = 0; status == WR_OK && i < n; i++) {
            wr_ctc_frames f;
            status = fill_frames(s, &s->cand[at + i], &w, (int64_t)i, T, &f, err);
            if (status == WR_OK) status = search_frames(s, at + i, &f, err);
        }
    }
    if (status != WR_OK) return status;
    s->n_cand -= sentences;
    memmove(s->cand, s->cand + sentences, s->n_cand * sizeof *s->cand);
    return WR_OK;
}

/* ---- the best ---- */

static wr_status tell_all(search *s, wr_error *err) {
    if (!wr_grow(&s->ranked, &s->cap_ranked, s->n_cand, sizeof *s->ranked))
        return wr_fail_memory(err, "candidates", s->n_cand * sizeof *s->ranked);
    for (size_t i = 0; i < s->n_cand; i++) {
        const candidate *c = &s->cand[i];
        s->ranked[i] = (wr__ranked){.sentence = s->order[s->first + (size_t)c->sentence],
                                    .id = s->text + c->text,
                                    .n = c->n,
                                    .score = c->score,
                                    .logp = c->logp,
                                    .number = c->number};
    }
    return wr__ranking_tell(&s->results, s->ranked, s->n_cand, s->o.rescorer, err);
}

/* ---- the whole ---- */

static wr_status search_batch(search *s, wr_error *err) {
    wr_status status = encode(s, err);
    if (status == WR_OK) status = list_candidates(s, err);
    if (status == WR_OK && s->o.method == WR_NAT_CTC_BEAM) {
        status = search_all_frames(s, err);
    } else {
        if (status == WR_OK) status = decode_all(s, err);
        if (status == WR_OK) status = finish_all(s, err);
    }
    return status == WR_OK ? tell_all(s, err) : status;
}

static wr_status search_all(search *s, wr_error *err) {
    size_t most = s->n < (size_t)s->o.max_sentences ? s->n : (size_t)s->o.max_sentences;
    bool beam = s->o.method == WR_NAT_CTC_BEAM;
    s->pick = malloc(sizeof *s->pick * (most + 1));
    s->length = malloc(sizeof *s->length * 2 * (size_t)s->o.lengths);
    s->found = malloc(sizeof *s->found * (size_t)s->o.beam);
    s->beam = beam ? wr_ctc_beam_new() : NULL;
    bool ok =
        s->pick != NULL && s->length != NULL && s->found != NULL && (!beam || s->beam != NULL);
    wr_status status = ok ? WR_OK : wr_fail_memory(err, "search", sizeof *s->pick * most);
    for (s->first = 0; status == WR_OK && s->first < s->n; s->first += s->count) {
        s->count = batch_size(s, s->first);
        status = search_batch(s, err);
        if (status == WR_OK && s->o.progress != NULL)
            s->o.progress(s->o.context, s->first + s->count, s->n);
    }
    return status;
}

static void release(search *s) {
    wr_batch_free(s->batch);
    wr_ctc_beam_free(s->beam);
    free(s->pick);
    free(s->length);
    free(s->cand);
    free(s->token);
    free(s->logp);
    free(s->masked);
    free(s->text);
    free(s->active);
    free(s->row);
    free(s->found);
    free(s->frame);
    free(s->ranked);
}

wr_status wr_nat_search(wr_nat_decoder *d, const wr_sentence *src, size_t n,
                        const wr_nat_search_options *o, wr_translations *out, wr_error *err) {
    *out = (wr_translations){0};
    wr_batch batch = {0};
    search s = {
        .d = d, .model = wr_nat_decoder_model(d), .o = *o, .src = src, .n = n, .batch = &batch};
    if (s.o.max_tokens == 0) s.o.max_tokens = TOKENS;
    wr_status status = check_options(d, &s.o, err);
    if (status != WR_OK) return status;
    size_t *order = wr__order_by_length(src, NULL, n);
    s.order = order;
    status = order == NULL ? wr_fail_memory(err, "sentences", n * sizeof *order) : WR_OK;
    if (status == WR_OK) status = wr__results_begin(&s.results, n, (size_t)s.o.nbest, out, err);
    if (status == WR_OK) status = wr__results_end(&s.results, search_all(&s, err));
    release(&s);
    free(order);
    return status;
}
