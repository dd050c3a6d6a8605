// soban_encode, soban_repack, soban_find_not_finite, soban_stored_bytes: weights on their way in.
#include <algorithm>
#include <utility>

#include "pool.h"
#include "repack.h"

namespace soban {
namespace {

constexpr int64_t WORTH = 1 << 16; // values in a chunk, at least

struct Shared { // a call that shares `chunks` chunks of one phase
    soban_pool &pool;
    const char *source;
    int32_t source_format, format;
    int64_t row_bytes, rows, columns, items_a_chunk;
    char *target;
    int32_t chunks;
    std::atomic<int64_t> first_bad{INT64_MAX};
};

void found(Shared &call, int64_t index) {
    int64_t least = call.first_bad.load();
    while (index < least && !call.first_bad.compare_exchange_weak(least, index)) {
    }
}

// Items in a chunk so that each is worth taking and there are not too many.
int64_t share(int64_t items, int64_t worth) { return std::max({(int64_t)1, worth, items / MOST_CHUNKS + 1}); }

int32_t only_phase(void *state, int32_t) { return std::exchange(((Shared *)state)->chunks, 0); }

int64_t result(const Shared &call) { return call.first_bad == INT64_MAX ? -1 : call.first_bad.load(); }

void work_encode(void *state, int32_t chunk, int32_t) {
    Shared &call = *(Shared *)state;
    const int64_t step = call.items_a_chunk * PANEL, end = std::min(call.rows, (chunk + 1) * step);
    for (int64_t row = chunk * step; row < end; row += PANEL) {
        const int32_t rows = (int32_t)std::min<int64_t>(PANEL, call.rows - row);
        char *target = call.target + soban_stored_bytes(call.format, row, call.columns);
        const char *source = call.source + row * call.row_bytes;
        const int32_t bad =
            of_file(call.format)
                ? repack_panel((const uint8_t *)source, call.format, rows, call.columns, (uint8_t *)target)
                : call.pool.encoders.panel(source, call.source_format, rows, call.columns, call.format, target);
        if (bad >= 0) found(call, row + bad);
    }
}

// All panels of a matrix, shared out.
int64_t write_panels(soban_pool &pool, const void *source, int32_t source_format, int64_t row_bytes, int64_t rows,
                     int64_t columns, int32_t format, void *target) {
    const int64_t panels = (rows + PANEL - 1) / PANEL;
    if (panels == 0 || columns == 0) return -1;
    const int64_t each = share(panels, WORTH / (columns * PANEL));
    Shared call{pool,           (const char *)source,
                source_format,  format,
                row_bytes,      rows,
                columns,        each,
                (char *)target, (int32_t)((panels + each - 1) / each)};
    pool.threads.run({&call, only_phase, work_encode});
    return result(call);
}

void work_find(void *state, int32_t chunk, int32_t) {
    Shared &call = *(Shared *)state;
    const int64_t first = chunk * call.items_a_chunk, count = std::min(call.items_a_chunk, call.columns - first);
    const char *source = call.source + first * item_bytes(call.source_format);
    const int64_t bad = call.pool.encoders.find_not_finite(source, call.source_format, count);
    if (bad >= 0) found(call, first + bad);
}

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
    const int64_t row_bytes = columns * soban::item_bytes(source_format);
    return soban::write_panels(*pool, source, source_format, row_bytes, rows, columns, format, target);
}

extern "C" int64_t soban_repack(soban_pool *pool, const void *source, int32_t format, int64_t rows, int64_t columns,
                                void *target) {
    const int64_t row_bytes = soban::file_row_bytes(format, columns);
    return soban::write_panels(*pool, source, format, row_bytes, rows, columns, format, target);
}

extern "C" int64_t soban_find_not_finite(soban_pool *pool, const void *values, int32_t format, int64_t count) {
    if (count == 0) return -1;
    const int64_t each = soban::share(count, soban::WORTH);
    soban::Shared call{
        *pool, (const char *)values, format, format, 0, 1, count, each, nullptr, (int32_t)((count + each - 1) / each)};
    pool->threads.run({&call, soban::only_phase, soban::work_find});
    return soban::result(call);
}
