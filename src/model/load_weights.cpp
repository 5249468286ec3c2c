#include "xlstm/model/load_weights.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/element_type.h"
#include "src/model/empty_linear.h"
#include "src/model/float_types.h"
#include "src/model/row_blocks.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/progress.h"
#include "xlstm/core/run_status.h"
#include "xlstm/core/stop.h"
#include "xlstm/core/str.h"
#include "xlstm/io/half.h"
#include "xlstm/model/quantize.h"

namespace xlstm {
namespace {

const FloatType& type_of(const TensorView& source) {
  const FloatType* type = find_float_type(&FloatType::stored, source.dtype);
  if (type == nullptr) fail(ExitCode::kCheckpoint, "dtype", source.name, "F32, BF16 or F16", dtype_name(source.dtype));
  return *type;
}

std::byte* row_pointer(const at::Tensor& contiguous, int64_t row) {
  return static_cast<std::byte*>(contiguous.mutable_data_ptr()) +
         row * contiguous.stride(0) * static_cast<int64_t>(contiguous.element_size());
}

// Scales and zero points of a stored matrix, copied because the file may not align them, and its codes in the file.
struct StoredMatrix {
  std::vector<uint16_t> scale;
  std::vector<uint8_t> zero;
  ConstQuantizedRows rows;
};

// The table of a tied model is read a second time to make a head of codes.
int64_t bytes_to_read(const Checkpoint& checkpoint, const CheckpointLayout& layout, const LoadOptions& options) {
  auto total = static_cast<int64_t>(checkpoint.total_bytes());
  if (layout.head_is_embedding && is_quantized(options.formats.head.format)) {
    for (const std::string& name : layout.embedding.sources) {
      total += static_cast<int64_t>(checkpoint.tensor(name).bytes.size());
    }
  }
  return total;
}

// Reads logical parameters into tensors of their final format.
class Loader {
 public:
  Loader(const Checkpoint& checkpoint, const CheckpointLayout& layout, const DeviceOps& ops, const LoadOptions& options)
      : checkpoint_(checkpoint),
        ops_(ops),
        options_(options),
        progress_(RunPhase::kLoad, "loading", bytes_to_read(checkpoint, layout, options), options.progress) {}

  // A vector: float32, placed on the device. Undefined when the parameter is absent.
  at::Tensor vector(const Parameter& parameter) {
    return parameter.present() ? ops_.place(floats(parameter, WeightFormat::kFloat32)) : at::Tensor();
  }

  at::Tensor table(const Parameter& parameter) { return ops_.place(floats(parameter, options_.formats.embedding)); }

  Norm norm(const Parameter& weight, const Parameter& bias) { return {vector(weight), vector(bias)}; }

  Linear gates(const Parameter& weight, const Parameter& bias) { return pack(weight, bias, {}, RowOrder::kPlain); }

  Linear matrix(const Parameter& weight, const Parameter& bias, RowOrder order = RowOrder::kPlain) {
    return pack(weight, bias, options_.formats.matrices, order);
  }

  // `table`: the loaded embedding, whose memory a tied head of floats shares where the device multiplies with it as it
  // is.
  Linear head(const CheckpointLayout& layout, const at::Tensor& table) {
    const MatrixFormat& format = options_.formats.head;
    if (!layout.head_is_embedding) return pack(layout.head, {}, format, RowOrder::kPlain);
    if (is_quantized(format.format)) return pack(layout.embedding, {}, format, RowOrder::kPlain);
    Linear linear;
    linear.out = table.size(0);
    linear.in = table.size(1);
    linear.format = format.format;
    linear.weight = table;
    return ops_.pack(std::move(linear));
  }

 private:
  Linear pack(const Parameter& weight, const Parameter& bias, const MatrixFormat& format, RowOrder order) {
    Linear linear = empty_linear(format, weight.shape.at(0), weight.shape.at(1));
    if (is_quantized(format.format)) {
      fill_codes(weight, linear);
    } else {
      fill_floats(weight, linear.weight, format.format);
    }
    if (bias.present()) linear.bias = floats(bias, WeightFormat::kFloat32);
    return ops_.pack(std::move(linear), order);
  }

  at::Tensor floats(const Parameter& parameter, WeightFormat format) {
    at::Tensor target = at::empty(parameter.shape, element_type(format));
    fill_floats(parameter, target, format);
    return target;
  }

  // Calls fill(source tensor, its first row in the parameter) for every source.
  template <class Fill>
  void for_each_source(const Parameter& parameter, Fill fill) {
    int64_t row = 0;
    for (const std::string& name : parameter.sources) {
      throw_if_stopped();
      const TensorView& source = checkpoint_.tensor(name);
      fill(source, row);
      row += source.shape.at(0);
      checkpoint_.drop_pages(name);
    }
  }

  void fill_floats(const Parameter& parameter, const at::Tensor& target, WeightFormat format) {
    for_each_source(parameter, [&](const TensorView& source, int64_t row) {
      at::Tensor rows = target.narrow(0, row, source.shape.at(0));
      const bool narrower =
          format != WeightFormat::kFloat32 && (parameter.quantized || source.dtype != float_type(format).stored);
      if (parameter.quantized) {
        const StoredMatrix stored = stored_matrix(source, *parameter.quantized, parameter.shape.at(1));
        for_each_row_block(source, progress_, [&](int64_t first, int64_t count, std::span<const std::byte>) {
          dequantize(stored, {first, count}, rows, format);
        });
      } else {
        require_finite(source);
        rows.copy_(wrap(source));
        progress_.advance(static_cast<int64_t>(source.bytes.size()));
      }
      // A narrower type may round a large value to infinity.
      const std::span<const std::byte> bytes(row_pointer(rows, 0), rows.nbytes());
      if (narrower && first_non_finite(float_type(format).stored, bytes)) {
        fail(ExitCode::kCheckpoint, cat("tensor ", source.name), checkpoint_.dir().string(),
             cat("values within the range of ", float_type(format).name), "a larger one; use a wider --dtype");
      }
    });
  }

  void fill_codes(const Parameter& parameter, const Linear& target) {
    for_each_source(parameter, [&](const TensorView& source, int64_t row) {
      if (parameter.quantized) {
        const StoredMatrix stored = stored_matrix(source, *parameter.quantized, target.in);
        copy_codes(source, stored, rows_of(target, row, source.shape.at(0)));
        return;
      }
      (void)type_of(source);
      for_each_row_block(source, progress_, [&](int64_t first, int64_t count, std::span<const std::byte> bytes) {
        (void)quantize_rows({source.dtype, count, target.in, bytes.data()}, rows_of(target, row + first, count),
                            options_.formats.scheme, options_.pool,
                            {cat("tensor ", source.name), checkpoint_.dir().string(), first});
      });
    });
  }

  void copy_codes(const TensorView& source, const StoredMatrix& stored, const QuantizedRows& target) {
    const auto bytes = static_cast<int64_t>(source.bytes.size()) / std::max<int64_t>(1, target.rows);
    for_each_row_block(source, progress_, [&](int64_t first, int64_t count, std::span<const std::byte>) {
      options_.pool.parallel_for(count, 1, [&](int64_t begin, int64_t end, int) {
        std::memcpy(target.codes + (first + begin) * bytes, stored.rows.codes + (first + begin) * bytes,
                    static_cast<size_t>((end - begin) * bytes));
      });
    });
    std::copy(stored.scale.begin(), stored.scale.end(), target.scale);
    if (target.zero != nullptr) std::copy(stored.zero.begin(), stored.zero.end(), target.zero);
  }

  struct RowRange {
    int64_t first;
    int64_t count;
  };
  void dequantize(const StoredMatrix& stored, const RowRange& range, const at::Tensor& target, WeightFormat format) {
    const int64_t columns = stored.rows.columns;
    std::byte* const out = row_pointer(target, range.first);
    const auto row_size = static_cast<size_t>(row_bytes(format, columns));
    options_.pool.parallel_for(range.count, 1, [&](int64_t begin, int64_t end, int) {
      std::vector<float> values(static_cast<size_t>(columns));
      for (int64_t row = begin; row < end; ++row) {
        dequantize_row(stored.rows, range.first + row, values);
        from_float32(float_type(format).stored, values, {out + static_cast<size_t>(row) * row_size, row_size});
      }
    });
  }

  StoredMatrix stored_matrix(const TensorView& codes, const MatrixFormat& format, int64_t columns) {
    StoredMatrix stored;
    const TensorView& scale = checkpoint_.tensor(scale_name(codes.name));
    stored.scale.resize(scale.bytes.size() / sizeof(uint16_t));
    std::memcpy(stored.scale.data(), scale.bytes.data(), scale.bytes.size());
    progress_.advance(static_cast<int64_t>(scale.bytes.size()));
    if (format.format == WeightFormat::kInt4) {
      const TensorView& zero = checkpoint_.tensor(zero_name(codes.name));
      stored.zero.resize(zero.bytes.size());
      std::memcpy(stored.zero.data(), zero.bytes.data(), zero.bytes.size());
      progress_.advance(static_cast<int64_t>(zero.bytes.size()));
    }
    stored.rows = {format,
                   codes.shape.at(0),
                   columns,
                   reinterpret_cast<const uint8_t*>(codes.bytes.data()),
                   stored.scale.data(),
                   stored.zero.data()};
    if (const char* damage = damaged_scales(stored.rows)) {
      fail(ExitCode::kCheckpoint, cat("tensor ", codes.name), checkpoint_.dir().string(),
           "finite scales and zero points from 0 to 15", damage);
    }
    return stored;
  }

  void require_finite(const TensorView& source) const {
    if (const auto bad = first_non_finite(source)) {
      fail(ExitCode::kCheckpoint, cat("tensor ", source.name), checkpoint_.dir().string(), "finite numbers",
           cat("NaN or infinity at element ", *bad));
    }
  }

  // A tensor over the mapped bytes, or over a copy where the file does not align them.
  static at::Tensor wrap(const TensorView& source) {
    const at::ScalarType type = element_type(type_of(source).format);
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
  const LoadOptions& options_;
  Progress progress_;
};

uint64_t nbytes(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.nbytes() : 0;
}

uint64_t nbytes(const Norm& norm) {
  return nbytes(norm.weight) + nbytes(norm.bias);
}

uint64_t nbytes(const Linear& linear) {
  return nbytes(linear.weight) + nbytes(linear.bias) + nbytes(linear.scale) + nbytes(linear.zero);
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
  Loader load(checkpoint, layout, ops, options);
  Weights weights;
  weights.embedding = load.table(layout.embedding);
  for (const BlockParameters& p : layout.blocks) {
    BlockWeights block;
    block.norm_mlstm = load.norm(p.norm_mlstm, p.norm_mlstm_bias);
    block.qkvo = load.matrix(p.qkvo, p.qkvo_bias);
    block.gates = load.gates(p.gates, p.gates_bias);
    block.multihead_norm = load.norm(p.multihead_norm, p.multihead_norm_bias);
    block.out_proj = load.matrix(p.out_proj, p.out_proj_bias);
    block.norm_ffn = load.norm(p.norm_ffn, p.norm_ffn_bias);
    block.ffn_gate_up = load.matrix(p.ffn_gate_up, p.ffn_gate_up_bias, RowOrder::kGateUp);
    block.ffn_down = load.matrix(p.ffn_down, p.ffn_down_bias);
    weights.blocks.push_back(std::move(block));
  }
  weights.out_norm = load.norm(layout.out_norm, layout.out_norm_bias);
  weights.head = load.head(layout, weights.embedding);
  return weights;
}

uint64_t bytes_read_per_token(const Weights& weights) {
  uint64_t total = nbytes(weights.out_norm) + nbytes(weights.head);
  for (const BlockWeights& block : weights.blocks) {
    for (const Norm* norm : {&block.norm_mlstm, &block.multihead_norm, &block.norm_ffn}) total += nbytes(*norm);
    for (const Linear* linear : {&block.qkvo, &block.gates, &block.out_proj, &block.ffn_gate_up, &block.ffn_down}) {
      total += nbytes(*linear);
    }
  }
  return total;
}

uint64_t total_bytes(const Weights& weights) {
  const bool tied = weights.head.weight.is_alias_of(weights.embedding);
  return bytes_read_per_token(weights) + (tied ? 0 : nbytes(weights.embedding));
}

}  // namespace xlstm
