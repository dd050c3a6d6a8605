// The formats of files in the matrix unit: tiles of the columns that share a scale, whose integers and whose order are
// those of file_products.h.
#ifndef SOBAN_FILE_AMX_H
#define SOBAN_FILE_AMX_H

#include "blocks_amx.h"
#include "file_products.h"

namespace {

// products[t][r] = values of 16 tokens x the levels of one share, by other tiles than for the share before.
INLINE void multiply_share(bool second, const int8_t *values, const uint8_t *levels, int32_t *products) {
    if (second) {
        _tile_zero(1);
        _tile_loadd(5, values, GROUP);
        _tile_loadd(7, levels, 4 * PANEL);
        _tile_dpbssd(1, 5, 7);
        _tile_stored(1, products, 4 * PANEL);
    } else {
        _tile_zero(0);
        _tile_loadd(4, values, GROUP);
        _tile_loadd(6, levels, 4 * PANEL);
        _tile_dpbssd(0, 4, 6);
        _tile_stored(0, products, 4 * PANEL);
    }
}

// Adds the products of 16 tokens with a panel whose groups lie expanded to sums[t][r], `width` floats for a token: the
// sums stay in registers, and the tiles are a share ahead.
template <class Format>
void add_tile(int groups, const uint8_t *expanded, const int8_t *values, int64_t values_step,
              const soban::RoundedGroup *rounded, int64_t rounded_step, float *sums, int width) {
    constexpr int SHARES = GROUP / Format::SHARE;
    alignas(64) int32_t products[2][TILE];
    V sum[MATRIX_TOKENS];
    UNROLL
    for (int t = 0; t < MATRIX_TOKENS; t++) sum[t] = load(sums + t * width);
    multiply_share(false, values, expanded, products[0]);
    for (int g = 0; g < groups; g++, expanded += FILE_EXPANDED, values += values_step, rounded += rounded_step) {
        UNROLL
        for (int s = 0; s < SHARES; s++) {
            const bool last = s == SHARES - 1; // of the group; after the last group of all its levels are taken again
            const bool more = g + 1 < groups;
            const int8_t *next = last ? values + (more ? values_step : 0) : values + (s + 1) * Format::SHARE;
            const uint8_t *levels =
                last ? expanded + (more ? FILE_EXPANDED : 0) : expanded + (s + 1) * Format::SHARE * PANEL;
            multiply_share(s % 2 == 0, next, levels, products[1 - s % 2]);
            const float *numbers = (const float *)(expanded + LEVEL_BYTES);
            const V scale = load(numbers + s * PANEL), minimum = load(numbers + (Format::MINIMA ? 2 + s : 0) * PANEL);
            const int half = s * Format::SHARE / HALF;
            UNROLL
            for (int t = 0; t < MATRIX_TOKENS; t++) {
                const V product = to_float((I)load_bytes(products[s % 2] + t * PANEL));
                sum[t] = fma(product, scale * splat(rounded[t].scales[half]), sum[t]);
                if (Format::MINIMA) sum[t] = fma(minimum, splat(rounded[t].shifts[half]), sum[t]);
            }
        }
    }
    UNROLL
    for (int t = 0; t < MATRIX_TOKENS; t++) store(sums + t * width, sum[t]);
}

// As add_matrix of blocks_amx.h, of groups that lie expanded. Beyond a strip's tokens values and what belongs to them
// are anything, and so are those sums.
template <class Format, int HALVES, int PANELS>
    requires Format::OF_FILE
void add_matrix(const uint8_t *, int64_t, int groups, const uint8_t *expanded, const Strip &x, float *sums) {
    for (int p = 0; p < PANELS; p++) {
        for (int h = 0; h < HALVES; h++) {
            const int token = h * MATRIX_TOKENS;
            add_tile<Format>(groups, expanded + p * groups * FILE_EXPANDED, x.values + token * GROUP, x.stride * GROUP,
                             x.rounded + token, x.stride, sums + (token * PANELS + p) * PANEL, PANELS * PANEL);
        }
    }
}

} // namespace
#endif
