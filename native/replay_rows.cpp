// Instructions that compute each row by itself: rows, or for few rows pieces of rows, are shared out.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "replay.h"

namespace soban {
namespace {

// Columns first .. first + count of row t. Ops whose columns hang together are always given the whole row.
using Row = void (*)(const Run &run, int32_t t, int32_t first, int32_t count);

void embed(const Run &run, int32_t t, int32_t, int32_t) {
    const soban_instruction &now = *run.now;
    const int32_t *rows = now.slot == SOBAN_POSITIONS ? run.batch.positions
                          : now.slot == SOBAN_TYPES   ? run.batch.types
                                                      : run.batch.token_ids;
    int32_t row = rows ? rows[t] : 0;
    for (int32_t p = 0; p < now.part_count; p++) {
        const soban_part &part = run.program.parts[now.first_part + p];
        if (row >= 0 && row < part.rows) return run.pool.kernels.embed(&part, row, now.f[0], run.row(now.out, t));
        row -= part.rows;
    }
    std::fill_n(run.row(now.out, t), now.out.columns, 0.0f);
}

void rms_norm(const Run &run, int32_t t, int32_t, int32_t) {
    const soban_instruction &now = *run.now;
    run.pool.kernels.rms_norm(run.row(now.a, t), run.vector(0), now.out.columns, now.f[0], now.f[1],
                              run.row(now.out, t));
}

void layer_norm(const Run &run, int32_t t, int32_t, int32_t) {
    const soban_instruction &now = *run.now;
    run.pool.kernels.layer_norm(run.row(now.a, t), run.vector(0), run.vector(1), now.out.columns, now.f[0],
                                run.row(now.out, t));
}

void head_norm(const Run &run, int32_t t, int32_t, int32_t) {
    const soban_instruction &now = *run.now;
    const soban_vector &weight = run.whole_vector(0);
    for (int64_t head = 0; head < now.out.columns; head += weight.count) {
        run.pool.kernels.rms_norm(run.row(now.a, t) + head, weight.data, (int32_t)weight.count, now.f[0], now.f[1],
                                  run.row(now.out, t) + head);
    }
}

void rotary(const Run &run, int32_t t, int32_t, int32_t) {
    const soban_instruction &now = *run.now;
    const int32_t half = now.out.columns / 2;
    const float *frequencies = run.vector(0);
    const int32_t position = run.batch.positions[t];
    double scale = now.f[0];
    if (now.f[1] != 0.0f) scale *= 1.0 + now.f[1] * std::log1p(std::floor(position / (double)now.f[2]));
    float *out = run.row(now.out, t);
    for (int32_t i = 0; i < half; i++) {
        const float angle = (float)position * frequencies[i]; // rounded to float, as transformers does
        out[i] = (float)std::cos((double)angle) * (float)scale;
        out[half + i] = (float)std::sin((double)angle) * (float)scale;
    }
}

void rope(const Run &run, int32_t t, int32_t, int32_t) {
    const soban_instruction &now = *run.now;
    const int32_t rotated = now.b.columns, size = now.i[1] ? now.i[1] : rotated;
    run.pool.kernels.rope(run.row(now.a, t), run.row(now.b, t), now.out.columns, size, rotated, now.i[0],
                          run.row(now.out, t));
}

void glu(const Run &run, int32_t t, int32_t first, int32_t count) {
    const soban_instruction &now = *run.now;
    const float *gate = run.row(now.a, t) + first;
    const float *up = now.b.columns ? run.row(now.b, t) + first : gate + now.out.columns;
    run.pool.kernels.glu(gate, up, count, now.i[0], run.row(now.out, t) + first);
}

void activation(const Run &run, int32_t t, int32_t first, int32_t count) {
    const soban_instruction &now = *run.now;
    run.pool.kernels.activate(run.row(now.a, t) + first, count, now.i[0], run.row(now.out, t) + first);
}

void scale(const Run &run, int32_t t, int32_t first, int32_t count) {
    const soban_instruction &now = *run.now;
    const float *vector = run.vector(0);
    run.pool.kernels.scale(run.row(now.a, t) + first, vector ? vector + first : nullptr, count, now.f[0],
                           run.row(now.out, t) + first);
}

void add(const Run &run, int32_t t, int32_t first, int32_t count) {
    const soban_instruction &now = *run.now;
    run.pool.kernels.add(run.row(now.a, t) + first, run.row(now.b, t) + first, count, run.row(now.out, t) + first);
}

void take_rows(const Run &run, int32_t t, int32_t first, int32_t count) {
    const soban_instruction &now = *run.now;
    std::memcpy(run.row(now.out, t) + first, run.row(now.a, run.batch.output_rows[t]) + first,
                sizeof(float) * (size_t)count);
}

void softcap(const Run &run, int32_t t, int32_t first, int32_t count) {
    const soban_instruction &now = *run.now;
    run.pool.kernels.softcap(run.row(now.a, t) + first, count, now.f[0], run.row(now.out, t) + first);
}

struct RowOp {
    Row compute;
    bool divisible;
    int32_t cost; // of a column, in multiply-adds, roughly
};

RowOp row_op(int32_t op) {
    switch (op) {
    case SOBAN_EMBED: return {embed, false, 2};
    case SOBAN_RMS_NORM: return {rms_norm, false, 1};
    case SOBAN_LAYER_NORM: return {layer_norm, false, 2};
    case SOBAN_HEAD_NORM: return {head_norm, false, 1};
    case SOBAN_ROTARY: return {rotary, false, 64};
    case SOBAN_ROPE: return {rope, false, 1};
    case SOBAN_GLU: return {glu, true, 4};
    case SOBAN_ACTIVATION: return {activation, true, 4};
    case SOBAN_SCALE: return {scale, true, 1};
    case SOBAN_ADD: return {add, true, 1};
    case SOBAN_TAKE_ROWS: return {take_rows, true, 1};
    default: return {softcap, true, 4};
    }
}

void work_rows(Run &run, int32_t chunk, int32_t) {
    const soban_view &out = run.now->out;
    const RowOp op = row_op(run.now->op);
    const int32_t across = chunks_of(out.columns, run.columns_a_chunk);
    const int32_t row = chunk / across * run.rows_a_chunk, first = chunk % across * run.columns_a_chunk;
    const int32_t end = std::min(row + run.rows_a_chunk, run.rows(out));
    const int32_t count = std::min(run.columns_a_chunk, out.columns - first);
    for (int32_t t = row; t < end; t++) op.compute(run, t, first, count);
}

} // namespace

int32_t prepare_rows(Run &run) {
    const soban_view &out = run.now->out;
    const RowOp op = row_op(run.now->op);
    const int32_t rows = run.rows(out);
    if (run.stage > 0 || rows == 0 || out.columns == 0) return LAST_STAGE;
    run.work = work_rows;
    const int64_t columns_at_once = INLINE_COST / op.cost; // a multiple of any vector
    run.columns_a_chunk = out.columns;
    if (op.divisible && rows < 2 * run.pool.threads.count()) {
        run.columns_a_chunk = (int32_t)std::min<int64_t>(out.columns, columns_at_once);
    }
    const int64_t rows_at_once = std::max<int64_t>(1, columns_at_once / run.columns_a_chunk);
    run.rows_a_chunk = (int32_t)std::min<int64_t>(rows, rows_at_once);
    return chunks_of(rows, run.rows_a_chunk) * chunks_of(out.columns, run.columns_a_chunk);
}

} // namespace soban
