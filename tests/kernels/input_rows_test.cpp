// Rows as the panel kernels read them, on every instruction set of this machine.
#include "kernels/cpu/input_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/isa.h"
#include "xlstm/core/str.h"
#include "xlstm/io/half.h"

namespace xlstm::cpu {
namespace {

class InputRowsTest : public testing::TestWithParam<std::string> {
 protected:
  InputRowsTest() { force_isa(GetParam()); }
  ~InputRowsTest() override { force_isa(""); }
};

INSTANTIATE_TEST_SUITE_P(Isa, InputRowsTest, testing::ValuesIn(supported_isas()),
                         [](const auto& param) { return param.param; });

// Values of very different sizes, so that a row has codes of every size.
std::vector<float> random_row(int64_t in, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(in));
  for (float& value : x) value = normal(engine) * std::exp(normal(engine));
  return x;
}

// A block of prepared rows.
struct Block {
  Block(const PanelKernel& panel_kernel, const PanelLayout& matrix, const std::vector<std::vector<float>>& from)
      : layout(panel_kernel, matrix), rows(static_cast<int64_t>(from.size())), bytes(layout.block_bytes()) {
    memory.assign(static_cast<size_t>(bytes), std::byte{0xAA});
    for (int64_t row = 0; row < rows; ++row) {
      layout.write(from[static_cast<size_t>(row)].data(), row, rows, memory.data());
    }
    layout.locate(memory.data(), 0, rows, &args);
  }

  // Element `index` of a row of elements of type T, of which four bytes are a unit.
  template <class T>
  [[nodiscard]] T at(int64_t row, int64_t index) const {
    constexpr int64_t kPerUnit = 4 / static_cast<int64_t>(sizeof(T));
    T value;
    std::memcpy(&value, static_cast<const T*>(args.x) + (index / kPerUnit * rows + row) * kPerUnit + index % kPerUnit,
                sizeof(T));
    return value;
  }

  InputLayout layout;
  int64_t rows;
  int64_t bytes;
  std::vector<std::byte> memory;
  PanelArgs args;
};

std::vector<std::vector<float>> random_block(int64_t rows, int64_t in) {
  std::vector<std::vector<float>> block;
  for (int64_t row = 0; row < rows; ++row) block.push_back(random_row(in, static_cast<uint32_t>(100 * in + row)));
  return block;
}

// check(block, its rows, matrix) for row counts and lengths of which some end within a vector, a unit and a group.
template <class Check>
void for_each_block(const std::vector<PanelLayout>& matrices, InputKind kind, const Check& check) {
  for (PanelLayout matrix : matrices) {
    for (const int64_t in : {1, 2, 3, 31, 64, 257, 704}) {
      matrix.in = in;
      const PanelKernel kernel = pick_panel_kernel(matrix);
      if (kernel.input != kind) continue;
      for (const int64_t rows : {int64_t{1}, int64_t{2}, int64_t{kernel.block_rows}}) {
        if (rows > kernel.block_rows) continue;
        SCOPED_TRACE(cat("in ", in, " rows ", rows, " group ", matrix.group));
        const std::vector<std::vector<float>> from = random_block(rows, in);
        check(Block(kernel, matrix, from), from, matrix);
      }
    }
  }
}

TEST_P(InputRowsTest, Float32StaysAsItIs) {
  for_each_block({{WeightFormat::kFloat32, 32, 0, 0}, {WeightFormat::kInt4, 32, 0, 32}}, InputKind::kFloat32,
                 [](const Block& block, const auto& from, const PanelLayout& matrix) {
                   for (int64_t row = 0; row < block.rows; ++row) {
                     const std::vector<float>& x = from[static_cast<size_t>(row)];
                     for (int64_t i = 0; i < matrix.in; ++i) {
                       ASSERT_EQ(block.at<float>(row, i), x[static_cast<size_t>(i)]);
                     }
                     for (int64_t i = matrix.in; i % 8 != 0; ++i) ASSERT_EQ(block.at<float>(row, i), 0.0F);
                   }
                 });
}

TEST_P(InputRowsTest, Bfloat16IsWithinHalfAStep) {
  for_each_block({{WeightFormat::kBfloat16, 32, 0, 0}}, InputKind::kBfloat16,
                 [](const Block& block, const auto& from, const PanelLayout& matrix) {
                   for (int64_t row = 0; row < block.rows; ++row) {
                     const std::vector<float>& x = from[static_cast<size_t>(row)];
                     for (int64_t i = 0; i < matrix.in; ++i) {
                       const auto value = static_cast<double>(x[static_cast<size_t>(i)]);
                       const auto rounded = static_cast<double>(bf16_to_float(block.at<uint16_t>(row, i)));
                       ASSERT_LE(std::abs(rounded - value), std::ldexp(std::abs(value), -8));
                     }
                     if (matrix.in % 2 != 0) {
                       ASSERT_EQ(block.at<uint16_t>(row, matrix.in), 0);
                     }
                   }
                 });
}

TEST_P(InputRowsTest, Int8IsWithinHalfAStepOfTheRowsLargestAndCarriesItsSums) {
  for_each_block(
      {{WeightFormat::kInt8, 32, 0, 1024}, {WeightFormat::kInt8, 32, 0, 32}, {WeightFormat::kInt4, 32, 0, 64}},
      InputKind::kInt8, [](const Block& block, const auto& from, const PanelLayout& matrix) {
        for (int64_t row = 0; row < block.rows; ++row) {
          const std::vector<float>& x = from[static_cast<size_t>(row)];
          float largest = 0;
          for (const float value : x) largest = std::max(largest, std::abs(value));
          const auto scale = static_cast<double>(block.args.x_scale[row]);
          ASSERT_NEAR(scale, static_cast<double>(largest) / 127, std::ldexp(scale, -23));
          std::vector<int32_t> sums(static_cast<size_t>(matrix.groups()), 0);
          for (int64_t i = 0; i < matrix.in; ++i) {
            const int code = block.at<int8_t>(row, i);
            const auto value = static_cast<double>(x[static_cast<size_t>(i)]);
            ASSERT_LE(std::abs(scale * code - value), scale * (0.5 + 127 * 0x1p-22)) << "input " << i;
            sums[static_cast<size_t>(i / matrix.group)] += code;
          }
          for (int64_t i = matrix.in; i % 8 != 0; ++i) ASSERT_EQ(block.at<int8_t>(row, i), 0);
          for (int64_t g = 0; g < matrix.groups(); ++g) {
            ASSERT_EQ(block.args.x_sum[g * block.rows + row], sums[static_cast<size_t>(g)]) << "group " << g;
          }
        }
      });
}

}  // namespace
}  // namespace xlstm::cpu
