/* vmath.h: elementwise functions without branches, which the compiler vectorises in a loop under
 * `#pragma omp simd` (no -ffast-math; -fno-math-errno and -fno-trapping-math are needed).
 *
 * float: all of them take any argument; infinities, not-a-number and denormal numbers included.
 * Largest errors in units in the last place, over every 499th float (tests/test_vmath.c asserts
 * them): exp 1.0, expm1 1.5, log 1.0, log1p 1.0, tanh 2.5, sigmoid 2.5, softplus 2.0, erf 1.5,
 * gelu 5.5 (the lower tail; 2.0 above zero); gelu_grad 3e-7 absolute (it has a zero near -0.75).
 * The polynomials are minimax fits (Remez exchange), not taken from elsewhere.
 *
 * double: the C library's functions, or formulas on them; they serve the checkers. */
#ifndef WEIR_OPS_CPU_VMATH_H
#define WEIR_OPS_CPU_VMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline int32_t wr__bits_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float wr__float_of(int32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* 2^n for -126 <= n <= 127 */
static inline float wr__pow2(int32_t n) {
    return wr__float_of((int32_t)((uint32_t)(n + 127) << 23));
}

/* x = n log 2 + r with |r| <= log(2) / 2. Adding 1.5 * 2^23 rounds to an integer, which then stands
 * in the low bits. log 2 is split so that n times its high part is exact. |x| < 10^5. */
typedef struct wr__reduced {
    float r;
    int32_t n;
} wr__reduced;

static inline wr__reduced wr__reduce(float x) {
    const float round = 0x1.8p23f;
    float shifted = x * 0x1.715476p0f + round;
    float n = shifted - round;
    wr__reduced out = {(x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f,
                       wr__bits_of(shifted) - wr__bits_of(round)};
    return out;
}

/* exp(r) - 1 for a reduced r */
static inline float wr__expm1_small(float r) {
    float q = 0x1.a1a266p-13f;
    q = q * r + 0x1.6d74d8p-10f;
    q = q * r + 0x1.11108ep-7f;
    q = q * r + 0x1.5554aep-5f;
    q = q * r + 0x1.555556p-3f;
    q = q * r + 0.5f;
    return q * r * r + r;
}

/* y * 2^n for -252 <= n <= 254, in two steps so that the result may be denormal or infinite */
static inline float wr__scale(float y, int32_t n) {
    int32_t half = n >> 1;
    return y * wr__pow2(half) * wr__pow2(n - half);
}

/* exp(x + low) for a small correction `low` */
static inline float wr__exp_parts(float x, float low) {
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    wr__reduced a = wr__reduce(x);
    return wr__scale(1.0f + wr__expm1_small(a.r + low), a.n);
}

static inline float wr_exp_f32(float x) { return wr__exp_parts(x, 0.0f); }

static inline float wr_expm1_f32(float x) {
    float c = x > 89.0f ? 89.0f : x;
    c = c < -20.0f ? -20.0f : c;
    wr__reduced a = wr__reduce(c);
    float s = wr__pow2(a.n - 1); /* half of it, or 2^128 would not fit */
    float big = 2.0f * (s * wr__expm1_small(a.r) + (s - 0.5f));
    return copysignf(a.n == 0 ? wr__expm1_small(a.r) : big, x); /* -0 too */
}

/* log(x) + low for x > 0, finite; anything else gives nonsense */
static inline float wr__log_parts(float x, float low) {
    const int32_t half_root = 0x3f3504f3; /* sqrt(1/2) */
    float scaled = x < 0x1p-126f ? x * 0x1p23f : x;
    float more = x < 0x1p-126f ? -23.0f : 0.0f;
    int32_t bits = wr__bits_of(scaled);
    /* unsigned, since bits of negative numbers would overflow */
    int32_t n = (int32_t)((uint32_t)bits - (uint32_t)half_root) >> 23;
    float f = wr__float_of((int32_t)((uint32_t)bits - ((uint32_t)n << 23))) - 1.0f;
    float e = (float)n + more;
    float p = 0x1.14579ep-4f;
    p = p * f - 0x1.de3bb8p-4f;
    p = p * f + 0x1.e6f050p-4f;
    p = p * f - 0x1.fc2238p-4f;
    p = p * f + 0x1.233770p-3f;
    p = p * f - 0x1.555c4ap-3f;
    p = p * f + 0x1.99a4b4p-3f;
    p = p * f - 0x1.000006p-2f;
    p = p * f + 0x1.555548p-2f;
    float tail = f * f * (p * f - 0.5f) + (e * 0x1.7f7d1cp-20f + low);
    return e * 0x1.62e4p-1f + (f + tail);
}

/* log of what is not an ordinary positive number: `y` replaced where x is 0, negative, infinite or
 * not a number. */
static inline float wr__log_ends(float x, float y) {
    y = x > 0.0f ? y : NAN;
    y = x == 0.0f ? -INFINITY : y;
    return x == INFINITY ? x : y;
}

static inline float wr_log_f32(float x) { return wr__log_ends(x, wr__log_parts(x, 0.0f)); }

/* log(1 + x) for x >= 0, finite. What rounding 1 + x lost comes back to first order. */
static inline float wr__log1p_positive(float x) {
    float u = 1.0f + x;
    return wr__log_parts(u, (x - (u - 1.0f)) / u);
}

static inline float wr_log1p_f32(float x) {
    float u = 1.0f + x;
    float y = wr__log_ends(u, wr__log_parts(u, (x - (u - 1.0f)) / u));
    return fabsf(x) < 0x1p-25f ? x : y; /* also keeps the sign of zero */
}

static inline float wr_tanh_f32(float x) {
    float a = fabsf(x);
    a = a > 10.0f ? 10.0f : a;
    float e = wr_expm1_f32(2.0f * a);
    return copysignf(e / (e + 2.0f), x);
}

static inline float wr_sigmoid_f32(float x) {
    float z = wr_exp_f32(-fabsf(x));
    return (x < 0.0f ? z : 1.0f) / (1.0f + z);
}

/* log(1 + exp(x)) */
static inline float wr_softplus_f32(float x) {
    float y = wr__log1p_positive(wr_exp_f32(-fabsf(x)));
    return (x < 0.0f ? 0.0f : x) + y;
}

/* The upper tail of the normal distribution, for 0 <= a <= 15: density * exp(-a^2/2) and
 * probability exp(-a^2/2) h(a), where (1 + a) h(a) is a polynomial in (a - 4) / (a + 4). The square
 * is taken in two parts, for its error is multiplied by itself. */
typedef struct wr__tail {
    float exp, q;
} wr__tail;

static inline wr__tail wr__normal_tail(float a) {
    float high = wr__float_of(wr__bits_of(a) & (int32_t)0xfffff000);
    float low = a - high;
    float x = wr__exp_parts(-0.5f * high * high, -0.5f * low * (a + high));
    float r = 1.0f / ((a + 4.0f) * (1.0f + a)); /* one division for two */
    float t = (a - 4.0f) * (r * (1.0f + a));
    float p = 0x1.66008cp-14f;
    p = p * t + 0x1.76c3bcp-11f;
    p = p * t - 0x1.b09d58p-12f;
    p = p * t - 0x1.4ab52ep-8f;
    p = p * t + 0x1.26643ep-6f;
    p = p * t - 0x1.07aa7ep-5f;
    p = p * t + 0x1.d488cep-6f;
    p = p * t + 0x1.cab58ep-7f;
    p = p * t - 0x1.8c18d6p-4f;
    p = p * t + 0x1.e361ecp-2f;
    wr__tail out = {x, x * p * (r * (a + 4.0f))};
    return out;
}

static inline float wr_erf_f32(float x) {
    float a = fabsf(x), s = x * x;
    float p = 0x1.d826b0p-14f - 0x1.4383eap-17f * s;
    p = p * s - 0x1.bcbea8p-11f;
    p = p * s + 0x1.5628f0p-8f;
    p = p * s - 0x1.b829a8p-6f;
    p = p * s + 0x1.ce2f08p-4f;
    p = p * s - 0x1.812746p-2f;
    p = p * s + 0x1.06eba8p-3f;
    float z = a > 10.0f ? 15.0f : a * 0x1.6a09e6p0f;
    float far = copysignf(1.0f - 2.0f * wr__normal_tail(z).q, x);
    return a < 1.0f ? x + x * p : far;
}

/* x Phi(x) = max(x, 0) - |x| Phi(-|x|), exact to the last place also in the lower tail */
static inline float wr_gelu_f32(float x) {
    float a = fabsf(x);
    a = a > 15.0f ? 15.0f : a;
    return (x < 0.0f ? 0.0f : x) - a * wr__normal_tail(a).q;
}

/* d/dx x Phi(x) = Phi(x) + x phi(x) */
static inline float wr_gelu_grad_f32(float x) {
    float a = fabsf(x);
    a = a > 15.0f ? 15.0f : a;
    wr__tail tail = wr__normal_tail(a);
    float below = tail.q - a * (0x1.988454p-2f * tail.exp); /* the derivative at -a */
    return x < 0.0f ? below : 1.0f - below;
}

static inline double wr_exp_f64(double x) { return exp(x); }
static inline double wr_expm1_f64(double x) { return expm1(x); }
static inline double wr_log_f64(double x) { return log(x); }
static inline double wr_log1p_f64(double x) { return log1p(x); }
static inline double wr_tanh_f64(double x) { return tanh(x); }
static inline double wr_erf_f64(double x) { return erf(x); }

static inline double wr_sigmoid_f64(double x) {
    double z = exp(-fabs(x));
    return (x < 0.0 ? z : 1.0) / (1.0 + z);
}

static inline double wr_softplus_f64(double x) {
    return (x < 0.0 ? 0.0 : x) + log1p(exp(-fabs(x)));
}

static inline double wr_gelu_f64(double x) {
    double a = fabs(x);
    a = a > 40.0 ? 40.0 : a; /* infinity times zero is not a number */
    return (x < 0.0 ? 0.0 : x) - 0.5 * a * erfc(a * 0.70710678118654752440);
}

static inline double wr_gelu_grad_f64(double x) {
    double a = fabs(x);
    a = a > 40.0 ? 40.0 : a;
    double below =
        0.5 * erfc(a * 0.70710678118654752440) - a * 0.39894228040143267794 * exp(-0.5 * a * a);
    return x < 0.0 ? below : 1.0 - below;
}

#endif
