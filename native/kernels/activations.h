// Activations by their number: one function of a vector each, for glu() and for activation().
#ifndef SOBAN_ACTIVATIONS_H
#define SOBAN_ACTIVATIONS_H

#include "simd.h"

namespace {

struct Silu {
    INLINE V of(V x) { return x / (splat(1.0f) + exponential(-x)); }
};

struct GeluTanh {
    INLINE V of(V x) {
        const V inner = splat(0.797884561f) * (x + splat(0.044715f) * x * x * x); // sqrt(2 / pi)
        return splat(0.5f) * x * (splat(1.0f) + hyperbolic_tangent(inner));
    }
};

// x times the normal distribution up to x, which is below 1.25 an odd polynomial (least-maximum fit, 2e-9) and 1/2,
// beyond 1 or 0 and a tail exp(-t): t to 1e-5, so that the tail keeps its digits; from 6 on it is below 1e-9.
struct Gelu {
    INLINE V of(V x) {
        const V size = magnitude(x), square = x * x, bounded = smaller(splat(6.0f), size);
        V p = splat(-0x1.bdeda8p-18f);
        p = fma(p, square, splat(0x1.cebf2ap-14f));
        p = fma(p, square, splat(-0x1.360a4cp-10f));
        p = fma(p, square, splat(0x1.46bf02p-7f));
        p = fma(p, square, splat(-0x1.1057cep-4f));
        p = fma(p, square, splat(0x1.988452p-2f));
        V t = splat(0x1.a2195ep-20f);
        t = fma(t, bounded, splat(-0x1.98769ap-15f));
        t = fma(t, bounded, splat(0x1.6c688ep-11f));
        t = fma(t, bounded, splat(-0x1.9064d4p-8f));
        t = fma(t, bounded, splat(0x1.365c82p-5f));
        t = fma(t, bounded, splat(0x1.44d290p-2f));
        t = fma(t, bounded, splat(0x1.98ba90p-1f));
        t = fma(t, bounded, splat(0x1.62dcb2p-1f));
        const V tail = size < splat(6.0f) ? exponential(-t) : V{};
        const V far = x < V{} ? tail : splat(1.0f) - tail;
        return x * (size < splat(1.25f) ? fma(x, p, splat(0.5f)) : far);
    }
};

struct Relu {
    INLINE V of(V x) { return larger(V{}, x); } // a NaN stays one
};

struct QuickGelu {
    INLINE V of(V x) { return x / (splat(1.0f) + exponential(x * splat(-1.702f))); }
};

struct Sigmoid {
    INLINE V of(V x) { return splat(1.0f) / (splat(1.0f) + exponential(-x)); }
};

struct Identity {
    INLINE V of(V x) { return x; }
};

// Calls body(one of the above).
template <class Body> INLINE void with_activation(int32_t activation, Body body) {
    switch (activation) {
    case SOBAN_SILU: return body(Silu());
    case SOBAN_GELU_TANH: return body(GeluTanh());
    case SOBAN_GELU: return body(Gelu());
    case SOBAN_RELU: return body(Relu());
    case SOBAN_QUICK_GELU: return body(QuickGelu());
    case SOBAN_SIGMOID: return body(Sigmoid());
    default: return body(Identity());
    }
}

} // namespace
#endif
