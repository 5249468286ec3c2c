// When one configuration counts as faster than another.
#include "xlstm/tune/comparison.h"

#include <gtest/gtest.h>

namespace xlstm {
namespace {

// Pairs whose ratios incumbent / candidate are these.
std::vector<TimingPair> ratios(const std::vector<double>& values) {
  std::vector<TimingPair> pairs;
  for (const double value : values) pairs.push_back({{1.0, 0}, {value, 0}});
  return pairs;
}

Comparison record(int64_t pairs, int64_t wins) {
  Comparison comparison;
  comparison.pairs = pairs;
  comparison.wins = wins;
  return comparison;
}

TEST(Compare, TakesTheMedianOfTheRatiosNotTheRatioOfTheMedians) {
  // The machine became four times slower in the middle; in every pair the candidate took 10% less.
  std::vector<TimingPair> pairs;
  for (const double slow : {1.0, 1.0, 4.0, 4.0, 4.0}) pairs.push_back({{0.9 * slow, 0}, {slow, 0}});
  const Comparison result = compare(pairs, TuneObjective::kPrefill);
  EXPECT_NEAR(result.median, 1 / 0.9, 1e-12);
  EXPECT_NEAR(result.lower_quartile, 1 / 0.9, 1e-12);
  EXPECT_EQ(result.wins, 5);
}

TEST(Compare, ReportsTheSpreadAndCountsEqualPairsAsNotWon) {
  const Comparison result = compare(ratios({1.0, 0.9, 1.2, 1.1, 1.3}), TuneObjective::kPrefill);
  EXPECT_EQ(result.pairs, 5);
  EXPECT_EQ(result.wins, 3);
  EXPECT_DOUBLE_EQ(result.median, 1.1);
  EXPECT_DOUBLE_EQ(result.lower_quartile, 1.0);
  EXPECT_DOUBLE_EQ(result.upper_quartile, 1.2);
}

TEST(Compare, CountsWhatTheObjectiveNames) {
  const std::vector<TimingPair> pairs = {{{1.0, 4.0}, {2.0, 2.0}}};
  EXPECT_DOUBLE_EQ(compare(pairs, TuneObjective::kPrefill).median, 2.0);
  EXPECT_DOUBLE_EQ(compare(pairs, TuneObjective::kDecode).median, 0.5);
  EXPECT_DOUBLE_EQ(compare(pairs, TuneObjective::kTotal).median, 0.8);
}

TEST(ClearlyFaster, NeedsMoreWinsThanChanceGivesInOneOfFifty) {
  for (int64_t pairs = 1; pairs <= 5; ++pairs) EXPECT_FALSE(clearly_faster(record(pairs, pairs))) << pairs;
  // The fewest wins whose one-sided binomial tail is at most 2%.
  for (const auto& [pairs, wins] : {std::pair(6, 6), {7, 7}, {8, 8}, {9, 8}, {12, 10}, {16, 13}, {100, 61}}) {
    EXPECT_TRUE(clearly_faster(record(pairs, wins))) << wins << " of " << pairs;
    EXPECT_FALSE(clearly_faster(record(pairs, wins - 1))) << wins - 1 << " of " << pairs;
  }
  EXPECT_TRUE(clearly_faster(record(10'000, 6'000)));
  EXPECT_FALSE(clearly_faster(record(10'000, 5'000)));
  EXPECT_FALSE(clearly_faster(record(0, 0)));
}

TEST(MedianTiming, IsTakenForEachPart) {
  const Timing timing = median_timing({{1, 30}, {3, 10}, {2, 20}});
  EXPECT_DOUBLE_EQ(timing.prefill_s, 2);
  EXPECT_DOUBLE_EQ(timing.decode_s, 20);
  EXPECT_DOUBLE_EQ(median_timing({}).prefill_s, 0);
}

}  // namespace
}  // namespace xlstm
