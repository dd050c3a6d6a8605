// Attention of many rows in the matrix unit (AMX): scores, and weighted sums of values, of 32 rows and a page at a
// time.
//
// Its bits are those of attention_scores.h and attention_paired.h. What is not seen has a weight of 0, where those
// leave it out; where that is not the same, because it is no number, the rows are done again as there.
#ifndef SOBAN_ATTENTION_TILES_H
#define SOBAN_ATTENTION_TILES_H

#include "attention_rows.h"
#if SOBAN_AMX
#include "blocks_amx.h"
#endif

namespace {

#if SOBAN_AMX
template <class Stored> constexpr bool IN_TILES = IN_RUNS<Stored>;

constexpr int32_t MOST_PAGES = SPAN / PAGE;
// Calls body(Number<halves>, first row) for pairs of tiles that cover the rows.
template <class Body> INLINE void in_halves(int32_t rows, Body body) {
    for (int32_t r = 0; r < rows; r += 2 * MATRIX_TOKENS)
        rows - r > MATRIX_TOKENS ? body(Number<2>(), r) : body(Number<1>(), r);
}

// Tiles hold rows of 64 bytes: heads that do not fill them are left to the vector unit, and so are slopes.
template <class Stored> bool takes_tiles(const Call &call) {
    return call.rows >= SHARE_ROWS && call.size % (64 / Stored::SIZE) == 0 && !call.task.slopes;
}

// The parts of Rows::tiles.
struct Tiles {
    float *scores;        // [MATRIX_ROWS][SCORE_STRIDE]
    uint16_t *weights;    // [MATRIX_ROWS][WEIGHT_STRIDE], bfloat16
    float *sums;          // [MATRIX_ROWS][sum_stride]
    char *queries;        // [laid row][query_stride], bfloat16 or int8
    float *scales;        // [group][laid row] of int8 queries
    int64_t stride, laid; // of queries, in bytes; rows
    Tiles(const Call &call) {
        laid = laid_rows(call.rows), stride = query_stride(call.size);
        scores = (float *)call.all.tiles;
        weights = (uint16_t *)(scores + MATRIX_ROWS * SCORE_STRIDE);
        sums = (float *)(weights + MATRIX_ROWS * WEIGHT_STRIDE);
        queries = (char *)(sums + MATRIX_ROWS * sum_stride(call.size));
        scales = (float *)(queries + laid * stride);
    }
};

// Queries row by row, as bfloat16 or int8; rows of zeros fill the last tile up.
template <class Stored> void pack_tiles(const Call &call) {
    const Tiles tiles(call);
    const float scale = score_scale(call.task.scale, call.task.softcap);
    const int32_t heads = call.task.heads;
    memset(tiles.queries + call.rows * tiles.stride, 0, (size_t)((tiles.laid - call.rows) * tiles.stride));
    for (int32_t r = 0; r < call.rows; r++) {
        const float *query = call.task.queries + r / heads * call.task.query_stride + (int64_t)(r % heads) * call.size;
        char *packed = tiles.queries + r * tiles.stride;
        if constexpr (Stored::SIZE == 1) {
            for (int32_t g = 0; g < call.size / GROUP; g++) {
                tiles.scales[g * tiles.laid + r] =
                    round_group(query + g * GROUP, GROUP, (int8_t *)packed + g * GROUP).scale * scale;
            }
        } else {
            for (int32_t d = 0; d < call.size; d += WIDTH) {
                const V rounded = to_bf16(load(query + d) * splat(scale));
                _mm256_storeu_si256((__m256i *)(packed + 2 * d),
                                    _mm512_cvtepi32_epi16(_mm512_srli_epi32((__m512i)rounded, 16)));
            }
        }
    }
}

// A page of keys, from a tile's column on, times one or two halves of rows; `to` has rows of `stride` bytes.
template <class Stored, int HALVES>
INLINE void multiply_keys(const char *queries, int64_t query_stride, const char *keys, int32_t steps, char *to,
                          int64_t stride) {
#define MULTIPLY(to, a, b)                                                                                             \
    if (Stored::SIZE == 1)                                                                                             \
        _tile_dpbssd(to, a, b);                                                                                        \
    else                                                                                                               \
        _tile_dpbf16ps(to, a, b)
    _tile_zero(0);
    _tile_zero(1);
    if (HALVES == 2) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int32_t i = 0; i < steps; i++, queries += 64, keys += MATRIX_TOKENS * 4 * PAGE) {
        _tile_loadd(4, queries, query_stride);
        _tile_loadd(6, keys, 4 * PAGE);
        MULTIPLY(0, 4, 6);
        _tile_loadd(7, keys + 64, 4 * PAGE);
        MULTIPLY(1, 4, 7);
        if (HALVES == 2) {
            _tile_loadd(5, queries + MATRIX_TOKENS * query_stride, query_stride);
            MULTIPLY(2, 5, 6);
            MULTIPLY(3, 5, 7);
        }
    }
#undef MULTIPLY
    _tile_stored(0, to, stride);
    _tile_stored(1, to + 64, stride);
    if (HALVES == 2) {
        _tile_stored(2, to + MATRIX_TOKENS * stride, stride);
        _tile_stored(3, to + MATRIX_TOKENS * stride + 64, stride);
    }
}

// Scores of the rows from `first` on with a page of keys.
template <class Stored, int HALVES>
void score_tiles(const Call &call, const Tiles &tiles, int32_t first, const char *block, float *scores) {
    const int32_t size = call.size;
    const char *queries = tiles.queries + first * tiles.stride;
    if constexpr (Stored::SIZE == 2) {
        multiply_keys<Stored, HALVES>(queries, tiles.stride, block, size / RUN, (char *)scores, 4 * SCORE_STRIDE);
    } else {
        alignas(64) int32_t products[2 * MATRIX_TOKENS * PAGE];
        for (int32_t g = 0; g < size / GROUP; g++) {
            multiply_keys<Stored, HALVES>(queries + g * GROUP, tiles.stride, block + g * GROUP * PAGE, 1,
                                          (char *)products, 4 * PAGE);
            const float *scales = (const float *)(block + (int64_t)size * PAGE) + g * PAGE;
            const float *query = tiles.scales + g * tiles.laid + first;
            for (int32_t r = 0; r < HALVES * MATRIX_TOKENS; r++) {
                for (int32_t p = 0; p < PAGE; p += WIDTH) {
                    float *score = scores + r * SCORE_STRIDE + p;
                    const V scale = load(scales + p) * splat(query[r]);
                    const V product = to_float((I)_mm512_load_si512(products + r * PAGE + p));
                    store(score, fma(product, scale, g ? load(score) : V{}));
                }
            }
        }
    }
}

INLINE void store_pairs(uint16_t *to, V low, V high) {
    _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

// weigh() that writes bfloat16, with zeros around what the row sees of places `begin` to `finish`, which are pages.
INLINE float weigh_pairs(float *scores, int32_t from, int32_t to, float softcap, int32_t begin, int32_t finish,
                         uint16_t *out, float *total) {
    const float here = cap_scores(scores, from, to, softcap);
    const int32_t first = from / PAGE * PAGE, end = (to + PAGE - 1) / PAGE * PAGE;
    for (int32_t i = from / WIDTH * WIDTH; i > first; i -= WIDTH) store(scores + i - WIDTH, splat(-INFINITY));
    for (int32_t i = (to + WIDTH - 1) / WIDTH * WIDTH; i < end; i += WIDTH) store(scores + i, splat(-INFINITY));
    for (int32_t i = begin; i < first; i += PAGE) store_pairs(out + i, V{}, V{});
    for (int32_t i = end; i < finish; i += PAGE) store_pairs(out + i, V{}, V{});
    V weights = {};
    for (int32_t i = first; i < end; i += PAGE) {
        const V low = weight(load(scores + i), here), high = weight(load(scores + i + WIDTH), here);
        weights += low;
        weights += high;
        store_pairs(out + i, low, high);
    }
    *total = sum(weights);
    return here;
}

// Columns d to d + 32 of the sums of one or two halves of rows, over `pages` blocks of values in pairs.
template <int HALVES>
INLINE void multiply_values(const uint16_t *weights, const char *const *blocks, int32_t pages, int32_t width, int32_t d,
                            float *sums) {
    const int64_t stride = 4 * (int64_t)width, lines = 4 * (int64_t)sum_stride(width);
    _tile_zero(0);
    _tile_zero(1);
    if (HALVES == 2) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int32_t i = 0; i < pages; i++, weights += PAGE) {
        const char *values = blocks[i] + 4 * d;
        _tile_loadd(4, weights, 2 * WEIGHT_STRIDE);
        _tile_loadd(6, values, stride);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, values + 64, stride);
        _tile_dpbf16ps(1, 4, 7);
        if (HALVES == 2) {
            _tile_loadd(5, weights + MATRIX_TOKENS * WEIGHT_STRIDE, 2 * WEIGHT_STRIDE);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, sums + d, lines);
    _tile_stored(1, sums + d + MATRIX_TOKENS, lines);
    if (HALVES == 2) {
        _tile_stored(2, sums + MATRIX_TOKENS * sum_stride(width) + d, lines);
        _tile_stored(3, sums + MATRIX_TOKENS * sum_stride(width) + d + MATRIX_TOKENS, lines);
    }
}

// int8 values of a page as pairs of bfloat16, which holds each of them exactly.
void pair_values(const char *block, int32_t size, char *pairs) {
    for (int32_t j = 0; j < PAGE; j += 2) {
        for (int32_t d = 0; d < size; d += WIDTH, pairs += 64) {
            const U first = (U)Values<INT8>(block, size, d).row(j).whole(0);
            const U second = (U)Values<INT8>(block, size, d).row(j + 1).whole(0);
            store((float *)pairs, (V)(first >> 16 | second));
        }
    }
}

INLINE bool finite(const float *x, int32_t count) {
    const U exponent = (U)splat_int(0x7f800000);
    I bad = {};
    for (int32_t i = 0; i < count; i += WIDTH) bad |= ((U)load(x + i) & exponent) == exponent;
    return !any(bad);
}

// The weights of a row for places `begin` to `finish` of the span, of which it sees `from` to `to`: as bfloat16, or for
// int8 values, whose scales are still to come, as floats in place of the scores.
template <class Stored>
void weigh_row(const Call &call, const Tiles &tiles, int32_t start, int32_t first, int32_t r, int32_t begin,
               int32_t finish) {
    const int32_t from = call.all.from[r] - start, to = call.all.to[r] - start;
    float *scores = tiles.scores + (r - first) * SCORE_STRIDE, *here = call.all.here + r, *total = call.all.weights + r;
    uint16_t *out = tiles.weights + (r - first) * WEIGHT_STRIDE;
    *here = -INFINITY;
    *total = 0.0f;
    if constexpr (Stored::SIZE == 2) {
        if (from == to) return (void)memset(out + begin, 0, 2 * (size_t)(finish - begin));
        *here = weigh_pairs(scores, from, to, call.task.softcap, begin, finish, out, total);
    } else {
        if (from != to) *here = weigh<false>(scores, from, to, call.task.softcap, total);
        const int32_t low = from == to ? begin : from / WIDTH * WIDTH;
        const int32_t high = from == to ? begin : (to + WIDTH - 1) / WIDTH * WIDTH;
        for (int32_t i = begin; i < finish; i += WIDTH) {
            if (i < low || i >= high) store(scores + i, V{});
        }
    }
}

// A row's sums without the matrix unit, which takes infinity times 0 for something.
template <class Stored>
void add_row(const Call &call, const Tiles &tiles, int32_t start, int32_t first, int32_t r, int32_t begin,
             int32_t finish) {
    float *sums = tiles.sums + (r - first) * sum_stride(call.size),
          *weights = tiles.scores + (r - first) * SCORE_STRIDE;
    memset(sums, 0, sizeof(float) * (size_t)call.size);
    if (Stored::SIZE == 2) {
        const uint16_t *stored = tiles.weights + (r - first) * WEIGHT_STRIDE;
        for (int32_t i = begin; i < finish; i += WIDTH) store(weights + i, BF16::load(stored + i));
    }
    for (int32_t p = begin; p < finish; p += PAGE) {
        const char *block = call.block(call.task.values, start + p);
        add_stored_page<Stored, 1>(block, block, start + p, {call.all.from, call.all.to}, r, weights + p, SPAN,
                                   call.size, sums);
    }
}

// Into the L2 cache: the first rows of a call begin on a page of keys, and leave its values for later.
template <class Stored> void fetch_block(const Call &call, const char *block) {
    const int32_t bytes = PAGE * call.size * Stored::SIZE;
    for (int32_t b = 0; b < bytes; b += 64) __builtin_prefetch(block + b, 0, 2);
}

// Rows `first` to `end`, which see nothing but places `begin` to `finish` of the span: whole pages.
template <class Stored>
void attend_rows(const Call &call, int32_t span, int32_t first, int32_t end, int32_t begin, int32_t finish,
                 const char *const *blocks) {
    const Tiles tiles(call);
    const int32_t start = span * SPAN, width = call.size, rows = end - first;
    for (int32_t p = begin; p < finish; p += PAGE) {
        const char *block = call.block(call.task.keys, start + p);
        if (!first) {
            fetch_block<Stored>(call, call.block(call.task.values, start + p));
            if (p + PAGE < finish) fetch_block<Stored>(call, call.block(call.task.keys, start + p + PAGE));
        }
        in_halves(rows, [&](auto halves, int32_t r) {
            score_tiles<Stored, decltype(halves)::VALUE>(call, tiles, first + r, block,
                                                         tiles.scores + r * SCORE_STRIDE + p);
        });
    }
    for (int32_t r = first; r < end; r++) weigh_row<Stored>(call, tiles, start, first, r, begin, finish);
    for (int32_t d = 0; d < width; d += 2 * MATRIX_TOKENS) {
        if (Stored::SIZE == 1 && d % GROUP == 0) {
            for (int32_t p = begin; p < finish; p += PAGE) {
                const char *block = call.block(call.task.values, start + p);
                for (int32_t r = 0; r < rows; r++) {
                    alignas(64) float scaled[PAGE];
                    scale_weights(block, width, d, tiles.scores + r * SCORE_STRIDE + p, scaled);
                    store_pairs(tiles.weights + r * WEIGHT_STRIDE + p, load(scaled), load(scaled + WIDTH));
                }
            }
        }
        in_halves(rows, [&](auto halves, int32_t r) {
            multiply_values<decltype(halves)::VALUE>(tiles.weights + r * WEIGHT_STRIDE + begin, blocks + begin / PAGE,
                                                     (finish - begin) / PAGE, width, d,
                                                     tiles.sums + r * sum_stride(width));
        });
    }
    for (int32_t r = first; r < end; r++) {
        const float *sums = tiles.sums + (r - first) * sum_stride(width);
        if (!finite(sums, width)) add_row<Stored>(call, tiles, start, first, r, begin, finish);
        finish_row(call, span, r, sums);
    }
}

// One span of all rows.
template <class Stored> void attend_tiles(const Call &call, int32_t span) {
    const Rows &all = call.all;
    const int32_t start = span * SPAN;
    const char *blocks[MOST_PAGES];
    uint32_t paired = 0; // bit p: the int8 values of page p lie in pairs
    begin_tiles(GROUP);
    for (int32_t first = 0; first < call.rows; first += MATRIX_ROWS) {
        const int32_t end = sooner(first + MATRIX_ROWS, call.rows);
        int32_t from = start + SPAN, to = start;
        for (int32_t r = first; r < end; r++) {
            if (all.from[r] == all.to[r]) continue;
            from = sooner(from, all.from[r]);
            to = later(to, all.to[r]);
        }
        const int32_t begin = from < to ? (from - start) / PAGE * PAGE : 0;
        const int32_t finish = from < to ? (to - start + PAGE - 1) / PAGE * PAGE : 0;
        for (int32_t p = begin; p < finish; p += PAGE) {
            const char *block = call.block(call.task.values, start + p);
            blocks[p / PAGE] = block;
            if (Stored::SIZE != 1) continue;
            char *pairs = (char *)all.wide + (int64_t)p * call.size * 2;
            if (!(paired >> p / PAGE & 1)) pair_values(block, call.size, pairs);
            paired |= 1u << p / PAGE;
            blocks[p / PAGE] = pairs;
        }
        attend_rows<Stored>(call, span, first, end, begin, finish, blocks);
    }
    end_tiles();
}
#else
template <class Stored> constexpr bool IN_TILES = false;
template <class Stored> bool takes_tiles(const Call &) { return false; }
template <class Stored> void pack_tiles(const Call &) {}
template <class Stored> void attend_tiles(const Call &, int32_t) {}
#endif

} // namespace
#endif
