// How samples are taken; not how long anything takes.
#include "src/bench/rounds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>

namespace xlstm {
namespace {

using testing::Each;
using testing::Ge;
using testing::SizeIs;
using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point start, Clock::time_point end) {
  return std::chrono::duration<double>(end - start).count();
}

TEST(Rounds, ASampleBetweenGaugesLastsItsLeastTimeHoweverSlowTheUntimedRunWas) {
  Clock::time_point gauged = Clock::now();
  bool before = true;
  std::vector<double> lengths;
  const Gauge gauge = [&] {
    if (!before) lengths.push_back(seconds_between(gauged, Clock::now()));
    before = !before;
    gauged = Clock::now();
    return 1.0;
  };
  int runs = 0;
  const auto run = [&] { std::this_thread::sleep_for(std::chrono::milliseconds(runs++ == 0 ? 400 : 2)); };
  // How many samples are judged steady depends on what else the machine does; how long they are does not.
  static_cast<void>(measure_in_turns({{8, [] {}, run, 1}}, {2, /*show_progress=*/false, 1, {gauge}}));
  EXPECT_THAT(lengths, SizeIs(Ge(2U)));
  EXPECT_THAT(lengths, Each(Ge(kLeastSeconds)));
  EXPECT_GT(runs, 2 + 1) << "several runs make a sample";
}

TEST(Rounds, WithoutGaugesASampleIsOneRunAfterAnUntimedOne) {
  int runs = 0;
  const std::vector<Rate> rates =
      measure_in_turns({{1, [] {}, [&] { ++runs; }, 1}}, {5, /*show_progress=*/false, 1, {}});
  EXPECT_EQ(runs, 6);
  EXPECT_EQ(rates.front().samples, 5);
  EXPECT_EQ(rates.front().rejected, 0);
}

TEST(Rounds, ContestantsTakeTurnsAndPrepareBeforeEachOfTheirSamples) {
  std::string order;
  const auto contestant = [&](char name) {
    return Contestant{1, [&order] { order += 'p'; }, [&order, name] { order += name; }, 1};
  };
  (void)measure_in_turns({contestant('a'), contestant('b')}, {2, /*show_progress=*/false, 1, {}});
  EXPECT_EQ(order, "papbpapbpapb");
}

TEST(Rounds, ARowThatIsNeverSteadyEndsAfterItsAttemptsWithASpeedAndWithoutAShare) {
  double reading = 1;
  const Gauge drifting = [&] { return reading *= 2; };
  const std::vector<Rate> rates =
      measure_in_turns({{1, [] {}, [] { std::this_thread::sleep_for(std::chrono::milliseconds(100)); }, 1}},
                       {1, /*show_progress=*/false, 1, {drifting}});
  EXPECT_EQ(rates.front().samples, kAttempts) << "all of them";
  EXPECT_EQ(rates.front().rejected, kAttempts);
  EXPECT_GT(rates.front().median, 0);
  EXPECT_THAT(rates.front().shares, testing::ElementsAre(std::nullopt));
}

}  // namespace
}  // namespace xlstm
