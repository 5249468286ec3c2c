#include "src/monitor/rate_meter.h"

#include <gtest/gtest.h>

namespace xlstm {
namespace {

TEST(RateMeter, MeasuresASteadyDecodeExactly) {
  RateMeter meter;
  RateMeter::Rates rates;
  for (int i = 0; i <= 40; ++i) rates = meter.add(i * 0.25, RunPhase::kDecode, i * 5);
  EXPECT_DOUBLE_EQ(rates.now, 20);
  EXPECT_DOUBLE_EQ(rates.phase, 20);
  EXPECT_DOUBLE_EQ(rates.phase_s, 10);
}

TEST(RateMeter, FollowsAChangeOfSpeedWithinASecondOrSo) {
  RateMeter meter;
  RateMeter::Rates rates;
  int64_t tokens = 0;
  for (int i = 0; i <= 40; ++i) rates = meter.add(i * 0.25, RunPhase::kDecode, tokens += 5);
  for (int i = 41; i <= 46; ++i) rates = meter.add(i * 0.25, RunPhase::kDecode, tokens += 1);
  EXPECT_DOUBLE_EQ(rates.now, 4);
  EXPECT_GT(rates.phase, 15);
}

TEST(RateMeter, StepsOfSeveralSecondsGiveASteadyRate) {
  RateMeter meter;
  RateMeter::Rates rates;
  for (int i = 0; i <= 64; ++i) {
    rates = meter.add(i * 0.25, RunPhase::kPrefill, i / 16 * 2048);  // a segment every four seconds
    if (i >= 32) {
      EXPECT_DOUBLE_EQ(rates.now, 512) << i;
    }
  }
}

TEST(RateMeter, FallsWhenNothingComesAndEndsAtZero) {
  RateMeter meter;
  for (int i = 0; i <= 8; ++i) static_cast<void>(meter.add(i * 0.25, RunPhase::kDecode, i * 5));
  EXPECT_LT(meter.add(5, RunPhase::kDecode, 40).now, 10);
  EXPECT_EQ(meter.add(60, RunPhase::kDecode, 40).now, 0);
}

TEST(RateMeter, APhaseKnowsNothingOfTheOneBefore) {
  RateMeter meter;
  for (int i = 0; i <= 8; ++i) static_cast<void>(meter.add(i * 0.25, RunPhase::kPrefill, i * 1000));
  EXPECT_EQ(meter.add(2.25, RunPhase::kDecode, 9000).now, 0);
  const RateMeter::Rates rates = meter.add(3.25, RunPhase::kDecode, 9010);
  EXPECT_DOUBLE_EQ(rates.now, 10);
  EXPECT_DOUBLE_EQ(rates.phase, 10);
}

TEST(RateMeter, IsZeroBeforeAnythingHasHappened) {
  RateMeter meter;
  EXPECT_EQ(meter.add(100, RunPhase::kStarting, 0).now, 0);
  EXPECT_EQ(meter.add(100, RunPhase::kStarting, 0).phase, 0);
}

}  // namespace
}  // namespace xlstm
