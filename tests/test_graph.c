/* test_graph.c: equal nodes, scopes, poison, names, derivations, copies, recomputation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "helpers/random_graph.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/table.h"

#include <stdlib.h>
#include <string.h>

static wr vector(wr_graph *g, const char *name, int64_t n) {
    return wr_input(g, name, WR_F32, WR_DIMS(wr_n(n)));
}

static void assert_same(wr a, wr b) {
    assert_int_not_equal(a.id, 0);
    assert_int_equal(a.id, b.id);
}

static void assert_other(wr a, wr b) {
    assert_int_not_equal(a.id, 0);
    assert_int_not_equal(b.id, 0);
    assert_int_not_equal(a.id, b.id);
}

/* ---- equal nodes ---- */

static void test_equal_nodes(void **state) {
    wr_graph *g = wr_graph_new();
    wr x = vector(g, "x", 4), y = vector(g, "y", 4);
    (void)state;
    assert_same(wr_add(x, y), wr_add(x, y));
    assert_same(wr_tanh(wr_mul(x, y)), wr_tanh(wr_mul(x, y)));
    assert_other(wr_add(x, y), wr_add(y, x)); /* no algebra when nodes are made */
    assert_other(wr_add(x, y), wr_mul(x, y));
    assert_same(wr_scale(x, 2.0), wr_scale(x, 2.0));
    assert_other(wr_scale(x, 2.0), wr_scale(x, 2.5));
    assert_other(wr_scale(x, 0.0), wr_scale(x, -0.0)); /* they differ in the sign of the result */
    assert_same(wr_scalar(g, WR_F32, 3.0), wr_scalar(g, WR_F32, 3.0));
    assert_other(wr_scalar(g, WR_F32, 3.0), wr_scalar(g, WR_F64, 3.0));
    assert_other(wr_leaf(x), wr_leaf(x));
    wr a = wr_tanh(x), b;
    WR_SCOPE (g, "elsewhere")
        b = wr_tanh(x);
    assert_same(a, b);
    uint32_t before = wr_node_count(g);
    for (int i = 0; i < 100; i++)
        wr_exp(wr_add(x, y));
    assert_int_equal(wr_node_count(g), before + 1);
    assert_true(wr_graph_ok(g));
    wr_graph_free(g);
}

/* Many nodes: the table of equal nodes grows and still finds them all. */
static void test_many_nodes(void **state) {
    wr_graph *g = wr_graph_new();
    wr x = vector(g, "x", 4);
    uint32_t *id = malloc(sizeof *id * 5000);
    (void)state;
    assert_non_null(id);
    for (int i = 0; i < 5000; i++)
        id[i] = wr_scale(x, i).id;
    for (int i = 0; i < 5000; i++)
        assert_int_equal(wr_scale(x, i).id, id[i]);
    assert_int_equal(wr_node_count(g), 5002);
    free(id);
    wr_graph_free(g);
}

/* Every random row: the same sample made twice is two nodes with two streams. */
static void test_random_rows_stay_apart(void **state) {
    int found = 0;
    (void)state;
    for (int i = 0; i < wr_op_count(); i++) {
        const wr_op *op = wr_op_at(i);
        if (!(op->traits & WR_RANDOM) || op->sample == NULL) continue;
        test_case t;
        test_case_begin(&t, WR_F32, 3, 0);
        wr a = op->sample(&t.sample), b = op->sample(&t.sample);
        assert_other(a, b);
        test_case_end(&t);
        found++;
    }
    if (found == 0) skip();
}

static void test_sources_by_name(void **state) {
    wr_graph *g = wr_graph_new();
    wr_init init = {WR_INIT_NORMAL, 0, 1};
    wr W = wr_param(g, "W", WR_F32, WR_DIMS(wr_n(3), wr_n(4)), init), again, inner;
    (void)state;
    assert_same(W, wr_param(g, "W", WR_F32, WR_DIMS(wr_n(3), wr_n(4)), init));
    WR_SCOPE (g, "enc") {
        WR_SCOPE (g, "layer%d", 0) {
            inner = wr_param(g, "W", WR_F32, WR_DIMS(wr_n(3), wr_n(4)), init);
        }
    }
    WR_SCOPE (g, "enc.layer0")
        again = wr_param(g, "W", WR_F32, WR_DIMS(wr_n(3), wr_n(4)), init);
    assert_other(W, inner);
    assert_same(inner, again); /* one full name is one tensor, however the scopes were entered */
    assert_string_equal(wr_source_name(g, W.id), "W");
    assert_string_equal(wr_source_name(g, inner.id), "enc.layer0.W");
    wr state_node = wr_state(g, "W", WR_F32, WR_DIMS(wr_n(3), wr_n(4)), init);
    assert_other(W, state_node);
    assert_true(wr_graph_ok(g));
    wr_graph_free(g);
}

/* ---- scopes ---- */

static wr return_inside(wr_graph *g, wr x, bool early) {
    WR_SCOPE (g, "returns") {
        if (early) return wr_neg(x);
        x = wr_exp(x);
    }
    return wr_neg(x);
}

static const char *scope_of(wr x, wr_str *s) {
    wr_str_clear(s);
    wr_scope_path(x.g, wr_node_at(x.g, x.id)->scope, s);
    return wr_str_text(s);
}

static void test_scopes(void **state) {
    wr_graph *g = wr_graph_new();
    wr x = vector(g, "x", 4);
    wr_str s = {0};
    (void)state;
    assert_string_equal(scope_of(return_inside(g, x, true), &s), "returns");
    assert_string_equal(scope_of(wr_scale(x, 11), &s), "");
    return_inside(g, x, false);
    assert_string_equal(scope_of(wr_scale(x, 12), &s), "");
    for (int i = 0; i < 5; i++) {
        WR_SCOPE (g, "layer%d", i) {
            if (i == 1) break; /* leaves the scope, not the outer loop */
            WR_SCOPE (g, "inner") {
                if (i == 2) continue; /* leaves the inner scope */
                assert_string_equal(scope_of(wr_scale(x, 100 + i), &s), i == 0   ? "layer0.inner"
                                                                        : i == 3 ? "layer3.inner"
                                                                                 : "layer4.inner");
            }
            wr_str expected = {0};
            wr_str_add(&expected, "layer%d", i);
            assert_string_equal(scope_of(wr_scale(x, 200 + i), &s), wr_str_text(&expected));
            wr_str_free(&expected);
        }
        assert_string_equal(scope_of(wr_scale(x, 300 + i), &s), "");
    }
    wr_scope_push(g, "a");
    wr_scope_push(g, "b");
    assert_string_equal(scope_of(wr_scale(x, 400), &s), "a.b");
    wr_scope_pop(g);
    assert_string_equal(scope_of(wr_scale(x, 401), &s), "a");
    wr_scope_pop(g);
    assert_string_equal(scope_of(wr_scale(x, 402), &s), "");
    wr_str_free(&s);
    wr_graph_free(g);
}

static void test_goto_leaves_scope(void **state) {
    wr_graph *g = wr_graph_new();
    wr x = vector(g, "x", 4);
    wr_str s = {0};
    (void)state;
    WR_SCOPE (g, "left") {
        if (!wr_is_poison(x)) goto out;
    }
out:
    assert_string_equal(scope_of(wr_scale(x, 2), &s), "");
    wr_str_free(&s);
    wr_graph_free(g);
}

/* ---- poison ---- */

static void test_poison(void **state) {
    wr_graph *g = wr_graph_new();
    wr x = vector(g, "x", 4), y = vector(g, "y", 5);
    (void)state;
    wr bad = wr_add(x, y);
    assert_true(wr_is_poison(bad));
    assert_int_equal(wr_graph_diagnostics(g), 1);
    uint32_t nodes = wr_node_count(g);
    wr z = wr_sum_all(wr_mul(wr_tanh(bad), wr_matmul(bad, wr_transpose(bad, 0, 1))));
    wr grad, parts = wr_broadcast_like(wr_reshape(bad, WR_DIMS(wr_n(2), wr_n(2))), x);
    assert_true(wr_is_poison(z) && wr_is_poison(parts) && wr_is_poison(wr_mean(bad, 3)));
    assert_true(wr_is_poison(wr_max(bad, 0)) && wr_is_poison(wr_select(x, bad, x)));
    assert_true(wr_is_poison(wr_named(bad, "name")) && wr_is_poison(wr_output(bad, 2)));
    assert_true(wr_is_poison(wr_zeros_like(bad)) && wr_is_poison(wr_leaf(bad)));
    assert_false(wr_grad(z, 1, &x, &grad));
    assert_true(wr_is_poison(grad));
    assert_int_equal(wr_graph_diagnostics(g), 1); /* one mistake, one message */
    assert_int_equal(wr_node_count(g), nodes);
    wr_add(x, vector(g, "z", 6));
    assert_int_equal(wr_graph_diagnostics(g), 2);
    wr_error err = {0};
    wr_program *p;
    assert_int_equal(wr_program_new(g, 1, &x, NULL, &p, &err), WR_ERR_INPUT);
    assert_null(p);
    assert_non_null(strstr(err.text, "4 and 5")); /* compiling prints them all */
    assert_non_null(strstr(err.text, "6"));
    wr_graph_free(g);
}

/* ---- derivations ---- */

/* Nodes of a gradient say which node they come from, and stand where that one stands. */
static void test_origins(void **state) {
    wr_graph *g = wr_graph_new();
    wr x = vector(g, "x", 4), y, grad;
    (void)state;
    WR_SCOPE (g, "layer")
        y = wr_tanh(wr_mul(x, x));
    wr loss = wr_sum_all(y);
    uint32_t before = wr_node_count(g);
    assert_true(wr_grad(loss, 1, &x, &grad));
    int derived = 0, of_tanh = 0;
    for (uint32_t id = before; id < wr_node_count(g); id++) {
        const wr_node *n = wr_node_at(g, id);
        if (n->op->traits & WR_SOURCE) continue;
        assert_int_equal(n->role, WR_GRADIENT);
        assert_in_range(n->origin, 1, before - 1);
        assert_int_equal(n->scope, wr_node_at(g, n->origin)->scope);
        assert_int_equal(n->loc, wr_node_at(g, n->origin)->loc);
        derived++;
        of_tanh += n->origin == y.id;
    }
    assert_true(derived >= 4 && of_tanh >= 2);
    assert_int_equal(wr_node_at(g, y.id)->role, WR_FORWARD);
    assert_int_equal(wr_node_at(g, wr_neg(x).id)->role, WR_FORWARD); /* the mark ends */
    wr_graph_free(g);
}

static void test_gradient_details(void **state) {
    wr_graph *g = wr_graph_new();
    wr x = vector(g, "x", 4), by[3] = {x, vector(g, "unused", 3), x}, grads[3];
    (void)state;
    wr loss = wr_sum_all(wr_square(x));
    assert_true(wr_grad(loss, 3, by, grads));
    assert_same(grads[0], grads[2]);
    assert_int_equal(wr_rank(grads[1]), 1); /* zero, as a tensor of the right size */
    assert_true(wr_dim_same(wr_dim_of(grads[1], 0), wr_n(3)));
    assert_true(wr_grad(loss, 0, NULL, NULL));
    assert_true(wr_grad(loss, 1, &loss, grads)); /* by itself: one */
    assert_int_equal(wr_rank(grads[0]), 0);
    assert_true(wr_graph_ok(g));
    wr_graph_free(g);
}

/* ---- copies ---- */

static const wr_rule NO_RULES[] = {NULL};
static const wr_pass COPY = {.name = "copy", .rules = NO_RULES};

/* A copied graph has the same live nodes, with names, scopes, lines and origins. */
static void test_copy(void **state) {
    (void)state;
    for (int i = 0; i < 50; i++) {
        random_graph r;
        random_options o = {.dtype = WR_F32, .seed = (uint64_t)i, .steps = 30, .symbolic = i % 2};
        random_graph_begin(&r, &o);
        wr_graph *g = r.t.sample.g;
        wr_named(r.output[0], "the loss");
        uint32_t roots[RANDOM_OUTPUTS], again[RANDOM_OUTPUTS];
        for (int k = 0; k < r.n_outputs; k++)
            roots[k] = r.output[k].id;
        wr_graph *copy = wr_pass_run(&COPY, g, r.n_outputs, roots);
        assert_non_null(copy);
        memcpy(again, roots, sizeof again);
        wr_graph *second = wr_pass_run(&COPY, copy, r.n_outputs, again);
        assert_non_null(second);
        assert_int_equal(wr_node_count(second), wr_node_count(copy)); /* nothing dead was left */
        assert_memory_equal(again, roots, sizeof *roots * (size_t)r.n_outputs);
        wr_str a = {0}, b = {0};
        for (int k = 0; k < r.n_outputs; k++) {
            wr_node_describe(g, r.output[k].id, &a);
            wr_node_describe(copy, roots[k], &b);
            const wr_node *x = wr_node_at(g, r.output[k].id), *y = wr_node_at(copy, roots[k]);
            assert_true(x->scope == y->scope && x->role == y->role);
            assert_int_equal(x->origin != 0, y->origin != 0);
            if (x->origin != 0)
                assert_ptr_equal(wr_node_at(g, x->origin)->op, wr_node_at(copy, y->origin)->op);
        }
        assert_string_equal(wr_str_text(&a), wr_str_text(&b));
        wr_str_free(&a);
        wr_str_free(&b);
        wr_graph_free(second);
        random_graph_end(&r); /* the copy stands on its own */
        assert_true(wr_node_count(copy) > 1);
        wr_graph_free(copy);
    }
}

/* ---- recomputation ---- */

/* A stack of layers, each a chain of wide nodes; the loss and the gradients of the weights. */
static void layers(wr_graph *g, bool recompute, wr *outputs) {
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(64), wr_n(32))), W[6];
    for (int i = 0; i < 6; i++) {
        WR_SCOPE (g, "layer%d", i) {
            if (recompute) wr_scope_recompute(g);
            W[i] = wr_param(g, "W", WR_F32, WR_DIMS(wr_n(32), wr_n(32)),
                            (wr_init){WR_INIT_NORMAL, 0, 0.2});
            wr h = wr_gelu(wr_tanh(wr_matmul(x, W[i])));
            x = wr_add(x, wr_sigmoid(wr_mul(h, wr_exp(wr_neg(wr_square(h))))));
        }
    }
    outputs[0] = wr_mean_all(wr_square(x));
    assert_true(wr_grad(outputs[0], 6, W, outputs + 1));
}

static void test_recompute(void **state) {
    test_program p[2];
    float x[64 * 32];
    wr_error err = {0};
    (void)state;
    for (int i = 0; i < 64 * 32; i++)
        x[i] = (float)(i % 37) / 37.0f - 0.5f;
    wr_feed feed = {.name = "x", .data = x, .rank = 2, .dim = {64, 32}};
    for (int again = 0; again < 2; again++) {
        wr_graph *g = wr_graph_new();
        wr_session_options o = {.threads = 1, .seed = 9};
        wr outputs[7];
        layers(g, again == 1, outputs);
        assert_int_equal(wr_program_new(g, 7, outputs, NULL, &p[again].program, &err), WR_OK);
        assert_int_equal(wr_session_new(&o, &p[again].session, &err), WR_OK);
        wr_graph_free(g);
        if (wr_session_run(p[again].session, p[again].program, 1, &feed, &err) != WR_OK)
            fail_msg("%s", err.text);
    }
    for (int k = 0; k < 7; k++)
        assert_true(test_same_bits(test_program_output(&p[0], k), test_program_output(&p[1], k)));
    const wr_plan *kept = wr_session_plan(p[0].session), *made = wr_session_plan(p[1].session);
    print_message("live peak: %zu kept, %zu recomputed; steps %d and %d\n", kept->live_peak,
                  made->live_peak, kept->n_steps, made->n_steps);
    assert_true(made->live_peak * 2 < kept->live_peak);
    assert_true(made->n_steps > kept->n_steps);
    int marked = 0;
    const wr_graph *g = wr_program_graph(p[1].program);
    for (uint32_t id = 1; id < wr_node_count(g); id++)
        marked += wr_node_at(g, id)->role == WR_RECOMPUTED;
    assert_true(marked >= 6 * 4);
    test_program_close(&p[0]);
    test_program_close(&p[1]);
}

/* ---- names ---- */

static void test_names(void **state) {
    wr_graph *g = wr_graph_new();
    wr x = vector(g, "x", 4), y;
    wr_str s = {0};
    (void)state;
    WR_SCOPE (g, "dec")
        y = wr_named(wr_tanh(x), "h%d", 3);
    wr_named(y, "another");
    wr_node_describe(g, y.id, &s);
    assert_non_null(strstr(wr_str_text(&s), "\"dec.h3\"  f32 [4]  from "));
    assert_non_null(strstr(wr_str_text(&s), "test_graph.c:"));
    assert_non_null(strstr(wr_str_text(&s), " tanh"));
    wr_str_free(&s);
    assert_int_equal(wr_rank((wr){g, 0}), 0);
    assert_int_equal(wr_dim_of(y, 7).id, 0);
    assert_int_equal(wr_dim_of(y, -1).id, wr_n(4).id);
    wr_graph_free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_nodes),
        cmocka_unit_test(test_many_nodes),
        cmocka_unit_test(test_random_rows_stay_apart),
        cmocka_unit_test(test_sources_by_name),
        cmocka_unit_test(test_scopes),
        cmocka_unit_test(test_goto_leaves_scope),
        cmocka_unit_test(test_poison),
        cmocka_unit_test(test_origins),
        cmocka_unit_test(test_gradient_details),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_recompute),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests_name("graph", tests, NULL, NULL);
}
