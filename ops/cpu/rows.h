/* rows.h: maxima, sums and exponentials of one contiguous row, f32 and f64: wr__row_max_f32, ...
 * What softmax, normalisation and the losses are made of on the CPU. */
#ifndef WEIR_OPS_CPU_ROWS_H
#define WEIR_OPS_CPU_ROWS_H

#include "ops/cpu/vmath.h"

#define REAL      float
#define ROW(name) wr__row_##name##_f32
#define EXP(x)    wr_exp_f32(x)
#include "ops/cpu/rows_template.h"
#undef REAL
#undef ROW
#undef EXP

#define REAL      double
#define ROW(name) wr__row_##name##_f64
#define EXP(x)    exp(x)
#include "ops/cpu/rows_template.h"
#undef REAL
#undef ROW
#undef EXP

#endif
