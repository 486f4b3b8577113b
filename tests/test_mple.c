/* test_mple.c: the numbers of MPLE against the values of the specification (nar_vectors.json, E21,
 * E22, E23, E26, E30) and against enumeration; the mask head against its optimality condition. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "helpers/alloc.h"
#include "models/mple.h"
#include "models/mple_head.h"

static void near(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.12g is not %.12g", got, want);
}

/* Numbers for the tests, the same everywhere. */
static uint32_t draw(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static double uniform(uint32_t *state) { return (draw(state) + 0.5) / 16777216.0; }

/* ---- total correlation ---- */

static void tables_of_the_specification(void **state) {
    (void)state;
    const int32_t value[] = {0, 0, 0, 1, 1, 0, 1, 1};
    const double weight[][4] = {{.5, 0, 0, .5}, {.4, .1, .1, .4}, {.25, .25, .25, .25}};
    const double bits[] = {1, 0.278072, 0};
    wr_entropies e;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(wr_total_correlation(value, weight[i], 4, 2, &e, NULL), WR_OK);
        near(e.correlation / log(2), bits[i], 1e-6);
    }
    assert_int_equal(wr_total_correlation(value, weight[1], 4, 2, &e, NULL), WR_OK);
    near(e.correlation, 0.192745, 1e-6);
}

/* Equal outcomes are one; a function of the others adds its own entropy; weights need no sum. */
static void merged_outcomes(void **state) {
    (void)state;
    const int32_t value[] = {1, 5, 6, 1, 5, 6, 2, 5, 7, 3, 9, 12};
    const double weight[] = {1, 2, 3, 6};
    wr_entropies e;
    assert_int_equal(wr_total_correlation(value, weight, 4, 3, &e, NULL), WR_OK);
    double h = -(2 * .25 * log(.25) + .5 * log(.5));
    near(e.joint, h, 1e-14);
    near(e.marginals, h + log(2) + h, 1e-14);
    near(e.correlation, h + log(2), 1e-14);
}

static void refused_tables(void **state) {
    (void)state;
    const int32_t value[] = {0, 1};
    const double negative[] = {1, -.5}, nothing[] = {0, 0}, one[] = {1, 1};
    wr_entropies e;
    wr_error err = {0};
    assert_int_equal(wr_total_correlation(value, negative, 2, 1, &e, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "outcome 2 has the weight -0.5"));
    err = (wr_error){0};
    assert_int_equal(wr_total_correlation(value, nothing, 2, 1, &e, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "sum to 0"));
    wr_test_fail_allocation(1);
    assert_int_equal(wr_total_correlation(value, one, 2, 1, &e, NULL), WR_ERR_MEMORY);
    assert_true(wr_test_allocation_failed());
}

/* ---- BLEU and dynamic distillation ---- */

enum { CANDIDATES = 5 };
static const int32_t gamma_[CANDIDATES][6] = {
    {1, 2, 3, 4, 5, 6}, {1, 2, 3, 5, 6}, {1, 2, 4, 3, 5, 6}, {1, 2, 3, 4, 6}, {2, 1, 3, 4, 5, 6}};
static const size_t gamma_n[CANDIDATES] = {6, 5, 6, 5, 6};

static void bleu_table(double *bleu) {
    for (int i = 0; i < CANDIDATES; i++)
        for (int j = 0; j < CANDIDATES; j++)
            bleu[i * CANDIDATES + j] =
                wr_sentence_bleu(gamma_[i], gamma_n[i], gamma_[j], gamma_n[j]);
}

static void bleu_of_the_specification(void **state) {
    (void)state;
    static const double want[CANDIDATES * CANDIDATES] = {
        100.0,     49.473859, 39.763536, 65.11126,  66.87403,  48.549177, 100.0,
        48.549177, 53.182959, 34.329452, 39.763536, 49.473859, 100.0,     34.983301,
        35.930411, 63.89431,  53.182959, 34.329452, 100.0,     34.329452, 66.87403,
        34.983301, 35.930411, 34.983301, 100.0};
    double bleu[CANDIDATES * CANDIDATES];
    bleu_table(bleu);
    for (int i = 0; i < CANDIDATES * CANDIDATES; i++)
        near(bleu[i], want[i], 1e-6);
}

static void bleu_at_the_edges(void **state) {
    (void)state;
    const int32_t a[] = {1, 2, 3, 4, 5}, b[] = {6, 7}, twice[] = {1, 1, 1}, one[] = {1};
    near(wr_sentence_bleu(a, 5, a, 5), 100, 1e-12);
    near(wr_sentence_bleu(a, 5, b, 2), 0, 0);
    near(wr_sentence_bleu(a, 5, b, 0), 0, 0);
    near(wr_sentence_bleu(a, 0, b, 2), 0, 0);
    /* a word counts as often as the reference has it: 1/3, 1/3, 1/2, 1/1 */
    near(wr_sentence_bleu(one, 1, twice, 3), 100 * pow(1.0 / 18, 0.25), 1e-12);
    /* too short for longer n-grams, which then count 1; the penalty is exp(1 - 5) */
    near(wr_sentence_bleu(a, 5, one, 1), 100 * exp(-4), 1e-12);
}

static void dynamic_choice_of_the_specification(void **state) {
    (void)state;
    static const double gamma[] = {.7, .6, 1.3, 1.5, 2.3}, nll[] = {24, 5, 9, 13, 30};
    static const double cost_want[] = {-80.094768, -63.836750, -64.219621, -70.685508, -79.122641};
    static const double total_want[] = {-56.094768, -58.836750, -55.219621, -57.685508, -49.122641};
    static const double even_want[] = {11.485193, -4.974492, -1.034316, 1.955389, 17.637087};
    static const double tokens[] = {6, 5, 6, 5, 6};
    double bleu[CANDIDATES * CANDIDATES], cost[CANDIDATES], total[CANDIDATES];
    bleu_table(bleu);
    wr_dynamic d = {.candidates = CANDIDATES, .gamma = gamma, .beta = .2};
    wr_dynamic_cost(&d, bleu, cost);
    for (int i = 0; i < CANDIDATES; i++)
        near(cost[i], cost_want[i], 1e-6);
    assert_int_equal(wr_dynamic_choose(&d, cost, nll, NULL, total), 1);
    for (int i = 0; i < CANDIDATES; i++)
        near(total[i], total_want[i], 1e-6);
    assert_int_equal(wr_dynamic_choose(&d, cost, NULL, NULL, NULL), 0); /* the target alone */
    d.mean_nll = true;
    assert_int_equal(wr_dynamic_choose(&d, cost, nll, tokens, total), 0);
    near(total[3], cost[3] + 13.0 / 5, 1e-12);
    d = (wr_dynamic){.candidates = CANDIDATES, .gamma = gamma, .beta = .2, .normalise_gamma = true};
    wr_dynamic_cost(&d, bleu, cost);
    assert_int_equal(wr_dynamic_choose(&d, cost, nll, NULL, total), 1);
    for (int i = 0; i < CANDIDATES; i++)
        near(total[i], even_want[i], 1e-6);
    d.beta = 0;
    wr_dynamic_cost(&d, bleu, cost);
    assert_int_equal(wr_dynamic_choose(&d, cost, nll, NULL, NULL), 1); /* the student alone */
}

static void dynamic_choice_passes_over(void **state) {
    (void)state;
    static const double gamma[] = {1, 1, 1}, cost[] = {-5, -5, -4}, nll[] = {INFINITY, 1, 0};
    static const double lost[] = {NAN, NAN, NAN};
    wr_dynamic d = {.candidates = 3, .gamma = gamma, .beta = 1};
    assert_int_equal(wr_dynamic_choose(&d, cost, nll, NULL, NULL), 1); /* the first of equals */
    assert_int_equal(wr_dynamic_choose(&d, cost, lost, NULL, NULL), 0);
}

static void target_term(void **state) {
    (void)state;
    const double bleu[] = {30, 50};
    near(wr_mple_target(bleu, 2, .2), -8, 1e-12);
    near(wr_mple_target(bleu, 0, .2), 0, 0);
}

/* ---- correlation ---- */

static void pearson_of_the_specification(void **state) {
    (void)state;
    const double nat2[] = {4.41, 2.42, .78, 1.09, 1.25, 1.03, .79, .83};
    const double target2[] = {-6.42, -7.08, -5.13, -6.34, -6.50, -4.41, -5.84, -6.28};
    double sum2[8];
    const double bleu2[] = {11.79, 20.87, 18.56, 22.22, 22.35, 15.00, 21.37, 22.76};
    const double input3[] = {0, .99, .48, .45, .41, .25, .57};
    const double nat3[] = {2.42, .46, .55, .66, .73, 1.24, .50};
    double sum3[7];
    const double sample3[] = {20.87, 23.48, 24.28, 23.98, 24.03, 22.98, 24.35};
    const double default3[] = {20.87, 19.39, 19.35, 25.12, 24.84, 24.22, 25.19};
    for (int i = 0; i < 8; i++)
        sum2[i] = nat2[i] + target2[i];
    near(wr_pearson(sum2, bleu2, 8), -0.991475, 1e-6);
    for (int i = 0; i < 7; i++)
        sum3[i] = input3[i] + nat3[i] - 7.08;
    near(wr_pearson(sum3, sample3, 7), -0.993402, 1e-6);
    near(wr_pearson(sum3, default3, 7), -0.340856, 1e-6);
}

static void pearson_at_the_edges(void **state) {
    (void)state;
    const double x[] = {1, 2, 4}, flat[] = {3, 3, 3};
    near(wr_pearson(x, x, 3), 1, 1e-15);
    assert_true(isnan(wr_pearson(x, flat, 3)));
    assert_true(isnan(wr_pearson(x, x, 1)));
}

/* ---- inputs ---- */

static void input_of_the_specification(void **state) {
    (void)state;
    /* the first rows of the specification's logits F1 and the target 1 2 3 4 */
    const double mask[] = {.9, .6, .8, .7};
    const double token[] = {-0.677979, -1.850806, -1.515501, -1.036682};
    const uint8_t visible[] = {0, 1, 0, 0};
    double logit[4];
    for (int i = 0; i < 4; i++)
        logit[i] = log(mask[i] / (1 - mask[i]));
    double p = wr_mple_input(logit, token, visible, 4), q = -wr_log_choose(4, 1);
    near(p, 3.452275, 2e-6); /* the log-probability above has six digits */
    near(q, -1.386294, 1e-6);
    near(p + q, 2.065981, 2e-6);
    near((p + q) / 4, .516495, 1e-6);
    near(wr_mple_correlation_bits(3.06, 1.33), 2.495862, 1e-6); /* E30 */
}

static void sure_masks(void **state) {
    (void)state;
    const double logit[] = {800, -800}, token[] = {-1, -2};
    const uint8_t right[] = {0, 1}, wrong[] = {1, 0};
    near(wr_mple_input(logit, token, right, 2), 2, 1e-12);
    near(wr_mple_input(logit, token, wrong, 2), 1601, 1e-9);
}

/* All orders of a set, by recursion over what is drawn next. */
static double set_by_orders(const double *lw, size_t n, int32_t *order, size_t k, size_t at) {
    if (at == k) return exp(wr_plackett_luce_order(lw, n, order, k));
    double sum = 0;
    for (size_t i = at; i < k; i++) {
        int32_t kept = order[at];
        order[at] = order[i];
        order[i] = kept;
        sum += set_by_orders(lw, n, order, k, at + 1);
        order[i] = order[at];
        order[at] = kept;
    }
    return sum;
}

static void sets_by_enumeration(void **state) {
    (void)state;
    uint32_t seed = 7;
    for (int round = 0; round < 60; round++) {
        size_t n = 1 + draw(&seed) % 7;
        double lw[7], all[8] = {0};
        double spread = round % 3 == 0 ? 1 : round % 3 == 1 ? 8 : 40;
        for (size_t i = 0; i < n; i++)
            lw[i] = spread * (uniform(&seed) - 0.5);
        for (unsigned set = 0; set < 1u << n; set++) {
            uint8_t chosen[7];
            int32_t order[7];
            size_t k = 0;
            for (size_t i = 0; i < n; i++) {
                chosen[i] = set >> i & 1;
                if (chosen[i] != 0) order[k++] = (int32_t)i;
            }
            double got = exp(wr_plackett_luce_set(lw, chosen, n));
            double want = set_by_orders(lw, n, order, k, 0);
            near(got, want, 1e-11 * want + 1e-300);
            all[k] += got;
        }
        for (size_t k = 0; k <= n; k++)
            near(all[k], 1, 1e-10);
    }
}

static void uniform_sets(void **state) {
    (void)state;
    double lw[40];
    uint8_t chosen[40] = {0};
    for (size_t i = 0; i < 40; i++)
        lw[i] = 3;
    for (size_t k = 0; k <= 40; k++) {
        near(wr_plackett_luce_set(lw, chosen, 40), -wr_log_choose(40, k), 1e-9);
        if (k < 40) chosen[k] = 1;
    }
    lw[0] = -INFINITY;
    chosen[5] = 0;
    assert_true(wr_plackett_luce_set(lw, chosen, 40) == -INFINITY);
}

/* ---- the mask head ---- */

enum { STATES = 400, WIDTH = 6 };

static void make_states(uint32_t seed, float *h, uint8_t *masked, bool separable) {
    static const double w[WIDTH] = {1.5, -1, .5, 0, .25, -2};
    for (int k = 0; k < STATES; k++) {
        double z = .3;
        for (int i = 0; i < WIDTH; i++) {
            h[k * WIDTH + i] = (float)(4 * uniform(&seed) - 2);
            z += w[i] * (double)h[k * WIDTH + i];
        }
        masked[k] = separable ? z > 0 : uniform(&seed) < 1 / (1 + exp(-z));
    }
}

/* At the minimum the gradient is 0, and so is that of the bias: predicted and real rates agree. */
static void fitted_head(void **state) {
    (void)state;
    static float h[STATES * WIDTH];
    static uint8_t masked[STATES];
    double w[WIDTH + 1], loss, gradient[WIDTH + 1] = {0};
    const double ridge = 1e-4;
    make_states(3, h, masked, false);
    const wr_mask_data data = {h, masked, STATES, WIDTH};
    assert_int_equal(wr_mask_fit(&data, ridge, w, &loss, NULL), WR_OK);
    for (int k = 0; k < STATES; k++) {
        double p = 1 / (1 + exp(-wr_mask_logit(w, h + k * WIDTH, WIDTH)));
        for (int i = 0; i <= WIDTH; i++)
            gradient[i] += (p - masked[k]) * (i < WIDTH ? (double)h[k * WIDTH + i] : 1) / STATES;
    }
    for (int i = 0; i < WIDTH; i++)
        near(gradient[i] + ridge * w[i], 0, 1e-9);
    near(gradient[WIDTH], 0, 1e-9);
    assert_true(loss > 0 && loss < .5);
    near(w[5], -2, 1); /* what made the labels is found again */
    near(w[0], 1.5, .75);
}

static void separable_states(void **state) {
    (void)state;
    static float h[STATES * WIDTH];
    static uint8_t masked[STATES];
    double w[WIDTH + 1], loss;
    make_states(4, h, masked, true);
    wr_mask_data data = {h, masked, STATES, WIDTH};
    assert_int_equal(wr_mask_fit(&data, 1e-6, w, &loss, NULL), WR_OK);
    assert_true(isfinite(loss) && loss < .05);
    for (int k = 0; k < STATES; k++)
        masked[k] = 1; /* and all alike */
    assert_int_equal(wr_mask_fit(&data, 1e-4, w, &loss, NULL), WR_OK);
    assert_true(isfinite(loss) && loss < 1e-3);
    wr_error err = {0};
    h[9] = NAN;
    assert_int_equal(wr_mask_fit(&data, 1e-4, w, &loss, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "position 2 is not finite"));
    err = (wr_error){0};
    data.n = 0;
    assert_int_equal(wr_mask_fit(&data, 1e-4, w, &loss, &err), WR_ERR_INPUT);
}

static void head_without_memory(void **state) {
    (void)state;
    const float h[] = {1, 2};
    const uint8_t masked[] = {0, 1};
    const wr_mask_data data = {h, masked, 2, 1};
    double w[2];
    wr_test_fail_allocation(1);
    assert_int_equal(wr_mask_fit(&data, 1, w, NULL, NULL), WR_ERR_MEMORY);
    assert_true(wr_test_allocation_failed());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_of_the_specification),
        cmocka_unit_test(merged_outcomes),
        cmocka_unit_test(refused_tables),
        cmocka_unit_test(bleu_of_the_specification),
        cmocka_unit_test(bleu_at_the_edges),
        cmocka_unit_test(dynamic_choice_of_the_specification),
        cmocka_unit_test(dynamic_choice_passes_over),
        cmocka_unit_test(target_term),
        cmocka_unit_test(pearson_of_the_specification),
        cmocka_unit_test(pearson_at_the_edges),
        cmocka_unit_test(input_of_the_specification),
        cmocka_unit_test(sure_masks),
        cmocka_unit_test(sets_by_enumeration),
        cmocka_unit_test(uniform_sets),
        cmocka_unit_test(fitted_head),
        cmocka_unit_test(separable_states),
        cmocka_unit_test(head_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
