// Types of GGUF that are computed with as they are. src/soban/ops/gguf.py tells how they lie in panels.
//
// A weight is scale x level - minimum. Levels are whole numbers that fit a byte; scale and minimum belong to 32 columns
// of a row, or to 16. How levels are multiplied by an instruction set stands beside its products, in file_*.h.
#ifndef SOBAN_FILE_FORMATS_H
#define SOBAN_FILE_FORMATS_H

#include "formats.h"

namespace {

template <int32_t FORMAT, int32_t ZERO_CODE, bool IS_CURVED = false> struct FileFormat {
    static constexpr int32_t NUMBER = FORMAT;
    static constexpr bool OF_FILE = true, NIBBLES = true;
    static constexpr bool NESTED = soban::file_shape(FORMAT).nested, MINIMA = soban::file_shape(FORMAT).minima;
    static constexpr int BITS = soban::file_shape(FORMAT).bits, SHARE = soban::file_shape(FORMAT).share;
    static constexpr bool CURVED = IS_CURVED;  // a code is the place of its level in CURVE
    static constexpr int32_t ZERO = ZERO_CODE; // else it is the level plus this; of 8 bits, the level itself
    static constexpr int64_t GROUP_BYTES = PANEL * GROUP * BITS / 8;
};

struct Q8_0 : FileFormat<SOBAN_Q8_0, 0> {};
struct Q4_0 : FileFormat<SOBAN_Q4_0, 8> {};
struct Q4_1 : FileFormat<SOBAN_Q4_1, 0> {};
struct Q5_0 : FileFormat<SOBAN_Q5_0, 16> {};
struct Q5_1 : FileFormat<SOBAN_Q5_1, 0> {};
struct IQ4_NL : FileFormat<SOBAN_IQ4_NL, 0, true> {};
struct Q4_K : FileFormat<SOBAN_Q4_K, 0> {};
struct Q5_K : FileFormat<SOBAN_Q5_K, 0> {};
struct Q6_K : FileFormat<SOBAN_Q6_K, 32> {};
struct IQ4_XS : FileFormat<SOBAN_IQ4_XS, 0, true> {};

alignas(16) constexpr int8_t CURVE[16] = {// ggml's kvalues_iq4nl
                                          -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// Calls body(one of the quantised formats).
template <class Body> INLINE void with_format(int32_t format, Body body) {
    switch (format) {
    case SOBAN_Q8: return body(Q8());
    case SOBAN_Q4: return body(Q4());
    case SOBAN_Q8_0: return body(Q8_0());
    case SOBAN_Q4_0: return body(Q4_0());
    case SOBAN_Q4_1: return body(Q4_1());
    case SOBAN_Q5_0: return body(Q5_0());
    case SOBAN_Q5_1: return body(Q5_1());
    case SOBAN_IQ4_NL: return body(IQ4_NL());
    case SOBAN_Q4_K: return body(Q4_K());
    case SOBAN_Q5_K: return body(Q5_K());
    case SOBAN_Q6_K: return body(Q6_K());
    default: return body(IQ4_XS());
    }
}

// Where the bits of a code above the fourth are. Of five bits a byte of a vector holds the fifth of 8 quads, of six the
// upper two of 4: the first half of them for the low nibbles, the others for the high ones.
template <class Format> struct Above {
    static constexpr int WIDTH_BITS = Format::BITS - 4, QUADS = WIDTH_BITS ? 8 / WIDTH_BITS : 1, LOW = QUADS / 2;
    INLINE constexpr int vector(int quad) { return quad % 8 / LOW; }
    INLINE constexpr int shift(int quad) { return (quad % 8 % LOW + (quad < 8 ? 0 : LOW)) * WIDTH_BITS; }
};

// WIDTH scales, or minima, of columns from part s of a group on; `first` is the first row.
template <class Format, bool MINIMUM>
INLINE V numbers_of(const uint8_t *block, int32_t groups, int g, int s, int first) {
    if (!Format::NESTED) {
        const int64_t kind = MINIMUM ? 4 * PANEL * groups : 0;
        return F16::load(block + kind + 2 * ((2 * g + s) * PANEL + first));
    }
    constexpr int SHARES = BLOCK / Format::SHARE, KINDS = Format::MINIMA ? 2 : 1;
    const uint8_t *steps = block + KINDS * 2 * PANEL + (MINIMUM ? SHARES * PANEL : 0);
    const V outer = F16::load(block + (MINIMUM ? 2 * PANEL : 0) + 2 * first);
    return outer * widen_int8(steps + (g * (GROUP / Format::SHARE) + s) * PANEL + first);
}

// The level of a row at column k of group g.
template <class Format> INLINE int32_t level_of(const uint8_t *block, int32_t groups, int g, int row, int k) {
    const uint8_t *from = block + soban::head_bytes(Format::NUMBER, groups) + g * Format::GROUP_BYTES;
    const int quad = k / 4, place = 4 * row + k % 4;
    if (Format::BITS == 8) return (int8_t)from[4 * PANEL * quad + place];
    const int32_t byte = from[4 * PANEL * (quad % 8) + place];
    int32_t code = quad < 8 ? byte & 15 : byte >> 4;
    if (Format::BITS > 4) {
        typedef Above<Format> Bits;
        const int32_t above = from[4 * PANEL * (8 + Bits::vector(quad)) + place] >> Bits::shift(quad);
        code |= (above & ((1 << Bits::WIDTH_BITS) - 1)) << 4;
    }
    return Format::CURVED ? CURVE[code] : code - Format::ZERO;
}

} // namespace
#endif
