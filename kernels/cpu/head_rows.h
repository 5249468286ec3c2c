// Raw views of one head of one span, as the SIMD files of the cell see them.
#pragma once

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

  // Tokens [begin, end).
  [[nodiscard]] HeadRows part(int64_t begin, int64_t end) const {
    HeadRows part = *this;
    part.q += begin * q_stride;
    part.k += begin * k_stride;
    part.v += begin * v_stride;
    part.i_gate += begin * gate_stride;
    part.f_gate += begin * gate_stride;
    part.h += begin * h_stride;
    part.rows = end - begin;
    return part;
  }
  // From column `col` of v and h on.
  [[nodiscard]] HeadRows from_column(int64_t col) const {
    HeadRows part = *this;
    part.v += col;
    part.h += col;
    return part;
  }
};

// C, n and m of one head of one slot. C and n are of type `dtype`, float32 or bfloat16.
struct HeadState {
  void* c = nullptr;  // [Dk, Dv], rows c_stride elements apart
  void* n = nullptr;  // [Dk]
  float* m = nullptr;
  int64_t c_stride = 0;
  Dtype dtype = Dtype::kFloat32;

  [[nodiscard]] int64_t element_size() const { return dtype == Dtype::kFloat32 ? 4 : 2; }
  // From column `col` of C on.
  [[nodiscard]] HeadState from_column(int64_t col) const {
    HeadState part = *this;
    part.c = static_cast<char*>(c) + col * element_size();
    return part;
  }
};

struct HeadDims {
  int64_t dk = 0;
  int64_t dv = 0;
  float eps = 0;  // added to the denominator
};

}  // namespace xlstm::cpu
