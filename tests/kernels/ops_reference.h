// The operations around the cell in double precision, written as plainly as possible: what the CPU's are compared with.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/cpu/panel_kernels.h"
#include "kernels/cpu/row_ops.h"
#include "kernels/model_dims.h"
#include "kernels/native/dequantize.h"
#include "kernels/weights.h"
#include "tests/kernels/rounded_input.h"

namespace xlstm::test {

using Row = std::vector<double>;
using FloatRow = std::vector<float>;

inline FloatRow float_row(const at::Tensor& matrix, int64_t row) {
  const at::Tensor values = matrix.select(0, row).to(at::kFloat).contiguous();
  return {static_cast<const float*>(values.const_data_ptr()),
          static_cast<const float*>(values.const_data_ptr()) + values.numel()};
}

inline Row row_of(const at::Tensor& matrix, int64_t row) {
  const FloatRow values = float_row(matrix, row);
  return {values.begin(), values.end()};
}

inline Row vector_of(const at::Tensor& vector) {
  return row_of(vector.unsqueeze(0), 0);
}

inline double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}
inline double soft_cap(double x, double cap) {
  return cap == 0 ? x : cap * std::tanh(x / cap);
}

// A value, and the sum of the magnitudes it was formed from, to which rounding errors are proportional.
struct Value {
  double value = 0;
  double size = 0;
};

// x · Wᵀ + b of a canonical matrix, with x rounded as the instruction set in use rounds it; the weights are widened
// once, for all rows of a test.
class Multiply {
 public:
  explicit Multiply(const Linear& linear)
      : out_(static_cast<size_t>(linear.out)),
        input_(cpu::pick_panel_kernel({linear.format, linear.out, linear.in, linear.group}).input),
        weight_(vector_of(dequantize(linear).reshape({-1}))),
        bias_(linear.bias.defined() ? vector_of(linear.bias) : Row(out_, 0.0)) {}

  std::vector<Value> operator()(const FloatRow& row) const {
    const Row x = rounded_input(input_, row.data(), static_cast<int64_t>(row.size()));
    std::vector<Value> y(out_);
    for (size_t i = 0; i < out_; ++i) {
      y[i] = {bias_[i], std::abs(bias_[i])};
      for (size_t k = 0; k < x.size(); ++k) {
        const double term = x[k] * weight_[i * x.size() + k];
        y[i].value += term;
        y[i].size += std::abs(term);
      }
    }
    return y;
  }

 private:
  size_t out_;
  cpu::InputKind input_;
  Row weight_;
  Row bias_;
};

// Rounding errors of a sum of n terms grow like √n times its magnitude.
inline void expect_values(const FloatRow& actual, const std::vector<Value>& expected, int64_t terms) {
  const double factor = std::ldexp(16 + 4 * std::sqrt(static_cast<double>(terms)), -24);
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i].value, factor * expected[i].size + 1e-12) << "column " << i;
  }
}

inline const float* data_or_null(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<const float*>(tensor.const_data_ptr()) : nullptr;
}

// The norms as the kernels compute them, compared with their formulas: the last bit can decide what an input of a
// product is rounded to.
inline FloatRow rms_norm(const Norm& norm, const FloatRow& x, float eps) {
  const auto count = static_cast<int64_t>(x.size());
  FloatRow out(x.size());
  cpu::rms_norm({x.data(), static_cast<const float*>(norm.weight.const_data_ptr()), data_or_null(norm.bias), count, eps,
                 out.data()});
  const Row weight = vector_of(norm.weight);
  const Row bias = norm.bias.defined() ? vector_of(norm.bias) : Row(x.size(), 0.0);
  double squares = 0;
  for (const float value : x) squares += static_cast<double>(value) * static_cast<double>(value);
  const double scale = 1 / std::sqrt(squares / static_cast<double>(count) + static_cast<double>(eps));
  std::vector<Value> expected;
  for (size_t i = 0; i < x.size(); ++i) {
    const double term = static_cast<double>(x[i]) * scale * weight[i];
    expected.push_back({term + bias[i], std::abs(term) + std::abs(bias[i])});
  }
  expect_values(out, expected, count);
  return out;
}

inline FloatRow gated_head_norm(const Norm& norm, const FloatRow& h, const FloatRow& o, const ModelDims& dims) {
  FloatRow out(h.size());
  cpu::gated_head_norm({h.data(), o.data(), static_cast<const float*>(norm.weight.const_data_ptr()),
                        data_or_null(norm.bias), dims.num_heads, dims.head_dim_v, dims.norm_eps, out.data()});
  const Row weight = vector_of(norm.weight);
  const Row bias = norm.bias.defined() ? vector_of(norm.bias) : Row(h.size(), 0.0);
  const auto size = static_cast<size_t>(dims.head_dim_v);
  std::vector<Value> expected(h.size());
  for (size_t begin = 0; begin < h.size(); begin += size) {
    Value mean;
    double variance = 0;
    for (size_t i = begin; i < begin + size; ++i) {
      mean.value += static_cast<double>(h[i]) / static_cast<double>(size);
      mean.size += std::abs(static_cast<double>(h[i])) / static_cast<double>(size);
    }
    for (size_t i = begin; i < begin + size; ++i) {
      variance += std::pow(static_cast<double>(h[i]) - mean.value, 2) / static_cast<double>(size);
    }
    const double scale = 1 / std::sqrt(variance + static_cast<double>(dims.norm_eps));
    for (size_t i = begin; i < begin + size; ++i) {
      const auto value = static_cast<double>(h[i]);
      const double gate = sigmoid(static_cast<double>(o[i]));
      expected[i] = {((value - mean.value) * scale * weight[i] + bias[i]) * gate,
                     ((std::abs(value) + mean.size) * scale * std::abs(weight[i]) + std::abs(bias[i])) * gate};
    }
  }
  expect_values(out, expected, dims.head_dim_v);
  return out;
}

}  // namespace xlstm::test
