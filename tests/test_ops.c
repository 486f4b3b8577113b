/* test_ops.c: every row of the op table against what its row promises, by its own samples.
 *
 * For each sample: the f64 gradient with a random cotangent, and the second derivative, against
 * 4-point central differences; f32 against f64; 1, 2 and 7 threads and a second run bit-equal; the
 * expansion against the row; in place against out of place; single outputs against all of them;
 * padded positions without influence; the derived inverse and log-determinant, or why there is
 * none. One line per row tells the errors reached. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autodiff/autoregressive.h"
#include "autodiff/check_bijection.h"
#include "autodiff/grad.h"
#include "helpers/sample.h"
#include "ops/elementwise.h"
#include "ops/index.h"
#include "ops/layout.h"
#include "ops/mask.h"
#include "ops/reduce.h"
#include "ops/slice.h"
#include "ops/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_VARIANTS = 200, SINGLES = 16 };

static const double STEP = 5e-4;         /* of the differences; samples keep kinks farther away */
static const double GRAD_ERROR = 1e-6;   /* relative, f64 */
static const double F32_ERROR = 5e-5;    /* of the largest element, f32 against f64 */
static const double EXPAND_ERROR = 1e-9; /* f64 */
static const double INVERT_ERROR = 1e-9; /* f64, x -> y -> x */
static const double DET_ERROR = 1e-8;    /* f64, log |det| of differences */

/* What is reached over all variants of a row. */
typedef struct reached {
    double grad, second, f32, expand, inverse, det;
    int variants, in_place, padded, inverted, refused;
} reached;

/* A sample of a row with its loss = sum over k of sum(cotangent_k out_k) and its derivatives. */
typedef struct subject {
    const wr_op *op;
    int variant;
    test_case t;
    wr node;
    int n_out;
    wr out[WR_MAX_OUTPUTS];
    wr cot[WR_MAX_OUTPUTS]; /* poison for whole numbers */
    int n_wrt, wrt[TEST_INPUTS];
    wr at[TEST_INPUTS], grad[TEST_INPUTS];
    wr loss;
    int n_wrt2, wrt2[TEST_INPUTS];
    wr at2[TEST_INPUTS], grad2[TEST_INPUTS];
    wr loss2;
} subject;

static bool differentiable(const wr_op *op) { return op->grad != NULL || op->expand != NULL; }

static void report_and_fail(const subject *s, const char *what) {
    wr_str text = {0};
    wr_graph_report(s->t.sample.g, &text);
    fail_msg("%s, variant %d: %s\n%s", s->op->name, s->variant, what, wr_str_text(&text));
}

/* ---- building ---- */

static wr random_like(subject *s, wr x) {
    wr_type t = wr_type_of(x);
    int64_t dims[WR_MAX_RANK];
    for (int i = 0; i < t.rank; i++)
        dims[i] = wr_dim_literal(t.dim[i]);
    return test_case_input(&s->t, WR_FILL_REAL, 0, t.rank, dims);
}

/* sum over k of sum(x_k y_k), poison operands left out; poison when there is none. */
static wr inner_product(int n, const wr *x, const wr *y) {
    wr sum = {0};
    for (int k = 0; k < n; k++) {
        if (wr_is_poison(x[k]) || wr_is_poison(y[k])) continue;
        wr term = wr_sum_all(wr_mul(x[k], y[k]));
        sum = wr_is_poison(sum) ? term : wr_add(sum, term);
    }
    return sum;
}

/* The row's sample; false behind the last variant. */
static bool subject_begin(subject *s, const wr_op *op, wr_dtype dtype, int variant) {
    memset(s, 0, sizeof *s);
    s->op = op;
    s->variant = variant;
    test_case_begin(&s->t, dtype, 12345, variant);
    s->node = op->sample(&s->t.sample);
    if (!wr_graph_ok(s->t.sample.g)) report_and_fail(s, "its sample is not legal");
    if (wr_is_poison(s->node)) {
        test_case_end(&s->t);
        return false;
    }
    const wr_node *n = wr_node_at(s->t.sample.g, s->node.id);
    if (n->op == &wr_op_output) {
        s->node.id = wr_node_inputs(s->t.sample.g, s->node.id)[0];
        n = wr_node_at(s->t.sample.g, s->node.id);
    }
    if (n->op != op) report_and_fail(s, "its sample does not build the row");
    s->n_out = n->n_out;
    for (int k = 0; k < s->n_out; k++)
        s->out[k] = wr_output(s->node, k);
    return true;
}

static void add_loss(subject *s) {
    for (int k = 0; k < s->n_out; k++)
        s->cot[k] = wr_dtype_of(s->out[k]) == WR_I32 ? (wr){0} : random_like(s, s->out[k]);
    s->loss = inner_product(s->n_out, s->out, s->cot);
}

/* Inputs of the sample itself come first; the cotangents behind are the second derivative's too. */
static void add_gradients(subject *s) {
    int n_sample = s->t.n_inputs;
    add_loss(s);
    if (wr_is_poison(s->loss)) return;
    for (int i = 0; i < n_sample; i++)
        if (test_input_is_smooth(&s->t.input[i])) {
            s->at[s->n_wrt] = s->t.input[i].node;
            s->wrt[s->n_wrt++] = i;
        }
    if (!wr_grad(s->loss, s->n_wrt, s->at, s->grad)) report_and_fail(s, "no gradient");
}

static void add_second_gradients(subject *s) {
    wr random[TEST_INPUTS];
    int n_first = s->t.n_inputs;
    for (int i = 0; i < s->n_wrt; i++)
        random[i] = random_like(s, s->grad[i]);
    s->loss2 = inner_product(s->n_wrt, s->grad, random);
    if (wr_is_poison(s->loss2)) return;
    for (int i = 0; i < n_first; i++)
        if (test_input_is_smooth(&s->t.input[i])) {
            s->at2[s->n_wrt2] = s->t.input[i].node;
            s->wrt2[s->n_wrt2++] = i;
        }
    if (!wr_grad(s->loss2, s->n_wrt2, s->at2, s->grad2)) report_and_fail(s, "no second gradient");
}

/* ---- derivatives against differences ---- */

/* d loss / d direction of input `x`, by values at -2h, -h, h and 2h. */
static double difference(test_program *p, const test_case *t, test_input *x,
                         const double *direction) {
    static const double at[4] = {-2, -1, 1, 2}, weight[4] = {1, -8, 8, -1};
    double *base = malloc(sizeof *base * (size_t)(x->n + 1)), sum = 0;
    assert_non_null(base);
    memcpy(base, x->value, sizeof *base * (size_t)x->n);
    for (int k = 0; k < 4; k++) {
        for (int64_t i = 0; i < x->n; i++)
            x->value[i] = base[i] + at[k] * STEP * direction[i];
        test_input_sync(x);
        test_program_run(p, t);
        sum += weight[k] * test_value(test_program_output(p, 0), 0);
    }
    memcpy(x->value, base, sizeof *base * (size_t)x->n);
    test_input_sync(x);
    free(base);
    return sum / (12 * STEP);
}

static double largest(const wr_tensor *x) {
    double most = 0;
    for (int64_t i = 0; i < x->n; i++)
        most = fmax(most, fabs(test_value(x, i)));
    return most;
}

typedef struct derivative {
    subject *s;
    test_program *p; /* output 0 is the loss */
    double floor;    /* derivatives below this are as good as zero */
    const char *what;
} derivative;

static double compare_derivative(const derivative *d, const test_input *x, const char *where,
                                 double numeric, double analytic, double scale) {
    scale = fmax(fmax(fabs(numeric), fabs(analytic)), fmax(scale, d->floor));
    double error = fabs(numeric - analytic) / scale;
    if (!(error < GRAD_ERROR))
        fail_msg("%s, variant %d: %s by operand %s%s is %.12g, by differences %.12g (error %.3g)",
                 d->s->op->name, d->s->variant, d->what, x->name, where, analytic, numeric, error);
    return error;
}

/* Along one random direction for all elements at once, then for single elements. */
static double check_input(const derivative *d, test_input *x, const wr_tensor *grad) {
    double *direction = calloc((size_t)x->n + 1, sizeof *direction), along = 0, worst = 0;
    uint64_t rng = 99 + (uint64_t)x->n;
    wr_sample draw = {.rng = rng};
    assert_non_null(direction);
    assert_int_equal(grad->n, x->n);
    double scale = 0.01 * largest(grad);
    for (int64_t i = 0; i < x->n; i++) {
        direction[i] = (double)wr_sample_int(&draw, -1000, 1000) / 1000.0;
        along += direction[i] * test_value(grad, i);
    }
    worst = compare_derivative(d, x, " along a direction", difference(d->p, &d->s->t, x, direction),
                               along, scale);
    memset(direction, 0, sizeof *direction * (size_t)x->n);
    for (int64_t k = 0; k < x->n && k < SINGLES; k++) {
        int64_t i = x->n <= SINGLES ? k : wr_sample_int(&draw, 0, x->n - 1);
        char where[40];
        snprintf(where, sizeof where, " element %lld", (long long)i);
        direction[i] = 1;
        double numeric = difference(d->p, &d->s->t, x, direction);
        direction[i] = 0;
        worst = fmax(worst, compare_derivative(d, x, where, numeric, test_value(grad, i), scale));
    }
    free(direction);
    return worst;
}

static double check_derivatives(subject *s, const char *what, wr loss, int n, const int *wrt,
                                const wr *grads) {
    test_program all, loss_only;
    double worst = 0;
    wr outputs[TEST_INPUTS + 1] = {loss};
    memcpy(outputs + 1, grads, sizeof *grads * (size_t)n);
    test_program_open(&all, &s->t, n + 1, outputs, NULL, 1);
    test_program_open(&loss_only, &s->t, 1, outputs, NULL, 1);
    test_program_run(&all, &s->t);
    double value = test_value(test_program_output(&all, 0), 0);
    derivative d = {.s = s, .p = &loss_only, .floor = 1e-4 * (1 + fabs(value)), .what = what};
    for (int i = 0; i < n; i++)
        worst = fmax(worst, check_input(&d, &s->t.input[wrt[i]], test_program_output(&all, 1 + i)));
    test_program_close(&all);
    test_program_close(&loss_only);
    return worst;
}

static void check_gradients(const wr_op *op, int variant, reached *r) {
    subject s;
    if (!subject_begin(&s, op, WR_F64, variant)) return;
    add_gradients(&s);
    if (s.n_wrt > 0) {
        double first = check_derivatives(&s, "gradient", s.loss, s.n_wrt, s.wrt, s.grad);
        r->grad = fmax(r->grad, first);
        add_second_gradients(&s);
    }
    if (s.n_wrt2 > 0) {
        double second =
            check_derivatives(&s, "second gradient", s.loss2, s.n_wrt2, s.wrt2, s.grad2);
        r->second = fmax(r->second, second);
    }
    test_case_end(&s.t);
}

/* The one row whose gradient is not its derivative. */
static void check_stops_gradient(int variant) {
    subject s;
    test_program p;
    if (!subject_begin(&s, &wr_op_stop_gradient, WR_F64, variant)) return;
    add_gradients(&s);
    test_program_open(&p, &s.t, s.n_wrt, s.grad, NULL, 1);
    test_program_run(&p, &s.t);
    assert_true(s.n_wrt > 0);
    for (int i = 0; i < s.n_wrt; i++)
        assert_true(largest(test_program_output(&p, i)) == 0.0);
    test_program_close(&p);
    test_case_end(&s.t);
}

/* A row without a gradient says so instead of giving zero. */
static void check_refuses_gradient(const wr_op *op, int variant) {
    subject s;
    if (!subject_begin(&s, op, WR_F64, variant)) return;
    int n_sample = s.t.n_inputs;
    add_loss(&s);
    for (int i = 0; i < n_sample; i++)
        if (test_input_is_smooth(&s.t.input[i])) s.at[s.n_wrt++] = s.t.input[i].node;
    if (s.n_wrt > 0 && !wr_is_poison(s.loss)) {
        assert_false(wr_grad(s.loss, s.n_wrt, s.at, s.grad));
        wr_str text = {0};
        wr_graph_report(s.t.sample.g, &text);
        assert_non_null(strstr(wr_str_text(&text), op->no_grad));
        wr_str_free(&text);
    }
    test_case_end(&s.t);
}

/* ---- threads, precision ---- */

/* Outputs, then the gradients; returns their number. */
static int values_of(const subject *s, wr *values) {
    int n = 0;
    for (int k = 0; k < s->n_out; k++)
        values[n++] = s->out[k];
    for (int i = 0; i < s->n_wrt; i++)
        values[n++] = s->grad[i];
    return n;
}

static void open_values(subject *s, const wr_op *op, wr_dtype dtype, int variant) {
    if (!subject_begin(s, op, dtype, variant)) fail_msg("%s: variants differ by dtype", op->name);
    if (differentiable(op) && !(op->traits & WR_STATEFUL)) add_gradients(s);
}

static void compare_bits(const subject *s, const test_program *p, int n, const test_kept *kept,
                         const char *what) {
    for (int k = 0; k < n; k++) {
        const wr_tensor *now = test_program_output(p, k);
        if (test_same_bits(now, &kept[k].tensor)) continue;
        fail_msg("%s, variant %d, %s: %s %d differs %s (by %.3g)", s->op->name, s->variant,
                 wr_dtype_name(s->t.sample.dtype), k < s->n_out ? "output" : "gradient",
                 k < s->n_out ? k : k - s->n_out, what, test_difference(now, &kept[k].tensor));
    }
}

static void check_threads(const wr_op *op, wr_dtype dtype, int variant) {
    static const int threads[] = {1, 2, 7};
    subject s;
    wr values[TEST_INPUTS + WR_MAX_OUTPUTS];
    test_kept kept[TEST_INPUTS + WR_MAX_OUTPUTS];
    open_values(&s, op, dtype, variant);
    int n = values_of(&s, values);
    for (int i = 0; i < 3; i++) {
        test_program p;
        test_program_open(&p, &s.t, n, values, NULL, threads[i]);
        test_program_run(&p, &s.t);
        for (int k = 0; i == 0 && k < n; k++)
            kept[k] = test_keep(test_program_output(&p, k));
        compare_bits(&s, &p, n, kept, "with other threads");
        if (!(op->traits & WR_STATEFUL)) {
            test_program_run(&p, &s.t);
            compare_bits(&s, &p, n, kept, "in a second run");
        }
        test_program_close(&p);
    }
    for (int k = 0; k < n; k++)
        test_forget(&kept[k]);
    test_case_end(&s.t);
}

static void check_precision(const wr_op *op, int variant, reached *r) {
    subject narrow, wide;
    test_program p32, p64;
    wr values[TEST_INPUTS + WR_MAX_OUTPUTS];
    open_values(&narrow, op, WR_F32, variant);
    open_values(&wide, op, WR_F64, variant);
    int n = values_of(&narrow, values);
    test_program_open(&p32, &narrow.t, n, values, NULL, 2);
    assert_int_equal(values_of(&wide, values), n);
    test_program_open(&p64, &wide.t, n, values, NULL, 2);
    test_program_run(&p32, &narrow.t);
    test_program_run(&p64, &wide.t);
    for (int k = 0; k < n; k++) {
        double error = test_difference(test_program_output(&p32, k), test_program_output(&p64, k));
        if (!(error < F32_ERROR))
            fail_msg("%s, variant %d: %s %d in f32 is %.3g from f64", op->name, variant,
                     k < wide.n_out ? "output" : "gradient", k < wide.n_out ? k : k - wide.n_out,
                     error);
        r->f32 = fmax(r->f32, error);
    }
    test_program_close(&p32);
    test_program_close(&p64);
    test_case_end(&narrow.t);
    test_case_end(&wide.t);
}

/* ---- expansion ---- */

static void check_expansion(const wr_op *op, int variant, reached *r) {
    subject s;
    test_program p;
    wr values[2 * (TEST_INPUTS + WR_MAX_OUTPUTS)], expanded[WR_MAX_OUTPUTS], grads[TEST_INPUTS];
    open_values(&s, op, WR_F64, variant);
    int n = values_of(&s, values), m = n;
    if (!wr_expand_node(s.node, expanded)) report_and_fail(&s, "cannot be expanded");
    for (int k = 0; k < s.n_out; k++)
        values[m++] = expanded[k];
    if (s.n_wrt > 0) {
        wr loss = inner_product(s.n_out, expanded, s.cot);
        if (!wr_grad(loss, s.n_wrt, s.at, grads)) report_and_fail(&s, "expansion has no gradient");
        for (int i = 0; i < s.n_wrt; i++)
            values[m++] = grads[i];
    }
    test_program_open(&p, &s.t, m, values, NULL, 2);
    test_program_run(&p, &s.t);
    for (int k = 0; k < n; k++) {
        double error = test_difference(test_program_output(&p, n + k), test_program_output(&p, k));
        if (!(error < EXPAND_ERROR))
            fail_msg("%s, variant %d: %s %d of the expansion is %.3g from the row's", op->name,
                     variant, k < s.n_out ? "output" : "gradient", k < s.n_out ? k : k - s.n_out,
                     error);
        r->expand = fmax(r->expand, error);
    }
    test_program_close(&p);
    test_case_end(&s.t);
}

/* ---- buffers ---- */

/* The node again over an operand that is computed, not fed, so that its buffer can be taken. */
static wr over_computed_operand(const subject *s, int operand, wr *computed) {
    wr_graph *g = s->t.sample.g;
    int n = wr_node_at(g, s->node.id)->n_in, n_attr = wr_op_attr_count(s->op);
    wr in[TEST_INPUTS];
    wr_attr attr[WR_MAX_ATTRS];
    assert_true(n <= TEST_INPUTS);
    for (int k = 0; k < n; k++)
        in[k] = (wr){g, wr_node_inputs(g, s->node.id)[k]};
    if (n_attr > 0) memcpy(attr, wr_node_attrs(g, s->node.id), sizeof *attr * (size_t)n_attr);
    *computed = in[operand] = wr_scale(in[operand], 1.0);
    return wr_emit(WR_HERE, s->op, n, in, attr);
}

/* Output 0 in its operand's buffer, and with the operand kept for later. */
static void check_in_place(const wr_op *op, wr_dtype dtype, int variant, reached *r) {
    subject s;
    test_program taken, apart;
    wr values[WR_MAX_OUTPUTS + 1];
    if (!subject_begin(&s, op, dtype, variant)) return;
    wr operand = {s.t.sample.g, wr_node_inputs(s.t.sample.g, s.node.id)[op->inplace - 1]}, computed;
    if (wr_dtype_of(operand) != WR_I32 && !(op->traits & WR_STATEFUL)) {
        wr again = over_computed_operand(&s, op->inplace - 1, &computed);
        for (int k = 0; k < s.n_out; k++)
            values[k] = wr_output(again, k);
        values[s.n_out] = computed;
        test_program_open(&taken, &s.t, s.n_out, values, NULL, 2);
        test_program_open(&apart, &s.t, s.n_out + 1, values, NULL, 2);
        test_program_run(&taken, &s.t);
        test_program_run(&apart, &s.t);
        assert_int_equal(wr_session_plan(apart.session)->n_inplace, 0);
        r->in_place += wr_session_plan(taken.session)->n_inplace;
        for (int k = 0; k < s.n_out; k++)
            if (!test_same_bits(test_program_output(&taken, k), test_program_output(&apart, k)))
                fail_msg("%s, variant %d: output %d differs when it works in place", op->name,
                         variant, k);
        test_program_close(&taken);
        test_program_close(&apart);
    }
    test_case_end(&s.t);
}

/* Each output alone: the kernel is given NULL for the others. */
static void check_single_outputs(const wr_op *op, wr_dtype dtype, int variant) {
    subject s;
    test_program all;
    if (!subject_begin(&s, op, dtype, variant)) return;
    test_program_open(&all, &s.t, s.n_out, s.out, NULL, 2);
    test_program_run(&all, &s.t);
    for (int k = 0; k < s.n_out && !(op->traits & WR_STATEFUL); k++) {
        test_program one;
        test_program_open(&one, &s.t, 1, &s.out[k], NULL, 2);
        test_program_run(&one, &s.t);
        if (!test_same_bits(test_program_output(&all, k), test_program_output(&one, 0)))
            fail_msg("%s, variant %d: output %d differs when it alone is read", op->name, variant,
                     k);
        test_program_close(&one);
    }
    test_program_close(&all);
    test_case_end(&s.t);
}

/* ---- random rows ---- */

static void check_random(const wr_op *op, int variant) {
    subject s;
    test_program p;
    if (!subject_begin(&s, op, WR_F32, variant)) return;
    wr again = op->sample(&s.t.sample); /* another node, so another stream */
    assert_int_not_equal(again.id, s.node.id);
    test_program_open(&p, &s.t, 1, s.out, NULL, 2);
    test_program_run(&p, &s.t);
    test_kept first = test_keep(test_program_output(&p, 0));
    wr_session_set_step(p.session, 1);
    test_program_run(&p, &s.t);
    if (test_same_bits(&first.tensor, test_program_output(&p, 0)) && first.tensor.n > 4)
        fail_msg("%s, variant %d: another step gives the same numbers", op->name, variant);
    wr_session_set_step(p.session, 0);
    test_program_run(&p, &s.t);
    if (!test_same_bits(&first.tensor, test_program_output(&p, 0)))
        fail_msg("%s, variant %d: the same step gives other numbers", op->name, variant);
    test_forget(&first);
    test_program_close(&p);
    test_case_end(&s.t);
}

/* ---- padding ---- */

/* Says of an element (by its index along each axis) whether a mask or a length leaves it out. */
typedef struct padding {
    const test_input *by; /* a mask, or lengths [B] of an axis of size limit */
} padding;

static bool same_sizes(int n, const int64_t *a, const int64_t *b) {
    for (int i = 0; i < n; i++)
        if (a[i] != b[i]) return false;
    return true;
}

/* Is a mask of these sizes matched from the right, each size equal or 1? */
static bool repeats_to(const test_input *m, int rank, const int64_t *dim) {
    if (m->rank > rank) return false;
    for (int i = 0; i < m->rank; i++)
        if (m->dim[i] != 1 && m->dim[i] != dim[rank - m->rank + i]) return false;
    return true;
}

/* Does the padding speak of tensors of these sizes? A mask speaks of tensors it repeats to and of
 * tensors whose leading axes it has. */
static bool speaks_of(const padding *p, int rank, const int64_t *dim) {
    const test_input *m = p->by;
    if (m->fill == WR_FILL_LENGTH) {
        bool found = false;
        for (int a = 1; a < rank; a++)
            found = found || dim[a] == m->limit;
        return found && m->rank == 1 && dim[0] == m->dim[0];
    }
    return m->n > 1 && rank >= m->rank &&
           (repeats_to(m, rank, dim) || same_sizes(m->rank, m->dim, dim));
}

static bool leaves_out(const padding *p, int rank, const int64_t *dim, int64_t element) {
    const test_input *m = p->by;
    int64_t index[WR_MAX_RANK], at = 0;
    for (int a = rank - 1; a >= 0; a--) {
        index[a] = element % dim[a];
        element /= dim[a];
    }
    if (m->fill == WR_FILL_LENGTH) {
        for (int a = 1; a < rank; a++)
            if (dim[a] == m->limit && index[a] >= (int64_t)m->value[index[0]]) return true;
        return false;
    }
    int skip = repeats_to(m, rank, dim) ? rank - m->rank : 0;
    for (int a = 0; a < m->rank; a++)
        at = at * m->dim[a] + (m->dim[a] == 1 ? 0 : index[skip + a]);
    return m->value[at] == 0;
}

/* Change what is padded in every real operand; returns how many numbers that were. */
static int disturb(subject *s, const padding *p) {
    int changed = 0;
    for (int i = 0; i < s->t.n_inputs; i++) {
        test_input *x = &s->t.input[i];
        if (!test_input_is_smooth(x) || !speaks_of(p, x->rank, x->dim)) continue;
        for (int64_t e = 0; e < x->n; e++)
            if (leaves_out(p, x->rank, x->dim, e)) {
                x->value[e] = 0.1 + 0.75 * fabs(x->value[e]);
                changed++;
            }
        test_input_sync(x);
    }
    return changed;
}

static void compare_valid(const subject *s, const padding *p, int k, const test_kept *before,
                          const wr_tensor *after) {
    bool speaks = speaks_of(p, after->rank, after->dim);
    for (int64_t e = 0; e < after->n; e++) {
        if (speaks && leaves_out(p, after->rank, after->dim, e)) continue;
        double x = test_value(&before->tensor, e), y = test_value(after, e);
        if (x != y)
            fail_msg("%s, variant %d: padded operands change output %d, element %lld: %.9g to %.9g",
                     s->op->name, s->variant, k, (long long)e, x, y);
    }
}

static void check_padding(const wr_op *op, int variant, reached *r) {
    subject s;
    test_program p;
    test_kept kept[WR_MAX_OUTPUTS];
    if (!subject_begin(&s, op, WR_F64, variant)) return;
    test_program_open(&p, &s.t, s.n_out, s.out, NULL, 2);
    for (int i = 0; i < s.t.n_inputs; i++) {
        padding pad = {&s.t.input[i]};
        if (pad.by->fill != WR_FILL_LENGTH && pad.by->fill != WR_FILL_MASK) continue;
        test_program_run(&p, &s.t);
        for (int k = 0; k < s.n_out; k++)
            kept[k] = test_keep(test_program_output(&p, k));
        if (disturb(&s, &pad) > 0) {
            test_program_run(&p, &s.t);
            r->padded++;
            for (int k = 0; k < s.n_out; k++)
                compare_valid(&s, &pad, k, &kept[k], test_program_output(&p, k));
        }
        for (int k = 0; k < s.n_out; k++)
            test_forget(&kept[k]);
    }
    test_program_close(&p);
    test_case_end(&s.t);
}

/* ---- inverses ---- */

/* A row's sample as a bijection of one operand: u [1, ..] with the operand's values is its only
 * input, all its float outputs are outputs [1, ..], so that everything is one sentence. */
typedef struct one_operand {
    wr u, mask, out[WR_MAX_OUTPUTS];
    wr_bijection f;
    test_kept value;
    wr_feed feed[TEST_INPUTS + 1];
} one_operand;

static wr as_sentence(wr x) {
    wr_type t = wr_type_of(x);
    wr_dim dims[WR_MAX_RANK + 1] = {wr_n(1)};
    memcpy(dims + 1, t.dim, sizeof *dims * (size_t)t.rank);
    return wr_reshape(x, t.rank + 1, dims);
}

/* What the sample computes for its operand. */
static test_kept operand_value(subject *s, wr operand) {
    test_program p;
    test_program_open(&p, &s->t, 1, &operand, NULL, 1);
    test_program_run(&p, &s->t);
    test_kept value = test_keep(test_program_output(&p, 0));
    test_program_close(&p);
    return value;
}

static void feed_all(subject *s, one_operand *o) {
    for (int i = 0; i < s->t.n_inputs; i++) {
        const test_input *x = &s->t.input[i];
        o->feed[i] = (wr_feed){.name = x->name, .data = x->data, .rank = x->rank};
        memcpy(o->feed[i].dim, x->dim, sizeof x->dim);
    }
    wr_feed *last = &o->feed[s->t.n_inputs];
    *last = (wr_feed){.name = "u", .data = o->value.tensor.data, .rank = wr_rank(o->u), .dim = {1}};
    for (int d = 1; d < last->rank; d++)
        last->dim[d] = wr_dim_literal(wr_dim_of(o->u, d));
}

/* False: the operand is no float tensor, or too large for one more axis. */
static bool one_operand_begin(subject *s, int k, one_operand *o) {
    wr_graph *g = s->t.sample.g;
    wr in[TEST_INPUTS], operand = {g, wr_node_inputs(g, s->node.id)[k]};
    wr_type t = wr_type_of(operand);
    wr_attr attr[WR_MAX_ATTRS];
    int n_in = wr_node_at(g, s->node.id)->n_in, n_attr = wr_op_attr_count(s->op);
    memset(o, 0, sizeof *o);
    if (t.dtype != WR_F64 || t.rank == 0 || t.rank == WR_MAX_RANK) return false;
    for (int i = 0; i < n_in; i++)
        in[i] = (wr){g, wr_node_inputs(g, s->node.id)[i]};
    if (n_attr > 0) memcpy(attr, wr_node_attrs(g, s->node.id), sizeof *attr * (size_t)n_attr);
    o->value = operand_value(s, operand);
    wr_type wide = wr_type_of(as_sentence(operand));
    o->u = wr_input(g, "u", WR_F64, wide.rank, wide.dim);
    in[k] = wr_reshape(o->u, t.rank, t.dim);
    wr y = wr_emit(WR_HERE, s->op, n_in, in, attr);
    o->f = (wr_bijection){.n_in = 1, .ins = &o->u, .outs = o->out};
    for (int i = 0; i < s->n_out; i++)
        if (wr_dtype_of(s->out[i]) == WR_F64 && wr_rank(s->out[i]) < WR_MAX_RANK)
            o->out[o->f.n_out++] = as_sentence(wr_output(y, i));
    if (s->op == &wr_op_mask_apply) {
        o->mask = as_sentence(in[1]);
        o->f.masks = &o->mask;
    }
    feed_all(s, o);
    return o->f.n_out > 0;
}

static void compare_inverse(const subject *s, int k, const wr_check_report *report, reached *r) {
    const wr_check_result *back = &report->result[WR_CHECK_THERE_AND_BACK];
    const wr_check_result *det = &report->result[WR_CHECK_JACOBIAN];
    if (!report->passed || !(back->error < INVERT_ERROR)) {
        wr_check_print(report, stdout);
        fail_msg("%s, variant %d: its inverse by operand %d is wrong", s->op->name, s->variant, k);
    }
    r->inverse = fmax(r->inverse, back->error);
    r->det = fmax(r->det, det->error);
    r->inverted++;
}

/* A refusal names the reason of the row. */
static void check_refusal(const subject *s, int k, const wr_error *err, reached *r) {
    const char *reason = s->op->no_inverse;
    bool told = strstr(err->text, "not a bijection") != NULL &&
                (reason == NULL || strstr(err->text, reason) != NULL);
    if (!told)
        fail_msg("%s, variant %d: refuses the inverse by operand %d with \"%s\"", s->op->name,
                 s->variant, k, err->text);
    r->refused++;
}

static void check_inverse_by(const wr_op *op, int variant, int k, reached *r) {
    subject s;
    one_operand o;
    if (!subject_begin(&s, op, WR_F64, variant)) return;
    if (one_operand_begin(&s, k, &o)) {
        wr_error err = {0};
        wr_check_report report;
        wr_check_options options = {
            .n_values = s.t.n_inputs + 1, .values = o.feed, .bound = DET_ERROR};
        wr_status status = wr_check_bijection(&o.f, &options, &report, &err);
        if (status == WR_OK)
            compare_inverse(&s, k, &report, r);
        else
            check_refusal(&s, k, &err, r);
        if (status == WR_OK && op->inverse == NULL)
            fail_msg("%s: inverted without a rule", op->name);
    }
    test_forget(&o.value);
    test_case_end(&s.t);
}

static void check_inverse(const wr_op *op, int variant, reached *r) {
    subject s;
    if (!subject_begin(&s, op, WR_F64, variant)) return;
    int n_in = wr_node_at(s.t.sample.g, s.node.id)->n_in;
    test_case_end(&s.t);
    for (int k = 0; k < n_in && k < 4; k++)
        check_inverse_by(op, variant, k, r);
}

/* Rules that no operand alone can show; tests/test_invert.c and others have them. */
static bool needs_company(const wr_op *op) {
    return op == &wr_op_slice || op == &wr_op_gather || op == &wr_op_scatter_add ||
           op == &wr_op_cast || op == &wr_op_select || op == &wr_op_concat ||
           op == &wr_op_autoregressive;
}

/* ---- the walk ---- */

static bool has_variant(const wr_op *op, int variant) {
    subject s;
    if (!subject_begin(&s, op, WR_F64, variant)) return false;
    test_case_end(&s.t);
    return true;
}

static void check_variant(const wr_op *op, int variant, reached *r) {
    bool stateful = (op->traits & WR_STATEFUL) != 0;
    check_threads(op, WR_F32, variant);
    check_threads(op, WR_F64, variant);
    check_precision(op, variant, r);
    check_single_outputs(op, WR_F32, variant);
    check_single_outputs(op, WR_F64, variant);
    if (op == &wr_op_stop_gradient)
        check_stops_gradient(variant);
    else if (differentiable(op) && !stateful)
        check_gradients(op, variant, r);
    if (!differentiable(op) && !stateful) check_refuses_gradient(op, variant);
    if (op->expand != NULL) check_expansion(op, variant, r);
    if (op->inplace != 0) check_in_place(op, WR_F32, variant, r);
    if (op->inplace != 0) check_in_place(op, WR_F64, variant, r);
    if (op->traits & WR_RANDOM) check_random(op, variant);
    check_padding(op, variant, r);
    if (!stateful) check_inverse(op, variant, r);
}

static void print_reached(const wr_op *op, const reached *r) {
    wr_str s = {0};
    wr_str_add(&s, "%-22s %2d samples  f32 %.1e", op->name, r->variants, r->f32);
    if (differentiable(op)) wr_str_add(&s, "  gradient %.1e  second %.1e", r->grad, r->second);
    if (op->expand != NULL) wr_str_add(&s, "  expansion %.1e", r->expand);
    if (op->inplace != 0) wr_str_add(&s, "  in place");
    if (r->inverted > 0) wr_str_add(&s, "  inverse %.1e  det %.1e", r->inverse, r->det);
    if (r->padded > 0) wr_str_add(&s, "  padding %d", r->padded);
    if (op->traits & WR_RANDOM) wr_str_add(&s, "  random");
    print_message("%s\n", wr_str_text(&s));
    wr_str_free(&s);
}

static void test_row(void **state) {
    const wr_op *op = *state;
    reached r = {0};
    if (op->sample == NULL) skip();
    while (has_variant(op, r.variants)) {
        assert_true(r.variants < MAX_VARIANTS);
        check_variant(op, r.variants++, &r);
    }
    assert_true(r.variants > 0);
    if (op->inplace != 0 && !(op->traits & WR_STATEFUL) && r.in_place == 0)
        fail_msg("%s: no sample works in place, though the row says it can", op->name);
    if (op->inverse != NULL && r.inverted == 0 && !needs_company(op))
        fail_msg("%s: has an inverse rule, but no sample was inverted", op->name);
    print_reached(op, &r);
}

/* What is missing in a row needs its reason. */
static void check_holes(const wr_op *op) {
    bool runs = !(op->traits & (WR_SOURCE | WR_VIEW)) && op != &wr_op_output;
    if (op->name == NULL || op->doc == NULL || op->shape == NULL) fail_msg("a row without a name");
    if (!differentiable(op) && op->no_grad == NULL)
        fail_msg("%s has neither gradient nor expansion nor a reason", op->name);
    if (op->inverse == NULL && op->no_inverse == NULL)
        fail_msg("%s has no inverse and gives no reason", op->name);
    if (op->sample == NULL && op->no_sample == NULL)
        fail_msg("%s has no sample and gives no reason", op->name);
    if (runs && op->cpu == NULL) fail_msg("%s has no kernel", op->name);
    if (op->inplace < 0 || (op->n_in_max == 0 && op->inplace > op->n_in))
        fail_msg("%s works in place of operand %d of %d", op->name, op->inplace, op->n_in);
    if ((op->traits & WR_STATEFUL) && op->writes == NULL)
        fail_msg("%s is stateful and does not say what it writes", op->name);
    assert_ptr_equal(wr_op_find(op->name), op); /* names are unique */
}

static void test_holes(void **state) {
    (void)state;
    for (int i = 0; i < wr_op_count(); i++)
        check_holes(wr_op_at(i));
}

int main(void) {
    int n = wr_op_count();
    struct CMUnitTest *tests = calloc((size_t)n + 1, sizeof *tests);
    if (tests == NULL) return 1;
    tests[0] = (struct CMUnitTest)cmocka_unit_test(test_holes);
    for (int i = 0; i < n; i++)
        tests[i + 1] = (struct CMUnitTest){.name = wr_op_at(i)->name,
                                           .test_func = test_row,
                                           .initial_state = (void *)(uintptr_t)wr_op_at(i)};
    if (getenv("WEIR_TEST_ROW") != NULL) cmocka_set_test_filter(getenv("WEIR_TEST_ROW"));
    int failed = _cmocka_run_group_tests("ops", tests, (size_t)n + 1, NULL, NULL);
    free(tests);
    return failed;
}
