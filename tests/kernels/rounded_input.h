// The inputs of a product as the CPU kernels round them (InputKind of kernels/cpu/panel_kernels.h).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/cpu/panel_kernels.h"
#include "xlstm/io/half.h"

namespace xlstm::test {

// What is multiplied instead of a row's `count` finite values. int8: codes nearest to x in steps of largest / 127,
// reckoned in float32 so that ties fall as they do in the kernels.
inline std::vector<double> rounded_input(cpu::InputKind kind, const float* x, int64_t count) {
  std::vector<double> rounded(x, x + count);
  if (kind == cpu::InputKind::kBfloat16) {
    for (size_t i = 0; i < rounded.size(); ++i) rounded[i] = static_cast<double>(bf16_to_float(float_to_bf16(x[i])));
  }
  if (kind == cpu::InputKind::kInt8) {
    float largest = 0;
    for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(x[i]));
    const float inverse = largest > 0 ? 127 / largest : 0;
    const auto scale = static_cast<double>(largest / 127);
    for (size_t i = 0; i < rounded.size(); ++i)
      rounded[i] = scale * static_cast<double>(std::nearbyint(x[i] * inverse));
  }
  return rounded;
}

}  // namespace xlstm::test
