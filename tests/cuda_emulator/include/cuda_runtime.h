/* What a .cu file gets for <cuda_runtime.h> when clang++ compiles it for the emulator: the part of
   CUDA that Weir's kernels and their executor use, as ordinary C++. docs/cuda_emulator.md says what
   is checked and what is left out. */
#ifndef CU_EMU_CUDA_RUNTIME_H
#define CU_EMU_CUDA_RUNTIME_H

#define CU_EMULATOR 1

#include "cu_emu/types.h"
#include "cu_emu/device.h"
#include "cu_emu/math.h"
#include "cu_emu/atomics.h"
#include "cu_emu/api.h"
#include "cu_emu/launch.h"

#endif
