// linear() against quantised panels: few tokens read the weights as several streams, many tokens share tiles.
//
// Every sum is sum = fma(whole number, weight scale x value scale, sum), block by block in ascending order, whichever
// way is taken; of the formats of files share by share, see file_products.h.
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
#if SOBAN_AMX
#include "file_amx.h"
#else
#include "file_products.h"
#endif

namespace {

#if SOBAN_AMX
constexpr bool IS_AMX = true;
#else
constexpr bool IS_AMX = false;
#endif
constexpr int32_t STREAMS = 4;        // panels read side by side: one core follows several streams faster than one
constexpr int32_t AHEAD_BYTES = 4096; // how far ahead of each stream to prefetch
#if SOBAN_VNNI == 2 && SOBAN_ISA == 2
constexpr int32_t PANELS_A_TILE = 2, TOKENS_A_TILE = 8; // 16 sums hide the latency, and few loads
#elif SOBAN_VNNI == 2
constexpr int32_t PANELS_A_TILE = 2, TOKENS_A_TILE = 6; // the same, in 8 vectors of half the length
#elif SOBAN_VNNI
constexpr int32_t PANELS_A_TILE = 1, TOKENS_A_TILE = 5; // 10 sums hide the latency; 16 registers
#elif SOBAN_NEON
constexpr int32_t PANELS_A_TILE = 1, TOKENS_A_TILE = 6; // 24 sums in 32 registers
#else
constexpr int32_t PANELS_A_TILE = 1, TOKENS_A_TILE = 4;
#endif
constexpr int32_t TILE_GROUPS = (IS_AMX ? 2 : 1) * BLOCK_GROUPS; // a tile's weights stay in the L1 cache
constexpr int64_t MOST_EXPANDED = FILE_EXPANDED > EXPANDED ? FILE_EXPANDED : EXPANDED; // bytes of a group
constexpr int32_t TOKENS_AT_ONCE = 512 / STRIP_TOKENS * STRIP_TOKENS;
constexpr int64_t VALUES_AT_ONCE = 1 << 20; // bytes of their values that stay in the L2 cache

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

// And back.
INLINE void read_sums(float *sums, int width, int32_t tokens, int32_t rows, const float *out, int64_t out_stride) {
    for (int32_t t = 0; t < tokens; t++) {
        in_vectors(rows, [&](int64_t r, int n) {
            store(sums + t * width + r, load_up_to(out + t * out_stride + r, n)); // sums are whole vectors
        });
    }
}

template <class Format, int TOKENS> void linear_streams(const soban::Linear &task) {
    const int32_t groups = task.activations->groups;
    const Strip x = strip_of(*task.activations, task.token);
    const int64_t panel_bytes = soban::packed_panel(Format::NUMBER, groups);
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
        for (int32_t g = 0; g < groups; g += BLOCK_GROUPS) {
            const int32_t count = groups - g < BLOCK_GROUPS ? groups - g : BLOCK_GROUPS;
            const int64_t here = g / BLOCK_GROUPS * block_bytes_of<Format>(BLOCK_GROUPS), ahead = here + AHEAD_BYTES;
            const Strip values = from(x, 0, g);
            uintptr_t wanted[STREAMS];
            for (int s = 0; s < streams; s++) {
                wanted[s] = ahead < panel_bytes ? (uintptr_t)panel[s] + (uintptr_t)ahead
                                                : (uintptr_t)next[s] + (uintptr_t)(ahead - panel_bytes);
            }
            for (int s = 0; s < streams; s++) {
                add_block<TOKENS>(Format(), panel[s] + here, count, values, sums[s], {wanted, streams, s});
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

// Asks for `bytes` of a panel that follow those at hand: they come while the tokens are worked through.
INLINE void prefetch_panel(const uint8_t *from, int64_t bytes) {
    for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch((const void *)((uintptr_t)from + (uintptr_t)b), 0, 2);
}

// Adds `groups` groups, whose blocks begin at `stored`, to the sums of a strip's tokens.
template <class Format, int PANELS>
INLINE void add_strip(const uint8_t *stored, int64_t panel_bytes, int32_t groups, const uint8_t *expanded,
                      const Strip &x, float *sums) {
#if SOBAN_AMX
    if (x.tokens > MATRIX_TOKENS) {
        add_matrix<Format, 2, PANELS>(stored, panel_bytes, groups, expanded, x, sums);
    } else {
        add_matrix<Format, 1, PANELS>(stored, panel_bytes, groups, expanded, x, sums);
    }
#else
    const int width = PANELS * PANEL;
    const int64_t stride = groups * expanded_bytes<Format>();
    for (int32_t g = 0; g < groups; g += BLOCK_GROUPS, stored += block_bytes_of<Format>(BLOCK_GROUPS)) {
        const int32_t here = groups - g < BLOCK_GROUPS ? groups - g : BLOCK_GROUPS;
        const uint8_t *levels = expanded + g * expanded_bytes<Format>();
        int32_t t = 0;
        for (; t + TOKENS_A_TILE <= x.tokens; t += TOKENS_A_TILE) {
            add_expanded<Format, PANELS, TOKENS_A_TILE>(stored, panel_bytes, here, levels, stride, from(x, t, g),
                                                        sums + t * width, width);
        }
        for (; t + 3 <= x.tokens; t += 3) {
            add_expanded<Format, PANELS, 3>(stored, panel_bytes, here, levels, stride, from(x, t, g), sums + t * width,
                                            width);
        }
        for (; t < x.tokens; t++) {
            add_expanded<Format, PANELS, 1>(stored, panel_bytes, here, levels, stride, from(x, t, g), sums + t * width,
                                            width);
        }
    }
#endif
}

template <class Format, int PANELS>
INLINE void expand_panels(const uint8_t *stored, int64_t panel_bytes, int32_t groups, uint8_t *to) {
    if (IS_AMX && !Format::NIBBLES) return;
    for (int p = 0; p < PANELS; p++, stored += panel_bytes) {
        for (int32_t g = 0; g < groups; g++, to += expanded_bytes<Format>()) {
            const int32_t first = g / BLOCK_GROUPS * BLOCK_GROUPS;
            const int32_t count = groups - first < BLOCK_GROUPS ? groups - first : BLOCK_GROUPS;
            expand<Format>(stored + g / BLOCK_GROUPS * block_bytes_of<Format>(BLOCK_GROUPS), count, g - first, to);
        }
    }
}

struct Piece { // of a linear's work: what stays in the L2 cache
    int32_t token, tokens, first_group, end_group;
};

// PANELS panels from row `first` on.
template <class Format, int PANELS>
void linear_panels(const soban::Linear &task, const Piece &piece, int32_t first, int32_t rows) {
    const soban::Activations &x = *task.activations;
    const int64_t panel_bytes = soban::packed_panel(Format::NUMBER, x.groups);
    const uint8_t *panel = (const uint8_t *)task.part->data + first / PANEL * panel_bytes;
    const int width = PANELS * PANEL;
    uint8_t *expanded = (uint8_t *)task.scratch;
    float *sums = (float *)(expanded + PANELS_A_TILE * TILE_GROUPS * MOST_EXPANDED);
    float *out = task.out + piece.token * task.out_stride + first;
    if (piece.first_group == 0) {
        memset(sums, 0, sizeof(float) * (size_t)width * (size_t)piece.tokens);
    } else {
        read_sums(sums, width, piece.tokens, rows, out, task.out_stride);
    }
    for (int32_t g = piece.first_group; g < piece.end_group; g += TILE_GROUPS) {
        const int32_t groups = piece.end_group - g < TILE_GROUPS ? piece.end_group - g : TILE_GROUPS;
        const int64_t bytes = soban::packed_panel(Format::NUMBER, groups);
        const uint8_t *stored = panel + g / BLOCK_GROUPS * block_bytes_of<Format>(BLOCK_GROUPS);
        expand_panels<Format, PANELS>(stored, panel_bytes, groups, expanded);
        for (int p = 0; p < PANELS; p++) prefetch_panel(stored + p * panel_bytes + bytes, bytes);
        for (int32_t t = 0; t < piece.tokens;) {
            const Strip strip = from(strip_of(x, piece.token + t), 0, g);
            add_strip<Format, PANELS>(stored, panel_bytes, groups, expanded, strip, sums + t * width);
            t += strip.tokens;
        }
    }
    const bool finished = piece.end_group == x.groups;
    write_sums(sums, width, piece.tokens, rows, finished && task.bias ? task.bias + first : nullptr, out,
               task.out_stride);
}

template <class Format> void linear_piece(const soban::Linear &task, const Piece &piece) {
    const int32_t end = task.first + task.count;
    int32_t first = task.first;
    for (; end - first > (PANELS_A_TILE - 1) * PANEL; first += PANELS_A_TILE * PANEL) {
        const int32_t left = end - first, rows = left < PANELS_A_TILE * PANEL ? left : PANELS_A_TILE * PANEL;
        linear_panels<Format, PANELS_A_TILE>(task, piece, first, rows);
    }
    for (; first < end; first += PANEL) {
        linear_panels<Format, 1>(task, piece, first, end - first < PANEL ? end - first : PANEL);
    }
}

// `count` in as few equal parts as let each have `most`, in whole units.
INLINE int32_t equal_part(int32_t count, int64_t most, int32_t unit) {
    const int64_t parts = most < unit ? (count + unit - 1) / unit : (count + most - 1) / most;
    const int64_t each = (count + parts - 1) / parts;
    return (int32_t)((each + unit - 1) / unit * unit);
}

#if SOBAN_AMX
template <class Format> constexpr int columns_a_tile() { // that its products add up
    if constexpr (Format::OF_FILE) return Format::SHARE;
    return GROUP;
}
#endif

template <class Format> void linear_tiles(const soban::Linear &task) {
    const int32_t groups = task.activations->groups;
    const int32_t tokens = equal_part(task.tokens, TOKENS_AT_ONCE, STRIP_TOKENS);
    const int32_t columns = equal_part(groups, VALUES_AT_ONCE / GROUP / tokens, BLOCK_GROUPS);
#if SOBAN_AMX
    begin_tiles(columns_a_tile<Format>());
#endif
    for (int32_t token = 0; token < task.tokens; token += tokens) {
        const int32_t left = task.tokens - token, some = left < tokens ? left : tokens;
        for (int32_t g = 0; g < groups; g += columns) {
            linear_piece<Format>(task, {token, some, g, groups - g < columns ? groups : g + columns});
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
    const int64_t whole = (tokens + STRIP_TOKENS - 1) / STRIP_TOKENS * STRIP_TOKENS;
    return PANELS_A_TILE * TILE_GROUPS * MOST_EXPANDED + (int64_t)sizeof(float) * PANELS_A_TILE * PANEL * whole;
}

} // namespace
#endif
