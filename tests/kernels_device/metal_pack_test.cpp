#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/kernels/op_dims.h"
#include "tests/kernels/random_tensors.h"
#include "tests/kernels_device/device_under_test.h"

namespace xlstm {
namespace {

TEST(MetalOpsPack, AMatrixThatNeedsNoFillingSharesItsMemory) {
  const auto device = test::make_device_under_test();
  const auto ops = device->ops(test::dims_of({7, 1, 5, 3, 23, 13}));
  const at::Tensor table = test::Random(3).normal({5, 64}, 1.0, at::kHalf);
  EXPECT_TRUE(ops->pack({5, 64, table, {}, WeightFormat::kFloat16}).weight.is_alias_of(table));
  const Linear filled = ops->pack({5, 63, table.narrow(1, 0, 63), {}, WeightFormat::kFloat16});
  EXPECT_EQ(filled.weight.sizes(), at::IntArrayRef({5, 64}));
  EXPECT_TRUE(test::same_bits(filled.weight.narrow(1, 0, 63), table.narrow(1, 0, 63)));
  EXPECT_EQ(filled.weight.narrow(1, 63, 1).abs().sum().item<float>(), 0.0F);
}

}  // namespace
}  // namespace xlstm
