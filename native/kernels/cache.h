// How a key and a value are written into a page of the cache: see block_bytes in kernels.h for the layout.
#ifndef SOBAN_CACHE_H
#define SOBAN_CACHE_H

#include "kernels.h"
#include "rounding.h"

namespace {

using soban::padded_size, soban::size_groups;

void store_int8_pair(const float *key, const float *value, int32_t size, int32_t position, char *keys, char *values) {
    const int32_t padded = padded_size(size);
    float *key_scales = (float *)(keys + PAGE * (int64_t)padded) + position;
    float *value_scales = (float *)(values + PAGE * (int64_t)padded) + position;
    for (int32_t first = 0; first < size; first += GROUP, key_scales += PAGE, value_scales += PAGE) {
        const int32_t count = size - first < GROUP ? size - first : GROUP;
        const int32_t stored = padded - first < GROUP ? padded - first : GROUP;
        int8_t rounded[GROUP];
        *key_scales = round_group(key + first, count, rounded).scale;
        for (int32_t d = 0; d < stored; d += 4) memcpy(keys + ((first + d) * PAGE + 4 * position), rounded + d, 4);
        *value_scales = round_group(value + first, count, rounded).scale;
        memcpy(values + position * (int64_t)padded + first, rounded, (size_t)stored);
    }
}

void store_bf16_pair(const float *key, const float *value, int32_t size, int32_t position, char *keys, char *values) {
    const int32_t padded = padded_size(size);
    uint16_t *key_pairs = (uint16_t *)keys + 2 * position;
    uint16_t *value_pairs = (uint16_t *)values + position / 2 * (int64_t)(2 * padded) + position % 2;
    if (size % 2) key_pairs[size / 2 * (2 * PAGE) + 1] = 0; // the other half of the last pair is read with it
    in_vectors(size, [&](int64_t i, int n) {
        uint32_t bits[WIDTH];
        store((float *)bits, to_bf16(load_up_to(key + i, n)));
        for (int j = 0; j < n; j++) {
            key_pairs[(i + j) / 2 * (2 * PAGE) + (i + j) % 2] = (uint16_t)(bits[j] >> 16);
        }
        store((float *)bits, to_bf16(load_up_to(value + i, n)));
        for (int j = 0; j < n; j++) value_pairs[2 * (i + j)] = (uint16_t)(bits[j] >> 16);
    });
}

void store_pair(const float *key, const float *value, int32_t size, int32_t format, int32_t position, char *keys,
                char *values) {
    if (format == SOBAN_CACHE_INT8) return store_int8_pair(key, value, size, position, keys, values);
    if (format == SOBAN_CACHE_BF16) return store_bf16_pair(key, value, size, position, keys, values);
    float *key_column = (float *)keys + position;
    memcpy((float *)values + position * (int64_t)padded_size(size), value, sizeof(float) * (size_t)size);
    for (int32_t d = 0; d < size; d++) key_column[(int64_t)d * PAGE] = key[d];
}

} // namespace
#endif
