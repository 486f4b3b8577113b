/* norm.c: layer normalisation. With h = (x - mean) rstd and g = cot gamma, its gradient is
 *
 *     dx = rstd (g - mean(g) - h mean(g h)),   dgamma = sum over rows of cot h,   dbeta = sum of
 * cot
 *
 * in one pass. Rows are cut into parts whose number depends on the sizes alone; the parts' sums are
 * added in order, so that the result is the same for any number of threads. */
#include "ops/norm.h"

#include "ops/cpu/rows.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "ops/softmax.h"

enum { PARALLEL_ELEMENTS = 16384, PART_ROWS = 16, PARTS_MAX = 16 };

wr wr_layer_norm_at(wr_loc loc, wr x, wr gamma, wr beta, double eps) {
    return wr_emit(loc, &wr_op_layer_norm, 3, (wr[]){x, gamma, beta}, (wr_attr[]){{.r = eps}});
}

/* ---- shapes ---- */

/* Operand k is a vector as long as the last axis of t. */
static bool is_gain(wr_shape_ctx *c, const wr_type *t, int k) {
    wr_type v = wr_type_of(c->in[k]);
    return v.rank == 1 && wr_shape_suffix(c->g, t, &v);
}

static bool norm_shape(wr_shape_ctx *c) {
    wr_type t = wr_type_of(c->in[0]), row = t;
    if (!wr_shape_needs_float(c, 0)) return false;
    if (t.rank == 0 || !is_gain(c, &t, 1) || !is_gain(c, &t, 2))
        return wr_shape_fail(c, "x [.., D], gamma [D], beta [D]", NULL, "sizes do not fit");
    row.rank--;
    c->out[0] = t;
    c->out[1] = c->out[2] = row;
    return true;
}

static bool norm_grad_shape(wr_shape_ctx *c) {
    wr_type t = wr_type_of(c->in[0]), cot = wr_type_of(c->in[4]), row = t;
    row.rank--;
    wr_type mean = wr_type_of(c->in[2]), rstd = wr_type_of(c->in[3]);
    if (!wr_shape_needs_float(c, 0)) return false;
    if (t.rank == 0 || !is_gain(c, &t, 1) || !wr_shape_equal(c->g, &mean, &row) ||
        !wr_shape_equal(c->g, &rstd, &row) || !wr_shape_equal(c->g, &cot, &t))
        return wr_shape_fail(c, "x [.., D], gamma [D], mean [..], rstd [..], cotangent [.., D]",
                             NULL, "sizes do not fit");
    c->out[0] = t;
    c->out[1] = c->out[2] = wr_type_of(c->in[1]);
    return true;
}

static wr_cost norm_cost(const wr_call *c) {
    return (wr_cost){.flops = 8.0 * (double)c->in[0].n, .bytes = wr_bytes_moved(c)};
}

/* ---- kernels ---- */

typedef struct sizes {
    int64_t rows, n; /* n: row length */
    int64_t parts, part;
    bool parallel;
} sizes;

static sizes sizes_of(const wr_call *c) {
    const wr_tensor *x = &c->in[0];
    sizes z = {.rows = wr_extent(x, 0, x->rank - 1), .n = x->dim[x->rank - 1]};
    z.parts = z.rows / PART_ROWS;
    if (z.parts > PARTS_MAX) z.parts = PARTS_MAX;
    if (z.parts < 1) z.parts = 1;
    z.part = (z.rows + z.parts - 1) / z.parts;
    z.parallel = x->n >= PARALLEL_ELEMENTS;
    return z;
}

static wr_cost norm_grad_cost(const wr_call *c) {
    sizes z = sizes_of(c);
    return (wr_cost){.flops = 14.0 * (double)c->in[0].n,
                     .bytes = wr_bytes_moved(c),
                     .workspace = (size_t)(2 * z.parts * z.n) * wr_dtype_bytes(c->in[0].dtype)};
}

/* Operands and results of a range of rows; results may be NULL. */
typedef struct norm_rows {
    const void *x, *gamma, *beta, *mean, *rstd, *cot;
    void *y, *mean_out, *rstd_out; /* forward */
    void *dx, *dgamma, *dbeta;     /* backward; dgamma and dbeta [D] are added to */
    double eps;
} norm_rows;

#define KERNELS(REAL, S)                                                                           \
    static void forward_##S(const norm_rows *a, int64_t n, int64_t row) {                          \
        const REAL *x = (const REAL *)a->x + row * n, *gamma = a->gamma, *beta = a->beta;          \
        REAL mean = wr__row_sum_##S(n, x) / (REAL)n, variance = 0;                                 \
        _Pragma("omp simd reduction(+ : variance)") for (int64_t i = 0; i < n; i++) variance +=    \
            (x[i] - mean) * (x[i] - mean);                                                         \
        REAL rstd = 1 / (REAL)sqrt((double)(variance / (REAL)n) + a->eps);                         \
        if (a->mean_out != NULL) ((REAL *)a->mean_out)[row] = mean;                                \
        if (a->rstd_out != NULL) ((REAL *)a->rstd_out)[row] = rstd;                                \
        if (a->y == NULL) return;                                                                  \
        REAL *y = (REAL *)a->y + row * n;                                                          \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] =                                 \
            (x[i] - mean) * rstd * gamma[i] + beta[i];                                             \
    }                                                                                              \
    static void backward_##S(const norm_rows *a, int64_t n, int64_t row) {                         \
        const REAL *x = (const REAL *)a->x + row * n, *cot = (const REAL *)a->cot + row * n;       \
        const REAL *gamma = a->gamma;                                                              \
        REAL *dgamma = a->dgamma, *dbeta = a->dbeta, g = 0, gh = 0;                                \
        const REAL mean = ((const REAL *)a->mean)[row], rstd = ((const REAL *)a->rstd)[row];       \
        _Pragma("omp simd reduction(+ : g, gh)") for (int64_t i = 0; i < n; i++) {                 \
            REAL h = (x[i] - mean) * rstd, c = cot[i] * gamma[i];                                  \
            g += c;                                                                                \
            gh += c * h;                                                                           \
            dgamma[i] += cot[i] * h;                                                               \
            dbeta[i] += cot[i];                                                                    \
        }                                                                                          \
        if (a->dx == NULL) return;                                                                 \
        REAL *dx = (REAL *)a->dx + row * n;                                                        \
        g /= (REAL)n;                                                                              \
        gh /= (REAL)n;                                                                             \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) dx[i] =                                \
            rstd * (cot[i] * gamma[i] - g - (x[i] - mean) * rstd * gh);                            \
    }                                                                                              \
    static void add_##S(int64_t n, const void *from, void *to) {                                   \
        const REAL *x = from;                                                                      \
        REAL *y = to;                                                                              \
        for (int64_t i = 0; i < n; i++)                                                            \
            y[i] += x[i];                                                                          \
    }
KERNELS(float, f32)
KERNELS(double, f64)
#undef KERNELS

static wr_status norm_cpu(const wr_call *c) {
    sizes z = sizes_of(c);
    norm_rows a = {.x = c->in[0].data,
                   .gamma = c->in[1].data,
                   .beta = c->in[2].data,
                   .y = c->out[0].data,
                   .mean_out = c->out[1].data,
                   .rstd_out = c->out[2].data,
                   .eps = c->attr[0].r};
    bool single = c->in[0].dtype == WR_F32;
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (z.parallel)
    for (int64_t r = 0; r < z.rows; r++)
        (single ? forward_f32 : forward_f64)(&a, z.n, r);
    return WR_OK;
}

/* One part: its rows' dx, and its sums into the workspace. */
static void norm_grad_part(const wr_call *c, const sizes *z, int64_t part) {
    size_t bytes = (size_t)z->n * wr_dtype_bytes(c->in[0].dtype);
    char *sums = (char *)c->workspace + (size_t)(2 * part) * bytes;
    norm_rows a = {.x = c->in[0].data,
                   .gamma = c->in[1].data,
                   .mean = c->in[2].data,
                   .rstd = c->in[3].data,
                   .cot = c->in[4].data,
                   .dx = c->out[0].data,
                   .dgamma = sums,
                   .dbeta = sums + bytes};
    memset(sums, 0, 2 * bytes);
    int64_t end = (part + 1) * z->part < z->rows ? (part + 1) * z->part : z->rows;
    for (int64_t r = part * z->part; r < end; r++)
        (c->in[0].dtype == WR_F32 ? backward_f32 : backward_f64)(&a, z->n, r);
}

static wr_status norm_grad_cpu(const wr_call *c) {
    sizes z = sizes_of(c);
    size_t bytes = (size_t)z.n * wr_dtype_bytes(c->in[0].dtype);
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (z.parallel)
    for (int64_t part = 0; part < z.parts; part++)
        norm_grad_part(c, &z, part);
    for (int k = 1; k < 3; k++) {
        if (c->out[k].data == NULL) continue;
        memset(c->out[k].data, 0, bytes);
        for (int64_t part = 0; part < z.parts; part++)
            (c->in[0].dtype == WR_F32 ? add_f32 : add_f64)(
                z.n, (char *)c->workspace + (size_t)(2 * part + k - 1) * bytes, c->out[k].data);
    }
    return WR_OK;
}

/* ---- expansions and gradients ---- */

static bool norm_expand(wr_expand_ctx *c) {
    wr x = c->in[0];
    wr mean = wr_mean(x, -1), centred = wr_sub(x, wr__repeat_last(mean, x));
    wr rstd = wr_rsqrt(wr_shift(wr_mean(wr_square(centred), -1), c->attr[0].r));
    wr h = wr_mul(centred, wr__repeat_last(rstd, x));
    c->out[0] = wr_add(wr_mul(h, c->in[1]), c->in[2]);
    c->out[1] = mean;
    c->out[2] = rstd;
    return !wr_is_poison(c->out[0]);
}

static bool norm_grad_expand(wr_expand_ctx *c) {
    wr x = c->in[0], gamma = c->in[1], cot = c->in[4], rstd = wr__repeat_last(c->in[3], x);
    wr h = wr_mul(wr_sub(x, wr__repeat_last(c->in[2], x)), rstd), g = wr_mul(cot, gamma);
    wr g_mean = wr_mean(g, -1), gh_mean = wr_mean(wr_mul(g, h), -1);
    wr inner = wr_sub(g, wr__repeat_last(g_mean, x));
    c->out[0] = wr_mul(rstd, wr_sub(inner, wr_mul(h, wr__repeat_last(gh_mean, x))));
    c->out[1] = wr_reduce_to_suffix(wr_mul(cot, h), wr_type_of(gamma));
    c->out[2] = wr_reduce_to_suffix(cot, wr_type_of(gamma));
    return !wr_is_poison(c->out[0]);
}

/* Cotangents of the mean and the rstd, which users may read too:
 * d mean / dx = 1 / D,  d rstd / dx = -rstd^3 (x - mean) / D. */
static bool statistics_grad(wr_grad_ctx *c) {
    wr x = c->in[0], mean = c->out[1], rstd = c->out[2];
    wr_dim n = wr_dim_of(x, -1);
    if (!wr_is_poison(c->cot[1]) &&
        !wr_contribute(c, 0, wr__repeat_last(wr_scale_by_dim(c->cot[1], n, -1.0), x)))
        return false;
    if (wr_is_poison(c->cot[2])) return true;
    wr cube = wr_mul(wr_square(rstd), rstd);
    wr k = wr_scale_by_dim(wr_neg(wr_mul(c->cot[2], cube)), n, -1.0);
    wr centred = wr_sub(x, wr__repeat_last(mean, x));
    return wr_contribute(c, 0, wr_mul(centred, wr__repeat_last(k, x)));
}

static bool norm_grad_rule(wr_grad_ctx *c) {
    if (!wr_is_poison(c->cot[0])) {
        wr in[5] = {c->in[0], c->in[1], c->out[1], c->out[2], c->cot[0]};
        wr d = wr_emit(WR_HERE, &wr_op_layer_norm_grad, 5, in, NULL);
        for (int k = 0; k < 3; k++)
            if (!wr_contribute(c, k, wr_output(d, k))) return false;
    }
    return statistics_grad(c);
}

/* ---- samples: a few rows, one row, many rows (several parts, several threads) ---- */

enum { SAMPLES = 3 };
static const int64_t SIZES[SAMPLES][3] = {{2, 3, 7}, {1, 1, 5}, {5, 23, 149}};

static wr norm_sample(wr_sample *s) {
    if (s->variant >= SAMPLES) return (wr){s->g, 0};
    const int64_t *dims = SIZES[s->variant];
    wr x = s->input(s, WR_FILL_REAL, 0, s->variant == 1 ? 1 : 3, dims + (s->variant == 1 ? 2 : 0));
    wr gamma = s->input(s, WR_FILL_REAL, 0, 1, dims + 2);
    return wr_layer_norm(x, gamma, s->input(s, WR_FILL_REAL, 0, 1, dims + 2), 0.01);
}

static wr norm_grad_sample(wr_sample *s) {
    if (s->variant >= SAMPLES) return (wr){s->g, 0};
    const int64_t *dims = SIZES[s->variant];
    wr in[5] = {s->input(s, WR_FILL_REAL, 0, 3, dims), s->input(s, WR_FILL_REAL, 0, 1, dims + 2),
                s->input(s, WR_FILL_REAL, 0, 2, dims), s->input(s, WR_FILL_POSITIVE, 0, 2, dims),
                s->input(s, WR_FILL_REAL, 0, 3, dims)};
    return wr_emit(WR_HERE, &wr_op_layer_norm_grad, 5, in, NULL);
}

const wr_op wr_op_layer_norm = {
    .name = "layer_norm",
    .doc = "x [.., D], gamma [D], beta [D] -> y [.., D], mean [..], rstd [..]",
    .n_in = 3,
    .n_out = 3,
    .attrs = {{"eps", WR_ATTR_REAL}},
    .shape = norm_shape,
    .cost = norm_cost,
    .cpu = norm_cpu,
    .grad = norm_grad_rule,
    .expand = norm_expand,
    .sample = norm_sample,
    .inplace = 1,
    .no_inverse = "forgets the mean and scale of a row"};

const wr_op wr_op_layer_norm_grad = {.name = "layer_norm_grad",
                                     .doc = "x, gamma, mean, rstd, cotangent -> dx, dgamma, dbeta",
                                     .n_in = 5,
                                     .n_out = 3,
                                     .shape = norm_grad_shape,
                                     .cost = norm_grad_cost,
                                     .cpu = norm_grad_cpu,
                                     .expand = norm_grad_expand,
                                     .sample = norm_grad_sample,
                                     .inplace = 5,
                                     .no_inverse = "loses the components along 1 and x"};
