// How weights stand in tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/weight_format.h"
#include "xlstm/core/errors.h"

namespace xlstm {

// Of a canonical matrix's elements (kernels/weights.h); an int4 matrix has two in each byte.
[[nodiscard]] inline at::ScalarType element_type(WeightFormat format) {
  switch (format) {
    case WeightFormat::kFloat32: return at::kFloat;
    case WeightFormat::kBfloat16: return at::kBFloat16;
    case WeightFormat::kFloat16: return at::kHalf;
    case WeightFormat::kInt8: return at::kChar;
    case WeightFormat::kInt4: return at::kByte;
  }
  return at::kFloat;
}

// Error kDevice if the tensor is absent or of another type; `where`: whose kernels want it.
inline void require_type(const at::Tensor& tensor, at::ScalarType type, const char* what, const char* where) {
  if (tensor.defined() && tensor.scalar_type() == type) return;
  fail(ExitCode::kDevice, what, where, c10::toString(type),
       tensor.defined() ? c10::toString(tensor.scalar_type()) : "none");
}

}  // namespace xlstm
