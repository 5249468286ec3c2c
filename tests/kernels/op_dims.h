// Sizes that the tests of the operations around the cell choose.
#pragma once

#include <cstdint>

#include "kernels/model_dims.h"

namespace xlstm::test {

struct Shape {
  int64_t embedding_dim, num_heads, head_dim_qk, head_dim_v, ffn_dim, vocab_size;
};

// With the soft caps of the trained models.
inline ModelDims dims_of(const Shape& shape) {
  ModelDims dims;
  dims.vocab_size = shape.vocab_size;
  dims.embedding_dim = shape.embedding_dim;
  dims.num_heads = shape.num_heads;
  dims.head_dim_qk = shape.head_dim_qk;
  dims.head_dim_v = shape.head_dim_v;
  dims.ffn_dim = shape.ffn_dim;
  dims.gate_soft_cap = 15.0F;
  dims.logit_soft_cap = 30.0F;
  return dims;
}

}  // namespace xlstm::test
