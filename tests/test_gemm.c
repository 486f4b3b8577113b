/* test_gemm.c: matrix products against a plain double reference, on random shapes, and their
 * independence of the thread count. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ops/cpu/gemm.h"

/* splitmix64: a fixed sequence of shapes and values. */
static uint64_t next(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double uniform(uint64_t *state) { return (double)(next(state) >> 11) * 0x1p-52 - 1.0; }

static int64_t below(uint64_t *state, int64_t n) { return (int64_t)(next(state) % (uint64_t)n); }

/* Elements of an operand with every matrix of the batch, plus guard elements behind them. */
enum { GUARD = 32 };

static size_t extent(int64_t rows, int64_t ld, int64_t stride, int64_t batch) {
    return (size_t)((batch > 0 ? batch - 1 : 0) * stride + rows * ld);
}

typedef struct problem {
    wr_gemm_spec s;
    size_t a_n, b_n, c_n;
    double *a, *b, *c, *bias;   /* the operands in double */
    double *want, *scale;       /* the reference and the sum of magnitudes behind it */
    void *ra, *rb, *rc, *rbias; /* the same in the product's type */
    void *result, *workspace;
} problem;

static size_t width(const problem *p) { return p->s.dtype == WR_GEMM_F32 ? 4 : 8; }

static double *random_values(size_t n, uint64_t *state, bool f32) {
    double *x = malloc((n + 1) * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) {
        x[i] = uniform(state);
        if (f32) x[i] = (float)x[i];
    }
    return x;
}

/* A copy in the product's type that ends exactly at the end of its memory. */
static void *typed(const problem *p, const double *x, size_t n) {
    void *out = malloc(n * width(p) + 1);
    assert_non_null(out);
    for (size_t i = 0; i < n; i++) {
        if (p->s.dtype == WR_GEMM_F32)
            ((float *)out)[i] = (float)x[i];
        else
            ((double *)out)[i] = x[i];
    }
    return out;
}

static double activated(double x, wr_gemm_act act) {
    if (act == WR_GEMM_RELU) return x > 0 ? x : 0;
    if (act == WR_GEMM_GELU) return 0.5 * x * (1 + erf(x * 0.70710678118654752440));
    return x;
}

static double dot(const problem *p, int64_t batch, int64_t i, int64_t j, double *scale) {
    const wr_gemm_spec *s = &p->s;
    double sum = 0;
    for (int64_t x = 0; x < s->k; x++) {
        double a = p->a[batch * s->stride_a + (s->trans_a ? x * s->lda + i : i * s->lda + x)];
        double b = p->b[batch * s->stride_b + (s->trans_b ? j * s->ldb + x : x * s->ldb + j)];
        sum += a * b;
        *scale += fabs(a * b);
    }
    return sum;
}

static void reference(problem *p) {
    const wr_gemm_spec *s = &p->s;
    memcpy(p->want, p->c, p->c_n * sizeof *p->want);
    for (int64_t batch = 0; batch < s->batch; batch++)
        for (int64_t i = 0; i < s->m; i++)
            for (int64_t j = 0; j < s->n; j++) {
                int64_t at = batch * s->stride_c + i * s->ldc + j;
                double scale = 0, sum = dot(p, batch, i, j, &scale);
                if (s->accumulate) sum += p->c[at];
                if (s->bias) sum += p->bias[j];
                p->want[at] = activated(sum, s->act);
                p->scale[at] = scale + fabs(sum) + 1.0;
            }
}

static void problem_new(problem *p, const wr_gemm_spec *s, uint64_t seed) {
    bool f32 = s->dtype == WR_GEMM_F32;
    *p = (problem){.s = *s};
    p->a_n = extent(s->trans_a ? s->k : s->m, s->lda, s->stride_a, s->batch);
    p->b_n = extent(s->trans_b ? s->n : s->k, s->ldb, s->stride_b, s->batch);
    p->c_n = extent(s->m, s->ldc, s->stride_c, s->batch) + GUARD;
    p->a = random_values(p->a_n, &seed, f32);
    p->b = random_values(p->b_n, &seed, f32);
    p->c = random_values(p->c_n, &seed, f32);
    p->bias = random_values((size_t)s->n, &seed, f32);
    p->want = calloc(p->c_n, sizeof *p->want);
    p->scale = calloc(p->c_n, sizeof *p->scale);
    assert_non_null(p->want);
    assert_non_null(p->scale);
    reference(p);
    p->ra = typed(p, p->a, p->a_n);
    p->rb = typed(p, p->b, p->b_n);
    p->rc = typed(p, p->c, p->c_n);
    p->rbias = typed(p, p->bias, (size_t)s->n);
    p->result = malloc(p->c_n * width(p));
    assert_non_null(p->result);
}

static void problem_free(problem *p) {
    void *all[] = {p->a,  p->b,  p->c,  p->bias,  p->want,  p->scale,
                   p->ra, p->rb, p->rc, p->rbias, p->result};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* Run with `backend` and `threads` into p->result; false when the backend cannot do it. */
static bool run(problem *p, wr_gemm_backend backend, int threads) {
    wr_gemm_spec s = p->s;
    s.backend = backend;
    s.threads = threads;
    wr_error err = {0};
    wr_gemm_plan *plan = wr_gemm_plan_new(&s, &err);
    if (plan == NULL) {
        assert_int_not_equal(backend, WR_GEMM_AUTO);
        assert_non_null(strstr(err.text, wr_gemm_backend_name(backend)));
        return false;
    }
    size_t bytes = (wr_gemm_workspace(plan) + 63) / 64 * 64;
    unsigned char *workspace = aligned_alloc(64, bytes + 64);
    assert_non_null(workspace);
    memset(workspace, 0xff, bytes + 64); /* not-a-number: nothing may be taken from it */
    memcpy(p->result, p->rc, p->c_n * width(p));
    wr_gemm_run(plan, p->ra, p->rb, p->result, s.bias ? p->rbias : NULL, workspace);
    for (size_t i = bytes; i < bytes + 64; i++)
        assert_int_equal(workspace[i], 0xff);
    free(workspace);
    wr_gemm_plan_free(plan);
    return true;
}

static void check(const problem *p, wr_gemm_backend backend, int threads) {
    const wr_gemm_spec *s = &p->s;
    double unit = s->dtype == WR_GEMM_F32 ? 0x1p-24 : 0x1p-53;
    for (size_t i = 0; i < p->c_n; i++) {
        double got =
            s->dtype == WR_GEMM_F32 ? (double)((float *)p->result)[i] : ((double *)p->result)[i];
        double bound = unit * p->scale[i] * (8 + sqrt((double)s->k));
        if (fabs(got - p->want[i]) <= bound) continue;
        fail_msg("%s, %d threads: element %zu is %.9g, expected %.9g within %.2g; dtype %d trans "
                 "%d%d batch %lld m %lld n %lld k %lld acc %d bias %d act %d",
                 wr_gemm_backend_name(backend), threads, i, got, p->want[i], bound, s->dtype,
                 s->trans_a, s->trans_b, (long long)s->batch, (long long)s->m, (long long)s->n,
                 (long long)s->k, s->accumulate, s->bias, s->act);
    }
}

static bool is_own(wr_gemm_backend backend) {
    return backend == WR_GEMM_PACKED || backend == WR_GEMM_ROWS || backend == WR_GEMM_DIRECT;
}

/* Every backend against the reference; the own ones the same bits on 1, 2 and 7 threads. */
static void check_problem(const wr_gemm_spec *s, uint64_t seed) {
    static const int counts[] = {1, 2, 7};
    problem p;
    problem_new(&p, s, seed);
    void *first = malloc(p.c_n * width(&p));
    assert_non_null(first);
    for (int backend = 0; backend < WR_GEMM_BACKENDS; backend++) {
        for (int i = 0; i < 3; i++) {
            if (!run(&p, (wr_gemm_backend)backend, counts[i])) break;
            check(&p, (wr_gemm_backend)backend, counts[i]);
            if (i == 0) memcpy(first, p.result, p.c_n * width(&p));
            if (is_own((wr_gemm_backend)backend))
                assert_memory_equal(first, p.result, p.c_n * width(&p));
        }
    }
    free(first);
    problem_free(&p);
}

static int64_t random_size(uint64_t *state, int64_t most) {
    static const int64_t edges[] = {1, 2, 7, 8, 9, 12, 13, 16, 17, 24, 31, 32, 33, 48, 64, 65};
    if (below(state, 2) == 0) return edges[below(state, 16)];
    return 1 + below(state, most);
}

/* A random specification with contiguous, padded, spread or shared operands. */
static wr_gemm_spec random_spec(uint64_t *state, int64_t most, int64_t most_batch) {
    wr_gemm_spec s = {.dtype = below(state, 4) == 0 ? WR_GEMM_F64 : WR_GEMM_F32,
                      .trans_a = below(state, 2) == 0,
                      .trans_b = below(state, 2) == 0,
                      .accumulate = below(state, 3) == 0,
                      .bias = below(state, 2) == 0,
                      .act = (wr_gemm_act)below(state, 3),
                      .batch = 1 + below(state, most_batch),
                      .m = random_size(state, most),
                      .n = random_size(state, most),
                      .k = random_size(state, most)};
    bool padded = below(state, 3) == 0;
    s.lda = (s.trans_a ? s.m : s.k) + (padded ? below(state, 9) : 0);
    s.ldb = (s.trans_b ? s.k : s.n) + (padded ? below(state, 9) : 0);
    s.ldc = s.n + (padded ? below(state, 9) : 0);
    s.stride_a = below(state, 4) == 0 ? 0 : (s.trans_a ? s.k : s.m) * s.lda;
    s.stride_b = below(state, 3) == 0 ? 0 : (s.trans_b ? s.n : s.k) * s.ldb;
    s.stride_c = s.m * s.ldc + (padded ? below(state, 5) : 0);
    return s;
}

static void small_random_shapes(void **unused) {
    (void)unused;
    uint64_t state = 1;
    for (int i = 0; i < 600; i++) {
        wr_gemm_spec s = random_spec(&state, 70, 9);
        check_problem(&s, state);
    }
}

/* Several blocks of rows, columns and k. */
static void large_shapes(void **unused) {
    (void)unused;
    static const int64_t sizes[][3] = {
        {1100, 70, 40}, {30, 300, 1100}, {8, 700, 1030},  {1, 1025, 519}, {130, 131, 513},
        {1, 33, 4100},  {5, 17, 2049},   {1030, 33, 600}, {1345, 40, 34}, {66, 1345, 33}};
    uint64_t state = 2;
    for (size_t i = 0; i < 4 * sizeof sizes / sizeof *sizes; i++) {
        const int64_t *z = sizes[i / 4];
        wr_gemm_spec s = {.dtype = i % 16 < 12 ? WR_GEMM_F32 : WR_GEMM_F64,
                          .trans_a = (i & 1) != 0,
                          .trans_b = (i & 2) != 0,
                          .accumulate = i % 3 == 0,
                          .bias = i % 2 == 0,
                          .act = (wr_gemm_act)(i % 3),
                          .batch = 1,
                          .m = z[0],
                          .n = z[1],
                          .k = z[2]};
        s.lda = s.trans_a ? s.m : s.k;
        s.ldb = s.trans_b ? s.k : s.n;
        s.ldc = s.n;
        check_problem(&s, next(&state));
    }
}

/* Without a sum over k the result is what C held, or zero, plus bias; an empty result is left. */
static void empty_sizes(void **unused) {
    (void)unused;
    for (int zero = 0; zero < 4; zero++)
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            wr_gemm_spec s = {.accumulate = accumulate != 0,
                              .bias = true,
                              .batch = zero == 3 ? 0 : 3,
                              .m = zero == 0 ? 0 : 5,
                              .n = zero == 1 ? 0 : 19,
                              .k = zero == 2 ? 0 : 6,
                              .lda = 6,
                              .ldb = 19,
                              .ldc = 19,
                              .stride_a = 30,
                              .stride_b = 114,
                              .stride_c = 95};
            check_problem(&s, 3);
        }
}

/* Not-a-number and infinity in A and B reach the elements they belong to and no other. */
static void special_values(void **unused) {
    (void)unused;
    for (int backend = 0; backend < WR_GEMM_BACKENDS; backend++) {
        wr_gemm_spec s = {.batch = 1,
                          .m = 7,
                          .n = 37,
                          .k = 19,
                          .lda = 19,
                          .ldb = 37,
                          .ldc = 37,
                          .stride_c = 7 * 37};
        problem p;
        problem_new(&p, &s, 5);
        ((float *)p.ra)[3 * 19 + 4] = NAN;
        ((float *)p.rb)[2 * 37 + 36] = INFINITY;
        if (run(&p, (wr_gemm_backend)backend, 2)) {
            for (int i = 0; i < 7; i++)
                for (int j = 0; j < 37; j++) {
                    float got = ((float *)p.result)[i * 37 + j];
                    assert_int_equal(isnan(got) != 0, i == 3);
                    if (i != 3) assert_int_equal(isinf(got) != 0, j == 36);
                }
        }
        problem_free(&p);
    }
}

/* The activation of a product keeps not-a-number: it must not hide a diverging model. */
static void activations_keep_nan(void **unused) {
    (void)unused;
    for (int backend = 0; backend < WR_GEMM_BACKENDS; backend++)
        for (int act = WR_GEMM_RELU; act <= WR_GEMM_GELU; act++) {
            wr_gemm_spec s = {.act = (wr_gemm_act)act,
                              .batch = 1,
                              .m = 3,
                              .n = 20,
                              .k = 5,
                              .lda = 5,
                              .ldb = 20,
                              .ldc = 20,
                              .stride_c = 60};
            problem p;
            problem_new(&p, &s, 6);
            ((float *)p.ra)[5] = NAN;
            if (run(&p, (wr_gemm_backend)backend, 1))
                for (int j = 0; j < 20; j++)
                    assert_true(isnan(((float *)p.result)[20 + j]));
            problem_free(&p);
        }
}

static void refused(const wr_gemm_spec *s, const char *words) {
    wr_error err = {0};
    assert_null(wr_gemm_plan_new(s, &err));
    assert_int_equal(err.status, WR_ERR_INPUT);
    if (strstr(err.text, words) == NULL) fail_msg("\"%s\" lacks \"%s\"", err.text, words);
}

static void wrong_specifications(void **unused) {
    (void)unused;
    wr_gemm_spec good = {.batch = 2, .m = 3, .n = 4, .k = 5, .stride_c = 12}, s = good;
    wr_gemm_plan *plan = wr_gemm_plan_new(&good, NULL);
    assert_non_null(plan);
    wr_gemm_plan_free(plan);
    s.m = -1;
    refused(&s, "negative");
    s = good;
    s.ldb = 3;
    refused(&s, "rows of B have 4 elements but lie 3 apart");
    s = good;
    s.stride_c = 11;
    refused(&s, "overlap");
    s = good;
    s.m = s.k = INT64_MAX / 4;
    refused(&s, "does not fit");
    s = good;
    s.dtype = WR_GEMM_F64;
    s.backend = WR_GEMM_DNNL;
    refused(&s, "dnnl");
}

static void peak_is_a_rate(void **unused) {
    (void)unused;
    double peak = wr_gemm_peak_gflops(1);
    assert_true(peak > 0.1 && peak < 1e5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_random_shapes),  cmocka_unit_test(large_shapes),
        cmocka_unit_test(empty_sizes),          cmocka_unit_test(special_values),
        cmocka_unit_test(activations_keep_nan), cmocka_unit_test(wrong_specifications),
        cmocka_unit_test(peak_is_a_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
