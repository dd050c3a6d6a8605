// Our own quantised formats: a block is 16 rows (a panel) by up to 4 groups of 64 columns. src/soban/ops/formats.py
// tells the layouts.
//
// How a block's integers become what an instruction set multiplies is told beside its products, in blocks_*.h.
#ifndef SOBAN_FORMATS_H
#define SOBAN_FORMATS_H

#include "simd.h"

namespace {

struct Q8 {
    static constexpr int32_t NUMBER = SOBAN_Q8;
    static constexpr bool OF_FILE = false;
    static constexpr bool NIBBLES = false;
    static constexpr int64_t GROUP_BYTES = PANEL * GROUP; // of the integers
};

struct Q4 { // integers of 4 bits, 0 to 15: column k + 32 lies above column k
    static constexpr int32_t NUMBER = SOBAN_Q4;
    static constexpr bool OF_FILE = false;
    static constexpr bool NIBBLES = true;
    static constexpr int64_t GROUP_BYTES = PANEL * GROUP / 2;
};

template <class Format> constexpr int64_t block_bytes_of(int32_t groups) {
    return soban::packed_block(Format::NUMBER, groups);
}

INLINE const float *scales_of(const uint8_t *block) { return (const float *)block; }

template <class Format> INLINE const uint8_t *integers_of(const uint8_t *block, int32_t groups) {
    return block + soban::head_bytes(Format::NUMBER, groups);
}

// Of q4: 16 bytes for a group, in whose low nibbles are the steps, less 1, of its first half, in the high ones those of
// the second.
INLINE const uint8_t *steps_of(const uint8_t *block, int g) { return block + 4 * PANEL + g * PANEL; }

// Of q4: for each row of a group the offsets of both halves.
INLINE const int8_t *offsets_of(const uint8_t *block, int32_t groups, int g) {
    return (const int8_t *)block + 4 * PANEL + (groups + 2 * g) * PANEL;
}

// The levels of one row of group g.
INLINE void levels_of(Q8, const uint8_t *block, int32_t groups, int g, int row, int32_t *levels) {
    const int8_t *from = (const int8_t *)integers_of<Q8>(block, groups) + g * Q8::GROUP_BYTES + 4 * row;
    for (int k = 0; k < GROUP; k++) levels[k] = from[k / 4 * 4 * PANEL + k % 4];
}
INLINE void levels_of(Q4, const uint8_t *block, int32_t groups, int g, int row, int32_t *levels) {
    const uint8_t *from = integers_of<Q4>(block, groups) + g * Q4::GROUP_BYTES + 4 * row;
    const int8_t *offsets = offsets_of(block, groups, g) + 2 * row;
    const int32_t steps = steps_of(block, g)[row], low = (steps & 15) + 1, high = (steps >> 4) + 1;
    for (int k = 0; k < HALF; k++) {
        const int32_t byte = from[k / 4 * 4 * PANEL + k % 4];
        levels[k] = low * (byte & 15) - offsets[0];
        levels[HALF + k] = high * (byte >> 4) - offsets[1];
    }
}

#if SOBAN_VNNI == 2 && SOBAN_ISA == 2
constexpr int32_t STRIP_TOKENS = 32; // tiles of 32, 16 and 8
#elif SOBAN_VNNI || SOBAN_NEON
constexpr int32_t STRIP_TOKENS = 30; // tiles of 6 and 5
#else
constexpr int32_t STRIP_TOKENS = 32; // tiles of 4
#endif

// Rounded tokens that lie together: from the wanted one on to the end of its strip.
struct Strip {
    int8_t *values; // group g of token t: values + (g * stride + t) * GROUP
    float *scales;  // block b of token t: scales[b * stride + t]
    int32_t *pairs, *offsets;
    int32_t tokens;
    int64_t stride;
    soban::RoundedGroup *rounded; // of group g of token t: rounded[g * stride + t]
};

INLINE Strip from(const Strip &x, int32_t t, int32_t g) { // token t on, group g on, which begins a block
    const int64_t group = g * x.stride + t, block = g / BLOCK_GROUPS * x.stride + t;
    return {x.values + group * GROUP, x.scales + block, x.pairs + group, x.offsets + block, x.tokens - t, x.stride,
            x.rounded + group};
}

INLINE Strip strip_of(const soban::Activations &x, int32_t token) {
    const int32_t first = token / STRIP_TOKENS * STRIP_TOKENS, left = x.tokens - first;
    const int32_t tokens = left < STRIP_TOKENS ? left : STRIP_TOKENS;
    const int64_t groups = (int64_t)first * x.groups, blocks = (int64_t)first * soban::blocks_of(x.groups);
    const Strip whole = {
        x.values + groups * GROUP, x.scales + blocks, x.pairs + groups, x.offsets + blocks, tokens, tokens,
        x.rounded + groups};
    return from(whole, token - first, 0);
}

// What streams that are read side by side will want, and which of them is at hand.
struct Ahead {
    const uintptr_t *wanted;
    int streams, mine;
};

// Asks for a share of that with group g of a block: a little at a time, since a core has few requests at once, and from
// all streams in turn.
template <class Format> INLINE void prefetch_group(const Ahead &ahead, int groups, int g) {
    constexpr int64_t SHARE = (block_bytes_of<Format>(BLOCK_GROUPS) / BLOCK_GROUPS + 63) / 64 * 64;
    const bool in_turn = ahead.streams == BLOCK_GROUPS && groups == BLOCK_GROUPS;
    const uintptr_t from = ahead.wanted[in_turn ? g : ahead.mine] + (uintptr_t)((in_turn ? ahead.mine : g) * SHARE);
    for (int64_t b = 0; b < SHARE; b += 64) __builtin_prefetch((const void *)(from + (uintptr_t)b));
}

} // namespace
#endif
