/* test_cuda_session.c: the CUDA executor on the emulated device: replay, memory that moves, feeds,
 * loops, rows on the host, failures told late, and memory that is out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/grad.h"
#include "graph/session.h"
#include "helpers/cuda.h"
#include "ops/elementwise.h"
#include "ops/fuse.h"
#include "graph/plan.h"
#include "ops/host.h"
#include "ops/index.h"
#include "ops/matmul.h"
#include "ops/random_ops.h"
#include "ops/reduce.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static test_cuda EMULATOR;
static bool EMULATED;

static wr_session *open_session(wr_session_options o) {
    wr_error err = {0};
    wr_session *s = NULL;
    o.threads = 1;
    if (wr_session_new(&o, &s, &err) != WR_OK) fail_msg("%s", err.text);
    return s;
}

/* loss = sum(tanh(x W)^2) and its gradient for W, x [B, 3], W [3, 5]. */
typedef struct model {
    wr_graph *g;
    wr_program *program;
} model;

static model make_model(void) {
    model m = {.g = wr_graph_new()};
    wr_error err = {0};
    wr_dim B = wr_sym(m.g, "B", 1, 100000, 1);
    wr x = wr_input(m.g, "x", WR_F32, WR_DIMS(B, wr_n(3)));
    wr w = wr_param(m.g, "W", WR_F32, WR_DIMS(wr_n(3), wr_n(5)), ((wr_init){WR_INIT_NORMAL, 0, 1}));
    wr loss = wr_sum_all(wr_square(wr_tanh(wr_matmul(x, w)))), grad;
    assert_true(wr_grad(loss, 1, &w, &grad));
    wr outputs[2] = {loss, grad};
    if (wr_program_new(m.g, 2, outputs, wr_standard_passes(), &m.program, &err) != WR_OK)
        fail_msg("%s", err.text);
    return m;
}

static void free_model(model *m) {
    wr_program_free(m->program);
    wr_graph_free(m->g);
}

static void fill(float *x, int64_t n, int seed) {
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)((i * 37 + seed * 101) % 97) / 97.0f - 0.5f;
}

static void run(wr_session *s, wr_program *p, const float *x, int64_t rows) {
    wr_error err = {0};
    wr_feed feed = {.name = "x", .data = x, .rank = 2, .dim = {rows, 3}};
    if (wr_session_run(s, p, 1, &feed, &err) != WR_OK) fail_msg("%s", err.text);
}

static void compare(wr_session *cuda, wr_session *cpu, int n) {
    for (int k = 0; k < n; k++) {
        const wr_tensor *a = wr_session_output(cuda, k), *b = wr_session_output(cpu, k);
        assert_int_equal(a->n, b->n);
        for (int64_t i = 0; i < a->n; i++) {
            double x = (double)((const float *)a->data)[i], y = (double)((const float *)b->data)[i];
            if (!(fabs(x - y) <= 1e-5 * (1 + fabs(y))))
                fail_msg("output %d element %lld: %g, by the CPU %g", k, (long long)i, x, y);
        }
    }
    assert_string_equal(EMULATOR.message(), "");
}

/* Batches of changing sizes and values; plans are replayed, and captured anew when the arena moves.
 */
static void test_replay(void **state) {
    (void)state;
    if (!EMULATED) skip();
    static const int64_t ROWS[] = {4, 4, 4, 4, 900, 4, 900, 4, 4, 900, 900, 4};
    static float x[900 * 3];
    for (int schedule = CU_EMU_IN_ORDER; schedule <= CU_EMU_RANDOM; schedule++) {
        EMULATOR.schedule((enum cu_emu_schedule)schedule, 7);
        model m = make_model();
        wr_session *cuda = open_session((wr_session_options){.device = "cuda", .seed = 3});
        wr_session *cpu = open_session((wr_session_options){.seed = 3});
        assert_string_equal(wr_session_device(cuda), "cuda");
        uint64_t graphs = EMULATOR.counts().graphs;
        for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
            fill(x, ROWS[i] * 3, (int)i);
            run(cuda, m.program, x, ROWS[i]);
            run(cpu, m.program, x, ROWS[i]);
            compare(cuda, cpu, 2);
        }
        if (!EMULATOR.real) assert_true(EMULATOR.counts().graphs >= graphs + 7);
        wr_session_free(cuda);
        wr_session_free(cpu);
        free_model(&m);
    }
    EMULATOR.schedule(CU_EMU_IN_ORDER, 0);
}

/* What the host writes between replays is what the next one reads; deferred runs keep their order.
 */
static void test_writes(void **state) {
    (void)state;
    if (!EMULATED) skip();
    static float x[7 * 3], w[15], back[15];
    EMULATOR.schedule(CU_EMU_REVERSED, 0); /* streams work when somebody waits, not before */
    model m = make_model();
    wr_session_options o = {.device = "cuda", .seed = 3, .deferred = true};
    wr_session *cuda = open_session(o), *cpu = open_session((wr_session_options){.seed = 3});
    wr_error err = {0};
    for (int i = 0; i < 6; i++) {
        fill(x, 7 * 3, i);
        run(cuda, m.program, x, 7);
        run(cpu, m.program, x, 7);
        memset(x, 0xff, sizeof x); /* a feed is read before its run returns */
        if (i % 2 == 1) compare(cuda, cpu, 2);
        fill(w, 15, i + 50);
        assert_int_equal(wr_session_write(cuda, wr_session_find(cuda, "W"), w, &err), WR_OK);
        assert_int_equal(wr_session_write(cpu, wr_session_find(cpu, "W"), w, &err), WR_OK);
        assert_int_equal(wr_session_read(cuda, wr_session_find(cuda, "W"), back, &err), WR_OK);
        assert_memory_equal(w, back, sizeof w);
    }
    assert_int_equal(wr_session_wait(cuda, &err), WR_OK);
    wr_session_free(cuda);
    wr_session_free(cpu);
    free_model(&m);
    EMULATOR.schedule(CU_EMU_IN_ORDER, 0);
}

/* Scalars of a run are read when the next run has been given, also when nobody has waited. */
static void test_kept(void **state) {
    (void)state;
    if (!EMULATED) skip();
    static float x[7 * 3];
    wr_graph *g = wr_graph_new();
    wr in = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(7), wr_n(3)));
    wr out[2] = {wr_sum_all(in), wr_sum_all(wr_cast(in, WR_F64))};
    wr_program *p = NULL;
    wr_error err = {0};
    if (wr_program_new(g, 2, out, wr_standard_passes(), &p, &err) != WR_OK)
        fail_msg("%s", err.text);
    for (int schedule = CU_EMU_IN_ORDER; schedule <= CU_EMU_RANDOM; schedule++) {
        EMULATOR.schedule((enum cu_emu_schedule)schedule, 5);
        wr_session *s[2] = {open_session((wr_session_options){.device = "cuda", .deferred = true}),
                            open_session((wr_session_options){.device = "cpu"})};
        assert_int_equal(wr_session_keep(s[0], 0, 1, &err), WR_ERR_USAGE); /* nothing ran */
        for (int i = 0; i < 6; i++)
            for (int k = 0; k < 2; k++) {
                double got[2] = {0};
                x[0] = (float)(10 * i) + 0.5F;
                run(s[k], p, x, 7);
                wr_error no = {0};
                assert_int_equal(wr_session_keep(s[k], 2, 2, &no), WR_ERR_USAGE);
                assert_int_equal(wr_session_keep(s[k], 0, 3, &no), WR_ERR_USAGE);
                err = (wr_error){0};
                assert_int_equal(wr_session_keep(s[k], i % 2, 2, &err), WR_OK);
                if (i == 0) continue;
                assert_int_equal(wr_session_kept(s[k], 1 - i % 2, got, &err), WR_OK);
                assert_true(got[0] == 10 * (i - 1) + 0.5 && got[1] == got[0]);
            }
        wr_session_free(s[0]);
        wr_session_free(s[1]);
    }
    EMULATOR.schedule(CU_EMU_IN_ORDER, 0);
    assert_string_equal(EMULATOR.message(), "");
    wr_program_free(p);
    wr_graph_free(g);
}

/* Timing every step changes no value; switched off, the plan is replayed again. */
static void test_profile(void **state) {
    (void)state;
    if (!EMULATED) skip();
    static float x[7 * 3];
    model m = make_model();
    wr_session *cuda = open_session((wr_session_options){.device = "cuda", .seed = 3});
    wr_session *cpu = open_session((wr_session_options){.seed = 3});
    uint64_t graphs = 0;
    for (int i = 0; i < 8; i++) {
        if (i == 3) assert_true(wr_session_launches(cuda) >= wr_session_plan(cuda)->n_steps);
        if (i == 3 || i == 5) wr_session_profile(cuda, i == 3);
        if (i == 3) graphs = EMULATOR.counts().graphs;
        fill(x, 7 * 3, i);
        run(cuda, m.program, x, 7);
        run(cpu, m.program, x, 7);
        compare(cuda, cpu, 2);
        const wr_plan *plan = wr_session_plan(cuda);
        for (int k = 0; k < plan->n_steps; k++)
            assert_true(i == 3 || i == 4 ? plan->step[k].seconds > 0 : plan->step[k].seconds == 0);
        if (i == 4) assert_int_equal(EMULATOR.counts().graphs, graphs);
    }
    if (!EMULATOR.real) assert_true(EMULATOR.counts().graphs > graphs);
    wr_session_free(cuda);
    wr_session_free(cpu);
    free_model(&m);
}

/* ---- rows on the host ---- */

static bool same_shape(void *context, wr_graph *g, int n_in, const wr_type *in, wr_type *out,
                       const char **why) {
    (void)context;
    (void)g;
    (void)n_in;
    (void)why;
    out[0] = in[0];
    return true;
}

static wr_status add_one(void *context, int n_in, const wr_tensor *in, int n_out,
                         const wr_tensor *out, int threads, wr_error *err) {
    (void)n_in;
    (void)n_out;
    (void)threads;
    const float *x = in[0].data;
    for (int64_t i = 0; i < in[0].n; i++)
        ((float *)out[0].data)[i] = x[i] + 1;
    ++*(int *)context;
    return x[0] > 100 ? wr_fail(err, WR_ERR_INPUT, "too large") : WR_OK;
}

static void test_host_rows(void **state) {
    (void)state;
    if (!EMULATED) skip();
    for (int deferred = 0; deferred < 2; deferred++) {
        int calls = 0;
        wr_host_fn fn = {
            .name = "one more", .n_out = 1, .context = &calls, .shape = same_shape, .run = add_one};
        wr_graph *g = wr_graph_new();
        wr x = wr_input(g, "x", WR_F32, WR_DIMS(wr_n(2), wr_n(3))), y = wr_scale(x, 2);
        wr out = wr_square(wr_host(&fn, 1, &y));
        wr_program *p = NULL;
        wr_error err = {0};
        assert_int_equal(wr_program_new(g, 1, &out, wr_standard_passes(), &p, &err), WR_OK);
        wr_session *s = open_session((wr_session_options){.device = "cuda", .deferred = deferred});
        float data[6] = {0};
        uint64_t graphs = EMULATOR.counts().graphs;
        for (int i = 0; i < 4; i++) {
            data[5] = (float)i;
            run(s, p, data, 2);
            const float *got = wr_session_output(s, 0)->data;
            assert_true(got[0] == 1.0f && got[5] == (float)((2 * i + 1) * (2 * i + 1)));
        }
        assert_int_equal(calls, 4);
        if (!EMULATOR.real) assert_int_equal(EMULATOR.counts().graphs, graphs + 3);
        data[0] = 1000; /* the function fails: told once, with the node's line */
        wr_feed feed = {.name = "x", .data = data, .rank = 2, .dim = {2, 3}};
        wr_status status = wr_session_run(s, p, 1, &feed, &err);
        if (deferred) assert_int_equal(status, WR_OK);
        if (deferred) status = wr_session_wait(s, &err);
        assert_int_equal(status, WR_ERR_INPUT);
        assert_non_null(strstr(err.text, "too large"));
        assert_non_null(strstr(err.text, "test_cuda_session.c:"));
        data[0] = 0;
        run(s, p, data, 2);
        assert_true(((const float *)wr_session_output(s, 0)->data)[0] == 1.0f);
        wr_session_free(s);
        wr_program_free(p);
        wr_graph_free(g);
    }
}

/* ---- refusals ---- */

static void test_out_of_memory(void **state) {
    (void)state;
    if (!EMULATED || EMULATOR.real) skip();
    enum { ROWS = 30000 };
    float *x = calloc(ROWS * 3, sizeof *x);
    assert_non_null(x);
    model m = make_model();
    wr_session *s = open_session((wr_session_options){.device = "cuda"});
    wr_error err = {0};
    run(s, m.program, x, 4);
    EMULATOR.quiet(1);
    EMULATOR.memory(5 << 20);
    wr_feed feed = {.name = "x", .data = x, .rank = 2, .dim = {ROWS, 3}};
    assert_int_equal(wr_session_run(s, m.program, 1, &feed, &err), WR_ERR_MEMORY);
    assert_non_null(strstr(err.text, "at its peak"));
    assert_non_null(strstr(err.text, "[B, 5]"));
    assert_non_null(strstr(err.text, "data.max_tokens"));
    EMULATOR.memory((size_t)4 << 30);
    EMULATOR.clear();
    EMULATOR.quiet(0);
    run(s, m.program, x, ROWS); /* and goes on when there is room */
    wr_session_free(s);
    free_model(&m);
    free(x);
}

/* An index that only the device sees: the message names the node; the session goes on. */
static void test_fault(void **state) {
    (void)state;
    if (!EMULATED) skip();
    wr_graph *g = wr_graph_new();
    wr ids = wr_input(g, "ids", WR_I32, WR_DIMS(wr_n(5)));
    wr table =
        wr_param(g, "table", WR_F32, WR_DIMS(wr_n(7), wr_n(3)), ((wr_init){WR_INIT_NORMAL, 0, 1}));
    wr out = wr_sum_all(wr_named(wr_gather(table, ids), "words"));
    wr_program *p = NULL;
    wr_error err = {0};
    assert_int_equal(wr_program_new(g, 1, &out, wr_standard_passes(), &p, &err), WR_OK);
    for (int deferred = 0; deferred < 2; deferred++) {
        wr_session *s = open_session((wr_session_options){.device = "cuda", .deferred = deferred});
        int32_t id[5] = {0, 6, 3, 2, 1};
        wr_feed feed = {.name = "ids", .data = id, .rank = 1, .dim = {5}};
        for (int i = 0; i < 3; i++)
            assert_int_equal(wr_session_run(s, p, 1, &feed, &err), WR_OK);
        id[2] = 7;
        wr_status status = wr_session_run(s, p, 1, &feed, &err);
        if (deferred) assert_int_equal(status, WR_OK);
        if (deferred) status = wr_session_wait(s, &err);
        assert_int_equal(status, WR_ERR_INPUT);
        assert_non_null(strstr(err.text, "index 7 is not in 0 .. 7 - 1"));
        assert_non_null(strstr(err.text, "words"));
        assert_non_null(strstr(err.text, "test_cuda_session.c"));
        err = (wr_error){0};
        id[2] = 6;
        assert_int_equal(wr_session_run(s, p, 1, &feed, &err), WR_OK);
        assert_int_equal(wr_session_wait(s, &err), WR_OK);
        wr_session_free(s);
    }
    wr_program_free(p);
    wr_graph_free(g);
}

/* Random numbers change with the step, also when a captured graph is replayed. */
static void test_random(void **state) {
    (void)state;
    if (!EMULATED) skip();
    wr_graph *g = wr_graph_new();
    wr out = wr_uniform(g, 0.0, 1.0, WR_F32, WR_DIMS(wr_n(1000)));
    wr_program *p = NULL;
    wr_error err = {0};
    assert_int_equal(wr_program_new(g, 1, &out, NULL, &p, &err), WR_OK);
    wr_session *cuda = open_session((wr_session_options){.device = "cuda", .seed = 9});
    wr_session *cpu = open_session((wr_session_options){.seed = 9});
    for (uint64_t step = 0; step < 5; step++) {
        wr_session_set_step(cuda, step << 30);
        wr_session_set_step(cpu, step << 30);
        assert_int_equal(wr_session_run(cuda, p, 0, NULL, &err), WR_OK);
        assert_int_equal(wr_session_run(cpu, p, 0, NULL, &err), WR_OK);
        assert_memory_equal(wr_session_output(cuda, 0)->data, wr_session_output(cpu, 0)->data,
                            1000 * sizeof(float));
    }
    if (!EMULATOR.real) assert_true(EMULATOR.counts().graphs > 0);
    wr_session_free(cuda);
    wr_session_free(cpu);
    wr_program_free(p);
    wr_graph_free(g);
}

static void expect_refusal(const char *library, const char *what, const char *hint) {
    char before[4096];
    const char *now = getenv("WEIR_CUDA_LIBRARY");
    snprintf(before, sizeof before, "%s", now == NULL ? "" : now);
    if (library != NULL)
        setenv("WEIR_CUDA_LIBRARY", library, 1);
    else
        unsetenv("WEIR_CUDA_LIBRARY");
    wr_error err = {0};
    wr_session *s = NULL;
    assert_int_equal(wr_session_new(&(wr_session_options){.device = "cuda"}, &s, &err),
                     WR_ERR_INPUT);
    assert_null(s);
    assert_non_null(strstr(err.text, what));
    assert_non_null(strstr(err.text, hint));
    s = open_session((wr_session_options){.device = "auto"});
    assert_string_equal(wr_session_device(s), "cpu");
    assert_non_null(strstr(wr_session_note(s), "running on the CPU: "));
    assert_null(strchr(wr_session_note(s), '\n'));
    wr_session_free(s);
    if (now != NULL) setenv("WEIR_CUDA_LIBRARY", before, 1);
}

static void test_missing(void **state) {
    (void)state;
    expect_refusal("/nowhere/libweir_cuda.so", "looked in: /nowhere/libweir_cuda.so",
                   "--device cpu");
    expect_refusal(WEIR_SOURCE_DIR "/README.md", "does not load", "libcublasLt");
    wr_error err = {0};
    wr_session *s = NULL;
    assert_int_equal(wr_session_new(&(wr_session_options){.device = "tpu"}, &s, &err),
                     WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "cpu, cuda and auto"));
    if (!EMULATED) return;
    s = open_session((wr_session_options){.device = "auto"});
    assert_string_equal(wr_session_device(s), "cuda");
    assert_string_equal(wr_session_note(s), "");
    wr_session_free(s);
    s = NULL;
    wr_session_options trap = {.device = "cuda", .trap_nan = true};
    err = (wr_error){0};
    assert_int_equal(wr_session_new(&trap, &s, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "--trap-nan"));
}

int main(void) {
    EMULATED = test_cuda_open(&EMULATOR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replay),    cmocka_unit_test(test_writes),
        cmocka_unit_test(test_profile),   cmocka_unit_test(test_kept),
        cmocka_unit_test(test_host_rows), cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_fault),     cmocka_unit_test(test_random),
        cmocka_unit_test(test_missing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
