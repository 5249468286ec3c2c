#include "xlstm/model/model_config.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using nlohmann::json;

// Above every real model, and small enough that products of two sizes and of a few bytes stay far below 2^63.
constexpr int64_t kMaxSize = int64_t{1} << 24;
constexpr double kMaxFactor = 64.0;

std::string value_text(const json& value) {
  return printable(value.dump(-1, ' ', true), 60);
}

// The value of an integer from 0 to 2^63 − 1; −1 for everything else.
int64_t natural(const json& value) {
  if (!value.is_number_integer()) return -1;
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX}) return -1;
  return std::max<int64_t>(value.get<int64_t>(), -1);
}

// Typed access to the keys of one config.json. A key that is absent or null gives the fallback.
class Reader {
 public:
  Reader(const json& config, const std::string& where) : config_(config), where_(where) {}

  [[noreturn]] void refuse(std::string_view what, std::string_view expected, std::string_view got) const {
    fail(ExitCode::kCheckpoint, what, where_, expected, got);
  }

  const json* find(const char* key) const {
    const auto found = config_.find(key);
    return found == config_.end() || found->is_null() ? nullptr : &*found;
  }

  bool has(const char* key) const { return find(key) != nullptr; }

  int64_t size(const char* key, int64_t fallback) const {
    const json* value = find(key);
    if (value == nullptr) return fallback;
    const int64_t number = natural(*value);
    if (number < 1 || number > kMaxSize) refuse(key, cat("an integer from 1 to ", kMaxSize), value_text(*value));
    return number;
  }

  // A size that goes by two names; both may be given if they agree.
  int64_t size(const char* key, const char* other_key, int64_t fallback) const {
    const int64_t value = size(key, size(other_key, fallback));
    const int64_t other = size(other_key, value);
    if (value != other) refuse(other_key, cat(value, ", as ", key), cat(other));
    return value;
  }

  double positive(const char* key, double fallback, double maximum) const {
    const json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_number() || !(value->get<double>() > 0) || !(value->get<double>() <= maximum)) {
      refuse(key, cat("a number above 0, up to ", maximum), value_text(*value));
    }
    return value->get<double>();
  }

  // Unlike elsewhere, null has a meaning of its own here: no cap.
  std::optional<double> cap(const char* key, std::optional<double> fallback) const {
    if (!config_.contains(key)) return fallback;
    if (!has(key)) return std::nullopt;
    return positive(key, 1.0, 1e6);
  }

  bool boolean(const char* key, bool fallback) const {
    const json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) refuse(key, "true or false", value_text(*value));
    return value->get<bool>();
  }

  std::string string(const char* key, std::string fallback) const {
    const json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_string()) refuse(key, "a string", value_text(*value));
    return value->get<std::string>();
  }

  int64_t token_id(const char* key, const json& value, int64_t vocab_size) const {
    const int64_t id = natural(value);
    if (id < 0 || id >= vocab_size) refuse(key, cat("an id below vocab_size ", vocab_size), value_text(value));
    return id;
  }

 private:
  const json& config_;
  const std::string& where_;
};

void check_family(const Reader& read) {
  constexpr const char* kExpected = "\"xlstm\" (the xLSTM-7b family)";
  if (read.has("model_type")) {
    const std::string type = read.string("model_type", "");
    if (type != "xlstm") read.refuse("model_type", kExpected, cat("\"", printable(type), "\""));
    return;
  }
  // NX-AI's own configurations have no model_type; these three keys have no default there.
  const bool large = (read.has("embedding_dim") || read.has("hidden_size")) && read.has("num_heads") &&
                     (read.has("num_blocks") || read.has("num_hidden_layers"));
  const bool mixed = read.has("mlstm_block") || read.has("slstm_block") || read.has("slstm_at");
  if (!large || mixed) {
    read.refuse("model_type", kExpected,
                mixed ? "none, and the keys of a mixed mLSTM/sLSTM model" : "none, and not the keys of such a model");
  }
}

// Keys of models that compute something else than this runner does.
void check_mathematics(const Reader& read) {
  for (const char* key : {"add_qk_norm", "add_post_norm"}) {
    if (read.boolean(key, false)) read.refuse(key, "false (models with these extra norms are not supported)", "true");
  }
  for (const char* key : {"chunkwise_kernel", "sequence_kernel", "step_kernel"}) {
    const std::string kernel = read.string(key, "");
    if (kernel.find("siging") != std::string::npos) {
      read.refuse(key, "a kernel with exponential input gate", cat("\"", printable(kernel), "\" (sigmoid input gate)"));
    }
  }
  if (read.has("quantization_config")) {
    read.refuse("quantization_config", "a checkpoint of floats, or one that `xlstm_generate quantize` wrote",
                "one that another program quantized");
  }
}

int64_t truncated(double value) {
  return static_cast<int64_t>(std::trunc(value));
}

void read_dimensions(const Reader& read, ModelConfig& config) {
  config.vocab_size = read.size("vocab_size", config.vocab_size);
  config.embedding_dim = read.size("embedding_dim", "hidden_size", config.embedding_dim);
  config.num_blocks = read.size("num_blocks", "num_hidden_layers", config.num_blocks);
  config.num_heads = read.size("num_heads", config.num_heads);

  const auto width = static_cast<double>(config.embedding_dim);
  config.qk_dim = truncated(width * read.positive("qk_dim_factor", 0.5, kMaxFactor));
  config.v_dim = truncated(width * read.positive("v_dim_factor", 1.0, kMaxFactor));
  const int64_t multiple = read.size("ffn_round_up_to_multiple_of", 64);
  // The integer part is what gets rounded up: 768 · 2.667 = 2048.256 gives 2048.
  const int64_t ffn = truncated(width * read.positive("ffn_proj_factor", 2.667, kMaxFactor));
  config.ffn_dim = (ffn + multiple - 1) / multiple * multiple;
  if (config.ffn_dim < 1) read.refuse("ffn_proj_factor", "an FFN width of at least 1", cat(config.ffn_dim));

  for (const auto& [key, dim] : {std::pair{"qk_dim_factor", config.qk_dim}, std::pair{"v_dim_factor", config.v_dim}}) {
    if (dim < 1 || dim % config.num_heads != 0) {
      read.refuse(key, cat("a width that num_heads ", config.num_heads, " divides"), cat(dim));
    }
  }
}

void read_token_ids(const Reader& read, ModelConfig& config) {
  if (const json* bos = read.find("bos_token_id")) {
    config.bos_token_id = read.token_id("bos_token_id", *bos, config.vocab_size);
  }
  if (const json* pad = read.find("pad_token_id")) {
    config.pad_token_id = read.token_id("pad_token_id", *pad, config.vocab_size);
  }
  if (const json* eos = read.find("eos_token_id")) {
    config.eos_token_ids.clear();
    const json list = eos->is_array() ? *eos : json::array({*eos});
    for (const json& id : list) config.eos_token_ids.push_back(read.token_id("eos_token_id", id, config.vocab_size));
  }
}

}  // namespace

ModelConfig parse_model_config(const json& json, const std::string& where) {
  const Reader read(json, where);
  if (!json.is_object()) read.refuse("model configuration", "a JSON object", value_text(json));
  check_family(read);
  check_mathematics(read);

  ModelConfig config;
  read_dimensions(read, config);
  config.norm_eps = read.positive("norm_eps", config.norm_eps, 1.0);
  config.cell_eps = read.positive("eps", config.cell_eps, 1.0);
  config.gate_soft_cap = read.cap("gate_soft_cap", config.gate_soft_cap);
  config.output_logit_soft_cap = read.cap("output_logit_soft_cap", config.output_logit_soft_cap);
  config.use_bias = read.boolean("use_bias", config.use_bias);
  config.tie_word_embeddings = read.boolean("tie_word_embeddings", config.tie_word_embeddings);
  config.add_out_norm = read.boolean("add_out_norm", config.add_out_norm);
  read_token_ids(read, config);
  if (const auto* quantization = read.find("quantization")) {
    config.quantization = parse_quantization(*quantization, where, {});
  }

  config.chunk_size = read.size("chunk_size", config.chunk_size);
  config.weight_mode = read.string("weight_mode", config.weight_mode);
  if (config.weight_mode != "single" && config.weight_mode != "fused") {
    read.refuse("weight_mode", "\"single\" or \"fused\"", cat("\"", printable(config.weight_mode), "\""));
  }
  config.dtype = read.string("dtype", read.string("torch_dtype", config.dtype));
  config.chunkwise_kernel = read.string("chunkwise_kernel", "");
  config.sequence_kernel = read.string("sequence_kernel", "");
  config.step_kernel = read.string("step_kernel", "");
  return config;
}

}  // namespace xlstm
