/* Keywords and vector types of CUDA C++. */
#ifndef CU_EMU_TYPES_H
#define CU_EMU_TYPES_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
/* One block runs at a time, so that a block's memory may be static; the section lets the emulator
   poison it before each block. */
#define __shared__ static __attribute__((section("cu_shared")))

/* Types of 1 to 4 values with CUDA's alignments: a float4 that is read at an address that is no
   multiple of 16 is a misaligned access, which UBSan reports. */
#define CU_EMU_VECTORS(name, T, align2, align3, align4)                                            \
    struct name##1 {                                                                               \
        T x;                                                                                       \
    };                                                                                             \
    struct alignas(align2) name##2 {                                                               \
        T x, y;                                                                                    \
    };                                                                                             \
    struct alignas(align3) name##3 {                                                               \
        T x, y, z;                                                                                 \
    };                                                                                             \
    struct alignas(align4) name##4 {                                                               \
        T x, y, z, w;                                                                              \
    };                                                                                             \
    constexpr name##1 make_##name##1(T x) { return {x}; }                                          \
    constexpr name##2 make_##name##2(T x, T y) { return {x, y}; }                                  \
    constexpr name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                          \
    constexpr name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

CU_EMU_VECTORS(char, signed char, 2, 1, 4)
CU_EMU_VECTORS(uchar, unsigned char, 2, 1, 4)
CU_EMU_VECTORS(short, short, 4, 2, 8)
CU_EMU_VECTORS(ushort, unsigned short, 4, 2, 8)
CU_EMU_VECTORS(int, int, 8, 4, 16)
CU_EMU_VECTORS(uint, unsigned, 8, 4, 16)
CU_EMU_VECTORS(float, float, 8, 4, 16)
CU_EMU_VECTORS(longlong, long long, 16, 8, 16)
CU_EMU_VECTORS(ulonglong, unsigned long long, 16, 8, 16)
CU_EMU_VECTORS(double, double, 16, 8, 16)
#undef CU_EMU_VECTORS

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};

#endif
