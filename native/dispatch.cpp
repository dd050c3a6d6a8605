// Which instruction sets this machine and its system run, and their kernels.
#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace soban {
extern const Kernels kernels_scalar;
extern const Encoders encoders_scalar;
#if defined(__x86_64__)
extern const Kernels kernels_avx2, kernels_avx512vnni;
extern const Encoders encoders_avx2, encoders_avx512vnni;
#endif
} // namespace soban

namespace {

#if defined(__x86_64__)
struct Registers {
    uint32_t a, b, c, d;
};

Registers cpuid(uint32_t leaf) {
    Registers r = {};
    if (!__get_cpuid_count(leaf, 0, &r.a, &r.b, &r.c, &r.d)) return Registers{};
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
#endif

} // namespace

extern "C" int32_t soban_isa_runs(int32_t isa) {
    switch (isa) {
    case SOBAN_ISA_SCALAR: return 1;
#if defined(__x86_64__)
    case SOBAN_ISA_AVX2: return runs_avx2();
    case SOBAN_ISA_AVX512VNNI: return runs_avx512vnni();
#endif
    default: return 0;
    }
}

namespace soban {

const Kernels *kernels_of(int32_t isa) {
    if (!soban_isa_runs(isa)) return nullptr;
#if defined(__x86_64__)
    if (isa == SOBAN_ISA_AVX2) return &kernels_avx2;
    if (isa == SOBAN_ISA_AVX512VNNI) return &kernels_avx512vnni;
#endif
    return &kernels_scalar;
}

const Encoders *encoders_of(int32_t isa) {
    if (!soban_isa_runs(isa)) return nullptr;
#if defined(__x86_64__)
    if (isa == SOBAN_ISA_AVX2) return &encoders_avx2;
    if (isa == SOBAN_ISA_AVX512VNNI) return &encoders_avx512vnni;
#endif
    return &encoders_scalar;
}

} // namespace soban
