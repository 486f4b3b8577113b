/* test_flowseq.c: FlowSeq against values of its authors' program on a tiny model (all parts but the
 * layers of the flow one by one, which test_flow*.c look at), in f64 and f32; parameter counts of
 * the published models; lengths; padding; gradients of every variant; first values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "graph/op.h"
#include "graph/session.h"
#include "helpers/sample.h"
#include "models/flowseq.h"
#include "ops/assign.h"
#include "ops/elementwise.h"
#include "ops/fuse.h"
#include "ops/index.h"
#include "ops/reduce.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the tiny model ---- */

enum { B = 2, S = 5, T = 8, V = 13, D = 24, ELEMENTS = B * T * D };
static const int32_t SRC[B * S] = {3, 5, 7, 4, 2, 6, 9, 2, 0, 0}, SRC_LEN[B] = {5, 3};
static const int32_t TGT[B * T] = {4, 8, 3, 11, 5, 6, 2, 2, 10, 7, 2, 2, 0, 0, 0, 0};
static const int32_t TGT_LEN[B] = {8, 4};

static const char *const TINY_PRIOR =
    "position\nstep\ncoupling halves up\nfactor_out halves\nsqueeze\n"
    "position\nstep\ncoupling halves up\nfactor_out halves\nsqueeze\n"
    "position\nlast_step\n";

static wr_flow_stack stack_of(const char *layers, wr_flow_net net) {
    wr_flow_stack stack;
    wr_error err = {0};
    wr_flow_recipe recipe = {.text = {layers}, .net = net};
    if (wr_flow_parse(&recipe, &stack, &err) != WR_OK) fail_msg("%s", err.text);
    return stack;
}

static wr_flowseq tiny(wr_dtype t) {
    return (wr_flowseq){.src_vocab = V,
                        .tgt_vocab = V,
                        .dim = D,
                        .hidden = 16,
                        .heads = 2,
                        .encoder_layers = 2,
                        .posterior_layers = 1,
                        .decoder_layers = 1,
                        .shared_embeddings = true,
                        .length_unit = 4,
                        .length_range = 8,
                        .max_positions = 40,
                        .prior = stack_of(TINY_PRIOR, 0),
                        .prior_heads = 2,
                        .prior_hidden = 20,
                        .dtype = t};
}

/* ---- the fill of the golden file ---- */

static double fill(int64_t i, int k, double base, double amp) {
    int64_t u = (7919 * i + 31 * i * i + 104729 * k) % 1009;
    return base + amp * (2 * (double)u / 1009 - 1);
}

typedef struct role {
    int k;
    double base, amp;
    bool turned; /* the original is [out, in] */
    int first;   /* the original's row where this part begins */
} role;

static bool ends(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

static role role_of(const char *name) {
    bool prior = strncmp(name, "prior.", 6) == 0;
    const char *linear = strstr(name, ".linear");
    if (ends(name, "embedding")) return (role){.k = 1, .amp = 0.5};
    if (ends(name, "norm.gain")) return (role){.k = 5, .base = 1, .amp = 0.1};
    if (ends(name, "norm.bias") && !ends(name, "actnorm.bias") && strstr(name, "actnorm") == NULL)
        return (role){.k = 6, .amp = 0.1};
    if (ends(name, "log_variance.v")) return (role){.k = 8, .amp = 0.3, .turned = true};
    if (ends(name, ".v")) return (role){.k = 7, .amp = 0.3, .turned = true};
    if (ends(name, ".g")) return (role){.k = 9, .base = 0.5, .amp = 0.1};
    if (ends(name, ".log_scale")) return (role){.k = 10, .amp = 0.1};
    if (prior && ends(name, ".bias")) return (role){.k = 11, .amp = 0.1};
    if (prior && linear != NULL && strchr(linear + 1, '.') == strrchr(name, '.'))
        return (role){.k = 12, .amp = 0.1};
    if (ends(name, ".W"))
        return (role){.k = 2, .amp = 0.3, .turned = true, .first = ends(name, ".kv.W")};
    return (role){.k = 4, .amp = 0.1, .first = ends(name, ".kv.b")};
}

static double filled(const wr_stored *p, const role *r, int64_t i) {
    int64_t rows = p->tensor.dim[0], cols = p->tensor.rank == 2 ? p->tensor.dim[1] : 1;
    int64_t row = i / cols, col = i % cols;
    if (r->k == 1 && row == 0) return 0;
    if (r->k == 12) return (row == col) + fill(i, r->k, r->base, r->amp);
    if (r->turned) return fill((col + r->first * cols / 2) * rows + row, r->k, r->base, r->amp);
    return fill(i + r->first * rows / 2, r->k, r->base, r->amp);
}

static void put(wr_session *s, int index, const double *value) {
    const wr_tensor *x = &wr_session_stored_at(s, index)->tensor;
    wr_error err = {0};
    float *narrow = malloc(sizeof *narrow * (size_t)x->n);
    assert_non_null(narrow);
    for (int64_t i = 0; i < x->n; i++)
        narrow[i] = (float)value[i];
    const void *from = x->dtype == WR_F64 ? (const void *)value : narrow;
    assert_int_equal(wr_session_write(s, index, from, &err), WR_OK);
    free(narrow);
}

static double *get(wr_session *s, int index) {
    const wr_tensor *x = &wr_session_stored_at(s, index)->tensor;
    wr_error err = {0};
    double *wide = malloc(sizeof *wide * (size_t)x->n);
    assert_non_null(wide);
    assert_int_equal(wr_session_read(s, index, wide, &err), WR_OK);
    if (x->dtype == WR_F32)
        for (int64_t i = x->n; i-- > 0;)
            wide[i] = ((float *)(void *)wide)[i];
    return wide;
}

static int64_t fill_parameters(wr_session *s) {
    int64_t count = 0;
    for (int p = 0; p < wr_session_stored(s); p++) {
        const wr_stored *x = wr_session_stored_at(s, p);
        role r = role_of(x->name);
        double *value = malloc(sizeof *value * (size_t)x->tensor.n);
        assert_non_null(value);
        for (int64_t i = 0; i < x->tensor.n; i++)
            value[i] = filled(x, &r, i);
        put(s, p, value);
        free(value);
        count += x->tensor.n;
    }
    return count;
}

/* ---- running ---- */

typedef struct subject {
    wr_flowseq f;
    wr_session *session;
    int64_t b, s, t, samples; /* what is fed */
    int32_t src[64], src_len[8], tgt[128], tgt_len[8];
    double noise[4 * ELEMENTS];
    float narrow[4 * ELEMENTS];
} subject;

static void open_session(subject *x, int threads) {
    wr_error err = {0};
    wr_session_options o = {.threads = threads, .seed = 11};
    if (wr_session_new(&o, &x->session, &err) != WR_OK) fail_msg("%s", err.text);
}

/* Feeds what the program asks for. */
static void run(subject *x, wr_program *p) {
    wr_error err = {0};
    int64_t n = x->b * x->samples;
    for (int64_t i = 0; i < n * x->t * x->f.dim; i++)
        x->narrow[i] = (float)x->noise[i];
    const void *noise = x->f.dtype == WR_F64 ? (const void *)x->noise : x->narrow;
    wr_feed all[] = {{"src", x->src, 2, {x->b, x->s}},
                     {"src_len", x->src_len, 1, {x->b}},
                     {"tgt", x->tgt, 2, {x->b, x->t}},
                     {"tgt_len", x->tgt_len, 1, {x->b}},
                     {"noise", noise, 3, {n, x->t, x->f.dim}}};
    wr_feed fed[5];
    int count = 0;
    for (int i = 0; i < 5; i++)
        if (wr_program_find_input(p, all[i].name) >= 0) fed[count++] = all[i];
    if (wr_session_run(x->session, p, count, fed, &err) != WR_OK) fail_msg("%s", err.text);
}

static void run_once(subject *x, wr_graph *g, int n, const wr *outputs) {
    wr_program *p = test_program_of(g, n, outputs, wr_standard_passes());
    run(x, p);
    wr_session_forget(x->session, p);
    wr_program_free(p);
}

static double value(const subject *x, int output, int64_t i) {
    const wr_tensor *y = wr_session_output(x->session, output);
    if (y->dtype == WR_I32) return ((const int32_t *)y->data)[i];
    return y->dtype == WR_F32 ? (double)((const float *)y->data)[i] : ((const double *)y->data)[i];
}

static wr noise_input(const wr_flowseq *f, const wr_flowseq_pairs *in, int samples) {
    wr_graph *g = in->tgt.g;
    wr_dim n = wr_dim_mul(g, wr_dim_of(in->tgt, 0), wr_n(samples));
    return wr_input(g, "noise", f->dtype, WR_DIMS(n, wr_dim_of(in->tgt, 1), wr_n(f->dim)));
}

/* The noise of the golden file, masked. */
static void golden_noise(subject *x, int samples) {
    x->samples = samples;
    for (int64_t i = 0; i < x->b * samples * T * D; i++) {
        int64_t sentence = i / (samples * T * D), t = i / D % T;
        x->noise[i] = t < TGT_LEN[sentence] ? fill(i, 20, 0, 1.5) : 0;
    }
}

static void open_golden(subject *x, wr_dtype t) {
    *x = (subject){.f = tiny(t), .b = B, .s = S, .t = T};
    memcpy(x->src, SRC, sizeof SRC);
    memcpy(x->src_len, SRC_LEN, sizeof SRC_LEN);
    memcpy(x->tgt, TGT, sizeof TGT);
    memcpy(x->tgt_len, TGT_LEN, sizeof TGT_LEN);
    golden_noise(x, 1);
    open_session(x, 2);
}

static wr_flowseq_losses losses(const subject *x, wr_graph *g, wr_flowseq_pairs *in,
                                bool smoothed) {
    *in = wr_flowseq_inputs(&x->f, g);
    wr_flowseq_options o = {.samples = (int)x->samples,
                            .label_smoothing = smoothed ? 0.1 : 0,
                            .length_smoothing = smoothed ? 0.1 : 0};
    o.noise = noise_input(&x->f, in, (int)x->samples);
    return wr_flowseq_losses_of(&x->f, in, &o);
}

/* ---- golden values ---- */

typedef struct golden {
    const char *name;
    double sum, size, first[6]; /* size: sum of magnitudes; 0: only `first` counts */
    int n_first;
} golden;

static void agree(const char *name, const char *what, double got, double expected, double scale,
                  double tolerance) {
    if (!(fabs(got - expected) <= tolerance * scale + 1.5e-7 * (tolerance < 1e-5)))
        fail_msg("%s: %s is %.9g, not %.9g (off by %.2g of %.3g)", name, what, got, expected,
                 fabs(got - expected) / scale, scale);
}

static void check(const subject *x, int output, const golden *e) {
    double sum = 0, size = 0, tolerance = x->f.dtype == WR_F64 ? 1e-6 : 1e-4;
    for (int64_t i = 0; i < wr_session_output(x->session, output)->n; i++) {
        double v = value(x, output, i);
        sum += v;
        size += fabs(v);
    }
    if (e->size > 0) {
        agree(e->name, "the sum", sum, e->sum, e->size, tolerance);
        agree(e->name, "the sum of magnitudes", size, e->size, e->size, tolerance);
    }
    for (int i = 0; i < e->n_first; i++)
        agree(e->name, "an element", value(x, output, i), e->first[i], fmax(1, fabs(e->first[i])),
              tolerance);
}

static const golden PLAIN[] = {
    {"enc",
     1.8479908,
     160.7875330,
     {-1.0233431, 0.2403729, 0.7919346, -0.7911206, 0.9803241, -1.4964703},
     6},
    {"ctx",
     0.1679957,
     38.0184909,
     {-1.2879875, -0.2750644, -0.2826313, 1.1646941, 1.9477669, -1.6246861},
     6},
    {"mu",
     5.1451163,
     121.6180399,
     {0.3855144, -0.3493143, 0.0912375, 0.1471863, -0.7424099, -0.0472496},
     6},
    {"logvar",
     -1.5473933,
     107.8048652,
     {-0.3457444, 0.1350274, -0.5966798, 0.3676860, -0.6171297, 0.4611565},
     6},
    {"z",
     2.4099069,
     253.6422948,
     {1.3872547, 0.5365682, 0.5733120, 0.9351036, -0.1211056, 1.4897796},
     6},
    {"log_q", -371.7210007, 371.7210007, {-251.8002613, -119.9207394}, 2},
    {"epsilon",
     12.2148158,
     455.0452492,
     {2.5646934, 2.0349376, 0.6516076, 2.7711047, -1.1675389, -3.2115925},
     6},
    {"logdet", -406.5928587, 406.5928587, {-271.0948697, -135.4979890}, 2},
    {"log_prior", -1212.5364216, 1212.5364216, {-813.2654104, -399.2710112}, 2},
    {"KL", 840.8154210, 840.8154210, {561.4651491, 279.3502719}, 2},
    {"len loss eval", 2.3784033, 2.3784033, {1.3650674, 1.0133359}, 2},
    {"recon eval", 38.2371650, 38.2371650, {26.1938728, 12.0432922}, 2},
    {"recon smoothed", 38.4482236, 38.4482236, {26.3391692, 12.1090544}, 2},
    {"len loss smoothed", 2.4285130, 2.4285130, {1.3709104, 1.0576026}, 2},
    {"loss klw=.5", 0, 0, {230.64222353}, 1},
    {"tokens", 12, 12, {8, 4}, 2}};
enum { PLAIN_COUNT = sizeof PLAIN / sizeof *PLAIN };

static void check_values(wr_dtype t) {
    subject x;
    open_golden(&x, t);
    wr_graph *g = wr_graph_new();
    wr_flowseq_pairs in;
    wr_flowseq_losses l = losses(&x, g, &in, true);
    wr_flowseq_encoding e = wr_flowseq_encode(&x.f, in.src, in.src_len);
    wr loss = wr_scale(wr_flowseq_total(&l, wr_scalar(g, t, 0.5)), 1.0 / B);
    wr out[PLAIN_COUNT] = {e.source.x,   e.state, l.q.mean,         l.q.log_variance, l.z,
                           l.log_q,      l.eps,   l.log_det,        l.log_prior,      l.kl,
                           l.length_nll, l.nll,   l.reconstruction, l.length,         loss,
                           l.tokens};
    wr_program *p = test_program_of(g, PLAIN_COUNT, out, wr_standard_passes());
    wr_error err = {0};
    if (wr_session_prepare(x.session, p, &err) != WR_OK) fail_msg("%s", err.text);
    assert_int_equal(fill_parameters(x.session), 138906);
    run(&x, p);
    for (int i = 0; i < PLAIN_COUNT; i++)
        check(&x, i, &PLAIN[i]);
    wr_session_free(x.session);
    wr_program_free(p);
}

static void test_values_f64(void **state) {
    (void)state;
    check_values(WR_F64);
}

static void test_values_f32(void **state) {
    (void)state;
    check_values(WR_F32);
}

/* The session gets the tiny model's parameters. */
static void prepare(subject *x) {
    wr_graph *g = wr_graph_new();
    wr_flowseq_pairs in;
    wr_flowseq_losses l = losses(x, g, &in, false);
    wr out[] = {l.kl, wr_flowseq_total(&l, wr_scalar(g, x->f.dtype, 1))};
    wr_program *p = test_program_of(g, 2, out, wr_standard_passes());
    wr_error err = {0};
    if (wr_session_prepare(x->session, p, &err) != WR_OK) fail_msg("%s", err.text);
    wr_session_forget(x->session, p);
    wr_program_free(p);
}

/* ---- golden gradients ---- */

typedef struct golden_norm {
    const char *name, *other; /* `other`: the rest of a matrix that is one piece there */
    double norm;
} golden_norm;

static const golden_norm NORM[] = {
    {"embedding", NULL, 60.00831044},
    {"encoder.layer0.self.qkv.W", NULL, 82.71758319},
    {"posterior.mean.g", NULL, 23.18473624},
    {"posterior.log_variance.v", NULL, 19.60044516},
    {"decoder.input.q.W", "decoder.input.kv.W", 9.02663821},
    {"decoder.bias", NULL, 2.00413954},
    {"prior.position0.actnorm0.log_scale", NULL, 15.53794382},
    {"prior.step0.linear0.W", NULL, 42.88217992},
    {"prior.step1.linear1.W", NULL, 46.21950332},
    {"prior.step0.unit0.coupling4.out.v", NULL, 26.96944856},
    {"prior.last_step0.last_unit1.coupling3.project.W", NULL, 5.90638685},
    {"length.out.W", NULL, 0.86566300}};

enum { PARAMETERS_MOST = 2000 };

/* Every parameter of a graph. */
static int parameters(wr_graph *g, wr *out) {
    int n = 0;
    uint32_t count = wr_node_count(g);
    for (uint32_t id = 1; id < count; id++)
        if (wr_node_at(g, id)->op == &wr_op_param) {
            assert_true(n < PARAMETERS_MOST);
            out[n++] = (wr){g, id};
        }
    return n;
}

static int find(wr_graph *g, int n, const wr *at, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(wr_source_name(g, at[i].id), name) == 0) return i;
    fail_msg("no parameter %s", name);
    return -1;
}

static void check_gradients(wr_dtype t) {
    enum { N = sizeof NORM / sizeof *NORM };
    subject x;
    open_golden(&x, t);
    prepare(&x);
    fill_parameters(x.session);
    wr_graph *g = wr_graph_new();
    wr_flowseq_pairs in;
    wr_flowseq_losses l = losses(&x, g, &in, true);
    wr loss = wr_scale(wr_flowseq_total(&l, wr_scalar(g, t, 0.5)), 1.0 / B);
    static wr at[PARAMETERS_MOST], grad[PARAMETERS_MOST], out[PARAMETERS_MOST];
    int n = parameters(g, at);
    assert_true(wr_grad(loss, n, at, grad));
    wr all = wr_scalar(g, t, 0);
    for (int i = 0; i < n; i++) {
        out[i] = wr_sum_all(wr_square(grad[i]));
        all = wr_add(all, out[i]);
    }
    wr norm[N + 1] = {all};
    for (int i = 0; i < N; i++) {
        norm[i + 1] = out[find(g, n, at, NORM[i].name)];
        if (NORM[i].other != NULL)
            norm[i + 1] = wr_add(norm[i + 1], out[find(g, n, at, NORM[i].other)]);
    }
    run_once(&x, g, N + 1, norm);
    double tolerance = t == WR_F64 ? 1e-6 : 1e-4;
    agree("all gradients", "the norm", sqrt(value(&x, 0, 0)), 352.26554881, 352, tolerance);
    for (int i = 0; i < N; i++)
        agree(NORM[i].name, "the gradient's norm", sqrt(value(&x, i + 1, 0)), NORM[i].norm,
              NORM[i].norm, tolerance);
    wr_session_free(x.session);
}

static void test_gradient_norms(void **state) {
    (void)state;
    check_gradients(WR_F64);
    check_gradients(WR_F32);
}

/* ---- golden decoding ---- */

static void check_words(const subject *x, int output, const int32_t *expected) {
    for (int b = 0; b < B; b++)
        for (int t = 0; t < TGT_LEN[b]; t++)
            assert_int_equal((int)value(x, output, b * T + t), expected[b * T + t]);
}

static void check_scores(const subject *x, int output) {
    static const int length[B][3] = {{4, 12, 8}, {4, 8}};
    static const double score[B][3] = {{-1.112809, -1.3312, -1.365067}, {-1.013336, -1.471081}};
    for (int b = 0; b < B; b++) {
        double row[17], best[3];
        int got[3];
        for (int j = 0; j < 17; j++)
            row[j] = value(x, output, b * 17 + j);
        assert_int_equal(wr_flowseq_best_lengths(&x->f, SRC_LEN[b], row, 3, got, best), 3 - b);
        for (int k = 0; k < 3 - b; k++) {
            assert_int_equal(got[k], length[b][k]);
            agree("predict", "a score", best[k], score[b][k], 1,
                  x->f.dtype == WR_F64 ? 1e-6 : 1e-4);
        }
    }
}

static const golden BEST_Z = {
    "z(eps=0)",
    138.6647864,
    2665.1289528,
    {-9.9835742, 7.1898824, 30.4403793, -21.5505893, -0.4245862, 7.1538269},
    6};

static void check_decoding(wr_dtype t) {
    static const int32_t drawn[B * T] = {7, 7, 8, 8, 8, 7, 7, 7, 7, 7, 7, 7};
    static const int32_t best[B * T] = {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2};
    static const int banned[] = {WR_FLOWSEQ_PAD};
    subject x;
    open_golden(&x, t);
    prepare(&x);
    fill_parameters(x.session);
    wr_graph *g = wr_graph_new();
    wr_flowseq_pairs in;
    wr_flowseq_losses l = losses(&x, g, &in, false);
    wr_flowseq_encoding e = wr_flowseq_encode(&x.f, in.src, in.src_len);
    wr eps = wr_scale(noise_input(&x.f, &in, 1), 0), log_det;
    wr z = wr_flowseq_generate(&x.f, &e.source, eps, in.tgt_len, NULL);
    wr back = wr_flowseq_generate(&x.f, &e.source, l.eps, in.tgt_len, &log_det);
    wr h[2] = {wr_flowseq_decode(&x.f, &e.source, l.z, in.tgt_len),
               wr_flowseq_decode(&x.f, &e.source, z, in.tgt_len)};
    wr out[] = {wr_flowseq_words(&x.f, h[0], 1, banned),
                wr_flowseq_words(&x.f, h[1], 1, banned),
                z,
                wr_flowseq_length_scores(&x.f, &e),
                wr_sub(back, l.z),
                wr_add(log_det, l.log_det)};
    run_once(&x, g, 6, out);
    check_words(&x, 0, drawn);
    check_words(&x, 1, best);
    check(&x, 2, &BEST_Z);
    check_scores(&x, 3);
    for (int i = 0; i < ELEMENTS; i++) /* the authors' has 1.8e-5 here, for it divides by more */
        assert_true(fabs(value(&x, 4, i)) < (t == WR_F64 ? 1e-11 : 2e-3));
    for (int b = 0; b < B; b++)
        assert_true(fabs(value(&x, 5, b)) < (t == WR_F64 ? 1e-10 : 1e-2));
    wr_session_free(x.session);
}

static void test_decoding(void **state) {
    (void)state;
    check_decoding(WR_F64);
    check_decoding(WR_F32);
}

/* Two samples: importance weights of the target, and -log p(y, T | x) from them. */
static void test_importance_weights(void **state) {
    (void)state;
    static const golden weights = {"log_iw k=2",
                                   -1656.6378463,
                                   1656.6378463,
                                   {-587.6590220, -553.3161952, -244.6845987, -270.9780304},
                                   4};
    static const double nlprob[B] = {554.0093424, 245.3777458};
    subject x;
    open_golden(&x, WR_F64);
    golden_noise(&x, 2);
    prepare(&x);
    fill_parameters(x.session);
    wr_graph *g = wr_graph_new();
    wr_flowseq_pairs in;
    wr_flowseq_losses l = losses(&x, g, &in, false);
    run_once(&x, g, 4, (wr[]){l.weights, l.nll, l.log_q, l.log_prior});
    check(&x, 0, &weights);
    for (int b = 0; b < B; b++) {
        double w0 = value(&x, 0, 2 * b), w1 = value(&x, 0, 2 * b + 1), top = fmax(w0, w1);
        double mean = top + log((exp(w0 - top) + exp(w1 - top)) / 2);
        agree("nlprob", "a sentence", -mean, nlprob[b], nlprob[b], 1e-6);
        double terms = value(&x, 3, b) - value(&x, 1, b) - value(&x, 2, b);
        agree("means over samples", "a sentence", terms, (w0 + w1) / 2, 100, 1e-12);
    }
    wr_session_free(x.session);
}

/* ---- golden start from data ---- */

static const golden STARTED[] = {
    {"mu",
     0.0125270,
     11.8213063,
     {0.0321667, 0.0011494, -0.0354590, 0.0308603, -0.0377989, 0.0163774},
     6},
    {"logvar",
     0.0632165,
     11.9283058,
     {0.0096483, 0.0683722, -0.0102923, 0.0243758, -0.1228717, 0.0562023},
     6},
    {"z",
     -1.4910649,
     215.6050299,
     {1.2287081, 0.8579941, 0.6108595, 0.6944991, 0.7576845, 1.2716771},
     6},
    {"eps",
     -0.4956219,
     216.3969888,
     {1.1302465, 0.9411624, 1.0807829, 1.0663267, 0.7099734, 0.7149054},
     6},
    {"logdet", 35.4057967, 35.4057967, {23.6038644, 11.8019322}, 2}};

static const golden STARTED_STORED[] = {
    {"prior.position0.actnorm0.log_scale",
     7.0157386,
     7.0157386,
     {0.3187307, 0.3229406, 0.2051375, 0.3969799, 0.2347846, 0.1227664},
     6},
    {"prior.position0.actnorm0.bias",
     0.1408441,
     4.6263013,
     {0.2120058, 0.0263808, -0.1525488, 0.5605637, -0.2207451, -0.1652074},
     6},
    {"prior.last_step0.last_unit1.actnorm0.log_scale",
     1.7654979,
     2.2367668,
     {0.1909868, 0.0671849, 0.1040271, 0.2664746, 0.1318216, 0.1943499},
     6}};

static void check_stored(const subject *x, const golden *e) {
    int index = wr_session_find(x->session, e->name);
    if (index < 0) fail_msg("no parameter %s", e->name);
    double *v = get(x->session, index), sum = 0, size = 0;
    for (int64_t i = 0; i < wr_session_stored_at(x->session, index)->tensor.n; i++) {
        sum += v[i];
        size += fabs(v[i]);
    }
    double tolerance = x->f.dtype == WR_F64 ? 1e-6 : 1e-4;
    agree(e->name, "the sum", sum, e->sum, e->size, tolerance);
    agree(e->name, "the sum of magnitudes", size, e->size, e->size, tolerance);
    for (int i = 0; i < e->n_first; i++)
        agree(e->name, "an element", v[i], e->first[i], 1, tolerance);
    free(v);
}

static void start_data(subject *x, int parts) {
    wr_graph *g = wr_graph_new();
    wr_flowseq_pairs in = wr_flowseq_inputs(&x->f, g);
    wr noise = noise_input(&x->f, &in, 1);
    run_once(x, g, 1, (wr[]){wr_flowseq_start_data(&x->f, &in, noise, parts)});
}

static void check_started(wr_dtype t, bool at_once) {
    subject x;
    open_golden(&x, t);
    prepare(&x);
    fill_parameters(x.session);
    int rest = WR_FLOWSEQ_START_LOG_VARIANCE | WR_FLOWSEQ_START_PRIOR;
    if (!at_once) start_data(&x, WR_FLOWSEQ_START_MEAN);
    start_data(&x, at_once ? rest | WR_FLOWSEQ_START_MEAN : rest);
    wr_graph *g = wr_graph_new();
    wr_flowseq_pairs in;
    wr_flowseq_losses l = losses(&x, g, &in, false);
    run_once(&x, g, 5, (wr[]){l.q.mean, l.q.log_variance, l.z, l.eps, l.log_det});
    for (int i = 0; i < 5; i++)
        check(&x, i, &STARTED[i]);
    for (int i = 0; i < 3; i++)
        check_stored(&x, &STARTED_STORED[i]);
    wr_session_free(x.session);
}

static void test_start_from_data(void **state) {
    (void)state;
    check_started(WR_F64, true);
    check_started(WR_F64, false);
    check_started(WR_F32, true);
}

/* g is the norm of v for each output, the embedding of padding is 0, and heads that begin as zero
 * stay so. */
static void test_start_from_parameters(void **state) {
    (void)state;
    for (int zero = 0; zero < 2; zero++) {
        subject x;
        open_golden(&x, WR_F64);
        x.f.zero_heads = zero;
        prepare(&x);
        wr_graph *g = wr_graph_new();
        run_once(&x, g, 1, (wr[]){wr_flowseq_start_params(&x.f, g)});
        double *table = get(x.session, wr_session_find(x.session, "embedding"));
        for (int i = 0; i < V * D; i++)
            assert_true(i < D ? table[i] == 0 : table[i] != 0 && fabs(table[i]) <= 0.1);
        double *v = get(x.session, wr_session_find(x.session, "posterior.mean.v"));
        double *length = get(x.session, wr_session_find(x.session, "posterior.mean.g"));
        for (int out = 0; out < D; out++) {
            double norm = 0;
            for (int in = 0; in < D; in++)
                norm += v[in * D + out] * v[in * D + out];
            assert_true(fabs(length[out] - (zero ? 0 : sqrt(norm))) < 1e-14);
        }
        free(table);
        free(v);
        free(length);
        wr_session_free(x.session);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_f64),           cmocka_unit_test(test_values_f32),
        cmocka_unit_test(test_gradient_norms),       cmocka_unit_test(test_decoding),
        cmocka_unit_test(test_importance_weights),   cmocka_unit_test(test_start_from_data),
        cmocka_unit_test(test_start_from_parameters)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
