/* Keywords and vector types of CUDA C++. */
#ifndef CU_EMU_TYPES_H
#define CU_EMU_TYPES_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>

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

namespace cu_emu {

/* Ends the launch: this address is no multiple of the alignment. */
[[noreturn]] void misaligned(const void *address, size_t alignment);

/* Base of a type that is loaded and stored at once: copying it from or to an address that is no
   multiple of its alignment is an error, as on the device, and not, as in C++, merely undefined.
   The tag lets a type hold another one at its beginning: equal bases must have different addresses.
 */
template <size_t alignment, class Tag> struct Aligned {
    Aligned() = default;
    Aligned(const Aligned &other) { check(&other); }
    Aligned &operator=(const Aligned &other) {
        check(this);
        check(&other);
        return *this;
    }

  private:
    static void check(const void *address) {
        if (__builtin_expect(reinterpret_cast<uintptr_t>(address) % alignment != 0, 0))
            misaligned(address, alignment);
    }
};

/* Types that __ldg() and its kin have overloads for. */
template <class T> struct HasHintedLoads : std::is_arithmetic<T> {};

} // namespace cu_emu

#define WR_VECTOR(name, alignment)                                                                 \
    alignas(alignment) name : cu_emu::Aligned<(alignment), struct cu_emu_tag_of_##name>

/* Types of 1 to 4 values with CUDA's alignments. */
#define CU_EMU_VECTORS(name, T, align2, align4)                                                    \
    struct name##1 {                                                                               \
        T x;                                                                                       \
    };                                                                                             \
    struct WR_VECTOR(name##2, align2) {                                                            \
        T x, y;                                                                                    \
        name##2() = default;                                                                       \
        name##2(T x_, T y_) : x(x_), y(y_) {}                                                      \
    };                                                                                             \
    struct name##3 {                                                                               \
        T x, y, z;                                                                                 \
    };                                                                                             \
    struct WR_VECTOR(name##4, align4) {                                                            \
        T x, y, z, w;                                                                              \
        name##4() = default;                                                                       \
        name##4(T x_, T y_, T z_, T w_) : x(x_), y(y_), z(z_), w(w_) {}                            \
    };                                                                                             \
    template <> struct cu_emu::HasHintedLoads<name##2> : std::true_type {};                        \
    template <> struct cu_emu::HasHintedLoads<name##4> : std::true_type {};                        \
    constexpr name##1 make_##name##1(T x) { return {x}; }                                          \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                     \
    constexpr name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                          \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

CU_EMU_VECTORS(char, signed char, 2, 4)
CU_EMU_VECTORS(uchar, unsigned char, 2, 4)
CU_EMU_VECTORS(short, short, 4, 8)
CU_EMU_VECTORS(ushort, unsigned short, 4, 8)
CU_EMU_VECTORS(int, int, 8, 16)
CU_EMU_VECTORS(uint, unsigned, 8, 16)
CU_EMU_VECTORS(float, float, 8, 16)
CU_EMU_VECTORS(longlong, long long, 16, 16)
CU_EMU_VECTORS(ulonglong, unsigned long long, 16, 16)
CU_EMU_VECTORS(double, double, 16, 16)
#undef CU_EMU_VECTORS

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};

#endif
