// soban_learn_...: what training computes besides matrix products, in the thread that calls.
#include "kernels/kernels.h"

namespace {

// Looked up once: to ask a processor what it is takes microseconds where it is a virtual one.
const soban::Learning &kernels_for(int32_t isa) {
    struct Found {
        const soban::Learning *of[SOBAN_ISA_NEON_I8MM + 1];
        Found() {
            for (int32_t i = 0; i <= SOBAN_ISA_NEON_I8MM; i++) of[i] = soban::learning_of(i);
        }
    };
    static const Found found;
    return *found.of[isa];
}

} // namespace

extern "C" {

void soban_glu_forward(int32_t isa, const soban_glu *task) { kernels_for(isa).glu_forward(task); }
void soban_glu_backward(int32_t isa, const soban_glu *task) { kernels_for(isa).glu_backward(task); }
void soban_norm_forward(int32_t isa, const soban_norm *task) { kernels_for(isa).norm_forward(task); }
void soban_norm_backward(int32_t isa, const soban_norm *task) { kernels_for(isa).norm_backward(task); }
void soban_turn_pairs(int32_t isa, const soban_turn *task) { kernels_for(isa).turn(task); }
double soban_next_token_loss(int32_t isa, const soban_loss *task) { return kernels_for(isa).loss(task); }
int64_t soban_attention_shares(int32_t isa, const soban_attention *task) {
    return kernels_for(isa).attention_shares(task);
}
int64_t soban_attention_room(int32_t isa, const soban_attention *task) { return kernels_for(isa).attention_room(task); }
void soban_attention_forward(int32_t isa, const soban_attention *task) { kernels_for(isa).attention_forward(task); }
void soban_attention_backward(int32_t isa, const soban_attention *task) { kernels_for(isa).attention_backward(task); }

} // extern "C"
