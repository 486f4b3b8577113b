/* test_attention_fuse.c: attention over parts of one product reads them where they lie; the values
 * stay the same to the last bit, and parts that somebody else needs stay apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "helpers/alloc.h"
#include "helpers/sample.h"
#include "ops/attention.h"
#include "ops/attention_fuse.h"
#include "ops/elementwise.h"
#include "ops/fuse.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/slice.h"

#include <string.h>

enum { B = 3, T = 13, S = 9, D = 8 };

typedef enum form {
    QKV,           /* parts of one tensor, in order */
    KV,            /* queries apart */
    SWAPPED,       /* v before k: not as the row has them */
    PARTS_FETCHED, /* the gradient of k is an output */
    FORMS
} form;

typedef struct expected {
    int joined, joined_grad, attention, attention_grad, split, concat;
} expected;

static const expected EXPECTED[FORMS] = {
    [QKV] = {1, 1, 0, 0, 0, 0},
    [KV] = {1, 1, 0, 0, 0, 0},
    [SWAPPED] = {0, 0, 1, 1, 1, 1},
    [PARTS_FETCHED] = {1, 0, 0, 1, 1, 1},
};

typedef struct attended {
    test_case t;
    wr output[6];
    int n;
} attended;

static void build(attended *a, form f, double dropout) {
    test_case_begin(&a->t, WR_F32, 11, 0);
    wr_attention_options o = {.heads = 2, .dropout = dropout, .causal = f == QKV};
    int64_t at_t[3] = {B, T, D}, at_s[3] = {B, S, D}, w[2] = {D, 3 * D}, batch = B;
    wr x = test_case_input(&a->t, WR_FILL_REAL, 0, 3, at_t), part[3];
    wr memory = test_case_input(&a->t, WR_FILL_REAL, 0, 3, f == KV ? at_s : at_t);
    wr len = test_case_input(&a->t, WR_FILL_LENGTH, f == KV ? S : T - 1, 1, &batch);
    if (f == KV) w[1] = 2 * D;
    wr weight = test_case_input(&a->t, WR_FILL_REAL, 0, 2, w), made = wr_matmul(memory, weight);
    if (f == KV) {
        part[0] = x;
        wr_split(made, -1, 2, part + 1);
    } else {
        wr_split(made, -1, 3, part);
    }
    wr y = f == SWAPPED ? wr_attention_with(part[0], part[2], part[1], &len, &o)
                        : wr_attention_with(part[0], part[1], part[2], &len, &o);
    wr loss = wr_sum_all(wr_mul(wr_square(y), x));
    wr wrt[4] = {x, memory, weight, part[1]};
    a->n = f == PARTS_FETCHED ? 6 : 5;
    a->output[0] = loss;
    a->output[1] = y;
    assert_true(wr_grad(loss, a->n - 2, wrt, a->output + 2));
}

static int count(const test_program *p, const char *name) {
    const wr_graph *g = wr_program_graph(p->program);
    const bool *live = wr_program_live(p->program);
    int n = 0;
    for (uint32_t id = 1; id < wr_node_count(g); id++)
        n += live[id] && strcmp(wr_node_at(g, id)->op->name, name) == 0;
    return n;
}

static void check(form f, double dropout, int threads) {
    static const wr_pass *const passes[] = {&wr_pass_attention, NULL};
    attended a;
    test_program plain, fused, standard;
    build(&a, f, dropout);
    test_program_open(&plain, &a.t, a.n, a.output, NULL, 1);
    test_program_open(&fused, &a.t, a.n, a.output, passes, threads);
    test_program_open(&standard, &a.t, a.n, a.output, wr_standard_passes(), threads);
    test_program_run(&plain, &a.t);
    test_program_run(&fused, &a.t);
    test_program_run(&standard, &a.t);
    for (int k = 0; k < a.n; k++)
        if (!test_same_bits(test_program_output(&plain, k), test_program_output(&fused, k)))
            fail_msg("form %d: output %d differs", (int)f, k);
    const expected *e = &EXPECTED[f];
    assert_int_equal(count(&fused, "attention_joined"), e->joined);
    assert_int_equal(count(&fused, "attention_joined_grad"), e->joined_grad);
    assert_int_equal(count(&fused, "attention"), e->attention);
    assert_int_equal(count(&fused, "attention_grad"), e->attention_grad);
    assert_int_equal(count(&fused, "split_3") + count(&fused, "split_2"), e->split);
    assert_int_equal(count(&fused, "concat"), e->concat);
    assert_int_equal(count(&standard, "attention_joined"), e->joined);
    assert_int_equal(count(&standard, "attention_joined_grad"), e->joined_grad);
    test_program_close(&plain);
    test_program_close(&fused);
    test_program_close(&standard);
    test_case_end(&a.t);
}

static void test_forms(void **state) {
    (void)state;
    for (int f = 0; f < FORMS; f++)
        for (int threads = 1; threads < 4; threads++) {
            check((form)f, 0, threads);
            check((form)f, 0.3, threads);
        }
}

static void test_every_allocation(void **state) {
    static const wr_pass *const passes[] = {&wr_pass_attention, NULL};
    attended a;
    bool done = false;
    long n = 0;
    wr_program *p = NULL;
    (void)state;
    build(&a, QKV, 0);
    /* source lines of new nodes are kept with the graph, once */
    assert_int_equal(wr_program_new(a.t.sample.g, a.n, a.output, passes, &p, NULL), WR_OK);
    wr_program_free(p);
    while (!done && n < 2000) {
        wr_error err = {0};
        wr_test_watch_allocations();
        wr_test_fail_allocation(++n);
        wr_status status = wr_program_new(a.t.sample.g, a.n, a.output, passes, &p, &err);
        done = !wr_test_allocation_failed();
        wr_program_free(p);
        assert_int_equal(wr_test_unfreed_allocations(), 0);
        assert_int_equal(status, done ? WR_OK : WR_ERR_MEMORY);
    }
    print_message("%ld allocations, each failed once\n", n - 1);
    assert_true(done && n > 10);
    test_case_end(&a.t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_every_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
