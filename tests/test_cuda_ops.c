/* test_cuda_ops.c: rows of the CUDA device, emulated, against the CPU in f64.
 *
 * Each row with a kernel runs its own samples and their gradients in f32 and f64 under three
 * schedules of threads; then sizes around warps, blocks and vectors. Every row has a kernel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "helpers/cuda.h"
#include "helpers/sample.h"
#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/random_ops.h"
#include "ops/reduce.h"
#include "ops/slice.h"
#include "ops/softmax.h"
#include "ops/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES = TEST_INPUTS + WR_MAX_OUTPUTS, SCHEDULES = 3 };

static const double F32_ERROR = 5e-5, F64_ERROR = 1e-11; /* of the largest element */

static test_cuda EMULATOR;
static bool EMULATED;

/* ---- which rows have kernels ---- */

static bool needs_kernel(const wr_op *op) {
    bool view = (op->traits & WR_VIEW) && !(op->traits & WR_STATEFUL);
    return !view && !(op->traits & WR_SOURCE) && op->cpu != NULL;
}

static wr_device *open_device(void) {
    wr_device *d = NULL;
    wr_error err = {0};
    if (wr_device_open(&(wr_device_options){.name = "cuda"}, &d, NULL, &err) != WR_OK)
        fail_msg("%s", err.text);
    return d;
}

static void test_rows(void **state) {
    (void)state;
    if (!EMULATED) skip();
    wr_device *d = open_device();
    int has = 0;
    for (int i = 0; i < wr_op_count(); i++) {
        const wr_op *op = wr_op_at(i);
        if (!needs_kernel(op)) continue;
        if (d->kernel(d, op) == NULL) fail_msg("%s has no CUDA kernel", op->name);
        has++;
    }
    print_message("%d rows have CUDA kernels\n", has);
    assert_true(has > 0);
    d->close(d);
}

/* ---- a row's samples ---- */

/* A sample's outputs and, where they exist, its gradients for a random cotangent. */
typedef struct subject {
    const wr_op *op;
    int variant, n_out, n;
    test_case t;
    wr value[VALUES];
} subject;

static void add_gradients(subject *s, int n_inputs) {
    wr loss = {0}, at[TEST_INPUTS], grad[TEST_INPUTS];
    int n = 0;
    for (int k = 0; k < s->n_out; k++) {
        wr_type t = wr_type_of(s->value[k]);
        int64_t dims[WR_MAX_RANK];
        if (t.dtype == WR_I32) continue;
        for (int i = 0; i < t.rank; i++)
            dims[i] = wr_dim_literal(t.dim[i]);
        wr cot = test_case_input(&s->t, WR_FILL_REAL, 0, t.rank, dims);
        wr term = wr_sum_all(wr_mul(s->value[k], cot));
        loss = wr_is_poison(loss) ? term : wr_add(loss, term);
    }
    for (int i = 0; i < n_inputs; i++)
        if (test_input_is_smooth(&s->t.input[i])) at[n++] = s->t.input[i].node;
    if (wr_is_poison(loss) || n == 0) return;
    if (!wr_grad(loss, n, at, grad)) fail_msg("%s: no gradient", s->op->name);
    for (int i = 0; i < n; i++)
        s->value[s->n++] = grad[i];
}

/* False behind the last variant. */
static bool begin(subject *s, const wr_op *op, wr_dtype dtype, int variant, bool gradients) {
    memset(s, 0, sizeof *s);
    s->op = op;
    s->variant = variant;
    test_case_begin(&s->t, dtype, 4321, variant);
    wr node = op->sample(&s->t.sample);
    if (wr_is_poison(node)) {
        test_case_end(&s->t);
        return false;
    }
    const wr_graph *g = s->t.sample.g;
    if (wr_node_at(g, node.id)->op == &wr_op_output) node.id = wr_node_inputs(g, node.id)[0];
    s->n = s->n_out = wr_node_at(g, node.id)->n_out;
    for (int k = 0; k < s->n_out; k++)
        s->value[k] = wr_output(node, k);
    bool smooth = op->grad != NULL || op->expand != NULL;
    if (gradients && smooth && !(op->traits & WR_STATEFUL)) add_gradients(s, s->t.n_inputs);
    return true;
}

/* Does every live row of the values have a kernel on the device? (Gradients use other rows.) */
static bool is_covered(const subject *s, wr_device *d) {
    const wr_graph *g = s->t.sample.g;
    uint32_t roots[VALUES];
    for (int k = 0; k < s->n; k++)
        roots[k] = s->value[k].id;
    bool *live = wr_live_nodes(g, s->n, roots), covered = true;
    assert_non_null(live);
    for (uint32_t id = 1; id < wr_node_count(g); id++) {
        const wr_op *op = wr_node_at(g, id)->op;
        if (live[id] && needs_kernel(op) && d->kernel(d, op) == NULL) covered = false;
    }
    free(live);
    return covered;
}

static double compare(const subject *s, const test_program *cuda, const test_program *cpu,
                      double most) {
    double worst = 0;
    for (int k = 0; k < s->n; k++) {
        double error = test_difference(test_program_output(cuda, k), test_program_output(cpu, k));
        if (!(error < most))
            fail_msg("%s, variant %d, %s: %s %d on the device is %.3g from the CPU in f64",
                     s->op->name, s->variant, wr_dtype_name(s->t.sample.dtype),
                     k < s->n_out ? "output" : "gradient", k < s->n_out ? k : k - s->n_out, error);
        worst = fmax(worst, error);
    }
    return worst;
}

static void set_schedule(int i) {
    static const enum cu_emu_schedule ALL[SCHEDULES] = {CU_EMU_IN_ORDER, CU_EMU_REVERSED,
                                                        CU_EMU_RANDOM};
    EMULATOR.schedule(ALL[i], (uint64_t)i);
}

/* What all schedules give is the same bit for bit: nothing depends on the order of threads. */
static void compare_schedules(const subject *s, test_program *p, const test_kept *kept) {
    for (int i = 1; i < SCHEDULES; i++) {
        set_schedule(i);
        test_program_run(p, &s->t);
        for (int k = 0; k < s->n; k++)
            if (!test_same_bits(test_program_output(p, k), &kept[k].tensor))
                fail_msg("%s, variant %d, %s: value %d depends on the order of threads",
                         s->op->name, s->variant, wr_dtype_name(s->t.sample.dtype), k);
    }
    set_schedule(0);
}

static double check_values(const subject *s, const subject *wide) {
    test_program cuda, cpu;
    test_kept kept[VALUES];
    test_program_open_on(&cuda, &s->t, s->n, s->value, NULL, 1, "cuda");
    test_program_open(&cpu, &wide->t, wide->n, wide->value, NULL, 1);
    test_program_run(&cpu, &wide->t);
    test_program_run(&cuda, &s->t);
    assert_string_equal(EMULATOR.message(), "");
    double worst = compare(s, &cuda, &cpu, s->t.sample.dtype == WR_F64 ? F64_ERROR : F32_ERROR);
    for (int k = 0; k < s->n; k++)
        kept[k] = test_keep(test_program_output(&cuda, k));
    if (!(s->op->traits & WR_STATEFUL)) compare_schedules(s, &cuda, kept);
    assert_string_equal(EMULATOR.message(), "");
    for (int k = 0; k < s->n; k++)
        test_forget(&kept[k]);
    test_program_close(&cuda);
    test_program_close(&cpu);
    return worst;
}

/* Returns false behind the last variant. */
static bool check_variant(const wr_op *op, wr_dtype dtype, int variant, wr_device *d, int *grads,
                          double *worst) {
    subject s, wide;
    if (!begin(&s, op, dtype, variant, true)) return false;
    bool gradients = is_covered(&s, d);
    if (!gradients) {
        test_case_end(&s.t);
        begin(&s, op, dtype, variant, false);
    }
    begin(&wide, op, WR_F64, variant, gradients);
    assert_int_equal(s.n, wide.n);
    *worst = fmax(*worst, check_values(&s, &wide));
    *grads += s.n - s.n_out;
    test_case_end(&s.t);
    test_case_end(&wide.t);
    return true;
}

static void check_row(const wr_op *op, wr_device *d) {
    double worst[2] = {0, 0};
    int variants = 0, grads = 0;
    static const wr_dtype DTYPES[2] = {WR_F32, WR_F64};
    for (int t = 0; t < 2; t++)
        for (int v = 0; check_variant(op, DTYPES[t], v, d, &grads, &worst[t]); v++)
            variants++;
    print_message("%-18s %2d samples, %3d gradients, f32 %.1e, f64 %.1e\n", op->name, variants,
                  grads, worst[0], worst[1]);
    assert_true(variants > 0);
}

static void test_samples(void **state) {
    (void)state;
    if (!EMULATED) skip();
    wr_device *d = open_device();
    for (int i = 0; i < wr_op_count(); i++) {
        const wr_op *op = wr_op_at(i);
        bool runs = needs_kernel(op) && d->kernel(d, op) != NULL;
        if (runs && op->sample != NULL) check_row(op, d);
    }
    d->close(d);
}

/* ---- sizes around warps, blocks and vectors ---- */

static const int64_t SIZES[] = {1, 31, 33, 1023, 1025, 4097};
enum { N_SIZES = sizeof SIZES / sizeof *SIZES };

/* The same for rows that work along the last axis, and for indices. */
static wr odd_row(test_case *t, int what, int64_t n) {
    int64_t matrix[2] = {3, n}, cube[3] = {2, n, 9}, row[1] = {3}, numbers[2] = {2, 5};
    int64_t line[1] = {n};
    wr x = {0}, y = {0};
    switch (what) {
    case 0:
        x = test_case_input(t, WR_FILL_REAL, 0, 2, matrix);
        return wr_softmax_masked(x, test_case_input(t, WR_FILL_MASK, 0, 2, matrix));
    case 1:
        return wr_log_softmax(test_case_input(t, WR_FILL_REAL, 0, 2, matrix));
    case 2:
        return wr_logsumexp(test_case_input(t, WR_FILL_REAL, 0, 2, matrix));
    case 3:
        x = test_case_input(t, WR_FILL_REAL, 0, 2, matrix);
        y = test_case_input(t, WR_FILL_REAL, 0, 1, line);
        return wr_layer_norm(x, y, test_case_input(t, WR_FILL_REAL, 0, 1, line), 0.01);
    case 4:
        x = test_case_input(t, WR_FILL_REAL, 0, 2, matrix);
        y = test_case_input(t, WR_FILL_INDEX, n, 1, row);
        return wr_cross_entropy(x, y, test_case_input(t, WR_FILL_POSITIVE, 0, 1, row), 0.1).loss;
    case 5:
        x = test_case_input(t, WR_FILL_REAL, 0, 3, cube);
        return wr_gather(x, test_case_input(t, WR_FILL_INDEX, n, 2, numbers));
    case 6: /* long sums at few places, in the order of the index */
        matrix[0] = n;
        matrix[1] = 9;
        x = test_case_input(t, WR_FILL_REAL, 0, 2, matrix);
        return wr_scatter_add(x, test_case_input(t, WR_FILL_INDEX, 7, 1, line), wr_n(70));
    case 7:
        x = test_case_input(t, WR_FILL_REAL, 0, 2, matrix);
        return wr_add(wr_dropout(x, 0.3),
                      wr_normal(t->sample.g, t->sample.dtype, WR_DIMS(wr_n(3), wr_n(n))));
    default:
        return (wr){0};
    }
}

/* What runs over a size n; poison behind the last. */
static wr odd_value(test_case *t, int what, int64_t n) {
    int64_t vector[1] = {n}, matrix[2] = {3, n}, turned[2] = {n, 3}, cube[3] = {2, n, 9};
    wr x = {0};
    switch (what) {
    case 0: /* a chain with a repeated leaf */
        x = test_case_input(t, WR_FILL_REAL, 0, 2, matrix);
        return wr_tanh(wr_add(wr_mul(x, test_case_input(t, WR_FILL_REAL, 0, 1, vector)), x));
    case 1:
        return wr_sum_axes(test_case_input(t, WR_FILL_REAL, 0, 2, matrix), 1, 2);
    case 2:
        return wr_sum_axes(test_case_input(t, WR_FILL_REAL, 0, 2, turned), 0, 1);
    case 3:
        return wr_sum_axes(test_case_input(t, WR_FILL_REAL, 0, 3, cube), 1, 2);
    case 4:
        return wr_max_axes(test_case_input(t, WR_FILL_APART, 0, 2, turned), 0, 2);
    case 5:
        return wr_transpose(test_case_input(t, WR_FILL_REAL, 0, 3, cube), 1, 2);
    case 6:
        return wr_transpose(test_case_input(t, WR_FILL_REAL, 0, 3, cube), 0, 1);
    case 7:
        return wr_slice(test_case_input(t, WR_FILL_REAL, 0, 2, turned), 1, 1, 3);
    case 8:
        x = test_case_input(t, WR_FILL_REAL, 0, 2, matrix);
        return wr_concat(1, x, test_case_input(t, WR_FILL_REAL, 0, 2, matrix));
    case 9:
        x = test_case_input(t, WR_FILL_REAL, 0, 2, matrix);
        return wr_matmul_nt(x, test_case_input(t, WR_FILL_REAL, 0, 2, matrix));
    case 10:
        if (n > 1025) n = 7; /* n x n */
        turned[0] = matrix[1] = n;
        x = test_case_input(t, WR_FILL_REAL, 0, 2, turned);
        return wr_matmul(x, test_case_input(t, WR_FILL_REAL, 0, 2, matrix));
    default:
        return odd_row(t, what - 11, n);
    }
}

/* Both float types against the CPU in f64. */
static bool check_size(int what, int64_t n) {
    static const wr_dtype DTYPES[2] = {WR_F32, WR_F64};
    static const wr_op NAMED = {.name = "a size"};
    subject wide = {.op = &NAMED, .variant = what, .n = 1, .n_out = 1};
    test_case_begin(&wide.t, WR_F64, 77, 0);
    wide.value[0] = odd_value(&wide.t, what, n);
    bool there = !wr_is_poison(wide.value[0]);
    for (int t = 0; there && t < 2; t++) {
        subject s = {.op = &NAMED, .variant = what, .n = 1, .n_out = 1};
        test_case_begin(&s.t, DTYPES[t], 77, 0);
        s.value[0] = odd_value(&s.t, what, n);
        check_values(&s, &wide);
        test_case_end(&s.t);
    }
    assert_true(there || wr_graph_ok(wide.t.sample.g));
    test_case_end(&wide.t);
    return there;
}

static void test_sizes(void **state) {
    (void)state;
    if (!EMULATED) skip();
    int checked = 0;
    for (int what = 0; what >= 0; what++)
        for (int i = 0; i < N_SIZES; i++) {
            if (!check_size(what, SIZES[i])) {
                assert_true(checked >= 19 * N_SIZES);
                return;
            }
            checked++;
        }
}

int main(void) {
    EMULATED = test_cuda_open(&EMULATOR);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_samples),
                                       cmocka_unit_test(test_sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
