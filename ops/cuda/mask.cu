/* mask.cu: kernels for the rows of ops/mask.c. */
#include "ops/cuda/cuda.h"

const wr_cuda_row wr_cuda_rows_mask[] = {WR_CUDA_ROWS_END};
