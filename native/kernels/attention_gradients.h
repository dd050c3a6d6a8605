// Attention of whole texts for training, forward and backward: each query looks at the tokens of its document that are
// not after it, an interval that begins at `first` of its token.
//
// Queries are taken in blocks, each with the panels of keys that any of them may look at. What a key is worth to a
// query is kept from forward to backward: to find it again would be a fifth of the work.
#ifndef SOBAN_ATTENTION_GRADIENTS_H
#define SOBAN_ATTENTION_GRADIENTS_H

#include "kernels.h"
#include "products.h"

namespace {

constexpr int64_t BLOCK_ROWS = SOBAN_ISA == 2 ? 56 : 48; // queries of a block, about: a multiple of MR

struct Block {
    int64_t token, tokens; // of its queries
    int64_t rows, padded;  // queries, up to a multiple of MR
    int64_t base, width;   // keys: the first, and how many
};

template <class Body> INLINE void in_blocks(const soban_attention &task, int64_t row, Body body) {
    const int32_t *first = task.first + row * task.tokens;
    const int64_t step = BLOCK_ROWS / task.queries > 0 ? BLOCK_ROWS / task.queries : 1;
    for (int64_t token = 0; token < task.tokens; token += step) {
        const int64_t end = token + step < task.tokens ? token + step : task.tokens, base = first[token] / NR * NR;
        const int64_t rows = (end - token) * task.queries;
        body(Block{token, end - token, rows, up_to(rows, MR), base, up_to(end, NR) - base});
    }
}

// Floats in `shares`.
int64_t attention_shares(const soban_attention *task) {
    int64_t count = 0;
    for (int64_t row = 0; row < task->rows; row++) {
        in_blocks(*task, row, [&](Block block) { count += block.padded * block.width; });
    }
    return count * task->key_heads;
}

// The parts of the scratch memory.
struct Room {
    int64_t tokens, size, rows; // with what fills up panels and tiles
    float *keys_across, *keys, *values_across, *values;
    float *of_keys, *of_values;                        // sums
    float *q, *mixed, *q_panels, *mixed_panels, *of_q; // of a block
    float *of_scores, *scores;
    int64_t floats = 0;

    explicit Room(const soban_attention &task)
        : tokens(up_to(task.tokens, NR)), size(up_to(task.size, NR)),
          rows(up_to(BLOCK_ROWS > task.queries ? BLOCK_ROWS : task.queries, MR)) {
        const auto take = [&](int64_t count) -> float * { // there is no scratch memory yet when it is measured
            const int64_t here = floats;
            floats += up_to(count, 16);
            return task.scratch ? task.scratch + here : nullptr;
        };
        float **const whole[] = {&keys_across, &keys, &values_across, &values, &of_keys, &of_values};
        float **const parts[] = {&q, &mixed, &q_panels, &mixed_panels, &of_q};
        for (float **part : whole) *part = take(tokens * size);
        for (float **part : parts) *part = take(rows * size);
        of_scores = take(rows * tokens), scores = take(rows * tokens);
    }
};

int64_t attention_room(const soban_attention *task) { return Room(*task).floats; }

INLINE void copy(const float *from, int64_t count, float *to) {
    in_vectors(count, [&](int64_t i, int n) { store_up_to(to + i, load_up_to(from + i, n), n); });
}

INLINE void clear(float *to, int64_t count) {
    in_vectors(count, [&](int64_t i, int n) { store_up_to(to + i, V{}, n); });
}

// body(r, out): the block's rows, and where each lies in `out`.
template <class Body>
INLINE void in_rows(const soban_attention &task, int64_t row, int64_t key_head, Block block, Body body) {
    for (int64_t r = 0; r < block.rows; r++) {
        const int64_t token = block.token + r / task.queries, head = key_head * task.queries + r % task.queries;
        body(r, ((row * task.tokens + token) * task.key_heads * task.queries + head) * task.size);
    }
}

// Softmax over places first .. end of `width`; the others become 0.
INLINE void softmax_part(float *x, int64_t first, int64_t end, int64_t width) {
    V most = splat(-INFINITY);
    float left = -INFINITY; // of the part of a vector at the end
    in_vectors(end - first, [&](int64_t i, int n) {
        if (n == WIDTH) {
            most = larger(load(x + first + i), most);
        } else {
            for (int j = 0; j < n; j++) left = x[first + i + j] > left ? x[first + i + j] : left;
        }
    });
    const float whole = largest(most), peak = whole > left ? whole : left;
    V sums = {};
    in_vectors(end - first, [&](int64_t i, int n) {
        float *here = x + first + i;
        store_up_to(here, exponential(load_up_to(here, n) - splat(peak)), n);
        sums += load_up_to(here, n);
    });
    const V inverse = splat(1.0f / sum(sums));
    in_vectors(end - first, [&](int64_t i, int n) {
        float *here = x + first + i;
        store_up_to(here, load_up_to(here, n) * inverse, n);
    });
    clear(x, first);
    clear(x + end, width - end);
}

// The queries of a block with zeros after them, and their products with its keys.
INLINE void score(const soban_attention &task, const float *q, Block block, const Room &room, float *scores) {
    copy(q + block.token * task.queries * task.size, block.rows * task.size, room.q);
    clear(room.q + block.rows * task.size, (block.padded - block.rows) * task.size);
    products<MR, false>(block.padded, block.width / NR, task.size, room.q, task.size,
                        room.keys_across + block.base * task.size, NR * task.size, scores, block.width, false);
}

void attention_forward(const soban_attention *given) {
    const soban_attention &task = *given;
    const Room room(task);
    float *shares = task.shares;
    for (int64_t row = 0; row < task.rows; row++) {
        const int32_t *first = task.first + row * task.tokens;
        for (int64_t head = 0; head < task.key_heads; head++) {
            const int64_t place = (row * task.key_heads + head) * task.tokens * task.size;
            pack_rows(task.k + place, task.size, task.tokens, task.size, room.keys_across);
            const float *v = task.v + (row * task.tokens * task.key_heads + head) * task.size;
            pack_columns(v, task.key_heads * task.size, task.tokens, task.size, room.values);
            in_blocks(task, row, [&](Block block) {
                score(task, task.q + place * task.queries, block, room, shares);
                for (int64_t r = 0; r < block.rows; r++) {
                    float *x = shares + r * block.width;
                    const int64_t token = block.token + r / task.queries;
                    if (task.cap > 0.0f) {
                        in_vectors(block.width, [&](int64_t i, int n) {
                            store_up_to(x + i, splat(task.cap) * hyperbolic_tangent(load_up_to(x + i, n)), n);
                        });
                    }
                    softmax_part(x, first[token] - block.base, token + 1 - block.base, block.width);
                }
                // keys behind the last token have no share
                const int64_t depth = block.token + block.tokens - block.base;
                products<MR, false>(block.padded, room.size / NR, depth, shares, block.width,
                                    room.values + block.base * NR, task.tokens * NR, room.mixed, room.size, false);
                in_rows(task, row, head, block,
                        [&](int64_t r, int64_t out) { copy(room.mixed + r * room.size, task.size, task.out + out); });
                shares += block.padded * block.width;
            });
        }
    }
}

// What the gradient of a row's shares means for its scores, in place. `scores`: before the cap, or null.
INLINE void softmax_backward(const soban_attention &task, const float *shares, float *of, const float *scores,
                             int64_t width) {
    V sums[2] = {};
    for (int64_t i = 0; i < width; i += NR) { // panels are whole
        sums[0] = fma(load(shares + i), load(of + i), sums[0]);
        sums[1] = fma(load(shares + i + WIDTH), load(of + i + WIDTH), sums[1]);
    }
    const V mean = splat(sum(sums[0] + sums[1]));
    for (int64_t i = 0; i < width; i += WIDTH) {
        V x = load(shares + i) * (load(of + i) - mean);
        if (scores) {
            const V bent = hyperbolic_tangent(load(scores + i));
            x = x * splat(task.cap) * fma(-bent, bent, splat(1.0f));
        }
        store(of + i, x);
    }
}

void attention_backward(const soban_attention *given) {
    const soban_attention &task = *given;
    const Room room(task);
    const float *shares = task.shares;
    const int64_t size = task.size, panels = room.size / NR;
    for (int64_t row = 0; row < task.rows; row++) {
        for (int64_t head = 0; head < task.key_heads; head++) {
            const int64_t place = (row * task.key_heads + head) * task.tokens * size;
            const int64_t theirs = (row * task.tokens * task.key_heads + head) * size, stride = task.key_heads * size;
            if (task.cap > 0.0f) pack_rows(task.k + place, size, task.tokens, size, room.keys_across);
            pack_columns(task.k + place, size, task.tokens, size, room.keys);
            pack_rows(task.v + theirs, stride, task.tokens, size, room.values_across);
            clear(room.of_keys, room.tokens * room.size);
            clear(room.of_values, room.tokens * room.size);
            in_blocks(task, row, [&](Block block) {
                const int64_t depth = block.token + block.tokens - block.base;
                const float *q = task.q + place * task.queries + block.token * task.queries * size;
                in_rows(task, row, head, block,
                        [&](int64_t r, int64_t out) { copy(task.out + out, size, room.mixed + r * size); });
                clear(room.mixed + block.rows * size, (block.padded - block.rows) * size);
                products<MR, false>(block.padded, block.width / NR, size, room.mixed, size,
                                    room.values_across + block.base * size, NR * size, room.of_scores, block.width,
                                    false);
                if (task.cap > 0.0f) score(task, task.q + place * task.queries, block, room, room.scores);
                for (int64_t r = 0; r < block.rows; r++) {
                    softmax_backward(task, shares + r * block.width, room.of_scores + r * block.width,
                                     task.cap > 0.0f ? room.scores + r * block.width : nullptr, block.width);
                }
                products<MR, false>(block.padded, panels, depth, room.of_scores, block.width,
                                    room.keys + block.base * NR, task.tokens * NR, room.of_q, room.size, false);
                for (int64_t r = 0; r < block.rows; r++) {
                    copy(room.of_q + r * room.size, size,
                         task.of_q + place * task.queries + (block.token * task.queries + r) * size);
                }
                pack_columns(q, size, block.rows, size, room.q_panels);
                products<KEY_ROWS, true>(block.width, panels, block.rows, room.of_scores, block.width, room.q_panels,
                                         block.rows * NR, room.of_keys + block.base * room.size, room.size, true);
                pack_columns(room.mixed, size, block.rows, size, room.mixed_panels);
                products<KEY_ROWS, true>(block.width, panels, block.rows, shares, block.width, room.mixed_panels,
                                         block.rows * NR, room.of_values + block.base * room.size, room.size, true);
                shares += block.padded * block.width;
            });
            for (int64_t token = 0; token < task.tokens; token++) {
                copy(room.of_keys + token * room.size, size, task.of_k + place + token * size);
                copy(room.of_values + token * room.size, size, task.of_v + theirs + token * stride);
            }
        }
    }
}

} // namespace
#endif
