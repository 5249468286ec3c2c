// A canonical matrix of any format as float32: the reference for kernels that multiply with int8 and int4 directly.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/weights.h"

namespace xlstm {

// W [out, in] float32 of a canonical matrix (kernels/weights.h), on the device of its tensors. Exact for every format.
// Shares memory with a float32 matrix.
[[nodiscard]] at::Tensor dequantize(const Linear& canonical);

}  // namespace xlstm
