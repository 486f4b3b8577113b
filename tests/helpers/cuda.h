/* cuda.h: the CUDA device of tests: the emulated one, or a real one where there is a GPU. */
#ifndef WEIR_TEST_CUDA_H
#define WEIR_TEST_CUDA_H

#include "cuda_emulator/cu_emulator.h"

#include <stdbool.h>

/* The emulator's functions inside the device's library, which WEIR_CUDA_LIBRARY names. */
typedef struct test_cuda {
    bool real; /* a GPU: the functions below do nothing */
    void (*schedule)(enum cu_emu_schedule schedule, uint64_t seed);
    void (*memory)(size_t bytes);
    const char *(*message)(void);
    void (*clear)(void);
    void (*quiet)(int quiet);
    struct cu_emu_counts (*counts)(void);
} test_cuda;

/* False without a device (no clang++ for the emulator when it was built, no GPU): tests skip. */
bool test_cuda_open(test_cuda *t);

#endif
