/* update.cu: kernels for the rows of ops/update.c. */
#include "ops/cuda/cuda.h"

const wr_cuda_row wr_cuda_rows_update[] = {WR_CUDA_ROWS_END};
