// How a key and a value are written into a page of the cache: see block_bytes in kernels.h for the layout.
#ifndef SOBAN_CACHE_H
#define SOBAN_CACHE_H

#include "kernels.h"
#include "simd.h"

namespace {

using soban::padded_size, soban::size_groups;

// Up to 64 numbers as int8, zeros after them; returns their scale. As quantise_activations in ops/reference.py.
float round_group(const float *x, int32_t count, int8_t *out) {
    V values[GROUP / WIDTH];
    I most = {}; // sizes compare as integers do, and a NaN is the largest
    for (int i = 0; i < GROUP / WIDTH; i++) {
        const int32_t here = count - i * WIDTH;
        values[i] = here >= WIDTH ? load(x + i * WIDTH) : here > 0 ? load_part(x + i * WIDTH, here) : V{};
        const I size = (I)magnitude(values[i]);
        most = most > size ? most : size;
    }
    int32_t bits = 0;
    for (int i = 0; i < WIDTH; i++) bits = bits > most[i] ? bits : most[i];
    float largest;
    memcpy(&largest, &bits, 4);
    const V inverse = splat(largest >= 1e-30f ? 127.0f / largest : 0.0f);
    for (int i = 0; i < GROUP / WIDTH; i++) {
        const I q = nearest(values[i] * inverse);
#if SOBAN_ISA == 2
        _mm_storeu_si128((__m128i *)(out + i * WIDTH), _mm512_cvtepi32_epi8((__m512i)q));
#else
        for (int j = 0; j < WIDTH; j++) out[i * WIDTH + j] = (int8_t)q[j];
#endif
    }
    return largest * (float)(1.0 / 127.0);
}

void store_int8(const float *key, const float *value, int32_t size, int32_t position, char *keys, char *values) {
    const int32_t padded = padded_size(size);
    float *key_scales = (float *)(keys + PAGE * (int64_t)padded) + position;
    float *value_scales = (float *)(values + PAGE * (int64_t)padded) + position;
    for (int32_t first = 0; first < size; first += GROUP, key_scales += PAGE, value_scales += PAGE) {
        const int32_t count = size - first < GROUP ? size - first : GROUP;
        const int32_t stored = padded - first < GROUP ? padded - first : GROUP;
        int8_t rounded[GROUP];
        *key_scales = round_group(key + first, count, rounded);
        for (int32_t d = 0; d < stored; d += 4) memcpy(keys + ((first + d) * PAGE + 4 * position), rounded + d, 4);
        *value_scales = round_group(value + first, count, rounded);
        memcpy(values + position * (int64_t)padded + first, rounded, (size_t)stored);
    }
}

void store_f16_pair(const float *key, const float *value, int32_t size, int32_t position, char *keys, char *values) {
    uint16_t *key_column = (uint16_t *)keys + position;
    uint16_t *value_row = (uint16_t *)values + position * (int64_t)padded_size(size);
    in_vectors(size, [&](int64_t i, int n) {
        uint16_t whole[WIDTH];
        store_f16(whole, load_up_to(value + i, n));
        memcpy(value_row + i, whole, 2 * (size_t)n);
        store_f16(whole, load_up_to(key + i, n));
        for (int j = 0; j < n; j++) key_column[(i + j) * PAGE] = whole[j];
    });
}

void store_pair(const float *key, const float *value, int32_t size, int32_t format, int32_t position, char *keys,
                char *values) {
    if (format == SOBAN_CACHE_INT8) return store_int8(key, value, size, position, keys, values);
    if (format == SOBAN_CACHE_F16) return store_f16_pair(key, value, size, position, keys, values);
    float *key_column = (float *)keys + position;
    memcpy((float *)values + position * (int64_t)padded_size(size), value, sizeof(float) * (size_t)size);
    for (int32_t d = 0; d < size; d++) key_column[(int64_t)d * PAGE] = key[d];
}

} // namespace
#endif
