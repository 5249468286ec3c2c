// Waiting for work that a device does in the background.
#pragma once

#include <ATen/core/Tensor.h>

namespace xlstm {

// Returns when `matrix` has its values. On a CPU it always has.
inline void wait_for(const at::Tensor& matrix) {
  if (!matrix.is_cpu()) (void)matrix.select(0, 0).select(0, 0).cpu();
}

}  // namespace xlstm
