// Products of packed matrices against sums in double precision: every instruction set of this machine, every format.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cpu/input_rows.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/pack_panels.h"
#include "kernels/cpu/panel_kernels.h"
#include "tests/kernels/rounded_input.h"
#include "xlstm/core/str.h"
#include "xlstm/io/half.h"

namespace xlstm::cpu {
namespace {

struct Case {
  WeightFormat format;
  int64_t group;  // 0: one scale per row
};

std::string name_of(const Case& c) {
  constexpr const char* kNames[] = {"float32", "bfloat16", "float16", "int8", "int4"};
  return cat(kNames[static_cast<int>(c.format)], " group ", c.group);
}

const std::vector<Case>& cases() {
  static const std::vector<Case> kCases = {
      {WeightFormat::kFloat32, 0}, {WeightFormat::kBfloat16, 0}, {WeightFormat::kFloat16, 0},
      {WeightFormat::kInt8, 0},    {WeightFormat::kInt8, 32},    {WeightFormat::kInt8, 128},
      {WeightFormat::kInt4, 0},    {WeightFormat::kInt4, 32},    {WeightFormat::kInt4, 64}};
  return kCases;
}

// A canonical matrix with the values that it stands for.
class Matrix {
 public:
  Matrix(const Case& c, int64_t out, int64_t in, uint32_t seed) : engine_(seed) {
    layout = {c.format, out, in, c.group == 0 ? in : c.group};
    const int64_t groups = layout.groups();
    for (int64_t i = 0; i < out * groups; ++i) {
      scales.push_back(float_to_f16(0.001F + 0.0004F * static_cast<float>(i % 5)));
      zeros.push_back(static_cast<uint8_t>(i * 7 % 16));
    }
    const int64_t row_bytes = c.format == WeightFormat::kInt4 ? (in + 1) / 2 : in * element_bytes();
    bytes.assign(static_cast<size_t>(out * row_bytes), 0);
    for (int64_t row = 0; row < out; ++row) {
      for (int64_t k = 0; k < in; ++k) {
        const int64_t group = is_quantized(c.format) ? row * groups + k / layout.group : 0;
        values.push_back(put(row * row_bytes, k, group));
      }
    }
    packed.resize(static_cast<size_t>(layout.total_bytes()));
    for (int64_t panel = 0; panel < layout.panels(); ++panel) {
      pack_panel(layout, {bytes.data(), scales.data(), zeros.data()}, panel, packed.data() + layout.offset(panel));
    }
  }

  PanelLayout layout;
  std::vector<double> values;  // [out][in]
  std::vector<std::byte> packed;

 private:
  [[nodiscard]] int64_t element_bytes() const {
    return layout.format == WeightFormat::kFloat32 ? 4 : layout.format == WeightFormat::kInt8 ? 1 : 2;
  }

  template <class T>
  void write(int64_t at, T value) {
    std::memcpy(bytes.data() + at, &value, sizeof value);
  }

  double put(int64_t row_at, int64_t k, int64_t group) {
    const float value = normal_(engine_);
    switch (layout.format) {
      case WeightFormat::kFloat32: write(row_at + 4 * k, value); return static_cast<double>(value);
      case WeightFormat::kBfloat16: {
        const uint16_t bits = float_to_bf16(value);
        write(row_at + 2 * k, bits);
        return static_cast<double>(bf16_to_float(bits));
      }
      case WeightFormat::kFloat16: {
        const uint16_t bits = float_to_f16(value);
        write(row_at + 2 * k, bits);
        return static_cast<double>(f16_to_float(bits));
      }
      default: break;
    }
    const auto scale = static_cast<double>(f16_to_float(scales[static_cast<size_t>(group)]));
    if (layout.format == WeightFormat::kInt8) {
      const int code = static_cast<int>(engine_() % 255) - 127;
      write(row_at + k, static_cast<int8_t>(code));
      return scale * code;
    }
    const auto code = static_cast<unsigned>(engine_() % 16);
    auto& byte = bytes[static_cast<size_t>(row_at + k / 2)];
    byte = static_cast<uint8_t>(byte | code << (k % 2 * 4));
    return scale * (static_cast<double>(code) - zeros[static_cast<size_t>(group)]);
  }

  std::mt19937 engine_;
  std::normal_distribution<float> normal_{0.0F, 0.03F};
  std::vector<uint8_t> bytes;
  std::vector<uint16_t> scales;
  std::vector<uint8_t> zeros;
};

// x · Wᵀ by the kernel in use: [rows][out].
std::vector<float> product(const Matrix& matrix, const std::vector<float>& x, int64_t rows) {
  const PanelLayout& layout = matrix.layout;
  const PanelKernel kernel = pick_panel_kernel(layout);
  const InputLayout input(kernel, layout);
  std::vector<std::byte> prepared(static_cast<size_t>(input.bytes(rows)));
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t block = row / input.block_rows();
    const int64_t count = std::min(input.block_rows(), rows - block * input.block_rows());
    input.write(x.data() + row * layout.in, row % input.block_rows(), count,
                prepared.data() + block * input.block_bytes());
  }
  std::vector<float> y(static_cast<size_t>(rows * layout.out));
  PanelArgs args;
  args.layout = &layout;
  for (int64_t panel = 0; panel < layout.panels(); ++panel) {
    args.panel = matrix.packed.data() + layout.offset(panel);
    args.width = layout.width(panel);
    for (int64_t block = 0; block < input.blocks(rows); ++block) {
      const int64_t first = block * input.block_rows();
      const int64_t count = std::min(input.block_rows(), rows - first);
      std::vector<float> sums(static_cast<size_t>(count * kPanelWidth));
      input.locate(prepared.data(), block, count, &args);
      args.out = sums.data();
      kernel.run(static_cast<int>(count), args);
      for (int64_t r = 0; r < count; ++r) {
        for (int64_t c = 0; c < std::min(kPanelWidth, layout.out - panel * kPanelWidth); ++c) {
          y[static_cast<size_t>((first + r) * layout.out + panel * kPanelWidth + c)] =
              sums[static_cast<size_t>(r * kPanelWidth + c)];
        }
      }
    }
  }
  return y;
}

std::vector<float> random_rows(int64_t rows, int64_t in, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(rows * in));
  for (float& value : x) value = normal(engine);
  return x;
}

// The most that rounding can move a float32 sum of rounded inputs: like a random walk over its terms.
double bound(const double* w, const std::vector<double>& x) {
  double terms = 0;
  for (size_t k = 0; k < x.size(); ++k) terms += std::abs(w[k] * x[k]);
  return std::ldexp(8 + 4 * std::sqrt(static_cast<double>(x.size())), -24) * terms;
}

class PanelTest : public testing::TestWithParam<std::string> {
 protected:
  PanelTest() { force_isa(GetParam()); }
  ~PanelTest() override { force_isa(""); }
};

INSTANTIATE_TEST_SUITE_P(Isa, PanelTest, testing::ValuesIn(supported_isas()),
                         [](const auto& param) { return param.param; });

TEST_P(PanelTest, EveryFormatMultipliesWithinItsRounding) {
  for (const Case& c : cases()) {
    for (const auto& [out, in] : std::vector<std::pair<int64_t, int64_t>>{
             {1, 1}, {5, 2}, {16, 3}, {17, 33}, {33, 7}, {48, 100}, {65, 257}, {96, 704}}) {
      const Matrix matrix(c, out, in, 1);
      const InputKind kind = pick_panel_kernel(matrix.layout).input;
      for (const int64_t rows : {1, 2, 3, 6, 7, 12, 13, 27}) {
        SCOPED_TRACE(cat(name_of(c), ", ", out, " x ", in, ", rows ", rows));
        const std::vector<float> x = random_rows(rows, in, 2);
        const std::vector<float> y = product(matrix, x, rows);
        for (int64_t r = 0; r < rows; ++r) {
          const std::vector<double> input = test::rounded_input(kind, x.data() + r * in, in);
          for (int64_t o = 0; o < out; ++o) {
            const double* w = matrix.values.data() + o * in;
            double sum = 0;
            for (int64_t k = 0; k < in; ++k) sum += w[k] * input[static_cast<size_t>(k)];
            // Products of bfloat16 that are subnormal count as zero.
            ASSERT_NEAR(y[static_cast<size_t>(r * out + o)], sum, bound(w, input) + 1e-36)
                << "row " << r << " output " << o;
          }
        }
      }
    }
  }
}

TEST_P(PanelTest, ARowHasTheSameBitsInEveryBatch) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(name_of(c));
    const Matrix matrix(c, 80, 288, 3);
    constexpr int64_t kRows = 31;
    const std::vector<float> x = random_rows(kRows, 288, 4);
    const std::vector<float> all = product(matrix, x, kRows);
    for (const auto& [first, count] : std::vector<std::pair<int64_t, int64_t>>{{0, 1}, {30, 1}, {4, 2}, {11, 14}}) {
      const std::vector<float> part(x.begin() + first * 288, x.begin() + (first + count) * 288);
      const std::vector<float> some = product(matrix, part, count);
      EXPECT_EQ(std::memcmp(some.data(), all.data() + first * 80, some.size() * sizeof(float)), 0)
          << first << " + " << count;
    }
  }
}

TEST_P(PanelTest, ZeroAndExtremeRowsGiveFiniteResults) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(name_of(c));
    const Matrix matrix(c, 33, 64, 5);
    for (const float value : {0.0F, 1e-40F, 1e-30F, -1e30F}) {
      const std::vector<float> y = product(matrix, std::vector<float>(64, value), 1);
      for (const float result : y) ASSERT_TRUE(std::isfinite(result)) << value;
      if (value == 0) {
        EXPECT_EQ(y, std::vector<float>(33, 0.0F));
      }
    }
  }
}

TEST_P(PanelTest, ARowWithANumberThatIsNotFiniteShowsItAndItsNeighboursDoNot) {
  constexpr int64_t kIn = 200;
  constexpr int64_t kOut = 33;
  for (const Case& c : cases()) {
    const Matrix matrix(c, kOut, kIn, 5);
    const std::vector<float> x = random_rows(3, kIn, 6);
    const std::vector<float> clean = product(matrix, x, 3);
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
      for (const int64_t at : {int64_t{0}, int64_t{77}, kIn - 1}) {
        SCOPED_TRACE(cat(name_of(c), ", ", bad, " at ", at));
        std::vector<float> damaged = x;
        damaged[static_cast<size_t>(kIn + at)] = bad;
        const std::vector<float> y = product(matrix, damaged, 3);
        for (size_t i = 0; i < y.size(); ++i) {
          if (i / kOut == 1) {
            ASSERT_FALSE(std::isfinite(y[i])) << "output " << i % kOut;
          } else {
            ASSERT_EQ(y[i], clean[i]) << "row " << i / kOut << " output " << i % kOut;
          }
        }
      }
    }
  }
}

TEST_P(PanelTest, TheKernelIsTheBestOfTheInstructionSet) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(name_of(c));
    InputKind expected = InputKind::kFloat32;
    if (GetParam() == "AVX3_BF16" && c.format == WeightFormat::kBfloat16) expected = InputKind::kBfloat16;
    if ((GetParam() == "AVX3_BF16" || GetParam() == "AVX3_VNNI") && is_quantized(c.format)) expected = InputKind::kInt8;
    EXPECT_EQ(pick_panel_kernel({c.format, 64, 256, c.group == 0 ? 256 : c.group}).input, expected);
  }
}

}  // namespace
}  // namespace xlstm::cpu
