/* test_objectives.c: objectives against the numbers of the specification (keys E1 to E29 of
 * nar_vectors.json), in batches, and their options. tests/test_alignments.c searches. */
#include "helpers/alloc.h"
#include "models/objectives/glat.h"
#include "models/objectives/objective.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (int)(sizeof(array) / sizeof((array)[0]))
enum { MOST = 64 }; /* cells of a fixture */

static const double F1[] = {0.2, 1.5,  0.3, -0.4, 0.1, 0.0,  0.4, 0.2, 1.2, -0.3,
                            0.5, -0.2, 1.1, 0.6,  0.0, -0.1, 0.3, 0.0, 0.2, 0.9};
static const double F2[] = {2.2, -0.3, 0.5, -1.3, -3.8, 1.0, 1.3, -1.1,
                            3.4, -2.2, 0.1, -0.3, 2.3,  2.2, 0.2, 0.6};
static const double F3[] = {-1.3, -3.0, -0.5, 0.2, 1.8, 1.8, -0.6, -0.5, -1.6, -2.1, -2.6, 2.9};
static const double F5B[] = {0.0, 2.0, 1.8, 0.1, 0.0, 1.9, -0.5, 0.2, 0.3, 0.2, 0.1, 1.0};
static const double E1_GRADIENT[] = {0.138349, -0.492358, 0.152899,  0.075927,  0.125183,
                                     0.128631, 0.191895,  -0.842889, 0.427071,  0.095292,
                                     0.198791, 0.098717,  0.362221,  -0.780302, 0.120573,
                                     0.130461, 0.194625,  0.144182,  0.176104,  -0.645371};
static const double E1_SMOOTHED[] = {0.029587, -0.103089, 0.033225,  0.013982,  0.026296,
                                     0.027158, 0.042974,  -0.190722, 0.101768,  0.018823,
                                     0.044698, 0.019679,  0.085555,  -0.175075, 0.025143,
                                     0.027615, 0.043656,  0.031045,  0.039026,  -0.141343};
static const double E4_TABLE[] = {
    0.0,      0.258484, 5.966963,  6.030223,  6.823206, 5.516969, 2.758484,  1.166963,  1.230223,
    2.023206, 9.433937, 6.675453,  2.383919,  2.44718,  3.240162, 16.950906, 13.192422, 8.400876,
    6.14718,  4.940162, 20.867875, 17.109391, 9.617832, 9.681093, 9.040162};
static const double E4_WEIGHTS[] = {1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0,
                                    0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0};
static const double E4_GRADIENT[] = {-0.227779, 0.063388, 0.141072,  0.023319, 0.009953, 0.209412,
                                     -0.367465, 0.1481,   0.938699,  0.003471, 0.034622, -0.976792,
                                     0.452493,  0.409433, -0.944589, 0.082663};
static const double E5_GRADIENT[] = {0.138349, -0.492358, 0.152899,  0.075927,  0.125183,
                                     0.128631, 0.191895,  0.157111,  -0.572929, 0.095292,
                                     0.198791, 0.098717,  -0.637779, 0.219698,  0.120573,
                                     0.130461, 0.194625,  0.144182,  0.176104,  -0.645371};
static const double E6_FORWARD[] = {-1.977979, -2.577979, -INFINITY, -INFINITY, -INFINITY,
                                    -4.028784, -2.391296, -4.628784, -INFINITY, -INFINITY,
                                    -5.644285, -3.729096, -3.905391, -6.144285, -INFINITY,
                                    -7.680967, -5.328355, -5.156898, -5.540802, -8.180967};
static const double E6_GRADIENT[] = {-0.353746, 0.507642, 0.152899, -0.431978, 0.125183,
                                     -0.109207, 0.191895, 0.157111, -0.335091, 0.095292,
                                     -0.644714, 0.098717, 0.362221, 0.063203,  0.120573,
                                     0.063863,  0.194625, 0.144182, -0.757299, 0.354629};
static const double E29_GRADIENT[] = {0.138349,  -0.492358, 0.152899,  0.075927,  0.125183,
                                      0.128631,  0.191895,  -0.142889, -0.272929, 0.095292,
                                      -1.602418, 0.197434,  0.724442,  0.439396,  0.241146,
                                      0.0,       0.0,       0.0,       0.0,       0.0};

static void near(double got, double wanted) {
    if (!(fabs(got - wanted) <= 1e-6 || got == wanted))
        fail_msg("%.9f instead of %.9f", got, wanted);
}

static void near_all(const double *got, const double *wanted, int n) {
    for (int i = 0; i < n; i++)
        if (!(fabs(got[i] - wanted[i]) <= 1e-6 || got[i] == wanted[i]))
            fail_msg("%d: %.9f instead of %.9f", i, got[i], wanted[i]);
}

static wr_objective_config config_of(const char *text) {
    wr_objective_config c;
    wr_error err = {0};
    if (wr_objective_parse(text, &c, &err) != WR_OK) fail_msg("%s: %s", text, err.text);
    return c;
}

/* ---- one sentence ---- */

/* A fixture under an objective. */
typedef struct result {
    wr_objective_dense d;
    double gradient[MOST], w[MOST], log_p[MOST];
    int32_t said[MOST];
} result;

static void run_config(result *r, const wr_objective_config *c, const double *logits, int t, int v,
                       const int32_t *target, int n, const double *weight) {
    wr_error err = {0};
    r->d = (wr_objective_dense){.positions = t,
                                .words = v,
                                .targets = n,
                                .logits = logits,
                                .target = target,
                                .weight = weight,
                                .gradient = r->gradient,
                                .w = r->w,
                                .log_p = r->log_p,
                                .said = r->said};
    if (wr_objective_dense_run(c, &r->d, &err) != WR_OK) fail_msg("%s", err.text);
}

static void run(result *r, const char *objective, const double *logits, int t, int v,
                const int32_t *target, int n) {
    wr_objective_config c = config_of(objective);
    run_config(r, &c, logits, t, v, target, n, NULL);
}

static void said_is(const result *r, const int *from_one) {
    for (int t = 0; t < r->d.positions; t++)
        assert_int_equal(r->said[t] + 1, from_one[t]);
}

static const int32_t Y4[] = {1, 2, 3, 4}, Y3[] = {1, 3, 4}, Y5[] = {1, 2, 3, 2, 4};

static void test_cross_entropy(void **state) {
    (void)state;
    result r;
    run(&r, "ce", F1, 4, 5, Y4, 4);
    static const double nll[] = {.677979, 1.850806, 1.515501, 1.036682};
    for (int t = 0; t < 4; t++)
        near(-r.log_p[t * 5 + Y4[t]], nll[t]);
    near(r.d.loss, 5.080967);
    near(r.d.loss * r.d.scale, 1.270242);
    near_all(r.gradient, E1_GRADIENT, COUNT(E1_GRADIENT));
    run(&r, "ce label_smoothing=0.1", F1, 4, 5, Y4, 4);
    near(r.d.loss * r.d.scale, 1.317742);
    for (int i = 0; i < COUNT(E1_SMOOTHED); i++)
        near(r.gradient[i] * r.d.scale, E1_SMOOTHED[i]);
    run(&r, "ce label_smoothing=0.1 smooth_over=others", F1, 4, 5, Y4, 4);
    near(r.d.loss * r.d.scale, 1.329617);
}

static void test_masked(void **state) {
    (void)state;
    static const double masked[] = {0, 1, 0, 1}, not_glanced[] = {1, 0, 1, 1};
    result r;
    wr_objective_config c = config_of("cmlm");
    run_config(&r, &c, F1, 4, 5, Y4, 4, masked);
    near(r.d.loss * r.d.scale, 1.443744);
    assert_true(r.d.tokens == 2 && r.gradient[0] == 0 && r.said[0] == -1 && r.said[1] == 1);
    c = config_of("cmlm label_smoothing=0.1");
    run_config(&r, &c, F1, 4, 5, Y4, 4, masked);
    near(r.d.loss * r.d.scale, 1.470744);
    c = config_of("glat");
    run_config(&r, &c, F1, 4, 5, Y4, 4, not_glanced);
    near(r.d.loss * r.d.scale, 1.076720);
}

static void test_glancing(void **state) {
    (void)state;
    static const int32_t guess[] = {1, 3, 2, 4}, a[] = {2, 3, 4, 4};
    static const double p[] = {.409693, .126796, .177307, .286204};
    static const double rest[] = {.178331, .305293, .282624, .233752};
    int32_t row[8];
    assert_int_equal(wr_hamming_distance(guess, Y4, 4), 2);
    assert_int_equal(wr_levenshtein_distance(guess, 4, Y4, 4, row), 2);
    assert_int_equal(wr_hamming_distance(a, Y4, 4), 3);
    assert_int_equal(wr_levenshtein_distance(a, 4, Y4, 4, row), 2);
    assert_int_equal(wr_levenshtein_distance(a, 0, Y4, 4, row), 4);
    assert_int_equal(wr_levenshtein_distance(a, 3, Y4, 0, row), 3);
    assert_int_equal(wr_glance_count(.5, 2), 1);
    near(wr_glance_ratio(.5, .3, 300e3, 0), .5);
    near(wr_glance_ratio(.5, .3, 300e3, 75e3), .45);
    near(wr_glance_ratio(.5, .3, 300e3, 150e3), .4);
    near(wr_glance_ratio(.5, .3, 300e3, 400e3), .3);
    result r;
    run(&r, "ce", F1, 4, 5, Y4, 4);
    double sum = 0, sum_rest = 0;
    for (int t = 0; t < 4; t++) {
        sum += exp(wr_glance_log_weight(WR_GLANCE_P_REF, r.log_p[t * 5 + Y4[t]]));
        sum_rest += exp(wr_glance_log_weight(WR_GLANCE_NOT_P_REF, r.log_p[t * 5 + Y4[t]]));
    }
    for (int t = 0; t < 4; t++) {
        double lp = r.log_p[t * 5 + Y4[t]];
        near(exp(wr_glance_log_weight(WR_GLANCE_P_REF, lp)) / sum, p[t]);
        near(exp(wr_glance_log_weight(WR_GLANCE_NOT_P_REF, lp)) / sum_rest, rest[t]);
    }
}

/* The first of two positions drawn one at a time without replacement has its weight as
 * probability; all four are drawn when four are asked for. */
static void test_glance_draw(void **state) {
    (void)state;
    static const double lp[] = {-.2, -1.2, -2.5, 0};
    double u[4], key[4], hits[4] = {0};
    uint8_t chosen[4];
    uint64_t seed = 5;
    enum { DRAWS = 40000 };
    for (int k = 0; k < DRAWS; k++) {
        for (int i = 0; i < 4; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            u[i] = ((double)(seed >> 12) + .5) / 4503599627370496.0;
        }
        wr_glance_choose(WR_GLANCE_NOT_P_REF, 4, 1, lp, u, key, chosen);
        for (int i = 0; i < 4; i++)
            hits[i] += chosen[i];
    }
    double sum = 0;
    for (int i = 0; i < 4; i++)
        sum += 1 - exp(lp[i]);
    for (int i = 0; i < 4; i++)
        assert_true(fabs(hits[i] / DRAWS - (1 - exp(lp[i])) / sum) < .012);
    assert_true(hits[3] == 0); /* its weight is 0 */
    wr_glance_choose(WR_GLANCE_UNIFORM, 4, 9, NULL, u, key, chosen);
    assert_true(chosen[0] && chosen[1] && chosen[2] && chosen[3]);
    wr_glance_choose(WR_GLANCE_UNIFORM, 4, 0, NULL, u, key, chosen);
    assert_true(!chosen[0] && !chosen[1] && !chosen[2] && !chosen[3]);
}

/* ---- AXE ---- */

/* AXE with its path, from logits. */
static double axe(const double *logits, int t, int v, const int32_t *y, int n, wr_axe_form form,
                  double penalty, char *operations, int32_t *position, double *table) {
    result r;
    run(&r, "axe", logits, t, v, y, n);
    double lp[MOST], w[MOST] = {0}, workspace[2 * MOST + MOST];
    for (int i = 0; i < t; i++) {
        for (int k = 0; k < n; k++)
            lp[i * (n + 1) + k] = r.log_p[i * v + y[k]];
        lp[i * (n + 1) + n] = r.log_p[i * v];
    }
    wr_gathered s = {t, n, lp, (size_t)n + 1, n};
    wr_axe_path path = {.operations = operations, .position = position};
    assert_true(wr_axe_workspace(t, n) <= sizeof workspace);
    double loss = wr_axe(&s, form, penalty, w, &path, workspace);
    if (table != NULL) memcpy(table, workspace, (size_t)((t + 1) * (n + 1)) * sizeof *table);
    return loss;
}

static void test_axe(void **state) {
    (void)state;
    static const int32_t y2[] = {1, 2, 3, 2}, y_3[] = {1, 2, 3, 1};
    static const struct {
        const double *logits;
        const int32_t *y;
        double penalty, original, mple;
        const char *operations;
        int t, v, n;
        int position[5]; /* of MPLE's form; 0: the specification does not say */
    } cases[] = {
        {F1, Y3, .5, 4.180967, 4.180967, "AAPA", 4, 5, 3, {1, 2, 4}},
        {F1, Y3, 1, 4.180967, 4.180967, "AAPA", 4, 5, 3, {1, 2, 4}},
        {F1, Y3, 2, 4.180967, 4.180967, "AAPA", 4, 5, 3, {1, 2, 4}},
        {F1, Y3, 5, 4.180967, 4.180967, "AAPA", 4, 5, 3, {1, 2, 4}},
        {F1, Y4, .5, 5.080967, 5.080967, "AAAA", 4, 5, 4, {1, 2, 3, 4}},
        {F1, Y4, 1, 5.080967, 5.080967, "AAAA", 4, 5, 4, {1, 2, 3, 4}},
        {F1, Y4, 2, 5.080967, 5.080967, "AAAA", 4, 5, 4, {1, 2, 3, 4}},
        {F1, Y4, 5, 5.080967, 5.080967, "AAAA", 4, 5, 4, {1, 2, 3, 4}},
        {F1, Y5, .5, 4.519956, 4.519956, "ATAAA", 4, 5, 5, {1, 1, 2, 3, 4}},
        {F1, Y5, 1, 5.431773, 5.431773, "AATAA", 4, 5, 5, {1, 2, 2, 3, 4}},
        {F1, Y5, 2, 6.136924, 6.282579, "TAAAA", 4, 5, 5, {1, 2, 2, 3, 4}},
        {F1, Y5, 5, 8.170860, 8.834996, "TAAAA", 4, 5, 5, {1, 2, 2, 3, 4}},
        {F2, y2, 2, 9.040162, 9.040162, "PATAA", 4, 4, 4, {0}},
        {F2, y2, 1, 6.248641, NAN, "PATTTPP", 4, 4, 4, {0}},
        {F2, y2, 5, 10.023206, NAN, "AAAA", 4, 4, 4, {0}},
        {F3, y_3, .5, 6.465270, 6.974651, "TAPAT", 3, 4, 4, {2, 2, 3, 3}},
    };
    for (int k = 0; k < COUNT(cases); k++) {
        char operations[16];
        int32_t position[5];
        near(axe(cases[k].logits, cases[k].t, cases[k].v, cases[k].y, cases[k].n, WR_AXE_ORIGINAL,
                 cases[k].penalty, operations, position, NULL),
             cases[k].original);
        assert_string_equal(operations, cases[k].operations);
        double mple = axe(cases[k].logits, cases[k].t, cases[k].v, cases[k].y, cases[k].n,
                          WR_AXE_MPLE, cases[k].penalty, operations, position, NULL);
        if (!isnan(cases[k].mple)) near(mple, cases[k].mple);
        for (int i = 0; i < cases[k].n && cases[k].position[0] > 0; i++)
            assert_int_equal(position[i] + 1, cases[k].position[i]);
    }
    double table[MOST];
    result r;
    axe(F2, 4, 4, y2, 4, WR_AXE_ORIGINAL, 2, NULL, NULL, table);
    near_all(table, E4_TABLE, COUNT(E4_TABLE));
    run(&r, "axe skip_penalty=2", F2, 4, 4, y2, 4);
    near(r.d.loss, 9.040162);
    near_all(r.w, E4_WEIGHTS, COUNT(E4_WEIGHTS));
    near_all(r.gradient, E4_GRADIENT, COUNT(E4_GRADIENT));
    said_is(&r, (const int[]){0, 1, 3, 4});
}

/* ---- OaXE ---- */

static void kept_is(const result *r, const int *kept, double sum) {
    near(r->d.loss, sum);
    for (int t = 0; t < r->d.positions; t++)
        assert_int_equal(r->said[t] >= 0, kept[t]);
}

static void test_oaxe(void **state) {
    (void)state;
    static const int32_t y[] = {1, 2, 3};
    result r;
    run(&r, "oaxe", F1, 4, 5, Y4, 4);
    near(r.d.loss, 3.580967);
    near(r.d.loss * r.d.scale, .895242);
    said_is(&r, (const int[]){1, 3, 2, 4});
    near_all(r.gradient, E5_GRADIENT, COUNT(E5_GRADIENT));
    run(&r, "oaxe trunc_prob=0.15", F1, 4, 5, Y4, 4);
    kept_is(&r, (const int[]){1, 1, 1, 1}, 3.580967);
    run(&r, "oaxe trunc_prob=0.3", F1, 4, 5, Y4, 4);
    kept_is(&r, (const int[]){1, 1, 1, 1}, 3.580967);
    run(&r, "oaxe trunc_prob=0.4", F1, 4, 5, Y4, 4);
    kept_is(&r, (const int[]){1, 1, 0, 0}, 1.528784);
    near(r.d.loss * r.d.scale, .382196);
    run(&r, "oaxe trunc_prob=0.4 trunc_log2=true", F1, 4, 5, Y4, 4);
    kept_is(&r, (const int[]){1, 1, 1, 1}, 3.580967);
    run(&r, "oaxe mix=0.25", F1, 4, 5, Y4, 4);
    near(r.d.loss, 3.955967);
    run(&r, "oaxe", F5B, 3, 4, y, 3);
    near(r.d.loss, 2.151885);
    said_is(&r, (const int[]){2, 1, 3});
    run(&r, "oaxe trunc_prob=0.5", F5B, 3, 4, y, 3);
    kept_is(&r, (const int[]){0, 1, 0}, .352746);
    near(r.d.loss * r.d.scale, .117582);
    run(&r, "ce", F5B, 3, 4, y, 3);
    near(r.d.loss, 4.351885);
}

/* Cross-entropy alone, then less and less of it. */
static void test_oaxe_schedule(void **state) {
    (void)state;
    static const struct {
        const char *objective;
        double update, share;
    } cases[] = {
        {"oaxe anneal=100", 0, 1},
        {"oaxe anneal=100", 75, .25},
        {"oaxe anneal=100", 100, 0},
        {"oaxe anneal=100", 1e6, 0},
        {"oaxe pretrain=50", 49, 1},
        {"oaxe pretrain=50", 50, 0},
        {"oaxe pretrain=50 anneal=100", 49, 1},
        {"oaxe pretrain=50 anneal=100", 75, .75},
        {"oaxe pretrain=50 mix=0.1", 60, .1},
    };
    for (int k = 0; k < COUNT(cases); k++) {
        wr_objective_config c = config_of(cases[k].objective);
        result r;
        wr_error err = {0};
        run_config(&r, &c, F1, 4, 5, Y4, 4, NULL);
        r.d.update = cases[k].update;
        assert_int_equal(wr_objective_dense_run(&c, &r.d, &err), WR_OK);
        near(r.d.loss, cases[k].share * 5.080967 + (1 - cases[k].share) * 3.580967);
    }
}

/* ---- CTC ---- */

static void test_ctc(void **state) {
    (void)state;
    static const struct {
        int n;
        int32_t y[4];
        double nll, best;
    } cases[] = {{2, {1, 2}, 3.316686, 5.280967},
                 {3, {1, 3, 4}, 2.820087, 4.080967},
                 {2, {3, 3}, 5.471883, 6.180967},
                 {1, {2}, 4.764251, 6.680967},
                 {4, {1, 2, 3, 4}, 5.080967, 5.080967}};
    static const int32_t thrice[] = {3, 3, 3}, y1222[] = {1, 2, 2, 2}, y13[] = {1, 3};
    result r;
    for (int k = 0; k < COUNT(cases); k++) {
        run(&r, "ctc", F1, 4, 5, cases[k].y, cases[k].n);
        near(r.d.loss, cases[k].nll);
        double best = 0;
        for (int t = 0; t < 4; t++)
            best -= r.log_p[t * 5 + (r.said[t] < 0 ? 0 : cases[k].y[r.said[t]])];
        near(best, cases[k].best);
    }
    run(&r, "ctc", F1, 4, 5, thrice, 2);
    near_all(r.gradient, E6_GRADIENT, COUNT(E6_GRADIENT));
    run(&r, "ctc", F1, 4, 5, y13, 2);
    said_is(&r, (const int[]){1, 2, 2, 2});
    run(&r, "ctc", F1, 4, 5, thrice, 3);
    assert_false(r.d.feasible);
    assert_true(r.d.loss == 0 && r.d.tokens == 0 && r.d.scale == 0);
    for (int i = 0; i < 20; i++)
        assert_true(r.gradient[i] == 0);
    assert_int_equal(wr_ctc_least_positions(thrice, 2), 3);
    assert_int_equal(wr_ctc_least_positions(thrice, 3), 5);
    assert_int_equal(wr_ctc_least_positions(y1222, 4), 6);
}

static void test_ctc_forward(void **state) {
    (void)state;
    static const int32_t y[] = {3, 3};
    result r;
    run(&r, "ctc", F1, 4, 5, y, 2);
    double lp[12], w[12] = {0}, workspace[MOST];
    for (int t = 0; t < 4; t++) {
        lp[t * 3] = lp[t * 3 + 1] = r.log_p[t * 5 + 3];
        lp[t * 3 + 2] = r.log_p[t * 5];
    }
    wr_gathered s = {4, 2, lp, 3, 2};
    assert_true(wr_ctc_workspace(4, 2) <= sizeof workspace);
    near(wr_ctc(&s, y, w, workspace), 5.471883);
    near_all(workspace, E6_FORWARD, COUNT(E6_FORWARD));
}

/* ---- normalisation, and an objective of one's own ---- */

static void test_norms(void **state) {
    (void)state;
    static const struct {
        const char *objective;
        double wanted;
    } cases[] = {{"ce norm=token", 1.246465},
                 {"ce norm=sent_token", 1.242502},
                 {"ce norm=sent", 4.362626},
                 {"ce norm=frames", 1.246465}};
    static const int32_t ids[] = {1, 2, 3, 4, 1, 3, 4, 0}, len[] = {4, 3};
    result r;
    run(&r, "ce", F1, 4, 5, Y4, 4);
    double lp[32], w[32], loss[2], tokens[2], scale[2];
    int32_t feasible[2];
    for (int b = 0; b < 2; b++)
        for (int t = 0; t < 4; t++)
            for (int n = 0; n < 4; n++)
                lp[b * 16 + t * 4 + n] = r.log_p[t * 5 + ids[b * 4 + n]];
    for (int k = 0; k < COUNT(cases); k++) {
        wr_objective_config c = config_of(cases[k].objective);
        wr_error err = {0};
        wr_objective_batch b = {.real = WR_OBJECTIVE_F64,
                                .sentences = 2,
                                .positions = 4,
                                .targets = 4,
                                .lp = lp,
                                .ids = ids,
                                .position_len = len,
                                .target_len = len,
                                .w = w,
                                .loss = loss,
                                .tokens = tokens,
                                .feasible = feasible};
        assert_int_equal(wr_objective_run(&c, &b, 2, &err), WR_OK);
        wr_objective_scale(&c, &b, scale);
        near(loss[0] * scale[0] + loss[1] * scale[1], cases[k].wanted);
    }
}

/* Weights that are given: an objective that the library does not have. */
static double weigh_as_given(const wr_objective_config *c, wr_objective_sentence *s) {
    static const double w[] = {1, 0, 0, 0, 0, .7, .3, 0, 0, 0, 0, 2, 0, 0, 0, 0};
    double loss = 0;
    for (int i = 0; i < 16; i++) {
        s->w[i] = w[i] * c->value[0];
        loss -= s->w[i] * s->costs.lp[i];
    }
    s->tokens = 4;
    return loss;
}

static void test_own_objective(void **state) {
    (void)state;
    static const int32_t y[] = {1, 3, 2};
    static const wr_objective own = {
        .name = "given",
        .extra = true,
        .options = {{"strength", WR_OBJECTIVE_REAL, 1, 0, 9, NULL, "times the weights"}},
        .weigh = weigh_as_given,
    };
    wr_objective_config c = wr_objective_init(&own);
    wr_error err = {0};
    result r;
    run_config(&r, &c, F1, 4, 5, y, 3, NULL);
    near(r.d.loss, 5.059786);
    near_all(r.gradient, E29_GRADIENT, COUNT(E29_GRADIENT));
    assert_int_equal(wr_objective_set(&c, "strength", "2", &err), WR_OK);
    run_config(&r, &c, F1, 4, 5, y, 3, NULL);
    near(r.d.loss / 2, 5.059786);
    assert_true(wr_objective_value(&c, "strength") == 2);
}

/* ---- batches ---- */

enum { B = 23, T = 9, N = 7, C = N + 1 };

typedef struct random_batch {
    wr_objective_batch b;
    double lp[B * T * C], w[B * T * C], weight[B * T], loss[B], tokens[B], scale[B];
    float lp32[B * T * C], w32[B * T * C], weight32[B * T], loss32[B], tokens32[B];
    int32_t ids[B * C], positions[B], targets[B], feasible[B], said[B * T];
    int columns;
} random_batch;

static uint64_t next(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

/* Sentences of all lengths, some empty, some too long for CTC; padding is NaN, which nobody may
 * read. */
static void fill_batch(random_batch *x, const wr_objective_config *c, uint64_t seed) {
    x->columns = c->row->extra ? C : N;
    for (int i = 0; i < B; i++) {
        x->targets[i] = (int32_t)(next(&seed) % (N + 1));
        x->positions[i] = c->row->aligned ? x->targets[i] : (int32_t)(next(&seed) % (T + 1));
        for (int n = 0; n < x->columns; n++)
            x->ids[i * x->columns + n] = n == N ? 0 : 1 + (int32_t)(next(&seed) % 3);
        for (int t = 0; t < T; t++) {
            x->weight[i * T + t] = (double)(next(&seed) % 3) / 2;
            x->weight32[i * T + t] = (float)x->weight[i * T + t];
            for (int n = 0; n < x->columns; n++) {
                bool pad = t >= x->positions[i] || (n >= x->targets[i] && n < N);
                double lp = -(double)(next(&seed) % 100000) / 20000;
                x->lp32[(i * T + t) * x->columns + n] = pad ? NAN : (float)lp;
                x->lp[(i * T + t) * x->columns + n] = pad ? NAN : (double)(float)lp;
            }
        }
    }
    x->b = (wr_objective_batch){.real = WR_OBJECTIVE_F64,
                                .sentences = B,
                                .positions = T,
                                .targets = N,
                                .lp = x->lp,
                                .ids = x->ids,
                                .position_len = x->positions,
                                .target_len = x->targets,
                                .weight = c->row->masked ? x->weight : NULL,
                                .w = x->w,
                                .loss = x->loss,
                                .tokens = x->tokens,
                                .feasible = x->feasible,
                                .said = x->said};
}

/* Sentence i alone, without padding. */
static double run_alone(const random_batch *x, const wr_objective_config *c, int i) {
    int t = x->positions[i], n = x->targets[i], columns = n + c->row->extra;
    double lp[T * C], w[T * C], weight[T], loss, tokens;
    int32_t ids[C], feasible, said[T];
    for (int k = 0; k < columns; k++)
        ids[k] = x->ids[i * x->columns + (k < n ? k : N)];
    for (int p = 0; p < t; p++) {
        weight[p] = x->weight[i * T + p];
        for (int k = 0; k < columns; k++)
            lp[p * columns + k] = x->lp[(i * T + p) * x->columns + (k < n ? k : N)];
    }
    wr_objective_batch b = {.real = WR_OBJECTIVE_F64,
                            .sentences = 1,
                            .positions = t,
                            .targets = n,
                            .lp = lp,
                            .ids = ids,
                            .position_len = &t,
                            .target_len = &n,
                            .weight = c->row->masked ? weight : NULL,
                            .w = w,
                            .loss = &loss,
                            .tokens = &tokens,
                            .feasible = &feasible,
                            .said = said};
    wr_error err = {0};
    assert_int_equal(wr_objective_run(c, &b, 1, &err), WR_OK);
    assert_true(loss == x->loss[i] && tokens == x->tokens[i]);
    assert_int_equal(feasible, x->feasible[i]);
    for (int p = 0; p < T; p++) {
        assert_int_equal(x->said[i * T + p], p < t ? said[p] : -1);
        for (int k = 0; k < x->columns; k++) {
            bool pad = p >= t || (k >= n && k < N);
            int own = k < n ? k : n;
            assert_true(x->w[(i * T + p) * x->columns + k] == (pad ? 0 : w[p * columns + own]));
        }
    }
    return loss;
}

static void same_on_threads(random_batch *x, const wr_objective_config *c) {
    static double w[B * T * C], loss[B];
    wr_error err = {0};
    memcpy(w, x->w, sizeof w);
    memcpy(loss, x->loss, sizeof loss);
    for (int threads = 2; threads <= 7; threads += 5) {
        memset(x->w, 1, sizeof x->w);
        assert_int_equal(wr_objective_run(c, &x->b, threads, &err), WR_OK);
        assert_memory_equal(w, x->w, (size_t)(B * T * x->columns) * sizeof *w);
        assert_memory_equal(loss, x->loss, sizeof loss);
    }
}

static void same_in_float(random_batch *x, const wr_objective_config *c) {
    wr_error err = {0};
    wr_objective_batch b = x->b;
    b.real = WR_OBJECTIVE_F32;
    b.lp = x->lp32;
    b.w = x->w32;
    b.loss = x->loss32;
    b.tokens = x->tokens32;
    if (c->row->masked) b.weight = x->weight32;
    assert_int_equal(wr_objective_run(c, &b, 2, &err), WR_OK);
    for (int i = 0; i < B; i++)
        assert_true(x->loss32[i] == (float)x->loss[i] && x->tokens32[i] == (float)x->tokens[i]);
    for (int i = 0; i < B * T * x->columns; i++)
        assert_true(x->w32[i] == (float)x->w[i]);
}

static const char *const OBJECTIVES[] = {
    "ce",   "axe skip_penalty=2",  "axe form=mple skip_penalty=0.5",
    "oaxe", "oaxe trunc_prob=0.3", "oaxe mix=0.3",
    "ctc",  "ctc norm=frames",     "cmlm norm=sent_token",
    "glat",
};

static void test_batches(void **state) {
    (void)state;
    random_batch *x = malloc(sizeof *x);
    assert_non_null(x);
    for (int k = 0; k < COUNT(OBJECTIVES); k++) {
        wr_objective_config c = config_of(OBJECTIVES[k]);
        wr_error err = {0};
        wr_str text = {0};
        double sum = 0, singles = 0;
        int infeasible = 0;
        fill_batch(x, &c, 77 + (uint64_t)k);
        assert_int_equal(wr_objective_run(&c, &x->b, 1, &err), WR_OK);
        wr_objective_scale(&c, &x->b, x->scale);
        for (int i = 0; i < B; i++) {
            singles += run_alone(x, &c, i);
            sum += x->loss[i];
            infeasible += !x->feasible[i];
            assert_true(x->feasible[i] || (x->loss[i] == 0 && x->scale[i] == 0));
        }
        assert_true(sum == singles && sum > 0);
        assert_int_equal(wr_objective_infeasible(&c, &x->b, &text), infeasible);
        assert_true(infeasible > 0 && strstr(wr_str_text(&text), "of 23 sentences") != NULL);
        wr_str_free(&text);
        same_on_threads(x, &c);
        same_in_float(x, &c);
    }
    free(x);
}

static void test_infeasible_text(void **state) {
    (void)state;
    wr_objective_config c = config_of("ctc");
    double lp[] = {-1, -1, -1, -1, -1, -1, -1, -1, -1}, w[9], loss, tokens;
    int32_t ids[] = {3, 3, 0}, t = 2, n = 2, feasible;
    wr_objective_batch b = {.real = WR_OBJECTIVE_F64,
                            .sentences = 1,
                            .positions = 3,
                            .targets = 2,
                            .lp = lp,
                            .ids = ids,
                            .position_len = &t,
                            .target_len = &n,
                            .w = w,
                            .loss = &loss,
                            .tokens = &tokens,
                            .feasible = &feasible};
    wr_error err = {0};
    wr_str text = {0};
    assert_int_equal(wr_objective_run(&c, &b, 1, &err), WR_OK);
    assert_int_equal(wr_objective_infeasible(&c, &b, &text), 1);
    assert_string_equal(wr_str_text(&text),
                        "1 of 1 sentences have no alignment for ctc; the first is sentence 1: 2 "
                        "positions, but its 2 target words need 3");
    wr_str_clear(&text);
    t = 3;
    for (int i = 0; i < 9; i++)
        lp[i] = -INFINITY;
    assert_int_equal(wr_objective_run(&c, &b, 1, &err), WR_OK);
    assert_int_equal(wr_objective_infeasible(&c, &b, &text), 1);
    assert_non_null(strstr(wr_str_text(&text), "all alignments have probability 0"));
    wr_str_clear(&text);
    for (int i = 0; i < 9; i++)
        lp[i] = -1;
    assert_int_equal(wr_objective_run(&c, &b, 1, &err), WR_OK);
    assert_int_equal(wr_objective_infeasible(&c, &b, &text), 0);
    assert_int_equal(text.len, 0);
    wr_str_free(&text);
}

/* Impossible words are avoided where they can be; NaN is passed on. */
static void test_extreme_numbers(void **state) {
    (void)state;
    random_batch *x = malloc(sizeof *x);
    assert_non_null(x);
    for (int k = 0; k < COUNT(OBJECTIVES); k++) {
        wr_objective_config c = config_of(OBJECTIVES[k]);
        wr_error err = {0};
        uint64_t seed = 9;
        fill_batch(x, &c, 3);
        for (int i = 0; i < B * T * x->columns; i++)
            if (next(&seed) % 4 == 0 && !isnan(x->lp[i])) x->lp[i] = -INFINITY;
        assert_int_equal(wr_objective_run(&c, &x->b, 2, &err), WR_OK);
        for (int i = 0; i < B; i++)
            assert_true(isfinite(x->loss[i]));
        for (int i = 0; i < B * T * x->columns; i++)
            assert_true(isfinite(x->w[i]) && (x->w[i] == 0 || x->lp[i] > -INFINITY));
        fill_batch(x, &c, 3);
        x->positions[1] = x->targets[1] = 2;
        x->lp[T * x->columns] = x->lp[T * x->columns + 1] = NAN;
        x->lp[(T + 1) * x->columns] = x->lp[(T + 1) * x->columns + 1] = -1;
        if (c.row->extra) x->lp[T * x->columns + N] = x->lp[(T + 1) * x->columns + N] = -1;
        assert_int_equal(wr_objective_run(&c, &x->b, 2, &err), WR_OK);
        assert_true(isnan(x->loss[1]) && isnan(x->w[T * x->columns]) && x->feasible[1]);
        assert_false(isnan(x->loss[0]));
    }
    free(x);
}

/* ---- what is refused ---- */

static void refused(wr_status status, const wr_error *err, const char *text) {
    assert_int_equal(status, WR_ERR_INPUT);
    if (strstr(err->text, text) == NULL) fail_msg("'%s' says nothing of '%s'", err->text, text);
}

static void test_bad_batches(void **state) {
    (void)state;
    random_batch *x = malloc(sizeof *x);
    assert_non_null(x);
    wr_objective_config ce = config_of("ce"), ctc = config_of("ctc"), axe = config_of("axe");
    wr_error err = {0};
    fill_batch(x, &ce, 1);
    x->positions[2] = x->targets[2] + 1;
    refused(wr_objective_run(&ce, &x->b, 1, &err), &err, "ce: sentence 3 has");
    fill_batch(x, &ctc, 1);
    x->targets[4] = N + 1;
    refused(wr_objective_run(&ctc, &x->b, 1, &(wr_error){0}), &err, "");
    err = (wr_error){0};
    refused(wr_objective_run(&ctc, &x->b, 1, &err), &err, "room for 9 and 7");
    fill_batch(x, &ctc, 1);
    x->targets[5] = 3;
    x->ids[5 * C + 2] = 0;
    err = (wr_error){0};
    refused(wr_objective_run(&ctc, &x->b, 1, &err), &err,
            "word 3 of the target of sentence 6 is 0, which is the blank");
    fill_batch(x, &axe, 1);
    x->b.weight = x->weight;
    err = (wr_error){0};
    refused(wr_objective_run(&axe, &x->b, 1, &err), &err, "axe takes no weights");
    free(x);
}

static void test_bad_options(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "'' is no objective; there are ce, axe, oaxe, ctc, cmlm, glat"},
        {"axee", "did you mean axe"},
        {"axe skip_penalty=-1", "skip_penalty must be from 0 to 1000000, but is -1"},
        {"axe skip_penalty=nan", "skip_penalty needs a number, but is 'nan'"},
        {"axe skip_penalty=", "skip_penalty needs a number, but is ''"},
        {"axe skip_penalty=2x", "needs a number"},
        {"axe form=mine", "form must be one of original|mple, but is 'mine'"},
        {"axe form=mple,form=original", "form is given twice"},
        {"axe skip=1", "axe has no option 'skip'"},
        {"axe skip_penalti=1", "did you mean skip_penalty; there are skip_penalty, form, norm"},
        {"axe mple", "'mple' is not of the form name=value"},
        {"oaxe mix=0.5 anneal=10", "leave one out"},
        {"oaxe trunc_log2=true", "trunc_log2 needs trunc_prob"},
        {"oaxe trunc_prob=0.1 trunc_log2=yes", "must be one of false|true"},
        {"oaxe trunc_prob=1.5", "trunc_prob must be from 0 to 1"},
        {"ce label_smoothing=1", "label_smoothing must be from 0 to 0.999"},
        {"ce norm=words", "norm must be one of token|sent_token|sent|frames"},
    };
    for (int k = 0; k < COUNT(cases); k++) {
        wr_objective_config c;
        wr_error err = {0};
        refused(wr_objective_parse(cases[k].text, &c, &err), &err, cases[k].message);
    }
    wr_objective_config c = config_of(" oaxe,trunc_prob=0.2,\tnorm=sent trunc_log2=true ");
    assert_true(c.row == &wr_objective_oaxe && c.norm == WR_NORM_SENT);
    assert_true(wr_objective_value(&c, "trunc_prob") == .2 &&
                wr_objective_value(&c, "trunc_log2") == 1);
    for (size_t k = 0; wr_objective_at(k) != NULL; k++)
        assert_true(config_of(wr_objective_at(k)->name).row == wr_objective_at(k));
}

static void test_bad_sentences(void **state) {
    (void)state;
    wr_objective_config ctc = config_of("ctc"), ce = config_of("ce");
    static const int32_t far[] = {1, 5}, blank[] = {1, 0};
    double z[20], gradient[20];
    memcpy(z, F1, sizeof z);
    wr_objective_dense d = {
        .positions = 4, .words = 5, .targets = 2, .logits = z, .target = far, .gradient = gradient};
    wr_error err = {0};
    refused(wr_objective_dense_run(&ctc, &d, &err), &err,
            "word 2 of the target is 5, but there are words 0 to 4");
    d.target = blank;
    err = (wr_error){0};
    refused(wr_objective_dense_run(&ctc, &d, &err), &err, "which is the blank");
    d.blank = 5;
    err = (wr_error){0};
    refused(wr_objective_dense_run(&ctc, &d, &err), &err, "the blank is 5");
    d = (wr_objective_dense){
        .positions = 4, .words = 5, .targets = 3, .logits = z, .target = Y4, .gradient = gradient};
    err = (wr_error){0};
    refused(wr_objective_dense_run(&ce, &d, &err), &err, "4 positions for 3 target words");
    z[7] = NAN;
    err = (wr_error){0};
    refused(wr_objective_dense_run(&ce, &d, &err), &err, "position 2, word 2 is nan");
}

static wr_status use_memory(wr_error *err) {
    wr_objective_config c;
    wr_objective_dense d = {.positions = 4, .words = 5, .targets = 4, .logits = F1, .target = Y4};
    double gradient[20];
    d.gradient = gradient;
    wr_status status = wr_objective_parse("oaxe trunc_prob=0.1 mix=0.5", &c, err);
    return status == WR_OK ? wr_objective_dense_run(&c, &d, err) : status;
}

static void test_memory(void **state) {
    (void)state;
    long n = 1;
    for (;; n++) {
        wr_error err = {0};
        wr_test_watch_allocations();
        wr_test_fail_allocation(n);
        wr_status status = use_memory(&err);
        assert_int_equal(wr_test_unfreed_allocations(), 0);
        if (!wr_test_allocation_failed()) {
            assert_int_equal(status, WR_OK);
            break;
        }
        assert_int_equal(status, WR_ERR_MEMORY);
    }
    assert_true(n > 3);
    wr_test_fail_allocation(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cross_entropy),
        cmocka_unit_test(test_masked),
        cmocka_unit_test(test_glancing),
        cmocka_unit_test(test_glance_draw),
        cmocka_unit_test(test_axe),
        cmocka_unit_test(test_oaxe),
        cmocka_unit_test(test_oaxe_schedule),
        cmocka_unit_test(test_ctc),
        cmocka_unit_test(test_ctc_forward),
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_own_objective),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_infeasible_text),
        cmocka_unit_test(test_extreme_numbers),
        cmocka_unit_test(test_bad_batches),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_bad_sentences),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
