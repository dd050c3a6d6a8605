// soban_run: the instructions one after the other, each as phases that the pool's threads share.
#include <system_error>

#include "replay.h"

namespace soban {
namespace {

int32_t prepare(Run &run) {
    switch (run.now->op) {
    case SOBAN_LINEAR: return prepare_linear(run);
    case SOBAN_ATTENTION: return prepare_attention(run);
    case SOBAN_REFINE: return prepare_refine(run);
    case SOBAN_CONVOLUTION: return prepare_convolution(run);
    case SOBAN_DELTA_RULE: return prepare_delta_rule(run);
    default: return prepare_rows(run);
    }
}

bool cancelled(const Run &run) { return *(const volatile int32_t *)run.cancel != 0; }

// Adds the time of the instruction that ends here; the next begins.
void count_time(Run &run) {
    const auto end = std::chrono::steady_clock::now();
    if (run.now) run.spent[run.instruction] += std::chrono::nanoseconds(end - run.begun).count();
    run.begun = end;
}

// Called by one thread at a time. Small phases are worked through at once; the next large one is returned.
int32_t next_phase_of(Run &run, int32_t thread) {
    for (;;) {
        const int32_t chunks = run.now ? prepare(run) : LAST_STAGE;
        if (chunks == OUT_OF_MEMORY) {
            run.status = SOBAN_NO_MEMORY;
            return 0;
        }
        run.stage++;
        if (chunks > 1) return chunks;
        if (chunks == 1) {
            run.work(run, 0, thread);
            continue;
        }
        if (run.spent) count_time(run);
        run.stage = 0;
        run.instruction++;
        if (run.instruction >= run.program.instruction_count) return 0;
        run.now = run.program.instructions + run.instruction;
        if (cancelled(run)) {
            run.status = SOBAN_CANCELLED;
            return 0;
        }
    }
}

int32_t next_phase(void *state, int32_t thread) {
    Run &run = *(Run *)state;
    try {
        return next_phase_of(run, thread);
    } catch (const std::bad_alloc &) { // of the lists of chunks
        run.status = SOBAN_NO_MEMORY;
        return 0;
    }
}

void work(void *state, int32_t chunk, int32_t thread) {
    Run &run = *(Run *)state;
    run.work(run, chunk, thread);
}

} // namespace
} // namespace soban

extern "C" int32_t soban_abi(void) { return SOBAN_ABI; }

extern "C" soban_pool *soban_pool_create(int32_t threads, int32_t isa) {
    if (threads < 1 || !soban_isa_runs(isa)) return nullptr;
    try {
        return new soban_pool(threads, isa);
    } catch (const std::system_error &) {
        return nullptr;
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

extern "C" void soban_pool_destroy(soban_pool *pool) { delete pool; }

extern "C" int32_t soban_run(soban_pool *pool, const soban_program *program, float *arena, const soban_batch *batch,
                             const soban_cache *cache, const soban_adapters *adapters, const int32_t *cancel,
                             int64_t *spent) {
    soban::Run run{*pool, *program, arena, *batch, *cache, adapters, cancel, spent};
    pool->threads.run({&run, soban::next_phase, soban::work});
    return run.status;
}
