/* test_memory_picture.c: who holds the arena of a plan, as table and as picture; bars. */
#include "autodiff/grad.h"
#include "graph/session.h"
#include "helpers/alloc.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "viz/bars.h"
#include "viz/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- a plan ---- */

enum { LAYERS = 3, WIDTH = 64, ROWS = 32 };
static const wr_init NORMAL = {WR_INIT_NORMAL, 0, 0.1};

typedef struct fixture {
    wr_graph *g;
    wr_program *p;
    wr_session *s;
    const wr_plan *plan;
} fixture;

/* A loss of layers net.layer0.. with gradients of their weights. */
static void build(wr_graph *g, wr *out) {
    wr_dim B = wr_sym(g, "B", 1, 64, 1);
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(B, wr_n(WIDTH)));
    wr w[LAYERS];
    WR_SCOPE (g, "net") {
        for (int i = 0; i < LAYERS; i++)
            WR_SCOPE (g, "layer%d", i) {
                w[i] = wr_param(g, "W", WR_F32, WR_DIMS(wr_n(WIDTH), wr_n(WIDTH)), NORMAL);
                x = wr_tanh(wr_named(wr_matmul(x, w[i]), "<%d>", i));
            }
    }
    out[0] = wr_sum_all(x);
    assert_true(wr_grad(out[0], LAYERS, w, out + 1));
}

static int begin(void **state) {
    static const float x[ROWS * WIDTH] = {1};
    fixture *f = calloc(1, sizeof *f);
    wr_error err = {0};
    wr out[LAYERS + 1];
    f->g = wr_graph_new();
    build(f->g, out);
    wr_session_options o = {.threads = 1, .seed = 1};
    wr_feed feed = {.name = "x", .data = x, .rank = 2, .dim = {ROWS, WIDTH}};
    if (wr_program_new(f->g, LAYERS + 1, out, NULL, &f->p, &err) != WR_OK ||
        wr_session_new(&o, &f->s, &err) != WR_OK ||
        wr_session_run(f->s, f->p, 1, &feed, &err) != WR_OK)
        fail_msg("%s", err.text);
    f->plan = wr_session_plan(f->s);
    *state = f;
    return 0;
}

static int end(void **state) {
    fixture *f = *state;
    wr_session_free(f->s);
    wr_program_free(f->p);
    wr_graph_free(f->g);
    free(f);
    return 0;
}

static int count(const wr_str *text, const char *what) {
    int n = 0;
    for (const char *at = wr_str_text(text); (at = strstr(at, what)) != NULL; at++)
        n++;
    return n;
}

/* ---- the table ---- */

/* The column `held by` of a line with this name: its bytes, told in kB; negative: no such line. */
static double held_by(const wr_str *table, const char *name) {
    char line[128];
    snprintf(line, sizeof line, "  %s\n", name);
    const char *end = strstr(wr_str_text(table), line), *from = end;
    if (end == NULL) return -1;
    while (from > wr_str_text(table) && from[-1] != '\n')
        from--;
    double bytes;
    char unit[8];
    assert_int_equal(sscanf(from, "%lf %7s", &bytes, unit), 2);
    return strcmp(unit, "kB") == 0 ? bytes : bytes / 1000;
}

/* A layer's activation is ROWS x WIDTH floats: 8.192 kB. At the peak all are kept, and the gradient
 * of the last one is being made; a weight's gradient is 16.384 kB. */
static void test_table(void **state) {
    const fixture *f = *state;
    wr_error err = {0};
    wr_str out = {0}, again = {0};
    wr_memory_options o = {.depth = 2, .top = 4};
    if (wr_memory_table(f->plan, &o, &out, &err) != WR_OK) fail_msg("%s", err.text);
    char sum[160];
    snprintf(sum, sizeof sum, "at most %.1f kB in use, at step %d of %d; arena %.1f kB; ",
             (double)f->plan->live_peak / 1e3, f->plan->peak_step + 1, f->plan->n_steps,
             (double)f->plan->arena_bytes / 1e3);
    assert_int_equal(count(&out, sum), 1);
    assert_int_equal(
        count(&out, "outside of it parameters 49.2 kB, constants 4 B, inputs 8.2 kB\n"), 1);
    double values = held_by(&out, "net.layer*"), backward = held_by(&out, "net.layer*, backward");
    assert_true(values > 8.1 && backward > 16);
    double sum_of_lines = values + backward;
    if (held_by(&out, "outside of scopes, backward") > 0)
        sum_of_lines += held_by(&out, "outside of scopes, backward");
    if (held_by(&out, "outside of scopes") > 0) sum_of_lines += held_by(&out, "outside of scopes");
    if (held_by(&out, "workspaces of kernels") > 0)
        sum_of_lines += held_by(&out, "workspaces of kernels");
    assert_true(sum_of_lines > (double)f->plan->live_peak / 1e3 - 0.6);
    assert_true(sum_of_lines < (double)f->plan->live_peak / 1e3 + 0.6);
    assert_int_equal(count(&out, "16.4 kB"), 3); /* the largest buffers: gradients of weights */
    assert_true(count(&out, "f32 [64, 64]  tests/test_memory_picture.c:") == 3);
    if (wr_memory_table(f->plan, &o, &again, &err) != WR_OK) fail_msg("%s", err.text);
    assert_string_equal(wr_str_text(&out), wr_str_text(&again));
    wr_str_free(&out);
    wr_str_free(&again);
}

/* One more level tells nothing more here; one less joins the layers with the net. */
static void test_depths(void **state) {
    const fixture *f = *state;
    wr_error err = {0};
    wr_str out = {0};
    assert_int_equal(wr_memory_table(f->plan, &(wr_memory_options){.depth = 1}, &out, &err), WR_OK);
    assert_true(held_by(&out, "net") > 8);
    assert_true(held_by(&out, "net.layer*") < 0);
    wr_str_clear(&out);
    assert_int_equal(wr_memory_table(f->plan, &(wr_memory_options){.depth = 0}, &out, &err), WR_OK);
    assert_true(held_by(&out, "outside of scopes") > 8);
    assert_true(held_by(&out, "net") < 0);
    wr_str_free(&out);
}

/* ---- pictures ---- */

static void test_svg(void **state) {
    const fixture *f = *state;
    wr_error err = {0};
    wr_str out = {0}, again = {0};
    wr_memory_options o = {.depth = 2, .top = 10, .title = "a <title> & more"};
    if (wr_memory_svg(f->plan, &o, &out, &err) != WR_OK) fail_msg("%s", err.text);
    assert_memory_equal(wr_str_text(&out), "<svg xmlns=", 11);
    assert_int_equal(count(&out, "</svg>\n"), 1);
    assert_int_equal(count(&out, "a &lt;title&gt; &amp; more"), 1);
    char peak[64];
    snprintf(peak, sizeof peak, "peak %.1f kB, step %d<", (double)f->plan->live_peak / 1e3,
             f->plan->peak_step + 1);
    assert_int_equal(count(&out, peak), 1);
    assert_int_equal(count(&out, ">forward<"), 1);
    assert_int_equal(count(&out, ">backward<"), 1);
    assert_true(count(&out, "net.layer0.&lt;0&gt;") >= 2); /* in the map and among the largest */
    assert_int_equal(count(&out, "nan"), 0);
    assert_int_equal(count(&out, "inf"), 0);
    assert_int_equal(count(&out, "<g>"), count(&out, "</g>"));
    assert_int_equal(count(&out, "<title>"), count(&out, "</title>"));
    if (wr_memory_svg(f->plan, &o, &again, &err) != WR_OK) fail_msg("%s", err.text);
    assert_string_equal(wr_str_text(&out), wr_str_text(&again));
    wr_str_free(&out);
    wr_str_free(&again);
}

/* A program that only hands through its input has no step and no buffer. */
static void test_nothing(void **state) {
    (void)state;
    static const float x[2] = {1, 2};
    wr_graph *g = wr_graph_new();
    wr in = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(2)));
    wr_program *p = NULL;
    wr_session *s = NULL;
    wr_error err = {0};
    wr_session_options o = {.threads = 1};
    wr_feed feed = {.name = "x", .data = x, .rank = 1, .dim = {2}};
    if (wr_program_new(g, 1, &in, NULL, &p, &err) != WR_OK ||
        wr_session_new(&o, &s, &err) != WR_OK || wr_session_run(s, p, 1, &feed, &err) != WR_OK)
        fail_msg("%s", err.text);
    wr_str out = {0};
    wr_memory_options m = {.depth = 1, .top = 10};
    assert_int_equal(wr_memory_table(wr_session_plan(s), &m, &out, &err), WR_OK);
    assert_int_equal(count(&out, "at most 0 B in use, at step 0 of 0"), 1);
    wr_str_clear(&out);
    assert_int_equal(wr_memory_svg(wr_session_plan(s), &m, &out, &err), WR_OK);
    assert_int_equal(count(&out, "nan"), 0);
    wr_str_free(&out);
    wr_session_free(s);
    wr_program_free(p);
    wr_graph_free(g);
}

static void test_bars(void **state) {
    (void)state;
    const wr_bar_row row[] = {{"a <b>", 3, "3 ms & more"}, {"c", 1, NULL}, {"none", 0, "0 ms"}};
    wr_bars b = {.title = "t", .about = "u", .unit = "ms", .row = row, .n = 3};
    wr_str out = {0};
    wr_error err = {0};
    assert_int_equal(wr_bars_svg(&b, &out, &err), WR_OK);
    assert_int_equal(count(&out, "a &lt;b&gt;"), 1);
    assert_int_equal(count(&out, "3 ms &amp; more"), 1);
    assert_int_equal(count(&out, "height=\"13.0\""), 3);
    wr_str_clear(&out);
    assert_int_equal(wr_bars_svg(&(wr_bars){.unit = "ms"}, &out, &err), WR_ERR_INPUT);
    assert_int_equal(out.len, 0);
    wr_str_free(&out);
}

/* Any allocation may fail: an error, and nothing leaks. */
static void test_failing_allocations(void **state) {
    const fixture *f = *state;
    wr_memory_options o = {.depth = 2, .top = 10, .title = "t"};
    for (int svg = 0; svg < 2; svg++) {
        long n = 1;
        for (;; n++) {
            wr_str out = {0};
            wr_error err = {0};
            wr_test_watch_allocations();
            wr_test_fail_allocation(n);
            wr_status status = svg == 1 ? wr_memory_svg(f->plan, &o, &out, &err)
                                        : wr_memory_table(f->plan, &o, &out, &err);
            bool failed = wr_test_allocation_failed();
            wr_str_free(&out);
            assert_int_equal(wr_test_unfreed_allocations(), 0);
            assert_int_equal(status, failed ? WR_ERR_MEMORY : WR_OK);
            if (!failed) break;
        }
        assert_true(n > 20);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_table, begin, end),
        cmocka_unit_test_setup_teardown(test_depths, begin, end),
        cmocka_unit_test_setup_teardown(test_svg, begin, end),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_bars),
        cmocka_unit_test_setup_teardown(test_failing_allocations, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
