// Weighted sums of values: each row's sums grow position by position, in ascending order, whatever the tile.
#ifndef SOBAN_ATTENTION_VALUES_H
#define SOBAN_ATTENTION_VALUES_H

#include "attention_scores.h"

namespace {

constexpr int32_t VALUE_ROWS = WIDTH == 16 ? 6 : 2; // of a tile that many rows share
constexpr int32_t VALUE_VECTORS = 4;                // of a value that stay in registers, for each row of a tile

// Values of one block from column d on; row(j).load(v) is vector v of position j.
template <class Stored> struct Values {
    struct Row {
        const char *from;
        __attribute__((always_inline)) V load(int v) const { return Stored::load(from + v * WIDTH * Stored::SIZE); }
    };
    const char *from;
    int64_t stride;
    Values(const char *block, int32_t size, int32_t d)
        : from(block + (int64_t)d * Stored::SIZE), stride((int64_t)padded_size(size) * Stored::SIZE) {}
    Row row(int32_t j) const { return {from + j * stride}; }
};

template <> struct Values<INT8> {
    struct Row {
        const char *from;
        V scale;
        __attribute__((always_inline)) V load(int v) const {
            const char *here = from + v * WIDTH;
#if SOBAN_ISA == 2
            return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)here))) * scale;
#elif SOBAN_ISA != 0
            return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)here))) * scale;
#else
            return V{(float)(int8_t)here[0], (float)(int8_t)here[1], (float)(int8_t)here[2], (float)(int8_t)here[3]} *
                   scale;
#endif
        }
    };
    const char *from;
    const float *scales;
    int32_t stride;
    Values(const char *block, int32_t size, int32_t d)
        : from(block + d), scales((const float *)(block + PAGE * (int64_t)padded_size(size)) + d / GROUP * PAGE),
          stride(padded_size(size)) {}
    Row row(int32_t j) const { return {from + (int64_t)j * stride, splat(scales[j])}; }
};

// `count` values of a block as floats, as Values<F32> reads them.
template <class Stored> void widen_values(const char *block, int32_t count, int32_t size, float *to) {
    const int32_t width = padded_size(size);
    for (int32_t d = 0; d < width; d += 16) { // within one group of an int8 scale
        const Values<Stored> values(block, size, d);
        for (int32_t j = 0; j < count; j++) {
            const auto row = values.row(j);
            UNROLL
            for (int v = 0; v < 16 / WIDTH; v++) store(to + (int64_t)j * width + d + v * WIDTH, row.load(v));
        }
    }
}

// sums[r] += weights[r][j] * value j, for `count` neighbouring positions from `first` of the block on.
template <class Stored, int ROWS, int VECTORS, bool PREFETCH>
INLINE void add_values_tile(const char *block, const char *next, int32_t first, int32_t count, const float *weights,
                            int32_t size, int32_t d, float *sums) {
    const int32_t width = padded_size(size);
    const Values<Stored> values(block, size, d);
    const char *ahead = next + (int64_t)d * Stored::SIZE;
    V total[ROWS][VECTORS];
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        UNROLL
        for (int v = 0; v < VECTORS; v++) total[r][v] = load(sums + r * width + d + v * WIDTH);
    }
    for (int32_t j = 0; j < count; j++) {
        const auto row = values.row(first + j);
        V value[VECTORS];
        UNROLL
        for (int v = 0; v < VECTORS; v++) {
            value[v] = row.load(v);
            if (PREFETCH && v * WIDTH * Stored::SIZE % 64 == 0) {
                __builtin_prefetch(ahead + (int64_t)(first + j) * width * Stored::SIZE + v * WIDTH * Stored::SIZE);
            }
        }
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            const V weight = splat(weights[r * SPAN + j]);
            UNROLL
            for (int v = 0; v < VECTORS; v++) total[r][v] = fma(weight, value[v], total[r][v]);
        }
    }
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        UNROLL
        for (int v = 0; v < VECTORS; v++) store(sums + r * width + d + v * WIDTH, total[r][v]);
    }
}

// Groups of an int8 scale are whole tiles: 64 columns are a multiple of VALUE_VECTORS vectors.
static_assert(GROUP % (VALUE_VECTORS * WIDTH) == 0);

template <class Stored, int ROWS, bool PREFETCH>
void add_values(const char *block, const char *next, int32_t first, int32_t count, const float *weights, int32_t size,
                float *sums) {
    if (count <= 0) return;
    const int32_t width = padded_size(size);
    int32_t d = 0;
    for (; d + VALUE_VECTORS * WIDTH <= width; d += VALUE_VECTORS * WIDTH) {
        add_values_tile<Stored, ROWS, VALUE_VECTORS, PREFETCH>(block, next, first, count, weights, size, d, sums);
    }
    for (; d + 2 * WIDTH <= width; d += 2 * WIDTH) {
        add_values_tile<Stored, ROWS, 2, PREFETCH>(block, next, first, count, weights, size, d, sums);
    }
    for (; d < width; d += WIDTH) {
        add_values_tile<Stored, ROWS, 1, PREFETCH>(block, next, first, count, weights, size, d, sums);
    }
}

// What each row sees of a span, by position: from[r] to to[r]; nothing where they are equal.
struct Seen {
    const int32_t *from, *to;
};

INLINE int32_t later(int32_t a, int32_t b) { return a > b ? a : b; }
INLINE int32_t sooner(int32_t a, int32_t b) { return a < b ? a : b; }

// One block of values, whose first position is `start`, into the sums of ROWS rows. The positions that all of them see
// are taken together, the others row by row: what a row does not see it must not touch, for it may not be a number.
template <class Stored, int ROWS, bool PREFETCH>
void add_block_of_values(const char *block, const char *next, int32_t start, const Seen &seen, int32_t r,
                         const float *weights, int32_t size, float *sums) {
    const int32_t end = start + PAGE, width = padded_size(size);
    int32_t from = start, to = end;
    for (int i = 0; i < ROWS; i++) {
        from = later(from, seen.from[r + i]);
        to = sooner(to, seen.to[r + i]);
    }
    to = later(from, to);
    const auto one = [&](int i, int32_t begin, int32_t finish) {
        add_values<Stored, 1, false>(block, block, begin - start, finish - begin, weights + i * SPAN + (begin - start),
                                     size, sums + (int64_t)i * width);
    };
    if (ROWS > 1) {
        for (int i = 0; i < ROWS; i++)
            one(i, later(start, seen.from[r + i]), sooner(from, sooner(end, seen.to[r + i])));
    }
    add_values<Stored, ROWS, PREFETCH>(block, next, from - start, to - from, weights + (from - start), size, sums);
    if (ROWS > 1) {
        for (int i = 0; i < ROWS; i++) one(i, later(to, seen.from[r + i]), sooner(end, seen.to[r + i]));
    }
}

} // namespace
#endif
