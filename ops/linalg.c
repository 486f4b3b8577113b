/* linalg.c: see linalg.h.
 *
 * Derivatives (Giles 2008, "Collected matrix derivative results"), Y the cotangent of the result:
 *   X = op(A)^-1 B:  dB = op(A)^-T Y,  d op(A) = -dB X^T (its triangle for triangular rows)
 *   X = A^-1:        dA = -X^T Y X^T
 *   log |det A|:     dA = Y A^-T
 * They are graph nodes of this and the matmul family, so any order exists. */
#include "ops/linalg.h"

#include "ops/cpu/lu.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/linalg_inverse.h"
#include "ops/matmul.h"
#include "ops/shape.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { SIDE = 0, OFFSET = 1, TRANSPOSED = 1, UNIT = 2, LU_TRANSPOSED = 0 };
enum { LARGE = 37, TILE = 32, PARALLEL_WORK = 32768, PARALLEL_ELEMENTS = 16384 };

wr wr_triangle_at(wr_loc loc, wr x, wr_half side, int k) {
    return wr_emit(loc, &wr_op_triangle, 1, &x, (wr_attr[]){{.i = side}, {.i = k}});
}

wr wr_triangular_solve_at(wr_loc loc, wr a, wr b, wr_half side, bool transposed, bool unit) {
    return wr_emit(loc, &wr_op_triangular_solve, 2, (wr[]){a, b},
                   (wr_attr[]){{.i = side}, {.i = transposed}, {.i = unit}});
}

wr wr_lu_solve_at(wr_loc loc, wr a, wr b, bool transposed) {
    return wr_emit(loc, &wr_op_lu_solve, 2, (wr[]){a, b}, (wr_attr[]){{.i = transposed}});
}

/* ---- shapes ---- */

/* Operand 0 is a square matrix or a stack of them. */
static bool square(wr_shape_ctx *c) {
    wr_type t = wr_type_of(c->in[0]);
    if (!wr_shape_needs_float(c, 0)) return false;
    if (t.rank >= 2 && wr_dim_eq(c->g, t.dim[t.rank - 1], t.dim[t.rank - 2])) return true;
    return wr_shape_fail(c, "a [.., n, n]", NULL, "the matrix is not square");
}

static bool square_shape(wr_shape_ctx *c) { return square(c) && wr_shape_same(c); }

static bool solve_shape(wr_shape_ctx *c) {
    static const char rule[] =
        "a [.., n, n], b [.., n, m] with the same leading sizes, or a [n, n]";
    if (!square(c)) return false;
    wr_type a = wr_type_of(c->in[0]), b = wr_type_of(c->in[1]);
    if (b.rank < 2 || (a.rank != 2 && a.rank != b.rank))
        return wr_shape_fail(c, rule, "a single column is [.., n, 1]",
                             "operands with %d and %d axes", a.rank, b.rank);
    if (!wr_dim_eq(c->g, a.dim[a.rank - 1], b.dim[b.rank - 2]))
        return wr_shape_fail(c, rule, NULL, "the matrix has another size than b's columns");
    for (int i = 0; a.rank > 2 && i < a.rank - 2; i++)
        if (!wr_dim_eq(c->g, a.dim[i], b.dim[i]))
            return wr_shape_fail(c, rule, NULL, "leading sizes differ on axis %d", i);
    c->out[0] = b;
    return true;
}

static bool log_abs_det_shape(wr_shape_ctx *c) {
    if (!square_shape(c)) return false;
    c->out[0].rank -= 2;
    return true;
}

static bool diagonal_shape(wr_shape_ctx *c) {
    if (!square_shape(c)) return false;
    c->out[0].rank--;
    return true;
}

static bool diagonal_matrix_shape(wr_shape_ctx *c) {
    wr_type t = wr_type_of(c->in[0]);
    if (!wr_shape_needs_float(c, 0)) return false;
    if (t.rank == 0 || t.rank == WR_MAX_RANK)
        return wr_shape_fail(c, "x [.., n] -> [.., n, n]", NULL, "an operand with %d axes", t.rank);
    c->out[0] = t;
    c->out[0].dim[c->out[0].rank++] = t.dim[t.rank - 1];
    return true;
}

static bool triangle_shape(wr_shape_ctx *c) {
    if (!wr_shape_needs_float(c, 0)) return false;
    if (wr_rank(c->in[0]) < 2)
        return wr_shape_fail(c, "x [.., n, m]", NULL, "an operand with %d axes", wr_rank(c->in[0]));
    return wr_shape_same(c);
}

/* ---- diagonals and triangles ---- */

static int64_t last_dim(const wr_tensor *x) { return x->dim[x->rank - 1]; }

/* Rows [outer, n, m]: the elements outside the triangle become 0; may work in place. */
static wr_status triangle_cpu(const wr_call *c) {
    const wr_tensor *x = &c->in[0];
    int64_t m = last_dim(x), n = x->dim[x->rank - 2], k = c->attr[OFFSET].i;
    int64_t rows = wr_extent(x, 0, x->rank - 1);
    bool upper = c->attr[SIDE].i == WR_UPPER, parallel = x->n >= PARALLEL_ELEMENTS;
    size_t e = wr_dtype_bytes(x->dtype);
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t r = 0; r < rows; r++) {
        int64_t cut = r % n + k + (upper ? 0 : 1); /* the first column kept, or behind the last */
        cut = cut < 0 ? 0 : cut > m ? m : cut;
        char *to = (char *)c->out[0].data + (size_t)(r * m) * e;
        const char *from = (const char *)x->data + (size_t)(r * m) * e;
        size_t low = upper ? (size_t)cut * e : 0, high = upper ? (size_t)m * e : (size_t)cut * e;
        if (to != from) memcpy(to + low, from + low, high - low);
        memset(to, 0, low);
        memset(to + high, 0, (size_t)m * e - high);
    }
    return WR_OK;
}

static wr_status diagonal_cpu(const wr_call *c) {
    int64_t n = last_dim(&c->in[0]);
    for (int64_t i = 0; i < c->out[0].n; i++) {
        if (c->in[0].dtype == WR_F32)
            ((float *)c->out[0].data)[i] = ((const float *)c->in[0].data)[i * n + i % n];
        else
            ((double *)c->out[0].data)[i] = ((const double *)c->in[0].data)[i * n + i % n];
    }
    return WR_OK;
}

static wr_status diagonal_matrix_cpu(const wr_call *c) {
    int64_t n = last_dim(&c->in[0]);
    memset(c->out[0].data, 0, (size_t)c->out[0].n * wr_dtype_bytes(c->out[0].dtype));
    for (int64_t i = 0; i < c->in[0].n; i++) {
        if (c->in[0].dtype == WR_F32)
            ((float *)c->out[0].data)[i * n + i % n] = ((const float *)c->in[0].data)[i];
        else
            ((double *)c->out[0].data)[i * n + i % n] = ((const double *)c->in[0].data)[i];
    }
    return WR_OK;
}

/* ---- matrices in f64 ---- */

/* The matrices of one call: `count` of n x n, and where their factors stand in the workspace. */
typedef struct matrices {
    int64_t n, count;
    double *a, *small, *tile; /* [count, n, n], [count, n], [threads, n, TILE] */
    int64_t *swap, *bad;      /* [count, n], [count]: the column without a pivot, or -1 */
} matrices;

static size_t doubles_of(const wr_call *c, size_t n, size_t count) {
    size_t threads = c->env->threads > 0 ? (size_t)c->env->threads : 1;
    return count * n * n + count * n + threads * n * TILE;
}

static matrices matrices_of(const wr_call *c) {
    const wr_tensor *a = &c->in[0];
    int64_t n = last_dim(a), count = wr_extent(a, 0, a->rank - 2);
    matrices m = {.n = n, .count = count, .a = c->workspace};
    m.small = m.a + count * n * n;
    m.tile = m.small + count * n;
    m.swap = (int64_t *)(void *)(m.a + doubles_of(c, (size_t)n, (size_t)count));
    m.bad = m.swap + count * n;
    return m;
}

static double read_one(const wr_tensor *x, int64_t i) {
    return x->dtype == WR_F32 ? (double)((const float *)x->data)[i] : ((const double *)x->data)[i];
}

static void write_one(const wr_tensor *x, int64_t i, double value) {
    if (x->dtype == WR_F32)
        ((float *)x->data)[i] = (float)value;
    else
        ((double *)x->data)[i] = value;
}

/* Matrix b of operand 0, or its transpose, to its place. */
static void load_matrix(const wr_call *c, const matrices *m, int64_t b, bool transposed) {
    int64_t n = m->n, at = b * n * n;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            m->a[at + (transposed ? j * n + i : i * n + j)] = read_one(&c->in[0], at + i * n + j);
}

static wr_status report_singular(const wr_call *c, const matrices *m, const char *row) {
    for (int64_t b = 0; b < m->count; b++)
        if (m->bad[b] >= 0)
            return wr_fail(c->env->err, WR_ERR_INPUT,
                           "%s: matrix %lld of %lld is singular or not finite (no pivot in column "
                           "%lld of %lld)",
                           row, (long long)b, (long long)m->count, (long long)m->bad[b],
                           (long long)m->n);
    return WR_OK;
}

/* Few large matrices use the threads inside, many use them side by side. */
static wr_status factor_all(const wr_call *c, const matrices *m, bool transposed, const char *row) {
    int64_t n = m->n;
    int inside = m->count < c->env->threads ? c->env->threads : 1;
    bool parallel = inside == 1 && n * n * n * m->count >= PARALLEL_WORK;
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t b = 0; b < m->count; b++) {
        load_matrix(c, m, b, transposed);
        m->bad[b] = wr__lu_factor(n, m->a + b * n * n, m->small + b * n, m->swap + b * n, inside);
    }
    return report_singular(c, m, row);
}

static wr_status load_triangles(const wr_call *c, const matrices *m, bool transposed, bool unit) {
    int64_t n = m->n;
    for (int64_t b = 0; b < m->count; b++) {
        load_matrix(c, m, b, transposed);
        m->bad[b] = unit ? -1 : wr__triangle_pivot(n, m->a + b * n * n);
    }
    return report_singular(c, m, "triangular_solve");
}

/* What is done to w columns of the right side, with matrix b. */
typedef void (*solver)(const wr_call *c, const matrices *m, int64_t b, int64_t w, double *x);

static void solve_triangular(const wr_call *c, const matrices *m, int64_t b, int64_t w, double *x) {
    bool upper = (c->attr[SIDE].i == WR_UPPER) != (c->attr[TRANSPOSED].i != 0);
    const double *a = m->a + b * m->n * m->n;
    if (upper)
        wr__solve_upper(m->n, a, c->attr[UNIT].i, w, x, TILE);
    else
        wr__solve_lower(m->n, a, c->attr[UNIT].i, w, x, TILE);
}

static void solve_factored(const wr_call *c, const matrices *m, int64_t b, int64_t w, double *x) {
    (void)c;
    const double *a = m->a + b * m->n * m->n;
    wr__lu_permute(m->n, m->swap + b * m->n, w, x, TILE);
    wr__solve_lower(m->n, a, true, w, x, TILE);
    wr__solve_upper(m->n, a, false, w, x, TILE);
}

/* Solve for all columns of `right` (NULL: the identity), in tiles; threads take tiles. */
static void each_tile(const wr_call *c, const matrices *m, const wr_tensor *right, solver f) {
    const wr_tensor *out = &c->out[0];
    int64_t n = m->n, width = last_dim(out), tiles = (width + TILE - 1) / TILE;
    int64_t stack = wr_extent(out, 0, out->rank - 2);
    bool parallel = n * n * width * stack >= PARALLEL_WORK;
#pragma omp parallel for num_threads(c->env->threads) schedule(static) if (parallel)
    for (int64_t job = 0; job < stack * tiles; job++) {
        int64_t b = job / tiles, from = job % tiles * TILE;
        int64_t w = width - from < TILE ? width - from : TILE, at = b * n * width + from;
        double *x = m->tile + (int64_t)omp_get_thread_num() * n * TILE;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < w; j++)
                x[i * TILE + j] =
                    right == NULL ? (double)(i == from + j) : read_one(right, at + i * width + j);
        f(c, m, m->count == 1 ? 0 : b, w, x);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < w; j++)
                write_one(out, at + i * width + j, x[i * TILE + j]);
    }
}

static wr_status triangular_solve_cpu(const wr_call *c) {
    matrices m = matrices_of(c);
    wr_status status = load_triangles(c, &m, c->attr[TRANSPOSED].i, c->attr[UNIT].i);
    if (status == WR_OK) each_tile(c, &m, &c->in[1], solve_triangular);
    return status;
}

static wr_status lu_solve_cpu(const wr_call *c) {
    matrices m = matrices_of(c);
    wr_status status = factor_all(c, &m, c->attr[LU_TRANSPOSED].i, "lu_solve");
    if (status == WR_OK) each_tile(c, &m, &c->in[1], solve_factored);
    return status;
}

static wr_status matrix_inverse_cpu(const wr_call *c) {
    matrices m = matrices_of(c);
    wr_status status = factor_all(c, &m, false, "matrix_inverse");
    if (status == WR_OK) each_tile(c, &m, NULL, solve_factored);
    return status;
}

static wr_status log_abs_det_cpu(const wr_call *c) {
    matrices m = matrices_of(c);
    wr_status status = factor_all(c, &m, false, "log_abs_det");
    for (int64_t b = 0; status == WR_OK && b < m.count; b++) {
        double sum = 0;
        for (int64_t i = 0; i < m.n; i++)
            sum += log(fabs(m.a[b * m.n * m.n + i * m.n + i]));
        write_one(&c->out[0], b, sum);
    }
    return status;
}

static wr_cost cost_with(const wr_call *c, double flops) {
    const wr_tensor *a = &c->in[0];
    size_t n = (size_t)last_dim(a), count = (size_t)wr_extent(a, 0, a->rank - 2);
    return (wr_cost){.flops = flops,
                     .bytes = wr_bytes_moved(c),
                     .workspace = doubles_of(c, n, count) * sizeof(double) +
                                  (count * n + count) * sizeof(int64_t)};
}

static double factor_flops(const wr_call *c) {
    return 2.0 / 3.0 * (double)c->in[0].n * (double)last_dim(&c->in[0]);
}

static wr_cost triangular_solve_cost(const wr_call *c) {
    return cost_with(c, (double)c->out[0].n * (double)last_dim(&c->in[0]));
}
static wr_cost solve_cost(const wr_call *c) {
    return cost_with(c, factor_flops(c) + 2.0 * (double)c->out[0].n * (double)last_dim(&c->in[0]));
}
static wr_cost factor_cost(const wr_call *c) { return cost_with(c, factor_flops(c)); }

/* ---- gradients ---- */

static bool triangle_grad(wr_grad_ctx *c) {
    return wr_contribute(
        c, 0, wr_triangle_at(WR_HERE, c->cot[0], (wr_half)c->attr[SIDE].i, (int)c->attr[OFFSET].i));
}

static bool diagonal_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, wr_diagonal_matrix(c->cot[0]));
}

static bool diagonal_matrix_grad(wr_grad_ctx *c) {
    return wr_contribute(c, 0, wr_diagonal(c->cot[0]));
}

/* dA for X = op(A)^-1 B, given dB. */
static wr matrix_cotangent(wr db, wr x, bool transposed) {
    return wr_neg(transposed ? wr_matmul_nt(x, db) : wr_matmul_nt(db, x));
}

static bool triangular_solve_grad(wr_grad_ctx *c) {
    wr_half side = (wr_half)c->attr[SIDE].i;
    bool transposed = c->attr[TRANSPOSED].i, unit = c->attr[UNIT].i;
    wr db = wr_triangular_solve(c->in[0], c->cot[0], side, !transposed, unit);
    int k = !unit ? 0 : side == WR_UPPER ? 1 : -1;
    return wr_contribute(c, 1, db) &&
           (!c->needed[0] ||
            wr_contribute(
                c, 0,
                wr_triangle_at(WR_HERE, matrix_cotangent(db, c->out[0], transposed), side, k)));
}

static bool lu_solve_grad(wr_grad_ctx *c) {
    bool transposed = c->attr[LU_TRANSPOSED].i;
    wr db = wr_lu_solve(c->in[0], c->cot[0], !transposed);
    return wr_contribute(c, 1, db) &&
           (!c->needed[0] || wr_contribute(c, 0, matrix_cotangent(db, c->out[0], transposed)));
}

static bool matrix_inverse_grad(wr_grad_ctx *c) {
    wr x = c->out[0];
    return wr_contribute(c, 0, wr_neg(wr_matmul_nt(wr_matmul_tn(x, c->cot[0]), x)));
}

static bool log_abs_det_grad(wr_grad_ctx *c) {
    wr_type t = wr_type_of(c->in[0]), one = t;
    one.dim[t.rank - 1] = one.dim[t.rank - 2] = wr_n(1);
    wr cot = wr_broadcast(wr_reshape(c->cot[0], one.rank, one.dim), t.rank, t.dim);
    wr inverse = wr_matrix_inverse(c->in[0]);
    return wr_contribute(c, 0, wr_mul(cot, wr_transpose(inverse, -1, -2)));
}

/* ---- samples ---- */

/* Well-conditioned matrices: random ones, small against the diagonal. */
static wr sample_matrices(wr_sample *s, int rank, const int64_t *dims) {
    int64_t n = dims[rank - 1];
    float narrow[LARGE] = {0};
    double wide[LARGE] = {0};
    for (int64_t i = 0; i < n; i++)
        narrow[i] = (float)(wide[i] = i % 3 == 1 ? -1.5 : 1.5);
    wr values = wr_const(s->g, s->dtype, 1, &n,
                         s->dtype == WR_F32 ? (const void *)narrow : (const void *)wide);
    wr random = wr_scale(s->input(s, WR_FILL_REAL, 0, rank, dims), 0.4 / sqrt((double)n));
    return wr_add(random, wr_diagonal_matrix(values));
}

/* Variants by four: one matrix, a stack, one matrix for a stack, one of several panels and tiles.
 */
static void sample_system(wr_sample *s, wr *a, wr *b) {
    int v = s->variant % 4;
    int64_t n = v == 3 ? LARGE : wr_sample_int(s, 1, 6), m = v == 3 ? 41 : wr_sample_int(s, 1, 4);
    int64_t dims_a[3] = {3, n, n}, dims_b[3] = {3, n, m};
    int skip_a = v == 1 ? 0 : 1, skip_b = v == 1 || v == 2 ? 0 : 1;
    *a = sample_matrices(s, 3 - skip_a, dims_a + skip_a);
    *b = s->input(s, WR_FILL_REAL, 0, 3 - skip_b, dims_b + skip_b);
}

static wr triangular_solve_sample(wr_sample *s) {
    wr a, b;
    if (s->variant > 15) return (wr){s->g, 0};
    int flags = s->variant / 2; /* together with the four systems: every flag with two of them */
    sample_system(s, &a, &b);
    return wr_triangular_solve(a, b, flags & 1 ? WR_UPPER : WR_LOWER, (flags & 2) != 0,
                               (flags & 4) != 0);
}

static wr lu_solve_sample(wr_sample *s) {
    wr a, b;
    if (s->variant > 7) return (wr){s->g, 0};
    sample_system(s, &a, &b);
    return wr_lu_solve(a, b, s->variant > 3);
}

/* One matrix, a stack, a large one. */
static wr sample_square(wr_sample *s, const wr_op *op) {
    int64_t n = s->variant == 2 ? LARGE : wr_sample_int(s, 1, 6), dims[3] = {3, n, n};
    if (s->variant > 2) return (wr){s->g, 0};
    wr a = s->variant == 1 ? sample_matrices(s, 3, dims) : sample_matrices(s, 2, dims + 1);
    return wr_emit(WR_HERE, op, 1, &a, NULL);
}

static wr matrix_inverse_sample(wr_sample *s) { return sample_square(s, &wr_op_matrix_inverse); }
static wr log_abs_det_sample(wr_sample *s) { return sample_square(s, &wr_op_log_abs_det); }

static wr triangle_sample(wr_sample *s) {
    static const int offset[] = {0, -1, 1, -2, 2};
    if (s->variant > 10) return (wr){s->g, 0};
    int64_t dims[3] = {2, wr_sample_int(s, 1, 5), wr_sample_int(s, 1, 5)};
    if (s->variant == 10) dims[1] = dims[2] = 91;
    return wr_triangle_at(WR_HERE, s->input(s, WR_FILL_REAL, 0, 3, dims),
                          s->variant & 1 ? WR_UPPER : WR_LOWER, offset[s->variant / 2 % 5]);
}

static wr diagonal_sample(wr_sample *s) {
    if (s->variant > 1) return (wr){s->g, 0};
    int64_t n = wr_sample_int(s, 2, 5), dims[3] = {3, n, n};
    return wr_diagonal(s->input(s, WR_FILL_REAL, 0, 3 - s->variant, dims + s->variant));
}

static wr diagonal_matrix_sample(wr_sample *s) {
    if (s->variant > 1) return (wr){s->g, 0};
    int64_t dims[2] = {3, wr_sample_int(s, 2, 5)};
    return wr_diagonal_matrix(s->input(s, WR_FILL_REAL, 0, 2 - s->variant, dims + s->variant));
}

/* ---- rows ---- */

const wr_op wr_op_triangle = {.name = "triangle",
                              .doc = "0 outside a triangle",
                              .n_in = 1,
                              .attrs = {{"upper", WR_ATTR_BOOL}, {"offset", WR_ATTR_INT}},
                              .shape = triangle_shape,
                              .cpu = triangle_cpu,
                              .grad = triangle_grad,
                              .inplace = 1,
                              .sample = triangle_sample,
                              .no_inverse = "the other elements are lost"};
const wr_op wr_op_diagonal = {.name = "diagonal",
                              .doc = "[.., n, n] -> [.., n]",
                              .n_in = 1,
                              .shape = diagonal_shape,
                              .cpu = diagonal_cpu,
                              .grad = diagonal_grad,
                              .sample = diagonal_sample,
                              .no_inverse = "the other elements are lost"};
const wr_op wr_op_diagonal_matrix = {.name = "diagonal_matrix",
                                     .doc = "[.., n] -> [.., n, n]",
                                     .n_in = 1,
                                     .shape = diagonal_matrix_shape,
                                     .cpu = diagonal_matrix_cpu,
                                     .grad = diagonal_matrix_grad,
                                     .sample = diagonal_matrix_sample,
                                     .no_inverse = "its values are a part of the space"};
const wr_op wr_op_triangular_solve = {
    .name = "triangular_solve",
    .doc = "X with op(A) X = B, A triangular",
    .n_in = 2,
    .attrs = {{"upper", WR_ATTR_BOOL}, {"transposed", WR_ATTR_BOOL}, {"unit", WR_ATTR_BOOL}},
    .shape = solve_shape,
    .cost = triangular_solve_cost,
    .cpu = triangular_solve_cpu,
    .grad = triangular_solve_grad,
    .sample = triangular_solve_sample,
    .inverse = wr__triangular_solve_inverse};
const wr_op wr_op_lu_solve = {.name = "lu_solve",
                              .doc = "X with op(A) X = B",
                              .n_in = 2,
                              .attrs = {{"transposed", WR_ATTR_BOOL}},
                              .shape = solve_shape,
                              .cost = solve_cost,
                              .cpu = lu_solve_cpu,
                              .grad = lu_solve_grad,
                              .sample = lu_solve_sample,
                              .inverse = wr__lu_solve_inverse};
const wr_op wr_op_matrix_inverse = {.name = "matrix_inverse",
                                    .doc = "the inverse of each matrix",
                                    .n_in = 1,
                                    .shape = square_shape,
                                    .cost = solve_cost,
                                    .cpu = matrix_inverse_cpu,
                                    .grad = matrix_inverse_grad,
                                    .sample = matrix_inverse_sample,
                                    .inverse = wr__matrix_inverse_inverse};
const wr_op wr_op_log_abs_det = {.name = "log_abs_det",
                                 .doc = "log |det A|",
                                 .n_in = 1,
                                 .shape = log_abs_det_shape,
                                 .cost = factor_cost,
                                 .cpu = log_abs_det_cpu,
                                 .grad = log_abs_det_grad,
                                 .sample = log_abs_det_sample,
                                 .no_inverse = "many matrices have one determinant"};
