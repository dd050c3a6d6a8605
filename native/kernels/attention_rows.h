// What a call of attention works with, and how a row's spans become one.
#ifndef SOBAN_ATTENTION_ROWS_H
#define SOBAN_ATTENTION_ROWS_H

#include "attention_paired.h"
#include "attention_weights.h"

namespace {

// Whether sums of values go as attention_paired.h has it.
template <class Stored> constexpr bool IN_RUNS = PAIRED && Stored::SIZE != 4;

constexpr int32_t SHARE_ROWS = 8; // from here on blocks are widened once for all rows

// What a call works with in its scratch memory, one of each for every row.
struct Rows {
    float *scores;          // SPAN: scores, then weights, of the span's positions
    float *scaled;          // MANY: weights times the scales of int8 values
    float *wide;            // shared: keys of a block as floats, then slices_floats of values
    float *queries;         // query_floats, in tiles
    float *sums;            // padded_size: the span's weights x values
    float *out;             // padded_size: the spans so far
    float *largest, *total; // of the spans so far
    float *here, *weights;  // the same of this span alone
    int32_t *from, *to;     // the positions of the span that the row sees
    char *tiles;            // tiles_bytes, where rows share keys
};

// As many as there is memory for: where rows share keys, the matrix unit takes whole tiles.
constexpr int32_t laid_rows(int32_t rows) { return rows < SHARE_ROWS ? rows : (rows + 15) / 16 * 16; }

// What the matrix unit works with: rows are a line longer than they need be, for 16 of a length that is a power of two
// would meet in a few sets of the cache.
constexpr int32_t MATRIX_ROWS = 64; // that go through a span together
constexpr int32_t SCORE_STRIDE = SPAN + 16, WEIGHT_STRIDE = SPAN + 32;
constexpr int32_t sum_stride(int32_t size) { return padded_size(size) + 16; }
constexpr int32_t query_stride(int32_t size) { return 2 * padded_size(size) + 64; } // bytes

int64_t tiles_bytes(int32_t rows, int32_t size) {
    const int64_t queries = laid_rows(rows) * (int64_t)(query_stride(size) + 4 * size_groups(size));
    return queries + MATRIX_ROWS * (int64_t)(4 * SCORE_STRIDE + 2 * WEIGHT_STRIDE + 4 * sum_stride(size)) + 64;
}

int64_t attention_scratch(int32_t rows, int32_t size) {
    const int64_t floats = laid_rows(rows) * (int64_t)(SPAN + MANY + query_floats(size) + 2 * padded_size(size) + 6);
    return 4 * (floats + 64 + slices_floats(size)) + (rows < SHARE_ROWS ? 0 : tiles_bytes(rows, size));
}

Rows lay_out(void *scratch, int32_t rows, int32_t size) {
    const int64_t count = laid_rows(rows), width = padded_size(size);
    Rows all;
    all.scores = (float *)scratch;
    all.scaled = all.scores + count * SPAN;
    all.wide = all.scaled + count * MANY;
    all.sums = all.wide + slices_floats(size);
    all.out = all.sums + count * width;
    all.queries = all.out + count * width;
    all.largest = all.queries + count * query_floats(size);
    all.total = all.largest + count;
    all.here = all.total + count;
    all.weights = all.here + count;
    all.from = (int32_t *)(all.weights + count);
    all.to = all.from + count;
    all.tiles = (char *)(((uintptr_t)(all.to + count) + 63) / 64 * 64);
    return all;
}

// A call's positions and rows: what stays the same while it works.
struct Call {
    const soban::Attention &task;
    const Rows all;
    const int32_t rows, size;

    const char *block(const char *stored, int32_t position) const {
        return stored + task.table[position / PAGE] * task.page_stride;
    }
};

// Joins a span's sums, its largest score and its weights' total to those of the spans before it.
INLINE void join_span(const float *sums, float here, float weights, int32_t size, float *out, float *largest,
                      float *total) {
    const float higher = *largest > here ? *largest : here;
    const V keep = exponential(splat(*largest - higher)), more = exponential(splat(here - higher));
    *total = fma(splat(*total), keep, splat(weights) * more)[0];
    *largest = higher;
    in_vectors(size, [&](int64_t i, int n) {
        store_up_to(out + i, fma(load_up_to(out + i, n), keep, load_up_to(sums + i, n) * more), n);
    });
}

INLINE void divide(const float *sums, float total, int32_t size, float *out) {
    in_vectors(size, [&](int64_t i, int n) { store_up_to(out + i, load_up_to(sums + i, n) / splat(total), n); });
}

// What a span has given a row: to the spans before it, or to be joined with others' later.
void finish_row(const Call &call, int32_t span, int32_t r, const float *sums) {
    const Rows &all = call.all;
    if (call.task.out) {
        if (all.from[r] == all.to[r]) return;
        return join_span(sums, all.here[r], all.weights[r], call.size, all.out + (int64_t)r * padded_size(call.size),
                         all.largest + r, all.total + r);
    }
    float *partial = call.task.partials + ((int64_t)(span - call.task.first_span) * call.rows + r) * (call.size + 2);
    memcpy(partial, sums, sizeof(float) * (size_t)call.size);
    partial[call.size] = all.here[r];
    partial[call.size + 1] = all.weights[r];
}

} // namespace
#endif
