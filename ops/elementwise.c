/* elementwise.c: the rows of arithmetic and of functions of one element.
 *
 * Each row's gradient is written in other rows of this file, so gradients of any order exist. A
 * tile function works on contiguous elements; elementwise_run.c walks the tensors. */
#include "ops/elementwise.h"

#include "ops/cpu/vmath.h"
#include "ops/elementwise_kernel.h"
#include "ops/shape.h"

#include <math.h>

wr wr_unary_at(wr_loc loc, const wr_op *op, wr x) { return wr_emit(loc, op, 1, &x, NULL); }

wr wr_binary_at(wr_loc loc, const wr_op *op, wr a, wr b) {
    return wr_emit(loc, op, 2, (wr[]){a, b}, NULL);
}

wr wr_real_at(wr_loc loc, const wr_op *op, wr x, double value) {
    return wr_emit(loc, op, 1, &x, (wr_attr[]){{.r = value}});
}

wr wr_select_at(wr_loc loc, wr condition, wr a, wr b) {
    return wr_emit(loc, &wr_op_select, 3, (wr[]){condition, a, b}, NULL);
}

/* ---- shapes: there is no arithmetic of whole numbers ---- */

static bool float_same(wr_shape_ctx *c) { return wr_shape_needs_float(c, 0) && wr_shape_same(c); }

static bool float_trailing(wr_shape_ctx *c) {
    return wr_shape_needs_float(c, 0) && wr_shape_trailing(c);
}

/* ---- samples ---- */

/* The sizes of a sample; large ones enter the parallel path. */
static void sample_dims(wr_sample *s, bool large, int64_t dims[3]) {
    dims[0] = large ? 3 : wr_sample_int(s, 1, 3);
    dims[1] = large ? 7 : wr_sample_int(s, 1, 5);
    dims[2] = large ? 3821 : wr_sample_int(s, 1, 9);
}

static wr sample_one(wr_sample *s, wr_fill fill) {
    int64_t dims[3];
    sample_dims(s, s->variant == 1, dims);
    return s->input(s, fill, 0, 3, dims);
}

/* Variants: equal sizes, suffix on the right, suffix on the left, scalar, large with a suffix. */
static wr sample_two(wr_sample *s, const wr_op *op, wr_fill a, wr_fill b) {
    if (s->variant > 4) return (wr){s->g, 0};
    int64_t dims[3];
    sample_dims(s, s->variant == 4, dims);
    int drop = s->variant == 3 ? 3 : s->variant == 0 ? 0 : 2;
    wr full = s->input(s, s->variant == 2 ? b : a, 0, 3, dims);
    wr part = s->input(s, s->variant == 2 ? a : b, 0, 3 - drop, dims + drop);
    return s->variant == 2 ? wr_binary_at(WR_HERE, op, part, full)
                           : wr_binary_at(WR_HERE, op, full, part);
}

#define SAMPLE_UNARY(name, fill)                                                                   \
    static wr name##_sample(wr_sample *s) {                                                        \
        return s->variant > 1 ? (wr){s->g, 0}                                                      \
                              : wr_unary_at(WR_HERE, &wr_op_##name, sample_one(s, fill));          \
    }
#define SAMPLE_BINARY(name, a, b)                                                                  \
    static wr name##_sample(wr_sample *s) { return sample_two(s, &wr_op_##name, a, b); }
#define SAMPLE_REAL(name, fill, value)                                                             \
    static wr name##_sample(wr_sample *s) {                                                        \
        return s->variant > 1 ? (wr){s->g, 0}                                                      \
                              : wr_real_at(WR_HERE, &wr_op_##name, sample_one(s, fill), value);    \
    }

/* ---- tiles ---- */

#define TILE(name, type, body)                                                                     \
    static void name(int64_t n, const void *const *in, void *out, const wr_attr *attr) {           \
        (void)attr;                                                                                \
        type *o = out;                                                                             \
        body                                                                                       \
    }
#define TILE_KERNEL(name)                                                                          \
    static const wr_tile name##_tile = {name##_f32, name##_f64};                                   \
    static wr_status name##_cpu(const wr_call *c) { return wr__elementwise_one(c, &name##_tile); }
#define LOOP(expr) _Pragma("omp simd") for (int64_t i = 0; i < n; i++) o[i] = (expr);
#define UNARY_TILES(name, f32, f64)                                                                \
    TILE(name##_f32, float, const float *p = in[0]; LOOP(f32))                                     \
    TILE(name##_f64, double, const double *p = in[0]; LOOP(f64))                                   \
    TILE_KERNEL(name)
#define BINARY_TILES(name, f32, f64)                                                               \
    TILE(name##_f32, float, const float *p = in[0]; const float *q = in[1]; LOOP(f32))             \
    TILE(name##_f64, double, const double *p = in[0]; const double *q = in[1]; LOOP(f64))          \
    TILE_KERNEL(name)
#define REAL_TILES(name, f32, f64)                                                                 \
    TILE(name##_f32, float, const float *p = in[0]; const float k = (float)attr[0].r; LOOP(f32))   \
    TILE(name##_f64, double, const double *p = in[0]; const double k = attr[0].r; LOOP(f64))       \
    TILE_KERNEL(name)

#define ROW(op_name, op_doc, arity, shape_rule)                                                    \
    .name = #op_name, .doc = op_doc, .traits = WR_ELEMENTWISE, .n_in = arity, .shape = shape_rule, \
    .cost = wr__elementwise_cost, .cpu = op_name##_cpu, .inplace = 1, .sample = op_name##_sample,  \
    .extra = &op_name##_tile

/* ---- arithmetic ---- */

static const double LOG_2 = 0.69314718055994530942;

#define COT   (c->cot[0])
#define OUT   (c->out[0])
#define IN(k) (c->in[k])

/* ---- inverse rules ---- */

/* The one unknown operand of a binary row, full-size; -1: not (yet) solvable. */
static int wanted(wr_inverse_ctx *c) {
    bool first = c->x[0].id == 0, second = c->x[1].id == 0;
    if (c->in[0].id == c->in[1].id)
        return wr_inverse_wait(c, "both operands are the same node") - 1;
    if (first && second)
        return wr_inverse_wait(c, "neither of its operands is known: it mixes two unknowns") - 1;
    int k = first ? 0 : 1;
    if (wr_rank(c->in[k]) < wr_rank(c->out[0]))
        return wr_inverse_wait(c, "the unknown operand was repeated over leading axes: "
                                  "over-determined") -
               1;
    return k;
}

static bool add_inverse(wr_inverse_ctx *c) {
    int k = wanted(c);
    return k >= 0 && wr_inverse_solve(c, k, wr_sub(c->y[0], c->x[1 - k])).id != 0;
}

BINARY_TILES(add, p[i] + q[i], p[i] + q[i])
SAMPLE_BINARY(add, WR_FILL_REAL, WR_FILL_REAL)
static bool add_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, COT) && wr_contribute(c, 1, COT);
}
const wr_op wr_op_add = {ROW(add, "a + b", 2, float_trailing), .grad = add_grad,
                         .inverse = add_inverse};

BINARY_TILES(sub, p[i] - q[i], p[i] - q[i])
SAMPLE_BINARY(sub, WR_FILL_REAL, WR_FILL_REAL)
static bool sub_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, COT) && wr_contribute(c, 1, wr_neg(COT));
}
static bool sub_inverse(wr_inverse_ctx *c) {
    int k = wanted(c);
    if (k < 0) return false;
    return wr_inverse_solve(c, k, k == 0 ? wr_add(c->y[0], c->x[1]) : wr_sub(c->x[0], c->y[0]))
               .id != 0;
}
const wr_op wr_op_sub = {ROW(sub, "a - b", 2, float_trailing), .grad = sub_grad,
                         .inverse = sub_inverse};

/* s where operand k = exp(s) or sigmoid(s) and s is known, else poison. */
static wr exponent(wr_inverse_ctx *c, int k) {
    const wr_node *made = wr_node_at(c->g, c->in[k].id);
    wr none = {c->g, 0};
    if (made->op != &wr_op_exp && made->op != &wr_op_sigmoid) return none;
    return wr_inverse_value(c, (wr){c->g, wr_node_inputs(c->g, c->in[k].id)[0]});
}

/* log |k|, without the round trip where k = exp(s) or sigmoid(s). */
static wr log_of_factor(wr_inverse_ctx *c, int k) {
    wr s = exponent(c, k);
    if (s.id == 0) return wr_log(wr_abs(wr_inverse_padded(c, c->x[k], 1.0)));
    return wr_node_at(c->g, c->in[k].id)->op == &wr_op_exp ? s : wr_log_sigmoid(s);
}

/* Operand k as what is divided by. */
static wr factor(wr_inverse_ctx *c, int k) {
    return exponent(c, k).id != 0 ? c->x[k] : wr_inverse_padded(c, c->x[k], 1.0);
}

static bool mul_inverse(wr_inverse_ctx *c) {
    int k = wanted(c);
    if (k < 0) return false;
    return wr_inverse_term(c, k, log_of_factor(c, 1 - k)) &&
           wr_inverse_solve(c, k, wr_div(c->y[0], factor(c, 1 - k))).id != 0;
}

BINARY_TILES(mul, p[i] * q[i], p[i] * q[i])
SAMPLE_BINARY(mul, WR_FILL_REAL, WR_FILL_REAL)
static bool mul_grad(wr_grad_ctx *c) {
    return (!c->needed[0] || wr_contribute(c, 0, wr_mul(COT, IN(1)))) &&
           (!c->needed[1] || wr_contribute(c, 1, wr_mul(COT, IN(0))));
}
const wr_op wr_op_mul = {ROW(mul, "a b", 2, float_trailing), .grad = mul_grad,
                         .inverse = mul_inverse};

BINARY_TILES(div, p[i] / q[i], p[i] / q[i])
SAMPLE_BINARY(div, WR_FILL_REAL, WR_FILL_POSITIVE)
static bool div_grad(wr_grad_ctx *c) {
    wr by_b = wr_div(COT, IN(1));
    return wr_contribute(c, 0, by_b) &&
           (!c->needed[1] || wr_contribute(c, 1, wr_neg(wr_mul(by_b, OUT))));
}
/* |d y / d a| = 1 / |b|, |d y / d b| = |a| / b^2. */
static bool div_inverse(wr_inverse_ctx *c) {
    int k = wanted(c);
    if (k < 0) return false;
    if (k == 0)
        return wr_inverse_term(c, 0, wr_neg(log_of_factor(c, 1))) &&
               wr_inverse_solve(c, 0, wr_mul(c->y[0], c->x[1])).id != 0;
    wr a = wr_inverse_padded(c, c->x[0], 1.0);
    wr b = wr_inverse_solve(c, 1, wr_div(a, wr_inverse_padded(c, c->y[0], 1.0)));
    wr twice = wr_scale(wr_log(wr_abs(wr_inverse_padded(c, b, 1.0))), 2.0);
    return wr_inverse_term(c, 1, wr_sub(log_of_factor(c, 0), twice));
}
const wr_op wr_op_div = {ROW(div, "a / b", 2, float_trailing), .grad = div_grad,
                         .inverse = div_inverse};

/* NaN operands give NaN, as arithmetic does. At ties the gradient goes to the first operand. */
BINARY_TILES(maximum, p[i] >= q[i] || p[i] != p[i] ? p[i] : q[i],
             p[i] >= q[i] || p[i] != p[i] ? p[i] : q[i])
SAMPLE_BINARY(maximum, WR_FILL_APART, WR_FILL_APART)
static bool maximum_grad(wr_grad_ctx *c) {
    wr zero = wr_scalar(c->g, wr_dtype_of(COT), 0.0), second = wr_less(IN(0), IN(1));
    return wr_contribute(c, 0, wr_select(second, zero, COT)) &&
           wr_contribute(c, 1, wr_select(second, COT, zero));
}
const wr_op wr_op_maximum = {ROW(maximum, "the larger of a and b", 2, float_trailing),
                             .grad = maximum_grad, .no_inverse = "loses the smaller operand"};

BINARY_TILES(minimum, p[i] <= q[i] || p[i] != p[i] ? p[i] : q[i],
             p[i] <= q[i] || p[i] != p[i] ? p[i] : q[i])
SAMPLE_BINARY(minimum, WR_FILL_APART, WR_FILL_APART)
static bool minimum_grad(wr_grad_ctx *c) {
    wr zero = wr_scalar(c->g, wr_dtype_of(COT), 0.0), second = wr_less(IN(1), IN(0));
    return wr_contribute(c, 0, wr_select(second, zero, COT)) &&
           wr_contribute(c, 1, wr_select(second, COT, zero));
}
const wr_op wr_op_minimum = {ROW(minimum, "the smaller of a and b", 2, float_trailing),
                             .grad = minimum_grad, .no_inverse = "loses the larger operand"};

BINARY_TILES(less, p[i] < q[i] ? 1.0f : 0.0f, p[i] < q[i] ? 1.0 : 0.0)
SAMPLE_BINARY(less, WR_FILL_APART, WR_FILL_APART)
const wr_op wr_op_less = {ROW(less, "1 where a < b, else 0", 2, float_trailing),
                          .no_grad = "piecewise constant: the gradient is zero where it exists",
                          .no_inverse = "keeps one bit"};

BINARY_TILES(equal, p[i] == q[i] ? 1.0f : 0.0f, p[i] == q[i] ? 1.0 : 0.0)
SAMPLE_BINARY(equal, WR_FILL_MASK, WR_FILL_MASK)
const wr_op wr_op_equal = {ROW(equal, "1 where a = b, else 0", 2, float_trailing),
                           .no_grad = "piecewise constant: the gradient is zero where it exists",
                           .no_inverse = "keeps one bit"};

TILE(select_f32, float, const float *c = in[0]; const float *p = in[1]; const float *q = in[2];
     LOOP(c[i] != 0.0f ? p[i] : q[i]))
TILE(select_f64, double, const double *c = in[0]; const double *p = in[1]; const double *q = in[2];
     LOOP(c[i] != 0.0 ? p[i] : q[i]))
TILE_KERNEL(select)
static wr select_sample(wr_sample *s) {
    if (s->variant > 1) return (wr){s->g, 0};
    int64_t dims[2] = {wr_sample_int(s, 1, 4), wr_sample_int(s, 1, 6)};
    wr mask = s->input(s, WR_FILL_MASK, 0, 2 - s->variant, dims + s->variant);
    return wr_select(mask, s->input(s, WR_FILL_REAL, 0, 2, dims),
                     s->input(s, WR_FILL_REAL, 0, 2, dims));
}
static bool select_grad(wr_grad_ctx *c) {
    wr zero = wr_scalar(c->g, wr_dtype_of(COT), 0.0);
    return wr_contribute(c, 1, wr_select(IN(0), COT, zero)) &&
           wr_contribute(c, 2, wr_select(IN(0), zero, COT));
}
static bool select_inverse(wr_inverse_ctx *c) { return wr_inverse_select(c); }
const wr_op wr_op_select = {
    ROW(select, "a where the condition is not 0, else b", 3, float_trailing), .grad = select_grad,
    .inverse = select_inverse};

/* ---- functions of one operand ---- */

UNARY_TILES(neg, -p[i], -p[i])
SAMPLE_UNARY(neg, WR_FILL_REAL)
static bool neg_grad(wr_grad_ctx *c) { return wr_contribute(c, 0, wr_neg(COT)); }
static bool neg_inverse(wr_inverse_ctx *c) {
    return wr_inverse_solve(c, 0, wr_neg(c->y[0])).id != 0;
}
const wr_op wr_op_neg = {ROW(neg, "-x", 1, float_same), .grad = neg_grad, .inverse = neg_inverse};

UNARY_TILES(exp, wr_exp_f32(p[i]), exp(p[i]))
SAMPLE_UNARY(exp, WR_FILL_REAL)
static bool exp_grad(wr_grad_ctx *c) { return wr_contribute(c, 0, wr_mul(COT, OUT)); }
static bool exp_inverse(wr_inverse_ctx *c) {
    wr x = wr_inverse_solve(c, 0, wr_log(wr_inverse_padded(c, c->y[0], 1.0)));
    return wr_inverse_term(c, 0, x);
}
const wr_op wr_op_exp = {ROW(exp, "e^x", 1, float_same), .grad = exp_grad, .inverse = exp_inverse};

UNARY_TILES(expm1, wr_expm1_f32(p[i]), expm1(p[i]))
SAMPLE_UNARY(expm1, WR_FILL_REAL)
static bool expm1_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, wr_mul(COT, wr_shift(OUT, 1.0)));
}
static bool expm1_inverse(wr_inverse_ctx *c) {
    wr x = wr_inverse_solve(c, 0, wr_log1p(wr_inverse_padded(c, c->y[0], 0.0)));
    return wr_inverse_term(c, 0, x);
}
const wr_op wr_op_expm1 = {ROW(expm1, "e^x - 1", 1, float_same), .grad = expm1_grad,
                           .inverse = expm1_inverse};

UNARY_TILES(log, wr_log_f32(p[i]), log(p[i]))
SAMPLE_UNARY(log, WR_FILL_POSITIVE)
static bool log_grad(wr_grad_ctx *c) { return wr_contribute(c, 0, wr_div(COT, IN(0))); }
static bool log_inverse(wr_inverse_ctx *c) { /* |d y / d x| = 1 / x = e^-y */
    return wr_inverse_term(c, 0, wr_neg(c->y[0])) &&
           wr_inverse_solve(c, 0, wr_exp(c->y[0])).id != 0;
}
const wr_op wr_op_log = {ROW(log, "natural logarithm", 1, float_same), .grad = log_grad,
                         .inverse = log_inverse};

UNARY_TILES(log1p, wr_log1p_f32(p[i]), log1p(p[i]))
SAMPLE_UNARY(log1p, WR_FILL_POSITIVE)
static bool log1p_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, wr_div(COT, wr_shift(IN(0), 1.0)));
}
static bool log1p_inverse(wr_inverse_ctx *c) {
    return wr_inverse_term(c, 0, wr_neg(c->y[0])) &&
           wr_inverse_solve(c, 0, wr_expm1(c->y[0])).id != 0;
}
const wr_op wr_op_log1p = {ROW(log1p, "log(1 + x)", 1, float_same), .grad = log1p_grad,
                           .inverse = log1p_inverse};

UNARY_TILES(sqrt, sqrtf(p[i]), sqrt(p[i]))
SAMPLE_UNARY(sqrt, WR_FILL_POSITIVE)
static bool sqrt_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, wr_scale(wr_div(COT, OUT), 0.5));
}
/* From x > 0 to y > 0: |d y / d x| = 1 / (2 y). */
static bool sqrt_inverse(wr_inverse_ctx *c) {
    wr y = wr_inverse_padded(c, c->y[0], 1.0);
    return wr_inverse_term(c, 0, wr_neg(wr_log(wr_scale(y, 2.0)))) &&
           wr_inverse_solve(c, 0, wr_square(y)).id != 0;
}
const wr_op wr_op_sqrt = {ROW(sqrt, "square root", 1, float_same), .grad = sqrt_grad,
                          .inverse = sqrt_inverse};

UNARY_TILES(rsqrt, 1.0f / sqrtf(p[i]), 1.0 / sqrt(p[i]))
SAMPLE_UNARY(rsqrt, WR_FILL_POSITIVE)
static bool rsqrt_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, wr_scale(wr_div(wr_mul(COT, OUT), IN(0)), -0.5));
}
/* From x > 0 to y > 0: |d y / d x| = y^3 / 2. */
static bool rsqrt_inverse(wr_inverse_ctx *c) {
    wr y = wr_inverse_padded(c, c->y[0], 1.0);
    return wr_inverse_term(c, 0, wr_shift(wr_scale(wr_log(y), 3.0), -LOG_2)) &&
           wr_inverse_solve(c, 0, wr_reciprocal(wr_square(y))).id != 0;
}
const wr_op wr_op_rsqrt = {ROW(rsqrt, "1 / sqrt x", 1, float_same), .grad = rsqrt_grad,
                           .inverse = rsqrt_inverse};

UNARY_TILES(square, p[i] * p[i], p[i] * p[i])
SAMPLE_UNARY(square, WR_FILL_REAL)
static bool square_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, wr_scale(wr_mul(COT, IN(0)), 2.0));
}
const wr_op wr_op_square = {ROW(square, "x^2", 1, float_same), .grad = square_grad,
                            .no_inverse = "x and -x have one square"};

UNARY_TILES(abs, fabsf(p[i]), fabs(p[i]))
SAMPLE_UNARY(abs, WR_FILL_APART)
static bool abs_grad(wr_grad_ctx *c) {
    wr negative = wr_less(IN(0), wr_scalar(c->g, wr_dtype_of(COT), 0.0));
    return wr_contribute(c, 0, wr_select(negative, wr_neg(COT), COT));
}
const wr_op wr_op_abs = {ROW(abs, "|x|", 1, float_same), .grad = abs_grad,
                         .no_inverse = "x and -x have one absolute value"};

UNARY_TILES(reciprocal, 1.0f / p[i], 1.0 / p[i])
SAMPLE_UNARY(reciprocal, WR_FILL_POSITIVE)
static bool reciprocal_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, wr_neg(wr_mul(COT, wr_square(OUT))));
}
static bool reciprocal_inverse(wr_inverse_ctx *c) { /* |d y / d x| = y^2 */
    wr y = wr_inverse_padded(c, c->y[0], 1.0);
    return wr_inverse_term(c, 0, wr_scale(wr_log(wr_abs(y)), 2.0)) &&
           wr_inverse_solve(c, 0, wr_reciprocal(y)).id != 0;
}
const wr_op wr_op_reciprocal = {ROW(reciprocal, "1 / x", 1, float_same), .grad = reciprocal_grad,
                                .inverse = reciprocal_inverse};

UNARY_TILES(tanh, wr_tanh_f32(p[i]), tanh(p[i]))
SAMPLE_UNARY(tanh, WR_FILL_REAL)
static bool tanh_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, wr_sub(COT, wr_mul(COT, wr_square(OUT))));
}
/* log (1 - tanh^2 x), without the cancellation of 1 - tanh^2 x where x is large. */
static wr log_slope_of_tanh(wr x) {
    wr half = wr_add(x, wr_softplus(wr_scale(x, -2.0)));
    return wr_shift(wr_scale(half, -2.0), 2.0 * LOG_2);
}
static bool tanh_inverse(wr_inverse_ctx *c) {
    wr x = wr_inverse_solve(c, 0, wr_atanh(wr_inverse_padded(c, c->y[0], 0.0)));
    return wr_inverse_term(c, 0, log_slope_of_tanh(x));
}
const wr_op wr_op_tanh = {ROW(tanh, "hyperbolic tangent", 1, float_same), .grad = tanh_grad,
                          .inverse = tanh_inverse};

UNARY_TILES(atanh, atanhf(p[i]), atanh(p[i]))
SAMPLE_UNARY(atanh, WR_FILL_UNIT)
static bool atanh_grad(wr_grad_ctx *c) {
    wr slope = wr_shift(wr_neg(wr_square(IN(0))), 1.0);
    return wr_contribute(c, 0, wr_div(COT, slope));
}
static bool atanh_inverse(wr_inverse_ctx *c) {
    return wr_inverse_term(c, 0, wr_neg(log_slope_of_tanh(c->y[0]))) &&
           wr_inverse_solve(c, 0, wr_tanh(c->y[0])).id != 0;
}
const wr_op wr_op_atanh = {ROW(atanh, "inverse hyperbolic tangent", 1, float_same),
                           .grad = atanh_grad, .inverse = atanh_inverse};

UNARY_TILES(sigmoid, wr_sigmoid_f32(p[i]), 1.0 / (1.0 + exp(-p[i])))
SAMPLE_UNARY(sigmoid, WR_FILL_REAL)
static bool sigmoid_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, wr_mul(COT, wr_sub(OUT, wr_square(OUT))));
}
/* x = log y - log (1 - y); log (y (1 - y)) = -x - 2 softplus(-x). */
static bool sigmoid_inverse(wr_inverse_ctx *c) {
    wr y = wr_inverse_padded(c, c->y[0], 0.5);
    wr x = wr_inverse_solve(c, 0, wr_sub(wr_log(y), wr_log1p(wr_neg(y))));
    return wr_inverse_term(c, 0, wr_neg(wr_add(x, wr_scale(wr_softplus(wr_neg(x)), 2.0))));
}
const wr_op wr_op_sigmoid = {ROW(sigmoid, "1 / (1 + e^-x)", 1, float_same), .grad = sigmoid_grad,
                             .inverse = sigmoid_inverse};

UNARY_TILES(softplus, wr_softplus_f32(p[i]), (p[i] > 0 ? p[i] : 0) + log1p(exp(-fabs(p[i]))))
SAMPLE_UNARY(softplus, WR_FILL_REAL)
static bool softplus_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, wr_mul(COT, wr_sigmoid(IN(0))));
}
static bool softplus_inverse(wr_inverse_ctx *c) { /* x = y + log (1 - e^-y) */
    wr y = wr_inverse_padded(c, c->y[0], 1.0);
    wr x = wr_inverse_solve(c, 0, wr_add(y, wr_log(wr_neg(wr_expm1(wr_neg(y))))));
    return wr_inverse_term(c, 0, wr_log_sigmoid(x));
}
const wr_op wr_op_softplus = {ROW(softplus, "log(1 + e^x)", 1, float_same), .grad = softplus_grad,
                              .inverse = softplus_inverse};

UNARY_TILES(log_sigmoid, -wr_softplus_f32(-p[i]), (p[i] < 0 ? p[i] : 0) - log1p(exp(-fabs(p[i]))))
SAMPLE_UNARY(log_sigmoid, WR_FILL_REAL)
/* By sigmoid(x), which couplings that scale by it have anyway. */
static bool log_sigmoid_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, wr_sub(COT, wr_mul(COT, wr_sigmoid(IN(0)))));
}
static bool log_sigmoid_inverse(wr_inverse_ctx *c) { /* x = y - log (1 - e^y) */
    wr y = wr_inverse_padded(c, c->y[0], -1.0);
    wr x = wr_inverse_solve(c, 0, wr_sub(y, wr_log(wr_neg(wr_expm1(y)))));
    return wr_inverse_term(c, 0, wr_log_sigmoid(wr_neg(x)));
}
const wr_op wr_op_log_sigmoid = {ROW(log_sigmoid, "-log(1 + e^-x)", 1, float_same),
                                 .grad = log_sigmoid_grad, .inverse = log_sigmoid_inverse};

UNARY_TILES(relu, p[i] > 0.0f || p[i] != p[i] ? p[i] : 0.0f,
            p[i] > 0.0 || p[i] != p[i] ? p[i] : 0.0)
SAMPLE_UNARY(relu, WR_FILL_APART)
static bool relu_grad(wr_grad_ctx *c) { /* by the output: the operand need not be kept */
    wr zero = wr_scalar(c->g, wr_dtype_of(COT), 0.0);
    return wr_contribute(c, 0, wr_select(OUT, COT, zero));
}
const wr_op wr_op_relu = {ROW(relu, "max(x, 0)", 1, float_same), .grad = relu_grad,
                          .no_inverse = "maps all negative numbers to 0"};

UNARY_TILES(erf, wr_erf_f32(p[i]), erf(p[i]))
SAMPLE_UNARY(erf, WR_FILL_REAL)
static bool erf_grad(wr_grad_ctx *c) {
    wr density = wr_scale(wr_exp(wr_neg(wr_square(IN(0)))), 1.1283791670955125739);
    return wr_contribute(c, 0, wr_mul(COT, density));
}
const wr_op wr_op_erf = {ROW(erf, "error function", 1, float_same), .grad = erf_grad,
                         .no_inverse = "no row computes the inverse error function"};

UNARY_TILES(gelu, wr_gelu_f32(p[i]), 0.5 * p[i] * (1.0 + erf(p[i] * 0.70710678118654752440)))
SAMPLE_UNARY(gelu, WR_FILL_REAL)
static bool gelu_grad(wr_grad_ctx *c) { /* Phi(x) + x phi(x) */
    wr x = IN(0);
    wr phi = wr_scale(wr_exp(wr_scale(wr_square(x), -0.5)), 0.39894228040143267794);
    wr cdf = wr_shift(wr_scale(wr_erf(wr_scale(x, 0.70710678118654752440)), 0.5), 0.5);
    return wr_contribute(c, 0, wr_mul(COT, wr_add(cdf, wr_mul(x, phi))));
}
const wr_op wr_op_gelu = {ROW(gelu, "x Phi(x), exact", 1, float_same), .grad = gelu_grad,
                          .no_inverse = "not monotone: two operands share an output"};

/* ---- with one real attribute ---- */

#define REAL_ATTR .attrs = {{"k", WR_ATTR_REAL}}
REAL_TILES(scale, p[i] * k, p[i] * k)
SAMPLE_REAL(scale, WR_FILL_REAL, 1.75)
static bool scale_grad(wr_grad_ctx *c) { return wr_contribute(c, 0, wr_scale(COT, c->attr[0].r)); }
static bool scale_inverse(wr_inverse_ctx *c) {
    double k = c->attr[0].r;
    if (k == 0.0) return wr_inverse_wait(c, "times 0: all operands have one result");
    return wr_inverse_term(c, 0, wr_scalar(c->g, wr_dtype_of(c->y[0]), log(fabs(k)))) &&
           wr_inverse_solve(c, 0, wr_scale(c->y[0], 1.0 / k)).id != 0;
}
const wr_op wr_op_scale = {ROW(scale, "k x", 1, float_same), .grad = scale_grad, REAL_ATTR,
                           .inverse = scale_inverse};

REAL_TILES(shift, p[i] + k, p[i] + k)
SAMPLE_REAL(shift, WR_FILL_REAL, -0.625)
static bool shift_grad(wr_grad_ctx *c) { return wr_contribute(c, 0, COT); }
static bool shift_inverse(wr_inverse_ctx *c) {
    return wr_inverse_solve(c, 0, wr_shift(c->y[0], -c->attr[0].r)).id != 0;
}
const wr_op wr_op_shift = {ROW(shift, "x + k", 1, float_same), .grad = shift_grad, REAL_ATTR,
                           .inverse = shift_inverse};

REAL_TILES(power, powf(p[i], k), pow(p[i], k))
SAMPLE_REAL(power, WR_FILL_POSITIVE, 2.5)
static bool power_grad(wr_grad_ctx *c) {
    double k = c->attr[0].r;
    return wr_contribute(c, 0, wr_mul(COT, wr_scale(wr_power(IN(0), k - 1.0), k)));
}
static bool power_inverse(wr_inverse_ctx *c) { /* from x > 0 to y > 0 */
    double k = c->attr[0].r;
    if (k == 0.0) return wr_inverse_wait(c, "to the power 0: all operands have one result");
    wr x = wr_inverse_solve(c, 0, wr_power(wr_inverse_padded(c, c->y[0], 1.0), 1.0 / k));
    wr slope = wr_scale(wr_log(wr_inverse_padded(c, x, 1.0)), k - 1.0);
    return wr_inverse_term(c, 0, wr_shift(slope, log(fabs(k))));
}
const wr_op wr_op_power = {ROW(power, "x^k for x > 0", 1, float_same), .grad = power_grad,
                           REAL_ATTR, .inverse = power_inverse};
