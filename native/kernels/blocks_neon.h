// Products of blocks (16 rows by 64 columns of q8 or q4) with the int8 of some tokens, in NEON.
//
// A vector of a block holds four columns of four rows, which is what sdot adds up in its four lanes; one register holds
// a token's next 16 values, four of which sdot takes by their number. Nibbles are positive as signed bytes, too. Many
// tokens go through smmla where there is one (SOBAN_NEON == 2): rows in pairs by 8 columns, tokens in pairs.
#ifndef SOBAN_BLOCKS_H
#define SOBAN_BLOCKS_H

#include "formats.h"
#include "kernels.h"

namespace {

#if defined(__clang__)
#define NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define NO_UNROLL _Pragma("GCC unroll 1")
#endif

constexpr int PARTS = PANEL / WIDTH; // vectors that hold four columns of a panel's rows

INLINE int8x16_t load_bytes(const void *from) { return vreinterpretq_s8_u8(vld1q_u8((const uint8_t *)from)); }
INLINE int8x16_t low_nibbles(int8x16_t x) { return vandq_s8(x, vdupq_n_s8(15)); }
INLINE int8x16_t high_nibbles(int8x16_t x) { return vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(x), 4)); }

// Adds the products of columns 4 * (QUAD + 4h) .. + 3, for the values of half h of 32 columns, and of those 32 later.
template <class Format, int QUAD, int TOKENS, int SUMS>
INLINE void add_quad(const uint8_t *body, const int8x16_t *first, const int8x16_t *second,
                     int32x4_t (*total)[PARTS][TOKENS]) {
    UNROLL
    for (int part = 0; part < PARTS; part++) {
        const int8x16_t bytes = load_bytes(body + 64 * QUAD + 16 * part);
        const int8x16_t low = Format::NIBBLES ? low_nibbles(bytes) : bytes;
        const int8x16_t high = Format::NIBBLES ? high_nibbles(bytes) : load_bytes(body + 64 * (8 + QUAD) + 16 * part);
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            total[0][part][t] = vdotq_laneq_s32(total[0][part][t], low, first[t], QUAD);
            total[SUMS - 1][part][t] = vdotq_laneq_s32(total[SUMS - 1][part][t], high, second[t], QUAD);
        }
    }
}

template <class Format>
INLINE void scale_total(int32x4_t total, V scale, V minimum, const soban::Activations &x, int64_t place, float *to) {
    V sum = fma(to_float((I)total), scale * splat(x.scales[place]), load(to));
    if (Format::MINIMA) sum = fma(minimum, splat(x.sums[place]), sum);
    store(to, sum);
}

// Adds the block's part to sums[t][r], for TOKENS tokens from place on: see soban::Activations.
template <class Format, int TOKENS>
INLINE void add_block(const uint8_t *block, const soban::Activations &x, int64_t place, float *sums) {
    constexpr int SUMS = TOKENS == 1 ? 2 : 1; // of one token two, which hide the latency of one
    const int8_t *values = x.values + place * GROUP;
    const uint8_t *body = block + Format::NUMBERS;
    int32x4_t total[SUMS][PARTS][TOKENS] = {};
    NO_UNROLL // or values of both halves take the registers of sums
        for (int half = 0; half < 2; half++, body += 256) {
        int8x16_t first[TOKENS], second[TOKENS];
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            first[t] = load_bytes(values + t * GROUP + 16 * half);
            second[t] = load_bytes(values + t * GROUP + 32 + 16 * half);
        }
        add_quad<Format, 0, TOKENS, SUMS>(body, first, second, total);
        add_quad<Format, 1, TOKENS, SUMS>(body, first, second, total);
        add_quad<Format, 2, TOKENS, SUMS>(body, first, second, total);
        add_quad<Format, 3, TOKENS, SUMS>(body, first, second, total);
    }
    UNROLL
    for (int part = 0; part < PARTS; part++) {
        const V scale = scales_of<Format>(block, part * WIDTH), minimum = minima_of<Format>(block, part * WIDTH);
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            int32x4_t whole = total[0][part][t];
            if (SUMS == 2) whole = vaddq_s32(whole, total[SUMS - 1][part][t]);
            scale_total<Format>(whole, scale, minimum, x, place + t, sums + t * PANEL + part * WIDTH);
        }
    }
}

// A block unpacked once for many tokens: vectors of four columns, or for smmla of two rows by eight columns.
struct Expanded {
    uint8_t weights[1024];
    float scales[PANEL], minima[PANEL];
};

INLINE int8x16_t unpack(Q8, const uint8_t *block, int quad, int part) {
    return load_bytes(block + Q8::NUMBERS + 64 * quad + 16 * part);
}
INLINE int8x16_t unpack(Q4, const uint8_t *block, int quad, int part) {
    const int8x16_t bytes = load_bytes(block + Q4::NUMBERS + 64 * (quad % 8) + 16 * part);
    return quad < 8 ? low_nibbles(bytes) : high_nibbles(bytes);
}

template <class Format> INLINE void expand(const uint8_t *block, Expanded *to) {
    uint8_t *out = to->weights;
    for (int quad = 0; quad < 16; quad += 2) {
        UNROLL
        for (int part = 0; part < PARTS; part++) {
            const int8x16_t first = unpack(Format(), block, quad, part);
            const int8x16_t second = unpack(Format(), block, quad + 1, part);
#if SOBAN_NEON == 2
            const int32x4_t even = vreinterpretq_s32_s8(first), odd = vreinterpretq_s32_s8(second);
            vst1q_s32((int32_t *)(out + 32 * part), vzip1q_s32(even, odd));      // rows 0 and 1, eight columns each
            vst1q_s32((int32_t *)(out + 32 * part + 16), vzip2q_s32(even, odd)); // rows 2 and 3
#else
            vst1q_s8((int8_t *)(out + 16 * part), first);
            vst1q_s8((int8_t *)(out + 64 + 16 * part), second);
#endif
        }
        out += 128;
    }
    UNROLL
    for (int part = 0; part < PARTS; part++) {
        store(to->scales + part * WIDTH, scales_of<Format>(block, part * WIDTH));
        if (Format::MINIMA) store(to->minima + part * WIDTH, minima_of<Format>(block, part * WIDTH));
    }
}

template <int TOKENS> using Totals = int32x4_t[PARTS][TOKENS];

#if SOBAN_NEON == 2
// total[part][t] = the block's integer products with TOKENS tokens, whose values lie 64 bytes apart.
template <int TOKENS> INLINE void multiply(const Expanded &block, const int8_t *values, Totals<TOKENS> &total) {
    constexpr int PAIRS = (TOKENS + 1) / 2; // the last of an odd number goes with itself
    int32x4_t sums[2 * PARTS][PAIRS] = {};  // token 0 with two rows, token 1 with both
    for (int i = 0; i < GROUP / 16; i++) {
        int64x2_t low[PAIRS], high[PAIRS];
        UNROLL
        for (int p = 0; p < PAIRS; p++) {
            const int8_t *one = values + 2 * p * GROUP + 16 * i;
            const int8_t *other = 2 * p + 1 < TOKENS ? one + GROUP : one;
            const int64x2_t a = vreinterpretq_s64_s8(load_bytes(one)), b = vreinterpretq_s64_s8(load_bytes(other));
            low[p] = vzip1q_s64(a, b);
            high[p] = vzip2q_s64(a, b);
        }
        UNROLL
        for (int r = 0; r < 2 * PARTS; r++) {
            const int8x16_t weights = load_bytes(block.weights + 256 * i + 16 * r);
            UNROLL
            for (int p = 0; p < PAIRS; p++) {
                sums[r][p] = vmmlaq_s32(sums[r][p], vreinterpretq_s8_s64(low[p]), weights);
            }
        }
        UNROLL
        for (int r = 0; r < 2 * PARTS; r++) {
            const int8x16_t weights = load_bytes(block.weights + 256 * i + 128 + 16 * r);
            UNROLL
            for (int p = 0; p < PAIRS; p++) {
                sums[r][p] = vmmlaq_s32(sums[r][p], vreinterpretq_s8_s64(high[p]), weights);
            }
        }
    }
    UNROLL
    for (int part = 0; part < PARTS; part++) {
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            const int64x2_t first = vreinterpretq_s64_s32(sums[2 * part][t / 2]);
            const int64x2_t second = vreinterpretq_s64_s32(sums[2 * part + 1][t / 2]);
            total[part][t] = vreinterpretq_s32_s64(t % 2 ? vzip2q_s64(first, second) : vzip1q_s64(first, second));
        }
    }
}
#else
template <int QUAD, int TOKENS>
INLINE void multiply_quad(const uint8_t *weights, const int8x16_t *values, Totals<TOKENS> &total) {
    UNROLL
    for (int part = 0; part < PARTS; part++) {
        const int8x16_t w = load_bytes(weights + 64 * QUAD + 16 * part);
        UNROLL
        for (int t = 0; t < TOKENS; t++) total[part][t] = vdotq_laneq_s32(total[part][t], w, values[t], QUAD);
    }
}

// total[part][t] += the block's integer products with TOKENS tokens, whose values lie 64 bytes apart.
template <int TOKENS> INLINE void multiply(const Expanded &block, const int8_t *values, Totals<TOKENS> &total) {
    for (int i = 0; i < GROUP / 16; i++) {
        const uint8_t *weights = block.weights + 256 * i;
        int8x16_t now[TOKENS];
        UNROLL
        for (int t = 0; t < TOKENS; t++) now[t] = load_bytes(values + t * GROUP + 16 * i);
        multiply_quad<0, TOKENS>(weights, now, total);
        multiply_quad<1, TOKENS>(weights, now, total);
        multiply_quad<2, TOKENS>(weights, now, total);
        multiply_quad<3, TOKENS>(weights, now, total);
    }
}
#endif

// As add_block, for `groups` groups of one panel; sums[t][r] has `width` values for each token.
template <class Format, int PANELS, int TOKENS>
INLINE void add_expanded(const Expanded *blocks, int, int groups, const soban::Activations &x, int64_t place,
                         float *sums, int width) {
    static_assert(PANELS == 1);
    for (int g = 0; g < groups; g++, place += x.tokens) {
        int32x4_t total[PARTS][TOKENS] = {};
        multiply<TOKENS>(blocks[g], x.values + place * GROUP, total);
        UNROLL
        for (int v = 0; v < PARTS; v++) {
            const V scale = load(blocks[g].scales + v * WIDTH);
            const V minimum = Format::MINIMA ? load(blocks[g].minima + v * WIDTH) : V{};
            UNROLL
            for (int t = 0; t < TOKENS; t++) {
                scale_total<Format>(total[v][t], scale, minimum, x, place + t, sums + t * width + v * WIDTH);
            }
        }
    }
}

} // namespace
#endif
