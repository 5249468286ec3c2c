// The scheduled backends against chunkwise--cpu: the same bits, whatever the scheduling.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/kernels/cell_cases.h"
#include "tests/kernels/random_tensors.h"
#include "xlstm/core/stop.h"
#include "xlstm/core/str.h"
#include "xlstm/registry/make_kernels.h"

namespace xlstm {
namespace {

using test::cell_dims;
using test::copy_of;
using test::Random;
using test::same_bits;

constexpr int64_t kSlots = 6;

// Spans of so many chunks, slots scrambled, slot 1 unused.
std::vector<Span> make_spans(const std::vector<int64_t>& chunks, int64_t chunk_size) {
  const std::vector<int64_t> slots = {4, 0, 5, 2, 3};
  std::vector<Span> spans;
  int64_t row = 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    spans.push_back({slots.at(i), row, chunks[i] * chunk_size});
    row += chunks[i] * chunk_size;
  }
  return spans;
}

struct Result {
  Activations act;
  LayerState state;
};

bool same_result(const Result& a, const Result& b) {
  return same_bits(a.act.h, b.act.h) && same_bits(a.state.c, b.state.c) && same_bits(a.state.n, b.state.n) &&
         same_bits(a.state.m, b.state.m);
}

// Two calls of one kernel: the second goes on from the states of the first.
Result run_twice(CellKernel& kernel, const ModelDims& dims, const Result& input, const std::vector<Span>& spans) {
  Result result{copy_of(input.act, dims), copy_of(input.state)};
  for (int call = 0; call < 2; ++call) kernel.run({result.act, result.state, spans});
  return result;
}

class ScheduledChunkwiseTest : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Backends, ScheduledChunkwiseTest,
                         testing::Values("chunkwise--ray_compiled_steps", "chunkwise--queued_compiled_steps"),
                         [](const auto& param) { return std::string(param.param).substr(11); });

TEST_P(ScheduledChunkwiseTest, HasTheBitsOfTheDirectKernel) {
  ThreadPool pool(2);
  uint64_t seed = 1;
  for (const ModelDims& dims : {cell_dims(4, 16, 32), cell_dims(3, 5, 33), cell_dims(1, 17, 40)}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      for (const int64_t chunk : {1, 16, 33}) {
        for (const auto& chunks : {std::vector<int64_t>{5}, std::vector<int64_t>{2, 1, 4}}) {
          const std::vector<Span> spans = make_spans(chunks, chunk);
          Random random(seed++);
          const int64_t rows = spans.back().first_row + spans.back().rows;
          const Result input{random.activations(dims, rows), random.state(dims, kSlots, dtype)};
          const Result expected = run_twice(
              *make_cell_kernel("chunkwise--cpu", "cpu", dims, {.chunk_size = chunk}, pool), dims, input, spans);
          for (int64_t band = 1; band <= dims.num_heads; ++band) {
            for (int64_t workers = 1; workers <= 8; ++workers) {
              const KernelSettings settings{.chunk_size = chunk, .heads_per_band = band, .workers = workers};
              const auto kernel = make_cell_kernel(GetParam(), "cpu", dims, settings, pool);
              ASSERT_TRUE(same_result(run_twice(*kernel, dims, input, spans), expected))
                  << "NH " << dims.num_heads << " Dk " << dims.head_dim_qk << " Dv " << dims.head_dim_v << " chunk "
                  << chunk << " band " << band << " workers " << workers << " spans " << spans.size();
            }
          }
        }
      }
    }
  }
  EXPECT_EQ(pool.size(), 2) << "the operations' team stays as it was";
}

TEST_P(ScheduledChunkwiseTest, OneKernelServesCallsOfChangingSpans) {
  ThreadPool pool(2);
  const ModelDims dims = cell_dims(4, 16, 32);
  const auto direct = make_cell_kernel("chunkwise--cpu", "cpu", dims, {.chunk_size = 8}, pool);
  const auto kernel =
      make_cell_kernel(GetParam(), "cpu", dims, {.chunk_size = 8, .heads_per_band = 3, .workers = 3}, pool);
  Random random(3);
  Result expected{random.activations(dims, 80), random.state(dims, kSlots)};
  Result actual{copy_of(expected.act, dims), copy_of(expected.state)};
  for (int call = 0; call < 30; ++call) {
    const std::vector<std::vector<int64_t>> batches = {{5}, {5}, {1, 2, 3}, {3, 2, 1}, {}, {1, 1, 1, 1, 1}};
    const std::vector<Span> spans = make_spans(batches[static_cast<size_t>(call) % batches.size()], 8);
    direct->run({expected.act, expected.state, spans});
    kernel->run({actual.act, actual.state, spans});
    ASSERT_TRUE(same_result(actual, expected)) << "call " << call;
  }
}

TEST_P(ScheduledChunkwiseTest, AStopEndsACallThatMayBeAbandonedAndNoOther) {
  ThreadPool pool(1);
  const ModelDims dims = cell_dims(2, 4, 8);
  const auto kernel = make_cell_kernel(GetParam(), "cpu", dims, {.chunk_size = 4, .workers = 2}, pool);
  const std::vector<Span> spans = make_spans({3}, 4);
  Random random(4);
  Result result{random.activations(dims, 12), random.state(dims, kSlots)};
  request_stop(StopReason::kInterrupt);
  EXPECT_NO_THROW(kernel->run({result.act, result.state, spans}));
  EXPECT_THROW(kernel->run({result.act, result.state, spans, /*may_abandon=*/true}), Stopped);
  clear_stop();
  EXPECT_NO_THROW(kernel->run({result.act, result.state, spans, /*may_abandon=*/true}));
}

}  // namespace
}  // namespace xlstm
