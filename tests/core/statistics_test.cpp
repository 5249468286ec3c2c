#include "xlstm/core/statistics.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"

namespace xlstm {
namespace {

TEST(Quantile, LiesBetweenTheNearestTwoValues) {
  EXPECT_DOUBLE_EQ(quantile({5, 1, 2, 3, 4}, 0.25), 2);
  EXPECT_DOUBLE_EQ(quantile({4, 1, 2, 3}, 0.25), 1.75);
  EXPECT_DOUBLE_EQ(quantile({1, 2}, 1), 2);
  EXPECT_DOUBLE_EQ(quantile({2, 1}, 0), 1);
  EXPECT_DOUBLE_EQ(quantile({7}, 0.75), 7);
}

TEST(Median, IsTheMiddleOrTheMeanOfTheMiddleTwo) {
  EXPECT_DOUBLE_EQ(median({3, 1, 2}), 2);
  EXPECT_DOUBLE_EQ(median({100, 1, 2, 3}), 2.5);
}

TEST(Median, OfNothingIsABugOfTheCaller) {
  test::expect_error([] { (void)median({}); }, ExitCode::kInternal, {"values"});
}

}  // namespace
}  // namespace xlstm
