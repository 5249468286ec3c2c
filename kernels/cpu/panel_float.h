// Panel kernels on float32 multiply-add, for every format and instruction set: weights are widened to float32 first.
#pragma once

#include "kernels/cpu/panel_kernels.h"

namespace xlstm::cpu {

[[nodiscard]] PanelKernel float_kernel(const PanelLayout& layout);

}  // namespace xlstm::cpu
