/* test_trap.c: a session that traps names the first row that made a NaN, and lets legal infinities
 * pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "autodiff/invert.h"
#include "graph/session.h"
#include "helpers/alloc.h"
#include "ops/elementwise.h"
#include "ops/fuse.h"
#include "ops/layout.h"
#include "ops/reduce.h"
#include "ops/scan.h"
#include "ops/slice.h"
#include "ops/softmax.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const float MIXED[4] = {-2, -0.5F, 0, 3}; /* what "x" is fed with */

/* Run the outputs once; `trap` off or on. */
static wr_status run(wr_graph *g, int n, const wr *outputs, bool trap, const float *x,
                     wr_error *err) {
    wr_session_options o = {.threads = 2, .trap_nan = trap};
    wr_session *s = NULL;
    wr_program *p = NULL;
    wr_feed feed = {.name = "x", .data = x, .rank = 1, .dim = {4}};
    wr_status status = wr_program_new(g, n, outputs, wr_standard_passes(), &p, err);
    if (status == WR_OK) status = wr_session_new(&o, &s, err);
    if (status == WR_OK) status = wr_session_run(s, p, 1, &feed, err);
    if (status == WR_OK) status = wr_session_run(s, p, 1, &feed, err); /* and by its plan */
    if (s != NULL) wr_session_forget(s, p);
    wr_program_free(p);
    wr_session_free(s);
    return status;
}

static wr input(wr_graph *g) { return wr_input(g, "x", WR_F32, WR_DIMS(wr_n(4))); }

/* The trapped run says this, with "@" for tests/test_trap.c:`line`; untrapped it works. Lines with
 * the chain of callers are left out. */
static void check(wr_graph *g, int n, const wr *outputs, int line, const char *expected) {
    wr_error err = {0};
    wr_str full = {0}, got = {0};
    assert_int_equal(run(g, n, outputs, false, MIXED, &err), WR_OK);
    wr_status status = run(g, n, outputs, true, MIXED, &err);
    for (const char *c = expected; *c != '\0'; c++) {
        if (*c == '@')
            wr_str_add(&full, "%s:%d", __FILE__, line);
        else
            wr_str_bytes(&full, c, 1);
    }
    for (const char *c = err.text; *c != '\0';) {
        size_t all = strcspn(c, "\n");
        if (strstr(c, "called from ") != c + 2) wr_str_add(&got, "%.*s\n", (int)all, c);
        c += all + (c[all] == '\n');
    }
    assert_string_equal(wr_str_text(&got), wr_str_text(&full));
    assert_int_equal(status, expected[0] == '\0' ? WR_OK : WR_ERR_INPUT);
    wr_str_free(&full);
    wr_str_free(&got);
    wr_graph_free(g);
}

/* ---- NaN ---- */

/* In the middle of what is joined to a chain, and where the buffer of an operand is taken. */
static void test_forward(void **state) {
    wr_graph *g = wr_graph_new();
    wr x = input(g), y, loss;
    int line = __LINE__ + 4;
    (void)state;
    WR_SCOPE (g, "prior") {
        WR_SCOPE (g, "step%d", 2) {
            y = wr_scale(x, 2), y = wr_named(wr_log(y), "log_s"), y = wr_shift(y, 1);
            y = wr_mul(y, x);
        }
    }
    loss = wr_sum_all(wr_tanh(y));
    check(g, 1, &loss, line,
          "@ in test_forward(): log: 2 of 4 results are NaN (step 2 of 6)\n"
          "  result \"prior.step2.log_s\"  f32 [4]  from @ log: 1.79176 to 1.79176, 2 NaN, 1 Inf\n"
          "  a \"prior.step2.scale\"  f32 [4]  from @ scale: -4 to 6, 0 NaN, 0 Inf\n"
          "  in scope prior.step2\n"
          "  hint: a function outside its domain (log or sqrt of a negative number), or 0 / 0\n");
}

/* A row whose gradient is wrong: it takes the log of its operand. */
static bool planted_shape(wr_shape_ctx *c) {
    c->out[0] = wr_type_of(c->in[0]);
    return true;
}
static wr_status planted_cpu(const wr_call *c) {
    for (int64_t i = 0; i < c->out[0].n; i++)
        ((float *)c->out[0].data)[i] = ((const float *)c->in[0].data)[i] * 2;
    return WR_OK;
}
static bool planted_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, wr_mul(c->cot[0], wr_log(c->in[0])));
}
static const wr_op PLANTED = {.name = "planted",
                              .doc = "twice its operand",
                              .n_in = 1,
                              .shape = planted_shape,
                              .cpu = planted_cpu,
                              .grad = planted_grad};

enum { COUPLING = __LINE__ + 5 };
static wr __attribute__((noinline)) coupling(wr x) {
    wr c[2];
    wr_split(x, -1, 2, c);
    wr_graph *g = x.g;
    wr moved = wr_emit(WR_HERE, &PLANTED, 1, &c[0], NULL);
    (void)g;
    return wr_concat(-1, c[0], wr_add(c[1], moved));
}

/* In the backward part of a flow: the log stands at the line of what it is the gradient of. */
static void test_backward(void **state) {
    wr_graph *g = wr_graph_new();
    wr x = input(g), y = x, outputs[2];
    (void)state;
    for (int i = 0; i < 2; i++)
        WR_SCOPE (g, "prior.step%d", i)
            y = coupling(y);
    outputs[0] = wr_sum_all(wr_square(y));
    assert_true(wr_grad(outputs[0], 1, &x, &outputs[1]));
    wr_error err = {0};
    assert_int_equal(run(g, 2, outputs, true, MIXED, &err), WR_ERR_INPUT);
    char head[200], result[200];
    snprintf(head, sizeof head, "%s:%d in coupling(): log: 2 of 2 results are NaN in the gradient",
             __FILE__, COUPLING);
    snprintf(result, sizeof result,
             "  result \"prior.step1.log\"  f32 [2]  from %s:%d log: ", __FILE__, COUPLING);
    assert_ptr_equal(strstr(err.text, head), err.text);
    assert_non_null(strstr(err.text, result));
    assert_non_null(strstr(err.text, "\n  a \"prior.step1.split_2\"  f32 [2]  from "));
    assert_non_null(strstr(err.text, ": -2 to -0.5, 0 NaN, 0 Inf\n"));
    assert_non_null(strstr(err.text, "  backward of \"prior.step1.planted\"  f32 [2]  from "));
    assert_non_null(strstr(err.text, "\n  in scope prior.step1\n"));
    wr_graph_free(g);
}

/* In the derived inverse of a flow: it takes the log of what the forward direction made by exp. */
static void test_inverse(void **state) {
    wr_graph *g = wr_graph_new();
    wr z = input(g), x, y = z;
    int line = __LINE__ + 3;
    (void)state;
    WR_SCOPE (g, "prior")
        y = wr_exp(z);
    wr_bijection f = {.n_in = 1, .ins = &z, .n_out = 1, .outs = &y};
    wr below = wr_sub(z, wr_scalar(g, WR_F32, 1)); /* reaches -3 */
    assert_true(wr_invert(&f, &below, &x, NULL));
    wr_error err = {0};
    char head[200];
    wr both[2] = {x, y};
    assert_int_equal(run(g, 2, both, true, MIXED, &err), WR_ERR_INPUT);
    snprintf(head, sizeof head,
             "%s:%d in test_inverse(): log: 3 of 4 results are NaN in the inverse of this line",
             __FILE__, line);
    assert_ptr_equal(strstr(err.text, head), err.text);
    assert_non_null(strstr(err.text, "f32 [4]  from "));
    assert_non_null(strstr(err.text, ": -3 to 2, 0 NaN, 0 Inf\n"));
    assert_non_null(strstr(err.text, "  inverse of \"prior.exp\"  f32 [4]  from "));
    assert_non_null(strstr(err.text, "\n  in scope prior\n"));
    wr_graph_free(g);
}

/* What came in, before any row ran. */
static void test_sources(void **state) {
    static const float bad[4] = {1, NAN, 2, INFINITY}, infinite[4] = {1, 2, -INFINITY, 3};
    wr_graph *g = wr_graph_new();
    wr_error err = {0};
    char expected[300];
    (void)state;
    int line = __LINE__ + 1;
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(4)));
    wr y = wr_neg(x), w = wr_param(g, "w", WR_F32, WR_DIMS(wr_n(4)),
                                   ((wr_init){WR_INIT_CONSTANT, (double)NAN, 0}));
    assert_int_equal(run(g, 1, &y, true, bad, &err), WR_ERR_INPUT);
    snprintf(expected, sizeof expected,
             "%s:%d in test_sources(): input: \"x\" was fed with NaN before any row ran\n"
             "  \"x\"  f32 [4]  from %s:%d input: 1 to 2, 1 NaN, 1 Inf\n",
             __FILE__, line, __FILE__, line);
    assert_ptr_equal(strstr(err.text, expected), err.text);
    err = (wr_error){0};
    assert_int_equal(run(g, 1, &y, true, infinite, &err), WR_OK);
    y = wr_add(y, w);
    assert_int_equal(run(g, 1, &y, true, infinite, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "parameter: \"w\" holds NaN before any row ran"));
    wr_graph_free(g);
}

enum { BODY = __LINE__ + 2 };
static bool body(wr_scan_step *s) {
    s->next[0] = wr_log(s->carry[0]);
    s->out[0] = wr_neg(s->next[0]);
    return true;
}

/* In the body of a loop: the row in it, and the loop. */
static void test_loop(void **state) {
    wr_graph *g = wr_graph_new();
    wr x = input(g), first = wr_scalar(g, WR_F32, 2), last, out;
    (void)state;
    wr_scan_spec spec = {
        .body = body, .n_carry = 1, .carry = &first, .n_step = 1, .step = &x, .n_out = 1};
    assert_true(wr_scan(&spec, &last, &out, NULL));
    wr_error err = {0};
    wr both[2] = {last, out};
    assert_int_equal(run(g, 2, both, false, MIXED, &err), WR_OK);
    assert_int_equal(run(g, 2, both, true, MIXED, &err), WR_ERR_INPUT);
    char head[200];
    snprintf(head, sizeof head, "%s:%d in body(): log: 1 of 1 results are NaN", __FILE__, BODY);
    assert_ptr_equal(strstr(err.text, head), err.text);
    assert_non_null(strstr(err.text, "\n  in \"scan\"  f32 [4]  from "));
    wr_graph_free(g);
}

/* ---- infinities ---- */

/* The log of 0 in the branch that a select does not take, and a mask of -inf. */
static void test_legal_infinities(void **state) {
    static const float mask[4] = {0, -INFINITY, 0, -INFINITY};
    wr_graph *g = wr_graph_new();
    wr x = input(g), zero = wr_zeros_like(x);
    (void)state;
    int64_t four = 4;
    wr large = wr_less(zero, x);
    wr log_x = wr_select(large, wr_log(wr_maximum(x, zero)), zero);
    wr weight = wr_softmax(wr_add(x, wr_const(g, WR_F32, 1, &four, mask)));
    wr outputs[2] = {wr_sum_all(wr_mul(log_x, weight)), wr_log(wr_maximum(x, zero))};
    check(g, 2, outputs, 0, "");
}

static void test_infinite_loss(void **state) {
    wr_graph *g = wr_graph_new();
    wr x = input(g);
    (void)state;
    int line = __LINE__ + 1;
    wr loss = wr_neg(wr_sum_all(wr_log(wr_square(x))));
    check(g, 1, &loss, line,
          "@ in test_infinite_loss(): log: made an infinity that reached output 0 of the program\n"
          "  first \"log\"  f32 [4]  from @ log\n"
          "  output \"neg\"  f32 []  from @ neg: no finite number, 0 NaN, 1 Inf, first in \"log\"  "
          "f32 [4]  from @ log\n"
          "  hint: log(0), x / 0, exp of a large number\n");
}

/* A NaN made of an infinity names where that came from. */
static void test_infinity_becomes_nan(void **state) {
    wr_graph *g = wr_graph_new();
    wr x = input(g);
    (void)state;
    int line = __LINE__ + 1;
    wr y = wr_mul(wr_named(wr_reciprocal(x), "r"), wr_maximum(x, wr_zeros_like(x)));
    check(g, 1, &y, line,
          "@ in test_infinity_becomes_nan(): mul: 1 of 4 results are NaN (step 4 of 4)\n"
          "  result \"mul\"  f32 [4]  from @ mul: -0 to 1, 1 NaN, 0 Inf\n"
          "  a \"r\"  f32 [4]  from @ reciprocal: -2 to 0.333333, 0 NaN, 1 Inf\n"
          "  b \"maximum\"  f32 [4]  from @ maximum: 0 to 3, 0 NaN, 0 Inf\n"
          "  hint: an operand is infinite: inf - inf, 0 * inf and inf / inf are NaN\n");
}

/* ---- memory ---- */

/* Each allocation fails once: an error, never a crash or a lost block. */
static void test_no_memory(void **state) {
    (void)state;
    for (long n = 1;; n++) {
        wr_graph *g = wr_graph_new();
        wr x = input(g), y = wr_sum_all(wr_tanh(wr_scale(x, 2)));
        wr_error err = {0};
        wr_test_fail_allocation(n);
        wr_status status = run(g, 1, &y, true, MIXED, &err);
        bool failed = wr_test_allocation_failed();
        wr_test_fail_allocation(0);
        wr_graph_free(g);
        /* statistics of a plan do without */
        assert_true(status == WR_OK || (failed && status == WR_ERR_MEMORY));
        if (!failed) break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),       cmocka_unit_test(test_backward),
        cmocka_unit_test(test_inverse),       cmocka_unit_test(test_sources),
        cmocka_unit_test(test_loop),          cmocka_unit_test(test_legal_infinities),
        cmocka_unit_test(test_infinite_loss), cmocka_unit_test(test_infinity_becomes_nan),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("trap", tests, NULL, NULL);
}
