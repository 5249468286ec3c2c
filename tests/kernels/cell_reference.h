// The cell's recurrence in double precision, and the comparison of a kernel's results with it.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cell.h"
#include "kernels/model_dims.h"
#include "xlstm/core/str.h"

namespace xlstm::test {

// One head. Beside each value runs the sum of the magnitudes it was formed from: rounding errors are proportional to
// that.
struct Reference {
  Reference(const ModelDims& dims, const LayerState& state, int64_t slot, int64_t head)
      : dk(static_cast<size_t>(dims.head_dim_qk)), dv(static_cast<size_t>(dims.head_dim_v)), eps(dims.cell_eps) {
    c = values(state.c[slot][head]);
    n = values(state.n[slot][head]);
    m = state.m[slot][head].item<double>();
    for (const double x : c) c_size.push_back(std::abs(x));
    for (const double x : n) n_size.push_back(std::abs(x));
  }

  static std::vector<double> values(const at::Tensor& tensor) {
    const at::Tensor flat = tensor.to(at::kDouble).contiguous();
    return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
  }

  void step(const std::vector<double>& q, const std::vector<double>& k, const std::vector<double>& v, double i,
            double f) {
    const double log_forget = std::min(f, 0.0) - std::log1p(std::exp(-std::abs(f)));
    const double m_next = std::max(log_forget + m, i);
    const double forget = std::exp(log_forget + m - m_next);
    const double input = std::exp(i - m_next);
    m = m_next;
    h.assign(dv, 0.0);
    h_size.assign(dv, 0.0);
    double dot = 0;
    double dot_size = 0;
    for (size_t a = 0; a < dk; ++a) {
      const double qs = q[a] / std::sqrt(static_cast<double>(dk));
      n[a] = forget * n[a] + input * k[a];
      n_size[a] = forget * n_size[a] + input * std::abs(k[a]);
      dot += qs * n[a];
      dot_size += std::abs(qs) * n_size[a];
      for (size_t d = 0; d < dv; ++d) {
        const size_t at = a * dv + d;
        c[at] = forget * c[at] + input * k[a] * v[d];
        c_size[at] = forget * c_size[at] + input * std::abs(k[a] * v[d]);
        h[d] += qs * c[at];
        h_size[d] += std::abs(qs) * c_size[at];
      }
    }
    const double denominator = std::max(std::abs(dot), std::exp(-m)) + eps;
    for (size_t d = 0; d < dv; ++d) {
      h[d] /= denominator;
      h_size[d] = (h_size[d] + std::abs(h[d]) * (dot_size + std::exp(-m))) / denominator;
    }
  }

  size_t dk, dv;
  double eps;
  std::vector<double> c, c_size, n, n_size;
  double m = 0;
  std::vector<double> h, h_size;
};

// The relative size of a rounding to bfloat16: half a unit in the last of 8 significant bits.
constexpr double kBfloatRounding = 1.01 / 256;

// Of a state of that type, a step.
inline double state_rounding(at::ScalarType dtype) {
  return dtype == at::kFloat ? 0 : kBfloatRounding;
}

// Runs the reference over all spans and compares h of every row and the states with what a kernel made of the same
// input. `state_unit` is the relative size of the state's roundings.
inline void expect_cell(const ModelDims& dims, const Activations& act, const LayerState& before,
                        const LayerState& after, const std::vector<Span>& spans, double state_unit) {
  for (const Span& span : spans) {
    for (int64_t head = 0; head < dims.num_heads; ++head) {
      SCOPED_TRACE(cat("slot ", span.slot, " head ", head));
      Reference reference(dims, before, span.slot, head);
      const at::Tensor q = act.q.narrow(1, head * dims.head_dim_qk, dims.head_dim_qk);
      const at::Tensor k = act.k.narrow(1, head * dims.head_dim_qk, dims.head_dim_qk);
      const at::Tensor v = act.v.narrow(1, head * dims.head_dim_v, dims.head_dim_v);
      const at::Tensor h = act.h.narrow(1, head * dims.head_dim_v, dims.head_dim_v);
      // Exponents are of size 16 at most, so each token may shift older contributions by that many roundings.
      const auto roundings = static_cast<double>(64 + 16 * span.rows + dims.head_dim_qk);
      const double unit = roundings * std::ldexp(1.0, -24) + state_unit;
      for (int64_t row = span.first_row; row < span.first_row + span.rows; ++row) {
        reference.step(Reference::values(q[row]), Reference::values(k[row]), Reference::values(v[row]),
                       act.gates[row][head].item<double>(), act.gates[row][dims.num_heads + head].item<double>());
        const std::vector<double> actual = Reference::values(h[row]);
        for (size_t d = 0; d < actual.size(); ++d) {
          ASSERT_NEAR(actual[d], reference.h[d], unit * reference.h_size[d] + 1e-30) << "row " << row << " d " << d;
        }
      }
      if (span.rows == 0) continue;
      const std::vector<double> c = Reference::values(after.c[span.slot][head]);
      const std::vector<double> n = Reference::values(after.n[span.slot][head]);
      const double m = after.m[span.slot][head].item<double>();
      ASSERT_NEAR(m, reference.m, roundings * std::ldexp(1.0, -24) * (1 + std::abs(reference.m)));
      for (size_t i = 0; i < c.size(); ++i) {
        ASSERT_NEAR(c[i], reference.c[i], unit * reference.c_size[i] + 1e-30) << "C at " << i;
      }
      for (size_t i = 0; i < n.size(); ++i) {
        ASSERT_NEAR(n[i], reference.n[i], unit * reference.n_size[i] + 1e-30) << "n at " << i;
      }
    }
  }
}

}  // namespace xlstm::test
