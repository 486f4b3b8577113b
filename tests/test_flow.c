/* test_flow.c: stacks of flow layers: log-determinants against numeric Jacobians, inverses,
 * padding, gradients, sizes, parameter counts and messages. The values of FlowSeq's own program are
 * in test_flow_golden.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "graph/op.h"
#include "graph/session.h"
#include "helpers/alloc.h"
#include "helpers/sample.h"
#include "models/flow.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/reduce.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 3, T = 8, S = 5, D = 16, HEADS = 2, HIDDEN = 6, ELEMENTS = N * T * D };
static const int32_t LEN[N] = {8, 4, 0}, SOURCE_LEN[N] = {5, 3, 1};

/* A stack of one line list, the blocks being FlowSeq's. */
static wr_flow_stack parse(const char *layers) {
    wr_flow_stack stack;
    wr_error err = {0};
    wr_flow_recipe recipe = {.text = {layers}};
    if (wr_flow_parse(&recipe, &stack, &err) != WR_OK) fail_msg("%s", err.text);
    return stack;
}

/* Numbers in about [-1, 1] that follow no pattern. */
static double draw(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 40) / (double)(1u << 23) - 1.0;
}

/* ---- a stack in both directions ---- */

typedef struct subject {
    wr_session *session;
    wr_program *density, *sample, *gradient;
    double z[ELEMENTS], source[N * S * D];
    int32_t len[N], source_len[N], rows[N];
    int64_t n, t; /* what is fed: candidates, steps */
} subject;

typedef struct declared {
    wr z, log_det;
    wr_flow_context c;
} declared;

static declared declare(wr_graph *g, const char *first, int unit) {
    declared d = {.log_det = {g, 0}};
    wr_dim n = wr_sym(g, "N", 1, 100, 1), t = wr_sym(g, "T", unit, 64, unit);
    wr_dim b = wr_sym(g, "B", 1, 100, 1), s = wr_sym(g, "S", 1, 100, 1);
    d.z = wr_input(g, first, WR_F64, WR_DIMS(n, t, wr_n(D)));
    d.c = (wr_flow_context){.source = {.x = wr_input(g, "source", WR_F64, WR_DIMS(b, s, wr_n(D))),
                                       .len = wr_input(g, "source_len", WR_I32, WR_DIMS(b)),
                                       .rows = wr_input(g, "rows", WR_I32, WR_DIMS(n))},
                            .heads = HEADS,
                            .hidden = HIDDEN,
                            .max_len = 64};
    d.c.steps.len = wr_input(g, "len", WR_I32, WR_DIMS(n));
    return d;
}

static wr_program *density_program(const wr_flow_stack *stack) {
    wr_graph *g = wr_graph_new();
    declared d = declare(g, "z", wr_flow_length_unit(stack));
    wr_flow_result r;
    wr_flow_density(stack, d.z, &d.c, &r);
    return test_program_of(g, 2, (wr[]){r.eps, r.log_det}, NULL);
}

static wr_program *sample_program(const wr_flow_stack *stack) {
    wr_graph *g = wr_graph_new();
    declared d = declare(g, "z", wr_flow_length_unit(stack));
    wr z = wr_flow_sample(stack, d.z, &d.c, &d.log_det);
    return test_program_of(g, 2, (wr[]){z, d.log_det}, NULL);
}

/* Every parameter moves away from its first value, so that no part of a layer does nothing. */
static void disturb(wr_session *s) {
    uint64_t state = 42;
    wr_error err = {0};
    for (int i = 0; i < wr_session_stored(s); i++) {
        const wr_stored *p = wr_session_stored_at(s, i);
        double *value = malloc(sizeof *value * (size_t)p->tensor.n);
        assert_non_null(value);
        assert_int_equal(wr_session_read(s, i, value, &err), WR_OK);
        for (int64_t k = 0; k < p->tensor.n; k++)
            value[k] += 0.2 * draw(&state);
        assert_int_equal(wr_session_write(s, i, value, &err), WR_OK);
        free(value);
    }
}

static void open_subject(subject *x, const char *layers) {
    wr_flow_stack stack = parse(layers);
    wr_error err = {0};
    uint64_t state = 7;
    *x = (subject){.n = N, .t = T};
    assert_int_equal(
        wr_session_new(&(wr_session_options){.threads = 1, .seed = 5}, &x->session, &err), WR_OK);
    x->density = density_program(&stack);
    x->sample = sample_program(&stack);
    if (wr_session_prepare(x->session, x->density, &err) != WR_OK) fail_msg("%s", err.text);
    disturb(x->session);
    for (int i = 0; i < N * S * D; i++)
        x->source[i] = draw(&state);
    for (int i = 0; i < N; i++) {
        x->len[i] = LEN[i];
        x->source_len[i] = SOURCE_LEN[i];
        x->rows[i] = (i + 1) % N;
        for (int k = 0; k < T * D; k++)
            x->z[i * T * D + k] = k < LEN[i] * D ? 1.5 * draw(&state) : 0.0;
    }
}

static void close_subject(subject *x) {
    wr_program_free(x->density);
    wr_program_free(x->sample);
    wr_session_free(x->session);
}

/* Run with `data` [n, t, D] in place of z. */
static void run_only(subject *x, wr_program *p, const double *data) {
    wr_error err = {0};
    wr_feed feeds[] = {{"z", data, 3, {x->n, x->t, D}},
                       {"source", x->source, 3, {N, S, D}},
                       {"source_len", x->source_len, 1, {N}},
                       {"rows", x->rows, 1, {x->n}},
                       {"len", x->len, 1, {x->n}}};
    wr_feed fed[5];
    int n = 0;
    for (int i = 0; i < 5; i++) /* a stack without couplings does not read its source */
        if (wr_program_find_input(p, feeds[i].name) >= 0) fed[n++] = feeds[i];
    if (wr_session_run(x->session, p, n, fed, &err) != WR_OK) fail_msg("%s", err.text);
}

/* The same; copies the results, log_det may be NULL. */
static void run(subject *x, wr_program *p, const double *data, double *out, double *log_det) {
    run_only(x, p, data);
    memcpy(out, wr_session_output(x->session, 0)->data, sizeof *out * (size_t)(x->n * x->t * D));
    if (log_det != NULL)
        memcpy(log_det, wr_session_output(x->session, 1)->data, sizeof *log_det * (size_t)x->n);
}

static double largest(const double *a, const double *b, int n) {
    double most = 0;
    for (int i = 0; i < n; i++)
        most = fmax(most, fabs(a[i] - b[i]));
    return most;
}

/* ---- numeric log-determinants ---- */

/* log |det a| by elimination with pivots; a [n, n] is destroyed. */
static double log_abs_det(double *a, int n) {
    double sum = 0;
    for (int k = 0; k < n; k++) {
        int pivot = k;
        for (int i = k + 1; i < n; i++)
            if (fabs(a[i * n + k]) > fabs(a[pivot * n + k])) pivot = i;
        for (int j = 0; j < n; j++) {
            double swap = a[k * n + j];
            a[k * n + j] = a[pivot * n + j];
            a[pivot * n + j] = swap;
        }
        sum += log(fabs(a[k * n + k]));
        for (int i = k + 1; i < n; i++)
            for (int j = n - 1; j >= k; j--)
                a[i * n + j] -= a[i * n + k] / a[k * n + k] * a[k * n + j];
    }
    return sum;
}

/* Columns of the Jacobian of all sentences at once: sentences do not see each other. */
static void check_jacobian(subject *x, const double *log_det) {
    static const double step = 1e-5;
    static double z[ELEMENTS], up[ELEMENTS], down[ELEMENTS];
    enum { SIZE = T * D };
    double *jacobian = calloc((size_t)N * SIZE * SIZE, sizeof *jacobian);
    assert_non_null(jacobian);
    for (int k = 0; k < SIZE; k++) {
        memcpy(z, x->z, sizeof z);
        for (int i = 0; i < N; i++)
            z[i * SIZE + k] += k < LEN[i] * D ? step : 0;
        run(x, x->density, z, up, NULL);
        for (int i = 0; i < N; i++)
            z[i * SIZE + k] -= k < LEN[i] * D ? 2 * step : 0;
        run(x, x->density, z, down, NULL);
        for (int i = 0; i < N; i++)
            for (int r = 0; r < LEN[i] * D && k < LEN[i] * D; r++)
                jacobian[i * SIZE * SIZE + r * LEN[i] * D + k] =
                    (up[i * SIZE + r] - down[i * SIZE + r]) / (2 * step);
    }
    for (int i = 0; i < N; i++) {
        double numeric = log_abs_det(jacobian + i * SIZE * SIZE, LEN[i] * D);
        if (fabs(numeric - log_det[i]) > 1e-6 * (1 + fabs(numeric)))
            fail_msg("sentence %d: log_det %.12g, numeric Jacobian %.12g", i, log_det[i], numeric);
    }
    free(jacobian);
}

/* Everything at padded positions is zero. */
static void check_padding(const double *x) {
    for (int i = 0; i < N; i++)
        for (int k = LEN[i] * D; k < T * D; k++)
            assert_true(x[i * T * D + k] == 0.0);
}

/* The second sentence alone and without padding. */
static void check_alone(subject *x, const double *eps, const double *log_det) {
    enum { WHICH = 1 };
    double out[ELEMENTS], back[ELEMENTS], alone;
    subject one = *x;
    one.n = 1;
    one.t = LEN[WHICH];
    one.len[0] = LEN[WHICH];
    one.rows[0] = x->rows[WHICH];
    run(&one, x->density, x->z + WHICH * T * D, out, &alone);
    assert_true(largest(out, eps + WHICH * T * D, LEN[WHICH] * D) < 1e-12);
    assert_true(fabs(alone - log_det[WHICH]) < 1e-11);
    run(&one, x->sample, out, back, &alone);
    assert_true(largest(back, x->z + WHICH * T * D, LEN[WHICH] * D) < 1e-11);
    assert_true(fabs(alone + log_det[WHICH]) < 1e-11);
}

static void print_items(const char *layers) {
    for (const char *c = layers; *c != '\0'; c++)
        print_message("%s", *c == '\n' ? ", " : (char[]){*c, '\0'});
    print_message("\n");
}

static void check_stack(const char *layers, bool changes_volume) {
    static double eps[ELEMENTS], back[ELEMENTS], junk[ELEMENTS], again[ELEMENTS];
    double log_det[N], inverse_log_det[N];
    subject x;
    open_subject(&x, layers);
    run(&x, x.density, x.z, eps, log_det);
    assert_true(largest(eps, x.z, ELEMENTS) > 1e-3);
    assert_int_equal(fabs(log_det[0]) > 1e-3, changes_volume);
    assert_true(log_det[2] == 0.0);
    check_padding(eps);
    check_jacobian(&x, log_det);

    run(&x, x.sample, eps, back, inverse_log_det);
    double error = largest(back, x.z, ELEMENTS);
    for (int i = 0; i < N; i++)
        error = fmax(error, fabs(log_det[i] + inverse_log_det[i]) / (1 + fabs(log_det[i])));
    print_message("log_det %9.4f, inverse error %.1e: ", log_det[0], error);
    print_items(layers);
    assert_true(error < 1e-12);
    check_padding(back);
    check_alone(&x, eps, log_det);

    memcpy(junk, x.z, sizeof junk); /* what stands in padding does not matter */
    for (int i = 0; i < N; i++)
        for (int k = LEN[i] * D; k < T * D; k++)
            junk[i * T * D + k] = 1e3;
    run(&x, x.density, junk, again, inverse_log_det);
    assert_memory_equal(again, eps, sizeof eps);
    assert_memory_equal(inverse_log_det, log_det, sizeof log_det);
    close_subject(&x);
}

static void test_layers(void **state) {
    (void)state;
    check_stack("actnorm", true);
    check_stack("linear heads", true);
    check_stack("linear interleaved", true);
    check_stack("coupling halves up", true);
    check_stack("coupling halves down attend", true);
    check_stack("coupling alternate up", true);
    check_stack("coupling alternate down attend", true);
    check_stack("coupling time up attend", true);
    check_stack("coupling time down", true);
}

static void test_networks_and_transforms(void **state) {
    (void)state;
    check_stack("coupling halves up net=lstm", true);
    check_stack("coupling time down net=lstm transform=nlsq", true);
    check_stack("coupling alternate down net=conv", true);
    check_stack("coupling time up net=conv transform=additive", false);
    check_stack("coupling halves up transform=additive", false);
    check_stack("coupling halves up transform=nlsq", true);
}

static void test_scales(void **state) {
    (void)state;
    check_stack("actnorm\nfactor_out halves\nactnorm", true);
    check_stack("actnorm\nfactor_out alternate\ncoupling halves up", true);
    check_stack("squeeze\nactnorm\nlinear interleaved\ncoupling time up", true);
    check_stack("actnorm\nfactor_out halves\nsqueeze\nlinear heads\nfactor_out alternate\nsqueeze\n"
                "coupling halves down",
                true);
}

static void test_whole_stack(void **state) {
    (void)state;
    check_stack("position\nstep\ncoupling halves up\nfactor_out halves\nsqueeze\n"
                "position\nstep\ncoupling halves up\nfactor_out halves\nsqueeze\n"
                "position\nlast_step",
                true);
}

/* ---- gradients ---- */

/* sum(eps weights) + sum(log_det) and its gradient by all parameters. */
typedef struct differentiated {
    wr_program *program;
    int n;
    char name[64][96];
} differentiated;

static void find_parameters(wr_graph *g, differentiated *d, wr *params) {
    uint32_t count = wr_node_count(g);
    for (uint32_t id = 1; id < count; id++)
        if (wr_node_at(g, id)->op == &wr_op_param) {
            assert_true(d->n < 64);
            snprintf(d->name[d->n], sizeof d->name[0], "%s", wr_source_name(g, id));
            params[d->n++] = (wr){g, id};
        }
}

static void differentiate(const wr_flow_stack *stack, bool inverse, differentiated *d) {
    wr_graph *g = wr_graph_new();
    declared x = declare(g, "z", wr_flow_length_unit(stack));
    wr_flow_result r = {.eps = {g, 0}};
    wr params[64], out[65];
    if (inverse)
        r.eps = wr_flow_sample(stack, x.z, &x.c, &r.log_det);
    else
        wr_flow_density(stack, x.z, &x.c, &r);
    wr weighed = wr_sum_all(wr_mul(r.eps, wr_shift(wr_square(r.eps), 0.5)));
    find_parameters(g, d, params);
    out[0] = wr_add(weighed, wr_sum_all(r.log_det));
    wr_grad(out[0], d->n, params, out + 1);
    d->program = test_program_of(g, d->n + 1, out, NULL);
}

static double loss_of(subject *x, const differentiated *d) {
    run_only(x, d->program, x->z);
    return *(const double *)wr_session_output(x->session, 0)->data;
}

/* One element of a parameter, moved. */
static double loss_with(subject *x, const differentiated *d, int which, int64_t k, double by) {
    wr_error err = {0};
    const wr_stored *p = wr_session_stored_at(x->session, which);
    double *value = malloc(sizeof *value * (size_t)p->tensor.n);
    assert_non_null(value);
    assert_int_equal(wr_session_read(x->session, which, value, &err), WR_OK);
    double before = value[k];
    value[k] += by;
    assert_int_equal(wr_session_write(x->session, which, value, &err), WR_OK);
    double loss = loss_of(x, d);
    value[k] = before;
    assert_int_equal(wr_session_write(x->session, which, value, &err), WR_OK);
    free(value);
    return loss;
}

static void check_gradients(const char *layers, bool inverse) {
    static const double step = 1e-5;
    wr_flow_stack stack = parse(layers);
    differentiated d = {0};
    subject x;
    open_subject(&x, layers);
    differentiate(&stack, inverse, &d);
    double worst = 0;
    for (int i = 0; i < d.n; i++) {
        loss_of(&x, &d);
        const wr_tensor *g = wr_session_output(x.session, 1 + i);
        int64_t k = g->n / 3;
        double analytic = ((const double *)g->data)[k], scale = 0;
        for (int64_t j = 0; j < g->n; j++)
            scale = fmax(scale, fabs(((const double *)g->data)[j]));
        int which = wr_session_find(x.session, d.name[i]);
        double numeric =
            (loss_with(&x, &d, which, k, step) - loss_with(&x, &d, which, k, -step)) / (2 * step);
        double error = fabs(numeric - analytic) / (scale + 1e-2);
        if (error > 1e-6)
            fail_msg("%s: gradient of %s[%d] is %.10g, by differences %.10g", layers, d.name[i],
                     (int)k, analytic, numeric);
        worst = fmax(worst, error);
    }
    print_message("%s, %d parameters, largest error %.1e: ", inverse ? "inverse" : "forward", d.n,
                  worst);
    print_items(layers);
    wr_program_free(d.program);
    close_subject(&x);
}

static void test_gradients(void **state) {
    static const char *const stacks[] = {
        "actnorm\nlinear interleaved\ncoupling halves up attend\ncoupling time down",
        "linear heads\ncoupling alternate up net=lstm transform=nlsq\nactnorm",
        "squeeze\ncoupling halves down net=conv\nfactor_out halves\nlinear heads"};
    (void)state;
    for (size_t i = 0; i < sizeof stacks / sizeof stacks[0]; i++) {
        check_gradients(stacks[i], false);
        check_gradients(stacks[i], true);
    }
}

/* ---- counts, names, sizes ---- */

static wr_graph *flowseq(const char *layers, wr_flow_net net, int dim, int heads, int hidden) {
    wr_graph *g = wr_graph_new();
    wr_flow_stack stack;
    wr_error err = {0};
    wr_flow_recipe recipe = {.text = {layers}, .net = net};
    if (wr_flow_parse(&recipe, &stack, &err) != WR_OK) fail_msg("%s", err.text);
    int unit = wr_flow_length_unit(&stack);
    wr_dim n = wr_sym(g, "N", 1, 100, 1), t = wr_sym(g, "T", unit, 64, unit);
    wr_dim s = wr_sym(g, "S", 1, 100, 1);
    wr_flow_context c = {.source = {.x = wr_input(g, "src", WR_F32, WR_DIMS(n, s, wr_n(dim))),
                                    .len = wr_input(g, "src_len", WR_I32, WR_DIMS(n))},
                         .steps = {.len = wr_input(g, "len", WR_I32, WR_DIMS(n))},
                         .heads = heads,
                         .hidden = hidden,
                         .max_len = 64};
    wr_flow_result r;
    if (!wr_flow_density(&stack, wr_input(g, "z", WR_F32, WR_DIMS(n, t, wr_n(dim))), &c, &r)) {
        wr_str text = {0};
        wr_graph_report(g, &text);
        fail_msg("%s", wr_str_text(&text));
    }
    return g;
}

static int64_t count_parameters(wr_graph *g) {
    int64_t sum = 0;
    for (uint32_t id = 1; id < wr_node_count(g); id++) {
        const wr_node *n = wr_node_at(g, id);
        if (n->op != &wr_op_param) continue;
        int64_t size = 1;
        for (int i = 0; i < n->rank; i++)
            size *= wr_dim_literal(n->dim[i]);
        sum += size;
    }
    wr_graph_free(g);
    return sum;
}

static void test_parameter_counts(void **state) {
    (void)state;
    assert_int_equal(count_parameters(flowseq(NULL, 0, 256, 8, 512)), 51710336);
    assert_int_equal(count_parameters(flowseq(NULL, 0, 512, 8, 1024)), 205931264);
    /* the shipped configuration with LSTMs for WMT14: 236,215,985 parameters less the 21,678,769 of
     * the other modules, which leaves 214,537,216 for 82 couplings of 128 channels, 32 of 256, 56
     * actnorms and 20 linears */
    int64_t half = 4 * 256 * (128 + 256 + 2) * 2, whole = 4 * 256 * (256 + 256 + 2) * 2;
    int64_t attention = 512 * 512 + 512 + 256 * 1024 + 1024 + 512 * 512 + 512;
    int64_t expected = 82 * (half + attention + (128 + 512) * 256 + 512) +
                       32 * (whole + attention + (256 + 512) * 512 + 1024) + 56 * 512 + 20 * 1024;
    assert_int_equal(expected, 236215985 - 21678769);
    assert_int_equal(
        count_parameters(flowseq("step x4\ncoupling halves up\nfactor_out halves\nsqueeze\n"
                                 "step x4\ncoupling halves up\nfactor_out halves\nsqueeze\n"
                                 "last_step x2",
                                 WR_FLOW_NET_LSTM, 256, 8, 512)),
        expected);
}

static bool has_parameter(const wr_graph *g, const char *name) {
    for (uint32_t id = 1; id < wr_node_count(g); id++)
        if (wr_node_at(g, id)->op == &wr_op_param && strcmp(wr_source_name(g, id), name) == 0)
            return true;
    return false;
}

static void test_names(void **state) {
    static const char *const names[] = {
        "prior.position0.actnorm0.log_scale",
        "prior.position0.coupling0.position.kv.W",
        "prior.position2.coupling1.self.qkv.b",
        "prior.step0.linear1.W",
        "prior.step3.unit1.coupling5.source.kv.W",
        "prior.step4.unit0.actnorm1.bias",
        "prior.step7.unit0.coupling0.project.W",
        "prior.coupling1.out.v",
        "prior.last_step1.last_unit1.coupling3.ffn.inner.b",
    };
    static const char *const absent[] = {"prior.step3.unit1.coupling5.project.W",
                                         "prior.position0.coupling1.position.kv.W",
                                         "prior.coupling0.project.b"};
    (void)state;
    wr_graph *g = flowseq(NULL, 0, 64, 2, 32);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!has_parameter(g, names[i])) fail_msg("no parameter %s", names[i]);
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        assert_false(has_parameter(g, absent[i]));
    wr_graph_free(g);
}

static void test_length_unit(void **state) {
    (void)state;
    wr_flow_stack stack = parse(NULL);
    assert_int_equal(wr_flow_length_unit(&stack), 4);
    stack = parse("");
    assert_int_equal(wr_flow_length_unit(&stack), 1);
    stack = parse("coupling time up");
    assert_int_equal(wr_flow_length_unit(&stack), 2);
    stack = parse("squeeze x3\ncoupling time up");
    assert_int_equal(wr_flow_length_unit(&stack), 16);
}

/* ---- messages ---- */

static void refuse(wr_flow_name list, const char *text, const char *expected) {
    wr_flow_stack stack;
    wr_error err = {0};
    wr_flow_recipe recipe = {.text = {NULL}};
    recipe.text[list] = text;
    assert_int_equal(wr_flow_parse(&recipe, &stack, &err), WR_ERR_INPUT);
    if (strstr(err.text, expected) == NULL) fail_msg("'%s' lacks '%s'", err.text, expected);
}

static void test_refused_lists(void **state) {
    (void)state;
    refuse(WR_FLOW_LAYERS, "actnrom",
           "recipe key prior.layers, item 1 'actnrom': unknown name 'actnrom'; an item is actnorm, "
           "linear, coupling, factor_out, squeeze, or a block: position, step, unit");
    refuse(WR_FLOW_STEP, "actnorm\nlinear hedas",
           "prior.step, item 2 'linear hedas': unknown word 'hedas'; allowed is: linear "
           "heads|interleaved");
    refuse(WR_FLOW_UNIT, "coupling halves", "item 1 'coupling halves': a word is missing");
    refuse(WR_FLOW_UNIT, "coupling up down", "up and down exclude each other");
    refuse(WR_FLOW_UNIT, "coupling halves up net=rnn", "unknown word 'net=rnn'");
    refuse(WR_FLOW_UNIT, "coupling halves up attend net=lstm", "attend is for net=attention only");
    refuse(WR_FLOW_UNIT, "factor_out time", "unknown word 'time'");
    refuse(WR_FLOW_UNIT, "linear", "a word is missing");
    refuse(WR_FLOW_UNIT, "actnorm x0", "a number of times is x1 to x999");
    refuse(WR_FLOW_UNIT, "actnorm x2 x3", "two numbers of times");
    refuse(WR_FLOW_UNIT, "actnorm halves", "unknown word 'halves'; allowed is: actnorm");
    refuse(WR_FLOW_UNIT, "actnorm\n\nactnorm", "item 2 '': an item is empty");
    refuse(WR_FLOW_UNIT, "actnorm\nstep x2",
           "prior.unit, item 2 'step x2': the block step would contain itself");
    refuse(WR_FLOW_LAST_UNIT, "last_unit", "the block last_unit would contain itself");
    refuse(WR_FLOW_LAYERS, "step x999", "the stack has more than");
    refuse(WR_FLOW_LAYERS, "squeeze x11",
           "prior.layers, item 1 'squeeze x11': lengths would have to be multiples of 2048");
}

static void test_too_many_items(void **state) {
    wr_str text = {0};
    (void)state;
    for (int i = 0; i < WR_FLOW_ITEMS + 1; i++)
        wr_str_add(&text, "actnorm\n");
    refuse(WR_FLOW_UNIT, wr_str_text(&text),
           "prior.unit, item 65 'actnorm': a list has at most 64");
    wr_str_free(&text);
}

static void refuse_sizes(const char *layers, int dim, int heads, int hidden, const char *expected) {
    wr_flow_stack stack = parse(layers);
    wr_error err = {0};
    assert_int_equal(wr_flow_check(&stack, dim, heads, hidden, &err), WR_ERR_INPUT);
    if (strstr(err.text, expected) == NULL) fail_msg("'%s' lacks '%s'", err.text, expected);
}

static void test_refused_sizes(void **state) {
    wr_error err = {0};
    (void)state;
    refuse_sizes("factor_out halves\ncoupling alternate up", 6, 1, 4,
                 "prior.layers, item 2 'coupling alternate up add net=attention transform=affine': "
                 "there are 3 channels here");
    refuse_sizes("factor_out halves x2", 2, 1, 4, "there is 1 channel left here: nothing");
    refuse_sizes("coupling halves up", 12, 4, 4,
                 "its network reads 6 channels, which 4 heads do not divide");
    refuse_sizes("linear heads", 12, 2, 4, "12 channels here, no multiple of 8");
    refuse_sizes("coupling time up net=lstm", 12, 5, 3, "prior.hidden is 3");
    refuse_sizes("step", 36, 1, 4, "prior.step, item 2 'linear heads': there are 36 channels");
    wr_flow_stack stack = parse("coupling time up\nfactor_out halves\nsqueeze\nlinear heads");
    assert_int_equal(wr_flow_check(&stack, 24, 3, 5, &err), WR_OK);
}

static void test_refused_graphs(void **state) {
    wr_graph *g = wr_graph_new();
    wr_flow_stack stack = parse("squeeze\ncoupling time up");
    declared d = declare(g, "z", 2);
    wr_flow_result r;
    wr_str text = {0};
    (void)state;
    assert_false(wr_flow_density(&stack, d.z, &d.c, &r));
    wr_graph_report(g, &text);
    assert_non_null(strstr(wr_str_text(&text), "not known to be a multiple of 4, the length unit"));
    wr_str_free(&text);
    wr_graph_free(g);
}

static void test_printing(void **state) {
    wr_str text = {0};
    (void)state;
    wr_flow_stack stack = parse("coupling net=conv time x3 down transform=nlsq\nstep x4\n"
                                "linear interleaved\nfactor_out alternate");
    for (int i = 0; i < stack.list[WR_FLOW_LAYERS].n; i++) {
        wr_flow_item_print(&stack.list[WR_FLOW_LAYERS].item[i], &text);
        wr_str_add(&text, "\n");
    }
    assert_string_equal(wr_str_text(&text), "coupling x3 time down net=conv transform=nlsq\n"
                                            "step x4\nlinear interleaved\nfactor_out alternate\n");
    wr_flow_stack again = parse(wr_str_text(&text));
    assert_memory_equal(&again, &stack, sizeof stack);
    wr_str_free(&text);
}

/* ---- memory ---- */

static wr_status declare_both(const wr_flow_stack *stack, wr_error *err) {
    wr_program *p = NULL;
    wr_graph *g = wr_graph_new();
    if (g == NULL) return wr_fail_memory(err, "a graph", 0);
    declared d = declare(g, "z", wr_flow_length_unit(stack));
    wr_flow_result r = {.eps = {g, 0}, .log_det = {g, 0}};
    wr_flow_density(stack, d.z, &d.c, &r);
    wr z = wr_flow_sample(stack, r.eps, &d.c, &d.log_det);
    wr_status status = wr_program_new(g, 3, (wr[]){r.log_det, z, d.log_det}, NULL, &p, err);
    wr_program_free(p);
    wr_graph_free(g);
    return status;
}

static void test_every_allocation(void **state) {
    wr_flow_stack stack = parse("actnorm\nlinear heads\ncoupling halves up attend\nfactor_out "
                                "alternate\nsqueeze\ncoupling time down net=conv "
                                "transform=nlsq");
    bool done = false;
    long n = 0;
    (void)state;
    while (!done) {
        wr_error err = {0};
        wr_test_watch_allocations();
        wr_test_fail_allocation(++n);
        wr_status status = declare_both(&stack, &err);
        done = !wr_test_allocation_failed();
        assert_int_equal(wr_test_unfreed_allocations(), 0);
        if (status != (done ? WR_OK : WR_ERR_MEMORY))
            fail_msg("allocation %ld failed: status %d, \"%s\"", n, (int)status, err.text);
    }
    print_message("%ld allocations, each failed once\n", n - 1);
    assert_true(n > 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers),        cmocka_unit_test(test_networks_and_transforms),
        cmocka_unit_test(test_scales),        cmocka_unit_test(test_whole_stack),
        cmocka_unit_test(test_gradients),     cmocka_unit_test(test_parameter_counts),
        cmocka_unit_test(test_names),         cmocka_unit_test(test_length_unit),
        cmocka_unit_test(test_refused_lists), cmocka_unit_test(test_too_many_items),
        cmocka_unit_test(test_refused_sizes), cmocka_unit_test(test_refused_graphs),
        cmocka_unit_test(test_printing),      cmocka_unit_test(test_every_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
