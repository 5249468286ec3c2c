#include "kernels/cpu/cpu_ops.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

#include "kernels/cpu/isa.h"
#include "tests/kernels/random_tensors.h"
#include "tests/support/expect_error.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using test::copy_of;
using test::Random;
using test::same_bits;

// ---------------------------------------------------------------------------------------------------------------------
// The formulas in double precision, written as plainly as possible.

using Row = std::vector<double>;

Row row_of(const at::Tensor& matrix, int64_t row) {
  const at::Tensor values = matrix.select(0, row).to(at::kDouble).contiguous();
  return {values.data_ptr<double>(), values.data_ptr<double>() + values.numel()};
}

Row vector_of(const at::Tensor& vector) {
  return row_of(vector.unsqueeze(0), 0);
}

// A value, and the sum of the magnitudes it was formed from, to which rounding errors are proportional.
struct Value {
  double value = 0;
  double size = 0;
};

// x · Wᵀ + b; the weights are widened once, for all rows of a test.
class Multiply {
 public:
  explicit Multiply(const Linear& linear)
      : out_(static_cast<size_t>(linear.out)),
        weight_(vector_of(linear.weight.reshape({-1}))),
        bias_(linear.bias.defined() ? vector_of(linear.bias) : Row(out_, 0.0)) {}

  std::vector<Value> operator()(const Row& x) const {
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
  Row weight_;
  Row bias_;
};

Row rms_norm(const Norm& norm, const Row& x, double eps) {
  const Row weight = vector_of(norm.weight);
  const Row bias = norm.bias.defined() ? vector_of(norm.bias) : Row(x.size(), 0.0);
  double squares = 0;
  for (const double value : x) squares += value * value;
  const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) + eps);
  Row y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * weight[i] + bias[i];
  return y;
}

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}
double soft_cap(double x, double cap) {
  return cap == 0 ? x : cap * std::tanh(x / cap);
}

Row gated_head_norm(const Norm& norm, const Row& h, const Row& o, const ModelDims& dims) {
  const Row weight = vector_of(norm.weight);
  const Row bias = norm.bias.defined() ? vector_of(norm.bias) : Row(h.size(), 0.0);
  const auto size = static_cast<size_t>(dims.head_dim_v);
  Row y(h.size());
  for (size_t begin = 0; begin < h.size(); begin += size) {
    double mean = 0;
    double variance = 0;
    for (size_t i = begin; i < begin + size; ++i) mean += h[i] / static_cast<double>(size);
    for (size_t i = begin; i < begin + size; ++i) variance += (h[i] - mean) * (h[i] - mean) / static_cast<double>(size);
    for (size_t i = begin; i < begin + size; ++i) {
      y[i] = ((h[i] - mean) / std::sqrt(variance + dims.norm_eps) * weight[i] + bias[i]) * sigmoid(o[i]);
    }
  }
  return y;
}

// Where the kernels multiply bfloat16 weights by dot products of bfloat16, they round the inputs to it: each by 2^-8 at
// most.
double input_rounding(const Linear& linear) {
  return linear.format == WeightFormat::kBfloat16 && cpu::uses_bfloat16_dot() ? std::ldexp(1, -8) : 0;
}

// Rounding errors of a sum of n terms grow like √n times its magnitude; the constant leaves room for the errors of the
// normed input.
void expect_row(const at::Tensor& actual, int64_t row, const std::vector<Value>& expected, int64_t terms,
                double input_rounding = 0) {
  const at::Tensor values = actual.select(0, row).contiguous();
  const float* data = values.data_ptr<float>();
  const double factor = std::ldexp(16 + 4 * std::sqrt(static_cast<double>(terms)), -24) + input_rounding;
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(data[i], expected[i].value, factor * expected[i].size + 1e-12) << "row " << row << " column " << i;
  }
}

// ---------------------------------------------------------------------------------------------------------------------

struct Shape {
  int64_t embedding_dim, num_heads, head_dim_qk, head_dim_v, ffn_dim, vocab_size;
};

ModelDims dims_of(const Shape& shape) {
  ModelDims dims;
  dims.vocab_size = shape.vocab_size;
  dims.embedding_dim = shape.embedding_dim;
  dims.num_heads = shape.num_heads;
  dims.head_dim_qk = shape.head_dim_qk;
  dims.head_dim_v = shape.head_dim_v;
  dims.ffn_dim = shape.ffn_dim;
  dims.gate_soft_cap = 15.0F;
  dims.logit_soft_cap = 30.0F;
  return dims;
}

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> kShapes = {
      {1, 1, 1, 1, 1, 1},       {3, 1, 5, 1, 7, 5},         {64, 4, 8, 16, 192, 33},
      {100, 3, 16, 33, 77, 65}, {256, 4, 32, 64, 704, 130}, {1100, 1, 5, 600, 530, 9},
  };
  return kShapes;
}

std::string text(const ModelDims& dims, int64_t rows, at::ScalarType dtype, int threads) {
  return cat("E ", dims.embedding_dim, " NH ", dims.num_heads, " Dv ", dims.head_dim_v, " F ", dims.ffn_dim, " rows ",
             rows, " ", c10::toString(dtype), " threads ", threads);
}

RowPlan all_logits(int64_t rows) {
  RowPlan plan;
  plan.add(0, rows, LogitRows::kAll);
  return plan;
}

BlockWeights packed(const BlockWeights& canonical, const DeviceOps& ops) {
  BlockWeights block = canonical;
  for (Linear* linear : {&block.qkvo, &block.gates, &block.out_proj, &block.ffn_down}) *linear = ops.pack(*linear);
  block.ffn_gate_up = ops.pack(block.ffn_gate_up, RowOrder::kGateUp);
  return block;
}

class CpuOpsTest : public testing::TestWithParam<std::string> {
 protected:
  CpuOpsTest() { cpu::force_isa(GetParam()); }
  ~CpuOpsTest() override { cpu::force_isa(""); }

  // check(dims, rows, canonical block, ops) for a spread of shapes, dtypes, batch sizes and team sizes.
  template <class Check>
  void for_each_case(const Check& check) {
    uint64_t seed = 1;
    for (const Shape& shape : shapes()) {
      const ModelDims dims = dims_of(shape);
      const bool large = dims.embedding_dim > 500;
      for (const int64_t rows : large ? std::vector<int64_t>{1, 2, 97} : std::vector<int64_t>{1, 2, 6, 7, 70, 130}) {
        const at::ScalarType dtype = std::array{at::kFloat, at::kBFloat16, at::kHalf}[seed % 3];
        const int threads = 1 + static_cast<int>(seed % 4 == 0 ? 2 : seed % 2);
        SCOPED_TRACE(text(dims, rows, dtype, threads));
        ThreadPool pool(threads);
        const auto ops = make_cpu_ops(dims, pool);
        Random random(seed);
        check(dims, rows, random.block(dims, seed % 2 == 0, dtype), *ops, random);
        if (HasFatalFailure()) return;
        ++seed;
      }
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Isa, CpuOpsTest, testing::ValuesIn(cpu::supported_isas()),
                         [](const auto& param) { return param.param; });

TEST_P(CpuOpsTest, MixerInProjectsNormedRowsAndCapsTheGates) {
  for_each_case([](const ModelDims& dims, int64_t rows, const BlockWeights& block, DeviceOps& ops, Random& random) {
    Activations act = random.activations(dims, rows + 1);
    const Activations before = copy_of(act, dims);
    ops.mixer_in(packed(block, ops), rows, act);
    const Multiply qkvo(block.qkvo);
    const Multiply gate_pre(block.gates);
    for (int64_t row = 0; row < rows; ++row) {
      const Row u = rms_norm(block.norm_mlstm, row_of(before.x, row), dims.norm_eps);
      expect_row(act.qkvo, row, qkvo(u), dims.embedding_dim, input_rounding(block.qkvo));
      std::vector<Value> gates = gate_pre(u);
      for (Value& gate : gates) gate.value = soft_cap(gate.value, dims.gate_soft_cap);
      expect_row(act.gates, row, gates, dims.embedding_dim);
    }
    EXPECT_TRUE(same_bits(act.x, before.x));
    EXPECT_TRUE(same_bits(act.qkvo[rows], before.qkvo[rows])) << "wrote behind the last row";
    EXPECT_TRUE(same_bits(act.gates[rows], before.gates[rows])) << "wrote behind the last row";
  });
}

TEST_P(CpuOpsTest, MixerOutAddsTheProjectedGatedHeadNorm) {
  for_each_case([](const ModelDims& dims, int64_t rows, const BlockWeights& block, DeviceOps& ops, Random& random) {
    Activations act = random.activations(dims, rows + 1);
    const Activations before = copy_of(act, dims);
    ops.mixer_out(packed(block, ops), rows, act);
    const Multiply out_proj(block.out_proj);
    for (int64_t row = 0; row < rows; ++row) {
      const Row u = gated_head_norm(block.multihead_norm, row_of(before.h, row), row_of(before.o, row), dims);
      std::vector<Value> y = out_proj(u);
      const Row x = row_of(before.x, row);
      for (size_t i = 0; i < x.size(); ++i) {
        y[i].value += x[i];
        y[i].size += std::abs(x[i]);
      }
      // A head of one feature has no variance: its norm is 0 whatever h is, and rounding of the mean is all that is
      // left.
      if (dims.head_dim_v > 1) expect_row(act.x, row, y, dims.v_dim(), input_rounding(block.out_proj));
    }
    EXPECT_TRUE(same_bits(act.x[rows], before.x[rows])) << "wrote behind the last row";
    EXPECT_TRUE(same_bits(act.h, before.h));
  });
}

TEST_P(CpuOpsTest, FeedForwardAddsTheGatedProduct) {
  for_each_case([](const ModelDims& dims, int64_t rows, const BlockWeights& block, DeviceOps& ops, Random& random) {
    Activations act = random.activations(dims, rows + 1);
    const Activations before = copy_of(act, dims);
    ops.feed_forward(packed(block, ops), rows, act);
    const auto width = static_cast<size_t>(dims.ffn_dim);
    const Multiply gate_up_of(block.ffn_gate_up);
    const Multiply down(block.ffn_down);
    for (int64_t row = 0; row < rows; ++row) {
      const Row u = rms_norm(block.norm_ffn, row_of(before.x, row), dims.norm_eps);
      const std::vector<Value> gate_up = gate_up_of(u);
      Row product(width);
      for (size_t i = 0; i < width; ++i) {
        product[i] = gate_up[i].value * sigmoid(gate_up[i].value) * gate_up[width + i].value;
      }
      std::vector<Value> y = down(product);
      const Row x = row_of(before.x, row);
      for (size_t i = 0; i < x.size(); ++i) {
        y[i].value += x[i];
        // Errors of the hidden values enter as well; theirs are proportional to sums over E, here of order one.
        y[i].size = 4 * (y[i].size + std::abs(x[i]) + 1);
      }
      expect_row(act.x, row, y, dims.ffn_dim + dims.embedding_dim, 2 * input_rounding(block.ffn_down));
    }
    EXPECT_TRUE(same_bits(act.x[rows], before.x[rows])) << "wrote behind the last row";
  });
}

TEST_P(CpuOpsTest, HeadComputesOnlyTheRowsAskedFor) {
  for_each_case([](const ModelDims& dims, int64_t rows, const BlockWeights&, DeviceOps& ops, Random& random) {
    Weights weights;
    weights.head = random.linear(dims.vocab_size, dims.embedding_dim, false, at::kBFloat16);
    if (rows % 2 == 0) weights.out_norm = random.norm(dims.embedding_dim, rows % 4 == 0);
    RowPlan plan;
    plan.add(0, rows, LogitRows::kAll);
    plan.add(1, 3, LogitRows::kLast);
    plan.add(2, 2, LogitRows::kNone);
    Activations act = random.activations(dims, plan.rows());
    at::Tensor logits = random.normal({rows + 2, dims.vocab_size}, 1.0);
    const at::Tensor before = logits.clone();
    Weights packed_weights = weights;
    packed_weights.head = ops.pack(weights.head);
    ops.head(packed_weights, plan, act, logits);
    const Multiply project(weights.head);
    for (int64_t j = 0; j <= rows; ++j) {
      const Row x = row_of(act.x, j == rows ? rows + 2 : j);
      const Row u = weights.out_norm.weight.defined() ? rms_norm(weights.out_norm, x, dims.norm_eps) : x;
      std::vector<Value> y = project(u);
      for (Value& value : y) value.value = soft_cap(value.value, dims.logit_soft_cap);
      expect_row(logits, j, y, dims.embedding_dim, input_rounding(weights.head));
    }
    EXPECT_TRUE(same_bits(logits[rows + 1], before[rows + 1])) << "wrote behind the last row";
  });
}

TEST_P(CpuOpsTest, EmbedLooksUpExactRows) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const ModelDims dims = dims_of({37, 1, 4, 4, 8, 11});
    ThreadPool pool(2);
    const auto ops = make_cpu_ops(dims, pool);
    Random random(7);
    Weights weights;
    weights.embedding = ops->place(random.normal({37, 11}, 1.0, dtype).t());
    Activations act = random.activations(dims, 4);
    const std::vector<int64_t> ids = {10, 0, 10, 3};
    ops->embed(weights, ids, act);
    for (size_t row = 0; row < ids.size(); ++row) {
      EXPECT_TRUE(same_bits(act.x[static_cast<int64_t>(row)], weights.embedding[ids[row]].to(at::kFloat)));
    }
  }
}

TEST_P(CpuOpsTest, ARowHasTheSameBitsInEveryBatchAndWithEveryTeam) {
  for (const Shape& shape : {shapes()[3], shapes()[4], shapes()[5]}) {
    const ModelDims dims = dims_of(shape);
    SCOPED_TRACE(text(dims, 140, at::kBFloat16, 0));
    constexpr int64_t kRows = 140;
    Random random(11);
    const BlockWeights block = random.block(dims, true, at::kBFloat16);
    Weights weights;
    weights.head = random.linear(dims.vocab_size, dims.embedding_dim, false, at::kHalf);
    weights.out_norm = random.norm(dims.embedding_dim, false);
    const Activations input = random.activations(dims, kRows);
    const at::Tensor no_logits = at::zeros({kRows, dims.vocab_size}, at::kFloat);

    const auto run = [&](int threads, Activations& act, int64_t rows, at::Tensor& logits) {
      ThreadPool pool(threads);
      const auto ops = make_cpu_ops(dims, pool);
      const BlockWeights own = packed(block, *ops);
      Weights own_weights = weights;
      own_weights.head = ops->pack(weights.head);
      ops->mixer_in(own, rows, act);
      ops->mixer_out(own, rows, act);
      ops->feed_forward(own, rows, act);
      ops->head(own_weights, all_logits(rows), act, logits);
    };
    Activations whole = copy_of(input, dims);
    at::Tensor whole_logits = no_logits.clone();
    run(1, whole, kRows, whole_logits);

    for (const int threads : {2, 3, 7}) {
      Activations act = copy_of(input, dims);
      at::Tensor logits = no_logits.clone();
      run(threads, act, kRows, logits);
      EXPECT_TRUE(same_bits(act.x, whole.x)) << threads;
      EXPECT_TRUE(same_bits(act.qkvo, whole.qkvo)) << threads;
      EXPECT_TRUE(same_bits(act.gates, whole.gates)) << threads;
      EXPECT_TRUE(same_bits(logits, whole_logits)) << threads;
    }
    for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 1}, {7, 1}, {139, 1}, {3, 2}, {1, 5}, {60, 80}}) {
      SCOPED_TRACE(cat("rows ", first, " + ", count));
      Activations act = copy_of(input, dims);
      act.x = input.x.narrow(0, first, count).clone();
      act.h = input.h.narrow(0, first, count).clone();
      act.qkvo.narrow(0, 0, count).copy_(input.qkvo.narrow(0, first, count));
      at::Tensor logits = no_logits.clone();
      run(2, act, count, logits);
      EXPECT_TRUE(same_bits(act.x, whole.x.narrow(0, first, count)));
      EXPECT_TRUE(same_bits(act.qkvo.narrow(0, 0, count), whole.qkvo.narrow(0, first, count)));
      EXPECT_TRUE(same_bits(logits.narrow(0, 0, count), whole_logits.narrow(0, first, count)));
    }
  }
}

TEST_P(CpuOpsTest, LargeFiniteInputsNeverGiveNan) {
  const ModelDims dims = dims_of(shapes()[2]);
  ThreadPool pool(2);
  const auto ops = make_cpu_ops(dims, pool);
  Random random(5);
  const BlockWeights block = packed(random.block(dims, true, at::kFloat), *ops);
  Activations act = random.activations(dims, 8);
  act.x.mul_(1e15);
  act.qkvo.mul_(1e30);
  act.h.mul_(1e15);
  ops->mixer_out(block, 8, act);
  ops->mixer_in(block, 8, act);
  ops->feed_forward(block, 8, act);
  EXPECT_TRUE(at::isfinite(act.x).all().item<bool>());
  EXPECT_TRUE(at::isfinite(act.gates).all().item<bool>());
}

TEST(CpuOpsErrors, PackRefusesTensorsThatAreNotOfTheirFormat) {
  const ModelDims dims = dims_of(shapes()[2]);
  ThreadPool pool(1);
  const auto ops = make_cpu_ops(dims, pool);
  test::expect_error(
      [&] {
        static_cast<void>(ops->pack({2, 3, at::zeros({2, 3}, at::kDouble), {}}));
      },
      ExitCode::kDevice, {"weight dtype", "expected Float, got Double"});
}

TEST(CpuOpsPack, AStridedMatrixPacksLikeAContiguousOne) {
  const ModelDims dims = dims_of(shapes()[2]);
  ThreadPool pool(1);
  const auto ops = make_cpu_ops(dims, pool);
  const at::Tensor transposed = Random(3).normal({3, 2}, 1.0).t();
  EXPECT_TRUE(
      same_bits(ops->pack({2, 3, transposed, {}}).weight, ops->pack({2, 3, transposed.contiguous(), {}}).weight));
}

TEST(CpuOpsPack, MoreThreadsPackTheSameBytesAndTheyOutliveTheOperations) {
  const ModelDims dims = dims_of(shapes()[2]);
  const Linear canonical = Random(4).linear(330, 65, true, at::kHalf);
  std::vector<at::Tensor> packed;
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    packed.push_back(make_cpu_ops(dims, pool)->pack(canonical, RowOrder::kGateUp).weight);
  }
  EXPECT_TRUE(same_bits(packed[0], packed[1]));
}

}  // namespace
}  // namespace xlstm
