/* mlp.c: a multilayer perceptron tells two spirals apart. Declare a graph, let it be differentiated
 * and updated by Adam, feed it, read the loss. Build: ninja examples_mlp. */
#include "graph/session.h"
#include "ops/elementwise.h"
#include "ops/fuse.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "optim/optimizer.h"

#include <math.h>
#include <stdio.h>

enum { POINTS = 200, HIDDEN = 32, STEPS = 1500 };

/* x W + b: [N, from] -> [N, to] */
static wr layer(wr x, const char *name, int from, int to) {
    wr y = {0};
    WR_SCOPE (x.g, "%s", name) {
        wr w = wr_param(x.g, "w", WR_F32, WR_DIMS(wr_n(from), wr_n(to)),
                        (wr_init){WR_INIT_GLOROT_UNIFORM, 1, 0});
        wr b = wr_param(x.g, "b", WR_F32, WR_DIMS(wr_n(to)), (wr_init){WR_INIT_ZERO, 0, 0});
        y = wr_add(wr_matmul(x, w), b);
    }
    return y;
}

/* Two spirals of one turn and a half, the second opposite to the first. */
static void make_data(float x[POINTS][2], float y[POINTS]) {
    for (int i = 0; i < POINTS; i++) {
        float r = 0.1f + 0.9f * (float)i / POINTS, angle = 9.42f * r;
        y[i] = (float)(i % 2);
        x[i][0] = (i % 2 ? -r : r) * cosf(angle);
        x[i][1] = (i % 2 ? -r : r) * sinf(angle);
    }
}

int main(void) {
    static float x_data[POINTS][2], y_data[POINTS];
    double lr = 0.01, scale = 1;
    wr_error err = {0};
    make_data(x_data, y_data);

    wr_graph *g = wr_graph_new();
    if (g == NULL) return 1;
    wr_dim n = wr_sym(g, "N", 1, 100000, 1); /* the number of points may change from run to run */
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(n, wr_n(2)));
    wr y = wr_input(g, "y", WR_F32, WR_DIMS(n, wr_n(1)));
    wr h = wr_tanh(layer(x, "first", 2, HIDDEN));
    wr logit = layer(wr_tanh(layer(h, "second", HIDDEN, HIDDEN)), "last", HIDDEN, 1);
    wr loss = wr_mean_all(wr_sub(wr_softplus(logit), wr_mul(y, logit))); /* -log p(y | x) */
    wr right = wr_mean_all(wr_equal(wr_less(wr_scalar(g, WR_F32, 0), logit), y));

    wr_optimizer update;
    wr_optimizer_options adam = {.adam = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8}};
    wr_program *p = NULL;
    wr_session *s = NULL;
    bool ok = wr_optimizer_build(loss, &adam, &update, &err) == WR_OK &&
              wr_program_new(g, 2, (wr[]){loss, right}, wr_standard_passes(), &p, &err) == WR_OK &&
              wr_session_new(&(wr_session_options){.seed = 1}, &s, &err) == WR_OK;
    wr_feed feeds[] = {{"x", x_data, 2, {POINTS, 2}},
                       {"y", y_data, 2, {POINTS, 1}},
                       {WR_OPTIM_LR, &lr, 0, {0}},
                       {WR_OPTIM_SCALE, &scale, 0, {0}}};
    for (int step = 1; ok && step <= STEPS; step++) {
        ok = wr_session_run(s, p, 4, feeds, &err) == WR_OK;
        if (ok && step % 150 == 0)
            printf("step %4d  loss %.4f  accuracy %5.1f %%\n", step,
                   (double)*(float *)wr_session_output(s, 0)->data,
                   100 * (double)*(float *)wr_session_output(s, 1)->data);
    }
    if (!ok) fprintf(stderr, "%s\n", err.text);
    wr_session_free(s);
    wr_program_free(p);
    wr_graph_free(g);
    return ok ? 0 : 1;
}
