/* assign.cu: kernels for the rows of ops/assign.c. */
#include "ops/cuda/cuda.h"

const wr_cuda_row wr_cuda_rows_assign[] = {WR_CUDA_ROWS_END};
