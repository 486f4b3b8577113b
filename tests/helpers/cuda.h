/* cuda.h: the emulated CUDA device for tests. */
#ifndef WEIR_TEST_CUDA_H
#define WEIR_TEST_CUDA_H

#include "cuda_emulator/cu_emulator.h"

#include <stdbool.h>

/* The emulator's functions inside the device's library, which WEIR_CUDA_LIBRARY names. */
typedef struct test_cuda {
    void (*schedule)(enum cu_emu_schedule schedule, uint64_t seed);
    void (*memory)(size_t bytes);
    const char *(*message)(void);
    void (*clear)(void);
    void (*quiet)(int quiet);
    struct cu_emu_counts (*counts)(void);
} test_cuda;

/* False where the device is not emulated (no clang++ when it was built): such tests skip. */
bool test_cuda_open(test_cuda *t);

#endif
