#include "kernels/metal/metal_ops.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernels/native/dequantize.h"
#include "kernels/native/native_ops.h"
#include "tests/kernels/op_dims.h"
#include "tests/kernels/random_tensors.h"
#include "tests/metal_emulator/emulator.h"
#include "tests/support/expect_error.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using test::copy_of;
using test::dims_of;
using test::Format;
using test::Random;
using test::same_bits;
using test::Shape;

std::shared_ptr<metal::Gpu> gpu() {
  static const auto kGpu = std::make_shared<metal::Gpu>(at::kCPU);
  return kGpu;
}

constexpr Shape kTiny = {7, 1, 5, 3, 23, 13};
constexpr Shape kOdd = {96, 3, 17, 31, 261, 101};
constexpr Shape kRound = {256, 4, 32, 64, 704, 130};

const std::vector<Format>& formats() {
  static const std::vector<Format> kFormats = {{WeightFormat::kFloat32, 0}, {WeightFormat::kBfloat16, 0},
                                               {WeightFormat::kFloat16, 0}, {WeightFormat::kInt8, 0},
                                               {WeightFormat::kInt8, 64},   {WeightFormat::kInt4, 0},
                                               {WeightFormat::kInt4, 32},   {WeightFormat::kInt4, 96}};
  return kFormats;
}

std::string text(const ModelDims& dims, int64_t rows, const Format& format) {
  constexpr const char* kNames[] = {"float32", "bfloat16", "float16", "int8", "int4"};
  return cat("E ", dims.embedding_dim, " rows ", rows, " ", kNames[static_cast<int>(format.weights)], " group ",
             format.group);
}

BlockWeights packed(const BlockWeights& canonical, const DeviceOps& ops) {
  BlockWeights block = canonical;
  for (Linear* linear : {&block.qkvo, &block.gates, &block.out_proj, &block.ffn_down}) *linear = ops.pack(*linear);
  block.ffn_gate_up = ops.pack(block.ffn_gate_up, RowOrder::kGateUp);
  return block;
}

RowPlan plan_of(int64_t rows) {
  RowPlan plan;
  plan.add(0, rows, LogitRows::kAll);
  return plan;
}

// What should come out, in float64, and the sums of magnitudes it was formed from, to which rounding errors are
// proportional.
struct Values {
  at::Tensor value;
  at::Tensor size;
};

at::Tensor wide(const at::Tensor& tensor) {
  return tensor.to(at::kDouble);
}

at::Tensor with_bias(const at::Tensor& values, const at::Tensor& bias) {
  return bias.defined() ? values + wide(bias) : values;
}

at::Tensor with_bias_size(const at::Tensor& values, const at::Tensor& bias) {
  return bias.defined() ? values.abs() + wide(bias).abs() : values.abs();
}

Values exactly(const at::Tensor& x) {
  return {wide(x), wide(x).abs()};
}

Values multiplied(const Linear& canonical, const Values& x) {
  const at::Tensor w = wide(dequantize(canonical)).t();
  return {with_bias(at::matmul(x.value, w), canonical.bias),
          with_bias_size(at::matmul(x.size, w.abs()), canonical.bias)};
}

Values rms_normed(const Norm& norm, const at::Tensor& x, double eps) {
  const at::Tensor y = wide(x) * at::rsqrt(wide(x).square().mean(-1, true) + eps) * wide(norm.weight);
  return {with_bias(y, norm.bias), with_bias_size(y, norm.bias)};
}

Values head_normed(const Norm& norm, const at::Tensor& h, const at::Tensor& o, const ModelDims& dims) {
  const at::Tensor values = wide(h).view({h.size(0), dims.num_heads, dims.head_dim_v});
  const at::Tensor centred = values - values.mean(-1, true);
  const at::Tensor scale = at::rsqrt(centred.square().mean(-1, true) + static_cast<double>(dims.norm_eps));
  const at::Tensor gate = at::sigmoid(wide(o));
  const at::Tensor y = (centred * scale).flatten(1) * wide(norm.weight);
  const at::Tensor size = ((values.abs() + values.abs().mean(-1, true)) * scale).flatten(1) * wide(norm.weight);
  return {with_bias(y, norm.bias) * gate, with_bias_size(size, norm.bias) * gate};
}

Values capped(const Values& x, double cap) {
  return cap > 0 ? Values{at::tanh(x.value / cap) * cap, x.size} : x;
}

Values added(const Values& y, const at::Tensor& x) {
  return {y.value + wide(x), y.size + wide(x).abs()};
}

// SiLU(gate) · up; the slope of SiLU is at most 1.1.
Values gated(const Values& gate_up) {
  const int64_t width = gate_up.value.size(1) / 2;
  const at::Tensor gate = gate_up.value.narrow(1, 0, width);
  const at::Tensor up = gate_up.value.narrow(1, width, width);
  const at::Tensor silu = gate * at::sigmoid(gate);
  return {silu * up,
          1.1 * gate_up.size.narrow(1, 0, width) * up.abs() + silu.abs() * gate_up.size.narrow(1, width, width)};
}

// Rounding errors of a sum of n terms grow like √n times its magnitude.
void expect_values(const at::Tensor& actual, const Values& expected, int64_t terms) {
  const double factor = std::ldexp(16 + 4 * std::sqrt(static_cast<double>(terms)), -24);
  ASSERT_EQ(actual.sizes(), expected.value.sizes());
  const at::Tensor excess = (wide(actual) - expected.value).abs() - factor * expected.size - 1e-12;
  const at::Tensor bad = at::logical_not(excess <= 0);  // NaN too
  if (!bad.any().item<bool>()) return;
  const at::Tensor first = bad.nonzero()[0];
  const auto row = first[0].item<int64_t>();
  const auto column = first[1].item<int64_t>();
  FAIL() << bad.sum().item<int64_t>() << " of " << actual.numel() << " values differ, the first at row " << row
         << " column " << column << ": " << actual[row][column].item<float>() << " instead of "
         << expected.value[row][column].item<double>();
}

struct Case {
  ModelDims dims;
  int64_t rows;
  Format format;
  bool bias;
};

// All formats and numbers of rows on the odd shape, a spread of them on the others; biases and caps on and off.
std::vector<Case> cases() {
  std::vector<Case> all;
  size_t count = 0;
  const auto add = [&](const Shape& shape, int64_t rows, const Format& format) {
    Case c{dims_of(shape), rows, format, ++count % 3 == 0};
    if (count % 5 == 0) c.dims.gate_soft_cap = c.dims.logit_soft_cap = 0;
    all.push_back(c);
  };
  const std::vector<int64_t> row_counts = {1, 2, 3, 5, 16, 17, 40};
  for (const Format& format : formats()) {
    for (const int64_t rows : row_counts) add(kOdd, rows, format);
  }
  for (size_t i = 0; i < 2 * row_counts.size(); ++i) {
    const int64_t rows = row_counts[i % row_counts.size()];
    add(kTiny, rows, formats()[(3 * i + 1) % formats().size()]);
    add(kRound, rows, formats()[(3 * i + 2) % formats().size()]);
  }
  for (const Format& format : formats()) add(kTiny, 133, format);  // three tiles of rows, the last one ragged
  return all;
}

// check(case, ops, random) for all cases, each in a pass of its own.
template <class Check>
void for_each_case(const Check& check) {
  uint64_t seed = 1;
  for (const Case& c : cases()) {
    SCOPED_TRACE(text(c.dims, c.rows, c.format));
    const auto ops = make_metal_ops(c.dims, gpu());
    Random random(seed++);
    check(c, *ops, random);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(MetalOps, MixerInProjectsNormedRowsAndCapsTheGates) {
  for_each_case([](const Case& c, DeviceOps& ops, Random& random) {
    const BlockWeights block = random.block(c.dims, c.bias, c.format);
    Activations act = random.activations(c.dims, c.rows + 1);
    const Activations before = copy_of(act, c.dims);
    ops.begin_pass(plan_of(c.rows));
    ops.mixer_in(packed(block, ops), c.rows, act);
    ops.end_pass();
    const Values u = rms_normed(block.norm_mlstm, act.x.narrow(0, 0, c.rows), static_cast<double>(c.dims.norm_eps));
    expect_values(act.qkvo.narrow(0, 0, c.rows), multiplied(block.qkvo, u), c.dims.embedding_dim);
    expect_values(act.gates.narrow(0, 0, c.rows),
                  capped(multiplied(block.gates, u), static_cast<double>(c.dims.gate_soft_cap)), c.dims.embedding_dim);
    EXPECT_TRUE(same_bits(act.x, before.x));
    EXPECT_TRUE(same_bits(act.qkvo[c.rows], before.qkvo[c.rows])) << "wrote behind the last row";
    EXPECT_TRUE(same_bits(act.gates[c.rows], before.gates[c.rows])) << "wrote behind the last row";
  });
}

TEST(MetalOps, MixerOutAddsTheProjectedGatedHeadNorm) {
  for_each_case([](const Case& c, DeviceOps& ops, Random& random) {
    const BlockWeights block = random.block(c.dims, c.bias, c.format);
    Activations act = random.activations(c.dims, c.rows + 1);
    const Activations before = copy_of(act, c.dims);
    ops.begin_pass(plan_of(c.rows));
    ops.mixer_out(packed(block, ops), c.rows, act);
    ops.end_pass();
    const Values u = head_normed(block.multihead_norm, act.h.narrow(0, 0, c.rows), act.o.narrow(0, 0, c.rows), c.dims);
    expect_values(act.x.narrow(0, 0, c.rows), added(multiplied(block.out_proj, u), before.x.narrow(0, 0, c.rows)),
                  c.dims.v_dim());
    EXPECT_TRUE(same_bits(act.x[c.rows], before.x[c.rows])) << "wrote behind the last row";
    EXPECT_TRUE(same_bits(act.h, before.h));
    EXPECT_TRUE(same_bits(act.qkvo, before.qkvo));
  });
}

TEST(MetalOps, FeedForwardAddsTheGatedProduct) {
  for_each_case([](const Case& c, DeviceOps& ops, Random& random) {
    const BlockWeights block = random.block(c.dims, c.bias, c.format);
    Activations act = random.activations(c.dims, c.rows + 1);
    const Activations before = copy_of(act, c.dims);
    ops.begin_pass(plan_of(c.rows));
    ops.feed_forward(packed(block, ops), c.rows, act);
    ops.end_pass();
    const at::Tensor x = before.x.narrow(0, 0, c.rows);
    const Values u = rms_normed(block.norm_ffn, x, static_cast<double>(c.dims.norm_eps));
    // The product lies over the gate half; what is multiplied next is what was really computed.
    const at::Tensor product = act.ffn.narrow(0, 0, c.rows).narrow(1, 0, c.dims.ffn_dim);
    expect_values(product, gated(multiplied(block.ffn_gate_up, u)), c.dims.embedding_dim);
    expect_values(act.x.narrow(0, 0, c.rows), added(multiplied(block.ffn_down, exactly(product)), x), c.dims.ffn_dim);
    EXPECT_TRUE(same_bits(act.x[c.rows], before.x[c.rows])) << "wrote behind the last row";
    EXPECT_TRUE(same_bits(act.ffn[c.rows], before.ffn[c.rows])) << "wrote behind the last row";
  });
}

TEST(MetalOps, HeadComputesOnlyTheRowsAskedFor) {
  for_each_case([](const Case& c, DeviceOps& ops, Random& random) {
    Weights weights;
    weights.head = random.linear(c.dims.vocab_size, c.dims.embedding_dim, false, c.format);
    if (c.rows != 2) weights.out_norm = random.norm(c.dims.embedding_dim, c.bias);
    Weights own = weights;
    own.head = ops.pack(weights.head);
    // First rows that lie one behind the other, not from row 0 on, then rows with gaps between them.
    for (const bool gaps : {false, true}) {
      RowPlan plan;
      plan.add(0, 3, gaps ? LogitRows::kLast : LogitRows::kNone);
      plan.add(1, 2, LogitRows::kNone);
      plan.add(2, c.rows, LogitRows::kAll);
      Activations act = random.activations(c.dims, plan.rows());
      const auto wanted = static_cast<int64_t>(plan.logit_rows().size());
      at::Tensor logits = random.normal({wanted + 1, c.dims.vocab_size}, 1.0);
      const at::Tensor before = logits.clone();
      ops.begin_pass(plan);
      ops.head(own, plan, act, logits);
      ops.end_pass();
      const at::Tensor x = act.x.index_select(0, at::tensor(at::ArrayRef<int64_t>(plan.logit_rows()), at::kLong));
      const Values u = weights.out_norm.weight.defined()
                           ? rms_normed(weights.out_norm, x, static_cast<double>(c.dims.norm_eps))
                           : exactly(x);
      expect_values(logits.narrow(0, 0, wanted),
                    capped(multiplied(weights.head, u), static_cast<double>(c.dims.logit_soft_cap)),
                    c.dims.embedding_dim);
      EXPECT_TRUE(same_bits(logits[wanted], before[wanted])) << "wrote behind the last row";
      if (testing::Test::HasFatalFailure()) return;
    }
  });
}

// So many that each simdgroup has rows of its own (the matrices of the other tests are too small for that).
TEST(MetalOps, MatricesOfManyRowsAreMultipliedRowByRow) {
  const ModelDims dims = dims_of({41, 1, 3, 5, 4103, 8203});
  const auto ops = make_metal_ops(dims, gpu());
  for (const Format& format : formats()) {
    for (const int64_t rows : {1, 7}) {
      SCOPED_TRACE(text(dims, rows, format));
      Random random(static_cast<uint64_t>(rows));
      const BlockWeights block = random.block(dims, rows == 7, format);
      Weights weights;
      weights.out_norm = random.norm(dims.embedding_dim, false);
      weights.head = random.linear(dims.vocab_size, dims.embedding_dim, true, format);
      Weights own = weights;
      own.head = ops->pack(weights.head);
      Activations act = random.activations(dims, rows);
      const at::Tensor x = act.x.clone();
      at::Tensor logits = at::zeros({rows, dims.vocab_size}, at::kFloat);
      ops->begin_pass(plan_of(rows));
      ops->head(own, plan_of(rows), act, logits);
      ops->feed_forward(packed(block, *ops), rows, act);
      ops->end_pass();
      const auto eps = static_cast<double>(dims.norm_eps);
      const auto cap = static_cast<double>(dims.logit_soft_cap);
      expect_values(logits, capped(multiplied(weights.head, rms_normed(weights.out_norm, x, eps)), cap),
                    dims.embedding_dim);
      expect_values(act.ffn.narrow(1, 0, dims.ffn_dim),
                    gated(multiplied(block.ffn_gate_up, rms_normed(block.norm_ffn, x, eps))), dims.embedding_dim);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(MetalOps, EmbedLooksUpExactRows) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const ModelDims dims = dims_of({137, 1, 4, 4, 8, 11});
    const auto ops = make_metal_ops(dims, gpu());
    Random random(7);
    Weights weights;
    weights.embedding = ops->place(random.normal({137, 11}, 1.0, dtype).t());
    // More ids than the arguments of one command hold.
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < 1003; ++i) ids.push_back(i * 7 % 11);
    const auto rows = static_cast<int64_t>(ids.size());
    Activations act = random.activations(dims, rows);
    ops->begin_pass(plan_of(rows));
    ops->embed(weights, ids, act);
    ops->end_pass();
    const at::Tensor index = at::tensor(at::ArrayRef<int64_t>(ids), at::kLong);
    EXPECT_TRUE(same_bits(act.x, weights.embedding.index_select(0, index).to(at::kFloat)));
  }
}

struct PassResult {
  at::Tensor x;
  at::Tensor logits;
};

// All operations of two blocks in one pass, as a model runs them.
PassResult run_pass(DeviceOps& ops, const ModelDims& dims, const Format& format, int64_t rows) {
  Random random(17);
  Weights weights;
  weights.embedding = ops.place(random.normal({dims.vocab_size, dims.embedding_dim}, 1.0, at::kHalf));
  for (int i = 0; i < 2; ++i) weights.blocks.push_back(packed(random.block(dims, i == 1, format), ops));
  weights.out_norm = random.norm(dims.embedding_dim, false);
  weights.head = ops.pack(random.linear(dims.vocab_size, dims.embedding_dim, false, format));
  RowPlan plan;
  plan.add(0, rows, LogitRows::kAll);
  plan.add(1, 2, LogitRows::kLast);
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < plan.rows(); ++i) ids.push_back(i * 5 % dims.vocab_size);
  Activations act = random.activations(dims, plan.rows());
  at::Tensor logits = at::zeros({static_cast<int64_t>(plan.logit_rows().size()), dims.vocab_size}, at::kFloat);
  ops.begin_pass(plan);
  ops.embed(weights, ids, act);
  for (const BlockWeights& block : weights.blocks) {
    ops.mixer_in(block, plan.rows(), act);
    ops.mixer_out(block, plan.rows(), act);
    ops.feed_forward(block, plan.rows(), act);
  }
  ops.head(weights, plan, act, logits);
  ops.end_pass();
  return {act.x, logits};
}

TEST(MetalOps, APassGivesWhatTheNativeOperationsGive) {
  for (const Format& format : formats()) {
    for (const int64_t rows : {2, 21}) {
      const ModelDims dims = dims_of(kOdd);
      SCOPED_TRACE(text(dims, rows, format));
      const PassResult expected = run_pass(*make_native_ops(dims, at::kCPU), dims, format, rows);
      const PassResult actual = run_pass(*make_metal_ops(dims, gpu()), dims, format, rows);
      // Four residual steps and the head, each within the bounds of the tests above.
      const double bound = 5 * std::ldexp(16 + 4 * std::sqrt(static_cast<double>(dims.ffn_dim)), -24);
      EXPECT_LE((actual.x - expected.x).norm().item<double>(), bound * expected.x.norm().item<double>());
      EXPECT_LE((actual.logits - expected.logits).norm().item<double>(), bound * expected.logits.norm().item<double>());
    }
  }
}

TEST(MetalOps, ResultsDoNotDependOnTheOrderOfThreads) {
  const ModelDims dims = dims_of({41, 2, 3, 11, 55, 19});
  for (const Format& format : formats()) {
    for (const int64_t rows : {1, 4, 9, 67}) {
      SCOPED_TRACE(text(dims, rows, format));
      EXPECT_EQ(emulator::order_dependence([&] {
                  const PassResult result = run_pass(*make_metal_ops(dims, gpu()), dims, format, rows);
                  const auto bytes = [](const at::Tensor& t) {
                    return std::string(static_cast<const char*>(t.const_data_ptr()), t.nbytes());
                  };
                  return bytes(result.x) + bytes(result.logits);
                }),
                "");
    }
  }
}

TEST(MetalOps, LargeFiniteInputsNeverGiveNan) {
  const ModelDims dims = dims_of(kOdd);
  const auto ops = make_metal_ops(dims, gpu());
  for (const int64_t rows : {4, 20}) {
    Random random(5);
    const BlockWeights block = packed(random.block(dims, true, at::kFloat), *ops);
    Activations act = random.activations(dims, rows);
    act.x.mul_(1e15);
    act.qkvo.mul_(1e30);
    act.h.mul_(1e15);
    ops->begin_pass(plan_of(rows));
    ops->mixer_out(block, rows, act);
    ops->mixer_in(block, rows, act);
    ops->feed_forward(block, rows, act);
    ops->end_pass();
    EXPECT_TRUE(at::isfinite(act.x).all().item<bool>());
    EXPECT_TRUE(at::isfinite(act.gates).all().item<bool>());
  }
}

TEST(MetalOps, AnAbandonedPassLeavesNothingBehind) {
  const ModelDims dims = dims_of(kTiny);
  const auto ops = make_metal_ops(dims, gpu());
  Random random(9);
  const BlockWeights block = packed(random.block(dims, false, at::kFloat), *ops);
  Activations act = random.activations(dims, 2);
  const at::Tensor x = act.x.clone();
  ops->begin_pass(plan_of(2));
  ops->feed_forward(block, 2, act);
  ops->begin_pass(plan_of(2));
  ops->end_pass();
  EXPECT_TRUE(same_bits(act.x, x));
}

TEST(MetalOpsPack, AMatrixThatNeedsNoFillingSharesItsMemory) {
  const auto ops = make_metal_ops(dims_of(kTiny), gpu());
  const at::Tensor table = Random(3).normal({5, 64}, 1.0, at::kHalf);
  EXPECT_TRUE(ops->pack({5, 64, table, {}, WeightFormat::kFloat16}).weight.is_alias_of(table));
  const Linear filled = ops->pack({5, 63, table.narrow(1, 0, 63), {}, WeightFormat::kFloat16});
  EXPECT_EQ(filled.weight.sizes(), at::IntArrayRef({5, 64}));
  EXPECT_TRUE(same_bits(filled.weight.narrow(1, 0, 63), table.narrow(1, 0, 63)));
  EXPECT_EQ(filled.weight.narrow(1, 63, 1).abs().sum().item<float>(), 0.0F);
}

TEST(MetalOpsErrors, TensorsOfOtherTypesAreRefused) {
  const ModelDims dims = dims_of(kTiny);
  const auto ops = make_metal_ops(dims, gpu());
  const auto pack = [&](const Linear& linear) { static_cast<void>(ops->pack(linear)); };
  test::expect_error(
      [&] {
        pack({2, 3, at::zeros({2, 3}, at::kDouble), {}});
      },
      ExitCode::kDevice, {"weight dtype", "expected Float, got Double"});
  Linear int4 = Random(1).linear(2, 3, false, Format{WeightFormat::kInt4, 32});
  int4.zero = at::Tensor();
  test::expect_error([&] { pack(int4); }, ExitCode::kDevice, {"zero dtype", "expected Byte, got none"});

  Weights weights;
  weights.embedding = at::zeros({13, 7}, at::kDouble);
  Activations act = Random(1).activations(dims, 1);
  ops->begin_pass(plan_of(1));
  test::expect_error([&] { ops->embed(weights, std::vector<int64_t>{1}, act); }, ExitCode::kDevice,
                     {"embedding dtype", "got Double"});
}

}  // namespace
}  // namespace xlstm
