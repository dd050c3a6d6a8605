/* The C interface of soban's native library: plain data in, plain data out, nothing of C++ crosses it.
 *
 * Python describes a model as a flat list of instructions over an arena of float32 values (src/soban/ops/native/
 * makes the list); soban_run() carries the whole list out in one call. Each instruction means what the function of
 * the same name in src/soban/ops/reference.py computes. The layouts of q8 and q4 are told in src/soban/ops/formats.py,
 * those of GGUF's types in src/soban/ops/gguf.py.
 */
#ifndef SOBAN_H
#define SOBAN_H

#include <stdint.h>

#if defined(_WIN32)
#define SOBAN_API __declspec(dllexport)
#else
#define SOBAN_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define SOBAN_ABI 18 /* Python refuses a library whose number is another */

enum { /* formats.NUMBERED: plain, quantised by us, types of GGUF */
       SOBAN_F32,
       SOBAN_F16,
       SOBAN_BF16,
       SOBAN_Q8,
       SOBAN_Q4,
       SOBAN_Q8_0,
       SOBAN_Q4_0,
       SOBAN_Q4_1,
       SOBAN_Q5_0,
       SOBAN_Q5_1,
       SOBAN_IQ4_NL,
       SOBAN_Q4_K,
       SOBAN_Q5_K,
       SOBAN_Q6_K,
       SOBAN_IQ4_XS,
       SOBAN_UPPER, /* what soban_encode writes besides: a half of q8 as q4 */
       SOBAN_LOWER
};
enum { SOBAN_CACHE_F32, SOBAN_CACHE_BF16, SOBAN_CACHE_INT8 }; /* batch.CACHE_FORMATS */
enum {
    SOBAN_SILU,
    SOBAN_GELU_TANH,
    SOBAN_GELU,
    SOBAN_RELU,
    SOBAN_QUICK_GELU,
    SOBAN_SIGMOID,
    SOBAN_IDENTITY
}; /* schema.ACTIVATIONS */
enum { SOBAN_TOKENS, SOBAN_OUTPUTS };                                      /* how many rows a value has */
enum { SOBAN_TOKEN_IDS, SOBAN_POSITIONS, SOBAN_OUTPUT_ROWS, SOBAN_TYPES }; /* schema.SLOTS: arrays of a soban_batch */
enum { SOBAN_DONE, SOBAN_CANCELLED, SOBAN_NO_MEMORY };                     /* what soban_run returns */
enum { SOBAN_BPE_NO_MEMORY = -1, SOBAN_BPE_DAMAGED = -2 };                 /* what soban_bpe returns besides */
enum {                                                                     /* native.ISAS */
       SOBAN_ISA_SCALAR,
       SOBAN_ISA_AVX2,
       SOBAN_ISA_AVXVNNI,    /* 256-bit vectors and integer dot products: PCs since 2021 */
       SOBAN_ISA_AVX512VL,   /* the same with the 32 registers of AVX-512 */
       SOBAN_ISA_AVX512VNNI, /* 512-bit vectors */
       SOBAN_ISA_AMX,        /* and a unit for whole tiles */
       SOBAN_ISA_NEON,       /* ARM: vectors of 128 bits with dot products */
       SOBAN_ISA_NEON_I8MM   /* and products of small matrices */
};
enum { SOBAN_PANEL = 16, SOBAN_GROUP = 64, SOBAN_BLOCK = 256, SOBAN_PAGE = 32, SOBAN_SPAN = 256 };

/* What each operation takes, and where it is: src/soban/ops/schema.py makes this list. */
enum {
    SOBAN_EMBED, /* ids slot, table parts, scale f[0]                                                                */
    SOBAN_RMS_NORM,   /* x a, weight vectors[0], eps f[0], offset f[1] */
    SOBAN_LAYER_NORM, /* x a, weight vectors[0], bias vectors[1], eps f[0] */
    SOBAN_HEAD_NORM,  /* x a, weight vectors[0], eps f[0], offset f[1] */
    SOBAN_LINEAR, /* x a, w parts, w.bias vectors[0], w.place i[0], batch batch                                       */
    SOBAN_ROTARY, /* positions slot, rotation batch, frequencies vectors[0], scale f[0], growth f[1], period f[2]     */
    SOBAN_ROPE,   /* x a, angles b, interleaved i[0], size i[1]                                                       */
    SOBAN_ATTENTION,   /* q a, k b, v c, batch batch, cache i[0], scale f[0], softcap f[1], window i[1], slopes
                          vectors[0], causal i[2] */
    SOBAN_CONVOLUTION, /* x a, weight vectors[0], bias vectors[1], batch batch, cache i[0], start i[1] */
    SOBAN_DELTA_RULE,  /* keys a, values b, gates c, batch batch, cache i[0], decay vectors[0], bias vectors[1],
                          key_heads i[1], start i[2], scale f[0], tiled i[3] */
    SOBAN_GLU, /* x a, activation i[0], up b                                                                       */
    SOBAN_ACTIVATION, /* x a, name i[0] */
    SOBAN_SCALE, /* x a, factor f[0], vector vectors[0]                                                              */
    SOBAN_ADD,   /* x a, y b                                                                                         */
    SOBAN_TAKE_ROWS, /* x a, rows slot */
    SOBAN_SOFTCAP,   /* x a, cap f[0] */
    SOBAN_REFINE /* x a, scores b, residual parts, panels i[0], margin f[0]                                          */
};

typedef struct {    /* a value: row t starts at arena + offset + t * stride */
    int64_t offset; /* floats */
    int32_t stride; /* floats */
    int32_t columns;
    int32_t rows; /* SOBAN_TOKENS or SOBAN_OUTPUTS */
    int32_t unused;
} soban_view;

typedef struct { /* neighbouring rows of a weight matrix; data may be unaligned (plain) or 64-byte aligned (q8, q4) */
    const void *data;
    int32_t format, rows, columns, unused;
} soban_part;

typedef struct { /* numbers that an instruction reads beside its values; null: none */
    const float *data;
    int64_t count;
} soban_vector;

typedef struct {
    int32_t op, slot;
    int32_t first_part, part_count; /* which of soban_program.parts */
    int32_t first_vector, unused;   /* vectors[n] is soban_program.vectors[first_vector + n] */
    int32_t i[4];
    float f[4];
    soban_view out, a, b, c;
} soban_instruction;

typedef struct {
    const soban_instruction *instructions;
    const soban_part *parts;
    const soban_vector *vectors;
    int32_t instruction_count, part_count, vector_count, unused;
} soban_program;

typedef struct { /* one step's tokens: see Batch in src/soban/ops/batch.py */
    int32_t tokens, sequences, outputs, table_stride;
    const int32_t *token_ids, *positions, *starts, *tables, *output_rows;
    const int32_t *adapters; /* of each sequence, -1: none; or null: none of any */
    const int32_t *types;    /* of each token; or null: 0 for all */
    const int32_t *states;   /* of each sequence 4, see State there; or null: each has the slot of its number */
} soban_batch;

typedef struct { /* a layer's keys and values: (pages, heads) blocks each, see block_bytes in kernels/kernels.h */
    void *keys, *values; /* another layer's, where they share */
    float *states;       /* (slots, state_floats) */
    int64_t state_floats;
    int32_t heads, size;
} soban_layer;

typedef struct {
    const soban_layer *layers;
    int32_t layer_count, format; /* SOBAN_CACHE_... */
    int32_t pages, unused;
} soban_cache;

typedef struct {       /* columns first .. first + rows of a linear's result get scale * x @ a.T @ b */
    const void *a, *b; /* (rank, columns of x), and (rank, rows) in panels of 16 columns: [panel][rank][16] */
    int32_t format;    /* of both: SOBAN_F32 or SOBAN_BF16 */
    int32_t rank, first, rows;
    float scale;
    int32_t unused;
} soban_piece;

typedef struct { /* a LINEAR whose place is i[0] gets pieces starts[place] to starts[place + 1] */
    const soban_piece *pieces;
    const int32_t *starts;
} soban_adapter;

typedef struct {
    const soban_adapter *adapters;
    int32_t count, unused;
} soban_adapters;

typedef struct { /* a packed byte-pair tokenizer: the mapped tables that src/soban/text/tokenizers/packing.py makes */
    const uint32_t *characters; /* ((1 << character_bits) + character_reach, 2): code point + 1, id             */
    const uint32_t *merges;     /* ((1 << merge_bits) + merge_reach, 4): left id + 1, right id, rank, joined id  */
    const uint32_t *bytes;      /* 256 ids */
    int32_t character_bits, character_reach, merge_bits, merge_reach;
    int32_t count, unused; /* ids are below count */
} soban_pieces;

/* For training: dense rows of float32 or bf16 (`format`); backward, `out` is the gradient of what went forward. */
typedef struct { /* out = activation(gate) * up; SOBAN_SILU or SOBAN_GELU_TANH */
    int32_t format, activation;
    int64_t count;
    const void *gate, *up;
    void *out, *of_gate, *of_up;
} soban_glu;

typedef struct { /* out = x * inverse * (weight + offset), inverse = 1 / sqrt(mean(x * x) + epsilon) of each row */
    int32_t format, unused;
    int64_t rows, columns;
    float epsilon, offset;
    const void *x, *weight;
    void *out, *of_x;
    float *inverse, *of_weight;
} soban_norm;

typedef struct { /* to = from * scale, its pairs (i, i + size / 2) turned by `angles`: (tokens, 2, size / 2), cosines
                    first; (rows, key heads, tokens, queries a key head) vectors of `size` lie at strides of numbers */
    int32_t format, back;
    int64_t shape[4], from_strides[4], to_strides[4], size;
    const void *from;
    void *to;
    const float *angles;
    float scale, unused;
} soban_turn;

typedef struct {              /* -log(softmax(cap * tanh(logits / cap))[target]) of each row; cap 0: none */
    int32_t format, learning; /* learning: each row of logits becomes its gradient */
    int64_t rows, columns;
    void *logits;
    const int64_t *targets;
    float *scratch; /* `columns` of them */
    float cap, unused;
} soban_loss;

typedef struct { /* attention over whole texts, float32; of each query, the keys from first[its token] to its own */
    int32_t rows, key_heads, tokens, queries, size; /* `queries` that share a key head */
    float cap;                                      /* of the scores, which are q @ k, or cap * tanh(q @ k); 0: none */
    const float *q, *k, *v;    /* (rows, key heads, tokens, queries, size), (rows, key heads, tokens,
                                  size), (rows, tokens, key heads, size) */
    const int32_t *first;      /* (rows, tokens); later tokens never look further back */
    float *out;                /* (rows, tokens, key heads, queries, size) */
    float *of_q, *of_k, *of_v; /* as q, k and v */
    float *shares;             /* soban_attention_shares() floats, from forward to backward */
    float *scratch;            /* soban_attention_room() floats */
} soban_attention;

typedef struct soban_pool soban_pool; /* threads and scratch memory, with the kernels of one instruction set */

SOBAN_API int32_t soban_abi(void);
/* 1 if this machine and its system run the instruction set, else 0. */
SOBAN_API int32_t soban_isa_runs(int32_t isa);
/* 1 if the kernels of an instruction set that runs here give the results of the plain ones. Where the processor does
 * not keep what it claims, the process ends: ask in one of its own. */
SOBAN_API int32_t soban_isa_works(int32_t isa);
/* Null if threads cannot be started. `threads` counts the calling one. */
SOBAN_API soban_pool *soban_pool_create(int32_t threads, int32_t isa);
SOBAN_API void soban_pool_destroy(soban_pool *pool);
/* Runs the program; `adapters` may be null. Stops between instructions once *cancel is not 0. One call at a time for
 * each pool. The nanoseconds that each instruction takes are added to spent[its number], unless `spent` is null. */
SOBAN_API int32_t soban_run(soban_pool *pool, const soban_program *program, float *arena, const soban_batch *batch,
                            const soban_cache *cache, const soban_adapters *adapters, const int32_t *cancel,
                            int64_t *spent);
/* Bytes that a (rows, columns) matrix takes in a format, or -1 if that overflows. */
SOBAN_API int64_t soban_stored_bytes(int32_t format, int64_t rows, int64_t columns);
/* Writes `rows` rows of a plain `source` (row-major, dense, any alignment) as bf16, q8, q4 or a half of q8 to `target`.
 * Returns -1, or the first row that holds a NaN or an infinity (the target's content is then undefined). */
SOBAN_API int64_t soban_encode(soban_pool *pool, const void *source, int32_t source_format, int64_t rows,
                               int64_t columns, int32_t format, void *target);
/* Writes `rows` rows of a GGUF file's blocks of a type in panels of that format. Returns -1, or the first row that has
 * a NaN or an infinity for a scale. */
SOBAN_API int64_t soban_repack(soban_pool *pool, const void *source, int32_t format, int64_t rows, int64_t columns,
                               void *target);
/* Returns -1, or the index of the first NaN or infinity among `count` values of a plain format. */
SOBAN_API int64_t soban_find_not_finite(soban_pool *pool, const void *values, int32_t format, int64_t count);
/* Writes the ids of `length` bytes of UTF-8, each stretch from a U+2581 to the next by itself if `cut` is not 0.
 * `ids` has room for `length`. Returns how many they are, or what went wrong. */
SOBAN_API int64_t soban_bpe(const soban_pieces *pieces, const uint8_t *text, int64_t length, int32_t cut,
                            uint32_t *ids);

/* Each works in the calling thread, with an instruction set that runs here. */
SOBAN_API void soban_glu_forward(int32_t isa, const soban_glu *task);
SOBAN_API void soban_glu_backward(int32_t isa, const soban_glu *task);
SOBAN_API void soban_norm_forward(int32_t isa, const soban_norm *task);
SOBAN_API void soban_norm_backward(int32_t isa, const soban_norm *task);
SOBAN_API void soban_turn_pairs(int32_t isa, const soban_turn *task);
SOBAN_API double soban_next_token_loss(int32_t isa, const soban_loss *task); /* the sum over the rows */
SOBAN_API int64_t soban_attention_shares(int32_t isa, const soban_attention *task);
SOBAN_API int64_t soban_attention_room(int32_t isa, const soban_attention *task);
SOBAN_API void soban_attention_forward(int32_t isa, const soban_attention *task);
SOBAN_API void soban_attention_backward(int32_t isa, const soban_attention *task);

/* For benchmarks: reads every byte with all threads and returns the exclusive or of the 64-bit words. `bytes` is a
 * multiple of 64 * streams; streams: 1, 2, 4, 8; prefetches `ahead` bytes into cache 1 or 2; cache 0: not at all. */
SOBAN_API uint64_t soban_read(soban_pool *pool, const void *data, int64_t bytes, int32_t streams, int32_t cache,
                              int64_t ahead);
/* For benchmarks: multiplies int8 values in registers with all threads, with what an instruction set has for it;
 * `chunks` may be done at once. Returns the number of multiply-adds, which the products themselves have counted; -1
 * where the machine has no such instructions. `rate`, or null: the sum over the threads of multiply-adds per second of
 * their own time, each in its best chunk. */
SOBAN_API int64_t soban_multiply(soban_pool *pool, int32_t isa, int32_t chunks, int64_t *rate);

#ifdef __cplusplus
}
#endif
#endif
