// What happens to a panel's sums, on every instruction set of this machine.
#include "kernels/cpu/panel_finish.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/panel_layout.h"

namespace xlstm::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr auto kWidth = static_cast<size_t>(kPanelWidth);

class PanelFinishTest : public testing::TestWithParam<std::string> {
 protected:
  PanelFinishTest() { force_isa(GetParam()); }
  ~PanelFinishTest() override { force_isa(""); }
};

INSTANTIATE_TEST_SUITE_P(Isa, PanelFinishTest, testing::ValuesIn(supported_isas()),
                         [](const auto& param) { return param.param; });

std::vector<float> random_values(int64_t count, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(engine);
  return values;
}

// Whole panel rows with both signs of: zero, subnormals, small values, a dense range around 0, values up to and far
// beyond saturation.
std::vector<float> probes() {
  std::vector<float> values = {0.0F,
                               1e-42F,
                               1e-38F,
                               1e-20F,
                               1e-10F,
                               86.0F,
                               87.5F,
                               88.0F,
                               89.0F,
                               103.0F,
                               104.0F,
                               105.0F,
                               1e3F,
                               1e4F,
                               1e10F,
                               1e30F,
                               std::numeric_limits<float>::max()};
  for (int i = 1; i < 4000; ++i) values.push_back(static_cast<float>(i) * 0.005F);
  for (float x = 1e-7F; x < 20.0F; x *= 1.01F) values.push_back(x);
  const size_t count = values.size();
  for (size_t i = 0; i < count; ++i) values.push_back(-values[i]);
  values.resize((values.size() + kWidth - 1) / kWidth * kWidth, 1.0F);
  return values;
}

// Units in the last place of a float of the reference's size.
double ulps(double value, double reference) {
  return std::abs(value - reference) / std::ldexp(std::abs(reference), -23);
}

std::vector<float> capped(const std::vector<float>& x, float cap) {
  std::vector<float> y(x.size());
  finish_plain({y.data(), kPanelWidth, static_cast<int64_t>(x.size() / kWidth), kPanelWidth, nullptr}, {false, cap},
               x.data());
  return y;
}

// SiLU(gate) ⊙ 1
std::vector<float> silu(const std::vector<float>& gate) {
  const std::vector<float> ones(gate.size(), 1.0F);
  std::vector<float> y(gate.size());
  finish_gate_up({y.data(), kPanelWidth, static_cast<int64_t>(gate.size() / kWidth), kPanelWidth, nullptr}, nullptr,
                 gate.data(), ones.data());
  return y;
}

TEST_P(PanelFinishTest, AddsBiasCapAndResidualToTheColumnsThatExist) {
  for (const int64_t columns : {1, 7, 16, 31, 32}) {
    const std::vector<float> sums = random_values(3 * kPanelWidth, 6);
    const std::vector<float> bias = random_values(columns, 7);
    const std::vector<float> before = random_values(3 * (columns + 1), 8);
    for (const PlainFinish& finish :
         {PlainFinish{}, PlainFinish{true, 0}, PlainFinish{false, 2}, PlainFinish{true, 2}}) {
      std::vector<float> y = before;
      finish_plain({y.data(), columns + 1, 3, columns, bias.data()}, finish, sums.data());
      for (int64_t r = 0; r < 3; ++r) {
        const auto at = static_cast<size_t>(r * (columns + 1));
        for (int64_t c = 0; c < columns; ++c) {
          double value = static_cast<double>(sums[static_cast<size_t>(r * kPanelWidth + c)]) +
                         static_cast<double>(bias[static_cast<size_t>(c)]);
          if (finish.soft_cap != 0) value = 2 * std::tanh(value / 2);
          if (finish.accumulate) value += static_cast<double>(before[at + static_cast<size_t>(c)]);
          EXPECT_NEAR(y[at + static_cast<size_t>(c)], value, 2e-6);
        }
        EXPECT_EQ(y[at + static_cast<size_t>(columns)], before[at + static_cast<size_t>(columns)]);
      }
    }
  }
}

TEST_P(PanelFinishTest, GateAndUpMeetInSwiGlu) {
  const std::vector<float> gate = random_values(2 * kPanelWidth, 9);
  const std::vector<float> up = random_values(2 * kPanelWidth, 10);
  const std::vector<float> bias = random_values(2 * 19, 11);
  std::vector<float> y(2 * 20, 5.0F);
  finish_gate_up({y.data(), 20, 2, 19, bias.data()}, bias.data() + 19, gate.data(), up.data());
  for (size_t r = 0; r < 2; ++r) {
    for (size_t c = 0; c < 19; ++c) {
      const auto g = static_cast<double>(gate[r * kWidth + c]) + static_cast<double>(bias[c]);
      const auto u = static_cast<double>(up[r * kWidth + c]) + static_cast<double>(bias[19 + c]);
      EXPECT_NEAR(y[r * 20 + c], g / (1 + std::exp(-g)) * u, 4e-6);
    }
    EXPECT_EQ(y[r * 20 + 19], 5.0F);
  }
}

TEST_P(PanelFinishTest, TheSoftCapIsATanhWithinAFewUlpsEverywhere) {
  const std::vector<float> x = probes();
  for (const float cap : {1.0F, 15.0F, 30.0F}) {
    const std::vector<float> y = capped(x, cap);
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = cap * std::tanh(static_cast<double>(x[i]) / cap);
      const double tolerance = std::abs(x[i]) < 1e-36F ? 1e-42 : std::ldexp(std::abs(expected), -23) * 6;
      EXPECT_NEAR(y[i], expected, tolerance) << "x " << x[i] << " cap " << cap;
    }
  }
}

TEST_P(PanelFinishTest, SiluIsAccurateWithinAFewUlpsAndNeverNan) {
  const std::vector<float> x = probes();
  const std::vector<float> y = silu(x);
  for (size_t i = 0; i < x.size(); ++i) {
    const double value = x[i];
    const double expected =
        value >= 0 ? value / (1 + std::exp(-value)) : value * std::exp(value) / (1 + std::exp(value));
    if (std::abs(expected) < 1e-36) {
      EXPECT_NEAR(y[i], expected, 1e-36) << "x " << x[i];
    } else {
      EXPECT_LT(ulps(y[i], expected), 6) << "x " << x[i];
    }
  }
}

TEST_P(PanelFinishTest, InfiniteSumsAreCappedAndNanIsNeverHidden) {
  std::vector<float> x(kWidth, 0.0F);
  x[0] = x[29] = kInfinity;
  x[1] = x[30] = -kInfinity;
  x[2] = x[31] = kNan;
  const std::vector<float> cap = capped(x, 15.0F);
  const std::vector<float> gate = silu(x);
  for (const size_t first : {size_t{0}, size_t{29}}) {
    EXPECT_EQ(cap[first], 15.0F);
    EXPECT_EQ(cap[first + 1], -15.0F);
    EXPECT_TRUE(std::isnan(cap[first + 2]));
    EXPECT_EQ(gate[first], kInfinity);
    EXPECT_FALSE(std::isinf(gate[first + 1])) << "e^-∞ is the stronger factor";
    EXPECT_TRUE(std::isnan(gate[first + 2]));
  }
  EXPECT_EQ(cap[3], 0.0F);
  EXPECT_EQ(gate[3], 0.0F);
}

}  // namespace
}  // namespace xlstm::cpu
