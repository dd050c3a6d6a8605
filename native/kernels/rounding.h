// A group of up to 64 floats as int8: activations on their way into products, keys and values into the cache.
#ifndef SOBAN_ROUNDING_H
#define SOBAN_ROUNDING_H

#include "simd.h"

namespace {

struct Rounded {
    float scale;
    int32_t sum; // of the int8
};

// The first `count` numbers of x, and zeros after them, to 64 places of `out`: quantise_activations in
// ops/formats.py.
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
    const int32_t bits = largest(most);
    float size;
    memcpy(&size, &bits, 4);
    const V inverse = splat(size >= 1e-30f ? 127.0f / size : 0.0f);
    I q[GROUP / WIDTH], total = {};
    for (int i = 0; i < GROUP / WIDTH; i++) {
        q[i] = nearest(values[i] * inverse);
        total += q[i];
    }
    for (int i = 0; i < GROUP / WIDTH; i += 4) store_int8(out + i * WIDTH, q + i);
    return {size * (float)(1.0 / 127.0), sum(total)};
}

} // namespace
#endif
