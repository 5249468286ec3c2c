// Row-wise operations between the products, on the calling thread. All activations are float32; output may be the input
// where both are named.
#pragma once

#include <cstdint>

#include "kernels/cpu/dtype.h"

namespace xlstm::cpu {

struct RmsNormArgs {
  const float* x = nullptr;
  const float* weight = nullptr;
  const float* bias = nullptr;  // or null
  int64_t count = 0;
  float eps = 0;
  float* out = nullptr;
};

// out = x · (mean(x²) + eps)^-1/2 ⊙ weight + bias
void rms_norm(const RmsNormArgs& args);

struct GatedHeadNormArgs {
  const float* h = nullptr;       // [heads · head_dim]
  const float* gate = nullptr;    // the same, before the sigmoid
  const float* weight = nullptr;  // the same
  const float* bias = nullptr;    // or null
  int64_t heads = 0;
  int64_t head_dim = 0;
  float eps = 0;
  float* out = nullptr;
};

// Per head: out = ((h - mean) · (variance + eps)^-1/2 ⊙ weight + bias) ⊙ σ(gate), with the biased variance.
void gated_head_norm(const GatedHeadNormArgs& args);

void to_float32(const void* from, Dtype dtype, int64_t count, float* to);

}  // namespace xlstm::cpu
