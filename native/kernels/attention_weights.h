// Weights: a row's scores through the soft cap and the softmax of one span.
#ifndef SOBAN_ATTENTION_WEIGHTS_H
#define SOBAN_ATTENTION_WEIGHTS_H

#include "simd.h"

namespace {

// e**x for -87 <= x <= 88, to 1 ulp: 2**n (1 + r + r**2 q(r)), |r| <= ln(2) / 2, with exponential()'s own fit.
INLINE V exponential_within(V x) {
    const V shift = splat(12582912.0f); // its low bits leave n alone when shifted into the exponent's place
    const V shifted = fma(x, splat(0x1.715476p0f), shift);
    const V n = shifted - shift;
    V r = fma(n, splat(-0x1.62e400p-1f), x);
    r = fma(n, splat(-0x1.7f7d1cp-20f), r);
    V y = splat(0x1.6a23f0p-10f);
    y = fma(y, r, splat(0x1.123a0ap-7f));
    y = fma(y, r, splat(0x1.5558f2p-5f));
    y = fma(y, r, splat(0x1.555492p-3f));
    y = fma(y, r, splat(0x1.fffffcp-2f));
    y = fma(y, r, splat(1.0f));
    y = fma(y, r, splat(1.0f));
    return (V)((U)y + ((U)shifted << 23));
}

INLINE V inverse(V x) { // 1 / x to 1 ulp, for 1 <= x <= 2**100
#if SOBAN_ISA == 2
    const V y = _mm512_rcp14_ps(x); // one step of Newton's takes 14 bits to 24 and more
    return fma(y, fma(-x, y, splat(1.0f)), y);
#else
    return splat(1.0f) / x;
#endif
}

// What a query is multiplied by, so that weigh() takes the products as they are.
INLINE float score_scale(float scale, float softcap) { return softcap != 0.0f ? scale / softcap : scale; }

INLINE bool any(I lanes) {
#if SOBAN_ISA == 2
    return _mm512_movepi32_mask((__m512i)lanes) != 0;
#elif SOBAN_ISA == 1
    return _mm256_movemask_ps((__m256)lanes) != 0;
#else
    return (lanes[0] | lanes[1] | lanes[2] | lanes[3]) != 0;
#endif
}

// cap tanh(x) to a few eps of the cap, which is all that counts in a score: below 0.63, as most scores are, by
// hyperbolic_tangent()'s polynomial; else as cap - 2 cap / (e**2x + 1). Beyond 20 e**2x is lost beside 1, or 1 beside
// it.
INLINE V cap_score(V x, float cap) {
    const V square = x * x;
    V p = splat(-0x1.6f4214p-8f);
    p = fma(p, square, splat(0x1.50b828p-6f));
    p = fma(p, square, splat(-0x1.b806a6p-5f));
    p = fma(p, square, splat(0x1.1105a2p-3f));
    p = fma(p, square, splat(-0x1.55552cp-2f));
    const V small = splat(cap) * fma(x * square, p, x);
    const I large = !(square < splat(0.63f * 0.63f));
    if (!any(large)) return small;
    const V bounded = smaller(splat(20.0f), larger(splat(-20.0f), x));
    const V other = fma(splat(-2.0f * cap), inverse(exponential_within(bounded + bounded) + splat(1.0f)), splat(cap));
    return large ? other : small;
}

INLINE V lanes_from(int32_t first) {
    int32_t number[WIDTH];
    for (int i = 0; i < WIDTH; i++) number[i] = first + i;
    I lanes;
    memcpy(&lanes, number, sizeof lanes);
    return (V)lanes;
}

// Adds slope x (i + distance) to the scores `from` to `to`, which are not capped.
INLINE void lean(float *scores, int32_t from, int32_t to, int32_t distance, float slope) {
    const int32_t first = from / WIDTH * WIDTH;
    float number[WIDTH];
    for (int i = 0; i < WIDTH; i++) number[i] = (float)(first + distance + i);
    V far = load(number);
    for (int32_t i = first; i < to; i += WIDTH, far += splat((float)WIDTH)) {
        store(scores + i, fma(splat(slope), far, load(scores + i)));
    }
}

// Scores of one row, times score_scale(), through the soft cap; returns the largest. What lies outside `from` to `to`
// within their vectors becomes minus infinity, whatever it holds.
INLINE float cap_scores(float *scores, int32_t from, int32_t to, float softcap) {
    const int32_t first = from / WIDTH * WIDTH, end = (to + WIDTH - 1) / WIDTH * WIDTH;
    V most = splat(-INFINITY);
    for (int32_t i = first; i < end; i += WIDTH) {
        V x = load(scores + i);
        if (softcap != 0.0f) x = cap_score(x, softcap);
        if (i < from || i + WIDTH > to) {
            const I lanes = (I)lanes_from(i);
            const I seen = (lanes >= splat_int(from)) & (lanes < splat_int(to));
            x = seen ? x : splat(-INFINITY);
        }
        store(scores + i, x);
        most = larger(x, most);
    }
#if SOBAN_ISA == 2
    return _mm512_reduce_max_ps(most);
#else
    return largest(most);
#endif
}

INLINE V weight(V score, float most) {
    const V x = score - splat(most);
    return x < splat(-86.9f) ? V{} : exponential_within(x);
}

// Scores of one row, times score_scale(), to weights, if need be rounded to bfloat16; returns the largest score, and in
// `total` that of the weights as they were.
template <bool ROUNDED> float weigh(float *scores, int32_t from, int32_t to, float softcap, float *total) {
    const float here = cap_scores(scores, from, to, softcap);
    const int32_t first = from / WIDTH * WIDTH, end = (to + WIDTH - 1) / WIDTH * WIDTH;
    V weights = {};
    for (int32_t i = first; i < end; i += WIDTH) {
        const V one = weight(load(scores + i), here);
        store(scores + i, ROUNDED ? to_bf16(one) : one);
        weights += one;
    }
    *total = sum(weights);
    return here;
}

} // namespace
#endif
