// soban_repack: the blocks of a GGUF file as panels of 16 rows, which hold the same numbers.
//
// Layouts in the file are those of ggml-common.h, layouts in panels those of src/soban/ops/gguf.py.
#include <cstring>

#include "repack.h"

namespace soban {
namespace {

constexpr int32_t MOST_SHARES = BLOCK / 16, KINDS = 2; // scales and minima

// What up to 256 columns of a row hold.
struct RowBlock {
    uint8_t codes[BLOCK];
    uint16_t outer[KINDS];                 // of a nested format, float16
    int8_t steps[KINDS][MOST_SHARES];      // and whole multiples of them
    uint16_t numbers[KINDS][BLOCK / HALF]; // of the others, for 32 columns each
};

uint16_t half_at(const uint8_t *from) {
    uint16_t bits;
    memcpy(&bits, from, 2);
    return bits;
}

bool finite(uint16_t half) { return (half & 0x7c00) != 0x7c00; }

void low_and_high(const uint8_t *bytes, int32_t count, uint8_t *codes) { // the low nibbles, then the high ones
    for (int32_t i = 0; i < count; i++) {
        codes[i] = bytes[i] & 15;
        codes[count + i] = bytes[i] >> 4;
    }
}

void fifth_bits(const uint8_t *from, uint8_t *codes) { // of 32 codes
    uint32_t bits;
    memcpy(&bits, from, 4);
    for (int32_t i = 0; i < 32; i++) codes[i] = (uint8_t)(codes[i] | (bits >> i & 1) << 4);
}

// A block of 32 numbers, the n-th of the 256.
void read_short(int32_t format, const uint8_t *from, int32_t n, RowBlock &to) {
    uint8_t *codes = to.codes + 32 * n;
    const bool minima = file_shape(format).minima;
    to.numbers[0][n] = half_at(from);
    if (minima) to.numbers[1][n] = half_at(from + 2) ^ 0x8000; // they are added in the file, and taken away here
    const uint8_t *rest = from + (minima ? 4 : 2);
    switch (format) {
    case SOBAN_Q8_0: memcpy(codes, rest, 32); return;
    case SOBAN_Q5_0:
    case SOBAN_Q5_1: low_and_high(rest + 4, 16, codes); return fifth_bits(rest, codes);
    default: return low_and_high(rest, 16, codes);
    }
}

// Eight scales and eight minima of six bits in 12 bytes.
void read_steps(const uint8_t *from, RowBlock &to) {
    for (int32_t i = 0; i < 4; i++) {
        to.steps[0][i] = (int8_t)(from[i] & 63);
        to.steps[1][i] = (int8_t)(from[4 + i] & 63);
        to.steps[0][4 + i] = (int8_t)((from[8 + i] & 15) | from[i] >> 6 << 4);
        to.steps[1][4 + i] = (int8_t)(from[8 + i] >> 4 | from[4 + i] >> 6 << 4);
    }
}

void read_q4_k(const uint8_t *from, RowBlock &to) {
    to.outer[0] = half_at(from);
    to.outer[1] = half_at(from + 2);
    read_steps(from + 4, to);
    for (int32_t i = 0; i < 4; i++) low_and_high(from + 16 + 32 * i, 32, to.codes + 64 * i);
}

void read_q5_k(const uint8_t *from, RowBlock &to) {
    to.outer[0] = half_at(from);
    to.outer[1] = half_at(from + 2);
    read_steps(from + 4, to);
    for (int32_t i = 0; i < 4; i++) low_and_high(from + 48 + 32 * i, 32, to.codes + 64 * i);
    for (int32_t i = 0; i < BLOCK; i++) to.codes[i] = (uint8_t)(to.codes[i] | (from[16 + i % 32] >> (i / 32) & 1) << 4);
}

void read_q6_k(const uint8_t *from, RowBlock &to) {
    to.outer[0] = half_at(from + 208);
    memcpy(to.steps[0], from + 192, 16);
    for (int32_t i = 0; i < 2; i++) low_and_high(from + 64 * i, 64, to.codes + 128 * i);
    for (int32_t i = 0; i < BLOCK; i++) {
        const uint8_t above = from[128 + i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4)) & 3;
        to.codes[i] = (uint8_t)(to.codes[i] | above << 4);
    }
}

void read_iq4_xs(const uint8_t *from, RowBlock &to) {
    to.outer[0] = half_at(from);
    const uint16_t above = half_at(from + 2);
    for (int32_t i = 0; i < 8; i++) {
        const int32_t low = from[4 + i / 2] >> (4 * (i % 2)) & 15;
        to.steps[0][i] = (int8_t)((low | (above >> (2 * i) & 3) << 4) - 32);
        low_and_high(from + 8 + 16 * i, 16, to.codes + 32 * i);
    }
}

// Up to 256 columns of a row; false where a scale is no number.
bool read_block(int32_t format, const uint8_t *from, int32_t columns, RowBlock &to) {
    const FileShape shape = file_shape(format);
    if (!shape.nested) {
        bool sound = true;
        for (int32_t n = 0; n < columns / HALF; n++) {
            read_short(format, from + n * shape.bytes, n, to);
            sound &= finite(to.numbers[0][n]) && (!shape.minima || finite(to.numbers[1][n]));
        }
        return sound;
    }
    switch (format) {
    case SOBAN_Q4_K: read_q4_k(from, to); break;
    case SOBAN_Q5_K: read_q5_k(from, to); break;
    case SOBAN_Q6_K: read_q6_k(from, to); break;
    default: read_iq4_xs(from, to);
    }
    return finite(to.outer[0]) && (!shape.minima || finite(to.outer[1]));
}

uint32_t word_at(const uint8_t *codes) {
    uint32_t word;
    memcpy(&word, codes, 4);
    return word;
}

// The codes of a group of 16 rows: vectors of four columns, of two quads the low nibbles and the high ones; then of
// each quad what is above the fourth bit.
void write_codes(int32_t bits, const RowBlock *rows, int32_t g, uint8_t *to) {
    const int32_t width = bits - 4, quads = width ? 8 / width : 1, low = quads / 2;
    for (int32_t r = 0; r < PANEL; r++) {
        const uint8_t *codes = rows[r].codes + g * GROUP;
        if (bits == 8) {
            for (int32_t i = 0; i < GROUP / 4; i++) memcpy(to + 4 * PANEL * i + 4 * r, codes + 4 * i, 4);
            continue;
        }
        for (int32_t i = 0; i < 8; i++) {
            const uint32_t first = word_at(codes + 4 * i), second = word_at(codes + HALF + 4 * i);
            const uint32_t word = (first & 0x0f0f0f0f) | (second & 0x0f0f0f0f) << 4;
            memcpy(to + 4 * PANEL * i + 4 * r, &word, 4);
        }
        for (int32_t v = 0; v < 2 * width; v++) {
            uint32_t word = 0;
            for (int32_t f = 0; f < quads; f++) {
                const int32_t quad = (f < low ? 0 : 8) + v * low + f % low;
                word |= (word_at(codes + 4 * quad) >> 4 & 0x0f0f0f0f) << (f * width);
            }
            memcpy(to + 4 * PANEL * (8 + v) + 4 * r, &word, 4);
        }
    }
}

void write_head(const FileShape &shape, const RowBlock *rows, int32_t groups, uint8_t *to) {
    const int32_t kinds = shape.minima ? 2 : 1;
    if (!shape.nested) {
        for (int32_t kind = 0; kind < kinds; kind++) {
            for (int32_t n = 0; n < 2 * groups; n++) {
                for (int32_t r = 0; r < PANEL; r++, to += 2) memcpy(to, &rows[r].numbers[kind][n], 2);
            }
        }
        return;
    }
    for (int32_t kind = 0; kind < kinds; kind++) {
        for (int32_t r = 0; r < PANEL; r++, to += 2) memcpy(to, &rows[r].outer[kind], 2);
    }
    for (int32_t kind = 0; kind < kinds; kind++) {
        for (int32_t s = 0; s < BLOCK / shape.share; s++) {
            for (int32_t r = 0; r < PANEL; r++) *to++ = (uint8_t)rows[r].steps[kind][s];
        }
    }
}

} // namespace

int64_t file_row_bytes(int32_t format, int64_t columns) {
    const FileShape shape = file_shape(format);
    return columns / shape.values * shape.bytes;
}

int32_t repack_panel(const uint8_t *source, int32_t format, int32_t rows, int64_t columns, uint8_t *to) {
    const FileShape shape = file_shape(format);
    const int64_t row_bytes = file_row_bytes(format, columns);
    RowBlock blocks[PANEL] = {}; // the rows that a last panel lacks, and columns that a group lacks, stay 0
    for (int64_t first = 0; first < columns; first += BLOCK) {
        const int32_t here = (int32_t)(columns - first < BLOCK ? columns - first : BLOCK);
        const int32_t groups = (here + GROUP - 1) / GROUP;
        if (here % GROUP) memset(blocks, 0, sizeof blocks);
        for (int32_t r = 0; r < rows; r++) {
            const uint8_t *from = source + r * row_bytes + first / shape.values * shape.bytes;
            if (!read_block(format, from, here, blocks[r])) return r;
        }
        const int64_t head = head_bytes(format, groups);
        memset(to, 0, (size_t)head);
        write_head(shape, blocks, groups, to);
        for (int32_t g = 0; g < groups; g++) {
            write_codes(shape.bits, blocks, g, to + head + g * PANEL * GROUP * shape.bits / 8);
        }
        to += packed_block(format, groups);
    }
    return -1;
}

} // namespace soban
