// The parameters of a model as the kernels see them. Const after load; packed as the device wants, with the logical
// shape beside. Norm vectors, biases and the i/f gate projection are float32 whatever the weight dtype.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/weight_format.h"

namespace xlstm {

// y = x · Wᵀ + bias
//
// Canonical tensors, row-major, of the formats:
//   float32, bfloat16, float16: weight [out, in] of that type
//   int8:  weight [out, in] int8, scale [out, groups] float16; W = scale · q
//   int4:  weight [out, ⌈in/2⌉] uint8, low nibble the even column, scale [out, groups] float16, zero [out, groups]
//          uint8 (0 to 15); W = scale · (q - zero)
// A group is `group` consecutive columns of a row, groups = ⌈in / group⌉; the last one may be shorter.
struct Linear {
  int64_t out = 0;
  int64_t in = 0;
  at::Tensor weight;     // canonical, or after DeviceOps::pack in the device's own order, scales and zeros included
  at::Tensor bias = {};  // [out] float32, or undefined
  WeightFormat format = WeightFormat::kFloat32;
  int64_t group = 0;      // of int8 and int4: a multiple of 32, or at least `in` for one scale per row
  at::Tensor scale = {};  // of a canonical int8 or int4 matrix
  at::Tensor zero = {};   // of a canonical int4 matrix
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
