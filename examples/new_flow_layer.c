/* new_flow_layer.c: a coupling that the library does not have. Its forward direction is all that is
 * written: inverse and log-determinant are derived and checked, then six of it learn a density. */
#include "autodiff/check_bijection.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/slice.h"
#include "optim/optimizer.h"
#include <math.h>

/* Bends one coordinate by three numbers that a network makes of the other; exchanges the two. */
static wr bend(wr x) {
    wr c[2], p[3];
    wr_init init = {WR_INIT_GLOROT_UNIFORM, 1, 0};
    wr w = wr_param(x.g, "w", WR_F64, WR_DIMS(wr_n(2), wr_n(32)), init);
    wr v = wr_param(x.g, "v", WR_F64, WR_DIMS(wr_n(32), wr_n(3)), init);
    wr_split(x, -1, 2, c);
    wr h = wr_tanh(wr_matmul(wr_concat(-1, c[0], wr_square(c[0])), w));
    wr_split(wr_matmul(h, v), -1, 3, p);
    wr y = wr_mul(wr_softplus(wr_add(c[1], p[0])), wr_exp(p[1]));
    return wr_concat(-1, wr_add(wr_log(wr_expm1(y)), p[2]), c[0]);
}

int main(void) {
    double xy[512][2], lr = 0.005, one = 1;
    for (int i = 0; i < 512; i++) { /* two half moons */
        double a = 3.1416 * i / 512, r = (i % 2 ? 1 : -1) * (2 + 0.12 * sin(97.0 * i));
        xy[i][0] = r * (cos(a) - 0.5), xy[i][1] = r * (sin(a) - 0.25);
    }
    wr_graph *g = wr_graph_new();
    wr x = wr_input(g, "x", WR_F64, WR_DIMS(wr_sym(g, "N", 1, 1000000, 1), wr_n(2))), y = x;
    for (int i = 0; i < 6; i++)
        WR_SCOPE (g, "bend%d", i)
            y = bend(y);
    wr_check_report report;
    wr_error err = {0};
    wr_bijection f = {.n_in = 1, .ins = &x, .n_out = 1, .outs = &y};
    bool ok = wr_check_bijection(&f, NULL, &report, &err) == WR_OK;
    wr_check_print(&report, stdout);
    wr normal = wr_shift(wr_sum(wr_scale(wr_square(y), 0.5), 1), 1.837877); /* -log N(y; 0, 1) */
    wr loss = wr_mean_all(wr_sub(normal, wr_log_det(&f)));
    wr_optimizer_options o = {.adam = {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .clip_norm = 1}};
    wr_program *p = NULL;
    wr_session *s = NULL;
    ok = ok && wr_optimizer_build(loss, &o, &(wr_optimizer){0}, &err) == WR_OK &&
         wr_program_new(g, 1, &loss, NULL, &p, &err) == WR_OK &&
         wr_session_new(&(wr_session_options){.seed = 1}, &s, &err) == WR_OK;
    wr_feed d[] = {
        {"x", xy, 2, {512, 2}}, {"optim.lr", &lr, 0, {0}}, {"optim.scale", &one, 0, {0}}};
    for (int step = 0; ok && step <= 1000; step++) {
        ok = wr_session_run(s, p, 3, d, &err) == WR_OK;
        if (ok && step % 100 == 0)
            printf("step %4d: -log p(x) %.4f\n", step, *(double *)wr_session_output(s, 0)->data);
    }
    fprintf(stderr, "%s", err.text);
    wr_session_free(s);
    wr_program_free(p);
    wr_graph_free(g);
    return ok && report.passed ? 0 : 1;
}
