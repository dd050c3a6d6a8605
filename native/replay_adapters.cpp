// linear() of sequences that have chosen an adapter: x @ A.T beside the rounding of x, then times B where the results
// of a chunk have just been written.
#include <algorithm>

#include "replay.h"

namespace soban {
namespace {

constexpr int32_t FEW_TOKENS = 8, LEAST_TOKENS = 48, MOST_TOKENS = 288; // of a chunk: whole tiles

// What neighbouring sequences with one adapter have in common is read once for all of them.
void list_pieces(Run &run, const soban_adapter &adapter, int32_t token, int32_t tokens) {
    const int32_t place = run.now->i[0];
    for (int32_t p = adapter.starts[place]; p < adapter.starts[place + 1]; p++) {
        run.adapted.push_back({adapter.pieces + p, token, tokens, run.adapted_floats});
        run.adapted_floats += (int64_t)tokens * adapter.pieces[p].rank;
    }
}

int32_t tokens_a_chunk(const Run &run, int32_t tokens) {
    if (tokens <= FEW_TOKENS) return tokens;
    const int32_t share = (tokens / (2 * run.pool.threads.count()) + 11) / 12 * 12;
    return std::clamp(share, LEAST_TOKENS, MOST_TOKENS);
}

// The rows first .. first + rows of A for some tokens of a task.
void list_inner(Run &run, int32_t task) {
    const AdapterTask &now = run.adapted[(size_t)task];
    const int64_t columns = run.now->a.columns, rank = now.piece->rank;
    const int64_t worth = 2 * INLINE_COST / (columns * now.tokens) / 4 * 4;
    const bool few = now.tokens <= FEW_TOKENS;
    const int32_t rows = few ? (int32_t)std::clamp<int64_t>(worth, 4, std::max<int64_t>(4, rank)) : (int32_t)rank;
    const int32_t tokens = tokens_a_chunk(run, now.tokens);
    for (int32_t t = 0; t < now.tokens; t += tokens) {
        for (int32_t r = 0; r < rank; r += rows) {
            run.inner.push_back({task, r, std::min(rows, (int32_t)rank - r), t, std::min(tokens, now.tokens - t)});
        }
    }
}

void work_inner(Run &run, const AdapterChunk &chunk, int32_t thread) {
    const AdapterTask &now = run.adapted[(size_t)chunk.task];
    const soban_view &a = run.now->a;
    const soban_part part = {now.piece->a, now.piece->format, now.piece->rank, a.columns, 0};
    float *out = (float *)run.pool.adapted.data + now.inner + (int64_t)chunk.token * part.rows;
    const Linear task = {
        &part,    chunk.first, chunk.rows, chunk.tokens, 0,       run.row(a, now.token + chunk.token),
        a.stride, nullptr,     out,        part.rows,    nullptr, run.pool.own[(size_t)thread].data,
        nullptr,
    };
    run.pool.kernels.linear(&task);
}

void work_inputs(Run &run, int32_t chunk, int32_t thread) {
    for (int32_t i = chunk; i < (run.at_once ? run.input_chunks + (int32_t)run.inner.size() : chunk + 1); i++) {
        if (i < run.input_chunks) {
            run.work_input(run, i, thread);
        } else {
            work_inner(run, run.inner[(size_t)(i - run.input_chunks)], thread);
        }
    }
}

} // namespace

void list_adapted(Run &run) {
    run.adapted.clear();
    run.adapted_floats = 0;
    const int32_t *chosen = run.batch.adapters, *starts = run.batch.starts;
    if (!chosen || !run.adapters || run.now->i[0] < 0) return;
    for (int32_t s = 0; s < run.batch.sequences;) {
        const int32_t first = s, adapter = chosen[s];
        while (s < run.batch.sequences && chosen[s] == adapter) s++;
        if (adapter < 0 || adapter >= run.adapters->count || starts[s] == starts[first]) continue;
        list_pieces(run, run.adapters->adapters[adapter], starts[first], starts[s] - starts[first]);
    }
}

int32_t prepare_inner(Run &run, int32_t input_chunks) {
    if (!run.pool.adapted.reserve(run.adapted_floats * (int64_t)sizeof(float))) return OUT_OF_MEMORY;
    run.inner.clear();
    int64_t scratch = 0;
    for (size_t i = 0; i < run.adapted.size(); i++) {
        const AdapterTask &task = run.adapted[i];
        list_inner(run, (int32_t)i);
        const int32_t tokens = std::min(task.tokens, tokens_a_chunk(run, task.tokens));
        scratch = std::max(scratch, run.pool.kernels.linear_scratch(task.piece->format, run.now->a.columns, tokens));
    }
    if (!run.pool.reserve_own(scratch)) return OUT_OF_MEMORY;
    run.work_input = run.work;
    run.work = work_inputs;
    run.input_chunks = input_chunks;
    const int32_t chunks = input_chunks + (int32_t)run.inner.size();
    run.at_once = run.adapted_floats * run.now->a.columns <= 2 * INLINE_COST || chunks > MOST_CHUNKS;
    return run.at_once ? 1 : chunks;
}

void add_adapted(const Run &run, int32_t column, int32_t count) {
    for (const AdapterTask &now : run.adapted) {
        const soban_piece &piece = *now.piece;
        const int32_t first = std::max(column, piece.first), end = std::min(column + count, piece.first + piece.rows);
        if (first >= end) continue;
        const Adapted task = {piece.b,
                              piece.format,
                              piece.rank,
                              first - piece.first,
                              end - first,
                              now.tokens,
                              (const float *)run.pool.adapted.data + now.inner,
                              piece.scale,
                              run.row(run.now->out, now.token) + first,
                              run.now->out.stride};
        run.pool.kernels.adapt(&task);
    }
}

} // namespace soban
