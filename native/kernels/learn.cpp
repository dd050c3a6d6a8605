// The kernels of training for one instruction set: compiled once for each, as compute.cpp is.
#include "attention_gradients.h"
#include "gradients.h"

namespace {

void glu_forward_of(const soban_glu *task) {
    task->format == SOBAN_F32 ? glu_forward<F32>(*task) : glu_forward<BF16>(*task);
}
void glu_backward_of(const soban_glu *task) {
    task->format == SOBAN_F32 ? glu_backward<F32>(*task) : glu_backward<BF16>(*task);
}
void norm_forward_of(const soban_norm *task) {
    task->format == SOBAN_F32 ? norm_forward<F32>(*task) : norm_forward<BF16>(*task);
}
void norm_backward_of(const soban_norm *task) {
    task->format == SOBAN_F32 ? norm_backward<F32>(*task) : norm_backward<BF16>(*task);
}
void turn_of(const soban_turn *task) { task->format == SOBAN_F32 ? turn<F32>(*task) : turn<BF16>(*task); }
double loss_of(const soban_loss *task) { return task->format == SOBAN_F32 ? loss<F32>(*task) : loss<BF16>(*task); }

} // namespace

namespace soban {
extern const Learning SOBAN_TABLE;
const Learning SOBAN_TABLE = {
    glu_forward_of, glu_backward_of,  norm_forward_of, norm_backward_of,  turn_of,
    loss_of,        attention_shares, attention_room,  attention_forward, attention_backward,
};
} // namespace soban
