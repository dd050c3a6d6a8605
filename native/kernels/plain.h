// Dot products of plain rows (f32, f16, bf16) with float activations, in tiles of rows by tokens.
//
// Each product of one row and one token has one vector of partial sums, filled in ascending order whatever the
// tile, so its bits are the same in every tile. Attention uses the same tiles for queries and keys.
#ifndef SOBAN_PLAIN_H
#define SOBAN_PLAIN_H

#include "kernels.h"
#include "simd.h"

namespace {

constexpr int32_t TILE_ROWS = 4;
constexpr int32_t TILE_TOKENS =
    SOBAN_ISA == 2 || SOBAN_NEON ? 4 : 2;             // a tile's sums, a row and the tokens' values fit the registers
constexpr int32_t DEEP_ROWS = SOBAN_ISA == 2 ? 6 : 4; // of a tile that many tokens share
constexpr int32_t DEEP_TOKENS = SOBAN_ISA == 1 ? 3 : TILE_TOKENS;
constexpr int32_t PREFETCH_BYTES = 2048;
constexpr int32_t DEPTH = 1024; // columns that many tokens share at a time: a tile's rows stay in the L1 cache

// total[r][t] += w[r] . x[t] over columns first to end, of which only the row's last may be a part of a vector.
// What lies ahead of row r is prefetched, past the row's end `jump` bytes further on.
template <class Stored, int ROWS, int TOKENS>
INLINE void add_products(const char *const *w, const float *const *x, int32_t first, int32_t end, int64_t jump,
                         V (*total)[TOKENS]) {
    int32_t i = first;
    for (; i + WIDTH <= end; i += WIDTH) {
        V values[TOKENS];
        UNROLL
        for (int t = 0; t < TOKENS; t++) values[t] = load(x[t] + i);
        const int64_t here = (int64_t)i * Stored::SIZE;
        const int64_t ahead = here + PREFETCH_BYTES + (i + PREFETCH_BYTES / Stored::SIZE < end ? 0 : jump);
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            const V weight = Stored::load(w[r] + here);
            if (jump) __builtin_prefetch((const void *)((uintptr_t)w[r] + (uintptr_t)ahead));
            UNROLL
            for (int t = 0; t < TOKENS; t++) total[r][t] = fma(weight, values[t], total[r][t]);
        }
    }
    if (i == end) return;
    V values[TOKENS];
    UNROLL
    for (int t = 0; t < TOKENS; t++) values[t] = load_part(x[t] + i, end - i);
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        const V weight = Stored::load_part(w[r] + (int64_t)i * Stored::SIZE, end - i);
        UNROLL
        for (int t = 0; t < TOKENS; t++) total[r][t] = fma(weight, values[t], total[r][t]);
    }
}

// sums[r][t] = w[r] . x[t]
template <class Stored, int ROWS, int TOKENS>
INLINE void dot_tile(const char *const *w, const float *const *x, int32_t columns, int64_t jump,
                     float (*sums)[TOKENS]) {
    V total[ROWS][TOKENS] = {};
    add_products<Stored, ROWS, TOKENS>(w, x, 0, columns, jump, total);
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        UNROLL
        for (int t = 0; t < TOKENS; t++) sums[r][t] = sum(total[r][t]);
    }
}

template <class Stored, int ROWS, int TOKENS>
void linear_tile(const char *data, const float *x, int64_t x_stride, int32_t columns, const float *bias, float *out,
                 int64_t out_stride) {
    const int64_t row_bytes = (int64_t)columns * Stored::SIZE;
    const char *w[ROWS];
    const float *tokens[TOKENS];
    float sums[ROWS][TOKENS];
    for (int r = 0; r < ROWS; r++) w[r] = data + r * row_bytes;
    for (int t = 0; t < TOKENS; t++) tokens[t] = x + t * x_stride;
    dot_tile<Stored, ROWS, TOKENS>(w, tokens, columns, (ROWS - 1) * row_bytes, sums);
    for (int t = 0; t < TOKENS; t++) {
        for (int r = 0; r < ROWS; r++) out[t * out_stride + r] = bias ? sums[r][t] + bias[r] : sums[r][t];
    }
}

// Few tokens: each tile from the first column to the last.
template <class Stored, int ROWS>
void linear_rows(const char *data, const float *x, int64_t x_stride, int32_t columns, int32_t tokens, const float *bias,
                 float *out, int64_t out_stride) {
    int32_t t = 0;
    for (; t + TILE_TOKENS <= tokens; t += TILE_TOKENS) {
        linear_tile<Stored, ROWS, TILE_TOKENS>(data, x + t * x_stride, x_stride, columns, bias, out + t * out_stride,
                                               out_stride);
    }
    for (; t < tokens; t++) {
        linear_tile<Stored, ROWS, 1>(data, x + t * x_stride, x_stride, columns, bias, out + t * out_stride, out_stride);
    }
}

// Many tokens (a multiple of DEEP_TOKENS): all of them over DEPTH columns, then over the next; `totals` holds the
// vectors of sums in between.
void linear_deep(const float *data, const float *x, int64_t x_stride, int32_t columns, int32_t tokens,
                 const float *bias, float *out, int64_t out_stride, float *totals) {
    constexpr int TILE_FLOATS = DEEP_ROWS * DEEP_TOKENS * WIDTH;
    const char *w[DEEP_ROWS];
    for (int r = 0; r < DEEP_ROWS; r++) w[r] = (const char *)(data + (int64_t)r * columns);
    for (int32_t first = 0; first < columns; first += DEPTH) {
        const int32_t end = columns - first < DEPTH ? columns : first + DEPTH;
        float *kept = totals;
        for (int32_t t = 0; t < tokens; t += DEEP_TOKENS, kept += TILE_FLOATS) {
            const float *values[DEEP_TOKENS];
            V total[DEEP_ROWS][DEEP_TOKENS];
            for (int i = 0; i < DEEP_TOKENS; i++) values[i] = x + (t + i) * x_stride;
            UNROLL
            for (int i = 0; i < DEEP_ROWS * DEEP_TOKENS; i++) {
                total[i / DEEP_TOKENS][i % DEEP_TOKENS] = first ? load(kept + i * WIDTH) : V{};
            }
            add_products<F32, DEEP_ROWS, DEEP_TOKENS>(w, values, first, end, 0, total);
            UNROLL
            for (int i = 0; i < DEEP_ROWS * DEEP_TOKENS; i++) {
                const V products = total[i / DEEP_TOKENS][i % DEEP_TOKENS];
                if (end < columns) {
                    store(kept + i * WIDTH, products);
                    continue;
                }
                const int r = i / DEEP_TOKENS;
                const float whole = sum(products);
                out[(t + i % DEEP_TOKENS) * out_stride + r] = bias ? whole + bias[r] : whole;
            }
        }
    }
}

template <class Stored> void widen(const char *from, int64_t count, float *to) {
    in_vectors(count, [&](int64_t i, int n) {
        const void *here = from + i * Stored::SIZE;
        store_up_to(to + i, n == WIDTH ? Stored::load(here) : Stored::load_part(here, n), n);
    });
}

constexpr int32_t WIDEN_TOKENS = 8;                      // from here on rows are widened once for all tokens
constexpr int32_t BLOCK_BYTES = 512 << 10;               // of activations: they stay in the L2 cache as the rows pass
constexpr int32_t MOST_DEEP = BLOCK_BYTES / (4 * DEPTH); // tokens in a block of rows longer than DEPTH
constexpr int32_t MOST_TOTALS = MOST_DEEP * DEEP_ROWS * WIDTH;

template <class Stored> void linear_plain(const soban::Linear &task) {
    const int32_t columns = task.part->columns, end = task.first + task.count;
    const int64_t row_bytes = (int64_t)columns * Stored::SIZE;
    const char *data = (const char *)task.part->data;
    const int64_t fit = BLOCK_BYTES / ((int64_t)columns * 4) / DEEP_TOKENS * DEEP_TOKENS;
    const int32_t block = (int32_t)(fit < 4 * DEEP_TOKENS ? 4 * DEEP_TOKENS : fit < task.tokens ? fit : task.tokens);
    for (int32_t first = 0; first < task.tokens; first += block) {
        const int32_t tokens = task.tokens - first < block ? task.tokens - first : block;
        const float *x = task.x + first * task.x_stride;
        float *out = task.out + first * task.out_stride;
        const auto rows = [&](auto some, int32_t r, int32_t done) { // the tokens from `done` on
            linear_rows<Stored, decltype(some)::ROWS>(data + r * row_bytes, x + done * task.x_stride, task.x_stride,
                                                      columns, tokens - done, task.bias ? task.bias + r : nullptr,
                                                      out + done * task.out_stride + r, task.out_stride);
        };
        struct One {
            enum { ROWS = 1 };
        };
        struct Few {
            enum { ROWS = TILE_ROWS };
        };
        struct Deep {
            enum { ROWS = DEEP_ROWS };
        };
        struct Most { // of one token
            enum { ROWS = 2 * TILE_ROWS };
        };
        int32_t r = task.first;
        if (tokens >= WIDEN_TOKENS) {
            float *totals = (float *)task.scratch, *wide = totals + MOST_TOTALS;
            const int32_t done = tokens / DEEP_TOKENS * DEEP_TOKENS;
            for (; r + DEEP_ROWS <= end; r += DEEP_ROWS) {
                widen<Stored>(data + r * row_bytes, (int64_t)DEEP_ROWS * columns, wide);
                linear_deep(wide, x, task.x_stride, columns, done, task.bias ? task.bias + r : nullptr, out + r,
                            task.out_stride, totals);
                rows(Deep(), r, done);
            }
        } else if (tokens == 1) {
            for (; r + 2 * TILE_ROWS <= end; r += 2 * TILE_ROWS) rows(Most(), r, 0);
        }
        for (; r + TILE_ROWS <= end; r += TILE_ROWS) rows(Few(), r, 0);
        for (; r < end; r++) rows(One(), r, 0);
    }
}

} // namespace
#endif
