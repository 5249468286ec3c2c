#include "xlstm/model/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "tests/support/expect_error.h"
#include "xlstm/io/half.h"

namespace xlstm {
namespace {

using test::expect_error;

constexpr MatrixFormat kInt8Row{WeightFormat::kInt8, 0};
constexpr MatrixFormat kInt4Group{WeightFormat::kInt4, 32};

// A quantized matrix that owns its memory.
struct Quantized {
  MatrixFormat format;
  int64_t rows = 0;
  int64_t columns = 0;
  std::vector<uint8_t> codes;
  std::vector<uint16_t> scale;
  std::vector<uint8_t> zero;

  Quantized(const MatrixFormat& f, int64_t r, int64_t c)
      : format(f),
        rows(r),
        columns(c),
        codes(static_cast<size_t>(r * row_bytes(f.format, c)), 0xee),
        scale(static_cast<size_t>(r * groups_per_row(f, c)), 0xeeee),
        zero(f.format == WeightFormat::kInt4 ? scale.size() : 0, 0xee) {}

  QuantizedRows view() { return {format, rows, columns, codes.data(), scale.data(), zero.data()}; }
  [[nodiscard]] ConstQuantizedRows view() const {
    return {format, rows, columns, codes.data(), scale.data(), zero.data()};
  }
  [[nodiscard]] std::vector<float> row(int64_t r) const {
    std::vector<float> out(static_cast<size_t>(columns));
    dequantize_row(view(), r, out);
    return out;
  }
};

FloatRows float_rows(const std::vector<float>& values, int64_t columns) {
  const auto rows = static_cast<int64_t>(values.size()) / columns;
  return {DType::F32, rows, columns, reinterpret_cast<const std::byte*>(values.data())};
}

struct Settings {
  MatrixFormat format = kInt8Row;
  QuantScheme scheme = QuantScheme::kSymmetric;
  int threads = 2;
};

Quantized quantize(const FloatRows& source, const Settings& settings) {
  Quantized out(settings.format, source.rows, source.columns);
  ThreadPool pool(settings.threads);
  (void)quantize_rows(source, out.view(), settings.scheme, pool, {"tensor w", "here"});
  return out;
}

Quantized quantize(const std::vector<float>& values, int64_t columns, const Settings& settings) {
  return quantize(float_rows(values, columns), settings);
}

std::vector<float> normal_values(size_t count, uint64_t seed = 1) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(count);
  for (float& value : out) value = 0.03F * normal(engine);
  return out;
}

const std::vector<Settings>& all_settings() {
  static const std::vector<Settings> settings = {
      {kInt8Row, QuantScheme::kSymmetric},
      {{WeightFormat::kInt8, 64}, QuantScheme::kSymmetric},
      {kInt4Group, QuantScheme::kAffine},
      {kInt4Group, QuantScheme::kSymmetric},
      {{WeightFormat::kInt4, 64}, QuantScheme::kAffine},
      {{WeightFormat::kInt4, 0}, QuantScheme::kAffine},
  };
  return settings;
}

double relative_error(const std::vector<float>& values, const Quantized& q) {
  double error = 0;
  double norm = 0;
  for (int64_t r = 0; r < q.rows; ++r) {
    const std::vector<float> row = q.row(r);
    for (int64_t c = 0; c < q.columns; ++c) {
      const double w = values[static_cast<size_t>(r * q.columns + c)];
      error += std::pow(w - static_cast<double>(row[static_cast<size_t>(c)]), 2);
      norm += w * w;
    }
  }
  return std::sqrt(error / norm);
}

// Half a step, and the rounding of the scale to 11 bits on the largest code.
double step_bound(uint16_t scale) {
  return static_cast<double>(f16_to_float(scale)) * (0.5 + 127 * 0x1p-11);
}

TEST(Quantize, Int8IsWithinHalfAStepOfEveryValue) {
  for (const int64_t group : {0, 32, 64}) {
    const MatrixFormat format{WeightFormat::kInt8, group};
    const std::vector<float> values = normal_values(7 * 200);
    const Quantized q = quantize(values, 200, {format});
    const int64_t groups = groups_per_row(format, 200);
    for (int64_t r = 0; r < 7; ++r) {
      const std::vector<float> row = q.row(r);
      for (int64_t c = 0; c < 200; ++c) {
        const uint16_t scale = q.scale[static_cast<size_t>(r * groups + (group == 0 ? 0 : c / group))];
        const auto at = static_cast<size_t>(c);
        EXPECT_NEAR(row[at], values[static_cast<size_t>(r * 200) + at], step_bound(scale)) << r << ' ' << c;
      }
    }
  }
}

TEST(Quantize, Int8UsesCodesFromMinus127To127) {
  const Quantized q = quantize({1.0F, -1.0F, 0.0F, 0.4F}, 4, {kInt8Row});
  std::vector<int8_t> codes(4);
  std::memcpy(codes.data(), q.codes.data(), 4);
  EXPECT_EQ(codes, (std::vector<int8_t>{127, -127, 0, 51}));
}

TEST(Quantize, Int4PutsTheEvenColumnIntoTheLowNibbleAndPadsAnOddRow) {
  const Quantized q = quantize({0.0F, 15.0F, 5.0F}, 3, {kInt4Group, QuantScheme::kAffine});
  EXPECT_EQ(q.codes, (std::vector<uint8_t>{0xf0, 0x05}));
  EXPECT_EQ(q.zero, std::vector<uint8_t>{0});
  EXPECT_EQ(q.row(0), (std::vector<float>{0, 15, 5}));
}

// The search must gain on the plain range, which for normal values in groups of 32 leaves 7 %.
TEST(Quantize, Int4ErrorsAreThoseOfAGoodGrid) {
  const std::vector<float> values = normal_values(64 * 512);
  const auto error = [&](const Settings& settings) { return relative_error(values, quantize(values, 512, settings)); };
  EXPECT_LT(error({kInt4Group, QuantScheme::kAffine}), 0.085);
  EXPECT_LT(error({kInt4Group, QuantScheme::kSymmetric}), 0.09);
  EXPECT_LT(error({kInt4Group, QuantScheme::kAffine}), error({kInt4Group, QuantScheme::kSymmetric}));
  EXPECT_LT(error({kInt4Group, QuantScheme::kAffine}), error({{WeightFormat::kInt4, 64}, QuantScheme::kAffine}));
  EXPECT_LT(error({kInt8Row}), 0.01);
}

TEST(Quantize, AffineGroupsAwayFromZeroKeepTheirDetail) {
  std::vector<float> values = normal_values(32);
  for (float& value : values) value = 0.5F + value;
  EXPECT_LT(relative_error(values, quantize(values, 32, {kInt4Group, QuantScheme::kAffine})), 0.04);
}

TEST(Quantize, SymmetricInt4HasZeroPoint8Everywhere) {
  const Quantized q = quantize(normal_values(64), 64, {kInt4Group, QuantScheme::kSymmetric});
  EXPECT_EQ(q.zero, std::vector<uint8_t>(2, 8));
}

TEST(Quantize, TheReportedErrorIsThatOfTheResult) {
  const std::vector<float> values = normal_values(9 * 70);
  for (const Settings& settings : all_settings()) {
    Quantized q(settings.format, 9, 70);
    ThreadPool pool(2);
    const QuantizedError sums = quantize_rows(float_rows(values, 70), q.view(), settings.scheme, pool, {"w", "here"});
    EXPECT_NEAR(std::sqrt(sums.error / sums.norm), relative_error(values, q), 1e-6);
  }
}

TEST(Quantize, GivesTheSameBytesOnAnyNumberOfThreads) {
  const std::vector<float> values = normal_values(37 * 131);
  for (Settings settings : all_settings()) {
    settings.threads = 1;
    const Quantized one = quantize(values, 131, settings);
    settings.threads = 5;
    const Quantized five = quantize(values, 131, settings);
    EXPECT_EQ(one.codes, five.codes);
    EXPECT_EQ(one.scale, five.scale);
    EXPECT_EQ(one.zero, five.zero);
  }
}

TEST(Quantize, ZerosStayZerosAndConstantRowsStayConstant) {
  for (const Settings& settings : all_settings()) {
    EXPECT_EQ(quantize(std::vector<float>(70, 0.0F), 70, settings).row(0), std::vector<float>(70, 0.0F));
    for (const float value : {0.75F, -3.0F}) {
      for (const float back : quantize(std::vector<float>(70, value), 70, settings).row(0)) {
        EXPECT_NEAR(back, value, std::abs(value) / 1000);
      }
    }
  }
}

TEST(Quantize, TakesRowsOfAnyLengthAndAnyFloatType) {
  for (const Settings& settings : all_settings()) {
    for (const int64_t columns : {1, 2, 31, 33, 63, 65, 127}) {
      const std::vector<float> values = normal_values(static_cast<size_t>(3 * columns), 7);
      for (const DType dtype : {DType::F32, DType::BF16, DType::F16}) {
        // One byte off, as a file may have them.
        std::vector<std::byte> bytes(1 + values.size() * dtype_size(dtype));
        from_float32(dtype, values, std::span(bytes).subspan(1));
        std::vector<float> exact(values.size());
        to_float32(dtype, std::span(bytes).subspan(1), exact);
        const Quantized q = quantize({dtype, 3, columns, bytes.data() + 1}, settings);
        const double bound = settings.format.format == WeightFormat::kInt8 ? 0.01 : 0.2;
        EXPECT_LT(relative_error(exact, q), bound) << columns;
        ThreadPool pool(1);
        EXPECT_TRUE(has_nearest_codes(float_rows(exact, columns), q.view(), pool));
      }
    }
  }
}

TEST(Quantize, TinyValuesKeepTheSmallestScaleAndNeverBecomeNan) {
  for (const Settings& settings : all_settings()) {
    for (const float size : {1e-5F, 1e-7F, 1e-12F, 1e-38F, std::numeric_limits<float>::denorm_min()}) {
      std::vector<float> values = normal_values(64);
      for (float& value : values) value *= size;
      const std::vector<float> back = quantize(values, 64, settings).row(0);
      for (size_t i = 0; i < 64; ++i) EXPECT_LE(std::abs(back[i] - values[i]), std::max(0.1F * size, 0x1p-23F)) << size;
    }
  }
}

TEST(Quantize, ScalesOfSmallValuesAreNotRoundedBelowWhatTheLargestNeeds) {
  const float largest = 127 * 1.4F * 0x1p-24F;  // float16 would round this scale down by two fifths
  const Quantized q = quantize({largest, -largest, 0.0F}, 3, {kInt8Row});
  EXPECT_NEAR(q.row(0)[0], largest, 0x1p-24F);
}

TEST(Quantize, TakesValuesUpToTheScalesLimitAndRefusesLargerOnes) {
  for (const Settings& settings : all_settings()) {
    const bool int8 = settings.format.format == WeightFormat::kInt8;
    const float limit = 65504.0F * (int8 ? 127 : 7);
    std::vector<float> values(64, limit);
    values[3] = -limit;
    const std::vector<float> back = quantize(values, 64, settings).row(0);
    for (size_t i = 0; i < 64; ++i) EXPECT_NEAR(back[i], values[i], limit / (int8 ? 250 : 6));
    for (const float large : {limit * 1.01F, -std::numeric_limits<float>::max()}) {
      std::vector<float> beyond(3 * 64, 1.0F);
      beyond[64 + 9] = large;
      expect_error([&] { (void)quantize(beyond, 64, settings); }, ExitCode::kCheckpoint, {"tensor w", "here", "row 1"});
    }
  }
}

TEST(Quantize, NamesTheFirstElementThatIsNotFinite) {
  for (const Settings& settings : all_settings()) {
    std::vector<float> values = normal_values(20 * 40);
    values[13 * 40 + 1] = std::numeric_limits<float>::infinity();
    values[7 * 40 + 39] = std::numeric_limits<float>::quiet_NaN();
    expect_error([&] { (void)quantize(values, 40, settings); }, ExitCode::kCheckpoint,
                 {"tensor w", "finite", "element 319"});
  }
}

TEST(HasNearestCodes, FindsOneChangedCode) {
  const std::vector<float> values = normal_values(5 * 64);
  ThreadPool pool(2);
  for (const Settings& settings : all_settings()) {
    Quantized q = quantize(values, 64, settings);
    const Quantized& read = q;
    EXPECT_TRUE(has_nearest_codes(float_rows(values, 64), read.view(), pool));
    q.codes[q.codes.size() / 2] ^= 1;
    EXPECT_FALSE(has_nearest_codes(float_rows(values, 64), read.view(), pool));
  }
}

TEST(DamagedScales, SeesInfiniteScalesAndZeroPointsAbove15) {
  Quantized q = quantize(normal_values(64), 64, {kInt4Group, QuantScheme::kAffine});
  const Quantized& read = q;
  EXPECT_EQ(damaged_scales(read.view()), nullptr);
  q.zero[1] = 16;
  EXPECT_STREQ(damaged_scales(read.view()), "a zero point above 15");
  q.scale[0] = 0x7c00;
  EXPECT_STREQ(damaged_scales(read.view()), "a scale that is NaN or infinite");
}

}  // namespace
}  // namespace xlstm
