#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/kernels/cell_cases.h"
#include "tests/kernels/cell_reference.h"
#include "tests/kernels/random_tensors.h"
#include "tests/kernels_device/device_under_test.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using test::bytes_of;
using test::cell_dims;
using test::copy_of;
using test::DeviceUnderTest;
using test::expect_cell;
using test::from_device;
using test::kCellSlots;
using test::make_spans;
using test::on_device;
using test::Random;
using test::rows_of;
using test::same_bits;

struct Result {
  Activations act;
  LayerState state;
};

using MakeKernel = std::function<std::unique_ptr<CellKernel>(DeviceUnderTest&, const ModelDims&)>;

std::unique_ptr<CellKernel> step(DeviceUnderTest& device, const ModelDims& dims) {
  return device.step(dims);
}

std::unique_ptr<CellKernel> sequence(DeviceUnderTest& device, const ModelDims& dims) {
  return device.sequence(dims);
}

MakeKernel chunkwise(int64_t chunk_size, int64_t heads_per_band = 0) {
  return [=](DeviceUnderTest& device, const ModelDims& dims) {
    return device.chunkwise(dims, chunk_size, heads_per_band);
  };
}

// One of each of 70 sequences, whose slots are not in the order of the rows.
std::vector<Span> many_tokens() {
  std::vector<Span> spans;
  for (int64_t i = 0; i < 70; ++i) spans.push_back({69 - i, i, 1});
  return spans;
}

bool same_result(const Result& a, const Result& b) {
  return same_bits(a.act.h, b.act.h) && same_bits(a.state.c, b.state.c) && same_bits(a.state.n, b.state.n) &&
         same_bits(a.state.m, b.state.m);
}

bool same_span(const Result& a, const Result& b, const Span& span) {
  return same_bits(a.act.h.narrow(0, span.first_row, span.rows), b.act.h.narrow(0, span.first_row, span.rows)) &&
         same_bits(a.state.c[span.slot], b.state.c[span.slot]) &&
         same_bits(a.state.n[span.slot], b.state.n[span.slot]) && same_bits(a.state.m[span.slot], b.state.m[span.slot]);
}

std::string text(const ModelDims& dims) {
  return cat("NH ", dims.num_heads, " Dk ", dims.head_dim_qk, " Dv ", dims.head_dim_v);
}

class DeviceCellTest : public testing::Test {
 protected:
  static Result random_input(const ModelDims& dims, const std::vector<Span>& spans, uint64_t seed,
                             at::ScalarType dtype = at::kFloat) {
    Random random(seed);
    return {random.activations(dims, rows_of(spans)), random.state(dims, kCellSlots, dtype)};
  }

  Result run(const MakeKernel& make, const ModelDims& dims, const Result& input, const std::vector<Span>& spans) {
    Result result = place(input, dims);
    make(*device_, dims)->run({result.act, result.state, spans});
    return read(result);
  }

  // Token t of every span in one call, for all t.
  Result run_steps(const ModelDims& dims, const Result& input, const std::vector<Span>& spans) {
    Result result = place(input, dims);
    const auto kernel = device_->step(dims);
    int64_t longest = 0;
    for (const Span& span : spans) longest = std::max(longest, span.rows);
    for (int64_t t = 0; t < longest; ++t) {
      std::vector<Span> tokens;
      for (const Span& span : spans) {
        if (t < span.rows) tokens.push_back({span.slot, span.first_row + t, 1});
      }
      kernel->run({result.act, result.state, tokens});
    }
    return read(result);
  }

  [[nodiscard]] Result place(const Result& input, const ModelDims& dims) const {
    return {on_device(input.act, dims, *device_), on_device(input.state, *device_)};
  }
  static void overwrite(const Result& memory, const Result& input) {
    memory.act.qkvo.copy_(input.act.qkvo);
    memory.act.gates.copy_(input.act.gates);
    memory.state.c.copy_(input.state.c);
    memory.state.n.copy_(input.state.n);
    memory.state.m.copy_(input.state.m);
  }
  [[nodiscard]] static Result read(const Result& result) {
    return {from_device(result.act), from_device(result.state)};
  }

  // All three families against the reference, from a state that is not zero; steps up to 64 of them, since each takes
  // its commands. A bfloat16 state is rounded once per chunkwise call and sequence, once per step.
  void expect_recurrence(const ModelDims& dims, int64_t chunk, const std::vector<int64_t>& lengths,
                         at::ScalarType dtype) {
    SCOPED_TRACE(cat(text(dims), " chunk ", chunk, " state ", at::toString(dtype)));
    const std::vector<Span> spans = make_spans(lengths);
    const Result input = random_input(dims, spans, seed_++, dtype);
    const double rounding = test::state_rounding(dtype);
    const Result chunked = run(chunkwise(chunk), dims, input, spans);
    ASSERT_NO_FATAL_FAILURE(expect_cell(dims, chunked.act, input.state, chunked.state, spans, rounding));
    const Result whole = run(sequence, dims, input, spans);
    ASSERT_NO_FATAL_FAILURE(expect_cell(dims, whole.act, input.state, whole.state, spans, rounding));
    EXPECT_TRUE(same_bits(whole.state.c[1], input.state.c[1]) && same_bits(chunked.state.c[1], input.state.c[1]))
        << "an unused slot was changed";
    const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
    if (longest > 64) return;
    const Result steps = run_steps(dims, input, spans);
    const double all_roundings = static_cast<double>(longest) * rounding;
    ASSERT_NO_FATAL_FAILURE(expect_cell(dims, steps.act, input.state, steps.state, spans, all_roundings));
    EXPECT_TRUE(dtype != at::kFloat || same_result(steps, whole)) << "steps and sequence differ";
  }

  std::unique_ptr<DeviceUnderTest> device_ = test::make_device_under_test();
  uint64_t seed_ = 1;
};

TEST_F(DeviceCellTest, SmallHeadsFollowTheRecurrenceAtEveryChunkSize) {
  for (const ModelDims& dims : {cell_dims(1, 1, 1), cell_dims(3, 5, 3), cell_dims(2, 17, 31), cell_dims(2, 32, 64)}) {
    for (const int64_t chunk : {1, 7, 16, 32, 64, 100, 128}) {
      const at::ScalarType dtype = seed_ % 2 == 0 ? at::kFloat : at::kBFloat16;
      expect_recurrence(dims, chunk, {2 * chunk, 0, chunk}, dtype);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(DeviceCellTest, EveryHeadSizeFollowsTheRecurrence) {
  // Dk 512 takes two commands for the chunkwise C, 600 takes two of the recurrent kernel and three segments of n; 1100
  // has two segments of the chunkwise n.
  for (const ModelDims& dims :
       {cell_dims(4, 32, 64), cell_dims(2, 64, 64), cell_dims(2, 64, 128), cell_dims(1, 128, 256),
        cell_dims(1, 512, 40), cell_dims(1, 600, 5), cell_dims(1, 1100, 2)}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      expect_recurrence(dims, 16, {16, 32}, dtype);
      expect_recurrence(dims, 128, {128}, dtype);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(DeviceCellTest, TheSevenBillionShapeIsRight) {
  expect_recurrence(cell_dims(1, 256, 512), 64, {64}, at::kFloat);
  expect_recurrence(cell_dims(1, 256, 512), 16, {32}, at::kBFloat16);
}

TEST_F(DeviceCellTest, BatchesOfUnequalLengthsGiveTheBitsOfEachSequenceAlone) {
  const ModelDims dims = cell_dims(2, 17, 40);
  const std::vector<int64_t> lengths = {5, 0, 33, 1, 66, 7, 8, 19};
  for (size_t batch = 1; batch <= lengths.size(); ++batch) {
    SCOPED_TRACE(batch);
    std::vector<int64_t> rows = {lengths.begin(), lengths.begin() + static_cast<std::ptrdiff_t>(batch)};
    const auto check = [&](const std::function<Result(const Result&, const std::vector<Span>&)>& run_kernel) {
      const std::vector<Span> spans = make_spans(rows);
      const Result input = random_input(dims, spans, 300 + batch);
      const Result all = run_kernel(input, spans);
      expect_cell(dims, all.act, input.state, all.state, spans, 0);
      EXPECT_TRUE(same_span(all, run_kernel(input, {spans.back()}), spans.back()));
    };
    check([&](const Result& input, const auto& spans) { return run(sequence, dims, input, spans); });
    check([&](const Result& input, const auto& spans) { return run_steps(dims, input, spans); });
    check([&](const Result& input, const auto& spans) { return run(chunkwise(1), dims, input, spans); });
    for (int64_t& length : rows) length = (length + 15) / 16 * 16;
    check([&](const Result& input, const auto& spans) { return run(chunkwise(16), dims, input, spans); });
    if (HasFatalFailure()) return;
  }
}

TEST_F(DeviceCellTest, MoreSpansThanFitACommandAreAllRun) {
  const ModelDims dims = cell_dims(1, 5, 6);
  std::vector<Span> spans;
  for (int64_t i = 0; i < 70; ++i) spans.push_back({69 - i, 2 * i, 2});
  Random random(20);
  const Result input{random.activations(dims, rows_of(spans)), random.state(dims, 70)};
  for (const MakeKernel& make : {MakeKernel(sequence), chunkwise(2)}) {
    const Result result = run(make, dims, input, spans);
    expect_cell(dims, result.act, input.state, result.state, spans, 0);
    if (HasFatalFailure()) return;
  }
}

// More of a head's strips of columns, heads and sequences than a device works on at once, some heads in several parts.
TEST_F(DeviceCellTest, StepsOfMoreSequencesThanFitTheDeviceAtOnceAreAllRun) {
  for (const ModelDims& dims : {cell_dims(8, 40, 64), cell_dims(4, 300, 68), cell_dims(5, 33, 71)}) {
    const std::vector<Span> spans = many_tokens();
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      Random random(21);
      const Result input{random.activations(dims, rows_of(spans)), random.state(dims, 70, dtype)};
      const Result result = run(step, dims, input, spans);
      expect_cell(dims, result.act, input.state, result.state, spans, test::state_rounding(dtype));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(DeviceCellTest, APassMayHaveCallsOfAnySize) {
  const ModelDims dims = cell_dims(2, 9, 10);
  for (const MakeKernel& make : {MakeKernel(sequence), chunkwise(4)}) {
    const auto kernel = make(*device_, dims);
    std::vector<Result> inputs;
    std::vector<Result> results;
    std::vector<std::vector<Span>> spans;
    for (const int64_t rows : {8, 72, 4, 20}) {
      spans.push_back(make_spans({rows, 4}));
      inputs.push_back(random_input(dims, spans.back(), static_cast<uint64_t>(rows)));
      results.push_back(place(inputs.back(), dims));
    }
    device_->begin_pass();
    for (size_t i = 0; i < results.size(); ++i) kernel->run({results[i].act, results[i].state, spans[i]});
    device_->end_pass();
    for (size_t i = 0; i < results.size(); ++i) {
      const Result result = read(results[i]);
      expect_cell(dims, result.act, inputs[i].state, result.state, spans[i], 0);
      if (HasFatalFailure()) return;
    }
  }
}

// With other values in the same memory, so that what an earlier pass has left is never right.
TEST_F(DeviceCellTest, PassesOfTheSameFormEachGiveTheirOwnResults) {
  const ModelDims dims = cell_dims(2, 40, 70);
  const std::vector<Span> rows = make_spans({1, 1, 1});
  const std::vector<Span> tiles = make_spans({32, 96});
  for (const auto& [make, spans] :
       {std::pair{MakeKernel(step), rows}, {MakeKernel(sequence), tiles}, {chunkwise(32), tiles}}) {
    const auto kernel = make(*device_, dims);
    Result memory = place(random_input(dims, spans, 50), dims);
    for (uint64_t pass = 0; pass < 5; ++pass) {
      const Result input = random_input(dims, spans, 60 + pass);
      overwrite(memory, input);
      device_->begin_pass();
      kernel->run({memory.act, memory.state, spans});
      device_->end_pass();
      EXPECT_TRUE(same_result(read(memory), run(make, dims, input, spans))) << "pass " << pass;
    }
  }
}

TEST_F(DeviceCellTest, LongSequencesFollowTheRecurrence) {
  const ModelDims dims = cell_dims(2, 5, 6);
  const std::vector<Span> spans = make_spans({64, 2112, 1088});
  const Result input = random_input(dims, spans, 8);
  for (const MakeKernel& make : {MakeKernel(sequence), chunkwise(64), chunkwise(32)}) {
    const Result result = run(make, dims, input, spans);
    expect_cell(dims, result.act, input.state, result.state, spans, 0);
    if (HasFatalFailure()) return;
  }
}

TEST_F(DeviceCellTest, BandsOfHeadsGiveTheBitsOfAllHeadsAtOnce) {
  const ModelDims dims = cell_dims(5, 17, 33);
  const std::vector<Span> spans = make_spans({48, 16});
  const Result input = random_input(dims, spans, 5);
  const Result all = run(chunkwise(16), dims, input, spans);
  for (const int64_t band : {1, 2, 5, 9}) {
    EXPECT_TRUE(same_result(run(chunkwise(16, band), dims, input, spans), all)) << band;
  }
}

TEST_F(DeviceCellTest, ResultsDoNotDependOnTheOrderOfThreads) {
  const ModelDims dims = cell_dims(2, 40, 70);
  const std::vector<Span> spans = make_spans({32, 96});
  const Result input = random_input(dims, spans, 6);
  for (const MakeKernel& make : {MakeKernel(sequence), chunkwise(32)}) {
    const std::string difference = device_->order_dependence([&] {
      const Result result = run(make, dims, input, spans);
      return bytes_of(result.act.h) + bytes_of(result.state.c) + bytes_of(result.state.n) + bytes_of(result.state.m);
    });
    EXPECT_EQ(difference, "");
  }
}

TEST_F(DeviceCellTest, StepsOfManySequencesDoNotDependOnTheOrderOfThreads) {
  for (const ModelDims& dims : {cell_dims(8, 40, 64), cell_dims(4, 300, 68)}) {
    const std::vector<Span> spans = many_tokens();
    Random random(22);
    const Result input{random.activations(dims, rows_of(spans)), random.state(dims, 70)};
    const std::string difference = device_->order_dependence([&] {
      const Result result = run(step, dims, input, spans);
      return bytes_of(result.act.h) + bytes_of(result.state.c) + bytes_of(result.state.n) + bytes_of(result.state.m);
    });
    EXPECT_EQ(difference, "");
  }
}

// What a step reads before it knows its slots for certain is of the pass before.
TEST_F(DeviceCellTest, StepsOfRepeatedPassesFindSlotsThatChange) {
  constexpr int64_t kSequences = 30;
  for (const ModelDims& dims : {cell_dims(8, 40, 64), cell_dims(4, 300, 68)}) {
    const auto kernel = device_->step(dims);
    Random random(23);
    Result memory = place({random.activations(dims, kSequences), random.state(dims, kSequences)}, dims);
    for (int64_t pass = 0; pass < 5; ++pass) {
      std::vector<Span> spans;
      for (int64_t i = 0; i < kSequences; ++i) spans.push_back({(7 * i + 11 * pass) % kSequences, i, 1});
      const Result input{random.activations(dims, kSequences), random.state(dims, kSequences)};
      overwrite(memory, input);
      device_->begin_pass();
      kernel->run({memory.act, memory.state, spans});
      device_->end_pass();
      const Result result = read(memory);
      expect_cell(dims, result.act, input.state, result.state, spans, 0);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(DeviceCellTest, BfloatStateIsRoundedToNearestWhenItIsStored) {
  const ModelDims dims = cell_dims(2, 9, 33);
  const std::vector<Span> spans = make_spans({64, 32});
  const Result input = random_input(dims, spans, 7, at::kBFloat16);
  Result wide = input;
  wide.state.c = input.state.c.to(at::kFloat);
  wide.state.n = input.state.n.to(at::kFloat);
  for (const MakeKernel& make : {MakeKernel(sequence), chunkwise(32)}) {
    // Float32 is kept until a call ends, which so ends on the rounded float32 result.
    const Result narrow = run(make, dims, input, spans);
    const Result exact = run(make, dims, wide, spans);
    EXPECT_TRUE(same_bits(narrow.state.c, exact.state.c.to(at::kBFloat16)));
    EXPECT_TRUE(same_bits(narrow.state.n, exact.state.n.to(at::kBFloat16)));
    EXPECT_TRUE(same_bits(narrow.act.h, exact.act.h));
  }
}

TEST_F(DeviceCellTest, LongTilesKeepTheirPrecision) {
  const ModelDims dims = cell_dims(1, 8, 20);
  const std::vector<Span> spans = make_spans({256});
  Result input = random_input(dims, spans, 3);
  input.act.gates.narrow(1, dims.num_heads, dims.num_heads).sub_(30.0);  // strong forgetting: large sums of logs
  const Result chunked = run(chunkwise(256), dims, input, spans);
  const Result whole = run(sequence, dims, input, spans);
  expect_cell(dims, chunked.act, input.state, chunked.state, spans, 0);
  // Sums of logs near -2000 in single precision would be off by 1e-4.
  EXPECT_LT((chunked.act.h - whole.act.h).norm().item<double>() / whole.act.h.norm().item<double>(), 5e-6);
}

TEST_F(DeviceCellTest, AForgetGateShutInsideATileCutsOffWhatCameBefore) {
  // Tokens behind the cut must see each other at full precision although the sum of logs is huge there.
  const ModelDims dims = cell_dims(1, 8, 16);
  const std::vector<Span> spans = make_spans({64});
  for (const float shut : {-80.0F, -2e4F, -1e9F}) {
    Result input = random_input(dims, spans, 11);
    input.act.gates[10][1] = shut;
    const Result whole = run(sequence, dims, input, spans);
    const Result chunked = run(chunkwise(64), dims, input, spans);
    const at::Tensor error = (whole.act.h - chunked.act.h).abs().max() / whole.act.h.abs().max();
    EXPECT_LT(error.item<double>(), 1e-5) << shut;
  }
}

TEST_F(DeviceCellTest, SaturatedGatesFollowTheRecurrence) {
  const ModelDims dims = cell_dims(2, 16, 32);
  const std::vector<Span> spans = make_spans({32, 64});
  for (const float i_gate : {-80.0F, -15.0F, 15.0F, 80.0F}) {
    for (const float f_gate : {-80.0F, -15.0F, 15.0F, 80.0F}) {
      SCOPED_TRACE(cat("i ", i_gate, " f ", f_gate));
      Result input = random_input(dims, spans, 10);
      input.act.gates.narrow(1, 0, 2).fill_(i_gate);
      input.act.gates.narrow(1, 2, 2).fill_(f_gate);
      for (const MakeKernel& make : {MakeKernel(sequence), chunkwise(32)}) {
        const Result result = run(make, dims, input, spans);
        expect_cell(dims, result.act, input.state, result.state, spans, 0);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(DeviceCellTest, GateExtremesGiveFiniteResults) {
  const ModelDims dims = cell_dims(2, 16, 33);
  const float never = -std::numeric_limits<float>::infinity();
  const std::vector<float> extremes = {-80.0F, 80.0F, -1e4F, 1e4F, -1e30F, 0.0F, -100.0F, never};
  const auto count = static_cast<int64_t>(extremes.size());
  const std::vector<Span> spans = make_spans({count * count, count * count});
  Result input = random_input(dims, spans, 9);
  for (int64_t row = 0; row < rows_of(spans); ++row) {
    const int64_t pair = (row * 29) % (count * count);
    input.act.gates[row].narrow(0, 0, 2).fill_(extremes[static_cast<size_t>(pair / count)]);
    input.act.gates[row].narrow(0, 2, 2).fill_(extremes[static_cast<size_t>(pair % count)]);
  }
  Result shut = input;
  shut.act = copy_of(input.act, dims);
  shut.act.gates.fill_(never);
  for (const Result* gates : {&input, &shut}) {
    for (const MakeKernel& make : {MakeKernel(sequence), chunkwise(1), chunkwise(16), chunkwise(64)}) {
      const Result result = run(make, dims, *gates, spans);
      EXPECT_TRUE(at::isfinite(result.act.h).all().item<bool>());
      EXPECT_TRUE(at::isfinite(result.state.c).all().item<bool>());
      EXPECT_TRUE(at::isfinite(result.state.n).all().item<bool>());
      EXPECT_TRUE(at::isfinite(result.state.m).all().item<bool>());
    }
  }
}

TEST_F(DeviceCellTest, BrokenContractsAreReported) {
  const ModelDims dims = cell_dims(2, 4, 6);
  Random random(12);
  const Activations act = on_device(random.activations(dims, 4), dims, *device_);
  const LayerState cpu_state = random.state(dims, kCellSlots);
  LayerState state = on_device(cpu_state, *device_);
  const std::vector<Span> two_rows = {{0, 0, 2}};
  EXPECT_THROW(device_->step(dims)->run({act, state, two_rows}), Error);
  EXPECT_THROW(device_->chunkwise(dims, 3, 0)->run({act, state, two_rows}), Error);
  EXPECT_THROW((void)device_->chunkwise(dims, 0, 0), Error);
  EXPECT_THROW((void)device_->chunkwise(dims, 16, -1), Error);
  EXPECT_NO_THROW(device_->chunkwise(dims, 2, 0)->run({act, state, two_rows}));
  LayerState transposed = state;
  transposed.c = device_->place(cpu_state.c.transpose(2, 3)).transpose(2, 3);
  EXPECT_THROW(device_->sequence(dims)->run({act, transposed, two_rows}), Error);
  LayerState half = on_device(random.state(dims, kCellSlots, at::kHalf), *device_);
  EXPECT_THROW(device_->sequence(dims)->run({act, half, two_rows}), Error);
}

TEST_F(DeviceCellTest, NoSpansAreNoWork) {
  const ModelDims dims = cell_dims(2, 4, 6);
  Random random(13);
  const Activations act = on_device(random.activations(dims, 4), dims, *device_);
  const LayerState before = random.state(dims, kCellSlots);
  LayerState state = on_device(before, *device_);
  const std::vector<Span> empty = {{3, 2, 0}};
  device_->step(dims)->run({act, state, {}});
  for (const std::vector<Span>& spans : {std::vector<Span>{}, empty}) {
    device_->sequence(dims)->run({act, state, spans});
    device_->chunkwise(dims, 16, 0)->run({act, state, spans});
  }
  const LayerState after = from_device(state);
  EXPECT_TRUE(same_bits(after.c, before.c) && same_bits(after.n, before.n) && same_bits(after.m, before.m));
}

}  // namespace
}  // namespace xlstm
