// The table of kernels that each instruction set exports, and the plain data they work on.
//
// One law holds for all: within an instruction set, a token's results are the same bits whatever other tokens,
// tiles, chunks and threads there are. So every sum is made in one order, for one token or for a thousand.
#ifndef SOBAN_KERNELS_H
#define SOBAN_KERNELS_H

#include "../soban.h"

#define INLINE static inline __attribute__((always_inline))

namespace soban {

constexpr int32_t PANEL = SOBAN_PANEL, GROUP = SOBAN_GROUP, BLOCK = SOBAN_BLOCK, HALF = GROUP / 2, PAGE = SOBAN_PAGE,
                  SPAN = SOBAN_SPAN;
constexpr int32_t BLOCK_GROUPS = BLOCK / GROUP;
constexpr int32_t blocks_of(int32_t groups) { return (groups + BLOCK_GROUPS - 1) / BLOCK_GROUPS; } // of a row

constexpr int64_t item_bytes(int32_t format) { return format == SOBAN_F32 ? 4 : 2; } // of a plain format

// How a type of GGUF is kept, which src/soban/ops/gguf.py tells: the bits of a code, how many columns share a scale,
// whether a row has a scale of these scales for 256 columns, and whether something is taken away besides.
struct FileShape {
    int32_t bits, share;
    bool nested, minima;
    int32_t values, bytes; // of a block in the file
};
constexpr FileShape FILE_SHAPES[] = {
    {8, 32, false, false, 32, 34},  // SOBAN_Q8_0
    {4, 32, false, false, 32, 18},  // SOBAN_Q4_0
    {4, 32, false, true, 32, 20},   // SOBAN_Q4_1
    {5, 32, false, false, 32, 22},  // SOBAN_Q5_0
    {5, 32, false, true, 32, 24},   // SOBAN_Q5_1
    {4, 32, false, false, 32, 18},  // SOBAN_IQ4_NL
    {4, 32, true, true, 256, 144},  // SOBAN_Q4_K
    {5, 32, true, true, 256, 176},  // SOBAN_Q5_K
    {6, 16, true, false, 256, 210}, // SOBAN_Q6_K
    {4, 32, true, false, 256, 136}, // SOBAN_IQ4_XS
};
constexpr bool of_file(int32_t format) { return format >= SOBAN_Q8_0 && format <= SOBAN_IQ4_XS; }
constexpr FileShape file_shape(int32_t format) { return FILE_SHAPES[format - SOBAN_Q8_0]; }

// Of a quantised format: of a block of so many groups, what comes before the integers, and all; and of a whole panel.
constexpr int64_t head_bytes(int32_t format, int64_t groups) {
    if (of_file(format)) {
        const FileShape shape = file_shape(format);
        const int64_t kinds = shape.minima ? 2 : 1;
        if (!shape.nested) return kinds * 4 * PANEL * groups;
        return (kinds * (2 * PANEL + BLOCK / shape.share * PANEL) + 63) / 64 * 64;
    }
    return 4 * PANEL + (format == SOBAN_Q8 ? 0 : (3 * PANEL * groups + 63) / 64 * 64);
}
constexpr int64_t packed_block(int32_t format, int64_t groups) {
    const int64_t bits = of_file(format) ? file_shape(format).bits : format == SOBAN_Q8 ? 8 : 4;
    return head_bytes(format, groups) + groups * PANEL * GROUP * bits / 8;
}
constexpr int64_t packed_panel(int32_t format, int64_t groups) {
    const int64_t rest = groups % BLOCK_GROUPS;
    return groups / BLOCK_GROUPS * packed_block(format, BLOCK_GROUPS) + (rest ? packed_block(format, rest) : 0);
}

// What belongs to 64 int8 that were rounded in halves of 32.
struct RoundedGroup {
    float scales[2], shifts[2]; // shifts: -scale x the half's sum, by which minima are multiplied
    int32_t sums[2], quarters[4];
};

// Activations as int8, turned and rounded in blocks of 256; for the formats of files not turned, rounded in halves of a
// group. Neighbouring tokens lie together in strips, of the tokens
// that the kernels like, and within a strip group by group, token by token. Padded columns are 0.
struct Activations {
    int8_t *values;   // 64 for each group and token, and TILE_SLACK more bytes at the end
    float *scales;    // of each block and token
    int32_t *pairs;   // of each group and token: the sums of both halves as two int16
    int32_t *offsets; // of each block and token: -128 x the sum, which undoes the 128 that makes a level unsigned
    int32_t tokens, groups;
    RoundedGroup *rounded; // of each group and token, in place of the three arrays before, where `halves`
    bool halves;           // not turned, rounded by halves
};
constexpr int64_t TILE_SLACK = 2048, TOKEN_SLACK = 32; // the last tile of a strip may read beyond it: bytes, tokens

// Columns first .. first + count of out = x @ part.T (+ bias). `first` is a multiple of 16. If there are `panels`, they
// are the panels to take, for one token and a quantised part: first is 0, and count 16 for each. Where it is, `token`
// is the number of the only token among the activations.
struct Linear {
    const soban_part *part;
    int32_t first, count, tokens, token;
    const float *x; // plain formats
    int64_t x_stride;
    const Activations *activations; // quantised formats
    float *out;                     // column 0 of the part
    int64_t out_stride;
    const float *bias; // of column 0, or null
    void *scratch;     // linear_scratch() bytes, 64-byte aligned
    const int32_t *panels;
};

// out += scale x inner @ b, for columns first .. first + count of b (rank, columns), which lies in panels of 16
// columns, [panel][rank][16], the last filled up. `inner` is (tokens, rank), out is at column `first`.
struct Adapted {
    const void *b;
    int32_t format, rank, first, count, tokens;
    const float *inner;
    float scale;
    float *out;
    int64_t out_stride;
};

// Queries of neighbouring tokens of one sequence, those that share one head of keys and values.
struct Attention {
    const float *queries; // token t, head h: queries + t * query_stride + h * size
    int64_t query_stride;
    int32_t tokens, heads, size;
    int32_t position;             // of the first token
    int32_t window;               // 0: none
    float scale, softcap;         // softcap 0: none
    const char *keys, *values;    // this head's blocks in page 0
    int64_t page_stride;          // bytes from page to page
    const int32_t *table;         // the sequence's pages
    int32_t format;               // of the cache
    int32_t first_span, end_span; // the absolute spans to take
    float *out;                   // like queries; or null, then:
    int64_t out_stride;
    float *partials;     // span, token, head: size sums, the largest score, the total of the weights
    void *scratch;       // attention_scratch() bytes, 64-byte aligned
    const float *slopes; // of each head, what a score loses for each position that lies between; null: nothing
    int32_t length;      // of what a token sees, the window before and after it at the most; 0: up to its own position
};

// Tokens x heads of one call at the most, if there is more than one token, and where threads would be left without.
constexpr int32_t ATTENTION_ROWS = 256, FEWEST_ATTENTION_ROWS = 64;

// A page of the cache holds a block of keys and one of values for each head, both of block_bytes():
//   f32:  keys [padded size][PAGE], values [PAGE][padded size]
//   bf16: keys [padded size / 2][PAGE][2], values [PAGE / 2][padded size][2]
//   int8: keys [padded size / 4][PAGE][4], values [PAGE][padded size]; then, in both, scales [groups of 64][PAGE]
//   f32
// bf16 lies in pairs of the numbers that a product adds up: two columns of a key, two positions of a value.
// Keys lie position beside position so that scores need no sum across a vector's lanes.
constexpr int32_t padded_size(int32_t size) { return (size + 15) / 16 * 16; }
constexpr int32_t size_groups(int32_t size) { return (size + GROUP - 1) / GROUP; }
constexpr int64_t block_bytes(int32_t format, int32_t size) {
    const int64_t numbers = PAGE * (int64_t)padded_size(size);
    return format == SOBAN_CACHE_INT8 ? numbers + 4 * PAGE * (int64_t)size_groups(size)
                                      : numbers * (format == SOBAN_CACHE_BF16 ? 2 : 4);
}

// The memory of one head of a sequence, (key_size, value_size), through its tokens, in place in `state`.
struct Memory {
    const float *queries, *keys; // token t: + t * key_stride
    int64_t key_stride;
    const float *values;
    int64_t value_stride;
    const float *gates; // what stays, and at gate_stride / 2 more what is learnt
    int64_t gate_stride;
    int32_t tokens, key_size, value_size;
    const float *before; // what it was, null: zeros; may be `state`
    float *state, *saved;
    int32_t until; // tokens after which it is copied to `saved`, 0: not at all
    float scale;   // of what the queries find
    float *out;
    int64_t out_stride;
};

struct Kernels {
    void (*embed)(const soban_part *part, int32_t row, float scale, float *out);
    void (*rms_norm)(const float *x, const float *weight, int32_t columns, float eps, float offset, float *out);
    void (*layer_norm)(const float *x, const float *weight, const float *bias, int32_t columns, float eps,
                       float *out); // bias: or null
    // Heads of `size` columns, of which the first `rotated` turn.
    void (*rope)(const float *x, const float *angles, int32_t columns, int32_t size, int32_t rotated,
                 int32_t interleaved, float *out);
    void (*glu)(const float *gate, const float *up, int32_t columns, int32_t activation, float *out);
    void (*activate)(const float *x, int32_t columns, int32_t activation, float *out);
    void (*scale)(const float *x, const float *vector, int32_t columns, float factor, float *out); // vector: or null
    void (*add)(const float *x, const float *y, int32_t columns, float *out);
    void (*softcap)(const float *x, int32_t columns, float cap, float *out);
    void (*convolve)(const float *const *rows, const float *weight, const float *bias, int32_t taps, int32_t columns,
                     float *out); // rows[k] may be null: zeros; bias: or null
    void (*remember)(const Memory *task);
    // Tokens first .. end, whose rows are `stride` floats apart; x is the first row of all.
    void (*quantise)(const float *x, int64_t stride, int32_t columns, int32_t first, int32_t end,
                     const Activations *to);
    int64_t (*linear_scratch)(int32_t format, int32_t columns, int32_t tokens);
    void (*linear)(const Linear *task);
    void (*adapt)(const Adapted *task);
    // One head's key and value at `position` of a page, into its blocks.
    void (*store)(const float *key, const float *value, int32_t size, int32_t format, int32_t position, char *keys,
                  char *values);
    int64_t (*attention_scratch)(int32_t rows, int32_t size);
    void (*attend)(const Attention *task);
    // Joins the partials of `spans` spans, `stride` floats apart, of one row.
    void (*join)(const float *partials, int32_t spans, int64_t stride, int32_t size, float *out);
};

struct Encoders {
    // 16 rows (or fewer: `rows`) from source to target; returns the first bad row or -1.
    int32_t (*panel)(const void *source, int32_t source_format, int32_t rows, int64_t columns, int32_t format,
                     void *target);
    // The index of the first NaN or infinity, or -1.
    int64_t (*find_not_finite)(const void *values, int32_t format, int64_t count);
};

struct Learning { // for training
    void (*glu_forward)(const soban_glu *task);
    void (*glu_backward)(const soban_glu *task);
    void (*norm_forward)(const soban_norm *task);
    void (*norm_backward)(const soban_norm *task);
    void (*turn)(const soban_turn *task);
    double (*loss)(const soban_loss *task);
    int64_t (*attention_shares)(const soban_attention *task);
    int64_t (*attention_room)(const soban_attention *task);
    void (*attention_forward)(const soban_attention *task);
    void (*attention_backward)(const soban_attention *task);
};

// Null where the machine at hand cannot run the instruction set or the library was built without it.
const Kernels *kernels_of(int32_t isa);
const Encoders *encoders_of(int32_t isa);
const Learning *learning_of(int32_t isa);

} // namespace soban
#endif
