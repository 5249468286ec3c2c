#include "xlstm/schedule/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <ostream>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/schedule/allocation_count.h"

namespace xlstm {
namespace {

// A runner whose "state" of a head is a hash of the tokens that went through it, so that order and gaps show. Not
// atomic on purpose: ThreadSanitizer sees a tile that runs beside the one that it depends on.
class FakeRunner : public TileRunner {
 public:
  FakeRunner(const std::vector<Span>& spans, int64_t heads, bool ahead) : heads_(heads), ahead_(ahead) {
    for (const Span& span : spans) rows_.push_back(span.rows);
    const size_t count = spans.size() * static_cast<size_t>(heads);
    state_.assign(count, 0);
    position_ = std::vector<std::atomic<int64_t>>(count);
  }

  void rewind() {
    std::fill(state_.begin(), state_.end(), 0);
    for (auto& position : position_) position.store(0);
    tiles_.store(0);
    working_.store(0);
    most_working_.store(0);
  }

  [[nodiscard]] bool runs_ahead() const override { return ahead_; }

  void run(const Tile& tile) const override {
    const int working = ++working_;
    int most = most_working_.load();
    while (most < working && !most_working_.compare_exchange_weak(most, working)) {
    }
    const int64_t number = tiles_++;
    for (int64_t head = tile.head_begin; head < tile.head_end; ++head) {
      run_head(tile, static_cast<size_t>(tile.span * heads_ + head), number);
    }
    --working_;
  }

  [[nodiscard]] bool complete() const {
    for (size_t i = 0; i < position_.size(); ++i) {
      if (position_[i].load() != rows_[i / static_cast<size_t>(heads_)]) return false;
    }
    return true;
  }
  [[nodiscard]] const std::vector<uint64_t>& state() const { return state_; }
  [[nodiscard]] int64_t tiles() const { return tiles_.load(); }
  [[nodiscard]] int most_working() const { return most_working_.load(); }

  std::function<void(int64_t number, const Tile& tile)> before;  // of each tile, called by the thread that runs it

 private:
  static constexpr int64_t kGivenUp = -1;

  void run_head(const Tile& tile, size_t head, int64_t number) const {
    std::atomic<int64_t>& position = position_[head];
    try {
      if (before && tile.head_begin == static_cast<int64_t>(head) % heads_) before(number, tile);
    } catch (...) {
      for (int64_t h = tile.head_begin; h < tile.head_end; ++h) {
        position_[static_cast<size_t>(tile.span * heads_ + h)].store(kGivenUp);
      }
      throw;
    }
    while (position.load() != tile.token_begin) {
      ASSERT_TRUE(ahead_) << "a tile began before the one that it depends on was done";
      if (position.load() == kGivenUp) {
        for (int64_t h = tile.head_begin; h < tile.head_end; ++h) {
          position_[static_cast<size_t>(tile.span * heads_ + h)].store(kGivenUp);
        }
        throw EarlierTileFailed{};
      }
      std::this_thread::yield();
    }
    uint64_t& state = state_[head];
    for (int64_t token = tile.token_begin; token < tile.token_end; ++token) {
      state = (state ^ static_cast<uint64_t>(token + 1)) * 0x9E3779B97F4A7C15U;
    }
    int64_t begin = tile.token_begin;
    position.compare_exchange_strong(begin, tile.token_end);  // unless the head was given up
  }

  int64_t heads_;
  bool ahead_;
  std::vector<int64_t> rows_;
  mutable std::vector<uint64_t> state_;
  mutable std::vector<std::atomic<int64_t>> position_;
  mutable std::atomic<int64_t> tiles_{0};
  mutable std::atomic<int> working_{0};
  mutable std::atomic<int> most_working_{0};
};

std::vector<Span> make_spans(const std::vector<int64_t>& lengths) {
  std::vector<Span> spans;
  int64_t row = 0;
  for (const int64_t rows : lengths) {
    spans.push_back({static_cast<int64_t>(spans.size()), row, rows});
    row += rows;
  }
  return spans;
}

using MakeScheduler = std::unique_ptr<Scheduler> (*)(ThreadPool&, const ScheduleSettings&);

struct Kind {
  const char* name;
  MakeScheduler make;
  bool ahead;

  friend void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }
};

class SchedulerTest : public testing::TestWithParam<Kind> {
 protected:
  static std::unique_ptr<Scheduler> make(ThreadPool& pool, const ScheduleSettings& settings) {
    return GetParam().make(pool, settings);
  }
  static FakeRunner runner(const std::vector<Span>& spans, int64_t heads) { return {spans, heads, GetParam().ahead}; }
};

INSTANTIATE_TEST_SUITE_P(Kinds, SchedulerTest,
                         testing::Values(Kind{"queued", make_queued_scheduler, false},
                                         Kind{"queued_ahead", make_queued_scheduler, true},
                                         Kind{"actors", make_actor_scheduler, false},
                                         Kind{"actors_ahead", make_actor_scheduler, true}),
                         [](const auto& param) { return std::string(param.param.name); });

TEST_P(SchedulerTest, RunsEveryTileOnceInOrderForRandomSizesAndDelays) {
  std::mt19937 random(11);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  for (int round = 0; round < 60; ++round) {
    const int64_t heads = pick(1, 7);
    std::vector<int64_t> lengths(static_cast<size_t>(pick(1, 4)));
    for (int64_t& rows : lengths) rows = pick(0, 90);
    const std::vector<Span> spans = make_spans(lengths);
    const ScheduleSettings settings{{heads, pick(1, 8), pick(1, 40)}, static_cast<int>(pick(1, 8))};
    SCOPED_TRACE(testing::Message() << "round " << round << " heads " << heads << " band "
                                    << settings.shape.heads_per_band << " chunk " << settings.shape.chunk_size
                                    << " workers " << settings.workers);
    FakeRunner serial = runner(spans, heads);
    run_serially(BandPlan(spans, settings.shape), serial);

    FakeRunner actual = runner(spans, heads);
    const auto seed = static_cast<uint64_t>(round);
    actual.before = [&](int64_t number, const Tile&) {
      const uint64_t noise = (static_cast<uint64_t>(number) + seed) * 0x9E3779B97F4A7C15U >> 56;
      if (noise < 16) std::this_thread::sleep_for(std::chrono::microseconds(noise * 10));
      if (noise > 128) std::this_thread::yield();
    };
    ThreadPool pool(1);
    make(pool, settings)->run(spans, actual);
    EXPECT_TRUE(actual.complete());
    EXPECT_EQ(actual.state(), serial.state());
    EXPECT_EQ(actual.tiles(), serial.tiles()) << "a tile ran twice";
    EXPECT_LE(actual.most_working(), settings.workers);
    if (HasFatalFailure()) return;
  }
}

TEST_P(SchedulerTest, BandsRunBesideEachOther) {
  const std::vector<Span> spans = make_spans({64});
  ThreadPool pool(1);
  const auto scheduler = make(pool, {{.num_heads = 3, .heads_per_band = 1, .chunk_size = 64}, 3});
  FakeRunner tiles = runner(spans, 3);
  // Nobody goes on before all three have begun. The caller would wait for ever if it did a band of a worker.
  std::atomic<int> begun{0};
  tiles.before = [&](int64_t, const Tile&) {
    ++begun;
    while (begun < 3) std::this_thread::yield();
  };
  scheduler->run(spans, tiles);
  EXPECT_TRUE(tiles.complete());
}

TEST_P(SchedulerTest, OneBandIsSharedWhereTilesRunAhead) {
  const std::vector<Span> spans = make_spans({64});
  ThreadPool pool(1);
  const auto scheduler = make(pool, {{.num_heads = 2, .heads_per_band = 2, .chunk_size = 16}, 2});
  FakeRunner tiles = runner(spans, 2);
  if (!GetParam().ahead) {
    scheduler->run(spans, tiles);
    EXPECT_EQ(tiles.most_working(), 1);
    return;
  }
  std::atomic<int> begun{0};
  tiles.before = [&](int64_t, const Tile&) {
    ++begun;
    while (begun < 2) std::this_thread::yield();
  };
  scheduler->run(spans, tiles);
  EXPECT_TRUE(tiles.complete());
  EXPECT_EQ(tiles.most_working(), 2);
}

TEST_P(SchedulerTest, AWorkerThatNeverBeginsHoldsNobodyUp) {
  std::atomic<bool> release{false};
  {
    ThreadPool pool(4, [&] {
      while (!release) std::this_thread::yield();
    });
    const std::vector<Span> spans = make_spans({100, 30, 7});
    for (const int64_t band : {1, 2, 5}) {
      FakeRunner tiles = runner(spans, 5);
      make(pool, {{5, band, 16}, 4})->run(spans, tiles);
      EXPECT_TRUE(tiles.complete()) << band;
    }
    release = true;
  }
}

TEST_P(SchedulerTest, AnExceptionOfAnyTileReachesTheCallerAndTheNextRunIsWhole) {
  const std::vector<Span> spans = make_spans({50, 20});
  const BandShape shape{.num_heads = 3, .heads_per_band = 2, .chunk_size = 10};
  for (const int workers : {1, 2, 5}) {
    ThreadPool pool(1);
    const auto scheduler = make(pool, {shape, workers});
    FakeRunner whole = runner(spans, 3);
    scheduler->run(spans, whole);
    ASSERT_EQ(whole.tiles(), 14);
    for (int64_t failing = 0; failing < whole.tiles(); ++failing) {
      SCOPED_TRACE(testing::Message() << workers << " workers, tile " << failing);
      FakeRunner tiles = runner(spans, 3);
      tiles.before = [&](int64_t number, const Tile&) {
        if (number == failing) throw std::runtime_error("tile " + std::to_string(number));
      };
      try {
        scheduler->run(spans, tiles);
        ADD_FAILURE() << "no exception";
      } catch (const std::runtime_error& error) {
        EXPECT_EQ(error.what(), "tile " + std::to_string(failing));
      }
      EXPECT_FALSE(tiles.complete());
      tiles.before = {};
      tiles.rewind();
      scheduler->run(spans, tiles);
      EXPECT_EQ(tiles.state(), whole.state());
    }
  }
}

TEST_P(SchedulerTest, AfterAnExceptionNoTileBegins) {
  const std::vector<Span> spans = make_spans({1000});
  ThreadPool pool(1);
  const auto scheduler = make(pool, {{.num_heads = 1, .heads_per_band = 1, .chunk_size = 1}, 3});
  FakeRunner tiles = runner(spans, 1);
  tiles.before = [](int64_t number, const Tile&) {
    if (number == 10) throw std::runtime_error("ten");
  };
  EXPECT_THROW(scheduler->run(spans, tiles), std::runtime_error);
  // Those of the other workers may have begun; more of theirs if the failing thread was held up before it reported.
  EXPECT_LT(tiles.tiles(), 1000);
}

TEST_P(SchedulerTest, TheCheckBeforeTilesEndsTheRun) {
  struct Cancelled {};
  const std::vector<Span> spans = make_spans({40, 40});
  for (const int workers : {1, 2, 4}) {
    ThreadPool pool(1);
    const auto scheduler = make(pool, {{.num_heads = 2, .heads_per_band = 1, .chunk_size = 8}, workers});
    for (int allowed = 0; allowed < 20; ++allowed) {
      SCOPED_TRACE(testing::Message() << workers << " workers, " << allowed << " tiles");
      FakeRunner tiles = runner(spans, 2);
      std::atomic<int> checks{0};
      const std::function<void()> check = [&] {
        if (checks++ >= allowed) throw Cancelled{};
      };
      EXPECT_THROW(scheduler->run(spans, tiles, check), Cancelled);
      EXPECT_LE(tiles.tiles(), allowed);
      tiles.rewind();
      scheduler->run(spans, tiles);
      EXPECT_TRUE(tiles.complete());
    }
  }
}

TEST_P(SchedulerTest, ManyCallsWithChangingSpans) {
  ThreadPool pool(2);
  const auto scheduler = make(pool, {{.num_heads = 4, .heads_per_band = 3, .chunk_size = 4}, 3});
  const std::vector<std::vector<Span>> batches = {make_spans({40}), make_spans({40}), make_spans({8, 40, 3}),
                                                  make_spans({}),   make_spans({0}),  make_spans({4, 4, 4, 4})};
  std::deque<FakeRunner> runners;
  for (const auto& spans : batches) runners.emplace_back(spans, 4, GetParam().ahead);
  for (int call = 0; call < 600; ++call) {
    const size_t batch = static_cast<size_t>(call / 3) % batches.size();
    runners[batch].rewind();
    scheduler->run(batches[batch], runners[batch]);
    ASSERT_TRUE(runners[batch].complete()) << "call " << call;
  }
}

TEST_P(SchedulerTest, ARepeatedCallAllocatesNothing) {
  const std::vector<Span> spans = make_spans({64, 32});
  ThreadPool pool(3);
  const auto scheduler = make(pool, {{.num_heads = 4, .heads_per_band = 1, .chunk_size = 8}, 3});
  FakeRunner tiles = runner(spans, 4);
  scheduler->run(spans, tiles);
  const int64_t before = test::allocation_count();
  for (int call = 0; call < 50; ++call) {
    tiles.rewind();
    scheduler->run(spans, tiles);
  }
  EXPECT_EQ(test::allocation_count(), before);
}

TEST(QueuedScheduler, BandsThatDoNotDivideByTheWorkersEndTogether) {
  // 3 bands of 32 tiles on 2 workers: 48 tiles each. Staying with a band to its end would take 64.
  const std::vector<Span> spans = make_spans({32});
  ThreadPool pool(1);
  const auto scheduler = make_queued_scheduler(pool, {{.num_heads = 3, .heads_per_band = 1, .chunk_size = 1}, 2});
  FakeRunner tiles(spans, 3, false);
  // Tiles run in pairs, one of each worker; odd ends come when one worker has nothing to do.
  std::atomic<int64_t> alone{0};
  std::atomic<int64_t> arrived{0};
  tiles.before = [&](int64_t, const Tile&) {
    const int64_t ticket = arrived++;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    while (arrived.load() / 2 <= ticket / 2) {
      if (std::chrono::steady_clock::now() > deadline) {
        ++alone;
        ++arrived;
        return;
      }
      std::this_thread::yield();
    }
  };
  scheduler->run(spans, tiles);
  EXPECT_TRUE(tiles.complete());
  EXPECT_LE(alone, 4);
}

}  // namespace
}  // namespace xlstm
