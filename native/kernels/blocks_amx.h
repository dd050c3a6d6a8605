// Tiles of 32 tokens by 32 rows in the matrix unit (AMX). Its integers are those of blocks_vnni.h, and so is the
// order of all that follows: the results have the same bits.
#ifndef SOBAN_BLOCKS_AMX_H
#define SOBAN_BLOCKS_AMX_H

#include "blocks_vnni.h"

namespace {

constexpr int MATRIX_TOKENS = 16, TILE = MATRIX_TOKENS * PANEL; // products
static_assert(STRIP_TOKENS == 2 * MATRIX_TOKENS);

struct TileShapes { // of the instruction ldtilecfg: eight tiles of 16 rows by 64 bytes
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
};

// For products over `columns` at once: tiles 0 to 3 are sums, 4 and 5 values, 6 and 7 levels.
INLINE void begin_tiles(int columns) {
    TileShapes shapes = {1, 0, {}, {}, {}};
    for (int i = 0; i < 8; i++) {
        shapes.bytes[i] = (uint16_t)(i == 4 || i == 5 ? columns : 64);
        shapes.rows[i] = (uint8_t)(i >= 6 ? columns / 4 : MATRIX_TOKENS);
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(shapes)); // gcc 12's own names only 8 bytes as read
}

INLINE void end_tiles() { __asm__ volatile("tilerelease"); }

INLINE void store_tiles(int halves, int panels, int32_t *products) {
    _tile_stored(0, products, 4 * PANEL);
    if (panels == 2) _tile_stored(1, products + TILE, 4 * PANEL);
    if (halves == 2) _tile_stored(2, products + 2 * TILE, 4 * PANEL);
    if (halves == 2 && panels == 2) _tile_stored(3, products + 3 * TILE, 4 * PANEL);
}

INLINE void clear_tiles(int halves, int panels) {
    _tile_zero(0);
    if (panels == 2) _tile_zero(1);
    if (halves == 2) _tile_zero(2);
    if (halves == 2 && panels == 2) _tile_zero(3);
}

// Adds the products of values that lie GROUP bytes apart from token to token with a tile of levels for each panel.
INLINE void multiply_tile(int halves, int panels, const int8_t *values, const uint8_t *levels, int64_t other) {
    _tile_loadd(4, values, GROUP);
    _tile_loadd(6, levels, 4 * PANEL);
    _tile_dpbssd(0, 4, 6);
    if (panels == 2) {
        _tile_loadd(7, levels + other, 4 * PANEL);
        _tile_dpbssd(1, 4, 7);
    }
    if (halves == 2) {
        _tile_loadd(5, values + MATRIX_TOKENS * GROUP, GROUP);
        _tile_dpbssd(2, 5, 6);
        if (panels == 2) _tile_dpbssd(3, 5, 7);
    }
}

// products[2h + p] = values of half h (16 tokens) x levels of panel p, of a block: both int8. The groups' values are
// `values_step` bytes apart, the levels GROUP x PANEL, and those of the other panel `other` bytes further on.
template <int HALVES, int PANELS>
INLINE void multiply_tiles(const int8_t *values, int64_t values_step, const uint8_t *levels, int64_t other, int groups,
                           int32_t *products) {
    clear_tiles(HALVES, PANELS);
    for (int g = 0; g < groups; g++, values += values_step, levels += PANEL * GROUP) {
        multiply_tile(HALVES, PANELS, values, levels, other);
    }
    store_tiles(HALVES, PANELS, products);
}

// Adds the products of a block to sums[t][p][r].
template <int HALVES, int PANELS>
INLINE void add_products(const int32_t *products, const uint8_t *block, int64_t panel_bytes, const float *of_values,
                         float *sums) {
    UNROLL
    for (int p = 0; p < PANELS; p++) {
        const V scale = load(scales_of(block + p * panel_bytes));
        UNROLL
        for (int h = 0; h < HALVES; h++) {
            for (int t = 0; t < MATRIX_TOKENS; t++) {
                const V product = to_float((I)load_bytes(products + (2 * h + p) * TILE + t * PANEL));
                const int token = h * MATRIX_TOKENS + t;
                add_scaled(product, scale, of_values[token], sums + token * PANELS * PANEL + p * PANEL);
            }
        }
    }
}

// Adds `groups` groups of PANELS panels to sums[t][p][r] of 16 or 32 tokens; what lies beyond a strip's tokens goes
// through the tiles, too, and is left to whoever writes the sums. The levels of q8 are read where they are stored: the
// groups begin at `stored`, and of q4 lie expanded.
template <class Format, int HALVES, int PANELS>
void add_matrix(const uint8_t *stored, int64_t panel_bytes, int groups, const uint8_t *expanded, const Strip &x,
                float *sums) {
    alignas(64) int32_t products[2][4 * TILE]; // of a block and the one before: the tiles go on while they are added
    const int64_t step = x.stride * GROUP;
    const uint8_t *before = nullptr;
    for (int g = 0, b = 0; g < groups; g += BLOCK_GROUPS, b++) {
        const int here = groups - g < BLOCK_GROUPS ? groups - g : BLOCK_GROUPS;
        const uint8_t *block = stored + b * block_bytes_of<Format>(BLOCK_GROUPS);
        const uint8_t *levels = Format::NIBBLES ? expanded + g * EXPANDED : integers_of<Format>(block, here);
        const int64_t other = Format::NIBBLES ? groups * EXPANDED : panel_bytes;
        multiply_tiles<HALVES, PANELS>(x.values + g * step, step, levels, other, here, products[b % 2]);
        if (b)
            add_products<HALVES, PANELS>(products[1 - b % 2], before, panel_bytes, x.scales + (b - 1) * x.stride, sums);
        before = block;
    }
    const int last = (groups + BLOCK_GROUPS - 1) / BLOCK_GROUPS - 1;
    add_products<HALVES, PANELS>(products[last % 2], before, panel_bytes, x.scales + last * x.stride, sums);
}

} // namespace
#endif
