/* test_checkpoint.c: safetensors files, damaged in every way; checkpoints; exact resumption, also
 * of runs that are killed. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helpers/alloc.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "optim/checkpoint.h"
#include "optim/optimizer.h"
#include "optim/safetensors.h"
#include "optim/schedule.h"

#define must(call)                                                                                 \
    do {                                                                                           \
        wr_error must_err = {0};                                                                   \
        wr_error *err = &must_err;                                                                 \
        if ((call) != WR_OK) fail_msg("%s", must_err.text);                                        \
    } while (0)

/* A folder of the test's own, and paths in it. */
typedef struct place {
    char dir[64], path[160], folder[96];
} place;

/* In memory where possible: saving syncs, which takes a disk's time. */
static int enter(void **state) {
    place *p = calloc(1, sizeof *p);
    if (p == NULL) return -1;
    snprintf(p->dir, sizeof p->dir, "/dev/shm/weir_checkpoint_XXXXXX");
    if (mkdtemp(p->dir) == NULL) {
        snprintf(p->dir, sizeof p->dir, "/tmp/weir_checkpoint_XXXXXX");
        if (mkdtemp(p->dir) == NULL) return -1;
    }
    snprintf(p->path, sizeof p->path, "%s/small.safetensors", p->dir);
    snprintf(p->folder, sizeof p->folder, "%s/run/checkpoints", p->dir);
    *state = p;
    return 0;
}

static int leave(void **state) {
    place *p = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", p->dir);
    int failed = system(command);
    free(p);
    return failed;
}

/* Without sync: the tests write thousands of files. */
static void put_file(const char *path, const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void *get_file(const char *path, size_t *n) {
    char *data;
    must(wr_file_read(path, &data, n, err));
    return data;
}

/* ---- safetensors ---- */

enum { SMALL = 5 };
static const float SMALL_A[3] = {1, -2, 0.5f};
static const double SMALL_B[4] = {1e300, -0.0, 3, 4};
static const int32_t SMALL_C[1] = {-7};
static const wr_safetensor SMALL_T[SMALL] = {
    {.name = "a", .dtype = WR_F32, .rank = 2, .dim = {1, 3}},
    {.name = "b \"quoted\" \xc3\xa4", .dtype = WR_F64, .rank = 3, .dim = {2, 1, 2}},
    {.name = "scalar", .dtype = WR_I32},
    {.name = "empty", .dtype = WR_F32, .rank = 2, .dim = {0, 5}},
    {.name = "again", .dtype = WR_F32, .rank = 1, .dim = {3}}};
static const wr_safetensors_meta SMALL_META[] = {{"format", "test"}, {"text", "{\"x\": [1]}\n"}};

static wr_status small_source(void *user, int index, void *to, wr_error *err) {
    (void)user;
    (void)err;
    if (index == 0 || index == 4) memcpy(to, SMALL_A, sizeof SMALL_A);
    if (index == 1) memcpy(to, SMALL_B, sizeof SMALL_B);
    if (index == 2) memcpy(to, SMALL_C, sizeof SMALL_C);
    return WR_OK;
}

static wr_status write_small(const char *path, wr_error *err) {
    return wr_safetensors_write(path, SMALL, SMALL_T, 2, SMALL_META, small_source, NULL, err);
}

static void check_tensor(const wr_safetensors *f, int index, const void *want, size_t n) {
    char got[64];
    int at = wr_safetensors_find(f, SMALL_T[index].name);
    assert_true(at >= 0);
    assert_true(wr_safetensor_alike(&f->tensor[at], &SMALL_T[index]));
    assert_int_equal(f->tensor[at].bytes, n);
    assert_int_equal(f->tensor[at].offset % wr_dtype_bytes(SMALL_T[index].dtype), 0);
    must(wr_safetensors_read(f, at, got, err));
    assert_memory_equal(got, want, n);
}

static void written_is_read(void **state) {
    place *p = *state;
    must(write_small(p->path, err));
    wr_safetensors f;
    must(wr_safetensors_open(p->path, &f, err));
    assert_int_equal(f.n, SMALL);
    check_tensor(&f, 0, SMALL_A, sizeof SMALL_A);
    check_tensor(&f, 1, SMALL_B, sizeof SMALL_B);
    check_tensor(&f, 2, SMALL_C, sizeof SMALL_C);
    check_tensor(&f, 3, SMALL_A, 0);
    check_tensor(&f, 4, SMALL_A, sizeof SMALL_A);
    assert_string_equal(wr_safetensors_meta_of(&f, "text"), SMALL_META[1].value);
    assert_null(wr_safetensors_meta_of(&f, "nothing"));
    assert_int_equal(wr_safetensors_find(&f, "nothing"), -1);
    wr_safetensors_close(&f);
}

/* A file as another program writes it: blanks, other order, no metadata. */
static void foreign_writers_are_read(void **state) {
    place *p = *state;
    char file[256] = {0};
    const char *header = " {\"y\":{\"data_offsets\":[4, 12],\"shape\":[2],\"dtype\":\"F32\"},\n"
                         "\"x\" : {\"dtype\":\"I32\", \"shape\":[], \"data_offsets\":[0,4.0]}}   ";
    uint64_t n = strlen(header + 1);
    memcpy(file, &n, 8);
    memcpy(file + 8, header + 1, n);
    int32_t x = 5;
    memcpy(file + 8 + n, &x, 4);
    put_file(p->path, file, 8 + n + 12);
    wr_safetensors f;
    must(wr_safetensors_open(p->path, &f, err));
    x = 0;
    must(wr_safetensors_read(&f, wr_safetensors_find(&f, "x"), &x, err));
    assert_int_equal(x, 5);
    wr_safetensors_close(&f);
}

static void expect_refusal(const place *p, const char *says) {
    wr_safetensors f;
    wr_error err = {0};
    wr_status status = wr_safetensors_open(p->path, &f, &err);
    if (status != WR_ERR_INPUT) fail_msg("status %d instead of: %s", status, says);
    if (strstr(err.text, p->path) == NULL || strstr(err.text, says) == NULL)
        fail_msg("no \"%s\" in: %s", says, err.text);
}

static void put_header(const place *p, const char *header, size_t data) {
    size_t n = strlen(header);
    char *file = calloc(1, 8 + n + data);
    uint64_t length = n;
    memcpy(file, &length, 8);
    memcpy(file + 8, header, n);
    put_file(p->path, file, 8 + n + data);
    free(file);
}

#define T(dtype, shape, place)                                                                     \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" place "}"

static void lies_are_refused(void **state) {
    place *p = *state;
    static const struct {
        const char *header;
        size_t data;
        const char *says;
    } lies[] = {
        {"{\"x\":" T("F32", "[2]", "[0,8]") "}", 7, "outside"},
        {"{\"x\":" T("F32", "[2]", "[0,8]") "}", 9, "behind its last"},
        {"{\"x\":" T("F32", "[2]", "[0,4]") "}", 8, "do not fit"},
        {"{\"x\":" T("F32", "[2]", "[8,0]") "}", 8, "outside"},
        {"{\"x\":" T("F32", "[2]", "[0,8,9]") "}", 8, "two whole numbers"},
        {"{\"x\":" T("F32", "[2]", "[-8,0]") "}", 8, "two whole numbers"},
        {"{\"x\":" T("F32", "[2]", "[0,1e999]") "}", 8, "two whole numbers"},
        {"{\"x\":" T("F32", "[2]", "[]") "}", 8, "two whole numbers"},
        {"{\"x\":" T("F32", "[1.5]", "[0,6]") "}", 6, "no whole number"},
        {"{\"x\":" T("F32", "[-1]", "[0,4]") "}", 4, "no whole number"},
        {"{\"x\":" T("F32", "[\"2\"]", "[0,8]") "}", 8, "no whole number"},
        {"{\"x\":" T("F32", "2", "[0,8]") "}", 8, "no list"},
        {"{\"x\":" T("F32", "[4294967296,4294967296]", "[0,0]") "}", 0, "do not fit"},
        {"{\"x\":" T("F32", "[9007199254740992,9007199254740992,0]", "[0,0]") "}", 0, "do not fit"},
        {"{\"x\":" T("F32", "[1,1,1,1,1,1]", "[0,4]") "}", 4, "more than 5 axes"},
        {"{\"x\":" T("F16", "[2]", "[0,4]") "}", 4, "allowed are F32"},
        {"{\"x\":" T("f32", "[1]", "[0,4]") "}", 4, "allowed are F32"},
        {"{\"x\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype is no text"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "not just"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[1]}}", 4, "two whole numbers"},
        {"{\"x\":7}", 0, "not just"},
        {"{\"x\":" T("F32", "[1]", "[0,4]") ",\"y\":" T("F32", "[1]", "[2,6]") "}", 6, "overlaps"},
        {"{\"x\":" T("F32", "[1]", "[0,4]") ",\"y\":" T("F32", "[1]", "[0,4]") "}", 4, "overlaps"},
        {"{\"x\":" T("F32", "[1]", "[0,4]") ",\"y\":" T("F32", "[1]", "[5,9]") "}", 9, "gap"},
        {"{\"x\":" T("F32", "[1]", "[0,4]") ",\"x\":" T("F32", "[1]", "[4,8]") "}", 8,
         "two tensors"},
        {"{\"__metadata__\":[1]}", 0, "no object"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "no text"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "two __metadata__"},
        {"{\"x\":" T("F32", "[1]", "[0,4]"), 4, "not JSON"},
        {"{\"x\":\"\\", 0, "not JSON"},
        {"{} x", 0, "behind the JSON"},
        {"[1,2]", 0, "begin with {"},
        {"{\"a\":{\"b\":[[0]]}}", 0, "nested too deeply"},
        {"{\"a\":[[[[[[[[[[[[[[[[[[[", 0, "nested too deeply"},
    };
    for (size_t k = 0; k < sizeof lies / sizeof *lies; k++) {
        put_header(p, lies[k].header, lies[k].data);
        expect_refusal(p, lies[k].says);
    }
}

static void false_header_lengths_are_refused(void **state) {
    place *p = *state;
    static const uint64_t lengths[] = {0, 1, 3, 1000, 1u << 31, UINT64_MAX, UINT64_MAX - 7};
    char file[40] = "........{}";
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        memcpy(file, &lengths[k], 8);
        put_file(p->path, file, 10);
        expect_refusal(p, "header has");
    }
    put_file(p->path, file, 9);
    expect_refusal(p, "too short");
    put_file(p->path, "", 0);
    expect_refusal(p, "too short");
    uint64_t n = 4;
    memcpy(file, &n, 8);
    memcpy(file + 8, "{\0}}", 4);
    put_file(p->path, file, 12);
    expect_refusal(p, "byte 0");

    size_t deep = 3 << 20; /* brackets alone */
    char *bomb = malloc(deep + 1);
    memset(bomb, '[', deep);
    bomb[0] = '{';
    bomb[deep] = '\0';
    put_header(p, bomb, 0);
    expect_refusal(p, "nested too deeply");
    free(bomb);
    snprintf(p->path, sizeof p->path, "%s", p->dir);
    expect_refusal(p, "not a file");
}

/* Open and read everything; whatever happens, it is an answer that names the file. */
static bool survives(const place *p) {
    wr_safetensors f;
    wr_error err = {0};
    wr_status status = wr_safetensors_open(p->path, &f, &err);
    if (status == WR_OK) {
        for (int k = 0; k < f.n; k++) {
            char *to = malloc(f.tensor[k].bytes + 1);
            assert_non_null(to);
            must(wr_safetensors_read(&f, k, to, err));
            free(to);
        }
        wr_safetensors_close(&f);
        return true;
    }
    if (strstr(err.text, p->path) == NULL) fail_msg("does not name the file: %s", err.text);
    assert_int_equal(status, WR_ERR_INPUT);
    return false;
}

static void damaged_files_never_crash(void **state) {
    place *p = *state;
    size_t n;
    must(write_small(p->path, err));
    unsigned char *good = get_file(p->path, &n), *bad = malloc(n + 1);
    for (size_t cut = 0; cut < n; cut++) {
        put_file(p->path, good, cut);
        assert_false(survives(p));
    }
    memcpy(bad, good, n);
    bad[n] = 0;
    put_file(p->path, bad, n + 1);
    assert_false(survives(p));
    size_t refused = 0, accepted = 0;
    static const unsigned char flips[] = {0x01, 0x02, 0x08, 0x20, 0x80, 0xff};
    for (size_t at = 0; at < n; at++)
        for (size_t k = 0; k < sizeof flips; k++) {
            memcpy(bad, good, n);
            bad[at] ^= flips[k];
            put_file(p->path, bad, n);
            *(survives(p) ? &accepted : &refused) += 1;
        }
    assert_true(refused > 1000 && accepted > 100);
    uint64_t rng = 5;
    for (int k = 0; k < 3000; k++) { /* several bytes at once, drawn from JSON's own */
        memcpy(bad, good, n);
        for (int i = 0; i < 1 + k % 6; i++) {
            rng = rng * 6364136223846793005u + 1442695040888963407u;
            bad[8 + (rng >> 33) % (n - 8)] =
                (unsigned char)"{}[]\",:\\0123456789-.eEut"[(rng >> 20) % 24];
        }
        put_file(p->path, bad, n);
        survives(p);
    }
    free(good);
    free(bad);
}

static void wrong_names_are_not_written(void **state) {
    place *p = *state;
    wr_safetensor t[2] = {SMALL_T[0], SMALL_T[0]};
    wr_error err = {0};
    assert_int_equal(wr_safetensors_write(p->path, 2, t, 0, NULL, small_source, NULL, &err),
                     WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "two tensors are named \"a\""));
    t[1].name = "__metadata__";
    err = (wr_error){0};
    assert_int_equal(wr_safetensors_write(p->path, 2, t, 0, NULL, small_source, NULL, &err),
                     WR_ERR_INPUT);
    assert_int_equal(access(p->path, F_OK), -1);
}

/* ---- a small model ---- */

enum { FEATURES = 6, HIDDEN = 9, BATCH = 4, BEST = 3 };

/* Hidden size `h`; `more` adds a parameter. */
static wr network_loss(wr_graph *g, int h, bool more) {
    wr_init init = {WR_INIT_NORMAL, 0, 0.5};
    wr_dim n[2] = {wr_n(BATCH), wr_n(FEATURES)};
    wr x = wr_input(g, "x", WR_F32, 2, n);
    wr w0 = wr_param(g, "enc.W", WR_F32, WR_DIMS(wr_n(FEATURES), wr_n(h)), init);
    wr b0 = wr_param(g, "enc.b", WR_F32, WR_DIMS(wr_n(h)), init);
    wr w1 = wr_param(g, "dec.W", WR_F32, WR_DIMS(wr_n(h), wr_n(FEATURES)), init);
    wr y = wr_matmul(wr_tanh(wr_add(wr_matmul(x, w0), b0)), w1);
    if (more) y = wr_mul(y, wr_param(g, "more", WR_F32, WR_DIMS(wr_n(FEATURES)), init));
    return wr_sum_all(wr_square(wr_sub(y, wr_tanh(x))));
}

/* A run: two batches an update, both programs, a schedule. */
typedef struct run {
    wr_graph *g[2];
    wr_program *program[2];
    wr_session *session;
    wr_progress progress;
} run;

static run run_new(int hidden, bool more) {
    run r = {.progress = {.seed = 3, .keep = BEST, .lower = true}};
    for (int k = 0; k < 2; k++) {
        wr_optimizer_options o = {.adam = {.beta1 = 0.9,
                                           .beta2 = 0.98,
                                           .eps = 1e-9,
                                           .clip_norm = 1,
                                           .weight_decay = 0.01,
                                           .decoupled = true,
                                           .amsgrad = true},
                                  .accumulate = true,
                                  .part = k == 0 ? WR_OPTIMIZER_UPDATE : WR_OPTIMIZER_ACCUMULATE};
        wr_optimizer made;
        r.g[k] = wr_graph_new();
        must(wr_optimizer_build(network_loss(r.g[k], hidden, more), &o, &made, err));
        must(wr_program_new(r.g[k], 1, &made.norm, NULL, &r.program[k], err));
    }
    must(wr_session_new(&(wr_session_options){.threads = 1, .seed = 3}, &r.session, err));
    return r;
}

static void run_free(run *r) {
    wr_session_free(r->session);
    for (int k = 0; k < 2; k++) {
        wr_program_free(r->program[k]);
        wr_graph_free(r->g[k]);
    }
}

static void draw_batch(int64_t batch, float *x) {
    uint64_t rng = (uint64_t)batch * 77777 + 1;
    for (int i = 0; i < BATCH * FEATURES; i++) {
        rng = rng * 6364136223846793005u + 1442695040888963407u;
        x[i] = (float)((double)(int64_t)rng * 0x1p-62);
    }
}

/* One update: batches 2 u and 2 u + 1. */
static void run_update(run *r) {
    static const wr_recipe_optim schedule = {
        .schedule = WR_RECIPE_INVERSE_SQRT, .lr = 0.03, .lr_start = 1e-3, .warmup = 5};
    double lr = wr_schedule_lr(&schedule, 100, r->progress.update), scale = 0.5 / BATCH;
    for (int k = 0; k < 2; k++) {
        float x[BATCH * FEATURES];
        double keep = k;
        draw_batch(r->progress.batch++, x);
        wr_feed feed[4] = {{.name = "x", .data = x, .rank = 2, .dim = {BATCH, FEATURES}},
                           {.name = WR_OPTIM_KEEP, .data = &keep},
                           {.name = WR_OPTIM_LR, .data = &lr},
                           {.name = WR_OPTIM_SCALE, .data = &scale}};
        must(wr_session_run(r->session, r->program[1 - k], 4, feed, err));
    }
    r->progress.update++;
    r->progress.seconds += 0.1;
    wr_session_set_step(r->session, (uint64_t)r->progress.update);
}

static wr_status resume(run *r, const char *folder, wr_error *err) {
    return wr_checkpoint_resume(folder, r->session, 2, r->program, &r->progress, err);
}

static bool is_sum(const char *name) { return strncmp(name, "optim.sum.", 10) == 0; }

/* The first tensor that differs between sessions (sums of gradients aside), NULL: none. */
static const char *difference(wr_session *a, wr_session *b) {
    for (int k = 0; k < wr_session_stored(a); k++) {
        const wr_stored *x = wr_session_stored_at(a, k);
        if (is_sum(x->name)) continue;
        int at = wr_session_find(b, x->name);
        if (at < 0) return x->name;
        const wr_stored *y = wr_session_stored_at(b, at);
        size_t n = (size_t)x->tensor.n * wr_dtype_bytes(x->tensor.dtype);
        if (x->trainable != y->trainable || x->tensor.n != y->tensor.n ||
            memcmp(x->tensor.data, y->tensor.data, n) != 0)
            return x->name;
    }
    return NULL;
}

static void expect_same(wr_session *a, wr_session *b) {
    const char *name = difference(a, b);
    if (name == NULL) name = difference(b, a);
    if (name != NULL) fail_msg("%s differs", name);
}

/* ---- resuming ---- */

static void resumed_run_is_the_same(void **state) {
    place *p = *state;
    run whole = run_new(HIDDEN, false), first = run_new(HIDDEN, false);
    for (int k = 0; k < 14; k++)
        run_update(&whole);
    for (int k = 0; k < 6; k++)
        run_update(&first);
    assert_false(wr_checkpoint_exists(p->folder));
    must(wr_checkpoint_save(p->folder, first.session, &first.progress, err));
    assert_true(wr_checkpoint_exists(p->folder));
    run_update(&first); /* lost */
    run_free(&first);

    run again = run_new(HIDDEN, false);
    must(resume(&again, p->folder, err));
    assert_int_equal(again.progress.update, 6);
    assert_int_equal(wr_session_step(again.session), 6);
    while (again.progress.update < 14)
        run_update(&again);
    expect_same(whole.session, again.session);
    assert_memory_equal(&whole.progress.seconds, &again.progress.seconds, sizeof(double));
    assert_int_equal(whole.progress.batch, again.progress.batch);
    run_free(&whole);
    run_free(&again);
}

/* Saved before the first update, when there are no states yet; and loaded over existing tensors. */
static void beginning_is_resumed(void **state) {
    place *p = *state;
    run a = run_new(HIDDEN, false), b = run_new(HIDDEN, false);
    for (int k = 0; k < 2; k++)
        must(wr_session_prepare(a.session, a.program[k], err));
    must(wr_checkpoint_save(p->folder, a.session, &a.progress, err));
    must(resume(&b, p->folder, err));
    for (int k = 0; k < 3; k++) {
        run_update(&a);
        run_update(&b);
    }
    expect_same(a.session, b.session);
    must(wr_checkpoint_save(p->folder, a.session, &a.progress, err));
    run_update(&b);
    must(resume(&b, p->folder, err));
    expect_same(a.session, b.session);
    run_free(&a);
    run_free(&b);
}

static bool has(const place *p, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", p->folder, name);
    return access(path, F_OK) == 0;
}

static void best_and_last_are_kept(void **state) {
    place *p = *state;
    run r = run_new(HIDDEN, false);
    static const double scores[] = {5, 3, 4, NAN, 2, 6, 3.5, 7};
    static const bool best[] = {true, true, false, false, true, false, false, false};
    for (int k = 0; k < 8; k++) {
        run_update(&r);
        assert_int_equal(wr_progress_note(&r.progress, scores[k]), best[k]);
        must(wr_checkpoint_save(p->folder, r.session, &r.progress, err));
    }
    assert_int_equal(r.progress.since_best, 3);
    assert_int_equal(r.progress.n_best, BEST);
    static const int64_t kept[BEST] = {5, 2, 7}; /* scores 2, 3, 3.5 */
    for (int k = 0; k < BEST; k++)
        assert_int_equal(r.progress.best[k].update, kept[k]);
    for (int u = 1; u <= 8; u++) {
        char name[64];
        snprintf(name, sizeof name, "step-%d.safetensors", u);
        assert_int_equal(has(p, name), u == 2 || u == 5 || u == 7 || u == 8);
        snprintf(name, sizeof name, "step-%d.state", u);
        assert_int_equal(has(p, name), u == 8);
    }
    static const char *const which[] = {"best", "last", "step-7"};
    static const char *const ends[] = {"step-5.safetensors", "step-8.safetensors",
                                       "step-7.safetensors"};
    for (int k = 0; k < 3; k++) {
        wr_str path = {0};
        must(wr_checkpoint_locate(p->folder, which[k], &path, err));
        assert_string_equal(wr_str_text(&path) + strlen(p->folder) + 1, ends[k]);
        wr_str_free(&path);
    }
    run_free(&r);
}

static void equal_scores_and_replaced_ones(void **state) {
    (void)state;
    wr_progress p = {.keep = 2, .update = 10};
    assert_true(wr_progress_note(&p, 1));
    p.update = 20;
    assert_false(wr_progress_note(&p, 1)); /* the earlier one stays ahead */
    assert_int_equal(p.best[0].update, 10);
    assert_true(wr_progress_note(&p, 2)); /* the same update again */
    assert_int_equal(p.n_best, 2);
    assert_int_equal(p.best[0].update, 20);
    p.update = 30;
    assert_false(wr_progress_note(&p, INFINITY));
    assert_int_equal(p.n_best, 2);
}

static void progress_is_read_as_written(void **state) {
    (void)state;
    wr_progress p = {.update = (int64_t)1 << 52,
                     .skipped = 3,
                     .epoch = 4,
                     .batch = 5,
                     .seed = UINT64_MAX,
                     .step = UINT64_MAX - 1,
                     .seconds = 0.1 + 0.2,
                     .since_best = 6,
                     .keep = 5,
                     .lower = true},
                q;
    for (int k = 0; k < 4; k++) {
        p.update++;
        wr_progress_note(&p, 1.0 / (3 + k));
    }
    wr_str text = {0};
    wr_progress_text(&p, &text);
    must(wr_progress_parse(wr_str_text(&text), "x", &q, err));
    assert_memory_equal(p.best, q.best, sizeof p.best);
    assert_true(p.update == q.update && p.seed == q.seed && p.step == q.step);
    assert_true(p.seconds == q.seconds && p.keep == q.keep && p.lower == q.lower);
    assert_true(p.n_best == q.n_best && p.since_best == q.since_best);
    assert_true(p.skipped == q.skipped && p.epoch == q.epoch && p.batch == q.batch);
    for (size_t cut = 0; cut < text.len; cut++) {
        wr_error err = {0};
        text.text[cut] = '\0';
        assert_int_equal(wr_progress_parse(text.text, "file.state", &q, &err), WR_ERR_INPUT);
        assert_non_null(strstr(err.text, "file.state"));
        wr_str_clear(&text);
        wr_progress_text(&p, &text);
    }
    wr_str_free(&text);
    static const char *const wrong[] = {"[]", "{}", "null", "7"};
    for (int k = 0; k < 4; k++)
        assert_int_equal(wr_progress_parse(wrong[k], "x", &q, NULL), WR_ERR_INPUT);
}

/* ---- wrong checkpoints ---- */

static void expect_in(const char *text, int n, const char *const *says) {
    for (int k = 0; k < n; k++)
        if (strstr(text, says[k]) == NULL) fail_msg("no \"%s\" in: %s", says[k], text);
}

static void other_models_are_refused(void **state) {
    place *p = *state;
    run small = run_new(HIDDEN, false), large = run_new(HIDDEN + 1, true);
    run_update(&small);
    run_update(&large);
    must(wr_checkpoint_save(p->folder, small.session, &small.progress, err));
    wr_str path = {0};
    must(wr_checkpoint_locate(p->folder, "last", &path, err));
    run other = run_new(HIDDEN + 1, true);
    wr_error err = {0};
    assert_int_equal(resume(&other, p->folder, &err), WR_ERR_INPUT);
    static const char *const says[] = {"1 missing:\n    more f32 [6]", "3 of another type or shape",
                                       "enc.W f32 [6, 10], in the file f32 [6, 9]",
                                       "step-1.safetensors"};
    expect_in(err.text, 4, says);
    assert_int_equal(wr_session_stored(other.session), 0); /* nothing was loaded */

    must(wr_checkpoint_save(p->folder, large.session, &large.progress, err));
    run third = run_new(HIDDEN + 1, false);
    err = (wr_error){0};
    assert_int_equal(resume(&third, p->folder, &err), WR_ERR_INPUT);
    static const char *const extra[] = {"1 not of the model:\n    more f32 [6]"};
    expect_in(err.text, 1, extra);
    must(wr_checkpoint_load(wr_str_text(&path), third.session, 2, third.program, true, err));
    err = (wr_error){0};
    assert_int_equal(
        wr_checkpoint_load(wr_str_text(&path), third.session, 2, third.program, false, &err),
        WR_ERR_INPUT);
    wr_str_free(&path);
    run_free(&small);
    run_free(&large);
    run_free(&other);
    run_free(&third);
}

static void damaged_folders_are_errors(void **state) {
    place *p = *state;
    run r = run_new(HIDDEN, false);
    run_update(&r);
    must(wr_checkpoint_save(p->folder, r.session, &r.progress, err));
    char last[128], states[128];
    snprintf(last, sizeof last, "%s/last", p->folder);
    snprintf(states, sizeof states, "%s/step-1.state", p->folder);
    static const char *const pointers[] = {"",
                                           "step-",
                                           "step-1x\n",
                                           "step--1\n",
                                           "step-1\nstep-2\n",
                                           "../step-1\n",
                                           "step-99999999999999999999\n"};
    for (size_t k = 0; k < sizeof pointers / sizeof *pointers; k++) {
        wr_error err = {0};
        put_file(last, pointers[k], strlen(pointers[k]));
        assert_int_equal(resume(&r, p->folder, &err), WR_ERR_INPUT);
        assert_non_null(strstr(err.text, last));
    }
    put_file(last, "step-7\n", 7);
    wr_error err = {0};
    assert_int_equal(resume(&r, p->folder, &err), WR_ERR_IO);
    assert_non_null(strstr(err.text, "step-7"));
    put_file(last, "step-1\n", 7);

    size_t n;
    char *good = get_file(states, &n);
    put_file(states, good, n / 2);
    err = (wr_error){0};
    assert_int_equal(resume(&r, p->folder, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, states));
    put_file(states, good, n);
    free(good);
    must(resume(&r, p->folder, err));

    r.progress.update = 2; /* the states of one checkpoint under the name of another */
    must(wr_checkpoint_save(p->folder, r.session, &r.progress, err));
    char other[128];
    snprintf(other, sizeof other, "%s/step-2.state", p->folder);
    r.progress.update = 1;
    must(wr_checkpoint_save(p->folder, r.session, &r.progress, err));
    good = get_file(states, &n);
    r.progress.update = 2;
    must(wr_checkpoint_save(p->folder, r.session, &r.progress, err));
    put_file(other, good, n);
    free(good);
    err = (wr_error){0};
    assert_int_equal(resume(&r, p->folder, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "not of one checkpoint"));
    wr_str path = {0};
    err = (wr_error){0};
    assert_int_equal(wr_checkpoint_locate(p->folder, "../best", &path, &err), WR_ERR_INPUT);
    assert_int_equal(wr_checkpoint_locate(p->folder, "average", &path, NULL), WR_ERR_IO);
    wr_str_free(&path);
    run_free(&r);
}

/* ---- averaging ---- */

static void average_is_the_mean(void **state) {
    place *p = *state;
    run r = run_new(HIDDEN, false);
    double sum[FEATURES * HIDDEN] = {0};
    int64_t updates[BEST];
    r.progress.lower = false;
    for (int k = 0; k < BEST; k++) {
        run_update(&r);
        updates[k] = r.progress.update;
        wr_progress_note(&r.progress, k);
        must(wr_checkpoint_save(p->folder, r.session, &r.progress, err));
        int at = wr_session_find(r.session, "enc.W");
        const float *w = wr_session_stored_at(r.session, at)->tensor.data;
        for (int i = 0; i < FEATURES * HIDDEN; i++)
            sum[i] += (double)w[i];
    }
    must(wr_checkpoint_average(p->folder, BEST, updates, err));
    wr_str path = {0};
    must(wr_checkpoint_locate(p->folder, "average", &path, err));
    must(wr_checkpoint_load(wr_str_text(&path), r.session, 2, r.program, false, err));
    int at = wr_session_find(r.session, "enc.W");
    const float *w = wr_session_stored_at(r.session, at)->tensor.data;
    for (int i = 0; i < FEATURES * HIDDEN; i++)
        assert_true(w[i] == (float)(sum[i] / BEST));
    wr_str_free(&path);

    updates[1] = 99;
    wr_error err = {0};
    assert_int_equal(wr_checkpoint_average(p->folder, BEST, updates, &err), WR_ERR_IO);
    assert_non_null(strstr(err.text, "step-99"));
    char name[160];
    snprintf(name, sizeof name, "%s/step-99.safetensors", p->folder);
    must(write_small(name, err));
    err = (wr_error){0};
    assert_int_equal(wr_checkpoint_average(p->folder, BEST, updates, &err), WR_ERR_INPUT);
    assert_non_null(strstr(err.text, "cannot be averaged"));
    run_free(&r);
}

/* ---- killed, full, out of memory ---- */

enum { KILLS = 25, REFERENCE = 2000 };

/* Resume if there is something, then train and save after every update until killed. */
static void train_until_killed(const char *folder) {
    run r = run_new(HIDDEN, false);
    if (wr_checkpoint_exists(folder) && resume(&r, folder, NULL) != WR_OK) _exit(1);
    while (r.progress.update < REFERENCE) {
        run_update(&r);
        wr_progress_note(&r.progress, (double)(r.progress.update % 7));
        if (wr_checkpoint_save(folder, r.session, &r.progress, NULL) != WR_OK) _exit(2);
    }
    _exit(0);
}

static void killed_runs_go_on(void **state) {
    place *p = *state;
    run reference = run_new(HIDDEN, false);
    int64_t killed_at = 0;
    for (int k = 0; k < KILLS && killed_at < REFERENCE; k++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) train_until_killed(p->folder);
        usleep((useconds_t)(4000 + 1731 * (k * 7 % KILLS)));
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
            fail_msg("the run failed to resume or to save (%d)", WEXITSTATUS(status));
        if (!wr_checkpoint_exists(p->folder)) continue;
        run r = run_new(HIDDEN, false);
        must(resume(&r, p->folder, err));
        assert_true(r.progress.update >= killed_at);
        killed_at = r.progress.update;
        while (reference.progress.update < killed_at)
            run_update(&reference);
        expect_same(reference.session, r.session);
        for (int i = 0; i < r.progress.n_best; i++) {
            char name[64];
            snprintf(name, sizeof name, "step-%d.safetensors", (int)r.progress.best[i].update);
            assert_true(has(p, name));
        }
        run_free(&r);
    }
    assert_true(killed_at > 0);
    run_free(&reference);
}

static rlim_t size_of(const place *p, const char *name) {
    char path[256];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", p->folder, name);
    assert_int_equal(stat(path, &st), 0);
    return (rlim_t)st.st_size;
}

/* A full disk, played by a limit on file sizes: an error, and the old checkpoint stays. */
static void full_disks_leave_the_old_one(void **state) {
    place *p = *state;
    run r = run_new(HIDDEN, false), again = run_new(HIDDEN, false);
    run_update(&r);
    must(wr_checkpoint_save(p->folder, r.session, &r.progress, err));
    rlim_t parameters = size_of(p, "step-1.safetensors"), states = size_of(p, "step-1.state");
    assert_true(states > parameters);
    rlim_t most[] = {3, 100, parameters - 1, parameters, states - 1};
    run_update(&r);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    for (size_t k = 0; k < sizeof most / sizeof *most; k++) {
        wr_error err = {0};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){most[k], before.rlim_max}), 0);
        wr_status status = wr_checkpoint_save(p->folder, r.session, &r.progress, &err);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(status, WR_ERR_IO);
        assert_non_null(strstr(err.text, strerror(EFBIG)));
        must(resume(&again, p->folder, err));
        assert_int_equal(again.progress.update, 1);
    }
    signal(SIGXFSZ, SIG_DFL);
    must(wr_checkpoint_save(p->folder, r.session, &r.progress, err));
    must(resume(&again, p->folder, err));
    expect_same(r.session, again.session);
    run_free(&r);
    run_free(&again);
}

static wr_status all_once(const place *p, run *r, wr_error *err) {
    wr_status status = wr_checkpoint_save(p->folder, r->session, &r->progress, err);
    int64_t updates[2] = {1, 1};
    if (status == WR_OK) status = wr_checkpoint_average(p->folder, 2, updates, err);
    wr_session *s = NULL;
    if (status == WR_OK) status = wr_session_new(&(wr_session_options){.threads = 1}, &s, err);
    wr_progress progress;
    if (status == WR_OK) status = wr_checkpoint_resume(p->folder, s, 2, r->program, &progress, err);
    if (s != NULL) wr_session_free(s);
    return status;
}

static void failed_allocations_are_reported(void **state) {
    place *p = *state;
    run r = run_new(HIDDEN, false);
    run_update(&r);
    wr_progress_note(&r.progress, 1);
    must(wr_checkpoint_save(p->folder, r.session, &r.progress, err));
    long n = 1;
    for (;; n++) {
        wr_error err = {0};
        wr_test_fail_allocation(n);
        wr_status status = all_once(p, &r, &err);
        if (!wr_test_allocation_failed()) {
            assert_int_equal(status, WR_OK);
            break;
        }
        /* without memory the folder is not synced after a rename, which is no failure */
        if (status != WR_ERR_MEMORY && status != WR_OK) fail_msg("%ld: %d %s", n, status, err.text);
        run again = run_new(HIDDEN, false);
        must(resume(&again, p->folder, err));
        run_free(&again);
    }
    assert_true(n > 50);
    run_free(&r);
}

#define test(f) cmocka_unit_test_setup_teardown(f, enter, leave)

int main(void) {
    const struct CMUnitTest tests[] = {
        test(written_is_read),
        test(foreign_writers_are_read),
        test(lies_are_refused),
        test(false_header_lengths_are_refused),
        test(damaged_files_never_crash),
        test(wrong_names_are_not_written),
        test(resumed_run_is_the_same),
        test(beginning_is_resumed),
        test(best_and_last_are_kept),
        test(equal_scores_and_replaced_ones),
        test(progress_is_read_as_written),
        test(other_models_are_refused),
        test(damaged_folders_are_errors),
        test(average_is_the_mean),
        test(killed_runs_go_on),
        test(full_disks_leave_the_old_one),
        test(failed_allocations_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
