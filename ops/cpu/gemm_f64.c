/* gemm_f64.c: the own blocked matrix product for double. */
#define REAL       double
#define REAL_BYTES 8
#define NAME(x)    x##_f64
#include "ops/cpu/gemm_blocked.h"
