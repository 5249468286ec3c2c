// Whole passes of the operations around the cell.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/native/native_ops.h"
#include "tests/kernels_device/device_under_test.h"
#include "tests/kernels_device/ops_cases.h"

namespace xlstm {
namespace {

using test::bytes_of;
using test::device;
using test::DeviceUnderTest;
using test::dims_of;
using test::Format;
using test::formats;
using test::from_device;
using test::kOdd;
using test::kTiny;
using test::on_device;
using test::packed;
using test::plan_of;
using test::Random;
using test::same_bits;
using test::text;

struct PassResult {
  at::Tensor x;
  at::Tensor logits;
};

// The memory of passes that decode a token of each row.
struct Decoding {
  Activations act;
  at::Tensor logits;
  std::vector<LayerState> states;  // of the blocks

  [[nodiscard]] std::string bytes() const {
    std::string all = bytes_of(act.x) + bytes_of(logits);
    for (const LayerState& state : states) all += bytes_of(state.c) + bytes_of(state.n) + bytes_of(state.m);
    return all;
  }
};

// All operations of two blocks in passes, as a model runs them. Random weights and activations, the same for all.
class TwoBlocks {
 public:
  TwoBlocks(DeviceOps& ops, const ModelDims& dims, const Format& format) : ops_(ops), dims_(dims) {
    Weights weights;
    weights.embedding = random_.normal({dims.vocab_size, dims.embedding_dim}, 1.0, at::kHalf);
    for (int i = 0; i < kBlocks; ++i) weights.blocks.push_back(random_.block(dims, i == 1, format));
    weights.out_norm = random_.norm(dims.embedding_dim, false);
    weights.head = random_.linear(dims.vocab_size, dims.embedding_dim, false, format);
    weights_ = packed(weights, ops);
  }

  Activations activations(int64_t rows) { return random_.activations(dims_, rows); }
  Decoding decoding(DeviceUnderTest& place, int64_t rows, at::ScalarType state) {
    Decoding made{on_device(activations(rows), dims_, place), place.place(at::zeros({rows, dims_.vocab_size})), {}};
    for (int i = 0; i < kBlocks; ++i) made.states.push_back(on_device(random_.state(dims_, rows, state), place));
    return made;
  }

  // A pass; row r begins with token (first + 5·r). cell(block) comes between its mixer_in and mixer_out.
  template <class Cell>
  void run(const RowPlan& plan, int64_t first, Activations& act, at::Tensor& logits, const Cell& cell) {
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < plan.rows(); ++i) ids.push_back((first + i * 5) % dims_.vocab_size);
    ops_.begin_pass(plan);
    ops_.embed(weights_, ids, act);
    for (size_t i = 0; i < weights_.blocks.size(); ++i) {
      ops_.mixer_in(weights_.blocks[i], plan.rows(), act);
      cell(i);
      ops_.mixer_out(weights_.blocks[i], plan.rows(), act);
      ops_.feed_forward(weights_.blocks[i], plan.rows(), act);
    }
    ops_.head(weights_, plan, act, logits);
    ops_.end_pass();
  }
  void decode(const RowPlan& plan, int64_t first, CellKernel& step, Decoding& memory) {
    run(plan, first, memory.act, memory.logits, [&](size_t i) {
      step.run({memory.act, memory.states[i], plan.spans()});
    });
  }

 private:
  static constexpr int kBlocks = 2;
  DeviceOps& ops_;
  ModelDims dims_;
  Random random_{17};
  Weights weights_;
};

constexpr auto kNoCell = [](size_t /*block*/) {};

RowPlan plan_of_two_spans(int64_t rows) {
  RowPlan plan;
  plan.add(0, rows, LogitRows::kAll);
  plan.add(1, 2, LogitRows::kLast);
  return plan;
}

PassResult run_pass(const ModelDims& dims, const Format& format, int64_t rows) {
  const auto ops = device().ops(dims);
  TwoBlocks model(*ops, dims, format);
  const RowPlan plan = plan_of_two_spans(rows);
  Activations act = on_device(model.activations(plan.rows()), dims, device());
  at::Tensor logits = device().place(at::zeros({rows + 1, dims.vocab_size}, at::kFloat));
  model.run(plan, 0, act, logits, kNoCell);
  return {act.x.cpu(), logits.cpu()};
}

PassResult run_native_pass(const ModelDims& dims, const Format& format, int64_t rows) {
  const auto ops = make_native_ops(dims, at::kCPU);
  TwoBlocks model(*ops, dims, format);
  const RowPlan plan = plan_of_two_spans(rows);
  Activations act = model.activations(plan.rows());
  at::Tensor logits = at::zeros({rows + 1, dims.vocab_size}, at::kFloat);
  model.run(plan, 0, act, logits, kNoCell);
  return {act.x, logits};
}

TEST(DevicePasses, APassGivesWhatTheNativeOperationsGive) {
  for (const Format& format : formats()) {
    for (const int64_t rows : {2, 21}) {
      const ModelDims dims = dims_of(kOdd);
      SCOPED_TRACE(text(dims, rows, format));
      const PassResult expected = run_native_pass(dims, format, rows);
      const PassResult actual = run_pass(dims, format, rows);
      // Four residual steps and the head, each within the bounds of the tests above or within a bfloat16 rounding.
      const bool rounds = device().ops(dims)->input_rounding(format.weights) == InputRounding::kBfloat16;
      const double step =
          rounds ? std::ldexp(1.0, -8) : std::ldexp(16 + 4 * std::sqrt(static_cast<double>(dims.ffn_dim)), -24);
      EXPECT_LE((actual.x - expected.x).norm().item<double>(), 5 * step * expected.x.norm().item<double>());
      EXPECT_LE((actual.logits - expected.logits).norm().item<double>(),
                5 * step * expected.logits.norm().item<double>());
    }
  }
}

// One token of each of several sequences, with the same memory each time, as a model decodes: what a device may keep
// the commands of. Compared with the first pass of a device.
TEST(DevicePasses, PassesOfTheSameFormEachGiveTheirOwnResults) {
  const ModelDims dims = dims_of(kOdd);
  for (size_t f = 0; f < formats().size(); ++f) {
    const Format& format = formats()[f];
    const auto rows = std::array<int64_t, 3>{1, 6, 67}[f % 3];
    SCOPED_TRACE(text(dims, rows, format));
    RowPlan plan;
    for (int64_t slot = 0; slot < rows; ++slot) plan.add(slot, 1, LogitRows::kAll);
    const at::ScalarType state_type = f % 2 == 0 ? at::kFloat : at::kBFloat16;
    const auto ops = device().ops(dims);
    const auto step = device().step(dims);
    TwoBlocks model(*ops, dims, format);
    Decoding memory = model.decoding(device(), rows, state_type);
    for (int64_t first = 0; first < 5; ++first) {
      const auto other = test::make_device_under_test();
      const auto other_ops = other->ops(dims);
      TwoBlocks same(*other_ops, dims, format);
      Decoding fresh = same.decoding(*other, rows, state_type);
      for (size_t i = 0; i < fresh.states.size(); ++i) {
        fresh.states[i] = on_device(from_device(memory.states[i]), *other);
      }
      same.decode(plan, first, *other->step(dims), fresh);
      model.decode(plan, first, *step, memory);
      EXPECT_TRUE(memory.bytes() == fresh.bytes()) << "pass " << first;
    }
  }
}

TEST(DevicePasses, ResultsDoNotDependOnTheOrderOfThreads) {
  const ModelDims dims = dims_of({41, 2, 3, 11, 55, 19});
  for (const Format& format : formats()) {
    for (const int64_t rows : {1, 4, 9, 67}) {
      SCOPED_TRACE(text(dims, rows, format));
      const auto run = [&] {
        const PassResult result = run_pass(dims, format, rows);
        return bytes_of(result.x) + bytes_of(result.logits);
      };
      EXPECT_EQ(device().order_dependence(run), "");
    }
  }
}

TEST(DevicePasses, LargeFiniteInputsNeverGiveNan) {
  const ModelDims dims = dims_of(kOdd);
  const auto ops = device().ops(dims);
  for (const int64_t rows : {4, 20}) {
    Random random(5);
    const BlockWeights block = packed(random.block(dims, true, at::kFloat), *ops);
    Activations large = random.activations(dims, rows);
    large.x.mul_(1e15);
    large.qkvo.mul_(1e30);
    large.h.mul_(1e15);
    Activations act = on_device(large, dims, device());
    ops->begin_pass(plan_of(rows));
    ops->mixer_out(block, rows, act);
    ops->mixer_in(block, rows, act);
    ops->feed_forward(block, rows, act);
    ops->end_pass();
    EXPECT_TRUE(at::isfinite(act.x).all().item<bool>());
    EXPECT_TRUE(at::isfinite(act.gates).all().item<bool>());
  }
}

TEST(DevicePasses, AnAbandonedPassLeavesNothingBehind) {
  const ModelDims dims = dims_of(kTiny);
  const auto ops = device().ops(dims);
  Random random(9);
  const BlockWeights block = packed(random.block(dims, false, at::kFloat), *ops);
  const Activations before = random.activations(dims, 2);
  Activations act = on_device(before, dims, device());
  RowPlan steps;
  for (int64_t slot = 0; slot < 2; ++slot) steps.add(slot, 1, LogitRows::kAll);
  ops->begin_pass(steps);
  ops->feed_forward(block, 2, act);
  ops->begin_pass(steps);
  ops->end_pass();
  EXPECT_TRUE(same_bits(act.x.cpu(), before.x));
}

}  // namespace
}  // namespace xlstm
