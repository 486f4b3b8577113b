/* test_viz.c: pictures of graphs: the text for Graphviz, what is folded and closed, the layout. */
#include "autodiff/grad.h"
#include "graph/plan.h"
#include "helpers/alloc.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/layout.h"
#include "viz/draw.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- graphs to draw ---- */

static const wr_loc HERE = {"tiny.c", 7, "tiny"};
static const wr_init ZERO = {WR_INIT_ZERO, 0, 0};

static wr linear(wr x, const char *name, int n) {
    wr y = x;
    WR_SCOPE (x.g, "%s", name) {
        wr w = wr_param(x.g, "W", WR_F32, WR_DIMS(wr_dim_of(x, -1), wr_n(n)), ZERO);
        wr b = wr_param(x.g, "b", WR_F32, WR_DIMS(wr_n(n)), ZERO);
        y = wr_add(wr_matmul(x, w), b);
    }
    return y;
}

static wr layer(wr x, int inner) {
    wr y = x;
    WR_SCOPE (x.g, "self") {
        y = wr_add(y, wr_tanh(linear(y, "q", 8)));
    }
    WR_SCOPE (x.g, "ffn") {
        y = wr_add(y, linear(wr_relu(linear(y, "inner", inner)), "outer", 8));
    }
    return y;
}

/* `layers` residual layers in the scope "net"; layer `odd` is wider (-1: none). */
static wr network(wr_graph *g, int layers, int odd) {
    wr_dim B = wr_sym(g, "B", 1, 64, 1);
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(B, wr_n(8)));
    WR_SCOPE (g, "net") {
        for (int i = 0; i < layers; i++)
            WR_SCOPE (g, "layer%d", i) {
                x = layer(x, i == odd ? 32 : 16);
            }
    }
    return wr_named(wr_sum_all(wr_scale(x, 0.5)), "loss");
}

/* ---- looking at the text ---- */

static void draw(const wr_graph *g, const wr_draw_options *o, wr_str *out) {
    wr_error err = {0};
    wr_str_clear(out);
    if (wr_draw_dot(g, o, out, &err) != WR_OK) fail_msg("%s", err.text);
}

static int count(const wr_str *text, const char *what) {
    int n = 0;
    for (const char *at = wr_str_text(text); (at = strstr(at, what)) != NULL; at++)
        n++;
    return n;
}

/* Does Graphviz take it? */
static void lay_out(const wr_str *text) {
    wr_error err = {0};
    if (!wr_draw_has_layout()) return;
    if (wr_draw_write(wr_str_text(text), "svg", "laid-out.svg", &err) != WR_OK)
        fail_msg("%s", err.text);
    unlink("laid-out.svg");
}

/* ---- tests ---- */

static const char GOLDEN[] =
    "digraph weir {\n"
    "  graph [charset=\"UTF-8\" rankdir=TB compound=true fontname=\"Helvetica\" fontsize=11 "
    "labelloc=b nodesep=0.25 ranksep=0.35 bgcolor=white];\n"
    "  node [shape=box style=\"filled,rounded\" fontname=\"Helvetica\" fontsize=11 height=0.3 "
    "margin=\"0.11,0.05\" color=\"#455a64\"];\n"
    "  edge [fontname=\"Helvetica\" fontsize=9 color=\"#607d8b\" fontcolor=\"#37474f\" "
    "arrowsize=0.6];\n"
    "  n1 [ label=\"x\\n[B, 3]\" tooltip=\"\\\"x\\\"  f32 [B, 3]  from tiny.c:7 input\\lin tiny() "
    "at tiny.c:7\\linput: a tensor fed at every run\\lname: x\\linit: 0\\la: 0\\lb: 0\" "
    "fillcolor=\"#bbdefb\"];\n"
    "  n3 [ label=\"y: add\\n[B, 3]\" tooltip=\"\\\"y\\\"  f32 [B, 3]  from tiny.c:7 add\\lin "
    "tiny() at tiny.c:7\\ladd: a + b\" fillcolor=\"#dcedc8\" color=\"#1b5e20\" "
    "penwidth=2.5];\n"
    "  subgraph cluster_1 {\n"
    "    graph [ label=\"s\" tooltip=\"s\\l1 op\" fillcolor=\"#eef2f4\" color=\"#90a4ae\" "
    "labelloc=t labeljust=l fontsize=13 style=\"filled,rounded\"];\n"
    "  n2 [ label=\"scale 0.5\\n[B, 3]\" tooltip=\"\\\"s.scale\\\"  f32 [B, 3]  from tiny.c:7 "
    "scale\\lin tiny() at tiny.c:7\\lscale: k x\\lk: 0.5\" fillcolor=\"#dcedc8\"];\n"
    "  }\n"
    "  n1 -> n2 [ tooltip=\"[B, 3]\" color=\"#b0bec5\"];\n"
    "  n1 -> n3 [ tooltip=\"[B, 3]\" color=\"#b0bec5\"];\n"
    "  n2 -> n3 [ tooltip=\"[B, 3]\"];\n"
    "  label=<<TABLE BORDER=\"0\" CELLSPACING=\"4\" CELLPADDING=\"4\"><TR><TD "
    "COLSPAN=\"4\"><B>tiny</B></TD></TR><TR><TD COLSPAN=\"4\">2 ops</TD></TR><TR><TD BORDER=\"1\" "
    "BGCOLOR=\"#bbdefb\" COLOR=\"#455a64\">input</TD><TD BORDER=\"1\" BGCOLOR=\"#dcedc8\" "
    "COLOR=\"#455a64\">elementwise</TD><TD BORDER=\"2\" BGCOLOR=\"#ffffff\" "
    "COLOR=\"#1b5e20\">result</TD></TR></TABLE>>;\n"
    "}\n";

static void test_golden(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr_dim B = wr_sym(g, "B", 1, 64, 1), dims[2] = {B, wr_n(3)};
    wr x = wr_input_at(HERE, g, "x", WR_F32, 2, dims), half = x;
    WR_SCOPE (g, "s") {
        half = wr_real_at(HERE, &wr_op_scale, x, 0.5);
    }
    wr_named(wr_binary_at(HERE, &wr_op_add, x, half), "y");
    wr_str out = {0};
    draw(g, &(wr_draw_options){.depth = 1, .title = "tiny"}, &out);
    assert_string_equal(wr_str_text(&out), GOLDEN);
    wr_str_free(&out);
    wr_graph_free(g);
}

static void test_empty(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr_str out = {0};
    draw(g, &(wr_draw_options){.depth = -1}, &out);
    assert_int_equal(count(&out, "an empty graph"), 1);
    assert_int_equal(count(&out, "->"), 0);
    wr_str_free(&out);
    wr_graph_free(g);
}

static void test_depth(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    network(g, 3, -1);
    wr_str out = {0};
    draw(g, &(wr_draw_options){.depth = 0}, &out);
    assert_int_equal(count(&out, "subgraph"), 0);
    /* 3 layers of 3 matmul, 3 bias adds, tanh, relu, 2 residual adds. */
    assert_int_equal(count(&out, "label=\"net\\n30 ops, 1056 parameters\""), 1);
    draw(g, &(wr_draw_options){.depth = 1}, &out);
    assert_int_equal(count(&out, "subgraph"), 1);
    assert_int_equal(count(&out, "label=\"layer0..2  × 3\\n10 ops, 352 parameters each\""), 1);
    assert_int_equal(count(&out, "to the next"), 0);
    draw(g, &(wr_draw_options){.depth = 2}, &out);
    assert_int_equal(count(&out, "subgraph"), 2);
    assert_int_equal(count(&out, "label=\"layer0..2  × 3\""), 1);
    assert_int_equal(count(&out, "label=\"self\\n4 ops, 72 parameters\""), 1);
    assert_int_equal(count(&out, " style=dashed constraint=false"), 1); /* ffn to the next self */
    draw(g, &(wr_draw_options){.depth = -1}, &out);
    assert_int_equal(count(&out, "label=\"W\\n"), 3); /* q, inner, outer, once for the 3 layers */
    assert_int_equal(count(&out, "label=\"matmul\\n"), 3);
    wr_str_free(&out);
    wr_graph_free(g);
}

static void test_every_repeat(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    network(g, 3, -1);
    wr_str out = {0};
    draw(g, &(wr_draw_options){.depth = -1, .every_repeat = true}, &out);
    assert_int_equal(count(&out, "label=\"W\\n"), 9);
    assert_int_equal(count(&out, "to the next"), 0);
    assert_int_equal(count(&out, "subgraph"), 1 + 3 * (1 + 2 + 3));
    draw(g, &(wr_draw_options){.depth = 1, .every_repeat = true}, &out);
    assert_int_equal(count(&out, "label=\"layer2\\n10 ops, 352 parameters\""), 1);
    wr_str_free(&out);
    wr_graph_free(g);
}

/* A layer of another width is not folded, and what stands behind it is a run of its own. */
static void test_odd_layer(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    network(g, 5, 2);
    wr_str out = {0};
    draw(g, &(wr_draw_options){.depth = 1}, &out);
    assert_int_equal(count(&out, "label=\"layer0..1  × 2\\n"), 1);
    assert_int_equal(count(&out, "label=\"layer2\\n"), 1);
    assert_int_equal(count(&out, "label=\"layer3..4  × 2\\n"), 1);
    wr_str_free(&out);
    wr_graph_free(g);
}

static void test_scope(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    network(g, 3, -1);
    wr_str out = {0};
    draw(g, &(wr_draw_options){.scope = "net.layer1"}, &out);
    assert_int_equal(count(&out, "graph [ label=\"net.layer1\""), 1);
    assert_int_equal(count(&out, "subgraph"), 1);
    assert_int_equal(count(&out, "label=\"net.layer0\\n"), 1); /* outside: where it comes from */
    assert_int_equal(count(&out, "label=\"net.layer2\\n"), 1);
    assert_int_equal(count(&out, "loss"), 0);
    wr_str_clear(&out);
    wr_error err = {0};
    wr_draw_options o = {.scope = "net.layer7"};
    assert_int_equal(wr_draw_dot(g, &o, &out, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "no scope 'net.layer7' in the picture; there are net, "
                                     "net.layer0, net.layer0.self, "));
    wr_str_free(&out);
    wr_graph_free(g);
}

/* Gradients have a cluster of their own; layers fold there too, though their order is reversed. */
static void test_gradient(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr loss = network(g, 4, -1), wrt[24], grads[24];
    int n = 0;
    for (uint32_t id = 1; id < wr_node_count(g); id++)
        if (wr_node_at(g, id)->op == &wr_op_param) wrt[n++] = (wr){g, id};
    assert_int_equal(n, 24);
    assert_true(wr_grad(loss, n, wrt, grads));
    wr_str out = {0};
    draw(g, &(wr_draw_options){.depth = 1}, &out);
    assert_int_equal(count(&out, "graph [ label=\"gradient\""), 1);
    assert_int_equal(count(&out, "label=\"layer0..3  × 4\\n"), 1);
    assert_int_equal(count(&out, "label=\"layer1..3  × 3\\n"), 1);
    draw(g, &(wr_draw_options){.depth = 1, .forward_only = true}, &out);
    assert_int_equal(count(&out, "gradient"), 0);
    wr_str_free(&out);
    wr_graph_free(g);
}

/* The gradient tells how many values it reads, without arrows across. */
static void test_kept(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(2))), y = x, dx;
    WR_SCOPE (g, "s") {
        y = wr_exp(wr_tanh(x));
    }
    assert_true(wr_grad(wr_sum_all(y), 1, &x, &dx));
    wr_str out = {0};
    draw(g, &(wr_draw_options){.depth = 0}, &out);
    /* exp' reads exp, tanh' reads tanh: of the scope's two values both. */
    assert_int_equal(count(&out, "\\nreads 2 values of the forward part\""), 1);
    draw(g, &(wr_draw_options){.depth = 0, .every_arrow = true}, &out);
    assert_int_equal(count(&out, "of the forward part"), 0);
    assert_int_equal(count(&out, "label=\"   2 tensors\""), 1);
    wr_str_free(&out);
    wr_graph_free(g);
}

/* What five boxes read is told by a sign. */
static void test_signs(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(2))), y = wr_exp(x);
    for (int i = 0; i < 4; i++)
        y = wr_mul(y, x);
    wr_str out = {0};
    draw(g, &(wr_draw_options){.depth = 0}, &out);
    assert_int_equal(count(&out, "label=\"x\\n[2]\\ngives \xE2\x91\xA0\""), 1);
    assert_int_equal(count(&out, "\\nreads \xE2\x91\xA0\""), 5);
    assert_int_equal(count(&out, "  n1 -> "), 0);
    assert_int_equal(count(&out, "what many boxes read"), 1);
    draw(g, &(wr_draw_options){.depth = 0, .every_arrow = true}, &out);
    assert_int_equal(count(&out, "  n1 -> "), 5);
    assert_int_equal(count(&out, "\xE2\x91\xA0"), 0);
    wr_str_free(&out);
    wr_graph_free(g);
}

/* Arrows pass a reshape and tell the new sizes, unless it has a name. */
static void test_views(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(2), wr_n(3)));
    wr_exp(wr_reshape(wr_exp(x), WR_DIMS(wr_n(6))));
    wr_log(wr_named(wr_reshape(x, WR_DIMS(wr_n(3), wr_n(2))), "turned"));
    wr_str out = {0};
    draw(g, &(wr_draw_options){.depth = 0}, &out);
    assert_int_equal(count(&out, "reshape\\n"), 1);
    assert_int_equal(count(&out, "[ label=\"   [6]\" tooltip"), 1);
    draw(g, &(wr_draw_options){.depth = 0, .every_view = true}, &out);
    assert_int_equal(count(&out, "reshape\\n"), 2);
    wr_str_free(&out);
    wr_graph_free(g);
}

/* Layers that are alike but not neighbours stand alone: a0 b0 a1 b1. */
static void test_no_neighbours(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(2), wr_n(8)));
    for (int i = 0; i < 2; i++) {
        WR_SCOPE (g, "a%d", i) {
            x = wr_tanh(x);
        }
        WR_SCOPE (g, "b%d", i) {
            x = wr_relu(x);
        }
    }
    wr_str out = {0};
    draw(g, &(wr_draw_options){.depth = 0}, &out);
    assert_int_equal(count(&out, "\xC3\x97"), 0);
    assert_int_equal(count(&out, "label=\"a1\\n1 op\""), 1);
    wr_str_free(&out);
    wr_graph_free(g);
}

/* ---- filters ---- */

/* x -> exp -> s.tanh -> "out", and log of x beside it. */
static wr_graph *small(void) {
    wr_graph *g = wr_graph_new();
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(2))), y = wr_exp(x);
    WR_SCOPE (g, "s") {
        y = wr_tanh(y);
    }
    wr_named(wr_relu(y), "out");
    wr_log(x);
    return g;
}

static void test_ancestors(void **state) {
    (void)state;
    wr_graph *g = small();
    wr_str out = {0};
    draw(g, &(wr_draw_options){.depth = 1, .ancestors = "s.tanh"}, &out);
    assert_int_equal(count(&out, "label=\"exp\\n"), 1);
    assert_int_equal(count(&out, "label=\"tanh\\n"), 1);
    assert_int_equal(count(&out, "out: relu"), 0);
    assert_int_equal(count(&out, "label=\"log\\n"), 0);
    draw(g, &(wr_draw_options){.depth = 1, .descendants = "s.tanh"}, &out);
    assert_int_equal(count(&out, "label=\"exp\\n"), 0);
    assert_int_equal(count(&out, "out: relu"), 1);
    draw(g, &(wr_draw_options){.depth = 1, .descendants = "exp", .ancestors = "3"}, &out);
    assert_int_equal(count(&out, "label=\"exp\\n"), 1);
    assert_int_equal(count(&out, "label=\"tanh\\n"), 1); /* number 3 */
    assert_int_equal(count(&out, "label=\"x\\n"), 0);
    assert_int_equal(count(&out, "out: relu"), 0);
    draw(g, &(wr_draw_options){.depth = 1, .descendants = "out", .ancestors = "x"}, &out);
    assert_int_equal(count(&out, "an empty graph"), 1); /* nothing lies between */
    wr_str_free(&out);
    wr_graph_free(g);
}

static void test_unknown_node(void **state) {
    (void)state;
    wr_graph *g = small();
    wr_str out = {0};
    const char *wrong[] = {"s.tanj", "999", "0", "-1", "s."};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        wr_error err = {0};
        wr_draw_options o = {.descendants = wrong[i]};
        assert_int_equal(wr_draw_dot(g, &o, &out, &err), WR_ERR_INPUT);
        assert_non_null(strstr(err.text, "no node '"));
        assert_non_null(strstr(err.text, "s.tanh"));
    }
    wr_error err = {0};
    wr_draw_options o = {.ancestors = "s.tanj"};
    assert_int_equal(wr_draw_dot(g, &o, &out, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "no node 's.tanj' in the picture; near names: s.tanh, "));
    wr_str_free(&out);
    wr_graph_free(g);
}

static void test_only_parameters(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    network(g, 3, -1);
    wr_str out = {0};
    draw(g, &(wr_draw_options){.depth = -1, .only_parameters = true}, &out);
    assert_int_equal(count(&out, "label=\"W\\n"), 3); /* of the layers drawn as one */
    assert_int_equal(count(&out, "matmul"), 0);
    assert_int_equal(count(&out, "->"), 0);
    assert_int_equal(count(&out, "1056 parameters"), 2); /* the tooltip of net, the caption */
    draw(g, &(wr_draw_options){.depth = 1, .only_parameters = true}, &out);
    assert_int_equal(count(&out, "label=\"layer0..2  × 3\\n352 parameters each\""), 1);
    lay_out(&out);
    wr_str_free(&out);
    wr_graph_free(g);
}

/* Only live nodes are drawn. */
static void test_live(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(2)));
    wr y = wr_exp(x);
    wr_log(x);
    bool *live = wr_live_nodes(g, 1, &y.id);
    assert_non_null(live);
    wr_str out = {0};
    draw(g, &(wr_draw_options){.live = live}, &out);
    assert_int_equal(count(&out, "label=\"exp\\n"), 1);
    assert_int_equal(count(&out, "label=\"log\\n"), 0);
    free(live);
    wr_str_free(&out);
    wr_graph_free(g);
}

static void test_costs(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr_dim B = wr_sym(g, "B", 1, 64, 1);
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(B, wr_n(1000)));
    WR_SCOPE (g, "s") {
        linear(x, "l", 500);
    }
    wr_binding b = {{32}};
    wr_str out = {0};
    draw(g, &(wr_draw_options){.depth = 2, .binding = &b}, &out);
    assert_int_equal(count(&out, "sizes: 32 500"), 2);
    /* 2 * 32 * 1000 * 500 of the product and 32 * 500 of the bias. */
    assert_int_equal(count(&out, "32.0M operations"), 4);
    wr_str_free(&out);
    wr_graph_free(g);
}

/* Names with every character that Graphviz or XML takes for something else. */
static const char ODD[] = "a\"b\\N<c>&amp;\n{d|\x01\xff\xc3\xa9";

static void test_escaping(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr x = wr_input(g, ODD, WR_F32, WR_DIMS(wr_n(2)));
    WR_SCOPE (g, "%s", ODD) {
        wr_named(wr_exp(x), "%s", ODD);
    }
    wr_str out = {0};
    draw(g, &(wr_draw_options){.depth = 1, .title = ODD}, &out);
    const char *shown = "a\\\"b\\\\N<c>&amp;amp;\\n{d| \xEF\xBF\xBD\xc3\xa9";
    char label[128];
    snprintf(label, sizeof label, "label=\"%s\\n[2]\"", shown);
    assert_int_equal(count(&out, label), 1);
    snprintf(label, sizeof label, "label=\"%s: exp", shown);
    assert_int_equal(count(&out, label), 1);
    assert_int_equal(count(&out, "<B>a&quot;b\\N&lt;c&gt;&amp;amp;<br/>{d| "), 1);
    if (wr_draw_has_layout()) {
        wr_error err = {0};
        char *svg = NULL;
        size_t n = 0;
        assert_int_equal(wr_draw_write(wr_str_text(&out), "svg", "odd.svg", &err), WR_OK);
        assert_int_equal(wr_file_read("odd.svg", &svg, &n, &err), WR_OK);
        assert_non_null(strstr(svg, "a&quot;b\\N&lt;c&gt;&amp;amp;"));
        free(svg);
        unlink("odd.svg");
    }
    wr_str_free(&out);
    wr_graph_free(g);
}

/* Any name is drawn: empty, long, of other scripts, words of Graphviz' language. */
static void test_odd_names(void **state) {
    (void)state;
    static char longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    const char *const names[] = {"",       longest,     "a.b",  "digraph", "subgraph cluster_1 {",
                                 "x -> y", "\\N\\L\\G", "%s%n", "<b>",     "\xF0\x9F\x98\x80"};
    wr_graph *g = wr_graph_new();
    wr_dim dims[1] = {wr_n(2)};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        wr x = wr_input_at(HERE, g, names[i], WR_F32, 1, dims);
        WR_SCOPE (g, "%s", names[i]) {
            wr_named(wr_exp(x), "%s", names[i]);
        }
    }
    wr_str out = {0};
    for (int depth = 0; depth < 2; depth++) {
        draw(g, &(wr_draw_options){.depth = depth, .title = names[depth]}, &out);
        lay_out(&out);
    }
    wr_str_free(&out);
    wr_graph_free(g);
}

static void test_mistakes(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(2))),
       y = wr_input(g, "y", WR_F32, WR_DIMS(wr_n(3)));
    wr_exp(wr_add(x, y));
    wr_str out = {0};
    draw(g, &(wr_draw_options){.depth = 1}, &out);
    assert_int_equal(count(&out, "  mistake1 [ label=\"mistake 1\\l"), 1);
    assert_int_equal(count(&out, "fillcolor=\"#ffcdd2\" color=\"#b71c1c\""), 1);
    assert_true(count(&out, "test_viz.c") >= 1);
    assert_int_equal(count(&out, "label=\"y\\n[3]\""), 1);
    assert_int_equal(count(&out, "n1 -> mistake1 "), 1);
    assert_int_equal(count(&out, "n2 -> mistake1 "), 1);
    assert_int_equal(count(&out, "COLOR=\"#b71c1c\">mistake<"), 1); /* in the legend */
    wr_matmul(x, y);
    draw(g, &(wr_draw_options){.depth = 0}, &out);
    assert_int_equal(count(&out, "  mistake2 [ label=\"mistake 2\\l"), 1);
    assert_int_equal(count(&out, " -> mistake2 "), 2);
    lay_out(&out);
    wr_str_free(&out);
    wr_graph_free(g);
}

/* A mistake that names no operand, in a graph without a node. */
static void test_only_a_mistake(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr_mistake(g, HERE, "nothing \"but\" <this> & {that}");
    wr_str out = {0};
    draw(g, &(wr_draw_options){.depth = 1}, &out);
    assert_int_equal(count(&out, "nothing \\\"but\\\" <this> &amp; {that}"), 1);
    assert_int_equal(count(&out, "->"), 0);
    lay_out(&out);
    wr_str_free(&out);
    wr_graph_free(g);
}

static bool begins_with(const char *path, const char *bytes) {
    char *data = NULL;
    size_t n = 0;
    wr_error err = {0};
    if (wr_file_read(path, &data, &n, &err) != WR_OK) fail_msg("%s", err.text);
    bool yes = n > 1000 && memcmp(data, bytes, strlen(bytes)) == 0;
    free(data);
    unlink(path);
    return yes;
}

static void test_layout(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    network(g, 3, -1);
    wr_draw_options o = {.depth = 2};
    wr_error err = {0};
    if (!wr_draw_has_layout()) {
        assert_int_equal(wr_draw_file(g, &o, "svg", "net.svg", &err), WR_ERR_LIBRARY);
        assert_non_null(strstr(err.text, "install libgraphviz-dev"));
    } else {
        assert_int_equal(wr_draw_file(g, &o, "svg", "net.svg", &err), WR_OK);
        assert_true(begins_with("net.svg", "<?xml"));
        assert_int_equal(wr_draw_file(g, &o, "png", "net.png", &err), WR_OK);
        assert_true(begins_with("net.png", "\x89PNG"));
        assert_int_equal(wr_draw_file(g, &o, "pdf", "net.pdf", &err), WR_OK);
        assert_true(begins_with("net.pdf", "%PDF"));
        assert_int_equal(wr_draw_write("digraph {", "svg", "net.svg", &err), WR_ERR_INPUT);
        assert_int_equal(access("net.svg", F_OK), -1);
    }
    err = (wr_error){0};
    assert_int_equal(wr_draw_file(g, &o, "dot", "net.dot", &err), WR_OK);
    assert_true(begins_with("net.dot", "digraph weir {"));
    assert_int_equal(wr_draw_file(g, &o, "gif", "net.gif", &err), WR_ERR_INPUT);
    err = (wr_error){0};
    assert_int_equal(wr_draw_file(g, &o, "dot", "no/such/folder.dot", &err), WR_ERR_IO);
    wr_graph_free(g);
}

/* Any allocation may fail: an error, and nothing leaks. */
static void test_memory(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    network(g, 2, -1);
    wr_binding b = {{4}};
    wr_draw_options o = {.depth = 2,
                         .scope = "net",
                         .binding = &b,
                         .title = "memory",
                         .ancestors = "loss",
                         .descendants = "net.layer0.self.tanh"};
    long n = 1;
    for (;; n++) {
        wr_str out = {0};
        wr_error err = {0};
        wr_test_fail_allocation(n);
        wr_status status = wr_draw_dot(g, &o, &out, &err);
        bool failed = wr_test_allocation_failed();
        wr_str_free(&out);
        assert_int_equal(status, failed ? WR_ERR_MEMORY : WR_OK);
        if (!failed) break;
    }
    assert_true(n > 20);
    wr_graph_free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),       cmocka_unit_test(test_empty),
        cmocka_unit_test(test_depth),        cmocka_unit_test(test_every_repeat),
        cmocka_unit_test(test_odd_layer),    cmocka_unit_test(test_no_neighbours),
        cmocka_unit_test(test_scope),        cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_kept),         cmocka_unit_test(test_signs),
        cmocka_unit_test(test_views),        cmocka_unit_test(test_ancestors),
        cmocka_unit_test(test_unknown_node), cmocka_unit_test(test_only_parameters),
        cmocka_unit_test(test_live),         cmocka_unit_test(test_costs),
        cmocka_unit_test(test_escaping),     cmocka_unit_test(test_odd_names),
        cmocka_unit_test(test_mistakes),     cmocka_unit_test(test_only_a_mistake),
        cmocka_unit_test(test_layout),       cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
