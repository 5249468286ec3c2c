#include "xlstm/io/half.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace xlstm {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// The value of a binary16 number by its definition.
double f16_by_definition(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == 31) return mantissa == 0 ? sign * HUGE_VAL : std::nan("");
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

TEST(Half, EveryFloat16ValueWidensExactlyAndReturns) {
  for (uint32_t i = 0; i < 0x10000; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    const float value = f16_to_float(bits);
    const double expected = f16_by_definition(bits);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << i;
      ASSERT_TRUE(std::isnan(f16_to_float(float_to_f16(value)))) << i;
      ASSERT_EQ(std::signbit(value), (bits & 0x8000) != 0) << i;
    } else {
      ASSERT_EQ(static_cast<double>(value), expected) << i;
      ASSERT_EQ(float_to_f16(value), bits) << i;
    }
  }
}

TEST(Half, EveryBfloat16ValueWidensExactlyAndReturns) {
  for (uint32_t i = 0; i < 0x10000; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    const float value = bf16_to_float(bits);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(bf16_to_float(float_to_bf16(value)))) << i;
    } else {
      ASSERT_EQ(float_to_bf16(value), bits) << i;
    }
  }
}

// Between each two neighbours: below the middle goes down, above it up, the middle itself to the even one.
void check_rounding(float (*widen)(uint16_t), uint16_t (*narrow)(float), uint16_t largest) {
  for (uint16_t low = 0; low < largest; ++low) {
    const auto high = static_cast<uint16_t>(low + 1);
    const float middle = static_cast<float>((static_cast<double>(widen(low)) + static_cast<double>(widen(high))) / 2);
    ASSERT_EQ(narrow(middle), (low & 1) == 0 ? low : high) << low;
    ASSERT_EQ(narrow(std::nextafter(middle, 0.0F)), low) << low;
    ASSERT_EQ(narrow(std::nextafter(middle, kInf)), high) << low;
    ASSERT_EQ(narrow(-middle), 0x8000 | ((low & 1) == 0 ? low : high)) << low;
  }
}

TEST(Half, Float16RoundsToNearestEven) {
  check_rounding(f16_to_float, float_to_f16, 0x7bff);
}
TEST(Half, Bfloat16RoundsToNearestEven) {
  check_rounding(bf16_to_float, float_to_bf16, 0x7f7f);
}

TEST(Half, ValuesBeyondTheRangeBecomeInfiniteAndNanStaysNan) {
  EXPECT_EQ(float_to_f16(65519.0F), 0x7bff);
  EXPECT_EQ(float_to_f16(65520.0F), 0x7c00);
  EXPECT_EQ(float_to_f16(-1e30F), 0xfc00);
  EXPECT_EQ(float_to_f16(kInf), 0x7c00);
  EXPECT_EQ(float_to_f16(std::numeric_limits<float>::min()), 0);
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(float_to_bf16(-kInf), 0xff80);
  const float low_payload = std::bit_cast<float>(0x7f800001U);  // a NaN whose upper half looks like infinity
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(low_payload))));
  EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(low_payload))));
}

TEST(Half, ArraysConvertLikeSingleValuesAtAnyAlignment) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 100);
  for (const size_t size : {0U, 1U, 7U, 16U, 1001U}) {
    std::vector<float> values(size);
    for (float& v : values) v = normal(random);
    for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
      SCOPED_TRACE(dtype_name(dtype));
      std::vector<std::byte> bytes(size * dtype_size(dtype) + 1);
      const auto unaligned = std::span(bytes).subspan(1);
      from_float32(dtype, values, unaligned);
      std::vector<float> back(size);
      to_float32(dtype, unaligned, back);
      for (size_t i = 0; i < size; ++i) {
        const float expected = dtype == DType::F32   ? values[i]
                               : dtype == DType::F16 ? f16_to_float(float_to_f16(values[i]))
                                                     : bf16_to_float(float_to_bf16(values[i]));
        ASSERT_EQ(back[i], expected) << i;
      }
    }
  }
}

TEST(FirstNonFinite, FindsTheFirstBadValueOfEveryFloatType) {
  constexpr size_t kSize = 10001;
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
    SCOPED_TRACE(dtype_name(dtype));
    for (const size_t at : {size_t{0}, size_t{1}, size_t{4095}, size_t{4096}, kSize - 1}) {
      for (const float bad : {kInf, -kInf, std::numeric_limits<float>::quiet_NaN()}) {
        std::vector<float> values(kSize, 60000.0F);
        std::vector<std::byte> bytes(kSize * dtype_size(dtype));
        from_float32(dtype, values, bytes);
        EXPECT_EQ(first_non_finite(dtype, bytes), std::nullopt);
        values[at] = bad;
        values[kSize - 1] = bad;
        from_float32(dtype, values, bytes);
        EXPECT_EQ(first_non_finite(dtype, bytes), static_cast<int64_t>(at));
      }
    }
  }
}

TEST(FirstNonFinite, ChecksFloat64AndPassesIntegers) {
  const std::vector<double> values = {1, 2, -HUGE_VAL};
  EXPECT_EQ(first_non_finite(DType::F64, std::as_bytes(std::span(values))), 2);
  const std::vector<int32_t> ones(5, -1);
  EXPECT_EQ(first_non_finite(DType::I32, std::as_bytes(std::span(ones))), std::nullopt);
}

}  // namespace
}  // namespace xlstm
