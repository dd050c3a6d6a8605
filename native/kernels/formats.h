// The quantised formats: what a block is, 16 rows (a panel) by GROUP columns. src/soban/ops/formats.py tells the
// layouts.
//
// How a block's integers become what an instruction set multiplies is told beside its products: unpack() in blocks_*.h.
#ifndef SOBAN_FORMATS_H
#define SOBAN_FORMATS_H

#include "simd.h"

namespace {

struct Q8 {
    static constexpr int64_t BYTES = 1056;  // of a block
    static constexpr int32_t NUMBERS = 32;  // bytes of scales (and minima) before the integers
    static constexpr bool MINIMA = false;   // each row has a minimum beside its scale
    static constexpr bool NIBBLES = false;  // integers of 4 bits, 0 to 15: column k + 32 lies above column k
    static constexpr bool UNSIGNED = false; // integers are never below 0
};

struct Q4 {
    static constexpr int64_t BYTES = 576;
    static constexpr int32_t NUMBERS = 64;
    static constexpr bool MINIMA = true, NIBBLES = true, UNSIGNED = true;
};

// Scales and minima of the rows from r on.
template <class Format> INLINE V scales_of(const uint8_t *block, int r) { return BF16::load(block + 2 * r); }
template <class Format> INLINE V minima_of(const uint8_t *block, int r) {
    return Format::MINIMA ? BF16::load(block + 2 * PANEL + 2 * r) : V{};
}

// One row of a block as floats, times `factor`.
template <class Format> INLINE void widen_row(const uint8_t *block, int row, float factor, float *values) {
    uint16_t numbers[2] = {};
    memcpy(numbers, block + 2 * row, 2);
    if (Format::MINIMA) memcpy(numbers + 1, block + 2 * PANEL + 2 * row, 2);
    const float step = bf16_value(numbers[0]), minimum = bf16_value(numbers[1]);
    const uint8_t *bytes = block + Format::NUMBERS + 4 * row;
    for (int k = 0; k < GROUP; k++) {
        const int place = Format::NIBBLES ? k % (GROUP / 2) : k;
        const uint8_t byte = bytes[place / 4 * 4 * PANEL + place % 4];
        const int q = !Format::NIBBLES ? (int8_t)byte : k < GROUP / 2 ? byte & 15 : byte >> 4;
        values[k] = (step * (float)q + minimum) * factor;
    }
}

// Calls body(one of the above).
template <class Body> INLINE void with_format(int32_t format, Body body) {
    switch (format) {
    case SOBAN_Q8: return body(Q8());
    default: return body(Q4());
    }
}

} // namespace
#endif
