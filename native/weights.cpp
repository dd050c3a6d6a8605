// soban_encode, soban_find_not_finite, soban_stored_bytes: weights on their way in.
#include <algorithm>
#include <utility>

#include "pool.h"

namespace soban {
namespace {

constexpr int64_t WORTH = 1 << 16; // values in a chunk, at least

struct Shared { // a call that shares `chunks` chunks of one phase
    soban_pool &pool;
    const char *source;
    int32_t source_format, format;
    int64_t rows, columns, items_a_chunk;
    char *target;
    int32_t chunks;
    std::atomic<int64_t> first_bad{INT64_MAX};
};

void found(Shared &call, int64_t index) {
    int64_t least = call.first_bad.load();
    while (index < least && !call.first_bad.compare_exchange_weak(least, index)) {
    }
}

int32_t only_phase(void *state, int32_t) { return std::exchange(((Shared *)state)->chunks, 0); }

int64_t result(const Shared &call) { return call.first_bad == INT64_MAX ? -1 : call.first_bad.load(); }

void work_encode(void *state, int32_t chunk, int32_t) {
    Shared &call = *(Shared *)state;
    const int64_t step = call.items_a_chunk * PANEL, end = std::min(call.rows, (chunk + 1) * step);
    for (int64_t row = chunk * step; row < end; row += PANEL) {
        const int32_t rows = (int32_t)std::min<int64_t>(PANEL, call.rows - row);
        const char *source = call.source + row * call.columns * item_bytes(call.source_format);
        char *target = call.target + soban_stored_bytes(call.format, row, call.columns);
        const int32_t bad =
            call.pool.encoders.panel(source, call.source_format, rows, call.columns, call.format, target);
        if (bad >= 0) found(call, row + bad);
    }
}

void work_find(void *state, int32_t chunk, int32_t) {
    Shared &call = *(Shared *)state;
    const int64_t first = chunk * call.items_a_chunk, count = std::min(call.items_a_chunk, call.columns - first);
    const char *source = call.source + first * item_bytes(call.source_format);
    const int64_t bad = call.pool.encoders.find_not_finite(source, call.source_format, count);
    if (bad >= 0) found(call, first + bad);
}

// Items in a chunk so that each is worth taking and there are not too many.
int64_t share(int64_t items, int64_t worth) { return std::max({(int64_t)1, worth, items / MOST_CHUNKS + 1}); }

bool multiply(int64_t a, int64_t b, int64_t *product) { return !__builtin_mul_overflow(a, b, product); }

} // namespace
} // namespace soban

extern "C" int64_t soban_stored_bytes(int32_t format, int64_t rows, int64_t columns) {
    using soban::GROUP, soban::PANEL;
    if (rows < 0 || columns < 0) return -1;
    int64_t units = rows, each = 0, bytes;
    if (format < SOBAN_Q8) {
        if (!soban::multiply(columns, soban::item_bytes(format), &each)) return -1;
    } else {
        units = rows / PANEL + (rows % PANEL != 0);
        if (columns > INT64_MAX / (2 * PANEL)) return -1;
        each = soban::packed_panel(format, columns / GROUP + (columns % GROUP != 0));
    }
    return soban::multiply(units, each, &bytes) ? bytes : -1;
}

extern "C" int64_t soban_encode(soban_pool *pool, const void *source, int32_t source_format, int64_t rows,
                                int64_t columns, int32_t format, void *target) {
    const int64_t panels = (rows + soban::PANEL - 1) / soban::PANEL;
    if (panels == 0 || columns == 0) return -1;
    const int64_t each = soban::share(panels, soban::WORTH / (columns * soban::PANEL));
    soban::Shared call{*pool,
                       (const char *)source,
                       source_format,
                       format,
                       rows,
                       columns,
                       each,
                       (char *)target,
                       (int32_t)((panels + each - 1) / each)};
    pool->threads.run({&call, soban::only_phase, soban::work_encode});
    return soban::result(call);
}

extern "C" int64_t soban_find_not_finite(soban_pool *pool, const void *values, int32_t format, int64_t count) {
    if (count == 0) return -1;
    const int64_t each = soban::share(count, soban::WORTH);
    soban::Shared call{
        *pool, (const char *)values, format, format, 1, count, each, nullptr, (int32_t)((count + each - 1) / each)};
    pool->threads.run({&call, soban::only_phase, soban::work_find});
    return soban::result(call);
}
