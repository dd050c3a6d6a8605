// simd.h's names in NEON: vectors of 128 bits, of which a 64-bit ARM has 32.
#ifndef SOBAN_SIMD_NEON_H
#define SOBAN_SIMD_NEON_H

#include <arm_neon.h>

// Included by simd.h, in the middle of its namespace's names: V and I are known here.
namespace {

V F32::load(const void *from) { return (V)vld1q_u8((const uint8_t *)from); } // any alignment
V F32::load_part(const void *from, int n) {
    V x = {};
    memcpy(&x, from, 4 * (size_t)n);
    return x;
}
INLINE uint16x4_t part_of_16(const void *from, int n) {
    uint16_t whole[4] = {};
    memcpy(whole, from, 2 * (size_t)n);
    return vld1_u16(whole);
}
INLINE uint16x4_t four_of_16(const void *from) { return vreinterpret_u16_u8(vld1_u8((const uint8_t *)from)); }
INLINE V widen_f16(uint16x4_t bits) { return (V)vcvt_f32_f16(vreinterpret_f16_u16(bits)); }
INLINE V widen_bf16(uint16x4_t bits) { return (V)vshll_n_u16(bits, 16); }
V F16::load(const void *from) { return widen_f16(four_of_16(from)); }
V F16::load_part(const void *from, int n) { return widen_f16(part_of_16(from, n)); }
V BF16::load(const void *from) { return widen_bf16(four_of_16(from)); }
V BF16::load_part(const void *from, int n) { return widen_bf16(part_of_16(from, n)); }
INLINE void store(float *to, V x) { vst1q_f32(to, (float32x4_t)x); }
INLINE void store_part(float *to, V x, int n) { memcpy(to, &x, 4 * (size_t)n); }
INLINE void store_f16(uint16_t *to, V x) { vst1_u16(to, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)x))); }
INLINE V fma(V a, V b, V c) { return (V)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
INLINE V root(V x) { return (V)vsqrtq_f32((float32x4_t)x); }
INLINE I nearest(V x) { return (I)vcvtnq_s32_f32((float32x4_t)x); } // ties to even
INLINE V to_float(I x) { return (V)vcvtq_f32_s32((int32x4_t)x); }
template <int STRIDE> INLINE V swapped(V x) {
    const float32x4_t y = (float32x4_t)x;
    return (V)(STRIDE == 2 ? vextq_f32(y, y, 2) : vrev64q_f32(y));
}

INLINE int32_t largest(I x) { return vmaxvq_s32((int32x4_t)x); }
INLINE int32_t sum(I x) { return vaddvq_s32((int32x4_t)x); }

// Four vectors of whole numbers from -128 to 127 as bytes.
INLINE void store_int8(int8_t *to, const I *x) {
    const int16x8_t low = vcombine_s16(vmovn_s32((int32x4_t)x[0]), vmovn_s32((int32x4_t)x[1]));
    const int16x8_t high = vcombine_s16(vmovn_s32((int32x4_t)x[2]), vmovn_s32((int32x4_t)x[3]));
    vst1q_s8(to, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}

// Four int8 as floats.
INLINE V widen_int8(const void *from) {
    int32_t four;
    memcpy(&four, from, 4);
    const int16x8_t wide = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
    return (V)vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
}

} // namespace
#endif
