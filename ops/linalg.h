/* linalg.h: triangular and LU algebra on small matrices, one or a stack: [n, n] or [.., n, n].
 *
 * All of it is computed in f64, also for f32 operands: inverses and log-determinants of flows are
 * exact to the last f32 digit, for a few matrices per step cost nothing. Results do not depend on
 * the thread count.
 *
 * A matrix that is singular stops the run with a message that names it; NaN never comes out. For
 * the LU rows, singular means a pivot of at most n 2^-52 times the largest element of its column
 * (what is left there is rounding); for triangular ones, a zero on the diagonal. */
#ifndef WEIR_OPS_LINALG_H
#define WEIR_OPS_LINALG_H

#include "graph/op.h"

extern const wr_op wr_op_triangle, wr_op_diagonal, wr_op_diagonal_matrix, wr_op_triangular_solve,
    wr_op_lu_solve, wr_op_matrix_inverse, wr_op_log_abs_det;

/* Which triangle of the stored matrix; the other one is not read. */
typedef enum wr_half { WR_LOWER, WR_UPPER } wr_half;

/* x [.., n, m] with everything outside the triangle set to 0. Kept: column - row <= k (lower) or
 * >= k (upper), so k = 0 keeps the diagonal; k = -1 is the strict lower, k = 1 the strict upper. */
wr wr_triangle_at(wr_loc loc, wr x, wr_half side, int k);
#define wr_tril(x, k) wr_triangle_at(WR_HERE, x, WR_LOWER, k)
#define wr_triu(x, k) wr_triangle_at(WR_HERE, x, WR_UPPER, k)

/* [.., n, n] -> [.., n] and back. */
#define wr_diagonal(x)        wr_emit(WR_HERE, &wr_op_diagonal, 1, (wr[]){x}, NULL)
#define wr_diagonal_matrix(x) wr_emit(WR_HERE, &wr_op_diagonal_matrix, 1, (wr[]){x}, NULL)

/* X with op(A) X = B: a [.., n, n], b [.., n, m] with the same leading sizes, or one a [n, n] for
 * all; op is the transpose where `transposed`. `unit`: ones stand for the diagonal of a. */
wr wr_triangular_solve_at(wr_loc loc, wr a, wr b, wr_half side, bool transposed, bool unit);
#define wr_triangular_solve(a, b, side, transposed, unit)                                          \
    wr_triangular_solve_at(WR_HERE, a, b, side, transposed, unit)
/* The same for any invertible a, by LU with partial pivoting. */
wr wr_lu_solve_at(wr_loc loc, wr a, wr b, bool transposed);
#define wr_lu_solve(a, b, transposed) wr_lu_solve_at(WR_HERE, a, b, transposed)

/* a [.., n, n] -> its inverse [.., n, n], and log |det a| [..]. */
#define wr_matrix_inverse(a) wr_emit(WR_HERE, &wr_op_matrix_inverse, 1, (wr[]){a}, NULL)
#define wr_log_abs_det(a)    wr_emit(WR_HERE, &wr_op_log_abs_det, 1, (wr[]){a}, NULL)

/* The same two, cheaper where the way a was made shows that it is triangular (wr_tril, wr_triu,
 * wr_diagonal_matrix, and sums, multiples and products of those): one solve for the identity, and
 * the sum of log |diagonal|. */
wr wr_matrix_inverse_of(wr a);
wr wr_matrix_log_det(wr a);
/* log |det a| / n for each element of x [.., n, m], whose columns a [.., n, n] (or one for all)
 * multiplies: of x's sizes, or a scalar. All elements of a column together have log |det a|. */
wr wr_matrix_share(wr a, wr x);

#endif
