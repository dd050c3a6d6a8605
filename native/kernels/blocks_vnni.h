// Products of blocks (16 rows by 64 columns of q8 or q4) with the int8 of some tokens, by vpdpbusd.
//
// One source for three builds: vectors of 16 rows (AVX-512), of 8 with 32 registers (AVX-512 VL) and of 8 with 16
// registers (AVX-VNNI). An int8 weight plus 128 is the unsigned operand that vpdpbusd wants; the 128 x sum of the
// values that this adds is taken off again in the integers.
#ifndef SOBAN_BLOCKS_H
#define SOBAN_BLOCKS_H

#include "dot.h"
#include "formats.h"
#include "kernels.h"

namespace {

constexpr int PARTS = PANEL / WIDTH; // vectors that hold four columns of a panel's rows
constexpr bool MANY_REGISTERS = SOBAN_VNNI == 2;

// dot() with one four of values for all lanes.
INLINE void dot_four(Bytes &total, Bytes weights, const int8_t *four) {
#if SOBAN_ISA == 2
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(total) : "v"(weights), "m"(*(const int32_t *)four));
#elif SOBAN_VNNI == 2
    __asm__("vpdpbusd %2%{1to8%}, %1, %0" : "+v"(total) : "v"(weights), "m"(*(const int32_t *)four));
#else
    int32_t value;
    memcpy(&value, four, 4);
    dot(total, weights, splat_four(value));
#endif
}

// One part's weights k = 4i .. 4i + 3 in first, and k = 32 + 4i .. in second, unsigned.
INLINE void unpack(Q8, const uint8_t *block, int i, int part, Bytes &first, Bytes &second) {
    const uint8_t *from = block + Q8::NUMBERS + 64 * i + part * (int)sizeof(Bytes);
    first = load_bytes(from) ^ splat_byte(0x80);
    second = load_bytes(from + 64 * 8) ^ splat_byte(0x80);
}
INLINE void unpack(Q4, const uint8_t *block, int i, int part, Bytes &first, Bytes &second) {
    const Bytes bytes = load_bytes(block + Q4::NUMBERS + 64 * i + part * (int)sizeof(Bytes));
    first = bytes & splat_byte(15);
    second = high_nibbles(bytes);
}

// Adds the block's part to sums[t][r], for TOKENS tokens from place on: see soban::Activations.
template <class Format, int TOKENS>
INLINE void add_block(const uint8_t *block, const soban::Activations &x, int64_t place, float *sums) {
    const int8_t *values = x.values + place * GROUP;
    UNROLL
    for (int part = 0; part < PARTS; part++) {
        Bytes even[TOKENS], odd[TOKENS]; // two sums hide the latency of one
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            even[t] = Format::UNSIGNED ? Bytes{} : splat_four(x.offsets[place + t]);
            odd[t] = Bytes{};
        }
        UNROLL
        for (int i = 0; i < 8; i++) {
            Bytes first, second;
            unpack(Format(), block, i, part, first, second);
            UNROLL
            for (int t = 0; t < TOKENS; t++) {
                dot_four(even[t], first, values + t * GROUP + 4 * i);
                dot_four(odd[t], second, values + t * GROUP + 32 + 4 * i);
            }
        }
        const V scale = scales_of<Format>(block, part * WIDTH);
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            float *to = sums + t * PANEL + part * WIDTH;
            const V total = to_float((I)even[t] + (I)odd[t]);
            V sum = fma(total, scale * splat(x.scales[place + t]), load(to));
            if (Format::MINIMA) sum = fma(minima_of<Format>(block, part * WIDTH), splat(x.sums[place + t]), sum);
            store(to, sum);
        }
    }
}

// A block unpacked once for many tokens.
struct Expanded {
    uint8_t weights[1024];
    float scales[PANEL], minima[PANEL];
};

template <class Format> INLINE void expand(const uint8_t *block, Expanded *to) {
    UNROLL
    for (int part = 0; part < PARTS; part++) {
        UNROLL
        for (int i = 0; i < 8; i++) {
            Bytes first, second;
            unpack(Format(), block, i, part, first, second);
            store_bytes(to->weights + 64 * i + part * (int)sizeof(Bytes), first);
            store_bytes(to->weights + 64 * (8 + i) + part * (int)sizeof(Bytes), second);
        }
        store(to->scales + part * WIDTH, scales_of<Format>(block, part * WIDTH));
        if (Format::MINIMA) store(to->minima + part * WIDTH, minima_of<Format>(block, part * WIDTH));
    }
}

// As add_block, for `groups` groups of PANELS panels: the blocks of panel p start at blocks + p * stride, and
// sums[t][p][r] has `width` values for each token. The operations on a sum are those of add_block, in its order.
template <class Format, int PANELS, int TOKENS>
INLINE void add_expanded(const Expanded *blocks, int stride, int groups, const soban::Activations &x, int64_t place,
                         float *sums, int width) {
    constexpr int VECTORS = PANELS * PARTS;
    for (int g = 0; g < groups; g++, place += x.tokens) {
        const int8_t *values = x.values + place * GROUP;
        Bytes total[VECTORS][TOKENS];
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            const Bytes start = Format::UNSIGNED ? Bytes{} : splat_four(x.offsets[place + t]);
            UNROLL
            for (int v = 0; v < VECTORS; v++) total[v][t] = start;
        }
        for (int i = 0; i < 16; i++) {
            Bytes weights[VECTORS];
            UNROLL
            for (int v = 0; v < VECTORS; v++) {
                const uint8_t *from = blocks[v / PARTS * stride + g].weights;
                weights[v] = load_bytes(from + 64 * i + v % PARTS * (int)sizeof(Bytes));
            }
            UNROLL
            for (int t = 0; t < TOKENS; t++) {
                int32_t four;
                memcpy(&four, values + t * GROUP + 4 * i, 4);
                const Bytes lanes = splat_four(four);
                UNROLL
                for (int v = 0; v < VECTORS; v++) dot(total[v][t], weights[v], lanes);
            }
        }
        UNROLL
        for (int v = 0; v < VECTORS; v++) {
            const Expanded &block = blocks[v / PARTS * stride + g];
            const V scale = load(block.scales + v % PARTS * WIDTH);
            const V minimum = load(block.minima + v % PARTS * WIDTH);
            UNROLL
            for (int t = 0; t < TOKENS; t++) {
                float *to = sums + t * width + v * WIDTH;
                V sum = fma(to_float((I)total[v][t]), scale * splat(x.scales[place + t]), load(to));
                if (Format::MINIMA) sum = fma(minimum, splat(x.sums[place + t]), sum);
                store(to, sum);
            }
        }
    }
}

} // namespace
#endif
