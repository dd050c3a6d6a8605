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
constexpr int32_t TILE_TOKENS = SOBAN_ISA == 2 ? 4 : 2; // a tile's sums, a row and the tokens' values fit the registers
constexpr int32_t PREFETCH_BYTES = 2048;

// sums[r][t] = w[r] . x[t]
template <class Stored, int ROWS, int TOKENS>
INLINE void dot_tile(const char *const *w, const float *const *x, int32_t columns, float (*sums)[TOKENS]) {
    V total[ROWS][TOKENS] = {};
    int32_t i = 0;
    for (; i + WIDTH <= columns; i += WIDTH) {
        V values[TOKENS];
        UNROLL
        for (int t = 0; t < TOKENS; t++) values[t] = load(x[t] + i);
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            const V weight = Stored::load(w[r] + (int64_t)i * Stored::SIZE);
            if (TOKENS == 1) __builtin_prefetch(w[r] + (int64_t)i * Stored::SIZE + PREFETCH_BYTES);
            UNROLL
            for (int t = 0; t < TOKENS; t++) total[r][t] = fma(weight, values[t], total[r][t]);
        }
    }
    if (i < columns) {
        V values[TOKENS];
        UNROLL
        for (int t = 0; t < TOKENS; t++) values[t] = load_part(x[t] + i, columns - i);
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            const V weight = Stored::load_part(w[r] + (int64_t)i * Stored::SIZE, columns - i);
            UNROLL
            for (int t = 0; t < TOKENS; t++) total[r][t] = fma(weight, values[t], total[r][t]);
        }
    }
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        UNROLL
        for (int t = 0; t < TOKENS; t++) sums[r][t] = sum(total[r][t]);
    }
}

template <class Stored, int ROWS, int TOKENS>
void linear_tile(const char *data, const float *x, int64_t x_stride, int32_t columns, const float *bias, float *out,
                 int64_t out_stride) {
    const char *w[ROWS];
    const float *tokens[TOKENS];
    float sums[ROWS][TOKENS];
    UNROLL
    for (int r = 0; r < ROWS; r++) w[r] = data + (int64_t)r * columns * Stored::SIZE;
    UNROLL
    for (int t = 0; t < TOKENS; t++) tokens[t] = x + t * x_stride;
    dot_tile<Stored, ROWS, TOKENS>(w, tokens, columns, sums);
    UNROLL
    for (int t = 0; t < TOKENS; t++) {
        UNROLL
        for (int r = 0; r < ROWS; r++) out[t * out_stride + r] = bias ? sums[r][t] + bias[r] : sums[r][t];
    }
}

// All tokens of a tile of ROWS rows.
template <class Stored, int ROWS>
void linear_rows(const char *data, const float *x, int64_t x_stride, int32_t columns, int32_t tokens,
                 const float *bias, float *out, int64_t out_stride) {
    int32_t t = 0;
    for (; t + TILE_TOKENS <= tokens; t += TILE_TOKENS) {
        linear_tile<Stored, ROWS, TILE_TOKENS>(data, x + t * x_stride, x_stride, columns, bias, out + t * out_stride,
                                               out_stride);
    }
    for (; t < tokens; t++) {
        linear_tile<Stored, ROWS, 1>(data, x + t * x_stride, x_stride, columns, bias, out + t * out_stride, out_stride);
    }
}

template <class Stored> void widen(const char *from, int64_t count, float *to) {
    in_vectors(count, [&](int64_t i, int n) {
        const void *here = from + i * Stored::SIZE;
        store_up_to(to + i, n == WIDTH ? Stored::load(here) : Stored::load_part(here, n), n);
    });
}

constexpr int32_t WIDEN_TOKENS = 2 * TILE_TOKENS; // from here on rows are widened once for all tokens

template <class Stored> void linear_plain(const soban::Linear &task) {
    const int32_t columns = task.part->columns, end = task.first + task.count;
    const int64_t row_bytes = (int64_t)columns * Stored::SIZE;
    const char *data = (const char *)task.part->data;
    // Activations of a block of tokens stay in the L2 cache while the rows pass.
    const int64_t fit = (512 << 10) / ((int64_t)columns * 4) / TILE_TOKENS * TILE_TOKENS;
    const int32_t block = fit < 4 * TILE_TOKENS ? 4 * TILE_TOKENS : (int32_t)(fit < task.tokens ? fit : task.tokens);
    for (int32_t first = 0; first < task.tokens; first += block) {
        const int32_t tokens = task.tokens - first < block ? task.tokens - first : block;
        const float *x = task.x + first * task.x_stride;
        float *out = task.out + first * task.out_stride;
        const auto rows = [&](auto some, int32_t r) {
            constexpr int ROWS = decltype(some)::ROWS;
            const float *bias = task.bias ? task.bias + r : nullptr;
            const char *from = data + r * row_bytes;
            if (Stored::SIZE < 4 && tokens >= WIDEN_TOKENS) {
                float *wide = (float *)task.scratch;
                widen<Stored>(from, (int64_t)ROWS * columns, wide);
                linear_rows<F32, ROWS>((const char *)wide, x, task.x_stride, columns, tokens, bias, out + r,
                                       task.out_stride);
            } else {
                linear_rows<Stored, ROWS>(from, x, task.x_stride, columns, tokens, bias, out + r, task.out_stride);
            }
        };
        struct One { enum { ROWS = 1 }; };
        struct Four { enum { ROWS = TILE_ROWS }; };
        struct Eight { enum { ROWS = 2 * TILE_ROWS }; };
        int32_t r = task.first;
        if (tokens == 1) {
            for (; r + 2 * TILE_ROWS <= end; r += 2 * TILE_ROWS) rows(Eight(), r);
        }
        for (; r + TILE_ROWS <= end; r += TILE_ROWS) rows(Four(), r);
        for (; r < end; r++) rows(One(), r);
    }
}

} // namespace
#endif
