/* random_ops.cu: kernels for the rows of ops/random_ops.c. */
#include "ops/cuda/cuda.h"

const wr_cuda_row wr_cuda_rows_random_ops[] = {WR_CUDA_ROWS_END};
