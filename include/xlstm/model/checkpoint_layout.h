// Which tensors of a checkpoint make up which parameter of the model. Tensor shapes decide the dimensions; a size that
// config.json states itself and that differs is a problem, one that only follows from its factors is not.
//
// Names understood, per block under "[backbone.]blocks.N.":
//   norm_mlstm, norm_ffn, mlstm_layer.multihead_norm, mlstm_layer.out_proj, ffn.proj_down
//   mlstm_layer.{q,k,v,ogate_preact}     or the older .{query,key,value}   or fused mlstm_layer.qkv_opreact
//   mlstm_layer.{igate,fgate}_preact     or fused mlstm_layer.ifgate_preact
//   ffn.{proj_up_gate,proj_up}           or fused ffn.proj_up_gate_z
// and outside: [backbone.]embeddings or embedding, [backbone.]out_norm, lm_head. The prefix is that of transformers'
// xLSTMForCausalLM; NX-AI's package and headless models have none.
//
// In a quantized checkpoint (model_config.h) the matrices of the blocks and the head are codes: X.weight I8 [out, in]
// or U8 [out, ⌈in/2⌉], with X.scale F16 [out, groups] and, in int4, X.zero U8 [out, groups] beside it. Shapes of
// parameters are those of the matrices that the codes stand for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "xlstm/io/checkpoint.h"
#include "xlstm/model/model_config.h"

namespace xlstm {

struct Parameter {
  std::vector<std::string> sources;  // checkpoint tensors, concatenated along dimension 0; empty: absent
  std::vector<int64_t> shape;        // after concatenation; empty: absent
  // The sources are codes of this format, with scale_name() and, in int4, zero_name() of each beside them.
  std::optional<MatrixFormat> quantized;

  [[nodiscard]] bool present() const { return !sources.empty(); }
};

// "X.scale" and "X.zero" of the source "X.weight".
[[nodiscard]] std::string scale_name(const std::string& source);
[[nodiscard]] std::string zero_name(const std::string& source);

// qk = qk_dim, v = v_dim. Biases other than the gates' are absent unless the model has use_bias.
struct BlockParameters {
  Parameter norm_mlstm, norm_mlstm_bias;          // [E]
  Parameter qkvo, qkvo_bias;                      // [2·qk + 2·v, E] rows q | k | v | output gate
  Parameter gates, gates_bias;                    // [2·NH, E] rows input | forget
  Parameter multihead_norm, multihead_norm_bias;  // [v], head-major
  Parameter out_proj, out_proj_bias;              // [E, v]
  Parameter norm_ffn, norm_ffn_bias;              // [E]
  Parameter ffn_gate_up, ffn_gate_up_bias;        // [2·F, E] rows gate (SiLU branch) | up
  Parameter ffn_down, ffn_down_bias;              // [E, F]
};

struct CheckpointLayout {
  // config.json with the dimensions of the tensors; add_out_norm tells whether out_norm is there, dtype names the
  // embedding's type ("float32", "bfloat16", "float16").
  ModelConfig config;
  Parameter embedding;  // [V, E]
  std::vector<BlockParameters> blocks;
  Parameter out_norm, out_norm_bias;  // [E]; without out_norm the last norm is left out
  Parameter head;                     // [V, E]; absent if head_is_embedding
  bool head_is_embedding = false;
  // One line each, "WHAT (WHERE): expected …, got …": missing, unexpected and misshapen tensors, types that they cannot
  // have, sizes that contradict config.json.
  std::vector<std::string> problems;
};

// Collects problems instead of throwing; every tensor is used once or reported. Throws what parse_model_config throws.
[[nodiscard]] CheckpointLayout resolve_layout(const Checkpoint& checkpoint);

// Error kCheckpoint with the first problem and the number of others; `where` names the checkpoint.
void require_complete(const CheckpointLayout& layout, const std::string& where);

enum class ParameterRole {
  kVector,     // a norm or a bias
  kGates,      // the projection to the input and forget gates
  kMatrix,     // another matrix of a block
  kEmbedding,  // the table
  kHead,
};

struct NamedParameter {
  std::string name;  // "embedding", "blocks.3.qkvo_bias"
  const Parameter* parameter = nullptr;
  ParameterRole role = ParameterRole::kVector;
};

// All parameters that are present, in the order of the forward pass. The pointers are into `layout`.
[[nodiscard]] std::vector<NamedParameter> list_parameters(const CheckpointLayout& layout);

// Elements of all parameters.
[[nodiscard]] int64_t parameter_count(const CheckpointLayout& layout);

}  // namespace xlstm
