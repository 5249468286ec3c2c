// The parameters of a model as the kernels see them. Const after load; packed as the device wants, with the logical
// shape beside. Norm vectors, biases and the i/f gate projection are float32 whatever the weight dtype.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace xlstm {

// y = x · weightᵀ + bias
struct Linear {
  int64_t out = 0;
  int64_t in = 0;
  at::Tensor weight;  // canonical: [out, in]; after DeviceOps::pack in the device's own order
  at::Tensor bias;    // [out] float32, or undefined
};

struct Norm {
  at::Tensor weight;  // [features] float32
  at::Tensor bias;    // [features] float32, or undefined
};

struct BlockWeights {
  Norm norm_mlstm;      // [E]
  Linear qkvo;          // [2·qk_dim + 2·v_dim, E], rows q | k | v | output gate
  Linear gates;         // [2·NH, E] float32, rows i | f; the bias is never absent
  Norm multihead_norm;  // [v_dim], head-major
  Linear out_proj;      // [E, v_dim]
  Norm norm_ffn;        // [E]
  Linear ffn_gate_up;   // [2·F, E], rows gate (SiLU branch) | up
  Linear ffn_down;      // [E, F]
};

struct Weights {
  at::Tensor embedding;  // [V, E] row-major, float32, bfloat16 or float16
  std::vector<BlockWeights> blocks;
  Norm out_norm;  // [E]; weight undefined: no norm before the head
  Linear head;    // [V, E]; packed from the embedding's memory in tied models
};

}  // namespace xlstm
