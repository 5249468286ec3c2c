// How the elements of a matrix are stored. No libtorch, so that SIMD files need none.
#pragma once

namespace xlstm {

enum class WeightFormat { kFloat32, kBfloat16, kFloat16, kInt8, kInt4 };

[[nodiscard]] constexpr bool is_quantized(WeightFormat format) {
  return format == WeightFormat::kInt8 || format == WeightFormat::kInt4;
}

}  // namespace xlstm
