#include "xlstm/core/exponential.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "xlstm/core/philox.h"

namespace xlstm {
namespace {

// Of positive numbers.
int64_t units_between(double a, double b) {
  return std::abs(std::bit_cast<int64_t>(a) - std::bit_cast<int64_t>(b));
}

TEST(Exponential, IsThatOfTheMathLibraryButForTheLastPlaces) {
  for (const double range : {1e-300, 1e-8, 0.3, 1.0, 5.0, 40.0, 745.0}) {
    for (uint64_t i = 0; i < 20000; ++i) {
      const double x = -range * philox_uniform(1, 2, i);
      ASSERT_LE(units_between(exponential(x), std::exp(x)), 2) << x;
    }
  }
  constexpr double kLn2 = 0.69314718055994531;
  for (int k = 0; k <= 1074; ++k) {
    for (const double x : {-kLn2 * k, -kLn2 * (k + 0.5)}) {
      ASSERT_LE(units_between(exponential(x), std::exp(x)), 2) << x;
    }
  }
}

TEST(Exponential, GrowsWithItsArgument) {
  double before = 0;
  for (double x = -750; x <= 0; x += 0.001) {
    const double now = exponential(x);
    ASSERT_GE(now, before) << x;
    before = now;
  }
}

// Values of the same formula in Python, whose operations on numbers are never joined; joined, each of these would
// differ.
TEST(Exponential, RoundsEachMultiplicationAndEachAddition) {
  struct Case {
    double x;
    uint64_t bits;
  };
  for (const Case& c : {Case{-9.542, 0x3f12d09d75d01533},
                        {-1.833, 0x3fc478afa5cf25ac},
                        {-23.903, 0x3dc6de377a8b3bec},
                        {-0.165, 0x3feb21f1fa31573e},
                        {-0.238, 0x3fe938f4d99bbdee},
                        {-10.713, 0x3ef755b217abb54a},
                        {-5.468, 0x3f7148a32cd34c8e},
                        {-0.24, 0x3fe92c0e312ce7a8}}) {
    volatile double x = c.x;  // not while compiling
    EXPECT_EQ(std::bit_cast<uint64_t>(exponential(x)), c.bits) << c.x;
  }
}

TEST(Exponential, OfLimits) {
  EXPECT_EQ(exponential(0.0), 1);
  EXPECT_EQ(exponential(-0.0), 1);
  EXPECT_EQ(exponential(-std::numeric_limits<double>::denorm_min()), 1);
  EXPECT_EQ(exponential(-std::numeric_limits<double>::infinity()), 0);
  EXPECT_EQ(exponential(-std::numeric_limits<double>::max()), 0);
  EXPECT_EQ(exponential(-746), 0);
  EXPECT_GT(exponential(-745), 0);
  EXPECT_TRUE(std::isnan(exponential(std::numeric_limits<double>::quiet_NaN())));
}

}  // namespace
}  // namespace xlstm
