// What an adapter adds to the results of a linear layer: the second of its two small products.
#ifndef SOBAN_ADAPTERS_H
#define SOBAN_ADAPTERS_H

#include "kernels.h"
#include "simd.h"

namespace {

constexpr int32_t PANEL_VECTORS = PANEL / WIDTH, ADAPTED_TOKENS = WIDTH / 2; // 8 sums hide the latency of one

// Columns from .. to of one panel; each sum is made in ascending order of the rank.
template <class Stored, int TOKENS>
INLINE void adapt_panel(const char *panel, const soban::Adapted &task, const float *inner, float *out, int32_t from,
                        int32_t to) {
    V total[TOKENS][PANEL_VECTORS] = {};
    for (int32_t r = 0; r < task.rank; r++) {
        V weights[PANEL_VECTORS];
        UNROLL
        for (int v = 0; v < PANEL_VECTORS; v++) {
            weights[v] = Stored::load(panel + ((int64_t)r * PANEL + v * WIDTH) * Stored::SIZE);
        }
        UNROLL
        for (int t = 0; t < TOKENS; t++) {
            const V x = splat(inner[(int64_t)t * task.rank + r]);
            UNROLL
            for (int v = 0; v < PANEL_VECTORS; v++) total[t][v] = fma(x, weights[v], total[t][v]);
        }
    }
    UNROLL
    for (int t = 0; t < TOKENS; t++) {
        float whole[PANEL] = {}, *now = out + t * task.out_stride, *to_now = now - from;
        const bool part = to - from < PANEL;
        if (part) memcpy(whole + from, now, sizeof(float) * (size_t)(to - from));
        float *sums = part ? whole : to_now;
        UNROLL
        for (int v = 0; v < PANEL_VECTORS; v++) {
            store(sums + v * WIDTH, fma(splat(task.scale), total[t][v], load(sums + v * WIDTH)));
        }
        if (part) memcpy(now, whole + from, sizeof(float) * (size_t)(to - from));
    }
}

template <class Stored> void adapt_all(const soban::Adapted &task) {
    const int32_t end = task.first + task.count;
    for (int32_t column = task.first; column < end;) {
        const int32_t from = column % PANEL, to = end - column < PANEL - from ? from + end - column : PANEL;
        const char *panel = (const char *)task.b + (int64_t)(column - from) * task.rank * Stored::SIZE;
        const float *inner = task.inner;
        float *out = task.out + (column - task.first);
        int32_t t = 0;
        for (; t + ADAPTED_TOKENS <= task.tokens; t += ADAPTED_TOKENS) {
            adapt_panel<Stored, ADAPTED_TOKENS>(panel, task, inner + (int64_t)t * task.rank, out + t * task.out_stride,
                                                from, to);
        }
        for (; t < task.tokens; t++) {
            adapt_panel<Stored, 1>(panel, task, inner + (int64_t)t * task.rank, out + t * task.out_stride, from, to);
        }
        column += to - from;
    }
}

void adapt(const soban::Adapted *task) { task->format == SOBAN_F32 ? adapt_all<F32>(*task) : adapt_all<BF16>(*task); }

} // namespace
#endif
