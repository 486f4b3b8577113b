/* linalg_inverse.c: inverses and log-determinants of matrices by what they are made of, and the
 * inverse rules of linalg.c. */
#include "ops/linalg_inverse.h"

#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/linalg.h"
#include "ops/matmul.h"
#include "ops/reduce.h"

/* ---- what is triangular ---- */

enum { LOWER = 1, UPPER = 2, LOOK_DEEP = 12 };

static unsigned halves(wr x, int deep);

static unsigned halves_of_triangle(const wr_attr *attr) {
    return attr[0].i == WR_LOWER ? (attr[1].i <= 0 ? LOWER : 0) : (attr[1].i >= 0 ? UPPER : 0);
}

/* Sums are as triangular as both operands, products element by element as either. */
static unsigned halves_of_two(wr a, wr b, bool sum, int deep) {
    if (wr_rank(a) != wr_rank(b)) return sum ? 0 : halves(wr_rank(a) > wr_rank(b) ? a : b, deep);
    unsigned left = halves(a, deep), right = halves(b, deep);
    return sum ? left & right : left | right;
}

static unsigned halves_of_product(wr a, wr b, const wr_attr *attr, int deep) {
    bool plain = attr[0].i == 0 && attr[1].i == 0 && wr_rank(a) == wr_rank(b);
    return plain ? halves(a, deep) & halves(b, deep) : 0;
}

/* On which side of the diagonal can there be something other than 0? LOWER: only below or on it. */
static unsigned halves(wr x, int deep) {
    const wr_node *n = wr_node_at(x.g, x.id);
    if (deep == 0 || n->n_in == 0) return 0;
    const uint32_t *in = wr_node_inputs(x.g, x.id);
    const wr_attr *attr = wr_node_attrs(x.g, x.id);
    wr a = {x.g, in[0]}, b = {x.g, n->n_in > 1 ? in[1] : 0};
    if (n->op == &wr_op_triangle) return halves_of_triangle(attr) | halves(a, deep - 1);
    if (n->op == &wr_op_diagonal_matrix) return LOWER | UPPER;
    if (n->op == &wr_op_add || n->op == &wr_op_sub) return halves_of_two(a, b, true, deep - 1);
    if (n->op == &wr_op_mul) return halves_of_two(a, b, false, deep - 1);
    if (n->op == &wr_op_matmul) return halves_of_product(a, b, attr, deep - 1);
    bool alike = n->op == &wr_op_neg || n->op == &wr_op_scale || n->op == &wr_op_leaf ||
                 n->op == &wr_op_stop_gradient;
    return alike ? halves(a, deep - 1) : 0;
}

/* ---- inverse and log |det| ---- */

/* Identity matrices of the sizes of a. */
static wr identity(wr a) {
    wr_type t = wr_type_of(a);
    return wr_diagonal_matrix(wr_broadcast(wr_scalar(a.g, t.dtype, 1.0), t.rank - 1, t.dim));
}

wr wr_matrix_inverse_of(wr a) {
    if (wr_is_poison(a)) return a;
    unsigned half = halves(a, LOOK_DEEP);
    if (half == 0) return wr_matrix_inverse(a);
    return wr_triangular_solve(a, identity(a), half & LOWER ? WR_LOWER : WR_UPPER, false, false);
}

static wr sum_log_diagonal(wr a) { return wr_sum(wr_log(wr_abs(wr_diagonal(a))), -1); }

wr wr_matrix_log_det(wr a) {
    if (wr_is_poison(a)) return a;
    return halves(a, LOOK_DEEP) == 0 ? wr_log_abs_det(a) : sum_log_diagonal(a);
}

/* A number per matrix [..], divided among the elements of each column of x. */
static wr share_of(wr number, wr n_of, wr x) {
    wr share = wr_scale_by_dim(number, wr_dim_of(n_of, -1), -1.0);
    wr_type t = wr_type_of(x), one = t;
    if (wr_rank(share) == 0) return share;
    one.dim[t.rank - 2] = one.dim[t.rank - 1] = wr_n(1);
    return wr_broadcast(wr_reshape(share, one.rank, one.dim), t.rank, t.dim);
}

wr wr_matrix_share(wr a, wr x) { return share_of(wr_matrix_log_det(a), a, x); }

/* ---- rules: y = op(A)^-1 B ---- */

/* Can B be solved for? */
static bool right_side_wanted(wr_inverse_ctx *c) {
    if (wr_is_poison(c->x[0]))
        return wr_inverse_wait(c, "its matrix depends on what is solved for");
    return true;
}

/* B = op(a) y. `log_det` is of a. */
static bool multiply(wr_inverse_ctx *c, wr a, bool transposed, wr log_det) {
    wr_type t = wr_type_of(c->out[0]);
    wr term = wr_neg(share_of(log_det, a, c->in[1]));
    if (wr_rank(a) < t.rank) { /* one matrix for all */
        t.dim[t.rank - 1] = t.dim[t.rank - 2];
        a = wr_broadcast(a, t.rank, t.dim);
    }
    return wr_inverse_term(c, 1, term) &&
           wr_inverse_solve(c, 1, wr_matmul_at(WR_HERE, a, c->y[0], transposed, false)).id != 0;
}

bool wr__triangular_solve_inverse(wr_inverse_ctx *c) {
    if (!right_side_wanted(c)) return false;
    wr_half side = (wr_half)c->attr[0].i;
    wr a = c->x[0];
    bool unit = c->attr[2].i;
    if (!unit) {
        wr half = wr_triangle_at(WR_HERE, a, side, 0);
        return multiply(c, half, c->attr[1].i, sum_log_diagonal(a));
    }
    wr_type t = wr_type_of(a);
    wr strict = wr_triangle_at(WR_HERE, a, side, side == WR_LOWER ? -1 : 1);
    wr zero = wr_broadcast(wr_scalar(c->g, t.dtype, 0.0), t.rank - 2, t.dim);
    return multiply(c, wr_add(strict, identity(a)), c->attr[1].i, zero);
}

bool wr__lu_solve_inverse(wr_inverse_ctx *c) {
    if (!right_side_wanted(c)) return false;
    return multiply(c, c->x[0], c->attr[0].i, wr_matrix_log_det(c->x[0]));
}

/* |d A^-1 / d A| = |det A|^-2n: -2 log |det A| for each of the n columns of A. */
bool wr__matrix_inverse_inverse(wr_inverse_ctx *c) {
    wr a = wr_inverse_solve(c, 0, wr_matrix_inverse(c->y[0]));
    if (wr_is_poison(a)) return false;
    return wr_inverse_term(c, 0, wr_scale(share_of(wr_log_abs_det(a), a, a), -2.0));
}
