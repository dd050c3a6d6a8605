// One call of soban_run: where it stands, and how each kind of instruction becomes phases of chunks.
#ifndef SOBAN_REPLAY_H
#define SOBAN_REPLAY_H

#include <chrono>

#include "pool.h"

namespace soban {

struct LinearChunk { // columns of the output, all within one part
    int32_t part, first, count, column;
};

struct AdapterTask { // a piece of an adapter for neighbouring tokens
    const soban_piece *piece;
    int32_t token, tokens;
    int64_t inner; // where its (tokens, rank) products start, in floats
};

struct AdapterChunk { // rows of the piece's A, tokens counted from the task's first
    int32_t task, first, rows, token, tokens;
};

struct AttentionTile { // neighbouring tokens of one sequence, one head of keys and values
    int32_t sequence, token, tokens, head, first_span, end_span;
    int64_t partials; // where its partial results start, in floats
};

struct AttentionChunk {
    int32_t tile, first_span, end_span;
};

struct Run {
    soban_pool &pool;
    const soban_program &program;
    float *arena;
    const soban_batch &batch;
    const soban_cache &cache;
    const soban_adapters *adapters; // or null
    const int32_t *cancel;
    int64_t *spent; // or null

    int32_t instruction = -1, stage = 0, status = SOBAN_DONE;
    const soban_instruction *now = nullptr;
    std::chrono::steady_clock::time_point begun{}; // of the present instruction, where `spent` is wanted
    void (*work)(Run &run, int32_t chunk, int32_t thread) = nullptr; // of the present phase

    int32_t rows_a_chunk = 0, columns_a_chunk = 0, items_a_chunk = 0;
    Activations activations{};
    std::vector<LinearChunk> linear{};
    std::vector<AdapterTask> adapted{}; // of the present linear
    std::vector<AdapterChunk> inner{};
    int64_t adapted_floats = 0;
    int32_t input_chunks = 0;                                              // chunks of the phase before `inner`
    void (*work_input)(Run &run, int32_t chunk, int32_t thread) = nullptr; // theirs
    bool at_once = false;                                                  // all of them in one chunk
    std::vector<AttentionTile> tiles{};
    std::vector<AttentionChunk> spans{};
    std::vector<int32_t> panels{}; // to be refined: i[0] for each row, -1 for none

    int32_t rows(const soban_view &view) const { return view.rows == SOBAN_TOKENS ? batch.tokens : batch.outputs; }
    const soban_layer &layer() const { return cache.layers[now->i[0]]; } // of an instruction that has one
    const soban_vector &whole_vector(int32_t n) const { return program.vectors[now->first_vector + n]; }
    const float *vector(int32_t n) const { return whole_vector(n).data; }
    float *row(const soban_view &view, int32_t t) const { return arena + view.offset + (int64_t)t * view.stride; }
};

constexpr int32_t LAST_STAGE = 0, OUT_OF_MEMORY = -1;
constexpr int64_t INLINE_COST = 1 << 14; // below about this many multiply-adds a phase is not worth sharing

// Each prepares stage run.stage of the instruction run.now and returns its number of chunks, or one of the above.
int32_t prepare_rows(Run &run);
int32_t prepare_linear(Run &run);
int32_t prepare_attention(Run &run);
int32_t prepare_refine(Run &run);
int32_t prepare_convolution(Run &run);
int32_t prepare_delta_rule(Run &run);
int32_t prepare_quantise(Run &run); // a stage of linear and refine: the rows of `a` as int8

void list_adapted(Run &run);                           // what adapters add to the linear at hand, in run.adapted
int32_t prepare_inner(Run &run, int32_t input_chunks); // more chunks for a phase that has so many, or none
void add_adapted(const Run &run, int32_t column, int32_t count); // to columns of the result that are written

// The number of chunks of `items_a_chunk` items.
inline int32_t chunks_of(int64_t items, int64_t items_a_chunk) {
    return (int32_t)((items + items_a_chunk - 1) / items_a_chunk);
}

} // namespace soban
#endif
