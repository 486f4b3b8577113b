/* test_new_objective.c: what examples/new_objective.c computes against the worked values of the
 * specification (E8 of nar_vectors.json), and its run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "helpers/sample.h"

#include <math.h>
#include <string.h>

#define main example_main
int example_main(void);
#include "examples/new_objective.c" /* NOLINT(bugprone-suspicious-include) */
#undef main

static const double LOGITS[] = {0.2, 1.5,  0.3, -0.4, 0.1, 0.0,  0.4, 0.2, 1.2, -0.3,
                                0.5, -0.2, 1.1, 0.6,  0.0, -0.1, 0.3, 0.0, 0.2, 0.9};

/* The loss of a target, and its gradient. */
static double bag(const double *target, int n, double *gradient) {
    test_case t;
    test_program p;
    test_case_begin(&t, WR_F64, 1, 0);
    wr z = test_case_input(&t, WR_FILL_REAL, 0, 3, (int64_t[]){1, 4, 5});
    wr y = test_case_input(&t, WR_FILL_INDEX, 5, 2, (int64_t[]){1, 4}), out[2];
    memcpy(t.input[0].value, LOGITS, sizeof LOGITS);
    memcpy(t.input[1].value, target, 4 * sizeof *target);
    test_input_sync(&t.input[0]);
    test_input_sync(&t.input[1]);
    out[0] = bag_of_ngrams(z, y, n);
    assert_true(wr_grad(out[0], 1, &z, &out[1]));
    test_program_open(&p, &t, 2, out, NULL, 1);
    test_program_run(&p, &t);
    double loss = test_value(test_program_output(&p, 0), 0);
    for (int i = 0; i < 20; i++)
        gradient[i] = test_value(test_program_output(&p, 1), i);
    test_program_close(&p);
    test_case_end(&t);
    return loss;
}

static void near(double got, double wanted) {
    if (!(fabs(got - wanted) <= 1e-6)) fail_msg("%.9f instead of %.9f", got, wanted);
}

static void test_worked_values(void **state) {
    (void)state;
    static const double each[] = {1, 2, 3, 4}, twice[] = {1, 3, 1, 3};
    static const double gradients[] = {0.007023, -0.000816, -0.014005, 0.001443,  0.006355,
                                       0.013198, -0.003481, -0.021971, 0.004888,  0.007365,
                                       0.020638, 0.005504,  -0.006828, -0.014668, -0.004647,
                                       0.006781, 0.010116,  0.00275,   -0.012109, -0.007538};
    double gradient[20];
    near(bag(each, 1, gradient), 0.149058);
    near(bag(each, 3, gradient), 0.975062);
    near(bag(twice, 1, gradient), 0.52708);
    near(bag(twice, 2, gradient), 0.874723);
    near(bag(twice, 3, gradient), 0.979884);
    near(bag(each, 2, gradient), 0.84542);
    for (int i = 0; i < 20; i++)
        near(gradient[i], gradients[i]);
}

/* Its gradient is that of a difference, and its loss falls to less than half. */
static void test_run(void **state) {
    (void)state;
    assert_int_equal(example_main(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worked_values),
        cmocka_unit_test(test_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
