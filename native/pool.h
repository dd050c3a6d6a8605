// What soban_pool is: threads, scratch memory, and the kernels of one instruction set.
#ifndef SOBAN_POOL_H
#define SOBAN_POOL_H

#include <new>

#include "kernels/kernels.h"
#include "threads.h"

namespace soban {

// Memory on 64 bytes that grows and is kept; growing loses what it held.
class Buffer {
  public:
    Buffer() = default;
    ~Buffer() { release(); }
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;

    bool reserve(int64_t bytes) { // false: no memory
        if (bytes <= size) return true;
        release();
        data = ::operator new((size_t)bytes, std::align_val_t(64), std::nothrow);
        if (data) size = bytes;
        return data != nullptr;
    }
    void *data = nullptr;

  private:
    void release() {
        ::operator delete(data, std::align_val_t(64));
        data = nullptr;
        size = 0;
    }
    int64_t size = 0;
};

} // namespace soban

struct soban_pool {
    soban_pool(int32_t count, int32_t isa)
        : threads(count), own((size_t)count), kernels(*soban::kernels_of(isa)), encoders(*soban::encoders_of(isa)) {}

    // Scratch memory for every thread; false: no memory.
    bool reserve_own(int64_t bytes) {
        for (soban::Buffer &buffer : own) {
            if (!buffer.reserve(bytes)) return false;
        }
        return true;
    }

    soban::Threads threads;
    soban::Buffer shared, partials, adapted;
    std::vector<soban::Buffer> own;
    const soban::Kernels &kernels;
    const soban::Encoders &encoders;
};

#endif
