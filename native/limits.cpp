// What this machine can do at most, with nothing of a model in the way: src/soban/measure/limits.py asks.
#include <chrono>
#include <ctime>

#include "pool.h"

namespace {

constexpr int64_t LINE = 64;
constexpr int64_t PIECE = 8 << 20; // bytes of one chunk: what is prefetched past its streams' ends is a thousandth

typedef uint64_t Words __attribute__((vector_size(16)));

struct Read {
    uint64_t (*piece)(const char *data, int64_t lines, int64_t ahead);
    const char *data;
    int64_t bytes, ahead;
    std::atomic<uint64_t> total{0};
    bool begun = false;
};

template <int Where> void prefetch(const char *address) { __builtin_prefetch(address, 0, Where); }

// Streams that run side by side: each keeps a row of memory open, and a prefetcher of the core busy.
template <int Streams, int Where> uint64_t read_piece(const char *data, int64_t lines, int64_t ahead) {
    const int64_t each = lines / Streams * LINE; // bytes of a stream
    Words sums[Streams] = {};
    for (int64_t at = 0; at < each; at += LINE) {
        for (int s = 0; s < Streams; s++) {
            const char *line = data + s * each + at;
            if (Where) prefetch<Where>(line + ahead);
            const Words *words = (const Words *)line;
            sums[s] ^= words[0] ^ words[1] ^ words[2] ^ words[3];
        }
    }
    uint64_t total = 0;
    for (const Words &sum : sums) total ^= sum[0] ^ sum[1];
    return total;
}

template <int Streams> auto choose_read(int32_t cache) {
    return cache == 0 ? read_piece<Streams, 0> : cache == 1 ? read_piece<Streams, 3> : read_piece<Streams, 2>;
}

int32_t next_read(void *state, int32_t) {
    Read &read = *(Read *)state;
    if (read.begun) return 0;
    read.begun = true;
    return (int32_t)((read.bytes + PIECE - 1) / PIECE);
}

void work_read(void *state, int32_t chunk, int32_t) {
    Read &read = *(Read *)state;
    const int64_t first = chunk * PIECE, left = read.bytes - first;
    read.total.fetch_xor(read.piece(read.data + first, (left < PIECE ? left : PIECE) / LINE, read.ahead));
}

// A burst of dot products, all operands of which are 1, so that the sums are the number of multiply-adds.
// Written as assembly: compilers move registers about between such intrinsics, or remove them.
constexpr int32_t ROUNDS = 8192; // of a burst: 16-bit sums of two products stay below 2^15
constexpr int64_t BURSTS = 16; // of one chunk: half a millisecond, in which a busy system leaves us alone now and then

#if defined(__x86_64__)
#define TWELVE(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define REGISTERS                                                                                                      \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",         \
        "xmm13", "xmm14", "xmm15"

// Twelve sums: the latency of a dot product (5) times how many begin in a cycle (2), and some.
#define CLEAR(i) "vpxor %%xmm" #i ", %%xmm" #i ", %%xmm" #i "\n\t"
#define STORE_YMM(i) "vmovdqu %%ymm" #i ", 32*" #i "(%[sums])\n\t"
#define STORE_ZMM(i) "vmovdqu32 %%zmm" #i ", 64*" #i "(%[sums])\n\t"
#define BURST(BEFORE, PRODUCTS, STORE)                                                                                 \
    int32_t rounds = ROUNDS;                                                                                           \
    __asm__ volatile(TWELVE(CLEAR) BEFORE ".p2align 5\n\t"                                                             \
                                          "1:\n\t" PRODUCTS "decl %[rounds]\n\t"                                       \
                                          "jnz 1b\n\t" TWELVE(STORE) "vzeroupper\n\t"                                  \
                     : [rounds] "+r"(rounds)                                                                           \
                     : [sums] "r"(sums), [ones] "r"(0x01010101)                                                        \
                     : REGISTERS, "cc", "memory")

template <class Sum> int64_t add(const void *sums, int32_t count) {
    const Sum *values = (const Sum *)sums;
    int64_t total = 0;
    for (int32_t i = 0; i < count; i++) total += values[i];
    return total;
}

#define ONES_YMM "vmovd %[ones], %%xmm12\n\tvpbroadcastd %%xmm12, %%ymm12\n\tvmovdqa %%ymm12, %%ymm13\n\t"
#define ONES_ZMM "vpbroadcastd %[ones], %%zmm12\n\tvmovdqa64 %%zmm12, %%zmm13\n\t"

// No kernel of AVX2 can do more: it has to add up the 16-bit products somehow. Six sums, six products on their way.
#define PRODUCT_AVX2(to, by)                                                                                           \
    "vpmaddubsw %%ymm12, %%ymm13, %%ymm" #by "\n\tvpaddw %%ymm" #by ", %%ymm" #to ", %%ymm" #to "\n\t"
int64_t burst_avx2() {
    alignas(64) int16_t sums[12 * 16];
    BURST(ONES_YMM,
          PRODUCT_AVX2(0, 14) PRODUCT_AVX2(1, 15) PRODUCT_AVX2(2, 14) PRODUCT_AVX2(3, 15) PRODUCT_AVX2(4, 14)
              PRODUCT_AVX2(5, 15) PRODUCT_AVX2(6, 14) PRODUCT_AVX2(7, 15) PRODUCT_AVX2(8, 14) PRODUCT_AVX2(9, 15)
                  PRODUCT_AVX2(10, 14) PRODUCT_AVX2(11, 15),
          STORE_YMM);
    return add<int16_t>(sums, 12 * 16);
}

#define PRODUCT_VEX(i) "%{vex%} vpdpbusd %%ymm12, %%ymm13, %%ymm" #i "\n\t"
int64_t burst_avxvnni() {
    alignas(64) int32_t sums[12 * 8];
    BURST(ONES_YMM, TWELVE(PRODUCT_VEX), STORE_YMM);
    return add<int32_t>(sums, 12 * 8);
}

#define PRODUCT_EVEX(i) "%{evex%} vpdpbusd %%ymm12, %%ymm13, %%ymm" #i "\n\t"
int64_t burst_avx512vl() {
    alignas(64) int32_t sums[12 * 8];
    BURST(ONES_YMM, TWELVE(PRODUCT_EVEX), STORE_YMM);
    return add<int32_t>(sums, 12 * 8);
}

#define PRODUCT_ZMM(i) "vpdpbusd %%zmm12, %%zmm13, %%zmm" #i "\n\t"
int64_t burst_avx512() {
    alignas(64) int32_t sums[12 * 16];
    BURST(ONES_ZMM, TWELVE(PRODUCT_ZMM), STORE_ZMM);
    return add<int32_t>(sums, 12 * 16);
}

// Four sums of 16 x 16, two tiles of 16 x 64 on either side; six sums are no faster.
int64_t burst_amx() {
    struct {
        uint8_t palette, start, unused[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shapes = {1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    alignas(64) int8_t ones[1024];
    alignas(64) int32_t sums[4 * 256];
    for (int8_t &one : ones) one = 1;
    int32_t rounds = ROUNDS / 8; // one does as much as 16 of AVX-512's
    __asm__ volatile("ldtilecfg (%[shapes])\n\t"
                     "tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3\n\t"
                     "tileloadd (%[ones], %[stride]), %%tmm4\n\ttileloadd (%[ones], %[stride]), %%tmm5\n\t"
                     "tileloadd (%[ones], %[stride]), %%tmm6\n\ttileloadd (%[ones], %[stride]), %%tmm7\n\t"
                     ".p2align 5\n\t"
                     "1:\n\t"
                     "tdpbusd %%tmm6, %%tmm4, %%tmm0\n\ttdpbusd %%tmm7, %%tmm4, %%tmm1\n\t"
                     "tdpbusd %%tmm6, %%tmm5, %%tmm2\n\ttdpbusd %%tmm7, %%tmm5, %%tmm3\n\t"
                     "decl %[rounds]\n\t"
                     "jnz 1b\n\t"
                     "tilestored %%tmm0, (%[sums], %[stride])\n\ttilestored %%tmm1, 1024(%[sums], %[stride])\n\t"
                     "tilestored %%tmm2, 2048(%[sums], %[stride])\n\ttilestored %%tmm3, 3072(%[sums], %[stride])\n\t"
                     "tilerelease\n\t"
                     : [rounds] "+r"(rounds)
                     : [shapes] "r"(&shapes), [ones] "r"(ones), [sums] "r"(sums), [stride] "r"((int64_t)64)
                     : "cc", "memory");
    return add<int32_t>(sums, 4 * 256);
}
#elif defined(__aarch64__)
// Sixteen sums: the latency of a product (4) times how many begin in a cycle (4 at most).
#define SIXTEEN(DO)                                                                                                    \
    DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14) DO(15)
#define REGISTERS                                                                                                      \
    "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16"
#define CLEAR(i) "movi v" #i ".4s, #0\n\t"
#define STORE(i) "str q" #i ", [%[sums], #16*" #i "]\n\t"
#define BURST(PRODUCTS)                                                                                                \
    alignas(16) int32_t sums[16 * 4];                                                                                  \
    int32_t rounds = ROUNDS;                                                                                           \
    __asm__ volatile(SIXTEEN(CLEAR) "movi v16.16b, #1\n\t"                                                             \
                                    "1:\n\t" PRODUCTS "subs %w[rounds], %w[rounds], #1\n\t"                            \
                                    "b.ne 1b\n\t" SIXTEEN(STORE)                                                       \
                     : [rounds] "+r"(rounds)                                                                           \
                     : [sums] "r"(sums)                                                                                \
                     : REGISTERS, "cc", "memory");                                                                     \
    int64_t total = 0;                                                                                                 \
    for (int32_t sum : sums) total += sum;                                                                             \
    return total

#if defined(__clang__)
#define WITH(feature) __attribute__((target("+" feature)))
#else
#define WITH(feature) __attribute__((target("arch=armv8.2-a+" feature)))
#endif

#define PRODUCT_SDOT(i) "sdot v" #i ".4s, v16.16b, v16.16b\n\t"
WITH("dotprod") int64_t burst_neon() { BURST(SIXTEEN(PRODUCT_SDOT)); }

#define PRODUCT_SMMLA(i) "smmla v" #i ".4s, v16.16b, v16.16b\n\t"
WITH("i8mm") int64_t burst_neon_i8mm() { BURST(SIXTEEN(PRODUCT_SMMLA)); }
#endif

// Null for an instruction set that has no products of int8.
auto burst_of(int32_t isa) -> int64_t (*)() {
    switch (isa) {
#if defined(__x86_64__)
    case SOBAN_ISA_AVX2: return burst_avx2;
    case SOBAN_ISA_AVXVNNI: return burst_avxvnni;
    case SOBAN_ISA_AVX512VL: return burst_avx512vl;
    case SOBAN_ISA_AVX512VNNI: return burst_avx512;
    case SOBAN_ISA_AMX: return burst_amx;
#elif defined(__aarch64__)
    case SOBAN_ISA_NEON: return burst_neon;
    case SOBAN_ISA_NEON_I8MM: return burst_neon_i8mm;
#endif
    default: return nullptr;
    }
}

struct Multiply {
    int64_t (*burst)();
    int32_t chunks;
    std::vector<double> best; // multiply-adds per second of each thread in its best chunk
    std::atomic<int64_t> total{0};
    bool begun = false;
};

// Seconds that this thread has computed: what other programs and the host take from it does not count. By the clock
// where the system counts no finer than in hundredths.
double own_seconds() {
#if defined(CLOCK_THREAD_CPUTIME_ID) && !defined(_WIN32)
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#else
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
#endif
}

int32_t next_multiply(void *state, int32_t) {
    Multiply &multiply = *(Multiply *)state;
    if (multiply.begun) return 0;
    multiply.begun = true;
    return multiply.chunks;
}

void work_multiply(void *state, int32_t, int32_t thread) {
    Multiply &multiply = *(Multiply *)state;
    int64_t total = 0;
    const double start = own_seconds();
    for (int64_t i = 0; i < BURSTS; i++) total += multiply.burst();
    const double rate = (double)total / (own_seconds() - start);
    double &best = multiply.best[(size_t)thread];
    if (rate > best) best = rate;
    multiply.total.fetch_add(total);
}

} // namespace

extern "C" uint64_t soban_read(soban_pool *pool, const void *data, int64_t bytes, int32_t streams, int32_t cache,
                               int64_t ahead) {
    Read read;
    read.piece = streams == 1   ? choose_read<1>(cache)
                 : streams == 2 ? choose_read<2>(cache)
                 : streams == 4 ? choose_read<4>(cache)
                                : choose_read<8>(cache);
    read.data = (const char *)data;
    read.bytes = bytes;
    read.ahead = ahead;
    pool->threads.run({&read, next_read, work_read});
    return read.total;
}

extern "C" int64_t soban_multiply(soban_pool *pool, int32_t isa, int32_t chunks, int64_t *rate) {
    Multiply multiply;
    multiply.chunks = chunks;
    multiply.burst = soban_isa_runs(isa) ? burst_of(isa) : nullptr;
    if (!multiply.burst) return -1;
    multiply.best.resize((size_t)pool->threads.count());
    pool->threads.run({&multiply, next_multiply, work_multiply});
    double sum = 0.0;
    int32_t worked = 0; // threads that came in time for a chunk: the others are taken to be like them
    for (double best : multiply.best) sum += best, worked += best > 0.0;
    if (rate) *rate = (int64_t)(sum / worked * pool->threads.count());
    return multiply.total;
}
