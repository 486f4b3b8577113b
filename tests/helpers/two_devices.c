/* two_devices.c: see two_devices.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "helpers/two_devices.h"

#include "helpers/sample.h"
#include "ops/fuse.h"
#include "optim/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

test_pair test_pair_open(const test_cuda *device) {
    static const char *const NAMES[TEST_DEVICES] = {"cpu", "cuda"};
    test_pair p = {.device = device};
    wr_error err = {0};
    for (int i = 0; i < TEST_DEVICES; i++) {
        wr_session_options o = {.device = NAMES[i], .threads = 1, .seed = 21};
        test_must(wr_session_new(&o, &p.on[i], &err), &err);
        assert_string_equal(wr_session_device(p.on[i]), NAMES[i]);
    }
    return p;
}

void test_pair_close(const test_pair *p) {
    for (int i = 0; i < TEST_DEVICES; i++)
        wr_session_free(p->on[i]);
    assert_string_equal(p->device->message(), "");
}

void test_pair_prepare(const test_pair *p, const wr_program *program) {
    wr_error err = {0};
    for (int i = 0; i < TEST_DEVICES; i++)
        test_must(wr_session_prepare(p->on[i], program, &err), &err);
}

void test_pair_disturb(const test_pair *p) {
    wr_error err = {0};
    wr_session *s = p->on[TEST_CPU];
    test_move(s, 0.05, 5);
    for (int i = 0; i < wr_session_stored(s); i++) {
        const wr_stored *x = wr_session_stored_at(s, i);
        if (!x->trainable) continue;
        void *data = test_read_stored(s, i);
        int there = wr_session_find(p->on[TEST_CUDA], x->name);
        assert_true(there >= 0);
        test_must(wr_session_write(p->on[TEST_CUDA], there, data, &err), &err);
        free(data);
    }
}

/* |a - b| of a tensor's element, at most, of the largest |b|; what is smaller than 1e-6 is rounding
 * (the gradient of a key's bias, say). */
static double gap(const wr_tensor *a, const wr_tensor *b) {
    double apart = 0, largest = 1e-6;
    for (int64_t i = 0; i < a->n; i++) {
        double x = test_value(a, i), y = test_value(b, i);
        if (!(fabs(x - y) <= apart)) apart = fabs(x - y); /* NaN stays */
        largest = fmax(largest, fabs(y));
    }
    return apart / largest;
}

void test_pair_compare_stored(const test_pair *p, double most) {
    wr_session *s = p->on[TEST_CPU];
    assert_int_equal(wr_session_stored(s), wr_session_stored(p->on[TEST_CUDA]));
    for (int i = 0; i < wr_session_stored(s); i++) {
        const wr_stored *x = wr_session_stored_at(s, i);
        int there = wr_session_find(p->on[TEST_CUDA], x->name);
        assert_true(there >= 0);
        if (x->tensor.dtype == WR_F32 && !x->trainable) continue;
        wr_tensor a = x->tensor, b = x->tensor;
        a.data = test_read_stored(p->on[TEST_CUDA], there);
        b.data = test_read_stored(s, i);
        double error = gap(&a, &b);
        if (!(error < most)) fail_msg("%s is %.3g from the CPU's", x->name, error);
        free(a.data);
        free(b.data);
    }
}

void test_pair_run(const test_pair *p, wr_program *program, int n, const wr_feed *feeds,
                   int n_outputs, double most) {
    wr_error err = {0};
    for (int i = 0; i < TEST_DEVICES; i++)
        test_must(wr_session_run(p->on[i], program, n, feeds, &err), &err);
    for (int k = 0; k < n_outputs; k++) {
        double error = test_difference(wr_session_output(p->on[TEST_CUDA], k),
                                       wr_session_output(p->on[TEST_CPU], k));
        if (!(error < most)) fail_msg("output %d is %.3g from the CPU's", k, error);
    }
}

/* ---- a program ---- */

test_compiled test_compile(wr_graph *g, int n, const wr *outputs) {
    test_compiled c = {.g = g, .n = n};
    wr_error err = {0};
    test_must(wr_program_new(g, n, outputs, wr_standard_passes(), &c.program, &err), &err);
    return c;
}

test_compiled test_compile_training(wr_graph *g, wr loss, int n, const wr *outputs, bool amsgrad) {
    wr_error err = {0};
    /* eps is large enough that a gradient which is zero but for rounding moves nothing */
    wr all[TEST_OUTPUTS];
    wr_optimizer made;
    wr_optimizer_options o = {.adam = {.beta1 = 0.9,
                                       .beta2 = 0.98,
                                       .eps = 1e-3,
                                       .clip_norm = 1,
                                       .weight_decay = 0.01,
                                       .decoupled = true,
                                       .amsgrad = amsgrad}};
    test_must(wr_optimizer_build(loss, &o, &made, &err), &err);
    memcpy(all, outputs, sizeof *outputs * (size_t)n);
    all[n++] = loss;
    all[n++] = made.norm;
    all[n++] = made.applied;
    return test_compile(g, n, all);
}

void test_compiled_free(const test_pair *p, test_compiled *c) {
    for (int i = 0; i < TEST_DEVICES; i++)
        wr_session_forget(p->on[i], c->program);
    wr_program_free(c->program);
    wr_graph_free(c->g);
}

void test_pair_train(const test_pair *p, const test_compiled *c, int n, wr_feed *feeds,
                     double most) {
    double lr = 0.01, scale = 1.0 / 16;
    uint64_t graphs = p->device->counts().graphs;
    feeds[n++] = (wr_feed){.name = WR_OPTIM_LR, .data = &lr};
    feeds[n++] = (wr_feed){.name = WR_OPTIM_SCALE, .data = &scale};
    for (int step = 0; step < TEST_STEPS; step++) {
        test_pair_run(p, c->program, n, feeds, c->n, most);
        const wr_tensor *applied = wr_session_output(p->on[TEST_CUDA], c->n - 1);
        assert_int_equal(((const int32_t *)applied->data)[0], 1);
    }
    if (!p->device->real) assert_true(p->device->counts().graphs > graphs);
    test_pair_compare_stored(p, most);
}

void test_assert_same_words(wr_translations *out) {
    const wr_translations *a = &out[TEST_CPU];
    size_t words = 0;
    test_assert_same_translations(a, &out[TEST_CUDA], (test_tolerance){1e-5, 1e-5});
    for (size_t i = 0; i < a->n; i++)
        for (size_t k = 0; k < a->count[i]; k++)
            words += a->hyp[i * a->nbest + k].n;
    assert_true(words > 0);
    for (int i = 0; i < TEST_DEVICES; i++)
        wr_translations_free(&out[i]);
}

const wr_sentence *test_sources(void) {
    static test_sentences s;
    return test_sentences_by_rule(
        &s, (test_rule){.n = TEST_SOURCES, .step = 5, .lengths = 7, .turn = 3, .words = 9});
}
