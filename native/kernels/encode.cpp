// Writing weights as bf16, q8 and q4, to the byte as formats.encode in src/soban/ops/formats.py does.
//
// Compiled once for each instruction set, without fused multiply-adds: each float operation is NumPy's. A vector holds
// one number for each of the 16 rows of a panel, in as many registers as that takes, so no sum changes its order.
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels.h"

namespace {

using soban::BLOCK, soban::GROUP, soban::HALF, soban::head_bytes, soban::item_bytes, soban::packed_block, soban::PANEL;

// What the 16 rows of a panel have at the same place.
typedef float Lanes __attribute__((vector_size(4 * PANEL)));
typedef int32_t Ints __attribute__((vector_size(4 * PANEL)));
typedef uint32_t Words __attribute__((vector_size(4 * PANEL)));

INLINE Lanes splat(float value) { return value - Lanes{}; }

uint16_t to_bf16(float value) { // to nearest, ties to even
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float from_f16(uint16_t half) {
    // A half's exponent and mantissa in a float's places are 2**-112 times the value, also when subnormal.
    const uint32_t moved = (uint32_t)(half & 0x7fff) << 13;
    float size;
    memcpy(&size, &moved, 4);
    size *= 0x1p112f;
    return half & 0x8000 ? -size : size;
}

// Plain values of any alignment as floats.
INLINE void widen(const void *from, int32_t format, int64_t count, float *to) {
    const char *data = (const char *)from;
    uint16_t half;
    switch (format) {
    case SOBAN_F32: memcpy(to, data, 4 * count); return;
    case SOBAN_F16:
        for (int64_t i = 0; i < count; i++) {
            memcpy(&half, data + 2 * i, 2);
            to[i] = from_f16(half);
        }
        return;
    default:
        for (int64_t i = 0; i < count; i++) {
            memcpy(&half, data + 2 * i, 2);
            const uint32_t bits = (uint32_t)half << 16;
            memcpy(to + i, &bits, 4);
        }
    }
}

// All ones in the exponent: NaN or infinity.
bool finite_16(const char *data, int64_t count, uint16_t exponent) {
    bool bad = false;
    for (int64_t i = 0; i < count; i++) {
        uint16_t bits;
        memcpy(&bits, data + 2 * i, 2);
        bad |= (bits & exponent) == exponent;
    }
    return !bad;
}

bool finite_32(const char *data, int64_t count) {
    bool bad = false;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, data + 4 * i, 4);
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !bad;
}

bool all_finite(const void *values, int32_t format, int64_t first, int64_t count) {
    const char *data = (const char *)values;
    if (format == SOBAN_F32) return finite_32(data + 4 * first, count);
    return finite_16(data + 2 * first, count, format == SOBAN_F16 ? 0x7c00 : 0x7f80);
}

int64_t find_not_finite(const void *values, int32_t format, int64_t count) {
    constexpr int64_t STEP = 4096;
    for (int64_t i = 0; i < count; i += STEP) {
        const int64_t n = count - i < STEP ? count - i : STEP;
        if (all_finite(values, format, i, n)) continue;
        for (int64_t j = i; j < i + n; j++) {
            if (!all_finite(values, format, j, 1)) return j;
        }
    }
    return -1;
}

constexpr float LEAST = 0x1p-126f; // the least normal number

INLINE Lanes larger(Lanes a, Lanes b) { return a > b ? a : b; }
INLINE Lanes smaller(Lanes a, Lanes b) { return a < b ? a : b; }

// 0 below the least normal number, whose inverse would overflow.
INLINE Lanes scale_of(Lanes values) { return values < LEAST ? Lanes{} : values; }

// 0 for 0 and what has no finite inverse.
INLINE Lanes inverse_of(Lanes scale) { return scale >= LEAST ? 1.0f / scale : Lanes{}; }

// Rounded to nearest, ties to even, and clipped. Clipped first, which changes nothing, so that the addition below
// rounds to the unit.
INLINE Lanes nearest(Lanes values, Lanes least, float most) {
    const Lanes inside = smaller(larger(values, least), splat(most));
    return (inside + 12582912.0f) - 12582912.0f; // 1.5 * 2**23
}

// formats.turn, inverse, of `columns` columns of a block, a multiple of 64, in place.
void turn_back(Lanes *x, int columns) {
    for (int size = BLOCK; columns; size /= 2) {
        if (columns < size) continue;
        const float share = 1.0f / (float)size;
        for (int k = 0; k < size; k++) x[k] *= share;
        for (int stride = size / 2; stride; stride /= 2) {
            for (int k = 0; k < size; k++) {
                if (k & stride) continue;
                const Lanes a = x[k], b = x[k + stride];
                x[k] = a + b;
                x[k + stride] = a - b;
            }
        }
        x += size;
        columns -= size;
    }
}

// What makes the largest of a row 127.
INLINE Lanes block_scale(const Lanes *x, int columns) {
    Lanes most = {};
    for (int k = 0; k < columns; k++) most = larger((Lanes)((Words)x[k] & 0x7fffffff), most);
    return scale_of(most / 127.0f);
}

struct Fit { // 16 levels, and their squared error but for the sum of squares of y
    Lanes step, offset, error;
};

INLINE Lanes integer(Lanes y, Lanes offset, Lanes inverse) { return nearest((y + offset) * inverse, Lanes{}, 15.0f); }

// formats._fit
INLINE Fit refit(const Lanes *y, Lanes total, Lanes step, Lanes offset) {
    const Lanes least = 15.0f * step - 127.0f, inverse = 1.0f / step, first = nearest(offset, least, 127.0f);
    Lanes count = {}, squares = {}, products = {};
    for (int k = 0; k < HALF; k++) {
        const Lanes q = integer(y[k], first, inverse);
        count += q;
        squares += q * q;
        products += y[k] * q;
    }
    const Lanes best = nearest((step * count - total) * (1.0f / HALF), least, 127.0f);
    const Lanes of_step = step * (step * squares - 2.0f * (products + best * count));
    return {step, best, of_step + best * ((float)HALF * best + 2.0f * total)};
}

struct Move {
    float longer, shift;
};

constexpr float MOST_STEP = 16; // formats.MOST_STEP, formats.MOVES
constexpr Move MOVES[] = {{0, 0.25f},   {0, -0.25f}, {1, 0.25f}, {1, -0.25f}, {-1, 0.25f},
                          {-1, -0.25f}, {1, 0},      {-1, 0},    {0, 0.25f},  {0, -0.25f}};

// From y, a half of a group in units of the scale, to its integers in place.
INLINE Fit fit_half(Lanes *y) {
    Lanes low = y[0], high = y[0], total = y[0];
    for (int k = 1; k < HALF; k++) {
        low = smaller(y[k], low);
        high = larger(y[k], high);
        total += y[k];
    }
    const Lanes step = nearest((high - low) * (float)(1.0 / 15.0), splat(1.0f), MOST_STEP);
    Fit best = refit(y, total, step, 7.5f * step - (low + high) * 0.5f);
    for (const Move &move : MOVES) {
        const Lanes moved = best.offset + (7.5f * move.longer - move.shift * best.step);
        const Fit tried = refit(y, total, nearest(best.step + move.longer, splat(1.0f), MOST_STEP), moved);
        const Ints better = tried.error < best.error;
        best.step = better ? tried.step : best.step;
        best.offset = better ? tried.offset : best.offset;
        best.error = better ? tried.error : best.error;
    }
    const Lanes inverse = 1.0f / best.step;
    for (int k = 0; k < HALF; k++) y[k] = integer(y[k], best.offset, inverse);
    return best;
}

INLINE Words whole(Lanes values) { return (Words) __builtin_convertvector(values, Ints); }

// Neighbouring numbers of each row, of which each fills a byte, one after the other.
INLINE void write_words(uint8_t *to, Words first, Words second, Words third, Words fourth) {
    const Words word = first | second << 8 | third << 16 | fourth << 24;
    memcpy(to, &word, sizeof word);
}

// A block that is to be written: turned, of `groups` groups of 64 columns.
struct Block {
    Lanes *x;
    int groups;
    uint8_t *to;
};

INLINE void write_scale(const Block &block, Lanes scale) { memcpy(block.to, &scale, sizeof scale); }

void write_q8(const Block &block) {
    const Lanes scale = block_scale(block.x, block.groups * GROUP), inverse = inverse_of(scale);
    write_scale(block, scale);
    uint8_t *to = block.to + head_bytes(SOBAN_Q8, block.groups);
    for (int k = 0; k < block.groups * GROUP; k += 4, to += 4 * PANEL) {
        Words q[4];
        for (int j = 0; j < 4; j++) q[j] = whole(nearest(block.x[k + j] * inverse, splat(-127.0f), 127.0f)) & 255;
        write_words(to, q[0], q[1], q[2], q[3]);
    }
}

// Integers from 0 to 15 of group g, with the steps and offsets of its halves.
void write_nibbles(const Block &block, int g, const Words *q, const Words *steps, const Words *offsets) {
    uint8_t *step = block.to + 4 * PANEL + g * PANEL, *offset = block.to + 4 * PANEL + (block.groups + 2 * g) * PANEL;
    for (int r = 0; r < PANEL; r++) {
        step[r] = (uint8_t)((steps[0][r] - 1) | (steps[1][r] - 1) << 4);
        for (int h = 0; h < 2; h++) offset[2 * r + h] = (uint8_t)offsets[h][r];
    }
    uint8_t *to = block.to + head_bytes(SOBAN_Q4, block.groups) + g * PANEL * HALF;
    for (int k = 0; k < HALF; k += 4, to += 4 * PANEL) {
        const Words *low = q + k, *high = low + HALF;
        write_words(to, low[0] | high[0] << 4, low[1] | high[1] << 4, low[2] | high[2] << 4, low[3] | high[3] << 4);
    }
}

// The scale, and zeros where steps and offsets do not reach.
void begin_q4(const Block &block, Lanes scale) {
    memset(block.to, 0, (size_t)head_bytes(SOBAN_Q4, block.groups));
    write_scale(block, scale);
}

void write_q4(const Block &block) {
    const Lanes scale = block_scale(block.x, block.groups * GROUP), inverse = inverse_of(scale);
    begin_q4(block, scale);
    for (int g = 0; g < block.groups; g++) {
        Lanes y[GROUP];
        Words q[GROUP], steps[2], offsets[2];
        for (int k = 0; k < GROUP; k++) y[k] = block.x[g * GROUP + k] * inverse;
        for (int h = 0; h < 2; h++) {
            const Fit fit = fit_half(y + h * HALF);
            steps[h] = whole(fit.step);
            offsets[h] = whole(fit.offset);
        }
        for (int k = 0; k < GROUP; k++) q[k] = whole(y[k]);
        write_nibbles(block, g, q, steps, offsets);
    }
}

// formats.halves: four of the eight bits of q8.
void write_half(const Block &block, bool lower) {
    const Lanes scale = block_scale(block.x, block.groups * GROUP), inverse = inverse_of(scale);
    begin_q4(block, scale);
    const Words step = Words{} + (lower ? 1 : 16), offset = Words{} + (lower ? 8 : 120);
    const Words steps[] = {step, step}, offsets[] = {offset, offset};
    for (int g = 0; g < block.groups; g++) {
        Words q[GROUP];
        for (int k = 0; k < GROUP; k++) {
            const Lanes level = nearest(block.x[g * GROUP + k] * inverse, splat(-127.0f), 127.0f);
            const Words above = whole(level) + 128; // 1..255
            q[k] = lower ? above & 15 : above >> 4;
        }
        write_nibbles(block, g, q, steps, offsets);
    }
}

void write_plain_bf16(const void *source, int32_t source_format, int64_t count, uint8_t *to) {
    constexpr int64_t STEP = 1024;
    float values[STEP];
    for (int64_t i = 0; i < count; i += STEP) {
        const int64_t n = count - i < STEP ? count - i : STEP;
        widen((const char *)source + i * item_bytes(source_format), source_format, n, values);
        for (int64_t j = 0; j < n; j++) {
            const uint16_t bits = to_bf16(values[j]);
            memcpy(to + 2 * (i + j), &bits, 2);
        }
    }
}

int32_t panel(const void *source, int32_t source_format, int32_t rows, int64_t columns, int32_t format, void *target) {
    uint8_t *to = (uint8_t *)target;
    for (int32_t r = 0; r < rows; r++) {
        if (!all_finite(source, source_format, r * columns, columns)) return r;
    }
    if (format == SOBAN_BF16) {
        write_plain_bf16(source, source_format, rows * columns, to);
        return -1;
    }
    float by_row[PANEL][BLOCK] = {};
    alignas(Lanes) float by_column[BLOCK][PANEL];
    for (int64_t first = 0; first < columns; first += BLOCK) {
        const int64_t count = columns - first < BLOCK ? columns - first : BLOCK;
        const int groups = (int)((count + GROUP - 1) / GROUP);
        if (count < groups * GROUP) memset(by_row, 0, sizeof by_row);
        for (int32_t r = 0; r < rows; r++) {
            const int64_t place = (r * columns + first) * item_bytes(source_format);
            widen((const char *)source + place, source_format, count, by_row[r]);
        }
        for (int k = 0; k < groups * GROUP; k++) {
            for (int r = 0; r < PANEL; r++) by_column[k][r] = by_row[r][k];
        }
        const Block block = {(Lanes *)by_column, groups, to};
        turn_back(block.x, groups * GROUP);
        switch (format) {
        case SOBAN_Q8: write_q8(block); break;
        case SOBAN_Q4: write_q4(block); break;
        default: write_half(block, format == SOBAN_LOWER);
        }
        to += packed_block(format, groups);
    }
    return -1;
}

} // namespace

namespace soban {
extern const Encoders SOBAN_TABLE;
const Encoders SOBAN_TABLE = {panel, find_not_finite};
} // namespace soban
