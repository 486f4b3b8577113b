/* bfloat16 for the emulator: storage and conversions; arithmetic is done in float. */
#ifndef CU_EMU_CUDA_BF16_H
#define CU_EMU_CUDA_BF16_H

#include "cu_emu/device.h"

namespace cu_emu {

/* Rounds to nearest, ties to even; keeps infinities; every NaN becomes CUDA's. */
inline uint16_t float_to_bfloat16(float value) {
    const uint32_t bits = from_bits<uint32_t>(to_bits(value));
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

inline float bfloat16_to_float(uint16_t bits) {
    return from_bits<float>(static_cast<uint32_t>(bits) << 16);
}

} // namespace cu_emu

struct __nv_bfloat16 {
    uint16_t bits;
    __nv_bfloat16() = default;
    __nv_bfloat16(float value) : bits(cu_emu::float_to_bfloat16(value)) {}
    operator float() const { return cu_emu::bfloat16_to_float(bits); }
};
struct WR_VECTOR(__nv_bfloat162, 4) {
    __nv_bfloat16 x, y;
    __nv_bfloat162() = default;
    __nv_bfloat162(__nv_bfloat16 x_, __nv_bfloat16 y_) : x(x_), y(y_) {}
};

template <> struct cu_emu::HasHintedLoads<__nv_bfloat16> : std::true_type {};
template <> struct cu_emu::HasHintedLoads<__nv_bfloat162> : std::true_type {};

/* The device rounds each of these results; conversion to float would not. Convert, compute, convert
   back. */
__nv_bfloat16 operator+(__nv_bfloat16, __nv_bfloat16) = delete;
__nv_bfloat16 operator-(__nv_bfloat16, __nv_bfloat16) = delete;
__nv_bfloat16 operator*(__nv_bfloat16, __nv_bfloat16) = delete;
__nv_bfloat16 operator/(__nv_bfloat16, __nv_bfloat16) = delete;

using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

inline __nv_bfloat16 __float2bfloat16(float value) { return __nv_bfloat16(value); }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return __nv_bfloat16(value); }
inline float __bfloat162float(__nv_bfloat16 value) { return value; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
    return cu_emu::from_bits<__nv_bfloat16>(bits);
}
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
    return {__nv_bfloat16(x), __nv_bfloat16(y)};
}
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return __floats2bfloat162_rn(v.x, v.y); }
inline float __low2float(__nv_bfloat162 v) { return v.x; }
inline float __high2float(__nv_bfloat162 v) { return v.y; }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v) { return v.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v) { return v.y; }
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {v.x, v.y}; }

#endif
