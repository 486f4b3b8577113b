/* test_errors.c: the messages of the graph, the gradient and the session, word by word. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "graph/session.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/matmul.h"
#include "ops/reduce.h"

#include <stdio.h>
#include <string.h>

static const char CHAIN[] = "  called from ";

/* An input made at the line FLOATS. */
enum { FLOATS = __LINE__ + 2 };
static wr floats(wr_graph *g, const char *name, int64_t n) {
    return wr_input(g, name, WR_F32, WR_DIMS(wr_n(n)));
}

/* Without the chains of callers, which builds without libunwind do not have. */
static void add_without_chains(const char *text, wr_str *out) {
    for (const char *line = text; *line != '\0';) {
        const char *end = strchr(line, '\n');
        size_t n = end == NULL ? strlen(line) : (size_t)(end - line) + 1;
        size_t spaces = strspn(line, " ");
        if (strncmp(line + spaces, CHAIN + 2, sizeof CHAIN - 3) != 0) wr_str_bytes(out, line, n);
        line += n;
    }
}

static void report(const wr_graph *g, wr_str *out) {
    wr_str all = {0};
    wr_graph_report(g, &all);
    add_without_chains(wr_str_text(&all), out);
    wr_str_free(&all);
}

static void assert_report(wr_graph *g, const char *fmt, ...) WR_PRINTF(2, 3);

/* Compares and frees the graph. */
static void assert_report(wr_graph *g, const char *fmt, ...) {
    char expected[4096];
    wr_str got = {0};
    va_list args;
    va_start(args, fmt);
    vsnprintf(expected, sizeof expected, fmt, args);
    va_end(args);
    report(g, &got);
    assert_string_equal(wr_str_text(&got), expected);
    wr_str_free(&got);
    wr_graph_free(g);
}

/* ---- shapes ---- */

static void test_matmul_sizes(void **state) {
    wr_graph *g = wr_graph_new();
    wr_dim B = wr_sym(g, "B", 1, 64, 1), D = wr_sym(g, "D", 2, 1024, 2);
    wr x, W;
    int line = 0;
    (void)state;
    WR_SCOPE (g, "prior") {
        WR_SCOPE (g, "step%d", 3) {
            line = __LINE__ + 1;
            x = wr_input(g, "x", WR_F32, WR_DIMS(B, wr_dim_div(g, D, wr_n(2))));
            x = wr_named(wr_tanh(x), "h");
            W = wr_param(g, "W1", WR_F32, WR_DIMS(wr_n(256), wr_n(512)), (wr_init){0});
            wr_matmul(x, W);
        }
    }
    assert_report(g,
                  "%s:%d in test_matmul_sizes(): matmul: inner dimensions differ (D/2 and 256)\n"
                  "  a \"prior.step3.h\"  f32 [B, D/2]    from %s:%d tanh\n"
                  "  b \"prior.step3.W1\" f32 [256, 512]  from %s:%d parameter\n"
                  "  rule: a [.., M, K] x b [K, N], or b [.., K, N] with the same leading sizes\n",
                  __FILE__, line + 3, __FILE__, line + 1, __FILE__, line + 2);
}

static void test_matmul_hint(void **state) {
    wr_graph *g = wr_graph_new();
    (void)state;
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(3), wr_n(4)));
    wr W = wr_input(g, "W", WR_F32, WR_DIMS(wr_n(5), wr_n(4)));
    wr_matmul(x, W);
    wr_str s = {0};
    report(g, &s);
    assert_non_null(strstr(wr_str_text(&s), "  hint: did you mean wr_matmul_nt (b transposed)?\n"));
    wr_str_free(&s);
    wr_graph_free(g);
}

static void test_elementwise_sizes(void **state) {
    wr_graph *g = wr_graph_new();
    (void)state;
    int line = __LINE__ + 1;
    wr_add(floats(g, "x", 3), floats(g, "y", 4));
    assert_report(g,
                  "%s:%d in test_elementwise_sizes(): add: sizes of operand b do not fit (axis -1: "
                  "3 and 4)\n"
                  "  a \"x\" f32 [3]  from %s:%d input\n"
                  "  b \"y\" f32 [4]  from %s:%d input\n"
                  "  rule: sizes are equal, or the shorter operand is a suffix: [B, T, D] with "
                  "[D]\n"
                  "  hint: wr_broadcast repeats an operand along other axes\n",
                  __FILE__, line, __FILE__, FLOATS, __FILE__, FLOATS);
}

static void test_dtypes(void **state) {
    wr_graph *g = wr_graph_new();
    (void)state;
    int line = __LINE__ + 1;
    wr i = wr_input(g, "i", WR_I32, WR_DIMS(wr_n(3)));
    wr_mul(floats(g, "x", 3), i);
    wr_tanh(i);
    assert_report(g,
                  "%s:%d in test_dtypes(): mul: operand types differ (f32 and i32)\n"
                  "  a \"x\" f32 [3]  from %s:%d input\n"
                  "  b \"i\" i32 [3]  from %s:%d input\n"
                  "  rule: all operands have one dtype\n"
                  "  hint: convert one with wr_cast\n"
                  "\n"
                  "%s:%d in test_dtypes(): tanh: operand a is i32, not f32 or f64\n"
                  "  a \"i\" i32 [3]  from %s:%d input\n"
                  "  rule: hyperbolic tangent\n"
                  "  hint: wr_cast makes floats of whole numbers\n",
                  __FILE__, line + 1, __FILE__, FLOATS, __FILE__, line, __FILE__, line + 2,
                  __FILE__, line);
}

static void test_layout(void **state) {
    wr_graph *g = wr_graph_new();
    (void)state;
    int line = __LINE__ + 1;
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(3), wr_n(4)));
    wr_reshape(x, WR_DIMS(wr_n(5)));
    wr_broadcast(x, WR_DIMS(wr_n(4), wr_n(3)));
    wr_permute(x, 0, 0);
    wr_transpose(x, 0, 4);
    wr_sum(x, 2);
    const char *f = __FILE__;
    assert_report(g,
                  "%s:%d in test_layout(): reshape: [3, 4] has 12 elements, [5] has 5\n"
                  "  a \"x\" f32 [3, 4]  from %s:%d input\n"
                  "  rule: the product of the sizes stays the same\n"
                  "\n"
                  "%s:%d in test_layout(): broadcast: cannot repeat to [4, 3]\n"
                  "  a \"x\" f32 [3, 4]  from %s:%d input\n"
                  "  rule: from the right, each size is equal or 1\n"
                  "\n"
                  "%s:%d in test_layout(): transpose: not a permutation of 2 axes\n"
                  "  a \"x\" f32 [3, 4]  from %s:%d input\n"
                  "  rule: each axis 0 .. rank - 1 once\n"
                  "\n"
                  "%s:%d in test_layout(): transpose: axes 0 and 4 of a tensor with 2 axes\n"
                  "  a \"x\"  f32 [3, 4]  from %s:%d input\n"
                  "  rule: each axis is from -rank to rank - 1\n"
                  "\n"
                  "%s:%d in test_layout(): sum: axes 2 to 3 of a tensor with 2 axes\n"
                  "  a \"x\" f32 [3, 4]  from %s:%d input\n"
                  "  rule: 0 <= from < to <= rank\n",
                  f, line + 1, f, line, f, line + 2, f, line, f, line + 3, f, line, f, line + 4, f,
                  line, f, line + 5, f, line);
}

/* ---- sources ---- */

static void test_parameters(void **state) {
    wr_graph *g = wr_graph_new();
    wr_dim B = wr_sym(g, "B", 1, 64, 1);
    wr_init zero = {0};
    (void)state;
    int line = __LINE__ + 1;
    wr_param(g, "W", WR_F32, WR_DIMS(wr_n(2), wr_n(3)), zero);
    wr_param(g, "W", WR_F32, WR_DIMS(wr_n(4), wr_n(3)), zero);
    wr_param(g, "W", WR_F64, WR_DIMS(wr_n(2), wr_n(3)), zero);
    wr_param(g, "V", WR_F32, WR_DIMS(wr_n(2), B), zero);
    const char *f = __FILE__;
    assert_report(g,
                  "%s:%d in test_parameters(): parameter \"W\": asked for again as f32 [4, 3]; it "
                  "is \"W\"  f32 [2, 3]  from %s:%d parameter\n"
                  "\n"
                  "%s:%d in test_parameters(): parameter \"W\": asked for again as f64 [2, 3]; it "
                  "is \"W\"  f32 [2, 3]  from %s:%d parameter\n"
                  "\n"
                  "%s:%d in test_parameters(): parameter \"V\": axis 1 is symbolic; a parameter "
                  "has fixed sizes (wr_n(512))\n",
                  f, line + 1, f, line, f, line + 2, f, line, f, line + 3);
}

static void test_symbols(void **state) {
    wr_graph *g = wr_graph_new();
    (void)state;
    int line = __LINE__ + 1;
    wr_dim B = wr_sym(g, "B", 1, 64, 1);
    wr_sym(g, "B", 1, 65, 1);
    wr_input(g, "x", WR_F32, WR_DIMS(wr_dim_div(g, B, wr_n(2))));
    assert_report(g,
                  "%s:%d in test_symbols(): symbol \"B\" with range 1 to 65, multiple of 1: a "
                  "symbol is declared once, 0 <= min <= max, multiple_of >= 1, at most 16 symbols, "
                  "short names\n"
                  "\n"
                  "%s:%d in test_symbols(): input: the size of axis 0 is not a whole number of "
                  "declared symbols; check multiple_of in wr_sym\n",
                  __FILE__, line + 1, __FILE__, line + 2);
}

static void test_other_graph(void **state) {
    wr_graph *g = wr_graph_new(), *h = wr_graph_new();
    wr x = floats(g, "x", 3), y = floats(h, "y", 3);
    (void)state;
    int line = __LINE__ + 1;
    wr_add(x, y);
    assert_true(wr_graph_ok(h));
    wr_graph_free(h);
    assert_report(g,
                  "%s:%d in test_other_graph(): add: operand 1 belongs to another graph\n"
                  "  a \"x\" f32 [3]  from %s:%d input\n"
                  "  rule: all operands belong to one graph\n",
                  __FILE__, line, __FILE__, FLOATS);
}

/* ---- gradients ---- */

static void test_loss_is_no_scalar(void **state) {
    wr_graph *g = wr_graph_new();
    wr x = floats(g, "x", 3), grad;
    (void)state;
    int line = __LINE__ + 1;
    wr loss = wr_square(x);
    assert_false(wr_grad(loss, 1, &x, &grad));
    assert_true(wr_is_poison(grad));
    assert_report(g,
                  "%s:%d in test_loss_is_no_scalar(): the gradient is of a scalar, not of "
                  "\"square\"  f32 [3]  from %s:%d square\n"
                  "  hint: wr_sum it first\n",
                  __FILE__, line + 1, __FILE__, line);
}

/* All nodes without a gradient at once, and only those on a path that matters. */
static void test_no_gradient(void **state) {
    wr_graph *g = wr_graph_new();
    wr x = floats(g, "x", 3), y = floats(g, "y", 3), grad;
    (void)state;
    int line = __LINE__ + 1;
    wr a = wr_less(x, wr_neg(x));
    wr b = wr_equal(x, y);
    wr c = wr_less(y, y);
    wr loss = wr_sum_all(wr_mul(wr_mul(a, b), c));
    assert_false(wr_grad(loss, 1, &x, &grad));
    const char *f = __FILE__;
    assert_report(g,
                  "%s:%d in test_no_gradient(): no gradient through these nodes:\n"
                  "  \"equal\"  f32 [3]  from %s:%d equal: piecewise constant: the gradient is "
                  "zero where it exists\n"
                  "  \"less\"  f32 [3]  from %s:%d less: piecewise constant: the gradient is zero "
                  "where it exists\n"
                  "  hint: wr_stop_gradient() says that none is wanted\n",
                  f, line + 4, f, line + 1, f, line);
}

/* ---- programs ---- */

static bool no_kernel_shape(wr_shape_ctx *c) {
    c->out[0] = wr_type_of(c->in[0]);
    return true;
}

static const wr_op NO_KERNEL = {
    .name = "unheard_of", .doc = "a row without a kernel", .n_in = 1, .shape = no_kernel_shape};

static wr_status run_once(wr_graph *g, wr output, int n_feeds, const wr_feed *feeds,
                          wr_error *err) {
    wr_session_options o = {.threads = 1};
    wr_session *s = NULL;
    wr_program *p = NULL;
    wr_status status = wr_program_new(g, 1, &output, NULL, &p, err);
    if (status == WR_OK) status = wr_session_new(&o, &s, err);
    if (status == WR_OK) status = wr_session_run(s, p, n_feeds, feeds, err);
    wr_session_free(s);
    wr_program_free(p);
    wr_graph_free(g);
    return status;
}

static const float NUMBERS[64] = {1, 2, 3};

static wr_feed feed_of(const char *name, int rank, int64_t a, int64_t b) {
    return (wr_feed){.name = name, .data = NUMBERS, .rank = rank, .dim = {a, b}};
}

/* Every op without a kernel in one message. */
static void test_no_kernel(void **state) {
    wr_graph *g = wr_graph_new();
    wr_error err = {0};
    char expected[600];
    (void)state;
    int line = __LINE__ + 1;
    wr x = floats(g, "x", 3), y = wr_emit(WR_HERE, &NO_KERNEL, 1, &x, NULL);
    wr z = wr_emit(WR_HERE, &NO_KERNEL, 1, &y, NULL);
    wr_feed feed = feed_of("x", 1, 3, 0);
    assert_int_equal(run_once(g, z, 1, &feed, &err), WR_ERR_INPUT);
    snprintf(expected, sizeof expected,
             "these ops have no kernel on device cpu:\n"
             "  \"unheard_of\"  f32 [3]  from %s:%d unheard_of\n"
             "  \"unheard_of\"  f32 [3]  from %s:%d unheard_of\n"
             "  hint: give their rows a kernel for this device, or run where they have one",
             __FILE__, line, __FILE__, line + 1);
    wr_str got = {0};
    add_without_chains(err.text, &got);
    assert_string_equal(wr_str_text(&got), expected);
    wr_str_free(&got);
}

static void test_outputs(void **state) {
    wr_graph *g = wr_graph_new(), *h = wr_graph_new();
    wr_error err = {0};
    wr_program *p;
    wr x = floats(g, "x", 3), outputs[2] = {x, {g, 0}};
    (void)state;
    assert_int_equal(wr_program_new(g, 2, outputs, NULL, &p, &err), WR_ERR_INPUT);
    assert_string_equal(err.text, "output 1 of the program is no node (poison)");
    err = (wr_error){0};
    outputs[1] = floats(h, "y", 3);
    assert_int_equal(wr_program_new(g, 2, outputs, NULL, &p, &err), WR_ERR_INPUT);
    assert_string_equal(err.text, "output 1 of the program is a node of another graph");
    wr_graph_free(h);
    wr_graph_free(g);
}

static void test_device(void **state) {
    wr_session_options o = {.device = "abacus"};
    wr_session *s;
    wr_error err = {0};
    (void)state;
    assert_int_equal(wr_session_new(&o, &s, &err), WR_ERR_INPUT);
    assert_null(s);
    assert_non_null(strstr(err.text, "device \"abacus\""));
}

/* ---- feeds ---- */

/* Feed sum(x y), x [B, 3], y [B, 3], B in 2 .. 8, even. `expected` is the first line of the
 * message; "" means that it runs. */
static void check_feeds(int n, const wr_feed *feeds, const char *expected) {
    wr_graph *g = wr_graph_new();
    wr_error err = {0};
    wr_str full = {0}, got = {0};
    wr_dim B = wr_sym(g, "B", 2, 8, 2);
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(B, wr_n(3)));
    int line = __LINE__ - 1;
    wr y = wr_input(g, "y", WR_F32, WR_DIMS(B, wr_n(3)));
    wr_status status = run_once(g, wr_sum_all(wr_mul(x, y)), n, feeds, &err);
    wr_str_add(&full, "%s", expected);
    if (expected[0] == 'i') /* `input "x" ..`: then the line of the input */
        wr_str_add(&full, "\n  \"%c\"  f32 [B, 3]  from %s:%d input", expected[7], __FILE__,
                   line + (expected[7] == 'y' ? 2 : 0));
    if (strstr(expected, "is not fed") != NULL)
        wr_str_add(&full, "\n  hint: wr_session_run needs a wr_feed of that name");
    add_without_chains(err.text, &got);
    if (got.len > 0 && got.text[got.len - 1] == '\n') got.text[--got.len] = '\0';
    assert_int_equal(status, expected[0] == '\0' ? WR_OK : WR_ERR_INPUT);
    assert_string_equal(wr_str_text(&got), wr_str_text(&full));
    wr_str_free(&full);
    wr_str_free(&got);
}

static void test_feeds(void **state) {
    wr_feed x = feed_of("x", 2, 4, 3), y = feed_of("y", 2, 4, 3);
    (void)state;
    check_feeds(2, (wr_feed[]){x, y}, "");
    check_feeds(2, (wr_feed[]){y, x}, "");
    check_feeds(1, &x, "input \"y\" is not fed");
    check_feeds(3, (wr_feed[]){x, y, x}, "input \"x\" is fed twice");
    check_feeds(2, (wr_feed[]){x, feed_of("y", 1, 4, 0)},
                "input \"y\" is fed with 1 axis, but has 2");
    check_feeds(2, (wr_feed[]){x, feed_of("y", 2, 4, 5)},
                "input \"y\" was fed with size 5 on axis 1: that is not what it was declared as");
    check_feeds(2, (wr_feed[]){x, feed_of("y", 2, 6, 3)},
                "input \"y\" was fed with size 6 on axis 0: its symbol B is 4 already, by an axis "
                "before it");
}

/* Out of the symbol's range, above, below and between. */
static void test_symbol_range(void **state) {
    static const int64_t sizes[] = {10, 0, 5, 7};
    (void)state;
    for (int i = 0; i < 4; i++) {
        wr_feed feeds[2] = {feed_of("x", 2, sizes[i], 3), feed_of("y", 2, sizes[i], 3)};
        wr_graph *g = wr_graph_new();
        wr_error err = {0};
        char expected[600];
        wr_dim B = wr_sym(g, "B", 2, 8, 2);
        int line = __LINE__ + 1;
        wr x = wr_input(g, "x", WR_F32, WR_DIMS(B, wr_n(3)));
        wr y = wr_input(g, "y", WR_F32, WR_DIMS(B, wr_n(3)));
        assert_int_equal(run_once(g, wr_mul(x, y), 2, feeds, &err), WR_ERR_INPUT);
        snprintf(expected, sizeof expected,
                 "input \"x\" was fed with size %lld on axis 0: B takes 2 to 8, in multiples of 2\n"
                 "  \"x\"  f32 [B, 3]  from %s:%d input",
                 (long long)sizes[i], __FILE__, line);
        assert_ptr_equal(strstr(err.text, expected), err.text);
    }
}

/* A size that no input gives. */
static void test_unbound_symbol(void **state) {
    wr_graph *g = wr_graph_new();
    wr_error err = {0};
    char expected[600];
    wr_dim B = wr_sym(g, "B", 2, 8, 2), T = wr_sym(g, "T", 1, 9, 1);
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(B));
    wr_feed feed = feed_of("x", 1, 4, 0);
    (void)state;
    int line = __LINE__ + 1;
    wr y = wr_broadcast(x, WR_DIMS(T, B));
    assert_int_equal(run_once(g, y, 1, &feed, &err), WR_ERR_INPUT);
    snprintf(expected, sizeof expected,
             "axis 0 of \"broadcast\"  f32 [T, B]  from %s:%d broadcast has a symbol that no fed "
             "input gives a value",
             __FILE__, line);
    assert_string_equal(err.text, expected);
}

/* What a kernel finds while it runs comes with the node. */
static void test_run_time(void **state) {
    static const int32_t indices[2] = {1, 7};
    wr_graph *g = wr_graph_new();
    wr_error err = {0};
    char expected[600];
    wr x = floats(g, "x", 3), i = wr_input(g, "i", WR_I32, WR_DIMS(wr_n(2)));
    wr_feed feeds[2] = {feed_of("x", 1, 3, 0), feed_of("i", 1, 2, 0)};
    feeds[1].data = indices;
    (void)state;
    int line = __LINE__ + 1;
    wr y = wr_gather(x, i);
    assert_int_equal(run_once(g, y, 2, feeds, &err), WR_ERR_INPUT);
    snprintf(expected, sizeof expected, "\n  in \"gather\"  f32 [2]  from %s:%d gather", __FILE__,
             line);
    assert_non_null(strstr(err.text, "7"));
    assert_non_null(strstr(err.text, expected));
}

/* The model asks for other sizes than the session (a checkpoint, say) holds. */
static void test_stored_sizes(void **state) {
    wr_graph *g = wr_graph_new();
    wr_session_options o = {.threads = 1};
    wr_session *s;
    wr_program *p;
    wr_error err = {0};
    char expected[600];
    (void)state;
    int line = __LINE__ + 1;
    wr W = wr_param(g, "W", WR_F32, WR_DIMS(wr_n(2), wr_n(3)), (wr_init){0});
    assert_int_equal(wr_session_new(&o, &s, &err), WR_OK);
    int64_t dims[2] = {3, 2};
    assert_int_equal(wr_session_define(s, "W", true, WR_F32, 2, dims, NUMBERS, &err), WR_OK);
    assert_int_equal(wr_session_define(s, "W", true, WR_F32, 2, dims, NUMBERS, &err), WR_ERR_INPUT);
    assert_string_equal(err.text, "tensor \"W\" exists in the session already");
    err = (wr_error){0};
    assert_int_equal(wr_program_new(g, 1, &W, NULL, &p, &err), WR_OK);
    assert_int_equal(wr_session_run(s, p, 0, NULL, &err), WR_ERR_INPUT);
    snprintf(expected, sizeof expected,
             "\"W\"  f32 [2, 3]  from %s:%d parameter: the session (or its checkpoint) holds it as "
             "f32 [3, 2]; the model and the checkpoint must be of one recipe",
             __FILE__, line);
    assert_string_equal(err.text, expected);
    assert_null(wr_session_plan(s));
    wr_session_free(s);
    wr_program_free(p);
    wr_graph_free(g);
}

/* ---- the chain of callers ---- */

static wr __attribute__((noinline)) inner_layer(wr x, wr y) { return wr_neg(wr_add(x, y)); }

static wr __attribute__((noinline)) outer_layer(wr x, wr y) {
    wr z = inner_layer(x, y);
    return wr_neg(z);
}

/* From the caller of the function that the message names. Skipped in builds without libunwind. */
static void test_chain_of_callers(void **state) {
    wr_graph *g = wr_graph_new();
    wr_str all = {0};
    (void)state;
    outer_layer(floats(g, "x", 3), floats(g, "y", 4));
    wr_graph_report(g, &all);
    const char *chain = strstr(wr_str_text(&all), CHAIN);
    bool traced = chain != NULL;
    if (traced) {
        const char *end = strchr(chain, '\n');
        const char *outer = strstr(chain, "outer_layer tests/test_errors.c:");
        const char *test = strstr(chain, " <- test_chain_of_callers tests/test_errors.c:");
        assert_non_null(end);
        assert_ptr_equal(outer, chain + sizeof CHAIN - 1);
        assert_true(test != NULL && outer < test && test < end);
        assert_ptr_equal(strncmp(end, "\n  hint: ", 9) == 0 ? end : NULL, end);
    }
    wr_str_free(&all);
    wr_graph_free(g);
    if (!traced) skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul_sizes),
        cmocka_unit_test(test_matmul_hint),
        cmocka_unit_test(test_elementwise_sizes),
        cmocka_unit_test(test_dtypes),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_symbols),
        cmocka_unit_test(test_other_graph),
        cmocka_unit_test(test_loss_is_no_scalar),
        cmocka_unit_test(test_no_gradient),
        cmocka_unit_test(test_no_kernel),
        cmocka_unit_test(test_outputs),
        cmocka_unit_test(test_device),
        cmocka_unit_test(test_feeds),
        cmocka_unit_test(test_symbol_range),
        cmocka_unit_test(test_unbound_symbol),
        cmocka_unit_test(test_run_time),
        cmocka_unit_test(test_stored_sizes),
        cmocka_unit_test(test_chain_of_callers),
    };
    return cmocka_run_group_tests_name("errors", tests, NULL, NULL);
}
