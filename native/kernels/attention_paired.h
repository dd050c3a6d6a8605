// Weighted sums of values in the order of the matrix unit: a page of 32 positions is a run, see PAIRED.
//
// Weights are bfloat16. An int8 value is a factor as it is: its scale goes into the weight before that is rounded.
// What a row does not see of a page adds nothing to its run, so the bits are the same whether it is left out or has a
// weight of 0.
#ifndef SOBAN_ATTENTION_PAIRED_H
#define SOBAN_ATTENTION_PAIRED_H

#include "attention_values.h"

namespace {

static_assert(PAGE == RUN);
constexpr int32_t PAIRED_ROWS = 3; // of a tile: 24 sums of 512 bits

// sums[r] += the runs of weights[r][j] * value j, for `count` positions from place `first` of the values on: those of a
// part of one page, or of whole pages.
template <class Stored, int ROWS, int VECTORS, bool PREFETCH>
INLINE void add_run_tile(const char *block, const char *next, int32_t first, int32_t count, const float *weights,
                         int32_t stride, int32_t size, int32_t d, float *sums) {
    const int32_t width = padded_size(size), end = first + count;
    const Values<Stored> values(block, size, d);
    V total[2][ROWS][VECTORS];
    const auto add = [&](auto half, int32_t j) __attribute__((always_inline)) {
        const auto row = values.row(j);
        V value[VECTORS];
        UNROLL
        for (int v = 0; v < VECTORS; v++) {
            value[v] = factor<Stored, decltype(half)::VALUE>(row, v);
#if SOBAN_ISA == 2
            __asm__("" : "+v"(value[v])); // gcc would load it anew for each row
#endif
            if (PREFETCH && Stored::SIZE == 2 && decltype(half)::VALUE == 0) {
                __builtin_prefetch(row.from + v * WIDTH * 4 + (next - block));
            }
            if (PREFETCH && Stored::SIZE == 1 && v == 0) __builtin_prefetch(row.from + (next - block));
        }
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            const V weight = splat(weights[r * stride + (j - first)]);
            UNROLL
            for (int v = 0; v < VECTORS; v++) {
                V &sum = total[decltype(half)::VALUE][r][v];
                sum = fma(weight, value[v], sum);
            }
        }
    };
    for (int32_t j = first; j < end;) {
        UNROLL
        for (int i = 0; i < ROWS * VECTORS; i++)
            total[0][i / VECTORS][i % VECTORS] = total[1][i / VECTORS][i % VECTORS] = V{};
        const int32_t stop = sooner(j / PAGE * PAGE + PAGE, end);
        if (j % 2) add(Number<1>(), j++);
        for (; j + 2 <= stop; j += 2) {
            add(Number<0>(), j);
            add(Number<1>(), j + 1);
        }
        if (j < stop) add(Number<0>(), j++);
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            UNROLL
            for (int v = 0; v < VECTORS; v++) {
                float *sum = sums + r * width + d + v * WIDTH;
                store(sum, load(sum) + (total[0][r][v] + total[1][r][v]));
            }
        }
    }
}

// The same for columns d to end.
template <class Stored, int ROWS, bool PREFETCH>
void add_run(const char *block, const char *next, int32_t first, int32_t count, const float *weights, int32_t stride,
             int32_t size, int32_t d, int32_t end, float *sums) {
    if (count <= 0) return;
    for (; d + SLICE <= end; d += SLICE) {
        add_run_tile<Stored, ROWS, VALUE_VECTORS, PREFETCH>(block, next, first, count, weights, stride, size, d, sums);
    }
    for (; d + 2 * WIDTH <= end; d += 2 * WIDTH) {
        add_run_tile<Stored, ROWS, 2, PREFETCH>(block, next, first, count, weights, stride, size, d, sums);
    }
    for (; d < end; d += WIDTH) {
        add_run_tile<Stored, ROWS, 1, PREFETCH>(block, next, first, count, weights, stride, size, d, sums);
    }
}

// The weights of a row for one page, times the scales of the int8 values of column d, as bfloat16. What the row does
// not see has a weight of 0, and perhaps no number for a scale.
INLINE void scale_weights(const char *block, int32_t size, int32_t d, const float *weights, float *to) {
    const float *scales = Values<INT8>(block, size, d).scales;
    for (int32_t j = 0; j < PAGE; j += WIDTH) {
        const V weight = load(weights + j);
        store(to + j, weight != V{} ? to_bf16(weight * load(scales + j)) : V{});
    }
}

// Columns d to end_d of the page of positions that begins at `page`, and at place `inside` of the values, into the sums
// of ROWS rows; `weights` are those of row r from that position on. Rows that see different parts of it go alone: what
// a row does not see it must not touch, for it may not be a number.
template <class Stored, int ROWS, bool PREFETCH>
void add_page(const char *block, const char *next, int32_t page, int32_t inside, const Seen &seen, int32_t r,
              const float *weights, int32_t stride, int32_t size, int32_t d, int32_t end_d, float *sums) {
    int32_t from[ROWS], to[ROWS];
    bool same = true;
    for (int i = 0; i < ROWS; i++) {
        from[i] = later(page, seen.from[r + i]) - page;
        to[i] = sooner(page + PAGE, seen.to[r + i]) - page;
        same = same && from[i] == from[0] && to[i] == to[0];
    }
    if (same) {
        return add_run<Stored, ROWS, PREFETCH>(block, next, inside + from[0], to[0] - from[0], weights + from[0],
                                               stride, size, d, end_d, sums);
    }
    for (int i = 0; i < ROWS; i++) {
        add_run<Stored, 1, PREFETCH>(block, next, inside + from[i], to[i] - from[i], weights + i * stride + from[i],
                                     stride, size, d, end_d, sums + (int64_t)i * padded_size(size));
    }
}

// All columns of a page as it lies in the cache; `weights` are without the scales of int8 values.
template <class Stored, int ROWS>
void add_stored_page(const char *block, const char *next, int32_t page, const Seen &seen, int32_t r,
                     const float *weights, int32_t stride, int32_t size, float *sums) {
    const int32_t width = padded_size(size);
    if (Stored::SIZE != 1) {
        return add_page<Stored, ROWS, true>(block, next, page, 0, seen, r, weights, stride, size, 0, width, sums);
    }
    for (int32_t d = 0; d < width; d += GROUP) {
        alignas(64) float scaled[ROWS * PAGE];
        for (int i = 0; i < ROWS; i++) scale_weights(block, size, d, weights + i * stride, scaled + i * PAGE);
        add_page<Stored, ROWS, true>(block, next, page, 0, seen, r, scaled, PAGE, size, d, sooner(d + GROUP, width),
                                     sums);
    }
}

// Columns d to end_d of widened values, for the pages from `page` to `end`, whose first is place 0: those that all rows
// see wholly go together.
template <class Stored, int ROWS>
void add_pages(const char *block, int32_t page, int32_t end, const Seen &seen, int32_t r, const float *weights,
               int32_t stride, int32_t size, int32_t d, int32_t end_d, float *sums) {
    int32_t from = 0, to = end;
    for (int i = 0; i < ROWS; i++) {
        from = later(from, seen.from[r + i]);
        to = sooner(to, seen.to[r + i]);
    }
    for (int32_t p = page; p < end;) {
        const int32_t whole = p < from ? 0 : (to - p) / PAGE;
        if (whole <= 0) {
            add_page<Stored, ROWS, false>(block, nullptr, p, p - page, seen, r, weights + (p - page), stride, size, d,
                                          end_d, sums);
            p += PAGE;
            continue;
        }
        add_run<Stored, ROWS, false>(block, nullptr, p - page, whole * PAGE, weights + (p - page), stride, size, d,
                                     end_d, sums);
        p += whole * PAGE;
    }
}

// As the matrix unit has it: no number is smaller than 2**-126 but 0.
struct NoDenormals {
#if SOBAN_ISA == 2
    const uint32_t before = _mm_getcsr();
    NoDenormals() { _mm_setcsr(before | 0x8040); }
    ~NoDenormals() { _mm_setcsr(before); }
#else
    NoDenormals() {}
#endif
};

} // namespace
#endif
