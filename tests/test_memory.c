/* test_memory.c: building, compiling, planning and running a training step while the n-th
 * allocation fails, for every n: a clean error or the right result, no leak, and the session works
 * afterwards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "graph/session.h"
#include "helpers/alloc.h"
#include "ops/elementwise.h"
#include "ops/fuse.h"
#include "ops/layout.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/random_ops.h"
#include "ops/reduce.h"
#include "ops/softmax.h"
#include "optim/optimizer.h"

#include <stdio.h>
#include <string.h>

enum { ROWS = 5, WIDTH = 8, MOST = 20000 };

typedef struct result {
    float loss, weight[WIDTH * WIDTH];
} result;

/* Two layers, one recomputed, a loss, its gradient and an update by Adam. */
static wr build_loss(wr_graph *g) {
    wr_init init = {WR_INIT_NORMAL, 0, 0.3};
    wr_dim B = wr_sym(g, "B", 1, 64, 1), D = wr_n(WIDTH);
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(B, D));
    for (int i = 0; i < 2; i++) {
        WR_SCOPE (g, "layer%d", i) {
            if (i == 1) wr_scope_recompute(g);
            wr W = wr_param(g, "W", WR_F32, WR_DIMS(D, D), init);
            wr b = wr_param(g, "b", WR_F32, WR_DIMS(D), init);
            wr gamma = wr_param(g, "gamma", WR_F32, WR_DIMS(D), init);
            wr h = wr_dropout(wr_gelu(wr_add(wr_matmul(x, W), b)), 0.1);
            x = wr_add(x, wr_layer_norm(h, gamma, b, 1e-5));
        }
    }
    return wr_named(wr_mean_all(wr_square(wr_softmax(x))), "loss");
}

static wr_status build_program(wr_program **p, wr_error *err) {
    wr_adam_options adam = {.beta1 = 0.9, .beta2 = 0.98, .eps = 1e-8};
    wr_optimizer_options o = {.adam = adam};
    wr_optimizer update;
    *p = NULL;
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", 0);
    wr loss = build_loss(g);
    wr_status status = wr_optimizer_build(loss, &o, &update, err);
    if (status == WR_OK) {
        wr outputs[2] = {loss, update.norm};
        status = wr_program_new(g, 2, outputs, wr_standard_passes(), p, err);
    }
    wr_graph_free(g);
    return status;
}

static wr_status run(wr_session *s, wr_program *p, result *r, wr_error *err) {
    float x[ROWS * WIDTH];
    double lr = 0.01, scale = 1;
    for (int i = 0; i < ROWS * WIDTH; i++)
        x[i] = (float)(i % 11) / 11.0f - 0.4f;
    const wr_feed feeds[3] = {{.name = "x", .data = x, .rank = 2, .dim = {ROWS, WIDTH}},
                              {.name = WR_OPTIM_LR, .data = &lr},
                              {.name = WR_OPTIM_SCALE, .data = &scale}};
    wr_status status = wr_session_run(s, p, 3, feeds, err);
    if (status != WR_OK) return status;
    r->loss = ((const float *)wr_session_output(s, 0)->data)[0];
    return wr_session_read(s, wr_session_find(s, "layer1.W"), r->weight, err);
}

/* The whole work. A run that fails for want of memory is tried once more, without failures. */
static wr_status work(result *r, wr_error *err, bool *again) {
    wr_session_options o = {.threads = 2, .seed = 4};
    wr_program *p = NULL;
    wr_session *s = NULL;
    wr_status status = build_program(&p, err);
    if (status == WR_OK) status = wr_session_new(&o, &s, err);
    if (status == WR_OK) {
        status = run(s, p, r, err);
        if (status == WR_ERR_MEMORY) {
            wr_error second = {0};
            wr_test_fail_allocation(0);
            *again = true;
            if (run(s, p, r, &second) != WR_OK) {
                print_error("the second run: %s\n", second.text);
                status = WR_ERR_LIBRARY;
            }
        }
    }
    wr_session_free(s);
    wr_program_free(p);
    return status;
}

static void check_attempt(long n, const result *expected, bool *done) {
    result r = {0};
    wr_error err = {0};
    bool again = false;
    wr_test_watch_allocations();
    wr_test_fail_allocation(n);
    wr_status status = work(&r, &err, &again);
    *done = !wr_test_allocation_failed() && !again;
    long unfreed = wr_test_unfreed_allocations();
    if (unfreed != 0) fail_msg("allocation %ld failed: %ld blocks are left", n, unfreed);
    if (status != WR_OK && status != WR_ERR_MEMORY)
        fail_msg("allocation %ld failed: status %d, \"%s\"", n, (int)status, err.text);
    if (status == WR_ERR_MEMORY && strstr(err.text, "memory") == NULL)
        fail_msg("allocation %ld failed: the message is \"%s\"", n, err.text);
    if (*done) assert_int_equal(status, WR_OK);
    bool same = r.loss == expected->loss;
    for (int i = 0; i < WIDTH * WIDTH; i++)
        same = same && r.weight[i] == expected->weight[i];
    if ((status == WR_OK || again) && !same)
        fail_msg("allocation %ld failed: the result is another (%s)", n, err.text);
}

static void test_every_allocation(void **state) {
    result expected = {0};
    wr_error err = {0};
    bool again = false, done = false;
    long n = 0;
    (void)state;
    if (work(&expected, &err, &again) != WR_OK) fail_msg("%s", err.text);
    while (!done && n < MOST)
        check_attempt(++n, &expected, &done);
    print_message("%ld allocations, each failed once\n", n - 1);
    assert_true(done && n > 100);
}

/* Gradients of gradients, through the expansions of fused rows. */
static wr_status build_second_order(wr_error *err) {
    wr_program *p = NULL;
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", 0);
    wr loss = build_loss(g), first[2], second[2];
    wr W[2] = {wr_param(g, "layer0.W", WR_F32, WR_DIMS(wr_n(WIDTH), wr_n(WIDTH)), (wr_init){0}),
               wr_param(g, "layer1.b", WR_F32, WR_DIMS(wr_n(WIDTH)), (wr_init){0})};
    wr_grad(loss, 2, W, first);
    wr sharpness = wr_add(wr_sum_all(wr_square(first[0])), wr_sum_all(wr_square(first[1])));
    wr_grad(sharpness, 2, W, second);
    wr_status status = wr_program_new(g, 2, second, wr_standard_passes(), &p, err);
    wr_program_free(p);
    wr_graph_free(g);
    return status;
}

static void test_second_order(void **state) {
    long n = 0;
    bool done = false;
    (void)state;
    while (!done && n < MOST) {
        wr_error err = {0};
        wr_test_watch_allocations();
        wr_test_fail_allocation(++n);
        wr_status status = build_second_order(&err);
        done = !wr_test_allocation_failed();
        assert_int_equal(wr_test_unfreed_allocations(), 0);
        if (status != (done ? WR_OK : WR_ERR_MEMORY))
            fail_msg("allocation %ld failed: status %d, \"%s\"", n, (int)status, err.text);
    }
    print_message("%ld allocations, each failed once\n", n - 1);
    assert_true(done && n > 100);
}

/* The watch itself sees a block that is left. */
static void test_watch(void **state) {
    (void)state;
    wr_test_watch_allocations();
    wr_graph *g = wr_graph_new();
    wr_sym(g, "B", 1, 2, 1);
    assert_true(wr_test_unfreed_allocations() > 0);
    wr_graph_free(g);
    wr_test_watch_allocations();
    g = wr_graph_new();
    wr_graph_free(g);
    assert_int_equal(wr_test_unfreed_allocations(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_every_allocation),
        cmocka_unit_test(test_second_order),
    };
    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
