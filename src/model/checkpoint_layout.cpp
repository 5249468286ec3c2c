#include "xlstm/model/checkpoint_layout.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "src/model/float_types.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using Shape = std::vector<int64_t>;

// Row counts of the tensors that a parameter may be split into, and their names without ".weight".
struct Part {
  std::vector<std::string> names;  // alternatives, the current one first
  int64_t rows = 0;
};

// "X.weight" with another last word.
std::string beside(const std::string& source, std::string_view word) {
  constexpr std::string_view kWeight = "weight";
  XLSTM_ASSERT(source.ends_with(kWeight));
  return source.substr(0, source.size() - kWeight.size()).append(word);
}

// "blocks.12.rest" behind the prefix gives 12; nullopt for other names and for numbers in another spelling.
std::optional<int64_t> block_index(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  constexpr std::string_view kBlocks = "blocks.";
  if (!name.starts_with(kBlocks)) return std::nullopt;
  name.remove_prefix(kBlocks.size());
  const std::string_view digits = name.substr(0, name.find('.'));
  if (digits.empty() || digits.size() == name.size() || digits.size() > 8) return std::nullopt;
  if (digits.size() > 1 && digits[0] == '0') return std::nullopt;
  int64_t index = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  if (error != std::errc() || end != digits.data() + digits.size() || index < 0) return std::nullopt;
  return index;
}

class Resolver {
 public:
  explicit Resolver(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {
    out_.config = parse_model_config(checkpoint.config(), checkpoint.config_path().string());
    for (std::string& name : checkpoint.names()) unused_.insert(std::move(name));
    const bool prefixed =
        std::any_of(unused_.begin(), unused_.end(), [](const std::string& n) { return n.starts_with("backbone."); });
    if (prefixed) prefix_ = "backbone.";
  }

  CheckpointLayout resolve() {
    take_dimensions();
    const Shape e = {out_.config.embedding_dim};
    out_.embedding = required({{{prefix_ + "embeddings", prefix_ + "embedding"}, out_.config.vocab_size}}, ".weight",
                              out_.config.embedding_dim);
    resolve_blocks();
    resolve_out_norm();
    resolve_head();
    for (const std::string& name : unused_) {
      problem(cat("tensor ", printable(name)), checkpoint_.file_of(name), "no tensor of this name", "one");
    }
    return std::move(out_);
  }

 private:
  void problem(std::string_view what, const std::filesystem::path& where, std::string_view expected,
               std::string_view got) {
    out_.problems.push_back(format_error(what, where.string(), expected, got));
  }

  bool exists(const std::string& name) const { return unused_.contains(name + ".weight"); }

  bool stated(const char* key) const {
    const auto found = checkpoint_.config().find(key);
    return found != checkpoint_.config().end() && !found->is_null();
  }

  // ---- dimensions ----

  using Sizes = std::vector<std::optional<int64_t>>;

  // Dimension `axis` of a weight of this rank, divided by `divisor`; nullopt if there is no such tensor.
  std::optional<int64_t> size_of(const std::string& name, size_t rank, size_t axis, int64_t divisor = 1) const {
    const TensorView* view = checkpoint_.find(name + ".weight");
    if (view == nullptr || view->shape.size() != rank || view->bytes.empty()) return std::nullopt;
    // A byte of int4 codes is two columns, or one and padding.
    if (axis == 1 && view->dtype == DType::U8) return std::nullopt;
    if (view->shape[axis] % divisor != 0) return std::nullopt;
    return view->shape[axis] / divisor;
  }

  // Lets the tensors decide one dimension, given what each of several tensors says. One that agrees with config.json
  // settles it (the others get reported by their shapes); else the first counts, which is a problem if config.json
  // states the dimension itself.
  void decide(int64_t& dimension, const Sizes& sizes, std::initializer_list<const char*> keys) {
    if (std::find(sizes.begin(), sizes.end(), std::optional(dimension)) != sizes.end()) return;
    const auto actual = std::find_if(sizes.begin(), sizes.end(), [](const auto& size) { return size && *size > 0; });
    if (actual == sizes.end()) return;
    const auto key = std::find_if(keys.begin(), keys.end(), [this](const char* k) { return stated(k); });
    if (key != keys.end()) {
      problem(*key, checkpoint_.config_path(), cat(**actual, ", as in the tensors' shapes"), cat(dimension));
    }
    dimension = **actual;
  }

  void take_dimensions() {
    ModelConfig& c = out_.config;
    const std::string layer = block(0) + "mlstm_layer.";
    const std::string ffn = block(0) + "ffn.";
    std::string embedding = prefix_ + "embeddings";
    if (!exists(embedding)) embedding = prefix_ + "embedding";
    if (const TensorView* view = checkpoint_.find(embedding + ".weight")) {
      const FloatType* type = find_float_type(&FloatType::stored, view->dtype);
      c.dtype = type == nullptr ? "float32" : type->name;
    }

    decide(c.vocab_size, {size_of(embedding, 2, 0), size_of("lm_head", 2, 0)}, {"vocab_size"});
    decide(c.embedding_dim,
           {size_of(embedding, 2, 1), size_of(block(0) + "norm_mlstm", 1, 0), size_of(prefix_ + "out_norm", 1, 0)},
           {"embedding_dim", "hidden_size"});
    decide(c.num_heads,
           {size_of(layer + "igate_preact", 2, 0), size_of(layer + "fgate_preact", 2, 0),
            size_of(layer + "ifgate_preact", 2, 0, 2)},
           {"num_heads"});
    decide(c.v_dim,
           {size_of(layer + "multihead_norm", 1, 0), size_of(layer + "out_proj", 2, 1), size_of(layer + "v", 2, 0)},
           {});
    auto fused_qk = size_of(layer + "qkv_opreact", 2, 0, 2);
    if (fused_qk) *fused_qk -= c.v_dim;
    decide(c.qk_dim,
           {size_of(layer + "q", 2, 0), size_of(layer + "k", 2, 0), size_of(layer + "query", 2, 0),
            size_of(layer + "key", 2, 0), fused_qk},
           {});
    decide(c.ffn_dim,
           {size_of(ffn + "proj_down", 2, 1), size_of(ffn + "proj_up", 2, 0), size_of(ffn + "proj_up_gate", 2, 0),
            size_of(ffn + "proj_up_gate_z", 2, 0, 2)},
           {});
    for (const auto& [what, dim] : {std::pair{"query and key width", c.qk_dim}, std::pair{"value width", c.v_dim}}) {
      if (dim % c.num_heads != 0) {
        problem(what, checkpoint_.dir(), cat("a multiple of num_heads ", c.num_heads), cat(dim));
      }
    }
  }

  // ---- single parameters ----

  // The tensor, removed from the unused ones; nullptr if it does not exist.
  const TensorView* take(const std::string& name) {
    if (unused_.erase(name) == 0) return nullptr;
    return checkpoint_.find(name);
  }

  // Takes a tensor of this shape and one of these types; reports what is wrong with it. False if it is not there.
  bool take_checked(const std::string& name, const Shape& shape, std::initializer_list<DType> types) {
    const TensorView* view = take(name);
    if (view == nullptr) {
      problem(cat("tensor ", name), checkpoint_.dir(), cat("shape ", shape_text(shape)), "no such tensor");
      return false;
    }
    const std::string what = cat("tensor ", name);
    const std::filesystem::path& file = checkpoint_.file_of(name);
    if (view->shape != shape) problem(what, file, cat("shape ", shape_text(shape)), shape_text(view->shape));
    if (std::find(types.begin(), types.end(), view->dtype) == types.end()) {
      const bool floats = types.size() > 1;
      problem(what, file, floats ? "F32, BF16 or F16" : dtype_name(*types.begin()), dtype_name(view->dtype));
    }
    return true;
  }

  bool take_floats(const std::string& name, const Shape& shape) {
    return take_checked(name, shape, {DType::F32, DType::BF16, DType::F16});
  }

  bool take_codes(const std::string& name, const Shape& shape, const MatrixFormat& format) {
    const bool int4 = format.format == WeightFormat::kInt4;
    const Shape per_group = {shape[0], groups_per_row(format, shape[1])};
    const bool there =
        take_checked(name, {shape[0], row_bytes(format.format, shape[1])}, {int4 ? DType::U8 : DType::I8});
    const bool scaled = take_checked(scale_name(name), per_group, {DType::F16});
    const bool shifted = !int4 || take_checked(zero_name(name), per_group, {DType::U8});
    return there && scaled && shifted;
  }

  // The first of a part's names that the checkpoint has with this suffix, else the current name.
  std::string pick(const Part& part, const char* suffix) const {
    for (const std::string& name : part.names) {
      if (unused_.contains(name + suffix)) return name + suffix;
    }
    return part.names.front() + suffix;
  }

  // Concatenates parts; `columns` absent: a vector; `codes`: the format of a quantized matrix.
  Parameter required(const std::vector<Part>& parts, const char* suffix, std::optional<int64_t> columns,
                     const std::optional<MatrixFormat>& codes = {}) {
    Parameter parameter;
    parameter.quantized = codes;
    int64_t rows = 0;
    for (const Part& part : parts) {
      const std::string name = pick(part, suffix);
      const Shape shape = columns ? Shape{part.rows, *columns} : Shape{part.rows};
      rows += part.rows;
      if (codes ? take_codes(name, shape, *codes) : take_floats(name, shape)) parameter.sources.push_back(name);
    }
    if (parameter.present()) parameter.shape = columns ? Shape{rows, *columns} : Shape{rows};
    return parameter;
  }

  // A matrix of a block, quantized if config.json says so.
  Parameter matrix_of(const std::vector<Part>& parts, int64_t columns) {
    std::optional<MatrixFormat> codes;
    if (out_.config.quantization) codes = out_.config.quantization->matrices();
    return required(parts, ".weight", columns, codes);
  }

  // Biases must be there if config.json says use_bias, and must not be if it does not.
  Parameter bias(const std::vector<Part>& parts) {
    if (out_.config.use_bias) return required(parts, ".bias", std::nullopt);
    for (const Part& part : parts) {
      const std::string name = pick(part, ".bias");
      if (take(name) != nullptr) {
        problem(cat("tensor ", name), checkpoint_.file_of(name), "no bias, as use_bias is false", "one");
      }
    }
    return {};
  }

  // ---- the model ----

  std::string block(int64_t index) const { return cat(prefix_, "blocks.", index, "."); }

  BlockParameters resolve_block(const std::string& b) {
    const ModelConfig& c = out_.config;
    const std::string layer = b + "mlstm_layer.";
    BlockParameters p;
    const auto vector = [&](const std::string& name, int64_t size, Parameter& w, Parameter& bias_of) {
      w = required({{{name}, size}}, ".weight", std::nullopt);
      bias_of = bias({{{name}, size}});
    };
    const auto matrix = [&](const std::vector<Part>& parts, int64_t columns, Parameter& w, Parameter& bias_of) {
      w = matrix_of(parts, columns);
      bias_of = bias(parts);
    };

    vector(b + "norm_mlstm", c.embedding_dim, p.norm_mlstm, p.norm_mlstm_bias);
    std::vector<Part> qkvo = {{{layer + "q", layer + "query"}, c.qk_dim},
                              {{layer + "k", layer + "key"}, c.qk_dim},
                              {{layer + "v", layer + "value"}, c.v_dim},
                              {{layer + "ogate_preact"}, c.v_dim}};
    if (exists(layer + "qkv_opreact")) qkvo = {{{layer + "qkv_opreact"}, 2 * c.qk_dim + 2 * c.v_dim}};
    matrix(qkvo, c.embedding_dim, p.qkvo, p.qkvo_bias);

    std::vector<Part> gates = {{{layer + "igate_preact"}, c.num_heads}, {{layer + "fgate_preact"}, c.num_heads}};
    if (exists(layer + "ifgate_preact")) gates = {{{layer + "ifgate_preact"}, 2 * c.num_heads}};
    p.gates = required(gates, ".weight", c.embedding_dim);
    p.gates_bias = required(gates, ".bias", std::nullopt);

    vector(layer + "multihead_norm", c.v_dim, p.multihead_norm, p.multihead_norm_bias);
    p.out_proj = matrix_of({{{layer + "out_proj"}, c.embedding_dim}}, c.v_dim);
    p.out_proj_bias = bias({{{layer + "out_proj"}, c.embedding_dim}});

    vector(b + "norm_ffn", c.embedding_dim, p.norm_ffn, p.norm_ffn_bias);
    std::vector<Part> gate_up = {{{b + "ffn.proj_up_gate"}, c.ffn_dim}, {{b + "ffn.proj_up"}, c.ffn_dim}};
    if (exists(b + "ffn.proj_up_gate_z")) gate_up = {{{b + "ffn.proj_up_gate_z"}, 2 * c.ffn_dim}};
    matrix(gate_up, c.embedding_dim, p.ffn_gate_up, p.ffn_gate_up_bias);
    p.ffn_down = matrix_of({{{b + "ffn.proj_down"}, c.embedding_dim}}, c.ffn_dim);
    p.ffn_down_bias = bias({{{b + "ffn.proj_down"}, c.embedding_dim}});
    return p;
  }

  // Reports absent and surplus blocks once each, instead of all their tensors.
  void resolve_blocks() {
    std::set<int64_t> present;
    for (const std::string& name : unused_) {
      if (const auto index = block_index(name, prefix_)) present.insert(*index);
    }
    const bool counted = stated("num_blocks") || stated("num_hidden_layers");
    int64_t contiguous = 0;
    while (present.contains(contiguous)) ++contiguous;
    const int64_t wanted = counted ? out_.config.num_blocks : contiguous;
    int64_t first_absent = 0;
    while (first_absent < wanted && present.contains(first_absent)) ++first_absent;
    const auto used = std::distance(present.begin(), present.lower_bound(wanted));
    if (used < wanted || wanted == 0) {
      problem("number of blocks", checkpoint_.dir(), wanted == 0 ? "at least 1" : cat(wanted, " (num_blocks)"),
              cat(used, " with tensors; none for block ", first_absent));
    }
    if (static_cast<size_t>(used) < present.size()) {
      problem("number of blocks", checkpoint_.dir(), counted ? cat(wanted, " (num_blocks)") : "blocks without a gap",
              cat("tensors of block ", *present.lower_bound(wanted), " too"));
    }
    for (const int64_t index : present) {
      if (index < wanted) {
        out_.blocks.push_back(resolve_block(block(index)));
      } else {
        const std::string start = block(index);
        std::erase_if(unused_, [&](const std::string& name) { return name.starts_with(start); });
      }
    }
    out_.config.num_blocks = static_cast<int64_t>(out_.blocks.size());
  }

  void resolve_out_norm() {
    const std::vector<Part> part = {{{prefix_ + "out_norm"}, out_.config.embedding_dim}};
    const bool present = exists(prefix_ + "out_norm");
    if (present || out_.config.add_out_norm) out_.out_norm = required(part, ".weight", std::nullopt);
    out_.config.add_out_norm = present;
    // transformers builds this norm without a bias even with use_bias; NX-AI's package gives it one.
    const bool has_bias = unused_.contains(prefix_ + "out_norm.bias");
    if (present && has_bias) out_.out_norm_bias = bias(part);
  }

  void resolve_head() {
    if (exists("lm_head") || !out_.config.tie_word_embeddings) {
      std::optional<MatrixFormat> codes;
      if (out_.config.quantization) codes = out_.config.quantization->head();
      out_.head = required({{{"lm_head"}, out_.config.vocab_size}}, ".weight", out_.config.embedding_dim, codes);
    } else {
      out_.head_is_embedding = true;
    }
  }

  const Checkpoint& checkpoint_;
  CheckpointLayout out_;
  std::string prefix_;
  std::set<std::string> unused_;
};

struct BlockField {
  const char* name;
  Parameter BlockParameters::*field;
  ParameterRole role = ParameterRole::kVector;
};

constexpr std::array<BlockField, 16> kBlockFields = {{
    {"norm_mlstm", &BlockParameters::norm_mlstm},
    {"norm_mlstm_bias", &BlockParameters::norm_mlstm_bias},
    {"qkvo", &BlockParameters::qkvo, ParameterRole::kMatrix},
    {"qkvo_bias", &BlockParameters::qkvo_bias},
    {"gates", &BlockParameters::gates, ParameterRole::kGates},
    {"gates_bias", &BlockParameters::gates_bias},
    {"multihead_norm", &BlockParameters::multihead_norm},
    {"multihead_norm_bias", &BlockParameters::multihead_norm_bias},
    {"out_proj", &BlockParameters::out_proj, ParameterRole::kMatrix},
    {"out_proj_bias", &BlockParameters::out_proj_bias},
    {"norm_ffn", &BlockParameters::norm_ffn},
    {"norm_ffn_bias", &BlockParameters::norm_ffn_bias},
    {"ffn_gate_up", &BlockParameters::ffn_gate_up, ParameterRole::kMatrix},
    {"ffn_gate_up_bias", &BlockParameters::ffn_gate_up_bias},
    {"ffn_down", &BlockParameters::ffn_down, ParameterRole::kMatrix},
    {"ffn_down_bias", &BlockParameters::ffn_down_bias},
}};

}  // namespace

std::string scale_name(const std::string& source) {
  return beside(source, "scale");
}

std::string zero_name(const std::string& source) {
  return beside(source, "zero");
}

CheckpointLayout resolve_layout(const Checkpoint& checkpoint) {
  return Resolver(checkpoint).resolve();
}

void require_complete(const CheckpointLayout& layout, const std::string& where) {
  if (layout.problems.empty()) return;
  std::string message = layout.problems.front();
  const size_t others = layout.problems.size() - 1;
  if (others > 0) message += cat("; and ", others, others == 1 ? " more problem in " : " more problems in ", where);
  throw Error(ExitCode::kCheckpoint, message);
}

std::vector<NamedParameter> list_parameters(const CheckpointLayout& layout) {
  std::vector<NamedParameter> out;
  const auto add = [&](std::string name, const Parameter& parameter, ParameterRole role) {
    if (parameter.present()) out.push_back({std::move(name), &parameter, role});
  };
  add("embedding", layout.embedding, ParameterRole::kEmbedding);
  for (size_t i = 0; i < layout.blocks.size(); ++i) {
    for (const BlockField& f : kBlockFields) add(cat("blocks.", i, ".", f.name), layout.blocks[i].*f.field, f.role);
  }
  add("out_norm", layout.out_norm, ParameterRole::kVector);
  add("out_norm_bias", layout.out_norm_bias, ParameterRole::kVector);
  add("head", layout.head, ParameterRole::kHead);
  return out;
}

int64_t parameter_count(const CheckpointLayout& layout) {
  int64_t total = 0;
  for (const NamedParameter& named : list_parameters(layout)) total += element_count(named.parameter->shape);
  return total;
}

}  // namespace xlstm
