// The CPU's tiles under the schedulers when a run ends half-way: nobody waits for a tile that will not come, and the
// same kernel and scheduler then serve the next call.
#include <gtest/gtest.h>

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "kernels/cpu/cpu_cell.h"
#include "tests/kernels/random_tensors.h"
#include "tests/registry/failing_allocation.h"
#include "xlstm/core/stop.h"
#include "xlstm/schedule/scheduler.h"

namespace xlstm {
namespace {

using test::copy_of;
using test::Random;
using test::same_bits;

constexpr int64_t kChunk = 8;
constexpr int64_t kHeads = 3;

ModelDims cell_dims() {
  ModelDims dims;
  dims.vocab_size = 1;
  dims.embedding_dim = 1;
  dims.ffn_dim = 1;
  dims.num_heads = kHeads;
  dims.head_dim_qk = 16;
  dims.head_dim_v = 40;
  return dims;
}

struct Result {
  Activations act;
  LayerState state;
};

// Passes tiles on but for one, counted from 0 in the order in which they begin: that one finds no memory.
class RunnerWithAFailingTile : public TileRunner {
 public:
  RunnerWithAFailingTile(const TileRunner& runner, int64_t failing) : runner_(runner), failing_(failing) {}

  [[nodiscard]] bool runs_ahead() const override { return runner_.runs_ahead(); }
  void run(const Tile& tile) const override {
    if (begun_.fetch_add(1) != failing_) return runner_.run(tile);
    // A tile allocates on a thread where none has run.
    std::exception_ptr failure;
    std::thread thread([&] {
      const test::AlignedAllocationsFail no_memory;
      try {
        runner_.run(tile);
      } catch (...) {
        failure = std::current_exception();
      }
    });
    thread.join();
    if (failure) std::rethrow_exception(failure);
  }

 private:
  const TileRunner& runner_;
  int64_t failing_;
  mutable std::atomic<int64_t> begun_{0};
};

class FailedTileTest : public testing::TestWithParam<decltype(&make_queued_scheduler)> {
 protected:
  // Calls run(scheduler, tiles, position), which ends half-way, for every position a tile has; each time the next call
  // must have the bits of a kernel that never failed.
  void for_each_position(const std::function<void(Scheduler&, const TileRunner&, int64_t)>& run) {
    Random random(7);
    const Result input{random.activations(dims_, spans_.back().first_row + spans_.back().rows), random.state(dims_, 2)};
    Result expected{copy_of(input.act, dims_), copy_of(input.state)};
    ThreadPool pool(2);
    make_cpu_chunkwise(dims_, kChunk, pool)->run({expected.act, expected.state, spans_});
    for (const int64_t band : {int64_t{1}, int64_t{2}, kHeads}) {
      const auto kernel = make_cpu_tile_kernel(dims_);
      const auto scheduler = GetParam()(pool, {{kHeads, band, kChunk}, 3});
      const int64_t tiles = (kHeads + band - 1) / band * (spans_[0].rows + spans_[1].rows) / kChunk;
      for (int64_t position = 0; position < tiles; ++position) {
        SCOPED_TRACE(testing::Message() << "band " << band << " position " << position);
        Result abandoned{copy_of(input.act, dims_), copy_of(input.state)};
        run(*scheduler, kernel->bind({abandoned.act, abandoned.state, spans_}), position);
        Result result{copy_of(input.act, dims_), copy_of(input.state)};
        scheduler->run(spans_, kernel->bind({result.act, result.state, spans_}));
        ASSERT_TRUE(same_bits(result.act.h, expected.act.h) && same_bits(result.state.c, expected.state.c) &&
                    same_bits(result.state.n, expected.state.n) && same_bits(result.state.m, expected.state.m));
      }
    }
  }

  std::vector<Span> spans_ = {{1, 0, 5 * kChunk}, {0, 5 * kChunk, 2 * kChunk}};
  ModelDims dims_ = cell_dims();
};

INSTANTIATE_TEST_SUITE_P(Schedulers, FailedTileTest, testing::Values(make_queued_scheduler, make_actor_scheduler),
                         [](const auto& param) { return param.index == 0 ? "queued" : "actor"; });

TEST_P(FailedTileTest, AStopBeforeAnyTileEndsTheRunAndTheNextIsWhole) {
  for_each_position([this](Scheduler& scheduler, const TileRunner& tiles, int64_t position) {
    std::atomic<int64_t> looks{0};
    EXPECT_THROW(scheduler.run(spans_, tiles,
                               [&] {
                                 if (looks.fetch_add(1) == position) request_stop(StopReason::kInterrupt);
                                 throw_if_stopped();
                               }),
                 Stopped);
    clear_stop();
  });
}

TEST_P(FailedTileTest, AFailureOfAnyTileEndsTheRunAndTheNextIsWhole) {
  for_each_position([this](Scheduler& scheduler, const TileRunner& tiles, int64_t position) {
    EXPECT_THROW(scheduler.run(spans_, RunnerWithAFailingTile(tiles, position)), std::bad_alloc);
  });
}

}  // namespace
}  // namespace xlstm
