// Scores: queries of some rows with the keys of neighbouring positions, a vector of positions at a time.
//
// A score is summed over its columns within one lane, in an order that is the same in every tile: ascending, or with
// bfloat16 keys and 512-bit vectors as the matrix unit sums them (see PAIRED).
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

// Products of bfloat16 are summed as the matrix unit sums them: of 32 neighbouring numbers the even ones, and the odd
// ones, each in ascending order from zero; then both, and they to what the numbers before have given.
constexpr bool PAIRED = SOBAN_ISA == 2;
constexpr int32_t RUN = 32; // numbers

constexpr int32_t SCORE_ROWS = WIDTH == 16 ? 12 : 6; // of a tile that many rows share
constexpr int32_t SCORE_ROWS_BF16 = 6;
constexpr int32_t SCORE_ROWS_INT8 = WIDTH == 16 ? 6 : 2;
constexpr int32_t SCORE_VECTORS = 2; // of positions in such a tile

struct INT8 {
    static constexpr int32_t SIZE = 1;
};
struct PAIRS { // of bfloat16: in a lane of 32 bits the lower half comes first
    static constexpr int32_t SIZE = 2;
};
struct WIDE { // the same as floats, two rows for each row of pairs
    static constexpr int32_t SIZE = 4;
};

INLINE V first_of(U pairs) { return (V)(pairs << 16); }
INLINE V second_of(U pairs) { return (V)(pairs & 0xffff0000u); }
INLINE U load_lanes(const char *from) {
    U lanes;
    memcpy(&lanes, from, sizeof lanes);
    return lanes;
}

// Columns 2k and 2k + 1 of a vector of positions.
template <class Stored> struct KeyPair;
template <> struct KeyPair<PAIRS> {
    V first, second;
    KeyPair(const char *from, int32_t k) {
        const U pairs = load_lanes(from + k * (4 * PAGE));
        first = first_of(pairs), second = second_of(pairs);
    }
};
template <> struct KeyPair<WIDE> {
    V first, second;
    KeyPair(const char *from, int32_t k)
        : first(F32::load(from + k * (8 * PAGE))), second(F32::load(from + k * (8 * PAGE) + 4 * PAGE)) {}
};

template <class Stored> constexpr int32_t KEY_BYTES = Stored::SIZE; // from position to position
template <> constexpr int32_t KEY_BYTES<INT8> = 4;
template <> constexpr int32_t KEY_BYTES<PAIRS> = 4;

// Vectors of positions that one or two rows take at a time.
template <class Stored> constexpr int32_t FEW_VECTORS = WIDTH == 16 ? 8 : 4;
template <> constexpr int32_t FEW_VECTORS<INT8> = WIDTH == 16 ? 4 : 2;

// A row's query as a tile wants it: columns times `scale`, or int8 with the sums to start from and the scales.
int32_t query_floats(int32_t size) { return padded_size(size) + 2 * size_groups(size); }

template <int ROWS>
void pack_query(const float *query, int32_t size, int32_t format, float scale, int r, float *packed) {
    if (format != SOBAN_CACHE_INT8) {
        const bool rounds = format == SOBAN_CACHE_BF16;
        for (int32_t d = 0; d < size; d++) {
            packed[d * ROWS + r] = rounds ? to_bf16(splat(query[d] * scale))[0] : query[d] * scale;
        }
        if (size % 2) packed[size * ROWS + r] = 0.0f;
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

template <class Stored, int ROWS, int VECTORS, bool PREFETCH> struct ScoreTile;

template <int ROWS, int VECTORS, bool PREFETCH> struct ScoreTile<F32, ROWS, VECTORS, PREFETCH> {
    static constexpr int64_t STEP = PAGE * F32::SIZE; // bytes from column to column

    INLINE void run(const KeyVectors<VECTORS> &keys, const float *packed, int32_t size, float *scores) {
        V total[ROWS][VECTORS] = {};
        for (int32_t d = 0; d < size; d++) {
            V key[VECTORS];
            UNROLL
            for (int v = 0; v < VECTORS; v++) {
                key[v] = F32::load(keys.at[v] + d * STEP);
                if (PREFETCH && v * WIDTH * F32::SIZE % 64 == 0) __builtin_prefetch(keys.next[v] + d * STEP);
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

// Of bfloat16, as they lie in the cache or widened.
template <class Stored, int ROWS, int VECTORS, bool PREFETCH> struct ScoreTile {
    // Vectors of which sums stay in registers while a run of columns passes.
    static constexpr int MOST = ROWS > 2 ? 2 : 4, PART = PAIRED && VECTORS > MOST ? MOST : VECTORS;

    INLINE void add_run(const KeyVectors<VECTORS> &keys, int part, int32_t start, int32_t end, const float *packed,
                        V (&total)[ROWS][VECTORS]) {
        V first[ROWS][PART] = {}, second[ROWS][PART] = {};
        if (!PAIRED) memcpy(first, total, sizeof first);
        for (int32_t k = start; k < end; k++) {
            V even[PART], odd[PART];
            UNROLL
            for (int v = 0; v < PART; v++) {
                const KeyPair<Stored> key(keys.at[part + v], k);
                even[v] = key.first, odd[v] = key.second;
                if (PREFETCH && v * WIDTH * 4 % 64 == 0) __builtin_prefetch(keys.next[part + v] + k * (4 * PAGE));
            }
            UNROLL
            for (int r = 0; r < ROWS; r++) {
                const V query = splat(packed[2 * k * ROWS + r]), next = splat(packed[(2 * k + 1) * ROWS + r]);
                UNROLL
                for (int v = 0; v < PART; v++) {
                    first[r][v] = fma(query, even[v], first[r][v]);
                    V &other = PAIRED ? second[r][v] : first[r][v];
                    other = fma(next, odd[v], other);
                }
            }
        }
        UNROLL
        for (int i = 0; i < ROWS * PART; i++) {
            const V one = first[i / PART][i % PART];
            V &sum = total[i / PART][part + i % PART];
            sum = PAIRED ? sum + (one + second[i / PART][i % PART]) : one;
        }
    }

    INLINE void run(const KeyVectors<VECTORS> &keys, const float *packed, int32_t size, float *scores) {
        V total[ROWS][VECTORS] = {};
        const int32_t pairs = (size + 1) / 2;
        for (int32_t start = 0; start < pairs; start += RUN / 2) {
            const int32_t end = start + RUN / 2 < pairs ? start + RUN / 2 : pairs;
            UNROLL
            for (int part = 0; part < VECTORS; part += PART) add_run(keys, part, start, end, packed, total);
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
template <> struct Widened<PAIRS> {
    typedef WIDE Keys;
};
template <class Stored> using WIDENED_KEYS = typename Widened<Stored>::Keys;

void widen_keys(const char *block, int32_t size, float *to) {
    for (int32_t k = 0; k < (size + 1) / 2; k++, to += 2 * PAGE) {
        for (int32_t p = 0; p < PAGE; p += WIDTH) {
            const KeyPair<PAIRS> key(block + 4 * p, k);
            store(to + p, key.first);
            store(to + PAGE + p, key.second);
        }
    }
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
