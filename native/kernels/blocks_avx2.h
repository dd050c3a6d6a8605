// Products of blocks (16 rows by up to 256 columns of q8 or q4) with the int8 of some tokens, in AVX2.
//
// Nibbles are unsigned as vpmaddubsw wants them; the step of 32 columns is what vpmaddwd multiplies their 16-bit sums
// by while it widens them.
#ifndef SOBAN_BLOCKS_H
#define SOBAN_BLOCKS_H

#include "formats.h"
#include "kernels.h"

namespace {

constexpr int PARTS = PANEL / WIDTH; // vectors that hold four columns of a panel's rows

INLINE __m256i four_values(const void *from) {
    int32_t four;
    memcpy(&four, from, 4);
    return _mm256_set1_epi32(four);
}

INLINE __m256i load_bytes(const void *from) { return _mm256_loadu_si256((const __m256i *)from); }
INLINE void store_bytes(void *to, __m256i x) { _mm256_storeu_si256((__m256i *)to, x); }

INLINE __m256i low_nibbles(__m256i x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
INLINE __m256i high_nibbles(__m256i x) { return low_nibbles(_mm256_srli_epi16(x, 4)); }

// The steps of 8 rows as int16, each twice, and the offsets of both halves as int16 pairs.
INLINE __m256i widen_steps(__m128i codes) {
    const __m256i wide = _mm256_add_epi32(_mm256_cvtepu8_epi32(codes), _mm256_set1_epi32(1));
    return _mm256_or_si256(wide, _mm256_slli_epi32(wide, 16));
}
INLINE __m256i low_steps(const uint8_t *steps) {
    return widen_steps(_mm_and_si128(_mm_loadl_epi64((const __m128i *)steps), _mm_set1_epi8(15)));
}
INLINE __m256i high_steps(const uint8_t *steps) {
    return widen_steps(_mm_and_si128(_mm_srli_epi16(_mm_loadl_epi64((const __m128i *)steps), 4), _mm_set1_epi8(15)));
}
INLINE __m256i widen_offsets(const int8_t *offsets) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)offsets));
}

// total[v][t] += step x the products' sums of 8 rows with 32 of each token's values, whose groups lie GROUP apart.
template <int VECTORS, int TOKENS, class Half>
INLINE void multiply_half(Half nibbles, const __m256i *steps, const int8_t *x, __m256i (*total)[TOKENS]) {
    __m256i pairs[VECTORS][TOKENS]; // 16-bit sums of 8 pairs: 8 * 2 * 15 * 127 = 30480 fits
    UNROLL
    for (int i = 0; i < VECTORS * TOKENS; i++) pairs[i / TOKENS][i % TOKENS] = _mm256_setzero_si256();
    for (int i = 0; i < HALF / 4; i++) {
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
        total[v][t] = _mm256_add_epi32(total[v][t], _mm256_madd_epi16(pairs[v][t], steps[v]));
    }
}

template <int VECTORS, int TOKENS>
INLINE void subtract_offsets(const __m256i *offsets, const int32_t *pairs, __m256i (*total)[TOKENS]) {
    UNROLL
    for (int i = 0; i < VECTORS * TOKENS; i++) {
        const int v = i / TOKENS, t = i % TOKENS;
        total[v][t] = _mm256_sub_epi32(total[v][t], _mm256_madd_epi16(offsets[v], four_values(pairs + t)));
    }
}

// total[v][t] += the products' sums of 8 rows with 64 of each token's values, from int8 weights 64 bytes apart.
template <int VECTORS, int TOKENS>
INLINE void multiply_bytes(const uint8_t *weights, const int8_t *x, __m256i (*total)[TOKENS]) {
    const __m256i ones = _mm256_set1_epi16(1);
    for (int i = 0; i < GROUP / 4; i++) {
        UNROLL
        for (int v = 0; v < VECTORS; v++) {
            const __m256i w = load_bytes(weights + 64 * i + 32 * v);
            const __m256i size = _mm256_abs_epi8(w); // the sign goes to x; 2 * 128 * 127 = 32512 fits 16 bits
            UNROLL
            for (int t = 0; t < TOKENS; t++) {
                const __m256i values = _mm256_sign_epi8(four_values(x + t * GROUP + 4 * i), w);
                total[v][t] =
                    _mm256_add_epi32(total[v][t], _mm256_madd_epi16(_mm256_maddubs_epi16(size, values), ones));
            }
        }
    }
}

INLINE void add_scaled(__m256i total, V scale, float of_values, float *to) {
    store(to, fma(_mm256_cvtepi32_ps(total), scale * splat(of_values), load(to)));
}

// Adds the block to sums[t][r], for the first TOKENS tokens of x, which begins with the block's groups.
template <int TOKENS, class Format>
INLINE void add_block(Format, const uint8_t *block, int groups, const Strip &x, float *sums, const Ahead &ahead) {
    for (int part = 0; part < PARTS; part++) {
        const uint8_t *from = integers_of<Format>(block, groups) + 32 * part;
        const int8_t *values = x.values;
        __m256i total[1][TOKENS];
        UNROLL
        for (int t = 0; t < TOKENS; t++) total[0][t] = _mm256_setzero_si256();
        for (int g = 0; g < groups; g++, from += Format::GROUP_BYTES, values += x.stride * GROUP) {
            if (part == 0) prefetch_group<Format>(ahead, groups, g);
            if (!Format::NIBBLES) {
                multiply_bytes<1, TOKENS>(from, values, total);
                continue;
            }
            const uint8_t *steps = steps_of(block, g) + WIDTH * part;
            const __m256i first = low_steps(steps), second = high_steps(steps);
            const __m256i offsets = widen_offsets(offsets_of(block, groups, g) + 2 * WIDTH * part);
            const auto low = [&](int, int i) { return low_nibbles(load_bytes(from + 64 * i)); };
            const auto high = [&](int, int i) { return high_nibbles(load_bytes(from + 64 * i)); };
            multiply_half<1, TOKENS>(low, &first, values, total);
            multiply_half<1, TOKENS>(high, &second, values + HALF, total);
            subtract_offsets<1, TOKENS>(&offsets, x.pairs + g * x.stride, total);
        }
        const V scale = load(scales_of(block) + part * WIDTH);
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            add_scaled(total[0][t], scale, x.scales[t], sums + t * PANEL + part * WIDTH);
        }
    }
}

// A group unpacked once for many tokens: integers of a byte, then of q4 steps and offsets as they are multiplied.
constexpr int64_t EXPANDED = PANEL * GROUP + 6 * sizeof(__m256i);

template <class Format> INLINE void expand(const uint8_t *block, int groups, int g, uint8_t *to) {
    const uint8_t *from = integers_of<Format>(block, groups) + g * Format::GROUP_BYTES;
    if (!Format::NIBBLES) {
        for (int i = 0; i < PANEL * GROUP; i += 32) store_bytes(to + i, load_bytes(from + i));
        return;
    }
    for (int i = 0; i < PANEL * HALF; i += 32) {
        store_bytes(to + i, low_nibbles(load_bytes(from + i)));
        store_bytes(to + PANEL * HALF + i, high_nibbles(load_bytes(from + i)));
    }
    __m256i *numbers = (__m256i *)(to + PANEL * GROUP);
    for (int v = 0; v < PARTS; v++) {
        const uint8_t *steps = steps_of(block, g) + WIDTH * v;
        store_bytes(numbers + v, low_steps(steps));
        store_bytes(numbers + PARTS + v, high_steps(steps));
        store_bytes(numbers + 2 * PARTS + v, widen_offsets(offsets_of(block, groups, g) + 2 * WIDTH * v));
    }
}

// As add_block, for one block of one panel that is expanded; sums[t][r] has `width` values for each token.
template <class Format, int PANELS, int TOKENS>
INLINE void add_expanded(const uint8_t *block, int64_t, int groups, const uint8_t *expanded, int64_t, const Strip &x,
                         float *sums, int width) {
    static_assert(PANELS == 1);
    __m256i total[PARTS][TOKENS];
    UNROLL
    for (int i = 0; i < PARTS * TOKENS; i++) total[i / TOKENS][i % TOKENS] = _mm256_setzero_si256();
    const int8_t *values = x.values;
    for (int g = 0; g < groups; g++, expanded += EXPANDED, values += x.stride * GROUP) {
        if (!Format::NIBBLES) {
            multiply_bytes<PARTS, TOKENS>(expanded, values, total);
            continue;
        }
        const __m256i *numbers = (const __m256i *)(expanded + PANEL * GROUP);
        const auto half = [&](int h) {
            return [=](int v, int i) { return load_bytes(expanded + h * PANEL * HALF + 64 * i + 32 * v); };
        };
        multiply_half<PARTS, TOKENS>(half(0), numbers, values, total);
        multiply_half<PARTS, TOKENS>(half(1), numbers + PARTS, values + HALF, total);
        subtract_offsets<PARTS, TOKENS>(numbers + 2 * PARTS, x.pairs + g * x.stride, total);
    }
    UNROLL
    for (int v = 0; v < PARTS; v++) {
        const V scale = load(scales_of(block) + v * WIDTH);
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            add_scaled(total[v][t], scale, x.scales[t], sums + t * width + v * WIDTH);
        }
    }
}

} // namespace
#endif
