// Attention of some tokens of one sequence over the pages of one head of keys and values.
//
// A row is one token's query of one head. Rows share the reading of keys and values, in tiles; each row's own
// operations are the same ones in the same order whatever its tile is: see _attend in ops/reference.py.
#ifndef SOBAN_ATTENTION_H
#define SOBAN_ATTENTION_H

#include "plain.h"

namespace {

constexpr int32_t SHARE_ROWS = 8; // from here on stored numbers are widened once for all rows
constexpr int32_t VALUE_ROWS = SOBAN_ISA == 2 ? 4 : 2;
constexpr int32_t VALUE_VECTORS = 4; // of a value that stay in registers, for each row of a tile

int32_t padded_size(int32_t size) { return (size + 15) / 16 * 16; }

// What a call works with in its scratch memory, one of each for every row.
struct Rows {
    float *scores;          // SPAN: scores, then weights, of the span's positions
    float *sums;            // padded_size: the span's weights x values
    float *out;             // padded_size: the spans so far
    float *largest, *total; // of the spans so far
    float *here, *weights;  // the same of this span alone
    int32_t *from, *to;     // the span's positions that the row sees
    float *wide;            // PAGE x size, shared
};

int64_t attention_scratch(int32_t rows, int32_t size) {
    const int64_t floats = (int64_t)rows * (SPAN + 2 * padded_size(size) + 6);
    return 4 * (floats + 64 + (int64_t)PAGE * padded_size(size));
}

Rows lay_out(void *scratch, int32_t rows, int32_t size) {
    Rows all;
    all.scores = (float *)scratch;
    all.wide = all.scores + (int64_t)rows * SPAN;
    all.sums = all.wide + (int64_t)PAGE * padded_size(size);
    all.out = all.sums + (int64_t)rows * padded_size(size);
    all.largest = all.out + (int64_t)rows * padded_size(size);
    all.total = all.largest + rows;
    all.here = all.total + rows;
    all.weights = all.here + rows;
    all.from = (int32_t *)(all.weights + rows);
    all.to = all.from + rows;
    return all;
}

template <class Stored, int KEYS, int ROWS>
INLINE void score_tile(const char *keys, const float *const *queries, int32_t size, float *scores) {
    const char *w[KEYS];
    float sums[KEYS][ROWS];
    UNROLL
    for (int k = 0; k < KEYS; k++) w[k] = keys + (int64_t)k * size * Stored::SIZE;
    dot_tile<Stored, KEYS, ROWS>(w, queries, size, 0, sums);
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        UNROLL
        for (int k = 0; k < KEYS; k++) scores[r * SPAN + k] = sums[k][r];
    }
}

template <class Stored, int ROWS>
INLINE void score_rows(const char *keys, int32_t count, const float *const *queries, int32_t size, float *scores) {
    int32_t k = 0;
    for (; k + TILE_ROWS <= count; k += TILE_ROWS) {
        score_tile<Stored, TILE_ROWS, ROWS>(keys + (int64_t)k * size * Stored::SIZE, queries, size, scores + k);
    }
    for (; k < count; k++) {
        score_tile<Stored, 1, ROWS>(keys + (int64_t)k * size * Stored::SIZE, queries, size, scores + k);
    }
}

// Scores of all rows with `count` neighbouring keys.
template <class Stored> void score(const soban::Attention &task, const char *keys, int32_t count, float *scores) {
    const int32_t rows = task.tokens * task.heads;
    const auto query = [&](int32_t r) {
        return task.queries + r / task.heads * task.query_stride + (int64_t)(r % task.heads) * task.size;
    };
    int32_t r = 0;
    for (; r + TILE_TOKENS <= rows; r += TILE_TOKENS) {
        const float *queries[TILE_TOKENS];
        for (int i = 0; i < TILE_TOKENS; i++) queries[i] = query(r + i);
        score_rows<Stored, TILE_TOKENS>(keys, count, queries, task.size, scores + (int64_t)r * SPAN);
    }
    if (TILE_TOKENS > 2 && r + 2 <= rows) {
        const float *queries[2] = {query(r), query(r + 1)};
        score_rows<Stored, 2>(keys, count, queries, task.size, scores + (int64_t)r * SPAN);
        r += 2;
    }
    for (; r < rows; r++) {
        const float *queries[1] = {query(r)};
        score_rows<Stored, 1>(keys, count, queries, task.size, scores + (int64_t)r * SPAN);
    }
}

// sums[r] += weights[r][j] * values[j] for `count` neighbouring positions, in ascending order.
template <class Stored, int ROWS, int VECTORS>
INLINE void add_values_tile(const char *values, int32_t count, const float *weights, int32_t size, float *sums,
                            int32_t width, int32_t n) {
    V total[ROWS][VECTORS];
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        UNROLL
        for (int v = 0; v < VECTORS; v++) total[r][v] = load(sums + r * width + v * WIDTH);
    }
    for (int32_t j = 0; j < count; j++) {
        const char *from = values + (int64_t)j * size * Stored::SIZE;
        V value[VECTORS];
        UNROLL
        for (int v = 0; v < VECTORS; v++) {
            const void *here = from + v * WIDTH * Stored::SIZE;
            value[v] = n == WIDTH ? Stored::load(here) : Stored::load_part(here, n);
        }
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            const V weight = splat(weights[r * SPAN + j]);
            UNROLL
            for (int v = 0; v < VECTORS; v++) total[r][v] = fma(weight, value[v], total[r][v]);
        }
    }
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        UNROLL
        for (int v = 0; v < VECTORS; v++) store(sums + r * width + v * WIDTH, total[r][v]);
    }
}

template <class Stored, int ROWS>
void add_values(const char *values, int32_t count, const float *weights, int32_t size, float *sums) {
    const int32_t width = padded_size(size), step = VALUE_VECTORS * WIDTH;
    if (count <= 0) return;
    int32_t d = 0;
    for (; d + step <= size; d += step) {
        add_values_tile<Stored, ROWS, VALUE_VECTORS>(values + (int64_t)d * Stored::SIZE, count, weights, size, sums + d,
                                                     width, WIDTH);
    }
    for (; d < size; d += WIDTH) {
        const int32_t n = size - d < WIDTH ? size - d : WIDTH;
        add_values_tile<Stored, ROWS, 1>(values + (int64_t)d * Stored::SIZE, count, weights, size, sums + d, width, n);
    }
}

// One page of values, whose first position is `first`, into the sums of all rows.
template <class Stored>
void add_page(const char *page, int32_t first, int32_t span_start, int32_t rows, int32_t size, const Rows &all) {
    const int32_t width = padded_size(size), end = first + PAGE;
    const auto add = [&](auto some, int32_t r, int32_t from, int32_t to) {
        add_values<Stored, decltype(some)::ROWS>(page + (int64_t)(from - first) * size * Stored::SIZE, to - from,
                                                 all.scores + (int64_t)r * SPAN + (from - span_start), size,
                                                 all.sums + (int64_t)r * width);
    };
    struct One {
        enum { ROWS = 1 };
    };
    struct Tile {
        enum { ROWS = VALUE_ROWS };
    };
    const auto later = [](int32_t a, int32_t b) { return a > b ? a : b; };
    const auto sooner = [](int32_t a, int32_t b) { return a < b ? a : b; };
    int32_t r = 0;
    for (; r + VALUE_ROWS <= rows; r += VALUE_ROWS) {
        int32_t from = first, to = end; // what all rows of the tile see
        for (int i = 0; i < VALUE_ROWS; i++) {
            from = later(from, all.from[r + i]);
            to = sooner(to, all.to[r + i]);
        }
        to = later(from, to);
        for (int i = 0; i < VALUE_ROWS; i++)
            add(One(), r + i, later(first, all.from[r + i]), sooner(from, sooner(end, all.to[r + i])));
        add(Tile(), r, from, to);
        for (int i = 0; i < VALUE_ROWS; i++) add(One(), r + i, later(to, all.from[r + i]), sooner(end, all.to[r + i]));
    }
    for (; r < rows; r++) add(One(), r, later(first, all.from[r]), sooner(end, all.to[r]));
}

// Scores of one row to weights; returns their largest, and their total in `total`.
float weigh(float *scores, int32_t from, int32_t to, float scale, float softcap, float *total) {
    const int32_t first = from / WIDTH * WIDTH, end = (to + WIDTH - 1) / WIDTH * WIDTH;
    for (int32_t i = first; i < end; i += WIDTH) {
        V x = load(scores + i) * splat(scale);
        if (softcap != 0.0f) x = splat(softcap) * hyperbolic_tangent(x / splat(softcap));
        store(scores + i, x);
    }
    for (int32_t i = first; i < from; i++) scores[i] = -INFINITY;
    for (int32_t i = to; i < end; i++) scores[i] = -INFINITY;
    V most = splat(-INFINITY);
    for (int32_t i = first; i < end; i += WIDTH) most = larger(load(scores + i), most);
    const float here = largest(most);
    V weights = {};
    for (int32_t i = first; i < end; i += WIDTH) {
        const V weight = exponential(load(scores + i) - splat(here));
        store(scores + i, weight);
        weights += weight;
    }
    *total = sum(weights);
    return here;
}

// Joins a span's sums, its largest score and its weights' total to those of the spans before it.
INLINE void join_span(const float *sums, float here, float weights, int32_t size, float *out, float *largest,
                      float *total) {
    const float higher = *largest > here ? *largest : here;
    const V keep = exponential(splat(*largest - higher)), more = exponential(splat(here - higher));
    *total = fma(splat(*total), keep, splat(weights) * more)[0];
    *largest = higher;
    in_vectors(size, [&](int64_t i, int n) {
        store_up_to(out + i, fma(load_up_to(out + i, n), keep, load_up_to(sums + i, n) * more), n);
    });
}

INLINE void divide(const float *sums, float total, int32_t size, float *out) {
    in_vectors(size, [&](int64_t i, int n) { store_up_to(out + i, load_up_to(sums + i, n) / splat(total), n); });
}

template <class Stored> void attend_span(const soban::Attention &task, int32_t span, const Rows &all) {
    const int32_t rows = task.tokens * task.heads, start = span * SPAN, size = task.size;
    const bool wide = Stored::SIZE < 4 && rows >= SHARE_ROWS;
    int32_t from = start + SPAN, to = start;
    for (int32_t r = 0; r < rows; r++) {
        const int32_t end = task.position + r / task.heads + 1;
        const int32_t first = task.window && end > task.window ? end - task.window : 0;
        all.from[r] = first > start ? first : start;
        all.to[r] = end < start + SPAN ? end : start + SPAN;
        if (all.from[r] >= all.to[r]) all.from[r] = all.to[r] = start;
        if (all.from[r] == all.to[r]) continue;
        from = from < all.from[r] ? from : all.from[r];
        to = to > all.to[r] ? to : all.to[r];
    }
    const auto in_pages = [&](const void *stored, auto body) { // the positions that any row sees, page by page
        for (int32_t first = from / PAGE * PAGE; first < to; first += PAGE) {
            const int64_t page = task.table[first / PAGE] * task.page_stride;
            const int32_t count = to - first < PAGE ? to - first : PAGE;
            const char *data = (const char *)stored + page * Stored::SIZE;
            if (wide) {
                widen<Stored>(data, (int64_t)count * size, all.wide);
                body(F32(), (const char *)all.wide, first, count);
            } else {
                body(Stored(), data, first, count);
            }
        }
    };
    in_pages(task.keys, [&](auto stored, const char *page, int32_t first, int32_t count) {
        score<decltype(stored)>(task, page, count, all.scores + (first - start));
    });
    const int32_t width = padded_size(size);
    memset(all.sums, 0, sizeof(float) * (size_t)rows * (size_t)width);
    for (int32_t r = 0; r < rows; r++) {
        all.here[r] = -INFINITY;
        all.weights[r] = 0.0f;
        if (all.from[r] == all.to[r]) continue;
        all.here[r] = weigh(all.scores + (int64_t)r * SPAN, all.from[r] - start, all.to[r] - start, task.scale,
                            task.softcap, all.weights + r);
    }
    in_pages(task.values, [&](auto stored, const char *page, int32_t first, int32_t) {
        add_page<decltype(stored)>(page, first, start, rows, size, all);
    });
    for (int32_t r = 0; r < rows; r++) {
        const float *sums = all.sums + (int64_t)r * width;
        if (task.out) {
            if (all.from[r] != all.to[r]) {
                join_span(sums, all.here[r], all.weights[r], size, all.out + (int64_t)r * width, all.largest + r,
                          all.total + r);
            }
            continue;
        }
        float *partial = task.partials + ((int64_t)(span - task.first_span) * rows + r) * (size + 2);
        memcpy(partial, sums, sizeof(float) * (size_t)size);
        partial[size] = all.here[r];
        partial[size + 1] = all.weights[r];
    }
}

template <class Stored> void attend_all(const soban::Attention &task) {
    const int32_t rows = task.tokens * task.heads, width = padded_size(task.size);
    const Rows all = lay_out(task.scratch, rows, task.size);
    memset(all.out, 0, sizeof(float) * (size_t)rows * (size_t)width);
    for (int32_t r = 0; r < rows; r++) {
        all.largest[r] = -INFINITY;
        all.total[r] = 0.0f;
    }
    for (int32_t span = task.first_span; span < task.end_span; span++) attend_span<Stored>(task, span, all);
    if (!task.out) return;
    for (int32_t r = 0; r < rows; r++) {
        float *out = task.out + r / task.heads * task.out_stride + (int64_t)(r % task.heads) * task.size;
        divide(all.out + (int64_t)r * width, all.total[r], task.size, out);
    }
}

void attend(const soban::Attention *task) {
    task->format == SOBAN_F16 ? attend_all<F16>(*task) : attend_all<F32>(*task);
}

void join(const float *partials, int32_t spans, int64_t stride, int32_t size, float *out) {
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
