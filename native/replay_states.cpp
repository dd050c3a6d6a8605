// convolution() and delta_rule(): what they leave of a sequence goes from one slot of the cache's states to another.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "replay.h"

namespace soban {
namespace {

// A sequence's slots, from the instruction's first number on; before: null where the text begins.
struct Slots {
    const float *before;
    float *after, *saved;
    int32_t until; // tokens after which it is saved, 0: not at all
};

Slots slots_of(const Run &run, int32_t sequence, int32_t start) {
    const soban_layer &layer = run.layer();
    const int32_t whole[] = {sequence, sequence, 0, 0};
    const int32_t *state = run.batch.states ? run.batch.states + 4 * sequence : whole;
    const auto place = [&](int32_t slot) { return layer.states + slot * layer.state_floats + start; };
    const bool begins = run.batch.positions[run.batch.starts[sequence]] == 0;
    return {begins ? nullptr : place(state[0]), place(state[1]), place(state[2]), state[3]};
}

int32_t sequence_of(const Run &run, int32_t token) {
    const int32_t *starts = run.batch.starts;
    return (int32_t)(std::upper_bound(starts, starts + run.batch.sequences + 1, token) - starts) - 1;
}

constexpr int32_t MOST_TAPS = 16;

int32_t taps_of(const Run &run) { return (int32_t)(run.whole_vector(0).count / run.now->out.columns); }

// A row of a sequence's inputs, counted from its first token of this step on; before those are the state's.
const float *input(const Run &run, int32_t sequence, const Slots &slots, int32_t row) {
    const int32_t kept = taps_of(run) - 1;
    if (row >= 0) return run.row(run.now->a, run.batch.starts[sequence] + row);
    return slots.before ? slots.before + (int64_t)(row + kept) * run.now->a.columns : nullptr;
}

void work_convolve(Run &run, int32_t chunk, int32_t) {
    const soban_instruction &now = *run.now;
    const int32_t taps = taps_of(run), end = std::min((chunk + 1) * run.rows_a_chunk, run.batch.tokens);
    for (int32_t t = chunk * run.rows_a_chunk; t < end; t++) {
        const int32_t sequence = sequence_of(run, t), own = t - run.batch.starts[sequence];
        const Slots slots = slots_of(run, sequence, now.i[1]);
        const float *rows[MOST_TAPS];
        for (int32_t k = 0; k < taps; k++) rows[k] = input(run, sequence, slots, own - taps + 1 + k);
        run.pool.kernels.convolve(rows, run.vector(0), run.vector(1), taps, now.out.columns, run.row(now.out, t));
    }
}

// The state after so many tokens; it may be written where it is read.
void keep_inputs(const Run &run, int32_t sequence, const Slots &slots, int32_t tokens, float *to) {
    const int64_t columns = run.now->a.columns;
    for (int32_t row = tokens - taps_of(run) + 1; row < tokens; row++, to += columns) {
        const float *from = input(run, sequence, slots, row);
        if (from) {
            std::memmove(to, from, sizeof(float) * (size_t)columns);
        } else {
            std::fill_n(to, columns, 0.0f);
        }
    }
}

void work_keep_inputs(Run &run, int32_t sequence, int32_t) {
    const Slots slots = slots_of(run, sequence, run.now->i[1]);
    if (slots.until) keep_inputs(run, sequence, slots, slots.until, slots.saved);
    const int32_t tokens = run.batch.starts[sequence + 1] - run.batch.starts[sequence];
    keep_inputs(run, sequence, slots, tokens, slots.after);
}

int32_t heads_of(const Run &run) { return (int32_t)run.whole_vector(0).count; }

// Of each token and head what of its memory stays, then how far it learns.
float *gates_of(const Run &run, int32_t t) { return (float *)run.pool.partials.data + (int64_t)t * run.now->c.columns; }

void work_gates(Run &run, int32_t chunk, int32_t) {
    const float *decay = run.vector(0), *bias = run.vector(1);
    const int32_t heads = heads_of(run), end = std::min((chunk + 1) * run.rows_a_chunk, run.batch.tokens);
    for (int32_t t = chunk * run.rows_a_chunk; t < end; t++) {
        const float *gates = run.row(run.now->c, t);
        float *to = gates_of(run, t);
        for (int32_t h = 0; h < heads; h++) {
            const double forgotten = (double)gates[heads + h] + bias[h]; // log(1 + exp(x)), which is x far above 0
            const double softplus = std::fmax(forgotten, 0.0) + std::log1p(std::exp(-std::fabs(forgotten)));
            to[h] = (float)std::exp(decay[h] * softplus);
            to[heads + h] = (float)(1.0 / (1.0 + std::exp(-(double)gates[h])));
        }
    }
}

void work_remember(Run &run, int32_t chunk, int32_t) {
    const soban_instruction &now = *run.now;
    const int32_t heads = heads_of(run), sequence = chunk / heads, head = chunk % heads;
    const int32_t value_size = now.b.columns / heads, key_size = now.a.columns / (2 * now.i[1]);
    const int32_t first = run.batch.starts[sequence];
    const int32_t key_head = now.i[3] ? head % now.i[1] : head / (heads / now.i[1]);
    const Slots slots = slots_of(run, sequence, now.i[2]);
    const int64_t own = (int64_t)head * key_size * value_size;
    const float *queries = run.row(now.a, first) + (int64_t)key_head * key_size;
    const Memory task = {
        queries,
        queries + now.a.columns / 2,
        now.a.stride,
        run.row(now.b, first) + (int64_t)head * value_size,
        now.b.stride,
        gates_of(run, first) + head,
        now.c.columns,
        run.batch.starts[sequence + 1] - first,
        key_size,
        value_size,
        slots.before ? slots.before + own : nullptr,
        slots.after + own,
        slots.saved + own,
        slots.until,
        now.f[0],
        run.row(now.out, first) + (int64_t)head * value_size,
        now.out.stride,
    };
    run.pool.kernels.remember(&task);
}

} // namespace

int32_t prepare_convolution(Run &run) {
    if (run.batch.tokens == 0) return LAST_STAGE;
    switch (run.stage) {
    case 0:
        run.work = work_convolve;
        run.rows_a_chunk =
            (int32_t)std::clamp<int64_t>(INLINE_COST / (2 * run.whole_vector(0).count), 1, run.batch.tokens);
        return chunks_of(run.batch.tokens, run.rows_a_chunk);
    case 1: run.work = work_keep_inputs; return run.batch.sequences;
    default: return LAST_STAGE;
    }
}

int32_t prepare_delta_rule(Run &run) {
    if (run.batch.tokens == 0) return LAST_STAGE;
    const int64_t gates = run.now->c.columns;
    switch (run.stage) {
    case 0:
        if (!run.pool.partials.reserve(gates * run.batch.tokens * (int64_t)sizeof(float))) return OUT_OF_MEMORY;
        run.work = work_gates;
        run.rows_a_chunk = (int32_t)std::clamp<int64_t>(INLINE_COST / (64 * gates), 1, run.batch.tokens);
        return chunks_of(run.batch.tokens, run.rows_a_chunk);
    case 1: run.work = work_remember; return run.batch.sequences * heads_of(run);
    default: return LAST_STAGE;
    }
}

} // namespace soban
