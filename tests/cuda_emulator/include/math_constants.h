/* Constants that kernels take from CUDA's header of this name. */
#ifndef CU_EMU_MATH_CONSTANTS_H
#define CU_EMU_MATH_CONSTANTS_H

#include "cu_emu/math.h"

#define CUDART_INF_F __int_as_float(0x7f800000)
#define CUDART_NAN_F __int_as_float(0x7fffffff)
#define CUDART_INF   __longlong_as_double(0x7ff0000000000000ll)
#define CUDART_NAN   __longlong_as_double(0x7ff8000000000000ll)

#endif
