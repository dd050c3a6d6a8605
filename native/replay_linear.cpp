// linear(): the activations rounded to int8 if any part wants them so, then the output's columns shared out.
#include <algorithm>

#include "replay.h"

namespace soban {
namespace {

bool quantised(const soban_part &part) { return part.format >= SOBAN_Q8; }

void work_quantise(Run &run, int32_t chunk, int32_t) {
    const soban_instruction &now = *run.now;
    const int32_t first = chunk * run.rows_a_chunk, end = std::min(first + run.rows_a_chunk, run.rows(now.a));
    run.pool.kernels.quantise(run.row(now.a, 0), now.a.stride, now.a.columns, first, end, &run.activations);
}

void work_linear(Run &run, int32_t chunk, int32_t thread) {
    const soban_instruction &now = *run.now;
    const float *bias = run.vector(0);
    const size_t end = std::min((size_t)(chunk + 1) * (size_t)run.items_a_chunk, run.linear.size());
    for (size_t i = (size_t)chunk * (size_t)run.items_a_chunk; i < end; i++) {
        const LinearChunk &piece = run.linear[i];
        const Linear task = {
            run.program.parts + now.first_part + piece.part,
            piece.first,
            piece.count,
            run.rows(now.a),
            0,
            run.row(now.a, 0),
            now.a.stride,
            &run.activations,
            run.row(now.out, 0) + piece.column,
            now.out.stride,
            bias ? bias + piece.column : nullptr,
            run.pool.own[(size_t)thread].data,
            nullptr,
        };
        run.pool.kernels.linear(&task);
        add_adapted(run, piece.column + piece.first, piece.count);
    }
}

// Rows of a part that the next chunk takes, in whole tiles or streams, of `left` that remain of the whole product. Few
// tokens wait for memory: much at first, so that a thread reads on where it is, then less and less, so that all end
// at about the same time. Of many tokens each chunk reads the values anew.
int32_t rows_of_chunk(const Run &run, const soban_part &part, int64_t left, int32_t tokens) {
    const int64_t unit = quantised(part) ? 64 : 16, threads = run.pool.threads.count();
    const int64_t worth = 4 * INLINE_COST / std::max<int64_t>(1, (int64_t)part.columns * tokens);
    const int64_t share = tokens > 8 ? part.rows / (4 * threads) : left / (2 * threads);
    return (int32_t)((std::max({unit, worth, share}) + unit - 1) / unit * unit);
}

int32_t prepare_products(Run &run) {
    const soban_instruction &now = *run.now;
    const int32_t tokens = run.rows(now.a);
    int64_t scratch = 0, rows = 0;
    for (int32_t p = 0; p < now.part_count; p++) rows += run.program.parts[now.first_part + p].rows;
    run.linear.clear();
    int64_t left = rows;
    for (int32_t p = 0, column = 0; p < now.part_count; p++) {
        const soban_part &part = run.program.parts[now.first_part + p];
        for (int32_t first = 0; first < part.rows;) {
            const int32_t count = std::min(rows_of_chunk(run, part, left, tokens), part.rows - first);
            run.linear.push_back({p, first, count, column});
            first += count;
            left -= count;
        }
        scratch = std::max(scratch, run.pool.kernels.linear_scratch(part.format, part.columns, tokens));
        column += part.rows;
    }
    if (!run.pool.reserve_own(scratch)) return OUT_OF_MEMORY;
    run.work = work_linear;
    const bool small = rows * now.a.columns * tokens <= 2 * INLINE_COST;
    const int32_t most = (int32_t)run.linear.size();
    run.items_a_chunk = small ? std::max(1, most) : most / MOST_CHUNKS + 1;
    return chunks_of(most, run.items_a_chunk);
}

} // namespace

int32_t prepare_quantise(Run &run) {
    const soban_view &a = run.now->a;
    const int64_t tokens = run.rows(a), groups = (a.columns + GROUP - 1) / GROUP, places = tokens * groups;
    const soban_part *parts = run.program.parts + run.now->first_part;
    const bool halves =
        std::any_of(parts, parts + run.now->part_count, [](auto &part) { return of_file(part.format); });
    const int64_t blocks = tokens * blocks_of((int32_t)groups), values = places * GROUP + TILE_SLACK;
    const int64_t numbers = halves ? (places + TOKEN_SLACK) * (int64_t)sizeof(RoundedGroup) : 4 * (places + 2 * blocks);
    if (!run.pool.shared.reserve(values + numbers)) return OUT_OF_MEMORY;
    int8_t *data = (int8_t *)run.pool.shared.data;
    float *scales = (float *)(data + values);
    int32_t *offsets = (int32_t *)(scales + blocks);
    RoundedGroup *rounded = (RoundedGroup *)scales;
    run.activations = {data, scales, offsets + blocks, offsets, (int32_t)tokens, (int32_t)groups, rounded, halves};
    run.work = work_quantise;
    const int64_t together = tokens / run.pool.threads.count() < 16 ? 1 : 32; // a strip, mostly
    run.rows_a_chunk = (int32_t)std::clamp<int64_t>(INLINE_COST / a.columns, together, tokens);
    return chunks_of(tokens, run.rows_a_chunk);
}

int32_t prepare_linear(Run &run) {
    const soban_instruction &now = *run.now;
    if (run.rows(now.a) == 0) return LAST_STAGE;
    const soban_part *parts = run.program.parts + now.first_part;
    const bool integers = std::any_of(parts, parts + now.part_count, quantised);
    if (run.stage == 0) list_adapted(run);
    const bool adapted = !run.adapted.empty();
    const int32_t stage = run.stage + (integers || adapted ? 0 : 1);
    if (stage == 0) {
        const int32_t chunks = integers ? prepare_quantise(run) : 0;
        return chunks == OUT_OF_MEMORY || !adapted ? chunks : prepare_inner(run, chunks);
    }
    return stage == 1 ? prepare_products(run) : LAST_STAGE;
}

} // namespace soban
