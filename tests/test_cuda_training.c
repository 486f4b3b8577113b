/* test_cuda_training.c: what training steps take besides their model, on the CUDA device:
 * random numbers that are the CPU's bit for bit, norms, summed gradients, Adam over many tensors,
 * and attention whose heads, lengths and tiles have odd sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "graph/session.h"
#include "helpers/cuda.h"
#include "helpers/sample.h"
#include "ops/assign.h"
#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/random_ops.h"
#include "ops/reduce.h"
#include "ops/sort.h"
#include "ops/update.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static test_cuda EMULATOR;
static bool EMULATED;

static const int64_t SIZES[] = {1, 31, 33, 1023, 1025, 4097};
enum { N_SIZES = sizeof SIZES / sizeof *SIZES, SCHEDULES = 3 };

#define must(call)                                                                                 \
    do {                                                                                           \
        wr_error must_err = {0};                                                                   \
        wr_error *err = &must_err;                                                                 \
        if ((call) != WR_OK) fail_msg("%s", must_err.text);                                        \
    } while (0)

static void set_schedule(int i) {
    static const enum cu_emu_schedule ALL[SCHEDULES] = {CU_EMU_IN_ORDER, CU_EMU_REVERSED,
                                                        CU_EMU_RANDOM};
    EMULATOR.schedule(ALL[i], (uint64_t)i);
}

/* ---- values on both devices ---- */

enum { VALUES = 8 };

/* Every schedule gives the CPU's values: the same bits, or at most `error` of the largest. */
static void compare_values(const test_case *t, int n, const wr *value, const char *what,
                           double error) {
    test_program cuda, cpu;
    test_kept first[VALUES];
    test_program_open_on(&cuda, t, n, value, NULL, 1, "cuda");
    test_program_open(&cpu, t, n, value, NULL, 1);
    test_program_run(&cpu, t);
    for (int i = 0; i < SCHEDULES; i++) {
        set_schedule(i);
        test_program_run(&cuda, t);
        for (int k = 0; k < n; k++) {
            const wr_tensor *a = test_program_output(&cuda, k), *b = test_program_output(&cpu, k);
            double off = error == 0 ? !test_same_bits(a, b) : test_difference(a, b);
            if (!(off <= error)) fail_msg("%s, value %d: %g from the CPU's", what, k, off);
            if (i == 0)
                first[k] = test_keep(a);
            else if (!test_same_bits(a, &first[k].tensor))
                fail_msg("%s, value %d depends on the order of threads", what, k);
        }
    }
    set_schedule(0);
    assert_string_equal(EMULATOR.message(), "");
    for (int k = 0; k < n; k++)
        test_forget(&first[k]);
    test_program_close(&cuda);
    test_program_close(&cpu);
}

/* ---- random numbers ---- */

/* f32 is equal on all devices; f64 on the emulator, which has the CPU's mathematical library. */
static void test_random_bits(void **state) {
    (void)state;
    if (!EMULATED) skip();
    for (int type = WR_F32; type <= WR_F64; type++)
        for (int i = 0; i < N_SIZES; i++) {
            test_case t;
            wr_dim dims[2] = {wr_n(3), wr_n(SIZES[i])};
            int64_t sizes[2] = {3, SIZES[i]};
            test_case_begin(&t, (wr_dtype)type, 5, 0);
            wr_graph *g = t.sample.g;
            wr x = test_case_input(&t, WR_FILL_REAL, 0, 2, sizes);
            wr value[] = {wr_uniform(g, 0.0, 1.0, (wr_dtype)type, 2, dims),
                          wr_normal(g, (wr_dtype)type, 2, dims),
                          wr_gumbel(g, (wr_dtype)type, 2, dims), wr_dropout(x, 0.3)};
            double error = type == WR_F64 && EMULATOR.real ? 1e-13 : 0;
            compare_values(&t, 4, value, "random numbers", error);
            test_case_end(&t);
        }
}

/* Many numbers: the polynomials of all quarters of the circle and of small and large logarithms. */
static void test_many_normals(void **state) {
    (void)state;
    if (!EMULATED) skip();
    test_case t;
    wr_dim dims[1] = {wr_n(200001)};
    test_case_begin(&t, WR_F32, 6, 0);
    wr value[] = {wr_normal(t.sample.g, WR_F32, 1, dims), wr_gumbel(t.sample.g, WR_F32, 1, dims)};
    compare_values(&t, 2, value, "many random numbers", 0);
    test_case_end(&t);
}

/* ---- attention ---- */

typedef struct shape {
    int64_t b, t, s, heads, dh;
    bool causal, lengths;
    double dropout;
} shape;

/* Around tiles of 32 and 64, widths around 32, 64 and 128 and in chunks, whole vectors and not. */
static const shape SHAPES[] = {
    {1, 31, 33, 1, 33, false, true, 0},  {2, 33, 31, 2, 32, false, false, 0.2},
    {1, 65, 65, 1, 36, true, true, 0},   {1, 40, 130, 1, 64, false, true, 0.1},
    {1, 3, 1025, 1, 20, false, true, 0}, {1, 1, 1, 1, 1, false, false, 0},
    {2, 24, 24, 2, 64, true, true, 0.1}, {1, 70, 67, 1, 129, false, true, 0.1},
    {1, 4, 9000, 1, 2, false, false, 0}, {3, 2, 7, 1, 65, false, true, 0},
    {1, 100, 70, 1, 30, false, true, 0}, {1, 129, 129, 2, 8, true, false, 0},
    {2, 5, 40, 1, 600, false, false, 0},
};

static void check_shape(const shape *z, wr_dtype dtype) {
    test_case t;
    int64_t d = z->heads * z->dh, q[3] = {z->b, z->t, d}, k[3] = {z->b, z->s, d};
    test_case_begin(&t, dtype, 9, 0);
    wr in[3] = {test_case_input(&t, WR_FILL_REAL, 0, 3, q),
                test_case_input(&t, WR_FILL_REAL, 0, 3, k),
                test_case_input(&t, WR_FILL_REAL, 0, 3, k)};
    wr lengths = test_case_input(&t, WR_FILL_LENGTH, z->s - (z->causal && z->s > 1), 1, &z->b);
    wr cot = test_case_input(&t, WR_FILL_REAL, 0, 3, q), value[5];
    wr_attention_options o = {.heads = (int)z->heads, .causal = z->causal, .dropout = z->dropout};
    value[0] = wr_attention_with(in[0], in[1], in[2], z->lengths ? &lengths : NULL, &o);
    value[1] = wr_output(value[0], 1);
    wr loss = wr_sum_all(wr_mul(value[0], cot));
    assert_true(wr_grad(loss, 3, in, value + 2));
    compare_values(&t, 5, value, "attention", dtype == WR_F32 ? 5e-5 : 1e-11);
    test_case_end(&t);
}

static void test_attention(void **state) {
    (void)state;
    if (!EMULATED) skip();
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
        for (int type = WR_F32; type <= WR_F64; type++)
            check_shape(&SHAPES[i], (wr_dtype)type);
}

/* ---- sorting ---- */

static void test_sorting(void **state) {
    (void)state;
    if (!EMULATED) skip();
    for (int type = WR_F32; type <= WR_F64; type++)
        for (int i = 0; i < N_SIZES; i++) {
            test_case t;
            int64_t n = SIZES[i], rows[2] = {2, n}, cube[3] = {2, n, 3};
            wr value[VALUES];
            test_case_begin(&t, (wr_dtype)type, 8, 0);
            wr x = test_case_input(&t, WR_FILL_APART, 0, 2, rows);
            wr y = test_case_input(&t, WR_FILL_REAL, 0, 3, cube);
            value[0] = wr_argmax(x);
            value[1] = wr_top_k_at(WR_HERE, x, wr_n(n < 5 ? n : 5), true, &value[2]);
            value[3] = wr_top_k_at(WR_HERE, x, wr_n(n < 40 ? n : 40), false, &value[4]);
            value[5] = wr_cumsum_with(x, 1, i % 2 == 0, false);
            value[6] = wr_cumsum_with(y, 1, false, i % 2 == 0);
            compare_values(&t, 7, value, "sorting", type == WR_F32 ? 1e-6 : 1e-12);
            test_case_end(&t);
        }
}

/* Equal numbers go by index, not-a-number stands last. */
static void test_ties(void **state) {
    (void)state;
    if (!EMULATED) skip();
    test_case t;
    wr value[5];
    int64_t dims[2] = {3, 70};
    test_case_begin(&t, WR_F32, 8, 0);
    wr x = test_case_input(&t, WR_FILL_REAL, 0, 2, dims);
    for (int i = 0; i < 140; i++)
        t.input[0].value[i] = i < 70 ? (double)(i * 7 % 5) : i % 3 == 0 ? NAN : (double)(i % 4);
    for (int i = 140; i < 210; i++)
        t.input[0].value[i] = NAN;
    test_input_sync(&t.input[0]);
    value[0] = wr_argmax(x);
    wr_top_k_at(WR_HERE, x, wr_n(9), true, &value[1]);
    wr_top_k_at(WR_HERE, x, wr_n(9), false, &value[2]);
    wr_top_k_at(WR_HERE, x, wr_n(70), true, &value[3]);
    wr_top_k_at(WR_HERE, x, wr_n(69), false, &value[4]);
    compare_values(&t, 5, value, "equal numbers", 0);
    test_case_end(&t);
}

/* ---- updates ---- */

/* With amsgrad there are more tensors than one launch takes. */
enum { LARGE = 8, SMALL = 66, PARAMS = LARGE + SMALL };

static int64_t size_of(int k) {
    static const int64_t N[LARGE] = {1, 31, 33, 1023, 1025, 4097, 8192, 20001};
    return k < LARGE ? N[k] : 1 + k % 7;
}

/* Gradients are inputs and their sums; parameters, moments and step are stored. */
typedef struct training {
    wr_graph *g;
    wr_program *program;
    void *grad[PARAMS];
    wr_dtype dtype;
    int n;
} training;

static wr kept(training *t, const char *what, int k) {
    char name[24];
    wr_dim n[1] = {wr_n(size_of(k))};
    snprintf(name, sizeof name, "%s%d", what, k);
    if (what[0] == 'w')
        return wr_param(t->g, name, t->dtype, 1, n, (wr_init){WR_INIT_UNIFORM, -1, 1});
    return wr_state(t->g, name, t->dtype, 1, n, (wr_init){0});
}

static void feed_names(char name[PARAMS][16]) {
    for (int k = 0; k < PARAMS; k++)
        snprintf(name[k], sizeof name[k], "g%d", k);
}

/* Sums of gradients, then Adam by them. */
static training training_new(wr_dtype dtype, const wr_adam_options *o) {
    static wr sums[1 + 2 * PARAMS], in[WR_ADAM_HEAD + 5 * PARAMS];
    char name[PARAMS][16];
    training t = {.g = wr_graph_new(), .dtype = dtype, .n = o->amsgrad ? PARAMS : LARGE};
    const int n_params = t.n;
    feed_names(name);
    sums[WR_ACCUMULATE_KEEP] = wr_input(t.g, "keep", WR_F64, 0, NULL);
    for (int k = 0; k < n_params; k++) {
        wr_dim n[1] = {wr_n(size_of(k))};
        sums[1 + k] = wr_input(t.g, name[k], dtype, 1, n);
        sums[1 + n_params + k] = kept(&t, "s", k);
        in[WR_ADAM_HEAD + k] = sums[1 + k];
        in[WR_ADAM_HEAD + n_params + k] = kept(&t, "w", k);
        in[WR_ADAM_HEAD + 2 * n_params + k] = kept(&t, "m", k);
        in[WR_ADAM_HEAD + 3 * n_params + k] = kept(&t, "v", k);
        if (o->amsgrad) in[WR_ADAM_HEAD + 4 * n_params + k] = kept(&t, "t", k);
    }
    wr summed = wr_accumulate(1 + 2 * n_params, sums);
    in[WR_ADAM_LR] = wr_input(t.g, "lr", WR_F64, 0, NULL);
    in[WR_ADAM_SCALE] = wr_input(t.g, "scale", WR_F32, 0, NULL);
    in[WR_ADAM_NORM] = wr_global_norm(n_params, in + WR_ADAM_HEAD);
    in[WR_ADAM_STEP] = wr_state(t.g, "step", WR_I32, 0, NULL, (wr_init){0});
    wr adam = wr_adam(o, WR_ADAM_HEAD + (o->amsgrad ? 5 : 4) * n_params, in);
    wr outputs[4] = {adam, wr_output(adam, 1), summed, in[WR_ADAM_NORM]};
    must(wr_program_new(t.g, 4, outputs, NULL, &t.program, err));
    for (int k = 0; k < n_params; k++) {
        t.grad[k] = malloc((size_t)size_of(k) * wr_dtype_bytes(dtype));
        assert_non_null(t.grad[k]);
    }
    return t;
}

static void training_free(training *t) {
    for (int k = 0; k < t->n; k++)
        free(t->grad[k]);
    wr_program_free(t->program);
    wr_graph_free(t->g);
}

static void draw_gradients(training *t, int step) {
    for (int k = 0; k < t->n; k++)
        for (int64_t i = 0; i < size_of(k); i++) {
            float x = (float)((i * 37 + k * 11 + step * 101) % 97) / 97.0f - 0.5f;
            if (t->dtype == WR_F32)
                ((float *)t->grad[k])[i] = x;
            else
                ((double *)t->grad[k])[i] = (double)x;
        }
}

static wr_status run_training(training *t, wr_session *s, double lr, double keep, wr_error *err) {
    static wr_feed feed[PARAMS + 3];
    char name[PARAMS][16];
    float scale = 0.5f;
    feed_names(name);
    for (int k = 0; k < t->n; k++)
        feed[k] = (wr_feed){.name = name[k], .data = t->grad[k], .rank = 1, .dim = {size_of(k)}};
    feed[t->n] = (wr_feed){.name = "lr", .data = &lr};
    feed[t->n + 1] = (wr_feed){.name = "scale", .data = &scale};
    feed[t->n + 2] = (wr_feed){.name = "keep", .data = &keep};
    return wr_session_run(s, t->program, t->n + 3, feed, err);
}

static wr_session *session_on(const char *device) {
    wr_session *s;
    must(wr_session_new(&(wr_session_options){.device = device, .threads = 1, .seed = 7}, &s, err));
    return s;
}

static double element(const void *x, wr_dtype t, int64_t i) {
    return t == WR_F32 ? (double)((const float *)x)[i] : ((const double *)x)[i];
}

/* The largest difference of stored tensors of two sessions (some of the small ones), relative to
 * 0.1 and up. */
static double stored_gap(const training *t, wr_session *a, wr_session *b, bool amsgrad) {
    static double x[20001], y[20001];
    double worst = 0;
    for (int k = 0; k < t->n; k += k < LARGE ? 1 : 27)
        for (const char *what = amsgrad ? "swmvt" : "swmv"; *what != 0; what++) {
            char name[24];
            snprintf(name, sizeof name, "%c%d", *what, k);
            must(wr_session_read(a, wr_session_find(a, name), x, err));
            must(wr_session_read(b, wr_session_find(b, name), y, err));
            for (int64_t i = 0; i < size_of(k); i++) {
                double p = element(x, t->dtype, i), q = element(y, t->dtype, i);
                worst = fmax(worst, fabs(p - q) / (0.1 + fabs(q)));
            }
        }
    return worst;
}

static const wr_adam_options KINDS[] = {
    {.beta1 = 0.9, .beta2 = 0.98, .eps = 1e-2, .clip_norm = 1, .weight_decay = 0.1},
    {.beta1 = 0.9,
     .beta2 = 0.7,
     .eps = 1e-2,
     .decoupled = true,
     .weight_decay = 0.2,
     .amsgrad = true,
     .raw_eps = true},
};

/* One session after the other: the emulator's device memory costs by the number of its pieces. */
static double check_schedule(training *t, wr_session *cpu, const wr_adam_options *o, double error) {
    wr_session *cuda = session_on("cuda");
    wr_error err = {0};
    for (int step = 0; step < 4; step++) {
        draw_gradients(t, step);
        if (run_training(t, cuda, 0.1 / (1 + step), step == 0 ? 0 : 0.5, &err) != WR_OK)
            fail_msg("%s", err.text);
    }
    for (int k = 0; k < 4; k++)
        assert_true(test_difference(wr_session_output(cuda, k), wr_session_output(cpu, k)) <=
                    error);
    double gap = stored_gap(t, cuda, cpu, o->amsgrad);
    if (!(gap <= error)) fail_msg("updates are %g from the CPU's", gap);
    wr_session_free(cuda);
    return gap;
}

static void check_updates(const wr_adam_options *o, wr_dtype dtype, double error) {
    training t = training_new(dtype, o);
    wr_session *cpu = session_on(NULL);
    double gap[SCHEDULES];
    for (int step = 0; step < 4; step++) {
        draw_gradients(&t, step);
        must(run_training(&t, cpu, 0.1 / (1 + step), step == 0 ? 0 : 0.5, err));
    }
    for (int i = 0; i < SCHEDULES; i++) {
        set_schedule(i);
        gap[i] = check_schedule(&t, cpu, o, error);
        assert_true(gap[i] == gap[0]);
    }
    set_schedule(0);
    assert_string_equal(EMULATOR.message(), "");
    wr_session_free(cpu);
    training_free(&t);
}

static void test_updates(void **state) {
    (void)state;
    if (!EMULATED) skip();
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        check_updates(&KINDS[i], WR_F32, 1e-5);
        check_updates(&KINDS[i], WR_F64, 1e-11);
    }
}

/* Bad numbers are told with the node, and nothing is changed. */
static void test_refused(void **state) {
    (void)state;
    if (!EMULATED) skip();
    training t = training_new(WR_F32, &KINDS[0]);
    wr_session *cuda = session_on("cuda"), *cpu = session_on(NULL);
    draw_gradients(&t, 0);
    must(run_training(&t, cuda, 0.1, 0, err));
    must(run_training(&t, cpu, 0.1, 0, err));
    wr_error err = {0};
    assert_int_equal(run_training(&t, cuda, -1, 1, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "learning rate"));
    err = (wr_error){0};
    assert_int_equal(run_training(&t, cuda, 0.1, INFINITY, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "keep is not a finite number"));
    assert_string_equal(EMULATOR.message(), "");
    wr_session_free(cuda);
    wr_session_free(cpu);
    training_free(&t);
}

/* The gradient of a is b and the other way round: neither may be overwritten before it is read. */
static void test_gradients_that_are_written(void **state) {
    (void)state;
    if (!EMULATED) skip();
    enum { N = 4097 };
    static double before[2][N], m[N];
    static const char *const NAMES[] = {"a", "b", "ma", "mb", "va", "vb"};
    wr_graph *g = wr_graph_new();
    wr_dim n[1] = {wr_n(N)};
    wr in[WR_ADAM_HEAD + 8];
    in[WR_ADAM_LR] = wr_input(g, "lr", WR_F64, 0, NULL);
    in[WR_ADAM_SCALE] = wr_input(g, "scale", WR_F64, 0, NULL);
    in[WR_ADAM_STEP] = wr_state(g, "step", WR_I32, 0, NULL, (wr_init){0});
    for (int k = 0; k < 6; k++)
        in[WR_ADAM_HEAD + 2 + k] =
            k < 2 ? wr_param(g, NAMES[k], WR_F64, 1, n, (wr_init){WR_INIT_UNIFORM, 1, 2})
                  : wr_state(g, NAMES[k], WR_F64, 1, n, (wr_init){0});
    in[WR_ADAM_HEAD] = in[WR_ADAM_HEAD + 3];
    in[WR_ADAM_HEAD + 1] = in[WR_ADAM_HEAD + 2];
    in[WR_ADAM_NORM] = wr_global_norm(2, in + WR_ADAM_HEAD);
    wr_adam_options o = {.beta1 = 0.5, .beta2 = 0.98, .eps = 1e-9};
    wr done = wr_adam(&o, WR_ADAM_HEAD + 8, in);
    wr_program *p;
    must(wr_program_new(g, 1, &done, NULL, &p, err));
    wr_session *s = session_on("cuda");
    must(wr_session_prepare(s, p, err));
    for (int k = 0; k < 2; k++)
        must(wr_session_read(s, wr_session_find(s, NAMES[k]), before[k], err));
    double lr = 0.25, scale = 1;
    wr_feed feed[] = {{.name = "lr", .data = &lr}, {.name = "scale", .data = &scale}};
    must(wr_session_run(s, p, 2, feed, err));
    for (int k = 0; k < 2; k++) {
        must(wr_session_read(s, wr_session_find(s, NAMES[2 + k]), m, err));
        for (int64_t i = 0; i < N; i++)
            assert_true(m[i] == 0.5 * before[1 - k][i]);
    }
    assert_string_equal(EMULATOR.message(), "");
    wr_session_free(s);
    wr_program_free(p);
    wr_graph_free(g);
}

static void test_assign(void **state) {
    (void)state;
    if (!EMULATED) skip();
    float x[33], back[33];
    wr_graph *g = wr_graph_new();
    wr_dim n[1] = {wr_n(33)};
    wr given = wr_input(g, "x", WR_F32, 1, n);
    wr kept_state = wr_state(g, "kept", WR_F32, 1, n, (wr_init){0});
    wr set = wr_assign_at(WR_HERE, kept_state, wr_scale(given, 2));
    wr_program *p;
    must(wr_program_new(g, 1, &set, NULL, &p, err));
    wr_session *s = session_on("cuda");
    for (int run = 0; run < 4; run++) {
        for (int i = 0; i < 33; i++)
            x[i] = (float)(i + 100 * run);
        wr_feed feed = {.name = "x", .data = x, .rank = 1, .dim = {33}};
        must(wr_session_run(s, p, 1, &feed, err));
        must(wr_session_read(s, wr_session_find(s, "kept"), back, err));
        for (int i = 0; i < 33; i++)
            assert_true(back[i] == 2 * x[i]);
    }
    wr_session_free(s);
    wr_program_free(p);
    wr_graph_free(g);
}

int main(void) {
    EMULATED = test_cuda_open(&EMULATOR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_bits), cmocka_unit_test(test_many_normals),
        cmocka_unit_test(test_attention),   cmocka_unit_test(test_sorting),
        cmocka_unit_test(test_ties),        cmocka_unit_test(test_updates),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_gradients_that_are_written),
        cmocka_unit_test(test_assign)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
