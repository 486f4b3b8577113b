/* The kernels of ../tests as a library that C loads: what a device under test looks like. */
#include "../tests/faults.cuh"
#include "../tests/kernels.cuh"

extern "C" {
int emulated_sum(const float *x, int n, float *sum);
int emulated_off_by_one(int beyond);
}

/* The sum of x by two passes, through pinned memory and a stream. Returns 0, or CUDA's error. */
int emulated_sum(const float *x, int n, float *sum) {
    const size_t bytes = static_cast<size_t>(n) * sizeof *x;
    const int blocks = 5;
    float *device, *pinned;
    cudaStream_t stream;
    if (cudaMalloc(&device, bytes + 256 * (blocks + 1))) return cudaPeekAtLastError();
    if (cudaMallocHost(&pinned, sizeof *pinned)) return cudaPeekAtLastError();
    if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)) return cudaPeekAtLastError();
    float *partial = device + n, *result = partial + blocks;
    cudaMemcpyAsync(device, x, bytes, cudaMemcpyHostToDevice, stream);
    launch_two_pass_sum(device, partial, result, n, blocks, stream);
    cudaMemcpyAsync(pinned, result, sizeof *pinned, cudaMemcpyDeviceToHost, stream);
    const cudaError_t error = cudaStreamSynchronize(stream);
    *sum = *pinned;
    cudaStreamDestroy(stream);
    cudaFreeHost(pinned);
    cudaFree(device);
    return error;
}

/* Writes 100 floats and `beyond` more into memory for 101. */
int emulated_off_by_one(int beyond) {
    float *x;
    if (cudaMalloc(&x, 101 * sizeof *x)) return cudaPeekAtLastError();
    launch_off_by_one(x, 100 + beyond, nullptr);
    const cudaError_t error = cudaDeviceSynchronize();
    cudaFree(x);
    return error;
}
