// linear() against q8 and q4 panels: few tokens read the weights as several streams, many tokens share tiles.
//
// Every sum is sum = fma(integer, weight scale x value scale, sum), then for q4 sum = fma(minimum, values' sum, sum),
// group by group in ascending order, whichever way is taken.
#ifndef SOBAN_QUANTISED_H
#define SOBAN_QUANTISED_H

#if SOBAN_AMX
#include "blocks_amx.h"
#elif SOBAN_VNNI
#include "blocks_vnni.h"
#elif SOBAN_ISA == 1
#include "blocks_avx2.h"
#elif SOBAN_NEON
#include "blocks_neon.h"
#else
#include "blocks_scalar.h"
#endif

namespace {

constexpr int32_t STREAMS = 4;        // panels read side by side: one core follows several streams faster than one
constexpr int32_t AHEAD_BYTES = 4096; // how far ahead of each stream to prefetch
#if SOBAN_AMX
constexpr int32_t BLOCK_PANELS = 2, BLOCK_TOKENS = 8;
#elif SOBAN_VNNI == 2 && SOBAN_ISA == 2
constexpr int32_t BLOCK_PANELS = 2, BLOCK_TOKENS = 8; // a tile: 16 sums hide the latency, and few loads
#elif SOBAN_VNNI == 2
constexpr int32_t BLOCK_PANELS = 2, BLOCK_TOKENS = 6; // the same, in 8 vectors of half the length
#elif SOBAN_VNNI
constexpr int32_t BLOCK_PANELS = 1, BLOCK_TOKENS = 5; // 10 sums hide the latency; 16 registers
#elif SOBAN_NEON
constexpr int32_t BLOCK_PANELS = 1, BLOCK_TOKENS = 6; // 24 sums in 32 registers
#else
constexpr int32_t BLOCK_PANELS = 1, BLOCK_TOKENS = 4;
#endif
constexpr int32_t BLOCK_GROUPS = SOBAN_ISA == 2 ? 4 : 8; // a tile's weights stay in the L1 cache
constexpr int64_t VALUES_AT_ONCE = 1 << 20;              // bytes of activations that stay in the L2 cache

// Copies finished sums (width for each token) to the output, without the padded rows.
INLINE void write_sums(const float *sums, int width, int32_t tokens, int32_t rows, const float *bias, float *out,
                       int64_t out_stride) {
    for (int32_t t = 0; t < tokens; t++) {
        in_vectors(rows, [&](int64_t r, int n) {
            const V x = load_up_to(sums + t * width + r, n);
            store_up_to(out + t * out_stride + r, bias ? x + load_up_to(bias + r, n) : x, n);
        });
    }
}

template <class Format, int TOKENS> void linear_streams(const soban::Linear &task) {
    const soban::Activations &x = *task.activations;
    const int64_t panel_bytes = x.groups * Format::BYTES;
    const int32_t panels = (task.count + PANEL - 1) / PANEL;
    const auto row_of = [&](int32_t p) { return task.panels ? task.panels[p] * PANEL : task.first + p * PANEL; };
    const auto data_of = [&](int32_t p) { return (const uint8_t *)task.part->data + row_of(p) / PANEL * panel_bytes; };
    for (int32_t first = 0; first < panels; first += STREAMS) {
        const int streams = panels - first < STREAMS ? panels - first : STREAMS;
        float sums[STREAMS][TOKENS * PANEL] __attribute__((aligned(64))) = {};
        const uint8_t *panel[STREAMS], *next[STREAMS]; // past its panel's end a stream prefetches the one that follows
        for (int s = 0; s < streams; s++) {
            const int32_t p = first + s, after = p + STREAMS;
            panel[s] = data_of(p);
            next[s] = after < panels ? data_of(after) : panel[s] + STREAMS * panel_bytes;
        }
        for (int32_t g = 0; g < x.groups; g++) {
            const int64_t here = g * Format::BYTES, ahead = here + AHEAD_BYTES;
            for (int s = 0; s < streams; s++) {
                const uintptr_t wanted = ahead < panel_bytes ? (uintptr_t)panel[s] + (uintptr_t)ahead
                                                             : (uintptr_t)next[s] + (uintptr_t)(ahead - panel_bytes);
                for (int64_t b = 0; b < Format::BYTES; b += 64)
                    __builtin_prefetch((const void *)(wanted + (uintptr_t)b));
                add_block<Format, TOKENS>(panel[s] + here, x, (int64_t)g * x.tokens, sums[s]);
            }
        }
        for (int s = 0; s < streams; s++) {
            const int32_t row = row_of(first + s),
                          left = (task.panels ? task.part->rows : task.first + task.count) - row;
            write_sums(sums[s], PANEL, TOKENS, left < PANEL ? left : PANEL, task.bias ? task.bias + row : nullptr,
                       task.out + row, task.out_stride);
        }
    }
}

// Asks for the panel's groups that follow those at hand: they come while the tokens are worked through.
template <class Format> INLINE void prefetch_groups(const uint8_t *blocks, int32_t groups) {
    const uintptr_t next = (uintptr_t)blocks + (uintptr_t)(groups * Format::BYTES);
    for (int64_t b = 0; b < groups * Format::BYTES; b += 64) __builtin_prefetch((const void *)(next + (uintptr_t)b));
}

#if SOBAN_ISA != 0 || SOBAN_NEON
template <class Format, int PANELS>
void add_tile(const uint8_t *panel, int64_t panel_bytes, int32_t first_group, int32_t groups,
              const soban::Activations &x, int64_t place, int32_t tokens, Expanded *blocks, float *sums) {
    const uint8_t *stored = panel + first_group * Format::BYTES;
    for (int p = 0; p < PANELS; p++) {
        for (int32_t g = 0; g < groups; g++) {
            expand<Format>(stored + p * panel_bytes + g * Format::BYTES, blocks + p * groups + g);
        }
        prefetch_groups<Format>(stored + p * panel_bytes, groups);
    }
    const int width = PANELS * PANEL;
    int32_t t = 0;
#if SOBAN_AMX
    if (PANELS == MATRIX_PANELS) {
        for (; t + 2 * HALF <= tokens; t += 2 * HALF) {
            add_matrix<Format, 2>(stored, panel_bytes, blocks, groups, x, place + t, sums + t * width, width);
        }
        for (; t + HALF <= tokens; t += HALF) {
            add_matrix<Format, 1>(stored, panel_bytes, blocks, groups, x, place + t, sums + t * width, width);
        }
    }
#endif
    for (; t + BLOCK_TOKENS <= tokens; t += BLOCK_TOKENS) {
        add_expanded<Format, PANELS, BLOCK_TOKENS>(blocks, groups, groups, x, place + t, sums + t * width, width);
    }
    for (; t + 3 <= tokens; t += 3) {
        add_expanded<Format, PANELS, 3>(blocks, groups, groups, x, place + t, sums + t * width, width);
    }
    for (; t < tokens; t++) {
        add_expanded<Format, PANELS, 1>(blocks, groups, groups, x, place + t, sums + t * width, width);
    }
}
#else
struct Expanded { // plain C++ unpacks as it goes
    uint8_t nothing[64];
};

template <class Format, int PANELS>
void add_tile(const uint8_t *panel, int64_t, int32_t first_group, int32_t groups, const soban::Activations &x,
              int64_t place, int32_t tokens, Expanded *, float *sums) {
    const uint8_t *blocks = panel + first_group * Format::BYTES;
    prefetch_groups<Format>(blocks, groups);
    int32_t t = 0;
    for (; t + BLOCK_TOKENS <= tokens; t += BLOCK_TOKENS) {
        for (int32_t g = 0; g < groups; g++) {
            add_block<Format, BLOCK_TOKENS>(blocks + g * Format::BYTES, x, place + (int64_t)g * x.tokens + t,
                                            sums + t * PANEL);
        }
    }
    for (; t < tokens; t++) {
        for (int32_t g = 0; g < groups; g++) {
            add_block<Format, 1>(blocks + g * Format::BYTES, x, place + (int64_t)g * x.tokens + t, sums + t * PANEL);
        }
    }
}
#endif

// PANELS panels from row `first` on, for `tokens` tokens.
template <class Format, int PANELS>
void linear_panels(const soban::Linear &task, int32_t first, int32_t rows, int32_t token, int32_t tokens) {
    const soban::Activations &x = *task.activations;
    const int64_t panel_bytes = x.groups * Format::BYTES;
    const uint8_t *panel = (const uint8_t *)task.part->data + first / PANEL * panel_bytes;
    const int width = PANELS * PANEL;
    Expanded *blocks = (Expanded *)task.scratch;
    float *sums = (float *)(blocks + BLOCK_PANELS * BLOCK_GROUPS);
    memset(sums, 0, sizeof(float) * (size_t)width * (size_t)tokens);
    for (int32_t g = 0; g < x.groups; g += BLOCK_GROUPS) {
        const int32_t groups = x.groups - g < BLOCK_GROUPS ? x.groups - g : BLOCK_GROUPS;
        add_tile<Format, PANELS>(panel, panel_bytes, g, groups, x, (int64_t)g * x.tokens + token, tokens, blocks, sums);
    }
    write_sums(sums, width, tokens, rows, task.bias ? task.bias + first : nullptr,
               task.out + token * task.out_stride + first, task.out_stride);
}

// Tokens whose values stay in the L2 cache while the panels pass.
INLINE int32_t tokens_at_once(int32_t groups) {
    const int64_t fit = VALUES_AT_ONCE / ((int64_t)groups * GROUP) / 96 * 96; // whole tiles of any kind
    return (int32_t)(fit < 96 ? 96 : fit);
}

template <class Format> void linear_tiles(const soban::Linear &task) {
    const int32_t end = task.first + task.count, step = tokens_at_once(task.activations->groups);
#if SOBAN_AMX
    begin_tiles();
#endif
    for (int32_t token = 0; token < task.tokens; token += step) {
        const int32_t tokens = task.tokens - token < step ? task.tokens - token : step;
        int32_t first = task.first;
        for (; end - first > (BLOCK_PANELS - 1) * PANEL; first += BLOCK_PANELS * PANEL) {
            const int32_t left = end - first, rows = left < BLOCK_PANELS * PANEL ? left : BLOCK_PANELS * PANEL;
            linear_panels<Format, BLOCK_PANELS>(task, first, rows, token, tokens);
        }
        for (; first < end; first += PANEL) {
            linear_panels<Format, 1>(task, first, end - first < PANEL ? end - first : PANEL, token, tokens);
        }
    }
#if SOBAN_AMX
    end_tiles();
#endif
}

template <class Format> void linear_quantised(const soban::Linear &task) {
    switch (task.tokens) {
    case 1: return linear_streams<Format, 1>(task);
    case 2: return linear_streams<Format, 2>(task);
    case 3: return linear_streams<Format, 3>(task);
    case 4: return linear_streams<Format, 4>(task);
#if SOBAN_VNNI == 2
    case 5: return linear_streams<Format, 5>(task);
    case 6: return linear_streams<Format, 6>(task);
    case 7: return linear_streams<Format, 7>(task);
    case 8: return linear_streams<Format, 8>(task);
#endif
    default: return linear_tiles<Format>(task);
    }
}

int64_t quantised_scratch(int32_t tokens) {
    return (int64_t)sizeof(Expanded) * BLOCK_PANELS * BLOCK_GROUPS +
           (int64_t)sizeof(float) * BLOCK_PANELS * PANEL * tokens;
}

} // namespace
#endif
