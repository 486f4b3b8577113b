/* lu.h: LU with partial pivoting and triangular solves in f64, row-major, one matrix at a time.
 * Every element is computed in one order, so that results do not depend on the thread count. */
#ifndef WEIR_OPS_CPU_LU_H
#define WEIR_OPS_CPU_LU_H

#include <stdbool.h>
#include <stdint.h>

/* a [n, n] becomes L (below the diagonal, its ones left out) and U, with P A = L U: row i of P A is
 * row swap[i] at the time of step i. Returns -1, or the column whose pivot is not finite or at most
 * n 2^-52 times the largest |element| of that column of A; `a` is then unfinished. `small` is
 * scratch, [n]. */
int64_t wr__lu_factor(int64_t n, double *a, double *small, int64_t *swap, int threads);

/* Columns [0, w) of x [n, ld]: x := P x, x := L^-1 x, x := U^-1 x. Only the triangle of `a` is
 * read; `unit`: ones stand for its diagonal. */
void wr__lu_permute(int64_t n, const int64_t *swap, int64_t w, double *x, int64_t ld);
void wr__solve_lower(int64_t n, const double *a, bool unit, int64_t w, double *x, int64_t ld);
void wr__solve_upper(int64_t n, const double *a, bool unit, int64_t w, double *x, int64_t ld);

/* The first column of the triangular a whose diagonal element is zero or not finite, or -1. */
int64_t wr__triangle_pivot(int64_t n, const double *a);

#endif
