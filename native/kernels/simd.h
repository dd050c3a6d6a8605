// One vector of floats under one name for every instruction set, so that elementwise kernels are written once.
//
// V holds WIDTH floats, I as many int32 with the same bits; + - * / < and ?: work on both. Everything here is
// inlined into an anonymous namespace: nothing compiled for one instruction set may be shared with another.
#ifndef SOBAN_SIMD_H
#define SOBAN_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels.h"

#if SOBAN_ISA != 0
#include <immintrin.h>
#endif

#ifndef SOBAN_NEON
#define SOBAN_NEON 0 // not ARM, or plain C++ there
#endif

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 64") // or arrays of vectors stay in memory
#endif

namespace {

using soban::BLOCK, soban::BLOCK_GROUPS, soban::GROUP, soban::HALF, soban::PAGE, soban::PANEL, soban::SPAN;

#if SOBAN_ISA == 2
typedef __m512 V;
#elif SOBAN_ISA == 1
typedef __m256 V;
#else
typedef float V __attribute__((vector_size(16)));
#endif
typedef int32_t I __attribute__((vector_size(sizeof(V))));
typedef uint32_t U __attribute__((vector_size(sizeof(V)))); // for sums that may wrap around
constexpr int32_t WIDTH = sizeof(V) / sizeof(float);

INLINE V splat(float x) { return x - V{}; }

// How a stored number becomes a float: load() takes WIDTH of them, load_part() n < WIDTH and zeros after them.
// Addresses need no alignment.
struct F32 {
    static constexpr int32_t SIZE = 4;
    INLINE V load(const void *from);
    INLINE V load_part(const void *from, int n);
};
struct F16 {
    static constexpr int32_t SIZE = 2;
    INLINE V load(const void *from);
    INLINE V load_part(const void *from, int n);
};
struct BF16 {
    static constexpr int32_t SIZE = 2;
    INLINE V load(const void *from);
    INLINE V load_part(const void *from, int n);
};

#if SOBAN_ISA == 2
V F32::load(const void *from) { return _mm512_loadu_ps(from); }
V F32::load_part(const void *from, int n) { return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), from); }
V F16::load(const void *from) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from)); }
V F16::load_part(const void *from, int n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), from));
}
INLINE V widen_bf16(__m256i bits) { return (V)_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16); }
V BF16::load(const void *from) { return widen_bf16(_mm256_loadu_si256((const __m256i *)from)); }
V BF16::load_part(const void *from, int n) {
    return widen_bf16(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), from));
}
INLINE void store(float *to, V x) { _mm512_storeu_ps(to, x); }
INLINE void store_part(float *to, V x, int n) { _mm512_mask_storeu_ps(to, (__mmask16)((1u << n) - 1), x); }
INLINE void store_f16(uint16_t *to, V x) {
    _mm256_storeu_si256((__m256i *)to, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
INLINE V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
INLINE V root(V x) { return _mm512_sqrt_ps(x); }
INLINE I nearest(V x) { return (I)_mm512_cvtps_epi32(x); } // ties to even
INLINE V to_float(I x) { return _mm512_cvtepi32_ps((__m512i)x); }
template <int STRIDE> INLINE V swapped(V x) { // lane i has what lane i ^ STRIDE had
    return STRIDE == 8   ? _mm512_shuffle_f32x4(x, x, 0x4e)
           : STRIDE == 4 ? _mm512_shuffle_f32x4(x, x, 0xb1)
           : STRIDE == 2 ? _mm512_permute_ps(x, 0x4e)
                         : _mm512_permute_ps(x, 0xb1);
}

#elif SOBAN_ISA == 1
const int32_t PART_MASK[16] = {-1, -1, -1, -1, -1, -1, -1, -1};

V F32::load(const void *from) { return _mm256_loadu_ps((const float *)from); }
V F32::load_part(const void *from, int n) {
    return _mm256_maskload_ps((const float *)from, _mm256_loadu_si256((const __m256i *)(PART_MASK + 8 - n)));
}
INLINE __m128i part_of_16(const void *from, int n) {
    uint16_t whole[8] = {};
    memcpy(whole, from, 2 * (size_t)n);
    return _mm_loadu_si128((const __m128i *)whole);
}
V F16::load(const void *from) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from)); }
V F16::load_part(const void *from, int n) { return _mm256_cvtph_ps(part_of_16(from, n)); }
INLINE V widen_bf16(__m128i bits) { return (V)_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16); }
V BF16::load(const void *from) { return widen_bf16(_mm_loadu_si128((const __m128i *)from)); }
V BF16::load_part(const void *from, int n) { return widen_bf16(part_of_16(from, n)); }
INLINE void store(float *to, V x) { _mm256_storeu_ps(to, x); }
INLINE void store_part(float *to, V x, int n) {
    _mm256_maskstore_ps(to, _mm256_loadu_si256((const __m256i *)(PART_MASK + 8 - n)), x);
}
INLINE void store_f16(uint16_t *to, V x) {
    _mm_storeu_si128((__m128i *)to, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
INLINE V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
INLINE V root(V x) { return _mm256_sqrt_ps(x); }
INLINE I nearest(V x) { return (I)_mm256_cvtps_epi32(x); } // ties to even
INLINE V to_float(I x) { return _mm256_cvtepi32_ps((__m256i)x); }
template <int STRIDE> INLINE V swapped(V x) {
    return STRIDE == 4   ? _mm256_permute2f128_ps(x, x, 1)
           : STRIDE == 2 ? _mm256_permute_ps(x, 0x4e)
                         : _mm256_permute_ps(x, 0xb1);
}

#elif SOBAN_NEON
} // namespace
#include "simd_neon.h"
namespace {

#else
INLINE float f16_value(uint16_t half) {
    // A half's exponent and mantissa in a float's places are 2**-112 times the value, also when subnormal.
    uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13;
    float value;
    memcpy(&value, &magnitude, 4);
    value *= 0x1p112f;
    memcpy(&magnitude, &value, 4);
    if ((half & 0x7c00) == 0x7c00) magnitude |= 0x7f800000;
    magnitude |= (uint32_t)(half & 0x8000) << 16;
    memcpy(&value, &magnitude, 4);
    return value;
}
INLINE uint16_t f16_bits(float value) { // to nearest, ties to even
    uint32_t bits;
    memcpy(&bits, &value, 4);
    const uint32_t sign = (bits >> 16) & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (bits >= 0x477ff000) return (uint16_t)(sign | 0x7c00); // 65520 and more round to infinity
    if (bits < 0x38800000) { // below 2**-14: 0.5 has the step of a subnormal half, 2**-24
        float magnitude;
        memcpy(&magnitude, &bits, 4);
        magnitude += 0.5f;
        memcpy(&bits, &magnitude, 4);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    bits += 0xfff + ((bits >> 13) & 1);
    return (uint16_t)(sign | ((bits - 0x38000000) >> 13));
}
V F32::load(const void *from) {
    V x;
    memcpy(&x, from, sizeof x);
    return x;
}
V F32::load_part(const void *from, int n) {
    V x = {};
    memcpy(&x, from, 4 * (size_t)n);
    return x;
}
V F16::load_part(const void *from, int n) {
    uint16_t bits[WIDTH] = {};
    memcpy(bits, from, 2 * (size_t)n);
    return V{f16_value(bits[0]), f16_value(bits[1]), f16_value(bits[2]), f16_value(bits[3])};
}
V F16::load(const void *from) { return load_part(from, WIDTH); }
V BF16::load_part(const void *from, int n) {
    uint16_t bits[WIDTH] = {};
    memcpy(bits, from, 2 * (size_t)n);
    return (V)(I{bits[0], bits[1], bits[2], bits[3]} << 16);
}
V BF16::load(const void *from) { return load_part(from, WIDTH); }
INLINE void store(float *to, V x) { memcpy(to, &x, sizeof x); }
INLINE void store_part(float *to, V x, int n) { memcpy(to, &x, 4 * (size_t)n); }
INLINE void store_f16(uint16_t *to, V x) {
    for (int i = 0; i < WIDTH; i++) to[i] = f16_bits(x[i]);
}
INLINE V fma(V a, V b, V c) { return a * b + c; }
INLINE V root(V x) { return V{sqrtf(x[0]), sqrtf(x[1]), sqrtf(x[2]), sqrtf(x[3])}; }
INLINE I nearest(V x) {                 // ties to even; |x| < 2**22
    const V shift = splat(12582912.0f); // 1.5 * 2**23: the unit is the last place
    return (I)(x + shift) - (I)shift;
}
INLINE V to_float(I x) { return V{(float)x[0], (float)x[1], (float)x[2], (float)x[3]}; }
template <int STRIDE> INLINE V swapped(V x) {
    return STRIDE == 2 ? V{x[2], x[3], x[0], x[1]} : V{x[1], x[0], x[3], x[2]};
}
#endif

INLINE V load(const float *from) { return F32::load(from); }
INLINE V load_part(const float *from, int n) { return F32::load_part(from, n); }
INLINE I splat_int(int32_t x) { return x - I{}; }
INLINE V larger(V a, V b) { return a > b ? a : b; } // b if either is NaN
INLINE V smaller(V a, V b) { return a < b ? a : b; }
INLINE V to_bf16(V x) { // rounded to the nearest bfloat16, ties to even; infinities and NaN as they are
    const U bits = (U)x;
    const V rounded = (V)((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u);
    return x == x ? rounded : x;
}
INLINE V magnitude(V x) { return (V)((I)x & splat_int(0x7fffffff)); }

// The sum of the lanes, always as the same tree.
INLINE float sum(V x) {
#if SOBAN_ISA == 2
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
#elif SOBAN_ISA == 1
    const __m256 half = x;
#endif
#if SOBAN_ISA != 0
    __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    quarter = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
    return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
#else
    return (x[0] + x[2]) + (x[1] + x[3]);
#endif
}

INLINE float largest(V x) {
    float best = x[0];
    for (int i = 1; i < WIDTH; i++) best = best > x[i] ? best : x[i];
    return best;
}

// Of whole numbers the order does not matter.
#if SOBAN_ISA == 2
INLINE int32_t largest(I x) { return _mm512_reduce_max_epi32((__m512i)x); }
INLINE int32_t sum(I x) { return _mm512_reduce_add_epi32((__m512i)x); }
#elif !SOBAN_NEON
INLINE int32_t largest(I x) {
    int32_t best = x[0];
    for (int i = 1; i < WIDTH; i++) best = best > x[i] ? best : x[i];
    return best;
}
INLINE int32_t sum(I x) {
    uint32_t total = 0;
    for (int i = 0; i < WIDTH; i++) total += (uint32_t)x[i];
    return (int32_t)total;
}
#endif

// The sums of the lanes of eight vectors.
INLINE void sum_eight(const I *x, int32_t *sums) {
#if SOBAN_ISA == 2
    __m512i fours[2];
    for (int i = 0; i < 2; i++) {
        const __m512i *v = (const __m512i *)x + 4 * i;
        const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
        const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
        fours[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b)); // in each quarter
    }
    const __m512i even = _mm512_shuffle_i32x4(fours[0], fours[1], 0x88);
    const __m512i quarters = _mm512_add_epi32(even, _mm512_shuffle_i32x4(fours[0], fours[1], 0xdd));
    const __m512i all = _mm512_add_epi32(quarters, _mm512_shuffle_i32x4(quarters, quarters, 0xb1));
    _mm256_storeu_si256((__m256i *)sums, _mm512_castsi512_si256(_mm512_shuffle_i32x4(all, all, 0x08)));
#else
    for (int i = 0; i < 8; i++) sums[i] = sum(x[i]);
#endif
}

#if !SOBAN_NEON
// WIDTH int8 as floats.
INLINE V widen_int8(const void *from) {
#if SOBAN_ISA == 2
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from)));
#elif SOBAN_ISA == 1
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from)));
#else
    const int8_t *x = (const int8_t *)from;
    return V{(float)x[0], (float)x[1], (float)x[2], (float)x[3]};
#endif
}

// Four vectors of whole numbers from -128 to 127 as bytes.
INLINE void store_int8(int8_t *to, const I *x) {
#if SOBAN_ISA == 2
    for (int i = 0; i < 4; i++) _mm_storeu_si128((__m128i *)(to + i * WIDTH), _mm512_cvtepi32_epi8((__m512i)x[i]));
#elif SOBAN_ISA == 1
    const __m256i low = _mm256_packs_epi32((__m256i)x[0], (__m256i)x[1]); // within halves: 0 1 0 1
    const __m256i high = _mm256_packs_epi32((__m256i)x[2], (__m256i)x[3]);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256((__m256i *)to, _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order));
#else
    for (int i = 0; i < 4 * WIDTH; i++) to[i] = (int8_t)x[i / WIDTH][i % WIDTH];
#endif
}
#endif

// e**x to 1 ulp from -86.9 (0 below) to 88.7 (infinity above): 2**n (1 + r + r**2 q(r)), |r| <= ln(2) / 2.
// q: least-maximum fit, 0.05 ulp.
INLINE V exponential(V x) {
    const V shift = splat(12582912.0f);
    const V bounded = smaller(splat(89.0f), larger(splat(-87.0f), x));
    const V shifted = fma(bounded, splat(0x1.715476p0f), shift);
    const V n = shifted - shift;
    V r = fma(n, splat(-0x1.62e400p-1f), bounded); // ln 2 in two parts: n times the first is exact
    r = fma(n, splat(-0x1.7f7d1cp-20f), r);
    V q = splat(0x1.6a23f0p-10f);
    q = fma(q, r, splat(0x1.123a0ap-7f));
    q = fma(q, r, splat(0x1.5558f2p-5f));
    q = fma(q, r, splat(0x1.555492p-3f));
    q = fma(q, r, splat(0x1.fffffcp-2f));
    const V y = fma(r * r, q, r) + splat(1.0f);
    const I power = (((I)shifted - (I)shift) + 126) << 23; // 2**(n - 1): n = 128 has no float of its own
    return x < splat(-86.9f) ? V{} : (y + y) * (V)power;
}

// tanh x to 2 ulp: an odd polynomial (least-maximum fit, 0.09 ulp) below 0.63, else 1 - 2 / (e**2x + 1).
INLINE V hyperbolic_tangent(V x) {
    const V size = magnitude(x), square = x * x;
    V p = splat(-0x1.6f4214p-8f);
    p = fma(p, square, splat(0x1.50b828p-6f));
    p = fma(p, square, splat(-0x1.b806a6p-5f));
    p = fma(p, square, splat(0x1.1105a2p-3f));
    p = fma(p, square, splat(-0x1.55552cp-2f));
    const V small = fma(x * square, p, x);
    const V large = splat(1.0f) - splat(2.0f) / (exponential(size + size) + splat(1.0f));
    const V sign = (V)((I)x & splat_int((int32_t)0x80000000));
    return size < splat(0.63f) ? small : (V)((I)large | (I)sign);
}

INLINE float bf16_value(uint16_t bits) {
    const uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, 4);
    return value;
}

// Runs body(offset, n) over `count` values in steps of a vector; the last step may be a part (n < WIDTH).
template <class Body> INLINE void in_vectors(int64_t count, Body body) {
    int64_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH) body(i, WIDTH);
    if (i < count) body(i, (int)(count - i));
}

INLINE V load_up_to(const float *from, int n) { return n == WIDTH ? load(from) : load_part(from, n); }
INLINE void store_up_to(float *to, V x, int n) { n == WIDTH ? store(to, x) : store_part(to, x, n); }

} // namespace
#endif
