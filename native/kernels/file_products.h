// Products of the formats of files with the int8 of some tokens.
//
// A group is first expanded: levels as bytes, scales and minima as floats. Then all formats are alike. The sum of the
// columns that share a scale is a whole number; sum = fma(that, weight scale x value scale, sum), in ascending order,
// and where there are minima after each fma(minimum, shift, sum): on every instruction set, for any number of tokens.
#ifndef SOBAN_FILE_PRODUCTS_H
#define SOBAN_FILE_PRODUCTS_H

#include "file_formats.h"

namespace {

// Four columns of WIDTH rows; what multiplies them sees levels plus a bias, which is taken off again in the integers.
typedef uint8_t Codes __attribute__((vector_size(sizeof(V))));

INLINE Codes load_codes(const uint8_t *from) {
    Codes x;
    memcpy(&x, from, sizeof x);
    return x;
}

// CURVE at each code, plus the bias.
INLINE Codes curved(Codes codes, uint8_t bias) {
#if SOBAN_ISA == 2
    const __m512i curve = _mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)CURVE));
    return (Codes)_mm512_shuffle_epi8(curve, (__m512i)codes) + bias;
#elif SOBAN_ISA == 1
    const __m256i curve = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)CURVE));
    return (Codes)_mm256_shuffle_epi8(curve, (__m256i)codes) + bias;
#elif SOBAN_NEON
    return (Codes)vqtbl1q_s8(vld1q_s8(CURVE), (uint8x16_t)codes) + bias;
#else
    for (int i = 0; i < (int)sizeof codes; i++) codes[i] = (uint8_t)CURVE[codes[i]];
    return codes + bias;
#endif
}

template <class Format, uint8_t BIAS> INLINE Codes levels_of_codes(Codes codes) {
    if (Format::CURVED) return curved(codes, BIAS);
    constexpr uint8_t more = (uint8_t)(BIAS - Format::ZERO);
    return more ? codes + more : codes;
}

// Two quads, `quad` < 8 and the one 8 later, of rows from part x WIDTH on.
template <class Format, uint8_t BIAS>
INLINE void unpack_quads(const uint8_t *group, int quad, int part, Codes *low, Codes *high) {
    const uint8_t *from = group + part * (int)sizeof(Codes);
    const Codes bytes = load_codes(from + 4 * PANEL * quad);
    if (Format::BITS == 8) {
        *low = bytes + BIAS;
        *high = load_codes(from + 4 * PANEL * (quad + 8)) + BIAS;
        return;
    }
    Codes first = bytes & 15, second = bytes >> 4;
    if (Format::BITS > 4) {
        typedef Above<Format> Bits;
        constexpr uint8_t MASK = ((1 << Bits::WIDTH_BITS) - 1) << 4;
        const Codes above = load_codes(from + 4 * PANEL * (8 + Bits::vector(quad)));
        const int one = Bits::shift(quad), other = Bits::shift(quad + 8);
        first |= (one < 4 ? above << (4 - one) : above >> (one - 4)) & MASK;
        second |= (other < 4 ? above << (4 - other) : above >> (other - 4)) & MASK;
    }
    *low = levels_of_codes<Format, BIAS>(first);
    *high = levels_of_codes<Format, BIAS>(second);
}

// A group, expanded: 16 vectors of 64 levels, then floats for each row: two scales and two minima, or four scales.
constexpr int64_t LEVEL_BYTES = PANEL * GROUP, FILE_EXPANDED = LEVEL_BYTES + 4 * PANEL * (int64_t)sizeof(float);

// Not inlined: there is one for each format, and many who call it.
template <class Format, uint8_t BIAS>
__attribute__((noinline)) void expand_group_of_file(const uint8_t *block, int groups, int g, uint8_t *to) {
    const uint8_t *group = block + soban::head_bytes(Format::NUMBER, groups) + g * Format::GROUP_BYTES;
    for (int quad = 0; quad < 8; quad++) {
        UNROLL
        for (int part = 0; part < PARTS; part++) {
            Codes low, high;
            unpack_quads<Format, BIAS>(group, quad, part, &low, &high);
            uint8_t *out = to + 4 * PANEL * quad + part * (int)sizeof(Codes);
            memcpy(out, &low, sizeof low);
            memcpy(out + LEVEL_BYTES / 2, &high, sizeof high);
        }
    }
    float *numbers = (float *)(to + LEVEL_BYTES);
    constexpr int SHARES = GROUP / Format::SHARE;
    static_assert(SHARES * (Format::MINIMA ? 2 : 1) <= 4);
    UNROLL
    for (int s = 0; s < SHARES; s++) {
        UNROLL
        for (int r = 0; r < PANEL; r += WIDTH) {
            store(numbers + s * PANEL + r, numbers_of<Format, false>(block, groups, g, s, r));
            if (Format::MINIMA) {
                store(numbers + (2 + s) * PANEL + r, numbers_of<Format, true>(block, groups, g, s, r));
            }
        }
    }
}

// What is multiplied: of AVX2 codes as they are, where sums of some fit 16 bits; where vpdpbusd wants it, levels plus
// 128; else levels. BITS: of the codes, where that makes a difference.
#if SOBAN_VNNI
template <class Format> constexpr uint8_t BIAS_OF = 128;
template <class Format> constexpr int BITS_OF = 8;
#elif SOBAN_ISA == 1
template <class Format> constexpr bool IS_SMALL = Format::BITS < 8 && !Format::CURVED;
template <class Format> constexpr uint8_t BIAS_OF = IS_SMALL<Format> ? Format::ZERO : 0;
template <class Format> constexpr int BITS_OF = IS_SMALL<Format> ? Format::BITS : 8;
#else
template <class Format> constexpr uint8_t BIAS_OF = 0;
template <class Format> constexpr int BITS_OF = 8;
#endif

// total[v][t] += QUADS quads of levels, those of a panel `stride` bytes apart, x the values of tokens GROUP apart.
#if SOBAN_VNNI
typedef Bytes Lanes;
INLINE Lanes all_lanes(int32_t x) { return splat_four(x); }

template <int BITS, int QUADS, int VECTORS, int TOKENS>
INLINE void multiply_quads(const uint8_t *levels, int64_t stride, const int8_t *x, Lanes (*total)[TOKENS]) {
    for (int i = 0; i < QUADS; i++) {
        Bytes weights[VECTORS];
        UNROLL
        for (int v = 0; v < VECTORS; v++) {
            weights[v] = load_bytes(levels + v / PARTS * stride + 64 * i + v % PARTS * (int)sizeof(Bytes));
        }
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            int32_t four;
            memcpy(&four, x + t * GROUP + 4 * i, 4);
            const Bytes lanes = splat_four(four);
            UNROLL
            for (int v = 0; v < VECTORS; v++) dot(total[v][t], weights[v], lanes);
        }
    }
}
#elif SOBAN_ISA == 1
typedef __m256i Lanes;
INLINE Lanes all_lanes(int32_t x) { return _mm256_set1_epi32(x); }

template <int BITS, int QUADS, int VECTORS, int TOKENS>
INLINE void multiply_quads(const uint8_t *levels, int64_t, const int8_t *x, Lanes (*total)[TOKENS]) {
    // sums of so many quads fit 16 bits: 8 * 2 * 15 * 127, 4 * 2 * 31 * 127 and 2 * 2 * 63 * 127 are below 2**15
    constexpr int AT_ONCE = BITS == 8 ? 1 : BITS == 6 ? 2 : BITS == 5 ? 4 : 8;
    const __m256i ones = _mm256_set1_epi16(1);
    for (int first = 0; first < QUADS; first += AT_ONCE) {
        __m256i pairs[VECTORS][TOKENS];
        UNROLL
        for (int i = first; i < first + AT_ONCE; i++) {
            __m256i weights[VECTORS];
            UNROLL
            for (int v = 0; v < VECTORS; v++) weights[v] = load_bytes(levels + 64 * i + 32 * v);
            UNROLL
            for (int t = 0; t < TOKENS; t++) {
                const __m256i four = four_values(x + t * GROUP + 4 * i);
                UNROLL
                for (int v = 0; v < VECTORS; v++) {
                    const __m256i w = weights[v]; // signed ones give their sign away; 2 * 128 * 127 fits 16 bits
                    const __m256i products = BITS == 8
                                                 ? _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(four, w))
                                                 : _mm256_maddubs_epi16(w, four);
                    pairs[v][t] = i == first ? products : _mm256_add_epi16(pairs[v][t], products);
                }
            }
        }
        UNROLL
        for (int i = 0; i < VECTORS * TOKENS; i++) {
            const int v = i / TOKENS, t = i % TOKENS;
            total[v][t] = _mm256_add_epi32(total[v][t], _mm256_madd_epi16(pairs[v][t], ones));
        }
    }
}
#elif SOBAN_NEON
typedef int32x4_t Lanes;
INLINE Lanes all_lanes(int32_t x) { return vdupq_n_s32(x); }

template <int LANE, int VECTORS, int TOKENS>
INLINE void multiply_lane(const uint8_t *levels, const int8x16_t *values, Lanes (*total)[TOKENS]) {
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        const int8x16_t weights = load_bytes(levels + 64 * LANE + 16 * v);
        UNROLL
        for (int t = 0; t < TOKENS; t++) total[v][t] = vdotq_laneq_s32(total[v][t], weights, values[t], LANE);
    }
}

template <int BITS, int QUADS, int VECTORS, int TOKENS>
INLINE void multiply_quads(const uint8_t *levels, int64_t, const int8_t *x, Lanes (*total)[TOKENS]) {
    for (int i = 0; i < QUADS; i += 4, levels += 256) {
        int8x16_t values[TOKENS];
        UNROLL
        for (int t = 0; t < TOKENS; t++) values[t] = load_bytes(x + t * GROUP + 4 * i);
        multiply_lane<0, VECTORS, TOKENS>(levels, values, total);
        multiply_lane<1, VECTORS, TOKENS>(levels, values, total);
        multiply_lane<2, VECTORS, TOKENS>(levels, values, total);
        multiply_lane<3, VECTORS, TOKENS>(levels, values, total);
    }
}
#else
typedef I Lanes;
INLINE Lanes all_lanes(int32_t x) { return splat_int(x); }

template <int BITS, int QUADS, int VECTORS, int TOKENS>
INLINE void multiply_quads(const uint8_t *levels, int64_t, const int8_t *x, Lanes (*total)[TOKENS]) {
    for (int i = 0; i < QUADS; i++) {
        for (int v = 0; v < VECTORS; v++) {
            const int8_t *w = (const int8_t *)levels + 64 * i + 4 * WIDTH * v;
            for (int t = 0; t < TOKENS; t++) {
                const int8_t *four = x + t * GROUP + 4 * i;
                for (int r = 0; r < WIDTH; r++) {
                    const int8_t *of = w + 4 * r;
                    total[v][t][r] += of[0] * four[0] + of[1] * four[1] + of[2] * four[2] + of[3] * four[3];
                }
            }
        }
    }
}
#endif

// Adds expanded groups of PANELS panels, which are `stride` bytes apart, to sums[t][p][r] of TOKENS tokens, `width`
// values for each. Not inlined, or gcc 12 keeps the totals in memory.
template <int BITS, int SHARE, bool MINIMA, int PANELS, int TOKENS>
__attribute__((noinline)) void add_expanded_file(int groups, const uint8_t *expanded, int64_t stride, int32_t bias,
                                                 const Strip &x, float *sums, int width) {
    constexpr int VECTORS = PANELS * PARTS;
    const int8_t *values = x.values;
    const soban::RoundedGroup *rounded = x.rounded;
    for (int g = 0; g < groups; g++, expanded += FILE_EXPANDED, values += x.stride * GROUP, rounded += x.stride) {
        for (int s = 0; s < GROUP / SHARE; s++) {
            Lanes total[VECTORS][TOKENS];
            UNROLL
            for (int t = 0; t < TOKENS; t++) {
                const int32_t sum = SHARE == HALF ? rounded[t].sums[s] : rounded[t].quarters[s];
                UNROLL
                for (int v = 0; v < VECTORS; v++) total[v][t] = all_lanes(-bias * sum);
            }
            multiply_quads<BITS, SHARE / 4, VECTORS, TOKENS>(expanded + s * SHARE * PANEL, stride, values + s * SHARE,
                                                             total);
            const int half = s * SHARE / HALF;
            UNROLL
            for (int v = 0; v < VECTORS; v++) {
                const float *numbers = (const float *)(expanded + v / PARTS * stride + LEVEL_BYTES) + v % PARTS * WIDTH;
                const V scale = load(numbers + s * PANEL);
                UNROLL
                for (int t = 0; t < TOKENS; t++) {
                    float *to = sums + t * width + v * WIDTH;
                    V sum = fma(to_float((I)total[v][t]), scale * splat(rounded[t].scales[half]), load(to));
                    if (MINIMA) sum = fma(load(numbers + (2 + s) * PANEL), splat(rounded[t].shifts[half]), sum);
                    store(to, sum);
                }
            }
        }
    }
}

template <class Format>
    requires Format::OF_FILE
INLINE void expand(const uint8_t *block, int groups, int g, uint8_t *to) {
#if SOBAN_AMX
    expand_group_of_file<Format, 0>(block, groups, g, to); // tiles take signed bytes
#else
    expand_group_of_file<Format, BIAS_OF<Format>>(block, groups, g, to);
#endif
}

template <class Format, int PANELS, int TOKENS>
    requires Format::OF_FILE
INLINE void add_expanded(const uint8_t *, int64_t, int groups, const uint8_t *expanded, int64_t stride, const Strip &x,
                         float *sums, int width) {
    add_expanded_file<BITS_OF<Format>, Format::SHARE, Format::MINIMA, PANELS, TOKENS>(groups, expanded, stride,
                                                                                      BIAS_OF<Format>, x, sums, width);
}

template <int TOKENS, class Format>
    requires Format::OF_FILE
INLINE void add_block(Format, const uint8_t *block, int groups, const Strip &x, float *sums, const Ahead &ahead) {
    alignas(64) uint8_t expanded[BLOCK_GROUPS * FILE_EXPANDED];
    for (int g = 0; g < groups; g++) {
        prefetch_group<Format>(ahead, groups, g);
        expand_group_of_file<Format, BIAS_OF<Format>>(block, groups, g, expanded + g * FILE_EXPANDED);
    }
    add_expanded<Format, 1, TOKENS>(block, 0, groups, expanded, 0, x, sums, PANEL);
}

template <class Format> constexpr int64_t expanded_bytes() { return Format::OF_FILE ? FILE_EXPANDED : EXPANDED; }

} // namespace
#endif
