// Products of one block (16 rows by 64 columns of q8 or q4) with the int8 of some tokens, in AVX2.
#ifndef SOBAN_BLOCKS_H
#define SOBAN_BLOCKS_H

#include "kernels.h"
#include "simd.h"

namespace {

INLINE __m256i four_values(const int8_t *from) {
    int32_t four;
    memcpy(&four, from, 4);
    return _mm256_set1_epi32(four);
}

// total[t] += the products' sums of 8 rows with 32 of each token's values: those of the low or of the high nibbles.
template <int TOKENS, int SHIFT> INLINE void multiply_nibbles(const uint8_t *weights, const int8_t *x, __m256i *total) {
    const __m256i nibble = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    __m256i pairs[TOKENS]; // 16-bit sums of 8 pairs: 8 * 2 * 15 * 127 = 30480 fits
    UNROLL
    for (int t = 0; t < TOKENS; t++) pairs[t] = _mm256_setzero_si256();
    for (int i = 0; i < 8; i++) {
        const __m256i bytes = _mm256_loadu_si256((const __m256i *)(weights + 64 * i));
        const __m256i w = _mm256_and_si256(_mm256_srli_epi16(bytes, SHIFT), nibble);
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            const __m256i products = _mm256_maddubs_epi16(w, four_values(x + t * GROUP + 4 * i));
            pairs[t] = _mm256_add_epi16(pairs[t], products);
        }
    }
    UNROLL
    for (int t = 0; t < TOKENS; t++) total[t] = _mm256_add_epi32(total[t], _mm256_madd_epi16(pairs[t], ones));
}

template <int TOKENS> INLINE void multiply_q4(const uint8_t *weights, const int8_t *x, __m256i *total) {
    UNROLL
    for (int t = 0; t < TOKENS; t++) total[t] = _mm256_setzero_si256();
    multiply_nibbles<TOKENS, 0>(weights, x, total);
    multiply_nibbles<TOKENS, 4>(weights, x + 32, total);
}

template <int TOKENS> INLINE void multiply_q8(const uint8_t *weights, const int8_t *x, __m256i *total) {
    const __m256i ones = _mm256_set1_epi16(1);
    UNROLL
    for (int t = 0; t < TOKENS; t++) total[t] = _mm256_setzero_si256();
    for (int i = 0; i < 16; i++) {
        const __m256i w = _mm256_loadu_si256((const __m256i *)(weights + 64 * i));
        const __m256i size = _mm256_abs_epi8(w); // the sign goes to x; 2 * 127 * 127 = 32258 fits 16 bits
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            const __m256i values = _mm256_sign_epi8(four_values(x + t * GROUP + 4 * i), w);
            total[t] = _mm256_add_epi32(total[t], _mm256_madd_epi16(_mm256_maddubs_epi16(size, values), ones));
        }
    }
}

// Adds the block's part to sums[t][r], for TOKENS tokens from place on: see soban::Activations.
template <bool FOUR, int TOKENS>
INLINE void add_block(const uint8_t *block, const soban::Activations &x, int64_t place, float *sums) {
    for (int half = 0; half < 2; half++) {
        const uint8_t *weights = block + (FOUR ? 64 : 32) + 32 * half;
        const int8_t *values = x.values + place * GROUP;
        __m256i total[TOKENS];
        if (FOUR) {
            multiply_q4<TOKENS>(weights, values, total);
        } else {
            multiply_q8<TOKENS>(weights, values, total);
        }
        const V scale = BF16::load(block + 16 * half);
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            float *to = sums + t * PANEL + 8 * half;
            V sum = fma(_mm256_cvtepi32_ps(total[t]), scale * splat(x.scales[place + t]), load(to));
            if (FOUR) sum = fma(BF16::load(block + 32 + 16 * half), splat(x.sums[place + t]), sum);
            store(to, sum);
        }
    }
}

} // namespace
#endif
