/* nlsq.c: see nlsq.h. */
#include "ops/nlsq.h"

#include "ops/cpu/vmath.h"
#include "ops/elementwise.h"
#include "ops/nlsq_root.h"
#include "ops/shape.h"

#include <math.h>

enum { OPERANDS = 6, PARALLEL_ELEMENTS = 4096 };

static wr emit(wr_loc loc, const wr_op *op, wr first, const wr_nlsq_parameters *p) {
    wr in[OPERANDS] = {first, p->a, p->log_b, p->c, p->log_d, p->g};
    return wr_emit(loc, op, OPERANDS, in, NULL);
}

wr wr_nlsq_at(wr_loc loc, wr y, const wr_nlsq_parameters *p) {
    return emit(loc, &wr_op_nlsq, y, p);
}

wr wr_nlsq_inverse_at(wr_loc loc, wr v, const wr_nlsq_parameters *p) {
    return emit(loc, &wr_op_nlsq_inverse, v, p);
}

static bool nlsq_shape(wr_shape_ctx *c) {
    if (!wr_shape_needs_float(c, 0)) return false;
    wr_type y = wr_type_of(c->in[0]);
    for (int k = 1; k < OPERANDS; k++) {
        wr_type t = wr_type_of(c->in[k]);
        if (!wr_shape_equal(c->g, &y, &t))
            return wr_shape_fail(c, "y, a, log_b, c, log_d, g: [..] each, of equal sizes",
                                 "repeat a parameter with wr_broadcast_like",
                                 "operand %d has other sizes than operand 0", k);
    }
    return wr_shape_same(c);
}

/* ---- the function in other rows ---- */

/* What the value and all derivatives are made of. */
typedef struct parts {
    wr y, b, d, tanh, k, u, q; /* q = 1 / (1 + u^2) */
} parts;

static parts parts_at(wr y, const wr_nlsq_parameters *p) {
    parts x = {.y = y};
    x.b = wr_exp(wr_scale(p->log_b, WR_NLSQ_LOG_SCALE));
    x.d = wr_exp(wr_scale(p->log_d, WR_NLSQ_LOG_SCALE));
    x.tanh = wr_tanh(wr_scale(p->c, WR_NLSQ_BEND_SCALE));
    x.k = wr_scale(x.tanh, WR_NLSQ_BEND_MOST);
    x.u = wr_add(wr_mul(x.d, y), p->g);
    x.q = wr_reciprocal(wr_shift(wr_square(x.u), 1.0));
    return x;
}

/* 2 k u q^2: what the bump takes from a slope of 1. */
static wr bend(const parts *x) {
    return wr_scale(wr_mul(wr_mul(x->k, x->u), wr_square(x->q)), 2.0);
}

static wr slope(const parts *x) { return wr_mul(x->b, wr_shift(wr_neg(bend(x)), 1.0)); }

wr wr_nlsq_log_slope(wr y, const wr_nlsq_parameters *p) {
    parts x = parts_at(y, p);
    return wr_add(wr_scale(p->log_b, WR_NLSQ_LOG_SCALE), wr_log1p(wr_neg(bend(&x))));
}

static wr_nlsq_parameters parameters_of(const wr *in) {
    return (wr_nlsq_parameters){in[1], in[2], in[3], in[4], in[5]};
}

static bool nlsq_expand(wr_expand_ctx *c) {
    wr_nlsq_parameters p = parameters_of(c->in);
    parts x = parts_at(c->in[0], &p);
    wr bump = wr_div(wr_mul(wr_mul(x.k, x.b), x.q), x.d);
    c->out[0] = wr_add(wr_add(wr_mul(x.b, x.y), p.a), bump);
    return true;
}

/* Contribute cot d f / d p for the five parameters. */
static bool contribute_parameters(wr_grad_ctx *c, const parts *x, wr cot) {
    wr b_per_d = wr_div(x->b, x->d);               /* c = k b / d */
    wr bump = wr_mul(wr_mul(x->k, b_per_d), x->q); /* c q */
    wr by_u = wr_neg(wr_mul(b_per_d, bend(x)));    /* d (c q) / d u */
    wr log_b = wr_scale(wr_add(wr_mul(x->b, x->y), bump), WR_NLSQ_LOG_SCALE);
    wr by_tanh = wr_mul(b_per_d, wr_scale(x->q, WR_NLSQ_BEND_MOST * WR_NLSQ_BEND_SCALE));
    wr bent = wr_mul(by_tanh, wr_shift(wr_neg(wr_square(x->tanh)), 1.0));
    wr moved = wr_mul(by_u, wr_mul(x->d, x->y));
    wr log_d = wr_scale(wr_sub(moved, bump), WR_NLSQ_LOG_SCALE);
    return wr_contribute(c, 1, cot) && wr_contribute(c, 2, wr_mul(cot, log_b)) &&
           wr_contribute(c, 3, wr_mul(cot, bent)) && wr_contribute(c, 4, wr_mul(cot, log_d)) &&
           wr_contribute(c, 5, wr_mul(cot, by_u));
}

static bool nlsq_grad(wr_grad_ctx *c) {
    wr_nlsq_parameters p = parameters_of(c->in);
    parts x = parts_at(c->in[0], &p);
    return wr_contribute(c, 0, wr_mul(c->cot[0], slope(&x))) &&
           contribute_parameters(c, &x, c->cot[0]);
}

/* f(y; p) = v: dy = (dv - f_p dp) / f_y. */
static bool nlsq_inverse_grad(wr_grad_ctx *c) {
    wr_nlsq_parameters p = parameters_of(c->in);
    parts x = parts_at(c->out[0], &p);
    wr cot = wr_div(c->cot[0], slope(&x));
    return wr_contribute(c, 0, cot) && contribute_parameters(c, &x, wr_neg(cot));
}

/* ---- inverse rules ---- */

static bool parameters_known(wr_inverse_ctx *c) {
    for (int k = 1; k < OPERANDS; k++)
        if (wr_is_poison(c->x[k]))
            return wr_inverse_wait(c, "a parameter of nlsq depends on what is solved for");
    return true;
}

static bool nlsq_solve(wr_inverse_ctx *c) {
    if (!parameters_known(c)) return false;
    wr_nlsq_parameters p = parameters_of(c->x);
    wr y = wr_inverse_solve(c, 0, wr_nlsq_inverse(c->y[0], &p));
    return wr_inverse_term(c, 0, wr_nlsq_log_slope(y, &p));
}

static bool nlsq_inverse_solve(wr_inverse_ctx *c) {
    if (!parameters_known(c)) return false;
    wr_nlsq_parameters p = parameters_of(c->x);
    wr_inverse_solve(c, 0, wr_nlsq(c->y[0], &p));
    return wr_inverse_term(c, 0, wr_neg(wr_nlsq_log_slope(c->y[0], &p)));
}

/* ---- kernels ---- */

static void forward_f32(const void *const *in, float *out, int64_t i) {
    const float *y = in[0], *a = in[1], *log_b = in[2], *c = in[3], *log_d = in[4], *g = in[5];
    float b = wr_exp_f32((float)WR_NLSQ_LOG_SCALE * log_b[i]);
    float d = wr_exp_f32((float)WR_NLSQ_LOG_SCALE * log_d[i]);
    float k = (float)WR_NLSQ_BEND_MOST * wr_tanh_f32((float)WR_NLSQ_BEND_SCALE * c[i]);
    float u = d * y[i] + g[i];
    out[i] = b * y[i] + a[i] + k * b / (d * (1.0f + u * u));
}

static void forward_f64(const void *const *in, double *out, int64_t i) {
    const double *y = in[0], *a = in[1], *log_b = in[2], *c = in[3], *log_d = in[4], *g = in[5];
    double b = exp(WR_NLSQ_LOG_SCALE * log_b[i]), d = exp(WR_NLSQ_LOG_SCALE * log_d[i]);
    double k = WR_NLSQ_BEND_MOST * tanh(WR_NLSQ_BEND_SCALE * c[i]), u = d * y[i] + g[i];
    out[i] = b * y[i] + a[i] + k * b / (d * (1.0 + u * u));
}

static double inverse_one(double v, double a, double log_b, double c, double log_d, double g) {
    double b = exp(WR_NLSQ_LOG_SCALE * log_b), d = exp(WR_NLSQ_LOG_SCALE * log_d);
    double p = (v - a) * d / b + g;
    return (wr_nlsq_root(p, WR_NLSQ_BEND_MOST * tanh(WR_NLSQ_BEND_SCALE * c)) - g) / d;
}

static void inverse_f32(const void *const *in, float *out, int64_t i) {
    const float *v = in[0], *a = in[1], *log_b = in[2], *c = in[3], *log_d = in[4], *g = in[5];
    out[i] = (float)inverse_one(v[i], a[i], log_b[i], c[i], log_d[i], g[i]);
}

static void inverse_f64(const void *const *in, double *out, int64_t i) {
    const double *v = in[0], *a = in[1], *log_b = in[2], *c = in[3], *log_d = in[4], *g = in[5];
    out[i] = inverse_one(v[i], a[i], log_b[i], c[i], log_d[i], g[i]);
}

/* One loop per dtype; `body` computes element i. */
#define LOOP(type, body)                                                                           \
    _Pragma("omp parallel for num_threads(threads) schedule(static) if (many)") for (int64_t i =   \
                                                                                         0;        \
                                                                                     i < n; i++)   \
        body(in, (type *)c->out[0].data, i);
#define KERNEL(name)                                                                               \
    static wr_status name##_cpu(const wr_call *c) {                                                \
        const void *in[OPERANDS];                                                                  \
        int64_t n = c->out[0].n;                                                                   \
        int threads = c->env->threads;                                                             \
        bool many = n > PARALLEL_ELEMENTS;                                                         \
        for (int k = 0; k < OPERANDS; k++)                                                         \
            in[k] = c->in[k].data;                                                                 \
        if (c->out[0].dtype == WR_F32)                                                             \
            LOOP(float, name##_f32)                                                                \
        else                                                                                       \
            LOOP(double, name##_f64)                                                               \
        return WR_OK;                                                                              \
    }
KERNEL(forward)
KERNEL(inverse)

static wr_cost nlsq_cost(const wr_call *c) {
    return (wr_cost){.flops = 40.0 * (double)c->out[0].n, .bytes = wr_bytes_moved(c)};
}

static wr_cost nlsq_inverse_cost(const wr_call *c) {
    return (wr_cost){.flops = 150.0 * (double)c->out[0].n, .bytes = wr_bytes_moved(c)};
}

/* ---- rows ---- */

static wr sample(wr_sample *s, const wr_op *op) {
    if (s->variant > 2) return (wr){s->g, 0};
    int64_t dims[3] = {wr_sample_int(s, 1, 3), wr_sample_int(s, 1, 5), wr_sample_int(s, 1, 7)};
    if (s->variant == 2) dims[0] = 3, dims[1] = 7, dims[2] = 201;
    wr in[OPERANDS];
    for (int k = 0; k < OPERANDS; k++)
        in[k] = s->input(s, WR_FILL_REAL, 0, 3, dims);
    return wr_emit(WR_HERE, op, OPERANDS, in, NULL);
}
static wr nlsq_sample(wr_sample *s) { return sample(s, &wr_op_nlsq); }
static wr nlsq_inverse_sample(wr_sample *s) { return sample(s, &wr_op_nlsq_inverse); }

const wr_op wr_op_nlsq = {.name = "nlsq",
                          .doc = "b y + a + c / (1 + (d y + g)^2), increasing in y",
                          .n_in = OPERANDS,
                          .shape = nlsq_shape,
                          .cost = nlsq_cost,
                          .cpu = forward_cpu,
                          .grad = nlsq_grad,
                          .expand = nlsq_expand,
                          .inverse = nlsq_solve,
                          .inplace = 1,
                          .sample = nlsq_sample};

const wr_op wr_op_nlsq_inverse = {.name = "nlsq_inverse",
                                  .doc = "the y of nlsq with a given value",
                                  .n_in = OPERANDS,
                                  .shape = nlsq_shape,
                                  .cost = nlsq_inverse_cost,
                                  .cpu = inverse_cpu,
                                  .grad = nlsq_inverse_grad,
                                  .inverse = nlsq_inverse_solve,
                                  .inplace = 1,
                                  .sample = nlsq_inverse_sample};
