/* sort.cu: kernels for the rows of ops/sort.c. */
#include "ops/cuda/cuda.h"

const wr_cuda_row wr_cuda_rows_sort[] = {WR_CUDA_ROWS_END};
