/* test_session.c: parameters and states across runs, programs and sessions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "graph/session.h"
#include "helpers/sample.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/matmul.h"
#include "ops/random_ops.h"
#include "ops/reduce.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static wr_session *open_session(const wr_session_options *o) {
    wr_session *s;
    wr_error err = {0};
    if (wr_session_new(o, &s, &err) != WR_OK) fail_msg("%s", err.text);
    return s;
}

static void run(wr_session *s, wr_program *p, int n, const wr_feed *feeds) {
    wr_error err = {0};
    if (wr_session_run(s, p, n, feeds, &err) != WR_OK) fail_msg("%s", err.text);
}

static const float *floats(wr_session *s, int k) {
    return (const float *)wr_session_output(s, k)->data;
}

/* W [16, 24] of each initialiser, under a scope. */
static wr_program *parameters(const char *first) {
    wr_graph *g = wr_graph_new();
    wr outputs[6];
    static const wr_init init[6] = {{WR_INIT_ZERO, 0, 0},           {WR_INIT_CONSTANT, 2.5, 0},
                                    {WR_INIT_NORMAL, 1, 0.5},       {WR_INIT_UNIFORM, -3, 1},
                                    {WR_INIT_GLOROT_UNIFORM, 1, 0}, {WR_INIT_ORTHOGONAL, 2, 0}};
    if (first != NULL) wr_param(g, first, WR_F32, WR_DIMS(wr_n(3)), init[2]);
    WR_SCOPE (g, "model") {
        for (int i = 0; i < 6; i++) {
            char name[3] = {'W', (char)('0' + i), '\0'};
            outputs[i] = wr_param(g, name, WR_F32, WR_DIMS(wr_n(16), wr_n(24)), init[i]);
        }
    }
    return test_program_of(g, 6, outputs, NULL);
}

static void moments(const float *x, int n, double *mean, double *deviation) {
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++) {
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
    }
    *mean = sum / n;
    *deviation = sqrt(squares / n - *mean * *mean);
}

static void test_initialisers(void **state) {
    enum { N = 16 * 24 };
    wr_session *s = open_session(&(wr_session_options){.threads = 1, .seed = 3});
    wr_program *p = parameters(NULL);
    double mean, deviation;
    (void)state;
    run(s, p, 0, NULL);
    for (int i = 0; i < N; i++) {
        assert_true(floats(s, 0)[i] == 0.0f);
        assert_true(floats(s, 1)[i] == 2.5f);
        assert_true(floats(s, 3)[i] >= -3.0f && floats(s, 3)[i] < 1.0f);
        assert_true(fabsf(floats(s, 4)[i]) <= sqrtf(6.0f / 40.0f));
    }
    moments(floats(s, 2), N, &mean, &deviation);
    assert_true(fabs(mean - 1) < 0.1 && fabs(deviation - 0.5) < 0.07);
    moments(floats(s, 3), N, &mean, &deviation);
    assert_true(fabs(mean + 1) < 0.25 && fabs(deviation - 4 / sqrt(12)) < 0.12);
    moments(floats(s, 4), N, &mean, &deviation);
    assert_true(fabs(deviation - sqrt(6.0 / 40.0 / 3.0)) < 0.02);
    for (int i = 0; i < 16; i++) /* rows orthogonal, of length 2 */
        for (int j = 0; j <= i; j++) {
            double dot = 0;
            for (int k = 0; k < 24; k++)
                dot += (double)floats(s, 5)[i * 24 + k] * (double)floats(s, 5)[j * 24 + k];
            assert_true(fabs(dot - (i == j ? 4 : 0)) < 1e-5);
        }
    wr_session_free(s);
    wr_program_free(p);
}

/* First values depend on the seed and the full name, not on what else there is. */
static void test_first_values(void **state) {
    wr_session *a = open_session(&(wr_session_options){.threads = 1, .seed = 3});
    wr_session *b = open_session(&(wr_session_options){.threads = 2, .seed = 3});
    wr_session *c = open_session(&(wr_session_options){.threads = 1, .seed = 4});
    wr_program *p = parameters(NULL), *q = parameters("another");
    size_t bytes = sizeof(float) * 16 * 24;
    (void)state;
    run(a, p, 0, NULL);
    run(b, q, 0, NULL);
    run(c, p, 0, NULL);
    for (int k = 2; k < 6; k++) {
        assert_memory_equal(floats(a, k), floats(b, k), bytes);
        assert_memory_not_equal(floats(a, k), floats(c, k), bytes);
    }
    assert_memory_not_equal(floats(a, 2), floats(a, 3), bytes);
    assert_int_equal(wr_session_count(a).persistent_bytes, 6 * bytes);
    wr_session_free(a);
    wr_session_free(b);
    wr_session_free(c);
    wr_program_free(p);
    wr_program_free(q);
}

/* Two programs of one session share tensors by name; reading and writing go to the same place. */
static void test_shared_tensors(void **state) {
    wr_session *s = open_session(&(wr_session_options){.threads = 1, .seed = 3});
    wr_program *p[2];
    wr_error err = {0};
    float values[4] = {1, 2, 3, 4}, back[4] = {0};
    (void)state;
    for (int i = 0; i < 2; i++) {
        wr_graph *g = wr_graph_new();
        wr W = wr_param(g, "W", WR_F32, WR_DIMS(wr_n(4)), (wr_init){WR_INIT_NORMAL, 0, 1});
        wr y = i == 0 ? wr_neg(W) : wr_sum_all(W);
        p[i] = test_program_of(g, 1, &y, NULL);
    }
    assert_int_equal(wr_session_find(s, "W"), -1);
    assert_int_equal(wr_session_prepare(s, p[0], &err), WR_OK); /* made without a run */
    int at = wr_session_find(s, "W");
    assert_int_equal(at, 0);
    assert_int_equal(wr_session_write(s, at, values, &err), WR_OK);
    run(s, p[0], 0, NULL);
    for (int i = 0; i < 4; i++)
        assert_true(floats(s, 0)[i] == -values[i]);
    run(s, p[1], 0, NULL);
    assert_true(floats(s, 0)[0] == 10.0f);
    assert_int_equal(wr_session_read(s, at, back, &err), WR_OK);
    assert_memory_equal(back, values, sizeof values);
    assert_int_equal(wr_session_stored(s), 1);
    assert_true(wr_session_stored_at(s, 0)->trainable);
    assert_string_equal(wr_session_stored_at(s, 0)->name, "W");
    wr_session_free(s);
    wr_program_free(p[0]);
    wr_program_free(p[1]);
}

/* What a checkpoint defines beforehand is what the program finds. */
static void test_define(void **state) {
    wr_session *s = open_session(&(wr_session_options){.threads = 1, .seed = 3});
    wr_graph *g = wr_graph_new();
    wr_error err = {0};
    float values[3] = {7, 8, 9};
    int64_t dims[1] = {3};
    (void)state;
    wr y = wr_scale(wr_param(g, "enc.W", WR_F32, WR_DIMS(wr_n(3)), (wr_init){0}), 2.0);
    wr_program *p = test_program_of(g, 1, &y, NULL);
    assert_int_equal(wr_session_define(s, "enc.W", true, WR_F32, 1, dims, values, &err), WR_OK);
    run(s, p, 0, NULL);
    assert_true(floats(s, 0)[2] == 18.0f);
    wr_session_free(s);
    wr_program_free(p);
}

/* A state of symbolic size is made anew for every other size, by its initialiser. */
static void test_symbolic_state(void **state) {
    wr_session *s = open_session(&(wr_session_options){.threads = 1});
    wr_graph *g = wr_graph_new();
    static const float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    wr_dim B = wr_sym(g, "B", 1, 8, 1);
    wr in = wr_input(g, "x", WR_F32, WR_DIMS(B));
    wr kept = wr_state(g, "kept", WR_F32, WR_DIMS(B), (wr_init){WR_INIT_CONSTANT, 10, 0});
    wr y = wr_add(in, kept);
    (void)state;
    wr_program *p = test_program_of(g, 1, &y, NULL);
    for (int64_t n = 8; n >= 1; n -= 3) {
        run(s, p, 1, &(wr_feed){.name = "x", .data = x, .rank = 1, .dim = {n}});
        assert_int_equal(wr_session_output(s, 0)->n, n);
        assert_true(floats(s, 0)[n - 1] == 10.0f + x[n - 1]);
        assert_int_equal(wr_session_count(s).persistent_bytes, (size_t)n * sizeof(float));
    }
    run(s, p, 1, &(wr_feed){.name = "x", .data = x, .rank = 1, .dim = {8}}); /* a known plan */
    assert_int_equal(wr_session_count(s).plan_hits, 1);
    assert_true(floats(s, 0)[7] == 18.0f);
    assert_false(wr_session_stored_at(s, 0)->trainable);
    wr_session_free(s);
    wr_program_free(p);
}

/* Random numbers by seed and step: a resumed run goes on where the first one was. */
static void test_random_steps(void **state) {
    wr_session *a = open_session(&(wr_session_options){.threads = 2, .seed = 11});
    wr_session *b = open_session(&(wr_session_options){.threads = 1, .seed = 11});
    wr_session *c = open_session(&(wr_session_options){.threads = 1, .seed = 12});
    wr_graph *g = wr_graph_new();
    wr y = wr_normal(g, WR_F32, WR_DIMS(wr_n(1000)));
    wr_program *p = test_program_of(g, 1, &y, NULL);
    float third[1000];
    (void)state;
    for (uint64_t step = 1; step <= 3; step++) {
        wr_session_set_step(a, step);
        assert_int_equal(wr_session_step(a), step);
        run(a, p, 0, NULL);
    }
    memcpy(third, floats(a, 0), sizeof third);
    wr_session_set_step(b, 3);
    run(b, p, 0, NULL);
    assert_memory_equal(third, floats(b, 0), sizeof third);
    wr_session_set_step(c, 3);
    run(c, p, 0, NULL);
    assert_memory_not_equal(third, floats(c, 0), sizeof third);
    wr_session_free(a);
    wr_session_free(b);
    wr_session_free(c);
    wr_program_free(p);
}

/* Outputs that are inputs, parameters, constants, views of them, and one node twice. */
static void test_plain_outputs(void **state) {
    wr_session *s = open_session(&(wr_session_options){.threads = 1});
    wr_graph *g = wr_graph_new();
    static const float x[6] = {1, 2, 3, 4, 5, 6}, k[2] = {8, 9};
    wr in = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(2), wr_n(3)));
    wr view = wr_reshape(in, WR_DIMS(wr_n(3), wr_n(2)));
    wr constant = wr_const(g, WR_F32, 1, (const int64_t[]){2}, k);
    wr sum = wr_sum_all(in);
    wr outputs[6] = {in, view, constant, sum, sum, wr_reshape(sum, WR_DIMS(wr_n(1)))};
    (void)state;
    wr_program *p = test_program_of(g, 6, outputs, NULL);
    run(s, p, 1, &(wr_feed){.name = "x", .data = x, .rank = 2, .dim = {2, 3}});
    assert_memory_equal(floats(s, 0), x, sizeof x);
    assert_memory_equal(floats(s, 1), x, sizeof x);
    assert_int_equal(wr_session_output(s, 1)->dim[0], 3);
    assert_memory_equal(floats(s, 2), k, sizeof k);
    for (int i = 3; i < 6; i++)
        assert_true(floats(s, i)[0] == 21.0f);
    assert_int_equal(wr_session_output(s, 3)->rank, 0);
    assert_int_equal(wr_session_output(s, 5)->rank, 1);
    wr_session_free(s);
    wr_program_free(p);
}

/* Profiled steps add up, and unprofiled ones cost nothing. */
static void test_profile(void **state) {
    wr_session *s = open_session(&(wr_session_options){.threads = 1, .profile = true});
    wr_graph *g = wr_graph_new();
    wr W = wr_param(g, "W", WR_F32, WR_DIMS(wr_n(64), wr_n(64)), (wr_init){WR_INIT_NORMAL, 0, 1});
    wr y = wr_sum_all(wr_tanh(wr_matmul(W, W)));
    double seconds = 0;
    (void)state;
    wr_program *p = test_program_of(g, 1, &y, NULL);
    run(s, p, 0, NULL);
    const wr_plan *plan = wr_session_plan(s);
    assert_int_equal(plan->n_steps, 3);
    for (int i = 0; i < plan->n_steps; i++)
        seconds += plan->step[i].seconds;
    assert_true(seconds > 0 && plan->flops >= 2.0 * 64 * 64 * 64);
    wr_session_free(s);
    wr_program_free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_initialisers),   cmocka_unit_test(test_first_values),
        cmocka_unit_test(test_shared_tensors), cmocka_unit_test(test_define),
        cmocka_unit_test(test_symbolic_state), cmocka_unit_test(test_random_steps),
        cmocka_unit_test(test_plain_outputs),  cmocka_unit_test(test_profile),
    };
    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
