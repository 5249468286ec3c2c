#include "kernels/cpu/cpu_ops.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cpu/isa.h"
#include "tests/kernels/op_dims.h"
#include "tests/kernels/ops_reference.h"
#include "tests/kernels/random_tensors.h"
#include "tests/support/expect_error.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using test::copy_of;
using test::dims_of;
using test::Random;
using test::same_bits;
using test::Shape;

using test::expect_values;
using test::float_row;
using test::FloatRow;
using test::Format;
using test::gated_head_norm;
using test::Multiply;
using test::rms_norm;
using test::Value;

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> kShapes = {
      {1, 1, 1, 1, 1, 1},       {3, 1, 5, 1, 7, 5},         {64, 4, 8, 16, 192, 33},
      {100, 3, 16, 33, 77, 65}, {256, 4, 32, 64, 704, 130}, {1100, 1, 5, 600, 530, 9},
  };
  return kShapes;
}

std::string text(const ModelDims& dims, int64_t rows, const Format& format, int threads) {
  constexpr const char* kNames[] = {"float32", "bfloat16", "float16", "int8", "int4"};
  return cat("E ", dims.embedding_dim, " NH ", dims.num_heads, " Dv ", dims.head_dim_v, " F ", dims.ffn_dim, " rows ",
             rows, " ", kNames[static_cast<int>(format.weights)], " group ", format.group, " threads ", threads);
}

const std::vector<Format>& formats() {
  static const std::vector<Format> kFormats = {{WeightFormat::kFloat32, 0}, {WeightFormat::kBfloat16, 0},
                                               {WeightFormat::kFloat16, 0}, {WeightFormat::kInt8, 0},
                                               {WeightFormat::kInt8, 64},   {WeightFormat::kInt4, 32}};
  return kFormats;
}

RowPlan all_logits(int64_t rows) {
  RowPlan plan;
  plan.add(0, rows, LogitRows::kAll);
  return plan;
}

// operation() as a pass of its own, so that its results can be read.
template <class Operation>
void in_pass(DeviceOps& ops, int64_t rows, const Operation& operation) {
  ops.begin_pass(all_logits(rows));
  operation();
  ops.end_pass();
}

BlockWeights packed(const BlockWeights& canonical, const DeviceOps& ops) {
  BlockWeights block = canonical;
  for (Linear* linear : {&block.qkvo, &block.gates, &block.out_proj, &block.ffn_down}) *linear = ops.pack(*linear);
  block.ffn_gate_up = ops.pack(block.ffn_gate_up, RowOrder::kGateUp);
  return block;
}

// What is added to the residual stream.
std::vector<Value> added(std::vector<Value> y, const FloatRow& x) {
  for (size_t i = 0; i < x.size(); ++i) {
    y[i].value += static_cast<double>(x[i]);
    y[i].size += static_cast<double>(std::abs(x[i]));
  }
  return y;
}

struct Case {
  ModelDims dims;
  int64_t rows;
  Format format;
  BlockWeights block;  // canonical
};

class CpuOpsTest : public testing::TestWithParam<std::string> {
 protected:
  CpuOpsTest() { cpu::force_isa(GetParam()); }
  ~CpuOpsTest() override { cpu::force_isa(""); }

  // check(case, ops, random) for a spread of shapes, formats, batch sizes and team sizes.
  template <class Check>
  void for_each_case(const Check& check) {
    uint64_t seed = 1;
    for (size_t shape = 0; shape < shapes().size(); ++shape) {
      const ModelDims dims = dims_of(shapes()[shape]);
      const bool large = dims.embedding_dim > 500;
      for (const int64_t rows : large ? std::vector<int64_t>{1, 2, 97} : std::vector<int64_t>{1, 2, 6, 7, 70, 130}) {
        const Format format = formats()[(seed + shape) % formats().size()];
        const int threads = 1 + static_cast<int>(seed % 4 == 0 ? 2 : seed % 2);
        SCOPED_TRACE(text(dims, rows, format, threads));
        ThreadPool pool(threads);
        const auto ops = make_cpu_ops(dims, pool);
        Random random(seed);
        check({dims, rows, format, random.block(dims, seed % 2 == 0, format)}, *ops, random);
        if (HasFatalFailure()) return;
        ++seed;
      }
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Isa, CpuOpsTest, testing::ValuesIn(cpu::supported_isas()),
                         [](const auto& param) { return param.param; });

TEST_P(CpuOpsTest, MixerInProjectsNormedRowsAndCapsTheGates) {
  for_each_case([](const Case& c, DeviceOps& ops, Random& random) {
    Activations act = random.activations(c.dims, c.rows + 1);
    const Activations before = copy_of(act, c.dims);
    const BlockWeights block = packed(c.block, ops);
    in_pass(ops, c.rows, [&] { ops.mixer_in(block, c.rows, act); });
    const Multiply qkvo(c.block.qkvo);
    const Multiply gate_pre(c.block.gates);
    for (int64_t row = 0; row < c.rows; ++row) {
      SCOPED_TRACE(row);
      const FloatRow u = rms_norm(c.block.norm_mlstm, float_row(before.x, row), c.dims.norm_eps);
      expect_values(float_row(act.qkvo, row), qkvo(u), c.dims.embedding_dim);
      std::vector<Value> gates = gate_pre(u);
      for (Value& gate : gates) gate.value = test::soft_cap(gate.value, c.dims.gate_soft_cap);
      expect_values(float_row(act.gates, row), gates, c.dims.embedding_dim);
      if (HasFatalFailure()) return;
    }
    EXPECT_TRUE(same_bits(act.x, before.x));
    EXPECT_TRUE(same_bits(act.qkvo[c.rows], before.qkvo[c.rows])) << "wrote behind the last row";
    EXPECT_TRUE(same_bits(act.gates[c.rows], before.gates[c.rows])) << "wrote behind the last row";
  });
}

TEST_P(CpuOpsTest, MixerOutAddsTheProjectedGatedHeadNorm) {
  for_each_case([](const Case& c, DeviceOps& ops, Random& random) {
    Activations act = random.activations(c.dims, c.rows + 1);
    const Activations before = copy_of(act, c.dims);
    const BlockWeights block = packed(c.block, ops);
    in_pass(ops, c.rows, [&] { ops.mixer_out(block, c.rows, act); });
    const Multiply out_proj(c.block.out_proj);
    for (int64_t row = 0; row < c.rows; ++row) {
      SCOPED_TRACE(row);
      const FloatRow u =
          gated_head_norm(c.block.multihead_norm, float_row(before.h, row), float_row(before.o, row), c.dims);
      expect_values(float_row(act.x, row), added(out_proj(u), float_row(before.x, row)), c.dims.v_dim());
      if (HasFatalFailure()) return;
    }
    EXPECT_TRUE(same_bits(act.x[c.rows], before.x[c.rows])) << "wrote behind the last row";
    EXPECT_TRUE(same_bits(act.h, before.h));
  });
}

TEST_P(CpuOpsTest, FeedForwardAddsTheGatedProduct) {
  for_each_case([](const Case& c, DeviceOps& ops, Random& random) {
    Activations act = random.activations(c.dims, c.rows + 1);
    const Activations before = copy_of(act, c.dims);
    const BlockWeights block = packed(c.block, ops);
    in_pass(ops, c.rows, [&] { ops.feed_forward(block, c.rows, act); });
    const auto width = static_cast<size_t>(c.dims.ffn_dim);
    const Multiply gate_up_of(c.block.ffn_gate_up);
    const Multiply down(c.block.ffn_down);
    for (int64_t row = 0; row < c.rows; ++row) {
      SCOPED_TRACE(row);
      const FloatRow u = rms_norm(c.block.norm_ffn, float_row(before.x, row), c.dims.norm_eps);
      const std::vector<Value> gate_up = gate_up_of(u);
      std::vector<Value> hidden(width);
      for (size_t i = 0; i < width; ++i) {
        const Value& gate = gate_up[i];
        const Value& up = gate_up[width + i];
        const double silu = gate.value * test::sigmoid(gate.value);
        // The slope of SiLU is at most 1.1.
        hidden[i] = {silu * up.value, 1.1 * gate.size * std::abs(up.value) + std::abs(silu) * up.size};
      }
      // The product lies over the gate half; what is multiplied next is what was really computed.
      const FloatRow product = float_row(act.ffn.narrow(1, 0, c.dims.ffn_dim), row);
      expect_values(product, hidden, c.dims.embedding_dim);
      expect_values(float_row(act.x, row), added(down(product), float_row(before.x, row)), c.dims.ffn_dim);
      if (HasFatalFailure()) return;
    }
    EXPECT_TRUE(same_bits(act.x[c.rows], before.x[c.rows])) << "wrote behind the last row";
  });
}

TEST_P(CpuOpsTest, HeadComputesOnlyTheRowsAskedFor) {
  for_each_case([](const Case& c, DeviceOps& ops, Random& random) {
    const int64_t rows = c.rows;
    Weights weights;
    weights.head = random.linear(c.dims.vocab_size, c.dims.embedding_dim, false, c.format);
    if (rows % 2 == 0) weights.out_norm = random.norm(c.dims.embedding_dim, rows % 4 == 0);
    RowPlan plan;
    plan.add(0, rows, LogitRows::kAll);
    plan.add(1, 3, LogitRows::kLast);
    plan.add(2, 2, LogitRows::kNone);
    Activations act = random.activations(c.dims, plan.rows());
    at::Tensor logits = random.normal({rows + 2, c.dims.vocab_size}, 1.0);
    const at::Tensor before = logits.clone();
    Weights packed_weights = weights;
    packed_weights.head = ops.pack(weights.head);
    ops.head(packed_weights, plan, act, logits);
    const Multiply project(weights.head);
    for (int64_t j = 0; j <= rows; ++j) {
      SCOPED_TRACE(j);
      const FloatRow x = float_row(act.x, j == rows ? rows + 2 : j);
      const FloatRow u = weights.out_norm.weight.defined() ? rms_norm(weights.out_norm, x, c.dims.norm_eps) : x;
      std::vector<Value> y = project(u);
      for (Value& value : y) value.value = test::soft_cap(value.value, c.dims.logit_soft_cap);
      expect_values(float_row(logits, j), y, c.dims.embedding_dim);
      if (HasFatalFailure()) return;
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
  const Format bfloat16{WeightFormat::kBfloat16, 0};
  for (const auto& [shape, format] : std::vector<std::pair<size_t, Format>>{{3, bfloat16},
                                                                            {4, bfloat16},
                                                                            {5, bfloat16},
                                                                            {3, {WeightFormat::kInt8, 64}},
                                                                            {4, {WeightFormat::kInt4, 32}}}) {
    const ModelDims dims = dims_of(shapes()[shape]);
    SCOPED_TRACE(text(dims, 140, format, 0));
    constexpr int64_t kRows = 140;
    Random random(11);
    const BlockWeights block = random.block(dims, true, format);
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
      const RowPlan plan = all_logits(rows);
      in_pass(*ops, rows, [&] {
        ops->mixer_in(own, rows, act);
        ops->mixer_out(own, rows, act);
        ops->feed_forward(own, rows, act);
        ops->head(own_weights, plan, act, logits);
      });
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
  in_pass(*ops, 8, [&] {
    ops->mixer_out(block, 8, act);
    ops->mixer_in(block, 8, act);
    ops->feed_forward(block, 8, act);
  });
  EXPECT_TRUE(at::isfinite(act.x).all().item<bool>());
  EXPECT_TRUE(at::isfinite(act.gates).all().item<bool>());
}

TEST(CpuOpsPasses, AnAbandonedPassHurtsNeitherItsMemoryNorTheNextPass) {
  const ModelDims dims = dims_of(shapes()[2]);
  ThreadPool pool(3);
  Random random(6);
  const BlockWeights canonical = random.block(dims, true, at::kFloat);
  const Activations input = random.activations(dims, 1);
  const auto ops = make_cpu_ops(dims, pool);
  const BlockWeights block = packed(canonical, *ops);
  const auto result = [&] {
    Activations act = copy_of(input, dims);
    in_pass(*ops, 1, [&] { ops->feed_forward(block, 1, act); });
    return act.x;
  };
  const at::Tensor expected = result();
  for (int round = 0; round < 200; ++round) {
    {
      Activations act = copy_of(input, dims);
      ops->begin_pass(all_logits(1));
      ops->mixer_out(block, 1, act);
      ops->feed_forward(block, 1, act);
    }
    ASSERT_TRUE(same_bits(result(), expected));
  }
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
