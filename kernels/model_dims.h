// The sizes and constants of one model that every kernel needs.
#pragma once

#include <cstdint>

namespace xlstm {

struct ModelDims {
  int64_t vocab_size = 0;     // V, rows of the embedding and of the head (padding rows included)
  int64_t embedding_dim = 0;  // E
  int64_t num_heads = 0;      // NH
  int64_t head_dim_qk = 0;    // Dk
  int64_t head_dim_v = 0;     // Dv
  int64_t ffn_dim = 0;        // F
  float norm_eps = 1e-6F;     // of the RMSNorms and the head LayerNorm, added to the variance
  float cell_eps = 1e-6F;     // of the mLSTM cell, added to the denominator after the max
  float gate_soft_cap = 0;    // c·tanh(x/c) on the i and f pre-activations; 0: off
  float logit_soft_cap = 0;   // the same on the logits; 0: off

  [[nodiscard]] int64_t qk_dim() const { return num_heads * head_dim_qk; }
  [[nodiscard]] int64_t v_dim() const { return num_heads * head_dim_v; }
  [[nodiscard]] int64_t qkvo_dim() const { return 2 * qk_dim() + 2 * v_dim(); }
};

}  // namespace xlstm
