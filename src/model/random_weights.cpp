#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "src/model/empty_linear.h"
#include "src/model/float_types.h"
#include "xlstm/core/progress.h"
#include "xlstm/core/stop.h"
#include "xlstm/io/half.h"
#include "xlstm/model/load_weights.h"

namespace xlstm {
namespace {

// SplitMix64: a counter through a mixing function. Every row begins a sequence of its own, so that rows can be drawn on
// any thread.
class Bits {
 public:
  explicit Bits(uint64_t seed) : state_(mix(seed)) {}

  uint64_t next() { return mix(state_ += 0x9e3779b97f4a7c15U); }

 private:
  static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }

  uint64_t state_;
};

// The sum of four uniform numbers of 16 bits, near enough to a normal distribution: mean 0, variance 1.
float draw_normal(Bits& bits) {
  constexpr float kMean = 2 * 65535.0F;
  constexpr float kDeviation = 37837.2F;  // √(4 · 65536² / 12)
  const uint64_t b = bits.next();
  const uint64_t sum = (b & 0xffff) + (b >> 16 & 0xffff) + (b >> 32 & 0xffff) + (b >> 48);
  return (static_cast<float>(sum) - kMean) / kDeviation;
}

void fill_bytes(uint8_t* bytes, int64_t count, Bits& bits) {
  for (int64_t i = 0; i < count; i += 8) {
    const uint64_t drawn = bits.next();
    const int64_t end = std::min(count, i + 8);
    for (int64_t j = i; j < end; ++j) bytes[j] = static_cast<uint8_t>(drawn >> (8 * (j - i)));
  }
}

class Drawer {
 public:
  Drawer(const RandomModel& model, const DeviceOps& ops, const LoadOptions& options)
      : seed_(model.seed),
        ops_(ops),
        options_(options),
        progress_(RunPhase::kLoad, "drawing weights", model.num_blocks + 2, options.progress) {}

  void part_done() { progress_.advance(1); }

  Norm norm(int64_t features) const { return {ops_.place(at::ones({features}, at::kFloat)), {}}; }

  // Uniform codes, or about normal floats: elements of variance 1 / in.
  Linear canonical(const MatrixFormat& format, int64_t out, int64_t in) {
    throw_if_stopped();
    const uint64_t tensor = seed_ * 0x100000001b3U + ++tensors_;
    Linear linear = empty_linear(format, out, in);
    options_.pool.parallel_for(out, 1, [&](int64_t begin, int64_t end, int) {
      std::vector<float> values(is_quantized(format.format) ? 0 : static_cast<size_t>(in));
      for (int64_t row = begin; row < end; ++row) {
        Bits bits((tensor << 32) + static_cast<uint64_t>(row));
        if (is_quantized(format.format)) {
          draw_codes(linear, row, bits);
        } else {
          draw_floats(linear, row, values, bits);
        }
      }
    });
    return linear;
  }

  Linear matrix(int64_t out, int64_t in, RowOrder order = RowOrder::kPlain) {
    return ops_.pack(canonical(options_.formats.matrices, out, in), order);
  }

 private:
  static void draw_floats(const Linear& linear, int64_t row, std::vector<float>& values, Bits& bits) {
    const float deviation = 1 / std::sqrt(static_cast<float>(linear.in));
    for (float& value : values) value = deviation * draw_normal(bits);
    const auto size = static_cast<size_t>(row_bytes(linear.format, linear.in));
    auto* const out = static_cast<std::byte*>(linear.weight.mutable_data_ptr()) + static_cast<size_t>(row) * size;
    from_float32(float_type(linear.format).stored, values, {out, size});
  }

  static void draw_codes(const Linear& linear, int64_t row, Bits& bits) {
    const QuantizedRows target = rows_of(linear, row, 1);
    const bool int4 = linear.format == WeightFormat::kInt4;
    const int64_t bytes = row_bytes(linear.format, linear.in);
    fill_bytes(target.codes, bytes, bits);
    if (int4 && linear.in % 2 == 1) target.codes[bytes - 1] &= 15;  // padding
    // Of uniform codes from 0 to 15, and from -128 to 127.
    const float code_deviation = int4 ? 4.61F : 73.9F;
    const float scale = 1 / (code_deviation * std::sqrt(static_cast<float>(linear.in)));
    for (int64_t g = 0; g < linear.scale.size(1); ++g) {
      const uint64_t drawn = bits.next();
      target.scale[g] = float_to_f16(scale * (0.75F + static_cast<float>(drawn & 0xff) / 512.0F));
      if (int4) target.zero[g] = static_cast<uint8_t>(7 + (drawn >> 8 & 1));
    }
  }

  uint64_t seed_;
  const DeviceOps& ops_;
  const LoadOptions& options_;
  Progress progress_;
  uint64_t tensors_ = 0;
};

}  // namespace

Weights random_weights(const RandomModel& model, const DeviceOps& ops, const LoadOptions& options) {
  const ModelDims& dims = model.dims;
  const int64_t e = dims.embedding_dim;
  Drawer draw(model, ops, options);
  Weights weights;
  weights.embedding = ops.place(draw.canonical({options.formats.embedding, 0}, dims.vocab_size, e).weight);
  draw.part_done();
  for (int64_t b = 0; b < model.num_blocks; ++b) {
    BlockWeights block;
    block.norm_mlstm = draw.norm(e);
    block.qkvo = draw.matrix(dims.qkvo_dim(), e);
    Linear gates = draw.canonical({}, 2 * dims.num_heads, e);
    // Forget gates near 1 and small input gates, as trained models have them.
    gates.bias = at::cat({at::full({dims.num_heads}, -2.0F), at::full({dims.num_heads}, 4.0F)});
    block.gates = ops.pack(std::move(gates));
    block.multihead_norm = draw.norm(dims.v_dim());
    block.out_proj = draw.matrix(e, dims.v_dim());
    block.norm_ffn = draw.norm(e);
    block.ffn_gate_up = draw.matrix(2 * dims.ffn_dim, e, RowOrder::kGateUp);
    block.ffn_down = draw.matrix(e, dims.ffn_dim);
    weights.blocks.push_back(std::move(block));
    draw.part_done();
  }
  weights.out_norm = draw.norm(e);
  weights.head = ops.pack(draw.canonical(options.formats.head, dims.vocab_size, e));
  return weights;
}

}  // namespace xlstm
