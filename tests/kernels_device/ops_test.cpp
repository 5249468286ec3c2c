#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/kernels_device/device_under_test.h"
#include "tests/kernels_device/expected_values.h"
#include "tests/kernels_device/ops_cases.h"
#include "tests/support/expect_error.h"

namespace xlstm {
namespace {

using test::added;
using test::capped;
using test::device;
using test::dims_of;
using test::expect_values;
using test::fed_forward;
using test::Format;
using test::formats;
using test::from_device;
using test::head_normed;
using test::headed;
using test::kLong;
using test::kOdd;
using test::kRound;
using test::kTiny;
using test::kWide;
using test::multiplied;
using test::on_device;
using test::packed;
using test::plan_of;
using test::Random;
using test::rms_normed;
using test::rounded;
using test::same_bits;
using test::Shape;
using test::text;
using test::Values;

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
  const std::vector<int64_t> row_counts = {1, 2, 4, 5, 8, 16, 17, 40};
  for (const Format& format : formats()) {
    for (const int64_t rows : row_counts) add(kOdd, rows, format);
  }
  for (size_t i = 0; i < 2 * row_counts.size(); ++i) {
    const int64_t rows = row_counts[i % row_counts.size()];
    add(kTiny, rows, formats()[(3 * i + 1) % formats().size()]);
    add(kRound, rows, formats()[(3 * i + 2) % formats().size()]);
  }
  for (const Format& format : formats()) {
    add(kTiny, 133, format);  // several tiles of rows, the last one ragged
    add(kLong, 64, format);   // whose inputs don't fit on a processor together
  }
  add(kTiny, 300, {WeightFormat::kBfloat16, 0});  // more rows than a norm multiplies for the gates
  for (const Format& format : formats()) {        // integer codes are widened; a ragged number of rows, several groups
    if (is_quantized(format.weights)) add(count % 2 == 0 ? kTiny : kOdd, 259, format);
  }
  add(kRound, 255, {WeightFormat::kInt4, 32});                   // one row too few
  add({1101, 1, 3, 5, 8, 13}, 5, {WeightFormat::kBfloat16, 0});  // rows that its threads do not hold
  add(kWide, 1, {WeightFormat::kBfloat16, 0});
  add(kWide, 1, {WeightFormat::kInt4, 32});
  add(kWide, 8, {WeightFormat::kInt8, 32});
  const std::vector<int64_t> long_counts = {1, 4, 24, 40, 48, 65, 130};
  for (size_t i = 0; i < long_counts.size(); ++i) add(kLong, long_counts[i], formats()[(5 * i + 1) % formats().size()]);
  return all;
}

// check(case, ops, random) for all cases, each in a pass of its own.
template <class Check>
void for_each_case(const Check& check) {
  uint64_t seed = 1;
  for (const Case& c : cases()) {
    SCOPED_TRACE(text(c.dims, c.rows, c.format));
    const auto ops = device().ops(c.dims);
    Random random(seed++);
    check(c, *ops, random);
    if (testing::Test::HasFatalFailure()) return;
  }
}

// operation(activations on the device) as a pass of its own, and what it left.
template <class Operation>
Activations in_pass(const Case& c, DeviceOps& ops, const Activations& before, const Operation& operation) {
  Activations act = on_device(before, c.dims, device());
  ops.begin_pass(plan_of(c.rows));
  operation(act);
  ops.end_pass();
  return from_device(act);
}

TEST(DeviceOps, MixerInProjectsNormedRowsAndCapsTheGates) {
  for_each_case([](const Case& c, DeviceOps& ops, Random& random) {
    const BlockWeights block = random.block(c.dims, c.bias, c.format);
    const BlockWeights own = packed(block, ops);
    const Activations before = random.activations(c.dims, c.rows + 1);
    const Activations act = in_pass(c, ops, before, [&](Activations& placed) { ops.mixer_in(own, c.rows, placed); });
    const int64_t terms = c.dims.embedding_dim;
    const Values u = rms_normed(block.norm_mlstm, before.x.narrow(0, 0, c.rows), static_cast<double>(c.dims.norm_eps));
    expect_values(act.qkvo.narrow(0, 0, c.rows), multiplied(block.qkvo, rounded(u, terms, ops, block.qkvo.format), ops),
                  terms);
    expect_values(act.gates.narrow(0, 0, c.rows),
                  capped(multiplied(block.gates, rounded(u, terms, ops, block.gates.format), ops),
                         static_cast<double>(c.dims.gate_soft_cap)),
                  terms);
    EXPECT_TRUE(same_bits(act.x, before.x));
    EXPECT_TRUE(same_bits(act.qkvo[c.rows], before.qkvo[c.rows])) << "wrote behind the last row";
    EXPECT_TRUE(same_bits(act.gates[c.rows], before.gates[c.rows])) << "wrote behind the last row";
  });
}

TEST(DeviceOps, MixerOutAddsTheProjectedGatedHeadNorm) {
  for_each_case([](const Case& c, DeviceOps& ops, Random& random) {
    const BlockWeights block = random.block(c.dims, c.bias, c.format);
    const BlockWeights own = packed(block, ops);
    const Activations before = random.activations(c.dims, c.rows + 1);
    const Activations act = in_pass(c, ops, before, [&](Activations& placed) { ops.mixer_out(own, c.rows, placed); });
    const Values u =
        head_normed(block.multihead_norm, before.h.narrow(0, 0, c.rows), before.o.narrow(0, 0, c.rows), c.dims);
    const Values y = multiplied(block.out_proj, rounded(u, c.dims.head_dim_v, ops, block.out_proj.format), ops);
    expect_values(act.x.narrow(0, 0, c.rows), added(y, before.x.narrow(0, 0, c.rows)), c.dims.v_dim());
    EXPECT_TRUE(same_bits(act.x[c.rows], before.x[c.rows])) << "wrote behind the last row";
    EXPECT_TRUE(same_bits(act.h, before.h));
    EXPECT_TRUE(same_bits(act.qkvo, before.qkvo));
  });
}

TEST(DeviceOps, FeedForwardAddsTheGatedProduct) {
  for_each_case([](const Case& c, DeviceOps& ops, Random& random) {
    const BlockWeights block = random.block(c.dims, c.bias, c.format);
    const BlockWeights own = packed(block, ops);
    const Activations before = random.activations(c.dims, c.rows + 1);
    const Activations act =
        in_pass(c, ops, before, [&](Activations& placed) { ops.feed_forward(own, c.rows, placed); });
    const at::Tensor x = before.x.narrow(0, 0, c.rows);
    expect_values(act.x.narrow(0, 0, c.rows), added(fed_forward(block, x, c.dims, ops), x), c.dims.ffn_dim);
    EXPECT_TRUE(same_bits(act.x[c.rows], before.x[c.rows])) << "wrote behind the last row";
    EXPECT_TRUE(same_bits(act.ffn[c.rows], before.ffn[c.rows])) << "wrote behind the last row";
  });
}

TEST(DeviceOps, HeadComputesOnlyTheRowsAskedFor) {
  for_each_case([](const Case& c, DeviceOps& ops, Random& random) {
    Weights weights;
    weights.head = random.linear(c.dims.vocab_size, c.dims.embedding_dim, false, c.format);
    if (c.rows % 4 != 2) weights.out_norm = random.norm(c.dims.embedding_dim, c.bias);
    const Weights own = packed(weights, ops);
    // First rows that lie one behind the other, not from row 0 on, then rows with gaps between them.
    for (const bool gaps : {false, true}) {
      RowPlan plan;
      plan.add(0, 3, gaps ? LogitRows::kLast : LogitRows::kNone);
      plan.add(1, 2, LogitRows::kNone);
      plan.add(2, c.rows, LogitRows::kAll);
      const Activations before = random.activations(c.dims, plan.rows());
      Activations act = on_device(before, c.dims, device());
      const auto wanted = static_cast<int64_t>(plan.logit_rows().size());
      const at::Tensor old = random.normal({wanted + 1, c.dims.vocab_size}, 1.0);
      at::Tensor logits = device().place(old);
      ops.begin_pass(plan);
      ops.head(own, plan, act, logits);
      ops.end_pass();
      logits = logits.cpu();
      const at::Tensor x = before.x.index_select(0, at::tensor(at::ArrayRef<int64_t>(plan.logit_rows()), at::kLong));
      expect_values(logits.narrow(0, 0, wanted), headed(weights, x, c.dims, ops), c.dims.embedding_dim);
      EXPECT_TRUE(same_bits(logits[wanted], old[wanted])) << "wrote behind the last row";
      if (testing::Test::HasFatalFailure()) return;
    }
  });
}

void expect_head_and_feed_forward(const ModelDims& dims, int64_t rows, const Format& format, DeviceOps& ops) {
  Random random(static_cast<uint64_t>(rows));
  const BlockWeights block = random.block(dims, rows == 7, format);
  Weights weights;
  weights.out_norm = random.norm(dims.embedding_dim, false);
  weights.head = random.linear(dims.vocab_size, dims.embedding_dim, true, format);
  const Weights own = packed(weights, ops);
  const BlockWeights own_block = packed(block, ops);
  const Activations before = random.activations(dims, rows);
  Activations act = on_device(before, dims, device());
  at::Tensor logits = device().place(at::zeros({rows, dims.vocab_size}, at::kFloat));
  ops.begin_pass(plan_of(rows));
  ops.head(own, plan_of(rows), act, logits);
  ops.feed_forward(own_block, rows, act);
  ops.end_pass();
  expect_values(logits.cpu(), headed(weights, before.x, dims, ops), dims.embedding_dim);
  expect_values(act.x.cpu(), added(fed_forward(block, before.x, dims, ops), before.x), dims.ffn_dim);
}

void expect_head_and_feed_forward(const ModelDims& dims, const std::vector<Format>& formats,
                                  const std::vector<int64_t>& counts) {
  const auto ops = device().ops(dims);
  for (const Format& format : formats) {
    for (const int64_t rows : counts) {
      SCOPED_TRACE(text(dims, rows, format));
      expect_head_and_feed_forward(dims, rows, format, *ops);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

// So many that there is work for each part of a large GPU (the matrices of the other tests are too small for that), and
// so long that whoever shares a row among threads has several parts of several rows.
TEST(DeviceOps, MatricesOfManyRowsAreMultipliedRowByRow) {
  expect_head_and_feed_forward(dims_of({41, 1, 3, 5, 4103, 8203}), formats(), {1, 7});
  expect_head_and_feed_forward(dims_of({1100, 1, 3, 5, 23, 4301}), formats(), {1, 7});
}

// Groups that are no power of two, and that begin in one part of a row which is multiplied as a whole and end in
// another.
TEST(DeviceOps, GroupsThatLieAcrossPartsOfARowKeepTheirScales) {
  expect_head_and_feed_forward(dims_of({1100, 1, 3, 5, 1061, 261}),
                               {{WeightFormat::kInt8, 96},
                                {WeightFormat::kInt8, 160},
                                {WeightFormat::kInt4, 128},
                                {WeightFormat::kInt4, 160},
                                {WeightFormat::kInt4, 192}},
                               {1, 5, 8, 24});
}

// Rows of x of which as many as a product takes at best leave too little fast memory.
TEST(DeviceOps, EightRowsOfManyColumnsAreMultiplied) {
  expect_head_and_feed_forward(dims_of({40, 1, 3, 5, 12900, 37}),
                               {{WeightFormat::kBfloat16, 0},
                                {WeightFormat::kInt8, 0},
                                {WeightFormat::kInt8, 96},
                                {WeightFormat::kInt4, 0},
                                {WeightFormat::kInt4, 160}},
                               {8});
}

TEST(DeviceOps, EmbedLooksUpExactRows) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const ModelDims dims = dims_of({137, 1, 4, 4, 8, 11});
    const auto ops = device().ops(dims);
    Random random(7);
    const at::Tensor table = random.normal({137, 11}, 1.0, dtype).t();
    Weights weights;
    weights.embedding = ops->place(table);
    // More ids than the arguments of one command hold.
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < 1003; ++i) ids.push_back(i * 7 % 11);
    const auto rows = static_cast<int64_t>(ids.size());
    Activations act = on_device(random.activations(dims, rows), dims, device());
    ops->begin_pass(plan_of(rows));
    ops->embed(weights, ids, act);
    ops->end_pass();
    const at::Tensor index = at::tensor(at::ArrayRef<int64_t>(ids), at::kLong);
    EXPECT_TRUE(same_bits(act.x.cpu(), table.index_select(0, index).to(at::kFloat)));
  }
}

TEST(DeviceOps, TensorsOfOtherTypesAreRefused) {
  const ModelDims dims = dims_of(kTiny);
  const auto ops = device().ops(dims);
  const auto pack = [&](const Linear& linear) { static_cast<void>(ops->pack(linear)); };
  const Linear doubles{2, 3, at::zeros({2, 3}, at::kDouble), {}};
  test::expect_error([&] { pack(doubles); }, ExitCode::kDevice, {"weight dtype", "expected Float, got Double"});
  Linear int4 = Random(1).linear(2, 3, false, Format{WeightFormat::kInt4, 32});
  int4.zero = at::Tensor();
  test::expect_error([&] { pack(int4); }, ExitCode::kDevice, {"zero dtype", "expected Byte, got none"});

  Weights weights;
  weights.embedding = device().place(at::zeros({13, 7}, at::kDouble));
  Activations act = on_device(Random(1).activations(dims, 1), dims, device());
  ops->begin_pass(plan_of(1));
  test::expect_error([&] { ops->embed(weights, std::vector<int64_t>{1}, act); }, ExitCode::kDevice,
                     {"embedding dtype", "got Double"});
}

}  // namespace
}  // namespace xlstm
