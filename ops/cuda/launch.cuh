/* What CUDA writes in a syntax of its own, as macros, so that a .cu file compiles by
   nvcc and by clang++ against the emulator, which defines them itself. Kernels include this file
   instead of <cuda_runtime.h>; docs/cuda_emulator.md has the rules. */
#ifndef WR_CUDA_LAUNCH_CUH
#define WR_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>

#ifndef WR_LAUNCH
/* WR_LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...): at least one argument; a
   template with commas stands in parentheses. Ask cudaGetLastError() afterwards. */
#define WR_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                  \
    kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)
#endif

#ifndef WR_DYNAMIC_SHARED
/* WR_DYNAMIC_SHARED(T, name): in a kernel, `T *name` is the shared memory that the launch asked
   for, aligned to 16 bytes. */
#define WR_DYNAMIC_SHARED(T, name)                                                                 \
    extern __shared__ __align__(16) unsigned char wr_dynamic_shared_bytes[];                       \
    T *name = reinterpret_cast<T *>(wr_dynamic_shared_bytes)
#endif

#ifndef WR_VECTOR
/* struct WR_VECTOR(name, alignment) { ... }: a type that kernels load and store at once. The
   emulator finds loads and stores at other addresses; plain alignas() it cannot check. */
#define WR_VECTOR(name, alignment) alignas(alignment) name
#endif

#endif
