// Attention of some tokens of one sequence over the pages of one head of keys and values.
//
// A row is one token's query of one head. Rows share the reading of keys and values, in tiles; each row's own
// operations are the same ones in the same order whatever its tile is: see _attend in ops/reference.py.
#ifndef SOBAN_ATTENTION_H
#define SOBAN_ATTENTION_H

#include "attention_tiles.h"

namespace {

constexpr int32_t FEW_ROWS = 4; // of a tile of scores where rows do not share

template <class Stored> constexpr int32_t MOST_ROWS = SCORE_ROWS; // of a tile of scores
template <> constexpr int32_t MOST_ROWS<INT8> = SCORE_ROWS_INT8;
template <> constexpr int32_t MOST_ROWS<PAIRS> = SCORE_ROWS_BF16;

template <int MOST> void pack_queries(const Call &call) {
    in_tiles<MOST>(call.rows, [&](auto tile, int32_t first) {
        constexpr int ROWS = decltype(tile)::VALUE;
        float *packed = call.all.queries + (int64_t)first * query_floats(call.size);
        for (int r = 0; r < ROWS; r++) {
            const int32_t row = first + r, heads = call.task.heads;
            const float *query = call.task.queries + row / heads * call.task.query_stride;
            pack_query<ROWS>(query + (int64_t)(row % heads) * call.size, call.size, call.task.format,
                             score_scale(call.task.scale, call.task.softcap), r, packed);
        }
    });
}

// Scores of all rows with the keys of one block, from position `place` of the span on.
template <class Stored, class Wide> void score_block(const Call &call, const char *block, int32_t place) {
    const char *from = block;
    if constexpr (Stored::SIZE == 2) {
        widen_keys(block, call.size, call.all.wide);
        from = (const char *)call.all.wide;
    }
    in_tiles<MOST_ROWS<Stored>>(call.rows, [&](auto tile, int32_t first) {
        constexpr int ROWS = decltype(tile)::VALUE;
        for (int32_t p = 0; p < PAGE; p += SCORE_VECTORS * WIDTH) {
            KeyVectors<SCORE_VECTORS> keys;
            for (int v = 0; v < SCORE_VECTORS; v++) keys.at[v] = from + (p + v * WIDTH) * KEY_BYTES<Wide>;
            ScoreTile<Wide, ROWS, SCORE_VECTORS, false>::run(
                keys, call.all.queries + (int64_t)first * query_floats(call.size), call.size,
                call.all.scores + (int64_t)first * SPAN + place + p);
        }
    });
}

// Scores of a few rows with the positions `from` to `to` of a span that begins at `start`, as the keys lie in the
// cache: several blocks side by side, for one alone would wait for its sums and for the memory.
template <class Stored> void score_few(const Call &call, int32_t start, int32_t from, int32_t to) {
    const int32_t end = start + (to - start + WIDTH - 1) / WIDTH * WIDTH;
    in_tiles<FEW_ROWS>(call.rows, [&](auto tile, int32_t first) {
        constexpr int ROWS = decltype(tile)::VALUE;
        constexpr int MOST = FEW_VECTORS<Stored> / (ROWS < 2 ? 1 : ROWS / 2);
        int32_t p = from / WIDTH * WIDTH;
        const auto score = [&](auto vectors) {
            constexpr int VECTORS = decltype(vectors)::VALUE;
            KeyVectors<VECTORS> keys;
            for (int v = 0; v < VECTORS; v++) {
                const int32_t here = p + v * WIDTH, next = here + VECTORS * WIDTH;
                keys.at[v] = call.block(call.task.keys, here) + here % PAGE * KEY_BYTES<Stored>;
                keys.next[v] =
                    (next < end ? call.block(call.task.keys, next)
                                : call.block(call.task.values, from + next - end < end ? from + next - end : from)) +
                    here % PAGE * KEY_BYTES<Stored>;
            }
            ScoreTile<Stored, ROWS, VECTORS, true>::run(
                keys, call.all.queries + (int64_t)first * query_floats(call.size), call.size,
                call.all.scores + (int64_t)first * SPAN + (p - start));
            p += VECTORS * WIDTH;
        };
        while (p + MOST * WIDTH <= end) score(Number<MOST>());
        while (MOST > 2 && p + 2 * WIDTH <= end) score(Number<2>());
        while (p < end) score(Number<1>());
    });
}

// Values of positions `from` to `to`, of the span that begins at `start`, into the sums of all rows: a few rows take
// them as they lie in the cache.
template <class Stored> void add_few(const Call &call, int32_t start, int32_t from, int32_t to) {
    for (int32_t p = from / PAGE * PAGE; p < to; p += PAGE) {
        const char *block = call.block(call.task.values, p);
        const char *next = p + PAGE < to ? call.block(call.task.values, p + PAGE) : block;
        if constexpr (IN_RUNS<Stored>) {
            in_tiles<PAIRED_ROWS>(call.rows, [&](auto tile, int32_t r) {
                add_stored_page<Stored, decltype(tile)::VALUE>(
                    block, next, p, {call.all.from, call.all.to}, r, call.all.scores + (int64_t)r * SPAN + (p - start),
                    SPAN, call.size, call.all.sums + (int64_t)r * padded_size(call.size));
            });
            continue;
        }
        in_tiles<VALUE_ROWS>(call.rows, [&](auto tile, int32_t r) {
            add_seen_values<Stored, decltype(tile)::VALUE, true>(block, next, p, p + PAGE, {call.all.from, call.all.to},
                                                                 r, call.all.scores + (int64_t)r * SPAN + (p - start),
                                                                 call.size, 0, padded_size(call.size),
                                                                 call.all.sums + (int64_t)r * padded_size(call.size));
        });
    }
}

// Columns d to d + SLICE of the widened values of positions `first` to `end`, page by page.
template <class Stored> void add_slice(const Call &call, int32_t start, int32_t first, int32_t end, int32_t d) {
    const Rows &all = call.all;
    const int32_t width = padded_size(call.size), stride = Stored::SIZE == 1 ? MANY : SPAN;
    const float *weights = all.scores + (first - start);
    if (Stored::SIZE == 1) {
        for (int32_t p = first; p < end; p += PAGE) {
            const char *block = call.block(call.task.values, p);
            for (int32_t r = 0; r < call.rows; r++) {
                scale_weights(block, call.size, d, weights + (int64_t)r * SPAN + (p - first),
                              all.scaled + r * MANY + (p - first));
            }
        }
        weights = all.scaled;
    }
    in_tiles<PAIRED_ROWS>(call.rows, [&](auto tile, int32_t r) {
        add_pages<Sliced, decltype(tile)::VALUE>((const char *)all.wide, first, end, {all.from, all.to}, r,
                                                 weights + (int64_t)r * stride, stride, call.size, d,
                                                 sooner(d + SLICE, width), all.sums + (int64_t)r * width);
    });
}

template <class Stored> void add_many(const Call &call, int32_t start, int32_t from, int32_t to) {
    const int32_t width = padded_size(call.size);
    for (int32_t first = from / PAGE * PAGE; first < to; first += MANY) {
        const int32_t end = sooner(first + MANY, to);
        for (int32_t p = first; p < end; p += PAGE) {
            widen_values<Stored>(call.block(call.task.values, p), sooner(PAGE, end - p), call.size, p - first,
                                 call.all.wide);
        }
        for (int32_t d = 0; d < width; d += SLICE) {
            if constexpr (IN_RUNS<Stored>) {
                add_slice<Stored>(call, start, first, end, d);
                continue;
            }
            in_tiles<VALUE_ROWS>(call.rows, [&](auto tile, int32_t r) {
                add_seen_values<Sliced, decltype(tile)::VALUE, false>(
                    (const char *)call.all.wide, nullptr, first, end, {call.all.from, call.all.to}, r,
                    call.all.scores + (int64_t)r * SPAN + (first - start), call.size, d, sooner(d + SLICE, width),
                    call.all.sums + (int64_t)r * width);
            });
        }
    }
}

// The end of what a token sees whose own position is the one before `end`.
INLINE int32_t last_seen(const soban::Attention &task, int32_t end) {
    if (!task.length) return end;
    return task.window && task.length - end >= task.window ? end + task.window - 1 : task.length;
}

template <class Stored> void attend_span(const Call &call, int32_t span) {
    const soban::Attention &task = call.task;
    const Rows &all = call.all;
    const int32_t rows = call.rows, start = span * SPAN, width = padded_size(call.size);
    int32_t from = start + SPAN, to = start;                        // the positions that any row sees
    for (int32_t r = 0, end = task.position + 1; r < rows; end++) { // of a token
        const int32_t first = task.window && end > task.window ? end - task.window : 0;
        int32_t here = later(first, start), there = sooner(last_seen(task, end), start + SPAN);
        if (here >= there) here = there = start;
        for (int32_t head = 0; head < task.heads; head++, r++) all.from[r] = here, all.to[r] = there;
        if (here == there) continue;
        from = sooner(from, here);
        to = later(to, there);
    }
    if constexpr (IN_TILES<Stored>) {
        if (takes_tiles<Stored>(call)) return attend_tiles<Stored>(call, span);
    }
    if (rows < SHARE_ROWS) {
        if (from < to) score_few<Stored>(call, start, from, to);
    } else {
        for (int32_t p = from / PAGE * PAGE; p < to; p += PAGE) {
            score_block<Stored, WIDENED_KEYS<Stored>>(call, call.block(task.keys, p), p - start);
        }
    }
    memset(all.sums, 0, sizeof(float) * (size_t)rows * (size_t)width);
    for (int32_t r = 0; r < rows; r++) {
        all.here[r] = -INFINITY;
        all.weights[r] = 0.0f;
        if (all.from[r] == all.to[r]) continue;
        if (task.slopes) {
            lean(all.scores + (int64_t)r * SPAN, all.from[r] - start, all.to[r] - start,
                 start - task.position - r / task.heads, task.slopes[r % task.heads]);
        }
        all.here[r] = weigh < PAIRED && Stored::SIZE == 2 > (all.scores + (int64_t)r * SPAN, all.from[r] - start,
                                                             all.to[r] - start, task.softcap, all.weights + r);
    }
    if (from < to) (rows < SHARE_ROWS ? add_few<Stored> : add_many<Stored>)(call, start, from, to);
    for (int32_t r = 0; r < rows; r++) finish_row(call, span, r, all.sums + (int64_t)r * width);
}

template <class Stored> void attend_all(const soban::Attention &task) {
    const int32_t rows = task.tokens * task.heads, width = padded_size(task.size);
    const Call call = {task, lay_out(task.scratch, rows, task.size), rows, task.size};
    const Rows &all = call.all;
    memset(all.out, 0, sizeof(float) * (size_t)rows * (size_t)width);
    for (int32_t r = 0; r < rows; r++) {
        all.largest[r] = -INFINITY;
        all.total[r] = 0.0f;
    }
    bool packed = false;
    if constexpr (IN_TILES<Stored>) {
        if ((packed = takes_tiles<Stored>(call))) pack_tiles<Stored>(call);
    }
    if (!packed) rows < SHARE_ROWS ? pack_queries<FEW_ROWS>(call) : pack_queries<MOST_ROWS<Stored>>(call);
    for (int32_t span = task.first_span; span < task.end_span; span++) attend_span<Stored>(call, span);
    if (!task.out) return;
    for (int32_t r = 0; r < rows; r++) {
        float *out = task.out + r / task.heads * task.out_stride + (int64_t)(r % task.heads) * task.size;
        divide(all.out + (int64_t)r * width, all.total[r], task.size, out);
    }
}

void attend(const soban::Attention *task) {
    const NoDenormals guard;
    switch (task->format) {
    case SOBAN_CACHE_F32: return attend_all<F32>(*task);
    case SOBAN_CACHE_BF16: return attend_all<PAIRS>(*task);
    default: return attend_all<INT8>(*task);
    }
}

void join(const float *partials, int32_t spans, int64_t stride, int32_t size, float *out) {
    const NoDenormals guard;
    float largest = -INFINITY, total = 0.0f;
    memset(out, 0, sizeof(float) * (size_t)size);
    for (int32_t s = 0; s < spans; s++) {
        const float *partial = partials + s * stride;
        const float weights = partial[size + 1];
        if (weights == 0.0f) continue; // the window leaves none of this span
        join_span(partial, partial[size], weights, size, out, &largest, &total);
    }
    divide(out, total, size, out);
}

} // namespace
#endif
