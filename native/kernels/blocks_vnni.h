// Products of blocks (16 rows by up to 256 columns of q8 or q4) with the int8 of some tokens, by vpdpbusd.
//
// One source for three builds: vectors of 16 rows (AVX-512), of 8 with 32 registers (AVX-512 VL) and of 8 with 16
// registers (AVX-VNNI). A level plus 128 is the unsigned operand that vpdpbusd wants; the 128 x sum of the values that
// this adds is taken off again in the integers. Of q4 one token multiplies the nibbles, and the sums of each half by
// its step: the float32 that hold them are whole numbers below 2**24, 256 * 127 * 240, and exact.
#ifndef SOBAN_BLOCKS_H
#define SOBAN_BLOCKS_H

#include "dot.h"
#include "formats.h"
#include "kernels.h"

namespace {

constexpr int PARTS = PANEL / WIDTH; // vectors that hold four columns of a panel's rows

// dot() with one four of values for all lanes.
INLINE void dot_four(Bytes &total, Bytes weights, const int8_t *four) {
#if SOBAN_ISA == 2
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(total) : "v"(weights), "m"(*(const int32_t *)four));
#elif SOBAN_VNNI == 2
    __asm__("vpdpbusd %2%{1to8%}, %1, %0" : "+v"(total) : "v"(weights), "m"(*(const int32_t *)four));
#else
    int32_t value;
    memcpy(&value, four, 4);
    dot(total, weights, splat_four(value));
#endif
}

// WIDTH bytes as whole numbers; 2 x WIDTH int8 as int16; each int16's low byte, or each int32's, in all its places.
#if SOBAN_ISA == 2
INLINE I widen_bytes(const uint8_t *from) { return (I)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from)); }
INLINE Bytes widen_pairs(const int8_t *from) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)from)); }
INLINE Bytes multiply_words(Bytes a, Bytes b) { return _mm512_mullo_epi16(a, b); }
INLINE Bytes subtract_bytes(Bytes a, Bytes b) { return _mm512_sub_epi8(a, b); }
INLINE Bytes four_times(I x) {
    const __m512i lowest = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
    return _mm512_shuffle_epi8((__m512i)x, lowest);
}
#else
INLINE I widen_bytes(const uint8_t *from) { return (I)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from)); }
INLINE Bytes widen_pairs(const int8_t *from) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)from)); }
INLINE Bytes multiply_words(Bytes a, Bytes b) { return _mm256_mullo_epi16(a, b); }
INLINE Bytes subtract_bytes(Bytes a, Bytes b) { return _mm256_sub_epi8(a, b); }
INLINE Bytes four_times(I x) {
    const __m256i lowest = _mm256_broadcastsi128_si256(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
    return _mm256_shuffle_epi8((__m256i)x, lowest);
}
#endif

// Adds what a token's whole-number sums of a block stand for.
INLINE void add_scaled(V total, V scale, float of_values, float *to) {
    store(to, fma(total, scale * splat(of_values), load(to)));
}

// Adds the block to sums[t][r], for the first TOKENS tokens of x, which begins with the block's groups.
template <int TOKENS>
INLINE void add_block(Q8, const uint8_t *block, int groups, const Strip &x, float *sums, const Ahead &ahead) {
    const uint8_t *integers = integers_of<Q8>(block, groups);
    UNROLL
    for (int part = 0; part < PARTS; part++) {
        Bytes even[TOKENS], odd[TOKENS]; // two sums hide the latency of one
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            even[t] = splat_four(x.offsets[t]);
            odd[t] = Bytes{};
        }
        const uint8_t *from = integers + part * (int)sizeof(Bytes);
        const int8_t *values = x.values;
        for (int g = 0; g < groups; g++, from += Q8::GROUP_BYTES, values += x.stride * GROUP) {
            if (part == 0) prefetch_group<Q8>(ahead, groups, g);
            UNROLL
            for (int i = 0; i < GROUP / 4; i += 2) {
                const Bytes first = load_bytes(from + 64 * i) ^ splat_byte(0x80);
                const Bytes second = load_bytes(from + 64 * i + 64) ^ splat_byte(0x80);
                UNROLL
                for (int t = 0; t < TOKENS; t++) {
                    dot_four(even[t], first, values + t * GROUP + 4 * i);
                    dot_four(odd[t], second, values + t * GROUP + 4 * i + 4);
                }
            }
        }
        const V scale = load(scales_of(block) + part * WIDTH);
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            const V total = to_float((I)even[t] + (I)odd[t]);
            add_scaled(total, scale, x.scales[t], sums + t * PANEL + part * WIDTH);
        }
    }
}

template <int TOKENS>
INLINE void add_block(Q4, const uint8_t *block, int groups, const Strip &x, float *sums, const Ahead &ahead) {
    const uint8_t *integers = integers_of<Q4>(block, groups);
    UNROLL
    for (int part = 0; part < PARTS; part++) {
        V total[TOKENS] = {};
        Bytes shifts[TOKENS] = {}; // offsets x sums of values
        const uint8_t *from = integers + part * (int)sizeof(Bytes);
        const int8_t *values = x.values;
        for (int g = 0; g < groups; g++, from += Q4::GROUP_BYTES, values += x.stride * GROUP) {
            if (part == 0) prefetch_group<Q4>(ahead, groups, g);
            Bytes low[TOKENS] = {}, high[TOKENS] = {};
            UNROLL
            for (int i = 0; i < HALF / 4; i++) {
                const Bytes bytes = load_bytes(from + 64 * i);
                const Bytes first = bytes & splat_byte(15), second = high_nibbles(bytes);
                UNROLL
                for (int t = 0; t < TOKENS; t++) {
                    dot_four(low[t], first, values + t * GROUP + 4 * i);
                    dot_four(high[t], second, values + t * GROUP + HALF + 4 * i);
                }
            }
            const I steps = widen_bytes(steps_of(block, g) + part * WIDTH);
            const V first = to_float((steps & 15) + 1), second = to_float((steps >> 4) + 1);
            const Bytes offsets = widen_pairs(offsets_of(block, groups, g) + 2 * part * WIDTH);
            UNROLL
            for (int t = 0; t < TOKENS; t++) {
                total[t] = fma(to_float((I)low[t]), first, total[t]);
                total[t] = fma(to_float((I)high[t]), second, total[t]);
                dot_pairs(shifts[t], offsets, splat_four(x.pairs[g * x.stride + t]));
            }
        }
        const V scale = load(scales_of(block) + part * WIDTH);
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            add_scaled(total[t] - to_float((I)shifts[t]), scale, x.scales[t], sums + t * PANEL + part * WIDTH);
        }
    }
}

// The levels of a group for many tokens, plus `bias` (0 or 128), as 16 vectors of 64 bytes.
template <uint8_t BIAS> INLINE void expand(Q8, const uint8_t *block, int groups, int g, uint8_t *to) {
    const uint8_t *from = integers_of<Q8>(block, groups) + g * Q8::GROUP_BYTES;
    UNROLL
    for (int i = 0; i < PANEL * GROUP; i += (int)sizeof(Bytes)) {
        store_bytes(to + i, load_bytes(from + i) ^ splat_byte(BIAS));
    }
}

template <uint8_t BIAS> INLINE void expand(Q4, const uint8_t *block, int groups, int g, uint8_t *to) {
    UNROLL
    for (int part = 0; part < PARTS; part++) {
        const uint8_t *from = integers_of<Q4>(block, groups) + g * Q4::GROUP_BYTES + part * (int)sizeof(Bytes);
        const I codes = widen_bytes(steps_of(block, g) + part * WIDTH);
        // q0 + 256 q1 times a step: 15 * 16 < 256, so neither byte reaches the other
        const Bytes first = (Bytes)(((codes & 15) + 1) * 0x10001), second = (Bytes)(((codes >> 4) + 1) * 0x10001);
        const I offsets = (I)widen_pairs(offsets_of(block, groups, g) + 2 * part * WIDTH);
        const Bytes low = four_times(offsets) ^ splat_byte(BIAS), high = four_times(offsets >> 16) ^ splat_byte(BIAS);
        uint8_t *out = to + part * (int)sizeof(Bytes);
        UNROLL
        for (int i = 0; i < HALF / 4; i++) {
            const Bytes bytes = load_bytes(from + 64 * i);
            const Bytes one = multiply_words(bytes & splat_byte(15), first);
            const Bytes other = multiply_words(high_nibbles(bytes), second);
            store_bytes(out + 64 * i, subtract_bytes(one, low));
            store_bytes(out + 64 * (HALF / 4 + i), subtract_bytes(other, high));
        }
    }
}

constexpr int64_t EXPANDED = PANEL * GROUP; // bytes of a group
#if SOBAN_AMX
constexpr uint8_t UNSIGNED = 0; // tiles take signed bytes
#else
constexpr uint8_t UNSIGNED = 128;
#endif

template <class Format> INLINE void expand(const uint8_t *block, int groups, int g, uint8_t *to) {
    expand<UNSIGNED>(Format(), block, groups, g, to);
}

// As add_block, for one block of PANELS panels: their expanded groups are `stride` bytes apart, their scales
// `panel_bytes`, and sums[t][p][r] has `width` values for each token.
// Not inlined, or gcc 12 keeps the sums in memory.
template <class Format, int PANELS, int TOKENS>
__attribute__((noinline)) void add_expanded(const uint8_t *block, int64_t panel_bytes, int groups,
                                            const uint8_t *expanded, int64_t stride, const Strip &x, float *sums,
                                            int width) {
    constexpr int VECTORS = PANELS * PARTS;
    Bytes total[VECTORS][TOKENS];
    UNROLL
    for (int t = 0; t < TOKENS; t++) {
        const Bytes start = splat_four(x.offsets[t]);
        UNROLL
        for (int v = 0; v < VECTORS; v++) total[v][t] = start;
    }
    const int8_t *values = x.values;
    for (int g = 0; g < groups; g++, values += x.stride * GROUP, expanded += EXPANDED) {
        Bytes sum[VECTORS][TOKENS]; // in registers: gcc 12 keeps them there through one loop, not through two
        UNROLL
        for (int i = 0; i < VECTORS * TOKENS; i++) sum[i / TOKENS][i % TOKENS] = total[i / TOKENS][i % TOKENS];
        for (int i = 0; i < GROUP / 4; i++) {
            Bytes weights[VECTORS];
            UNROLL
            for (int v = 0; v < VECTORS; v++) {
                weights[v] = load_bytes(expanded + v / PARTS * stride + 64 * i + v % PARTS * (int)sizeof(Bytes));
            }
            UNROLL
            for (int t = 0; t < TOKENS; t++) {
                int32_t four;
                memcpy(&four, values + t * GROUP + 4 * i, 4);
                const Bytes lanes = splat_four(four);
                UNROLL
                for (int v = 0; v < VECTORS; v++) dot(sum[v][t], weights[v], lanes);
            }
        }
        UNROLL
        for (int i = 0; i < VECTORS * TOKENS; i++) total[i / TOKENS][i % TOKENS] = sum[i / TOKENS][i % TOKENS];
    }
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        const V scale = load(scales_of(block + v / PARTS * panel_bytes) + v % PARTS * WIDTH);
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            add_scaled(to_float((I)total[v][t]), scale, x.scales[t], sums + t * width + v * WIDTH);
        }
    }
}

} // namespace
#endif
