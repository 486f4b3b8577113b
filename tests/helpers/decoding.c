/* decoding.c: see decoding.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "helpers/decoding.h"

#include "autodiff/grad.h"
#include "graph/op.h"
#include "graph/random.h"
#include "helpers/alloc.h"
#include "helpers/sample.h"
#include "ops/fuse.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FEEDS_MOST = 8 };

void test_must(wr_status status, const wr_error *err) {
    if (status != WR_OK) fail_msg("%s", err->text);
}

const wr_sentence *test_sentences_by_rule(test_sentences *to, test_rule rule) {
    assert_true(rule.n <= TEST_SENTENCES && rule.lengths <= TEST_WORDS);
    for (size_t i = 0; i < rule.n; i++) {
        to->s[i] = (wr_sentence){.id = to->id[i], .n = i * rule.step % rule.lengths};
        for (size_t k = 0; k < to->s[i].n; k++)
            to->id[i][k] = (int32_t)(4 + (i * rule.turn + k * k + k) % rule.words);
    }
    return to->s;
}

/* ---- programs ---- */

wr_program *test_build(wr_graph *g, int n, const wr *outputs) {
    wr_error err = {0};
    wr_program *p;
    test_must(wr_program_new(g, n, outputs, wr_standard_passes(), &p, &err), &err);
    return p;
}

void test_run(wr_session *s, wr_program *p, int n, const wr_feed *feeds) {
    wr_error err = {0};
    wr_feed fed[FEEDS_MOST];
    int count = 0;
    assert_true(n <= FEEDS_MOST);
    for (int i = 0; i < n; i++)
        if (wr_program_find_input(p, feeds[i].name) >= 0) fed[count++] = feeds[i];
    test_must(wr_session_run(s, p, count, fed, &err), &err);
}

void test_compute(wr_session *s, wr x, int64_t n, double *to) {
    wr_error err = {0};
    wr_program *p;
    test_must(wr_program_new(x.g, 1, &x, NULL, &p, &err), &err);
    test_must(wr_session_run(s, p, 0, NULL, &err), &err);
    const wr_tensor *t = wr_session_output(s, 0);
    assert_int_equal(t->n, n);
    assert_int_equal(t->dtype, WR_F64);
    memcpy(to, t->data, sizeof *to * (size_t)n);
    wr_session_forget(s, p);
    wr_program_free(p);
    wr_graph_free(x.g);
}

/* ---- parameters ---- */

void *test_read_stored(wr_session *s, int index) {
    wr_error err = {0};
    const wr_tensor *x = &wr_session_stored_at(s, index)->tensor;
    void *bytes = malloc((size_t)x->n * wr_dtype_bytes(x->dtype) + 1);
    assert_non_null(bytes);
    test_must(wr_session_read(s, index, bytes, &err), &err);
    return bytes;
}

/* A standard normal number. */
static float noise(uint64_t seed, int index, int64_t k) {
    wr_random r = wr_random_stream(seed, 0, (uint64_t)index);
    uint32_t bits[4];
    float a, b;
    wr_random_bits(&r, (uint64_t)k, bits);
    wr_random_normal(bits[0], bits[1], &a, &b);
    return a;
}

void test_move(wr_session *s, double size, uint64_t seed) {
    wr_error err = {0};
    for (int i = 0; i < wr_session_stored(s); i++) {
        const wr_stored *x = wr_session_stored_at(s, i);
        if (!x->trainable) continue;
        void *data = test_read_stored(s, i);
        for (int64_t k = 0; k < x->tensor.n; k++) {
            float a = noise(seed, i, k);
            if (x->tensor.dtype == WR_F64) ((double *)data)[k] += size * (double)a;
            if (x->tensor.dtype == WR_F32) ((float *)data)[k] += (float)size * a;
        }
        test_must(wr_session_write(s, i, data, &err), &err);
        free(data);
    }
}

/* ---- gradients ---- */

enum { PARAMETERS_MOST = 400 };

/* A loss and its gradients with respect to n parameters: outputs 1 .. n. */
typedef struct slopes {
    int n;
    wr at[PARAMETERS_MOST], out[1 + PARAMETERS_MOST];
} slopes;

static void find_gradients(wr loss, slopes *x) {
    wr_graph *g = loss.g;
    *x = (slopes){.n = 0};
    x->out[0] = loss;
    for (uint32_t id = 1, last = wr_node_count(g); id < last; id++)
        if (wr_node_at(g, id)->op == &wr_op_param) {
            assert_true(x->n < PARAMETERS_MOST);
            x->at[x->n++] = (wr){g, id};
        }
    assert_true(wr_grad(loss, x->n, x->at, x->out + 1));
}

/* Which gradient is that of the parameter `name`? */
static int gradient_of(const slopes *x, const char *name) {
    int at = 0;
    while (at < x->n && strcmp(wr_source_name(x->at[at].g, x->at[at].id), name) != 0)
        at++;
    if (at == x->n) fail_msg("%s has no gradient", name);
    return at;
}

/* The sum of gradient times test_move's direction, from the session's outputs. */
static double slope_along(const slopes *x, wr_session *s, uint64_t seed) {
    double slope = 0;
    assert_int_equal(wr_session_stored(s), x->n);
    for (int i = 0; i < x->n; i++) {
        const wr_stored *p = wr_session_stored_at(s, i);
        const wr_tensor *gradient = wr_session_output(s, 1 + gradient_of(x, p->name));
        double norm = 0;
        for (int64_t k = 0; k < p->tensor.n; k++) {
            double v = test_value(gradient, k);
            slope += (double)noise(seed, i, k) * v;
            norm += v * v;
        }
        if (norm == 0) fail_msg("no gradient reaches %s", p->name);
    }
    return slope;
}

void test_gradients_of(wr_session *s, wr loss, void (*run)(void *context, wr_program *p),
                       void *context, const char *what) {
    static const uint64_t OFF = 42, ALONG = 99; /* seeds */
    slopes *x = malloc(sizeof *x);
    assert_non_null(x);
    find_gradients(loss, x);
    wr_program *p = test_build(loss.g, x->n + 1, x->out), *plain = test_build(loss.g, 1, &loss);
    run(context, p);
    test_move(s, 0.05, OFF); /* biases and norms away from where they begin */
    run(context, p);
    double slope = slope_along(x, s, ALONG), value[2];
    for (int side = 0; side < 2; side++) {
        test_move(s, side == 0 ? 1e-6 : -2e-6, ALONG);
        run(context, plain);
        value[side] = test_value(wr_session_output(s, 0), 0);
    }
    double numeric = (value[0] - value[1]) / 2e-6;
    if (!(fabs(numeric - slope) < 2e-6 * (1 + fabs(slope))))
        fail_msg("%s: %.12g, by differences %.12g", what, slope, numeric);
    wr_session_forget(s, p);
    wr_session_forget(s, plain);
    wr_program_free(p);
    wr_program_free(plain);
    free(x);
}

/* ---- translations ---- */

static void assert_near(double x, double y, test_tolerance t, const char *what) {
    if (!(fabs(x - y) <= t.absolute + t.relative * fabs(x)))
        fail_msg("%s: %.17g is not %.17g", what, x, y);
}

void test_assert_same_translations(const wr_translations *a, const wr_translations *b,
                                   test_tolerance t) {
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->truncated, b->truncated);
    for (size_t i = 0; i < a->n; i++) {
        assert_int_equal(a->count[i], b->count[i]);
        for (size_t k = 0; k < a->count[i]; k++) {
            const wr_hypothesis *x = &a->hyp[i * a->nbest + k], *y = &b->hyp[i * b->nbest + k];
            assert_int_equal(x->n, y->n);
            if (x->n > 0) assert_memory_equal(x->id, y->id, x->n * sizeof *x->id);
            assert_near(x->score, y->score, t, "score");
            assert_near(x->logp, y->logp, t, "logp");
        }
    }
}

void test_assert_refused(wr_status status, const wr_error *err, const wr_translations *out,
                         const char *says) {
    assert_int_equal(status, WR_ERR_INPUT);
    if (strstr(err->text, says) == NULL) fail_msg("'%s' does not say '%s'", err->text, says);
    assert_null(out->hyp);
}

bool test_assert_survived(long n, bool lenient, wr_status status, const wr_error *err,
                          const wr_translations *right, wr_translations *out, test_tolerance t) {
    bool hit = wr_test_allocation_failed();
    bool legal = hit && !lenient ? status == WR_ERR_MEMORY : hit || status == WR_OK;
    if (!legal) fail_msg("allocation %ld: status %d, %s", n, (int)status, err->text);
    if (status == WR_OK) test_assert_same_translations(right, out, t);
    if (status != WR_OK) assert_null(out->hyp);
    wr_translations_free(out);
    return hit;
}

static bool same_words(const int32_t *a, size_t n, const int32_t *b, size_t m) {
    return n == m && (n == 0 || memcmp(a, b, sizeof *a * n) == 0);
}

size_t test_assert_lists(const wr_translations *t, size_t most) {
    size_t told = 0;
    for (size_t i = 0; i < t->n; i++) {
        const wr_hypothesis *h = &t->hyp[i * t->nbest];
        told += t->count[i];
        assert_in_range(t->count[i], 1, most);
        for (size_t a = 1; a < t->count[i]; a++) {
            assert_true(h[a].score <= h[a - 1].score);
            for (size_t b = 0; b < a; b++)
                assert_false(same_words(h[a].id, h[a].n, h[b].id, h[b].n));
        }
    }
    return told;
}

double test_judged(size_t sentence, const int32_t *id, size_t n) {
    uint32_t h = 17 + (uint32_t)sentence;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint32_t)id[i]) * 16777619u + 3;
    return -(double)(h % 1000) / 100;
}

wr_status test_judge(void *context, size_t n, const size_t *sentence, const wr_sentence *tgt,
                     double *score, double *logp, wr_error *err) {
    (void)err;
    size_t *calls = context;
    *calls += n;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++)
            assert_false(sentence[i] == sentence[k] &&
                         same_words(tgt[i].id, tgt[i].n, tgt[k].id, tgt[k].n));
        score[i] = logp[i] = test_judged(sentence[i], tgt[i].id, tgt[i].n);
    }
    return WR_OK;
}

void test_note_progress(void *context, size_t done, size_t total) {
    test_progress *p = context;
    assert_true(done > p->done);
    *p = (test_progress){p->calls + 1, done, total};
}

void test_assert_progress(const test_progress *p, size_t calls, size_t total) {
    assert_int_equal(p->calls, calls);
    assert_int_equal(p->done, total);
    assert_int_equal(p->total, total);
}

/* ---- a tiny Transformer ---- */

wr_transformer test_transformer(wr_dtype dtype, wr_recipe_norm norm, int layers, int tgt_vocab) {
    return (wr_transformer){.m = {.dim = TEST_DIM,
                                  .ffn = 16,
                                  .heads = 2,
                                  .encoder_layers = layers,
                                  .decoder_layers = layers,
                                  .norm = norm,
                                  .dropout = 0.3,
                                  .embeddings = WR_RECIPE_EMBED_SEPARATE,
                                  .max_len = TEST_MAX_LEN},
                            .src_vocab = TEST_SRC_VOCAB,
                            .tgt_vocab = tgt_vocab,
                            .dtype = dtype,
                            .training = true};
}

test_rig test_rig_open(wr_transformer t, uint64_t seed, int threads) {
    test_rig r = {.t = t};
    wr_error err = {0};
    wr_session_options o = {.threads = threads, .seed = seed};
    test_must(wr_session_new(&o, &r.session, &err), &err);
    test_must(wr_decoder_new(&t, r.session, &r.d, &err), &err);
    r.t.training = false;
    return r;
}

void test_rig_close(test_rig *r) {
    wr_decoder_free(r->d);
    wr_session_free(r->session);
}

void test_rig_poison(const test_rig *r) {
    wr_error err = {0};
    int at = wr_session_find(r->session, "decoder.norm.gain");
    assert_true(at >= 0);
    float bad[TEST_DIM];
    for (int i = 0; i < TEST_DIM; i++)
        bad[i] = NAN;
    test_must(wr_session_write(r->session, at, bad, &err), &err);
}

wr_translations test_rig_search(const test_rig *r, const wr_sentence *src, size_t n,
                                const wr_search_options *o) {
    wr_error err = {0};
    wr_translations out;
    test_must(wr_search(r->d, src, n, o, &out, &err), &err);
    assert_int_equal(out.n, n);
    return out;
}
