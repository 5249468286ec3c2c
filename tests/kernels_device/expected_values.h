// The operations around the cell in double precision, with the errors that a device may make.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

#include "kernels/device_ops.h"
#include "kernels/model_dims.h"
#include "kernels/native/dequantize.h"
#include "kernels/weights.h"

namespace xlstm::test {

// What should come out, in float64, the sums of magnitudes it was formed from, to which rounding errors are
// proportional, and how much it may be off besides.
struct Values {
  at::Tensor value;
  at::Tensor size;
  at::Tensor slack;
};

// Rounding errors of a sum of n terms grow like √n times its magnitude.
inline at::Tensor error_of(const Values& values, int64_t terms) {
  return values.size * std::ldexp(16 + 4 * std::sqrt(static_cast<double>(terms)), -24) + values.slack;
}

inline at::Tensor wide(const at::Tensor& tensor) {
  return tensor.to(at::kDouble);
}

inline at::Tensor with_bias(const at::Tensor& values, const at::Tensor& bias) {
  return bias.defined() ? values + wide(bias) : values;
}

inline at::Tensor with_bias_size(const at::Tensor& values, const at::Tensor& bias) {
  return bias.defined() ? values.abs() + wide(bias).abs() : values.abs();
}

inline Values exactly(const at::Tensor& x) {
  return {wide(x), wide(x).abs(), at::zeros_like(wide(x))};
}

// To bfloat16. What is rounded may fall on either side where its own error, that of a sum of `terms`, reaches over the
// middle between two values.
inline Values rounded(const Values& x, int64_t terms) {
  const auto round = [](const at::Tensor& values) { return wide(values.to(at::kFloat).to(at::kBFloat16)); };
  const at::Tensor error = error_of(x, terms);
  const at::Tensor value = round(x.value);
  return {value, value.abs(), at::maximum(round(x.value + error) - value, value - round(x.value - error))};
}

// As the input of a product with weights of `format`.
inline Values rounded(const Values& x, int64_t terms, const DeviceOps& ops, WeightFormat format) {
  const InputRounding rounding = ops.input_rounding(format);
  if (rounding == InputRounding::kNone) return x;
  EXPECT_EQ(rounding, InputRounding::kBfloat16);
  return rounded(x, terms);
}

inline Values multiplied(const Linear& canonical, const Values& x, const DeviceOps& ops) {
  at::Tensor weights = dequantize(canonical);
  if (ops.product_rounding(canonical.format, x.value.size(0)).weights) weights = weights.to(at::kBFloat16);
  const at::Tensor w = wide(weights).t();
  return {with_bias(at::matmul(x.value, w), canonical.bias),
          with_bias_size(at::matmul(x.size, w.abs()), canonical.bias), at::matmul(x.slack, w.abs())};
}

inline Values rms_normed(const Norm& norm, const at::Tensor& x, double eps) {
  const at::Tensor y = wide(x) * at::rsqrt(wide(x).square().mean(-1, true) + eps) * wide(norm.weight);
  return {with_bias(y, norm.bias), with_bias_size(y, norm.bias), at::zeros_like(y)};
}

inline Values head_normed(const Norm& norm, const at::Tensor& h, const at::Tensor& o, const ModelDims& dims) {
  const at::Tensor values = wide(h).view({h.size(0), dims.num_heads, dims.head_dim_v});
  const at::Tensor centred = values - values.mean(-1, true);
  const at::Tensor scale = at::rsqrt(centred.square().mean(-1, true) + static_cast<double>(dims.norm_eps));
  const at::Tensor gate = at::sigmoid(wide(o));
  const at::Tensor y = (centred * scale).flatten(1) * wide(norm.weight);
  const at::Tensor size = ((values.abs() + values.abs().mean(-1, true)) * scale).flatten(1) * wide(norm.weight).abs();
  return {with_bias(y, norm.bias) * gate, with_bias_size(size, norm.bias) * gate, at::zeros_like(y)};
}

inline Values capped(const Values& x, double cap) {
  return cap > 0 ? Values{at::tanh(x.value / cap) * cap, x.size, x.slack} : x;
}

inline Values added(const Values& y, const at::Tensor& x) {
  return {y.value + wide(x), y.size + wide(x).abs(), y.slack};
}

// SiLU(gate) · up of what has the errors of sums of `terms`, as what is multiplied next; the slope of SiLU is at
// most 1.1.
inline Values gated(const Values& gate_up, int64_t terms) {
  const int64_t width = gate_up.value.size(1) / 2;
  const at::Tensor gate = gate_up.value.narrow(1, 0, width);
  const at::Tensor up = gate_up.value.narrow(1, width, width);
  const at::Tensor silu = gate * at::sigmoid(gate);
  const at::Tensor error = error_of(gate_up, terms);
  const at::Tensor value = silu * up;
  return {value, value.abs(), 1.1 * error.narrow(1, 0, width) * up.abs() + silu.abs() * error.narrow(1, width, width)};
}

inline void expect_values(const at::Tensor& actual, const Values& expected, int64_t terms) {
  ASSERT_EQ(actual.sizes(), expected.value.sizes());
  const at::Tensor excess = (wide(actual) - expected.value).abs() - error_of(expected, terms) - 1e-12;
  const at::Tensor bad = at::logical_not(excess <= 0);  // NaN too
  if (!bad.any().item<bool>()) return;
  const at::Tensor first = bad.nonzero()[0];
  const auto row = first[0].item<int64_t>();
  const auto column = first[1].item<int64_t>();
  FAIL() << bad.sum().item<int64_t>() << " of " << actual.numel() << " values differ, the first at row " << row
         << " column " << column << ": " << actual[row][column].item<float>() << " instead of "
         << expected.value[row][column].item<double>();
}

// What feed_forward adds to the residual stream.
inline Values fed_forward(const BlockWeights& block, const at::Tensor& x, const ModelDims& dims, const DeviceOps& ops) {
  const int64_t terms = dims.embedding_dim;
  const Values u = rms_normed(block.norm_ffn, x, static_cast<double>(dims.norm_eps));
  const Values input = rounded(u, terms, ops, block.ffn_gate_up.format);
  Values gate_up = multiplied(block.ffn_gate_up, input, ops);
  if (ops.product_rounding(block.ffn_gate_up.format, x.size(0)).results) {
    Linear without_bias = block.ffn_gate_up;
    without_bias.bias = at::Tensor();
    gate_up = rounded(multiplied(without_bias, input, ops), terms);
    gate_up.value = with_bias(gate_up.value, block.ffn_gate_up.bias);
    gate_up.size = with_bias_size(gate_up.size, block.ffn_gate_up.bias);
  }
  return multiplied(block.ffn_down, rounded(gated(gate_up, terms), 0, ops, block.ffn_down.format), ops);
}

// The logits of rows of x.
inline Values headed(const Weights& weights, const at::Tensor& x, const ModelDims& dims, const DeviceOps& ops) {
  const int64_t terms = dims.embedding_dim;
  const Values u = weights.out_norm.weight.defined()
                       ? rms_normed(weights.out_norm, x, static_cast<double>(dims.norm_eps))
                       : exactly(x);
  return capped(multiplied(weights.head, rounded(u, terms, ops, weights.head.format), ops),
                static_cast<double>(dims.logit_soft_cap));
}

}  // namespace xlstm::test
