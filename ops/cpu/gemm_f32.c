/* gemm_f32.c: the own blocked matrix product for float. */
#define REAL       float
#define REAL_BYTES 4
#define NAME(x)    x##_f32
#include "ops/cpu/gemm_blocked.h"
