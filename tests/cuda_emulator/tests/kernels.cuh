/* Kernels without faults, one for each thing that the emulator gives, as their launchers. */
#ifndef WR_TEST_KERNELS_CUH
#define WR_TEST_KERNELS_CUH

#include "ops/cuda/launch.cuh"

/* y[i] = gelu(x[i]), four at a time and a tail. x, y: [n], aligned to 16 bytes. */
void launch_gelu(const float *x, float *y, int n, cudaStream_t stream);

/* sums[r] = the sum of row r, by shuffles and static shared memory. x: [rows, n]. */
void launch_row_sum(const float *x, float *sums, int rows, int n, int threads, cudaStream_t stream);

/* y = transposed x, by tiles. x: [rows, columns]. */
void launch_transpose(const float *x, float *y, int rows, int columns, cudaStream_t stream);

/* Each row's softmax, the row kept in dynamic shared memory. x, y: [rows, n]. */
cudaError_t launch_softmax(const float *x, float *y, int rows, int n, cudaStream_t stream);

/* *sum = the sum of x in two passes: blocks, then the blocks' sums. x: [n], partial: [blocks]. */
void launch_two_pass_sum(const float *x, float *partial, float *sum, int n, int blocks,
                         cudaStream_t stream);

/* counts[x[i]]++. x: [n] of 0 to 31; counts: [32], zero before. Counts in shared memory first. */
void launch_histogram(const int *x, unsigned *counts, int n, cudaStream_t stream);

/* y[i] = a x[i] + y[i] in bfloat16, rounded once. */
void launch_axpy_bf16(float a, const void *x, void *y, int n, cudaStream_t stream);

/* The warp operations: out[32 * k + lane] is operation k's result in that lane; 12 operations. */
constexpr int warp_operations = 12;
void launch_warp_operations(const int *x, int *out, cudaStream_t stream);

#endif
