// Products of blocks (16 rows by 64 columns of q8 or q4) with the int8 of some tokens, in AVX2.
#ifndef SOBAN_BLOCKS_H
#define SOBAN_BLOCKS_H

#include "formats.h"
#include "kernels.h"

namespace {

constexpr int PARTS = PANEL / WIDTH; // vectors that hold four columns of a panel's rows

INLINE __m256i four_values(const int8_t *from) {
    int32_t four;
    memcpy(&four, from, 4);
    return _mm256_set1_epi32(four);
}

INLINE __m256i load_bytes(const uint8_t *from) { return _mm256_loadu_si256((const __m256i *)from); }

// total[v][t] += the products' sums of 8 rows with 32 of each token's values, from nibbles that start at weights +
// part(v) and lie 64 bytes apart.
template <int VECTORS, int TOKENS, class Nibbles>
INLINE void multiply_nibbles(Nibbles nibbles, const int8_t *x, __m256i (*total)[TOKENS]) {
    __m256i pairs[VECTORS][TOKENS]; // 16-bit sums of 8 pairs: 8 * 2 * 15 * 127 = 30480 fits
    UNROLL
    for (int i = 0; i < VECTORS * TOKENS; i++) pairs[i / TOKENS][i % TOKENS] = _mm256_setzero_si256();
    for (int i = 0; i < 8; i++) {
        __m256i w[VECTORS];
        UNROLL
        for (int v = 0; v < VECTORS; v++) w[v] = nibbles(v, i);
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            const __m256i values = four_values(x + t * GROUP + 4 * i);
            UNROLL
            for (int v = 0; v < VECTORS; v++) {
                pairs[v][t] = _mm256_add_epi16(pairs[v][t], _mm256_maddubs_epi16(w[v], values));
            }
        }
    }
    UNROLL
    for (int i = 0; i < VECTORS * TOKENS; i++) {
        const int v = i / TOKENS, t = i % TOKENS;
        total[v][t] = _mm256_add_epi32(total[v][t], _mm256_madd_epi16(pairs[v][t], _mm256_set1_epi16(1)));
    }
}

// total[v][t] += the products' sums of 8 rows with 64 of each token's values, from int8 weights 64 bytes apart.
template <int VECTORS, int TOKENS>
INLINE void multiply_bytes(const uint8_t *const *weights, const int8_t *x, __m256i (*total)[TOKENS]) {
    const __m256i ones = _mm256_set1_epi16(1);
    for (int i = 0; i < 16; i++) {
        UNROLL
        for (int v = 0; v < VECTORS; v++) {
            const __m256i w = load_bytes(weights[v] + 64 * i);
            const __m256i size = _mm256_abs_epi8(w); // the sign goes to x; 2 * 127 * 127 = 32258 fits 16 bits
            UNROLL
            for (int t = 0; t < TOKENS; t++) {
                const __m256i values = _mm256_sign_epi8(four_values(x + t * GROUP + 4 * i), w);
                total[v][t] =
                    _mm256_add_epi32(total[v][t], _mm256_madd_epi16(_mm256_maddubs_epi16(size, values), ones));
            }
        }
    }
}

template <class Format>
INLINE void scale_total(__m256i total, V scale, V minimum, const soban::Activations &x, int64_t place, float *to) {
    V sum = fma(_mm256_cvtepi32_ps(total), scale * splat(x.scales[place]), load(to));
    if (Format::MINIMA) sum = fma(minimum, splat(x.sums[place]), sum);
    store(to, sum);
}

// Adds the block's part to sums[t][r], for TOKENS tokens from place on: see soban::Activations.
template <class Format, int TOKENS>
INLINE void add_block(const uint8_t *block, const soban::Activations &x, int64_t place, float *sums) {
    const int8_t *values = x.values + place * GROUP;
    for (int part = 0; part < PARTS; part++) {
        const uint8_t *weights = block + Format::NUMBERS + 32 * part;
        __m256i total[1][TOKENS];
        UNROLL
        for (int t = 0; t < TOKENS; t++) total[0][t] = _mm256_setzero_si256();
        if (Format::NIBBLES) {
            const __m256i nibble = _mm256_set1_epi8(15);
            const auto low = [&](int, int i) { return _mm256_and_si256(load_bytes(weights + 64 * i), nibble); };
            const auto high = [&](int, int i) {
                return _mm256_and_si256(_mm256_srli_epi16(load_bytes(weights + 64 * i), 4), nibble);
            };
            multiply_nibbles<1, TOKENS>(low, values, total);
            multiply_nibbles<1, TOKENS>(high, values + 32, total);
        } else {
            multiply_bytes<1, TOKENS>(&weights, values, total);
        }
        const V scale = scales_of<Format>(block, part * WIDTH), minimum = minima_of<Format>(block, part * WIDTH);
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            scale_total<Format>(total[0][t], scale, minimum, x, place + t, sums + t * PANEL + part * WIDTH);
        }
    }
}

// A block unpacked once for many tokens.
struct Expanded {
    uint8_t weights[1024];
    float scales[PANEL], minima[PANEL];
};

template <class Format> INLINE void expand(const uint8_t *block, Expanded *to) {
    for (int i = 0; i < 16; i++) {
        const __m256i bytes = load_bytes(block + Format::NUMBERS + 32 * i);
        if (Format::NIBBLES) {
            const __m256i nibble = _mm256_set1_epi8(15);
            _mm256_storeu_si256((__m256i *)(to->weights + 32 * i), _mm256_and_si256(bytes, nibble));
            _mm256_storeu_si256((__m256i *)(to->weights + 512 + 32 * i),
                                _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble));
        } else {
            _mm256_storeu_si256((__m256i *)(to->weights + 32 * i), bytes);
            _mm256_storeu_si256((__m256i *)(to->weights + 512 + 32 * i),
                                load_bytes(block + Format::NUMBERS + 512 + 32 * i));
        }
    }
    for (int part = 0; part < PARTS; part++) {
        store(to->scales + part * WIDTH, scales_of<Format>(block, part * WIDTH));
        if (Format::MINIMA) store(to->minima + part * WIDTH, minima_of<Format>(block, part * WIDTH));
    }
}

// As add_block, for `groups` groups of one panel; sums[t][r] has `width` values for each token.
template <class Format, int PANELS, int TOKENS>
INLINE void add_expanded(const Expanded *blocks, int, int groups, const soban::Activations &x, int64_t place,
                         float *sums, int width) {
    static_assert(PANELS == 1);
    for (int g = 0; g < groups; g++, place += x.tokens) {
        const int8_t *values = x.values + place * GROUP;
        const uint8_t *weights[PARTS];
        __m256i total[PARTS][TOKENS];
        UNROLL
        for (int v = 0; v < PARTS; v++) weights[v] = blocks[g].weights + 32 * v;
        UNROLL
        for (int i = 0; i < PARTS * TOKENS; i++) total[i / TOKENS][i % TOKENS] = _mm256_setzero_si256();
        if (Format::NIBBLES) {
            const auto low = [&](int v, int i) { return load_bytes(weights[v] + 64 * i); };
            const auto high = [&](int v, int i) { return load_bytes(weights[v] + 64 * (8 + i)); };
            multiply_nibbles<PARTS, TOKENS>(low, values, total);
            multiply_nibbles<PARTS, TOKENS>(high, values + 32, total);
        } else {
            multiply_bytes<PARTS, TOKENS>(weights, values, total);
        }
        UNROLL
        for (int v = 0; v < PARTS; v++) {
            const V scale = load(blocks[g].scales + v * WIDTH), minimum = load(blocks[g].minima + v * WIDTH);
            UNROLL
            for (int t = 0; t < TOKENS; t++) {
                scale_total<Format>(total[v][t], scale, minimum, x, place + t, sums + t * width + v * WIDTH);
            }
        }
    }
}

} // namespace
#endif
