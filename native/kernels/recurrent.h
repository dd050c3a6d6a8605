// Kernels of what a sequence carries besides keys and values: convolutions over the last tokens, and the delta rule.
#ifndef SOBAN_RECURRENT_H
#define SOBAN_RECURRENT_H

#include "kernels.h"
#include "simd.h"

namespace {

// rows[k] is the k-th of `taps` rows, null: of zeros; weight (taps, columns).
void convolve(const float *const *rows, const float *weight, const float *bias, int32_t taps, int32_t columns,
              float *out) {
    in_vectors(columns, [&](int64_t i, int n) {
        V total = {};
        for (int32_t k = 0; k < taps; k++) {
            if (rows[k])
                total = fma(load_up_to(weight + (int64_t)k * columns + i, n), load_up_to(rows[k] + i, n), total);
        }
        store_up_to(out + i, bias ? total + load_up_to(bias + i, n) : total, n);
    });
}

constexpr int MEMORY_VECTORS = 4; // columns of a memory that are taken through all tokens: 128 x 64 floats fit a cache

// Columns first .. first + COUNT vectors, the last of n lanes. Each column of a memory is for itself, and each sum goes
// through the keys' numbers in their order.
template <int COUNT> INLINE void remember(const soban::Memory &task, int32_t first, int n) {
    const int64_t width = task.value_size;
    const auto part = [&](int v) { return v + 1 < COUNT ? WIDTH : n; };
    float *const state = task.state + first;
    const auto copy = [&](const float *from, float *to) {
        for (int32_t d = 0; d < task.key_size; d++) {
            UNROLL for (int v = 0; v < COUNT; v++) {
                const V x = from ? load_up_to(from + d * width + v * WIDTH, part(v)) : V{};
                store_up_to(to + d * width + v * WIDTH, x, part(v));
            }
        }
    };
    if (task.before != task.state) copy(task.before ? task.before + first : nullptr, state);
    for (int32_t t = 0; t < task.tokens; t++) {
        const float *key = task.keys + t * task.key_stride, *query = task.queries + t * task.key_stride;
        const V stays = splat(task.gates[t * task.gate_stride]);
        const V learnt = splat(task.gates[t * task.gate_stride + task.gate_stride / 2]);
        V known[COUNT] = {}, answer[COUNT] = {};
        for (int32_t d = 0; d < task.key_size; d++) {
            UNROLL for (int v = 0; v < COUNT; v++) {
                known[v] = fma(load_up_to(state + d * width + v * WIDTH, part(v)), splat(key[d]), known[v]);
            }
        }
        V error[COUNT];
        UNROLL for (int v = 0; v < COUNT; v++) {
            const V value = load_up_to(task.values + t * task.value_stride + first + v * WIDTH, part(v));
            error[v] = (value - known[v] * stays) * learnt;
        }
        for (int32_t d = 0; d < task.key_size; d++) {
            UNROLL for (int v = 0; v < COUNT; v++) {
                float *place = state + d * width + v * WIDTH;
                const V now = fma(error[v], splat(key[d]), load_up_to(place, part(v)) * stays);
                store_up_to(place, now, part(v));
                answer[v] = fma(now, splat(query[d]), answer[v]);
            }
        }
        UNROLL for (int v = 0; v < COUNT; v++) {
            float *to = task.out + t * task.out_stride + first + v * WIDTH;
            store_up_to(to, answer[v] * splat(task.scale), part(v));
        }
        if (t + 1 == task.until) copy(state, task.saved + first);
    }
}

void remember(const soban::Memory *task) {
    int32_t first = 0;
    const int32_t size = task->value_size;
    for (; first + MEMORY_VECTORS * WIDTH <= size; first += MEMORY_VECTORS * WIDTH) {
        remember<MEMORY_VECTORS>(*task, first, WIDTH);
    }
    for (; first < size; first += WIDTH) remember<1>(*task, first, size - first < WIDTH ? size - first : WIDTH);
}

} // namespace
#endif
