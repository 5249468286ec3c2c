#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/kernels/op_dims.h"
#include "tests/kernels_device/device_under_test.h"

namespace xlstm {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

using Row = std::vector<float>;

struct Found {
  int32_t id = 0;
  uint32_t bits = 0;
  bool operator==(const Found&) const = default;
};

void PrintTo(const Found& found, std::ostream* out) {
  *out << found.id << ": " << std::bit_cast<float>(found.bits);
}

std::vector<Found> by_sorting(const Row& logits, int64_t vocab, int64_t count) {
  std::vector<Found> all;
  for (int32_t id = 0; id < vocab; ++id) all.push_back({id, std::bit_cast<uint32_t>(logits[static_cast<size_t>(id)])});
  const auto rank = [](const Found& f) {
    const auto value = std::bit_cast<float>(f.bits);
    return std::isnan(value) ? kInf : value;
  };
  std::partial_sort(all.begin(), all.begin() + count, all.end(), [&](const Found& a, const Found& b) {
    return rank(a) != rank(b) ? rank(a) > rank(b) : a.id < b.id;
  });
  all.resize(static_cast<size_t>(count));
  return all;
}

class DeviceSamplingTest : public testing::Test {
 protected:
  std::vector<Found> find(const std::vector<Row>& rows, int64_t vocab, int64_t count) {
    const auto width = static_cast<int64_t>(rows.front().size());
    const auto height = static_cast<int64_t>(rows.size());
    const at::Tensor logits = at::empty({height, width}, at::kFloat);
    for (int64_t r = 0; r < height; ++r) {
      std::memcpy(logits[r].data_ptr(), rows[static_cast<size_t>(r)].data(),
                  static_cast<size_t>(width) * sizeof(float));
    }
    at::Tensor candidates = device_->place(at::full({height, count, 2}, -1, at::kInt));
    ops_->find_candidates(device_->place(logits), vocab, candidates);
    const at::Tensor result = candidates.cpu();
    std::vector<Found> found(static_cast<size_t>(height * count));
    std::memcpy(found.data(), result.const_data_ptr(), found.size() * sizeof(Found));
    return found;
  }

  void expect_sorted(const Row& logits, int64_t count) {
    const auto vocab = static_cast<int64_t>(logits.size());
    EXPECT_EQ(find({logits}, vocab, count), by_sorting(logits, vocab, count)) << vocab << " logits, " << count;
  }

  Row random(int64_t vocab) {
    std::normal_distribution<float> normal(0, 4);
    Row logits(static_cast<size_t>(vocab));
    for (float& logit : logits) logit = normal(engine_);
    return logits;
  }

  std::mt19937 engine_{7};
  std::unique_ptr<test::DeviceUnderTest> device_ = test::make_device_under_test();
  std::unique_ptr<DeviceOps> ops_ = device_->ops(test::dims_of({1, 1, 1, 1, 1, 1}));
};

TEST_F(DeviceSamplingTest, FindsWhatSortingFindsAtEverySize) {
  for (const int64_t vocab : {1, 2, 31, 63, 64, 65, 255, 257, 1023, 1024, 1025, 2049, 4096, 5121}) {
    for (const int64_t count : {1, 2, 40, 63, 64, 65, 255, 256}) {
      if (count <= vocab) expect_sorted(random(vocab), count);
    }
  }
}

TEST_F(DeviceSamplingTest, FindsWhatSortingFindsInLargeVocabularies) {
  expect_sorted(random(50'304), 40);
  expect_sorted(random(50'304), 100);
  expect_sorted(random(262'144), 64);
}

TEST_F(DeviceSamplingTest, TakesTheLowerIdsOfEqualLogits) {
  const Row equal(3000, 1.5F);
  expect_sorted(equal, 64);
  expect_sorted(equal, 256);
  Row few_values = random(3000);
  for (float& logit : few_values) logit = std::floor(logit);
  expect_sorted(few_values, 1);
  expect_sorted(few_values, 64);
  Row zeros(1500, 0.0F);
  for (size_t i = 0; i < zeros.size(); i += 3) zeros[i] = -0.0F;
  expect_sorted(zeros, 50);
}

TEST_F(DeviceSamplingTest, FindsTheGreatestWhereverTheyAre) {
  Row ascending(2500);
  for (size_t i = 0; i < ascending.size(); ++i) ascending[i] = static_cast<float>(i);
  expect_sorted(ascending, 64);
  expect_sorted(ascending, 200);
  Row descending(ascending.rbegin(), ascending.rend());
  expect_sorted(descending, 64);
  expect_sorted(descending, 200);
  Row spread(4096, -1.0F);
  for (size_t i = 5; i < spread.size(); i += 64) spread[i] = static_cast<float>(i % 7);
  expect_sorted(spread, 64);
}

TEST_F(DeviceSamplingTest, CountsNanAsTheGreatestAndKeepsInfinitiesApart) {
  Row logits = random(1300);
  logits[3] = -kInf;
  logits[700] = kInf;
  logits[1200] = kNan;
  logits[650] = -kNan;
  expect_sorted(logits, 5);
  Row impossible(70, -kInf);
  impossible[66] = -3e38F;
  expect_sorted(impossible, 70);
}

TEST_F(DeviceSamplingTest, TellsTheSmallestFloatsApart) {
  Row tiny(100);
  for (size_t i = 0; i < tiny.size(); ++i) {
    tiny[i] = static_cast<float>(static_cast<int>(i * 37 % 100) - 50) * std::numeric_limits<float>::denorm_min();
  }
  expect_sorted(tiny, 100);
}

TEST_F(DeviceSamplingTest, LooksAtUsableIdsOnly) {
  Row logits = random(2000);
  std::fill(logits.begin() + 1777, logits.end(), 100.0F);
  EXPECT_EQ(find({logits}, 1777, 64), by_sorting(logits, 1777, 64));
}

TEST_F(DeviceSamplingTest, KeepsRowsApartAndAnswersCallsOfAnySizeInTurn) {
  for (const int64_t count : {64, 1, 100, 40}) {
    const std::vector<Row> rows = {random(1500), random(1500), random(1500)};
    std::vector<Found> expected;
    for (const Row& row : rows) {
      const std::vector<Found> more = by_sorting(row, 1499, count);
      expected.insert(expected.end(), more.begin(), more.end());
    }
    EXPECT_EQ(find(rows, 1499, count), expected);
  }
}

TEST_F(DeviceSamplingTest, GivesTheSameInAnyOrderOfThreads) {
  const Row logits = random(2100);
  const auto run = [&] {
    std::string bytes;
    for (const int64_t count : {50, 90}) {
      for (const Found& found : find({logits}, 2100, count)) {
        bytes.append(reinterpret_cast<const char*>(&found), sizeof(found));
      }
    }
    return bytes;
  };
  EXPECT_EQ(device_->order_dependence(run), "");
}

}  // namespace
}  // namespace xlstm
