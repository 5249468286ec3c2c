// What config.json says about a model of the xLSTMLarge family (Hugging Face model_type "xlstm", NX-AI's
// xLSTMLargeConfig). Every key is optional; the defaults are those of transformers' xLSTMConfig.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "xlstm/model/quantization.h"

namespace xlstm {

struct ModelConfig {
  int64_t vocab_size = 50304;    // V, padding rows included
  int64_t embedding_dim = 4096;  // E; keys embedding_dim and hidden_size
  int64_t num_blocks = 32;       // keys num_blocks and num_hidden_layers
  int64_t num_heads = 8;         // NH
  int64_t qk_dim = 2048;         // of all heads: trunc(E · qk_dim_factor)
  int64_t v_dim = 4096;          // of all heads: trunc(E · v_dim_factor)
  int64_t ffn_dim = 10944;       // F: trunc(E · ffn_proj_factor), rounded up to ffn_round_up_to_multiple_of

  double norm_eps = 1e-6;                              // of all norms
  double cell_eps = 1e-6;                              // key eps: the mLSTM cell's denominator
  std::optional<double> gate_soft_cap = 15.0;          // key null: none
  std::optional<double> output_logit_soft_cap = 30.0;  // key null: none
  bool use_bias = false;                               // on linear layers and norms; the gates always have one
  bool tie_word_embeddings = false;
  // A norm before the head. transformers ignores the key and always has the norm, NX-AI's package honours it:
  // resolve_layout() lets the tensors decide, and accepts a missing out_norm.weight only if the key is false.
  bool add_out_norm = true;

  std::optional<Quantization> quantization;  // of the matrices of blocks and of the head; absent: floats

  int64_t bos_token_id = 0;
  std::vector<int64_t> eos_token_ids = {2};  // one or several, empty for null; 2 is "!" in the gpt-neox vocabulary
  std::optional<int64_t> pad_token_id = 1;

  // Information only; the runner has its own choice of kernels, chunks and types.
  int64_t chunk_size = 64;
  std::string weight_mode = "single";  // or "fused"; the layout follows the tensors that are there
  std::string dtype = "float32";       // keys dtype and torch_dtype
  std::string chunkwise_kernel;
  std::string sequence_kernel;
  std::string step_kernel;

  [[nodiscard]] int64_t head_dim_qk() const { return qk_dim / num_heads; }
  [[nodiscard]] int64_t head_dim_v() const { return v_dim / num_heads; }
};

// Reads and checks a config.json; `where` names it in messages. Error kCheckpoint for another model_type, for a model
// with extra or different mathematics (add_qk_norm, add_post_norm, "siging" kernels), for quantization of another kind
// than docs/quantization.md describes, for keys of a wrong type or out of range, and for sizes that contradict each
// other. Unknown keys are passed over.
[[nodiscard]] ModelConfig parse_model_config(const nlohmann::json& json, const std::string& where);

}  // namespace xlstm
