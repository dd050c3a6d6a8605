// Tiles of 32 tokens by 32 rows in the matrix unit (AMX). Its integers are those of blocks_vnni.h, and so is the
// order of all that follows: the results have the same bits.
#ifndef SOBAN_BLOCKS_AMX_H
#define SOBAN_BLOCKS_AMX_H

#include "blocks_vnni.h"

namespace {

constexpr int MATRIX_PANELS = 2, HALF = 16;           // tokens of a tile
constexpr int MATRIX_GROUPS = 4;                      // whose products lie in the L1 cache together
constexpr int TILE = HALF * PANEL, MATRIX = 4 * TILE; // products

struct TileShapes { // of the instruction ldtilecfg: eight tiles of 16 rows by 64 bytes
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
};

INLINE void begin_tiles() {
    TileShapes shapes = {1, 0, {}, {}, {}};
    for (int i = 0; i < 8; i++) {
        shapes.bytes[i] = 64;
        shapes.rows[i] = HALF;
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(shapes)); // gcc 12's own names only 8 bytes as read
}

INLINE void end_tiles() { __asm__ volatile("tilerelease"); }

// products[2h + p] = values of half h (16 tokens) x weights of panel p: signed by unsigned (q4) or by signed (q8).
template <class Format, int HALVES>
INLINE void multiply_tiles(const int8_t *values, const uint8_t *weights, int64_t stride, int32_t *products) {
#define MULTIPLY(to, a, b)                                                                                             \
    _tile_zero(to);                                                                                                    \
    if (Format::UNSIGNED)                                                                                              \
        _tile_dpbsud(to, a, b);                                                                                        \
    else                                                                                                               \
        _tile_dpbssd(to, a, b)
    _tile_loadd(4, values, GROUP);
    _tile_loadd(6, weights, 64);
    MULTIPLY(0, 4, 6);
    _tile_loadd(7, weights + stride, 64);
    MULTIPLY(1, 4, 7);
    if (HALVES == 2) {
        _tile_loadd(5, values + HALF * GROUP, GROUP);
        MULTIPLY(2, 5, 6);
        MULTIPLY(3, 5, 7);
    }
    _tile_stored(0, products, 64);
    _tile_stored(1, products + TILE, 64);
    if (HALVES == 2) {
        _tile_stored(2, products + 2 * TILE, 64);
        _tile_stored(3, products + 3 * TILE, 64);
    }
#undef MULTIPLY
}

// sums[t][r] of 16 tokens and one panel, for `groups` groups whose products are MATRIX apart.
template <class Format>
INLINE void add_products(const int32_t *products, const Expanded *blocks, int groups, const soban::Activations &x,
                         int64_t place, float *sums, int width) {
    V sum[HALF];
    UNROLL
    for (int t = 0; t < HALF; t++) sum[t] = load(sums + t * width);
    for (int g = 0; g < groups; g++, products += MATRIX, place += x.tokens) {
        const V scale = load(blocks[g].scales), minimum = load(blocks[g].minima);
        UNROLL
        for (int t = 0; t < HALF; t++) {
            const V product = to_float((I)load_bytes(products + t * PANEL));
            sum[t] = fma(product, scale * splat(x.scales[place + t]), sum[t]);
            if (Format::MINIMA) sum[t] = fma(minimum, splat(x.sums[place + t]), sum[t]);
        }
    }
    UNROLL
    for (int t = 0; t < HALF; t++) store(sums + t * width, sum[t]);
}

// As add_expanded, for 2 panels and one or two halves of 16 tokens. The weights of q8 are read where they are stored:
// `stored` is the first block, `panel_bytes` the way to the other panel's.
template <class Format, int HALVES>
void add_matrix(const uint8_t *stored, int64_t panel_bytes, const Expanded *blocks, int groups,
                const soban::Activations &x, int64_t place, float *sums, int width) {
    alignas(64) int32_t products[MATRIX_GROUPS * MATRIX];
    const uint8_t *weights = Format::NIBBLES ? blocks->weights : stored + Format::NUMBERS;
    const int64_t step = Format::NIBBLES ? (int64_t)sizeof(Expanded) : Format::BYTES,
                  stride = Format::NIBBLES ? groups * step : panel_bytes;
    for (int first = 0; first < groups; first += MATRIX_GROUPS) {
        const int some = groups - first < MATRIX_GROUPS ? groups - first : MATRIX_GROUPS;
        for (int g = 0; g < some; g++) {
            const int8_t *values = x.values + (place + (int64_t)g * x.tokens) * GROUP;
            const int8_t *next = values + HALVES * HALF * GROUP; // too far on for the CPU's own prefetching
            for (int b = 0; b < HALVES * HALF * GROUP; b += 64) __builtin_prefetch(next + b);
            multiply_tiles<Format, HALVES>(values, weights + (first + g) * step, stride, products + g * MATRIX);
        }
        for (int h = 0; h < HALVES; h++) {
            for (int p = 0; p < MATRIX_PANELS; p++) {
                add_products<Format>(products + (2 * h + p) * TILE, blocks + p * groups + first, some, x,
                                     place + h * HALF, sums + h * HALF * width + p * PANEL, width);
            }
        }
        place += (int64_t)some * x.tokens;
    }
}

} // namespace
#endif
