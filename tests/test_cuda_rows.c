/* test_cuda_rows.c: rows of the CUDA device that the generated tests reach in part only: decoding
 * caches, matrices of sizes around warps and shared memory, LSTMs and non-linear flows of odd
 * sizes, and what their kernels tell about bad values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "helpers/cuda.h"
#include "helpers/sample.h"
#include "ops/cache.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/linalg.h"
#include "ops/lstm.h"
#include "ops/nlsq.h"
#include "ops/reduce.h"
#include "ops/slice.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 8, SCHEDULES = 3 };

static const double F32_ERROR = 5e-5, F64_ERROR = 1e-11; /* of the largest element */
static const wr_dtype DTYPES[2] = {WR_F32, WR_F64};

static test_cuda EMULATOR;
static bool EMULATED;

static void set_schedule(int i) {
    static const enum cu_emu_schedule ALL[SCHEDULES] = {CU_EMU_IN_ORDER, CU_EMU_REVERSED,
                                                        CU_EMU_RANDOM};
    EMULATOR.schedule(ALL[i], (uint64_t)i);
}

/* ---- values and gradients of one size ---- */

/* Makes inputs and outputs for a size; returns the number of outputs. */
typedef int (*builder)(test_case *t, const int64_t *size, wr *out);

/* sum of out[0] * a random cotangent, and its gradients at the real inputs. */
static int add_gradients(test_case *t, int n, wr *out) {
    wr_type type = wr_type_of(out[0]);
    wr at[TEST_INPUTS], grad[TEST_INPUTS];
    int64_t dims[WR_MAX_RANK];
    int smooth = 0;
    for (int i = 0; i < t->n_inputs; i++)
        if (test_input_is_smooth(&t->input[i])) at[smooth++] = t->input[i].node;
    for (int i = 0; i < type.rank; i++)
        dims[i] = wr_dim_literal(type.dim[i]);
    wr cot = test_case_input(t, WR_FILL_REAL, 0, type.rank, dims);
    assert_true(wr_grad(wr_sum_all(wr_mul(out[0], cot)), smooth, at, grad));
    for (int i = 0; i < smooth && n < MOST; i++)
        out[n++] = grad[i];
    return n;
}

static int build(test_case *t, wr_dtype dtype, builder f, const int64_t *size, wr *out) {
    test_case_begin(t, dtype, 97, 0);
    int n = f(t, size, out);
    return add_gradients(t, n, out);
}

static void check(builder f, const char *name, const int64_t *size, wr_dtype dtype) {
    test_case t, wide;
    test_program cuda, cpu;
    test_kept first[MOST];
    wr out[MOST], want[MOST];
    int n = build(&t, dtype, f, size, out);
    assert_int_equal(build(&wide, WR_F64, f, size, want), n);
    test_program_open_on(&cuda, &t, n, out, NULL, 1, "cuda");
    test_program_open(&cpu, &wide, n, want, NULL, 1);
    test_program_run(&cpu, &wide);
    for (int i = 0; i < SCHEDULES; i++) {
        set_schedule(i);
        test_program_run(&cuda, &t);
        for (int k = 0; k < n; k++) {
            const wr_tensor *x = test_program_output(&cuda, k);
            double error = test_difference(x, test_program_output(&cpu, k));
            if (!(error < (dtype == WR_F64 ? F64_ERROR : F32_ERROR)))
                fail_msg("%s %lld %lld %lld, %s: value %d is %.3g from the CPU in f64", name,
                         (long long)size[0], (long long)size[1], (long long)size[2],
                         wr_dtype_name(dtype), k, error);
            if (i == 0)
                first[k] = test_keep(x);
            else if (!test_same_bits(x, &first[k].tensor))
                fail_msg("%s: value %d depends on the order of threads", name, k);
        }
    }
    set_schedule(0);
    assert_string_equal(EMULATOR.message(), "");
    for (int k = 0; k < n; k++)
        test_forget(&first[k]);
    test_program_close(&cuda);
    test_program_close(&cpu);
    test_case_end(&t);
    test_case_end(&wide);
}

static void check_sizes(builder f, const char *name, int n, const int64_t sizes[][3]) {
    for (int i = 0; i < n; i++)
        for (int t = 0; t < 2; t++)
            check(f, name, sizes[i], DTYPES[t]);
}
#define CHECK(f, sizes) check_sizes(f, #f, sizeof sizes / sizeof *sizes, sizes)

/* ---- matrices ---- */

/* [count, n, n], well-conditioned, with the large elements far from the diagonal: each step of the
 * elimination exchanges rows. */
static wr matrices(test_case *t, int64_t count, int64_t n) {
    int64_t dims[3] = {count, n, n};
    wr random = wr_scale(test_case_input(t, WR_FILL_REAL, 0, 3, dims), 0.4 / sqrt((double)n));
    wr ones = wr_shift(wr_scale(test_case_input(t, WR_FILL_MASK, 0, 2, dims), 0.5), 1.5);
    wr a = wr_add(random, wr_diagonal_matrix(ones));
    if (n == 1) return a;
    return wr_concat(1, wr_slice(a, 1, n / 2, n), wr_slice(a, 1, 0, n / 2));
}

static wr columns(test_case *t, const int64_t *size) {
    int64_t dims[3] = {size[0], size[1], size[2]};
    return test_case_input(t, WR_FILL_REAL, 0, 3, dims);
}

static int solve(test_case *t, const int64_t *size, wr *out) {
    wr a = matrices(t, size[0], size[1]), b = columns(t, size);
    out[0] = wr_lu_solve(a, b, false);
    out[1] = wr_lu_solve(a, b, true);
    return 2;
}

/* One matrix for a stack of right sides. */
static int solve_shared(test_case *t, const int64_t *size, wr *out) {
    wr a = wr_reshape(matrices(t, 1, size[1]), WR_DIMS(wr_n(size[1]), wr_n(size[1])));
    out[0] = wr_lu_solve(a, columns(t, size), false);
    return 1;
}

static int invert(test_case *t, const int64_t *size, wr *out) {
    wr a = matrices(t, size[0], size[1]);
    out[0] = wr_matrix_inverse(a);
    out[1] = wr_log_abs_det(a);
    return 2;
}

static int determinant(test_case *t, const int64_t *size, wr *out) {
    out[0] = wr_log_abs_det(matrices(t, size[0], size[1]));
    return 1;
}

static int triangular(test_case *t, const int64_t *size, wr *out) {
    int64_t dims[3] = {size[0], size[1], size[1]};
    wr random = wr_scale(test_case_input(t, WR_FILL_REAL, 0, 3, dims), 0.4 / (double)size[1]);
    wr ones = wr_shift(wr_scale(test_case_input(t, WR_FILL_MASK, 0, 2, dims), 0.5), 1.5);
    wr a = wr_add(random, wr_diagonal_matrix(ones)), b = columns(t, size);
    out[0] = wr_triangular_solve(a, b, WR_LOWER, false, false);
    out[1] = wr_triangular_solve(a, b, WR_UPPER, true, false);
    out[2] = wr_triangular_solve(a, b, WR_UPPER, false, true);
    return 3;
}

static int triangles(test_case *t, const int64_t *size, wr *out) {
    int64_t dims[3] = {size[0], size[1], size[2]};
    wr x = test_case_input(t, WR_FILL_REAL, 0, 3, dims);
    out[0] = wr_triu(x, 3);
    out[1] = wr_tril(x, -2);
    return 2;
}

/* Matrices of 96 rows and more do not fit in shared memory; many tiles are not solved at once. */
static void test_matrices(void **state) {
    (void)state;
    if (!EMULATED) skip();
    static const int64_t SIZES[][3] = {{1, 1, 1},   {3, 2, 33},   {2, 31, 31}, {3, 33, 1},
                                       {1, 64, 64}, {1, 17, 200}, {2, 97, 5}};
    static const int64_t FEW[][3] = {{1, 31, 1}, {3, 33, 1}, {1, 130, 1}};
    static const int64_t SHAPES[][3] = {{2, 1, 1025}, {3, 33, 31}, {1, 1023, 5}, {2, 4097, 1}};
    CHECK(solve, SIZES);
    CHECK(solve_shared, SIZES);
    CHECK(triangular, SIZES);
    CHECK(invert, FEW);
    CHECK(determinant, FEW);
    CHECK(triangles, SHAPES);
}

/* ---- LSTMs, non-linear flows ---- */

static int recurrent(test_case *t, const int64_t *size, wr *out) {
    int64_t b = size[0], n = size[1], h = size[2];
    int64_t z[3] = {b, n, 4 * h}, h0[2] = {b, h}, w[2] = {h, 4 * h};
    wr in[5] = {test_case_input(t, WR_FILL_REAL, 0, 3, z),
                test_case_input(t, WR_FILL_REAL, 0, 2, h0),
                test_case_input(t, WR_FILL_REAL, 0, 2, h0),
                wr_scale(test_case_input(t, WR_FILL_REAL, 0, 2, w), 1.0 / sqrt((double)h)),
                test_case_input(t, WR_FILL_LENGTH, n, 1, &b)};
    wr y = wr_emit(WR_HERE, &wr_op_lstm, 5, in, (wr_attr[]){{.i = h % 2}});
    out[0] = y;
    out[1] = wr_output(y, 1);
    return 2;
}

/* Only the gradient of the recurrent matrix is read: it is then summed position by position. */
static int recurrent_weight(test_case *t, const int64_t *size, wr *out) {
    wr states[2];
    recurrent(t, size, states);
    wr loss = wr_sum_all(wr_square(states[0])), grad;
    assert_true(wr_grad(loss, 1, &t->input[3].node, &grad));
    out[0] = wr_scale(loss, 0.5);
    out[1] = grad;
    return 2;
}

static void check_weight_alone(const int64_t *size, wr_dtype dtype) {
    test_case t, wide;
    test_program cuda, cpu;
    wr out[2], want[2];
    test_case_begin(&t, dtype, 5, 0);
    test_case_begin(&wide, WR_F64, 5, 0);
    recurrent_weight(&t, size, out);
    recurrent_weight(&wide, size, want);
    test_program_open_on(&cuda, &t, 2, out, NULL, 1, "cuda");
    test_program_open(&cpu, &wide, 2, want, NULL, 1);
    test_program_run(&cuda, &t);
    test_program_run(&cpu, &wide);
    double error = test_difference(test_program_output(&cuda, 1), test_program_output(&cpu, 1));
    if (!(error < (dtype == WR_F64 ? F64_ERROR : F32_ERROR)))
        fail_msg("the recurrent matrix's gradient alone is %.3g from the CPU in f64", error);
    test_program_close(&cuda);
    test_program_close(&cpu);
    test_case_end(&t);
    test_case_end(&wide);
}

static int bent(test_case *t, const int64_t *size, wr *out) {
    wr in[6];
    for (int k = 0; k < 6; k++)
        in[k] = test_case_input(t, WR_FILL_REAL, 0, 1, size);
    wr_nlsq_parameters p = {in[1], in[2], in[3], in[4], in[5]};
    out[0] = wr_nlsq(in[0], &p);
    out[1] = wr_nlsq_inverse(in[0], &p);
    return 2;
}

static void test_recurrent(void **state) {
    (void)state;
    if (!EMULATED) skip();
    static const int64_t SIZES[][3] = {{1, 1, 1}, {31, 2, 33}, {5, 3, 64}, {3, 4, 31}};
    CHECK(recurrent, SIZES);
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < 3; i++)
            check_weight_alone(SIZES[i], DTYPES[t]);
}

static void test_bent(void **state) {
    (void)state;
    if (!EMULATED) skip();
    static const int64_t SIZES[][3] = {{1}, {31}, {33}, {1023}, {1025}, {4097}};
    CHECK(bent, SIZES);
}

/* ---- caches ---- */

enum { CACHE_ROWS = 5, HYPOTHESES = 4, LENGTH = 6, FRESH = 2, STEPS = 5 };

/* What a search does step by step: new rows, where they come from, and the position. */
static const int32_t COMES_FROM[STEPS][HYPOTHESES] = {
    {0, 1, 2, 3}, {0, 0, 0, 0}, {3, 2, 1, 0}, {4, 1, 1, 2}, {1, 2, 3, 0}};
static const int32_t POSITION[STEPS] = {0, 2, 4, 1, 3};

static void set_values(test_input *x, const int32_t *value) {
    for (int64_t i = 0; i < x->n; i++)
        x->value[i] = value[i];
    test_input_sync(x);
}

typedef struct cached {
    test_case t;
    test_program program[2]; /* on the device, on the CPU */
} cached;

enum { IN_FRESH, IN_POSITION, IN_ROWS, IN_SELECTED };

static void open_cached(cached *c, wr_dtype dtype, int64_t width) {
    const int64_t fresh[3] = {HYPOTHESES, FRESH, width}, one[1] = {1}, rows[1] = {HYPOTHESES};
    test_case *t = &c->t;
    test_case_begin(t, dtype, 11, 0);
    wr cache =
        wr_state(t->sample.g, "cache", dtype, WR_DIMS(wr_n(CACHE_ROWS), wr_n(LENGTH), wr_n(width)),
                 ((wr_init){WR_INIT_NORMAL, 0, 1}));
    wr in[4] = {test_case_input(t, WR_FILL_REAL, 0, 3, fresh),
                test_case_input(t, WR_FILL_INDEX, 1, 1, one),
                test_case_input(t, WR_FILL_INDEX, 1, 1, rows),
                test_case_input(t, WR_FILL_INDEX, 1, 1, rows)};
    wr written = wr_cache_write(cache, in[IN_FRESH], in[IN_POSITION], in[IN_ROWS]);
    wr whole = wr_add(cache, cache), out[2] = {wr_cache_select(cache, in[IN_SELECTED]), whole};
    (void)written;
    test_program_open_on(&c->program[0], t, 2, out, NULL, 1, "cuda");
    test_program_open(&c->program[1], t, 2, out, NULL, 1);
}

static void close_cached(cached *c) {
    for (int i = 0; i < 2; i++)
        test_program_close(&c->program[i]);
    test_case_end(&c->t);
}

static void feed_step(cached *c, int step) {
    set_values(&c->t.input[IN_POSITION], &POSITION[step]);
    set_values(&c->t.input[IN_ROWS], COMES_FROM[step]);
    set_values(&c->t.input[IN_SELECTED], COMES_FROM[(step + 2) % STEPS]);
    test_input_draw(&c->t.input[IN_FRESH], (uint64_t)step, 0);
}

static void check_cache(wr_dtype dtype, int64_t width) {
    cached c;
    open_cached(&c, dtype, width);
    for (int step = 0; step < STEPS; step++) {
        feed_step(&c, step);
        for (int i = 0; i < 2; i++)
            test_program_run(&c.program[i], &c.t);
        for (int k = 0; k < 2; k++)
            if (!test_same_bits(test_program_output(&c.program[0], k),
                                test_program_output(&c.program[1], k)))
                fail_msg("%s, width %lld, step %d: another cache than on the CPU",
                         wr_dtype_name(dtype), (long long)width, step);
    }
    assert_string_equal(EMULATOR.message(), "");
    close_cached(&c);
}

static void test_caches(void **state) {
    (void)state;
    if (!EMULATED) skip();
    static const int64_t WIDTHS[] = {1, 31, 33, 64, 1023, 4097};
    for (int s = 0; s < SCHEDULES; s++)
        for (int t = 0; t < 2; t++)
            for (size_t i = 0; i < sizeof WIDTHS / sizeof *WIDTHS; i++) {
                set_schedule(s);
                check_cache(DTYPES[t], WIDTHS[i]);
            }
    set_schedule(0);
}

/* ---- what kernels tell ---- */

static void expect(test_program *p, const test_case *t, const char *says) {
    wr_error err = {0};
    assert_int_equal(test_program_try(p, t, &err), WR_ERR_INPUT);
    if (strstr(err.text, says) == NULL) fail_msg("'%s' does not say '%s'", err.text, says);
    assert_string_equal(EMULATOR.message(), "");
}

static void test_bad_caches(void **state) {
    (void)state;
    if (!EMULATED) skip();
    static const int32_t FAR[HYPOTHESES] = {0, 1, 5, 3}, NEGATIVE[HYPOTHESES] = {0, -1, 2, 3};
    static const int32_t BEHIND = LENGTH - FRESH + 1, BEFORE = -1;
    cached c;
    open_cached(&c, WR_F32, 8);
    feed_step(&c, 0);
    set_values(&c.t.input[IN_POSITION], &BEHIND);
    expect(&c.program[0], &c.t, "position 5 of an axis of size 6");
    set_values(&c.t.input[IN_POSITION], &BEFORE);
    expect(&c.program[0], &c.t, "position -1 of an axis of size 6");
    feed_step(&c, 0);
    set_values(&c.t.input[IN_ROWS], FAR);
    expect(&c.program[0], &c.t, "index 5 is not in 0 .. 5 - 1");
    feed_step(&c, 0);
    set_values(&c.t.input[IN_SELECTED], NEGATIVE);
    expect(&c.program[0], &c.t, "index -1 is not in 0 .. 5 - 1");
    feed_step(&c, 0);
    test_program_run(&c.program[0], &c.t); /* it stays usable */
    close_cached(&c);
}

static void test_singular(void **state) {
    (void)state;
    if (!EMULATED) skip();
    static const int64_t DIMS[3] = {3, 5, 5};
    test_case t;
    test_program p;
    test_case_begin(&t, WR_F32, 3, 0);
    wr a = test_case_input(&t, WR_FILL_APART, 0, 3, DIMS);
    wr b = test_case_input(&t, WR_FILL_REAL, 0, 3, DIMS);
    wr out[3] = {wr_log_abs_det(a), wr_lu_solve(a, b, false),
                 wr_triangular_solve(b, a, WR_LOWER, false, false)};
    test_program_open_on(&p, &t, 3, out, NULL, 1, "cuda");
    test_program_run(&p, &t);
    double kept = t.input[1].value[25];
    t.input[1].value[25] = 0; /* matrix 1, the first element of the diagonal */
    test_input_sync(&t.input[1]);
    expect(&p, &t, "matrix 1 of 3 is singular");
    t.input[1].value[25] = kept;
    test_input_sync(&t.input[1]);
    for (int j = 0; j < 5; j++) /* two rows of matrix 2 are equal */
        t.input[0].value[50 + 10 + j] = t.input[0].value[50 + 20 + j];
    test_input_sync(&t.input[0]);
    expect(&p, &t, "matrix 2 of 3 is singular");
    t.input[0].value[50 + 10] = NAN;
    test_input_sync(&t.input[0]);
    expect(&p, &t, "matrix 2 of 3 is singular");
    test_program_close(&p);
    test_case_end(&t);
}

static void test_bad_lengths(void **state) {
    (void)state;
    if (!EMULATED) skip();
    static const int64_t SIZE[3] = {2, 3, 4};
    test_case t;
    test_program p;
    wr out[MOST];
    int n = build(&t, WR_F32, recurrent, SIZE, out);
    test_program_open_on(&p, &t, n, out, NULL, 1, "cuda");
    t.input[4].value[1] = 4;
    test_input_sync(&t.input[4]);
    expect(&p, &t, "index 4 is not in 0 .. 4 - 1");
    t.input[4].value[1] = 3;
    test_input_sync(&t.input[4]);
    test_program_run(&p, &t);
    test_program_close(&p);
    test_case_end(&t);
}

int main(void) {
    EMULATED = test_cuda_open(&EMULATOR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrices),   cmocka_unit_test(test_recurrent),
        cmocka_unit_test(test_bent),       cmocka_unit_test(test_caches),
        cmocka_unit_test(test_bad_caches), cmocka_unit_test(test_singular),
        cmocka_unit_test(test_bad_lengths)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
