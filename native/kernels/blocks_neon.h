// Products of blocks (16 rows by up to 256 columns of q8 or q4) with the int8 of some tokens, in NEON.
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

// The steps, less 1, or the offsets of a group's first or second half, four rows in a vector.
INLINE void widen_rows(int8x16_t x, int32x4_t *rows) {
    const int16x8_t low = vmovl_s8(vget_low_s8(x)), high = vmovl_s8(vget_high_s8(x));
    rows[0] = vmovl_s16(vget_low_s16(low));
    rows[1] = vmovl_s16(vget_high_s16(low));
    rows[2] = vmovl_s16(vget_low_s16(high));
    rows[3] = vmovl_s16(vget_high_s16(high));
}

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

// total[0][part][t] += what the group's integers give with the first 32 of 64 values, total[SUMS - 1] with the others.
template <class Format, int TOKENS, int SUMS>
INLINE void add_group(const uint8_t *body, const int8_t *values, int32x4_t (*total)[PARTS][TOKENS]) {
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
}

template <int TOKENS>
INLINE void add_scaled(const uint8_t *block, const int32x4_t (*total)[TOKENS], const Strip &x, float *sums, int width) {
    UNROLL
    for (int part = 0; part < PARTS; part++) {
        const V scale = load(scales_of(block) + part * WIDTH);
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            float *to = sums + t * width + part * WIDTH;
            store(to, fma(to_float((I)total[part][t]), scale * splat(x.scales[t]), load(to)));
        }
    }
}

// Adds the block to sums[t][r], for the first TOKENS tokens of x, which begins with the block's groups.
template <int TOKENS>
INLINE void add_block(Q8, const uint8_t *block, int groups, const Strip &x, float *sums, const Ahead &ahead) {
    constexpr int SUMS = TOKENS == 1 ? 2 : 1; // of one token two, which hide the latency of one
    const uint8_t *body = integers_of<Q8>(block, groups);
    const int8_t *values = x.values;
    int32x4_t total[SUMS][PARTS][TOKENS] = {};
    for (int g = 0; g < groups; g++, body += Q8::GROUP_BYTES, values += x.stride * GROUP) {
        prefetch_group<Q8>(ahead, groups, g);
        add_group<Q8, TOKENS, SUMS>(body, values, total);
    }
    UNROLL
    for (int i = 0; SUMS == 2 && i < PARTS * TOKENS; i++) {
        int32x4_t &sum = total[0][i / TOKENS][i % TOKENS];
        sum = vaddq_s32(sum, total[SUMS - 1][i / TOKENS][i % TOKENS]);
    }
    add_scaled<TOKENS>(block, total[0], x, sums, PANEL);
}

template <int TOKENS>
INLINE void add_block(Q4, const uint8_t *block, int groups, const Strip &x, float *sums, const Ahead &ahead) {
    const uint8_t *body = integers_of<Q4>(block, groups);
    const int8_t *values = x.values;
    int32x4_t whole[PARTS][TOKENS] = {};
    for (int g = 0; g < groups; g++, body += Q4::GROUP_BYTES, values += x.stride * GROUP) {
        int32x4_t total[2][PARTS][TOKENS] = {}, steps[2][PARTS], offsets[2][PARTS];
        prefetch_group<Q4>(ahead, groups, g);
        add_group<Q4, TOKENS, 2>(body, values, total);
        const int8x16_t codes = load_bytes(steps_of(block, g)), one = vdupq_n_s8(1);
        const int8x16x2_t shifts = vld2q_s8(offsets_of(block, groups, g));
        widen_rows(vaddq_s8(low_nibbles(codes), one), steps[0]);
        widen_rows(vaddq_s8(high_nibbles(codes), one), steps[1]);
        widen_rows(shifts.val[0], offsets[0]);
        widen_rows(shifts.val[1], offsets[1]);
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            const int32_t pair = x.pairs[g * x.stride + t];
            const int32x4_t sum[2] = {vdupq_n_s32((int16_t)pair), vdupq_n_s32(pair >> 16)};
            UNROLL
            for (int part = 0; part < PARTS; part++) {
                UNROLL
                for (int h = 0; h < 2; h++) {
                    whole[part][t] = vmlaq_s32(whole[part][t], total[h][part][t], steps[h][part]);
                    whole[part][t] = vmlsq_s32(whole[part][t], sum[h], offsets[h][part]);
                }
            }
        }
    }
    add_scaled<TOKENS>(block, whole, x, sums, PANEL);
}

// The levels of a group unpacked once for many tokens: vectors of four columns, or for smmla of two rows by eight
// columns.
constexpr int64_t EXPANDED = PANEL * GROUP;

struct Halves { // of q4: steps and offsets of 4 rows in 16 bytes, for each part
    uint8x16_t steps[2][PARTS], offsets[2][PARTS];
};

INLINE void four_times(uint8x16_t x, uint8x16_t *parts) {
    const uint8x16_t first = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
    for (int part = 0; part < PARTS; part++) parts[part] = vqtbl1q_u8(x, vaddq_u8(first, vdupq_n_u8(4 * part)));
}

INLINE Halves halves_of(const uint8_t *block, int groups, int g) {
    const uint8x16_t codes = vld1q_u8(steps_of(block, g)), one = vdupq_n_u8(1);
    const uint8x16x2_t offsets = vld2q_u8((const uint8_t *)offsets_of(block, groups, g));
    Halves halves;
    four_times(vaddq_u8(vandq_u8(codes, vdupq_n_u8(15)), one), halves.steps[0]);
    four_times(vaddq_u8(vshrq_n_u8(codes, 4), one), halves.steps[1]);
    four_times(offsets.val[0], halves.offsets[0]);
    four_times(offsets.val[1], halves.offsets[1]);
    return halves;
}

INLINE int8x16_t level(Q8, const uint8_t *from, const Halves &, int quad, int part) {
    return load_bytes(from + 64 * quad + 16 * part);
}
INLINE int8x16_t level(Q4, const uint8_t *from, const Halves &halves, int quad, int part) {
    const int8x16_t bytes = load_bytes(from + 64 * (quad % 8) + 16 * part);
    const uint8x16_t q = vreinterpretq_u8_s8(quad < 8 ? low_nibbles(bytes) : high_nibbles(bytes));
    const int h = quad / 8;
    return vreinterpretq_s8_u8(vsubq_u8(vmulq_u8(q, halves.steps[h][part]), halves.offsets[h][part]));
}

template <class Format> INLINE void expand(const uint8_t *block, int groups, int g, uint8_t *out) {
    const uint8_t *from = integers_of<Format>(block, groups) + g * Format::GROUP_BYTES;
    const Halves halves = Format::NIBBLES ? halves_of(block, groups, g) : Halves{};
    for (int quad = 0; quad < 16; quad += 2) {
        UNROLL
        for (int part = 0; part < PARTS; part++) {
            const int8x16_t first = level(Format(), from, halves, quad, part);
            const int8x16_t second = level(Format(), from, halves, quad + 1, part);
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
}

template <int TOKENS> using Totals = int32x4_t[PARTS][TOKENS];

#if SOBAN_NEON == 2
// total[part][t] = the integer products of expanded groups with TOKENS tokens.
template <int TOKENS> INLINE void multiply(const uint8_t *expanded, int groups, const Strip &x, Totals<TOKENS> &total) {
    constexpr int PAIRS = (TOKENS + 1) / 2; // the last of an odd number goes with itself
    int32x4_t sums[2 * PARTS][PAIRS] = {};  // token 0 with two rows, token 1 with both
    for (int i = 0; i < groups * (GROUP / 16); i++, expanded += 256) {
        const int8_t *values = x.values + i / (GROUP / 16) * x.stride * GROUP + i % (GROUP / 16) * 16;
        int64x2_t low[PAIRS], high[PAIRS];
        UNROLL
        for (int p = 0; p < PAIRS; p++) {
            const int8_t *one = values + 2 * p * GROUP;
            const int8_t *other = 2 * p + 1 < TOKENS ? one + GROUP : one;
            const int64x2_t a = vreinterpretq_s64_s8(load_bytes(one)), b = vreinterpretq_s64_s8(load_bytes(other));
            low[p] = vzip1q_s64(a, b);
            high[p] = vzip2q_s64(a, b);
        }
        UNROLL
        for (int r = 0; r < 2 * PARTS; r++) {
            const int8x16_t weights = load_bytes(expanded + 16 * r);
            UNROLL
            for (int p = 0; p < PAIRS; p++) {
                sums[r][p] = vmmlaq_s32(sums[r][p], vreinterpretq_s8_s64(low[p]), weights);
            }
        }
        UNROLL
        for (int r = 0; r < 2 * PARTS; r++) {
            const int8x16_t weights = load_bytes(expanded + 128 + 16 * r);
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

// total[part][t] += the integer products of expanded groups with TOKENS tokens.
template <int TOKENS> INLINE void multiply(const uint8_t *expanded, int groups, const Strip &x, Totals<TOKENS> &total) {
    for (int i = 0; i < groups * (GROUP / 16); i++, expanded += 256) {
        const int8_t *values = x.values + i / (GROUP / 16) * x.stride * GROUP + i % (GROUP / 16) * 16;
        int8x16_t now[TOKENS];
        UNROLL
        for (int t = 0; t < TOKENS; t++) now[t] = load_bytes(values + t * GROUP);
        multiply_quad<0, TOKENS>(expanded, now, total);
        multiply_quad<1, TOKENS>(expanded, now, total);
        multiply_quad<2, TOKENS>(expanded, now, total);
        multiply_quad<3, TOKENS>(expanded, now, total);
    }
}
#endif

// As add_block, for one block of one panel that is expanded; sums[t][r] has `width` values for each token.
template <class Format, int PANELS, int TOKENS>
INLINE void add_expanded(const uint8_t *block, int64_t, int groups, const uint8_t *expanded, int64_t, const Strip &x,
                         float *sums, int width) {
    static_assert(PANELS == 1);
    int32x4_t total[PARTS][TOKENS] = {};
    multiply<TOKENS>(expanded, groups, x, total);
    add_scaled<TOKENS>(block, total, x, sums, width);
}

} // namespace
#endif
