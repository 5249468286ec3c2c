// What the cell's kernels and their host code agree on. No libtorch, no CUDA header.
#pragma once

#include <cstdint>

namespace xlstm::cuda {

// A sequence's rows of the pass, staged as int32. first_tile: where its tiles begin among those of all spans
// (chunkwise).
struct CellSpan {
  int32_t slot;
  int32_t first_row;
  int32_t rows;
  int32_t first_tile;
};

// Rows are tokens. q, k, v, h: head-major features of a row; strides count elements from row to row.
struct CellTensors {
  const float* q;
  const float* k;
  const float* v;
  const float* gates;  // i [heads] | f [heads] of a row
  float* h;
  void* c;   // [slots, heads, dk, dv] float32 or bfloat16, contiguous
  void* n;   // [slots, heads, dk], same type
  float* m;  // [slots, heads]
  int64_t qkv_stride, gates_stride, h_stride;
  int32_t heads, dk, dv;
  int32_t bfloat16_state;
  float scale;  // on q: dk^-1/2
  float eps;
};

}  // namespace xlstm::cuda
