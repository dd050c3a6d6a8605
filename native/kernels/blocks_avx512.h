// Products of blocks (16 rows by 64 columns of q8 or q4) with the int8 of some tokens, in AVX-512 with VNNI.
//
// An int8 weight plus 128 is the unsigned operand that vpdpbusd wants; the 128 x sum of the values that this adds
// is taken off again in the integers.
#ifndef SOBAN_BLOCKS_H
#define SOBAN_BLOCKS_H

#include "kernels.h"
#include "simd.h"

namespace {

// total += weights (16 x 4 unsigned) . values (16 x 4 signed)
INLINE void dot(__m512i &total, __m512i weights, __m512i values) {
#if defined(__GNUC__) && !defined(__clang__)
    __asm__("vpdpbusd %2, %1, %0" : "+v"(total) : "v"(weights), "v"(values)); // gcc 12 copies registers around its own
#else
    total = _mm512_dpbusd_epi32(total, weights, values);
#endif
}

INLINE __m512i four_values(const int8_t *from) {
    int32_t four;
    memcpy(&four, from, 4);
    return _mm512_set1_epi32(four);
}

// Weights k = 4i .. 4i + 3 of all rows in first, and k = 32 + 4i .. in second, unsigned.
template <bool FOUR> INLINE void unpack(const uint8_t *block, int i, __m512i &first, __m512i &second) {
    if (FOUR) {
        const __m512i nibble = _mm512_set1_epi8(15);
        const __m512i bytes = _mm512_loadu_si512(block + 64 + 64 * i);
        first = _mm512_and_si512(bytes, nibble);
        second = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble);
    } else {
        const __m512i flip = _mm512_set1_epi8((char)0x80);
        first = _mm512_xor_si512(_mm512_loadu_si512(block + 32 + 64 * i), flip);
        second = _mm512_xor_si512(_mm512_loadu_si512(block + 32 + 64 * (8 + i)), flip);
    }
}

// Adds the block's part to sums[t][r], for TOKENS tokens from place on: see soban::Activations.
template <bool FOUR, int TOKENS>
INLINE void add_block(const uint8_t *block, const soban::Activations &x, int64_t place, float *sums) {
    const int8_t *values = x.values + place * GROUP;
    __m512i even[TOKENS], odd[TOKENS]; // two sums hide the latency of one
    UNROLL
    for (int t = 0; t < TOKENS; t++) {
        even[t] = FOUR ? _mm512_setzero_si512() : _mm512_set1_epi32(x.offsets[place + t]);
        odd[t] = _mm512_setzero_si512();
    }
    UNROLL
    for (int i = 0; i < 8; i++) {
        __m512i first, second;
        unpack<FOUR>(block, i, first, second);
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            dot(even[t], first, four_values(values + t * GROUP + 4 * i));
            dot(odd[t], second, four_values(values + t * GROUP + 32 + 4 * i));
        }
    }
    const V scale = BF16::load(block);
    UNROLL
    for (int t = 0; t < TOKENS; t++) {
        float *to = sums + t * PANEL;
        const V total = _mm512_cvtepi32_ps(_mm512_add_epi32(even[t], odd[t]));
        V sum = fma(total, scale * splat(x.scales[place + t]), load(to));
        if (FOUR) sum = fma(BF16::load(block + 32), splat(x.sums[place + t]), sum);
        store(to, sum);
    }
}

// A block unpacked once for many tokens.
struct Expanded {
    uint8_t weights[1024];
    float scales[PANEL], minima[PANEL];
};

template <bool FOUR> INLINE void expand(const uint8_t *block, Expanded *to) {
    UNROLL
    for (int i = 0; i < 8; i++) {
        __m512i first, second;
        unpack<FOUR>(block, i, first, second);
        _mm512_storeu_si512(to->weights + 64 * i, first);
        _mm512_storeu_si512(to->weights + 64 * (8 + i), second);
    }
    store(to->scales, BF16::load(block));
    if (FOUR) store(to->minima, BF16::load(block + 32));
}

// As add_block, for `groups` groups of PANELS panels: the blocks of panel p start at blocks + p * stride, and
// sums[t][p][r] has `width` values for each token. The operations on a sum are those of add_block, in its order.
template <bool FOUR, int PANELS, int TOKENS>
INLINE void add_expanded(const Expanded *blocks, int stride, int groups, const soban::Activations &x, int64_t place,
                         float *sums, int width) {
    V sum[PANELS][TOKENS];
    UNROLL
    for (int p = 0; p < PANELS; p++) {
        UNROLL
        for (int t = 0; t < TOKENS; t++) sum[p][t] = load(sums + t * width + p * PANEL);
    }
    for (int g = 0; g < groups; g++, place += x.tokens) {
        const int8_t *values = x.values + place * GROUP;
        __m512i total[PANELS][TOKENS];
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            const __m512i start = FOUR ? _mm512_setzero_si512() : _mm512_set1_epi32(x.offsets[place + t]);
            UNROLL
            for (int p = 0; p < PANELS; p++) total[p][t] = start;
        }
        for (int i = 0; i < 16; i++) {
            __m512i weights[PANELS];
            UNROLL
            for (int p = 0; p < PANELS; p++) weights[p] = _mm512_loadu_si512(blocks[p * stride + g].weights + 64 * i);
            UNROLL
            for (int t = 0; t < TOKENS; t++) {
                const __m512i four = four_values(values + t * GROUP + 4 * i);
                UNROLL
                for (int p = 0; p < PANELS; p++) dot(total[p][t], weights[p], four);
            }
        }
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            const V scale = splat(x.scales[place + t]), values_sum = splat(x.sums[place + t]);
            UNROLL
            for (int p = 0; p < PANELS; p++) {
                const Expanded &block = blocks[p * stride + g];
                sum[p][t] = fma(_mm512_cvtepi32_ps(total[p][t]), load(block.scales) * scale, sum[p][t]);
                if (FOUR) sum[p][t] = fma(load(block.minima), values_sum, sum[p][t]);
            }
        }
    }
    UNROLL
    for (int p = 0; p < PANELS; p++) {
        UNROLL
        for (int t = 0; t < TOKENS; t++) store(sums + t * width + p * PANEL, sum[p][t]);
    }
}

} // namespace
#endif
