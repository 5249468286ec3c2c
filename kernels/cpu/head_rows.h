// Raw views of one head of one span, as the SIMD files of the cell see them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cpu/dtype.h"

namespace xlstm::cpu {

// Consecutive tokens of one head; element strides between tokens.
struct HeadRows {
  const float* q = nullptr;  // [rows, Dk]
  const float* k = nullptr;  // [rows, Dk]
  const float* v = nullptr;  // [rows, Dv]
  const float* i_gate = nullptr;
  const float* f_gate = nullptr;
  float* h = nullptr;  // [rows, Dv]
  int64_t q_stride = 0;
  int64_t k_stride = 0;
  int64_t v_stride = 0;
  int64_t gate_stride = 0;
  int64_t h_stride = 0;
  int64_t rows = 0;
};

// C, n and m of one head of one slot. C and n are of type `dtype`, float32 or bfloat16.
struct HeadState {
  void* c = nullptr;  // [Dk, Dv], rows c_stride elements apart
  void* n = nullptr;  // [Dk]
  float* m = nullptr;
  int64_t c_stride = 0;
  Dtype dtype = Dtype::kFloat32;
};

struct HeadDims {
  int64_t dk = 0;
  int64_t dv = 0;
  float eps = 0;  // added to the denominator
};

// Gates below this act as "never": exponentials of it are 0, and sums over a tile of it stay finite, so that no
// difference of infinities can make a NaN.
constexpr float kLowestGate = -1e30F;

[[nodiscard]] inline float input_gate(float i) {
  return i < kLowestGate ? kLowestGate : i;
}

// log σ(f)
[[nodiscard]] inline float log_forget_gate(float f) {
  const float value = std::min(f, 0.0F) - std::log1p(std::exp(-std::abs(f)));
  return value < kLowestGate ? kLowestGate : value;
}

}  // namespace xlstm::cpu
