// refine(): the panels of a vocabulary that hold the largest scores get the rest of their bits.
#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>

#include "replay.h"

namespace soban {
namespace {

constexpr int32_t PANELS_A_CHUNK = 64;

// A NaN is never larger.
float largest_of(const float *scores, int32_t count) {
    float most[4];
    std::fill_n(most, 4, -std::numeric_limits<float>::infinity());
    if (count == PANEL) {
        for (int32_t c = 0; c < PANEL; c += 4) {
            for (int32_t lane = 0; lane < 4; lane++) {
                most[lane] = scores[c + lane] > most[lane] ? scores[c + lane] : most[lane];
            }
        }
    } else {
        for (int32_t c = 0; c < count; c++) most[c % 4] = scores[c] > most[c % 4] ? scores[c] : most[c % 4];
    }
    return std::max(std::max(most[0], most[1]), std::max(most[2], most[3]));
}

void work_choose(Run &run, int32_t t, int32_t thread) {
    const soban_instruction &now = *run.now;
    const int32_t columns = now.out.columns, panels = chunks_of(columns, PANEL), count = now.i[0];
    const float *scores = run.row(now.b, t);
    std::memcpy(run.row(now.out, t), scores, sizeof(float) * (size_t)columns);
    float *largest = (float *)run.pool.own[(size_t)thread].data, *order = largest + panels;
    for (int32_t p = 0; p < panels; p++) {
        largest[p] = order[p] = largest_of(scores + p * PANEL, std::min(PANEL, columns - p * PANEL));
    }
    std::nth_element(order, order + count - 1, order + panels, std::greater<float>());
    const float least = order[count - 1], margin = *std::max_element(order, order + count) - now.f[0];
    int64_t equals = count - std::count_if(order, order + count, [=](float most) { return most > least; });
    int32_t *chosen = run.panels.data() + (int64_t)t * count;
    std::fill_n(chosen, count, -1);
    for (int32_t p = 0; p < panels; p++) {
        const bool taken = largest[p] > least || (largest[p] == least && equals-- > 0);
        if (taken && largest[p] >= margin) *chosen++ = p;
    }
}

void work_refine(Run &run, int32_t chunk, int32_t) {
    const soban_instruction &now = *run.now;
    const soban_part &part = run.program.parts[now.first_part];
    const int32_t pieces = chunks_of(now.i[0], PANELS_A_CHUNK), t = chunk / pieces;
    float *out = run.row(now.out, t);
    const int32_t first = chunk % pieces * PANELS_A_CHUNK, end = std::min(first + PANELS_A_CHUNK, now.i[0]);
    const int32_t *panels = run.panels.data() + (int64_t)t * now.i[0];
    const int32_t count = (int32_t)(std::find(panels + first, panels + end, -1) - (panels + first));
    if (!count) return;
    // what is there already is added as a bias would be
    const Linear task = {&part, 0,       count * PANEL, 1, t, nullptr, 0, &run.activations, out, now.out.stride,
                         out,   nullptr, panels + first};
    run.pool.kernels.linear(&task);
}

int32_t prepare_choose(Run &run) {
    const soban_instruction &now = *run.now;
    const int32_t rows = run.rows(now.out);
    const int64_t floats = 2 * (int64_t)chunks_of(now.out.columns, PANEL);
    if (!run.pool.reserve_own(floats * (int64_t)sizeof(float))) return OUT_OF_MEMORY;
    run.panels.resize((size_t)rows * (size_t)now.i[0]);
    run.work = work_choose;
    return rows;
}

} // namespace

int32_t prepare_refine(Run &run) {
    const int32_t rows = run.rows(run.now->out);
    if (rows == 0) return LAST_STAGE;
    switch (run.stage) {
    case 0: return prepare_quantise(run);
    case 1: return prepare_choose(run);
    case 2: run.work = work_refine; return rows * chunks_of(run.now->i[0], PANELS_A_CHUNK);
    default: return LAST_STAGE;
    }
}

} // namespace soban
