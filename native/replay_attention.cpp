// attention(): keys and values into the cache, then tiles of rows (for few tokens also spans) shared out.
#include <algorithm>

#include "replay.h"

namespace soban {
namespace {

constexpr int64_t MOST_PARTIALS = 4 << 20; // floats

int64_t bytes_of_block(const Run &run) { return block_bytes(run.cache.format, run.layer().size); }

// A head's block in a page of the present layer, in either array.
int64_t block_offset(const Run &run, int64_t page, int64_t head) {
    return (page * run.layer().heads + head) * bytes_of_block(run);
}

int32_t sequence_of(const Run &run, int32_t token) {
    const int32_t *starts = run.batch.starts;
    return (int32_t)(std::upper_bound(starts, starts + run.batch.sequences + 1, token) - starts) - 1;
}

void work_store(Run &run, int32_t chunk, int32_t) {
    const soban_instruction &now = *run.now;
    const soban_layer &layer = run.layer();
    const int32_t end = std::min((chunk + 1) * run.rows_a_chunk, run.batch.tokens);
    for (int32_t t = chunk * run.rows_a_chunk; t < end; t++) {
        const int32_t position = run.batch.positions[t];
        const int64_t sequence = sequence_of(run, t);
        const int64_t page = run.batch.tables[sequence * run.batch.table_stride + position / PAGE];
        for (int32_t head = 0; head < layer.heads; head++) {
            const int64_t offset = block_offset(run, page, head), column = (int64_t)head * layer.size;
            run.pool.kernels.store(run.row(now.b, t) + column, run.row(now.c, t) + column, layer.size, run.cache.format,
                                   position % PAGE, (char *)layer.keys + offset, (char *)layer.values + offset);
        }
    }
}

int32_t prepare_store(Run &run) {
    run.work = work_store;
    run.rows_a_chunk = (int32_t)std::clamp<int64_t>(INLINE_COST / run.now->b.columns, 1, run.batch.tokens);
    return chunks_of(run.batch.tokens, run.rows_a_chunk);
}

// Positions that a sequence has, those of this batch included.
int32_t length_of(const Run &run, int32_t sequence) {
    return run.batch.positions[run.batch.starts[sequence + 1] - 1] + 1;
}

// The last position that the one at `position` sees.
int32_t last_seen(const Run &run, int32_t sequence, int32_t position) {
    const int32_t window = run.now->i[1], last = length_of(run, sequence) - 1;
    if (run.now->i[2]) return position;
    return window && last - position >= window ? position + window - 1 : last;
}

int32_t heads_in_group(const Run &run) { return run.now->a.columns / run.layer().size / run.layer().heads; }

int64_t row_floats(const Run &run) { return run.layer().size + 2; } // of a partial result

void work_attend(Run &run, int32_t chunk, int32_t thread) {
    const soban_instruction &now = *run.now;
    const soban_layer &layer = run.layer();
    const int32_t heads = heads_in_group(run);
    const size_t end = std::min((size_t)(chunk + 1) * (size_t)run.items_a_chunk, run.spans.size());
    for (size_t i = (size_t)chunk * (size_t)run.items_a_chunk; i < end; i++) {
        const AttentionChunk &piece = run.spans[i];
        const AttentionTile &tile = run.tiles[(size_t)piece.tile];
        const bool joined = tile.partials >= 0; // later, from the spans' partial results
        const int64_t column = (int64_t)tile.head * heads * layer.size;
        const int64_t start = block_offset(run, 0, tile.head);
        const int64_t earlier = (int64_t)(piece.first_span - tile.first_span) * tile.tokens * heads * row_floats(run);
        const float *slopes = run.vector(0);
        const Attention task = {
            run.row(now.a, tile.token) + column,
            now.a.stride,
            tile.tokens,
            heads,
            layer.size,
            run.batch.positions[tile.token],
            now.i[1],
            now.f[0],
            now.f[1],
            (const char *)layer.keys + start,
            (const char *)layer.values + start,
            layer.heads * bytes_of_block(run),
            run.batch.tables + (int64_t)tile.sequence * run.batch.table_stride,
            run.cache.format,
            piece.first_span,
            piece.end_span,
            joined ? nullptr : run.row(now.out, tile.token) + column,
            now.out.stride,
            joined ? (float *)run.pool.partials.data + tile.partials + earlier : nullptr,
            run.pool.own[(size_t)thread].data,
            slopes ? slopes + tile.head * heads : nullptr,
            now.i[2] ? 0 : length_of(run, tile.sequence),
        };
        run.pool.kernels.attend(&task);
    }
}

// As many as share keys and values at the most, or fewer, so that every thread has several tiles.
int32_t tokens_of_tile(const Run &run) {
    int32_t rows = ATTENTION_ROWS;
    const int64_t all = (int64_t)run.batch.tokens * heads_in_group(run) * run.layer().heads;
    while (rows > FEWEST_ATTENTION_ROWS && all < (int64_t)rows * 3 * run.pool.threads.count()) rows /= 2;
    return std::max(1, rows / heads_in_group(run));
}

// Lists the tiles; returns the sum of rows x spans over them.
int64_t list_tiles(Run &run) {
    const int32_t heads = heads_in_group(run), most = tokens_of_tile(run);
    int64_t row_spans = 0;
    run.tiles.clear();
    for (int32_t s = 0; s < run.batch.sequences; s++) {
        const int32_t end = run.batch.starts[s + 1];
        for (int32_t t = run.batch.starts[s]; t < end; t += most) {
            const int32_t tokens = std::min(most, end - t), position = run.batch.positions[t];
            const int32_t first = run.now->i[1] ? std::max(0, position + 1 - run.now->i[1]) : 0;
            const int32_t last = last_seen(run, s, position + tokens - 1);
            const int32_t first_span = first / SPAN, end_span = last / SPAN + 1;
            for (int32_t head = 0; head < run.layer().heads; head++) {
                run.tiles.push_back({s, t, tokens, head, first_span, end_span, -1});
                row_spans += (int64_t)tokens * heads * (end_span - first_span);
            }
        }
    }
    // The longest contexts first, so that no thread is left with one at the end.
    std::stable_sort(run.tiles.begin(), run.tiles.end(), [](const AttentionTile &a, const AttentionTile &b) {
        return a.end_span - a.first_span > b.end_span - b.first_span;
    });
    return row_spans;
}

int32_t prepare_attend(Run &run) {
    const int64_t row_spans = list_tiles(run);
    const int32_t heads = heads_in_group(run), longest = run.tiles[0].end_span - run.tiles[0].first_span;
    const bool split = run.batch.tokens <= 16 && longest > 1 && row_spans * row_floats(run) <= MOST_PARTIALS;
    if (split && !run.pool.partials.reserve(row_spans * row_floats(run) * (int64_t)sizeof(float))) return OUT_OF_MEMORY;
    run.spans.clear();
    int64_t partials = 0;
    int32_t rows = 0;
    for (size_t i = 0; i < run.tiles.size(); i++) {
        AttentionTile &tile = run.tiles[i];
        rows = std::max(rows, tile.tokens * heads);
        const int32_t step = split ? 1 : tile.end_span - tile.first_span;
        for (int32_t span = tile.first_span; span < tile.end_span; span += step) {
            run.spans.push_back({(int32_t)i, span, span + step});
        }
        if (!split) continue;
        tile.partials = partials;
        partials += (int64_t)tile.tokens * heads * (tile.end_span - tile.first_span) * row_floats(run);
    }
    if (!run.pool.reserve_own(run.pool.kernels.attention_scratch(rows, run.layer().size))) return OUT_OF_MEMORY;
    run.work = work_attend;
    const int64_t cost = row_spans * std::min(SPAN, run.batch.positions[run.batch.tokens - 1] + 1) * run.layer().size;
    const int32_t most = (int32_t)run.spans.size();
    run.items_a_chunk = cost <= 2 * INLINE_COST ? most : most / MOST_CHUNKS + 1;
    return chunks_of(most, run.items_a_chunk);
}

void work_join(Run &run, int32_t chunk, int32_t) {
    const int32_t heads = heads_in_group(run), size = run.layer().size;
    const size_t end = std::min((size_t)(chunk + 1) * (size_t)run.items_a_chunk, run.tiles.size());
    for (size_t i = (size_t)chunk * (size_t)run.items_a_chunk; i < end; i++) {
        const AttentionTile &tile = run.tiles[i];
        const int32_t rows = tile.tokens * heads, spans = tile.end_span - tile.first_span;
        const float *partials = (const float *)run.pool.partials.data + tile.partials;
        for (int32_t r = 0; r < rows; r++) {
            float *out =
                run.row(run.now->out, tile.token + r / heads) + (int64_t)(tile.head * heads + r % heads) * size;
            run.pool.kernels.join(partials + r * row_floats(run), spans, rows * row_floats(run), size, out);
        }
    }
}

int32_t prepare_join(Run &run) {
    if (run.tiles[0].partials < 0) return LAST_STAGE;
    run.work = work_join;
    const int64_t tiles = (int64_t)run.tiles.size(), heads = heads_in_group(run);
    const int64_t cost =
        run.tiles[0].tokens * heads * (run.tiles[0].end_span - run.tiles[0].first_span) * run.layer().size;
    run.items_a_chunk = (int32_t)std::clamp<int64_t>(INLINE_COST / std::max<int64_t>(1, cost), 1, tiles);
    return chunks_of(tiles, run.items_a_chunk);
}

} // namespace

int32_t prepare_attention(Run &run) {
    if (run.batch.tokens == 0) return LAST_STAGE;
    const bool stores = run.now->b.columns != 0; // or another layer has stored what this one reads
    switch (run.stage + (stores ? 0 : 1)) {
    case 0: return prepare_store(run);
    case 1: return prepare_attend(run);
    case 2: return prepare_join(run);
    default: return LAST_STAGE;
    }
}

} // namespace soban
