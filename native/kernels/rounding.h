// Floats as int8: a turned block of activations on its way into products, a group of a key or a value into the cache.
#ifndef SOBAN_ROUNDING_H
#define SOBAN_ROUNDING_H

#include "simd.h"

namespace {

struct Rounded {
    float scale;
    int32_t sum; // of the int8
};

struct Steps {
    float scale;
    V inverse;
};

INLINE Steps steps_for(I most) { // of the largest size
    const int32_t bits = largest(most);
    float size;
    memcpy(&size, &bits, 4);
    return {size * (float)(1.0 / 127.0), splat(size >= 1e-30f ? 127.0f / size : 0.0f)};
}

// The first `count` numbers of x, and zeros after them, to 64 places of `out`: formats.quantise.
INLINE Rounded round_group(const float *x, int32_t count, int8_t *out) {
    V values[GROUP / WIDTH];
    I most = {}; // sizes compare as integers do, and a NaN is the largest
    for (int i = 0; i < GROUP / WIDTH; i++) {
        const int32_t here = count - i * WIDTH;
        const float *from = x + i * WIDTH;
        values[i] = here >= WIDTH ? load(from) : here > 0 ? load_part(from, here) : V{};
        const I bits = (I)magnitude(values[i]);
        most = most > bits ? most : bits;
    }
    const Steps steps = steps_for(most);
    I q[GROUP / WIDTH], total = {};
    for (int i = 0; i < GROUP / WIDTH; i++) {
        q[i] = nearest(values[i] * steps.inverse);
        total += q[i];
    }
    for (int i = 0; i < GROUP / WIDTH; i += 4) store_int8(out + i * WIDTH, q + i);
    return {steps.scale, sum(total)};
}

// The first `count` numbers of x, and zeros after them, to 64 places of `out`, each 32 with a scale of their own.
INLINE void round_halves(const float *x, int32_t count, int8_t *out, soban::RoundedGroup *to) {
    constexpr int VECTORS = GROUP / WIDTH, HALF_VECTORS = HALF / WIDTH;
    I q[VECTORS];
    UNROLL
    for (int h = 0; h < 2; h++) {
        V values[HALF_VECTORS];
        I most = {};
        UNROLL
        for (int i = 0; i < HALF_VECTORS; i++) {
            const int32_t here = count - h * HALF - i * WIDTH;
            const float *from = x + h * HALF + i * WIDTH;
            values[i] = here >= WIDTH ? load(from) : here > 0 ? load_part(from, here) : V{};
            const I bits = (I)magnitude(values[i]);
            most = most > bits ? most : bits;
        }
        const Steps steps = steps_for(most);
        U quarters[2] = {}; // of a NaN they are anything
        UNROLL
        for (int i = 0; i < HALF_VECTORS; i++) {
            q[h * HALF_VECTORS + i] = nearest(values[i] * steps.inverse);
            quarters[2 * i / HALF_VECTORS] += (U)q[h * HALF_VECTORS + i];
        }
        to->quarters[2 * h] = sum((I)quarters[0]);
        to->quarters[2 * h + 1] = sum((I)quarters[1]);
        to->sums[h] = (int32_t)((uint32_t)to->quarters[2 * h] + (uint32_t)to->quarters[2 * h + 1]);
        to->scales[h] = steps.scale;
        to->shifts[h] = -(steps.scale * (float)to->sums[h]);
    }
    UNROLL
    for (int i = 0; i < VECTORS; i += 4) store_int8(out + i * WIDTH, q + i);
}

// Lanes i and i ^ STRIDE become their sum and their difference.
template <int STRIDE> INLINE V add_and_subtract(V x) {
    V signs = {};
    UNROLL
    for (int i = 0; i < WIDTH; i++) signs[i] = i & STRIDE ? -1.0f : 1.0f;
    return fma(x, signs, swapped<STRIDE>(x)); // times 1: rounded once, as a sum is
}

// COUNT x WIDTH numbers times Hadamard's matrix of that size: formats.turn, in its order.
template <int COUNT> INLINE void turn(V *x) {
    UNROLL
    for (int stride = COUNT / 2; stride; stride /= 2) {
        UNROLL
        for (int i = 0; i < COUNT; i++) {
            if (i & stride) continue;
            const V a = x[i], b = x[i + stride];
            x[i] = a + b;
            x[i + stride] = a - b;
        }
    }
    UNROLL
    for (int i = 0; i < COUNT; i++) {
        V y = x[i];
        if (WIDTH > 8) y = add_and_subtract<8 % WIDTH>(y);
        if (WIDTH > 4) y = add_and_subtract<4 % WIDTH>(y);
        x[i] = add_and_subtract<1>(add_and_subtract<2>(y));
    }
}

// A block of so many groups.
template <int GROUPS> INLINE void turn_block(V *x) {
    constexpr int GROUP_VECTORS = GROUP / WIDTH;
    if (GROUPS == 3) {
        turn<2 * GROUP_VECTORS>(x);
        turn<GROUP_VECTORS>(x + 2 * GROUP_VECTORS);
    } else {
        turn<GROUPS * GROUP_VECTORS>(x);
    }
}

// Where a block's results go, and the way from group to group; see soban::Activations.
struct RoundedBlock {
    int8_t *values;
    float *scale;
    int32_t *pairs, *offset;
    int64_t stride; // in groups
};

template <int GROUPS> INLINE void round_block(const float *x, int32_t count, const RoundedBlock &to) {
    constexpr int VECTORS = GROUPS * GROUP / WIDTH, HALF_VECTORS = HALF / WIDTH;
    V values[VECTORS];
    UNROLL
    for (int i = 0; i < VECTORS; i++) {
        const int32_t here = count - i * WIDTH;
        values[i] = here >= WIDTH ? load(x + i * WIDTH) : here > 0 ? load_part(x + i * WIDTH, here) : V{};
    }
    turn_block<GROUPS>(values);
    I most = {};
    UNROLL
    for (int i = 0; i < VECTORS; i++) {
        const I bits = (I)magnitude(values[i]);
        most = most > bits ? most : bits;
    }
    const Steps steps = steps_for(most);
    *to.scale = steps.scale;
    I halves[8] = {};
    UNROLL
    for (int g = 0; g < GROUPS; g++) {
        I q[GROUP / WIDTH];
        UNROLL
        for (int i = 0; i < GROUP / WIDTH; i++) q[i] = nearest(values[g * (GROUP / WIDTH) + i] * steps.inverse);
        UNROLL
        for (int h = 0; h < 2; h++) {
            U total = {}; // of a NaN they are anything
            UNROLL
            for (int i = 0; i < HALF_VECTORS; i++) total += (U)q[h * HALF_VECTORS + i];
            halves[2 * g + h] = (I)total;
        }
        UNROLL
        for (int i = 0; i < GROUP / WIDTH; i += 4) store_int8(to.values + g * to.stride * GROUP + i * WIDTH, q + i);
    }
    int32_t sums[8];
    sum_eight(halves, sums);
    uint32_t whole = 0;
    for (int g = 0; g < GROUPS; g++) {
        const uint32_t first = (uint32_t)sums[2 * g], second = (uint32_t)sums[2 * g + 1];
        to.pairs[g * to.stride] = (int32_t)((first & 0xffff) | second << 16);
        whole += first + second;
    }
    *to.offset = (int32_t)(0u - 128u * whole);
}

} // namespace
#endif
