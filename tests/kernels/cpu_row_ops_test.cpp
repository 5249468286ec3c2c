#include "kernels/cpu/row_ops.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cpu/isa.h"

namespace xlstm::cpu {
namespace {

class RowOpsTest : public testing::TestWithParam<std::string> {
 protected:
  RowOpsTest() { force_isa(GetParam()); }
  ~RowOpsTest() override { force_isa(""); }
};

INSTANTIATE_TEST_SUITE_P(Isa, RowOpsTest, testing::ValuesIn(supported_isas()),
                         [](const auto& param) { return param.param; });

// Units in the last place of a float of the reference's size.
double ulps(double value, double reference) {
  const double unit =
      std::max(std::ldexp(std::abs(reference), -23), static_cast<double>(std::numeric_limits<float>::denorm_min()));
  return std::abs(value - reference) / unit;
}

TEST_P(RowOpsTest, EveryFloat16IsWidenedExactly) {
  std::vector<uint16_t> bits(65536);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  std::vector<float> wide(bits.size());
  to_float32(bits.data(), Dtype::kFloat16, static_cast<int64_t>(bits.size()), wide.data());
  for (size_t i = 0; i < bits.size(); ++i) {
    const float expected = static_cast<float>(c10::Half(bits[i], c10::Half::from_bits()));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(wide[i])) << i;
    } else {
      EXPECT_EQ(wide[i], expected) << i;
      EXPECT_EQ(std::signbit(wide[i]), std::signbit(expected)) << i;
    }
  }
}

TEST_P(RowOpsTest, WideningReadsAndWritesNothingBehindTheEnd) {
  for (int64_t count = 0; count <= 40; ++count) {
    std::vector<uint16_t> bits(static_cast<size_t>(count), 0x3F80);
    std::vector<float> wide(static_cast<size_t>(count) + 1, -7.0F);
    to_float32(bits.data(), Dtype::kBfloat16, count, wide.data());
    for (int64_t i = 0; i < count; ++i) EXPECT_EQ(wide[static_cast<size_t>(i)], 1.0F);
    EXPECT_EQ(wide.back(), -7.0F) << count;
  }
}

TEST_P(RowOpsTest, RmsNormOfTinyAndOfHugeRowsFollowsTheFormula) {
  for (const float size : {1e-6F, 1e-3F, 1.0F, 1e6F}) {
    for (const int64_t count : {1, 3, 16, 37, 256}) {
      std::vector<float> x(static_cast<size_t>(count));
      double squares = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        x[i] = size * (static_cast<float>(i % 7) - 2.5F);
        squares += static_cast<double>(x[i]) * static_cast<double>(x[i]);
      }
      const std::vector<float> weight(x.size(), 1.5F);
      std::vector<float> out(x.size());
      rms_norm({x.data(), weight.data(), nullptr, count, 1e-6F, out.data()});
      const double scale = 1.5 / std::sqrt(squares / static_cast<double>(count) + 1e-6);
      for (size_t i = 0; i < x.size(); ++i) EXPECT_LT(ulps(out[i], x[i] * scale), 16) << "count " << count;
    }
  }
}

TEST_P(RowOpsTest, HeadNormKeepsTheScaleOfHeadsWhoseVarianceIsNearEps) {
  // With |h| about 1e-3 eps is as large as the variance; dropping it would change the result at order one.
  constexpr int64_t kHeads = 3;
  constexpr int64_t kDim = 21;
  std::vector<float> h(kHeads * kDim), gate(h.size()), weight(h.size()), bias(h.size()), out(h.size());
  for (size_t i = 0; i < h.size(); ++i) {
    h[i] = 1e-3F * static_cast<float>((i * 37) % 11) + 0.01F;
    gate[i] = static_cast<float>(i % 9) - 4.0F;
    weight[i] = 0.5F + static_cast<float>(i % 3);
    bias[i] = 0.1F * static_cast<float>(i % 5);
  }
  gated_head_norm({h.data(), gate.data(), weight.data(), bias.data(), kHeads, kDim, 1e-6F, out.data()});
  for (size_t head = 0; head < kHeads; ++head) {
    double mean = 0;
    double variance = 0;
    for (size_t i = 0; i < kDim; ++i) mean += h[head * kDim + i] / static_cast<double>(kDim);
    for (size_t i = 0; i < kDim; ++i) variance += std::pow(h[head * kDim + i] - mean, 2) / static_cast<double>(kDim);
    for (size_t i = head * kDim; i < (head + 1) * kDim; ++i) {
      const double normed = (h[i] - mean) / std::sqrt(variance + 1e-6) * weight[i] + bias[i];
      EXPECT_NEAR(out[i], normed / (1 + std::exp(-static_cast<double>(gate[i]))), 2e-5);
    }
  }
}

}  // namespace
}  // namespace xlstm::cpu
