// Scores: queries of some rows with the keys of neighbouring positions, a vector of positions at a time.
//
// A score is summed over its columns in ascending order within one lane, so its bits are the same in every tile.
#ifndef SOBAN_ATTENTION_SCORES_H
#define SOBAN_ATTENTION_SCORES_H

#include "cache.h"
#if SOBAN_VNNI
#include "dot.h"
#endif

namespace {

// The operands of integer products: four neighbouring columns of each position, and of a query.
#if SOBAN_VNNI
constexpr bool UNSIGNED_KEYS = true; // with 128 added, which the sum starts without
INLINE I load_quads(const char *from) { return (I)(load_bytes(from) ^ splat_byte(0x80)); }
INLINE void add_quads(I &total, I keys, int32_t query) {
    Bytes sum = (Bytes)total;
    dot(sum, (Bytes)keys, splat_four(query));
    total = (I)sum;
}
#elif SOBAN_ISA != 0
constexpr bool UNSIGNED_KEYS = false;
INLINE I load_quads(const char *from) { return (I)_mm256_loadu_si256((const __m256i *)from); }
INLINE void add_quads(I &total, I keys, int32_t query) { // 2 * 127 * 127 = 32258 fits int16
    const __m256i four = _mm256_set1_epi32(query);
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(four), _mm256_sign_epi8((__m256i)keys, four));
    total += (I)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#elif SOBAN_NEON
constexpr bool UNSIGNED_KEYS = false;
INLINE I load_quads(const char *from) { return (I)vld1q_u8((const uint8_t *)from); }
INLINE void add_quads(I &total, I keys, int32_t query) {
    total = (I)vdotq_s32((int32x4_t)total, (int8x16_t)keys, vreinterpretq_s8_s32(vdupq_n_s32(query)));
}
#else
constexpr bool UNSIGNED_KEYS = false;
INLINE I load_quads(const char *from) {
    I quads;
    memcpy(&quads, from, sizeof quads);
    return quads;
}
INLINE void add_quads(I &total, I keys, int32_t query) {
    for (int shift = 0; shift < 32; shift += 8) total += (keys << (24 - shift) >> 24) * (query << (24 - shift) >> 24);
}
#endif

constexpr int32_t SCORE_ROWS = WIDTH == 16 ? 12 : 6; // of a tile that many rows share
constexpr int32_t SCORE_ROWS_INT8 = WIDTH == 16 ? 6 : 2;
constexpr int32_t SCORE_VECTORS = 2; // of positions in such a tile

struct INT8 {
    static constexpr int32_t SIZE = 1;
};

template <class Stored> constexpr int32_t KEY_BYTES = Stored::SIZE; // from position to position
template <> constexpr int32_t KEY_BYTES<INT8> = 4;

// Vectors of positions that one or two rows take at a time.
template <class Stored> constexpr int32_t FEW_VECTORS = WIDTH == 16 ? 8 : 4;
template <> constexpr int32_t FEW_VECTORS<INT8> = WIDTH == 16 ? 4 : 2;

// A row's query as a tile wants it: columns times `scale`, or int8 with the sums to start from and the scales.
int32_t query_floats(int32_t size) { return padded_size(size) + 2 * size_groups(size); }

template <int ROWS>
void pack_query(const float *query, int32_t size, int32_t format, float scale, int r, float *packed) {
    if (format != SOBAN_CACHE_INT8) {
        for (int32_t d = 0; d < size; d++) packed[d * ROWS + r] = query[d] * scale;
        return;
    }
    const int32_t quads = padded_size(size) / 4;
    int32_t *numbers = (int32_t *)packed + r, *starts = numbers + quads * ROWS;
    float *scales = packed + (quads + size_groups(size)) * ROWS + r;
    for (int32_t first = 0; first < size; first += GROUP, starts += ROWS, scales += ROWS) {
        const int32_t count = size - first < GROUP ? size - first : GROUP;
        int8_t rounded[GROUP];
        *scales = round_group(query + first, count, rounded).scale * scale;
        int32_t total = 0;
        for (int32_t d = 0; d < (count + 15) / 16 * 16; d += 4) {
            memcpy(numbers + (first + d) / 4 * ROWS, rounded + d, 4);
            for (int i = 0; i < 4; i++) total += rounded[d + i];
        }
        *starts = UNSIGNED_KEYS ? -128 * total : 0;
    }
}

// Where the keys of one tile lie: for each vector of positions its first row of the block, and what to prefetch.
template <int VECTORS> struct KeyVectors {
    const char *at[VECTORS], *next[VECTORS];
};

template <class Stored, int ROWS, int VECTORS, bool PREFETCH> struct ScoreTile {
    static constexpr int64_t STEP = PAGE * Stored::SIZE; // bytes from column to column

    INLINE void run(const KeyVectors<VECTORS> &keys, const float *packed, int32_t size, float *scores) {
        V total[ROWS][VECTORS] = {};
        for (int32_t d = 0; d < size; d++) {
            V key[VECTORS];
            UNROLL
            for (int v = 0; v < VECTORS; v++) {
                key[v] = Stored::load(keys.at[v] + d * STEP);
                if (PREFETCH && v * WIDTH * Stored::SIZE % 64 == 0) __builtin_prefetch(keys.next[v] + d * STEP);
            }
            UNROLL
            for (int r = 0; r < ROWS; r++) {
                const V query = splat(packed[d * ROWS + r]);
                UNROLL
                for (int v = 0; v < VECTORS; v++) total[r][v] = fma(query, key[v], total[r][v]);
            }
        }
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            UNROLL
            for (int v = 0; v < VECTORS; v++) store(scores + r * SPAN + v * WIDTH, total[r][v]);
        }
    }
};

template <int ROWS, int VECTORS, bool PREFETCH> struct ScoreTile<INT8, ROWS, VECTORS, PREFETCH> {
    INLINE void run(const KeyVectors<VECTORS> &keys, const float *packed, int32_t size, float *scores) {
        const int32_t quads = padded_size(size) / 4, groups = size_groups(size);
        const int32_t *numbers = (const int32_t *)packed, *starts = numbers + quads * ROWS;
        const float *scales = packed + (quads + groups) * ROWS;
        V total[ROWS][VECTORS] = {};
        for (int32_t g = 0; g < groups; g++) {
            I sums[ROWS][VECTORS];
            UNROLL
            for (int i = 0; i < ROWS * VECTORS; i++) {
                sums[i / VECTORS][i % VECTORS] = splat_int(starts[g * ROWS + i / VECTORS]);
            }
            const int32_t end = (g + 1) * (GROUP / 4) < quads ? (g + 1) * (GROUP / 4) : quads;
            for (int32_t k = g * (GROUP / 4); k < end; k++) {
                I key[VECTORS];
                UNROLL
                for (int v = 0; v < VECTORS; v++) {
                    key[v] = load_quads(keys.at[v] + k * 4 * PAGE);
                    if (PREFETCH && v * WIDTH * 4 % 64 == 0) __builtin_prefetch(keys.next[v] + k * 4 * PAGE);
                }
                UNROLL
                for (int r = 0; r < ROWS; r++) {
                    UNROLL
                    for (int v = 0; v < VECTORS; v++) add_quads(sums[r][v], key[v], numbers[k * ROWS + r]);
                }
            }
            UNROLL
            for (int v = 0; v < VECTORS; v++) {
                const V scale = load((const float *)(keys.at[v] + (quads + g) * 4 * PAGE));
                UNROLL
                for (int r = 0; r < ROWS; r++) {
                    total[r][v] = fma(to_float(sums[r][v]), scale * splat(scales[g * ROWS + r]), total[r][v]);
                }
            }
        }
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            UNROLL
            for (int v = 0; v < VECTORS; v++) store(scores + r * SPAN + v * WIDTH, total[r][v]);
        }
    }
};

// Keys of one block as floats; what is stored as floats or as int8 is used as it is.
template <class Stored> struct Widened {
    typedef Stored Keys;
};
template <> struct Widened<F16> {
    typedef F32 Keys;
};
template <class Stored> using WIDENED_KEYS = typename Widened<Stored>::Keys;

template <class Stored> void widen_keys(const char *block, int32_t size, float *to) {
    for (int32_t i = 0; i < size * PAGE; i += WIDTH) store(to + i, Stored::load(block + (int64_t)i * Stored::SIZE));
}

template <int N> struct Number {
    enum { VALUE = N };
};

// Calls body(Number<ROWS>, first row) for tiles that cover the rows; the tiles of a number of rows are always the same.
template <int MOST, class Body> INLINE void in_tiles(int32_t rows, Body body) {
    int32_t r = 0;
    for (; r + MOST <= rows; r += MOST) body(Number<MOST>(), r);
    for (; MOST > 4 && r + 4 <= rows; r += 4) body(Number<4>(), r);
    for (; MOST > 2 && r + 2 <= rows; r += 2) body(Number<2>(), r);
    for (; r < rows; r++) body(Number<1>(), r);
}

} // namespace
#endif
