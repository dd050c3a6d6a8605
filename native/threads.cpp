// The pool of threads: see threads.h.
#include "threads.h"

#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

constexpr std::chrono::microseconds SPIN{50}; // about what waking a sleeping thread takes
constexpr uint64_t FIELD = soban::MOST_CHUNKS;

uint64_t next_chunk(uint64_t ticket) { return ticket & FIELD; }
uint64_t chunks(uint64_t ticket) { return ticket >> 20 & FIELD; }
bool has_work(uint64_t ticket) { return next_chunk(ticket) < chunks(ticket); }

void relax() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

} // namespace

namespace soban {

Threads::Threads(int32_t count) {
    try {
        for (int32_t i = 1; i < count; i++) helpers.emplace_back([this, i] { help(i); });
    } catch (...) {
        stop();
        throw;
    }
}

Threads::~Threads() { stop(); }

void Threads::stop() {
    {
        const std::lock_guard<std::mutex> lock(mutex);
        stopping = true;
    }
    helpers_wake.notify_all();
    for (std::thread &helper : helpers) helper.join();
}

void Threads::run(const Job &given) {
    job = given;
    begin_next_phase(0);
    while (chunks(ticket.load(std::memory_order_acquire)) != 0) {
        if (take_chunk(0)) continue;
        wait(caller_wakes, caller_asleep, [this] {
            const uint64_t now = ticket.load();
            return has_work(now) || chunks(now) == 0;
        });
    }
}

void Threads::help(int32_t thread) {
    while (!stopping) {
        if (take_chunk(thread)) continue;
        wait(helpers_wake, helpers_asleep, [this] { return has_work(ticket.load()) || stopping; });
    }
}

// Works on one chunk if there is one to take. What the ticket says holds at the exchange that takes the chunk, and
// the phase cannot end before that chunk is done, so a ticket read long ago does no harm.
bool Threads::take_chunk(int32_t thread) {
    uint64_t seen = ticket.load(std::memory_order_acquire);
    if (!has_work(seen)) return false;
    if (!ticket.compare_exchange_strong(seen, seen + 1, std::memory_order_acq_rel)) return true;
    job.work(job.state, (int32_t)next_chunk(seen), thread);
    if ((uint64_t)done.fetch_add(1, std::memory_order_acq_rel) + 1 == chunks(seen)) begin_next_phase(thread);
    return true;
}

void Threads::begin_next_phase(int32_t thread) {
    const uint64_t count = (uint64_t)job.next(job.state, thread);
    done.store(0, std::memory_order_relaxed);
    const uint64_t phase = (ticket.load(std::memory_order_relaxed) >> 40) + 1;
    ticket.store(phase << 40 | count << 20); // sequentially consistent, like the counts of sleepers
    wake(count);
}

void Threads::wake(uint64_t count) {
    const bool more = count > 1;
    if (caller_asleep.load() == 0 && !(more && helpers_asleep.load() != 0)) return;
    const std::lock_guard<std::mutex> lock(mutex); // whoever is about to sleep has looked, or will look, at the ticket
    caller_wakes.notify_one();
    if (more) helpers_wake.notify_all();
}

template <class Ready>
void Threads::wait(std::condition_variable &condition, std::atomic<int32_t> &asleep, Ready ready) {
    const auto end = std::chrono::steady_clock::now() + SPIN;
    do {
        for (int i = 0; i < 32; i++) {
            if (ready()) return;
            relax();
        }
    } while (std::chrono::steady_clock::now() < end);
    std::unique_lock<std::mutex> lock(mutex);
    asleep++;
    condition.wait(lock, ready);
    asleep--;
}

} // namespace soban
