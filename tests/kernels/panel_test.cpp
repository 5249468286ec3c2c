// Products of packed matrices against sums in double precision: every instruction set of this machine, every format.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cpu/input_rows.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/pack_panels.h"
#include "kernels/cpu/panel_finish.h"
#include "kernels/cpu/panel_kernels.h"
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

// The most that rounding can move a sum: of float32 sums like a random walk over their terms; of inputs rounded to
// bfloat16 by 2^-8 of every term (and bfloat16 products of subnormal size, which count as zero); of inputs rounded to
// int8 by half a step of every weight.
double bound(InputKind kind, const double* w, const float* x, int64_t in) {
  double terms = 0;
  double weights = 0;
  double largest = 0;
  for (int64_t k = 0; k < in; ++k) {
    terms += std::abs(w[k] * static_cast<double>(x[k]));
    weights += std::abs(w[k]);
    largest = std::max(largest, std::abs(static_cast<double>(x[k])));
  }
  const double sums = std::ldexp(8 + 4 * std::sqrt(static_cast<double>(in)), -24) * terms;
  switch (kind) {
    case InputKind::kFloat32: return sums;
    case InputKind::kBfloat16: return sums + std::ldexp(terms, -8);
    case InputKind::kInt8: return sums + largest / 127 * 0.5001 * weights + std::ldexp(largest * weights, -20);
  }
  return 0;
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
          for (int64_t o = 0; o < out; ++o) {
            const double* w = matrix.values.data() + o * in;
            const float* input = x.data() + r * in;
            double sum = 0;
            for (int64_t k = 0; k < in; ++k) sum += w[k] * static_cast<double>(input[k]);
            ASSERT_NEAR(y[static_cast<size_t>(r * out + o)], sum, bound(kind, w, input, in) + 1e-12)
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

TEST_P(PanelTest, FinishAddsBiasCapAndResidualToTheColumnsThatExist) {
  for (const int64_t columns : {1, 7, 16, 31, 32}) {
    const std::vector<float> sums = random_rows(3, kPanelWidth, 6);
    const std::vector<float> bias = random_rows(1, columns, 7);
    const std::vector<float> before = random_rows(3, columns + 1, 8);
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

TEST_P(PanelTest, GateAndUpMeetInSwiGlu) {
  const std::vector<float> gate = random_rows(2, kPanelWidth, 9);
  const std::vector<float> up = random_rows(2, kPanelWidth, 10);
  const std::vector<float> bias = random_rows(2, 19, 11);
  std::vector<float> y(2 * 20, 5.0F);
  finish_gate_up({y.data(), 20, 2, 19, bias.data()}, bias.data() + 19, gate.data(), up.data());
  for (size_t r = 0; r < 2; ++r) {
    for (size_t c = 0; c < 19; ++c) {
      const auto g = static_cast<double>(gate[r * 32 + c]) + static_cast<double>(bias[c]);
      const auto u = static_cast<double>(up[r * 32 + c]) + static_cast<double>(bias[19 + c]);
      EXPECT_NEAR(y[r * 20 + c], g / (1 + std::exp(-g)) * u, 4e-6);
    }
    EXPECT_EQ(y[r * 20 + 19], 5.0F);
  }
}

}  // namespace
}  // namespace xlstm::cpu
