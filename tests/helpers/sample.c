/* sample.c: see sample.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "helpers/sample.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers ---- */

static uint64_t next_bits(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double unit(uint64_t *state) { return (double)(next_bits(state) >> 11) * 0x1p-53; }

static double normal(uint64_t *state) {
    double radius = sqrt(-2.0 * log(1.0 - unit(state)));
    return radius * cos(6.283185307179586 * unit(state));
}

/* A quarter apart, in random order; inputs of one case take different quarters' parts, so that
 * values of different inputs are apart as well. */
static void draw_apart(test_input *x, uint64_t *state, int apart) {
    int64_t half = x->n / 2;
    for (int64_t i = 0; i < x->n; i++)
        x->value[i] = 0.25 * (double)(i - half) + 0.03 + 0.06 * (apart % 4);
    for (int64_t i = x->n - 1; i > 0; i--) {
        int64_t j = (int64_t)(next_bits(state) % (uint64_t)(i + 1));
        double swap = x->value[i];
        x->value[i] = x->value[j];
        x->value[j] = swap;
    }
}

static double draw_one(const test_input *x, int64_t i, uint64_t *state) {
    uint64_t limit = x->limit > 0 ? (uint64_t)x->limit : 1;
    switch (x->fill) {
    case WR_FILL_REAL:
        return normal(state);
    case WR_FILL_POSITIVE:
        return 0.5 + 1.5 * unit(state);
    case WR_FILL_UNIT:
        return 0.1001 + 0.7998 * unit(state);
    case WR_FILL_MASK:
        return unit(state) < 0.7 ? 1.0 : 0.0;
    case WR_FILL_INDEX:
        return (double)(next_bits(state) % limit);
    case WR_FILL_LENGTH:
        return i == 0 ? (double)x->limit : (double)(next_bits(state) % (limit + 1));
    case WR_FILL_APART:
        break;
    }
    return 0.0;
}

void test_input_draw(test_input *x, uint64_t seed, int apart) {
    uint64_t state = seed * 0x2545f4914f6cdd1du + 77;
    if (x->fill == WR_FILL_APART) draw_apart(x, &state, apart);
    for (int64_t i = 0; i < x->n && x->fill != WR_FILL_APART; i++)
        x->value[i] = draw_one(x, i, &state);
    for (int64_t i = 0; i < x->n; i++)
        x->value[i] = (double)(float)x->value[i];
    test_input_sync(x);
}

void test_input_sync(test_input *x) {
    for (int64_t i = 0; i < x->n; i++) {
        if (x->dtype == WR_F32) ((float *)x->data)[i] = (float)x->value[i];
        if (x->dtype == WR_F64) ((double *)x->data)[i] = x->value[i];
        if (x->dtype == WR_I32) ((int32_t *)x->data)[i] = (int32_t)x->value[i];
    }
}

bool test_input_is_smooth(const test_input *x) {
    return x->dtype != WR_I32 && x->fill != WR_FILL_MASK;
}

/* ---- cases ---- */

static wr sample_input(wr_sample *s, wr_fill fill, int64_t limit, int rank, const int64_t *dims) {
    return test_case_input((test_case *)(void *)s, fill, limit, rank, dims);
}

void test_case_begin(test_case *t, wr_dtype dtype, uint64_t seed, int variant) {
    memset(t, 0, sizeof *t);
    t->seed = seed;
    t->sample.g = wr_graph_new();
    t->sample.dtype = dtype;
    t->sample.rng = seed * 1000003u + (uint64_t)variant;
    t->sample.variant = variant;
    t->sample.input = sample_input;
    assert_non_null(t->sample.g);
}

void test_case_end(test_case *t) {
    for (int i = 0; i < t->n_inputs; i++) {
        free(t->input[i].value);
        free(t->input[i].data);
    }
    wr_graph_free(t->sample.g);
    t->sample.g = NULL;
    t->n_inputs = 0;
}

wr test_case_input_as(test_case *t, wr_fill fill, int64_t limit, int rank, const wr_dim *declared,
                      const int64_t *dims) {
    assert_true(t->n_inputs < TEST_INPUTS);
    test_input *x = &t->input[t->n_inputs];
    *x = (test_input){.fill = fill, .limit = limit, .rank = rank, .n = 1};
    snprintf(x->name, sizeof x->name, "x%d", t->n_inputs);
    bool whole = fill == WR_FILL_INDEX || fill == WR_FILL_LENGTH;
    x->dtype = whole ? WR_I32 : t->sample.dtype;
    for (int i = 0; i < rank; i++) {
        x->dim[i] = dims[i];
        x->n *= dims[i];
    }
    x->node = wr_input(t->sample.g, x->name, x->dtype, rank, declared);
    x->value = malloc(sizeof(double) * (size_t)(x->n + 1));
    x->data = calloc((size_t)(x->n + 1), sizeof(double));
    assert_non_null(x->value);
    assert_non_null(x->data);
    t->n_inputs++;
    test_input_draw(x, t->seed * 64 + (uint64_t)t->n_inputs, t->n_apart);
    if (fill == WR_FILL_APART) t->n_apart++;
    return x->node;
}

wr test_case_input(test_case *t, wr_fill fill, int64_t limit, int rank, const int64_t *dims) {
    wr_dim declared[WR_MAX_RANK] = {{0}};
    for (int i = 0; i < rank; i++)
        declared[i] = wr_n(dims[i]);
    return test_case_input_as(t, fill, limit, rank, declared, dims);
}

/* ---- programs ---- */

wr_program *test_program_of(wr_graph *g, int n, const wr *outputs, const wr_pass *const *passes) {
    wr_program *p;
    wr_error err = {0};
    if (wr_program_new(g, n, outputs, passes, &p, &err) != WR_OK) fail_msg("%s", err.text);
    wr_graph_free(g);
    return p;
}

void test_assert_report(const wr_graph *g, const char *part) {
    wr_str text = {0};
    wr_graph_report(g, &text);
    if (strstr(wr_str_text(&text), part) == NULL)
        fail_msg("\"%s\" is not in: %s", part, wr_str_text(&text));
    wr_str_free(&text);
}

void test_program_open(test_program *p, const test_case *t, int n_outputs, const wr *outputs,
                       const wr_pass *const *passes, int threads) {
    test_program_open_on(p, t, n_outputs, outputs, passes, threads, NULL);
}

void test_program_open_on(test_program *p, const test_case *t, int n_outputs, const wr *outputs,
                          const wr_pass *const *passes, int threads, const char *device) {
    wr_error err = {0};
    *p = (test_program){NULL, NULL};
    if (wr_program_new(t->sample.g, n_outputs, outputs, passes, &p->program, &err) != WR_OK)
        fail_msg("cannot compile: %s", err.text);
    wr_session_options o = {.device = device, .threads = threads, .seed = 5};
    if (wr_session_new(&o, &p->session, &err) != WR_OK) fail_msg("no session: %s", err.text);
}

void test_program_close(test_program *p) {
    wr_session_free(p->session);
    wr_program_free(p->program);
    *p = (test_program){NULL, NULL};
}

wr_status test_program_try(test_program *p, const test_case *t, wr_error *err) {
    wr_feed feeds[TEST_INPUTS];
    for (int i = 0; i < t->n_inputs; i++) {
        const test_input *x = &t->input[i];
        feeds[i] = (wr_feed){.name = x->name, .data = x->data, .rank = x->rank};
        memcpy(feeds[i].dim, x->dim, sizeof x->dim);
    }
    return wr_session_run(p->session, p->program, t->n_inputs, feeds, err);
}

void test_program_run(test_program *p, const test_case *t) {
    wr_error err = {0};
    if (test_program_try(p, t, &err) != WR_OK) fail_msg("cannot run: %s", err.text);
}

const wr_tensor *test_program_output(const test_program *p, int k) {
    return wr_session_output(p->session, k);
}

/* ---- tensors ---- */

double test_value(const wr_tensor *x, int64_t i) {
    if (x->dtype == WR_F32) return (double)((const float *)x->data)[i];
    if (x->dtype == WR_F64) return ((const double *)x->data)[i];
    return (double)((const int32_t *)x->data)[i];
}

bool test_same_bits(const wr_tensor *a, const wr_tensor *b) {
    return a->dtype == b->dtype && a->n == b->n &&
           (a->n == 0 || memcmp(a->data, b->data, (size_t)a->n * wr_dtype_bytes(a->dtype)) == 0);
}

double test_difference(const wr_tensor *a, const wr_tensor *b) {
    double largest = 0, worst = 0;
    if (a->n != b->n) return INFINITY;
    for (int64_t i = 0; i < b->n; i++)
        if (isfinite(test_value(b, i))) largest = fmax(largest, fabs(test_value(b, i)));
    for (int64_t i = 0; i < a->n; i++) {
        double x = test_value(a, i), y = test_value(b, i);
        if (x == y || (isnan(x) && isnan(y))) continue;
        if (!isfinite(x) || !isfinite(y)) return INFINITY;
        worst = fmax(worst, fabs(x - y) / (fabs(y) + largest));
    }
    return worst;
}

test_kept test_keep(const wr_tensor *x) {
    test_kept k = {.tensor = *x};
    size_t bytes = (size_t)x->n * wr_dtype_bytes(x->dtype);
    k.tensor.data = malloc(bytes + 1);
    assert_non_null(k.tensor.data);
    if (bytes > 0) memcpy(k.tensor.data, x->data, bytes);
    for (int i = 0; i < x->rank; i++)
        k.dim[i] = x->dim[i];
    k.tensor.dim = NULL; /* the copy may move; its sizes are in `dim` */
    return k;
}

void test_forget(test_kept *x) {
    free(x->tensor.data);
    x->tensor.data = NULL;
}
