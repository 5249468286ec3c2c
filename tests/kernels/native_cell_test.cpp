// The native kernels are the oracle of all others, so they are held against each other and against the plain
// recurrence in float64.

#include "kernels/native/native_cell.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/native/native_parallel.h"
#include "tests/kernels/random_tensors.h"

namespace xlstm {
namespace {

using test::Random;

ModelDims make_dims(int64_t heads, int64_t dk, int64_t dv) {
  ModelDims dims;
  dims.vocab_size = 11;
  dims.embedding_dim = 8;
  dims.num_heads = heads;
  dims.head_dim_qk = dk;
  dims.head_dim_v = dv;
  dims.ffn_dim = 12;
  return dims;
}

double relative(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.to(at::kDouble);
  const at::Tensor y = b.to(at::kDouble);
  return (x - y).norm().item<double>() / y.norm().item<double>();
}

// The recurrence of kernels/cell.h, token by token, in double; the state is updated.
std::vector<double> recurrence(const ModelDims& dims, const Activations& act, const Span& span, LayerState& state) {
  const int64_t dk = dims.head_dim_qk;
  const int64_t dv = dims.head_dim_v;
  std::vector<double> h;
  const at::Tensor q = act.q.to(at::kDouble), k = act.k.to(at::kDouble), v = act.v.to(at::kDouble);
  const at::Tensor gates = act.gates.to(at::kDouble);
  at::Tensor c = state.c[span.slot].to(at::kDouble).contiguous();
  at::Tensor n = state.n[span.slot].to(at::kDouble).contiguous();
  at::Tensor m = state.m[span.slot].to(at::kDouble).contiguous();
  const auto qa = q.accessor<double, 2>(), ka = k.accessor<double, 2>(), va = v.accessor<double, 2>();
  const auto ga = gates.accessor<double, 2>();
  auto ca = c.accessor<double, 3>();
  auto na = n.accessor<double, 2>();
  auto ma = m.accessor<double, 1>();
  for (int64_t t = span.first_row; t < span.first_row + span.rows; ++t) {
    for (int64_t head = 0; head < dims.num_heads; ++head) {
      const double i = ga[t][head];
      const double f = ga[t][dims.num_heads + head];
      const double lf = std::min(f, 0.0) - std::log1p(std::exp(-std::abs(f)));
      const double m_new = std::max(lf + ma[head], i);
      const double forget = std::exp(lf + ma[head] - m_new);
      const double input = std::exp(i - m_new);
      double dot = 0;
      std::vector<double> numerator(static_cast<size_t>(dv), 0.0);
      for (int64_t a = 0; a < dk; ++a) {
        const double qs = qa[t][head * dk + a] / std::sqrt(static_cast<double>(dk));
        na[head][a] = forget * na[head][a] + input * ka[t][head * dk + a];
        dot += qs * na[head][a];
        for (int64_t d = 0; d < dv; ++d) {
          ca[head][a][d] = forget * ca[head][a][d] + input * ka[t][head * dk + a] * va[t][head * dv + d];
          numerator[static_cast<size_t>(d)] += qs * ca[head][a][d];
        }
      }
      ma[head] = m_new;
      const double denominator = std::max(std::abs(dot), std::exp(-m_new)) + dims.cell_eps;
      for (const double value : numerator) h.push_back(value / denominator);
    }
  }
  state.c[span.slot].copy_(c);
  state.n[span.slot].copy_(n);
  state.m[span.slot].copy_(m);
  return h;
}

struct Case {
  int64_t heads, dk, dv, rows, chunk;
};

TEST(NativeCell, SequenceAndChunkwiseFollowTheRecurrence) {
  for (const Case& c : {Case{1, 1, 1, 1, 1}, Case{2, 4, 6, 17, 4}, Case{3, 5, 7, 40, 16}, Case{4, 32, 64, 130, 64},
                        Case{2, 16, 8, 33, 33}, Case{1, 8, 8, 20, 64}}) {
    SCOPED_TRACE(testing::Message() << c.heads << " heads " << c.dk << "x" << c.dv << " rows " << c.rows);
    const ModelDims dims = make_dims(c.heads, c.dk, c.dv);
    Random random(5);
    Activations act = random.activations(dims, c.rows + 3);
    const LayerState start = random.state(dims, 3);
    const Span span{/*slot=*/2, /*first_row=*/3, c.rows};
    LayerState expected_state = test::copy_of(start);
    const std::vector<double> expected = recurrence(dims, act, span, expected_state);
    const at::Tensor expected_h = at::tensor(expected, at::kDouble).view({c.rows, dims.v_dim()});

    for (const bool chunkwise : {false, true}) {
      LayerState state = test::copy_of(start);
      const auto kernel = chunkwise ? make_native_chunkwise(dims, c.chunk) : make_native_sequence(dims);
      kernel->run({act, state, std::span(&span, 1)});
      EXPECT_LT(relative(act.h.narrow(0, 3, c.rows), expected_h), 1e-4) << "chunkwise: " << chunkwise;
      EXPECT_LT(relative(state.c[2], expected_state.c[2]), 1e-5);
      EXPECT_LT(relative(state.n[2], expected_state.n[2]), 1e-5);
      EXPECT_LT(relative(state.m[2] + 100, expected_state.m[2] + 100), 1e-6);
      EXPECT_TRUE(test::same_bits(state.c[0], start.c[0])) << "other slots stay as they are";
      EXPECT_TRUE(test::same_bits(state.c[1], start.c[1]));
    }
  }
}

TEST(NativeCell, ExtremeGatesGiveFiniteNumbers) {
  const ModelDims dims = make_dims(2, 4, 4);
  for (const float i : {-1e30F, -15.0F, 15.0F, 80.0F}) {
    for (const float f : {-1e30F, -15.0F, 15.0F, 1e30F}) {
      SCOPED_TRACE(testing::Message() << "i " << i << " f " << f);
      Random random(1);
      Activations act = random.activations(dims, 20);
      act.gates.narrow(1, 0, 2).fill_(i);
      act.gates.narrow(1, 2, 2).fill_(f);
      const Span span{0, 0, 20};
      for (const bool chunkwise : {false, true}) {
        LayerState state{at::zeros({1, 2, 4, 4}), at::zeros({1, 2, 4}), at::zeros({1, 2})};
        const auto kernel = chunkwise ? make_native_chunkwise(dims, 8) : make_native_sequence(dims);
        kernel->run({act, state, std::span(&span, 1)});
        EXPECT_TRUE(at::isfinite(act.h).all().item<bool>());
        EXPECT_TRUE(at::isfinite(state.c).all().item<bool>());
      }
    }
  }
}

TEST(NativeCell, KeepsABfloat16StateInItsOwnType) {
  const ModelDims dims = make_dims(2, 8, 16);
  Random random(2);
  Activations act = random.activations(dims, 12);
  LayerState wide = random.state(dims, 1);
  LayerState narrow{wide.c.to(at::kBFloat16), wide.n.to(at::kBFloat16), wide.m.clone()};
  const Span span{0, 0, 12};
  make_native_sequence(dims)->run({act, wide, std::span(&span, 1)});
  make_native_sequence(dims)->run({act, narrow, std::span(&span, 1)});
  EXPECT_EQ(narrow.c.scalar_type(), at::kBFloat16);
  EXPECT_LT(relative(narrow.c, wide.c), 2e-2);
}

TEST(NativeParallel, EqualsTheRecurrenceFromTheZeroState) {
  const ModelDims dims = make_dims(3, 8, 12);
  Random random(3);
  Activations act = random.activations(dims, 50);
  const Span span{0, 0, 50};
  LayerState state{at::zeros({1, 3, 8, 12}), at::zeros({1, 3, 8}), at::zeros({1, 3})};
  const std::vector<double> expected = recurrence(dims, act, span, state);
  const auto heads = [&](const at::Tensor& t, int64_t features) {
    return t.to(at::kDouble).reshape({50, 3, features}).transpose(0, 1);
  };
  const at::Tensor gates = act.gates.to(at::kDouble).t();
  const at::Tensor h = native_parallel(
      dims, {heads(act.q, 8), heads(act.k, 8), heads(act.v, 12), gates.narrow(0, 0, 3), gates.narrow(0, 3, 3)});
  const at::Tensor reference = at::tensor(expected, at::kDouble).view({50, 3, 12}).transpose(0, 1);
  EXPECT_LT(relative(h, reference), 1e-6) << "the forms differ only through eps";
}

}  // namespace
}  // namespace xlstm
