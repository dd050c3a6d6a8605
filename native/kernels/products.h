// Products of float matrices from panels: NR columns of the right factor lie beside each other, row after row.
//
// A tile of the result stays in registers over the whole depth, and every sum is made in ascending order.
#ifndef SOBAN_PRODUCTS_H
#define SOBAN_PRODUCTS_H

#include "simd.h"

namespace {

constexpr int64_t NR = 2 * WIDTH;                                    // columns of a tile
constexpr int64_t MR = SOBAN_ISA == 2 ? 14 : SOBAN_ISA == 1 ? 6 : 8; // rows: its sums fill the registers
constexpr int64_t KEY_ROWS = SOBAN_ISA == 1 ? 4 : 8;                 // rows of a tile that divide NR
static_assert(NR % KEY_ROWS == 0);

constexpr int64_t up_to(int64_t count, int64_t step) { return (count + step - 1) / step * step; }

// c = a @ b, or c += a @ b, for ROWS rows and NR columns. a's rows are `a_stride` apart; ACROSS: its columns are.
template <int ROWS, bool ACROSS>
INLINE void product_tile(int64_t depth, const float *a, int64_t a_stride, const float *b, float *c, int64_t c_stride,
                         bool add) {
    V sums[ROWS][2] = {};
    UNROLL
    for (int r = 0; r < ROWS; r++) __builtin_prefetch(c + r * c_stride, 1);
    for (int64_t i = 0; i < depth; i++, b += NR) {
        const V first = load(b), second = load(b + WIDTH);
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            const V x = splat(ACROSS ? a[i * a_stride + r] : a[r * a_stride + i]);
            sums[r][0] = fma(x, first, sums[r][0]);
            sums[r][1] = fma(x, second, sums[r][1]);
        }
    }
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        UNROLL
        for (int j = 0; j < 2; j++) {
            float *to = c + r * c_stride + j * WIDTH;
            store(to, add ? load(to) + sums[r][j] : sums[r][j]);
        }
    }
}

// The same for `rows` rows, a multiple of ROWS, and `panels` panels that are `panel_stride` apart.
template <int ROWS, bool ACROSS>
void products(int64_t rows, int64_t panels, int64_t depth, const float *a, int64_t a_stride, const float *b,
              int64_t panel_stride, float *c, int64_t c_stride, bool add) {
    for (int64_t panel = 0; panel < panels; panel++) {
        for (int64_t row = 0; row < rows; row += ROWS) {
            product_tile<ROWS, ACROSS>(depth, a + row * (ACROSS ? 1 : a_stride), a_stride, b + panel * panel_stride,
                                       c + row * c_stride + panel * NR, c_stride, add);
        }
    }
}

// A (rows, columns) matrix as panels of its columns, the last filled up with zeros.
INLINE void pack_columns(const float *from, int64_t stride, int64_t rows, int64_t columns, float *to) {
    for (int64_t first = 0; first < columns; first += NR) {
        const int64_t left = columns - first;
        for (int64_t row = 0; row < rows; row++, to += NR) {
            for (int64_t j = 0; j < 2; j++) {
                const int64_t n = left - j * WIDTH;
                const float *here = from + row * stride + first + j * WIDTH;
                store(to + j * WIDTH, n >= WIDTH ? load(here) : n > 0 ? load_part(here, (int)n) : V{});
            }
        }
    }
}

// The transpose of a (rows, columns) matrix as panels: of its rows, the last filled up with zeros.
INLINE void pack_rows(const float *from, int64_t stride, int64_t rows, int64_t columns, float *to) {
    for (int64_t first = 0; first < rows; first += NR) {
        for (int64_t row = first; row < first + NR; row++, to++) {
            for (int64_t i = 0; i < columns; i++) to[i * NR] = row < rows ? from[row * stride + i] : 0.0f;
        }
        to += (columns - 1) * NR;
    }
}

} // namespace
#endif
