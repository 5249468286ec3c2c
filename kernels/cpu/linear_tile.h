// One tile of a linear layer y = x · Wᵀ (+ bias), on the calling thread.
#pragma once

#include <cstdint>

#include "kernels/cpu/dtype.h"

namespace xlstm::cpu {

struct LinearTile {
  const float* x = nullptr;  // [rows, in], rows x_stride apart
  int64_t x_stride = 0;
  const void* weight = nullptr;  // [cols, in] row-major without gaps, of type dtype
  Dtype dtype = Dtype::kFloat32;
  int64_t in = 0;
  const float* bias = nullptr;  // [cols] or null
  float* y = nullptr;           // [rows, cols], rows y_stride apart
  int64_t y_stride = 0;
  bool accumulate = false;  // add to y instead of overwriting it
  int64_t row_begin = 0, row_end = 0;
  int64_t col_begin = 0, col_end = 0;
};

// A value of y has the same bits whatever tile it is computed in.
void linear_tile(const LinearTile& tile);

}  // namespace xlstm::cpu
