/* rows.h: maxima, sums and exponentials of one contiguous row, f32 and f64: wr__row_max_f32, ...
 * What softmax, normalisation and the losses are made of on the CPU. */
#ifndef WEIR_OPS_CPU_ROWS_H
#define WEIR_OPS_CPU_ROWS_H

#include "ops/cpu/vmath.h"

#include <float.h>

/* e^x with a third fewer instructions than wr_exp_f32: the scaling is one multiplication, so
 * results below 2^-126 or so are 0 (minus infinity gives 0 exactly) and those from 2^127.5 on are
 * infinite. */
static inline float wr__exp_row_f32(float x) {
    x = x > 89.0f ? 89.0f : x;
    x = x < -88.0f ? -88.0f : x;
    wr__reduced a = wr__reduce(x); /* -127 <= n <= 128, where wr__pow2 is 0 and infinite */
    return (1.0f + wr__expm1_small(a.r)) * wr__pow2(a.n);
}

static inline double wr__exp_row_f64(double x) { return exp(x); }

#define REAL      float
#define LOWEST    -FLT_MAX
#define ROW(name) wr__row_##name##_f32
#define EXP(x)    wr__exp_row_f32(x)
#include "ops/cpu/rows_template.h"
#undef REAL
#undef LOWEST
#undef ROW
#undef EXP

#define REAL      double
#define LOWEST    -DBL_MAX
#define ROW(name) wr__row_##name##_f64
#define EXP(x)    wr__exp_row_f64(x)
#include "ops/cpu/rows_template.h"
#undef REAL
#undef LOWEST
#undef ROW
#undef EXP

#endif
