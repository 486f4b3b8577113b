/* Kernels with one fault each, as their launchers; what the emulator says of each is in
   test_faults.cc. Blocks have 64 threads where nothing else is said. */
#ifndef WR_TEST_FAULTS_CUH
#define WR_TEST_FAULTS_CUH

#include "ops/cuda/launch.cuh"

/* Half of a warp shuffles with the mask of a whole one; the other half has returned. */
void launch_divergent_shuffle(float *x, cudaStream_t stream);

/* Two lanes of a warp wait at different operations for each other. */
void launch_two_operations(int *x, cudaStream_t stream);

/* Lanes 16 to 31 use the mask of lanes 0 to 15. */
void launch_foreign_mask(float *x, cudaStream_t stream);

/* Lanes 0 to 15, by their mask, take the values of lanes 16 to 31. */
void launch_foreign_lane(float *x, cudaStream_t stream);

/* A full mask in a block of 40 threads. */
void launch_short_warp(float *x, cudaStream_t stream);

/* Threads from n on return before the barrier. */
void launch_early_return(float *x, int n, cudaStream_t stream);

/* Even and odd threads wait at barriers of their own. */
void launch_two_barriers(float *x, cudaStream_t stream);

/* Thread 3 waits for its warp, the others at a barrier. */
void launch_barrier_and_warp(float *x, cudaStream_t stream);

/* Thread 5 calls __trap(). */
void launch_trap(float *x, cudaStream_t stream);

/* x[i] = 1 for i <= n. */
void launch_off_by_one(float *x, int n, cudaStream_t stream);

/* *sum = x[0] + ... + x[n]. */
void launch_read_off_by_one(const float *x, float *sum, int n, cudaStream_t stream);

/* x[i << 20] = 1: far behind. */
void launch_far_write(float *x, cudaStream_t stream);

/* A function that calls itself for ever. */
void launch_endless_recursion(int *x, cudaStream_t stream);

/* Loads a float4 from x + 1; stores one there; loads a pair of a type of its own from x + 1. */
void launch_misaligned_load(const float *x, float *y, cudaStream_t stream);
void launch_misaligned_store(float *x, cudaStream_t stream);
void launch_misaligned_pair(const float *x, float *y, cudaStream_t stream);

/* Index 64 of a shared array of 64. */
void launch_outside_array(float *x, cudaStream_t stream);

/* 65536 * 65536 as int. */
void launch_overflow(int *x, int n, cudaStream_t stream);

/* The values of shared memory nobody wrote; of a block that another one went before. */
void launch_unwritten_shared(float *x, cudaStream_t stream);

/* y = reversed x through shared memory, the barrier left out; 64 values. */
void launch_missing_barrier(const float *x, float *y, cudaStream_t stream);

/* sums[k] = the sum of x over the block, k = 0, 1: the second one's shared memory may be written
   while the first one's is read. Right in every order that the emulator runs. */
void launch_missing_second_barrier(const float *x, float *sums, cudaStream_t stream);

/* y[i] = x[i ^ 1] through shared memory of one warp without __syncwarp(). */
void launch_missing_syncwarp(const float *x, float *y, cudaStream_t stream);

/* Four blocks add to *sum without atomics. */
void launch_race_of_blocks(float *sum, cudaStream_t stream);

#endif
