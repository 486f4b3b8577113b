/* test_nat_decoder.c: decoding with non-autoregressive models finds what enumeration finds on toys,
 * in every method; the steps between passes against the specification's numbers (keys E2, E2b, E25,
 * E27 of nar_vectors.json); neither batches nor threads change results. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "helpers/alloc.h"
#include "helpers/decoding.h"
#include "models/nat_decoder_internal.h"
#include "ops/softmax.h"

enum { VOCAB = 6, WORDS = VOCAB + WR_NAT_EXTRA, MAX_LEN = 10, SOURCES = 11, POSITIONS = 24 };
enum { CANDIDATES_MOST = 9, SEQUENCES_MOST = 4096 };

/* ---- toys ---- */

typedef struct rig {
    wr_nat n;
    bool silent;
    wr_session *session;
    wr_nat_decoder *d;
} rig;

static wr_nat toy(wr_dtype t, wr_recipe_framing framing) {
    return (wr_nat){.m = {.type = WR_RECIPE_NAT,
                          .dim = 8,
                          .ffn = 16,
                          .heads = 2,
                          .encoder_layers = 1,
                          .decoder_layers = 1,
                          .norm = WR_RECIPE_NORM_PRE,
                          .activation = WR_RECIPE_RELU,
                          .dropout = 0.5,
                          .embeddings = WR_RECIPE_EMBED_TARGET,
                          .max_len = MAX_LEN},
                    .src_vocab = 9,
                    .tgt_vocab = VOCAB,
                    .inputs = WR_RECIPE_INPUT_MASK,
                    .input_temperature = 0.3,
                    .framing = framing,
                    .length = WR_RECIPE_LENGTH_POOLED,
                    .length_offset = true,
                    .length_classes = 7,
                    .max_source = MAX_LEN,
                    .max_target = MAX_LEN,
                    .max_positions = MAX_LEN,
                    .dtype = t,
                    .training = true};
}

/* Two frames for each source word. */
static wr_nat toy_with_frames(wr_dtype t, wr_recipe_framing framing) {
    wr_nat n = toy(t, framing);
    n.length = WR_RECIPE_LENGTH_NONE;
    n.frames = 2;
    n.upsampling = WR_RECIPE_UPSAMPLE_REPEAT;
    n.max_positions = 2 * n.max_source;
    return n;
}

static rig open_rig(wr_nat n, bool silent, uint64_t seed, int threads) {
    rig r = {.n = n, .silent = silent};
    wr_error err = {0};
    wr_session_options o = {.threads = threads, .seed = seed};
    wr_program *p;
    test_must(wr_session_new(&o, &r.session, &err), &err);
    test_must(wr_nat_decoder_new(&n, silent, r.session, &r.d, &err), &err);
    test_must(wr_nat_decoder_program(r.d, &p, &err), &err);
    test_must(wr_session_prepare(r.session, p, &err), &err);
    test_move(r.session, 0.4, 5);
    r.n.training = false;
    return r;
}

static void close_rig(rig *r) {
    wr_nat_decoder_free(r->d);
    wr_session_free(r->session);
}

static const wr_sentence *sources(void) {
    static test_sentences s;
    return test_sentences_by_rule(
        &s, (test_rule){.n = SOURCES, .step = 5, .lengths = 7, .turn = 3, .words = 5});
}

static wr_nat_search_options options_of(wr_nat_method method) {
    wr_nat_search_options o = wr_nat_search_defaults(false, false);
    o.method = method;
    o.passes = 3;
    o.beam = 6;
    o.symbols = 0;
    return o;
}

static wr_translations search(const rig *r, const wr_sentence *src, size_t n,
                              const wr_nat_search_options *o) {
    wr_error err = {0};
    wr_translations out;
    if (wr_nat_search(r->d, src, n, o, &out, &err) != WR_OK) fail_msg("%s", err.text);
    assert_int_equal(out.n, n);
    return out;
}

/* ---- enumeration: a graph of the model, one sentence, one candidate ---- */

static wr fixed_ids(wr_graph *g, const int32_t *id, int64_t n) {
    return wr_const(g, WR_I32, 2, ((int64_t[]){1, n}), id);
}

static wr fixed_length(wr_graph *g, int32_t n) { return wr_const(g, WR_I32, 1, &(int64_t){1}, &n); }

static wr_nat_encoding encode(const rig *r, wr_graph *g, const wr_sentence *src) {
    int32_t id[MAX_LEN], n = (int32_t)src->n + 1;
    if (src->n > 0) memcpy(id, src->id, src->n * sizeof *id);
    id[src->n] = WR_EOS_ID;
    return wr_nat_encode(&r->n, fixed_ids(g, id, n), fixed_length(g, n));
}

/* What a position may say. */
static bool allowed(const rig *r, int32_t word) {
    if (word == WR_PAD_ID || word == WR_BOS_ID || word == wr_nat_mask(&r->n)) return false;
    if (word == WR_EOS_ID) return r->n.framing == WR_RECIPE_FRAME_EOS;
    return word != wr_nat_blank(&r->n) || r->silent;
}

/* log p of each word at each position given the tokens: [T, WORDS], -infinity for what may not be
 * said. */
static void word_logs(const rig *r, const wr_sentence *src, const int32_t *tokens, int32_t T,
                      double *to) {
    wr_graph *g = wr_graph_new();
    assert_non_null(g);
    wr_nat_encoding e = encode(r, g, src);
    wr features = wr_nat_decode(&r->n, &e, fixed_ids(g, tokens, T), fixed_length(g, T));
    test_compute(r->session, wr_nat_logits(&r->n, features), (int64_t)T * WORDS, to);
    for (int32_t t = 0; t < T; t++) {
        double *row = to + t * WORDS, sum = 0;
        for (int32_t v = 0; v < WORDS; v++)
            if (allowed(r, v)) sum += exp(row[v]);
        for (int32_t v = 0; v < WORDS; v++)
            row[v] = allowed(r, v) ? row[v] - log(sum) : -INFINITY;
    }
}

/* The k likeliest lengths of a sentence by looking at all. */
static int best_lengths(const rig *r, const wr_sentence *src, int k, int *length) {
    double logp[16];
    wr_graph *g = wr_graph_new();
    assert_non_null(g);
    wr_nat_encoding e = encode(r, g, src);
    test_compute(r->session, wr_nat_length_scores(&r->n, &e), r->n.length_classes, logp);
    int found = 0;
    for (; found < k; found++) {
        int best = -1;
        for (int j = 0; j < r->n.length_classes; j++)
            if (logp[j] > -INFINITY && (best < 0 || logp[j] > logp[best])) best = j;
        if (best < 0) break;
        length[found] = wr_nat_class_length(&r->n, (int)src->n + 1, best);
        logp[best] = -INFINITY;
    }
    return found;
}

/* Sequence number i of the words that may be said; false behind the last. */
static bool spell(const rig *r, int i, int said, int32_t *y) {
    int32_t word[WORDS], n = 0;
    for (int32_t v = 0; v < WORDS; v++)
        if (allowed(r, v)) word[n++] = v;
    for (int t = 0; t < said; t++, i /= n)
        y[t] = word[i % n];
    return i == 0;
}

/* The likeliest of all sequences, position by position independent. */
static void best_sequence(const rig *r, const double *logs, int said, int32_t *y) {
    double best = -INFINITY;
    int32_t x[POSITIONS];
    if (said > 4) { /* too many to spell: the likeliest word of each position */
        for (int t = 0; t < said; t++) {
            y[t] = 0;
            for (int32_t v = 1; v < WORDS; v++)
                if (logs[t * WORDS + v] > logs[t * WORDS + y[t]]) y[t] = v;
        }
        return;
    }
    for (int i = 0; spell(r, i, said, x); i++) {
        double p = 0;
        for (int t = 0; t < said; t++)
            p += logs[t * WORDS + x[t]];
        if (p > best) memcpy(y, x, sizeof *y * (size_t)said);
        if (p > best) best = p;
    }
}

/* ---- candidates ---- */

typedef struct candidate {
    int32_t y[POSITIONS];
    size_t n;
    double score, logp;
} candidate;

/* Text of said words: blanks dropped, merged before for ctc, up to the first end. */
static void make_text(const rig *r, const wr_nat_search_options *o, int32_t *y, size_t said,
                      candidate *c) {
    int32_t before = -1;
    c->n = 0;
    for (size_t t = 0; t < said; t++) {
        bool merged = o->method == WR_NAT_CTC && y[t] == before;
        before = y[t];
        if (merged || y[t] == wr_nat_blank(&r->n)) continue;
        if (y[t] == WR_EOS_ID) break;
        if (o->dedup && c->n > 0 && c->y[c->n - 1] == y[t]) continue;
        c->y[c->n++] = y[t];
    }
}

/* The passes of one candidate in the plainest way. */
static candidate decode_one(const rig *r, const wr_nat_search_options *o, const wr_sentence *src,
                            int32_t T) {
    bool framed = r->n.framing == WR_RECIPE_FRAME_BOS_EOS;
    int first = framed ? 1 : 0, said = framed ? T - 2 : T;
    int passes = o->method == WR_NAT_MASK_PREDICT ? o->passes : 1;
    int32_t tokens[POSITIONS], words[POSITIONS] = {0}, fresh[POSITIONS];
    double logs[POSITIONS * WORDS], logp[POSITIONS] = {0};
    bool masked[POSITIONS];
    memset(masked, true, sizeof masked);
    for (int pass = 0; pass < passes; pass++) {
        int again = said * (passes - pass) / passes;
        if (again == 0 && !framed) again = 1;
        if (again == 0) break;
        if (pass > 0) {
            memset(masked, false, sizeof masked);
            for (int k = 0; k < again; k++) {
                int least = -1;
                for (int t = 0; t < said; t++)
                    if (!masked[t] && (least < 0 || logp[t] < logp[least])) least = t;
                masked[least] = true;
            }
        }
        tokens[0] = WR_BOS_ID;
        tokens[T - 1] = WR_EOS_ID;
        for (int t = 0; t < said; t++)
            tokens[first + t] = masked[t] ? wr_nat_mask(&r->n) : words[t];
        word_logs(r, src, tokens, T, logs);
        best_sequence(r, logs + first * WORDS, said, fresh);
        bool changed = false;
        for (int t = 0; t < said; t++) {
            if (!masked[t]) continue;
            changed = changed || pass == 0 || words[t] != fresh[t];
            words[t] = fresh[t];
            logp[t] = logs[(first + t) * WORDS + fresh[t]];
        }
        if (o->adaptive && !changed) break;
    }
    candidate c = {0};
    for (int t = 0; t < said; t++)
        c.logp += logp[t];
    c.score = c.logp / said;
    make_text(r, o, words, (size_t)said, &c);
    return c;
}

/* Lengths as the options say. */
static int lengths_of(const rig *r, const wr_nat_search_options *o, const wr_sentence *src,
                      int *length) {
    if (o->positions > 0) {
        length[0] = o->positions;
        return 1;
    }
    if (r->n.frames > 0) {
        length[0] = r->n.frames * ((int)src->n + 1);
        return 1;
    }
    int k = o->lengths, n = best_lengths(r, src, o->window ? 1 : k, length);
    int least = r->n.framing == WR_RECIPE_FRAME_BOS_EOS ? 3 : 1, kept = 0;
    for (int i = 0; i < n; i++) {
        length[i] = (int)floor(length[i] * o->length_factor + 0.5);
        if (length[i] < least) length[i] = least;
        if (length[i] > r->n.max_positions) length[i] = r->n.max_positions;
    }
    if (o->window) {
        int middle = length[0];
        n = 0;
        for (int j = 0; j < k; j++) { /* T - k/2 .., the nearest first */
            int step = j % 2 == 1 ? -(j + 1) / 2 : j / 2;
            if (middle + step >= least && middle + step <= r->n.max_positions)
                length[n++] = middle + step;
        }
    }
    for (int i = 0; i < n; i++) {
        bool known = false;
        for (int j = 0; j < kept; j++)
            known = known || length[j] == length[i];
        if (!known) length[kept++] = length[i];
    }
    return kept;
}

static void assert_enumerated(const rig *r, const wr_nat_search_options *o) {
    wr_translations out = search(r, sources(), SOURCES, o);
    for (size_t i = 0; i < SOURCES; i++) {
        int length[CANDIDATES_MOST];
        candidate best = {.score = -INFINITY};
        int n = lengths_of(r, o, &sources()[i], length);
        assert_in_range(n, 1, o->lengths);
        for (int k = 0; k < n; k++) {
            candidate c = decode_one(r, o, &sources()[i], length[k]);
            if (o->rescorer != NULL) c.score = c.logp = test_judged(i, c.y, c.n);
            if (c.score > best.score) best = c;
        }
        const wr_hypothesis *h = &out.hyp[i * out.nbest];
        if (h->n != best.n || fabs(h->score - best.score) > 1e-9)
            fail_msg("sentence %zu: %zu words with %g, but enumeration has %zu with %g", i, h->n,
                     h->score, best.n, best.score);
        if (best.n > 0) assert_memory_equal(h->id, best.y, sizeof *h->id * best.n);
        assert_true(fabs(h->logp - best.logp) < 1e-9);
    }
    wr_translations_free(&out);
}

static const wr_recipe_framing FRAMING[] = {WR_RECIPE_FRAME_EOS, WR_RECIPE_FRAME_BOS_EOS,
                                            WR_RECIPE_FRAME_PLAIN};

static void test_argmax(void **state) {
    (void)state;
    for (int f = 0; f < 3; f++)
        for (int silent = 0; silent < 2; silent++) {
            wr_nat n = toy(WR_F64, FRAMING[f]);
            n.inputs = f == 0 ? WR_RECIPE_INPUT_UNIFORM : WR_RECIPE_INPUT_MASK;
            rig r = open_rig(n, silent != 0, 1 + (uint64_t)f, 1);
            wr_nat_search_options o = options_of(WR_NAT_ARGMAX);
            assert_enumerated(&r, &o);
            o.lengths = 4;
            assert_enumerated(&r, &o);
            o.window = true;
            o.length_factor = 1.3;
            o.dedup = true;
            assert_enumerated(&r, &o);
            o.window = false;
            assert_enumerated(&r, &o);
            o.positions = 5;
            assert_enumerated(&r, &o);
            o.positions = 0;
            size_t calls = 0;
            wr_rescorer rescorer = {test_judge, &calls};
            o.rescorer = &rescorer;
            assert_enumerated(&r, &o);
            assert_true(calls >= SOURCES);
            close_rig(&r);
        }
}

static void test_mask_predict(void **state) {
    (void)state;
    for (int f = 0; f < 3; f++) {
        rig r = open_rig(toy(WR_F64, FRAMING[f]), false, 4 + (uint64_t)f, 1);
        wr_nat_search_options o = options_of(WR_NAT_MASK_PREDICT);
        for (o.passes = 1; o.passes <= 7; o.passes += 2) {
            o.lengths = o.passes == 5 ? 1 : 3;
            o.adaptive = false;
            assert_enumerated(&r, &o);
            o.adaptive = true;
            assert_enumerated(&r, &o);
        }
        close_rig(&r);
    }
}

static void test_frames(void **state) {
    (void)state;
    for (int f = 0; f < 3; f++) {
        wr_nat n = toy_with_frames(WR_F64, FRAMING[f]);
        if (f == 1) n.upsampling = WR_RECIPE_UPSAMPLE_SPLIT;
        if (f == 1) n.frames = 3;
        if (f == 1) n.max_positions = 3 * n.max_source;
        rig r = open_rig(n, true, 7 + (uint64_t)f, 1);
        wr_nat_search_options o = options_of(WR_NAT_CTC);
        if (f != 1) assert_enumerated(&r, &o);
        o.dedup = true;
        if (f != 1) assert_enumerated(&r, &o);
        o.method = WR_NAT_ARGMAX; /* blanks are dropped, nothing is merged */
        if (f != 1) assert_enumerated(&r, &o);
        wr_translations out = search(&r, sources(), SOURCES, &o);
        wr_translations_free(&out);
        close_rig(&r);
    }
}

/* ---- prefix beam search ---- */

typedef struct texts {
    candidate c[SEQUENCES_MOST];
    int n;
} texts;

static int by_score(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    return x->score > y->score ? -1 : x->score < y->score;
}

/* Probabilities of all texts of four frames, by all paths. */
static void all_texts(const rig *r, const wr_sentence *src, texts *x) {
    int32_t T = r->n.frames * ((int32_t)src->n + 1), tokens[POSITIONS], path[POSITIONS];
    double logs[POSITIONS * WORDS];
    wr_nat_search_options ctc = {.method = WR_NAT_CTC};
    for (int32_t t = 0; t < T; t++)
        tokens[t] = wr_nat_mask(&r->n);
    word_logs(r, src, tokens, T, logs);
    x->n = 0;
    for (int i = 0; spell(r, i, T, path); i++) {
        double logp = 0;
        for (int32_t t = 0; t < T; t++)
            logp += logs[t * WORDS + path[t]];
        candidate c = {0};
        make_text(r, &ctc, path, (size_t)T, &c);
        int at = 0;
        while (at < x->n && !(x->c[at].n == c.n && memcmp(x->c[at].y, c.y, sizeof c.y) == 0))
            at++;
        if (at == x->n) x->c[x->n++] = c;
        x->c[at].score += exp(logp);
    }
    for (int i = 0; i < x->n; i++)
        x->c[i].logp = x->c[i].score = log(x->c[i].score);
}

static void test_ctc_beam(void **state) {
    (void)state;
    rig r = open_rig(toy_with_frames(WR_F64, WR_RECIPE_FRAME_PLAIN), true, 10, 1);
    wr_nat_search_options o = options_of(WR_NAT_CTC_BEAM);
    texts *all = malloc(sizeof *all);
    assert_non_null(all);
    o.beam = 400;
    o.nbest = 5;
    o.length_bonus = 0.7;
    wr_translations out = search(&r, sources(), SOURCES, &o);
    int checked = 0;
    for (size_t i = 0; i < SOURCES; i++) {
        if (sources()[i].n > 1) continue; /* two and four frames */
        checked++;
        all_texts(&r, &sources()[i], all);
        for (int k = 0; k < all->n; k++)
            all->c[k].score += o.length_bonus * (double)all->c[k].n;
        qsort(all->c, (size_t)all->n, sizeof *all->c, by_score);
        for (size_t k = 0; k < out.count[i]; k++) {
            const wr_hypothesis *h = &out.hyp[i * out.nbest + k];
            assert_true(fabs(h->score - all->c[k].score) < 1e-9);
            assert_true(fabs(h->logp - all->c[k].logp) < 1e-9);
            assert_int_equal(h->n, all->c[k].n);
            if (h->n > 0) assert_memory_equal(h->id, all->c[k].y, sizeof *h->id * h->n);
        }
    }
    assert_true(checked >= 3);
    wr_translations_free(&out);
    size_t calls = 0; /* a judge chooses among the beam's texts */
    wr_rescorer rescorer = {test_judge, &calls};
    o.rescorer = &rescorer;
    o.beam = 5;
    o.nbest = 5;
    out = search(&r, sources(), SOURCES, &o);
    for (size_t i = 0; i < SOURCES; i++)
        for (size_t k = 0; k < out.count[i]; k++) {
            const wr_hypothesis *h = &out.hyp[i * out.nbest + k];
            assert_true(h->score == test_judged(i, h->id, h->n));
            assert_true(k == 0 || h->score <= h[-1].score);
        }
    wr_translations_free(&out);
    free(all);
    close_rig(&r);
}

/* ---- steps ---- */

static void test_steps(void **state) {
    (void)state;
    int32_t a[] = {1, 1, 2, 2, 2, 1};
    assert_int_equal(wr__nat_dedup(a, 6), 3);
    assert_memory_equal(a, ((int32_t[]){1, 2, 1}), 3 * sizeof *a);
    assert_int_equal(wr__nat_dedup(a, 0), 0);
    assert_int_equal(wr__nat_scale(19, 1.05, 1, 100), 20);
    assert_int_equal(wr__nat_scale(10, 1.05, 1, 100), 11); /* half up */
    assert_int_equal(wr__nat_scale(10, 0.04, 2, 100), 2);
    assert_int_equal(wr__nat_scale(10, 1e300, 2, 12), 12);
    static const int AGAIN[] = {7, 5, 2};
    for (int t = 1; t < 4; t++)
        for (int some = 0; some < 2; some++)
            assert_int_equal(wr__nat_again(10, t, 4, some != 0), AGAIN[t - 1]);
    assert_int_equal(wr__nat_again(3, 9, 10, false), 0);
    assert_int_equal(wr__nat_again(3, 9, 10, true), 1);
    assert_int_equal(wr__nat_again(0, 1, 10, true), 0);
    bool marked[5];
    wr__nat_least((double[]){-1, -3, -2, -3, 0}, 5, 2, marked); /* the lowest of equal ones first */
    assert_memory_equal(marked, ((bool[]){false, true, false, true, false}), sizeof marked);
    wr__nat_least((double[]){-1, -1, -1, -1, -1}, 5, 2, marked);
    assert_memory_equal(marked, ((bool[]){true, true, false, false, false}), sizeof marked);
    wr__nat_least((double[]){-INFINITY, 0, 0, 0, 0}, 5, 9, marked);
    assert_true(marked[0] && marked[4]);
}

/* Two passes over the specification's logits: which words are said again, and what comes of it. */
static void test_two_passes(void **state) {
    (void)state;
    static const double PASS[2][20] = {{0.2, 1.5,  0.3, -0.4, 0.1, 0.0,  0.4, 0.2, 1.2, -0.3,
                                        0.5, -0.2, 1.1, 0.6,  0.0, -0.1, 0.3, 0.0, 0.2, 0.9},
                                       {0.2, 1.5,  0.3,  -0.4, 0.1, 0.0,  0.4, 0.2, 1.2, -0.3,
                                        0.5, -0.2, -0.1, 1.5,  0.0, -0.1, 0.3, 0.0, 0.2, 1.4}};
    static const double LOGP[] = {-0.677979, -0.850806, -0.680867, -0.743742};
    double logp[4] = {0};
    int32_t word[4] = {0};
    bool marked[4] = {true, true, true, true};
    for (int pass = 0; pass < 2; pass++) {
        if (pass > 0) wr__nat_least(logp, 4, (size_t)wr__nat_again(4, pass, 2, true), marked);
        if (pass > 0)
            assert_memory_equal(marked, ((bool[]){false, false, true, true}), sizeof marked);
        for (int t = 0; t < 4; t++) {
            const double *z = PASS[pass] + (size_t)t * 5;
            double sum = 0;
            int best = 0;
            for (int v = 0; v < 5; v++) {
                sum += exp(z[v]);
                if (z[v] > z[best]) best = v;
            }
            if (marked[t]) word[t] = best;
            if (marked[t]) logp[t] = z[best] - log(sum);
        }
    }
    double mean = 0;
    for (int t = 0; t < 4; t++) {
        assert_true(fabs(logp[t] - LOGP[t]) < 1e-6);
        mean += logp[t] / 4;
    }
    assert_memory_equal(word, ((int32_t[]){1, 3, 3, 4}), sizeof word);
    assert_true(fabs(mean + 0.738348) < 1e-6);
}

/* ---- lists, batches, threads ---- */

static void test_lists(void **state) {
    (void)state;
    rig r = open_rig(toy(WR_F32, WR_RECIPE_FRAME_EOS), false, 2, 1);
    wr_nat_search_options o = options_of(WR_NAT_ARGMAX);
    o.lengths = o.nbest = 6;
    wr_translations out = search(&r, sources(), SOURCES, &o);
    size_t told = test_assert_lists(&out, 6);
    assert_in_range(told, SOURCES + 1, SOURCES * 6);
    wr_translations_free(&out);
    close_rig(&r);
}

static void test_batches_and_threads_change_nothing(void **state) {
    (void)state;
    for (int m = 0; m < WR_NAT_METHOD_COUNT; m++)
        for (int t = 0; t < 2; t++) {
            wr_dtype type = t == 0 ? WR_F64 : WR_F32;
            bool frames = m == WR_NAT_CTC || m == WR_NAT_CTC_BEAM;
            wr_nat n = frames ? toy_with_frames(type, WR_RECIPE_FRAME_EOS)
                              : toy(type, WR_RECIPE_FRAME_EOS);
            rig r = open_rig(n, frames, 6, 1), many = open_rig(n, frames, 6, 3);
            wr_nat_search_options o = options_of((wr_nat_method)m);
            if (!frames) o.lengths = 3;
            wr_translations out = search(&r, sources(), SOURCES, &o);
            wr_translations threads = search(&many, sources(), SOURCES, &o);
            test_assert_same_translations(&out, &threads, (test_tolerance){0});
            for (size_t tokens = 4; tokens < 400; tokens *= 3) {
                o.max_tokens = tokens;
                o.max_sentences = (int)(tokens / 4);
                wr_translations other = search(&r, sources(), SOURCES, &o);
                test_assert_same_translations(&out, &other,
                                              (test_tolerance){.relative = t == 0 ? 1e-12 : 1e-5});
                wr_translations_free(&other);
            }
            wr_translations_free(&threads);
            wr_translations_free(&out);
            close_rig(&many);
            close_rig(&r);
        }
}

static void test_long_sources_are_cut(void **state) {
    (void)state;
    int32_t id[40];
    for (int i = 0; i < 40; i++)
        id[i] = 4 + i % 5;
    wr_sentence src = {.id = id, .n = 40};
    for (int frames = 0; frames < 2; frames++) {
        rig r = open_rig(frames ? toy_with_frames(WR_F32, WR_RECIPE_FRAME_EOS)
                                : toy(WR_F32, WR_RECIPE_FRAME_EOS),
                         frames != 0, 3, 1);
        wr_nat_search_options o = options_of(frames ? WR_NAT_CTC : WR_NAT_ARGMAX);
        wr_translations out = search(&r, &src, 1, &o);
        assert_int_equal(out.truncated, 1);
        assert_true(out.hyp[0].n <= (size_t)r.n.max_positions);
        wr_translations_free(&out);
        out = search(&r, &src, 0, &o);
        assert_int_equal(out.n, 0);
        wr_translations_free(&out);
        close_rig(&r);
    }
}

/* ---- mistakes ---- */

static void refuse(const rig *r, const wr_nat_search_options *o, const char *text) {
    wr_error err = {0};
    wr_translations out;
    wr_status status = wr_nat_search(r->d, sources(), SOURCES, o, &out, &err);
    test_assert_refused(status, &err, &out, text);
}

static void test_refusals(void **state) {
    (void)state;
    rig plain = open_rig(toy(WR_F32, WR_RECIPE_FRAME_EOS), false, 1, 1);
    rig frames = open_rig(toy_with_frames(WR_F32, WR_RECIPE_FRAME_EOS), true, 1, 1);
#define REFUSE(rig, what, key, value, text)                                                        \
    do {                                                                                           \
        wr_nat_search_options o = options_of(what);                                                \
        o.key = value;                                                                             \
        refuse(&(rig), &o, text);                                                                  \
    } while (0)
    REFUSE(plain, WR_NAT_ARGMAX, lengths, 8, "at most 7: the model's classes of lengths");
    REFUSE(plain, WR_NAT_ARGMAX, lengths, 0, "0 lengths");
    REFUSE(plain, WR_NAT_MASK_PREDICT, passes, 0, "0 passes");
    REFUSE(plain, WR_NAT_ARGMAX, nbest, 2, "2 translations of 1 candidates");
    REFUSE(plain, WR_NAT_ARGMAX, length_factor, 0, "length factor");
    REFUSE(plain, WR_NAT_ARGMAX, length_factor, NAN, "length factor");
    REFUSE(plain, WR_NAT_ARGMAX, positions, MAX_LEN + 1, "11 positions of each sentence");
    REFUSE(frames, WR_NAT_CTC, positions, 4, "4 positions of each sentence");
    REFUSE(plain, WR_NAT_CTC, nbest, 1, "ctc merges the frames of a model that may say nothing");
    REFUSE(plain, WR_NAT_CTC_BEAM, nbest, 1, "ctc-beam merges");
    REFUSE(frames, WR_NAT_MASK_PREDICT, nbest, 1, "this model has frames");
    REFUSE(frames, WR_NAT_CTC, lengths, 3, "the source alone tells");
    REFUSE(frames, WR_NAT_CTC_BEAM, nbest, 7, "7 translations of 6 candidates");
    REFUSE(frames, WR_NAT_CTC_BEAM, lm_weight, -1, "weight is -1");
    REFUSE(frames, WR_NAT_CTC_BEAM, length_bonus, INFINITY, "bonus for a word inf");
#undef REFUSE
    int32_t bad = 77;
    wr_sentence src = {.id = &bad, .n = 1};
    wr_nat_search_options o = options_of(WR_NAT_ARGMAX);
    wr_translations out;
    wr_error err = {0};
    assert_int_equal(wr_nat_search(plain.d, &src, 1, &o, &out, &err), WR_ERR_INPUT);
    close_rig(&plain);
    close_rig(&frames);
}

static void test_damaged_parameters(void **state) {
    (void)state;
    rig r = open_rig(toy(WR_F32, WR_RECIPE_FRAME_EOS), false, 1, 1);
    int at = wr_session_find(r.session, "decoder.embedding");
    for (int i = 0; at < 0 && i < wr_session_stored(r.session); i++)
        if (strstr(wr_session_stored_at(r.session, i)->name, "decoder") != NULL) at = i;
    assert_true(at >= 0);
    const wr_stored *x = wr_session_stored_at(r.session, at);
    float *values = malloc(sizeof *values * (size_t)x->tensor.n);
    assert_non_null(values);
    for (int64_t i = 0; i < x->tensor.n; i++)
        values[i] = NAN;
    wr_error err = {0};
    assert_int_equal(wr_session_write(r.session, at, values, &err), WR_OK);
    free(values);
    wr_nat_search_options o = options_of(WR_NAT_ARGMAX);
    refuse(&r, &o, "not finite");
    close_rig(&r);
}

static void test_memory(void **state) {
    (void)state;
    for (int m = 0; m < 2; m++) {
        rig r = open_rig(m == 0 ? toy(WR_F32, WR_RECIPE_FRAME_EOS)
                                : toy_with_frames(WR_F32, WR_RECIPE_FRAME_EOS),
                         m == 1, 1, 1);
        wr_nat_search_options o = options_of(m == 0 ? WR_NAT_MASK_PREDICT : WR_NAT_CTC_BEAM);
        size_t calls = 0;
        wr_rescorer rescorer = {test_judge, &calls};
        o.rescorer = &rescorer;
        wr_translations warm = search(&r, sources(), 3, &o);
        wr_translations_free(&warm);
        for (long n = 1;; n++) {
            wr_error err = {0};
            wr_translations out;
            wr_test_fail_allocation(n);
            wr_status status = wr_nat_search(r.d, sources(), 3, &o, &out, &err);
            bool failed = wr_test_allocation_failed();
            if (!failed) {
                assert_int_equal(status, WR_OK);
                wr_translations_free(&out);
                break;
            }
            assert_int_equal(status, WR_ERR_MEMORY);
            assert_null(out.hyp);
        }
        wr_test_fail_allocation(0);
        close_rig(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_argmax),
                                       cmocka_unit_test(test_mask_predict),
                                       cmocka_unit_test(test_frames),
                                       cmocka_unit_test(test_ctc_beam),
                                       cmocka_unit_test(test_steps),
                                       cmocka_unit_test(test_two_passes),
                                       cmocka_unit_test(test_lists),
                                       cmocka_unit_test(test_batches_and_threads_change_nothing),
                                       cmocka_unit_test(test_long_sources_are_cut),
                                       cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_damaged_parameters),
                                       cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
