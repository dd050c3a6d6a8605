// Writing weights as bf16, q8 and q4, to the byte as formats.encode in src/soban/ops/formats.py does.
//
// Compiled once for each instruction set, without fused multiply-adds: each float operation is NumPy's. The inner
// loops go over the 16 rows of a panel, so that the compiler makes vectors of them without changing any sum.
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels.h"

namespace {

using soban::GROUP, soban::PANEL;

typedef float Row16[PANEL];

uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

uint16_t to_bf16(float value) { // to nearest, ties to even
    const uint32_t bits = bits_of(value);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float as_bf16(float value) { return float_of((uint32_t)to_bf16(value) << 16); }

float from_f16(uint16_t half) {
    // A half's exponent and mantissa in a float's places are 2**-112 times the value, also when subnormal.
    const float size = float_of((uint32_t)(half & 0x7fff) << 13) * 0x1p112f;
    return float_of(bits_of(size) | (uint32_t)(half & 0x8000) << 16);
}

// Value `index` of a plain array of any alignment.
float value_at(const void *values, int32_t format, int64_t index) {
    const char *data = (const char *)values;
    uint16_t half;
    float value;
    switch (format) {
    case SOBAN_F32: memcpy(&value, data + 4 * index, 4); return value;
    case SOBAN_F16: memcpy(&half, data + 2 * index, 2); return from_f16(half);
    default: memcpy(&half, data + 2 * index, 2); return float_of((uint32_t)half << 16);
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

constexpr float MOST_BF16 = 0x1.fep127f;

// The scale rounded to bf16; 0 below the least normal number, whose inverse would overflow.
float scale_of(float value) {
    const float rounded = as_bf16(value);
    return rounded < 0x1p-126f ? 0.0f : rounded;
}

// Rounded to nearest, ties to even, and clipped; a NaN gives `low`. Clipped first, which changes nothing, so that
// the addition below rounds to the unit.
float nearest(float steps, float low, float high) {
    const float above = steps > low ? steps : low, inside = above < high ? above : high;
    return (inside + 12582912.0f) - 12582912.0f; // 1.5 * 2**23
}

void quantise_q8(const Row16 *x, float *scales, Row16 *q) {
    for (int r = 0; r < PANEL; r++) {
        float most = 0.0f;
        for (int k = 0; k < GROUP; k++) most = fabsf(x[k][r]) > most ? fabsf(x[k][r]) : most;
        scales[r] = scale_of(most / 127.0f);
    }
    Row16 inverse;
    for (int r = 0; r < PANEL; r++) inverse[r] = scales[r] != 0.0f ? 1.0f / scales[r] : 0.0f;
    for (int k = 0; k < GROUP; k++) {
        for (int r = 0; r < PANEL; r++) q[k][r] = nearest(x[k][r] * inverse[r], -127.0f, 127.0f);
    }
}

// 0 for 0 and what has no finite inverse.
float inverse_of(float scale) { return scale >= 0x1p-126f ? 1.0f / scale : 0.0f; }

struct Fit { // of each row: 16 levels, the sum of its integers, and the squared error
    Row16 scale, minimum, total, error;
};

struct Sums { // of each row
    Row16 y, squares;
};

// formats._fit: from the nearest integers for fit's scale and minimum to the best scale and minimum for them.
void refit(const Row16 *y, const Sums &sums, Fit &fit) {
    Row16 inverse, minimum, total = {}, squares = {}, products = {};
    for (int r = 0; r < PANEL; r++) {
        inverse[r] = inverse_of(fit.scale[r]);
        minimum[r] = fit.minimum[r];
    }
    for (int k = 0; k < GROUP; k++) {
        for (int r = 0; r < PANEL; r++) {
            const float q = nearest((y[k][r] - minimum[r]) * inverse[r], 0.0f, 15.0f);
            total[r] = total[r] + q;
            squares[r] = squares[r] + q * q;
            products[r] = products[r] + y[k][r] * q;
        }
    }
    for (int r = 0; r < PANEL; r++) {
        const float spread = (float)GROUP * squares[r] - total[r] * total[r]; // a whole number below 2**24
        const float top = (float)GROUP * products[r] - total[r] * sums.y[r];
        const float slope = spread != 0.0f ? top / spread : 0.0f;
        const float offset = (sums.y[r] - slope * total[r]) * (1.0f / 64);
        fit.scale[r] = slope;
        fit.minimum[r] = offset;
        fit.total[r] = total[r];
        fit.error[r] = (sums.squares[r] - slope * products[r]) - offset * sums.y[r];
    }
}

struct Move {
    float factor, shift;
};

constexpr float FIRST_SPAN = 0.94f; // formats.FIRST_SPAN, formats.MOVES
constexpr Move MOVES[] = {{0.97f, 0.25f}, {0.97f, -0.25f}, {1.03f, 0.25f}, {1.03f, -0.25f},
                          {0.96f, 0.0f},  {1.04f, 0.0f},   {1.0f, 0.25f},  {1.0f, -0.25f},
                          {0.98f, 0.15f}, {0.98f, -0.15f}, {1.02f, 0.15f}, {1.02f, -0.15f}};

// The 16 levels of each row of y, which is from -1 to 1.
Fit search(const Row16 *y, const Sums &sums) {
    Fit best;
    for (int r = 0; r < PANEL; r++) {
        best.scale[r] = FIRST_SPAN * (float)(2.0 / 15.0);
        best.minimum[r] = -FIRST_SPAN;
    }
    refit(y, sums, best);
    for (const Move &move : MOVES) {
        const float drift = 7.5f * (1.0f - move.factor) + move.shift;
        Fit tried;
        for (int r = 0; r < PANEL; r++) {
            tried.scale[r] = best.scale[r] * move.factor;
            tried.minimum[r] = best.minimum[r] + best.scale[r] * drift;
        }
        refit(y, sums, tried);
        for (int r = 0; r < PANEL; r++) {
            const bool better = tried.error[r] < best.error[r];
            best.scale[r] = better ? tried.scale[r] : best.scale[r];
            best.minimum[r] = better ? tried.minimum[r] : best.minimum[r];
            best.total[r] = better ? tried.total[r] : best.total[r];
            best.error[r] = better ? tried.error[r] : best.error[r];
        }
    }
    return best;
}

void quantise_q4(const Row16 *x, float *scales, float *minima, Row16 *q) {
    Row16 middle, half, inverse, y[GROUP];
    Sums sums = {};
    for (int r = 0; r < PANEL; r++) {
        float low = x[0][r], high = x[0][r];
        for (int k = 1; k < GROUP; k++) {
            low = x[k][r] < low ? x[k][r] : low;
            high = x[k][r] > high ? x[k][r] : high;
        }
        middle[r] = low * 0.5f + high * 0.5f;
        half[r] = high * 0.5f - low * 0.5f;
        inverse[r] = inverse_of(half[r]);
    }
    for (int k = 0; k < GROUP; k++) {
        for (int r = 0; r < PANEL; r++) {
            y[k][r] = (x[k][r] - middle[r]) * inverse[r];
            sums.y[r] = sums.y[r] + y[k][r];
            sums.squares[r] = sums.squares[r] + y[k][r] * y[k][r];
        }
    }
    const Fit best = search(y, sums);
    for (int r = 0; r < PANEL; r++) {
        scales[r] = scale_of(best.scale[r] * half[r]);
        const float mean = middle[r] + half[r] * (sums.y[r] * (1.0f / 64)) - scales[r] * (best.total[r] * (1.0f / 64));
        const float within = mean > -MOST_BF16 ? mean : -MOST_BF16;
        minima[r] = as_bf16((within < MOST_BF16 ? within : MOST_BF16) + 0.0f); // never -0, which NumPy may pick or not
        inverse[r] = inverse_of(scales[r]);
    }
    for (int k = 0; k < GROUP; k++) {
        for (int r = 0; r < PANEL; r++) q[k][r] = nearest((x[k][r] - minima[r]) * inverse[r], 0.0f, 15.0f);
    }
}

void write_bf16(uint8_t *to, const float *values) {
    for (int r = 0; r < PANEL; r++) {
        const uint16_t bits = to_bf16(values[r]);
        memcpy(to + 2 * r, &bits, 2);
    }
}

void write_q8(const Row16 *x, uint8_t *block) {
    Row16 scales, q[GROUP];
    quantise_q8(x, scales, q);
    write_bf16(block, scales);
    for (int k = 0; k < GROUP; k++) {
        uint8_t *to = block + 32 + k / 4 * 64 + k % 4;
        for (int r = 0; r < PANEL; r++) to[4 * r] = (uint8_t)(int8_t)q[k][r];
    }
}

void write_q4(const Row16 *x, uint8_t *block) {
    Row16 scales = {}, minima = {}, q[GROUP] = {};
    quantise_q4(x, scales, minima, q);
    write_bf16(block, scales);
    write_bf16(block + 32, minima);
    for (int k = 0; k < GROUP / 2; k++) {
        uint8_t *to = block + 64 + k / 4 * 64 + k % 4;
        for (int r = 0; r < PANEL; r++) to[4 * r] = (uint8_t)((int)q[k][r] | (int)q[k + GROUP / 2][r] << 4);
    }
}

void write_plain_bf16(const void *source, int32_t source_format, int64_t count, uint8_t *to) {
    for (int64_t i = 0; i < count; i++) {
        const uint16_t bits = to_bf16(value_at(source, source_format, i));
        memcpy(to + 2 * i, &bits, 2);
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
    for (int64_t first = 0; first < columns; first += GROUP) {
        Row16 x[GROUP] = {};
        const int64_t left = columns - first < GROUP ? columns - first : GROUP;
        for (int32_t r = 0; r < rows; r++) {
            for (int64_t k = 0; k < left; k++) x[k][r] = value_at(source, source_format, r * columns + first + k);
        }
        if (format == SOBAN_Q8) {
            write_q8(x, to);
            to += 1056;
        } else {
            write_q4(x, to);
            to += 576;
        }
    }
    return -1;
}

} // namespace

namespace soban {
extern const Encoders SOBAN_TABLE;
const Encoders SOBAN_TABLE = {panel, find_not_finite};
} // namespace soban
