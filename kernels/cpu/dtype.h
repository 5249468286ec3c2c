// Element types as they lie in memory; the kernels compute in float32.
#pragma once

#include <cstdint>

namespace xlstm::cpu {

enum class Dtype { kFloat32, kBfloat16, kFloat16 };

struct Bfloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

}  // namespace xlstm::cpu
