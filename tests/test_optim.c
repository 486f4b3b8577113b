/* test_optim.c: schedules against their formulas, the rows of the training step against
 * compositions of simple rows, and the optimizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autodiff/grad.h"
#include "graph/session.h"
#include "helpers/alloc.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"

#define must(call)                                                                                 \
    do {                                                                                           \
        wr_error must_err = {0};                                                                   \
        wr_error *err = &must_err;                                                                 \
        if ((call) != WR_OK) fail_msg("%s", must_err.text);                                        \
    } while (0)

/* ---- numbers ---- */

static double draw(uint64_t *rng) { /* in [-1, 1) */
    *rng = *rng * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)*rng * 0x1p-63;
}

static void fill(wr_dtype t, int64_t n, void *to, uint64_t seed, double scale) {
    for (int64_t i = 0; i < n; i++) {
        double v = scale * draw(&seed);
        if (t == WR_F32)
            ((float *)to)[i] = (float)v;
        else
            ((double *)to)[i] = v;
    }
}

static void *drawn(wr_dtype t, int64_t n, uint64_t seed, double scale) {
    void *x = malloc((size_t)n * wr_dtype_bytes(t) + 1);
    assert_non_null(x);
    fill(t, n, x, seed, scale);
    return x;
}

static double at(const wr_tensor *x, int64_t i) {
    if (x->dtype == WR_I32) return ((const int32_t *)x->data)[i];
    return x->dtype == WR_F32 ? (double)((const float *)x->data)[i] : ((const double *)x->data)[i];
}

static wr_session *session_of(int threads) {
    wr_session *s;
    must(wr_session_new(&(wr_session_options){.threads = threads, .seed = 7}, &s, err));
    return s;
}

static wr_program *program_of(wr_graph *g, int n, const wr *outputs) {
    wr_program *p;
    must(wr_program_new(g, n, outputs, NULL, &p, err));
    return p;
}

static const wr_tensor *stored(wr_session *s, const char *name) {
    int k = wr_session_find(s, name);
    if (k < 0) fail_msg("no tensor %s in the session", name);
    return &wr_session_stored_at(s, k)->tensor;
}

/* ---- schedules ---- */

static wr_recipe_optim recipe_of(wr_recipe_schedule schedule) {
    return (wr_recipe_optim){.schedule = schedule,
                             .lr = 5e-4,
                             .lr_start = 1e-7,
                             .lr_end = 1e-5,
                             .warmup = 400,
                             .decay = 0.999995};
}

static void near(double a, double b) {
    if (fabs(a - b) > 1e-12 * fabs(b)) fail_msg("%.17g is not %.17g", a, b);
}

static void warmups_are_lines(void **state) {
    (void)state;
    for (int kind = WR_RECIPE_INVERSE_SQRT; kind <= WR_RECIPE_EXPONENTIAL; kind++) {
        wr_recipe_optim o = recipe_of((wr_recipe_schedule)kind);
        near(wr_schedule_lr(&o, 1000, 0), 1e-7);
        near(wr_schedule_lr(&o, 1000, 100), 1e-7 + (5e-4 - 1e-7) / 4);
        near(wr_schedule_lr(&o, 1000, 400), 5e-4);
        o.warmup = 0;
        near(wr_schedule_lr(&o, 1000, 0), 5e-4);
    }
}

static void schedules_follow_their_formulas(void **state) {
    (void)state;
    const double lr = 5e-4, end = 1e-5;
    wr_recipe_optim o = recipe_of(WR_RECIPE_INVERSE_SQRT);
    near(wr_schedule_lr(&o, 0, 1600), lr / 2);
    near(wr_schedule_lr(&o, 0, 40000), lr / 10);
    near(wr_schedule_lr(&o, 0, 1000000000), end);
    o.warmup = 0;
    near(wr_schedule_lr(&o, 0, 100), lr / 10);

    o = recipe_of(WR_RECIPE_EXPONENTIAL);
    near(wr_schedule_lr(&o, 0, 100400), lr * exp(100000 * log(0.999995)));
    near(wr_schedule_lr(&o, 0, 100000000), end);

    o = recipe_of(WR_RECIPE_LINEAR);
    near(wr_schedule_lr(&o, 2400, 900), lr - 0.25 * (lr - end));
    near(wr_schedule_lr(&o, 2400, 2400), end);
    near(wr_schedule_lr(&o, 2400, 5000), end);
    o.horizon = 1400; /* wins over max_updates */
    near(wr_schedule_lr(&o, 2400, 900), (lr + end) / 2);
    o.horizon = 300; /* ends before the warm-up */
    near(wr_schedule_lr(&o, 2400, 399), 1e-7 + (lr - 1e-7) * 399 / 400);
    near(wr_schedule_lr(&o, 2400, 400), end);

    o = recipe_of(WR_RECIPE_COSINE);
    near(wr_schedule_lr(&o, 2400, 1400), (lr + end) / 2);
    near(wr_schedule_lr(&o, 2400, 900), end + (lr - end) * (1 + sqrt(0.5)) / 2);
    near(wr_schedule_lr(&o, 2400, 2400), end);

    o = recipe_of(WR_RECIPE_CONSTANT);
    near(wr_schedule_lr(&o, 2400, 123456789), lr);
}

/* ---- the schedules of FlowSeq, by the figures of its program ---- */

static wr_recipe flowseq_recipe(const char *more) {
    wr_recipe r;
    const char *set[] = {"model.type=flowseq", "optim.lr=0.0005", "train.pretrain_updates=30001",
                         "train.max_updates=500000", more};
    must(wr_recipe_parse("", 0, "test", set, 5, &r, err));
    return r;
}

typedef struct lr_at {
    int64_t n;
    double lr;
} lr_at;

static void compare_rates(const wr_recipe *r, int64_t from, int n, const lr_at *want) {
    for (int i = 0; i < n; i++) {
        double got = wr_schedule_at(r, from + want[i].n);
        if (!(fabs(got - want[i].lr) < 1e-5 * want[i].lr))
            fail_msg("update %d of the phase: %.9g, not %.9g", (int)want[i].n, got, want[i].lr);
    }
}

static void flowseq_has_two_schedules(void **state) {
    (void)state;
    static const lr_at PRETRAINING[] = {{0, 1e-7},    {1, 2.24975e-7},     {3999, 4.99875e-4},
                                        {4000, 5e-4}, {10000, 4.85223e-4}, {30000, 4.39048e-4}};
    static const lr_at MAIN[] = {
        {0, 5e-4}, {1, 5e-4}, {2, 4.999975e-4}, {10000, 4.75617e-4}, {40000, 4.09367e-4}};
    static const lr_at ROOT[] = {
        {0, 5e-4}, {5000, 5e-4}, {10000, 5e-4}, {30000, 2.88675e-4}, {40000, 2.5e-4}};
    wr_recipe r = flowseq_recipe("optim.schedule=exponential");
    assert_int_equal(wr_schedule_pretraining(&r), 30001);
    r.optim.warmup = 1;
    r.optim.lr_start = r.optim.lr;
    compare_rates(&r, 0, 6, PRETRAINING);
    compare_rates(&r, 30001, 5, MAIN);
    r.optim.schedule = WR_RECIPE_INVERSE_SQRT;
    r.optim.warmup = 10000;
    compare_rates(&r, 30001, 5, ROOT);
    near(wr_schedule_at(&r, 16000), 2.5e-4); /* still pre-training: lr sqrt(4000 / 16000) */
    r.train.pretrain_updates = 100;          /* cuts the warm-up */
    near(wr_schedule_at(&r, 50), (1e-7 + 5e-4) / 2);
    near(wr_schedule_at(&r, 100), 5e-4);
    r.model.type = WR_RECIPE_TRANSFORMER;
    assert_int_equal(wr_schedule_pretraining(&r), 0);
    near(wr_schedule_at(&r, 40000), 2.5e-4);
}

static void flowseq_main_phase_ends_with_the_run(void **state) {
    (void)state;
    wr_recipe r = flowseq_recipe("optim.schedule=linear");
    r.optim.warmup = 0;
    r.train.pretrain_updates = 100000;
    near(wr_schedule_at(&r, 52000), 2.5e-4); /* pre-training: half way from 4000 to 100000 */
    near(wr_schedule_at(&r, 300000), 2.5e-4);
    near(wr_schedule_at(&r, 480000), 2.5e-5);
}

static void kl_weight_rises(void **state) {
    (void)state;
    wr_recipe r = flowseq_recipe("train.kl_warmup=10000");
    near(wr_schedule_kl(&r, 30001), 1e-4);
    near(wr_schedule_kl(&r, 30001 + 4999), 0.5);
    assert_true(wr_schedule_kl(&r, 0) == 0 && wr_schedule_kl(&r, 30000) == 0);
    assert_true(wr_schedule_kl(&r, 40000) == 1 && wr_schedule_kl(&r, 400000) == 1);
}

/* ---- global_norm ---- */

enum { NORMS = 4 };
static const int64_t NORM_N[NORMS] = {3, 70001, 1, 16400};

/* The norm of four fed tensors; `spoil` is put at element `where` of the second. */
static double norm_of(wr_dtype t, int threads, int64_t where, double spoil, double scale) {
    wr_graph *g = wr_graph_new();
    wr x[NORMS];
    wr_feed feed[NORMS];
    static const char *const names[NORMS] = {"a", "b", "c", "d"};
    for (int k = 0; k < NORMS; k++) {
        x[k] = wr_input(g, names[k], t, WR_DIMS(wr_n(NORM_N[k])));
        void *data = drawn(t, NORM_N[k], (uint64_t)k + 1, scale);
        if (k == 1 && where >= 0 && t == WR_F32) ((float *)data)[where] = (float)spoil;
        if (k == 1 && where >= 0 && t == WR_F64) ((double *)data)[where] = spoil;
        feed[k] = (wr_feed){.name = names[k], .data = data, .rank = 1, .dim = {NORM_N[k]}};
    }
    wr norm = wr_global_norm(NORMS, x);
    wr_session *s = session_of(threads);
    wr_program *p = program_of(g, 1, &norm);
    must(wr_session_run(s, p, NORMS, feed, err));
    double got = at(wr_session_output(s, 0), 0);
    for (int k = 0; k < NORMS; k++)
        free((void *)(uintptr_t)feed[k].data);
    wr_session_free(s);
    wr_program_free(p);
    wr_graph_free(g);
    return got;
}

static void norm_is_of_all_tensors(void **state) {
    (void)state;
    for (int t = WR_F32; t <= WR_F64; t++) {
        long double sum = 0;
        for (int k = 0; k < NORMS; k++) {
            void *data = drawn((wr_dtype)t, NORM_N[k], (uint64_t)k + 1, 1);
            for (int64_t i = 0; i < NORM_N[k]; i++) {
                long double v = t == WR_F32 ? (long double)((float *)data)[i]
                                            : (long double)((double *)data)[i];
                sum += v * v;
            }
            free(data);
        }
        double want = (double)sqrtl(sum), got = norm_of((wr_dtype)t, 2, -1, 0, 1);
        assert_true(fabs(got - want) <= (t == WR_F32 ? 1e-7 : 1e-14) * want);
        for (int threads = 1; threads <= 7; threads += 3)
            assert_true(norm_of((wr_dtype)t, threads, -1, 0, 1) == got);
    }
}

static void norm_shows_what_is_not_finite(void **state) {
    (void)state;
    for (int64_t where = 0; where < NORM_N[1]; where += 17500) {
        assert_true(isnan(norm_of(WR_F32, 2, where, NAN, 1)));
        assert_true(isinf(norm_of(WR_F32, 2, where, -INFINITY, 1)));
    }
    /* squares of f32 do not overflow on the way, nor vanish */
    assert_true(isfinite(norm_of(WR_F32, 2, -1, 0, 1e30)));
    double tiny = norm_of(WR_F32, 2, -1, 0, 1e-30);
    assert_true(fabs(tiny / (1e-30 * norm_of(WR_F32, 2, -1, 0, 1)) - 1) < 1e-6);
}

/* ---- adam against a composition of simple rows ---- */

enum { PARAMS = 3, MOMENTS = 3 };
static const int64_t PARAM_N[PARAMS] = {5, 40001, 12};
static const char *const PARAM_NAMES[PARAMS] = {"w0", "w1", "w2"};

/* A session with the rows under test: gradients are fed, parameters are stored. */
typedef struct rig {
    wr_graph *g;
    wr_program *program;
    wr_session *session;
    wr_dtype dtype;
    bool amsgrad;
    void *grad[PARAMS];
    double lr, scale, norm; /* norm as given back */
    int applied;
} rig;

static wr adam_of_fed(rig *r, const wr_adam_options *o) {
    wr in[WR_ADAM_HEAD + 5 * PARAMS];
    wr_graph *g = r->g;
    in[WR_ADAM_LR] = wr_input(g, "lr", WR_F64, 0, NULL);
    in[WR_ADAM_SCALE] = wr_input(g, "scale", WR_F32, 0, NULL);
    in[WR_ADAM_STEP] = wr_state(g, "step", WR_I32, 0, NULL, (wr_init){0});
    for (int k = 0; k < PARAMS; k++) {
        wr_dim n[1] = {wr_n(PARAM_N[k])};
        char name[16];
        snprintf(name, sizeof name, "g%d", k);
        in[WR_ADAM_HEAD + k] = wr_input(g, name, r->dtype, 1, n);
        in[WR_ADAM_HEAD + PARAMS + k] =
            wr_param(g, PARAM_NAMES[k], r->dtype, 1, n, (wr_init){WR_INIT_UNIFORM, -1, 1});
        for (int j = 0; j < MOMENTS; j++) {
            snprintf(name, sizeof name, "%c%d", "mvt"[j], k);
            if (j < 2 || o->amsgrad)
                in[WR_ADAM_HEAD + (2 + j) * PARAMS + k] =
                    wr_state(g, name, r->dtype, 1, n, (wr_init){0});
        }
    }
    in[WR_ADAM_NORM] = wr_global_norm(PARAMS, in + WR_ADAM_HEAD);
    return wr_adam(o, WR_ADAM_HEAD + (o->amsgrad ? 5 : 4) * PARAMS, in);
}

static rig rig_new(const wr_adam_options *o, wr_dtype t, int threads) {
    rig r = {.g = wr_graph_new(), .dtype = t, .amsgrad = o->amsgrad, .lr = 0.01, .scale = 0.5};
    wr adam = adam_of_fed(&r, o), outs[2] = {adam, wr_output(adam, 1)};
    r.program = program_of(r.g, 2, outs);
    r.session = session_of(threads);
    for (int k = 0; k < PARAMS; k++)
        r.grad[k] = drawn(t, PARAM_N[k], 1, 1);
    return r;
}

static wr_status rig_try(rig *r, wr_error *err) {
    float scale = (float)r->scale;
    wr_feed feed[2 + PARAMS] = {{.name = "lr", .data = &r->lr}, {.name = "scale", .data = &scale}};
    static const char *const names[] = {"g0", "g1", "g2"};
    for (int k = 0; k < PARAMS; k++)
        feed[2 + k] =
            (wr_feed){.name = names[k], .data = r->grad[k], .rank = 1, .dim = {PARAM_N[k]}};
    wr_status status = wr_session_run(r->session, r->program, 2 + PARAMS, feed, err);
    if (status != WR_OK) return status;
    r->applied = (int)at(wr_session_output(r->session, 0), 0);
    r->norm = at(wr_session_output(r->session, 1), 0);
    return WR_OK;
}

static void rig_run(rig *r, uint64_t seed) {
    for (int k = 0; k < PARAMS; k++)
        fill(r->dtype, PARAM_N[k], r->grad[k], seed + (uint64_t)k, k == 1 ? 0.1 : 3);
    must(rig_try(r, err));
}

static void rig_free(rig *r) {
    for (int k = 0; k < PARAMS; k++)
        free(r->grad[k]);
    wr_session_free(r->session);
    wr_program_free(r->program);
    wr_graph_free(r->g);
}

/* One update of one tensor in simple rows, in f64: inputs p, m, v, top, g and the scalars. */
typedef struct plain {
    wr_graph *g;
    wr_program *program;
    wr_session *session;
    int64_t n;
    double *value[4]; /* p, m, v, top */
} plain;

static wr plain_root(const wr_adam_options *o, wr largest, wr bias2) {
    if (!o->raw_eps) return wr_shift(wr_sqrt(wr_div(largest, bias2)), o->eps);
    return wr_div(wr_shift(wr_sqrt(largest), o->eps), wr_sqrt(bias2));
}

static plain plain_new(const wr_adam_options *o, const rig *r, int k) {
    plain x = {.g = wr_graph_new(), .n = PARAM_N[k]};
    wr in[8];
    static const char *const names[8] = {"p", "m", "v", "top", "g", "lr", "factor", "t"};
    wr_dim n[1] = {wr_n(x.n)};
    for (int i = 0; i < 8; i++)
        in[i] = wr_input(x.g, names[i], WR_F64, i < 5 ? 1 : 0, n);
    wr p = in[0], lr = in[5], t = in[7];
    wr g = wr_mul(in[4], in[6]);
    if (!o->decoupled) g = wr_add(g, wr_scale(p, o->weight_decay));
    wr m = wr_add(wr_scale(in[1], o->beta1), wr_scale(g, 1 - o->beta1));
    wr v = wr_add(wr_scale(in[2], o->beta2), wr_scale(wr_square(g), 1 - o->beta2));
    wr top = wr_maximum(in[3], v);
    wr bias1 = wr_shift(wr_neg(wr_exp(wr_scale(t, log(o->beta1)))), 1);
    wr bias2 = wr_shift(wr_neg(wr_exp(wr_scale(t, log(o->beta2)))), 1);
    if (o->decoupled) p = wr_sub(p, wr_mul(p, wr_scale(lr, o->weight_decay)));
    wr root = plain_root(o, o->amsgrad ? top : v, bias2);
    wr outs[4] = {wr_sub(p, wr_mul(wr_div(wr_div(m, bias1), root), lr)), m, v, top};
    x.program = program_of(x.g, 4, outs);
    x.session = session_of(1);
    for (int i = 0; i < 4; i++)
        x.value[i] = calloc((size_t)x.n, sizeof(double));
    const wr_tensor *now = stored(r->session, PARAM_NAMES[k]);
    for (int64_t i = 0; i < x.n; i++)
        x.value[0][i] = at(now, i);
    return x;
}

static void plain_run(plain *x, const rig *r, int k, double factor, double t) {
    double *g = malloc(sizeof *g * (size_t)x->n);
    wr_tensor grad = {.data = r->grad[k], .dtype = r->dtype};
    for (int64_t i = 0; i < x->n; i++)
        g[i] = at(&grad, i);
    wr_feed feed[8] = {{.name = "p", .data = x->value[0]},
                       {.name = "m", .data = x->value[1]},
                       {.name = "v", .data = x->value[2]},
                       {.name = "top", .data = x->value[3]},
                       {.name = "g", .data = g},
                       {.name = "lr", .data = &r->lr},
                       {.name = "factor", .data = &factor},
                       {.name = "t", .data = &t}};
    for (int i = 0; i < 5; i++)
        feed[i].rank = 1, feed[i].dim[0] = x->n;
    must(wr_session_run(x->session, x->program, 8, feed, err));
    for (int i = 0; i < 4; i++)
        memcpy(x->value[i], wr_session_output(x->session, i)->data, sizeof *g * (size_t)x->n);
    free(g);
}

static void plain_free(plain *x) {
    for (int i = 0; i < 4; i++)
        free(x->value[i]);
    wr_session_free(x->session);
    wr_program_free(x->program);
    wr_graph_free(x->g);
}

/* The largest difference between stored tensor and composition, relative to the values' size. */
static double gap(const rig *r, const char *name, const double *want, int64_t n) {
    const wr_tensor *got = stored(r->session, name);
    double worst = 0;
    for (int64_t i = 0; i < n; i++)
        worst = fmax(worst, fabs(at(got, i) - want[i]) / (1e-3 + fabs(want[i])));
    return worst;
}

static void compare_updates(const wr_adam_options *o, wr_dtype t, double tolerance) {
    rig r = rig_new(o, t, 2);
    must(wr_session_prepare(r.session, r.program, err));
    plain x[PARAMS];
    for (int k = 0; k < PARAMS; k++)
        x[k] = plain_new(o, &r, k);
    for (int step = 1; step <= 6; step++) {
        r.lr = 0.01 / step;
        r.scale = step == 3 ? 0.001 : 0.5; /* the third is not clipped */
        rig_run(&r, (uint64_t)step * 11);
        assert_int_equal(r.applied, 1);
        double clip = o->clip_norm > 0 ? fmin(1, o->clip_norm / (r.norm + 1e-6)) : 1;
        for (int k = 0; k < PARAMS; k++) {
            char name[16];
            plain_run(&x[k], &r, k, (double)(float)r.scale * clip, step);
            for (int i = 0; i < (o->amsgrad ? 4 : 3); i++) {
                snprintf(name, sizeof name, "%c%d", "wmvt"[i], k);
                double worst = gap(&r, name, x[k].value[i], x[k].n);
                if (worst > tolerance)
                    fail_msg("%s after update %d: off by %g of its size", name, step, worst);
            }
        }
    }
    assert_int_equal((int)at(stored(r.session, "step"), 0), 6);
    for (int k = 0; k < PARAMS; k++)
        plain_free(&x[k]);
    rig_free(&r);
}

static const wr_adam_options KINDS[] = {
    {.beta1 = 0.9, .beta2 = 0.98, .eps = 1e-9},
    {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-2, .clip_norm = 1},
    {.beta1 = 0.8, .beta2 = 0.95, .eps = 1e-2, .weight_decay = 0.1, .clip_norm = 0.5},
    {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.3, .decoupled = true},
    {.beta1 = 0.9, .beta2 = 0.6, .eps = 1e-8, .amsgrad = true},
    {.beta1 = 0.9,
     .beta2 = 0.7,
     .eps = 1e-2,
     .weight_decay = 0.2,
     .decoupled = true,
     .amsgrad = true,
     .raw_eps = true,
     .clip_norm = 1},
};
enum { KIND_N = sizeof KINDS / sizeof *KINDS };

static void adam_equals_its_composition(void **state) {
    (void)state;
    for (int i = 0; i < KIND_N; i++) {
        compare_updates(&KINDS[i], WR_F64, 1e-11);
        compare_updates(&KINDS[i], WR_F32, 1e-4);
    }
}

/* A value worked out by hand: the first update moves each weight by lr against its gradient. */
static void first_update_has_known_size(void **state) {
    (void)state;
    wr_adam_options o = {.beta1 = 0.9, .beta2 = 0.98, .eps = 1e-12};
    rig r = rig_new(&o, WR_F64, 1);
    must(wr_session_prepare(r.session, r.program, err));
    double before = at(stored(r.session, "w0"), 2);
    rig_run(&r, 3);
    double sign = ((double *)r.grad[0])[2] > 0 ? 1 : -1;
    assert_true(fabs(at(stored(r.session, "w0"), 2) - (before - sign * 0.01)) < 1e-9);
    rig_free(&r);
}

/* FlowSeq's AdamW: three updates of two weights, by the figures of its program. */
static void adamw_gives_known_weights(void **state) {
    (void)state;
    static const double GRADIENTS[3][2] = {{0.5, -1}, {0.1, 2}, {-0.3, 0.25}};
    static const double WANT[3][2] = {{0.99949950032, -1.99949900016},
                                      {0.99909748033, -1.99968105214},
                                      {0.99899162436, -1.99985618531}};
    static const char *const set[] = {
        "optim.type=adamw",   "optim.weight_decay=0.001", "optim.beta2=0.999", "optim.eps=1e-8",
        "optim.amsgrad=true", "optim.raw_eps=true",       "train.clip_norm=0"};
    wr_recipe recipe;
    must(wr_recipe_parse("", 0, "test", set, 7, &recipe, err));
    wr_optimizer_options o = wr_optimizer_options_of(&recipe);
    wr_graph *g = wr_graph_new();
    wr_dim n[1] = {wr_n(2)};
    wr p = wr_param(g, "p", WR_F64, 1, n, (wr_init){0});
    wr loss = wr_sum_all(wr_mul(p, wr_input(g, "g", WR_F64, 1, n)));
    wr_optimizer made;
    must(wr_optimizer_build(loss, &o, &made, err));
    wr_program *program = program_of(g, 1, &made.applied);
    wr_session *s = session_of(1);
    must(wr_session_prepare(s, program, err));
    must(wr_session_write(s, wr_session_find(s, "p"), (double[]){1, -2}, err));
    double lr = 5e-4, scale = 1;
    for (int step = 0; step < 3; step++) {
        wr_feed feed[] = {{.name = "g", .data = GRADIENTS[step], .rank = 1, .dim = {2}},
                          {.name = WR_OPTIM_LR, .data = &lr},
                          {.name = WR_OPTIM_SCALE, .data = &scale}};
        must(wr_session_run(s, program, 3, feed, err));
        for (int i = 0; i < 2; i++)
            assert_true(fabs(at(stored(s, "p"), i) - WANT[step][i]) < 1e-11);
    }
    wr_session_free(s);
    wr_program_free(program);
    wr_graph_free(g);
}

/* All bytes of the session's tensors, one after the other. */
static char *snapshot(wr_session *s, size_t *bytes) {
    *bytes = 0;
    for (int k = 0; k < wr_session_stored(s); k++) {
        const wr_tensor *t = &wr_session_stored_at(s, k)->tensor;
        *bytes += (size_t)t->n * wr_dtype_bytes(t->dtype);
    }
    char *copy = malloc(*bytes + 1), *to = copy;
    for (int k = 0; k < wr_session_stored(s); k++) {
        const wr_tensor *t = &wr_session_stored_at(s, k)->tensor;
        must(wr_session_read(s, k, to, err));
        to += (size_t)t->n * wr_dtype_bytes(t->dtype);
    }
    return copy;
}

static void threads_do_not_matter(void **state) {
    (void)state;
    char *first = NULL;
    size_t bytes = 0, again = 0;
    for (int threads = 1; threads <= 7; threads += threads == 1 ? 1 : 5) {
        rig r = rig_new(&KINDS[5], WR_F32, threads);
        for (int step = 1; step <= 3; step++)
            rig_run(&r, (uint64_t)step);
        char *now = snapshot(r.session, &again);
        if (first == NULL) {
            first = now;
            bytes = again;
        } else {
            assert_int_equal(bytes, again);
            assert_memory_equal(first, now, bytes);
            free(now);
        }
        rig_free(&r);
    }
    free(first);
}

static void spoilt_updates_are_skipped(void **state) {
    (void)state;
    static const float BAD[] = {NAN, INFINITY, -INFINITY, 3e38f, 1e25f};
    for (int clipped = 0; clipped < 2; clipped++) {
        wr_adam_options o = KINDS[5];
        o.clip_norm = clipped;
        rig r = rig_new(&o, WR_F32, 2);
        rig_run(&r, 1);
        for (int i = 0; i < (clipped ? 3 : 5); i++) {
            size_t bytes, again;
            char *before = snapshot(r.session, &bytes);
            float *g = r.grad[1];
            float kept = g[39999];
            g[39999] = BAD[i];
            r.scale = 1;
            must(rig_try(&r, err));
            assert_int_equal(r.applied, 0);
            assert_true(i == 4 ? r.norm > 9e24 : !isfinite(r.norm) || r.norm > 2e38);
            char *after = snapshot(r.session, &again);
            assert_memory_equal(before, after, bytes);
            free(before);
            free(after);
            g[39999] = kept;
        }
        if (clipped) { /* large but finite: clipping makes it an ordinary update */
            ((float *)r.grad[1])[39999] = 3e38f;
            must(rig_try(&r, err));
            assert_int_equal(r.applied, 1);
        }
        rig_run(&r, 2);
        assert_int_equal(r.applied, 1);
        assert_int_equal((int)at(stored(r.session, "step"), 0), clipped ? 3 : 2);
        for (int64_t i = 0; i < PARAM_N[1]; i++)
            assert_true(isfinite(at(stored(r.session, "w1"), i)));
        rig_free(&r);
    }
}

static void wrong_scalars_are_errors(void **state) {
    (void)state;
    rig r = rig_new(&KINDS[0], WR_F32, 1);
    static const double LRS[] = {NAN, INFINITY, -0.1};
    for (int i = 0; i < 3; i++) {
        wr_error err = {0};
        r.lr = LRS[i];
        assert_int_equal(rig_try(&r, &err), WR_ERR_INPUT);
        assert_non_null(strstr(err.text, "learning rate"));
    }
    wr_error err = {0};
    r.lr = 0.01;
    r.scale = INFINITY;
    assert_int_equal(rig_try(&r, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "scale"));
    rig_free(&r);
}

/* ---- wrong graphs ---- */

static void wrong_operands_are_refused(void **state) {
    (void)state;
    for (int wrong = 0; wrong < 8; wrong++) {
        wr_graph *g = wr_graph_new();
        wr_dim n[1] = {wr_n(4)}, m[1] = {wr_n(5)};
        wr scalar = wr_input(g, "lr", WR_F64, 0, NULL);
        wr step = wr_state(g, "step", WR_I32, 0, NULL, (wr_init){0});
        wr grad = wr_input(g, "g", WR_F32, 1, n), p = wr_param(g, "p", WR_F32, 1, n, (wr_init){0});
        wr m1 = wr_state(g, "m", WR_F32, 1, n, (wr_init){0});
        wr v = wr_state(g, "v", WR_F32, 1, n, (wr_init){0});
        wr long_v = wr_state(g, "long", WR_F32, 1, m, (wr_init){0});
        wr in[] = {scalar, scalar, scalar, step, grad, p, m1, v};
        wr_adam_options o = {.beta1 = 0.9, .beta2 = 0.98, .eps = 1e-9};
        static const char *const says[8] = {"not a scalar", "step",     "neither a parameter",
                                            "type of",      "beta1",    "eps is 0",
                                            "one tensor",   "clip_norm"};
        if (wrong == 0) in[WR_ADAM_SCALE] = grad;
        if (wrong == 1) in[WR_ADAM_STEP] = scalar;
        if (wrong == 2) in[5] = grad;
        if (wrong == 3) in[7] = long_v;
        if (wrong == 4) o.beta1 = 1;
        if (wrong == 5) o.eps = 0;
        if (wrong == 6) in[7] = m1;
        if (wrong == 7) o.clip_norm = NAN;
        assert_true(wr_is_poison(wr_adam(&o, 8, in)));
        wr_str s = {0};
        wr_graph_report(g, &s);
        if (strstr(wr_str_text(&s), says[wrong]) == NULL)
            fail_msg("no \"%s\" in: %s", says[wrong], wr_str_text(&s));
        wr_str_free(&s);
        wr_graph_free(g);
    }
}

/* ---- the optimizer ---- */

enum { ROWS = 12, FEATURES = 6, HIDDEN = 5 };

/* A network whose loss is the sum of squared errors over rows; W0 is used twice. */
static wr network_loss(wr_graph *g, wr_dtype t) {
    wr_dim B = wr_sym(g, "B", 1, 64, 1);
    wr x = wr_input(g, "x", t, WR_DIMS(B, wr_n(FEATURES)));
    wr y = wr_input(g, "y", t, WR_DIMS(B, wr_n(FEATURES)));
    wr w0, b0;
    WR_SCOPE (g, "layer") {
        wr_init init = {WR_INIT_NORMAL, 0, 0.5};
        w0 = wr_param(g, "W", t, WR_DIMS(wr_n(FEATURES), wr_n(HIDDEN)), init);
        b0 = wr_param(g, "b", t, WR_DIMS(wr_n(HIDDEN)), init);
    }
    wr h = wr_tanh(wr_add(wr_matmul(x, w0), b0));
    return wr_sum_all(wr_square(wr_sub(wr_matmul_nt(h, w0), y)));
}

typedef struct trainer {
    wr_graph *g[2];
    wr_program *program[2]; /* update, accumulate */
    wr_session *session;
    wr_dtype dtype;
} trainer;

static trainer trainer_new(wr_dtype t, bool accumulate, const wr_adam_options *adam) {
    trainer x = {.session = session_of(2), .dtype = t};
    for (int k = 0; k < (accumulate ? 2 : 1); k++) {
        wr_optimizer_options o = {.adam = *adam,
                                  .accumulate = accumulate,
                                  .part = k == 0 ? WR_OPTIMIZER_UPDATE : WR_OPTIMIZER_ACCUMULATE};
        wr_optimizer made;
        x.g[k] = wr_graph_new();
        wr loss = network_loss(x.g[k], t);
        must(wr_optimizer_build(loss, &o, &made, err));
        assert_int_equal(made.n_params, 2);
        assert_int_equal(wr_is_poison(made.keep), !accumulate);
        assert_int_equal(wr_is_poison(made.applied), k == 1);
        wr outs[3] = {loss, made.norm, made.applied};
        x.program[k] = program_of(x.g[k], k == 0 ? 3 : 2, outs);
    }
    return x;
}

static void trainer_free(trainer *x) {
    wr_session_free(x->session);
    for (int k = 0; k < 2; k++) {
        wr_program_free(x->program[k]);
        wr_graph_free(x->g[k]);
    }
}

/* Run rows [from, to) of the data through program `part`. Returns output `out`. */
static double trainer_run(trainer *x, int part, int64_t from, int64_t to, double scale, double keep,
                          int out) {
    size_t e = wr_dtype_bytes(x->dtype);
    char *rows = drawn(x->dtype, 2 * ROWS * FEATURES, 99, 1);
    double lr = 0.05;
    wr_feed feed[5] = {
        {.name = "x", .data = rows + (size_t)from * FEATURES * e, .rank = 2},
        {.name = "y", .data = rows + (size_t)(ROWS + from) * FEATURES * e, .rank = 2},
        {.name = WR_OPTIM_LR, .data = &lr},
        {.name = WR_OPTIM_SCALE, .data = &scale},
        {.name = WR_OPTIM_KEEP, .data = &keep}};
    for (int k = 0; k < 2; k++)
        feed[k].dim[0] = to - from, feed[k].dim[1] = FEATURES;
    must(wr_session_run(x->session, x->program[part], 5, feed, err));
    free(rows);
    return at(wr_session_output(x->session, out), 0);
}

static void loss_falls(void **state) {
    (void)state;
    trainer x = trainer_new(WR_F32, false, &KINDS[1]);
    double first = trainer_run(&x, 0, 0, ROWS, 1.0 / ROWS, 0, 0), last = 0;
    for (int step = 0; step < 300; step++)
        last = trainer_run(&x, 0, 0, ROWS, 1.0 / ROWS, 0, 0);
    assert_true(isfinite(last) && last < 0.5 * first);
    assert_int_equal((int)at(stored(x.session, "optim.step"), 0), 301);
    stored(x.session, "optim.m.layer.W");
    stored(x.session, "optim.v.layer.b");
    trainer_free(&x);
}

/* Three batches of different size, summed, make the update of the one large batch; the second
 * update shows that the sums begin anew. */
static void accumulation_equals_one_batch(void **state) {
    (void)state;
    static const int64_t cut[] = {0, 3, 8, ROWS};
    for (int t = WR_F32; t <= WR_F64; t++) {
        trainer one = trainer_new((wr_dtype)t, false, &KINDS[2]);
        trainer parts = trainer_new((wr_dtype)t, true, &KINDS[2]);
        double tolerance = t == WR_F32 ? 1e-5 : 1e-13;
        for (int update = 0; update < 4; update++) {
            double norm = trainer_run(&one, 0, 0, ROWS, 1.0 / ROWS, 0, 1);
            for (int k = 0; k < 2; k++)
                trainer_run(&parts, 1, cut[k], cut[k + 1], 1.0 / ROWS, k > 0, 0);
            double again = trainer_run(&parts, 0, cut[2], cut[3], 1.0 / ROWS, 1, 1);
            assert_true(fabs(norm - again) < tolerance * norm);
            static const char *const names[] = {"layer.W", "layer.b", "optim.m.layer.W",
                                                "optim.v.layer.b"};
            for (int k = 0; k < 4; k++) {
                const wr_tensor *a = stored(one.session, names[k]);
                const wr_tensor *b = stored(parts.session, names[k]);
                for (int64_t i = 0; i < a->n; i++)
                    if (!(fabs(at(a, i) - at(b, i)) < tolerance))
                        fail_msg("%s[%d]: %g and %g", names[k], (int)i, at(a, i), at(b, i));
            }
        }
        trainer_free(&one);
        trainer_free(&parts);
    }
}

/* After a reset the same parameters get the same update as from a new session. */
static void a_reset_optimizer_is_new(void **state) {
    (void)state;
    trainer used = trainer_new(WR_F32, true, &KINDS[5]),
            fresh = trainer_new(WR_F32, true, &KINDS[5]);
    for (int k = 0; k < 5; k++)
        trainer_run(&used, 0, 0, ROWS, 1.0 / ROWS, 0, 0);
    must(wr_session_prepare(fresh.session, fresh.program[0], err));
    static const char *const names[] = {"layer.W", "layer.b"};
    for (int k = 0; k < 2; k++)
        must(wr_session_write(fresh.session, wr_session_find(fresh.session, names[k]),
                              stored(used.session, names[k])->data, err));
    assert_true(at(stored(used.session, "optim.m.layer.W"), 3) != 0);
    must(wr_optimizer_reset(used.session, err));
    for (int k = 0; k < wr_session_stored(used.session); k++) {
        const wr_stored *x = wr_session_stored_at(used.session, k);
        for (int64_t i = 0; !x->trainable && i < x->tensor.n; i++)
            assert_true(at(&x->tensor, i) == 0);
    }
    for (int k = 0; k < 2; k++) {
        trainer_run(&used, 0, 0, ROWS, 1.0 / ROWS, 0, 0);
        trainer_run(&fresh, 0, 0, ROWS, 1.0 / ROWS, 0, 0);
    }
    size_t bytes, again;
    char *a = snapshot(used.session, &bytes), *b = snapshot(fresh.session, &again);
    assert_int_equal(bytes, again);
    assert_memory_equal(a, b, bytes);
    free(a);
    free(b);
    wr_error err = {0};
    wr_test_fail_allocation(1);
    wr_status status = wr_optimizer_reset(used.session, &err);
    assert_true(wr_test_allocation_failed());
    assert_int_equal(status, WR_ERR_MEMORY);
    trainer_free(&used);
    trainer_free(&fresh);
}

/* A spoilt batch makes the sums NaN; the update is skipped and the next one begins anew. */
static void sums_begin_anew_after_nan(void **state) {
    (void)state;
    trainer x = trainer_new(WR_F32, true, &KINDS[1]);
    trainer_run(&x, 0, 0, ROWS, 1.0 / ROWS, 0, 0);
    double nan = NAN, one = 1;
    float rows[2 * FEATURES];
    for (int k = 0; k < 2 * FEATURES; k++)
        rows[k] = (float)nan;
    wr_feed feed[] = {{.name = "x", .data = rows, .rank = 2, .dim = {1, FEATURES}},
                      {.name = "y", .data = rows + FEATURES, .rank = 2, .dim = {1, FEATURES}},
                      {.name = WR_OPTIM_KEEP, .data = &one}};
    must(wr_session_run(x.session, x.program[1], 3, feed, err));
    assert_true(isnan(at(wr_session_output(x.session, 1), 0)));
    assert_int_equal((int)trainer_run(&x, 0, 0, ROWS, 1.0 / ROWS, 1, 2), 0);
    assert_int_equal((int)trainer_run(&x, 0, 0, ROWS, 1.0 / ROWS, 0, 2), 1);
    assert_true(isfinite(at(stored(x.session, "layer.W"), 0)));
    trainer_free(&x);
}

static void finds_what_gradients_reach(void **state) {
    (void)state;
    wr_graph *g = wr_graph_new();
    wr_dim n[1] = {wr_n(3)};
    wr_init ones = {WR_INIT_CONSTANT, 1, 0};
    wr unused = wr_param(g, "unused", WR_F32, 1, n, ones);
    wr a = wr_param(g, "a", WR_F32, 1, n, ones), held = wr_param(g, "held", WR_F32, 1, n, ones);
    wr b = wr_param(g, "b", WR_F32, 1, n, ones), late = wr_param(g, "late", WR_F32, 1, n, ones);
    wr loss = wr_sum_all(wr_mul(wr_add(b, a), wr_stop_gradient(held)));
    wr *found;
    int count;
    must(wr_optimizer_params(loss, &found, &count, err));
    assert_int_equal(count, 2);
    assert_int_equal(found[0].id, a.id);
    assert_int_equal(found[1].id, b.id);
    free(found);
    assert_false(wr_is_poison(unused) || wr_is_poison(late));
    wr_graph_free(g);
}

/* d(a b)/da is b itself, which the update writes: nothing may see half of it. */
static void gradients_may_be_parameters(void **state) {
    (void)state;
    enum { N = 60000 };
    wr_graph *g = wr_graph_new();
    wr_dim n[1] = {wr_n(N)};
    wr in[WR_ADAM_HEAD + 8];
    in[0] = wr_input(g, "lr", WR_F64, 0, NULL);
    in[1] = wr_input(g, "scale", WR_F64, 0, NULL);
    in[3] = wr_state(g, "step", WR_I32, 0, NULL, (wr_init){0});
    static const char *const names[] = {"a", "b", "ma", "mb", "va", "vb"};
    for (int k = 0; k < 6; k++)
        in[WR_ADAM_HEAD + 2 + k] =
            k < 2 ? wr_param(g, names[k], WR_F64, 1, n, (wr_init){WR_INIT_UNIFORM, 1, 2})
                  : wr_state(g, names[k], WR_F64, 1, n, (wr_init){0});
    in[WR_ADAM_HEAD] = in[WR_ADAM_HEAD + 3]; /* the gradient of a is b, and the other way round */
    in[WR_ADAM_HEAD + 1] = in[WR_ADAM_HEAD + 2];
    in[2] = wr_global_norm(2, in + WR_ADAM_HEAD);
    wr_adam_options o = {.beta1 = 0.5, .beta2 = 0.98, .eps = 1e-9};
    wr done = wr_adam(&o, WR_ADAM_HEAD + 8, in);
    wr_program *p = program_of(g, 1, &done);
    wr_session *s = session_of(2);
    must(wr_session_prepare(s, p, err));
    double *before[2], lr = 0.25, scale = 1;
    for (int k = 0; k < 2; k++) {
        before[k] = malloc(sizeof(double) * N);
        must(wr_session_read(s, wr_session_find(s, names[k]), before[k], err));
    }
    wr_feed feed[] = {{.name = "lr", .data = &lr}, {.name = "scale", .data = &scale}};
    must(wr_session_run(s, p, 2, feed, err));
    for (int k = 0; k < 2; k++) {
        const wr_tensor *m = stored(s, names[2 + k]);
        for (int64_t i = 0; i < N; i++)
            assert_true(at(m, i) == 0.5 * before[1 - k][i]);
    }
    for (int k = 0; k < 2; k++)
        free(before[k]);
    wr_session_free(s);
    wr_program_free(p);
    wr_graph_free(g);
}

static void build_refuses_with_reasons(void **state) {
    (void)state;
    wr_optimizer_options o = {.adam = KINDS[0]};
    wr_optimizer made;
    wr_graph *g = wr_graph_new();
    wr_dim n[1] = {wr_n(3)};
    wr x = wr_input(g, "x", WR_F32, 1, n);
    wr_error err = {0};
    assert_int_equal(wr_optimizer_build(wr_sum_all(x), &o, &made, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "depends on 0 parameters"));
    wr w = wr_param(g, "w", WR_F32, 1, n, (wr_init){0});
    err = (wr_error){0};
    assert_int_equal(wr_optimizer_build(w, &o, &made, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "scalar"));
    err = (wr_error){0};
    assert_int_equal(wr_optimizer_build((wr){0}, &o, &made, &err), WR_ERR_INPUT);
    wr poison = wr_add(w, wr_input(g, "y", WR_F64, 1, n));
    err = (wr_error){0};
    assert_int_equal(wr_optimizer_build(poison, &o, &made, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "one dtype"));
    wr_graph_free(g);
}

static void options_come_from_the_recipe(void **state) {
    (void)state;
    static const char *const set[] = {"optim.type=adamw",   "optim.weight_decay=0.25",
                                      "train.clip_norm=3",  "train.accumulate=4",
                                      "optim.amsgrad=true", "optim.raw_eps=true"};
    wr_recipe r;
    must(wr_recipe_parse("", 0, "test", set, 5, &r, err));
    assert_false(wr_optimizer_options_of(&r).adam.raw_eps);
    must(wr_recipe_parse("", 0, "test", set, 6, &r, err));
    wr_optimizer_options o = wr_optimizer_options_of(&r);
    assert_true(o.adam.decoupled && o.adam.amsgrad && o.adam.raw_eps && o.accumulate);
    assert_true(o.adam.weight_decay == 0.25 && o.adam.clip_norm == 3);
    assert_true(o.adam.beta1 == r.optim.beta1 && o.adam.beta2 == r.optim.beta2);
    assert_true(o.adam.eps == r.optim.eps && o.part == WR_OPTIMIZER_UPDATE);
}

/* Allocation n fails while the optimizer is built and compiled (the model is there already). */
static wr_status build_failing(long n, wr_error *err) {
    wr_graph *g = wr_graph_new();
    wr loss = network_loss(g, WR_F32);
    assert_false(wr_is_poison(loss));
    wr_test_fail_allocation(n);
    wr_optimizer_options o = {.adam = KINDS[5], .accumulate = true};
    wr_optimizer made;
    wr_status status = wr_optimizer_build(loss, &o, &made, err);
    wr_program *p = NULL;
    if (status == WR_OK) status = wr_program_new(g, 1, &made.norm, NULL, &p, err);
    wr_program_free(p);
    wr_graph_free(g);
    return status;
}

static void failed_allocations_are_reported(void **state) {
    (void)state;
    for (long n = 1;; n++) {
        wr_error err = {0};
        wr_status status = build_failing(n, &err);
        if (!wr_test_allocation_failed()) {
            assert_int_equal(status, WR_OK);
            break;
        }
        /* a graph that has no memory for the name of a source file goes without it */
        if (status != WR_ERR_MEMORY && status != WR_OK)
            fail_msg("allocation %ld: %d, %s", n, status, err.text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warmups_are_lines),
        cmocka_unit_test(schedules_follow_their_formulas),
        cmocka_unit_test(flowseq_has_two_schedules),
        cmocka_unit_test(flowseq_main_phase_ends_with_the_run),
        cmocka_unit_test(kl_weight_rises),
        cmocka_unit_test(norm_is_of_all_tensors),
        cmocka_unit_test(norm_shows_what_is_not_finite),
        cmocka_unit_test(adam_equals_its_composition),
        cmocka_unit_test(first_update_has_known_size),
        cmocka_unit_test(adamw_gives_known_weights),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(spoilt_updates_are_skipped),
        cmocka_unit_test(wrong_scalars_are_errors),
        cmocka_unit_test(wrong_operands_are_refused),
        cmocka_unit_test(loss_falls),
        cmocka_unit_test(accumulation_equals_one_batch),
        cmocka_unit_test(a_reset_optimizer_is_new),
        cmocka_unit_test(sums_begin_anew_after_nan),
        cmocka_unit_test(finds_what_gradients_reach),
        cmocka_unit_test(gradients_may_be_parameters),
        cmocka_unit_test(build_refuses_with_reasons),
        cmocka_unit_test(options_come_from_the_recipe),
        cmocka_unit_test(failed_allocations_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
