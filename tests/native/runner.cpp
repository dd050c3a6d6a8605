// Lets tests on one system call the native library on another: requests on stdin, answers on stdout.
//
// A request is 9 numbers of 64 bits (what to do and up to 8 arguments), after WRITE the bytes; the answer is one such
// number, after READ the bytes. Addresses are this process's own: see remote.py, which sends them.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <new>

#include "soban.h"

#if defined(_WIN32)
#include <fcntl.h>
#include <io.h>
#endif

namespace {

enum {
    ALLOCATE,
    FREE,
    WRITE,
    READ,
    RUNS,
    CREATE,
    DESTROY,
    RUN,
    ENCODE,
    FIND,
    READ_ALL,
    MULTIPLY,
    BPE,
    WORKS,
    STORED,
    ABI,
    LEARN
};

template <class T> T *at(int64_t address) { return (T *)(intptr_t)address; }

// The functions of training in the order of remote.py's LEARNING.
int64_t learn(int64_t number, int32_t isa, int64_t task) {
    switch (number) {
    case 0: soban_glu_forward(isa, at<soban_glu>(task)); return 0;
    case 1: soban_glu_backward(isa, at<soban_glu>(task)); return 0;
    case 2: soban_norm_forward(isa, at<soban_norm>(task)); return 0;
    case 3: soban_norm_backward(isa, at<soban_norm>(task)); return 0;
    case 4: soban_turn_pairs(isa, at<soban_turn>(task)); return 0;
    case 5: {
        const double nats = soban_next_token_loss(isa, at<soban_loss>(task));
        int64_t bits;
        std::memcpy(&bits, &nats, sizeof bits);
        return bits;
    }
    case 6: return soban_attention_shares(isa, at<soban_attention>(task));
    case 7: return soban_attention_room(isa, at<soban_attention>(task));
    case 8: soban_attention_forward(isa, at<soban_attention>(task)); return 0;
    default: soban_attention_backward(isa, at<soban_attention>(task)); return 0;
    }
}

int64_t call(const int64_t *now) {
    const int64_t *a = now + 1;
    switch (now[0]) {
    case ALLOCATE: return (intptr_t)::operator new((size_t)a[0], std::align_val_t(64));
    case FREE: ::operator delete(at<void>(a[0]), std::align_val_t(64)); return 0;
    case WRITE: return (int64_t)std::fread(at<void>(a[0]), 1, (size_t)a[1], stdin);
    case READ: return a[1];
    case RUNS: return soban_isa_runs((int32_t)a[0]);
    case CREATE: return (intptr_t)soban_pool_create((int32_t)a[0], (int32_t)a[1]);
    case DESTROY: soban_pool_destroy(at<soban_pool>(a[0])); return 0;
    case RUN:
        return soban_run(at<soban_pool>(a[0]), at<soban_program>(a[1]), at<float>(a[2]), at<soban_batch>(a[3]),
                         at<soban_cache>(a[4]), at<soban_adapters>(a[5]), at<int32_t>(a[6]), nullptr);
    case ENCODE:
        return soban_encode(at<soban_pool>(a[0]), at<void>(a[1]), (int32_t)a[2], a[3], a[4], (int32_t)a[5],
                            at<void>(a[6]));
    case FIND: return soban_find_not_finite(at<soban_pool>(a[0]), at<void>(a[1]), (int32_t)a[2], a[3]);
    case READ_ALL:
        return (int64_t)soban_read(at<soban_pool>(a[0]), at<void>(a[1]), a[2], (int32_t)a[3], (int32_t)a[4], a[5]);
    case MULTIPLY: return soban_multiply(at<soban_pool>(a[0]), (int32_t)a[1], (int32_t)a[2], nullptr);
    case BPE: return soban_bpe(at<soban_pieces>(a[0]), at<uint8_t>(a[1]), a[2], (int32_t)a[3], at<uint32_t>(a[4]));
    case WORKS: return soban_isa_works((int32_t)a[0]);
    case STORED: return soban_stored_bytes((int32_t)a[0], a[1], a[2]);
    case LEARN: return learn(a[0], (int32_t)a[1], a[2]);
    default: return soban_abi();
    }
}

} // namespace

int main() {
#if defined(_WIN32)
    _setmode(_fileno(stdin), _O_BINARY);
    _setmode(_fileno(stdout), _O_BINARY);
#endif
    int64_t now[9];
    while (std::fread(now, sizeof now, 1, stdin) == 1) {
        const int64_t answer = call(now);
        std::fwrite(&answer, sizeof answer, 1, stdout);
        if (now[0] == READ) std::fwrite(at<void>(now[1]), 1, (size_t)now[2], stdout);
        std::fflush(stdout);
    }
    return 0;
}
