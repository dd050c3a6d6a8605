// Products of one block (16 rows by up to 256 columns of q8 or q4) with the int8 of some tokens, in plain C++.
#ifndef SOBAN_BLOCKS_H
#define SOBAN_BLOCKS_H

#include "formats.h"
#include "kernels.h"

namespace {

constexpr int PARTS = PANEL / WIDTH;
constexpr int64_t EXPANDED = PANEL * GROUP; // bytes of a group

// The levels of a group, four neighbouring columns of each row after each other.
INLINE void expand_group(Q8, const uint8_t *block, int groups, int g, int8_t *levels) {
    memcpy(levels, integers_of<Q8>(block, groups) + g * Q8::GROUP_BYTES, EXPANDED);
}
INLINE void expand_group(Q4, const uint8_t *block, int groups, int g, int8_t *levels) {
    const uint8_t *from = integers_of<Q4>(block, groups) + g * Q4::GROUP_BYTES, *steps = steps_of(block, g);
    const int8_t *offsets = offsets_of(block, groups, g);
    for (int i = 0; i < PANEL * HALF; i++) {
        const int r = i / 4 % PANEL;
        levels[i] = (int8_t)(((steps[r] & 15) + 1) * (from[i] & 15) - offsets[2 * r]);
        levels[PANEL * HALF + i] = (int8_t)(((steps[r] >> 4) + 1) * (from[i] >> 4) - offsets[2 * r + 1]);
    }
}

template <class Format> INLINE void expand(const uint8_t *block, int groups, int g, uint8_t *to) {
    expand_group(Format(), block, groups, g, (int8_t *)to);
}

// Adds one block to sums[t][r], for the first TOKENS tokens of x, which begins with the block's groups.
template <class Format, int PANELS, int TOKENS>
INLINE void add_expanded(const uint8_t *block, int64_t, int groups, const uint8_t *expanded, int64_t, const Strip &x,
                         float *sums, int width) {
    static_assert(PANELS == 1);
    for (int t = 0; t < TOKENS; t++) {
        int32_t total[PANEL] = {};
        const int8_t *w = (const int8_t *)expanded;
        for (int g = 0; g < groups; g++) {
            const int8_t *values = x.values + (g * x.stride + t) * GROUP;
            for (int i = 0; i < GROUP; i += 4) {
                for (int r = 0; r < PANEL; r++, w += 4) {
                    total[r] += w[0] * values[i] + w[1] * values[i + 1] + w[2] * values[i + 2] + w[3] * values[i + 3];
                }
            }
        }
        for (int r = 0; r < PANEL; r++) {
            sums[t * width + r] += (float)total[r] * (scales_of(block)[r] * x.scales[t]);
        }
    }
}

template <int TOKENS, class Format>
INLINE void add_block(Format, const uint8_t *block, int groups, const Strip &x, float *sums, const Ahead &ahead) {
    uint8_t levels[BLOCK_GROUPS * EXPANDED];
    for (int g = 0; g < groups; g++) {
        prefetch_group<Format>(ahead, groups, g);
        expand<Format>(block, groups, g, levels + g * EXPANDED);
    }
    add_expanded<Format, 1, TOKENS>(block, 0, groups, levels, 0, x, sums, PANEL);
}

} // namespace
#endif
