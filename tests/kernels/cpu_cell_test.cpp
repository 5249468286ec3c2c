#include "kernels/cpu/cpu_cell.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <thread>
#include <vector>

#include "kernels/cpu/isa.h"
#include "tests/kernels/cell_cases.h"
#include "tests/kernels/cell_reference.h"
#include "tests/kernels/random_tensors.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using test::cell_dims;
using test::copy_of;
using test::expect_cell;
using test::kCellSlots;
using test::make_spans;
using test::Random;
using test::rows_of;
using test::same_bits;

const std::vector<ModelDims>& cell_shapes() {
  static const std::vector<ModelDims> kShapes = {
      cell_dims(1, 1, 1),   cell_dims(3, 5, 1),   cell_dims(1, 1, 5),    cell_dims(4, 16, 32),   cell_dims(3, 5, 33),
      cell_dims(4, 32, 64), cell_dims(1, 64, 96), cell_dims(3, 17, 100), cell_dims(1, 128, 256),
  };
  return kShapes;
}

struct Result {
  Activations act;
  LayerState state;
};

using MakeKernel = std::function<std::unique_ptr<CellKernel>(const ModelDims&, ThreadPool&)>;

MakeKernel chunkwise(int64_t chunk_size) {
  return [chunk_size](const ModelDims& dims, ThreadPool& pool) { return make_cpu_chunkwise(dims, chunk_size, pool); };
}

Result run(const MakeKernel& make, const ModelDims& dims, const Result& input, const std::vector<Span>& spans,
           int threads) {
  Result result{copy_of(input.act, dims), copy_of(input.state)};
  ThreadPool pool(threads);
  make(dims, pool)->run({result.act, result.state, spans});
  return result;
}

// Token t of every span in one call, for all t.
Result run_steps(const ModelDims& dims, const Result& input, const std::vector<Span>& spans, int threads) {
  Result result{copy_of(input.act, dims), copy_of(input.state)};
  ThreadPool pool(threads);
  const auto kernel = make_cpu_step(dims, pool);
  int64_t longest = 0;
  for (const Span& span : spans) longest = std::max(longest, span.rows);
  for (int64_t t = 0; t < longest; ++t) {
    std::vector<Span> tokens;
    for (const Span& span : spans) {
      if (t < span.rows) tokens.push_back({span.slot, span.first_row + t, 1});
    }
    kernel->run({result.act, result.state, tokens});
  }
  return result;
}

bool same_result(const Result& a, const Result& b) {
  return same_bits(a.act.h, b.act.h) && same_bits(a.state.c, b.state.c) && same_bits(a.state.n, b.state.n) &&
         same_bits(a.state.m, b.state.m);
}

std::string text(const ModelDims& dims) {
  return cat("NH ", dims.num_heads, " Dk ", dims.head_dim_qk, " Dv ", dims.head_dim_v);
}

class CpuCellTest : public testing::TestWithParam<std::string> {
 protected:
  CpuCellTest() { cpu::force_isa(GetParam()); }
  ~CpuCellTest() override { cpu::force_isa(""); }
};

INSTANTIATE_TEST_SUITE_P(Isa, CpuCellTest, testing::ValuesIn(cpu::supported_isas()),
                         [](const auto& param) { return param.param; });

TEST_P(CpuCellTest, StepSequenceAndChunkwiseFollowTheRecurrence) {
  uint64_t seed = 1;
  for (const ModelDims& dims : cell_shapes()) {
    for (const int64_t chunk : {1, 16, 64, 100}) {
      SCOPED_TRACE(cat(text(dims), " chunk ", chunk));
      const bool large = dims.head_dim_qk >= 64;
      const std::vector<Span> spans =
          make_spans(large ? std::vector<int64_t>{2 * chunk} : std::vector<int64_t>{chunk, 2 * chunk, 0, chunk});
      Random random(seed++);
      const Result input{random.activations(dims, rows_of(spans)), random.state(dims, kCellSlots)};
      const int threads = 1 + static_cast<int>(seed % 3);
      const Result sequence = run(make_cpu_sequence, dims, input, spans, threads);
      expect_cell(dims, sequence.act, input.state, sequence.state, spans, 0);
      const Result chunked = run(chunkwise(chunk), dims, input, spans, threads);
      expect_cell(dims, chunked.act, input.state, chunked.state, spans, 0);
      const Result steps = run_steps(dims, input, spans, threads);
      expect_cell(dims, steps.act, input.state, steps.state, spans, 0);
      EXPECT_TRUE(same_bits(sequence.state.c[1], input.state.c[1]) && same_bits(chunked.state.c[1], input.state.c[1]))
          << "an unused slot was changed";
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(CpuCellTest, StepsOfMoreHeadsThanAVectorHasLanesFollowTheRecurrence) {
  for (const int64_t heads : {19, 33}) {
    const ModelDims dims = cell_dims(heads, 3, 5);
    const std::vector<Span> spans = make_spans({3, 1});
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      Random random(static_cast<uint64_t>(90 + heads));
      const Result input{random.activations(dims, rows_of(spans)), random.state(dims, kCellSlots, dtype)};
      const double rounding = test::state_rounding(dtype);
      for (const int threads : {1, 3}) {
        SCOPED_TRACE(cat(text(dims), dtype == at::kFloat ? " float32" : " bfloat16", " threads ", threads));
        const Result steps = run_steps(dims, input, spans, threads);
        expect_cell(dims, steps.act, input.state, steps.state, spans, 3 * rounding);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(CpuCellTest, OddAndLargeHeadsFollowTheRecurrence) {
  const std::vector<std::array<int64_t, 2>> heads = {{1, 512}, {512, 1}, {5, 17},   {17, 5},   {33, 33},  {33, 128},
                                                     {128, 5}, {5, 256}, {256, 17}, {17, 512}, {130, 70}, {512, 33}};
  uint64_t seed = 100;
  for (const auto& [dk, dv] : heads) {
    const ModelDims dims = cell_dims(1 + static_cast<int64_t>(seed % 2), dk, dv);
    const int64_t chunk = std::array<int64_t, 4>{7, 16, 25, 13}[seed % 4];
    const std::vector<Span> spans = make_spans({chunk, 2 * chunk});
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      SCOPED_TRACE(cat(text(dims), " chunk ", chunk, dtype == at::kFloat ? " float32" : " bfloat16"));
      Random random(seed++);
      const Result input{random.activations(dims, rows_of(spans)), random.state(dims, kCellSlots, dtype)};
      const int threads = 1 + static_cast<int>(seed % 4);
      // Half a unit in the last of 8 significant bits, once where the state is carried, else for every token.
      const double rounding = test::state_rounding(dtype);
      const Result chunked = run(chunkwise(chunk), dims, input, spans, threads);
      expect_cell(dims, chunked.act, input.state, chunked.state, spans, rounding);
      const Result sequence = run(make_cpu_sequence, dims, input, spans, threads);
      expect_cell(dims, sequence.act, input.state, sequence.state, spans, rounding);
      const Result steps = run_steps(dims, input, spans, threads);
      expect_cell(dims, steps.act, input.state, steps.state, spans, static_cast<double>(2 * chunk) * rounding);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(CpuCellTest, EveryChunkSizeFollowsTheRecurrence) {
  const ModelDims dims = cell_dims(2, 20, 40);
  for (const int64_t chunk : {1, 2, 7, 11, 12, 13, 16, 31, 33, 100, 128, 256}) {
    SCOPED_TRACE(chunk);
    const std::vector<Span> spans = make_spans({chunk, 3 * chunk});
    Random random(static_cast<uint64_t>(200 + chunk));
    const Result input{random.activations(dims, rows_of(spans)), random.state(dims, kCellSlots)};
    const Result result = run(chunkwise(chunk), dims, input, spans, 2);
    expect_cell(dims, result.act, input.state, result.state, spans, 0);
    if (HasFatalFailure()) return;
  }
}

TEST_P(CpuCellTest, BatchesOfUnequalLengthsGiveTheBitsOfEachSequenceAlone) {
  const ModelDims dims = cell_dims(3, 17, 40);
  const std::vector<int64_t> lengths = {5, 0, 33, 1, 64, 7, 8, 19};
  for (size_t batch = 1; batch <= lengths.size(); ++batch) {
    const std::vector<Span> spans = make_spans({lengths.begin(), lengths.begin() + static_cast<std::ptrdiff_t>(batch)});
    Random random(300 + batch);
    const Result input{random.activations(dims, rows_of(spans)), random.state(dims, kCellSlots)};
    const Result sequence = run(make_cpu_sequence, dims, input, spans, 2);
    const Result steps = run_steps(dims, input, spans, 2);
    expect_cell(dims, sequence.act, input.state, sequence.state, spans, 0);
    expect_cell(dims, steps.act, input.state, steps.state, spans, 0);
    for (const Span& span : spans) {
      const auto same_span = [&](const Result& a, const Result& b) {
        return same_bits(a.act.h.narrow(0, span.first_row, span.rows), b.act.h.narrow(0, span.first_row, span.rows)) &&
               same_bits(a.state.c[span.slot], b.state.c[span.slot]) &&
               same_bits(a.state.n[span.slot], b.state.n[span.slot]) &&
               same_bits(a.state.m[span.slot], b.state.m[span.slot]);
      };
      EXPECT_TRUE(same_span(sequence, run(make_cpu_sequence, dims, input, {span}, 1))) << batch;
      EXPECT_TRUE(same_span(steps, run_steps(dims, input, {span}, 1))) << batch;
    }
  }
}

TEST_P(CpuCellTest, TheSequenceOfAFewTokensHasTheBitsOfSteps) {
  const ModelDims dims = cell_dims(3, 17, 100);
  for (int64_t tokens = 1; tokens < 8; ++tokens) {
    const std::vector<Span> spans = make_spans({tokens, 1});
    Random random(static_cast<uint64_t>(400 + tokens));
    const Result input{random.activations(dims, rows_of(spans)), random.state(dims, kCellSlots)};
    EXPECT_TRUE(same_result(run_steps(dims, input, spans, 2), run(make_cpu_sequence, dims, input, spans, 3))) << tokens;
  }
}

TEST_P(CpuCellTest, TheSevenBillionShapeIsRight) {
  const ModelDims dims = cell_dims(1, 256, 512);
  const std::vector<Span> spans = make_spans({64});
  Random random(2);
  const Result input{random.activations(dims, 64), random.state(dims, kCellSlots)};
  for (const MakeKernel& make : {MakeKernel(make_cpu_sequence), chunkwise(64), chunkwise(16)}) {
    const Result result = run(make, dims, input, spans, 2);
    expect_cell(dims, result.act, input.state, result.state, spans, 0);
    if (HasFatalFailure()) return;
  }
}

TEST_P(CpuCellTest, LongTilesKeepTheirPrecision) {
  const ModelDims dims = cell_dims(2, 8, 20);
  const std::vector<Span> spans = make_spans({1024});
  Random random(3);
  Result input{random.activations(dims, 1024), random.state(dims, kCellSlots)};
  input.act.gates.narrow(1, dims.num_heads, dims.num_heads).sub_(3.0);  // strong forgetting: large sums of logs
  const Result result = run(chunkwise(1024), dims, input, spans, 2);
  expect_cell(dims, result.act, input.state, result.state, spans, 0);
  // expect_cell's bound grows with the tile. Sums of logs near -3000 in single precision would be off by 1e-4.
  const at::Tensor stepped = run(make_cpu_sequence, dims, input, spans, 2).act.h;
  EXPECT_LT((result.act.h - stepped).norm().item<double>() / stepped.norm().item<double>(), 1e-5);
}

TEST_P(CpuCellTest, ResultsDoNotDependOnTheTeam) {
  for (const ModelDims& dims : {cell_shapes()[1], cell_shapes()[4], cell_shapes()[7], cell_shapes()[8]}) {
    SCOPED_TRACE(text(dims));
    const std::vector<Span> spans = make_spans({32, 16, 64});
    Random random(4);
    const Result input{random.activations(dims, rows_of(spans)), random.state(dims, kCellSlots)};
    const Result steps = run_steps(dims, input, spans, 1);
    const Result sequence = run(make_cpu_sequence, dims, input, spans, 1);
    const Result chunked = run(chunkwise(16), dims, input, spans, 1);
    for (const int threads : {2, 3, 8}) {
      EXPECT_TRUE(same_result(run_steps(dims, input, spans, threads), steps)) << threads;
      EXPECT_TRUE(same_result(run(make_cpu_sequence, dims, input, spans, threads), sequence)) << threads;
      EXPECT_TRUE(same_result(run(chunkwise(16), dims, input, spans, threads), chunked)) << threads;
    }
    // Each span alone.
    for (const Span& span : spans) {
      const Result alone = run(chunkwise(16), dims, input, {span}, 2);
      EXPECT_TRUE(same_bits(alone.act.h.narrow(0, span.first_row, span.rows),
                            chunked.act.h.narrow(0, span.first_row, span.rows)));
      EXPECT_TRUE(same_bits(alone.state.c[span.slot], chunked.state.c[span.slot]));
    }
  }
}

TEST_P(CpuCellTest, TilesInAnyAllowedOrderGiveTheChunkwiseKernelsBits) {
  const ModelDims dims = cell_dims(3, 17, 33);
  const std::vector<Span> spans = make_spans({48, 32});
  Random random(5);
  const Result input{random.activations(dims, rows_of(spans)), random.state(dims, kCellSlots)};
  const Result expected = run(chunkwise(16), dims, input, spans, 2);

  Result actual{copy_of(input.act, dims), copy_of(input.state)};
  const CellArgs args{actual.act, actual.state, spans};
  const auto kernel = make_cpu_tile_kernel(dims);
  const TileRunner& runner = kernel->bind(args);
  // One thread per head of a span and two heads together, last span first.
  std::vector<std::thread> threads;
  for (const auto& [span, begin, end] :
       std::vector<std::array<int64_t, 3>>{{1, 2, 3}, {1, 0, 2}, {0, 0, 1}, {0, 1, 3}}) {
    threads.emplace_back([&, span = span, begin = begin, end = end] {
      for (int64_t token = 0; token < spans[static_cast<size_t>(span)].rows; token += 16) {
        runner.run({span, begin, end, token, token + 16});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(same_result(actual, expected));
}

TEST_P(CpuCellTest, TilesOfUnequalLengthFollowTheRecurrence) {
  const ModelDims dims = cell_dims(2, 16, 24);
  const std::vector<Span> spans = make_spans({111});
  Random random(6);
  const Result input{random.activations(dims, 111), random.state(dims, kCellSlots)};
  Result result{copy_of(input.act, dims), copy_of(input.state)};
  const CellArgs args{result.act, result.state, spans};
  const auto kernel = make_cpu_tile_kernel(dims);
  const TileRunner& runner = kernel->bind(args);
  int64_t begin = 0;
  for (const int64_t length : {1, 2, 3, 5, 17, 64, 19}) {
    runner.run({0, 0, 2, begin, begin + length});
    begin += length;
  }
  ASSERT_EQ(begin, 111);
  expect_cell(dims, result.act, input.state, result.state, spans, 0);
}

TEST_P(CpuCellTest, BfloatStateIsRoundedToNearestWhenItIsStored) {
  for (const ModelDims& dims : {cell_dims(3, 5, 33), cell_dims(2, 16, 64)}) {
    SCOPED_TRACE(text(dims));
    const std::vector<Span> spans = make_spans({64, 32});
    Random random(7);
    const Result input{random.activations(dims, rows_of(spans)), random.state(dims, kCellSlots, at::kBFloat16)};
    const Result steps = run_steps(dims, input, spans, 3);
    expect_cell(dims, steps.act, input.state, steps.state, spans, 64 * test::kBfloatRounding);

    // Float32 is kept until a call ends, which so ends on the rounded float32 result.
    Result wide = input;
    wide.state.c = input.state.c.to(at::kFloat);
    wide.state.n = input.state.n.to(at::kFloat);
    for (const MakeKernel& make : {MakeKernel(make_cpu_sequence), chunkwise(32)}) {
      const Result narrow = run(make, dims, input, spans, 2);
      expect_cell(dims, narrow.act, input.state, narrow.state, spans, test::kBfloatRounding);
      const Result exact = run(make, dims, wide, spans, 2);
      EXPECT_TRUE(same_bits(narrow.state.c, exact.state.c.to(at::kBFloat16)));
      EXPECT_TRUE(same_bits(narrow.state.n, exact.state.n.to(at::kBFloat16)));
      EXPECT_TRUE(same_bits(narrow.act.h, exact.act.h));
    }
    const std::vector<Span> tokens = {{4, 0, 1}, {0, 64, 1}};
    const Result step = run(make_cpu_step, dims, input, tokens, 2);
    const Result exact = run(make_cpu_step, dims, wide, tokens, 2);
    EXPECT_TRUE(same_bits(step.state.c, exact.state.c.to(at::kBFloat16)));
    EXPECT_TRUE(same_bits(step.state.n, exact.state.n.to(at::kBFloat16)));
    EXPECT_TRUE(same_bits(step.act.h, exact.act.h));
  }
}

TEST_P(CpuCellTest, StateMayLieInAnyOrderOfSlotsHeadsAndRows) {
  const ModelDims dims = cell_dims(3, 5, 20);
  const std::vector<Span> spans = make_spans({32, 16});
  Random random(8);
  const Result input{random.activations(dims, rows_of(spans)), random.state(dims, kCellSlots)};
  for (const MakeKernel& make : {MakeKernel(make_cpu_sequence), chunkwise(16)}) {
    const Result expected = run(make, dims, input, spans, 2);
    Result strided{copy_of(input.act, dims), copy_of(input.state)};
    // Physical order [NH, slots, Dk, Dv + 3], and heads before slots in n and m.
    at::Tensor c = at::full({3, kCellSlots, 5, 23}, 9.0F, at::kFloat);
    strided.state.c = c.narrow(3, 0, 20).permute({1, 0, 2, 3});
    strided.state.c.copy_(input.state.c);
    strided.state.n = input.state.n.permute({1, 0, 2}).contiguous().permute({1, 0, 2});
    strided.state.m = input.state.m.t().contiguous().t();
    ThreadPool pool(2);
    make(dims, pool)->run({strided.act, strided.state, spans});
    EXPECT_TRUE(same_result(strided, expected));
    EXPECT_TRUE((c.narrow(3, 20, 3) == 9.0F).all().item<bool>()) << "wrote into the gaps of C";
  }
}

TEST_P(CpuCellTest, GateExtremesGiveFiniteResults) {
  const ModelDims dims = cell_dims(2, 16, 33);
  const std::vector<float> extremes = {-15.0F, 15.0F, -1e4F, 1e4F, -1e30F, 0.0F, -100.0F, 100.0F};
  const auto count = static_cast<int64_t>(extremes.size());
  const std::vector<Span> spans = make_spans({count * count, count * count});
  Random random(9);
  Result input{random.activations(dims, rows_of(spans)), random.state(dims, kCellSlots)};
  for (int64_t row = 0; row < rows_of(spans); ++row) {
    const int64_t pair = (row * 29) % (count * count);
    input.act.gates[row].narrow(0, 0, 2).fill_(extremes[static_cast<size_t>(pair / count)]);
    input.act.gates[row].narrow(0, 2, 2).fill_(extremes[static_cast<size_t>(pair % count)]);
  }
  input.act.gates[3].fill_(-std::numeric_limits<float>::infinity());
  std::vector<Result> results = {run_steps(dims, input, spans, 2), run(make_cpu_sequence, dims, input, spans, 2)};
  for (const int64_t chunk : {1, 16, 64}) results.push_back(run(chunkwise(chunk), dims, input, spans, 2));
  for (const Result& result : results) {
    EXPECT_TRUE(at::isfinite(result.act.h).all().item<bool>());
    EXPECT_TRUE(at::isfinite(result.state.c).all().item<bool>());
    EXPECT_TRUE(at::isfinite(result.state.n).all().item<bool>());
    EXPECT_TRUE(at::isfinite(result.state.m).all().item<bool>());
  }
}

TEST_P(CpuCellTest, SaturatedGatesFollowTheRecurrence) {
  const ModelDims dims = cell_dims(2, 16, 32);
  const std::vector<Span> spans = make_spans({64, 128});
  for (const float i_gate : {-15.0F, 15.0F}) {
    for (const float f_gate : {-15.0F, 15.0F}) {
      SCOPED_TRACE(cat("i ", i_gate, " f ", f_gate));
      Random random(10);
      Result input{random.activations(dims, rows_of(spans)), random.state(dims, kCellSlots)};
      input.act.gates.narrow(1, 0, 2).fill_(i_gate);
      input.act.gates.narrow(1, 2, 2).fill_(f_gate);
      for (const MakeKernel& make : {MakeKernel(make_cpu_sequence), chunkwise(64)}) {
        const Result result = run(make, dims, input, spans, 2);
        expect_cell(dims, result.act, input.state, result.state, spans, 0);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(CpuCellTest, AForgetGateShutInsideATileCutsOffWhatCameBefore) {
  // Tokens behind the cut must see each other at full precision although |b| is huge there.
  const ModelDims dims = cell_dims(1, 8, 16);
  const std::vector<Span> spans = make_spans({32});
  Random random(11);
  Result input{random.activations(dims, 32), random.state(dims, kCellSlots)};
  input.act.gates[10][1] = -2e4F;
  const Result sequence = run(make_cpu_sequence, dims, input, spans, 1);
  const Result chunked = run(chunkwise(32), dims, input, spans, 1);
  const at::Tensor error = (sequence.act.h - chunked.act.h).abs().max() / sequence.act.h.abs().max();
  EXPECT_LT(error.item<double>(), 1e-5);
}

TEST(CpuCellErrors, BrokenContractsAreReported) {
  const ModelDims dims = cell_dims(2, 4, 6);
  Random random(12);
  Activations act = random.activations(dims, 4);
  ThreadPool pool(2);
  LayerState state = random.state(dims, kCellSlots);
  const std::vector<Span> two_rows = {{0, 0, 2}};
  EXPECT_THROW(make_cpu_step(dims, pool)->run({act, state, two_rows}), Error);
  EXPECT_THROW(make_cpu_chunkwise(dims, 3, pool)->run({act, state, two_rows}), Error);
  EXPECT_THROW((void)make_cpu_chunkwise(dims, 0, pool), Error);
  EXPECT_NO_THROW(make_cpu_chunkwise(dims, 2, pool)->run({act, state, two_rows}));
  LayerState transposed = random.state(dims, kCellSlots);
  transposed.c = transposed.c.transpose(2, 3).contiguous().transpose(2, 3);
  EXPECT_THROW(make_cpu_sequence(dims, pool)->run({act, transposed, two_rows}), Error);
  LayerState half = random.state(dims, kCellSlots, at::kHalf);
  EXPECT_THROW(make_cpu_sequence(dims, pool)->run({act, half, two_rows}), Error);
}

TEST(CpuCellErrors, NoSpansAreNoWork) {
  const ModelDims dims = cell_dims(2, 4, 6);
  Random random(13);
  Activations act = random.activations(dims, 4);
  LayerState state = random.state(dims, kCellSlots);
  const LayerState before = copy_of(state);
  ThreadPool pool(2);
  make_cpu_step(dims, pool)->run({act, state, {}});
  make_cpu_sequence(dims, pool)->run({act, state, {}});
  make_cpu_chunkwise(dims, 16, pool)->run({act, state, {}});
  EXPECT_TRUE(same_bits(state.c, before.c));
}

}  // namespace
}  // namespace xlstm
