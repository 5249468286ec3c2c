#include "xlstm/model/load_weights.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <cmath>
#include <cstring>
#include <utility>

#include "xlstm/core/errors.h"
#include "xlstm/core/progress.h"
#include "xlstm/core/run_status.h"
#include "xlstm/core/stop.h"
#include "xlstm/core/str.h"
#include "xlstm/io/half.h"

namespace xlstm {
namespace {

at::ScalarType scalar_type(DType dtype, const std::string& tensor) {
  switch (dtype) {
    case DType::F32: return at::kFloat;
    case DType::BF16: return at::kBFloat16;
    case DType::F16: return at::kHalf;
    default: fail(ExitCode::kCheckpoint, "dtype", tensor, "F32, BF16 or F16", dtype_name(dtype));
  }
}

std::span<const std::byte> bytes_of(const at::Tensor& contiguous) {
  return {static_cast<const std::byte*>(contiguous.const_data_ptr()), contiguous.nbytes()};
}

// Reads logical parameters into tensors of their final dtype.
class Loader {
 public:
  Loader(const Checkpoint& checkpoint, const DeviceOps& ops, const LoadOptions& options)
      : checkpoint_(checkpoint),
        ops_(ops),
        options_(options),
        progress_(RunPhase::kLoad, "loading", static_cast<int64_t>(checkpoint.total_bytes()), options.progress) {}

  // A vector or the gate projection: float32, placed on the device. Undefined when the parameter is absent.
  at::Tensor vector(const Parameter& parameter) {
    return parameter.sources.empty() ? at::Tensor() : ops_.place(read(parameter, at::kFloat));
  }

  at::Tensor table(const Parameter& parameter) { return ops_.place(read(parameter, options_.dtype)); }

  Norm norm(const Parameter& weight, const Parameter& bias) { return {vector(weight), vector(bias)}; }

  Linear matrix(const Parameter& weight, const Parameter& bias, at::ScalarType dtype) {
    Linear linear{weight.shape.at(0), weight.shape.at(1), read(weight, dtype), {}};
    if (!bias.sources.empty()) linear.bias = read(bias, at::kFloat);
    return ops_.pack(std::move(linear));
  }
  Linear matrix(const Parameter& weight, const Parameter& bias) { return matrix(weight, bias, options_.dtype); }

 private:
  at::Tensor read(const Parameter& parameter, at::ScalarType dtype) {
    throw_if_stopped();
    at::Tensor target = at::empty(parameter.shape, dtype);
    int64_t row = 0;
    for (const std::string& name : parameter.sources) {
      const TensorView& source = checkpoint_.tensor(name);
      require_finite(source);
      at::Tensor rows = target.narrow(0, row, source.shape.at(0));
      rows.copy_(wrap(source));
      // A narrower type may round a large value to infinity.
      const bool narrower = dtype != at::kFloat && dtype != scalar_type(source.dtype, name);
      if (narrower && first_non_finite(dtype == at::kHalf ? DType::F16 : DType::BF16, bytes_of(rows))) {
        fail(ExitCode::kCheckpoint, cat("tensor ", name), checkpoint_.dir().string(),
             cat("values within the range of ", dtype == at::kHalf ? "float16" : "bfloat16"),
             "a larger one; use a wider --dtype");
      }
      row += source.shape.at(0);
      checkpoint_.drop_pages(name);
      progress_.advance(static_cast<int64_t>(source.bytes.size()));
    }
    return target;
  }

  void require_finite(const TensorView& source) const {
    if (const auto bad = first_non_finite(source)) {
      fail(ExitCode::kCheckpoint, cat("tensor ", source.name), checkpoint_.dir().string(), "finite numbers",
           cat("NaN or infinity at element ", *bad));
    }
  }

  // A tensor over the mapped bytes, or over a copy where the file does not align them.
  static at::Tensor wrap(const TensorView& source) {
    const at::ScalarType type = scalar_type(source.dtype, source.name);
    const auto address = reinterpret_cast<uintptr_t>(source.bytes.data());
    if (address % c10::elementSize(type) == 0) {
      return at::from_blob(const_cast<std::byte*>(source.bytes.data()), source.shape, type);
    }
    at::Tensor copy = at::empty(source.shape, type);
    std::memcpy(copy.mutable_data_ptr(), source.bytes.data(), source.bytes.size());
    return copy;
  }

  const Checkpoint& checkpoint_;
  const DeviceOps& ops_;
  LoadOptions options_;
  Progress progress_;
};

template <class Visit>
void for_each_block_tensor(const BlockWeights& block, Visit visit) {
  for (const Norm* norm : {&block.norm_mlstm, &block.multihead_norm, &block.norm_ffn}) {
    visit(norm->weight);
    visit(norm->bias);
  }
  for (const Linear* linear : {&block.qkvo, &block.gates, &block.out_proj, &block.ffn_gate_up, &block.ffn_down}) {
    visit(linear->weight);
    visit(linear->bias);
  }
}

uint64_t nbytes(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.nbytes() : 0;
}

}  // namespace

ModelDims dims_of(const ModelConfig& config) {
  ModelDims dims;
  dims.vocab_size = config.vocab_size;
  dims.embedding_dim = config.embedding_dim;
  dims.num_heads = config.num_heads;
  dims.head_dim_qk = config.head_dim_qk();
  dims.head_dim_v = config.head_dim_v();
  dims.ffn_dim = config.ffn_dim;
  dims.norm_eps = static_cast<float>(config.norm_eps);
  dims.cell_eps = static_cast<float>(config.cell_eps);
  dims.gate_soft_cap = static_cast<float>(config.gate_soft_cap.value_or(0));
  dims.logit_soft_cap = static_cast<float>(config.output_logit_soft_cap.value_or(0));
  return dims;
}

Weights load_weights(const Checkpoint& checkpoint, const CheckpointLayout& layout, const DeviceOps& ops,
                     const LoadOptions& options) {
  require_complete(layout, checkpoint.dir().string());
  Loader load(checkpoint, ops, options);
  Weights weights;
  weights.embedding = load.table(layout.embedding);
  for (const BlockParameters& p : layout.blocks) {
    BlockWeights block;
    block.norm_mlstm = load.norm(p.norm_mlstm, p.norm_mlstm_bias);
    block.qkvo = load.matrix(p.qkvo, p.qkvo_bias);
    block.gates = load.matrix(p.gates, p.gates_bias, at::kFloat);
    block.multihead_norm = load.norm(p.multihead_norm, p.multihead_norm_bias);
    block.out_proj = load.matrix(p.out_proj, p.out_proj_bias);
    block.norm_ffn = load.norm(p.norm_ffn, p.norm_ffn_bias);
    block.ffn_gate_up = load.matrix(p.ffn_gate_up, p.ffn_gate_up_bias);
    block.ffn_down = load.matrix(p.ffn_down, p.ffn_down_bias);
    weights.blocks.push_back(std::move(block));
  }
  weights.out_norm = load.norm(layout.out_norm, layout.out_norm_bias);
  if (layout.head_is_embedding) {
    weights.head = ops.pack({layout.config.vocab_size, layout.config.embedding_dim, weights.embedding, {}});
  } else {
    weights.head = load.matrix(layout.head, {});
  }
  return weights;
}

Weights random_weights(const ModelDims& dims, int64_t num_blocks, const DeviceOps& ops, at::ScalarType dtype,
                       uint64_t seed) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  begin_phase(RunPhase::kLoad, 0);
  const auto matrix = [&](int64_t out, int64_t in, at::ScalarType type) {
    throw_if_stopped();
    at::Tensor values = at::empty({out, in}, at::kFloat);
    values.normal_(0, 1.0 / std::sqrt(static_cast<double>(in)), generator);
    return Linear{out, in, values.to(type), {}};
  };
  const auto norm = [&](int64_t features) { return Norm{ops.place(at::ones({features}, at::kFloat)), {}}; };

  Weights weights;
  weights.embedding = ops.place(matrix(dims.vocab_size, dims.embedding_dim, dtype).weight);
  for (int64_t b = 0; b < num_blocks; ++b) {
    BlockWeights block;
    block.norm_mlstm = norm(dims.embedding_dim);
    block.qkvo = ops.pack(matrix(dims.qkvo_dim(), dims.embedding_dim, dtype));
    Linear gates = matrix(2 * dims.num_heads, dims.embedding_dim, at::kFloat);
    // Forget gates near 1 and small input gates, as trained models have them.
    gates.bias = at::cat({at::full({dims.num_heads}, -2.0F), at::full({dims.num_heads}, 4.0F)});
    block.gates = ops.pack(std::move(gates));
    block.multihead_norm = norm(dims.v_dim());
    block.out_proj = ops.pack(matrix(dims.embedding_dim, dims.v_dim(), dtype));
    block.norm_ffn = norm(dims.embedding_dim);
    block.ffn_gate_up = ops.pack(matrix(2 * dims.ffn_dim, dims.embedding_dim, dtype));
    block.ffn_down = ops.pack(matrix(dims.embedding_dim, dims.ffn_dim, dtype));
    weights.blocks.push_back(std::move(block));
  }
  weights.out_norm = norm(dims.embedding_dim);
  weights.head = ops.pack(matrix(dims.vocab_size, dims.embedding_dim, dtype));
  return weights;
}

uint64_t bytes_read_per_token(const Weights& weights) {
  uint64_t total = nbytes(weights.out_norm.weight) + nbytes(weights.out_norm.bias) + nbytes(weights.head.weight);
  for (const BlockWeights& block : weights.blocks) {
    for_each_block_tensor(block, [&](const at::Tensor& tensor) { total += nbytes(tensor); });
  }
  return total;
}

uint64_t total_bytes(const Weights& weights) {
  const bool tied = weights.head.weight.is_alias_of(weights.embedding);
  return bytes_read_per_token(weights) + (tied ? 0 : nbytes(weights.embedding));
}

}  // namespace xlstm
