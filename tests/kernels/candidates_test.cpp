#include "kernels/cpu/candidates.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cpu/isa.h"

namespace xlstm::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

using IdAndBits = std::pair<int32_t, uint32_t>;

class CandidatesTest : public testing::TestWithParam<std::string> {
 protected:
  CandidatesTest() { force_isa(GetParam()); }
  ~CandidatesTest() override { force_isa(""); }

  void expect_sorted(const std::vector<float>& logits, int64_t count) {
    const auto rank = [](float logit) { return std::isnan(logit) ? std::numeric_limits<float>::infinity() : logit; };
    std::vector<IdAndBits> expected;
    expected.reserve(logits.size());
    for (const float logit : logits) {
      expected.emplace_back(static_cast<int32_t>(expected.size()), std::bit_cast<uint32_t>(logit));
    }
    std::stable_sort(expected.begin(), expected.end(), [&](const IdAndBits& a, const IdAndBits& b) {
      return rank(std::bit_cast<float>(a.second)) > rank(std::bit_cast<float>(b.second));
    });
    expected.resize(static_cast<size_t>(count));

    // In memory of just that size: reading behind the end shows under AddressSanitizer.
    const auto memory = std::make_unique<float[]>(logits.size());
    std::copy(logits.begin(), logits.end(), memory.get());
    const FoundLogit* const found = find_greatest(memory.get(), static_cast<int64_t>(logits.size()), count, scratch_);
    std::vector<IdAndBits> got;
    got.reserve(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) got.emplace_back(found[i].id, std::bit_cast<uint32_t>(found[i].logit));
    EXPECT_EQ(got, expected) << logits.size() << " logits, " << count;
  }

  std::vector<float> random(int64_t vocab) {
    std::normal_distribution<float> normal(0, 4);
    std::vector<float> logits(static_cast<size_t>(vocab));
    for (float& logit : logits) logit = normal(engine_);
    return logits;
  }

  std::mt19937 engine_{7};

 private:
  CandidateScratch scratch_;  // one for all, so that a call finds what others left in it
};

INSTANTIATE_TEST_SUITE_P(Isa, CandidatesTest, testing::ValuesIn(supported_isas()),
                         [](const auto& param) { return param.param; });

TEST_P(CandidatesTest, FindsWhatSortingFindsAtEverySize) {
  for (const int64_t vocab : {1, 2, 7, 15, 16, 17, 31, 33, 64, 100, 255, 1023, 4096, 50304, 65}) {
    for (const int64_t count : {1, 2, 5, 16, 40, 65, 256}) {
      if (count <= vocab) expect_sorted(random(vocab), count);
    }
    expect_sorted(random(vocab), vocab);
  }
}

TEST_P(CandidatesTest, OfEqualLogitsTheFirstAreFound) {
  for (const int64_t vocab : {5, 300, 5000}) {
    for (const float value : {0.0F, -3.5F, kInf, -kInf, kNan}) {
      expect_sorted(std::vector<float>(static_cast<size_t>(vocab), value), 5);
    }
    std::vector<float> steps = random(vocab);
    for (float& logit : steps) logit = std::floor(logit / 2);
    for (const int64_t count : {1, 3, 5}) expect_sorted(steps, count);
  }
}

TEST_P(CandidatesTest, ZerosAreEqualWhateverTheirSignAndNanIsInfinite) {
  std::vector<float> logits(200, -1.0F);
  for (size_t i = 0; i < logits.size(); i += 3) logits[i] = i % 2 == 0 ? 0.0F : -0.0F;
  expect_sorted(logits, 40);
  logits[150] = kNan;
  logits[20] = kInf;
  logits[70] = -kNan;
  logits[199] = std::numeric_limits<float>::max();
  logits[3] = std::numeric_limits<float>::denorm_min();
  logits[4] = -kInf;
  for (const int64_t count : {1, 2, 3, 4, 5, 40, 200}) expect_sorted(logits, count);
}

// What removing a token leaves: most at minus infinity.
TEST_P(CandidatesTest, FewFiniteLogitsAreFoundBeforeTheOthers) {
  std::vector<float> logits(4096, -kInf);
  for (const size_t id : {17, 4095, 2000}) logits[id] = static_cast<float>(id);
  for (const int64_t count : {1, 3, 4, 40}) expect_sorted(logits, count);
}

}  // namespace
}  // namespace xlstm::cpu
