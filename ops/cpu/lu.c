/* lu.c: see lu.h. Right-looking, in panels of 32 columns (Golub and Van Loan, 3.2 and 3.4). */
#include "ops/cpu/lu.h"

#include <float.h>
#include <math.h>

enum { PANEL = 32, STRIP = 64, PARALLEL_ROWS = 64 };

/* out[0, w) -= sum over k < n of coef[k] rows[k][0, w), four rows at a time. */
static void subtract_rows(int64_t n, const double *coef, const double *rows, int64_t ld, int64_t w,
                          double *restrict out) {
    int64_t k = 0;
    for (; k + 4 <= n; k += 4) {
        const double *r0 = rows + k * ld, *r1 = r0 + ld, *r2 = r1 + ld, *r3 = r2 + ld;
        double c0 = coef[k], c1 = coef[k + 1], c2 = coef[k + 2], c3 = coef[k + 3];
        _Pragma("omp simd") for (int64_t j = 0; j < w; j++) out[j] -=
            (c0 * r0[j] + c1 * r1[j]) + (c2 * r2[j] + c3 * r3[j]);
    }
    for (; k < n; k++) {
        const double *r = rows + k * ld;
        double c = coef[k];
        _Pragma("omp simd") for (int64_t j = 0; j < w; j++) out[j] -= c * r[j];
    }
}

static void swap_rows(int64_t w, double *x, double *y) {
    for (int64_t j = 0; j < w; j++) {
        double t = x[j];
        x[j] = y[j];
        y[j] = t;
    }
}

static int64_t largest_below(int64_t n, const double *a, int64_t column, int64_t from) {
    int64_t best = from;
    for (int64_t i = from; i < n; i++)
        if (!(fabs(a[i * n + column]) <= fabs(a[best * n + column]))) best = i;
    return best;
}

/* Columns [from, to) of the rows from `from` on. `small[j]`: pivots up to it count as zero. */
static int64_t factor_panel(int64_t n, double *a, int64_t from, int64_t to, const double *small,
                            int64_t *swap) {
    for (int64_t j = from; j < to; j++) {
        int64_t best = largest_below(n, a, j, j);
        double pivot = a[best * n + j];
        swap[j] = best;
        if (!(fabs(pivot) > small[j]) || !isfinite(pivot)) return j;
        if (best != j) swap_rows(n, a + j * n, a + best * n);
        for (int64_t i = j + 1; i < n; i++) {
            double f = a[i * n + j] /= pivot;
            for (int64_t k = j + 1; k < to; k++)
                a[i * n + k] -= f * a[j * n + k];
        }
    }
    return -1;
}

/* Rows [to, n) and columns [to, n) lose the product of the panel's L and U. */
static void update_rest(int64_t n, double *a, int64_t from, int64_t to, int threads) {
    bool parallel = threads > 1 && n - to >= PARALLEL_ROWS;
#pragma omp parallel for num_threads(threads) schedule(static) if (parallel)
    for (int64_t i = to; i < n; i++)
        for (int64_t j = to; j < n; j += STRIP)
            subtract_rows(to - from, a + i * n + from, a + from * n + j, n,
                          n - j < STRIP ? n - j : STRIP, a + i * n + j);
}

/* Below these, what elimination leaves of a column is rounding. */
static void column_thresholds(int64_t n, const double *a, double *small) {
    for (int64_t j = 0; j < n; j++)
        small[j] = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            if (fabs(a[i * n + j]) > small[j]) small[j] = fabs(a[i * n + j]);
    for (int64_t j = 0; j < n; j++)
        small[j] *= (double)n * DBL_EPSILON;
}

int64_t wr__lu_factor(int64_t n, double *a, double *small, int64_t *swap, int threads) {
    column_thresholds(n, a, small);
    for (int64_t from = 0; from < n; from += PANEL) {
        int64_t to = n - from < PANEL ? n : from + PANEL;
        int64_t bad = factor_panel(n, a, from, to, small, swap);
        if (bad >= 0) return bad;
        for (int64_t i = from + 1; i < to && to < n; i++)
            subtract_rows(i - from, a + i * n + from, a + from * n + to, n, n - to, a + i * n + to);
        update_rest(n, a, from, to, threads);
    }
    return -1;
}

void wr__lu_permute(int64_t n, const int64_t *swap, int64_t w, double *x, int64_t ld) {
    for (int64_t i = 0; i < n; i++)
        if (swap[i] != i) swap_rows(w, x + i * ld, x + swap[i] * ld);
}

static void divide(int64_t w, double *x, double by) {
    for (int64_t j = 0; j < w; j++)
        x[j] /= by;
}

void wr__solve_lower(int64_t n, const double *a, bool unit, int64_t w, double *x, int64_t ld) {
    for (int64_t i = 0; i < n; i++) {
        subtract_rows(i, a + i * n, x, ld, w, x + i * ld);
        if (!unit) divide(w, x + i * ld, a[i * n + i]);
    }
}

void wr__solve_upper(int64_t n, const double *a, bool unit, int64_t w, double *x, int64_t ld) {
    for (int64_t i = n - 1; i >= 0; i--) {
        subtract_rows(n - 1 - i, a + i * n + i + 1, x + (i + 1) * ld, ld, w, x + i * ld);
        if (!unit) divide(w, x + i * ld, a[i * n + i]);
    }
}

int64_t wr__triangle_pivot(int64_t n, const double *a) {
    for (int64_t i = 0; i < n; i++)
        if (a[i * n + i] == 0 || !isfinite(a[i * n + i])) return i;
    return -1;
}
