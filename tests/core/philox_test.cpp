#include "xlstm/core/philox.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <vector>

namespace xlstm {
namespace {

TEST(Philox, GivesThePublishedKnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, UniformNumbersDependOnSeedSequenceAndPosition) {
  std::set<double> seen;
  const std::vector<uint64_t> values = {0, 1, uint64_t{1} << 32, UINT64_MAX};
  for (const uint64_t seed : values) {
    for (const uint64_t sequence : values) {
      for (const uint64_t position : values) {
        const double u = philox_uniform(seed, sequence, position);
        EXPECT_GE(u, 0.0);
        EXPECT_LT(u, 1.0);
        seen.insert(u);
      }
    }
  }
  EXPECT_EQ(seen.size(), 64U);
}

TEST(Philox, UniformNumbersFillTheUnitIntervalEvenly) {
  constexpr int kBins = 64;
  constexpr int kDraws = 64'000;
  std::vector<int> counts(kBins);
  for (uint64_t i = 0; i < kDraws; ++i) ++counts[static_cast<size_t>(philox_uniform(1, 2, i) * kBins)];
  double chi_square = 0;
  constexpr double kExpected = static_cast<double>(kDraws) / kBins;
  for (const int count : counts) chi_square += (count - kExpected) * (count - kExpected) / kExpected;
  EXPECT_LT(chi_square, 103.4);  // 63 degrees of freedom, p = 0.001
  EXPECT_GT(chi_square, 33.0);   // too even would be no chance either
}

}  // namespace
}  // namespace xlstm
