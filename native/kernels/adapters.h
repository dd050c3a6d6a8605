// What an adapter adds to the results of a linear layer: the second of its two small products.
#ifndef SOBAN_ADAPTERS_H
#define SOBAN_ADAPTERS_H

#include "kernels.h"
#include "simd.h"

namespace {

constexpr int32_t PANEL_VECTORS = PANEL / WIDTH;
// A tile's sums hide the latency of one, and fit the registers with the weights of a step of the rank.
constexpr int32_t TILE_PANELS = WIDTH == 16 ? 4 : 1, TILE_ADAPTED = 4;

// Whole panels for some tokens; each sum is made in ascending order of the rank.
template <class Stored, int PANELS, int TOKENS>
INLINE void adapt_tile(const char *panel, const soban::Adapted &task, const float *inner, float *out,
                       int64_t out_stride) {
    constexpr int VECTORS = PANELS * PANEL_VECTORS;
    const int64_t panel_bytes = (int64_t)task.rank * PANEL * Stored::SIZE;
    V total[TOKENS][VECTORS] = {};
    for (int32_t r = 0; r < task.rank; r++, panel += PANEL * Stored::SIZE) {
        V weights[VECTORS];
        UNROLL
        for (int v = 0; v < VECTORS; v++) {
            weights[v] =
                Stored::load(panel + v / PANEL_VECTORS * panel_bytes + v % PANEL_VECTORS * WIDTH * Stored::SIZE);
        }
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            const V x = splat(inner[(int64_t)t * task.rank + r]);
            UNROLL
            for (int v = 0; v < VECTORS; v++) total[t][v] = fma(x, weights[v], total[t][v]);
        }
    }
    UNROLL
    for (int t = 0; t < TOKENS; t++) {
        UNROLL
        for (int v = 0; v < VECTORS; v++) {
            float *to = out + t * out_stride + v * WIDTH;
            store(to, fma(splat(task.scale), total[t][v], load(to)));
        }
    }
}

template <class Stored, int PANELS> void adapt_panels(const char *panel, const soban::Adapted &task, float *out) {
    const float *inner = task.inner;
    int32_t t = 0;
    for (; t + TILE_ADAPTED <= task.tokens; t += TILE_ADAPTED) {
        adapt_tile<Stored, PANELS, TILE_ADAPTED>(panel, task, inner + (int64_t)t * task.rank, out + t * task.out_stride,
                                                 task.out_stride);
    }
    for (; t < task.tokens; t++) {
        adapt_tile<Stored, PANELS, 1>(panel, task, inner + (int64_t)t * task.rank, out + t * task.out_stride,
                                      task.out_stride);
    }
}

// Columns from .. to of a panel: what lies beside them is left alone.
template <class Stored>
void adapt_part(const char *panel, const soban::Adapted &task, float *out, int32_t from, int32_t to) {
    const size_t size = sizeof(float) * (size_t)(to - from);
    for (int32_t t = 0; t < task.tokens; t++, out += task.out_stride) {
        float whole[PANEL] = {};
        memcpy(whole + from, out, size);
        adapt_tile<Stored, 1, 1>(panel, task, task.inner + (int64_t)t * task.rank, whole, 0);
        memcpy(out, whole + from, size);
    }
}

template <class Stored> void adapt_all(const soban::Adapted &task) {
    const int32_t end = task.first + task.count;
    for (int32_t column = task.first; column < end;) {
        const int32_t from = column % PANEL;
        const char *panel = (const char *)task.b + (int64_t)(column - from) * task.rank * Stored::SIZE;
        float *out = task.out + (column - task.first);
        if (from == 0 && end - column >= TILE_PANELS * PANEL) {
            adapt_panels<Stored, TILE_PANELS>(panel, task, out);
            column += TILE_PANELS * PANEL;
        } else if (from == 0 && end - column >= PANEL) {
            adapt_panels<Stored, 1>(panel, task, out);
            column += PANEL;
        } else {
            const int32_t to = end - column < PANEL - from ? from + end - column : PANEL;
            adapt_part<Stored>(panel, task, out, from, to);
            column += to - from;
        }
    }
}

void adapt(const soban::Adapted *task) { task->format == SOBAN_F32 ? adapt_all<F32>(*task) : adapt_all<BF16>(*task); }

} // namespace
#endif
