/* test_rebuild.c: values made again in the backward part, from a scope's inputs
 * (wr_scope_recompute) or by the inverse (wr_rebuild): gradients stay what they are, memory does
 * not grow with depth. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "autodiff/invert.h"
#include "helpers/alloc.h"
#include "helpers/sample.h"
#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/fuse.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/mask.h"
#include "ops/matmul.h"
#include "ops/random_ops.h"
#include "ops/reduce.h"
#include "ops/slice.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { B = 4, T = 50, D = 16, HIDDEN = 64, MOST_DEPTH = 32, MOST_GRADS = MOST_DEPTH + 3 };

/* ---- a flow of couplings that read a source ---- */

typedef enum way {
    KEEP,     /* everything */
    BY_LAYER, /* one wr_rebuild a layer, from the values that the one behind it rebuilt */
    AT_ONCE   /* one wr_rebuild for all layers */
} way;

typedef struct flow_options {
    int depth;
    way way;
    double dropout;
    const wr_pass *const *passes;
} flow_options;

typedef struct flow {
    const flow_options *o;
    wr_graph *g;
    wr x, source, len, mask;
    wr y[MOST_DEPTH + 1]; /* y[0]: the flow's input */
    wr weight[MOST_DEPTH];
    wr output[1 + MOST_GRADS]; /* the loss, then gradients: first, source, x, weights */
    int n_outputs;
} flow;

/* Small enough for factors of couplings near one, so that the inverse is well-conditioned. */
static wr weight_of(wr_graph *g, const char *name, int rows, int cols) {
    return wr_param(g, name, WR_F64, WR_DIMS(wr_n(rows), wr_n(cols)),
                    ((wr_init){WR_INIT_NORMAL, 0, 0.05}));
}

/* What a coupling reads of the source: it does not depend on the flow's input. */
static wr read_source(wr source) {
    wr y = source;
    WR_SCOPE (source.g, "source") {
        wr_scope_recompute_all(source.g);
        y = wr_tanh(wr_matmul(source, weight_of(source.g, "U", D / 2, HIDDEN)));
    }
    return y;
}

static wr coupling(flow *f, int i) {
    wr_graph *g = f->g;
    wr part[2], p[2], given, changed;
    wr_split(f->y[i], -1, 2, part);
    given = part[i % 2];
    changed = part[1 - i % 2];
    f->weight[i] = weight_of(g, "W", D / 2, HIDDEN);
    wr h = wr_tanh(wr_add(wr_matmul(given, f->weight[i]), read_source(f->source)));
    h = wr_attention(h, h, h, f->len, 2, false, 0);
    wr_split(wr_matmul(wr_dropout(h, f->o->dropout), weight_of(g, "V", HIDDEN, D)), -1, 2, p);
    changed = wr_add(wr_mul(changed, wr_sigmoid(wr_shift(p[0], 2))), p[1]);
    part[1 - i % 2] = changed;
    return wr_mask_apply(wr_concat(-1, part[0], part[1]), f->mask);
}

/* Each layer in its scope; rebuilding marks the scope for what does not depend on its input. */
static wr declare_layers(flow *f) {
    wr log_det = {f->g, 0};
    for (int i = 0; i < f->o->depth; i++)
        WR_SCOPE (f->g, "layer%d", i) {
            if (f->o->way != KEEP) wr_scope_recompute(f->g);
            f->y[i + 1] = coupling(f, i);
            wr_bijection one = {
                .n_in = 1, .ins = &f->y[i], .masks = &f->mask, .n_out = 1, .outs = &f->y[i + 1]};
            wr term = wr_log_det(&one);
            log_det = i == 0 ? term : wr_add(log_det, term);
        }
    return log_det;
}

static bool rebuild(flow *f) {
    wr known = f->y[f->o->depth], before;
    wr_bijection all = {
        .n_in = 1, .ins = &f->y[0], .masks = &f->mask, .n_out = 1, .outs = &f->y[f->o->depth]};
    if (f->o->way == AT_ONCE) return wr_rebuild(&all, &known, &before);
    for (int i = f->o->depth - 1; f->o->way == BY_LAYER && i >= 0; i--) {
        wr_bijection one = {
            .n_in = 1, .ins = &f->y[i], .masks = &f->mask, .n_out = 1, .outs = &f->y[i + 1]};
        if (!wr_rebuild(&one, &known, &before)) return false;
        known = before;
    }
    return true;
}

/* The loss of a flow whose first value has a parameter, and the gradients of all that it reads. */
static bool build_flow(flow *f) {
    wr_graph *g = f->g;
    wr_dim b = wr_sym(g, "B", 1, 100, 1), t = wr_sym(g, "T", 1, 100, 1);
    f->x = wr_input(g, "x", WR_F64, WR_DIMS(b, t, wr_n(D)));
    f->source = wr_input(g, "source", WR_F64, WR_DIMS(b, t, wr_n(D / 2)));
    f->len = wr_input(g, "len", WR_I32, WR_DIMS(b));
    f->mask = wr_sequence_mask(f->len, t, WR_F64);
    wr first = wr_param(g, "first", WR_F64, WR_DIMS(wr_n(D)), ((wr_init){WR_INIT_NORMAL, 0, 0.3}));
    f->y[0] = wr_mask_apply(wr_add(f->x, first), f->mask);
    wr log_det = declare_layers(f);
    if (!rebuild(f)) return false;
    wr last = f->y[f->o->depth], wrt[MOST_GRADS] = {first, f->source, f->x};
    wr loss = wr_sub(wr_sum_all(wr_square(last)), wr_sum_all(log_det));
    memcpy(wrt + 3, f->weight, sizeof(wr) * (size_t)f->o->depth);
    f->output[0] = loss;
    f->n_outputs = 4 + f->o->depth;
    return wr_grad(loss, 3 + f->o->depth, wrt, f->output + 1);
}

static wr_status compile(const flow_options *o, wr_program **p, wr_error *err) {
    flow f = {.o = o, .g = wr_graph_new()};
    *p = NULL;
    if (f.g == NULL) return wr_fail_memory(err, "a graph", 0);
    bool built = build_flow(&f);
    wr_status status = wr_graph_status(f.g, err);
    if (status == WR_OK && !built) status = wr_fail(err, WR_ERR_LIBRARY, "no graph, no reason");
    if (status == WR_OK) status = wr_program_new(f.g, f.n_outputs, f.output, o->passes, p, err);
    wr_graph_free(f.g);
    return status;
}

static void numbers(double *x, int n, uint64_t state) {
    for (int i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        x[i] = (double)(state >> 33) / 1073741824.0 - 1;
    }
}

static wr_status run_flow(test_program *p, int threads, wr_error *err) {
    double x[B * T * D], source[B * T * D / 2];
    int32_t len[B];
    numbers(x, B * T * D, 1);
    numbers(source, B * T * D / 2, 2);
    for (int i = 0; i < B; i++)
        len[i] = T - 9 * i;
    wr_feed feed[3] = {
        {"x", x, 3, {B, T, D}}, {"source", source, 3, {B, T, D / 2}}, {"len", len, 1, {B}}};
    wr_session_options o = {.threads = threads, .seed = 3};
    wr_status status = wr_session_new(&o, &p->session, err);
    return status == WR_OK ? wr_session_run(p->session, p->program, 3, feed, err) : status;
}

static test_program open_flow(const flow_options *o, int threads) {
    test_program p = {0};
    wr_error err = {0};
    if (compile(o, &p.program, &err) != WR_OK || run_flow(&p, threads, &err) != WR_OK)
        fail_msg("%s", err.text);
    return p;
}

/* ---- gradients ---- */

static double worst_difference(const test_program *a, const test_program *b) {
    double worst = 0;
    for (int k = 0; k < wr_program_outputs(a->program); k++)
        worst = fmax(worst, test_difference(test_program_output(a, k), test_program_output(b, k)));
    return worst;
}

static bool same_outputs(const test_program *a, const test_program *b) {
    bool same = true;
    for (int k = 0; k < wr_program_outputs(a->program); k++)
        same = same && test_same_bits(test_program_output(a, k), test_program_output(b, k));
    return same;
}

static void compare(flow_options o) {
    flow_options kept = o;
    kept.way = KEEP;
    test_program a = open_flow(&o, 1), b = open_flow(&kept, 1), c = open_flow(&o, 3);
    double worst = worst_difference(&a, &b);
    print_message("depth %d, way %d, dropout %g%s: %.2g\n", o.depth, (int)o.way, o.dropout,
                  o.passes == NULL ? "" : ", fused", worst);
    assert_true(worst < 1e-12);
    assert_true(test_same_bits(test_program_output(&a, 0), test_program_output(&b, 0)));
    assert_true(same_outputs(&a, &c));
    test_program_close(&a);
    test_program_close(&b);
    test_program_close(&c);
}

static void test_gradients_agree(void **state) {
    (void)state;
    for (int way = BY_LAYER; way <= AT_ONCE; way++)
        for (int depth = 1; depth <= 16; depth *= 4) {
            compare((flow_options){depth, (enum way)way, 0, NULL});
            compare((flow_options){depth, (enum way)way, 0, wr_standard_passes()});
        }
}

/* The network of a layer is computed again with the random numbers that it had. */
static void test_dropout_is_the_same(void **state) {
    (void)state;
    for (int way = BY_LAYER; way <= AT_ONCE; way++)
        compare((flow_options){3, (enum way)way, 0.4, wr_standard_passes()});
    flow_options with = {3, KEEP, 0.4, NULL}, without = {3, KEEP, 0, NULL};
    test_program a = open_flow(&with, 1), b = open_flow(&without, 1);
    assert_true(worst_difference(&a, &b) > 1e-3); /* it is on */
    test_program_close(&a);
    test_program_close(&b);
}

/* ---- memory ---- */

static size_t live_peak(flow_options o) {
    test_program p = open_flow(&o, 1);
    size_t bytes = wr_session_plan(p.session)->live_peak;
    test_program_close(&p);
    return bytes;
}

/* What one more layer must hold: the gradient of its weight and numbers per sentence. */
static void check_growth(enum way way, const wr_pass *const *passes) {
    size_t at[4]; /* 4, 8, 16, 32 layers */
    enum { HALF = D / 2 };
    double must = 8.0 * (HALF * HIDDEN + 8 * B), value = 8.0 * B * T * D;
    for (int i = 0; i < 4; i++)
        at[i] = live_peak((flow_options){4 << i, way, 0.1, passes});
    print_message("way %d%s: %zu, %zu, %zu, %zu bytes\n", (int)way, passes == NULL ? "" : ", fused",
                  at[0], at[1], at[2], at[3]);
    for (int i = 0; i < 3; i++) {
        double layer = ((double)at[i + 1] - (double)at[i]) / (4 << i);
        if (way == KEEP)
            assert_true(layer > must + value); /* the test sees what it should */
        else
            assert_true(layer < must + 0.1 * value);
    }
}

static void test_memory_does_not_grow(void **state) {
    (void)state;
    for (int way = KEEP; way <= AT_ONCE; way++) {
        check_growth((enum way)way, NULL);
        check_growth((enum way)way, wr_standard_passes());
    }
}

/* ---- the rewritten graph ---- */

static int count_role(const wr_graph *g, wr_role role) {
    int n = 0;
    for (uint32_t id = 1; id < wr_node_count(g); id++)
        n += wr_node_at(g, id)->role == role;
    return n;
}

/* The number of products that read parameter `name`. */
static int count_products(const wr_graph *g, const char *name) {
    int n = 0;
    for (uint32_t id = 1; id < wr_node_count(g); id++) {
        const wr_node *x = wr_node_at(g, id);
        for (int k = 0; k < x->n_in; k++) {
            uint32_t in = wr_node_inputs(g, id)[k];
            n += wr_node_at(g, in)->op == &wr_op_param && strcmp(wr_source_name(g, in), name) == 0;
        }
    }
    return n;
}

/* A pass that took what is made again for the equal original would keep the original. The source's
 * product is read forward and again backward, the layer's own forward, again, and by the gradient
 * of its operand. */
static void test_passes_keep_them_apart(void **state) {
    (void)state;
    for (int way = KEEP; way <= AT_ONCE; way++)
        for (int fused = 0; fused < 2; fused++) {
            flow_options o = {4, (enum way)way, 0, fused ? wr_standard_passes() : NULL};
            test_program p = open_flow(&o, 1);
            const wr_graph *g = wr_program_graph(p.program);
            int made = count_role(g, WR_RECOMPUTED);
            print_message("way %d: %d nodes made again%s\n", way, made, fused ? ", fused" : "");
            assert_true(made >= 4 * 2); /* the source scope at least: product and tanh */
            assert_int_equal(count_products(g, "layer1.source.U"), 3);
            assert_int_equal(count_products(g, "layer1.V"), way == KEEP ? 2 : 3);
            test_program_close(&p);
        }
}

/* ---- recomputed scopes ---- */

typedef enum marks { NO_MARKS, OUTER, INNER, BOTH, RESULTS_TOO, MARKS } marks;

static const char *const MARK_NAME[] = {"nothing", "outer", "inner", "both", "results, too"};

/* Rows with several outputs (split, attention) and random ones in nested scopes; what they make is
 * larger than what they read. */
static wr stack_layer(wr x, marks m) {
    static const wr_attention_options o = {.heads = 2, .dropout = 0.1};
    wr_graph *g = x.g;
    wr part[3], y = x;
    WR_SCOPE (g, "outer") {
        if (m == OUTER || m == BOTH) wr_scope_recompute(g);
        if (m == RESULTS_TOO) wr_scope_recompute_all(g);
        WR_SCOPE (g, "inner") {
            if (m == INNER || m == BOTH) wr_scope_recompute(g);
            wr wide = wr_matmul(x, weight_of(g, "W", D, 12 * D));
            wr_split(wr_dropout(wide, 0.2), -1, 3, part);
            for (int k = 0; k < 3; k++)
                part[k] = wr_gelu(part[k]);
        }
        y = wr_attention_with(part[0], part[1], part[2], NULL, &o);
        y = wr_mul(wr_gelu(y), wr_exp(wr_neg(wr_square(y))));
    }
    return wr_add(x, wr_tanh(wr_matmul(wr_gelu(y), weight_of(g, "V", 4 * D, D))));
}

static test_program open_stack(marks m, int threads) {
    enum { LAYERS = 5 };
    test_program p = {0};
    double value[B * T * D];
    wr_error err = {0};
    wr_graph *g = wr_graph_new();
    wr x = wr_input(g, "x", WR_F64, WR_DIMS(wr_n(B), wr_n(T), wr_n(D))), y = x, output[2];
    for (int i = 0; i < LAYERS; i++)
        WR_SCOPE (g, "layer%d", i) {
            y = stack_layer(y, m);
        }
    output[0] = wr_mean_all(wr_square(y));
    assert_true(wr_grad(output[0], 1, &x, output + 1));
    wr_session_options o = {.threads = threads, .seed = 5};
    numbers(value, B * T * D, 3);
    wr_feed feed = {"x", value, 3, {B, T, D}};
    if (wr_program_new(g, 2, output, wr_standard_passes(), &p.program, &err) != WR_OK ||
        wr_session_new(&o, &p.session, &err) != WR_OK ||
        wr_session_run(p.session, p.program, 1, &feed, &err) != WR_OK)
        fail_msg("%s", err.text);
    wr_graph_free(g);
    return p;
}

static void test_scopes(void **state) {
    size_t peak[MARKS];
    int steps[MARKS];
    test_program first = open_stack(NO_MARKS, 1);
    (void)state;
    for (int m = NO_MARKS; m < MARKS; m++) {
        test_program p = open_stack((marks)m, 2);
        assert_true(same_outputs(&p, &first));
        peak[m] = wr_session_plan(p.session)->live_peak;
        steps[m] = wr_session_plan(p.session)->n_steps;
        print_message("%s: %zu bytes, %d steps\n", MARK_NAME[m], peak[m], steps[m]);
        test_program_close(&p);
    }
    assert_true(peak[OUTER] < peak[NO_MARKS] && peak[INNER] < peak[NO_MARKS]);
    assert_true(peak[OUTER] < peak[INNER]);       /* it spares the attention, too */
    assert_int_equal(peak[BOTH], peak[OUTER]);    /* the outer scope decides */
    assert_true(peak[RESULTS_TOO] < peak[OUTER]); /* y, which the layer reads outside */
    assert_true(steps[OUTER] > steps[INNER] && steps[INNER] > steps[NO_MARKS]);
    assert_int_equal(steps[BOTH], steps[OUTER]);
    test_program_close(&first);
}

/* ---- failing allocations ---- */

static void test_every_allocation(void **state) {
    flow_options o = {2, BY_LAYER, 0.1, wr_standard_passes()};
    bool done = false;
    long n = 0;
    (void)state;
    while (!done && n < 20000) {
        wr_program *p = NULL;
        wr_error err = {0};
        wr_test_watch_allocations();
        wr_test_fail_allocation(++n);
        wr_status status = compile(&o, &p, &err);
        done = !wr_test_allocation_failed();
        wr_program_free(p);
        long unfreed = wr_test_unfreed_allocations();
        if (unfreed != 0) fail_msg("allocation %ld failed: %ld blocks are left", n, unfreed);
        if (status != WR_OK && (status != WR_ERR_MEMORY || done))
            fail_msg("allocation %ld failed: status %d, \"%s\"", n, (int)status, err.text);
    }
    print_message("%ld allocations, each failed once\n", n - 1);
    assert_true(done && n > 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients_agree),
        cmocka_unit_test(test_dropout_is_the_same),
        cmocka_unit_test(test_memory_does_not_grow),
        cmocka_unit_test(test_passes_keep_them_apart),
        cmocka_unit_test(test_scopes),
        cmocka_unit_test(test_every_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
