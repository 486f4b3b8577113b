/* test_dims.c: symbolic sizes against direct evaluation; canonical ids; divisibility; printing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "graph/dims.h"
#include "graph/graph.h"
#include "graph/op.h"

#include <string.h>

enum { TRIALS = 20000, SYMBOLS = 3 };

static const wr_symbol SYMBOL[SYMBOLS] = {{"B", 1, 64, 1}, {"T", 4, 128, 4}, {"S", 6, 60, 6}};

typedef struct fixture {
    wr_dims *t;
    wr_dim sym[SYMBOLS];
    wr_sample rng;
} fixture;

static fixture begin(uint64_t seed) {
    fixture f = {.t = wr_dims_new(), .rng = {.rng = seed}};
    assert_non_null(f.t);
    for (int i = 0; i < SYMBOLS; i++) {
        f.sym[i] = wr_dims_symbol(f.t, SYMBOL[i].name, SYMBOL[i].min, SYMBOL[i].max,
                                  SYMBOL[i].multiple_of);
        assert_int_not_equal(f.sym[i].id, 0);
    }
    return f;
}

static wr_binding random_binding(fixture *f) {
    wr_binding b = {{0}};
    for (int i = 0; i < SYMBOLS; i++) {
        int64_t m = SYMBOL[i].multiple_of;
        b.value[i] = m * wr_sample_int(&f->rng, (SYMBOL[i].min + m - 1) / m, SYMBOL[i].max / m);
    }
    return b;
}

static const char *print(const fixture *f, wr_dim d, wr_str *s) {
    wr_str_clear(s);
    wr_dims_print(f->t, d, s);
    return wr_str_text(s);
}

/* ---- random expressions ---- */

/* An expression with its value under one binding, by plain arithmetic. */
typedef struct pair {
    wr_dim dim;
    int64_t value;
} pair;

static pair random_leaf(fixture *f, const wr_binding *b) {
    int64_t k = wr_sample_int(&f->rng, 0, SYMBOLS + 1);
    if (k < SYMBOLS) return (pair){f->sym[k], b->value[k]};
    int64_t n = wr_sample_int(&f->rng, 0, 6);
    return (pair){wr_n(n), n};
}

/* Combine; the null dim (an expression without room, or a fraction) stays null. */
static pair combine(fixture *f, pair x, pair y, int op) {
    switch (op) {
    case 0:
        return (pair){wr_dims_add(f->t, x.dim, y.dim), x.value + y.value};
    case 1:
        return (pair){wr_dims_sub(f->t, x.dim, y.dim), x.value - y.value};
    case 2:
        return (pair){wr_dims_mul(f->t, x.dim, y.dim), x.value * y.value};
    default: {
        pair z = {wr_dims_div(f->t, x.dim, y.dim), 0};
        if (z.dim.id == 0) return z;
        assert_int_not_equal(y.value, 0);
        assert_int_equal(x.value % y.value, 0); /* only whole quotients are given out */
        z.value = x.value / y.value;
        return z;
    }
    }
}

/* A small random expression; `op` bits decide, so that the same can be built again. */
static pair random_expression(fixture *f, const wr_binding *b, int depth) {
    if (depth == 0) return random_leaf(f, b);
    pair x = random_expression(f, b, depth - 1);
    pair y = random_expression(f, b, depth - 1);
    return combine(f, x, y, (int)wr_sample_int(&f->rng, 0, 3));
}

static void test_random_expressions(void **state) {
    fixture f = begin(1);
    int whole = 0;
    (void)state;
    for (int i = 0; i < TRIALS; i++) {
        wr_binding b = random_binding(&f);
        pair x = random_expression(&f, &b, 1 + i % 3);
        if (x.dim.id == 0) continue;
        whole++;
        if (x.value >= 0) { /* a size; a negative literal is never one */
            assert_int_equal(wr_dims_eval(f.t, x.dim, &b), x.value);
        }
        int64_t low, high;
        wr_dims_range(f.t, x.dim, &low, &high);
        if (x.value < low || x.value > high) {
            wr_str s = {0};
            fail_msg("%s = %lld is not in its range %lld to %lld", print(&f, x.dim, &s),
                     (long long)x.value, (long long)low, (long long)high);
        }
    }
    print_message("%d of %d expressions are sizes\n", whole, TRIALS);
    assert_true(whole > TRIALS / 3);
    wr_dims_free(f.t);
}

/* Equal expressions have equal ids: sums and products in any order, distributed or not. */
static void test_canonical(void **state) {
    fixture f = begin(2);
    int compared = 0;
    (void)state;
    for (int i = 0; i < TRIALS; i++) {
        wr_binding b = random_binding(&f);
        pair x = random_expression(&f, &b, 1), y = random_expression(&f, &b, 1),
             z = random_leaf(&f, &b);
        wr_dim xy = wr_dims_add(f.t, x.dim, y.dim), yx = wr_dims_add(f.t, y.dim, x.dim);
        wr_dim left = wr_dims_mul(f.t, z.dim, xy);
        wr_dim right =
            wr_dims_add(f.t, wr_dims_mul(f.t, z.dim, x.dim), wr_dims_mul(f.t, y.dim, z.dim));
        assert_int_equal(xy.id, yx.id);
        if (left.id != 0 && right.id != 0) {
            assert_int_equal(left.id, right.id);
            compared++;
        }
        wr_dim back = wr_dims_sub(f.t, xy, y.dim);
        if (xy.id != 0 && x.dim.id != 0) assert_int_equal(back.id, x.dim.id);
    }
    assert_true(compared > TRIALS / 4);
    wr_dims_free(f.t);
}

/* Different ids of sizes mean different values somewhere. */
static void test_different_ids_differ(void **state) {
    fixture f = begin(3);
    (void)state;
    for (int i = 0; i < TRIALS / 10; i++) {
        wr_binding b = random_binding(&f);
        pair x = random_expression(&f, &b, 2), y = random_expression(&f, &b, 2);
        if (x.dim.id == 0 || y.dim.id == 0 || x.dim.id == y.dim.id) continue;
        bool differ = false;
        for (int k = 0; k < 200 && !differ; k++) {
            wr_binding at = random_binding(&f);
            differ = wr_dims_eval(f.t, x.dim, &at) != wr_dims_eval(f.t, y.dim, &at);
        }
        wr_str s = {0}, s2 = {0};
        if (!differ)
            fail_msg("%s and %s never differ", print(&f, x.dim, &s), print(&f, y.dim, &s2));
    }
    wr_dims_free(f.t);
}

/* ---- cases by hand ---- */

static void test_divisibility(void **state) {
    fixture f = begin(4);
    wr_dim B = f.sym[0], T = f.sym[1], S = f.sym[2], BT = wr_dims_mul(f.t, B, T);
    (void)state;
    assert_int_not_equal(wr_dims_div(f.t, T, wr_n(4)).id, 0);
    assert_int_not_equal(wr_dims_div(f.t, T, wr_n(2)).id, 0);
    assert_int_equal(wr_dims_div(f.t, T, wr_n(8)).id, 0);
    assert_int_equal(wr_dims_div(f.t, T, wr_n(3)).id, 0);
    assert_int_equal(wr_dims_div(f.t, B, wr_n(2)).id, 0);
    assert_int_not_equal(wr_dims_div(f.t, S, wr_n(3)).id, 0);
    assert_int_equal(wr_dims_div(f.t, BT, B).id, T.id);
    assert_int_equal(wr_dims_div(f.t, BT, T).id, B.id);
    assert_int_equal(wr_dims_div(f.t, T, B).id, 0);
    assert_int_equal(wr_dims_div(f.t, T, wr_n(0)).id, 0);
    assert_int_equal(wr_dims_div(f.t, wr_n(0), wr_n(0)).id, 0);
    assert_int_equal(wr_dims_div(f.t, BT, BT).id, wr_n(1).id);
    wr_dim half = wr_dims_div(f.t, T, wr_n(2));
    assert_int_equal(wr_dims_add(f.t, half, half).id, T.id);
    assert_int_equal(wr_dims_mul(f.t, half, wr_n(2)).id, T.id);
    /* a product of multiples has the product's divisor: T S is a multiple of 24 */
    assert_int_not_equal(wr_dims_div(f.t, wr_dims_mul(f.t, T, S), wr_n(24)).id, 0);
    assert_int_equal(wr_dims_div(f.t, wr_dims_mul(f.t, T, S), wr_n(48)).id, 0);
    wr_dims_free(f.t);
}

static void test_limits(void **state) {
    fixture f = begin(5);
    wr_dim B = f.sym[0], T = f.sym[1], none = {0};
    (void)state;
    assert_int_equal(wr_dims_add(f.t, none, B).id, 0);
    assert_int_equal(wr_dims_mul(f.t, B, none).id, 0);
    assert_int_equal(wr_dims_sub(f.t, wr_n(3), wr_n(5)).id, 0); /* a negative size */
    assert_int_equal(wr_dims_sub(f.t, T, T).id, wr_n(0).id);
    wr_dim power = B;
    for (int i = 0; i < 3; i++)
        power = wr_dims_mul(f.t, power, B);
    assert_int_not_equal(power.id, 0);                                      /* four factors */
    assert_int_equal(wr_dims_mul(f.t, power, B).id, 0);                     /* five have no room */
    assert_int_equal(wr_dims_mul(f.t, wr_n(1 << 20), wr_n(1 << 20)).id, 0); /* too large */
    wr_dim large = B; /* coefficients that no longer fit are refused, not wrapped */
    for (int i = 0; i < 2; i++)
        large = wr_dims_mul(f.t, large, wr_n(1 << 30));
    assert_int_not_equal(large.id, 0);
    assert_int_equal(wr_dims_mul(f.t, large, wr_n(1 << 30)).id, 0);
    wr_binding unbound = {{0}};
    assert_int_equal(wr_dims_eval(f.t, B, &unbound), -1);
    assert_int_equal(wr_dims_eval(f.t, wr_n(7), &unbound), 7);
    assert_int_equal(wr_dims_eval(f.t, none, &unbound), -1);
    wr_dims_free(f.t);
}

static void test_symbols(void **state) {
    fixture f = begin(6);
    (void)state;
    assert_int_equal(wr_dims_symbol(f.t, "B", 1, 64, 1).id, f.sym[0].id); /* the same again */
    assert_int_equal(wr_dims_symbol(f.t, "B", 1, 65, 1).id, 0);           /* another range */
    assert_int_equal(wr_dims_symbol(f.t, "X", 5, 4, 1).id, 0);            /* an empty range */
    assert_int_equal(wr_dims_symbol(f.t, "X", -1, 4, 1).id, 0);
    assert_int_equal(wr_dims_symbol(f.t, "X", 1, 4, 0).id, 0);
    assert_int_equal(wr_dims_symbol(f.t, "a name longer than the field", 1, 4, 1).id, 0);
    for (int i = SYMBOLS; i < WR_MAX_SYMBOLS; i++) {
        char name[2] = {(char)('a' + i), '\0'};
        assert_int_not_equal(wr_dims_symbol(f.t, name, 1, 4, 1).id, 0);
    }
    assert_int_equal(wr_dims_symbol(f.t, "Z", 1, 4, 1).id, 0); /* no room */
    assert_int_equal(wr_dims_symbol_count(f.t), WR_MAX_SYMBOLS);
    assert_int_equal(wr_dims_symbol_of(f.t, f.sym[1]), 1);
    assert_int_equal(wr_dims_symbol_of(f.t, wr_n(4)), -1);
    assert_int_equal(wr_dims_symbol_of(f.t, wr_dims_mul(f.t, wr_n(2), f.sym[1])), -1);
    assert_string_equal(wr_dims_symbol_at(f.t, 2)->name, "S");
    wr_dims_free(f.t);
}

static void test_printing(void **state) {
    fixture f = begin(7);
    wr_dim B = f.sym[0], T = f.sym[1];
    wr_str s = {0};
    (void)state;
    assert_string_equal(print(&f, wr_n(512), &s), "512");
    assert_string_equal(print(&f, wr_n(0), &s), "0");
    assert_string_equal(print(&f, B, &s), "B");
    assert_string_equal(print(&f, wr_dims_div(f.t, T, wr_n(2)), &s), "T/2");
    assert_string_equal(print(&f, wr_dims_mul(f.t, wr_n(3), wr_dims_div(f.t, T, wr_n(2))), &s),
                        "3*T/2");
    assert_string_equal(print(&f, wr_dims_mul(f.t, T, B), &s), "B*T");
    assert_string_equal(print(&f, wr_dims_add(f.t, wr_n(1), wr_dims_mul(f.t, B, T)), &s),
                        "B*T + 1");
    assert_string_equal(print(&f, wr_dims_sub(f.t, wr_dims_mul(f.t, wr_n(2), T), B), &s),
                        "-B + 2*T");
    assert_string_equal(print(&f, (wr_dim){0}, &s), "?");
    wr_str_free(&s);
    wr_dims_free(f.t);
}

static void test_ranges(void **state) {
    fixture f = begin(8);
    wr_dim B = f.sym[0], T = f.sym[1];
    int64_t low, high;
    (void)state;
    wr_dims_range(f.t, wr_n(9), &low, &high);
    assert_int_equal(low, 9);
    assert_int_equal(high, 9);
    wr_dims_range(f.t, wr_dims_div(f.t, T, wr_n(4)), &low, &high);
    assert_int_equal(low, 1);
    assert_int_equal(high, 32);
    wr_dims_range(f.t, wr_dims_sub(f.t, T, B), &low, &high);
    assert_int_equal(low, 4 - 64);
    assert_int_equal(high, 128 - 1);
    wr_dims_range(f.t, wr_dims_add(f.t, wr_dims_mul(f.t, B, T), wr_n(1)), &low, &high);
    assert_int_equal(low, 5);
    assert_int_equal(high, 64 * 128 + 1);
    wr_dims_free(f.t);
}

/* A symbol with one value is that number. */
static void test_proved_equal(void **state) {
    wr_graph *g = wr_graph_new();
    (void)state;
    wr_dim H = wr_sym(g, "H", 8, 8, 1), T = wr_sym(g, "T", 1, 9, 1);
    assert_true(wr_dim_eq(g, H, wr_n(8)));
    assert_false(wr_dim_eq(g, H, wr_n(9)));
    assert_false(wr_dim_eq(g, T, wr_n(8)));
    assert_true(wr_dim_eq(g, T, T));
    assert_true(wr_graph_ok(g));
    wr_graph_free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_expressions),
        cmocka_unit_test(test_canonical),
        cmocka_unit_test(test_different_ids_differ),
        cmocka_unit_test(test_divisibility),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_symbols),
        cmocka_unit_test(test_printing),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_proved_equal),
    };
    return cmocka_run_group_tests_name("dims", tests, NULL, NULL);
}
