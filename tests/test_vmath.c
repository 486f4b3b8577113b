/* test_vmath.c: accuracy of ops/cpu/vmath.h over the whole range of float, in vectorised loops. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ops/cpu/vmath.h"

enum { BLOCK = 1021, STEP = 499 };

/* One function: a vectorised loop over it, the same for a single element, and the reference. */
typedef struct subject {
    const char *name;
    void (*many)(const float *x, float *y, int n);
    float (*one)(float x);
    double (*reference)(double x);
    double ulps;     /* allowed error in units in the last place of the result; 0: absolute alone */
    double absolute; /* errors up to this do not count, or are allowed */
} subject;

#define SUBJECT(name)                                                                              \
    static void many_##name(const float *x, float *y, int n) {                                     \
        _Pragma("omp simd") for (int i = 0; i < n; i++) y[i] = wr_##name##_f32(x[i]);              \
    }                                                                                              \
    static float one_##name(float x) { return wr_##name##_f32(x); }

SUBJECT(exp)
SUBJECT(expm1)
SUBJECT(log)
SUBJECT(log1p)
SUBJECT(tanh)
SUBJECT(sigmoid)
SUBJECT(softplus)
SUBJECT(erf)
SUBJECT(gelu)
SUBJECT(gelu_grad)

#define ROW(name, reference, ulps, absolute)                                                       \
    { #name, many_##name, one_##name, reference, ulps, absolute }

static const subject subjects[] = {
    ROW(exp, exp, 1.0, 0),
    ROW(expm1, expm1, 1.5, 0),
    ROW(log, log, 1.0, 0),
    ROW(log1p, log1p, 1.0, 0),
    ROW(tanh, tanh, 2.5, 0),
    ROW(sigmoid, wr_sigmoid_f64, 2.5, 0),
    ROW(softplus, wr_softplus_f64, 2.0, 0),
    ROW(erf, erf, 1.5, 0),
    ROW(gelu, wr_gelu_f64, 5.5, 1e-43),
    ROW(gelu_grad, wr_gelu_grad_f64, 0, 3e-7),
};

enum { SUBJECTS = sizeof subjects / sizeof *subjects };

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The distance of floats around x. */
static double unit(double x) {
    int e = 0;
    frexp(x, &e);
    if (x == 0.0 || e < -125) e = -125;
    return ldexp(1.0, e - 24);
}

/* Error of y for f(x) in the subject's measure; 0 where both are the same infinity or not numbers,
 * infinity where only one is. */
static double error_of(const subject *s, float x, float y) {
    double want = s->reference((double)x);
    if (isnan(want) || isnan(y)) return isnan(want) && isnan(y) ? 0.0 : INFINITY;
    if ((double)y == want || (isinf(y) && fabs(want) > (double)FLT_MAX && (y > 0) == (want > 0)))
        return 0.0;
    double off = fabs((double)y - want);
    if (s->ulps == 0) return off;
    return off <= s->absolute ? 0.0 : off / unit(want);
}

typedef struct worst {
    double error;
    float x, y;
} worst;

static void check_block(const subject *s, const float *x, int n, worst *w) {
    float y[BLOCK];
    s->many(x, y, n);
    for (int i = 0; i < n; i++) {
        double error = error_of(s, x[i], y[i]);
        if (error > w->error) *w = (worst){error, x[i], y[i]};
    }
}

static void accuracy(void **unused) {
    (void)unused;
    for (int i = 0; i < SUBJECTS; i++) {
        const subject *s = &subjects[i];
        float x[BLOCK];
        worst w = {0, 0, 0};
        int n = 0;
        for (uint64_t bits = 0; bits <= UINT32_MAX; bits += STEP) {
            x[n++] = float_of((uint32_t)bits);
            if (n < BLOCK) continue;
            check_block(s, x, n, &w);
            n = 0;
        }
        check_block(s, x, n, &w);
        printf("%-10s largest error %.3g %s at %.9g\n", s->name, w.error,
               s->ulps > 0 ? "ulp" : "absolute", (double)w.x);
        if (w.error > (s->ulps > 0 ? s->ulps : s->absolute))
            fail_msg("%s(%.9g) = %.9g, expected %.9g: error %.3g", s->name, (double)w.x,
                     (double)w.y, s->reference((double)w.x), w.error);
    }
}

/* Zeros, the smallest and largest numbers, infinities, not-a-number, and the edges of the cases. */
static void special_arguments(void **unused) {
    (void)unused;
    static const float x[] = {0.0f,       -0.0f,     INFINITY, -INFINITY, NAN,    0x1p-149f,
                              -0x1p-149f, 0x1p-126f, FLT_MAX,  -FLT_MAX,  1.0f,   -1.0f,
                              88.722839f, 88.72284f, -87.336f, -103.97f,  -104.f, -103.9f,
                              0x1p-25f,   0x1p-24f,  9.99f,    15.0f,     -15.0f, -14.2f};
    for (int i = 0; i < SUBJECTS; i++) {
        const subject *s = &subjects[i];
        worst w = {0, 0, 0};
        check_block(s, x, sizeof x / sizeof *x, &w);
        if (w.error > (s->ulps > 0 ? s->ulps : s->absolute))
            fail_msg("%s(%.9g) = %.9g, expected %.9g", s->name, (double)w.x, (double)w.y,
                     s->reference((double)w.x));
    }
    assert_true(signbit(wr_tanh_f32(-0.0f)) != 0 && signbit(wr_expm1_f32(-0.0f)) != 0);
    assert_true(signbit(wr_log1p_f32(-0.0f)) != 0 && signbit(wr_erf_f32(-0.0f)) != 0);
}

/* An element has the same bits wherever it stands in a loop, in the remainder too, so that
 * elementwise work may be cut for threads anyhow. */
static void position_does_not_matter(void **unused) {
    (void)unused;
    for (int i = 0; i < SUBJECTS; i++) {
        const subject *s = &subjects[i];
        float x[67], y[67];
        for (int round = 0; round < 2000; round++) {
            for (int j = 0; j < 67; j++)
                x[j] = float_of((uint32_t)(round * 67 + j) * 2654435769u);
            s->many(x, y, 67);
            for (int j = 0; j < 67; j++) {
                float alone = s->one(x[j]);
                if (isnan(alone) && isnan(y[j])) continue;
                assert_memory_equal(&alone, &y[j], sizeof alone);
            }
        }
    }
}

static void check_double(const char *name, double got, long double want, double x,
                         long double bound) {
    if (fabsl((long double)got - want) > bound * fabsl(want))
        fail_msg("%s(%.17g) = %.17g, expected %.17Lg", name, x, got, want);
}

static void doubles(void **unused) {
    (void)unused;
    for (int i = -4000; i <= 4000; i++) {
        double x = i * 0.01037;
        long double y = x, phi = 0.5L * erfcl(-y * 0.70710678118654752440084L);
        check_double("sigmoid", wr_sigmoid_f64(x), 1.0L / (1.0L + expl(-y)), x, 2e-15L);
        check_double("softplus", wr_softplus_f64(x), log1pl(expl(y)), x, 2e-15L);
        check_double("tanh", wr_tanh_f64(x), tanhl(y), x, 2e-15L);
        check_double("expm1", wr_expm1_f64(x), expm1l(y), x, 2e-15L);
        /* the rounding of x / sqrt 2 is multiplied by x^2 */
        if (x > -20) check_double("gelu", wr_gelu_f64(x), y * phi, x, 2e-15L * (1 + y * y / 4));
        long double slope = phi + y * 0.39894228040143267793995L * expl(-0.5L * y * y);
        assert_true(fabsl((long double)wr_gelu_grad_f64(x) - slope) < 1e-15L);
    }
    assert_true(isnan(wr_gelu_f64(NAN)) && isnan(wr_gelu_grad_f64(NAN)));
    assert_true(isinf(wr_gelu_f64(INFINITY)) && wr_gelu_f64(-INFINITY) == 0.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accuracy),
        cmocka_unit_test(special_arguments),
        cmocka_unit_test(position_does_not_matter),
        cmocka_unit_test(doubles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
