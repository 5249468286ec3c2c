#include "kernels/native/dequantize.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "kernels/native/native_ops.h"

namespace xlstm {
namespace {

at::Tensor tensor_of(const std::vector<int64_t>& values, at::IntArrayRef shape, at::ScalarType type) {
  return at::tensor(values, at::kLong).to(type).view(shape);
}

Linear int8_matrix() {
  Linear linear;
  linear.out = 2;
  linear.in = 3;
  linear.format = WeightFormat::kInt8;
  linear.group = 3;
  linear.weight = tensor_of({1, -2, 127, -128, 0, 5}, {2, 3}, at::kChar);
  linear.scale = at::tensor({0.5F, 2.0F}).to(at::kHalf).view({2, 1});
  return linear;
}

TEST(Dequantize, Int8IsScaleTimesCodeOverTheWholeRange) {
  const at::Tensor expected = at::tensor({0.5F, -1.0F, 63.5F, -256.0F, 0.0F, 10.0F}).view({2, 3});
  EXPECT_TRUE(at::equal(dequantize(int8_matrix()), expected));
}

TEST(Dequantize, GroupsHaveScalesOfTheirOwnAndTheLastMayBeShorter) {
  Linear linear;
  linear.out = 1;
  linear.in = 70;
  linear.format = WeightFormat::kInt8;
  linear.group = 32;
  linear.weight = at::ones({1, 70}, at::kChar);
  linear.scale = at::tensor({1.0F, 2.0F, 3.0F}).to(at::kHalf).view({1, 3});
  const at::Tensor expected = at::cat({at::full({1, 32}, 1.0F), at::full({1, 32}, 2.0F), at::full({1, 6}, 3.0F)}, 1);
  EXPECT_TRUE(at::equal(dequantize(linear), expected));
}

TEST(Dequantize, Int4ReadsTheEvenColumnFromTheLowNibbleAndSubtractsTheZeroPoint) {
  Linear linear;
  linear.out = 2;
  linear.in = 3;
  linear.format = WeightFormat::kInt4;
  linear.group = 32;
  linear.weight = tensor_of({0xf1, 0x07, 0x20, 0xa8}, {2, 2}, at::kByte);  // the last high nibbles are padding
  linear.scale = at::tensor({0.25F, 2.0F}).to(at::kHalf).view({2, 1});
  linear.zero = tensor_of({1, 8}, {2, 1}, at::kByte);
  const at::Tensor expected = at::tensor({0.0F, 3.5F, 1.5F, -16.0F, -12.0F, 0.0F}).view({2, 3});
  EXPECT_TRUE(at::equal(dequantize(linear), expected));
}

TEST(Dequantize, WidensFloatsExactly) {
  const at::Tensor values = at::tensor({0.1F, -3.0F}).view({1, 2});
  for (const auto& [format, type] : {std::pair{WeightFormat::kFloat32, at::kFloat},
                                     {WeightFormat::kBfloat16, at::kBFloat16},
                                     {WeightFormat::kFloat16, at::kHalf}}) {
    Linear linear;
    linear.out = 1;
    linear.in = 2;
    linear.format = format;
    linear.weight = values.to(type);
    EXPECT_TRUE(at::equal(dequantize(linear), values.to(type).to(at::kFloat)));
  }
}

TEST(NativeOps, KeepsQuantizedMatricesAsTheyAre) {
  ModelDims dims;
  const Linear packed = make_native_ops(dims, at::kCPU)->pack(int8_matrix());
  EXPECT_EQ(packed.weight.scalar_type(), at::kChar);
  EXPECT_TRUE(at::equal(dequantize(packed), dequantize(int8_matrix())));
}

}  // namespace
}  // namespace xlstm
