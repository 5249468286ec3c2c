// Small models, activations and states with reproducible random values.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/activations.h"
#include "kernels/cell.h"
#include "kernels/model_dims.h"
#include "kernels/weights.h"

namespace xlstm::test {

// The format of canonical floats of a type.
inline WeightFormat format_of(at::ScalarType dtype) {
  return dtype == at::kFloat      ? WeightFormat::kFloat32
         : dtype == at::kBFloat16 ? WeightFormat::kBfloat16
                                  : WeightFormat::kFloat16;
}

// How a matrix is stored; group 0: one scale per row.
struct Format {
  WeightFormat weights = WeightFormat::kFloat32;
  int64_t group = 0;
};

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  // Normally distributed values, float32, then rounded to `dtype`.
  at::Tensor normal(at::IntArrayRef shape, double stddev, at::ScalarType dtype = at::kFloat) {
    std::normal_distribution<float> distribution(0.0F, static_cast<float>(stddev));
    at::Tensor tensor = at::empty(shape, at::kFloat);
    float* data = tensor.data_ptr<float>();
    for (int64_t i = 0; i < tensor.numel(); ++i) data[i] = distribution(engine_);
    return tensor.to(dtype);
  }

  Linear linear(int64_t out, int64_t in, bool bias, at::ScalarType dtype = at::kFloat) {
    const double stddev = 1.0 / std::sqrt(static_cast<double>(in));
    return {out, in, normal({out, in}, stddev, dtype), bias ? normal({out}, 0.5) : at::Tensor(), format_of(dtype)};
  }

  // The same in any format; int8 and int4 with codes over their whole ranges.
  Linear linear(int64_t out, int64_t in, bool bias, const Format& format) {
    switch (format.weights) {
      case WeightFormat::kFloat32: return linear(out, in, bias, at::kFloat);
      case WeightFormat::kBfloat16: return linear(out, in, bias, at::kBFloat16);
      case WeightFormat::kFloat16: return linear(out, in, bias, at::kHalf);
      default: break;
    }
    Linear matrix{out, in, {}, bias ? normal({out}, 0.5) : at::Tensor(), format.weights, format.group};
    if (matrix.group == 0) matrix.group = in;
    const bool int4 = format.weights == WeightFormat::kInt4;
    const int64_t groups = (in + matrix.group - 1) / matrix.group;
    const double step = (int4 ? 0.2 : 0.014) / std::sqrt(static_cast<double>(in));
    matrix.scale = normal({out, groups}, 0.2 * step).abs().add(step).to(at::kHalf);
    if (int4) {
      matrix.weight = codes({out, (in + 1) / 2}, 0, 255).to(at::kByte);
      matrix.zero = codes({out, groups}, 0, 15).to(at::kByte);
    } else {
      matrix.weight = codes({out, in}, -128, 127).to(at::kChar);
    }
    return matrix;
  }

  Norm norm(int64_t features, bool bias) {
    return {normal({features}, 0.5), bias ? normal({features}, 0.5) : at::Tensor()};
  }

  // `format`: a dtype or a Format.
  template <class F>
  BlockWeights block(const ModelDims& dims, bool bias, const F& format) {
    BlockWeights weights;
    weights.norm_mlstm = norm(dims.embedding_dim, bias);
    weights.qkvo = linear(dims.qkvo_dim(), dims.embedding_dim, bias, format);
    weights.gates = linear(2 * dims.num_heads, dims.embedding_dim, true);
    weights.multihead_norm = norm(dims.v_dim(), bias);
    weights.out_proj = linear(dims.embedding_dim, dims.v_dim(), bias, format);
    weights.norm_ffn = norm(dims.embedding_dim, bias);
    weights.ffn_gate_up = linear(2 * dims.ffn_dim, dims.embedding_dim, bias, format);
    weights.ffn_down = linear(dims.embedding_dim, dims.ffn_dim, bias, format);
    return weights;
  }

  Activations activations(const ModelDims& dims, int64_t rows) {
    Activations act;
    const int64_t qk = dims.qk_dim();
    const int64_t v = dims.v_dim();
    act.x = normal({rows, dims.embedding_dim}, 1.0);
    act.qkvo = normal({rows, dims.qkvo_dim()}, 1.0);
    act.q = act.qkvo.narrow(1, 0, qk);
    act.k = act.qkvo.narrow(1, qk, qk);
    act.v = act.qkvo.narrow(1, 2 * qk, v);
    act.o = act.qkvo.narrow(1, 2 * qk + v, v);
    act.gates = normal({rows, 2 * dims.num_heads}, 2.0);
    act.h = normal({rows, v}, 1.0);
    act.ffn = normal({rows, 2 * dims.ffn_dim}, 1.0);
    return act;
  }

  LayerState state(const ModelDims& dims, int64_t slots, at::ScalarType dtype = at::kFloat) {
    return {normal({slots, dims.num_heads, dims.head_dim_qk, dims.head_dim_v}, 0.5, dtype),
            normal({slots, dims.num_heads, dims.head_dim_qk}, 0.5, dtype), normal({slots, dims.num_heads}, 1.0)};
  }

 private:
  at::Tensor codes(at::IntArrayRef shape, int64_t lowest, int64_t highest) {
    std::uniform_int_distribution<int64_t> distribution(lowest, highest);
    at::Tensor tensor = at::empty(shape, at::kLong);
    auto* const data = tensor.data_ptr<int64_t>();
    for (int64_t i = 0; i < tensor.numel(); ++i) data[i] = distribution(engine_);
    return tensor;
  }

  std::mt19937_64 engine_;
};

inline Activations copy_of(const Activations& act, const ModelDims& dims) {
  Activations copy;
  const int64_t qk = dims.qk_dim();
  const int64_t v = dims.v_dim();
  copy.x = act.x.clone();
  copy.qkvo = act.qkvo.clone();
  copy.q = copy.qkvo.narrow(1, 0, qk);
  copy.k = copy.qkvo.narrow(1, qk, qk);
  copy.v = copy.qkvo.narrow(1, 2 * qk, v);
  copy.o = copy.qkvo.narrow(1, 2 * qk + v, v);
  copy.gates = act.gates.clone();
  copy.h = act.h.clone();
  copy.ffn = act.ffn.clone();
  return copy;
}

inline LayerState copy_of(const LayerState& state) {
  return {state.c.clone(), state.n.clone(), state.m.clone()};
}

// The same bits, so that NaN and signed zeros count as differences only if they differ.
inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.contiguous();
  const at::Tensor y = b.contiguous();
  return x.scalar_type() == y.scalar_type() && x.sizes() == y.sizes() &&
         (x.nbytes() == 0 || std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0);
}

}  // namespace xlstm::test
