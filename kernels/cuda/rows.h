// Operations on rows of activations around the matrix products. All pointers are the device's; widths and strides count
// elements; all strides are at least the width. Nothing is waited for.
#pragma once

#include <cstdint>

#include "kernels/cuda/queue.h"
#include "kernels/weight_format.h"

namespace xlstm::cuda {

// Rows that a product takes as its input: float32, or rounded to bfloat16. Columns from the width up to `stride` are
// written as zeros.
struct ProductRows {
  void* values = nullptr;
  int64_t stride = 0;  // a multiple of 64
  bool bfloat16 = false;
};

// x[r] = table[ids[r]], widened; `type`: a float format.
struct Embed {
  const void* table;
  WeightFormat type;
  const int32_t* ids;
  int64_t rows, width;
  float* x;  // [rows, width]
};
void embed(Queue& queue, const Embed& args);

// out[r] = x[row] / √(mean(x[row]²) + eps) ⊙ weight + bias; row = row_ids[r], or r if row_ids is null. A null weight:
// no norm, out[r] = x[row]. A null bias: none.
struct RmsNorm {
  const float* x;
  int64_t x_stride;
  const int32_t* row_ids;
  int64_t rows, width;
  const float* weight;
  const float* bias;
  float eps;
  ProductRows out;
  ProductRows also = {};  // the same once more, of the same stride, for a product that takes another type
};
void rms_norm(Queue& queue, const RmsNorm& args);

// out[r] = LayerNorm over each head's features of h[r] (biased variance), ⊙ weight + bias, ⊙ σ(o[r])
struct GatedHeadNorm {
  const float* h;
  int64_t h_stride;
  const float* o;
  int64_t o_stride;
  int64_t rows, heads, head_dim;
  const float* weight;  // [heads · head_dim]
  const float* bias;    // may be null
  float eps;
  ProductRows out;
};
void gated_head_norm(Queue& queue, const GatedHeadNorm& args);

// out[r][j] = SiLU(gate[r][j]) · up[r][j]; gate and up stand in the order of gate_up_row() (product.h). Fastest if rows
// end with a whole run and the stride is a multiple of eight.
struct Swiglu {
  const void* gate_up;  // bfloat16, or float32
  bool bfloat16;
  const float* bias;  // of gate and up, in their order; may be null
  int64_t stride;
  int64_t rows, width;
  ProductRows out;
};
void swiglu(Queue& queue, const Swiglu& args);

// y = cap · tanh((y + bias) / cap); bias may be null, cap 0 means no cap.
struct BiasAndCap {
  float* y;
  int64_t stride;
  int64_t rows, width;
  const float* bias;
  float cap;
};
void add_bias_and_cap(Queue& queue, const BiasAndCap& args);

// The greatest of the first `vocab` of each row of logits, in the order of DeviceOps::find_candidates().
constexpr int64_t kMaxCandidates = 256;
struct Candidates {
  const float* logits;
  int64_t stride;
  int64_t rows, vocab, count;  // 1 ≤ count ≤ kMaxCandidates, count ≤ vocab
  int32_t* out;                // [rows, count, 2]: id, bits of the logit
  uint64_t* scratch;           // at least candidate_scratch(rows, vocab, count) elements
};
// Grows with each of its arguments, so that what suffices for the most rows does for fewer.
[[nodiscard]] int64_t candidate_scratch(int64_t rows, int64_t vocab, int64_t count);
void find_candidates(Queue& queue, const Candidates& args);

}  // namespace xlstm::cuda
