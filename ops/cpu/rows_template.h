/* rows_template.h: functions of one contiguous row; a template. Define REAL, LOWEST, ROW(name) and
 * EXP(x) first. Included by rows.h only. Reductions have a fixed order: the lanes of a vector. */

/* Lanes may begin with the lowest finite number instead of minus infinity (clang's do): what does
 * not exceed it is a row without any finite value. */
static inline REAL ROW(max)(int64_t n, const REAL *x) {
    REAL m = (REAL)-INFINITY;
#pragma omp simd reduction(max : m)
    for (int64_t i = 0; i < n; i++)
        m = x[i] > m ? x[i] : m;
    return m <= LOWEST ? (REAL)-INFINITY : m;
}

static inline REAL ROW(sum)(int64_t n, const REAL *x) {
    REAL s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++)
        s += x[i];
    return s;
}

static inline REAL ROW(dot)(int64_t n, const REAL *x, const REAL *y) {
    REAL s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++)
        s += x[i] * y[i];
    return s;
}

/* The sum of exp(x - shift). */
static inline REAL ROW(exp_sum)(int64_t n, const REAL *x, REAL shift) {
    REAL s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++)
        s += EXP(x[i] - shift);
    return s;
}

/* out = exp(x - shift), and its sum; out may be x. */
static inline REAL ROW(exp)(int64_t n, const REAL *x, REAL shift, REAL *out) {
    REAL s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++) {
        REAL e = EXP(x[i] - shift);
        out[i] = e;
        s += e;
    }
    return s;
}

static inline void ROW(scale)(int64_t n, const REAL *x, REAL k, REAL *out) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        out[i] = x[i] * k;
}

static inline void ROW(fill)(int64_t n, REAL value, REAL *out) {
    for (int64_t i = 0; i < n; i++)
        out[i] = value;
}

/* out = x where the mask is not 0, else `other`; out may be x. The mask advances by step 0 or 1. */
static inline void ROW(choose)(int64_t n, const REAL *mask, int64_t step, const REAL *x, REAL other,
                               REAL *out) {
    if (step == 0) {
        REAL keep = mask[0];
        for (int64_t i = 0; i < n; i++)
            out[i] = keep != 0 ? x[i] : other;
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        out[i] = mask[i] != 0 ? x[i] : other;
}
