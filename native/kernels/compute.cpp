// The kernels of one instruction set: compiled once for each, with SOBAN_ISA and SOBAN_TABLE set by CMakeLists.txt.
#include "adapters.h"
#include "attention.h"
#include "elementwise.h"
#include "plain.h"
#include "quantised.h"
#include "recurrent.h"

namespace {

int64_t linear_scratch(int32_t format, int32_t columns, int32_t tokens) {
    const int64_t widened = (int64_t)sizeof(float) * (MOST_TOTALS + DEEP_ROWS * (int64_t)columns);
    return format >= SOBAN_Q8 ? quantised_scratch(tokens) : widened;
}

void linear(const soban::Linear *task) {
    switch (task->part->format) {
    case SOBAN_F32: return linear_plain<F32>(*task);
    case SOBAN_F16: return linear_plain<F16>(*task);
    case SOBAN_BF16: return linear_plain<BF16>(*task);
    default: return with_format(task->part->format, [&](auto format) { linear_quantised<decltype(format)>(*task); });
    }
}

} // namespace

namespace soban {
extern const Kernels SOBAN_TABLE;
const Kernels SOBAN_TABLE = {
    embed, rms_norm,   layer_norm,        rope,     glu,      activate,       scale,
    add,   softcap,    convolve,          remember, quantise, linear_scratch, linear,
    adapt, store_pair, attention_scratch, attend,   join,
};
} // namespace soban
