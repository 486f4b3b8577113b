/* test_flow_golden.c: the prior of a tiny FlowSeq against the values of the authors' program, layer
 * by layer, and after the start from data.
 *
 * The program computes softmax and positions in f32, so agreement is to about 1e-6. Its inverse
 * adds 1e-8 and 1e-12 to divisors, which ours does not: its error of 1.8e-5 is not reproduced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "graph/op.h"
#include "graph/session.h"
#include "models/flowseq.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/reduce.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { B = 2, S = 5, T = 8, D = 24, ELEMENTS = B * T * D };
static const double AGREEMENT = 1e-6;

static const int32_t SRC[B * S] = {3, 5, 7, 4, 2, 6, 9, 2, 0, 0}, SRC_LEN[B] = {5, 3};
static const int32_t TGT[B * T] = {4, 8, 3, 11, 5, 6, 2, 2, 10, 7, 2, 2, 0, 0, 0, 0};
static const int32_t TGT_LEN[B] = {8, 4};

static const char *const STACK = "position\nstep\ncoupling halves up\nfactor_out halves\nsqueeze\n"
                                 "position\nstep\ncoupling halves up\nfactor_out halves\nsqueeze\n"
                                 "position\nlast_step\n";
/* The layers of the first scale, one after the other. */
static const char *const LAYERS[] = {"actnorm",
                                     "coupling halves up attend",
                                     "coupling halves down add",
                                     "actnorm",
                                     "linear heads",
                                     "coupling halves up",
                                     "coupling halves down",
                                     "actnorm",
                                     "coupling alternate up",
                                     "coupling alternate down",
                                     "actnorm",
                                     "coupling time up",
                                     "coupling time down",
                                     "actnorm",
                                     "linear interleaved",
                                     "coupling halves up",
                                     "coupling halves down",
                                     "actnorm",
                                     "coupling alternate up",
                                     "coupling alternate down",
                                     "actnorm",
                                     "coupling time up",
                                     "coupling time down",
                                     "coupling halves up"};
enum { N_LAYERS = sizeof LAYERS / sizeof LAYERS[0] };

static wr_flow_stack parse(const char *layers) {
    wr_flow_stack stack;
    wr_error err = {0};
    if (wr_flow_parse(&(wr_flow_recipe){.text = {layers}}, &stack, &err) != WR_OK)
        fail_msg("%s", err.text);
    return stack;
}

static wr_flowseq tiny(const char *layers) {
    return (wr_flowseq){.src_vocab = 13,
                        .tgt_vocab = 13,
                        .dim = D,
                        .hidden = 16,
                        .heads = 2,
                        .encoder_layers = 2,
                        .posterior_layers = 1,
                        .decoder_layers = 1,
                        .shared_embeddings = true,
                        .length_unit = 4,
                        .length_range = 8,
                        .max_positions = 32,
                        .prior = parse(layers),
                        .prior_heads = 2,
                        .prior_hidden = 20,
                        .dtype = WR_F64};
}

/* ---- parameters and noise by formula ---- */

static double fill(int64_t i, int64_t role, double base, double amplitude) {
    double u = (double)((7919 * i + 31 * i * i + 104729 * role) % 1009) / 1009.0;
    return base + amplitude * (2 * u - 1);
}

static bool ends(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

typedef struct role {
    const char *end;
    int number;
    double base, amplitude;
} role;

/* The first that fits. */
static const role ROLES[] = {{"embedding", 1, 0, 0.5},   {"norm.gain", 5, 1, 0.1},
                             {"norm.bias", 6, 0, 0.1},   {"log_variance.v", 8, 0, 0.3},
                             {".v", 7, 0, 0.3},          {".g", 9, 0.5, 0.1},
                             {".log_scale", 10, 0, 0.1}, {".bias", 11, 0, 0.1},
                             {".b", 4, 0, 0.1},          {".W", 2, 0, 0.3}};

static bool is_linear(const char *name) {
    const char *last = strstr(name, "linear");
    return last != NULL && strchr(last, '.') != NULL && strcmp(strchr(last, '.'), ".W") == 0;
}

/* Element (row, column) of ours in the authors' row-major order: matrices are stored transposed,
 * and keys and values are the rows behind the queries' of one matrix. */
static int64_t their_index(const char *name, const wr_tensor *x, int64_t row, int64_t column) {
    bool behind = ends(name, ".kv.W") || ends(name, ".kv.b");
    if (x->rank == 1) return column + (behind ? x->dim[0] / 2 : 0);
    if (ends(name, "embedding") || is_linear(name)) return row * x->dim[1] + column;
    return (column + (behind ? x->dim[1] / 2 : 0)) * x->dim[0] + row;
}

static void fill_parameter(const wr_stored *p, double *value) {
    const role *r = ROLES;
    while (!ends(p->name, r->end))
        r++;
    int64_t rows = p->tensor.rank == 1 ? 1 : p->tensor.dim[0], columns = p->tensor.n / rows;
    for (int64_t k = 0; k < p->tensor.n; k++) {
        int64_t row = k / columns, i = their_index(p->name, &p->tensor, row, k % columns);
        value[k] = fill(i, r->number, r->base, r->amplitude);
        if (is_linear(p->name)) value[k] = fill(i, 12, row == k % columns ? 1 : 0, 0.1);
        if (r->number == 1 && row == 0) value[k] = 0;
    }
}

static void fill_parameters(wr_session *s) {
    wr_error err = {0};
    for (int i = 0; i < wr_session_stored(s); i++) {
        const wr_stored *p = wr_session_stored_at(s, i);
        double *value = malloc(sizeof *value * (size_t)p->tensor.n);
        assert_non_null(value);
        fill_parameter(p, value);
        assert_int_equal(wr_session_write(s, i, value, &err), WR_OK);
        free(value);
    }
}

/* ---- running ---- */

static wr_session *run(wr_graph *g, int n, const wr *outputs, wr_session *session) {
    wr_program *p;
    wr_error err = {0};
    double noise[ELEMENTS];
    for (int i = 0; i < ELEMENTS; i++)
        noise[i] = fill(i, 20, 0, 1.5);
    wr_feed feeds[] = {{"src", SRC, 2, {B, S}},
                       {"src_len", SRC_LEN, 1, {B}},
                       {"tgt", TGT, 2, {B, T}},
                       {"tgt_len", TGT_LEN, 1, {B}},
                       {"noise", noise, 3, {B, T, D}}};
    if (wr_program_new(g, n, outputs, NULL, &p, &err) != WR_OK) fail_msg("%s", err.text);
    wr_graph_free(g);
    if (session == NULL) {
        wr_session_options o = {.threads = 1};
        assert_int_equal(wr_session_new(&o, &session, &err), WR_OK);
        if (wr_session_prepare(session, p, &err) != WR_OK) fail_msg("%s", err.text);
        fill_parameters(session);
    }
    if (wr_session_run(session, p, 5, feeds, &err) != WR_OK) fail_msg("%s", err.text);
    wr_session_forget(session, p);
    wr_program_free(p);
    return session;
}

typedef struct latent {
    wr_source source;
    wr z, len;
} latent;

static latent latent_of(const wr_flowseq *f, wr_graph *g) {
    wr_flowseq_pairs in = wr_flowseq_inputs(f, g);
    wr noise = wr_input(g, "noise", f->dtype,
                        WR_DIMS(wr_dim_of(in.tgt, 0), wr_dim_of(in.tgt, 1), wr_n(D)));
    latent l = {.source = wr_flowseq_encode(f, in.src, in.src_len).source, .len = in.tgt_len};
    wr_flowseq_gaussian q = wr_flowseq_posterior(f, &l.source, in.tgt, in.tgt_len, NULL);
    l.z = wr_flowseq_draw(&q, noise, wr_sequence_mask(l.len, wr_dim_of(in.tgt, 1), f->dtype));
    return l;
}

/* ---- expected values ---- */

typedef struct row {
    const char *name;
    int layers; /* how many of LAYERS; 0: something else */
    double sum, size, first[6];
    double log_det[B]; /* of the last of them */
} row;

static void check_number(const char *name, const char *what, double got, double want,
                         double scale) {
    if (!(fabs(got - want) <= AGREEMENT * scale))
        fail_msg("%s: %s is %.9g instead of %.9g", name, what, got, want);
}

/* Printed with seven digits behind the point. */
static void check_tensor(const row *r, const wr_tensor *x) {
    double sum = 0, size = 0;
    for (int64_t i = 0; i < x->n; i++) {
        sum += ((const double *)x->data)[i];
        size += fabs(((const double *)x->data)[i]);
    }
    check_number(r->name, "the sum", sum, r->sum, r->size);
    check_number(r->name, "the sum of magnitudes", size, r->size, r->size);
    for (int i = 0; i < 6; i++)
        check_number(r->name, "an element", ((const double *)x->data)[i], r->first[i],
                     1 + fabs(r->first[i]));
}

static const row ROWS[] = {{"b0.pos.actnorm",
                            1,
                            5.6785035,
                            257.9833611,
                            {1.5660942, 0.5973756, 0.6174772, 0.9999843, -0.1037899, 1.6834553},
                            {1.2162537, 0.6081269}},
                           {"b0.pos.up",
                            2,
                            -1.4960053,
                            260.8681793,
                            {1.5660942, 0.5973756, 0.6174772, 0.9999843, -0.1037899, 1.6834553},
                            {-11.5790573, -6.1255422}},
                           {"b0.pos.down",
                            3,
                            0.7795066,
                            252.0936722,
                            {1.3399920, -0.1509997, 1.5642563, 0.7485457, -0.5490265, 1.2747178},
                            {-13.3061592, -7.7092562}},
                           {"b0.s0.actnorm1",
                            4,
                            3.9602517,
                            257.3352813,
                            {1.5143964, -0.1367433, 1.6630037, 0.8030726, -0.5612263, 1.4477457},
                            {1.2162537, 0.6081269}},
                           {"b0.s0.linear1(A)",
                            5,
                            -13.6518371,
                            270.7688170,
                            {1.4100843, -0.1679216, 2.0569418, 0.9902857, -0.3555585, 1.6457855},
                            {11.8106802, 5.9053401}},
                           {"b0.s0.unit1.coupling1_up",
                            6,
                            -22.2855443,
                            295.9541929,
                            {1.4100843, -0.1679216, 2.0569418, 0.9902857, -0.3555585, 1.6457855},
                            {-12.9586898, -6.8565281}},
                           {"b0.s0.unit1.coupling1_down",
                            7,
                            -17.6936132,
                            318.9466909,
                            {1.0909351, -0.6686207, 2.7415893, 0.9641010, -0.7519128, 1.3329247},
                            {-13.2659039, -7.5007871}},
                           {"b0.s0.unit1.actnorm1",
                            8,
                            -13.6357000,
                            326.1827511,
                            {1.2419684, -0.6894092, 2.9051852, 1.0305911, -0.7781066, 1.5115410},
                            {1.2162537, 0.6081269}},
                           {"b0.s0.unit1.coupling2_up",
                            9,
                            1.6825852,
                            310.6322913,
                            {1.2419684, 0.0552488, 2.9051852, 1.2582914, -0.7781066, 1.1279617},
                            {-12.5825591, -6.1877916}},
                           {"b0.s0.unit1.coupling2_down",
                            10,
                            4.4126702,
                            302.2515102,
                            {1.3449808, 0.0552488, 2.4529644, 1.2582914, -0.0017100, 1.1279617},
                            {-12.8550192, -6.1720900}},
                           {"b0.s0.unit1.actnorm2",
                            11,
                            9.3870842,
                            309.6861482,
                            {1.5198534, 0.0834691, 2.6006626, 1.3411088, 0.0238410, 1.2868998},
                            {1.2162537, 0.6081269}},
                           {"b0.s0.unit1.coupling3_up",
                            12,
                            9.8922119,
                            289.1308919,
                            {1.5198534, 0.0834691, 2.6006626, 1.3411088, 0.0238410, 1.2868998},
                            {-13.0428503, -6.0452494}},
                           {"b0.s0.unit1.coupling3_down",
                            13,
                            -2.3856117,
                            282.4233659,
                            {1.0858368, -0.8184229, 2.4249015, 1.6467895, -0.3385177, 1.1825296},
                            {-13.7207115, -6.0593026}},
                           {"b0.s0.linear2(B)",
                            15,
                            -24.1101418,
                            313.6778948,
                            {1.0677343, -0.7522042, 2.5289941, 1.8427492, -0.3679742, 0.8837931},
                            {11.8106802, 5.9053401}}};
enum { N_ROWS = sizeof ROWS / sizeof ROWS[0] };

static const row BLOCK_0 = {"block0 out",
                            N_LAYERS,
                            4.8722562,
                            391.3087374,
                            {0.7196117, -0.9685277, 2.5525821, 2.2133449, 0.2290018, 0.1641160},
                            {-163.9923417, -81.2606374}};
static const row Z = {"z",
                      0,
                      2.4099069,
                      253.6422948,
                      {1.3872547, 0.5365682, 0.5733120, 0.9351036, -0.1211056, 1.4897796},
                      {0, 0}};
static const row EPSILON = {"epsilon",
                            0,
                            12.2148158,
                            455.0452492,
                            {2.5646934, 2.0349376, 0.6516076, 2.7711047, -1.1675389, -3.2115925},
                            {-271.0948697, -135.4979890}};

/* ---- layer by layer ---- */

static void check_log_det(const row *r, const double *now, const double *before) {
    for (int b = 0; b < B; b++) {
        double got = now[b] - (before == NULL ? 0 : before[b]);
        check_number(r->name, "a log-determinant", got, r->log_det[b], fabs(r->log_det[b]));
    }
}

/* Outputs: for each number of layers what they give and its log-determinant. */
static void test_layers(void **state) {
    wr out[2 * N_LAYERS + 1];
    wr_str text = {0};
    wr_graph *g = wr_graph_new();
    wr_flowseq f = tiny("");
    latent l = latent_of(&f, g);
    (void)state;
    for (int k = 0; k < N_LAYERS; k++) {
        wr_str_add(&text, "%s\n", LAYERS[k]);
        f.prior = parse(wr_str_text(&text));
        wr_flowseq_density d = wr_flowseq_density_of(&f, &l.source, l.z, l.len, NULL);
        out[2 * k] = d.eps;
        out[2 * k + 1] = d.log_det;
    }
    out[2 * N_LAYERS] = l.z;
    wr_str_free(&text);
    wr_session *s = run(g, 2 * N_LAYERS + 1, out, NULL);
    check_tensor(&Z, wr_session_output(s, 2 * N_LAYERS));
    for (int i = 0; i < N_ROWS; i++) {
        int k = ROWS[i].layers - 1;
        check_tensor(&ROWS[i], wr_session_output(s, 2 * k));
        check_log_det(&ROWS[i], wr_session_output(s, 2 * k + 1)->data,
                      k == 0 ? NULL : wr_session_output(s, 2 * k - 1)->data);
    }
    check_tensor(&BLOCK_0, wr_session_output(s, 2 * N_LAYERS - 2));
    check_log_det(&BLOCK_0, wr_session_output(s, 2 * N_LAYERS - 1)->data, NULL);
    wr_session_free(s);
}

/* ---- the whole prior, both ways ---- */

static void test_whole_prior(void **state) {
    wr_graph *g = wr_graph_new();
    wr_flowseq f = tiny(STACK);
    latent l = latent_of(&f, g);
    wr_flowseq_density d = wr_flowseq_density_of(&f, &l.source, l.z, l.len, NULL);
    wr back_log_det, back = wr_flowseq_generate(&f, &l.source, d.eps, l.len, &back_log_det);
    (void)state;
    wr_session *s = run(g, 5, (wr[]){d.eps, d.log_det, back, back_log_det, l.z}, NULL);
    check_tensor(&EPSILON, wr_session_output(s, 0));
    check_log_det(&EPSILON, wr_session_output(s, 1)->data, NULL);
    const double *x = wr_session_output(s, 2)->data, *z = wr_session_output(s, 4)->data;
    double error = 0;
    for (int i = 0; i < ELEMENTS; i++)
        error = fmax(error, fabs(x[i] - z[i]));
    print_message("inverse error %.1e\n", error);
    assert_true(error < 1e-12);
    for (int b = 0; b < B; b++)
        check_number("inverse", "a log-determinant",
                     ((const double *)wr_session_output(s, 3)->data)[b], -EPSILON.log_det[b],
                     fabs(EPSILON.log_det[b]));
    wr_session_free(s);
}

/* ---- the start from data ---- */

static const row STARTED_Z = {"z after init",
                              0,
                              -1.4910649,
                              215.6050299,
                              {1.2287081, 0.8579941, 0.6108595, 0.6944991, 0.7576845, 1.2716771},
                              {0, 0}};
static const row STARTED_EPS = {"eps after init",
                                0,
                                -0.4956219,
                                216.3969888,
                                {1.1302465, 0.9411624, 1.0807829, 1.0663267, 0.7099734, 0.7149054},
                                {23.6038644, 11.8019322}};
static const row LOG_SCALE = {"b0.pos.log_scale",
                              0,
                              7.0157386,
                              7.0157386,
                              {0.3187307, 0.3229406, 0.2051375, 0.3969799, 0.2347846, 0.1227664},
                              {0, 0}};
static const row BIAS = {"b0.pos.bias",
                         0,
                         0.1408441,
                         4.6263013,
                         {0.2120058, 0.0263808, -0.1525488, 0.5605637, -0.2207451, -0.1652074},
                         {0, 0}};
static const row LAST_LOG_SCALE = {
    "b2.u2.log_scale",
    0,
    1.7654979,
    2.2367668,
    {0.1909868, 0.0671849, 0.1040271, 0.2664746, 0.1318216, 0.1943499},
    {0, 0}};

static void check_stored(const row *r, wr_session *s, const char *name) {
    wr_error err = {0};
    double value[D];
    int i = wr_session_find(s, name);
    assert_true(i >= 0);
    wr_tensor x = wr_session_stored_at(s, i)->tensor;
    assert_int_equal(x.n, D);
    assert_int_equal(wr_session_read(s, i, value, &err), WR_OK);
    x.data = value;
    check_tensor(r, &x);
}

/* Couplings begin as a product with sigmoid(2). */
static void check_zero(wr_session *s, const char *name) {
    wr_error err = {0};
    double value[2 * D];
    int i = wr_session_find(s, name);
    assert_true(i >= 0 && wr_session_stored_at(s, i)->tensor.n <= 2 * D);
    assert_int_equal(wr_session_read(s, i, value, &err), WR_OK);
    for (int64_t k = 0; k < wr_session_stored_at(s, i)->tensor.n; k++)
        assert_true(value[k] == 0.0);
}

static wr_session *start(void) {
    wr_graph *g = wr_graph_new();
    wr_flowseq f = tiny(STACK);
    wr_flowseq_pairs in = wr_flowseq_inputs(&f, g);
    wr noise =
        wr_input(g, "noise", f.dtype, WR_DIMS(wr_dim_of(in.tgt, 0), wr_dim_of(in.tgt, 1), wr_n(D)));
    wr done = wr_flowseq_start_data(&f, &in, noise,
                                    WR_FLOWSEQ_START_MEAN | WR_FLOWSEQ_START_LOG_VARIANCE |
                                        WR_FLOWSEQ_START_PRIOR);
    return run(g, 1, &done, NULL);
}

static void test_start_from_data(void **state) {
    (void)state;
    wr_session *s = start();
    check_stored(&LOG_SCALE, s, "prior.position0.actnorm0.log_scale");
    check_stored(&BIAS, s, "prior.position0.actnorm0.bias");
    check_stored(&LAST_LOG_SCALE, s, "prior.last_step0.last_unit1.actnorm0.log_scale");
    check_zero(s, "prior.step0.unit1.coupling5.out.g");
    check_zero(s, "prior.coupling1.out.b");

    wr_graph *g = wr_graph_new();
    wr_flowseq f = tiny(STACK);
    latent l = latent_of(&f, g);
    wr_flowseq_density d = wr_flowseq_density_of(&f, &l.source, l.z, l.len, NULL);
    s = run(g, 3, (wr[]){d.eps, d.log_det, l.z}, s);
    check_tensor(&STARTED_Z, wr_session_output(s, 2));
    check_tensor(&STARTED_EPS, wr_session_output(s, 0));
    check_log_det(&STARTED_EPS, wr_session_output(s, 1)->data, NULL);
    wr_session_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layers),
                                       cmocka_unit_test(test_whole_prior),
                                       cmocka_unit_test(test_start_from_data)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
