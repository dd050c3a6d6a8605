// Weighted sums of values: each row's sums grow position by position, in ascending order, whatever the tile. (But of
// bfloat16 and int8 with 512-bit vectors: see attention_paired.h.)
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

template <> struct Values<PAIRS> {
    struct Row {
        const char *from;
        int32_t shift; // that brings the position's half of a pair up
        __attribute__((always_inline)) V load(int v) const {
            return second_of(load_lanes(from + v * WIDTH * 4) << shift);
        }
    };
    const char *from;
    int64_t stride;
    Values(const char *block, int32_t size, int32_t d)
        : from(block + (int64_t)d * 4), stride((int64_t)padded_size(size) * 4) {}
    Row row(int32_t j) const { return {from + j / 2 * stride, j % 2 ? 0 : 16}; }
};

template <> struct Values<INT8> {
    struct Row {
        const char *from;
        V scale;
        __attribute__((always_inline)) V load(int v) const { return whole(v) * scale; }
        __attribute__((always_inline)) V whole(int v) const { return widen_int8(from + v * WIDTH); }
    };
    const char *from;
    const float *scales;
    int32_t stride;
    Values(const char *block, int32_t size, int32_t d)
        : from(block + d), scales((const float *)(block + PAGE * (int64_t)padded_size(size)) + d / GROUP * PAGE),
          stride(padded_size(size)) {}
    Row row(int32_t j) const { return {from + (int64_t)j * stride, splat(scales[j])}; }
};

// What a weight is multiplied by: with PAIRED an int8 as it is, for its scale goes into the weight. HALF: 0 for an even
// position, 1 for an odd one, 2 where that is not known beforehand.
template <class Stored, int HALF = 2> INLINE V factor(const typename Values<Stored>::Row &row, int v) {
    if constexpr (PAIRED && Stored::SIZE == 1)
        return row.whole(v);
    else if constexpr (Stored::SIZE == 2 && HALF == 0)
        return first_of(load_lanes(row.from + v * WIDTH * 4));
    else if constexpr (Stored::SIZE == 2 && HALF == 1)
        return second_of(load_lanes(row.from + v * WIDTH * 4));
    else
        return row.load(v);
}

// Many rows share values that are widened once, for MANY positions, and packed by slices of columns
// [slice][MANY][SLICE]: a slice stays in the L1 cache while the rows pass, and the rows' sums in registers while the
// positions do.
constexpr int32_t SLICE = VALUE_VECTORS * WIDTH, MANY = 4 * PAGE;
static_assert(GROUP % SLICE == 0 && SPAN % MANY == 0); // a tile has one int8 scale for each position

struct Sliced {
    static constexpr int32_t SIZE = 4;
};

template <> struct Values<Sliced> {
    typedef Values<F32>::Row Row;
    const char *from;
    Values(const char *wide, int32_t, int32_t d) : from(wide + (int64_t)(d / SLICE * MANY * SLICE + d % SLICE) * 4) {}
    Row row(int32_t j) const { return {from + (int64_t)j * SLICE * 4}; }
};

int64_t slices_floats(int32_t size) { return (int64_t)(padded_size(size) + SLICE - 1) / SLICE * SLICE * MANY; }

// `count` values of a block, as positions `place` and later of the slices.
template <class Stored>
void widen_values(const char *block, int32_t count, int32_t size, int32_t place, float *slices) {
    for (int32_t d = 0; d < padded_size(size); d += 16) { // within one group of an int8 scale
        const Values<Stored> values(block, size, d);
        float *to = slices + (int64_t)(d / SLICE * MANY + place) * SLICE + d % SLICE;
        for (int32_t j = 0; j < count; j++, to += SLICE) {
            const auto row = values.row(j);
            UNROLL
            for (int v = 0; v < 16 / WIDTH; v++) store(to + v * WIDTH, factor<Stored>(row, v));
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

// The same for columns d to end.
template <class Stored, int ROWS, bool PREFETCH>
void add_values(const char *block, const char *next, int32_t first, int32_t count, const float *weights, int32_t size,
                int32_t d, int32_t end, float *sums) {
    if (count <= 0) return;
    for (; d + SLICE <= end; d += SLICE) {
        add_values_tile<Stored, ROWS, VALUE_VECTORS, PREFETCH>(block, next, first, count, weights, size, d, sums);
    }
    for (; d + 2 * WIDTH <= end; d += 2 * WIDTH) {
        add_values_tile<Stored, ROWS, 2, PREFETCH>(block, next, first, count, weights, size, d, sums);
    }
    for (; d < end; d += WIDTH) {
        add_values_tile<Stored, ROWS, 1, PREFETCH>(block, next, first, count, weights, size, d, sums);
    }
}

// What each row sees of a span, by position: from[r] to to[r]; nothing where they are equal.
struct Seen {
    const int32_t *from, *to;
};

INLINE int32_t later(int32_t a, int32_t b) { return a > b ? a : b; }
INLINE int32_t sooner(int32_t a, int32_t b) { return a < b ? a : b; }

// Neighbouring values of positions `start` to `end`, columns d to end_d, into the sums of ROWS rows. The positions that
// all rows see are taken together, the others row by row: what a row does not see it must not touch, for it may not be
// a number.
template <class Stored, int ROWS, bool PREFETCH>
void add_seen_values(const char *block, const char *next, int32_t start, int32_t end, const Seen &seen, int32_t r,
                     const float *weights, int32_t size, int32_t d, int32_t end_d, float *sums) {
    int32_t from = start, to = end;
    for (int i = 0; i < ROWS; i++) {
        from = later(from, seen.from[r + i]);
        to = sooner(to, seen.to[r + i]);
    }
    to = later(from, to);
    const auto one = [&](int i, int32_t begin, int32_t finish) {
        add_values<Stored, 1, false>(block, block, begin - start, finish - begin, weights + i * SPAN + (begin - start),
                                     size, d, end_d, sums + (int64_t)i * padded_size(size));
    };
    if (ROWS > 1) {
        for (int i = 0; i < ROWS; i++)
            one(i, later(start, seen.from[r + i]), sooner(from, sooner(end, seen.to[r + i])));
    }
    add_values<Stored, ROWS, PREFETCH>(block, next, from - start, to - from, weights + (from - start), size, d, end_d,
                                       sums);
    if (ROWS > 1) {
        for (int i = 0; i < ROWS; i++) one(i, later(to, seen.from[r + i]), sooner(end, seen.to[r + i]));
    }
}

} // namespace
#endif
