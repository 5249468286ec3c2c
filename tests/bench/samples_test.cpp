// Shares of limits from known numbers, and which samples count.
#include "src/bench/samples.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/bench/process_figures.h"
#include "src/bench/work.h"
#include "xlstm/bench/bench.h"

namespace xlstm {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Optional;

Sample sample(double tokens_per_s, double work_per_s, std::vector<GaugePair> gauges, double lost = 0) {
  return {tokens_per_s, work_per_s, std::move(gauges), lost};
}

TEST(Share, IsTheWorkByTheMeanOfTheTwoReadings) {
  const Sample one = sample(10, 19e9, {{18e9, 20e9}, {40e9, 36e9}});
  EXPECT_DOUBLE_EQ(share_of(one, one.gauges[0]), 1);
  EXPECT_DOUBLE_EQ(share_of(one, one.gauges[1]), 0.5);
}

TEST(Sample, IsSteadyUpToTheBoundOfDriftInEitherDirection) {
  EXPECT_TRUE(is_steady(sample(1, 1, {{100, 90.1}})));
  EXPECT_TRUE(is_steady(sample(1, 1, {{90.1, 100}})));
  EXPECT_FALSE(is_steady(sample(1, 1, {{100, 89.9}})));
  EXPECT_FALSE(is_steady(sample(1, 1, {{89.9, 100}})));
  EXPECT_FALSE(is_steady(sample(1, 1, {{100, 100}, {100, 50}}))) << "every gauge counts";
  EXPECT_TRUE(is_steady(sample(1, 1, {}))) << "nothing to judge by";
}

TEST(Sample, IsNotSteadyWhenOtherProcessesTookTheCores) {
  EXPECT_TRUE(is_steady(sample(1, 1, {{100, 100}}, kMostLost)));
  EXPECT_FALSE(is_steady(sample(1, 1, {{100, 100}}, kMostLost + 0.01)));
}

TEST(Rate, ComesFromTheSteadySamplesAlone) {
  const Rate rate =
      summarize({sample(10, 90, {{100, 100}}), sample(1000, 9000, {{100, 50}}), sample(30, 99, {{100, 100}}),
                 sample(20, 95, {{100, 100}}), sample(1, 1, {{100, 100}}, 0.5)});
  EXPECT_EQ(rate.samples, 3);
  EXPECT_EQ(rate.rejected, 2);
  EXPECT_DOUBLE_EQ(rate.median, 20);
  EXPECT_DOUBLE_EQ(rate.min, 10);
  EXPECT_DOUBLE_EQ(rate.max, 30);
  EXPECT_THAT(rate.shares, ElementsAre(Optional(0.95)));
}

TEST(Rate, IsTheMedianOfSharesNotTheShareOfMedians) {
  // The machine became twice as fast; the share stayed.
  const Rate rate =
      summarize({sample(10, 90, {{100, 100}}), sample(20, 180, {{200, 200}}), sample(20, 180, {{200, 200}})});
  EXPECT_THAT(rate.shares, ElementsAre(Optional(0.9)));
}

TEST(Rate, HasNoShareWhenNoSampleWasSteady) {
  const Rate rate = summarize({sample(10, 90, {{100, 50}, {7, 7}}), sample(30, 90, {{100, 20}, {7, 7}})});
  EXPECT_DOUBLE_EQ(rate.median, 20) << "the speed is known all the same";
  EXPECT_EQ(rate.samples, 2);
  EXPECT_EQ(rate.rejected, 2);
  EXPECT_THAT(rate.shares, ElementsAre(std::nullopt, std::nullopt));
}

TEST(Rate, WithoutGaugesIsTheMedianBetweenTheExtremes) {
  const Rate rate = summarize({sample(5, 0, {}), sample(1, 0, {}), sample(2, 0, {}), sample(100, 0, {})});
  EXPECT_DOUBLE_EQ(rate.median, 3.5);
  EXPECT_DOUBLE_EQ(rate.min, 1);
  EXPECT_DOUBLE_EQ(rate.max, 100);
  EXPECT_EQ(rate.rejected, 0);
  EXPECT_THAT(rate.shares, IsEmpty());
}

TEST(LostShare, IsWhatThreadsWaitedForWhileCoresDidOtherThings) {
  const CoreTimes before{100, 7};
  EXPECT_DOUBLE_EQ(lost_share(before, {102, 7}, 1, 2), 0) << "both cores ours";
  EXPECT_DOUBLE_EQ(lost_share(before, {101.5, 7.5}, 1, 2), 0.25) << "half a second of two was another's";
  EXPECT_DOUBLE_EQ(lost_share(before, {101, 7}, 1, 2), 0) << "one core, and nothing to do for the other";
  EXPECT_DOUBLE_EQ(lost_share(before, {102, 9}, 1, 2), 0) << "more threads than cores: they waited for each other";
  EXPECT_DOUBLE_EQ(lost_share({100, {}}, {100.5, {}}, 1, 2), 0) << "the system does not tell";
  EXPECT_DOUBLE_EQ(lost_share(before, before, 0, 2), 0);
}

TEST(CoreTimes, GrowWithTheWorkDone) {
  const CoreTimes before = read_core_times();
  volatile double sum = 0;
  while (read_core_times().used - before.used < 0.02) {
    for (int i = 0; i < 10000; ++i) sum = sum + i;
  }
  const CoreTimes after = read_core_times();
  EXPECT_GT(after.used, before.used);
  EXPECT_EQ(after.waited.has_value(), before.waited.has_value());
  if (after.waited) {
    EXPECT_GE(*after.waited, *before.waited);
  }
}

TEST(PeakResident, SeesWhatWasTouched) {
  constexpr uint64_t kBytes = uint64_t{64} << 20;
  reset_peak_resident();
  const uint64_t before = peak_resident_bytes();
  EXPECT_GT(before, 0U);
  {
    const std::vector<char> touched(kBytes, 'x');
    EXPECT_EQ(touched.back(), 'x');
  }
  EXPECT_GE(peak_resident_bytes(), before);
}

// Counted by hand: 2·1024·(3072 + 8 + 1024 + 3·2752) a block, times 24, for the matrices.
TEST(Work, OfAPrefillIsTheMatricesTheCellAndOneRowOfTheHead) {
  const SyntheticShape shape = parse_shape("406m");
  const double head = 2.0 * 50304 * 1024;
  const double matrices = 24 * 2.0 * 1024 * (3072 + 8 + 1024 + 3 * 2752);
  // Per head 4·128·256, and in chunks of 64 another 65·(128 + 256).
  const double whole = 24 * 4 * (4.0 * 128 * 256 + 65.0 * 384);
  const double rest = 24 * 4 * (4.0 * 128 * 256);
  EXPECT_DOUBLE_EQ(prefill_flop(shape.dims, 24, 128, 64), 128 * (matrices + whole) + head);
  EXPECT_DOUBLE_EQ(prefill_flop(shape.dims, 24, 130, 64), 128 * (matrices + whole) + 2 * (matrices + rest) + head);
  EXPECT_DOUBLE_EQ(prefill_flop(shape.dims, 24, 1, 64), matrices + rest + head);
}

}  // namespace
}  // namespace xlstm
