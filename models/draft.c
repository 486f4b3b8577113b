/* draft.c: see draft.h. */
#include "models/draft.h"

#include "models/search_internal.h"
#include "models/sentence_order.h"

#include <stdlib.h>
#include <string.h>

/* Tokens of a pass over all sentences; and for each sentence, words of the draft in its first pass,
 * and words more than were accepted last in a later one. Eight rows are a product that reads its
 * matrix once, as a step does (docs/matmul.md). */
enum { PASS_TOKENS = 1024, FIRST_WORDS = 7, MORE_WORDS = 3 };

/* Words whose log-probabilities are nearer than this are in doubt. Between passes and steps the
 * distance of the best two changed by 1.5e-5 at most in 15117 positions of a model of width 256. */
static const double DOUBT_F32 = 1e-4, DOUBT_F64 = 1e-9;

size_t wr_accepted_prefix(const int32_t *proposal, const int32_t *verified, size_t n) {
    size_t k = 0;
    while (k < n && proposal[k] == verified[k])
        k++;
    return k;
}

/* ---- state ---- */

/* A sentence of the batch. Its output is word[0 .. decided-1]; what stands behind is proposed. The
 * input at position p is word[p - 1] (the begin of sentence at 0), whose pass tells word[p]: before
 * a pass, positions up to decided - 1 are cached. */
typedef struct drafted {
    size_t sentence;
    int32_t src_len, row; /* of the cache */
    int limit;            /* most tokens of the output, the end included */
    int decided, proposed;
    int draft;  /* words of the draft */
    int window; /* words proposed in the next pass, at most */
    int fed;    /* tokens in the present pass */
    int32_t *word;
    double logp;
    bool over;
} drafted;

/* What follows a position. */
typedef struct verdict {
    int32_t token;
    bool in_doubt; /* another one is as likely but for rounding */
    double logp;
} verdict;

typedef struct drafting {
    wr_decoder *d;
    const wr_search_options *o;
    const wr_sentence *src, *draft;
    const size_t *order;
    size_t n;
    int best; /* candidates told of each position */
    double doubt;
    wr_draft_stats stats;
    wr_translations *out;
    size_t *first; /* [n] where each output begins in out->ids */
    /* of the batch */
    wr_batch batch;
    wr_sentence *pick;                     /* [sentences] */
    drafted *live;                         /* [sentences] those not over, in order */
    int32_t *words;                        /* [sentences, max_len] */
    wr__candidate *cand;                   /* [best + 1] */
    int32_t *row, *past, *count, *src_len; /* [sentences] fed */
    int32_t *token;                        /* [sentences, max_len] fed */
    int32_t *verified;                     /* [max_len] tokens of `verdict` [max_len] */
    verdict *verdict;
    int n_live;
    bool in_doubt; /* a choice that was accepted */
} drafting;

/* ---- one sentence ---- */

/* The draft's words as far as the output may reach; none has to be right. */
static void take_draft(const drafting *s, drafted *x) {
    const wr_sentence *draft = &s->draft[x->sentence];
    size_t n = 0, most = (size_t)x->limit - 1; /* the last token is an end by force */
    while (n < draft->n && n < most && draft->id[n] != WR_EOS_ID) {
        x->word[n] = draft->id[n];
        n++;
    }
    x->proposed = x->draft = (int)n;
    x->window = FIRST_WORDS;
}

/* Greedy's choice at a row. */
static verdict judge(const drafting *s, const wr_decoder_next *next, int64_t row, bool forced) {
    wr__candidate *c = s->cand;
    int n = wr__search_candidates(next, row, 0, 0, c);
    if (forced) return (verdict){.token = WR_EOS_ID, .logp = c[0].logp}; /* the end is the first */
    qsort(c, (size_t)n, sizeof *c, wr__candidate_order);
    return (verdict){.token = c[0].token,
                     .logp = c[0].logp,
                     .in_doubt = n > 1 && c[0].logp - c[1].logp < s->doubt};
}

/* What the rest of the draft is when the verifier has said `token` behind the accepted words, and
 * `behind` after the last word of the draft.
 *
 * The words behind a replaced one stay where they are: a non-autoregressive model chooses them
 * without looking at their neighbours, so that one wrong word does not make the next ones wrong,
 * and most drafts have about the right length. Where the draft would end too early, what the
 * verifier said behind it is one word more. */
static void go_on(drafted *x, int accepted, int32_t token, int32_t behind) {
    bool whole = x->decided + x->fed - 1 == x->proposed;
    x->decided += accepted;
    x->word[x->decided++] = token;
    if (x->proposed < x->decided) {
        x->proposed = x->decided;
    } else if (whole && behind != WR_EOS_ID && x->proposed + 1 < x->limit) {
        x->word[x->proposed++] = behind;
    }
}

/* Of the words that are decided now, those that the draft had there: the accepted ones, and where
 * the draft goes on behind what was looked at, perhaps the verifier's own `token`. */
static size_t words_of_draft(const drafted *x, int accepted, int32_t token) {
    int end = x->decided + accepted; /* where the verifier's own token stands */
    bool same = end < x->draft && x->word[end] == token;
    if (end > x->draft) end = x->draft;
    return (end > x->decided ? (size_t)(end - x->decided) : 0) + same;
}

/* How much of the draft is looked at next: much only where much was right. A word behind the first
 * wrong one costs as much as one before it and is thrown away. */
static int next_window(const drafted *x, int accepted) {
    return accepted + 1 == x->fed ? 2 * x->fed : accepted + MORE_WORDS;
}

/* Accept what the verifier says of a sentence whose first row is `row`. */
static wr_status accept(drafting *s, drafted *x, int64_t row, const wr_decoder_next *next,
                        wr_error *err) {
    for (int i = 0; i < x->fed; i++) {
        bool forced = x->decided + i + 1 == x->limit;
        s->verdict[i] = judge(s, next, row + i, forced);
        s->verified[i] = s->verdict[i].token;
    }
    int n = (int)wr_accepted_prefix(x->word + x->decided, s->verified, (size_t)x->fed - 1);
    for (int i = 0; i <= n; i++) {
        wr_status status = wr__search_finite(next, row + i, x->sentence, err);
        if (status != WR_OK) return status;
        x->logp += s->verdict[i].logp;
        s->in_doubt = s->in_doubt || s->verdict[i].in_doubt;
    }
    s->stats.passes++;
    s->stats.accepted += words_of_draft(x, n, s->verified[n]);
    x->window = next_window(x, n);
    x->over = s->verified[n] == WR_EOS_ID;
    if (x->over)
        x->decided += n;
    else
        go_on(x, n, s->verified[n], s->verified[x->fed - 1]);
    return WR_OK;
}

/* ---- results ---- */

static wr_status note(drafting *s, size_t sentence, const wr_hypothesis *h, wr_error *err) {
    wr_ids *ids = &s->out->ids;
    if (!wr_grow(&ids->id, &ids->cap, ids->n + h->n + 1, sizeof *ids->id))
        return wr_fail_memory(err, "translations", (ids->n + h->n) * sizeof *ids->id);
    s->first[sentence] = ids->n;
    if (h->n > 0) memcpy(ids->id + ids->n, h->id, sizeof *h->id * h->n);
    ids->n += h->n;
    s->out->hyp[sentence] = (wr_hypothesis){.n = h->n, .logp = h->logp, .score = h->score};
    s->out->count[sentence] = 1;
    s->stats.tokens += h->n + 1;
    return WR_OK;
}

/* The batch anew by greedy search, just as wr_search() would do it among all sentences. */
static wr_status redo(drafting *s, size_t at, size_t count, wr_error *err) {
    for (size_t i = 0; i < count; i++)
        s->pick[i] = s->src[s->order[at + i]];
    wr_search_options o = *s->o;
    o.progress = NULL;
    wr_translations again;
    wr_status status = wr_search(s->d, s->pick, count, &o, &again, err);
    for (size_t i = 0; status == WR_OK && i < count; i++) {
        status = note(s, s->order[at + i], &again.hyp[i], err);
        s->stats.passes += again.hyp[i].n + 1;
    }
    s->stats.redone += count;
    wr_translations_free(&again);
    return status;
}

/* ---- one batch ---- */

static wr_status begin_batch(drafting *s, size_t at, size_t count, wr_error *err) {
    size_t max_len = (size_t)wr_decoder_model(s->d)->m.max_len;
    for (size_t i = 0; i < count; i++) {
        size_t sentence = s->order[at + i];
        const wr_sentence *src = &s->src[sentence];
        size_t n = wr__search_src_tokens(s->d, src);
        if (n < src->n) s->out->truncated++;
        s->pick[i] = *src;
        s->live[i] = (drafted){.sentence = sentence,
                               .src_len = (int32_t)n + 1,
                               .row = (int32_t)i,
                               .limit = wr__search_limit(s->d, s->o, n),
                               .word = s->words + i * max_len};
        take_draft(s, &s->live[i]);
        s->stats.drafted += (size_t)s->live[i].draft;
    }
    s->n_live = (int)count;
    s->in_doubt = false;
    wr_status status = wr__search_sources(s->d, s->pick, count, &s->batch, err);
    wr_decoder_size need = {
        .rows = (int)count, .src_len = s->batch.S, .tgt_len = s->live[0].limit, .best = s->best};
    return status == WR_OK ? wr_decoder_begin(s->d, &need, &s->batch, err) : status;
}

/* Each sentence's last accepted word and what is proposed behind it. */
static wr_decoder_tokens feed_rows(drafting *s) {
    int most = PASS_TOKENS / s->n_live, m = 0;
    if (most < 2) most = 2;
    for (int i = 0; i < s->n_live; i++) {
        drafted *x = &s->live[i];
        x->fed = x->proposed - x->decided + 1;
        if (x->fed > x->window + 1) x->fed = x->window + 1;
        if (x->fed > most) x->fed = most;
        s->row[i] = x->row;
        s->past[i] = x->decided;
        s->count[i] = x->fed;
        s->src_len[i] = x->src_len;
        for (int p = x->decided; p < x->decided + x->fed; p++)
            s->token[m++] = p == 0 ? WR_BOS_ID : x->word[p - 1];
        x->row = i;
    }
    return (wr_decoder_tokens){.n = s->n_live,
                               .token = s->token,
                               .past = s->past,
                               .count = s->count,
                               .row = s->row,
                               .src_row = s->row,
                               .src_len = s->src_len};
}

/* Every sentence gets a token at least. Those that are over are noted, the others stay. */
static wr_status pass(drafting *s, wr_error *err) {
    wr_decoder_tokens feed = feed_rows(s);
    wr_decoder_next next;
    wr_status status = wr_decoder_verify(s->d, &feed, &next, err);
    int64_t row = 0;
    int kept = 0;
    for (int i = 0; status == WR_OK && i < feed.n; i++) {
        drafted *x = &s->live[i];
        status = accept(s, x, row, &next, err);
        row += x->fed;
        if (status != WR_OK) break;
        wr_hypothesis h = {x->word, (size_t)x->decided, x->logp,
                           wr_search_score(s->o, x->logp, x->decided + 1)};
        if (x->over)
            status = note(s, x->sentence, &h, err);
        else
            s->live[kept++] = *x;
    }
    s->n_live = kept;
    return status;
}

static wr_status draft_batch(drafting *s, size_t at, size_t count, wr_error *err) {
    size_t ids = s->out->ids.n, tokens = s->stats.tokens, accepted = s->stats.accepted;
    wr_status status = begin_batch(s, at, count, err);
    while (status == WR_OK && s->n_live > 0 && !s->in_doubt)
        status = pass(s, err);
    if (status != WR_OK || !s->in_doubt) return status;
    s->out->ids.n = ids;
    s->stats.tokens = tokens;
    s->stats.accepted = accepted;
    return redo(s, at, count, err);
}

/* ---- the whole ---- */

static bool allocate(drafting *s, size_t sentences) {
    size_t max_len = (size_t)wr_decoder_model(s->d)->m.max_len;
    s->pick = malloc(sizeof *s->pick * sentences);
    s->live = malloc(sizeof *s->live * sentences);
    s->words = malloc(sizeof *s->words * sentences * max_len);
    s->token = malloc(sizeof *s->token * sentences * max_len);
    s->verified = malloc(sizeof *s->verified * max_len);
    s->verdict = malloc(sizeof *s->verdict * max_len);
    s->cand = malloc(sizeof *s->cand * ((size_t)s->best + 1));
    s->row = malloc(sizeof *s->row * sentences * 4);
    if (s->row != NULL) {
        s->past = s->row + sentences;
        s->count = s->row + 2 * sentences;
        s->src_len = s->row + 3 * sentences;
    }
    return s->pick != NULL && s->live != NULL && s->words != NULL && s->token != NULL &&
           s->verified != NULL && s->verdict != NULL && s->cand != NULL && s->row != NULL;
}

static void release(drafting *s) {
    wr_batch_free(&s->batch);
    free(s->pick);
    free(s->live);
    free(s->words);
    free(s->token);
    free(s->verified);
    free(s->verdict);
    free(s->cand);
    free(s->row);
}

static wr_status draft_all(drafting *s, wr_error *err) {
    size_t most = s->n < (size_t)s->o->max_sentences ? s->n : (size_t)s->o->max_sentences;
    wr_status status = allocate(s, most) ? WR_OK : wr_fail_memory(err, "drafts", 0);
    for (size_t at = 0; status == WR_OK && at < s->n;) {
        size_t count = wr__search_batch(s->d, s->o, &s->src[s->order[at]], s->n - at);
        status = draft_batch(s, at, count, err);
        at += count;
        if (status == WR_OK && s->o->progress != NULL) s->o->progress(s->o->context, at, s->n);
    }
    for (size_t i = 0; status == WR_OK && i < s->n; i++)
        s->out->hyp[i].id = s->out->ids.id + s->first[i];
    release(s);
    return status;
}

static wr_status check_drafts(const wr_decoder *d, const wr_sentence *draft, size_t n,
                              const wr_search_options *o, wr_error *err) {
    int vocab = wr_decoder_model(d)->tgt_vocab;
    wr_status status = wr__search_check(o, err);
    if (status != WR_OK) return status;
    if (o->beam != 1)
        return wr_fail(err, WR_ERR_INPUT, "drafts are for greedy search, but the beam is %d",
                       o->beam);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < draft[i].n; k++)
            if (draft[i].id[k] < 0 || draft[i].id[k] >= vocab)
                return wr_fail(err, WR_ERR_INPUT,
                               "draft %zu: token %d is outside the vocabulary of %d; the model "
                               "that drafts must have the vocabulary of the one that verifies",
                               i + 1, draft[i].id[k], vocab);
    return WR_OK;
}

wr_status wr_draft_search(wr_decoder *d, const wr_sentence *src, const wr_sentence *draft, size_t n,
                          const wr_search_options *o, wr_draft_stats *stats, wr_translations *out,
                          wr_error *err) {
    *out = (wr_translations){0};
    wr_status status = check_drafts(d, draft, n, o, err);
    if (status != WR_OK) return status;
    *out = (wr_translations){.n = n, .nbest = 1};
    out->count = calloc(n + 1, sizeof *out->count);
    out->hyp = calloc(n + 1, sizeof *out->hyp);
    size_t *first = calloc(n + 1, sizeof *first), *order = wr__order_by_length(src, NULL, n);
    drafting s = {.d = d,
                  .o = o,
                  .src = src,
                  .draft = draft,
                  .order = order,
                  .n = n,
                  .best = wr__search_best(d, 1),
                  .doubt = wr_decoder_model(d)->dtype == WR_F64 ? DOUBT_F64 : DOUBT_F32,
                  .stats.sentences = n,
                  .out = out,
                  .first = first};
    bool ok = out->count != NULL && out->hyp != NULL && first != NULL && order != NULL;
    status = !ok      ? wr_fail_memory(err, "translations", n * sizeof *out->hyp)
             : n == 0 ? WR_OK
                      : draft_all(&s, err);
    free(first);
    free(order);
    if (status != WR_OK)
        wr_translations_free(out);
    else if (stats != NULL)
        *stats = s.stats;
    return status;
}
