/* check_bijection.c: see check_bijection.h. */
#include "autodiff/check_bijection.h"

#include "autodiff/check_values.h"
#include "autodiff/grad.h"
#include "autodiff/invert_internal.h"
#include "ops/elementwise.h"
#include "ops/mask.h"
#include "ops/reduce.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* A copy of a tensor of a run; n = 0: none. */
typedef struct kept {
    int64_t n, dim[WR_MAX_RANK];
    int rank;
    double *value;
} kept;

/* A program's results: tensors, their masks (none: all is valid), the log-determinant. */
typedef struct results {
    int n;
    kept *value, *mask, log_det;
} results;

typedef struct checker {
    const wr_bijection *f;
    const wr_check_options *o;
    wr_check_report *r;
    wr_error *err;
    wr_graph *g;
    wr__values values;
    wr_session *session;
    wr_program *forward, *backward, *gradient;
    wr *in_mask, *out_mask; /* poison: all is valid */
    wr *y, *back;           /* free values of the outputs, and the inverse there */
    int n_grads;
    results at_x, at_y;  /* both directions, at the values as they were filled */
    results at_x_inputs; /* and these values of the inputs */
} checker;

static const char *const NAMES[WR_CHECKS] = {"x -> y -> x",
                                             "y -> x -> y",
                                             "log |det| forward = - backward",
                                             "log |det| of the numeric Jacobian",
                                             "sentences by themselves",
                                             "other numbers in padding",
                                             "more padding",
                                             "finite gradients"};

/* ---- findings ---- */

static void note(checker *c, wr_check k, const char *fmt, ...) WR_PRINTF(3, 4);
static void note(checker *c, wr_check k, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(c->r->result[k].note, sizeof c->r->result[k].note, fmt, args);
    va_end(args);
}

static void fail_check(checker *c, wr_check k, double error) {
    c->r->result[k].passed = false;
    c->r->result[k].error = error;
}

/* Compare one number; the largest error stays, with its place. */
static void compare(checker *c, wr_check k, double now, double want, double scale, const char *what,
                    int64_t number, int64_t element) {
    wr_check_result *r = &c->r->result[k];
    double error = now == want ? 0.0 : fabs(now - want) / (1.0 + scale);
    if (isnan(error)) error = INFINITY;
    if (error <= r->error) return;
    r->error = error;
    r->passed = r->passed && error <= c->r->bound;
    note(c, k, "%s %lld, element %lld: %.9g, should be %.9g", what, (long long)number,
         (long long)element, now, want);
}

static void begin_check(checker *c, wr_check k) {
    c->r->result[k] = (wr_check_result){.done = true, .passed = true};
}

/* ---- tensors of runs ---- */

static void free_kept(kept *k) {
    free(k->value);
    *k = (kept){0};
}

static void free_results(results *s) {
    for (int i = 0; i < s->n; i++) {
        free_kept(&s->value[i]);
        free_kept(&s->mask[i]);
    }
    free(s->value);
    free(s->mask);
    free_kept(&s->log_det);
    *s = (results){0};
}

static wr_status keep(checker *c, int output, kept *k) {
    const wr_tensor *x = wr_session_output(c->session, output);
    *k = (kept){.n = x->n, .rank = x->rank};
    for (int d = 0; d < x->rank; d++)
        k->dim[d] = x->dim[d];
    k->value = malloc(sizeof(double) * (size_t)(x->n + 1));
    if (k->value == NULL) return wr_fail_memory(c->err, "a result", sizeof(double));
    if (x->n > 0) memcpy(k->value, x->data, sizeof(double) * (size_t)x->n);
    return WR_OK;
}

/* Is the element data? The mask covers the first axes. */
static bool is_valid(const kept *x, const kept *mask, int64_t element) {
    if (mask->n == 0 || x->n == 0) return true;
    return mask->value[element / (x->n / mask->n)] != 0.0;
}

/* Run a program whose outputs are n tensors, their masks (those that are no poison), log |det|. */
static wr_status run(checker *c, wr_program *p, int n, const wr *masks, results *s) {
    *s = (results){.n = n, .value = calloc((size_t)n, sizeof(kept))};
    s->mask = calloc((size_t)n, sizeof(kept));
    wr_status status = wr__values_run(&c->values, c->session, p, c->err);
    if (s->value == NULL || s->mask == NULL) {
        s->n = 0;
        return wr_fail_memory(c->err, "results", sizeof(kept));
    }
    int at = 0;
    for (int i = 0; i < n && status == WR_OK; i++)
        status = keep(c, at++, &s->value[i]);
    for (int i = 0; i < n && status == WR_OK; i++)
        if (!wr_is_poison(masks[i])) status = keep(c, at++, &s->mask[i]);
    return status == WR_OK ? keep(c, at, &s->log_det) : status;
}

static wr_status run_forward(checker *c, results *s) {
    return run(c, c->forward, c->f->n_out, c->out_mask, s);
}
static wr_status run_backward(checker *c, results *s) {
    return run(c, c->backward, c->f->n_in, c->in_mask, s);
}

static double largest(const kept *x, const kept *mask) {
    double most = 0;
    for (int64_t i = 0; i < x->n; i++)
        if (is_valid(x, mask, i)) most = fmax(most, fabs(x->value[i]));
    return most;
}

/* Element number of the same position in a tensor of other sizes. */
static int64_t same_place(const kept *from, int64_t element, const kept *to) {
    int64_t at = 0, stride = 1;
    for (int d = from->rank - 1; d >= 0; d--) {
        at += element % from->dim[d] * stride;
        stride *= to->dim[d];
        element /= from->dim[d];
    }
    return at;
}

/* Valid elements of `want` against the same positions of `now`, which may have longer axes. */
static void compare_kept(checker *c, wr_check k, const kept *now, const kept *want,
                         const kept *mask, const char *what, int number) {
    double scale = largest(want, mask);
    for (int64_t i = 0; i < want->n; i++)
        if (is_valid(want, mask, i))
            compare(c, k, now->value[same_place(want, i, now)], want->value[i], scale, what, number,
                    i);
}

static void compare_results(checker *c, wr_check k, const results *now, const results *want,
                            const char *what) {
    for (int i = 0; i < want->n; i++)
        compare_kept(c, k, &now->value[i], &want->value[i], &want->mask[i], what, i);
    kept none = {0};
    compare_kept(c, k, &now->log_det, &want->log_det, &none, "log |det| of", 0);
}

/* ---- building ---- */

/* A program of n tensors, their masks (those that are no poison) and log |det|; the inputs of the
 * bijection follow, so that their symbols get values in every program. */
static wr_status open_program(checker *c, int n, const wr *tensors, const wr *masks, wr log_det,
                              wr_program **p) {
    int count = 0;
    wr *list = calloc(2 * (size_t)n + (size_t)c->f->n_in + 1, sizeof *list);
    if (list == NULL) return wr_fail_memory(c->err, "outputs", sizeof *list);
    for (int k = 0; k < n; k++)
        list[count++] = tensors[k];
    for (int k = 0; k < n; k++)
        if (!wr_is_poison(masks[k])) list[count++] = masks[k];
    list[count++] = log_det;
    for (int k = 0; k < c->f->n_in; k++)
        list[count++] = c->f->ins[k];
    wr_status status = wr_program_new(c->g, count, list, NULL, p, c->err);
    free(list);
    return status;
}

/* Inputs that stand for the outputs, and the inverse there. */
static wr_status build_inverse(checker *c, wr *log_det) {
    for (int k = 0; k < c->f->n_out; k++) {
        char name[48];
        wr_type t = wr_type_of(c->f->outs[k]);
        snprintf(name, sizeof name, "check_bijection.y%d", k);
        c->y[k] = wr_input(c->g, name, t.dtype, t.rank, t.dim);
        if (wr_is_poison(c->y[k])) return wr_graph_status(c->g, c->err);
        wr_status status = wr__values_add(&c->values, c->y[k], c->err);
        if (status != WR_OK) return status;
    }
    if (wr_invert(c->f, c->y, c->back, log_det)) return WR_OK;
    wr_status status = wr_graph_status(c->g, c->err);
    return status != WR_OK ? status
                           : wr_fail(c->err, WR_ERR_INPUT, "the bijection has poison in it");
}

/* sum of squares of valid elements + sum of log |det|. */
static wr loss_of(int n, const wr *x, const wr *masks, wr log_det) {
    wr sum = wr_sum_all(log_det);
    for (int k = 0; k < n; k++) {
        wr valid = wr_is_poison(masks[k]) ? x[k] : wr_mask_apply(x[k], masks[k]);
        sum = wr_add(sum, wr_sum_all(wr_square(valid)));
    }
    return sum;
}

/* Gradients of both directions by what they read and by all parameters. */
static wr_status build_gradient(checker *c, wr forward, wr backward) {
    uint32_t n_nodes = wr_node_count(c->g);
    int n = c->f->n_in + c->f->n_out, most = n;
    for (uint32_t id = 1; id < n_nodes; id++)
        most += wr_node_at(c->g, id)->op == &wr_op_param;
    wr *wrt = calloc(3 * (size_t)most, sizeof *wrt);
    if (wrt == NULL) return wr_fail_memory(c->err, "gradients", sizeof *wrt);
    memcpy(wrt, c->f->ins, sizeof *wrt * (size_t)c->f->n_in);
    memcpy(wrt + c->f->n_in, c->y, sizeof *wrt * (size_t)c->f->n_out);
    for (uint32_t id = 1; id < n_nodes; id++)
        if (wr_node_at(c->g, id)->op == &wr_op_param) wrt[n++] = (wr){c->g, id};
    wr loss = loss_of(c->f->n_out, c->f->outs, c->out_mask, forward);
    wr loss_back = loss_of(c->f->n_in, c->back, c->in_mask, backward);
    c->n_grads = 2 * n;
    wr_status status = WR_OK;
    if (wr_grad(loss, n, wrt, wrt + n) && wr_grad(loss_back, n, wrt, wrt + 2 * n))
        status = wr_program_new(c->g, 2 * n, wrt + n, NULL, &c->gradient, c->err);
    else
        status = wr_graph_status(c->g, c->err);
    free(wrt);
    return status;
}

static wr_status build(checker *c) {
    wr backward, forward = wr_log_det(c->f);
    wr_status status = wr_graph_status(c->g, c->err);
    if (status == WR_OK) status = wr__bijection_masks(c->f, c->in_mask, c->out_mask, c->err);
    if (status == WR_OK) status = build_inverse(c, &backward);
    if (status == WR_OK)
        status = open_program(c, c->f->n_out, c->f->outs, c->out_mask, forward, &c->forward);
    if (status == WR_OK)
        status = open_program(c, c->f->n_in, c->back, c->in_mask, backward, &c->backward);
    return status == WR_OK ? build_gradient(c, forward, backward) : status;
}

/* Parameters begin by their initialisers, and something is added. */
static wr_status disturb_parameters(checker *c) {
    double noise = c->o->noise == 0 ? 0.1 : c->o->noise;
    wr_status status = wr_session_prepare(c->session, c->gradient, c->err);
    for (int i = 0; status == WR_OK && noise > 0 && i < wr_session_stored(c->session); i++) {
        const wr_stored *x = wr_session_stored_at(c->session, i);
        if (!x->trainable || x->tensor.dtype != WR_F64) continue;
        int64_t n = x->tensor.n;
        double *value = malloc(sizeof *value * (size_t)(n + 1));
        if (value == NULL) return wr_fail_memory(c->err, x->name, sizeof *value);
        status = wr_session_read(c->session, i, value, c->err);
        for (int64_t k = 0; k < n; k++)
            value[k] += noise * wr__values_normal(c->o->seed + 5, (uint64_t)i, (uint64_t)k);
        if (status == WR_OK) status = wr_session_write(c->session, i, value, c->err);
        free(value);
    }
    return status;
}

/* ---- there and back ---- */

static wr__fed *fed_of(const checker *c, wr x) { return wr__values_find(&c->values, x.id); }

/* Values that memory was out for are left out. */
static void feed_kept(const checker *c, const wr *to, const results *from) {
    for (int i = 0; i < from->n; i++) {
        const kept *k = &from->value[i];
        if (k->value != NULL)
            memcpy(fed_of(c, to[i])->real, k->value, sizeof(double) * (size_t)k->n);
    }
}

/* The inputs' values, as if they were results; masks are those of `like`. */
static wr_status keep_inputs(checker *c, const results *like, results *s) {
    *s = (results){.n = like->n, .value = calloc((size_t)like->n, sizeof(kept))};
    s->mask = calloc((size_t)like->n, sizeof(kept));
    if (s->value == NULL || s->mask == NULL) {
        s->n = 0;
        return wr_fail_memory(c->err, "inputs", sizeof(kept));
    }
    for (int i = 0; i < like->n; i++) {
        const wr__fed *x = fed_of(c, c->f->ins[i]);
        s->value[i] = (kept){.n = x->n, .rank = x->rank};
        memcpy(s->value[i].dim, x->dim, sizeof x->dim);
        s->value[i].value = malloc(sizeof(double) * (size_t)(x->n + 1));
        if (s->value[i].value == NULL) return wr_fail_memory(c->err, "inputs", sizeof(double));
        memcpy(s->value[i].value, x->real, sizeof(double) * (size_t)x->n);
    }
    return WR_OK;
}

static void compare_inputs(checker *c, wr_check k, const results *now, const results *want) {
    for (int i = 0; i < now->n; i++)
        compare_kept(c, k, &now->value[i], &want->value[i], &now->mask[i], "input", i);
}

static wr_status check_there_and_back(checker *c) {
    results x = {0};
    begin_check(c, WR_CHECK_THERE_AND_BACK);
    begin_check(c, WR_CHECK_LOG_DETS);
    wr_status status = run_forward(c, &c->at_x);
    if (status == WR_OK) feed_kept(c, c->y, &c->at_x);
    if (status == WR_OK) status = run_backward(c, &c->at_y);
    if (status == WR_OK) status = keep_inputs(c, &c->at_y, &x);
    if (status == WR_OK) {
        compare_inputs(c, WR_CHECK_THERE_AND_BACK, &c->at_y, &x);
        for (int64_t b = 0; b < c->at_x.log_det.n; b++)
            compare(c, WR_CHECK_LOG_DETS, c->at_y.log_det.value[b], -c->at_x.log_det.value[b],
                    fabs(c->at_x.log_det.value[b]), "log |det| of", 0, b);
    }
    free_results(&x);
    return status;
}

/* The image of the inputs' values in the opposite order, which are not beyond what was drawn. */
static wr_status other_image(checker *c, const results *x, results *y) {
    for (int i = 0; i < c->f->n_in; i++)
        for (int64_t e = 0; e < x->value[i].n; e++)
            fed_of(c, c->f->ins[i])->real[e] = x->value[i].value[x->value[i].n - 1 - e];
    return run_forward(c, y);
}

/* From the other image back, and forward again. */
static wr_status check_back_and_there(checker *c) {
    results x = {0}, y = {0}, back = {0}, again = {0};
    begin_check(c, WR_CHECK_BACK_AND_THERE);
    wr_status status = keep_inputs(c, &c->at_y, &x);
    if (status == WR_OK) status = other_image(c, &x, &y);
    if (status == WR_OK) feed_kept(c, c->y, &y);
    if (status == WR_OK) status = run_backward(c, &back);
    if (status == WR_OK) feed_kept(c, c->f->ins, &back);
    if (status == WR_OK) status = run_forward(c, &again);
    for (int k = 0; status == WR_OK && k < again.n; k++)
        compare_kept(c, WR_CHECK_BACK_AND_THERE, &again.value[k], &y.value[k], &y.mask[k], "output",
                     k);
    if (x.n > 0) feed_kept(c, c->f->ins, &x);
    feed_kept(c, c->y, &c->at_x);
    free_results(&x);
    free_results(&y);
    free_results(&back);
    free_results(&again);
    return status;
}

/* ---- the numeric Jacobian ---- */

enum { JACOBIAN_MOST = 600 };

/* Valid elements of one sentence over all tensors of a side, in order. */
static int64_t count_valid(const results *s, int64_t sentence, int64_t sentences) {
    int64_t n = 0;
    for (int i = 0; i < s->n; i++)
        for (int64_t e = 0, each = s->value[i].n / sentences; e < each; e++)
            n += is_valid(&s->value[i], &s->mask[i], sentence * each + e);
    return n;
}

/* log |det| by LU with partial pivoting; destroys a [n, n]. */
static double log_abs_det(int64_t n, double *a) {
    double sum = 0;
    for (int64_t k = 0; k < n; k++) {
        int64_t best = k;
        for (int64_t i = k + 1; i < n; i++)
            if (fabs(a[i * n + k]) > fabs(a[best * n + k])) best = i;
        for (int64_t j = 0; best != k && j < n; j++) {
            double swap = a[k * n + j];
            a[k * n + j] = a[best * n + j];
            a[best * n + j] = swap;
        }
        sum += log(fabs(a[k * n + k]));
        for (int64_t i = k + 1; i < n && a[k * n + k] != 0; i++) {
            double factor = a[i * n + k] / a[k * n + k];
            for (int64_t j = k + 1; j < n; j++)
                a[i * n + j] -= factor * a[k * n + j];
        }
    }
    return sum;
}

typedef struct jacobian {
    int64_t sentences, most; /* most: of valid elements */
    int64_t *n, *column;     /* per sentence: valid elements, and how many were differentiated */
    double *a;               /* [sentences, most, most]: row is an output */
} jacobian;

/* Add weight * y to the present column of each sentence whose element was moved. */
static void add_column(jacobian *j, const results *y, double weight, const bool *moved) {
    for (int64_t b = 0; b < j->sentences; b++) {
        double *a = j->a + b * j->most * j->most;
        int64_t row = 0, n = j->n[b];
        for (int k = 0; moved[b] && k < y->n; k++)
            for (int64_t e = 0, each = y->value[k].n / j->sentences; e < each; e++)
                if (is_valid(&y->value[k], &y->mask[k], b * each + e))
                    a[row++ * n + j->column[b]] += weight * y->value[k].value[b * each + e];
    }
}

/* Move element `e` of input i in every sentence where it is data. */
static wr_status differentiate(checker *c, jacobian *j, int i, int64_t e) {
    static const double at[4] = {-2, -1, 1, 2}, weight[4] = {1, -8, 8, -1};
    static const double step = 1e-3;
    wr__fed *x = fed_of(c, c->f->ins[i]);
    int64_t each = x->n / j->sentences;
    bool moved[64] = {false};
    wr_status status = WR_OK;
    for (int64_t b = 0; b < j->sentences; b++)
        moved[b] = is_valid(&c->at_y.value[i], &c->at_y.mask[i], b * each + e);
    for (int s = 0; s < 4 && status == WR_OK; s++) {
        results y = {0};
        for (int64_t b = 0; b < j->sentences; b++)
            if (moved[b]) x->real[b * each + e] += at[s] * step;
        status = run_forward(c, &y);
        if (status == WR_OK) add_column(j, &y, weight[s] / (12 * step), moved);
        for (int64_t b = 0; b < j->sentences; b++)
            if (moved[b]) x->real[b * each + e] = c->at_x_inputs.value[i].value[b * each + e];
        free_results(&y);
    }
    for (int64_t b = 0; b < j->sentences; b++)
        j->column[b] += moved[b];
    return status;
}

static bool jacobian_is_square(checker *c, jacobian *j) {
    for (int64_t b = 0; b < j->sentences; b++) {
        int64_t in = count_valid(&c->at_y, b, j->sentences);
        int64_t out = count_valid(&c->at_x, b, j->sentences);
        j->n[b] = in;
        if (in > j->most) j->most = in;
        c->r->valid += in;
        if (in == out) continue;
        fail_check(c, WR_CHECK_JACOBIAN, INFINITY);
        note(c, WR_CHECK_JACOBIAN,
             "sentence %lld: %lld valid elements in, %lld out; are its masks told?", (long long)b,
             (long long)in, (long long)out);
        return false;
    }
    return true;
}

static wr_status fill_jacobian(checker *c, jacobian *j) {
    wr_status status = WR_OK;
    for (int i = 0; i < c->f->n_in; i++)
        for (int64_t e = 0; e < fed_of(c, c->f->ins[i])->n / j->sentences && status == WR_OK; e++)
            status = differentiate(c, j, i, e);
    for (int64_t b = 0; b < j->sentences && status == WR_OK; b++) {
        double numeric = log_abs_det(j->n[b], j->a + b * j->most * j->most);
        compare(c, WR_CHECK_JACOBIAN, c->at_x.log_det.value[b], numeric, fabs(numeric),
                "log |det| of", 0, b);
    }
    return status;
}

static wr_status check_jacobian(checker *c) {
    jacobian j = {.sentences = c->r->sentences};
    wr_status status = WR_OK;
    begin_check(c, WR_CHECK_JACOBIAN);
    j.n = calloc(2 * (size_t)j.sentences + 1, sizeof *j.n);
    if (j.n == NULL) return wr_fail_memory(c->err, "a Jacobian", sizeof *j.n);
    j.column = j.n + j.sentences;
    bool square = jacobian_is_square(c, &j);
    if (square && (j.most > JACOBIAN_MOST || j.sentences > 64)) {
        c->r->result[WR_CHECK_JACOBIAN].done = false;
        note(c, WR_CHECK_JACOBIAN, "%lld elements per sentence are too many: choose smaller sizes",
             (long long)j.most);
    } else if (square) {
        j.a = calloc((size_t)(j.sentences * j.most * j.most) + 1, sizeof *j.a);
        status =
            j.a == NULL ? wr_fail_memory(c->err, "a Jacobian", sizeof *j.a) : fill_jacobian(c, &j);
    }
    free(j.a);
    free(j.n);
    return status;
}

/* ---- who reads whom ---- */

/* Run both directions and compare with what they gave before. */
static wr_status compare_again(checker *c, wr_check k) {
    results y = {0}, x = {0};
    wr_status status = run_forward(c, &y);
    if (status == WR_OK) status = run_backward(c, &x);
    if (status == WR_OK) {
        compare_results(c, k, &y, &c->at_x, "output");
        compare_results(c, k, &x, &c->at_y, "inverse");
    }
    free_results(&y);
    free_results(&x);
    return status;
}

static void restore(checker *c) {
    feed_kept(c, c->f->ins, &c->at_x_inputs);
    feed_kept(c, c->y, &c->at_x);
}

/* Sentence 0 of what is fed gets the values of sentence 1. */
static void replace_first(const checker *c, int n, const wr *fed) {
    for (int i = 0; i < n; i++) {
        wr__fed *x = fed_of(c, fed[i]);
        int64_t each = x->n / c->r->sentences;
        memcpy(x->real, x->real + each, sizeof(double) * (size_t)each);
    }
}

/* What sentence 0 became is not looked at. */
static void forget_first(const checker *c, results *now, const results *want) {
    for (int i = 0; i < now->n; i++)
        memcpy(now->value[i].value, want->value[i].value,
               sizeof(double) * (size_t)(now->value[i].n / c->r->sentences));
    now->log_det.value[0] = want->log_det.value[0];
}

static wr_status check_sentences(checker *c) {
    if (c->r->sentences < 2) {
        note(c, WR_CHECK_SENTENCES, "there is one sentence only");
        return WR_OK;
    }
    results y = {0}, x = {0};
    begin_check(c, WR_CHECK_SENTENCES);
    replace_first(c, c->f->n_in, c->f->ins);
    replace_first(c, c->f->n_out, c->y);
    wr_status status = run_forward(c, &y);
    if (status == WR_OK) status = run_backward(c, &x);
    if (status == WR_OK) {
        forget_first(c, &y, &c->at_x);
        forget_first(c, &x, &c->at_y);
        compare_results(c, WR_CHECK_SENTENCES, &y, &c->at_x, "output");
        compare_results(c, WR_CHECK_SENTENCES, &x, &c->at_y, "inverse");
    }
    free_results(&y);
    free_results(&x);
    restore(c);
    return status;
}

static bool has_masks(const results *s) {
    for (int i = 0; i < s->n; i++)
        if (s->mask[i].n > 0) return true;
    return false;
}

/* Other numbers where the mask is 0. */
static void disturb(const checker *c, const wr *fed, const results *s) {
    for (int i = 0; i < s->n; i++)
        for (int64_t e = 0; e < s->value[i].n; e++)
            if (!is_valid(&s->value[i], &s->mask[i], e))
                fed_of(c, fed[i])->real[e] += 1.0 + 0.25 * (double)(e % 7);
}

static wr_status check_padding(checker *c) {
    if (!has_masks(&c->at_y)) {
        note(c, WR_CHECK_PADDING, "the bijection has no masks");
        return WR_OK;
    }
    begin_check(c, WR_CHECK_PADDING);
    disturb(c, c->f->ins, &c->at_y);
    disturb(c, c->y, &c->at_x);
    wr_status status = compare_again(c, WR_CHECK_PADDING);
    restore(c);
    return status;
}

/* ---- more padding ---- */

/* The symbols of masked axes, other than the batch, by one step. False: there is none. */
static bool lengthen(checker *c) {
    const wr_dims *dims = wr_graph_dims(c->g);
    bool any = false;
    for (int i = 0; i < c->f->n_in; i++)
        for (int d = 1; d < wr_rank(c->in_mask[i]); d++) {
            int symbol = wr_dims_symbol_of(dims, wr_dim_of(c->in_mask[i], d));
            if (symbol < 0) continue;
            const wr_symbol *s = wr_dims_symbol_at(dims, symbol);
            int64_t longer = c->values.first.value[symbol] + s->multiple_of;
            if (longer > s->max) continue;
            c->values.size.value[symbol] = longer;
            any = true;
        }
    return any;
}

static const char *why_not_longer(checker *c) {
    if (c->o->n_values > 0) return "values were given for these sizes";
    for (int i = 0; i < c->values.n_fed; i++)
        if (c->values.fed[i].fill == WR__INDEX) return "permutations would change with the sizes";
    for (uint32_t id = 1; id < wr_node_count(c->g); id++)
        if (wr_node_at(c->g, id)->op->traits & WR_RANDOM)
            return "random numbers would change with the sizes";
    return lengthen(c) ? NULL : "no mask has a symbolic axis that can grow";
}

/* y at the same positions; elsewhere what the forward direction gives there. */
static void feed_longer(checker *c, const results *longer) {
    feed_kept(c, c->y, longer);
    for (int k = 0; k < longer->n; k++)
        for (int64_t e = 0; e < c->at_x.value[k].n; e++)
            fed_of(c, c->y[k])->real[same_place(&c->at_x.value[k], e, &longer->value[k])] =
                c->at_x.value[k].value[e];
}

static wr_status check_longer(checker *c) {
    const char *why = has_masks(&c->at_y) ? why_not_longer(c) : "the bijection has no masks";
    if (why != NULL) {
        note(c, WR_CHECK_LONGER, "%s", why);
        return WR_OK;
    }
    results y = {0}, x = {0};
    begin_check(c, WR_CHECK_LONGER);
    wr_status status = wr__values_fill(&c->values, c->err);
    if (status == WR_OK) status = run_forward(c, &y);
    if (status == WR_OK) feed_longer(c, &y);
    if (status == WR_OK) status = run_backward(c, &x);
    if (status == WR_OK) {
        compare_results(c, WR_CHECK_LONGER, &y, &c->at_x, "output");
        compare_results(c, WR_CHECK_LONGER, &x, &c->at_y, "inverse");
    }
    c->values.size = c->values.first;
    if (status == WR_OK) status = wr__values_fill(&c->values, c->err);
    if (status == WR_OK) restore(c);
    free_results(&y);
    free_results(&x);
    return status;
}

/* ---- gradients ---- */

static wr_status check_gradient(checker *c) {
    begin_check(c, WR_CHECK_GRADIENT);
    wr_status status = wr__values_run(&c->values, c->session, c->gradient, c->err);
    for (int k = 0; k < c->n_grads && status == WR_OK; k++) {
        const wr_tensor *x = wr_session_output(c->session, k);
        for (int64_t i = 0; i < x->n; i++) {
            if (x->dtype != WR_F64 || isfinite(((const double *)x->data)[i])) continue;
            fail_check(c, WR_CHECK_GRADIENT, INFINITY);
            note(c, WR_CHECK_GRADIENT, "the %s gradient number %d is %g at element %lld",
                 k < c->n_grads / 2 ? "forward" : "inverse", k % (c->n_grads / 2),
                 ((const double *)x->data)[i], (long long)i);
            return WR_OK;
        }
    }
    return status;
}

/* ---- the whole ---- */

static wr_status check_all(checker *c) {
    wr_status (*const check[])(checker *) = {check_back_and_there, check_jacobian, check_sentences,
                                             check_padding,        check_longer,   check_gradient};
    wr_status status = check_there_and_back(c);
    if (status == WR_OK) status = keep_inputs(c, &c->at_y, &c->at_x_inputs);
    for (size_t i = 0; i < sizeof check / sizeof *check && status == WR_OK; i++)
        status = check[i](c);
    c->r->passed = status == WR_OK;
    for (int k = 0; k < WR_CHECKS; k++)
        c->r->passed = c->r->passed && (!c->r->result[k].done || c->r->result[k].passed);
    return status;
}

static wr_status check_arguments(const wr_bijection *f, wr_error *err) {
    if (f->n_in < 1 || f->n_out < 1)
        return wr_fail(err, WR_ERR_INPUT, "a bijection has inputs and outputs");
    for (int i = 0; i < f->n_in + f->n_out; i++) {
        wr x = i < f->n_in ? f->ins[i] : f->outs[i - f->n_in];
        if (wr_is_poison(x))
            return x.g != NULL && wr_graph_status(x.g, err) != WR_OK
                       ? WR_ERR_INPUT
                       : wr_fail(err, WR_ERR_INPUT, "the bijection has poison in it");
        if (wr_dtype_of(x) != WR_F64)
            return wr_fail(err, WR_ERR_INPUT,
                           "a bijection is checked in f64: declare it once more, with inputs of "
                           "WR_F64");
        if (i < f->n_in && wr_node_at(x.g, x.id)->op != &wr_op_input)
            return wr_fail(err, WR_ERR_INPUT,
                           "input %d of the checked bijection is no wr_input of its graph", i);
        if (wr_rank(x) == 0 || !wr_dim_eq(x.g, wr_dim_of(x, 0), wr_dim_of(f->ins[0], 0)))
            return wr_fail(err, WR_ERR_INPUT, "axis 0 of what goes in and out is the batch");
    }
    return WR_OK;
}

static wr_status begin(checker *c) {
    size_t n_in = (size_t)c->f->n_in, n_out = (size_t)c->f->n_out;
    c->in_mask = calloc(2 * (n_in + n_out), sizeof *c->in_mask);
    if (c->in_mask == NULL) return wr_fail_memory(c->err, "a check", sizeof *c->in_mask);
    c->out_mask = c->in_mask + n_in;
    c->y = c->out_mask + n_out;
    c->back = c->y + n_out;
    wr_status status = wr__values_begin(&c->values, c->f, c->o, c->err);
    wr_session_options o = {.threads = 1, .seed = c->o->seed};
    if (status == WR_OK) status = wr_session_new(&o, &c->session, c->err);
    if (status == WR_OK) status = build(c);
    if (status == WR_OK) status = disturb_parameters(c);
    if (status != WR_OK) return status;
    c->r->sentences = fed_of(c, c->f->ins[0])->dim[0];
    for (int i = 0; i < c->f->n_in; i++)
        c->r->elements += fed_of(c, c->f->ins[i])->n;
    if (c->r->sentences > 0) return WR_OK;
    return wr_fail(c->err, WR_ERR_INPUT, "a check needs at least one sentence");
}

static void end(checker *c) {
    free_results(&c->at_x);
    free_results(&c->at_y);
    free_results(&c->at_x_inputs);
    wr_session_free(c->session);
    wr_program_free(c->forward);
    wr_program_free(c->backward);
    wr_program_free(c->gradient);
    wr__values_free(&c->values);
    free(c->in_mask);
}

wr_status wr_check_bijection(const wr_bijection *f, const wr_check_options *o,
                             wr_check_report *report, wr_error *err) {
    static const wr_check_options defaults = {0};
    wr_error own = {0};
    checker c = {.f = f, .o = o != NULL ? o : &defaults, .r = report, .err = err};
    *report = (wr_check_report){.bound = c.o->bound > 0 ? c.o->bound : 1e-8};
    if (err == NULL) c.err = &own;
    wr_status status = check_arguments(f, c.err);
    if (status != WR_OK) return status;
    c.g = f->ins[0].g;
    status = begin(&c);
    if (status == WR_OK) status = check_all(&c);
    end(&c);
    return status;
}

void wr_check_print(const wr_check_report *report, FILE *out) {
    fprintf(out, "%lld sentences, %lld elements, %lld of them no padding\n",
            (long long)report->sentences, (long long)report->elements, (long long)report->valid);
    for (int k = 0; k < WR_CHECKS; k++) {
        const wr_check_result *r = &report->result[k];
        if (!r->done)
            fprintf(out, "  -     %-35s not checked: %s\n", NAMES[k], r->note);
        else if (r->passed)
            fprintf(out, "  ok    %-35s largest error %.1e\n", NAMES[k], r->error);
        else
            fprintf(out, "  WRONG %-35s %s (error %.1e, bound %.1e)\n", NAMES[k], r->note, r->error,
                    report->bound);
    }
    fprintf(out, report->passed ? "a bijection, as far as was looked\n"
                                : "not what it should be: see the lines marked WRONG\n");
}
