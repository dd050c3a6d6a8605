// What training computes besides matrix products, forward and backward: rows of float32 or bf16, in one pass each.
//
// Sums are float32 and every result is rounded once, also where it is stored as bf16.
#ifndef SOBAN_GRADIENTS_H
#define SOBAN_GRADIENTS_H

#include "kernels.h"
#include "simd.h"

namespace {

template <class Stored> INLINE V get(const char *from, int64_t i, int n) {
    from += i * Stored::SIZE;
    return n == WIDTH ? Stored::load(from) : Stored::load_part(from, n);
}

template <class Stored> INLINE void put(char *to, int64_t i, V x, int n) {
    if constexpr (Stored::SIZE == 4) {
        store_up_to((float *)to + i, x, n);
    } else { // to nearest, ties to even; a NaN stays one
        typedef uint16_t Half __attribute__((vector_size(sizeof(V) / 2)));
        const U bits = (U)x, odd = (bits >> 16) & 1;
        const U rounded = x == x ? (bits + odd + 0x7fff) >> 16 : (U)splat_int(0x7fc0);
        const Half halves = __builtin_convertvector(rounded, Half);
        memcpy(to + 2 * i, &halves, n == WIDTH ? sizeof halves : 2 * (size_t)n);
    }
}

struct Activated {
    V value, slope;
};

INLINE Activated silu(V x) {
    const V one = splat(1.0f), sigmoid = one / (one + exponential(-x));
    return {x * sigmoid, sigmoid * fma(x, one - sigmoid, one)};
}

INLINE Activated gelu_tanh(V x) {
    const V one = splat(1.0f), half = splat(0.5f), root = splat(0.797884561f), cubic = splat(0.044715f); // sqrt(2 / pi)
    const V t = hyperbolic_tangent(root * fma(cubic * x, x * x, x));
    const V inner = root * fma(splat(3.0f) * cubic * x, x, one);
    return {half * x * (one + t), half * fma(x * inner, fma(-t, t, one), one + t)};
}

template <class Stored> void glu_forward(const soban_glu &task) {
    const char *gate = (const char *)task.gate, *up = (const char *)task.up;
    const auto rows = [&](auto activation) {
        in_vectors(task.count, [&](int64_t i, int n) {
            put<Stored>((char *)task.out, i, activation(get<Stored>(gate, i, n)).value * get<Stored>(up, i, n), n);
        });
    };
    task.activation == SOBAN_SILU ? rows(silu) : rows(gelu_tanh);
}

template <class Stored> void glu_backward(const soban_glu &task) {
    const char *gate = (const char *)task.gate, *up = (const char *)task.up, *out = (const char *)task.out;
    const auto rows = [&](auto activation) {
        in_vectors(task.count, [&](int64_t i, int n) {
            const V gradient = get<Stored>(out, i, n);
            const Activated gated = activation(get<Stored>(gate, i, n));
            put<Stored>((char *)task.of_gate, i, gradient * get<Stored>(up, i, n) * gated.slope, n);
            put<Stored>((char *)task.of_up, i, gradient * gated.value, n);
        });
    };
    task.activation == SOBAN_SILU ? rows(silu) : rows(gelu_tanh);
}

// body(i, n, k): vector k of four takes part i, so that four sums hide the latency of one.
template <class Body> INLINE void in_fours(int64_t count, Body body) {
    int64_t i = 0;
    for (; i + 4 * WIDTH <= count; i += 4 * WIDTH) {
        UNROLL
        for (int k = 0; k < 4; k++) body(i + k * WIDTH, WIDTH, k);
    }
    in_vectors(count - i, [&](int64_t j, int n) { body(i + j, n, 0); });
}

INLINE float total(const V *four) { return sum((four[0] + four[1]) + (four[2] + four[3])); }

template <class Stored> void norm_forward(const soban_norm &task) {
    const int64_t columns = task.columns;
    const char *x = (const char *)task.x, *weight = (const char *)task.weight;
    char *out = (char *)task.out;
    for (int64_t row = 0; row < task.rows; row++) {
        V squares[4] = {};
        in_fours(columns, [&](int64_t i, int n, int k) {
            const V value = get<Stored>(x, i, n);
            squares[k] = fma(value, value, squares[k]);
        });
        const float inverse = 1.0f / sqrtf(total(squares) / (float)columns + task.epsilon);
        task.inverse[row] = inverse;
        in_vectors(columns, [&](int64_t i, int n) {
            const V gain = get<Stored>(weight, i, n) + splat(task.offset);
            put<Stored>(out, i, get<Stored>(x, i, n) * splat(inverse) * gain, n);
        });
        x += columns * Stored::SIZE, out += columns * Stored::SIZE;
    }
}

template <class Stored> void norm_backward(const soban_norm &task) {
    const int64_t columns = task.columns;
    const char *x = (const char *)task.x, *weight = (const char *)task.weight, *gradient = (const char *)task.out;
    char *of_x = (char *)task.of_x;
    in_vectors(columns, [&](int64_t i, int n) { store_up_to(task.of_weight + i, V{}, n); });
    for (int64_t row = 0; row < task.rows; row++) {
        const float inverse = task.inverse[row];
        V products[4] = {};
        in_fours(columns, [&](int64_t i, int n, int k) {
            const V gain = get<Stored>(weight, i, n) + splat(task.offset);
            products[k] = fma(get<Stored>(gradient, i, n) * gain, get<Stored>(x, i, n), products[k]);
        });
        // along x itself nothing changes: its length is divided out
        const V along = splat(total(products) * inverse * inverse / (float)columns), scale = splat(inverse);
        in_vectors(columns, [&](int64_t i, int n) {
            const V value = get<Stored>(x, i, n), slope = get<Stored>(gradient, i, n);
            const V gain = get<Stored>(weight, i, n) + splat(task.offset);
            put<Stored>(of_x, i, (slope * gain - value * along) * scale, n);
            float *sum = task.of_weight + i;
            store_up_to(sum, fma(slope * value, scale, load_up_to(sum, n)), n);
        });
        x += columns * Stored::SIZE, gradient += columns * Stored::SIZE, of_x += columns * Stored::SIZE;
    }
}

// Pairs (i, i + size / 2) turned by the angles of their token, or back.
template <class Stored> INLINE void turned(const char *from, char *to, const soban_turn &task, const float *angles) {
    const int64_t half = task.size / 2;
    const V scale = splat(task.scale), side = splat(task.back ? -task.scale : task.scale);
    in_vectors(half, [&](int64_t i, int n) {
        const V first = get<Stored>(from, i, n), second = get<Stored>(from, half + i, n);
        const V cosine = load_up_to(angles + i, n) * scale, sine = load_up_to(angles + half + i, n) * side;
        put<Stored>(to, i, first * cosine - second * sine, n);
        put<Stored>(to, half + i, second * cosine + first * sine, n);
    });
}

template <class Stored> void turn(const soban_turn &task) {
    const auto place = [](const int64_t *strides, int64_t a, int64_t b, int64_t c, int64_t d) {
        return (a * strides[0] + b * strides[1] + c * strides[2] + d * strides[3]) * Stored::SIZE;
    };
    const int64_t *shape = task.shape;
    for (int64_t row = 0; row < shape[0]; row++) {
        for (int64_t key = 0; key < shape[1]; key++) {
            for (int64_t token = 0; token < shape[2]; token++) {
                const float *angles = task.angles + token * task.size;
                for (int64_t query = 0; query < shape[3]; query++) {
                    turned<Stored>((const char *)task.from + place(task.from_strides, row, key, token, query),
                                   (char *)task.to + place(task.to_strides, row, key, token, query), task, angles);
                }
            }
        }
    }
}

// Each row of logits becomes the gradient of its loss. Returns the summed loss.
template <class Stored> double loss(const soban_loss &task) {
    const int64_t columns = task.columns;
    char *logits = (char *)task.logits;
    double nats = 0.0;
    for (int64_t row = 0; row < task.rows; row++, logits += columns * Stored::SIZE) {
        V most = splat(-INFINITY);
        in_vectors(columns, [&](int64_t i, int n) {
            V x = get<Stored>(logits, i, n);
            if (task.cap > 0.0f) x = splat(task.cap) * hyperbolic_tangent(x / splat(task.cap));
            store_up_to(task.scratch + i, x, n);
            if (n < WIDTH) {
                for (int j = 0; j < n; j++) most = larger(splat(x[j]), most);
            } else {
                most = larger(x, most);
            }
        });
        const float peak = largest(most), aim = task.scratch[task.targets[row]];
        V sums[4] = {};
        in_fours(columns, [&](int64_t i, int n, int k) {
            const V share = exponential(load_up_to(task.scratch + i, n) - splat(peak));
            store_up_to(task.scratch + i, share, n);
            // past the end there is exp(0 - peak)
            sums[k] += n == WIDTH ? share : load_part(task.scratch + i, n);
        });
        const float whole = total(sums);
        nats += log((double)whole) + ((double)peak - (double)aim);
        if (!task.learning) continue;
        const V inverse = splat(1.0f / whole);
        const int64_t target = task.targets[row];
        task.scratch[target] -= whole; // what the model expects, less what came
        in_vectors(columns, [&](int64_t i, int n) {
            V gradient = load_up_to(task.scratch + i, n) * inverse;
            if (task.cap > 0.0f) {
                const V bent = hyperbolic_tangent(get<Stored>(logits, i, n) / splat(task.cap));
                gradient = gradient * fma(-bent, bent, splat(1.0f));
            }
            put<Stored>(logits, i, gradient, n);
        });
    }
    return nats;
}

} // namespace
#endif
