// Products of one block (16 rows by 64 columns of q8 or q4) with the int8 of some tokens, in plain C++.
#ifndef SOBAN_BLOCKS_H
#define SOBAN_BLOCKS_H

#include "formats.h"
#include "kernels.h"

namespace {

// The integers, four neighbouring columns of each row after each other.
INLINE void unpack(Q8, const uint8_t *block, int8_t *weights) { memcpy(weights, block + Q8::NUMBERS, 1024); }
INLINE void unpack(Q4, const uint8_t *block, int8_t *weights) {
    const uint8_t *body = block + Q4::NUMBERS;
    for (int i = 0; i < 512; i++) {
        weights[i] = (int8_t)(body[i] & 15);
        weights[512 + i] = (int8_t)(body[i] >> 4);
    }
}

// Adds the block's part to sums[t][r], for TOKENS tokens from place on: see soban::Activations.
template <class Format, int TOKENS>
INLINE void add_block(const uint8_t *block, const soban::Activations &x, int64_t place, float *sums) {
    int8_t weights[1024];
    unpack(Format(), block, weights);
    uint16_t numbers[2 * PANEL];
    memcpy(numbers, block, Format::NUMBERS);
    for (int t = 0; t < TOKENS; t++) {
        const int8_t *values = x.values + (place + t) * GROUP;
        int32_t total[PANEL] = {};
        for (int i = 0; i < GROUP; i += 4) {
            const int8_t *w = weights + PANEL * i;
            for (int r = 0; r < PANEL; r++, w += 4) {
                total[r] += w[0] * values[i] + w[1] * values[i + 1] + w[2] * values[i + 2] + w[3] * values[i + 3];
            }
        }
        for (int r = 0; r < PANEL; r++) {
            float &sum = sums[t * PANEL + r];
            sum += (float)total[r] * (bf16_value(numbers[r]) * x.scales[place + t]);
            if (Format::MINIMA) sum += bf16_value(numbers[PANEL + r]) * x.sums[place + t];
        }
    }
}

} // namespace
#endif
