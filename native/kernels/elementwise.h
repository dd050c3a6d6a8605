// Kernels that treat one row at a time: each is the reference's function of the same name for one token.
#ifndef SOBAN_ELEMENTWISE_H
#define SOBAN_ELEMENTWISE_H

#include "activations.h"
#include "file_formats.h"
#include "kernels.h"
#include "rounding.h"

namespace {

template <class Stored> void embed_plain(const char *row, int32_t columns, float scale, float *out) {
    in_vectors(columns, [&](int64_t i, int n) {
        const void *from = row + i * Stored::SIZE;
        const V x = n == WIDTH ? Stored::load(from) : Stored::load_part(from, n);
        store_up_to(out + i, x * splat(scale), n);
    });
}

template <class Format, int GROUPS>
INLINE void embed_block(const uint8_t *block, int32_t row, int32_t count, float scale, float *out) {
    constexpr int VECTORS = GROUPS * GROUP / WIDTH;
    int32_t levels[GROUPS * GROUP];
    for (int g = 0; g < GROUPS; g++) levels_of(Format(), block, GROUPS, g, row, levels + g * GROUP);
    V values[VECTORS];
    const V step = splat(scales_of(block)[row]);
    for (int i = 0; i < VECTORS; i++) {
        I whole;
        memcpy(&whole, levels + i * WIDTH, sizeof whole);
        values[i] = to_float(whole) * step;
    }
    turn_block<GROUPS>(values);
    for (int i = 0; i < VECTORS && i * WIDTH < count; i++) {
        const int left = count - i * WIDTH;
        store_up_to(out + i * WIDTH, values[i] * splat(scale), left < WIDTH ? left : WIDTH);
    }
}

template <class Format> void embed_quantised(const soban_part *part, int32_t row, float scale, float *out) {
    const int32_t groups = (part->columns + GROUP - 1) / GROUP;
    const uint8_t *block = (const uint8_t *)part->data + row / PANEL * soban::packed_panel(Format::NUMBER, groups);
    for (int32_t g = 0; g < groups; g += BLOCK_GROUPS, block += block_bytes_of<Format>(BLOCK_GROUPS)) {
        const int32_t count = part->columns - g * GROUP;
        float *to = out + g * GROUP;
        switch (groups - g) {
        case 1: embed_block<Format, 1>(block, row % PANEL, count, scale, to); break;
        case 2: embed_block<Format, 2>(block, row % PANEL, count, scale, to); break;
        case 3: embed_block<Format, 3>(block, row % PANEL, count, scale, to); break;
        default: embed_block<Format, 4>(block, row % PANEL, count < BLOCK ? count : BLOCK, scale, to);
        }
    }
}

template <class Format> void embed_of_file(const soban_part *part, int32_t row, float scale, float *out) {
    const int32_t groups = (part->columns + GROUP - 1) / GROUP;
    const uint8_t *panel = (const uint8_t *)part->data + row / PANEL * soban::packed_panel(Format::NUMBER, groups);
    for (int32_t k = 0; k < part->columns; k++) {
        const int32_t g = k / GROUP, first = g / BLOCK_GROUPS * BLOCK_GROUPS;
        const uint8_t *block = panel + first / BLOCK_GROUPS * block_bytes_of<Format>(BLOCK_GROUPS);
        const int32_t count = groups - first < BLOCK_GROUPS ? groups - first : BLOCK_GROUPS;
        const int32_t s = k % GROUP / Format::SHARE, r = row % PANEL;
        // scale x level is exact: 11 bits x 7 or 6 or 11, times up to 8
        float value = (float)level_of<Format>(block, count, g - first, r, k % GROUP) *
                      numbers_of<Format, false>(block, count, g - first, s, r / WIDTH * WIDTH)[r % WIDTH];
        if (Format::MINIMA) value -= numbers_of<Format, true>(block, count, g - first, s, r / WIDTH * WIDTH)[r % WIDTH];
        out[k] = value * scale;
    }
}

void embed(const soban_part *part, int32_t row, float scale, float *out) {
    const char *data = (const char *)part->data;
    const int64_t first = (int64_t)row * part->columns;
    switch (part->format) {
    case SOBAN_F32: return embed_plain<F32>(data + first * 4, part->columns, scale, out);
    case SOBAN_F16: return embed_plain<F16>(data + first * 2, part->columns, scale, out);
    case SOBAN_BF16: return embed_plain<BF16>(data + first * 2, part->columns, scale, out);
    default:
        return with_format(part->format, [&](auto format) {
            typedef decltype(format) Format;
            if constexpr (Format::OF_FILE) {
                embed_of_file<Format>(part, row, scale, out);
            } else {
                embed_quantised<Format>(part, row, scale, out);
            }
        });
    }
}

// The sum of term(sum so far, vector) over a row; a part of a vector has zeros after it.
template <class Term> INLINE float sum_of(const float *x, int32_t columns, Term term) {
    V sums[4] = {}; // four hide the latency of one
    int64_t i = 0;
    for (; i + 4 * WIDTH <= columns; i += 4 * WIDTH) {
        for (int j = 0; j < 4; j++) sums[j] = term(sums[j], load(x + i + j * WIDTH));
    }
    in_vectors(columns - i, [&](int64_t k, int n) { sums[0] = term(sums[0], load_up_to(x + i + k, n)); });
    return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

INLINE float sum_of_squares(const float *x, int32_t columns) {
    return sum_of(x, columns, [](V sum, V v) __attribute__((always_inline)) { return fma(v, v, sum); });
}

void rms_norm(const float *x, const float *weight, int32_t columns, float eps, float offset, float *out) {
    const float mean = sum_of_squares(x, columns) / (float)columns;
    const V inverse = splat(1.0f / sqrtf(mean + eps)), shift = splat(offset);
    in_vectors(columns, [&](int64_t k, int n) {
        store_up_to(out + k, load_up_to(x + k, n) * inverse * (load_up_to(weight + k, n) + shift), n);
    });
}

void layer_norm(const float *x, const float *weight, const float *bias, int32_t columns, float eps, float *out) {
    const float total = sum_of(x, columns, [](V sum, V v) __attribute__((always_inline)) { return sum + v; });
    const V mean = splat(total / (float)columns);
    in_vectors(columns, [&](int64_t i, int n) { store_up_to(out + i, load_up_to(x + i, n) - mean, n); });
    const V inverse = splat(1.0f / sqrtf(sum_of_squares(out, columns) / (float)columns + eps));
    in_vectors(columns, [&](int64_t i, int n) {
        const V normed = load_up_to(out + i, n) * inverse * load_up_to(weight + i, n);
        store_up_to(out + i, bias ? normed + load_up_to(bias + i, n) : normed, n);
    });
}

void rope(const float *x, const float *angles, int32_t columns, int32_t size, int32_t rotated, int32_t interleaved,
          float *out) {
    const int32_t half = rotated / 2;
    const float *cosines = angles, *sines = angles + half;
    for (int32_t head = 0; head < columns; head += size) {
        const float *from = x + head;
        float *to = out + head;
        memcpy(to + rotated, from + rotated, sizeof(float) * (size_t)(size - rotated));
        if (interleaved) {
            for (int32_t i = 0; i < half; i++) {
                const float first = from[2 * i], second = from[2 * i + 1];
                to[2 * i] = first * cosines[i] - second * sines[i];
                to[2 * i + 1] = second * cosines[i] + first * sines[i];
            }
            continue;
        }
        in_vectors(half, [&](int64_t i, int n) {
            const V first = load_up_to(from + i, n), second = load_up_to(from + half + i, n);
            const V cosine = load_up_to(cosines + i, n), sine = load_up_to(sines + i, n);
            store_up_to(to + i, first * cosine - second * sine, n);
            store_up_to(to + half + i, second * cosine + first * sine, n);
        });
    }
}

void glu(const float *gate, const float *up, int32_t columns, int32_t activation, float *out) {
    with_activation(activation, [&](auto function) {
        in_vectors(columns, [&](int64_t i, int n) {
            store_up_to(out + i, decltype(function)::of(load_up_to(gate + i, n)) * load_up_to(up + i, n), n);
        });
    });
}

void activate(const float *x, int32_t columns, int32_t activation, float *out) {
    with_activation(activation, [&](auto function) {
        in_vectors(columns,
                   [&](int64_t i, int n) { store_up_to(out + i, decltype(function)::of(load_up_to(x + i, n)), n); });
    });
}

void scale(const float *x, const float *vector, int32_t columns, float factor, float *out) {
    in_vectors(columns, [&](int64_t i, int n) {
        const V scaled = load_up_to(x + i, n) * splat(factor);
        store_up_to(out + i, vector ? scaled * load_up_to(vector + i, n) : scaled, n);
    });
}

void add(const float *x, const float *y, int32_t columns, float *out) {
    in_vectors(columns,
               [&](int64_t i, int n) { store_up_to(out + i, load_up_to(x + i, n) + load_up_to(y + i, n), n); });
}

void softcap(const float *x, int32_t columns, float cap, float *out) {
    const V limit = splat(cap);
    in_vectors(columns, [&](int64_t i, int n) {
        store_up_to(out + i, limit * hyperbolic_tangent(load_up_to(x + i, n) / limit), n);
    });
}

INLINE void round_groups(const float *x, int64_t stride, int32_t columns, int32_t begin, int32_t end,
                         const Strip &strip, int32_t groups) {
    for (int32_t g = 0; g < groups; g++) {
        for (int32_t t = begin; t < end; t++) {
            const Strip place = from(strip, t - begin, g);
            round_halves(x + t * stride + g * GROUP, columns - g * GROUP, place.values, place.rounded);
        }
    }
}

// Block by block, for the tokens of a group lie beside each other.
void quantise(const float *x, int64_t stride, int32_t columns, int32_t first, int32_t end,
              const soban::Activations *to) {
    for (int32_t begin = first, next; begin < end; begin = next) {
        const Strip strip = strip_of(*to, begin);
        next = begin + strip.tokens < end ? begin + strip.tokens : end;
        if (to->halves) {
            round_groups(x, stride, columns, begin, next, strip, to->groups);
            continue;
        }
        for (int32_t g = 0; g < to->groups; g += BLOCK_GROUPS) {
            for (int32_t t = begin; t < next; t++) {
                const Strip place = from(strip, t - begin, g);
                const RoundedBlock rounded = {place.values, place.scales, place.pairs, place.offsets, place.stride};
                const float *row = x + t * stride + g * GROUP;
                const int32_t count = columns - g * GROUP;
                const uintptr_t ahead = (uintptr_t)row + 8 * (uintptr_t)stride; // the same block of token t + 2
                for (uintptr_t b = 0; b < 4 * BLOCK; b += 64) __builtin_prefetch((const void *)(ahead + b));
                switch (to->groups - g) {
                case 1: round_block<1>(row, count, rounded); break;
                case 2: round_block<2>(row, count, rounded); break;
                case 3: round_block<3>(row, count, rounded); break;
                default: round_block<4>(row, count, rounded);
                }
            }
        }
    }
}

} // namespace
#endif
