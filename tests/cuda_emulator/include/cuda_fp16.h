/* Half precision for the emulator: storage and conversions; arithmetic is done in float. */
#ifndef CU_EMU_CUDA_FP16_H
#define CU_EMU_CUDA_FP16_H

#include "cu_emu/device.h"

namespace cu_emu {

/* Rounds to nearest, ties to even; keeps infinities, makes NaNs quiet. */
inline uint16_t float_to_half(float value) {
    const uint32_t bits = from_bits<uint32_t>(to_bits(value));
    const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return 0x7fff;
    if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
    if (magnitude < 0x33000001u) return static_cast<uint16_t>(sign);
    const int exponent = static_cast<int>(magnitude >> 23) - 127;
    const uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    /* Numbers below 2^-14 have a fixed exponent and lose more bits. */
    const int dropped = exponent < -14 ? 13 - 14 - exponent : 13;
    uint32_t result = mantissa >> dropped;
    const uint32_t rest = mantissa & ((1u << dropped) - 1), tie = 1u << (dropped - 1);
    if (rest > tie || (rest == tie && (result & 1))) result++;
    if (exponent >= -14) result += static_cast<uint32_t>(exponent + 14) << 10;
    return static_cast<uint16_t>(sign | result);
}

inline float half_to_float(uint16_t half) {
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16, exponent = half >> 10 & 31u;
    const uint32_t mantissa = half & 0x3ffu;
    if (exponent == 31) return from_bits<float>(sign | 0x7f800000u | mantissa << 13);
    if (exponent != 0) return from_bits<float>(sign | (exponent + 112) << 23 | mantissa << 13);
    const float small = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -small : small;
}

} // namespace cu_emu

struct __half {
    uint16_t bits;
    __half() = default;
    __half(float value) : bits(cu_emu::float_to_half(value)) {}
    operator float() const { return cu_emu::half_to_float(bits); }
};
struct WR_VECTOR(__half2, 4) {
    __half x, y;
    __half2() = default;
    __half2(__half x_, __half y_) : x(x_), y(y_) {}
};

template <> struct cu_emu::HasHintedLoads<__half> : std::true_type {};
template <> struct cu_emu::HasHintedLoads<__half2> : std::true_type {};

/* The device rounds each of these results; conversion to float would not. Convert, compute, convert
   back. */
__half operator+(__half, __half) = delete;
__half operator-(__half, __half) = delete;
__half operator*(__half, __half) = delete;
__half operator/(__half, __half) = delete;

using half = __half;
using half2 = __half2;

inline __half __float2half(float value) { return __half(value); }
inline __half __float2half_rn(float value) { return __half(value); }
inline float __half2float(__half value) { return value; }
inline unsigned short __half_as_ushort(__half value) { return value.bits; }
inline __half __ushort_as_half(unsigned short bits) { return cu_emu::from_bits<__half>(bits); }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline __half2 __float22half2_rn(float2 v) { return {__half(v.x), __half(v.y)}; }
inline float2 __half22float2(__half2 v) { return {v.x, v.y}; }
inline float __low2float(__half2 v) { return v.x; }
inline float __high2float(__half2 v) { return v.y; }

#endif
