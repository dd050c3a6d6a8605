// The integer dot product of VNNI, by one name in its three encodings, and vectors of bytes for it.
#ifndef SOBAN_DOT_H
#define SOBAN_DOT_H

#include "simd.h"

namespace {

// vpdpbusd: total += weights (4 unsigned a lane) . values (4 signed a lane). gcc 12 copies registers around its own
// intrinsics; VEX and EVEX are two encodings of the same instruction.
#if SOBAN_ISA == 2
typedef __m512i Bytes;
INLINE Bytes load_bytes(const void *from) { return _mm512_loadu_si512(from); }
INLINE void store_bytes(void *to, Bytes x) { _mm512_storeu_si512(to, x); }
INLINE Bytes splat_byte(uint8_t x) { return _mm512_set1_epi8((char)x); }
INLINE Bytes splat_four(int32_t x) { return _mm512_set1_epi32(x); }
INLINE Bytes high_nibbles(Bytes x) { return _mm512_and_si512(_mm512_srli_epi16(x, 4), splat_byte(15)); }
#else
typedef __m256i Bytes;
INLINE Bytes load_bytes(const void *from) { return _mm256_loadu_si256((const __m256i *)from); }
INLINE void store_bytes(void *to, Bytes x) { _mm256_storeu_si256((__m256i *)to, x); }
INLINE Bytes splat_byte(uint8_t x) { return _mm256_set1_epi8((char)x); }
INLINE Bytes splat_four(int32_t x) { return _mm256_set1_epi32(x); }
INLINE Bytes high_nibbles(Bytes x) { return _mm256_and_si256(_mm256_srli_epi16(x, 4), splat_byte(15)); }
#endif
#if SOBAN_VNNI == 2
#define DOT "vpdpbusd %2, %1, %0"
#else
#define DOT "%{vex%} vpdpbusd %2, %1, %0"
#endif
#if SOBAN_VNNI == 2
#define DOT_PAIRS "vpdpwssd %2, %1, %0"
#else
#define DOT_PAIRS "%{vex%} vpdpwssd %2, %1, %0"
#endif
INLINE void dot(Bytes &total, Bytes weights, Bytes values) { __asm__(DOT : "+v"(total) : "v"(weights), "v"(values)); }
// The same of two int16 a lane, both signed.
INLINE void dot_pairs(Bytes &total, Bytes weights, Bytes values) {
    __asm__(DOT_PAIRS : "+v"(total) : "v"(weights), "v"(values));
}

} // namespace
#endif
