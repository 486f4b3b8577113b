/* attention.cu: kernels for the rows of ops/attention.c. */
#include "ops/cuda/cuda.h"

const wr_cuda_row wr_cuda_rows_attention[] = {WR_CUDA_ROWS_END};
