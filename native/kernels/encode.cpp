// Writing weights as bf16, q8 and q4, to the byte as formats.encode in src/soban/ops/formats.py does.
//
// Compiled once for each instruction set, without fused multiply-adds: each float operation is NumPy's. A vector holds
// one number for each of the 16 rows of a panel, in as many registers as that takes, so no sum changes its order.
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels.h"

namespace {

using soban::GROUP, soban::item_bytes, soban::PANEL;

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

INLINE Words to_bf16(Lanes values) {
    const Words bits = (Words)values;
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

INLINE Lanes as_bf16(Lanes values) { return (Lanes)(to_bf16(values) << 16); }

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

constexpr float MOST_BF16 = 0x1.fep127f, LEAST = 0x1p-126f; // the least normal number

INLINE Lanes larger(Lanes a, Lanes b) { return a > b ? a : b; }
INLINE Lanes smaller(Lanes a, Lanes b) { return a < b ? a : b; }

// The scale rounded to bf16; 0 below the least normal number, whose inverse would overflow.
INLINE Lanes scale_of(Lanes values) {
    const Lanes rounded = as_bf16(values);
    return rounded < LEAST ? Lanes{} : rounded;
}

// 0 for 0 and what has no finite inverse.
INLINE Lanes inverse_of(Lanes scale) { return scale >= LEAST ? 1.0f / scale : Lanes{}; }

// Rounded to nearest, ties to even, and clipped; a NaN gives `low`. Clipped first, which changes nothing, so that
// the addition below rounds to the unit.
INLINE Lanes nearest(Lanes steps, float low, float high) {
    const Lanes inside = smaller(larger(steps, splat(low)), splat(high));
    return (inside + 12582912.0f) - 12582912.0f; // 1.5 * 2**23
}

// From x to the integers, in place; returns the scales.
INLINE Lanes quantise_q8(Lanes *x) {
    Lanes most = {};
    for (int k = 0; k < GROUP; k++) most = larger((Lanes)((Words)x[k] & 0x7fffffff), most);
    const Lanes scale = scale_of(most / 127.0f), inverse = inverse_of(scale);
    for (int k = 0; k < GROUP; k++) x[k] = nearest(x[k] * inverse, -127.0f, 127.0f);
    return scale;
}

struct Fit { // 16 levels, the sum of their integers, and the squared error
    Lanes scale, minimum, total, error;
};

struct Sums {
    Lanes y, squares;
};

// formats._fit: from the nearest integers for a scale and a minimum to the best scale and minimum for them.
INLINE Fit refit(const Lanes *y, const Sums &sums, Lanes scale, Lanes minimum) {
    const Lanes inverse = inverse_of(scale);
    Lanes total = {}, squares = {}, products = {};
    for (int k = 0; k < GROUP; k++) {
        const Lanes q = nearest((y[k] - minimum) * inverse, 0.0f, 15.0f);
        total += q;
        squares += q * q;
        products += y[k] * q;
    }
    const Lanes spread = (float)GROUP * squares - total * total; // a whole number below 2**24
    const Lanes top = (float)GROUP * products - total * sums.y;
    const Lanes slope = spread != 0.0f ? top / spread : Lanes{};
    const Lanes offset = (sums.y - slope * total) * (1.0f / 64);
    return {slope, offset, total, (sums.squares - slope * products) - offset * sums.y};
}

struct Move {
    float factor, shift;
};

constexpr float FIRST_SPAN = 0.94f; // formats.FIRST_SPAN, formats.MOVES
constexpr Move MOVES[] = {{0.97f, 0.25f}, {0.97f, -0.25f}, {1.03f, 0.25f}, {1.03f, -0.25f},
                          {0.96f, 0.0f},  {1.04f, 0.0f},   {1.0f, 0.25f},  {1.0f, -0.25f},
                          {0.98f, 0.15f}, {0.98f, -0.15f}, {1.02f, 0.15f}, {1.02f, -0.15f}};

// The 16 levels for each row of y, which is from -1 to 1.
INLINE Fit search(const Lanes *y, const Sums &sums) {
    Fit best = refit(y, sums, splat(FIRST_SPAN * (float)(2.0 / 15.0)), splat(-FIRST_SPAN));
    for (const Move &move : MOVES) {
        const float drift = 7.5f * (1.0f - move.factor) + move.shift;
        const Fit tried = refit(y, sums, best.scale * move.factor, best.minimum + best.scale * drift);
        const Ints better = tried.error < best.error;
        best.scale = better ? tried.scale : best.scale;
        best.minimum = better ? tried.minimum : best.minimum;
        best.total = better ? tried.total : best.total;
        best.error = better ? tried.error : best.error;
    }
    return best;
}

struct Levels {
    Lanes scale, minimum;
};

// From x to the integers, in place.
INLINE Levels quantise_q4(Lanes *x) {
    Lanes low = x[0], high = x[0], y[GROUP];
    for (int k = 1; k < GROUP; k++) {
        low = smaller(x[k], low);
        high = larger(x[k], high);
    }
    const Lanes middle = low * 0.5f + high * 0.5f, half = high * 0.5f - low * 0.5f, to_one = inverse_of(half);
    Sums sums = {};
    for (int k = 0; k < GROUP; k++) {
        y[k] = (x[k] - middle) * to_one;
        sums.y += y[k];
        sums.squares += y[k] * y[k];
    }
    const Fit best = search(y, sums);
    const Lanes scale = scale_of(best.scale * half);
    const Lanes mean = middle + half * (sums.y * (1.0f / 64)) - scale * (best.total * (1.0f / 64));
    const Lanes within = smaller(larger(mean, splat(-MOST_BF16)), splat(MOST_BF16));
    const Lanes minimum = as_bf16(within + 0.0f); // never -0, which NumPy may pick or not
    const Lanes inverse = inverse_of(scale);
    for (int k = 0; k < GROUP; k++) x[k] = nearest((x[k] - minimum) * inverse, 0.0f, 15.0f);
    return {scale, minimum};
}

INLINE void write_bf16(uint8_t *to, Lanes values) {
    const Words bits = to_bf16(values);
    for (int r = 0; r < PANEL; r++) {
        const uint16_t half = (uint16_t)bits[r];
        memcpy(to + 2 * r, &half, 2);
    }
}

// Neighbouring numbers of each row, of which each fills a byte, one after the other.
INLINE void write_words(uint8_t *to, Words first, Words second, Words third, Words fourth) {
    const Words word = first | second << 8 | third << 16 | fourth << 24;
    memcpy(to, &word, sizeof word);
}

// Integers from 0 to 15 with what they stand for.
INLINE void write_nibbles(uint8_t *block, Lanes scale, Lanes minimum, const Words *q) {
    write_bf16(block, scale);
    write_bf16(block + 2 * PANEL, minimum);
    uint8_t *to = block + 4 * PANEL;
    for (int k = 0; k < GROUP / 2; k += 4, to += 4 * PANEL) {
        const Words *low = q + k, *high = low + GROUP / 2;
        write_words(to, low[0] | high[0] << 4, low[1] | high[1] << 4, low[2] | high[2] << 4, low[3] | high[3] << 4);
    }
}

INLINE Words whole(Lanes values) { return (Words) __builtin_convertvector(values, Ints); }

void write_q8(Lanes *x, uint8_t *block) {
    write_bf16(block, quantise_q8(x));
    uint8_t *to = block + 2 * PANEL;
    for (int k = 0; k < GROUP; k += 4, to += 4 * PANEL) {
        write_words(to, whole(x[k]) & 255, whole(x[k + 1]) & 255, whole(x[k + 2]) & 255, whole(x[k + 3]) & 255);
    }
}

void write_q4(Lanes *x, uint8_t *block) {
    const Levels levels = quantise_q4(x);
    Words q[GROUP];
    for (int k = 0; k < GROUP; k++) q[k] = whole(x[k]);
    write_nibbles(block, levels.scale, levels.minimum, q);
}

// formats.halves: four of the eight bits of q8.
void write_half(Lanes *x, uint8_t *block, bool lower) {
    const Lanes scale = quantise_q8(x), middle = as_bf16(scale * (7.5f - 128));
    Words q[GROUP];
    for (int k = 0; k < GROUP; k++) {
        const Words above = whole(x[k]) + 128; // 1..255
        q[k] = lower ? above & 15 : above >> 4;
    }
    if (lower) {
        write_nibbles(block, scale, scale * -128.0f - middle, q);
    } else {
        write_nibbles(block, scale * 16.0f, middle, q);
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
    float by_row[PANEL][GROUP] = {};
    alignas(Lanes) float by_column[GROUP][PANEL];
    for (int64_t first = 0; first < columns; first += GROUP) {
        const int64_t count = columns - first < GROUP ? columns - first : GROUP;
        if (count < GROUP) memset(by_row, 0, sizeof by_row);
        for (int32_t r = 0; r < rows; r++) {
            const int64_t place = (r * columns + first) * item_bytes(source_format);
            widen((const char *)source + place, source_format, count, by_row[r]);
        }
        for (int k = 0; k < GROUP; k++) {
            for (int r = 0; r < PANEL; r++) by_column[k][r] = by_row[r][k];
        }
        Lanes *x = (Lanes *)by_column;
        switch (format) {
        case SOBAN_Q8: write_q8(x, to); break;
        case SOBAN_Q4: write_q4(x, to); break;
        default: write_half(x, to, format == SOBAN_LOWER);
        }
        to += format == SOBAN_Q8 ? 2 * PANEL + PANEL * GROUP : 4 * PANEL + PANEL * GROUP / 2;
    }
    return -1;
}

} // namespace

namespace soban {
extern const Encoders SOBAN_TABLE;
const Encoders SOBAN_TABLE = {panel, find_not_finite};
} // namespace soban
