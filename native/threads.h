// A pool of threads that works through a job's phases: chunks of one phase in any order, then the next phase.
#ifndef SOBAN_THREADS_H
#define SOBAN_THREADS_H

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace soban {

struct Job {
    void *state;
    // Prepares the next phase while no other thread works, and returns its number of chunks; 0 ends the job.
    int32_t (*next)(void *state, int32_t thread);
    void (*work)(void *state, int32_t chunk, int32_t thread);
};

constexpr int32_t MOST_CHUNKS = (1 << 20) - 1;

// A phase ends when its chunks are done, not when all threads have arrived: a thread that the system has taken off
// its core holds up the others only by the chunk that it was working on. Nobody waits at a barrier.
class Threads {
  public:
    explicit Threads(int32_t count); // the calling thread is one of them; throws std::system_error
    ~Threads();
    Threads(const Threads &) = delete;
    Threads &operator=(const Threads &) = delete;

    int32_t count() const { return (int32_t)helpers.size() + 1; }
    void run(const Job &given); // one call at a time

  private:
    void help(int32_t thread);
    bool take_chunk(int32_t thread);
    void begin_next_phase(int32_t thread);
    void wake(uint64_t count);
    template <class Ready> void wait(std::condition_variable &condition, std::atomic<int32_t> &asleep, Ready ready);
    void stop();

    // The phase's number (24 bits), its chunks (20 bits) and the next chunk to take (20 bits), changed as one.
    alignas(64) std::atomic<uint64_t> ticket{0};
    alignas(64) std::atomic<int32_t> done{0};
    alignas(64) Job job{};
    std::atomic<bool> stopping{false};
    std::atomic<int32_t> helpers_asleep{0}, caller_asleep{0};
    std::mutex mutex;
    std::condition_variable helpers_wake, caller_wakes;
    std::vector<std::thread> helpers;
};

} // namespace soban
#endif
