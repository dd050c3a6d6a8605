// soban_isa_works: every kernel of an instruction set does a little work, and the plain kernels say whether it is
// right.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/kernels.h"

namespace soban {
namespace {

constexpr int32_t COLUMNS = BLOCK + 2 * GROUP + 20, ROWS = 2 * PANEL + 3,
                  MOST_TOKENS = 40; // tiles of every kind, and tails
constexpr int32_t GROUPS = (COLUMNS + GROUP - 1) / GROUP, PANELS = (ROWS + PANEL - 1) / PANEL;
constexpr int32_t MOST_SIZE = 80, HEADS = 2, POSITIONS = 50; // of attention
// Of the largest value: what is broken is off by far more, and a weight of the softmax that is bfloat16 by 2**-8.
constexpr float CLOSE = 4e-3f;

struct Numbers { // from 0 to 1, always the same
    uint32_t state = 1;
    uint32_t bits() { return (state = state * 1664525u + 1013904223u) >> 8; }
    float next() { return (float)bits() * 0x1p-24f; }
};

struct alignas(64) Line { // of memory: kernels want it aligned
    char bytes[64];
};

template <class T> T *room(std::vector<Line> &memory, int64_t count) {
    memory.resize((size_t)(count * (int64_t)sizeof(T) / 64 + 2));
    return (T *)memory.data();
}

// Bytes whose every half word is a bf16 and f16 below 1.
void fill_weights(uint8_t *bytes, int64_t size, Numbers &numbers) {
    for (int64_t i = 0; i < size; i++) bytes[i] = (uint8_t)(i % 2 ? 0x38 + numbers.bits() % 4 : numbers.bits());
}

// The weights, read as bf16, in a quantised format.
const uint8_t *quantise_weights(const uint8_t *weights, int32_t format, std::vector<Line> &memory) {
    const int64_t panel = packed_panel(format, GROUPS);
    uint8_t *to = room<uint8_t>(memory, PANELS * panel);
    for (int32_t p = 0; p < PANELS; p++) {
        const int32_t rows = std::min(PANEL, ROWS - p * PANEL);
        const uint8_t *from = weights + p * PANEL * COLUMNS * 2;
        encoders_of(SOBAN_ISA_SCALAR)->panel(from, SOBAN_BF16, rows, COLUMNS, format, to + p * panel);
    }
    return to;
}

void linears(const Kernels &kernels, std::vector<float> &results) {
    Numbers numbers;
    std::vector<float> x(COLUMNS * MOST_TOKENS), out(ROWS * MOST_TOKENS), bias(ROWS);
    for (float &value : x) value = numbers.next() - 0.5f;
    for (float &value : bias) value = numbers.next();
    std::vector<Line> weights, quantised, values, scratch;
    std::vector<float> scales(GROUPS * MOST_TOKENS);
    std::vector<int32_t> pairs(scales.size()), offsets(scales.size());
    std::vector<RoundedGroup> rounded(scales.size() + TOKEN_SLACK);
    uint8_t *bytes = room<uint8_t>(weights, PANELS * PANEL * GROUPS * GROUP * 4 + 8192);
    fill_weights(bytes, (int64_t)weights.size() * 64, numbers);
    for (int32_t tokens : {1, 2, 5, 8, MOST_TOKENS}) {
        Activations activations = {room<int8_t>(values, tokens * GROUPS * GROUP + TILE_SLACK),
                                   scales.data(),
                                   pairs.data(),
                                   offsets.data(),
                                   tokens,
                                   GROUPS,
                                   rounded.data(),
                                   false};
        for (int32_t format = SOBAN_F32; format <= SOBAN_IQ4_XS; format++) {
            const int32_t columns = of_file(format) && file_shape(format).nested ? BLOCK : COLUMNS; // whole blocks
            activations.halves = of_file(format);
            activations.groups = (columns + GROUP - 1) / GROUP;
            kernels.quantise(x.data(), COLUMNS, columns, 0, tokens, &activations);
            const bool packed =
                format == SOBAN_Q8 || format == SOBAN_Q4; // the bytes of others mean numbers as they are
            const uint8_t *data = packed ? quantise_weights(bytes, format, quantised) : bytes;
            const soban_part part = {data, format, ROWS, columns, 0};
            char *own = room<char>(scratch, kernels.linear_scratch(format, columns, tokens));
            const Linear task = {&part,        0,          ROWS, tokens,      0,   x.data(), COLUMNS,
                                 &activations, out.data(), ROWS, bias.data(), own, nullptr};
            kernels.linear(&task);
            if (format == SOBAN_F32 || format == SOBAN_BF16) { // the same rows as an adapter's
                const Adapted more = {bytes, format, 8, 3, ROWS - 3, tokens, x.data(), 1e-3f, out.data() + 3, ROWS};
                kernels.adapt(&more);
            }
            results.insert(results.end(), out.begin(), out.begin() + ROWS * tokens);
        }
    }
}

void attentions(const Kernels &kernels, int32_t size, int32_t format, std::vector<float> &results) {
    constexpr int32_t TABLE[] = {0, 1};
    constexpr float SLOPES[] = {0.25f, 0.0625f};
    Numbers numbers;
    const int64_t page = block_bytes(format, size);
    std::vector<Line> stored_keys, stored_values, scratch;
    char *keys = room<char>(stored_keys, 2 * page), *values = room<char>(stored_values, 2 * page);
    for (int32_t p = 0; p < POSITIONS; p++) {
        float key[MOST_SIZE], value[MOST_SIZE];
        for (int32_t d = 0; d < size; d++) key[d] = numbers.next() - 0.5f, value[d] = numbers.next() - 0.5f;
        kernels.store(key, value, size, format, p % PAGE, keys + p / PAGE * page, values + p / PAGE * page);
    }
    std::vector<float> queries((size_t)(POSITIONS * HEADS * size)), out(queries.size());
    for (float &query : queries) query = numbers.next() - 0.5f;
    for (int32_t tokens : {1, POSITIONS - 2}) {
        Attention task = {};
        task.queries = queries.data(), task.query_stride = HEADS * size;
        task.tokens = tokens, task.heads = HEADS, task.size = size, task.position = POSITIONS - tokens;
        task.window = 40, task.scale = 1.0f, task.softcap = 5.0f;
        task.keys = keys, task.values = values, task.page_stride = page, task.table = TABLE, task.format = format;
        task.first_span = 0, task.end_span = 1, task.out = out.data(), task.out_stride = HEADS * size;
        task.scratch = room<char>(scratch, kernels.attention_scratch(tokens * HEADS, size));
        kernels.attend(&task);
        results.insert(results.end(), out.begin(), out.begin() + tokens * HEADS * size);
        task.slopes = SLOPES, task.softcap = 0.0f;
        kernels.attend(&task);
        results.insert(results.end(), out.begin(), out.begin() + tokens * HEADS * size);
        task.slopes = nullptr, task.length = POSITIONS;
        kernels.attend(&task);
        results.insert(results.end(), out.begin(), out.begin() + tokens * HEADS * size);
    }
}

void attentions(const Kernels &kernels, std::vector<float> &results) {
    for (int32_t size : {64, MOST_SIZE}) { // the matrix unit takes the first
        for (int32_t format = SOBAN_CACHE_F32; format <= SOBAN_CACHE_INT8; format++) {
            attentions(kernels, size, format, results);
        }
    }
}

void rows(const Kernels &kernels, std::vector<float> &results) {
    Numbers numbers;
    std::vector<float> x(2 * COLUMNS), out(COLUMNS);
    for (float &value : x) value = 4.0f * numbers.next() - 2.0f;
    const float *y = x.data() + COLUMNS;
    const auto keep = [&] { results.insert(results.end(), out.begin(), out.end()); };
    kernels.rms_norm(x.data(), y, COLUMNS, 1e-6f, 1.0f, out.data()), keep();
    kernels.layer_norm(x.data(), y, y, COLUMNS, 1e-6f, out.data()), keep();
    kernels.rope(x.data(), y, COLUMNS, COLUMNS / 2, COLUMNS / 2 - 4, 0, out.data()), keep();
    for (int32_t activation = SOBAN_SILU; activation <= SOBAN_IDENTITY; activation++) {
        kernels.glu(x.data(), y, COLUMNS, activation, out.data()), keep();
        kernels.activate(x.data(), COLUMNS, activation, out.data()), keep();
    }
    kernels.scale(x.data(), y, COLUMNS, 2.0f, out.data()), keep();
    kernels.softcap(x.data(), COLUMNS, 1.0f, out.data()), keep();
    const float *rows[] = {nullptr, y, x.data()};
    kernels.convolve(rows, x.data(), y, 3, COLUMNS / 2, out.data()), keep();
}

void memories(const Kernels &kernels, std::vector<float> &results) {
    constexpr int32_t KEYS = 24, VALUES = 70, TOKENS = 9, ROW = 2 * KEYS + VALUES;
    Numbers numbers;
    std::vector<float> x(TOKENS * ROW), gates(2 * TOKENS), state(KEYS * VALUES), saved(state.size());
    std::vector<float> out(TOKENS * VALUES);
    for (float &value : x) value = numbers.next() - 0.5f;
    for (float &value : gates) value = numbers.next();
    const Memory task = {
        x.data(), x.data() + KEYS, ROW,          x.data() + 2 * KEYS, ROW, gates.data(), 2,          TOKENS, KEYS,
        VALUES,   nullptr,         state.data(), saved.data(),        4,   0.125f,       out.data(), VALUES};
    kernels.remember(&task);
    for (const std::vector<float> &some : {out, state, saved}) results.insert(results.end(), some.begin(), some.end());
}

// One way to compute a part of the results, and how far two instruction sets may be apart in it.
bool agree(void (*work)(const Kernels &, std::vector<float> &), const Kernels &one, const Kernels &other) {
    std::vector<float> here, there;
    work(one, here);
    work(other, there);
    float most = 0.0f;
    for (float value : there) most = std::fmax(most, std::fabs(value));
    for (size_t i = 0; i < here.size(); i++) {
        if (!(std::fabs(here[i] - there[i]) <= CLOSE * most)) return false;
    }
    return here.size() == there.size();
}

} // namespace
} // namespace soban

extern "C" int32_t soban_isa_works(int32_t isa) {
    const soban::Kernels *kernels = soban::kernels_of(isa), *plain = soban::kernels_of(SOBAN_ISA_SCALAR);
    if (!kernels) return 0;
    return soban::agree(soban::linears, *kernels, *plain) && soban::agree(soban::attentions, *kernels, *plain) &&
           soban::agree(soban::rows, *kernels, *plain) && soban::agree(soban::memories, *kernels, *plain);
}
