// Which instruction sets this machine and its system run, and their kernels.
#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__aarch64__) && defined(_WIN32)
#include <windows.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace soban {
extern const Kernels compute_scalar;
extern const Encoders encode_scalar;
extern const Learning learn_scalar;
#if defined(__x86_64__)
extern const Kernels compute_avx2, compute_avxvnni, compute_avx512vl, compute_avx512vnni, compute_amx;
extern const Encoders encode_avx2, encode_avx512vnni;
extern const Learning learn_avx2, learn_avx512vnni;
#elif defined(__aarch64__)
extern const Kernels compute_neon, compute_neon_i8mm;
extern const Learning learn_neon;
#endif
} // namespace soban

namespace {

#if defined(__x86_64__)
struct Registers {
    uint32_t a, b, c, d;
};

Registers cpuid(uint32_t leaf, uint32_t part = 0) {
    Registers r = {};
    if (!__get_cpuid_count(leaf, part, &r.a, &r.b, &r.c, &r.d)) return Registers{};
    return r;
}

bool has(uint32_t word, uint32_t bits) { return (word & bits) == bits; }

// Bit i: the system saves register state i when it switches tasks.
uint32_t saved_states() {
    if (!has(cpuid(1).c, bit_OSXSAVE)) return 0;
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

bool runs_avx2() {
    const uint32_t states = 1 << 1 | 1 << 2; // SSE, AVX
    return has(saved_states(), states) && has(cpuid(1).c, bit_AVX | bit_FMA | bit_F16C) && has(cpuid(7).b, bit_AVX2);
}

bool runs_avx512vnni() {
    const uint32_t states = 1 << 5 | 1 << 6 | 1 << 7; // masks, upper halves, registers 16 to 31
    return runs_avx2() && has(saved_states(), states) &&
           has(cpuid(7).b, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL) && has(cpuid(7).c, bit_AVX512VNNI);
}

bool runs_avxvnni() { return runs_avx2() && has(cpuid(7, 1).a, 1 << 4); }

// The system hands out the tiles' 8 KB of state on request only.
bool runs_amx() {
#if defined(__linux__)
    const uint32_t tiles = 1 << 24, int8 = 1 << 25, bf16 = 1 << 22, vectors_bf16 = 1 << 5, states = 1 << 17 | 1 << 18;
    const long request = 0x1023, tile_data = 18; // ARCH_REQ_XCOMP_PERM
    return runs_avx512vnni() && has(cpuid(7).d, tiles | int8 | bf16) && has(cpuid(7, 1).a, vectors_bf16) &&
           has(saved_states(), states) && syscall(SYS_arch_prctl, request, tile_data) == 0;
#else
    return false;
#endif
}
#elif defined(__aarch64__) && defined(__linux__)
bool runs_neon() { return getauxval(AT_HWCAP) >> 20 & 1; }                      // HWCAP_ASIMDDP
bool runs_neon_i8mm() { return runs_neon() && getauxval(AT_HWCAP2) >> 13 & 1; } // HWCAP2_I8MM
#elif defined(__aarch64__) && defined(__APPLE__)
bool has(const char *name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool runs_neon() { return has("hw.optional.arm.FEAT_DotProd"); }
bool runs_neon_i8mm() { return runs_neon() && has("hw.optional.arm.FEAT_I8MM"); }
#elif defined(__aarch64__) && defined(_WIN32)
bool runs_neon() { return IsProcessorFeaturePresent(43); }                     // PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE
bool runs_neon_i8mm() { return runs_neon() && IsProcessorFeaturePresent(66); } // PF_ARM_V82_I8MM_...
#endif

} // namespace

extern "C" int32_t soban_isa_runs(int32_t isa) {
    switch (isa) {
    case SOBAN_ISA_SCALAR: return 1;
#if defined(__x86_64__)
    case SOBAN_ISA_AVX2: return runs_avx2();
    case SOBAN_ISA_AVXVNNI: return runs_avxvnni();
    case SOBAN_ISA_AVX512VL:
    case SOBAN_ISA_AVX512VNNI: return runs_avx512vnni();
    case SOBAN_ISA_AMX: return runs_amx();
#elif defined(__aarch64__)
    case SOBAN_ISA_NEON: return runs_neon();
    case SOBAN_ISA_NEON_I8MM: return runs_neon_i8mm();
#endif
    default: return 0;
    }
}

namespace soban {

const Kernels *kernels_of(int32_t isa) {
    if (!soban_isa_runs(isa)) return nullptr;
    switch (isa) {
#if defined(__x86_64__)
    case SOBAN_ISA_AVX2: return &compute_avx2;
    case SOBAN_ISA_AVXVNNI: return &compute_avxvnni;
    case SOBAN_ISA_AVX512VL: return &compute_avx512vl;
    case SOBAN_ISA_AVX512VNNI: return &compute_avx512vnni;
    case SOBAN_ISA_AMX: return &compute_amx;
#elif defined(__aarch64__)
    case SOBAN_ISA_NEON: return &compute_neon;
    case SOBAN_ISA_NEON_I8MM: return &compute_neon_i8mm;
#endif
    default: return &compute_scalar;
    }
}

const Encoders *encoders_of(int32_t isa) {
    if (!soban_isa_runs(isa)) return nullptr;
#if defined(__x86_64__)
    if (isa >= SOBAN_ISA_AVX512VL) return &encode_avx512vnni;
    if (isa >= SOBAN_ISA_AVX2) return &encode_avx2;
#endif
    return &encode_scalar;
}

const Learning *learning_of(int32_t isa) {
    if (!soban_isa_runs(isa)) return nullptr;
#if defined(__x86_64__)
    if (isa >= SOBAN_ISA_AVX512VNNI) return &learn_avx512vnni;
    if (isa >= SOBAN_ISA_AVX2) return &learn_avx2;
#elif defined(__aarch64__)
    if (isa >= SOBAN_ISA_NEON) return &learn_neon;
#endif
    return &learn_scalar;
}

} // namespace soban
