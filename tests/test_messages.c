/* test_messages.c: mistakes of users as they read them, whole, with the chain of callers: one file
 * of tests/golden_messages each. WEIR_WRITE_GOLDEN=1 writes the files; look at them then.
 *
 * The user's code is said to be in /home/you/, with line numbers of its own, so that nothing else
 * in this file moves them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "autodiff/invert.h"
#include "graph/session.h"
#include "graph/trace.h"
#include "models/layers.h"
#include "ops/elementwise.h"
#include "ops/host.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/reduce.h"
#include "ops/scan.h"
#include "ops/slice.h"
#include "ops/softmax.h"
#include "ops/sort.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Calls stay calls: the compiler must not inline them, nor jump at their end. */
#define FAR    __attribute__((noinline))
#define STAY() __asm__ volatile("" ::: "memory")

static const float NUMBERS[64] = {1, 2, 3};

static wr floats(wr_graph *g, const char *name, wr_dim a, wr_dim b);
static void run(wr_graph *g, wr y, const wr_session_options *o, int n, const wr_feed *feed,
                wr_error *err);
static void compare(void **state);

/* ---- rows of the user ---- */

static bool same_shape(wr_shape_ctx *c) {
    c->out[0] = wr_type_of(c->in[0]);
    return true;
}
static wr_status copying(const wr_call *c) {
    memcpy(c->out[0].data, c->in[0].data, (size_t)c->in[0].n * sizeof(float));
    return WR_OK;
}
static const wr_op MY_ROUND = {
    .name = "my_round", .doc = "rounds", .n_in = 1, .shape = same_shape, .cpu = copying};
static const wr_op MY_GPU_ROW = {
    .name = "my_gpu_row", .doc = "has no kernel here", .n_in = 1, .shape = same_shape};

/* A case makes mistakes in `g`, or leaves a message in `err`. */
typedef struct golden {
    const char *name;
    void (*make)(wr_graph *g, wr_error *err);
    char *got;
} golden;

/* clang-format off */
#line 10 "/home/you/models.c"
static FAR wr floats(wr_graph *g, const char *name, wr_dim a, wr_dim b) {
    wr x = wr_input(g, name, WR_F32, WR_DIMS(a, b));
    STAY();
    return x;
}

static FAR wr coupling(wr x, wr_dim width) {
    wr h = wr_named(wr_tanh(x), "h");
    wr W = wr_param(x.g, "W1", WR_F32, WR_DIMS(width, wr_n(256)), (wr_init){0});
    wr y = wr_matmul(h, W);
    STAY();
    return y;
}

static FAR wr flow_step(wr x, wr_dim width) {
    wr y = x;
    WR_SCOPE (x.g, "step%d", 3)
        y = coupling(x, width);
    STAY();
    return y;
}

static FAR wr flowseq_prior(wr x, wr_dim width) {
    wr y = x;
    WR_SCOPE (x.g, "prior")
        y = flow_step(x, width);
    STAY();
    return y;
}

static void matmul_three_deep(wr_graph *g, wr_error *err) {
    wr_dim B = wr_sym(g, "B", 1, 64, 1), D = wr_sym(g, "D", 768, 768, 2);
    (void)err;
    flowseq_prior(floats(g, "x", B, wr_dim_div(g, D, wr_n(2))), wr_n(512));
    STAY();
}

#line 100 "/home/you/shapes.c"
static void matmul_transposed(wr_graph *g, wr_error *err) {
    (void)err;
    wr x = floats(g, "x", wr_n(3), wr_n(4)), W = floats(g, "W", wr_n(5), wr_n(4));
    wr_matmul(x, W);
    STAY();
}

static void matmul_of_a_vector(wr_graph *g, wr_error *err) {
    (void)err;
    wr x = floats(g, "x", wr_n(3), wr_n(4));
    wr_matmul(x, wr_index(x, 0, 0));
    STAY();
}

static void elementwise_sizes(wr_graph *g, wr_error *err) {
    (void)err;
    wr_dim T = wr_sym(g, "T", 2, 64, 2);
    wr_add(floats(g, "x", wr_n(2), T), floats(g, "y", wr_n(2), wr_dim_div(g, T, wr_n(2))));
    STAY();
}

static void mixed_dtypes(wr_graph *g, wr_error *err) {
    (void)err;
    wr ids = wr_input(g, "ids", WR_I32, WR_DIMS(wr_n(2), wr_n(3)));
    wr_mul(floats(g, "x", wr_n(2), wr_n(3)), ids);
    STAY();
}

static void tanh_of_integers(wr_graph *g, wr_error *err) {
    (void)err;
    wr_tanh(wr_input(g, "ids", WR_I32, WR_DIMS(wr_n(2), wr_n(3))));
    STAY();
}

static void reshape_changes_size(wr_graph *g, wr_error *err) {
    (void)err;
    wr_dim B = wr_sym(g, "B", 1, 64, 1);
    wr_reshape(floats(g, "x", B, wr_n(6)), WR_DIMS(B, wr_n(2), wr_n(4)));
    STAY();
}

static void broadcast_shrinks(wr_graph *g, wr_error *err) {
    (void)err;
    wr_broadcast(floats(g, "x", wr_n(3), wr_n(4)), WR_DIMS(wr_n(4), wr_n(3)));
    STAY();
}

static void transpose_no_axis(wr_graph *g, wr_error *err) {
    (void)err;
    wr_transpose(floats(g, "x", wr_n(3), wr_n(4)), 0, 4);
    STAY();
}

static void sum_no_axis(wr_graph *g, wr_error *err) {
    (void)err;
    wr_sum(floats(g, "x", wr_n(3), wr_n(4)), 2);
    STAY();
}

static void concat_sizes(wr_graph *g, wr_error *err) {
    (void)err;
    wr_concat(1, floats(g, "x", wr_n(3), wr_n(4)), floats(g, "y", wr_n(5), wr_n(4)));
    STAY();
}

static void split_uneven(wr_graph *g, wr_error *err) {
    wr part[3];
    (void)err;
    wr_split(floats(g, "x", wr_n(3), wr_n(4)), 1, 3, part);
    STAY();
}

static void slice_outside(wr_graph *g, wr_error *err) {
    (void)err;
    wr_slice(floats(g, "x", wr_n(3), wr_n(4)), 1, 2, 6);
    STAY();
}

static void embedding_of_floats(wr_graph *g, wr_error *err) {
    (void)err;
    wr table = wr_param(g, "table", WR_F32, WR_DIMS(wr_n(100), wr_n(8)), (wr_init){0});
    wr_embedding(table, floats(g, "ids", wr_n(3), wr_n(4)));
    STAY();
}

static void layer_norm_sizes(wr_graph *g, wr_error *err) {
    (void)err;
    wr gamma = wr_param(g, "gamma", WR_F32, WR_DIMS(wr_n(5)), (wr_init){0});
    wr_layer_norm(floats(g, "x", wr_n(3), wr_n(4)), gamma, gamma, 1e-5);
    STAY();
}

static void top_k_of_too_few(wr_graph *g, wr_error *err) {
    wr index;
    (void)err;
    wr_top_k(floats(g, "x", wr_n(3), wr_n(4)), wr_n(5), &index);
    STAY();
}

static void mask_sizes(wr_graph *g, wr_error *err) {
    (void)err;
    wr_softmax_masked(floats(g, "x", wr_n(3), wr_n(4)), floats(g, "mask", wr_n(3), wr_n(5)));
    STAY();
}

#line 300 "/home/you/sources.c"
static void parameter_again(wr_graph *g, wr_error *err) {
    (void)err;
    WR_SCOPE (g, "enc") {
        wr_param(g, "W", WR_F32, WR_DIMS(wr_n(2), wr_n(3)), (wr_init){0});
        wr_param(g, "W", WR_F32, WR_DIMS(wr_n(4), wr_n(3)), (wr_init){0});
    }
    STAY();
}

static void symbolic_parameter(wr_graph *g, wr_error *err) {
    (void)err;
    wr_param(g, "W", WR_F32, WR_DIMS(wr_n(2), wr_sym(g, "B", 1, 64, 1)), (wr_init){0});
    STAY();
}

static void symbol_again(wr_graph *g, wr_error *err) {
    (void)err;
    wr_sym(g, "T", 1, 64, 1);
    wr_sym(g, "T", 1, 128, 1);
    STAY();
}

static void half_of_an_odd_size(wr_graph *g, wr_error *err) {
    (void)err;
    wr_dim T = wr_sym(g, "T", 1, 64, 1);
    floats(g, "x", wr_dim_div(g, T, wr_n(2)), wr_n(3));
    STAY();
}

static void another_graph(wr_graph *g, wr_error *err) {
    wr_graph *h = wr_graph_new();
    (void)err;
    wr_add(floats(g, "x", wr_n(2), wr_n(3)), floats(h, "y", wr_n(2), wr_n(3)));
    wr_graph_free(h);
    STAY();
}

#line 400 "/home/you/gradients.c"
static FAR wr rounded(wr x) {
    wr y = wr_emit(WR_HERE, &MY_ROUND, 1, &x, NULL);
    STAY();
    return y;
}

static void no_gradient(wr_graph *g, wr_error *err) {
    wr x = floats(g, "x", wr_n(2), wr_n(3)), dx;
    (void)err;
    wr y = rounded(wr_tanh(x));
    WR_SCOPE (g, "dec")
        y = wr_add(rounded(wr_neg(y)), rounded(wr_exp(y)));
    wr_grad(wr_sum_all(y), 1, &x, &dx);
    STAY();
}

static void gradient_of_no_scalar(wr_graph *g, wr_error *err) {
    wr x = floats(g, "x", wr_n(2), wr_n(3)), dx;
    (void)err;
    wr_grad(wr_square(x), 1, &x, &dx);
    STAY();
}

static void no_bijection(wr_graph *g, wr_error *err) {
    wr x = floats(g, "x", wr_sym(g, "B", 1, 64, 1), wr_n(4)), back;
    (void)err;
    wr y = wr_square(x);
    wr_bijection f = {.n_in = 1, .ins = &x, .n_out = 1, .outs = &y};
    wr_invert(&f, &y, &back, NULL);
    STAY();
}

#line 500 "/home/you/programs.c"
static FAR wr on_the_gpu(wr x) {
    wr y = wr_emit(WR_HERE, &MY_GPU_ROW, 1, &x, NULL);
    STAY();
    return y;
}

static const wr_session_options ONE_THREAD = {.threads = 1};
static const wr_feed X23 = {.name = "x", .data = NUMBERS, .rank = 2, .dim = {2, 3}};

static void no_kernel(wr_graph *g, wr_error *err) {
    wr y = on_the_gpu(floats(g, "x", wr_n(2), wr_n(3)));
    WR_SCOPE (g, "dec")
        y = wr_add(on_the_gpu(wr_neg(y)), on_the_gpu(wr_exp(y)));
    run(g, y, &ONE_THREAD, 1, &X23, err);
}

static void poison_output(wr_graph *g, wr_error *err) {
    run(g, (wr){g, 0}, &ONE_THREAD, 1, &X23, err);
}

static void unknown_device(wr_graph *g, wr_error *err) {
    wr y = wr_neg(floats(g, "x", wr_n(2), wr_n(3)));
    run(g, y, &(wr_session_options){.device = "abacus"}, 1, &X23, err);
}

static void not_fed(wr_graph *g, wr_error *err) {
    wr x = floats(g, "x", wr_n(2), wr_n(3));
    run(g, wr_mul(x, floats(g, "y", wr_n(2), wr_n(3))), &ONE_THREAD, 1, &X23, err);
}

static void fed_twice(wr_graph *g, wr_error *err) {
    wr y = wr_neg(floats(g, "x", wr_n(2), wr_n(3)));
    run(g, y, &ONE_THREAD, 2, (const wr_feed[]){X23, X23}, err);
}

static void fed_with_other_axes(wr_graph *g, wr_error *err) {
    wr y = wr_neg(wr_input(g, "x", WR_F32, WR_DIMS(wr_n(6))));
    run(g, y, &ONE_THREAD, 1, &X23, err);
}

static void out_of_range(wr_graph *g, wr_error *err) {
    wr y = wr_neg(floats(g, "x", wr_sym(g, "B", 4, 64, 4), wr_n(3)));
    run(g, y, &ONE_THREAD, 1, &X23, err);
}

static void clashing_sizes(wr_graph *g, wr_error *err) {
    wr_dim N = wr_sym(g, "N", 1, 64, 1);
    wr y = wr_neg(floats(g, "x", N, N));
    run(g, y, &ONE_THREAD, 1, &X23, err);
}

static FAR wr looked_up(wr x, wr at) {
    wr y = wr_gather(x, at);
    STAY();
    return y;
}

static void index_out_of_range(wr_graph *g, wr_error *err) {
    static const int32_t nine[2] = {0, 9};
    wr y = looked_up(floats(g, "x", wr_n(2), wr_n(3)), wr_input(g, "i", WR_I32, WR_DIMS(wr_n(2))));
    run(g, y, &ONE_THREAD, 2, (const wr_feed[]){X23, {.name = "i", .data = nine, .rank = 1, .dim = {2}}}, err);
}

static FAR wr entropy(wr x) {
    wr y = wr_mul(x, wr_log(x));
    STAY();
    return y;
}

static void first_nan(wr_graph *g, wr_error *err) {
    wr y = floats(g, "x", wr_n(2), wr_n(3));
    WR_SCOPE (g, "post")
        y = wr_sum_all(entropy(wr_shift(y, -2.5)));
    run(g, y, &(wr_session_options){.threads = 1, .trap_nan = true}, 1, &X23, err);
}

static void infinite_loss(wr_graph *g, wr_error *err) {
    wr y = wr_sum_all(wr_log(wr_square(floats(g, "x", wr_n(2), wr_n(3)))));
    run(g, y, &(wr_session_options){.threads = 1, .trap_nan = true}, 1, &X23, err);
}

static golden CASES[] = {
#define CASE(name) {#name, name, NULL}
    CASE(matmul_three_deep), CASE(matmul_transposed), CASE(matmul_of_a_vector),
    CASE(elementwise_sizes), CASE(mixed_dtypes), CASE(tanh_of_integers),
    CASE(reshape_changes_size), CASE(broadcast_shrinks), CASE(transpose_no_axis),
    CASE(sum_no_axis), CASE(concat_sizes), CASE(split_uneven), CASE(slice_outside),
    CASE(embedding_of_floats), CASE(layer_norm_sizes), CASE(top_k_of_too_few), CASE(mask_sizes),
    CASE(parameter_again), CASE(symbolic_parameter), CASE(symbol_again),
    CASE(half_of_an_odd_size), CASE(another_graph), CASE(no_gradient),
    CASE(gradient_of_no_scalar), CASE(no_bijection), CASE(no_kernel), CASE(poison_output),
    CASE(unknown_device), CASE(not_fed), CASE(fed_twice), CASE(fed_with_other_axes),
    CASE(out_of_range), CASE(clashing_sizes), CASE(index_out_of_range), CASE(first_nan),
    CASE(infinite_loss),
};
enum { CASE_COUNT = sizeof CASES / sizeof *CASES };

#line 900 "/home/you/run.c"
static void run(wr_graph *g, wr y, const wr_session_options *o, int n, const wr_feed *feed,
                wr_error *err) {
    wr_program *p = NULL;
    wr_session *s = NULL;
    wr_status status = wr_program_new(g, 1, &y, NULL, &p, err);
    if (status == WR_OK) status = wr_session_new(o, &s, err);
    if (status == WR_OK) (void)wr_session_run(s, p, n, feed, err); /* `err` is looked at */
    wr_session_free(s);
    wr_program_free(p);
}

static FAR void make_cases(void) {
    for (int i = 0; i < CASE_COUNT; i++) {
        wr_graph *g = wr_graph_new();
        wr_error err = {0};
        wr_str text = {0};
        CASES[i].make(g, &err);
        wr_graph_report(g, &text);
        if (wr_graph_ok(g)) wr_str_add(&text, "%s\n", err.text);
        CASES[i].got = wr_strdup(wr_str_text(&text));
        wr_str_free(&text);
        wr_graph_free(g);
    }
}

int main(void) {
    struct CMUnitTest tests[CASE_COUNT];
    make_cases();
    for (int i = 0; i < CASE_COUNT; i++)
        tests[i] = (struct CMUnitTest){
            .name = CASES[i].name, .test_func = compare, .initial_state = &CASES[i]};
    int failed = cmocka_run_group_tests_name("messages", tests, NULL, NULL);
    for (int i = 0; i < CASE_COUNT; i++)
        free(CASES[i].got);
    return failed;
}

/* clang-format on */
#line 1000 "tests/test_messages.c"
/* Without the lines that builds without traces do not have. */
static void add_without_chains(const char *text, wr_str *out) {
    for (const char *line = text; *line != '\0';) {
        size_t n = strcspn(line, "\n") + (strchr(line, '\n') != NULL), spaces = strspn(line, " ");
        if (strncmp(line + spaces, "called from ", 12) != 0) wr_str_bytes(out, line, n);
        line += n;
    }
}

static void compare(void **state) {
    const golden *c = *state;
    char path[512], *expected = NULL;
    size_t n;
    wr_error err = {0};
    wr_str want = {0};
    snprintf(path, sizeof path, "%s/tests/golden_messages/%s.txt", WEIR_SOURCE_DIR, c->name);
    if (getenv("WEIR_WRITE_GOLDEN") != NULL)
        assert_int_equal(wr_file_replace(path, c->got, strlen(c->got), &err), WR_OK);
    if (wr_file_read(path, &expected, &n, &err) != WR_OK) fail_msg("%s", err.text);
    if (wr_trace_available())
        wr_str_add(&want, "%s", expected);
    else
        add_without_chains(expected, &want);
    assert_string_equal(c->got, wr_str_text(&want));
    wr_str_free(&want);
    free(expected);
}
